//! Points and spans of time as arguments: this crate has no clock.

use crate::retention::calendar::civil;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// What a wall clock claims: milliseconds since 1970-01-01 UTC. Never trusted to expire anything.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Wall(pub u64);

/// Monotonic time: milliseconds since a start that the driver chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

/// The time of an input to [`crate::Peer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic time: what waits and time-outs are counted in.
    pub mono: Mono,
    /// The wall clock's claim: what certificates are compared with and what is shown.
    pub wall: Wall,
}

/// A span of time in milliseconds. In text `90d`, `12h`, `15m`, `30s`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(pub u64);

impl Period {
    /// `n` days.
    #[must_use]
    pub const fn days(n: u64) -> Self {
        Self(n * 86_400_000)
    }

    /// `n` seconds.
    #[must_use]
    pub const fn seconds(n: u64) -> Self {
        Self(n * 1_000)
    }
}

impl Wall {
    /// This point plus a span; saturates.
    #[must_use]
    pub const fn after(self, period: Period) -> Self {
        Self(self.0.saturating_add(period.0))
    }
}

impl fmt::Display for Wall {
    /// UTC: `2026-11-25 23:30:00 UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute) = (seconds / 3_600 % 24, seconds / 60 % 60);
        write!(
            f,
            "{year:04}-{:02}-{:02} {hour:02}:{minute:02}:{:02} UTC",
            month + 1,
            day + 1,
            seconds % 60
        )
    }
}

impl Mono {
    /// This point plus a span; saturates.
    #[must_use]
    pub const fn after(self, period: Period) -> Self {
        Self(self.0.saturating_add(period.0))
    }
}

/// Text that is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a span of time: write 90d, 12h, 15m, 30s or 250ms")]
pub struct ParsePeriodError(pub String);

const UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl FromStr for Period {
    type Err = ParsePeriodError;
    fn from_str(text: &str) -> Result<Self, ParsePeriodError> {
        let error = || ParsePeriodError(text.chars().take(40).collect());
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let number: u64 = text[..digits].parse().map_err(|_| error())?;
        let unit = UNITS.iter().find(|(name, _)| *name == &text[digits..]).ok_or_else(error)?;
        number.checked_mul(unit.1).map(Period).ok_or_else(error)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        // Weeks are understood but not printed: "90d" reads better than "12w6d".
        let (name, unit) = UNITS[1..]
            .iter()
            .find(|(_, unit)| self.0.is_multiple_of(*unit))
            .expect("one millisecond divides everything");
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn points_in_time_are_shown_as_people_read_them() {
        assert_eq!(Wall(0).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!(Wall(1_795_783_725_018).to_string(), "2026-11-27 12:48:45 UTC");
        assert!(Wall(u64::MAX).to_string().ends_with("UTC"));
    }

    #[test]
    fn periods_read_as_people_write_them() {
        assert_eq!("90d".parse(), Ok(Period::days(90)));
        assert_eq!("2w".parse(), Ok(Period::days(14)));
        assert_eq!("250ms".parse(), Ok(Period(250)));
        for wrong in ["", "d", "90", "-1d", "1y", "99999999999999999999d", "9999999999999999w"] {
            assert!(wrong.parse::<Period>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn periods_print_what_they_parse(ms: u64) {
            let period = Period(ms);
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
    }
}
