//! Who asks for what is not there, or not for it.

use crate::enemy::{assert_sound, code, count, key, status};
use crate::statements::Owner;
use harness::{Mesh, bytes};
use protocol::codec::Blob;
use protocol::id::{SessionId, ShardId, StripeId};
use protocol::log::{Body, Entry};
use protocol::message::{IDS_MAX, RefusalCode, Request, Response};
use protocol::sign::Signed;

#[tokio::test(flavor = "multi_thread")]
async fn one_vaults_device_sees_nothing_of_another_vault() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let (victim, thief) = (Owner::new(&mesh, 0, "v"), Owner::new(&mesh, 0, "w"));
    let (friend, enemy) = (victim.connect().await, thief.connect().await);
    let shard = bytes("shard", 4096);
    let record = victim.record(&shard);
    let signed = victim.sign(&record);
    let kept = friend.put(&signed, 0, &shard).await;
    assert!(matches!(kept, Some(Response::Receipt(_))), "{kept:?}");

    let entry = Entry {
        vault: victim.id,
        device: victim.device_id(),
        seq: 0,
        previous: None,
        claimed: protocol::time::Wall(0),
        body: Body::Session { session: SessionId([1; 32]), sealed_key: Blob(vec![1]) },
    };
    let entry = Signed::sign(&entry, &victim.device);
    let mut moved = record.clone();
    moved.version += 1;
    let get = Request::Get { shard: record.stripe.shards[0], offset: 0, len: 64 };
    let stripes: Vec<StripeId> = vec![record.stripe.id()];
    for (request, reason) in [
        (get, RefusalCode::NotHeld),
        (Request::Records { vault: victim.id, stripes }, RefusalCode::UnknownVault),
        (Request::Inventory { vault: victim.id, after: None }, RefusalCode::UnknownVault),
        (Request::Log { vault: victim.id, after: None }, RefusalCode::UnknownVault),
        (Request::Introduce(victim.papers.clone()), RefusalCode::NotAllowed),
        (Request::Append(entry.clone()), RefusalCode::NotAllowed),
        (Request::Replace(victim.sign(&moved)), RefusalCode::NotAllowed),
    ] {
        assert_eq!(code(enemy.ask(&request).await), Some(reason), "{request:?}");
    }
    assert_eq!(enemy.ask(&Request::Vault(victim.id)).await, Some(Response::Vault(None)));
    // Its record and bytes, taken from elsewhere, are of no use either.
    assert_eq!(code(enemy.put(&signed, 0, &shard).await), Some(RefusalCode::NotAllowed));
    let status = status(&mesh, 0).await;
    let reasons = ["not_held", "unknown_vault", "not_allowed"];
    assert_eq!(reasons.map(|reason| count(&status, reason)), [1, 3, 4]);
    // None of it kept the owner from anything.
    let appended = friend.ask(&Request::Append(entry)).await;
    assert!(matches!(appended, Some(Response::Appended(_))), "{appended:?}");
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_beyond_what_is_held_are_refused() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let owner = Owner::new(&mesh, 0, "v");
    let (enemy, shard) = (owner.connect().await, bytes("shard", 4096));
    let record = owner.record(&shard);
    let kept = enemy.put(&owner.sign(&record), 0, &shard).await;
    assert!(matches!(kept, Some(Response::Receipt(_))), "{kept:?}");
    let get = |shard, offset, len| Request::Get { shard, offset, len };
    let held = record.stripe.shards[0];
    let beyond = [
        (4096, 64),
        (4095, 2),
        (0, 4097),
        (0, 0),
        (1, u32::MAX),
        (u32::MAX, 1),
        (u32::MAX, u32::MAX),
    ];
    for (offset, len) in beyond {
        let refusal = code(enemy.ask(&get(held, offset, len)).await);
        assert_eq!(refusal, Some(RefusalCode::Malformed), "{len} at {offset}");
    }
    let missing = code(enemy.ask(&get(ShardId([7; 32]), 0, 1)).await);
    assert_eq!(missing, Some(RefusalCode::NotHeld));
    let many = Request::Records { vault: owner.id, stripes: vec![StripeId([0; 32]); IDS_MAX + 1] };
    assert_eq!(code(enemy.ask(&many).await), Some(RefusalCode::Malformed));
    let replace = Request::Replace(owner.sign(&owner.record(&bytes("unknown", 64))));
    assert_eq!(code(enemy.ask(&replace).await), Some(RefusalCode::NotHeld));
    let nobody = Request::Inventory { vault: key("nobody").public().into(), after: None };
    assert_eq!(code(enemy.ask(&nobody).await), Some(RefusalCode::UnknownVault));
    let status = status(&mesh, 0).await;
    assert_eq!(count(&status, "malformed"), beyond.len() as u64 + 1);
    assert_eq!(count(&status, "not_held"), 2);
    let bytes = enemy.ask(&get(held, 4032, 64)).await;
    assert_eq!(bytes, Some(Response::Bytes { len: 64 }));
    assert_sound(&mut mesh);
}
