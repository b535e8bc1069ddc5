//! A Git repository from the folder of its items (see [`crate::source::git`]): put together again, or written as
//! plain bundles for use without Strewn.
//!
//! It is assembled beside the target under git's default configuration: packs of a base are linked into their place with
//! their indexes, what comes as a stream (the rest of a base, bundles) is indexed. Then the references are made, which takes
//! objects that are there, and it is given its own configuration and its hooks; once every reference is seen to be as the item
//! `refs` says it gets its name. Nothing that comes from the items is executed.
//!
//! What is indexed gets its names from its bytes, and everything that it links to must be there: for a chain of bundles that
//! is all links. The packs of a base came here chunk by chunk, each with the right name, and Git went through them when they
//! were backed up. Doing so again takes longer than the copy (of a large project a minute), so it is part of the full check
//! only, which goes through all packs, objects and links.

mod assembly;
mod bundle;
mod export;
mod items;

use crate::git::{Git, GitError};
use assembly::Assembly;
pub use export::export;
use items::Items;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRestored {
    /// Whether it has no work tree.
    pub is_bare: bool,
    /// References, those of submodules included.
    pub refs: u64,
    /// Packs that were taken as they are, those of submodules included.
    pub packs: u64,
    /// Bundles that were applied, those of submodules included.
    pub bundles: u64,
    /// What `HEAD` says.
    pub head: String,
    /// What people should know, git's remarks about odd old objects among it.
    pub notes: Vec<String>,
}

/// Why a repository was not restored. Nothing is left at the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitRestoreError {
    /// The target exists.
    #[error("{}: exists already; choose a directory that does not", .0.display())]
    Exists(PathBuf),
    /// An item is missing or cannot be read.
    #[error("item {item}: {error}")]
    Item {
        /// Its path.
        item: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// An item is not what it should be.
    #[error("item {item}: {reason}")]
    Malformed {
        /// Its path.
        item: String,
        /// What is wrong.
        reason: String,
    },
    /// A bundle or a pack is not the one that the chain was made of.
    #[error("{item}: {found} bytes with another content than the chain names ({expected} bytes)")]
    Chain {
        /// The bundle or pack.
        item: String,
        /// Its size.
        found: u64,
        /// The size that the chain names.
        expected: u64,
    },
    /// There are no bundles of what is no Git repository.
    #[error(
        "the snapshot is of a folder or a stream: it has no bundles; restore it without --as-bundle"
    )]
    NoRepository,
    /// A file at the target cannot be written.
    #[error("{}: {error}", path.display())]
    Target {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Git could not be run or failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The repository is damaged.
    #[error("the restored repository is damaged: {0}")]
    Damaged(String),
    /// The references are not those of the snapshot.
    #[error("{count} references differ from the snapshot, the first: {first}")]
    Refs {
        /// How many.
        count: u64,
        /// The first, as the snapshot has it and as it is.
        first: String,
    },
}

type Result<T> = std::result::Result<T, GitRestoreError>;

/// Makes the repository whose items lie in `staging` at `target`, which must not exist or be empty. It is put together
/// beside `staging`, which must be on the same file system. `in_full` has Git
/// go through every pack, object and link, and look at the form of objects.
pub fn assemble(staging: &Path, target: &Path, in_full: bool) -> Result<GitRestored> {
    let git = Git::find()?;
    let at_target = |error| GitRestoreError::Target { path: target.into(), error };
    let target = free(target)?;
    let parent = target.parent().unwrap_or(&target);
    let beside = tempfile::Builder::new()
        .prefix(".strewn-partial-")
        .tempdir_in(staging.parent().unwrap_or(parent))
        .map_err(at_target)?;
    let root = beside.path().join("repository");
    let restored = Assembly::read(&git, Items::all(staging), &root)?.run(in_full)?;
    // To the disk first: after a power cut the name must not stand for half a repository.
    let folder = File::open(beside.path()).map_err(at_target)?;
    rustix::fs::syncfs(&folder).map_err(|error| at_target(error.into()))?;
    fs::rename(root, &target).map_err(at_target)?;
    Ok(restored)
}

/// The target with its whole path, if there is nothing in it; the folders above it are made.
fn free(target: &Path) -> Result<PathBuf> {
    match fs::read_dir(target).map(|mut dir| dir.next().is_some()) {
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(true) | Err(_) => return Err(GitRestoreError::Exists(target.into())),
    }
    let at_target = |error| GitRestoreError::Target { path: target.into(), error };
    let target = std::path::absolute(target).map_err(at_target)?;
    fs::create_dir_all(target.parent().unwrap_or(&target)).map_err(at_target)?;
    Ok(target)
}

#[cfg(test)]
mod tests;
