//! The items of one repository in a folder: read with a limit, never through a link.

use super::bundle::skip_header;
use super::{GitRestoreError, Result};
use crate::git::{Git, Input, Settings};
use crate::source::git::base::{before_trailer, trailer};
use crate::source::git::chain::{Bundle, Description, Pack, bundle_path};
use crate::source::git::lfs;
use crate::source::git::refs::{Head, Ref, decode_list};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest text item that is read.
const TEXT_LEN_MAX: u64 = 256 << 20;

/// Large files that are named one by one.
const NAMED_MAX: usize = 20;

/// Where they lie.
#[derive(Debug, Clone)]
pub(super) struct Items {
    top: PathBuf,
    /// Below `top`: nothing, or where those of a submodule's repository lie.
    below: PathBuf,
}

impl Items {
    /// Those of the repository itself.
    pub(super) fn all(top: &Path) -> Self {
        Self { top: top.into(), below: PathBuf::new() }
    }

    /// An item's whole path, for people.
    pub(super) fn name(&self, path: impl AsRef<Path>) -> String {
        self.below.join(path).display().to_string()
    }

    pub(super) fn malformed(&self, path: &str, reason: impl Into<String>) -> GitRestoreError {
        GitRestoreError::Malformed { item: self.name(path), reason: reason.into() }
    }

    /// Where they lie.
    pub(super) fn folder(&self) -> PathBuf {
        self.top.join(&self.below)
    }

    fn failed(&self, path: impl AsRef<Path>) -> impl Fn(io::Error) -> GitRestoreError {
        let item = self.name(path);
        move |error| GitRestoreError::Item { item: item.clone(), error }
    }

    /// Where an item lies; `None` when a folder above it is missing. A link there is refused.
    fn place(&self, path: &Path) -> Result<Option<PathBuf>> {
        let whole = self.below.join(path);
        let mut place = self.top.clone();
        for part in whole.parent().into_iter().flat_map(Path::components) {
            place.push(part);
            match place.symlink_metadata() {
                Ok(found) if found.is_dir() => {}
                Ok(_) => {
                    let item = place.strip_prefix(&self.top).unwrap_or(&place);
                    let item = item.display().to_string();
                    let error = io::ErrorKind::NotADirectory.into();
                    return Err(GitRestoreError::Item { item, error });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(self.failed(path)(error)),
            }
        }
        Ok(Some(self.top.join(whole)))
    }

    /// Opens an item; a link in its place is none.
    pub(super) fn open(&self, path: impl AsRef<Path>) -> Result<Option<File>> {
        let path = path.as_ref();
        let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(no_follow.bits()).unwrap_or_default();
        let Some(place) = self.place(path)? else { return Ok(None) };
        match OpenOptions::new().read(true).custom_flags(flags).open(place) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(path)(error)),
        }
    }

    /// An item that must be there, whole.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let fail = self.failed(path);
        let file = self.open(path)?.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
        let mut text = Vec::new();
        file.take(TEXT_LEN_MAX + 1).read_to_end(&mut text).map_err(fail)?;
        if text.len() as u64 > TEXT_LEN_MAX {
            let reason = format!("longer than {TEXT_LEN_MAX} bytes");
            return Err(GitRestoreError::Malformed { item: self.name(path), reason });
        }
        Ok(text)
    }

    pub(super) fn description(&self) -> Result<Description> {
        Description::decode(&self.text("format")?)
            .ok_or_else(|| self.malformed("format", "not a description that this version knows"))
    }

    pub(super) fn head(&self) -> Result<Head> {
        Head::decode(&self.text("HEAD")?)
            .ok_or_else(|| self.malformed("HEAD", "neither a reference nor an object"))
    }

    pub(super) fn refs(&self) -> Result<Vec<Ref>> {
        decode_list(&self.text("refs")?, &self.text("symrefs")?)
            .ok_or_else(|| self.malformed("refs", "not a sorted list of references"))
    }

    /// The settings in a configuration file, without what it includes.
    pub(super) fn settings(&self, git: &Git, file: &str) -> Result<Settings> {
        let Some(file) = self.open(file)? else { return Ok(Settings::default()) };
        let mut command = git.anywhere();
        // From standard input: a path could be taken for something else.
        command.args(["config", "--file", "-"]).args(Settings::LIST);
        let answer = git.ask(&mut command, Input::File(file))?;
        Ok(Settings::parse(&answer.stdout))
    }

    /// Opens an item that must be there.
    fn open_file(&self, path: &str) -> Result<File> {
        let missing = || self.failed(path)(io::ErrorKind::NotFound.into());
        self.open(path)?.ok_or_else(missing)
    }

    /// Opens a bundle at the beginning of its pack, after checking that it is the one that the chain names.
    pub(super) fn bundle(
        &self,
        index: usize,
        expected: &Bundle,
        object_format: &str,
    ) -> Result<File> {
        let path = bundle_path(index);
        let fail = self.failed(&path);
        let mut file = self.whole(&path, expected)?;
        let pack = skip_header(&mut file, object_format)
            .map_err(|reason| self.malformed(&path, reason))?;
        file.seek(SeekFrom::Start(pack)).map_err(&fail)?;
        Ok(file)
    }

    /// Opens what the chain names by its hash, after checking that it is that.
    pub(super) fn whole(&self, path: &str, expected: &Bundle) -> Result<File> {
        let fail = self.failed(path);
        let mut file = self.open_file(path)?;
        let mut hasher = blake3::Hasher::new();
        let found = io::copy(&mut file, &mut hasher).map_err(&fail)?;
        if found != expected.size || *hasher.finalize().as_bytes() != expected.hash {
            return Err(self.other(path, found, expected.size));
        }
        file.rewind().map_err(&fail)?;
        Ok(file)
    }

    /// Puts a pack and its index into the folder of packs, after checking that they are those that the chain names: by
    /// their sizes and the checksums at their ends. That all bytes before are right was seen when they were
    /// fetched, chunk by chunk; Git reads everything once more when the whole is to be verified.
    pub(super) fn place_pack(&self, pack: &Pack, folder: &Path) -> Result<()> {
        let (data, idx) = (pack.pack_path(), pack.idx_path());
        let checksum = |path: &str, size, read: fn(&File, u64, usize) -> io::Result<Vec<u8>>| {
            let file = self.open_file(path)?;
            let found = file.metadata().map_err(self.failed(path))?;
            let is_right = |file: &File| {
                let bytes = read(file, size, pack.checksum.len() / 2)?;
                Ok(HEXLOWER.encode(&bytes) == pack.checksum)
            };
            let is_named = found.is_file() && found.len() == size;
            if is_named && is_right(&file).map_err(self.failed(path))? {
                Ok(())
            } else {
                Err(self.other(path, found.len(), size))
            }
        };
        checksum(&data, pack.size, trailer)?;
        checksum(&idx, pack.idx_size, before_trailer)?;
        // Git looks for an index first: a pack that has one must be there.
        for (item, name) in [(data, pack.pack_name()), (idx, pack.idx_name())] {
            self.link_or_copy(&item, &self.folder().join(&item), &folder.join(name))?;
        }
        Ok(())
    }

    /// What was just written for a restore is not written a second time, if that can be avoided.
    pub(super) fn link_or_copy(
        &self,
        item: impl AsRef<Path>,
        from: &Path,
        to: &Path,
    ) -> Result<()> {
        match fs::hard_link(from, to) {
            Ok(()) => Ok(()),
            Err(_) => self.copy(item, to),
        }
    }

    fn other(&self, path: &str, found: u64, expected: u64) -> GitRestoreError {
        GitRestoreError::Chain { item: self.name(path), found, expected }
    }

    /// The entries of a folder by name, links included.
    pub(super) fn list(&self, folder: impl AsRef<Path>) -> Result<Vec<fs::DirEntry>> {
        let folder = folder.as_ref();
        let fail = self.failed(folder);
        let Some(place) = self.place(&folder.join("x"))? else { return Ok(Vec::new()) };
        let entries = fs::read_dir(place.parent().unwrap_or(&place)).map_err(&fail)?;
        let mut entries = entries.collect::<io::Result<Vec<_>>>().map_err(&fail)?;
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        Ok(entries)
    }

    /// The regular files below a folder, by path below it.
    pub(super) fn files(&self, folder: &str) -> Result<Vec<PathBuf>> {
        let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(below) = folders.pop() {
            for entry in self.list(Path::new(folder).join(&below))? {
                let path = below.join(entry.file_name());
                let kind = entry.file_type().map_err(self.failed(&path))?;
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    files.push(path);
                }
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// The items of every submodule's repository, and their paths below `modules`.
    pub(super) fn modules(&self) -> Result<Vec<(PathBuf, Self)>> {
        let (mut modules, mut folders) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(below) = folders.pop() {
            for entry in self.list(Path::new("modules").join(&below))? {
                let path = below.join(entry.file_name());
                if !entry.file_type().map_err(self.failed(&path))?.is_dir() {
                    continue;
                }
                let items =
                    Self { top: self.top.clone(), below: self.below.join("modules").join(&path) };
                if items.open("format")?.is_some() {
                    modules.push((path, items));
                } else {
                    folders.push(path);
                }
            }
        }
        modules.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(modules)
    }

    /// Copies an item, if it is there, with its permission bits.
    pub(super) fn copy(&self, path: impl AsRef<Path>, to: &Path) -> Result<()> {
        match self.open(path)? {
            Some(mut file) => copy_file(&mut file, to),
            None => Ok(()),
        }
    }

    /// Gives every large file to `take`, by its path below `lfs/objects`, and names those that are not what their
    /// names say: they were so when they were backed up.
    pub(super) fn large_files(
        &self,
        mut take: impl FnMut(&Path, &Path) -> Result<()>,
    ) -> Result<(u64, Vec<String>)> {
        let (mut count, mut damaged) = (0, Vec::new());
        for path in self.files("lfs/objects")? {
            let Some(name) = lfs::name_of(path.as_os_str().as_bytes()) else { continue };
            let item = Path::new("lfs/objects").join(&path);
            let fail = self.failed(&item);
            let mut file = self.open(&item)?.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
            let mut hasher = Sha256::new();
            let mut buffer = vec![0; 256 << 10];
            loop {
                let n = file.read(&mut buffer).map_err(&fail)?;
                if n == 0 {
                    break;
                }
                hasher.update(&buffer[..n]);
            }
            if HEXLOWER.encode(&hasher.finalize()).as_bytes() != name {
                damaged.push(self.name(&item));
            }
            take(&path, &self.folder().join(&item))?;
            count += 1;
        }
        let mut notes: Vec<String> = damaged
            .iter()
            .take(NAMED_MAX)
            .map(|item| format!("{item} was damaged when it was backed up: its content is not what its name says"))
            .collect();
        if damaged.len() > NAMED_MAX {
            notes.push(format!("{} more like these", damaged.len() - NAMED_MAX));
        }
        Ok((count, notes))
    }
}

/// Makes the folders above a file.
pub(super) fn make_above(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .map_err(|error| GitRestoreError::Target { path: folder.into(), error })
}

/// Copies content and permission bits.
pub(super) fn copy_file(from: &mut File, to: &Path) -> Result<()> {
    let mut copy = || -> io::Result<()> {
        let mode = from.metadata()?.permissions().mode() & 0o777;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
        io::copy(from, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    };
    copy().map_err(|error| GitRestoreError::Target { path: to.into(), error })
}
