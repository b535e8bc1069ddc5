//! What each stage between a source and its shards costs, one core: `cargo bench -p strewn-protocol`.
//!
//! Buffers are reused, as the engine does; fresh ones cost more than the code that fills them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::chunk::{CHUNK_AVERAGE, Chunker, Compressor, decode_chunk};
use protocol::erasure::{Codec, Slot};
use protocol::id::{ChunkId, SessionId};
use protocol::pack::{PACK_LEN_MAX, PackBuilder, PackHeader, PackKind, PackOpener, shard_len};
use protocol::seal::{SessionKey, VaultSecret};
use std::hint::black_box;

const KEY: SessionKey = SessionKey([5; 32]);

fn noise(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(b"bench").finalize_xof().fill(&mut out);
    out
}

/// Bytes that compress like source code does: words of a small vocabulary in no order.
fn text(len: usize) -> Vec<u8> {
    let letters = noise(4096);
    let words: Vec<&[u8]> = letters.chunks(7).collect();
    let mut order = blake3::Hasher::new().update(b"order").finalize_xof();
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        let mut pick = [0; 2];
        order.fill(&mut pick);
        // The smaller of two picks: some words are more frequent.
        let at = usize::from(pick[0]) * usize::from(pick[1]) / 112;
        out.extend(words[at % words.len()].iter().map(|byte| b'a' + byte % 26));
        out.push(b' ');
    }
    out.truncate(len);
    out
}

fn chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk");
    let data = noise(16 << 20);
    let chunker = Chunker::new(&VaultSecret([1; 32]));
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("cut", |b| {
        b.iter(|| {
            let mut rest = &data[..];
            while let Some(len) = chunker.cut(rest, true) {
                rest = &rest[len..];
            }
        });
    });
    group.throughput(Throughput::Bytes(CHUNK_AVERAGE as u64));
    let plain = &data[..CHUNK_AVERAGE];
    group.bench_function("id", |b| b.iter(|| chunker.id(black_box(plain))));

    let (mut compressor, mut out) = (Compressor::default(), Vec::new());
    group.bench_function("encode noise", |b| b.iter(|| compressor.encode(plain, &mut out)));
    let text = text(CHUNK_AVERAGE);
    group.bench_function("encode text", |b| b.iter(|| compressor.encode(&text, &mut out)));
    let (encoded, mut plain) = (out.clone(), Vec::new());
    group.bench_function("decode text", |b| {
        b.iter(|| decode_chunk(&encoded, text.len() as u32, &mut plain).map(<[u8]>::len));
    });
    group.finish();
}

fn packs(c: &mut Criterion) {
    let mut group = c.benchmark_group("pack");
    group.throughput(Throughput::Bytes(PACK_LEN_MAX as u64)).sample_size(20);
    let (session, nonce) = (SessionId([1; 32]), [2; 32]);
    let chunk = noise(CHUNK_AVERAGE);
    let mut buffer = Vec::with_capacity(PACK_LEN_MAX + (64 << 10));
    group.bench_function("fill and seal", |b| {
        b.iter(|| {
            let reused = std::mem::take(&mut buffer);
            let mut pack =
                PackBuilder::new(PackKind::Content, session, &KEY, nonce, PACK_LEN_MAX, reused);
            while pack.fits(chunk.len()) {
                pack.append(ChunkId([3; 32]), chunk.len() as u32, &chunk);
            }
            buffer = pack.finish(4).seal().bytes;
        });
    });
    let opener = PackOpener::for_pack(&PackHeader::decode(&buffer).unwrap(), &KEY).unwrap();
    group.bench_function("open table", |b| b.iter(|| opener.open_table(&buffer)));
    let entry = opener.open_table(&buffer).unwrap()[0];
    let sealed = &buffer[entry.offset as usize..][..entry.len as usize];
    group.throughput(Throughput::Bytes(sealed.len() as u64));
    let mut chunk = Vec::with_capacity(sealed.len());
    group.bench_function("open a chunk", |b| {
        b.iter(|| {
            chunk.clear();
            chunk.extend_from_slice(sealed);
            opener.open_chunk(0, &mut chunk).map(<[u8]>::len)
        });
    });
    group.finish();
}

fn erasure(c: &mut Criterion) {
    let mut group = c.benchmark_group("erasure");
    for (k, n) in [(4, 6), (10, 14), (20, 50)] {
        let codec = Codec::new(k, n).unwrap();
        let len = shard_len(PACK_LEN_MAX, k);
        let mut shards = noise(n * len);
        group.throughput(Throughput::Bytes((k * len) as u64)).sample_size(20);
        group.bench_function(format!("encode {k} of {n}"), |b| {
            let (data, parity) = shards.split_at_mut(k * len);
            b.iter(|| codec.encode(data, parity));
        });
        group.bench_function(format!("reconstruct {} of {k}", (n - k).min(k)), |b| {
            b.iter(|| {
                let mut slots: Vec<Slot<'_>> = shards
                    .chunks_exact_mut(len)
                    .enumerate()
                    .map(|(i, bytes)| Slot { bytes, present: i >= (n - k).min(k) })
                    .collect();
                codec.reconstruct(&mut slots)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, chunks, packs, erasure);
criterion_main!(benches);
