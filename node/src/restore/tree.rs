//! Writing a tree below a target directory, whatever the items say.
//!
//! Every path is resolved component by component below the target without following a link, so that
//! no item stream reaches outside it. A file has its final name only when it is whole; until
//! then it is `.strewn-partial-*` beside it. Directories get their metadata last, in
//! [`TreeWriter::finish`], which also flushes everything to the disk.
//!
//! A restore with a [`Marker`] can be interrupted at any moment and continued: what has its name is whole, what has
//! not is filled further.

mod attributes;
mod body;
mod directories;
mod existing;
mod file;
mod link;
mod look;
mod marker;
mod missed;
mod node;
mod place;

pub use body::{Body, Gather};
pub use existing::Overwrite;
pub use file::{Begun, OpenFile};
pub use look::{Content, Planned, TreeReader};
pub use marker::Marker;

use crate::capped::Faults;
use crate::source::attributes::Object;
use directories::Directories;
use existing::Place;
use marker::Held;
use missed::Missed;
use place::{Places, split_path};
use protocol::codec::Blob;
use protocol::item::{Attribute, Meta, Timestamp};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timestamps, Uid, chmod, chownat, fchmod,
    fchown, fstat, futimens, mkdirat, openat, renameat, renameat_with, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Set-user-id, set-group-id: only right together with the right owner.
const SET_ID: u32 = 0o6000;

/// Why something was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The target has something in it.
    #[error("{}: not empty; choose another directory or allow overwriting", .0.display())]
    NotEmpty(PathBuf),
    /// Somebody else restores to it.
    #[error("{}: another restore is writing there", .0.display())]
    Busy(PathBuf),
    /// The target cannot be made or opened.
    #[error("{}: {error}", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The item's path is not one that a snapshot can have.
    #[error("{path:?}: not a path that a snapshot can have")]
    Path {
        /// The path, for people.
        path: String,
    },
    /// A part of the item's path is a link or a file, which is never followed.
    #[error("{path:?}: a part of this path is not a directory; nothing was written")]
    NotADirectory {
        /// The path, for people.
        path: String,
    },
    /// Something has that name already.
    #[error("{path:?}: exists already")]
    Exists {
        /// The path, for people.
        path: String,
    },
    /// Bytes beyond the announced size.
    #[error("{path:?}: {len} bytes at {offset} of a file of {size}")]
    Beyond {
        /// The path, for people.
        path: String,
        /// Where they should go.
        offset: u64,
        /// How many there are.
        len: u64,
        /// The size announced.
        size: u64,
    },
    /// The system refused.
    #[error("{path:?}: {error}")]
    Io {
        /// The path, for people.
        path: String,
        /// What it said.
        #[source]
        error: io::Error,
    },
}

/// How to write.
#[derive(Debug, Clone, Default)]
pub struct TreeOptions {
    /// Write into a directory that is not empty, and replace files and links there by this rule.
    pub overwrite: Option<Overwrite>,
    /// What the restore is known by, if it can be continued.
    pub marker: Option<Marker>,
    /// What is written goes elsewhere from there: it need not be on the disk when the restore is finished, and its mark
    /// stays, so that after a crash nothing of it is believed unread.
    pub is_scratch: bool,
}

/// What a finished restore has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Directories whose metadata could not be set, and why.
    pub failed: Faults,
    /// What people should know.
    pub notes: Vec<String>,
}

/// Writes one tree. Files may be filled and finished from many threads.
#[derive(Debug)]
pub struct TreeWriter {
    places: Places,
    overwrite: Option<Overwrite>,
    held: Option<Held>,
    /// Whether a file of the right size and time is the right one.
    trusts_times: bool,
    is_scratch: bool,
    /// Of temporary names.
    salt: Vec<u8>,
    /// Those that an item named.
    directories: Directories,
    /// What the target itself is to be like.
    top: Option<(Meta, Vec<Attribute>)>,
    /// Of the item that comes next.
    attributes: Vec<Attribute>,
    missed: Missed,
}

impl TreeWriter {
    /// Prepares `target`, which is made if it does not exist: closed to others until an item says
    /// otherwise.
    pub fn new(target: &Path, options: &TreeOptions) -> Result<Self, TreeError> {
        let failed = |error| TreeError::Target { path: target.into(), error };
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed)?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(target, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let mut overwrite = options.overwrite;
        let (mut held, mut trusts_times) = (None, true);
        let salt = if let Some(marker) = &options.marker {
            let mark = marker.hold(target, &root, overwrite.is_some())?;
            if mark.is_resumed {
                trusts_times = mark.is_same_boot;
                overwrite = overwrite.or(Some(Overwrite::IfChanged));
            }
            held = Some(mark);
            marker.salt()
        } else {
            let is_empty = std::fs::read_dir(target).map_err(failed)?.next().is_none();
            if overwrite.is_none() && !is_empty {
                return Err(TreeError::NotEmpty(target.into()));
            }
            getrandom::u64().map_err(|e| failed(e.into()))?.to_le_bytes().to_vec()
        };
        Ok(Self {
            places: Places::new(root),
            overwrite,
            held,
            trusts_times,
            is_scratch: options.is_scratch,
            salt,
            directories: Directories::default(),
            top: None,
            attributes: Vec::new(),
            missed: Missed::default(),
        })
    }

    /// Whether this goes on where an earlier restore was interrupted.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_resumed)
    }

    /// An extended attribute of the item that comes next.
    pub fn attribute(&mut self, attribute: Attribute) {
        self.attributes.push(attribute);
    }

    /// Forgets the attributes of an item that is not restored.
    pub fn skip(&mut self) {
        self.attributes.clear();
    }

    /// Makes a directory, or with an empty path takes the target itself; its metadata is set by
    /// [`TreeWriter::finish`].
    pub fn directory(&mut self, meta: Meta) -> Result<(), TreeError> {
        let attributes = std::mem::take(&mut self.attributes);
        if meta.path.0.is_empty() {
            self.top = Some((meta, attributes));
            return Ok(());
        }
        let (parent, name) = self.place(&meta)?;
        let fail = |error: Errno| io_error(&meta, error);
        // Closed to others, and open to us, until its own permissions are set.
        let private = Mode::from_raw_mode(0o700);
        match mkdirat(&*parent, &name, private) {
            Err(Errno::EXIST) => {
                let found = statat(&*parent, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                if FileType::from_raw_mode(found.st_mode).is_dir() {
                    open_up(&parent, &name, found.st_mode).map_err(fail)?;
                } else {
                    if !matches!(self.look(&parent, &name, &meta)?, Place::Taken) {
                        return Err(TreeError::Exists { path: shown(&meta) });
                    }
                    unlinkat(&*parent, &name, AtFlags::empty()).map_err(fail)?;
                    mkdirat(&*parent, &name, private).map_err(fail)?;
                }
            }
            other => other.map_err(fail)?,
        }
        self.directories.push(meta, attributes);
        Ok(())
    }

    /// Makes a symbolic link. Where it points is not looked at. Whether it was made: what is there may be kept.
    pub fn symlink(&mut self, meta: &Meta, target: &[u8]) -> Result<bool, TreeError> {
        let attributes = std::mem::take(&mut self.attributes);
        let (parent, name) = self.place(meta)?;
        let fail = |error: Errno| io_error(meta, error);
        match self.look(&parent, &name, meta)? {
            Place::Kept => return Ok(false),
            Place::Free => symlinkat(target, &*parent, &name).map_err(fail)?,
            Place::Taken => {
                let temporary = self.free_temporary(&parent, &name);
                symlinkat(target, &*parent, &temporary).map_err(fail)?;
                if let Err(error) = renameat(&*parent, &temporary, &*parent, &name) {
                    // The error that counts is the one before.
                    let _ = unlinkat(&*parent, &temporary, AtFlags::empty());
                    return Err(fail(error));
                }
            }
        }
        let (uid, gid) = owner(meta);
        if let Err(error) = chownat(&*parent, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            self.missed.owner(meta, error);
        }
        self.set_attributes(Object::Entry(parent.as_fd(), &name), meta, &attributes);
        utimensat(&*parent, &name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        Ok(true)
    }

    /// Sets the metadata of the directories, deepest first, and flushes everything to the disk, but for scratch.
    /// One that is not complete can go on.
    pub fn finish(mut self, is_complete: bool) -> Result<TreeReport, TreeError> {
        let mut report = TreeReport::default();
        // In path order what lies below comes after, so the reverse never closes a directory (or
        // changes its time) that is still needed.
        while let Some((meta, attributes)) = self.directories.pop() {
            self.dress(&meta, &attributes, &mut report);
        }
        let failed = |error: Errno| TreeError::Io { path: String::new(), error: error.into() };
        if !self.is_scratch {
            rustix::fs::syncfs(self.places.root()).map_err(failed)?;
        }
        // Removing the marker changes the time of the top.
        let is_done = is_complete && !self.is_scratch;
        if let Some(held) = self.held.take().filter(|_| is_done) {
            held.remove().map_err(|error| TreeError::Io { path: String::new(), error })?;
        }
        if let Some((meta, attributes)) = self.top.take() {
            self.dress(&meta, &attributes, &mut report);
        }
        if !self.is_scratch {
            rustix::fs::fsync(self.places.root()).map_err(failed)?;
        }
        report.notes = self.missed.notes();
        Ok(report)
    }

    /// Sets the metadata of a directory.
    fn dress(&mut self, meta: &Meta, attributes: &[Attribute], report: &mut TreeReport) {
        let opened = self.places.directory(&meta.path.0, false);
        if let Err(error) = opened.and_then(|dir| self.apply(&*dir, meta, attributes)) {
            report.failed.push((shown(meta), io::Error::from(error).to_string()));
        }
    }

    fn apply(
        &self,
        fd: impl AsFd,
        meta: &Meta,
        attributes: &[Attribute],
    ) -> rustix::io::Result<()> {
        let found = fstat(&fd)?;
        let mut mode = meta.mode & 0o7777;
        if (found.st_uid, found.st_gid) != (meta.uid, meta.gid) {
            let (uid, gid) = owner(meta);
            let changed = fchown(&fd, uid, gid);
            if changed.is_err() || uid.is_none() || gid.is_none() {
                self.missed.owner(meta, changed.err().unwrap_or(Errno::INVAL));
                mode &= !SET_ID;
            }
        }
        // After the owner, whose change takes capabilities away; before the permissions, which may forbid it.
        self.set_attributes(Object::Open(fd.as_fd()), meta, attributes);
        fchmod(&fd, Mode::from_raw_mode(mode))?;
        futimens(&fd, &times(meta.mtime))
    }

    /// The directory that an item goes into, made if need be, and its name there.
    fn place(&mut self, meta: &Meta) -> Result<(Arc<OwnedFd>, CString), TreeError> {
        let bad = || TreeError::Path { path: shown(meta) };
        let (parent, name) = split_path(&meta.path.0).ok_or_else(bad)?;
        let name = CString::new(name).map_err(|_| bad())?;
        match self.places.directory(parent, true) {
            Ok(dir) => Ok((dir, name)),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(TreeError::NotADirectory { path: shown(meta) }),
            Err(error) => Err(io_error(meta, error)),
        }
    }
}

/// Lets the owner into a directory that is there already, until its own permissions are set.
fn open_up(parent: &OwnedFd, name: &CStr, mode: u32) -> rustix::io::Result<()> {
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    // Whoever put something else there in between must not have its permissions changed.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(parent, name, flags, Mode::empty())?;
    let itself = format!("/proc/self/fd/{}", dir.as_raw_fd());
    chmod(&itself, Mode::from_raw_mode(mode & 0o7777 | 0o700))
}

/// Renames without replacing, also where the file system has no such call.
fn rename_new(dir: &OwnedFd, temporary: &CStr, name: &CStr) -> rustix::io::Result<()> {
    match renameat_with(dir, temporary, dir, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Err(Errno::EXIST);
            }
            renameat(dir, temporary, dir, name)
        }
        other => other,
    }
}

/// Owner and group; the value that means "leave it" to the system is none.
fn owner(meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    let is_id = |id: &u32| *id != u32::MAX;
    (
        Some(meta.uid).filter(is_id).map(Uid::from_raw),
        Some(meta.gid).filter(is_id).map(Gid::from_raw),
    )
}

fn times(mtime: Timestamp) -> Timestamps {
    let nanos = i64::from(mtime.nanos.min(999_999_999));
    let time = rustix::fs::Timespec { tv_sec: mtime.secs, tv_nsec: nanos };
    Timestamps { last_access: time, last_modification: time }
}

fn io_error(meta: &Meta, error: Errno) -> TreeError {
    TreeError::Io { path: shown(meta), error: error.into() }
}

fn shown(meta: &Meta) -> String {
    let Blob(path) = &meta.path;
    String::from_utf8_lossy(path).chars().take(1000).collect()
}

#[cfg(test)]
mod tests;
