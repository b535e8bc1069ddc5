//! The data, made once and the same on every machine that has the same crates in cargo's registry: incompressible files, bare
//! Git repositories with real text and long histories, and a tree of source code. Each as it is before and after a change.

use harness::{bytes, git, write};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Data of one kind. It is shown under one path in either state.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    dir: PathBuf,
    /// One file, or one repository, of many.
    pub(crate) one: PathBuf,
    /// What the change is at least, where that is known: a bundle of what is new, or the bytes.
    pub(crate) new_bytes: Option<u64>,
    are_repositories: bool,
}

/// Before or after the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Before,
    After,
}

type Make = fn(&Path, usize) -> Set;
pub(crate) const BIG: &str = "big";
pub(crate) const MANY: &str = "many";
pub(crate) const SETS: [(&str, Make); 4] =
    [(BIG, big), ("git", repositories), ("src", tree), (MANY, many)];

impl Set {
    pub(crate) fn live(&self) -> PathBuf {
        self.dir.join("live")
    }

    /// What Strewn is told to back up: repositories one by one, else the folder.
    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        if !self.are_repositories {
            return vec![self.live()];
        }
        let entries = fs::read_dir(self.live()).expect("the data is shown");
        let mut sources: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        sources.sort();
        sources
    }

    /// Shows the data in this state at the live path.
    pub(crate) fn show(&self, state: State) {
        let (before, after, live) = (self.dir.join("before"), self.dir.join("after"), self.live());
        if live.exists() {
            let hidden = if before.exists() { &after } else { &before };
            fs::rename(&live, hidden).expect("it can be hidden");
        }
        let shown = if state == State::Before { before } else { after };
        fs::rename(shown, live).expect("it can be shown");
    }
}

/// Makes what `make` makes unless an earlier run has; an unfinished one is made again.
fn once(dir: &Path, name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let made = dir.join(name);
    if !made.exists() {
        let making = dir.join(format!("{name}.making"));
        if making.exists() {
            fs::remove_dir_all(&making).expect("it can be deleted");
        }
        fs::create_dir_all(&making).expect("a folder");
        make(&making);
        fs::rename(&making, &made).expect("it can be named");
    }
    if made.join("live").exists() {
        let hidden = if made.join("before").exists() { "after" } else { "before" };
        fs::rename(made.join("live"), made.join(hidden)).expect("it can be hidden");
    }
    made
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp failed");
}

/// A number below `end`, the same for the same seed.
fn drawn(seed: &str, end: usize) -> usize {
    let bytes = bytes(seed, 8);
    (u64::from_le_bytes(bytes.try_into().expect("eight bytes")) % end as u64) as usize
}

/// Four files of random bytes; then 1 % of them changed in regions of 64 KiB.
fn big(dir: &Path, mib: usize) -> Set {
    const REGION: usize = 64 << 10;
    let each = mib.div_ceil(4) << 20;
    let regions = mib * (1 << 20) / 100 / REGION;
    let dir = once(dir, &format!("big-{mib}"), |dir| {
        let before = dir.join("before");
        fs::create_dir_all(&before).expect("a folder");
        for name in ["a", "b", "c", "d"] {
            let mut file = File::create(before.join(name)).expect("a file");
            for mib in 0..each >> 20 {
                file.write_all(&bytes(&format!("{name} {mib}"), 1 << 20))
                    .expect("it can be written");
            }
        }
        copy(&before, &dir.join("after"));
        for region in 0..regions {
            let name = ["a", "b", "c", "d"][region % 4];
            let file = File::options().write(true).open(dir.join("after").join(name));
            let at = drawn(&format!("at {region}"), each - REGION) as u64;
            let change = bytes(&format!("change {region}"), REGION);
            file.expect("a file").write_all_at(&change, at).expect("it can be written");
        }
    });
    Set {
        name: BIG,
        dir,
        one: "b".into(),
        new_bytes: Some((regions * REGION) as u64),
        are_repositories: false,
    }
}

/// Files of source code: of the crates that cargo has, in the order of their names, until there are so many.
fn sources(count: usize) -> Vec<PathBuf> {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cargo");
    let mut left = vec![cargo.unwrap_or_else(home).join("registry/src")];
    let mut files = Vec::new();
    while let Some(path) = left.pop() {
        if files.len() >= count {
            break;
        }
        if path.is_dir() {
            let entries = fs::read_dir(path).expect("a folder");
            let mut inside: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
            inside.sort_by(|a, b| b.cmp(a));
            left.extend(inside);
        } else if path.is_file() {
            files.push(path);
        }
    }
    files
}

/// 12,000 files of source code; then one of thirty changed.
fn tree(dir: &Path, _: usize) -> Set {
    let dir = once(dir, "src", |dir| {
        for (number, file) in sources(12_000).iter().enumerate() {
            let text = fs::read(file).expect("a file");
            let names: Vec<_> = file.components().rev().take(4).collect();
            let below: PathBuf = names.iter().rev().collect();
            let path = PathBuf::from(format!("{:02}", number / 1000)).join(below);
            write(dir.join("before").join(path), text);
        }
        copy(&dir.join("before"), &dir.join("after"));
        let mut left = vec![dir.join("after")];
        let mut number = 0_u32;
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(
                    fs::read_dir(path).expect("a folder").map(|e| e.expect("an entry").path()),
                );
                continue;
            }
            number += 1;
            if u32::is_multiple_of(number, 30) {
                let mut text = fs::read(&path).expect("a file");
                text.extend_from_slice(format!("\n// changed {number}\n").as_bytes());
                fs::write(path, text).expect("it can be written");
            }
        }
    });
    let first = sources(1);
    let names: Vec<_> = first[0].components().rev().take(4).collect();
    let below: PathBuf = names.iter().rev().collect();
    Set {
        name: "src",
        dir,
        one: PathBuf::from("00").join(below),
        new_bytes: None,
        are_repositories: false,
    }
}

/// A million files of up to 2 KiB that do not compress, a thousand a folder.
fn many(dir: &Path, _: usize) -> Set {
    let dir = once(dir, MANY, |dir| {
        for folder in 0..1000 {
            let at = dir.join(format!("before/{folder:03}"));
            fs::create_dir_all(&at).expect("a folder");
            let content = bytes(&format!("many {folder}"), 1000 * 2048);
            for (number, room) in content.chunks_exact(2048).enumerate() {
                let len = 1 + usize::from(u16::from_le_bytes([room[0], room[1]])) % 2048;
                fs::write(at.join(format!("{number:03}")), &room[..len]).expect("a file");
            }
        }
    });
    Set { name: MANY, dir, one: "000/000".into(), new_bytes: None, are_repositories: false }
}

const REPOSITORIES: usize = 5;
/// Commits before the change, and in it.
const COMMITS: [usize; 2] = [600, 200];
/// Random bytes in each repository, as pictures and archives are.
const ASSETS: usize = 95 << 20;

/// Five bare repositories; then 200 commits more in each, and everything packed anew.
fn repositories(dir: &Path, _: usize) -> Set {
    let dir = once(dir, "git", |dir| {
        let files = sources(15_000);
        let per = files.len() / REPOSITORIES;
        let mut new_bytes = 0;
        for number in 0..REPOSITORIES {
            let name = format!("{number}.git");
            let (before, after) = (dir.join("before").join(&name), dir.join("after").join(&name));
            fs::create_dir_all(dir.join("after")).expect("a folder");
            let mut history = History::new(number, &files[number * per..][..per]);
            fs::create_dir_all(&before).expect("a folder");
            git(&before, ["init", "--quiet", "--bare", "--initial-branch=main"]);
            history.write(&before, COMMITS[0], ASSETS);
            git(&before, ["repack", "-a", "-d", "-f", "--quiet"]);
            git(&before, ["pack-refs", "--all"]);
            copy(&before, &after);
            let old = git(&after, ["rev-parse", "main"]);
            history.write(&after, COMMITS[1], 0);
            git(&after, ["repack", "-a", "-d", "-f", "--quiet"]);
            git(&after, ["pack-refs", "--all"]);
            let bundle = dir.join("new.bundle");
            let range = format!("{}..main", old.trim());
            let create = ["bundle", "create", "--quiet", bundle.to_str().expect("text"), &range];
            git(&after, create);
            new_bytes += fs::metadata(&bundle).expect("a bundle").len();
            fs::remove_file(bundle).expect("it can be deleted");
        }
        fs::write(dir.join("new"), new_bytes.to_string()).expect("a file");
    });
    let new = fs::read_to_string(dir.join("new")).expect("a file");
    let new_bytes = Some(new.parse().expect("a number"));
    Set { name: "git", dir, one: "2.git".into(), new_bytes, are_repositories: true }
}

/// A project as it grows: text that is edited a little with each commit.
struct History {
    seed: usize,
    commits: usize,
    files: BTreeMap<String, Vec<Vec<u8>>>,
}

impl History {
    fn new(seed: usize, files: &[PathBuf]) -> Self {
        let read = |file: &PathBuf| {
            let names: Vec<_> = file.components().rev().take(4).collect();
            let path: PathBuf = names.iter().rev().collect();
            let path = path.to_str()?.to_owned();
            let is_plain = path.bytes().all(|c| c.is_ascii_graphic() && c != b'"');
            let text = fs::read(file).expect("a file");
            let lines = text.split_inclusive(|c| *c == b'\n').map(<[u8]>::to_vec);
            is_plain.then(|| (path, lines.collect()))
        };
        Self { seed, commits: 0, files: files.iter().filter_map(read).collect() }
    }

    /// Adds commits to a repository, and so many random bytes on the way.
    fn write(&mut self, repository: &Path, commits: usize, assets: usize) {
        let mut import = Command::new("git");
        import.args(["fast-import", "--quiet"]).current_dir(repository).stdin(Stdio::piped());
        let mut import = import.spawn().expect("Git is installed");
        let mut out = BufWriter::new(import.stdin.take().expect("a pipe"));
        let names: Vec<String> = self.files.keys().cloned().collect();
        let mut left = assets;
        for commit in 0..commits {
            let number = self.commits;
            self.commits += 1;
            let message = format!("Change {number}\n");
            let when = 1_500_000_000 + number * 3600;
            write!(
                out,
                "commit refs/heads/main\ncommitter A U Thor <a@example.com> {when} +0000\n"
            )
            .and_then(|()| write!(out, "data {}\n{message}", message.len()))
            .expect("fast-import reads");
            if commit == 0 && number > 0 {
                writeln!(out, "from refs/heads/main^0").expect("fast-import reads");
            }
            if number == 0 {
                for name in &names {
                    modify(&mut out, name, &self.files[name].concat());
                }
            }
            for edit in 0..=drawn(&format!("{} {number}", self.seed), 6) {
                let seed = format!("{} {number} {edit}", self.seed);
                let name = &names[drawn(&format!("file {seed}"), names.len())];
                let from = &names[drawn(&format!("from {seed}"), names.len())];
                let new: Vec<Vec<u8>> = self.files[from].iter().take(5).cloned().collect();
                let lines = self.files.get_mut(name).expect("a file of ours");
                let at = drawn(&format!("at {seed}"), lines.len() + 1);
                lines.splice(at..(at + 2).min(lines.len()), new);
                modify(&mut out, name, &lines.concat());
            }
            let len = left.min(2 * assets / COMMITS[0]);
            if len > 0 {
                let seed = format!("asset {} {number}", self.seed);
                modify(&mut out, &format!("assets/{number}.bin"), &bytes(&seed, len));
                left -= len;
            }
            if number.is_multiple_of(50) {
                write!(out, "reset refs/tags/v{number}\nfrom refs/heads/main\n\n")
                    .expect("fast-import reads");
            }
        }
        drop(out);
        assert!(import.wait().expect("it ends").success(), "fast-import failed");
    }
}

fn modify(out: &mut impl Write, name: &str, content: &[u8]) {
    let head = format!("M 100644 inline {name}\ndata {}\n", content.len());
    out.write_all(head.as_bytes())
        .and_then(|()| out.write_all(content))
        .and_then(|()| out.write_all(b"\n"))
        .expect("fast-import reads");
}
