//! Scrubbing: a node reads all that it holds, one shard after the other, so that what its disk lost or altered is found out before
//! somebody needs it. Here is how fast; [`crate::peer`] decides which shard is next.

use crate::time::Period;

/// In so long everything is read once, unless a node is set to another span.
pub const SCRUB_PERIOD: Period = Period::days(30);
/// Most bytes read in a second, over any while: a slow disk of today gives five times as much.
pub const SCRUB_RATE_MAX: u64 = 32 << 20;
/// Longest pause between two shards.
const PAUSE_MAX: Period = Period::seconds(3600);

/// How long to wait after a shard of `len` bytes, when `held` bytes are to be read within `period`. Where that asks for more than
/// [`SCRUB_RATE_MAX`], it takes longer than `period`.
#[must_use]
pub fn pause(len: u64, held: u64, period: Period) -> Period {
    let least = len.saturating_mul(1000).div_ceil(SCRUB_RATE_MAX);
    let even = u128::from(period.0) * u128::from(len) / u128::from(held.max(1));
    let even = u64::try_from(even).unwrap_or(u64::MAX).min(PAUSE_MAX.0);
    Period(even.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_is_read_within_the_period_or_at_the_highest_rate(
            lens in prop::collection::vec(1u64..16 << 20, 1..200), days in 0u64..60,
        ) {
            let period = Period::days(days);
            let held: u64 = lens.iter().sum();
            let took: u64 = lens.iter().map(|len| pause(*len, held, period).0).sum();
            // Each pause is rounded up to a millisecond.
            let least = held * 1000 / SCRUB_RATE_MAX;
            prop_assert!(took <= period.0.max(least) + lens.len() as u64);
            prop_assert!(took >= least);
        }
    }

    #[test]
    fn few_shards_are_read_once_an_hour_at_least() {
        assert_eq!(pause(1 << 20, 1 << 20, SCRUB_PERIOD), Period::seconds(3600));
        assert_eq!(pause(1 << 20, 0, SCRUB_PERIOD), Period::seconds(3600));
        // 1 TiB in shards of 1 MiB: one in 2.47 seconds.
        assert_eq!(pause(1 << 20, 1 << 40, SCRUB_PERIOD), Period(2471));
    }
}
