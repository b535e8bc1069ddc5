//! A node's clocks: one that it counts by and one that it shows, each a straight line over true time until something happens
//! to it. Which way time really passes is known to the world alone.

use crate::setup::EPOCH;
use protocol::time::{Mono, Now, Period, Wall};

/// The clocks of one node.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// True time at which the line below begins.
    since: Mono,
    /// What was counted until then since the machine was booted.
    counted: u64,
    /// What was shown then.
    shown: u64,
    ppm: i32,
}

impl Clock {
    pub(crate) fn new(ppm: i32, offset_ms: i64) -> Self {
        let shown = EPOCH.0.saturating_add_signed(offset_ms);
        Self { since: Mono(0), counted: 0, shown, ppm: ppm.clamp(-500_000, 500_000) }
    }

    fn passed(&self, now: Mono) -> u64 {
        let true_time = now.0.saturating_sub(self.since.0);
        // Numbers of 64 bits are divided much faster than longer ones, and do for nearly six hundred years.
        let drift = match i64::try_from(true_time)
            .ok()
            .and_then(|time| time.checked_mul(self.ppm.into()))
        {
            _ if self.ppm == 0 => 0,
            Some(product) => product / 1_000_000,
            None => (i128::from(true_time) * i128::from(self.ppm) / 1_000_000) as i64,
        };
        true_time.saturating_add_signed(drift)
    }

    /// What the node is told the time is.
    pub(crate) fn read(&self, now: Mono) -> Now {
        let passed = self.passed(now);
        Now { mono: Mono(self.counted + passed), wall: Wall(self.shown + passed) }
    }

    /// True time at which the node counts so far.
    pub(crate) fn when(&self, counted: Mono) -> Mono {
        let wanted = counted.0.saturating_sub(self.counted);
        if wanted > u64::MAX / 4 {
            return Mono(u64::MAX);
        }
        let rate = 1_000_000_u64.saturating_add_signed(self.ppm.into());
        let true_time = if let Some(product) = wanted.checked_mul(1_000_000) {
            product.div_ceil(rate)
        } else {
            let true_time = (u128::from(wanted) * 1_000_000).div_ceil(rate.into());
            u64::try_from(true_time).unwrap_or(u64::MAX)
        };
        // Rounding may leave the node a moment short of it.
        let at = self.since.after(Period(true_time));
        if self.read(at).mono < counted { at.after(Period(1)) } else { at }
    }

    fn turn(&mut self, now: Mono) {
        let passed = self.passed(now);
        (self.since, self.counted, self.shown) = (now, self.counted + passed, self.shown + passed);
    }

    pub(crate) fn jump(&mut self, now: Mono, by_ms: i64) {
        self.turn(now);
        self.shown = self.shown.saturating_add_signed(by_ms);
    }

    pub(crate) fn drift(&mut self, now: Mono, ppm: i32) {
        self.turn(now);
        self.ppm = ppm.clamp(-500_000, 500_000);
    }

    /// The machine was booted: it counts from zero.
    pub(crate) fn boot(&mut self, now: Mono) {
        self.turn(now);
        self.counted = 0;
    }

    pub(crate) fn ppm(&self) -> i32 {
        self.ppm
    }

    /// How far what is shown is from the truth.
    pub(crate) fn error(&self, now: Mono) -> Period {
        Period(self.read(now).wall.0.abs_diff(EPOCH.after(Period(now.0)).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_drifts_jumps_and_is_booted() {
        let mut clock = Clock::new(100_000, 0);
        let now = clock.read(Mono(1000));
        assert_eq!((now.mono, now.wall), (Mono(1100), EPOCH.after(Period(1100))));
        for counted in [0, 1, 7, 1099, 1100, 123_457] {
            let at = clock.when(Mono(counted));
            assert!(clock.read(at).mono.0 >= counted);
            assert!(at.0 == 0 || clock.read(Mono(at.0 - 1)).mono.0 <= counted);
        }
        clock.jump(Mono(1000), -5000);
        clock.drift(Mono(1000), 0);
        assert_eq!(clock.read(Mono(1001)).mono, Mono(1101));
        assert_eq!(clock.error(Mono(1001)), Period(4900));
        clock.boot(Mono(2000));
        assert_eq!(clock.read(Mono(2003)).mono, Mono(3));
        assert_eq!(clock.error(Mono(2003)), Period(4900));
    }
}
