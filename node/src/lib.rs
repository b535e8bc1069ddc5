//! The outside of Strewn: network, disks, sources, restore and the command line around
//! `protocol::Peer`. It holds no rules.

pub mod address;
pub mod allocator;
pub mod capped;
pub mod cli;
pub mod client;
pub mod cloud;
pub mod commands;
pub mod config;
mod direct;
mod git;
pub mod home;
mod line;
pub mod logging;
pub mod net;
pub mod restore;
pub mod service;
pub mod size;
pub mod source;
pub mod store;
pub mod ticket;
