//! Published figures of durability, recomputed: theirs beside ours, and why they differ where they do.

use super::chain::BirthDeath;
use super::number::{at_least_once, binomial_tail, ln_choose, poisson_head};
use super::stripe::Repairers;

/// One published figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Who published it.
    pub source: &'static str,
    /// Of what, with its inputs.
    pub what: String,
    /// The figure, as published.
    pub theirs: f64,
    /// The figure from our code.
    pub ours: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Digits to which it was published: half a unit of the last is the difference allowed.
    pub digits: u32,
    /// Why the two differ by more than rounding; empty when they do not.
    pub reason: &'static str,
}

impl Figure {
    /// The relative difference.
    #[must_use]
    pub fn difference(&self) -> f64 {
        self.ours / self.theirs - 1.0
    }

    /// Whether ours rounds to theirs.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let unit = 10f64.powi(self.theirs.abs().log10().floor() as i32 + 1 - self.digits as i32);
        (self.ours - self.theirs).abs() <= unit * 0.500_01
    }

    /// Whether it is as it should be: equal, or different for a reason that is stated.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.agrees() == self.reason.is_empty()
    }
}

/// All of them.
#[must_use]
pub fn figures() -> Vec<Figure> {
    let mut all = Vec::new();
    all.extend(backblaze());
    all.extend(storj());
    all.extend(chains());
    all.extend(copysets());
    all
}

/// Backblaze's open calculator (17 + 3 shards): binomial in one replacement period, periods independent over a year.
fn backblaze() -> impl Iterator<Item = Figure> {
    let days = 6.5;
    let p = 0.00405 * days / 365.0;
    let whole = "theirs is that of 56 whole periods a year; ours has 365 / 6.5 = 56.15";
    let cut = "theirs is ours, 7.3549e-12, cut off after four digits and not rounded";
    [(4, 7.354e-12, cut), (3, 2.399e-8, ""), (5, 1.693e-15, whole), (6, 3.052e-19, whole)]
        .into_iter()
        .map(move |(least, theirs, reason)| Figure {
            source: "Backblaze, durability calculator, 17+3",
            what: format!(
                "a year's loss, {least} or more of 20 failing within {days} days at 0.405 % a year"
            ),
            theirs,
            ours: at_least_once(binomial_tail(20, least, p), 365.0 / days),
            unit: "a year",
            digits: 4,
            reason,
        })
}

/// Storj's white paper, version 3: Poisson with λ = p·n.
fn storj() -> impl Iterator<Item = Figure> {
    [
        (2, 4, 99.207_366_813_274_616),
        (4, 8, 99.858_868_985_411_326),
        (16, 32, 99.999_994_620_652_776),
        (20, 40, 99.999_999_807_694_154),
    ]
    .into_iter()
    .map(|(k, n, theirs)| Figure {
        source: "Storj, white paper v3, durability by code",
        what: format!("{k} of {n}, a tenth of the shards lost a month"),
        theirs,
        ours: 100.0 * poisson_head(0.1 * f64::from(n), u64::from((n - k) as u32)),
        unit: "%",
        digits: 14,
        reason: "",
    })
}

/// The textbook's birth and death.
fn chains() -> impl Iterator<Item = Figure> {
    [
        (3, 2, 1e-5, 1.0 / 24.0, Repairers::Unlimited, 6.9528e7, "hours"),
        (6, 4, 0.25, 365.0, Repairers::Unlimited, 1.4289e5, "years"),
        (6, 4, 0.25, 365.0, Repairers::One, 7.1542e4, "years"),
        (14, 10, 0.25, 365.0, Repairers::Unlimited, 1.8363e9, "years"),
        (14, 10, 0.25, 365.0, Repairers::One, 7.6912e7, "years"),
    ]
    .into_iter()
    .map(|(n, k, failure, repair, repairers, theirs, unit)| Figure {
        source: "Birth and death, textbook",
        what: format!(
            "mean time to loss, {k} of {n}, {}",
            if repairers == Repairers::One {
                "one repairer"
            } else {
                "each shard repaired at once"
            }
        ),
        theirs,
        ours: BirthDeath { n, k, failure, repair, repairers }.mean_time_to_loss(),
        unit,
        digits: 5,
        reason: "",
    })
}

/// P(any of so many distinct sets of `r` nodes lies within the `failed` of `nodes`).
#[must_use]
pub fn any_set_lost(nodes: u64, r: u64, failed: u64, sets: f64) -> f64 {
    at_least_once((ln_choose(failed, r) - ln_choose(nodes, r)).exp(), sets)
}

/// Cidon et al., Copysets, USENIX ATC 2013: 5,000 nodes, three copies, one in a hundred fails at once.
fn copysets() -> [Figure; 2] {
    let (nodes, copies, failed) = (5000, 3, 50);
    let source = "Cidon et al., Copysets, ATC 2013";
    // 8,000 replicas a node, each chunk with a set of its own.
    let chunks = 8000.0 * nodes as f64 / copies as f64;
    // A permutation cuts the nodes into N/R sets; scatter width S needs S/(R-1) permutations.
    let sets = 2.0 / (copies - 1) as f64 * (nodes as f64 / copies as f64).floor();
    [
        Figure {
            source,
            what: "any chunk lost, random replication, 8,000 replicas a node".into(),
            theirs: 99.99,
            ours: 100.0 * any_set_lost(nodes, copies, failed, chunks),
            unit: "%",
            digits: 4,
            reason: "99.99 is ours, 99.9996, cut off after four digits and not rounded; if 8,000 counts chunks rather than replicas, ours is 100",
        },
        Figure {
            source,
            what: "any chunk lost, copysets of scatter width 2".into(),
            theirs: 0.15,
            ours: 100.0 * any_set_lost(nodes, copies, failed, sets),
            unit: "%",
            digits: 2,
            reason: "0.15 is ours, 0.157, cut off after two digits and not rounded",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_figure_is_reproduced_or_its_difference_explained() {
        let figures = figures();
        assert!(figures.len() >= 15);
        for figure in &figures {
            assert!(figure.is_explained(), "{figure:?}");
            assert!(figure.difference().abs() < 0.05, "{figure:?}");
        }
        let explained = figures.iter().filter(|figure| !figure.reason.is_empty()).count();
        assert!(explained <= 5, "{explained}");
    }

    #[test]
    fn the_reasons_given_are_the_reasons() {
        let p = 0.00405 * 6.5 / 365.0;
        for (least, theirs) in [(5, 1.693e-15), (6, 3.052e-19)] {
            let whole = at_least_once(binomial_tail(20, least, p), 56.0);
            assert!((whole / theirs - 1.0).abs() < 3e-4, "{whole:e}");
        }
        for (figure, cut) in figures().iter().zip([7.354e-12]) {
            assert!(figure.ours > cut && figure.ours < cut + 1e-15);
        }
    }
}
