//! Starts real `strewn` processes for whole-system tests: what a user would type, and what a machine,
//! a provider or an attacker would do to it.
//!
//! Nothing here knows how Strewn works inside; the tests beside it look at exit codes, output and files.

mod link;
mod mesh;
mod program;
mod sample;
pub mod swap;

pub use link::{End, Link, LinkKind};
pub use mesh::{Mesh, Node, ROOM, SPARE, cpu_time, free_port, signal};
pub use program::{Ran, program, strewn, within};
pub use rustix::process::Signal;
pub use sample::{
    Found, More, acl, assert_same, bytes, files, git, more_of, repository, tree_of, write,
};
