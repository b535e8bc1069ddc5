//! Shards: whole packs from any k of them, and ranges of them where no more is needed.

use super::records::Whereabouts;
use super::{Pack, Packs};
use crate::client::mesh::Node;
use crate::client::{ClientError, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use protocol::erasure::{Codec, Slot};
use protocol::id::{ShardId, StripeId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// A holder is asked for a shard in place of another one when that takes so many times what packs took lately,
const PATIENCE: u32 = 3;
/// but not before this.
const PATIENCE_MIN: Duration = Duration::from_secs(2);
/// Longer than any transfer: the watchdog of lanes ends those that do not move.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// Packs kept for whoever needs them next: 16 MiB each.
const KEPT: usize = 3;

/// Packs read lately, or being read: who needs one that is on its way waits for it.
#[derive(Default)]
pub(super) struct Lately(VecDeque<(StripeId, Arc<OnceCell<Arc<Pack>>>)>);

impl Lately {
    fn find(&mut self, stripe: StripeId) -> Arc<OnceCell<Arc<Pack>>> {
        let at = self.0.iter().position(|(kept, _)| *kept == stripe);
        let entry = at.and_then(|at| self.0.remove(at)).unwrap_or((stripe, Arc::default()));
        let cell = Arc::clone(&entry.1);
        self.0.push_front(entry);
        self.0.truncate(KEPT);
        cell
    }

    fn forget(&mut self, stripe: StripeId, cell: &Arc<OnceCell<Arc<Pack>>>) {
        self.0.retain(|(kept, other)| *kept != stripe || !Arc::ptr_eq(cell, other));
    }

    fn has(&self, stripe: StripeId) -> bool {
        self.0.iter().any(|(kept, _)| *kept == stripe)
    }
}

impl Packs {
    /// A whole pack, verified shard by shard.
    pub async fn pack(&self, stripe: StripeId) -> Result<Arc<Pack>> {
        loop {
            let (cell, pack) = self.find_pack(stripe, true).await?;
            if pack.is_proved {
                return Ok(pack);
            }
            self.lately.lock().await.forget(stripe, &cell);
        }
    }

    /// A whole pack, for those who verify what they take from it: its shards were looked at only if there was reason
    /// to.
    pub(super) async fn pack_to_open(&self, stripe: StripeId) -> Result<Arc<Pack>> {
        Ok(self.find_pack(stripe, self.is_wary.load(Ordering::Relaxed)).await?.1)
    }

    /// A whole pack, after something in it did not open. None when each shard was looked at before.
    pub(super) async fn pack_again(
        &self,
        stripe: StripeId,
        bad: &Pack,
    ) -> Option<Result<Arc<Pack>>> {
        if bad.is_proved {
            return None;
        }
        self.is_wary.store(true, Ordering::Relaxed);
        Some(self.pack(stripe).await)
    }

    async fn find_pack(
        &self,
        stripe: StripeId,
        is_proved: bool,
    ) -> Result<(Arc<OnceCell<Arc<Pack>>>, Arc<Pack>)> {
        let cell = self.lately.lock().await.find(stripe);
        let fetch = || async { self.fetch(stripe, is_proved).await.map(Arc::new) };
        let pack = Arc::clone(cell.get_or_try_init(fetch).await?);
        Ok((cell, pack))
    }

    /// Whether the pack is here, or on its way.
    pub(super) async fn is_near(&self, stripe: StripeId) -> bool {
        self.lately.lock().await.has(stripe)
    }

    /// A whole pack, from wherever it can be had.
    async fn fetch(&self, stripe: StripeId, is_proved: bool) -> Result<Pack> {
        let first = match self.whereabouts(stripe).await {
            Ok(whereabouts) => self.fetch_from(&whereabouts, is_proved).await,
            Err(error) => Err(error),
        };
        match first {
            Err(error @ (ClientError::NoRecord(_) | ClientError::Destroyed { .. })) => {
                match self.look_everywhere(stripe).await {
                    Some(whereabouts) => self.fetch_from(&whereabouts, is_proved).await,
                    None => Err(error),
                }
            }
            first => first,
        }
    }

    /// A whole pack from any k shards: data shards where they can be had, each read to its place. If asked to, every
    /// shard is verified by its name. Where a holder is slow, a shard from another one is asked for as well.
    async fn fetch_from(&self, whereabouts: &Whereabouts, is_proved: bool) -> Result<Pack> {
        let (coded, stripe) = (&whereabouts.stripe, whereabouts.stripe.id());
        let (k, n) = (usize::from(coded.k), usize::from(coded.n));
        let len = coded.shard_len as usize;
        let (bytes, buffers) = (self.buffers.take_filled(k * len), Arc::clone(&self.buffers));
        let mut pack = Pack { bytes, is_proved, buffers };
        let holders = |i: usize| self.holders(whereabouts, i);
        let is_ready = |i: usize| holders(i).first().is_some_and(|node| !node.is_resting());
        // Those at rest come last, data shards as well: each is read to its place after all.
        let mut spares: VecDeque<usize> = (k..n).filter(|&i| is_ready(i)).collect();
        let resting = (0..n).filter(|&i| !holders(i).is_empty() && !is_ready(i));
        spares.extend(resting);
        let mut places: Vec<Option<&mut [u8]>> =
            pack.bytes.chunks_exact_mut(len).map(Some).collect();
        let mut start = |i: usize| {
            let nodes = Some(holders(i)).filter(|nodes| !nodes.is_empty())?;
            let room = match places.get_mut(i).and_then(Option::take) {
                Some(place) => Room::Data(place),
                None => Room::Parity(self.buffers.take_filled(len)),
            };
            Some(fetch_shard(nodes, i, coded.shards[i], room, is_proved))
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
                    tracing::debug!(?patience, found, stripe = stripe.short(), "others are asked too");
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
                    reads.extend(spares.pop_front().and_then(&mut start));
                }
            }
        }
        drop(reads);
        self.took(begin.elapsed());
        if hedged {
            let late = (0..n).filter(|&i| is_ready(i) && !present[i] && !spares.contains(&i));
            late.flat_map(holders).for_each(|node| node.rest());
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

    /// The nodes that may have a shard and can be asked, those at rest last.
    fn holders(&self, whereabouts: &Whereabouts, i: usize) -> Vec<&Arc<Node>> {
        let mut nodes: Vec<&Arc<Node>> =
            whereabouts.holders[i].iter().filter_map(|&id| self.holder(id)).collect();
        nodes.sort_by_key(|node| node.is_resting());
        nodes
    }

    /// What packs took lately.
    fn lately(&self) -> Duration {
        Duration::from_millis(self.lately_ms.load(Ordering::Relaxed))
    }

    fn took(&self, time: Duration) {
        let mean = (self.lately() + time) / 2;
        self.lately_ms.store(mean.as_millis() as u64, Ordering::Relaxed);
    }

    /// Bytes of a pack from its data shards, not verified. What a data shard's holder does not give is rebuilt
    /// from the same range of other shards.
    pub(super) async fn read_range(
        &self,
        stripe: StripeId,
        offset: usize,
        len: usize,
    ) -> Result<Vec<u8>> {
        let whereabouts = self.whereabouts(stripe).await?;
        let shard_len = whereabouts.stripe.shard_len as usize;
        let mut bytes = vec![0; len];
        let (mut at, mut rest) = (offset, &mut bytes[..]);
        while !rest.is_empty() {
            let (i, from) = (at / shard_len, at % shard_len);
            let (piece, further) = rest.split_at_mut((shard_len - from).min(rest.len()));
            if i >= usize::from(whereabouts.stripe.k) {
                return Err(ClientError::Content("a chunk beyond the end of its pack".into()));
            }
            if self.read_piece(&whereabouts, i, from, piece).await.is_err() {
                self.rebuild_piece(&whereabouts, i, from, piece).await?;
            }
            at += piece.len();
            rest = further;
        }
        Ok(bytes)
    }

    async fn read_piece(
        &self,
        whereabouts: &Whereabouts,
        i: usize,
        from: usize,
        piece: &mut [u8],
    ) -> Result<()> {
        let patience = (self.lately() * PATIENCE).max(PATIENCE_MIN);
        let mut last = ClientError::NoRecord(whereabouts.stripe.id());
        for node in self.holders(whereabouts, i).into_iter().filter(|node| !node.is_resting()) {
            let read = node.get(whereabouts.stripe.shards[i], from as u32, piece);
            match tokio::time::timeout(patience, read).await {
                Ok(Ok(())) => {
                    node.note_sent(piece.len());
                    return Ok(());
                }
                Ok(Err(error)) => last = error,
                Err(_) => node.rest(),
            }
        }
        Err(last)
    }

    /// The code works byte by byte: a range of one shard follows from the same range of any k others.
    async fn rebuild_piece(
        &self,
        whereabouts: &Whereabouts,
        missing: usize,
        from: usize,
        piece: &mut [u8],
    ) -> Result<()> {
        let (k, n) = (usize::from(whereabouts.stripe.k), usize::from(whereabouts.stripe.n));
        let mut columns = vec![Vec::new(); n];
        columns[..k].fill(vec![0; piece.len()]);
        let mut present = vec![false; n];
        let mut others = (0..n).filter(|&i| i != missing);
        let mut reads = FuturesUnordered::new();
        let len = piece.len();
        let read = |i: usize| async move {
            let mut column = vec![0; len];
            (i, self.read_piece(whereabouts, i, from, &mut column).await.map(|()| column))
        };
        reads.extend(others.by_ref().take(k).map(read));
        while let Some((i, read_column)) = reads.next().await {
            match read_column {
                Ok(column) => {
                    columns[i] = column;
                    present[i] = true;
                }
                Err(_) => reads.extend(others.next().map(read)),
            }
        }
        drop(reads);
        let content = |e: protocol::erasure::ErasureError| ClientError::Content(e.to_string());
        let slots = columns.iter_mut().zip(&present);
        let slots = slots.map(|(bytes, &present)| Slot { bytes, present });
        Codec::new(k, n).map_err(content)?.reconstruct(&mut slots.collect::<Vec<_>>()).map_err(
            |_| ClientError::Destroyed {
                stripe: whereabouts.stripe.id(),
                found: present.iter().filter(|&&present| present).count(),
                needed: k,
            },
        )?;
        piece.copy_from_slice(&columns[missing]);
        Ok(())
    }
}

/// Where a shard is read to.
enum Room<'a> {
    Data(&'a mut [u8]),
    Parity(Vec<u8>),
}

/// A shard from the first of these nodes that has it; if it is to be proved, from the first that has its bytes.
async fn fetch_shard<'a>(
    nodes: Vec<&Arc<Node>>,
    i: usize,
    shard: ShardId,
    mut room: Room<'a>,
    is_proved: bool,
) -> (usize, Room<'a>, Result<()>) {
    let bytes = match &mut room {
        Room::Data(bytes) => &mut **bytes,
        Room::Parity(bytes) => bytes,
    };
    let mut fetched = Ok(());
    for node in nodes {
        fetched = node.get(shard, 0, bytes).await;
        let is_right = |bytes: &[u8]| !is_proved || *blake3::hash(bytes).as_bytes() == shard.0;
        if fetched.is_ok() && !tokio::task::block_in_place(|| is_right(bytes)) {
            fetched = Err(ClientError::Node {
                node: node.id.short(),
                what: format!("it serves other bytes as shard {shard}"),
            });
        }
        match &fetched {
            Ok(()) => {
                node.note_sent(bytes.len());
                break;
            }
            Err(ClientError::Refused { .. }) => {}
            Err(_) => node.rest(),
        }
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
