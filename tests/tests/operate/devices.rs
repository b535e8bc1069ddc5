//! A second host that writes to a vault.

use super::{folder, six, summary};
use harness::{Mesh, Ran, strewn, tree_of};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub(super) fn on(home: &Path, arguments: &[&str]) -> Ran {
    strewn(home, ["--json"].iter().chain(arguments))
}

fn back_up(home: &Path, source: &Path) -> Ran {
    on(home, &["backup", source.to_str().unwrap()])
}

pub(super) fn restore(mesh: &Mesh, home: &Path, snapshot: &str, target: &Path) {
    let identity = mesh.identity("v");
    let arguments: [&OsStr; 6] = [
        "restore".as_ref(),
        snapshot.as_ref(),
        target.as_os_str(),
        "--identity".as_ref(),
        identity.as_os_str(),
        "--json".as_ref(),
    ];
    let _ = strewn(home, arguments).ok();
}

/// A host that is no node and writes to the vault.
pub(super) fn second_host(mesh: &Mesh) -> PathBuf {
    let home = mesh.dir().join("host-b");
    let request = on(&home, &["device", "request"]).summary()["request"].to_string();
    let added = mesh.strewn(["--json", "device", "add", request.trim_matches('"')]).summary();
    let accepted = on(&home, &["device", "accept", added["grant"].as_str().unwrap()]).summary();
    assert_eq!(accepted["name"], "v");
    assert_eq!(accepted["vault"], added["vault"]);
    home
}

#[test]
fn two_hosts_write_to_one_vault_and_each_restores_what_the_other_wrote() {
    let mut mesh = six();
    let (a, b) = (mesh.dir().join("a"), mesh.dir().join("b"));
    folder(&a, "a", 2, 2_000_000);
    folder(&b, "b", 2, 2_000_000);
    // The second half of this is known to the vault already.
    folder(&b.join("copy"), "a", 2, 2_000_000);
    let first = mesh.backup(&a).summary();
    let home = second_host(&mesh);
    let second = back_up(&home, &b).summary();
    assert_eq!(second["degraded"], false);
    let new = second["new_bytes"].as_u64().unwrap();
    assert!((4_000_000..4_200_000).contains(&new), "{second}: what the other host stored is known");

    let id = |summary: &serde_json::Value| summary["snapshot"].as_str().unwrap().to_owned();
    let (first, second) = (id(&first), id(&second));
    for home in [mesh.owner(), &home] {
        let listed = on(home, &["snapshots"]).ok().messages("snapshot");
        let ids: Vec<&str> = listed.iter().filter_map(|snapshot| snapshot["id"].as_str()).collect();
        assert_eq!(ids, [&first, &second]);
    }
    restore(&mesh, mesh.owner(), &second, &mesh.dir().join("b-at-a"));
    restore(&mesh, &home, &first, &mesh.dir().join("a-at-b"));
    assert_eq!(tree_of(&mesh.dir().join("b-at-a")), tree_of(&b));
    assert_eq!(tree_of(&mesh.dir().join("a-at-b")), tree_of(&a));
    let _ = summary(on(mesh.owner(), &["check", "--read-data"]), 0);

    // Nodes that join later are not listed by a host without the vault's key, and that is no failure.
    mesh.add("z", "z1", &[]);
    mesh.settle();
    folder(&b, "more", 3, 1_000_000);
    assert_eq!(back_up(&home, &b).summary()["degraded"], false);
    assert_eq!(mesh.nodes[6].shard_files().len(), 0);
    // The owner lists it, and then the other host uses it as well.
    folder(&a, "more", 3, 1_000_000);
    let _ = mesh.backup(&a).summary();
    let held = mesh.nodes[6].shard_files().len();
    assert!(held > 0);
    folder(&b, "and more", 4, 1_000_000);
    let _ = back_up(&home, &b).summary();
    assert!(mesh.nodes[6].shard_files().len() > held);
    // A host that was let in lets nobody in.
    let request = on(&mesh.dir().join("host-c"), &["device", "request"]).summary();
    let refused = on(&home, &["device", "add", request["request"].as_str().unwrap()]).ended(1);
    let error = refused.messages("exit_error").pop().unwrap();
    assert!(error["next"].as_str().unwrap().contains("where the vault was made"), "{error}");
}

#[test]
fn both_hosts_write_at_the_same_time() {
    let mesh = six();
    let home = second_host(&mesh);
    let (a, b) = (mesh.dir().join("a"), mesh.dir().join("b"));
    folder(&a, "a", 3, 6_000_000);
    folder(&b, "b", 3, 6_000_000);
    let mut first = mesh.spawn(["backup", a.to_str().unwrap()]);
    let _ = back_up(&home, &b).summary();
    assert!(first.wait().unwrap().success());
    let listed = on(&home, &["snapshots"]).ok().messages("snapshot");
    assert_eq!(listed.len(), 2);
    let _ = summary(super::run(&mesh, &["check", "--read-data"], true), 0);
}

#[test]
fn tags_of_both_hosts_and_the_last_word_counts() {
    let mesh = six();
    let home = second_host(&mesh);
    let source = mesh.dir().join("source");
    folder(&source, "one", 1, 10_000);
    let backup = ["--json", "backup", source.to_str().unwrap(), "--tag", "daily", "--tag", "old"];
    let id = mesh.strewn(backup).summary()["snapshot"].as_str().unwrap().to_owned();
    let tags = |home: &Path, arguments: &[&str]| {
        let listed = strewn(home, ["--json", "snapshots"].iter().chain(arguments)).ok();
        listed.messages("snapshot").pop().map(|snapshot| snapshot["info"]["tags"].clone())
    };
    let short = &id[..10];
    let _ = on(&home, &["tag", short, "--add", "release", "--remove", "old"]).ok();
    let expected = serde_json::json!(["daily", "release"]);
    assert_eq!(tags(mesh.owner(), &[]), Some(expected.clone()));
    assert_eq!(tags(&home, &["--tag", "release"]), Some(expected));
    assert_eq!(tags(&home, &["--tag", "old"]), None);
    let _ = mesh.strewn(["tag", "latest", "--set", "kept"]).ok();
    assert_eq!(tags(&home, &[]), Some(serde_json::json!(["kept"])));
    let _ = on(&home, &["tag", short, "--set", ""]).ok();
    assert_eq!(tags(mesh.owner(), &[]), Some(serde_json::json!([])));
    let _ = on(&home, &["tag", short, "--add", "a,b"]).ended(2);
    let _ = on(&home, &["tag", "fedcba9876", "--add", "a"]).ended(10);
    let _ = on(&home, &["tag", short]).ended(2);
    // The snapshot itself is as it was.
    restore(&mesh, &home, short, &mesh.dir().join("back"));
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&source));
    let _ = summary(on(mesh.owner(), &["check"]), 0);
}

#[test]
fn a_revoked_host_writes_no_more_and_its_snapshots_stay() {
    let mut mesh = six();
    let home = second_host(&mesh);
    let (a, b) = (mesh.dir().join("a"), mesh.dir().join("b"));
    folder(&a, "a", 1, 500_000);
    folder(&b, "b", 1, 500_000);
    let _ = mesh.backup(&a).summary();
    let before = tree_of(&b);
    let theirs = back_up(&home, &b).summary()["snapshot"].as_str().unwrap().to_owned();
    let devices = on(mesh.owner(), &["device", "list"]).ok().messages("device");
    assert_eq!(devices.len(), 2);
    let other = devices.iter().find(|device| device["here"] == false).unwrap();
    assert_eq!((&other["revoked"], other["entries"].as_u64().unwrap() > 0), (&false.into(), true));
    let other = other["device"].as_str().unwrap();
    // One node is away, and hears of it from the next backup.
    mesh.nodes[5].kill();
    let revoked = on(mesh.owner(), &["device", "revoke", &other[..12]]).summary();
    assert_eq!(revoked["nodes"], 5, "{revoked}");
    mesh.nodes[5].start();
    mesh.settle();
    let _ = mesh.backup(&a).summary();
    for node in 0..5 {
        mesh.nodes[node].kill();
    }
    let told = on(mesh.owner(), &["device", "list"]).ok().messages("device");
    let told = told.iter().find(|device| device["device"] == other);
    assert_eq!(told.expect("it knows the device")["revoked"], true);
    for node in &mut mesh.nodes[..5] {
        node.start();
    }
    mesh.settle();
    folder(&b, "more", 2, 500_000);
    assert_ne!(back_up(&home, &b).code, 0);
    let listed = on(mesh.owner(), &["snapshots"]).ok().messages("snapshot");
    assert_eq!(listed.len(), 3, "nothing came, nothing went");
    restore(&mesh, &home, &theirs, &mesh.dir().join("back"));
    assert_eq!(tree_of(&mesh.dir().join("back")), before);
    let own = on(mesh.owner(), &["device", "list"]).ok().messages("device");
    let own = own.iter().find(|device| device["here"] == true).unwrap();
    let _ = on(mesh.owner(), &["device", "revoke", own["device"].as_str().unwrap()]).ended(1);
    let _ = on(&home, &["device", "revoke", &other[..12]]).ended(1);
    let _ = on(mesh.owner(), &["device", "revoke", "zz"]).ended(2);
}
