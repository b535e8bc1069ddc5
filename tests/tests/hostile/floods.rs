//! More than a node can take.

use crate::enemy::{Enemy, SOON, assert_sound, count, frame, key, status, target};
use crate::statements::Owner;
use futures::future::join_all;
use harness::{Mesh, bytes, within, write};
use node::net::Lane;
use node::service::wall;
use protocol::codec::Blob;
use protocol::id::SessionId;
use protocol::log::{Body, Entry, entry_id};
use protocol::message::{
    GREETING_LEN_MAX, KIND_GREETING, KIND_REQUEST, REQUEST_LEN_MAX, Request, Response,
};
use protocol::record::SHARD_LEN_MAX;
use protocol::sign::Signed;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn strangers_with_many_lanes_get_little_memory() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let target = target(&mesh, 0);
    // Greetings that lack their last byte, on as many lanes as there may be.
    let most = frame(1, KIND_GREETING, GREETING_LEN_MAX as u32, &vec![0; GREETING_LEN_MAX - 1]);
    let stranger = async |name: usize| {
        let key = key(&format!("stranger {name}"));
        let enemy = if name.is_multiple_of(5) {
            Enemy::dial_quic(target, &key).await
        } else {
            Enemy::dial(target, &key).await
        };
        let lanes: Vec<_> = join_all((0..32).map(|_| enemy.push(&most))).await;
        (enemy, lanes)
    };
    let mut strangers = Vec::new();
    for ten in 0..10 {
        strangers.extend(join_all((0..10).map(|one| stranger(10 * ten + one))).await);
    }
    assert_sound(&mut mesh);
    for (enemy, _) in &strangers {
        assert!(enemy.is_closed().await);
    }
    let status = status(&mesh, 0).await;
    assert!(count(&status, "lanes") > 0);
    assert_eq!(count(&status, "not_vouched"), strangers.len() as u64);
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_lanes_at_once_are_as_good_as_a_few() {
    let mut mesh = Mesh::start(&[("p", "a"), ("q", "b"), ("r", "c")]);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    let owner = Owner::new(&mesh, 0, "flood");
    let enemy = owner.connect().await;
    // Each with a large request, or a shard, that does not end.
    let mut record = owner.record(&[0; 64]);
    record.stripe.shard_len = SHARD_LEN_MAX;
    let len = SHARD_LEN_MAX;
    let put = Request::Put { record: owner.sign(&record), index: 0, len }.encode().1;
    let piece = vec![0; 60_000];
    let put = frame(1, KIND_REQUEST, put.len() as u32, &[&put[..], &piece].concat());
    let long = frame(1, KIND_REQUEST, REQUEST_LEN_MAX as u32, &vec![0; 1 << 20]);
    let push = async |number: usize| -> Option<Lane> {
        let bytes = if number.is_multiple_of(2) { &put } else { &long };
        tokio::time::timeout(Duration::from_secs(10), enemy.push(bytes)).await.ok()?
    };
    // Most of the streams that a connection may have, again and again; with more at once it would end.
    let lanes = join_all((0..40).map(&push)).await;
    for wave in 1..25 {
        let _ended = join_all((0..40).map(|number| push(40 * wave + number))).await;
    }
    let refused = count(&status(&mesh, 0).await, "lanes");
    assert!(refused > 900, "{refused} were refused");
    write(mesh.dir().join("source/file"), bytes("file", 100_000));
    let _ = mesh.backup(&mesh.dir().join("source")).ok();
    drop(lanes);
    enemy.net.close(enemy.link);
    let incoming = mesh.nodes[0].home.join("node/incoming");
    assert!(within(SOON, || std::fs::read_dir(&incoming).unwrap().next().is_none()));
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_never_listens_costs_little_memory() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let owner = Owner::new(&mesh, 0, "v");
    let enemy = owner.connect().await;
    let mut last: Option<Signed<Entry>> = None;
    for seq in 0..40 {
        let entry = Entry {
            vault: owner.id,
            device: owner.device_id(),
            seq,
            previous: last.as_ref().map(entry_id),
            claimed: wall(),
            body: Body::Session { session: SessionId([1; 32]), sealed_key: Blob(vec![0; 60_000]) },
        };
        let signed = Signed::sign(&entry, &owner.device);
        let appended = enemy.ask(&Request::Append(signed.clone())).await;
        assert!(matches!(appended, Some(Response::Appended(_))), "{appended:?}");
        last = Some(signed);
    }
    // Two connections are what one key may have.
    let deaf = [enemy, owner.connect().await];
    let (kind, body) = Request::Log { vault: owner.id, after: None }.encode();
    let ask = frame(1, kind, body.len() as u32, &body);
    let flood: Vec<u8> = ask.iter().copied().cycle().take(1 << 20).collect();
    // 64 MiB in all, most of which is never read.
    let push = async |number: usize| -> Option<Lane> {
        let pushed = deaf[number % 2].push(&flood);
        tokio::time::timeout(Duration::from_secs(5), pushed).await.ok()?
    };
    let lanes = join_all((0..64).map(push)).await;
    assert_sound(&mut mesh);
    drop(lanes);
    assert_sound(&mut mesh);
}
