//! Files: written under a temporary name, from what is fetched and from what is there already.
//!
//! What an earlier restore left under the temporary name is continued, and where a file is to be replaced, its content
//! is used; neither counts before the caller has looked at it, chunk by chunk. A file that turns out to be
//! the same is not written at all.

use super::body::Body;
use super::existing::{Overwrite, Place, mtime};
use super::{TreeError, TreeWriter, io_error, rename_new, shown};
use crate::source::Content;
use crate::source::sparse::SparseFile;
use protocol::item::{Attribute, Meta};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, fstat, ftruncate, openat, renameat, seek, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes copied at once.
const COPY: usize = 256 << 10;

/// How a file is begun.
#[derive(Debug)]
pub enum Begun {
    /// It is to be filled and finished.
    Write(Box<OpenFile>),
    /// It is there already, by size and time; if it may be written over, it has its metadata now.
    Same,
    /// What is there is kept, whatever it is.
    Kept,
}

/// A file that is being written, under a temporary name. Dropped unfinished, it is removed, unless the restore can be
/// continued.
#[derive(Debug)]
pub struct OpenFile {
    body: Arc<Body>,
    meta: Meta,
    attributes: Vec<Attribute>,
    dir: Arc<OwnedFd>,
    temporary: CString,
    name: CString,
    /// Whether the temporary name is to be removed when this is dropped.
    is_doomed: bool,
    /// Whether an earlier restore left something in it.
    is_continued: bool,
    old: Option<Old>,
}

/// The file that is to be replaced.
#[derive(Debug)]
struct Old {
    file: File,
    blocks: u64,
    /// As far as everything is the same nothing is written.
    same_to: u64,
    differs: bool,
}

impl TreeWriter {
    /// Begins a file of `size` bytes. What is not filled is zero.
    pub fn begin_file(&mut self, meta: &Meta, size: u64) -> Result<Begun, TreeError> {
        let attributes = std::mem::take(&mut self.attributes);
        let (dir, name) = self.place(meta)?;
        let is_kept = match self.look(&dir, &name, meta)? {
            Place::Free => None,
            Place::Taken => Some(false),
            Place::Kept => Some(true),
        };
        let mut old = None;
        if let Some((file, stat)) = is_kept.and_then(|_| Self::old(&dir, &name)) {
            let is_size = u64::try_from(stat.st_size) == Ok(size);
            let is_same = is_size && mtime(&stat) == meta.mtime && self.trusts_times;
            if is_same && is_kept == Some(true) {
                return Ok(Begun::Same);
            }
            if is_same
                && self.overwrite == Some(Overwrite::IfChanged)
                && self.apply(&file, meta, &attributes).is_ok()
            {
                return Ok(Begun::Same);
            }
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            old = Some(Old { file, blocks, same_to: 0, differs: !is_size });
        }
        if is_kept == Some(true) {
            return Ok(Begun::Kept);
        }
        let temporary = self.temporary(&name);
        let left = self.held.as_ref().and_then(|_| left(&dir, &temporary, size));
        let is_continued = left.is_some();
        if is_continued && let Some(old) = &mut old {
            old.differs = true;
        }
        let file = match left {
            Some(file) => file,
            None => create(&dir, &temporary).map_err(|error| io_error(meta, error))?,
        };
        let body = Arc::new(Body::new(file, &*dir, &temporary, size, shown(meta)));
        let mut open = OpenFile {
            body,
            meta: meta.clone(),
            attributes,
            dir,
            temporary,
            name,
            is_doomed: true,
            is_continued,
            old,
        };
        ftruncate(&open.body.file, size).map_err(|error| io_error(meta, error))?;
        open.is_doomed = self.held.is_none();
        Ok(Begun::Write(Box::new(open)))
    }

    /// Gives a file its owner, permissions, time and, last, its name. Whether it was another one before. May be
    /// called from any thread.
    pub fn finish_file(&self, mut open: OpenFile) -> Result<bool, TreeError> {
        if let Some(old) = &open.old
            && !old.differs
            && self.apply(&old.file, &open.meta, &open.attributes).is_ok()
        {
            open.is_doomed = true;
            return Ok(false);
        }
        open.part_from_old()?;
        let fail = |error: Errno| io_error(&open.meta, error);
        self.apply(&open.body.file, &open.meta, &open.attributes).map_err(fail)?;
        self.name(&open.dir, &open.temporary, &open.name, &open.meta)?;
        open.is_doomed = false;
        Ok(true)
    }

    /// Gives what has a temporary name its own.
    pub(super) fn name(
        &self,
        dir: &OwnedFd,
        temporary: &CStr,
        name: &CStr,
        meta: &Meta,
    ) -> Result<(), TreeError> {
        let named = if self.overwrite.is_some() {
            renameat(dir, temporary, dir, name)
        } else {
            rename_new(dir, temporary, name)
        };
        match named {
            Err(Errno::EXIST) => Err(TreeError::Exists { path: shown(meta) }),
            other => other.map_err(|error| io_error(meta, error)),
        }
    }
}

/// What an earlier restore left of a file of this size, if it is ours alone.
pub(super) fn left(dir: &OwnedFd, temporary: &CStr, size: u64) -> Option<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(dir, temporary, flags, Mode::empty()).ok()?);
    let stat = fstat(&file).ok()?;
    let is_ours = FileType::from_raw_mode(stat.st_mode).is_file()
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_mode & 0o7777 == 0o600
        && stat.st_nlink == 1
        && u64::try_from(stat.st_size) == Ok(size);
    is_ours.then_some(file)
}

fn create(dir: &OwnedFd, temporary: &CStr) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    match openat(dir, temporary, flags, mode) {
        Err(Errno::EXIST) => {
            unlinkat(dir, temporary, AtFlags::empty())?;
            openat(dir, temporary, flags, mode)
        }
        other => other,
    }
    .map(File::from)
}

impl OpenFile {
    /// What it is filled through, from any thread.
    #[must_use]
    pub fn body(&self) -> &Arc<Body> {
        &self.body
    }

    /// Whether the bytes at `offset` are here already: those of which `is_right` says so. `room` is as long as they
    /// are. Pieces are asked for in order.
    pub fn take_over(
        &mut self,
        offset: u64,
        room: &mut [u8],
        is_right: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, TreeError> {
        self.body.check(offset, room.len() as u64)?;
        if self.is_continued && self.body.file.read_exact_at(room, offset).is_ok() && is_right(room)
        {
            return Ok(true);
        }
        let Some(old) = &mut self.old else { return Ok(false) };
        if old.file.read_exact_at(room, offset).is_ok() && is_right(room) {
            if old.differs {
                self.body.write_at(offset, room)?;
            } else {
                old.same_to = offset + room.len() as u64;
            }
            return Ok(true);
        }
        self.part_from_old()?;
        Ok(false)
    }

    /// Zeros that take no space.
    pub fn hole(&mut self, offset: u64, len: u64) -> Result<(), TreeError> {
        self.body.check(offset, len)?;
        let Some(old) = self.old.as_mut().filter(|old| !old.differs) else { return Ok(()) };
        match seek(&old.file, SeekFrom::Data(offset)) {
            Err(Errno::NXIO) => {}
            Ok(data) if data >= offset + len => {}
            _ => return self.part_from_old(),
        }
        old.same_to = offset + len;
        Ok(())
    }

    /// The file that is to be replaced is another one: what is the same so far is copied.
    fn part_from_old(&mut self) -> Result<(), TreeError> {
        let Some(old) = self.old.as_mut().filter(|old| !old.differs) else { return Ok(()) };
        old.differs = true;
        let Some(old) = &self.old else { return Ok(()) };
        self.copy(&old.file, old.same_to, old.blocks)
    }

    /// Copies the first bytes of another file.
    pub(super) fn copy(&self, from: &File, to: u64, blocks: u64) -> Result<(), TreeError> {
        let mut content = SparseFile::new(from, to, blocks);
        let (mut buffer, mut at) = (vec![0; COPY], 0);
        loop {
            let read = content.read(&mut buffer).map_err(|error| self.body.failed(error))?;
            self.body.write_at(at, &buffer[..read])?;
            let hole = if read == 0 {
                content.hole().map_err(|error| self.body.failed(error))?
            } else {
                0
            };
            if read == 0 && hole == 0 {
                return Ok(());
            }
            at += read as u64 + hole;
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.is_doomed {
            // If this fails, a file with a telling name stays behind: nothing worse.
            let _ = unlinkat(&*self.dir, &self.temporary, AtFlags::empty());
        }
    }
}
