//! Audits: who has what it promised proves it, who has not is shown to by what it signed, and who is silent is not guilty.

use harness::{Mesh, Ran, bytes, strewn, write};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn six() -> Mesh {
    let sites = [("h", "h1"), ("h", "h2"), ("a", "a1"), ("a", "a2"), ("g", "g1"), ("g", "g2")];
    let mesh = Mesh::start(&sites);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    mesh
}

fn audit(mesh: &Mesh, more: &[&str]) -> Ran {
    mesh.strewn(["--json", "audit"].iter().chain(more))
}

fn summary(ran: &Ran) -> Value {
    ran.messages("summary").pop().expect("a summary")
}

/// What a file shows on a host that has nothing else.
fn verify(mesh: &Mesh, file: &Path) -> Ran {
    let home = mesh.dir().join("a stranger's");
    strewn(&home, ["--json", "verify-proof", file.to_str().unwrap()])
}

#[test]
fn holders_prove_what_they_have_and_are_shown_to_have_lost_what_they_lost() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    for file in 0..6 {
        write(source.join(file.to_string()), bytes(&format!("audit {file}"), 9_000_000));
    }
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
