//! The one predicate: does a set of holders satisfy a policy?

use crate::label::{Domain, DomainName, Level, Site};
use crate::planted::{Bug, is_planted};
use crate::policy::{Clause, Policy};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Steps of the search for the worst union of domains. Real stripes (n ≤ 40, a handful of domains
/// a level) need some hundreds; beyond the limit a placement counts as violating its policy.
const WORK_MAX: u32 = 200_000;

/// What kind of clause fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViolationKind {
    /// Too few shards are left when the domains are lost.
    Survive,
    /// The domains hold enough shards to assemble the pack.
    Conceal,
    /// One node holds two shards.
    TwoShards,
    /// The worst case could not be computed within the work limit: unknown counts as bad.
    TooComplex,
}

/// Why a placement does not satisfy a policy, with the counterexample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What kind of clause fails.
    pub kind: ViolationKind,
    /// The clause; empty when no clause is meant.
    pub clause: Clause,
    /// The domains that show it; none when no choice of holders would do.
    pub domains: Vec<Domain>,
    /// Shards that lie in those domains.
    pub held: usize,
    /// Shards that lie elsewhere.
    pub left: usize,
    /// Shards needed.
    pub k: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domains: Vec<String> = self.domains.iter().map(Domain::short).collect();
        let domains = domains.join(", ");
        match self.kind {
            ViolationKind::Survive if self.domains.is_empty() => write!(
                f,
                "clause {}: whatever is chosen, {} shards may be left, {} needed",
                self.clause, self.left, self.k
            ),
            ViolationKind::Conceal if self.domains.is_empty() => write!(
                f,
                "conceal clause {}: whatever is chosen, {} shards may be held, fewer than {} allowed",
                self.clause, self.held, self.k
            ),
            ViolationKind::Survive => write!(
                f,
                "clause {}: without {domains} {} shards are left, {} needed",
                self.clause, self.left, self.k
            ),
            ViolationKind::Conceal => write!(
                f,
                "conceal clause {}: {domains} hold {} shards, fewer than {} allowed",
                self.clause, self.held, self.k
            ),
            ViolationKind::TwoShards => write!(f, "{domains} holds two shards of one stripe"),
            ViolationKind::TooComplex => {
                write!(
                    f,
                    "clause {}: its worst case cannot be computed, which counts as bad",
                    self.clause
                )
            }
        }
    }
}

impl std::error::Error for Violation {}

/// Whether the holders, one shard each, satisfy every clause of the policy for a code that needs `k`
/// shards. `holders` are the sites of the live shards of one stripe.
///
/// # Errors
/// The first [`Violation`] found, with the domains that show it.
pub fn check_placement(policy: &Policy, k: usize, holders: &[&Site]) -> Result<(), Violation> {
    let nodes: BTreeSet<_> = holders.iter().map(|site| site.node).collect();
    if nodes.len() != holders.len() {
        let twice = holders
            .iter()
            .find(|site| holders.iter().filter(|other| other.node == site.node).count() > 1)
            .map(|site| site.domain(&Level::node()));
        return Err(Violation {
            kind: ViolationKind::TwoShards,
            clause: Clause(BTreeMap::new()),
            domains: twice.into_iter().collect(),
            held: 2,
            left: holders.len(),
            k,
        });
    }
    for (kind, clauses) in
        [(ViolationKind::Survive, &policy.survive), (ViolationKind::Conceal, &policy.conceal)]
    {
        for clause in &clauses.any {
            let violation = |kind, worst: Worst<'_>| Violation {
                kind,
                clause: clause.clone(),
                domains: worst.domains(holders),
                held: worst.held,
                left: holders.len() - worst.held,
                k,
            };
            let worst = worst_union(clause, holders)
                .map_err(|worst| violation(ViolationKind::TooComplex, worst))?;
            let broken = match kind {
                ViolationKind::Conceal => worst.held >= k,
                _ => holders.len() - worst.held < k,
            };
            if broken && !is_planted(Bug::Placement) {
                return Err(violation(kind, worst));
            }
        }
    }
    Ok(())
}

/// How many further shards a stripe can lose, after the worst loss that its survive clauses name,
/// before it is destroyed; negative when a clause fails. `i64::MIN` when it cannot be computed.
#[must_use]
pub fn margin(policy: &Policy, k: usize, holders: &[&Site]) -> i64 {
    policy
        .survive
        .any
        .iter()
        .map(|clause| match worst_union(clause, holders) {
            Ok(worst) => (holders.len() - worst.held) as i64 - k as i64,
            Err(_) => i64::MIN,
        })
        .min()
        .unwrap_or(i64::MIN)
}

/// How well holders lie, to be compared: first by [`margin`], then by how few share domains of the levels that survive clauses name.
#[must_use]
pub fn lie(policy: &Policy, k: usize, holders: &[&Site]) -> (i64, Reverse<usize>) {
    let named = policy.survive.any.iter().flat_map(|clause| clause.0.keys());
    let levels: BTreeSet<&Level> = named.filter(|level| **level != Level::node()).collect();
    let crowd = |level: &&Level| -> usize {
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for holder in holders {
            for domain in holder.domains(level) {
                *counts.entry(domain).or_default() += 1;
            }
        }
        counts.values().map(|count| count * count).sum()
    };
    (margin(policy, k, holders), Reverse(levels.iter().map(crowd).sum()))
}

/// How many further shards the worst domains that a conceal clause names may get before they can assemble the pack; negative when
/// they can already, `i64::MAX` where nothing is to be concealed, `i64::MIN` when it cannot be computed.
#[must_use]
pub fn conceal_margin(policy: &Policy, k: usize, holders: &[&Site]) -> i64 {
    let left = policy.conceal.any.iter().map(|clause| match worst_union(clause, holders) {
        Ok(worst) => k as i64 - 1 - worst.held as i64,
        Err(_) => i64::MIN,
    });
    left.min().unwrap_or(i64::MAX)
}

/// How many of the holders the worst domains of a clause hold; `None` when it cannot be computed.
pub(super) fn worst_held(clause: &Clause, holders: &[&Site]) -> Option<usize> {
    worst_union(clause, holders).ok().map(|worst| worst.held)
}

/// A choice of domains that covers the most holders.
struct Worst<'a> {
    levels: Vec<Ranked<'a>>,
    chosen: Vec<(usize, usize)>,
    /// Nodes that the clause names beyond those.
    nodes: usize,
    held: usize,
}

impl Worst<'_> {
    fn domains(&self, holders: &[&Site]) -> Vec<Domain> {
        let chosen = self.chosen.iter().map(|&(at, choice)| {
            let Ranked { level, choices, .. } = &self.levels[at];
            (Domain::named(level, choices[choice].name), choices[choice].cover)
        });
        let (mut domains, covers): (Vec<Domain>, Vec<Cover>) = chosen.unzip();
        let covered = covers.into_iter().fold(Cover::EMPTY, Cover::union);
        let node_level = Level::node();
        let others = holders.iter().enumerate().filter(|(holder, _)| !covered.has(*holder));
        domains.extend(others.take(self.nodes).map(|(_, site)| site.domain(&node_level)));
        domains
    }
}

/// A set of holders, as bits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cover([u64; 4]);

impl Cover {
    const EMPTY: Self = Self([0; 4]);

    fn insert(&mut self, holder: usize) {
        self.0[holder / 64] |= 1 << (holder % 64);
    }

    fn has(self, holder: usize) -> bool {
        self.0[holder / 64] & (1 << (holder % 64)) != 0
    }

    fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    fn without(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    fn len(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

struct Choice<'a> {
    name: Option<DomainName<'a>>,
    cover: Cover,
}

/// The domains of a level, the largest first, of which a clause names so many.
struct Ranked<'a> {
    level: &'a Level,
    count: usize,
    choices: Vec<Choice<'a>>,
}

struct Search<'a> {
    levels: &'a [Ranked<'a>],
    /// Nodes that the clause may name beyond the domains: each covers one holder more.
    nodes: usize,
    holders: usize,
    best: usize,
    chosen: Vec<(usize, usize)>,
    best_chosen: Vec<(usize, usize)>,
    work: u32,
}

/// The domains that a clause may name which together cover the most holders. Exact: one level is a
/// sort; several are a branch and bound over the choices of all levels but `node`, whose domains
/// are single holders and are added last. Where evidence is asked for, who shows none lies in `unknown` besides the domain that it states.
fn worst_union<'a>(clause: &'a Clause, holders: &[&'a Site]) -> Result<Worst<'a>, Worst<'a>> {
    let mut nodes = 0;
    let mut levels = Vec::new();
    for (level, &count) in &clause.0 {
        if level.as_str() == Level::NODE {
            nodes = count as usize;
            continue;
        }
        let mut covers: BTreeMap<Option<DomainName<'a>>, Cover> = BTreeMap::new();
        for (index, site) in holders.iter().enumerate().take(256) {
            for name in site.domain_names(level) {
                covers.entry(name).or_insert(Cover::EMPTY).insert(index);
            }
        }
        let choices = covers.into_iter().map(|(name, cover)| Choice { name, cover });
        let mut choices: Vec<Choice<'a>> = choices.collect();
        choices.sort_by_key(|choice| Reverse(choice.cover.len()));
        levels.push(Ranked { level, count: count as usize, choices });
    }
    let mut search = Search {
        levels: &levels,
        nodes,
        holders: holders.len(),
        best: 0,
        chosen: Vec::new(),
        best_chosen: Vec::new(),
        work: 0,
    };
    let is_exact = search.level(0, Cover::EMPTY);
    let (held, chosen) = (search.best.min(holders.len()), search.best_chosen);
    let worst = Worst { levels, chosen, nodes, held };
    if is_exact { Ok(worst) } else { Err(worst) }
}

impl Search<'_> {
    /// Tries the choices of this and later levels. False when the work limit was hit.
    fn level(&mut self, level: usize, cover: Cover) -> bool {
        if level == self.levels.len() {
            let covered = (cover.len() + self.nodes).min(self.holders);
            if covered > self.best || self.best_chosen.is_empty() {
                self.best = covered.max(self.best);
                self.best_chosen = self.chosen.clone();
            }
            return true;
        }
        let count = self.levels[level].count;
        self.choose(level, 0, count, cover)
    }

    fn choose(&mut self, level: usize, from: usize, count: usize, cover: Cover) -> bool {
        self.work += 1;
        if self.work > WORK_MAX {
            return false;
        }
        // The choices are sorted by size, so what is still to gain is bounded by the largest left.
        if cover.len() + self.gain_max(level, from, count, cover) + self.nodes <= self.best
            || self.best == self.holders && !self.best_chosen.is_empty()
        {
            return true;
        }
        let choices = &self.levels[level].choices;
        if count == 0 || from == choices.len() {
            return self.level(level + 1, cover);
        }
        self.chosen.push((level, from));
        let taken = self.choose(level, from + 1, count - 1, cover.union(choices[from].cover));
        self.chosen.pop();
        taken && self.choose(level, from + 1, count, cover)
    }

    /// At most so many holders can be covered beyond `cover`.
    fn gain_max(&self, level: usize, from: usize, count: usize, cover: Cover) -> usize {
        let gain = |choices: &[Choice<'_>], count: usize| -> usize {
            // The `count` largest new covers: the most that they can have together, also where some overlap.
            let gains = choices.iter().map(|choice| choice.cover.without(cover).len());
            match count {
                0 => return 0,
                1 => return gains.max().unwrap_or(0),
                _ => {}
            }
            let mut gains: Vec<usize> = gains.collect();
            gains.sort_unstable_by(|a, b| b.cmp(a));
            gains.iter().take(count).sum()
        };
        let here = gain(&self.levels[level].choices[from..], count);
        let later = self.levels[level + 1..].iter().map(|of| gain(&of.choices, of.count));
        here + later.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Evidence, Evidences};
    use crate::policy::{Clauses, Lock};
    use proptest::prelude::*;

    fn policy(clauses: &[&[(&str, u32)]]) -> Policy {
        let clause = |levels: &&[(&str, u32)]| {
            Clause(levels.iter().map(|&(l, n)| (Level::new(l).unwrap(), n)).collect())
        };
        Policy {
            survive: Clauses { any: clauses.iter().map(clause).collect() },
            conceal: Clauses::default(),
            lock: Lock::default(),
        }
    }

    fn check(policy: &Policy, k: usize, sites: &[Site]) -> Result<(), Violation> {
        check_placement(policy, k, &sites.iter().collect::<Vec<_>>())
    }

    #[test]
    fn nine_nodes_of_three_providers_survive_one_provider_with_six_of_nine() {
        let sites: Vec<Site> = (0..9)
            .map(|i| Site::stating(i, &format!("provider=p{} account=a{i}", i / 3)))
            .collect();
        let policy = policy(&[&[("provider", 1)]]);
        assert_eq!(check(&policy, 6, &sites), Ok(()));
        let violation = check(&policy, 7, &sites).unwrap_err();
        assert_eq!((violation.held, violation.left), (3, 6));
        assert_eq!(
            violation.to_string(),
            "clause provider=1: without provider=p0 6 shards are left, 7 needed"
        );
    }

    #[test]
    fn what_states_no_label_is_one_domain() {
        let sites: Vec<Site> = (0..6).map(|i| Site::stating(i, "")).collect();
        assert!(check(&policy(&[&[("provider", 1)]]), 1, &sites).is_err());
        assert_eq!(check(&policy(&[&[("node", 2)]]), 4, &sites), Ok(()));
    }

    #[test]
    fn domains_are_counted_and_not_shards() {
        // Ten shards, seven of them with one provider: losing it leaves three (Tahoe-LAFS #2106).
        let sites: Vec<Site> = (0..10)
            .map(|i| Site::stating(i, if i < 7 { "provider=a" } else { "provider=b" }))
            .collect();
        assert!(check(&policy(&[&[("provider", 1)]]), 4, &sites).is_err());
        assert_eq!(check(&policy(&[&[("provider", 1)]]), 3, &sites), Ok(()));
    }

    #[test]
    fn levels_together_are_a_union() {
        let sites = [
            Site::stating(1, "provider=a region=x"),
            Site::stating(2, "provider=a region=y"),
            Site::stating(3, "provider=b region=x"),
            Site::stating(4, "provider=b region=y"),
        ];
        // provider a and region x overlap in node 1: three nodes are lost, one is left.
        let both = policy(&[&[("provider", 1), ("region", 1)]]);
        assert_eq!(check(&both, 1, &sites), Ok(()));
        assert!(check(&both, 2, &sites).is_err());
        let with_node = policy(&[&[("provider", 1), ("node", 1)]]);
        assert_eq!(check(&with_node, 1, &sites), Ok(()));
        assert!(check(&with_node, 2, &sites).is_err());
    }

    #[test]
    fn a_node_holds_one_shard() {
        let twice = [Site::stating(1, "provider=a"), Site::stating(1, "provider=a")];
        let violation = check(&policy(&[&[("node", 1)]]), 1, &twice).unwrap_err();
        assert_eq!(violation.kind, ViolationKind::TwoShards);
    }

    const ALL: [Evidence; 5] = [
        Evidence::Contradicted,
        Evidence::Declared,
        Evidence::Signed,
        Evidence::Vouched,
        Evidence::Attested,
    ];

    /// Provider, account, and the evidence for each.
    type Drawn = (u8, u8, usize, usize);
    /// At most so much evidence for each.
    type Less = (usize, usize);

    /// A node with that.
    fn shown((i, of): (usize, &Drawn)) -> Site {
        let &(provider, account, shows_provider, shows_account) = of;
        let evidence = [("provider", shows_provider), ("account", shows_account)];
        let counted = evidence.map(|(level, shows)| (Level::new(level).unwrap(), ALL[shows]));
        let site = Site::stating(i as u8, &format!("provider=p{provider} account=a{account}"));
        Site { evidence: Evidences::counted(counted.into()), ..site }
    }

    fn brute_force(clause: &Clause, holders: &[Site]) -> usize {
        fn choose(levels: &[(Level, u32)], lost: &BTreeSet<Domain>, holders: &[Site]) -> usize {
            let Some(((level, count), rest)) = levels.split_first() else {
                return holders.iter().filter(|s| lost.iter().any(|d| s.lies_in(d))).count();
            };
            let domains: BTreeSet<Domain> = holders.iter().flat_map(|s| s.domains(level)).collect();
            let domains: Vec<Domain> = domains.into_iter().collect();
            (0u32..1 << domains.len())
                .filter(|mask| mask.count_ones() <= *count)
                .map(|mask| {
                    let mut lost = lost.clone();
                    lost.extend(
                        (0..domains.len())
                            .filter(|i| mask >> i & 1 == 1)
                            .map(|i| domains[i].clone()),
                    );
                    choose(rest, &lost, holders)
                })
                .max()
                .unwrap_or(0)
        }
        let levels: Vec<(Level, u32)> = clause.0.iter().map(|(l, &n)| (l.clone(), n)).collect();
        choose(&levels, &BTreeSet::new(), holders)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn the_worst_union_is_that_of_brute_force(
            labels in proptest::collection::vec((0u8..3, 0u8..4, 0u8..3), 0..8),
            counts in (0u32..3, 0u32..3, 0u32..2, 0u32..3),
            asks: bool,
        ) {
            let sites: Vec<Site> = labels
                .iter()
                .enumerate()
                .map(|(i, (p, a, r))| {
                    let region = if *r == 0 { String::new() } else { format!("region=r{r}") };
                    let site = Site::stating(i as u8, &format!("provider=p{p} account=a{a} {region}"));
                    let vouched = [(Level::new("account").unwrap(), ALL[1 + usize::from(*r)])];
                    Site { evidence: Evidences::counted(vouched.into()), ..site }
                })
                .collect();
            let account = if asks { "account_vouched" } else { "account" };
            let named = [("provider", counts.0), (account, counts.1), ("region", counts.2), ("node", counts.3)];
            let clause: BTreeMap<Level, u32> = named
                .into_iter()
                .filter(|&(_, n)| n > 0)
                .map(|(l, n)| (Level::new(l).unwrap(), n))
                .collect();
            prop_assume!(!clause.is_empty());
            let clause = Clause(clause);
            let refs: Vec<&Site> = sites.iter().collect();
            let Ok(worst) = worst_union(&clause, &refs) else { panic!("small cases are exact") };
            prop_assert_eq!(worst.held, brute_force(&clause, &sites));
            let domains = worst.domains(&refs);
            let shown = sites.iter().filter(|s| domains.iter().any(|d| s.lies_in(d))).count();
            prop_assert_eq!(shown, worst.held, "the counterexample shows what is claimed");
        }

        #[test]
        fn more_evidence_asked_for_makes_no_placement_acceptable_that_was_not(
            labels in proptest::collection::vec((0u8..3, 0u8..3, 0usize..5, 0usize..5), 1..8),
            counts in (0u32..3, 0u32..3, 0u32..2),
            (provider, account) in (0usize..4, 0usize..4),
            k in 1usize..5,
        ) {
            let sites: Vec<Site> = labels.iter().enumerate().map(shown).collect();
            let holders: Vec<&Site> = sites.iter().collect();
            let asking = |provider: usize, account: usize| {
                let level = |name: &str, least: usize| Level::new(name).unwrap().asking(ALL[least + 1]);
                let counts = [
                    (level("provider", provider), counts.0),
                    (level("account", account), counts.1),
                    (Level::node(), counts.2),
                ];
                let clause: BTreeMap<Level, u32> = counts.into_iter().filter(|(_, n)| *n > 0).collect();
                let clauses = Clauses { any: vec![Clause(clause)] };
                [
                    Policy { survive: clauses.clone(), conceal: Clauses::default(), lock: Lock::default() },
                    Policy { survive: Clauses::default(), conceal: clauses, lock: Lock::default() },
                ]
            };
            for (least, more) in asking(0, 0).into_iter().zip(asking(provider, account)) {
                let accepts = |policy: &Policy| check_placement(policy, k, &holders).is_ok();
                prop_assert!(!accepts(&more) || accepts(&least));
            }
            let between = asking(provider.min(1), account);
            for (less, more) in between.into_iter().zip(asking(provider, account)) {
                let accepts = |policy: &Policy| check_placement(policy, k, &holders).is_ok();
                prop_assert!(!accepts(&more) || accepts(&less));
                let margins = |policy: &Policy| (margin(policy, k, &holders), conceal_margin(policy, k, &holders));
                let (m, l) = (margins(&more), margins(&less));
                prop_assert!(m.0 <= l.0 && m.1 <= l.1);
            }
        }

        #[test]
        fn less_evidence_shown_makes_no_placement_acceptable_that_was_not(
            labels in proptest::collection::vec((0u8..3, 0u8..3, 0usize..5, 0usize..5), 1..8),
            weaker in proptest::collection::vec((0usize..5, 0usize..5), 8),
            (provider, account) in (1u32..3, 0u32..2),
            (asks_provider, asks_account) in (0usize..4, 0usize..4),
            k in 1usize..5,
        ) {
            let before: Vec<Site> = labels.iter().enumerate().map(shown).collect();
            let weaken = |((i, of), least): ((usize, &Drawn), &Less)| {
                shown((i, &(of.0, of.1, of.2.min(least.0), of.3.min(least.1))))
            };
            let after: Vec<Site> = labels.iter().enumerate().zip(&weaker).map(weaken).collect();
            let asking = |name: &str, least: usize| Level::new(name).unwrap().asking(ALL[least + 1]);
            let counts = [(asking("provider", asks_provider), provider), (asking("account", asks_account), account)];
            let clause = Clause(counts.into_iter().filter(|(_, n)| *n > 0).collect());
            let policy = Policy {
                survive: Clauses { any: vec![clause.clone()] },
                conceal: Clauses { any: vec![clause] },
                lock: Lock::default(),
            };
            prop_assert!(check(&policy, k, &after).is_err() || check(&policy, k, &before).is_ok());
        }
    }
}
