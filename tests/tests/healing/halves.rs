//! A mesh that is cut into two halves, and joined again.
//!
//! These tests need root (network namespaces, TUN devices) and `ip` (Debian: iproute2).

use super::{
    A_WHILE, PATIENCE, REPAIR, assert_heals, count, health, is_whole, logs, moved, repairs,
};
use harness::{End, Link, LinkKind, Mesh, Node, ROOM, SPARE, files, tree_of, within};
use serde_json::Value;
use std::time::Duration;

/// Two nodes of each provider hold everything, and there are two more at each end.
fn twelve(link: &Link) -> Mesh {
    let (near, far) = (End::Near, End::Far);
    let sites = [
        ("h", near),
        ("h", near),
        ("a", near),
        ("a", near),
        ("g", far),
        ("g", far),
        ("o", far),
        ("o", far),
    ];
    let mut mesh = Mesh::start_on(link, &sites);
    for (provider, end) in [("h", near), ("a", near), ("g", far), ("o", far)] {
        mesh.add_on(link, end, provider, &SPARE);
    }
    mesh.settle();
    // Each half can read everything, and is far from what the policy asks.
    mesh.create_vault(
        "v",
        "[survive]\nany = [ { provider = 1 }, { node = 4 } ]\n[lock]\nperiod = \"90d\"\n",
    );
    mesh
}

fn shards(nodes: &[Node]) -> Vec<usize> {
    nodes.iter().map(|node| node.shard_files().len()).collect()
}

#[test]
fn two_halves_that_do_not_hear_each_other_both_repair_and_are_whole_when_they_meet_again() {
    let kind = LinkKind { delay: Duration::ZERO, loss: 0, rate: 0 };
    let Some(link) = Link::new(kind) else { return };
    let mut mesh = twelve(&link);
    let source = mesh.dir().join("source");
    files(&source, "halves", 6, 3_000_000);
    let _ = mesh.backup(&source).summary();
    mesh.set(&[ROOM, PATIENCE]);
    let before = health(mesh.owner());
    let stripes = before["stripes"].as_u64().expect("stripes");
    assert!(is_whole(&before, stripes), "{before}");
    let held: Vec<_> = mesh.nodes.iter().map(Node::shard_files).collect();

    link.set_up(false);
    // Each half makes of what it has what it can: a shard of everything on each node that had none.
    let all = held[0].len();
    let is_done = within(REPAIR, || shards(&mesh.nodes[8..]).iter().all(|&count| count >= all));
    assert!(is_done, "{:?} of {all}\n{}", shards(&mesh.nodes), logs(&mesh));
    for node in [0, 4] {
        let said = repairs(&mesh.nodes[node].home);
        assert_eq!(count(&said, "lost"), 6, "{said}");
    }

    link.set_up(true);
    mesh.settle();
    let mut last = Value::Null;
    let is_settled = within(REPAIR, || {
        last = repairs(mesh.owner());
        count(&last, "lost") == 0 && last["short"] == 0
    });
    assert!(is_settled, "{last}\n{}", logs(&mesh));
    assert_heals(&mesh, mesh.owner(), stripes);
    // Nothing was lost, and nobody has anything to do any more.
    let cost = moved(&repairs(mesh.owner()));
    for (node, held) in mesh.nodes.iter().zip(&held) {
        let now = node.shard_files();
        assert!(held.iter().all(|file| now.contains(file)), "{}", node.home.display());
    }
    std::thread::sleep(A_WHILE);
    let said = repairs(mesh.owner());
    let sizes: u64 = held[0].iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(moved(&said) - cost <= sizes, "{cost} and then {said}");

    mesh.destroy("g");
    mesh.nodes[2].destroy();
    let target = mesh.dir().join("restored");
    let _ = mesh.restore("latest", &target, &[]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}
