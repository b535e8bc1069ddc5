//! The item stream: what a snapshot holds, in path order.
//!
//! ```text
//! stream = frame(Header) frame(item)… frame(End)       frame = length(u32 LE) item
//! item   = 0 format(1) kind(1: 0 directory, 1 Git)                                     Header
//!        | 1 meta                                                                      Directory
//!        | 2 meta time inode(n) device(n) size(n) refs more(1: 0 no, 1 yes)            File
//!        | 3 refs more(1)                                                              Extent
//!        | 4 meta bytes                                                                Symlink
//!        | 5 items(n) bytes(n) failed(n)                                               End
//! meta   = bytes mode(n) uid(n) gid(n) time            bytes = length(n) that many bytes
//! time   = seconds(n, zigzag) nanoseconds(n)           refs  = count(n), of each id(32) length(n)
//! root   = depth(1) refs                               n: a varint of the codec, 1 to 9 bytes
//! ```
//! Directories precede what is in them, and nothing lies in what is no directory; paths increase strictly by
//! [`path_cmp`]. A directory with an empty path is the top itself; only the first item can be that. The stream is chunked like a file; the list of its chunks is the snapshot's [`Root`]. A root of
//! more than [`ROOT_REFS_MAX`] chunks is itself stored as chunks, one level up, 36 bytes a chunk ([`encode_refs`]).

use crate::chunk::CHUNK_MAX;
use crate::codec::{self, Blob, CodecError};
use crate::id::ChunkId;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Version of the stream's format.
pub const FORMAT: u8 = 1;
/// Most chunks that one item lists; an [`Item::Extent`] follows with more.
pub const ITEM_CHUNKS_MAX: usize = 4096;
/// Longest encoded item, in bytes.
pub const ITEM_LEN_MAX: usize = 256 << 10;
/// Longest path, and longest target of a link, in bytes.
pub const PATH_LEN_MAX: usize = 64 << 10;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceKind {
    /// Files and folders as they are.
    Directory,
    /// A Git repository: refs, HEAD, configuration and a chain of bundles.
    Git,
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
        /// Directories, files and links.
        items: u64,
        /// Bytes of files.
        bytes: u64,
        /// What could not be read and is missing here.
        failed: u64,
    },
}

impl Item {
    /// What is about the item, if it has a path.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Self::Directory { meta } | Self::File { meta, .. } | Self::Symlink { meta, .. } => {
                Some(meta)
            }
            Self::Header { .. } | Self::Extent { .. } | Self::End { .. } => None,
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

fn check_time(time: Timestamp) -> Result<(), ItemError> {
    if time.nanos < 1_000_000_000 {
        Ok(())
    } else {
        Err(ItemError::Grammar("a time that does not exist"))
    }
}

fn check_meta(item: &Item, meta: &Meta) -> Result<(), ItemError> {
    let path = &meta.path.0;
    let component = |c: &[u8]| !c.is_empty() && c != b"." && c != b".." && !c.contains(&0);
    let is_top = path.is_empty() && matches!(item, Item::Directory { .. });
    if path.len() > PATH_LEN_MAX || !(is_top || path.split(|&c| c == b'/').all(component)) {
        return Err(ItemError::Grammar("a path that leads nowhere or outside"));
    }
    if meta.mode > 0o7777 {
        return Err(ItemError::Grammar("a mode that does not exist"));
    }
    check_time(meta.mtime)
}

fn check_target(target: &[u8]) -> Result<(), ItemError> {
    if target.is_empty() || target.len() > PATH_LEN_MAX || target.contains(&0) {
        return Err(ItemError::Grammar("a link that cannot be"));
    }
    Ok(())
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

/// Where a stream is in its grammar; the same for who writes and who reads it.
#[derive(Debug)]
enum State {
    Start,
    Items,
    Extents { left: u64 },
    Ended,
}

#[derive(Debug)]
struct Grammar {
    state: State,
    /// The last path, and whether further paths may lie in it.
    last: Option<Vec<u8>>,
    open: bool,
}

impl Default for Grammar {
    fn default() -> Self {
        Self { state: State::Start, last: None, open: true }
    }
}

impl Grammar {
    /// Checks that the item may come next. After an error nothing has changed.
    fn check_next(&mut self, item: &Item) -> Result<(), ItemError> {
        if let Some(meta) = item.meta() {
            check_meta(item, meta)?;
            self.check_path(&meta.path.0)?;
        }
        self.state = match (&self.state, item) {
            (State::Start, Item::Header { format: FORMAT, .. })
            | (State::Items, Item::Directory { .. }) => State::Items,
            (State::Start, Item::Header { .. }) => {
                return Err(ItemError::Grammar("its format is newer than this software"));
            }
            (State::Items, Item::File { stamp, size, chunks, more, .. }) => {
                check_time(stamp.ctime)?;
                extents(*size, check_chunks(chunks)?, *more)?
            }
            (State::Extents { left }, Item::Extent { chunks, more }) => {
                extents(*left, check_chunks(chunks)?, *more)?
            }
            (State::Items, Item::Symlink { target, .. }) => {
                check_target(&target.0)?;
                State::Items
            }
            (State::Items, Item::End { .. }) => State::Ended,
            _ => return Err(ItemError::Grammar("an item out of place")),
        };
        if let Some(meta) = item.meta() {
            self.last = Some(meta.path.0.clone());
            self.open = matches!(item, Item::Directory { .. });
        }
        Ok(())
    }

    fn check_path(&self, path: &[u8]) -> Result<(), ItemError> {
        let Some(last) = &self.last else { return Ok(()) };
        if path_cmp(path, last) != Ordering::Greater {
            return Err(ItemError::Grammar("paths do not increase"));
        }
        // What lies in a path directly follows it, so looking at the last one is enough. Or else a
        // link could be planted through which the next item leaves the tree.
        let within = path.strip_prefix(&last[..]).is_some_and(|rest| rest.starts_with(b"/"));
        if within && !self.open {
            return Err(ItemError::Grammar("a path within what is no directory"));
        }
        Ok(())
    }
}

/// Writes items as a stream's bytes, and nothing that an [`ItemReader`] would refuse.
#[derive(Debug, Default)]
pub struct ItemWriter {
    grammar: Grammar,
}

impl ItemWriter {
    /// Appends the next item's frame to `out`. After an error nothing is appended, and the stream may
    /// go on with another item.
    pub fn write(&mut self, item: &Item, out: &mut Vec<u8>) -> Result<(), ItemError> {
        self.grammar.check_next(item)?;
        encode_item(item, out);
        Ok(())
    }
}

/// Reads items from the stream's bytes as they come, and checks the grammar.
#[derive(Debug, Default)]
pub struct ItemReader {
    buffer: Vec<u8>,
    read: usize,
    grammar: Grammar,
}

impl ItemReader {
    /// Adds bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next item, or `None` when more bytes are needed, or the stream is at its end. An error is
    /// final: it comes again.
    pub fn next_item(&mut self) -> Result<Option<Item>, ItemError> {
        let rest = &self.buffer[self.read..];
        let Some((len, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*len) as usize;
        if len > ITEM_LEN_MAX {
            return Err(CodecError::TooLong { len, max: ITEM_LEN_MAX }.into());
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let item: Item = codec::decode(body, ITEM_LEN_MAX)?;
        self.grammar.check_next(&item)?;
        self.read += 4 + len;
        Ok(Some(item))
    }

    /// Checks that the stream came to its end.
    pub fn finish(&self) -> Result<(), ItemError> {
        if matches!(self.grammar.state, State::Ended) && self.read == self.buffer.len() {
            Ok(())
        } else {
            Err(ItemError::Grammar("it ends too soon or goes on after its end"))
        }
    }
}

/// What follows after chunks of `listed` bytes of a file of which `size` bytes were still to be listed.
fn extents(size: u64, listed: u64, more: bool) -> Result<State, ItemError> {
    match size.checked_sub(listed) {
        Some(0) if !more => Ok(State::Items),
        Some(left) if more && listed > 0 => Ok(State::Extents { left }),
        _ => Err(ItemError::Grammar("a file's chunks are not its size")),
    }
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
