//! Which names of files with hard links are restored already, so that further ones become links to them.

use std::collections::HashMap;

/// A file of which names may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// Which.
    pub group: u64,
    /// How many names.
    pub left: u64,
}

/// The first restored name of each such file: of a selection of paths that need not be its first name.
#[derive(Debug, Default)]
pub struct Names {
    firsts: HashMap<u64, Vec<u8>>,
    /// What was said of the file that comes next.
    next: Option<Shared>,
    /// The group of which the last file was the first name.
    last: Option<u64>,
}

impl Names {
    /// The file that comes next is one of these.
    pub fn shared(&mut self, group: u64, left: u64) {
        self.next = Some(Shared { group, left });
    }

    /// The item that comes next is not restored.
    pub fn skip(&mut self) {
        if let Some(Shared { group, left: 0 }) = self.next.take() {
            self.firsts.remove(&group);
        }
    }

    /// Takes the next file's path: gives that of the file to which it is to be a link, if there is one.
    pub fn link_to(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        self.last = None;
        let Shared { group, left } = self.next.take()?;
        if left == 0 {
            return self.firsts.remove(&group);
        }
        let first = self.firsts.get(&group).cloned();
        if first.is_none() {
            self.firsts.insert(group, path.to_vec());
            self.last = Some(group);
        }
        first
    }

    /// The last file was not restored after all: no link can be made to it.
    pub fn forget_last(&mut self) {
        if let Some(group) = self.last.take() {
            self.firsts.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_that_is_restored_is_the_file() {
        let mut names = Names::default();
        assert_eq!(names.link_to(b"plain"), None);
        names.shared(0, 2);
        names.skip();
        assert_eq!(names.link_to(b"plain"), None, "what was said is for one item");
        names.shared(0, 1);
        assert_eq!(names.link_to(b"b"), None);
        names.shared(1, 1);
        assert_eq!(names.link_to(b"other"), None);
        names.shared(0, 0);
        assert_eq!(names.link_to(b"c"), Some(b"b".to_vec()));
        names.shared(1, 0);
        names.skip();
        assert!(names.firsts.is_empty(), "nothing is remembered for ever");
    }

    #[test]
    fn what_was_not_restored_after_all_is_nothing_to_link_to() {
        let mut names = Names::default();
        names.shared(0, 2);
        assert_eq!(names.link_to(b"a"), None);
        names.forget_last();
        names.shared(0, 1);
        assert_eq!(names.link_to(b"b"), None);
        assert_eq!(names.link_to(b"plain"), None);
        names.forget_last();
        names.shared(0, 0);
        assert_eq!(names.link_to(b"c"), Some(b"b".to_vec()));
    }
}
