//! The item stream of a snapshot, its chunks read ahead.

use crate::client::index::Index;
use crate::client::packs::Packs;
use crate::client::{ClientError, Result};
use protocol::item::{ChunkRef, Item, ItemReader};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Chunks read ahead.
const AHEAD: usize = 4;

/// Items, in path order.
pub(super) struct Items {
    packs: Arc<Packs>,
    index: Arc<Index>,
    refs: VecDeque<ChunkRef>,
    ahead: VecDeque<JoinHandle<Result<Vec<u8>>>>,
    reader: ItemReader,
}

impl Items {
    pub(super) fn new(packs: Arc<Packs>, index: Arc<Index>, refs: Vec<ChunkRef>) -> Self {
        let reader = ItemReader::default();
        Self { packs, index, refs: refs.into(), ahead: VecDeque::new(), reader }
    }

    /// The next one; none at the end, which must be that of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Item>> {
        let content = |e: &dyn std::fmt::Display| ClientError::Content(e.to_string());
        loop {
            if let Some(item) = self.reader.next_item().map_err(|e| content(&e))? {
                return Ok(Some(item));
            }
            while self.ahead.len() < AHEAD
                && let Some(chunk) = self.refs.pop_front()
            {
                let (packs, index) = (Arc::clone(&self.packs), Arc::clone(&self.index));
                let read = async move { packs.read_chunk(&index, chunk).await };
                self.ahead.push_back(tokio::spawn(read));
            }
            let Some(next) = self.ahead.pop_front() else {
                self.reader.finish().map_err(|e| content(&e))?;
                return Ok(None);
            };
            let bytes = next.await.map_err(|e| content(&e))??;
            self.reader.push(&bytes);
        }
    }
}
