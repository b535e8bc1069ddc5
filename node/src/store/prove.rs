//! Proving that a shard is here: all of it is read once, past the page cache, and the pieces asked for once more.

use super::file::HEADER_LEN;
use super::{ShardBytes, ShardReader, Store, StoreError};
use protocol::audit::{ProveError, prove};
use protocol::peer::Pieces;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// The bytes of a shard, in order.
struct Whole {
    bytes: ShardBytes,
    /// How much of the present piece was read.
    read: usize,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.bytes.piece().len() {
            self.bytes.advance().map_err(io::Error::other)?;
            self.read = 0;
        }
        let piece = &self.bytes.piece()[self.read..];
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.read += count;
        Ok(count)
    }
}

impl ShardReader {
    /// Fills the buffer with data from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file().read_exact_at(buffer, HEADER_LEN as u64 + offset)
    }
}

impl Store {
    /// The proof of these pieces; `None`, with a line in the log, where the shard is not there or not whole.
    #[must_use]
    pub fn prove(&self, pieces: &Pieces) -> Option<Vec<u8>> {
        let Pieces { shard, len, groups } = pieces;
        let proof = || -> Result<Vec<u8>, StoreError> {
            let (whole, again) = (self.shard(*shard)?, self.shard(*shard)?);
            if whole.len() != *len {
                return Err(StoreError::Damaged { shard: *shard, what: "it has another length" });
            }
            let whole = Whole { bytes: whole.bytes(0, *len)?, read: 0 };
            let at = |buffer: &mut [u8], offset| again.read_at(buffer, offset);
            prove(*shard, *len, groups, whole, at).map_err(|error| match error {
                ProveError::Io(source) => StoreError::Io { path: again.path().to_owned(), source },
                _ => StoreError::Damaged { shard: *shard, what: "its bytes were altered" },
            })
        };
        proof().inspect_err(|error| tracing::error!(%error, "a shard cannot be proved")).ok()
    }
}
