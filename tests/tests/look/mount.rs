//! Mounts: every program sees what was backed up.

use super::{backup, look, six};
use harness::{Mesh, More, acl, assert_same, bytes, git, repository, within, write};
use rustix::fs::{CWD, FileType, Mode, SeekFrom, XattrFlags, makedev, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A mount and the process behind it.
struct Mount {
    at: PathBuf,
    process: Child,
    snapshots: u64,
}

impl Mount {
    /// Nothing when that is not possible here.
    fn start(mesh: &Mesh, name: &str, further: &[&str]) -> Option<Self> {
        let at = mesh.dir().join(name);
        fs::create_dir_all(&at).unwrap();
        let mut command = mesh.command(["--json"]);
        command.arg("mount").arg(&at).args(further).arg("--identity").arg(mesh.identity("v"));
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let said = process.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(std::env::var_os("STREWN_REQUIRE_ALL").is_none(), "{said}");
            assert!(said.contains("fuse"), "{said}");
            eprintln!("skipped: mounting needs FUSE: {said}");
            return None;
        }
        let message: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["message_type"], "mounted");
        let snapshots = message["snapshots"].as_u64().unwrap();
        Some(Self { at, process, snapshots })
    }

    fn latest(&self) -> PathBuf {
        self.at.join("snapshots/latest")
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.contains(&format!(" {} fuse", self.at.display()))
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_child(&self.process);
        kill_process(process, signal).unwrap();
    }

    /// The exit code and what was said on standard error, once it has ended.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut status = None;
        let ended = within(Duration::from_secs(30), || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it does not end");
        let mut said = String::new();
        self.process.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
        (status.unwrap().code(), said)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It may have ended well before.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let umount =
            Command::new("umount").arg("--lazy").arg(&self.at).stderr(Stdio::null()).status();
        drop(umount);
    }
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// What only root can make; a mount in these tests needs root as well.
fn folder(at: &Path) {
    write(at.join("docs/read me"), "read me\n");
    write(at.join("docs/one"), bytes("linked", 700_000));
    fs::hard_link(at.join("docs/one"), at.join("docs/two")).unwrap();
    fs::create_dir_all(at.join("empty/inside")).unwrap();
    fs::hard_link(at.join("docs/one"), at.join("empty/three")).unwrap();
    for number in 0..300 {
        write(at.join(format!("many/{number:03}")), bytes(&format!("{number}"), number * 7));
    }
    write(at.join("large"), bytes("large", 30_000_000));
    let sparse = File::create(at.join("sparse")).unwrap();
    sparse.set_len(200 << 20).unwrap();
    sparse.write_all_at(&bytes("data", 500_000), 100 << 20).unwrap();
    symlink("docs/read me", at.join("link")).unwrap();
    let mode = Mode::from_raw_mode(0o620);
    mknodat(CWD, at.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    set(&at.join("docs/read me"), "user.comment", b"with \0 in it");
    set(&at.join("docs/read me"), "user.empty", b"");
    set(&at.join("docs"), "user.folder", &[7; 3000]);
    set(&at.join("docs/one"), "system.posix_acl_access", &acl());
    if rustix::process::geteuid().is_root() {
        let null = makedev(1, 3);
        mknodat(CWD, at.join("null"), FileType::CharacterDevice, mode, null).unwrap();
        mknodat(CWD, at.join("disk"), FileType::BlockDevice, mode, makedev(7, 300)).unwrap();
        set(&at.join("link"), "trusted.link", b"1");
        lchown(at.join("link"), Some(1234), Some(5678)).unwrap();
        lchown(at.join("many/007"), Some(1234), Some(5678)).unwrap();
    }
    fs::set_permissions(at.join("many/008"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(at.join("empty/inside"), fs::Permissions::from_mode(0o1700)).unwrap();
}

/// Numbers that look random and are the same for the same seed.
fn drawn(seed: &str, count: usize, below: u64) -> Vec<u64> {
    let bytes = bytes(seed, count * 8);
    let numbers = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    numbers.map(|number| number % below).collect()
}

#[test]
fn every_program_sees_what_was_backed_up_with_two_nodes_gone() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    folder(&source);
    let id = backup(&mesh, &source);
    mesh.nodes[2].kill();
    let Some(mut mount) = Mount::start(&mesh, "mount", &[]) else { return };
    // One was gone before, and one goes while it is mounted.
    mesh.nodes[5].kill();
    assert_eq!(mount.snapshots, 1);
    let short = &id[..8];
    assert_eq!(fs::read_link(mount.latest()).unwrap(), Path::new(short));
    // How much a file takes on the disk is not the mount's to say.
    let alike = |more| More { blocks: 0, ..more };
    assert_same(&source, &mount.at.join("snapshots").join(short), alike);

    let shown = mount.latest();
    let meta = |path: &str| fs::metadata(shown.join(path)).unwrap();
    assert_eq!(meta("docs/one").ino(), meta("empty/three").ino());
    assert_ne!(meta("docs/one").ino(), meta("docs/read me").ino());
    assert_eq!((meta("").nlink(), meta("empty").nlink()), (1, 3));
    assert!(meta("sparse").blocks() * 512 < 2 << 20, "{}", meta("sparse").blocks());
    let sparse = File::open(shown.join("sparse")).unwrap();
    assert_eq!(rustix::fs::seek(&sparse, SeekFrom::Data(5)), Ok(100 << 20));
    let hole = rustix::fs::seek(&sparse, SeekFrom::Hole(100 << 20)).unwrap();
    let data = 100 << 20;
    assert!((data + 500_000..data + (1 << 20)).contains(&hole), "{hole}");
    for write in [
        fs::write(shown.join("docs/read me"), "x"),
        fs::remove_file(shown.join("large")),
        fs::create_dir(mount.at.join("new")),
    ] {
        assert_eq!(write.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    if rustix::process::geteuid().is_root() {
        let opened = File::open(shown.join("null")).unwrap_err();
        assert_eq!(opened.kind(), std::io::ErrorKind::PermissionDenied, "devices do nothing");
    }
    drop(sparse);
    mount.signal(Signal::INT);
    assert_eq!(mount.end(), (Some(0), String::new()));
    assert!(!mount.is_mounted() && fs::read_dir(&mount.at).unwrap().next().is_none());
}

#[test]
fn any_part_of_a_large_file_comes_exactly_to_many_readers_at_once() {
    const LEN: usize = 60_000_000;
    let mesh = six();
    let source = mesh.dir().join("source");
    let content = bytes("large", LEN);
    write(source.join("large"), &content);
    let _ = backup(&mesh, &source);
    let Some(mount) = Mount::start(&mesh, "mount", &[]) else { return };
    let path = mount.latest().join("large");
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (path, content) = (&path, &content);
            scope.spawn(move || {
                let file = File::open(path).unwrap();
                let offsets = drawn(&format!("at {reader}"), 40, LEN as u64 + 1000);
                let lens = drawn(&format!("len {reader}"), 40, 300_000);
                for (at, len) in offsets.into_iter().zip(lens) {
                    let mut found = vec![0; len as usize];
                    let mut read = 0;
                    while let Ok(more @ 1..) = file.read_at(&mut found[read..], at + read as u64) {
                        read += more;
                    }
                    let expected = content.get(at as usize..).unwrap_or_default();
                    let expected = &expected[..expected.len().min(len as usize)];
                    assert!(found[..read] == *expected, "{len} bytes from {at}");
                }
            });
        }
        scope.spawn(|| assert!(fs::read(&path).unwrap() == content));
    });
}

#[test]
fn only_what_is_read_is_fetched() {
    let mesh = six();
    let source = mesh.dir().join("source");
    let content = bytes("large", 60_000_000);
    write(source.join("large"), &content);
    let _ = backup(&mesh, &source);
    let Some(mount) = Mount::start(&mesh, "mount", &["--limit-download", "1MiB"]) else { return };
    let begin = Instant::now();
    let file = File::open(mount.latest().join("large")).unwrap();
    for at in [50_000_000, 3, 25_000_000] {
        let mut found = [0; 100];
        file.read_exact_at(&mut found, at).unwrap();
        assert_eq!(found, content[at as usize..at as usize + 100]);
    }
    // The whole file would take a minute.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn snapshots_are_there_by_host_and_tag_and_git_opens_its_bundles() {
    let mesh = six();
    let (source, repo) = (mesh.dir().join("source"), mesh.dir().join("repo.git"));
    write(source.join("a"), "one");
    let first = backup(&mesh, &source);
    write(source.join("a"), "two");
    let _ = mesh.strewn(["backup", source.to_str().unwrap(), "--tag", "daily"]).ok();
    repository(&repo, 4);
    let last = backup(&mesh, &repo);
    let Some(mut mount) = Mount::start(&mesh, "mount", &[]) else { return };
    assert_eq!(mount.snapshots, 3);
    let at = |path: &str| mount.at.join(path);
    let times = |path: &Path| fs::metadata(path).map(|m| (m.mode(), m.mtime(), m.mtime_nsec()));
    assert_eq!(times(&at(&format!("snapshots/{}", &first[..8]))).unwrap(), times(&source).unwrap());
    let names = |path: &str| -> Vec<String> {
        let entries = fs::read_dir(at(path)).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["hosts", "snapshots", "tags"]);
    assert_eq!(names("snapshots").len(), 4);
    assert_eq!(names(&format!("hosts/{}", names("hosts")[0])).len(), 3);
    let daily = names("tags/daily");
    assert_eq!(daily.len(), 1);
    assert_eq!(fs::read(at(&format!("tags/daily/{}/a", daily[0]))).unwrap(), b"two");
    assert_eq!(fs::read(at(&format!("snapshots/{}/a", &first[..8]))).unwrap(), b"one");
    assert!(!at("snapshots/none").exists());
    let bundle = at(&format!("snapshots/{}/bundles/000001.bundle", &last[..8]));
    let heads = git(mesh.dir(), ["bundle", "list-heads", bundle.to_str().unwrap()]);
    assert!(heads.contains("refs/heads/trunk"), "{heads}");

    // Somebody else unmounts it, while nobody uses it.
    let umount = Command::new("umount").arg(&mount.at).status().unwrap();
    assert!(umount.success());
    assert_eq!(mount.end(), (Some(0), String::new()));

    // What is forgotten is shown to who asks for all.
    let _ = mesh.strewn(["forget", &first[..10], "--apply"]).ok();
    for (words, shown) in [(&[][..], 2), (&["--all"], 3)] {
        let mount = Mount::start(&mesh, "again", words).unwrap();
        assert_eq!(mount.snapshots, shown);
        assert_eq!(mount.at.join("snapshots").join(&first[..8]).exists(), shown == 3);
    }
}

#[test]
fn a_mount_in_use_ends_as_well_and_what_is_lost_is_an_error_at_once() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    write(source.join("a"), bytes("a", 3_000_000));
    write(source.join("b"), bytes("b", 3_000_000));
    let _ = backup(&mesh, &source);
    let Some(mut mount) = Mount::start(&mesh, "mount", &[]) else { return };
    let file = File::open(mount.latest().join("a")).unwrap();
    let mut first = [0; 10];
    file.read_exact_at(&mut first, 0).unwrap();
    for node in [1, 2, 3, 4, 5] {
        mesh.nodes[node].kill();
    }
    let begin = Instant::now();
    let lost = fs::read(mount.latest().join("b")).unwrap_err();
    assert_eq!(lost.raw_os_error(), Some(5), "{lost}");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    mount.signal(Signal::TERM);
    let (code, said) = mount.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("of the 4 shards needed") && said.contains("in use"), "{said}");
    assert!(!mount.is_mounted());
    let nowhere = look(&mesh, true, ["mount", "/nonexistent/folder"]).ended(10);
    assert!(nowhere.err.contains("make an empty folder"), "{}", nowhere.err);
}
