//! The item stream: what a snapshot holds, in path order.
//!
//! ```text
//! stream = frame(Header) entry… frame(End)             frame = length(u32 LE) item
//! entry  = frame(Shared)? frame(Attribute)… then one of
//!          frame(Directory) | frame(Symlink) | frame(Node) | frame(File) (frame(Extent) | frame(Hole))…
//! item   = 0 format(1) kind(1: 0 directory, 1 Git, 2 stream)                           Header
//!        | 1 meta                                                                      Directory
//!        | 2 meta time inode(n) device(n) size(n) refs more(1: 0 no, 1 yes)            File
//!        | 3 refs more(1)                                                              Extent
//!        | 4 meta bytes                                                                Symlink
//!        | 5 items(n) bytes(n) failed(n)                                               End
//!        | 6 group(n) left(n)                                                          Shared
//!        | 7 bytes(name) bytes(value)                                                  Attribute
//!        | 8 length(n) more(1)                                                         Hole
//!        | 9 meta kind(1: 0 FIFO, 1 character, 2 block) major(n) minor(n)              Node
//! meta   = bytes mode(n) uid(n) gid(n) time            bytes = length(n) that many bytes
//! time   = seconds(n, zigzag) nanoseconds(n)           refs  = count(n), of each id(32) length(n)
//! root   = depth(1) refs                               n: a varint of the codec, 1 to 9 bytes
//! ```
//! Format 1 ends with item 5 and kind 1; it is still read. Directories precede what is in them, and nothing lies in
//! what is no directory; paths increase strictly by [`path_cmp`]. A directory with an empty path is the top itself;
//! only the first item can be that. A stream of kind 2 is one file without a directory.
//!
//! Every name of a file with hard links is a whole `File` after a `Shared`, so that any selection of paths can
//! be restored by itself; the first name of a group has the next unused number. A `File` without chunks before a
//! `Hole` begins with that hole.
//!
//! The stream is chunked like a file; the list of its chunks is the snapshot's [`Root`]. A root of
//! more than [`ROOT_REFS_MAX`] chunks is itself stored as chunks, one level up, 36 bytes a chunk ([`encode_refs`]).

mod stream;

pub use stream::{ItemReader, ItemWriter};

use crate::chunk::CHUNK_MAX;
use crate::codec::{self, Blob, CodecError};
use crate::id::ChunkId;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Version of the stream's format that is written; 1 is still read.
pub const FORMAT: u8 = 2;
/// Most chunks that one item lists; an [`Item::Extent`] follows with more.
pub const ITEM_CHUNKS_MAX: usize = 4096;
/// Longest encoded item, in bytes.
pub const ITEM_LEN_MAX: usize = 256 << 10;
/// Longest path, and longest target of a link, in bytes.
pub const PATH_LEN_MAX: usize = 64 << 10;
/// Longest name of an extended attribute, in bytes (Linux).
pub const ATTRIBUTE_NAME_MAX: usize = 255;
/// Longest value of an extended attribute, in bytes (Linux).
pub const ATTRIBUTE_VALUE_MAX: usize = 64 << 10;
/// Most bytes of names and values together that one item has as extended attributes.
pub const ATTRIBUTES_LEN_MAX: usize = 1 << 20;
/// Most chunks that a root lists.
pub const ROOT_REFS_MAX: usize = 64;
/// Most levels of lists above an item stream: 64 · 29,000³ chunks are enough for anybody.
pub const ROOT_DEPTH_MAX: u8 = 4;

/// A chunk of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// The chunk.
    pub id: ChunkId,
    /// Its plain length in bytes.
    pub len: u32,
}

/// A point in time as file systems keep it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 UTC.
    pub secs: i64,
    /// And nanoseconds, below 10^9.
    pub nanos: u32,
}

/// What every item has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Relative to the source, '/'-separated bytes.
    pub path: Blob,
    /// Permission bits, 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When its content was modified.
    pub mtime: Timestamp,
}

/// What tells that a file has not changed since it was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When its inode was changed.
    pub ctime: Timestamp,
    /// Its inode.
    pub inode: u64,
    /// Its device.
    pub device: u64,
}

/// What kind of source a snapshot is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SourceKind {
    /// Files and folders as they are.
    Directory,
    /// A Git repository: refs, HEAD, configuration and a chain of packs and bundles.
    Git,
    /// One file, read from a pipe. Since format 2.
    Stream,
}

/// What a special file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// A named pipe.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

/// An extended attribute; access control lists are such, under the names that Linux gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its name with the namespace, as `user.comment`.
    pub name: Blob,
    /// Its value.
    pub value: Blob,
}

impl Attribute {
    /// Bytes that count against [`ATTRIBUTES_LEN_MAX`].
    #[must_use]
    pub fn size(&self) -> usize {
        self.name.0.len() + self.value.0.len()
    }
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// The first.
    Header {
        /// [`FORMAT`].
        format: u8,
        /// What the stream is of.
        kind: SourceKind,
    },
    /// A directory.
    Directory {
        /// About it.
        meta: Meta,
    },
    /// A file.
    File {
        /// About it.
        meta: Meta,
        /// For the next backup.
        stamp: Stamp,
        /// Its length in bytes.
        size: u64,
        /// Its first chunks.
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
        /// About it.
        meta: Meta,
        /// Where it points, as it says.
        target: Blob,
    },
    /// The last.
    End {
        /// Directories, files, links and special files.
        items: u64,
        /// Bytes of files; of one with hard links once.
        bytes: u64,
        /// What could not be read and is missing here, or not whole.
        failed: u64,
    },
    /// The file that comes next has other names: those of one group are hard links of one file.
    Shared {
        /// Counts from 0 in order of appearance.
        group: u64,
        /// How many names of the group can still follow; 0 for the last, so that it can be forgotten.
        left: u64,
    },
    /// An extended attribute of the item that comes next, by increasing names.
    Attribute(Attribute),
    /// Zeros of the file before that take no space.
    Hole {
        /// How many.
        len: u64,
        /// Whether an extent or another hole follows.
        more: bool,
    },
    /// A special file.
    Node {
        /// About it.
        meta: Meta,
        /// What it is.
        kind: NodeKind,
        /// Of a device its major number.
        major: u32,
        /// And its minor number.
        minor: u32,
    },
}

impl Item {
    /// What is about the item, if it has a path.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Self::Directory { meta }
            | Self::File { meta, .. }
            | Self::Symlink { meta, .. }
            | Self::Node { meta, .. } => Some(meta),
            Self::Header { .. }
            | Self::Extent { .. }
            | Self::End { .. }
            | Self::Shared { .. }
            | Self::Attribute(_)
            | Self::Hole { .. } => None,
        }
    }
}

/// Order of paths: by component, bytewise, so that what is in a directory directly follows it.
#[must_use]
pub fn path_cmp(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|&c| c == b'/').cmp(b.split(|&c| c == b'/'))
}

/// Why a stream is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// Bytes that are no item.
    #[error("item stream: {0}")]
    Codec(#[from] CodecError),
    /// An item out of place, or one that cannot be meant.
    #[error("item stream: {0}")]
    Grammar(&'static str),
}

fn check_chunks(chunks: &[ChunkRef]) -> Result<u64, ItemError> {
    let fits = |c: &ChunkRef| c.len > 0 && c.len as usize <= CHUNK_MAX;
    if chunks.len() > ITEM_CHUNKS_MAX || !chunks.iter().all(fits) {
        return Err(ItemError::Grammar("a list of chunks that does not fit"));
    }
    Ok(chunks.iter().map(|chunk| u64::from(chunk.len)).sum())
}

/// Appends an item's frame to `out`, unchecked; [`ItemWriter`] refuses what could not be read again.
pub fn encode_item(item: &Item, out: &mut Vec<u8>) {
    let body = codec::encode(item);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
}

/// Where an item stream begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// 0: the chunks are the stream. 1: they are the list of its chunks, and so on.
    pub depth: u8,
    /// The chunks.
    pub chunks: Vec<ChunkRef>,
}

/// Longest encoded root, in bytes.
pub const ROOT_LEN_MAX: usize = 16 + ROOT_REFS_MAX * 40;

impl Root {
    /// The root's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The inverse of [`Root::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ItemError> {
        let root: Self = codec::decode(bytes, ROOT_LEN_MAX)?;
        if root.depth > ROOT_DEPTH_MAX || root.chunks.len() > ROOT_REFS_MAX {
            return Err(ItemError::Grammar("a root that does not fit"));
        }
        check_chunks(&root.chunks)?;
        Ok(root)
    }
}

/// Bytes of one chunk in a list that is stored as chunks: fixed, so that a list can be read in pieces.
pub const REF_LEN: usize = 36;

/// A list of chunks as bytes: id and length (u32 LE) of each.
#[must_use]
pub fn encode_refs(refs: &[ChunkRef]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(refs.len() * REF_LEN);
    for chunk in refs {
        bytes.extend_from_slice(&chunk.id.0);
        bytes.extend_from_slice(&chunk.len.to_le_bytes());
    }
    bytes
}

/// The inverse of [`encode_refs`].
pub fn decode_refs(bytes: &[u8]) -> Result<Vec<ChunkRef>, ItemError> {
    let (refs, rest) = bytes.as_chunks::<REF_LEN>();
    let refs: Vec<ChunkRef> = refs
        .iter()
        .map(|bytes| ChunkRef {
            id: ChunkId(std::array::from_fn(|i| bytes[i])),
            len: u32::from_le_bytes(std::array::from_fn(|i| bytes[32 + i])),
        })
        .collect();
    let fits = |c: &ChunkRef| c.len > 0 && c.len as usize <= CHUNK_MAX;
    if rest.is_empty() && refs.iter().all(fits) {
        Ok(refs)
    } else {
        Err(ItemError::Grammar("a list of chunks that does not fit"))
    }
}

#[cfg(test)]
mod tests;
