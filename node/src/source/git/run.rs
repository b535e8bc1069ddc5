//! One backup of a repository under way, and of the repositories of its submodules: every item, in path order.

use super::chain::{Chain, Description};
use super::dirty;
use super::kept::Kept;
use super::lfs::{self, Hashing, Store};
use super::mirror::Mirror;
use super::refs::Refs;
use super::repository::{Repository, is_git_dir};
use super::state::State;
use crate::git::Git;
use crate::source::directory::{meta_of, offer_file};
use crate::source::walk::{Walk, open_root};
use crate::source::{Previous, Report, Sink, SourceError, settle};
use protocol::codec::Blob;
use protocol::item::{Meta, Stamp, Timestamp};
use rustix::fs::{AtFlags, FileType, Stat, statat};
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Submodules of submodules that are gone into.
const DEPTH_MAX: usize = 16;

/// What all repositories of a run share.
#[derive(Default)]
struct Shared {
    report: Report,
    before: State,
    after: State,
    /// Directories that the sink has.
    made: BTreeSet<Vec<u8>>,
}

/// One repository of a backup under way.
pub(super) struct Run<'a> {
    git: &'a Git,
    pub(super) repository: &'a Repository,
    /// Before the path of every item: nothing, or that of a submodule with a slash.
    prefix: Vec<u8>,
    depth: usize,
    pub(super) previous: &'a mut dyn Previous,
    pub(super) sink: &'a mut dyn Sink,
    shared: &'a mut Shared,
    /// Whose metadata items have that are no files in the repository.
    owner: Stat,
}

impl<'a> Run<'a> {
    /// Backs it all up.
    pub(super) fn all(
        git: &Git,
        repository: &Repository,
        previous: &mut dyn Previous,
        sink: &mut dyn Sink,
    ) -> Result<Report, SourceError> {
        let before = previous.state().and_then(State::decode).unwrap_or_default();
        let mut shared = Shared { before, ..Shared::default() };
        Run::begin(git, repository, previous, sink, &mut shared)?.items()?;
        let mut report = shared.report;
        report.state = shared.after.encode();
        Ok(report)
    }

    fn begin(
        git: &'a Git,
        repository: &'a Repository,
        previous: &'a mut dyn Previous,
        sink: &'a mut dyn Sink,
        shared: &'a mut Shared,
    ) -> Result<Self, SourceError> {
        let open = |error| SourceError::Open { path: repository.common_dir.clone(), error };
        let owner = rustix::fs::stat(&repository.common_dir).map_err(|error| open(error.into()))?;
        let prefix = Vec::new();
        Ok(Run { git, repository, prefix, depth: 0, previous, sink, shared, owner })
    }

    fn items(&mut self) -> Result<(), SourceError> {
        let repository = self.repository;
        let at = || repository.command(self.git);
        let (refs, remarks) = Refs::capture(self.git, &repository.git_dir, at)?;
        let mut kept = Kept::capture(repository, &refs, &self.prefix, &mut self.shared.report);
        let objects = repository.common_dir.join("objects");
        let mut mirror = Mirror::new(self.git, &objects, &repository.object_format);
        let further = self.reached_otherwise(&mirror, &refs, &mut kept)?;
        mirror.point(&refs, &further)?;
        for line in remarks.broken {
            self.fail("refs", line);
        }
        let store = lfs::store(repository);
        let mut chain = self.chain_before();
        let has_large_files = self.has_large_files(&mut chain, &refs, &mirror)?;
        let notes = dirty::notes(self.git, repository, &refs, &mirror, &store, has_large_files);
        remarks.dangling.into_iter().chain(notes).for_each(|note| self.note(note));

        self.text("HEAD", &refs.head.encode())?;
        let mut oids = refs.oids();
        oids.extend(further.iter().map(String::as_str));
        let chain = self.objects(chain, &mirror, &oids)?;
        self.file(&repository.common_dir, "config")?;
        self.file(&repository.git_dir, "config.worktree")?;
        self.file(&repository.common_dir, "description")?;
        let description = Description {
            object_format: repository.object_format.clone(),
            form: repository.form,
            base: chain.base.as_ref().map(|base| base.body.clone()),
            bundles: chain.bundles.iter().map(|link| link.body).collect(),
        };
        self.text("format", &description.encode())?;
        self.hooks()?;
        for name in ["attributes", "exclude", "grafts"] {
            self.file(&repository.common_dir, &format!("info/{name}"))?;
        }
        self.file(&repository.git_dir, "info/sparse-checkout")?;
        self.large_files(store)?;
        self.texts(&kept.logs)?;
        self.modules()?;
        self.text("refs", &refs.encode_list())?;
        self.text("symrefs", &refs.encode_symbolic())?;
        self.texts(&kept.worktrees)?;
        self.shared.after.chains.insert(self.prefix.clone(), chain);
        Ok(())
    }

    /// What was remembered of this repository.
    fn chain_before(&mut self) -> Chain {
        let object_format = &self.repository.object_format;
        let before = self.shared.before.chains.remove(&self.prefix);
        before
            .filter(|chain| chain.object_format == *object_format)
            .unwrap_or_else(|| Chain { object_format: object_format.clone(), ..Chain::default() })
    }

    /// Whether `HEAD` speaks of large files. Git is not asked again about a commit that did not.
    fn has_large_files(
        &self,
        chain: &mut Chain,
        refs: &Refs,
        mirror: &Mirror<'_>,
    ) -> Result<bool, SourceError> {
        let Some(tip) = refs.tip() else { return Ok(false) };
        if chain.plain_tip.as_deref() == Some(tip) {
            return Ok(false);
        }
        let is_spoken_of = lfs::is_spoken_of(self.git, mirror)?;
        chain.plain_tip = (!is_spoken_of).then(|| tip.to_owned());
        Ok(is_spoken_of)
    }

    /// Objects that only reflogs and linked work trees reach. What of these is not whole is left out.
    fn reached_otherwise(
        &mut self,
        mirror: &Mirror<'_>,
        refs: &Refs,
        kept: &mut Kept,
    ) -> Result<BTreeSet<String>, SourceError> {
        let oids = refs.oids();
        let named: BTreeSet<String> =
            kept.oids().into_iter().filter(|oid| !oids.contains(oid.as_str())).collect();
        if named.is_empty() {
            return Ok(named);
        }
        let there: BTreeSet<String> = mirror.present(&named)?.into_iter().collect();
        kept.retain(|oid| oids.contains(oid) || there.contains(oid));
        match mirror.beyond(&there, &oids) {
            Ok(beyond) => Ok(beyond),
            Err(error) => {
                *kept = Kept::default();
                let what = "reflogs and linked work trees are left out: objects that they need cannot be read";
                self.fail("logs", format_args!("{what} ({error})"));
                Ok(BTreeSet::new())
            }
        }
    }

    /// A file of the repository, if it is there.
    fn file(&mut self, dir: &Path, path: &str) -> Result<(), SourceError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Ok(name) = CString::new(name) else { return Ok(()) };
        let looked = open_root(&dir.join(folder)).and_then(|dir| {
            let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok((dir, stat))
        });
        let (dir, stat) = match looked {
            Ok(looked) => looked,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.fail(path, error);
                return Ok(());
            }
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.fail(path, "not a regular file");
            return Ok(());
        }
        let path = self.at(path);
        self.directories_above(&path)?;
        let place = (dir.as_fd(), name.as_c_str());
        let report = &mut self.shared.report;
        offer_file(place, &path, &stat, self.previous, self.sink, report)
    }

    fn hooks(&mut self) -> Result<(), SourceError> {
        let Ok(mut walk) = open_root(&self.repository.common_dir.join("hooks")).and_then(Walk::new)
        else {
            return Ok(());
        };
        self.directory("hooks")?;
        while let Some(step) = walk.advance() {
            if step.is_err() || walk.path().ends_with(b".sample") {
                continue;
            }
            let path = self.at([b"hooks/", walk.path()].concat());
            let report = &mut self.shared.report;
            let stat = match walk.stat() {
                Ok(stat) => stat,
                Err(error) => {
                    report.fail(&path, error);
                    continue;
                }
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    offer_file(walk.place(), &path, &stat, self.previous, self.sink, report)?;
                }
                FileType::Symlink => match walk.read_link() {
                    Ok(target) => {
                        let result = self.sink.symlink(meta_of(&path, &stat), target);
                        settle(result, &path, report)?;
                    }
                    Err(error) => report.fail(&path, error),
                },
                _ => report.note(&path, "skipped: neither a file nor a symbolic link"),
            }
        }
        Ok(())
    }

    /// The objects of Git LFS.
    fn large_files(&mut self, store: Store) -> Result<(), SourceError> {
        let store = match store {
            Store::At(store) => store,
            Store::Unknown(setting) => {
                self.note(format!(
                    "large files (LFS) are not part of this backup: lfs.storage = {setting:?} is no plain path"
                ));
                return Ok(());
            }
        };
        let mut walk = match open_root(&store).and_then(Walk::new) {
            Ok(walk) => walk,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.fail("lfs/objects", error);
                return Ok(());
            }
        };
        while let Some(step) = walk.advance() {
            let path = self.at([b"lfs/objects/", walk.path()].concat());
            let report = &mut self.shared.report;
            let stat = match step.map_err(|lost| lost.error).and_then(|()| walk.stat()) {
                Ok(stat) => stat,
                Err(error) => {
                    report.fail(&path, error);
                    continue;
                }
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if walk.path().len() <= 5 => {
                    if let Err(error) = walk.open_directory().and_then(|dir| walk.enter(dir)) {
                        report.fail(&path, error);
                    }
                }
                FileType::RegularFile => {
                    let Some(name) = lfs::name_of(walk.path()) else { continue };
                    self.directories_above(&path)?;
                    let report = &mut self.shared.report;
                    let mut sink = Hashing::new(self.sink);
                    offer_file(walk.place(), &path, &stat, self.previous, &mut sink, report)?;
                    if sink.hash().is_some_and(|hash| hash.as_bytes() != name) {
                        report.fail(&path, "its content is not what its name says: damaged here");
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The repositories of submodules, wherever they lie below `modules`: names have slashes.
    fn modules(&mut self) -> Result<(), SourceError> {
        let top = self.repository.git_dir.join("modules");
        let Ok(mut walk) = open_root(&top).and_then(Walk::new) else { return Ok(()) };
        while let Some(step) = walk.advance() {
            let path = self.at([b"modules/", walk.path()].concat());
            let is_directory = |stat: Stat| FileType::from_raw_mode(stat.st_mode).is_dir();
            match step.map_err(|lost| lost.error).and_then(|()| walk.stat()).map(is_directory) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    self.shared.report.fail(&path, error);
                    continue;
                }
            }
            let git_dir = top.join(OsStr::from_bytes(walk.path()));
            if is_git_dir(&git_dir) {
                match Repository::open_module(self.git, git_dir)
                    .and_then(|m| self.module(&m, &path))
                {
                    Ok(()) => {}
                    Err(SourceError::Stopped(why)) => return Err(SourceError::Stopped(why)),
                    Err(error) => self.shared.report.fail(&path, error),
                }
            } else if let Err(error) = walk.open_directory().and_then(|dir| walk.enter(dir)) {
                self.shared.report.fail(&path, error);
            }
        }
        Ok(())
    }

    fn module(&mut self, module: &Repository, path: &[u8]) -> Result<(), SourceError> {
        if self.depth >= DEPTH_MAX {
            self.shared.report.fail(path, "submodules nested too deeply are not kept");
            return Ok(());
        }
        let prefix = [path, b"/"].concat();
        self.directories_above(&prefix)?;
        let mut run =
            Run::begin(self.git, module, &mut *self.previous, &mut *self.sink, &mut *self.shared)?;
        run.prefix = prefix;
        run.depth = self.depth + 1;
        run.items()
    }

    fn texts(&mut self, files: &[(Vec<u8>, Vec<u8>)]) -> Result<(), SourceError> {
        for (path, text) in files {
            self.text(path, text)?;
        }
        Ok(())
    }

    fn text(&mut self, path: impl AsRef<[u8]>, text: &[u8]) -> Result<(), SourceError> {
        let path = path.as_ref();
        let full = self.at(path);
        self.directories_above(&full)?;
        let (meta, stamp) = self.synthetic(path, 0o644);
        let result = self.sink.file(meta, stamp, &mut &*text).map(|_| ());
        // Without one of these the snapshot is none.
        result.map_err(|error| {
            SourceError::Stopped(format!("{}: {error}", String::from_utf8_lossy(&full)))
        })
    }

    pub(super) fn directory(&mut self, path: &str) -> Result<(), SourceError> {
        let inside = [self.prefix.as_slice(), path.as_bytes(), b"/"].concat();
        self.directories_above(&inside)
    }

    /// Makes those that are not there yet.
    pub(super) fn directories_above(&mut self, full: &[u8]) -> Result<(), SourceError> {
        for (end, _) in full.iter().enumerate().filter(|(_, c)| **c == b'/') {
            let path = &full[..end];
            if self.shared.made.insert(path.to_vec()) {
                let (mut meta, _) = self.synthetic("", 0o755);
                meta.path = Blob(path.to_vec());
                settle(self.sink.directory(meta), path, &mut self.shared.report)?;
            }
        }
        Ok(())
    }

    pub(super) fn synthetic(&self, path: impl AsRef<[u8]>, mode: u32) -> (Meta, Stamp) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mtime = Timestamp {
            secs: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanos: now.subsec_nanos(),
        };
        let (uid, gid) = (self.owner.st_uid, self.owner.st_gid);
        let meta = Meta { path: Blob(self.at(path)), mode, uid, gid, mtime };
        (meta, Stamp { ctime: mtime, inode: 0, device: 0 })
    }

    /// The whole path of an item.
    pub(super) fn at(&self, path: impl AsRef<[u8]>) -> Vec<u8> {
        [self.prefix.as_slice(), path.as_ref()].concat()
    }

    fn fail(&mut self, path: &str, reason: impl std::fmt::Display) {
        let path = self.at(path);
        self.shared.report.fail(&path, reason);
    }

    /// Tells something of this repository.
    fn note(&mut self, note: String) {
        let note = match self.prefix.strip_suffix(b"/") {
            Some(module) => format!("{}: {note}", String::from_utf8_lossy(module)),
            None => note,
        };
        self.shared.report.notes.push(note);
    }
}
