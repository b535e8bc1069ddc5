//! Backing up: all stages at once, bounded queues between them.
//!
//! ```text
//! source thread: read, cut, name, known?  ─►  compress (workers)  ─►  pack (one thread)  ─►  seal, code, hash (workers)  ─►  put (tasks)
//! ```
//! Memory is bounded by the queues: chunks waiting, one pack filling, a few packs sealed and on their
//! way. A stripe counts when every holder's receipt is here and the predicate holds for those holders; the
//! snapshot is announced after its last stripe, and listed only when its log entry is held widely enough.

mod place;
mod sink;

use super::buffers::Buffers;
use super::index::Index;
use super::ledger::Ledger;
use super::mesh::{Caller, Mesh};
use super::packs::Packs;
use super::vault::Vault;
use super::{ClientError, Result, recipients};
use crate::cli::progress::Counters;
use crate::home::{Home, random};
use crate::source::{Estimate, detect};
use place::{Placer, Sealed};
use protocol::chunk::{CHUNK_MAX, Chunker, Compressor};
use protocol::codec::Blob;
use protocol::erasure::Codec;
use protocol::id::{ChunkId, EntryId, SessionId, ShardId};
use protocol::index::{IndexBlock, IndexedPack};
use protocol::item::SourceKind;
use protocol::log::Body;
use protocol::message::{Request, Response};
use protocol::pack::{PACK_LEN_MAX, PackBuilder, PackKind, UnsealedPack};
use protocol::seal::SessionKey;
use serde::{Deserialize, Serialize};
use sink::{ChunkSink, Finished};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Packs that are sealed and not yet with all their holders: 24 MiB each at 6 of 9.
const PACKS_INFLIGHT: usize = 3;
/// Chunks that wait for a compressor, and as many for a pack: 1 MiB each at most.
const CHUNKS_WAITING: usize = 8;

/// What a backup is asked to do.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// Words to find the snapshot by.
    pub tags: Vec<String>,
    /// Read every file again, whatever the last snapshot says.
    pub force: bool,
    /// Go on when the policy cannot be met.
    pub allow_degraded: bool,
    /// Take a Git repository as plain files.
    pub as_directory: bool,
}

/// What a snapshot says of itself to the vault's devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// The source's path.
    pub source: String,
    /// What kind it is.
    pub kind: SourceKind,
    /// The host.
    pub host: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Items in it.
    pub items: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// What could not be read.
    pub failed: u64,
    /// Whether it was written although the policy could not be met.
    pub degraded: bool,
}

/// Context of sealed summaries.
pub const SUMMARY_CONTEXT: &str = "strewn summary v1";
/// Context of sealed roots.
pub const ROOT_CONTEXT: &str = "strewn root v1";

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct BackupSummary {
    /// The snapshot.
    pub snapshot: EntryId,
    /// Its source.
    pub source: String,
    /// Items in it.
    pub items: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of chunks that were new.
    pub new_bytes: u64,
    /// Bytes that holders took.
    pub stored_bytes: u64,
    /// Stripes written.
    pub stripes: u64,
    /// The code used.
    pub k: usize,
    /// The code used.
    pub n: usize,
    /// Nodes that have the log entry.
    pub log_holders: usize,
    /// Whether the policy could not be met.
    pub degraded: bool,
    /// What could not be read, and why.
    pub failed: Vec<(String, String)>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// A chunk on its way to a compressor.
struct ChunkJob {
    id: ChunkId,
    plain: Vec<u8>,
}

/// An encoded chunk on its way into a pack.
struct Encoded {
    id: ChunkId,
    plain_len: u32,
    bytes: Vec<u8>,
}

/// Says what went wrong first, to everybody.
#[derive(Debug, Default)]
struct Failure {
    failed: AtomicBool,
    error: Mutex<Option<ClientError>>,
}

impl Failure {
    fn set(&self, error: ClientError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn take(&self) -> Option<ClientError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An open vault, ready to be written.
#[derive(Debug)]
pub struct Writer {
    vault: Arc<Vault>,
    mesh: Arc<Mesh>,
    ledger: Ledger,
    index: Arc<Index>,
    placer: Arc<Placer>,
    buffers: Arc<Buffers>,
}

impl Writer {
    /// Connects, introduces the vault to all nodes, and learns what is there already.
    pub async fn open(home: &Home, vault: Vault, allow_degraded: bool) -> Result<Self> {
        let mut vault = vault;
        let mesh = Mesh::connect(home, Caller::device(&vault)).await?;
        vault.extend_roster(&mesh.certificates())?;
        for (node, answer) in mesh.ask_all(&Request::Introduce(vault.papers.clone())).await {
            if let Err(error) = answer {
                tracing::warn!(%error, node = node.id.short(), "a node does not take the vault");
            }
        }
        let (vault, mesh) = (Arc::new(vault), Arc::new(mesh));
        let ledger = Ledger::read(&mesh, &vault).await?;
        let index = Index::open(&vault.cache("index.redb"))?;
        Packs::new(Arc::clone(&mesh), &vault).sync_index(&ledger, &index).await?;
        let mut rooms = Vec::new();
        for (node, answer) in mesh.ask_all(&Request::Status).await {
            if let Ok(Response::Status(status)) = answer {
                rooms.push((node.site.clone(), status.room));
            }
        }
        let buffers = Arc::new(Buffers::default());
        let placer = Placer::new(
            Arc::clone(&vault),
            Arc::clone(&mesh),
            rooms,
            Arc::clone(&buffers),
            allow_degraded,
        )?;
        let (index, placer) = (Arc::new(index), Arc::new(placer));
        Ok(Self { vault, mesh, ledger, index, placer, buffers })
    }

    /// Backs up one source as one snapshot.
    pub async fn backup(
        &mut self,
        path: &Path,
        options: &BackupOptions,
        progress: &Arc<Counters>,
    ) -> Result<BackupSummary> {
        let before = progress.status(std::time::Duration::ZERO);
        let mut source = detect(path, options.as_directory)?;
        let (name, kind) = (source.name(), source.kind());
        let estimate = Estimate::start(path, kind);
        let (session, key) = (SessionId(random()?), SessionKey(random()?));
        let sealed_key = Blob(recipients::seal(&self.vault.recipients, &key.0)?);
        let body = Body::Session { session, sealed_key };
        self.ledger.append(&self.mesh, &self.vault, body, options.allow_degraded).await?;

        let previous_name = format!("previous/{}", blake3::hash(name.as_bytes()).to_hex());
        let run = Run {
            vault: Arc::clone(&self.vault),
            index: Arc::clone(&self.index),
            placer: Arc::clone(&self.placer),
            progress: Arc::clone(progress),
            session,
            key: key.clone(),
            previous: self.vault.cache(&previous_name),
            buffers: Arc::clone(&self.buffers),
            force: options.force,
        };
        let runtime = Handle::current();
        let watched = Arc::clone(progress);
        let watching = tokio::spawn(async move {
            let (mut files, mut bytes) = (0, 0);
            loop {
                let (now_files, now_bytes) = (estimate.files(), estimate.bytes());
                watched.expect(now_files - files, now_bytes - bytes);
                (files, bytes) = (now_files, now_bytes);
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        });
        let done = tokio::task::spawn_blocking(move || run.run(&mut *source, &runtime)).await;
        watching.abort();
        let (finished, packs) =
            done.map_err(|e| ClientError::Content(format!("a stage failed: {e}")))??;

        let blocks = blocks_of(packs);
        let mut stripes = Vec::new();
        for block in &blocks {
            stripes.push(self.write_index(session, block).await?);
        }
        let stripes_written =
            (blocks.iter().map(|block| block.packs.len()).sum::<usize>() + stripes.len()) as u64;
        if !stripes.is_empty() {
            let body = Body::Index { session, stripes };
            let logged =
                self.ledger.append(&self.mesh, &self.vault, body, options.allow_degraded).await?;
            self.index.merge(logged.entry.device, logged.entry.seq, &blocks)?;
        }

        let degraded = self.placer.is_degraded();
        let info = SnapshotInfo {
            source: name.clone(),
            kind,
            host: host(),
            tags: options.tags.clone(),
            items: finished.items,
            bytes: finished.bytes,
            failed: finished.report.failed.len() as u64,
            degraded,
        };
        let nonce = || -> Result<[u8; 24]> {
            let random = random()?;
            Ok(std::array::from_fn(|i| random[i]))
        };
        let summary = self.vault.secret.catalog_key().seal_blob(
            SUMMARY_CONTEXT,
            nonce()?,
            &protocol::codec::encode(&info),
        );
        let root = key.root_key().seal_blob(ROOT_CONTEXT, nonce()?, &finished.root.encode());
        let body = Body::Snapshot { session, summary: Blob(summary), root: Blob(root) };
        let logged =
            self.ledger.append(&self.mesh, &self.vault, body, options.allow_degraded).await?;
        // Only now is what was seen of the source worth comparing with.
        finished.keep(&self.vault.cache(&previous_name))?;
        let plan = self.placer.plan();
        let counted = progress.status(std::time::Duration::ZERO);
        Ok(BackupSummary {
            snapshot: logged.id,
            source: name,
            items: finished.items,
            bytes: finished.bytes,
            new_bytes: counted.new_bytes - before.new_bytes,
            stored_bytes: counted.sent_bytes - before.sent_bytes,
            stripes: stripes_written,
            k: plan.k,
            n: plan.n,
            log_holders: logged.holders.len(),
            degraded,
            failed: finished.report.failed,
            notes: finished.report.notes,
        })
    }

    async fn write_index(
        &self,
        session: SessionId,
        block: &IndexBlock,
    ) -> Result<protocol::id::StripeId> {
        let key = self.vault.secret.index_key();
        let chunker = Chunker::new(&self.vault.secret);
        let mut builder =
            PackBuilder::new(PackKind::Index, session, &key, random()?, PACK_LEN_MAX, Vec::new());
        let (mut compressor, mut encoded) = (Compressor::default(), Vec::new());
        for piece in block.encode().chunks(CHUNK_MAX) {
            compressor.encode(piece, &mut encoded);
            builder.append(chunker.id(piece), piece.len() as u32, &encoded);
        }
        let plan = self.placer.plan();
        let sealed = tokio::task::block_in_place(|| {
            seal(builder.finish(plan.k), plan.k, plan.n, session, &self.buffers)
        })?;
        Ok(self.placer.place(sealed).await?.stripe)
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn blocks_of(packs: Vec<IndexedPack>) -> Vec<IndexBlock> {
    let mut blocks: Vec<IndexBlock> = Vec::new();
    for pack in packs {
        match blocks.last_mut() {
            Some(block) if block.fits(pack.chunks.len()) => block.packs.push(pack),
            _ => blocks.push(IndexBlock { packs: vec![pack] }),
        }
    }
    blocks
}

/// Seals a pack, computes its parity, and names its shards: the work of a core for some ten milliseconds.
fn seal(
    pack: UnsealedPack,
    k: usize,
    n: usize,
    session: SessionId,
    buffers: &Buffers,
) -> Result<Sealed> {
    let content = |e: protocol::erasure::ErasureError| ClientError::Content(e.to_string());
    let sealed = pack.seal();
    let len = sealed.bytes.len() / k;
    let mut parity = buffers.take_filled(len * (n - k));
    Codec::new(k, n).map_err(content)?.encode(&sealed.bytes, &mut parity).map_err(content)?;
    let shards = sealed.bytes.chunks_exact(len).chain(parity.chunks_exact(len));
    let shards = shards.map(|shard| ShardId(*blake3::hash(shard).as_bytes())).collect();
    Ok(Sealed {
        session,
        nonce: sealed.nonce,
        entries: sealed.entries,
        data: sealed.bytes,
        parity,
        shards,
        k,
        n,
    })
}

/// One source on its way through the stages.
struct Run {
    vault: Arc<Vault>,
    index: Arc<Index>,
    placer: Arc<Placer>,
    progress: Arc<Counters>,
    session: SessionId,
    key: SessionKey,
    previous: PathBuf,
    buffers: Arc<Buffers>,
    force: bool,
}

impl Run {
    fn run(
        self,
        source: &mut dyn crate::source::Source,
        runtime: &Handle,
    ) -> Result<(Finished, Vec<IndexedPack>)> {
        let failure = Arc::new(Failure::default());
        let cores = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        let (chunks, waiting) = sync_channel::<ChunkJob>(CHUNKS_WAITING);
        let waiting = Mutex::new(waiting);
        let (encoded, packing) = sync_channel::<Encoded>(CHUNKS_WAITING);
        let (filled, sealing) = sync_channel::<UnsealedPack>(0);
        let sealing = Mutex::new(sealing);
        let (placed, results) = std::sync::mpsc::channel();
        let inflight = Arc::new(Semaphore::new(PACKS_INFLIGHT));
        let plan = self.placer.plan();

        let finished = std::thread::scope(|scope| {
            for _ in 0..cores {
                let (waiting, encoded) = (&waiting, encoded.clone());
                scope.spawn(move || compress(waiting, &encoded));
            }
            drop(encoded);
            let (failed, run) = (&*failure, &self);
            scope.spawn(move || {
                if let Err(error) = run.pack(&packing, &filled, plan.k) {
                    failed.set(error);
                }
            });
            for _ in 0..cores.min(2) {
                let (sealing, placed) = (&sealing, placed.clone());
                let (failure, inflight) = (Arc::clone(&failure), Arc::clone(&inflight));
                let (placer, progress) = (Arc::clone(&self.placer), Arc::clone(&self.progress));
                let (session, buffers) = (self.session, Arc::clone(&self.buffers));
                scope.spawn(move || {
                    while let Some(pack) = next(sealing) {
                        if failure.is_set() {
                            continue;
                        }
                        let Ok(permit) = runtime.block_on(Arc::clone(&inflight).acquire_owned())
                        else {
                            return;
                        };
                        let sealed = match seal(pack, plan.k, plan.n, session, &buffers) {
                            Ok(sealed) => sealed,
                            Err(error) => {
                                failure.set(error);
                                continue;
                            }
                        };
                        let (placer, progress) = (Arc::clone(&placer), Arc::clone(&progress));
                        let (failure, placed) = (Arc::clone(&failure), placed.clone());
                        runtime.spawn(async move {
                            let bytes = (sealed.data.len() + sealed.parity.len()) as u64;
                            match placer.place(sealed).await {
                                Ok(pack) => {
                                    progress.sent_bytes(bytes);
                                    // The collector outlives the tasks.
                                    let _ = placed.send(pack);
                                }
                                Err(error) => failure.set(error),
                            }
                            drop(permit);
                        });
                    }
                });
            }
            drop(placed);
            let sink = ChunkSink::new(
                &self.vault,
                &self.index,
                &self.progress,
                chunks,
                &failure,
                &self.previous,
            )?;
            sink.run(source, if self.force { None } else { Some(&self.previous) })
        });
        // The channel ends when the last pack's task has ended.
        let packs: Vec<IndexedPack> = results.iter().collect();
        if let Some(error) = failure.take() {
            return Err(error);
        }
        Ok((finished?, packs))
    }

    fn pack(
        &self,
        packing: &Receiver<Encoded>,
        filled: &SyncSender<UnsealedPack>,
        k: usize,
    ) -> Result<()> {
        let begin = || -> Result<PackBuilder> {
            let buffer = self.buffers.take(PACK_LEN_MAX + k * 64);
            Ok(PackBuilder::new(
                PackKind::Content,
                self.session,
                &self.key,
                random()?,
                PACK_LEN_MAX,
                buffer,
            ))
        };
        let mut builder = begin()?;
        for chunk in packing {
            if !builder.fits(chunk.bytes.len()) {
                let full = std::mem::replace(&mut builder, begin()?);
                if filled.send(full.finish(k)).is_err() {
                    return Ok(());
                }
            }
            builder.append(chunk.id, chunk.plain_len, &chunk.bytes);
        }
        if !builder.is_empty() {
            // When nobody seals any more, the reason is on record.
            let _ = filled.send(builder.finish(k));
        }
        Ok(())
    }
}

fn next<T>(queue: &Mutex<Receiver<T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn compress(waiting: &Mutex<Receiver<ChunkJob>>, encoded: &SyncSender<Encoded>) {
    let mut compressor = Compressor::default();
    while let Some(ChunkJob { id, plain }) = next(waiting) {
        let mut bytes = Vec::new();
        compressor.encode(&plain, &mut bytes);
        let chunk = Encoded { id, plain_len: plain.len() as u32, bytes };
        if encoded.send(chunk).is_err() {
            return;
        }
    }
}
