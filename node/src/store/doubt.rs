//! Doubt that outlives a restart: a text file that is there as long as the tables are not to be trusted.
//!
//! The first line is `rebuilding` while the rows are being made again, `rebuilt` afterwards; the rest
//! says why. It is durable before the first row is made, so a rebuild that ends too early is done
//! again at the next start. A rebuild takes `rebuilding` away; the doubt itself only the operator does, by
//! removing the file, because nobody else can know whether what came back is all there was.

use super::StoreError;
use super::steps::Steps;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

const NAME: &str = "doubt";
const LEN_MAX: u64 = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    /// Whether rows are still to be made.
    pub(super) rebuilding: bool,
    pub(super) reason: String,
}

impl Doubt {
    /// The doubt on record. A file that cannot be made out is the worst of them.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
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
