//! The world's dice: `SplitMix64` (Steele, Lea and Flood, 2014). Not for secrets; the same seed gives
//! the same numbers on every machine and in every version.

use protocol::time::Period;

/// A generator of numbers that depend on its seed alone.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A span between two, both included. (The bias of the remainder is far below what is simulated.)
    pub fn between(&mut self, least: Period, most: Period) -> Period {
        let width = most.0.saturating_sub(least.0).saturating_add(1);
        Period(least.0.saturating_add(self.number() % width))
    }

    /// Whether something happens that happens so many times in a thousand.
    pub fn happens(&mut self, per_mille: u32) -> bool {
        self.number() % 1000 < u64::from(per_mille)
    }

    /// A span drawn from the exponential distribution with this mean: how long until something happens that happens at any time
    /// with the same chance. With the four operations only, which give the same everywhere.
    pub fn exponential(&mut self, mean: Period) -> Period {
        // In (0, 1], as m · 2^-e with m in [1, 2).
        let drawn = (self.number() >> 11) + 1;
        let shift = drawn.ilog2();
        let m = drawn as f64 / (1u64 << shift) as f64;
        let z = (m - 1.0) / (m + 1.0);
        let (mut ln, mut power, mut odd) = (0.0, z, 1.0);
        while odd < 40.0 {
            ln += 2.0 * power / odd;
            power *= z * z;
            odd += 2.0;
        }
        let minus_ln = f64::from(53 - shift) * std::f64::consts::LN_2 - ln;
        #[allow(clippy::cast_sign_loss, reason = "no draw is above 1, so no logarithm is")]
        Period((mean.0 as f64 * minus_ln) as u64)
    }

    /// So many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
        while bytes.len() < len {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_reference_implementation() {
        let mut random = Random::new(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
        ];
        assert_eq!([(); 4].map(|()| random.number()), expected);
    }

    #[test]
    fn waits_have_the_mean_and_the_spread_of_their_distribution() {
        let mut random = Random::new(2);
        let mean = Period(1_000_000);
        let drawn: Vec<f64> = (0..20_000).map(|_| random.exponential(mean).0 as f64).collect();
        let average = drawn.iter().sum::<f64>() / 20_000.0;
        assert!((average / 1e6 - 1.0).abs() < 0.03, "{average}");
        // e⁻¹ of them last longer than the mean, e⁻³ longer than three times that.
        let beyond = |x: f64| drawn.iter().filter(|&&wait| wait > x).count() as f64 / 20_000.0;
        assert!((beyond(1e6) - 0.3679).abs() < 0.015 && (beyond(3e6) - 0.0498).abs() < 0.008);
    }

    #[test]
    fn spans_keep_their_bounds_and_reach_them() {
        let mut random = Random::new(1);
        let drawn: std::collections::BTreeSet<u64> =
            (0..200).map(|_| random.between(Period(3), Period(6)).0).collect();
        assert_eq!(drawn, (3..=6).collect());
        assert!((0..1000).all(|_| random.happens(1000) && !random.happens(0)));
    }
}
