//! A Git repository as a source: its references, `HEAD`, configuration and hooks, and its objects as
//! a chain of bundles, each with what the ones before lack.
//!
//! The items are `HEAD`, `bundles/NNNNNN.bundle`, `config`, `description`, `format`, `hooks/*`,
//! `info/exclude`, `refs` and `symrefs`. The references are captured first, once; `refs` is the truth
//! about them, for a bundle names only those that are new. The work tree, the index, reflogs and
//! unreachable objects are not part.

pub(crate) mod chain;
mod mirror;
pub(crate) mod refs;

use super::directory::{meta_of, offer_file};
use super::walk::{Walk, open_root};
use super::{Previous, Report, Sink, SinkError, Source, SourceError, canonical, settle};
use crate::git::{Git, GitError, Input, unexpected};
use chain::{Bundle, CHAIN_LEN_MAX, Description, Form, State, bundle_path, is_object_format};
use mirror::Mirror;
use protocol::codec::Blob;
use protocol::item::{Meta, SourceKind, Stamp, Timestamp};
use refs::{Head, Refs};
use rustix::fs::{AtFlags, FileType, Stat, statat};
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A Git repository.
#[derive(Debug)]
pub struct GitSource {
    git: Git,
    /// What was named.
    root: PathBuf,
    /// Has `HEAD`; of a linked work tree its own.
    git_dir: PathBuf,
    /// Has the references, objects and configuration.
    common_dir: PathBuf,
    /// The files, where they are known.
    work_tree: Option<PathBuf>,
    form: Form,
    object_format: String,
}

/// Whether `path` is the root of a Git repository: bare, of a work tree, or a `.git` itself.
pub(super) fn is_repository(path: &Path) -> bool {
    let inside = path.join(".git");
    is_git_dir(path) || is_git_dir(&inside) || inside.is_file()
}

fn is_git_dir(path: &Path) -> bool {
    path.join("HEAD").symlink_metadata().is_ok()
        && path.join("objects").is_dir()
        && path.join("refs").symlink_metadata().is_ok()
}

impl GitSource {
    /// The repository whose root is `path`.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let git = Git::find()?;
        let root = canonical(path)?;
        let inside = root.join(".git");
        let named = if inside.exists() { &inside } else { &root };
        let ask = |args: &[&str]| -> Result<Vec<u8>, GitError> {
            let mut command = git.at(named);
            let mut answer = git.run(command.arg("rev-parse").args(args), Input::Nothing)?.stdout;
            answer.pop();
            Ok(answer)
        };
        let directory = |bytes: Vec<u8>| PathBuf::from(OsStr::from_bytes(&bytes));
        let git_dir = directory(ask(&["--absolute-git-dir"])?);
        let common_dir = directory(ask(&["--path-format=absolute", "--git-common-dir"])?);
        let is_bare = ask(&["--is-bare-repository"])? == b"true";
        if ask(&["--is-shallow-repository"])? == b"true" {
            return Err(SourceError::Shallow(root));
        }
        let object_format = ask(&["--show-object-format"])?;
        let object_format = String::from_utf8(object_format)
            .ok()
            .filter(|name| is_object_format(name))
            .ok_or_else(|| unexpected("rev-parse", b"an unknown object format"))?;
        let work_tree = inside.exists().then(|| root.clone());
        let form = if is_bare && work_tree.is_none() { Form::Bare } else { Form::WorkTree };
        let source = Self { git, root, git_dir, common_dir, work_tree, form, object_format };
        source.check_complete()?;
        Ok(source)
    }

    /// Refuses a repository that leaves objects with a remote.
    fn check_complete(&self) -> Result<(), SourceError> {
        let mut command = self.git.at(&self.git_dir);
        command.args([
            "config",
            "-z",
            "--get-regexp",
            r"^(remote\..*\.promisor|extensions\.partialclone)$",
        ]);
        let answer = self.git.ask(&mut command, Input::Nothing)?;
        for entry in answer.stdout.split(|c| *c == 0).filter(|entry| !entry.is_empty()) {
            let entry = String::from_utf8_lossy(entry);
            let (key, value) = entry.split_once('\n').unwrap_or((&entry, "true"));
            let remote = key.strip_prefix("remote.").and_then(|key| key.strip_suffix(".promisor"));
            let off =
                ["false", "no", "off", "0", ""].contains(&value.to_ascii_lowercase().as_str());
            let remote = match remote {
                Some(_) if off => continue,
                Some(remote) => remote,
                None => value,
            };
            return Err(SourceError::Partial { path: self.root.clone(), remote: remote.into() });
        }
        Ok(())
    }
}

impl Source for GitSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Git
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn run(
        &mut self,
        previous: &mut dyn Previous,
        sink: &mut dyn Sink,
    ) -> Result<Report, SourceError> {
        let (refs, remarks) = Refs::capture(&self.git, &self.git_dir)?;
        let open = |error| SourceError::Open { path: self.common_dir.clone(), error };
        let home = open_root(&self.common_dir).map_err(open)?;
        let stat = rustix::fs::fstat(&home).map_err(|error| open(error.into()))?;
        let objects = self.common_dir.join("objects");
        let mirror = Mirror::new(&self.git, &objects, &self.object_format, &refs)?;
        let mut run = Run { source: self, previous, sink, report: Report::default(), owner: stat };
        for line in remarks.broken {
            run.report.fail(b"refs", line);
        }
        run.report.notes.extend(remarks.dangling);
        run.report.notes.extend(self.notes(&refs, &mirror));

        run.text("HEAD", &refs.head.encode())?;
        run.synthetic_directory("bundles")?;
        let bundles = run.bundles(&mirror, &refs)?;
        run.kept(&home, "config")?;
        run.kept(&home, "description")?;
        let description = Description {
            object_format: self.object_format.clone(),
            form: self.form,
            bundles: bundles.clone(),
        };
        run.text("format", &description.encode())?;
        run.hooks()?;
        run.info(&home)?;
        run.text("refs", &refs.encode_list())?;
        run.text("symrefs", &refs.encode_symbolic())?;

        let tips = refs.oids().into_iter().map(str::to_owned).collect();
        let state = State { object_format: self.object_format.clone(), bundles, tips };
        run.report.state = state.encode();
        Ok(run.report)
    }
}

impl GitSource {
    /// What is not part of the backup although people may think so.
    fn notes(&self, refs: &Refs, mirror: &Mirror<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        if refs.list.iter().any(|r| r.name == b"refs/stash") {
            notes.push(
                "of the stash only the newest entry is kept: older ones are in its reflog".into(),
            );
        }
        if let Some(work_tree) = &self.work_tree {
            match self.is_dirty(work_tree, refs, mirror) {
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
        }
        notes
    }

    /// Whether the work tree has what `HEAD` has not. Asked through the mirror, so that no filter or
    /// monitor of the repository's configuration is executed.
    fn is_dirty(
        &self,
        work_tree: &Path,
        refs: &Refs,
        mirror: &Mirror<'_>,
    ) -> Result<bool, GitError> {
        let command = || {
            let mut option = std::ffi::OsString::from("--work-tree=");
            option.push(work_tree);
            let mut command = mirror.command();
            command
                .env("GIT_INDEX_FILE", self.git_dir.join("index"))
                .current_dir(work_tree)
                .arg(option);
            command
        };
        let is_born = match &refs.head {
            Head::Detached(_) => true,
            Head::Symbolic(target) => refs.list.iter().any(|r| &r.name == target),
        };
        let mut staged = command();
        if is_born {
            staged.args(["diff-index", "--cached", "--name-only", "HEAD"]);
        } else {
            staged.args(["ls-files", "--cached"]);
        }
        let mut changed = command();
        changed.args(["diff-files", "--name-only", "--ignore-submodules=all"]);
        let mut untracked = command();
        untracked.args([
            "ls-files",
            "--others",
            "--exclude-standard",
            "--directory",
            "--no-empty-directory",
        ]);
        let exclude = self.common_dir.join("info/exclude");
        if exclude.is_file() {
            let mut option = std::ffi::OsString::from("--exclude-from=");
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
}

/// One backup under way.
struct Run<'a> {
    source: &'a GitSource,
    previous: &'a mut dyn Previous,
    sink: &'a mut dyn Sink,
    report: Report,
    /// Whose metadata items have that are no files in the repository.
    owner: Stat,
}

impl Run<'_> {
    /// The chain: what is kept of it and, where the references reach further, one bundle more.
    fn bundles(&mut self, mirror: &Mirror<'_>, refs: &Refs) -> Result<Vec<Bundle>, SourceError> {
        let oids = refs.oids();
        let state = self.previous.state().and_then(State::decode).filter(|state| {
            state.object_format == self.source.object_format && state.bundles.len() < CHAIN_LEN_MAX
        });
        let (mut bundles, tips) = match state {
            Some(state) => self.keep(state)?,
            None => (Vec::new(), BTreeSet::new()),
        };
        if oids.iter().all(|oid| tips.contains(*oid)) {
            return Ok(bundles);
        }
        let failed = |error| self.source.failed(error);
        // After a forced push and a collection old objects may be gone; a bundle cannot exclude them.
        let known = mirror.present(&tips).map_err(failed)?;
        if !known.is_empty() && !mirror.is_beyond(&oids, &known).map_err(failed)? {
            return Ok(bundles);
        }
        let mut stream = mirror.bundle(&known).map_err(failed)?;
        let path = bundle_path(bundles.len());
        let (meta, stamp) = self.synthetic(&path, 0o644);
        let size = match self.sink.file(meta, stamp, &mut stream) {
            Ok(size) => size,
            Err(SinkError::Read(error)) => {
                let error = stream.failure().unwrap_or(GitError::Io(error));
                return Err(self.source.failed(error));
            }
            Err(SinkError::Stopped(why)) => return Err(SourceError::Stopped(why)),
        };
        let hash = stream.hash().ok_or_else(|| {
            SourceError::Stopped(format!("{path}: the bundle was not read to its end"))
        })?;
        bundles.push(Bundle { size, hash });
        Ok(bundles)
    }

    /// Lists the bundles of the last snapshot again. Where one is not known any more the chain ends
    /// before it, and what comes next must stand alone.
    fn keep(&mut self, state: State) -> Result<(Vec<Bundle>, BTreeSet<String>), SourceError> {
        let mut kept = Vec::new();
        for bundle in &state.bundles {
            let path = bundle_path(kept.len());
            let before =
                self.previous.file(path.as_bytes()).filter(|file| file.size == bundle.size);
            let known = match before {
                Some(before) => {
                    let (meta, stamp) = (before.meta.clone(), before.stamp);
                    match self.sink.unchanged(meta, before, stamp) {
                        Ok(known) => known,
                        Err(SinkError::Read(_)) => false,
                        Err(SinkError::Stopped(why)) => return Err(SourceError::Stopped(why)),
                    }
                }
                None => false,
            };
            if !known {
                return Ok((kept, BTreeSet::new()));
            }
            kept.push(*bundle);
        }
        Ok((kept, state.tips))
    }

    /// A file of the repository, if it is there.
    fn kept(&mut self, dir: impl AsFd, path: &str) -> Result<(), SourceError> {
        let Some(name) = path.rsplit('/').next().and_then(|name| CString::new(name).ok()) else {
            return Ok(());
        };
        let stat = match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => {
                self.report.fail(path.as_bytes(), io::Error::from(error));
                return Ok(());
            }
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.report.fail(path.as_bytes(), "not a regular file");
            return Ok(());
        }
        let place = (dir.as_fd(), name.as_c_str());
        offer_file(place, path.as_bytes(), &stat, self.previous, self.sink, &mut self.report)
    }

    fn hooks(&mut self) -> Result<(), SourceError> {
        let Ok(mut walk) = open_root(&self.source.common_dir.join("hooks")).and_then(Walk::new)
        else {
            return Ok(());
        };
        self.synthetic_directory("hooks")?;
        while let Some(step) = walk.advance() {
            if step.is_err() || walk.path().ends_with(b".sample") {
                continue;
            }
            let path = [b"hooks/", walk.path()].concat();
            let stat = match walk.stat() {
                Ok(stat) => stat,
                Err(error) => {
                    self.report.fail(&path, error);
                    continue;
                }
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let place = walk.place();
                    offer_file(place, &path, &stat, self.previous, self.sink, &mut self.report)?;
                }
                FileType::Symlink => match walk.read_link() {
                    Ok(target) => {
                        let result = self.sink.symlink(meta_of(&path, &stat), target);
                        settle(result, &path, &mut self.report)?;
                    }
                    Err(error) => self.report.fail(&path, error),
                },
                _ => self.report.note(&path, "skipped: neither a file nor a symbolic link"),
            }
        }
        Ok(())
    }

    fn info(&mut self, home: impl AsFd) -> Result<(), SourceError> {
        let info = self.source.common_dir.join("info");
        if statat(home, c"info/exclude", AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return Ok(());
        }
        self.synthetic_directory("info")?;
        match open_root(&info) {
            Ok(dir) => self.kept(&dir, "info/exclude"),
            Err(error) => {
                self.report.fail(b"info/exclude", error);
                Ok(())
            }
        }
    }

    fn text(&mut self, path: &str, text: &[u8]) -> Result<(), SourceError> {
        let (meta, stamp) = self.synthetic(path, 0o644);
        let result = self.sink.file(meta, stamp, &mut &*text).map(|_| ());
        // Without one of these the snapshot is none.
        result.map_err(|error| SourceError::Stopped(format!("{path}: {error}")))
    }

    fn synthetic_directory(&mut self, path: &str) -> Result<(), SourceError> {
        let (meta, _) = self.synthetic(path, 0o755);
        settle(self.sink.directory(meta), path.as_bytes(), &mut self.report)
    }

    fn synthetic(&self, path: &str, mode: u32) -> (Meta, Stamp) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mtime = Timestamp {
            secs: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanos: now.subsec_nanos(),
        };
        let (uid, gid) = (self.owner.st_uid, self.owner.st_gid);
        let meta = Meta { path: Blob(path.as_bytes().to_vec()), mode, uid, gid, mtime };
        (meta, Stamp { ctime: mtime, inode: 0, device: 0 })
    }
}

impl GitSource {
    /// What it means that git could not read the captured objects.
    fn failed(&self, error: GitError) -> SourceError {
        match error {
            GitError::Failed { message, .. } => {
                SourceError::Missing { path: self.root.clone(), message }
            }
            other => SourceError::Git(other),
        }
    }
}

#[cfg(test)]
mod tests;
