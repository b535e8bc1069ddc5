//! What is needed of packs that hold little of it is written again, the index too, and the old ones go like anything else.

use super::devices::{on, restore, second_host};
use super::{folder, run, summary};
use harness::{Mesh, bytes, program, tree_of, within, write};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LOCKED: &str =
    "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"40s\"\nrelease_cooldown = \"3s\"\n";
/// One file in this many is kept.
const KEPT: usize = 8;

/// Shard files and their lengths.
fn shards(mesh: &Mesh) -> BTreeMap<PathBuf, u64> {
    let files = mesh.nodes.iter().flat_map(harness::Node::shard_files);
    files.filter_map(|file| Some((file.clone(), file.metadata().ok()?.len()))).collect()
}

/// A pack of which little is needed, and further snapshots of little each. Gives the snapshot that is to be forgotten.
fn begin(mesh: &Mesh, source: &Path) -> String {
    folder(source, "much", 48, 100_000);
    let first = mesh.backup(source).summary()["snapshot"].as_str().unwrap().to_owned();
    for file in (0..48).filter(|file| file % KEPT != 0) {
        std::fs::remove_file(source.join(file.to_string())).unwrap();
    }
    for more in 0..4 {
        write(source.join(format!("more {more}")), bytes(&format!("more {more}"), 30_000));
        let _ = mesh.backup(source).ok();
    }
    first
}

fn prune(mesh: &Mesh, words: &[&str]) -> Value {
    summary(run(mesh, &[&["prune"], words].concat(), true), 0)
}

#[test]
fn what_little_is_needed_of_a_pack_is_written_again_and_the_pack_goes() {
    let mesh = Mesh::start(&[("h", "h1"), ("a", "a1"), ("g", "g1")]);
    mesh.create_vault("v", LOCKED);
    let (other, source) = (second_host(&mesh), mesh.dir().join("source"));
    let first = begin(&mesh, &source);
    // What the other host keeps must not go, and what it knew must not stop anything.
    let own = mesh.dir().join("own");
    folder(&own, "own", 1, 50_000);
    let back_up = || on(&other, &["backup", own.to_str().unwrap()]).ok();
    let _ = back_up();
    let before = shards(&mesh);
    let all = prune(&mesh, &["--repack"]);
    assert_eq!((&all["packs_again"], &all["stripes_unneeded"]), (&0.into(), &0.into()), "{all}");
    let _ = on(mesh.owner(), &["forget", &first[..12], "--apply"]).ok();

    let planned = prune(&mesh, &[]);
    assert_eq!((&planned["packs_again"], &planned["index_again"]), (&0.into(), &0.into()));
    assert_eq!(planned["stripes_unneeded"], 0, "each pack has something that is needed: {planned}");
    let planned = prune(&mesh, &["--repack"]);
    assert_eq!(planned["packs_again"], 1, "{planned}");
    let (needed, of) = (planned["bytes_again"].as_u64(), planned["bytes_of_packs_again"].as_u64());
    assert!(needed.unwrap() > 600_000 && needed.unwrap() * 6 < of.unwrap(), "{planned}");
    assert!(planned["index_again"].as_u64().unwrap() >= 5, "{planned}");
    assert_eq!(prune(&mesh, &["--repack", "--max-unused", "1GiB"])["packs_again"], 0);
    assert_eq!(prune(&mesh, &["--repack", "--max-unused", "unlimited"])["packs_again"], 0);
    assert_eq!(prune(&mesh, &["--repack", "--max-unused", "90%"])["packs_again"], 0);
    assert_eq!(shards(&mesh), before, "so far nothing was asked for");

    let applied = prune(&mesh, &["--repack", "--apply"]);
    assert!(applied["stripes_unneeded"].as_u64() > Some(1), "{applied}");
    assert!(applied["index_stripes_unneeded"].as_u64() >= Some(5), "{applied}");
    assert_eq!(
        applied["stripes_kept"], planned["stripes_kept"],
        "one went and one came: {applied}"
    );
    let after = shards(&mesh);
    assert!(before.keys().all(|file| after.contains_key(file)), "locks hold");
    let again = prune(&mesh, &["--repack", "--apply"]);
    assert_eq!((&again["packs_again"], &again["index_again"]), (&0.into(), &0.into()), "{again}");

    // Locks of what was given up run out, while both hosts go on backing up.
    let large = before.iter().filter(|(_, len)| **len > 1_000_000).map(|(file, _)| file.clone());
    let large: Vec<PathBuf> = large.collect();
    assert_eq!(large.len(), 3);
    let gone = within(Duration::from_secs(180), || {
        std::thread::sleep(Duration::from_secs(2));
        let _ = (back_up(), mesh.backup(&source).ok());
        let _ = prune(&mesh, &["--apply"]);
        !large.iter().any(|file| file.exists())
    });
    assert!(gone, "{:?}", shards(&mesh));
    for home in [mesh.owner(), &other] {
        let status = on(home, &["status"]).ok().messages("summary").pop().unwrap();
        assert_eq!(status["good"], true, "{status}");
    }
    let checked = summary(run(&mesh, &["check", "--read-data"], true), 0);
    assert_eq!(checked["good"], true, "{checked}");
    // A host that was never here finds everything by what was written again.
    let third = mesh.dir().join("third");
    let listen = std::fs::read_to_string(mesh.nodes[2].home.join("run/listen")).unwrap();
    let address = listen.lines().find(|line| line.contains("/tcp/")).unwrap().to_owned();
    let identity = mesh.identity("v");
    let recover = ["recover", "--from", &address, "--identity", identity.to_str().unwrap()];
    let _ = on(&third, &recover).ok();
    let newest = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
    for (number, home) in [mesh.owner(), &other, &third].into_iter().enumerate() {
        let back = mesh.dir().join(format!("back {number}"));
        restore(&mesh, home, &newest[..12], &back);
        assert_eq!(tree_of(&back), tree_of(&source), "{number}");
    }
}

#[test]
fn a_repack_that_is_killed_loses_nothing_and_the_next_one_goes_on() {
    let mesh = Mesh::start(&[("h", "h1"), ("a", "a1"), ("g", "g1")]);
    mesh.create_vault("v", &LOCKED.replace("40s", "90d"));
    let source = mesh.dir().join("source");
    // What is needed as a whole lies between, in packs of its own and in one with what is not.
    folder(&source.join("whole"), "whole", 40, 600_000);
    let first = begin(&mesh, &source);
    let _ = on(mesh.owner(), &["forget", &first[..12], "--apply"]).ok();
    let identity = mesh.identity("v");
    for wait in [100, 200, 300, 450, 600, 800, 1000] {
        let mut command = Command::new(program());
        command.arg("--home").arg(mesh.owner()).args(["prune", "--repack", "--apply"]);
        command.arg("--identity").arg(&identity).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let _ = child.kill();
        let _ = child.wait();
    }
    let _ = prune(&mesh, &["--repack", "--apply"]);
    let left = prune(&mesh, &["--repack"]);
    assert_eq!((&left["packs_again"], &left["index_again"]), (&0.into(), &0.into()), "{left}");
    let checked = summary(run(&mesh, &["check", "--read-data"], true), 0);
    assert_eq!(checked["good"], true, "{checked}");
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&source));
}
