//! What may be spent of something that grows with time: how a holder bounds what a stolen key can fill in a day.
//!
//! A token bucket on monotonic time, in whole numbers: over any span no more is spent than the burst and the rate times the
//! span. It is not stored, and full after a restart, which nobody causes over the network.

use crate::size::Size;
use crate::time::{Mono, Period};

const DAY: u128 = Period::days(1).0 as u128;

/// How fast a budget grows, and how much it holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes a day.
    pub per_day: u64,
    /// Bytes at once, after a long rest.
    pub burst: u64,
}

/// There is not so much left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} are left of what may come in a day, {} needed", Size(*left), Size(*asked))]
pub struct Exhausted {
    /// Bytes left now.
    pub left: u64,
    /// Bytes asked for.
    pub asked: u64,
}

/// What is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    rate: Rate,
    /// In bytes times the milliseconds of a day, so that nothing is lost in rounding.
    credit: u128,
    at: Mono,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub fn full(rate: Rate, now: Mono) -> Self {
        Self { rate, credit: u128::from(rate.burst) * DAY, at: now }
    }

    /// Spends so many bytes, all of them or none.
    pub fn spend(&mut self, bytes: u64, now: Mono) -> Result<(), Exhausted> {
        let passed = now.0.saturating_sub(self.at.0);
        self.at = self.at.max(now);
        let earned = u128::from(passed) * u128::from(self.rate.per_day);
        self.credit = (self.credit + earned).min(u128::from(self.rate.burst) * DAY);
        let left = u64::try_from(self.credit / DAY).unwrap_or(u64::MAX);
        let needed = u128::from(bytes) * DAY;
        self.credit = self.credit.checked_sub(needed).ok_or(Exhausted { left, asked: bytes })?;
        Ok(())
    }
}

/// How fast bytes may flow: each lot goes once those before it have had their time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    per_second: u64,
    burst: u64,
    /// In bytes times the milliseconds of a second; below nothing when lots wait.
    credit: i128,
    at: Mono,
}

impl Pace {
    /// After a rest: so many bytes go at once.
    #[must_use]
    pub fn full(per_second: u64, burst: u64, now: Mono) -> Self {
        let per_second = per_second.max(1);
        Self { per_second, burst, credit: i128::from(burst) * 1000, at: now }
    }

    /// Lets so many bytes go, and says after how long.
    ///
    /// # Errors
    /// That time, when it is longer than `most`: nothing is let go.
    pub fn take(&mut self, bytes: u64, now: Mono, most: Period) -> Result<Period, Period> {
        let passed = now.0.saturating_sub(self.at.0);
        self.at = self.at.max(now);
        let earned = i128::from(passed) * i128::from(self.per_second);
        let credit = (self.credit + earned).min(i128::from(self.burst) * 1000);
        self.credit = credit;
        // What lots before it still wait for; it may itself be longer than the burst.
        let debt = u128::try_from(-credit).unwrap_or(0);
        let wait = debt.div_ceil(u128::from(self.per_second));
        let wait = Period(u64::try_from(wait).unwrap_or(u64::MAX));
        if wait > most {
            return Err(wait);
        }
        self.credit = credit - i128::from(bytes) * 1000;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_grows_back_to_the_burst_and_no_further() {
        let rate = Rate { per_day: 86_400, burst: 100 };
        let mut budget = Budget::full(rate, Mono(5));
        assert_eq!(budget.spend(101, Mono(5)), Err(Exhausted { left: 100, asked: 101 }));
        assert_eq!(budget.spend(100, Mono(5)), Ok(()));
        assert_eq!(budget.spend(1, Mono(1004)), Err(Exhausted { left: 0, asked: 1 }));
        assert_eq!(budget.spend(1, Mono(1005)), Ok(()));
        // A clock that goes back gives nothing.
        assert!(budget.spend(1, Mono(0)).is_err());
        assert!(budget.spend(1, Mono(1005)).is_err());
        assert_eq!(budget.spend(100, Mono(10_000_000)), Ok(()));
    }

    #[test]
    fn lots_follow_each_other_at_the_pace() {
        let most = Period(3000);
        let mut pace = Pace::full(100, 50, Mono(0));
        assert_eq!(pace.take(150, Mono(0), most), Ok(Period(0)));
        assert_eq!(pace.take(100, Mono(0), most), Ok(Period(1000)));
        assert_eq!(pace.take(200, Mono(500), most), Ok(Period(1500)));
        assert_eq!(pace.take(1, Mono(500), most), Err(Period(3500)));
        assert_eq!(pace.take(1, Mono(1000), most), Ok(Period(3000)));
        assert_eq!(pace.take(1, Mono(0), most), Err(Period(3010)), "no clock goes back");
        assert_eq!(pace.take(1, Mono(1 << 40), most), Ok(Period(0)));
    }

    proptest! {
        #[test]
        fn no_more_begins_than_the_pace_allows(
            per_second in 1u64..1 << 30,
            burst in 0u64..1 << 30,
            lots in prop::collection::vec((0u64..1 << 24, 0u64..5000), 1..40),
        ) {
            let mut pace = Pace::full(per_second, burst, Mono(0));
            let (mut now, mut before) = (0u64, 0u128);
            for (bytes, pause) in lots {
                now += pause;
                if let Ok(wait) = pace.take(bytes, Mono(now), Period(5000)) {
                    // All that began earlier has had its time when this one begins.
                    let until = u128::from(now + wait.0);
                    let allowed = u128::from(burst) * 1000 + until * u128::from(per_second);
                    prop_assert!(before * 1000 <= allowed);
                    before += u128::from(bytes);
                }
            }
        }

        #[test]
        fn no_more_is_spent_than_burst_and_rate_allow(
            per_day in 0u64..1 << 50,
            burst in 0u64..1 << 50,
            steps in prop::collection::vec((0u64..1 << 40, 0u64..1 << 34), 1..40),
        ) {
            let mut budget = Budget::full(Rate { per_day, burst }, Mono(0));
            let (mut now, mut spent) = (0u64, 0u128);
            for (bytes, wait) in steps {
                now += wait;
                if budget.spend(bytes, Mono(now)).is_ok() {
                    spent += u128::from(bytes);
                }
                let earned = u128::from(now) * u128::from(per_day) / DAY;
                prop_assert!(spent <= u128::from(burst) + earned);
            }
        }
    }
}
