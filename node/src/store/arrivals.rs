//! What lies in incoming/ when a node starts.
//!
//! An arriving file keeps its name there until its rows are durable. So a shard that was given its place, but
//! whose rows never came, is found here at once, without a look at all the others. It is adopted when
//! every byte of it is right: the receipt in its file was signed, and nobody knows for sure that it never
//! left. Anything else was never acknowledged and is removed.

use super::file::ShardReader;
use super::rebuild::read_rows;
use super::state::{self, row_of};
use super::steps::Steps;
use super::{StoreError, path_of};
use protocol::id::ShardId;
use protocol::peer::{Table, held_key};
use redb::Database;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Empties incoming/. While there is doubt, nothing in shards/ is removed.
pub(super) fn settle(
    dir: &Path,
    state: &Database,
    steps: &Steps,
    commits: &mut u64,
    doubt: bool,
) -> Result<(), StoreError> {
    let incoming = dir.join("incoming");
    for entry in fs::read_dir(&incoming).map_err(StoreError::io(&incoming))? {
        let path = entry.map_err(StoreError::io(&incoming))?.path();
        if let Some(shard) = ShardReader::name_of(&path) {
            let place = path_of(dir, shard);
            let held = state::row_key(Table::Held, &held_key(shard));
            if is_same(&path, &place)
                && state::get(state, &held)?.is_none()
                && !adopt(&place, shard, state, steps, commits)?
                && !doubt
            {
                tracing::warn!(%shard, "a shard that never arrived whole is removed");
                fs::remove_file(&place).map_err(StoreError::io(&place))?;
            }
        }
        fs::remove_file(&path).map_err(StoreError::io(&path))?;
    }
    Ok(())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Writes the rows of a shard that has its place. Whether it deserved them.
fn adopt(
    place: &Path,
    shard: ShardId,
    state: &Database,
    steps: &Steps,
    commits: &mut u64,
) -> Result<bool, StoreError> {
    let Ok(Some(writes)) = read_rows(place, shard) else { return Ok(false) };
    if ShardReader::open(place, shard)?.check_bytes().is_err() {
        return Ok(false);
    }
    // Its name may have come no further than the memory.
    for folder in [place.parent(), place.parent().and_then(Path::parent)].into_iter().flatten() {
        steps.sync_folder(folder)?;
    }
    let mut rows = Vec::new();
    for write in &writes {
        let row = row_of(write);
        // A record that is known already is as new, or newer.
        if write.table != Table::Record || state::get(state, &row.0)?.is_none() {
            rows.push(row);
        }
    }
    *commits += 1;
    state::write(state, steps, rows.into_iter(), *commits, None)?;
    tracing::info!(%shard, "a shard whose rows a crash had prevented is kept");
    Ok(true)
}
