//! The grammar of an item stream, the same for who writes and who reads it.
//!
//! It needs no memory that grows with the stream: of what came before it keeps the last path and counts.

use super::{
    ATTRIBUTE_NAME_MAX, ATTRIBUTE_VALUE_MAX, ATTRIBUTES_LEN_MAX, Attribute, FORMAT, ITEM_LEN_MAX,
    Item, ItemError, Meta, NodeKind, PATH_LEN_MAX, SourceKind, Timestamp, check_chunks,
    encode_item, path_cmp,
};
use crate::codec::{self, CodecError};
use std::cmp::Ordering;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum State {
    Start,
    Items,
    /// Bytes of a file that are still to be listed; after a file without chunks only a hole can follow.
    Extents {
        left: u64,
        hole: bool,
    },
    Ended,
}

/// What was said of the item that comes next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Before {
    shared: bool,
    attributes: usize,
    last_name: Vec<u8>,
}

impl Before {
    fn is_empty(&self) -> bool {
        !self.shared && self.attributes == 0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Grammar {
    pub(super) state: State,
    format: u8,
    kind: SourceKind,
    /// The last path, and whether further paths may lie in it.
    last: Option<Vec<u8>>,
    open: bool,
    before: Before,
    /// Groups of hard links so far.
    groups: u64,
}

impl Default for Grammar {
    fn default() -> Self {
        Self {
            state: State::Start,
            format: FORMAT,
            kind: SourceKind::Directory,
            last: None,
            open: true,
            before: Before::default(),
            groups: 0,
        }
    }
}

impl Grammar {
    /// Checks that the item may come next. After an error nothing has changed.
    fn check_next(&mut self, item: &Item) -> Result<(), ItemError> {
        self.check_format(item)?;
        if let Some(meta) = item.meta() {
            check_meta(item, meta)?;
            self.check_path(&meta.path.0)?;
        }
        let next = match (self.state, item) {
            (State::Start, Item::Header { .. }) => State::Items,
            (State::Items, Item::File { stamp, size, chunks, more, .. }) => {
                check_time(stamp.ctime)?;
                let hole = chunks.is_empty() && *more && self.format > 1;
                extents(*size, check_chunks(chunks)?, *more, hole)?
            }
            (State::Extents { left, hole: false }, Item::Extent { chunks, more }) => {
                extents(left, check_chunks(chunks)?, *more, false)?
            }
            (State::Extents { left, .. }, Item::Hole { len, more }) => {
                extents(left, (*len > 0).then_some(*len).ok_or(OUT_OF_PLACE)?, *more, false)?
            }
            (State::Items, Item::Shared { group, .. }) => {
                if !self.before.is_empty() || *group > self.groups {
                    return Err(ItemError::Grammar("a name of a file that was not there"));
                }
                State::Items
            }
            (State::Items, Item::Attribute(attribute)) => {
                self.check_attribute(attribute)?;
                State::Items
            }
            (State::Items, _) if self.before.shared => {
                return Err(ItemError::Grammar("a hard link of what is no file"));
            }
            (State::Items, Item::Directory { .. }) => State::Items,
            (State::Items, Item::Symlink { target, .. }) => {
                check_target(&target.0)?;
                State::Items
            }
            (State::Items, Item::Node { kind, major, minor, .. }) => {
                if *kind == NodeKind::Fifo && (*major, *minor) != (0, 0) {
                    return Err(ItemError::Grammar("a FIFO with a device number"));
                }
                State::Items
            }
            (State::Items, Item::End { .. }) if self.before.is_empty() => {
                if self.kind == SourceKind::Stream && self.last.is_none() {
                    return Err(OUT_OF_PLACE);
                }
                State::Ended
            }
            _ => return Err(OUT_OF_PLACE),
        };
        self.state = next;
        self.take(item);
        Ok(())
    }

    /// Whether the stream's format and kind have such items at all.
    fn check_format(&self, item: &Item) -> Result<(), ItemError> {
        let since_2 = match item {
            Item::Header { format, .. } if !(1..=FORMAT).contains(format) => {
                return Err(ItemError::Grammar("its format is newer than this software"));
            }
            Item::Header { format, kind } => *kind == SourceKind::Stream && *format < 2,
            Item::Shared { .. } | Item::Attribute(_) | Item::Hole { .. } | Item::Node { .. } => {
                self.format < 2
            }
            _ => false,
        };
        let is_one_file = match item {
            Item::File { meta, .. } => self.last.is_none() && !meta.path.0.contains(&b'/'),
            Item::Header { .. } | Item::Extent { .. } | Item::Hole { .. } | Item::End { .. } => {
                true
            }
            _ => false,
        };
        if since_2 || (self.kind == SourceKind::Stream && !is_one_file) {
            return Err(ItemError::Grammar("an item that such a stream does not have"));
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

    fn check_attribute(&self, attribute: &Attribute) -> Result<(), ItemError> {
        let (name, value) = (&attribute.name.0, &attribute.value.0);
        let fits = (1..=ATTRIBUTE_NAME_MAX).contains(&name.len())
            && !name.contains(&0)
            && value.len() <= ATTRIBUTE_VALUE_MAX
            && self.before.attributes + attribute.size() <= ATTRIBUTES_LEN_MAX;
        if !fits || *name <= self.before.last_name {
            return Err(ItemError::Grammar("extended attributes that cannot be"));
        }
        Ok(())
    }

    /// Remembers what of an item matters for those that follow.
    fn take(&mut self, item: &Item) {
        match item {
            Item::Header { format, kind } => (self.format, self.kind) = (*format, *kind),
            Item::Shared { group, .. } => {
                self.before.shared = true;
                self.groups = self.groups.max(group.saturating_add(1));
            }
            Item::Attribute(attribute) => {
                self.before.attributes += attribute.size();
                self.before.last_name.clone_from(&attribute.name.0);
            }
            _ => {}
        }
        if let Some(meta) = item.meta() {
            self.before = Before::default();
            self.last = Some(meta.path.0.clone());
            self.open = matches!(item, Item::Directory { .. });
        }
    }
}

const OUT_OF_PLACE: ItemError = ItemError::Grammar("an item out of place");

/// What follows after `listed` bytes of a file of which `size` bytes were still to be listed.
fn extents(size: u64, listed: u64, more: bool, hole: bool) -> Result<State, ItemError> {
    match size.checked_sub(listed) {
        Some(0) if !more => Ok(State::Items),
        Some(left) if more && left > 0 && (listed > 0 || hole) => Ok(State::Extents { left, hole }),
        _ => Err(ItemError::Grammar("a file's chunks are not its size")),
    }
}

/// Writes items as a stream's bytes, and nothing that an [`ItemReader`] would refuse.
#[derive(Debug, Default)]
pub struct ItemWriter {
    pub(super) grammar: Grammar,
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

/// Reads items from the stream's bytes as they come, and checks the grammar. Readers that are equal go on
/// alike: whoever has followed a stretch of one stream from here need not follow it again in another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ItemReader {
    buffer: Vec<u8>,
    read: usize,
    grammar: Grammar,
}

impl ItemReader {
    /// Begins in the middle of a stream, where an entry begins: for who has read it from the start, and comes back to
    /// that entry alone. What comes before an entry is not known here, and not checked again.
    #[must_use]
    pub fn at_entry() -> Self {
        let grammar = Grammar { state: State::Items, groups: u64::MAX, ..Grammar::default() };
        Self { grammar, ..Self::default() }
    }

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

    /// Bytes of items that are still to come.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.read
    }

    /// Bytes that wait for the rest of their item. What is done with is forgotten, so that equal
    /// positions are equal readers.
    pub fn settle(&mut self) -> usize {
        self.push(&[]);
        self.buffer.len()
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
