//! The marker of a restore that is under way: a file in the target that says of what, so that the same restore goes
//! on there after an interruption, and no two write there at once.
//!
//! ```text
//! .strewn-restore-NAME    "COMMAND\nBOOT\n"    locked while a restore runs
//! ```
//! BOOT is the system's boot id. As long as that is the same, whatever was written is there, on the disk or not;
//! after a crash of the machine a file may have its name, size and time, and not its content.

use super::TreeError;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A marker is shorter, in bytes.
const LEN_MAX: u64 = 4096;

/// What a restore is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    name: CString,
    command: String,
}

/// A marker in its target.
#[derive(Debug)]
pub(super) struct Held {
    dir: OwnedFd,
    name: CString,
    _file: File,
    /// What an interrupted restore left is continued.
    pub(super) is_resumed: bool,
    /// Nothing that was written since that began can have been lost.
    pub(super) is_same_boot: bool,
}

/// What the marker in a target says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    /// Of another command, or not whole.
    Other,
    Same {
        is_same_boot: bool,
    },
}

impl Marker {
    /// `name` is one that nothing in the snapshot can have: digits of its own hash. `command` is one line with everything
    /// on which depends what is written.
    #[must_use]
    pub fn new(name: &str, command: &str) -> Self {
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let command = command.replace('\n', " ");
        let name = CString::new(format!(".strewn-restore-{name}"));
        Self { name: name.expect("letters and digits hold no NUL"), command }
    }

    /// Whether a folder has nothing in it but this.
    pub(super) fn is_alone(&self, target: &Path) -> io::Result<bool> {
        for entry in std::fs::read_dir(target)? {
            if entry?.file_name().as_bytes() != self.name.as_bytes() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn salt(&self) -> Vec<u8> {
        self.name.as_bytes().to_vec()
    }

    /// What the marker in `root` says, and the marker.
    fn open(&self, root: impl AsFd) -> io::Result<Option<(File, Mark)>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match openat(root, &self.name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&file)?;
        let is_ours = FileType::from_raw_mode(stat.st_mode).is_file()
            && stat.st_uid == rustix::process::geteuid().as_raw();
        if !is_ours {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut text = Vec::new();
        (&mut file).take(LEN_MAX).read_to_end(&mut text)?;
        let mut lines = text.split(|c| *c == b'\n');
        let mark = if lines.next() == Some(self.command.as_bytes()) {
            let boot = boot();
            Mark::Same { is_same_boot: !boot.is_empty() && lines.next() == Some(&boot) }
        } else {
            Mark::Other
        };
        Ok(Some((file, mark)))
    }

    pub(super) fn read(&self, root: impl AsFd) -> io::Result<Mark> {
        Ok(self.open(root)?.map_or(Mark::None, |(_, mark)| mark))
    }

    /// Marks `target`, whose folder `root` is, as that of this restore. Where something else lies there, only if
    /// that may be written over.
    pub(super) fn hold(
        &self,
        target: &Path,
        root: impl AsFd,
        overwrites: bool,
    ) -> Result<Held, TreeError> {
        let failed = |error| TreeError::Target { path: target.into(), error };
        let held = |file, mark| -> Result<Held, TreeError> {
            let dir = root.as_fd().try_clone_to_owned().map_err(failed)?;
            let is_resumed = mark != Mark::Other;
            let is_same_boot = mark == Mark::Same { is_same_boot: true };
            Ok(Held { dir, name: self.name.clone(), _file: file, is_resumed, is_same_boot })
        };
        let may_write = || Ok(overwrites || self.is_alone(target).map_err(failed)?);
        let busy = || TreeError::Busy(target.into());
        if let Some((mut file, mark)) = self.open(&root).map_err(failed)? {
            lock(&file).ok_or_else(busy)?;
            if mark == Mark::Other {
                if !may_write()? {
                    return Err(TreeError::NotEmpty(target.into()));
                }
                self.write(&mut file).map_err(failed)?;
            }
            return held(file, mark);
        }
        if !may_write()? {
            return Err(TreeError::NotEmpty(target.into()));
        }
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = match openat(&root, &self.name, flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => File::from(fd),
            Err(Errno::EXIST) => return Err(busy()),
            Err(error) => return Err(failed(error.into())),
        };
        lock(&file).ok_or_else(busy)?;
        self.write(&mut file).map_err(failed)?;
        held(file, Mark::Other)
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&[self.command.as_bytes(), b"\n", &boot(), b"\n"].concat())?;
        file.sync_all()
    }
}

impl Held {
    /// The restore is whole: nothing marks the target any more.
    pub(super) fn remove(self) -> io::Result<()> {
        Ok(unlinkat(&self.dir, &self.name, AtFlags::empty())?)
    }
}

/// Locks a marker that is still there: who had it may have finished meanwhile. Some file systems have no locks.
fn lock(file: &File) -> Option<()> {
    let is_taken = flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
    (!is_taken && fstat(file).is_ok_and(|stat| stat.st_nlink > 0)).then_some(())
}

/// The boot id; empty where the system has none.
fn boot() -> Vec<u8> {
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim_ascii().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn held(marker: &Marker, target: &Path, overwrites: bool) -> Result<Held, TreeError> {
        marker.hold(target, File::open(target).unwrap(), overwrites)
    }

    #[test]
    fn the_same_restore_goes_on_and_another_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::new("0a", "snapshot 0a of everything");
        let first = held(&marker, dir.path(), false).unwrap();
        assert!(!first.is_resumed);
        fs::write(dir.path().join("f"), "1").unwrap();
        assert!(matches!(held(&marker, dir.path(), true), Err(TreeError::Busy(_))));
        drop(first);
        let again = held(&marker, dir.path(), false).unwrap();
        assert!(again.is_resumed && again.is_same_boot);
        drop(again);
        let other = Marker::new("0a", "snapshot 0a of a part");
        assert!(matches!(held(&other, dir.path(), false), Err(TreeError::NotEmpty(_))));
        assert!(!held(&other, dir.path(), true).unwrap().is_resumed);
        held(&other, dir.path(), false).unwrap().remove().unwrap();
        assert!(matches!(held(&other, dir.path(), false), Err(TreeError::NotEmpty(_))));
    }

    #[test]
    fn after_another_boot_nothing_is_taken_for_granted() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::new("0a", "all");
        fs::write(dir.path().join(".strewn-restore-0a"), "all\nanother boot\n").unwrap();
        for _ in 0..2 {
            let held = held(&marker, dir.path(), false).unwrap();
            assert!(held.is_resumed && !held.is_same_boot);
        }
    }

    #[test]
    fn a_marker_that_is_cut_off_or_a_link_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker::new("0a", "all");
        let path = dir.path().join(".strewn-restore-0a");
        fs::write(&path, "al").unwrap();
        assert!(!held(&marker, dir.path(), false).unwrap().is_resumed);
        fs::write(dir.path().join("elsewhere"), "all\n").unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(matches!(held(&marker, dir.path(), true), Err(TreeError::Target { .. })));
    }
}
