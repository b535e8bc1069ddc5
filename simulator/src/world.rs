//! Virtual time, and what happens in it: events in the order of their time, those of one time in the
//! order in which they were caused.

use crate::client::{Action, Client, Stored};
use crate::disk::{Disk, DiskConfig};
use crate::host::{Host, Raw, resolve};
use crate::network::{End, Exchange, Fate, Frame, Network};
use crate::random::Random;
use crate::setup::{EPOCH, Setup};
use crate::trace::Trace;
use protocol::Peer;
use protocol::audit::prove_bytes;
use protocol::codec::{CodecError, VALUE_LEN_MAX, decode};
use protocol::id::{EntryId, NodeId, PublicKey, ShardId};
use protocol::label::{Label, Site};
use protocol::message::{
    Greeting, HeldRecord, KIND_GREETING, KIND_REQUEST, KIND_RESPONSE, Refusal, RefusalCode,
    Request, Response,
};
use protocol::peer::{CallId, Facts, Input, LaneId, LinkId, Output, Pieces, Table};
use protocol::policy::Policy;
use protocol::time::{Mono, Now, Period};
use std::collections::{BTreeMap, BTreeSet};

/// A node promised something that is not on its disk, or dropped it too early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenPromise {
    /// A shard.
    #[error("node {node} gave a receipt for shard {shard} and does not have it")]
    Shard {
        /// Who promised.
        node: usize,
        /// What.
        shard: ShardId,
    },
    /// A log entry.
    #[error("node {node} countersigned entry {seq}, {entry}, and does not have it")]
    Entry {
        /// Who promised.
        node: usize,
        /// The entry's number.
        seq: u64,
        /// What.
        entry: EntryId,
    },
    /// A shard was dropped while its lock lasted.
    #[error("node {node} dropped shard {shard} {early} before its lock ended")]
    Dropped {
        /// Who.
        node: usize,
        /// What.
        shard: ShardId,
        /// How much too early, by true time.
        early: Period,
    },
}

#[derive(Debug)]
enum Event {
    /// A dialed connection is up, or the dial comes to nothing.
    Dialed { from: End, start: u64, node: usize, expected: NodeId, lost: bool },
    /// A message arrives.
    Arrives { to: End, link: LinkId, lane: LaneId, frame: Frame },
    /// Both ends notice that a connection is gone.
    Broken(LinkId),
    /// The bytes behind a put are all there.
    Received { node: usize, start: u64, lane: LaneId },
    /// A node's oldest write is durable.
    Durable { node: usize, start: u64 },
    /// The file of a shard is gone.
    Removed { node: usize, start: u64, shard: ShardId },
    /// A node wanted to be woken.
    Wake { node: usize, start: u64 },
    /// A client did.
    WakeClient(usize),
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    seed: u64,
    now: Mono,
    random: Random,
    queue: BTreeMap<(Mono, u64), Event>,
    caused: u64,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    network: Network,
    disk: DiskConfig,
    trace: Trace,
    /// When the locks of shards end by true time, as their records say, from when they came.
    locked: BTreeMap<(usize, ShardId), Mono>,
    /// What was dropped, whenever.
    dropped: BTreeSet<(usize, ShardId)>,
    early: Option<BrokenPromise>,
}

impl World {
    /// The world in which everything starts at time 0.
    #[must_use]
    pub fn new(seed: u64, setup: &Setup) -> Self {
        let mut world = Self {
            seed,
            now: Mono(0),
            random: Random::new(seed),
            queue: BTreeMap::new(),
            caused: 0,
            hosts: (0..setup.nodes.len()).map(|index| Host::new(setup, index)).collect(),
            clients: Vec::new(),
            network: Network::new(setup.network.clone()),
            disk: setup.disk.clone(),
            trace: Trace::default(),
            locked: BTreeMap::new(),
            dropped: BTreeSet::new(),
            early: None,
        };
        for node in 0..world.hosts.len() {
            world.start(node);
        }
        world
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Mono {
        self.now
    }

    /// What happened.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The world's dice, for data and choices that shall depend on the seed.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// How many nodes there are, or were.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.hosts.len()
    }

    /// A node as placement sees it.
    #[must_use]
    pub fn site(&self, node: usize) -> &Site {
        &self.hosts[node].site
    }

    /// A node's disk.
    #[must_use]
    pub fn disk(&self, node: usize) -> &Disk {
        &self.hosts[node].disk
    }

    /// A client.
    #[must_use]
    pub fn client(&self, client: usize) -> &Client {
        &self.clients[client]
    }

    /// Whether a node runs.
    #[must_use]
    pub fn is_up(&self, node: usize) -> bool {
        self.hosts[node].peer.is_some()
    }

    /// The nodes that a node knows durably, itself included.
    #[must_use]
    pub fn members_known(&self, node: usize) -> usize {
        let rows = self.hosts[node].disk.facts().scan(Table::Member, &[], None, usize::MAX);
        rows.map_or(0, |rows| rows.len())
    }

    /// Starts a node that is down, on what its disk holds. A node that vanished stays away.
    pub fn start(&mut self, node: usize) {
        if self.is_up(node) || self.hosts[node].vanished {
            return;
        }
        self.trace.add(self.now, format_args!("node {node} starts"));
        let now = self.peer_now();
        self.hosts[node].start(now);
        self.drive(node);
    }

    /// Stops a node in the middle of whatever it does.
    pub fn crash(&mut self, node: usize) {
        self.trace.add(self.now, format_args!("node {node} crashes"));
        self.hosts[node].stop();
        for link in self.network.links_of(End::Node(node)) {
            self.lose(link);
        }
    }

    /// All nodes with this label are gone for good, disks and all.
    pub fn vanish(&mut self, label: &Label) {
        for node in 0..self.hosts.len() {
            if self.hosts[node].site.labels.get(&label.level) == Some(&label.name) {
                self.crash(node);
                self.hosts[node].disk = Disk::default();
                self.hosts[node].vanished = true;
            }
        }
    }

    /// Adds a device with a vault of its own, vouched for by the operator of node 0, whose roster
    /// lists all nodes. It introduces itself at once.
    pub fn add_client(&mut self, setup: &Setup, policy: Policy) -> usize {
        let client = self.clients.len();
        let roster = self.hosts.iter().map(|host| host.certificate().clone()).collect();
        let operator = &setup.nodes[0].operator;
        self.clients.push(Client::new(&client.to_string(), operator, roster, policy));
        self.act(client);
        client
    }

    /// Has a client put data away: any `k` shards give it back, one at each of `holders`.
    pub fn back_up(&mut self, client: usize, data: &[u8], k: usize, holders: &[usize]) -> Stored {
        let stored = self.clients[client].back_up(data, k, holders);
        self.act(client);
        stored
    }

    /// Has a client ask a holder for its shard.
    pub fn fetch(&mut self, client: usize, stored: &Stored, node: usize) {
        self.clients[client].fetch(stored, node);
        self.act(client);
    }

    /// Has a client say something to a node.
    pub fn say(&mut self, client: usize, node: usize, request: Request) {
        self.clients[client].say(node, request);
        self.act(client);
    }

    /// Has a client give up whatever nodes have not answered yet, for ever.
    pub fn retire(&mut self, client: usize) {
        self.clients[client].retire();
    }

    /// How many log entries a node has durably.
    #[must_use]
    pub fn entries(&self, node: usize) -> usize {
        let rows = self.hosts[node].disk.facts().scan(Table::Entry, &[], None, usize::MAX);
        rows.map_or(0, |rows| rows.len())
    }

    /// What nodes have dropped.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped.len()
    }

    /// Runs until something is so, at most for this long; whether it came to be.
    pub fn run_until(&mut self, within: Period, is_so: impl Fn(&Self) -> bool) -> bool {
        let deadline = self.now.after(within);
        while !is_so(self) {
            if !self.step(deadline) {
                return false;
            }
        }
        true
    }

    /// Runs for this long.
    pub fn run_for(&mut self, period: Period) {
        let deadline = self.now.after(period);
        while self.step(deadline) {}
    }

    /// Lets the next event happen, unless it lies behind the deadline; then time stands there.
    ///
    /// # Panics
    /// When a promise is broken: with the seed and the last events.
    fn step(&mut self, deadline: Mono) -> bool {
        let next = self.queue.first_entry().filter(|next| next.key().0 <= deadline);
        let Some(next) = next else {
            self.now = deadline;
            return false;
        };
        let ((at, _), event) = next.remove_entry();
        self.now = at;
        self.happen(event);
        if let Err(broken) = self.check_promises() {
            let tail: Vec<&str> = self.trace.tail().collect();
            panic!("seed {}: {broken}\n{}", self.seed, tail.join("\n"));
        }
        true
    }

    /// Checks that whatever clients were promised is on the disks of those who promised. (That the bytes
    /// are the right ones is checked by whoever reads them.)
    pub fn check_promises(&self) -> Result<(), BrokenPromise> {
        if let Some(broken) = &self.early {
            return Err(broken.clone());
        }
        for client in &self.clients {
            for receipt in client.receipts() {
                let shard = receipt.shard;
                for (node, host) in self.promising(receipt.holder) {
                    if self.dropped.contains(&(node, shard)) {
                        continue;
                    }
                    let row = host.disk.facts().get(Table::Held, shard.as_bytes());
                    if host.disk.shard(shard).is_none() || !matches!(row, Ok(Some(_))) {
                        return Err(BrokenPromise::Shard { node, shard });
                    }
                }
            }
            for (node, ack) in client.acks() {
                let (seq, entry) = (ack.seq, ack.entry);
                let key = [&ack.vault.0[..], &ack.device.0, &seq.to_be_bytes()].concat();
                let gone = self.hosts[node].vanished;
                let row = self.hosts[node].disk.facts().get(Table::Entry, &key);
                if !gone && !matches!(row, Ok(Some(_))) {
                    return Err(BrokenPromise::Entry { node, seq, entry });
                }
            }
        }
        Ok(())
    }

    fn promising(&self, holder: NodeId) -> impl Iterator<Item = (usize, &Host)> {
        let all = self.hosts.iter().enumerate();
        all.filter(move |(_, host)| host.site.node == holder && !host.vanished)
    }

    fn peer_now(&self) -> Now {
        Now { mono: self.now, wall: EPOCH.after(Period(self.now.0)) }
    }

    fn cause(&mut self, after: Period, event: Event) {
        self.cause_at(self.now.after(after), event);
    }

    fn cause_at(&mut self, at: Mono, event: Event) {
        self.caused += 1;
        self.queue.insert((at.max(self.now), self.caused), event);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Dialed { from, start, node, expected, lost } => {
                self.trace.add(now, format_args!("{from} dialed node {node}, lost: {lost}"));
                self.dialed(from, start, node, expected, lost);
            }
            Event::Arrives { to, link, lane, frame } => {
                if self.network.is_alive(link) {
                    let (link_id, lane_id) = (link.0, lane.0);
                    self.trace
                        .add(now, format_args!("{to}, link {link_id}, lane {lane_id}: {frame}"));
                    self.arrives(to, link, lane, frame);
                }
            }
            Event::Broken(link) => {
                self.trace.add(now, format_args!("link {} is gone", link.0));
                self.broken(link);
            }
            Event::Received { node, start, lane } => {
                if self.is_current(node, start) {
                    self.trace.add(now, format_args!("node {node} received, lane {}", lane.0));
                    self.received(node, lane);
                }
            }
            Event::Durable { node, start } => {
                if self.is_current(node, start)
                    && let Some(token) = self.hosts[node].disk.finish()
                {
                    self.trace.add(now, format_args!("node {node} has {token} durable"));
                    self.tell(node, Input::Persisted(token));
                }
            }
            Event::Removed { node, start, shard } => {
                if self.is_current(node, start) {
                    self.trace.add(now, format_args!("node {node} has removed {shard}"));
                    self.hosts[node].disk.remove(shard);
                    self.tell(node, Input::Dropped { shard, gone: true });
                }
            }
            Event::Wake { node, start } => {
                if self.is_current(node, start) {
                    self.trace.add(now, format_args!("node {node} wakes"));
                    self.wake(node);
                }
            }
            Event::WakeClient(client) => {
                self.clients[client].handle_wake(now);
                self.act(client);
            }
        }
    }

    fn is_current(&self, node: usize, start: u64) -> bool {
        self.is_up(node) && self.hosts[node].start == start
    }

    fn wake(&mut self, node: usize) {
        let now = self.peer_now();
        let host = &mut self.hosts[node];
        host.wake_at = None;
        if let Some(peer) = &mut host.peer
            && peer.poll_timeout() <= now.mono
        {
            peer.handle_timeout(now, host.disk.facts());
        }
        self.drive(node);
    }

    /// Tells a node what happened, and does what it wants done.
    fn tell(&mut self, node: usize, input: Input) {
        let now = self.peer_now();
        let Host { peer, disk, .. } = &mut self.hosts[node];
        if let Some(peer) = peer {
            peer.handle(now, disk.facts(), input);
            self.drive(node);
        }
    }

    fn drive(&mut self, node: usize) {
        while let Some(output) = self.hosts[node].peer.as_mut().and_then(Peer::poll_output) {
            self.put_out(node, output);
        }
        let host = &mut self.hosts[node];
        let Some(at) = host.peer.as_ref().map(Peer::poll_timeout) else { return };
        if host.wake_at.is_none_or(|planned| at < planned) {
            host.wake_at = Some(at);
            let start = host.start;
            self.cause_at(at, Event::Wake { node, start });
        }
    }

    fn put_out(&mut self, node: usize, output: Output) {
        let start = self.hosts[node].start;
        let end = End::Node(node);
        match output {
            Output::Reply { lane, response, close } => {
                self.answer(end, lane, &response, Vec::new(), close);
            }
            Output::Look { lane, shard, len } => {
                let bytes = self.hosts[node].disk.shard(shard);
                let whole = bytes.is_some_and(|bytes| bytes.len() == len as usize);
                self.tell(node, Input::Looked { lane, whole });
            }
            Output::Receive { lane, .. } => {
                let Fate::Arrives(takes) = self.network.fate(&mut self.random) else {
                    if let Some(exchange) = self.network.exchange(lane) {
                        self.lose(exchange.link);
                    }
                    return;
                };
                self.cause(takes, Event::Received { node, start, lane });
            }
            Output::Discard { lane, response, .. } => {
                self.hosts[node].raw.remove(&lane);
                self.hosts[node].disk.discard(lane);
                self.answer(end, lane, &response, Vec::new(), false);
            }
            Output::Transmit { lane, shard, offset, len } => {
                let bytes = self.hosts[node].disk.shard(shard);
                let range = offset as usize..offset as usize + len as usize;
                let bytes = bytes.and_then(|bytes| bytes.get(range)).map(<[u8]>::to_vec);
                let response = match bytes {
                    Some(_) => Response::Bytes { len },
                    None => Response::refused(RefusalCode::Damaged, "not on this disk"),
                };
                self.answer(end, lane, &response, bytes.unwrap_or_default(), false);
            }
            Output::Prove { lane, pieces } => {
                let disk = &self.hosts[node].disk;
                let prove = |pieces: Option<Pieces>| {
                    let Pieces { shard, groups, .. } = pieces?;
                    prove_bytes(shard, &groups, disk.shard(shard)?).ok()
                };
                let proofs = pieces.into_iter().map(prove).collect();
                self.tell(node, Input::Proved { lane, proofs });
            }
            Output::Persist { token, writes, shard } => {
                let takes = self.random.between(self.disk.write_min, self.disk.write_max);
                if let Some((_, shard, note)) = &shard {
                    self.lock(node, *shard, note);
                }
                let shard = shard.map(|(lane, shard, _)| (lane, shard));
                let at = self.hosts[node].disk.begin(self.now, takes, token, writes, shard);
                self.cause_at(at, Event::Durable { node, start });
            }
            Output::Drop { shard, .. } => {
                self.check_drop(node, shard);
                let takes = self.random.between(self.disk.write_min, self.disk.write_max);
                self.cause(takes, Event::Removed { node, start, shard });
            }
            Output::Dial { node: expected, addresses } => {
                if self.hosts[node].dialing.insert(expected) {
                    match resolve(&addresses) {
                        Some(target) => self.dial(end, start, target, expected),
                        None => self.dial_failed(end, expected),
                    }
                }
            }
            Output::Greet { call, link, greeting } => {
                self.ask(end, link, Some(call), Frame::new(greeting.encode()));
            }
            Output::Call { call, link, request } => {
                self.ask(end, link, Some(call), Frame::new(request.encode()));
            }
            Output::Close { link } => self.cause(Period(0), Event::Broken(link)),
            Output::Note(_) => {}
        }
    }

    /// A shard has come, with what its file says of it.
    fn lock(&mut self, node: usize, shard: ShardId, note: &[u8]) {
        let note: Result<HeldRecord, _> = decode(note, VALUE_LEN_MAX);
        let record = note.ok().and_then(|note| note.record.verify().ok());
        let period = record.expect("a file says what it is").policy.lock.period;
        self.dropped.remove(&(node, shard));
        self.locked.insert((node, shard), self.now.after(period));
    }

    /// A node drops a shard: not one that is locked, whatever came and whatever its clock says.
    fn check_drop(&mut self, node: usize, shard: ShardId) {
        let until = self.locked.get(&(node, shard)).copied().unwrap_or(Mono(u64::MAX));
        if self.now < until {
            let early = Period(until.0 - self.now.0);
            self.early.get_or_insert(BrokenPromise::Dropped { node, shard, early });
        }
        self.dropped.insert((node, shard));
    }

    fn act(&mut self, client: usize) {
        while let Some(action) = self.clients[client].poll_action() {
            match action {
                Action::Dial(node) => {
                    let expected = self.hosts[node].site.node;
                    self.dial(End::Client(client), 0, node, expected);
                }
                Action::Send { link, frame } => self.ask(End::Client(client), link, None, frame),
                Action::WakeAt(at) => self.cause_at(at, Event::WakeClient(client)),
            }
        }
    }

    fn dial(&mut self, from: End, start: u64, node: usize, expected: NodeId) {
        let (takes, lost) = match self.network.fate(&mut self.random) {
            Fate::Arrives(takes) => (takes, false),
            Fate::Lost => (self.network.config.give_up, true),
        };
        self.cause(takes, Event::Dialed { from, start, node, expected, lost });
    }

    fn dialed(&mut self, from: End, start: u64, node: usize, expected: NodeId, lost: bool) {
        if let End::Node(dialer) = from {
            if !self.is_current(dialer, start) {
                return;
            }
            self.hosts[dialer].dialing.remove(&expected);
        }
        let there = self
            .hosts
            .get(node)
            .is_some_and(|host| host.peer.is_some() && host.site.node == expected);
        if lost || !there || from == End::Node(node) {
            self.dial_failed(from, expected);
            return;
        }
        let link = self.network.connect([from, End::Node(node)]);
        let key = self.key_of(from);
        self.tell(node, Input::Connected { link, key, outbound: false });
        match from {
            End::Node(dialer) => {
                let key = expected.key();
                self.tell(dialer, Input::Connected { link, key, outbound: true });
            }
            End::Client(client) => {
                self.clients[client].handle_connected(node, link);
                self.act(client);
            }
        }
    }

    fn dial_failed(&mut self, from: End, expected: NodeId) {
        match from {
            End::Node(dialer) => {
                self.hosts[dialer].dialing.remove(&expected);
                self.tell(dialer, Input::DialFailed(expected));
            }
            End::Client(client) => {
                let node = self.hosts.iter().position(|host| host.site.node == expected);
                if let Some(node) = node {
                    self.clients[client].handle_dial_failed(self.now, node);
                    self.act(client);
                }
            }
        }
    }

    fn key_of(&self, end: End) -> PublicKey {
        match end {
            End::Node(node) => self.hosts[node].site.node.key(),
            End::Client(client) => self.clients[client].public(),
        }
    }

    /// Opens a stream and sends the first message on it.
    fn ask(&mut self, asker: End, link: LinkId, call: Option<CallId>, frame: Frame) {
        let lane = self.network.open(Exchange { link, asker, call });
        match self.network.other_end(link, asker) {
            Some(to) => self.send(to, link, lane, frame),
            // The asker hears nothing until it gives the connection up.
            None if self.network.seems_alive(link) => {}
            None => self.unanswered(lane),
        }
    }

    fn unanswered(&mut self, lane: LaneId) {
        let Some(Exchange { asker, call, .. }) = self.network.close(lane) else { return };
        if let (End::Node(node), Some(call)) = (asker, call) {
            self.tell(node, Input::Answer { call, response: None });
        }
    }

    /// Sends the answer of an exchange, if its connection still carries any.
    fn answer(&mut self, end: End, lane: LaneId, response: &Response, raw: Vec<u8>, close: bool) {
        let Some(Exchange { link, .. }) = self.network.exchange(lane) else { return };
        if let Some(to) = self.network.other_end(link, end) {
            let frame = Frame::new(response.encode()).followed_by(raw);
            self.send(to, link, lane, frame);
        }
        if close {
            self.cause(self.network.config.quality.latency_max, Event::Broken(link));
        }
    }

    fn send(&mut self, to: End, link: LinkId, lane: LaneId, frame: Frame) {
        match self.network.fate(&mut self.random) {
            Fate::Arrives(takes) => self.cause(takes, Event::Arrives { to, link, lane, frame }),
            Fate::Lost => self.lose(link),
        }
    }

    /// The connection is dead from now on; its ends notice when they give up.
    fn lose(&mut self, link: LinkId) {
        if self.network.kill(link) {
            self.cause(self.network.config.give_up, Event::Broken(link));
        }
    }

    fn arrives(&mut self, to: End, link: LinkId, lane: LaneId, frame: Frame) {
        let Frame { kind, body, raw } = frame;
        let malformed = match (to, kind) {
            (End::Node(node), KIND_GREETING) => Greeting::decode(&body).map(|greeting| {
                let greeting = Box::new(greeting);
                self.tell(node, Input::Greeting { link, lane, greeting });
            }),
            (End::Node(node), KIND_REQUEST) => Request::decode(&body).map(|request| {
                if matches!(request, Request::Put { .. }) {
                    self.hosts[node].raw.insert(lane, Raw { link, bytes: raw });
                }
                let request = Box::new(request);
                self.tell(node, Input::Request { link, lane, request });
            }),
            (_, KIND_RESPONSE) => Response::decode(&body).map(|response| {
                self.answered(to, link, lane, response, raw);
            }),
            (_, kind) => Err(CodecError::Malformed(format!("a frame of kind {kind}"))),
        };
        if let (End::Node(node), Err(error)) = (to, malformed) {
            self.tell(node, Input::Malformed { link, reason: error.to_string() });
        }
    }

    fn answered(&mut self, to: End, link: LinkId, lane: LaneId, response: Response, raw: Vec<u8>) {
        let Some(Exchange { call, .. }) = self.network.close(lane) else { return };
        match (to, call) {
            (End::Node(node), Some(call)) => {
                let response = Some(Box::new(response));
                self.tell(node, Input::Answer { call, response });
            }
            (End::Client(client), _) => {
                self.clients[client].handle_response(self.now, link, response, raw);
                self.act(client);
            }
            (End::Node(_), None) => {}
        }
    }

    fn received(&mut self, node: usize, lane: LaneId) {
        if let Some(Raw { bytes, .. }) = self.hosts[node].raw.remove(&lane) {
            let shard = ShardId(*blake3::hash(&bytes).as_bytes());
            self.hosts[node].disk.receive(lane, bytes);
            self.tell(node, Input::Received { lane, shard });
        }
    }

    fn broken(&mut self, link: LinkId) {
        let Some((ends, lost)) = self.network.remove(link) else { return };
        for end in ends {
            match end {
                End::Node(node) => self.disconnect(node, link),
                End::Client(client) => {
                    self.clients[client].handle_disconnected(self.now, link);
                    self.act(client);
                }
            }
        }
        for Exchange { asker, call, .. } in lost {
            if let (End::Node(node), Some(call)) = (asker, call) {
                self.tell(node, Input::Answer { call, response: None });
            }
        }
    }

    /// Tells a node that a connection is gone, and with it the bytes that were arriving.
    fn disconnect(&mut self, node: usize, link: LinkId) {
        let raw = &self.hosts[node].raw;
        let cut: Vec<LaneId> =
            raw.iter().filter(|(_, raw)| raw.link == link).map(|(&lane, _)| lane).collect();
        for lane in cut {
            self.hosts[node].raw.remove(&lane);
            let refusal =
                Refusal { code: RefusalCode::Internal, text: "the connection ended".into() };
            self.tell(node, Input::ReceiveFailed { lane, refusal });
        }
        self.tell(node, Input::Disconnected(link));
    }
}
