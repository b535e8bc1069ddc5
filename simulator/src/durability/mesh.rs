//! All stripes of a mesh together, by chance: what they share (nodes, domains, the bandwidth of repair) is shared. Gives
//! what one stripe cannot: how often *any* stripe, a share of them, or all are lost, under each rule of placement.
//!
//! Here are a mesh made ready to be played, and plain missions, which are counted. `run` has its state and its events,
//! `moving` where shards go that were lost, `rare` the probabilities that counting does not reach.

mod figures;
mod moving;
mod rare;
mod run;
#[cfg(test)]
mod tests;

use super::dice::Dice;
use super::estimate::{Effort, spread};
use super::input::{Input, InputError, Replacement};
use super::law::Law;
use super::placing::Strategy;
use super::stripe::Harm;
use protocol::label::Domain;
use std::collections::BTreeMap;

pub use figures::MeshFigures;
pub use rare::{MeshEstimate, Share};

/// Most shards of one play: beyond, memory grows past what is meant for a laptop.
pub const SHARDS_MAX: usize = 20_000_000;
/// Stripes whose policy is looked at after every change; the others fare alike.
pub const WATCHED: usize = 256;

/// Sums over missions. Runs of several machines add up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MeshTally {
    /// Missions.
    pub missions: u64,
    /// Missions in which any stripe was lost.
    pub any: u64,
    /// Missions in which the input's `fraction` of the stripes was lost.
    pub much: u64,
    /// Missions in which all were.
    pub all: u64,
    /// Stripes lost.
    pub lost: u64,
    /// Sum of the squares of the stripes lost in each mission.
    pub lost_squared: f64,
    /// Shards rebuilt.
    pub rebuilt: u64,
    /// Of those, shards put on another node.
    pub moved: u64,
    /// Years that shards waited for bandwidth, summed.
    pub waited: f64,
    /// Years in which stripes lacked shards, summed up to their loss.
    pub short: f64,
    /// Years in which stripes could not be read though not lost, summed.
    pub unavailable: f64,
    /// Years in which the stripes watched were not as their policy asks, summed.
    pub below: f64,
    /// Failures and repairs played.
    pub events: u64,
}

impl MeshTally {
    /// Adds another run's sums.
    pub fn merge(&mut self, other: &Self) {
        self.missions += other.missions;
        self.any += other.any;
        self.much += other.much;
        self.all += other.all;
        self.lost += other.lost;
        self.lost_squared += other.lost_squared;
        self.rebuilt += other.rebuilt;
        self.moved += other.moved;
        self.waited += other.waited;
        self.short += other.short;
        self.unavailable += other.unavailable;
        self.below += other.below;
        self.events += other.events;
    }
}

/// A cause in the whole mesh.
#[derive(Debug)]
struct Source {
    /// Sum of the rates up to this one.
    until: f64,
    /// Times a year; for `Shards`, of each shard.
    rate: f64,
    whom: Whom,
    /// Of each node, whether it befalls what lies there.
    befalls: Vec<bool>,
    /// Which of the input's troubles it is.
    trouble: usize,
}

#[derive(Debug)]
enum Whom {
    /// These nodes, all together.
    Nodes(Vec<usize>),
    /// Any one shard.
    Shard,
}

/// A mesh with its stripes placed.
#[derive(Debug)]
pub struct Played<'a> {
    input: &'a Input,
    sources: Vec<Source>,
    /// All sources together, times a year.
    rate: f64,
    /// Of each node, the sources that take its shards for good.
    takers: Vec<Vec<usize>>,
    /// Of each shard (stripe times n plus place), its node at the start.
    holders: Vec<u32>,
    stripes: usize,
    /// Stripes of which so many count as much lost.
    much: u64,
    /// Years that the rebuild of one shard takes of the mesh's bandwidth; 0 without a bound.
    service: f64,
    /// Whether shards go elsewhere.
    moves: bool,
    /// Mean time of a repair.
    repair: f64,
}

impl<'a> Played<'a> {
    /// Places so many stripes.
    ///
    /// # Errors
    /// [`InputError`] when they cannot be placed or are too many.
    pub fn new(input: &'a Input, stripes: usize) -> Result<Self, InputError> {
        let count = stripes.saturating_mul(input.n);
        if count > SHARDS_MAX || stripes == 0 {
            let most = SHARDS_MAX / input.n;
            return Err(InputError::Text(format!("{stripes} stripes: 1 to {most} can be played")));
        }
        let holders: Vec<u32> =
            input.place(stripes)?.iter().flatten().map(|&node| node as u32).collect();
        let mut sources: Vec<Source> = Vec::new();
        let mut rate = 0.0;
        let mut takers = vec![Vec::new(); input.sites.len()];
        let mut repairs: Vec<f64> = Vec::new();
        for (trouble, of) in input.troubles.iter().enumerate() {
            if let Harm::Lost { repair, .. } = &of.harm {
                repairs.push(repair.mean());
            }
            let mut domains: BTreeMap<Domain, Vec<usize>> = BTreeMap::new();
            for (node, site) in input.sites.iter().enumerate() {
                let domain = site.domain(&of.level);
                if input.is_meant(of, &domain) {
                    domains.entry(domain).or_default().push(node);
                }
            }
            let befalls = |nodes: &[usize]| {
                let mut all = vec![false; input.sites.len()];
                for &node in nodes {
                    all[node] = true;
                }
                all
            };
            let source = |until, whom, nodes: &[usize]| Source {
                until,
                rate: of.per_year,
                whom,
                befalls: befalls(nodes),
                trouble,
            };
            if of.single {
                rate += of.per_year * count as f64;
                let nodes: Vec<usize> = domains.into_values().flatten().collect();
                sources.push(source(rate, Whom::Shard, &nodes));
                continue;
            }
            for nodes in domains.into_values() {
                rate += of.per_year;
                if matches!(of.harm, Harm::Lost { .. }) {
                    for &node in &nodes {
                        takers[node].push(sources.len());
                    }
                }
                sources.push(source(rate, Whom::Nodes(nodes.clone()), &nodes));
            }
        }
        let moved = input.stripe_bytes as f64 / input.k as f64 * (input.k + 1) as f64;
        let service = input.mesh_mbit.map_or(0.0, |mbit| moved * 8.0 / (mbit * 1e6) / 31_536_000.0);
        let repair = repairs.iter().sum::<f64>() / repairs.len().max(1) as f64;
        Ok(Self {
            input,
            sources,
            rate,
            takers,
            holders,
            stripes,
            much: share_of(stripes, input.fraction),
            service,
            moves: input.replacement != Replacement::AtOnce,
            repair: repair.max(1e-9),
        })
    }

    /// Plays so many missions, one batch of dice each.
    #[must_use]
    pub fn missions(&self, effort: &Effort, missions: std::ops::Range<u64>) -> MeshTally {
        let seed = effort.seed ^ self.input.seed;
        let tallies = spread(seed, effort.jobs, missions, |_, dice| self.mission(dice));
        tallies.iter().fold(MeshTally::default(), |mut sum, tally| {
            sum.merge(tally);
            sum
        })
    }

    fn mission(&self, dice: &mut Dice) -> MeshTally {
        let mut hand = self.hand(dice);
        let mut run = self.start(hand.dice);
        self.play(&mut run, &mut hand, self.input.years);
        self.counted(&run)
    }

    /// The sums of one mission that is over.
    fn counted(&self, run: &run::Run) -> MeshTally {
        let mut tally = run.tally;
        tally.missions = 1;
        tally.lost_squared = (tally.lost as f64).powi(2);
        tally.any = u64::from(tally.lost > 0);
        tally.much = u64::from(tally.lost >= self.much);
        tally.all = u64::from(tally.lost == self.stripes as u64);
        tally
    }

    /// Stripes that are watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.stripes.min(WATCHED)
    }

    fn spare(&self) -> u16 {
        (self.input.n - self.input.k) as u16
    }

    fn law_of(&self, trouble: usize) -> Option<(&Law, f64)> {
        match &self.input.troubles[trouble].harm {
            Harm::Lost { repair, notice } => Some((repair, *notice)),
            Harm::Dark { .. } => None,
        }
    }

    fn policy(&self) -> Option<&protocol::policy::Policy> {
        match &self.input.strategy {
            Strategy::Strewn(policy) => Some(policy),
            _ => None,
        }
    }
}

#[expect(clippy::cast_sign_loss, reason = "a share of a count is not negative")]
fn share_of(stripes: usize, share: f64) -> u64 {
    ((stripes as f64 * share).ceil() as u64).max(1)
}
