//! When a holder asks others about the stripes that it holds a shard of: each once in a period, at a time that the stripe's name says, so
//! that all who are to ask about it do so at about the same time and nothing is asked in bursts.
//!
//! The wall clock says how far a round is. Where it is off nothing worse happens than that this one node asks at another time: a clock
//! that jumps ahead causes one round at most, at the highest rate, and one that is set back asks nobody twice.

use crate::id::StripeId;
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};

/// In so long every shard that others hold of what is held here is asked about once, unless a node is set to another span.
pub const AUDIT_PERIOD: Period = Period::days(7);
/// How often the same question is put.
pub const TRIES: u32 = 3;
/// So many connections in a row to one holder may end under a question: networks do that. After that each counts as an answer that did not
/// come, or who does not want to answer would only have to hang up.
pub const CUTS_MAX: u32 = 6;
/// How long an answer may take: sixteen shards are read from a busy disk.
pub const ANSWER_MAX: Period = Period::seconds(60);
/// Most bytes of shards that are asked about in a second, over any while: their holders read all of them.
pub const AUDIT_RATE_MAX: u64 = 16 << 20;

/// A point in the rounds of asking.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Point {
    /// Which round.
    pub round: u64,
    /// How much of it is over, in parts of 2^64.
    pub position: u64,
}

impl Point {
    /// The one at which rounds of this length are at a time.
    #[must_use]
    pub fn at(now: Wall, period: Period) -> Self {
        let (now, period) = (u128::from(now.0), u128::from(period.0.max(1)));
        let position = ((now % period) << 64) / period;
        // A remainder is less than what it was divided by.
        Self { round: (now / period) as u64, position: position as u64 }
    }

    fn round_before(self) -> Self {
        Self { round: self.round.saturating_sub(1), position: self.position }
    }
}

/// Where in a round a stripe comes.
#[must_use]
pub fn position(stripe: StripeId) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| stripe.0[i]))
}

/// A part of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which round.
    pub round: u64,
    /// From this position on,
    pub from: u64,
    /// and before this one; `None`: to the end.
    pub until: Option<u64>,
}

impl Span {
    /// Whether a position lies before its end.
    #[must_use]
    pub fn is_before_end(&self, position: u64) -> bool {
        self.until.is_none_or(|until| position < until)
    }
}

/// How far a node is with asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Everything before this was asked about.
    done: Point,
    /// Whether the round that is on was gone through from its beginning.
    is_whole: bool,
    /// When the last round ended that was gone through from its beginning.
    finished: Option<Wall>,
}

impl Sweep {
    /// One that begins now.
    #[must_use]
    pub fn new(now: Wall, period: Period) -> Self {
        Self { done: Point::at(now, period), is_whole: false, finished: None }
    }

    /// When the last whole round ended.
    #[must_use]
    pub fn finished(&self) -> Option<Wall> {
        self.finished
    }

    /// What is due now, if anything: of one round at a time, and nothing of what is more than a period ago.
    pub fn due(&mut self, now: Wall, period: Period) -> Option<Span> {
        let due = Point::at(now, period);
        if self.done > due {
            self.done = due;
            self.is_whole = false;
        } else if self.done < due.round_before() {
            self.done = due.round_before();
            self.is_whole = false;
        }
        let until = (self.done.round == due.round).then_some(due.position);
        let span = Span { round: self.done.round, from: self.done.position, until };
        (until != Some(span.from)).then_some(span)
    }

    /// What is due was asked about, as far as this position; `None`: to the end of the round.
    pub fn advance(&mut self, until: Option<u64>, now: Wall) {
        if let Some(position) = until {
            self.done.position = self.done.position.max(position);
            return;
        }
        self.done = Point { round: self.done.round.saturating_add(1), position: 0 };
        if std::mem::replace(&mut self.is_whole, true) {
            self.finished = Some(now);
        }
    }
}

/// How long to wait after so many bytes of shards were asked about.
#[must_use]
pub fn pause(bytes: u64) -> Period {
    Period(bytes.saturating_mul(1000).div_ceil(AUDIT_RATE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIOD: Period = Period::days(7);
    const HOUR: u64 = 3_600_000;
    const NOW: Wall = Wall(1_800_000_000_000);

    /// Everything that is due now is asked about: which positions of which rounds.
    fn go_on(sweep: &mut Sweep, now: Wall) -> Vec<Span> {
        let mut spans = Vec::new();
        while let Some(span) = sweep.due(now, PERIOD) {
            spans.push(span);
            sweep.advance(span.until, now);
        }
        spans
    }

    fn covers(span: &Span, position: u64) -> bool {
        span.from <= position && span.is_before_end(position)
    }

    #[test]
    fn a_round_ends_when_its_period_does_and_is_whole_when_it_was_gone_through() {
        let begin = Wall(NOW.0 - NOW.0 % PERIOD.0 + HOUR);
        let mut sweep = Sweep::new(begin, PERIOD);
        assert_eq!(go_on(&mut sweep, begin), []);
        let end = begin.after(PERIOD);
        assert_eq!(go_on(&mut sweep, end).len(), 2);
        assert_eq!(sweep.finished(), None, "it began in the middle");
        let end = end.after(PERIOD);
        let _ = go_on(&mut sweep, end);
        assert_eq!(sweep.finished(), Some(end));
    }

    #[test]
    fn a_clock_that_jumps_causes_a_round_at_most() {
        let mut sweep = Sweep::new(NOW, PERIOD);
        let ahead = NOW.after(Period::days(1000));
        let spans = go_on(&mut sweep, ahead);
        let asked = spans.iter().filter(|span| covers(span, 77 << 57)).count();
        assert_eq!((spans.len(), asked), (2, 1), "{spans:?}");
        assert_eq!(go_on(&mut sweep, NOW), [], "nobody is asked twice");
        let spans = go_on(&mut sweep, NOW.after(Period(HOUR)));
        assert_eq!(spans.len(), 1, "it goes on from where the clock says");
    }

    proptest! {
        #[test]
        fn every_stripe_is_asked_about_once_in_a_period_whatever_restarts(
            // How long it ran until it stored how far it was, and until it stopped without storing.
            runs in prop::collection::vec((1u64..40 * HOUR, 0u64..20 * HOUR, 0u64..30 * HOUR), 1..30),
            positions in prop::collection::vec(any::<u64>(), 1..20),
        ) {
            let mut stored = Sweep::new(NOW, PERIOD);
            let mut now = NOW;
            let mut asked: Vec<(Wall, Span)> = Vec::new();
            for (until_stored, until_stopped, away) in runs {
                let mut sweep = stored;
                for (wait, stores) in [(0, true), (until_stored, true), (until_stopped, false)] {
                    now = now.after(Period(wait));
                    asked.extend(go_on(&mut sweep, now).into_iter().map(|span| (now, span)));
                    if stores {
                        stored = sweep;
                    }
                }
                now = now.after(Period(away));
            }
            let mut sweep = stored;
            asked.extend(go_on(&mut sweep, now).into_iter().map(|span| (now, span)));
            for position in positions {
                // From any moment on it takes no longer than a period, and for as long as it does not run.
                let longest = PERIOD.0 + 90 * HOUR;
                let times: Vec<u64> = asked
                    .iter()
                    .filter(|(_, span)| covers(span, position))
                    .map(|(when, _)| when.0)
                    .collect();
                let ends = std::iter::once(NOW.0).chain(times).chain([now.0]).collect::<Vec<_>>();
                prop_assert!(ends.windows(2).all(|pair| pair[1] - pair[0] <= longest));
            }
        }

        #[test]
        fn a_stripe_comes_when_its_name_says(stripe: [u8; 32], minutes in 1u64..100_000) {
            let stripe = StripeId(stripe);
            let mut sweep = Sweep::new(NOW, PERIOD);
            let now = NOW.after(Period(minutes * 60_000));
            let times = go_on(&mut sweep, now)
                .into_iter()
                .filter(|span| covers(span, position(stripe)));
            for span in times {
                let point = Point { round: span.round, position: position(stripe) };
                prop_assert!(point < Point::at(now, PERIOD));
                prop_assert!(point >= Point::at(NOW, PERIOD) || minutes * 60_000 > PERIOD.0);
            }
        }

        #[test]
        fn no_more_is_asked_than_the_rate_allows(bytes in prop::collection::vec(0u64..1 << 30, 1..50)) {
            let waited: u64 = bytes.iter().map(|bytes| pause(*bytes).0).sum();
            let all: u64 = bytes.iter().sum();
            prop_assert!(waited >= all / AUDIT_RATE_MAX * 1000);
            prop_assert!(waited <= all.div_ceil(AUDIT_RATE_MAX) * 1000 + bytes.len() as u64);
        }
    }
}
