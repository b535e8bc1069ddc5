//! Writing items: files are filled in windows.
//!
//! A window ends after so many files or chunks. Its chunks are grouped by pack; packs of which much is
//! needed are read whole, of others only the ranges. Every chunk is verified by its name before it is
//! written to its file, which has a temporary name until it is complete. What cannot be read costs the files that
//! need it, and only those: they keep their temporary names, so that the same command fetches the rest when it can.

use super::paths::Paths;
use super::{Reader, RestoreSummary};
use crate::cli::progress::Counters;
use crate::client::index::Index;
use crate::client::packs::{Need, Packs};
use crate::client::{ClientError, Result};
use crate::restore::names::Names;
use crate::restore::tree::{Begun, Body, Gather, OpenFile, TreeWriter};
use crate::source::Node;
use protocol::item::{ChunkRef, Item, Meta};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::task::JoinSet;

/// Files that are open at once.
const WINDOW_FILES: usize = 256;
/// Chunks of a window.
const WINDOW_CHUNKS: usize = 4096;
/// Packs being read at once, 16 MiB each: what fills 1 Gbit/s at 80 ms.
const PACKS_AT_ONCE: usize = 4;

struct Target {
    path: Vec<u8>,
    file: Mutex<Option<Box<OpenFile>>>,
    /// Why it cannot be whole.
    lost: OnceLock<String>,
}

impl Target {
    fn lose(&self, why: &ClientError) {
        // The first reason is told.
        let _ = self.lost.set(why.to_string());
    }
}

/// Where a chunk goes.
struct Place {
    file: Arc<Target>,
    body: Arc<Body>,
    at: u64,
    is_written: AtomicBool,
}

#[derive(Default)]
struct Window {
    files: Vec<Arc<Target>>,
    /// Further names of files, to be made when those are finished.
    links: Vec<(Meta, Vec<u8>)>,
    needs: BTreeMap<u64, Vec<Need<Place>>>,
    chunks: usize,
}

/// A restore under way.
pub(super) struct Filling<'a> {
    reader: &'a Reader,
    tree: TreeWriter,
    progress: &'a Arc<Counters>,
    summary: RestoreSummary,
    fetched: Arc<AtomicU64>,
    names: Names,
    window: Window,
    /// The file whose chunks are being listed, and how far it is.
    open: Option<(Arc<Target>, u64)>,
    /// Whether more of it is to come.
    goes_on: bool,
    kept: Paths,
    /// Files that something was missing for.
    lost: Paths,
    room: Vec<u8>,
}

impl<'a> Filling<'a> {
    pub(super) fn new(reader: &'a Reader, tree: TreeWriter, progress: &'a Arc<Counters>) -> Self {
        let summary = RestoreSummary { resumed: tree.is_resumed(), ..RestoreSummary::default() };
        Self {
            reader,
            tree,
            progress,
            summary,
            fetched: Arc::default(),
            names: Names::default(),
            window: Window::default(),
            open: None,
            goes_on: false,
            kept: Paths::default(),
            lost: Paths::default(),
            room: Vec::new(),
        }
    }

    /// Passes over an item that is not wanted.
    pub(super) fn skip(&mut self) {
        self.open = None;
        self.tree.skip();
        self.names.skip();
    }

    /// Restores an item, or notes what it says of the next one.
    pub(super) async fn take(&mut self, item: Item) -> Result<()> {
        if item.meta().is_some() {
            self.summary.items += 1;
            self.open = None;
        }
        self.goes_on = matches!(
            item,
            Item::File { more: true, .. }
                | Item::Extent { more: true, .. }
                | Item::Hole { more: true, .. }
        );
        match item {
            Item::Header { .. } | Item::End { .. } => {}
            Item::Directory { meta } => self.tree.directory(meta)?,
            Item::Symlink { meta, target } => {
                let made = self.tree.symlink(&meta, &target.0)?;
                self.count_kept(!made, &meta);
            }
            Item::Node { meta, kind, major, minor } => {
                let made = self.tree.node(&meta, Node { kind, major, minor })?;
                self.count_kept(!made, &meta);
            }
            Item::Attribute(attribute) => self.tree.attribute(attribute),
            Item::Shared { group, left } => self.names.shared(group, left),
            Item::File { meta, size, chunks, .. } => {
                self.progress.file();
                if let Some(first) = self.names.link_to(&meta.path.0) {
                    self.tree.skip();
                    self.window.links.push((meta, first));
                } else {
                    self.summary.bytes += size;
                    self.begin(&meta, size)?;
                    self.list(&chunks)?;
                }
            }
            Item::Extent { chunks, .. } => self.list(&chunks)?,
            Item::Hole { len, .. } => {
                if let Some((target, at)) = &mut self.open {
                    if let Some(file) = &mut *lock(target) {
                        file.hole(*at, len)?;
                    }
                    *at += len;
                }
            }
        }
        if self.window.chunks >= WINDOW_CHUNKS
            || self.window.files.len() + self.window.links.len() >= WINDOW_FILES
        {
            // The last file may go on in the next window.
            let unfinished = self.open.as_ref().map(|(file, _)| Arc::clone(file));
            self.settle(unfinished.as_ref()).await?;
            self.window.files.extend(unfinished);
        }
        Ok(())
    }

    /// The list of items cannot be read on: of those behind the last one nothing is known.
    pub(super) fn lose_rest(&mut self, why: &ClientError) {
        if let Some((file, _)) = self.open.as_ref().filter(|_| self.goes_on) {
            file.lose(why);
        }
        let what = "all that comes after what was restored".to_owned();
        self.summary.failed.push((what, format!("the list of items cannot be read on: {why}")));
    }

    /// Writes what is left, and gives what was done and the paths of the items in whose place something else was kept.
    pub(super) async fn finish(mut self) -> Result<(RestoreSummary, Paths)> {
        self.settle(None).await?;
        let report = self.tree.finish(self.summary.failed.is_empty())?;
        self.summary.notes.extend(report.notes);
        self.summary.failed.append(report.failed);
        self.summary.fetched_bytes = self.fetched.load(Ordering::Relaxed);
        Ok((self.summary, self.kept))
    }

    fn count_kept(&mut self, is_kept: bool, meta: &Meta) {
        if is_kept {
            self.summary.kept += 1;
            self.kept.insert(&meta.path.0);
        }
    }

    fn begin(&mut self, meta: &Meta, size: u64) -> Result<()> {
        match self.tree.begin_file(meta, size)? {
            Begun::Write(file) => {
                let path = meta.path.0.clone();
                let file = Mutex::new(Some(file));
                let file = Arc::new(Target { path, file, lost: OnceLock::new() });
                self.window.files.push(Arc::clone(&file));
                self.open = Some((file, 0));
            }
            Begun::Same => {
                self.summary.unchanged += 1;
                self.progress.bytes(size);
            }
            Begun::Kept => {
                // Its other names must not become links to whatever it is.
                self.names.forget_last();
                self.count_kept(true, meta);
                self.progress.bytes(size);
            }
        }
        Ok(())
    }

    /// Further chunks of the open file. Those that are here already are not fetched.
    fn list(&mut self, chunks: &[ChunkRef]) -> Result<()> {
        let Some((target, at)) = &mut self.open else { return Ok(()) };
        let chunker = self.reader.packs.chunker();
        let (body, taken) = tokio::task::block_in_place(|| -> Result<(Arc<Body>, Vec<bool>)> {
            let mut file = lock(target);
            let file = file.as_mut().ok_or_else(too_early)?;
            let (body, mut at) = (Arc::clone(file.body()), *at);
            let mut take = |chunk: &ChunkRef| -> Result<bool> {
                self.room.resize(chunk.len as usize, 0);
                let is_right = |bytes: &[u8]| chunker.check(chunk.id, bytes).is_ok();
                let taken = file.take_over(at, &mut self.room, is_right)?;
                at += u64::from(chunk.len);
                Ok(taken)
            };
            Ok((body, chunks.iter().map(&mut take).collect::<Result<_>>()?))
        })?;
        for (&chunk, is_taken) in chunks.iter().zip(taken) {
            if is_taken {
                self.progress.bytes(u64::from(chunk.len));
            } else {
                match self.reader.index.find(chunk.id)? {
                    Some(location) if location.plain_len == chunk.len => {
                        let (file, body) = (Arc::clone(target), Arc::clone(&body));
                        let is_written = AtomicBool::new(false);
                        let what = Place { file, body, at: *at, is_written };
                        let need = Need { chunk: chunk.id, location, what };
                        self.window.needs.entry(location.pack).or_default().push(need);
                        self.window.chunks += 1;
                    }
                    Some(_) => {
                        let what = format!("chunk {} has another length", chunk.id);
                        target.lose(&ClientError::Content(what));
                    }
                    None => target.lose(&ClientError::NoChunk(chunk.id)),
                }
            }
            *at += u64::from(chunk.len);
        }
        Ok(())
    }

    /// Reads what the window needs, some packs at once, and gives its files their names, but for the one that goes on.
    async fn settle(&mut self, unfinished: Option<&Arc<Target>>) -> Result<()> {
        self.window.chunks = 0;
        let needs = std::mem::take(&mut self.window.needs);
        let Reader { packs, index, .. } = self.reader;
        let mut stripes = Vec::with_capacity(needs.len());
        for &pack in needs.keys() {
            stripes.push(index.pack(pack)?.stripe);
        }
        packs.find_records(&stripes).await?;
        let mut tasks = JoinSet::new();
        for (pack, needs) in needs {
            if tasks.len() >= PACKS_AT_ONCE
                && let Some(done) = tasks.join_next().await
            {
                done.map_err(|e| ClientError::Content(e.to_string()))??;
            }
            let (packs, index) = (Arc::clone(packs), Arc::clone(index));
            let (progress, fetched) = (Arc::clone(self.progress), Arc::clone(&self.fetched));
            let fill =
                async move { fill_pack(&packs, &index, pack, needs, &progress, &fetched).await };
            tasks.spawn(fill);
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| ClientError::Content(e.to_string()))??;
        }
        for target in std::mem::take(&mut self.window.files) {
            if unfinished.is_some_and(|file| Arc::ptr_eq(file, &target)) {
                continue;
            }
            let file = lock(&target).take();
            if let Some(why) = target.lost.get() {
                let path = String::from_utf8_lossy(&target.path).into_owned();
                self.summary.failed.push((path, why.clone()));
                self.lost.insert(&target.path);
            } else if let Some(file) = file
                && !self.tree.finish_file(*file)?
            {
                self.summary.unchanged += 1;
            }
        }
        for (meta, first) in std::mem::take(&mut self.window.links) {
            if self.lost.contains(&first) {
                let path = String::from_utf8_lossy(&meta.path.0).into_owned();
                let first = String::from_utf8_lossy(&first);
                self.summary.failed.push((path, format!("a further name of {first}")));
                continue;
            }
            let made = self.tree.link(&meta, &first)?;
            self.count_kept(!made, &meta);
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
    fetched: &AtomicU64,
) -> Result<()> {
    let mut gather = Gather::default();
    let take = |need: &Need<Place>, plain: &[u8]| {
        gather.write_at(&need.what.body, need.what.at, plain)?;
        need.what.is_written.store(true, Ordering::Relaxed);
        progress.bytes(plain.len() as u64);
        fetched.fetch_add(plain.len() as u64, Ordering::Relaxed);
        Ok(())
    };
    let read = packs.read_chunks(index, pack, &needs, take).await;
    tokio::task::block_in_place(|| gather.flush())?;
    match read {
        Err(error) if is_of_content(&error) => {
            let missing = needs.iter().filter(|need| !need.what.is_written.load(Ordering::Relaxed));
            missing.for_each(|need| need.what.file.lose(&error));
            Ok(())
        }
        result => result,
    }
}

/// Whether what was to be read is not there or altered, rather than that nothing can be written here.
pub(super) fn is_of_content(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Destroyed { .. }
            | ClientError::NoRecord(_)
            | ClientError::NoChunk(_)
            | ClientError::Content(_)
            | ClientError::Node { .. }
            | ClientError::Refused { .. }
    )
}

fn lock(target: &Target) -> std::sync::MutexGuard<'_, Option<Box<OpenFile>>> {
    target.file.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_early() -> ClientError {
    ClientError::Content("a file was finished too early".into())
}
