mod base;
mod growth;
mod kept;
mod large;
mod modules;

use super::*;
use crate::restore::git::{GitRestored, assemble};
use crate::source::detect;
use crate::source::testing::{Repo, Snapshot, Vault, run_git};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Everything that must come back: `HEAD`, the references and all that they reach.
fn picture(path: &Path) -> [String; 3] {
    let head = fs::read_to_string(git_dir(path).join("HEAD")).unwrap();
    let refs = run_git(
        path,
        &["for-each-ref", "--format=%(objectname) %(objecttype) %(symref) %(refname)"],
    );
    let objects = run_git(path, &["rev-list", "--objects", "--no-object-names", "--all"]);
    let mut objects: Vec<&str> = objects.lines().collect();
    objects.sort_unstable();
    [head, refs, objects.join("\n")]
}

fn git_dir(path: &Path) -> PathBuf {
    let inside = path.join(".git");
    if inside.is_dir() { inside } else { path.into() }
}

fn back_up(vault: &mut Vault, path: &Path, previous: Option<&Snapshot>) -> Snapshot {
    let mut source = detect(path, false).unwrap();
    assert_eq!(source.kind(), SourceKind::Git);
    let snapshot = vault.back_up(&mut *source, previous);
    assert_eq!(snapshot.report.failed, []);
    snapshot
}

fn restore(vault: &Vault, snapshot: &Snapshot) -> (tempfile::TempDir, PathBuf, GitRestored) {
    restore_with(vault, snapshot, true)
}

fn restore_with(
    vault: &Vault,
    snapshot: &Snapshot,
    in_full: bool,
) -> (tempfile::TempDir, PathBuf, GitRestored) {
    let dir = tempfile::tempdir().unwrap();
    vault.restore(snapshot, &dir.path().join("items"));
    let target = dir.path().join("restored");
    let restored = assemble(&dir.path().join("items"), &target, in_full).unwrap();
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only the items and the repository: {left:?}");
    (dir, target, restored)
}

#[track_caller]
fn assert_comes_back(vault: &Vault, snapshot: &Snapshot, wanted: &[String; 3]) {
    let (_dir, target, _) = restore_with(vault, snapshot, false);
    assert_eq!(&picture(&target), wanted);
    run_git(&target, &["fsck", "--full", "--strict"]);
}

#[test]
fn a_repository_comes_back_with_its_work_tree_and_settings() {
    let repo = Repo::new();
    repo.commit("a.txt", "one");
    repo.git(&["config", "alias.x", "status"]);
    let hooks = repo.path.join(".git/hooks");
    fs::write(hooks.join("pre-commit"), "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(hooks.join("pre-commit"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("pre-commit", hooks.join("pre-push")).unwrap();
    fs::write(repo.path.join(".git/info/exclude"), "*.o\n").unwrap();
    let mut vault = Vault::default();
    let snapshot = back_up(&mut vault, &repo.path, None);
    assert_eq!(
        snapshot.paths(),
        [
            "HEAD",
            "bundles",
            "bundles/000001.bundle",
            "config",
            "description",
            "format",
            "hooks",
            "hooks/pre-commit",
            "hooks/pre-push",
            "info",
            "info/exclude",
            "logs",
            "logs/HEAD",
            "logs/refs",
            "logs/refs/heads",
            "logs/refs/heads/main",
            "refs",
            "symrefs"
        ]
    );
    assert_eq!(snapshot.report.notes, [""; 0]);
    let (_dir, target, restored) = restore(&vault, &snapshot);
    assert_eq!(
        restored,
        GitRestored {
            is_bare: false,
            refs: 1,
            packs: 0,
            bundles: 1,
            head: "ref: refs/heads/main".into(),
            notes: Vec::new()
        }
    );
    assert_eq!(picture(&target), picture(&repo.path));
    assert_eq!(fs::read_to_string(target.join("a.txt")).unwrap(), "one");
    assert_eq!(run_git(&target, &["status", "--porcelain"]), "");
    for file in ["config", "description", "info/exclude", "hooks/pre-commit"] {
        assert_eq!(
            fs::read(target.join(".git").join(file)).unwrap(),
            fs::read(repo.path.join(".git").join(file)).unwrap(),
            "{file}"
        );
    }
    let mode = fs::metadata(target.join(".git/hooks/pre-commit")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(fs::read_link(target.join(".git/hooks/pre-push")).unwrap(), Path::new("pre-commit"));
}

#[test]
fn a_chain_grows_by_what_is_new_and_by_nothing_when_nothing_is() {
    let repo = Repo::new();
    let first = repo.commit("a", &"long ".repeat(1000));
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    let same = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!((same.bundles(), same.is_reused("bundles/000001.bundle")), (1, true));

    repo.commit("b", "two");
    let two = back_up(&mut vault, &repo.path, Some(&same));
    assert_eq!((two.bundles(), two.is_reused("bundles/000001.bundle")), (2, true));
    assert!(two.file(b"bundles/000002.bundle").unwrap().size < 1000);

    // Deleted, moved and new references on objects that are there: no bundle.
    repo.git(&["branch", "moved"]);
    let three = back_up(&mut vault, &repo.path, Some(&two));
    repo.git(&["branch", "-f", "moved", &first]);
    repo.git(&["branch", "old", &first]);
    repo.git(&["tag", "light", &first]);
    let four = back_up(&mut vault, &repo.path, Some(&three));
    repo.git(&["branch", "-D", "old"]);
    let five = back_up(&mut vault, &repo.path, Some(&four));
    assert_eq!((three.bundles(), four.bundles(), five.bundles()), (2, 2, 2));
    assert_comes_back(&vault, &five, &picture(&repo.path));
    assert!(vault.text(&four, "refs").contains("refs/heads/old"));
}

#[test]
fn an_annotated_tag_on_an_old_commit_is_a_bundle() {
    let repo = Repo::new();
    repo.commit("a", "one");
    repo.commit("b", "two");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    repo.git(&["tag", "-a", "-m", "v1", "v1", "HEAD~1"]);
    repo.git(&["tag", "-a", "-m", "of a tag", "v1-signed", "v1"]);
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!(two.bundles(), 2);
    let three = back_up(&mut vault, &repo.path, Some(&two));
    assert_eq!(three.bundles(), 2);
    assert_comes_back(&vault, &three, &picture(&repo.path));
}

#[test]
fn tags_of_trees_and_blobs_stash_and_notes_come_back() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    fs::write(repo.beside("blob"), "no commit has this").unwrap();
    let blob = repo.git(&["hash-object", "-w", repo.beside("blob").to_str().unwrap()]);
    repo.git(&["tag", "blob", &blob]);
    repo.git(&["tag", "-a", "-m", "m", "tree", "HEAD^{tree}"]);
    repo.git(&["update-ref", "refs/odd/tree", "HEAD^{tree}"]);
    repo.git(&["notes", "add", "-m", "note", "HEAD"]);
    fs::write(repo.path.join("a"), "stashed").unwrap();
    repo.git(&["stash", "-q"]);
    let two = back_up(&mut vault, &repo.path, Some(&one));
    let three = back_up(&mut vault, &repo.path, Some(&two));
    assert_eq!((two.bundles(), three.bundles()), (2, 2));
    assert_comes_back(&vault, &three, &picture(&repo.path));
}

#[test]
fn a_tag_keeps_what_no_branch_reaches() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    repo.git(&["checkout", "-q", "--orphan", "release"]);
    let released = repo.commit("b", "of another history");
    repo.git(&["tag", "-a", "-m", "v1", "v1"]);
    repo.git(&["checkout", "-q", "-f", "main"]);
    repo.git(&["branch", "-q", "-D", "release"]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!(two.bundles(), 2);
    let (_dir, target, _) = restore(&vault, &two);
    assert_eq!(picture(&target), picture(&repo.path));
    assert_eq!(run_git(&target, &["rev-parse", "v1^{commit}"]), released);
}

#[test]
fn a_detached_head_that_no_branch_reaches_comes_back() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    repo.git(&["checkout", "-q", "--detach"]);
    let lost = repo.commit("b", "two");
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!((vault.text(&two, "HEAD"), two.bundles()), (format!("{lost}\n"), 2));
    let (_dir, target, _) = restore(&vault, &two);
    assert_eq!(picture(&target), picture(&repo.path));
    assert_eq!(fs::read_to_string(target.join("b")).unwrap(), "two");
}

#[test]
fn an_empty_repository_comes_back_and_grows() {
    let repo = Repo::init(&["--bare"]);
    let mut vault = Vault::default();
    let empty = back_up(&mut vault, &repo.path, None);
    assert_eq!(
        (empty.bundles(), vault.text(&empty, "HEAD").as_str()),
        (0, "ref: refs/heads/main\n")
    );
    let (_dir, target, restored) = restore(&vault, &empty);
    assert!(restored.is_bare && restored.refs == 0);
    assert_eq!(picture(&target), picture(&repo.path));

    let work = Repo::new();
    work.commit("a", "one");
    work.git(&["push", "-q", repo.path.to_str().unwrap(), "main"]);
    let grown = back_up(&mut vault, &repo.path, Some(&empty));
    assert_eq!(grown.bundles(), 1);
    assert_comes_back(&vault, &grown, &picture(&repo.path));
}

#[test]
fn a_sha256_repository_comes_back() {
    let repo = Repo::init(&["--object-format=sha256"]);
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    repo.commit("b", "two");
    repo.git(&["tag", "-a", "-m", "v1", "v1"]);
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!(two.bundles(), 2);
    assert_comes_back(&vault, &two, &picture(&repo.path));
}

#[test]
fn collection_and_forced_pushes_between_backups_break_nothing() {
    let repo = Repo::new();
    repo.commit("a", "one");
    repo.git(&["checkout", "-q", "-b", "topic"]);
    repo.commit("b", "gone soon");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["branch", "-q", "-D", "topic"]);
    repo.git(&["commit", "-q", "--amend", "-m", "rewritten"]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);
    repo.commit("c", "three");
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!(two.bundles(), 2);
    assert_comes_back(&vault, &two, &picture(&repo.path));
    repo.git(&["gc", "-q", "--prune=now"]);
    let three = back_up(&mut vault, &repo.path, Some(&two));
    assert_eq!(three.bundles(), 2, "a repack is no change");
}

#[test]
fn a_push_during_the_backup_belongs_to_the_next_one() {
    let repo = Repo::new();
    repo.commit("a", "one");
    repo.commit("b", "two");
    let before = picture(&repo.path);
    let mut vault = Vault::default();
    let path = repo.path.clone();
    vault.meanwhile = Some(Box::new(move |name| {
        if name == "HEAD" || name.ends_with(".bundle") {
            run_git(&path, &["commit", "-q", "--allow-empty", "-m", "meanwhile"]);
            run_git(&path, &["branch", "-f", "moving", "HEAD~1"]);
        }
    }));
    let one = back_up(&mut vault, &repo.path, None);
    assert_comes_back(&vault, &one, &before);
    vault.meanwhile = None;
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!(two.bundles(), 2);
    assert_comes_back(&vault, &two, &picture(&repo.path));
}

#[test]
fn a_chain_whose_chunks_are_forgotten_starts_anew() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    repo.commit("b", "two");
    let two = back_up(&mut vault, &repo.path, Some(&one));
    vault.forget(&two, "bundles/000002.bundle");
    let three = back_up(&mut vault, &repo.path, Some(&two));
    assert_eq!((three.bundles(), three.is_reused("bundles/000001.bundle")), (2, true));
    assert_comes_back(&vault, &three, &picture(&repo.path));

    vault.forget(&three, "bundles/000001.bundle");
    let four = back_up(&mut vault, &repo.path, Some(&three));
    assert_eq!(four.bundles(), 1);
    assert_comes_back(&vault, &four, &picture(&repo.path));
}

#[test]
fn a_state_that_does_not_fit_the_last_snapshot_is_not_believed() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let mut one = back_up(&mut vault, &repo.path, None);
    let mut state = state::State::decode(&one.report.state).unwrap();
    let chain = state.chains.get_mut(&b""[..]).unwrap();
    chain.bundles[0].body.size += 1;
    one.report.state = state.encode();
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert!(!two.is_reused("bundles/000001.bundle"));
    one.report.state = b"something else".to_vec();
    let three = back_up(&mut vault, &repo.path, Some(&one));
    assert!(!three.is_reused("bundles/000001.bundle"));
    assert_comes_back(&vault, &three, &picture(&repo.path));
}

#[test]
fn references_with_ambiguous_names_are_all_there() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    // `git bundle` leaves out every one of these without a word.
    repo.git(&["checkout", "-q", "-b", "x"]);
    repo.commit("b", "only on x");
    repo.git(&["update-ref", "refs/heads/refs/heads/x", "main"]);
    repo.git(&["update-ref", "refs/tags/HEAD", "main"]);
    repo.git(&["update-ref", "refs/heads/refs/strewn/00000001", "main"]);
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!(two.bundles(), 2);
    assert_comes_back(&vault, &two, &picture(&repo.path));
    repo.git(&["checkout", "-q", "--detach"]);
    repo.commit("c", "on no branch");
    let three = back_up(&mut vault, &repo.path, Some(&two));
    assert_eq!(three.bundles(), 3);
    assert_comes_back(&vault, &three, &picture(&repo.path));
}

#[test]
fn symbolic_references_stay_symbolic() {
    let origin = Repo::new();
    origin.commit("a", "one");
    let clone = origin.beside("clone");
    run_git(origin.beside("").as_path(), &["clone", "-q", origin.path.to_str().unwrap(), "clone"]);
    run_git(&clone, &["symbolic-ref", "refs/heads/dangling", "refs/heads/nowhere"]);
    let mut vault = Vault::default();
    let snapshot = back_up(&mut vault, &clone, None);
    assert_eq!(
        vault.text(&snapshot, "symrefs"),
        "refs/remotes/origin/HEAD refs/remotes/origin/main\n"
    );
    let (_dir, target, _) = restore(&vault, &snapshot);
    assert_eq!(
        run_git(&target, &["symbolic-ref", "refs/remotes/origin/HEAD"]),
        "refs/remotes/origin/main"
    );
}

#[test]
fn a_bundle_opens_without_strewn() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let snapshot = back_up(&mut vault, &repo.path, None);
    let bundle = vault.content(snapshot.file(b"bundles/000001.bundle").unwrap());
    fs::write(repo.beside("b.bundle"), bundle).unwrap();
    run_git(&repo.beside(""), &["clone", "-q", "b.bundle", "opened"]);
    assert_eq!(fs::read_to_string(repo.beside("opened/a")).unwrap(), "one");
}

#[test]
fn shallow_and_partial_clones_are_refused_with_the_next_step() {
    let origin = Repo::new();
    origin.commit("a", "one");
    origin.commit("a", "two");
    origin.git(&["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", origin.path.display());
    let beside = origin.beside("");
    run_git(&beside, &["clone", "-q", "--depth=1", &url, "shallow"]);
    let refused = detect(&beside.join("shallow"), false).map(|_| ()).unwrap_err();
    assert!(matches!(&refused, SourceError::Shallow(_)));
    assert!(refused.to_string().contains("git fetch --unshallow"));
    run_git(&beside, &["clone", "-q", "--bare", "--filter=blob:none", &url, "partial"]);
    let refused = detect(&beside.join("partial"), false).map(|_| ()).unwrap_err();
    assert!(
        matches!(&refused, SourceError::Partial { remote, .. } if remote == "origin"),
        "{refused}"
    );
    assert!(refused.to_string().contains("--refetch"));
    assert!(detect(&beside.join("shallow"), true).is_ok());
}

#[test]
fn missing_objects_end_the_backup_with_their_name() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let blob = repo.git(&["rev-parse", "HEAD:a"]);
    let (dir, file) = blob.split_at(2);
    fs::remove_file(repo.path.join(".git/objects").join(dir).join(file)).unwrap();
    let mut source = detect(&repo.path, false).unwrap();
    let error = Vault::default().try_back_up(&mut *source, None).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, SourceError::Missing { message, .. } if message.contains(&blob)),
        "{error}"
    );
}

#[test]
fn a_broken_reference_is_a_failure_and_the_others_are_kept() {
    let repo = Repo::new();
    repo.commit("a", "one");
    fs::write(repo.path.join(".git/refs/heads/broken"), "nonsense\n").unwrap();
    let mut vault = Vault::default();
    let snapshot = vault.back_up(&mut *detect(&repo.path, false).unwrap(), None);
    assert_eq!(snapshot.report.failed.len(), 1);
    assert!(snapshot.report.failed[0].1.contains("refs/heads/broken"));
    assert!(vault.text(&snapshot, "refs").ends_with("refs/heads/main\n"));
}

#[test]
fn uncommitted_work_is_named_as_left_out() {
    let repo = Repo::new();
    let dirty = |repo: &Repo| {
        let snapshot = back_up(&mut Vault::default(), &repo.path, None);
        snapshot.report.notes.iter().any(|note| note.contains("not committed"))
    };
    assert!(!dirty(&repo), "nothing yet");
    fs::write(repo.path.join("staged"), "1").unwrap();
    repo.git(&["add", "staged"]);
    assert!(dirty(&repo), "staged before the first commit");
    repo.commit("a", "one");
    assert!(!dirty(&repo), "all committed");
    fs::write(repo.path.join("a"), "changed").unwrap();
    assert!(dirty(&repo), "changed");
    repo.git(&["checkout", "-q", "--", "a"]);
    fs::write(repo.path.join("untracked.o"), "1").unwrap();
    assert!(dirty(&repo), "untracked");
    fs::write(repo.path.join(".git/info/exclude"), "*.o\n").unwrap();
    assert!(!dirty(&repo), "ignored");
}

#[test]
fn nothing_of_the_repository_is_executed_or_changed() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mark = repo.beside("executed");
    let script = format!("touch {}; cat", mark.display());
    for key in [
        "core.fsmonitor",
        "filter.x.clean",
        "filter.x.smudge",
        "diff.x.textconv",
        "core.sshCommand",
        "core.pager",
    ] {
        repo.git(&["config", key, &script]);
    }
    fs::write(repo.path.join(".gitattributes"), "* filter=x diff=x\n").unwrap();
    fs::write(repo.path.join("a"), "two").unwrap();
    let index = fs::read(repo.path.join(".git/index")).unwrap();
    let listing = |path: &Path| {
        let output =
            std::process::Command::new("find").arg(path).args(["-printf", "%p %s %T@\n"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let before = listing(&repo.path);
    let mut vault = Vault::default();
    let snapshot = back_up(&mut vault, &repo.path, None);
    assert_eq!(listing(&repo.path), before);
    assert_eq!(fs::read(repo.path.join(".git/index")).unwrap(), index);
    restore(&vault, &snapshot);
    assert!(!mark.exists());
}

#[test]
fn a_linked_work_tree_is_backed_up_with_its_own_head() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let linked = repo.beside("linked");
    repo.git(&["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    let mut vault = Vault::default();
    let snapshot = back_up(&mut vault, &linked, None);
    assert_eq!(vault.text(&snapshot, "HEAD"), "ref: refs/heads/side\n");
    let (_dir, target, restored) = restore(&vault, &snapshot);
    assert!(!restored.is_bare);
    assert_eq!(picture(&target)[1..], picture(&repo.path)[1..]);
}

#[test]
fn a_repository_that_borrows_objects_comes_back_whole() {
    let origin = Repo::new();
    origin.commit("a", "one");
    let path = origin.path.to_str().unwrap();
    run_git(&origin.beside(""), &["clone", "-q", "--shared", "--bare", path, "odd\nname\""]);
    let mut vault = Vault::default();
    let snapshot = back_up(&mut vault, &origin.beside("odd\nname\""), None);
    assert_comes_back(&vault, &snapshot, &picture(&origin.beside("odd\nname\"")));
    let (_dir, target, _) = restore(&vault, &snapshot);
    assert!(!target.join("objects/info/alternates").exists());
    fs::remove_dir_all(&origin.path).unwrap();
    run_git(&target, &["fsck", "--full", "--strict"]);
}

#[test]
fn replacements_are_kept_and_not_followed() {
    let repo = Repo::new();
    let old = repo.commit("a", "one");
    repo.commit("a", "two");
    let other = repo.git(&["commit-tree", "-m", "other", "HEAD^{tree}"]);
    repo.git(&["replace", &old, &other]);
    let mut vault = Vault::default();
    let snapshot = back_up(&mut vault, &repo.path, None);
    let (_dir, target, _) = restore(&vault, &snapshot);
    let raw =
        |path: &Path| run_git(path, &["--no-replace-objects", "rev-list", "--objects", "--all"]);
    assert_eq!(raw(&target), raw(&repo.path));
    assert_eq!(picture(&target), picture(&repo.path));
}

#[test]
fn what_is_no_repository_is_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(detect(dir.path(), false).unwrap().kind(), SourceKind::Directory);
    let repo = Repo::new();
    fs::create_dir(repo.path.join("sub")).unwrap();
    assert_eq!(detect(&repo.path.join("sub"), false).unwrap().kind(), SourceKind::Directory);
    assert_eq!(detect(&repo.path, true).unwrap().kind(), SourceKind::Directory);
}
