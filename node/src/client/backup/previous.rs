//! What was seen of a source, kept to compare the next backup with: its item stream, and whatever the source itself wants
//! to know again. Both are one file, so that what belongs to two backups can never be read as one.
//!
//! ```text
//! file = items state length of items(u64 LE) length of state(u64 LE) "strewnp1"
//! ```
//! A process writes under a name of its own; the file gets its place when the snapshot is announced, whole and durable.
//! One that is cut short or of another format is as good as none: files are read again.

use super::sink::stopped;
use crate::client::Result;
use crate::source::SinkError;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Take, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"strewnp1";
const TRAILER_LEN: u64 = 24;
/// Longest state that is read, in bytes.
const STATE_LEN_MAX: u64 = 64 << 20;

/// The file while it is written.
#[derive(Debug)]
pub(super) struct Writing {
    path: PathBuf,
    out: BufWriter<File>,
    items_len: u64,
}

impl Writing {
    pub(super) fn begin(previous: &Path) -> Result<Self> {
        if let Some(dir) = previous.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let path = previous.with_extension(format!("{}.new", std::process::id()));
        let out = BufWriter::new(File::create(&path)?);
        Ok(Self { path, out, items_len: 0 })
    }

    pub(super) fn items(&mut self, bytes: &[u8]) -> std::result::Result<(), SinkError> {
        self.items_len += bytes.len() as u64;
        self.out.write_all(bytes).map_err(stopped)
    }

    /// Puts the state behind the items. When this returns all of it is durable, under its own name.
    pub(super) fn finish(mut self, state: &[u8]) -> Result<Written> {
        self.out.write_all(state)?;
        self.out.write_all(&self.items_len.to_le_bytes())?;
        self.out.write_all(&(state.len() as u64).to_le_bytes())?;
        self.out.write_all(MAGIC)?;
        self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        Ok(Written(self.path))
    }
}

/// The file when it is complete.
#[derive(Debug)]
pub(super) struct Written(PathBuf);

impl Written {
    /// Makes it what the next backup is compared with.
    pub(super) fn keep(&self, previous: &Path) -> Result<()> {
        std::fs::rename(&self.0, previous)?;
        let dir = previous.parent().unwrap_or(Path::new("."));
        Ok(File::open(dir)?.sync_all()?)
    }
}

/// The item stream and the state of the last snapshot, if there is one that can be read.
pub(super) fn open(path: &Path) -> Option<(Take<BufReader<File>>, Vec<u8>)> {
    let mut file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.checked_sub(TRAILER_LEN)?)).ok()?;
    let mut trailer = [0; TRAILER_LEN as usize];
    file.read_exact(&mut trailer).ok()?;
    let number = |at: usize| {
        let bytes: [u8; 8] = std::array::from_fn(|i| trailer[at + i]);
        u64::from_le_bytes(bytes)
    };
    let (items_len, state_len) = (number(0), number(8));
    let fits = items_len.checked_add(state_len)?.checked_add(TRAILER_LEN)? == len;
    if &trailer[16..] != MAGIC || !fits || state_len > STATE_LEN_MAX {
        return None;
    }
    let mut state = vec![0; state_len as usize];
    file.seek(SeekFrom::Start(items_len)).ok()?;
    file.read_exact(&mut state).ok()?;
    file.seek(SeekFrom::Start(0)).ok()?;
    Some((BufReader::new(file).take(items_len), state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Option<(Vec<u8>, Vec<u8>)> {
        let (mut items, state) = open(path)?;
        let mut bytes = Vec::new();
        items.read_to_end(&mut bytes).unwrap();
        Some((bytes, state))
    }

    #[test]
    fn items_and_state_come_back_together_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("previous/name");
        assert_eq!(read(&path), None);
        let mut first = Writing::begin(&path).unwrap();
        first.items(b"one ").unwrap();
        first.items(b"two").unwrap();
        first.finish(b"state").unwrap().keep(&path).unwrap();
        assert_eq!(read(&path), Some((b"one two".to_vec(), b"state".to_vec())));
        // One that does not get to its end changes nothing.
        let mut second = Writing::begin(&path).unwrap();
        second.items(b"three").unwrap();
        let second = second.finish(b"other").unwrap();
        assert_eq!(read(&path), Some((b"one two".to_vec(), b"state".to_vec())));
        second.keep(&path).unwrap();
        assert_eq!(read(&path), Some((b"three".to_vec(), b"other".to_vec())));
        assert_eq!(std::fs::read_dir(dir.path().join("previous")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_was_cut_or_altered_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let mut writing = Writing::begin(&path).unwrap();
        writing.items(b"items").unwrap();
        writing.finish(b"state").unwrap().keep(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(read(&path), None, "{len}");
        }
        for at in 10..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 0x80;
            std::fs::write(&path, &altered).unwrap();
            assert_eq!(read(&path), None, "{at}");
        }
    }
}
