//! Virtual time, and what happens in it: events in the order of their time, those of one time in the
//! order in which they were caused.

mod driver;
mod messages;
mod rebuild;

use crate::check::Checker;
use crate::client::{Client, Stored};
use crate::disk::Disk;
use crate::host::Host;
use crate::network::{End, Frame, Network};
use crate::owner::Owner;
use crate::plan::{Moment, What};
use crate::presence::Presence;
use crate::queue::Queue;
use crate::random::Random;
use crate::setup::Setup;
use crate::swap::Swaps;
use crate::trace::{Line, Trace};
use protocol::certificate::NodeCertificate;
use protocol::id::{NodeId, ShardId};
use protocol::label::{Label, Site};
use protocol::message::{Refusal, RefusalCode, Request};
use protocol::peer::{Facts, Input, LaneId, LinkId, Table, Write};
use protocol::planted::{Bug, is_planted};
use protocol::policy::Policy;
use protocol::sign::Signed;
use protocol::time::{Mono, Now, Period};
use rebuild::{Errand, Rebuilds};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

#[derive(Debug)]
pub(crate) enum Event {
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
    /// An owner's patience with what it began may be over.
    Owner(usize),
    /// Somebody is not dark any more.
    Lit,
    /// Somebody looks whether a node that leaves may.
    Leaving(usize),
    /// A question of a repair is asked again.
    Errand(Box<Errand>),
    /// Something of the plan.
    Do(Box<What>),
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    seed: u64,
    now: Mono,
    random: Random,
    queue: Queue<Event>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) clients: Vec<Client>,
    pub(crate) owners: Vec<Owner>,
    pub(crate) network: Network,
    pub(crate) rebuilds: Rebuilds,
    pub(crate) presence: Presence,
    /// How long nodes may be silent.
    pub(crate) patience: Period,
    trace: Trace,
    checker: Checker,
    /// When something of the plan last happened, or is over, that can be in the way of what people do.
    pub(crate) disturbed: Mono,
    /// When a node last left that might, and how many did. What it held is with others by then.
    pub(crate) departed: (Mono, u64),
    /// When nodes last came to lie elsewhere.
    pub(crate) relabelled: Option<Mono>,
    /// When nodes were gone for good.
    pub(crate) vanished: BTreeMap<usize, Mono>,
    /// What operators agreed, where they swap.
    pub(crate) swaps: Option<Swaps>,
    /// Attackers that wait.
    pub(crate) lurking: Vec<(Moment, What)>,
    /// Whether something cooled at some time.
    pub(crate) is_cooling: bool,
    /// The client leaves locks as they are: a bug that is planted.
    pub(crate) skips_extensions: bool,
    pub(crate) lost: Vec<(Period, String)>,
    pub(crate) restores: (u64, u64),
    messages: u64,
    bytes: u64,
    nodes: Rc<[NodeId]>,
    by_node: BTreeMap<NodeId, usize>,
}

impl World {
    /// The world in which everything starts at time 0.
    #[must_use]
    pub fn new(seed: u64, setup: &Setup) -> Self {
        let hosts: Vec<Host> =
            (0..setup.nodes.len()).map(|index| Host::new(setup, index)).collect();
        let mut world = Self {
            seed,
            now: Mono(0),
            random: Random::new(seed),
            queue: Queue::default(),
            nodes: hosts.iter().map(|host| host.site.node).collect(),
            by_node: hosts.iter().enumerate().map(|(i, host)| (host.site.node, i)).collect(),
            hosts,
            clients: Vec::new(),
            owners: Vec::new(),
            network: Network::new(setup.network.clone()),
            rebuilds: Rebuilds::default(),
            presence: Presence::default(),
            patience: setup.peer.patience,
            trace: Trace::default(),
            checker: Checker::default(),
            disturbed: Mono(0),
            departed: (Mono(0), 0),
            relabelled: None,
            vanished: BTreeMap::new(),
            swaps: None,
            lurking: Vec::new(),
            is_cooling: false,
            skips_extensions: is_planted(Bug::Extension),
            lost: Vec::new(),
            restores: (0, 0),
            messages: 0,
            bytes: 0,
        };
        let sites = world.hosts.iter().map(|host| host.site.clone());
        world.checker.sites = sites.enumerate().collect();
        world.links_of_setup(setup);
        world.begin_swaps(setup);
        for node in 0..world.hosts.len() {
            world.watch_clock(node);
            if !world.hosts[node].joins_later {
                world.start(node);
            }
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

    /// Shards that nodes rebuilt and others took.
    pub(crate) fn rebuilt_shards(&self) -> u64 {
        self.rebuilds.taken
    }

    /// Bytes of shards that were read and written for that.
    pub(crate) fn rebuilt_bytes(&self) -> (u64, u64) {
        self.rebuilds.moved
    }

    /// Whether any node repairs something.
    pub(crate) fn is_repairing(&self) -> bool {
        self.rebuilds.first().is_some()
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
        self.note_presence();
        self.note(format_args!("node {node} starts"));
        let is_booted = self.hosts[node].start == 0 || self.random.happens(500);
        self.checker.started(node, self.now);
        self.hosts[node].start(self.now, is_booted);
        self.drive(node);
    }

    /// Stops a node in the middle of whatever it does. Of what was being written a first part is durable, drawn.
    pub fn crash(&mut self, node: usize) {
        if !self.is_up(node) {
            return;
        }
        self.note_presence();
        self.note(format_args!("node {node} crashes"));
        let (drawn, pending) = (self.random.number(), self.hosts[node].disk.pending() as u64);
        let (durable, torn) = (drawn % (pending + 1), drawn / (pending + 1));
        for _ in 0..durable {
            if let Some(write) = self.hosts[node].disk.next() {
                self.keep(node, write.writes, write.shard);
            }
        }
        self.hosts[node].stop(torn);
        self.rebuilds.stop(node);
        for link in self.network.links_of(End::Node(node)) {
            self.lose(link);
        }
    }

    /// A node is gone for good, disk and all.
    pub(crate) fn vanish_node(&mut self, node: usize) {
        self.crash(node);
        self.hosts[node].disk = Disk::default();
        self.hosts[node].vanished = true;
        self.vanished.entry(node).or_insert(self.now);
        for client in 0..self.clients.len() {
            self.clients[client].leave(node);
        }
        for owner in 0..self.owners.len() {
            self.go_on(owner);
        }
    }

    /// All nodes with this label are gone for good, disks and all.
    pub fn vanish(&mut self, label: &Label) {
        for node in 0..self.hosts.len() {
            if self.hosts[node].site.labels.get(&label.level) == Some(&label.name) {
                self.vanish_node(node);
            }
        }
    }

    /// Adds a device with a vault of its own, vouched for by the operator of node 0, whose roster
    /// lists all nodes. It introduces itself at once.
    pub fn add_client(&mut self, setup: &Setup, policy: Policy) -> usize {
        let name = self.clients.len().to_string();
        let speaker = self.speaker(&setup.nodes[0].operator);
        let client = Client::new((&name, &name), &speaker, self.roster(&[]), policy);
        let client = self.join(client);
        self.act(client);
        client
    }

    /// A client is there.
    pub(crate) fn join(&mut self, mut client: Client) -> usize {
        for (node, host) in self.hosts.iter().enumerate() {
            if host.vanished {
                client.leave(node);
            }
        }
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// All nodes, and the certificates of those that are not `outside`.
    pub(crate) fn roster(&self, outside: &[usize]) -> (Rc<[NodeId]>, Vec<Signed<NodeCertificate>>) {
        let outside: BTreeSet<usize> = outside.iter().copied().collect();
        let listed = self.hosts.iter().enumerate().filter(|(node, _)| !outside.contains(node));
        (self.nodes.clone(), listed.map(|(_, host)| host.certificate().clone()).collect())
    }

    pub(crate) fn node_of(&self, node: NodeId) -> Option<usize> {
        self.by_node.get(&node).copied()
    }

    pub(crate) fn checker(&mut self) -> &mut Checker {
        &mut self.checker
    }

    pub(crate) fn checker_ref(&self) -> &Checker {
        &self.checker
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.add(self.now, Line::Said(line.to_string()));
    }

    pub(crate) fn count_restore(&mut self, is_whole: bool) {
        if is_whole { self.restores.0 += 1 } else { self.restores.1 += 1 }
    }

    /// Messages delivered, and bytes that they carried.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        (self.messages, self.bytes)
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

    /// How many shards nodes have dropped.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.checker.dropped()
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
        let is_more = self.advance(deadline);
        if let Some((promise, text)) = &self.checker.broken {
            let tail: Vec<String> = self.trace.tail().collect();
            panic!("seed {}: {promise}: {text}\n{}", self.seed, tail.join("\n"));
        }
        is_more
    }

    /// As [`World::step`], and leaves what is broken to whoever asks.
    pub(crate) fn advance(&mut self, deadline: Mono) -> bool {
        let Some((at, event)) = self.queue.next(deadline) else {
            self.now = deadline;
            return false;
        };
        self.now = at;
        self.happen(event);
        true
    }

    fn now_at(&self, node: usize) -> Now {
        self.hosts[node].clock.read(self.now)
    }

    fn cause(&mut self, after: Period, event: Event) {
        self.cause_at(self.now.after(after), event);
    }

    pub(crate) fn cause_at(&mut self, at: Mono, event: Event) {
        self.queue.add(at.max(self.now), event);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Dialed { from, start, node, expected, lost } => {
                self.trace.add(now, Line::Dialed { from, node, lost });
                self.dialed(from, start, node, expected, lost);
            }
            Event::Arrives { to, link, lane, frame } => {
                if self.network.is_alive(link) {
                    self.messages += 1;
                    self.bytes += (frame.body.len() + frame.raw.len()) as u64;
                    self.trace.arrived(now, (to, link, lane), &frame);
                    self.arrives(to, link, lane, frame);
                }
            }
            Event::Broken(link) => {
                self.trace.add(now, Line::Broken(link));
                self.broken(link);
            }
            Event::Received { node, start, lane } => {
                if self.is_current(node, start) {
                    self.trace.add(now, Line::Received { node, lane });
                    self.received(node, lane);
                }
            }
            Event::Durable { node, start } => {
                if self.is_current(node, start)
                    && let Some(write) = self.hosts[node].disk.next()
                {
                    let token = write.token;
                    let fails = self.random.happens(self.hosts[node].fails_per_mille);
                    self.trace.add(now, Line::Durable { node, token, fails });
                    if fails {
                        self.hosts[node].disk.fail(write.shard);
                        let text = "the disk failed".into();
                        let refusal = Refusal { code: RefusalCode::Internal, text };
                        self.tell(node, Input::PersistFailed { token, refusal });
                    } else {
                        self.keep(node, write.writes, write.shard);
                        self.tell(node, Input::Persisted(token));
                    }
                    if self.hosts[node].is_honest() && self.hosts[node].disk.is_idle() {
                        self.checker.idle(node);
                    }
                }
            }
            Event::Removed { node, start, shard } => {
                if self.is_current(node, start) {
                    self.trace.add(now, Line::Removed { node, shard });
                    self.hosts[node].disk.remove(shard);
                    self.tell(node, Input::Dropped { shard, gone: true });
                }
            }
            Event::Wake { node, start } => {
                // Whoever was to be woken at another time since is woken then.
                if self.is_current(node, start) && self.hosts[node].wake_at == Some(now) {
                    self.trace.add(now, Line::Woken { node });
                    self.wake(node);
                }
            }
            Event::WakeClient(client) => {
                self.clients[client].handle_wake(now);
                self.act(client);
            }
            Event::Owner(owner) => self.go_on(owner),
            Event::Lit => self.note_presence(),
            Event::Leaving(node) => self.look_at_leaving(node),
            Event::Errand(errand) => self.repeat_errand(*errand),
            Event::Do(what) => self.carry_out(*what),
        }
    }

    fn is_current(&self, node: usize, start: u64) -> bool {
        self.is_up(node) && self.hosts[node].start == start
    }

    fn wake(&mut self, node: usize) {
        let now = self.now_at(node);
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
    pub(crate) fn tell(&mut self, node: usize, input: Input) {
        let now = self.now_at(node);
        let Host { peer, disk, .. } = &mut self.hosts[node];
        if let Some(peer) = peer {
            peer.handle(now, disk.facts(), input);
            self.drive(node);
        }
    }

    /// A node's clock was changed: it wakes by the new one.
    pub(crate) fn wake_anew(&mut self, node: usize) {
        self.hosts[node].wake_at = None;
        self.drive(node);
    }

    /// Rows and a shard are durable now.
    fn keep(&mut self, node: usize, writes: Vec<Write>, shard: Option<(LaneId, ShardId)>) {
        let host = &self.hosts[node];
        if host.is_honest() {
            self.checker.written(self.now, (node, host), &writes);
        }
        self.checker.logged(node, &writes);
        self.hosts[node].disk.keep(writes, shard);
    }
}
