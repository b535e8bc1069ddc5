//! Which stripes no kept snapshot needs: everything that the index lists, less what the snapshots that are not forgotten
//! lead to. Nothing is guessed: where one of them cannot be followed to its end, or one that is held widely could be known to silent nodes
//! alone ([`protocol::log::is_all_told`]), nothing is given up.
//!
//! What is given up is said in the vault's log before any holder is asked, and then it is looked for snapshots that came
//! meanwhile: who backs up writes its snapshot first, and then looks for what was given up. So one of the two sees the other.
//!
//! What stays besides: older places of chunks that were sent again, packs of sessions that may be running (they have made no
//! snapshot, and wrote something lately), and the index itself.

use super::given_up::say;
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
use protocol::given_up::{has_ended, unneeded};
use protocol::id::{ChunkId, EntryId, NodeId, SessionId, StripeId};
use protocol::item::ChunkRef;
use protocol::label::Site;
use protocol::log::{Body, is_all_told};
use protocol::release::{RELEASE_STRIPES_MAX, RELEASE_VALIDITY_MAX, ReleaseRequest};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Wall;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often snapshots may come while something is given up, before it is tried another day.
const ROUNDS: usize = 8;

/// What can be given up.
pub struct Prune<'a> {
    /// The vault.
    pub vault: Vault,
    /// The mesh.
    pub mesh: Arc<Mesh>,
    /// Snapshots that are kept.
    pub snapshots: usize,
    /// Stripes of packs that stay.
    pub kept: usize,
    /// Those that no kept snapshot needs.
    pub unneeded: BTreeSet<StripeId>,
    /// Bytes of their data, without parity.
    pub bytes: u64,
    identities: &'a Identities,
    progress: Arc<Counters>,
    ledger: Ledger,
    index: Arc<Index>,
    /// Kept snapshots that were followed.
    followed: BTreeSet<EntryId>,
    /// Packs that they need.
    needed: BTreeSet<u64>,
}

impl<'a> Prune<'a> {
    /// Follows all snapshots that are kept.
    ///
    /// # Errors
    /// When too many nodes are silent, a log has forked, or a snapshot cannot be followed to its end.
    pub async fn plan(
        home: &Home,
        vault: Vault,
        identities: &'a Identities,
        progress: &Arc<Counters>,
    ) -> Result<Self> {
        let mesh = Arc::new(Mesh::connect(home, Caller::device(&vault)).await?);
        let ledger = Ledger::read(&mesh, &vault).await?;
        let index = Arc::new(Index::open(&vault.caches())?);
        let mut plan = Self {
            vault,
            mesh,
            snapshots: 0,
            kept: 0,
            unneeded: BTreeSet::new(),
            bytes: 0,
            identities,
            progress: Arc::clone(progress),
            ledger,
            index,
            followed: BTreeSet::new(),
            needed: BTreeSet::new(),
        };
        plan.follow().await?;
        plan.judge()?;
        Ok(plan)
    }

    /// Everything that was said is known, and nobody contradicts it.
    fn check_told(&self) -> Result<()> {
        let unread = self.ledger.unread().iter().filter_map(|id| self.mesh.nodes.get(id));
        let silent: Vec<&Site> = self.mesh.silent.values().map(|silent| &silent.site).collect();
        let silent: Vec<&Site> = unread.map(|node| &node.site).chain(silent).collect();
        if !is_all_told(&self.vault.policy, &silent) {
            let names: Vec<String> =
                silent.iter().map(|site| format!("node {}", NodeId::short(&site.node))).collect();
            return Err(ClientError::Untold(names.join(", ")));
        }
        match self.ledger.forked().first() {
            None => Ok(()),
            Some(device) => {
                let what = format!("the log of device {} has forked", device.short());
                Err(ClientError::Content(what))
            }
        }
    }

    /// Follows kept snapshots that were not followed yet, and says whether there were any.
    async fn follow(&mut self) -> Result<bool> {
        self.check_told()?;
        let mut packs = Packs::new(Arc::clone(&self.mesh), &self.vault);
        // Snapshots that came meanwhile belong to sessions that came with them.
        packs.open_sessions(&self.ledger, self.identities)?;
        packs.sync_index(&self.ledger, &self.index).await?;
        let packs = Arc::new(packs);
        let (index, progress) = (Arc::clone(&self.index), Arc::clone(&self.progress));
        let mut walker = Walker::new(Arc::clone(&packs), index, progress);
        let given_up = self.ledger.given_up().stripes();
        self.snapshots = 0;
        let mut are_new = false;
        for logged in self.ledger.snapshots() {
            if self.ledger.is_forgotten(logged) {
                continue;
            }
            self.snapshots += 1;
            if !self.followed.insert(logged.id) {
                continue;
            }
            are_new = true;
            let (index, needed) = (&self.index, &mut self.needed);
            let mut see = |chunk: &ChunkRef| {
                needed.extend(places(index, chunk.id, &given_up)?);
                Ok(true)
            };
            walker.walk(root_of(&packs, logged)?, &mut see).await?;
        }
        Ok(are_new)
    }

    /// Which stripes nobody needs, by what was followed.
    fn judge(&mut self) -> Result<()> {
        let now = wall();
        let mut sessions: BTreeMap<SessionId, (bool, Wall)> = BTreeMap::new();
        for logged in self.ledger.all() {
            let (session, is_snapshot) = match &logged.entry.body {
                Body::Session { session, .. } | Body::Index { session, .. } => (*session, false),
                Body::Snapshot { session, .. } => (*session, true),
                _ => continue,
            };
            let (has_snapshot, newest) = sessions.entry(session).or_default();
            *has_snapshot |= is_snapshot;
            *newest = (*newest).max(logged.witnessed());
        }
        sessions.retain(|_, (has_snapshot, newest)| has_ended(*has_snapshot, *newest, now));
        let ended: BTreeSet<SessionId> = sessions.into_keys().collect();
        let (mut listed, mut bytes) = (Vec::new(), Vec::new());
        self.index.each_pack(|pack| {
            listed.push((pack.stripe, pack.session));
            bytes.push((pack.stripe, u64::from(pack.k) * u64::from(pack.shard_len)));
        })?;
        let all: BTreeSet<StripeId> = listed.iter().map(|(stripe, _)| *stripe).collect();
        self.unneeded = unneeded(listed, &self.needed_stripes()?, &ended);
        self.kept = all.len() - self.unneeded.len();
        bytes.sort_unstable();
        bytes.dedup();
        let unneeded = bytes.iter().filter(|(stripe, _)| self.unneeded.contains(stripe));
        self.bytes = unneeded.map(|(_, bytes)| bytes).sum();
        Ok(())
    }

    /// All of the index is needed.
    fn index_stripes(&self) -> impl Iterator<Item = StripeId> {
        let bodies = self.ledger.all().map(|logged| &logged.entry.body);
        let stripes = bodies.filter_map(|body| match body {
            Body::Index { stripes, .. } => Some(stripes),
            _ => None,
        });
        stripes.flatten().copied()
    }

    fn needed_stripes(&self) -> Result<BTreeSet<StripeId>> {
        self.needed.iter().map(|&pack| Ok(self.index.pack(pack)?.stripe)).collect()
    }

    /// Says in the log what is given up, and gives the vault's requests for its release. From then on no host of the vault
    /// extends it or takes it for known.
    ///
    /// # Errors
    /// When that cannot be said, or new snapshots come again and again meanwhile.
    pub async fn apply(&mut self, key: &SecretKey) -> Result<Vec<Signed<ReleaseRequest>>> {
        for _ in 0..ROUNDS {
            let mut needed = self.needed_stripes()?;
            needed.extend(self.index_stripes());
            let words = (&self.unneeded, &needed);
            say(&mut self.ledger, &self.mesh, &self.vault, key, words).await?;
            self.ledger.refresh(&self.mesh, &self.vault).await;
            if !self.follow().await? {
                return Ok(self.requests(key));
            }
            self.judge()?;
        }
        Err(ClientError::Content("new snapshots come again and again: try later".into()))
    }

    fn requests(&self, key: &SecretKey) -> Vec<Signed<ReleaseRequest>> {
        let (issued, expires) = (wall(), wall().after(RELEASE_VALIDITY_MAX).0 - 60_000);
        let request = |stripes: &[StripeId]| {
            let (vault, stripes) = (self.vault.id, stripes.to_vec());
            let expires = Wall(expires);
            Signed::sign(&ReleaseRequest { vault, issued, expires, stripes }, key)
        };
        let stripes: Vec<StripeId> = self.unneeded.iter().copied().collect();
        stripes.chunks(RELEASE_STRIPES_MAX).map(request).collect()
    }
}

/// The packs that a chunk needs: all that have it, but for those that were given up while there is another one. Where all
/// were, the newest is taken back.
fn places(index: &Index, chunk: ChunkId, given_up: &BTreeSet<StripeId>) -> Result<Vec<u64>> {
    let newest = index.find(chunk)?.ok_or(ClientError::NoChunk(chunk))?;
    let (mut kept, older) = (Vec::new(), index.find_older(chunk)?);
    for place in std::iter::once(&newest).chain(&older) {
        if !given_up.contains(&index.pack(place.pack)?.stripe) {
            kept.push(place.pack);
        }
    }
    Ok(if kept.is_empty() { vec![newest.pack] } else { kept })
}
