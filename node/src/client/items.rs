//! The items of a snapshot in order, from its beginning or from any entry in it: the one reader of item streams. What cannot
//! be read is an error that says so; what that means is for the caller to say.

use super::ledger::Logged;
use super::opened::{Ahead, Opened};
use super::packs::Packs;
use super::{ClientError, Result};
use protocol::item::{ChunkRef, Item, ItemReader, REF_LEN, Root, decode_refs};
use protocol::log::{Body, SnapshotPart};
use std::sync::Arc;

/// Most chunks of an item stream, about 1 TB of it: 44 bytes each are kept.
const STREAM_CHUNKS_MAX: usize = 4 << 20;

/// Where a snapshot's items begin: snapshots with the same root are the same in all.
pub(super) fn root_of(packs: &Packs, snapshot: &Logged) -> Result<Root> {
    let Body::Snapshot { session, .. } = &snapshot.entry.body else {
        return Err(ClientError::NoSnapshot(snapshot.id.to_string()));
    };
    let key = packs.session(*session)?.root_key();
    let plain = SnapshotPart::Root.open(&key, &snapshot.entry).map_err(ClientError::content)?;
    Root::decode(&plain).map_err(ClientError::content)
}

/// Where the bytes of an item stream are.
#[derive(Debug, Default)]
pub(super) struct Stream {
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
    pub(super) async fn open(opened: &Arc<Opened>, root: Root) -> Result<Self> {
        Self::open_shown(opened, root, &mut |_| Ok(())).await
    }

    /// The same; `show` sees the chunks that lists of chunks are in, and those of the stream, before they are read.
    pub(super) async fn open_shown(
        opened: &Arc<Opened>,
        root: Root,
        show: &mut (dyn FnMut(&[ChunkRef]) -> Result<()> + Send),
    ) -> Result<Self> {
        let mut chunks = root.chunks;
        show(&chunks)?;
        for _ in 0..root.depth {
            let (mut list, mut waiting) = (Vec::new(), Vec::new());
            let mut ahead = Ahead::new(0);
            for (number, &chunk) in chunks.iter().enumerate() {
                opened.expect(chunks[ahead.step(number, chunks.len())].iter().copied());
                list.extend(take_refs(&mut waiting, &opened.get(chunk).await?)?);
                if list.len() > STREAM_CHUNKS_MAX {
                    return Err(ClientError::content("a list of items without end"));
                }
            }
            if !waiting.is_empty() {
                return Err(ClientError::content("a list of items that is cut short"));
            }
            chunks = list;
            show(&chunks)?;
        }
        Ok(Self::new(chunks))
    }
}

/// The references that are whole with this piece of their list: pieces end anywhere.
fn take_refs(waiting: &mut Vec<u8>, piece: &[u8]) -> Result<Vec<ChunkRef>> {
    waiting.extend_from_slice(piece);
    let whole = waiting.len() - waiting.len() % REF_LEN;
    let refs = decode_refs(&waiting[..whole]).map_err(ClientError::content)?;
    waiting.drain(..whole);
    Ok(refs)
}

/// Gives items one by one.
#[derive(Debug)]
pub(super) struct Items {
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
    pub(super) fn new(opened: Arc<Opened>, stream: Arc<Stream>) -> Self {
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
    pub(super) fn at(opened: Arc<Opened>, stream: Arc<Stream>, position: u64) -> Self {
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
    pub(super) fn position(&self) -> u64 {
        self.read - self.reader.waiting() as u64
    }

    /// The next item; `None` after the last one, when the stream was read from its beginning and ended as it should.
    pub(super) async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(item) = self.next_read()? {
                return Ok(Some(item));
            }
            if !self.read_on(|_| true).await? {
                return Ok(None);
            }
        }
    }

    /// The next item of what was read; `None` when it goes on in the next chunk, or nowhere.
    pub(super) fn next_read(&mut self) -> Result<Option<Item>> {
        self.reader.next_item().map_err(ClientError::content)
    }

    /// The chunk that is to be read next; `None` behind the last one.
    pub(super) fn coming(&self) -> Option<ChunkRef> {
        self.stream.chunks.get(self.next).copied()
    }

    /// Reads the next chunk, and begins to read those behind it that will be needed as well. False behind the last one,
    /// when the stream ended as it should.
    pub(super) async fn read_on(&mut self, is_needed: impl Fn(ChunkRef) -> bool) -> Result<bool> {
        let Some(chunk) = self.coming() else {
            if self.is_whole {
                self.reader.finish().map_err(ClientError::content)?;
            }
            return Ok(false);
        };
        let further = self.ahead.step(self.next, self.stream.chunks.len());
        let further = self.stream.chunks[further].iter().copied();
        self.opened.expect(further.filter(|&chunk| is_needed(chunk)));
        let bytes = self.opened.get(chunk).await?;
        let skipped = std::mem::take(&mut self.skipped);
        let piece = bytes
            .get(skipped..)
            .ok_or_else(|| ClientError::content("an item beyond its stream"))?;
        self.reader.push(piece);
        self.go_on(chunk);
        Ok(true)
    }

    /// Where the reader is, between chunks: whoever has followed the next chunk from here need not follow it again.
    pub(super) fn reader(&mut self) -> &mut ItemReader {
        &mut self.reader
    }

    /// Passes over the next chunk, which leads here.
    pub(super) fn pass(&mut self, reader: &ItemReader) {
        if let Some(chunk) = self.coming() {
            self.reader.clone_from(reader);
            self.go_on(chunk);
        }
    }

    fn go_on(&mut self, chunk: ChunkRef) {
        self.read += u64::from(chunk.len);
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::ChunkId;
    use protocol::item::encode_refs;

    #[test]
    fn a_list_is_read_wherever_it_was_cut() {
        let refs: Vec<ChunkRef> =
            (0..100).map(|i| ChunkRef { id: ChunkId([i; 32]), len: 1 + u32::from(i) }).collect();
        let bytes = encode_refs(&refs);
        for len in [1, REF_LEN - 1, REF_LEN, REF_LEN + 1, 1000, bytes.len()] {
            let mut waiting = Vec::new();
            let found: Vec<ChunkRef> = bytes
                .chunks(len)
                .flat_map(|piece| take_refs(&mut waiting, piece).unwrap())
                .collect();
            assert_eq!(found, refs, "in pieces of {len}");
            assert!(waiting.is_empty());
        }
    }
}
