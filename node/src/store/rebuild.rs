//! Rows made again from the shards' files and the journal. Doing it twice, or over what is left of older rows,
//! comes to the same.

use super::doubt::Doubt;
use super::file::ShardReader;
use super::journal::Journal;
use super::open::{begin_journal, set_aside};
use super::state::{self, row_of};
use super::steps::Steps;
use super::{StoreError, path_of};
use protocol::codec;
use protocol::id::ShardId;
use protocol::message::HeldRecord;
use protocol::peer::{Table, Write, rows_of, sums_of};
use redb::Database;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of rows that become durable at once: a transaction costs the same for one and for many.
const TRANSACTION_LEN: usize = 4 << 20;

/// What a shard's file vouches for.
pub(super) fn read_rows(path: &Path, shard: ShardId) -> Result<Option<Vec<Write>>, StoreError> {
    let note = ShardReader::open(path, shard)?.note()?;
    let held = codec::decode::<HeldRecord>(&note, codec::VALUE_LEN_MAX);
    Ok(held.ok().and_then(|held| rows_of(shard, &held)))
}

/// Rows on their way into the tables.
struct Rows<'a> {
    state: &'a Database,
    steps: &'a Steps,
    commits: &'a mut u64,
    waiting: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    len: usize,
}

impl Rows<'_> {
    fn add(&mut self, key: Vec<u8>, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.len += key.len() + value.map_or(0, <[u8]>::len);
        self.waiting.push((key, value.map(<[u8]>::to_vec)));
        if self.len >= TRANSACTION_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        *self.commits += 1;
        let rows = self.waiting.iter().map(|(key, value)| (key.clone(), value.as_deref()));
        state::write(self.state, self.steps, rows, *self.commits, None)?;
        self.waiting.clear();
        self.len = 0;
        Ok(())
    }
}

/// Makes the rows again; gives the journal that goes with them and adds to the doubt what was found.
pub(super) fn rebuild(
    dir: &Path,
    state: &Database,
    journal: Option<Journal>,
    steps: &Steps,
    commits: &mut u64,
    doubt: &mut Doubt,
) -> Result<Journal, StoreError> {
    let mut rows = Rows { state, steps, commits: &mut *commits, waiting: Vec::new(), len: 0 };
    // A life from an older time could be over for reasons that were overruled since: all begin anew.
    // Sums of an older time would count what went since, and what came since twice: they are made of the rows of shards.
    for table in [Table::Life, Table::Usage, Table::Tally] {
        for key in state::keys(state, table)? {
            rows.add(key, None)?;
        }
    }
    let (shards, strays) = add_shards(dir, &mut rows)?;
    rows.flush()?;
    add_sums(&mut rows)?;
    let mut whole = false;
    if let Some(journal) = &journal {
        let mut end = journal.begin();
        whole = true;
        for frame in journal.frames_after(None) {
            let Some(frame) = frame else {
                whole = false;
                continue;
            };
            for (key, value) in frame.rows() {
                rows.add(key, value)?;
            }
            end = frame.end;
        }
        whole &= end == journal.journaled().len;
    }
    rows.flush()?;
    let journal = match journal {
        Some(journal) if whole => {
            *commits += 1;
            let journaled = Some(journal.journaled());
            state::write(state, steps, std::iter::empty(), *commits, journaled)?;
            journal
        }
        _ => {
            // Whoever wants to look may find more in it than was found here.
            if dir.join("journal").exists() {
                set_aside(dir, "journal", "damaged", steps)?;
            }
            begin_journal(dir, state, steps, commits)?
        }
    };
    let logs = if whole {
        "logs and papers came from the journal"
    } else {
        "logs and papers may be missing, because the journal is gone or damaged"
    };
    // An interrupted rebuild says all of this once.
    let reason = doubt.reason.split("; ").next().unwrap_or_default();
    doubt.reason = format!(
        "{reason}; {shards} shards were found again, {strays} files that are none were left alone; {logs}"
    );
    Ok(journal)
}

/// Counts all that is held by the rows that are there now: also what an older database has and no file tells, which stays promised until it is found to be
/// gone. What is journaled counts nothing.
fn add_sums(rows: &mut Rows<'_>) -> Result<(), StoreError> {
    for key in state::keys(rows.state, Table::Held)? {
        let held = state::get(rows.state, &key)?.unwrap_or_default();
        for write in sums_of(&held).into_iter().flatten() {
            let (key, value) = row_of(&write);
            rows.add(key, value)?;
        }
    }
    Ok(())
}

/// Adds what the files in shards/ tell. How many shards there are, and how many other things.
fn add_shards(dir: &Path, rows: &mut Rows<'_>) -> Result<(u64, u64), StoreError> {
    let root = dir.join("shards");
    let (mut shards, mut strays) = (0, 0);
    let mut stray = |path: PathBuf, reason: String| {
        tracing::warn!(path = %path.display(), reason, "this is no shard and is left alone");
        strays += 1;
    };
    for folder in fs::read_dir(&root).map_err(StoreError::io(&root))? {
        let folder = folder.map_err(StoreError::io(&root))?.path();
        if !folder.is_dir() {
            stray(folder, "not a folder".into());
            continue;
        }
        for entry in fs::read_dir(&folder).map_err(StoreError::io(&folder))? {
            let path = entry.map_err(StoreError::io(&folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let shard = name.parse::<ShardId>().ok().filter(|&shard| path_of(dir, shard) == path);
            let Some(shard) = shard else {
                stray(path, "its name is not that of a shard".into());
                continue;
            };
            match read_rows(&path, shard) {
                Ok(Some(writes)) => {
                    shards += 1;
                    for write in writes.iter().filter(|write| !write.table.is_sum()) {
                        let (key, value) = row_of(write);
                        // A record that is there is as new as the one in the file, or newer.
                        let known =
                            write.table == Table::Record && state::get(rows.state, &key)?.is_some();
                        if !known {
                            rows.add(key, value)?;
                        }
                    }
                }
                Ok(None) => stray(path, "nothing vouches for it".into()),
                Err(error) => stray(path, error.to_string()),
            }
        }
    }
    Ok((shards, strays))
}
