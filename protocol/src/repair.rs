//! The rules of repair: whether a stripe needs it, who does it, and where the missing shards go. [`crate::peer`] asks and acts.
//!
//! - The one predicate decides ([`crate::placement`]); nothing here has an idea of its own of what is good.
//! - Of two holders of the same shard one counts ([`crate::told::counted`]): two copies of a shard are no two shards. For what is
//!   concealed both do.
//! - Who repairs is drawn by the stripe's name among those that hold it (rendezvous hashing): all who see the same holders agree, and
//!   where they do not, the same work is done twice and nothing is harmed.
//! - Shards that are all there and lie too close together are copied to where the policy holds ([`Spread::spread_out`]).
//! - Where no placement satisfies the policy, what raises the margin is done and nothing else: what is placed never makes anything worse.
//! - A node that is nearly full *gives*: some of its shards are copied to emptier nodes, and go once the vault says so ([`crate::discharge`]).

use crate::id::{NodeId, StripeId};
use crate::label::{Level, Site};
use crate::placement::{
    Candidate, Unplaceable, check_placement, conceal_margin, lie, margin, solve,
};
use crate::planted::{Bug, is_planted};
use crate::policy::Policy;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Of stripes with no more shards all choices of what to copy apart are tried: 136, each a problem to solve.
const APART_MAX: usize = 16;

/// Where a stripe's shards lie now.
#[derive(Debug, Clone)]
pub struct Spread<'a> {
    /// What must hold.
    pub policy: &'a Policy,
    /// Shards needed.
    pub k: usize,
    /// Shards made.
    pub n: usize,
    /// Bytes in each.
    pub shard_len: u64,
    /// Of each shard that is there, the holder that counts.
    pub counted: Vec<&'a Site>,
    /// Further holders of the same shards, and holders that leave.
    pub surplus: Vec<&'a Site>,
    /// Shards that can be had, those of holders that leave as well: they are read from, and do not count.
    pub readable: usize,
}

/// How a stripe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// All its shards are there and lie as the policy asks.
    Well,
    /// Something is missing. The fewer further losses it can bear the more urgent it is: less than 0 breaks a clause.
    Short {
        /// [`margin`].
        margin: i64,
    },
    /// It cannot be read with what is there.
    Beyond {
        /// Shards there.
        found: usize,
    },
}

/// Where no shard can be placed without making something worse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPlace {
    /// All shards are there already.
    #[error("all its shards are there, and they lie too close together")]
    Complete,
    /// No choice of nodes helps.
    #[error("{0}")]
    Unplaceable(#[from] Unplaceable),
}

impl Spread<'_> {
    /// How the stripe is.
    #[must_use]
    pub fn assess(&self) -> Finding {
        if self.readable < self.k {
            return Finding::Beyond { found: self.readable };
        }
        if self.counted.len() >= self.n
            && check_placement(self.policy, self.k, &self.counted).is_ok()
        {
            return Finding::Well;
        }
        Finding::Short { margin: margin(self.policy, self.k, &self.counted) }
    }

    /// Where the missing shards go: for each of some of them a candidate, by its place in the list. Candidates hold nothing of the
    /// stripe. All of them and as the policy asks where that can be; otherwise as many as raise the margin.
    ///
    /// # Errors
    /// [`NoPlace`] when nothing that can be done helps.
    pub fn place(
        &self,
        missing: &[u16],
        candidates: &[Candidate],
        tie: u64,
    ) -> Result<Vec<(u16, usize)>, NoPlace> {
        if missing.is_empty() {
            return Err(NoPlace::Complete);
        }
        let error = match self.whole(candidates, tie) {
            Ok(chosen) => return Ok(missing.iter().copied().zip(chosen).collect()),
            Err(error) => error,
        };
        let chosen = self.raise(missing.len(), candidates);
        match (chosen.is_empty(), error) {
            (false, _) => Ok(missing.iter().copied().zip(chosen).collect()),
            (true, Some(error)) => Err(error.into()),
            (true, None) => Err(Unplaceable::Nodes {
                found: candidates.len() + self.counted.len(),
                needed: self.n,
                len: self.shard_len,
            }
            .into()),
        }
    }

    /// As [`Self::place`], but the first `preferred` candidates take all of it where they can.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub fn place_preferring(
        &self,
        preferred: usize,
        missing: &[u16],
        candidates: &[Candidate],
        tie: u64,
    ) -> Result<Vec<(u16, usize)>, NoPlace> {
        let first = candidates.get(..preferred).unwrap_or(candidates);
        match self.whole(first, tie) {
            Ok(chosen) if !missing.is_empty() => Ok(missing.iter().copied().zip(chosen).collect()),
            _ => self.place(missing, candidates, tie),
        }
    }

    /// Candidates for all that is missing, so that the policy is satisfied.
    fn whole(&self, candidates: &[Candidate], tie: u64) -> Result<Vec<usize>, Option<Unplaceable>> {
        if is_planted(Bug::RepairPlacement) && !candidates.is_empty() {
            return Ok((0..candidates.len()).collect());
        }
        let fixed: Vec<Site> = self.counted.iter().copied().cloned().collect();
        let (policy, len) = (self.policy, self.shard_len);
        let chosen = solve(policy, self.k, self.n, len, candidates, &fixed, tie)?;
        if self.keeps_secret(&chosen, candidates) { Ok(chosen) } else { Err(None) }
    }

    /// Where copies go when shards are there and lie too close together: for some of the shards that count, by their places among
    /// those, a candidate. As few as reach the highest margin that copying reaches. Where that takes what is missing as well, missing
    /// shards have the places behind those. What they are copied from stays: it counts for what
    /// is concealed, and no more for what is survived.
    ///
    /// # Errors
    /// [`NoPlace::Complete`] when no copy helps.
    pub fn spread_out(&self, candidates: &[Candidate]) -> Result<Vec<(usize, usize)>, NoPlace> {
        let mut sites = self.counted.clone();
        let measure = |sites: &[&Site]| lie(self.policy, self.k, sites);
        let mut reached = measure(&sites);
        let mut best = (reached.0, 0);
        let mut moved: Vec<(usize, usize)> = Vec::new();
        while best.0 < 0 {
            // The one that is missed least, then the one that helps most.
            let stays = |at: &usize| !moved.iter().any(|(other, _)| other == at);
            let without = |at: &usize| {
                let mut left = sites.clone();
                left.remove(*at);
                measure(&left)
            };
            let Some(at) = (0..sites.len()).filter(stays).max_by_key(without) else { break };
            let is_free = |&i: &usize| {
                let mut chosen: Vec<usize> = moved.iter().map(|(_, i)| *i).collect();
                let is_new = !chosen.contains(&i) && candidates[i].free >= self.shard_len;
                chosen.push(i);
                is_new && self.keeps_secret(&chosen, candidates)
            };
            let with = |&i: &usize| {
                let mut with = sites.clone();
                with[at] = &candidates[i].site;
                (measure(&with), candidates[i].free)
            };
            let Some(to) = (0..candidates.len()).filter(is_free).max_by_key(with) else { break };
            let now = with(&to).0;
            if now <= reached {
                break;
            }
            sites[at] = &candidates[to].site;
            reached = now;
            moved.push((at, to));
            if reached.0 > best.0 {
                best = (reached.0, moved.len());
            }
        }
        moved.truncate(best.1);
        // One step after the other does not always get there, where a clause names two levels.
        let moved = if best.0 < 0 { self.solve_apart(candidates).unwrap_or(moved) } else { moved };
        if moved.is_empty() { Err(NoPlace::Complete) } else { Ok(moved) }
    }

    /// A copy of one shard, or of two, with which the policy holds, together with what is missing if that can be placed as well: all choices are
    /// tried, where there are not too many.
    fn solve_apart(&self, candidates: &[Candidate]) -> Option<Vec<(usize, usize)>> {
        let there = self.counted.len();
        if self.n.max(there) > APART_MAX {
            return None;
        }
        let alone = (0..there).map(|at| vec![at]);
        let pairs = (0..there).flat_map(|at| (at + 1..there).map(move |other| vec![at, other]));
        let choices: Vec<Vec<usize>> = alone.chain(pairs).collect();
        let all = BTreeSet::from([there, self.n.max(there)]);
        let tries = all.into_iter().rev().flat_map(|n| choices.iter().map(move |of| (n, of)));
        tries.into_iter().find_map(|(n, copied)| {
            let stays = self.counted.iter().enumerate().filter(|(at, _)| !copied.contains(at));
            let stay: Vec<Site> = stays.map(|(_, site)| (*site).clone()).collect();
            let (policy, len) = (self.policy, self.shard_len);
            let chosen = solve(policy, self.k, n, len, candidates, &stay, 0).ok()?;
            let places = copied.iter().copied().chain(there..n);
            self.keeps_secret(&chosen, candidates).then(|| places.zip(chosen).collect())
        })
    }

    /// To which candidate a copy of one holder's shard goes, so that the policy holds without that holder; `None` where there is none.
    #[must_use]
    pub fn give(&self, giver: NodeId, candidates: &[Candidate], tie: u64) -> Option<usize> {
        let mut without = self.clone();
        let at = without.counted.iter().position(|site| site.node == giver)?;
        let giver = without.counted.remove(at);
        without.surplus.push(giver);
        let fixed: Vec<Site> = without.counted.iter().copied().cloned().collect();
        let (policy, len) = (self.policy, self.shard_len);
        let chosen = solve(policy, self.k, self.n, len, candidates, &fixed, tie).ok()?;
        match chosen[..] {
            [to] if without.keeps_secret(&chosen, candidates) => Some(to),
            _ => None,
        }
    }

    /// Whether what is concealed stays so with these, or as little concealed as it is.
    fn keeps_secret(&self, chosen: &[usize], candidates: &[Candidate]) -> bool {
        let mut all: Vec<&Site> = self.counted.iter().chain(&self.surplus).copied().collect();
        let before = conceal_margin(self.policy, self.k, &all);
        all.extend(chosen.iter().map(|&i| &candidates[i].site));
        conceal_margin(self.policy, self.k, &all) >= before.min(0)
    }

    /// Candidates that raise the margin, one after the other; as few as come to the highest that is reached.
    fn raise(&self, most: usize, candidates: &[Candidate]) -> Vec<usize> {
        let mut sites = self.counted.clone();
        let mut best = (margin(self.policy, self.k, &sites), 0);
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < most {
            let next = (0..candidates.len())
                .filter(|i| candidates[*i].free >= self.shard_len && !chosen.contains(i))
                .filter(|&i| {
                    let with: Vec<usize> = chosen.iter().copied().chain([i]).collect();
                    self.keeps_secret(&with, candidates)
                })
                .max_by_key(|&i| {
                    let with: Vec<&Site> =
                        sites.iter().copied().chain([&candidates[i].site]).collect();
                    let margin = margin(self.policy, self.k, &with);
                    (
                        margin,
                        Reverse(self.neighbours(&candidates[i].site, &sites)),
                        candidates[i].free,
                    )
                });
            let Some(next) = next else { break };
            chosen.push(next);
            sites.push(&candidates[next].site);
            let reached = margin(self.policy, self.k, &sites);
            if reached > best.0 {
                best = (reached, chosen.len());
            }
        }
        chosen.truncate(best.1);
        chosen
    }

    /// How many holders share domains with a site, of the levels that survive clauses name.
    fn neighbours(&self, site: &Site, holders: &[&Site]) -> usize {
        let named = self.policy.survive.any.iter().flat_map(|clause| clause.0.keys());
        let levels: BTreeSet<&Level> = named.filter(|level| **level != Level::node()).collect();
        let shares = |level: &&Level| {
            let domain = site.domain(level);
            holders.iter().filter(|holder| holder.domain(level) == domain).count()
        };
        levels.iter().map(shares).sum()
    }
}

/// The same nodes, each with the shard that the record gives it, where that is missing: whoever writes the stripe may be on the way
/// with it, and a node takes one shard of a stripe.
#[must_use]
pub fn each_its_own(
    placed: &[(u16, usize)],
    missing: &[u16],
    own: impl Fn(usize) -> Option<u16>,
) -> Vec<(u16, usize)> {
    let own = |node: usize| own(node).filter(|index| missing.contains(index));
    let taken: BTreeSet<u16> = placed.iter().filter_map(|(_, node)| own(*node)).collect();
    let mut others = missing.iter().copied().filter(|index| !taken.contains(index));
    let give = |&(_, node): &(u16, usize)| Some((own(node).or_else(|| others.next())?, node));
    placed.iter().filter_map(give).collect()
}

/// A node gives when more of its quota is used than so many of a hundred parts,
pub const FULL_PERCENT: u64 = 90;
/// until no more than this would be.
pub const GIVEN_TO_PERCENT: u64 = 80;

/// Whether a node that uses so many bytes of its quota is nearly full.
#[must_use]
pub fn is_full(used: u64, quota: u64) -> bool {
    u128::from(used) * 100 > u128::from(quota) * u128::from(FULL_PERCENT)
}

/// Whether a node that uses so many bytes of its quota gives its shard of a stripe. Which stripes it gives is drawn by their names, so that
/// nothing has to be remembered: a copy changes nothing of that, and neither does a restart.
#[must_use]
pub fn gives(stripe: StripeId, node: NodeId, used: u64, quota: u64) -> bool {
    if !is_full(used, quota) {
        return false;
    }
    let kept = u128::from(quota) * u128::from(GIVEN_TO_PERCENT) / 100;
    let over = u128::from(used).saturating_sub(kept);
    let hash = blake3::keyed_hash(&node.0, &stripe.0);
    let [a, b, c, d, ..] = *hash.as_bytes();
    let drawn = u128::from(u32::from_be_bytes([a, b, c, d]));
    drawn * u128::from(used) < over << 32
}

/// Whether a node with so much room may be given a shard by one that has this much: much more, or it would soon give it on.
#[must_use]
pub fn is_emptier(room: u64, left: u64, shard_len: u64) -> bool {
    room >= left.saturating_mul(2).saturating_add(shard_len)
}

/// How many of those that hold a stripe come before this node in repairing it: the one before which nobody comes is its custodian.
/// Who leaves comes before the others: it has what is to be moved.
pub fn rank(
    stripe: StripeId,
    node: NodeId,
    leaving: &BTreeSet<NodeId>,
    holders: impl IntoIterator<Item = NodeId>,
) -> usize {
    let weight = |node: NodeId| {
        (leaving.contains(&node), *blake3::keyed_hash(&stripe.0, &node.0).as_bytes(), node)
    };
    let own = weight(node);
    holders.into_iter().filter(|&other| other != node && weight(other) > own).count()
}

/// Whether a holder asks about a stripe of which nothing is known to be wrong, by its [`rank`] among so many: in each cycle one of them does, and in the next
/// one another, so that nobody's silence lasts. All of them would learn the same.
#[must_use]
pub fn patrols(rank: usize, holders: usize, cycle: u64) -> bool {
    cycle % holders.max(1) as u64 == rank as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Clause, Clauses};
    use proptest::prelude::*;

    #[test]
    fn in_each_cycle_one_holder_asks_and_all_do_in_turn() {
        let holders: Vec<NodeId> = (1..=6).map(|name| NodeId([name; 32])).collect();
        for stripe in (0..20).map(|name| StripeId([name; 32])) {
            let asks = |node: NodeId, cycle: u64| {
                let rank = rank(stripe, node, &BTreeSet::new(), holders.iter().copied());
                patrols(rank, holders.len(), cycle)
            };
            for cycle in 0..12 {
                assert_eq!(holders.iter().filter(|&&node| asks(node, cycle)).count(), 1);
            }
            assert!(holders.iter().all(|&node| (7..13).any(|cycle| asks(node, cycle))));
        }
    }

    #[test]
    fn a_node_gives_what_is_too_much_and_no_more() {
        let stripes = || (0..4000u32).map(|i| StripeId(*blake3::hash(&i.to_be_bytes()).as_bytes()));
        let given =
            |used: u64| stripes().filter(|&id| gives(id, NodeId([7; 32]), used, 1000)).count();
        assert_eq!((given(0), given(900)), (0, 0));
        // 11.1 % of 901 bytes and 20 % of 1000 are too much.
        assert!((360..560).contains(&given(901)), "{}", given(901));
        assert!((700..900).contains(&given(1000)), "{}", given(1000));
        // What is given stays given while more comes.
        assert!(stripes().all(|id| {
            let at = |used| gives(id, NodeId([7; 32]), used, 1000);
            !at(910) || at(990)
        }));
        // Of two nodes each draws for itself.
        let both = stripes().filter(|&id| {
            gives(id, NodeId([7; 32]), 1000, 1000) && gives(id, NodeId([8; 32]), 1000, 1000)
        });
        assert!(both.count() < 300);
        assert!(!gives(StripeId([0; 32]), NodeId([7; 32]), 0, 0));
        assert!(is_emptier(264, 100, 64) && !is_emptier(263, 100, 64));
    }

    fn policy(survive: &[(&str, u32)], conceal: &[(&str, u32)]) -> Policy {
        let clauses = |named: &[(&str, u32)]| Clauses {
            any: named
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|&(level, count)| Clause([(level.parse().unwrap(), count)].into()))
                .collect(),
        };
        Policy {
            survive: clauses(survive),
            conceal: clauses(conceal),
            ..Policy::survive_one("provider")
        }
    }

    #[test]
    fn who_is_missing_its_own_shard_gets_that_one() {
        // The record gives shard 2 to node 7, shard 5 to node 8, and 1 to node 9, where it is not missing.
        let own = |node| [(7, 2), (8, 5), (9, 1)].into_iter().find(|(n, _)| *n == node);
        let own = |node| own(node).map(|(_, index)| index);
        let give = |placed: &[(u16, usize)]| each_its_own(placed, &[2, 4, 5, 6], own);
        assert_eq!(give(&[(2, 8), (4, 9), (5, 7)]), [(5, 8), (4, 9), (2, 7)]);
        assert_eq!(give(&[(2, 3), (4, 9)]), [(2, 3), (4, 9)]);
        assert_eq!(give(&[(2, 8)]), [(5, 8)]);
        assert_eq!(give(&[(2, 3), (4, 9), (5, 6), (6, 7)]), [(4, 3), (5, 9), (6, 6), (2, 7)]);
    }

    fn site(name: u8, provider: u8, account: u8) -> Site {
        Site::stating(name, &format!("provider=p{provider} account=a{account}"))
    }

    fn candidate(site: &Site) -> Candidate {
        Candidate { site: site.clone(), free: 100 }
    }

    fn spread<'a>(policy: &'a Policy, k: usize, n: usize, counted: &'a [Site]) -> Spread<'a> {
        let counted: Vec<&Site> = counted.iter().collect();
        let readable = counted.len();
        Spread { policy, k, n, shard_len: 64, counted, surplus: Vec::new(), readable }
    }

    #[test]
    fn what_a_lost_provider_held_goes_where_the_policy_holds_again() {
        let policy = policy(&[("provider", 1)], &[]);
        // Four of six; two were at p1, which is lost. Of p4 and one more of p2 only p4 will do.
        let left = [site(3, 2, 0), site(4, 2, 1), site(5, 3, 0), site(6, 3, 1)];
        let spread = spread(&policy, 4, 6, &left);
        assert_eq!(spread.assess(), Finding::Short { margin: -2 });
        let others = [site(7, 2, 2), site(8, 4, 0), site(9, 4, 1)].map(|site| candidate(&site));
        let mut placed = spread.place(&[0, 1], &others, 1).unwrap();
        placed.sort_unstable_by_key(|(_, at)| *at);
        assert_eq!(placed.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn who_is_preferred_takes_all_of_it_or_others_do_too() {
        let policy = policy(&[("provider", 1)], &[]);
        let left = [site(3, 2, 0), site(4, 2, 1), site(5, 3, 0), site(6, 3, 1)];
        let spread = spread(&policy, 4, 6, &left);
        let others = [site(7, 4, 0), site(8, 4, 1), site(9, 5, 0), site(10, 5, 1)];
        let others = others.map(|site| candidate(&site));
        let chosen = |preferred| {
            let placed = spread.place_preferring(preferred, &[0, 1], &others, 1).unwrap();
            placed.iter().map(|(_, at)| *at).collect::<BTreeSet<_>>()
        };
        assert_eq!(chosen(2), BTreeSet::from([0, 1]));
        // One alone cannot, and nobody is none.
        for preferred in [0, 1, 4, 9] {
            assert_eq!(chosen(preferred).len(), 2);
        }
        assert_eq!(spread.place_preferring(2, &[], &others, 1), Err(NoPlace::Complete));
    }

    #[test]
    fn what_is_given_goes_where_the_policy_holds_without_the_giver() {
        let survive = policy(&[("provider", 1)], &[]);
        let all = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)].map(|(n, p)| site(n, p, n));
        let spread_of = |policy| spread(policy, 4, 6, &all);
        let giver = all[0].node;
        let others = |providers: &[u8]| -> Vec<Candidate> {
            let sites = (7..).zip(providers).map(|(n, &p)| site(n, p, n));
            sites.map(|site| candidate(&site)).collect()
        };
        assert_eq!(spread_of(&survive).give(giver, &others(&[2, 3, 1]), 0), Some(2));
        assert_eq!(spread_of(&survive).give(giver, &others(&[2, 3]), 0), None);
        assert_eq!(spread_of(&survive).give(NodeId([9; 32]), &others(&[1]), 0), None);
        // The giver keeps its copy for a while: three at one provider are four with it.
        let conceal = policy(&[("provider", 1)], &[("provider", 1)]);
        let wide = [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3), (6, 4)].map(|(n, p)| site(n, p, n));
        let wide = spread(&conceal, 4, 6, &wide);
        assert_eq!(wide.give(giver, &others(&[1]), 0), None);
    }

    #[test]
    fn where_the_policy_cannot_hold_what_raises_the_margin_is_done_and_nothing_else() {
        let policy = policy(&[("provider", 1)], &[]);
        let left = [site(3, 2, 0), site(4, 2, 1), site(5, 3, 0), site(6, 3, 1)];
        let spread = spread(&policy, 4, 6, &left);
        // One at p4 leaves three after the worst loss instead of two; the second shard would not help more.
        let others = [site(7, 2, 2), site(8, 4, 0), site(9, 2, 3)].map(|site| candidate(&site));
        assert_eq!(spread.place(&[0, 1], &others, 1), Ok(vec![(0, 1)]));
        let close = [site(7, 2, 2)].map(|site| candidate(&site));
        assert!(spread.place(&[0, 1], &close, 1).is_err(), "it helps against nothing");
        assert_eq!(spread.place(&[], &others, 1), Err(NoPlace::Complete));
        let full = [Candidate { free: 63, ..candidate(&site(8, 4, 0)) }];
        assert!(spread.place(&[0], &full, 1).is_err());
    }

    #[test]
    fn what_lies_too_close_together_is_copied_apart() {
        let policy = policy(&[("provider", 1)], &[]);
        let all = [site(1, 1, 0), site(2, 1, 1), site(3, 1, 2), site(4, 1, 3)];
        let close = spread(&policy, 2, 4, &all);
        assert_eq!(close.assess(), Finding::Short { margin: -2 });
        let far = [site(5, 2, 0), site(6, 2, 1), site(7, 3, 0), site(8, 3, 1)];
        let far = far.map(|site| candidate(&site));
        let moved = close.spread_out(&far).unwrap();
        assert_eq!(moved.len(), 2, "no more than it takes");
        let near = [site(5, 1, 4)].map(|site| candidate(&site));
        assert_eq!(close.spread_out(&near), Err(NoPlace::Complete));
        assert_eq!(
            close.spread_out(&far.map(|c| Candidate { free: 63, ..c })),
            Err(NoPlace::Complete)
        );
        // One provider fewer would help nothing; one from each does.
        let halves = [1, 2, 3].map(|n| site(n, 1, n));
        let halves: Vec<Site> =
            halves.into_iter().chain([4, 5, 6].map(|n| site(n, 2, n))).collect();
        let third = [site(7, 3, 0), site(8, 3, 1), site(9, 3, 2)].map(|site| candidate(&site));
        assert_eq!(spread(&policy, 4, 6, &halves).spread_out(&third).unwrap().len(), 2);
        // What lies well is left.
        let well = [site(1, 1, 0), site(2, 2, 1), site(3, 3, 2)];
        assert_eq!(spread(&policy, 2, 3, &well).spread_out(&third), Err(NoPlace::Complete));
    }

    #[test]
    fn what_is_missing_and_what_lies_too_close_are_placed_together_where_neither_alone_helps() {
        // Two identity providers, three regions, and any one of either may fall together: two shards at least in each of four corners.
        let mut policy = policy(&[], &[]);
        policy.survive.any =
            vec![Clause(["provider", "account"].map(|level| (level.parse().unwrap(), 1)).into())];
        let all = [(1, 0), (1, 1), (1, 1), (2, 1), (2, 2), (2, 2), (2, 2)];
        let there: Vec<Site> = (1..).zip(all).map(|(name, (p, a))| site(name, p, a)).collect();
        let spare = [site(11, 1, 0), site(12, 1, 1), site(13, 2, 1)].map(|site| candidate(&site));
        let spread = spread(&policy, 2, 8, &there);
        assert!(spread.place(&[7], &spare, 1).is_err());
        let moved = spread.spread_out(&spare).unwrap();
        assert_eq!(moved.iter().filter(|(at, _)| *at == there.len()).count(), 1, "{moved:?}");
        let mut after: Vec<&Site> = there.iter().chain([&there[0]]).collect();
        for &(at, to) in &moved {
            after[at] = &spare[to].site;
        }
        assert!(margin(&policy, 2, &after) >= 0);
    }

    #[test]
    fn a_domain_that_may_not_assemble_a_pack_gets_no_shard_more() {
        let policy = policy(&[("node", 1)], &[("provider", 1)]);
        let left = [site(1, 1, 0), site(2, 2, 0)];
        let spread = spread(&policy, 2, 4, &left);
        let others = [site(3, 1, 1), site(4, 2, 1)].map(|site| candidate(&site));
        assert!(spread.place(&[2, 3], &others, 1).is_err());
        let elsewhere = [site(3, 1, 1), site(5, 3, 0)].map(|site| candidate(&site));
        assert_eq!(spread.place(&[2, 3], &elsewhere, 1), Ok(vec![(2, 1)]));
        // A copy too many counts for what is concealed.
        let copy = site(6, 3, 1);
        let with = Spread { surplus: vec![&copy], ..spread.clone() };
        assert!(with.place(&[2, 3], &elsewhere, 1).is_err());
    }

    #[test]
    fn what_can_be_read_no_more_is_beyond_repair() {
        let policy = policy(&[("provider", 1)], &[]);
        let left = [site(3, 2, 0)];
        assert_eq!(spread(&policy, 2, 3, &left).assess(), Finding::Beyond { found: 1 });
        let all = [site(1, 1, 0), site(2, 2, 0), site(3, 3, 0)];
        assert_eq!(spread(&policy, 2, 3, &all).assess(), Finding::Well);
    }

    proptest! {
        #[test]
        fn what_is_copied_apart_lies_better_and_betrays_no_more(
            held in prop::collection::vec((0u8..4, 0u8..4), 1..7),
            spare in prop::collection::vec((0u8..4, 0u8..4, prop::bool::weighted(0.8)), 0..7),
            (k, providers, accounts, conceals, mixes) in (1usize..5, 1u32..3, 0u32..2, 0u32..2, any::<bool>()),
        ) {
            prop_assume!(held.len() >= k);
            let mut policy = policy(&[("provider", providers), ("account", accounts)], &[("provider", conceals)]);
            if mixes {
                // Both at once.
                let all = policy.survive.any.drain(..).flat_map(|clause| clause.0).collect();
                policy.survive.any = vec![Clause(all)];
            }
            let held: Vec<Site> = (1..).zip(&held).map(|(name, (p, a))| site(name, *p, *a)).collect();
            let candidates: Vec<Candidate> = (50..)
                .zip(&spare)
                .map(|(name, (p, a, has_room))| Candidate { free: if *has_room { 64 } else { 63 }, site: site(name, *p, *a) })
                .collect();
            let spread = spread(&policy, k, held.len(), &held);
            let before = margin(&policy, k, &spread.counted);
            let found = spread.spread_out(&candidates);
            let reached = |moved: &[(usize, usize)]| {
                let mut after = spread.counted.clone();
                for &(at, to) in moved {
                    after[at] = &candidates[to].site;
                }
                let copies = moved.iter().map(|&(_, to)| &candidates[to].site);
                let all: Vec<&Site> = spread.counted.iter().copied().chain(copies).collect();
                let is_secret = conceal_margin(&policy, k, &all) >= conceal_margin(&policy, k, &spread.counted).min(0);
                let has_room = moved.iter().all(|&(_, to)| candidates[to].free >= 64);
                (is_secret && has_room).then(|| margin(&policy, k, &after))
            };
            // Where a copy of one or of two gets there, it is found.
            let ones: Vec<(usize, usize)> = (0..held.len()).flat_map(|at| (0..candidates.len()).map(move |to| (at, to))).collect();
            let holds = |moved: &[(usize, usize)]| reached(moved).is_some_and(|margin| margin >= 0);
            let is_possible = conceals == 0 && before < 0 && ones.iter().any(|&one| {
                let with = |other: &(usize, usize)| one.0 != other.0 && one.1 != other.1 && holds(&[one, *other]);
                holds(&[one]) || ones.iter().any(with)
            });
            prop_assert!(!is_possible || found.as_ref().is_ok_and(|moved| holds(moved)), "{found:?}");
            if let Ok(moved) = found {
                let (from, to): (BTreeSet<usize>, BTreeSet<usize>) = moved.iter().copied().unzip();
                prop_assert_eq!((from.len(), to.len()), (moved.len(), moved.len()));
                prop_assert!(to.iter().all(|&at| candidates[at].free >= 64));
                let mut after = spread.counted.clone();
                for &(at, to) in &moved {
                    after[at] = &candidates[to].site;
                }
                prop_assert!(before < 0 && margin(&policy, k, &after) > before);
                let all = spread.counted.iter().copied().chain(to.iter().map(|&i| &candidates[i].site));
                let secret = |sites: &[&Site]| conceal_margin(&policy, k, sites);
                let all: Vec<&Site> = all.collect();
                prop_assert!(secret(&all) >= secret(&spread.counted).min(0));
            }
        }

        #[test]
        fn there_is_one_custodian_and_those_that_stay_keep_their_order(
            names in prop::collection::btree_set(0u8..50, 2..12), stripe: [u8; 32], left: u64,
        ) {
            let nodes: Vec<NodeId> = names.iter().map(|&name| NodeId([name; 32])).collect();
            let leaving: BTreeSet<NodeId> =
                nodes.iter().filter(|node| left >> node.0[0] & 1 == 1).copied().collect();
            let ranks = |nodes: &[NodeId]| -> Vec<usize> {
                nodes.iter().map(|&n| rank(StripeId(stripe), n, &leaving, nodes.iter().copied())).collect()
            };
            let all = ranks(&nodes);
            let mut sorted = all.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..nodes.len()).collect::<Vec<_>>());
            for (node, rank) in nodes.iter().zip(&all) {
                prop_assert_eq!(leaving.contains(node), *rank < leaving.len());
            }
            // Without the custodian everybody moves up by one.
            let left: Vec<NodeId> =
                nodes.iter().zip(&all).filter(|(_, rank)| **rank > 0).map(|(n, _)| *n).collect();
            let moved: Vec<usize> = all.iter().filter(|rank| **rank > 0).map(|r| r - 1).collect();
            prop_assert_eq!(ranks(&left), moved);
        }

        #[test]
        fn what_is_placed_never_makes_anything_worse(
            held in prop::collection::vec((0u8..4, 0u8..4), 1..7),
            spare in prop::collection::vec((0u8..4, 0u8..4, prop::bool::weighted(0.8)), 0..7),
            copies in prop::collection::vec((0u8..4, 0u8..4), 0..2),
            (k, more) in (1usize..5, 0usize..4),
            (providers, accounts, conceals) in (1u32..3, 0u32..3, 0u32..2),
        ) {
            prop_assume!(held.len() >= k);
            let policy = policy(
                &[("provider", providers), ("account", accounts)],
                &[("provider", conceals)],
            );
            let sites = |from: u8, all: &[(u8, u8)]| -> Vec<Site> {
                (from..).zip(all).map(|(name, &(p, a))| site(name, p, a)).collect()
            };
            let (held, copies) = (sites(0, &held), sites(20, &copies));
            let candidates: Vec<Candidate> = (40..)
                .zip(&spare)
                .map(|(name, &(p, a, has_room))| {
                    Candidate { site: site(name, p, a), free: if has_room { 64 } else { 63 } }
                })
                .collect();
            let n = held.len() + more;
            let spread = Spread { surplus: copies.iter().collect(), ..spread(&policy, k, n, &held) };
            let missing: Vec<u16> = (held.len() as u16..n as u16).collect();
            let before = margin(&policy, k, &spread.counted);
            let secret = |sites: &[&Site]| conceal_margin(&policy, k, sites);
            let all: Vec<&Site> = held.iter().chain(&copies).collect();
            match spread.place(&missing, &candidates, 3) {
                Ok(placed) => {
                    let used: BTreeSet<usize> = placed.iter().map(|(_, at)| *at).collect();
                    prop_assert_eq!(used.len(), placed.len(), "each takes one");
                    prop_assert!(used.iter().all(|&at| candidates[at].free >= 64));
                    let new = used.iter().map(|&at| &candidates[at].site);
                    let after: Vec<&Site> = spread.counted.iter().copied().chain(new.clone()).collect();
                    let reached = margin(&policy, k, &after);
                    let is_whole = after.len() == n && check_placement(&policy, k, &after).is_ok();
                    prop_assert!(is_whole || reached > before);
                    prop_assert!(reached >= before);
                    let with: Vec<&Site> = all.iter().copied().chain(new).collect();
                    prop_assert!(secret(&with) >= secret(&all).min(0));
                }
                Err(_) => {
                    // No single shard would have helped.
                    for candidate in candidates.iter().filter(|c| c.free >= 64 && more > 0) {
                        let one: Vec<&Site> =
                            spread.counted.iter().copied().chain([&candidate.site]).collect();
                        let with: Vec<&Site> = all.iter().copied().chain([&candidate.site]).collect();
                        let helps = margin(&policy, k, &one) > before;
                        prop_assert!(!helps || secret(&with) < secret(&all).min(0));
                    }
                }
            }
        }
    }
}
