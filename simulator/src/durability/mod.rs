//! How many nines, and against whom: from a topology, a code and rates of failure to the probability of loss.
//!
//! [`number`], [`chain`] and [`exposure`] are exact; [`stripe`] plays one stripe by chance, and [`estimate`] gets
//! probabilities of it that are too small to be seen in plain sampling. Every method, its assumptions and its
//! sources are derived in `simulator/DURABILITY.md`. Rules of placement are `protocol`'s; nothing here decides one.

pub mod analysis;
mod biasing;
pub mod chain;
mod dice;
mod empirical;
pub mod estimate;
pub mod exposure;
pub mod input;
pub mod law;
pub mod mesh;
pub mod number;
pub mod placing;
pub mod plain;
pub mod planner;
pub mod published;
mod splitting;
pub mod stripe;
mod surveyed;
pub mod sweep;
#[cfg(test)]
mod tests;
mod written;
