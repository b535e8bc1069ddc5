//! Pieces of a shard with the hashes that lead to its name: made where the shard is, checked where only its name is known.
//!
//! The encoding is Bao's for these ranges, without a length, at groups of 16 KiB
//! (<https://github.com/oconnor663/bao/blob/master/docs/spec.md>, by way of `bao-tree`).

use crate::id::ShardId;
use bao_tree::blake3::Hash;
use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::{CreateOutboard, DecodeResponseIter, ReadAt, encode_ranges_validated};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};
use std::io::{self, Read};

/// Bytes of a group: of a shard's last one there may be fewer.
pub const GROUP_LEN: u32 = 16 << 10;
/// BLAKE3 chunks of 1024 bytes in a group, as a power of two.
const GROUP_CHUNKS_LOG: u8 = 4;
const GROUP: BlockSize = BlockSize::from_chunk_log(GROUP_CHUNKS_LOG);

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofFault {
    /// Hashes or bytes are not those of the shard.
    #[error("its bytes are not those that the shard's name stands for")]
    Wrong,
    /// It ends early.
    #[error("it is cut off")]
    CutOff,
    /// More follows.
    #[error("more follows than was asked for")]
    TooLong,
}

/// Why a shard cannot be proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its bytes are not those that its name stands for.
    #[error("the shard's bytes were altered")]
    Damaged,
}

fn ranges(groups: &[u64]) -> ChunkRanges {
    let chunks = |group: u64| group << GROUP_CHUNKS_LOG;
    groups.iter().fold(ChunkRanges::empty(), |all, &group| {
        all | ChunkRanges::from(ChunkNum(chunks(group))..ChunkNum(chunks(group + 1)))
    })
}

/// Reads as `FileExt::read_exact_at` does: fills the buffer from an offset on.
struct At<F>(F);

impl<F: Fn(&mut [u8], u64) -> io::Result<()>> ReadAt for At<F> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (self.0)(buffer, offset).map(|()| buffer.len())
    }
}

/// Proves these groups of a shard of `len` bytes. All of it is read once, in order, by `whole`, and the groups again by
/// `at`, which fills a buffer from an offset on: the hashes in between are kept nowhere.
pub fn prove(
    shard: ShardId,
    len: u32,
    groups: &[u64],
    whole: impl Read,
    at: impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> Result<Vec<u8>, ProveError> {
    let outboard = PreOrderOutboard::<Vec<u8>>::create_sized(whole, u64::from(len), GROUP)?;
    if *outboard.root.as_bytes() != shard.0 {
        return Err(ProveError::Damaged);
    }
    let mut proof = Vec::new();
    match encode_ranges_validated(At(at), outboard, &ranges(groups), &mut proof) {
        Ok(()) => Ok(proof),
        Err(bao_tree::io::EncodeError::Io(error)) => Err(ProveError::Io(error)),
        Err(_) => Err(ProveError::Damaged),
    }
}

/// [`prove`] of a shard that is in memory.
pub fn prove_bytes(shard: ShardId, groups: &[u64], bytes: &[u8]) -> Result<Vec<u8>, ProveError> {
    let at = |buffer: &mut [u8], offset: u64| {
        let from = bytes.get(offset as usize..).unwrap_or_default();
        let from = from.get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    };
    prove(shard, bytes.len() as u32, groups, bytes, at)
}

/// Checks a proof of these groups of a shard of `len` bytes.
pub fn check_proof(
    shard: ShardId,
    len: u32,
    groups: &[u64],
    proof: &[u8],
) -> Result<(), ProofFault> {
    let (ranges, mut rest) = (ranges(groups), proof);
    let tree = BaoTree::new(u64::from(len), GROUP);
    for part in DecodeResponseIter::new(Hash::from_bytes(shard.0), tree, &mut rest, &ranges) {
        part.map_err(|error| match error {
            bao_tree::io::DecodeError::ParentHashMismatch(_)
            | bao_tree::io::DecodeError::LeafHashMismatch(_) => ProofFault::Wrong,
            _ => ProofFault::CutOff,
        })?;
    }
    if rest.is_empty() { Ok(()) } else { Err(ProofFault::TooLong) }
}
