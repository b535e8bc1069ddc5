//! What is not needed any more goes, slowly; what is needed stays; and one guardian stops it all.

use super::devices::on;
use super::{folder, run, summary};
use harness::{Mesh, tree_of, within};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn three(policy: &str) -> Mesh {
    let mesh = Mesh::start(&[("h", "h1"), ("a", "a1"), ("g", "g1")]);
    mesh.create_vault("v", policy);
    mesh
}

fn shards(mesh: &Mesh) -> usize {
    mesh.nodes.iter().map(|node| node.shard_files().len()).sum()
}

/// How many shards all nodes together say so of.
fn count(came: &Value, what: &str) -> u64 {
    came["nodes"].as_array().unwrap().iter().map(|node| node[what].as_u64().unwrap()).sum()
}

#[test]
fn what_no_kept_snapshot_needs_goes_after_its_lock_and_a_cooldown_and_nothing_else() {
    let mesh = three(
        "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"45s\"\nrelease_cooldown = \"5s\"\n",
    );
    let source = mesh.dir().join("source");
    folder(&source, "first", 2, 200_000);
    let first = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
    folder(&source, "second", 2, 200_000);
    let _ = mesh.backup(&source).ok();
    let before = shards(&mesh);
    let none = summary(run(&mesh, &["prune"], true), 0);
    assert_eq!(none["stripes_unneeded"], 0, "all snapshots are kept: {none}");
    let _ = on(mesh.owner(), &["forget", &first[..12], "--apply"]).ok();
    let tried = summary(run(&mesh, &["prune"], true), 0);
    assert!(tried["stripes_unneeded"].as_u64().unwrap() > 0, "{tried}");
    // What is locked is kept, whoever says what.
    let early = summary(run(&mesh, &["prune", "--apply"], true), 0);
    assert!(count(&early, "locked") > 0 && count(&early, "cooling") == 0, "{early}");
    assert_eq!(shards(&mesh), before);
    let mut came = Value::Null;
    let cools = within(Duration::from_secs(180), || {
        std::thread::sleep(Duration::from_secs(2));
        came = summary(run(&mesh, &["prune", "--apply"], true), 0);
        count(&came, "cooling") > 0
    });
    assert!(cools, "{came}");
    assert!(within(Duration::from_secs(60), || shards(&mesh) < before), "{came}");
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&source));
    let _ = summary(run(&mesh, &["check", "--read-data"], true), 0);
    // What is needed again is sent again.
    folder(&source, "first", 2, 200_000);
    assert!(mesh.backup(&source).summary()["stripes"].as_u64().unwrap() > 0);
    let _ = mesh.restore("latest", &mesh.dir().join("again"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("again")), tree_of(&source));
}

#[test]
fn without_its_guardians_nothing_goes_and_any_one_of_them_stops_it() {
    let guardian = {
        let mesh = Mesh::start(&[("h", "h1")]);
        let said = on(mesh.owner(), &["release", "guardian"]).summary();
        let key = std::fs::read(mesh.owner().join("operator.key")).unwrap();
        (said["guardian"].as_str().unwrap().to_owned(), key)
    };
    let (id, key) = guardian;
    let mesh = three(&format!(
        "[survive]\nany = [ {{ provider = 1 }} ]\n[lock]\nperiod = \"10s\"\nrelease_cooldown = \"20s\"\n\
         guardians = {{ need = 1, of = [\"{id}\"] }}\n"
    ));
    let key_file = mesh.dir().join("guardian.key");
    std::fs::write(&key_file, key).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let key_file = key_file.to_str().unwrap();
    let source = mesh.dir().join("source");
    folder(&source, "first", 2, 200_000);
    let first = mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned();
    let before = shards(&mesh);
    let _ = on(mesh.owner(), &["forget", &first[..12], "--apply"]).ok();
    let (request, approval) = (mesh.dir().join("request"), mesh.dir().join("approval"));
    let (request, approval) = (request.to_str().unwrap(), approval.to_str().unwrap());
    let _ = run(&mesh, &["prune", "--apply"], true).ended(2);
    let _ = summary(run(&mesh, &["prune", "--apply", "--out", request], true), 0);
    let approve = ["release", "approve", request, "--out", approval, "--key", key_file];
    let approved = on(mesh.owner(), &approve).summary();
    let release = approved["release"].as_str().unwrap().to_owned();
    let alone = summary(on(mesh.owner(), &["release", "request", request]), 1);
    assert!(count(&alone, "refused") > 0 && count(&alone, "cooling") == 0, "{alone}");
    let mut came = Value::Null;
    let cools = within(Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_secs(1));
        let words = ["release", "request", request, "--approval", approval];
        came = on(mesh.owner(), &words).messages("summary").pop().unwrap_or_default();
        came["nodes"].is_array() && count(&came, "cooling") > 0
    });
    assert!(cools, "{came}");
    let listed = on(mesh.owner(), &["release", "list"]).ok().messages("node");
    let runs = |node: &&Value| node["running"][0]["release"] == release.as_str();
    assert_eq!(listed.iter().filter(runs).count(), 3, "{listed:?}");
    // The guardian has no vault there, only a node's home and the vault's id.
    let vault = approved["vault"].as_str().unwrap();
    let veto = ["release", "veto", &release, "--vault", vault, "--key", key_file];
    assert!(on(&mesh.nodes[1].home, &veto).summary()["heard"].as_u64().unwrap() > 0);
    std::thread::sleep(Duration::from_secs(30));
    assert_eq!(shards(&mesh), before);
    let _ = on(mesh.owner(), &["hold", "on", "--period", "1h", "--key", key_file]).ok();
    let listed = on(mesh.owner(), &["release", "list"]).ok().messages("node");
    assert!(listed.iter().all(|node| node["holds"][0]["guardian"] == id.as_str()), "{listed:?}");
    let stranger = on(mesh.owner(), &["hold", "off"]);
    let _ = stranger.ended(1);
    let _ = mesh.restore(&first, &mesh.dir().join("back"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&source));
}
