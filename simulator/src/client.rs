//! A device that backs up and reads back: a script of requests for each node, repeated until each is
//! answered. All requests are such that asking twice does no harm.
//!
//! In the manner of a peer: the world tells what happened (`handle_*`) and takes what is to be done
//! ([`Client::poll_action`]).

use crate::network::Frame;
use crate::setup::{EPOCH, VALIDITY, key, operator_key};
use protocol::certificate::{
    DeviceCertificate, NodeCertificate, Roster, VaultCertificate, VaultDescriptor, VaultPapers,
};
use protocol::codec::Blob;
use protocol::erasure::{Codec, Slot};
use protocol::id::{EntryId, NodeId, PublicKey, SessionId, ShardId, StripeId};
use protocol::log::{Body, Entry, EntryAck, entry_id};
use protocol::message::{Greeting, Refusal, RefusalCode, Request, Response};
use protocol::peer::LinkId;
use protocol::policy::Policy;
use protocol::record::{CODEC_REED_SOLOMON, Receipt, Record, Stripe};
use protocol::sign::{SecretKey, Signed};
use protocol::time::{Mono, Period};
use std::collections::{BTreeMap, VecDeque};

/// How long a client waits before it dials again.
const REDIAL: Period = Period::seconds(2);

/// What a client asks the world to do.
#[derive(Debug)]
pub(crate) enum Action {
    Dial(usize),
    Send { link: LinkId, frame: Frame },
    WakeAt(Mono),
}

#[derive(Debug, Clone)]
enum Task {
    Introduce,
    Put {
        record: Signed<Record>,
        index: u16,
        bytes: Vec<u8>,
    },
    /// The entry with this number of the client's log.
    Append(u64),
    Get {
        shard: ShardId,
        len: u32,
    },
    /// Whatever somebody who has this device's key says.
    Say(Box<Request>),
}

/// How far a client is with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Idle,
    Dialing,
    Greeting(LinkId),
    Ready(LinkId),
    Asked(LinkId),
    /// Until then; on the link, if it is still up.
    Waiting(Mono, Option<LinkId>),
}

impl Line {
    fn link(self) -> Option<LinkId> {
        match self {
            Self::Idle | Self::Dialing => None,
            Self::Greeting(link) | Self::Ready(link) | Self::Asked(link) => Some(link),
            Self::Waiting(_, link) => link,
        }
    }
}

#[derive(Debug)]
struct Channel {
    line: Line,
    tasks: VecDeque<Task>,
}

/// What a client has put away: the stripe, who holds its shards, and how long the data was.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The stripe.
    pub stripe: Stripe,
    /// The nodes that hold its shards, in order.
    pub holders: Vec<usize>,
    /// Bytes of data in it.
    pub len: usize,
}

/// A device.
#[derive(Debug)]
pub struct Client {
    key: SecretKey,
    vault: SecretKey,
    nodes: Vec<NodeId>,
    greeting: Greeting,
    papers: VaultPapers,
    policy: Policy,
    session: SessionId,
    channels: Vec<Channel>,
    log: Vec<Signed<Entry>>,
    actions: VecDeque<Action>,
    receipts: BTreeMap<(StripeId, u16), Receipt>,
    acks: BTreeMap<(EntryId, usize), EntryAck>,
    fetched: BTreeMap<ShardId, Vec<u8>>,
    refusals: Vec<(usize, Refusal)>,
    said: Vec<(usize, Response)>,
}

impl Client {
    /// A device of a vault of its own, which the operator with this name vouches for and whose roster
    /// lists these nodes.
    pub(crate) fn new(
        name: &str,
        operator: &str,
        roster: Vec<Signed<NodeCertificate>>,
        policy: Policy,
    ) -> Self {
        let nodes: Vec<NodeId> = roster
            .iter()
            .map(|signed| signed.verify().expect("signed by its operator").node)
            .collect();
        let (vault, device) = (key("vault", name), key("device", name));
        let certificate = VaultCertificate {
            vault: vault.public().into(),
            operator: operator_key(operator).public().into(),
            issued: EPOCH,
            expires: EPOCH.after(VALIDITY),
        };
        let certificate = Signed::sign(&certificate, &operator_key(operator));
        let descriptor = VaultDescriptor {
            vault: vault.public().into(),
            version: 1,
            recipients: vec![format!("recipient of {name}")],
            sealed_secret: Blob(name.as_bytes().to_vec()),
            policy: policy.clone(),
        };
        let device_certificate = DeviceCertificate {
            vault: vault.public().into(),
            device: device.public().into(),
            issued: EPOCH,
            expires: EPOCH.after(VALIDITY),
        };
        let channel = || Channel { line: Line::Idle, tasks: VecDeque::from([Task::Introduce]) };
        let mut client = Self {
            key: device,
            vault: vault.clone(),
            greeting: Greeting::Device {
                vault: certificate.clone(),
                device: Signed::sign(&device_certificate, &vault),
            },
            papers: VaultPapers {
                certificate,
                descriptor: Signed::sign(&descriptor, &vault),
                roster: Signed::sign(
                    &Roster { vault: vault.public().into(), version: 1, nodes: roster },
                    &vault,
                ),
            },
            policy,
            session: SessionId(blake3::derive_key(
                "strewn 2026-11 simulator session v1",
                name.as_bytes(),
            )),
            channels: nodes.iter().map(|_| channel()).collect(),
            nodes,
            log: Vec::new(),
            actions: VecDeque::new(),
            receipts: BTreeMap::new(),
            acks: BTreeMap::new(),
            fetched: BTreeMap::new(),
            refusals: Vec::new(),
            said: Vec::new(),
        };
        let session = Body::Session { session: client.session, sealed_key: Blob(vec![0; 200]) };
        client.append(session);
        client
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// The key of its vault, for whoever stole it.
    #[must_use]
    pub fn vault_key(&self) -> &SecretKey {
        &self.vault
    }

    /// What was answered to what was said, and by which node.
    #[must_use]
    pub fn said(&self) -> &[(usize, Response)] {
        &self.said
    }

    /// The promises of holders that came, by stripe and place in it.
    pub fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.receipts.values()
    }

    /// The countersignatures that came, with the node each came from.
    pub fn acks(&self) -> impl Iterator<Item = (usize, &EntryAck)> {
        self.acks.iter().map(|(&(_, node), ack)| (node, ack))
    }

    /// What was refused, and by which node.
    #[must_use]
    pub fn refusals(&self) -> &[(usize, Refusal)] {
        &self.refusals
    }

    /// Whether everything asked of a node has been answered.
    #[must_use]
    pub fn is_done_with(&self, node: usize) -> bool {
        self.channels[node].tasks.is_empty()
    }

    /// Whether everything asked has been answered.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.channels.iter().all(|channel| channel.tasks.is_empty())
    }

    /// Puts data away as one stripe, any `k` of whose shards give it back, one at each of `holders`, and
    /// writes it into the log.
    ///
    /// # Panics
    /// When there are fewer holders than `k`, more than a stripe has shards, or too much data for one.
    pub(crate) fn back_up(&mut self, data: &[u8], k: usize, holders: &[usize]) -> Stored {
        let n = holders.len();
        let codec = Codec::new(k, n).expect("a code for the holders given");
        let len = data.len().div_ceil(k).max(1).next_multiple_of(64);
        let mut bytes = data.to_vec();
        // Sealed packs are padded with what looks random: no two stripes share a shard.
        bytes.resize(len * k, 0);
        let mut padding = blake3::Hasher::new_derive_key("strewn 2026-11 simulator padding v1");
        padding.update(&self.session.0).update(&(self.log.len() as u64).to_le_bytes());
        padding.finalize_xof().fill(&mut bytes[data.len()..]);
        let mut parity = vec![0; len * (n - k)];
        codec.encode(&bytes, &mut parity).expect("buffers of the code's shape");
        bytes.extend(parity);
        let shards: Vec<&[u8]> = bytes.chunks_exact(len).collect();
        let Greeting::Device { vault, .. } = &self.greeting else {
            unreachable!("a device greets as one")
        };
        let stripe = Stripe {
            vault: vault.verify().expect("signed by its operator").vault,
            codec: CODEC_REED_SOLOMON,
            k: k as u16,
            n: n as u16,
            shard_len: len as u32,
            shards: shards.iter().map(|bytes| ShardId(*blake3::hash(bytes).as_bytes())).collect(),
        };
        let record = Record {
            stripe: stripe.clone(),
            session: self.session,
            policy: self.policy.clone(),
            holders: holders.iter().map(|&node| self.nodes[node]).collect(),
            version: 1,
            device: self.key.public().into(),
        };
        record.check().expect("a stripe of holders that differ");
        let record = Signed::sign(&record, &self.key);
        for (index, (&node, bytes)) in holders.iter().zip(shards).enumerate() {
            let (record, bytes) = (record.clone(), bytes.to_vec());
            self.add(node, Task::Put { record, index: index as u16, bytes });
        }
        self.append(Body::Index { session: self.session, stripes: vec![stripe.id()] });
        Stored { stripe, holders: holders.to_vec(), len: data.len() }
    }

    fn append(&mut self, body: Body) {
        let Greeting::Device { device, .. } = &self.greeting else {
            unreachable!("a device greets as one")
        };
        let seq = self.log.len() as u64;
        let entry = Entry {
            vault: device.verify().expect("signed by its vault").vault,
            device: self.key.public().into(),
            seq,
            previous: self.log.last().map(entry_id),
            claimed: EPOCH,
            body,
        };
        self.log.push(Signed::sign(&entry, &self.key));
        for node in 0..self.channels.len() {
            self.add(node, Task::Append(seq));
        }
    }

    /// Gives up whatever is not answered yet: its host is gone.
    pub(crate) fn retire(&mut self) {
        for channel in &mut self.channels {
            channel.tasks.clear();
        }
    }

    /// Says something to a node, on the device's link.
    pub(crate) fn say(&mut self, node: usize, request: Request) {
        self.add(node, Task::Say(Box::new(request)));
    }

    /// Asks one holder for its shard.
    pub(crate) fn fetch(&mut self, stored: &Stored, node: usize) {
        if let Some(index) = stored.holders.iter().position(|&holder| holder == node) {
            let shard = stored.stripe.shards[index];
            self.add(node, Task::Get { shard, len: stored.stripe.shard_len });
        }
    }

    /// The data, if enough shards of it were fetched.
    #[must_use]
    pub fn assemble(&self, stored: &Stored) -> Option<Vec<u8>> {
        let Stripe { k, n, shard_len, shards, .. } = &stored.stripe;
        let mut buffers: Vec<(Vec<u8>, bool)> = shards
            .iter()
            .map(|shard| match self.fetched.get(shard) {
                Some(bytes) => (bytes.clone(), true),
                None => (vec![0; *shard_len as usize], false),
            })
            .collect();
        let mut slots: Vec<Slot<'_>> =
            buffers.iter_mut().map(|(bytes, present)| Slot { bytes, present: *present }).collect();
        Codec::new(usize::from(*k), usize::from(*n)).ok()?.reconstruct(&mut slots).ok()?;
        let mut data: Vec<u8> =
            buffers.into_iter().take(usize::from(*k)).flat_map(|(bytes, _)| bytes).collect();
        data.truncate(stored.len);
        Some(data)
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn add(&mut self, node: usize, task: Task) {
        self.channels[node].tasks.push_back(task);
        self.advance(node);
    }

    /// Does what is next with a node.
    fn advance(&mut self, node: usize) {
        let channel = &mut self.channels[node];
        let Some(task) = channel.tasks.front() else { return };
        match channel.line {
            Line::Idle => {
                channel.line = Line::Dialing;
                self.actions.push_back(Action::Dial(node));
            }
            Line::Ready(link) => {
                let (request, raw) = match task {
                    Task::Introduce => (Request::Introduce(self.papers.clone()), Vec::new()),
                    Task::Put { record, index, bytes } => {
                        let (record, len) = (record.clone(), bytes.len() as u32);
                        (Request::Put { record, index: *index, len }, bytes.clone())
                    }
                    Task::Append(seq) => {
                        (Request::Append(self.log[*seq as usize].clone()), Vec::new())
                    }
                    Task::Say(request) => ((**request).clone(), Vec::new()),
                    Task::Get { shard, len } => {
                        (Request::Get { shard: *shard, offset: 0, len: *len }, Vec::new())
                    }
                };
                channel.line = Line::Asked(link);
                let frame = Frame::new(request.encode()).followed_by(raw);
                self.actions.push_back(Action::Send { link, frame });
            }
            Line::Dialing | Line::Greeting(_) | Line::Asked(_) | Line::Waiting(..) => {}
        }
    }

    fn wait(&mut self, node: usize, until: Mono, link: Option<LinkId>) {
        self.channels[node].line = Line::Waiting(until, link);
        self.actions.push_back(Action::WakeAt(until));
    }

    fn node_on(&self, link: LinkId) -> Option<usize> {
        self.channels.iter().position(|channel| channel.line.link() == Some(link))
    }

    pub(crate) fn handle_connected(&mut self, node: usize, link: LinkId) {
        self.channels[node].line = Line::Greeting(link);
        let frame = Frame::new(self.greeting.encode());
        self.actions.push_back(Action::Send { link, frame });
    }

    pub(crate) fn handle_dial_failed(&mut self, now: Mono, node: usize) {
        self.wait(node, now.after(REDIAL), None);
    }

    pub(crate) fn handle_disconnected(&mut self, now: Mono, link: LinkId) {
        if let Some(node) = self.node_on(link) {
            self.wait(node, now.after(REDIAL), None);
        }
    }

    pub(crate) fn handle_wake(&mut self, now: Mono) {
        for node in 0..self.channels.len() {
            if let Line::Waiting(until, link) = self.channels[node].line
                && until <= now
            {
                self.channels[node].line = link.map_or(Line::Idle, Line::Ready);
                self.advance(node);
            }
        }
    }

    pub(crate) fn handle_response(
        &mut self,
        now: Mono,
        link: LinkId,
        answer: Response,
        raw: Vec<u8>,
    ) {
        let Some(node) = self.node_on(link) else { return };
        match (self.channels[node].line, answer) {
            (Line::Greeting(_), Response::Welcome { .. }) => {}
            (Line::Greeting(_), other) => {
                self.refusals.push((node, refusal(other)));
                return;
            }
            (Line::Asked(_), Response::Busy { retry_after }) => {
                self.wait(node, now.after(retry_after), Some(link));
                return;
            }
            (Line::Asked(_), answer) => self.settle(node, answer, raw),
            _ => return,
        }
        self.channels[node].line = Line::Ready(link);
        self.advance(node);
    }

    /// Takes the answer to the first task of a node.
    fn settle(&mut self, node: usize, answer: Response, raw: Vec<u8>) {
        let Some(task) = self.channels[node].tasks.pop_front() else { return };
        match (task, answer) {
            (Task::Introduce, Response::Done) => {}
            (Task::Put { record, index, .. }, Response::Receipt(receipt)) => {
                match self.check_receipt(node, &record, index, &receipt) {
                    Some(receipt) => {
                        self.receipts.insert((receipt.stripe, index), receipt);
                    }
                    None => self.refusals.push((node, wrong("a receipt for something else"))),
                }
            }
            (Task::Append(seq), Response::Appended(ack)) => {
                let id = entry_id(&self.log[seq as usize]);
                match ack.verify() {
                    Ok(ack) if ack.entry == id && ack.holder == self.nodes[node] => {
                        self.acks.insert((id, node), ack);
                    }
                    _ => self.refusals.push((node, wrong("an ack for something else"))),
                }
            }
            (Task::Append(seq), Response::Behind { next }) => {
                for seq in (next.min(seq)..=seq).rev() {
                    self.channels[node].tasks.push_front(Task::Append(seq));
                }
            }
            (Task::Get { shard, .. }, Response::Bytes { .. }) => {
                if blake3::hash(&raw).as_bytes() == shard.as_bytes() {
                    self.fetched.insert(shard, raw);
                } else {
                    self.refusals.push((node, wrong("the bytes are another shard's")));
                }
            }
            (Task::Say(_), answer) => self.said.push((node, answer)),
            (_, other) => self.refusals.push((node, refusal(other))),
        }
    }

    fn check_receipt(
        &self,
        node: usize,
        record: &Signed<Record>,
        index: u16,
        receipt: &Signed<Receipt>,
    ) -> Option<Receipt> {
        let record = record.verify().ok()?;
        let receipt = receipt.verify().ok()?;
        let fits = receipt.holder == self.nodes[node]
            && receipt.stripe == record.stripe.id()
            && receipt.index == index
            && receipt.shard == record.stripe.shards[usize::from(index)]
            && receipt.keep >= record.policy.lock.period;
        fits.then_some(receipt)
    }
}

fn wrong(text: &str) -> Refusal {
    Refusal { code: RefusalCode::Malformed, text: text.into() }
}

fn refusal(answer: Response) -> Refusal {
    match answer {
        Response::Refused(refusal) => refusal,
        _ => wrong("an answer to another question"),
    }
}
