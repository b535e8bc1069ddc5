//! Importance sampling for losses far in the tail, where every failure comes from a Poisson process and repairs have
//! any law.
//!
//! A *cycle* begins when a cause strikes a stripe that is whole, and ends when it is whole again or lost. A stripe has no
//! cycles after its loss, so that the probability of loss is the expected sum, over the cycles that begin in a mission, of
//! whether they end in a loss before the mission does.
//! A mission is played as it comes (with its first strike forced to happen), one of its cycles is picked
//! evenly, and played again with failures made frequent; its weight is the number of cycles times the likelihood ratio. (The
//! split of undisturbed missions from biased cycles is that of Nicola, Shahabuddin, Heidelberger and Glynn, 1993; balanced
//! failure biasing, with its bounded relative error, is Shahabuddin's, 1994.)
//!
//! In a biased cycle the times of repairs are known, as they were drawn (memoryless ones anew at each step). Until the next one, a failure is made
//! to happen with a probability near a half (as if failures came as fast as repairs); which cause it is, is drawn
//! half by rate and half by the square of how many whole shards it hits. A cycle whose weight has become too small to count is
//! given up by Russian roulette, at a floor taken from earlier batches, so that long walks with no weight cost nothing.

use super::dice::Dice;
use super::estimate::{Effort, Estimate, Method, spread};
use super::stripe::{Harm, Model, Player, State, Stop};

/// Cycles of one batch.
const BATCH: u64 = 500;
/// Batches between two looks at the interval.
const ROUND: u64 = 8;
/// Failures are made as frequent as this many times the repairs.
const HASTE: f64 = 1.5;
/// Most probability given to a failure before the next repair: what is left covers what was thought impossible.
const FORCED_MAX: f64 = 0.9;
/// Share of the mean below which a cycle's weight no longer counts for itself.
const FLOOR: f64 = 0.02;
/// Effective samples below which an interval means little.
const EFFECTIVE_MIN: f64 = 400.0;
/// Share of the sum that one sample may have.
const SHARE_MAX: f64 = 0.05;
const Z: f64 = 1.959_964;

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    samples: u64,
    weight: f64,
    square: f64,
    cube: f64,
    largest: f64,
    events: u64,
}

struct Biased<'a> {
    player: Player<'a>,
    /// Mean time of a repair.
    repair: f64,
}

pub(super) fn loss(model: &Model, years: f64, effort: &Effort) -> Estimate {
    let repairs: Vec<f64> = model
        .causes
        .iter()
        .filter_map(|cause| match &cause.harm {
            Harm::Lost { repair, .. } => Some(repair.mean()),
            Harm::Dark { .. } => None,
        })
        .collect();
    let repair = repairs.iter().sum::<f64>() / repairs.len().max(1) as f64;
    let biased = Biased { player: Player::new(model), repair: repair.max(1e-9) };
    let mut sum = Sums::default();
    let mut batch = 0;
    let mut floor = 0.0;
    let mut enough = None;
    loop {
        let batches = batch..batch + ROUND;
        for part in
            spread(effort.seed, effort.jobs, batches, |_, dice| biased.batch(years, floor, dice))
        {
            sum.samples += part.samples;
            sum.weight += part.weight;
            sum.square += part.square;
            sum.cube += part.cube;
            sum.largest = sum.largest.max(part.largest);
            sum.events += part.events;
        }
        batch += ROUND;
        let n = sum.samples as f64;
        let mean = sum.weight / n;
        let deviation = ((sum.square / n - mean * mean).max(0.0) / n).sqrt();
        let effective = if sum.square > 0.0 { sum.weight * sum.weight / sum.square } else { 0.0 };
        floor = FLOOR * mean / (biased.player.rate * years);
        let is_sound = effective >= EFFECTIVE_MIN && sum.largest <= SHARE_MAX * sum.weight;
        let is_narrow = Z * deviation <= effort.relative_error * mean;
        // It looks good soonest where large weights have not come yet: half as much again, whatever comes, makes up for that.
        if enough.is_none() && is_sound && is_narrow {
            enough = Some(sum.samples + sum.samples / 2);
        }
        if enough.is_some_and(|samples| sum.samples >= samples) || sum.events >= effort.events_max {
            return finish(sum, mean, deviation, effective);
        }
    }
}

fn finish(sum: Sums, mean: f64, deviation: f64, effective: f64) -> Estimate {
    let mut doubts = Vec::new();
    if effective < EFFECTIVE_MIN {
        doubts.push(format!("only {effective:.0} effective samples: weights are too uneven"));
    }
    if sum.largest > SHARE_MAX * sum.weight {
        doubts.push("one sample makes up more than a twentieth of the estimate".into());
    }
    // Few large weights hide above the mean: the upper end is moved by the skewness (Johnson, 1978).
    let n = sum.samples as f64;
    let third = sum.cube / n - 3.0 * mean * sum.square / n + 2.0 * mean.powi(3);
    let skewness = third / (deviation * n.sqrt()).powi(3) / n.sqrt();
    let skewness = if skewness.is_finite() { skewness.max(0.0) } else { 0.0 };
    let above = Z + skewness * (2.0 * Z * Z + 1.0) / 6.0;
    Estimate {
        method: Method::Biasing,
        loss: mean.min(1.0),
        low: (mean - Z * deviation).max(0.0),
        high: (mean + above * deviation).min(1.0),
        samples: sum.samples,
        effective,
        events: sum.events,
        doubts,
    }
}

impl Biased<'_> {
    fn batch(&self, years: f64, floor: f64, dice: &mut Dice) -> Sums {
        let mut sums = Sums::default();
        for _ in 0..BATCH {
            let (weight, events) = self.sample(years, floor, dice);
            sums.samples += 1;
            sums.weight += weight;
            sums.square += weight * weight;
            sums.cube += weight * weight * weight;
            sums.largest = sums.largest.max(weight);
            sums.events += events;
        }
        sums
    }

    /// One mission as it comes, and one of its cycles biased: the weight of a loss, or zero.
    fn sample(&self, years: f64, floor: f64, dice: &mut Dice) -> (f64, u64) {
        let player = &self.player;
        if player.rate <= 0.0 || years <= 0.0 {
            // Counts as work: a model in which nothing happens ends too.
            return (0.0, 1_000);
        }
        let any = -(-player.rate * years).exp_m1();
        let mut state = player.start(dice);
        state.time = dice.exponential_below(player.rate, years);
        let (mut cycles, mut picked) = (0u64, 0.0);
        loop {
            // A cycle begins now: each of them ends up picked with the same probability.
            cycles += 1;
            if dice.share() * cycles as f64 <= 1.0 {
                picked = state.time;
            }
            let cause = player.pick(dice);
            player.strike(&mut state, cause, dice);
            let most = player.model.spare() + 1;
            if !matches!(player.play(&mut state, dice, years, most, true), Stop::Struck(_)) {
                let (weight, events) = self.cycle(picked, years, floor, dice);
                let events = events + state.seen.events + 1;
                return (any * cycles as f64 * weight, events);
            }
        }
    }

    /// A biased cycle that begins at `from`: the likelihood ratio if it ends in a loss in time, else zero.
    fn cycle(&self, from: f64, years: f64, floor: f64, dice: &mut Dice) -> (f64, u64) {
        let player = &self.player;
        let most = player.model.spare() + 1;
        let mut state = player.start(dice);
        state.time = from;
        let mut events = 0;
        let mut useful = Useful::default();
        useful.find(player.model, &state);
        // Nature chooses among all causes, useful or not.
        useful.rate = player.rate;
        let mut weight = self.strike(&mut state, &useful, dice);
        loop {
            events += 1;
            if state.lost.count_ones() >= most {
                return (weight, events);
            }
            if state.lost == 0 {
                return (0.0, events);
            }
            // Russian roulette: what would hardly count is mostly given up, and the rest counts as much more.
            if weight < floor {
                if dice.share() * floor > weight {
                    return (0.0, events);
                }
                weight = floor;
            }
            player.forget_repairs(&mut state, dice);
            let span = state.next_repair().min(years) - state.time;
            useful.find(player.model, &state);
            let natural = -(-useful.rate * span).exp_m1();
            let busy = player.model.repairers.busy(state.lost.count_ones() as usize) as f64;
            let haste = HASTE * busy / self.repair;
            let forced = (-(-haste * span).exp_m1()).min(FORCED_MAX).max(natural);
            if dice.share() < forced {
                weight *= natural / forced;
                state.time += dice.exponential_below(useful.rate, span);
                weight *= self.strike(&mut state, &useful, dice);
            } else {
                weight *= (1.0 - natural) / (1.0 - forced);
                if state.next_repair() >= years {
                    return (0.0, events);
                }
                player.finish_repair(&mut state, dice);
            }
        }
    }

    /// Strikes with one of the useful causes; gives the likelihood ratio of having chosen it.
    fn strike(&self, state: &mut State, useful: &Useful, dice: &mut Dice) -> f64 {
        let by_rate = dice.share() < 0.5;
        let total = if by_rate { useful.causes.iter().map(|c| c.1).sum() } else { useful.harm };
        let mut left = dice.share() * total;
        let chosen = useful.causes.iter().find(|(_, rate, harm)| {
            left -= if by_rate { *rate } else { *harm };
            left <= 0.0
        });
        let Some(&(chosen, rate, harm)) = chosen.or(useful.causes.last()) else { return 0.0 };
        let among: f64 = useful.causes.iter().map(|c| c.1).sum();
        let ratio = rate / useful.rate / (0.5 * rate / among + 0.5 * harm / useful.harm);
        self.player.strike(state, chosen, dice);
        ratio
    }
}

/// The causes that hit a shard which is whole.
#[derive(Default)]
struct Useful {
    /// Each with its rate and the square of the number of whole shards that it hits.
    causes: Vec<(usize, f64, f64)>,
    /// Sum of rates among which nature chooses.
    rate: f64,
    /// Sum of squares.
    harm: f64,
}

impl Useful {
    fn find(&mut self, model: &Model, state: &State) {
        self.causes.clear();
        (self.rate, self.harm) = (0.0, 0.0);
        for (index, cause) in model.causes.iter().enumerate() {
            let hits = (cause.shards & !state.lost).count_ones();
            if hits > 0 && cause.rate > 0.0 {
                let harm = f64::from(hits * hits);
                self.causes.push((index, cause.rate, harm));
                self.rate += cause.rate;
                self.harm += harm;
            }
        }
    }
}
