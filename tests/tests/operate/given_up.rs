//! What one host gives up, others know of; and which nodes may be silent meanwhile.

use super::devices::{on, restore, second_host};
use super::{folder, node_of, run, six, summary};
use harness::{Mesh, tree_of, within};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

fn shards(mesh: &Mesh) -> BTreeSet<PathBuf> {
    mesh.nodes.iter().flat_map(harness::Node::shard_files).collect()
}

/// How many shards all nodes together say so of.
fn count(came: &Value, what: &str) -> u64 {
    came["nodes"].as_array().unwrap().iter().map(|node| node[what].as_u64().unwrap()).sum()
}

#[test]
fn no_other_host_extends_or_misses_what_one_gave_up_and_what_is_needed_again_is_sent_again() {
    let mesh = Mesh::start(&[("h", "h1"), ("a", "a1"), ("g", "g1")]);
    let lock = "[lock]\nperiod = \"40s\"\nrelease_cooldown = \"5s\"\n";
    mesh.create_vault("v", &format!("[survive]\nany = [ {{ provider = 1 }} ]\n{lock}"));
    let other = second_host(&mesh);
    let (source, own) = (mesh.dir().join("source"), mesh.dir().join("own"));
    folder(&own, "own", 1, 100_000);
    let back_up = || on(&other, &["backup", own.to_str().unwrap()]).ok();
    folder(&source, "first", 2, 200_000);
    let first = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
    folder(&source, "second", 2, 200_000);
    let _ = mesh.backup(&source).ok();
    let _ = back_up();
    let before = shards(&mesh);
    let _ = on(mesh.owner(), &["forget", &first[..12], "--apply"]).ok();
    // As long as locks may last that it concerns, it is told on the other host.
    let _ = summary(run(&mesh, &["prune", "--apply"], true), 0);
    let said = on(&other, &["status"]).summary()["vault"]["given_up"].clone();
    assert!(said.as_str().is_some_and(|said| said.contains("by device")), "{said}");
    let mut came = Value::Null;
    // The other host backs up all the while, which keeps everything locked that it takes for needed.
    let cools = within(Duration::from_secs(180), || {
        std::thread::sleep(Duration::from_secs(2));
        let _ = back_up();
        came = summary(run(&mesh, &["prune", "--apply"], true), 0);
        count(&came, "cooling") > 0
    });
    assert!(cools, "{came}");
    let goes = within(Duration::from_secs(60), || {
        let _ = back_up();
        !before.is_subset(&shards(&mesh))
    });
    assert!(goes, "it was taken back: {came}");
    for home in [mesh.owner(), &other] {
        let status = on(home, &["status"]).ok().messages("summary").pop().unwrap();
        assert_eq!(status["good"], true, "{status}");
        let _ = summary(on(home, &["check"]), 0);
    }
    let _ = summary(run(&mesh, &["check", "--read-data"], true), 0);
    // What is gone is not taken for known on the other host.
    folder(&own, "first", 2, 200_000);
    let again = back_up().summary();
    assert!(again["new_bytes"].as_u64().unwrap() >= 400_000, "{again}");
    restore(&mesh, &other, "latest", &mesh.dir().join("back"));
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&own));
}

#[test]
fn silent_nodes_that_the_policy_survives_stop_no_prune_and_others_do() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, "first", 2, 200_000);
    let first = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
    folder(&source, "second", 2, 200_000);
    let _ = mesh.backup(&source).ok();
    let _ = on(mesh.owner(), &["forget", &first[..12], "--apply"]).ok();
    let names = ["a1", "g1", "g2"].map(|account| node_of(&mesh, account));
    // All of one provider: what is held widely is known to somebody else.
    mesh.nodes[4].kill();
    mesh.nodes[5].kill();
    let planned = summary(run(&mesh, &["prune"], true), 0);
    assert!(planned["stripes_unneeded"].as_u64().unwrap() > 0, "{planned}");
    // And one of another: these three alone could know of a snapshot.
    mesh.nodes[2].kill();
    let refused = run(&mesh, &["prune"], true).ended(1);
    let error = refused.messages("exit_error").pop().unwrap().to_string();
    assert!(names.iter().all(|name| error.contains(name)), "{error}");
}
