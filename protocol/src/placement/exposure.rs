//! The predicate backwards: what must fall together before a stripe is destroyed, or assembled.

use crate::label::{Domain, Level, Site};
use std::collections::{BTreeMap, BTreeSet};

/// Sets of domains looked at before an enumeration is cut short.
const WORK_MAX: usize = 500_000;

/// For one level: how many of its domains must fall together, and an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelExposure {
    /// The fewest domains whose loss leaves fewer than k shards.
    pub destroy: Vec<Domain>,
    /// The fewest domains that hold k shards together; `None` when all of them do not.
    pub assemble: Option<Vec<Domain>>,
}

/// What must fall together, by level. Exact: the domains of one level are disjoint, so the largest ones
/// are the worst ones; but for `unknown`, which has what is not shown as well as the level asks whatever it states, and is tried both ways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure {
    /// By level.
    pub levels: BTreeMap<Level, LevelExposure>,
}

impl Exposure {
    /// The exposure of one stripe that needs `k` shards, whose live shards lie at these sites.
    /// A stripe that is destroyed already needs no domain to fall.
    #[must_use]
    pub fn of(k: usize, holders: &[&Site], levels: &[Level]) -> Self {
        let one = |level: &Level| {
            let unknown = Domain { level: level.clone(), name: None };
            // The domains that are stated, by size, of the holders that are not taken yet.
            let by_size = |is_open: &dyn Fn(&Site) -> bool| {
                let mut counts: BTreeMap<Domain, usize> = BTreeMap::new();
                for domain in holders.iter().filter(|s| is_open(s)).flat_map(|s| s.domains(level)) {
                    *counts.entry(domain).or_default() += 1;
                }
                let mut domains: Vec<(Domain, usize)> =
                    counts.into_iter().filter(|(domain, _)| *domain != unknown).collect();
                domains.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
                domains
            };
            let stated = by_size(&|_| true);
            let besides = by_size(&|site| !site.lies_in(&unknown));
            let not_shown = holders.iter().filter(|site| site.lies_in(&unknown)).count();
            let take = |first: Option<&Domain>, domains: &[(Domain, usize)], needed: usize| {
                let mut taken: Vec<Domain> = first.into_iter().cloned().collect();
                let mut sum = if first.is_some() { not_shown } else { 0 };
                for (domain, count) in domains {
                    if sum >= needed {
                        break;
                    }
                    sum += count;
                    taken.push(domain.clone());
                }
                (sum >= needed).then_some(taken)
            };
            let fewest = |needed: usize| {
                let without = take(None, &stated, needed);
                let with = (not_shown > 0 && needed > 0)
                    .then(|| take(Some(&unknown), &besides, needed))
                    .flatten();
                without.into_iter().chain(with).min_by_key(Vec::len)
            };
            // Losing all of them always destroys.
            let to_lose = (holders.len() + 1).saturating_sub(k);
            LevelExposure { destroy: fewest(to_lose).unwrap_or_default(), assemble: fewest(k) }
        };
        Self { levels: levels.iter().map(|level| (level.clone(), one(level))).collect() }
    }

    /// The exposure of both together: something is lost as soon as one of the two is.
    #[must_use]
    pub fn worst(mut self, other: Self) -> Self {
        for (level, theirs) in other.levels {
            match self.levels.get_mut(&level) {
                None => {
                    self.levels.insert(level, theirs);
                }
                Some(ours) => {
                    if theirs.destroy.len() < ours.destroy.len() {
                        ours.destroy = theirs.destroy;
                    }
                    ours.assemble = match (ours.assemble.take(), theirs.assemble) {
                        (Some(a), Some(b)) => Some(if b.len() < a.len() { b } else { a }),
                        (a, b) => a.or(b),
                    };
                }
            }
        }
        self
    }
}

/// Whether the loss of these domains leaves fewer than `k` shards.
#[must_use]
pub fn is_destroyed(k: usize, holders: &[&Site], lost: &[Domain]) -> bool {
    let gone = |site: &&&Site| lost.iter().any(|domain| site.lies_in(domain));
    holders.len() - holders.iter().filter(gone).count() < k
}

/// Minimal sets of domains, of any mix of levels, whose loss destroys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillSets {
    /// The sets, smallest first; none contains another.
    pub sets: Vec<BTreeSet<Domain>>,
    /// Whether all sets up to the size asked were looked at.
    pub complete: bool,
}

/// All minimal sets of at most `size_max` domains of the given levels whose loss leaves fewer than
/// `k` shards.
#[must_use]
pub fn smallest_kill_sets(
    k: usize,
    holders: &[&Site],
    levels: &[Level],
    size_max: usize,
) -> KillSets {
    let domains: BTreeSet<Domain> = levels
        .iter()
        .flat_map(|level| holders.iter().flat_map(|site| site.domains(level)))
        .collect();
    let domains: Vec<Domain> = domains.into_iter().collect();
    let mut sets: Vec<BTreeSet<Domain>> = Vec::new();
    let mut work = 0;
    for size in 0..=size_max.min(domains.len()) {
        let mut indices: Vec<usize> = (0..size).collect();
        loop {
            work += 1;
            if work > WORK_MAX {
                return KillSets { sets, complete: false };
            }
            let set: BTreeSet<Domain> = indices.iter().map(|&i| domains[i].clone()).collect();
            let minimal = !sets.iter().any(|smaller| smaller.is_subset(&set));
            let lost: Vec<Domain> = set.iter().cloned().collect();
            if minimal && is_destroyed(k, holders, &lost) {
                sets.push(set);
            }
            // The next combination in lexicographic order.
            let movable = (0..size).rev().find(|&at| indices[at] < domains.len() - size + at);
            let Some(at) = movable else { break };
            indices[at] += 1;
            for later in at + 1..size {
                indices[later] = indices[later - 1] + 1;
            }
        }
    }
    KillSets { sets, complete: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Evidence, Evidences};
    use proptest::prelude::*;

    fn site(node: u8, provider: u8, account: u8) -> Site {
        Site::stating(node, &format!("provider=p{provider} account=a{account}"))
    }

    /// As [`site`], and whether its provider is vouched for.
    fn shown(node: u8, provider: u8, is_vouched: bool) -> Site {
        let evidence = if is_vouched { Evidence::Vouched } else { Evidence::Signed };
        let counted = BTreeMap::from([(Level::new("provider").unwrap(), evidence)]);
        Site { evidence: Evidences::counted(counted), ..site(node, provider, 0) }
    }

    fn levels() -> Vec<Level> {
        ["provider", "account", "operator"].map(|l| Level::new(l).unwrap()).to_vec()
    }

    #[test]
    fn six_of_nine_over_three_providers_needs_two_of_them() {
        let sites: Vec<Site> = (0..9).map(|i| site(i, i / 3, i)).collect();
        let exposure = Exposure::of(6, &sites.iter().collect::<Vec<_>>(), &levels());
        let level = |name: &str| &exposure.levels[&Level::new(name).unwrap()];
        assert_eq!(level("provider").destroy.len(), 2);
        assert_eq!(level("account").destroy.len(), 4);
        assert_eq!(level("operator").destroy.len(), 1);
        assert_eq!(level("provider").assemble.as_ref().unwrap().len(), 2);
        assert_eq!(level("account").assemble.as_ref().unwrap().len(), 6);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn exposure_is_that_of_brute_force(
            labels in proptest::collection::vec((0u8..3, 0u8..4), 1..7), k in 1usize..5,
        ) {
            let sites: Vec<Site> = labels.iter().enumerate().map(|(i, &(p, a))| site(i as u8, p, a)).collect();
            let holders: Vec<&Site> = sites.iter().collect();
            let exposure = Exposure::of(k, &holders, &levels());
            for level in levels() {
                let sets = smallest_kill_sets(k, &holders, std::slice::from_ref(&level), 7);
                prop_assert!(sets.complete);
                let fewest = sets.sets.iter().map(BTreeSet::len).min().unwrap();
                prop_assert_eq!(exposure.levels[&level].destroy.len(), fewest);
                prop_assert!(is_destroyed(k, &holders, &exposure.levels[&level].destroy));
                let assembles = |set: &[Domain]| {
                    sites.iter().filter(|s| set.contains(&s.domain(&level))).count() >= k
                };
                match &exposure.levels[&level].assemble {
                    Some(set) => prop_assert!(assembles(set)),
                    None => prop_assert!(holders.len() < k),
                }
            }
        }

        #[test]
        fn exposure_is_that_of_brute_force_also_where_evidence_is_asked_for(
            nodes in proptest::collection::vec((0u8..4, any::<bool>()), 1..8), k in 1usize..6,
        ) {
            let site = |(i, &(p, v)): (usize, &(u8, bool))| shown(i as u8, p, v);
            let sites: Vec<Site> = nodes.iter().enumerate().map(site).collect();
            let holders: Vec<&Site> = sites.iter().collect();
            let level = Level::new("provider_vouched").unwrap();
            let exposure = Exposure::of(k, &holders, std::slice::from_ref(&level));
            let exposure = &exposure.levels[&level];
            let sets = smallest_kill_sets(k, &holders, std::slice::from_ref(&level), 8);
            prop_assert!(sets.complete);
            let fewest = sets.sets.iter().map(BTreeSet::len).min().unwrap();
            prop_assert_eq!(exposure.destroy.len(), fewest);
            prop_assert!(is_destroyed(k, &holders, &exposure.destroy));
            // What assembles k shards leaves too few of a code that needs all others but k - 1.
            let assemble = (sites.len() + 1).checked_sub(k).filter(|left| *left > 0).map(|left| {
                smallest_kill_sets(left, &holders, std::slice::from_ref(&level), 8).sets
            });
            let fewest = assemble.and_then(|sets| sets.iter().map(BTreeSet::len).min());
            prop_assert_eq!(exposure.assemble.as_ref().map(Vec::len), fewest);
        }

        #[test]
        fn kill_sets_are_minimal_and_complete(
            labels in proptest::collection::vec((0u8..3, 0u8..3), 1..6), k in 1usize..4,
        ) {
            let sites: Vec<Site> = labels.iter().enumerate().map(|(i, &(p, a))| site(i as u8, p, a)).collect();
            let holders: Vec<&Site> = sites.iter().collect();
            let levels = &levels()[..2];
            let found = smallest_kill_sets(k, &holders, levels, 8).sets;
            let domains: BTreeSet<Domain> =
                levels.iter().flat_map(|l| sites.iter().map(|s| s.domain(l))).collect();
            let domains: Vec<Domain> = domains.into_iter().collect();
            for mask in 0u32..1 << domains.len() {
                let set: BTreeSet<Domain> =
                    (0..domains.len()).filter(|i| mask >> i & 1 == 1).map(|i| domains[i].clone()).collect();
                let lost: Vec<Domain> = set.iter().cloned().collect();
                let covered = found.iter().any(|kill| kill.is_subset(&set));
                prop_assert_eq!(is_destroyed(k, &holders, &lost), covered);
            }
        }
    }
}
