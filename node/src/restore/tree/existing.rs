//! What becomes of what is in an item's place already.

use super::{TreeError, TreeWriter, io_error, shown};
use protocol::item::{Meta, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::OwnedFd;

/// Which of the files and links that are there already are written over. What no item names stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Overwrite {
    /// All; of files only what differs is fetched
    Always,
    /// Those with another size, time or content
    IfChanged,
    /// Those that are older than in the snapshot
    IfNewer,
    /// None
    Never,
}

impl Overwrite {
    /// Whether something of that time gives way to an item.
    #[must_use]
    pub fn is_for(self, found: Timestamp, item: Timestamp) -> bool {
        match self {
            Self::Always | Self::IfChanged => true,
            Self::IfNewer => found < item,
            Self::Never => false,
        }
    }
}

/// What an item finds in its place.
#[derive(Debug)]
pub(super) enum Place {
    Free,
    /// To be replaced.
    Taken,
    /// To be kept.
    Kept,
}

/// When a file was changed.
pub(super) fn mtime(stat: &Stat) -> Timestamp {
    // Below 10^9 in any file system that is not damaged.
    Timestamp { secs: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

impl TreeWriter {
    pub(super) fn look(&self, dir: &OwnedFd, name: &CStr, meta: &Meta) -> Result<Place, TreeError> {
        let found = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(Place::Free),
            Err(error) => return Err(io_error(meta, error)),
        };
        match self.overwrite {
            None => Err(TreeError::Exists { path: shown(meta) }),
            Some(rule) if rule.is_for(mtime(&found), meta.mtime) => Ok(Place::Taken),
            Some(_) => Ok(Place::Kept),
        }
    }

    /// The file that is to be replaced, if its content can be looked at.
    pub(super) fn old(dir: &OwnedFd, name: &CStr) -> Option<(File, Stat)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(dir, name, flags, Mode::empty()).ok()?);
        let stat = fstat(&file).ok()?;
        FileType::from_raw_mode(stat.st_mode).is_file().then_some((file, stat))
    }

    /// The name that something has until it is whole. In a restore that can be continued it is always the same, so that it
    /// is found again; and never one that the snapshot itself has, which may be of an interrupted restore.
    pub(super) fn temporary(&self, name: &CStr) -> CString {
        Self::temporary_of(&self.salt, name)
    }

    pub(super) fn temporary_of(salt: &[u8], name: &CStr) -> CString {
        let mut hasher = blake3::Hasher::new();
        hasher.update(salt).update(name.to_bytes());
        CString::new(format!(".strewn-partial-{}", &hasher.finalize().to_hex()[..32]))
            .expect("hex digits hold no NUL")
    }

    /// The same, when nothing that was left under it is of use.
    pub(super) fn free_temporary(&self, dir: &OwnedFd, name: &CStr) -> CString {
        let temporary = self.temporary(name);
        // Whoever needs the name sees whether it is free now.
        let _ = unlinkat(dir, &temporary, AtFlags::empty());
        temporary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_looks_at_the_time_only_when_it_says_so() {
        let time = |secs, nanos| Timestamp { secs, nanos };
        let (old, new) = (time(5, 1), time(5, 2));
        for (rule, over_older, over_same) in [
            (Overwrite::Always, true, true),
            (Overwrite::IfChanged, true, true),
            (Overwrite::IfNewer, true, false),
            (Overwrite::Never, false, false),
        ] {
            assert_eq!((rule.is_for(old, new), rule.is_for(new, new)), (over_older, over_same));
            assert_eq!(rule.is_for(new, old), over_same, "{rule:?}");
        }
    }
}
