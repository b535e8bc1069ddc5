//! A directory tree as a source: regular files, directories and symbolic links.
//!
//! Kept are names (raw bytes), permission bits, owners, modification times to the nanosecond and
//! content. Hard links become files of their own (their content is stored once all the same).
//! Sockets, FIFOs and devices are named in the report's notes; extended attributes are not kept.

use super::walk::{Walk, open_root};
use super::{
    PATH_LEN_MAX, Previous, PreviousFile, Report, Sink, SinkError, Source, SourceError, canonical,
    settle,
};
use protocol::codec::Blob;
use protocol::item::{Meta, SourceKind, Stamp, Timestamp};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file changed this short before it was read may change again without its times showing it:
/// kernels stamp with the last timer tick (10 ms at 100 Hz).
const TICK: Duration = Duration::from_millis(20);

/// The same for file systems that keep whole seconds (FAT: two).
const COARSE_TICK: Duration = Duration::from_secs(2);

/// A directory tree.
#[derive(Debug)]
pub struct DirectorySource {
    root: PathBuf,
}

impl DirectorySource {
    /// The tree below `path`, which may be a link to a directory.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let root = canonical(path)?;
        if !root.is_dir() {
            return Err(SourceError::NotADirectory(root));
        }
        Ok(Self { root })
    }
}

impl Source for DirectorySource {
    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn run(
        &mut self,
        previous: &mut dyn Previous,
        sink: &mut dyn Sink,
    ) -> Result<Report, SourceError> {
        let open = |error| SourceError::Open { path: self.root.clone(), error };
        let top = open_root(&self.root).map_err(open)?;
        let mut report = Report::default();
        let stat = fstat(&top).map_err(|error| open(error.into()))?;
        settle(sink.directory(meta_of(b"", &stat)), b"", &mut report)?;
        let mut walk = Walk::new(top).map_err(open)?;
        while let Some(step) = walk.advance() {
            match step {
                Ok(()) => visit(&mut walk, previous, sink, &mut report)?,
                Err(lost) => {
                    report.fail(&lost.path, format_args!("not read to its end: {}", lost.error));
                }
            }
        }
        Ok(report)
    }
}

fn visit(
    walk: &mut Walk,
    previous: &mut dyn Previous,
    sink: &mut dyn Sink,
    report: &mut Report,
) -> Result<(), SourceError> {
    if walk.path().len() > PATH_LEN_MAX {
        let reason =
            format!("path of {} bytes, at most {PATH_LEN_MAX} are kept", walk.path().len());
        report.fail(&walk.path()[..256], reason);
        return Ok(());
    }
    let stat = match walk.stat() {
        Ok(stat) => stat,
        Err(error) => {
            report.fail(walk.path(), error);
            return Ok(());
        }
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            offer_file(walk.place(), walk.path(), &stat, previous, sink, report)
        }
        FileType::Directory => visit_directory(walk, &stat, sink, report),
        FileType::Symlink => match walk.read_link() {
            Ok(target) => {
                let result = sink.symlink(meta_of(walk.path(), &stat), target);
                settle(result, walk.path(), report)
            }
            Err(error) => {
                report.fail(walk.path(), error);
                Ok(())
            }
        },
        kind => {
            report.note(walk.path(), &format!("skipped: {}", special(kind)));
            Ok(())
        }
    }
}

fn visit_directory(
    walk: &mut Walk,
    stat: &Stat,
    sink: &mut dyn Sink,
    report: &mut Report,
) -> Result<(), SourceError> {
    let opened = walk.open_directory().and_then(|dir| Ok((fstat(&dir)?, dir)));
    // One that cannot be listed is still an item: the failure is about what is in it.
    let stat = opened.as_ref().map_or(stat, |(stat, _)| stat);
    settle(sink.directory(meta_of(walk.path(), stat)), walk.path(), report)?;
    if let Err(error) = opened.and_then(|(_, dir)| walk.enter(dir)) {
        report.fail(walk.path(), format_args!("cannot be listed: {error}"));
    }
    Ok(())
}

/// Hands one regular file to the sink: by reference to `previous` where it is unchanged, else by
/// content. `stat` is what the caller saw under that name; what is opened is checked again.
pub(super) fn offer_file(
    (dir, name): (BorrowedFd<'_>, &CStr),
    path: &[u8],
    stat: &Stat,
    previous: &mut dyn Previous,
    sink: &mut dyn Sink,
    report: &mut Report,
) -> Result<(), SourceError> {
    if let Some(before) = previous.file(path)
        && is_unchanged(&before, stat)
    {
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
    // What is appended from now on belongs to the next snapshot; a log that grows faster than it
    // is read must not keep the backup from ending.
    let mut content = (&file).take(size_of(&stat));
    match sink.file(meta_of(path, &stat), stamp, &mut content) {
        Ok(read) => {
            let now = fstat(&file).ok();
            let same = now.is_some_and(|now| fingerprint(&now) == fingerprint(&stat));
            if !same || read != size_of(&stat) {
                report.note(path, "changed while it was read; the snapshot may mix old and new");
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

fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "of an unknown kind",
    }
}

#[cfg(test)]
mod tests;
