//! Processes killed at any moment, and disks that lose or alter what they hold: what was acknowledged is
//! there afterwards.

use harness::{Found, Mesh, Node, bytes, tree_of, within, write};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Rounds of random kills; more in a long run.
fn rounds() -> u64 {
    std::env::var("STREWN_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(12)
}

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

fn listed(mesh: &Mesh) -> Vec<String> {
    let snapshots = mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot");
    snapshots.iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

fn assert_restores(mesh: &Mesh, id: &str, tree: &Tree) {
    let target = mesh.dir().join("back");
    let _ = mesh.restore(id, &target, &[]).ok();
    assert!(tree_of(&target) == *tree, "snapshot {id} came back altered");
    fs::remove_dir_all(target).unwrap();
}

#[test]
fn what_was_announced_outlives_killed_holders_and_killed_backups() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    let mut announced: Vec<(String, Tree)> = Vec::new();
    for round in 0..rounds() {
        change(&source, round);
        let mut backup = mesh.spawn(["backup", source.to_str().unwrap()]);
        std::thread::sleep(Duration::from_millis(drawn(&format!("when {round}"), 1500)));
        // Every third round the client is killed, else one or two holders.
        if round % 3 == 0 {
            backup.kill().unwrap();
        } else {
            for victim in 0..=round % 2 {
                mesh.nodes[drawn(&format!("who {round} {victim}"), 6) as usize].kill();
            }
        }
        let done = backup.wait().unwrap().success();
        mesh.nodes.iter_mut().filter(|node| !node.log().is_empty()).for_each(|node| {
            if !node.is_up() {
                node.start();
            }
        });
        mesh.settle();
        let known: Vec<String> = announced.iter().map(|(id, _)| id.clone()).collect();
        let new: Vec<String> = listed(&mesh).into_iter().filter(|id| !known.contains(id)).collect();
        // A backup that was killed between its last entry and its exit counts or does not; one that
        // said it was done does.
        assert!(new.len() <= 1 && (!done || new.len() == 1), "round {round}: {new:?}");
        for id in new {
            let tree = tree_of(&source);
            assert_restores(&mesh, &id, &tree);
            announced.push((id, tree));
        }
        for id in &known {
            assert!(listed(&mesh).contains(id), "round {round}: {id} is gone");
        }
        for node in &mut mesh.nodes {
            let incoming = fs::read_dir(node.home.join("node/incoming")).unwrap().count();
            assert_eq!(incoming, 0, "round {round}");
            assert!(!node.log().contains("a mistake of its own"), "{}", node.log());
        }
    }
    // After all of that a backup is an ordinary thing, and everything announced is what it was.
    change(&source, u64::MAX);
    let last = mesh.backup(&source).summary();
    announced.push((last["snapshot"].as_str().unwrap().into(), tree_of(&source)));
    mesh.destroy("a");
    assert!(announced.len() > 1, "no round left a snapshot");
    for (id, tree) in &announced {
        assert_restores(&mesh, id, tree);
    }
}

#[test]
fn a_killed_restore_leaves_no_half_file_under_its_name() {
    let mesh = six();
    let source = mesh.dir().join("source");
    for file in 0..12 {
        write(source.join(format!("{file}")), bytes(&format!("{file}"), 4_000_000));
    }
    let _ = mesh.backup(&source).ok();
    let ours = tree_of(&source);
    let identity = mesh.identity("v");
    for round in 0..rounds() / 2 {
        let target = mesh.dir().join(format!("back {round}"));
        let mut arguments = vec!["restore", "latest", target.to_str().unwrap()];
        arguments.extend(["--identity", identity.to_str().unwrap()]);
        let mut restore = mesh.spawn(arguments);
        std::thread::sleep(Duration::from_millis(drawn(&format!("restore {round}"), 900)));
        restore.kill().unwrap();
        restore.wait().unwrap();
        if !target.exists() {
            continue;
        }
        for (path, found) in tree_of(&target) {
            let is_partial = path.to_string_lossy().starts_with(".strewn-partial-");
            let is_top = path.as_os_str().is_empty();
            assert!(
                is_partial || is_top || ours[&path].content == found.content,
                "{}",
                path.display()
            );
        }
    }
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
fn a_full_disk_is_said_and_harms_nothing() {
    let mut mesh = Mesh::start(&[("a", "a1"), ("g", "g1")]);
    let Some(disk) = SmallDisk::mount(&mut mesh.nodes[1], "40M") else {
        assert!(std::env::var_os("STREWN_REQUIRE_ALL").is_none(), "mounting needs root");
        eprintln!("skipped: mounting a small disk needs root");
        return;
    };
    let settings = mesh.nodes[1].home.join("strewn.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let reserve = text.lines().find(|line| line.starts_with("reserve")).unwrap();
    fs::write(&settings, text.replace(reserve, "reserve = \"4MiB\"")).unwrap();
    mesh.nodes[1].start();
    mesh.settle();
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n");
    let (small, large) = (mesh.dir().join("small"), mesh.dir().join("large"));
    write(small.join("file"), bytes("small", 5_000_000));
    write(large.join("file"), bytes("large", 60_000_000));
    let _ = mesh.backup(&small).ok();
    let refused = mesh.backup(&large).ended(1).messages("exit_error").pop().unwrap();
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("left") || message.contains("room"), "{message}");
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
