//! P6: a node that was told that it may leave is missed by nobody.
//!
//! - Of each stripe that an owner needs the others hold so much that its policy holds, by the one predicate. Who holds what is
//!   remembered from what nodes took; who is gone for so short a time that nobody can know it counts.
//! - It was not the node's own word, and no other one's alone: nodes of two other operators signed it, where so many hold the stripe.

use crate::client::Stored;
use crate::world::World;
use protocol::id::OperatorId;
use protocol::label::Site;
use protocol::leave::OPERATORS_NEEDED;
use protocol::message::LeaveSigner;
use protocol::placement::margin;
use protocol::policy::Policy;
use protocol::time::Period;
use std::collections::BTreeSet;

/// So many ways to count one of several copies of each shard are looked at.
const WAYS_MAX: usize = 4096;

impl World {
    /// A node may leave, by the word of these.
    pub(crate) fn check_leave(&mut self, node: usize, signers: &[LeaveSigner]) {
        let now = self.now();
        // What was well may lie too close together since, and nobody has looked again.
        let is_moving = self.relabelled.is_some_and(|at| at.after(self.patience) > now);
        if !self.hosts[node].is_honest() || is_moving || self.hosts.iter().any(|host| host.lies) {
            return;
        }
        let own = self.site(node).operator;
        let signed: BTreeSet<OperatorId> = signers.iter().map(|signer| signer.operator).collect();
        let others = signed.iter().filter(|operator| **operator != own).count();
        for owner in 0..self.owners.len() {
            for stripe in self.owners[owner].needed() {
                let of = &self.owners[owner];
                let stored = &of.stripes[stripe].stored;
                if self.checker_ref().given_up.contains(&stored.stripe.id()) {
                    continue;
                }
                let copies = self.copies(stored);
                if !copies.iter().flatten().any(|&holder| holder == node) {
                    continue;
                }
                let left: Vec<Vec<usize>> = copies
                    .iter()
                    .map(|nodes| nodes.iter().copied().filter(|&other| other != node).collect())
                    .collect();
                let bears = self.best_margin(&of.policy, usize::from(stored.stripe.k), &left);
                let left = left.iter().flatten().map(|&holder| self.site(holder).operator);
                let left: BTreeSet<OperatorId> = left.filter(|operator| *operator != own).collect();
                if bears < 0 {
                    let text = format!(
                        "node {node} may leave, and stripe {stripe} of owner {owner} bears {bears} losses more without it"
                    );
                    self.checker().report("P6", text);
                } else if others < left.len().min(OPERATORS_NEEDED) {
                    let text = format!(
                        "node {node} may leave by the word of {others} other operators, and {} have stripe {stripe} of owner {owner}",
                        left.len()
                    );
                    self.checker().report("P6", text);
                }
            }
        }
    }

    /// Of each shard the nodes that took it and have not dropped it. Whoever says that it has a shard is believed until somebody needs it.
    fn copies(&self, stored: &Stored) -> Vec<Vec<usize>> {
        let checker = self.checker_ref();
        let stand_ins: Vec<_> = checker.standing_in(stored.stripe.id()).collect();
        // Whom nobody has missed yet.
        let unnoticed = Period(2 * self.patience.0);
        let is_meant = |node: usize| {
            self.vanished.get(&node).is_none_or(|at| at.after(unnoticed) > self.now())
        };
        let copies = |(&named, &shard): (&usize, &protocol::id::ShardId)| {
            let others = stand_ins.iter().filter(|(_, of, _)| *of == shard);
            let nodes = std::iter::once(named).chain(others.map(|(node, ..)| *node));
            let has = |&node: &usize| checker.has_taken(node, shard) && is_meant(node);
            nodes.filter(has).collect()
        };
        stored.holders.iter().zip(&stored.stripe.shards).map(copies).collect()
    }

    /// The most that a stripe bears, whichever of several copies of a shard counts.
    pub(crate) fn best_margin(&self, policy: &Policy, k: usize, copies: &[Vec<usize>]) -> i64 {
        let copies: Vec<&Vec<usize>> = copies.iter().filter(|nodes| !nodes.is_empty()).collect();
        let ways = copies.iter().fold(1usize, |ways, nodes| ways.saturating_mul(nodes.len()));
        let way = |mut number: usize| {
            let pick = |nodes: &&Vec<usize>| {
                let node = nodes[number % nodes.len()];
                number /= nodes.len();
                self.site(node)
            };
            let sites: Vec<&Site> = copies.iter().map(pick).collect();
            margin(policy, k, &sites)
        };
        (0..ways.min(WAYS_MAX)).map(way).max().unwrap_or(i64::MIN)
    }
}
