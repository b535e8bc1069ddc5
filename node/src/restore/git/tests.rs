use super::*;
use crate::source::testing::{Repo, Vault, run_git};
use crate::source::{Source, detect};

/// The items of a small repository in a folder, and where it should go.
struct Staged {
    _dir: tempfile::TempDir,
    items: PathBuf,
    target: PathBuf,
    repo: Repo,
}

fn staged() -> Staged {
    let repo = Repo::new();
    repo.commit("a", "one");
    repo.commit("b", "two");
    let mut vault = Vault::default();
    let mut source: Box<dyn Source> = detect(&repo.path, false).unwrap();
    let snapshot = vault.back_up(&mut *source, None);
    let dir = tempfile::tempdir().unwrap();
    let (items, target) = (dir.path().join("items"), dir.path().join("out/target"));
    vault.restore(&snapshot, &items);
    Staged { _dir: dir, items, target, repo }
}

impl Staged {
    fn edit(&self, item: &str, edit: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.items.join(item)).unwrap();
        fs::write(self.items.join(item), edit(text)).unwrap();
    }

    /// Assembles, which must fail and leave nothing.
    fn refusal(&self) -> GitRestoreError {
        let error = assemble(&self.items, &self.target, true).unwrap_err();
        assert!(!self.target.exists());
        if let Ok(mut left) = fs::read_dir(self.target.parent().unwrap()) {
            assert!(left.next().is_none());
        }
        error
    }
}

#[test]
fn an_altered_bundle_is_named() {
    let staged = staged();
    let path = staged.items.join("bundles/000001.bundle");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let GitRestoreError::Chain { item, .. } = staged.refusal() else { panic!() };
    assert_eq!(item, "bundles/000001.bundle");
}

#[test]
fn a_missing_bundle_is_named() {
    let staged = staged();
    fs::remove_file(staged.items.join("bundles/000001.bundle")).unwrap();
    assert!(
        matches!(staged.refusal(), GitRestoreError::Item { item, .. } if item.ends_with("1.bundle"))
    );
}

#[test]
fn a_chain_without_a_link_is_found_out() {
    let staged = staged();
    // The description agrees that there is no bundle, the references do not.
    staged.edit("format", |text| text.split_inclusive('\n').take(3).collect());
    assert!(matches!(staged.refusal(), GitRestoreError::Git(_)));
}

#[test]
fn a_reference_to_nothing_is_refused() {
    let staged = staged();
    staged.edit("refs", |text| text + &format!("{} refs/heads/zero\n", "1".repeat(40)));
    assert!(matches!(staged.refusal(), GitRestoreError::Git(_)));
}

#[test]
fn names_that_leave_the_repository_are_refused() {
    for name in ["refs/../../x", "refs/heads/../../../x", "refs/heads/x.lock"] {
        let staged = staged();
        let oid = staged.repo.git(&["rev-parse", "HEAD"]);
        fs::write(staged.items.join("refs"), format!("{oid} {name}\n")).unwrap();
        assert!(matches!(staged.refusal(), GitRestoreError::Git(_)), "{name}");
    }
    let staged = staged();
    staged.edit("HEAD", |_| "ref: refs/../../../x\n".into());
    assert!(matches!(staged.refusal(), GitRestoreError::Git(_)));
}

#[test]
fn a_link_in_place_of_an_item_is_not_followed() {
    let staged = staged();
    fs::rename(staged.items.join("bundles"), staged.items.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", staged.items.join("bundles")).unwrap();
    assert!(matches!(staged.refusal(), GitRestoreError::Item { item, .. } if item == "bundles"));
    fs::rename(staged.items.join("config"), staged.items.join("other")).unwrap();
    std::os::unix::fs::symlink("other", staged.items.join("config")).unwrap();
    assert!(matches!(staged.refusal(), GitRestoreError::Item { item, .. } if item == "config"));
}

#[test]
fn a_target_in_use_is_left_alone() {
    let staged = staged();
    fs::create_dir_all(&staged.target).unwrap();
    fs::write(staged.target.join("precious"), "1").unwrap();
    let refused = assemble(&staged.items, &staged.target, true);
    assert!(matches!(refused, Err(GitRestoreError::Exists(_))));
    fs::remove_file(staged.target.join("precious")).unwrap();
    assemble(&staged.items, &staged.target, true).unwrap();
    assert_eq!(run_git(&staged.target, &["log", "--oneline", "--format=%s"]), "b\na");
}

#[test]
fn a_configuration_that_points_elsewhere_is_put_right() {
    let staged = staged();
    let elsewhere = staged.repo.beside("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    staged.edit("config", |text| {
        format!("{text}\n[core]\n\tworktree = {}\n\tbare = true\n", elsewhere.display())
    });
    let restored = assemble(&staged.items, &staged.target, true).unwrap();
    assert_eq!(restored.notes.len(), 1);
    assert_eq!(run_git(&staged.target, &["rev-parse", "--is-inside-work-tree"]), "true");
    assert_eq!(run_git(&staged.target, &["status", "--porcelain"]), "");
}

#[test]
fn odd_old_objects_are_noted_and_restored() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    // No space before the date: `git fsck` calls it an error, and histories have it.
    let commit = format!("tree {tree}\nauthor A <a@b>1 +0000\ncommitter A <a@b> 1 +0000\n\nodd\n");
    fs::write(repo.beside("odd"), commit).unwrap();
    let odd = repo.git(&[
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--literally",
        repo.beside("odd").to_str().unwrap(),
    ]);
    repo.git(&["update-ref", "refs/heads/odd", &odd]);
    let mut vault = Vault::default();
    let snapshot = vault.back_up(&mut *detect(&repo.path, false).unwrap(), None);
    vault.restore(&snapshot, &repo.beside("items"));
    let restored = assemble(&repo.beside("items"), &repo.beside("target"), true).unwrap();
    assert!(restored.notes.iter().any(|note| note.contains(&odd)), "{:?}", restored.notes);
}
