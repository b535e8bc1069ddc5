//! The steps that make things durable, each in one place: a test watches their order and lets one fail.

use super::{StoreError, state_error};
use redb::WriteTransaction;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// A step that is about to be taken.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests look at what a step is about"))]
pub(super) enum Step<'a> {
    SyncFile(&'a Path),
    Place(&'a Path),
    Rename(&'a Path),
    SyncFolder(&'a Path),
    Commit,
}

/// Told of each step; its error is the step's.
pub(super) type Watch = Box<dyn Fn(Step<'_>) -> io::Result<()> + Send + Sync>;

#[derive(Default)]
pub(super) struct Steps(Option<Watch>);

impl Steps {
    #[cfg(test)]
    pub(super) fn watched(watch: Watch) -> Self {
        Self(Some(watch))
    }

    fn tell(&self, step: Step<'_>) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |watch| watch(step))
    }

    pub(super) fn sync_file(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        let synced = self.tell(Step::SyncFile(path)).and_then(|()| file.sync_all());
        synced.map_err(StoreError::io(path))
    }

    /// Gives a file its name in the store. The name under which it arrived stays where that is possible:
    /// until it is removed, the next start sees that the rows may be missing.
    pub(super) fn place(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let placed = self.tell(Step::Place(to)).and_then(|()| {
            // A name that is taken, and file systems without links.
            fs::hard_link(from, to).or_else(|_| fs::rename(from, to))
        });
        placed.map_err(StoreError::io(to))
    }

    /// Gives a file another name; the error is about the one that it goes by now.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let renamed = self.tell(Step::Rename(to)).and_then(|()| fs::rename(from, to));
        renamed.map_err(StoreError::io(from))
    }

    pub(super) fn sync_folder(&self, path: &Path) -> Result<(), StoreError> {
        let synced = self.tell(Step::SyncFolder(path)).and_then(|()| File::open(path)?.sync_all());
        synced.map_err(StoreError::io(path))
    }

    pub(super) fn commit(&self, write: WriteTransaction) -> Result<(), StoreError> {
        self.tell(Step::Commit).map_err(state_error)?;
        write.commit().map_err(state_error)
    }
}
