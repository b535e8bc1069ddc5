//! Where the files of dropped shards go. What has come here is gone for good, but for one case: as long as the shard has its
//! row, the next start puts the file back, and whoever decided to drop it decides what to do then.
//!
//! ```text
//! rename to trash/ → sync trash/ → sync the folder it was in → rows go → the file is removed, some time later
//! ```
//! While there is doubt about the tables, nothing is removed: what lies here may be looked at.

use super::state;
use super::steps::Steps;
use super::{Store, StoreError, path_of};
use protocol::id::ShardId;
use protocol::peer::{Table, held_key};
use redb::Database;
use std::fs;
use std::path::{Path, PathBuf};

/// Most files removed in one go.
const REMOVED_MAX: usize = 1024;

pub(super) const NAME: &str = "trash";

fn trash_of(dir: &Path, shard: ShardId) -> PathBuf {
    dir.join(NAME).join(shard.to_string())
}

/// The shards whose files are in the trash.
fn shards(dir: &Path) -> Result<impl Iterator<Item = ShardId>, StoreError> {
    let trash = dir.join(NAME);
    let files = fs::read_dir(&trash).map_err(StoreError::io(&trash))?;
    Ok(files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok()))
}

fn is_held(state: &Database, shard: ShardId) -> Result<bool, StoreError> {
    Ok(state::get(state, &state::row_key(Table::Held, &held_key(shard)))?.is_some())
}

/// Undoes what was not finished, and removes the rest unless there is doubt.
pub(super) fn settle(
    dir: &Path,
    state: &Database,
    steps: &Steps,
    doubt: bool,
) -> Result<(), StoreError> {
    for shard in shards(dir)? {
        let (trash, place) = (trash_of(dir, shard), path_of(dir, shard));
        if is_held(state, shard)? && !place.exists() {
            tracing::info!(%shard, "a shard that was on its way out goes back to its place");
            let folder = place.parent().unwrap_or(dir);
            fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
            steps.rename(&trash, &place)?;
            for folder in [folder, &dir.join("shards"), &dir.join(NAME)] {
                steps.sync_folder(folder)?;
            }
        } else if !doubt {
            fs::remove_file(&trash).map_err(StoreError::io(&trash))?;
        }
    }
    Ok(())
}

impl Store {
    /// Takes the file of a dropped shard out of its place; durably, when this returns. A file that is gone already is
    /// no error.
    pub fn trash(&self, shard: ShardId) -> Result<(), StoreError> {
        let (dir, steps) = (&self.shared.dir, &self.shared.steps);
        let place = path_of(dir, shard);
        match steps.rename(&place, &trash_of(dir, shard)) {
            Ok(()) => {}
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            }
            Err(error) => return Err(error),
        }
        // Also when an earlier attempt ended between these steps.
        steps.sync_folder(&dir.join(NAME))?;
        match place.parent().filter(|folder| folder.is_dir()) {
            Some(folder) => steps.sync_folder(folder),
            None => Ok(()),
        }
    }

    /// Removes files from the trash, so many at most, whose shards have no rows any more. Whether any are left.
    pub fn empty_trash(&self) -> Result<bool, StoreError> {
        if self.shared.doubt.is_some() {
            return Ok(true);
        }
        let dir = &self.shared.dir;
        let (mut removed, mut left) = (0, false);
        for shard in shards(dir)? {
            // One that has its place again was put anew: this is the one before.
            let is_over = !is_held(&self.shared.state, shard)? || path_of(dir, shard).exists();
            if is_over && removed < REMOVED_MAX {
                let path = trash_of(dir, shard);
                fs::remove_file(&path).map_err(StoreError::io(&path))?;
                removed += 1;
            } else {
                left = true;
            }
        }
        Ok(left)
    }
}
