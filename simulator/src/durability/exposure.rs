//! The exposure of a whole mesh, exactly: how few domains, of any mix of levels, destroy or read something, how
//! many such sets there are, and with which probability it happens when each domain is lost with its own. Domains overlap;
//! nothing is sampled.
//!
//! Domains are decided one after another, as in a binary decision diagram. What must be remembered of those decided
//! is small: which groups of nodes are gone already, and how many shards each stripe has lost. Nodes that share all their
//! shared domains form a group; what only one node lies in (the node itself, an account of its own) is folded into that
//! node when its group is finished. States that agree in all of this are one. What is carried along is a probability, or
//! a count of sets by size. Beyond [`STATES_MAX`] states the answer is an error, never an estimate.

use protocol::label::{Domain, Level, Site};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

/// Most states at once: beyond, memory and time grow past what a planner waits for.
pub const STATES_MAX: usize = 400_000;
/// Largest set that is counted.
pub const SET_MAX: usize = 12;

/// Why there is no exact answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExposureError {
    /// Domains and stripes are too entangled.
    #[error(
        "after {decided} of {domains} shared domains more than {STATES_MAX} states are open: ask for fewer stripes or levels at once"
    )]
    TooEntangled {
        /// Domains decided.
        decided: usize,
        /// Domains shared by several nodes.
        domains: usize,
    },
    /// A stripe names a node that is not there.
    #[error("a stripe names node {0}, of {1}")]
    NoSuchNode(usize, usize),
    /// A probability is none.
    #[error("{0}: {1} is not a probability")]
    NotAProbability(String, f64),
}

/// A stripe: how many shards it needs and which nodes hold one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stripe {
    /// Shards needed.
    pub k: usize,
    /// The holders, as indices of sites.
    pub holders: Vec<usize>,
}

/// What counts as the end of a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Fewer than k shards are left outside the domains.
    Destroyed,
    /// The domains hold k shards.
    Read,
}

impl End {
    /// Shards within the domains at which it comes; 0 when it has come already.
    fn threshold(self, stripe: &Stripe) -> usize {
        match self {
            Self::Destroyed => (stripe.holders.len() + 1).saturating_sub(stripe.k),
            Self::Read => stripe.k,
        }
    }
}

/// What is carried through the decisions.
trait Weight: Clone {
    fn zero() -> Self;
    fn one() -> Self;
    fn add(&mut self, other: &Self);
    fn times(&self, other: &Self) -> Self;
    /// Without sets of more than so many domains; `None` where nothing is left to carry.
    fn trimmed(self, most: usize) -> Option<Self>;
}

impl Weight for f64 {
    fn zero() -> Self {
        0.0
    }
    fn one() -> Self {
        1.0
    }
    fn add(&mut self, other: &Self) {
        *self += other;
    }
    fn times(&self, other: &Self) -> Self {
        self * other
    }
    fn trimmed(self, _most: usize) -> Option<Self> {
        Some(self)
    }
}

/// How many sets there are of each size, up to [`SET_MAX`]. Saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts([u128; SET_MAX + 1]);

impl Counts {
    fn of_size(size: usize) -> Self {
        let mut counts = Self::zero();
        counts.0[size] = 1;
        counts
    }
}

impl Weight for Counts {
    fn zero() -> Self {
        Self([0; SET_MAX + 1])
    }
    fn one() -> Self {
        Self::of_size(0)
    }
    fn add(&mut self, other: &Self) {
        for (ours, theirs) in self.0.iter_mut().zip(other.0) {
            *ours = ours.saturating_add(theirs);
        }
    }
    fn times(&self, other: &Self) -> Self {
        let mut out = Self::zero();
        for (i, a) in self.0.iter().enumerate().filter(|(_, a)| **a > 0) {
            for (j, b) in other.0[..=SET_MAX - i].iter().enumerate() {
                out.0[i + j] = out.0[i + j].saturating_add(a.saturating_mul(*b));
            }
        }
        out
    }
    fn trimmed(mut self, most: usize) -> Option<Self> {
        self.0.iter_mut().skip(most + 1).for_each(|count| *count = 0);
        self.0.iter().any(|&count| count > 0).then_some(self)
    }
}

/// The smallest sets of domains that end something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smallest {
    /// Domains in each; `None` when no set of up to [`SET_MAX`] does.
    pub size: Option<usize>,
    /// How many such sets there are (saturates at 2^128).
    pub count: u128,
    /// One of them.
    pub example: BTreeSet<Domain>,
}

/// How probable ends are.
#[derive(Debug, Clone, PartialEq)]
pub struct Chances {
    /// At least one stripe.
    pub any: f64,
    /// Every stripe.
    pub all: f64,
    /// The expected number of stripes.
    pub expected: f64,
    /// P(exactly i stripes), i from 0.
    pub distribution: Vec<f64>,
}

/// A mesh: its nodes and the stripes on them, seen on some levels.
#[derive(Debug, Clone)]
pub struct Mesh {
    stripes: Vec<(Stripe, usize)>,
    /// Of each node that holds something: its domains.
    nodes: BTreeMap<usize, Vec<Domain>>,
    /// Domains with more than one such node.
    shared: Vec<Domain>,
}

impl Mesh {
    /// The mesh of these sites and stripes on these levels. Equal stripes are counted together.
    ///
    /// # Errors
    /// [`ExposureError::NoSuchNode`].
    pub fn new(
        sites: &[Site],
        stripes: &[Stripe],
        levels: &[Level],
    ) -> Result<Self, ExposureError> {
        let mut equal: BTreeMap<Stripe, usize> = BTreeMap::new();
        for stripe in stripes {
            let mut stripe = stripe.clone();
            stripe.holders.sort_unstable();
            *equal.entry(stripe).or_default() += 1;
        }
        let mut nodes = BTreeMap::new();
        for &node in equal.keys().flat_map(|stripe| &stripe.holders) {
            let site = sites.get(node).ok_or(ExposureError::NoSuchNode(node, sites.len()))?;
            nodes.entry(node).or_insert_with(|| {
                let domains: BTreeSet<Domain> = levels.iter().map(|l| site.domain(l)).collect();
                domains.into_iter().collect()
            });
        }
        let mut members: BTreeMap<&Domain, Vec<usize>> = BTreeMap::new();
        for (node, domains) in &nodes {
            for domain in domains {
                members.entry(domain).or_default().push(*node);
            }
        }
        // Neighbours first: groups are finished early when domains that meet in them are decided together.
        let mut shared: Vec<(Vec<usize>, Domain)> = members
            .into_iter()
            .filter(|(_, members)| members.len() > 1)
            .map(|(domain, members)| (members, domain.clone()))
            .collect();
        shared.sort_by_key(|(members, domain)| {
            (std::cmp::Reverse(members.len() > nodes.len() / 2), members[0], domain.clone())
        });
        let shared = shared.into_iter().map(|(_, domain)| domain).collect();
        Ok(Self { stripes: equal.into_iter().collect(), nodes, shared })
    }

    /// How probable it is that stripes end, when every domain is lost with its own probability, one independently of
    /// another.
    ///
    /// # Errors
    /// [`ExposureError`] when a number is no probability, or the mesh too entangled.
    pub fn chances(
        &self,
        end: End,
        probability: &dyn Fn(&Domain) -> f64,
    ) -> Result<Chances, ExposureError> {
        for domain in self.nodes.values().flatten() {
            let p = probability(domain);
            if !(0.0..=1.0).contains(&p) {
                return Err(ExposureError::NotAProbability(domain.to_string(), p));
            }
        }
        let weights = |domain: &Domain| {
            let p = probability(domain);
            (1.0 - p, p)
        };
        let total: usize = self.stripes.iter().map(|(_, times)| times).sum();
        let mut distribution = vec![0.0; total + 1];
        for (ended, p) in self.decide(end, &self.stripes, &weights, SET_MAX)? {
            distribution[ended] += p;
        }
        let expected = distribution.iter().enumerate().map(|(i, p)| i as f64 * p).sum();
        let any = distribution[1..].iter().sum();
        let all = distribution[total];
        Ok(Chances { any, all, expected, distribution })
    }

    /// The expected number of stripes that end, one stripe at a time: exact where all together are too entangled.
    ///
    /// # Errors
    /// [`ExposureError`] when one stripe alone is too entangled.
    pub fn expected(
        &self,
        end: End,
        probability: &dyn Fn(&Domain) -> f64,
    ) -> Result<f64, ExposureError> {
        let weights = |domain: &Domain| (1.0 - probability(domain), probability(domain));
        self.stripes.iter().try_fold(0.0, |sum, stripe| {
            let ends = self.decide(end, std::slice::from_ref(stripe), &weights, SET_MAX)?;
            Ok(sum + ends.iter().map(|(ended, p)| *ended as f64 * p).sum::<f64>())
        })
    }

    /// The smallest sets of domains, of any mix of the levels, that end at least one stripe.
    ///
    /// # Errors
    /// [`ExposureError::TooEntangled`].
    pub fn smallest(&self, end: End) -> Result<Smallest, ExposureError> {
        let count = |chosen: &BTreeSet<Domain>, most: usize| -> Result<Counts, ExposureError> {
            let weights = |domain: &Domain| {
                // A chosen domain is lost for nothing.
                if chosen.contains(domain) {
                    (Counts::zero(), Counts::one())
                } else {
                    (Counts::one(), Counts::of_size(1))
                }
            };
            let mut sum = Counts::zero();
            for (ended, counts) in self.decide(end, &self.stripes, &weights, most)? {
                if ended > 0 {
                    sum.add(&counts);
                }
            }
            Ok(sum)
        };
        let least = |counts: &Counts| counts.0.iter().position(|&c| c > 0);
        // Small sets first: states that only larger ones lead to are not carried, and they are nearly all.
        let mut found = None;
        for most in 0..=SET_MAX {
            let counts = count(&BTreeSet::new(), most)?;
            found = least(&counts).map(|size| (size, counts));
            if found.is_some() {
                break;
            }
        }
        let Some((size, counts)) = found else {
            return Ok(Smallest { size: None, count: 0, example: BTreeSet::new() });
        };
        // One domain after another is taken if that brings the end one nearer.
        let mut example = BTreeSet::new();
        let domains: BTreeSet<&Domain> = self.nodes.values().flatten().collect();
        for domain in domains {
            if example.len() == size {
                break;
            }
            let mut with = example.clone();
            with.insert(domain.clone());
            if least(&count(&with, size - with.len())?) == Some(size - with.len()) {
                example = with;
            }
        }
        Ok(Smallest { size: Some(size), count: counts.0[size], example })
    }

    /// Decides all domains: the weight of each number of stripes ended. Sets of more than `most` domains are left out.
    fn decide<W: Weight>(
        &self,
        end: End,
        stripes: &[(Stripe, usize)],
        weights: &dyn Fn(&Domain) -> (W, W),
        most: usize,
    ) -> Result<BTreeMap<usize, W>, ExposureError> {
        let thresholds: Vec<usize> = stripes.iter().map(|(s, _)| end.threshold(s)).collect();
        let held: BTreeSet<usize> =
            stripes.iter().flat_map(|(stripe, _)| stripe.holders.iter().copied()).collect();
        // Groups of nodes by the shared domains in which they lie.
        let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for &node in &held {
            let shared = |d: &Domain| self.shared.iter().position(|s| s == d);
            let mut lies: Vec<usize> = self.nodes[&node].iter().filter_map(shared).collect();
            lies.sort_unstable();
            groups.entry(lies).or_default().push(node);
        }
        let groups: Vec<(Vec<usize>, Vec<usize>)> = groups.into_iter().collect();
        let mut of_domain: Vec<Vec<usize>> = vec![Vec::new(); self.shared.len()];
        let mut finished_by: Vec<Vec<usize>> = vec![Vec::new(); self.shared.len()];
        let mut free = Vec::new();
        for (group, (lies, _)) in groups.iter().enumerate() {
            for &domain in lies {
                of_domain[domain].push(group);
            }
            match lies.last() {
                Some(&last) => finished_by[last].push(group),
                None => free.push(group),
            }
        }
        let stripes_of = |node: usize| -> Vec<usize> {
            (0..stripes.len()).filter(|&s| stripes[s].0.holders.contains(&node)).collect()
        };
        let mut states: States<W> = States::default();
        let start =
            State { gone: vec![0; groups.len().div_ceil(64)], held: vec![0; stripes.len()] };
        states.insert(start, W::one());
        let put = |states: &mut States<W>, state: State, weight: W| {
            if let Some(weight) = weight.trimmed(most) {
                states.entry(state).or_insert_with(W::zero).add(&weight);
            }
        };
        let finish = |states: States<W>, group: usize, decided: usize| {
            let mut states = states;
            for &node in &groups[group].1 {
                let own = self.nodes[&node].iter().filter(|d| !self.shared.contains(d));
                // Lost unless none of its own domains is.
                let (mut kept, mut lost) = (W::one(), W::zero());
                let mut all = W::one();
                for domain in own {
                    let (stays, goes) = weights(domain);
                    let mut both = stays.clone();
                    both.add(&goes);
                    let mut now_lost = lost.times(&both);
                    now_lost.add(&kept.times(&goes));
                    lost = now_lost;
                    kept = kept.times(&stays);
                    all = all.times(&both);
                }
                let touched = stripes_of(node);
                let mut next: States<W> = States::default();
                for (state, weight) in states {
                    let mut down = state.clone();
                    for &s in &touched {
                        let end = thresholds[s].min(usize::from(u16::MAX)) as u16;
                        down.held[s] = (down.held[s] + 1).min(end);
                    }
                    if state.is_gone(group) {
                        put(&mut next, down, weight.times(&all));
                    } else {
                        put(&mut next, state, weight.times(&kept));
                        put(&mut next, down, weight.times(&lost));
                    }
                }
                if next.len() > STATES_MAX {
                    let domains = self.shared.len();
                    return Err(ExposureError::TooEntangled { decided, domains });
                }
                states = next;
            }
            // Forgotten: from here on the group no longer tells states apart.
            let mut merged: States<W> = States::default();
            for (mut state, weight) in states {
                state.gone[group / 64] &= !(1 << (group % 64));
                put(&mut merged, state, weight);
            }
            Ok(merged)
        };
        for (decided, domain) in self.shared.iter().enumerate() {
            if of_domain[decided].is_empty() {
                continue;
            }
            let (stays, goes) = weights(domain);
            let mut next: States<W> = States::default();
            for (state, weight) in states {
                let mut down = state.clone();
                for &group in &of_domain[decided] {
                    down.gone[group / 64] |= 1 << (group % 64);
                }
                put(&mut next, state, weight.times(&stays));
                put(&mut next, down, weight.times(&goes));
            }
            states = next;
            for &group in &finished_by[decided] {
                states = finish(states, group, decided)?;
            }
            if states.len() > STATES_MAX {
                let domains = self.shared.len();
                return Err(ExposureError::TooEntangled { decided, domains });
            }
        }
        for &group in &free {
            states = finish(states, group, self.shared.len())?;
        }
        let mut ends: BTreeMap<usize, W> = BTreeMap::new();
        for (state, weight) in states {
            let is_ended = |s: &usize| usize::from(state.held[*s]) >= thresholds[*s];
            let ended = (0..stripes.len()).filter(is_ended).map(|s| stripes[s].1).sum();
            ends.entry(ended).or_insert_with(W::zero).add(&weight);
        }
        Ok(ends)
    }
}

/// Hashed alike in every run, so that sums are rounded alike.
type States<W> = HashMap<State, W, BuildHasherDefault<DefaultHasher>>;

/// What is remembered of the domains decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// Groups that are gone, as bits.
    gone: Vec<u64>,
    /// Shards of each stripe that are gone, up to its threshold.
    held: Vec<u16>,
}

impl State {
    fn is_gone(&self, group: usize) -> bool {
        self.gone[group / 64] >> (group % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::id::{NodeId, OperatorId};
    use protocol::label::Labels;
    use protocol::placement::smallest_kill_sets;

    fn site(node: u8, provider: u8, region: u8) -> Site {
        let labels = [format!("provider=p{provider}"), format!("region=r{region}")];
        let labels = Labels::new(labels.map(|l| l.parse().unwrap())).unwrap();
        Site::new(NodeId([node; 32]), OperatorId([node % 2; 32]), labels)
    }

    fn levels() -> Vec<Level> {
        ["provider", "region", "node"].map(|l| Level::new(l).unwrap()).to_vec()
    }

    /// Every subset of all domains, weighed.
    fn by_force(
        sites: &[Site],
        stripes: &[Stripe],
        end: End,
        p: &dyn Fn(&Domain) -> f64,
    ) -> (Vec<f64>, Option<usize>, u128) {
        let domains: BTreeSet<Domain> = stripes
            .iter()
            .flat_map(|s| s.holders.iter())
            .flat_map(|&h| levels().into_iter().map(move |l| sites[h].domain(&l)))
            .collect();
        let domains: Vec<Domain> = domains.into_iter().collect();
        let mut distribution = vec![0.0; stripes.len() + 1];
        let (mut size, mut count) = (None, 0);
        for mask in 0u32..1 << domains.len() {
            let lost = |i: &usize| mask >> i & 1 == 1;
            let chance: f64 = (0..domains.len())
                .map(|i| if lost(&i) { p(&domains[i]) } else { 1.0 - p(&domains[i]) })
                .product();
            let gone = |h: usize| {
                (0..domains.len())
                    .filter(lost)
                    .any(|i| sites[h].domain(&domains[i].level) == domains[i])
            };
            let ended = stripes
                .iter()
                .filter(|s| {
                    let inside = s.holders.iter().filter(|&&h| gone(h)).count();
                    match end {
                        End::Destroyed => s.holders.len() - inside < s.k,
                        End::Read => inside >= s.k,
                    }
                })
                .count();
            distribution[ended] += chance;
            let ones = mask.count_ones() as usize;
            if ended > 0 && size.is_none_or(|size| ones <= size) {
                count = if size == Some(ones) { count + 1 } else { 1 };
                size = Some(ones);
            }
        }
        (distribution, size, count)
    }

    #[test]
    fn a_large_mesh_is_answered_exactly() {
        // 1,000 nodes at 10 providers; one stripe over 40 of them, 4 a provider.
        let sites: Vec<Site> = (0..1000u32)
            .map(|i| {
                let mut site = site(0, (i % 10) as u8, (i % 7) as u8);
                site.node = NodeId(std::array::from_fn(|b| i.to_le_bytes()[b % 4]));
                site
            })
            .collect();
        let stripe = Stripe { k: 24, holders: (0..40).collect() };
        let mesh = Mesh::new(&sites, &[stripe], &levels()).unwrap();
        let smallest = mesh.smallest(End::Destroyed).unwrap();
        // Three regions hold 17 or 18 of the 40.
        assert_eq!(smallest.size, Some(3));
        assert_eq!(smallest.example.len(), 3);
        let p = |d: &Domain| if d.level.as_str() == "node" { 0.02 } else { 1e-4 };
        let chances = mesh.chances(End::Destroyed, &p).unwrap();
        assert!((chances.distribution.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(chances.any > 1e-12 && chances.any < 1e-8, "{:e}", chances.any);
    }

    #[test]
    fn many_stripes_on_few_nodes_are_counted_together() {
        // Three providers of eight nodes; thirty stripes 6 of 9, three shards at each.
        let sites: Vec<Site> = (0..24).map(|i| site(i, i / 8, 0)).collect();
        let holders = |s: usize| (0..9).map(move |j| 8 * (j / 3) + (s * (1 + j / 3) + j * 3) % 8);
        let stripes: Vec<Stripe> =
            (0..30).map(|s| Stripe { k: 6, holders: holders(s).collect() }).collect();
        let levels = ["provider", "node"].map(|l| Level::new(l).unwrap());
        let mesh = Mesh::new(&sites, &stripes, &levels).unwrap();
        // A provider and any node of another, or two providers.
        let smallest = mesh.smallest(End::Destroyed).unwrap();
        assert_eq!((smallest.size, smallest.count), (Some(2), 3 * 16 + 3));
    }

    #[test]
    fn far_down_the_product_is_right() {
        let sites: Vec<Site> = (0..6).map(|i| site(i, i, i)).collect();
        let stripe = Stripe { k: 1, holders: (0..6).collect() };
        let mesh = Mesh::new(&sites, &[stripe], &[Level::node()]).unwrap();
        let any = mesh.chances(End::Destroyed, &|_| 1e-6).unwrap().any;
        assert!((any / 1e-36 - 1.0).abs() < 1e-12, "{any:e}");
    }

    #[test]
    fn too_much_at_once_is_refused_and_not_guessed() {
        let sites: Vec<Site> = (0..120).map(|i| site(i, i % 12, i % 11)).collect();
        let stripe =
            |s: usize| Stripe { k: 2, holders: (0..6).map(|i| (s * 7 + i * 13) % 120).collect() };
        let stripes: Vec<Stripe> = (0..60).map(stripe).collect();
        let mesh = Mesh::new(&sites, &stripes, &levels()).unwrap();
        assert!(matches!(
            mesh.chances(End::Destroyed, &|_| 0.1),
            Err(ExposureError::TooEntangled { .. })
        ));
        assert!(mesh.expected(End::Destroyed, &|_| 0.1).unwrap() > 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(120))]
        #[test]
        fn chances_and_sets_are_those_of_brute_force(
            labels in proptest::collection::vec((0u8..3, 0u8..3), 5),
            stripes in proptest::collection::vec((1usize..4, proptest::collection::btree_set(0usize..5, 1..5)), 1..4),
            read: bool, salt in 0u32..1000,
        ) {
            let sites: Vec<Site> = labels.iter().enumerate().map(|(i, &(p, r))| site(i as u8, p, r)).collect();
            let stripes: Vec<Stripe> = stripes
                .into_iter()
                .map(|(k, holders)| Stripe { k: k.min(holders.len()), holders: holders.into_iter().collect() })
                .collect();
            let end = if read { End::Read } else { End::Destroyed };
            let p = |d: &Domain| {
                let name: u32 = d.to_string().bytes().map(u32::from).sum();
                f64::from((name * 37 + salt) % 89 + 1) / 200.0
            };
            let (distribution, size, count) = by_force(&sites, &stripes, end, &p);
            let mesh = Mesh::new(&sites, &stripes, &levels()).unwrap();
            let chances = mesh.chances(end, &p).unwrap();
            for (ours, theirs) in chances.distribution.iter().zip(&distribution) {
                prop_assert!((ours - theirs).abs() < 1e-12, "{:?} {:?}", chances, distribution);
            }
            prop_assert!((mesh.expected(end, &p).unwrap() - chances.expected).abs() < 1e-12);
            let smallest = mesh.smallest(end).unwrap();
            prop_assert_eq!(smallest.size, size);
            prop_assert_eq!(smallest.count, count);
            prop_assert_eq!(smallest.example.len(), size.unwrap_or(0));
            if let ([stripe], false) = (&stripes[..], read) {
                let holders: Vec<&Site> = stripe.holders.iter().map(|&h| &sites[h]).collect();
                let theirs = smallest_kill_sets(stripe.k, &holders, &levels(), 5);
                let least = theirs.sets.iter().map(BTreeSet::len).min();
                prop_assert_eq!(least, size);
                prop_assert_eq!(theirs.sets.iter().filter(|s| Some(s.len()) == size).count() as u128, count);
            }
        }
    }
}
