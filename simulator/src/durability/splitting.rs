//! Multilevel splitting: losses of any law, wear and outages included.
//!
//! The way to the loss is cut where one more shard is lost for the first time. Missions are continued from the states
//! in which earlier ones reached a level, until so many have reached the next one; the probability of a loss is the product of
//! the levels' shares. Each level runs until a fixed number has made it, so that rare steps get the work they
//! need; with H of N that made it, (H-1)/(N-1) is the unbiased share (Amrein and Künsch, 2011). Whole splittings are
//! repeated, and the interval comes from how much they differ, with no assumption about one of them.

use super::dice::Dice;
use super::estimate::{Effort, Estimate, Method, spread};
use super::number::student_95;
use super::stripe::{Model, Player, State, Stop};

/// How many must make it to a level, in one splitting.
const HITS: usize = 200;
/// Splittings at least, and between two looks at the interval.
const ROUND: u64 = 8;
/// Tries of one level after which a splitting is given up.
const TRIES_MAX: u64 = 20_000_000;

struct Run {
    loss: f64,
    events: u64,
    given_up: bool,
}

pub(super) fn loss(model: &Model, years: f64, effort: &Effort) -> Estimate {
    let player = Player::new(model);
    let mut runs: Vec<Run> = Vec::new();
    let mut batch = 0;
    let events_each = effort.events_max / ROUND;
    loop {
        let batches = batch..batch + ROUND;
        runs.extend(spread(effort.seed, effort.jobs, batches, |_, dice| {
            split(&player, years, events_each, dice)
        }));
        batch += ROUND;
        let n = runs.len() as f64;
        let mean = runs.iter().map(|run| run.loss).sum::<f64>() / n;
        let square = runs.iter().map(|run| (run.loss - mean).powi(2)).sum::<f64>();
        let half = student_95(runs.len() - 1) * (square / (n - 1.0) / n).sqrt();
        let events: u64 = runs.iter().map(|run| run.events).sum();
        if (mean > 0.0 && half <= effort.relative_error * mean) || events >= effort.events_max {
            let mut doubts = Vec::new();
            let given_up = runs.iter().filter(|run| run.given_up).count();
            if given_up > 0 {
                doubts.push(format!(
                    "{given_up} of {} splittings were given up before a loss",
                    runs.len()
                ));
            }
            let squares: f64 = runs.iter().map(|run| run.loss * run.loss).sum();
            return Estimate {
                method: Method::Splitting,
                loss: mean,
                low: (mean - half).max(0.0),
                high: (mean + half).min(1.0),
                samples: runs.len() as u64,
                effective: if squares > 0.0 { mean * mean * n * n / squares } else { 0.0 },
                events,
                doubts,
            };
        }
    }
}

/// One splitting.
fn split(player: &Player<'_>, years: f64, events_max: u64, dice: &mut Dice) -> Run {
    let last = player.model.spare() + 1;
    let mut from: Vec<State> = Vec::new();
    let mut loss = 1.0;
    let mut events = 0u64;
    for level in 1..=last {
        let mut made: Vec<State> = Vec::with_capacity(HITS);
        let mut tries = 0u64;
        while made.len() < HITS {
            let mut state = if level == 1 {
                player.start(dice)
            } else {
                let mut state = from[dice.below(from.len())].clone();
                player.forget_future(&mut state, dice);
                state
            };
            let before = state.seen.events;
            tries += 1;
            if player.play(&mut state, dice, years, level, false) == Stop::Lost {
                made.push(state.clone());
            }
            events += state.seen.events - before + 1;
            if tries >= TRIES_MAX || events >= events_max {
                return Run { loss: 0.0, events, given_up: true };
            }
        }
        loss *= (HITS - 1) as f64 / (tries - 1).max(1) as f64;
        from = made;
    }
    Run { loss, events, given_up: false }
}
