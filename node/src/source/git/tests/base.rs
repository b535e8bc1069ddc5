//! Chains that begin with the repository's own packs.

use super::*;
use crate::source::git::base::Packs;
use crate::source::git::chain::{Base, Description};
use crate::source::git::mirror::Mirror;
use crate::source::git::state::State;
use std::collections::BTreeSet;
use std::io::Read;

/// Commits something that does not compress, and packs what is loose.
fn pack(repo: &Repo, name: &str) {
    let seed = blake3::hash(name.as_bytes());
    let mut text = vec![0; 10_000];
    blake3::Hasher::new_keyed(seed.as_bytes()).finalize_xof().fill(&mut text);
    repo.commit(name, &data_encoding::BASE64.encode(&text));
    repo.git(&["repack", "-d", "-q"]);
}

/// Makes one pack of these objects, and deletes all others.
fn pack_only(repo: &Repo, oids: &str) {
    fs::write(repo.beside("list"), oids).unwrap();
    let objects = objects(&repo.path);
    let pack = objects.join("pack/pack");
    let packed = std::process::Command::new("git")
        .current_dir(&repo.path)
        .args(["pack-objects", "-q", pack.to_str().unwrap()])
        .stdin(fs::File::open(repo.beside("list")).unwrap())
        .output();
    assert!(packed.unwrap().status.success());
    for entry in fs::read_dir(objects).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().len() == 2 {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

fn base(vault: &Vault, snapshot: &Snapshot) -> Option<Base> {
    Description::decode(vault.text(snapshot, "format").as_bytes()).unwrap().base
}

fn objects(repo: &Path) -> PathBuf {
    git_dir(repo).join("objects")
}

/// The names of the files of packs.
fn packs(repo: &Path) -> Vec<String> {
    let entries = fs::read_dir(objects(repo).join("pack")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter(|name| [".pack", ".idx"].iter().any(|end| name.ends_with(end))).collect();
    names.sort();
    names
}

fn items(snapshot: &Snapshot) -> Vec<String> {
    let paths = snapshot.paths().into_iter();
    paths.filter_map(|path| path.strip_prefix("base/").map(Into::into)).collect()
}

/// The one file of packs that ends so.
fn only(repo: &Path, end: &str) -> PathBuf {
    let names: Vec<String> = packs(repo).into_iter().filter(|name| name.ends_with(end)).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    objects(repo).join("pack").join(&names[0])
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn refused(path: &Path) -> SourceError {
    let mut source = detect(path, false).unwrap();
    Vault::default().try_back_up(&mut *source, None).map(|_| ()).unwrap_err()
}

#[test]
fn packs_are_taken_as_they_are_and_bundles_follow() {
    for format in ["sha1", "sha256"] {
        let repo = Repo::init(&[&format!("--object-format={format}")]);
        pack(&repo, "a");
        pack(&repo, "b");
        repo.commit("c", "loose");
        repo.git(&["tag", "-a", "-m", "of a tree", "v1", "HEAD^{tree}"]);
        let mut vault = Vault::default();
        let one = back_up(&mut vault, &repo.path, None);
        assert_eq!(items(&one), [packs(&repo.path), vec!["rest.pack".into()]].concat());
        assert_eq!(one.bundles(), 0);
        assert!(one.file(b"base/rest.pack").unwrap().size < 1000, "only what is loose");
        for name in packs(&repo.path) {
            let found = vault.content(one.file(format!("base/{name}").as_bytes()).unwrap());
            assert_eq!(found, fs::read(objects(&repo.path).join("pack").join(name)).unwrap());
        }
        let (_dir, target, restored) = restore(&vault, &one);
        assert_eq!((restored.packs, restored.bundles), (2, 0));
        assert_eq!(picture(&target), picture(&repo.path));
        let there = packs(&target);
        assert!(packs(&repo.path).iter().all(|name| there.contains(name)), "{there:?}");

        let read = vault.read;
        let same = back_up(&mut vault, &repo.path, Some(&one));
        assert!(items(&same).iter().all(|name| same.is_reused(&format!("base/{name}"))));
        repo.commit("d", "new");
        let two = back_up(&mut vault, &repo.path, Some(&same));
        assert_eq!((items(&two), two.bundles()), (items(&one), 1));
        assert!(vault.read - read < 10_000, "{} bytes read for little", vault.read - read);
        assert!(two.file(b"bundles/000001.bundle").unwrap().size < 1000);
        let (_dir, target, restored) = restore(&vault, &two);
        assert_eq!((restored.packs, restored.bundles), (2, 1));
        assert_eq!(picture(&target), picture(&repo.path));
    }
}

#[test]
fn without_loose_objects_there_is_no_rest() {
    let repo = Repo::new();
    pack(&repo, "a");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    assert_eq!(items(&one), packs(&repo.path));
    assert_eq!(base(&vault, &one).unwrap().rest, None);
    assert_comes_back(&vault, &one, &picture(&repo.path));
}

#[test]
fn what_only_reflogs_and_the_stash_reach_is_there_too() {
    let repo = Repo::new();
    pack(&repo, "a");
    let lost = repo.commit("a", "by mistake");
    repo.git(&["commit", "-q", "--amend", "-m", "amended"]);
    for text in ["first", "second"] {
        fs::write(repo.path.join("a"), text).unwrap();
        repo.git(&["stash", "push", "-q", "-m", text]);
    }
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    assert!(base(&vault, &one).unwrap().rest.is_some());
    let (_dir, target, _) = restore(&vault, &one);
    assert_eq!(picture(&target), picture(&repo.path));
    assert_eq!(run_git(&target, &["rev-parse", "HEAD@{1}"]).len(), lost.len());
    let stash = |path: &Path| run_git(path, &["stash", "list", "--format=%H %gs"]);
    assert_eq!(stash(&target), stash(&repo.path));
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!(two.bundles(), 0);
}

#[test]
fn of_a_cruft_pack_only_what_is_reachable_again_is_taken() {
    let repo = Repo::new();
    pack(&repo, "a");
    repo.git(&["checkout", "-q", "-b", "side"]);
    let lost = repo.commit("b", "lost and found");
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["branch", "-q", "-D", "side"]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--cruft", "--prune=never"]);
    assert_eq!(packs(&repo.path).len(), 4, "one of them cruft");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    assert_eq!(items(&one).len(), 2, "{:?}", items(&one));
    repo.git(&["branch", "found", &lost]);
    let anew = back_up(&mut Vault::default(), &repo.path, None);
    assert_eq!(items(&anew)[2..], ["rest.pack"]);
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!(two.bundles(), 1);
    assert_comes_back(&vault, &two, &picture(&repo.path));
}

#[test]
fn a_collection_between_two_backups_costs_next_to_nothing() {
    let repo = Repo::new();
    for i in 0..5 {
        pack(&repo, &format!("a{i}"));
    }
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    assert!(vault.read > 50_000);
    repo.git(&["gc", "-q", "--aggressive", "--prune=now"]);
    assert!(packs(&repo.path).iter().all(|name| !items(&one).contains(name)), "all anew");
    let read = vault.read;
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!((items(&two), two.bundles()), (items(&one), 0));
    repo.commit("b", "new");
    repo.git(&["gc", "-q", "--prune=now"]);
    let three = back_up(&mut vault, &repo.path, Some(&two));
    assert_eq!((items(&three), three.bundles()), (items(&one), 1));
    assert!(three.file(b"bundles/000001.bundle").unwrap().size < 1000);
    assert!(vault.read - read < 10_000, "{} bytes read", vault.read - read);
    assert_comes_back(&vault, &three, &picture(&repo.path));
}

#[test]
fn collections_and_pushes_during_the_backup_break_nothing() {
    for command in [
        &["gc", "-q", "--prune=now"][..],
        &["repack", "-a", "-d", "-q", "--cruft"],
        &["repack", "-a", "-d", "-f", "-F", "-q", "--depth=1"],
    ] {
        for when in ["HEAD", "idx", "pack"] {
            let repo = Repo::new();
            pack(&repo, "a");
            pack(&repo, "b");
            repo.commit("c", "loose");
            let before = picture(&repo.path);
            let mut vault = Vault::default();
            let path = repo.path.clone();
            let mut left = 1;
            vault.meanwhile = Some(Box::new(move |name| {
                if left > 0 && (name == when || name.starts_with("base/") && name.ends_with(when)) {
                    left -= 1;
                    run_git(&path, &["commit", "-q", "--allow-empty", "-m", "meanwhile"]);
                    run_git(&path, &["branch", "-f", "moving", "HEAD~1"]);
                    run_git(&path, command);
                }
            }));
            let one = back_up(&mut vault, &repo.path, None);
            vault.meanwhile = None;
            assert!(base(&vault, &one).is_some(), "{command:?} {when}");
            assert_comes_back(&vault, &one, &before);
            let two = back_up(&mut vault, &repo.path, Some(&one));
            assert_eq!(two.bundles(), 1);
            assert_comes_back(&vault, &two, &picture(&repo.path));
        }
    }
}

#[test]
fn packs_that_are_open_are_there_for_git_after_a_collection() {
    let repo = Repo::new();
    pack(&repo, "a");
    let tip = repo.git(&["rev-parse", "HEAD"]);
    let open = Packs::open(&objects(&repo.path), "sha1");
    let names = packs(&repo.path);
    repo.git(&["repack", "-a", "-d", "-f", "-F", "-q", "--depth=1", "--no-write-bitmap-index"]);
    pack(&repo, "b");
    repo.git(&["gc", "-q", "--prune=now"]);
    assert!(names.iter().all(|name| !packs(&repo.path).contains(name)));
    let git = Git::find().unwrap();
    let rest = |oid: &str, packs: &Packs| {
        let mirror = Mirror::new(&git, &objects(&repo.path), "sha1");
        let mut bytes = Vec::new();
        let stream = mirror.rest(&BTreeSet::from([oid]), packs);
        stream.unwrap().read_to_end(&mut bytes).unwrap();
        bytes.len()
    };
    assert_eq!(rest(&tip, &open), 0, "nothing is missing in what is open");
    let new = repo.git(&["rev-parse", "HEAD"]);
    let of_new = rest(&new, &open);
    let all = rest(&new, &Packs(Vec::new()));
    assert!(of_new > 5_000 && all > of_new + 5_000, "{of_new} of {all}");
}

#[test]
fn a_damaged_pack_or_index_is_named() {
    let make = || {
        let repo = Repo::new();
        pack(&repo, "a");
        repo
    };
    for (end, at) in [(".pack", 5000), (".pack", 20), (".idx", 600), (".idx", 1100)] {
        let repo = make();
        let path = only(&repo.path, end);
        change(&path, |bytes| {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
        });
        let error = refused(&repo.path);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            matches!(&error, SourceError::Damaged { file, .. } if file == name),
            "{end} {at}: {error}"
        );
        assert!(error.to_string().contains("git fsck"), "{error}");
    }
    let (repo, other) = (make(), Repo::new());
    pack(&other, "b");
    let path = only(&repo.path, ".idx");
    fs::remove_file(&path).unwrap();
    fs::copy(only(&other.path, ".idx"), &path).unwrap();
    let error = refused(&repo.path);
    assert!(error.to_string().contains("of another pack"), "{error}");
}

#[test]
fn what_is_missing_in_packs_ends_the_backup_with_its_name() {
    let repo = Repo::new();
    repo.commit("a", "one");
    repo.commit("b", "two");
    let blob = repo.git(&["rev-parse", "HEAD:a"]);
    let all = repo.git(&["rev-list", "--objects", "--no-object-names", "--all"]);
    pack_only(&repo, &all.replace(&format!("{blob}\n"), ""));
    let error = refused(&repo.path);
    assert!(
        matches!(&error, SourceError::Missing { message, .. } if message.contains(&blob)),
        "{error}"
    );
}

#[test]
fn a_base_that_is_forgotten_is_read_again() {
    let repo = Repo::new();
    pack(&repo, "a");
    pack(&repo, "b");
    repo.commit("c", "loose");
    let last = packs(&repo.path).pop().unwrap();
    for path in [format!("base/{last}"), "base/rest.pack".into()] {
        let mut vault = Vault::default();
        let one = back_up(&mut vault, &repo.path, None);
        repo.commit("d", &path);
        let two = back_up(&mut vault, &repo.path, Some(&one));
        assert_eq!(two.bundles(), 1);
        vault.forget(&two, &path);
        let three = back_up(&mut vault, &repo.path, Some(&two));
        assert_eq!((items(&three), three.bundles()), (items(&one), 0), "{path}");
        assert!(items(&three).iter().all(|name| !three.is_reused(&format!("base/{name}"))));
        assert_comes_back(&vault, &three, &picture(&repo.path));
    }
}

#[test]
fn a_base_stays_when_a_bundle_is_forgotten() {
    let repo = Repo::new();
    pack(&repo, "a");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    repo.commit("b", "more");
    let two = back_up(&mut vault, &repo.path, Some(&one));
    vault.forget(&two, "bundles/000001.bundle");
    let three = back_up(&mut vault, &repo.path, Some(&two));
    assert_eq!((items(&three), three.bundles()), (items(&one), 1));
    assert!(three.is_reused(&format!("base/{}", items(&one)[0])));
    assert!(!three.is_reused("bundles/000001.bundle"));
    assert_comes_back(&vault, &three, &picture(&repo.path));
}

#[test]
fn a_chain_of_the_version_before_goes_on() {
    let repo = Repo::new();
    repo.commit("a", &"long ".repeat(1000));
    let mut vault = Vault::default();
    let mut one = back_up(&mut vault, &repo.path, None);
    assert_eq!((items(&one).len(), one.bundles()), (0, 1));
    assert!(vault.text(&one, "format").starts_with("strewn git 2\n"), "older versions read it");
    one.report.state = State::decode(&one.report.state).unwrap().encode_before();
    repo.git(&["gc", "-q"]);
    repo.commit("b", "two");
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!((items(&two).len(), two.bundles()), (0, 2));
    assert!(two.is_reused("bundles/000001.bundle"));
    assert_comes_back(&vault, &two, &picture(&repo.path));
    // Where the bundles are lost the packs take their place.
    vault.forget(&two, "bundles/000001.bundle");
    let three = back_up(&mut vault, &repo.path, Some(&two));
    assert_eq!((items(&three).len(), three.bundles()), (3, 0));
    assert_comes_back(&vault, &three, &picture(&repo.path));
}

#[test]
fn a_repository_that_borrows_objects_and_has_packs_comes_back_whole() {
    let origin = Repo::new();
    origin.commit("a", "of the origin");
    run_git(
        &origin.beside(""),
        &["clone", "-q", "--shared", origin.path.to_str().unwrap(), "clone"],
    );
    let clone = origin.beside("clone");
    run_git(&clone, &["commit", "-q", "--allow-empty", "-m", "own"]);
    run_git(&clone, &["repack", "-d", "-l", "-q"]);
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &clone, None);
    assert_eq!(items(&one).len(), 3, "a pack, and the rest from the origin");
    let (_dir, target, _) = restore(&vault, &one);
    assert_eq!(picture(&target), picture(&clone));
    fs::remove_dir_all(&origin.path).unwrap();
    run_git(&target, &["fsck", "--full", "--strict"]);
}

#[test]
fn a_commit_that_does_not_speak_of_large_files_is_remembered() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let plain_tip = |snapshot: &Snapshot| {
        State::decode(&snapshot.report.state).unwrap().chains[&b""[..]].plain_tip.clone()
    };
    let one = back_up(&mut vault, &repo.path, None);
    assert_eq!(plain_tip(&one), Some(repo.git(&["rev-parse", "HEAD"])));
    repo.commit(".gitattributes", "*.bin filter=lfs\n");
    let two = back_up(&mut vault, &repo.path, Some(&one));
    assert_eq!(plain_tip(&two), None);
}

#[test]
fn the_rest_needs_none_of_the_packs() {
    let repo = Repo::new();
    pack(&repo, "a");
    let text = fs::read_to_string(repo.path.join("a")).unwrap();
    // Git would store it as a difference to what is packed.
    repo.commit("a", &(text + "more"));
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    let rest = vault.content(one.file(b"base/rest.pack").unwrap());
    assert!(rest.len() > 10_000, "{}", rest.len());
    run_git(&repo.beside(""), &["init", "-q", "--bare", "alone"]);
    fs::write(repo.beside("alone/rest.pack"), rest).unwrap();
    run_git(&repo.beside("alone"), &["index-pack", "rest.pack"]);
    assert_comes_back(&vault, &one, &picture(&repo.path));
}

#[test]
fn what_is_unreachable_may_be_incomplete() {
    let repo = Repo::new();
    repo.commit("a", "one");
    repo.git(&["checkout", "-q", "-b", "side"]);
    let gone = repo.commit("b", "gone for good");
    let lost = repo.commit("b", "its child");
    repo.git(&["checkout", "-q", "main"]);
    let all = repo.git(&["rev-list", "--objects", "--no-object-names", "--all"]);
    repo.git(&["branch", "-q", "-D", "side"]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    pack_only(&repo, &all.replace(&format!("{gone}\n"), ""));
    assert_eq!(repo.git(&["cat-file", "-t", &lost]), "commit");
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &repo.path, None);
    assert_eq!(items(&one).len(), 2);
    let (_dir, target, _) = restore(&vault, &one);
    assert_eq!(picture(&target), picture(&repo.path));
    assert_eq!(run_git(&target, &["cat-file", "-t", &lost]), "commit");
}

#[test]
fn packs_of_submodules_are_taken_as_they_are() {
    let (main, lib) = (Repo::new(), Repo::new());
    pack(&lib, "l");
    main.commit("a", "one");
    main.git(&["submodule", "--quiet", "add", lib.path.to_str().unwrap(), "lib"]);
    main.git(&["commit", "-q", "-m", "with lib"]);
    let mut vault = Vault::default();
    let one = back_up(&mut vault, &main.path, None);
    let of_lib = only(&main.path.join(".git/modules/lib"), ".pack");
    let name = of_lib.file_name().unwrap().to_str().unwrap();
    let item = format!("modules/lib/base/{name}");
    assert!(one.file(item.as_bytes()).is_some() && one.bundles() == 1, "{:?}", one.paths());
    let two = back_up(&mut vault, &main.path, Some(&one));
    assert!(two.is_reused(&item));
    let (_dir, target, restored) = restore(&vault, &two);
    assert_eq!((restored.packs, restored.bundles), (1, 1));
    let module = |path: &Path| path.join(".git/modules/lib");
    assert_eq!(picture(&module(&target)), picture(&module(&main.path)));
    let dir = tempfile::tempdir().unwrap();
    vault.restore(&two, &dir.path().join("items"));
    crate::restore::git::export(&dir.path().join("items"), &dir.path().join("plain")).unwrap();
    let bundle = dir.path().join("plain/modules/lib/bundles/000001.bundle");
    run_git(dir.path(), &["clone", "-q", bundle.to_str().unwrap(), "alone"]);
}
