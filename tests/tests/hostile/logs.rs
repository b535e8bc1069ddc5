//! Entries that do not belong into a log.

use crate::enemy::{assert_sound, code, count, home, key, status, target};
use crate::statements::{Owner, damaged};
use harness::{Mesh, bytes, tree_of, write};
use node::client::ledger::Ledger;
use node::client::mesh::{Caller, Mesh as Connections};
use node::client::vault::{self, Vault};
use node::service::wall;
use protocol::certificate::DeviceRevocation;
use protocol::codec::Blob;
use protocol::id::{EntryId, SessionId, StripeId};
use protocol::log::{Body, Entry, INDEX_STRIPES_MAX, entry_id};
use protocol::message::{RefusalCode, Request, Response};
use protocol::sign::Signed;
use std::path::PathBuf;
use std::time::Duration;

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

/// A vault on three nodes with one snapshot of a folder, and whoever has its device's key.
struct Stolen {
    mesh: Mesh,
    source: PathBuf,
    snapshot: String,
    vault: Vault,
    connections: Connections,
}

impl Stolen {
    async fn new() -> Self {
        let mesh = Mesh::start(&[("p", "a"), ("q", "b"), ("r", "c")]);
        mesh.create_vault("v", ONE_PROVIDER);
        let source = mesh.dir().join("source");
        write(source.join("file"), bytes("file", 100_000));
        let snapshot = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
        let vault = vault::load(&home(&mesh, 0), "v").unwrap();
        let caller = Caller::device(&vault);
        let connections = Connections::connect(&home(&mesh, 0), caller).await.unwrap();
        Self { mesh, source, snapshot, vault, connections }
    }

    /// Another entry that follows the last one, for each root.
    async fn entries(&self, roots: &[u8]) -> Vec<Signed<Entry>> {
        let ledger = Ledger::read(&self.connections, &self.vault).await.unwrap();
        let last = ledger.entries.values().next_back().unwrap();
        let Body::Snapshot { session, summary, .. } = last.entry.body.clone() else {
            panic!("the last entry is the snapshot")
        };
        let entry = |root: &u8| {
            let body =
                Body::Snapshot { session, summary: summary.clone(), root: Blob(vec![*root]) };
            let (seq, previous) = (last.entry.seq + 1, Some(last.id));
            let entry = Entry { seq, previous, claimed: wall(), body, ..last.entry.clone() };
            Signed::sign(&entry, &self.vault.device)
        };
        roots.iter().map(entry).collect()
    }

    async fn say(&self, node: usize, request: Request) -> Response {
        self.connections.nodes[&target(&self.mesh, node).node].request(&request).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_alone_shows_is_marked_and_is_not_the_latest() {
    let stolen = Stolen::new().await;
    let mesh = &stolen.mesh;
    let listed = mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot");
    assert_eq!(listed[0]["held"], true, "{listed:?}");

    // One node helps the thief of a device that was revoked; the others do not take its word.
    let entry = stolen.entries(&[1]).await.remove(0);
    let (vault, device) = (stolen.vault.id, stolen.vault.device_id());
    let order = DeviceRevocation { vault, device, issued: wall() };
    let order = Signed::sign(&order, stolen.vault.key().unwrap());
    for node in [0, 2] {
        assert_eq!(stolen.say(node, Request::Revoke(order.clone())).await, Response::Done);
    }
    let answer = stolen.say(1, Request::Append(entry)).await;
    assert!(matches!(answer, Response::Appended(_)), "{answer:?}");
    // The nodes have met meanwhile.
    tokio::time::sleep(Duration::from_secs(45)).await;
    let listed = mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot");
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["held"], &listed[1]["held"]), (&true.into(), &false.into()));
    let shown = mesh.strewn(["snapshots"]).ok().out;
    assert_eq!(shown.matches("NOT HELD WIDELY").count(), 1, "{shown}");
    let state = mesh.strewn(["--json", "status"]).ended(1).messages("summary").pop().unwrap();
    assert_eq!(state["vault"]["snapshots_not_held"], 1, "{state}");
    let back = mesh.dir().join("back");
    let restored = mesh.restore("latest", &back, &[]).ok();
    assert_eq!(tree_of(&back), tree_of(&stolen.source));
    let warned = restored.messages("warning").pop().unwrap()["message"].to_string();
    assert!(warned.contains(&stolen.snapshot[..8]), "{warned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_two_nodes_were_told_differently_is_shown_as_forked() {
    let stolen = Stolen::new().await;
    let mesh = &stolen.mesh;
    for (node, entry) in [1, 2].into_iter().zip(stolen.entries(&[1, 2]).await) {
        let answer = stolen.say(node, Request::Append(entry)).await;
        assert!(matches!(answer, Response::Appended(_)), "{answer:?}");
    }
    let listed = mesh.strewn(["--json", "snapshots"]).ok();
    assert_eq!(listed.messages("snapshot").len(), 3);
    let warned = listed.messages("warning").pop().unwrap()["message"].to_string();
    assert!(warned.contains("two logs"), "{warned}");
    let state = mesh.strewn(["--json", "status"]).ended(1).messages("summary").pop().unwrap();
    let device = serde_json::json!(stolen.vault.device_id());
    assert_eq!(state["vault"]["forked"][0], device, "{state}");
    assert!(state["verdict"].as_str().unwrap().contains("FORKED"), "{state}");
    let found = mesh.strewn(["--json", "check"]).ended(1).messages("summary").pop().unwrap();
    assert!(found["problems"]["log_broken"].as_u64() > Some(0), "{found}");
}
