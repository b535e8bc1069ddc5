//! A Git repository from the folder of its items (see [`crate::source::git`]).
//!
//! It is assembled beside the target under git's default configuration, checked (every object, and
//! every reference against the item `refs`) and only then given its own configuration, its hooks and
//! its name. Nothing that comes from the items is executed.

use crate::git::{Git, GitError, Input};
use crate::source::git::chain::{Bundle, Description, Form, bundle_path};
use crate::source::git::refs::{Head, Ref, Refs, decode_list};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest text item that is read.
const TEXT_LEN_MAX: u64 = 256 << 20;

/// Longest line in the header of a bundle: a reference name is at most a path long.
const LINE_LEN_MAX: u64 = 16 << 10;

/// Odd objects that are named one by one.
const ODD_NOTES_MAX: u64 = 20;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRestored {
    /// Whether it has no work tree.
    pub is_bare: bool,
    /// References.
    pub refs: u64,
    /// Bundles that were applied.
    pub bundles: u64,
    /// What `HEAD` says.
    pub head: String,
    /// What people should know, git's remarks about odd old objects among it.
    pub notes: Vec<String>,
}

/// Why a repository was not restored. Nothing is left at the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitRestoreError {
    /// The target exists.
    #[error("{}: exists already; choose a directory that does not", .0.display())]
    Exists(PathBuf),
    /// An item is missing or cannot be read.
    #[error("item {item}: {error}")]
    Item {
        /// Its path.
        item: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// An item is not what it should be.
    #[error("item {item}: {reason}")]
    Malformed {
        /// Its path.
        item: String,
        /// What is wrong.
        reason: String,
    },
    /// A bundle is not the one that the chain was made of.
    #[error("{item}: {found} bytes with another content than the chain names ({expected} bytes)")]
    Chain {
        /// The bundle.
        item: String,
        /// Its size.
        found: u64,
        /// The size that the chain names.
        expected: u64,
    },
    /// A file at the target cannot be written.
    #[error("{}: {error}", path.display())]
    Target {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Git could not be run or failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The repository is damaged.
    #[error("the restored repository is damaged: {0}")]
    Damaged(String),
    /// The references are not those of the snapshot.
    #[error("{count} references differ from the snapshot, the first: {first}")]
    Refs {
        /// How many.
        count: u64,
        /// The first, as the snapshot has it and as it is.
        first: String,
    },
}

type Result<T> = std::result::Result<T, GitRestoreError>;

/// Makes the repository whose items lie in `staging` at `target`, which must not exist or be empty. It is put together
/// beside `staging`, which must be on the same file system.
pub fn assemble(staging: &Path, target: &Path) -> Result<GitRestored> {
    let git = Git::find()?;
    let at_target = |error| GitRestoreError::Target { path: target.into(), error };
    match fs::read_dir(target).map(|mut dir| dir.next().is_some()) {
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(true) | Err(_) => return Err(GitRestoreError::Exists(target.into())),
    }
    let target = std::path::absolute(target).map_err(at_target)?;
    let parent = target.parent().unwrap_or(&target);
    fs::create_dir_all(parent).map_err(at_target)?;
    let beside = tempfile::Builder::new()
        .prefix(".strewn-partial-")
        .tempdir_in(staging.parent().unwrap_or(parent))
        .map_err(at_target)?;
    let assembly = Assembly::read(&git, staging, &beside.path().join("repository"))?;
    let restored = assembly.run()?;
    // To the disk first: after a power cut the name must not stand for half a repository.
    let folder = File::open(beside.path()).map_err(at_target)?;
    rustix::fs::syncfs(&folder).map_err(|error| at_target(error.into()))?;
    fs::rename(beside.path().join("repository"), &target).map_err(at_target)?;
    Ok(restored)
}

/// A repository being put together.
struct Assembly<'a> {
    git: &'a Git,
    staging: &'a Path,
    /// Where the work tree is, or the repository itself.
    root: PathBuf,
    git_dir: PathBuf,
    description: Description,
    head: Head,
    refs: Vec<Ref>,
    notes: Vec<String>,
}

impl<'a> Assembly<'a> {
    fn read(git: &'a Git, staging: &'a Path, root: &Path) -> Result<Self> {
        let malformed = |item: &str, reason: &str| GitRestoreError::Malformed {
            item: item.into(),
            reason: reason.into(),
        };
        let description = Description::decode(&text(staging, "format")?)
            .ok_or_else(|| malformed("format", "not a description that this version knows"))?;
        let head = Head::decode(&text(staging, "HEAD")?)
            .ok_or_else(|| malformed("HEAD", "neither a reference nor an object"))?;
        let refs = decode_list(&text(staging, "refs")?, &text(staging, "symrefs")?)
            .ok_or_else(|| malformed("refs", "not a sorted list of references"))?;
        let git_dir = match description.form {
            Form::Bare => root.to_path_buf(),
            Form::WorkTree => root.join(".git"),
        };
        let root = root.to_path_buf();
        Ok(Self { git, staging, root, git_dir, description, head, refs, notes: Vec::new() })
    }

    fn run(mut self) -> Result<GitRestored> {
        self.init()?;
        for (i, bundle) in self.description.bundles.iter().enumerate() {
            self.apply(&bundle_path(i), bundle)?;
        }
        self.write_refs()?;
        self.check_objects()?;
        self.check_refs()?;
        if self.description.form == Form::WorkTree {
            self.check_out()?;
        }
        self.configure()?;
        self.copy_hooks()?;
        // Once more, for a configuration that makes git see another repository.
        self.check_refs()?;
        Ok(GitRestored {
            is_bare: self.description.form == Form::Bare,
            refs: self.refs.len() as u64,
            bundles: self.description.bundles.len() as u64,
            head: String::from_utf8_lossy(&self.head.encode()).trim().to_owned(),
            notes: self.notes,
        })
    }

    fn init(&self) -> Result<()> {
        let mut init = self.git.anywhere();
        init.args(["init", "--quiet", "--bare", "--template="])
            .arg(format!("--object-format={}", self.description.object_format));
        if self.setting("extensions.refstorage")?.as_deref() == Some(b"reftable") {
            init.arg("--ref-format=reftable");
        }
        self.git.run(init.arg(&self.git_dir), Input::Nothing)?;
        Ok(())
    }

    /// A setting of the restored configuration, read without following its includes.
    fn setting(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = item(self.staging, "config")? else { return Ok(None) };
        let mut command = self.git.anywhere();
        // From standard input: a path could be taken for something else.
        command.args(["config", "--file", "-", "--get", key]);
        let answer = self.git.ask(&mut command, Input::File(file))?;
        let value = answer.stdout.strip_suffix(b"\n").unwrap_or(&answer.stdout).to_vec();
        Ok((answer.code == Some(0)).then_some(value))
    }

    /// Adds the objects of one bundle, after checking that it is the one that the chain names.
    fn apply(&self, path: &str, expected: &Bundle) -> Result<()> {
        let fail = |error| GitRestoreError::Item { item: path.into(), error };
        let missing = || fail(io::ErrorKind::NotFound.into());
        let mut file = item(self.staging, path)?.ok_or_else(missing)?;
        let mut hasher = blake3::Hasher::new();
        let found = io::copy(&mut file, &mut hasher).map_err(fail)?;
        if found != expected.size || *hasher.finalize().as_bytes() != expected.hash {
            let expected = expected.size;
            return Err(GitRestoreError::Chain { item: path.into(), found, expected });
        }
        file.rewind().map_err(fail)?;
        let pack = skip_header(&mut file, &self.description.object_format)
            .map_err(|reason| GitRestoreError::Malformed { item: path.into(), reason })?;
        file.seek(io::SeekFrom::Start(pack)).map_err(fail)?;
        let mut command = self.git.at(&self.git_dir);
        command.args(["index-pack", "--stdin", "--fix-thin"]);
        self.git.run(&mut command, Input::File(file))?;
        Ok(())
    }

    fn write_refs(&self) -> Result<()> {
        let mut script = Vec::new();
        for r in self.refs.iter().filter(|r| r.symbolic.is_none()) {
            for part in [b"create ".as_slice(), &r.name, b"\0", r.oid.as_bytes(), b"\0"] {
                script.extend_from_slice(part);
            }
        }
        let mut command = self.git.at(&self.git_dir);
        command.args(["update-ref", "-z", "--stdin"]);
        self.git.run(&mut command, Input::Bytes(&script))?;
        for r in &self.refs {
            if let Some(target) = &r.symbolic {
                self.point(&r.name, target)?;
            }
        }
        match &self.head {
            Head::Symbolic(target) => self.point(b"HEAD", target)?,
            Head::Detached(oid) => {
                let mut command = self.git.at(&self.git_dir);
                command.args(["update-ref", "--no-deref", "HEAD", oid.as_str()]);
                self.git.run(&mut command, Input::Nothing)?;
            }
        }
        let mut command = self.git.at(&self.git_dir);
        self.git.run(command.args(["pack-refs", "--all"]), Input::Nothing)?;
        Ok(())
    }

    fn point(&self, name: &[u8], target: &[u8]) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let os = std::ffi::OsStr::from_bytes;
        let mut command = self.git.at(&self.git_dir);
        command.arg("symbolic-ref").arg(os(name)).arg(os(target));
        self.git.run(&mut command, Input::Nothing)?;
        Ok(())
    }

    /// Every object and every link between them. What git finds odd in the form of an object was so
    /// in the source too (the hash says so) and is noted; anything else is damage.
    fn check_objects(&mut self) -> Result<()> {
        let mut command = self.git.at(&self.git_dir);
        command.args(["fsck", "--strict", "--full", "--no-dangling", "--no-progress"]);
        let answer = self.git.ask(&mut command, Input::Nothing)?;
        let said = String::from_utf8_lossy(&answer.stdout);
        let mut odd = 0;
        for line in said.lines().chain(answer.stderr.lines()) {
            if line.starts_with("error in ") || line.starts_with("warning in ") {
                odd += 1;
                if odd <= ODD_NOTES_MAX {
                    self.notes.push(line.to_owned());
                }
            } else if !line.starts_with("notice: ") {
                return Err(GitRestoreError::Damaged(line.to_owned()));
            }
        }
        if odd > ODD_NOTES_MAX {
            self.notes.push(format!("{} more like these", odd - ODD_NOTES_MAX));
        }
        // Odd objects set the bits for errors in objects (1) and in packs (4).
        match answer.code {
            Some(0) => Ok(()),
            Some(code) if odd > 0 && code & !5 == 0 => Ok(()),
            code => Err(GitRestoreError::Damaged(format!("git fsck ended with {code:?}"))),
        }
    }

    fn check_refs(&self) -> Result<()> {
        let (found, remarks) = Refs::capture(self.git, &self.git_dir)?;
        if let Some(line) = remarks.broken.first() {
            return Err(GitRestoreError::Damaged(line.clone()));
        }
        if found.head != self.head {
            let first = format!("HEAD is {:?}, not {:?}", found.head, self.head);
            return Err(GitRestoreError::Refs { count: 1, first });
        }
        let mut differences = differences(&self.refs, &found.list);
        let Some(first) = differences.next() else { return Ok(()) };
        Err(GitRestoreError::Refs { count: 1 + differences.count() as u64, first })
    }

    fn check_out(&mut self) -> Result<()> {
        let is_born = match &self.head {
            Head::Detached(_) => true,
            Head::Symbolic(target) => self.refs.iter().any(|r| &r.name == target),
        };
        if !is_born {
            return Ok(());
        }
        let mut work_tree = std::ffi::OsString::from("--work-tree=");
        work_tree.push(&self.root);
        let mut command = self.git.at(&self.git_dir);
        command.arg(work_tree).current_dir(&self.root).args(["read-tree", "--reset", "-u", "HEAD"]);
        self.git.run(&mut command, Input::Nothing)?;
        Ok(())
    }

    /// The configuration as it was, except for where the repository lies.
    fn configure(&mut self) -> Result<()> {
        let config = self.git_dir.join("config");
        self.copy("config", &config)?;
        let is_bare = self.description.form == Form::Bare;
        self.set("core.bare", if is_bare { "true" } else { "false" })?;
        if self.setting("core.worktree")?.is_some() {
            let mut command = self.git.anywhere();
            command.args(["config", "--file"]).arg(&config).args(["--unset-all", "core.worktree"]);
            self.git.run(&mut command, Input::Nothing)?;
            self.notes
                .push("core.worktree was left out: it named the place of the old work tree".into());
        }
        if !is_bare && self.setting("filter.lfs.smudge")?.is_some() {
            self.notes.push(
                "filters were not run; `git lfs pull` fetches the content of large files".into(),
            );
        }
        self.copy("description", &self.git_dir.join("description"))?;
        let info = self.git_dir.join("info");
        fs::create_dir_all(&info)
            .map_err(|error| GitRestoreError::Target { path: info.clone(), error })?;
        self.copy("info/exclude", &info.join("exclude"))
    }

    fn set(&self, key: &str, value: &str) -> Result<()> {
        let mut command = self.git.anywhere();
        command.args(["config", "--file"]).arg(self.git_dir.join("config"));
        self.git.run(command.args(["--replace-all", key, value]), Input::Nothing)?;
        Ok(())
    }

    fn copy_hooks(&self) -> Result<()> {
        let hooks = self.git_dir.join("hooks");
        fs::create_dir_all(&hooks)
            .map_err(|error| GitRestoreError::Target { path: hooks.clone(), error })?;
        let fail = |error| GitRestoreError::Item { item: "hooks".into(), error };
        check_folder(self.staging, "hooks/")?;
        let entries = match fs::read_dir(self.staging.join("hooks")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let to = hooks.join(entry.file_name());
            let kind = entry.file_type().map_err(fail)?;
            if kind.is_symlink() {
                let link = fs::read_link(entry.path()).map_err(fail)?;
                std::os::unix::fs::symlink(link, &to)
                    .map_err(|error| GitRestoreError::Target { path: to.clone(), error })?;
            } else if kind.is_file() {
                copy_file(&mut File::open(entry.path()).map_err(fail)?, &to)?;
            }
        }
        Ok(())
    }

    fn copy(&self, path: &str, to: &Path) -> Result<()> {
        match item(self.staging, path)? {
            Some(mut file) => copy_file(&mut file, to),
            None => Ok(()),
        }
    }
}

/// Copies content and permission bits.
fn copy_file(from: &mut File, to: &Path) -> Result<()> {
    let mut copy = || -> io::Result<()> {
        let mode = from.metadata()?.permissions().mode() & 0o777;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
        io::copy(from, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    };
    copy().map_err(|error| GitRestoreError::Target { path: to.into(), error })
}

/// Opens an item; a link in its place is none.
fn item(staging: &Path, path: &str) -> Result<Option<File>> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(no_follow.bits()).unwrap_or_default();
    check_folder(staging, path)?;
    match OpenOptions::new().read(true).custom_flags(flags).open(staging.join(path)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(GitRestoreError::Item { item: path.into(), error }),
    }
}

/// Refuses a link where the folder of an item should be.
fn check_folder(staging: &Path, path: &str) -> Result<()> {
    let Some((folder, _)) = path.split_once('/') else { return Ok(()) };
    match staging.join(folder).symlink_metadata() {
        Ok(found) if !found.is_dir() => {
            let error = io::ErrorKind::NotADirectory.into();
            Err(GitRestoreError::Item { item: folder.into(), error })
        }
        _ => Ok(()),
    }
}

fn text(staging: &Path, path: &str) -> Result<Vec<u8>> {
    let fail = |error| GitRestoreError::Item { item: path.into(), error };
    let file = item(staging, path)?.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
    let mut text = Vec::new();
    file.take(TEXT_LEN_MAX + 1).read_to_end(&mut text).map_err(fail)?;
    if text.len() as u64 > TEXT_LEN_MAX {
        let reason = format!("longer than {TEXT_LEN_MAX} bytes");
        return Err(GitRestoreError::Malformed { item: path.into(), reason });
    }
    Ok(text)
}

/// Where the pack of a bundle begins, see gitformat-bundle(5). References and prerequisites are
/// skipped: the item `refs` is the truth, and the whole is checked at the end.
fn skip_header(file: &mut File, object_format: &str) -> std::result::Result<u64, String> {
    let mut reader = BufReader::new(file);
    let mut offset = 0;
    let mut found_format = "sha1".to_owned();
    for number in 0_u64.. {
        let mut line = Vec::new();
        let read = (&mut reader).take(LINE_LEN_MAX).read_until(b'\n', &mut line);
        offset += read.map_err(|error| error.to_string())? as u64;
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(format!("line {} of its header does not end", number + 1));
        };
        if number == 0 {
            if !matches!(line, b"# v2 git bundle" | b"# v3 git bundle") {
                return Err("not a Git bundle of version 2 or 3".into());
            }
        } else if line.is_empty() {
            break;
        } else if let Some(capability) = line.strip_prefix(b"@") {
            match capability.strip_prefix(b"object-format=") {
                Some(name) => found_format = String::from_utf8_lossy(name).into_owned(),
                None => return Err(format!("needs {:?}", String::from_utf8_lossy(capability))),
            }
        }
    }
    if found_format == object_format {
        Ok(offset)
    } else {
        Err(format!("its objects are {found_format}, the repository's {object_format}"))
    }
}

/// In words, what of `wanted` is otherwise in `found`. Both are sorted by name.
fn differences<'a>(wanted: &'a [Ref], found: &'a [Ref]) -> impl Iterator<Item = String> + 'a {
    let at = |list: &'a [Ref], name: &[u8]| {
        list.binary_search_by(|r| r.name.as_slice().cmp(name)).ok().map(|i| &list[i])
    };
    let show = |r: &Ref| String::from_utf8_lossy(&r.name).into_owned();
    let changed = wanted.iter().filter_map(move |r| match at(found, &r.name) {
        None => Some(format!("{} is missing", show(r))),
        Some(other) if other == r => None,
        Some(other) => Some(format!("{} is {}, not {}", show(r), other.oid, r.oid)),
    });
    let added = found
        .iter()
        .filter(move |r| at(wanted, &r.name).is_none())
        .map(move |r| format!("{} is not in the snapshot", show(r)));
    changed.chain(added)
}

#[cfg(test)]
mod tests;
