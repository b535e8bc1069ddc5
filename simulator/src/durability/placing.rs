//! Where stripes lie: by Strewn's own solver, and by the rules of others for comparison.

use super::dice::Dice;
use protocol::label::{Domain, Level, Site};
use protocol::placement::{Candidate, Unplaceable, solve};
use protocol::policy::Policy;
use std::collections::BTreeMap;

/// A rule by which holders are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// The solver of `protocol`, under a policy.
    Strewn(Policy),
    /// Every shard on any node, two on one as well.
    Random,
    /// Any n nodes, all different.
    Distinct,
    /// Fixed sets of n nodes, as few as give each node so many others to share with (Cidon et al., 2013).
    Copysets {
        /// Nodes with which a node shares stripes, at least.
        scatter: usize,
    },
    /// A walk down one tree: the domains of this level in the order of a hash, one node of each in turn, as CRUSH has it
    /// with one failure domain (Weil et al., 2006).
    Tree(Level),
}

/// Why stripes could not be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacingError {
    /// The solver found none.
    #[error("{0}")]
    Strewn(#[from] Unplaceable),
    /// Fewer nodes than shards.
    #[error("{0} nodes for {1} shards on different nodes")]
    Nodes(usize, usize),
}

/// Places stripes of k of n one after another; each list has the nodes of one stripe.
///
/// # Errors
/// [`PlacingError`] for the first that cannot be placed.
pub fn place(
    strategy: &Strategy,
    sites: &[Site],
    (k, n): (usize, usize),
    stripes: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>, PlacingError> {
    let dice = &mut Dice::new(seed, 0x91ac_e500);
    if sites.len() < n && *strategy != Strategy::Random || sites.is_empty() {
        return Err(PlacingError::Nodes(sites.len(), n));
    }
    match strategy {
        Strategy::Strewn(policy) => {
            let mut candidates: Vec<Candidate> =
                sites.iter().map(|site| Candidate { site: site.clone(), free: 1 << 40 }).collect();
            let place = |tie| {
                let holders = solve(policy, k, n, 1, &candidates, &[], tie)?;
                for &node in &holders {
                    candidates[node].free -= 1;
                }
                Ok(holders)
            };
            (0..stripes as u64).map(place).collect()
        }
        Strategy::Random => {
            let mut one = || (0..n).map(|_| dice.below(sites.len())).collect();
            Ok((0..stripes).map(|_| one()).collect())
        }
        Strategy::Distinct => {
            let mut order: Vec<usize> = (0..sites.len()).collect();
            Ok((0..stripes).map(|_| shuffled(&mut order, n, dice).to_vec()).collect())
        }
        Strategy::Copysets { scatter } => {
            let sets = copysets(sites.len(), n, *scatter, dice);
            Ok((0..stripes).map(|_| sets[dice.below(sets.len())].clone()).collect())
        }
        Strategy::Tree(level) => {
            let mut domains: BTreeMap<Domain, Vec<usize>> = BTreeMap::new();
            for (node, site) in sites.iter().enumerate() {
                domains.entry(site.domain(level)).or_default().push(node);
            }
            let domains: Vec<Vec<usize>> = domains.into_values().collect();
            Ok((0..stripes).map(|_| walk(&domains, n, dice)).collect())
        }
    }
}

/// The first `count` of an order become a fair draw.
fn shuffled<'a>(order: &'a mut [usize], count: usize, dice: &mut Dice) -> &'a [usize] {
    for at in 0..count {
        let with = at + dice.below(order.len() - at);
        order.swap(at, with);
    }
    &order[..count]
}

/// Permutations of the nodes, each cut into sets of n: what is left over at the end of one is not used.
fn copysets(nodes: usize, n: usize, scatter: usize, dice: &mut Dice) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..nodes).collect();
    let permutations = scatter.div_ceil((n - 1).max(1)).max(1);
    let mut sets = Vec::new();
    for _ in 0..permutations {
        shuffled(&mut order, nodes, dice);
        sets.extend(order.chunks_exact(n).map(<[usize]>::to_vec));
    }
    sets
}

fn walk(domains: &[Vec<usize>], n: usize, dice: &mut Dice) -> Vec<usize> {
    let mut order: Vec<usize> = (0..domains.len()).collect();
    shuffled(&mut order, domains.len(), dice);
    let mut within: Vec<Vec<usize>> = order.iter().map(|&domain| domains[domain].clone()).collect();
    for nodes in &mut within {
        let all = nodes.len();
        shuffled(nodes, all, dice);
    }
    let mut chosen = Vec::with_capacity(n);
    for turn in 0.. {
        let before = chosen.len();
        chosen.extend(within.iter().filter_map(|nodes| nodes.get(turn)).take(n - before));
        if chosen.len() == n || chosen.len() == before {
            break;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::{NodeId, OperatorId};
    use protocol::label::Labels;
    use protocol::placement::check_placement;
    use std::collections::BTreeSet;

    fn sites() -> Vec<Site> {
        (0..24u8)
            .map(|i| {
                let label = format!("provider=p{}", i % 4).parse().unwrap();
                Site::new(NodeId([i; 32]), OperatorId([0; 32]), Labels::new([label]).unwrap())
            })
            .collect()
    }

    fn placed(strategy: &Strategy) -> Vec<Vec<usize>> {
        let stripes = place(strategy, &sites(), (4, 6), 60, 1).unwrap();
        assert!(stripes.iter().all(|stripe| stripe.len() == 6));
        stripes
    }

    #[test]
    fn each_rule_keeps_what_it_promises() {
        let sites = sites();
        let provider = Level::new("provider").unwrap();
        let policy = Policy::survive_one("provider");
        for stripe in placed(&Strategy::Strewn(policy.clone())) {
            let holders: Vec<&Site> = stripe.iter().map(|&node| &sites[node]).collect();
            check_placement(&policy, 4, &holders).unwrap();
        }
        for stripe in placed(&Strategy::Distinct) {
            assert_eq!(stripe.iter().collect::<BTreeSet<_>>().len(), 6);
        }
        let sets: BTreeSet<Vec<usize>> =
            placed(&Strategy::Copysets { scatter: 10 }).into_iter().collect();
        assert!(sets.len() <= 8, "two permutations of 24 nodes make eight sets of six");
        for stripe in placed(&Strategy::Tree(provider.clone())) {
            let mut counts: BTreeMap<Domain, usize> = BTreeMap::new();
            for node in stripe {
                *counts.entry(sites[node].domain(&provider)).or_default() += 1;
            }
            assert!(counts.len() == 4 && counts.values().all(|count| *count <= 2));
        }
        assert_eq!(placed(&Strategy::Random), placed(&Strategy::Random));
    }

    #[test]
    fn too_few_nodes_are_said() {
        let error = place(&Strategy::Distinct, &sites(), (4, 30), 1, 1).unwrap_err();
        assert_eq!(error.to_string(), "24 nodes for 30 shards on different nodes");
    }
}
