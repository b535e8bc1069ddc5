//! Importance sampling for losses far in the tail, where every failure comes from a Poisson process and repairs have
//! any law.
//!
//! A *cycle* begins when a cause strikes a stripe that is whole, and ends when it is whole again or lost. With losses
//! made good at once, the expected number of losses in a mission is the expected sum, over the cycles that begin in it, of
//! whether they end in a loss before the mission does; it exceeds the probability of loss by less than its own
//! square. A mission is played as it comes (with its first strike forced to happen), one of its cycles is picked
//! evenly, and played again with failures made frequent; its weight is the number of cycles times the likelihood ratio. (The
//! split of undisturbed missions from biased cycles is that of Nicola, Shahabuddin, Heidelberger and Glynn, 1993; balanced
//! failure biasing, with its bounded relative error, is Shahabuddin's, 1994.)
//!
//! In a biased cycle the times of repairs are known, as they were drawn (memoryless ones anew at each step). Until the next one, a failure is made
//! to happen with a probability near a half (as if failures came as fast as repairs); which cause it is, is drawn
//! half by rate and half evenly over those that can still do harm.

use super::dice::Dice;
use super::estimate::{Effort, Estimate, Method, spread};
use super::stripe::{Harm, Model, Player, State, Stop};

/// Cycles of one batch.
const BATCH: u64 = 2_000;
/// Batches between two looks at the interval.
const ROUND: u64 = 8;
/// Failures are made as frequent as this many times the repairs.
const HASTE: f64 = 1.5;
/// Most probability given to a failure before the next repair: what is left covers what was thought impossible.
const FORCED_MAX: f64 = 0.9;
/// Effective samples below which an interval means little.
const EFFECTIVE_MIN: f64 = 200.0;
/// Share of the sum that one sample may have.
const SHARE_MAX: f64 = 0.05;
const Z: f64 = 1.959_964;

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    samples: u64,
    weight: f64,
    square: f64,
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
    loop {
        let batches = batch..batch + ROUND;
        for part in spread(effort.seed, effort.jobs, batches, |_, dice| biased.batch(years, dice)) {
            sum.samples += part.samples;
            sum.weight += part.weight;
            sum.square += part.square;
            sum.largest = sum.largest.max(part.largest);
            sum.events += part.events;
        }
        batch += ROUND;
        let n = sum.samples as f64;
        let mean = sum.weight / n;
        let deviation = ((sum.square / n - mean * mean).max(0.0) / n).sqrt();
        let effective = if sum.square > 0.0 { sum.weight * sum.weight / sum.square } else { 0.0 };
        let is_sound = effective >= EFFECTIVE_MIN && sum.largest <= SHARE_MAX * sum.weight;
        let is_narrow = Z * deviation <= effort.relative_error * mean;
        if (is_sound && is_narrow) || sum.events >= effort.events_max {
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
    if mean > 0.01 {
        doubts.push(
            "losses are frequent: their expected number is more than the probability of any".into(),
        );
    }
    Estimate {
        method: Method::Biasing,
        loss: mean.min(1.0),
        low: (mean - Z * deviation).max(0.0),
        high: (mean + Z * deviation).min(1.0),
        samples: sum.samples,
        effective,
        events: sum.events,
        doubts,
    }
}

impl Biased<'_> {
    fn batch(&self, years: f64, dice: &mut Dice) -> Sums {
        let mut sums = Sums::default();
        for _ in 0..BATCH {
            let (weight, events) = self.sample(years, dice);
            sums.samples += 1;
            sums.weight += weight;
            sums.square += weight * weight;
            sums.largest = sums.largest.max(weight);
            sums.events += events;
        }
        sums
    }

    /// One mission as it comes, and one of its cycles biased: the weight of a loss, or zero.
    fn sample(&self, years: f64, dice: &mut Dice) -> (f64, u64) {
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
            loop {
                match player.play(&mut state, dice, years, most, true) {
                    Stop::Lost => player.renew(&mut state, dice),
                    stop => {
                        if let Stop::Struck(_) = stop {
                            break;
                        }
                        let (weight, events) = self.cycle(picked, years, dice);
                        let events = events + state.seen.events + 1;
                        return (any * cycles as f64 * weight, events);
                    }
                }
            }
        }
    }

    /// A biased cycle that begins at `from`: the likelihood ratio if it ends in a loss in time, else zero.
    fn cycle(&self, from: f64, years: f64, dice: &mut Dice) -> (f64, u64) {
        let player = &self.player;
        let most = player.model.spare() + 1;
        let mut state = player.start(dice);
        state.time = from;
        let mut weight = 1.0;
        let mut events = 0;
        let (_, useful) = self.useful(&state);
        weight *= self.strike(&mut state, player.rate, useful, dice);
        loop {
            events += 1;
            if state.lost.count_ones() >= most {
                return (weight, events);
            }
            if state.lost == 0 {
                return (0.0, events);
            }
            player.forget_repairs(&mut state, dice);
            let span = state.next_repair().min(years) - state.time;
            let (rate, useful) = self.useful(&state);
            let natural = -(-rate * span).exp_m1();
            let busy = player.model.repairers.busy(state.lost.count_ones() as usize) as f64;
            let haste = HASTE * busy / self.repair;
            let forced = (-(-haste * span).exp_m1()).min(FORCED_MAX).max(natural);
            if dice.share() < forced {
                weight *= natural / forced;
                state.time += dice.exponential_below(rate, span);
                weight *= self.strike(&mut state, rate, useful, dice);
            } else {
                weight *= (1.0 - natural) / (1.0 - forced);
                if state.next_repair() >= years {
                    return (0.0, events);
                }
                player.finish_repair(&mut state, dice);
            }
        }
    }

    /// The rate and the number of causes that hit a shard which is whole.
    fn useful(&self, state: &State) -> (f64, usize) {
        let whole = !state.lost;
        let causes = self.player.model.causes.iter().filter(|cause| cause.shards & whole != 0);
        causes.fold((0.0, 0), |(rate, count), cause| (rate + cause.rate, count + 1))
    }

    /// Strikes with one of the useful causes; gives the likelihood ratio of having chosen it. `rate` is that of all
    /// among which nature chooses.
    fn strike(&self, state: &mut State, rate: f64, useful: usize, dice: &mut Dice) -> f64 {
        let causes = &self.player.model.causes;
        let hits = |cause: &usize| causes[*cause].shards & !state.lost != 0;
        let chosen = if dice.share() < 0.5 {
            let nth = dice.below(useful);
            (0..causes.len()).filter(hits).nth(nth)
        } else {
            let mut left = dice.share() * rate;
            let last = (0..causes.len()).rev().find(hits);
            (0..causes.len())
                .filter(hits)
                .find(|&cause| {
                    left -= causes[cause].rate;
                    left <= 0.0
                })
                .or(last)
        };
        let Some(chosen) = chosen else { return 0.0 };
        let share = causes[chosen].rate / rate;
        let ratio = share / (0.5 / useful as f64 + 0.5 * share);
        self.player.strike(state, chosen, dice);
        ratio
    }
}
