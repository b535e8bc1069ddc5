//! Restoring: the item stream in order, files in windows, each pack of a window read once.
//!
//! A window ends after so many files, chunks or bytes. Its chunks are grouped by pack; packs of which much is
//! needed are read whole, of others only the ranges. Every chunk is verified by its name before it is
//! written to its file, which has a temporary name until it is complete.

use super::backup::SnapshotInfo;
use super::index::Index;
use super::ledger::{Ledger, Logged};
use super::mesh::{Caller, Mesh};
use super::packs::{Need, Packs};
use super::recipients::Identities;
use super::vault::Vault;
use super::{ClientError, Result};
use crate::cli::progress::Counters;
use crate::home::Home;
use crate::restore::git::{GitRestored, assemble};
use crate::restore::names::Names;
use crate::restore::tree::{OpenFile, TreeOptions, TreeWriter};
use crate::source::Node;
use protocol::item::{ChunkRef, Item, ItemReader, Meta, Root, SourceKind, decode_refs};
use protocol::log::{Body, SnapshotPart};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// Files that are open at once.
const WINDOW_FILES: usize = 256;
/// Chunks of a window.
const WINDOW_CHUNKS: usize = 4096;
/// Packs being read at once, 16 MiB each: what fills 1 Gbit/s at 80 ms.
const PACKS_AT_ONCE: usize = 4;
/// Chunks of the item stream read ahead.
const AHEAD: usize = 4;

/// What a restore is asked to do.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Only what lies at or below these paths.
    pub paths: Vec<Vec<u8>>,
    /// Write into a folder that is not empty.
    pub overwrite: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RestoreSummary {
    /// Items written.
    pub items: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// For a Git repository: its refs.
    pub refs: Option<u64>,
    /// What people should know.
    pub notes: Vec<String>,
    /// What could not be done, and why.
    pub failed: Vec<(String, String)>,
}

/// A vault, open for reading.
#[derive(Debug)]
pub struct Reader {
    /// The vault.
    pub vault: Vault,
    /// The mesh.
    pub mesh: Arc<Mesh>,
    /// Its logs.
    pub ledger: Ledger,
    index: Arc<Index>,
    packs: Arc<Packs>,
}

/// What a snapshot says of itself, as far as this device can open it.
pub fn info_of(vault: &Vault, logged: &Logged) -> Option<SnapshotInfo> {
    let plain = SnapshotPart::Summary.open(&vault.secret.catalog_key(), &logged.entry).ok()?;
    protocol::codec::decode(&plain, 64 << 10).ok()
}

struct Target {
    file: Mutex<Option<OpenFile>>,
}

/// Where a chunk goes.
struct Place {
    file: Arc<Target>,
    at: u64,
}

#[derive(Default)]
struct Window {
    files: Vec<Arc<Target>>,
    /// Further names of files, to be made when those are finished.
    links: Vec<(Meta, Vec<u8>)>,
    needs: BTreeMap<u64, Vec<Need<Place>>>,
    chunks: usize,
}

impl Reader {
    /// Connects and learns what is there. With identities, snapshots can be read.
    pub async fn open(home: &Home, vault: Vault, identities: Option<&Identities>) -> Result<Self> {
        let mesh = Arc::new(Mesh::connect_to_read(home, Caller::device(&vault)).await?);
        let ledger = Ledger::read(&mesh, &vault).await?;
        let mut packs = Packs::new(Arc::clone(&mesh), &vault);
        let index = Index::open(&vault.caches())?;
        if let Some(identities) = identities {
            packs.open_sessions(&ledger, identities)?;
            packs.sync_index(&ledger, &index).await?;
        }
        Ok(Self { vault, mesh, ledger, index: Arc::new(index), packs: Arc::new(packs) })
    }

    /// Restores a snapshot into `target`.
    pub async fn restore(
        &self,
        snapshot: &Logged,
        target: &Path,
        options: &RestoreOptions,
        progress: &Arc<Counters>,
    ) -> Result<RestoreSummary> {
        let info = info_of(&self.vault, snapshot).ok_or_else(|| {
            ClientError::Content("the snapshot's summary cannot be opened".into())
        })?;
        progress.expect(info.items, info.bytes);
        match info.kind {
            SourceKind::Directory | SourceKind::Stream => {
                self.restore_tree(snapshot, target, options, progress).await
            }
            SourceKind::Git => {
                if !options.paths.is_empty() {
                    return Err(ClientError::NoSnapshot(
                        "of which single paths can be restored: it is a Git repository; restore all of it".into(),
                    ));
                }
                let parent = match target.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                std::fs::create_dir_all(parent)?;
                let staging =
                    tempfile::Builder::new().prefix(".strewn-partial-").tempdir_in(parent)?;
                let items = staging.path().join("items");
                let mut summary = self
                    .restore_tree(snapshot, &items, &RestoreOptions::default(), progress)
                    .await?;
                let restored: GitRestored =
                    tokio::task::block_in_place(|| assemble(&items, target))?;
                summary.refs = Some(restored.refs);
                summary.notes.extend(restored.notes);
                Ok(summary)
            }
        }
    }

    fn root_of(&self, snapshot: &Logged) -> Result<Root> {
        let Body::Snapshot { session, .. } = &snapshot.entry.body else {
            return Err(ClientError::NoSnapshot(snapshot.id.to_string()));
        };
        let content = |e: &dyn std::fmt::Display| ClientError::Content(e.to_string());
        let key = self.packs.session(*session)?.root_key();
        let plain = SnapshotPart::Root.open(&key, &snapshot.entry).map_err(|e| content(&e))?;
        Root::decode(&plain).map_err(|e| content(&e))
    }

    /// The chunks of the item stream.
    async fn stream_refs(&self, root: Root) -> Result<Vec<ChunkRef>> {
        let mut refs = root.chunks;
        for _ in 0..root.depth {
            let mut list = Vec::new();
            for chunk in refs {
                list.extend(self.packs.read_chunk(&self.index, chunk).await?);
            }
            refs = decode_refs(&list).map_err(|e| ClientError::Content(e.to_string()))?;
        }
        Ok(refs)
    }

    async fn restore_tree(
        &self,
        snapshot: &Logged,
        target: &Path,
        options: &RestoreOptions,
        progress: &Arc<Counters>,
    ) -> Result<RestoreSummary> {
        let content = |e: &dyn std::fmt::Display| ClientError::Content(e.to_string());
        let mut refs: VecDeque<ChunkRef> = self.stream_refs(self.root_of(snapshot)?).await?.into();
        let mut tree = TreeWriter::new(target, TreeOptions { overwrite: options.overwrite })?;
        let mut summary = RestoreSummary::default();
        let mut reader = ItemReader::default();
        let mut window = Window::default();
        let mut names = Names::default();
        let mut open: Option<(Arc<Target>, u64)> = None;
        let mut ahead: VecDeque<tokio::task::JoinHandle<Result<Vec<u8>>>> = VecDeque::new();
        loop {
            let Some(item) = reader.next_item().map_err(|e| content(&e))? else {
                while ahead.len() < AHEAD
                    && let Some(chunk) = refs.pop_front()
                {
                    let (packs, index) = (Arc::clone(&self.packs), Arc::clone(&self.index));
                    ahead.push_back(tokio::spawn(
                        async move { packs.read_chunk(&index, chunk).await },
                    ));
                }
                let Some(next) = ahead.pop_front() else { break };
                let bytes = next.await.map_err(|e| content(&e))??;
                reader.push(&bytes);
                continue;
            };
            if item.meta().is_some_and(|meta| !is_wanted(meta, &options.paths)) {
                open = None;
                tree.skip();
                names.skip();
                continue;
            }
            match item {
                Item::Header { .. } | Item::End { .. } => {}
                Item::Directory { meta } => {
                    tree.directory(meta)?;
                    summary.items += 1;
                }
                Item::Symlink { meta, target } => {
                    tree.symlink(&meta, &target.0)?;
                    summary.items += 1;
                }
                Item::Node { meta, kind, major, minor } => {
                    tree.node(&meta, Node { kind, major, minor })?;
                    summary.items += 1;
                }
                Item::Attribute(attribute) => tree.attribute(attribute),
                Item::Shared { group, left } => names.shared(group, left),
                Item::Hole { len, .. } => {
                    if let Some((_, at)) = &mut open {
                        *at += len;
                    }
                }
                Item::File { meta, size, chunks, .. } => {
                    summary.items += 1;
                    progress.file();
                    if let Some(first) = names.link_to(&meta.path.0) {
                        tree.skip();
                        window.links.push((meta, first));
                        open = None;
                    } else {
                        let file = tree.begin_file(&meta, size)?;
                        let file = Arc::new(Target { file: Mutex::new(Some(file)) });
                        window.files.push(Arc::clone(&file));
                        let at = self.add(&mut window, &file, 0, &chunks)?;
                        open = Some((file, at));
                        summary.bytes += size;
                    }
                }
                Item::Extent { chunks, .. } => {
                    if let Some((file, at)) = &mut open {
                        *at = self.add(&mut window, file, *at, &chunks)?;
                        if window.chunks >= WINDOW_CHUNKS {
                            // The file goes on in the next window.
                            let file = Arc::clone(file);
                            self.fill(&mut window, progress).await?;
                            finish(&mut tree, &mut window, Some(&file))?;
                            window.files.push(file);
                        }
                    }
                }
            }
            if window.chunks >= WINDOW_CHUNKS
                || window.files.len() + window.links.len() >= WINDOW_FILES
            {
                self.fill(&mut window, progress).await?;
                let unfinished = open.as_ref().map(|(file, _)| Arc::clone(file));
                finish(&mut tree, &mut window, unfinished.as_ref())?;
                window.files.extend(unfinished);
            }
        }
        reader.finish().map_err(|e| content(&e))?;
        self.fill(&mut window, progress).await?;
        finish(&mut tree, &mut window, None)?;
        let report = tree.finish()?;
        summary.notes.extend(report.notes);
        summary.failed.extend(report.failed);
        Ok(summary)
    }

    fn add(
        &self,
        window: &mut Window,
        file: &Arc<Target>,
        mut at: u64,
        chunks: &[ChunkRef],
    ) -> Result<u64> {
        for &chunk in chunks {
            let location = self.index.find(chunk.id)?.ok_or(ClientError::NoChunk(chunk.id))?;
            if location.plain_len != chunk.len {
                return Err(ClientError::Content(format!("chunk {} has another length", chunk.id)));
            }
            let what = Place { file: Arc::clone(file), at };
            let need = Need { chunk: chunk.id, location, what };
            window.needs.entry(location.pack).or_default().push(need);
            window.chunks += 1;
            at += u64::from(chunk.len);
        }
        Ok(at)
    }

    /// Reads what the window needs, some packs at once.
    async fn fill(&self, window: &mut Window, progress: &Arc<Counters>) -> Result<()> {
        window.chunks = 0;
        let needs = std::mem::take(&mut window.needs);
        let mut stripes = Vec::with_capacity(needs.len());
        for &pack in needs.keys() {
            stripes.push(self.index.pack(pack)?.stripe);
        }
        self.packs.find_records(&stripes).await?;
        let mut tasks = JoinSet::new();
        for (pack, needs) in needs {
            if tasks.len() >= PACKS_AT_ONCE
                && let Some(done) = tasks.join_next().await
            {
                done.map_err(|e| ClientError::Content(e.to_string()))??;
            }
            let (packs, index, progress) =
                (Arc::clone(&self.packs), Arc::clone(&self.index), Arc::clone(progress));
            tasks.spawn(async move { fill_pack(&packs, &index, pack, needs, &progress).await });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| ClientError::Content(e.to_string()))??;
        }
        Ok(())
    }
}

async fn fill_pack(
    packs: &Packs,
    index: &Index,
    pack: u64,
    needs: Vec<Need<Place>>,
    progress: &Counters,
) -> Result<()> {
    let take = |need: &Need<Place>, plain: &[u8]| {
        write(&need.what, plain)?;
        progress.bytes(plain.len() as u64);
        Ok(())
    };
    packs.read_chunks(index, pack, &needs, take).await
}

fn write(place: &Place, plain: &[u8]) -> Result<()> {
    let file = place.file.file.lock().unwrap_or_else(PoisonError::into_inner);
    match &*file {
        Some(file) => Ok(file.write_at(place.at, plain)?),
        None => Err(ClientError::Content("a file was finished too early".into())),
    }
}

/// Gives the window's files their names, but for the one that goes on.
fn finish(
    tree: &mut TreeWriter,
    window: &mut Window,
    unfinished: Option<&Arc<Target>>,
) -> Result<()> {
    for target in std::mem::take(&mut window.files) {
        if unfinished.is_some_and(|file| Arc::ptr_eq(file, &target)) {
            continue;
        }
        let file = target.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(file) = file {
            tree.finish_file(file)?;
        }
    }
    for (meta, first) in std::mem::take(&mut window.links) {
        tree.link(&meta, &first)?;
    }
    Ok(())
}

/// Whether an item lies at or below one of the paths, or is a folder above one.
fn is_wanted(meta: &Meta, paths: &[Vec<u8>]) -> bool {
    let path = &meta.path.0;
    let below = |outer: &[u8], inner: &[u8]| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    paths.is_empty() || paths.iter().any(|wanted| below(wanted, path))
}
