//! What a file is made of, and the pieces in which an item stream lists it.

use crate::source::Hole;
use protocol::item::{Attribute, ChunkRef, ITEM_CHUNKS_MAX};

/// What a file is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) size: u64,
    pub(super) chunks: Vec<ChunkRef>,
    pub(super) holes: Vec<Hole>,
    pub(super) attributes: Vec<Attribute>,
}

/// A stretch of a file as one item lists it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Chunks(&'a [ChunkRef]),
    Hole(u64),
}

/// A file's pieces in order.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    chunks: &'a [ChunkRef],
    holes: &'a [Hole],
    at: u64,
}

impl Body {
    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        let attributes: usize =
            self.attributes.iter().map(|a| a.size() + size_of::<Attribute>()).sum();
        size_of_val(&self.chunks[..])
            + size_of_val(&self.holes[..])
            + attributes
            + size_of::<Self>()
    }

    pub(super) fn pieces(&self) -> Pieces<'_> {
        Pieces { chunks: &self.chunks, holes: &self.holes, at: 0 }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if let Some((hole, rest)) = self.holes.split_first()
            && hole.at <= self.at
        {
            self.holes = rest;
            self.at += hole.len;
            return Some(Piece::Hole(hole.len));
        }
        let until = self.holes.first().map_or(u64::MAX, |hole| hole.at);
        let mut count = 0;
        for chunk in self.chunks.iter().take(ITEM_CHUNKS_MAX) {
            if self.at >= until {
                break;
            }
            self.at += u64::from(chunk.len);
            count += 1;
        }
        let (chunks, rest) = self.chunks.split_at(count);
        self.chunks = rest;
        (count > 0).then_some(Piece::Chunks(chunks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::id::ChunkId;

    fn chunk(len: u32) -> ChunkRef {
        ChunkRef { id: ChunkId([1; 32]), len }
    }

    #[test]
    fn long_lists_are_cut() {
        let chunks = vec![chunk(1); 2 * ITEM_CHUNKS_MAX + 1];
        let body = Body { size: chunks.len() as u64, chunks, ..Body::default() };
        let lens: Vec<usize> = body
            .pieces()
            .map(|piece| if let Piece::Chunks(chunks) = piece { chunks.len() } else { 0 })
            .collect();
        assert_eq!(lens, [ITEM_CHUNKS_MAX, ITEM_CHUNKS_MAX, 1]);
        assert_eq!(Body::default().pieces().next(), None);
    }

    proptest! {
        #[test]
        fn pieces_are_the_file_in_order(
            stretches in proptest::collection::vec(prop_oneof![(1u32..100).prop_map(Ok), (1u64..100).prop_map(Err)], 0..30),
        ) {
            let mut body = Body::default();
            for stretch in &stretches {
                match *stretch {
                    Ok(len) => body.chunks.push(chunk(len)),
                    Err(len) => body.holes.push(Hole { at: body.size, len }),
                }
                body.size += stretch.map_or_else(|len| len, u64::from);
            }
            let mut found = Vec::new();
            for piece in body.pieces() {
                match piece {
                    Piece::Chunks(chunks) => found.extend(chunks.iter().map(|chunk| Ok(chunk.len))),
                    Piece::Hole(len) => found.push(Err(len)),
                }
            }
            prop_assert_eq!(found, stretches);
        }
    }
}
