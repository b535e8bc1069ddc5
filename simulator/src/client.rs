//! A device that backs up and reads back: a script of requests for each node, repeated until each is
//! answered. All requests are such that asking twice does no harm.
//!
//! In the manner of a peer: the world tells what happened (`handle_*`) and takes what is to be done
//! ([`Client::poll_action`]).

use crate::network::Frame;
use crate::setup::{EPOCH, VALIDITY, key};
use crate::succession::word_for;
use protocol::certificate::{
    DeviceCertificate, NodeCertificate, Roster, VaultDescriptor, VaultPapers,
};
use protocol::codec::Blob;
use protocol::erasure::{Codec, Slot};
use protocol::id::{DeviceId, EntryId, NodeId, PublicKey, SessionId, ShardId, StripeId, VaultId};
use protocol::log::{Body, Entry, EntryAck, entry_id};
use protocol::message::{Greeting, Refusal, RefusalCode, Request, Response};
use protocol::peer::LinkId;
use protocol::policy::Policy;
use protocol::record::{CODEC_REED_SOLOMON, Receipt, Record, Stripe};
use protocol::sign::{SecretKey, Signed};
use protocol::succession::Speaker;
use protocol::time::{Mono, Period};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// How long a client waits before it dials again.
const REDIAL: Period = Period::seconds(2);
/// How long a client waits that was turned away.
const REFUSED: Period = Period::seconds(600);
/// Longest wait between two dials of a node that does not answer.
const REDIAL_MAX: Period = Period::seconds(1800);

/// What a client asks the world to do.
#[derive(Debug)]
pub(crate) enum Action {
    Dial(usize),
    Send { link: LinkId, frame: Frame },
    WakeAt(Mono),
}

/// A client's answer to something of that number was settled.
#[derive(Debug)]
pub(crate) enum Report {
    /// A holder's promise for a shard, as the client believes it.
    Receipt { node: usize, receipt: Receipt, asked: Rc<Record> },
    /// A holder's countersignature, as the client believes it.
    Ack { ack: EntryAck },
    /// A holder says for how long stripes are locked.
    Extended { stripes: Vec<StripeId>, locked: Vec<Option<Period>>, node: usize },
    /// What was answered to what was said.
    Said { node: usize, response: Response },
    /// Refused for good.
    Refused { node: usize, refusal: Refusal },
}

#[derive(Debug, Clone)]
enum Task {
    Introduce,
    /// Extend the locks of these.
    Extend(Vec<StripeId>),
    Put {
        record: Signed<Record>,
        asked: Rc<Record>,
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
    tasks: VecDeque<(u64, Task)>,
    /// The node holds another history of this device's log: nothing can be appended there.
    is_forked: bool,
    /// Dials that came to nothing, one after the other.
    failed: u32,
}

/// One thing that was asked under a number is settled.
fn close(open: &mut BTreeMap<u64, usize>, purpose: u64) {
    if let Some(count) = open.get_mut(&purpose) {
        *count -= 1;
        if *count == 0 {
            open.remove(&purpose);
        }
    }
}

/// Bytes of a shard of a stripe with so much data, `k` of which are needed.
pub(crate) fn shard_len(data: usize, k: usize) -> usize {
    data.div_ceil(k).max(1).next_multiple_of(64)
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
    /// All nodes that there are.
    nodes: Rc<[NodeId]>,
    greeting: Greeting,
    papers: VaultPapers,
    policy: Policy,
    session: SessionId,
    /// To the nodes of which something may be asked.
    channels: BTreeMap<usize, Channel>,
    log: Vec<Signed<Entry>>,
    actions: VecDeque<Action>,
    /// Who gave a receipt for which shard.
    receipts: BTreeMap<(StripeId, u16), NodeId>,
    /// Who countersigned which entry.
    acks: BTreeSet<(EntryId, usize)>,
    fetched: BTreeMap<ShardId, Vec<u8>>,
    refusals: Vec<(usize, Refusal)>,
    reports: VecDeque<Report>,
    /// How much of what was asked under each number is not settled.
    open: BTreeMap<u64, usize>,
    /// The number under which things are asked.
    pub(crate) purpose: u64,
    /// Why it does not greet any more.
    pub(crate) turned_away: Option<Refusal>,
}

impl Client {
    /// A device of a vault, both with these names, which an operator vouches for by this key and whose roster lists some of these nodes.
    pub(crate) fn new(
        (name, device_name): (&str, &str),
        speaker: &Speaker,
        (nodes, roster): (Rc<[NodeId]>, Vec<Signed<NodeCertificate>>),
        policy: Policy,
    ) -> Self {
        let (vault, device) = (key("vault", name), key("device", device_name));
        let certificate = word_for(vault.public().into(), speaker);
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
        let channel = || Channel {
            line: Line::Idle,
            tasks: VecDeque::from([(0, Task::Introduce)]),
            is_forked: false,
            failed: 0,
        };
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
                device_name.as_bytes(),
            )),
            open: BTreeMap::from([(0, nodes.len())]),
            channels: (0..nodes.len()).map(|node| (node, channel())).collect(),
            nodes,
            log: Vec::new(),
            actions: VecDeque::new(),
            receipts: BTreeMap::new(),
            acks: BTreeSet::new(),
            fetched: BTreeMap::new(),
            refusals: Vec::new(),
            reports: VecDeque::new(),
            purpose: 0,
            turned_away: None,
        };
        let session = Body::Session { session: client.session, sealed_key: Blob(vec![0; 200]) };
        client.append(session);
        client
    }

    /// Its vault's operator vouches for it by another key now, which every node is to know before anything else.
    pub(crate) fn renew(&mut self, speaker: &Speaker) {
        let word = word_for(self.vault(), speaker);
        if let Greeting::Device { vault, .. } = &mut self.greeting {
            *vault = word.clone();
        }
        self.papers.certificate = word;
        for node in self.spoken_to() {
            let Some(channel) = self.channels.get_mut(&node) else { continue };
            // What is asked now is answered first.
            let is_asking = matches!(channel.line, Line::Asked(_));
            channel.tasks.insert(usize::from(is_asking), (0, Task::Introduce));
            *self.open.entry(0).or_default() += 1;
            self.advance(node);
        }
    }

    /// Whoever greets in this way, and asks for nothing of its own accord.
    pub(crate) fn greeting(mut self, greeting: Option<Greeting>, key: Option<SecretKey>) -> Self {
        self.greeting = greeting.unwrap_or(self.greeting);
        self.key = key.unwrap_or(self.key);
        self.log.clear();
        self.open.clear();
        self.actions.clear();
        for channel in self.channels.values_mut() {
            channel.tasks.clear();
            channel.line = Line::Idle;
        }
        self
    }

    pub(crate) fn vault(&self) -> VaultId {
        self.vault.public().into()
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.key.public().into()
    }

    pub(crate) fn greeting_of(&self) -> &Greeting {
        &self.greeting
    }

    pub(crate) fn papers(&self) -> &VaultPapers {
        &self.papers
    }

    pub(crate) fn log(&self) -> &[Signed<Entry>] {
        &self.log
    }

    /// Goes on from the first entries of another history.
    pub(crate) fn rewrite(&mut self, history: &[Signed<Entry>], body: Body) {
        self.log = history.to_vec();
        self.append(body);
    }

    /// Goes on from another history and an entry that nobody is sent, unless a node asks for it.
    pub(crate) fn keep_back(&mut self, history: &[Signed<Entry>], body: Body) {
        self.log = history.to_vec();
        self.log.push(self.entry(body));
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// The key of its vault, for whoever stole it.
    #[must_use]
    pub fn vault_key(&self) -> &SecretKey {
        &self.vault
    }

    /// The holders whose promises came, by stripe and place in it.
    pub fn receipts(&self) -> impl Iterator<Item = NodeId> {
        self.receipts.values().copied()
    }

    /// The nodes whose countersignatures came, entry by entry.
    pub fn acks(&self) -> impl Iterator<Item = usize> {
        self.acks.iter().map(|&(_, node)| node)
    }

    /// What was refused, and by which node.
    #[must_use]
    pub fn refusals(&self) -> &[(usize, Refusal)] {
        &self.refusals
    }

    /// Whether everything asked of a node has been answered.
    #[must_use]
    pub fn is_done_with(&self, node: usize) -> bool {
        self.channels.get(&node).is_none_or(|channel| channel.tasks.is_empty())
    }

    /// Whether everything asked has been answered.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.channels.values().all(|channel| channel.tasks.is_empty())
    }

    /// Puts data away as one stripe, any `k` of whose shards give it back, one at each of `holders`, and
    /// writes it into the log.
    ///
    /// # Panics
    /// When there are fewer holders than `k`, more than a stripe has shards, or too much data for one.
    pub(crate) fn back_up(&mut self, data: &[u8], k: usize, holders: &[usize]) -> Stored {
        let salt = self.log.len() as u64;
        let stored = self.put(data, salt, k, holders);
        self.append(Body::Index { session: self.session, stripes: vec![stored.stripe.id()] });
        stored
    }

    /// Names stripes in the log, by this entry.
    pub(crate) fn list(&mut self, stripes: Vec<StripeId>) -> EntryId {
        self.append(Body::Index { session: self.session, stripes });
        entry_id(&self.log[self.log.len() - 1])
    }

    /// The nodes that countersigned an entry.
    pub(crate) fn countersigned(&self, entry: EntryId) -> impl Iterator<Item = usize> {
        self.acks.range((entry, 0)..=(entry, usize::MAX)).map(|&(_, node)| node)
    }

    /// A record of a stripe, written anew.
    pub(crate) fn record(&self, stored: &Stored, policy: &Policy, version: u32) -> Signed<Record> {
        let record = Record {
            stripe: stored.stripe.clone(),
            session: self.session,
            policy: policy.clone(),
            holders: stored.holders.iter().map(|&node| self.nodes[node]).collect(),
            version,
            device: self.key.public().into(),
        };
        Signed::sign(&record, &self.key)
    }

    /// Puts data away as one stripe.
    pub(crate) fn put(&mut self, data: &[u8], salt: u64, k: usize, holders: &[usize]) -> Stored {
        let n = holders.len();
        let codec = Codec::new(k, n).expect("a code for the holders given");
        let len = shard_len(data.len(), k);
        let mut bytes = data.to_vec();
        // Sealed packs are padded with what looks random: no two stripes share a shard.
        bytes.resize(len * k, 0);
        let mut padding = blake3::Hasher::new_derive_key("strewn 2026-11 simulator padding v1");
        padding.update(&self.session.0).update(&salt.to_le_bytes());
        padding.finalize_xof().fill(&mut bytes[data.len()..]);
        let mut parity = vec![0; len * (n - k)];
        codec.encode(&bytes, &mut parity).expect("buffers of the code's shape");
        bytes.extend(parity);
        let shards: Vec<&[u8]> = bytes.chunks_exact(len).collect();
        let stripe = Stripe {
            vault: self.vault(),
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
        let (asked, record) = (Rc::new(record.clone()), Signed::sign(&record, &self.key));
        for (index, (&node, bytes)) in holders.iter().zip(shards).enumerate() {
            let (record, asked, bytes) = (record.clone(), asked.clone(), bytes.to_vec());
            self.add(node, Task::Put { record, asked, index: index as u16, bytes });
        }
        Stored { stripe, holders: holders.to_vec(), len: data.len() }
    }

    /// The next entry of its log.
    fn entry(&self, body: Body) -> Signed<Entry> {
        let entry = Entry {
            vault: self.vault(),
            device: self.key.public().into(),
            seq: self.log.len() as u64,
            previous: self.log.last().map(entry_id),
            claimed: EPOCH,
            body,
        };
        Signed::sign(&entry, &self.key)
    }

    pub(crate) fn append(&mut self, body: Body) {
        let seq = self.log.len() as u64;
        self.log.push(self.entry(body));
        for node in self.spoken_to() {
            self.add(node, Task::Append(seq));
        }
    }

    /// Gives up whatever is not answered yet: its host is gone.
    pub(crate) fn retire(&mut self) {
        for channel in self.channels.values_mut() {
            channel.tasks.clear();
        }
    }

    /// Says something to a node, on the device's link.
    pub(crate) fn say(&mut self, node: usize, request: Request) {
        self.add(node, Task::Say(Box::new(request)));
    }

    /// Asks a node for a shard.
    pub(crate) fn fetch_shard(&mut self, node: usize, shard: ShardId, len: u32) {
        self.add(node, Task::Get { shard, len });
    }

    /// Asks one holder for its shard.
    pub(crate) fn fetch(&mut self, stored: &Stored, node: usize) {
        if let Some(index) = stored.holders.iter().position(|&holder| holder == node) {
            let shard = stored.stripe.shards[index];
            self.fetch_shard(node, shard, stored.stripe.shard_len);
        }
    }

    /// Whether a shard was fetched.
    pub(crate) fn has(&self, shard: ShardId) -> bool {
        self.fetched.contains_key(&shard)
    }

    /// Whether so many shards of it were fetched that the data is here.
    pub(crate) fn is_read(&self, stored: &Stored) -> bool {
        let fetched = stored.stripe.shards.iter().filter(|shard| self.has(**shard));
        fetched.count() >= usize::from(stored.stripe.k)
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
        let Some(channel) = self.channels.get_mut(&node) else { return };
        if channel.is_forked && matches!(task, Task::Append(_)) {
            return;
        }
        *self.open.entry(self.purpose).or_default() += 1;
        channel.tasks.push_back((self.purpose, task));
        self.advance(node);
    }

    /// Whether everything that was asked under a number has been settled.
    pub(crate) fn is_settled(&self, purpose: u64) -> bool {
        !self.open.contains_key(&purpose)
    }

    /// Whether everything that was asked has been settled.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// A node is gone for good, or a client has done with it.
    pub(crate) fn leave(&mut self, node: usize) {
        self.leave_all(&BTreeSet::from([node]));
    }

    /// These are.
    pub(crate) fn leave_all(&mut self, nodes: &BTreeSet<usize>) {
        self.actions.retain(|action| !matches!(action, Action::Dial(to) if nodes.contains(to)));
        for node in nodes {
            let tasks = self.channels.remove(node).map(|channel| channel.tasks);
            for (purpose, _) in tasks.into_iter().flatten() {
                close(&mut self.open, purpose);
            }
        }
    }

    /// The nodes of which something may be asked.
    fn spoken_to(&self) -> Vec<usize> {
        self.channels.keys().copied().collect()
    }

    pub(crate) fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Asks a holder to extend locks.
    pub(crate) fn extend(&mut self, node: usize, stripes: Vec<StripeId>) {
        self.add(node, Task::Extend(stripes));
    }

    /// Forgets what was fetched.
    pub(crate) fn forget_fetched(&mut self) {
        self.fetched.clear();
    }

    /// Does what is next with a node.
    fn advance(&mut self, node: usize) {
        let Some(channel) = self.channels.get_mut(&node) else { return };
        let Some((_, task)) = channel.tasks.front() else { return };
        match channel.line {
            Line::Idle => {
                channel.line = Line::Dialing;
                self.actions.push_back(Action::Dial(node));
            }
            Line::Ready(link) => {
                let (request, raw) = match task {
                    Task::Introduce => (Request::Introduce(self.papers.clone()), Vec::new()),
                    Task::Put { record, index, bytes, .. } => {
                        let (record, len) = (record.clone(), bytes.len() as u32);
                        (Request::Put { record, index: *index, len }, bytes.clone())
                    }
                    Task::Append(seq) => {
                        (Request::Append(self.log[*seq as usize].clone()), Vec::new())
                    }
                    Task::Extend(stripes) => {
                        let vault = self.vault.public().into();
                        (Request::Extend { vault, stripes: stripes.clone() }, Vec::new())
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
        let Some(channel) = self.channels.get_mut(&node) else { return };
        channel.line = Line::Waiting(until, link);
        self.actions.push_back(Action::WakeAt(until));
    }

    fn node_on(&self, link: LinkId) -> Option<usize> {
        let is_on = |(_, channel): &(&usize, &Channel)| channel.line.link() == Some(link);
        self.channels.iter().find(is_on).map(|(node, _)| *node)
    }

    pub(crate) fn handle_connected(&mut self, node: usize, link: LinkId) {
        let Some(channel) = self.channels.get_mut(&node) else { return };
        (channel.line, channel.failed) = (Line::Greeting(link), 0);
        let frame = Frame::new(self.greeting.encode());
        self.actions.push_back(Action::Send { link, frame });
    }

    pub(crate) fn handle_dial_failed(&mut self, now: Mono, node: usize) {
        let Some(channel) = self.channels.get_mut(&node) else { return };
        channel.failed += 1;
        let wait = (REDIAL.0 << (channel.failed - 1).min(12)).min(REDIAL_MAX.0);
        self.wait(node, now.after(Period(wait)), None);
    }

    pub(crate) fn handle_disconnected(&mut self, now: Mono, link: LinkId) {
        if let Some(node) = self.node_on(link) {
            self.wait(node, now.after(REDIAL), None);
        }
    }

    pub(crate) fn handle_wake(&mut self, now: Mono) {
        let mut ready = Vec::new();
        for (node, channel) in &mut self.channels {
            if let Line::Waiting(until, link) = channel.line
                && until <= now
            {
                channel.line = link.map_or(Line::Idle, Line::Ready);
                ready.push(*node);
            }
        }
        for node in ready {
            self.advance(node);
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
        match (self.channels[&node].line, answer) {
            (Line::Greeting(_), Response::Welcome { .. }) => {}
            (Line::Greeting(_), response @ Response::Recovery { .. }) => {
                self.reports.push_back(Report::Said { node, response });
                self.leave(node);
                return;
            }
            (Line::Greeting(_), other) => {
                // Whoever is turned away comes again: a clock may be put right.
                self.turned_away = Some(refusal(other));
                self.wait(node, now.after(REFUSED), None);
                return;
            }
            (Line::Asked(_), Response::Busy { retry_after }) => {
                self.wait(node, now.after(retry_after), Some(link));
                return;
            }
            // What failed there may not fail again.
            (Line::Asked(_), Response::Refused(Refusal { code: RefusalCode::Internal, .. })) => {
                self.wait(node, now.after(REDIAL), Some(link));
                return;
            }
            (Line::Asked(_), answer) => self.settle(node, answer, raw),
            _ => return,
        }
        if let Some(channel) = self.channels.get_mut(&node) {
            channel.line = Line::Ready(link);
        }
        self.advance(node);
    }

    /// Takes the answer to the first task of a node.
    fn settle(&mut self, node: usize, answer: Response, raw: Vec<u8>) {
        let Some(channel) = self.channels.get_mut(&node) else { return };
        let Some((purpose, task)) = channel.tasks.pop_front() else { return };
        close(&mut self.open, purpose);
        match (task, answer) {
            (Task::Introduce, Response::Done) => {}
            (Task::Put { asked, index, .. }, Response::Receipt(receipt)) => {
                match receipt.verify() {
                    Ok(receipt) if receipt.check_for(&asked, index).is_ok() => {
                        self.receipts.insert((receipt.stripe, index), receipt.holder);
                        self.reports.push_back(Report::Receipt { node, receipt, asked });
                    }
                    _ => self.refuse(node, wrong("a receipt for something else")),
                }
            }
            (Task::Append(seq), Response::Appended(ack)) => {
                let id = entry_id(&self.log[seq as usize]);
                match ack.verify() {
                    Ok(ack) if ack.entry == id && ack.holder == self.nodes[node] => {
                        self.acks.insert((id, node));
                        self.reports.push_back(Report::Ack { ack });
                    }
                    _ => self.refuse(node, wrong("an ack for something else")),
                }
            }
            (Task::Append(seq), Response::Behind { next }) => {
                for seq in (next.min(seq)..=seq).rev() {
                    *self.open.entry(purpose).or_default() += 1;
                    channel.tasks.push_front((purpose, Task::Append(seq)));
                }
            }
            (Task::Extend(mut stripes), Response::Extended(locked)) => {
                let rest = stripes.split_off(locked.len().min(stripes.len()));
                if !rest.is_empty() && !stripes.is_empty() {
                    *self.open.entry(purpose).or_default() += 1;
                    channel.tasks.push_front((purpose, Task::Extend(rest)));
                }
                self.reports.push_back(Report::Extended { stripes, locked, node });
            }
            (Task::Get { shard, .. }, Response::Bytes { .. }) => {
                if blake3::hash(&raw).as_bytes() == shard.as_bytes() {
                    self.fetched.insert(shard, raw);
                } else {
                    self.refuse(node, wrong("the bytes are another shard's"));
                }
            }
            (Task::Say(_), response) => {
                self.reports.push_back(Report::Said { node, response });
            }
            (Task::Append(_), Response::Refused(refusal)) if refusal.code == RefusalCode::Fork => {
                channel.is_forked = true;
                let tasks = std::mem::take(&mut channel.tasks);
                let (appends, others): (Vec<_>, Vec<_>) =
                    tasks.into_iter().partition(|(_, task)| matches!(task, Task::Append(_)));
                channel.tasks = others.into();
                for (purpose, _) in appends {
                    close(&mut self.open, purpose);
                }
                self.refuse(node, refusal);
            }
            (_, other) => self.refuse(node, refusal(other)),
        }
    }

    fn refuse(&mut self, node: usize, refusal: Refusal) {
        self.reports.push_back(Report::Refused { node, refusal: refusal.clone() });
        self.refusals.push((node, refusal));
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
