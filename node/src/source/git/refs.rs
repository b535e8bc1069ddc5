//! The references of a repository, captured once: what a snapshot of it is about.
//!
//! The text of the items `HEAD`, `refs` and `symrefs` is defined here, for backup and restore.

use crate::git::{Git, GitError, Input, unexpected};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

/// Longest file `HEAD` that is read without Git: a reference name is at most a path long.
const HEAD_LEN_MAX: u64 = 8 << 10;

/// What a repository points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refs {
    pub(crate) head: Head,
    /// Everything below `refs/`, sorted by name.
    pub(crate) list: Vec<Ref>,
}

/// `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// Names a reference, which may not exist (an unborn branch).
    Symbolic(Vec<u8>),
    /// Is an object itself.
    Detached(String),
}

/// One reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ref {
    pub(crate) oid: String,
    pub(crate) name: Vec<u8>,
    /// The reference that it stands for, as `refs/remotes/origin/HEAD` does.
    pub(crate) symbolic: Option<Vec<u8>>,
}

/// What git had to say about single references while they were listed.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    /// References that are broken and therefore missing from the list.
    pub(crate) broken: Vec<String>,
    /// References that lead nowhere, which is common and harmless.
    pub(crate) dangling: Vec<String>,
}

impl Refs {
    /// Reads them from the repository at `git_dir`, which the commands of `at` are run in.
    pub(crate) fn capture(
        git: &Git,
        git_dir: &Path,
        at: impl Fn() -> Command,
    ) -> Result<(Self, Remarks), GitError> {
        let head = match plain_head(git_dir) {
            Some(head) => head,
            None => capture_head(git, &at)?,
        };
        let mut command = at();
        command.args(["for-each-ref", "--format=%(objectname) %(symref) %(refname)"]);
        let answer = git.run(&mut command, Input::Nothing)?;
        let mut list = Vec::new();
        for line in lines(&answer.stdout) {
            list.push(parse_listed(line).ok_or_else(|| unexpected("for-each-ref", line))?);
        }
        list.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        settle_symbolic(&mut list);
        let mut remarks = Remarks::default();
        for line in answer.stderr.lines() {
            if line.contains("dangling symref") {
                remarks.dangling.push(line.to_owned());
            } else {
                remarks.broken.push(line.to_owned());
            }
        }
        Ok((Self { head, list }, remarks))
    }

    /// Every object that must be in the backup, each once.
    pub(crate) fn oids(&self) -> BTreeSet<&str> {
        let detached = match &self.head {
            Head::Detached(oid) => Some(oid.as_str()),
            Head::Symbolic(_) => None,
        };
        self.list.iter().map(|r| r.oid.as_str()).chain(detached).collect()
    }

    /// Where `HEAD` is, unless its branch is yet to be born.
    pub(crate) fn tip(&self) -> Option<&str> {
        match &self.head {
            Head::Detached(oid) => Some(oid),
            Head::Symbolic(target) => self.oid_of(target),
        }
    }

    /// Where the reference of this name is.
    pub(crate) fn oid_of(&self, name: &[u8]) -> Option<&str> {
        let at = self.list.binary_search_by(|r| r.name.as_slice().cmp(name)).ok()?;
        Some(&self.list[at].oid)
    }

    /// The item `refs`: `oid SP name LF`, sorted by name.
    pub(crate) fn encode_list(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for r in &self.list {
            text.extend_from_slice(r.oid.as_bytes());
            push_line(&mut text, b" ", &r.name);
        }
        text
    }

    /// The item `symrefs`: `name SP target LF` for those of the list that are symbolic.
    pub(crate) fn encode_symbolic(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for r in &self.list {
            if let Some(target) = &r.symbolic {
                text.extend_from_slice(&r.name);
                push_line(&mut text, b" ", target);
            }
        }
        text
    }
}

impl Head {
    /// The item `HEAD`, as git writes the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        match self {
            Self::Symbolic(target) => push_line(&mut text, b"ref: ", target),
            Self::Detached(oid) => push_line(&mut text, b"", oid.as_bytes()),
        }
        text
    }

    /// The inverse of [`Head::encode`].
    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        let line = text.strip_suffix(b"\n").filter(|line| !line.contains(&b'\n'))?;
        match line.strip_prefix(b"ref: ") {
            Some(target) => is_name(target).then(|| Self::Symbolic(target.to_vec())),
            None => oid(line).map(Self::Detached),
        }
    }
}

/// The inverse of [`Refs::encode_list`] and [`Refs::encode_symbolic`]. `None` when not sorted or
/// malformed.
pub(crate) fn decode_list(list: &[u8], symbolic: &[u8]) -> Option<Vec<Ref>> {
    let mut refs: Vec<Ref> = Vec::new();
    for line in lines(list) {
        let (id, name) = split(line)?;
        if refs.last().is_some_and(|last| last.name.as_slice() >= name) || !is_name(name) {
            return None;
        }
        refs.push(Ref { oid: oid(id)?, name: name.to_vec(), symbolic: None });
    }
    for line in lines(symbolic) {
        let (name, target) = split(line)?;
        let at = refs.binary_search_by(|r| r.name.as_slice().cmp(name)).ok()?;
        refs[at].symbolic = Some(is_name(target).then(|| target.to_vec())?);
    }
    Some(refs)
}

/// The file `HEAD`, where it is as Git writes it today, and is not there for old programs only (reftable).
fn plain_head(git_dir: &Path) -> Option<Head> {
    let path = git_dir.join("HEAD");
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    File::open(path).ok()?.take(HEAD_LEN_MAX).read_to_end(&mut text).ok()?;
    Head::decode(&text).filter(|head| *head != Head::Symbolic(b"refs/heads/.invalid".to_vec()))
}

fn capture_head(git: &Git, at: impl Fn() -> Command) -> Result<Head, GitError> {
    let mut command = at();
    let answer = git.ask(command.args(["symbolic-ref", "-q", "HEAD"]), Input::Nothing)?;
    if answer.code == Some(0) {
        let target = answer.stdout.strip_suffix(b"\n").unwrap_or(&answer.stdout);
        return Ok(Head::Symbolic(target.to_vec()));
    }
    let mut command = at();
    let answer = git.run(command.args(["rev-parse", "--verify", "HEAD"]), Input::Nothing)?;
    let id = answer.stdout.strip_suffix(b"\n").and_then(oid);
    id.map(Head::Detached).ok_or_else(|| unexpected("rev-parse", &answer.stdout))
}

/// Makes symbolic references agree with the list: a push may have come between the reading of one
/// and of the other.
fn settle_symbolic(list: &mut [Ref]) {
    for i in 0..list.len() {
        let mut at = i;
        // Git itself follows five.
        for _ in 0..5 {
            let Some(target) = list[at].symbolic.as_deref() else { break };
            let Ok(next) = list.binary_search_by(|r| r.name.as_slice().cmp(target)) else {
                list[i].symbolic = None;
                break;
            };
            at = next;
        }
        if list[i].symbolic.is_some() && at != i {
            let oid = list[at].oid.clone();
            list[i].oid = oid;
        }
    }
}

fn parse_listed(line: &[u8]) -> Option<Ref> {
    let (id, rest) = split(line)?;
    let (symbolic, name) = split(rest)?;
    let symbolic = (!symbolic.is_empty()).then(|| symbolic.to_vec());
    Some(Ref { oid: oid(id)?, name: name.to_vec(), symbolic })
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|c| *c == b' ')?;
    Some((&line[..at], &line[at + 1..]))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|c| *c == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

/// An object id: 40 or 64 lower-case hex digits.
pub(crate) fn oid(text: &[u8]) -> Option<String> {
    let hex = text.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    if !hex || !matches!(text.len(), 40 | 64) {
        return None;
    }
    String::from_utf8(text.to_vec()).ok()
}

/// Whether it can be a full reference name, as far as reading our own lines needs it; git itself
/// checks names when it writes them.
fn is_name(name: &[u8]) -> bool {
    name.starts_with(b"refs/") && !name.iter().any(|c| *c <= b' ' || *c == 127)
}

fn push_line(text: &mut Vec<u8>, before: &[u8], line: &[u8]) {
    text.extend_from_slice(before);
    text.extend_from_slice(line);
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_symbolic_reference_is_where_its_target_is() {
        let r = |name: &str, id: char, symbolic: Option<&str>| Ref {
            oid: id.to_string().repeat(40),
            name: name.into(),
            symbolic: symbolic.map(Into::into),
        };
        let mut list = vec![
            r("refs/a", '1', Some("refs/b")),
            r("refs/b", '2', Some("refs/c")),
            r("refs/c", '3', None),
            r("refs/d", '4', Some("refs/gone")),
            r("refs/e", '5', Some("refs/e")),
        ];
        settle_symbolic(&mut list);
        assert_eq!(list[0], r("refs/a", '3', Some("refs/b")));
        assert_eq!(list[1], r("refs/b", '3', Some("refs/c")));
        assert_eq!(list[3], r("refs/d", '4', None));
    }

    #[test]
    fn lines_that_git_would_not_write_are_refused() {
        let id = "a".repeat(40);
        let good = format!("{id} refs/heads/a\n{id} refs/heads/b\n");
        assert_eq!(decode_list(good.as_bytes(), b"refs/heads/b refs/heads/a\n").unwrap().len(), 2);
        for bad in [
            format!("{id} refs/heads/b\n{id} refs/heads/a\n"),
            format!("{id} ../../etc/passwd\n"),
            format!("{id} refs/heads/a b\n"),
            format!("{} refs/heads/a\n", "A".repeat(40)),
            format!("{id}\n"),
            "\n".to_owned(),
        ] {
            assert_eq!(decode_list(bad.as_bytes(), b""), None, "{bad:?}");
        }
        assert_eq!(decode_list(good.as_bytes(), b"refs/heads/c refs/heads/a\n"), None);
        assert_eq!(Head::decode(b"ref: refs/heads/a\nmore\n"), None);
        assert_eq!(Head::decode(b"ref: /etc/passwd\n"), None);
    }

    proptest! {
        #[test]
        fn references_round_trip(
            names in prop::collection::btree_set("refs/[a-z/\u{80}-\u{ff}]{1,12}", 0..20),
            wide: bool,
            detached: bool,
        ) {
            let id = |i: usize| format!("{i:0width$x}", width = if wide { 64 } else { 40 });
            let list: Vec<Ref> = names
                .iter()
                .enumerate()
                .map(|(i, name)| Ref {
                    oid: id(i),
                    name: name.clone().into_bytes(),
                    symbolic: (i % 3 == 1).then(|| b"refs/heads/x".to_vec()),
                })
                .collect();
            let head =
                if detached { Head::Detached(id(7)) } else { Head::Symbolic(b"refs/heads/m".to_vec()) };
            let refs = Refs { head, list };
            prop_assert_eq!(Head::decode(&refs.head.encode()).unwrap(), refs.head.clone());
            let decoded = decode_list(&refs.encode_list(), &refs.encode_symbolic());
            prop_assert_eq!(decoded.unwrap(), refs.list);
        }

        #[test]
        fn hostile_lines_never_panic(list: Vec<u8>, symbolic: Vec<u8>) {
            let _ = decode_list(&list, &symbolic);
            let _ = Head::decode(&list);
        }
    }
}
