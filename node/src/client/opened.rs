//! Chunks that were opened lately: who reads on, reads again, or reads a snapshot that shares them with another one
//! finds them here. Neighbours in a pack come in one request.

mod ahead;

pub(super) use ahead::Ahead;

use crate::client::index::Index;
use crate::client::packs::{Need, Packs};
use crate::client::{ClientError, Result};
use futures::StreamExt;
use protocol::id::ChunkId;
use protocol::item::ChunkRef;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, SetOnce};

/// Bytes of chunks that are kept for who looks here and there,
pub(super) const KEPT_LOOKING: usize = 64 << 20;
/// and for who only follows item streams: more than is fetched ahead.
pub(super) const KEPT_FOLLOWING: usize = 20 << 20;
/// Packs being read at once, 16 MiB each.
const PACKS_AT_ONCE: usize = 4;

/// A chunk that is here or on its way; nothing when it could not be had together with its neighbours.
type Cell = Arc<SetOnce<Option<Arc<Vec<u8>>>>>;

/// Opens chunks, and keeps the last ones.
pub(super) struct Opened {
    packs: Arc<Packs>,
    index: Arc<Index>,
    lately: Mutex<Lately>,
    reads: Semaphore,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({} bytes)", self.lately().len)
    }
}

/// Somebody waits for this chunk: he hears of it in any case.
struct Wanted {
    chunk: ChunkRef,
    cell: Cell,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        // It is set already unless it could not be read.
        let _ = self.cell.set(None);
    }
}

impl Opened {
    pub(super) fn new(packs: Arc<Packs>, index: Arc<Index>, kept: usize) -> Arc<Self> {
        let lately = Mutex::new(Lately::new(kept));
        Arc::new(Self { packs, index, lately, reads: Semaphore::new(PACKS_AT_ONCE) })
    }

    /// A chunk's bytes, as many as the reference says.
    pub(super) async fn get(self: &Arc<Self>, chunk: ChunkRef) -> Result<Arc<Vec<u8>>> {
        self.expect([chunk]);
        let cell = self.lately().find(chunk).0;
        let bytes = if let Some(bytes) = cell.wait().await {
            Arc::clone(bytes)
        } else {
            // Alone it may be read, or the reason is its own.
            self.lately().forget(chunk.id, &cell);
            Arc::new(self.packs.read_chunk(&self.index, chunk).await?)
        };
        if bytes.len() != chunk.len as usize {
            return Err(ClientError::Content(format!("chunk {} has another length", chunk.id)));
        }
        Ok(bytes)
    }

    /// Begins to fetch chunks that will be needed; returns at once.
    pub(super) fn expect(self: &Arc<Self>, chunks: impl IntoIterator<Item = ChunkRef>) {
        let mut wanted = Vec::new();
        {
            let mut lately = self.lately();
            for chunk in chunks {
                let (cell, is_new) = lately.find(chunk);
                if is_new {
                    wanted.push(Wanted { chunk, cell });
                }
            }
        }
        if !wanted.is_empty() {
            let opened = Arc::clone(self);
            tokio::spawn(async move { opened.fetch(wanted).await });
        }
    }

    /// Reads chunks, pack by pack. What cannot be read is left to who waits for it.
    async fn fetch(&self, wanted: Vec<Wanted>) {
        let mut packs: BTreeMap<u64, Vec<Need<Wanted>>> = BTreeMap::new();
        for what in wanted {
            if let Ok(Some(location)) = self.index.find(what.chunk.id) {
                let need = Need { chunk: what.chunk.id, location, what };
                packs.entry(location.pack).or_default().push(need);
            }
        }
        let infos = packs.keys().map(|&pack| self.index.pack(pack));
        let stripes: Vec<_> = infos.flatten().map(|info| info.stripe).collect();
        // Whoever reads a pack asks for its record if it is not here then.
        let _ = self.packs.find_records(&stripes).await;
        let reads = packs.into_iter().map(|(pack, needs)| async move {
            let _permit = self.reads.acquire().await;
            let take = |need: &Need<Wanted>, plain: &[u8]| {
                let _ = need.what.cell.set(Some(Arc::new(plain.to_vec())));
                Ok(())
            };
            if let Err(error) = self.packs.read_chunks(&self.index, pack, &needs, take).await {
                tracing::debug!(%error, "chunks that were to be read together are read one by one");
            }
        });
        futures::stream::iter(reads).for_each_concurrent(PACKS_AT_ONCE, |read| read).await;
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chunks that were asked for last.
struct Lately {
    cells: HashMap<ChunkId, (u64, ChunkRef, Cell)>,
    /// By when they were asked for.
    order: BTreeMap<u64, ChunkId>,
    clock: u64,
    /// Bytes in them.
    len: usize,
    len_max: usize,
}

impl Lately {
    fn new(len_max: usize) -> Self {
        Self { cells: HashMap::new(), order: BTreeMap::new(), clock: 0, len: 0, len_max }
    }

    /// The chunk's cell, and whether it is new: then somebody must fill it.
    fn find(&mut self, chunk: ChunkRef) -> (Cell, bool) {
        self.clock += 1;
        if let Some((asked, _, cell)) = self.cells.get_mut(&chunk.id) {
            self.order.remove(&std::mem::replace(asked, self.clock));
            self.order.insert(self.clock, chunk.id);
            return (Arc::clone(cell), false);
        }
        let cell = Cell::default();
        self.cells.insert(chunk.id, (self.clock, chunk, Arc::clone(&cell)));
        self.order.insert(self.clock, chunk.id);
        self.len += chunk.len as usize;
        while self.len > self.len_max
            && self.cells.len() > 1
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some((_, chunk, _)) = self.cells.remove(&oldest) {
                self.len -= chunk.len as usize;
            }
        }
        (cell, true)
    }

    /// Forgets a chunk that did not come; another cell of that name stays.
    fn forget(&mut self, id: ChunkId, cell: &Cell) {
        if self.cells.get(&id).is_some_and(|(_, _, kept)| Arc::ptr_eq(kept, cell))
            && let Some((asked, chunk, _)) = self.cells.remove(&id)
        {
            self.order.remove(&asked);
            self.len -= chunk.len as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: u8) -> ChunkRef {
        ChunkRef { id: ChunkId([name; 32]), len: 10 }
    }

    #[test]
    fn what_was_asked_for_last_is_kept() {
        let mut lately = Lately::new(30);
        for name in [1, 2, 3, 1, 4] {
            lately.find(chunk(name));
        }
        assert_eq!(lately.len, 30);
        let mut is_new = |name| lately.find(chunk(name)).1;
        assert!(!is_new(1) && !is_new(3) && !is_new(4) && is_new(2));
        assert_eq!((lately.cells.len(), lately.order.len(), lately.len), (3, 3, 30));
        let large = ChunkRef { len: 1000, ..chunk(9) };
        assert!(lately.find(large).1 && !lately.find(large).1, "what is needed now is kept");
        assert_eq!(lately.len, 1000);
    }

    #[test]
    fn what_failed_is_forgotten_and_nothing_else() {
        let mut lately = Lately::new(30);
        let (cell, _) = lately.find(chunk(1));
        lately.forget(chunk(2).id, &cell);
        assert!(!lately.find(chunk(1)).1);
        lately.forget(chunk(1).id, &cell);
        let (other, is_new) = lately.find(chunk(1));
        assert!(is_new && lately.len == 10);
        lately.forget(chunk(1).id, &cell);
        assert!(Arc::ptr_eq(&lately.find(chunk(1)).0, &other));
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let cell = Cell::default();
        drop(Wanted { chunk: chunk(1), cell: Arc::clone(&cell) });
        assert_eq!(cell.wait().await, &None);
        let cell = Cell::default();
        let wanted = Wanted { chunk: chunk(1), cell: Arc::clone(&cell) };
        cell.set(Some(Arc::new(vec![1]))).unwrap();
        drop(wanted);
        assert_eq!(cell.wait().await.as_deref(), Some(&vec![1]));
    }
}
