//! Retention: which snapshots of one group are kept, and why. The rules are restic's, so that people know them.
//!
//! - Snapshots are looked at from the newest to the oldest. `daily: 7` keeps the newest one of each of the last seven days
//!   that have any; the other units likewise. While such a rule has something left at the end, the oldest snapshot is kept too.
//! - `within` keeps what is newer than a span before the newest snapshot; `tags` keeps what has all the tags of one set.
//!   What any rule keeps is kept. Without a rule everything is.
//!
//! Unlike there, time is what the holders witnessed ([`crate::log`]), in UTC, and what the writing host claims decides nothing.
//! A snapshot whose claim differs by more than [`CLAIM_TOLERANCE`], or whose entry is not held widely, is kept with a
//! mark and takes nobody's place. So no forged time pushes out another snapshot. New snapshots still take the place
//! of older ones: who has a device's key can write many, and the caller groups by device, so that those of others stay.
//!
//! A verdict deletes nothing. What is not kept can be named in a log entry ([`Forget`]), signed by the vault: who has a device's
//! key alone does not even hide a snapshot from a list.

pub(crate) mod calendar;

#[cfg(test)]
mod tests;

pub use calendar::{ParseSpanError, Span, Unit};

use crate::id::{EntryId, PublicKey, VaultId};
use crate::sign::Statement;
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// How far what a host claims may be from what holders witnessed.
pub const CLAIM_TOLERANCE: Period = Period::days(1);
/// As many as there are.
pub const UNLIMITED: u32 = u32::MAX;
/// Most snapshots that one entry names.
pub const FORGET_MAX: usize = 1024;

/// What to keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// How many of each unit, in the order of [`Unit::ALL`].
    pub counts: [u32; 6],
    /// How far back from the newest.
    pub within: Option<Span>,
    /// What has all tags of any of these sets. An empty set means what has no tags.
    pub tags: Vec<BTreeSet<String>>,
}

impl Rules {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0) && self.within.is_none() && self.tags.is_empty()
    }
}

/// A snapshot of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// When it arrived, by its holders.
    pub witnessed: Wall,
    /// When it was written, by its own word.
    pub claimed: Wall,
    /// Whether its entry is held widely.
    pub is_wide: bool,
    /// Its tags.
    pub tags: BTreeSet<String>,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There is no rule.
    NoRule,
    /// It is the newest of its stretch.
    Newest(Unit),
    /// It is the oldest, and the rule is not used up.
    Oldest(Unit),
    /// It is new enough.
    Within(Span),
    /// It has these tags.
    Tags(BTreeSet<String>),
    /// Its claim and its holders differ.
    ClaimDiffers {
        /// What it claims.
        claimed: Wall,
        /// What they witnessed.
        witnessed: Wall,
    },
    /// Too few hold its entry to be believed.
    NotWide,
}

impl Reason {
    /// Whether something about the snapshot is in doubt.
    #[must_use]
    pub fn is_mark(&self) -> bool {
        matches!(self, Self::ClaimDiffers { .. } | Self::NotWide)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule"),
            Self::Newest(unit) => write!(f, "{unit} snapshot"),
            Self::Oldest(unit) => write!(f, "oldest {unit} snapshot"),
            Self::Within(span) => write!(f, "within {span}"),
            Self::Tags(tags) if tags.is_empty() => f.write_str("has no tags"),
            Self::Tags(tags) => {
                let words: Vec<&str> = tags.iter().map(String::as_str).collect();
                write!(f, "has tags {}", words.join(","))
            }
            Self::ClaimDiffers { claimed, witnessed } => {
                let (hours, way) =
                    (claimed.0.abs_diff(witnessed.0) / 3_600_000, claimed > witnessed);
                let way = if way { "later" } else { "earlier" };
                write!(f, "IN DOUBT: claims a time {hours} h {way} than its holders saw it")
            }
            Self::NotWide => f.write_str("IN DOUBT: its entry is not held widely"),
        }
    }
}

fn marks(candidate: &Candidate) -> Vec<Reason> {
    let Candidate { claimed, witnessed, is_wide, .. } = *candidate;
    let mut marks = Vec::new();
    if claimed.0.abs_diff(witnessed.0) > CLAIM_TOLERANCE.0 {
        marks.push(Reason::ClaimDiffers { claimed, witnessed });
    }
    if !is_wide {
        marks.push(Reason::NotWide);
    }
    marks
}

/// Why each of these snapshots is kept, in their order; those without a reason are not. They come in the order in which
/// they arrived: of two witnessed at the same time the later one is newer.
#[must_use]
pub fn judge(candidates: &[Candidate], rules: &Rules) -> Vec<Vec<Reason>> {
    let mut verdicts: Vec<Vec<Reason>> = candidates.iter().map(marks).collect();
    if rules.is_empty() {
        return verdicts.into_iter().map(|marks| [marks, vec![Reason::NoRule]].concat()).collect();
    }
    let mut order: Vec<usize> =
        (0..candidates.len()).filter(|&index| verdicts[index].is_empty()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse((candidates[index].witnessed, index)));
    let (Some(&newest), Some(&oldest)) = (order.first(), order.last()) else { return verdicts };
    let begin = rules.within.map(|span| (span, span.before(candidates[newest].witnessed)));
    let mut left = rules.counts;
    let mut last: [Option<u64>; 6] = [None; 6];
    for (number, &index) in order.iter().enumerate() {
        let Candidate { witnessed, tags, .. } = &candidates[index];
        let reasons = &mut verdicts[index];
        let fits = |set: &&BTreeSet<String>| {
            if set.is_empty() { tags.is_empty() } else { set.is_subset(tags) }
        };
        reasons.extend(rules.tags.iter().filter(fits).cloned().map(Reason::Tags));
        if let Some((span, begin)) = begin
            && *witnessed > begin
        {
            reasons.push(Reason::Within(span));
        }
        for (place, unit) in Unit::ALL.into_iter().enumerate() {
            let stretch = Some(unit.stretch(*witnessed, number));
            if left[place] == 0 {
                continue;
            }
            if stretch != last[place] {
                last[place] = stretch;
                left[place] -= 1;
                reasons.push(Reason::Newest(unit));
            } else if index == oldest {
                reasons.push(Reason::Oldest(unit));
            }
        }
    }
    verdicts
}

/// The vault says that it does not want these snapshots any more. Nothing is deleted by it: lists leave them out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The vault.
    pub vault: VaultId,
    /// When it was said.
    pub issued: Wall,
    /// The snapshots.
    pub snapshots: Vec<EntryId>,
}

impl Statement for Forget {
    const CONTEXT: &'static str = "strewn forget";
    const LEN_MAX: usize = 64 + FORGET_MAX * 32;
    fn signer(&self) -> PublicKey {
        self.vault.key()
    }
}
