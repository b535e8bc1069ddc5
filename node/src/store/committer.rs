//! Group commit: one thread makes all waiting batches durable together.
//!
//! Files first (synced in parallel, renamed, their folders synced once), then one transaction for all
//! rows, then everybody is told. A batch whose file fails takes nobody else down.

use super::{Batch, COMMITS_KEY, Done, STATE, Shared, StoreError, mark, row_key, state_error};
use redb::{Durability, WriteTransaction};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Most batches in one group: bounds how long the first one waits.
const GROUP_MAX: usize = 512;
/// Files synced at once: more does not make a disk faster.
const SYNCS: usize = 8;
/// How often the high-water mark is written.
const MARK_PERIOD: Duration = Duration::from_secs(1);

type Job = (Batch, Done);

pub(super) struct Committer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start(shared: Arc<Shared>, commits: u64) -> Result<Self, StoreError> {
        let (jobs, inbox) = channel();
        let dir = shared.dir.clone();
        let thread = std::thread::Builder::new()
            .name("strewn-commit".into())
            .spawn(move || run(&shared, &inbox, commits))
            .map_err(StoreError::io(&dir))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    pub(super) fn send(&self, batch: Batch, done: Done) {
        let rejected = match &self.jobs {
            Some(jobs) => jobs.send((batch, done)).err().map(|error| error.0),
            None => Some((batch, done)),
        };
        if let Some((_, done)) = rejected {
            done(Err(StoreError::Closed));
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.jobs = None;
        // The thread may itself hold the last handle, in a callback.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, inbox: &Receiver<Job>, mut commits: u64) {
    let mut marked = Instant::now();
    let mut unmarked = false;
    loop {
        let first = if unmarked {
            match inbox.recv_timeout(MARK_PERIOD.saturating_sub(marked.elapsed())) {
                Ok(job) => Some(job),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => None,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            }
        } else {
            match inbox.recv() {
                Ok(job) => Some(job),
                Err(_) => break,
            }
        };
        if let Some(first) = first {
            let mut jobs = vec![first];
            while jobs.len() < GROUP_MAX
                && let Ok(job) = inbox.try_recv()
            {
                jobs.push(job);
            }
            if commit(shared, jobs, commits + 1) {
                commits += 1;
                unmarked = true;
            }
        }
        if unmarked && marked.elapsed() >= MARK_PERIOD {
            write_mark(&shared.dir, commits);
            (marked, unmarked) = (Instant::now(), false);
        }
    }
    write_mark(&shared.dir, commits);
}

fn write_mark(dir: &Path, commits: u64) {
    if let Err(error) = mark::write(dir, commits) {
        tracing::warn!(%error, "the high-water mark could not be written");
    }
}

/// Makes a group durable. Whether the transaction was.
fn commit(shared: &Shared, jobs: Vec<Job>, commits: u64) -> bool {
    let mut jobs: Vec<(Job, Result<Option<PathBuf>, StoreError>)> =
        jobs.into_iter().map(|job| (job, Ok(None))).collect();
    let jobs_len = jobs.len();
    let chunk = jobs_len.div_ceil(SYNCS);
    std::thread::scope(|scope| {
        for part in jobs.chunks_mut(chunk) {
            let settle = || {
                for ((batch, _), result) in part {
                    *result = settle(shared, batch);
                }
            };
            // A group of one needs no thread.
            if jobs_len == 1 {
                settle();
            } else {
                scope.spawn(settle);
            }
        }
    });
    let folders: BTreeSet<PathBuf> =
        jobs.iter().filter_map(|(_, result)| result.as_ref().ok()?.clone()).collect();
    let synced: Result<(), StoreError> = folders.iter().try_for_each(|folder| sync_dir(folder));
    let written = synced.and_then(|()| {
        let good = jobs.iter().filter(|(_, result)| result.is_ok());
        write_rows(shared, good.map(|((batch, _), _)| batch), commits)
    });
    let durable = written.is_ok();
    let failure = written.err().map(|error| error.to_string());
    for ((batch, done), result) in jobs {
        drop(batch);
        match (result, &failure) {
            (Err(error), _) => done(Err(error)),
            (Ok(_), Some(failure)) => done(Err(StoreError::State(failure.clone()))),
            (Ok(_), None) => done(Ok(())),
        }
    }
    durable
}

/// Completes and syncs the batch's file and puts it in its place; gives the folder to sync.
fn settle(shared: &Shared, batch: &mut Batch) -> Result<Option<PathBuf>, StoreError> {
    let Some((incoming, shard, note)) = &mut batch.shard else { return Ok(None) };
    let path = shared.path_of(*shard);
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    if !folder.is_dir() {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Io { path: folder, source: error });
            }
            _ => sync_dir(&shared.dir.join("shards"))?,
        }
    }
    incoming.complete(*shard, note)?;
    incoming.settle(&path)?;
    Ok(Some(folder))
}

fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(StoreError::io(path))
}

pub(super) fn write_rows<'a>(
    shared: &Shared,
    batches: impl Iterator<Item = &'a Batch>,
    commits: u64,
) -> Result<(), StoreError> {
    let mut write: WriteTransaction = shared.state.begin_write().map_err(state_error)?;
    write.set_durability(Durability::Immediate).map_err(state_error)?;
    write.set_two_phase_commit(true);
    write.set_quick_repair(true);
    {
        let mut rows = write.open_table(STATE).map_err(state_error)?;
        for change in batches.flat_map(|batch| &batch.writes) {
            let key = row_key(change.table, &change.key);
            match &change.value {
                Some(value) => {
                    rows.insert(key.as_slice(), value.as_slice()).map_err(state_error)?
                }
                None => rows.remove(key.as_slice()).map_err(state_error)?,
            };
        }
        rows.insert(COMMITS_KEY, commits.to_le_bytes().as_slice()).map_err(state_error)?;
    }
    write.commit().map_err(state_error)
}
