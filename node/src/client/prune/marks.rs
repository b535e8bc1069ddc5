//! Which chunks of which packs are needed: a bit each, and their bytes.

use crate::client::index::Location;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct Pack {
    chunks: Vec<u64>,
    bytes: u64,
}

/// Needed chunks by pack and number.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<u64, Pack>);

fn bit(place: &Location) -> (usize, u64) {
    (place.number as usize / 64, 1 << (place.number % 64))
}

impl Marks {
    /// What lies there is needed.
    pub(super) fn set(&mut self, place: &Location) {
        let (at, bit) = bit(place);
        let pack = self.0.entry(place.pack).or_default();
        if pack.chunks.len() <= at {
            pack.chunks.resize(at + 1, 0);
        }
        if pack.chunks[at] & bit == 0 {
            pack.chunks[at] |= bit;
            pack.bytes += u64::from(place.len);
        }
    }

    /// Nothing of this pack is needed any more.
    pub(super) fn clear(&mut self, pack: u64) {
        self.0.remove(&pack);
    }

    /// Whether what lies there is needed.
    pub(super) fn has(&self, place: &Location) -> bool {
        let (at, bit) = bit(place);
        let chunks = self.0.get(&place.pack).and_then(|pack| pack.chunks.get(at));
        chunks.is_some_and(|chunks| chunks & bit != 0)
    }

    /// Needed sealed bytes of a pack.
    pub(super) fn bytes(&self, pack: u64) -> u64 {
        self.0.get(&pack).map_or(0, |pack| pack.bytes)
    }

    /// Packs of which something is needed.
    pub(super) fn packs(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chunk_counts_once() {
        let place = |pack, number, len| Location { pack, number, offset: 0, len, plain_len: 1 };
        let mut marks = Marks::default();
        for place in [place(1, 0, 5), place(1, 130, 7), place(1, 0, 5), place(2, 64, 9)] {
            marks.set(&place);
        }
        assert_eq!((marks.bytes(1), marks.bytes(2), marks.bytes(3)), (12, 9, 0));
        assert!(marks.has(&place(1, 130, 7)) && marks.has(&place(2, 64, 9)));
        assert!(!marks.has(&place(1, 64, 9)) && !marks.has(&place(2, 65, 9)));
        assert!(!marks.has(&place(2, 1000, 9)) && !marks.has(&place(3, 0, 9)));
        marks.clear(1);
        assert_eq!(marks.packs().collect::<Vec<_>>(), [2]);
    }
}
