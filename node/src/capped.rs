//! Lists for people that the input makes as long as it likes: the first are kept, and all are counted.

use serde::{Serialize, Serializer};
use std::ops::Index;

/// So many are kept: more than anybody reads, and a few MB with the longest paths there are.
pub const NAMED_MAX: usize = 1000;

/// The first of many, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capped<T> {
    named: Vec<T>,
    more: u64,
}

/// Paths that something was wrong with, and what.
pub type Faults = Capped<(String, String)>;

impl<T> Default for Capped<T> {
    fn default() -> Self {
        Self { named: Vec::new(), more: 0 }
    }
}

impl<T> Capped<T> {
    /// One more.
    pub fn push(&mut self, one: T) {
        if self.named.len() < NAMED_MAX {
            self.named.push(one);
        } else {
            self.more += 1;
        }
    }

    /// Those of another list as well.
    pub fn append(&mut self, other: Self) {
        other.named.into_iter().for_each(|one| self.push(one));
        self.more += other.more;
    }

    /// All of them, those included that are not kept.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.named.len() as u64 + self.more
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Those that are counted and not kept.
    #[must_use]
    pub fn more(&self) -> u64 {
        self.more
    }

    /// The first one.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.named.first()
    }

    /// Those that are kept.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.named.iter()
    }
}

impl<'a, T> IntoIterator for &'a Capped<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Index<usize> for Capped<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.named[at]
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for Capped<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self.more == 0 && self.named == other
    }
}

/// As a list of those that are kept: whoever writes it says beside it how many there are.
impl<T: Serialize> Serialize for Capped<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.named.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_kept_and_all_are_counted() {
        let mut list = Capped::default();
        assert!(list.is_empty() && list == [0_u32; 0]);
        for i in 0..NAMED_MAX as u32 + 5 {
            list.push(i);
        }
        assert_eq!(
            (list.len(), list.more(), list.iter().len()),
            (NAMED_MAX as u64 + 5, 5, NAMED_MAX)
        );
        assert_eq!((list.first(), list[NAMED_MAX - 1]), (Some(&0), NAMED_MAX as u32 - 1));
        let mut both = Capped::default();
        both.push(7);
        both.append(list);
        assert_eq!((both.len(), both.more(), both[1]), (NAMED_MAX as u64 + 6, 6, 0));
        assert_eq!(serde_json::to_value(&both).unwrap().as_array().unwrap().len(), NAMED_MAX);
    }
}
