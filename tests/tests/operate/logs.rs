//! Logs that only grow, and nodes that are found out when theirs do not.

use super::{folder, run, six, summary};
use harness::within;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_node_whose_disk_was_set_back_is_brought_up_to_date_by_the_others() {
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
    // Without another backup. That it forgot what it promised is another story.
    let shows_all = || {
        std::thread::sleep(Duration::from_secs(2));
        let found = run(&mesh, &verify, false).messages("summary").pop().expect("a summary");
        let all = found["logs"][0]["nodes"].as_array().expect("nodes").clone();
        found["set_back"] == 0 && all.iter().all(|node| node[1]["state"] == "same")
    };
    assert!(within(Duration::from_secs(90), shows_all));
}
