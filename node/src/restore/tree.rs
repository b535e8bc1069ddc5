//! Writing a tree below a target directory, whatever the items say.
//!
//! Every path is resolved component by component below the target without following a link, so that
//! no item stream reaches outside it. A file has its final name only when it is whole; until
//! then it is `.strewn-partial-*` beside it. Directories get their metadata last, in
//! [`TreeWriter::finish`], which also flushes everything to the disk.

mod attributes;
mod bulk;
mod link;
mod missed;
mod node;
mod place;

use crate::source::attributes::Object;
use bulk::Bulk;
use missed::Missed;
use place::{Places, split_path};
use protocol::codec::Blob;
use protocol::item::{Attribute, Meta, Timestamp};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags, Timestamps, Uid, chownat, fchmod, fchown, fstat,
    ftruncate, futimens, mkdirat, openat, renameat, renameat_with, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
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
#[derive(Debug, Clone, Copy, Default)]
pub struct TreeOptions {
    /// Write into a directory that is not empty, and replace files and links there. What no item
    /// names stays.
    pub overwrite: bool,
}

/// What a finished restore has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Directories whose metadata could not be set, and why.
    pub failed: Vec<(String, String)>,
    /// What people should know.
    pub notes: Vec<String>,
}

/// Writes one tree. Files may be filled and finished from many threads.
#[derive(Debug)]
pub struct TreeWriter {
    places: Places,
    options: TreeOptions,
    /// Those that an item named, in the order of arrival.
    directories: Vec<(Meta, Vec<Attribute>)>,
    /// Of the item that comes next.
    attributes: Vec<Attribute>,
    missed: Missed,
    serial: u64,
}

/// A file that is being written, under a temporary name. Dropped unfinished, it is removed.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    bulk: Option<Bulk>,
    size: u64,
    meta: Meta,
    attributes: Vec<Attribute>,
    dir: Arc<OwnedFd>,
    temporary: CString,
    name: CString,
    /// Whether the temporary name is still there.
    pending: bool,
}

impl TreeWriter {
    /// Prepares `target`, which is made if it does not exist: closed to others until an item says
    /// otherwise.
    pub fn new(target: &Path, options: TreeOptions) -> Result<Self, TreeError> {
        let failed = |error| TreeError::Target { path: target.into(), error };
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed)?,
        }
        if !options.overwrite && std::fs::read_dir(target).map_err(failed)?.next().is_some() {
            return Err(TreeError::NotEmpty(target.into()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(target, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let serial = getrandom::u64().map_err(|e| failed(e.into()))?;
        Ok(Self {
            places: Places::new(root),
            options,
            directories: Vec::new(),
            attributes: Vec::new(),
            missed: Missed::default(),
            serial,
        })
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
            self.directories.push((meta, attributes));
            return Ok(());
        }
        let (parent, name) = self.place(&meta)?;
        let fail = |error: Errno| io_error(&meta, error);
        // Closed to others, and open to us, until its own permissions are set.
        let private = Mode::from_raw_mode(0o700);
        match mkdirat(&*parent, &name, private) {
            Err(Errno::EXIST) => {
                let found = statat(&*parent, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir() {
                    if !self.options.overwrite {
                        return Err(TreeError::Exists { path: shown(&meta) });
                    }
                    unlinkat(&*parent, &name, AtFlags::empty()).map_err(fail)?;
                    mkdirat(&*parent, &name, private).map_err(fail)?;
                }
            }
            other => other.map_err(fail)?,
        }
        self.directories.push((meta, attributes));
        Ok(())
    }

    /// Makes a symbolic link. Where it points is not looked at.
    pub fn symlink(&mut self, meta: &Meta, target: &[u8]) -> Result<(), TreeError> {
        let attributes = std::mem::take(&mut self.attributes);
        let (parent, name) = self.place(meta)?;
        let fail = |error: Errno| io_error(meta, error);
        match symlinkat(target, &*parent, &name) {
            Err(Errno::EXIST) if self.options.overwrite => {
                let temporary = self.temporary();
                symlinkat(target, &*parent, &temporary).map_err(fail)?;
                if let Err(error) = renameat(&*parent, &temporary, &*parent, &name) {
                    // The error that counts is the one before.
                    let _ = unlinkat(&*parent, &temporary, AtFlags::empty());
                    return Err(fail(error));
                }
            }
            Err(Errno::EXIST) => return Err(TreeError::Exists { path: shown(meta) }),
            other => other.map_err(fail)?,
        }
        let (uid, gid) = owner(meta);
        if let Err(error) = chownat(&*parent, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            self.missed.owner(meta, error);
        }
        self.set_attributes(Object::Entry(parent.as_fd(), &name), meta, &attributes);
        utimensat(&*parent, &name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
    }

    /// Begins a file of `size` bytes, all zero so far.
    pub fn begin_file(&mut self, meta: &Meta, size: u64) -> Result<OpenFile, TreeError> {
        let attributes = std::mem::take(&mut self.attributes);
        let (dir, name) = self.place(meta)?;
        let fail = |error: Errno| io_error(meta, error);
        let temporary = self.temporary();
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&*dir, &temporary, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
        let file = File::from(fd);
        let bulk = Bulk::open(&*dir, &temporary, size);
        let meta = meta.clone();
        let open =
            OpenFile { file, bulk, size, meta, attributes, dir, temporary, name, pending: true };
        ftruncate(&open.file, size).map_err(|error| io_error(&open.meta, error))?;
        Ok(open)
    }

    /// Gives a file its owner, permissions, time and, last, its name. May be called from any thread.
    pub fn finish_file(&self, mut open: OpenFile) -> Result<(), TreeError> {
        let meta = open.meta.clone();
        let fail = |error: Errno| io_error(&meta, error);
        self.apply(&open.file, &meta, &open.attributes).map_err(fail)?;
        self.name(&open.dir, &open.temporary, &open.name, &meta)?;
        open.pending = false;
        Ok(())
    }

    /// Gives what has a temporary name its own.
    fn name(
        &self,
        dir: &OwnedFd,
        temporary: &CStr,
        name: &CStr,
        meta: &Meta,
    ) -> Result<(), TreeError> {
        let named = if self.options.overwrite {
            renameat(dir, temporary, dir, name)
        } else {
            rename_new(dir, temporary, name)
        };
        match named {
            Err(Errno::EXIST) => Err(TreeError::Exists { path: shown(meta) }),
            other => other.map_err(|error| io_error(meta, error)),
        }
    }

    /// Sets the metadata of the directories, deepest first, and flushes everything to the disk.
    pub fn finish(mut self) -> Result<TreeReport, TreeError> {
        let mut report = TreeReport::default();
        // In path order what lies below comes after, so the reverse never closes a directory (or
        // changes its time) that is still needed.
        let mut directories = std::mem::take(&mut self.directories);
        directories.sort_by(|(a, _), (b, _)| protocol::item::path_cmp(&b.path.0, &a.path.0));
        for (meta, attributes) in &directories {
            let opened = self.places.directory(&meta.path.0, false);
            if let Err(error) = opened.and_then(|dir| self.apply(&*dir, meta, attributes)) {
                report.failed.push((shown(meta), io::Error::from(error).to_string()));
            }
        }
        report.notes = self.missed.notes();
        let root = self.places.root();
        rustix::fs::syncfs(root)
            .map_err(|error| TreeError::Io { path: String::new(), error: error.into() })?;
        Ok(report)
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

    fn temporary(&mut self) -> CString {
        self.serial = self.serial.wrapping_add(1);
        CString::new(format!(".strewn-partial-{:016x}", self.serial))
            .expect("hex digits hold no NUL")
    }
}

impl OpenFile {
    /// Writes `bytes` at `offset`. May be called from many threads at once.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), TreeError> {
        let len = bytes.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            let path = shown(&self.meta);
            return Err(TreeError::Beyond { path, offset, len, size: self.size });
        }
        let written = match &self.bulk {
            Some(bulk) => bulk.write_at(&self.file, bytes, offset),
            None => self.file.write_all_at(bytes, offset),
        };
        written.map_err(|error| TreeError::Io { path: shown(&self.meta), error })
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.pending {
            // If this fails, a file with a telling name stays behind: nothing worse.
            let _ = unlinkat(&*self.dir, &self.temporary, AtFlags::empty());
        }
    }
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
