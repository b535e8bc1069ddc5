//! Lists what was placed: first in the journal of the local index, then in index packs that log entries name.
//!
//! The journal makes a killed backup cheap to repeat on this host; the log makes it cheap anywhere, so during a long
//! backup the log is brought up to date now and then.

use super::known::Known;
use super::place::{Placed, Placer};
use super::stages::{Failure, seal};
use crate::client::Result;
use crate::client::buffers::Buffers;
use crate::client::index::{Index, PendingBlock};
use crate::client::ledger::Ledger;
use crate::client::mesh::Mesh;
use crate::client::vault::Vault;
use crate::home::random;
use protocol::chunk::{CHUNK_MAX, Chunker, Compressor};
use protocol::id::SessionId;
use protocol::index::{BLOCK_PACKS_MAX, IndexBlock};
use protocol::log::Body;
use protocol::pack::{PACK_CHUNKS_MAX, PACK_LEN_MAX, PackBuilder, PackKind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;

/// The log says at least this often what was placed.
const LIST_AFTER: Duration = Duration::from_secs(300);
/// And after so many packs or chunks: about one block of the index.
const LIST_PACKS: usize = BLOCK_PACKS_MAX;
const LIST_CHUNKS: usize = 3 * PACK_CHUNKS_MAX;
/// Packs entered into the journal at once.
const TOGETHER: usize = 16;

pub(super) struct Lister {
    pub(super) vault: Arc<Vault>,
    pub(super) mesh: Arc<Mesh>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) index: Arc<Index>,
    pub(super) known: Arc<Known>,
    pub(super) placer: Arc<Placer>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) session: SessionId,
    pub(super) allow_degraded: bool,
    pub(super) failure: Arc<Failure>,
}

impl Lister {
    /// Takes packs until there are no more, and says how many stripes were written, those of the index included.
    /// At the end everything that is known is listed, unless the backup failed.
    pub(super) async fn run(self, mut placed: Receiver<Placed>) -> u64 {
        let mut stripes = 0;
        let result = self.take(&mut placed, &mut stripes).await;
        if let Err(error) = result {
            self.failure.set(error);
        }
        stripes
    }

    async fn take(&self, placed: &mut Receiver<Placed>, stripes: &mut u64) -> Result<()> {
        let (mut packs, mut chunks, mut listed) = (0, 0, Instant::now());
        let mut together = Vec::new();
        while placed.recv_many(&mut together, TOGETHER).await > 0 {
            tokio::task::block_in_place(|| self.known.keep(&together))?;
            packs += together.len();
            chunks += together.iter().map(|placed| placed.pack.chunks.len()).sum::<usize>();
            *stripes += together.len() as u64;
            together.clear();
            if packs >= LIST_PACKS || chunks >= LIST_CHUNKS || listed.elapsed() >= LIST_AFTER {
                *stripes += self.list().await?;
                (packs, chunks, listed) = (0, 0, Instant::now());
            }
        }
        if !self.failure.is_set() {
            *stripes += self.list().await?;
        }
        Ok(())
    }

    /// Brings the log up to the journal, and says how many stripes that took.
    async fn list(&self) -> Result<u64> {
        let mut stripes = 0;
        while let Some(pending) = self.index.pending()? {
            self.list_block(&pending).await?;
            stripes += 1;
        }
        Ok(stripes)
    }

    /// Writes one block, and says so in the log.
    pub(super) async fn list_block(&self, pending: &PendingBlock) -> Result<()> {
        let placed = self.write(&pending.block).await?;
        let stripe = placed.pack.stripe;
        let body = Body::Index { session: self.session, stripes: vec![stripe] };
        let mut ledger = self.ledger.lock().await;
        let logged = ledger.append(&self.mesh, &self.vault, body, self.allow_degraded).await?;
        let (device, seq) = (logged.entry.device, logged.entry.seq);
        self.index.settle(device, seq, pending, (stripe, placed.holders))
    }

    async fn write(&self, block: &IndexBlock) -> Result<Placed> {
        let plan = self.placer.index_plan();
        let sealed = tokio::task::block_in_place(|| {
            let key = self.vault.secret.index_key();
            let chunker = Chunker::new(&self.vault.secret);
            let (kind, nonce) = (PackKind::Index, random()?);
            let mut builder =
                PackBuilder::new(kind, self.session, &key, nonce, PACK_LEN_MAX, Vec::new());
            let (mut compressor, mut encoded) = (Compressor::default(), Vec::new());
            for piece in block.encode().chunks(CHUNK_MAX) {
                compressor.encode(piece, &mut encoded);
                builder.append(chunker.id(piece), piece.len() as u32, &encoded);
            }
            seal(builder.finish(plan.k), plan.k, plan.n, self.session, &self.buffers)
        })?;
        self.placer.place(sealed).await
    }
}
