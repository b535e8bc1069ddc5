//! Importance sampling for losses far in the tail, where every failure comes from a Poisson process and repairs have
//! any law.
//!
//! A *cycle* begins when a cause strikes a stripe that is whole, and ends when it is whole again or lost. A stripe has no
//! cycles after its loss, so that the probability of loss is the expected sum, over the cycles that begin in a mission, of
//! whether they end in a loss before the mission does.
//! A mission is played as it comes (with its first strike forced to happen), one of its cycles is picked
//! evenly, and played again with failures made frequent; its weight is the number of cycles times the likelihood ratio. (The
//! split of undisturbed missions from biased cycles is that of Nicola, Shahabuddin, Heidelberger and Glynn, 1993; failure
//! biasing with bounded relative error is Shahabuddin's, 1994.)
//!
//! In a biased cycle memoryless repairs are not drawn before they happen, and times of other repairs are known. Whether a failure is
//! next is decided before when; its odds are raised as far as they are on the way to a loss in a chain of the same rates. Which
//! cause it is, is drawn half by rate and half by the square of how many whole shards it hits. A cycle whose weight has become too
//! small to count is given up by Russian roulette, at a floor taken from earlier batches, so that long walks with no weight cost
//! nothing. Outages come by nature, and failures among them from a process beside nature's.

use super::dice::Dice;
use super::estimate::{Effort, Estimate, Method, spread};
use super::stripe::{Cause, Harm, Model, Player, Running, State, Stop};

/// Cycles of one batch.
const BATCH: u64 = 500;
/// Batches between two looks at the interval.
const ROUND: u64 = 8;
/// Most probability given to a failure before a repair, where spans are as long as on average: what is left covers ways to the
/// loss that a count of shards does not show.
const FORCED_MAX: f64 = 0.9;
/// How fast failures are beside repairs where outages are played too: h/(r + t) times a year, t after the last change, r the mean
/// time to the next repair and of an outage. It falls slowly: no time is left out, and weights grow as a power of a cycle's length only.
const HASTE: f64 = 1.5;
/// How often one cycle is played again where a mission is long for its outages.
const REPLAYS: u32 = 8;
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
    /// Plays the causes that lose shards.
    losses: Player<'a>,
    /// Plays the others.
    outages: Player<'a>,
    /// Mean time of a repair.
    repair: f64,
    /// Mean time of the outages that last longest: so long a repair may wait for one.
    outage: f64,
    /// For every number of lost shards, by how much the odds of a failure before a repair are raised.
    tilt: Vec<f64>,
}

pub(super) fn loss(model: &Model, years: f64, effort: &Effort) -> Estimate {
    let biased = Biased::new(model);
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
        floor = FLOOR * mean / (biased.losses.rate * years);
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

impl<'a> Biased<'a> {
    fn new(model: &'a Model) -> Self {
        let is_loss = |cause: &Cause| cause.harm.is_loss();
        let losses = Player::of(model, is_loss);
        let repairs = model.causes.iter().filter_map(|cause| match &cause.harm {
            Harm::Lost { repair, .. } => Some(repair.mean()),
            Harm::Dark { .. } => None,
        });
        let (sum, count) = repairs.fold((0.0, 0), |(sum, count), mean| (sum + mean, count + 1));
        let repair = (sum / f64::from(count.max(1))).max(1e-9);
        Self {
            tilt: tilts(model, losses.rate, repair),
            repair,
            outage: model.causes.iter().fold(0.0, |longest, cause| match &cause.harm {
                Harm::Dark { lasts } if cause.rate > 0.0 => lasts.mean().max(longest),
                _ => longest,
            }),
            player: Player::new(model),
            outages: Player::of(model, |cause| !is_loss(cause)),
            losses,
        }
    }

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
        let rate = self.losses.rate;
        if rate <= 0.0 || years <= 0.0 {
            // Counts as work: a model in which nothing happens ends too.
            return (0.0, 1_000);
        }
        let player = &self.player;
        let most = player.model.spare() + 1;
        let any = -(-rate * years).exp_m1();
        let mut state = player.start(dice);
        let first = dice.exponential_below(rate, years);
        self.outages.play(&mut state, dice, first, most, false);
        let mut cause = self.losses.pick(dice);
        let (mut cycles, mut picked) = (0u64, state.clone());
        loop {
            // A cycle begins now: each of them ends up picked with the same probability.
            cycles += 1;
            if cycles > 1 && dice.share() * cycles as f64 <= 1.0 {
                picked = state.clone();
            }
            player.strike(&mut state, cause, dice);
            match player.play(&mut state, dice, years, most, true) {
                Stop::Struck(by) => cause = by,
                Stop::Time | Stop::Lost => break,
            }
        }
        let replays = if self.outages.rate > 0.0 { REPLAYS } else { 1 };
        let (mut weight, mut events) = (0.0, state.seen.events + 1);
        for _ in 0..replays {
            let (one, of_one) = self.cycle(picked.clone(), years, floor, dice);
            weight += one / f64::from(replays);
            events += of_one;
        }
        (any * cycles as f64 * weight, events)
    }

    /// A biased cycle that is about to begin: the likelihood ratio if it ends in a loss in time, else zero.
    fn cycle(&self, mut state: State, years: f64, floor: f64, dice: &mut Dice) -> (f64, u64) {
        let player = &self.player;
        let most = player.model.spare() + 1;
        let mut events = 0;
        let mut useful = Useful::default();
        useful.find(player.model, &state);
        // Nature chooses among all causes, useful or not.
        useful.rate = self.losses.rate;
        let mut weight = self.strike(&mut state, &useful, dice);
        // When the number of lost shards changed last.
        let mut from = state.time;
        loop {
            events += 1;
            let lost = state.lost.count_ones();
            if lost >= most {
                return (weight, events);
            }
            if lost == 0 {
                return (0.0, events);
            }
            // Russian roulette: what would hardly count is mostly given up, and the rest counts as much more.
            if weight < floor {
                if dice.share() * floor > weight {
                    return (0.0, events);
                }
                weight = floor;
            }
            useful.find(player.model, &state);
            let running = player.running(&state);
            let known = running.known.0.min(state.light).min(years) - state.time;
            let spell = Spell {
                lost,
                since: state.time - from,
                failures: useful.rate,
                others: running.rate + self.outages.rate,
                known,
            };
            let (next, after, ratio) = if self.outages.rate > 0.0 {
                self.next_among_outages(&spell, dice)
            } else {
                self.next(&spell, dice)
            };
            weight *= ratio;
            state.time += after;
            let before = state.lost;
            match next {
                Next::Failure => weight *= self.strike(&mut state, &useful, dice),
                Next::Other => self.other(&mut state, running, dice),
                Next::Known if state.light <= running.known.0.min(years) => {
                    state.time = state.light;
                    player.relight(&mut state);
                }
                Next::Known if running.known.0 < years => {
                    state.time = running.known.0;
                    player.repaired(&mut state, running.known.1, dice);
                }
                Next::Known => return (0.0, events),
            }
            if state.lost != before {
                from = state.time;
            }
        }
    }

    /// What is next, after how long, and the likelihood ratio: whether it is a failure is decided first.
    fn next(&self, spell: &Spell, dice: &mut Dice) -> (Next, f64, f64) {
        let rate = spell.failures + spell.others;
        // Something happens before what is known to, and it is a failure.
        let any = -(-rate * spell.known).exp_m1();
        let natural = if any > 0.0 { spell.failures / rate * any } else { 0.0 };
        let forced = if spell.lost == 1 && natural > 0.0 {
            // A repair would end the cycle.
            1.0
        } else {
            let raised = self.tilt[spell.lost as usize] * natural;
            raised / (raised + 1.0 - natural)
        };
        if dice.share() < forced {
            let after = dice.exponential_below(rate, spell.known);
            return (Next::Failure, after, natural / forced);
        }
        let ratio = (1.0 - natural) / (1.0 - forced);
        if dice.share() * (1.0 - natural) < any - natural {
            (Next::Other, dice.exponential_below(rate, spell.known), ratio)
        } else {
            (Next::Known, spell.known, ratio)
        }
    }

    /// The same where outages begin and end between failures, so that there are many steps from one to the next: failures come
    /// from a process beside nature's, whose rate falls with the time since the last change.
    fn next_among_outages(&self, spell: &Spell, dice: &mut Dice) -> (Next, f64, f64) {
        let busy = self.player.model.repairers.busy(spell.lost as usize) as f64;
        let since = self.repair / busy + self.outage + spell.since;
        let after = |rate: f64, dice: &mut Dice| {
            if rate > 0.0 { dice.exponential() / rate } else { f64::INFINITY }
        };
        let beside = since * (dice.share().powf(-1.0 / HASTE) - 1.0);
        let failure = after(spell.failures, dice).min(beside);
        let other = after(spell.others, dice);
        let first = failure.min(other).min(spell.known);
        // Of there being no failure of the process beside.
        let ratio = (1.0 + first / since).powf(HASTE);
        if first >= spell.known {
            (Next::Known, spell.known, ratio)
        } else if other < failure {
            (Next::Other, other, ratio)
        } else {
            let beside = HASTE / (since + first);
            (Next::Failure, first, ratio * spell.failures / (spell.failures + beside))
        }
    }

    /// Something memoryless happens that is no failure: a repair is done, or an outage begins.
    fn other(&self, state: &mut State, running: Running, dice: &mut Dice) {
        let mut left = dice.share() * (running.rate + self.outages.rate) - self.outages.rate;
        if left < 0.0 || running.memoryless == 0 {
            let cause = self.outages.pick(dice);
            return self.player.strike(state, cause, dice);
        }
        let mut shards = running.memoryless;
        loop {
            let shard = shards.trailing_zeros() as usize;
            shards &= shards - 1;
            left -= self.player.memoryless_rate(state, shard);
            if left <= 0.0 || shards == 0 {
                return self.player.repaired(state, shard, dice);
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

/// By how much the odds of a failure are raised: so much that failures come as often as on the way to a loss. With q the natural
/// probability that a failure comes before a repair, and r the quotient of the probabilities of loss with one shard lost less and
/// with so many, these are 1 − (1 − q)·r, exactly so where each shard fails alone and all is memoryless.
fn tilts(model: &Model, rate: f64, mean: f64) -> Vec<f64> {
    let mut before = 0.0;
    let tilt = |lost: usize| {
        if lost == 0 {
            return 1.0;
        }
        let failures = rate * (model.n - lost) as f64 / model.n as f64;
        let odds = failures * mean / model.repairers.busy(lost) as f64;
        let natural = odds / (1.0 + odds);
        let wanted = 1.0 - (1.0 - natural) * before;
        before = natural / wanted;
        let forced = wanted.min(FORCED_MAX);
        if odds > 0.0 { (forced / (1.0 - forced) / odds).max(1.0) } else { 1.0 }
    };
    (0..=model.n - model.k).map(tilt).collect()
}

/// A time in which nothing changes.
struct Spell {
    /// Shards lost.
    lost: u32,
    /// How long their number has been so, before.
    since: f64,
    /// Rate of failures that count.
    failures: f64,
    /// Rate of memoryless repairs and of outages.
    others: f64,
    /// How long until something whose time is known.
    known: f64,
}

/// What ends it.
enum Next {
    Failure,
    Other,
    Known,
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
            if hits > 0 && cause.rate > 0.0 && cause.harm.is_loss() {
                let harm = f64::from(hits * hits);
                self.causes.push((index, cause.rate, harm));
                self.rate += cause.rate;
                self.harm += harm;
            }
        }
    }
}
