//! Picks k and n: the least overhead that the candidates can carry.

use super::solver::{Candidate, Unplaceable, solve};
use crate::pack::PACK_LEN_MAX;
use crate::policy::Policy;

/// Bounds of the code to pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// Most data shards: more make small packs of tiny shards.
    pub k_max: usize,
    /// Most shards: each is a transfer.
    pub n_max: usize,
    /// Bytes of a pack, without parity: who has no room for a shard of one is left out where others suffice.
    pub pack_len: u64,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self { k_max: 16, n_max: 24, pack_len: PACK_LEN_MAX as u64 }
    }
}

/// A code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Shards needed.
    pub k: usize,
    /// Shards made.
    pub n: usize,
}

/// The code with the least overhead n/k that can be placed on the candidates under the policy; of
/// equal ones that with the most shards, which spreads load and single failures widest. Candidates that are full
/// count only where it cannot be done without them: a small pack may find room there.
///
/// # Errors
/// What is missing for even one data shard ([`Unplaceable`]).
pub fn plan(
    policy: &Policy,
    candidates: &[Candidate],
    limits: PlanLimits,
) -> Result<Plan, Unplaceable> {
    let n_max = candidates.len().min(limits.n_max);
    let mut codes: Vec<Plan> =
        (1..=n_max).flat_map(|n| (1..=n.min(limits.k_max)).map(move |k| Plan { k, n })).collect();
    codes.sort_by(|a, b| (a.n * b.k).cmp(&(b.n * a.k)).then(b.n.cmp(&a.n)));
    // With one clause more shards lost than n-k can never be made good: skip what cannot work.
    for pack_len in [limits.pack_len, 0] {
        let placeable = |plan: &&Plan| {
            let len = pack_len.div_ceil(plan.k as u64);
            solve(policy, plan.k, plan.n, len, candidates, &[], 0).is_ok()
        };
        if let Some(&plan) = codes.iter().find(placeable) {
            return Ok(plan);
        }
    }
    let widest = n_max.max(2);
    match solve(policy, 1, widest, 0, candidates, &[], 0) {
        Err(error) => Err(error),
        Ok(_) => Err(Unplaceable::Nodes { found: candidates.len(), needed: widest, len: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{NodeId, OperatorId};
    use crate::label::{Labels, Site};
    use crate::policy::Clauses;

    fn mesh(providers: u8, each: u8) -> Vec<Candidate> {
        (0..providers * each)
            .map(|i| {
                let label = format!("provider=p{}", i / each);
                Candidate {
                    site: Site {
                        node: NodeId([i; 32]),
                        operator: OperatorId([0; 32]),
                        labels: Labels::new([label.parse().unwrap()]).unwrap(),
                    },
                    free: 1 << 30,
                }
            })
            .collect()
    }

    #[test]
    fn the_cheapest_code_that_survives_is_picked() {
        let policy = Policy::survive_one("provider");
        let plan = |p, e| plan(&policy, &mesh(p, e), PlanLimits::default());
        assert_eq!(plan(3, 3), Ok(Plan { k: 6, n: 9 }));
        assert_eq!(plan(3, 1), Ok(Plan { k: 2, n: 3 }));
        assert_eq!(plan(2, 1), Ok(Plan { k: 1, n: 2 }));
        assert_eq!(plan(4, 3), Ok(Plan { k: 9, n: 12 }));
        let error = plan(1, 5).unwrap_err();
        assert_eq!(error.to_string(), "clause provider=1: 1 providers reachable, 2 needed");
    }

    #[test]
    fn a_full_node_is_planned_with_only_where_it_is_needed() {
        let policy = Policy::survive_one("provider");
        let mut candidates = mesh(4, 2);
        candidates[3].free = 1000;
        let planned = plan(&policy, &candidates, PlanLimits::default()).unwrap();
        assert!(planned.n <= 7, "{planned:?}");
        let mut two = mesh(2, 1);
        two[1].free = 1000;
        assert_eq!(plan(&policy, &two, PlanLimits::default()), Ok(Plan { k: 1, n: 2 }));
    }

    #[test]
    fn what_is_to_be_concealed_bounds_the_shares() {
        let mut policy = Policy::survive_one("provider");
        policy.conceal = Clauses { any: policy.survive.any.clone() };
        assert_eq!(plan(&policy, &mesh(3, 3), PlanLimits::default()), Ok(Plan { k: 6, n: 9 }));
        // Of two providers one always holds k = 1 shards: nothing can be concealed.
        assert!(plan(&policy, &mesh(2, 2), PlanLimits::default()).is_err());
    }
}
