//! Files with several names: the first is written with its content, the others with what is held of it here.

use super::body::Body;
use crate::source::{Inode, Links};
use protocol::item::{Meta, Stamp};
use std::sync::Arc;

/// Most bytes of lists of chunks, holes and attributes that are held. Files beyond that are read again under
/// each of their names, and are hard links all the same.
const HELD_MAX: usize = 32 << 20;

/// A file as it was under its first name.
#[derive(Debug)]
struct First {
    group: u64,
    stamp: Stamp,
    size: u64,
    /// Everything but the path.
    meta: Meta,
    body: Option<Arc<Body>>,
}

/// One more name of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) group: u64,
    pub(super) left: u64,
    pub(super) is_first: bool,
}

/// The file is another now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed;

/// The files of which names are still to come.
#[derive(Debug, Default)]
pub(super) struct Names {
    links: Links<First>,
    groups: u64,
    held: usize,
}

impl Names {
    /// What is held of the file under its first name; `None` when there was none, or nothing is held.
    pub(super) fn first(
        &mut self,
        inode: Inode,
        meta: &Meta,
        size: u64,
    ) -> Result<Option<(Stamp, Arc<Body>)>, Changed> {
        let Some(first) = self.links.get(inode) else { return Ok(None) };
        let meta = Meta { path: first.meta.path.clone(), ..meta.clone() };
        if first.size != size || first.meta != meta {
            if let Some(first) = self.links.forget(inode) {
                self.release(first.body.as_deref());
            }
            return Err(Changed);
        }
        Ok(first.body.as_ref().map(|body| (first.stamp, Arc::clone(body))))
    }

    /// Counts a name. What is held is released with the last one.
    pub(super) fn count(
        &mut self,
        inode: Inode,
        meta: &Meta,
        stamp: Stamp,
        body: &Arc<Body>,
    ) -> Name {
        if let Some(group) = self.links.get(inode).map(|first| first.group)
            && let Some((left, last)) = self.links.next(inode)
        {
            self.release(last.and_then(|last| last.body).as_deref());
            return Name { group, left, is_first: false };
        }
        let group = self.groups;
        self.groups += 1;
        let holds = inode.names > 1 && self.held + body.memory() <= HELD_MAX;
        self.held += if holds { body.memory() } else { 0 };
        let (size, body) = (body.size, holds.then(|| Arc::clone(body)));
        let first = First { group, stamp, size, meta: meta.clone(), body };
        Name { group, left: self.links.begin(inode, first), is_first: true }
    }

    fn release(&mut self, body: Option<&Body>) {
        self.held -= body.map_or(0, Body::memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::codec::Blob;
    use protocol::id::ChunkId;
    use protocol::item::{ChunkRef, Timestamp};

    const INODE: Inode = Inode { device: 1, number: 2, names: 3 };

    fn meta(path: &str) -> Meta {
        let mtime = Timestamp { secs: 1, nanos: 0 };
        Meta { path: Blob(path.into()), mode: 0o644, uid: 0, gid: 0, mtime }
    }

    fn body(chunks: usize) -> Arc<Body> {
        let chunk = ChunkRef { id: ChunkId([1; 32]), len: 1 };
        Arc::new(Body { size: chunks as u64, chunks: vec![chunk; chunks], ..Body::default() })
    }

    #[test]
    fn the_names_of_a_file_are_one_group_until_the_last() {
        let (mut names, body) = (Names::default(), body(5));
        let count = |names: &mut Names, path| {
            let name = names.count(INODE, &meta(path), Stamp::default(), &body);
            (name.group, name.left, name.is_first)
        };
        assert_eq!(names.first(INODE, &meta("a"), 5), Ok(None));
        assert_eq!(count(&mut names, "a"), (0, 2, true));
        let held = names.first(INODE, &meta("b"), 5).unwrap().unwrap();
        assert_eq!(held.1.chunks.len(), 5);
        assert_eq!(count(&mut names, "b"), (0, 1, false));
        assert_eq!(count(&mut names, "c"), (0, 0, false));
        assert_eq!((names.held, names.links.is_empty()), (0, true));
        assert_eq!(count(&mut names, "d"), (1, 2, true), "a new file of the same number");
    }

    #[test]
    fn a_file_that_changed_between_two_names_is_another() {
        let mut names = Names::default();
        names.count(INODE, &meta("a"), Stamp::default(), &body(5));
        assert_eq!(names.first(INODE, &meta("b"), 6), Err(Changed));
        assert_eq!((names.first(INODE, &meta("b"), 6), names.held), (Ok(None), 0));
        let name = names.count(INODE, &meta("b"), Stamp::default(), &body(6));
        assert_eq!(name, Name { group: 1, left: 2, is_first: true });
    }

    #[test]
    fn not_more_is_held_than_may_be() {
        let (mut names, large) = (Names::default(), body(HELD_MAX / 36));
        names.count(INODE, &meta("a"), Stamp::default(), &large);
        let size = large.size;
        assert_eq!(names.first(INODE, &meta("b"), size), Ok(None), "to be read again");
        let name = names.count(INODE, &meta("b"), Stamp::default(), &large);
        assert_eq!((name, names.held), (Name { group: 0, left: 1, is_first: false }, 0));
    }
}
