//! A directory tree as a source, or a single file.
//!
//! Kept are names (raw bytes), permission bits, owners, modification times to the nanosecond, content, holes,
//! hard links of regular files, extended attributes with access control lists, devices and FIFOs. Sockets are
//! named in the report's notes: nothing can be restored of them. What is left out is the business of [`Rules`].
//!
//! A file counts as unchanged when size, modification and change time and inode are those of the last snapshot;
//! the change time also tells of its attributes. What vanishes, cannot be read, or changes while it is read is
//! named as failed.

use super::attributes::Object;
use super::sparse::SparseFile;
use super::walk::{Walk, open_root};
use super::{
    Inode, Linked, Node, PATH_LEN_MAX, Previous, PreviousFile, Report, Rules, Sink, SinkError,
    Source, SourceError, canonical, settle,
};
use protocol::codec::Blob;
use protocol::item::{Attribute, Meta, NodeKind, SourceKind, Stamp, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A file changed this short before it was read may change again without its times showing it:
/// kernels stamp with the last timer tick (10 ms at 100 Hz).
const TICK: Duration = Duration::from_millis(20);

/// The same for file systems that keep whole seconds (FAT: two).
const COARSE_TICK: Duration = Duration::from_secs(2);

/// A directory tree or a file.
#[derive(Debug)]
pub struct DirectorySource {
    root: PathBuf,
    rules: Arc<Rules>,
    is_file: bool,
}

impl DirectorySource {
    /// The tree below `path`, or the file there, which may be a link to it.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let root = canonical(path)?;
        let kind =
            root.metadata().map_err(|error| SourceError::Open { path: path.into(), error })?;
        if !kind.is_dir() && !kind.is_file() {
            return Err(SourceError::NotAFile(root));
        }
        Ok(Self { root, rules: Arc::default(), is_file: kind.is_file() })
    }

    fn failed(&self, error: impl Into<io::Error>) -> SourceError {
        SourceError::Open { path: self.root.clone(), error: error.into() }
    }

    fn run_file(
        &self,
        previous: &mut dyn Previous,
        sink: &mut dyn Sink,
    ) -> Result<Report, SourceError> {
        let (Some(parent), Some(name)) = (self.root.parent(), self.root.file_name()) else {
            return Err(SourceError::NotAFile(self.root.clone()));
        };
        let name = CString::new(name.as_bytes()).map_err(|error| self.failed(error))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(parent, flags, Mode::empty()).map_err(|e| self.failed(e))?;
        let stat = statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.failed(e))?;
        // Of a tree the rest is worth having; of a file nothing is left.
        drop(open_regular(parent.as_fd(), &name).map_err(|error| self.failed(error))?);
        let mut report = Report::default();
        let place = (parent.as_fd(), name.as_c_str());
        // Its other names, if there are any, are not part of this.
        offer(place, name.to_bytes(), &stat, previous, sink, &mut report, Keep::Attributes)?;
        Ok(report)
    }
}

impl Source for DirectorySource {
    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn leave_out(&mut self, rules: &Arc<Rules>) {
        self.rules = Arc::clone(rules);
    }

    fn run(
        &mut self,
        previous: &mut dyn Previous,
        sink: &mut dyn Sink,
    ) -> Result<Report, SourceError> {
        if self.is_file {
            return self.run_file(previous, sink);
        }
        let top = open_root(&self.root).map_err(|error| self.failed(error))?;
        let stat = fstat(&top).map_err(|error| self.failed(error))?;
        let mut run = Run {
            rules: &self.rules,
            home: stat.st_dev,
            previous,
            sink,
            report: Report::default(),
        };
        run.attributes(b"", Object::Open(top.as_fd()));
        settle(run.sink.directory(meta_of(b"", &stat)), b"", &mut run.report)?;
        let mut walk = Walk::new(top).map_err(|error| self.failed(error))?;
        if self.rules.heed_markers(&mut walk) {
            let what = "the whole source is marked to be left out: only the marker is kept";
            run.report.note(self.root.as_os_str().as_bytes(), what);
        }
        while let Some(step) = walk.advance() {
            match step {
                Ok(()) => run.visit(&mut walk)?,
                Err(lost) => {
                    let reason = format_args!("not read to its end: {}", lost.error);
                    run.report.fail(&lost.path, reason);
                }
            }
        }
        Ok(run.report)
    }
}

/// A walk under way.
struct Run<'a> {
    rules: &'a Rules,
    /// The source's own file system.
    home: u64,
    previous: &'a mut dyn Previous,
    sink: &'a mut dyn Sink,
    report: Report,
}

impl Run<'_> {
    fn visit(&mut self, walk: &mut Walk) -> Result<(), SourceError> {
        let stat = walk.stat();
        let kind = stat.as_ref().map_or(FileType::Unknown, |s| FileType::from_raw_mode(s.st_mode));
        if self.rules.is_excluded(walk.path(), kind.is_dir()) {
            return Ok(());
        }
        if walk.path().len() > PATH_LEN_MAX {
            let reason =
                format!("path of {} bytes, at most {PATH_LEN_MAX} are kept", walk.path().len());
            self.report.fail(&walk.path()[..256], reason);
            return Ok(());
        }
        let stat = match stat {
            Ok(stat) => stat,
            Err(error) => {
                self.report.fail(walk.path(), error);
                return Ok(());
            }
        };
        match kind {
            FileType::RegularFile => {
                let (previous, sink) = (&mut *self.previous, &mut *self.sink);
                let (place, path) = (walk.place(), walk.path());
                offer(place, path, &stat, previous, sink, &mut self.report, Keep::Everything)
            }
            FileType::Directory => self.visit_directory(walk, &stat),
            FileType::Symlink => match walk.read_link() {
                Ok(target) => {
                    self.entry_attributes(walk);
                    let result = self.sink.symlink(meta_of(walk.path(), &stat), target);
                    settle(result, walk.path(), &mut self.report)
                }
                Err(error) => {
                    self.report.fail(walk.path(), error);
                    Ok(())
                }
            },
            kind => {
                let Some(node) = node_of(kind, &stat) else {
                    let why = "skipped: a socket, which only its program makes";
                    self.report.note(walk.path(), why);
                    return Ok(());
                };
                self.entry_attributes(walk);
                let result = self.sink.node(meta_of(walk.path(), &stat), node);
                settle(result, walk.path(), &mut self.report)
            }
        }
    }

    fn visit_directory(&mut self, walk: &mut Walk, stat: &Stat) -> Result<(), SourceError> {
        let opened = walk.open_directory().and_then(|dir| Ok((fstat(&dir)?, dir)));
        // One that cannot be listed is still an item: the failure is about what is in it.
        let stat = opened.as_ref().map_or(stat, |(stat, _)| stat);
        if let Ok((_, dir)) = &opened {
            self.attributes(walk.path(), Object::Open(dir.as_fd()));
        }
        let result = self.sink.directory(meta_of(walk.path(), stat));
        settle(result, walk.path(), &mut self.report)?;
        if !self.rules.is_entered(stat.st_dev, self.home) {
            return Ok(());
        }
        if let Err(error) = opened.and_then(|(_, dir)| self.rules.enter(walk, dir)) {
            self.report.fail(walk.path(), format_args!("cannot be listed: {error}"));
        }
        Ok(())
    }

    fn entry_attributes(&mut self, walk: &Walk) {
        let (dir, name) = walk.place();
        self.attributes(walk.path(), Object::Entry(dir, name));
    }

    fn attributes(&mut self, path: &[u8], object: Object<'_>) {
        let attributes = read_attributes(path, object, &mut self.report);
        self.sink.attributes(attributes);
    }
}

fn read_attributes(path: &[u8], object: Object<'_>, report: &mut Report) -> Vec<Attribute> {
    object.read().unwrap_or_else(|error| {
        report.fail(path, format_args!("its extended attributes are missing: {error}"));
        Vec::new()
    })
}

/// What of a file is kept beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Attributes,
    /// Attributes and hard links.
    Everything,
}

/// Hands one regular file to the sink, content only: by reference to `previous` where it is unchanged.
pub(super) fn offer_file(
    place: (BorrowedFd<'_>, &CStr),
    path: &[u8],
    stat: &Stat,
    previous: &mut dyn Previous,
    sink: &mut dyn Sink,
    report: &mut Report,
) -> Result<(), SourceError> {
    offer(place, path, stat, previous, sink, report, Keep::Nothing)
}

/// Hands one regular file to the sink: as a further name of one it has, by reference to `previous` where it is
/// unchanged, else by content. `stat` is what the caller saw under that name; what is opened is checked again.
fn offer(
    (dir, name): (BorrowedFd<'_>, &CStr),
    path: &[u8],
    stat: &Stat,
    previous: &mut dyn Previous,
    sink: &mut dyn Sink,
    report: &mut Report,
    keep: Keep,
) -> Result<(), SourceError> {
    let inode_of = |stat: &Stat| Inode::of(stat).filter(|_| keep == Keep::Everything);
    if let Some(inode) = inode_of(stat) {
        match sink.link(&meta_of(path, stat), size_of(stat), inode) {
            Ok(Linked::Taken) => return Ok(()),
            Ok(Linked::Unknown) => {}
            Ok(Linked::Changed) => report.fail(
                path,
                "changed since another of its names was read; restored it will be a file of its own",
            ),
            Err(error) => return settle(Err(error), path, report),
        }
    }
    if let Some(before) = previous.file(path)
        && is_unchanged(&before, stat)
    {
        if let Some(inode) = inode_of(stat) {
            sink.shared(inode);
        }
        match sink.unchanged(meta_of(path, stat), before, stamp_of(stat)) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return settle(Err(error), path, report),
        }
    }
    let (file, stat) = match open_regular(dir, name) {
        Ok(opened) => opened,
        Err(error) => {
            report.fail(path, error);
            return Ok(());
        }
    };
    let stamp = if is_settled(&stat, SystemTime::now()) {
        stamp_of(&stat)
    } else {
        Stamp { ctime: Timestamp { secs: 0, nanos: 0 }, ..stamp_of(&stat) }
    };
    if keep != Keep::Nothing {
        sink.attributes(read_attributes(path, Object::Open(file.as_fd()), report));
    }
    if let Some(inode) = inode_of(&stat) {
        sink.shared(inode);
    }
    // What is appended from now on belongs to the next snapshot; a log that grows faster than it
    // is read must not keep the backup from ending.
    let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
    let mut content = SparseFile::new(&file, size_of(&stat), blocks);
    match sink.sparse_file(meta_of(path, &stat), stamp, &mut content) {
        Ok(read) => {
            let now = fstat(&file).ok();
            let same = now.is_some_and(|now| fingerprint(&now) == fingerprint(&stat));
            if !same || read != size_of(&stat) {
                report.fail(path, "changed while it was read; the snapshot may mix old and new");
            }
            Ok(())
        }
        Err(error) => settle(Err::<(), SinkError>(error), path, report),
    }
}

fn open_regular(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<(File, Stat)> {
    // Not blocking: the name may have become a FIFO since it was looked at.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("replaced by something that is not a regular file"));
    }
    Ok((File::from(fd), stat))
}

fn is_unchanged(before: &PreviousFile, stat: &Stat) -> bool {
    // The device number is left out: it may differ after every boot.
    before.size == size_of(stat)
        && before.meta.mtime == mtime_of(stat)
        && before.stamp.ctime == stamp_of(stat).ctime
        && before.stamp.inode == stat.st_ino
}

fn fingerprint(stat: &Stat) -> (u64, Timestamp, Timestamp) {
    (size_of(stat), mtime_of(stat), stamp_of(stat).ctime)
}

/// Whether a change after `now` is sure to show in the file's times.
fn is_settled(stat: &Stat, now: SystemTime) -> bool {
    let ctime = stamp_of(stat).ctime;
    let tick = if ctime.nanos == 0 { COARSE_TICK } else { TICK };
    let Ok(secs) = u64::try_from(ctime.secs) else { return true };
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::new(secs, ctime.nanos) + tick)
        .is_some_and(|sure| sure < now)
}

pub(super) fn meta_of(path: &[u8], stat: &Stat) -> Meta {
    Meta {
        path: Blob(path.to_vec()),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime_of(stat),
    }
}

pub(super) fn stamp_of(stat: &Stat) -> Stamp {
    Stamp {
        ctime: Timestamp { secs: stat.st_ctime, nanos: stat.st_ctime_nsec as u32 },
        inode: stat.st_ino,
        device: stat.st_dev,
    }
}

fn mtime_of(stat: &Stat) -> Timestamp {
    Timestamp { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 }
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn node_of(kind: FileType, stat: &Stat) -> Option<Node> {
    let kind = match kind {
        FileType::Fifo => return Some(Node { kind: NodeKind::Fifo, major: 0, minor: 0 }),
        FileType::CharacterDevice => NodeKind::CharacterDevice,
        FileType::BlockDevice => NodeKind::BlockDevice,
        _ => return None,
    };
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Some(Node { kind, major, minor })
}

#[cfg(test)]
mod tests;
