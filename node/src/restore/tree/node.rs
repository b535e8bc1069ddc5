//! Devices and FIFOs.

use super::existing::Place;
use super::{TreeError, TreeWriter, io_error, owner, times};
use crate::source::Node;
use crate::source::attributes::Object;
use protocol::item::{Attribute, Meta, NodeKind};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, chmod, chownat, fstat, makedev, mknodat, openat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

impl TreeWriter {
    /// Makes a special file. A device that may not be made is counted and left out. Whether that was done: what is
    /// there may be kept.
    pub fn node(&mut self, meta: &Meta, node: Node) -> Result<bool, TreeError> {
        let attributes = std::mem::take(&mut self.attributes);
        let (dir, name) = self.place(meta)?;
        if let Place::Kept = self.look(&dir, &name, meta)? {
            return Ok(false);
        }
        let temporary = self.free_temporary(&dir, &name);
        let kind = match node.kind {
            NodeKind::Fifo => FileType::Fifo,
            NodeKind::CharacterDevice => FileType::CharacterDevice,
            NodeKind::BlockDevice => FileType::BlockDevice,
        };
        let device = if kind.is_fifo() { 0 } else { makedev(node.major, node.minor) };
        match mknodat(&*dir, &temporary, kind, Mode::from_raw_mode(0o600), device) {
            Err(error @ (Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL)) => {
                self.missed.add("special files", "only root can make devices", meta, error);
                return Ok(true);
            }
            made => made.map_err(|error| io_error(meta, error))?,
        }
        let named = self
            .dress_node(&dir, &temporary, kind, meta, &attributes)
            .map_err(|error| io_error(meta, error))
            .and_then(|()| self.name(&dir, &temporary, &name, meta));
        if named.is_err() {
            // The error that counts is the one before.
            let _ = unlinkat(&*dir, &temporary, AtFlags::empty());
        }
        named.map(|()| true)
    }

    fn dress_node(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        kind: FileType,
        meta: &Meta,
        attributes: &[Attribute],
    ) -> rustix::io::Result<()> {
        // Opening a device may do something, and a FIFO waits; and whoever put something else there in
        // between must not have its permissions changed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(dir, name, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != kind {
            return Err(Errno::EXIST);
        }
        let (uid, gid) = owner(meta);
        if let Err(error) = chownat(&fd, c"", uid, gid, AtFlags::EMPTY_PATH) {
            self.missed.owner(meta, error);
        }
        self.set_attributes(Object::Entry(dir.as_fd(), name), meta, attributes);
        let itself = format!("/proc/self/fd/{}", fd.as_raw_fd());
        chmod(&itself, Mode::from_raw_mode(meta.mode & 0o7777))?;
        utimensat(CWD, &itself, &times(meta.mtime), AtFlags::empty())
    }
}
