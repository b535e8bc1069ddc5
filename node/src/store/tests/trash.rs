//! Shards that are dropped: what is durable when, and what a start makes of a drop that was not finished.

use super::kept::{check_kept, keep, keep_many, record, vault};
use super::order::Journalist;
use super::*;
use protocol::peer::Usage;

/// What a peer writes once the file is gone.
fn rows_go(store: &Store, shard: ShardId, seed: u64) {
    let stripe = record(&data(seed, 10_000), 1).verify().unwrap().stripe.id();
    let remove = |table, key: Vec<u8>| Write { table, key, value: None };
    let writes = vec![
        remove(Table::Held, shard.0.to_vec()),
        remove(Table::Life, shard.0.to_vec()),
        remove(Table::Record, [vault().0, stripe.0].concat()),
        Write::less(vault(), Usage { bytes: 10_000, shards: 1 }),
    ];
    store.commit_now(Batch { writes, shard: None }).unwrap();
}

fn trashed(dir: &Path) -> usize {
    fs::read_dir(dir.join("trash")).unwrap().count()
}

#[test]
fn a_dropped_file_has_left_its_place_durably_when_that_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let journalist = Journalist::default();
    let store = journalist.open(dir.path()).unwrap();
    let shards = keep_many(&store, 2);
    journalist.take();
    store.trash(shards[1]).unwrap();
    let steps = ["rename trash", "sync folder trash", "sync folder shards/ab"];
    assert_eq!(journalist.take(), steps);
    assert!(matches!(store.shard(shards[1]), Err(StoreError::Missing(_))));
    assert!(store.empty_trash().unwrap(), "as long as it has its row its bytes stay");
    assert_eq!(trashed(dir.path()), 1);
    rows_go(&store, shards[1], 1);
    assert!(!store.empty_trash().unwrap());
    assert_eq!(trashed(dir.path()), 0);
    check_kept(&store, &shards[..1]);
    // Asked again, it is as gone as before.
    store.trash(shards[1]).unwrap();
}

#[test]
fn a_drop_that_ends_at_any_step_is_undone_by_the_next_start_and_can_be_done_again() {
    for step in ["rename trash", "sync folder trash", "sync folder shards/ab", "nothing"] {
        let dir = tempfile::tempdir().unwrap();
        let journalist = Journalist::default();
        let store = journalist.open(dir.path()).unwrap();
        let shards = keep_many(&store, 2);
        journalist.fail(Some(step));
        assert_eq!(store.trash(shards[1]).is_err(), step != "nothing", "{step}");
        journalist.fail(None);
        drop(store);
        let store = journalist.open(dir.path()).unwrap();
        assert_eq!(store.doubt(), None, "{step}");
        check_kept(&store, &shards);
        assert_eq!(trashed(dir.path()), 0, "{step}");
        store.trash(shards[1]).unwrap();
        rows_go(&store, shards[1], 1);
        drop(store);
        let store = journalist.open(dir.path()).unwrap();
        check_kept(&store, &shards[..1]);
        assert_eq!(trashed(dir.path()), 0, "what has no rows any more is removed: {step}");
    }
}

#[test]
fn a_shard_that_was_put_anew_outlives_what_is_left_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let mut shards = keep_many(&store, 2);
    store.trash(shards[1]).unwrap();
    rows_go(&store, shards[1], 1);
    shards[1] = keep(&store, 1, 10_000).unwrap();
    assert_eq!(trashed(dir.path()), 1);
    drop(store);
    let store = Store::open(dir.path(), options()).unwrap();
    check_kept(&store, &shards);
    assert_eq!(trashed(dir.path()), 0);
    // And its record, which went in between, is not missing when rows are made again.
    drop(store);
    fs::write(dir.path().join("state.redb"), [1; 5000]).unwrap();
    check_kept(&Store::open(dir.path(), options()).unwrap(), &shards);
}

#[test]
fn a_rebuild_brings_back_nothing_that_was_dropped_and_no_life() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let shards = keep_many(&store, 3);
    let life = Write { table: Table::Life, ..row(1, b"life") };
    store.commit_now(Batch { writes: vec![life], shard: None }).unwrap();
    // One is gone, of another one only the file.
    store.trash(shards[2]).unwrap();
    rows_go(&store, shards[2], 2);
    store.trash(shards[1]).unwrap();
    drop(store);
    fs::write(dir.path().join("state.redb"), [1; 5000]).unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    assert!(store.doubt().is_some());
    check_kept(&store, &shards[..1]);
    assert_eq!(store.scan(Table::Life, &[], None, 10).unwrap(), []);
    // As long as there is doubt nothing is removed: somebody may want to look.
    assert!(store.empty_trash().unwrap());
    assert_eq!(trashed(dir.path()), 2);
}

#[test]
fn lives_are_not_journaled_and_what_guardians_said_is() {
    let dir = tempfile::tempdir().unwrap();
    let journalist = Journalist::default();
    let store = journalist.open(dir.path()).unwrap();
    journalist.take();
    for (table, is_journaled) in
        [(Table::Life, false), (Table::Veto, true), (Table::Holds, true), (Table::Release, true)]
    {
        let write = Write { table, ..row(1, b"row") };
        store.commit_now(Batch { writes: vec![write], shard: None }).unwrap();
        let seen = journalist.take();
        assert_eq!(seen.iter().any(|step| step == "sync file journal"), is_journaled, "{table:?}");
    }
}
