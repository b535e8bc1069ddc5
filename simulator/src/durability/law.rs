//! The laws of times: how long until something fails, is noticed, is repaired. In years, as everything here.

use super::dice::Dice;
use std::sync::Arc;

/// Most values of a trace.
pub const TRACE_MAX: usize = 1_000_000;

/// A law of one time.
#[derive(Debug, Clone, PartialEq)]
pub enum Law {
    /// Always the same.
    Fixed(f64),
    /// Memoryless, with this mean.
    Exponential {
        /// Mean.
        mean: f64,
    },
    /// Even between two.
    Uniform {
        /// Least.
        low: f64,
        /// Most.
        high: f64,
    },
    /// Weibull: `shape` below one fails early, above one wears out.
    Weibull {
        /// Shape.
        shape: f64,
        /// Scale.
        scale: f64,
    },
    /// Log-normal.
    LogNormal {
        /// Median.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// One of the times seen, each as likely; sorted.
    Trace(Arc<[f64]>),
    /// One after the other: noticed, waited for, transferred.
    Sum(Vec<Law>),
}

/// Numbers that are no law.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LawError {
    /// A number is negative, or not finite, or zero where it cannot be.
    #[error("{0} = {1}: a finite number above zero is expected")]
    Number(&'static str, f64),
    /// The ends are in the wrong order.
    #[error("low = {0} is above high = {1}")]
    Order(f64, f64),
    /// Too few or too many values.
    #[error("a trace has {0} values: 1 to {TRACE_MAX} are expected")]
    Trace(usize),
}

impl Law {
    /// Weibull with this mean.
    #[must_use]
    pub fn weibull(shape: f64, mean: f64) -> Self {
        Self::Weibull { shape, scale: mean / libm::tgamma(1.0 + 1.0 / shape) }
    }

    /// The times of a trace.
    ///
    /// # Errors
    /// [`LawError`] when there are none, too many, or one is negative.
    pub fn trace(mut times: Vec<f64>) -> Result<Self, LawError> {
        if times.is_empty() || times.len() > TRACE_MAX {
            return Err(LawError::Trace(times.len()));
        }
        if let Some(&wrong) = times.iter().find(|t| !t.is_finite() || **t < 0.0) {
            return Err(LawError::Number("trace", wrong));
        }
        times.sort_by(f64::total_cmp);
        Ok(Self::Trace(times.into()))
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`LawError`] with the one that is wrong.
    pub fn check(&self) -> Result<(), LawError> {
        let above = |name, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(LawError::Number(name, value))
            }
        };
        match self {
            Self::Fixed(time) if *time == 0.0 => Ok(()),
            Self::Fixed(time) => above("time", *time),
            Self::Exponential { mean } => above("mean", *mean),
            Self::Uniform { low, high } if low > high => Err(LawError::Order(*low, *high)),
            Self::Uniform { low, high } => {
                above("high", *high)?;
                if *low == 0.0 { Ok(()) } else { above("low", *low) }
            }
            Self::Weibull { shape, scale } => above("shape", *shape).and(above("scale", *scale)),
            Self::LogNormal { median, sigma } => {
                above("median", *median).and(above("sigma", *sigma))
            }
            Self::Trace(times) if times.is_empty() => Err(LawError::Trace(0)),
            Self::Trace(_) => Ok(()),
            Self::Sum(parts) => parts.iter().try_for_each(Self::check),
        }
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self {
            Self::Fixed(time) => *time,
            Self::Exponential { mean } => *mean,
            Self::Uniform { low, high } => f64::midpoint(*low, *high),
            Self::Weibull { shape, scale } => scale * libm::tgamma(1.0 + 1.0 / shape),
            Self::LogNormal { median, sigma } => median * (sigma * sigma / 2.0).exp(),
            Self::Trace(times) => times.iter().sum::<f64>() / times.len() as f64,
            Self::Sum(parts) => parts.iter().map(Self::mean).sum(),
        }
    }

    /// The same law with every time so many times as long.
    #[must_use]
    pub fn stretched(&self, by: f64) -> Self {
        match self {
            Self::Fixed(time) => Self::Fixed(time * by),
            Self::Exponential { mean } => Self::Exponential { mean: mean * by },
            Self::Uniform { low, high } => Self::Uniform { low: low * by, high: high * by },
            Self::Weibull { shape, scale } => Self::Weibull { shape: *shape, scale: scale * by },
            Self::LogNormal { median, sigma } => {
                Self::LogNormal { median: median * by, sigma: *sigma }
            }
            Self::Trace(times) => Self::Trace(times.iter().map(|t| t * by).collect()),
            Self::Sum(parts) => Self::Sum(parts.iter().map(|part| part.stretched(by)).collect()),
        }
    }

    /// The rate of an exponential law.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        match self {
            Self::Exponential { mean } => Some(1.0 / mean),
            Self::Sum(parts) => match &parts[..] {
                [only] => only.rate(),
                _ => None,
            },
            _ => None,
        }
    }

    /// A time.
    pub fn draw(&self, dice: &mut Dice) -> f64 {
        match self {
            Self::Fixed(time) => *time,
            Self::Exponential { mean } => mean * dice.exponential(),
            Self::Uniform { low, high } => low + (high - low) * dice.share(),
            Self::Weibull { shape, scale } => scale * dice.exponential().powf(1.0 / shape),
            Self::LogNormal { median, sigma } => median * (sigma * dice.normal()).exp(),
            Self::Trace(times) => times[dice.below(times.len())],
            Self::Sum(parts) => parts.iter().map(|part| part.draw(dice)).sum(),
        }
    }

    /// What is left of a time of which `age` went by already: drawn under that condition. `None` for laws of
    /// which it is not known in closed form; what was drawn before must be kept then.
    pub fn draw_rest(&self, age: f64, dice: &mut Dice) -> Option<f64> {
        match self {
            Self::Fixed(time) => Some((time - age).max(0.0)),
            Self::Exponential { mean } => Some(mean * dice.exponential()),
            Self::Uniform { low, high } => {
                let from = low.max(age);
                Some(if from >= *high { 0.0 } else { from + (high - from) * dice.share() - age })
            }
            Self::Weibull { shape, scale } => {
                // The cumulative hazard (t/scale)^shape grows by an exponential.
                let hazard = (age / scale).powf(*shape) + dice.exponential();
                Some((scale * hazard.powf(1.0 / shape) - age).max(0.0))
            }
            Self::Trace(times) => {
                let later = &times[times.partition_point(|t| *t <= age)..];
                // Older than anything seen: it fails at once.
                Some(if later.is_empty() { 0.0 } else { later[dice.below(later.len())] - age })
            }
            Self::LogNormal { .. } | Self::Sum(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laws() -> Vec<Law> {
        vec![
            Law::Fixed(2.0),
            Law::Exponential { mean: 0.5 },
            Law::Uniform { low: 1.0, high: 3.0 },
            Law::weibull(0.7, 2.0),
            Law::weibull(3.0, 2.0),
            Law::LogNormal { median: 1.0, sigma: 0.5 },
            Law::trace(vec![3.0, 1.0, 2.0]).unwrap(),
            Law::Sum(vec![Law::Fixed(1.0), Law::Exponential { mean: 1.0 }]),
        ]
    }

    #[test]
    fn the_mean_drawn_is_the_mean_said() {
        for law in laws() {
            law.check().unwrap();
            let mut dice = Dice::new(3, 1);
            let n = 200_000;
            let drawn = (0..n).map(|_| law.draw(&mut dice)).sum::<f64>() / f64::from(n);
            assert!((drawn / law.mean() - 1.0).abs() < 0.02, "{law:?}: {drawn}");
            assert!((law.stretched(3.0).mean() / law.mean() - 3.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_rest_of_a_time_is_that_of_those_who_came_so_far() {
        for law in laws() {
            let mut dice = Dice::new(5, 2);
            let age = 0.8;
            if law.draw_rest(age, &mut dice).is_none() {
                continue;
            }
            let n = 200_000;
            let rests: Vec<f64> =
                (0..n).map(|_| law.draw(&mut dice)).filter(|t| *t > age).map(|t| t - age).collect();
            let expected = rests.iter().sum::<f64>() / rests.len() as f64;
            let drawn =
                (0..n).filter_map(|_| law.draw_rest(age, &mut dice)).sum::<f64>() / f64::from(n);
            assert!((drawn / expected - 1.0).abs() < 0.02, "{law:?}: {drawn} {expected}");
        }
    }

    #[test]
    fn numbers_that_are_no_law_are_refused() {
        assert!(Law::Exponential { mean: 0.0 }.check().is_err());
        assert!(Law::Uniform { low: 2.0, high: 1.0 }.check().is_err());
        assert!(Law::trace(vec![]).is_err() && Law::trace(vec![f64::NAN]).is_err());
        assert!(Law::Sum(vec![Law::Fixed(-1.0)]).check().is_err());
    }
}
