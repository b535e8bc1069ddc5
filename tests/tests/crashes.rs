//! Disks that lose, alter or have no room for what they hold: what was acknowledged is there afterwards.

use harness::{Found, Mesh, Node, Ran, bytes, strewn, tree_of, within, write};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A number below `end`, the same for the same seed.
fn drawn(seed: &str, end: u64) -> u64 {
    let bytes = bytes(seed, 8);
    u64::from_le_bytes(bytes.try_into().expect("eight bytes")) % end
}

fn six() -> Mesh {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    let mesh = Mesh::start(&sites);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    mesh
}

/// A folder that differs from round to round.
fn change(source: &Path, round: u64) {
    for file in 0..6 {
        let seed = format!("{round} {file}");
        write(
            source.join(format!("{file}")),
            bytes(&seed, 100_000 + drawn(&seed, 3_000_000) as usize),
        );
    }
    write(source.join("same"), bytes("same", 2_000_000));
}

type Tree = BTreeMap<PathBuf, Found>;

fn assert_restores(mesh: &Mesh, id: &str, tree: &Tree) {
    let target = mesh.dir().join("back");
    let _ = mesh.restore(id, &target, &[]).ok();
    assert!(tree_of(&target) == *tree, "snapshot {id} came back altered");
    fs::remove_dir_all(target).unwrap();
}

#[test]
fn shards_that_disks_lost_or_altered_are_not_believed() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    change(&source, 0);
    let _ = mesh.backup(&source).ok();
    let tree = tree_of(&source);
    let of = |mesh: &Mesh, node: usize| mesh.nodes[node].shard_files();
    assert!(!of(&mesh, 2).is_empty() && !of(&mesh, 3).is_empty());
    // One provider's worth of harm in total: altered while the nodes run ...
    for file in of(&mesh, 2) {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    assert_restores(&mesh, "latest", &tree);
    // ... cut off ...
    for file in of(&mesh, 2) {
        fs::File::options().write(true).open(&file).unwrap().set_len(1000).unwrap();
    }
    assert_restores(&mesh, "latest", &tree);
    // ... and gone, also after a start.
    for file in of(&mesh, 2).into_iter().chain(of(&mesh, 3)) {
        fs::remove_file(file).unwrap();
    }
    assert_restores(&mesh, "latest", &tree);
    for node in [2, 3] {
        mesh.nodes[node].kill();
        mesh.nodes[node].start();
    }
    mesh.settle();
    assert_restores(&mesh, "latest", &tree);
    // The next backup does not fail because of what lies in ruins.
    change(&source, 1);
    let _ = mesh.backup(&source).ok();
    assert_restores(&mesh, "latest", &tree_of(&source));
}

#[test]
fn an_index_that_is_lost_is_built_again_from_the_shards() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    change(&source, 0);
    let _ = mesh.backup(&source).ok();
    let tree = tree_of(&source);
    let held: Vec<usize> = mesh.nodes.iter().map(|node| node.shard_files().len()).collect();
    // On all of them, so that nobody else has logs and papers either.
    for (number, node) in mesh.nodes.iter_mut().enumerate() {
        node.kill();
        let index = node.home.join("node/state.redb");
        match number % 3 {
            0 => fs::remove_file(&index).unwrap(),
            1 => fs::File::options().write(true).open(&index).unwrap().set_len(5000).unwrap(),
            _ => fs::write(&index, bytes("rubbish", 100_000)).unwrap(),
        }
        node.start();
    }
    mesh.settle();
    assert_eq!(mesh.nodes.iter().map(|node| node.shard_files().len()).collect::<Vec<_>>(), held);
    let peers = mesh.strewn(["--json", "peers"]).ok().messages("node");
    let troubled = peers.iter().filter(|node| !node["trouble"].is_null()).count();
    assert_eq!(troubled, 6, "nodes that lost their index say so: {peers:?}");
    assert_restores(&mesh, "latest", &tree);
    clear_doubt(&mut mesh.nodes[1]);
    mesh.settle();
    let peers = mesh.strewn(["--json", "peers"]).ok().messages("node");
    assert_eq!(peers.iter().filter(|node| !node["trouble"].is_null()).count(), 5, "{peers:?}");
}

/// As an operator does it who has looked after everything.
fn clear_doubt(node: &mut Node) {
    let doubt = |node: &Node, clear: &[&str]| {
        strewn(&node.home, ["--json", "node", "doubt"].iter().chain(clear))
    };
    let told = doubt(node, &[]).ended(1).messages("summary").pop().unwrap();
    assert!(told["doubt"].as_str().unwrap().contains("damaged"), "{told}");
    let refused = doubt(node, &["--clear"]).ended(11);
    assert!(refused.err.contains("stop the node"), "{}", refused.err);
    node.kill();
    assert_eq!(doubt(node, &["--clear"]).summary()["cleared"], true);
    let after = doubt(node, &["--clear"]).summary();
    assert_eq!((&after["doubt"], &after["cleared"]), (&serde_json::Value::Null, &false.into()));
    node.start();
}

/// Mounts a small disk at a node's store. Nothing when that is not allowed here.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(node: &mut Node, size: &str) -> Option<Self> {
        let at = node.home.join("node");
        node.kill();
        fs::remove_dir_all(&at).unwrap();
        fs::create_dir_all(&at).unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at);
        mounted.status().is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is busy is let go of when its last user ends.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn an_index_that_was_rolled_back_is_noticed_and_built_again() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    let mut trees = Vec::new();
    let back_up = |mesh: &Mesh, round: u64, trees: &mut Vec<(String, Tree)>| {
        change(&source, round);
        let id = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
        trees.push((id, tree_of(&source)));
    };
    let index = |mesh: &Mesh, node: usize| mesh.nodes[node].home.join("node/state.redb");
    back_up(&mesh, 0, &mut trees);
    // Both nodes of one provider, so that the other two have nothing to spare.
    for node in [2, 3] {
        mesh.nodes[node].kill();
        fs::copy(index(&mesh, node), mesh.dir().join(format!("old {node}"))).unwrap();
    }
    mesh.start_again();
    mesh.settle();
    back_up(&mesh, 1, &mut trees);
    let held = [2, 3].map(|node| mesh.nodes[node].shard_files().len());
    // The high-water mark is written once a second.
    std::thread::sleep(Duration::from_millis(2500));
    for node in [2, 3] {
        mesh.nodes[node].kill();
        fs::copy(mesh.dir().join(format!("old {node}")), index(&mesh, node)).unwrap();
    }
    mesh.start_again();
    mesh.settle();
    assert!(mesh.nodes[2].log().contains("rolled back"), "{}", mesh.nodes[2].log());
    let peers = mesh.strewn(["--json", "peers"]).ok().messages("node");
    assert_eq!(peers.iter().filter(|node| !node["trouble"].is_null()).count(), 2, "{peers:?}");
    assert_eq!([2, 3].map(|node| mesh.nodes[node].shard_files().len()), held);
    back_up(&mesh, 2, &mut trees);
    // Without another provider, what these two hold is needed.
    mesh.destroy("g");
    for (id, tree) in &trees {
        assert_restores(&mesh, id, tree);
    }
}

#[test]
fn a_holder_whose_disk_fills_up_during_a_backup_is_replaced() {
    let sites = ["h", "a", "g", "o"].map(|provider| [(provider, "1"), (provider, "2")]).concat();
    let mut mesh = Mesh::start(&sites);
    let Some(disk) = SmallDisk::mount(&mut mesh.nodes[3], "48M") else {
        assert!(std::env::var_os("STREWN_REQUIRE_ALL").is_none(), "mounting needs root");
        eprintln!("skipped: mounting a small disk needs root");
        return;
    };
    keep_free(&mesh.nodes[3], "4MiB");
    mesh.nodes[3].start();
    mesh.settle();
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    let source = mesh.dir().join("source");
    for file in 0..16 {
        write(source.join(format!("{file}")), bytes(&format!("full {file}"), 8 << 20));
    }
    let mut command = mesh.command(["--json", "backup", source.to_str().unwrap()]);
    let backup = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(within(Duration::from_secs(60), || mesh.nodes[3].shard_files().len() > 1));
    // Full to the last byte, by somebody else.
    let _ = fs::write(disk.0.join("ballast"), vec![1; 64 << 20]);
    let done = Ran::from(backup.wait_with_output().unwrap()).summary();
    assert_eq!(done["degraded"], false, "the others have room: {done}");
    let few = mesh.nodes[3].shard_files().len();
    assert!(mesh.nodes.iter().filter(|node| node.shard_files().len() > few).count() >= 6);
    // The next one knows it from the beginning: nodes look at their disks every five seconds.
    std::thread::sleep(Duration::from_secs(6));
    write(source.join("more"), bytes("more", 20_000_000));
    let next = mesh.backup(&source).summary();
    assert_eq!((&next["degraded"], &next["notes"]), (&false.into(), &serde_json::json!([])));
    let tree = tree_of(&source);
    for provider in ["h", "g", "o"] {
        mesh.without(provider, |mesh| assert_restores(mesh, "latest", &tree));
    }
    mesh.nodes[3].kill();
}

/// Sets how much of its disk a node leaves free.
fn keep_free(node: &Node, size: &str) {
    let settings = node.home.join("strewn.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let reserve = text.lines().find(|line| line.starts_with("reserve")).unwrap();
    fs::write(&settings, text.replace(reserve, &format!("reserve = {size:?}"))).unwrap();
}

#[test]
fn a_full_disk_is_said_and_harms_nothing() {
    let mut mesh = Mesh::start(&[("a", "a1"), ("g", "g1")]);
    let Some(disk) = SmallDisk::mount(&mut mesh.nodes[1], "40M") else {
        assert!(std::env::var_os("STREWN_REQUIRE_ALL").is_none(), "mounting needs root");
        eprintln!("skipped: mounting a small disk needs root");
        return;
    };
    keep_free(&mesh.nodes[1], "4MiB");
    mesh.nodes[1].start();
    mesh.settle();
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n");
    let (small, large) = (mesh.dir().join("small"), mesh.dir().join("large"));
    write(small.join("file"), bytes("small", 5_000_000));
    write(large.join("file"), bytes("large", 60_000_000));
    let _ = mesh.backup(&small).ok();
    let refused = mesh.backup(&large).ended(1).messages("exit_error").pop().unwrap();
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("left") || message.contains("room for"), "{message}");
    assert!(mesh.nodes[1].is_up());
    // Full to the last byte, by somebody else.
    let _ = fs::write(disk.0.join("ballast"), vec![1; 64 << 20]);
    let _ = mesh.backup(&large).ended(1);
    assert!(mesh.nodes[1].is_up());
    assert_restores(&mesh, "latest", &tree_of(&small));
    fs::remove_file(disk.0.join("ballast")).unwrap();
    write(small.join("more"), bytes("more", 1_000_000));
    let healed = within(Duration::from_secs(60), || mesh.backup(&small).code == 0);
    assert!(healed, "{}", mesh.nodes[1].log());
    assert_restores(&mesh, "latest", &tree_of(&small));
    mesh.nodes[1].kill();
}
