//! Files that are written: each is opened before anything is run, so that hours of runs do not end in a folder that does not exist; what
//! was in it stays until there is something to write.

use crate::failure::Failure;
use simulator::table::Table;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file that will be written.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    file: File,
}

impl Target {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        match file {
            Ok(file) => Ok(Self { path: path.into(), file }),
            Err(error) => Err(unwritable(path, &error)),
        }
    }

    /// Opens files that differ from each other; those that are not asked for are none.
    pub(crate) fn open_all<const N: usize>(
        paths: [Option<&Path>; N],
    ) -> Result<[Option<Self>; N], Failure> {
        let mut targets: [Option<Self>; N] = std::array::from_fn(|_| None);
        let mut known: Vec<PathBuf> = Vec::new();
        for (target, path) in targets.iter_mut().zip(paths) {
            let Some(path) = path else { continue };
            let opened = Self::open(path)?;
            // Only files: whoever writes several things to /dev/null means it.
            let is_file = opened.file.metadata().is_ok_and(|metadata| metadata.is_file());
            let whole = path.canonicalize().unwrap_or_else(|_| path.into());
            if is_file && known.contains(&whole) {
                let what = format!("{} is to be written twice", path.display());
                return Err(Failure::usage(what, "name another file for each"));
            }
            known.push(whole);
            *target = Some(opened);
        }
        Ok(targets)
    }

    /// Writes the file.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<(), Failure> {
        let Self { path, mut file } = self;
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        // What is no file, a pipe, has no length.
        let emptied = if is_file { file.set_len(0) } else { Ok(()) };
        emptied.and_then(|()| file.write_all(bytes)).map_err(|error| unwritable(&path, &error))
    }
}

/// Where a table is written.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) csv: Option<Target>,
    pub(crate) parquet: Option<Target>,
}

impl Tables {
    /// Writes a table in the forms that were asked for.
    pub(crate) fn write(self, table: &Table) -> Result<(), Failure> {
        if let Some(target) = self.csv {
            target.write(table.csv().as_bytes())?;
        }
        if let Some(target) = self.parquet {
            let bytes = table.parquet().map_err(|error| {
                let what = format!("Parquet cannot be written: {error}");
                Failure::failed(what, "use --csv, and report this")
            })?;
            target.write(&bytes)?;
        }
        Ok(())
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("{} cannot be written: {error}", path.display());
    Failure::failed(what, "check that the folder exists and has space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_first_and_keeps_what_it_has_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.csv");
        std::fs::write(&path, "what was there before").unwrap();
        let target = Target::open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"what was there before");
        target.write(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(Target::open(&folder.path().join("none/runs.csv")).is_err());
    }

    #[test]
    fn two_tables_are_not_written_to_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs");
        let same = folder.path().join(".").join("runs");
        let told = Target::open_all([Some(path.as_path()), None, Some(&same)]).unwrap_err();
        assert!(told.to_string().contains("twice"), "{told}");
        let other = folder.path().join("others");
        let opened = Target::open_all([Some(path.as_path()), None, Some(&other)]).unwrap();
        assert_eq!(opened.map(|target| target.is_some()), [true, false, true]);
    }
}
