//! Many [`protocol::Peer`] under virtual time, with faults drawn from a seed.
//!
//! A [`World`] owns time, network, disks, clocks and randomness; the peers decide, nothing here does. What happens is a
//! [`Plan`]: a mesh, vaults, steps at their times. [`run`] carries it out with a seed and gives an [`Outcome`]; both are data. The
//! same plan and seed give the same run, byte for byte ([`Outcome::digest`]). What nodes promise is remembered apart from them
//! (`check`) and compared with each message, write and drop; what is broken ends the run. [`shrink`] makes a plan that fails
//! smaller, [`fuzz`] draws plans, `owner` and `attack` are the people in them.
//!
//! The model, and where it ends:
//! - Time passes only between events; deciding takes none.
//! - A connection behaves like TCP: what arrives is whole and unaltered, several exchanges on it may
//!   overtake each other. A message that is lost takes its connection with it, and both ends notice
//!   when they give up. What goes from one end to another in a second is shared by all that is on its way between them.
//! - A disk makes writes durable one after another, in order, rows whole or not at all. A crash loses what was not durable,
//!   from a drawn point on, reported or not, and all that was in memory; of the shard that was being written a first part may stay under
//!   its name. Rot changes shards, not rows.
//! - Every message passes through its real encoding, every shard through the real erasure code. Connections are not encrypted: each
//!   end is told the other's true key. Cards are not sealed: that is the driver's to do.
//! - Clocks are straight lines with jumps. What holders promise is checked by true time, with the errors of honest clocks
//!   allowed for; where half of the operators have clocks that are off by more than a minute, no more is checked than that a lock
//!   clock counts at most twice the time since its node's first start.

pub mod arrangement;
mod attack;
pub mod chart;
mod check;
mod client;
mod clock;
mod departure;
mod disk;
pub mod durability;
mod faults;
pub mod from_mesh;
mod fuzz;
mod host;
pub mod memory;
mod moments;
mod network;
mod owner;
pub mod plan;
mod presence;
mod queue;
mod random;
mod run;
pub mod scenario;
mod setup;
mod shrink;
pub mod study;
mod succession;
mod swap;
pub mod table;
#[cfg(test)]
mod tests;
mod trace;
pub mod weeks;
mod world;
pub mod year;

pub use client::{Client, Stored};
pub use disk::{Disk, DiskConfig};
pub use fuzz::{Found, fuzz, plan as fuzz_plan};
pub use network::NetworkConfig;
pub use plan::{Outcome, Plan, Replay, Step, Verdict, What, Who};
pub use random::Random;
pub use run::{SETTLES_WITHIN, run, run_really_signed};
pub use setup::{NodeSetup, PeerSetup, Setup};
pub use shrink::shrink;
pub use swap::Swap;
pub use trace::Trace;
pub use world::World;
