//! What of a directory tree is left out, and why: patterns, markers in folders, other file systems.
//!
//! What is left out is not an error and not named. A folder whose content is left out is kept, empty but
//! for the marker that says so.

use super::walk::Walk;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A folder with an entry of this name is kept empty.
const NO_BACKUP: &CStr = c".nobackup";
/// So is, when asked for, one with such a file that begins with [`CACHE_SIGNATURE`].
const CACHE_TAG: &CStr = c"CACHEDIR.TAG";
/// <https://bford.info/cachedir/>
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Why rules are none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A pattern cannot be understood.
    #[error("the pattern {pattern:?} cannot be understood: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file with patterns cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// What is left out.
#[derive(Debug, Default)]
pub struct Rules {
    pub(crate) excludes: Option<Gitignore>,
    /// Leave out what is in caches.
    pub caches: bool,
    /// Leave out what is on other file systems.
    pub one_file_system: bool,
}

impl Rules {
    /// Leaves out what the patterns match, given one by one or as lines of files, in the syntax and with
    /// the precedence of gitignore, relative to the source.
    pub fn new<S: AsRef<str>>(patterns: &[S], files: &[PathBuf]) -> Result<Self, RuleError> {
        let mut builder = GitignoreBuilder::new("");
        // Git takes such a pattern and matches nothing with it: here it would be a typo found out too late.
        builder.allow_unclosed_class(false);
        let mut add = |line: &str| match builder.add_line(None, line) {
            Ok(_) => Ok(()),
            Err(error) => {
                let reason = match error {
                    ignore::Error::Glob { err, .. } => err,
                    other => other.to_string(),
                };
                Err(RuleError::Pattern { pattern: line.into(), reason })
            }
        };
        for path in files {
            let text = std::fs::read_to_string(path)
                .map_err(|error| RuleError::File { path: path.clone(), error })?;
            text.trim_start_matches('\u{feff}').lines().try_for_each(&mut add)?;
        }
        patterns.iter().try_for_each(|pattern| add(pattern.as_ref()))?;
        let excludes = builder.build().map_err(|error| RuleError::Pattern {
            pattern: "all of them together".into(),
            reason: error.to_string(),
        })?;
        Ok(Self { excludes: Some(excludes).filter(|all| !all.is_empty()), ..Self::default() })
    }

    /// Whether the patterns leave out this path.
    pub(super) fn is_excluded(&self, path: &[u8], is_directory: bool) -> bool {
        self.excludes.as_ref().is_some_and(|excludes| {
            let path = Path::new(OsStr::from_bytes(path));
            matches!(excludes.matched(path, is_directory), Match::Ignore(_))
        })
    }

    /// Whether a directory on `device` is gone into, when the source is on the device `home`.
    pub(super) fn is_entered(&self, device: u64, home: u64) -> bool {
        !self.one_file_system || device == home
    }

    /// Enters the directory that is the walk's current entry; where a marker says so, only for that marker.
    pub(super) fn enter(&self, walk: &mut Walk, dir: OwnedFd) -> io::Result<()> {
        walk.enter(dir)?;
        self.heed_markers(walk);
        Ok(())
    }

    /// Leaves of the directory just entered only the marker that says so, if there is one.
    pub(super) fn heed_markers(&self, walk: &mut Walk) -> bool {
        let marker = if walk.has(NO_BACKUP) {
            NO_BACKUP
        } else if self.caches && walk.has(CACHE_TAG) && walk.top().is_some_and(is_cache) {
            CACHE_TAG
        } else {
            return false;
        };
        walk.keep_only(marker);
        true
    }
}

fn is_cache(dir: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = openat(dir, CACHE_TAG, flags, Mode::empty()) else { return false };
    let is_file = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode).is_file();
    let mut begin = [0; CACHE_SIGNATURE.len()];
    fstat(fd.as_fd()).is_ok_and(is_file)
        && File::from(fd).read_exact(&mut begin).is_ok()
        && begin == CACHE_SIGNATURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[&str]) -> Rules {
        Rules::new(patterns, &[]).unwrap()
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        let rules = rules(&["*.o", "!keep.o", "/build", "cache/", "a/**/z", "# no pattern", ""]);
        for (path, is_directory, excluded) in [
            ("x.o", false, true),
            ("deep/down/x.o", false, true),
            ("keep.o", false, false),
            ("build", true, true),
            ("sub/build", true, false),
            ("cache", true, true),
            ("sub/cache", true, true),
            ("cache", false, false),
            ("a/b/c/z", false, true),
            ("a/z", false, true),
            ("no pattern", false, false),
        ] {
            assert_eq!(rules.is_excluded(path.as_bytes(), is_directory), excluded, "{path}");
        }
        assert!(rules.is_excluded(b"\xff\xfe.o", false), "names need not be UTF-8");
        assert!(!Rules::default().is_excluded(b"x.o", false));
    }

    #[test]
    fn files_have_patterns_too_and_the_last_word_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}# what is built\n*.o\r\n\n*.a\n").unwrap();
        let rules = Rules::new(&["!x.a"], &[file.path().into()]).unwrap();
        let excluded = ["x.o", "x.a", "y.a"].map(|path| rules.is_excluded(path.as_bytes(), false));
        assert_eq!(excluded, [true, false, true]);
    }

    #[test]
    fn what_is_no_pattern_or_no_file_is_said() {
        for wrong in ["a[z-b]", "*.[oa"] {
            let error = Rules::new(&[wrong], &[]).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
        let error = Rules::new::<&str>(&[], &["/nonexistent".into()]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
