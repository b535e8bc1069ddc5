//! A node that was away for so long that others stand in for it is welcome back.

use super::{
    A_WHILE, PATIENCE, REPAIR, assert_heals, count, health, is_whole, moved, repairs, summary,
};
use harness::{Mesh, ROOM, files, tree_of, within};
use serde_json::Value;

/// Waits until so many nodes are lost to those that are there, and nothing is short.
fn assert_lost(mesh: &Mesh, lost: usize) -> Value {
    let mut last = Value::Null;
    let is_so = within(REPAIR, || {
        last = repairs(mesh.owner());
        count(&last, "lost") == lost && last["short"] == 0
    });
    assert!(is_so, "{last}\n{}", super::logs(mesh));
    last
}

#[test]
fn a_node_that_comes_back_after_its_shards_were_rebuilt_counts_again_and_costs_nothing() {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    let mut mesh = Mesh::start_with_spare(&sites, &[("o", "o1"), ("o", "o2")]);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    let source = mesh.dir().join("source");
    files(&source, "returned", 6, 5_000_000);
    let snapshot = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
    mesh.set(&[ROOM, PATIENCE]);
    let stripes = health(mesh.owner())["stripes"].as_u64().expect("stripes");
    let held = mesh.nodes[2].shard_files();
    let sizes: u64 = held.iter().map(|file| file.metadata().unwrap().len()).sum();
    let spare =
        |mesh: &Mesh| mesh.nodes[6..].iter().map(|node| node.shard_files().len()).sum::<usize>();
    let before = spare(&mesh);

    mesh.nodes[2].kill();
    assert_heals(&mesh, mesh.owner(), stripes);
    let stood_in = spare(&mesh) - before;
    assert!(stood_in >= 1, "others stand in for it");
    let cost = moved(&assert_lost(&mesh, 1));

    // It is back, with all that it had. Nobody does anything about it.
    mesh.nodes[2].start();
    mesh.settle();
    let _ = assert_lost(&mesh, 0);
    std::thread::sleep(A_WHILE);
    let said = assert_lost(&mesh, 0);
    assert!(moved(&said) - cost <= sizes, "{cost} and then {said}");
    assert_eq!(mesh.nodes[2].shard_files(), held);
    // It comes and goes once more, and those that stand in for it are still there.
    mesh.nodes[2].kill();
    let said = assert_lost(&mesh, 1);
    assert!(moved(&said) - cost <= sizes, "{cost} and then {said}");
    assert_eq!(spare(&mesh), before + stood_in);
    mesh.nodes[2].start();
    mesh.settle();

    // It counts: those that stood in for it may go, and all is as the policy asks at once.
    mesh.without("o", |mesh| {
        let found = health(mesh.owner());
        assert!(is_whole(&found, stripes), "{found}");
        let target = mesh.dir().join("restored");
        let _ = mesh.restore("latest", &target, &[]).ok();
        assert_eq!(tree_of(&target), tree_of(&source));
    });

    // What it holds is locked as it was, like what the others hold.
    let identity = mesh.identity("v");
    let _ = mesh.strewn(["forget", &snapshot[..12], "--apply"]).ok();
    let asked = ["prune", "--apply", "--identity", identity.to_str().unwrap()];
    let came = summary(mesh.owner(), &asked);
    let nodes = came["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 8, "{came}");
    assert!(nodes.iter().all(|node| node["cooling"] == 0), "{came}");
    assert!(nodes.iter().filter(|node| node["locked"].as_u64() >= Some(1)).count() >= 6, "{came}");
    assert_eq!(mesh.nodes[2].shard_files(), held);
}

#[test]
fn copies_too_many_go_once_the_owner_asks_and_their_locks_are_over() {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    let mut mesh = Mesh::start_with_spare(&sites, &[("o", "o1"), ("o", "o2")]);
    let lock = "[lock]\nperiod = \"60s\"\nrelease_cooldown = \"10s\"\n";
    mesh.create_vault("v", &format!("[survive]\nany = [ {{ provider = 1 }} ]\n{lock}"));
    let source = mesh.dir().join("source");
    files(&source, "surplus", 6, 5_000_000);
    let _ = mesh.backup(&source).ok();
    mesh.set(&[ROOM, PATIENCE]);
    let stripes = health(mesh.owner())["stripes"].as_u64().expect("stripes");
    let total = |mesh: &Mesh| mesh.nodes.iter().map(|node| node.shard_files().len()).sum::<usize>();
    let (before, held) = (total(&mesh), mesh.nodes[2].shard_files());
    mesh.nodes[2].kill();
    assert_heals(&mesh, mesh.owner(), stripes);
    mesh.nodes[2].start();
    mesh.settle();
    let _ = assert_lost(&mesh, 0);
    let copies = total(&mesh) - before;
    assert!(copies >= 1, "others stand in for it");

    let identity = mesh.identity("v");
    let prune = |mesh: &Mesh, further: &[&str]| {
        let asked = [&["prune", "--identity", identity.to_str().unwrap()], further].concat();
        summary(mesh.owner(), &asked)
    };
    let found = prune(&mesh, &[]);
    assert_eq!(found["copies_too_many"], copies, "{found}");
    assert_eq!(total(&mesh), before + copies, "nothing was asked");
    // Backups extend the locks of what is needed, and of these no more.
    let mut came = prune(&mesh, &["--apply"]);
    let _ = mesh.backup(&source).ok();
    let goes = within(REPAIR, || {
        came = prune(&mesh, &["--apply"]);
        total(&mesh) == before
    });
    assert!(goes, "{came}\n{}", super::logs(&mesh));
    assert_eq!(mesh.nodes[2].shard_files(), held, "whom the record names keeps it");
    let left = prune(&mesh, &[]);
    assert_eq!((&left["copies_too_many"], &left["applied"]), (&0.into(), &false.into()), "{left}");
    let found = health(mesh.owner());
    assert!(is_whole(&found, stripes), "{found}");
    mesh.without("h", |mesh| {
        let target = mesh.dir().join("restored");
        let _ = mesh.restore("latest", &target, &[]).ok();
        assert_eq!(tree_of(&target), tree_of(&source));
    });
}
