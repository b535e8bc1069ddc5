//! Code Spaces: the panel is taken, everything in the account is deleted, the owner begins to recover, and the attacker strikes
//! again with every key.

use super::Owned;
use super::recovery::close_the_way_back;
use super::thief::Thief;
use harness::strewn;
use node::service::wall;

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_is_taken_and_the_kit_alone_brings_everything_back() {
    let mut owned = Owned::new();
    // What the owner keeps elsewhere: the kit, on paper.
    let kit = owned.mesh.dir().join("kit.txt");
    let identity = owned.mesh.identity("v");
    let words = ["vault", "kit", "--identity", identity.to_str().unwrap()];
    let printed = owned.mesh.strewn(words).ok().out;
    std::fs::write(&kit, &printed).unwrap();

    // The intruder takes all keys, then deletes every machine and disk of the account: the owner's host is one of them.
    let thief = Thief::new(&owned.mesh).await;
    owned.mesh.destroy("x");
    // The owner begins to recover on a new machine.
    let first = owned.recover(2);
    owned.assert_all_restore(&first);
    // The intruder sees it and strikes again, with every key.
    close_the_way_back(&thief).await;
    let names = owned.snapshots.iter().map(|(name, _)| name.as_str());
    let forget: Vec<&str> = ["--json", "forget", "--apply"].into_iter().chain(names).collect();
    let _ = strewn(&thief.home.path(""), &forget);
    let came = thief.release_all(wall()).await;
    assert!(came.iter().all(|came| came.cooling == 0), "{came:?}");

    // The kit alone, on a machine that has nothing.
    let drill = ["--json", "recovery", "drill", "--kit", kit.to_str().unwrap()];
    let drilled = strewn(&owned.mesh.dir().join("empty"), drill).ok();
    assert!(!drilled.messages("summary").is_empty(), "{drilled:?}");
    let second = owned.recover(4);
    owned.assert_all_restore(&second);
    owned.assert_all_restore(&first);
}
