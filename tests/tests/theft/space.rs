//! Cost and crowding: nodes that are filled, logs that are flooded.

use super::Owned;
use super::thief::Thief;
use harness::{Mesh, bytes};
use node::client::ClientError;
use protocol::codec::Blob;
use protocol::id::{SessionId, ShardId};
use protocol::log::{Body, Entry, entry_id};
use protocol::message::{RefusalCode, Request, Response};
use protocol::policy::Policy;
use protocol::record::{CODEC_REED_SOLOMON, Record, Stripe};
use protocol::sign::Signed;
use protocol::time::Period;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_filled_keeps_what_it_has_and_still_logs_and_gives_back() {
    const QUOTA: u64 = 24 << 20;
    let sites = [("x", "x1"), ("y", "y1"), ("z", "z1")];
    let owned = Owned::on(Mesh::start_with(&sites, &["--quota", "24MiB"]));
    let thief = Thief::new(&owned.mesh).await;
    let shard = |n: usize| bytes(&format!("garbage {n}"), 1 << 20);
    let mut full = 0;
    for (id, node) in &thief.mesh.nodes {
        for n in 0.. {
            let (shard, others) = (shard(n), thief.mesh.nodes.keys().filter(|other| *other != id));
            let name = ShardId(*blake3::hash(&shard).as_bytes());
            let record = Record {
                stripe: Stripe {
                    vault: thief.vault.id,
                    codec: CODEC_REED_SOLOMON,
                    k: 1,
                    n: 3,
                    shard_len: shard.len() as u32,
                    shards: vec![name; 3],
                },
                session: SessionId([1; 32]),
                policy: Policy::survive_one("provider"),
                holders: std::iter::once(id).chain(others).copied().collect(),
                version: 1,
                device: thief.vault.device_id(),
            };
            // A lock for a thousand years is not promised.
            let mut for_ever = record.clone();
            for_ever.policy.lock.period = Period::days(365_000);
            let refused = node.put(&Signed::sign(&for_ever, &thief.vault.device), 0, &shard).await;
            let not_allowed = |error: &ClientError| matches!(error, ClientError::Refused { refusal, .. } if refusal.code == RefusalCode::NotAllowed);
            assert!(refused.is_err_and(|error| not_allowed(&error)));
            match node.put(&Signed::sign(&record, &thief.vault.device), 0, &shard).await {
                Ok(_) => assert!((n as u64) << 20 < QUOTA, "beyond the quota"),
                Err(ClientError::Refused { refusal, .. }) => {
                    assert_eq!(refusal.code, RefusalCode::Quota);
                    full += 1;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(full, 3);
    // Logs go on while there is no room for shards, and end before they fill the disk.
    let ledger = node::client::ledger::Ledger::read(&thief.mesh, &thief.vault).await.unwrap();
    let last = ledger.entries.values().next_back().unwrap();
    let (mut entry, mut previous, mut bytes) = (last.entry.clone(), last.id, 0u64);
    let node = thief.mesh.nodes.values().next().unwrap();
    let refusal = loop {
        let body =
            Body::Session { session: SessionId([2; 32]), sealed_key: Blob(vec![0; 60 << 10]) };
        entry = Entry { seq: entry.seq + 1, previous: Some(previous), body, ..entry };
        let signed = Signed::sign(&entry, &thief.vault.device);
        previous = entry_id(&signed);
        match node.request(&Request::Append(signed)).await {
            Ok(Response::Appended(_)) => {
                bytes += 60 << 10;
                assert!(bytes < 1 << 30, "there is no end to it");
            }
            Err(ClientError::Refused { refusal, .. }) => break refusal,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal.code, RefusalCode::Quota);
    assert!((200 << 20..300 << 20).contains(&bytes), "{bytes} bytes of entries");
    thief.assert_all_locked().await;
    owned.assert_all_restore(owned.mesh.owner());
    owned.assert_all_restore(&owned.recover(1));
}
