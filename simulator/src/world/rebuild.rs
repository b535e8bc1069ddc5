//! Repairs, as a node's driver carries them out for its peer: any k shards of a stripe are asked of those who have them, each is
//! compared with its name, what is missing is computed by the real erasure code and put to those who are to keep it. It goes by the
//! messages of production, and whatever happens to messages happens to these. Nothing here decides what is rebuilt, or where to.

use super::{Event, World};
use crate::network::{End, Exchange, Frame};
use protocol::erasure::{Codec, Slot};
use protocol::id::ShardId;
use protocol::message::{RefusalCode, Request, Response};
use protocol::peer::{Input, JobId, LaneId, LinkId, Rebuilt, Source, Target};
use protocol::record::{Record, Stripe};
use protocol::sign::Signed;
use std::collections::{BTreeMap, VecDeque};

/// How often a busy node is asked again, as in production.
const BUSY_TRIES: u32 = 50;

/// What a job is to come to.
#[derive(Debug)]
pub(crate) enum Work {
    /// Missing shards, each at the node that is to keep it.
    Put(Vec<Target>),
    /// The shard at this place of the stripe, in temporary storage here.
    Mend(u16),
}

/// A repair that is being carried out.
#[derive(Debug)]
struct Job {
    record: Record,
    signed: Signed<Record>,
    shards: Vec<Option<Vec<u8>>>,
    found: usize,
    /// Who can still be asked.
    sources: VecDeque<Source>,
    work: Option<Work>,
    /// Errands that are not over.
    open: usize,
    rebuilt: Rebuilt,
}

#[derive(Debug, Clone)]
enum Purpose {
    Read(Source),
    Put(Target, Vec<u8>),
}

/// A question of a job to another node, asked again while that is busy.
#[derive(Debug)]
pub(crate) struct Errand {
    node: usize,
    start: u64,
    job: JobId,
    purpose: Purpose,
    tries: u32,
}

/// All repairs that are being carried out.
#[derive(Debug, Default)]
pub(crate) struct Rebuilds {
    jobs: BTreeMap<(usize, JobId), Job>,
    errands: BTreeMap<LaneId, Errand>,
    /// Shards that were taken.
    pub(super) taken: u64,
    /// Bytes of shards that were read for that, from others' disks and own ones, and written.
    pub(super) moved: (u64, u64),
}

impl Rebuilds {
    /// A node that repairs something.
    pub(crate) fn first(&self) -> Option<usize> {
        self.jobs.keys().next().map(|(node, _)| *node)
    }

    /// A node stops in the middle of whatever it does.
    pub(super) fn stop(&mut self, node: usize) {
        self.jobs.retain(|(of, _), _| *of != node);
        self.errands.retain(|_, errand| errand.node != node);
    }
}

fn is_named(bytes: &[u8], shard: ShardId) -> bool {
    *blake3::hash(bytes).as_bytes() == shard.0
}

impl World {
    /// A peer orders a repair.
    pub(super) fn rebuild(
        &mut self,
        node: usize,
        job: JobId,
        signed: Signed<Record>,
        sources: Vec<Source>,
        work: Work,
    ) {
        let record = match signed.verify() {
            Ok(record) => record,
            Err(error) => {
                let failed = Some(error.to_string());
                self.rebuilt(node, job, Rebuilt { failed, ..Rebuilt::default() });
                return;
            }
        };
        if let Work::Put(targets) = &work {
            self.check_order(node, &record, &sources, targets);
        }
        let shards = vec![None; usize::from(record.stripe.n)];
        let (sources, work, rebuilt) = (sources.into(), Some(work), Rebuilt::default());
        let begun = Job { record, signed, shards, found: 0, sources, work, open: 0, rebuilt };
        self.rebuilds.jobs.insert((node, job), begun);
        self.strike();
        self.gather(node, job);
    }

    /// Reads as many shards as are needed, and not yet had or asked for.
    fn gather(&mut self, node: usize, job: JobId) {
        while let Some(of) = self.rebuilds.jobs.get_mut(&(node, job))
            && of.work.is_some()
        {
            let needed = usize::from(of.record.stripe.k);
            if of.found >= needed {
                self.compute(node, job);
                return;
            }
            if of.found + of.open >= needed {
                return;
            }
            let Some(source) = of.sources.pop_front() else {
                if of.open == 0 {
                    let failed = format!("{} shards could be had, {needed} needed", of.found);
                    of.rebuilt.failed = Some(failed);
                    self.end_job(node, job);
                }
                return;
            };
            let Stripe { shards, shard_len, .. } = &of.record.stripe;
            let (shard, len) = (shards[usize::from(source.index)], *shard_len);
            if let Some(link) = source.link {
                of.open += 1;
                let frame = Frame::new(Request::Get { shard, offset: 0, len }.encode());
                self.send_errand(node, job, Purpose::Read(source), (link, frame), 0);
            } else {
                let own = self.hosts[node].disk.shard(shard);
                let own = own.filter(|bytes| is_named(bytes, shard)).map(<[u8]>::to_vec);
                let claimed = self.hosts[node].seized.then(|| vec![0; len as usize]);
                match own.or(claimed) {
                    Some(bytes) => self.have(node, job, source, bytes),
                    None => of.rebuilt.faulty.push(source.node),
                }
            }
        }
    }

    fn have(&mut self, node: usize, job: JobId, source: Source, bytes: Vec<u8>) {
        let Some(of) = self.rebuilds.jobs.get_mut(&(node, job)) else { return };
        of.found += 1;
        self.rebuilds.moved.0 += bytes.len() as u64;
        if source.link.is_some() {
            of.rebuilt.moved += bytes.len() as u64;
            of.rebuilt.read.push((source.node, bytes.len() as u64));
        }
        of.shards[usize::from(source.index)] = Some(bytes);
    }

    /// Enough is here: what is missing is made, and goes where it is to go.
    fn compute(&mut self, node: usize, job: JobId) {
        let is_seized = self.hosts[node].seized;
        let Some(of) = self.rebuilds.jobs.get_mut(&(node, job)) else { return };
        let Some(work) = of.work.take() else { return };
        // Of reads that are still under way nothing more is wanted.
        of.open = 0;
        self.rebuilds.errands.retain(|_, errand| (errand.node, errand.job) != (node, job));
        let wanted: Vec<u16> = match &work {
            Work::Put(targets) => targets.iter().map(|target| target.index).collect(),
            Work::Mend(index) => vec![*index],
        };
        let stripe = &of.record.stripe;
        let made = if is_seized {
            // Whoever has seized a node has it pass off something else.
            Some(vec![vec![0; stripe.shard_len as usize]; wanted.len()])
        } else {
            make(stripe, &of.shards, &wanted)
        };
        if made.is_none() {
            of.rebuilt.failed = Some("its shards are no code of each other".into());
        }
        let made = made.unwrap_or_default();
        match work {
            Work::Put(targets) => {
                of.open = made.len();
                let signed = of.signed.clone();
                for (target, bytes) in targets.into_iter().zip(made) {
                    let frame = put(&signed, target, &bytes);
                    let purpose = Purpose::Put(target, bytes);
                    self.send_errand(node, job, purpose, (target.link, frame), 0);
                }
            }
            Work::Mend(_) => {
                for bytes in made {
                    let lane = self.network.name_lane();
                    of.rebuilt.mended = Some(lane);
                    self.hosts[node].disk.receive(lane, bytes);
                }
            }
        }
        self.end_job(node, job);
    }

    fn send_errand(
        &mut self,
        node: usize,
        job: JobId,
        purpose: Purpose,
        (link, frame): (LinkId, Frame),
        tries: u32,
    ) {
        let (asker, start) = (End::Node(node), self.hosts[node].start);
        let lane = self.network.open(Exchange { link, asker, call: None });
        self.rebuilds.errands.insert(lane, Errand { node, start, job, purpose, tries });
        self.ask_on(lane, link, asker, frame);
    }

    /// A busy node is asked again.
    pub(super) fn repeat_errand(&mut self, errand: Errand) {
        let Errand { node, start, job, purpose, tries } = errand;
        let Some(of) = self.rebuilds.jobs.get(&(node, job)) else { return };
        if !self.is_current(node, start) {
            return;
        }
        let ask = match &purpose {
            Purpose::Read(source) => {
                let shard = of.record.stripe.shards[usize::from(source.index)];
                let request = Request::Get { shard, offset: 0, len: of.record.stripe.shard_len };
                source.link.map(|link| (link, Frame::new(request.encode())))
            }
            Purpose::Put(target, bytes) => Some((target.link, put(&of.signed, *target, bytes))),
        };
        if let Some(ask) = ask {
            self.send_errand(node, job, purpose, ask, tries);
        }
    }

    /// An errand was answered, or will not be.
    pub(super) fn errand_answered(
        &mut self,
        lane: LaneId,
        response: Option<Response>,
        raw: Vec<u8>,
    ) {
        let Some(errand) = self.rebuilds.errands.remove(&lane) else { return };
        let Errand { node, start, job, .. } = errand;
        if !self.is_current(node, start) || !self.rebuilds.jobs.contains_key(&(node, job)) {
            return;
        }
        if let Some(Response::Busy { retry_after }) = response
            && errand.tries < BUSY_TRIES
        {
            let errand = Errand { tries: errand.tries + 1, ..errand };
            self.cause(retry_after, Event::Errand(Box::new(errand)));
            return;
        }
        let Some(of) = self.rebuilds.jobs.get_mut(&(node, job)) else { return };
        of.open = of.open.saturating_sub(1);
        match errand.purpose {
            Purpose::Read(source) => {
                let shard = of.record.stripe.shards[usize::from(source.index)];
                let len = of.record.stripe.shard_len as usize;
                match response {
                    Some(Response::Bytes { .. }) if raw.len() == len && is_named(&raw, shard) => {
                        self.have(node, job, source, raw);
                    }
                    Some(Response::Bytes { .. }) => of.rebuilt.faulty.push(source.node),
                    Some(Response::Refused(refusal))
                        if matches!(refusal.code, RefusalCode::NotHeld | RefusalCode::Damaged) =>
                    {
                        of.rebuilt.faulty.push(source.node);
                    }
                    _ => {}
                }
                self.gather(node, job);
            }
            Purpose::Put(target, bytes) => {
                let receipt = match response {
                    Some(Response::Receipt(receipt)) => Some(receipt),
                    _ => None,
                };
                let is_kept = receipt.as_ref().and_then(|signed| signed.verify().ok());
                let is_kept = is_kept.is_some_and(|said| {
                    said.holder == target.node && said.check_kept(&of.record, target.index).is_ok()
                });
                match receipt.filter(|_| is_kept) {
                    Some(receipt) => {
                        of.rebuilt.moved += bytes.len() as u64;
                        of.rebuilt.receipts.push(receipt);
                        self.rebuilds.taken += 1;
                        self.rebuilds.moved.1 += bytes.len() as u64;
                    }
                    None => of.rebuilt.refused.push(target.node),
                }
                self.end_job(node, job);
            }
        }
    }

    /// Reports a job whose errands are all over.
    fn end_job(&mut self, node: usize, job: JobId) {
        if self.rebuilds.jobs.get(&(node, job)).is_some_and(|of| of.open == 0)
            && let Some(of) = self.rebuilds.jobs.remove(&(node, job))
        {
            self.rebuilt(node, job, of.rebuilt);
        }
    }

    fn rebuilt(&mut self, node: usize, job: JobId, rebuilt: Rebuilt) {
        let (mended, rebuilt) = (rebuilt.mended, Box::new(rebuilt));
        self.tell(node, Input::Rebuilt { job, rebuilt });
        // What the peer did not want kept is wanted by nobody.
        if let Some(lane) = mended
            && !self.hosts[node].disk.is_awaited(lane)
        {
            self.hosts[node].disk.discard(lane);
        }
    }
}

fn put(signed: &Signed<Record>, target: Target, bytes: &[u8]) -> Frame {
    let (index, len) = (target.index, bytes.len() as u32);
    let request = Request::Put { record: signed.clone(), index, len };
    Frame::new(request.encode()).followed_by(bytes.to_vec())
}

/// The wanted shards, made from those that are here. `None` when they are no code of each other.
fn make(stripe: &Stripe, shards: &[Option<Vec<u8>>], wanted: &[u16]) -> Option<Vec<Vec<u8>>> {
    let (k, n, len) = (usize::from(stripe.k), usize::from(stripe.n), stripe.shard_len as usize);
    let codec = Codec::new(k, n).ok()?;
    let mut buffers: Vec<(Vec<u8>, bool)> = shards
        .iter()
        .map(|shard| match shard {
            Some(bytes) => (bytes.clone(), true),
            None => (vec![0; len], false),
        })
        .collect();
    let mut slots: Vec<Slot<'_>> =
        buffers.iter_mut().map(|(bytes, present)| Slot { bytes, present: *present }).collect();
    codec.reconstruct(&mut slots).ok()?;
    let data: Vec<u8> =
        buffers.iter().take(k).flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    let mut parity = vec![0; len * (n - k)];
    codec.encode(&data, &mut parity).ok()?;
    let take = |&index: &u16| {
        let place = usize::from(index);
        let from = if place < k { &data[place * len..] } else { &parity[(place - k) * len..] };
        Some(from[..len].to_vec()).filter(|bytes| is_named(bytes, stripe.shards[place]))
    };
    wanted.iter().map(take).collect()
}
