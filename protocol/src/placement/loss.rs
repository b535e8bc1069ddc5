//! The predicate for a loss that somebody names: what is left of a stripe when these domains are gone.

use super::predicate::{Violation, check_placement};
use crate::label::{Domain, Level, Site};
use crate::policy::{Clause, Policy};
use std::collections::{BTreeMap, BTreeSet};

/// Choices looked at before a clause counts as one that does not name a loss.
const WORK_MAX: u32 = 100_000;

/// Domains that are gone, all of them together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss(BTreeSet<Domain>);

/// What becomes of a stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It can be read, and what is left satisfies the policy.
    Whole,
    /// It can be read, and what is left breaks a clause.
    BelowPolicy {
        /// Shards left.
        left: usize,
        /// Which clause, and by what further loss.
        violation: Violation,
    },
    /// It cannot be read.
    Destroyed {
        /// Shards left.
        left: usize,
        /// Shards needed.
        needed: usize,
        /// A survive clause that names this loss, and was not kept; `None` when the loss is more than any clause
        /// names.
        broken: Option<Clause>,
    },
}

impl FromIterator<Domain> for Loss {
    fn from_iter<I: IntoIterator<Item = Domain>>(domains: I) -> Self {
        Self(domains.into_iter().collect())
    }
}

impl Loss {
    /// Whether a node at this site is gone.
    #[must_use]
    pub fn takes(&self, site: &Site) -> bool {
        self.0.iter().any(|domain| site.lies_in(domain))
    }

    /// What becomes of a stripe that needs `k` shards and whose live shards lie at these sites.
    #[must_use]
    pub fn fate(&self, policy: &Policy, k: usize, holders: &[&Site]) -> Fate {
        let (lost, left): (Vec<&Site>, Vec<&Site>) =
            holders.iter().partition(|site| self.takes(site));
        if left.len() < k {
            let names = |clause: &&Clause| names(clause, &lost);
            let broken = policy.survive.any.iter().find(names).cloned();
            return Fate::Destroyed { left: left.len(), needed: k, broken };
        }
        match check_placement(policy, k, &left) {
            Ok(()) => Fate::Whole,
            Err(violation) => Fate::BelowPolicy { left: left.len(), violation },
        }
    }
}

/// Whether some choice of the domains that a clause names holds all of these sites.
fn names(clause: &Clause, sites: &[&Site]) -> bool {
    let mut left: BTreeMap<&Level, u32> =
        clause.0.iter().map(|(level, &count)| (level, count)).collect();
    cover(&mut left, sites, &mut 0)
}

/// The first site must lie in a chosen domain of one of the levels: tries each.
fn cover(left: &mut BTreeMap<&Level, u32>, sites: &[&Site], work: &mut u32) -> bool {
    let Some(first) = sites.first() else { return true };
    *work += 1;
    if *work > WORK_MAX {
        return false;
    }
    let levels: Vec<&Level> = left.keys().copied().collect();
    levels.into_iter().any(|level| {
        match left.get_mut(level) {
            Some(count) if *count > 0 => *count -= 1,
            _ => return false,
        }
        let covered = first.domains(level).any(|domain| {
            let rest: Vec<&Site> =
                sites.iter().filter(|site| !site.lies_in(&domain)).copied().collect();
            cover(left, &rest, work)
        });
        if let Some(count) = left.get_mut(level) {
            *count += 1;
        }
        covered
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Clauses;
    use proptest::prelude::*;

    fn site(node: u8, provider: u8, account: u8) -> Site {
        Site::stating(node, &format!("provider=p{provider} account=a{account}"))
    }

    fn domain(text: &str) -> Domain {
        let label: crate::label::Label = text.parse().unwrap();
        Domain { level: label.level, name: Some(label.name) }
    }

    fn policy(clauses: &[&[(&str, u32)]]) -> Policy {
        let clause = |levels: &&[(&str, u32)]| {
            Clause(levels.iter().map(|(level, n)| (level.parse().unwrap(), *n)).collect())
        };
        let survive = Clauses { any: clauses.iter().map(clause).collect() };
        Policy { survive, ..Policy::survive_one("provider") }
    }

    #[test]
    fn two_of_three_providers_are_more_than_the_policy_names() {
        let sites: Vec<Site> = (0..9).map(|i| site(i, i / 3, i)).collect();
        let holders: Vec<&Site> = sites.iter().collect();
        let policy = policy(&[&[("provider", 1)]]);
        let one: Loss = [domain("provider=p0")].into_iter().collect();
        assert!(matches!(one.fate(&policy, 6, &holders), Fate::BelowPolicy { left: 6, .. }));
        let two: Loss = ["provider=p0", "account=a3"].map(domain).into_iter().collect();
        let fate = two.fate(&policy, 6, &holders);
        assert_eq!(fate, Fate::Destroyed { left: 5, needed: 6, broken: None });
        let nothing = Loss::default().fate(&policy, 6, &holders);
        assert_eq!(nothing, Fate::Whole);
    }

    #[test]
    fn a_loss_that_the_policy_names_was_not_provided_for() {
        // All at one provider, as after a backup with --allow-degraded.
        let sites: Vec<Site> = (0..3).map(|i| site(i, 0, i)).collect();
        let holders: Vec<&Site> = sites.iter().collect();
        let policy = policy(&[&[("account", 1)], &[("provider", 1)]]);
        let loss: Loss = [domain("provider=p0")].into_iter().collect();
        let Fate::Destroyed { left: 0, broken: Some(clause), .. } = loss.fate(&policy, 2, &holders)
        else {
            panic!()
        };
        assert_eq!(clause.to_string(), "provider=1");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn a_fate_is_that_of_brute_force(
            labels in proptest::collection::vec((0u8..3, 0u8..4), 1..8),
            k in 1usize..5,
            lost in proptest::collection::btree_set((any::<bool>(), 0u8..4), 0..4),
            (providers, accounts) in (0u32..3, 0u32..3),
        ) {
            prop_assume!(providers + accounts > 0);
            let sites: Vec<Site> = labels.iter().enumerate().map(|(i, &(p, a))| site(i as u8, p, a)).collect();
            let holders: Vec<&Site> = sites.iter().collect();
            let named = [("provider", providers), ("account", accounts)];
            let named: Vec<(&str, u32)> = named.into_iter().filter(|(_, count)| *count > 0).collect();
            let policy = policy(&[&named]);
            let loss: Loss = lost
                .iter()
                .map(|&(at_provider, i)| {
                    domain(&if at_provider { format!("provider=p{i}") } else { format!("account=a{i}") })
                })
                .collect();
            let is_lost = |i: usize| lost.contains(&(true, labels[i].0)) || lost.contains(&(false, labels[i].1));
            let left: Vec<&Site> = (0..sites.len()).filter(|&i| !is_lost(i)).map(|i| &sites[i]).collect();

            // All choices of providers and accounts, as bits.
            let covers = |p: u32, a: u32| (0..labels.len()).filter(|&i| is_lost(i)).all(|i| p >> labels[i].0 & 1 == 1 || a >> labels[i].1 & 1 == 1);
            let is_named = (0u32..8).any(|p| (0u32..16).any(|a| p.count_ones() <= providers && a.count_ones() <= accounts && covers(p, a)));
            match loss.fate(&policy, k, &holders) {
                Fate::Destroyed { left: found, needed, broken } => {
                    prop_assert!(left.len() < k && found == left.len() && needed == k);
                    prop_assert_eq!(broken.is_some(), is_named);
                    // Brute force on the predicate: a loss that a kept clause names destroys nothing.
                    prop_assert!(!(is_named && check_placement(&policy, k, &holders).is_ok()));
                }
                Fate::BelowPolicy { left: found, .. } => {
                    prop_assert!(found == left.len() && found >= k);
                    prop_assert!(check_placement(&policy, k, &left).is_err());
                }
                Fate::Whole => prop_assert!(left.len() >= k && check_placement(&policy, k, &left).is_ok()),
            }
        }
    }
}
