//! What a search looks for: patterns of names, kinds and times.

use super::{Entry, What};
use globset::{GlobBuilder, GlobMatcher};
use protocol::item::{NodeKind, Timestamp};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Why a pattern is none.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {pattern:?} cannot be understood: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A pattern of names or paths.
#[derive(Debug, Clone)]
pub struct Pattern {
    matcher: GlobMatcher,
    /// Only the name counts, in whatever folder.
    is_name: bool,
    ignores_case: bool,
}

impl Pattern {
    /// A pattern of a name; with a slash in it, of the end of a path, or of a whole path when it begins with that.
    /// `*` and `?` match within a name, `**` any folders, `[a-z]` one of these and `{a,b}` one or the other.
    pub fn new(text: &str, ignores_case: bool) -> Result<Self, PatternError> {
        let lower = if ignores_case { text.to_lowercase() } else { text.to_owned() };
        let pattern = lower.strip_suffix('/').unwrap_or(&lower);
        let is_name = !pattern.contains('/');
        let glob = match pattern.strip_prefix('/') {
            Some(whole) => whole.to_owned(),
            None if is_name || pattern.starts_with("**/") => pattern.to_owned(),
            None => format!("**/{pattern}"),
        };
        let refused = |reason: String| PatternError { pattern: text.to_owned(), reason };
        if glob.is_empty() {
            return Err(refused("it is empty".into()));
        }
        let mut builder = GlobBuilder::new(&glob);
        let glob = builder.literal_separator(true).build();
        let glob = glob.map_err(|error| refused(error.kind().to_string()))?;
        Ok(Self { matcher: glob.compile_matcher(), is_name, ignores_case })
    }

    /// Whether it matches what lies at this path.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let text = if self.is_name { name } else { path };
        if self.ignores_case
            && let Ok(text) = std::str::from_utf8(text)
        {
            return self.matcher.is_match(text.to_lowercase());
        }
        self.matcher.is_match(Path::new(OsStr::from_bytes(text)))
    }
}

/// What kind of thing is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Files
    #[value(alias = "f")]
    File,
    /// Folders
    #[value(alias = "d")]
    Dir,
    /// Symbolic links
    #[value(alias = "l")]
    Symlink,
    /// FIFOs
    #[value(alias = "p")]
    Fifo,
    /// Character and block devices
    Device,
}

impl Kind {
    /// The kind of an entry.
    #[must_use]
    pub fn of(what: &What) -> Self {
        match what {
            What::Directory => Self::Dir,
            What::File { .. } => Self::File,
            What::Symlink { .. } => Self::Symlink,
            What::Node(node) if node.kind == NodeKind::Fifo => Self::Fifo,
            What::Node(_) => Self::Device,
        }
    }
}

/// A search.
#[derive(Debug, Default)]
pub struct Search {
    /// One of these must match.
    pub patterns: Vec<Pattern>,
    /// It must be one of these kinds; without any, of whatever kind.
    pub kinds: Vec<Kind>,
    /// It was modified at this time or later.
    pub newer: Option<Timestamp>,
    /// It was modified before this time.
    pub older: Option<Timestamp>,
}

impl Search {
    /// Whether this is looked for.
    #[must_use]
    pub fn finds(&self, entry: &Entry) -> bool {
        let modified = entry.meta.mtime;
        self.is_named(entry.path())
            && (self.kinds.is_empty() || self.kinds.contains(&Kind::of(&entry.what)))
            && self.newer.is_none_or(|time| modified >= time)
            && self.older.is_none_or(|time| modified < time)
    }

    /// Whether a pattern matches.
    #[must_use]
    pub fn is_named(&self, path: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether anything but the name counts: then references, which have nothing else, are not looked for.
    #[must_use]
    pub fn is_of_files(&self) -> bool {
        !self.kinds.is_empty() || self.newer.is_some() || self.older.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::new(pattern, false).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn a_name_is_found_in_every_folder_and_a_path_at_its_end() {
        for (pattern, yes, no) in [
            ("*.rs", &["a.rs", "x/y/a.rs", ".rs"][..], &["a.rs/b", "a.rsx"][..]),
            ("b", &["b", "a/b"], &["b/c", "ab"]),
            ("a/b", &["a/b", "x/a/b"], &["a/b/c", "xa/b", "b"]),
            ("/a/b", &["a/b"], &["x/a/b"]),
            ("/a", &["a"], &["x/a", "a/b"]),
            ("a/*.c", &["a/x.c", "y/a/x.c"], &["a/y/x.c"]),
            ("/a/**/c", &["a/c", "a/b/c", "a/b/b/c"], &["b/c"]),
            ("a/**", &["a/b", "x/a/b/c"], &["b"]),
            ("dir/", &["dir", "a/dir"], &["dir/x"]),
            ("[ab]?", &["ax", "d/b1"], &["cx", "a"]),
            ("{x,y}.txt", &["x.txt", "y.txt"], &["z.txt"]),
            ("\\*", &["*"], &["a"]),
        ] {
            assert_eq!(yes.iter().find(|path| !matches(pattern, path)), None, "{pattern}");
            assert_eq!(no.iter().find(|path| matches(pattern, path)), None, "{pattern}");
        }
    }

    #[test]
    fn case_is_ignored_when_asked_and_names_need_not_be_text() {
        let pattern = |ignores_case| Pattern::new("Straße*.TXT", ignores_case).unwrap();
        assert!(pattern(true).matches("x/STRAßE 1.txt".as_bytes()));
        assert!(!pattern(false).matches("x/STRAßE 1.txt".as_bytes()));
        for ignores_case in [true, false] {
            assert!(Pattern::new("a*b", ignores_case).unwrap().matches(b"x/a\xff\xfeb"));
        }
    }

    #[test]
    fn patterns_that_cannot_be_meant_are_refused() {
        for wrong in ["", "/", "a[", "{a"] {
            assert!(Pattern::new(wrong, false).is_err(), "{wrong}");
        }
    }
}
