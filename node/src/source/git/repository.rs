//! One repository: where its parts lie, and whether it is whole enough to be backed up.

use super::chain::{Form, oid_len};
use crate::git::{Git, GitError, Input, Settings, unexpected};
use crate::source::{SourceError, canonical};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a repository is asked at once: starting Git takes longer than its answer.
const ABOUT: [&str; 3] =
    ["--is-bare-repository", "--is-shallow-repository", "--show-object-format"];

/// The same, after where it is.
const PLACE: [&str; 3] = ["--path-format=absolute", "--absolute-git-dir", "--git-common-dir"];

/// A repository, or that of a submodule.
#[derive(Debug)]
pub(super) struct Repository {
    /// What was named.
    pub(super) root: PathBuf,
    /// Has `HEAD`; of a linked work tree its own.
    pub(super) git_dir: PathBuf,
    /// Has the references, objects and configuration.
    pub(super) common_dir: PathBuf,
    /// The files, where they are known.
    pub(super) work_tree: Option<PathBuf>,
    pub(super) form: Form,
    pub(super) object_format: String,
    settings: Settings,
}

pub(super) fn is_git_dir(path: &Path) -> bool {
    path.join("HEAD").symlink_metadata().is_ok()
        && path.join("objects").is_dir()
        && path.join("refs").symlink_metadata().is_ok()
}

impl Repository {
    /// The repository whose root is `path`.
    pub(super) fn open(git: &Git, path: &Path) -> Result<Self, SourceError> {
        let root = canonical(path)?;
        let inside = root.join(".git");
        let named = if inside.exists() { &inside } else { &root };
        let ask = |args: &[&str]| answer(git, git.at(named), args);
        let all = ask(&[&PLACE[..], &ABOUT].concat())?;
        let lines: Vec<&[u8]> = all.splitn(3, |c| *c == b'\n').collect();
        let (git_dir, common_dir, about) = match lines[..] {
            [git_dir, common_dir, about] if is_about(about) => {
                (git_dir.to_vec(), common_dir.to_vec(), about.to_vec())
            }
            // A path has more than one line.
            _ => (ask(&PLACE[..2])?, ask(&[PLACE[0], PLACE[2]])?, ask(&ABOUT)?),
        };
        let (git_dir, common_dir) = (directory(git_dir), directory(common_dir));
        let is_bare = about.starts_with(b"true\n");
        let work_tree = inside.exists().then(|| root.clone());
        let form = if is_bare && work_tree.is_none() { Form::Bare } else { Form::WorkTree };
        let (object_format, settings) = Default::default();
        Self { root, git_dir, common_dir, work_tree, form, object_format, settings }
            .checked(git, &about)
    }

    /// The repository of a submodule.
    pub(super) fn open_module(git: &Git, git_dir: PathBuf) -> Result<Self, SourceError> {
        let module = Self {
            root: git_dir.clone(),
            common_dir: git_dir.clone(),
            git_dir,
            work_tree: None,
            form: Form::Module,
            object_format: String::new(),
            settings: Settings::default(),
        };
        let about = answer(git, module.command(git), &ABOUT)?;
        let mut module = module.checked(git, &about)?;
        let work_tree = module.setting("core.worktree").map(|path| module.below(path));
        module.work_tree = work_tree.and_then(|path| path.canonicalize().ok());
        Ok(module)
    }

    /// Git in it.
    pub(super) fn command(&self, git: &Git) -> Command {
        let mut command = git.at(&self.git_dir);
        if self.form == Form::Module {
            // Git fails where the work tree that the configuration names is not there.
            command.env("GIT_WORK_TREE", git.scratch());
        }
        command
    }

    /// A setting, if there is one.
    pub(super) fn setting(&self, key: &str) -> Option<&[u8]> {
        self.settings.get(key)
    }

    /// A path that git takes relative to the repository.
    pub(super) fn below(&self, path: &[u8]) -> PathBuf {
        self.common_dir.join(OsStr::from_bytes(path))
    }

    /// Whether it is a work tree of another repository.
    pub(super) fn is_linked(&self) -> bool {
        self.git_dir != self.common_dir
    }

    /// Whether its references lie in tables, not in files.
    pub(super) fn has_tables(&self) -> bool {
        self.common_dir.join("reftable").is_dir()
    }

    /// With what Git says to [`ABOUT`].
    fn checked(mut self, git: &Git, about: &[u8]) -> Result<Self, SourceError> {
        let lines: Vec<&[u8]> = about.split(|c| *c == b'\n').collect();
        let [_, is_shallow, name] = lines[..] else {
            return Err(unexpected("rev-parse", about).into());
        };
        if is_shallow == b"true" {
            return Err(SourceError::Shallow(self.root));
        }
        self.object_format = String::from_utf8(name.to_vec())
            .ok()
            .filter(|name| oid_len(name).is_some())
            .ok_or_else(|| unexpected("rev-parse", b"an unknown object format"))?;
        let mut command = self.command(git);
        command.arg("config").args(Settings::LIST);
        self.settings = Settings::parse(&git.run(&mut command, Input::Nothing)?.stdout);
        self.check_complete()?;
        Ok(self)
    }

    /// Refuses a repository that leaves objects with a remote.
    fn check_complete(&self) -> Result<(), SourceError> {
        for (key, value) in self.settings.iter() {
            let value = String::from_utf8_lossy(value.unwrap_or(b"true"));
            let remote = key.strip_prefix("remote.").and_then(|key| key.strip_suffix(".promisor"));
            let off =
                ["false", "no", "off", "0", ""].contains(&value.to_ascii_lowercase().as_str());
            let remote = match remote {
                Some(remote) if !off => remote,
                None if key == "extensions.partialclone" => &value,
                _ => continue,
            };
            return Err(SourceError::Partial { path: self.root.clone(), remote: remote.into() });
        }
        Ok(())
    }

    /// What it means that one of its packs is not what Git wrote.
    pub(super) fn damaged(&self, file: String, error: io::Error) -> SourceError {
        SourceError::Damaged { path: self.root.clone(), file, error }
    }

    /// What it means that git could not read the captured objects.
    pub(super) fn failed(&self, error: GitError) -> SourceError {
        match error {
            GitError::Failed { message, .. } => {
                SourceError::Missing { path: self.root.clone(), message }
            }
            other => SourceError::Git(other),
        }
    }
}

/// Whether it can be all that Git says to [`ABOUT`].
fn is_about(lines: &[u8]) -> bool {
    let lines: Vec<&[u8]> = lines.split(|c| *c == b'\n').collect();
    let is_bool = |line: &[u8]| matches!(line, b"true" | b"false");
    matches!(lines[..], [bare, shallow, _] if is_bool(bare) && is_bool(shallow))
}

/// What `git rev-parse` says.
fn answer(git: &Git, mut command: Command, args: &[&str]) -> Result<Vec<u8>, GitError> {
    let mut answer = git.run(command.arg("rev-parse").args(args), Input::Nothing)?.stdout;
    answer.pop();
    Ok(answer)
}

fn directory(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&bytes))
}
