//! Which stripes no kept snapshot needs: everything that the index lists, less what the snapshots that are not forgotten
//! lead to. Nothing is guessed: where one of them cannot be followed to its end, or a node is silent that may know of another
//! one, nothing is given up.
//!
//! What stays besides: older places of chunks that were sent again, packs of sessions that have made no snapshot (they may be
//! running), and the index itself.

use super::extend::remember_released;
use super::index::Index;
use super::items::root_of;
use super::ledger::Ledger;
use super::mesh::{Caller, Mesh};
use super::packs::Packs;
use super::recipients::Identities;
use super::vault::Vault;
use super::walk::Walker;
use super::{ClientError, Result};
use crate::cli::progress::Counters;
use crate::home::Home;
use crate::service::wall;
use protocol::id::{SessionId, StripeId};
use protocol::item::ChunkRef;
use protocol::log::Body;
use protocol::release::{RELEASE_STRIPES_MAX, RELEASE_VALIDITY_MAX, ReleaseRequest};
use protocol::sign::{SecretKey, Signed};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What can be given up.
#[derive(Debug)]
pub struct Prune {
    /// The vault.
    pub vault: Vault,
    /// The mesh.
    pub mesh: Arc<Mesh>,
    /// Snapshots that are kept.
    pub snapshots: usize,
    /// Stripes of packs that stay.
    pub kept: usize,
    /// Those that no kept snapshot needs, in increasing order.
    pub unneeded: Vec<StripeId>,
    /// Those that one does need.
    needed: BTreeSet<StripeId>,
    /// Bytes of their data, without parity.
    pub bytes: u64,
}

impl Prune {
    /// Follows all snapshots that are kept.
    ///
    /// # Errors
    /// When a node is silent, a log has forked, or a snapshot cannot be followed to its end.
    pub async fn plan(
        home: &Home,
        vault: Vault,
        identities: &Identities,
        progress: &Arc<Counters>,
    ) -> Result<Self> {
        let mesh = Arc::new(Mesh::connect(home, Caller::device(&vault)).await?);
        if let Some(silent) = mesh.silent.keys().next() {
            let what = "it is silent, and could know of a snapshot that nobody else has listed";
            return Err(ClientError::node(*silent, what));
        }
        let ledger = Ledger::read(&mesh, &vault).await?;
        if let Some(device) = ledger.forked().into_iter().next() {
            let what = format!("the log of device {} has forked", device.short());
            return Err(ClientError::Content(what));
        }
        let mut packs = Packs::new(Arc::clone(&mesh), &vault);
        let index = Arc::new(Index::open(&vault.caches())?);
        packs.open_sessions(&ledger, identities)?;
        packs.sync_index(&ledger, &index).await?;
        let packs = Arc::new(packs);
        let mut walker = Walker::new(Arc::clone(&packs), Arc::clone(&index), Arc::clone(progress));
        let mut needed: BTreeSet<u64> = BTreeSet::new();
        let (mut done, mut snapshots) = (BTreeSet::<SessionId>::new(), 0);
        for logged in ledger.snapshots() {
            if let Body::Snapshot { session, .. } = &logged.entry.body {
                done.insert(*session);
            }
            if ledger.is_forgotten(logged) {
                continue;
            }
            snapshots += 1;
            let mut see = |chunk: &ChunkRef| {
                let newest = index.find(chunk.id)?.ok_or(ClientError::NoChunk(chunk.id))?;
                needed.insert(newest.pack);
                needed.extend(index.find_older(chunk.id)?.into_iter().map(|place| place.pack));
                Ok(true)
            };
            walker.walk(root_of(&packs, logged)?, &mut see).await?;
        }
        let stripes: Result<BTreeSet<StripeId>> =
            needed.iter().map(|&pack| Ok(index.pack(pack)?.stripe)).collect();
        let (needed, mut unneeded) = (stripes?, BTreeSet::new());
        let (mut kept, mut bytes) = (0, 0);
        index.each_pack(|pack| {
            if needed.contains(&pack.stripe) || !done.contains(&pack.session) {
                kept += 1;
            } else if unneeded.insert(pack.stripe) {
                bytes += u64::from(pack.k) * u64::from(pack.shard_len);
            }
        })?;
        let unneeded = unneeded.into_iter().collect();
        Ok(Self { vault, mesh, snapshots, kept, unneeded, needed, bytes })
    }

    /// The requests of the vault for what is not needed. From now on this host neither extends that nor takes it for known.
    ///
    /// # Errors
    /// When that cannot be remembered.
    pub fn requests(&self, key: &SecretKey) -> Result<Vec<Signed<ReleaseRequest>>> {
        remember_released(&self.vault, &self.unneeded, &self.needed)?;
        let (issued, expires) = (wall(), wall().after(RELEASE_VALIDITY_MAX).0 - 60_000);
        let request = |stripes: &[StripeId]| {
            let (vault, stripes) = (self.vault.id, stripes.to_vec());
            let expires = protocol::time::Wall(expires);
            Signed::sign(&ReleaseRequest { vault, issued, expires, stripes }, key)
        };
        Ok(self.unneeded.chunks(RELEASE_STRIPES_MAX).map(request).collect())
    }
}
