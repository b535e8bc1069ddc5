//! Shards that are offered and not taken.

use crate::enemy::{Enemy, SOON, answer, assert_sound, code, count, key, refused, status};
use crate::statements::Owner;
use harness::{Mesh, bytes, within};
use protocol::id::ShardId;
use protocol::message::{RefusalCode, Response};
use protocol::record::{Record, SHARD_LEN_MAX};
use protocol::time::Period;
use std::path::Path;

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

async fn take(enemy: &Enemy, owner: &Owner, record: &Record, shard: &[u8]) {
    let kept = enemy.put(&owner.sign(record), 0, shard).await;
    assert!(matches!(kept, Some(Response::Receipt(_))), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_do_not_fit_are_refused() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let (owner, other) = (Owner::new(&mesh, 0, "v"), Owner::new(&mesh, 0, "w"));
    let (enemy, shard) = (owner.connect().await, bytes("shard", 4096));
    let _known = other.connect().await;
    let record = owner.record(&shard);
    let with = |change: &dyn Fn(&mut Record)| {
        let mut record = record.clone();
        change(&mut record);
        record
    };
    let malformed = [
        with(&|r| r.stripe.k = 0),
        with(&|r| r.stripe.k = 4),
        with(&|r| r.stripe.n = 2),
        with(&|r| r.stripe.n = 0),
        with(&|r| r.stripe.n = u16::MAX),
        with(&|r| r.stripe.codec = 9),
        with(&|r| r.stripe.shard_len = 0),
        with(&|r| r.stripe.shard_len = 4097),
        with(&|r| r.stripe.shard_len = SHARD_LEN_MAX + 64),
        with(&|r| r.stripe.shard_len = u32::MAX - 63),
        with(&|r| r.stripe.shards.truncate(1)),
        with(&|r| r.stripe.shards = vec![ShardId([0; 32]); 2000]),
        with(&|r| r.holders.truncate(1)),
        with(&|r| r.holders[1] = r.holders[0]),
    ];
    let not_allowed = [
        with(&|r| r.stripe.shard_len = 8192),
        with(&|r| r.holders.swap(0, 1)),
        with(&|r| r.holders[0] = key("nobody").public().into()),
        with(&|r| r.stripe.vault = other.id),
        with(&|r| r.policy.lock.period = Period::days(40_000)),
    ];
    let mut refusals = [0, 0];
    for (record, is_malformed) in
        malformed.iter().map(|r| (r, true)).chain(not_allowed.iter().map(|r| (r, false)))
    {
        let refusal = code(enemy.put(&owner.sign(record), 0, &shard).await);
        let expected = [RefusalCode::NotAllowed, RefusalCode::Malformed];
        assert_eq!(refusal, Some(expected[usize::from(is_malformed)]), "{record:?}");
        refusals[usize::from(is_malformed)] += 1;
    }
    let signed = owner.sign(&record);
    for index in [1, 3, u16::MAX] {
        let refusal = code(enemy.put(&signed, index, &shard).await);
        assert_eq!(refusal, Some(RefusalCode::NotAllowed), "index {index}");
    }
    let by_the_other = other.sign(&with(&|r| r.device = other.device_id()));
    let by_nobody = protocol::sign::Signed::sign(
        &with(&|r| r.device = key("nobody").public().into()),
        &key("nobody"),
    );
    for forged in [by_the_other, by_nobody] {
        let refusal = code(enemy.put(&forged, 0, &shard).await);
        assert_eq!(refusal, Some(RefusalCode::NotAllowed));
    }
    let damaged = crate::statements::damaged(&signed);
    assert_eq!(code(enemy.put(&damaged, 0, &shard).await), Some(RefusalCode::Malformed));
    let status = status(&mesh, 0).await;
    assert_eq!(count(&status, "not_allowed"), refusals[0] + 5);
    assert_eq!(count(&status, "malformed"), refusals[1] + 1);
    assert_eq!((status.used, status.shards), (0, 0));
    assert!(mesh.nodes[0].shard_files().is_empty());
    take(&enemy, &owner, &record, &shard).await;
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_the_shard_leave_nothing() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let incoming = mesh.nodes[0].home.join("node/incoming");
    let owner = Owner::new(&mesh, 0, "v");
    let (enemy, shard) = (owner.connect().await, bytes("shard", 1 << 20));
    let record = owner.record(&shard);
    let signed = owner.sign(&record);
    let before = status(&mesh, 0).await;

    let other = bytes("other", shard.len());
    assert_eq!(code(enemy.put(&signed, 0, &other).await), Some(RefusalCode::WrongShard));
    assert_eq!(code(enemy.put(&signed, 0, &shard[..64]).await), Some(RefusalCode::NotAllowed));
    assert_eq!(refused(&mesh, 0, RefusalCode::WrongShard).await, 1);
    assert!(mesh.nodes[0].log().contains("wrong_shard"));

    // Bytes that stop half-way, when the lane ends and when the connection does.
    let half = shard.len() / 2;
    let len = shard.len() as u32;
    let lane = enemy.begin_put(&signed, 0, len, &shard[..half]).await.unwrap();
    assert!(within(SOON, || !is_empty(&incoming)));
    let _ = lane.close().await;
    assert!(within(SOON, || is_empty(&incoming)));
    let leaving = owner.connect().await;
    let _lane = leaving.begin_put(&signed, 0, len, &shard[..half]).await.unwrap();
    assert!(within(SOON, || !is_empty(&incoming)));
    leaving.net.close(leaving.link);
    assert!(within(SOON, || is_empty(&incoming)));
    assert!(mesh.nodes[0].shard_files().is_empty());

    // Longer than any shard: nobody reads that much to be polite.
    for len in [SHARD_LEN_MAX + 1, u32::MAX] {
        let long = owner.connect().await;
        let mut lane = long.begin_put(&signed, 0, len, &[]).await.unwrap();
        assert_eq!(code(answer(&mut lane).await.ok()), Some(RefusalCode::Malformed));
        assert!(long.is_closed().await);
    }
    assert_eq!(refused(&mesh, 0, RefusalCode::Malformed).await, 2);
    let after = status(&mesh, 0).await;
    assert_eq!((after.used, after.shards), (before.used, before.shards));

    // What fits is still taken, once.
    take(&enemy, &owner, &record, &shard).await;
    take(&enemy, &owner, &record, &shard).await;
    assert_eq!(mesh.nodes[0].shard_files().len(), 1);
    assert_eq!(status(&mesh, 0).await.used, u64::from(len));
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_beyond_the_quota_is_refused_with_what_is_left() {
    const QUOTA: u64 = 1 << 20;
    const LEN: usize = 600 << 10;
    let mut mesh = Mesh::start(&[("p", "a")]);
    mesh.add("q", "b", &["--quota", "1MiB"]);
    mesh.settle();
    let owner = Owner::new(&mesh, 1, "v");
    let enemy = owner.connect().await;
    let [first, second] = ["first", "second"].map(|name| bytes(name, LEN));
    let records = [owner.record(&first), owner.record(&second)];

    // One that arrives has its room, and gives it back when it stops.
    let len = LEN as u32;
    let incoming = mesh.nodes[1].home.join("node/incoming");
    let arriving = owner.connect().await;
    let _lane = arriving.begin_put(&owner.sign(&records[0]), 0, len, &first[..LEN / 2]).await;
    assert!(within(SOON, || !is_empty(&incoming)));
    let answer = enemy.put(&owner.sign(&records[1]), 0, &second).await;
    assert_eq!(code(answer), Some(RefusalCode::Quota));
    arriving.net.close(arriving.link);
    assert!(within(SOON, || is_empty(&incoming)));
    take(&enemy, &owner, &records[1], &second).await;

    let Some(Response::Refused(refusal)) = enemy.put(&owner.sign(&records[0]), 0, &first).await
    else {
        panic!("above the quota")
    };
    assert_eq!(refusal.code, RefusalCode::Quota);
    let left = QUOTA - LEN as u64;
    assert!(refusal.text.contains(&left.to_string()), "{refusal}");
    let status = status(&mesh, 1).await;
    assert_eq!((status.used, status.room, status.quota), (LEN as u64, left, QUOTA));
    assert_eq!(count(&status, "quota"), 2);
    assert_eq!(mesh.nodes[1].shard_files().len(), 1);
    assert_sound(&mut mesh);
}
