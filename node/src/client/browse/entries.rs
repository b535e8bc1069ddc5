//! The entries of a snapshot in order: each item that has a path, with all that the stream says of it in items before
//! and after.

use super::pieces::Pieces;
use crate::client::items::Items;
use crate::client::{ClientError, Result};
use crate::restore::names::Shared;
use crate::source::Node;
use protocol::item::{Attribute, Item, Meta, SourceKind};

/// What lies at a path of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where in the item stream it begins.
    pub at: u64,
    /// About it.
    pub meta: Meta,
    /// What it is.
    pub what: What,
    /// Its extended attributes, by name.
    pub attributes: Vec<Attribute>,
    /// Whether it is one of several names of a file.
    pub shared: Option<Shared>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A folder.
    Directory,
    /// A file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Bytes of it that take no space.
        holes: u64,
        /// Its content; empty unless it was asked for.
        pieces: Pieces,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A FIFO or a device.
    Node(Node),
}

impl Entry {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.meta.path.0
    }

    /// The last part of its path.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let path = self.path();
        path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
    }

    /// Bytes of a file; else 0.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.what {
            What::File { size, .. } => size,
            _ => 0,
        }
    }
}

/// Gives entries one by one.
#[derive(Debug)]
pub struct Entries {
    items: Items,
    with_pieces: bool,
    kind: SourceKind,
}

impl Entries {
    pub(in crate::client) fn new(items: Items) -> Self {
        Self { items, with_pieces: false, kind: SourceKind::Directory }
    }

    /// With the content of files: 48 bytes of memory for each chunk of the largest.
    #[must_use]
    pub fn with_pieces(self) -> Self {
        Self { with_pieces: true, ..self }
    }

    /// What the snapshot is of, once the first entry was read.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// The next entry; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        let mut begin = None;
        let (mut attributes, mut shared) = (Vec::new(), None);
        loop {
            let position = self.items.position();
            let Some(item) = self.items.next().await? else { return Ok(None) };
            let at = begin.unwrap_or(position);
            let (meta, what) = match item {
                Item::Header { kind, .. } => {
                    self.kind = kind;
                    continue;
                }
                Item::End { .. } => continue,
                Item::Shared { group, left } => {
                    shared = Some(Shared { group, left });
                    begin = Some(at);
                    continue;
                }
                Item::Attribute(attribute) => {
                    attributes.push(attribute);
                    begin = Some(at);
                    continue;
                }
                Item::Directory { meta } => (meta, What::Directory),
                Item::Symlink { meta, target } => (meta, What::Symlink { target: target.0 }),
                Item::Node { meta, kind, major, minor } => {
                    (meta, What::Node(Node { kind, major, minor }))
                }
                Item::File { meta, size, chunks, more, .. } => {
                    let mut pieces = Pieces::default();
                    let mut holes = 0;
                    if self.with_pieces {
                        pieces.add(&chunks)?;
                    }
                    if more {
                        holes = self.rest_of_file(&mut pieces).await?;
                    }
                    (meta, What::File { size, holes, pieces })
                }
                Item::Extent { .. } | Item::Hole { .. } => {
                    return Err(ClientError::content("a part of a file where none can be"));
                }
            };
            return Ok(Some(Entry { at, meta, what, attributes, shared }));
        }
    }

    /// Reads the file's further items, and says how much of it is holes.
    async fn rest_of_file(&mut self, pieces: &mut Pieces) -> Result<u64> {
        let mut holes: u64 = 0;
        loop {
            let more = match self.items.next().await? {
                Some(Item::Extent { chunks, more }) => {
                    if self.with_pieces {
                        pieces.add(&chunks)?;
                    }
                    more
                }
                Some(Item::Hole { len, more }) => {
                    holes = holes.saturating_add(len);
                    if self.with_pieces {
                        pieces.add_hole(len)?;
                    }
                    more
                }
                _ => return Err(ClientError::content("a file that ends too soon")),
            };
            if !more {
                return Ok(holes);
            }
        }
    }
}
