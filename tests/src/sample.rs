//! Things to back up, and what there is to compare afterwards.

use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes that look random and are the same for the same seed.
#[must_use]
pub fn bytes(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Writes a file and the folders above it.
///
/// # Panics
/// When that fails.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
    fs::write(path, bytes).expect("a file can be written");
}

/// Writes so many files into a folder, of this length each: nothing makes them smaller.
///
/// # Panics
/// When that fails.
pub fn files(folder: &Path, seed: &str, count: usize, len: usize) {
    for file in 0..count {
        write(folder.join(file.to_string()), bytes(&format!("{seed} {file}"), len));
    }
}

/// What is found at a path: everything that a restore must bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// File, folder or link, with permissions.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds of the last change.
    pub changed: (i64, i64),
    /// Hash of a file's bytes, or a link's target.
    pub content: Vec<u8>,
}

/// Everything below a folder, by path, the folder itself included.
///
/// # Panics
/// When something cannot be read.
#[must_use]
pub fn tree_of(top: &Path) -> BTreeMap<PathBuf, Found> {
    let mut tree = BTreeMap::new();
    let mut left = vec![top.to_path_buf()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let content = if meta.is_symlink() {
            fs::read_link(&path).expect("a link").into_os_string().into_vec()
        } else if meta.is_file() {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(&path).expect("a file")).expect("it can be read");
            hasher.finalize().as_bytes().to_vec()
        } else if !meta.is_dir() {
            // Neither devices nor FIFOs are to be opened.
            Vec::new()
        } else {
            left.extend(
                fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()),
            );
            Vec::new()
        };
        let found = Found {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            changed: (meta.mtime(), meta.mtime_nsec()),
            content,
        };
        tree.insert(path.strip_prefix(top).expect("below").to_path_buf(), found);
    }
    tree
}

/// Beside what [`tree_of`] finds: what a file system has beside files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct More {
    /// Extended attributes.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// How many names a file has; not every file system counts those of folders.
    pub names: u64,
    /// The number of a device.
    pub device: u64,
    /// Bytes, of what is no folder.
    pub size: u64,
    /// Blocks of 512 bytes that a file takes.
    pub blocks: u64,
}

/// What there is at a path beside what [`tree_of`] finds.
///
/// # Panics
/// When something cannot be read.
#[must_use]
pub fn more_of(at: &Path) -> More {
    let mut names = vec![0; 4096];
    let len = match rustix::fs::llistxattr(at, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        len => len.expect("attributes"),
    };
    let value = |name: &[u8]| {
        let name = String::from_utf8(name.to_vec()).expect("a name");
        let mut value = vec![0; 4096];
        let len = rustix::fs::lgetxattr(at, name.as_str(), &mut value[..]).expect("a value");
        value.truncate(len);
        (name, value)
    };
    let names = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let meta = fs::symlink_metadata(at).expect("it is there");
    More {
        attributes: names.map(value).collect(),
        names: if meta.is_dir() { 0 } else { meta.nlink() },
        device: meta.rdev(),
        size: if meta.is_dir() { 0 } else { meta.len() },
        blocks: if meta.is_file() { meta.blocks() } else { 0 },
    }
}

/// An access control list as an extended attribute has it: owner rwx, user 1234 r--, group r-x, mask r-x.
#[must_use]
pub fn acl() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 4, 1234), (4, 5, u32::MAX), (16, 5, u32::MAX), (32, 0, u32::MAX)];
    for (tag, rights, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Checks that two trees have everything in common, but what `alike` takes away of what is beside the files.
///
/// # Panics
/// When they have not.
pub fn assert_same(ours: &Path, theirs: &Path, alike: impl Fn(More) -> More) {
    let (left, right) = (tree_of(ours), tree_of(theirs));
    for (path, found) in &left {
        assert_eq!(right.get(path), Some(found), "{}", path.display());
        let more = |top: &Path| alike(more_of(&top.join(path)));
        assert_eq!(more(ours), more(theirs), "{}", path.display());
    }
    assert_eq!(left.len(), right.len());
}

/// Runs Git without anybody's settings; its output.
///
/// # Panics
/// When it fails.
pub fn git<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| (OsString::from("PATH"), path)))
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "A U Thor"), ("GIT_COMMITTER_NAME", "C O Mitter")])
        .envs([("GIT_AUTHOR_EMAIL", "a@example.com"), ("GIT_COMMITTER_EMAIL", "c@example.com")])
        .stdin(Stdio::null())
        .output()
        .expect("Git is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text") + &errors
}

/// Makes a bare repository with branches, tags, a hook, a description and `commits` commits.
///
/// # Panics
/// When Git fails.
pub fn repository(folder: &Path, commits: usize) {
    let work = folder.with_extension("work");
    fs::create_dir_all(&work).expect("a folder");
    git(&work, ["init", "--quiet", "--initial-branch=trunk"]);
    for commit in 0..commits {
        write(work.join(format!("src/{}.txt", commit % 7)), bytes(&format!("{commit}"), 3000));
        git(&work, ["add", "--all"]);
        git(&work, ["commit", "--quiet", "--message", &format!("Change {commit}")]);
    }
    git(&work, ["tag", "--annotate", "v1", "--message", "The first"]);
    git(&work, ["branch", "topic/one", "HEAD~1"]);
    let name = folder.as_os_str();
    let clone = ["clone", "--quiet", "--mirror", "."].map(OsStr::new);
    git(&work, clone.into_iter().chain([name]));
    git(folder, ["remote", "remove", "origin"]);
    write(folder.join("description"), "A repository to be backed up\n");
    write(folder.join("hooks/update"), "#!/bin/sh\nexit 0\n");
    fs::set_permissions(folder.join("hooks/update"), fs::Permissions::from_mode(0o755))
        .expect("a hook is executable");
    fs::remove_dir_all(work).expect("the work tree is not needed");
}
