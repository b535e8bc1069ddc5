//! Which files have several names, and of which of them names are still to come.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A file with several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// The file system that it lies on.
    pub device: u64,
    /// Its number there.
    pub number: u64,
    /// How many names it has, wherever they are.
    pub names: u64,
}

impl Inode {
    /// The file's, if it has several names.
    #[must_use]
    pub fn of(stat: &rustix::fs::Stat) -> Option<Self> {
        // Its type is another one on other machines.
        #[allow(clippy::unnecessary_cast)]
        let names = stat.st_nlink as u64;
        (names > 1).then_some(Self { device: stat.st_dev, number: stat.st_ino, names })
    }
}

/// Something about each file of which names are still to come: of a tree that has all names of its files,
/// nothing is left at its end.
#[derive(Debug)]
pub struct Links<T> {
    seen: HashMap<(u64, u64), (u64, T)>,
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self { seen: HashMap::new() }
    }
}

impl<T> Links<T> {
    /// What was said with the first name.
    pub fn get(&self, inode: Inode) -> Option<&T> {
        self.seen.get(&(inode.device, inode.number)).map(|(_, what)| what)
    }

    /// Says something with the first name, and tells how many names can follow.
    pub fn begin(&mut self, inode: Inode, what: T) -> u64 {
        let left = inode.names.saturating_sub(1);
        if left > 0 {
            self.seen.insert((inode.device, inode.number), (left, what));
        }
        left
    }

    /// Counts a further name, and tells how many can follow; with the last also what was said. `None`: it is a first
    /// name.
    pub fn next(&mut self, inode: Inode) -> Option<(u64, Option<T>)> {
        let Entry::Occupied(mut seen) = self.seen.entry((inode.device, inode.number)) else {
            return None;
        };
        seen.get_mut().0 -= 1;
        let left = seen.get().0;
        Some((left, (left == 0).then(|| seen.remove().1)))
    }

    /// Forgets a file: its next name is a first one.
    pub fn forget(&mut self, inode: Inode) -> Option<T> {
        self.seen.remove(&(inode.device, inode.number)).map(|(_, what)| what)
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_forgotten_with_its_last_name() {
        let mut links = Links::default();
        let inode = Inode { device: 1, number: 2, names: 3 };
        assert_eq!(links.next(inode), None);
        assert_eq!(links.begin(inode, 'a'), 2);
        assert_eq!(links.next(inode), Some((1, None)));
        assert_eq!(links.get(inode), Some(&'a'));
        assert_eq!(links.next(inode), Some((0, Some('a'))));
        assert!(links.is_empty());
        assert_eq!(links.begin(Inode { names: 1, ..inode }, 'b'), 0);
        assert!(links.is_empty());
    }
}
