//! The kernel's questions, answered from a [`View`]. Each is answered by a task of its own, so that a reader who waits
//! for the network holds up no other.

use super::view::{Trouble, View};
use crate::client::browse::Content;
use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyXattr, Request,
};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// For how long the kernel need not ask again: nothing ever changes.
const FOR_LONG: Duration = Duration::from_secs(24 * 3600);
/// Of `lseek`: to the next data, to the next hole.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// A mounted file system.
#[derive(Debug)]
pub(super) struct Snapshots {
    view: Arc<View>,
    files: Arc<OpenFiles>,
    runtime: Handle,
}

/// Files that somebody has open.
#[derive(Debug, Default)]
struct OpenFiles {
    files: Mutex<HashMap<u64, Arc<Content>>>,
    next: AtomicU64,
}

impl OpenFiles {
    fn add(&self, content: Content) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(handle, Arc::new(content));
        FileHandle(handle)
    }

    fn get(&self, handle: FileHandle) -> Option<Arc<Content>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&handle.0).cloned()
    }

    fn remove(&self, handle: FileHandle) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
    }
}

impl Snapshots {
    pub(super) fn new(view: View, runtime: Handle) -> Self {
        Self { view: Arc::new(view), files: Arc::default(), runtime }
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }
}

impl Filesystem for Snapshots {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (view, name) = (self.view(), name.as_bytes().to_vec());
        self.runtime.spawn(async move {
            match view.child(parent, &name).await {
                Ok(attr) => reply.entry(&FOR_LONG, &attr, Generation(0)),
                Err(trouble) => reply.error(view.errno(trouble)),
            }
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let view = self.view();
        self.runtime.spawn(async move {
            match view.attr(ino).await {
                Ok(attr) => reply.attr(&FOR_LONG, &attr),
                Err(trouble) => reply.error(view.errno(trouble)),
            }
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let view = self.view();
        self.runtime.spawn(async move {
            match view.target(ino).await {
                Ok(target) => reply.data(&target),
                Err(trouble) => reply.error(view.errno(trouble)),
            }
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let (view, files) = (self.view(), Arc::clone(&self.files));
        self.runtime.spawn(async move {
            match view.content(ino).await {
                Ok(content) => reply.opened(files.add(content), FopenFlags::FOPEN_KEEP_CACHE),
                Err(trouble) => reply.error(view.errno(trouble)),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(content) = self.files.get(handle) else { return reply.error(Errno::EBADF) };
        let view = self.view();
        self.runtime.spawn(async move {
            match content.read(offset, size as usize).await {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(view.errno(Trouble::Client(error))),
            }
        });
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Some(content) = self.files.get(handle) else { return reply.error(Errno::EBADF) };
        let found = match (u64::try_from(offset), whence) {
            (Ok(offset), SEEK_DATA) => content.pieces.data_from(offset),
            (Ok(offset), SEEK_HOLE) => content.pieces.hole_from(offset),
            _ => return reply.error(Errno::EINVAL),
        };
        match found.and_then(|found| i64::try_from(found).ok()) {
            Some(found) => reply.offset(found),
            None => reply.error(Errno::ENXIO),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.remove(handle);
        reply.ok();
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
        reply.opened(FileHandle(0), flags);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let view = self.view();
        self.runtime.spawn(async move {
            let take = |at, entry: super::view::Entry| {
                !reply.add(entry.ino, at, entry.kind, OsStr::from_bytes(&entry.name))
            };
            match view.list(ino, offset, take).await {
                Ok(()) => reply.ok(),
                Err(trouble) => reply.error(view.errno(trouble)),
            }
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (view, name) = (self.view(), name.as_bytes().to_vec());
        self.runtime.spawn(async move {
            match view.attributes(ino).await {
                Ok(attributes) => match attributes.iter().find(|(found, _)| *found == name) {
                    Some((_, value)) => give(value, size, reply),
                    None => reply.error(Errno::ENODATA),
                },
                Err(trouble) => reply.error(view.errno(trouble)),
            }
        });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let view = self.view();
        self.runtime.spawn(async move {
            match view.attributes(ino).await {
                Ok(attributes) => {
                    let names = attributes.iter().flat_map(|(name, _)| [&name[..], b"\0"]);
                    give(&names.collect::<Vec<_>>().concat(), size, reply);
                }
                Err(trouble) => reply.error(view.errno(trouble)),
            }
        });
    }
}

/// Gives bytes to who has room for so many, or says how many there are to who asks with none.
fn give(bytes: &[u8], room: u32, reply: ReplyXattr) {
    if room == 0 {
        reply.size(bytes.len() as u32);
    } else if bytes.len() <= room as usize {
        reply.data(bytes);
    } else {
        reply.error(Errno::ERANGE);
    }
}
