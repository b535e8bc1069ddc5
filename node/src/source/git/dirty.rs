//! What people may think to be part of a backup and is not: it is named.

use super::lfs::{self, Store};
use super::mirror::Mirror;
use super::refs::{Head, Refs};
use super::repository::Repository;
use crate::git::{Git, GitError, Input};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

/// Submodules that are named one by one.
const NAMED_MAX: usize = 20;

/// What of `repository` is not part of its backup.
pub(super) fn notes(
    git: &Git,
    repository: &Repository,
    refs: &Refs,
    mirror: &Mirror<'_>,
    store: &Store,
    has_large_files: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    if repository.has_tables() {
        notes.push(
            "its references lie in tables (reftable): reflogs, older entries of the stash and linked work trees \
             are not part of this backup"
                .into(),
        );
    }
    if repository.is_linked() {
        notes.push(format!(
            "a linked work tree: HEADs of other work trees are not part of this backup. Back up {} for all of them",
            repository.common_dir.display()
        ));
    }
    let trees = std::fs::read_dir(repository.common_dir.join("worktrees"));
    for tree in trees.into_iter().flatten().flatten().filter(|_| !repository.is_linked()) {
        if tree.path().join("modules").is_dir() {
            notes.push(format!(
                "the submodules of the linked work tree {} are not part of this backup: back up that work tree too",
                tree.file_name().display()
            ));
        }
    }
    if let (Store::At(store), true) = (store, has_large_files) {
        match lfs::absent(git, mirror, store) {
            Ok(0) => {}
            Ok(count) => notes.push(format!(
                "{count} large files (LFS) are not here, only pointers to them: they are not part of this backup. \
                 `git lfs fetch --all` brings them"
            )),
            Err(error) => notes.push(format!(
                "whether all large files (LFS) are here is unknown: {error}"
            )),
        }
    }
    let Some(work_tree) = &repository.work_tree else { return notes };
    let looking = Looking { git, repository, work_tree, mirror };
    match looking.is_dirty(refs) {
        Ok(false) => {}
        Ok(true) => notes.push(
            "the work tree has changes or files that are not committed; they are not part of this backup. \
             Commit them, or back up the directory as plain files"
                .into(),
        ),
        Err(error) => notes.push(format!(
            "uncommitted changes are not part of this backup; whether there are any is unknown: {error}"
        )),
    }
    match looking.embedded() {
        Ok(found) => notes.extend(found),
        Err(error) => notes.push(format!("its submodules could not be listed: {error}")),
    }
    notes
}

/// A look at a work tree, through the mirror, so that no filter or monitor of the repository's configuration is
/// executed.
struct Looking<'a> {
    git: &'a Git,
    repository: &'a Repository,
    work_tree: &'a Path,
    mirror: &'a Mirror<'a>,
}

impl Looking<'_> {
    fn command(&self) -> Result<Command, GitError> {
        let mut option = OsString::from("--work-tree=");
        option.push(self.work_tree);
        let mut command = self.mirror.command()?;
        command
            .env("GIT_INDEX_FILE", self.repository.git_dir.join("index"))
            .current_dir(self.work_tree)
            .arg(option);
        Ok(command)
    }

    /// Whether the work tree has what `HEAD` has not.
    fn is_dirty(&self, refs: &Refs) -> Result<bool, GitError> {
        let is_born = match &refs.head {
            Head::Detached(_) => true,
            Head::Symbolic(target) => refs.oid_of(target).is_some(),
        };
        let mut staged = self.command()?;
        if is_born {
            staged.args(["diff-index", "--cached", "--name-only", "HEAD"]);
        } else {
            staged.args(["ls-files", "--cached"]);
        }
        let mut changed = self.command()?;
        changed.args(["diff-files", "--name-only", "--ignore-submodules=all"]);
        let mut untracked = self.command()?;
        untracked.args([
            "ls-files",
            "--others",
            "--exclude-standard",
            "--directory",
            "--no-empty-directory",
        ]);
        let exclude = self.repository.common_dir.join("info/exclude");
        if exclude.is_file() {
            let mut option = OsString::from("--exclude-from=");
            option.push(exclude);
            untracked.arg(option);
        }
        for mut command in [staged, changed, untracked] {
            let mut running = self.git.start(&mut command, Input::Nothing)?;
            if running.read(&mut [0])? > 0 {
                return Ok(true);
            }
            running.check()?;
        }
        Ok(false)
    }

    /// Submodules whose repositories lie in the work tree, as old versions of Git placed them.
    fn embedded(&self) -> Result<Vec<String>, GitError> {
        let mut command = self.command()?;
        command.args(["ls-files", "--stage", "-z"]);
        let mut running = self.git.start(&mut command, Input::Nothing)?;
        let (mut notes, mut more) = (Vec::new(), 0);
        for entry in BufReader::new(&mut running).split(0) {
            let entry = entry?;
            let Some(entry) = entry.strip_prefix(b"160000 ") else { continue };
            let Some(tab) = entry.iter().position(|c| *c == b'\t') else { continue };
            let path = OsStr::from_bytes(&entry[tab + 1..]);
            if !self.work_tree.join(path).join(".git").is_dir() {
                continue;
            }
            if notes.len() < NAMED_MAX {
                notes.push(format!(
                    "submodule {}: its repository lies in the work tree and is not part of this backup; \
                     --git-root takes it, `git submodule absorbgitdirs` moves it to where it is found",
                    path.display()
                ));
            } else {
                more += 1;
            }
        }
        running.check()?;
        if more > 0 {
            notes.push(format!("{more} more submodules like these"));
        }
        Ok(notes)
    }
}
