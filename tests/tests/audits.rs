//! Audits: who has what it promised proves it, who has not is shown to by what it signed, and who is silent is not guilty.

use harness::{Mesh, ROOM, Ran, files, strewn, tree_of, within};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// For a machine that does other work.
const FOUND: Duration = Duration::from_secs(300);

const SIX: [(&str, &str); 6] =
    [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];

fn six(spare: &[(&str, &str)]) -> Mesh {
    let mesh = Mesh::start_with_spare(&SIX, spare);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    mesh
}

fn audit(mesh: &Mesh, more: &[&str]) -> Ran {
    mesh.strewn(["--json", "audit"].iter().chain(more))
}

fn summary(ran: &Ran) -> Value {
    ran.messages("summary").pop().unwrap_or_else(|| panic!("{ran:?}"))
}

/// What a file shows on a host that has nothing else.
fn verify(mesh: &Mesh, file: &Path) -> Ran {
    let home = mesh.dir().join("a stranger's");
    strewn(&home, ["--json", "verify-proof", file.to_str().unwrap()])
}

#[test]
fn holders_prove_what_they_have_and_are_shown_to_have_lost_what_they_lost() {
    let mut mesh = six(&[]);
    let source = mesh.dir().join("source");
    files(&source, "audit", 6, 9_000_000);
    let _ = mesh.backup(&source).summary();
    let held: usize = mesh.nodes.iter().map(|node| node.shard_files().len()).sum();

    let shown = summary(&audit(&mesh, &[]).ended(0));
    assert_eq!((shown["asked"].as_u64(), &shown["asked"]), (Some(held as u64), &shown["proved"]));
    let proofs: u64 =
        shown["nodes"].as_array().unwrap().iter().map(|n| n["proof_bytes"].as_u64().unwrap()).sum();
    assert!(proofs / held as u64 <= 60 << 10, "{proofs} bytes for {held} shards");
    let status = mesh.strewn(["status", "--vault", "v"]).ok().out;
    assert!(status.contains("all proved"), "{status}");

    // One shard altered in the middle, another one gone, unknown to their nodes.
    let altered = mesh.nodes[2].shard_files().pop().unwrap();
    let mut content = fs::read(&altered).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&altered, content).unwrap();
    fs::remove_file(mesh.nodes[3].shard_files().pop().unwrap()).unwrap();
    let shown = summary(&audit(&mesh, &[]).ended(1));
    assert_eq!(shown["proved"].as_u64(), Some(held as u64 - 2), "{shown}");
    let guilty: Vec<&Value> =
        shown["nodes"].as_array().unwrap().iter().filter(|n| n["missing"] == 1).collect();
    assert_eq!(guilty.len(), 2, "{shown}");
    let files: Vec<&str> =
        shown["evidence"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert_eq!(files.len(), 2);

    // Anybody can check it, and nobody can make it up.
    for file in files {
        let shown = summary(&verify(&mesh, Path::new(file)).ended(1));
        assert_eq!((&shown["good"], &shown["missing"]), (&false.into(), &1.into()), "{shown}");
        assert!(guilty.iter().any(|node| node["node"] == shown["node"]));
        let content = fs::read(file).unwrap();
        let forged = mesh.dir().join("forged");
        for at in [20, content.len() / 3, content.len() - 20] {
            let mut content = content.clone();
            content[at] ^= 1;
            fs::write(&forged, &content).unwrap();
            let _ = verify(&mesh, &forged).ended(1).messages("exit_error").pop().unwrap();
        }
        fs::write(&forged, &content[..content.len() - 1]).unwrap();
        let _ = verify(&mesh, &forged).ended(1).messages("exit_error").pop().unwrap();
    }

    // Who is silent is offline and not guilty; the others, or a part of them, can be asked alone.
    mesh.nodes[5].kill();
    let shown = summary(&audit(&mesh, &["--sample", "100%"]).ended(1));
    assert_eq!((shown["silent"].as_u64(), shown["nodes"].as_array().unwrap().len()), (Some(1), 5));
    let honest = shown["nodes"].as_array().unwrap().iter().find(|n| n["asked"] == n["proved"]);
    let honest = honest.unwrap()["node"].as_str().unwrap();
    let shown = summary(&audit(&mesh, &["--node", &honest[..12]]).ended(0));
    assert_eq!(shown["nodes"].as_array().unwrap().len(), 1);
    let _ = audit(&mesh, &["--node", "zz"]).ended(10);
    // The last audit of everything is what is remembered.
    let status = mesh.strewn(["status", "--vault", "v"]).out;
    assert!(status.contains(&format!("{} PROVED", held - 2)), "{status}");
}

/// Shards of which a node says itself that it has not their bytes.
fn damaged(mesh: &Mesh, account: &str) -> Option<u64> {
    let nodes = mesh.strewn(["--json", "peers"]).messages("node");
    nodes.iter().find(|node| node["labels"]["account"] == account)?["scrub"]["damaged"].as_u64()
}

fn status(mesh: &Mesh) -> Value {
    summary(&mesh.strewn(["--json", "status", "--vault", "v"]))
}

/// Waits until a node has found out that it has nothing, because others asked, and everything is whole without it.
fn is_replaced(mesh: &Mesh, held: u64, account: &str) {
    let mut said = Value::Null;
    let is_whole = within(FOUND, || {
        if damaged(mesh, account) < Some(held) {
            return false;
        }
        // A command may find nobody there, just when a node has begun again.
        let shown = mesh.strewn(["--json", "status", "--vault", "v"]).messages("summary").pop();
        let Some(shown) = shown else { return false };
        said = shown;
        let health = &said["vault"]["health"];
        health["healthy"] == health["stripes"] && said["nodes"].as_array().unwrap().len() == 8
    });
    let logs: String = mesh.nodes.iter().map(harness::Node::log).collect();
    assert!(is_whole, "{:?} of {held}\n{said}\n{logs}", damaged(mesh, account));
}

#[test]
fn what_a_holder_lost_or_altered_is_found_by_the_others_and_rebuilt_by_them() {
    let mut mesh = six(&[("o", "o1"), ("o", "o2")]);
    let source = mesh.dir().join("source");
    files(&source, "asked", 3, 5_000_000);
    let _ = mesh.backup(&source).summary();
    // Nobody counts as lost in this test, and nobody reads its own shards but one an hour.
    mesh.set(&[ROOM, ("patience", "\"5m\""), ("audit-period", "\"20s\""), ("reserve", "0")]);
    let spare = |mesh: &Mesh| -> usize {
        mesh.nodes[6..].iter().map(|node| node.shard_files().len()).sum()
    };
    let said = status(&mesh);
    assert_eq!(said["vault"]["health"]["healthy"], said["vault"]["health"]["stripes"], "{said}");
    assert!(
        within(FOUND, || {
            let nodes = mesh.strewn(["--json", "peers"]).messages("node");
            nodes.iter().filter(|node| node["audit"]["finished"].is_u64()).count() >= 6
        }),
        "everybody asks about everything"
    );
    let nodes = mesh.strewn(["--json", "peers"]).messages("node");
    assert!(nodes.iter().all(|node| node["audit"]["failed"] == 0), "{nodes:?}");

    // Two holders whose disks take nothing more cannot mend what they lost. One loses all its shards, unknown to it; then the other one
    // has all of them altered.
    for (victim, account) in [(2, "a1"), (4, "g1")] {
        mesh.nodes[victim].kill();
        mesh.nodes[victim].set("reserve", "\"1000TiB\"");
        mesh.start_again();
        mesh.settle();
        let before = spare(&mesh);
        let files = mesh.nodes[victim].shard_files();
        assert!(files.len() >= 2, "data and index");
        for file in &files {
            if account == "a1" {
                fs::remove_file(file).unwrap();
            } else {
                let mut content = fs::read(file).unwrap();
                let middle = content.len() / 2;
                content[middle] ^= 1;
                fs::write(file, content).unwrap();
            }
        }
        is_replaced(&mesh, files.len() as u64, account);
        assert!(spare(&mesh) > before, "{account}");
    }
    let said = summary(&mesh.strewn(["--json", "repair", "status"]));
    let count = |what: &str| said[what].as_array().unwrap().len();
    assert_eq!((count("nodes"), count("lost")), (8, 0), "{said}");

    // What they signed against themselves convinces a stranger.
    let collected = summary(&audit(&mesh, &["--collect"]).ended(1));
    let files = collected["evidence"].as_array().unwrap();
    assert!(!files.is_empty());
    let shown = summary(&verify(&mesh, Path::new(files[0].as_str().unwrap())).ended(1));
    assert_eq!((&shown["good"], &shown["kind"]), (&false.into(), &"audit".into()), "{shown}");

    // Both are gone for good, and nothing is missed.
    mesh.nodes[2].destroy();
    mesh.nodes[4].destroy();
    let said = status(&mesh);
    assert_eq!(said["vault"]["health"]["healthy"], said["vault"]["health"]["stripes"], "{said}");
    let target = mesh.dir().join("restored");
    let _ = mesh.restore("latest", &target, &[]).ok();
    assert_eq!(tree_of(&target), tree_of(&source));
}
