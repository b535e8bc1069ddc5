//! Restoring a Git repository: its items into a hidden folder beside the target, from which it is put together.
//!
//! The folder's name follows from snapshot and target, so that an interrupted restore is continued in it. It is locked while
//! somebody works in it, and goes when the repository is there or turns out to be damaged.

use super::{Action, Reader, RestoreOptions, RestoreSummary, Step};
use crate::cli::progress::Counters;
use crate::client::ledger::Logged;
use crate::client::{ClientError, Result};
use crate::restore::git::{GitRestoreError, GitRestored, assemble, export};
use crate::restore::tree::{Marker, Overwrite, TreeError, TreeOptions};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ITEMS: &str = "items";
const LOCK: &str = "lock";

/// The hidden folder, locked.
struct Staging {
    path: PathBuf,
    _lock: File,
}

fn place(snapshot: &Logged, target: &Path) -> PathBuf {
    let name = blake3::hash(target.file_name().unwrap_or_default().as_bytes()).to_hex();
    let name = format!(".strewn-partial-{}-{}", snapshot.id.short(), &name[..16]);
    target.with_file_name(name)
}

fn tree_options(snapshot: &Logged) -> TreeOptions {
    let id = snapshot.id.to_string();
    let marker = Marker::new(&id, &format!("snapshot {id}, items of a repository"));
    // Nobody else writes there: what has the right size and time is the item.
    TreeOptions { overwrite: Some(Overwrite::IfChanged), marker: Some(marker), is_scratch: true }
}

impl Staging {
    fn take(path: PathBuf) -> Result<Self> {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let failed = |error| TreeError::Target { path: path.clone(), error };
        let found = fs::symlink_metadata(&path).map_err(failed)?;
        let us = rustix::process::geteuid().as_raw();
        if !found.is_dir() || found.uid() != us || found.mode() & 0o077 != 0 {
            return Err(failed(io::ErrorKind::PermissionDenied.into()).into());
        }
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| TreeError::Busy(path.clone()))?;
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // Half a repository of an earlier try is put together anew.
            if entry.file_name() != ITEMS && entry.file_name() != LOCK {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        Ok(Self { path, _lock: lock })
    }

    fn remove(self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.path)?)
    }
}

impl Reader {
    pub(super) async fn restore_repository(
        &self,
        snapshot: &Logged,
        target: &Path,
        options: &RestoreOptions,
        progress: &Arc<Counters>,
    ) -> Result<RestoreSummary> {
        let target = &std::path::absolute(target)?;
        check_free(target)?;
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let staging = Staging::take(place(snapshot, target))?;
        let items = staging.path.join(ITEMS);
        let tree = tree_options(snapshot);
        let (mut summary, _) = self.restore_tree(snapshot, &items, &tree, &[], progress).await?;
        if let Some((item, why)) = summary.failed.first() {
            // What is here stays, for another try.
            return Err(ClientError::Content(format!("item {item} of the repository: {why}")));
        }
        let assembled = tokio::task::block_in_place(|| {
            if options.as_bundle {
                export(&items, target)
            } else {
                assemble(&items, target, options.verify)
            }
        });
        staging.remove()?;
        let restored: GitRestored = assembled?;
        summary.refs = Some(restored.refs);
        summary.notes.extend(restored.notes);
        // Git has looked at every object, and at every reference.
        summary.verified = options.verify.then_some(summary.items);
        Ok(summary)
    }

    pub(super) async fn plan_repository(
        &self,
        snapshot: &Logged,
        target: &Path,
        tell: &mut (dyn FnMut(Step<'_>) + Send),
    ) -> Result<RestoreSummary> {
        let absolute = std::path::absolute(target)?;
        check_free(&absolute)?;
        let items = place(snapshot, &absolute).join(ITEMS);
        let summary =
            self.plan_tree(snapshot, &items, &tree_options(snapshot), &[], &mut |_| {}).await?;
        let path = target.as_os_str().as_bytes();
        tell(Step { action: Action::Restore, path, size: summary.bytes });
        Ok(summary)
    }
}

/// Before anything is fetched: a repository is put where nothing is.
fn check_free(target: &Path) -> Result<()> {
    match fs::read_dir(target).map(|mut entries| entries.next().is_some()) {
        Ok(false) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(true) | Err(_) => Err(ClientError::Git(GitRestoreError::Exists(target.into()))),
    }
}
