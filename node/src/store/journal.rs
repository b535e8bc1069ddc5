//! The journal: a second copy, outside the database, of all rows that the shards' files do not tell —
//! logs, papers, devices, members, records that were replaced. Written before the transaction, in the same group;
//! read only when the database was lost or set back.
//!
//! ```text
//! header   "STRWJRNL", version = 1 (u8), 7 zero, id (u64 LE): the commit at which it was begun
//! frame    "ROWS", length of the rows (u32 LE), number of the commit (u64 LE),
//!          BLAKE3 of these 16 bytes (first 8), BLAKE3 of the rows (first 16), the rows
//! row      length of the key (u16 LE), of the value (u32 LE; all ones: removed), key, value
//! ```
//! The database says how long the journal is, see `state`: what stands behind that was never acknowledged,
//! unless the database is older than it should be.

use super::state::{self, Journaled, Row, STATE};
use super::steps::Steps;
use super::{StoreError, state_error};
use protocol::peer::{Table, Write, is_first_record};
use redb::{Database, ReadableDatabase};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 16] = b"STRWJRNL\x01\0\0\0\0\0\0\0";
const HEADER_LEN: u64 = 24;
const FRAME_MAGIC: &[u8; 4] = b"ROWS";
const FRAME_HEAD_LEN: usize = 40;
/// Most bytes of rows in a frame, unless one row alone is longer.
const FRAME_LEN: usize = 1 << 20;
/// Most that a frame may claim: rows are at most `VALUE_LEN_MAX`, and a batch has few of these.
const FRAME_LEN_MAX: usize = 64 << 20;
/// A journal so much longer than what it tells is written anew at a start.
const LENGTH_FREE: u64 = 64 << 20;
const REMOVED: u32 = u32::MAX;

pub(super) struct Journal {
    path: PathBuf,
    file: File,
    id: u64,
    len: u64,
    /// An append failed and could not be taken back: nothing may be appended behind it.
    broken: bool,
}

/// Rows of one frame, and the commit that they belong to.
pub(super) struct Frame {
    pub(super) commits: u64,
    pub(super) end: u64,
    bytes: Vec<u8>,
}

fn half<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let hash = *blake3::hash(bytes).as_bytes();
    std::array::from_fn(|i| hash[i])
}

fn add_row(rows: &mut Vec<u8>, (key, value): &Row<'_>) {
    rows.extend_from_slice(&(key.len() as u16).to_le_bytes());
    rows.extend_from_slice(&value.map_or(REMOVED, |value| value.len() as u32).to_le_bytes());
    rows.extend_from_slice(key);
    rows.extend_from_slice(value.unwrap_or_default());
}

fn add_frame(to: &mut Vec<u8>, rows: &[u8], commits: u64) {
    let mut head = Vec::with_capacity(FRAME_HEAD_LEN);
    head.extend_from_slice(FRAME_MAGIC);
    head.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    head.extend_from_slice(&commits.to_le_bytes());
    let sum: [u8; 8] = half(&head);
    head.extend_from_slice(&sum);
    head.extend_from_slice(&half::<16>(rows));
    to.extend_from_slice(&head);
    to.extend_from_slice(rows);
}

/// Whether a change needs its second copy. That a record goes with its shard does not: the shard, put again, brings its record
/// along in its file, which is read before the journal is.
fn is_kept(write: &Write) -> bool {
    let goes = write.table == Table::Record && write.value.is_none();
    !write.table.is_told_by_shards() && !goes
}

/// Whether a row has its second copy here.
fn is_journaled(key: &[u8]) -> bool {
    let others = [Table::Held, Table::Usage, Table::Life, Table::Tally].map(|table| table as u8);
    key.first().is_some_and(|table| *table != 0 && !others.contains(table))
}

impl Frame {
    /// Its rows, as far as they are rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (key_len, after) = rest.split_first_chunk::<2>()?;
            let (value_len, after) = after.split_first_chunk::<4>()?;
            let (key, after) = after.split_at_checked(u16::from_le_bytes(*key_len).into())?;
            let value_len = u32::from_le_bytes(*value_len);
            if value_len == REMOVED {
                rest = after;
                return Some((key.to_vec(), None));
            }
            let (value, after) = after.split_at_checked(value_len as usize)?;
            rest = after;
            Some((key.to_vec(), Some(value)))
        })
        .filter(|(key, _)| is_journaled(key))
    }
}

impl Journal {
    /// The journal in `dir`; `None` when there is none or it is not one.
    pub(super) fn open(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join("journal");
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(&path)(error)),
        };
        let len = file.metadata().map_err(StoreError::io(&path))?.len();
        let mut header = [0; HEADER_LEN as usize];
        if file.read_exact_at(&mut header, 0).is_err() || header[..16] != *MAGIC {
            return Ok(None);
        }
        let id = u64::from_le_bytes(std::array::from_fn(|i| header[16 + i]));
        Ok(Some(Self { path, file, id, len, broken: false }))
    }

    /// Writes a journal anew from the tables. The database is told with the next commit, see
    /// [`Journal::journaled`]; until then the old length there does not fit, and it is written anew once more.
    pub(super) fn create(
        dir: &Path,
        state: &Database,
        steps: &Steps,
        commits: u64,
    ) -> Result<Self, StoreError> {
        let (new, path) = (dir.join("journal.new"), dir.join("journal"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(StoreError::io(&new))?;
        let mut journal = Self { path: new, file, id: commits, len: 0, broken: false };
        journal.write([&MAGIC[..], &commits.to_le_bytes()].concat().as_slice())?;
        let mut rows = Vec::new();
        let mut flush = |rows: &mut Vec<u8>| {
            let mut frames = Vec::with_capacity(FRAME_HEAD_LEN + rows.len());
            add_frame(&mut frames, rows, commits);
            rows.clear();
            journal.write(&frames)
        };
        let read = state.begin_read().map_err(state_error)?;
        let table = read.open_table(STATE).map_err(state_error)?;
        for row in table.range::<&[u8]>(..).map_err(state_error)? {
            let (key, value) = row.map_err(state_error)?;
            let (key, value) = (key.value(), value.value());
            let is_record = key.first() == Some(&(Table::Record as u8));
            if is_journaled(key) && !(is_record && is_first_record(value)) {
                add_row(&mut rows, &(key.to_vec(), Some(value)));
            }
            if rows.len() >= FRAME_LEN {
                flush(&mut rows)?;
            }
        }
        if !rows.is_empty() {
            flush(&mut rows)?;
        }
        steps.sync_file(&journal.file, &journal.path)?;
        fs::rename(&journal.path, &path).map_err(StoreError::io(&path))?;
        steps.sync_folder(dir)?;
        journal.path = path;
        Ok(journal)
    }

    /// What the database should say of it.
    pub(super) fn journaled(&self) -> Journaled {
        Journaled { id: self.id, len: self.len }
    }

    /// Whether the tables of `state` are those that this journal goes with.
    pub(super) fn fits(&self, journaled: Option<Journaled>) -> bool {
        journaled.is_some_and(|known| known.id == self.id && known.len <= self.len)
    }

    /// Whether it is much longer than what it tells can be.
    pub(super) fn is_overgrown(&self, state_len: u64) -> bool {
        self.len > LENGTH_FREE.saturating_add(state_len)
    }

    /// Where its first frame is.
    pub(super) fn begin(&self) -> u64 {
        HEADER_LEN
    }

    /// Whether there is anything in it.
    pub(super) fn tells(&self) -> bool {
        self.frames(HEADER_LEN).next().is_some()
    }

    /// The last commit of those that the tables cannot have seen as they are; 0 where there is none.
    pub(super) fn commits_after(&self, journaled: Option<Journaled>) -> u64 {
        let late = self.frames_after(journaled).flatten().map(|frame| frame.commits);
        late.max().unwrap_or(0)
    }

    /// What stands behind the end that the tables know; all of it where they know another journal or none.
    /// Damaged frames are `None`.
    pub(super) fn frames_after(
        &self,
        journaled: Option<Journaled>,
    ) -> impl Iterator<Item = Option<Frame>> + '_ {
        let known = journaled.filter(|_| self.fits(journaled));
        self.frames(known.map_or(HEADER_LEN, |known| known.len))
    }

    fn frames(&self, mut at: u64) -> impl Iterator<Item = Option<Frame>> + '_ {
        std::iter::from_fn(move || {
            let (end, frame) = self.frame(at)?;
            at = end;
            Some(frame)
        })
    }

    /// The frame at an offset and where it ends: `None` where no frame begins, no frame when its rows
    /// were altered.
    fn frame(&self, at: u64) -> Option<(u64, Option<Frame>)> {
        let mut head = [0; FRAME_HEAD_LEN];
        self.file.read_exact_at(&mut head, at).ok()?;
        let len = u32::from_le_bytes(std::array::from_fn(|i| head[4 + i])) as usize;
        let commits = u64::from_le_bytes(std::array::from_fn(|i| head[8 + i]));
        let sound = head[..4] == *FRAME_MAGIC && head[16..24] == half::<8>(&head[..16]);
        let end = at + FRAME_HEAD_LEN as u64 + len as u64;
        if !sound || len > FRAME_LEN_MAX || end > self.len {
            return None;
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at + FRAME_HEAD_LEN as u64).ok()?;
        let intact = half::<16>(&bytes) == head[24..];
        Some((end, intact.then_some(Frame { commits, end, bytes })))
    }

    /// Appends the rows that need a second copy, and syncs them. What the database is to say then, if
    /// there were any.
    pub(super) fn append<'a>(
        &mut self,
        steps: &Steps,
        batches: impl Iterator<Item = &'a [Write]>,
        commits: u64,
    ) -> Result<Option<Journaled>, StoreError> {
        let mut frames = Vec::new();
        for writes in batches {
            let mut rows = Vec::new();
            for write in writes.iter().filter(|write| is_kept(write)) {
                add_row(&mut rows, &state::row_of(write));
            }
            if !rows.is_empty() {
                add_frame(&mut frames, &rows, commits);
            }
        }
        if frames.is_empty() {
            return Ok(None);
        }
        if self.broken {
            return Err(StoreError::State(
                "its journal cannot be written: restart the node".into(),
            ));
        }
        self.write(&frames)?;
        steps.sync_file(&self.file, &self.path)?;
        Ok(Some(self.journaled()))
    }

    /// Takes back what stands behind `len`.
    pub(super) fn cut(&mut self, len: u64) -> Result<(), StoreError> {
        let cut = self.file.set_len(len).and_then(|()| self.file.sync_all());
        self.broken = cut.is_err();
        self.len = len;
        cut.map_err(StoreError::io(&self.path))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, self.len).map_err(StoreError::io(&self.path))?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}
