//! Chunks: where a stream is cut, what a chunk is called, and how its bytes are stored.
//!
//! ```text
//! encoded chunk:  0  1  flag: 0 as it is, 1 a zstd frame
//!                 1  …  bytes
//! ```
//! A chunk's id is BLAKE3 of its plain bytes keyed with the chunk id key. The gear table is the first 2048
//! bytes of the output stream of BLAKE3 keyed with the gear key over nothing, as 256 u64 LE; masks and
//! cut rule are those of `fastcdc` 5, v2020, normalization level 2.
//!
//! Boundaries come from `FastCDC` (Xia et al., ATC 2016; the 2020 variant) with a gear table drawn from
//! the vault's key: chunk sizes are known to leak content and secret otherwise (IACR ePrint 2025/532).

use crate::id::ChunkId;
use crate::seal::{SealKey, VaultSecret};
use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use zeroize::Zeroize;

/// No chunk is smaller, but the last of a stream, in bytes.
pub const CHUNK_MIN: usize = 64 << 10;
/// The usual size. Smaller ones find more that is known, larger ones compress better. Level 2 keeps sizes near it: a
/// change of 64 KiB somewhere in a large file costs 1.3 chunks on average, and large chunks are the more likely to be hit.
pub const CHUNK_AVERAGE: usize = 160 << 10;
/// No chunk is larger, in bytes.
pub const CHUNK_MAX: usize = 1 << 20;
/// Longest encoded chunk, in bytes.
pub const ENCODED_MAX: usize = CHUNK_MAX + 1;

/// zstd level 1: the slowest stage already (0.4 to 0.5 GB/s a core on source code), and level 3
/// gains a few percent for a fifth of the time more.
const ZSTD_LEVEL: i32 = 1;
/// Compression is kept when it saves at least one part in this many.
const WORTH: usize = 20;
/// Of a larger chunk so much is tried first: what does not compress there is stored as it is.
/// (Measured for 256 KiB that do not: 12 µs with the probe, 137 µs without, and a 16th more for what does.)
const PROBE: usize = 16 << 10;

/// Why encoded bytes are no chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// An encoding that does not exist, or none.
    #[error("a chunk encoded in an unknown way")]
    Encoding,
    /// The bytes do not decompress to what was promised.
    #[error("a chunk does not decompress to {0} bytes")]
    Length(u32),
    /// Another chunk than the one named.
    #[error("chunk {found} where {expected} was to be")]
    Wrong {
        /// The chunk found.
        found: ChunkId,
        /// The chunk named.
        expected: ChunkId,
    },
}

/// Cuts and names chunks under a vault's secret.
#[derive(Clone)]
pub struct Chunker {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
    masks: (u64, u64),
    id_key: SealKey,
}

impl Drop for Chunker {
    fn drop(&mut self) {
        self.gear.zeroize();
        self.gear_shifted.zeroize();
    }
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chunker(secret)")
    }
}

impl Chunker {
    /// The chunker of a vault.
    #[must_use]
    pub fn new(secret: &VaultSecret) -> Self {
        let mut table = [0; 2048];
        blake3::Hasher::new_keyed(&secret.gear_key().0).finalize_xof().fill(&mut table);
        let (words, _) = table.as_chunks::<8>();
        let gear: Box<[u64; 256]> = Box::new(std::array::from_fn(|i| u64::from_le_bytes(words[i])));
        table.zeroize();
        let gear_shifted = Box::new(gear.map(|word| word << 1));
        let masks = select_masks(CHUNK_AVERAGE, Normalization::Level2);
        Self { gear, gear_shifted, masks, id_key: secret.chunk_id_key() }
    }

    /// The length of the first chunk of `data`, or `None` when more data is needed to tell; with `eof`
    /// there is no more. Empty data has no chunk.
    #[must_use]
    pub fn cut(&self, data: &[u8], eof: bool) -> Option<usize> {
        if data.is_empty() || data.len() < CHUNK_MAX && !eof {
            return None;
        }
        if data.len() <= CHUNK_MIN {
            return Some(data.len());
        }
        let (small, large) = self.masks;
        let (_, cut) = cut_gear(
            data,
            CHUNK_MIN,
            CHUNK_AVERAGE,
            CHUNK_MAX,
            small,
            large,
            small << 1,
            large << 1,
            &self.gear[..],
            &self.gear_shifted[..],
        );
        Some(cut)
    }

    /// The chunk's name.
    #[must_use]
    pub fn id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.id_key.0, plain).as_bytes())
    }

    /// Checks that these are the bytes of the chunk named.
    pub fn check(&self, expected: ChunkId, plain: &[u8]) -> Result<(), ChunkError> {
        let found = self.id(plain);
        if found == expected { Ok(()) } else { Err(ChunkError::Wrong { found, expected }) }
    }
}

/// Encodes chunks, keeping zstd's working memory between them.
pub struct Compressor(zstd::bulk::Compressor<'static>);

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self(zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("zstd knows its level 1"))
    }
}

impl Compressor {
    /// Encodes a chunk into `out`, replacing what is there.
    pub fn encode(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if !self.shrink(plain, out) {
            store(plain, out);
        }
    }

    /// Encodes a chunk into `out` if compressing is worth it, and says whether it was; else what is in `out` is of no
    /// use, and the chunk is to be [`store`]d.
    pub fn shrink(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        // The middle, because heads of files are often unlike their bodies.
        let from = plain.len() / 2;
        let probed = plain.len() <= 4 * PROBE || self.compress(&plain[from..from + PROBE], out);
        probed && self.compress(plain, out)
    }

    /// Whether compressing was worth it; then `out` is the encoded chunk.
    fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        out.resize(1 + plain.len(), 0);
        out[0] = 1;
        let limit = plain.len() - plain.len() / WORTH;
        match self.0.compress_to_buffer(plain, &mut out[1..]) {
            Ok(len) if len < limit => {
                out.truncate(1 + len);
                true
            }
            // zstd says that the buffer is too small when nothing is saved.
            _ => false,
        }
    }
}

/// Encodes a chunk as it is, replacing what is in `out`.
pub fn store(plain: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(0);
    out.extend_from_slice(plain);
}

/// Decodes a chunk that is `len` bytes long. One that is not compressed is where it was; else it is in `room`,
/// in place of what was there.
pub fn decode_chunk<'a>(
    encoded: &'a [u8],
    len: u32,
    room: &'a mut Vec<u8>,
) -> Result<&'a [u8], ChunkError> {
    let (flag, bytes) = encoded.split_first().ok_or(ChunkError::Encoding)?;
    if len as usize > CHUNK_MAX {
        return Err(ChunkError::Length(len));
    }
    match flag {
        0 if bytes.len() == len as usize => Ok(bytes),
        0 => Err(ChunkError::Length(len)),
        1 => {
            room.resize(len as usize, 0);
            match zstd::bulk::decompress_to_buffer(bytes, &mut room[..]) {
                Ok(found) if found == len as usize => Ok(room),
                _ => Err(ChunkError::Length(len)),
            }
        }
        _ => Err(ChunkError::Encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(len: usize, seed: u8) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
        out
    }

    fn cuts(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        while let Some(len) = chunker.cut(data, true) {
            lens.push(len);
            data = &data[len..];
        }
        lens
    }

    #[test]
    fn boundaries_are_within_bounds_keyed_and_found_again_after_a_shift() {
        let chunker = Chunker::new(&VaultSecret([1; 32]));
        let data = noise(16 << 20, 3);
        let lens = cuts(&chunker, &data);
        assert_eq!(lens.iter().sum::<usize>(), data.len());
        assert!(lens[..lens.len() - 1].iter().all(|len| (CHUNK_MIN..=CHUNK_MAX).contains(len)));
        let average = data.len() / lens.len();
        assert!((CHUNK_AVERAGE / 2..CHUNK_AVERAGE * 2).contains(&average), "{average}");
        assert_ne!(lens, cuts(&Chunker::new(&VaultSecret([2; 32])), &data));

        let mut shifted = noise(1000, 9);
        shifted.extend_from_slice(&data);
        let after = cuts(&chunker, &shifted);
        let common = lens.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(common > lens.len() / 2, "{common} of {}", lens.len());
    }

    #[test]
    fn a_stream_is_cut_as_the_whole_is() {
        let chunker = Chunker::new(&VaultSecret([1; 32]));
        let data = noise(5 << 20, 4);
        let whole = cuts(&chunker, &data);
        let (mut lens, mut buffer, mut rest) = (Vec::new(), Vec::new(), &data[..]);
        loop {
            let take = rest.len().min(100_000);
            buffer.extend_from_slice(&rest[..take]);
            rest = &rest[take..];
            while let Some(len) = chunker.cut(&buffer, rest.is_empty()) {
                lens.push(len);
                buffer.drain(..len);
            }
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(lens, whole);
    }

    #[test]
    fn what_does_not_compress_is_stored_as_it_is() {
        let (mut compressor, mut out) = (Compressor::default(), Vec::new());
        compressor.encode(&noise(200_000, 1), &mut out);
        assert_eq!((out[0], out.len()), (0, 200_001));
        compressor.encode(&vec![b'a'; 200_000], &mut out);
        assert_eq!(out[0], 1);
        assert!(out.len() < 1000);
    }

    proptest! {
        #[test]
        fn chunks_round_trip(mut plain: Vec<u8>, repeat in 1usize..2000) {
            plain = plain.repeat(repeat);
            plain.truncate(CHUNK_MAX);
            let (mut encoded, mut out) = (Vec::new(), Vec::new());
            Compressor::default().encode(&plain, &mut encoded);
            prop_assert_eq!(decode_chunk(&encoded, plain.len() as u32, &mut out).unwrap(), &plain[..]);
            prop_assert!(decode_chunk(&encoded, plain.len() as u32 + 1, &mut out).is_err());
        }

        #[test]
        fn hostile_bytes_are_refused(bytes: Vec<u8>, len: u32) {
            let mut out = Vec::new();
            if let Ok(plain) = decode_chunk(&bytes, len, &mut out) {
                prop_assert_eq!(plain.len(), len as usize);
            }
        }
    }
}
