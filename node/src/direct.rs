//! Reading and writing past the page cache: bulk that passes once would only push out what is in use, and
//! copying it there costs more than sending or receiving it.
//!
//! `O_DIRECT` wants memory, offsets and lengths in whole blocks. Where a file system does not know it, the same
//! blocks go the ordinary way.

use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What memory, offsets and lengths are multiples of: the largest logical block of disks in use.
pub(crate) const BLOCK: usize = 4096;

/// Memory that begins at a block boundary.
#[derive(Debug)]
pub(crate) struct Blocks {
    memory: Vec<u8>,
    from: usize,
    len: usize,
}

impl Blocks {
    /// `len` bytes of zeros, rounded up to whole blocks.
    pub(crate) fn new(len: usize) -> Self {
        let len = len.next_multiple_of(BLOCK);
        let memory = vec![0; len + BLOCK];
        let from = memory.as_ptr().align_offset(BLOCK);
        Self { memory, from, len }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.from..self.from + self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.from..self.from + self.len]
    }
}

/// Asks that reads and writes of the file go past the page cache, where that is possible.
pub(crate) fn prefer_direct(file: &File) {
    if let Ok(flags) = rustix::fs::fcntl_getfl(file) {
        // Not possible on this file system: the ordinary way, then.
        let _ = rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT);
    }
}

/// Writes whole blocks at a block's offset.
pub(crate) fn write_blocks(file: &File, blocks: &[u8], offset: u64) -> io::Result<()> {
    match file.write_all_at(blocks, offset) {
        Err(error) if is_unable(&error) => {
            give_up(file)?;
            file.write_all_at(blocks, offset)
        }
        result => result,
    }
}

/// Reads whole blocks from a block's offset on: the number of bytes, fewer only at the end of the file.
pub(crate) fn read_blocks(file: &File, blocks: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut found = 0;
    while found < blocks.len() {
        match file.read_at(&mut blocks[found..], offset + found as u64) {
            Err(error) if is_unable(&error) => give_up(file)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(0) => break,
            Ok(count) => found += count,
        }
        // What ends within a block ends with the file: a further read would not be one of whole blocks.
        if !found.is_multiple_of(BLOCK) {
            break;
        }
    }
    Ok(found)
}

/// Some file systems take the flag and refuse what is read or written.
fn is_unable(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::INVAL)
}

fn give_up(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    if !flags.contains(OFlags::DIRECT) {
        return Err(Errno::INVAL.into());
    }
    Ok(rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?)
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
            assert_eq!(read_blocks(&file, found.bytes_mut(), BLOCK as u64).unwrap(), 3 * BLOCK);
            assert_eq!(found.bytes(), blocks.bytes(), "{}", dir.display());
            file.set_len(2 * BLOCK as u64 + 5).unwrap();
            assert_eq!(read_blocks(&file, found.bytes_mut(), BLOCK as u64).unwrap(), BLOCK + 5);
            assert_eq!(read_blocks(&file, found.bytes_mut(), 9 * BLOCK as u64).unwrap(), 0);
        }
    }
}
