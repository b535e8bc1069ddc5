//! Places stripes: chooses holders, puts their shards in parallel, replaces holders that fail, and checks the
//! one predicate over those whose receipts are here.

use crate::client::buffers::Buffers;
use crate::client::mesh::{Mesh, Node};
use crate::client::vault::Vault;
use crate::client::{ClientError, Result};
use protocol::id::{NodeId, SessionId, ShardId};
use protocol::index::IndexedPack;
use protocol::label::Site;
use protocol::message::Request;
use protocol::pack::PackEntry;
use protocol::placement::{Candidate, Plan, PlanLimits, Unplaceable, check_placement, plan, solve};
use protocol::policy::{Clauses, Policy};
use protocol::record::{CODEC_REED_SOLOMON, Record, Stripe};
use protocol::sign::Signed;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// A sealed and coded pack.
pub(super) struct Sealed {
    pub(super) session: SessionId,
    pub(super) nonce: [u8; 32],
    pub(super) entries: Vec<PackEntry>,
    pub(super) data: Vec<u8>,
    pub(super) parity: Vec<u8>,
    pub(super) shards: Vec<ShardId>,
    pub(super) k: usize,
    pub(super) n: usize,
}

#[derive(Debug)]
pub(super) struct Placer {
    vault: Arc<Vault>,
    mesh: Arc<Mesh>,
    plan: Plan,
    /// What placements must satisfy: the vault's policy, or any placement at all when that cannot be met.
    required: Policy,
    degraded: bool,
    candidates: Mutex<BTreeMap<NodeId, Candidate>>,
    stripes: AtomicU64,
    /// Where those of placed packs go back to.
    buffers: Arc<Buffers>,
}

impl Placer {
    pub(super) fn new(
        vault: Arc<Vault>,
        mesh: Arc<Mesh>,
        rooms: Vec<(Site, u64)>,
        buffers: Arc<Buffers>,
        allow_degraded: bool,
    ) -> Result<Self> {
        let candidates: Vec<Candidate> =
            rooms.into_iter().map(|(site, free)| Candidate { site, free }).collect();
        let limits = PlanLimits::default();
        let (plan, required, degraded) = match plan(&vault.policy, &candidates, limits) {
            Ok(plan) => (plan, vault.policy.clone(), false),
            Err(error) if !allow_degraded => return Err(error.into()),
            Err(_) => {
                // The most that these nodes can bear: any one of them may be lost, if there are two.
                let mut required = Policy::survive_one("node");
                if candidates.len() < 2 {
                    required.survive = Clauses::default();
                }
                let k = candidates.len().saturating_sub(1).clamp(1, limits.k_max);
                (Plan { k, n: (k + 1).min(candidates.len().max(1)) }, required, true)
            }
        };
        let candidates = candidates.into_iter().map(|c| (c.site.node, c)).collect();
        Ok(Self {
            vault,
            mesh,
            plan,
            required,
            degraded,
            candidates: Mutex::new(candidates),
            stripes: AtomicU64::new(0),
            buffers,
        })
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan
    }

    pub(super) fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Chooses holders for the shards that have none, and takes their room.
    fn choose(
        &self,
        sealed: &Sealed,
        len: u64,
        fixed: &[Site],
        failed: &BTreeSet<NodeId>,
    ) -> std::result::Result<Vec<Site>, Unplaceable> {
        let mut candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        let usable: Vec<Candidate> =
            candidates.values().filter(|c| !failed.contains(&c.site.node)).cloned().collect();
        let tie = self.stripes.fetch_add(1, Ordering::Relaxed);
        let chosen = solve(&self.required, sealed.k, sealed.n, len, &usable, fixed, tie)?;
        let sites: Vec<Site> = chosen.into_iter().map(|i| usable[i].site.clone()).collect();
        for site in &sites {
            if let Some(candidate) = candidates.get_mut(&site.node) {
                candidate.free = candidate.free.saturating_sub(len);
            }
        }
        Ok(sites)
    }

    /// Puts all shards of a pack, and says where its chunks are.
    pub(super) async fn place(&self, sealed: Sealed) -> Result<IndexedPack> {
        let sealed = Arc::new(sealed);
        let len = sealed.data.len() / sealed.k;
        let stripe = Stripe {
            vault: self.vault.id,
            codec: CODEC_REED_SOLOMON,
            k: sealed.k as u16,
            n: sealed.n as u16,
            shard_len: len as u32,
            shards: sealed.shards.clone(),
        };
        let stripe_id = stripe.id();
        let mut failed: BTreeSet<NodeId> = BTreeSet::new();
        let mut holders: Vec<Option<Site>> = vec![None; sealed.n];
        let mut done = vec![false; sealed.n];
        let mut version = 0;
        let mut last_error = None;
        while done.contains(&false) {
            let fixed: Vec<Site> = holders.iter().flatten().cloned().collect();
            let mut chosen = match self.choose(&sealed, len as u64, &fixed, &failed) {
                Ok(chosen) => chosen.into_iter(),
                // What went wrong before tells more than that nobody else is left.
                Err(error) => return Err(last_error.unwrap_or_else(|| error.into())),
            };
            for holder in holders.iter_mut().filter(|holder| holder.is_none()) {
                *holder = chosen.next();
            }
            version += 1;
            let record = Record {
                stripe: stripe.clone(),
                session: sealed.session,
                policy: self.vault.policy.clone(),
                holders: holders.iter().flatten().map(|site| site.node).collect(),
                version,
                device: self.vault.device_id(),
            };
            record.check().map_err(|e| ClientError::Content(e.to_string()))?;
            let record = Arc::new(Signed::sign(&record, &self.vault.device));
            let mut puts: JoinSet<(usize, NodeId, Result<()>)> = JoinSet::new();
            for (i, holder) in holders.iter().enumerate() {
                let Some(node) = holder.as_ref().and_then(|site| self.mesh.nodes.get(&site.node))
                else {
                    continue;
                };
                let (node, record, sealed) =
                    (Arc::clone(node), Arc::clone(&record), Arc::clone(&sealed));
                let held = done[i];
                puts.spawn(async move {
                    let result = if held {
                        node.request(&Request::Replace((*record).clone())).await.map(drop)
                    } else {
                        put(&node, &record, &sealed, i, len).await
                    };
                    (i, node.id, result)
                });
            }
            while let Some(finished) = puts.join_next().await {
                let Ok((i, node, result)) = finished else { continue };
                match result {
                    Ok(()) => done[i] = true,
                    Err(error) => {
                        tracing::warn!(%error, "a holder is replaced");
                        failed.insert(node);
                        holders[i] = None;
                        done[i] = false;
                        last_error = Some(error);
                    }
                }
            }
        }
        // In pairs: what was chosen to satisfy the policy is checked again as it came to be.
        let sites: Vec<&Site> = holders.iter().flatten().collect();
        check_placement(&self.required, sealed.k, &sites)?;
        let pack = IndexedPack {
            stripe: stripe_id,
            session: sealed.session,
            nonce: sealed.nonce,
            k: stripe.k,
            shard_len: stripe.shard_len,
            chunks: sealed.entries.clone(),
        };
        // All puts have ended, so nobody else has it.
        if let Some(Sealed { data, parity, .. }) = Arc::into_inner(sealed) {
            self.buffers.give(data);
            self.buffers.give(parity);
        }
        Ok(pack)
    }
}

async fn put(
    node: &Node,
    record: &Signed<Record>,
    sealed: &Sealed,
    i: usize,
    len: usize,
) -> Result<()> {
    let bytes = if i < sealed.k {
        &sealed.data[i * len..(i + 1) * len]
    } else {
        &sealed.parity[(i - sealed.k) * len..(i - sealed.k + 1) * len]
    };
    node.put(record, i as u16, sealed.shards[i], bytes).await.map(drop)
}
