//! The high-water mark: how many commits the state database had seen, kept in a file beside it, so that
//! a database that was rolled back or came up empty is noticed.
//!
//! ```text
//! "STRWMARK" commits(u64 LE) BLAKE3 of the 16 bytes before (first 16)
//! ```
//! It is written after commits, at most once a second, so it never claims more than is durable. A
//! damaged or missing mark says nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"STRWMARK";

fn encode(commits: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&commits.to_le_bytes());
    let sum = *blake3::hash(&bytes[..16]).as_bytes();
    bytes[16..].copy_from_slice(&sum[..16]);
    bytes
}

pub(super) fn read(dir: &Path) -> Option<u64> {
    let bytes: [u8; 32] = fs::read(dir.join("mark")).ok()?.try_into().ok()?;
    let commits = u64::from_le_bytes(std::array::from_fn(|i| bytes[8 + i]));
    (bytes == encode(commits)).then_some(commits)
}

pub(super) fn write(dir: &Path, commits: u64) -> io::Result<()> {
    let (new, mark) = (dir.join("mark.new"), dir.join("mark"));
    let mut file = File::create(&new)?;
    file.write_all(&encode(commits))?;
    file.sync_all()?;
    fs::rename(new, mark)
}
