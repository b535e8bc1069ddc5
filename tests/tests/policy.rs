//! What a policy asks for is had or said to be missing, and nothing is called a backup that is none.

use harness::{Mesh, bytes, tree_of, within, write};
use rustix::fs::{Mode, OFlags, openat};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn survive(clause: &str) -> String {
    format!("[survive]\nany = [ {{ {clause} }} ]\n[lock]\nperiod = \"90d\"\n")
}

#[test]
fn a_policy_that_cannot_be_met_is_refused_with_what_is_missing() {
    let mesh = Mesh::start(&[("aws", "a1"), ("aws", "a2"), ("gcp", "g1")]);
    mesh.create_vault("v", &survive("provider = 2"));
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("file", 100_000));
    let held = |mesh: &Mesh| mesh.nodes.iter().map(|node| node.shard_files().len()).sum::<usize>();
    let refused = mesh.backup(&source).ended(1).messages("exit_error").pop().unwrap();
    let message = refused["message"].as_str().unwrap();
    let next = refused["next"].as_str().unwrap();
    assert!(message.contains("provider=2"), "{message}");
    assert!(message.contains("2 provider") && message.contains('3'), "{message}");
    assert!(next.contains("--allow-degraded"), "{next}");
    assert_eq!(held(&mesh), 0);
    assert!(mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot").is_empty());

    let arguments = ["--json", "backup", "--allow-degraded"].map(OsStr::new);
    let degraded = mesh.strewn(arguments.into_iter().chain([source.as_os_str()])).summary();
    assert_eq!(degraded["degraded"], true);
    let listed = mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot");
    assert_eq!(listed[0]["info"]["degraded"], true);
    let status = mesh.strewn(["--json", "status"]).ended(1).messages("summary").pop().unwrap();
    assert_eq!(status["good"], false);
    assert!(status["vault"]["health"]["degraded"].as_u64().unwrap() > 0, "{status}");
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&source));
}

#[test]
fn a_new_provider_makes_the_policy_hold() {
    let mut mesh = Mesh::start(&[("aws", "a1")]);
    mesh.create_vault("v", &survive("provider = 1"));
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("file", 100_000));
    let _ = mesh.backup(&source).ended(1);
    mesh.add("gcp", "g1", &[]);
    mesh.settle();
    let _ = mesh.backup(&source).summary();
    let status = mesh.strewn(["--json", "status"]).summary();
    assert_eq!(status["good"], true);
    let exposure = status["vault"]["exposure"].as_array().unwrap();
    let provider = exposure.iter().find(|line| line["level"] == "provider").unwrap();
    assert_eq!(provider["destroy"], 2);
}

#[test]
fn a_node_takes_no_more_than_its_quota() {
    let mut mesh = Mesh::start(&[("aws", "a1")]);
    mesh.add("gcp", "g1", &["--quota", "4MiB"]);
    mesh.settle();
    mesh.create_vault("v", &survive("provider = 1"));
    let (small, large) = (mesh.dir().join("small"), mesh.dir().join("large"));
    write(small.join("file"), bytes("small", 1_000_000));
    write(large.join("file"), bytes("large", 9_000_000));
    let _ = mesh.backup(&small).summary();
    let refused = mesh.backup(&large).ended(1).messages("exit_error").pop().unwrap();
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("1 node with room for"), "{message}");
    let held: u64 = mesh.nodes[1].shard_files().iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(held <= 4 << 20, "{held}");
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&small));
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_saved() {
    let mesh = Mesh::start(&[("aws", "a1"), ("gcp", "g1")]);
    mesh.create_vault("v", &survive("provider = 1"));
    let source = mesh.dir().join("source");
    write(source.join("file"), "saved");
    // Deeper than any path may be long: also root cannot have that kept.
    let mut folder: std::os::fd::OwnedFd = std::fs::File::open(&source).unwrap().into();
    let name = "d".repeat(200);
    for _ in 0..400 {
        rustix::fs::mkdirat(&folder, &name, Mode::RWXU).unwrap();
        folder = openat(&folder, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let partly = mesh.backup(&source).ended(3);
    let summary = partly.messages("summary").pop().unwrap();
    assert_eq!(summary["failed"].as_array().unwrap().len(), 1);
    assert!(!partly.messages("error").is_empty());
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ok();
    assert_eq!(std::fs::read(mesh.dir().join("back/file")).unwrap(), b"saved");
    // The standard library would fail on such paths.
    let removed = Command::new("rm").arg("-rf").args([&source, &mesh.dir().join("back")]).status();
    assert!(removed.unwrap().success());
}

#[test]
fn two_processes_write_at_once_and_others_read_beside_them() {
    let mesh = Mesh::start(&[("aws", "a1"), ("gcp", "g1")]);
    mesh.create_vault("v", &survive("provider = 1"));
    let (small, large) = (mesh.dir().join("small"), mesh.dir().join("large"));
    write(small.join("file"), bytes("small", 100_000));
    let _ = mesh.backup(&small).summary();
    for file in 0..12 {
        write(large.join(format!("{file}")), bytes(&format!("{file}"), 20_000_000));
    }
    let mut first = mesh.spawn(["backup", large.to_str().unwrap()]);
    // What it sees of its source, for the next backup to compare with.
    let previous = mesh.owner().join("vaults/v/cache/previous");
    let is_new = |path: &Path| path.extension().is_some_and(|extension| extension == "new");
    assert!(within(Duration::from_secs(30), || {
        std::fs::read_dir(&previous).unwrap().any(|entry| is_new(&entry.unwrap().path()))
    }));
    write(small.join("file"), bytes("changed", 100_000));
    let second = mesh.backup(&small).summary();
    let second = second["snapshot"].as_str().unwrap();
    assert_eq!(first.try_wait().unwrap(), None, "the first was done too early to tell");
    let (back, all) = (mesh.dir().join("back"), mesh.dir().join("all"));
    let _ = mesh.restore(second, &back, &[]).ok();
    assert_eq!(tree_of(&back), tree_of(&small));
    assert!(first.wait().unwrap().success());
    assert_eq!(mesh.strewn(["--json", "snapshots"]).ok().messages("snapshot").len(), 3);
    let _ = mesh.restore("latest", &all, &[]).ok();
    assert!(tree_of(&all) == tree_of(&large));
    // What one process sent is known to the next one, whichever it was.
    assert_eq!(mesh.backup(&small).summary()["new_bytes"], 0);
    assert_eq!(mesh.backup(&large).summary()["new_bytes"], 0);
}

#[test]
fn what_is_not_there_ends_with_10() {
    let mesh = Mesh::start(&[("aws", "a1"), ("gcp", "g1")]);
    let _ = mesh.strewn(["snapshots"]).ended(10);
    mesh.create_vault("v", &survive("provider = 1"));
    let _ = mesh.strewn(["snapshots", "--vault", "w"]).ended(10);
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ended(10);
    let _ = mesh.restore("abcdef", &mesh.dir().join("back"), &[]).ended(10);
    let _ = harness::strewn(&mesh.dir().join("empty"), ["status"]).ended(10);
    let _ = harness::strewn(&mesh.dir().join("empty"), ["node", "run"]).ended(10);
    let _ = mesh.strewn(["no-such-command"]).ended(2);
    assert!(!mesh.dir().join("back").exists());
}
