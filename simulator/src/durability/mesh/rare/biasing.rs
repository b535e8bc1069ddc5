//! Biasing. That any of S stripes is lost is a union of rare events, and P(∪ A) = Σ E[1{A}/N], N the number of stripes lost
//! (Karp and Luby, 1983; for rare events Adler, Blanchet and Liu, 2012). A *cycle* begins when a whole stripe is struck, and ends when it
//! is whole again or lost. A mission is played as it comes, and one of all the cycles that begin in it, of whatever stripe, is
//! picked evenly. From the mesh as it was when that cycle began it is played again with failures made frequent for that one stripe;
//! everything else takes its course, up to the end of the mission. If the stripe is lost, what is contributed is the number of cycles
//! times the likelihood ratio over N. A stripe's cycles end with its first loss, so that this is unbiased without an approximation.
//!
//! Failures are made frequent by a process beside nature's: t after the stripe was struck last, with l shards lost, its rate is
//! [`HASTE`] / (r/l + t), r the mean time of a repair. It falls slowly: weights grow as a power of the time only, and
//! no time is left out, so that queues and repairs of any law are allowed. Which cause it is, is drawn half by rate and half by harm.

use super::super::super::dice::Dice;
use super::super::super::estimate::{Effort, Method, spread};
use super::super::moving::Hand;
use super::super::run::{Hit, Run, Step};
use super::super::{Played, Source, Whom};
use super::sums::{Four, Sums};
use super::{MeshEstimate, Z};

/// Failures are made as frequent as so many times the repairs.
const HASTE: f64 = 1.5;
/// Missions of one batch, and batches between two looks at the interval.
const BATCH: u64 = 16;
const ROUND: u64 = 16;
/// How often one cycle is played again.
const REPLAYS: usize = 4;
const EFFECTIVE_MIN: f64 = 200.0;
const SHARE_MAX: f64 = 0.05;

/// A cause that would take whole shards of a stripe.
struct Chance {
    hit: Hit,
    rate: f64,
    /// The square of the number of shards.
    harm: f64,
}

/// The cycles that began in a mission.
struct Cycles {
    count: u64,
    strikes: u64,
    /// Of each stripe, at which strike it was counted last.
    seen: Vec<u64>,
    /// One of them: the mesh just before it began, and its stripe.
    picked: Option<(Run, usize)>,
}

impl Played<'_> {
    fn four(&self, run: &Run, weight: f64) -> Four {
        let tally = self.counted(run);
        let lost = tally.lost as f64;
        [weight / lost, weight / lost * tally.much as f64, weight / lost * tally.all as f64, weight]
    }

    pub(super) fn biased(&self, effort: &Effort) -> MeshEstimate {
        let mut sums = Sums::default();
        let mut batch = 0;
        loop {
            let batches = batch..batch + ROUND;
            let parts = spread(effort.seed, effort.jobs, batches, |_, dice| {
                let mut sums = Sums::default();
                for _ in 0..BATCH {
                    let (four, events) = self.sample(dice);
                    sums.add(four, events);
                }
                sums
            });
            for part in &parts {
                sums.merge(part);
            }
            batch += ROUND;
            let any = sums.share(0, Z);
            let is_sound =
                sums.effective() >= EFFECTIVE_MIN && sums.largest <= SHARE_MAX * sums.sum[0];
            if is_sound && any.relative_error() <= effort.relative_error
                || sums.events >= effort.events_max
            {
                let mut doubts = Vec::new();
                if sums.effective() < EFFECTIVE_MIN {
                    doubts.push(format!(
                        "only {:.0} effective samples: weights are too uneven",
                        sums.effective()
                    ));
                }
                if sums.largest > SHARE_MAX * sums.sum[0] {
                    doubts.push("one sample makes up more than a twentieth of the estimate".into());
                }
                return sums.estimate(Method::Biasing, Z, doubts);
            }
        }
    }

    /// One mission as it comes, and one of its cycles again, biased.
    fn sample(&self, dice: &mut Dice) -> (Four, u64) {
        let mut hand = self.hand(dice);
        let mut run = self.start(hand.dice).unwatched();
        // Counts as work: a mesh in which nothing happens ends too.
        let mut events = 10;
        let mut all = [0.0; 4];
        let years = self.input.years;
        let losses: f64 = self.sources.iter().map(|source| self.loss_rate(source)).sum();
        if losses <= 0.0 || years <= 0.0 {
            return (all, 1_000);
        }
        let any = -(-losses * years).exp_m1();
        let mut cycles = Cycles { count: 0, strikes: 0, seen: vec![0; self.stripes], picked: None };
        // The first strike that takes something is made to come; until then nothing but outages happens.
        let first = hand.dice.exponential_below(losses, years);
        let mut strike = self.next_strike(0.0, hand.dice);
        loop {
            match self.step(&mut run, &mut hand, &mut strike, first) {
                Step::Over => break,
                Step::Event => {}
                Step::Strike(hit) => {
                    if self.law_of(self.sources[hit.source].trouble).is_none() {
                        self.strike(&mut run, &mut hand, hit);
                    }
                }
            }
        }
        let hit = self.pick_loss(losses, hand.dice);
        self.begin(&run, hit, &mut cycles, hand.dice);
        self.strike(&mut run, &mut hand, hit);
        let mut strike = self.next_strike(first, hand.dice);
        loop {
            match self.step(&mut run, &mut hand, &mut strike, years) {
                Step::Over => break,
                Step::Event => {}
                Step::Strike(hit) => {
                    self.begin(&run, hit, &mut cycles, hand.dice);
                    self.strike(&mut run, &mut hand, hit);
                }
            }
        }
        events += run.tally.events;
        let Some((begun, stripe)) = cycles.picked else { return (all, events) };
        let each = any * cycles.count as f64 / REPLAYS as f64;
        for _ in 0..REPLAYS {
            let mut run = begun.clone();
            let before = run.tally.events;
            if let Some(weight) = self.cycle(&mut run, &mut hand, stripe) {
                self.play(&mut run, &mut hand, self.input.years);
                let four = self.four(&run, weight * each);
                all.iter_mut().zip(four).for_each(|(sum, value)| *sum += value);
            }
            events += run.tally.events - before;
        }
        (all, events)
    }

    /// How often a source takes something for good.
    fn loss_rate(&self, source: &Source) -> f64 {
        match (self.law_of(source.trouble), &source.whom) {
            (None, _) => 0.0,
            (Some(_), Whom::Nodes(_)) => source.rate,
            (Some(_), Whom::Shard) => source.rate * self.holders.len() as f64,
        }
    }

    /// One of the sources that take something, as often as its rate says.
    fn pick_loss(&self, losses: f64, dice: &mut Dice) -> Hit {
        let mut left = dice.share() * losses;
        let found = self.sources.iter().position(|source| {
            left -= self.loss_rate(source);
            left <= 0.0 && self.loss_rate(source) > 0.0
        });
        let last = || self.sources.iter().rposition(|source| self.loss_rate(source) > 0.0);
        let source = found.or_else(last).unwrap_or(0);
        let shard = match self.sources[source].whom {
            Whom::Nodes(_) => None,
            Whom::Shard => Some(dice.below(self.holders.len())),
        };
        Hit { source, shard }
    }

    /// Counts the cycles that a strike is about to begin; each of a mission's ends up picked with the same probability.
    fn begin(&self, run: &Run, hit: Hit, cycles: &mut Cycles, dice: &mut Dice) {
        cycles.strikes += 1;
        let mut begins = None;
        self.each_struck(run, hit, |stripe| {
            if run.lost[stripe] == 0 && cycles.seen[stripe] != cycles.strikes {
                cycles.seen[stripe] = cycles.strikes;
                cycles.count += 1;
                if dice.share() * cycles.count as f64 <= 1.0 {
                    begins = Some(stripe);
                }
            }
        });
        if let Some(stripe) = begins {
            cycles.picked = Some((run.clone(), stripe));
        }
    }

    /// Calls for each whole shard that a source would take, with its stripe: that of a stripe that is lost is not whole.
    fn each_struck(&self, run: &Run, hit: Hit, mut each: impl FnMut(usize)) {
        let source = &self.sources[hit.source];
        if self.law_of(source.trouble).is_none() {
            return;
        }
        match &source.whom {
            Whom::Shard => {
                let Some(shard) = hit.shard else { return };
                if self.is_alive(run, shard) && source.befalls[run.holder[shard] as usize] {
                    each(shard / self.input.n);
                }
            }
            Whom::Nodes(nodes) => {
                for &node in nodes.iter().filter(|&&node| run.nodes[node].is_there) {
                    for &shard in &run.shards[node] {
                        if self.is_alive(run, shard as usize) {
                            each(shard as usize / self.input.n);
                        }
                    }
                }
            }
        }
    }

    /// A cycle of a stripe, from just before its first strike: the likelihood ratio if it ends in a loss in time.
    fn cycle(&self, run: &mut Run, hand: &mut Hand<'_>, stripe: usize) -> Option<f64> {
        // Of all that could begin the cycle nature chooses by rate alone.
        let chances = self.chances(run, stripe);
        let (hit, share) = choose(&chances, hand.dice)?;
        let natural: f64 = chances.iter().map(|chance| chance.rate).sum();
        let mut weight = rate_of(&chances, hit) / natural / share;
        self.strike(run, hand, hit);
        let mut strike = self.next_strike(run.time, hand.dice);
        loop {
            // Since the stripe was struck last.
            let (from, lost) = (run.time, f64::from(run.lost[stripe].max(1)));
            let scale = self.repair / lost;
            // The survival of the process beside nature's is (1 + t/scale)^-HASTE.
            let forced = from + scale * (hand.dice.share().powf(-1.0 / HASTE) - 1.0);
            let (hit, is_forced) = loop {
                if run.lost[stripe] > self.spare() {
                    return Some(weight * (1.0 + (run.time - from) / scale).powf(HASTE));
                }
                if run.lost[stripe] == 0 {
                    return None;
                }
                match self.step(run, hand, &mut strike, forced.min(self.input.years)) {
                    Step::Over if forced < self.input.years => break (None, true),
                    Step::Over => return None,
                    Step::Event => {}
                    Step::Strike(hit) => {
                        if self.would_take(run, hit, stripe) {
                            break (Some(hit), false);
                        }
                        self.strike(run, hand, hit);
                    }
                }
            };
            let chances = self.chances(run, stripe);
            let hit = match hit {
                Some(hit) => hit,
                None => choose(&chances, hand.dice)?.0,
            };
            let since = run.time - from;
            let natural = rate_of(&chances, hit);
            let beside = HASTE / (scale + since) * share_of(&chances, hit);
            weight *= natural / (natural + beside) * (1.0 + since / scale).powf(HASTE);
            if is_forced {
                run.tally.events += 1;
            }
            self.strike(run, hand, hit);
        }
    }

    /// The causes that would take whole shards of a stripe.
    fn chances(&self, run: &Run, stripe: usize) -> Vec<Chance> {
        let mut all: Vec<Chance> = Vec::new();
        for shard in stripe * self.input.n..(stripe + 1) * self.input.n {
            let node = run.holder[shard] as usize;
            if run.gone[shard] || !run.nodes[node].is_there {
                continue;
            }
            for &source in &self.takers[node] {
                match all.iter_mut().find(|chance| chance.hit == Hit { source, shard: None }) {
                    Some(known) => known.harm += 1.0,
                    None => all.push(Chance {
                        hit: Hit { source, shard: None },
                        rate: self.sources[source].rate,
                        harm: 1.0,
                    }),
                }
            }
            for (source, of) in self.sources.iter().enumerate() {
                if matches!(of.whom, Whom::Shard) && of.befalls[node] {
                    let hit = Hit { source, shard: Some(shard) };
                    all.push(Chance { hit, rate: of.rate, harm: 1.0 });
                }
            }
        }
        all.retain(|chance| chance.rate > 0.0);
        for chance in &mut all {
            chance.harm *= chance.harm;
        }
        all
    }

    /// Whether a source would take a whole shard of this stripe.
    fn would_take(&self, run: &Run, hit: Hit, stripe: usize) -> bool {
        let mut takes = false;
        let source = &self.sources[hit.source];
        let mut look = |shard: usize| {
            let node = run.holder[shard] as usize;
            takes |= !run.gone[shard] && run.nodes[node].is_there && source.befalls[node];
        };
        match hit.shard {
            _ if self.law_of(source.trouble).is_none() => {}
            Some(shard) if shard / self.input.n != stripe => {}
            Some(shard) => look(shard),
            None => (stripe * self.input.n..(stripe + 1) * self.input.n).for_each(look),
        }
        takes
    }
}

/// The probability with which [`choose`] takes this one.
fn share_of(chances: &[Chance], hit: Hit) -> f64 {
    let (rates, harms) = sums_of(chances);
    let of = chances.iter().find(|chance| chance.hit == hit);
    of.map_or(0.0, |chance| 0.5 * chance.rate / rates + 0.5 * chance.harm / harms)
}

fn rate_of(chances: &[Chance], hit: Hit) -> f64 {
    chances.iter().find(|chance| chance.hit == hit).map_or(0.0, |chance| chance.rate)
}

fn sums_of(chances: &[Chance]) -> (f64, f64) {
    chances.iter().fold((0.0, 0.0), |(rate, harm), c| (rate + c.rate, harm + c.harm))
}

/// One of the causes, half by rate and half by harm, with the probability of that; none when there is none.
fn choose(chances: &[Chance], dice: &mut Dice) -> Option<(Hit, f64)> {
    let (rates, harms) = sums_of(chances);
    let by_rate = dice.share() < 0.5;
    let mut left = dice.share() * if by_rate { rates } else { harms };
    let chosen = chances.iter().find(|chance| {
        left -= if by_rate { chance.rate } else { chance.harm };
        left <= 0.0
    });
    let hit = chosen.or(chances.last())?.hit;
    Some((hit, share_of(chances, hit)))
}
