//! A snapshot of a Git repository in Git's terms: which references it has, and where they point.

use super::{Browser, Entry, Pieces, What};
use crate::client::ledger::Logged;
use crate::client::{ClientError, Result};
use crate::source::git::refs::{Head, Ref, decode_list};
use std::collections::BTreeMap;

/// Longest text item that is read, in bytes: a million references.
const TEXT_LEN_MAX: u64 = 64 << 20;
/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRef {
    /// `HEAD`, or a full name below `refs/`.
    pub name: Vec<u8>,
    /// The object that it names; nothing for a `HEAD` whose branch has no commit yet.
    pub object: Option<String>,
    /// The reference that it stands for.
    pub symbolic: Option<Vec<u8>>,
}

impl GitRef {
    /// Where it points, as people read it.
    #[must_use]
    pub fn points_at(&self) -> String {
        let object = self.object.as_deref().unwrap_or("nothing yet");
        match &self.symbolic {
            Some(name) => format!("{object} (by way of {})", String::from_utf8_lossy(name)),
            None => object.to_owned(),
        }
    }
}

/// What a snapshot of a Git repository says.
#[derive(Debug, Default)]
pub struct GitSnapshot {
    /// `HEAD`, then all below `refs/` by name.
    pub refs: Vec<GitRef>,
    /// Configuration, description, hooks, ignored files: what is neither a reference nor an object.
    pub others: Vec<Entry>,
    /// Packs, which hold the objects that a chain begins with: the hash of their chunk lists, and bytes.
    pub packs: Vec<(Pieces, u64)>,
    /// Bundles, which hold the objects that came later: the same of them.
    pub bundles: Vec<(Pieces, u64)>,
}

impl GitSnapshot {
    /// Reads all that is text; of the objects nothing.
    pub async fn read(browser: &Browser, snapshot: &Logged) -> Result<Self> {
        let mut entries = browser.entries(snapshot).await?.with_pieces();
        let mut found = Self::default();
        let mut texts: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        while let Some(entry) = entries.next().await? {
            match (entry.path(), &entry.what) {
                (b"HEAD" | b"refs" | b"symrefs", What::File { pieces, .. }) => {
                    let text = read_text(browser, pieces.clone()).await?;
                    texts.insert(entry.path().to_vec(), text);
                }
                (b"format", _) => {}
                (path, What::File { pieces, size, .. }) if path.starts_with(b"bundles/") => {
                    found.bundles.push((pieces.clone(), *size));
                }
                (path, What::File { pieces, size, .. }) if path.starts_with(b"base/") => {
                    // Their indexes say nothing that they do not.
                    if path.ends_with(b".pack") {
                        found.packs.push((pieces.clone(), *size));
                    }
                }
                (_, What::Directory) => {}
                _ => found.others.push(entry),
            }
        }
        let text = |name: &str| texts.get(name.as_bytes()).map_or(&[][..], |text| &text[..]);
        let refs = refs_of(text("HEAD"), text("refs"), text("symrefs"));
        found.refs = refs.ok_or_else(|| ClientError::Content("references that are none".into()))?;
        Ok(found)
    }
}

async fn read_text(browser: &Browser, pieces: Pieces) -> Result<Vec<u8>> {
    if pieces.len() > TEXT_LEN_MAX {
        return Err(ClientError::Content("a list of references without end".into()));
    }
    let mut text = Vec::new();
    let take = |bytes: &[u8]| {
        text.extend_from_slice(bytes);
        Ok(true)
    };
    browser.each_piece(pieces, PIECE, take).await?;
    Ok(text)
}

/// From the items of these names.
fn refs_of(head: &[u8], list: &[u8], symbolic: &[u8]) -> Option<Vec<GitRef>> {
    let list = decode_list(list, symbolic)?;
    let head = match Head::decode(head)? {
        Head::Detached(oid) => GitRef { name: b"HEAD".into(), object: Some(oid), symbolic: None },
        Head::Symbolic(target) => {
            let at = list.binary_search_by(|r| r.name.cmp(&target)).ok();
            let object = at.map(|at| list[at].oid.clone());
            GitRef { name: b"HEAD".into(), object, symbolic: Some(target) }
        }
    };
    let further = list.into_iter().map(|Ref { oid, name, symbolic }| GitRef {
        name,
        object: Some(oid),
        symbolic,
    });
    Some(std::iter::once(head).chain(further).collect())
}

/// What became of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefChange {
    /// It is new.
    Added(GitRef),
    /// It is gone.
    Removed(GitRef),
    /// It points elsewhere: before and after.
    Moved(GitRef, GitRef),
}

/// What changed between two lists of references, by name, `HEAD` first.
#[must_use]
pub fn changed_refs(before: &[GitRef], after: &[GitRef]) -> Vec<RefChange> {
    let order = |r: &GitRef| (r.name != b"HEAD", r.name.clone());
    let old: BTreeMap<_, _> = before.iter().map(|r| (order(r), r)).collect();
    let new: BTreeMap<_, _> = after.iter().map(|r| (order(r), r)).collect();
    let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name| match (old.get(name), new.get(name)) {
        (None, Some(&new)) => Some(RefChange::Added(new.clone())),
        (Some(&old), None) => Some(RefChange::Removed(old.clone())),
        (Some(&old), Some(&new)) if old != new => Some(RefChange::Moved(old.clone(), new.clone())),
        _ => None,
    };
    names.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "1111111111111111111111111111111111111111 refs/heads/main\n\
                        2222222222222222222222222222222222222222 refs/remotes/o/HEAD\n\
                        2222222222222222222222222222222222222222 refs/remotes/o/main\n";

    fn refs(head: &str, list: &str, symbolic: &str) -> Option<Vec<GitRef>> {
        refs_of(head.as_bytes(), list.as_bytes(), symbolic.as_bytes())
    }

    #[test]
    fn head_is_where_its_branch_is() {
        let symbolic = "refs/remotes/o/HEAD refs/remotes/o/main\n";
        let found = refs("ref: refs/heads/main\n", LIST, symbolic).unwrap();
        assert_eq!(found[0].object.as_deref(), Some(&LIST[..40]));
        assert_eq!(found[0].points_at(), format!("{} (by way of refs/heads/main)", &LIST[..40]));
        assert_eq!(found[2].symbolic.as_deref(), Some(&b"refs/remotes/o/main"[..]));
        let unborn = refs("ref: refs/heads/new\n", LIST, "").unwrap();
        assert_eq!(unborn[0].object, None);
        assert!(refs("", LIST, "").is_none() && refs("ref: refs/heads/main\n", "x", "").is_none());
    }

    #[test]
    fn refs_are_added_removed_and_moved() {
        let before = refs("ref: refs/heads/main\n", LIST, "").unwrap();
        let moved = LIST.replace("1111", "3333").replace("o/main", "o/next");
        let after = refs("ref: refs/heads/main\n", &moved, "").unwrap();
        let changes = changed_refs(&before, &after);
        let told: Vec<(char, String)> = changes
            .iter()
            .map(|change| match change {
                RefChange::Added(r) => ('+', r),
                RefChange::Removed(r) => ('-', r),
                RefChange::Moved(_, r) => ('M', r),
            })
            .map(|(sign, r)| (sign, String::from_utf8(r.name.clone()).unwrap()))
            .collect();
        let expected = [
            ('M', "HEAD"),
            ('M', "refs/heads/main"),
            ('-', "refs/remotes/o/main"),
            ('+', "refs/remotes/o/next"),
        ];
        assert_eq!(told, expected.map(|(sign, name)| (sign, name.to_owned())));
        assert!(changed_refs(&before, &before).is_empty());
    }
}
