//! The file of a shard.
//!
//! ```text
//! offset   bytes  what
//! 0        8      "STRWSHRD"
//! 8        1      version = 1
//! 9        3      zero
//! 12       4      length of the data, u32 LE
//! 16       32     the shard's name: BLAKE3 of the data
//! 48       16     first half of the BLAKE3 hash of the 48 bytes before
//! 64       len    the data
//! 64+len   4      length of the note, u32 LE
//! …        16     first half of the BLAKE3 hash of the note
//! …        …      the note: record and receipt, from which the tables can be made again
//! ```

use super::StoreError;
use super::steps::Steps;
use crate::direct::{BLOCK, Blocks, prefer_direct, read_blocks, write_blocks};
use protocol::id::ShardId;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"STRWSHRD";
const VERSION: u8 = 1;
pub(super) const HEADER_LEN: usize = 64;
const NOTE_LEN_MAX: usize = 128 << 10;
/// Bytes of an arriving shard in memory: whole blocks, written at once.
const BUFFER_LEN: usize = 256 << 10;

fn checksum(bytes: &[u8]) -> [u8; 16] {
    let hash = *blake3::hash(bytes).as_bytes();
    std::array::from_fn(|i| hash[i])
}

fn header(shard: ShardId, len: u32) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(MAGIC);
    header[8] = VERSION;
    header[12..16].copy_from_slice(&len.to_le_bytes());
    header[16..48].copy_from_slice(&shard.0);
    let sum = checksum(&header[..48]);
    header[48..].copy_from_slice(&sum);
    header
}

/// A shard that is arriving. Dropped before it has its place, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    len: u32,
    /// Bytes of the data that have arrived.
    arrived: u64,
    /// What is on its way to the file: from `at` on, `filled` bytes.
    buffer: Blocks,
    at: u64,
    filled: usize,
    /// The file's first block, which waits for the header, once the buffer has moved on.
    first: Option<Blocks>,
}

impl Incoming {
    pub(super) fn create(path: PathBuf, len: u32) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io(&path))?;
        let whole = HEADER_LEN + len as usize;
        let incoming = Self {
            path,
            file,
            hasher: blake3::Hasher::new(),
            len,
            arrived: 0,
            buffer: Blocks::new(whole.min(BUFFER_LEN)),
            at: 0,
            filled: HEADER_LEN,
            first: None,
        };
        // A full disk is known before the bytes have crossed the network. File systems that cannot
        // reserve space say so, and the write will tell.
        let reserve = rustix::fs::fallocate(
            &incoming.file,
            rustix::fs::FallocateFlags::KEEP_SIZE,
            0,
            whole as u64,
        );
        if reserve == Err(rustix::io::Errno::NOSPC) {
            return Err(StoreError::Full { free: 0, needed: u64::from(len) });
        }
        prefer_direct(&incoming.file);
        Ok(incoming)
    }

    /// Where the next bytes go: as many as are wanted at once, none when all have arrived. What was put there
    /// counts with [`Incoming::take`].
    pub fn room(&mut self) -> &mut [u8] {
        let left = (u64::from(self.len) - self.arrived) as usize;
        let free = &mut self.buffer.bytes_mut()[self.filled..];
        let wanted = free.len().min(left);
        &mut free[..wanted]
    }

    /// Takes the first `count` bytes of the room.
    pub fn take(&mut self, count: usize) -> Result<(), StoreError> {
        let end = self.filled + count;
        let found = self.arrived + count as u64;
        let Some(bytes) =
            self.buffer.bytes().get(self.filled..end).filter(|_| found <= u64::from(self.len))
        else {
            return Err(StoreError::Length { found, expected: u64::from(self.len) });
        };
        self.hasher.update(bytes);
        (self.arrived, self.filled) = (found, end);
        if end == self.buffer.bytes().len() && found < u64::from(self.len) {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the buffer, which is full, but for the file's first block.
    fn flush(&mut self) -> Result<(), StoreError> {
        let full = self.buffer.bytes();
        let from = if self.at == 0 { BLOCK } else { 0 };
        if self.at == 0 {
            let mut first = Blocks::new(BLOCK);
            first.bytes_mut().copy_from_slice(&full[..BLOCK]);
            self.first = Some(first);
        }
        write_blocks(&self.file, &full[from..], self.at + from as u64)
            .map_err(StoreError::io(&self.path))?;
        self.at += full.len() as u64;
        self.filled = 0;
        Ok(())
    }

    /// The name of what arrived, once all of it has.
    pub fn name(&self) -> Result<ShardId, StoreError> {
        let expected = u64::from(self.len);
        if self.arrived != expected {
            return Err(StoreError::Length { found: self.arrived, expected });
        }
        Ok(ShardId(*self.hasher.finalize().as_bytes()))
    }

    /// Writes the rest, and what stands around the data. The file is complete after that, and not yet synced.
    pub(super) fn complete(&mut self, shard: ShardId, note: &[u8]) -> Result<(), StoreError> {
        let rest = self.filled + 20 + note.len();
        let mut last = Blocks::new(rest);
        let bytes = last.bytes_mut();
        bytes[..self.filled].copy_from_slice(&self.buffer.bytes()[..self.filled]);
        let trailer = &mut bytes[self.filled..];
        trailer[..4].copy_from_slice(&(note.len() as u32).to_le_bytes());
        trailer[4..20].copy_from_slice(&checksum(note));
        trailer[20..20 + note.len()].copy_from_slice(note);
        let first = match &mut self.first {
            Some(first) => first.bytes_mut(),
            None => &mut *bytes,
        };
        first[..HEADER_LEN].copy_from_slice(&header(shard, self.len));
        let end = self.at + rest as u64;
        let written = write_blocks(&self.file, last.bytes(), self.at).and_then(|()| {
            if let Some(first) = &self.first {
                write_blocks(&self.file, first.bytes(), 0)?;
            }
            self.file.set_len(end)
        });
        written.map_err(StoreError::io(&self.path))
    }

    /// Syncs the file and gives it its place.
    pub(super) fn settle(&mut self, to: &Path, steps: &Steps) -> Result<(), StoreError> {
        steps.sync_file(&self.file, &self.path)?;
        steps.place(&self.path, to)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Its place is another name of the file. What remains is looked at at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// A shard that is here.
#[derive(Debug)]
pub struct ShardReader {
    shard: ShardId,
    path: PathBuf,
    file: File,
    len: u32,
}

impl ShardReader {
    pub(super) fn open(path: &Path, shard: ShardId) -> Result<Self, StoreError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(shard));
            }
            Err(source) => return Err(StoreError::Io { path: path.to_owned(), source }),
        };
        let damaged = |what| StoreError::Damaged { shard, what };
        let mut found = [0; HEADER_LEN];
        file.read_exact_at(&mut found, 0).map_err(|_| damaged("it has no header"))?;
        let len = u32::from_le_bytes([found[12], found[13], found[14], found[15]]);
        if found != header(shard, len) {
            return Err(damaged("its header is not that of this shard"));
        }
        let size = file.metadata().map_err(StoreError::io(path))?.len();
        if size < HEADER_LEN as u64 + u64::from(len) {
            return Err(damaged("it is too short"));
        }
        Ok(Self { shard, path: path.to_owned(), file, len })
    }

    /// The name in the header of a file, if that is one.
    pub(super) fn name_of(path: &Path) -> Option<ShardId> {
        let mut found = [0; HEADER_LEN];
        File::open(path).ok()?.read_exact_at(&mut found, 0).ok()?;
        let shard = ShardId(std::array::from_fn(|i| found[16 + i]));
        let len = u32::from_le_bytes(std::array::from_fn(|i| found[12 + i]));
        (found == header(shard, len)).then_some(shard)
    }

    /// Whether all bytes are those that the name stands for.
    pub(super) fn check_bytes(self) -> Result<(), StoreError> {
        let (shard, len) = (self.shard, self.len);
        let mut hasher = blake3::Hasher::new();
        let mut bytes = self.bytes(0, len)?;
        loop {
            bytes.advance()?;
            if bytes.piece().is_empty() {
                break;
            }
            hasher.update(bytes.piece());
        }
        let right = *hasher.finalize().as_bytes() == shard.0;
        right.then_some(()).ok_or(StoreError::Damaged { shard, what: "its bytes were altered" })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the data in bytes.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no data.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads `len` bytes of the data from `offset` on, piece by piece.
    pub fn bytes(self, offset: u32, len: u32) -> Result<ShardBytes, StoreError> {
        let end = u64::from(offset) + u64::from(len);
        if end > u64::from(self.len) {
            return Err(StoreError::Length { found: u64::from(self.len), expected: end });
        }
        if len as usize >= BUFFER_LEN {
            prefer_direct(&self.file);
        }
        Ok(ShardBytes {
            from: HEADER_LEN as u64 + u64::from(offset),
            end: HEADER_LEN as u64 + end,
            blocks: Blocks::new(BUFFER_LEN.min(len as usize + BLOCK)),
            piece: 0..0,
            reader: self,
        })
    }

    /// What was written behind the data.
    pub fn note(&self) -> Result<Vec<u8>, StoreError> {
        let damaged = |what| StoreError::Damaged { shard: self.shard, what };
        let end = HEADER_LEN as u64 + u64::from(self.len);
        let mut head = [0; 20];
        self.file.read_exact_at(&mut head, end).map_err(|_| damaged("it has no note"))?;
        let (len, sum) = head.split_at(4);
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        if len > NOTE_LEN_MAX {
            return Err(damaged("its note is too long"));
        }
        let mut note = vec![0; len];
        self.file.read_exact_at(&mut note, end + 20).map_err(|_| damaged("its note is cut off"))?;
        if checksum(&note)[..] != *sum {
            return Err(damaged("its note was altered"));
        }
        Ok(note)
    }
}

/// Bytes of a shard on their way out, in order. Many at once are read past the page cache.
#[derive(Debug)]
pub struct ShardBytes {
    reader: ShardReader,
    blocks: Blocks,
    /// Where in `blocks` the present piece is.
    piece: Range<usize>,
    /// Where in the file the next piece begins, and where the last one ends.
    from: u64,
    end: u64,
}

impl ShardBytes {
    /// Reads the next piece; at the end that is an empty one.
    pub fn advance(&mut self) -> Result<(), StoreError> {
        let skip = (self.from % BLOCK as u64) as usize;
        let room = self.blocks.bytes_mut();
        let wanted = (room.len() - skip).min((self.end - self.from) as usize);
        let blocks = &mut room[..(skip + wanted).next_multiple_of(BLOCK)];
        let found = read_blocks(&self.reader.file, blocks, self.from - skip as u64)
            .map_err(StoreError::io(&self.reader.path))?;
        if found < skip + wanted {
            let shard = self.reader.shard;
            return Err(StoreError::Damaged { shard, what: "it became shorter" });
        }
        self.from += wanted as u64;
        self.piece = skip..skip + wanted;
        Ok(())
    }

    /// The present piece.
    #[must_use]
    pub fn piece(&self) -> &[u8] {
        &self.blocks.bytes()[self.piece.clone()]
    }
}
