//! The outside of Strewn: network, disks, sources, restore and the command line around
//! `protocol::Peer`. It holds no rules.

pub mod git;
pub mod net;
pub mod restore;
pub mod source;
pub mod store;
