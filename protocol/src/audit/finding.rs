//! What auditors say of a holder, and when that counts: who does not prove what it promised is to be replaced when auditors of two operators
//! saw it, where the stripe has holders of so many, or else two nodes; or when it signed what is no proof, which nobody else can make up.
//!
//! Fewer answers than the stripe needs shards blame nobody: it may be the auditors who are cut off, and nothing could be rebuilt.

use crate::id::{NodeId, OperatorId, PublicKey, ShardId, StripeId, VaultId};
use crate::planted::{Bug, is_planted};
use crate::sign::Statement;
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What became of asking a holder about a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It proved it.
    Proved,
    /// It shows no promise any more.
    NotPromised,
    /// It says that it has not what it promised.
    Missing,
    /// It signed what is no proof.
    Wrong,
    /// It was there and gave no answer, however often it was asked.
    Silent,
}

impl Outcome {
    /// Whether it speaks against the holder.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Missing | Self::Wrong | Self::Silent)
    }

    /// In words, of the holder.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proved => "proved it",
            Self::NotPromised => "promises it no more",
            Self::Missing => "says that it has it not",
            Self::Wrong => "signed what is no proof",
            Self::Silent => "gives no answer",
        }
    }
}

/// An auditor's word on one shard of one holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Who asked.
    pub auditor: NodeId,
    /// Who was asked.
    pub holder: NodeId,
    /// Whose shard.
    pub vault: VaultId,
    /// Of which stripe.
    pub stripe: StripeId,
    /// Which.
    pub shard: ShardId,
    /// What came of it.
    pub outcome: Outcome,
    /// When, by the auditor's wall clock.
    pub when: Wall,
}

impl Statement for Finding {
    const CONTEXT: &'static str = "strewn audit finding";
    const LEN_MAX: usize = 256;
    fn signer(&self) -> PublicKey {
        self.auditor.key()
    }
}

/// What is known against a holder's having a shard.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// Who could ask about it: those that hold the stripe, but for the one that is asked, each with its operator.
    pub auditors: BTreeMap<NodeId, OperatorId>,
    /// Those of them that say it failed.
    pub against: BTreeSet<NodeId>,
    /// Whether the holder's own signature under what is no proof is here.
    pub is_convicted: bool,
    /// Whether it proved it to this node since.
    pub is_proved: bool,
    /// How many of the stripe's other shards can be had, as far as is known here.
    pub others: usize,
    /// How many are needed.
    pub k: usize,
}

impl Case {
    /// Whether it counts as not having the shard.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        if self.is_proved || self.others < self.k {
            return false;
        }
        let operators = |nodes: &mut dyn Iterator<Item = &NodeId>| {
            nodes.filter_map(|node| self.auditors.get(node)).collect::<BTreeSet<_>>().len()
        };
        let against = self.against.iter().filter(|node| self.auditors.contains_key(node)).count();
        let seen = if operators(&mut self.auditors.keys()) >= 2 {
            operators(&mut self.against.iter())
        } else {
            against
        };
        let needed = if is_planted(Bug::Word) { 1 } else { 2 };
        self.is_convicted || seen >= needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: u8) -> NodeId {
        NodeId([name; 32])
    }

    /// Four auditors, each of these operators.
    fn case(operators: [u8; 4], against: &[u8]) -> Case {
        let operators = (1u8..).zip(operators).map(|(n, of)| (node(n), OperatorId([of; 32])));
        Case {
            auditors: operators.collect(),
            against: against.iter().map(|&name| node(name)).collect(),
            others: 4,
            k: 2,
            ..Case::default()
        }
    }

    #[test]
    fn one_auditor_blames_nobody_and_two_operators_do() {
        assert!(!case([1, 1, 2, 3], &[1]).is_shown());
        assert!(!case([1, 1, 2, 3], &[1, 2]).is_shown(), "one operator, twice");
        assert!(case([1, 1, 2, 3], &[1, 3]).is_shown());
        // Where all are one operator's, two nodes do.
        assert!(!case([1, 1, 1, 1], &[4]).is_shown());
        assert!(case([1, 1, 1, 1], &[2, 4]).is_shown());
        // Whoever does not hold the stripe has no say.
        assert!(!case([1, 1, 2, 3], &[1, 9]).is_shown());
        assert!(!case([1, 1, 1, 1], &[1, 9]).is_shown());
    }

    #[test]
    fn a_signature_under_what_is_no_proof_is_enough() {
        let convicted = Case { is_convicted: true, ..case([1, 1, 2, 3], &[1]) };
        assert!(convicted.is_shown());
        assert!(!Case { others: 1, ..convicted.clone() }.is_shown(), "nothing could be rebuilt");
        assert!(!Case { is_proved: true, ..convicted }.is_shown(), "it has it now");
    }

    proptest! {
        #[test]
        fn fewer_than_k_blame_nobody_and_a_proof_outweighs_all_words(
            operators: [u8; 4], against in prop::collection::vec(1u8..6, 0..6), k in 1usize..6, others in 0usize..6,
            convicted: bool,
        ) {
            let case = Case { others, k, is_convicted: convicted, ..case(operators, &against) };
            prop_assert!(others >= k || !case.is_shown());
            let proved = Case { is_proved: true, ..case.clone() };
            prop_assert!(!proved.is_shown());
            // A word more never acquits.
            let mut more = case.clone();
            more.against.insert(node(1));
            prop_assert!(more.is_shown() || !case.is_shown());
            let count = case.against.iter().filter(|node| case.auditors.contains_key(node)).count();
            prop_assert!(convicted || count >= 2 || !case.is_shown());
        }
    }
}
