//! A node reads what it holds, finds out what its disk altered or lost, and makes it anew from what others have.

use harness::{Mesh, bytes, within, write};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

const POLICY: &str = "[survive]\nany = [ { provider = 1 } ]\n";
const PATIENCE: Duration = Duration::from_secs(60);

/// What the nodes say of their shards, together; `None` when one of them has no time to answer.
fn said(mesh: &Mesh, what: &str) -> Option<u64> {
    let nodes = mesh.strewn(["--json", "peers"]).messages("node");
    let said: Option<Vec<u64>> = nodes.iter().map(|node| node["scrub"][what].as_u64()).collect();
    said.filter(|said| said.len() == mesh.nodes.len()).map(|said| said.iter().sum())
}

#[test]
fn what_a_disk_altered_or_lost_is_found_and_mended_from_what_others_have() {
    let mut mesh = Mesh::start(&[("h", "1"), ("a", "1"), ("g", "1")]);
    // All that there is, again and again.
    for node in &mut mesh.nodes {
        let path = node.home.join("strewn.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("# scrub-period = \"30d\"", "scrub-period = \"5s\""))
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
    assert!(within(PATIENCE, || said(&mesh, "read") > Some(3 << 20)), "{:?}", said(&mesh, "read"));
    assert!(within(PATIENCE, || said(&mesh, "damaged") == Some(0)));
    // A bit turns in one, and another one is gone.
    let largest = files.iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
    let whole = fs::read(largest).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(largest).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100_000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 100_000).unwrap();
    let other = files.iter().find(|file| *file != largest).unwrap();
    fs::remove_file(other).unwrap();
    // It is found, and made anew from what the others have, in its place.
    assert!(within(PATIENCE, || said(&mesh, "healed") >= Some(2)), "{:?}", said(&mesh, "damaged"));
    assert!(within(PATIENCE, || said(&mesh, "damaged") == Some(0)));
    assert_eq!(mesh.nodes[1].shard_files(), files);
    assert_eq!(fs::read(largest).unwrap(), whole);
    let checked = mesh.strewn(
        ["--json", "check", "--read-data", "--identity"]
            .map(OsStr::new)
            .into_iter()
            .chain([mesh.identity("v").as_os_str()]),
    );
    assert_eq!(checked.summary()["good"], true);
    assert_eq!(mesh.strewn(["--json", "status"]).summary()["good"], true);
}
