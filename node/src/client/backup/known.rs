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

    pub(super) fn index(&self) -> &Index {
        &self.index
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
        self.standings.rely_on(packs.iter().map(|pack| pack.stripe));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::mesh::Mesh;
    use crate::client::{recipients, vault};
    use crate::home::{Home, create_key};
    use protocol::id::{NodeId, SessionId, StripeId};
    use protocol::pack::PackEntry;
    use protocol::placement::Holders;
    use protocol::policy::{Lock, Policy};
    use std::collections::BTreeSet;

    /// A pack with these chunks, which a node has.
    fn placed(name: u8, chunks: &[u8]) -> Placed {
        let entry = |&name: &u8| PackEntry { id: chunk(name), offset: 0, len: 50, plain_len: 33 };
        let pack = IndexedPack {
            stripe: StripeId([name; 32]),
            session: SessionId([3; 32]),
            nonce: [4; 32],
            k: 1,
            shard_len: 128,
            chunks: chunks.iter().map(entry).collect(),
        };
        Placed {
            pack,
            holders: Holders { k: 1, lock: Lock::default(), nodes: vec![NodeId([1; 32])] },
        }
    }

    fn chunk(name: u8) -> ChunkId {
        ChunkId([name; 32])
    }

    #[tokio::test]
    async fn a_snapshot_is_refused_while_something_that_was_sent_has_not_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().into());
        create_key(&home.path("operator.key"), "an operator").unwrap();
        let (_, recipient) = recipients::generate();
        let policy = Policy::survive_one("provider");
        let vault = vault::create(&home, "v", &policy, &[recipient]).unwrap();
        let index = Arc::new(Index::open(&vault.caches()).unwrap());
        let standings =
            Standings::new(&vault, &Arc::new(Mesh::default()), &index, BTreeSet::new()).unwrap();
        let known = Known::new(Arc::clone(&index), Arc::new(standings), false);
        assert!(known.check_all_arrived().is_ok());
        for name in 1..=3 {
            known.send(chunk(name));
            assert!(known.has(chunk(name)).unwrap(), "it is on its way, and not sent twice");
        }
        assert!(matches!(known.check_all_arrived(), Err(ClientError::Unsent(3))));
        known.keep(&[placed(1, &[1, 3])]).unwrap();
        assert!(matches!(known.check_all_arrived(), Err(ClientError::Unsent(1))));
        known.keep(&[placed(2, &[2])]).unwrap();
        assert!(known.check_all_arrived().is_ok());
    }
}
