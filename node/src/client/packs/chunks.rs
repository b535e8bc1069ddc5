//! Chunks: whole packs where much of one is needed, else the spans that hold what is needed.

use super::Packs;
use crate::client::index::{Index, Location};
use crate::client::{ClientError, Result};
use futures::StreamExt;
use protocol::chunk::decode_chunk;
use protocol::id::ChunkId;
use protocol::item::ChunkRef;
use protocol::pack::PackOpener;

/// Of a pack of which less than one part in this many is needed, only spans are read.
const SPANS_BELOW: usize = 4;
/// What lies between two chunks is read along when it is shorter: that is quicker than asking again.
const GAP: usize = 64 << 10;
/// Spans of a pack asked for at once.
const SPANS_AT_ONCE: usize = 4;

/// Chunks of a pack that are read together.
#[derive(Debug)]
struct Span {
    from: usize,
    to: usize,
    /// Which of those needed.
    needs: Vec<usize>,
}

/// Memory for one chunk after the other.
#[derive(Default)]
struct Rooms {
    opened: Vec<u8>,
    plain: Vec<u8>,
}

/// A chunk that somebody needs.
#[derive(Debug)]
pub struct Need<T> {
    /// The chunk.
    pub chunk: ChunkId,
    /// Where it lies.
    pub location: Location,
    /// What it is needed for.
    pub what: T,
}

impl<T> Need<T> {
    fn from(&self) -> usize {
        self.location.offset as usize
    }

    fn to(&self) -> usize {
        self.from() + self.location.len as usize
    }
}

impl Packs {
    /// Reads one chunk.
    pub async fn read_chunk(&self, index: &Index, chunk: ChunkRef) -> Result<Vec<u8>> {
        let location = index.find(chunk.id)?.ok_or(ClientError::NoChunk(chunk.id))?;
        let mut found = Vec::new();
        let need = Need { chunk: chunk.id, location, what: () };
        let take = |_: &Need<()>, plain: &[u8]| {
            found.extend_from_slice(plain);
            Ok(())
        };
        self.read_chunks(index, location.pack, &[need], take).await?;
        Ok(found)
    }

    /// Reads chunks of one pack, in no particular order: each is verified by its name before `take` gets it.
    pub async fn read_chunks<T: Sync>(
        &self,
        index: &Index,
        pack: u64,
        needs: &[Need<T>],
        mut take: impl FnMut(&Need<T>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let info = index.pack(pack)?;
        let opener = self.opener(&info)?;
        let needed: usize = needs.iter().map(|need| need.location.len as usize).sum();
        let all = usize::from(info.k) * info.shard_len as usize;
        let mut rooms = Rooms::default();
        let mut missing: Vec<usize> = Vec::new();
        if needed * SPANS_BELOW >= all || self.is_near(info.stripe).await {
            missing.extend(0..needs.len());
        } else {
            let spans = spans(needs);
            let lens: Vec<(usize, usize)> =
                spans.iter().map(|span| (span.from, span.to - span.from)).collect();
            let reads = lens.into_iter().enumerate().map(|(number, (from, len))| async move {
                (number, self.read_range(info.stripe, from, len).await)
            });
            let mut reads = futures::stream::iter(reads).buffer_unordered(SPANS_AT_ONCE);
            while let Some((number, read)) = reads.next().await {
                let span = &spans[number];
                let Ok(bytes) = read else {
                    missing.extend(&span.needs);
                    continue;
                };
                tokio::task::block_in_place(|| {
                    for &i in &span.needs {
                        let need = &needs[i];
                        let range = need.from() - span.from..need.to() - span.from;
                        // What was read is not verified until it opens.
                        match self.open_chunk(&opener, need, &bytes[range], &mut rooms) {
                            Ok(plain) => take(need, plain)?,
                            Err(_) => missing.push(i),
                        }
                    }
                    Result::Ok(())
                })?;
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut found = self.pack_to_open(info.stripe).await;
        loop {
            let whole = match found {
                Ok(whole) => whole,
                Err(error) => return self.read_older(index, needs, missing, take, error).await,
            };
            let mut bad = None;
            tokio::task::block_in_place(|| {
                for i in std::mem::take(&mut missing) {
                    let need = &needs[i];
                    match self.open_from(&opener, need, &whole.bytes, &mut rooms) {
                        Ok(plain) => take(need, plain)?,
                        Err(error) => {
                            bad = Some(error);
                            missing.push(i);
                        }
                    }
                }
                Result::Ok(())
            })?;
            let Some(error) = bad else { return Ok(()) };
            found = match self.pack_again(info.stripe, &whole).await {
                Some(again) => again,
                None => Err(error),
            };
        }
    }

    /// Reads chunks from older packs that have them as well, where the newest one cannot be read.
    async fn read_older<T: Sync>(
        &self,
        index: &Index,
        needs: &[Need<T>],
        missing: Vec<usize>,
        mut take: impl FnMut(&Need<T>, &[u8]) -> Result<()>,
        mut error: ClientError,
    ) -> Result<()> {
        let mut rooms = Rooms::default();
        'needs: for i in missing {
            let need = &needs[i];
            for location in index.find_older(need.chunk)? {
                let info = index.pack(location.pack)?;
                let whole = match self.pack(info.stripe).await {
                    Ok(whole) if location.plain_len == need.location.plain_len => whole,
                    Ok(_) => continue,
                    Err(other) => {
                        error = other;
                        continue;
                    }
                };
                let older = Need { chunk: need.chunk, location, what: () };
                let opener = self.opener(&info)?;
                if let Ok(plain) = self.open_from(&opener, &older, &whole.bytes, &mut rooms) {
                    take(need, plain)?;
                    continue 'needs;
                }
            }
            return Err(error);
        }
        Ok(())
    }

    /// Opens a chunk of a whole pack.
    fn open_from<'a, T>(
        &self,
        opener: &PackOpener,
        need: &Need<T>,
        pack: &[u8],
        rooms: &'a mut Rooms,
    ) -> Result<&'a [u8]> {
        let short = || ClientError::Content("a short pack".into());
        let sealed = pack.get(need.from()..need.to()).ok_or_else(short)?;
        self.open_chunk(opener, need, sealed, rooms)
    }

    /// Opens a chunk, and checks that it is the one named.
    fn open_chunk<'a, T>(
        &self,
        opener: &PackOpener,
        need: &Need<T>,
        sealed: &[u8],
        rooms: &'a mut Rooms,
    ) -> Result<&'a [u8]> {
        let content = |e: &dyn std::fmt::Display| ClientError::Content(e.to_string());
        let encoded = opener
            .open_chunk_to(need.location.number, sealed, &mut rooms.opened)
            .map_err(|e| content(&e))?;
        let plain = decode_chunk(encoded, need.location.plain_len, &mut rooms.plain)
            .map_err(|e| content(&e))?;
        self.chunker.check(need.chunk, plain).map_err(|e| content(&e))?;
        Ok(plain)
    }
}

/// What is to be read, with what lies close together in one.
fn spans<T>(needs: &[Need<T>]) -> Vec<Span> {
    let mut sorted: Vec<usize> = (0..needs.len()).collect();
    sorted.sort_by_key(|&i| needs[i].from());
    let mut spans: Vec<Span> = Vec::new();
    for i in sorted {
        let need = &needs[i];
        match spans.last_mut() {
            Some(span) if need.from() <= span.to + GAP => {
                span.to = span.to.max(need.to());
                span.needs.push(i);
            }
            _ => spans.push(Span { from: need.from(), to: need.to(), needs: vec![i] }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn need(offset: u32, len: u32) -> Need<()> {
        let location = Location { pack: 0, number: 0, offset, len, plain_len: len };
        Need { chunk: ChunkId([0; 32]), location, what: () }
    }

    proptest! {
        #[test]
        fn spans_hold_every_need_and_little_else(
            places in prop::collection::vec((0u32..8 << 20, 1u32..300_000), 1..50)
        ) {
            let needs: Vec<Need<()>> = places.iter().map(|&(at, len)| need(at, len)).collect();
            let spans = spans(&needs);
            prop_assert_eq!(spans.iter().map(|span| span.needs.len()).sum::<usize>(), needs.len());
            for span in &spans {
                let held = |&i: &usize| span.from <= needs[i].from() && needs[i].to() <= span.to;
                prop_assert!(span.needs.iter().all(held));
            }
            for pair in spans.windows(2) {
                prop_assert!(pair[0].to + GAP < pair[1].from);
            }
        }
    }
}
