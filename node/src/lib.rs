//! The outside of Strewn: network, disks, sources, restore and the command line around
//! `protocol::Peer`. It holds no rules.

pub mod net;
pub mod store;
