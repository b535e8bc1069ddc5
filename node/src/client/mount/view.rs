//! What a mount shows, asked by number: the upper tree and the snapshots below it. Trees of snapshots are built when
//! somebody looks at them.

use super::tree::{self, Tree, system_time};
use super::upper::{Place, Shown, Upper, What as UpperWhat};
use crate::client::browse::{Browser, Content, What};
use crate::client::ledger::Logged;
use crate::client::opened::Opened;
use crate::client::tags::Catalog;
use crate::client::{ClientError, Result as ClientResult};
use fuser::{Errno, FileAttr, FileType, INodeNo};
use protocol::item::Timestamp;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Items of trees that are kept: about 300 MB. The tree that is looked at is kept however large it is.
const ITEMS_KEPT: usize = 4 << 20;
/// Different troubles that are told; a broken vault has as many as it has files.
const TOLD_MAX: usize = 50;

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// As the system says it.
    Errno(Errno),
    /// Reading failed.
    Client(ClientError),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

type Result<T> = std::result::Result<T, Trouble>;

const NOT_THERE: Trouble = Trouble::Errno(Errno::ENOENT);

/// Something that has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Upper(u32),
    /// A node of the snapshot of this number.
    Item(usize, u32),
}

impl Number {
    fn of(ino: INodeNo) -> Self {
        match (ino.0 >> 32, ino.0 as u32) {
            // 0 is no number.
            (0, node) => Self::Upper(node.wrapping_sub(1)),
            (snapshot, node) => Self::Item(snapshot as usize - 1, node),
        }
    }

    fn ino(self) -> INodeNo {
        match self {
            Self::Upper(node) => INodeNo(u64::from(node) + 1),
            Self::Item(snapshot, node) => INodeNo((snapshot as u64 + 1) << 32 | u64::from(node)),
        }
    }
}

/// An entry of a folder.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ino: INodeNo,
    pub(super) kind: FileType,
    pub(super) name: Vec<u8>,
}

type TreeCell = Arc<OnceCell<Arc<Tree>>>;

/// What is shown.
pub(super) struct View {
    browser: Browser,
    snapshots: Vec<Logged>,
    shown: Vec<Shown>,
    upper: Upper,
    trees: Mutex<VecDeque<(usize, TreeCell)>>,
    /// What is known of each snapshot's top: who lists the snapshots looks into none.
    tops: Vec<OnceCell<FileAttr>>,
    owner: (u32, u32),
    warn: Box<dyn Fn(&str) + Send + Sync>,
    told: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({} snapshots)", self.snapshots.len())
    }
}

impl View {
    /// Of the snapshots that there are now, of those forgotten when `all` are asked for. Trouble is told to `warn`.
    pub(super) fn new(browser: Browser, all: bool, warn: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        let catalog = Catalog::read(&browser.reader.vault, &browser.reader.ledger);
        let ledger = &browser.reader.ledger;
        let is_shown = |logged: &&Logged| all || !ledger.is_forgotten(logged);
        let snapshots: Vec<Logged> =
            ledger.snapshots().into_iter().filter(is_shown).cloned().collect();
        let show = |logged: &Logged| {
            let millis = logged.witnessed().0;
            let nanos = (millis % 1000) as u32 * 1_000_000;
            let time = Timestamp { secs: (millis / 1000) as i64, nanos };
            let info = catalog.info_of(&browser.reader.vault, logged);
            Shown { id: logged.id, time, info }
        };
        let shown: Vec<Shown> = snapshots.iter().map(show).collect();
        let upper = Upper::new(&shown);
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (trees, told) = (Mutex::default(), Mutex::default());
        let tops = shown.iter().map(|_| OnceCell::new()).collect();
        Self { browser, snapshots, shown, upper, trees, tops, owner, warn, told }
    }

    /// Snapshots in it.
    pub(super) fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// The error for who asked; what it means is told once.
    pub(super) fn errno(&self, trouble: Trouble) -> Errno {
        let error = match trouble {
            Trouble::Errno(errno) => return errno,
            Trouble::Client(error) => error,
        };
        let text = error.to_string();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD_MAX && told.insert(text.clone()) {
            (self.warn)(&text);
        }
        match error {
            ClientError::Identity(_) => Errno::EACCES,
            _ => Errno::EIO,
        }
    }

    fn opened(&self) -> &Arc<Opened> {
        self.browser.opened()
    }

    async fn tree(&self, snapshot: usize) -> Result<Arc<Tree>> {
        let logged = self.snapshots.get(snapshot).ok_or(NOT_THERE)?;
        let cell = self.with_trees(|trees| {
            let at = trees.iter().position(|(number, _)| *number == snapshot);
            let entry = at.and_then(|at| trees.remove(at)).unwrap_or((snapshot, Arc::default()));
            let cell = Arc::clone(&entry.1);
            trees.push_front(entry);
            cell
        });
        if let Some(tree) = cell.get() {
            return Ok(Arc::clone(tree));
        }
        let tree = cell.get_or_try_init(|| self.build(logged, self.shown[snapshot].time)).await?;
        self.with_trees(|trees| {
            let len = |cell: &TreeCell| cell.get().map_or(0, |tree| tree.len());
            let mut kept = trees.iter().map(|(_, cell)| len(cell)).sum::<usize>();
            while kept > ITEMS_KEPT
                && trees.len() > 1
                && let Some((_, oldest)) = trees.pop_back()
            {
                kept -= len(&oldest);
            }
        });
        Ok(Arc::clone(tree))
    }

    async fn build(&self, logged: &Logged, time: Timestamp) -> ClientResult<Arc<Tree>> {
        let stream = Arc::new(self.browser.stream(logged).await?);
        let tree = Tree::build(self.opened(), stream, time).await?;
        if tree.left_out > 0 {
            let what = "have names that no file system takes, and are not shown";
            (self.warn)(&format!("{} items of {} {what}", tree.left_out, logged.id.short()));
        }
        Ok(Arc::new(tree))
    }

    fn with_trees<T>(&self, change: impl FnOnce(&mut VecDeque<(usize, TreeCell)>) -> T) -> T {
        change(&mut self.trees.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn top(&self, snapshot: usize) -> Result<FileAttr> {
        let cell = self.tops.get(snapshot).ok_or(NOT_THERE)?;
        let top = cell.get_or_try_init(|| async {
            let stream = Arc::new(self.browser.stream(&self.snapshots[snapshot]).await?);
            let ino = Number::Item(snapshot, tree::TOP).ino();
            Tree::top(self.opened(), stream, self.shown[snapshot].time, ino).await
        });
        Ok(*top.await?)
    }

    /// The tree that a number is in, and the node in it.
    async fn item(&self, ino: INodeNo) -> Result<(Arc<Tree>, u32)> {
        match Number::of(ino) {
            Number::Upper(_) => Err(Trouble::Errno(Errno::ENODATA)),
            Number::Item(snapshot, node) => {
                let tree = self.tree(snapshot).await?;
                if tree.has(node) { Ok((tree, node)) } else { Err(NOT_THERE) }
            }
        }
    }

    /// What is known of a number.
    pub(super) async fn attr(&self, ino: INodeNo) -> Result<FileAttr> {
        match Number::of(ino) {
            Number::Upper(node) => self.upper_attr(node),
            Number::Item(snapshot, tree::TOP) => self.top(snapshot).await,
            Number::Item(..) => {
                let (tree, node) = self.item(ino).await?;
                Ok(tree.attr(node, ino))
            }
        }
    }

    fn upper_attr(&self, node: u32) -> Result<FileAttr> {
        let found = self.upper.get(node).ok_or(NOT_THERE)?;
        let (kind, perm, size, nlink) = match &found.what {
            UpperWhat::Folder(within) => (FileType::Directory, 0o555, 0, 2 + within.len() as u32),
            UpperWhat::Link(target) => (FileType::Symlink, 0o777, target.len() as u64, 1),
        };
        let time = system_time(self.upper.time);
        Ok(FileAttr {
            ino: Number::Upper(node).ino(),
            size,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// What has this name in a folder.
    pub(super) async fn child(&self, parent: INodeNo, name: &[u8]) -> Result<FileAttr> {
        match Number::of(parent) {
            Number::Upper(node) => {
                let UpperWhat::Folder(within) = &self.upper.get(node).ok_or(NOT_THERE)?.what else {
                    return Err(Trouble::Errno(Errno::ENOTDIR));
                };
                let name = std::str::from_utf8(name).map_err(|_| NOT_THERE)?;
                match *within.get(name).ok_or(NOT_THERE)? {
                    Place::Upper(node) => self.upper_attr(node),
                    Place::Snapshot(number) => self.top(number).await,
                }
            }
            Number::Item(snapshot, _) => {
                let (tree, node) = self.item(parent).await?;
                let child = tree.file(tree.child(node, name).ok_or(NOT_THERE)?);
                Ok(tree.attr(child, Number::Item(snapshot, child).ino()))
            }
        }
    }

    /// What is in a folder, itself and the one above it first, from this place on, until `take` has enough.
    pub(super) async fn list(
        &self,
        ino: INodeNo,
        from: u64,
        mut take: impl FnMut(u64, Entry) -> bool,
    ) -> Result<()> {
        let folder = |ino, name: &str| Entry { ino, kind: FileType::Directory, name: name.into() };
        let from = from as usize;
        match Number::of(ino) {
            Number::Upper(node) => {
                let found = self.upper.get(node).ok_or(NOT_THERE)?;
                let UpperWhat::Folder(within) = &found.what else {
                    return Err(Trouble::Errno(Errno::ENOTDIR));
                };
                let above = Number::Upper(found.parent).ino();
                let entry = |(name, &place): (&String, &Place)| {
                    let (number, kind) = match place {
                        Place::Snapshot(number) => {
                            (Number::Item(number, tree::TOP), FileType::Directory)
                        }
                        Place::Upper(node) => match self.upper.get(node).map(|node| &node.what) {
                            Some(UpperWhat::Link(_)) => (Number::Upper(node), FileType::Symlink),
                            _ => (Number::Upper(node), FileType::Directory),
                        },
                    };
                    Entry { ino: number.ino(), kind, name: name.clone().into_bytes() }
                };
                let both = [folder(ino, "."), folder(above, "..")].into_iter();
                let all = both.chain(within.iter().map(entry)).enumerate().skip(from);
                for (at, entry) in all {
                    if !take(at as u64 + 1, entry) {
                        break;
                    }
                }
            }
            Number::Item(snapshot, _) => {
                let (tree, node) = self.item(ino).await?;
                if tree.kind(node) != FileType::Directory {
                    return Err(Trouble::Errno(Errno::ENOTDIR));
                }
                let above = match node {
                    tree::TOP => Number::Upper(Upper::snapshots()),
                    _ => Number::Item(snapshot, tree.parent(node)),
                };
                let both = [folder(ino, "."), folder(above.ino(), "..")].into_iter();
                for (at, entry) in both.enumerate().skip(from) {
                    if !take(at as u64 + 1, entry) {
                        return Ok(());
                    }
                }
                let children = tree.children(node).iter().enumerate();
                for (at, &child) in children.skip(from.saturating_sub(2)) {
                    let ino = Number::Item(snapshot, tree.file(child)).ino();
                    let name = tree.name(child).to_vec();
                    if !take(at as u64 + 3, Entry { ino, kind: tree.kind(child), name }) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a link points.
    pub(super) async fn target(&self, ino: INodeNo) -> Result<Vec<u8>> {
        if let Number::Upper(node) = Number::of(ino) {
            return match &self.upper.get(node).ok_or(NOT_THERE)?.what {
                UpperWhat::Link(target) => Ok(target.clone().into_bytes()),
                UpperWhat::Folder(_) => Err(Trouble::Errno(Errno::EINVAL)),
            };
        }
        let (tree, node) = self.item(ino).await?;
        if tree.kind(node) != FileType::Symlink {
            return Err(Trouble::Errno(Errno::EINVAL));
        }
        match tree.entry(self.opened(), node, false).await?.what {
            What::Symlink { target } => Ok(target),
            _ => Err(Trouble::Errno(Errno::EINVAL)),
        }
    }

    /// The content of a file, to be read.
    pub(super) async fn content(&self, ino: INodeNo) -> Result<Content> {
        let (tree, node) = self.item(ino).await?;
        match tree.kind(node) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Trouble::Errno(Errno::EISDIR)),
            _ => return Err(Trouble::Errno(Errno::ENXIO)),
        }
        match tree.entry(self.opened(), node, true).await?.what {
            What::File { pieces, .. } => {
                Ok(Content::new(Arc::clone(self.opened()), Arc::new(pieces)))
            }
            _ => Err(Trouble::Errno(Errno::EIO)),
        }
    }

    /// Extended attributes: names and values.
    pub(super) async fn attributes(&self, ino: INodeNo) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (tree, node) = match self.item(ino).await {
            Err(Trouble::Errno(Errno::ENODATA)) => return Ok(Vec::new()),
            item => item?,
        };
        if !tree.has_attributes(node) {
            return Ok(Vec::new());
        }
        let entry = tree.entry(self.opened(), node, false).await?;
        Ok(entry.attributes.into_iter().map(|a| (a.name.0, a.value.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::upper::ROOT;
    use super::*;

    #[test]
    fn numbers_go_both_ways() {
        assert_eq!(Number::Upper(ROOT).ino(), INodeNo::ROOT);
        for number in [
            Number::Upper(7),
            Number::Item(0, tree::TOP),
            Number::Item(3, 5),
            Number::Item(u32::MAX as usize - 1, u32::MAX),
        ] {
            assert_eq!(Number::of(number.ino()), number);
        }
        assert_eq!(Number::of(INodeNo(0)), Number::Upper(u32::MAX), "there is none such");
    }
}
