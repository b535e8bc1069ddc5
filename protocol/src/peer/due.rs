//! When something is to be done that does not matter to the moment: from some time on, whenever something else wakes the node, and by some time at the
//! latest. So a node that has little to do wakes for all of it together, as with the slack of timers.

use crate::time::{Mono, Period};

/// Nothing is put off for longer.
const SLACK_MAX: Period = Period::seconds(1800);

/// A span in which something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    from: Mono,
    by: Mono,
}

impl Due {
    /// Then, and no later.
    pub(super) fn at(at: Mono) -> Self {
        Self { from: at, by: at }
    }

    /// After a while, or up to a part of it later.
    pub(super) fn after(now: Mono, wait: Period, part: u64) -> Self {
        let from = now.after(wait);
        Self { from, by: from.after(Period(wait.0 / part).min(SLACK_MAX)) }
    }

    /// No later than at this time.
    pub(super) fn hurry(&mut self, at: Mono) {
        *self = Self { from: self.from.min(at), by: self.by.min(at) };
    }

    /// Whether it may be done now.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.from <= now
    }

    /// How long it could have been done.
    pub(super) fn since(&self, now: Mono) -> Period {
        Period(now.0.saturating_sub(self.from.0))
    }

    /// When to wake for it.
    pub(super) fn by(&self) -> Mono {
        self.by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_wait_is_done_on_the_way_or_at_the_end_of_its_time() {
        let hour = Period::seconds(3600);
        let mut due = Due::after(Mono(0), hour, 4);
        let (from, by) = (Mono(hour.0), Mono(hour.0 / 4 * 5));
        assert!(!due.is_due(Mono(from.0 - 1)) && due.is_due(from) && due.is_due(by));
        assert_eq!((due.by(), due.since(by)), (by, Period(hour.0 / 4)));
        due.hurry(Mono(5000));
        assert_eq!(due, Due::at(Mono(5000)));
        assert_eq!(
            Due::after(Mono(0), Period::days(1), 2).by(),
            Mono(Period::days(1).0 + SLACK_MAX.0)
        );
    }
}
