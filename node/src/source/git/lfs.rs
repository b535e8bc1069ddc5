//! Large files (Git LFS): where their objects lie, and whether these are what their names say.
//!
//! An object's name is its SHA-256. It is checked when the object is read, which is once: rot is found while another
//! clone may still have a good copy. One that fails is kept all the same and named.

use super::mirror::Mirror;
use super::repository::Repository;
use crate::git::{Git, GitError, Input};
use crate::source::{Content, Inode, Linked, Node, PreviousFile, Sink, SinkError};
use data_encoding::HEXLOWER;
use protocol::item::{Attribute, Meta, Stamp};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest pointer to a large file, in bytes.
const POINTER_LEN_MAX: u64 = 1024;

/// Zeros of a hole, to be hashed.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Where the objects lie.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Store {
    At(PathBuf),
    /// The setting `lfs.storage` means more than a path.
    Unknown(String),
}

/// Finds it out.
pub(super) fn store(repository: &Repository) -> Store {
    match repository.setting("lfs.storage") {
        None | Some(b"") => Store::At(repository.common_dir.join("lfs/objects")),
        Some(path) if path.starts_with(b"~") || path.contains(&b'%') => {
            Store::Unknown(String::from_utf8_lossy(path).into_owned())
        }
        Some(path) => Store::At(repository.below(path).join("objects")),
    }
}

/// The hash that the object at `path` (`aa/bb/HASH`) must have; `None` for what is no object.
pub(crate) fn name_of(path: &[u8]) -> Option<&[u8]> {
    let mut parts = path.split(|c| *c == b'/');
    let (first, second, name) = (parts.next()?, parts.next()?, parts.next()?);
    let is_name = name.len() == 64
        && name.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        && parts.next().is_none();
    (is_name && first == &name[..2] && second == &name[2..4]).then_some(name)
}

/// Whether the `.gitattributes` of `HEAD` speak of LFS.
pub(super) fn is_spoken_of(git: &Git, mirror: &Mirror<'_>) -> Result<bool, GitError> {
    let mut command = mirror.command()?;
    command.args(["cat-file", "blob", "HEAD:.gitattributes"]);
    let answer = git.ask(&mut command, Input::Nothing)?;
    Ok(String::from_utf8_lossy(&answer.stdout).contains("filter=lfs"))
}

/// How many large files of `HEAD` are not in `store`: only pointers to them are in the repository.
pub(super) fn absent(git: &Git, mirror: &Mirror<'_>, store: &Path) -> Result<u64, GitError> {
    let mut command = mirror.command()?;
    command.args(["ls-tree", "-r", "-l", "-z", "HEAD"]);
    let mut running = git.start(&mut command, Input::Nothing)?;
    let mut small = Vec::new();
    for entry in BufReader::new(&mut running).split(0) {
        if let Some(oid) = small_blob(&String::from_utf8_lossy(&entry?)) {
            small.extend_from_slice(oid.as_bytes());
            small.push(b'\n');
        }
    }
    running.check()?;
    let mut command = mirror.command()?;
    command.args(["cat-file", "--batch"]);
    let mut running = git.start(&mut command, Input::Bytes(&small))?;
    let mut absent = BTreeSet::new();
    for line in BufReader::new(&mut running).split(b'\n') {
        if let Some(name) = pointed_at(&line?)
            && !store.join(&name[..2]).join(&name[2..4]).join(&name).is_file()
        {
            absent.insert(name);
        }
    }
    running.check()?;
    Ok(absent.len() as u64)
}

/// The object of a line of `git ls-tree -l` (`mode type oid size TAB path`), if a pointer can be in it.
fn small_blob(line: &str) -> Option<&str> {
    let mut parts = line.split_ascii_whitespace().skip(1);
    let (kind, oid, size) = (parts.next()?, parts.next()?, parts.next()?);
    (kind == "blob" && size.parse::<u64>().ok()? <= POINTER_LEN_MAX).then_some(oid)
}

/// The hash in a pointer's line that names it.
fn pointed_at(line: &[u8]) -> Option<String> {
    let name = line.strip_prefix(b"oid sha256:")?;
    let is_hash = name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit);
    is_hash.then(|| String::from_utf8_lossy(name).into_owned())
}

/// Passes files on and hashes what is read of them.
pub(super) struct Hashing<'a> {
    sink: &'a mut dyn Sink,
    /// Of the file that was read last.
    hash: Option<String>,
}

impl<'a> Hashing<'a> {
    pub(super) fn new(sink: &'a mut dyn Sink) -> Self {
        Self { sink, hash: None }
    }

    /// The hash of the file that was passed on, if it was read.
    pub(super) fn hash(self) -> Option<String> {
        self.hash
    }
}

impl Sink for Hashing<'_> {
    fn attributes(&mut self, attributes: Vec<Attribute>) {
        self.sink.attributes(attributes);
    }

    fn shared(&mut self, inode: Inode) {
        self.sink.shared(inode);
    }

    fn directory(&mut self, meta: Meta) -> Result<(), SinkError> {
        self.sink.directory(meta)
    }

    fn symlink(&mut self, meta: Meta, target: Vec<u8>) -> Result<(), SinkError> {
        self.sink.symlink(meta, target)
    }

    fn node(&mut self, meta: Meta, node: Node) -> Result<(), SinkError> {
        self.sink.node(meta, node)
    }

    fn sparse_file(
        &mut self,
        meta: Meta,
        stamp: Stamp,
        content: &mut dyn Content,
    ) -> Result<u64, SinkError> {
        let mut hashed = Hashed { content, hasher: Sha256::new() };
        let read = self.sink.sparse_file(meta, stamp, &mut hashed)?;
        self.hash = Some(HEXLOWER.encode(&hashed.hasher.finalize()));
        Ok(read)
    }

    fn unchanged(
        &mut self,
        meta: Meta,
        previous: PreviousFile,
        stamp: Stamp,
    ) -> Result<bool, SinkError> {
        self.sink.unchanged(meta, previous, stamp)
    }

    fn knows(&mut self, previous: &PreviousFile) -> Result<bool, SinkError> {
        self.sink.knows(previous)
    }

    fn link(&mut self, meta: &Meta, size: u64, inode: Inode) -> Result<Linked, SinkError> {
        self.sink.link(meta, size, inode)
    }
}

struct Hashed<'a> {
    content: &'a mut dyn Content,
    hasher: Sha256,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

impl Content for Hashed<'_> {
    fn hole(&mut self) -> io::Result<u64> {
        let len = self.content.hole()?;
        let mut left = len;
        while left > 0 {
            let n = left.min(ZEROS.len() as u64);
            self.hasher.update(&ZEROS[..n as usize]);
            left -= n;
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_are_taken_for_objects() {
        let name = "ab".repeat(32);
        let of = |path: String| name_of(path.as_bytes()).is_some();
        assert!(of(format!("ab/ab/{name}")));
        assert!(!of(format!("ab/cd/{name}")));
        assert!(!of(format!("ab/ab/{name}/x")));
        assert!(!of(format!("ab/ab/{}", &name[1..])));
        assert!(!of(format!("AB/AB/{}", "AB".repeat(32))));
        assert!(!of(name));
    }
}
