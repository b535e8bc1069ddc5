//! Writing past the page cache: bulk that is written once and seldom read again would only push out what is
//! in use, and copying it there costs more than receiving it.
//!
//! `O_DIRECT` wants memory, offsets and lengths in whole blocks. Where a file system does not know it, the same
//! blocks are written the ordinary way.

use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What memory, offsets and lengths are multiples of: the largest logical block of disks in use.
pub(super) const BLOCK: usize = 4096;

/// Memory that begins at a block boundary.
#[derive(Debug)]
pub(super) struct Blocks {
    memory: Vec<u8>,
    from: usize,
    len: usize,
}

impl Blocks {
    /// `len` bytes of zeros, rounded up to whole blocks.
    pub(super) fn new(len: usize) -> Self {
        let len = len.next_multiple_of(BLOCK);
        let memory = vec![0; len + BLOCK];
        let from = memory.as_ptr().align_offset(BLOCK);
        Self { memory, from, len }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.from..self.from + self.len]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.from..self.from + self.len]
    }
}

/// Asks that the file's writes go past the page cache, where that is possible.
pub(super) fn prefer_direct(file: &File) {
    if let Ok(flags) = rustix::fs::fcntl_getfl(file) {
        // Not possible on this file system: the ordinary way, then.
        let _ = rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT);
    }
}

/// Writes whole blocks at a block's offset.
pub(super) fn write_blocks(file: &File, blocks: &[u8], offset: u64) -> io::Result<()> {
    match file.write_all_at(blocks, offset) {
        // Some file systems take the flag and refuse the write.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
            let flags = rustix::fs::fcntl_getfl(file)?;
            rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?;
            file.write_all_at(blocks, offset)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_begin_and_end_where_disks_want_them() {
        for len in [1, BLOCK - 1, BLOCK, BLOCK + 1, 100_000] {
            let mut blocks = Blocks::new(len);
            assert_eq!(blocks.bytes().len() % BLOCK, 0);
            assert!(blocks.bytes().len() >= len && blocks.bytes().len() < len + BLOCK);
            assert_eq!(blocks.bytes_mut().as_ptr().align_offset(BLOCK), 0);
        }
    }

    #[test]
    fn what_was_written_is_read_whatever_the_file_system_can() {
        // Beside the build's output there is a real disk; the other is often memory.
        for dir in [std::env::temp_dir(), "/dev/shm".into(), ".".into()] {
            let Ok(file) = tempfile::tempfile_in(&dir) else { continue };
            prefer_direct(&file);
            let mut blocks = Blocks::new(3 * BLOCK);
            blocks.bytes_mut().iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8);
            write_blocks(&file, blocks.bytes(), BLOCK as u64).unwrap();
            let mut found = Blocks::new(3 * BLOCK);
            file.read_exact_at(found.bytes_mut(), BLOCK as u64).unwrap();
            assert_eq!(found.bytes(), blocks.bytes(), "{}", dir.display());
        }
    }
}
