//! Repair without the owner: providers are lost one after the other, nobody does anything, and everything is restored.

use harness::{Mesh, ROOM, files, tree_of, within};
use serde_json::Value;
use std::time::Duration;

/// For a machine that does other work.
const REPAIR: Duration = Duration::from_secs(300);

/// What the vault's stripes and the mesh are like, as a status tells it.
fn status(mesh: &Mesh) -> Value {
    mesh.strewn(["--json", "status", "--vault", "v"]).messages("summary").pop().expect("a status")
}

#[test]
fn a_lost_provider_is_made_good_by_the_others_and_then_another_one_may_be_lost() {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    let mut mesh = Mesh::start_with_spare(&sites, &[("o", "o1"), ("o", "o2")]);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    let source = mesh.dir().join("source");
    files(&source, "repair", 6, 5_000_000);
    let _ = mesh.backup(&source).summary();
    mesh.set(&[ROOM, ("patience", "\"20s\"")]);
    let before = status(&mesh);
    let stripes = before["vault"]["health"]["stripes"].as_u64().unwrap();
    assert_eq!(before["vault"]["health"]["healthy"], stripes, "{before}");

    // Nobody does anything but the nodes that are left.
    mesh.destroy("a");
    let mut last = Value::Null;
    let is_good = within(REPAIR, || {
        last = status(&mesh);
        last["vault"]["health"]["healthy"] == stripes
    });
    assert!(is_good, "{last}\n{}", mesh.nodes[0].log());
    assert!(mesh.nodes[6..].iter().all(|node| !node.shard_files().is_empty()));
    // The nodes say so themselves; whoever is asked first may not have ended its last repair yet.
    let repaired = |node: &Value| node["repair"]["repaired"].as_u64().unwrap_or_default();
    let lost = |node: &Value| node["repair"]["lost"].as_array().map_or(0, Vec::len);
    let is_told = within(REPAIR, || {
        last = status(&mesh);
        let nodes = last["nodes"].as_array().unwrap();
        nodes.iter().map(repaired).sum::<u64>() >= 1 && nodes.iter().any(|node| lost(node) == 2)
    });
    assert!(is_told, "{last}");
    // Whoever looks at everything finds nothing wrong but that what lay on all nodes lies on those that are left.
    let ran = mesh.strewn(["--json", "check", "--read-data"]);
    let checked = ran.messages("summary").pop().unwrap();
    let problems = checked["problems"].as_object().unwrap();
    assert!(problems.keys().all(|kind| kind == "holder_silent"), "{checked}");

    mesh.destroy("g");
    let target = mesh.dir().join("restored");
    let _ = mesh.restore("latest", &target, &[]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}
