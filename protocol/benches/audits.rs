//! What an audit of one shard costs: its holder, who reads it once, its auditor, and the line between them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::audit::{
    AuditOpening, AuditQuestion, AuditTurn, check_proof, commitment, prove_bytes,
};
use protocol::codec::encode;
use protocol::id::{ShardId, VaultId};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Wall;

/// A shard of a pack of 16 MiB in four.
const LEN: usize = 4 << 20;

fn audits(c: &mut Criterion) {
    let (holder, auditor) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
    let mut shard = vec![0; LEN];
    blake3::Hasher::new().update(b"shard").finalize_xof().fill(&mut shard);
    let id = ShardId(*blake3::hash(&shard).as_bytes());
    let nonce = [3; 32];
    let commitment = commitment(auditor.public(), &nonce);
    let opening = AuditOpening { vault: VaultId([4; 32]), shards: vec![id; 16], commitment };
    let turn = AuditTurn {
        holder: holder.public().into(),
        auditor: auditor.public(),
        opening: opening.digest(),
        nonce: [5; 32],
        drawn: Wall(0),
    };
    let question = AuditQuestion { opening, turn: Signed::sign(&turn, &holder), nonce };
    let groups = question.verify().expect("a question").groups(id, LEN as u32);
    let proof = prove_bytes(id, &groups, &shard).expect("the shard is whole");
    println!(
        "a proof of {} groups: {} bytes; a question about 16 shards: {} bytes",
        groups.len(),
        proof.len(),
        encode(&question).len()
    );
    let mut group = c.benchmark_group("audits");
    group.throughput(Throughput::Bytes(LEN as u64));
    group.bench_function("prove a shard of 4 MiB", |b| {
        b.iter(|| prove_bytes(id, &groups, &shard));
    });
    group.throughput(Throughput::Bytes(proof.len() as u64));
    group.bench_function("check its proof", |b| {
        b.iter(|| check_proof(id, LEN as u32, &groups, &proof));
    });
    group.finish();
}

criterion_group!(benches, audits);
criterion_main!(benches);
