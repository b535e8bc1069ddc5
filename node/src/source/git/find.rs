//! All Git repositories below a folder.
//!
//! Bare ones and those with a work tree, also inside the work trees of others. Links are not followed, and what
//! is inside a repository's own folder is not looked at. A linked work tree or a submodule whose repository is found
//! too is part of that; otherwise it is taken for itself, once for each repository.

use super::repository::is_git_dir;
use crate::source::walk::{Walk, open_root};
use crate::source::{Rules, SourceError, canonical};
use rustix::fs::{FileType, fstat};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest `.git` file or `commondir` that is read.
const POINTER_LEN_MAX: u64 = 64 << 10;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Repositories, in path order.
    pub repositories: Vec<PathBuf>,
    /// Folders that could not be looked into, and why.
    pub failed: Vec<(PathBuf, io::Error)>,
}

/// A `.git` that is a file.
struct Pointer {
    path: PathBuf,
    /// The repository that it leads to.
    common_dir: PathBuf,
}

/// Looks for them. `rules` say where not to look.
pub fn find(root: &Path, rules: &Rules) -> Result<Found, SourceError> {
    let root = canonical(root)?;
    let failed = |error| SourceError::Open { path: root.clone(), error };
    let top = open_root(&root).map_err(failed)?;
    let home = fstat(&top).map_err(|error| failed(error.into()))?.st_dev;
    let mut walk = Walk::new(top).map_err(failed)?;
    let mut search = Search::default();
    if is_git_dir(&root) {
        search.take(&root, &root);
        return Ok(search.finish());
    }
    rules.heed_markers(&mut walk);
    search.look(&root, &walk);
    while let Some(step) = walk.advance() {
        if let Err(lost) = step {
            let path = root.join(OsStr::from_bytes(&lost.path));
            search.found.failed.push((path, lost.error));
            continue;
        }
        let path = root.join(OsStr::from_bytes(walk.path()));
        let Ok(stat) = walk.stat() else { continue };
        if !FileType::from_raw_mode(stat.st_mode).is_dir()
            || path.file_name() == Some(OsStr::new(".git"))
            || rules.is_excluded(walk.path(), true)
            || !rules.is_entered(stat.st_dev, home)
        {
            continue;
        }
        if is_git_dir(&path) {
            search.take(&path, &path);
            continue;
        }
        match walk.open_directory().and_then(|dir| rules.enter(&mut walk, dir)) {
            Ok(()) => search.look(&path, &walk),
            Err(error) => search.found.failed.push((path, error)),
        }
    }
    Ok(search.finish())
}

#[derive(Default)]
struct Search {
    found: Found,
    git_dirs: BTreeSet<PathBuf>,
    pointers: Vec<Pointer>,
}

impl Search {
    /// Takes the repository at `path`, whose own folder is `git_dir`.
    fn take(&mut self, path: &Path, git_dir: &Path) {
        self.found.repositories.push(path.into());
        self.git_dirs.insert(git_dir.into());
    }

    /// Looks whether the folder just entered is a work tree.
    fn look(&mut self, path: &Path, walk: &Walk) {
        if !walk.has(c".git") {
            return;
        }
        let inside = path.join(".git");
        let Ok(meta) = inside.symlink_metadata() else { return };
        if meta.is_dir() && is_git_dir(&inside) {
            self.take(path, &inside);
        } else if meta.is_file() {
            match common_dir(path, &inside) {
                Ok(common_dir) => self.pointers.push(Pointer { path: path.into(), common_dir }),
                Err(error) => self.found.failed.push((inside, error)),
            }
        }
    }

    fn finish(mut self) -> Found {
        let mut taken = BTreeSet::new();
        for Pointer { path, common_dir } in self.pointers {
            let is_part = common_dir.ancestors().any(|above| {
                self.git_dirs.contains(above)
                    && common_dir.strip_prefix(above).is_ok_and(|below| {
                        below.as_os_str().is_empty() || below.starts_with("modules")
                    })
            });
            if !is_part && taken.insert(common_dir) {
                self.found.repositories.push(path);
            }
        }
        self.found.repositories.sort_unstable();
        self.found
    }
}

/// Where a `.git` file leads: to the common folder of all work trees.
fn common_dir(work_tree: &Path, pointer: &Path) -> io::Result<PathBuf> {
    let text = read_line(pointer)?;
    let target = text.strip_prefix(b"gitdir: ").ok_or_else(|| {
        io::Error::other("neither a repository nor a pointer to one (no `gitdir: PATH`)")
    })?;
    let git_dir = work_tree.join(OsStr::from_bytes(target)).canonicalize().map_err(|error| {
        let target = String::from_utf8_lossy(target).into_owned();
        io::Error::new(error.kind(), format!("leads to {target:?}: {error}"))
    })?;
    match read_line(&git_dir.join("commondir")) {
        Ok(common) => git_dir.join(OsStr::from_bytes(&common)).canonicalize(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(git_dir),
        Err(error) => Err(error),
    }
}

fn read_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(POINTER_LEN_MAX).read_to_end(&mut text)?;
    while text.last().is_some_and(|c| matches!(c, b'\n' | b'\r')) {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::{Repo, run_git};
    use std::fs;
    use std::os::unix::fs::symlink;

    fn found(root: &Path, rules: &Rules) -> Vec<String> {
        let root = root.canonicalize().unwrap();
        let found = find(&root, rules).unwrap();
        assert!(found.failed.is_empty(), "{:?}", found.failed);
        let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
        found.repositories.iter().map(name).collect()
    }

    fn init(path: &Path, further: &[&str]) {
        fs::create_dir_all(path).unwrap();
        run_git(path, &[&["init", "-q", "-b", "main"], further, &["."]].concat());
    }

    #[test]
    fn every_repository_is_found_once() {
        let main = Repo::new();
        main.commit("a", "one");
        let top = main.beside("");
        init(&top.join("bare.git"), &["--bare"]);
        init(&top.join("group/sub/other"), &[]);
        init(&top.join("repo/vendored/inner"), &[]);
        // Below a repository's own folder is no repository, and behind a link is none of this folder.
        init(&top.join("bare.git/objects/fake"), &["--bare"]);
        symlink(&top, top.join("group/loop")).unwrap();
        run_git(&main.path, &["worktree", "add", "-q", "../linked"]);
        fs::create_dir(top.join("plain")).unwrap();
        let all = ["bare.git", "group/sub/other", "repo", "repo/vendored/inner"];
        assert_eq!(found(&top, &Rules::default()), all);
        let rules = Rules::new(&["vendored/"], &[]).unwrap();
        assert_eq!(found(&top, &rules), all[..3]);
        fs::write(top.join("group/.nobackup"), "").unwrap();
        assert_eq!(found(&top, &rules), ["bare.git", "repo"]);
        assert_eq!(found(&top.join("bare.git"), &rules), [""], "the folder itself");
    }

    #[test]
    fn submodules_are_part_of_the_repository_around_them() {
        let (main, lib) = (Repo::new(), Repo::new());
        lib.commit("l", "lib");
        main.git(&["submodule", "--quiet", "add", lib.path.to_str().unwrap(), "libs/one"]);
        main.git(&["commit", "-q", "-m", "with a submodule"]);
        assert_eq!(found(&main.beside(""), &Rules::default()), ["repo"]);
        assert_eq!(found(&main.path.join("libs"), &Rules::default()), ["one"], "found alone");
    }

    #[test]
    fn work_trees_of_a_repository_elsewhere_are_taken_once() {
        let main = Repo::new();
        main.commit("a", "one");
        let top = main.beside("trees");
        for name in ["../trees/x", "../trees/y"] {
            main.git(&["worktree", "add", "-q", name]);
        }
        assert_eq!(found(&top, &Rules::default()), ["x"]);
        fs::write(top.join("y/.git"), "gitdir: /nonexistent/place\n").unwrap();
        let broken = find(&top, &Rules::default()).unwrap();
        assert_eq!((broken.repositories.len(), broken.failed.len()), (1, 1));
        assert!(broken.failed[0].1.to_string().contains("/nonexistent/place"));
    }
}
