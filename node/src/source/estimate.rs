//! How much there is to back up: a cheap count that runs beside the backup, for progress only.
//!
//! Nothing is decided by it; what it cannot read it leaves out.

use super::walk::{Walk, open_root};
use protocol::item::SourceKind;
use rustix::fs::FileType;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// Totals that grow until [`Estimate::is_complete`].
#[derive(Debug, Default)]
pub struct Estimate {
    files: AtomicU64,
    bytes: AtomicU64,
    complete: AtomicBool,
}

impl Estimate {
    /// Counts on a thread of its own, which ends early when the result is dropped.
    ///
    /// Of a Git repository it counts the object store: more than a bundle of what is new.
    #[must_use]
    pub fn start(path: &Path, kind: SourceKind) -> Arc<Self> {
        let estimate = Arc::new(Self::default());
        let weak = Arc::downgrade(&estimate);
        let root = match kind {
            SourceKind::Directory => path.to_path_buf(),
            SourceKind::Git => objects_of(path),
        };
        let started =
            std::thread::Builder::new().name("estimate".into()).spawn(move || count(&root, &weak));
        if let Err(error) = started {
            tracing::debug!(%error, "no estimate");
        }
        estimate
    }

    /// Regular files found so far.
    pub fn files(&self) -> u64 {
        self.files.load(Relaxed)
    }

    /// Bytes in them.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Whether everything was counted.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Relaxed)
    }
}

fn objects_of(path: &Path) -> PathBuf {
    let inside = path.join(".git/objects");
    if inside.is_dir() { inside } else { path.join("objects") }
}

fn count(root: &Path, estimate: &Weak<Estimate>) {
    let Ok(mut walk) = open_root(root).and_then(Walk::new) else { return };
    while let Some(step) = walk.advance() {
        let Some(estimate) = estimate.upgrade() else { return };
        let (Ok(()), Ok(stat)) = (step, walk.stat()) else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                estimate.files.fetch_add(1, Relaxed);
                estimate.bytes.fetch_add(u64::try_from(stat.st_size).unwrap_or(0), Relaxed);
            }
            FileType::Directory => {
                // What cannot be listed is the backup's to report.
                let _ = walk.open_directory().and_then(|dir| walk.enter(dir));
            }
            _ => {}
        }
    }
    if let Some(estimate) = estimate.upgrade() {
        estimate.complete.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_counts_every_file_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), [0; 10]).unwrap();
        std::fs::write(dir.path().join("d"), [0; 5]).unwrap();
        std::os::unix::fs::symlink(".", dir.path().join("loop")).unwrap();
        let estimate = Estimate::start(dir.path(), SourceKind::Directory);
        while !estimate.is_complete() {
            std::thread::yield_now();
        }
        assert_eq!((estimate.files(), estimate.bytes()), (2, 15));
    }
}
