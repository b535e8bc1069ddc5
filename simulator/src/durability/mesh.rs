//! All stripes of a mesh together, by chance: what they share (nodes, domains, the bandwidth of repair) is shared. Gives
//! what one stripe cannot: how often *any* stripe, a share of them, or all are lost, under each rule of placement.
//!
//! A cause takes whole nodes with all their shards; an empty node with the same labels takes each one's place at once. A
//! lost shard may be rebuilt once the time of its cause's law is over; where the mesh has a bandwidth for repair, it then
//! waits in a queue in which the stripe with the fewest shards to spare comes first. Outages and wear are not played here.

use super::dice::Dice;
use super::estimate::{Effort, spread};
use super::input::{Input, InputError};
use super::stripe::Harm;
use protocol::label::Domain;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Most shards of one play: beyond, memory grows past what is meant for a laptop.
pub const SHARDS_MAX: usize = 20_000_000;
/// The share of stripes that counts as much lost.
pub const MUCH: f64 = 0.01;

/// Sums over missions. Runs of several machines add up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MeshTally {
    /// Missions.
    pub missions: u64,
    /// Missions in which any stripe was lost.
    pub any: u64,
    /// Missions in which [`MUCH`] of the stripes were lost.
    pub much: u64,
    /// Missions in which all were.
    pub all: u64,
    /// Stripes lost.
    pub lost: u64,
    /// Shards rebuilt.
    pub rebuilt: u64,
    /// Years that shards waited for bandwidth, summed.
    pub waited: f64,
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
        self.rebuilt += other.rebuilt;
        self.waited += other.waited;
        self.events += other.events;
    }
}

/// A cause in the whole mesh: how often, which nodes, and which trouble of the input it is.
struct Source {
    until: f64,
    nodes: Vec<usize>,
    trouble: usize,
}

/// A mesh with its stripes placed.
pub struct Played<'a> {
    input: &'a Input,
    sources: Vec<Source>,
    rate: f64,
    /// Of each node, its shards: stripe times n plus place.
    shards: Vec<Vec<usize>>,
    stripes: usize,
    /// Years that the rebuild of one shard takes of the mesh's bandwidth; 0 without a bound.
    service: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A shard may be rebuilt from here on; the second is how often it has been lost.
    Ready(usize, u32),
    /// The rebuild that has the bandwidth is done.
    Done(usize, u32),
}

struct Run {
    lost: Vec<u16>,
    gone: Vec<bool>,
    times: Vec<u32>,
    ready_at: Vec<f64>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    /// Shards to spare, when they came, which, and how often it has been lost.
    queue: BinaryHeap<Reverse<(u16, u64, usize, u32)>>,
    busy: bool,
    tally: MeshTally,
}

impl<'a> Played<'a> {
    /// Places so many stripes.
    ///
    /// # Errors
    /// [`InputError`] when they cannot be placed or are too many.
    pub fn new(input: &'a Input, stripes: usize) -> Result<Self, InputError> {
        if stripes.saturating_mul(input.n) > SHARDS_MAX || stripes == 0 {
            let most = SHARDS_MAX / input.n;
            return Err(InputError::Text(format!("{stripes} stripes: 1 to {most} can be played")));
        }
        let mut shards = vec![Vec::new(); input.sites.len()];
        for (stripe, holders) in input.place(stripes)?.iter().enumerate() {
            for (place, &node) in holders.iter().enumerate() {
                shards[node].push(stripe * input.n + place);
            }
        }
        let (mut sources, mut rate) = (Vec::new(), 0.0);
        for (trouble, of) in input.troubles.iter().enumerate() {
            if matches!(of.harm, Harm::Dark { .. }) {
                continue;
            }
            let mut domains: BTreeMap<Domain, Vec<usize>> = BTreeMap::new();
            for (node, site) in input.sites.iter().enumerate() {
                let domain = site.domain(&of.level);
                if input.is_meant(of, &domain) {
                    domains.entry(domain).or_default().push(node);
                }
            }
            for nodes in domains.into_values() {
                rate += of.per_year;
                sources.push(Source { until: rate, nodes, trouble });
            }
        }
        let moved = input.stripe_bytes as f64 / input.k as f64 * (input.k + 1) as f64;
        let service = input.mesh_mbit.map_or(0.0, |mbit| moved * 8.0 / (mbit * 1e6) / 31_536_000.0);
        Ok(Self { input, sources, rate, shards, stripes, service })
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
        let all = self.stripes * self.input.n;
        let mut run = Run {
            lost: vec![0; self.stripes],
            gone: vec![false; all],
            times: vec![0; all],
            ready_at: vec![0.0; all],
            events: BinaryHeap::new(),
            queue: BinaryHeap::new(),
            busy: false,
            tally: MeshTally { missions: 1, ..MeshTally::default() },
        };
        let wait = |dice: &mut Dice| {
            if self.rate > 0.0 { dice.exponential() / self.rate } else { f64::INFINITY }
        };
        let mut strike = wait(dice);
        loop {
            let next =
                run.events.peek().map_or(f64::INFINITY, |Reverse((at, _))| f64::from_bits(*at));
            if next.min(strike) >= self.input.years {
                break;
            }
            run.tally.events += 1;
            if strike < next {
                self.strike(&mut run, strike, dice);
                strike += wait(dice);
            } else if let Some(Reverse((_, event))) = run.events.pop() {
                self.step(&mut run, next, event);
            }
        }
        let tally = &mut run.tally;
        tally.any = u64::from(tally.lost > 0);
        tally.much = u64::from(tally.lost as f64 >= MUCH * self.stripes as f64);
        tally.all = u64::from(tally.lost == self.stripes as u64);
        run.tally
    }

    fn spare(&self) -> u16 {
        (self.input.n - self.input.k) as u16
    }

    fn strike(&self, run: &mut Run, now: f64, dice: &mut Dice) {
        let at = dice.share() * self.rate;
        let source = self.sources.partition_point(|source| source.until <= at);
        let Some(source) = self.sources.get(source) else { return };
        let Harm::Lost { repair, notice } = &self.input.troubles[source.trouble].harm else {
            return;
        };
        for &shard in source.nodes.iter().flat_map(|&node| &self.shards[node]) {
            let stripe = shard / self.input.n;
            if run.gone[shard] || run.lost[stripe] > self.spare() {
                continue;
            }
            let takes = repair.draw(dice) - notice;
            if *notice > 0.0 && takes <= 0.0 {
                continue;
            }
            run.gone[shard] = true;
            run.times[shard] += 1;
            run.lost[stripe] += 1;
            run.ready_at[shard] = now + takes;
            run.events
                .push(Reverse(((now + takes).to_bits(), Event::Ready(shard, run.times[shard]))));
            if run.lost[stripe] > self.spare() {
                run.tally.lost += 1;
                continue;
            }
            // Whoever waits already is more urgent now: an entry more, and the old one is skipped when its turn comes.
            for other in stripe * self.input.n..(stripe + 1) * self.input.n {
                if self.service > 0.0 && run.gone[other] && run.ready_at[other] <= now {
                    self.enqueue(run, other);
                }
            }
        }
    }

    fn enqueue(&self, run: &mut Run, shard: usize) {
        let spare = self.spare().saturating_sub(run.lost[shard / self.input.n]);
        run.queue.push(Reverse((spare, run.ready_at[shard].to_bits(), shard, run.times[shard])));
    }

    fn step(&self, run: &mut Run, now: f64, event: Event) {
        match event {
            Event::Ready(shard, times) if self.service > 0.0 => {
                if run.times[shard] == times {
                    self.enqueue(run, shard);
                }
            }
            Event::Ready(shard, times) => self.rebuilt(run, shard, times),
            Event::Done(shard, times) => {
                run.busy = false;
                self.rebuilt(run, shard, times);
            }
        }
        while let (false, Some(Reverse((_, _, shard, times)))) = (run.busy, run.queue.pop()) {
            let is_dead = run.lost[shard / self.input.n] > self.spare();
            if run.gone[shard] && run.times[shard] == times && !is_dead {
                run.busy = true;
                run.tally.waited += now - run.ready_at[shard];
                run.events
                    .push(Reverse(((now + self.service).to_bits(), Event::Done(shard, times))));
            }
        }
    }

    fn rebuilt(&self, run: &mut Run, shard: usize, times: u32) {
        let stripe = shard / self.input.n;
        // What is lost stays lost.
        if run.gone[shard] && run.times[shard] == times && run.lost[stripe] <= self.spare() {
            run.gone[shard] = false;
            run.lost[stripe] -= 1;
            run.tally.rebuilt += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durability::estimate::estimate;

    fn mesh(extra: &str, stripes: usize, code: &str, repair: &str) -> (Input, usize) {
        let text = format!(
            "name = 'mesh'\nyears = '1y'\nseed = 3\n[code]\n{code}\n{extra}\n[[nodes]]\ncount = 60\n\
             [repair]\ntransfer = {repair}\n[[cause]]\nname = 'node'\nlevel = 'node'\nper_year = 1.0\n"
        );
        (Input::parse(&text).unwrap(), stripes)
    }

    fn play((input, stripes): &(Input, usize), missions: u64) -> MeshTally {
        let effort = Effort { jobs: 2, ..Effort::default() };
        Played::new(input, *stripes).unwrap().missions(&effort, 0..missions)
    }

    const DAY: &str = "{ exponential = '4d' }";

    #[test]
    fn one_stripe_of_the_mesh_is_the_stripe_alone() {
        let alone = mesh("", 1, "k = 2\nn = 3", DAY);
        let played = play(&alone, 20_000);
        let model = alone.0.model(&alone.0.place(1).unwrap()[0]).unwrap();
        let found = estimate(&model, 1.0, None, &Effort::default()).unwrap();
        let share = played.any as f64 / played.missions as f64;
        let deviation = (found.loss / played.missions as f64).sqrt();
        assert!(
            (share - found.loss).abs() < 4.0 * deviation + found.high - found.low,
            "{share} {found:?}"
        );
    }

    #[test]
    fn copysets_lose_something_more_seldom_and_more_at_once() {
        let rule =
            |rule: &str| mesh(&format!("[placement]\n{rule}"), 2000, "k = 1\nn = 3", "'10d'");
        let spread = play(&rule("strategy = 'distinct'"), 300);
        let sets = play(&rule("strategy = 'copysets'\nscatter = 2"), 300);
        assert!(sets.any * 2 < spread.any, "{sets:?} {spread:?}");
        // What is lost seldom is lost together.
        let each = |tally: &MeshTally| tally.lost as f64 / tally.any.max(1) as f64;
        assert!(each(&sets) > 5.0 * each(&spread), "{sets:?} {spread:?}");
    }

    #[test]
    fn too_little_bandwidth_makes_shards_wait_and_stripes_die() {
        let with = |mbit: &str| mesh("", 300, "k = 2\nn = 4", &format!("'1d'\n{mbit}"));
        let free = play(&with(""), 60);
        // 60 nodes a year with 20 shards each, 24 MiB moved for each: 7.3 kbit/s on average.
        let tight = play(&with("mesh_mbit = 0.008"), 60);
        assert!(free.waited == 0.0 && tight.waited > 0.0);
        assert!(tight.lost > free.lost, "{tight:?} {free:?}");
    }

    #[test]
    fn the_same_seed_is_the_same_run_on_any_number_of_threads() {
        let (input, stripes) = mesh("", 100, "k = 2\nn = 3", DAY);
        let played = Played::new(&input, stripes).unwrap();
        let with = |jobs| played.missions(&Effort { jobs, ..Effort::default() }, 0..20);
        assert_eq!(with(1), with(3));
    }
}
