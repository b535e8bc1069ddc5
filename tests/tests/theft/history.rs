//! Logs: forked, replayed, with forged times; and snapshots pushed out of lists.

use super::Owned;
use super::thief::Thief;
use harness::strewn;
use node::client::ledger::Ledger;
use protocol::codec::Blob;
use protocol::log::{Body, Entry};
use protocol::message::{RefusalCode, Request};
use protocol::sign::Signed;
use protocol::time::Wall;

#[tokio::test(flavor = "multi_thread")]
async fn no_key_of_the_owner_rewrites_what_was_logged_or_pushes_it_out() {
    let owned = Owned::new();
    let thief = Thief::new(&owned.mesh).await;
    let ledger = Ledger::read(&thief.mesh, &thief.vault).await.unwrap();
    let nodes = owned.mesh.nodes.len();
    let sign = |entry: &Entry| Signed::sign(entry, &thief.vault.device);
    for logged in ledger.entries.values() {
        // The same again changes nothing; another one of its number is a fork.
        assert_eq!(thief.say(&Request::Append(logged.signed())).await, (nodes, vec![]));
        let body =
            Body::Session { session: protocol::id::SessionId([1; 32]), sealed_key: Blob(vec![]) };
        let other = Entry { body, ..logged.entry.clone() };
        let refused = thief.say(&Request::Append(sign(&other))).await;
        assert_eq!(refused, (0, vec![RefusalCode::Fork; nodes]));
    }
    // Snapshots from the future and from the past, of nothing.
    let last = ledger.entries.values().next_back().unwrap();
    let mut entry = last.entry.clone();
    let mut previous = last.id;
    for claimed in [Wall(u64::MAX), Wall(0), Wall(1)] {
        entry = Entry { seq: entry.seq + 1, previous: Some(previous), claimed, ..entry };
        let signed = sign(&entry);
        previous = protocol::log::entry_id(&signed);
        assert_eq!(thief.say(&Request::Append(signed)).await, (nodes, vec![]));
    }
    // The owner's rules, run by the thief: whatever they leave out is there all the same.
    let home = thief.home.path("");
    let words = ["--json", "forget", "--keep-last", "1", "--apply"];
    let _ = strewn(&home, words).ok();
    let names: Vec<&str> = owned.snapshots.iter().map(|(name, _)| name.as_str()).collect();
    let _ = strewn(&home, ["--json", "forget", "--apply"].iter().chain(&names)).ok();
    let listed = owned.mesh.strewn(["--json", "snapshots", "--all"]).ok().messages("snapshot");
    for name in names {
        assert!(listed.iter().any(|snapshot| snapshot["id"] == name), "{name} is gone");
    }
    let _ = strewn(&home, ["--json", "prune", "--apply"]);
    thief.assert_all_locked().await;
    owned.assert_all_restore(owned.mesh.owner());
    owned.assert_all_restore(&owned.recover(2));
}
