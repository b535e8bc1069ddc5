//! The figures of a whole mesh: what `strewn-sim durability --mesh` shows and writes down.

use super::super::estimate::{Effort, Method};
use super::super::input::{Input, InputError};
use super::Played;
use crate::chart::number;
use serde::Serialize;

/// What comes of a whole mesh in a mission. Names begin with `mesh` where those of one stripe stand beside them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeshFigures {
    /// Missions counted.
    pub mesh_missions: u64,
    /// How losses were estimated.
    pub mesh_method: &'static str,
    /// Effective number of missions with a loss.
    pub mesh_effective: f64,
    /// Probability that any stripe is lost.
    pub any: f64,
    /// Lower end of its 95 % interval.
    pub any_low: f64,
    /// Upper end.
    pub any_high: f64,
    /// The share of the stripes that counts as much.
    pub fraction: f64,
    /// Probability that so much is lost.
    pub much: f64,
    /// Lower end.
    pub much_low: f64,
    /// Upper end.
    pub much_high: f64,
    /// Probability that all is lost.
    pub all: f64,
    /// Lower end.
    pub all_low: f64,
    /// Upper end.
    pub all_high: f64,
    /// Stripes expected to be lost.
    pub mesh_stripes_lost: f64,
    /// Bytes of data expected to be lost.
    pub mesh_bytes_lost: f64,
    /// Seconds a year in which a stripe, one as another, cannot be read though it is not lost.
    pub mesh_unavailable_seconds: f64,
    /// Share of the time in which a stripe lacks shards.
    pub mesh_short_share: f64,
    /// Share of the time in which a stripe is not as its policy asks.
    pub mesh_below_share: f64,
    /// Bytes moved by repair a year: k shards are read and one is written.
    pub mesh_repair_bytes: f64,
    /// Of the shards rebuilt, the share that went to another node.
    pub mesh_moved_share: f64,
    /// Hours that a rebuild waits for bandwidth.
    pub mesh_waited_hours: f64,
    /// Reasons for doubt.
    pub mesh_doubts: Vec<String>,
}

impl MeshFigures {
    /// Plays all stripes of the input, so many missions to count what is frequent, and as many more as what is rare needs.
    ///
    /// # Errors
    /// [`InputError`] when they cannot be placed, or are too many.
    pub fn of(
        input: &Input,
        missions: u64,
        method: Option<Method>,
        effort: &Effort,
    ) -> Result<Self, InputError> {
        let stripes = usize::try_from(input.stripes).unwrap_or(usize::MAX);
        let played = Played::new(input, stripes)?;
        let tally = played.missions(effort, 0..missions.max(1));
        let found = played.estimate(&tally, method, effort)?;
        let lived = tally.missions as f64 * input.years;
        let each = lived * input.stripes as f64;
        let moved = input.stripe_bytes as f64 / input.k as f64 * (input.k + 1) as f64;
        let rebuilt = tally.rebuilt.max(1) as f64;
        Ok(Self {
            mesh_missions: tally.missions,
            mesh_method: found.method.name(),
            mesh_effective: found.effective,
            any: found.any.value,
            any_low: found.any.low,
            any_high: found.any.high,
            fraction: input.fraction,
            much: found.much.value,
            much_low: found.much.low,
            much_high: found.much.high,
            all: found.all.value,
            all_low: found.all.low,
            all_high: found.all.high,
            mesh_stripes_lost: found.stripes.value,
            mesh_bytes_lost: found.stripes.value * input.stripe_bytes as f64,
            mesh_unavailable_seconds: tally.unavailable / each * 31_536_000.0,
            mesh_short_share: tally.short / each,
            mesh_below_share: tally.below / (lived * played.watched() as f64),
            mesh_repair_bytes: tally.rebuilt as f64 * moved / lived,
            mesh_moved_share: tally.moved as f64 / rebuilt,
            mesh_waited_hours: tally.waited * 8760.0 / rebuilt,
            mesh_doubts: found.doubts,
        })
    }

    /// As people read them: name and value.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<String>> {
        let f = self;
        let share = |value: f64, low: f64, high: f64| {
            format!("{value:.3e} (95 %: {low:.3e} to {high:.3e})")
        };
        let much = format!("{} % of the stripes lost", number(100.0 * f.fraction));
        let percent = |share: f64| format!("{} % of the time", number(100.0 * share));
        let mut rows: Vec<(&str, String)> = vec![
            ("any stripe lost", share(f.any, f.any_low, f.any_high)),
            (&much, share(f.much, f.much_low, f.much_high)),
            ("all lost", share(f.all, f.all_low, f.all_high)),
            (
                "method",
                format!(
                    "{}, {:.0} effective; {} missions counted",
                    f.mesh_method, f.mesh_effective, f.mesh_missions
                ),
            ),
            ("stripes expected to be lost", number(f.mesh_stripes_lost)),
            ("bytes expected to be lost", number(f.mesh_bytes_lost)),
            (
                "a stripe out of reach",
                format!("{} seconds a year", number(f.mesh_unavailable_seconds)),
            ),
            ("a stripe short of shards", percent(f.mesh_short_share)),
            ("a stripe below its policy", percent(f.mesh_below_share)),
            ("repair traffic", format!("{} bytes a year", number(f.mesh_repair_bytes))),
            ("rebuilt elsewhere", format!("{} % of shards", number(100.0 * f.mesh_moved_share))),
            ("wait for bandwidth", format!("{} hours a shard", number(f.mesh_waited_hours))),
        ];
        rows.extend(f.mesh_doubts.iter().map(|doubt| ("doubt", doubt.clone())));
        rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
    }
}
