//! One file a group of commands: from arguments to engines, and from results to what people and machines read.

pub mod data;
pub mod demo;
pub mod look;
pub mod node;
pub mod vault;
