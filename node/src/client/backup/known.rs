//! Which chunks need not be sent: those that the index has, and those on their way.

use crate::client::Result;
use crate::client::index::Index;
use protocol::id::ChunkId;
use protocol::index::IndexedPack;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of chunks, for the source's side and for whoever lists what was placed.
#[derive(Debug)]
pub(super) struct Known {
    index: Arc<Index>,
    /// Sent in this run, and in no index yet: bounded by the packs on their way.
    sent: Mutex<HashSet<ChunkId>>,
}

impl Known {
    pub(super) fn new(index: Arc<Index>) -> Self {
        Self { index, sent: Mutex::default() }
    }

    fn sent(&self) -> MutexGuard<'_, HashSet<ChunkId>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the chunk need not be sent.
    pub(super) fn has(&self, chunk: ChunkId) -> Result<bool> {
        // In this order: what leaves `sent` is in the index before that.
        Ok(self.sent().contains(&chunk) || self.index.find(chunk)?.is_some())
    }

    /// The chunk is on its way.
    pub(super) fn send(&self, chunk: ChunkId) {
        self.sent().insert(chunk);
    }

    /// Holders have these packs: from now on they are known, whatever becomes of this process.
    pub(super) fn keep(&self, packs: &[IndexedPack]) -> Result<()> {
        self.index.add_pending(packs)?;
        let mut sent = self.sent();
        for entry in packs.iter().flat_map(|pack| &pack.chunks) {
            sent.remove(&entry.id);
        }
        Ok(())
    }
}
