//! What Git keeps beside references: reflogs, with the older entries of the stash, and linked work trees.
//!
//! Captured at once, right after the references, and cut where those were captured: what a push adds meanwhile
//! belongs to the next backup. All reflogs are kept, and the objects that only they reach: Git keeps these from
//! its own collection too, and they are what people look for after a mistake (`git reflog`). A bare
//! repository has none unless it was told to. An entry whose objects are gone is left out: Git calls a
//! reflog with one damaged.
//!
//! Of a linked work tree its `HEAD`, reflog, own references, settings and place are kept, not its files; where
//! those are still in their place, a restored repository serves them again.

use super::chain::Form;
use super::refs::{Head, Refs, oid};
use super::repository::Repository;
use crate::source::Report;
use crate::source::walk::{Walk, open_root};
use protocol::item::path_cmp;
use rustix::fs::{Mode, OFlags, openat};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of these files together; they are in memory while the repository is backed up.
const KEPT_LEN_MAX: u64 = 64 << 20;

/// Small files, by path below the repository.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Below `logs`, in path order.
    pub(crate) logs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Below `worktrees`, in path order.
    pub(crate) worktrees: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Kept {
    /// Reads them. Failures are told below `prefix`.
    pub(super) fn capture(
        repository: &Repository,
        refs: &Refs,
        prefix: &[u8],
        report: &mut Report,
    ) -> Self {
        let mut reader = Reader { left: KEPT_LEN_MAX, prefix, report: &mut *report };
        let mut kept = Self::default();
        if repository.has_tables() {
            return kept;
        }
        // Of a linked work tree the reflog of HEAD is its own.
        kept.logs = reader.files(&repository.git_dir, b"logs", |path| path == b"logs/HEAD");
        let of_refs = |path: &[u8]| path.starts_with(b"logs/refs/");
        kept.logs.extend(reader.files(&repository.common_dir, b"logs", of_refs));
        if repository.form != Form::Module && !repository.is_linked() {
            kept.worktrees = reader.files(&repository.common_dir, b"worktrees", is_of_worktree);
        }
        kept.logs.retain_mut(|(path, log)| {
            let name = &path[b"logs/".len()..];
            let tip = if name == b"HEAD" { refs.tip() } else { refs.oid_of(name) };
            cut(log, tip);
            name == b"HEAD" || tip.is_some()
        });
        kept.worktrees.retain(|(path, text)| {
            let is_good = match kind_of(path) {
                Some(Of::Head) => Head::decode(text).is_some(),
                Some(Of::Ref) => text.strip_suffix(b"\n").and_then(oid).is_some(),
                _ => true,
            };
            if !is_good {
                report.fail(&[prefix, path].concat(), "not what Git writes there");
            }
            is_good
        });
        kept
    }

    /// Every object that is named.
    pub(crate) fn oids(&self) -> BTreeSet<String> {
        let mut oids = BTreeSet::new();
        for (path, text) in self.logs.iter().chain(&self.worktrees) {
            match kind_of(path) {
                Some(Of::Log) => {
                    for (old, new) in text.split_inclusive(|c| *c == b'\n').filter_map(parse) {
                        oids.extend([old, new].into_iter().filter(|oid| !is_null(oid)));
                    }
                }
                Some(Of::Head | Of::Ref) => oids.extend(text.strip_suffix(b"\n").and_then(oid)),
                Some(Of::Setting) | None => {}
            }
        }
        oids
    }

    /// Leaves out what names an object that `is_there` does not know.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        let is_good = |oid: &str| is_null(oid) || is_there(oid);
        for (path, text) in self.logs.iter_mut().chain(&mut self.worktrees) {
            if kind_of(path) == Some(Of::Log) {
                let lines = text.split_inclusive(|c| *c == b'\n').filter(|line| {
                    parse(line).is_some_and(|(old, new)| is_good(&old) && is_good(&new))
                });
                *text = lines.flatten().copied().collect();
            }
        }
        self.worktrees.retain(|(path, text)| {
            !matches!(kind_of(path), Some(Of::Head | Of::Ref))
                || text.strip_suffix(b"\n").and_then(oid).is_none_or(|oid| is_there(&oid))
        });
    }
}

/// What such a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Log,
    Head,
    Ref,
    Setting,
}

/// What the file at `path` is; `None` for what is not kept.
fn kind_of(path: &[u8]) -> Option<Of> {
    if path.starts_with(b"logs/") {
        return Some(Of::Log);
    }
    let mut parts = path.strip_prefix(b"worktrees/")?.splitn(3, |c| *c == b'/').skip(1);
    match (parts.next()?, parts.next()) {
        (b"HEAD", None) => Some(Of::Head),
        (b"gitdir" | b"locked" | b"config.worktree", None) => Some(Of::Setting),
        (b"logs", Some(rest)) if rest == b"HEAD" || rest.starts_with(b"refs/") => Some(Of::Log),
        (b"refs", Some(_)) => Some(Of::Ref),
        _ => None,
    }
}

fn is_of_worktree(path: &[u8]) -> bool {
    kind_of(path).is_some()
}

/// Objects of a reflog's line: `old SP new SP who TAB why LF`.
fn parse(line: &[u8]) -> Option<(String, String)> {
    let mut parts = line.strip_suffix(b"\n")?.splitn(3, |c| *c == b' ');
    let (old, new) = (oid(parts.next()?)?, oid(parts.next()?)?);
    parts.next().map(|_| (old, new))
}

fn is_null(oid: &str) -> bool {
    oid.bytes().all(|c| c == b'0')
}

/// Leaves out what came after the reference was at `tip`.
fn cut(log: &mut Vec<u8>, tip: Option<&str>) {
    let mut end = 0;
    for line in log.split_inclusive(|c| *c == b'\n') {
        let start = line.as_ptr().addr() - log.as_ptr().addr();
        if parse(line).is_some_and(|(_, new)| Some(new.as_str()) == tip) {
            end = start + line.len();
        }
    }
    if end > 0 {
        log.truncate(end);
    }
}

struct Reader<'a> {
    left: u64,
    prefix: &'a [u8],
    report: &'a mut Report,
}

impl Reader<'_> {
    /// The files below `top/folder` that are `wanted`, by path below `top`. Links are not followed.
    fn files(
        &mut self,
        top: &Path,
        folder: &[u8],
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut files = Vec::new();
        let top = top.join(String::from_utf8_lossy(folder).as_ref());
        let Ok(mut walk) = open_root(&top).and_then(Walk::new) else { return files };
        while let Some(step) = walk.advance() {
            let path = [folder, b"/", walk.path()].concat();
            let full = || [self.prefix, &path].concat();
            if let Err(lost) = step {
                self.report.fail(&full(), lost.error);
                continue;
            }
            let Ok(stat) = walk.stat() else { continue };
            match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
                rustix::fs::FileType::Directory => {
                    if let Err(error) = walk.open_directory().and_then(|dir| walk.enter(dir)) {
                        self.report.fail(&full(), error);
                    }
                }
                rustix::fs::FileType::RegularFile if wanted(&path) => {
                    match read(&walk, self.left) {
                        Ok(text) => {
                            self.left -= text.len() as u64;
                            files.push((path, text));
                        }
                        // A lock file, or a reference that was just deleted.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => self.report.fail(&full(), error),
                    }
                }
                _ => {}
            }
        }
        debug_assert!(files.is_sorted_by(|a, b| path_cmp(&a.0, &b.0).is_lt()));
        files
    }
}

fn read(walk: &Walk, left: u64) -> io::Result<Vec<u8>> {
    let (dir, name) = walk.place();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(dir, name, flags, Mode::empty())?);
    let mut text = Vec::new();
    file.take(left + 1).read_to_end(&mut text)?;
    if text.len() as u64 > left {
        let what = format!("left out: reflogs are kept up to {KEPT_LEN_MAX} bytes together");
        return Err(io::Error::other(what));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(old: char, new: char) -> String {
        let id = |c: char| c.to_string().repeat(40);
        format!("{} {} A <a@b> 1 +0000\twhy\n", id(old), id(new))
    }

    #[test]
    fn a_reflog_ends_where_its_reference_was_captured() {
        let all = line('0', '1') + &line('1', '2') + &line('2', '1') + &line('1', '3');
        let cut_at = |tip: Option<char>| {
            let mut log = all.clone().into_bytes();
            cut(&mut log, tip.map(|c| c.to_string().repeat(40)).as_deref());
            log.len() / line('0', '0').len()
        };
        assert_eq!([Some('2'), Some('1'), Some('3')].map(cut_at), [2, 3, 4]);
        assert_eq!([Some('9'), None].map(cut_at), [4, 4], "moved without a word");
    }

    #[test]
    fn entries_without_their_objects_are_left_out() {
        let log = line('0', '1') + &line('1', '2') + &line('2', '3') + "torn";
        let mut kept = Kept::default();
        kept.logs.push((b"logs/HEAD".to_vec(), log.into_bytes()));
        assert_eq!(kept.oids().len(), 3);
        kept.retain(|oid| !oid.starts_with('2'));
        assert_eq!(kept.logs[0].1, line('0', '1').into_bytes());
    }

    #[test]
    fn of_a_work_tree_no_more_than_needed_is_kept() {
        for (path, kind) in [
            ("worktrees/a/HEAD", Some(Of::Head)),
            ("worktrees/a/gitdir", Some(Of::Setting)),
            ("worktrees/a/logs/HEAD", Some(Of::Log)),
            ("worktrees/a/refs/bisect/bad", Some(Of::Ref)),
            ("worktrees/a/index", None),
            ("worktrees/a/modules/b/HEAD", None),
            ("worktrees/HEAD", None),
            ("logs/refs/stash", Some(Of::Log)),
        ] {
            assert_eq!(kind_of(path.as_bytes()), kind, "{path}");
        }
    }

    proptest! {
        #[test]
        fn hostile_logs_never_panic(mut log: Vec<u8>, tip: String) {
            let _ = parse(&log);
            cut(&mut log, Some(&tip));
        }
    }
}
