//! Whether packs written earlier still satisfy the vault's policy: only then need their chunks not be sent again. The rule
//! is [`Standing`]'s; here is gathered what it needs to know: the holders whose receipts were here, and which of them the
//! roster still lists. A holder that does not answer today counts: replacing those that are gone for good is repair's
//! business. What is remembered of
//! holders is enough for packs that are well; nodes are asked, many stripes at once, only about packs of which nothing is
//! known or which fell short, and only when a source needs them.

use crate::client::Result;
use crate::client::index::Index;
use crate::client::mesh::Mesh;
use crate::client::packs::Packs;
use crate::client::vault::Vault;
use crate::service::wall;
use protocol::certificate::CertificateError;
use protocol::id::{ChunkId, NodeId, StripeId};
use protocol::label::Site;
use protocol::placement::{Holders, Listing, Standing};
use protocol::policy::Policy;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// Packs looked at together when nodes have to be asked.
const TOGETHER: usize = 256;

pub(super) struct Standings {
    policy: Policy,
    /// Of the nodes that the roster lists.
    sites: BTreeMap<NodeId, Site>,
    answering: BTreeSet<NodeId>,
    index: Arc<Index>,
    packs: Packs,
    /// What the vault gave up: it is there no more, or not for long.
    given_up: Mutex<BTreeSet<StripeId>>,
    runtime: Handle,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// What sets of holders come to: there are few.
    holders: HashMap<Holders, Standing>,
    /// What packs come to.
    packs: HashMap<u64, Standing>,
    /// What nodes told of stripes in this run: that nobody has it when there is no record.
    told: HashMap<StripeId, Holders>,
    /// Holders of what is well that do not answer now.
    silent: BTreeSet<NodeId>,
    /// Stripes that chunks were called known for, or were sent to, in this run.
    relied_on: BTreeSet<StripeId>,
}

impl std::fmt::Debug for Standings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Standings({} nodes)", self.sites.len())
    }
}

/// Where the nodes that the roster lists stand.
pub(in crate::client) fn sites(vault: &Vault, mesh: &Mesh) -> Result<BTreeMap<NodeId, Site>> {
    let roster = vault.papers.roster.verify().map_err(CertificateError::from)?;
    let listed = roster.nodes.iter().filter_map(|signed| signed.verify().ok());
    let (now, believed) = (wall(), roster.believed(wall(), vault.operator));
    let sites = listed.map(|certificate| {
        // Who answers shows its newest certificate.
        let answers = mesh.nodes.get(&certificate.node).map(|node| node.site.clone());
        let listed = || certificate.site().seen_by(&believed, now);
        (certificate.node, answers.unwrap_or_else(listed))
    });
    Ok(sites.collect())
}

impl Standings {
    pub(super) fn new(
        vault: &Vault,
        mesh: &Arc<Mesh>,
        index: &Arc<Index>,
        given_up: BTreeSet<StripeId>,
    ) -> Result<Self> {
        Ok(Self {
            policy: vault.policy.clone(),
            sites: sites(vault, mesh)?,
            answering: mesh.nodes.keys().copied().collect(),
            index: Arc::clone(index),
            packs: Packs::new(Arc::clone(mesh), vault),
            given_up: Mutex::new(given_up),
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

    /// This run has sent chunks to these stripes.
    pub(super) fn rely_on(&self, stripes: impl IntoIterator<Item = StripeId>) {
        self.seen().relied_on.extend(stripes);
    }

    /// From now on these are given up. Says on how many of them that were not before this run relies.
    pub(super) fn give_up(&self, given_up: BTreeSet<StripeId>) -> usize {
        let mut known = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = self.seen();
        let new = given_up.difference(&known).filter(|stripe| seen.relied_on.contains(stripe));
        let lost = new.count();
        if lost > 0 {
            seen.packs.clear();
        }
        *known = given_up;
        lost
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
        if standing != Standing::Gone {
            let stripes = self.stripes_of(pack)?;
            self.seen().relied_on.extend(stripes);
        }
        if standing == Standing::Good {
            for stripe in self.stripes_of(pack)? {
                let holders = self.holders(stripe)?.map_or_else(Vec::new, |holders| holders.nodes);
                let silent = holders.into_iter().filter(|node| !self.answering.contains(node));
                self.seen().silent.extend(silent);
            }
        }
        // What is to be listed in this run is not done changing.
        if self.index.listing(pack)? != Listing::Pending {
            self.seen().packs.insert(pack, standing);
        }
        Ok(standing)
    }

    /// What is known here comes to; `None` when that is not enough to tell.
    fn judge(&self, pack: u64) -> Result<Option<Standing>> {
        let Some(stripe) = self.judge_stripe(self.index.pack(pack)?.stripe)? else {
            return Ok(None);
        };
        let listing = match self.index.listing(pack)? {
            Listing::In(index) => match self.judge_stripe(index)? {
                Some(standing) => Listing::In(standing),
                None => return Ok(None),
            },
            Listing::Pending => Listing::Pending,
            Listing::Nowhere => Listing::Nowhere,
        };
        Ok(Some(Standing::of_pack(stripe, listing)))
    }

    fn judge_stripe(&self, stripe: StripeId) -> Result<Option<Standing>> {
        if self.given_up.lock().unwrap_or_else(PoisonError::into_inner).contains(&stripe) {
            return Ok(Some(Standing::Gone));
        }
        let Some(holders) = self.holders(stripe)? else { return Ok(None) };
        if let Some(&standing) = self.seen().holders.get(&holders) {
            return Ok(Some(standing));
        }
        let standing = Standing::of_stripe(&self.policy, &self.sites, &holders);
        self.seen().holders.insert(holders, standing);
        Ok(Some(standing))
    }

    fn holders(&self, stripe: StripeId) -> Result<Option<Holders>> {
        let told = self.seen().told.get(&stripe).cloned();
        match told {
            Some(told) => Ok(Some(told)),
            None => self.index.holders(stripe),
        }
    }

    /// A pack's stripe, and the one of the index that lists it.
    fn stripes_of(&self, pack: u64) -> Result<Vec<StripeId>> {
        let mut stripes = vec![self.index.pack(pack)?.stripe];
        stripes.extend(self.index.listing(pack)?.stripe());
        Ok(stripes)
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
        let mut found = self.runtime.block_on(self.packs.holders_of(&stripes));
        let mut lasting = Vec::new();
        for stripe in stripes {
            let nobody = Holders { k: 1, lock: self.policy.lock.clone(), nodes: Vec::new() };
            let (holders, is_sure) = found.remove(&stripe).unwrap_or((nobody, false));
            if is_sure {
                lasting.push((stripe, holders.clone()));
            }
            self.seen().told.insert(stripe, holders);
        }
        self.index.set_holders(&lasting)
    }
}
