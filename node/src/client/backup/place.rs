//! Places stripes: chooses holders, puts their shards in parallel, replaces holders that fail, and checks the
//! one predicate over those whose receipts are here.

use super::left_out::Partners;
use crate::client::buffers::Buffers;
use crate::client::mesh::{Mesh, Node};
use crate::client::vault::Vault;
use crate::client::{ClientError, Result};
use protocol::id::{NodeId, SessionId, ShardId};
use protocol::index::{BLOCK_LEN_MAX, IndexedPack};
use protocol::label::Site;
use protocol::message::{RefusalCode, Request};
use protocol::pack::PackEntry;
use protocol::placement::{
    Candidate, Holders, Plan, PlanLimits, Unplaceable, check_placement, plan, plan_wide, solve,
};
use protocol::policy::{Clauses, Policy};
use protocol::record::{CODEC_REED_SOLOMON, Record, Stripe};
use protocol::sign::Signed;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// A holder that takes so many times as long as the slowest of most others,
const SLOW_FACTOR: u32 = 4;
/// and this much more, is replaced.
const SLOW_GRACE: Duration = Duration::from_secs(5);

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

/// A pack that its holders have, and who they are.
pub(super) struct Placed {
    pub(super) pack: IndexedPack,
    pub(super) holders: Holders,
}

impl Sealed {
    /// Bytes in each shard.
    fn shard_len(&self) -> usize {
        self.data.len() / self.k
    }
}

#[derive(Debug)]
pub(super) struct Placer {
    vault: Arc<Vault>,
    mesh: Arc<Mesh>,
    plan: Plan,
    /// Of the index: without it nothing is found.
    index_plan: Plan,
    /// What placements must satisfy: the vault's policy, or any placement at all when that cannot be met.
    required: Policy,
    degraded: bool,
    candidates: Mutex<BTreeMap<NodeId, Candidate>>,
    partners: Partners,
    stripes: AtomicU64,
    /// Where those of placed packs go back to.
    buffers: Arc<Buffers>,
}

impl Placer {
    pub(super) fn new(
        vault: Arc<Vault>,
        mesh: Arc<Mesh>,
        (rooms, partners): (Vec<(Site, u64)>, Partners),
        buffers: Arc<Buffers>,
        allow_degraded: bool,
    ) -> Result<Self> {
        let candidates: Vec<Candidate> =
            rooms.into_iter().map(|(site, free)| Candidate { site, free }).collect();
        let limits = PlanLimits::default();
        let (plan, required, degraded) = match plan(&vault.policy, &candidates, limits) {
            Ok(plan) => (plan, vault.policy.clone(), false),
            Err(error) if !allow_degraded => {
                return Err(partners.explain(error, candidates.iter(), false));
            }
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
        let limits = PlanLimits { pack_len: BLOCK_LEN_MAX as u64, ..limits };
        let index_plan = plan_wide(&required, &candidates, limits).unwrap_or(plan);
        let candidates = candidates.into_iter().map(|c| (c.site.node, c)).collect();
        Ok(Self {
            vault,
            mesh,
            plan,
            index_plan,
            required,
            degraded,
            candidates: Mutex::new(candidates),
            partners,
            stripes: AtomicU64::new(0),
            buffers,
        })
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan
    }

    /// The code of index packs.
    pub(super) fn index_plan(&self) -> Plan {
        self.index_plan
    }

    /// Nodes that take nothing more.
    pub(super) fn full(&self) -> BTreeSet<NodeId> {
        let candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        candidates.values().filter(|c| c.free == 0).map(|c| c.site.node).collect()
    }

    pub(super) fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Chooses holders for the shards that have none, and takes their room.
    fn choose(
        &self,
        sealed: &Sealed,
        fixed: &[Site],
        failed: &BTreeSet<NodeId>,
    ) -> std::result::Result<Vec<Site>, Unplaceable> {
        let len = sealed.shard_len() as u64;
        let mut candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        let sites = self.find(&candidates, sealed, fixed, failed)?;
        for site in &sites {
            if let Some(candidate) = candidates.get_mut(&site.node) {
                candidate.free = candidate.free.saturating_sub(len);
            }
        }
        Ok(sites)
    }

    /// Holders for the shards that have none. Nodes at rest are chosen only where nobody else will do.
    fn find(
        &self,
        candidates: &BTreeMap<NodeId, Candidate>,
        sealed: &Sealed,
        fixed: &[Site],
        failed: &BTreeSet<NodeId>,
    ) -> std::result::Result<Vec<Site>, Unplaceable> {
        let (len, tie) = (sealed.shard_len() as u64, self.stripes.fetch_add(1, Ordering::Relaxed));
        let rests = |id: &NodeId| self.mesh.nodes.get(id).is_none_or(|node| node.is_resting());
        let fit = || candidates.values().filter(|c| !failed.contains(&c.site.node));
        let solved = |usable: Vec<Candidate>| {
            let chosen = solve(&self.required, sealed.k, sealed.n, len, &usable, fixed, tie)?;
            Ok(chosen.into_iter().map(|i| usable[i].site.clone()).collect())
        };
        solved(fit().filter(|c| !rests(&c.site.node)).cloned().collect())
            .or_else(|_: Unplaceable| solved(fit().cloned().collect()))
    }

    /// Whether others could hold what is neither with `fixed` nor to be asked of `failed`.
    fn can_replace(&self, sealed: &Sealed, fixed: &[Site], failed: &BTreeSet<NodeId>) -> bool {
        let candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        self.find(&candidates, sealed, fixed, failed).is_ok()
    }

    /// Why there is no place.
    fn explain(&self, error: Unplaceable) -> ClientError {
        let candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        self.partners.explain(error, candidates.values(), self.degraded)
    }

    /// A holder did not take a shard: why tells whether it may be asked for others.
    fn judge(&self, node: NodeId, error: &ClientError) {
        match error {
            ClientError::Refused { refusal, .. }
                if matches!(
                    refusal.code,
                    RefusalCode::Quota | RefusalCode::Full | RefusalCode::NotAllowed
                ) =>
            {
                let mut candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(candidate) = candidates.get_mut(&node) {
                    candidate.free = 0;
                }
            }
            _ => self.mesh.nodes.get(&node).into_iter().for_each(|node| node.rest()),
        }
    }

    /// Puts all shards of a pack, and says where its chunks are and who has them.
    pub(super) async fn place(&self, sealed: Sealed) -> Result<Placed> {
        let sealed = Arc::new(sealed);
        let stripe = Stripe {
            vault: self.vault.id,
            codec: CODEC_REED_SOLOMON,
            k: sealed.k as u16,
            n: sealed.n as u16,
            shard_len: sealed.shard_len() as u32,
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
            let mut chosen = match self.choose(&sealed, &fixed, &failed) {
                Ok(chosen) => chosen.into_iter(),
                // What went wrong before tells more than that nobody else is left.
                Err(error) => return Err(last_error.unwrap_or_else(|| self.explain(error))),
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
            record.check().map_err(ClientError::content)?;
            let record = Signed::sign(&record, &self.vault.device);
            let failures = self.put_round(&sealed, &record, &mut holders, &mut done, &failed).await;
            for (node, error) in failures {
                tracing::warn!(%error, node = node.short(), "a holder is replaced");
                self.judge(node, &error);
                failed.insert(node);
                last_error = Some(error);
            }
        }
        // In pairs: what was chosen to satisfy the policy is checked again as it came to be.
        let sites: Vec<&Site> = holders.iter().flatten().collect();
        check_placement(&self.required, sealed.k, &sites)?;
        let holders = Holders {
            k: stripe.k,
            lock: self.vault.policy.lock.clone(),
            nodes: sites.iter().map(|site| site.node).collect(),
        };
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
        Ok(Placed { pack, holders })
    }

    /// Gives every holder its shard, or the new record where it has it already. Who fails is taken off
    /// `holders`; so is who is much slower than the others, if others can take its place.
    async fn put_round(
        &self,
        sealed: &Arc<Sealed>,
        record: &Signed<Record>,
        holders: &mut [Option<Site>],
        done: &mut [bool],
        failed: &BTreeSet<NodeId>,
    ) -> Vec<(NodeId, ClientError)> {
        let record = Arc::new(record.clone());
        let mut puts: JoinSet<(usize, Result<()>)> = JoinSet::new();
        let mut waiting: BTreeMap<usize, (NodeId, AbortHandle)> = BTreeMap::new();
        let mut failures = Vec::new();
        for (i, holder) in holders.iter_mut().enumerate() {
            let Some(id) = holder.as_ref().map(|site| site.node) else { continue };
            let Some(node) = self.mesh.nodes.get(&id).map(Arc::clone) else {
                *holder = None;
                continue;
            };
            let (record, sealed, held) = (Arc::clone(&record), Arc::clone(sealed), done[i]);
            let task = puts.spawn(async move {
                let put = async {
                    if held {
                        node.request(&Request::Replace((*record).clone())).await.map(drop)
                    } else {
                        put(&node, &record, &sealed, i).await
                    }
                };
                (i, put.await)
            });
            waiting.insert(i, (id, task));
        }
        let begin = Instant::now();
        let mut took: Vec<Duration> = Vec::new();
        while !waiting.is_empty() {
            let patience = patience(&took, waiting.len());
            let late = async {
                match patience {
                    Some(patience) => tokio::time::sleep_until((begin + patience).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                finished = puts.join_next_with_id() => match finished {
                    Some(finished) => {
                        let Some((i, result)) = outcome(finished, &waiting) else { continue };
                        let Some((node, _)) = waiting.remove(&i) else { continue };
                        took.push(begin.elapsed());
                        done[i] = result.is_ok();
                        if let Err(error) = result {
                            holders[i] = None;
                            failures.push((node, error));
                        }
                    }
                    None => break,
                },
                () = late => {
                    let slow: BTreeSet<NodeId> = waiting.values().map(|(node, _)| *node).collect();
                    let others: BTreeSet<NodeId> = failed.union(&slow).copied().collect();
                    let fixed: Vec<Site> =
                        holders.iter().flatten().filter(|s| !slow.contains(&s.node)).cloned().collect();
                    if !self.can_replace(sealed, &fixed, &others) {
                        // Nobody else can take their place: late is better than never.
                        took.clear();
                        continue;
                    }
                    for (i, (node, task)) in std::mem::take(&mut waiting) {
                        task.abort();
                        holders[i] = None;
                        done[i] = false;
                        let what = format!("it was much slower than the others ({:?})", begin.elapsed());
                        failures.push((node, ClientError::node(node, what)));
                    }
                }
            }
        }
        puts.shutdown().await;
        failures
    }
}

/// Which shard's put ended and how; `None` when it was given up before. One that panicked has failed, and its holder
/// is replaced like others that do.
fn outcome(
    finished: std::result::Result<(Id, (usize, Result<()>)), JoinError>,
    waiting: &BTreeMap<usize, (NodeId, AbortHandle)>,
) -> Option<(usize, Result<()>)> {
    let error = match finished {
        Ok((_, ended)) => return Some(ended),
        Err(error) => error,
    };
    let (i, (node, _)) = waiting.iter().find(|(_, (_, task))| task.id() == error.id())?;
    let what = format!("giving it a shard went wrong here: {error}");
    Some((*i, Err(ClientError::node(*node, what))))
}

/// How long after the beginning of a round those that still put are given up, if that can be said yet: when more
/// than half have ended, a few times what the slower of these took.
fn patience(took: &[Duration], waiting: usize) -> Option<Duration> {
    let slowest = took.iter().max()?;
    (took.len() > waiting).then(|| *slowest * SLOW_FACTOR + SLOW_GRACE)
}

async fn put(node: &Node, record: &Signed<Record>, sealed: &Sealed, i: usize) -> Result<()> {
    let len = sealed.shard_len();
    let bytes = if i < sealed.k {
        &sealed.data[i * len..(i + 1) * len]
    } else {
        &sealed.parity[(i - sealed.k) * len..(i - sealed.k + 1) * len]
    };
    node.put(record, i as u16, bytes).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_put_that_panics_has_failed_and_one_that_was_given_up_is_nobodys() {
        let mut puts: JoinSet<(usize, Result<()>)> = JoinSet::new();
        let mut waiting = BTreeMap::new();
        let well = puts.spawn(async { (0, Ok(())) });
        waiting.insert(0, (NodeId([0; 32]), well));
        let panicking = puts.spawn(async { panic!("a mistake") });
        waiting.insert(1, (NodeId([1; 32]), panicking));
        puts.spawn(std::future::pending()).abort();
        let mut ended = BTreeMap::new();
        while let Some(finished) = puts.join_next_with_id().await {
            if let Some((i, result)) = outcome(finished, &waiting) {
                ended.insert(i, result.map_err(|error| error.to_string()));
            }
        }
        assert_eq!(ended.len(), 2, "{ended:?}");
        assert_eq!(ended[&0], Ok(()));
        assert!(ended[&1].as_ref().unwrap_err().contains("a mistake"), "{ended:?}");
    }
}
