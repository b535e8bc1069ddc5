//! A vault in memory, and real repositories, for the tests of sources and restore.

use super::{
    Content, Hole, Inode, Linked, Links, Node, Previous, PreviousFile, Report, Sink, SinkError,
    Source, SourceError,
};
use crate::restore::tree::{Begun, TreeOptions, TreeReport, TreeWriter};
use protocol::id::ChunkId;
use protocol::item::{Attribute, ChunkRef, Meta, Stamp, path_cmp};
use rustix::fs::{Gid, Uid};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Chunks this small make every file more than one.
const CHUNK: usize = 1000;

pub(crate) enum Entry {
    Directory(Meta, Vec<Attribute>),
    Symlink(Meta, Vec<u8>, Vec<Attribute>),
    Node(Meta, Node, Vec<Attribute>),
    File {
        meta: Meta,
        file: PreviousFile,
        reused: bool,
    },
    /// One more name of the file at this path.
    Link(Meta, Vec<u8>),
}

impl Entry {
    pub(crate) fn meta(&self) -> &Meta {
        match self {
            Self::Directory(meta, _)
            | Self::Symlink(meta, _, _)
            | Self::Node(meta, _, _)
            | Self::Link(meta, _)
            | Self::File { meta, .. } => meta,
        }
    }
}

#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) entries: Vec<Entry>,
    pub(crate) report: Report,
}

/// What happens while a file is being read.
type Meanwhile = Box<dyn FnMut(&str) + Send + Sync>;

/// Keeps chunks; forgets them when a test says so.
#[derive(Default)]
pub(crate) struct Vault {
    chunks: BTreeMap<[u8; 32], Vec<u8>>,
    /// Called with the path of every file while it is being read, after its first bytes.
    pub(crate) meanwhile: Option<Meanwhile>,
    /// Bytes that were read of files.
    pub(crate) read: u64,
    /// The path at which the backup ends.
    pub(crate) stop_at: Option<String>,
}

struct Before<'a> {
    snapshot: Option<&'a Snapshot>,
    asked: Vec<u8>,
}

impl Previous for Before<'_> {
    fn file(&mut self, path: &[u8]) -> Option<PreviousFile> {
        assert_eq!(path_cmp(&self.asked, path), Ordering::Less, "asked for increasing paths");
        self.asked = path.to_vec();
        self.snapshot?.file(path).cloned()
    }

    fn state(&self) -> Option<&[u8]> {
        self.snapshot.map(|snapshot| snapshot.report.state.as_slice())
    }
}

struct Taking<'a> {
    vault: &'a mut Vault,
    entries: Vec<Entry>,
    attributes: Vec<Attribute>,
    shared: Option<Inode>,
    links: Links<PreviousFile>,
}

impl Taking<'_> {
    fn take(&mut self, entry: Entry) {
        if let Some(last) = self.entries.last() {
            let order = path_cmp(&last.meta().path.0, &entry.meta().path.0);
            assert_eq!(order, Ordering::Less, "{:?}", entry.meta().path.0);
        }
        self.entries.push(entry);
    }
}

impl Sink for Taking<'_> {
    fn attributes(&mut self, attributes: Vec<Attribute>) {
        assert!(attributes.is_sorted_by(|a, b| a.name < b.name));
        self.attributes = attributes;
    }

    fn shared(&mut self, inode: Inode) {
        self.shared = Some(inode);
    }

    fn directory(&mut self, meta: Meta) -> Result<(), SinkError> {
        let attributes = std::mem::take(&mut self.attributes);
        self.take(Entry::Directory(meta, attributes));
        Ok(())
    }

    fn symlink(&mut self, meta: Meta, target: Vec<u8>) -> Result<(), SinkError> {
        let attributes = std::mem::take(&mut self.attributes);
        self.take(Entry::Symlink(meta, target, attributes));
        Ok(())
    }

    fn node(&mut self, meta: Meta, node: Node) -> Result<(), SinkError> {
        let attributes = std::mem::take(&mut self.attributes);
        self.take(Entry::Node(meta, node, attributes));
        Ok(())
    }

    fn sparse_file(
        &mut self,
        meta: Meta,
        stamp: Stamp,
        content: &mut dyn Content,
    ) -> Result<u64, SinkError> {
        let (attributes, shared) = (std::mem::take(&mut self.attributes), self.shared.take());
        let path = String::from_utf8_lossy(&meta.path.0).into_owned();
        if self.vault.stop_at.as_ref() == Some(&path) {
            return Err(SinkError::Stopped("no more".into()));
        }
        let (mut size, mut chunks, mut holes) = (0, Vec::new(), Vec::new());
        let mut first = [0; 1];
        let n = content.read(&mut first).map_err(SinkError::Read)?;
        if let Some(meanwhile) = &mut self.vault.meanwhile {
            meanwhile(&path);
        }
        let mut bytes = first[..n].to_vec();
        loop {
            content.read_to_end(&mut bytes).map_err(SinkError::Read)?;
            size += bytes.len() as u64;
            self.vault.read += bytes.len() as u64;
            for chunk in bytes.chunks(CHUNK) {
                let id = *blake3::hash(chunk).as_bytes();
                self.vault.chunks.insert(id, chunk.to_vec());
                chunks.push(ChunkRef { id: ChunkId(id), len: u32::try_from(chunk.len()).unwrap() });
            }
            let len = content.hole().map_err(SinkError::Read)?;
            if len == 0 {
                break;
            }
            holes.push(Hole { at: size, len });
            size += len;
            bytes.clear();
        }
        let file = PreviousFile { meta: meta.clone(), stamp, size, chunks, holes, attributes };
        if let Some(inode) = shared {
            self.links.begin(inode, file.clone());
        }
        self.take(Entry::File { meta, file, reused: false });
        Ok(size)
    }

    fn unchanged(
        &mut self,
        meta: Meta,
        previous: PreviousFile,
        stamp: Stamp,
    ) -> Result<bool, SinkError> {
        let shared = self.shared.take();
        if !self.knows(&previous)? {
            return Ok(false);
        }
        let file = PreviousFile { meta: meta.clone(), stamp, ..previous };
        if let Some(inode) = shared {
            self.links.begin(inode, file.clone());
        }
        self.take(Entry::File { meta, file, reused: true });
        Ok(true)
    }

    fn knows(&mut self, previous: &PreviousFile) -> Result<bool, SinkError> {
        Ok(previous.chunks.iter().all(|chunk| self.vault.chunks.contains_key(&chunk.id.0)))
    }

    fn link(&mut self, meta: &Meta, size: u64, inode: Inode) -> Result<Linked, SinkError> {
        let Some(first) = self.links.get(inode) else { return Ok(Linked::Unknown) };
        if (first.size, first.meta.mtime) != (size, meta.mtime) {
            self.links.forget(inode);
            return Ok(Linked::Changed);
        }
        let path = first.meta.path.0.clone();
        self.links.next(inode);
        self.take(Entry::Link(meta.clone(), path));
        Ok(Linked::Taken)
    }
}

impl Vault {
    pub(crate) fn try_back_up(
        &mut self,
        source: &mut dyn Source,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, SourceError> {
        let mut before = Before { snapshot: previous, asked: Vec::new() };
        let mut taking = Taking {
            vault: self,
            entries: Vec::new(),
            attributes: Vec::new(),
            shared: None,
            links: Links::default(),
        };
        let report = source.run(&mut before, &mut taking)?;
        assert!(taking.shared.is_none() && taking.attributes.is_empty());
        Ok(Snapshot { entries: taking.entries, report })
    }

    pub(crate) fn back_up(
        &mut self,
        source: &mut dyn Source,
        previous: Option<&Snapshot>,
    ) -> Snapshot {
        self.try_back_up(source, previous).unwrap()
    }

    /// Forgets what the file at `path` is made of.
    pub(crate) fn forget(&mut self, snapshot: &Snapshot, path: &str) {
        for chunk in &snapshot.file(path.as_bytes()).unwrap().chunks {
            self.chunks.remove(&chunk.id.0);
        }
    }

    pub(crate) fn content(&self, file: &PreviousFile) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.size).unwrap()];
        for (at, chunk) in self.placed(file) {
            bytes[usize::try_from(at).unwrap()..][..chunk.len()].copy_from_slice(chunk);
        }
        bytes
    }

    /// A file's chunks, and where they go.
    fn placed<'a>(&'a self, file: &'a PreviousFile) -> Vec<(u64, &'a [u8])> {
        let (mut at, mut holes) = (0, file.holes.iter().peekable());
        let mut placed = Vec::new();
        for chunk in &file.chunks {
            while let Some(hole) = holes.next_if(|hole| hole.at == at) {
                at += hole.len;
            }
            placed.push((at, &self.chunks[&chunk.id.0][..]));
            at += u64::from(chunk.len);
        }
        placed
    }

    pub(crate) fn text(&self, snapshot: &Snapshot, path: &str) -> String {
        String::from_utf8(self.content(snapshot.file(path.as_bytes()).unwrap())).unwrap()
    }

    /// Writes the whole snapshot below `target`, every file from its end to its beginning.
    pub(crate) fn restore(&self, snapshot: &Snapshot, target: &Path) -> TreeReport {
        let mut writer = TreeWriter::new(target, &TreeOptions::default()).unwrap();
        for entry in &snapshot.entries {
            let attributes = match entry {
                Entry::Directory(_, all) | Entry::Symlink(_, _, all) | Entry::Node(_, _, all) => {
                    all
                }
                Entry::File { file, .. } => &file.attributes,
                Entry::Link(..) => &Vec::new(),
            };
            for attribute in attributes {
                writer.attribute(attribute.clone());
            }
            match entry {
                Entry::Directory(meta, _) => writer.directory(meta.clone()).unwrap(),
                Entry::Symlink(meta, to, _) => assert!(writer.symlink(meta, to).unwrap()),
                Entry::Node(meta, node, _) => assert!(writer.node(meta, *node).unwrap()),
                Entry::Link(meta, first) => assert!(writer.link(meta, first).unwrap()),
                Entry::File { meta, file, .. } => {
                    let Begun::Write(open) = writer.begin_file(meta, file.size).unwrap() else {
                        panic!("something is in its place")
                    };
                    for (at, chunk) in self.placed(file).into_iter().rev() {
                        open.body().write_at(at, chunk).unwrap();
                    }
                    assert!(writer.finish_file(*open).unwrap());
                }
            }
        }
        writer.finish(true).unwrap()
    }
}

impl Snapshot {
    pub(crate) fn entry(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.meta().path.0 == path)
    }

    pub(crate) fn file(&self, path: &[u8]) -> Option<&PreviousFile> {
        match self.entry(path)? {
            Entry::File { file, .. } => Some(file),
            _ => None,
        }
    }

    pub(crate) fn is_reused(&self, path: &str) -> bool {
        matches!(self.entry(path.as_bytes()), Some(Entry::File { reused: true, .. }))
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        let lossy = |entry: &Entry| String::from_utf8_lossy(&entry.meta().path.0).into_owned();
        self.entries.iter().map(lossy).collect()
    }

    pub(crate) fn bundles(&self) -> usize {
        self.paths().iter().filter(|path| path.ends_with(".bundle")).count()
    }
}

/// Runs something without the rights of root, also when root runs it: on a thread of its own, whose user is
/// another. `dir` becomes that user's.
pub(crate) fn as_nobody<T: Send>(dir: &Path, work: impl FnOnce() -> T + Send) -> T {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return work();
    }
    let _ = Command::new("chown").args(["-R", "65534:65534"]).arg(dir).status().unwrap();
    std::thread::scope(|scope| {
        let as_other = move || {
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            work()
        };
        scope.spawn(as_other).join().unwrap()
    })
}

/// A real repository, made by the real program.
pub(crate) struct Repo {
    dir: TempDir,
    pub(crate) path: PathBuf,
}

impl Repo {
    pub(crate) fn new() -> Self {
        Self::init(&[])
    }

    pub(crate) fn init(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo");
        let repo = Self { dir, path };
        std::fs::create_dir(&repo.path).unwrap();
        repo.git(&[&["init", "-q", "-b", "main"], options, &["."]].concat());
        repo
    }

    /// A directory beside it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        run_git(&self.path, args)
    }

    /// Commits `content` as the file `name` on the current branch.
    pub(crate) fn commit(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path.join(name), content).unwrap();
        self.git(&["add", name]);
        self.git(&["commit", "-q", "-m", name]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// Runs git as a person would, with an identity.
pub(crate) fn run_git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args([
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@example.org",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
