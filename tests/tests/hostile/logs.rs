//! Entries that do not belong into a log.

use crate::enemy::{assert_sound, code, count, key, status};
use crate::statements::{Owner, damaged};
use harness::Mesh;
use node::service::wall;
use protocol::codec::Blob;
use protocol::id::{EntryId, SessionId, StripeId};
use protocol::log::{Body, Entry, INDEX_STRIPES_MAX, entry_id};
use protocol::message::{RefusalCode, Request, Response};
use protocol::sign::Signed;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_not_rewritten() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let (owner, other) = (Owner::new(&mesh, 0, "v"), Owner::new(&mesh, 0, "w"));
    let enemy = owner.connect().await;
    let _known = other.connect().await;
    let snapshot = |seq, previous: Option<&Signed<Entry>>, summary: usize| Entry {
        vault: owner.id,
        device: owner.device_id(),
        seq,
        previous: previous.map(entry_id),
        claimed: wall(),
        body: Body::Snapshot {
            session: SessionId([1; 32]),
            summary: Blob(vec![0; summary]),
            root: Blob(vec![1]),
        },
    };
    let sign = |entry: &Entry| Signed::sign(entry, &owner.device);
    let first = sign(&snapshot(0, None, 1));
    let second = sign(&snapshot(1, Some(&first), 2));
    for entry in [&first, &second] {
        let appended = enemy.ask(&Request::Append(entry.clone())).await;
        assert!(matches!(appended, Some(Response::Appended(_))), "{appended:?}");
    }

    let next = snapshot(2, Some(&second), 3);
    let forks = [
        snapshot(0, None, 9),
        snapshot(1, Some(&first), 9),
        snapshot(2, Some(&first), 9),
        Entry { previous: Some(EntryId([9; 32])), ..next.clone() },
        Entry { previous: None, ..next.clone() },
    ];
    for fork in &forks {
        let refusal = code(enemy.ask(&Request::Append(sign(fork))).await);
        assert_eq!(refusal, Some(RefusalCode::Fork), "{fork:?}");
    }
    for seq in [3, 7, u64::MAX] {
        let gap = enemy.ask(&Request::Append(sign(&snapshot(seq, Some(&second), 1)))).await;
        assert_eq!(gap, Some(Response::Behind { next: 2 }));
    }
    let stripes = vec![StripeId([0; 32]); INDEX_STRIPES_MAX + 1];
    let index = Body::Index { session: SessionId([1; 32]), stripes };
    let malformed = [
        damaged(&sign(&next)),
        sign(&snapshot(2, Some(&second), 70_000)),
        sign(&snapshot(2, Some(&second), 1_900_000)),
        sign(&Entry { body: index, ..next.clone() }),
    ];
    for entry in &malformed {
        let refusal = code(enemy.ask(&Request::Append(entry.clone())).await);
        assert_eq!(refusal, Some(RefusalCode::Malformed), "{entry:?}");
    }
    let thief = key("thief");
    let not_allowed = [
        Signed::sign(&Entry { device: thief.public().into(), ..next.clone() }, &thief),
        Signed::sign(&Entry { device: other.device_id(), ..next.clone() }, &other.device),
        sign(&Entry { vault: other.id, ..next.clone() }),
    ];
    for entry in &not_allowed {
        let refusal = code(enemy.ask(&Request::Append(entry.clone())).await);
        assert_eq!(refusal, Some(RefusalCode::NotAllowed));
    }
    let status = status(&mesh, 0).await;
    let counts = ["fork", "malformed", "not_allowed"].map(|reason| count(&status, reason));
    assert_eq!(counts, [forks.len(), malformed.len(), not_allowed.len()].map(|n| n as u64));
    assert!(mesh.nodes[0].log().contains("has forked"));

    let appended = enemy.ask(&Request::Append(sign(&next))).await;
    assert!(matches!(appended, Some(Response::Appended(_))), "{appended:?}");
    let log = enemy.ask(&Request::Log { vault: owner.id, after: None }).await;
    let Some(Response::Log { entries, more: false }) = log else { panic!("{log:?}") };
    let entries: Vec<_> = entries.into_iter().map(|logged| logged.entry).collect();
    assert!(entries == [first, second, sign(&next)]);
    assert_sound(&mut mesh);
}
