//! Finds holders that satisfy a policy, with free space balanced.
//!
//! Greedy first: the candidate with the most room whose domains hold the fewest chosen shards. Where
//! the greedy choice breaks a clause, a bounded backtracking search over classes of equal candidates
//! (the same domains on every level that the policy names) decides exactly.

use super::predicate::{Violation, ViolationKind, check_placement, worst_held};
use crate::evidence::Evidence;
use crate::label::{Domain, Level, Site};
use crate::planted::{Bug, is_planted};
use crate::policy::{Clause, Clauses, Policy};
use crate::size::Size;
use std::collections::{BTreeMap, BTreeSet};

/// Placements that the exact search looks at before it gives up.
const WORK_MAX: u32 = 20_000;

/// A node that could hold a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub site: Site,
    /// Bytes that it can take.
    pub free: u64,
}

/// Why there is no placement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unplaceable {
    /// Too few nodes.
    #[error("{found} node{} with room for {}, {needed} needed", if *found == 1 { "" } else { "s" }, Size(*len))]
    Nodes {
        /// Nodes with room.
        found: usize,
        /// Nodes needed.
        needed: usize,
        /// Bytes each must take.
        len: u64,
    },
    /// Too few domains of a level, whatever is chosen.
    #[error("clause {clause}: {found} {}s{} reachable, {needed} needed", .level.asks().0, asked(.level))]
    Domains {
        /// The clause.
        clause: String,
        /// The level.
        level: Level,
        /// Domains found.
        found: usize,
        /// Domains needed at least.
        needed: usize,
    },
    /// No choice satisfies the clause.
    #[error("{0}")]
    Clause(Violation),
    /// The search was given up.
    #[error("no placement was found within the search limit; last: {0}")]
    SearchLimit(Violation),
}

/// What a level asks for besides a statement, in words.
fn asked(level: &Level) -> String {
    match level.asks() {
        (_, Evidence::Declared) => String::new(),
        (_, evidence) => format!(" that are {evidence}, or better,"),
    }
}

/// The levels that any clause of the policy names.
fn levels_of(policy: &Policy) -> Vec<Level> {
    let clauses = policy.survive.any.iter().chain(&policy.conceal.any);
    let levels: BTreeSet<Level> = clauses.flat_map(|clause| clause.0.keys().cloned()).collect();
    levels.into_iter().filter(|level| level.as_str() != Level::NODE).collect()
}

/// Chooses candidates for the shards of a k-of-n stripe of which `fixed` are placed already: their
/// indices, n less `fixed.len()` of them, most free room first. Equal choices are spread by `tie`. What is
/// returned satisfies [`check_placement`].
///
/// # Errors
/// [`Unplaceable`], which says what is missing.
pub fn solve(
    policy: &Policy,
    k: usize,
    n: usize,
    shard_len: u64,
    candidates: &[Candidate],
    fixed: &[Site],
    tie: u64,
) -> Result<Vec<usize>, Unplaceable> {
    let taken: BTreeSet<_> = fixed.iter().map(|site| site.node).collect();
    let usable: Vec<usize> = (0..candidates.len())
        .filter(|&i| candidates[i].free >= shard_len && !taken.contains(&candidates[i].site.node))
        .collect();
    let needed = n.saturating_sub(fixed.len());
    if usable.len() < needed {
        return Err(Unplaceable::Nodes {
            found: usable.len() + fixed.len(),
            needed: n,
            len: shard_len,
        });
    }
    if let Some(violation) = hopeless(policy, k, n, candidates, &usable, fixed) {
        return Err(explain(policy, k, n, candidates, &usable, fixed, violation));
    }
    let levels = levels_of(policy);
    let greedy = choose_greedily(&levels, needed, candidates, fixed, &usable, tie);
    let holders = |chosen: &[usize]| -> Vec<Site> {
        let new = chosen.iter().map(|&i| candidates[i].site.clone());
        fixed.iter().cloned().chain(new).collect()
    };
    let check = |chosen: &[usize]| {
        let sites = holders(chosen);
        check_placement(policy, k, &sites.iter().collect::<Vec<_>>())
    };
    let Err(first) = check(&greedy) else { return Ok(greedy) };

    // Candidates with the same domains are interchangeable: how many of each class is all that counts.
    let mut classes: BTreeMap<Vec<Domain>, Vec<usize>> = BTreeMap::new();
    for &i in &usable {
        let domains = levels.iter().flat_map(|level| candidates[i].site.domains(level)).collect();
        classes.entry(domains).or_default().push(i);
    }
    for members in classes.values_mut() {
        members.sort_by_key(|&i| (std::cmp::Reverse(candidates[i].free), spread(tie, i)));
    }
    let classes: Vec<Vec<usize>> = classes.into_values().collect();
    // More holders never hold less of what is lost.
    let may_do = |chosen: &[usize]| {
        let sites = holders(chosen);
        let sites: Vec<&Site> = sites.iter().collect();
        let held_at_most = |clauses: &Clauses, most: usize| {
            clauses.any.iter().all(|clause| worst_held(clause, &sites).is_none_or(|h| h <= most))
        };
        held_at_most(&policy.survive, n.saturating_sub(k))
            && held_at_most(&policy.conceal, k.saturating_sub(1))
    };
    let mut search = Search { classes: &classes, work: 0, check: &check, may_do: &may_do };
    match search.choose(0, needed, &mut Vec::new()) {
        Found::Yes(chosen) => Ok(chosen),
        Found::No => Err(explain(policy, k, n, candidates, &usable, fixed, first)),
        Found::Unknown => Err(Unplaceable::SearchLimit(first)),
    }
}

/// The clause that no choice of `n` holders can satisfy, however even, if that is plain.
fn hopeless(
    policy: &Policy,
    k: usize,
    n: usize,
    candidates: &[Candidate],
    usable: &[usize],
    fixed: &[Site],
) -> Option<Violation> {
    let sites: Vec<&Site> = usable.iter().map(|&i| &candidates[i].site).chain(fixed).collect();
    let broken = |kind, clauses: &Clauses, most: Option<usize>| {
        clauses.any.iter().find_map(|clause| {
            let held = least_worst(clause, n, &sites);
            let is_broken = most.is_none_or(|most| held > most) && !is_planted(Bug::Placement);
            let (domains, left) = (Vec::new(), n.saturating_sub(held));
            let clause = clause.clone();
            is_broken.then_some(Violation { kind, clause, domains, held, left, k })
        })
    };
    broken(ViolationKind::Survive, &policy.survive, n.checked_sub(k))
        .or_else(|| broken(ViolationKind::Conceal, &policy.conceal, k.checked_sub(1)))
}

/// The least that the worst domains a clause names hold of `n` shards, however they are spread over the
/// sites: a lower bound. Level by level, whoever attacks takes the fullest domains: first those of
/// an even spread within what each can take, then those of what is left.
fn least_worst(clause: &Clause, n: usize, sites: &[&Site]) -> usize {
    let levels: Vec<(&Level, usize)> =
        clause.0.iter().map(|(level, &count)| (level, count as usize)).collect();
    let rooms = |level: &Level| -> Vec<usize> {
        let mut rooms: BTreeMap<Domain, usize> = BTreeMap::new();
        for site in sites {
            *rooms.entry(site.domain(level)).or_default() += 1;
        }
        rooms.into_values().collect()
    };
    let in_order = |levels: &mut dyn Iterator<Item = &(&Level, usize)>| {
        levels.fold(0, |held, &(level, count)| {
            let left = n - held;
            let taken = if *level == Level::node() {
                count
            } else if held == 0 {
                fullest_of_even_spread(rooms(level), count, n)
            } else {
                // Which of the domains have lost what is open: only how many there are counts.
                let domains = rooms(level).len().max(1);
                (count.min(domains) * left).div_ceil(domains)
            };
            held + taken.min(left)
        })
    };
    in_order(&mut levels.iter()).max(in_order(&mut levels.iter().rev()))
}

/// What the `count` fullest domains hold when `n` shards are spread as evenly as the rooms allow.
fn fullest_of_even_spread(rooms: Vec<usize>, count: usize, n: usize) -> usize {
    let mut fill = vec![0; rooms.len()];
    for _ in 0..n {
        let open = (0..rooms.len()).filter(|&i| fill[i] < rooms[i]);
        let Some(emptiest) = open.min_by_key(|&i| fill[i]) else { break };
        fill[emptiest] += 1;
    }
    fill.sort_unstable_by(|a, b| b.cmp(a));
    fill.iter().take(count).sum()
}

/// A number that differs by tie and candidate: which of two equals comes first.
fn spread(tie: u64, index: usize) -> u64 {
    let mut z = (tie ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn choose_greedily(
    levels: &[Level],
    needed: usize,
    candidates: &[Candidate],
    fixed: &[Site],
    usable: &[usize],
    tie: u64,
) -> Vec<usize> {
    let domains_of = |site: &Site| -> Vec<Domain> {
        levels.iter().flat_map(|level| site.domains(level)).collect()
    };
    let domains: BTreeMap<usize, Vec<Domain>> =
        usable.iter().map(|&i| (i, domains_of(&candidates[i].site))).collect();
    let mut held: BTreeMap<Domain, usize> = BTreeMap::new();
    for domain in fixed.iter().flat_map(domains_of) {
        *held.entry(domain).or_default() += 1;
    }
    let mut left = usable.to_vec();
    let mut chosen = Vec::with_capacity(needed);
    while chosen.len() < needed {
        let load = |i: usize| -> usize {
            domains[&i]
                .iter()
                .map(|domain| held.get(domain).copied().unwrap_or(0))
                .max()
                .unwrap_or(0)
        };
        let total = |i: usize| -> usize {
            domains[&i].iter().map(|domain| held.get(domain).copied().unwrap_or(0)).sum()
        };
        let best = (0..left.len()).min_by_key(|&at| {
            let i = left[at];
            (load(i), total(i), std::cmp::Reverse(candidates[i].free), spread(tie, i))
        });
        let Some(best) = best else { break };
        let i = left.swap_remove(best);
        for domain in &domains[&i] {
            *held.entry(domain.clone()).or_default() += 1;
        }
        chosen.push(i);
    }
    chosen
}

enum Found {
    Yes(Vec<usize>),
    No,
    Unknown,
}

struct Search<'a, C, M> {
    classes: &'a [Vec<usize>],
    work: u32,
    check: &'a C,
    /// Whether a choice can still grow to one that passes the check.
    may_do: &'a M,
}

impl<C, M> Search<'_, C, M>
where
    C: Fn(&[usize]) -> Result<(), Violation>,
    M: Fn(&[usize]) -> bool,
{
    fn choose(&mut self, class: usize, needed: usize, chosen: &mut Vec<usize>) -> Found {
        self.work += 1;
        if self.work > WORK_MAX {
            return Found::Unknown;
        }
        if needed == 0 {
            return if (self.check)(chosen).is_ok() {
                Found::Yes(chosen.clone())
            } else {
                Found::No
            };
        }
        let available: usize =
            self.classes[class.min(self.classes.len())..].iter().map(Vec::len).sum();
        if available < needed {
            return Found::No;
        }
        let members = &self.classes[class];
        let later = available - members.len();
        let least = needed.saturating_sub(later);
        let before = chosen.len();
        for take in least..=members.len().min(needed) {
            chosen.extend_from_slice(&members[..take]);
            if take > 0 && !(self.may_do)(chosen) {
                chosen.truncate(before);
                break;
            }
            let found = self.choose(class + 1, needed - take, chosen);
            chosen.truncate(before);
            if !matches!(found, Found::No) {
                return found;
            }
        }
        Found::No
    }
}

/// Says what is missing: too few domains of a level that a clause names, if that is it.
fn explain(
    policy: &Policy,
    k: usize,
    n: usize,
    candidates: &[Candidate],
    usable: &[usize],
    fixed: &[Site],
    violation: Violation,
) -> Unplaceable {
    for clause in &policy.survive.any {
        for (level, &count) in &clause.0 {
            let sites = usable.iter().map(|&i| &candidates[i].site).chain(fixed);
            let found = sites.map(|site| site.domain(level)).collect::<BTreeSet<_>>().len();
            // Of d domains with n shards the t largest hold at least t·n/d: at most n-k may be lost.
            let enough =
                |d: usize| d > count as usize && (count as usize * n).div_ceil(d) <= n - k.min(n);
            if !enough(found) {
                let needed = (found + 1..=n.max(found + 1))
                    .find(|&d| enough(d))
                    .unwrap_or(count as usize + 1);
                let clause = clause.to_string();
                return Unplaceable::Domains { clause, level: level.clone(), found, needed };
            }
        }
    }
    Unplaceable::Clause(violation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Evidences;
    use crate::id::{NodeId, OperatorId};
    use crate::label::Labels;
    use proptest::prelude::*;

    fn candidate(node: u8, labels: &str, free: u64) -> Candidate {
        let labels = Labels::new(labels.split_whitespace().map(|l| l.parse().unwrap())).unwrap();
        Candidate { site: Site::new(NodeId([node; 32]), OperatorId([0; 32]), labels), free }
    }

    /// Of one of the first eight nodes whose bit is set the provider is vouched for.
    fn vouched_for(mut candidate: Candidate, bits: u8) -> Candidate {
        let number = candidate.site.node.0[0];
        if number < 8 && bits >> number & 1 == 1 {
            let shown = [(Level::new("provider").unwrap(), Evidence::Vouched)];
            candidate.site.evidence = Evidences::counted(shown.into());
        }
        candidate
    }

    #[test]
    fn the_emptier_nodes_are_chosen() {
        let candidates: Vec<Candidate> = (0..6)
            .map(|i| candidate(i, &format!("provider=p{}", i % 3), 1000 + u64::from(i)))
            .collect();
        let chosen =
            solve(&Policy::survive_one("provider"), 2, 3, 10, &candidates, &[], 0).unwrap();
        assert_eq!(chosen.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([3, 4, 5]));
    }

    #[test]
    fn what_is_missing_is_said() {
        let candidates: Vec<Candidate> =
            (0..6).map(|i| candidate(i, &format!("provider=p{}", i % 2), 1000)).collect();
        let error =
            solve(&Policy::survive_one("provider"), 4, 6, 10, &candidates, &[], 0).unwrap_err();
        assert_eq!(error.to_string(), "clause provider=1: 2 providers reachable, 3 needed");
        let error =
            solve(&Policy::survive_one("provider"), 4, 7, 10, &candidates, &[], 0).unwrap_err();
        assert_eq!(error.to_string(), "6 nodes with room for 10 B, 7 needed");
        let vouched: Vec<Candidate> =
            candidates.into_iter().map(|candidate| vouched_for(candidate, 1)).collect();
        let policy = Policy::survive_one("provider_vouched");
        let error = solve(&policy, 4, 6, 10, &vouched, &[], 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "clause provider_vouched=1: 2 providers that are vouched, or better, reachable, 3 needed"
        );
    }

    proptest! {
        #[test]
        fn no_choice_holds_less_than_the_least(
            labels in proptest::collection::vec((0u8..4, 0u8..4), 1..10),
            (providers, accounts, nodes) in (0u32..3, 0u32..3, 0u32..2),
            (chosen, vouched) in any::<(u16, u8)>(),
        ) {
            let all: Vec<Candidate> = labels
                .iter()
                .zip(0..)
                .map(|((p, a), i)| candidate(i, &format!("provider=p{p} account=a{a}"), 1))
                .map(|candidate| vouched_for(candidate, vouched))
                .collect();
            let levels = [("provider_vouched", providers), ("account", accounts), ("node", nodes)];
            let named = levels.iter().filter(|(_, count)| *count > 0);
            let clause = Clause(named.map(|(l, n)| (l.parse().unwrap(), *n)).collect());
            let all: Vec<&Site> = all.iter().map(|candidate| &candidate.site).collect();
            let some: Vec<&Site> =
                all.iter().enumerate().filter(|(i, _)| chosen >> i & 1 == 1).map(|(_, s)| *s).collect();
            let worst = worst_held(&clause, &some).unwrap();
            prop_assert!(least_worst(&clause, some.len(), &all) <= worst);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn a_placement_is_found_exactly_when_there_is_one(
            labels in proptest::collection::vec((0u8..3, 0u8..3), 1..8),
            vouched: u8,
            k in 1usize..5, n in 1usize..7, fixed in 0usize..3, level in 0usize..3,
        ) {
            prop_assume!(k <= n);
            let policy = Policy::survive_one(["provider", "account", "provider_vouched"][level]);
            let all: Vec<Candidate> = labels
                .iter()
                .enumerate()
                .map(|(i, (p, a))| candidate(i as u8, &format!("provider=p{p} account=a{a}"), 100))
                .map(|candidate| vouched_for(candidate, vouched))
                .collect();
            let fixed = fixed.min(all.len()).min(n);
            let sites: Vec<Site> = all[..fixed].iter().map(|c| c.site.clone()).collect();
            let candidates = &all[fixed..];
            let solved = solve(&policy, k, n, 50, candidates, &sites, 7);
            let works = |chosen: &[usize]| {
                let holders: Vec<&Site> =
                    sites.iter().chain(chosen.iter().map(|&i| &candidates[i].site)).collect();
                holders.len() == n && check_placement(&policy, k, &holders).is_ok()
            };
            let exists = (0u32..1 << candidates.len()).any(|mask| {
                let chosen: Vec<usize> = (0..candidates.len()).filter(|i| mask >> i & 1 == 1).collect();
                works(&chosen)
            });
            match solved {
                Ok(chosen) => prop_assert!(works(&chosen)),
                Err(error) => prop_assert!(!exists, "{error}"),
            }
        }
    }
}
