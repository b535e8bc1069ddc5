//! Extended attributes of files: which are kept, how they are read and set. Access control lists are two of them.

use protocol::codec::Blob;
use protocol::item::{ATTRIBUTE_VALUE_MAX, ATTRIBUTES_LEN_MAX, Attribute};
use rustix::fs::{
    XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, lgetxattr, llistxattr,
    lremovexattr, lsetxattr,
};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Who may do what, beyond the permission bits.
pub(crate) const ACL: &[u8] = b"system.posix_acl_access";
/// What new entries of a directory get as such.
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Bytes of names that most files fit in; no file has more than [`NAMES_MAX`].
const NAMES: usize = 1024;
/// Most bytes of names (Linux).
const NAMES_MAX: usize = 64 << 10;

/// What has attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Object<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// An entry of an open directory, which is not followed if it is a link.
    Entry(BorrowedFd<'a>, &'a CStr),
}

impl Object<'_> {
    /// The kept attributes, by name.
    pub(crate) fn read(self) -> io::Result<Vec<Attribute>> {
        let (mut attributes, mut size) = (Vec::new(), 0);
        let mut value = Vec::new();
        for name in self.names()?.into_iter().filter(|name| is_kept(name.to_bytes())) {
            value.resize(ATTRIBUTE_VALUE_MAX, 0);
            let len = match self.get(&name, &mut value) {
                Ok(len) => len,
                // Removed meanwhile.
                Err(Errno::NODATA) => continue,
                Err(error) => {
                    let error = io::Error::from(error);
                    return Err(io::Error::other(format!("{}: {error}", name.to_string_lossy())));
                }
            };
            let attribute =
                Attribute { name: Blob(name.into_bytes()), value: Blob(value[..len].to_vec()) };
            size += attribute.size();
            if size > ATTRIBUTES_LEN_MAX {
                let most = format!("more than {ATTRIBUTES_LEN_MAX} bytes, which is the most");
                return Err(io::Error::other(most));
            }
            attributes.push(attribute);
        }
        Ok(attributes)
    }

    /// All names, sorted.
    pub(crate) fn names(self) -> Result<Vec<CString>> {
        let mut small = [0; NAMES];
        let mut large = Vec::new();
        let list = match self.list(&mut small) {
            Ok(len) => &small[..len],
            Err(Errno::RANGE) => {
                large.resize(NAMES_MAX, 0);
                let len = self.list(&mut large)?;
                &large[..len]
            }
            // A file system without them, or a system without /proc to ask about entries.
            Err(Errno::NOTSUP | Errno::NOSYS) => &[],
            Err(Errno::NOENT) if matches!(self, Self::Entry(..)) => &[],
            Err(error) => return Err(error),
        };
        let mut names: Vec<CString> = list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .filter_map(|name| CString::new(name).ok())
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Sets one, whether or not there is one of that name.
    pub(crate) fn set(self, attribute: &Attribute) -> Result<()> {
        let (name, value, flags) = (&attribute.name.0[..], &attribute.value.0, XattrFlags::empty());
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, flags),
            Self::Entry(dir, entry) => lsetxattr(path(dir, entry), name, value, flags),
        }
    }

    pub(crate) fn remove(self, name: &CStr) -> Result<()> {
        match self {
            Self::Open(fd) => fremovexattr(fd, name),
            Self::Entry(dir, entry) => lremovexattr(path(dir, entry), name),
        }
    }

    fn list(self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Open(fd) => flistxattr(fd, buffer),
            Self::Entry(dir, entry) => llistxattr(path(dir, entry), buffer),
        }
    }

    fn get(self, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Open(fd) => fgetxattr(fd, name, buffer),
            Self::Entry(dir, entry) => lgetxattr(path(dir, entry), name, buffer),
        }
    }
}

/// Linux has no calls for attributes relative to a directory (before 6.13).
fn path(dir: BorrowedFd<'_>, name: &CStr) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name.to_bytes()].concat()
}

/// Whether an attribute belongs to the file, and not to the file system that it lies on.
fn is_kept(name: &[u8]) -> bool {
    [&b"user."[..], b"security.", b"trusted."].iter().any(|space| name.starts_with(space))
        || name == ACL
        || name == DEFAULT_ACL
}

/// What people call attributes of this name.
pub(crate) fn kind_of(name: &[u8]) -> &'static str {
    match name {
        ACL | DEFAULT_ACL => "access control lists",
        _ if name.starts_with(b"user.") => "user.* attributes",
        _ if name.starts_with(b"security.") => "security.* attributes",
        _ if name.starts_with(b"trusted.") => "trusted.* attributes",
        _ => "attributes",
    }
}
