//! The shard store of a node: shards as files that describe themselves, and tables in redb.
//!
//! It holds no rules: what is stored and what is refused is decided by `protocol::Peer`. What is
//! acknowledged here survives `kill -9` and power loss: file, folder and tables are synced first.
//! Opening it takes the same time whatever it holds.
//!
//! ```text
//! DIR/lock           held by the running node
//! DIR/state.redb     rows: table number ‖ key → value
//! DIR/journal        second copy of the rows that shards' files do not tell, see `journal`
//! DIR/mark           high-water mark: what state.redb must at least have seen
//! DIR/doubt          there while the rows are not to be trusted, see `doubt`
//! DIR/shards/ab/…    one file a shard, see `file`
//! DIR/incoming/…     shards that are arriving, see `arrivals`
//! DIR/trash/…        shards that were dropped, see `trash`
//! DIR/*.damaged.N    what was set aside
//! DIR/doubt.cleared.N  doubt that the operator has cleared
//! ```

mod arrivals;
mod committer;
mod doubt;
mod file;
mod journal;
mod mark;
mod open;
mod prove;
mod rebuild;
mod state;
mod steps;
#[cfg(test)]
mod tests;
mod trash;

pub use doubt::Doubt;
pub use file::{Incoming, ShardBytes, ShardReader};

use committer::Committer;
use protocol::id::ShardId;
use protocol::peer::{Facts, FactsError, Rows, Table, Write};
use redb::{Database, ReadOnlyTable, ReadableDatabase};
use rustix::fs::{FlockOperation, flock};
use state::{STATE, row_key};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use steps::Steps;

/// Why the store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tables could not be read or written.
    #[error("the state database: {0}")]
    State(String),
    /// Another process has it open.
    #[error("{0} is in use by another process: stop that one first")]
    Locked(PathBuf),
    /// The tables are not made again yet, which is done when the node starts.
    #[error("the tables are not made again yet ({0}): start the node once before this is cleared")]
    Rebuilding(String),
    /// No space.
    #[error("there is room for {free} bytes beyond the reserve, {needed} needed")]
    Full {
        /// Bytes free for shards.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// No such shard here.
    #[error("shard {0} is not here")]
    Missing(ShardId),
    /// The shard's file is damaged.
    #[error("the file of shard {shard} is damaged: {what}")]
    Damaged {
        /// The shard.
        shard: ShardId,
        /// What is wrong.
        what: &'static str,
    },
    /// More or fewer bytes than announced.
    #[error("{found} bytes arrived, {expected} were announced")]
    Length {
        /// Bytes that arrived.
        found: u64,
        /// Bytes announced.
        expected: u64,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// What the store is set to.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Memory for the tables' pages, in bytes.
    pub cache: usize,
    /// Bytes of the disk that shards never take: tables, records and logs still work when it is full.
    pub reserve: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache: 32 << 20, reserve: 1 << 30 }
    }
}

/// Changes that become durable together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Rows.
    pub writes: Vec<Write>,
    /// A shard that arrived, its name, and what is to be written behind it.
    pub shard: Option<(Incoming, ShardId, Vec<u8>)>,
}

/// Called when a batch is durable, or is not and will not be.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Shared {
    dir: PathBuf,
    state: Database,
    steps: Steps,
    reserve: u64,
    incoming: AtomicU64,
    doubt: Option<String>,
    _lock: Lock,
}

/// The store's handle.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    committer: Arc<Committer>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.shared.dir.display())
    }
}

fn state_error(error: impl std::fmt::Display) -> StoreError {
    StoreError::State(error.to_string())
}

/// Keeps other processes out of a store.
struct Lock(File);

impl Lock {
    fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let file = File::create(&path).map_err(StoreError::io(&path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::Locked(dir.to_owned()))?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough while a process that another thread just started still has it.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Store {
    /// Opens the store in `dir`, which is made if it is not there.
    ///
    /// When the tables have seen less than the high-water mark says, or cannot be opened, the rows are
    /// made again from the shards' files and the journal, and [`Store::doubt`] says so: nothing may be
    /// dropped then.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(dir, options, Steps::default())
    }

    fn open_with(dir: &Path, options: StoreOptions, steps: Steps) -> Result<Self, StoreError> {
        let shards = dir.join("shards");
        let trash = dir.join(trash::NAME);
        for folder in [dir, &shards, &dir.join("incoming"), &trash] {
            fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        }
        // Folders made by an earlier start that ended before they were durable count as new ones.
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        for folder in [&shards, &trash, dir, parent.unwrap_or(Path::new("."))] {
            steps.sync_folder(folder)?;
        }
        let lock = Lock::take(dir)?;
        let opened = open::open(dir, options.cache, &steps)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            state: opened.state,
            steps,
            reserve: options.reserve,
            incoming: AtomicU64::new(0),
            doubt: opened.doubt,
            _lock: lock,
        });
        let committer = Committer::start(Arc::clone(&shared), opened.journal, opened.commits)?;
        Ok(Self { shared, committer: Arc::new(committer) })
    }

    /// Why the tables are not to be trusted for dropping anything.
    #[must_use]
    pub fn doubt(&self) -> Option<&str> {
        self.shared.doubt.as_deref()
    }

    /// Bytes that shards may still take: what is free, less the reserve.
    pub fn space(&self) -> Result<u64, StoreError> {
        self.shared.space()
    }

    /// Room for a shard of `len` bytes that is about to arrive.
    pub fn begin(&self, len: u32) -> Result<Incoming, StoreError> {
        let free = self.space()?;
        if free < u64::from(len) {
            return Err(StoreError::Full { free, needed: u64::from(len) });
        }
        let number = self.shared.incoming.fetch_add(1, Ordering::Relaxed);
        Incoming::create(self.shared.dir.join("incoming").join(number.to_string()), len)
    }

    /// Makes a batch durable and then calls `done`. Batches become durable in the order given; those
    /// that wait together share the syncs.
    pub fn commit(&self, batch: Batch, done: Done) {
        self.committer.send(batch, done);
    }

    /// Makes a batch durable before this returns. For commands on a node that does not run.
    pub fn commit_now(&self, batch: Batch) -> Result<(), StoreError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.commit(batch, Box::new(move |result| drop(sender.send(result))));
        receiver.recv().map_err(|_| StoreError::Closed)?
    }

    /// Opens a shard for reading.
    pub fn shard(&self, shard: ShardId) -> Result<ShardReader, StoreError> {
        ShardReader::open(&path_of(&self.shared.dir, shard), shard)
    }

    /// Reads all of a shard: its length and its bytes are those that it is known by, and its note can be read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, shard: ShardId, len: u32) -> Result<(), StoreError> {
        let reader = self.shard(shard)?;
        if reader.len() != len {
            return Err(StoreError::Damaged { shard, what: "it has another length" });
        }
        reader.note()?;
        reader.check_bytes()
    }

    /// Whether the file of a shard is there, with header, length and note as they should be. Its bytes are
    /// not read.
    #[must_use]
    pub fn is_whole(&self, shard: ShardId, len: u32) -> bool {
        self.shard(shard).is_ok_and(|reader| reader.len() == len && reader.note().is_ok())
    }
}

fn path_of(dir: &Path, shard: ShardId) -> PathBuf {
    let name = shard.to_string();
    dir.join("shards").join(&name[..2]).join(name)
}

impl Shared {
    fn space(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|e| StoreError::Io { path: self.dir.clone(), source: e.into() })?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(free.saturating_sub(self.reserve))
    }
}

fn unread(error: impl std::fmt::Display) -> FactsError {
    FactsError::Storage(error.to_string())
}

impl Store {
    /// All rows as they are now.
    fn rows(&self) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, FactsError> {
        self.shared.state.begin_read().map_err(unread)?.open_table(STATE).map_err(unread)
    }
}

impl Facts for Store {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, FactsError> {
        let rows = self.rows()?;
        let value = rows.get(row_key(table, key).as_slice()).map_err(unread)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Rows, FactsError> {
        let rows = self.rows()?;
        let from = row_key(table, after.map_or(prefix, |after| after.max(prefix)));
        let begin = row_key(table, prefix);
        let mut found = Vec::new();
        for row in rows.range(from.as_slice()..).map_err(unread)? {
            let (key, value) = row.map_err(unread)?;
            let key = key.value();
            if !key.starts_with(&begin) || found.len() >= limit {
                break;
            }
            if after.is_none_or(|after| &key[1..] > after) {
                found.push((key[1..].to_vec(), value.value().to_vec()));
            }
        }
        Ok(found)
    }
}
