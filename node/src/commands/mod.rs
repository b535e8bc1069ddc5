//! One file a group of commands: from arguments to engines, and from results to what people and machines read.

pub mod audit;
pub mod browse;
pub mod check;
pub mod data;
pub mod demo;
pub mod describe;
pub mod device;
pub mod drain;
pub mod drill;
pub mod forget;
mod git_roots;
pub mod kit;
pub mod log;
pub mod look;
pub mod mount;
pub mod node;
pub mod partner;
pub mod profile;
pub mod proof;
pub mod prune;
pub mod recover;
pub mod release;
pub mod repair;
pub mod share;
pub mod tag;
pub mod vault;
pub mod what_if;
