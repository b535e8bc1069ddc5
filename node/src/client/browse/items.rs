//! The items of a snapshot in order, from its beginning or from any entry in it.

use super::ahead::Ahead;
use super::opened::Opened;
use crate::client::{ClientError, Result};
use protocol::item::{ChunkRef, Item, ItemReader, Root, decode_refs};
use std::sync::Arc;

/// Most chunks of an item stream, about 1 TB of it: 44 bytes each are kept.
const STREAM_CHUNKS_MAX: usize = 4 << 20;

pub(super) fn content(error: impl std::fmt::Display) -> ClientError {
    ClientError::Content(error.to_string())
}

/// Where the bytes of an item stream are.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    chunks: Vec<ChunkRef>,
    /// Where in the stream each begins.
    starts: Vec<u64>,
}

impl Stream {
    fn new(chunks: Vec<ChunkRef>) -> Self {
        let mut end = 0;
        let starts = chunks.iter().map(|chunk| {
            let start = end;
            end += u64::from(chunk.len);
            start
        });
        Self { starts: starts.collect(), chunks }
    }

    /// Finds all chunks of the stream that begins at this root.
    pub(crate) async fn open(opened: &Arc<Opened>, root: Root) -> Result<Self> {
        let mut chunks = root.chunks;
        for _ in 0..root.depth {
            let mut list = Vec::new();
            let mut ahead = Ahead::new(0);
            for (number, &chunk) in chunks.iter().enumerate() {
                opened.expect(chunks[ahead.step(number, chunks.len())].iter().copied());
                let bytes = opened.get(chunk).await?;
                list.extend(decode_refs(&bytes).map_err(content)?);
                if list.len() > STREAM_CHUNKS_MAX {
                    return Err(content("a list of items without end"));
                }
            }
            chunks = list;
        }
        Ok(Self::new(chunks))
    }
}

/// Gives items one by one.
#[derive(Debug)]
pub(crate) struct Items {
    opened: Arc<Opened>,
    stream: Arc<Stream>,
    reader: ItemReader,
    /// The next chunk, and the bytes of the stream before it.
    next: usize,
    read: u64,
    /// In the first chunk so much comes before the place to begin at.
    skipped: usize,
    is_whole: bool,
    ahead: Ahead,
}

impl Items {
    /// From the beginning.
    pub(crate) fn new(opened: Arc<Opened>, stream: Arc<Stream>) -> Self {
        Self {
            opened,
            stream,
            reader: ItemReader::default(),
            next: 0,
            read: 0,
            skipped: 0,
            is_whole: true,
            ahead: Ahead::new(0),
        }
    }

    /// From the entry at this place, which [`Items::position`] gave for the same stream.
    pub(crate) fn at(opened: Arc<Opened>, stream: Arc<Stream>, position: u64) -> Self {
        let next = stream.starts.partition_point(|&start| start <= position).saturating_sub(1);
        let read = stream.starts.get(next).copied().unwrap_or_default();
        Self {
            opened,
            stream,
            reader: ItemReader::at_entry(),
            next,
            read,
            skipped: (position - read) as usize,
            is_whole: false,
            ahead: Ahead::new(next),
        }
    }

    /// Where in the stream the next item begins.
    pub(crate) fn position(&self) -> u64 {
        self.read - self.reader.waiting() as u64
    }

    /// The next item; `None` after the last one, when the stream was read from its beginning and ended as it should.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(item) = self.reader.next_item().map_err(content)? {
                return Ok(Some(item));
            }
            let Some(&chunk) = self.stream.chunks.get(self.next) else {
                if self.is_whole {
                    self.reader.finish().map_err(content)?;
                }
                return Ok(None);
            };
            let further = self.ahead.step(self.next, self.stream.chunks.len());
            self.opened.expect(self.stream.chunks[further].iter().copied());
            let bytes = self.opened.get(chunk).await?;
            let skipped = std::mem::take(&mut self.skipped);
            let piece = bytes.get(skipped..).ok_or_else(|| content("an item beyond its stream"))?;
            self.reader.push(piece);
            self.read += u64::from(chunk.len);
            self.next += 1;
        }
    }
}
