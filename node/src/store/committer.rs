//! Group commit: one thread makes all waiting batches durable together.
//!
//! Files first (synced in parallel, given their places, their folders synced once), then the journal, then one
//! transaction for all rows, then everybody is told. A batch whose file fails takes nobody else down; a
//! group that fails leaves neither files nor journal behind.

use super::journal::Journal;
use super::state::{self, row_of};
use super::{Batch, Done, Shared, StoreError, mark, path_of};
use protocol::peer::{Table, held_key};
use std::collections::BTreeSet;
use std::fs;
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
    pub(super) fn start(
        shared: Arc<Shared>,
        journal: Journal,
        commits: u64,
    ) -> Result<Self, StoreError> {
        let (jobs, inbox) = channel();
        let dir = shared.dir.clone();
        let thread = std::thread::Builder::new()
            .name("strewn-commit".into())
            .spawn(move || run(&shared, &inbox, journal, commits))
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

/// What the thread knows from group to group.
struct Group<'a> {
    shared: &'a Shared,
    journal: Journal,
    commits: u64,
    /// Whether shards/ has names of folders that may not be durable.
    root_due: bool,
}

fn run(shared: &Shared, inbox: &Receiver<Job>, journal: Journal, commits: u64) {
    let mut group = Group { shared, journal, commits, root_due: false };
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
            unmarked |= group.commit(jobs);
        }
        if unmarked && marked.elapsed() >= MARK_PERIOD {
            write_mark(&shared.dir, group.commits);
            (marked, unmarked) = (Instant::now(), false);
        }
    }
    write_mark(&shared.dir, group.commits);
}

fn write_mark(dir: &Path, commits: u64) {
    if let Err(error) = mark::write(dir, commits) {
        tracing::warn!(%error, "the high-water mark could not be written");
    }
}

impl Group<'_> {
    /// Makes batches durable together. Whether the transaction was.
    fn commit(&mut self, jobs: Vec<Job>) -> bool {
        let shared = self.shared;
        let mut jobs: Vec<(Job, Result<Option<Place>, StoreError>)> =
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
        let places: Vec<&Place> =
            jobs.iter().filter_map(|(_, result)| result.as_ref().ok()?.as_ref()).collect();
        let folders: BTreeSet<&Path> = places.iter().map(|place| &*place.folder).collect();
        // A folder whose name could not be synced stays due: the next file in it relies on that too.
        self.root_due |= places.iter().any(|place| place.is_new);
        let good = jobs.iter().filter(|(_, result)| result.is_ok());
        let batches: Vec<&Batch> = good.map(|((batch, _), _)| batch).collect();
        let written = self.sync(&folders).and_then(|()| self.write(&batches));
        let durable = written.is_ok();
        let failure = written.err().map(|error| error.to_string());
        for ((batch, done), result) in jobs {
            if failure.is_some() {
                shared.take_back(&batch);
            }
            match (result, &failure) {
                (Err(error), _) => done(Err(error)),
                (Ok(_), Some(failure)) => done(Err(StoreError::State(failure.clone()))),
                (Ok(_), None) => done(Ok(())),
            }
        }
        durable
    }

    fn sync(&mut self, folders: &BTreeSet<&Path>) -> Result<(), StoreError> {
        let steps = &self.shared.steps;
        folders.iter().try_for_each(|folder| steps.sync_folder(folder))?;
        if self.root_due {
            steps.sync_folder(&self.shared.dir.join("shards"))?;
            self.root_due = false;
        }
        Ok(())
    }

    /// Writes journal and tables; neither of them when the other fails.
    fn write(&mut self, batches: &[&Batch]) -> Result<(), StoreError> {
        let Shared { state, steps, .. } = self.shared;
        let commits = self.commits + 1;
        let before = self.journal.journaled().len;
        // The rows that come with a shard are in its file.
        let own = batches.iter().filter(|batch| batch.shard.is_none());
        let appended = self.journal.append(steps, own.map(|batch| &*batch.writes), commits);
        let rows = batches.iter().flat_map(|batch| &batch.writes).map(row_of);
        let written = appended.and_then(|journaled| {
            state::write(state, steps, rows, commits, journaled)?;
            Ok(())
        });
        match &written {
            Ok(()) => self.commits = commits,
            Err(_) => {
                if let Err(error) = self.journal.cut(before) {
                    tracing::error!(%error, "the journal takes nothing more until the next start");
                }
            }
        }
        written
    }
}

impl Shared {
    /// Removes the file of a shard whose rows did not become durable, unless they were before.
    fn take_back(&self, batch: &Batch) {
        let Some((_, shard, _)) = &batch.shard else { return };
        let held = state::row_key(Table::Held, &held_key(*shard));
        if matches!(state::get(&self.state, &held), Ok(None)) {
            // What remains is adopted or removed at the next start.
            let _ = fs::remove_file(path_of(&self.dir, *shard));
        }
    }
}

/// Where a file went.
struct Place {
    folder: PathBuf,
    /// Whether the folder was made for it.
    is_new: bool,
}

/// Completes and syncs the batch's file and puts it in its place.
fn settle(shared: &Shared, batch: &mut Batch) -> Result<Option<Place>, StoreError> {
    let Some((incoming, shard, note)) = &mut batch.shard else { return Ok(None) };
    let path = path_of(&shared.dir, *shard);
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut is_new = false;
    if !folder.is_dir() {
        match fs::create_dir(&folder) {
            Ok(()) => is_new = true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(StoreError::Io { path: folder, source }),
        }
    }
    incoming.complete(*shard, note)?;
    incoming.settle(&path, &shared.steps)?;
    Ok(Some(Place { folder, is_new }))
}
