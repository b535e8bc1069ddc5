//! The calendar that rules count in: UTC, because a vault's hosts lie in several time zones. Proleptic Gregorian, weeks from
//! Monday on.

use crate::time::Wall;
use std::fmt;
use std::str::FromStr;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A kind of stretch of which the newest snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Every snapshot is a stretch of its own.
    Last,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Unit {
    /// All, from the shortest to the longest.
    pub const ALL: [Self; 6] =
        [Self::Last, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// The number of the stretch in which `time` lies, for the snapshot with this number.
    pub(super) fn stretch(self, time: Wall, number: usize) -> u64 {
        let days = time.0 / DAY;
        match self {
            Self::Last => number as u64,
            Self::Hour => time.0 / HOUR,
            Self::Day => days,
            // 1970-01-01 was a Thursday.
            Self::Week => (days + 3) / 7,
            Self::Month => {
                let (year, month, _) = civil(days);
                year * 12 + month
            }
            Self::Year => civil(days).0,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        })
    }
}

/// Year, month (from 0) and day of the month (from 0) of a day counted since 1970-01-01. (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.)
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5;
    let month = (from_march + 2) % 12;
    (era * 400 + year + u64::from(month < 2), month, day)
}

/// The inverse of [`civil`] for the first of a month, of any year.
pub(crate) fn first_of(year: i64, month: i64) -> i64 {
    let year = year - i64::from(month < 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 10) % 12) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A span in calendar units: `1y5m7d2h`, where `m` is a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl Span {
    /// The time so long before `time`. A day that the month does not have is one of the next month, as in 31 March less a
    /// month. 0 where there is no such time.
    pub(super) fn before(self, time: Wall) -> Wall {
        let (year, month, day) = civil(time.0 / DAY);
        let months =
            (year * 12 + month) as i64 - i64::from(self.years) * 12 - i64::from(self.months);
        let days = first_of(months.div_euclid(12), months.rem_euclid(12)) + day as i64
            - i64::from(self.days);
        let hours = i128::from(days) * 24 - i128::from(self.hours);
        let ms = hours * i128::from(HOUR) + i128::from(time.0 % DAY);
        Wall(u64::try_from(ms.max(0)).unwrap_or(u64::MAX))
    }
}

/// Text that is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a span of time: write 30d, 6m or 1y5m7d2h (years, months, days, hours)")]
pub struct ParseSpanError(pub String);

impl FromStr for Span {
    type Err = ParseSpanError;
    fn from_str(text: &str) -> Result<Self, ParseSpanError> {
        let error = || ParseSpanError(text.chars().take(40).collect());
        let mut span = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let number: u32 = rest[..digits].parse().map_err(|_| error())?;
            let part = match rest.as_bytes()[digits] {
                b'y' => &mut span.years,
                b'm' => &mut span.months,
                b'd' => &mut span.days,
                b'h' => &mut span.hours,
                _ => return Err(error()),
            };
            // Twice the same unit, or none of it, is not what somebody means.
            if *part > 0 || number == 0 {
                return Err(error());
            }
            *part = number;
            rest = &rest[digits + 1..];
        }
        if span == Self::default() { Err(error()) } else { Ok(span) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { years, months, days, hours } = *self;
        for (number, unit) in [(years, 'y'), (months, 'm'), (days, 'd'), (hours, 'h')] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every day of eight hundred years, counted one by one.
    #[test]
    fn days_are_counted_as_the_calendar_does() {
        let (mut year, mut month, mut day) = (1970, 0, 0);
        for days in 0..292_194 {
            assert_eq!(civil(days), (year, month, day));
            assert_eq!(first_of(year as i64, month as i64) + day as i64, days as i64);
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let len = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            day += 1;
            if day == len[month as usize] {
                (month, day) = (month + 1, 0);
            }
            if month == 12 {
                (year, month) = (year + 1, 0);
            }
        }
    }

    fn day(days: u64) -> Wall {
        Wall(days * DAY + 11 * HOUR)
    }

    #[test]
    fn weeks_begin_on_monday() {
        // 2019-11-17 was a Sunday.
        let sunday = 18_217;
        assert_eq!(civil(sunday), (2019, 10, 16));
        let week = |days| Unit::Week.stretch(day(days), 0);
        assert_eq!(week(sunday), week(sunday - 6));
        assert_eq!(week(sunday) + 1, week(sunday + 1));
        assert_eq!(week(sunday) - 1, week(sunday - 7));
    }

    #[test]
    fn spans_go_back_by_the_calendar() {
        let span = |text: &str| text.parse::<Span>().unwrap();
        let from = |text: &str, (y, m, d): (i64, i64, i64)| {
            let days = first_of(y, m - 1) + d - 1;
            span(text).before(day(days.cast_unsigned())).0 / HOUR
        };
        let at = |(y, m, d): (i64, i64, i64), hour: u64| {
            (first_of(y, m - 1) + d - 1).cast_unsigned() * 24 + hour
        };
        assert_eq!(from("1y", (2024, 2, 29)), at((2023, 3, 1), 11));
        assert_eq!(from("1m", (2023, 3, 31)), at((2023, 3, 3), 11));
        assert_eq!(from("14m", (2023, 1, 5)), at((2021, 11, 5), 11));
        assert_eq!(from("2y5m7d3h", (2019, 11, 17)), at((2017, 6, 10), 8));
        assert_eq!(span("9000y").before(day(100)), Wall(0));
        for wrong in ["", "1", "d", "1w", "1d2", "1d1d", "0d", "-1d", "99999999999d", "1dä"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn spans_print_what_they_parse(years: u32, months: u32, days: u32, hours: u32, time: u64) {
            let span = Span { years, months, days, hours };
            prop_assume!(span != Span::default());
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
            prop_assert!(span.before(Wall(time)).0 <= time);
            for unit in Unit::ALL {
                let _ = unit.stretch(Wall(time), 0);
            }
        }
    }
}
