//! `backup --git-root`: the repositories found, and what became of them.

use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::source::Rules;
use crate::source::git::find::find;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What was found below the folders named.
#[derive(Debug, Default)]
pub(super) struct GitRoots {
    roots: Vec<PathBuf>,
    pub(super) repositories: Vec<PathBuf>,
    /// Folders that could not be looked into.
    failed: u64,
}

/// The last word of a run.
#[derive(Debug, Serialize)]
struct Sum {
    found: u64,
    backed_up: u64,
    failed: u64,
    folders_failed: u64,
}

impl GitRoots {
    /// Looks below `roots`. One that does not exist or has no repository is a failure: somebody thinks that there
    /// is a backup.
    pub(super) fn search(
        roots: &[PathBuf],
        rules: &Rules,
        output: &Output,
    ) -> Result<Self, CliError> {
        let mut all = Self { roots: roots.to_vec(), ..Self::default() };
        let mut repositories = BTreeSet::new();
        let mut fail = |path: &Path, what: &str| {
            output.item_error("backup", &path.display().to_string(), what);
            all.failed += 1;
        };
        for root in roots {
            match find(root, rules) {
                Ok(found) => {
                    for (path, error) in &found.failed {
                        fail(path, &error.to_string());
                    }
                    if found.repositories.is_empty() {
                        fail(root, "there is no Git repository below it");
                    }
                    repositories.extend(found.repositories);
                }
                Err(error) => fail(root, &error.to_string()),
            }
        }
        if all.is_asked() && repositories.is_empty() {
            return Err(CliError::new("no Git repository was found").next(
                "name the folder that they lie in, or the repository itself without --git-root",
            ));
        }
        all.repositories = repositories.into_iter().collect();
        Ok(all)
    }

    pub(super) fn is_asked(&self) -> bool {
        !self.roots.is_empty()
    }

    /// How the program ends if nothing else goes wrong.
    pub(super) fn exit(&self) -> Exit {
        if self.failed == 0 { Exit::Done } else { Exit::SourceUnreadable }
    }

    /// Says how many repositories there were, and how many failed.
    pub(super) fn sum_up(&self, failed: &[&PathBuf], output: &Output) {
        if !self.is_asked() {
            return;
        }
        let found = self.repositories.len() as u64;
        let failed = failed.iter().filter(|path| self.repositories.contains(path)).count() as u64;
        let (backed_up, folders_failed) = (found - failed, self.failed);
        let sum = Sum { found, backed_up, failed, folders_failed };
        output.json("repositories", &sum);
        let roots: Vec<_> = self.roots.iter().map(|root| Path::display(root).to_string()).collect();
        let text = format!(
            "{found} repositories below {}: {backed_up} backed up, {failed} failed; {folders_failed} folders failed",
            roots.join(", ")
        );
        if failed + folders_failed > 0 { output.bad(text) } else { output.good(text) }
    }
}
