//! What changed between two snapshots: both read in step, as both are sorted by path. Of files the lists of chunks are
//! compared, so that no content is read.

use super::{Entries, Entry, Pieces, What};
use crate::client::Result;
use protocol::item::path_cmp;
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another content: other bytes, another target, another device.
    Modified,
    /// It is something else: a folder where a file was.
    Type,
    /// Only its permissions, owner, time or extended attributes are others.
    Metadata,
}

impl Sign {
    /// As restic writes it.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Added => "+",
            Self::Removed => "-",
            Self::Modified => "M",
            Self::Type => "T",
            Self::Metadata => "U",
        }
    }
}

/// One change.
#[derive(Debug)]
pub struct Change {
    /// What happened.
    pub sign: Sign,
    /// As it was.
    pub before: Option<Entry>,
    /// As it is.
    pub after: Option<Entry>,
}

/// How many of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// New.
    pub added: u64,
    /// Gone.
    pub removed: u64,
    /// With another content.
    pub changed: u64,
    /// With other metadata alone.
    pub metadata: u64,
    /// As they were.
    pub unchanged: u64,
}

/// What changed in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Files.
    pub files: Counts,
    /// Folders.
    pub dirs: Counts,
    /// Links and special files.
    pub others: Counts,
    /// Bytes of new files, and in changed files bytes of chunks that were not in them.
    pub bytes_added: u64,
    /// Bytes of files that are gone, and in changed files bytes of chunks that are not in them any more.
    pub bytes_removed: u64,
}

impl Statistics {
    fn of(&mut self, what: &What) -> &mut Counts {
        match what {
            What::File { .. } => &mut self.files,
            What::Directory => &mut self.dirs,
            What::Symlink { .. } | What::Node(_) => &mut self.others,
        }
    }

    fn add(&mut self, entry: &Entry) {
        self.of(&entry.what).added += 1;
        self.bytes_added += entry.size();
    }

    fn remove(&mut self, entry: &Entry) {
        self.of(&entry.what).removed += 1;
        self.bytes_removed += entry.size();
    }

    /// Counts what is new in one of two contents of a file, and what is gone.
    fn replace(&mut self, before: &Pieces, after: &Pieces) {
        let only = |these: &Pieces, others: &Pieces| {
            let others: HashSet<_> = others.chunks().map(|chunk| chunk.id).collect();
            let only = these.chunks().filter(|chunk| !others.contains(&chunk.id));
            only.map(|chunk| u64::from(chunk.len)).sum::<u64>()
        };
        self.bytes_added += only(after, before);
        self.bytes_removed += only(before, after);
    }
}

/// Compares two snapshots.
#[derive(Debug)]
pub struct Diff {
    sides: [Side; 2],
    /// What changed so far.
    pub statistics: Statistics,
}

#[derive(Debug)]
struct Side {
    entries: Entries,
    /// The entry that is not compared yet.
    next: Option<Entry>,
    is_over: bool,
}

impl Side {
    async fn fill(&mut self) -> Result<()> {
        if self.next.is_none() && !self.is_over {
            self.next = self.entries.next().await?;
            self.is_over = self.next.is_none();
        }
        Ok(())
    }
}

impl Diff {
    /// Between these two.
    #[must_use]
    pub fn new(before: Entries, after: Entries) -> Self {
        let side =
            |entries: Entries| Side { entries: entries.with_pieces(), next: None, is_over: false };
        Self { sides: [side(before), side(after)], statistics: Statistics::default() }
    }

    /// The next change, in order of paths; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Change>> {
        loop {
            let [old, new] = &mut self.sides;
            tokio::try_join!(old.fill(), new.fill())?;
            let order = match (&old.next, &new.next) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => path_cmp(old.path(), new.path()),
            };
            let before = if order.is_le() { old.next.take() } else { None };
            let after = if order.is_ge() { new.next.take() } else { None };
            if let Some(sign) = compare(before.as_ref(), after.as_ref(), &mut self.statistics) {
                return Ok(Some(Change { sign, before, after }));
            }
        }
    }
}

/// What changed between two lists, metadata aside.
#[must_use]
pub fn changes(before: Vec<Entry>, after: Vec<Entry>) -> Vec<Change> {
    let mut all: BTreeMap<Vec<u8>, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
    for entry in before {
        let path = entry.path().to_vec();
        all.entry(path).or_default().0 = Some(entry);
    }
    for entry in after {
        let path = entry.path().to_vec();
        all.entry(path).or_default().1 = Some(entry);
    }
    let mut statistics = Statistics::default();
    let change = |(before, after): (Option<Entry>, Option<Entry>)| {
        let sign = compare(before.as_ref(), after.as_ref(), &mut statistics)?;
        (sign != Sign::Metadata).then_some(Change { sign, before, after })
    };
    all.into_values().filter_map(change).collect()
}

/// What became of a path, counted; nothing when all is as it was.
fn compare(
    before: Option<&Entry>,
    after: Option<&Entry>,
    statistics: &mut Statistics,
) -> Option<Sign> {
    let (before, after) = match (before, after) {
        (Some(before), Some(after)) => (before, after),
        (None, Some(after)) => {
            statistics.add(after);
            return Some(Sign::Added);
        }
        (Some(before), None) => {
            statistics.remove(before);
            return Some(Sign::Removed);
        }
        (None, None) => return None,
    };
    let is_same = match (&before.what, &after.what) {
        (What::Directory, What::Directory) => true,
        (What::File { pieces: old, .. }, What::File { pieces: new, .. }) => {
            if old != new {
                statistics.replace(old, new);
            }
            old == new
        }
        (What::Symlink { target: old }, What::Symlink { target: new }) => old == new,
        (What::Node(old), What::Node(new)) if old.kind == new.kind => old == new,
        _ => {
            statistics.remove(before);
            statistics.add(after);
            return Some(Sign::Type);
        }
    };
    let counts = statistics.of(&after.what);
    if !is_same {
        counts.changed += 1;
        Some(Sign::Modified)
    } else if (&before.meta, &before.attributes) == (&after.meta, &after.attributes) {
        counts.unchanged += 1;
        None
    } else {
        counts.metadata += 1;
        Some(Sign::Metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::codec::Blob;
    use protocol::id::ChunkId;
    use protocol::item::{Attribute, ChunkRef, Meta, Timestamp};

    fn entry(what: What) -> Entry {
        let path = Blob(b"a".to_vec());
        let meta = Meta { path, mode: 0o644, uid: 1, gid: 1, mtime: Timestamp::default() };
        Entry { at: 0, meta, what, attributes: Vec::new(), shared: None }
    }

    fn file(chunks: &[(u8, u32)]) -> Entry {
        let chunk = |&(name, len)| ChunkRef { id: ChunkId([name; 32]), len };
        let mut pieces = Pieces::default();
        pieces.add(&chunks.iter().map(chunk).collect::<Vec<_>>()).unwrap();
        entry(What::File { size: pieces.len(), holes: 0, pieces })
    }

    fn link(target: &[u8]) -> Entry {
        entry(What::Symlink { target: target.to_vec() })
    }

    fn compared(before: &Entry, after: &Entry) -> (Option<Sign>, Statistics) {
        let mut statistics = Statistics::default();
        (compare(Some(before), Some(after), &mut statistics), statistics)
    }

    #[test]
    fn content_is_told_from_metadata() {
        let one = file(&[(1, 10), (2, 20), (3, 30)]);
        assert_eq!(compared(&one, &one).0, None);
        let (sign, found) = compared(&one, &file(&[(1, 10), (4, 5), (3, 30), (4, 5)]));
        assert_eq!(sign, Some(Sign::Modified));
        assert_eq!((found.bytes_added, found.bytes_removed, found.files.changed), (10, 20, 1));
        // In another order nothing is new.
        let (sign, found) = compared(&one, &file(&[(2, 20), (1, 10), (3, 30)]));
        assert_eq!((sign, found.bytes_added), (Some(Sign::Modified), 0));
        let mut touched = one.clone();
        touched.meta.mtime.nanos = 1;
        assert_eq!(compared(&one, &touched).0, Some(Sign::Metadata));
        let mut touched = one.clone();
        let name = Blob(b"user.a".to_vec());
        touched.attributes.push(Attribute { name, value: Blob::default() });
        let (sign, found) = compared(&one, &touched);
        assert_eq!((sign, found.files.metadata), (Some(Sign::Metadata), 1));
        // Where it lies in the stream is no difference.
        assert_eq!(compared(&one, &Entry { at: 9, ..one.clone() }).0, None);
        assert_eq!(compared(&link(b"x"), &link(b"y")).0, Some(Sign::Modified));
    }

    #[test]
    fn what_became_something_else_is_gone_and_new() {
        let (sign, found) = compared(&file(&[(1, 10)]), &link(b"x"));
        assert_eq!(sign, Some(Sign::Type));
        let counts = |added, removed| Counts { added, removed, ..Counts::default() };
        assert_eq!((found.files, found.others), (counts(0, 1), counts(1, 0)));
        assert_eq!((found.bytes_added, found.bytes_removed), (0, 10));
    }
}
