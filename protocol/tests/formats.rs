//! What is written can be read, whatever it is; what is damaged is refused or is itself a value, and nothing
//! panics: packs, index blocks, item streams and roots, by their public interface alone.

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::chunk::{CHUNK_MAX, Chunker, Compressor, decode_chunk};
use protocol::codec::Blob;
use protocol::erasure::{Codec, Slot};
use protocol::id::{ChunkId, SessionId, StripeId};
use protocol::index::{IndexBlock, IndexedPack};
use protocol::item::{
    Attribute, ChunkRef, FORMAT, Item, ItemReader, ItemWriter, Meta, NodeKind, Root, SourceKind,
    Stamp, Timestamp, decode_refs, encode_refs, path_cmp,
};
use protocol::pack::{
    HEADER_LEN, PACK_LEN_MAX, PACK_LEN_MIN, PackBuilder, PackEntry, PackError, PackHeader,
    PackKind, PackOpener, SealedPack, padme, shard_len,
};
use protocol::seal::{SessionKey, VaultSecret};
use std::collections::BTreeMap;

const KEY: SessionKey = SessionKey([5; 32]);

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn builder(kind: PackKind, nonce: u8) -> PackBuilder {
    PackBuilder::new(kind, SessionId([1; 32]), &KEY, [nonce; 32], PACK_LEN_MIN, Vec::new())
}

fn seal(chunks: &[Vec<u8>], k: usize) -> SealedPack {
    let mut builder = builder(PackKind::Content, 2);
    for (i, chunk) in chunks.iter().enumerate() {
        builder.append(ChunkId([i as u8; 32]), chunk.len() as u32, chunk);
    }
    builder.finish(k).seal()
}

fn open(pack: &[u8]) -> Result<Vec<Vec<u8>>, PackError> {
    let header = PackHeader::decode(pack)?;
    let opener = PackOpener::for_pack(&header, &KEY)?;
    let entries = opener.open_table(pack)?;
    let chunk = |(number, entry): (usize, &PackEntry)| {
        let mut sealed = pack[entry.offset as usize..(entry.offset + entry.len) as usize].to_vec();
        opener.open_chunk(number as u32, &mut sealed).map(<[u8]>::to_vec)
    };
    entries.iter().enumerate().map(chunk).collect()
}

#[test]
fn a_chunk_in_the_place_of_another_is_refused() {
    let sealed = seal(&[vec![1; 500], vec![2; 500]], 1);
    let [one, two] = [&sealed.entries[0], &sealed.entries[1]];
    let mut swapped = sealed.bytes.clone();
    let (head, tail) = swapped.split_at_mut(two.offset as usize);
    head[one.offset as usize..].swap_with_slice(&mut tail[..two.len as usize]);
    assert!(open(&sealed.bytes).is_ok());
    assert!(open(&swapped).is_err());

    let opener = PackOpener::new(PackKind::Index, &KEY, &sealed.nonce);
    let mut chunk = sealed.bytes[one.offset as usize..][..one.len as usize].to_vec();
    assert!(opener.open_chunk(0, &mut chunk).is_err(), "a content chunk is no index chunk");
}

#[test]
fn a_header_that_was_altered_opens_no_table() {
    let sealed = seal(&[vec![1; 500]], 1);
    for at in 0..HEADER_LEN {
        let mut altered = sealed.bytes.clone();
        altered[at] ^= 1;
        assert!(open(&altered).is_err(), "byte {at}");
    }
}

#[test]
fn sealed_bytes_cannot_be_told_from_noise() {
    let sealed = seal(&[vec![0; 200_000], vec![0xff; 100_000]], 2);
    let body = &sealed.bytes[HEADER_LEN..];
    let mut counts = [0f64; 256];
    for &byte in body {
        counts[usize::from(byte)] += 1.0;
    }
    let expected = body.len() as f64 / 256.0;
    let chi: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    // 255 degrees of freedom: beyond these once in a million times, were the bytes drawn anew.
    assert!((160.0..380.0).contains(&chi), "{chi}");
    // The padding too: its first bytes are as good as those of the chunks.
    let end = sealed.entries.last().map(|entry| (entry.offset + entry.len) as usize).unwrap();
    assert_eq!(body.windows(4).filter(|window| *window == [0; 4]).count(), 0);
    assert!(sealed.bytes.len() - end > 1000, "there is padding to look at");
}

#[test]
fn the_same_chunks_under_another_nonce_are_other_bytes() {
    let mut other = builder(PackKind::Content, 3);
    other.append(ChunkId([0; 32]), 500, &[1; 500]);
    let (one, two) = (seal(&[vec![1; 500]], 1), other.finish(1).seal());
    assert_eq!(one.bytes.len(), two.bytes.len());
    let same = one.bytes[HEADER_LEN..].iter().zip(&two.bytes[HEADER_LEN..]);
    assert!(same.filter(|(a, b)| a == b).count() < one.bytes.len() / 50);
}

#[test]
fn what_could_not_be_read_again_does_not_fit() {
    let capacity = PACK_LEN_MAX;
    let pack =
        PackBuilder::new(PackKind::Index, SessionId([1; 32]), &KEY, [0; 32], capacity, Vec::new());
    assert!(!pack.fits(0));
    assert!(pack.fits(CHUNK_MAX + 1));
    assert!(!pack.fits(CHUNK_MAX + 2));
}

#[test]
fn a_pack_is_full_as_soon_as_it_may_refuse_a_chunk() {
    // Many tiny chunks, whose entries in the table take less than is set aside for them.
    let fill = |last: usize| {
        let mut pack = builder(PackKind::Content, 2);
        pack.append(ChunkId([0; 32]), 900_000, &vec![0; 900_000]);
        let mut tiny = 0;
        while tiny < last && pack.fits(CHUNK_MAX + 1) {
            pack.append(ChunkId([1; 32]), 0, &[0]);
            tiny += 1;
        }
        (pack.finish(3).seal().bytes.len(), tiny)
    };
    let full = shard_len(PACK_LEN_MIN, 3) * 3;
    let (len, tiny) = fill(usize::MAX);
    assert_eq!(len, full);
    assert!(tiny > 1000);
    assert!(fill(tiny - 1).0 < full);
}

#[test]
fn a_source_survives_the_whole_way_and_the_loss_of_any_two_shards() {
    let chunker = Chunker::new(&VaultSecret([8; 32]));
    let source = [noise(900_000, 1), b"text ".repeat(100_000)].concat();
    let (mut compressor, mut encoded) = (Compressor::default(), Vec::new());
    let mut builder = builder(PackKind::Content, 4);
    let mut rest = &source[..];
    while let Some(len) = chunker.cut(rest, true) {
        compressor.encode(&rest[..len], &mut encoded);
        builder.append(chunker.id(&rest[..len]), len as u32, &encoded);
        rest = &rest[len..];
    }
    let (k, n) = (4, 6);
    let sealed = builder.finish(k).seal();
    let len = sealed.bytes.len() / k;
    let codec = Codec::new(k, n).unwrap();
    let mut shards = sealed.bytes.clone();
    shards.resize(n * len, 0);
    let (data, parity) = shards.split_at_mut(k * len);
    codec.encode(data, parity).unwrap();
    for lost in (0..n).flat_map(|a| (0..a).map(move |b| [a, b])) {
        let mut shards = shards.clone();
        let mut slots: Vec<Slot<'_>> = shards
            .chunks_exact_mut(len)
            .enumerate()
            .map(|(i, bytes)| {
                let present = !lost.contains(&i);
                if !present {
                    bytes.fill(0);
                }
                Slot { bytes, present }
            })
            .collect();
        codec.reconstruct(&mut slots).unwrap();
        let (mut restored, mut room) = (Vec::new(), Vec::new());
        for (encoded, entry) in open(&shards[..k * len]).unwrap().iter().zip(&sealed.entries) {
            let plain = decode_chunk(encoded, entry.plain_len, &mut room).unwrap();
            chunker.check(entry.id, plain).unwrap();
            restored.extend_from_slice(plain);
        }
        assert_eq!(restored, source);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_pack_closed_for_want_of_room_has_the_full_length(
        lens in vec(prop_oneof![1usize..2000, 1usize..300_000, 900_000..=CHUNK_MAX + 1], 1..40),
        k in 1usize..=256, seed: u64,
    ) {
        let bytes = noise(CHUNK_MAX + 1, seed);
        let mut builder = builder(PackKind::Content, 2);
        let mut lens = lens.iter().cycle();
        let refused = loop {
            let len = *lens.next().unwrap();
            if !builder.fits(len) {
                break len;
            }
            builder.append(ChunkId([7; 32]), len.min(CHUNK_MAX) as u32, &bytes[..len]);
        };
        let sealed = builder.finish(k).seal();
        prop_assert_eq!(sealed.bytes.len(), shard_len(PACK_LEN_MIN, k) * k, "refused {}", refused);
        prop_assert_eq!(open(&sealed.bytes).unwrap().len(), sealed.entries.len());
    }

    #[test]
    fn padding_costs_an_eighth_at_most_and_the_division(
        lens in vec(1usize..60_000, 0..15), k in 1usize..=256,
    ) {
        let chunks: Vec<Vec<u8>> = lens.iter().map(|&len| vec![3; len]).collect();
        let sealed = seal(&chunks, k);
        let used = HEADER_LEN + lens.iter().map(|len| len + 16 + 47).sum::<usize>() + 100;
        prop_assert!(sealed.bytes.len() <= used + used * 12 / 100 + 64 * k);
        prop_assert_eq!(sealed.bytes.len() % (64 * k), 0);
        prop_assert_eq!(open(&sealed.bytes).unwrap(), chunks);
    }

    #[test]
    fn a_damaged_pack_is_refused(cut in 0usize..5000, flip: usize, tail in vec(any::<u8>(), 1..200)) {
        let sealed = seal(&[vec![1; 1000], vec![2; 2000]], 2);
        let truncated = &sealed.bytes[..cut.min(sealed.bytes.len() - 1)];
        prop_assert!(open(truncated).is_err());
        let mut longer = sealed.bytes.clone();
        longer.extend_from_slice(&tail);
        prop_assert!(open(&longer).is_err());
        let mut flipped = sealed.bytes.clone();
        let at = flip % flipped.len();
        flipped[at] ^= 0x80;
        // In the padding it harms nothing; the shard's name notices it there.
        if let Ok(chunks) = open(&flipped) {
            prop_assert_eq!(chunks, [vec![1; 1000], vec![2; 2000]]);
        }
    }
}

proptest! {
    #[test]
    fn padme_never_shrinks_and_never_overflows(len: u64) {
        let padded = padme(len);
        prop_assert!(padded >= len || len > u64::MAX / 2);
        prop_assert!(padded - len.min(padded) <= len / 8);
    }

    #[test]
    fn damaged_chunks_are_refused_or_have_their_length(
        text in "[a-d]{0,200}", repeat in 1usize..100, flip: usize, bit in 0u8..8, cut: usize,
    ) {
        let plain = text.repeat(repeat).into_bytes();
        let (mut encoded, mut out) = (Vec::new(), Vec::new());
        Compressor::default().encode(&plain, &mut encoded);
        let flip = flip % encoded.len();
        let mut damaged = encoded.clone();
        damaged[flip] ^= 1 << bit;
        for damaged in [&damaged[..], &encoded[..cut % encoded.len()]] {
            if let Ok(decoded) = decode_chunk(damaged, plain.len() as u32, &mut out) {
                prop_assert_eq!(decoded.len(), plain.len());
            }
        }
    }
}

fn refs(most: usize) -> impl Strategy<Value = Vec<ChunkRef>> {
    let chunk = (any::<[u8; 32]>(), 1..=CHUNK_MAX as u32)
        .prop_map(|(id, len)| ChunkRef { id: ChunkId(id), len });
    vec(chunk, 0..most)
}

fn blocks() -> impl Strategy<Value = IndexBlock> {
    let pack = (any::<[u8; 32]>(), 1u16..=256, vec((any::<[u8; 32]>(), 1u32..2000), 0..20));
    vec(pack, 0..8).prop_map(|packs| {
        let packs = packs.into_iter().map(|(name, k, lens)| {
            let mut offset = HEADER_LEN as u32;
            let mut chunks = Vec::new();
            for (id, len) in lens {
                let entry = PackEntry { id: ChunkId(id), offset, len: len + 16, plain_len: len };
                offset += entry.len;
                chunks.push(entry);
            }
            let shard_len = shard_len(offset as usize, usize::from(k)) as u32;
            let (stripe, session) = (StripeId(name), SessionId(name));
            IndexedPack { stripe, session, nonce: name, k, shard_len, chunks }
        });
        IndexBlock { packs: packs.collect() }
    })
}

proptest! {
    #[test]
    fn index_blocks_round_trip(block in blocks()) {
        prop_assert_eq!(IndexBlock::decode(&block.encode()).unwrap(), block);
    }

    #[test]
    fn a_damaged_block_is_refused_or_another_block(
        block in blocks(), at: usize, byte: u8, cut: usize,
    ) {
        let encoded = block.encode();
        let mut damaged = encoded.clone();
        let at = at % damaged.len();
        damaged[at] = byte;
        if let Ok(other) = IndexBlock::decode(&damaged) {
            prop_assert_eq!(IndexBlock::decode(&other.encode()).unwrap(), other);
        }
        prop_assert!(IndexBlock::decode(&encoded[..cut % encoded.len()]).is_err());
    }

    #[test]
    fn roots_and_lists_round_trip(chunks in refs(64), depth in 0u8..=4, cut: usize, at: usize, byte: u8) {
        let list = encode_refs(&chunks);
        prop_assert_eq!(&decode_refs(&list).unwrap(), &chunks);
        let root = Root { depth, chunks };
        let mut encoded = root.encode();
        prop_assert_eq!(Root::decode(&encoded).unwrap(), root);
        prop_assert!(Root::decode(&encoded[..cut % encoded.len()]).is_err());
        let at = at % encoded.len();
        encoded[at] = byte;
        if let Ok(other) = Root::decode(&encoded) {
            prop_assert_eq!(Root::decode(&other.encode()).unwrap(), other);
        }
    }
}

/// What a path is in a generated tree.
#[derive(Debug, Clone)]
enum Leaf {
    Directory,
    Symlink(Vec<u8>),
    File(Vec<ChunkRef>, usize),
    /// Chunks, each after a hole.
    Sparse(Vec<ChunkRef>, u64),
    /// Of a group of hard links, with attributes.
    Shared(u64, Vec<Attribute>),
    Node(NodeKind, u32),
}

fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
    let all = proptest::collection::btree_map(vec(1u8..=255, 1..20), vec(any::<u8>(), 0..40), 0..4);
    all.prop_map(|all| {
        let attribute = |(name, value)| Attribute { name: Blob(name), value: Blob(value) };
        all.into_iter().map(attribute).collect()
    })
}

fn leaves() -> impl Strategy<Value = Leaf> {
    prop_oneof![
        Just(Leaf::Directory),
        vec(1u8..=255, 1..20).prop_map(Leaf::Symlink),
        (refs(12), 1usize..6).prop_map(|(chunks, most)| Leaf::File(chunks, most)),
        (refs(5), 1u64..1 << 40).prop_map(|(chunks, hole)| Leaf::Sparse(chunks, hole)),
        (0u64..3, attributes()).prop_map(|(group, attributes)| Leaf::Shared(group, attributes)),
        any::<u32>().prop_map(|n| Leaf::Node(NodeKind::CharacterDevice, n)),
        Just(Leaf::Node(NodeKind::Fifo, 0)),
    ]
}

fn paths() -> impl Strategy<Value = Vec<u8>> {
    // Few names, so that many lie in one another; with bytes to both sides of '/'.
    let name =
        prop_oneof![Just("a"), Just("a-"), Just("a.b"), Just("b"), Just("\u{e9}"), Just("a0")];
    vec(name, 1..5).prop_map(|names| names.join("/").into_bytes())
}

fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// A whole stream of items for the leaves, with the directories that they lie in.
fn items(leaves: &BTreeMap<Vec<u8>, Leaf>) -> Vec<Item> {
    let mut tree = leaves.clone();
    for path in leaves.keys() {
        for ancestor in ancestors(path) {
            tree.insert(ancestor.to_vec(), Leaf::Directory);
        }
    }
    let mut tree: Vec<(Vec<u8>, Leaf)> = tree.into_iter().collect();
    tree.sort_by(|(a, _), (b, _)| path_cmp(a, b));
    let mut items = vec![Item::Header { format: FORMAT, kind: SourceKind::Directory }];
    let mut groups = 0;
    for (path, leaf) in tree {
        let mtime = Timestamp { secs: -i64::from(path.len() as u32), nanos: 999_999_999 };
        let meta = Meta { path: Blob(path), mode: 0o4755, uid: 0, gid: u32::MAX, mtime };
        match leaf {
            Leaf::Directory => items.push(Item::Directory { meta }),
            Leaf::Node(kind, n) => items.push(Item::Node { meta, kind, major: n, minor: n }),
            Leaf::Shared(group, attributes) => {
                let group = group.min(groups);
                groups = groups.max(group + 1);
                items.push(Item::Shared { group, left: 7 });
                items.extend(attributes.into_iter().map(Item::Attribute));
                let stamp = Stamp::default();
                items.push(Item::File { meta, stamp, size: 0, chunks: vec![], more: false });
            }
            Leaf::Sparse(chunks, len) => {
                let full: u64 = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
                let size = full + len * (chunks.len() as u64 + 1);
                let stamp = Stamp::default();
                items.push(Item::File { meta, stamp, size, chunks: vec![], more: true });
                for chunk in chunks {
                    items.push(Item::Hole { len, more: true });
                    items.push(Item::Extent { chunks: vec![chunk], more: true });
                }
                items.push(Item::Hole { len, more: false });
            }
            Leaf::Symlink(target) => items.push(Item::Symlink { meta, target: Blob(target) }),
            Leaf::File(chunks, most) => {
                let size = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
                let mut parts = chunks.chunks(most).map(<[ChunkRef]>::to_vec);
                let chunks = parts.next().unwrap_or_default();
                let mut left = parts.len();
                let stamp = Stamp { ctime: mtime, inode: u64::MAX, device: 1 };
                items.push(Item::File { meta, stamp, size, chunks, more: left > 0 });
                for chunks in parts {
                    left -= 1;
                    items.push(Item::Extent { chunks, more: left > 0 });
                }
            }
        }
    }
    items.push(Item::End { items: 1, bytes: 2, failed: 3 });
    items
}

fn write(items: &[Item]) -> Vec<u8> {
    let (mut writer, mut bytes) = (ItemWriter::default(), Vec::new());
    for item in items {
        writer.write(item, &mut bytes).unwrap();
    }
    bytes
}

fn read(bytes: &[u8], piece: usize) -> Option<Vec<Item>> {
    let (mut reader, mut items) = (ItemReader::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        while let Some(item) = reader.next_item().ok()? {
            items.push(item);
        }
    }
    reader.finish().ok()?;
    Some(items)
}

proptest! {
    #[test]
    fn item_streams_round_trip_in_any_pieces(
        tree in proptest::collection::btree_map(paths(), leaves(), 0..20), piece in 1usize..500,
    ) {
        let items = items(&tree);
        prop_assert_eq!(read(&write(&items), piece), Some(items));
    }

    #[test]
    fn a_damaged_stream_is_refused_or_another_stream(
        tree in proptest::collection::btree_map(paths(), leaves(), 0..20), cut: usize, at: usize, byte: u8,
    ) {
        let bytes = write(&items(&tree));
        prop_assert_eq!(read(&bytes[..cut % bytes.len()], 100), None);
        let mut damaged = bytes;
        let at = at % damaged.len();
        damaged[at] = byte;
        if let Some(items) = read(&damaged, 100) {
            // Whatever is read could have been written.
            write(&items);
        }
    }

    #[test]
    fn what_lies_in_a_path_directly_follows_it(mut all in vec(paths(), 1..30)) {
        all.sort_by(|a, b| path_cmp(a, b));
        all.dedup();
        for (i, path) in all.iter().enumerate() {
            let inside = |other: &&Vec<u8>| ancestors(other).any(|ancestor| ancestor == path);
            let following = all[i + 1..].iter().take_while(inside).count();
            prop_assert_eq!(all.iter().filter(inside).count(), following);
        }
    }
}
