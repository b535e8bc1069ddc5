//! Sets of paths that may be as large as the snapshot: what was kept where a restore replaces nothing, what could not be read.

use std::collections::HashSet;

/// Paths by the first 16 bytes of their hash: enough to tell all paths of a snapshot apart, and a tenth of what they take.
#[derive(Debug, Default)]
pub(super) struct Paths(HashSet<[u8; 16]>);

impl Paths {
    pub(super) fn insert(&mut self, path: &[u8]) {
        self.0.insert(name_of(path));
    }

    pub(super) fn contains(&self, path: &[u8]) -> bool {
        self.0.contains(&name_of(path))
    }
}

fn name_of(path: &[u8]) -> [u8; 16] {
    let hash = blake3::hash(path);
    std::array::from_fn(|i| hash.as_bytes()[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_in_and_nothing_else() {
        let mut paths = Paths::default();
        paths.insert(b"a/b");
        assert!(paths.contains(b"a/b") && !paths.contains(b"a") && !paths.contains(b"a/b/c"));
    }
}
