//! Logs that only grow, and nodes that are found out when theirs do not.

use super::{folder, run, six, summary};
use std::path::Path;
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_node_whose_disk_was_set_back_is_found_out_and_brought_up_to_date() {
    let mut mesh = six();
    let source = mesh.dir().join("source");
    folder(&source, "one", 1, 100_000);
    let _ = mesh.backup(&source).summary();
    let verify = ["log", "verify"];
    assert_eq!(summary(run(&mesh, &verify, false), 0)["set_back"], 0);
    let (stored, image) = (mesh.nodes[3].home.join("node"), mesh.dir().join("image"));
    mesh.nodes[3].kill();
    copy(&stored, &image);
    mesh.nodes[3].start();
    mesh.settle();
    folder(&source, "two", 2, 100_000);
    let _ = mesh.backup(&source).summary();
    assert_eq!(summary(run(&mesh, &verify, false), 0)["good"], true);

    mesh.nodes[3].kill();
    std::fs::remove_dir_all(&stored).unwrap();
    copy(&image, &stored);
    mesh.nodes[3].start();
    mesh.settle();
    let found = summary(run(&mesh, &verify, false), 1);
    assert_eq!((&found["good"], &found["set_back"]), (&false.into(), &1.into()), "{found}");
    let again = summary(run(&mesh, &verify, false), 1);
    assert_eq!(again["set_back"], 1, "it is not forgotten because it was seen");
    // The next backup brings what it lacks.
    folder(&source, "three", 3, 100_000);
    let _ = mesh.backup(&source).summary();
    assert_eq!(summary(run(&mesh, &verify, false), 0)["set_back"], 0);
}
