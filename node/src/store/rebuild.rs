//! Making the tables again from the shards' files: what is held, with record and receipt.
//!
//! Until that is complete the number of commits stays below the high-water mark, so that one that is interrupted begins
//! again at the next start.

use super::committer::write_rows;
use super::{Batch, ShardReader, Shared, StoreError, mark};
use protocol::id::ShardId;
use protocol::message::HeldRecord;
use protocol::peer::Usage;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rows written in one transaction, about.
const ROWS_MAX: usize = 2048;

/// Whether there is a file of a shard, or what looks like one.
pub(super) fn has_shards(dir: &Path) -> Result<bool, StoreError> {
    let mut is_any = false;
    for folder in folders(dir)? {
        is_any |= entries(&folder)?.next().is_some();
    }
    Ok(is_any)
}

/// Writes the rows, and gives the number of commits that counts from now on.
pub(super) fn run(shared: &Shared, commits: u64, mark: u64) -> Result<u64, StoreError> {
    let mark = mark.max(commits + 1);
    mark::write(&shared.dir, mark).map_err(StoreError::io(&shared.dir))?;
    let mut usage: BTreeMap<_, Usage> = BTreeMap::new();
    let mut batch = Batch::default();
    for folder in folders(&shared.dir)? {
        for path in entries(&folder)? {
            let path = path?;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(shard) = name.parse::<ShardId>() else { continue };
            let held = ShardReader::open(&path, shard).and_then(|reader| reader.note());
            let rows = held.ok().and_then(|note| {
                let limit = protocol::codec::VALUE_LEN_MAX;
                let held = protocol::codec::decode::<HeldRecord>(&note, limit).ok()?;
                protocol::peer::rows_of(shard, &held)
            });
            let Some((vault, len, writes)) = rows else {
                tracing::warn!(path = %path.display(), "this file is no shard and was left alone");
                continue;
            };
            let usage = usage.entry(vault).or_default();
            usage.bytes += u64::from(len);
            usage.shards += 1;
            batch.writes.extend(writes);
            if batch.writes.len() >= ROWS_MAX {
                write_rows(shared, std::iter::once(&batch), commits)?;
                batch.writes.clear();
            }
        }
    }
    let rows = usage.into_iter().map(|(vault, usage)| protocol::peer::usage_row(vault, usage));
    batch.writes.extend(rows);
    write_rows(shared, std::iter::once(&batch), mark)?;
    Ok(mark)
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    entries(&dir.join("shards"))?.collect()
}

fn entries(
    folder: &Path,
) -> Result<impl Iterator<Item = Result<PathBuf, StoreError>> + use<>, StoreError> {
    let folder = folder.to_owned();
    let entries = fs::read_dir(&folder).map_err(StoreError::io(&folder))?;
    Ok(entries.map(move |entry| Ok(entry.map_err(StoreError::io(&folder))?.path())))
}
