//! What one holder shows of a device's log, beside the log as all show it and what that holder showed before: who was set
//! back to an older disk does not show any more what it has countersigned.

use super::Head;
use crate::id::EntryId;
use serde::Serialize;

/// How what a holder shows compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Standing {
    /// It ends where the log does.
    Same,
    /// It lacks the last entries; the next backup brings them.
    Behind {
        /// So many.
        by: u64,
    },
    /// It shows another entry than the others.
    Forked,
    /// It showed more, or something else, before: its disk was set back, or it lies.
    SetBack {
        /// The number of the last entry that it showed.
        was: u64,
    },
}

impl Standing {
    /// Of a holder that shows a log to end `now`, and showed it to end at `before`. The log itself ends with number `last` and
    /// has these entries (`entry_at`); `shows` says whether the holder shows an entry.
    #[must_use]
    pub fn of(
        last: u64,
        now: Option<Head>,
        before: Option<Head>,
        entry_at: impl Fn(u64) -> Option<EntryId>,
        shows: impl Fn(EntryId) -> bool,
    ) -> Self {
        if let Some(before) = before.filter(|before| !shows(before.entry)) {
            return Self::SetBack { was: before.seq };
        }
        let Some(now) = now else { return Self::Behind { by: last.saturating_add(1) } };
        match last.checked_sub(now.seq) {
            _ if entry_at(now.seq) != Some(now.entry) => Self::Forked,
            Some(0) | None => Self::Same,
            Some(by) => Self::Behind { by },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The entry of a number, on the side of a fork that is called so.
    fn entry(side: u8, seq: u64) -> EntryId {
        EntryId(*blake3::hash(&[&[side][..], &seq.to_be_bytes()].concat()).as_bytes())
    }

    /// Where so many entries of a side end.
    fn head(side: u8, len: u64) -> Option<Head> {
        let seq = len.checked_sub(1)?;
        Some(Head { seq, entry: entry(side, seq) })
    }

    /// A holder that shows so many entries of a side, and showed others before, of a log of so many.
    fn standing(len: u64, now: (u8, u64), before: (u8, u64)) -> Standing {
        let entry_at = |seq| (seq < len).then(|| entry(0, seq));
        let shows = |id| (0..now.1).any(|seq| entry(now.0, seq) == id);
        Standing::of(len - 1, head(now.0, now.1), head(before.0, before.1), entry_at, shows)
    }

    #[test]
    fn a_holder_that_shows_less_than_before_was_set_back() {
        assert_eq!(standing(5, (0, 5), (0, 5)), Standing::Same);
        assert_eq!(standing(5, (0, 5), (0, 0)), Standing::Same);
        assert_eq!(standing(5, (0, 3), (0, 2)), Standing::Behind { by: 2 });
        assert_eq!(standing(5, (0, 0), (0, 0)), Standing::Behind { by: 5 });
        assert_eq!(standing(5, (0, 3), (0, 5)), Standing::SetBack { was: 4 });
        assert_eq!(standing(5, (0, 0), (0, 1)), Standing::SetBack { was: 0 });
        assert_eq!(standing(5, (1, 4), (1, 2)), Standing::Forked);
        assert_eq!(standing(5, (1, 4), (0, 4)), Standing::SetBack { was: 3 });
    }

    proptest! {
        #[test]
        fn whoever_still_shows_what_it_showed_was_not_set_back_and_whoever_does_not_was(
            (len, now, before) in (1u64..6, 0u64..6, 0u64..6),
            (side, was_side) in (0u8..2, 0u8..2),
        ) {
            let found = standing(len, (side, now.min(len)), (was_side, before));
            let still = before == 0 || (side == was_side && before <= now.min(len));
            prop_assert_eq!(matches!(found, Standing::SetBack { .. }), !still);
            if still && now > 0 {
                prop_assert_eq!(found == Standing::Forked, side == 1);
            }
        }
    }
}
