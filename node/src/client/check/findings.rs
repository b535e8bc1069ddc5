//! What a check found to be wrong: counted by kind, the first of each kind in words.

use serde::Serialize;
use std::collections::BTreeMap;

/// Of each kind so many are kept in words; all are counted.
const SAMPLES: usize = 100;

/// Kinds of what can be wrong, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A snapshot that cannot be restored whole.
    SnapshotBroken,
    /// A stripe of which fewer shards than needed are left.
    StripeUnreadable,
    /// An index pack that cannot be read or says what cannot be.
    IndexUnreadable,
    /// A stripe that a kept snapshot needs, or that is of the index, and that the vault gave up: its locks run out.
    GivenUp,
    /// A log whose entries do not form one chain, or miss some.
    LogBroken,
    /// A statement that its signature does not cover, or that nobody may make.
    Forged,
    /// A stripe that is named and of which nobody has the record.
    RecordMissing,
    /// A pack whose content is not what was written.
    PackDamaged,
    /// A shard whose bytes are not those that its name says.
    ShardDamaged,
    /// A shard that its holder does not have.
    ShardMissing,
    /// A shard whose holder does not answer.
    HolderSilent,
    /// A stripe that can be read and breaks a clause of the policy.
    StripeBelowPolicy,
    /// A log entry that is not held as widely as the policy asks.
    EntryBelowPolicy,
}

impl Kind {
    /// So many of the kind, in words.
    #[must_use]
    pub fn counted(self, count: u64) -> String {
        let (one, many) = match self {
            Self::SnapshotBroken => ("snapshot that cannot be", "snapshots that cannot be"),
            Self::StripeUnreadable => ("stripe that cannot be read", "stripes that cannot be read"),
            Self::IndexUnreadable => ("unusable index pack", "unusable index packs"),
            Self::GivenUp => ("need of what was given up", "needs of what was given up"),
            Self::LogBroken => ("break in a log", "breaks in logs"),
            Self::Forged => ("statement that does not count", "statements that do not count"),
            Self::RecordMissing => ("stripe without a record", "stripes without a record"),
            Self::PackDamaged => ("fault in what packs hold", "faults in what packs hold"),
            Self::ShardDamaged => ("damaged shard", "damaged shards"),
            Self::ShardMissing => ("missing shard", "missing shards"),
            Self::HolderSilent => ("shard with a silent node", "shards with silent nodes"),
            Self::StripeBelowPolicy => ("stripe below the policy", "stripes below the policy"),
            Self::EntryBelowPolicy => {
                ("log entry below the policy", "log entries below the policy")
            }
        };
        let rest = if self == Self::SnapshotBroken { " restored whole" } else { "" };
        format!("{count} {}{rest}", if count == 1 { one } else { many })
    }

    /// What to do about it.
    #[must_use]
    pub fn next_step(self) -> &'static str {
        match self {
            Self::SnapshotBroken | Self::StripeUnreadable | Self::RecordMissing => {
                "start the nodes that are silent and check again; `strewn restore` brings back whatever can be read"
            }
            Self::IndexUnreadable => "start the nodes that are silent and check again",
            Self::GivenUp => {
                "say `strewn prune --apply` where the vault was made: it takes back what snapshots need; if nobody here gave it up, somebody else has the vault's key"
            }
            Self::LogBroken | Self::Forged => {
                "find out what happened to the nodes named: what they show is not what they once countersigned"
            }
            Self::PackDamaged => {
                "back up again with --force from a host whose memory and disk are sound, and keep what is there"
            }
            Self::ShardDamaged | Self::ShardMissing => {
                "look at the disks of the holders named; the stripes can be read without these shards"
            }
            Self::HolderSilent => "start the nodes named; what they have is not lost by that",
            Self::StripeBelowPolicy | Self::EntryBelowPolicy => {
                "start the nodes that are silent, or nodes where the policy lacks them, and back up again"
            }
        }
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Findings {
    counts: BTreeMap<Kind, u64>,
    samples: BTreeMap<Kind, Vec<String>>,
}

impl Findings {
    /// Something is wrong.
    pub(super) fn add(&mut self, kind: Kind, what: impl Into<String>) {
        self.add_many(kind, 1, what);
    }

    /// So many of one kind, that are told of together.
    pub(super) fn add_many(&mut self, kind: Kind, count: u64, what: impl Into<String>) {
        *self.counts.entry(kind).or_default() += count;
        let samples = self.samples.entry(kind).or_default();
        if samples.len() < SAMPLES {
            samples.push(what.into());
        }
    }

    /// How many of each kind there are, the worst kind first.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// The first of each kind in words, the worst kind first.
    pub fn samples(&self) -> impl Iterator<Item = (Kind, &[String])> {
        self.samples.iter().map(|(kind, samples)| (*kind, samples.as_slice()))
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The worst kind found.
    #[must_use]
    pub fn worst(&self) -> Option<Kind> {
        self.counts.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_memory_is_bounded() {
        let mut findings = Findings::default();
        assert!(findings.is_empty() && findings.worst().is_none());
        for i in 0..1000 {
            findings.add(Kind::ShardMissing, format!("{i}"));
        }
        findings.add(Kind::SnapshotBroken, "one");
        assert_eq!(findings.worst(), Some(Kind::SnapshotBroken));
        assert_eq!(findings.counts()[&Kind::ShardMissing], 1000);
        let kinds: Vec<(Kind, usize)> = findings.samples().map(|(k, s)| (k, s.len())).collect();
        assert_eq!(kinds, [(Kind::SnapshotBroken, 1), (Kind::ShardMissing, SAMPLES)]);
    }
}
