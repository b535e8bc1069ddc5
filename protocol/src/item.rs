//! The item stream: what a snapshot holds, in path order.
//!
//! ```text
//! stream = frame(Header) frame(item)… frame(End)       frame = length(u32 LE) codec bytes of Item
//! ```
//! Directories precede what is in them, paths increase strictly by [`path_cmp`]. The stream is chunked like
//! a file; the list of its chunks is the snapshot's [`Root`]. A root of more than [`ROOT_REFS_MAX`] chunks is itself
//! stored as chunks, one level up.

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
/// Longest path, in bytes.
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

fn check_meta(meta: &Meta) -> Result<(), ItemError> {
    let path = &meta.path.0;
    let component = |c: &[u8]| !c.is_empty() && c != b"." && c != b".." && !c.contains(&0);
    if path.len() > PATH_LEN_MAX || !path.split(|&c| c == b'/').all(component) {
        return Err(ItemError::Grammar("a path that leads nowhere or outside"));
    }
    if meta.mode > 0o7777 || meta.mtime.nanos >= 1_000_000_000 {
        return Err(ItemError::Grammar("a mode or time that does not exist"));
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

/// Appends an item's frame to `out`.
pub fn encode_item(item: &Item, out: &mut Vec<u8>) {
    let body = codec::encode(item);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
}

/// Where a reader is in the stream's grammar.
#[derive(Debug)]
enum State {
    Start,
    Items,
    Extents { left: u64 },
    Ended,
}

/// Reads items from the stream's bytes as they come, and checks the grammar.
#[derive(Debug)]
pub struct ItemReader {
    buffer: Vec<u8>,
    read: usize,
    state: State,
    last: Vec<u8>,
}

impl Default for ItemReader {
    fn default() -> Self {
        Self { buffer: Vec::new(), read: 0, state: State::Start, last: Vec::new() }
    }
}

impl ItemReader {
    /// Adds bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next item, or `None` when more bytes are needed, or the stream is at its end.
    pub fn next_item(&mut self) -> Result<Option<Item>, ItemError> {
        let rest = &self.buffer[self.read..];
        let Some((len, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*len) as usize;
        if len > ITEM_LEN_MAX {
            return Err(CodecError::TooLong { len, max: ITEM_LEN_MAX }.into());
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let item: Item = codec::decode(body, ITEM_LEN_MAX)?;
        self.read += 4 + len;
        self.check(&item)?;
        Ok(Some(item))
    }

    /// Checks that the stream came to its end.
    pub fn finish(&self) -> Result<(), ItemError> {
        if matches!(self.state, State::Ended) && self.read == self.buffer.len() {
            Ok(())
        } else {
            Err(ItemError::Grammar("it ends too soon or goes on after its end"))
        }
    }

    fn check(&mut self, item: &Item) -> Result<(), ItemError> {
        if let Some(meta) = item.meta() {
            check_meta(meta)?;
            if !self.last.is_empty() && path_cmp(&meta.path.0, &self.last) != Ordering::Greater {
                return Err(ItemError::Grammar("paths do not increase"));
            }
            self.last.clone_from(&meta.path.0);
        }
        self.state = match (&self.state, item) {
            (State::Start, Item::Header { format: FORMAT, .. }) => State::Items,
            (State::Start, Item::Header { .. }) => {
                return Err(ItemError::Grammar("its format is newer than this software"));
            }
            (State::Items, Item::File { size, chunks, more, .. }) => {
                extents(*size, check_chunks(chunks)?, *more)?
            }
            (State::Extents { left }, Item::Extent { chunks, more }) => {
                extents(*left, check_chunks(chunks)?, *more)?
            }
            (State::Items, Item::Directory { .. } | Item::Symlink { .. }) => State::Items,
            (State::Items, Item::End { .. }) => State::Ended,
            _ => return Err(ItemError::Grammar("an item out of place")),
        };
        Ok(())
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta(path: &str) -> Meta {
        let path = Blob(path.as_bytes().to_vec());
        Meta { path, mode: 0o644, uid: 1, gid: 2, mtime: Timestamp { secs: -5, nanos: 7 } }
    }

    fn file(path: &str, size: u64, lens: &[u32], more: bool) -> Item {
        let chunks = lens.iter().map(|&len| ChunkRef { id: ChunkId([1; 32]), len }).collect();
        Item::File { meta: meta(path), stamp: Stamp::default(), size, chunks, more }
    }

    fn read(items: &[Item]) -> Result<Vec<Item>, ItemError> {
        let mut bytes = Vec::new();
        for item in items {
            encode_item(item, &mut bytes);
        }
        let (mut reader, mut found) = (ItemReader::default(), Vec::new());
        for piece in bytes.chunks(7) {
            reader.push(piece);
            while let Some(item) = reader.next_item()? {
                found.push(item);
            }
        }
        reader.finish()?;
        Ok(found)
    }

    const HEADER: Item = Item::Header { format: FORMAT, kind: SourceKind::Directory };
    const END: Item = Item::End { items: 0, bytes: 0, failed: 0 };

    #[test]
    fn a_stream_reads_as_it_was_written() {
        let extent =
            Item::Extent { chunks: vec![ChunkRef { id: ChunkId([2; 32]), len: 5 }], more: false };
        let items = [
            HEADER,
            Item::Directory { meta: meta("a") },
            file("a/b", 3, &[3], false),
            file("a/b.c", 15, &[10], true),
            extent,
            Item::Symlink { meta: meta("a.b"), target: Blob(b"../x".to_vec()) },
            file("z", 0, &[], false),
            END,
        ];
        assert_eq!(read(&items).unwrap(), items);
    }

    #[test]
    fn a_stream_that_cannot_be_meant_is_refused() {
        let wrong: Vec<Vec<Item>> = vec![
            vec![],
            vec![HEADER],
            vec![END],
            vec![HEADER, HEADER, END],
            vec![HEADER, END, END],
            vec![HEADER, file("a", 4, &[3], false), END],
            vec![HEADER, file("a", 4, &[3], true), END],
            vec![HEADER, file("b", 3, &[3], false), file("a", 3, &[3], false), END],
            vec![HEADER, file("a", 3, &[3], false), file("a", 3, &[3], false), END],
            vec![HEADER, file("../a", 3, &[3], false), END],
            vec![HEADER, file("/a", 3, &[3], false), END],
            vec![HEADER, file("a//b", 3, &[3], false), END],
            vec![HEADER, file("a\0", 3, &[3], false), END],
            vec![HEADER, file("", 3, &[3], false), END],
            vec![HEADER, file("a", u64::from(u32::MAX), &[u32::MAX], false), END],
            vec![Item::Header { format: 9, kind: SourceKind::Git }, END],
        ];
        for items in wrong {
            assert!(read(&items).is_err(), "{items:?}");
        }
    }

    #[test]
    fn what_is_in_a_directory_follows_it() {
        let mut paths = ["a.b", "a", "a/c", "a/b", "b", "a/b/c"];
        paths.sort_by(|a, b| path_cmp(a.as_bytes(), b.as_bytes()));
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/c", "a.b", "b"]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused(bytes: Vec<u8>) {
            let mut reader = ItemReader::default();
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next_item() {}
            let _ = Root::decode(&bytes);
            if let Ok(refs) = decode_refs(&bytes) {
                prop_assert_eq!(encode_refs(&refs), bytes);
            }
        }
    }
}
