//! What is backed up: a [`Source`] walks itself once and hands its items to a [`Sink`].
//!
//! Here are the traits between the two and the choice of source for a path. Each kind of source has
//! a module of its own; chunking, sealing and item encoding are the sink's business.

pub mod directory;
pub mod estimate;
pub mod git;
mod walk;

#[cfg(test)]
pub(crate) mod testing;

use protocol::item::{ChunkRef, Meta, SourceKind, Stamp};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use directory::DirectorySource;
pub use estimate::Estimate;
pub use git::GitSource;

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
    /// Its content.
    pub chunks: Vec<ChunkRef>,
}

/// Where a source's items go.
pub trait Sink {
    /// Takes a directory; its children follow.
    fn directory(&mut self, meta: Meta) -> Result<(), SinkError>;

    /// Takes a symbolic link.
    fn symlink(&mut self, meta: Meta, target: Vec<u8>) -> Result<(), SinkError>;

    /// Reads `content` to its end and returns the bytes read. After [`SinkError::Read`] nothing was
    /// written and the source may go on.
    fn file(&mut self, meta: Meta, stamp: Stamp, content: &mut dyn Read) -> Result<u64, SinkError>;

    /// Takes a file with the content that it had before. `Ok(false)`: its chunks are not known (any
    /// more), nothing was written; read it again.
    fn unchanged(
        &mut self,
        meta: Meta,
        previous: PreviousFile,
        stamp: Stamp,
    ) -> Result<bool, SinkError>;
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
    /// Paths that are not in the snapshot, or not wholly, and why.
    pub failed: Vec<(String, String)>,
    /// For [`Previous::state`] of the next run, once this snapshot is committed.
    pub state: Vec<u8>,
    /// What people should know and nothing failed at.
    pub notes: Vec<String>,
}

impl Report {
    fn fail(&mut self, path: &[u8], reason: impl std::fmt::Display) {
        self.failed.push((String::from_utf8_lossy(path).into_owned(), reason.to_string()));
    }

    fn note(&mut self, path: &[u8], what: &str) {
        self.notes.push(format!("{}: {what}", String::from_utf8_lossy(path)));
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
    /// The path is a file.
    #[error("{}: not a directory; back up the directory that it is in", .0.display())]
    NotADirectory(PathBuf),
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
/// tree), else, or when `as_directory` says so, the directory tree.
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
