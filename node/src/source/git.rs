//! A Git repository as a source: its references, `HEAD`, configuration and hooks, its objects as a chain of
//! its own packs and of bundles, each with what is lacking before it, and what these leave out and people would miss.
//!
//! ```text
//! HEAD  refs  symrefs                  the references, captured first, once: a bundle names only those that are new
//! base/pack-HASH.{idx,pack}  base/rest.pack    the beginning of the chain, where there are packs, see `base`
//! bundles/NNNNNN.bundle  format        the rest of it, and its description, see `chain`
//! config  config.worktree  description  hooks/*  info/{attributes,exclude,grafts,sparse-checkout}
//! lfs/objects/aa/bb/SHA256             large files, as far as they are here
//! logs/…  worktrees/ID/…               reflogs and linked work trees, see `kept`
//! modules/NAME/…                       of every submodule's repository all of this
//! ```
//! The references come first, then packs are opened, then Git goes from the captured references through all that they
//! reach, and puts into one pack more (or a bundle) what is nowhere in the chain. So what a snapshot holds is whole, whatever
//! is pushed, packed or collected meanwhile. A first backup copies packs, a later one asks Git for what is new; where nothing
//! is, three commands say so: `rev-parse`, `config`, `for-each-ref`.
//!
//! Objects that are borrowed (alternates) are in the chain like all others, so that what is restored stands
//! alone. Unreachable objects are part as far as they lie in packs that are taken as they are. The work tree and the index
//! are not part; uncommitted work is named.

pub(crate) mod base;
pub(crate) mod chain;
mod dirty;
pub mod find;
pub(crate) mod kept;
pub(crate) mod lfs;
pub(crate) mod mirror;
mod objects;
pub(crate) mod refs;
mod repository;
mod run;
mod state;

use super::{Previous, Report, Sink, Source, SourceError};
use crate::git::Git;
use protocol::item::SourceKind;
use repository::{Repository, is_git_dir};
use run::Run;
use std::path::Path;

/// A Git repository.
#[derive(Debug)]
pub struct GitSource {
    git: Git,
    repository: Repository,
}

/// Whether `path` is the root of a Git repository: bare, of a work tree, or a `.git` itself.
pub(super) fn is_repository(path: &Path) -> bool {
    let inside = path.join(".git");
    is_git_dir(path) || is_git_dir(&inside) || inside.is_file()
}

impl GitSource {
    /// The repository whose root is `path`.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let git = Git::find()?;
        let repository = Repository::open(&git, path)?;
        Ok(Self { git, repository })
    }
}

impl Source for GitSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Git
    }

    fn name(&self) -> String {
        self.repository.root.display().to_string()
    }

    fn run(
        &mut self,
        previous: &mut dyn Previous,
        sink: &mut dyn Sink,
    ) -> Result<Report, SourceError> {
        Run::all(&self.git, &self.repository, previous, sink)
    }
}

#[cfg(test)]
mod tests;
