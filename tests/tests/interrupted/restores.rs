//! Restores that are interrupted: the same command goes on, and fetches what is missing.

use super::{mesh, noise, on_disk, spawn_restore};
use harness::{Mesh, Ran, Signal, bytes, git, signal, tree_of, within, write};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Starts a restore, and ends it by a signal when `enough` bytes are there.
fn interrupted(mesh: &Mesh, target: &Path, watched: &Path, enough: u64, how: Signal) -> Ran {
    let mut restore = spawn_restore(mesh, "latest", target);
    let is_enough = || on_disk(watched) > enough || restore.try_wait().unwrap().is_some();
    assert!(within(Duration::from_secs(60), is_enough));
    signal(&restore, how);
    Ran::from(restore.wait_with_output().unwrap())
}

fn left_overs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains("/.strewn-")).collect()
}

#[test]
fn a_restore_that_was_interrupted_fetches_the_rest() {
    let mesh = mesh(3);
    let source = mesh.dir().join("source");
    noise(&source, "restored", 128);
    write(source.join("folder/small"), "small");
    let _ = mesh.backup(&source).ok();
    let total = 128 * MIB + 5;
    for how in [Signal::KILL, Signal::INT] {
        let target = mesh.dir().join(format!("back {how:?}"));
        let ran = interrupted(&mesh, &target, &target, 50 * MIB, how);
        if how == Signal::INT {
            let said = ran.ended(130).messages("exit_error").pop().expect("it says what to do");
            assert!(said["next"].as_str().unwrap().contains("goes on"), "{said}");
        }
        // A folder that is not empty, and no --overwrite; but not for another selection.
        let other = mesh.restore("latest", &target, &["--path", "0"]).ended(1);
        assert!(other.err.contains("not empty"), "{}", other.err);
        let plan = mesh.restore("latest", &target, &["--dry-run"]).summary();
        let rest = mesh.restore("latest", &target, &[]).summary();
        let fetched = rest["fetched_bytes"].as_u64().unwrap();
        assert_eq!((&rest["resumed"], rest["bytes"].as_u64()), (&true.into(), Some(total)));
        assert!(fetched > 0 && fetched < total - 40 * MIB, "{} MiB were fetched", fetched / MIB);
        assert_eq!(plan["fetched_bytes"], rest["fetched_bytes"], "{plan}");
        assert!(tree_of(&target) == tree_of(&source));
        let _ = mesh.restore("latest", &target, &[]).ended(1);
    }
    let whole = mesh.restore("latest", &mesh.dir().join("whole"), &["--verify"]).summary();
    assert_eq!((&whole["resumed"], whole["fetched_bytes"].as_u64()), (&false.into(), Some(total)));
    assert_eq!(whole["verified"], whole["items"]);
}

fn shards(mesh: &Mesh) -> BTreeSet<PathBuf> {
    mesh.nodes.iter().flat_map(harness::Node::shard_files).collect()
}

/// The holders have these files no more,
fn hide(files: &BTreeSet<PathBuf>) {
    for file in files {
        fs::rename(file, file.with_extension("away")).unwrap();
    }
}

/// and have them again.
fn bring_back(files: &BTreeSet<PathBuf>) {
    for file in files {
        fs::rename(file.with_extension("away"), file).unwrap();
    }
}

#[test]
fn what_cannot_be_read_costs_the_files_that_need_it_and_the_same_command_fetches_them_later() {
    let mesh = mesh(3);
    let source = mesh.dir().join("source");
    write(source.join("a"), bytes("there", 20 << 20));
    let _ = mesh.backup(&source).ok();
    let before = shards(&mesh);
    write(source.join("folder/b"), bytes("lost", 20 << 20));
    fs::hard_link(source.join("folder/b"), source.join("folder/c")).unwrap();
    let _ = mesh.backup(&source).ok();
    // The shards of the one new pack that is full are nowhere; what lists the files is in another one.
    let len = |file: &Path| fs::metadata(file).unwrap().len();
    let all = shards(&mesh);
    let full = all.difference(&before).map(|file| len(file)).max().unwrap();
    let lost = all.difference(&before).filter(|file| len(file) == full).cloned().collect();
    hide(&lost);
    let target = mesh.dir().join("back");
    let ran = mesh.restore("latest", &target, &[]).ended(1);
    let summary = ran.messages("summary").pop().unwrap();
    let failed: Vec<&str> =
        summary["failed"].as_array().unwrap().iter().map(|one| one[0].as_str().unwrap()).collect();
    assert_eq!(failed, ["folder/b", "folder/c"]);
    let (ours, found) = (tree_of(&source), tree_of(&target));
    for path in ["a", "folder"] {
        assert_eq!(found[Path::new(path)], ours[Path::new(path)], "{path}");
    }
    assert!(!target.join("folder/b").exists() && !target.join("folder/c").exists());
    bring_back(&lost);
    let rest = mesh.restore("latest", &target, &[]).summary();
    let fetched = rest["fetched_bytes"].as_u64().unwrap();
    assert_eq!(rest["resumed"], true);
    assert!(fetched > 10 * MIB && fetched < 20 * MIB, "of the file itself a part was there");
    assert!(tree_of(&target) == ours);
}

#[test]
fn where_the_list_of_files_cannot_be_read_on_what_it_listed_is_restored() {
    let mesh = mesh(3);
    let source = mesh.dir().join("source");
    // Their names alone make a list that is longer than the longest chunk, and cut in many places.
    for i in 0..6000_u32 {
        let name = blake3::hash(&[i as u8, (i >> 8) as u8]).to_hex().repeat(3);
        write(source.join("folder").join(name), []);
    }
    let _ = mesh.backup(&source).ok();
    let lost = shards(&mesh);
    // The list begins with another time of the top, and goes on as before.
    write(source.join("last"), "file");
    let _ = mesh.backup(&source).ok();
    hide(&lost);
    let target = mesh.dir().join("back");
    let ran = mesh.restore("latest", &target, &["--verify"]).ended(1);
    let summary = ran.messages("summary").pop().unwrap();
    let failed = summary["failed"].as_array().unwrap();
    assert_eq!((failed.len(), summary["differs"].as_array().unwrap().len()), (1, 1), "{summary}");
    assert!(failed[0][1].as_str().unwrap().contains("cannot be read on"), "{summary}");
    let found = fs::read_dir(target.join("folder")).unwrap().count();
    assert!(found > 0 && found < 6000, "{found} files of those listed first");
    bring_back(&lost);
    assert_eq!(mesh.restore("latest", &target, &[]).summary()["resumed"], true);
    assert!(tree_of(&target) == tree_of(&source));
}

#[test]
fn two_restores_do_not_write_to_one_place() {
    let mesh = mesh(2);
    let source = mesh.dir().join("source");
    noise(&source, "two", 48);
    let _ = mesh.backup(&source).ok();
    let target = mesh.dir().join("back");
    let mut first = spawn_restore(&mesh, "latest", &target);
    assert!(within(Duration::from_secs(60), || on_disk(&target) > 4 * MIB));
    signal(&first, Signal::STOP);
    let second = mesh.restore("latest", &target, &[]).ended(11);
    assert!(second.err.contains("another restore"), "{}", second.err);
    signal(&first, Signal::CONT);
    assert!(first.wait().unwrap().success());
    assert!(tree_of(&target) == tree_of(&source));
}

#[test]
fn a_restore_of_a_repository_that_was_interrupted_fetches_the_rest() {
    let mesh = mesh(3);
    let source = mesh.dir().join("source");
    fs::create_dir_all(&source).unwrap();
    git(&source, ["init", "--quiet", "--initial-branch=trunk"]);
    for commit in 0..6 {
        noise(&source.join(commit.to_string()), &format!("git {commit}"), 12);
        git(&source, ["add", "--all"]);
        git(&source, ["commit", "--quiet", "--message", &format!("Change {commit}")]);
    }
    let _ = mesh.backup(&source).ok();
    let (place, target) = (mesh.dir().join("place"), mesh.dir().join("place/back"));
    fs::create_dir(&place).unwrap();
    let _ = interrupted(&mesh, &target, &place, 30 * MIB, Signal::KILL);
    assert!(!target.exists());
    assert_eq!(left_overs(&place).len(), 1, "what is fetched stays, hidden");
    let rest = mesh.restore("latest", &target, &[]).summary();
    let fetched = rest["fetched_bytes"].as_u64().unwrap();
    assert_eq!(rest["resumed"], true);
    assert!(fetched < rest["bytes"].as_u64().unwrap() - 20 * MIB, "{} MiB", fetched / MIB);
    assert!(left_overs(&place).is_empty(), "nothing is left behind");
    let head = |at: &Path| git(at, ["rev-parse", "HEAD"]);
    assert_eq!(head(&target), head(&source));
    let status = Command::new("git").arg("-C").arg(&target).args(["fsck", "--strict"]).status();
    assert!(status.unwrap().success());
    // Where something is already, nothing is fetched first.
    let _ = mesh.restore("latest", &target, &[]).ended(1);
    assert!(left_overs(&place).is_empty(), "nothing is left behind");
}
