//! What is backed up: a [`Source`] walks itself once and hands its items to a [`Sink`].
//!
//! Here are the traits between the two and the choice of source for a path. Each kind of source has
//! a module of its own; chunking, sealing and item encoding are the sink's business.

pub(crate) mod attributes;
pub mod directory;
pub mod estimate;
pub mod git;
mod links;
mod rules;
pub(crate) mod sparse;
mod stream;
mod walk;

#[cfg(test)]
pub(crate) mod testing;

use crate::capped::{Faults, NAMED_MAX};
use protocol::item::{Attribute, ChunkRef, Meta, NodeKind, SourceKind, Stamp};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use directory::DirectorySource;
pub use estimate::Estimate;
pub use git::GitSource;
pub use links::{Inode, Links};
pub use rules::{RuleError, Rules};
pub use stream::{Input, Stream, StreamNameError, StreamSource};

use crate::git::GitError;

/// Longest path of an item, in bytes. Linux bounds what one call takes (4096), not how deep a
/// tree grows; what is longer is reported as failed.
pub use protocol::item::PATH_LEN_MAX;

/// Something that can be backed up.
pub trait Source: Send {
    /// What kind of source this is.
    fn kind(&self) -> SourceKind;

    /// The canonical path, for people.
    fn name(&self) -> String;

    /// Says what of a directory tree is left out.
    fn leave_out(&mut self, _: &Arc<Rules>) {}

    /// Walks the source once, in [`protocol::item::path_cmp`] order, and asks `previous` for
    /// increasing paths.
    fn run(
        &mut self,
        previous: &mut dyn Previous,
        sink: &mut dyn Sink,
    ) -> Result<Report, SourceError>;
}

/// The last snapshot of a source.
pub trait Previous {
    /// The file that it held at `path`; called with increasing paths.
    fn file(&mut self, path: &[u8]) -> Option<PreviousFile>;

    /// What the source left in [`Report::state`] with the last *committed* snapshot.
    fn state(&self) -> Option<&[u8]>;
}

/// A file as the last snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousFile {
    /// Its metadata.
    pub meta: Meta,
    /// What it looked like on disk.
    pub stamp: Stamp,
    /// Bytes.
    pub size: u64,
    /// Its content, without the holes.
    pub chunks: Vec<ChunkRef>,
    /// Where it has none, in order.
    pub holes: Vec<Hole>,
    /// Its extended attributes, by name.
    pub attributes: Vec<Attribute>,
}

/// Zeros of a file that take no space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Where in the file.
    pub at: u64,
    /// How many bytes.
    pub len: u64,
}

/// A file's bytes, with the holes between them.
pub trait Content: Read {
    /// After `read` gave nothing: how long the hole is that follows, which is then passed; 0 at the file's end.
    fn hole(&mut self) -> io::Result<u64>;
}

/// Content without holes.
struct Dense<'a>(&'a mut dyn Read);

impl Read for Dense<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Content for Dense<'_> {
    fn hole(&mut self) -> io::Result<u64> {
        Ok(0)
    }
}

/// A special file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Of a device its number; else 0.
    pub major: u32,
    /// The other half of it.
    pub minor: u32,
}

/// What became of a further name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// It was written, with the content of the first.
    Taken,
    /// The content is not held (any more); it must be read again.
    Unknown,
    /// The file is not any more what it was under its first name; it must be read as one of its own.
    Changed,
}

/// Where a source's items go.
pub trait Sink {
    /// The extended attributes of the item that the next call is about, by increasing names. Whatever that call
    /// answers, they are gone then.
    fn attributes(&mut self, attributes: Vec<Attribute>);

    /// The file that the next call is about has other names. Whatever that call answers, this is gone then.
    fn shared(&mut self, inode: Inode);

    /// Takes a directory; its children follow.
    fn directory(&mut self, meta: Meta) -> Result<(), SinkError>;

    /// Takes a symbolic link.
    fn symlink(&mut self, meta: Meta, target: Vec<u8>) -> Result<(), SinkError>;

    /// Takes a special file.
    fn node(&mut self, meta: Meta, node: Node) -> Result<(), SinkError>;

    /// As [`Sink::sparse_file`], for content without holes.
    fn file(&mut self, meta: Meta, stamp: Stamp, content: &mut dyn Read) -> Result<u64, SinkError> {
        self.sparse_file(meta, stamp, &mut Dense(content))
    }

    /// Reads `content` to its end and returns the bytes read, holes included. After [`SinkError::Read`] nothing
    /// was written and the source may go on.
    fn sparse_file(
        &mut self,
        meta: Meta,
        stamp: Stamp,
        content: &mut dyn Content,
    ) -> Result<u64, SinkError>;

    /// Takes a file with the content and the attributes that it had before. `Ok(false)`: its chunks are not known
    /// (any more), nothing was written; read it again.
    fn unchanged(
        &mut self,
        meta: Meta,
        previous: PreviousFile,
        stamp: Stamp,
    ) -> Result<bool, SinkError>;

    /// Whether [`Sink::unchanged`] would take it.
    fn knows(&mut self, previous: &PreviousFile) -> Result<bool, SinkError>;

    /// Takes a further name of a file that was taken after [`Sink::shared`].
    fn link(&mut self, meta: &Meta, size: u64, inode: Inode) -> Result<Linked, SinkError>;
}

/// Why a sink did not take an item.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The content could not be read; the item was not written.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The backup must end.
    #[error("{0}")]
    Stopped(String),
}

/// What a run has to say beside its items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Paths that are not in the snapshot, not wholly, or mixed from old and new, and why.
    pub failed: Faults,
    /// For [`Previous::state`] of the next run, once this snapshot is committed.
    pub state: Vec<u8>,
    /// What people should know and nothing failed at.
    pub notes: Vec<String>,
    /// Of notes on single paths: how many there are.
    noted: u64,
}

impl Report {
    fn fail(&mut self, path: &[u8], reason: impl std::fmt::Display) {
        self.failed.push((String::from_utf8_lossy(path).into_owned(), reason.to_string()));
    }

    fn note(&mut self, path: &[u8], what: &str) {
        self.noted += 1;
        if self.noted <= NAMED_MAX as u64 {
            self.notes.push(format!("{}: {what}", String::from_utf8_lossy(path)));
        }
    }

    /// All notes; how many paths are not named is the last one.
    #[must_use]
    pub fn into_notes(mut self) -> Vec<String> {
        if let Some(more) = self.noted.checked_sub(NAMED_MAX as u64).filter(|&more| more > 0) {
            self.notes.push(format!("{more} more like these"));
        }
        self.notes
    }
}

/// Why a source cannot be backed up at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The path cannot be opened.
    #[error("{}: {error}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The path is a device, a FIFO or a socket.
    #[error("{}: neither a folder nor a regular file; what comes from a pipe is backed up with --stdin", .0.display())]
    NotAFile(PathBuf),
    /// Standard input was read already.
    #[error("{0}: standard input cannot be read twice; run the whole command again")]
    InputGone(String),
    /// The command of a stream failed.
    #[error("{command}: {status}; no snapshot was written")]
    Command {
        /// The command.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The sink ended the backup.
    #[error("{0}")]
    Stopped(String),
    /// Git could not be run or failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A Git repository without the beginning of its history.
    #[error(
        "{}: a shallow clone: the older history is missing here. \
         Run `git fetch --unshallow` in it, then back up again",
        .0.display()
    )]
    Shallow(PathBuf),
    /// A Git repository that fetches missing objects when it needs them.
    #[error(
        "{}: a partial clone of {remote:?}: objects may be missing here. Run `git fetch --refetch --no-filter` in it, \
         remove remote.{remote}.promisor, remote.{remote}.partialclonefilter and extensions.partialclone \
         from its configuration, then back up again",
        path.display()
    )]
    Partial {
        /// The repository.
        path: PathBuf,
        /// The remote that has the missing objects.
        remote: String,
    },
    /// A pack of a Git repository, or its index, is damaged.
    #[error(
        "{}: {file} is damaged ({error}). \
         Run `git fsck --full` in it; fetch what is missing from a clone that is whole, then back up again",
        path.display()
    )]
    Damaged {
        /// The repository.
        path: PathBuf,
        /// The file in `objects/pack`.
        file: String,
        /// What is wrong with it.
        #[source]
        error: io::Error,
    },
    /// Git cannot read objects that references need.
    #[error(
        "{}: objects that its references need cannot be read ({message}). \
         Run `git fsck --full` in it; fetch what is missing or delete the broken references, then back up again",
        path.display()
    )]
    Missing {
        /// The repository.
        path: PathBuf,
        /// What git said.
        message: String,
    },
}

/// Chooses the source for `path`: a Git repository where it is the root of one (bare or with a work
/// tree), else, or when `as_directory` says so, the directory tree or the single file.
pub fn detect(path: &Path, as_directory: bool) -> Result<Box<dyn Source>, SourceError> {
    if !as_directory && git::is_repository(path) {
        Ok(Box::new(GitSource::open(path)?))
    } else {
        Ok(Box::new(DirectorySource::open(path)?))
    }
}

/// Turns a refusal into the run's end or, where the content alone was at fault, a failed path.
fn settle(
    result: Result<(), SinkError>,
    path: &[u8],
    report: &mut Report,
) -> Result<(), SourceError> {
    match result {
        Ok(()) => Ok(()),
        Err(SinkError::Read(error)) => {
            report.fail(path, error);
            Ok(())
        }
        Err(SinkError::Stopped(why)) => Err(SourceError::Stopped(why)),
    }
}

fn canonical(path: &Path) -> Result<PathBuf, SourceError> {
    path.canonicalize().map_err(|error| SourceError::Open { path: path.into(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_on_paths_end_somewhere_and_those_of_the_whole_do_not() {
        let mut report = Report::default();
        for _ in 0..NAMED_MAX + 7 {
            report.note(b"socket", "skipped");
        }
        report.notes.push("about all of it".into());
        let notes = report.into_notes();
        assert_eq!(notes.len(), NAMED_MAX + 2);
        assert_eq!(notes[NAMED_MAX..], ["about all of it", "7 more like these"]);
    }
}
