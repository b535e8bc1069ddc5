//! Which chunks need not be sent: those that lie where the policy asks, and those on their way.

use super::place::Placed;
use super::standing::Standings;
use crate::client::index::Index;
use crate::client::{ClientError, Result};
use protocol::id::ChunkId;
use protocol::index::IndexedPack;
use protocol::placement::Standing;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of chunks, for the source's side and for whoever lists what was placed.
#[derive(Debug)]
pub(super) struct Known {
    index: Arc<Index>,
    standings: Arc<Standings>,
    /// Whether what falls short of the policy would be no better when it is sent again.
    takes_less: bool,
    /// Whether the snapshot needs something that falls short.
    has_less: AtomicBool,
    /// Sent in this run, and in no index yet: bounded by the packs on their way.
    sent: Mutex<HashSet<ChunkId>>,
}

impl Known {
    pub(super) fn new(index: Arc<Index>, standings: Arc<Standings>, takes_less: bool) -> Self {
        let (has_less, sent) = (AtomicBool::new(false), Mutex::default());
        Self { index, standings, takes_less, has_less, sent }
    }

    fn sent(&self) -> MutexGuard<'_, HashSet<ChunkId>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the chunk need not be sent.
    pub(super) fn has(&self, chunk: ChunkId) -> Result<bool> {
        // In this order: what leaves `sent` is in the index before that.
        if self.sent().contains(&chunk) {
            return Ok(true);
        }
        let Some(standing) = self.standings.of(chunk)? else { return Ok(false) };
        let is_enough = standing.is_enough(self.takes_less);
        if is_enough && standing != Standing::Good {
            self.has_less.store(true, Ordering::Relaxed);
        }
        Ok(is_enough)
    }

    /// Whether something was called known that falls short of the policy.
    pub(super) fn has_less(&self) -> bool {
        self.has_less.load(Ordering::Relaxed)
    }

    /// The chunk is on its way.
    pub(super) fn send(&self, chunk: ChunkId) {
        self.sent().insert(chunk);
    }

    /// Holders have these packs: from now on they are known, whatever becomes of this process.
    pub(super) fn keep(&self, placed: &[Placed]) -> Result<()> {
        let packs: Vec<IndexedPack> = placed.iter().map(|placed| placed.pack.clone()).collect();
        let holders = placed.iter().map(|placed| (placed.pack.stripe, placed.holders.clone()));
        self.index.add_pending(&packs, &holders.collect::<Vec<_>>())?;
        let mut sent = self.sent();
        for entry in packs.iter().flat_map(|pack| &pack.chunks) {
            sent.remove(&entry.id);
        }
        Ok(())
    }

    /// Checks that everything that was sent has arrived: only then may a snapshot say so.
    pub(super) fn check_all_arrived(&self) -> Result<()> {
        match self.sent().len() {
            0 => Ok(()),
            lost => Err(ClientError::Unsent(lost)),
        }
    }
}
