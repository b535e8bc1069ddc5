//! The outside of Strewn: disks, sources, restore and the network around `protocol::Peer`.

mod git;
pub mod restore;
pub mod source;
