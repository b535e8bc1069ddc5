//! The item stream: what a source holds, one value after the other in path order.
//!
//! Only the types; reading them from a disk and writing them to one is the node's work.

use crate::codec::Blob;
use crate::id::ChunkId;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// A chunk and its plain length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// The chunk's id.
    pub id: ChunkId,
    /// Plain bytes.
    pub len: u32,
}

/// A file's time, since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// What every item has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Relative, `/`-separated raw bytes; no empty, `.` or `..` component, no NUL.
    pub path: Blob,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
}

/// What tells that a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
}

/// What kind of source an item stream comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceKind {
    /// A directory tree.
    Directory,
    /// A Git repository.
    Git,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// The first item.
    Header {
        /// Format version.
        format: u8,
        /// Kind of source.
        kind: SourceKind,
    },
    /// A directory; its children follow.
    Directory {
        /// Its metadata.
        meta: Meta,
    },
    /// A regular file.
    File {
        /// Its metadata.
        meta: Meta,
        /// Its stamp.
        stamp: Stamp,
        /// Bytes.
        size: u64,
        /// Its content, the first part.
        chunks: Vec<ChunkRef>,
        /// Whether an extent follows.
        more: bool,
    },
    /// Further chunks of the file before.
    Extent {
        /// The chunks.
        chunks: Vec<ChunkRef>,
        /// Whether another extent follows.
        more: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Its metadata.
        meta: Meta,
        /// Where it points.
        target: Blob,
    },
    /// The last item.
    End {
        /// Items in the stream.
        items: u64,
        /// Bytes in files.
        bytes: u64,
        /// Paths that could not be read.
        failed: u64,
    },
}

/// Orders paths component by component, so that a directory's children directly follow it.
#[must_use]
pub fn path_cmp(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/'))
}
