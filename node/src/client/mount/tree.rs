//! A snapshot as a tree of numbered nodes, built from its items once and kept while it is looked at.
//!
//! An item takes 60 bytes and its name. Lists of chunks, targets of links and extended attributes are not kept: a node
//! knows where in the item stream its entry begins, which is read again when they are needed. As items are sorted, the
//! same snapshot always gives the same numbers.

use crate::client::browse::{Entries, Entry, What, below};
use crate::client::items::{Items, Stream};
use crate::client::opened::Opened;
use crate::client::{ClientError, Result};
use fuser::{FileAttr, FileType, INodeNo};
use protocol::item::{NodeKind, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest name that Linux takes, in bytes.
const NAME_LEN_MAX: usize = 255;
/// The top of a snapshot.
pub(super) const TOP: u32 = 0;
/// A folder that no item is about: only what is in it.
const IMPLIED: u64 = u64::MAX;

/// What is known of an item.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Where its entry begins.
    at: u64,
    /// Bytes of a file or of a link's target, folders in a folder, a device's number.
    size: u64,
    secs: i64,
    nanos: u32,
    uid: u32,
    gid: u32,
    parent: u32,
    /// Where its name begins; it ends where the next one begins.
    name_at: u32,
    /// Of a folder, where the list of what is in it begins.
    children_at: u32,
    /// Of a further name of a file, the first one.
    file: u32,
    mode: u16,
    kind: FileType,
    has_attributes: bool,
}

/// The tree of a snapshot.
#[derive(Debug)]
pub(super) struct Tree {
    stream: Arc<Stream>,
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// What is in folders, by name.
    children: Vec<u32>,
    /// Bytes that take no space, of files that have such.
    holes: HashMap<u32, u64>,
    /// How many names, of files that have several.
    links: HashMap<u32, u32>,
    /// Items that no file system can show.
    pub(super) left_out: u64,
}

impl Tree {
    /// Reads all items of a snapshot. Folders that are only implied get this time.
    pub(super) async fn build(
        opened: &Arc<Opened>,
        stream: Arc<Stream>,
        time: Timestamp,
    ) -> Result<Self> {
        let mut entries = Entries::new(Items::new(Arc::clone(opened), Arc::clone(&stream)));
        let mut builder = Builder::new(stream, time);
        while let Some(entry) = entries.next().await? {
            builder.add(&entry)?;
        }
        Ok(builder.finish())
    }

    /// What is known of the top, from the first item alone.
    pub(super) async fn top(
        opened: &Arc<Opened>,
        stream: Arc<Stream>,
        time: Timestamp,
        ino: INodeNo,
    ) -> Result<FileAttr> {
        let mut entries = Entries::new(Items::new(Arc::clone(opened), Arc::clone(&stream)));
        let first = entries.next().await?;
        Self::top_of(first.as_ref(), stream, time, ino)
    }

    fn top_of(
        first: Option<&Entry>,
        stream: Arc<Stream>,
        time: Timestamp,
        ino: INodeNo,
    ) -> Result<FileAttr> {
        let mut builder = Builder::new(stream, time);
        if let Some(entry) = first.filter(|entry| entry.path().is_empty()) {
            builder.add(entry)?;
        }
        // How many folders are in it is not known yet: 1 says so.
        Ok(FileAttr { nlink: 1, ..builder.finish().attr(TOP, ino) })
    }

    /// Items in it.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn has(&self, node: u32) -> bool {
        (node as usize) < self.nodes.len()
    }

    pub(super) fn kind(&self, node: u32) -> FileType {
        self.nodes[node as usize].kind
    }

    pub(super) fn parent(&self, node: u32) -> u32 {
        self.nodes[node as usize].parent
    }

    /// By which number a node is known: names of one file have one.
    pub(super) fn file(&self, node: u32) -> u32 {
        self.nodes[node as usize].file
    }

    pub(super) fn name(&self, node: u32) -> &[u8] {
        let end =
            self.nodes.get(node as usize + 1).map_or(self.names.len(), |n| n.name_at as usize);
        &self.names[self.nodes[node as usize].name_at as usize..end]
    }

    /// What is in a folder, by name.
    pub(super) fn children(&self, node: u32) -> &[u32] {
        let end = self.nodes.get(node as usize + 1);
        let end = end.map_or(self.children.len(), |next| next.children_at as usize);
        &self.children[self.nodes[node as usize].children_at as usize..end]
    }

    /// What has this name in a folder.
    pub(super) fn child(&self, node: u32, name: &[u8]) -> Option<u32> {
        let children = self.children(node);
        let at = children.binary_search_by(|&child| self.name(child).cmp(name)).ok()?;
        Some(children[at])
    }

    pub(super) fn attr(&self, node: u32, ino: INodeNo) -> FileAttr {
        let found = &self.nodes[node as usize];
        let time = system_time(Timestamp { secs: found.secs, nanos: found.nanos });
        let size = match found.kind {
            FileType::RegularFile | FileType::Symlink => found.size,
            _ => 0,
        };
        let holes = self.holes.get(&node).copied().unwrap_or_default();
        let nlink = match found.kind {
            FileType::Directory => 2 + found.size as u32,
            _ => self.links.get(&node).copied().unwrap_or(1),
        };
        let is_device = matches!(found.kind, FileType::CharDevice | FileType::BlockDevice);
        FileAttr {
            ino,
            size,
            blocks: size.saturating_sub(holes).div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: found.kind,
            perm: found.mode,
            nlink,
            uid: found.uid,
            gid: found.gid,
            rdev: if is_device { found.size as u32 } else { 0 },
            blksize: 128 << 10,
            flags: 0,
        }
    }

    /// Whether there is anything to be read about extended attributes.
    pub(super) fn has_attributes(&self, node: u32) -> bool {
        self.nodes[node as usize].has_attributes
    }

    /// The whole entry of a node, read again, with the content of a file when asked for.
    pub(super) async fn entry(
        &self,
        opened: &Arc<Opened>,
        node: u32,
        with_pieces: bool,
    ) -> Result<Entry> {
        let at = self.nodes[node as usize].at;
        let lost = || ClientError::Content("an entry that was there and is not any more".into());
        if at == IMPLIED {
            return Err(lost());
        }
        let items = Items::at(Arc::clone(opened), Arc::clone(&self.stream), at);
        let entries = Entries::new(items);
        let mut entries = if with_pieces { entries.with_pieces() } else { entries };
        let entry = entries.next().await?;
        entry.filter(|entry| entry.name() == self.name(node)).ok_or_else(lost)
    }
}

/// Takes entries in order.
struct Builder {
    tree: Tree,
    time: Timestamp,
    /// Folders in which the next entry may lie, from the top down: path and node.
    open: Vec<(Vec<u8>, u32)>,
    /// First names of files of which names may still come.
    firsts: HashMap<u64, u32>,
}

impl Builder {
    fn new(stream: Arc<Stream>, time: Timestamp) -> Self {
        let tree = Tree {
            stream,
            nodes: Vec::new(),
            names: Vec::new(),
            children: Vec::new(),
            holes: HashMap::new(),
            links: HashMap::new(),
            left_out: 0,
        };
        let mut builder = Self { tree, time, open: Vec::new(), firsts: HashMap::new() };
        let top = builder.implied(TOP);
        builder.tree.nodes.push(top);
        builder.open.push((Vec::new(), TOP));
        builder
    }

    fn implied(&self, parent: u32) -> Node {
        Node {
            at: IMPLIED,
            size: 0,
            secs: self.time.secs,
            nanos: self.time.nanos,
            uid: 0,
            gid: 0,
            parent,
            name_at: self.tree.names.len() as u32,
            children_at: 0,
            file: self.tree.nodes.len() as u32,
            mode: 0o755,
            kind: FileType::Directory,
            has_attributes: false,
        }
    }

    fn add(&mut self, entry: &Entry) -> Result<()> {
        let path = entry.path();
        if path.split(|&byte| byte == b'/').any(|name| name.len() > NAME_LEN_MAX) {
            self.tree.left_out += 1;
            return Ok(());
        }
        if path.is_empty() {
            let top = self.node(entry, TOP);
            self.tree.nodes[TOP as usize] = Node { file: TOP, ..top };
            return Ok(());
        }
        let parent = self.folder_of(path)?;
        let node = self.node(entry, parent);
        let number = self.push(node, entry.name())?;
        match &entry.what {
            What::Directory => self.open.push((path.to_vec(), number)),
            What::File { holes, .. } => {
                if *holes > 0 {
                    self.tree.holes.insert(number, *holes);
                }
                if let Some(shared) = entry.shared {
                    let first = *self.firsts.entry(shared.group).or_insert(number);
                    self.tree.nodes[number as usize].file = first;
                    *self.tree.links.entry(first).or_default() += 1;
                    if shared.left == 0 {
                        self.firsts.remove(&shared.group);
                    }
                }
            }
            What::Symlink { .. } | What::Node(_) => {}
        }
        Ok(())
    }

    /// The folder that this path lies in, implied where no item is about it.
    fn folder_of(&mut self, path: &[u8]) -> Result<u32> {
        let parent =
            path.iter().rposition(|&byte| byte == b'/').map_or(&path[..0], |at| &path[..at]);
        while self.open.len() > 1
            && self.open.last().is_some_and(|(open, _)| below(open, parent).is_none())
        {
            self.open.pop();
        }
        let (mut within, mut folder) = self.open.last().cloned().unwrap_or((Vec::new(), TOP));
        let rest = below(&within, parent).unwrap_or_default().to_vec();
        for name in rest.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let node = self.implied(folder);
            folder = self.push(node, name)?;
            if !within.is_empty() {
                within.push(b'/');
            }
            within.extend_from_slice(name);
            self.open.push((within.clone(), folder));
        }
        Ok(folder)
    }

    fn push(&mut self, node: Node, name: &[u8]) -> Result<u32> {
        let tree = &mut self.tree;
        let is_full = tree.nodes.len() >= u32::MAX as usize
            || tree.names.len() + name.len() > u32::MAX as usize;
        if is_full {
            return Err(ClientError::Content("more items than a mount can show".into()));
        }
        let number = tree.nodes.len() as u32;
        if node.kind == FileType::Directory {
            tree.nodes[node.parent as usize].size += 1;
        }
        tree.nodes.push(node);
        tree.names.extend_from_slice(name);
        Ok(number)
    }

    fn node(&self, entry: &Entry, parent: u32) -> Node {
        let meta = &entry.meta;
        let (kind, size) = match &entry.what {
            What::Directory => (FileType::Directory, 0),
            What::File { size, .. } => (FileType::RegularFile, *size),
            What::Symlink { target } => (FileType::Symlink, target.len() as u64),
            What::Node(node) => {
                let kind = match node.kind {
                    NodeKind::Fifo => FileType::NamedPipe,
                    NodeKind::CharacterDevice => FileType::CharDevice,
                    NodeKind::BlockDevice => FileType::BlockDevice,
                };
                (kind, u64::from(device(node.major, node.minor)))
            }
        };
        Node {
            at: entry.at,
            size,
            secs: meta.mtime.secs,
            nanos: meta.mtime.nanos,
            uid: meta.uid,
            gid: meta.gid,
            mode: meta.mode as u16,
            kind,
            has_attributes: !entry.attributes.is_empty(),
            ..self.implied(parent)
        }
    }

    /// Lists what is in folders: nodes come by name, and those of a folder after it.
    fn finish(self) -> Tree {
        let mut tree = self.tree;
        let mut counts = vec![0u32; tree.nodes.len()];
        for node in &tree.nodes[1..] {
            counts[node.parent as usize] += 1;
        }
        let mut at = 0;
        for (node, count) in tree.nodes.iter_mut().zip(&mut counts) {
            node.children_at = at;
            at += std::mem::replace(count, at);
        }
        tree.children = vec![0; at as usize];
        for (number, node) in tree.nodes.iter().enumerate().skip(1) {
            let next = &mut counts[node.parent as usize];
            tree.children[*next as usize] = number as u32;
            *next += 1;
        }
        tree.names.shrink_to_fit();
        tree.nodes.shrink_to_fit();
        tree
    }
}

/// A device's number as the kernel's interface has it.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// A time that this system can have.
pub(super) fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let seconds =
        if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    seconds.and_then(|seconds| seconds.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::browse::Pieces;
    use crate::restore::names::Shared;
    use crate::source;
    use proptest::prelude::*;
    use protocol::codec::Blob;
    use protocol::item::{Meta, path_cmp};
    use std::collections::BTreeSet;

    fn file(size: u64, holes: u64) -> What {
        What::File { size, holes, pieces: Pieces::default() }
    }

    fn entry(path: &str, what: What) -> Entry {
        let path = Blob(path.as_bytes().to_vec());
        let meta =
            Meta { path, mode: 0o640, uid: 1, gid: 2, mtime: Timestamp { secs: 5, nanos: 6 } };
        Entry { at: 7, meta, what, attributes: Vec::new(), shared: None }
    }

    fn tree(entries: &[Entry]) -> Tree {
        let stream = Arc::new(Stream::default());
        let mut builder = Builder::new(stream, Timestamp { secs: 9, nanos: 0 });
        for entry in entries {
            builder.add(entry).unwrap();
        }
        builder.finish()
    }

    /// The paths of everything below a node.
    fn paths(tree: &Tree, node: u32, within: &str, found: &mut Vec<String>) {
        for &child in tree.children(node) {
            assert_eq!(tree.parent(child), node);
            assert_eq!(tree.child(node, tree.name(child)), Some(child));
            let name = String::from_utf8(tree.name(child).to_vec()).unwrap();
            let path = if within.is_empty() { name } else { format!("{within}/{name}") };
            found.push(path.clone());
            paths(tree, child, &path, found);
        }
    }

    #[test]
    fn an_item_takes_as_little_as_is_said() {
        assert_eq!(size_of::<Node>() + size_of::<u32>(), 60);
    }

    #[test]
    fn items_are_found_by_name_and_have_what_they_had() {
        let node = source::Node { kind: NodeKind::BlockDevice, major: 7, minor: 300 };
        let tree = tree(&[
            entry("", What::Directory),
            entry("a", What::Directory),
            entry("a/b", What::Directory),
            entry("a/b/c", file(1000, 0)),
            entry("a.b", What::Node(node)),
            entry("l", What::Symlink { target: b"to".to_vec() }),
            entry("s", file(10_000, 9000)),
        ]);
        let mut found = Vec::new();
        paths(&tree, TOP, "", &mut found);
        assert_eq!(found, ["a", "a/b", "a/b/c", "a.b", "l", "s"]);
        let attr = |name: &[u8]| tree.attr(tree.child(TOP, name).unwrap(), INodeNo(3));
        assert_eq!((attr(b"a").nlink, attr(b"a").perm, attr(b"a").size), (3, 0o640, 0));
        assert_eq!((attr(b"l").size, attr(b"l").kind), (2, FileType::Symlink));
        assert_eq!((attr(b"s").size, attr(b"s").blocks), (10_000, 2));
        // As the kernel takes it apart: 20 bits of minor, 12 of major.
        let rdev = attr(b"a.b").rdev;
        assert_eq!(((rdev & 0xfff00) >> 8, (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00)), (7, 300));
        assert_eq!(attr(b"s").mtime, UNIX_EPOCH + Duration::new(5, 6));
        assert_eq!(tree.child(TOP, b"none"), None);
        assert_eq!(tree.child(tree.child(TOP, b"s").unwrap(), b"x"), None);
    }

    #[test]
    fn the_top_is_known_from_its_item_or_the_snapshots_time() {
        let top = |first: &Entry| {
            let time = Timestamp { secs: 9, nanos: 0 };
            Tree::top_of(Some(first), Arc::default(), time, INodeNo(4)).unwrap()
        };
        let found = top(&entry("", What::Directory));
        assert_eq!((found.perm, found.mtime), (0o640, UNIX_EPOCH + Duration::new(5, 6)));
        let implied = top(&entry("db.sql", file(1, 0)));
        assert_eq!((implied.perm, implied.mtime), (0o755, UNIX_EPOCH + Duration::from_secs(9)));
        assert_eq!(
            (implied.nlink, implied.ino, implied.kind),
            (1, INodeNo(4), FileType::Directory)
        );
    }

    #[test]
    fn names_of_one_file_are_one_node() {
        let shared = |path, group, left| Entry {
            shared: Some(Shared { group, left }),
            ..entry(path, file(1000, 0))
        };
        let tree =
            tree(&[shared("a", 0, 2), shared("b", 1, 1), shared("c", 0, 1), shared("d", 0, 0)]);
        let files = [b"a", b"b", b"c", b"d"].map(|name| tree.file(tree.child(TOP, name).unwrap()));
        assert_eq!(files, [1, 2, 1, 1]);
        assert_eq!(tree.attr(files[0], INodeNo(1)).nlink, 3);
        assert_eq!(tree.attr(files[1], INodeNo(1)).nlink, 1);
    }

    #[test]
    fn what_no_file_system_can_have_is_left_out_and_hostile_times_are_times() {
        let mut odd = entry("b", file(1000, 0));
        odd.meta.mtime = Timestamp { secs: i64::MIN, nanos: 0 };
        let long = "n".repeat(NAME_LEN_MAX + 1);
        let tree =
            tree(&[odd, entry(&long, What::Directory), entry(&format!("{long}/x"), file(1000, 0))]);
        assert_eq!((tree.left_out, tree.children(TOP).len()), (2, 1));
        let _ = tree.attr(1, INodeNo(1));
        for (secs, nanos) in [(-1, 5), (i64::MAX, 999_999_999), (0, 0)] {
            let _ = system_time(Timestamp { secs, nanos });
        }
        let early = system_time(Timestamp { secs: -2, nanos: 500_000_000 });
        assert_eq!(early, UNIX_EPOCH - Duration::from_millis(1500));
    }

    proptest! {
        #[test]
        fn every_path_is_there_with_the_folders_above_it(
            paths_in in prop::collection::btree_set("[a-c.]{1,2}(/[a-c.]{1,2}){0,3}", 0..40)
        ) {
            // Whatever lies in something is in a folder; "." and ".." are no names.
            let proper = |path: &String| path.split('/').all(|name| !matches!(name, "." | ".."));
            let mut named: Vec<String> = paths_in.into_iter().filter(proper).collect();
            named.sort_by(|a, b| path_cmp(a.as_bytes(), b.as_bytes()));
            let mut expected = BTreeSet::new();
            for path in &named {
                let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
                expected.extend(ends.map(|end| path[..end].to_owned()));
            }
            let is_above = |path: &str| named.iter().any(|p| p.starts_with(&format!("{path}/")));
            let entries: Vec<Entry> = named
                .iter()
                .map(|path| entry(path, if is_above(path) { What::Directory } else { file(1000, 0) }))
                .collect();
            let mut found = Vec::new();
            paths(&tree(&entries), TOP, "", &mut found);
            let mut expected: Vec<String> = expected.into_iter().collect();
            expected.sort_by(|a, b| path_cmp(a.as_bytes(), b.as_bytes()));
            prop_assert_eq!(found, expected);
        }
    }
}
