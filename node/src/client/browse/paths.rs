//! Paths that a person names, and what of a snapshot lies at or below them.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What of a snapshot is meant.
#[derive(Debug)]
pub struct Selection {
    paths: Vec<(Vec<u8>, bool)>,
    /// All that is below a path, not only what lies directly in it.
    recursive: bool,
}

impl Selection {
    /// These paths, relative to the source; without any, everything.
    #[must_use]
    pub fn new(paths: &[PathBuf], recursive: bool) -> Self {
        let is_all = paths.is_empty();
        let mut paths: Vec<_> = paths.iter().map(|path| (clean(path.as_os_str()), false)).collect();
        if is_all {
            paths.push((Vec::new(), true));
        }
        Self { paths, recursive: recursive || is_all }
    }

    /// Whether the entry at this path is meant. Remembers that there is something at those that were named.
    pub fn takes(&mut self, path: &[u8], is_directory: bool) -> bool {
        let mut takes = false;
        for (named, is_there) in &mut self.paths {
            let Some(rest) = below(named, path) else { continue };
            *is_there = true;
            takes |= if rest.is_empty() {
                // Of a folder what is in it.
                self.recursive || !is_directory
            } else {
                self.recursive || !rest.contains(&b'/')
            };
        }
        takes
    }

    /// Whether nothing that is meant can come after this path in a snapshot's order.
    #[must_use]
    pub fn is_past(&self, path: &[u8]) -> bool {
        self.paths.iter().all(|(named, _)| {
            below(named, path).is_none() && protocol::item::path_cmp(named, path).is_lt()
        })
    }

    /// The first path at which nothing was found.
    #[must_use]
    pub fn missing(&self) -> Option<&[u8]> {
        self.paths.iter().find(|(_, is_there)| !is_there).map(|(path, _)| &path[..])
    }
}

/// What of `path` comes after `outer`; nothing when it does not lie there.
pub(crate) fn below<'a>(outer: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if outer.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(outer)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// A path as snapshots have it: without what leads nowhere.
pub(crate) fn clean(path: &std::ffi::OsStr) -> Vec<u8> {
    let parts = path.as_bytes().split(|&byte| byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::item::path_cmp;

    const TREE: [(&str, bool); 7] = [
        ("", true),
        ("a", true),
        ("a/b", true),
        ("a/b/c", false),
        ("a/d", false),
        ("a.b", false),
        ("e", false),
    ];

    fn taken(paths: &[&str], recursive: bool) -> (Vec<&'static str>, Option<String>) {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        let mut selection = Selection::new(&paths, recursive);
        let mut taken = Vec::new();
        for (path, is_directory) in TREE {
            if selection.is_past(path.as_bytes()) {
                break;
            }
            if selection.takes(path.as_bytes(), is_directory) {
                taken.push(path);
            }
        }
        let missing = selection.missing().map(|path| String::from_utf8_lossy(path).into_owned());
        (taken, missing)
    }

    #[test]
    fn a_folder_means_what_is_in_it_and_a_file_itself() {
        let mut sorted = TREE.map(|(path, _)| path);
        sorted.sort_by(|a, b| path_cmp(a.as_bytes(), b.as_bytes()));
        assert_eq!(sorted, TREE.map(|(path, _)| path), "as snapshots have it");
        assert_eq!(taken(&[], false).0, sorted);
        assert_eq!(taken(&["/"], false).0, ["a", "a.b", "e"]);
        assert_eq!(taken(&["a/"], false), (vec!["a/b", "a/d"], None));
        assert_eq!(taken(&["./a"], true).0, ["a", "a/b", "a/b/c", "a/d"]);
        assert_eq!(taken(&["e", "a//b/c"], false).0, ["a/b/c", "e"]);
        assert_eq!(taken(&["a", "a/b"], false).0, ["a/b", "a/b/c", "a/d"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(taken(&["a", "c"], false).1.as_deref(), Some("c"));
        assert_eq!(taken(&["a/b/c/d"], false).1.as_deref(), Some("a/b/c/d"));
        assert_eq!(taken(&[], false).1, None);
    }
}
