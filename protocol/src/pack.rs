//! Packs: many sealed chunks in one padded container, the unit that is erasure-coded.
//!
//! ```text
//! offset  bytes  what
//! 0       8      "STRWPACK"
//! 8       1      version = 1
//! 9       1      kind: 0 content (session key), 1 index (the vault's index key)
//! 10      22     zero, or it is no pack
//! 32      32     session
//! 64      32     pack nonce, random
//! 96      32     commitment to the pack key
//! 128     …      sealed chunks: ciphertext ‖ tag(16), nonce = number of the chunk
//!         …      padding: BLAKE3 stream of the pack key, indistinguishable from the rest
//!         …      sealed table: codec bytes of a list of [`PackEntry`] ‖ tag(16), nonce = 2^32
//! end-40  40     sealed trailer: table offset u32 LE, table length with tag u32 LE, 16 zero bytes ‖ tag(16),
//!                nonce = 2^32 + 1, authenticates the 128 bytes of the header too
//! ```
//! A nonce is its number as u64 LE, then 16 zero bytes; no other pack has this key. Chunks and table
//! authenticate bytes 0 to 10 of the header.
//!
//! The length is rounded up by Padmé (Nikitin et al., PETS 2019: at most 12 % more, and only so many
//! lengths that they tell little), then to k shards of equal length, a multiple of 64 bytes. A pack that was
//! closed for want of room has always the full length; one closed by [`PACK_CHUNKS_MAX`] may be nearly
//! empty and is padded by Padmé. Each chunk can be opened alone from its own bytes.

use crate::chunk::{CHUNK_MAX, ENCODED_MAX};
use crate::codec::{self, CodecError};
use crate::id::{ChunkId, SessionId};
use crate::seal::{SealError, SealKey, SessionKey, TAG_LEN};
use serde::{Deserialize, Serialize};

/// Longest pack before it is divided into shards, in bytes.
pub const PACK_LEN_MAX: usize = 16 << 20;
/// Shortest capacity of a pack: one chunk of any size fits.
pub const PACK_LEN_MIN: usize = 2 << 20;
/// Most chunks in a pack.
pub const PACK_CHUNKS_MAX: usize = 16 << 10;
/// Length of the header.
pub const HEADER_LEN: usize = 128;

const MAGIC: &[u8; 8] = b"STRWPACK";
const VERSION: u8 = 1;
const TRAILER_PLAIN: usize = 24;
const TRAILER_LEN: usize = TRAILER_PLAIN + TAG_LEN;
const TABLE_NONCE: u64 = 1 << 32;
const TRAILER_NONCE: u64 = TABLE_NONCE + 1;
/// Longest encoded [`PackEntry`]: id, offset, length and plain length.
const ENTRY_LEN_MAX: usize = 32 + 3 * 5;

/// Why bytes are no pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Not a pack, or a newer one.
    #[error("not a pack that this software knows: {0}")]
    Header(&'static str),
    /// Sealed with another key, or altered.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The table is not one.
    #[error("the pack's table: {0}")]
    Table(#[from] CodecError),
    /// Numbers in it do not fit.
    #[error("the pack's numbers do not fit: {0}")]
    Numbers(&'static str),
}

/// What a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackKind {
    /// Chunks of sources and item streams, under the session's key.
    Content,
    /// Blocks of the index, under the vault's index key.
    Index,
}

/// Where a chunk lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackEntry {
    /// The chunk.
    pub id: ChunkId,
    /// From the start of the pack.
    pub offset: u32,
    /// Sealed bytes, with tag.
    pub len: u32,
    /// Plain bytes.
    pub plain_len: u32,
}

fn nonce(number: u64) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce
}

fn context(kind: PackKind) -> [u8; 10] {
    let mut context = [0; 10];
    context[..8].copy_from_slice(MAGIC);
    context[8] = VERSION;
    context[9] = kind as u8;
    context
}

/// The length by Padmé: as many low bits are zero as the length has bits, less the bits of that number.
#[must_use]
pub fn padme(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let bits = exponent.ilog2() + 1;
    let mask = (1u64 << (exponent.saturating_sub(bits))) - 1;
    len.saturating_add(mask) & !mask
}

/// The length of each of the `k` shards that carry `len` bytes; `k` is not zero.
#[must_use]
pub fn shard_len(len: usize, k: usize) -> usize {
    len.div_ceil(k).next_multiple_of(64)
}

/// A pack that is being filled. Chunks lie in it unsealed, each with room for its tag.
#[derive(Debug)]
pub struct PackBuilder {
    kind: PackKind,
    session: SessionId,
    nonce: [u8; 32],
    key: SealKey,
    capacity: usize,
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
}

impl PackBuilder {
    /// An empty pack of at most `capacity` bytes ([`PACK_LEN_MIN`] to [`PACK_LEN_MAX`]), written into `buffer`,
    /// whose content is forgotten. `nonce` must be random: it makes the pack's key its own.
    #[must_use]
    pub fn new(
        kind: PackKind,
        session: SessionId,
        key: &SessionKey,
        nonce: [u8; 32],
        capacity: usize,
        mut buffer: Vec<u8>,
    ) -> Self {
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        let capacity = capacity.clamp(PACK_LEN_MIN, PACK_LEN_MAX);
        Self {
            kind,
            session,
            nonce,
            key: key.pack_key(&nonce),
            capacity,
            bytes: buffer,
            entries: Vec::new(),
        }
    }

    fn has_room(&self, encoded_len: usize) -> bool {
        // The table is its count and the entries.
        let table = 16 + (self.entries.len() + 1) * ENTRY_LEN_MAX + TAG_LEN;
        self.bytes.len() + encoded_len + TAG_LEN + table + TRAILER_LEN <= self.capacity
    }

    /// Whether an encoded chunk of this length still fits; none does that is empty or longer than
    /// [`ENCODED_MAX`], since none such could be read again.
    #[must_use]
    pub fn fits(&self, encoded_len: usize) -> bool {
        (1..=ENCODED_MAX).contains(&encoded_len)
            && self.entries.len() < PACK_CHUNKS_MAX
            && self.has_room(encoded_len)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an encoded chunk that [`PackBuilder::fits`].
    ///
    /// # Panics
    /// When it does not fit, or its plain length is no chunk's: the pack could not be read again.
    pub fn append(&mut self, id: ChunkId, plain_len: u32, encoded: &[u8]) {
        assert!(self.fits(encoded.len()), "a chunk that does not fit was appended");
        assert!(plain_len as usize <= CHUNK_MAX, "what was appended is longer than a chunk");
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(encoded);
        self.bytes.extend_from_slice(&[0; TAG_LEN]);
        let len = (encoded.len() + TAG_LEN) as u32;
        self.entries.push(PackEntry { id, offset, len, plain_len });
    }

    /// The pack, to be divided into `k` shards, at least one; a full one has the full length. Sealing
    /// it is the slow part and left to [`UnsealedPack::seal`].
    #[must_use]
    pub fn finish(self, k: usize) -> UnsealedPack {
        UnsealedPack { k, pack: self }
    }
}

/// A filled pack, not sealed yet.
#[derive(Debug)]
pub struct UnsealedPack {
    k: usize,
    pack: PackBuilder,
}

/// A sealed pack: nothing in it can be told from noise but its header.
#[derive(Debug)]
pub struct SealedPack {
    /// k shards, one after another.
    pub bytes: Vec<u8>,
    /// What is where.
    pub entries: Vec<PackEntry>,
    /// The pack's nonce.
    pub nonce: [u8; 32],
}

impl UnsealedPack {
    /// Seals and pads the pack in place.
    #[must_use]
    pub fn seal(self) -> SealedPack {
        let Self { k, pack } = self;
        // As soon as `fits` may have refused a chunk for want of room.
        let full = !pack.has_room(ENCODED_MAX);
        let PackBuilder { kind, session, nonce: pack_nonce, key, capacity, mut bytes, entries } =
            pack;
        bytes[..HEADER_LEN].copy_from_slice(
            &PackHeader { kind, session, nonce: pack_nonce, commitment: key.commitment() }.encode(),
        );
        let context = context(kind);
        for (number, entry) in entries.iter().enumerate() {
            let (from, to) = (entry.offset as usize, (entry.offset + entry.len) as usize);
            let (plain, tag) = bytes[from..to].split_at_mut(entry.len as usize - TAG_LEN);
            tag.copy_from_slice(&key.seal_in_place(nonce(number as u64), &context, plain));
        }
        let mut table = codec::encode(&entries);
        let tail = table.len() + TAG_LEN + TRAILER_LEN;
        let used = bytes.len() + tail;
        let len = if full { capacity } else { padme(used as u64) as usize };
        let len = shard_len(len, k) * k;

        let table_at = len - tail;
        let from = bytes.len();
        bytes.resize(len, 0);
        let mut padding = blake3::Hasher::new_derive_key("strewn 2026-11 padding v1");
        padding.update(&key.0).finalize_xof().fill(&mut bytes[from..table_at]);
        let tag = key.seal_in_place(nonce(TABLE_NONCE), &context, &mut table);
        bytes[table_at..table_at + table.len()].copy_from_slice(&table);
        bytes[table_at + table.len()..len - TRAILER_LEN].copy_from_slice(&tag);
        let mut trailer = [0; TRAILER_PLAIN];
        trailer[..4].copy_from_slice(&(table_at as u32).to_le_bytes());
        trailer[4..8].copy_from_slice(&((table.len() + TAG_LEN) as u32).to_le_bytes());
        let tag = key.seal_in_place(nonce(TRAILER_NONCE), &bytes[..HEADER_LEN], &mut trailer);
        bytes[len - TRAILER_LEN..len - TAG_LEN].copy_from_slice(&trailer);
        bytes[len - TAG_LEN..].copy_from_slice(&tag);
        SealedPack { bytes, entries, nonce: pack_nonce }
    }
}

/// What stands in the clear at the start of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackHeader {
    /// What it holds.
    pub kind: PackKind,
    /// The session that wrote it.
    pub session: SessionId,
    /// Makes the pack's key.
    pub nonce: [u8; 32],
    /// What the pack's key must commit to.
    pub commitment: [u8; 32],
}

impl PackHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..10].copy_from_slice(&context(self.kind));
        bytes[32..64].copy_from_slice(&self.session.0);
        bytes[64..96].copy_from_slice(&self.nonce);
        bytes[96..].copy_from_slice(&self.commitment);
        bytes
    }

    /// Reads the header from the start of a pack. Only [`PackOpener::open_table`] authenticates it.
    pub fn decode(bytes: &[u8]) -> Result<Self, PackError> {
        let header = bytes.get(..HEADER_LEN).ok_or(PackError::Header("too short"))?;
        if &header[..8] != MAGIC {
            return Err(PackError::Header("it does not begin with STRWPACK"));
        }
        if header[8] != VERSION {
            return Err(PackError::Header("its version is newer"));
        }
        let kind = match header[9] {
            0 => PackKind::Content,
            1 => PackKind::Index,
            _ => return Err(PackError::Header("its kind is not known")),
        };
        if header[10..32].iter().any(|&byte| byte != 0) {
            return Err(PackError::Header("its reserved bytes are not zero"));
        }
        let field = |at: usize| -> [u8; 32] { std::array::from_fn(|i| header[at + i]) };
        Ok(Self { kind, session: SessionId(field(32)), nonce: field(64), commitment: field(96) })
    }
}

/// Opens packs written under one key.
#[derive(Debug)]
pub struct PackOpener {
    kind: PackKind,
    key: SealKey,
}

impl PackOpener {
    /// For the pack with this nonce, written under this key.
    #[must_use]
    pub fn new(kind: PackKind, key: &SessionKey, nonce: &[u8; 32]) -> Self {
        Self { kind, key: key.pack_key(nonce) }
    }

    /// For a whole pack at hand: checks that its header commits to this key.
    pub fn for_pack(header: &PackHeader, key: &SessionKey) -> Result<Self, PackError> {
        let opener = Self::new(header.kind, key, &header.nonce);
        opener.key.check_commitment(&header.commitment)?;
        Ok(opener)
    }

    /// Opens chunk `number`, given its sealed bytes, in place, and gives the encoded chunk.
    pub fn open_chunk<'a>(&self, number: u32, sealed: &'a mut [u8]) -> Result<&'a [u8], PackError> {
        let len = sealed.len();
        let (bytes, tag) =
            sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(SealError::TooShort(len))?;
        self.key.open_in_place(nonce(u64::from(number)), &context(self.kind), bytes, tag)?;
        Ok(bytes)
    }

    /// Opens chunk `number` into `room`, which grows where it must, and gives the encoded chunk.
    pub fn open_chunk_to<'a>(
        &self,
        number: u32,
        sealed: &[u8],
        room: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], PackError> {
        let (bytes, tag) =
            sealed.split_last_chunk::<TAG_LEN>().ok_or(SealError::TooShort(sealed.len()))?;
        if room.len() < bytes.len() {
            room.resize(bytes.len(), 0);
        }
        let plain = &mut room[..bytes.len()];
        self.key.open_to(nonce(u64::from(number)), &context(self.kind), bytes, tag, plain)?;
        Ok(plain)
    }

    /// Opens the table at the end of a whole pack, and with it checks the header at its start.
    pub fn open_table(&self, pack: &[u8]) -> Result<Vec<PackEntry>, PackError> {
        let context = context(self.kind);
        let end = pack.len().checked_sub(TRAILER_LEN).filter(|&end| end >= HEADER_LEN);
        let end = end.ok_or(PackError::Numbers("too short"))?;
        let mut trailer: [u8; TRAILER_PLAIN] = std::array::from_fn(|i| pack[end + i]);
        let tag: [u8; TAG_LEN] = std::array::from_fn(|i| pack[end + TRAILER_PLAIN + i]);
        let header = &pack[..HEADER_LEN];
        self.key.open_in_place(nonce(TRAILER_NONCE), header, &mut trailer, &tag)?;
        let number =
            |at: usize| u32::from_le_bytes(std::array::from_fn(|i| trailer[at + i])) as usize;
        let (at, len) = (number(0), number(4));
        let sealed = at.checked_add(len).filter(|&to| to == end && len >= TAG_LEN);
        sealed.ok_or(PackError::Numbers("the table lies outside"))?;
        let (table, tag) = pack[at..end].split_at(len - TAG_LEN);
        let tag: [u8; TAG_LEN] = std::array::from_fn(|i| tag[i]);
        let mut table = table.to_vec();
        self.key.open_in_place(nonce(TABLE_NONCE), &context, &mut table, &tag)?;
        let entries: Vec<PackEntry> = codec::decode(&table, PACK_CHUNKS_MAX * ENTRY_LEN_MAX + 16)?;
        for entry in &entries {
            check_entry(entry, at)?;
        }
        Ok(entries)
    }
}

/// Checks that an entry lies within the first `len` bytes of its pack.
pub fn check_entry(entry: &PackEntry, len: usize) -> Result<(), PackError> {
    let end = u64::from(entry.offset) + u64::from(entry.len);
    let fits = (entry.offset as usize) >= HEADER_LEN
        && end <= len as u64
        && (entry.len as usize) > TAG_LEN
        && entry.len as usize <= ENCODED_MAX + TAG_LEN
        && entry.plain_len as usize <= CHUNK_MAX;
    if fits { Ok(()) } else { Err(PackError::Numbers("a chunk lies outside")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: SessionKey = SessionKey([5; 32]);

    fn pack(chunks: &[Vec<u8>], k: usize) -> SealedPack {
        let mut builder = PackBuilder::new(
            PackKind::Content,
            SessionId([1; 32]),
            &KEY,
            [2; 32],
            PACK_LEN_MIN,
            vec![0xaa; 10],
        );
        for (i, chunk) in chunks.iter().enumerate() {
            builder.append(ChunkId([i as u8; 32]), chunk.len() as u32, chunk);
        }
        builder.finish(k).seal()
    }

    #[test]
    fn padme_is_that_of_the_paper() {
        // At most 12 % more, and never less.
        for len in (1..100_000).chain([1 << 20, (1 << 20) + 1, 16 << 20]) {
            let padded = padme(len);
            assert!(padded >= len && padded as f64 <= len as f64 * 1.12 + 1.0, "{len} {padded}");
            assert_eq!(padme(padded), padded);
        }
        assert_eq!((padme(9), padme(1000), padme(1_000_001)), (10, 1024, 1_015_808));
    }

    #[test]
    fn lengths_within_a_bucket_cannot_be_told_apart() {
        let one = pack(&[vec![0; 101_000]], 2);
        let two = pack(&[vec![0; 50_300], vec![0; 50_400]], 2);
        assert_eq!(one.bytes.len(), two.bytes.len());
        let zeros =
            one.bytes[HEADER_LEN..].windows(8).filter(|w| w.iter().all(|b| *b == 0)).count();
        assert_eq!(zeros, 0, "padding and chunks look like noise");
    }

    #[test]
    fn full_packs_have_one_length() {
        let full = pack(&[vec![1; 1 << 20], vec![2; 900_000]], 3);
        let fuller = pack(&[vec![1; 1 << 20], vec![2; 1_000_000]], 3);
        assert_eq!(full.bytes.len(), fuller.bytes.len());
        assert_eq!(full.bytes.len() % (3 * 64), 0);
    }

    #[test]
    fn another_key_opens_nothing() {
        let sealed = pack(&[vec![7; 1000]], 2);
        let header = PackHeader::decode(&sealed.bytes).unwrap();
        let opened = PackOpener::for_pack(&header, &SessionKey([6; 32]));
        assert!(matches!(opened, Err(PackError::Seal(SealError::WrongKey))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn packs_open_as_they_were_filled(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..3000), 1..40), k in 1usize..12,
        ) {
            let mut sealed = pack(&chunks, k);
            prop_assert_eq!(sealed.bytes.len() % (64 * k), 0);
            let header = PackHeader::decode(&sealed.bytes).unwrap();
            let opener = PackOpener::for_pack(&header, &KEY).unwrap();
            prop_assert_eq!(opener.open_table(&sealed.bytes).unwrap(), sealed.entries.clone());
            for (i, entry) in sealed.entries.iter().enumerate() {
                let range = entry.offset as usize..(entry.offset + entry.len) as usize;
                let mut room = vec![1; i];
                let apart = opener.open_chunk_to(i as u32, &sealed.bytes[range.clone()], &mut room);
                let apart = apart.unwrap().to_vec();
                let opened = opener.open_chunk(i as u32, &mut sealed.bytes[range]).unwrap();
                prop_assert_eq!(&apart, &opened);
                prop_assert_eq!(opened, &chunks[i][..]);
            }
        }

        #[test]
        fn altered_packs_are_noticed(at: usize, bit in 0u8..8) {
            let mut sealed = pack(&[vec![1; 1000], vec![2; 2000]], 2);
            let len = sealed.bytes.len();
            // Every other case hits the header, which is a small part of the pack.
            let at = if at.is_multiple_of(2) { at % HEADER_LEN } else { at % len };
            sealed.bytes[at] ^= 1 << bit;
            let opened = PackHeader::decode(&sealed.bytes).and_then(|header| {
                let opener = PackOpener::for_pack(&header, &KEY)?;
                opener.open_table(&sealed.bytes)?;
                for (i, entry) in sealed.entries.iter().enumerate() {
                    let range = entry.offset as usize..(entry.offset + entry.len) as usize;
                    opener.open_chunk(i as u32, &mut sealed.bytes[range])?;
                }
                Ok(())
            });
            let end = sealed.entries.last().map(|e| (e.offset + e.len) as usize).unwrap();
            let tail = len - TRAILER_LEN - TAG_LEN - codec::encode(&sealed.entries).len();
            let in_padding = (end..tail).contains(&at);
            prop_assert_eq!(opened.is_ok(), in_padding);
        }

        #[test]
        fn hostile_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = PackHeader::decode(&bytes);
            let opener = PackOpener::new(PackKind::Content, &KEY, &[0; 32]);
            prop_assert!(opener.open_table(&bytes).is_err());
            prop_assert!(opener.open_chunk(0, &mut bytes.clone()).is_err());
        }
    }
}
