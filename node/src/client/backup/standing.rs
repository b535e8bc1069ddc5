//! Whether packs written earlier still satisfy the vault's policy: only then need their chunks not be sent again.
//!
//! A pack counts when its stripe and the index stripe that lists it pass the one predicate, over the holders whose
//! receipts were here and which the roster still lists. A holder that does not answer today counts: replacing those that
//! are gone for good is repair's business, and a short outage must not send everything again. What is remembered of
//! holders is enough for packs that are well; nodes are asked, many stripes at once, only about packs of which nothing is
//! known or which fell short, and only when a source needs them.

use crate::client::Result;
use crate::client::index::{Holding, Index};
use crate::client::mesh::Mesh;
use crate::client::packs::Packs;
use crate::client::vault::Vault;
use protocol::certificate::CertificateError;
use protocol::id::{ChunkId, NodeId, StripeId};
use protocol::label::Site;
use protocol::placement::check_placement;
use protocol::policy::Policy;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// Packs looked at together when nodes have to be asked.
const TOGETHER: usize = 256;

/// How well something is kept, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// As the policy asks.
    Good,
    /// It can be read, and falls short of the policy.
    Below,
    /// As far as anybody tells it cannot be read, or nobody else can find it.
    Gone,
}

pub(super) struct Standings {
    policy: Policy,
    /// Of the nodes that the roster lists.
    sites: BTreeMap<NodeId, Site>,
    answering: BTreeSet<NodeId>,
    index: Arc<Index>,
    packs: Packs,
    runtime: Handle,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// What sets of holders come to: there are few.
    holdings: HashMap<Holding, Standing>,
    /// What packs come to.
    packs: HashMap<u64, Standing>,
    /// What nodes told of stripes in this run: that nobody has it when there is no record.
    told: HashMap<StripeId, Holding>,
    /// Holders of what is well that do not answer now.
    silent: BTreeSet<NodeId>,
}

impl std::fmt::Debug for Standings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Standings({} nodes)", self.sites.len())
    }
}

impl Standings {
    pub(super) fn new(vault: &Vault, mesh: &Arc<Mesh>, index: &Arc<Index>) -> Result<Self> {
        let roster = vault.papers.roster.verify().map_err(CertificateError::from)?;
        let listed = roster.nodes.iter().filter_map(|signed| signed.verify().ok());
        let sites = listed.map(|certificate| {
            // Who answers shows its newest certificate.
            let answers = mesh.nodes.get(&certificate.node).map(|node| node.site.clone());
            (certificate.node, answers.unwrap_or_else(|| certificate.site()))
        });
        Ok(Self {
            policy: vault.policy.clone(),
            sites: sites.collect(),
            answering: mesh.nodes.keys().copied().collect(),
            index: Arc::clone(index),
            packs: Packs::new(Arc::clone(mesh), vault),
            runtime: Handle::current(),
            seen: Mutex::default(),
        })
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How well a chunk is kept where it is kept best; `None` when it was never sent. For a thread that may wait.
    pub(super) fn of(&self, chunk: ChunkId) -> Result<Option<Standing>> {
        let Some(newest) = self.index.find(chunk)? else { return Ok(None) };
        let mut best = self.of_pack(newest.pack)?;
        if best != Standing::Good {
            for older in self.index.find_older(chunk)? {
                best = best.min(self.of_pack(older.pack)?);
            }
        }
        Ok(Some(best))
    }

    /// What there is to say of holders of earlier packs; nothing when all of them answer.
    pub(super) fn note(&self) -> Option<String> {
        let seen = self.seen();
        let silent: Vec<String> = seen.silent.iter().map(NodeId::short).collect();
        (!silent.is_empty()).then(|| {
            let silent = silent.join(", ");
            format!("holders of what was written earlier do not answer now ({silent}): `strewn status` shows what that means")
        })
    }

    fn of_pack(&self, pack: u64) -> Result<Standing> {
        if let Some(&standing) = self.seen().packs.get(&pack) {
            return Ok(standing);
        }
        let mut standing = self.judge(pack)?;
        if standing != Some(Standing::Good) {
            self.ask_from(pack)?;
            standing = self.judge(pack)?;
        }
        let standing = standing.unwrap_or(Standing::Gone);
        if standing == Standing::Good {
            for stripe in self.stripes_of(pack)? {
                let holders = self.holding(stripe)?.map_or_else(Vec::new, |held| held.holders);
                let silent = holders.into_iter().filter(|node| !self.answering.contains(node));
                self.seen().silent.extend(silent);
            }
        }
        // What is to be listed in this run is not done changing.
        if !self.index.is_pending(pack)? {
            self.seen().packs.insert(pack, standing);
        }
        Ok(standing)
    }

    /// What is known here comes to; `None` when that is not enough to tell.
    fn judge(&self, pack: u64) -> Result<Option<Standing>> {
        let mut worst = Standing::Good;
        for stripe in self.stripes_of(pack)? {
            let Some(standing) = self.judge_stripe(stripe)? else { return Ok(None) };
            worst = worst.max(standing);
        }
        let is_findable = self.index.is_pending(pack)? || self.index.listed_in(pack)?.is_some();
        Ok(Some(if is_findable { worst } else { Standing::Gone }))
    }

    fn judge_stripe(&self, stripe: StripeId) -> Result<Option<Standing>> {
        Ok(self.holding(stripe)?.map(|holding| self.judge_holding(holding)))
    }

    fn holding(&self, stripe: StripeId) -> Result<Option<Holding>> {
        let told = self.seen().told.get(&stripe).cloned();
        match told {
            Some(told) => Ok(Some(told)),
            None => self.index.holding(stripe),
        }
    }

    /// A pack's stripe, and the one of the index that lists it.
    fn stripes_of(&self, pack: u64) -> Result<Vec<StripeId>> {
        let mut stripes = vec![self.index.pack(pack)?.stripe];
        if !self.index.is_pending(pack)? {
            stripes.extend(self.index.listed_in(pack)?);
        }
        Ok(stripes)
    }

    fn judge_holding(&self, holding: Holding) -> Standing {
        if let Some(&standing) = self.seen().holdings.get(&holding) {
            return standing;
        }
        let standing = judge(&self.policy, &self.sites, &holding);
        self.seen().holdings.insert(holding, standing);
        standing
    }

    /// Asks nodes about a pack, and about those behind it of which nothing good is known either: they are needed soon.
    fn ask_from(&self, first: u64) -> Result<()> {
        let mut stripes = BTreeSet::new();
        for pack in self.index.packs_from(first, TOGETHER)? {
            for stripe in self.stripes_of(pack)? {
                let is_told = self.seen().told.contains_key(&stripe);
                if !is_told && self.judge_stripe(stripe)? != Some(Standing::Good) {
                    stripes.insert(stripe);
                }
            }
        }
        if stripes.is_empty() {
            return Ok(());
        }
        let stripes: Vec<StripeId> = stripes.into_iter().collect();
        let mut found = self.runtime.block_on(self.packs.holdings(&stripes));
        let mut lasting = Vec::new();
        for stripe in stripes {
            let nobody = Holding { k: 1, lock: self.policy.lock.clone(), holders: Vec::new() };
            let (holding, is_sure) = found.remove(&stripe).unwrap_or((nobody, false));
            if is_sure {
                lasting.push((stripe, holding.clone()));
            }
            self.seen().told.insert(stripe, holding);
        }
        self.index.set_holdings(&lasting)
    }
}

/// What holders come to under a policy. A holder that the roster does not list counts for nothing.
fn judge(policy: &Policy, sites: &BTreeMap<NodeId, Site>, holding: &Holding) -> Standing {
    let holders: Vec<&Site> = holding.holders.iter().filter_map(|node| sites.get(node)).collect();
    let k = usize::from(holding.k);
    if holders.len() < k {
        Standing::Gone
    } else if !holding.lock.covers(&policy.lock) || check_placement(policy, k, &holders).is_err() {
        Standing::Below
    } else {
        Standing::Good
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::OperatorId;
    use protocol::label::{Label, Labels};
    use protocol::policy::Lock;
    use protocol::time::Period;

    fn node(name: u8) -> NodeId {
        NodeId([name; 32])
    }

    /// Nodes 1, 2 and 3 at three providers.
    fn sites() -> BTreeMap<NodeId, Site> {
        let site = |name: u8| {
            let provider: Label = format!("provider=p{name}").parse().unwrap();
            let labels = Labels::new([provider]).unwrap();
            (node(name), Site { node: node(name), operator: OperatorId([0; 32]), labels })
        };
        (1..=3).map(site).collect()
    }

    #[test]
    fn what_falls_short_is_told_from_what_is_gone() {
        let policy = Policy::survive_one("provider");
        let standing = |k: u16, holders: &[u8], lock: Lock| {
            let holders = holders.iter().copied().map(node).collect();
            judge(&policy, &sites(), &Holding { k, lock, holders })
        };
        let lock = || policy.lock.clone();
        assert_eq!(standing(2, &[1, 2, 3], lock()), Standing::Good);
        assert_eq!(standing(1, &[1], lock()), Standing::Below);
        assert_eq!(standing(2, &[1, 3], lock()), Standing::Below);
        assert_eq!(standing(2, &[1], lock()), Standing::Gone);
        // The roster does not list node 9.
        assert_eq!(standing(2, &[1, 2, 9], lock()), Standing::Below);
        assert_eq!(standing(1, &[9], lock()), Standing::Gone);
        let shorter = Lock { period: Period::days(1), ..lock() };
        assert_eq!(standing(2, &[1, 2, 3], shorter), Standing::Below);
    }
}
