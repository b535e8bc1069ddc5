//! Walking a directory tree safely: sorted, relative to open directories, never through a link.
//!
//! Neither depth nor path length is bounded by the stack, by `PATH_MAX` or by the number of open
//! files. What becomes of an entry is the caller's business.

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Directories kept open at once; those further up are opened again on the way back.
const OPEN_MAX: usize = 64;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory whose entries are being visited.
struct Frame {
    /// Closed while the walk is far below.
    dir: Option<OwnedFd>,
    /// Device and inode, to know it again.
    identity: (u64, u64),
    names: std::vec::IntoIter<CString>,
    /// Length of its own path, without a slash at the end.
    path_len: usize,
}

/// A walk through a tree. [`Walk::advance`] steps to the next entry; directories are entered only
/// when the caller says so.
pub(super) struct Walk {
    root: OwnedFd,
    stack: Vec<Frame>,
    /// Frames below this one are closed, but for the root's.
    first_open: usize,
    path: Vec<u8>,
    name: CString,
}

/// A directory whose remaining entries were not reached.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) path: Vec<u8>,
    pub(super) error: io::Error,
}

impl Walk {
    /// Starts at the directory `root`; its entries come first.
    pub(super) fn new(root: OwnedFd) -> io::Result<Self> {
        let frame = frame(root.try_clone()?, 0)?;
        Ok(Self {
            root,
            stack: vec![frame],
            first_open: 0,
            path: Vec::new(),
            name: CString::default(),
        })
    }

    /// Steps to the next entry. `None` at the end.
    pub(super) fn advance(&mut self) -> Option<Result<(), Lost>> {
        loop {
            let depth = self.stack.len().checked_sub(1)?;
            let frame = &mut self.stack[depth];
            self.path.truncate(frame.path_len);
            let Some(name) = frame.names.next() else {
                let left = self.stack.pop()?;
                if let Err(error) = self.reopen_top(left.dir.as_ref()) {
                    let path_len = self.stack.last().map_or(0, |frame| frame.path_len);
                    self.path.truncate(path_len);
                    if let Some(frame) = self.stack.last_mut() {
                        frame.names = Vec::new().into_iter();
                    }
                    return Some(Err(Lost { path: self.path.clone(), error }));
                }
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            self.name = name;
            return Some(Ok(()));
        }
    }

    /// The current entry's path, relative to the root.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The current entry's directory and name in it.
    pub(super) fn place(&self) -> (BorrowedFd<'_>, &CStr) {
        let dir = self.stack.last().and_then(|frame| frame.dir.as_ref()).unwrap_or(&self.root);
        (dir.as_fd(), &self.name)
    }

    /// The current entry's metadata, of a link its own.
    pub(super) fn stat(&self) -> io::Result<Stat> {
        let (dir, name) = self.place();
        Ok(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Where the current entry points, if it is a link.
    pub(super) fn read_link(&self) -> io::Result<Vec<u8>> {
        let (dir, name) = self.place();
        Ok(readlinkat(dir, name, Vec::new())?.into_bytes())
    }

    /// Opens the current entry as a directory.
    pub(super) fn open_directory(&self) -> io::Result<OwnedFd> {
        let (dir, name) = self.place();
        Ok(openat(dir, name, DIRECTORY, Mode::empty())?)
    }

    /// Makes the entries of `dir`, which is the current entry, come next.
    pub(super) fn enter(&mut self, dir: OwnedFd) -> io::Result<()> {
        self.stack.push(frame(dir, self.path.len())?);
        if self.stack.len() - self.first_open > OPEN_MAX {
            self.stack[self.first_open].dir = None;
            self.first_open += 1;
        }
        Ok(())
    }

    /// The directory whose entries come next.
    pub(super) fn top(&self) -> Option<BorrowedFd<'_>> {
        self.stack.last().and_then(|frame| frame.dir.as_ref()).map(AsFd::as_fd)
    }

    /// Whether an entry of this name comes next, somewhen.
    pub(super) fn has(&self, name: &CStr) -> bool {
        let names = self.stack.last().map(|frame| frame.names.as_slice()).unwrap_or_default();
        names.binary_search_by(|found| found.as_c_str().cmp(name)).is_ok()
    }

    /// Skips all entries of the directory whose entries come next, but for one.
    pub(super) fn keep_only(&mut self, name: &CStr) {
        if let Some(frame) = self.stack.last_mut() {
            frame.names = vec![name.to_owned()].into_iter();
        }
    }

    /// After leaving `child`: makes sure that the frame that is now on top is open.
    fn reopen_top(&mut self, child: Option<&OwnedFd>) -> io::Result<()> {
        let depth = self.stack.len();
        let Some(top) = self.stack.last() else { return Ok(()) };
        if top.dir.is_some() || top.names.len() == 0 {
            return Ok(());
        }
        let (identity, path_len) = (top.identity, top.path_len);
        let up = child.and_then(|child| {
            openat(child, c"..", DIRECTORY, Mode::empty())
                .ok()
                .filter(|fd| identity_of(fd).is_ok_and(|found| found == identity))
        });
        let dir = match up {
            Some(dir) => dir,
            // The way up is gone (moved meanwhile, or a frame between had nothing left to visit).
            None => self.descend(path_len, identity)?,
        };
        self.stack[depth - 1].dir = Some(dir);
        self.first_open = self.first_open.min(depth - 1);
        Ok(())
    }

    /// Opens the directory at the first `path_len` bytes of the path, from the root.
    fn descend(&self, path_len: usize, identity: (u64, u64)) -> io::Result<OwnedFd> {
        let mut dir = self.root.try_clone()?;
        for name in self.path[..path_len].split(|c| *c == b'/').filter(|name| !name.is_empty()) {
            dir = openat(&dir, name, DIRECTORY, Mode::empty())?;
        }
        if identity_of(&dir)? == identity {
            Ok(dir)
        } else {
            Err(io::Error::other("replaced while it was being read"))
        }
    }
}

/// Opens the directory `path`, following links: for a root that a person named.
pub(super) fn open_root(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn identity_of(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn frame(dir: OwnedFd, path_len: usize) -> io::Result<Frame> {
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    // Byte order within a directory, and children right after it, is `path_cmp` order.
    names.sort_unstable();
    let identity = identity_of(&dir)?;
    Ok(Frame { dir: Some(dir), identity, names: names.into_iter(), path_len })
}
