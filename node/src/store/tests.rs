//! Real files in temporary folders; crashes are those of a real process.

mod kept;
mod order;
mod recovery;
mod trash;

use super::*;
use protocol::peer::held_key;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;

fn options() -> StoreOptions {
    StoreOptions { reserve: 0, ..StoreOptions::default() }
}

fn data(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn row(key: u64, value: &[u8]) -> Write {
    Write { table: Table::Held, key: key.to_be_bytes().to_vec(), value: Some(value.to_vec()) }
}

/// The row that says that a shard is held.
fn held(shard: ShardId, seed: u64) -> Write {
    Write { table: Table::Held, key: held_key(shard), value: Some(seed.to_be_bytes().to_vec()) }
}

/// Takes bytes as they come from a network, some at a time.
fn take(incoming: &mut Incoming, mut bytes: &[u8]) -> Result<(), StoreError> {
    while !bytes.is_empty() {
        let room = incoming.room();
        let count = room.len().min(bytes.len()).min(10_000);
        room[..count].copy_from_slice(&bytes[..count]);
        incoming.take(count)?;
        bytes = &bytes[count..];
    }
    Ok(())
}

fn put(store: &Store, seed: u64, len: usize) -> Result<ShardId, StoreError> {
    let bytes = data(seed, len);
    let mut incoming = store.begin(len as u32)?;
    take(&mut incoming, &bytes)?;
    let shard = incoming.name()?;
    let batch =
        Batch { writes: vec![held(shard, seed)], shard: Some((incoming, shard, b"note".to_vec())) };
    store.commit_now(batch)?;
    Ok(shard)
}

fn read(reader: ShardReader, offset: u32, len: u32) -> Vec<u8> {
    let mut bytes = reader.bytes(offset, len).unwrap();
    let mut found = Vec::new();
    loop {
        bytes.advance().unwrap();
        if bytes.piece().is_empty() {
            return found;
        }
        found.extend_from_slice(bytes.piece());
    }
}

fn check(store: &Store, seed: u64, len: usize, shard: ShardId) {
    let reader = store.shard(shard).unwrap();
    assert_eq!(reader.note().unwrap(), b"note");
    let all = reader.len();
    assert!(read(reader, 0, all) == data(seed, len));
    assert_eq!(store.get(Table::Held, &held_key(shard)).unwrap().unwrap(), seed.to_be_bytes());
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let shard = put(&store, 1, 100_000).unwrap();
    check(&store, 1, 100_000, shard);
    drop(store);
    // A crash after the acknowledgement may leave the name under which it arrived.
    fs::hard_link(path_of(dir.path(), shard), dir.path().join("incoming/7")).unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    check(&store, 1, 100_000, shard);
    assert_eq!(store.doubt(), None);
    let page = store.scan(Table::Held, &[], None, 10).unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(store.scan(Table::Held, &[], Some(&page[0].0), 10).unwrap(), []);
}

#[test]
fn every_range_of_a_shard_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let len = 1_300_000;
    let shard = put(&store, 1, len).unwrap();
    let whole = data(1, len);
    let ends = [0, 1, 63, 64, 4031, 4032, 4033, 262_079, 262_080, 262_144, 600_000, len];
    for from in ends {
        for to in ends.into_iter().filter(|&to| to >= from) {
            let reader = store.shard(shard).unwrap();
            assert!(read(reader, from as u32, (to - from) as u32) == whole[from..to]);
        }
    }
    let beyond = store.shard(shard).unwrap().bytes(1, len as u32);
    assert!(matches!(beyond, Err(StoreError::Length { .. })));
}

#[test]
fn a_shard_that_becomes_shorter_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let shard = put(&store, 1, 600_000).unwrap();
    let mut bytes = store.shard(shard).unwrap().bytes(0, 600_000).unwrap();
    bytes.advance().unwrap();
    let file =
        std::fs::File::options().write(true).open(path_of(&store.shared.dir, shard)).unwrap();
    file.set_len(400_000).unwrap();
    let rest = std::iter::from_fn(|| Some(bytes.advance())).take(3).find_map(Result::err);
    assert!(matches!(rest, Some(StoreError::Damaged { .. })), "{rest:?}");
}

#[test]
fn a_shard_that_is_not_committed_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let mut incoming = store.begin(10).unwrap();
    take(&mut incoming, &[1; 5]).unwrap();
    assert!(matches!(incoming.name(), Err(StoreError::Length { found: 5, expected: 10 })));
    assert_eq!(incoming.room().len(), 5);
    assert!(matches!(incoming.take(6), Err(StoreError::Length { .. })));
    drop(incoming);
    assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
}

#[test]
fn shards_of_every_length_are_files_as_they_were_drawn() {
    // Around the lengths at which blocks and buffers end.
    let edges = [4096 - 64, 4096, 256 << 10, (256 << 10) - 64, (512 << 10) - 64, 3 << 20];
    let dir = tempfile::tempdir_in(".").unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    for (seed, len) in edges.into_iter().flat_map(|edge| edge - 2..edge + 3).enumerate() {
        let shard = put(&store, seed as u64, len).unwrap();
        check(&store, seed as u64, len, shard);
        let file = fs::read(path_of(&store.shared.dir, shard)).unwrap();
        assert_eq!(file.len(), 64 + len + 20 + 4);
        assert_eq!(&file[..8], b"STRWSHRD");
        assert!(file[64..64 + len] == data(seed as u64, len));
    }
}

#[test]
fn a_store_that_was_closed_is_free_also_while_a_process_that_was_just_started_has_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let lock = Lock::take(dir.path()).unwrap();
    assert!(matches!(Lock::take(dir.path()), Err(StoreError::Locked(_))));
    // Between fork and exec a child has all files.
    let _child = lock.0.try_clone().unwrap();
    drop(lock);
    assert!(Lock::take(dir.path()).is_ok());
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = Store::open(dir.path(), options()).unwrap();
    assert!(matches!(Store::open(dir.path(), options()), Err(StoreError::Locked(_))));
}

#[test]
fn the_reserve_is_kept_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions { reserve: u64::MAX, ..options() }).unwrap();
    assert!(matches!(store.begin(1), Err(StoreError::Full { free: 0, needed: 1 })));
}

#[test]
fn damage_is_told_from_absence() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    assert!(matches!(store.shard(ShardId([9; 32])), Err(StoreError::Missing(_))));
    for (at, cut) in [(3, None), (20, None), (0, Some(500)), (0, Some(10))] {
        let shard = put(&store, 7 + at + cut.unwrap_or(0), 1000).unwrap();
        let path = path_of(&store.shared.dir, shard);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        match cut {
            Some(len) => file.set_len(len).unwrap(),
            None => file.write_all_at(&[0xff], at).unwrap(),
        }
        assert!(matches!(store.shard(shard), Err(StoreError::Damaged { .. })));
    }
}

#[test]
fn a_database_that_was_rolled_back_or_damaged_raises_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state.redb");
    let store = Store::open(dir.path(), options()).unwrap();
    let shard = put(&store, 1, 1000).unwrap();
    drop(store);
    let old = fs::read(&state).unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    put(&store, 2, 1000).unwrap();
    drop(store);
    let new = fs::read(&state).unwrap();

    fs::write(&state, &old).unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    assert!(store.doubt().unwrap().contains("rolled back"), "{:?}", store.doubt());
    drop(store);

    for damaged in [new[..new.len() / 3].to_vec(), vec![0xab; 5000], Vec::new()] {
        fs::write(&state, damaged).unwrap();
        let store = Store::open(dir.path(), options()).unwrap();
        assert!(store.doubt().is_some());
        assert!(store.shard(shard).is_ok(), "what is there is still served");
    }
}

#[test]
fn batches_become_durable_in_order_and_each_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    for i in 0..200u64 {
        let sender = sender.clone();
        let batch = Batch { writes: vec![row(1, &i.to_le_bytes())], shard: None };
        store.commit(batch, Box::new(move |result| sender.send((i, result.is_ok())).unwrap()));
    }
    let told: Vec<(u64, bool)> = receiver.iter().take(200).collect();
    assert!(told.iter().enumerate().all(|(at, &(i, ok))| ok && at as u64 == i));
    assert_eq!(store.get(Table::Held, &1u64.to_be_bytes()).unwrap().unwrap(), 199u64.to_le_bytes());
}

const CHILD: &str = "STREWN_STORE_CHILD";

/// Not a test of its own: what the child process of the next one does.
#[test]
fn crash_child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let store = Store::open(Path::new(&dir), options()).unwrap();
    let first = store.scan(Table::Held, &[], None, usize::MAX).unwrap().len() as u64 * 2;
    for seed in first.. {
        let shard = put(&store, seed, 20_000).unwrap();
        println!("\nput {seed} {shard}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::crash_child", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let mut put = Vec::new();
            while let Some(Ok(line)) = lines.next() {
                let words: Vec<&str> = line.split(' ').collect();
                if let ["put", seed, shard] = words[..] {
                    put.push((seed.parse::<u64>().unwrap(), shard.parse::<ShardId>().unwrap()));
                }
            }
            put
        });
        std::thread::sleep(Duration::from_millis(60 + round * 13));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());
        let store = Store::open(dir.path(), options()).unwrap();
        assert_eq!(store.doubt(), None, "a crash is no reason for doubt");
        for &(seed, shard) in &acknowledged {
            check(&store, seed, 20_000, shard);
        }
    }
    assert!(acknowledged.len() > 20, "{} puts were acknowledged", acknowledged.len());
}
