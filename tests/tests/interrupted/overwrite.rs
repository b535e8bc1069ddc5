//! Restoring over what is there already: `--overwrite`, `--dry-run`, `--verify`.

use super::mesh;
use harness::{Mesh, Ran, bytes, tree_of, write};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// A backup of a folder, and a restored copy in which files were changed.
fn changed() -> (Mesh, std::path::PathBuf) {
    let mesh = mesh(2);
    let source = mesh.dir().join("source");
    write(source.join("large"), bytes("large", 6_000_000));
    for name in ["gone", "older", "newer", "touched", "altered", "same"] {
        write(source.join(name), format!("this is {name}"));
        set_time(&source.join(name), 1_500_000_000);
    }
    std::os::unix::fs::symlink("older", source.join("link")).unwrap();
    let _ = mesh.backup(&source).ok();
    let target = mesh.dir().join("back");
    let _ = mesh.restore("latest", &target, &[]).ok();

    let mut large = bytes("large", 6_000_000);
    large[3_000_000] ^= 1;
    write(target.join("large"), large);
    fs::remove_file(target.join("gone")).unwrap();
    for (name, content, time) in [
        ("older", "was older", 1_400_000_000),
        ("newer", "is newer", 1_600_000_000),
        ("touched", "this is touched", 1_600_000_000),
        ("altered", "THIS IS altered", 1_500_000_000),
    ] {
        write(target.join(name), content);
        set_time(&target.join(name), time);
    }
    write(target.join("mine"), "nothing of the snapshot's");
    (mesh, target)
}

fn set_time(path: &Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

/// What a dry run says of each item.
fn plan(ran: &Ran) -> BTreeMap<String, String> {
    let steps = ran.messages("verbose_status");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    steps.iter().map(|step| (text(&step["item"]), text(&step["action"]))).collect()
}

/// Runs a dry run, which must change nothing, and then the restore; both must agree. The names of the files that are
/// as in the snapshot afterwards.
fn restored(rule: &str) -> (Vec<String>, BTreeMap<String, String>, serde_json::Value) {
    let (mesh, target) = changed();
    let source = tree_of(&mesh.dir().join("source"));
    let before = tree_of(&target);
    let dry = mesh.restore("latest", &target, &["--overwrite", rule, "--dry-run"]).ok();
    assert!(tree_of(&target) == before, "a dry run writes nothing");
    let done = mesh.restore("latest", &target, &["--overwrite", rule]).summary();
    let planned = dry.messages("summary").pop().unwrap();
    assert_eq!(planned["dry_run"], true);
    for what in ["items", "bytes", "fetched_bytes", "unchanged", "kept"] {
        assert_eq!(planned[what], done[what], "{rule}: {what}");
    }
    assert_eq!(fs::read_to_string(target.join("mine")).unwrap(), "nothing of the snapshot's");
    let found = tree_of(&target);
    let is_same = |name: &&str| found.get(Path::new(name)) == source.get(Path::new(name));
    let names = ["altered", "gone", "large", "link", "newer", "older", "same", "touched"];
    let same = names.iter().copied().filter(is_same).map(str::to_owned).collect();
    (same, plan(&dry), done)
}

#[test]
fn always_makes_everything_as_in_the_snapshot_and_fetches_what_differs() {
    let (same, plan, done) = restored("always");
    assert_eq!(same.len(), 8, "{same:?}");
    assert_eq!((&plan["gone"][..], &plan["large"][..]), ("restore", "update"));
    assert_eq!((&plan["touched"][..], &plan["altered"][..]), ("unchanged", "update"));
    let fetched = done["fetched_bytes"].as_u64().unwrap();
    assert!(fetched < 2_200_000, "{fetched} bytes for one that was altered");
}

#[test]
fn if_changed_takes_size_and_time_for_enough() {
    let (same, plan, _) = restored("if-changed");
    assert_eq!(same, ["gone", "large", "link", "newer", "older", "same", "touched"]);
    assert_eq!((&plan["altered"][..], &plan["same"][..]), ("unchanged", "unchanged"));
}

#[test]
fn if_newer_keeps_what_is_newer_and_never_keeps_all() {
    let (same, plan, done) = restored("if-newer");
    assert!(same.contains(&"older".into()) && same.contains(&"gone".into()), "{same:?}");
    assert!(!same.contains(&"newer".into()) && !same.contains(&"large".into()), "{same:?}");
    assert_eq!((&plan["newer"][..], &plan["older"][..]), ("keep", "update"));
    assert!(done["kept"].as_u64().unwrap() >= 3, "{done}");
    let (same, plan, done) = restored("never");
    assert_eq!(same, ["gone", "link", "same"]);
    assert_eq!((&plan["gone"][..], &plan["older"][..]), ("restore", "keep"));
    assert_eq!((&done["kept"], &done["unchanged"]), (&5.into(), &2.into()));
}

#[test]
fn verify_reads_again_and_names_what_differs() {
    let (mesh, target) = changed();
    let ran = mesh.restore("latest", &target, &["--overwrite", "if-changed", "--verify"]).ended(1);
    let errors = ran.messages("error");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((&errors[0]["during"], &errors[0]["item"]), (&"verify".into(), &"altered".into()));
    let ran = mesh.restore("latest", &target, &["--overwrite", "--verify"]).summary();
    assert_eq!((&ran["verified"], &ran["differs"]), (&ran["items"], &serde_json::json!([])));
    // What is kept is not the snapshot's, and not compared with it.
    write(target.join("older"), "mine now");
    let ran = mesh.restore("latest", &target, &["--overwrite", "never", "--verify"]).summary();
    assert_eq!(ran["kept"], 2, "the link too");
    let _ = mesh.restore("latest", &target, &["--verify", "--dry-run"]).ended(2);
    let _ = mesh.restore("latest", &target, &["--overwrite", "sometimes"]).ended(2);
    let shown = mesh.strewn(["restore", "--help"]).ok();
    assert!(shown.out.contains("if-newer") && shown.out.contains("goes on"));
}
