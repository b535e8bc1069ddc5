//! Databases that are damaged, gone or older than they should be, and starts after a crash at any step.

use super::kept::{check_counted, check_kept, keep, keep_many, record, vault};
use super::*;
use crate::store::steps::Step;
use protocol::codec;
use std::sync::atomic::AtomicU32;

const CHILD: &str = "STREWN_STORE_ABORT";

/// Not a test of its own: opens a store, keeps a shard and an entry, and ends at the commit it is told.
#[test]
fn abort_child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (commits, dir) = told.split_once(' ').unwrap();
    let left = AtomicU32::new(commits.parse().unwrap());
    let watch = move |step: Step<'_>| {
        if matches!(step, Step::Commit) && left.fetch_sub(1, Ordering::SeqCst) == 0 {
            std::process::abort();
        }
        Ok(())
    };
    let dir = Path::new(dir);
    let store = Store::open_with(dir, options(), Steps::watched(Box::new(watch))).unwrap();
    keep(&store, 100, 10_000).unwrap();
    store.commit_now(entries(100)).unwrap();
    std::process::exit(0);
}

/// Runs the child. Whether it came to its end.
fn abort_at(dir: &Path, commits: u32) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["store::tests::recovery::abort_child", "--exact"]);
    child.env(CHILD, format!("{commits} {}", dir.display()));
    child.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// An entry and the head that goes with it.
fn entries(seq: u64) -> Batch {
    let write = |table, key: &[u8]| Write {
        table,
        key: key.to_vec(),
        value: Some(format!("entry {seq}").into_bytes()),
    };
    let writes = vec![write(Table::Entry, &seq.to_be_bytes()), write(Table::Head, b"device")];
    Batch { writes, shard: None }
}

/// Keeps three entries; where the journal is that has them.
fn three_entries(dir: &Path) -> PathBuf {
    let store = open(dir);
    for seq in 0..3 {
        store.commit_now(entries(seq)).unwrap();
    }
    dir.join("journal")
}

fn damage(dir: &Path) {
    fs::write(dir.join("state.redb"), vec![0xab; 50_000]).unwrap();
}

fn open(dir: &Path) -> Store {
    Store::open(dir, options()).unwrap()
}

#[test]
fn rows_are_made_again_from_files_and_stay_made() {
    let dir = tempfile::tempdir().unwrap();
    let shards = keep_many(&open(dir.path()), 40);
    damage(dir.path());
    // What does not belong there is in nobody's way.
    fs::write(dir.path().join("shards/zz"), b"not a folder").unwrap();
    fs::create_dir_all(dir.path().join("shards/aa/folder")).unwrap();
    fs::write(dir.path().join("shards/aa/file"), b"not a shard").unwrap();
    for _ in 0..3 {
        let store = open(dir.path());
        check_kept(&store, &shards);
        let doubt = store.doubt().unwrap();
        assert!(doubt.contains("damaged") && doubt.contains("40 shards"), "{doubt}");
    }
    // Only the operator knows when everything was looked after.
    let cleared = Doubt::clear(dir.path()).unwrap().unwrap();
    assert!(cleared.reason.contains("40 shards"), "{cleared:?}");
    assert_eq!(Doubt::clear(dir.path()).unwrap(), None);
    let store = open(dir.path());
    assert_eq!(store.doubt(), None);
    check_kept(&store, &shards);
}

#[test]
fn doubt_is_cleared_only_while_no_node_runs_and_after_the_rows_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let _ = keep_many(&open(dir.path()), 3);
    damage(dir.path());
    let store = open(dir.path());
    assert!(matches!(Doubt::clear(dir.path()), Err(StoreError::Locked(_))));
    drop(store);
    let told = Doubt::read(dir.path()).unwrap().unwrap();
    let unfinished = Doubt { rebuilding: true, ..told.clone() };
    unfinished.write(dir.path(), &Steps::default()).unwrap();
    assert!(matches!(Doubt::clear(dir.path()), Err(StoreError::Rebuilding(_))));
    // A file that says nothing is no less doubt.
    fs::write(dir.path().join("doubt"), b"").unwrap();
    assert!(matches!(Doubt::clear(dir.path()), Err(StoreError::Rebuilding(_))));
    told.write(dir.path(), &Steps::default()).unwrap();
    assert_eq!(Doubt::clear(dir.path()).unwrap(), Some(told.clone()));
    assert_eq!(Doubt::read(dir.path()).unwrap(), None);
    // What was cleared, and a second time, is kept for whoever asks later.
    told.write(dir.path(), &Steps::default()).unwrap();
    let _ = Doubt::clear(dir.path()).unwrap();
    for number in [1, 2] {
        let kept = fs::read_to_string(dir.path().join(format!("doubt.cleared.{number}"))).unwrap();
        assert!(kept.contains(&told.reason), "{kept}");
    }
}

#[test]
fn a_rebuild_that_was_killed_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let shards = keep_many(&store, 10);
    store.commit_now(entries(1)).unwrap();
    drop(store);
    for commits in 0..2 {
        damage(dir.path());
        assert!(!abort_at(dir.path(), commits));
        // Twice at the same place, the second time without new damage.
        assert!(!abort_at(dir.path(), commits));
        let store = open(dir.path());
        check_kept(&store, &shards);
        assert_eq!(store.get(Table::Entry, &1u64.to_be_bytes()).unwrap().unwrap(), b"entry 1");
        assert!(store.doubt().is_some());
    }
}

#[test]
fn a_rebuild_that_failed_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let shards = keep_many(&open(dir.path()), 10);
    damage(dir.path());
    let fail = |step: Step<'_>| match step {
        Step::Commit => Err(io::Error::other("told to fail")),
        _ => Ok(()),
    };
    let failed = Store::open_with(dir.path(), options(), Steps::watched(Box::new(fail)));
    assert!(failed.is_err());
    let store = open(dir.path());
    check_kept(&store, &shards);
    assert!(store.doubt().unwrap().contains("damaged"));
}

#[test]
fn a_database_that_was_rolled_back_is_brought_up_to_date() {
    for with_mark in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (state, mark) = (dir.path().join("state.redb"), dir.path().join("mark"));
        keep_many(&open(dir.path()), 3);
        let old = fs::read(&state).unwrap();
        let store = open(dir.path());
        let shards = keep_many(&store, 8);
        for seq in 0..3 {
            store.commit_now(entries(seq)).unwrap();
        }
        drop(store);
        fs::write(&state, &old).unwrap();
        if !with_mark {
            // Less than a second's commits are not on the mark, but in the journal.
            fs::remove_file(mark).unwrap();
        }
        for _ in 0..2 {
            let store = open(dir.path());
            assert!(store.doubt().unwrap().contains("rolled back"), "{:?}", store.doubt());
            check_kept(&store, &shards);
            assert_eq!(store.get(Table::Head, b"device").unwrap().unwrap(), b"entry 2");
            assert_eq!(store.scan(Table::Entry, &[], None, 10).unwrap().len(), 3);
        }
    }
}

#[test]
fn what_an_older_database_holds_beyond_the_files_is_counted_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.redb");
    let shards = keep_many(&open(dir.path()), 3);
    let old = fs::read(&state).unwrap();
    keep_many(&open(dir.path()), 8);
    fs::write(&state, &old).unwrap();
    // It went since, or the disk lost it: nobody can tell, and its promise stands until somebody can.
    fs::remove_file(path_of(dir.path(), shards[1])).unwrap();
    for _ in 0..2 {
        let store = open(dir.path());
        assert!(store.doubt().unwrap().contains("rolled back"), "{:?}", store.doubt());
        check_counted(&store, 8);
    }
}

#[test]
fn a_database_that_is_gone_is_missed() {
    for emptied in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let shards = keep_many(&open(dir.path()), 3);
        fs::remove_file(dir.path().join("mark")).unwrap();
        fs::remove_file(dir.path().join("journal")).unwrap();
        let state = dir.path().join("state.redb");
        if emptied {
            fs::write(state, b"").unwrap();
        } else {
            fs::remove_file(state).unwrap();
        }
        let store = open(dir.path());
        check_kept(&store, &shards);
        let doubt = store.doubt().unwrap();
        assert!(doubt.contains("gone") && doubt.contains("may be missing"), "{doubt}");
    }
}

#[test]
fn logs_papers_and_replaced_records_outlive_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let shards = keep_many(&store, 2);
    let replaced = record(&data(0, 10_000), 5);
    let stripe = replaced.verify().unwrap().stripe.id();
    let record_key = [vault().0, stripe.0].concat();
    let write = |table, key: &[u8], value: &[u8]| Write {
        table,
        key: key.to_vec(),
        value: Some(value.to_vec()),
    };
    let writes = vec![
        write(Table::Record, &record_key, &codec::encode(&replaced)),
        write(Table::Member, b"node", b"member"),
        write(Table::Roster, b"vault 1", b"roster"),
        write(Table::Device, b"device", b"certificate"),
        write(Table::Fork, b"fork", b"evidence"),
    ];
    store.commit_now(Batch { writes: writes.clone(), shard: None }).unwrap();
    store.commit_now(entries(1)).unwrap();
    store.commit_now(entries(2)).unwrap();
    let removed = Write { table: Table::Fork, key: b"fork".to_vec(), value: None };
    store.commit_now(Batch { writes: vec![removed], shard: None }).unwrap();
    drop(store);
    for round in 0..3 {
        damage(dir.path());
        if round == 1 {
            // A journal that was lost while the database was well is made anew from it.
            fs::copy(dir.path().join("good"), dir.path().join("state.redb")).unwrap();
            fs::remove_file(dir.path().join("journal")).unwrap();
        }
        let store = open(dir.path());
        check_kept(&store, &shards);
        assert_eq!(store.get(Table::Head, b"device").unwrap().unwrap(), b"entry 2");
        assert_eq!(store.scan(Table::Entry, &[], None, 10).unwrap().len(), 2);
        assert_eq!(store.get(Table::Fork, b"fork").unwrap(), None);
        for Write { table, key, value } in &writes[..4] {
            assert_eq!(store.get(*table, key).unwrap(), *value, "{table:?}");
        }
        drop(store);
        fs::copy(dir.path().join("state.redb"), dir.path().join("good")).unwrap();
    }
    for number in 1..=2 {
        assert!(dir.path().join(format!("state.redb.damaged.{number}")).exists(), "{number}");
    }
}

#[test]
fn a_damaged_journal_gives_what_it_has_and_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = three_entries(dir.path());
    let mut journal = fs::read(&path).unwrap();
    let at = journal.windows(7).position(|bytes| bytes == b"entry 1").unwrap();
    journal[at] ^= 1;
    fs::write(&path, journal).unwrap();
    damage(dir.path());
    let store = open(dir.path());
    assert_eq!(store.scan(Table::Entry, &[], None, 10).unwrap().len(), 2);
    assert!(store.doubt().unwrap().contains("may be missing"));
    assert!(dir.path().join("journal.damaged.1").exists());
}

#[test]
fn no_altered_byte_of_a_journal_stops_a_start_or_makes_up_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = three_entries(dir.path());
    let journal = fs::read(&path).unwrap();
    // Header and first frame, and some of the rest; and every kind of end.
    let altered = (0..80).chain((80..journal.len()).step_by(17)).map(|at| {
        let mut bytes = journal.clone();
        bytes[at] ^= 0x41;
        bytes
    });
    let cut = (0..journal.len()).step_by(29).map(|len| journal[..len].to_vec());
    for bytes in altered.chain(cut) {
        fs::write(&path, bytes).unwrap();
        damage(dir.path());
        let store = open(dir.path());
        assert!(store.doubt().is_some());
        for (key, value) in store.scan(Table::Entry, &[], None, 10).unwrap() {
            let seq = u64::from_be_bytes(key.try_into().unwrap());
            assert!(seq < 3 && value == format!("entry {seq}").into_bytes());
        }
    }
}

#[test]
fn half_a_frame_at_the_end_of_the_journal_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit_now(entries(1)).unwrap();
    drop(store);
    let path = dir.path().join("journal");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[whole.len() - 60..]].concat()).unwrap();
    let store = open(dir.path());
    assert_eq!(store.doubt(), None);
    assert_eq!(fs::read(&path).unwrap(), whole);
    store.commit_now(entries(2)).unwrap();
    drop(store);
    damage(dir.path());
    assert_eq!(open(dir.path()).scan(Table::Entry, &[], None, 10).unwrap().len(), 2);
}

#[test]
fn a_crash_at_any_commit_is_no_reason_for_doubt() {
    // Each step of a first start, a shard and an entry; after each the next start goes on.
    let mut ended = false;
    for commits in 0.. {
        let dir = tempfile::tempdir().unwrap();
        ended = abort_at(dir.path(), commits) || ended;
        let store = open(dir.path());
        assert_eq!(store.doubt(), None, "after {commits} commits");
        assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
        let held = store.scan(Table::Held, &[], None, 10).unwrap();
        let files: usize = fs::read_dir(dir.path().join("shards"))
            .unwrap()
            .map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count())
            .sum();
        assert_eq!(held.len(), files, "a file without rows after {commits} commits");
        if files > 0 {
            check_kept(&store, &[ShardId(held[0].0.as_slice().try_into().unwrap())]);
        }
        if ended {
            assert_eq!(store.get(Table::Head, b"device").unwrap().unwrap(), b"entry 100");
            break;
        }
    }
}

#[test]
fn a_shard_without_rows_is_adopted_only_when_every_byte_is_right() {
    for (altered, rows) in [(false, 1), (true, 0)] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        // The first commit of the child is that of the shard.
        assert!(!abort_at(dir.path(), 0));
        let folder = fs::read_dir(dir.path().join("shards")).unwrap().next().unwrap().unwrap();
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        if altered {
            let file = fs::OpenOptions::new().write(true).open(&file).unwrap();
            file.write_all_at(b"altered", 5000).unwrap();
        }
        let store = open(dir.path());
        assert_eq!(store.scan(Table::Held, &[], None, 10).unwrap().len(), rows);
        assert_eq!(store.scan(Table::Usage, &[], None, 10).unwrap().len(), rows);
        assert_eq!(file.exists(), !altered);
    }
}

#[test]
fn a_look_at_a_shard_sees_whether_its_file_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let shards = keep_many(&store, 4);
    let path = |at: usize| path_of(dir.path(), shards[at]);
    let file = |at| fs::OpenOptions::new().write(true).open(path(at)).unwrap();
    assert!(store.is_whole(shards[0], 10_000));
    assert!(!store.is_whole(shards[0], 9_999));
    file(1).write_all_at(b"?", 20).unwrap();
    file(2).set_len(64 + 10_000).unwrap();
    fs::remove_file(path(3)).unwrap();
    for shard in &shards[1..] {
        assert!(!store.is_whole(*shard, 10_000));
    }
    // Coming again, they take the places of what is left.
    assert_eq!(keep_many(&store, 4), shards);
    assert!(shards.iter().all(|&shard| store.is_whole(shard, 10_000)));
    check_kept(&store, &shards);
}
