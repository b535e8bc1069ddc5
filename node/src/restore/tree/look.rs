//! Looking at a target without touching it: what a restore would do there, and whether it did.

use super::existing::{Overwrite, mtime};
use super::marker::Mark;
use super::place::{Places, split_path};
use super::{TreeError, TreeOptions, TreeWriter, io_error, shown};
use protocol::item::Meta;
use rustix::fs::{
    Advice, AtFlags, FileType, Mode, OFlags, SeekFrom, fadvise, readlinkat, seek, statat,
};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes read at once where zeros should be.
const PIECE: usize = 256 << 10;

/// What a restore would do with an item.
#[derive(Debug)]
pub enum Planned {
    /// Make it; of a file an earlier restore may have left a part.
    New(Option<Content>),
    /// Replace what is there, which may have a part of it.
    Replace(Option<Content>),
    /// Nothing: by size and time it is the same.
    Same,
    /// Nothing: what is there is kept.
    Keep,
}

/// The content of a file of the target, read from its beginning to its end.
#[derive(Debug)]
pub struct Content {
    file: File,
    at: u64,
    size: u64,
}

/// A target, if there is one.
#[derive(Debug)]
pub struct TreeReader {
    places: Option<Places>,
    overwrite: Option<Overwrite>,
    trusts_times: bool,
    salt: Vec<u8>,
}

impl TreeReader {
    /// Opens a target. It is refused where [`TreeWriter::new`] would refuse it.
    pub fn open(target: &Path, options: &TreeOptions) -> Result<Self, TreeError> {
        let failed = |error| TreeError::Target { path: target.into(), error };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let salt = options.marker.as_ref().map(super::Marker::salt).unwrap_or_default();
        let mut reader =
            Self { places: None, overwrite: options.overwrite, trusts_times: true, salt };
        let root = match rustix::fs::open(target, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(reader),
            root => root.map_err(|error| failed(error.into()))?,
        };
        let mark = match &options.marker {
            Some(marker) => marker.read(&root).map_err(failed)?,
            None => Mark::None,
        };
        if let Mark::Same { is_same_boot } = mark {
            reader.trusts_times = is_same_boot;
            reader.overwrite = reader.overwrite.or(Some(Overwrite::IfChanged));
        } else if reader.overwrite.is_none() {
            let is_free = match &options.marker {
                Some(marker) => marker.is_alone(target),
                None => std::fs::read_dir(target).map(|mut entries| entries.next().is_none()),
            };
            if !is_free.map_err(failed)? {
                return Err(TreeError::NotEmpty(target.into()));
            }
        }
        reader.places = Some(Places::new(root));
        Ok(reader)
    }

    /// What would become of an item that is a file of `size` bytes, or none.
    pub fn plan(&mut self, meta: &Meta, size: Option<u64>) -> Result<Planned, TreeError> {
        let Some((dir, name)) = self.find(meta)? else { return Ok(Planned::New(None)) };
        let found = match statat(&*dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => {
                let temporary = TreeWriter::temporary_of(&self.salt, &name);
                let left = size.and_then(|size| super::file::left(&dir, &temporary, size));
                return Ok(Planned::New(left.map(Content::new)));
            }
            Err(error) => return Err(io_error(meta, error)),
        };
        let time = mtime(&found);
        let rule = self.overwrite.ok_or_else(|| TreeError::Exists { path: shown(meta) })?;
        let is_kept = !rule.is_for(time, meta.mtime);
        let is_file = FileType::from_raw_mode(found.st_mode).is_file();
        let is_same = is_file
            && size.is_some_and(|size| u64::try_from(found.st_size) == Ok(size))
            && time == meta.mtime
            && self.trusts_times;
        if is_same && (is_kept || rule == Overwrite::IfChanged) {
            return Ok(Planned::Same);
        }
        if is_kept {
            return Ok(Planned::Keep);
        }
        if !is_file || size.is_none() {
            return Ok(Planned::Replace(None));
        }
        let old = TreeWriter::old(&dir, &name).map(|(file, _)| Content::new(file));
        Ok(Planned::Replace(old))
    }

    /// Whether a directory is there.
    pub fn is_directory(&mut self, meta: &Meta) -> bool {
        let Some(places) = &mut self.places else { return false };
        places.directory(&meta.path.0, false).is_ok()
    }

    /// What is at an item's place; none if there is nothing.
    pub fn kind(&mut self, meta: &Meta) -> Result<Option<FileType>, TreeError> {
        let Some((dir, name)) = self.find(meta)? else { return Ok(None) };
        match statat(&*dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(io_error(meta, error)),
        }
    }

    /// Where the symbolic link at an item's place points.
    pub fn link_target(&mut self, meta: &Meta) -> Result<Option<Vec<u8>>, TreeError> {
        let Some((dir, name)) = self.find(meta)? else { return Ok(None) };
        match readlinkat(&*dir, &name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(io_error(meta, error)),
        }
    }

    /// The content of the file at an item's place, from the disk and not from memory; none if there is no file.
    pub fn content(&mut self, meta: &Meta) -> Result<Option<Content>, TreeError> {
        let Some((dir, name)) = self.find(meta)? else { return Ok(None) };
        let Some((file, _)) = TreeWriter::old(&dir, &name) else { return Ok(None) };
        // Advice: where it is not taken, memory is what is compared.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        Ok(Some(Content::new(file)))
    }

    fn find(&mut self, meta: &Meta) -> Result<Option<(Arc<OwnedFd>, CString)>, TreeError> {
        let Some(places) = &mut self.places else { return Ok(None) };
        let bad = || TreeError::Path { path: shown(meta) };
        let (parent, name) = split_path(&meta.path.0).ok_or_else(bad)?;
        let name = CString::new(name).map_err(|_| bad())?;
        match places.directory(parent, false) {
            Ok(dir) => Ok(Some((dir, name))),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(TreeError::NotADirectory { path: shown(meta) }),
            Err(error) => Err(io_error(meta, error)),
        }
    }
}

impl Content {
    fn new(file: File) -> Self {
        let size = file.metadata().map_or(0, |meta| meta.len());
        Self { file, at: 0, size }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the next bytes, as many as `room` has, are those that are right.
    pub fn is_next(&mut self, room: &mut [u8], is_right: impl Fn(&[u8]) -> bool) -> bool {
        let at = self.at;
        self.at += room.len() as u64;
        self.file.read_exact_at(room, at).is_ok() && is_right(room)
    }

    /// Whether the next `len` bytes are zeros.
    pub fn is_zero(&mut self, len: u64) -> io::Result<bool> {
        let (mut at, end) = (self.at, self.at.saturating_add(len));
        self.at = end;
        let mut room = vec![0; PIECE];
        while at < end {
            at = match seek(&self.file, SeekFrom::Data(at)) {
                Err(Errno::NXIO) => break,
                Ok(data) => data.max(at),
                Err(_) => at,
            };
            let piece = end.saturating_sub(at).min(PIECE as u64) as usize;
            let read = self.file.read_at(&mut room[..piece], at)?;
            if room[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            if read == 0 {
                break;
            }
            at += read as u64;
        }
        Ok(true)
    }
}
