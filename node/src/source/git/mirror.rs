//! A repository without objects of its own that has the captured references at the captured
//! objects: bundles are made from it, so that pushes meanwhile change nothing and nothing is written
//! to the repository that is backed up. Its configuration is git's default, whatever the
//! repository's says. It is made when it is asked for the first time: who finds nothing new needs none.

use super::base::Packs;
use super::refs::{Head, Refs};
use crate::git::{Git, GitError, Input, Running, make_bare};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Mirror<'a> {
    git: &'a Git,
    dir: PathBuf,
    /// Where the objects are.
    objects: PathBuf,
    object_format: String,
    is_made: Cell<bool>,
    /// The files `packed-refs` and `HEAD`.
    packed: Vec<u8>,
    head: Vec<u8>,
    /// What bundles are asked for, one a line.
    wanted: Vec<u8>,
}

impl<'a> Mirror<'a> {
    /// Borrows the objects in the directory `objects`. There is one at a time for each [`Git`].
    pub(crate) fn new(git: &'a Git, objects: &Path, object_format: &str) -> Self {
        Self {
            git,
            dir: git.scratch().join("mirror"),
            objects: objects.into(),
            object_format: object_format.into(),
            is_made: Cell::new(false),
            packed: Vec::new(),
            head: Head::Symbolic(b"refs/heads/main".to_vec()).encode(),
            wanted: Vec::new(),
        }
    }

    fn make(&self) -> io::Result<()> {
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir)?;
        }
        make_bare(&self.dir, &self.object_format)?;
        let alternates = alternates_line(&self.objects);
        std::fs::write(self.dir.join("objects/info/alternates"), alternates)?;
        self.write_refs()
    }

    fn write_refs(&self) -> io::Result<()> {
        std::fs::write(self.dir.join("packed-refs"), &self.packed)?;
        std::fs::write(self.dir.join("HEAD"), &self.head)
    }

    /// Gives it the captured references, and names for the objects in `further`.
    pub(crate) fn point(
        &mut self,
        refs: &Refs,
        further: &BTreeSet<String>,
    ) -> Result<(), GitError> {
        (self.packed, self.wanted) = name(refs, further);
        self.head = refs.head.encode();
        if self.is_made.get() {
            self.write_refs()?;
        }
        Ok(())
    }

    /// Git in this repository.
    pub(super) fn command(&self) -> Result<Command, GitError> {
        if !self.is_made.get() {
            self.make()?;
            self.is_made.set(true);
        }
        Ok(self.git.at(&self.dir))
    }

    /// Those of `oids` that the repository still has.
    pub(super) fn present(&self, oids: &BTreeSet<String>) -> Result<Vec<String>, GitError> {
        let asked: String = oids.iter().flat_map(|oid| [oid.as_str(), "\n"]).collect();
        let mut command = self.command()?;
        command.args(["cat-file", "--batch-check=%(objectname) %(objecttype)"]);
        let answer = self.git.run(&mut command, Input::Bytes(asked.as_bytes()))?;
        let text = String::from_utf8_lossy(&answer.stdout);
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, kind)| *kind != "missing")
            .map(|(oid, _)| oid.to_owned())
            .collect())
    }

    /// Those of `oids` that nothing in `known` reaches. Everything that they reach must be there.
    pub(crate) fn beyond(
        &self,
        oids: &BTreeSet<String>,
        known: &BTreeSet<&str>,
    ) -> Result<BTreeSet<String>, GitError> {
        let mut asked: String = oids.iter().flat_map(|oid| [oid.as_str(), "\n"]).collect();
        asked.extend(known.iter().flat_map(|oid| ["^", oid, "\n"]));
        let mut command = self.command()?;
        command.args(["rev-list", "--objects", "--no-object-names", "--stdin"]);
        let mut running = self.git.start(&mut command, Input::Bytes(asked.as_bytes()))?;
        let mut beyond = BTreeSet::new();
        for line in BufReader::new(&mut running).lines() {
            beyond.extend(oids.get(&line?).cloned());
        }
        running.check()?;
        Ok(beyond)
    }

    /// Whether the captured references reach anything that `known` does not.
    pub(super) fn is_beyond(
        &self,
        oids: &BTreeSet<&str>,
        known: &[String],
    ) -> Result<bool, GitError> {
        let mut asked: String = oids.iter().flat_map(|oid| [*oid, "\n"]).collect();
        asked.extend(known.iter().flat_map(|oid| ["^", oid, "\n"]));
        let mut command = self.command()?;
        command.args(["rev-list", "--objects", "--stdin"]);
        let mut running = self.git.start(&mut command, Input::Bytes(asked.as_bytes()))?;
        let mut byte = [0];
        if running.read(&mut byte)? > 0 {
            return Ok(true);
        }
        running.check()?;
        Ok(false)
    }

    /// Streams a bundle of everything that the references reach and `known` does not.
    pub(crate) fn bundle(&self, known: &[String]) -> Result<Stream, GitError> {
        let mut asked: Vec<u8> =
            known.iter().flat_map(|oid| format!("^{oid}\n").into_bytes()).collect();
        asked.extend_from_slice(&self.wanted);
        let mut command = self.command()?;
        command.args(["bundle", "create", "--quiet", "-", "--stdin"]);
        Ok(Stream::of(self.git.start(&mut command, Input::Bytes(&asked))?))
    }

    /// Streams a pack of everything that `oids` reach and `packs` do not have; nothing if that is nothing. All of it is
    /// gone through, without bitmaps, which only claim what is there.
    pub(super) fn rest(&self, oids: &BTreeSet<&str>, packs: &Packs) -> Result<Stream, GitError> {
        let mut command = self.command()?;
        packs.show(&self.dir.join("objects"))?;
        command.args(["pack-objects", "-q", "--revs", "--stdout", "--delta-base-offset"]);
        command.args(["--non-empty", "--no-use-bitmap-index"]);
        for open in &packs.0 {
            command.arg(format!("--keep-pack={}", open.pack.pack_name()));
        }
        let asked: String = oids.iter().flat_map(|oid| [*oid, "\n"]).collect();
        Ok(Stream::of(self.git.start(&mut command, Input::Bytes(asked.as_bytes()))?))
    }
}

/// A bundle or a pack while git makes it. A failure of git shows as a read error at its end, so that half of it is never
/// taken for the whole.
pub(crate) struct Stream {
    running: Running,
    hasher: blake3::Hasher,
    failure: Option<GitError>,
    ended: bool,
}

impl Stream {
    fn of(running: Running) -> Self {
        Self { running, hasher: blake3::Hasher::new(), failure: None, ended: false }
    }

    /// What git failed with, if it did.
    pub(crate) fn failure(&mut self) -> Option<GitError> {
        self.failure.take()
    }

    /// The hash of what was read, if that was all and git says that it is good.
    pub(crate) fn hash(&self) -> Option<[u8; 32]> {
        (self.ended && self.failure.is_none()).then(|| self.hasher.finalize().into())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.running.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        if n == 0 && !buffer.is_empty() && !self.ended {
            self.ended = true;
            if let Err(error) = self.running.check() {
                let message = error.to_string();
                self.failure = Some(error);
                return Err(io::Error::other(message));
            }
        }
        Ok(n)
    }
}

/// The references under names that mean one thing only, as `packed-refs` and as lines to ask for.
///
/// `git bundle` silently leaves out a name that could mean two references, as `refs/heads/a` does
/// where `refs/heads/refs/heads/a` exists; such get a name of ours. The bundle's names are for people
/// who open it without Strewn, the truth is the item `refs`.
///
/// The objects in `further` have no name at all, nor has a detached `HEAD` one that `git fetch` takes: they get
/// such names too.
fn name(refs: &Refs, further: &BTreeSet<String>) -> (Vec<u8>, Vec<u8>) {
    let names: BTreeSet<&[u8]> = refs.list.iter().map(|r| r.name.as_slice()).collect();
    let mut prefix = b"refs/strewn".to_vec();
    while names.iter().any(|name| name.windows(prefix.len()).any(|part| part == prefix)) {
        prefix.push(b'-');
    }
    let alias = |i: usize| [prefix.as_slice(), format!("/{i:08}").as_bytes()].concat();
    let mut named: Vec<(Vec<u8>, &str)> = Vec::new();
    for (i, r) in refs.list.iter().enumerate() {
        let name = if is_ambiguous(&r.name, &names) { alias(i + 1) } else { r.name.clone() };
        named.push((name, &r.oid));
    }
    let mut wanted: Vec<Vec<u8>> = named.iter().map(|(name, _)| name.clone()).collect();
    match &refs.head {
        // The name must exist in the mirror: not unborn, not under another name.
        Head::Symbolic(target) => {
            if !is_ambiguous(b"HEAD", &names) && named.iter().any(|(name, _)| name == target) {
                wanted.push(b"HEAD".to_vec());
            }
        }
        Head::Detached(oid) => {
            named.push((alias(0), oid));
            wanted.push(alias(0));
            if !is_ambiguous(b"HEAD", &names) {
                wanted.push(b"HEAD".to_vec());
            }
        }
    }
    for (i, oid) in further.iter().enumerate() {
        let name = alias(refs.list.len() + 1 + i);
        wanted.push(name.clone());
        named.push((name, oid));
    }
    named.sort_unstable();
    let mut packed = b"# pack-refs with: sorted \n".to_vec();
    for (name, oid) in named {
        packed.extend_from_slice(oid.as_bytes());
        packed.push(b' ');
        packed.extend_from_slice(&name);
        packed.push(b'\n');
    }
    let mut asked = wanted.join(&b'\n');
    asked.push(b'\n');
    (packed, asked)
}

/// Whether git's rules for short names (gitrevisions(7)) find another reference under the full name.
fn is_ambiguous(name: &[u8], names: &BTreeSet<&[u8]>) -> bool {
    [
        ("refs/", ""),
        ("refs/tags/", ""),
        ("refs/heads/", ""),
        ("refs/remotes/", ""),
        ("refs/remotes/", "/HEAD"),
    ]
    .iter()
    .any(|(before, after)| {
        names.contains([before.as_bytes(), name, after.as_bytes()].concat().as_slice())
    })
}

/// A line of `objects/info/alternates`; quoted where the path would end it.
fn alternates_line(objects: &Path) -> Vec<u8> {
    let path = objects.as_os_str().as_bytes();
    let mut line = Vec::new();
    if path.contains(&b'\n') {
        line.push(b'"');
        for &c in path {
            match c {
                b'\n' => line.extend_from_slice(b"\\n"),
                b'"' | b'\\' => line.extend_from_slice(&[b'\\', c]),
                _ => line.push(c),
            }
        }
        line.push(b'"');
    } else {
        line.extend_from_slice(path);
    }
    line.push(b'\n');
    line
}
