//! From an item's path to an open directory below the target, never through a link.
//!
//! Directories on the way to the last path are remembered, some of them open, so that items in path
//! order cost about one call each whatever their depth.

use crate::source::PATH_LEN_MAX;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::{Errno, Result};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// One in so many directories on the way down stays open: at most 512 for the longest path.
const KEEP_EVERY: usize = 64;

/// An open directory on the way to the last one.
#[derive(Debug)]
struct Step {
    path_len: usize,
    depth: usize,
    dir: Arc<OwnedFd>,
}

/// Directories below a root.
#[derive(Debug)]
pub(super) struct Places {
    root: Arc<OwnedFd>,
    path: Vec<u8>,
    steps: Vec<Step>,
}

impl Places {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Arc::new(root), path: Vec::new(), steps: Vec::new() }
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Opens the directory at `path` (empty: the root); makes what is missing if `create` says so.
    pub(super) fn directory(&mut self, path: &[u8], create: bool) -> Result<Arc<OwnedFd>> {
        while self.steps.last().is_some_and(|step| !self.is_on_the_way(step, path)) {
            self.steps.pop();
        }
        let (mut from, mut depth, mut dir) = match self.steps.last() {
            Some(step) => (step.path_len, step.depth, Arc::clone(&step.dir)),
            None => (0, 0, Arc::clone(&self.root)),
        };
        self.path.clear();
        self.path.extend_from_slice(path);
        while from < path.len() {
            let start = if from == 0 { 0 } else { from + 1 };
            let end =
                path[start..].iter().position(|c| *c == b'/').map_or(path.len(), |at| start + at);
            dir = Arc::new(enter(&dir, &path[start..end], create)?);
            (from, depth) = (end, depth + 1);
            if depth.is_multiple_of(KEEP_EVERY) || end == path.len() {
                // What was last and is now on the way to something deeper need not stay open.
                self.steps.pop_if(|step| !step.depth.is_multiple_of(KEEP_EVERY));
                self.steps.push(Step { path_len: end, depth, dir: Arc::clone(&dir) });
            }
        }
        Ok(dir)
    }

    fn is_on_the_way(&self, step: &Step, path: &[u8]) -> bool {
        path.get(..step.path_len) == self.path.get(..step.path_len)
            && path.get(step.path_len).is_none_or(|c| *c == b'/')
    }
}

fn enter(dir: &OwnedFd, name: &[u8], create: bool) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) if create => {
            mkdirat(dir, name, Mode::from_raw_mode(0o777))?;
            openat(dir, name, flags, Mode::empty())
        }
        other => other,
    }
}

/// Checks a path and splits it into its directory (empty: the root) and its name.
pub(super) fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_good = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
    if path.len() > PATH_LEN_MAX || !path.split(|c| *c == b'/').all(is_good) {
        return None;
    }
    Some(match path.iter().rposition(|c| *c == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_target_are_taken() {
        assert_eq!(split_path(b"a/b/c"), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(split_path(b"a"), Some((&b""[..], &b"a"[..])));
        let long = vec![b'a'; PATH_LEN_MAX + 1];
        for bad in [&b""[..], b"/a", b"a/", b"a//b", b"../a", b"a/../b", b"a/.", b"a\0b", &long] {
            assert_eq!(split_path(bad), None);
        }
    }
}
