//! Rebuilding shards of a stripe, as the peer orders it: any k of its shards are fetched, this node's own first, and verified by
//! their names; what is missing is computed, compared with its name, and put to those who are to keep it. What somebody who leaves
//! has is only copied.
//!
//! A job holds the pack and its parity in memory. Nothing here decides what is rebuilt, from whom or where to.

use super::core::Shared;
use crate::net::{Gate, Lane, LaneError, LinkId, NetError};
use crate::store::StoreError;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use protocol::erasure::{Codec, ErasureError, Slot};
use protocol::id::ShardId;
use protocol::message::{KIND_RESPONSE, RefusalCode, Request, Response, frame_len_max};
use protocol::peer::{LaneId, Rebuilt, Source, Target};
use protocol::record::{Receipt, Record, Stripe};
use protocol::sign::Signed;
use protocol::time::Period;
use std::sync::Arc;
use std::time::Duration;

/// How often a busy node is asked again.
const BUSY_TRIES: u32 = 50;

/// Why a shard was not had from a node, or not taken by it.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// It gave other bytes, or says that it has none: it promised otherwise.
    #[error("it does not have what it promised: {0}")]
    Faulty(String),
    #[error("{0}")]
    Other(String),
}

impl From<NetError> for Failed {
    fn from(error: NetError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<LaneError> for Failed {
    fn from(error: LaneError) -> Self {
        Self::Other(error.to_string())
    }
}

fn is_named(bytes: &[u8], shard: ShardId) -> bool {
    *blake3::hash(bytes).as_bytes() == shard.0
}

/// Does all of a job.
pub(super) async fn rebuild(
    shared: &Arc<Shared>,
    signed: &Signed<Record>,
    sources: Vec<Source>,
    targets: Vec<Target>,
) -> Rebuilt {
    let mut rebuilt = Rebuilt::default();
    let record = match signed.verify() {
        Ok(record) => record,
        Err(error) => return Rebuilt { failed: Some(error.to_string()), ..rebuilt },
    };
    let stripe = &record.stripe;
    let wanted: Vec<u16> = targets.iter().map(|target| target.index).collect();
    let made = match copy(shared, stripe, &sources, &wanted, &mut rebuilt).await {
        Some(copied) => Ok(copied),
        None => make(shared, stripe, sources, wanted, &mut rebuilt).await,
    };
    let made = match made {
        Ok(made) => made,
        Err(why) => return Rebuilt { failed: Some(why), ..rebuilt },
    };
    let mut puts = FuturesUnordered::new();
    for (target, bytes) in targets.into_iter().zip(made) {
        let record = &record;
        puts.push(async move {
            (target, bytes.len(), put(shared, target, signed, record, &bytes).await)
        });
    }
    while let Some((target, len, put)) = puts.next().await {
        match put {
            Ok(receipt) => {
                rebuilt.moved += len as u64;
                rebuilt.receipts.push(receipt);
            }
            Err(error) => {
                let (node, index) = (target.node.short(), target.index);
                tracing::warn!(node, index, %error, "a node does not take a shard");
                rebuilt.refused.push(target.node);
            }
        }
    }
    rebuilt
}

/// The wanted shards as they are, where all of them can be had from somebody: from who leaves.
async fn copy(
    shared: &Arc<Shared>,
    stripe: &Stripe,
    sources: &[Source],
    wanted: &[u16],
    rebuilt: &mut Rebuilt,
) -> Option<Vec<Vec<u8>>> {
    let source = |index: &u16| sources.iter().find(|source| source.index == *index).copied();
    let from: Vec<Source> = wanted.iter().map(source).collect::<Option<_>>()?;
    let mut copied = Vec::new();
    for source in from {
        match read(shared, stripe, source).await {
            Ok(bytes) => {
                note_read(rebuilt, source, &bytes);
                copied.push(bytes);
            }
            Err(error) => {
                let (node, index) = (source.node.short(), source.index);
                tracing::warn!(node, index, %error, "a shard cannot be copied, and is made anew");
                return None;
            }
        }
    }
    Some(copied)
}

/// The wanted shards, made from any k others.
async fn make(
    shared: &Arc<Shared>,
    stripe: &Stripe,
    sources: Vec<Source>,
    wanted: Vec<u16>,
    rebuilt: &mut Rebuilt,
) -> Result<Vec<Vec<u8>>, String> {
    let shards = gather(shared, stripe, sources, rebuilt).await?;
    let stripe = stripe.clone();
    let made = tokio::task::spawn_blocking(move || compute(&stripe, shards, &wanted)).await;
    made.map_err(|error| error.to_string())?
}

/// Bytes came from a source, unless that is this node.
fn note_read(rebuilt: &mut Rebuilt, source: Source, bytes: &[u8]) {
    if source.link.is_some() {
        rebuilt.moved += bytes.len() as u64;
        rebuilt.read.push((source.node, bytes.len() as u64));
    }
}

async fn read(shared: &Arc<Shared>, stripe: &Stripe, source: Source) -> Result<Vec<u8>, Failed> {
    let shard = stripe.shards[usize::from(source.index)];
    match source.link {
        Some(link) => fetch(shared, link, shard, stripe.shard_len).await,
        None => read_own(shared, shard, stripe.shard_len).await,
    }
}

/// Makes one shard that is held here anew, into temporary storage.
pub(super) async fn mend(
    shared: &Arc<Shared>,
    signed: &Signed<Record>,
    sources: Vec<Source>,
    index: u16,
) -> Rebuilt {
    let mut rebuilt = Rebuilt::default();
    let mended = async {
        let stripe = signed.verify().map_err(|error| error.to_string())?.stripe;
        let shards = gather(shared, &stripe, sources, &mut rebuilt).await?;
        let store = Arc::clone(shared);
        let computed = tokio::task::spawn_blocking(move || {
            let bytes = compute(&stripe, shards, &[index])?;
            let kept = bytes.first().map_or(Ok(None), |bytes| keep(&store, bytes).map(Some));
            kept.map_err(|error| error.to_string())
        });
        computed.await.map_err(|error| error.to_string())?
    };
    match mended.await {
        Ok(lane) => Rebuilt { mended: lane, ..rebuilt },
        Err(why) => Rebuilt { failed: Some(why), ..rebuilt },
    }
}

/// Puts bytes into temporary storage, as if they had arrived on a lane.
fn keep(shared: &Shared, bytes: &[u8]) -> Result<LaneId, StoreError> {
    let mut incoming = shared.store.begin(bytes.len() as u32)?;
    let mut left = bytes;
    while !left.is_empty() {
        let room = incoming.room();
        let count = room.len().min(left.len());
        room[..count].copy_from_slice(&left[..count]);
        incoming.take(count)?;
        left = &left[count..];
    }
    Ok(shared.arrive(incoming))
}

/// Any k shards, each in its place.
async fn gather(
    shared: &Arc<Shared>,
    stripe: &Stripe,
    sources: Vec<Source>,
    rebuilt: &mut Rebuilt,
) -> Result<Vec<Option<Vec<u8>>>, String> {
    let (k, n) = (usize::from(stripe.k), usize::from(stripe.n));
    let mut shards: Vec<Option<Vec<u8>>> = vec![None; n];
    let mut sources = sources.into_iter();
    let read = |source: Source| async move { (source, read(shared, stripe, source).await) };
    let mut reads = FuturesUnordered::new();
    reads.extend(sources.by_ref().take(k).map(read));
    let mut found = 0;
    while found < k
        && let Some((source, given)) = reads.next().await
    {
        match given {
            Ok(bytes) => {
                found += 1;
                note_read(rebuilt, source, &bytes);
                shards[usize::from(source.index)] = Some(bytes);
            }
            Err(error) => {
                let (node, index) = (source.node.short(), source.index);
                tracing::warn!(node, index, %error, "a shard cannot be had for a repair");
                if matches!(error, Failed::Faulty(_)) {
                    rebuilt.faulty.push(source.node);
                }
                reads.extend(sources.next().map(read));
            }
        }
    }
    if found < k { Err(format!("{found} shards could be had, {k} needed")) } else { Ok(shards) }
}

/// The wanted shards, in the order asked.
fn compute(
    stripe: &Stripe,
    mut shards: Vec<Option<Vec<u8>>>,
    wanted: &[u16],
) -> Result<Vec<Vec<u8>>, String> {
    let (k, n) = (usize::from(stripe.k), usize::from(stripe.n));
    let len = stripe.shard_len as usize;
    let text = |error: ErasureError| error.to_string();
    let codec = Codec::new(k, n).map_err(text)?;
    let present: Vec<bool> = shards.iter().map(Option::is_some).collect();
    let mut data = vec![0; k * len];
    for (place, shard) in data.chunks_exact_mut(len).zip(&mut shards) {
        if let Some(bytes) = shard.take() {
            place.copy_from_slice(&bytes);
        }
    }
    let mut parity: Vec<Vec<u8>> =
        shards.split_off(k).into_iter().map(Option::unwrap_or_default).collect();
    let all = data.chunks_exact_mut(len).chain(parity.iter_mut().map(Vec::as_mut_slice));
    let slots = all.zip(&present).map(|(bytes, &present)| Slot { bytes, present });
    codec.reconstruct(&mut slots.collect::<Vec<_>>()).map_err(text)?;
    drop(parity);
    let mut computed = Vec::new();
    if wanted.iter().any(|index| usize::from(*index) >= k) {
        computed = vec![0; (n - k) * len];
        codec.encode(&data, &mut computed).map_err(text)?;
    }
    let take = |index: &u16| {
        let place = usize::from(*index);
        let from = if place < k { &data[place * len..] } else { &computed[(place - k) * len..] };
        let bytes = from[..len].to_vec();
        // Its shards fit their names, and their names do not fit each other: whoever wrote the record lied.
        let fits = is_named(&bytes, stripe.shards[place]);
        fits.then_some(bytes).ok_or_else(|| "its shards are no code of each other".to_owned())
    };
    wanted.iter().map(take).collect()
}

async fn read_own(shared: &Arc<Shared>, shard: ShardId, len: u32) -> Result<Vec<u8>, Failed> {
    let shared = Arc::clone(shared);
    let read = move || -> Result<Vec<u8>, StoreError> {
        let mut bytes = shared.store.shard(shard)?.bytes(0, len)?;
        let mut read = Vec::with_capacity(len as usize);
        loop {
            bytes.advance()?;
            if bytes.piece().is_empty() {
                return Ok(read);
            }
            read.extend_from_slice(bytes.piece());
        }
    };
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.map_err(|error| Failed::Other(error.to_string()))?;
    match read {
        Ok(bytes) if is_named(&bytes, shard) => Ok(bytes),
        Ok(_) => Err(Failed::Faulty("its bytes were altered".into())),
        Err(error @ (StoreError::Missing(_) | StoreError::Damaged { .. })) => {
            Err(Failed::Faulty(error.to_string()))
        }
        Err(error) => Err(Failed::Other(error.to_string())),
    }
}

async fn answer(lane: &mut Lane) -> Result<Response, LaneError> {
    let is_response = |kind| (kind == KIND_RESPONSE).then(|| frame_len_max(kind)).flatten();
    let frame = lane.recv_frame(is_response).await?;
    Response::decode(&frame.body).map_err(|error| LaneError::Io(std::io::Error::other(error)))
}

async fn wait(period: Period) {
    tokio::time::sleep(Duration::from_millis(period.0.clamp(10, 5_000))).await;
}

async fn fetch(shared: &Shared, link: LinkId, shard: ShardId, len: u32) -> Result<Vec<u8>, Failed> {
    let gate: Arc<Gate> = shared.gate(link);
    let (kind, body) = Request::Get { shard, offset: 0, len }.encode();
    let mut lane = shared.net.open_lane(link).await?;
    for _ in 0..BUSY_TRIES {
        let turn = gate.inward().await;
        let share = lane.download_turn().await;
        lane.send_frame(kind, &body).await?;
        match answer(&mut lane).await? {
            Response::Bytes { len: given } if given == len => {
                let mut bytes = vec![0; len as usize];
                lane.recv_exact(&mut bytes).await?;
                drop((turn, share));
                let fits = tokio::task::block_in_place(|| is_named(&bytes, shard));
                let wrong = || Failed::Faulty("it serves other bytes".into());
                // The bytes are here; how the stream ends does not matter.
                let _ = lane.close().await;
                return fits.then_some(bytes).ok_or_else(wrong);
            }
            Response::Busy { retry_after } => {
                drop((turn, share));
                wait(retry_after).await;
            }
            Response::Refused(refusal) => {
                let is_fault = matches!(refusal.code, RefusalCode::NotHeld | RefusalCode::Damaged);
                let text = refusal.to_string();
                return Err(if is_fault { Failed::Faulty(text) } else { Failed::Other(text) });
            }
            _ => return Err(Failed::Other("an unexpected answer to a read".into())),
        }
    }
    Err(Failed::Other("it is busy all the time".into()))
}

async fn put(
    shared: &Shared,
    target: Target,
    signed: &Signed<Record>,
    record: &Record,
    bytes: &[u8],
) -> Result<Signed<Receipt>, Failed> {
    let gate: Arc<Gate> = shared.gate(target.link);
    let (index, len) = (target.index, bytes.len() as u32);
    let (kind, body) = Request::Put { record: signed.clone(), index, len }.encode();
    let mut lane = shared.net.open_lane(target.link).await?;
    for _ in 0..BUSY_TRIES {
        let turn = gate.outward().await;
        let share = lane.upload_turn().await;
        lane.send_frame(kind, &body).await?;
        lane.send_bytes(bytes).await?;
        lane.flush().await?;
        drop((turn, share));
        match answer(&mut lane).await? {
            Response::Receipt(receipt) => {
                let said = receipt.verify().map_err(|error| Failed::Other(error.to_string()))?;
                let is_kept = said.holder == target.node && said.check_kept(record, index).is_ok();
                let wrong = || Failed::Other("its receipt is not what was asked".into());
                let _ = lane.close().await;
                return is_kept.then_some(receipt).ok_or_else(wrong);
            }
            Response::Busy { retry_after } => wait(retry_after).await,
            Response::Refused(refusal) => return Err(Failed::Other(refusal.to_string())),
            _ => return Err(Failed::Other("an unexpected answer to a shard".into())),
        }
    }
    Err(Failed::Other("it is busy all the time".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::VaultId;
    use protocol::record::CODEC_REED_SOLOMON;

    const LEN: usize = 128;

    /// A stripe of three data and two parity shards, and their bytes.
    fn stripe() -> (Stripe, Vec<Vec<u8>>) {
        let data: Vec<u8> = (0..3 * LEN).map(|i| (i * i / 7) as u8).collect();
        let mut parity = vec![0; 2 * LEN];
        Codec::new(3, 5).unwrap().encode(&data, &mut parity).unwrap();
        let shards: Vec<Vec<u8>> =
            data.chunks(LEN).chain(parity.chunks(LEN)).map(<[u8]>::to_vec).collect();
        let names = shards.iter().map(|bytes| ShardId(*blake3::hash(bytes).as_bytes())).collect();
        let (vault, codec) = (VaultId([1; 32]), CODEC_REED_SOLOMON);
        (Stripe { vault, codec, k: 3, n: 5, shard_len: LEN as u32, shards: names }, shards)
    }

    #[test]
    fn any_shards_come_from_any_others() {
        let (stripe, shards) = stripe();
        for lost in 0u32..32 {
            let (lost, left): (Vec<u16>, Vec<u16>) = (0..5).partition(|i| lost >> i & 1 == 1);
            if left.len() != 3 {
                continue;
            }
            let given =
                (0u16..).zip(&shards).map(|(i, s)| left.contains(&i).then(|| s.clone())).collect();
            let made = compute(&stripe, given, &lost).unwrap();
            let expected: Vec<&Vec<u8>> = lost.iter().map(|i| &shards[usize::from(*i)]).collect();
            assert_eq!(made.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn shards_that_are_no_code_of_each_other_make_nothing() {
        let (mut stripe, shards) = stripe();
        stripe.shards[4] = ShardId([9; 32]);
        let given: Vec<Option<Vec<u8>>> =
            (0..).zip(&shards).map(|(i, s)| (i < 3).then(|| s.clone())).collect();
        assert!(compute(&stripe, given.clone(), &[3]).is_ok());
        assert!(compute(&stripe, given, &[3, 4]).is_err());
    }
}
