//! Where shards go that are rebuilt elsewhere: by the same rule that placed them. For Strewn that is `protocol`'s own
//! repair, which asks the one predicate; the other rules choose as their papers say.

use super::super::dice::Dice;
use super::super::placing::Strategy;
use super::Played;
use super::run::Run;
use protocol::placement::Candidate;
use protocol::policy::Policy;
use protocol::repair::Spread;

/// Room of an empty node, in shards.
const ROOM: u64 = 1 << 40;

/// What a player holds beside the state: dice, and room for the solver to look at.
#[derive(Debug)]
pub(super) struct Hand<'d> {
    pub(super) dice: &'d mut Dice,
    candidates: Vec<Candidate>,
}

impl Played<'_> {
    pub(super) fn hand<'d>(&self, dice: &'d mut Dice) -> Hand<'d> {
        let candidates = if self.moves && self.policy().is_some() {
            let sites = self.input.sites.iter();
            sites.map(|site| Candidate { site: site.clone(), free: ROOM }).collect()
        } else {
            Vec::new()
        };
        Hand { dice, candidates }
    }

    /// A node for a shard that is lost or given up, if there is one.
    pub(super) fn place_again(
        &self,
        run: &Run,
        hand: &mut Hand<'_>,
        shard: usize,
    ) -> Option<usize> {
        let n = self.input.n;
        let stripe = shard / n;
        let others =
            (stripe * n..(stripe + 1) * n).filter(|&other| other != shard && !run.gone[other]);
        let holders: Vec<usize> = others.map(|other| run.holder[other] as usize).collect();
        let can_take = |node: usize| run.nodes[node].is_there && !run.nodes[node].is_dark();
        let is_free = |node: usize| can_take(node) && !holders.contains(&node);
        let any = |hand: &mut Hand<'_>, may: &dyn Fn(usize) -> bool| {
            let nodes: Vec<usize> = (0..run.nodes.len()).filter(|&node| may(node)).collect();
            if nodes.is_empty() { None } else { Some(nodes[hand.dice.below(nodes.len())]) }
        };
        match &self.input.strategy {
            Strategy::Strewn(policy) => self.repaired_to(run, hand, policy, shard, &is_free),
            Strategy::Random => any(hand, &can_take),
            Strategy::Distinct => any(hand, &is_free),
            // The set stays, and waits for who takes the lost one's place in it.
            Strategy::Copysets { .. } => {
                Some(run.holder[shard] as usize).filter(|&node| is_free(node))
            }
            Strategy::Tree(level) => {
                let domain = |node: usize| self.input.sites[node].domain(level);
                let was = domain(run.holder[shard] as usize);
                any(hand, &|node| is_free(node) && domain(node) == was).or_else(|| {
                    // The domain is full or gone: another that has the fewest shards of this stripe.
                    let held = |node: usize| {
                        let domain_of = domain(node);
                        holders.iter().filter(|&&other| domain(other) == domain_of).count()
                    };
                    let least = (0..run.nodes.len()).filter(|&n| is_free(n)).map(held).min()?;
                    any(hand, &|node| is_free(node) && held(node) == least)
                })
            }
        }
    }

    /// Where Strewn's repair puts a shard, with everything else that the stripe lacks in mind.
    fn repaired_to(
        &self,
        run: &Run,
        hand: &mut Hand<'_>,
        policy: &Policy,
        shard: usize,
        is_free: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let n = self.input.n;
        let first = shard / n * n;
        for (node, candidate) in hand.candidates.iter_mut().enumerate() {
            candidate.free = if is_free(node) { ROOM - run.shards[node].len() as u64 } else { 0 };
        }
        let (mut counted, mut surplus, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        missing.push((shard - first) as u16);
        let mut readable = 0;
        for other in first..first + n {
            let node = run.holder[other] as usize;
            let site = &self.input.sites[node];
            if other == shard {
                if !run.gone[other] && run.nodes[node].is_there {
                    surplus.push(site);
                }
            } else if run.gone[other] {
                missing.push((other - first) as u16);
            } else if run.nodes[node].is_given_up {
                missing.push((other - first) as u16);
                surplus.push(site);
            } else {
                counted.push(site);
                readable += 1;
            }
        }
        let spread =
            Spread { policy, k: self.input.k, n, shard_len: 1, counted, surplus, readable };
        let tie = hand.dice.below(usize::MAX) as u64;
        let chosen = spread.place(&missing, &hand.candidates, tie).ok()?;
        chosen.first().map(|(_, node)| *node)
    }
}
