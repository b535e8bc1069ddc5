//! The way of large files to the disk: past the page cache, where that can be done.
//!
//! Restored files are seldom read at once, and together they may be larger than memory. Blocks that are whole
//! go directly; what is left at the ends of a piece goes the ordinary way, to pages that no other piece's whole
//! blocks touch.

use crate::direct::{BLOCK, Blocks, prefer_direct, write_blocks};
use rustix::fs::{Mode, OFlags, openat};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

/// Smaller files gain nothing.
const FILE_MIN: u64 = 4 << 20;
/// Smaller pieces gain nothing.
const PIECE_MIN: usize = 64 << 10;
/// Bytes written at once.
const BUFFER_LEN: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Bulk {
    file: File,
    spare: Mutex<Vec<Blocks>>,
}

impl Bulk {
    /// Opens the file once more. None where it is too small or cannot be opened so.
    pub(super) fn open(dir: impl AsFd, name: &CStr, size: u64) -> Option<Self> {
        // Where a page is more than a block, what is left at the ends would share it with whole blocks.
        if size < FILE_MIN || rustix::param::page_size() > BLOCK {
            return None;
        }
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(dir, name, flags, Mode::empty()).ok()?);
        prefer_direct(&file);
        Some(Self { file, spare: Mutex::default() })
    }

    /// Writes `bytes` at `offset`; what are not whole blocks is written to `ordinary`, the same file.
    pub(super) fn write_at(&self, ordinary: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let head = offset.next_multiple_of(BLOCK as u64) - offset;
        if bytes.len() < PIECE_MIN + head as usize {
            return ordinary.write_all_at(bytes, offset);
        }
        let (head, rest) = bytes.split_at(head as usize);
        let (whole, tail) = rest.split_at(rest.len() - rest.len() % BLOCK);
        ordinary.write_all_at(head, offset)?;
        let mut at = offset + head.len() as u64;
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut blocks = spare.unwrap_or_else(|| Blocks::new(BUFFER_LEN));
        for piece in whole.chunks(BUFFER_LEN) {
            let room = &mut blocks.bytes_mut()[..piece.len()];
            room.copy_from_slice(piece);
            write_blocks(&self.file, room, at)?;
            at += piece.len() as u64;
        }
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(blocks);
        ordinary.write_all_at(tail, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_in_any_order_make_the_file(
            cuts in prop::collection::btree_set(1..6_000_000_usize, 0..12),
            order: u64,
            seed: u8,
        ) {
            let mut whole = vec![0; 6_000_000];
            blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut whole);
            let dir = tempfile::tempdir_in(".").unwrap();
            let path = dir.path().join("file");
            let file = File::create(&path).unwrap();
            file.set_len(whole.len() as u64).unwrap();
            let at = File::open(dir.path()).unwrap();
            let Some(bulk) = Bulk::open(&at, c"file", whole.len() as u64) else { return Ok(()) };
            let mut ends: Vec<usize> = cuts.into_iter().collect();
            ends.push(whole.len());
            let mut pieces: Vec<(usize, usize)> = Vec::new();
            for end in ends {
                pieces.push((pieces.last().map_or(0, |piece| piece.1), end));
            }
            pieces.sort_by_key(|&(from, _)| blake3::hash(&(from as u64 ^ order).to_le_bytes()).as_bytes()[0]);
            std::thread::scope(|scope| {
                for piece in pieces.chunks(pieces.len().div_ceil(2)) {
                    scope.spawn(|| piece.iter().for_each(|&(from, to)| {
                        bulk.write_at(&file, &whole[from..to], from as u64).unwrap();
                    }));
                }
            });
            let mut found = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut found).unwrap();
            prop_assert!(found == whole);
        }
    }
}
