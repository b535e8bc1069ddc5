//! Probabilities far below what a difference from one can hold: every sum here is of positive terms, in
//! logarithms where a term could vanish. Binomial and Poisson tails, and the nines that people count.

/// ln n!
#[must_use]
pub fn ln_factorial(n: u64) -> f64 {
    libm::lgamma(n as f64 + 1.0)
}

/// ln of the binomial coefficient; minus infinity where there is none.
#[must_use]
pub fn ln_choose(n: u64, k: u64) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    // Products of small numbers are exact where the gamma function is not quite.
    let k = k.min(n - k);
    if k <= 64 {
        return (1..=k).map(|i| ((n - k + i) as f64 / i as f64).ln()).sum();
    }
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// P(exactly `k` of `n`), each with probability `p`.
#[must_use]
pub fn binomial(n: u64, k: u64, p: f64) -> f64 {
    if k > n {
        return 0.0;
    }
    if p <= 0.0 || p >= 1.0 {
        return f64::from(u8::from(k == if p <= 0.0 { 0 } else { n }));
    }
    (ln_choose(n, k) + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
}

/// P(at least `least` of `n`), each with probability `p`: the sum of the tail itself.
#[must_use]
pub fn binomial_tail(n: u64, least: u64, p: f64) -> f64 {
    (least..=n).rev().map(|k| binomial(n, k, p)).sum::<f64>().min(1.0)
}

/// P(at most `most`) of a Poisson count with this mean.
#[must_use]
pub fn poisson_head(mean: f64, most: u64) -> f64 {
    (0..=most).map(|i| poisson(mean, i)).sum::<f64>().min(1.0)
}

/// P(more than `most`) of a Poisson count with this mean: the sum of the tail itself.
#[must_use]
pub fn poisson_tail(mean: f64, most: u64) -> f64 {
    let mut sum = 0.0;
    let mut i = most + 1;
    loop {
        let term = poisson(mean, i);
        sum += term;
        // Beyond the mean terms fall at least geometrically.
        if i as f64 > 2.0 * mean && term <= sum * 1e-18 {
            return sum.min(1.0);
        }
        i += 1;
    }
}

fn poisson(mean: f64, i: u64) -> f64 {
    if mean <= 0.0 {
        return f64::from(u8::from(i == 0));
    }
    (i as f64 * mean.ln() - mean - ln_factorial(i)).exp()
}

/// P(at least once in `times` independent tries), each with probability `p`.
#[must_use]
pub fn at_least_once(p: f64, times: f64) -> f64 {
    if p >= 1.0 {
        return f64::from(u8::from(times > 0.0));
    }
    -(times * (-p).ln_1p()).exp_m1()
}

/// How many nines the probability of survival begins with, as a real number: 1e-11 gives 11.
#[must_use]
pub fn nines(loss: f64) -> f64 {
    if loss <= 0.0 { f64::INFINITY } else { -loss.log10() }
}

/// The quantile of Student's t for a two-sided 95 % interval.
#[must_use]
pub fn student_95(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    match degrees {
        0 => f64::INFINITY,
        d if d <= TABLE.len() => TABLE[d - 1],
        // Cornish-Fisher to the first order: right to three digits from here on.
        d => 1.959_964 * (1.0 + 1.21 / d as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(a: f64, b: f64, relative: f64) -> bool {
        (a - b).abs() <= relative * b.abs()
    }

    #[test]
    fn tails_keep_their_digits_where_one_minus_the_rest_has_none() {
        // 10 of 10 at 1e-5.
        assert!(near(binomial_tail(10, 10, 1e-5), 1e-50, 1e-12));
        // e^-λ λ^31/31! (1 + λ/32 + ...), λ = 0.1.
        let lead = (31.0 * 0.1f64.ln() - 0.1 - ln_factorial(31)).exp();
        assert!(near(poisson_tail(0.1, 30), lead * (1.0 + 0.1 / 32.0 + 0.01 / 1056.0), 1e-7));
        assert!(near(at_least_once(1e-30, 100.0), 1e-28, 1e-12));
        assert!(near(nines(1e-11), 11.0, 1e-12));
    }

    proptest! {
        #[test]
        fn head_and_tail_make_one(mean in 0.01f64..50.0, most in 0u64..80, n in 1u64..60, p in 0.0f64..1.0) {
            prop_assert!(near(poisson_head(mean, most) + poisson_tail(mean, most), 1.0, 1e-11));
            let k = most.min(n);
            let below: f64 = (0..k).map(|i| binomial(n, i, p)).sum();
            prop_assert!(near(below + binomial_tail(n, k, p), 1.0, 1e-11));
        }

        #[test]
        fn more_parity_never_hurts(n in 2u64..40, k in 1u64..40, p in 1e-6f64..0.5) {
            let least = k.min(n);
            prop_assert!(binomial_tail(n, least, p) * (1.0 + 1e-12) >= binomial_tail(n, least + 1, p));
            prop_assert!(binomial_tail(n + 1, least, p) * (1.0 + 1e-12) >= binomial_tail(n, least, p));
        }
    }
}
