//! The order in which things become durable, seen step by step, and steps that fail.

use super::kept::{check_kept, keep, keep_many};
use super::*;
use crate::store::steps::Step;
use std::sync::Mutex;

/// What was done, in words, and which words fail.
#[derive(Clone, Default)]
pub(super) struct Journalist {
    seen: Arc<Mutex<Vec<String>>>,
    fails: Arc<Mutex<Option<String>>>,
}

impl Journalist {
    pub(super) fn open(&self, dir: &Path) -> Result<Store, StoreError> {
        let (own, root) = (self.clone(), dir.to_owned());
        let watch = move |step: Step<'_>| {
            let word = |verb: &str, path: &Path| {
                let below = path.strip_prefix(&root).map_or("..".into(), Path::to_string_lossy);
                format!("{verb} {}", below.split('/').next().unwrap_or_default())
                    + if below.starts_with("shards/") { "/ab" } else { "" }
            };
            let text = match step {
                Step::SyncFile(path) => word("sync file", path),
                Step::Place(path) => word("place", path),
                Step::Rename(path) => word("rename", path),
                Step::SyncFolder(path) => word("sync folder", path),
                Step::Commit => "commit".into(),
            };
            let fails = own.fails.lock().unwrap().as_ref() == Some(&text);
            own.say(text);
            if fails { Err(io::Error::other("told to fail")) } else { Ok(()) }
        };
        Store::open_with(dir, options(), Steps::watched(Box::new(watch)))
    }

    fn say(&self, text: impl Into<String>) {
        self.seen.lock().unwrap().push(text.into());
    }

    pub(super) fn fail(&self, word: Option<&str>) {
        *self.fails.lock().unwrap() = word.map(str::to_owned);
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn commit(store: &Store, journalist: &Journalist, batch: Batch) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let journalist = journalist.clone();
    let done = move |result: Result<(), StoreError>| {
        journalist.say(if result.is_ok() { "told" } else { "told no" });
        sender.send(()).unwrap();
    };
    store.commit(batch, Box::new(done));
    receiver.recv().unwrap();
}

fn shard_batch(store: &Store, seed: u64) -> Batch {
    let bytes = data(seed, 1000);
    let mut incoming = store.begin(1000).unwrap();
    take(&mut incoming, &bytes).unwrap();
    let shard = incoming.name().unwrap();
    Batch { writes: vec![held(shard, seed)], shard: Some((incoming, shard, b"note".to_vec())) }
}

fn entry(seed: u64) -> Batch {
    let write = Write { table: Table::Entry, ..row(seed, b"entry") };
    Batch { writes: vec![write], shard: None }
}

#[test]
fn a_first_start_makes_its_folders_durable() {
    let outer = tempfile::tempdir().unwrap();
    let journalist = Journalist::default();
    let _store = journalist.open(&outer.path().join("node")).unwrap();
    let seen = journalist.take();
    for folder in ["sync folder shards", "sync folder ", "sync folder .."] {
        assert!(seen.iter().any(|step| step == folder), "{folder}: {seen:?}");
    }
    // The folder in which the database was made is synced before its rows count.
    let database = seen.iter().rposition(|step| step == "commit").unwrap();
    assert!(seen[..database].iter().any(|step| step == "sync folder "), "{seen:?}");
}

#[test]
fn a_shard_is_acknowledged_after_file_place_folders_and_rows() {
    let dir = tempfile::tempdir().unwrap();
    let journalist = Journalist::default();
    let store = journalist.open(dir.path()).unwrap();
    journalist.take();
    let batch = shard_batch(&store, 1);
    commit(&store, &journalist, batch);
    assert_eq!(
        journalist.take(),
        [
            "sync file incoming",
            "place shards/ab",
            "sync folder shards/ab",
            "sync folder shards",
            "commit",
            "told"
        ]
    );
}

#[test]
fn a_log_entry_is_in_the_journal_before_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let journalist = Journalist::default();
    let store = journalist.open(dir.path()).unwrap();
    journalist.take();
    commit(&store, &journalist, entry(1));
    assert_eq!(journalist.take(), ["sync file journal", "commit", "told"]);
    journalist.fail(Some("sync file journal"));
    commit(&store, &journalist, entry(2));
    assert_eq!(journalist.take(), ["sync file journal", "told no"]);
    journalist.fail(None);
    assert_eq!(store.get(Table::Entry, &2u64.to_be_bytes()).unwrap(), None);
}

#[test]
fn a_step_that_fails_is_an_acknowledgement_that_fails() {
    for step in ["sync file incoming", "place shards/ab", "sync folder shards/ab", "commit"] {
        let dir = tempfile::tempdir().unwrap();
        let journalist = Journalist::default();
        let store = journalist.open(dir.path()).unwrap();
        journalist.take();
        let batch = shard_batch(&store, 1);
        let shard = batch.shard.as_ref().unwrap().1;
        journalist.fail(Some(step));
        commit(&store, &journalist, batch);
        assert_eq!(journalist.take().last().unwrap(), "told no", "{step}");
        assert_eq!(store.scan(Table::Held, &[], None, 10).unwrap(), []);
        assert!(matches!(store.shard(shard), Err(StoreError::Missing(_))), "{step}");
        journalist.fail(None);
        let batch = shard_batch(&store, 1);
        commit(&store, &journalist, batch);
        assert_eq!(journalist.take().last().unwrap(), "told", "{step}");
        check(&store, 1, 1000, shard);
    }
}

#[test]
fn a_new_folder_whose_name_was_not_synced_stays_due() {
    let dir = tempfile::tempdir().unwrap();
    let journalist = Journalist::default();
    let store = journalist.open(dir.path()).unwrap();
    journalist.fail(Some("sync folder shards"));
    let batch = shard_batch(&store, 1);
    commit(&store, &journalist, batch);
    journalist.fail(None);
    assert_eq!(journalist.take().last().unwrap(), "told no");
    let batch = shard_batch(&store, 1);
    commit(&store, &journalist, batch);
    let seen = journalist.take();
    assert!(seen.iter().any(|step| step == "sync folder shards"), "{seen:?}");
    let batch = shard_batch(&store, 1);
    commit(&store, &journalist, batch);
    let seen = journalist.take();
    assert!(!seen.iter().any(|step| step == "sync folder shards"), "once is enough: {seen:?}");
}

#[test]
fn a_transaction_that_fails_leaves_neither_file_nor_journal() {
    let dir = tempfile::tempdir().unwrap();
    let journalist = Journalist::default();
    let store = journalist.open(dir.path()).unwrap();
    let mut shards = keep_many(&store, 2);
    commit(&store, &journalist, entry(1));
    journalist.fail(Some("commit"));
    assert!(keep(&store, 2, 10_000).is_err());
    commit(&store, &journalist, entry(2));
    journalist.fail(None);
    assert_eq!(journalist.take().last().unwrap(), "told no");
    shards.push(keep(&store, 2, 10_000).unwrap());
    drop(store);
    fs::write(dir.path().join("state.redb"), [1; 5000]).unwrap();
    let store = journalist.open(dir.path()).unwrap();
    check_kept(&store, &shards);
    assert_eq!(store.scan(Table::Entry, &[], None, 10).unwrap().len(), 1);
}

#[test]
fn a_shard_that_was_held_before_outlives_a_failed_repetition() {
    let dir = tempfile::tempdir().unwrap();
    let journalist = Journalist::default();
    let store = journalist.open(dir.path()).unwrap();
    let shards = keep_many(&store, 1);
    journalist.fail(Some("commit"));
    assert!(keep(&store, 0, 10_000).is_err());
    journalist.fail(None);
    check_kept(&store, &shards);
}
