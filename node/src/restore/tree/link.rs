//! Hard links: further names of files that have theirs already.

use super::existing::Place;
use super::{Begun, TreeError, TreeWriter, io_error, shown, split_path};
use crate::source::attributes::Object;
use protocol::item::Meta;
use rustix::fs::{AtFlags, Mode, OFlags, fstat, linkat, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

impl TreeWriter {
    /// Gives the finished file at `first` one more name. Where the file system has no such links, it is copied. Whether
    /// that was done: what is there may be kept.
    pub fn link(&mut self, meta: &Meta, first: &[u8]) -> Result<bool, TreeError> {
        self.skip();
        let (from, file) = self.find(meta, first)?;
        let (dir, name) = self.place(meta)?;
        let fail = |error: Errno| io_error(meta, error);
        let made = match self.look(&dir, &name, meta)? {
            Place::Kept => return Ok(false),
            Place::Free => linkat(&*from, &file, &*dir, &name, AtFlags::empty()),
            Place::Taken => {
                let temporary = self.free_temporary(&dir, &name);
                linkat(&*from, &file, &*dir, &temporary, AtFlags::empty()).and_then(|()| {
                    let renamed = renameat(&*dir, &temporary, &*dir, &name);
                    // If both are names of one file already, renaming leaves both there.
                    match unlinkat(&*dir, &temporary, AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT) => renamed,
                        Err(error) => renamed.and(Err(error)),
                    }
                })
            }
        };
        match made {
            Err(Errno::EXIST) => Err(TreeError::Exists { path: shown(meta) }),
            Err(
                error
                @ (Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::XDEV),
            ) => {
                self.missed.add("hard links", "they are copies now", meta, error);
                self.copy(meta, &from, &file)
            }
            other => other.map_err(fail).map(|()| true),
        }
    }

    /// The directory of a finished file, and its name there.
    pub(super) fn find(
        &mut self,
        meta: &Meta,
        path: &[u8],
    ) -> Result<(Arc<OwnedFd>, CString), TreeError> {
        let bad = || TreeError::Path { path: shown(meta) };
        let (parent, name) = split_path(path).ok_or_else(bad)?;
        let name = CString::new(name).map_err(|_| bad())?;
        let dir = self.places.directory(parent, false).map_err(|error| io_error(meta, error))?;
        Ok((dir, name))
    }

    pub(super) fn copy(
        &mut self,
        meta: &Meta,
        from: &OwnedFd,
        file: &CString,
    ) -> Result<bool, TreeError> {
        let fail = |error: io::Error| TreeError::Io { path: shown(meta), error };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(from, file, flags, Mode::empty()).map_err(|error| fail(error.into()))?;
        let stat = fstat(&fd).map_err(|error| fail(error.into()))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.attributes = Object::Open(fd.as_fd()).read().map_err(fail)?;
        let Begun::Write(open) = self.begin_file(meta, size)? else { return Ok(false) };
        open.copy(&File::from(fd), size, u64::try_from(stat.st_blocks).unwrap_or(0))?;
        self.finish_file(*open)
    }
}
