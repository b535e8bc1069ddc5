//! A node reads what it holds, finds out what its disk altered, says so, and has it again when somebody brings it.

use harness::{Mesh, bytes, tree_of, within, write};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

const POLICY: &str = "[survive]\nany = [ { provider = 1 } ]\n";
const PATIENCE: Duration = Duration::from_secs(60);

/// What the nodes say of their shards, together.
fn said(mesh: &Mesh, what: &str) -> u64 {
    let nodes = mesh.strewn(["--json", "peers"]).ok().messages("node");
    nodes.iter().filter_map(|node| node["scrub"][what].as_u64()).sum()
}

#[test]
fn what_a_disk_altered_is_found_told_served_to_nobody_and_healed() {
    let mut mesh = Mesh::start(&[("h", "1"), ("a", "1"), ("g", "1")]);
    // All that there is, again and again.
    for node in &mut mesh.nodes {
        let path = node.home.join("strewn.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("# scrub-period = \"30d\"", "scrub-period = \"1s\""))
            .unwrap();
        node.kill();
    }
    mesh.start_again();
    mesh.settle();
    mesh.create_vault("v", POLICY);
    let source = mesh.dir().join("source");
    write(source.join("file"), bytes("file", 3 << 20));
    let _ = mesh.backup(&source).ok();
    let files = mesh.nodes[1].shard_files();
    assert!(files.len() >= 2, "data and index");
    let read = said(&mesh, "read");
    assert!(within(PATIENCE, || said(&mesh, "read") > 3 * read.max(3 << 20)));
    assert_eq!(said(&mesh, "damaged"), 0);
    // A bit turns in one, and another one is gone.
    let largest = files.iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(largest).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100_000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 100_000).unwrap();
    let other = files.iter().find(|file| *file != largest).unwrap();
    fs::remove_file(other).unwrap();
    assert!(within(PATIENCE, || said(&mesh, "damaged") == 2));
    let found = mesh.strewn(["--json", "check"]).ended(1).messages("summary").pop().unwrap();
    assert_eq!(found["problems"]["shard_missing"], 2, "{found}");
    let status = mesh.strewn(["--json", "status"]).messages("summary").pop().unwrap();
    assert_eq!(status["good"], false, "{status}");
    let _ = mesh.restore("latest", &mesh.dir().join("back"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&source));
    // It is known after a restart, before anything is read again.
    mesh.nodes[1].kill();
    mesh.start_again();
    mesh.settle();
    assert_eq!(said(&mesh, "damaged"), 2);
}
