//! Reading: from a chunk's name to its bytes, over any k shards of its stripe.
//!
//! A whole pack comes from the first k shards that answer and fit their names; a single chunk comes from the
//! range of the data shards that hold it, and where that does not work, from the whole pack.

use super::buffers::Buffers;
use super::index::{Index, Location, PackInfo};
use super::ledger::Ledger;
use super::mesh::{Mesh, Node};
use super::vault::Vault;
use super::{ClientError, Result};
use crate::client::recipients::Identities;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use protocol::chunk::{Chunker, decode_chunk};
use protocol::erasure::{Codec, Slot};
use protocol::id::{ChunkId, NodeId, SessionId, ShardId, StripeId};
use protocol::index::{BLOCK_LEN_MAX, IndexBlock};
use protocol::item::ChunkRef;
use protocol::log::Body;
use protocol::message::{Request, Response};
use protocol::pack::{PackHeader, PackKind, PackOpener};
use protocol::record::Record;
use protocol::seal::SessionKey;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// A holder is asked for a shard in place of another one when that takes so many times what packs took lately,
const PATIENCE: u32 = 3;
/// but not before this;
const PATIENCE_MIN: Duration = Duration::from_secs(2);
/// and this is what the first pack is thought to take.
const FIRST_PACK: Duration = Duration::from_secs(3);
/// Longer than any transfer: the watchdog of lanes ends those that do not move.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Reads packs of one vault.
pub struct Packs {
    mesh: Arc<Mesh>,
    vault_id: protocol::id::VaultId,
    chunker: Chunker,
    index_key: SessionKey,
    sessions: BTreeMap<SessionId, SessionKey>,
    records: Mutex<BTreeMap<StripeId, Arc<Record>>>,
    buffers: Arc<Buffers>,
    lately_ms: AtomicU64,
}

impl std::fmt::Debug for Packs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packs({} sessions)", self.sessions.len())
    }
}

/// A whole pack, verified shard by shard.
#[derive(Debug)]
pub struct Pack {
    /// Its bytes.
    pub bytes: Vec<u8>,
    buffers: Arc<Buffers>,
}

impl Drop for Pack {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.bytes));
    }
}

impl Packs {
    /// For what this host can read without an identity: the index.
    #[must_use]
    pub fn new(mesh: Arc<Mesh>, vault: &Vault) -> Self {
        Self {
            mesh,
            vault_id: vault.id,
            chunker: Chunker::new(&vault.secret),
            index_key: vault.secret.index_key(),
            sessions: BTreeMap::new(),
            records: Mutex::default(),
            buffers: Arc::default(),
            lately_ms: AtomicU64::new(FIRST_PACK.as_millis() as u64),
        }
    }

    /// Opens the session keys of the log. Sessions that this identity does not open stay closed.
    pub fn open_sessions(&mut self, ledger: &Ledger, identities: &Identities) -> Result<()> {
        let mut last = None;
        for logged in ledger.entries.values() {
            let Body::Session { session, sealed_key } = &logged.entry.body else { continue };
            match identities.open(&sealed_key.0) {
                Ok(key) => {
                    let key =
                        key.try_into().map_err(|_| ClientError::Content("a session key".into()))?;
                    self.sessions.insert(*session, SessionKey(key));
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if self.sessions.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// The key of a session that was opened.
    pub fn session(&self, session: SessionId) -> Result<&SessionKey> {
        self.sessions.get(&session).ok_or_else(|| {
            ClientError::Identity(format!("this identity does not open session {session}"))
        })
    }

    /// Brings the local index up to what the log says.
    pub async fn sync_index(&self, ledger: &Ledger, index: &Index) -> Result<()> {
        for logged in ledger.entries.values() {
            let Body::Index { stripes, .. } = &logged.entry.body else { continue };
            let (device, seq) = (logged.entry.device, logged.entry.seq);
            if index.is_merged(device, seq)? {
                continue;
            }
            let mut blocks = Vec::new();
            for &stripe in stripes {
                blocks.push(self.read_index(stripe).await?);
            }
            index.merge(device, seq, &blocks)?;
        }
        Ok(())
    }

    async fn read_index(&self, stripe: StripeId) -> Result<IndexBlock> {
        let pack = self.pack(stripe).await?;
        let content = |e: &dyn std::fmt::Display| ClientError::Content(e.to_string());
        let header = PackHeader::decode(&pack.bytes).map_err(|e| content(&e))?;
        let opener = PackOpener::for_pack(&header, &self.index_key).map_err(|e| content(&e))?;
        let entries = opener.open_table(&pack.bytes).map_err(|e| content(&e))?;
        let (mut block, mut plain) = (Vec::new(), Vec::new());
        for (number, entry) in entries.iter().enumerate() {
            let range = entry.offset as usize..(entry.offset + entry.len) as usize;
            let mut sealed = pack.bytes[range].to_vec();
            let encoded = opener.open_chunk(number as u32, &mut sealed).map_err(|e| content(&e))?;
            decode_chunk(encoded, entry.plain_len, &mut plain).map_err(|e| content(&e))?;
            if block.len() + plain.len() > BLOCK_LEN_MAX {
                return Err(content(&"an index block that is too long"));
            }
            block.extend_from_slice(&plain);
        }
        IndexBlock::decode(&block).map_err(|e| content(&e))
    }

    /// The records of these stripes, as far as anybody who answers has them. What is kept is verified.
    pub async fn find_records(&self, stripes: &[StripeId]) -> Result<()> {
        let mut missing: Vec<StripeId> = {
            let known = self.records.lock().await;
            stripes.iter().copied().filter(|stripe| !known.contains_key(stripe)).collect()
        };
        for node in self.mesh.nodes.values() {
            let mut at = 0;
            while at < missing.len() {
                let asked: Vec<StripeId> = missing[at..].iter().copied().take(512).collect();
                let request = Request::Records { vault: self.vault_id, stripes: asked.clone() };
                let Ok(Response::Records(found)) = node.request(&request).await else { break };
                if found.is_empty() {
                    break;
                }
                at += found.len().min(asked.len());
                let mut known = self.records.lock().await;
                for (stripe, held) in asked.iter().zip(found) {
                    let Some(record) = held.and_then(|held| held.record.verify().ok()) else {
                        continue;
                    };
                    let newer = known.get(stripe).is_none_or(|old| old.version < record.version);
                    if record.check().is_ok() && record.stripe.id() == *stripe && newer {
                        known.insert(*stripe, Arc::new(record));
                    }
                }
            }
            let known = self.records.lock().await;
            missing.retain(|stripe| !known.contains_key(stripe));
            if missing.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn record(&self, stripe: StripeId) -> Result<Arc<Record>> {
        if let Some(record) = self.records.lock().await.get(&stripe) {
            return Ok(Arc::clone(record));
        }
        self.find_records(&[stripe]).await?;
        self.records.lock().await.get(&stripe).cloned().ok_or(ClientError::NoRecord(stripe))
    }

    fn holder(&self, node: NodeId) -> Option<&Arc<Node>> {
        self.mesh.nodes.get(&node)
    }

    /// A whole pack from any k shards: data shards where they can be had, each read to its place. Every
    /// shard is verified by its name. Where a holder is slow, a shard from another one is asked for as well.
    pub async fn pack(&self, stripe: StripeId) -> Result<Pack> {
        let record = self.record(stripe).await?;
        let (k, n) = (usize::from(record.stripe.k), usize::from(record.stripe.n));
        let len = record.stripe.shard_len as usize;
        let mut pack =
            Pack { bytes: self.buffers.take_filled(k * len), buffers: Arc::clone(&self.buffers) };
        let holder = |i: usize| self.holder(record.holders[i]);
        let is_ready = |i: usize| holder(i).is_some_and(|node| !node.is_resting());
        // Those at rest come last, data shards as well: each is read to its place after all.
        let mut spares: VecDeque<usize> = (k..n).filter(|&i| is_ready(i)).collect();
        let resting = (0..n).filter(|&i| holder(i).is_some() && !is_ready(i));
        spares.extend(resting);
        let mut places: Vec<Option<&mut [u8]>> =
            pack.bytes.chunks_exact_mut(len).map(Some).collect();
        let mut start = |i: usize| {
            let room = match places.get_mut(i).and_then(Option::take) {
                Some(place) => Room::Data(place),
                None => Room::Parity(self.buffers.take_filled(len)),
            };
            Some(fetch_shard(holder(i)?, i, record.stripe.shards[i], room))
        };
        let mut reads = FuturesUnordered::new();
        let mut present = vec![false; n];
        let mut parity: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        reads.extend((0..k).filter(|&i| is_ready(i)).filter_map(&mut start));
        while reads.len() < k
            && let Some(i) = spares.pop_front()
        {
            reads.extend(start(i));
        }
        let (begin, mut found, mut hedged) = (Instant::now(), 0, false);
        let patience = (self.lately() * PATIENCE).max(PATIENCE_MIN);
        while found < k {
            let late = tokio::time::sleep(if hedged { FOREVER } else { patience });
            let next = tokio::select! {
                next = reads.next() => next,
                () = late => {
                    // Whoever is this late may never answer.
                    hedged = true;
                    let missing = k - found;
                    let further: Vec<usize> = spares.drain(..missing.min(spares.len())).collect();
                    reads.extend(further.into_iter().filter_map(&mut start));
                    continue;
                }
            };
            let Some((i, room, fetched)) = next else { break };
            match fetched {
                Ok(()) => {
                    present[i] = true;
                    found += 1;
                    if let Room::Parity(bytes) = room {
                        parity.insert(i, bytes);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, stripe = stripe.short(), shard = i, "a shard cannot be read");
                    if let Some(node) = holder(i)
                        && !matches!(error, ClientError::Refused { .. })
                    {
                        node.rest();
                    }
                    reads.extend(spares.pop_front().and_then(&mut start));
                }
            }
        }
        drop(reads);
        self.took(begin.elapsed());
        if hedged {
            let late = (0..n).filter(|&i| is_ready(i) && !present[i] && !spares.contains(&i));
            late.filter_map(holder).for_each(|node| node.rest());
        }
        if found < k {
            return Err(ClientError::Destroyed { stripe, found, needed: k });
        }
        tokio::task::block_in_place(|| rebuild(k, &mut pack.bytes, &mut parity, &present))?;
        for bytes in parity.into_values() {
            self.buffers.give(bytes);
        }
        Ok(pack)
    }

    /// What packs took lately.
    fn lately(&self) -> Duration {
        Duration::from_millis(self.lately_ms.load(Ordering::Relaxed))
    }

    fn took(&self, time: Duration) {
        let mean = (self.lately() + time) / 2;
        self.lately_ms.store(mean.as_millis() as u64, Ordering::Relaxed);
    }

    /// The opener of a pack's chunks.
    pub fn opener(&self, info: &PackInfo) -> Result<PackOpener> {
        let key = self.session(info.session)?;
        Ok(PackOpener::new(PackKind::Content, key, &info.nonce))
    }

    /// Opens one chunk of sealed bytes, and checks that it is the one named.
    pub fn open_chunk(
        &self,
        opener: &PackOpener,
        chunk: ChunkId,
        location: &Location,
        sealed: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        let content = |e: &dyn std::fmt::Display| ClientError::Content(e.to_string());
        let encoded = opener.open_chunk(location.number, sealed).map_err(|e| content(&e))?;
        decode_chunk(encoded, location.plain_len, plain).map_err(|e| content(&e))?;
        self.chunker.check(chunk, plain).map_err(|e| content(&e))
    }

    /// Reads one chunk: its range of the data shards, or the whole pack where that does not work.
    pub async fn read_chunk(&self, index: &Index, chunk: ChunkRef) -> Result<Vec<u8>> {
        let location = index.find(chunk.id)?.ok_or(ClientError::NoChunk(chunk.id))?;
        let info = index.pack(location.pack)?;
        let opener = self.opener(&info)?;
        let mut plain = Vec::new();
        if let Ok(mut sealed) = self.read_range(&info, location.offset, location.len).await
            && self.open_chunk(&opener, chunk.id, &location, &mut sealed, &mut plain).is_ok()
        {
            return Ok(plain);
        }
        let mut pack = self.pack(info.stripe).await?;
        let range = location.offset as usize..(location.offset + location.len) as usize;
        let sealed =
            pack.bytes.get_mut(range).ok_or_else(|| ClientError::Content("a short pack".into()))?;
        self.open_chunk(&opener, chunk.id, &location, sealed, &mut plain)?;
        Ok(plain)
    }

    async fn read_range(&self, info: &PackInfo, offset: u32, len: u32) -> Result<Vec<u8>> {
        let record = self.record(info.stripe).await?;
        let shard_len = record.stripe.shard_len;
        let mut bytes = vec![0; len as usize];
        let (mut at, mut filled) = (offset, 0usize);
        while filled < bytes.len() {
            let i = (at / shard_len) as usize;
            let from = at % shard_len;
            let piece = ((shard_len - from) as usize).min(bytes.len() - filled);
            let holder = record.holders.get(i).and_then(|&node| self.holder(node));
            let node = holder.ok_or(ClientError::NoRecord(info.stripe))?;
            node.get(record.stripe.shards[i], from, &mut bytes[filled..filled + piece]).await?;
            filled += piece;
            at += piece as u32;
        }
        Ok(bytes)
    }
}

/// Where a shard is read to.
enum Room<'a> {
    Data(&'a mut [u8]),
    Parity(Vec<u8>),
}

async fn fetch_shard<'a>(
    node: &Node,
    i: usize,
    shard: ShardId,
    mut room: Room<'a>,
) -> (usize, Room<'a>, Result<()>) {
    let bytes = match &mut room {
        Room::Data(bytes) => &mut **bytes,
        Room::Parity(bytes) => bytes,
    };
    let mut fetched = node.get(shard, 0, bytes).await;
    if fetched.is_ok() && tokio::task::block_in_place(|| *blake3::hash(bytes).as_bytes()) != shard.0
    {
        fetched = Err(ClientError::Node {
            node: node.id.short(),
            what: format!("it serves other bytes as shard {shard}"),
        });
    }
    (i, room, fetched)
}

/// Fills in the data shards that are missing in `bytes`.
fn rebuild(
    k: usize,
    bytes: &mut [u8],
    parity: &mut BTreeMap<usize, Vec<u8>>,
    present: &[bool],
) -> Result<()> {
    if present[..k].iter().all(|&present| present) {
        return Ok(());
    }
    let content = |e: protocol::erasure::ErasureError| ClientError::Content(e.to_string());
    let n = present.len();
    let codec = Codec::new(k, n).map_err(content)?;
    // Parity that is missing is not computed and needs no room.
    for i in k..n {
        parity.entry(i).or_default();
    }
    let data = bytes.chunks_exact_mut(bytes.len() / k);
    let shards = data.chain(parity.values_mut().map(Vec::as_mut_slice));
    let slots = shards.zip(present).map(|(bytes, &present)| Slot { bytes, present });
    codec.reconstruct(&mut slots.collect::<Vec<_>>()).map_err(content)
}
