//! Submodules: their repositories are part of the one around them.

use super::*;

/// A repository with a submodule, in which another one is.
fn nested() -> (Repo, Repo, Repo) {
    let (main, lib, deep) = (Repo::new(), Repo::new(), Repo::new());
    deep.commit("d", "deep");
    lib.commit("l", "lib");
    lib.git(&["submodule", "--quiet", "add", deep.path.to_str().unwrap(), "deep"]);
    lib.git(&["commit", "-q", "-m", "with deep"]);
    main.commit("a", "one");
    main.git(&["submodule", "--quiet", "add", lib.path.to_str().unwrap(), "libs/lib"]);
    main.git(&["submodule", "--quiet", "update", "--init", "--recursive"]);
    main.git(&["commit", "-q", "-m", "with lib"]);
    (main, lib, deep)
}

#[test]
fn submodules_come_back_without_their_origins() {
    let (main, lib, deep) = nested();
    let sub = main.path.join("libs/lib");
    // Made in the submodule, pushed nowhere.
    fs::write(sub.join("l"), "local").unwrap();
    run_git(&sub, &["checkout", "-q", "-b", "local"]);
    run_git(&sub, &["commit", "-q", "-a", "-m", "local"]);
    main.git(&["commit", "-q", "-a", "-m", "newer lib"]);
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &main.path, None);
    let prefix = "modules/libs/lib/modules/deep/";
    for item in ["HEAD", "bundles/000001.bundle", "config", "format", "refs"] {
        assert!(one.file(format!("{prefix}{item}").as_bytes()).is_some(), "{item}");
    }
    let two = back_up(&mut vault, &main.path, Some(&one));
    assert!(two.is_reused("modules/libs/lib/modules/deep/bundles/000001.bundle"));
    run_git(&sub, &["commit", "-q", "--allow-empty", "-m", "more"]);
    main.git(&["commit", "-q", "-a", "-m", "newest lib"]);
    let three = back_up(&mut vault, &main.path, Some(&two));
    assert_eq!(three.bundles(), 5, "two of the main repository, two of lib, one of deep");

    let (_dir, target, restored) = restore(&vault, &three);
    assert!(restored.notes.iter().any(|note| note.contains("submodule update")), "{restored:?}");
    for gone in [&lib, &deep] {
        fs::remove_dir_all(&gone.path).unwrap();
    }
    let modules = |path: &Path| path.join(".git/modules/libs/lib");
    assert_eq!(picture(&modules(&target)), picture(&modules(&main.path)));
    run_git(&target, &["submodule", "--quiet", "update", "--recursive"]);
    assert_eq!(fs::read_to_string(target.join("libs/lib/l")).unwrap(), "local");
    assert_eq!(fs::read_to_string(target.join("libs/lib/deep/d")).unwrap(), "deep");
    assert_eq!(run_git(&target, &["status", "--porcelain"]), "");
    run_git(&target.join("libs/lib"), &["fsck", "--full", "--strict"]);
}

#[test]
fn a_submodule_without_its_work_tree_is_kept_and_uncommitted_work_in_one_is_named() {
    let (main, _lib, _deep) = nested();
    fs::write(main.path.join("libs/lib/new"), "1").unwrap();
    let mut vault = Vault::default();
    let dirty = back_up(&mut vault, &main.path, None);
    let note = "modules/libs/lib: the work tree has changes";
    assert!(dirty.report.notes.iter().any(|n| n.starts_with(note)), "{:?}", dirty.report.notes);
    main.git(&["submodule", "--quiet", "deinit", "--force", "--all"]);
    main.git(&["rm", "-q", "-r", "libs"]);
    main.git(&["commit", "-q", "-m", "without lib"]);
    let _ = fs::remove_dir_all(main.path.join("libs"));
    let after = back_up(&mut vault, &main.path, Some(&dirty));
    assert!(after.is_reused("modules/libs/lib/bundles/000001.bundle"));
    restore(&vault, &after);
}

#[test]
fn a_shallow_submodule_is_named_and_the_rest_is_saved() {
    let (main, lib) = (Repo::new(), Repo::new());
    lib.commit("l", "one");
    lib.commit("l", "two");
    let url = format!("file://{}", lib.path.display());
    main.git(&["submodule", "--quiet", "add", "--depth=1", &url, "lib"]);
    main.git(&["commit", "-q", "-m", "with lib"]);
    let mut vault = Vault::default();
    let snapshot = vault.back_up(&mut *detect(&main.path, false).unwrap(), None);
    assert_eq!(snapshot.report.failed.len(), 1);
    let (path, reason) = &snapshot.report.failed[0];
    assert!(path == "modules/lib" && reason.contains("--unshallow"), "{path} {reason}");
    assert_comes_back(&vault, &snapshot, &picture(&main.path));
}

#[test]
fn a_submodule_that_keeps_its_repository_in_the_work_tree_is_named() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let inner = repo.path.join("inner");
    fs::create_dir(&inner).unwrap();
    run_git(&inner, &["init", "-q", "-b", "main", "."]);
    run_git(&inner, &["commit", "-q", "--allow-empty", "-m", "i"]);
    repo.git(&["-c", "advice.addEmbeddedRepo=false", "add", "inner"]);
    repo.git(&["commit", "-q", "-m", "inner"]);
    let snapshot = back_up(&mut Vault::default(), &repo.path, None);
    let notes = &snapshot.report.notes;
    assert!(notes.iter().any(|note| note.contains("--git-root")), "{notes:?}");
}

#[test]
fn submodules_of_a_linked_work_tree_are_backed_up_with_it() {
    let (main, lib) = (Repo::new(), Repo::new());
    lib.commit("l", "lib");
    main.git(&["submodule", "--quiet", "add", lib.path.to_str().unwrap(), "lib"]);
    main.git(&["commit", "-q", "-m", "with lib"]);
    let linked = main.beside("linked");
    main.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    run_git(&linked, &["submodule", "--quiet", "update", "--init"]);
    let mut vault = Vault::default();
    let whole = back_up(&mut vault, &main.path, None);
    let note = "submodules of the linked work tree linked";
    assert!(whole.report.notes.iter().any(|n| n.contains(note)), "{:?}", whole.report.notes);
    let alone = back_up(&mut vault, &linked, None);
    assert!(alone.file(b"modules/lib/bundles/000001.bundle").is_some());
    restore(&vault, &alone);
}
