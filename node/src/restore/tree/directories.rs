//! What directories are to be like in the end. Their metadata comes last: whatever is written into one changes its time, and
//! its permissions may forbid that. So all of them are remembered, 48 bytes and the name each; attributes only where there are
//! any.

use protocol::codec::Blob;
use protocol::item::{Attribute, Meta, Timestamp};
use std::collections::HashMap;

#[derive(Debug)]
struct Directory {
    /// The directory that it lies in, of those that were named: `None` when that is the target.
    within: Option<u32>,
    /// Where in `names` its own part of the path ends.
    name_end: usize,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
}

/// Directories in path order, as items come.
#[derive(Debug, Default)]
pub(super) struct Directories {
    all: Vec<Directory>,
    names: Vec<u8>,
    attributes: HashMap<u32, Vec<Attribute>>,
    /// The path of the last one, and those that it lies in: how long their paths are, and which they are.
    last: Vec<u8>,
    open: Vec<(usize, u32)>,
}

impl Directories {
    /// The next one in path order.
    pub(super) fn push(&mut self, meta: Meta, attributes: Vec<Attribute>) {
        let Meta { path: Blob(path), mode, uid, gid, mtime } = meta;
        let number = self.all.len() as u32;
        let is_within = |&(len, _): &(usize, u32)| {
            len == 0 || path.get(len) == Some(&b'/') && path[..len] == self.last[..len]
        };
        while self.open.pop_if(|outer| !is_within(outer)).is_some() {}
        let outer = self.open.last().copied();
        let from = outer.map_or(0, |(len, _)| if len == 0 { 0 } else { len + 1 });
        self.names.extend_from_slice(&path[from..]);
        let within = outer.map(|(_, number)| number);
        let name_end = self.names.len();
        self.all.push(Directory { within, name_end, mode, uid, gid, mtime });
        if !attributes.is_empty() {
            self.attributes.insert(number, attributes);
        }
        self.open.push((path.len(), number));
        self.last = path;
    }

    /// Takes the last one off. What lies in a directory comes off before it.
    pub(super) fn pop(&mut self) -> Option<(Meta, Vec<Attribute>)> {
        let path = self.path(self.all.len().checked_sub(1)?);
        let Directory { mode, uid, gid, mtime, .. } = self.all.pop()?;
        self.names.truncate(self.all.last().map_or(0, |before| before.name_end));
        let attributes = self.attributes.remove(&(self.all.len() as u32)).unwrap_or_default();
        Some((Meta { path: Blob(path), mode, uid, gid, mtime }, attributes))
    }

    fn path(&self, number: usize) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut next = Some(number);
        while let Some(at) = next {
            let from = if at == 0 { 0 } else { self.all[at - 1].name_end };
            parts.push(&self.names[from..self.all[at].name_end]);
            next = self.all[at].within.map(|outer| outer as usize);
        }
        parts.retain(|part| !part.is_empty());
        parts.reverse();
        parts.join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::item::path_cmp;

    fn meta(path: &[u8], mode: u32) -> Meta {
        let mtime = Timestamp { secs: i64::from(mode), nanos: 5 };
        Meta { path: Blob(path.to_vec()), mode, uid: 1, gid: 2, mtime }
    }

    proptest! {
        #[test]
        fn they_come_off_as_they_were_from_the_last_on(
            paths in proptest::collection::btree_set("([ab-]{1,2}/){0,3}[ab-]{1,2}|", 0..20),
        ) {
            let mut paths: Vec<String> = paths.into_iter().collect();
            paths.sort_by(|a, b| path_cmp(a.as_bytes(), b.as_bytes()));
            let attributes = |i: usize| if i.is_multiple_of(3) {
                vec![Attribute { name: Blob(vec![i as u8 + 1]), value: Blob(vec![7]) }]
            } else {
                Vec::new()
            };
            let mut all = Directories::default();
            for (i, path) in paths.iter().enumerate() {
                all.push(meta(path.as_bytes(), i as u32), attributes(i));
            }
            for (i, path) in paths.iter().enumerate().rev() {
                prop_assert_eq!(all.pop(), Some((meta(path.as_bytes(), i as u32), attributes(i))));
            }
            prop_assert_eq!(all.pop(), None);
            prop_assert!(all.names.is_empty() && all.attributes.is_empty());
        }
    }
}
