//! Reading files with holes: what the file system says is a hole is not read.

use super::Content;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Holes that are shorter are taken for the zeros that they read as: each hole ends a chunk, and
/// too many small chunks cost more than the zeros, which compress to nothing.
pub(crate) const HOLE_MIN: u64 = 64 << 10;

/// The first bytes of a file, as many as it had when it was opened.
#[derive(Debug)]
pub(crate) struct SparseFile<'a> {
    file: &'a File,
    at: u64,
    /// Where the next hole begins, or the file ends.
    data_end: u64,
    size: u64,
}

impl<'a> SparseFile<'a> {
    /// Reads `size` bytes; asks for holes only where `blocks` of 512 bytes are less than that.
    pub(crate) fn new(file: &'a File, size: u64, blocks: u64) -> Self {
        let mut content = Self { file, at: 0, data_end: size, size };
        if blocks.saturating_mul(512) < size {
            content.data_end = content.end_of_data();
        }
        content
    }

    /// From here on: where the next hole begins that counts.
    fn end_of_data(&self) -> u64 {
        let mut from = self.at;
        while let Ok(hole) = seek(self.file, SeekFrom::Hole(from)) {
            if hole >= self.size {
                break;
            }
            from = self.end_of_hole(hole);
            if from - hole >= HOLE_MIN {
                return hole;
            }
            if from == hole || from >= self.size {
                break;
            }
        }
        self.size
    }

    fn end_of_hole(&self, hole: u64) -> u64 {
        match seek(self.file, SeekFrom::Data(hole)) {
            Ok(data) => data.clamp(hole, self.size),
            // No data any more.
            Err(Errno::NXIO) => self.size,
            Err(_) => hole,
        }
    }
}

impl Read for SparseFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = (self.data_end - self.at).min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        if read == 0 && most > 0 {
            // Cut off meanwhile: what is not there any more is no hole.
            (self.data_end, self.size) = (self.at, self.at);
        }
        Ok(read)
    }
}

impl Content for SparseFile<'_> {
    fn hole(&mut self) -> io::Result<u64> {
        if self.at < self.data_end || self.at >= self.size {
            return Ok(0);
        }
        let hole = self.at;
        self.at = self.end_of_hole(hole);
        // Filled meanwhile.
        self.data_end = if self.at == hole { self.size } else { self.end_of_data() };
        Ok(self.at - hole)
    }
}

#[cfg(test)]
mod tests;
