//! The index: which chunk lies in which pack, and all that is needed to open it from there.
//!
//! ```text
//! block = count of packs, packs           n: a varint of the codec, 1 to 5 bytes
//! pack  = stripe(32) session(32) nonce(32) k(n) shard length(n) count of chunks(n) chunks
//! chunk = id(32) offset(n) sealed length(n) plain length(n)      its place in the list is its number
//! ```
//! A block is cut into pieces of at most one chunk's length, and these are the chunks of one index pack, in
//! order: every index pack stands on its own (and needs room for [`BLOCK_LEN_MAX`]). An entry has all that a range read needs but the session's key.

use crate::codec::{self, CodecError};
use crate::id::{SessionId, StripeId};
use crate::pack::{PACK_CHUNKS_MAX, PACK_LEN_MAX, PackEntry, check_entry, shard_len};
use crate::record::SHARDS_MAX;
use serde::{Deserialize, Serialize};

/// Most packs that one block describes.
pub const BLOCK_PACKS_MAX: usize = 64;
/// Longest encoded block, in bytes.
pub const BLOCK_LEN_MAX: usize = 3 << 20;

/// Where the chunks of one pack lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedPack {
    /// The pack's stripe.
    pub stripe: StripeId,
    /// The session under whose key it is sealed.
    pub session: SessionId,
    /// Makes the pack's key.
    pub nonce: [u8; 32],
    /// Data shards.
    pub k: u16,
    /// Bytes in each.
    pub shard_len: u32,
    /// The chunks, by number.
    pub chunks: Vec<PackEntry>,
}

/// A part of the index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexBlock {
    /// The packs.
    pub packs: Vec<IndexedPack>,
}

impl IndexBlock {
    /// The block's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The inverse of [`IndexBlock::encode`], with all numbers checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let block: Self = codec::decode(bytes, BLOCK_LEN_MAX)?;
        let wrong = |what: &str| CodecError::Malformed(what.into());
        if block.packs.len() > BLOCK_PACKS_MAX {
            return Err(wrong("too many packs"));
        }
        for pack in &block.packs {
            let k = usize::from(pack.k);
            if k == 0 || pack.k > SHARDS_MAX {
                return Err(wrong("a pack's numbers do not fit"));
            }
            let len = pack.shard_len as usize;
            if len == 0 || len > shard_len(PACK_LEN_MAX, k) || !len.is_multiple_of(64) {
                return Err(wrong("a pack's shards have a length that no pack gives"));
            }
            if pack.chunks.len() > PACK_CHUNKS_MAX {
                return Err(wrong("too many chunks"));
            }
            for entry in &pack.chunks {
                check_entry(entry, k * len).map_err(|e| wrong(&e.to_string()))?;
            }
        }
        Ok(block)
    }

    /// Whether another pack with this many chunks still fits.
    #[must_use]
    pub fn fits(&self, chunks: usize) -> bool {
        let listed: usize = self.packs.iter().map(|pack| pack.chunks.len() * 48 + 128).sum();
        self.packs.len() < BLOCK_PACKS_MAX && listed + chunks * 48 + 128 <= BLOCK_LEN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;
    use proptest::prelude::*;

    fn block() -> IndexBlock {
        let entry = PackEntry { id: ChunkId([1; 32]), offset: 128, len: 100, plain_len: 83 };
        let pack = IndexedPack {
            stripe: StripeId([2; 32]),
            session: SessionId([3; 32]),
            nonce: [4; 32],
            k: 2,
            shard_len: 128,
            chunks: vec![entry],
        };
        IndexBlock { packs: vec![pack] }
    }

    #[test]
    fn a_chunk_outside_its_pack_is_refused() {
        assert_eq!(IndexBlock::decode(&block().encode()).unwrap(), block());
        let mut outside = block();
        outside.packs[0].chunks[0].offset = 200;
        assert!(IndexBlock::decode(&outside.encode()).is_err());
        let changes: [fn(&mut IndexedPack); 7] = [
            |pack| pack.k = 0,
            |pack| pack.k = SHARDS_MAX + 1,
            |pack| pack.shard_len = 0,
            |pack| pack.shard_len = 129,
            |pack| pack.shard_len = 17 << 20,
            |pack| pack.chunks[0].len = 16,
            |pack| pack.chunks[0].plain_len = u32::MAX,
        ];
        for change in changes {
            let mut wrong = block();
            change(&mut wrong.packs[0]);
            assert!(IndexBlock::decode(&wrong.encode()).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused(bytes: Vec<u8>) {
            let _ = IndexBlock::decode(&bytes);
        }
    }
}
