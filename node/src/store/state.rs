//! The tables in redb: one table of rows, the row's key being the table's number and its key there.
//!
//! ```text
//! 0        → the number of commits, u64 LE
//! 0 1      → the journal that belongs to these rows: its id and its length, u64 LE each
//! table ‖ key → value
//! ```
//! What is written to a table of sums is added to what the row holds, in the transaction that has it.

use super::steps::Steps;
use super::{StoreError, state_error};
use protocol::peer::{Table, Write};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

pub(super) const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
const COMMITS_KEY: &[u8] = &[0];
const JOURNAL_KEY: &[u8] = &[0, 1];

/// Which journal belongs to the tables, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Journaled {
    pub(super) id: u64,
    pub(super) len: u64,
}

/// A row as the database has it, and what it becomes, or how much more it is to be; `None` removes it.
pub(super) type Row<'a> = (Vec<u8>, Option<&'a [u8]>);

pub(super) fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(table as u8);
    row.extend_from_slice(key);
    row
}

pub(super) fn row_of(write: &Write) -> Row<'_> {
    (row_key(write.table, &write.key), write.value.as_deref())
}

pub(super) fn open(path: &Path, cache: usize) -> Result<Database, StoreError> {
    // redb checks the file as it opens it; whatever it finds must be an error here and no panic.
    let opened = std::panic::catch_unwind(|| {
        let state = Database::builder().set_cache_size(cache).create(path).map_err(state_error)?;
        let write = state.begin_write().map_err(state_error)?;
        write.open_table(STATE).map_err(state_error)?;
        write.commit().map_err(state_error)?;
        Ok(state)
    });
    opened.unwrap_or_else(|_| Err(StoreError::State("it cannot be read".into())))
}

pub(super) fn get(state: &Database, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let read = state.begin_read().map_err(state_error)?;
    let table = read.open_table(STATE).map_err(state_error)?;
    let value = table.get(key).map_err(state_error)?;
    Ok(value.map(|value| value.value().to_vec()))
}

/// The keys of all rows of a table.
pub(super) fn keys(state: &Database, table: Table) -> Result<Vec<Vec<u8>>, StoreError> {
    let read = state.begin_read().map_err(state_error)?;
    let rows = read.open_table(STATE).map_err(state_error)?;
    let mut keys = Vec::new();
    for row in rows.range([table as u8].as_slice()..).map_err(state_error)? {
        let (key, _) = row.map_err(state_error)?;
        if key.value().first() != Some(&(table as u8)) {
            break;
        }
        keys.push(key.value().to_vec());
    }
    Ok(keys)
}

/// The table of sums that a row is in, if it is in one.
fn sum_of(key: &[u8]) -> Option<Table> {
    Table::SUMS.into_iter().find(|&table| key.first() == Some(&(table as u8)))
}

/// The number of commits that the tables have seen.
pub(super) fn commits(state: &Database) -> Result<u64, StoreError> {
    let value = get(state, COMMITS_KEY)?;
    Ok(value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes))
}

pub(super) fn journaled(state: &Database) -> Result<Option<Journaled>, StoreError> {
    let value: Option<[u8; 16]> = get(state, JOURNAL_KEY)?.and_then(|value| value.try_into().ok());
    Ok(value.map(|value| {
        let number = |at| u64::from_le_bytes(std::array::from_fn(|i| value[at + i]));
        Journaled { id: number(0), len: number(8) }
    }))
}

/// Makes rows durable, in one transaction.
pub(super) fn write<'a>(
    state: &Database,
    steps: &Steps,
    changes: impl Iterator<Item = Row<'a>>,
    commits: u64,
    journaled: Option<Journaled>,
) -> Result<(), StoreError> {
    let mut write = state.begin_write().map_err(state_error)?;
    write.set_durability(Durability::Immediate).map_err(state_error)?;
    write.set_two_phase_commit(true);
    write.set_quick_repair(true);
    {
        let mut rows = write.open_table(STATE).map_err(state_error)?;
        for (key, value) in changes {
            let Some(value) = value else {
                rows.remove(key.as_slice()).map_err(state_error)?;
                continue;
            };
            let sum = match sum_of(&key) {
                Some(table) => {
                    let known = rows.get(key.as_slice()).map_err(state_error)?;
                    Some(table.sum(known.as_ref().map(redb::AccessGuard::value), value))
                }
                None => None,
            };
            let value = sum.as_deref().unwrap_or(value);
            rows.insert(key.as_slice(), value).map_err(state_error)?;
        }
        rows.insert(COMMITS_KEY, commits.to_le_bytes().as_slice()).map_err(state_error)?;
        if let Some(Journaled { id, len }) = journaled {
            let value = [id.to_le_bytes(), len.to_le_bytes()].concat();
            rows.insert(JOURNAL_KEY, value.as_slice()).map_err(state_error)?;
        }
    }
    steps.commit(write)
}
