//! Which chunks a snapshot needs: its item stream from beginning to end, without writing anything.
//!
//! Snapshots of one source share most of their item streams. A stretch that was followed once, from the same state of the
//! reader, and in which nothing was found to be wrong is not read again.

use super::index::Index;
use super::ledger::Logged;
use super::packs::Packs;
use super::{ClientError, Result};
use crate::cli::progress::Counters;
use protocol::id::ChunkId;
use protocol::item::{ChunkRef, Item, ItemReader, Root, decode_refs};
use protocol::log::{Body, SnapshotPart};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Chunks of the item stream read ahead.
const AHEAD: usize = 4;
/// Stretches remembered: 6 GB of item streams.
const KNOWN_MAX: usize = 20_000;
/// A stretch that ends in the middle of a longer item is not remembered.
const WAITING_MAX: usize = 4 << 10;

/// Where a snapshot's item stream begins.
pub(super) fn root_of(packs: &Packs, snapshot: &Logged) -> Result<Root> {
    let Body::Snapshot { session, .. } = &snapshot.entry.body else {
        return Err(ClientError::NoSnapshot(snapshot.id.to_string()));
    };
    let key = packs.session(*session)?.root_key();
    let plain = SnapshotPart::Root.open(&key, &snapshot.entry).map_err(content)?;
    Root::decode(&plain).map_err(content)
}

fn content(error: impl std::fmt::Display) -> ClientError {
    ClientError::Content(error.to_string())
}

/// What a stretch of an item stream led to.
struct After {
    reader: ItemReader,
    items: u64,
    bytes: u64,
}

/// Follows item streams.
pub(super) struct Walker {
    packs: Arc<Packs>,
    index: Arc<Index>,
    progress: Arc<Counters>,
    /// By where the reader was, and which chunk came.
    known: HashMap<(ItemReader, ChunkId), After>,
    /// The chunks of these stretches.
    followed: HashSet<ChunkId>,
}

/// Is shown a chunk, and says whether all is well with it.
pub(super) type Each<'a> = dyn FnMut(&ChunkRef) -> Result<bool> + Send + 'a;

impl Walker {
    pub(super) fn new(packs: Arc<Packs>, index: Arc<Index>, progress: Arc<Counters>) -> Self {
        Self { packs, index, progress, known: HashMap::new(), followed: HashSet::new() }
    }

    /// Shows `each` every chunk that a snapshot needs, those of the item stream first, and not those again which it found
    /// to be well before. An error means that the stream cannot be read to its end, so that nobody knows what else it
    /// needs.
    pub(super) async fn walk(&mut self, root: Root, each: &mut Each<'_>) -> Result<()> {
        let mut refs = root.chunks;
        show(&refs, each)?;
        for _ in 0..root.depth {
            let mut list = Vec::new();
            for chunk in refs {
                list.extend(self.packs.read_chunk(&self.index, chunk).await?);
            }
            refs = decode_refs(&list).map_err(content)?;
            show(&refs, each)?;
        }
        let mut refs = VecDeque::from(refs);
        let mut coming: BTreeMap<ChunkId, JoinHandle<Result<Vec<u8>>>> = BTreeMap::new();
        let mut reader = ItemReader::default();
        loop {
            for &chunk in refs.iter().take(AHEAD) {
                if !self.followed.contains(&chunk.id) {
                    coming.entry(chunk.id).or_insert_with(|| self.fetch(chunk));
                }
            }
            let Some(chunk) = refs.pop_front() else { break };
            let here = (reader.clone(), chunk.id);
            if let Some(after) = self.known.get(&here) {
                reader.clone_from(&after.reader);
                self.progress.bytes(after.bytes);
                (0..after.items).for_each(|_| self.progress.file());
                continue;
            }
            let coming = coming.remove(&chunk.id).unwrap_or_else(|| self.fetch(chunk));
            reader.push(&coming.await.map_err(content)??);
            let stretch = tokio::task::block_in_place(|| self.follow(&mut reader, each))?;
            if let Some(after) = stretch {
                if self.known.len() >= KNOWN_MAX {
                    self.known.clear();
                    self.followed.clear();
                }
                self.known.insert(here, after);
                self.followed.insert(chunk.id);
            }
        }
        reader.finish().map_err(content)
    }

    fn fetch(&self, chunk: ChunkRef) -> JoinHandle<Result<Vec<u8>>> {
        let (packs, index) = (Arc::clone(&self.packs), Arc::clone(&self.index));
        tokio::spawn(async move { packs.read_chunk(&index, chunk).await })
    }

    /// Follows what the reader has; `None` when something was found that is to be found again.
    fn follow(&self, reader: &mut ItemReader, each: &mut Each<'_>) -> Result<Option<After>> {
        let (mut is_well, mut items, mut bytes) = (true, 0, 0);
        while let Some(item) = reader.next_item().map_err(content)? {
            if let Item::File { chunks, .. } | Item::Extent { chunks, .. } = &item {
                is_well &= show(chunks, each)?;
                let listed = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
                self.progress.bytes(listed);
                bytes += listed;
            }
            if item.meta().is_some() {
                self.progress.file();
                items += 1;
            }
        }
        let waiting = reader.settle();
        let is_kept = is_well && waiting <= WAITING_MAX;
        Ok(is_kept.then(|| After { reader: reader.clone(), items, bytes }))
    }
}

/// Whether all is well with all of them; each is shown.
fn show(chunks: &[ChunkRef], each: &mut Each<'_>) -> Result<bool> {
    let mut is_well = true;
    for chunk in chunks {
        is_well &= each(chunk)?;
    }
    Ok(is_well)
}
