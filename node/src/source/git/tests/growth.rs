//! Chains that grow, and bundles without Strewn.

use super::*;
use crate::restore::git::export;
use std::process::Command;

#[test]
fn a_long_chain_becomes_short_and_stays_whole() {
    let repo = Repo::new();
    repo.commit("a", &"the beginning ".repeat(20_000));
    let mut vault = Vault::default();
    let mut last = back_up(&mut vault, &repo.path, None);
    let mut longest = 0;
    for i in 0..40 {
        // Forced pushes too: what is no longer referenced is excluded as long as it is there.
        if i % 7 == 3 {
            repo.git(&["commit", "-q", "--amend", "--allow-empty", "-m", "amended"]);
        }
        repo.commit("b", &i.to_string());
        if i == 20 {
            repo.git(&["reflog", "expire", "--expire=now", "--all"]);
            repo.git(&["gc", "-q", "--prune=now"]);
        }
        last = back_up(&mut vault, &repo.path, Some(&last));
        longest = longest.max(last.bundles());
    }
    assert!((10..=17).contains(&longest), "{longest} bundles at most");
    assert_comes_back(&vault, &last, &picture(&repo.path));
}

/// Runs the commands of the page that comes with the bundles: its indented lines.
fn follow(page: &str, folder: &Path) -> String {
    let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
    let script: Vec<&str> = lines.collect();
    let output = Command::new("sh")
        .current_dir(folder)
        .args(["-e", "-c", &script.join("\n")])
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said.into_owned()
}

fn exported(vault: &Vault, snapshot: &Snapshot) -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    vault.restore(snapshot, &dir.path().join("items"));
    let target = dir.path().join("plain files");
    export(&dir.path().join("items"), &target).unwrap();
    let page = fs::read_to_string(target.join("README.txt")).unwrap();
    (dir, target, page)
}

#[test]
fn plain_bundles_are_a_repository_for_git_alone() {
    for format in ["sha1", "sha256"] {
        let repo = Repo::init(&[&format!("--object-format={format}")]);
        repo.commit("a", "one");
        let mut vault = Vault::default();
        let mut last = back_up(&mut vault, &repo.path, None);
        repo.git(&["tag", "-a", "-m", "on an old commit", "v1"]);
        repo.git(&["branch", "moving"]);
        last = back_up(&mut vault, &repo.path, Some(&last));
        repo.git(&["checkout", "-q", "moving"]);
        let lost = repo.commit("b", "to be lost");
        last = back_up(&mut vault, &repo.path, Some(&last));
        repo.git(&["reset", "-q", "--hard", "main"]);
        repo.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
        repo.git(&["notes", "add", "-m", "note", "main"]);
        last = back_up(&mut vault, &repo.path, Some(&last));
        // On top of what no reference reaches any more; ambiguous; gone; on no branch.
        repo.git(&["branch", "again", &lost]);
        repo.git(&["update-ref", "refs/heads/refs/heads/again", "main"]);
        repo.git(&["checkout", "-q", "main"]);
        repo.git(&["branch", "-D", "-q", "moving"]);
        repo.git(&["checkout", "-q", "--detach", "again"]);
        repo.commit("c", "on no branch");
        fs::write(repo.path.join("a"), "stashed").unwrap();
        repo.git(&["stash", "-q"]);
        last = back_up(&mut vault, &repo.path, Some(&last));
        assert!(last.bundles() >= 4);

        let (_dir, target, page) = exported(&vault, &last);
        assert_eq!(follow(&page, &target), "", "{format}: fsck has nothing to say");
        let made = target.join("repository.git");
        assert_eq!(picture(&made), picture(&repo.path), "{format}");
        let list = |path: &Path| run_git(path, &["reflog", "--format=%H %gd %gs", "refs/stash"]);
        assert_eq!(list(&made), list(&repo.path));
    }
}

#[test]
fn a_chain_that_begins_with_packs_becomes_one_plain_bundle() {
    for format in ["sha1", "sha256"] {
        let repo = Repo::init(&[&format!("--object-format={format}")]);
        repo.commit("a", "one");
        repo.git(&["repack", "-a", "-d", "-q"]);
        let lost = repo.commit("b", "loose");
        let mut vault = Vault::default();
        let one = back_up(&mut vault, &repo.path, None);
        repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
        for text in ["first", "second"] {
            fs::write(repo.path.join("a"), text).unwrap();
            repo.git(&["stash", "-q"]);
        }
        let two = back_up(&mut vault, &repo.path, Some(&one));
        assert!(two.file(b"base/rest.pack").is_some() && two.bundles() == 1);
        let (_dir, target, page) = exported(&vault, &two);
        let names = |folder: &Path| -> Vec<_> {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        assert_eq!(names(&target.join("bundles")), ["000001.bundle"]);
        assert!(!target.join("base").exists());
        assert!(fs::read_to_string(target.join("format")).unwrap().starts_with("strewn git 2\n"));
        assert_eq!(follow(&page, &target), "", "{format}");
        let made = target.join("repository.git");
        assert_eq!(picture(&made), picture(&repo.path), "{format}");
        let list = |path: &Path| run_git(path, &["reflog", "--format=%H %gd %gs", "refs/stash"]);
        assert_eq!(list(&made), list(&repo.path));
        assert_eq!(run_git(&made, &["cat-file", "-t", &lost]), "commit", "the reflog has it");
        run_git(&target, &["clone", "-q", "bundles/000001.bundle", "alone"]);
    }
}

#[test]
fn plain_bundles_of_an_empty_repository_and_of_a_damaged_one() {
    let repo = Repo::init(&["--bare"]);
    let mut vault = Vault::default();
    let empty = back_up(&mut vault, &repo.path, None);
    let (_dir, target, page) = exported(&vault, &empty);
    let said = follow(&page, &target);
    assert!(said.lines().all(|line| line.starts_with("notice: ")), "{said}");

    let repo = Repo::new();
    repo.commit("a", "one");
    let snapshot = back_up(&mut vault, &repo.path, None);
    let dir = tempfile::tempdir().unwrap();
    let items = dir.path().join("items");
    vault.restore(&snapshot, &items);
    fs::write(items.join("bundles/000001.bundle"), "rot").unwrap();
    let refused = export(&items, &dir.path().join("target")).unwrap_err();
    assert!(refused.to_string().contains("000001.bundle"), "{refused}");
    assert!(!dir.path().join("target").exists());
}
