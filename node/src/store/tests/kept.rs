//! Shards as a peer keeps them, with real records and receipts, for tests that make rows again.

use super::*;
use protocol::codec;
use protocol::id::{NodeId, SessionId, VaultId};
use protocol::message::HeldRecord;
use protocol::peer::{Usage, rows_of};
use protocol::policy::Policy;
use protocol::record::{CODEC_REED_SOLOMON, Receipt, Record, Stripe};
use protocol::sign::{SecretKey, Signed};
use protocol::time::{Period, Wall};

fn key(name: u8) -> SecretKey {
    SecretKey::from_seed(&[name; 32])
}

pub(super) fn vault() -> VaultId {
    key(1).public().into()
}

/// The record of a stripe whose first shard has these bytes, in a version.
pub(super) fn record(bytes: &[u8], version: u32) -> Signed<Record> {
    let shard = ShardId(*blake3::hash(bytes).as_bytes());
    let record = Record {
        stripe: Stripe {
            vault: vault(),
            codec: CODEC_REED_SOLOMON,
            k: 1,
            n: 2,
            shard_len: bytes.len() as u32,
            shards: vec![shard, ShardId([7; 32])],
        },
        session: SessionId([7; 32]),
        policy: Policy::survive_one("provider"),
        holders: [3, 4].map(|name| NodeId::from(key(name).public())).to_vec(),
        version,
        device: key(2).public().into(),
    };
    Signed::sign(&record, &key(2))
}

/// The note of the shard with these bytes.
fn note(bytes: &[u8]) -> (ShardId, HeldRecord) {
    let record = record(bytes, 1);
    let stripe = record.verify().unwrap().stripe;
    let shard = stripe.shards[0];
    let receipt = Receipt {
        holder: key(3).public().into(),
        vault: vault(),
        stripe: stripe.id(),
        index: 0,
        shard,
        len: stripe.shard_len,
        keep: Period::days(90),
        received: Wall(1_800_000_000_000),
    };
    (shard, HeldRecord { record, receipt: Some(Signed::sign(&receipt, &key(3))) })
}

/// Keeps a shard as a peer does.
pub(super) fn keep(store: &Store, seed: u64, len: usize) -> Result<ShardId, StoreError> {
    let bytes = data(seed, len);
    let (shard, held) = note(&bytes);
    let mut incoming = store.begin(len as u32)?;
    take(&mut incoming, &bytes)?;
    let mut writes = rows_of(shard, &held).unwrap();
    if store.get(Table::Held, &shard.0).unwrap().is_some() {
        writes.retain(|write| !write.table.is_sum());
    }
    store.commit_now(Batch { writes, shard: Some((incoming, shard, codec::encode(&held))) })?;
    Ok(shard)
}

/// Keeps the first `count` shards of 10,000 bytes.
pub(super) fn keep_many(store: &Store, count: u64) -> Vec<ShardId> {
    (0..count).map(|seed| keep(store, seed, 10_000).unwrap()).collect()
}

/// All of these are held and counted, and nothing else is.
pub(super) fn check_kept(store: &Store, shards: &[ShardId]) {
    check_counted(store, shards.len() as u64);
    assert_eq!(store.scan(Table::Record, &[], None, usize::MAX).unwrap().len(), shards.len());
    for &shard in shards {
        assert!(store.get(Table::Held, &shard.0).unwrap().is_some());
        store.shard(shard).unwrap().check_bytes().unwrap();
    }
}

/// So many are held, and counted.
pub(super) fn check_counted(store: &Store, count: u64) {
    assert_eq!(store.scan(Table::Held, &[], None, usize::MAX).unwrap().len() as u64, count);
    let usage = store.get(Table::Usage, &vault().0).unwrap().unwrap();
    let usage: Usage = codec::decode(&usage, codec::VALUE_LEN_MAX).unwrap();
    assert_eq!(usage, Usage { bytes: count * 10_000, shards: count });
}
