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
    stage(repo)
}

/// Of a repository that is packed, but for its last commit.
fn packed() -> Staged {
    let repo = Repo::new();
    repo.commit("a", "one");
    repo.git(&["repack", "-a", "-d", "-q"]);
    repo.commit("b", "two");
    stage(repo)
}

fn stage(repo: Repo) -> Staged {
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

impl Staged {
    /// The item of the base that ends so.
    fn of_base(&self, end: &str) -> String {
        let entries = fs::read_dir(self.items.join("base")).unwrap();
        let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_it = |name: &String| name.starts_with("pack-") && name.ends_with(end);
        format!("base/{}", names.find(is_it).unwrap())
    }

    fn replace(&self, item: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.items.join(item);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::remove_file(&path).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn an_altered_pack_is_named() {
    let staged = packed();
    assemble(&staged.items, &staged.target, false).unwrap();
    fs::remove_dir_all(&staged.target).unwrap();
    for end in [".pack", ".idx"] {
        for what in ["shorter", "longer", "other"] {
            let staged = packed();
            let item = staged.of_base(end);
            staged.replace(&item, |bytes| match what {
                "shorter" => bytes.truncate(bytes.len() - 1),
                "longer" => bytes.push(0),
                _ => {
                    // An index ends with the checksum of the pack and with its own.
                    let at = bytes.len() - if end == ".idx" { 40 } else { 20 };
                    bytes[at] ^= 1;
                }
            });
            assert!(
                matches!(staged.refusal(), GitRestoreError::Chain { item: named, .. } if named == item)
            );
            fs::remove_file(staged.items.join(&item)).unwrap();
            assert!(
                matches!(staged.refusal(), GitRestoreError::Item { item: named, .. } if named == item)
            );
        }
        // In the middle only a full look finds it.
        let staged = packed();
        staged.replace(&staged.of_base(end), |bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        });
        let refused = staged.refusal();
        assert!(
            matches!(&refused, GitRestoreError::Damaged(_) | GitRestoreError::Git(_)),
            "{refused}"
        );
    }
    let staged = packed();
    staged.replace("base/rest.pack", |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert!(
        matches!(staged.refusal(), GitRestoreError::Chain { item, .. } if item == "base/rest.pack")
    );
}

#[test]
fn packs_that_do_not_have_everything_are_found_out() {
    for in_full in [false, true] {
        let staged = packed();
        staged.edit("format", |text| {
            let (before, rest) = text.split_once("rest ").unwrap();
            before.to_owned() + rest.split_once('\n').unwrap().1
        });
        let refused = assemble(&staged.items, &staged.target, in_full).unwrap_err();
        assert!(matches!(refused, GitRestoreError::Git(_)), "{refused}");
        assert!(!staged.target.exists());
    }
}

#[test]
fn a_pack_whose_name_leads_elsewhere_is_refused() {
    for name in ["../../../../evil", "..", "/etc/passwd", &format!("../{}", "a".repeat(37))] {
        let staged = packed();
        staged.edit("format", |text| {
            let line = text.lines().find(|line| line.starts_with("pack ")).unwrap();
            let old = line.split(' ').nth(1).unwrap();
            text.replacen(old, name, 1)
        });
        let refused = staged.refusal();
        assert!(
            matches!(&refused, GitRestoreError::Malformed { item, .. } if item == "format"),
            "{refused}"
        );
        assert!(export(&staged.items, &staged.target).is_err() && !staged.target.exists());
    }
}

#[test]
fn a_link_in_place_of_a_pack_is_not_followed() {
    let staged = packed();
    let item = staged.of_base(".pack");
    let path = staged.items.join(&item);
    fs::rename(&path, staged.items.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", &path).unwrap();
    assert!(matches!(staged.refusal(), GitRestoreError::Item { item: named, .. } if named == item));
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
fn a_link_that_leads_out_of_the_chain_is_found_without_a_full_check() {
    let repo = Repo::new();
    let mut vault = Vault::default();
    let mut last = None;
    for (i, text) in ["one", "two", "three"].into_iter().enumerate() {
        repo.commit(&format!("{i}"), text);
        last = Some(vault.back_up(&mut *detect(&repo.path, false).unwrap(), last.as_ref()));
    }
    let dir = tempfile::tempdir().unwrap();
    let (items, target) = (dir.path().join("items"), dir.path().join("target"));
    vault.restore(&last.unwrap(), &items);
    assemble(&items, &target, false).unwrap();
    fs::remove_dir_all(&target).unwrap();
    // The second bundle is left out, as if the chain had been put together wrongly.
    fs::rename(items.join("bundles/000003.bundle"), items.join("bundles/000002.bundle")).unwrap();
    let text = fs::read_to_string(items.join("format")).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    fs::write(items.join("format"), [&lines[..4], &lines[5..]].concat().concat()).unwrap();
    let refused = assemble(&items, &target, false).unwrap_err();
    assert!(matches!(&refused, GitRestoreError::Git(_)), "{refused}");
    assert!(refused.to_string().contains("expected object"), "{refused}");
    assert!(!target.exists());
}

#[test]
fn a_reference_to_nothing_is_refused() {
    for (staged, in_full) in [(staged(), true), (staged(), false), (packed(), false)] {
        staged.edit("refs", |text| text + &format!("{} refs/heads/zero\n", "1".repeat(40)));
        let refused = assemble(&staged.items, &staged.target, in_full).unwrap_err();
        assert!(matches!(refused, GitRestoreError::Git(_)), "{refused}");
        assert!(!staged.target.exists());
    }
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
    let plain = assemble(&repo.beside("items"), &repo.beside("plain"), false).unwrap();
    assert_eq!((plain.refs, plain.notes.len()), (2, 0));
    let restored = assemble(&repo.beside("items"), &repo.beside("target"), true).unwrap();
    assert!(restored.notes.iter().any(|note| note.contains(&odd)), "{:?}", restored.notes);
}
