//! Many [`protocol::Peer`] under virtual time, with faults drawn from a seed.
//!
//! A [`World`] owns time, network, disks and randomness; the peers decide, nothing here does. One seed
//! and one [`Setup`] give one run, byte for byte: [`Trace::digest`] says which. After every event the
//! world checks that whatever was promised to a client is on the disk of the node that promised it.
//!
//! The model, and where it ends:
//! - Time passes only between events; deciding takes none. All clocks agree.
//! - A connection behaves like TCP: what arrives is whole and unaltered, several exchanges on it may
//!   overtake each other. A message that is lost takes its connection with it, and both ends notice
//!   when they give up. There is no bandwidth: a transfer takes a drawn time, whatever its size.
//! - A disk makes writes durable one after another, in order. A crash loses what was not durable, and
//!   all that was in memory; nothing durable rots. A node that vanishes takes its disk along.
//! - Every message passes through its real encoding. Connections are not encrypted: each end is told
//!   the other's true key.

pub mod arrangement;
mod attack;
pub mod chart;
mod check;
mod client;
mod clock;
mod disk;
pub mod durability;
mod faults;
mod fuzz;
mod host;
mod network;
mod owner;
pub mod plan;
mod random;
mod run;
pub mod scenario;
mod setup;
mod shrink;
pub mod study;
#[cfg(test)]
mod tests;
mod trace;
mod world;

pub use client::{Client, Stored};
pub use disk::{Disk, DiskConfig};
pub use fuzz::{Found, fuzz, plan as fuzz_plan};
pub use network::NetworkConfig;
pub use plan::{Outcome, Plan, Step, Verdict, What, Who};
pub use random::Random;
pub use run::{SETTLES_WITHIN, run};
pub use setup::{NodeSetup, PeerSetup, Setup};
pub use shrink::shrink;
pub use trace::Trace;
pub use world::World;
