//! Large files: the objects of Git LFS.

use super::*;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Places an object as `git lfs` does.
fn place(store: &Path, content: &[u8]) -> String {
    let name = HEXLOWER.encode(&Sha256::digest(content));
    let path = store.join(&name[..2]).join(&name[2..4]).join(&name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    format!("{}/{}/{name}", &name[..2], &name[2..4])
}

#[test]
fn large_files_come_back_and_are_read_once() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let store = repo.path.join(".git/lfs/objects");
    let (one, two) = (place(&store, &vec![1; 50_000]), place(&store, b"two"));
    fs::create_dir_all(repo.path.join(".git/lfs/tmp")).unwrap();
    fs::write(repo.path.join(".git/lfs/tmp/partial"), "partial").unwrap();
    fs::write(store.join("stray"), "stray").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut vault = Vault::default();
    let first = back_up(&mut vault, &repo.path, None);
    let large = |snapshot: &Snapshot| -> Vec<String> {
        let files = snapshot.paths().into_iter();
        files.filter(|path| path.starts_with("lfs/") && path.len() > 64).collect()
    };
    let mut wanted = [format!("lfs/objects/{one}"), format!("lfs/objects/{two}")];
    wanted.sort();
    assert_eq!(large(&first), wanted);
    let second = back_up(&mut vault, &repo.path, Some(&first));
    assert!(wanted.iter().all(|path| second.is_reused(path)));
    let (_dir, target, restored) = restore(&vault, &second);
    let store = target.join(".git/lfs/objects");
    assert_eq!(fs::read(store.join(&one)).unwrap(), vec![1; 50_000]);
    assert_eq!(fs::read(store.join(&two)).unwrap(), b"two");
    assert!(restored.notes.iter().any(|note| note.contains("git lfs checkout")), "{restored:?}");
}

#[test]
fn a_large_file_that_is_damaged_is_named_and_kept() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let store = repo.path.join(".git/lfs/objects");
    let name = place(&store, b"good");
    fs::write(store.join(&name), "rot").unwrap();
    let mut vault = Vault::default();
    let snapshot = vault.back_up(&mut *detect(&repo.path, false).unwrap(), None);
    assert_eq!(snapshot.report.failed.len(), 1);
    assert!(snapshot.report.failed[0].0.ends_with(&name));
    let (_dir, target, restored) = restore(&vault, &snapshot);
    assert!(restored.notes.iter().any(|note| note.contains(&name)), "{restored:?}");
    assert_eq!(fs::read(target.join(".git/lfs/objects").join(&name)).unwrap(), b"rot");
}

#[test]
fn large_files_are_found_where_the_configuration_says() {
    let repo = Repo::new();
    repo.commit("a", "one");
    let mut vault = Vault::default();
    let shared = repo.beside("shared");
    let name = place(&shared.join("objects"), b"elsewhere");
    let inside = place(&repo.path.join(".git/big/objects"), b"inside");
    for (storage, name) in [(shared.to_str().unwrap(), &name), ("big", &inside)] {
        repo.git(&["config", "lfs.storage", storage]);
        let snapshot = back_up(&mut vault, &repo.path, None);
        let (_dir, target, restored) = restore(&vault, &snapshot);
        assert!(target.join(".git/lfs/objects").join(name).is_file(), "{storage}");
        assert!(restored.notes.iter().any(|note| note.contains("lfs.storage")), "{restored:?}");
        let config = fs::read_to_string(target.join(".git/config")).unwrap();
        assert!(!config.contains("storage"), "{config}");
    }
    repo.git(&["config", "lfs.storage", "~/lfs"]);
    let snapshot = back_up(&mut vault, &repo.path, None);
    assert!(snapshot.report.notes.iter().any(|note| note.contains("~/lfs")));
}

#[test]
fn large_files_that_are_elsewhere_are_counted() {
    let repo = Repo::new();
    let store = repo.path.join(".git/lfs/objects");
    let name = place(&store, b"here");
    let pointer = |name: &str| {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize 4\n")
    };
    repo.commit("here.bin", &pointer(&name[6..]));
    repo.commit("there.bin", &pointer(&"ab".repeat(32)));
    let is_told = || {
        let notes = back_up(&mut Vault::default(), &repo.path, None).report.notes;
        notes.iter().any(|note| note.starts_with("1 large files"))
    };
    assert!(!is_told(), "LFS is not spoken of");
    repo.commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    assert!(is_told());
}
