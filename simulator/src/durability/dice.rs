//! Random numbers for sampling: xoshiro256++ (Blackman and Vigna, 2019), with as many independent streams as
//! there are batches of work, so that results do not depend on how many threads share it. (The world's
//! [`crate::Random`] has one state of 64 bits: enough for one run, too few for billions of draws in parallel.)

use crate::Random;

/// One stream.
#[derive(Debug, Clone)]
pub struct Dice([u64; 4]);

impl Dice {
    /// The stream of this number under this seed.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Random::new(Random::new(seed).number() ^ Random::new(!stream).number());
        Self(std::array::from_fn(|_| mixed.number()))
    }

    fn number(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Between 0 and 1, neither of them.
    pub fn share(&mut self) -> f64 {
        ((self.number() >> 11) as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Exponential with mean one.
    pub fn exponential(&mut self) -> f64 {
        -self.share().ln()
    }

    /// Exponential with this rate, given that it is below `most`.
    pub fn exponential_below(&mut self, rate: f64, most: f64) -> f64 {
        let mass = -(-rate * most).exp_m1();
        (-(-self.share() * mass).ln_1p() / rate).min(most)
    }

    /// Normal with mean zero and variance one (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }

    /// An index below `count`, which is not zero. (Its bias is below 2^-32.)
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.number()) * count as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_reference_implementation() {
        let mut dice = Dice([1, 2, 3, 4]);
        let expected = [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386];
        assert_eq!([(); 4].map(|()| dice.number()), expected);
    }

    #[test]
    fn draws_have_the_moments_of_their_laws() {
        let mut dice = Dice::new(1, 0);
        let n = 200_000;
        let mean =
            |draw: &mut dyn FnMut() -> f64| (0..n).map(|_| draw()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || dice.share()) - 0.5).abs() < 0.005);
        assert!((mean(&mut || dice.exponential()) - 1.0).abs() < 0.02);
        assert!(mean(&mut || dice.normal()).abs() < 0.02);
        assert!((mean(&mut || dice.normal().powi(2)) - 1.0).abs() < 0.03);
        // Far below its mean, a truncated exponential is even.
        assert!((mean(&mut || dice.exponential_below(1e-9, 2.0)) - 1.0).abs() < 0.01);
    }
}
