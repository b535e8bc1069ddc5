//! Placement proofs: made with a mesh, checked without one.

use harness::{Mesh, Ran, strewn, write};
use std::fs;
use std::path::Path;

/// What a proof shows on a host that has nothing else.
fn verify(mesh: &Mesh, proof: &Path, arguments: &[&str]) -> Ran {
    let proof = proof.to_str().unwrap();
    let home = mesh.dir().join("a stranger's");
    strewn(&home, ["--json", "verify-proof", proof].iter().chain(arguments))
}

fn summary(ran: &Ran) -> serde_json::Value {
    ran.messages("summary").pop().expect("a summary")
}

#[test]
fn a_proof_is_checked_by_anybody_and_shows_what_falls_short() {
    let providers = ["a", "b", "c", "d"].map(|name| (name, name));
    let mut mesh = Mesh::start(&providers);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    let source = mesh.dir().join("source");
    write(source.join("file"), "something".repeat(1000));
    let _ = mesh.backup(&source).summary();
    let (all, exact) = (mesh.dir().join("all.proof"), mesh.dir().join("exact.proof"));
    let prove = |mesh: &Mesh, to: &Path, more: &[&str]| {
        let prove = ["--json", "prove", "latest", "--output", to.to_str().unwrap()];
        mesh.strewn(prove.iter().chain(more))
    };
    let _ = prove(&mesh, &all, &[]).ok();
    let identity = mesh.identity("v");
    let made = prove(&mesh, &exact, &["--identity", identity.to_str().unwrap()]).summary();
    assert_eq!(made["is_exact"], true);
    // A proof is not written over.
    assert_eq!(prove(&mesh, &all, &[]).code, 1);

    for node in &mut mesh.nodes {
        node.kill();
    }
    for proof in [&all, &exact] {
        let shown = summary(&verify(&mesh, proof, &[]).ended(0));
        assert_eq!((&shown["good"], &shown["short"]), (&true.into(), &0.into()), "{shown}");
        let levels = shown["exposure"].as_array().unwrap();
        let provider = levels.iter().find(|level| level["level"] == "provider").unwrap();
        assert!(provider["destroy"].as_u64().unwrap() >= 2, "{shown}");
        let operator = shown["operator"].as_str().unwrap();
        let _ = verify(&mesh, proof, &["--operator", operator]).ended(0);
        let other = "00".repeat(32);
        let _ = verify(&mesh, proof, &["--operator", &other]).ended(1);
    }
    // Cut off, altered, something else.
    let bytes = fs::read(&all).unwrap();
    let wrong = mesh.dir().join("wrong.proof");
    for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&wrong, &bytes[..cut]).unwrap();
        let error = verify(&mesh, &wrong, &[]).ended(1).messages("exit_error").pop().unwrap();
        assert!(error["message"].as_str().unwrap().contains("is no proof"), "{error}");
    }
    let mut altered = bytes.clone();
    let at = altered.len() - 400;
    altered[at] ^= 1;
    fs::write(&wrong, altered).unwrap();
    let _ = verify(&mesh, &wrong, &[]).ended(1);

    // A holder that is gone for good has no receipt any more.
    mesh.nodes[0].start();
    for node in &mut mesh.nodes[2..] {
        node.start();
    }
    mesh.settle();
    let short = mesh.dir().join("short.proof");
    let _ = prove(&mesh, &short, &[]).ok();
    let shown = summary(&verify(&mesh, &short, &[]).ended(1));
    let why = shown["shortfalls"][0]["why"].as_str().unwrap();
    assert!(why.contains("provider"), "{shown}");
}
