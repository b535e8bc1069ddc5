//! Back onto a disk: a directory tree item by item ([`tree`]), and a Git repository from the folder
//! of its items ([`git`]).
//!
//! Fetching, opening and ordering chunks is the restore engine's; here is only what touches the target.

pub mod git;
pub mod names;
pub mod tree;
