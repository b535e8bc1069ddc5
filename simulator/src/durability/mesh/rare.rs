//! How probable it is that any stripe of a mesh, a share of them, or all are lost, where that is too rare to be counted: which method
//! is taken, and what it gives. `biasing` and `splitting` are the methods, `sums` what their samples add up to.

mod biasing;
mod splitting;
mod sums;

use super::super::estimate::{Effort, Method};
use super::super::input::InputError;
use super::super::plain::wilson;
use super::{MeshTally, Played};

pub use sums::Share;

/// Losses from which counting is enough.
const FREQUENT: u64 = 20;
const Z: f64 = 1.959_964;
/// Most shards of a mesh that is split: so many states of it are held at once.
const SPLIT_SHARDS_MAX: usize = 200_000;

/// What is lost of a whole mesh in a mission.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshEstimate {
    /// The method.
    pub method: Method,
    /// Probability that any stripe is lost.
    pub any: Share,
    /// Probability that the input's `fraction` of them is.
    pub much: Share,
    /// Probability that all are.
    pub all: Share,
    /// Stripes expected to be lost.
    pub stripes: Share,
    /// Independent samples: missions or whole splittings.
    pub samples: u64,
    /// The number of equally weighed losses that tell as much.
    pub effective: f64,
    /// Failures and repairs played.
    pub events: u64,
    /// Reasons not to trust it; none is good.
    pub doubts: Vec<String>,
}

impl Played<'_> {
    /// How probable losses are, by the method named or the one that suits: from the missions that were counted where enough of
    /// them had a loss, else biasing where every loss comes from a Poisson process, else splitting.
    ///
    /// # Errors
    /// [`InputError`] when the mesh is too large to be split.
    pub fn estimate(
        &self,
        counted: &MeshTally,
        method: Option<Method>,
        effort: &Effort,
    ) -> Result<MeshEstimate, InputError> {
        let method = method.unwrap_or({
            if counted.any >= FREQUENT {
                Method::Plain
            } else if self.input.wear.is_none() {
                Method::Biasing
            } else {
                Method::Splitting
            }
        });
        let effort = Effort { seed: effort.seed ^ self.input.seed, ..*effort };
        let mut found = match method {
            Method::Plain => counted_estimate(counted),
            Method::Biasing => self.biased(&effort),
            Method::Splitting if self.holders.len() > SPLIT_SHARDS_MAX => {
                let most = SPLIT_SHARDS_MAX / self.input.n;
                return Err(InputError::Text(format!(
                    "{} stripes are too many for splitting: at most {most}, or --method biasing",
                    self.stripes
                )));
            }
            Method::Splitting => self.splittings(&effort),
        };
        if method == Method::Biasing && self.input.wear.is_some() {
            found.doubts.push("wear is not biased: splitting suits this model".into());
        }
        if found.any.value > 0.0 && found.any.relative_error() > 1.5 * effort.relative_error {
            found.doubts.push(format!(
                "the interval is ±{:.0} % wide: more events, or more missions, are needed",
                100.0 * found.any.relative_error()
            ));
        }
        Ok(found)
    }
}

fn counted_estimate(tally: &MeshTally) -> MeshEstimate {
    let n = tally.missions.max(1) as f64;
    let share = |count: u64| {
        let (low, high) = wilson(count, tally.missions.max(1));
        Share { value: count as f64 / n, low, high }
    };
    let mean = tally.lost as f64 / n;
    let half = Z * ((tally.lost_squared / n - mean * mean).max(0.0) / n).sqrt();
    let mut doubts = Vec::new();
    if tally.any < FREQUENT {
        doubts.push(format!(
            "{} of {} missions had a loss: too few to count, leave --method out",
            tally.any, tally.missions
        ));
    }
    MeshEstimate {
        method: Method::Plain,
        any: share(tally.any),
        much: share(tally.much),
        all: share(tally.all),
        stripes: Share { value: mean, low: (mean - half).max(0.0), high: mean + half },
        samples: tally.missions,
        effective: tally.any as f64,
        events: tally.events,
        doubts,
    }
}
