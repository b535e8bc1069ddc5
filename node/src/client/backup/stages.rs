//! The stages between the source and the holders, and what flows between them.

use super::Session;
use super::known::Known;
use super::place::{Placed, Placer, Sealed};
use super::sink::{ChunkSink, Finished};
use crate::cli::progress::Counters;
use crate::client::buffers::Buffers;
use crate::client::vault::Vault;
use crate::client::{ClientError, Result};
use crate::home::random;
use crate::source::Source;
use protocol::chunk::Compressor;
use protocol::erasure::Codec;
use protocol::id::{ChunkId, SessionId, ShardId};
use protocol::pack::{PACK_LEN_MAX, PackBuilder, PackKind, UnsealedPack};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

/// Packs that are sealed and not yet with all their holders: 24 MiB each at 6 of 9.
pub(super) const PACKS_INFLIGHT: usize = 3;
/// Chunks that wait for a compressor, and as many for a pack: 1 MiB each at most.
const CHUNKS_WAITING: usize = 8;

/// A chunk on its way to a compressor, encoded as it is: most stay so where compressing is not worth it.
pub(super) struct ChunkJob {
    pub(super) id: ChunkId,
    pub(super) stored: Vec<u8>,
}

/// An encoded chunk on its way into a pack.
struct Encoded {
    id: ChunkId,
    plain_len: u32,
    bytes: Vec<u8>,
}

/// Says what went wrong first, to everybody.
#[derive(Debug, Default)]
pub(super) struct Failure {
    failed: AtomicBool,
    error: Mutex<Option<ClientError>>,
}

impl Failure {
    pub(super) fn set(&self, error: ClientError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Option<ClientError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A stage ended before its work did: whatever it had in hand is lost, and so is the backup.
pub(super) fn stage_failed(error: tokio::task::JoinError) -> ClientError {
    ClientError::Content(format!("a stage failed: {error}"))
}

/// Seals a pack, computes its parity, and names its shards: the work of a core for some ten milliseconds.
pub(super) fn seal(
    pack: UnsealedPack,
    k: usize,
    n: usize,
    session: SessionId,
    buffers: &Buffers,
) -> Result<Sealed> {
    let sealed = pack.seal();
    let len = sealed.bytes.len() / k;
    let mut parity = buffers.take_filled(len * (n - k));
    Codec::new(k, n)
        .map_err(ClientError::content)?
        .encode(&sealed.bytes, &mut parity)
        .map_err(ClientError::content)?;
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
pub(super) struct Run {
    pub(super) vault: Arc<Vault>,
    pub(super) known: Arc<Known>,
    pub(super) placer: Arc<Placer>,
    pub(super) progress: Arc<Counters>,
    pub(super) session: Session,
    pub(super) previous: PathBuf,
    pub(super) buffers: Arc<Buffers>,
    /// Memory for single chunks, which is used again.
    pub(super) rooms: Arc<Buffers>,
    pub(super) force: bool,
    pub(super) failure: Arc<Failure>,
}

impl Run {
    /// Runs the source to its end.
    pub(super) fn run(
        self,
        source: &mut dyn Source,
        runtime: &Handle,
        placed: &Sender<Placed>,
    ) -> Result<Finished> {
        let previous = self.previous.clone();
        self.feed(runtime, placed, |run, chunks| {
            let (vault, known, progress) = (&run.vault, &run.known, &run.progress);
            let (rooms, failure) = (&run.rooms, &run.failure);
            let sink = ChunkSink::new(vault, known, progress, chunks, rooms, failure, &previous)?;
            sink.run(source, if run.force { None } else { Some(&previous) })
        })
    }

    /// Compresses, packs, seals and places the chunks that `feed` sends. Packs go to `placed` when all their holders have
    /// them; some may still be on their way when this returns.
    pub(super) fn feed<T>(
        self,
        runtime: &Handle,
        placed: &Sender<Placed>,
        feed: impl FnOnce(&Self, SyncSender<ChunkJob>) -> Result<T>,
    ) -> Result<T> {
        let failure = Arc::clone(&self.failure);
        let cores = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        let (chunks, waiting) = sync_channel::<ChunkJob>(CHUNKS_WAITING);
        let waiting = Mutex::new(waiting);
        let (encoded, packing) = sync_channel::<Encoded>(CHUNKS_WAITING);
        let (filled, sealing) = sync_channel::<UnsealedPack>(0);
        let sealing = Mutex::new(sealing);
        let inflight = Arc::new(Semaphore::new(PACKS_INFLIGHT));
        let plan = self.placer.plan();

        std::thread::scope(|scope| {
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
                let sealing = &sealing;
                let placed = placed.clone();
                let (failure, inflight) = (Arc::clone(&failure), Arc::clone(&inflight));
                let (placer, progress) = (Arc::clone(&self.placer), Arc::clone(&self.progress));
                let (session, buffers) = (self.session.id, Arc::clone(&self.buffers));
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
                            let placing = tokio::spawn(async move { placer.place(sealed).await });
                            match placing.await.map_err(stage_failed) {
                                Ok(Ok(pack)) => {
                                    progress.sent_bytes(bytes);
                                    // Whoever lists packs ends early only on failure.
                                    let _ = placed.send(pack).await;
                                }
                                Ok(Err(error)) | Err(error) => failure.set(error),
                            }
                            drop(permit);
                        });
                    }
                });
            }
            feed(&self, chunks)
        })
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
                self.session.id,
                &self.session.key,
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
            self.rooms.give(chunk.bytes);
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
    let (mut compressor, mut room) = (Compressor::default(), Vec::new());
    while let Some(ChunkJob { id, stored }) = next(waiting) {
        let plain = &stored[1..];
        let plain_len = plain.len() as u32;
        let bytes = if compressor.shrink(plain, &mut room) {
            std::mem::replace(&mut room, stored)
        } else {
            stored
        };
        if encoded.send(Encoded { id, plain_len, bytes }).is_err() {
            return;
        }
    }
}
