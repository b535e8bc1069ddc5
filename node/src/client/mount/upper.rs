//! What lies above the snapshots of a mount: `snapshots/ID`, `snapshots/latest`, and links to them by host and by tag.

use crate::client::backup::SnapshotInfo;
use protocol::id::EntryId;
use protocol::item::Timestamp;
use std::collections::BTreeMap;

/// Longest name that Linux takes, in bytes.
const NAME_LEN_MAX: usize = 255;
/// The folder at the mount point.
pub(super) const ROOT: u32 = 0;
/// The folder of snapshots.
const SNAPSHOTS: u32 = 1;

/// A snapshot to be shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) id: EntryId,
    pub(super) time: Timestamp,
    pub(super) info: Option<SnapshotInfo>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A node of this tree.
    Upper(u32),
    /// The top of the snapshot of this number.
    Snapshot(usize),
}

#[derive(Debug)]
pub(super) enum What {
    Folder(BTreeMap<String, Place>),
    Link(String),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: u32,
    pub(super) what: What,
}

/// The upper tree; it never changes.
#[derive(Debug)]
pub(super) struct Upper {
    nodes: Vec<Node>,
    /// When the last snapshot was made.
    pub(super) time: Timestamp,
}

impl Upper {
    /// Of these snapshots, the latest last.
    pub(super) fn new(shown: &[Shown]) -> Self {
        let time = shown.last().map_or(Timestamp::default(), |shown| shown.time);
        let mut upper = Self { nodes: Vec::new(), time };
        upper.nodes.push(Node { parent: ROOT, what: What::Folder(BTreeMap::new()) });
        let snapshots = upper.folder(ROOT, "snapshots");
        debug_assert_eq!(snapshots, SNAPSHOTS);
        let names = names(shown);
        for (number, name) in names.iter().enumerate() {
            upper.enter(SNAPSHOTS, name, Place::Snapshot(number));
        }
        if let Some(last) = names.last() {
            upper.link(SNAPSHOTS, "latest", last.clone());
        }
        let (hosts, tags) = (upper.folder(ROOT, "hosts"), upper.folder(ROOT, "tags"));
        for (shown, name) in shown.iter().zip(&names) {
            let Some(info) = &shown.info else { continue };
            let words = info.tags.iter().map(|tag| (tags, tag));
            for (within, word) in std::iter::once((hosts, &info.host)).chain(words) {
                let folder = upper.folder(within, &file_name(word));
                upper.link(folder, name, format!("../../snapshots/{name}"));
            }
        }
        upper
    }

    pub(super) fn get(&self, node: u32) -> Option<&Node> {
        self.nodes.get(node as usize)
    }

    /// The folder that snapshots lie in.
    pub(super) fn snapshots() -> u32 {
        SNAPSHOTS
    }

    /// The folder of this name, made if it is not there.
    fn folder(&mut self, parent: u32, name: &str) -> u32 {
        if let What::Folder(within) = &self.nodes[parent as usize].what
            && let Some(Place::Upper(node)) = within.get(name)
        {
            return *node;
        }
        self.add(parent, name, What::Folder(BTreeMap::new()))
    }

    fn link(&mut self, parent: u32, name: &str, target: String) {
        self.add(parent, name, What::Link(target));
    }

    fn add(&mut self, parent: u32, name: &str, what: What) -> u32 {
        let node = self.nodes.len() as u32;
        self.nodes.push(Node { parent, what });
        self.enter(parent, name, Place::Upper(node));
        node
    }

    fn enter(&mut self, parent: u32, name: &str, place: Place) {
        if let What::Folder(within) = &mut self.nodes[parent as usize].what {
            within.insert(name.to_owned(), place);
        }
    }
}

/// The snapshots' short names, or the long ones where two would have the same.
fn names(shown: &[Shown]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for shown in shown {
        *counts.entry(shown.id.short()).or_default() += 1;
    }
    let name = |shown: &Shown| match counts[&shown.id.short()] {
        1 => shown.id.short(),
        _ => shown.id.to_string(),
    };
    shown.iter().map(name).collect()
}

/// A word as the name of a folder.
fn file_name(word: &str) -> String {
    let mut name: String =
        word.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    while name.len() > NAME_LEN_MAX {
        name.pop();
    }
    if matches!(name.as_str(), "" | "." | "..") { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::item::SourceKind;

    fn shown(id: [u8; 32], host: &str, tags: &[&str]) -> Shown {
        let info = SnapshotInfo {
            source: "/s".into(),
            kind: SourceKind::Directory,
            host: host.into(),
            tags: tags.iter().map(ToString::to_string).collect(),
            items: 1,
            bytes: 1,
            failed: 0,
            degraded: false,
        };
        Shown { id: EntryId(id), time: Timestamp { secs: 5, nanos: 0 }, info: Some(info) }
    }

    /// All paths, and where links lead.
    fn walk(upper: &Upper, node: u32, within: &str, found: &mut Vec<String>) {
        match &upper.get(node).unwrap().what {
            What::Folder(entries) => {
                for (name, place) in entries {
                    let path = format!("{within}{name}");
                    match place {
                        Place::Snapshot(number) => found.push(format!("{path} #{number}")),
                        Place::Upper(child) => {
                            assert_eq!(upper.get(*child).unwrap().parent, node);
                            walk(upper, *child, &format!("{path}/"), found);
                        }
                    }
                }
            }
            What::Link(target) => {
                found.push(format!("{} -> {target}", within.trim_end_matches('/')));
            }
        }
    }

    #[test]
    fn snapshots_are_found_by_id_host_and_tag() {
        let long = {
            let mut id = [1; 32];
            id[31] = 9;
            id
        };
        let all = [
            shown([1; 32], "h", &["a", "../b"]),
            shown([2; 32], "h", &[]),
            shown(long, "..", &["a"]),
        ];
        let mut found = Vec::new();
        walk(&Upper::new(&all), ROOT, "", &mut found);
        let (one, three) = (EntryId([1; 32]).to_string(), EntryId(long).to_string());
        let mut expected = vec![
            format!("hosts/_../{three} -> ../../snapshots/{three}"),
            "hosts/h/02020202 -> ../../snapshots/02020202".into(),
            format!("hosts/h/{one} -> ../../snapshots/{one}"),
            "snapshots/02020202 #1".into(),
            format!("snapshots/{one} #0"),
            format!("snapshots/{three} #2"),
            format!("snapshots/latest -> {three}"),
            format!("tags/.._b/{one} -> ../../snapshots/{one}"),
            format!("tags/a/{one} -> ../../snapshots/{one}"),
            format!("tags/a/{three} -> ../../snapshots/{three}"),
        ];
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert!(Upper::new(&[]).get(ROOT).is_some());
        assert_eq!(file_name(&"ä".repeat(200)).len(), 254);
    }
}
