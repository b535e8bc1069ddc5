//! The content of a file: which chunks and holes it consists of, and its bytes at any place.

use crate::client::opened::{Ahead, Opened};
use crate::client::{ClientError, Result};
use protocol::item::ChunkRef;
use std::sync::{Arc, Mutex, PoisonError};

/// Most pieces of a file: with chunks of the usual size 4 TB.
const PIECES_MAX: usize = 16 << 20;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Chunk(ChunkRef),
    /// Zeros that take no space.
    Hole,
}

/// What a file consists of, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    pieces: Vec<Piece>,
    /// Where each ends.
    ends: Vec<u64>,
}

impl Pieces {
    pub(super) fn add(&mut self, chunks: &[ChunkRef]) -> Result<()> {
        for &chunk in chunks {
            self.push(Piece::Chunk(chunk), u64::from(chunk.len))?;
        }
        Ok(())
    }

    pub(super) fn add_hole(&mut self, len: u64) -> Result<()> {
        self.push(Piece::Hole, len)
    }

    fn push(&mut self, piece: Piece, len: u64) -> Result<()> {
        let end = self.len().checked_add(len);
        let end = end.filter(|_| self.pieces.len() < PIECES_MAX);
        self.ends.push(
            end.ok_or_else(|| {
                ClientError::content("a file of more parts than this program takes")
            })?,
        );
        self.pieces.push(piece);
        Ok(())
    }

    /// Bytes of the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkRef> + '_ {
        self.pieces.iter().filter_map(Piece::chunk)
    }

    /// Where the first data at or after `offset` lies.
    #[must_use]
    pub fn data_from(&self, offset: u64) -> Option<u64> {
        let at = self.find(offset);
        let data = (at..self.pieces.len()).find(|&i| self.pieces[i].chunk().is_some())?;
        Some(self.start(data).max(offset))
    }

    /// Where the first hole at or after `offset` lies; there is one at the end of every file.
    #[must_use]
    pub fn hole_from(&self, offset: u64) -> Option<u64> {
        let at = self.find(offset);
        if at == self.pieces.len() {
            return None;
        }
        let hole = (at..self.pieces.len()).find(|&i| self.pieces[i].chunk().is_none());
        Some(hole.map_or(self.len(), |hole| self.start(hole).max(offset)))
    }

    /// The piece in which this byte lies; their number beyond the end.
    fn find(&self, offset: u64) -> usize {
        self.ends.partition_point(|&end| end <= offset)
    }

    fn start(&self, piece: usize) -> u64 {
        if piece == 0 { 0 } else { self.ends[piece - 1] }
    }
}

impl Piece {
    fn chunk(&self) -> Option<ChunkRef> {
        match self {
            Self::Chunk(chunk) => Some(*chunk),
            Self::Hole => None,
        }
    }
}

/// A file that is read: only the chunks that are needed are fetched, and some more for who reads on.
#[derive(Debug)]
pub(crate) struct Content {
    opened: Arc<Opened>,
    pub(crate) pieces: Arc<Pieces>,
    ahead: Mutex<Ahead>,
}

impl Content {
    pub(in crate::client) fn new(opened: Arc<Opened>, pieces: Arc<Pieces>) -> Self {
        Self { opened, pieces, ahead: Mutex::new(Ahead::new(0)) }
    }

    /// The bytes from `offset`: `len` of them, or fewer at the end of the file.
    pub(crate) async fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let pieces = &self.pieces;
        let end = offset.saturating_add(len as u64).min(pieces.len());
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let (mut at, mut piece) = (offset, pieces.find(offset));
        while at < end {
            self.expect(piece);
            let (start, stop) = (pieces.start(piece), pieces.ends[piece].min(end));
            match pieces.pieces[piece] {
                Piece::Chunk(chunk) => {
                    let chunk = self.opened.get(chunk).await?;
                    bytes.extend_from_slice(&chunk[(at - start) as usize..(stop - start) as usize]);
                }
                Piece::Hole => bytes.resize(bytes.len() + (stop - at) as usize, 0),
            }
            at = stop;
            piece += 1;
        }
        Ok(bytes)
    }

    fn expect(&self, piece: usize) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let further = ahead.step(piece, self.pieces.pieces.len());
        self.opened.expect(self.pieces.pieces[further].iter().filter_map(Piece::chunk));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::ChunkId;

    fn pieces(parts: &[(u8, u32)]) -> Pieces {
        let mut pieces = Pieces::default();
        for &(name, len) in parts {
            match name {
                0 => pieces.add_hole(u64::from(len)).unwrap(),
                _ => pieces.add(&[ChunkRef { id: ChunkId([name; 32]), len }]).unwrap(),
            }
        }
        pieces
    }

    #[test]
    fn places_are_found_and_holes_between_them() {
        let pieces = pieces(&[(0, 10), (1, 5), (2, 5), (0, 10), (3, 1)]);
        assert_eq!((pieces.len(), pieces.chunks().count()), (31, 3));
        let found: Vec<usize> =
            [0, 9, 10, 14, 15, 19, 20, 30, 31, 99].map(|at| pieces.find(at)).into();
        assert_eq!(found, [0, 0, 1, 1, 2, 2, 3, 4, 5, 5]);
        let data = [0, 10, 17, 20, 29, 30, 31].map(|at| pieces.data_from(at));
        assert_eq!(data, [Some(10), Some(10), Some(17), Some(30), Some(30), Some(30), None]);
        let holes = [0, 9, 10, 19, 25, 30, 31].map(|at| pieces.hole_from(at));
        assert_eq!(holes, [Some(0), Some(9), Some(20), Some(20), Some(25), Some(31), None]);
        assert!(Pieces::default().is_empty() && Pieces::default().hole_from(0).is_none());
    }

    #[test]
    fn a_file_longer_than_a_file_can_be_is_refused() {
        let mut pieces = pieces(&[(1, 5)]);
        assert!(pieces.add_hole(u64::MAX).is_err());
        assert!(pieces.add_hole(u64::MAX - 5).is_ok());
        assert_eq!(pieces.len(), u64::MAX);
    }
}
