//! What is lost at some nodes takes away nothing that others have.

use super::{degraded, forget, lose_first, mesh};
use harness::{bytes, tree_of, write};

#[test]
fn a_part_of_the_index_that_is_lost_stops_neither_backups_nor_restores() {
    let mut mesh = mesh(&["aws"]);
    let (old, new) = (mesh.dir().join("old"), mesh.dir().join("new"));
    write(old.join("file"), bytes("old", 200_000));
    write(new.join("file"), bytes("new", 200_000));
    let _ = degraded(&mesh, &old).summary();
    mesh.add("gcp", "g1", &[]);
    mesh.add("hetzner", "h1", &[]);
    mesh.settle();
    let good = mesh.backup(&new).summary();
    lose_first(&mut mesh);
    forget(&mesh);
    let restored = mesh.restore(good["snapshot"].as_str().unwrap(), &mesh.dir().join("back"), &[]);
    let _ = restored.ok();
    assert_eq!(tree_of(&mesh.dir().join("back")), tree_of(&new));
    // What only the lost part listed is sent again, and the rest is known.
    assert_eq!(mesh.backup(&new).summary()["new_bytes"], 0);
    let again = mesh.backup(&old).summary();
    assert!(again["new_bytes"].as_u64().unwrap() >= 200_000, "{again}");
    let _ = mesh.restore("latest", &mesh.dir().join("old back"), &[]).ok();
    assert_eq!(tree_of(&mesh.dir().join("old back")), tree_of(&old));
}

#[test]
fn nodes_that_did_not_answer_once_are_still_known() {
    let mut mesh = mesh(&["aws", "gcp", "hetzner"]);
    let _ = mesh.strewn(["snapshots"]).ok();
    mesh.nodes[1].kill();
    mesh.nodes[2].kill();
    let _ = mesh.strewn(["snapshots"]).ok();
    mesh.nodes[0].kill();
    mesh.nodes[1].start();
    let _ = mesh.strewn(["snapshots"]).ok();
    mesh.nodes[1].kill();
    mesh.nodes[2].start();
    let _ = mesh.strewn(["snapshots"]).ok();
}
