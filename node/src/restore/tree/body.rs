//! The content of restored files on its way to the disk.
//!
//! Restored files are seldom read at once, and together they may be larger than memory: large ones go past the page
//! cache, where that can be done. Chunks are small for that, each waits for the disk; so those that adjoin are gathered
//! and written together. Blocks that are whole go directly; what is left at both ends of a run goes the ordinary way,
//! to pages that no run's whole blocks touch.

use super::TreeError;
use crate::direct::{BLOCK, Blocks, prefer_direct, write_blocks};
use rustix::fs::{Mode, OFlags, openat};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Smaller files gain nothing.
const FILE_MIN: u64 = 4 << 20;
/// Shorter runs gain nothing.
const DIRECT_MIN: usize = 64 << 10;
/// Bytes written at once.
const BUFFER_LEN: usize = 1 << 20;

/// The content of a file that is being written; those who fill it share it.
#[derive(Debug)]
pub struct Body {
    pub(super) file: File,
    /// The same file, opened once more, for whole blocks.
    direct: Option<File>,
    size: u64,
    /// Its path, for people.
    path: String,
}

impl Body {
    /// The open file `name` in `dir`, that is to have `size` bytes.
    pub(super) fn new(file: File, dir: impl AsFd, name: &CStr, size: u64, path: String) -> Self {
        let direct = open_direct(dir, name, size);
        Self { file, direct, size, path }
    }

    /// Writes `bytes` at `offset`, at once.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), TreeError> {
        self.check(offset, bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset).map_err(|error| self.failed(error))
    }

    pub(super) fn check(&self, offset: u64, len: u64) -> Result<(), TreeError> {
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            let path = self.path.clone();
            return Err(TreeError::Beyond { path, offset, len, size: self.size });
        }
        Ok(())
    }

    pub(super) fn failed(&self, error: io::Error) -> TreeError {
        TreeError::Io { path: self.path.clone(), error }
    }
}

/// None where the file is too small or cannot be opened so.
fn open_direct(dir: impl AsFd, name: &CStr, size: u64) -> Option<File> {
    // Where a page is more than a block, what is left at the ends would share it with whole blocks.
    if size < FILE_MIN || rustix::param::page_size() > BLOCK {
        return None;
    }
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(dir, name, flags, Mode::empty()).ok()?);
    prefer_direct(&file);
    Some(file)
}

/// Pieces of large files on their way to the disk. What was given to it is written when it is flushed.
#[derive(Debug, Default)]
pub struct Gather {
    run: Option<Run>,
    /// Room for one run.
    room: Option<Blocks>,
}

/// Bytes of one file that adjoin. In the room they begin where they would in their first block.
#[derive(Debug)]
struct Run {
    body: Arc<Body>,
    at: u64,
    len: usize,
}

impl Run {
    /// Bytes of the first block that come before it.
    fn skipped(&self) -> usize {
        (self.at % BLOCK as u64) as usize
    }

    fn end(&self) -> u64 {
        self.at + self.len as u64
    }

    fn is_before(&self, body: &Arc<Body>, offset: u64) -> bool {
        Arc::ptr_eq(&self.body, body) && self.end() == offset
    }
}

impl Gather {
    /// Takes bytes of a file, and writes what does not adjoin them, or is enough.
    pub fn write_at(
        &mut self,
        body: &Arc<Body>,
        mut offset: u64,
        mut bytes: &[u8],
    ) -> Result<(), TreeError> {
        if body.direct.is_none() {
            return body.write_at(offset, bytes);
        }
        body.check(offset, bytes.len() as u64)?;
        while !bytes.is_empty() {
            if !self.run.as_ref().is_some_and(|run| run.is_before(body, offset)) {
                self.flush()?;
            }
            let start = || Run { body: Arc::clone(body), at: offset, len: 0 };
            let run = self.run.get_or_insert_with(start);
            let room = self.room.get_or_insert_with(|| Blocks::new(BUFFER_LEN));
            let free = &mut room.bytes_mut()[run.skipped() + run.len..];
            let (piece, rest) = bytes.split_at(free.len().min(bytes.len()));
            free[..piece.len()].copy_from_slice(piece);
            run.len += piece.len();
            (offset, bytes) = (run.end(), rest);
            if piece.len() == free.len() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn flush(&mut self) -> Result<(), TreeError> {
        let (Some(run), Some(room)) = (self.run.take(), &self.room) else { return Ok(()) };
        let (from, to) = (run.skipped(), run.skipped() + run.len);
        let (first, last) = (from.next_multiple_of(BLOCK), to - to % BLOCK);
        let (bytes, body) = (room.bytes(), &run.body);
        let block = run.at - from as u64;
        let written = match &body.direct {
            Some(direct) if first + DIRECT_MIN <= last => body
                .file
                .write_all_at(&bytes[from..first], run.at)
                .and_then(|()| write_blocks(direct, &bytes[first..last], block + first as u64))
                .and_then(|()| body.file.write_all_at(&bytes[last..to], block + last as u64)),
            _ => body.file.write_all_at(&bytes[from..to], run.at),
        };
        written.map_err(|error| body.failed(error))
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
            cuts in prop::collection::btree_set(1..6_000_000_usize, 0..40),
            is_shuffled: bool,
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
            let body = Body::new(file, &at, c"file", whole.len() as u64, "file".into());
            prop_assume!(body.direct.is_some());
            let body = Arc::new(body);
            let mut ends: Vec<usize> = cuts.into_iter().collect();
            ends.push(whole.len());
            let mut pieces: Vec<(usize, usize)> = Vec::new();
            for end in ends {
                pieces.push((pieces.last().map_or(0, |piece| piece.1), end));
            }
            if is_shuffled {
                pieces.sort_by_key(|&(from, _)| {
                    blake3::hash(&(from as u64 ^ order).to_le_bytes()).as_bytes()[0]
                });
            }
            std::thread::scope(|scope| {
                for piece in pieces.chunks(pieces.len().div_ceil(2)) {
                    let (body, whole) = (&body, &whole);
                    scope.spawn(move || {
                        let mut gather = Gather::default();
                        for &(from, to) in piece {
                            gather.write_at(body, from as u64, &whole[from..to]).unwrap();
                        }
                        gather.flush().unwrap();
                    });
                }
            });
            let mut found = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut found).unwrap();
            prop_assert!(found == whole);
        }
    }

    #[test]
    fn what_goes_beyond_the_file_is_refused() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let file = File::create(dir.path().join("file")).unwrap();
        let at = File::open(dir.path()).unwrap();
        let body = Arc::new(Body::new(file, &at, c"file", FILE_MIN, "file".into()));
        let mut gather = Gather::default();
        for offset in [FILE_MIN - 4, u64::MAX] {
            let written = gather.write_at(&body, offset, b"hello");
            assert!(matches!(written, Err(TreeError::Beyond { .. })));
        }
        gather.write_at(&body, FILE_MIN - 5, b"hello").unwrap();
    }
}
