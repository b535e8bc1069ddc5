//! Continuous-time Markov chains solved without a single subtraction of near equals: the mean time to loss
//! by a recurrence of positive terms, the probability of loss in a mission time by squaring a non-negative
//! matrix. Both hold their digits at 1e-30 and far below. Failures and repairs are exponential and independent
//! here; where they are not, see [`super::stripe`].

use super::stripe::{Model, Repairers};
use std::collections::BTreeMap;

/// Most states of a chain that is solved as a matrix.
pub const STATES_MAX: usize = 600;
/// Most squarings: the relative error doubles with each and stays below 1e-5 (see [`Chain::loss_within`]).
const SQUARINGS_MAX: i32 = 36;

/// Why a chain is not solved.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Too many states.
    #[error("the chain has {0} states or more, at most {STATES_MAX} are solved exactly")]
    States(usize),
    /// Rate times mission time is too large.
    #[error(
        "rates of up to {rate:e} a year over {years} years are more than double precision holds"
    )]
    Stiff {
        /// The fastest rate.
        rate: f64,
        /// The mission.
        years: f64,
    },
    /// Something in the model is not exponential.
    #[error("{0} has no exact chain: only exponential failures and repairs have")]
    NotExponential(&'static str),
}

/// n shards of which k are needed, each failing alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BirthDeath {
    /// Shards.
    pub n: usize,
    /// Shards needed.
    pub k: usize,
    /// Failures of one shard, per unit of time.
    pub failure: f64,
    /// Repairs of one shard, per unit of time.
    pub repair: f64,
    /// Whether lost shards are repaired side by side (i·μ) or one after another (μ).
    pub repairers: Repairers,
}

impl BirthDeath {
    /// Rate from `lost` lost shards to one more.
    fn up(&self, lost: usize) -> f64 {
        (self.n - lost) as f64 * self.failure
    }

    /// Rate from `lost` lost shards to one less.
    fn down(&self, lost: usize) -> f64 {
        self.repairers.busy(lost) as f64 * self.repair
    }

    /// Mean time from all shards whole to fewer than k: Σ `D_i`, `D_i = (1 + b_i·D_{i-1}) / a_i`, where `D_i` is
    /// the mean time from i lost to i + 1, `a_i` the rate of failures and `b_i` that of repairs.
    #[must_use]
    pub fn mean_time_to_loss(&self) -> f64 {
        let mut step = 0.0;
        (0..=self.n - self.k).fold(0.0, |sum, lost| {
            step = (1.0 + self.down(lost) * step) / self.up(lost);
            sum + step
        })
    }

    /// The chain, with the loss as its last state.
    #[must_use]
    pub fn chain(&self) -> Chain {
        let last = self.n - self.k + 1;
        let mut chain = Chain::new(last + 1);
        for lost in 0..last {
            chain.add(lost, lost + 1, self.up(lost));
            if lost > 0 {
                chain.add(lost, lost - 1, self.down(lost));
            }
        }
        chain
    }

    /// Probability that fewer than k shards were left at some time within `time`, all whole at its start.
    ///
    /// # Errors
    /// [`ChainError`] when it is too large or too stiff.
    pub fn loss_within(&self, time: f64) -> Result<f64, ChainError> {
        self.chain().loss_within(time)
    }
}

/// A chain with rates between states; begins in the first state, ends in the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    states: usize,
    rates: Vec<f64>,
}

impl Chain {
    /// A chain without transitions.
    #[must_use]
    pub fn new(states: usize) -> Self {
        Self { states, rates: vec![0.0; states * states] }
    }

    /// Adds a transition. What leaves the last state is nothing: give none.
    pub fn add(&mut self, from: usize, to: usize, rate: f64) {
        if from != to {
            self.rates[from * self.states + to] += rate;
        }
    }

    /// A state for every set of lost shards that leaves k of them, with those of it whose repair runs.
    ///
    /// # Errors
    /// [`ChainError`] when the model is too large or not exponential.
    pub fn of_model(model: &Model) -> Result<Self, ChainError> {
        let repair = model.exponential_repair().map_err(ChainError::NotExponential)?;
        // From here on states are found as they are reached; the loss is the last of all.
        let mut states = vec![Mended::default()];
        let mut known = BTreeMap::from([(states[0], 0)]);
        let mut steps: Vec<(usize, Option<usize>, f64)> = Vec::new();
        let mut from = 0;
        while let Some(&state) = states.get(from) {
            let strikes = model.causes.iter().map(|c| (state.struck(model, c.shards), c.rate));
            let repairs = (0..model.n()).filter(|shard| state.running >> shard & 1 == 1);
            let repairs = repairs.map(|shard| (state.repaired(model, shard), repair));
            for (to, rate) in strikes.chain(repairs).collect::<Vec<_>>() {
                let to = (to.lost.count_ones() <= model.spare()).then(|| {
                    *known.entry(to).or_insert_with(|| {
                        states.push(to);
                        states.len() - 1
                    })
                });
                steps.push((from, to, rate));
            }
            if states.len() > STATES_MAX {
                return Err(ChainError::States(states.len()));
            }
            from += 1;
        }
        let mut chain = Self::new(states.len() + 1);
        for (from, to, rate) in steps {
            chain.add(from, to.unwrap_or(states.len()), rate);
        }
        Ok(chain)
    }

    /// Probability of having reached the last state within `time`.
    ///
    /// The chain is uniformized for a step so short that rates times step stay below one, one step's
    /// transition matrix summed from its (positive) series, and squared until the time is reached. All terms are
    /// positive, so errors stay relative to each entry: after s squarings at most about 2^s times states times 1e-16.
    ///
    /// # Errors
    /// [`ChainError`] when it is too large, or the time too long for that bound to mean anything.
    pub fn loss_within(&self, time: f64) -> Result<f64, ChainError> {
        if self.states > STATES_MAX + 1 {
            return Err(ChainError::States(self.states));
        }
        let size = self.states;
        let out = |from: usize| self.rates[from * size..(from + 1) * size].iter().sum::<f64>();
        let fastest = (0..size).map(out).fold(0.0, f64::max);
        if time <= 0.0 || fastest <= 0.0 {
            return Ok(0.0);
        }
        let squarings = (fastest * time).log2().ceil().max(0.0) as i32 + 1;
        if squarings > SQUARINGS_MAX {
            return Err(ChainError::Stiff { rate: fastest, years: time });
        }
        let step = time / 2f64.powi(squarings);
        // P = I + Q/u with u twice the fastest rate: the diagonal is at least a half, no digits cancel.
        let uniform = 2.0 * fastest;
        let mut jump: Vec<f64> = self.rates.iter().map(|rate| rate / uniform).collect();
        for state in 0..size {
            jump[state * size + state] = 1.0 - out(state) / uniform;
        }
        // exp(Q·step) = Σ Poisson(u·step; j) P^j.
        let mean = uniform * step;
        let mut power = identity(size);
        let mut weight = (-mean).exp();
        let mut total: Vec<f64> = power.iter().map(|p| p * weight).collect();
        // The series reaches the last state only after as many steps as the path is long: all of them count.
        for j in 1..size + 40 {
            // The sparse one first: what is zero costs nothing.
            power = product(&jump, &power, size);
            weight *= mean / j as f64;
            for (sum, p) in total.iter_mut().zip(&power) {
                *sum += weight * p;
            }
            if j > 20 && weight < 1e-300 {
                break;
            }
        }
        for _ in 0..squarings {
            total = product(&total, &total, size);
            normalize(&mut total, size);
        }
        Ok(total[size - 1])
    }
}

/// Which shards are lost, and whose repair runs, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Mended {
    lost: u64,
    running: u64,
}

impl Mended {
    fn struck(self, model: &Model, shards: u64) -> Self {
        Self { lost: self.lost | shards, ..self }.begun(model)
    }

    fn repaired(self, model: &Model, shard: usize) -> Self {
        Self { lost: self.lost & !(1 << shard), running: self.running & !(1 << shard) }.begun(model)
    }

    /// As many repairs run as may, in the order of the shards' numbers: [`super::stripe`] does the same.
    fn begun(mut self, model: &Model) -> Self {
        let most = model.repairers.busy(self.lost.count_ones() as usize) as u32;
        while self.running.count_ones() < most {
            let waiting = self.lost & !self.running;
            self.running |= waiting & waiting.wrapping_neg();
        }
        self
    }
}

fn identity(size: usize) -> Vec<f64> {
    (0..size * size).map(|i| f64::from(u8::from(i / size == i % size))).collect()
}

fn product(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
    let mut out = vec![0.0; size * size];
    for i in 0..size {
        for (via, &share) in a[i * size..(i + 1) * size].iter().enumerate() {
            if share != 0.0 {
                let row = &b[via * size..(via + 1) * size];
                for (sum, value) in out[i * size..(i + 1) * size].iter_mut().zip(row) {
                    *sum += share * value;
                }
            }
        }
    }
    out
}

/// Rows are probabilities: scaling each back to one keeps rounding from growing with the squarings.
fn normalize(matrix: &mut [f64], size: usize) {
    for row in matrix.chunks_mut(size) {
        let sum: f64 = row.iter().sum();
        for p in row {
            *p /= sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durability::number::{at_least_once, ln_choose};
    use proptest::prelude::*;

    fn chain(n: usize, k: usize, failure: f64, repair: f64, repairers: Repairers) -> BirthDeath {
        BirthDeath { n, k, failure, repair, repairers }
    }

    fn near(a: f64, b: f64, relative: f64) -> bool {
        (a - b).abs() <= relative * b.abs()
    }

    #[test]
    fn without_repair_the_chain_is_the_binomial() {
        for (n, k) in [(3, 2), (14, 10), (40, 10)] {
            let exact = crate::durability::number::binomial_tail(
                n as u64,
                (n - k + 1) as u64,
                -(-1e-3f64).exp_m1(),
            );
            let ours = chain(n, k, 1e-3, 0.0, Repairers::Unlimited).loss_within(1.0).unwrap();
            assert!(near(ours, exact, 1e-9), "{n} {k}: {ours:e} {exact:e}");
        }
    }

    #[test]
    fn digits_hold_far_below_1e_30() {
        // With repair fast, loss in a time that is long against repairs is 1 - exp(-t / mean time to loss).
        for (n, k, failure) in [(14, 4, 0.01), (30, 10, 0.01), (20, 5, 0.1)] {
            let chain = chain(n, k, failure, 365.0, Repairers::Unlimited);
            let loss = chain.loss_within(1.0).unwrap();
            let mean = chain.mean_time_to_loss();
            assert!(loss < 1e-28 && near(loss * mean, 1.0, 0.05), "{loss:e} {mean:e}");
            // Where the first failure is rare, the mean is the product of the rates' quotients.
            let m = (n - k) as u64;
            let ln_rate = ln_choose(n as u64, m)
                + m as f64 * (failure / 365.0f64).ln()
                + ((n as f64 - m as f64) * failure).ln();
            assert!(near(1.0 / mean, ln_rate.exp(), 0.01), "{mean:e}");
        }
    }

    #[test]
    fn what_is_too_stiff_is_refused() {
        let chain = chain(3, 2, 1.0, 1e12, Repairers::One);
        assert!(matches!(chain.loss_within(1.0), Err(ChainError::Stiff { .. })));
    }

    /// A uniformization step by step, as an independent way to the same number.
    fn stepwise(chain: &Chain, time: f64) -> f64 {
        let size = chain.states;
        let out = |from: usize| chain.rates[from * size..(from + 1) * size].iter().sum::<f64>();
        let uniform = 2.0 * (0..size).map(out).fold(0.0, f64::max);
        let mean = uniform * time;
        let mut at = vec![0.0; size];
        at[0] = 1.0;
        let (mut sum, mut steps) = (0.0, 0u64);
        while (steps as f64) < mean + 12.0 * mean.sqrt() + 60.0 {
            let ln_weight =
                steps as f64 * mean.ln() - mean - crate::durability::number::ln_factorial(steps);
            sum += ln_weight.exp() * at[size - 1];
            let mut next = vec![0.0; size];
            for from in 0..size {
                next[from] += at[from] * (1.0 - out(from) / uniform);
                for (to, slot) in next.iter_mut().enumerate() {
                    *slot += at[from] * chain.rates[from * size + to] / uniform;
                }
            }
            at = next;
            steps += 1;
        }
        sum
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn squaring_agrees_with_going_step_by_step(
            n in 2usize..8, spare in 0usize..6, failure in 0.01f64..2.0, repair in 0.1f64..200.0, one: bool,
        ) {
            let k = n - spare.min(n - 1);
            let repairers = if one { Repairers::One } else { Repairers::Unlimited };
            let chain = chain(n, k, failure, repair, repairers).chain();
            let (ours, theirs) = (chain.loss_within(1.0).unwrap(), stepwise(&chain, 1.0));
            prop_assert!(near(ours, theirs, 1e-7), "{:e} {:e}", ours, theirs);
        }

        #[test]
        fn loss_moves_with_every_assumption_as_it_must(
            n in 2usize..14, spare in 0usize..8, failure in 1e-4f64..1.0, repair in 1.0f64..500.0,
        ) {
            let k = n - spare.min(n - 1);
            let loss = |n, k, failure, repair, one| {
                let repairers = if one { Repairers::One } else { Repairers::Unlimited };
                chain(n, k, failure, repair, repairers).loss_within(1.0).unwrap()
            };
            let base = loss(n, k, failure, repair, false);
            let slack = 1.0 + 1e-9;
            prop_assert!(loss(n, k, failure * 1.1, repair, false) * slack >= base);
            prop_assert!(loss(n, k, failure, repair * 1.1, false) <= base * slack);
            prop_assert!(loss(n, k, failure, repair, true) * slack >= base);
            prop_assert!(loss(n + 1, k, failure, repair, false) <= base * slack);
            if k > 1 {
                prop_assert!(loss(n, k - 1, failure, repair, false) <= base * slack);
            }
            let rare = at_least_once(base, 1.0);
            prop_assert!(near(rare, base, 1e-9));
        }
    }
}
