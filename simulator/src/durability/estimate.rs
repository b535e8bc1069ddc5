//! An estimated probability with what is needed to judge it, which method is taken when none is named, and how
//! batches of samples are spread over threads so that the result does not depend on their number.

use super::biasing;
use super::dice::Dice;
use super::number::nines;
use super::plain;
use super::splitting;
use super::stripe::{Model, ModelError};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How a probability is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Missions as they come.
    Plain,
    /// Importance sampling: failures are made frequent, and weighed.
    Biasing,
    /// Multilevel splitting: what came nearer to the loss is continued many times.
    Splitting,
}

impl Method {
    /// Its name, as options have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Biasing => "biasing",
            Self::Splitting => "splitting",
        }
    }
}

/// How much work an estimate may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// The seed: the same one gives the same estimate.
    pub seed: u64,
    /// Threads.
    pub jobs: usize,
    /// Half the 95 % interval over the estimate, at which sampling ends.
    pub relative_error: f64,
    /// Failures and repairs that are played at most, about.
    pub events_max: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { seed: 1, jobs: 1, relative_error: 0.1, events_max: 2_000_000_000 }
    }
}

/// An estimated probability of loss within the mission.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The method.
    pub method: Method,
    /// The estimate.
    pub loss: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// Independent samples: missions, cycles or whole splittings.
    pub samples: u64,
    /// The number of equally weighed losses that tell as much: (Σw)²/Σw².
    pub effective: f64,
    /// Failures and repairs played.
    pub events: u64,
    /// Reasons not to trust it; none is good.
    pub doubts: Vec<String>,
}

impl Estimate {
    /// Nines of survival: of the estimate, and of both ends of the interval, the worse first.
    #[must_use]
    pub fn nines(&self) -> (f64, f64, f64) {
        (nines(self.loss), nines(self.high), nines(self.low))
    }

    /// Half the interval over the estimate.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        if self.loss > 0.0 { (self.high - self.low) / 2.0 / self.loss } else { f64::INFINITY }
    }
}

/// Estimates the probability that a stripe is lost within so many years, by the method named or the one that suits: plain
/// sampling where losses are frequent enough to be counted, else biasing where every failure comes from a Poisson
/// process, else splitting.
///
/// # Errors
/// [`ModelError`] when the model cannot be meant.
pub fn estimate(
    model: &Model,
    years: f64,
    method: Option<Method>,
    effort: &Effort,
) -> Result<Estimate, ModelError> {
    model.check()?;
    let method = method.unwrap_or_else(|| {
        if plain::is_frequent(model, years, effort) {
            Method::Plain
        } else if can_bias(model) {
            Method::Biasing
        } else {
            Method::Splitting
        }
    });
    let mut found = match method {
        Method::Plain => plain::loss(model, years, effort),
        Method::Biasing => biasing::loss(model, years, effort),
        Method::Splitting => splitting::loss(model, years, effort),
    };
    if method == Method::Biasing && !can_bias(model) {
        found.doubts.push("wear is not biased: splitting suits this model".into());
    }
    if found.loss > 0.0 && found.relative_error() > 1.5 * effort.relative_error {
        found.doubts.push(format!(
            "the interval is ±{:.0} % wide: more events are needed",
            100.0 * found.relative_error()
        ));
    }
    Ok(found)
}

fn can_bias(model: &Model) -> bool {
    model.wear.is_none()
}

/// Runs batch after batch, each with a stream of dice of its own, on so many threads: results in order.
pub(super) fn spread<T: Send>(
    seed: u64,
    jobs: usize,
    batches: std::ops::Range<u64>,
    run: impl Fn(u64, &mut Dice) -> T + Sync,
) -> Vec<T> {
    let count = usize::try_from(batches.end - batches.start).unwrap_or(0);
    let one = |index: usize| {
        let batch = batches.start + index as u64;
        run(batch, &mut Dice::new(seed, batch))
    };
    if jobs <= 1 || count <= 1 {
        return (0..count).map(one).collect();
    }
    let next = AtomicUsize::new(0);
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(count))
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return mine;
                        }
                        mine.push((index, one(index)));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| match worker.join() {
                Ok(mine) => mine,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
