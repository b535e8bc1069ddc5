//! Parts of a study: what a file of runs says of the study that it belongs to, and how parts are put together. Nothing in a part is
//! believed that does not follow from that.

use super::Row;
use serde::{Deserialize, Serialize};

/// Runs of a study, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The scenario.
    pub scenario: String,
    /// The hash of its text: only parts of one text go together.
    pub text: String,
    /// The names of the arrangements, in the order in which they are run.
    pub arrangements: Vec<String>,
    /// First and last seed.
    pub seeds: (u64, u64),
    /// Which part of how many, from 1.
    pub shard: (usize, usize),
    /// How many runs the whole study has.
    pub total: usize,
    /// Those that are here, by index.
    pub rows: Vec<Row>,
}

/// Parts that do not go together, by the names of their files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// Nothing to merge.
    #[error("no parts given")]
    Nothing,
    /// Parts of different studies.
    #[error("{part} is of another study than {first}: its {what} {theirs}, there {ours}")]
    Other {
        /// The part.
        part: String,
        /// The one that it was compared with.
        first: String,
        /// In what they differ.
        what: &'static str,
        /// What the part has.
        theirs: String,
        /// What the other one has.
        ours: String,
    },
    /// A part is there twice.
    #[error("{part} and {other} are the same part, {} of {}", .shard.0, .shard.1)]
    Twice {
        /// One file,
        part: String,
        /// and the other.
        other: String,
        /// Which part of how many.
        shard: (usize, usize),
    },
    /// What a part says of itself cannot be, or it has not the runs that it should have.
    #[error("{part} is damaged: {what}")]
    Damaged {
        /// The part.
        part: String,
        /// What is wrong with it.
        what: String,
    },
    /// Parts were left out.
    #[error("of {parts} parts these are missing: {missing}")]
    Missing {
        /// How many there should be.
        parts: usize,
        /// Which are not there, at most ten of them.
        missing: String,
    },
}

impl Runs {
    /// Whether it has the runs that its part of its study has, and no others.
    fn check(&self) -> Result<(), String> {
        let ((first, last), (part, parts)) = (self.seeds, self.shard);
        let seeds = last.checked_sub(first).and_then(|seeds| usize::try_from(seeds).ok());
        let total = seeds
            .and_then(|seeds| seeds.checked_add(1))
            .and_then(|seeds| seeds.checked_mul(self.arrangements.len()));
        if total != Some(self.total) || self.total == 0 || !(1..=parts).contains(&part) {
            return Err("it does not say which part of which study it is".into());
        }
        let mut meant = (part - 1..self.total).step_by(parts);
        for row in &self.rows {
            let at = meant.next().filter(|at| *at == row.index);
            let Some(at) = at else {
                return Err(format!("run {} is not where it should be", row.index));
            };
            let seed = first + (at / self.arrangements.len()) as u64;
            let arrangement = &self.arrangements[at % self.arrangements.len()];
            let is_meant = (row.seed, &row.arrangement) == (seed, arrangement)
                && row.scenario == self.scenario;
            if !is_meant {
                return Err(format!("run {at} is of another seed, arrangement or scenario"));
            }
        }
        match meant.next() {
            Some(at) => Err(format!("run {at} is missing")),
            None => Ok(()),
        }
    }

    /// In what it is of another study, and what it and the other one have.
    fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let text = |runs: &Self| runs.text.chars().take(12).collect::<String>();
        let forms = |runs: &Self| {
            [
                ("scenario", format!("is {}", runs.scenario)),
                ("scenario's text", format!("has the hash {}", text(runs))),
                ("seeds", format!("are {}..{}", runs.seeds.0, runs.seeds.1)),
                ("arrangements", format!("are {}", runs.arrangements.join(", "))),
                ("number of parts", format!("is {}", runs.shard.1)),
            ]
        };
        let mut both = forms(self).into_iter().zip(forms(other));
        let ((what, own), (_, other)) = both.find(|((_, own), (_, other))| own != other)?;
        Some((what, own, other))
    }
}

/// Puts the parts of a study together, each with the name that errors call it.
///
/// # Errors
/// [`MergeError`] when they are not all of the parts of one study.
pub fn merge(parts: Vec<(String, Runs)>) -> Result<Runs, MergeError> {
    let Some((first, _)) = parts.first() else { return Err(MergeError::Nothing) };
    let first = first.clone();
    for (part, runs) in &parts {
        let damaged = |what| MergeError::Damaged { part: part.clone(), what };
        runs.check().map_err(damaged)?;
        if let Some((what, theirs, ours)) = runs.difference(&parts[0].1) {
            let (part, first) = (part.clone(), first.clone());
            return Err(MergeError::Other { part, first, what, theirs, ours });
        }
    }
    let mut parts = parts;
    parts.sort_by_key(|(_, runs)| runs.shard);
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].1.shard == pair[1].1.shard) {
        let [part, other] = [0, 1].map(|i: usize| pair[i].0.clone());
        return Err(MergeError::Twice { part, other, shard: pair[0].1.shard });
    }
    let count = parts[0].1.shard.1;
    if parts.len() < count {
        let is_there = |part: &usize| parts.iter().any(|(_, runs)| runs.shard.0 == *part);
        let mut missing: Vec<String> = (1..=count)
            .filter(|part| !is_there(part))
            .take(10)
            .map(|part| part.to_string())
            .collect();
        let more = count - parts.len() - missing.len();
        if more > 0 {
            missing.push(format!("and {more} more"));
        }
        return Err(MergeError::Missing { parts: count, missing: missing.join(", ") });
    }
    let mut parts = parts.into_iter().map(|(_, runs)| runs);
    let mut all = parts.next().ok_or(MergeError::Nothing)?;
    for part in parts {
        all.rows.extend(part.rows);
    }
    all.rows.sort_by_key(|row| row.index);
    all.shard = (1, 1);
    Ok(all)
}
