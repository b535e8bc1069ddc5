//! Restoring: the item stream in order, files in windows, each pack of a window read once (`fill`).
//!
//! **Interruption.** A restore can be killed at any moment, and the same command goes on where it was. A file has its final
//! name only when it is whole; what is not whole lies beside it under a name that follows from its own, so that
//! it is found again. A marker in the target names the snapshot and the selection (`restore::tree::marker`): it
//! makes a target that is not empty acceptable without `--overwrite`, keeps a second restore out, and goes at the
//! very end. When a restore goes on,
//!
//! - a file with the right size and time is whole and is not looked at again (after a crash of the whole machine, which
//!   may have kept its name and lost its bytes, it is read and compared);
//! - of a file that is not whole, and of one that is to be replaced, each chunk counts only if its bytes have the chunk's
//!   name; what has not is fetched;
//! - a Git repository has its items in a hidden folder beside the target, which is such a restore itself (`repository`).
//!
//! **Overwriting** is the same thing: of a file that is there already, chunks that are the same are copied from it, the
//! rest is fetched, and the new file replaces it as a whole; one that is the same all over is left alone.
//!
//! [`Reader::plan`] says what would be done and writes nothing (`plan`). With `verify`, everything is read again from
//! the disk at the end (`verify`).

mod fill;
mod paths;
mod plan;
mod repository;
mod verify;

pub use plan::{Action, Step};

use super::backup::SnapshotInfo;
use super::index::Index;
use super::items::{Items, Stream, root_of};
use super::ledger::{Ledger, Logged};
use super::mesh::{Caller, Mesh};
use super::opened::{KEPT_FOLLOWING, Opened};
use super::packs::Packs;
use super::recipients::Identities;
use super::vault::Vault;
use super::{ClientError, Result};
use crate::capped::Faults;
use crate::cli::progress::Counters;
use crate::home::Home;
use crate::restore::git::GitRestoreError;
use crate::restore::tree::{Marker, Overwrite, TreeOptions, TreeWriter};
use fill::{Filling, is_of_content};
use paths::Paths;
use protocol::item::{Item, Meta, SourceKind};
use protocol::log::SnapshotPart;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// What a restore is asked to do.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Only what lies at or below these paths.
    pub paths: Vec<Vec<u8>>,
    /// Write into a folder that is not empty, by this rule.
    pub overwrite: Option<Overwrite>,
    /// Read everything again from the disk at the end.
    pub verify: bool,
    /// Of a Git repository, write the plain bundles.
    pub as_bundle: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RestoreSummary {
    /// The snapshot.
    pub snapshot: String,
    /// Where it went.
    pub target: String,
    /// Nothing was written: this is what would be done.
    pub dry_run: bool,
    /// Whether it went on where an interrupted restore was.
    pub resumed: bool,
    /// Items restored, those included that were there already.
    pub items: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Bytes of them that holders were asked for.
    pub fetched_bytes: u64,
    /// Files that were there already and are the same.
    pub unchanged: u64,
    /// Items in whose place something else is and was kept.
    pub kept: u64,
    /// For a Git repository: its refs.
    pub refs: Option<u64>,
    /// Items that were read again and compared.
    pub verified: Option<u64>,
    /// Those that are not as they should be, and why.
    pub differs: Faults,
    /// What people should know.
    pub notes: Vec<String>,
    /// What could not be done, and why.
    pub failed: Faults,
}

/// A vault, open for reading.
#[derive(Debug)]
pub struct Reader {
    /// The vault.
    pub vault: Arc<Vault>,
    /// The mesh.
    pub mesh: Arc<Mesh>,
    /// Its logs.
    pub ledger: Ledger,
    pub(super) index: Arc<Index>,
    pub(super) packs: Arc<Packs>,
}

/// What a snapshot says of itself, as far as this device can open it.
pub fn info_of(vault: &Vault, logged: &Logged) -> Option<SnapshotInfo> {
    let plain = SnapshotPart::Summary.open(&vault.secret.catalog_key(), &logged.entry).ok()?;
    protocol::codec::decode(&plain, 64 << 10).ok()
}

impl Reader {
    /// Connects and learns what is there. With identities, snapshots can be read.
    pub async fn open(home: &Home, vault: Vault, identities: Option<&Identities>) -> Result<Self> {
        let mesh = Arc::new(Mesh::connect_to_read(home, Caller::device(&vault)).await?);
        let ledger = Ledger::read(&mesh, &vault).await?;
        let mut packs = Packs::new(Arc::clone(&mesh), &vault);
        let index = Index::open(&vault.caches())?;
        if let Some(identities) = identities {
            packs.open_sessions(&ledger, identities)?;
            packs.sync_index(&ledger, &index).await?;
        }
        let (vault, index, packs) = (Arc::new(vault), Arc::new(index), Arc::new(packs));
        Ok(Self { vault, mesh, ledger, index, packs })
    }

    /// Gives nodes of others receipts for what was read.
    pub async fn close(&self) {
        self.mesh.acknowledge(&self.vault).await;
    }

    /// Restores a snapshot into `target`.
    pub async fn restore(
        &self,
        snapshot: &Logged,
        target: &Path,
        options: &RestoreOptions,
        progress: &Arc<Counters>,
    ) -> Result<RestoreSummary> {
        let info = self.info(snapshot)?;
        progress.expect(info.items, info.bytes);
        if info.kind == SourceKind::Git {
            check_whole(options)?;
            return self.restore_repository(snapshot, target, options, progress).await;
        }
        if options.as_bundle {
            return Err(GitRestoreError::NoRepository.into());
        }
        let tree = tree_options(snapshot, options);
        let (mut summary, kept) =
            self.restore_tree(snapshot, target, &tree, &options.paths, progress).await?;
        if options.verify {
            let found = self.verify(snapshot, target, &options.paths, &kept).await?;
            summary.verified = Some(found.items);
            summary.differs = found.differs;
        }
        Ok(summary)
    }

    /// What [`Reader::restore`] would do; each item is told to `tell` first. Nothing is written.
    pub async fn plan(
        &self,
        snapshot: &Logged,
        target: &Path,
        options: &RestoreOptions,
        tell: &mut (dyn FnMut(Step<'_>) + Send),
    ) -> Result<RestoreSummary> {
        if self.info(snapshot)?.kind == SourceKind::Git {
            check_whole(options)?;
            return self.plan_repository(snapshot, target, tell).await;
        }
        let tree = tree_options(snapshot, options);
        self.plan_tree(snapshot, target, &tree, &options.paths, tell).await
    }

    fn info(&self, snapshot: &Logged) -> Result<SnapshotInfo> {
        info_of(&self.vault, snapshot)
            .ok_or_else(|| ClientError::Content("the snapshot's summary cannot be opened".into()))
    }

    /// Also gives the paths of the items in whose place something else was kept.
    async fn restore_tree(
        &self,
        snapshot: &Logged,
        target: &Path,
        options: &TreeOptions,
        paths: &[Vec<u8>],
        progress: &Arc<Counters>,
    ) -> Result<(RestoreSummary, Paths)> {
        let mut items = self.items(snapshot).await?;
        let mut filling = Filling::new(self, TreeWriter::new(target, options)?, progress);
        let mut lost = None;
        while let Some(item) = next_readable(&mut items, &mut lost).await? {
            if item.meta().is_some_and(|meta| !is_wanted(meta, paths)) {
                filling.skip();
            } else {
                filling.take(item).await?;
            }
        }
        if let Some(why) = lost {
            filling.lose_rest(&why);
        }
        filling.finish().await
    }

    /// A snapshot's items, in order.
    async fn items(&self, snapshot: &Logged) -> Result<Items> {
        let (packs, index) = (Arc::clone(&self.packs), Arc::clone(&self.index));
        let opened = Opened::new(packs, index, KEPT_FOLLOWING);
        let stream = Stream::open(&opened, root_of(&self.packs, snapshot)?).await?;
        Ok(Items::new(opened, Arc::new(stream)))
    }
}

/// The next item. Where the list of items cannot be read on, it ends, and `lost` says why: nobody knows what else there is,
/// and what was listed before is not lost by that.
async fn next_readable(items: &mut Items, lost: &mut Option<ClientError>) -> Result<Option<Item>> {
    match items.next().await {
        Err(error) if is_of_content(&error) => {
            *lost = Some(error);
            Ok(None)
        }
        next => next,
    }
}

fn check_whole(options: &RestoreOptions) -> Result<()> {
    if options.paths.is_empty() {
        return Ok(());
    }
    Err(ClientError::NoSnapshot(
        "of which single paths can be restored: it is a Git repository; restore all of it".into(),
    ))
}

/// The same command, and only that, goes on where it was interrupted.
fn tree_options(snapshot: &Logged, options: &RestoreOptions) -> TreeOptions {
    let mut hasher = blake3::Hasher::new();
    for path in &options.paths {
        hasher.update(&(path.len() as u64).to_le_bytes()).update(path);
    }
    let (id, paths) = (snapshot.id.to_string(), hasher.finalize().to_hex());
    let command =
        format!("snapshot {id}, overwriting {:?}, selection {}", options.overwrite, &paths[..32]);
    TreeOptions {
        overwrite: options.overwrite,
        marker: Some(Marker::new(&id, &command)),
        ..TreeOptions::default()
    }
}

/// Whether an item lies at or below one of the paths, or is a folder above one.
fn is_wanted(meta: &Meta, paths: &[Vec<u8>]) -> bool {
    let path = &meta.path.0;
    let below = |outer: &[u8], inner: &[u8]| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    paths.is_empty() || paths.iter().any(|wanted| below(wanted, path))
}
