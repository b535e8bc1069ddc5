//! How well what was written earlier is kept now: what stands as the policy asks need not be sent again.
//!
//! A pack counts as its stripe and the index stripe that lists it do: without the one it cannot be read, and without
//! the other nobody else finds it. A holder that the roster does not list counts for nothing. Whether a holder answers
//! today is not asked here: a short outage must not send everything again.

use super::predicate::check_placement;
use crate::id::NodeId;
use crate::label::Site;
use crate::policy::{Lock, Policy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who holds shards of a stripe, one each, and under which terms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holders {
    /// Shards needed.
    pub k: u16,
    /// For how long they are kept.
    pub lock: Lock,
    /// The holders.
    pub nodes: Vec<NodeId>,
}

/// How well something is kept, from good to bad. Of what is needed together the worst counts, of what can stand in for
/// each other the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// As the policy asks.
    Good,
    /// It can be read, and falls short of the policy.
    Below,
    /// As far as anybody tells it cannot be read, or nobody else can find it.
    Gone,
}

/// Which index stripe lists a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing<T> {
    /// None yet: whoever asks is about to write it.
    Pending,
    /// This one.
    In(T),
    /// None that anybody knows of.
    Nowhere,
}

impl<T> Listing<T> {
    /// The index stripe, if there is one.
    pub fn stripe(self) -> Option<T> {
        match self {
            Self::In(stripe) => Some(stripe),
            Self::Pending | Self::Nowhere => None,
        }
    }
}

impl Standing {
    /// A stripe's, by its holders. `sites` are those of the nodes that the roster lists.
    #[must_use]
    pub fn of_stripe(policy: &Policy, sites: &BTreeMap<NodeId, Site>, holders: &Holders) -> Self {
        let listed: Vec<&Site> = holders.nodes.iter().filter_map(|node| sites.get(node)).collect();
        let k = usize::from(holders.k);
        if listed.len() < k {
            Self::Gone
        } else if !holders.lock.covers(&policy.lock) || check_placement(policy, k, &listed).is_err()
        {
            Self::Below
        } else {
            Self::Good
        }
    }

    /// A pack's, by that of its stripe and that of the index stripe that lists it.
    #[must_use]
    pub fn of_pack(stripe: Self, listing: Listing<Self>) -> Self {
        match listing {
            Listing::Pending => stripe,
            Listing::In(index) => stripe.max(index),
            Listing::Nowhere => Self::Gone,
        }
    }

    /// Whether it need not be sent again. `takes_less` says that it would be no better then.
    #[must_use]
    pub fn is_enough(self, takes_less: bool) -> bool {
        self <= if takes_less { Self::Below } else { Self::Good }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Level;
    use crate::time::Period;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn node(name: u8) -> NodeId {
        NodeId([name; 32])
    }

    /// Nodes 1 and on, each with the provider named.
    fn sites(providers: &[u8]) -> BTreeMap<NodeId, Site> {
        let site = |(i, name): (usize, &u8)| {
            let site = Site::stating(i as u8 + 1, &format!("provider=p{name}"));
            (site.node, site)
        };
        providers.iter().enumerate().map(site).collect()
    }

    fn holders(k: u16, names: impl IntoIterator<Item = u8>) -> Holders {
        Holders { k, lock: Lock::default(), nodes: names.into_iter().map(node).collect() }
    }

    fn policy() -> Policy {
        Policy::survive_one("provider")
    }

    #[test]
    fn what_falls_short_is_told_from_what_is_gone() {
        let sites = sites(&[1, 2, 3]);
        let standing = |k: u16, names: &[u8]| {
            Standing::of_stripe(&policy(), &sites, &holders(k, names.iter().copied()))
        };
        assert_eq!(standing(2, &[1, 2, 3]), Standing::Good);
        assert_eq!(standing(1, &[1]), Standing::Below);
        assert_eq!(standing(2, &[1, 3]), Standing::Below);
        assert_eq!(standing(2, &[1]), Standing::Gone);
        // The roster does not list node 9.
        assert_eq!(standing(2, &[1, 2, 9]), Standing::Below);
        assert_eq!(standing(1, &[9]), Standing::Gone);
        let lock = Lock { period: Period::days(1), ..policy().lock };
        let shorter = Holders { lock, ..holders(2, [1, 2, 3]) };
        assert_eq!(Standing::of_stripe(&policy(), &sites, &shorter), Standing::Below);
    }

    #[test]
    fn a_pack_that_nobody_else_finds_is_gone_but_for_who_is_about_to_list_it() {
        assert_eq!(Standing::of_pack(Standing::Good, Listing::Nowhere), Standing::Gone);
        assert_eq!(Standing::of_pack(Standing::Good, Listing::Pending), Standing::Good);
        assert_eq!(Standing::of_pack(Standing::Below, Listing::Pending), Standing::Below);
        assert_eq!(Standing::of_pack(Standing::Good, Listing::In(Standing::Gone)), Standing::Gone);
        assert_eq!(Listing::In(3).stripe(), Some(3));
        assert_eq!(Listing::<u8>::Nowhere.stripe(), None);
    }

    #[test]
    fn only_what_cannot_be_read_is_sent_again_where_nothing_better_can_be_had() {
        let enough =
            |less| [Standing::Good, Standing::Below, Standing::Gone].map(|s| s.is_enough(less));
        assert_eq!(enough(false), [true, false, false]);
        assert_eq!(enough(true), [true, true, false]);
    }

    prop_compose! {
        /// Providers of nodes, who of them (and of strangers) holds a shard, and k.
        fn a_stripe()(
            providers in proptest::collection::vec(0u8..4, 1..8),
            names in proptest::collection::btree_set(1u8..12, 0..10),
            k in 1u16..6,
        ) -> (Vec<u8>, BTreeSet<u8>, u16) {
            (providers, names, k)
        }
    }

    proptest! {
        #[test]
        fn what_stands_well_is_read_whichever_provider_is_lost((providers, names, k) in a_stripe()) {
            let all = sites(&providers);
            let holders = holders(k, names);
            let standing = Standing::of_stripe(&policy(), &all, &holders);
            let provider = |site: &Site| site.domain(&Level::new("provider").unwrap());
            let survives = all.values().map(provider).all(|lost| {
                let left = all.clone().into_iter().filter(|(_, site)| provider(site) != lost);
                Standing::of_stripe(&policy(), &left.collect(), &holders) != Standing::Gone
            });
            prop_assert_eq!(standing == Standing::Good, survives && standing != Standing::Gone);
        }

        #[test]
        fn strangers_make_nothing_better((providers, names, k) in a_stripe()) {
            let sites = sites(&providers);
            let listed = names.iter().copied().filter(|&name| sites.contains_key(&node(name)));
            prop_assert_eq!(
                Standing::of_stripe(&policy(), &sites, &holders(k, listed)),
                Standing::of_stripe(&policy(), &sites, &holders(k, names.iter().copied()))
            );
        }
    }
}
