//! Who of a stripe's holders asks another one about its shard in a round: two of them, of two operators where there are. They are drawn
//! by the names of stripe, holder and round (rendezvous hashing), so that all who see the same holders agree, that nobody is for ever
//! spared by a friend, and that the work is spread.

use crate::id::{NodeId, OperatorId, StripeId};
use std::collections::BTreeMap;

/// How many ask about one shard.
pub const AUDITORS: usize = 2;

/// Who asks this holder about its shard of a stripe, of these that hold it as well.
#[must_use]
pub fn auditors(
    stripe: StripeId,
    holder: NodeId,
    round: u64,
    others: &BTreeMap<NodeId, OperatorId>,
) -> Vec<NodeId> {
    let weight = |node: &NodeId| {
        let drawn = [&holder.0[..], &round.to_be_bytes(), &node.0].concat();
        *blake3::keyed_hash(&stripe.0, &drawn).as_bytes()
    };
    let mut order: Vec<(&NodeId, &OperatorId)> =
        others.iter().filter(|(node, _)| **node != holder).collect();
    order.sort_by_key(|(node, _)| std::cmp::Reverse(weight(node)));
    let Some(&(first, operator)) = order.first() else { return Vec::new() };
    let other = order.iter().find(|(_, other)| *other != operator).or(order.get(1));
    std::iter::once(*first).chain(other.map(|(node, _)| **node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn node(name: u8) -> NodeId {
        NodeId([name; 32])
    }

    fn holders(of: &[u8]) -> BTreeMap<NodeId, OperatorId> {
        (1u8..).zip(of).map(|(name, of)| (node(name), OperatorId([*of; 32]))).collect()
    }

    #[test]
    fn everybody_has_a_turn_and_nobody_is_spared() {
        let others = holders(&[1, 1, 2, 3, 3, 3]);
        for holder in 1..7 {
            let drawn: BTreeSet<NodeId> = (0..40)
                .flat_map(|round| auditors(StripeId([9; 32]), node(holder), round, &others))
                .collect();
            assert_eq!(drawn.len(), 5, "all of the others, and not itself");
        }
    }

    #[test]
    fn the_work_is_spread() {
        let others = holders(&[1, 2, 3, 4, 5, 6]);
        let mut counts: BTreeMap<NodeId, u32> = BTreeMap::new();
        for stripe in 0..600u32 {
            let stripe = StripeId(*blake3::hash(&stripe.to_be_bytes()).as_bytes());
            for holder in 1..7 {
                for auditor in auditors(stripe, node(holder), 1, &others) {
                    *counts.entry(auditor).or_default() += 1;
                }
            }
        }
        // Each asks as often as it is asked: 1200 times.
        assert!(counts.values().all(|count| (1080..1320).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn two_ask_and_of_two_operators_where_there_are(
            operators in prop::collection::vec(1u8..4, 1..10), stripe: [u8; 32], round: u64,
        ) {
            let all = holders(&operators);
            let holder = node(1);
            let drawn = auditors(StripeId(stripe), holder, round, &all);
            let others: BTreeMap<NodeId, OperatorId> =
                all.iter().filter(|(n, _)| **n != holder).map(|(n, o)| (*n, *o)).collect();
            prop_assert_eq!(drawn.len(), others.len().min(AUDITORS));
            prop_assert!(drawn.iter().all(|auditor| others.contains_key(auditor)));
            let count = |nodes: &[NodeId]| nodes.iter().map(|n| others[n]).collect::<BTreeSet<_>>().len();
            let most = others.values().collect::<BTreeSet<_>>().len();
            prop_assert_eq!(count(&drawn), most.min(AUDITORS));
            // Whether the one who is asked counts itself changes nothing.
            prop_assert_eq!(&auditors(StripeId(stripe), holder, round, &others), &drawn);
            // Without the first the second still asks, whoever takes the other's place.
            if drawn.len() == 2 && count(&drawn) == 2 {
                let left = others.into_iter().filter(|(n, _)| *n != drawn[0]).collect();
                let again = auditors(StripeId(stripe), holder, round, &left);
                prop_assert!(again.len() == left.len().min(AUDITORS));
            }
        }
    }
}
