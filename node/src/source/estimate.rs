//! How much there is to back up: a cheap count that runs beside the backup, for progress only.
//!
//! Nothing is decided by it; what it cannot read it leaves out.

use super::walk::{Walk, open_root};
use super::{Inode, Links, Rules};
use protocol::item::SourceKind;
use rustix::fs::{FileType, Stat, fstat};
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
    /// Of a Git repository it counts the object store: more than what is new. Of a stream nothing
    /// can be known before its end.
    #[must_use]
    pub fn start(path: &Path, kind: SourceKind, rules: &Arc<Rules>) -> Arc<Self> {
        let estimate = Arc::new(Self::default());
        let weak = Arc::downgrade(&estimate);
        let (root, rules) = match kind {
            SourceKind::Directory => (path.to_path_buf(), Arc::clone(rules)),
            SourceKind::Git => (objects_of(path), Arc::default()),
            SourceKind::Stream => return estimate,
        };
        let started = std::thread::Builder::new()
            .name("estimate".into())
            .spawn(move || count(&root, &rules, &weak));
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

    fn add(&self, stat: &Stat) {
        self.files.fetch_add(1, Relaxed);
        self.bytes.fetch_add(u64::try_from(stat.st_size).unwrap_or(0), Relaxed);
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

fn count(root: &Path, rules: &Rules, estimate: &Weak<Estimate>) {
    if root.metadata().is_ok_and(|meta| meta.is_file()) {
        if let (Some(estimate), Ok(stat)) = (estimate.upgrade(), rustix::fs::stat(root)) {
            estimate.add(&stat);
            estimate.complete.store(true, Relaxed);
        }
        return;
    }
    let Ok(top) = open_root(root) else { return };
    let Ok(home) = fstat(&top).map(|stat| stat.st_dev) else { return };
    let Ok(mut walk) = Walk::new(top) else { return };
    rules.heed_markers(&mut walk);
    let mut links = Links::default();
    while let Some(step) = walk.advance() {
        let Some(estimate) = estimate.upgrade() else { return };
        let (Ok(()), Ok(stat)) = (step, walk.stat()) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if rules.is_excluded(walk.path(), kind.is_dir()) {
            continue;
        }
        match kind {
            FileType::RegularFile => match Inode::of(&stat) {
                Some(inode) if links.next(inode).is_some() => {
                    estimate.files.fetch_add(1, Relaxed);
                }
                Some(inode) => {
                    links.begin(inode, ());
                    estimate.add(&stat);
                }
                None => estimate.add(&stat),
            },
            FileType::Directory if rules.is_entered(stat.st_dev, home) => {
                // What cannot be listed is the backup's to report.
                let _ = walk.open_directory().and_then(|dir| rules.enter(&mut walk, dir));
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

    fn complete(path: &Path, rules: Rules) -> (u64, u64) {
        let estimate = Estimate::start(path, SourceKind::Directory, &Arc::new(rules));
        while !estimate.is_complete() {
            std::thread::yield_now();
        }
        (estimate.files(), estimate.bytes())
    }

    #[test]
    fn an_estimate_counts_every_file_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), [0; 10]).unwrap();
        std::fs::write(dir.path().join("d"), [0; 5]).unwrap();
        std::os::unix::fs::symlink(".", dir.path().join("loop")).unwrap();
        assert_eq!(complete(dir.path(), Rules::default()), (2, 15));
        // The bytes of a file with two names count once.
        std::fs::hard_link(dir.path().join("d"), dir.path().join("e")).unwrap();
        assert_eq!(complete(dir.path(), Rules::default()), (3, 15));
        assert_eq!(complete(&dir.path().join("d"), Rules::default()), (1, 5));
    }

    #[test]
    fn an_estimate_leaves_out_what_the_backup_does() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["cache", "skipped"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join("file"), [0; 10]).unwrap();
        }
        std::fs::write(dir.path().join("skipped/.nobackup"), "").unwrap();
        let tag = "Signature: 8a477f597d28d172789f06886806bc55";
        std::fs::write(dir.path().join("cache/CACHEDIR.TAG"), tag).unwrap();
        std::fs::write(dir.path().join("x.o"), [0; 10]).unwrap();
        assert_eq!(complete(dir.path(), Rules::default()), (4, 63));
        let rules = Rules { caches: true, ..Rules::new(&["*.o"], &[]).unwrap() };
        assert_eq!(complete(dir.path(), rules), (2, 43));
    }
}
