//! Stripes that snapshots need, given up with the vault's key so that their locks run out.

use super::Owned;
use super::thief::Thief;
use harness::Ran;
use node::client::ledger::Ledger;
use protocol::given_up::GivenUp;
use protocol::id::StripeId;
use protocol::log::Body;
use protocol::sign::Signed;
use serde_json::Value;

fn run(owned: &Owned, words: &[&str]) -> Ran {
    let identity = owned.mesh.identity("v");
    let words = ["--json"].iter().chain(words).map(std::ffi::OsStr::new);
    owned.mesh.strewn(words.chain(["--identity".as_ref(), identity.as_os_str()]))
}

fn status(owned: &Owned) -> Value {
    owned.mesh.strewn(["--json", "status"]).messages("summary").pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_thief_gives_up_is_noticed_and_sent_again_and_taken_back() {
    let owned = Owned::new();
    assert_eq!(status(&owned)["good"], true);
    let thief = Thief::new(&owned.mesh).await;
    let stripes = thief.stripes().await.iter().map(|held| held.stripe).collect();
    let mut ledger = Ledger::read(&thief.mesh, &thief.vault).await.unwrap();
    // With the highest number that there is, so that nothing could be said after it.
    let said = GivenUp { vault: thief.vault.id, number: u64::MAX, keep: false, stripes };
    let body = Body::GivenUp(Signed::sign(&said, &thief.key));
    let _ = ledger.append(&thief.mesh, &thief.vault, body, false).await.unwrap();

    let seen = status(&owned);
    assert!(
        seen["good"] == false && seen["verdict"].as_str().unwrap().contains("NOT KEPT"),
        "{seen}"
    );
    let found = run(&owned, &["check"]).ended(1).messages("summary").pop().unwrap();
    assert_eq!(found["problems"]["given_up"], 2, "both snapshots: {found}");
    // What is there all the same comes back, and what still lies at the source is sent again.
    owned.assert_all_restore(owned.mesh.owner());
    let again = owned.mesh.backup(&owned.snapshots[0].1).summary();
    assert!(again["stripes"].as_u64().unwrap() > 1, "{again}");

    let _ = run(&owned, &["prune", "--apply"]).ok();
    let good = run(&owned, &["check", "--read-data"]).ok().messages("summary").pop().unwrap();
    assert_eq!(good["problems"], serde_json::json!({}), "{good}");
    assert_eq!(status(&owned)["good"], true);
    thief.assert_all_locked().await;
    owned.assert_all_restore(owned.mesh.owner());
    owned.assert_all_restore(&owned.recover(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_a_thief_gives_up_is_extended_and_read_and_taken_back() {
    let owned = Owned::new();
    let thief = Thief::new(&owned.mesh).await;
    let mut ledger = Ledger::read(&thief.mesh, &thief.vault).await.unwrap();
    let stripes = index_stripes(&ledger);
    let said = GivenUp { vault: thief.vault.id, number: 0, keep: false, stripes: stripes.clone() };
    let body = Body::GivenUp(Signed::sign(&said, &thief.key));
    let _ = ledger.append(&thief.mesh, &thief.vault, body, false).await.unwrap();

    let found = run(&owned, &["check"]).ended(1).messages("summary").pop().unwrap();
    assert_eq!(found["problems"]["given_up"], stripes.len(), "nothing else lists this: {found}");
    // A machine that never read the index finds everything by it.
    owned.assert_all_restore(&owned.recover(2));
    let _ = run(&owned, &["prune", "--apply"]).ok();
    let good = run(&owned, &["check", "--read-data"]).ok().messages("summary").pop().unwrap();
    assert_eq!(good["problems"], serde_json::json!({}), "{good}");
    thief.assert_all_locked().await;
    owned.assert_all_restore(owned.mesh.owner());
}

/// The stripes that the log names as its index.
fn index_stripes(ledger: &Ledger) -> Vec<StripeId> {
    let named = ledger.all().map(|logged| match &logged.entry.body {
        Body::Index { stripes, .. } => &stripes[..],
        _ => &[],
    });
    named.flatten().copied().collect()
}
