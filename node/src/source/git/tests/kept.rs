//! What a bundle leaves out and people would miss: the stash, reflogs, linked work trees, settings.

use super::*;

fn stash_list(path: &Path) -> String {
    run_git(path, &["stash", "list", "--format=%gd %H %gs %cd"])
}

#[test]
fn the_whole_stash_comes_back() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    for text in ["first", "second", "third"] {
        fs::write(repo.path.join("a"), text).unwrap();
        repo.git(&["stash", "push", "-q", "-m", text]);
    }
    let two = back_up(&mut vault, &repo.path, Some(&one));
    let three = back_up(&mut vault, &repo.path, Some(&two));
    assert_eq!((two.bundles(), three.bundles()), (2, 2), "nothing new, nothing sent");
    let (_dir, target, _) = restore(&vault, &three);
    assert_eq!(stash_list(&target), stash_list(&repo.path));
    assert_eq!(stash_list(&target).lines().count(), 3);
    run_git(&target, &["stash", "apply", "-q", "stash@{2}"]);
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "first");

    repo.git(&["stash", "drop", "-q", "stash@{1}"]);
    let four = back_up(&mut vault, &repo.path, Some(&three));
    let (_dir, target, _) = restore(&vault, &four);
    assert_eq!(stash_list(&target), stash_list(&repo.path));
}

#[test]
fn what_was_amended_away_is_found_in_the_reflog() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let lost = repo.commit("a", "by mistake");
    repo.git(&["commit", "-q", "--amend", "-m", "amended"]);
    repo.git(&["branch", "gone"]);
    repo.git(&["branch", "-D", "-q", "gone"]);
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    let (_dir, target, _) = restore(&vault, &one);
    let reflog = |path: &Path| run_git(path, &["reflog", "--format=%H %gd %gs"]);
    assert_eq!(reflog(&target), reflog(&repo.path));
    assert_eq!(run_git(&target, &["rev-parse", "HEAD@{1}"]), lost);
    assert_eq!(run_git(&target, &["show", "HEAD@{1}:a"]), "by mistake");
    assert_eq!(picture(&target), picture(&repo.path));
}

#[test]
fn reflog_entries_without_their_objects_do_no_harm() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let lost = repo.commit("a", "two");
    repo.git(&["commit", "-q", "--amend", "-m", "amended"]);
    let object = |id: &str| repo.path.join(".git/objects").join(&id[..2]).join(&id[2..]);
    fs::remove_file(object(&lost)).unwrap();
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    let log = vault.text(&one, "logs/HEAD");
    assert!(!log.contains(&lost) && log.lines().count() == 1, "{log}");
    assert_comes_back(&vault, &one, &picture(&repo.path));

    // The entry's commit is there, and what it needs is not.
    let half = repo.commit("a", "half");
    let blob = repo.git(&["rev-parse", "HEAD:a"]);
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    fs::remove_file(object(&blob)).unwrap();
    let mut source = detect(&repo.path, false).unwrap();
    let two = vault.back_up(&mut *source, Some(&one));
    assert_eq!(two.report.failed.len(), 1);
    let (path, reason) = &two.report.failed[0];
    assert!(path == "logs" && reason.contains("left out"), "{path} {reason}");
    assert!(two.file(b"logs/HEAD").is_none() && repo.git(&["cat-file", "-t", &half]) == "commit");
    assert_comes_back(&vault, &two, &picture(&repo.path));
}

#[test]
fn what_a_push_adds_to_a_reflog_meanwhile_is_not_mixed_in() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let log = fs::read_to_string(repo.path.join(".git/logs/HEAD")).unwrap();
    let mut vault = Vault::default();
    let path = repo.path.clone();
    vault.meanwhile = Some(Box::new(move |name| {
        if name == "HEAD" {
            run_git(&path, &["commit", "-q", "--allow-empty", "-m", "meanwhile"]);
        }
    }));
    let one = back_up(&mut vault, &repo.path, None);
    assert_eq!(vault.text(&one, "logs/HEAD"), log);
    restore(&vault, &one);
}

#[test]
fn linked_work_trees_come_back_with_what_only_they_have() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let (side, lost) = (repo.beside("side"), repo.beside("lost"));
    repo.git(&["worktree", "add", "-q", "-b", "side", side.to_str().unwrap()]);
    repo.git(&["worktree", "add", "-q", "--detach", "--lock", lost.to_str().unwrap()]);
    run_git(&lost, &["commit", "-q", "--allow-empty", "-m", "on no branch"]);
    run_git(&lost, &["update-ref", "refs/bisect/bad", "HEAD"]);
    run_git(&lost, &["commit", "-q", "--allow-empty", "-m", "nor this"]);
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    let (_dir, target, restored) = restore(&vault, &one);
    assert_eq!(restored.notes.iter().filter(|note| note.contains("linked work tree")).count(), 2);
    let list = |path: &Path| {
        let all = run_git(path, &["worktree", "list", "--porcelain"]);
        all.split_once("\n\n").unwrap().1.to_owned()
    };
    assert_eq!(list(&target), list(&repo.path));

    // Where the old repository is gone and the new one takes its place, the work trees go on.
    fs::rename(&repo.path, repo.beside("destroyed")).unwrap();
    fs::rename(&target, &repo.path).unwrap();
    assert_eq!(run_git(&side, &["status", "--porcelain"]), "");
    assert_eq!(run_git(&lost, &["log", "--format=%s"]), "nor this\non no branch\na");
    assert_eq!(
        run_git(&lost, &["rev-parse", "refs/bisect/bad"]),
        run_git(&lost, &["rev-parse", "HEAD~1"])
    );
    repo.git(&["fsck", "--full", "--strict"]);
}

#[test]
fn settings_beside_the_configuration_come_back() {
    let repo = Repo::new();
    repo.commit("a", "one");
    repo.git(&["config", "extensions.worktreeConfig", "true"]);
    repo.git(&["config", "--worktree", "core.worktree", repo.path.to_str().unwrap()]);
    repo.git(&["config", "--worktree", "alias.only", "status"]);
    let info = repo.path.join(".git/info");
    fs::create_dir_all(&info).unwrap();
    fs::write(info.join("attributes"), "*.bin -diff\n").unwrap();
    fs::write(info.join("grafts"), format!("{}\n", repo.git(&["rev-parse", "HEAD"]))).unwrap();
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    let (_dir, target, restored) = restore(&vault, &one);
    for file in ["info/attributes", "info/grafts"] {
        let read = |path: &Path| fs::read_to_string(path.join(".git").join(file)).unwrap();
        assert_eq!(read(&target), read(&repo.path), "{file}");
    }
    assert_eq!(run_git(&target, &["config", "--worktree", "alias.only"]), "status");
    assert!(restored.notes.iter().any(|note| note.contains("core.worktree")), "{restored:?}");
    let top = run_git(&target, &["rev-parse", "--show-toplevel"]);
    assert_eq!(Path::new(&top), target.canonicalize().unwrap());
}

#[test]
fn references_in_tables_are_backed_up_and_what_is_not_is_said() {
    let repo = Repo::init(&["--ref-format=reftable"]);
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    assert!(one.report.notes.iter().any(|note| note.contains("reftable")), "{:?}", one.report);
    let (_dir, target, _) = restore(&vault, &one);
    assert_eq!(run_git(&target, &["rev-parse", "HEAD"]), repo.git(&["rev-parse", "HEAD"]));
}
