//! What rules keep, and what forgetting does and does not do.

use super::devices::{on, restore, second_host};
use super::{folder, run, six, summary};
use harness::{Mesh, program, tree_of};
use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn what_is_forgotten_is_left_out_of_lists_and_can_be_restored_by_its_id() {
    let mesh = six();
    let home = second_host(&mesh);
    let source = mesh.dir().join("source");
    let (mut ids, mut trees) = (Vec::new(), Vec::new());
    for seed in ["one", "two", "three"] {
        folder(&source, seed, 1, 10_000);
        ids.push(mesh.backup(&source).summary()["snapshot"].as_str().unwrap().to_owned());
        trees.push(tree_of(&source));
    }
    let listed = |arguments: &[&str]| {
        let words: Vec<&str> = ["snapshots"].iter().chain(arguments).copied().collect();
        let snapshots = on(&home, &words).ok().messages("snapshot");
        let shown = snapshots.iter().map(|snapshot| {
            (snapshot["id"].as_str().unwrap().to_owned(), snapshot["forgotten"] == true)
        });
        shown.collect::<Vec<_>>()
    };
    // Trying changes nothing, and only who has the vault's key can do it.
    let rule = ["forget", "--keep-last", "1"];
    let tried = on(&home, &rule).ok();
    let group = tried.messages("group").pop().unwrap();
    let keep: Vec<bool> =
        group["snapshots"].as_array().unwrap().iter().map(|s| s["keep"] == true).collect();
    assert_eq!(keep, [false, false, true]);
    assert_eq!(group["snapshots"][2]["reasons"], json!(["last snapshot"]));
    let said = tried.summary();
    assert_eq!((&said["forgotten"], &said["applied"]), (&json!(ids[..2]), &json!(false)));
    let refused = on(&home, &["forget", "--keep-last", "1", "--apply"]).ended(1);
    let error = refused.messages("exit_error").pop().unwrap();
    assert!(error["next"].as_str().unwrap().contains("where the vault was made"), "{error}");
    assert_eq!(listed(&[]).len(), 3);

    let done = on(mesh.owner(), &["forget", "--keep-last", "1", "--apply"]).summary();
    assert_eq!((&done["kept"], &done["applied"]), (&json!(1), &json!(true)));
    let last = (ids[2].clone(), false);
    assert_eq!(listed(&[]), std::slice::from_ref(&last));
    assert_eq!(listed(&["--all"]), [(ids[0].clone(), true), (ids[1].clone(), true), last]);
    let vault = on(mesh.owner(), &["status"]).ok().summary()["vault"].clone();
    assert_eq!((&vault["snapshots"], &vault["forgotten"]), (&json!(1), &json!(2)));
    let searched = |arguments: &[&str]| {
        let words = [&["find", "0"], arguments].concat();
        summary(run(&mesh, &words, true), 0)["snapshots"].clone()
    };
    assert_eq!((searched(&[]), searched(&["--all"])), (json!(1), json!(3)));
    assert_eq!(searched(&["--snapshot", &ids[0]]), json!(1), "who names it means it");
    restore(&mesh, &home, &ids[0], &mesh.dir().join("back"));
    assert_eq!(tree_of(&mesh.dir().join("back")), trees[0]);
    // Again there is nothing to do, and without a rule nothing at all.
    assert_eq!(on(mesh.owner(), &rule).summary()["forgotten"], json!([]));
    assert_eq!(on(mesh.owner(), &["forget", "--apply"]).summary()["forgotten"], json!([]));

    let _ = on(mesh.owner(), &["forget", &ids[2][..10], "--apply"]).ok();
    assert_eq!(listed(&[]), []);
    let _ = on(mesh.owner(), &["tag", "latest", "--add", "word"]).ended(10);
    let _ = summary(on(mesh.owner(), &["check", "--read-data"]), 0);
}

/// What a command prints that runs on a terminal, and is answered this. `None` without the program `script`.
fn on_terminal(mesh: &Mesh, words: &str, answer: &str) -> Option<String> {
    let line = format!("{} --home {} {words}", program().display(), mesh.owner().display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match script.spawn() {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var_os("STREWN_REQUIRE_ALL").is_none(), "script: {error}");
            eprintln!("skipped: this needs the program `script` (Debian: bsdutils)");
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    Some(said)
}

#[test]
fn on_a_terminal_it_is_asked_and_nothing_happens_without_a_yes() {
    let mesh = six();
    let source = mesh.dir().join("source");
    for seed in ["one", "two"] {
        folder(&source, seed, 1, 10_000);
        let _ = mesh.backup(&source).ok();
    }
    let snapshots = || on(mesh.owner(), &["snapshots"]).ok().messages("snapshot").len();
    for (answer, left) in [("\n", 2), ("n\n", 2), ("maybe\n", 2), ("y\n", 1)] {
        let Some(said) = on_terminal(&mesh, "forget --keep-last 1", answer) else { return };
        assert!(said.contains("Forget 1 snapshot, and keep 1? [y/N]"), "{said}");
        assert_eq!(snapshots(), left, "{said}");
    }
    let identity = mesh.identity("v");
    let prune = format!("prune --identity {}", identity.display());
    let said = on_terminal(&mesh, &prune, "n\n").unwrap();
    assert!(said.contains("[y/N]") && said.contains("nothing was changed"), "{said}");
    let said = on_terminal(&mesh, &prune, "yes\n").unwrap();
    assert!(said.contains("asked for the release of"), "{said}");
}
