//! Copies too many, and how their holders are free of them: the vault *discharges* a node of its shards of some stripes.
//!
//! What was lost is rebuilt elsewhere, and who was lost may come back; who leaves has its shards copied. Either way a shard lies twice, and each
//! copy is locked like any other. A [`Discharge`] is a release ([`crate::release`]) at one node: the same lock must have ended, the same
//! guardians must agree, the same cooldown runs, and the same can stop it. It asks for less, and gets less:
//! - Only the node that it names takes it, and while its copy cools it shows other nodes no promise of it, so that nobody counts on it.
//! - That node drops its copy only once it has found, by what the others show, that every shard of the stripe lies with somebody else who
//!   is not being discharged as well (`peer::releases`). So of two copies that are discharged at once one stays.
//!
//! It is said in the vault's log first, so that none of the vault's hosts extends the lock of that copy any more ([`Discharged`]). Like what is
//! given up, that ends with the statement: hosts extend again what is still there when it has expired.

use crate::id::{NodeId, OperatorId, PublicKey, StripeId};
use crate::label::Site;
use crate::placement::check_placement;
use crate::record::Record;
use crate::release::{Ask, ReleaseRequest};
use crate::sign::Statement;
use crate::time::Wall;
use crate::told::counted_best;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most stripes that one statement names: with its signature it fits into a log entry (64 KiB).
pub const DISCHARGE_STRIPES_MAX: usize = 1500;

/// The vault asks that a node give up its shards of these stripes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discharge {
    /// The node.
    pub node: NodeId,
    /// What is asked of it.
    pub request: ReleaseRequest,
}

impl Statement for Discharge {
    const CONTEXT: &'static str = "strewn discharge";
    const LEN_MAX: usize = 192 + DISCHARGE_STRIPES_MAX * 32;
    fn signer(&self) -> PublicKey {
        self.request.vault.key()
    }
}

impl Ask for Discharge {
    const STRIPES_MAX: usize = DISCHARGE_STRIPES_MAX;
    fn into_parts(self) -> (ReleaseRequest, Option<NodeId>) {
        (self.request, Some(self.node))
    }
}

/// What all discharges of a vault come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discharged(BTreeMap<NodeId, BTreeMap<StripeId, Wall>>);

impl Discharged {
    /// Takes in a statement of the vault.
    pub fn hear(&mut self, said: &Discharge) {
        let of_node = self.0.entry(said.node).or_default();
        for &stripe in &said.request.stripes {
            let until = of_node.entry(stripe).or_insert(said.request.expires);
            *until = said.request.expires.max(*until);
        }
    }

    /// The stripes of which a node is discharged, or was.
    pub fn stripes(&self, node: NodeId) -> impl Iterator<Item = StripeId> + '_ {
        self.0.get(&node).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// Until when a node is discharged of a stripe; `None` when it is not.
    #[must_use]
    pub fn until(&self, node: NodeId, stripe: StripeId) -> Option<Wall> {
        self.0.get(&node)?.get(&stripe).copied()
    }

    /// Whether a node is discharged of a stripe now.
    #[must_use]
    pub fn is_discharged(&self, node: NodeId, stripe: StripeId, now: Wall) -> bool {
        self.until(node, stripe).is_some_and(|until| now < until)
    }
}

/// Which of the nodes that promise shards of a stripe have copies too many: none while a shard is missing or the policy does not hold. `promised`
/// are all who show a promise; `stays` says who of them is counted on, and who is to be free of its shard if that can be. Of two who have the
/// same shard it is the one of `full` that is free of it, if it can be, whose node is nearly full ([`crate::repair::gives`]).
#[must_use]
pub fn surplus<'a>(
    record: &Record,
    promised: &BTreeMap<NodeId, u16>,
    full: &BTreeSet<NodeId>,
    stays: impl Fn(NodeId) -> bool,
    site: impl Fn(NodeId) -> Option<&'a Site>,
) -> Vec<NodeId> {
    let mut staying = promised.clone();
    staying.retain(|&node, _| stays(node) && site(node).is_some());
    let suffice = |staying: &BTreeMap<NodeId, u16>| {
        let counted = counted_best(record, staying, &site).into_iter();
        let counted = counted.collect::<Option<BTreeSet<NodeId>>>()?;
        let sites: Vec<&Site> = counted.iter().filter_map(|&node| site(node)).collect();
        let is_good = check_placement(&record.policy, record.stripe.k.into(), &sites).is_ok();
        is_good.then_some(counted)
    };
    let Some(mut counted) = suffice(&staying) else { return Vec::new() };
    for node in full {
        let Some(index) = staying.remove(node) else { continue };
        match suffice(&staying) {
            Some(without) => counted = without,
            None => _ = staying.insert(*node, index),
        }
    }
    promised.keys().copied().filter(|node| !counted.contains(node)).collect()
}

/// Nodes that fail audits by the word of an own node, or of nodes of two operators: they show receipts for what they may not have, and who holds the
/// copy that was made for it is not to be discharged for them.
#[must_use]
pub fn failing(
    own: OperatorId,
    said: impl IntoIterator<Item = (OperatorId, Vec<NodeId>)>,
) -> BTreeSet<NodeId> {
    let mut by: BTreeMap<NodeId, BTreeSet<OperatorId>> = BTreeMap::new();
    for (operator, nodes) in said {
        for node in nodes {
            by.entry(node).or_default().insert(operator);
        }
    }
    by.retain(|_, operators| operators.contains(&own) || operators.len() >= 2);
    by.into_keys().collect()
}

#[cfg(test)]
mod tests;
