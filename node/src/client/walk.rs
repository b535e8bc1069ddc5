//! Which chunks a snapshot needs: its item stream from beginning to end, without writing anything.
//!
//! Snapshots of one source share most of their item streams. A stretch that was followed once, from the same state of the
//! reader, and in which nothing was found to be wrong is not read again.

use super::Result;
use super::index::Index;
use super::items::{Items, Stream};
use super::opened::{KEPT_FOLLOWING, Opened};
use super::packs::Packs;
use crate::cli::progress::Counters;
use protocol::id::ChunkId;
use protocol::item::{ChunkRef, Item, ItemReader, Root};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Stretches remembered: 6 GB of item streams.
const KNOWN_MAX: usize = 20_000;
/// A stretch that ends in the middle of a longer item is not remembered.
const WAITING_MAX: usize = 4 << 10;

/// What a stretch of an item stream led to.
struct After {
    reader: ItemReader,
    items: u64,
    bytes: u64,
}

/// Follows item streams.
pub(super) struct Walker {
    opened: Arc<Opened>,
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
        let opened = Opened::new(packs, index, KEPT_FOLLOWING);
        Self { opened, progress, known: HashMap::new(), followed: HashSet::new() }
    }

    /// Shows `each` every chunk that a snapshot needs, those of the item stream first, and not those again which it found
    /// to be well before. An error means that the stream cannot be read to its end, so that nobody knows what else it
    /// needs.
    pub(super) async fn walk(&mut self, root: Root, each: &mut Each<'_>) -> Result<()> {
        let mut show_all = |chunks: &[ChunkRef]| show(chunks, each).map(drop);
        let stream = Stream::open_shown(&self.opened, root, &mut show_all).await?;
        let mut items = Items::new(Arc::clone(&self.opened), Arc::new(stream));
        while let Some(chunk) = items.coming() {
            let here = (items.reader().clone(), chunk.id);
            if let Some(after) = self.known.get(&here) {
                items.pass(&after.reader);
                self.progress.bytes(after.bytes);
                (0..after.items).for_each(|_| self.progress.file());
                continue;
            }
            items.read_on(|chunk| !self.followed.contains(&chunk.id)).await?;
            let stretch = tokio::task::block_in_place(|| self.follow(&mut items, each))?;
            if let Some(after) = stretch {
                if self.known.len() >= KNOWN_MAX {
                    self.known.clear();
                    self.followed.clear();
                }
                self.known.insert(here, after);
                self.followed.insert(chunk.id);
            }
        }
        items.read_on(|_| true).await.map(drop)
    }

    /// Follows what was read; `None` when something was found that is to be found again.
    fn follow(&self, stream: &mut Items, each: &mut Each<'_>) -> Result<Option<After>> {
        let (mut is_well, mut items, mut bytes) = (true, 0, 0);
        while let Some(item) = stream.next_read()? {
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
        let reader = stream.reader();
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
