//! Entries that do not belong into a log.

use crate::enemy::{assert_sound, code, count, home, key, status, target};
use crate::statements::{Owner, damaged};
use harness::{Mesh, bytes, tree_of, write};
use node::client::ledger::Ledger;
use node::client::mesh::{Caller, Mesh as Connections};
use node::client::vault;
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

const ONE_PROVIDER: &str = "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_alone_shows_is_marked_and_is_not_the_latest() {
    let mesh = Mesh::start(&[("p", "a"), ("q", "b"), ("r", "c")]);
    mesh.create_vault("v", ONE_PROVIDER);
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("file", 100_000));
    let sound = mesh.backup(&source).summary();
    let listed = mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot");
    assert_eq!(listed[0]["held"], true, "{listed:?}");

    // A backup that failed, or whoever has the device's key, told one node only.
    let vault = vault::load(&home(&mesh, 0), "v").unwrap();
    let connections = Connections::connect(&home(&mesh, 0), Caller::device(&vault)).await.unwrap();
    let ledger = Ledger::read(&connections, &vault).await.unwrap();
    let last = ledger.entries.values().next_back().unwrap();
    let entry = |root: u8| {
        let Body::Snapshot { session, summary, .. } = last.entry.body.clone() else {
            panic!("the last entry is the snapshot")
        };
        let body = Body::Snapshot { session, summary, root: Blob(vec![root]) };
        let (seq, previous) = (last.entry.seq + 1, Some(last.id));
        let entry = Entry { seq, previous, claimed: wall(), body, ..last.entry.clone() };
        Signed::sign(&entry, &vault.device)
    };
    let append = async |node: usize, entry: &Signed<Entry>| {
        let node = &connections.nodes[&target(&mesh, node).node];
        let answer = node.request(&Request::Append(entry.clone())).await.unwrap();
        assert!(matches!(answer, Response::Appended(_)), "{answer:?}");
    };
    append(1, &entry(1)).await;
    let listed = mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot");
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["held"], &listed[1]["held"]), (&true.into(), &false.into()));
    let shown = mesh.strewn(["snapshots"]).ok().out;
    assert_eq!(shown.matches("NOT HELD WIDELY").count(), 1, "{shown}");
    let state = mesh.strewn(["--json", "status"]).ended(1).messages("summary").pop().unwrap();
    assert_eq!(state["vault"]["snapshots_not_held"], 1, "{state}");
    let back = mesh.dir().join("back");
    let restored = mesh.restore("latest", &back, &[]).ok();
    assert_eq!(tree_of(&back), tree_of(&source));
    let warned = restored.messages("warning").pop().unwrap()["message"].to_string();
    assert!(warned.contains(&sound["snapshot"].as_str().unwrap()[..8]), "{warned}");

    // And told another node something else.
    append(2, &entry(2)).await;
    let listed = mesh.strewn(["--json", "snapshots"]).ok();
    assert_eq!(listed.messages("snapshot").len(), 3);
    let warned = listed.messages("warning").pop().unwrap()["message"].to_string();
    assert!(warned.contains("two logs"), "{warned}");
    let state = mesh.strewn(["--json", "status"]).ended(1).messages("summary").pop().unwrap();
    assert_eq!(state["vault"]["forked"][0], serde_json::json!(vault.device_id()), "{state}");
    assert!(state["verdict"].as_str().unwrap().contains("FORKED"), "{state}");
    let found = mesh.strewn(["--json", "check"]).ended(1).messages("summary").pop().unwrap();
    assert!(found["problems"]["log_broken"].as_u64() > Some(0), "{found}");
}
