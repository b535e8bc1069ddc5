//! Missions as they come, counted: the probability of loss where it is frequent, and what is never rare (time out of
//! reach, time short of shards, rebuilds).

use super::estimate::{Effort, Estimate, Method, spread};
use super::stripe::{Mission, Model, Player};
use std::collections::BTreeMap;

/// Missions of one batch.
const BATCH: u64 = 2_000;
/// Batches between two looks at the interval.
const ROUND: u64 = 4;
/// Parts of a batch in which the time below a policy is looked at.
const LOOKS: u64 = 4;
/// Losses in a first look from which counting is enough.
const FREQUENT: u64 = 20;
/// Width of a 95 % interval in standard deviations, one side.
const Z: f64 = 1.959_964;

/// Sums over missions. Sums of two runs add up to those of one: runs on several machines are merged so.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Missions.
    pub missions: u64,
    /// Missions with a loss.
    pub losses: u64,
    /// Sum of the times of losses.
    pub lost_at: f64,
    /// Sum of years out of reach.
    pub unavailable: f64,
    /// Sum of years short of shards.
    pub short: f64,
    /// Shards rebuilt.
    pub rebuilt: u64,
    /// Failures and repairs played.
    pub events: u64,
}

impl Tally {
    /// Adds another run's sums.
    pub fn merge(&mut self, other: &Self) {
        self.missions += other.missions;
        self.losses += other.losses;
        self.lost_at += other.lost_at;
        self.unavailable += other.unavailable;
        self.short += other.short;
        self.rebuilt += other.rebuilt;
        self.events += other.events;
    }

    fn count(&mut self, mission: &Mission) {
        self.missions += 1;
        if let Some(at) = mission.lost_at {
            self.losses += 1;
            self.lost_at += at;
        }
        self.unavailable += mission.unavailable;
        self.short += mission.short;
        self.rebuilt += mission.rebuilt;
        self.events += mission.events;
    }

    /// The 95 % interval of the share of missions with a loss.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        wilson(self.losses, self.missions)
    }
}

/// Wilson's 95 % interval of a share of which `hits` in `tries` were seen.
#[must_use]
pub fn wilson(hits: u64, tries: u64) -> (f64, f64) {
    let n = tries as f64;
    let p = hits as f64 / n;
    let z2 = Z * Z;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let low = if hits == 0 { 0.0 } else { (middle - half).max(0.0) };
    (low, (middle + half).min(1.0))
}

/// Plays the batches of this range.
#[must_use]
pub fn missions(
    model: &Model,
    years: f64,
    effort: &Effort,
    batches: std::ops::Range<u64>,
) -> Tally {
    let player = Player::new(model);
    let tallies = spread(effort.seed, effort.jobs, batches, |_, dice| {
        let mut tally = Tally::default();
        for _ in 0..BATCH {
            tally.count(&player.mission(years, dice));
        }
        tally
    });
    tallies.iter().fold(Tally::default(), |mut sum, tally| {
        sum.merge(tally);
        sum
    })
}

/// Share of the time, up to a loss, in which what is lost breaks something: a policy, for example.
#[must_use]
pub fn time_broken(
    model: &Model,
    years: f64,
    effort: &Effort,
    breaks: &(dyn Fn(u64) -> bool + Sync),
) -> f64 {
    let player = Player::new(model);
    let sums = spread(effort.seed, effort.jobs, 0..LOOKS, |_, dice| {
        let mut spans = BTreeMap::new();
        for _ in 0..BATCH / LOOKS {
            player.spans(years, dice, &mut spans);
        }
        spans.iter().filter(|(lost, _)| breaks(**lost)).map(|(_, span)| span).sum::<f64>()
    });
    // A sum of nothing is minus zero.
    (sums.iter().sum::<f64>() + 0.0) / (BATCH / LOOKS * LOOKS) as f64 / years
}

/// Whether a first look sees enough losses for counting.
pub(super) fn is_frequent(model: &Model, years: f64, effort: &Effort) -> bool {
    missions(model, years, effort, 0..2).losses >= FREQUENT
}

pub(super) fn loss(model: &Model, years: f64, effort: &Effort) -> Estimate {
    let mut sum = Tally::default();
    let mut batch = 0;
    loop {
        sum.merge(&missions(model, years, effort, batch..batch + ROUND));
        batch += ROUND;
        let (low, high) = sum.interval();
        let p = sum.losses as f64 / sum.missions as f64;
        let is_narrow = sum.losses >= FREQUENT && (high - low) / 2.0 <= effort.relative_error * p;
        if is_narrow || sum.events >= effort.events_max {
            let mut doubts = Vec::new();
            if sum.losses < FREQUENT {
                doubts.push(format!(
                    "{} losses in {} missions: too few to count, take a method for rare events",
                    sum.losses, sum.missions
                ));
            }
            return Estimate {
                method: Method::Plain,
                loss: p,
                low,
                high,
                samples: sum.missions,
                effective: sum.losses as f64,
                events: sum.events,
                doubts,
            };
        }
        // A model in which nothing ever happens plays no events.
        sum.events += ROUND * BATCH;
    }
}
