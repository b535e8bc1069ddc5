//! Doubt that outlives a restart: a text file that is there as long as the tables are not to be trusted.
//!
//! The first line is `rebuilding` while the rows are being made again, `rebuilt` afterwards; the rest
//! says why. It is durable before the first row is made, so a rebuild that ends too early is done
//! again at the next start. A rebuild takes `rebuilding` away; the doubt itself only the operator does, by
//! [`Doubt::clear`], because nobody else can know whether what came back is all there was. What was cleared is kept beside it.

use super::open::set_aside;
use super::steps::Steps;
use super::{Lock, StoreError};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

const NAME: &str = "doubt";
const LEN_MAX: u64 = 4096;

/// Why the tables of a store are not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Whether rows are still to be made, which the node does when it starts.
    pub rebuilding: bool,
    /// Why, in words.
    pub reason: String,
}

impl Doubt {
    /// The doubt on record, also while the store is in use. A file that cannot be made out is the worst of them.
    pub fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(NAME);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(&path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(LEN_MAX).read_to_end(&mut bytes).map_err(StoreError::io(&path))?;
        let text = String::from_utf8_lossy(&bytes);
        let (first, reason) = text.split_once('\n').unwrap_or_default();
        Ok(Some(Self { rebuilding: first != "rebuilt", reason: reason.trim().into() }))
    }

    /// Takes the doubt away that is on record, and gives it: the operator has looked after it. It is kept under another name.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while a node runs, [`StoreError::Rebuilding`] before the rows are made again.
    pub fn clear(dir: &Path) -> Result<Option<Self>, StoreError> {
        if Self::read(dir)?.is_none() {
            return Ok(None);
        }
        let _lock = Lock::take(dir)?;
        // Read again: now nobody else changes it.
        let Some(doubt) = Self::read(dir)? else { return Ok(None) };
        if doubt.rebuilding {
            return Err(StoreError::Rebuilding(doubt.reason));
        }
        set_aside(dir, NAME, "cleared", &Steps::default())?;
        tracing::warn!(reason = doubt.reason, "the operator has cleared the doubt");
        Ok(Some(doubt))
    }

    /// Puts it on record.
    pub(super) fn write(&self, dir: &Path, steps: &Steps) -> Result<(), StoreError> {
        let (new, path) = (dir.join("doubt.new"), dir.join(NAME));
        let first = if self.rebuilding { "rebuilding" } else { "rebuilt" };
        let written = File::create(&new).and_then(|mut file| {
            writeln!(file, "{first}\n{}", self.reason)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&new, &path)).map_err(StoreError::io(&path))?;
        steps.sync_folder(dir)
    }
}
