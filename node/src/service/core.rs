//! The thread that owns the peer, and what is done with its outputs.

use super::Clock;
use super::hooks::Hooks;
use super::lane::{self, Order};
use super::reached::Reached;
use super::rebuild::{mend, rebuild};
use crate::address::ip_of;
use crate::home::read_signed;
use crate::net::{Counters, Gate, Net, NetEvent};
use crate::store::{Batch, Incoming, Store, StoreError};
use protocol::certificate::NodeCertificate;
use protocol::id::NodeId;
use protocol::message::{KIND_RESPONSE, Refusal, RefusalCode, Request, Response, frame_len_max};
use protocol::partner::PartnerList;
use protocol::peer::{Input, LaneId, LinkId, Output, Peer, Pieces};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

/// How often the peer is told the disk's free space, whether the node is to leave, who its operator's partners are, and how it is certified.
const SPACE_PERIOD: Duration = Duration::from_secs(5);

/// What the core is told.
pub(super) enum Event {
    Input(Input),
    LaneOpened(LaneId, UnboundedSender<Order>),
    LaneClosed(LaneId),
    /// A node was reached at an address.
    Reached(NodeId, IpAddr),
}

/// What the other side of a link may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// A stranger on its one lane, on which it sends greetings only, which are short.
    Greeting,
    /// It was greeted, or dialed because it is known.
    Vouched,
}

/// What lanes and core share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) net: Net,
    pub(super) events: Mutex<Sender<Event>>,
    /// Shards that have arrived and wait for the peer's word.
    pub(super) arrived: Mutex<BTreeMap<LaneId, Incoming>>,
    /// By which bulk bytes of repairs go in one direction at a time on a link.
    gates: Mutex<BTreeMap<LinkId, Arc<Gate>>>,
    /// What the other sides of links may do; who is not here yet has not begun to greet.
    standing: Mutex<BTreeMap<LinkId, Standing>>,
    lanes: AtomicU64,
    /// Whether files of dropped shards are to be removed.
    has_trash: AtomicBool,
}

impl Shared {
    pub(super) fn tell(&self, event: Event) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // The core ends with the process.
        let _ = events.send(event);
    }

    fn standing(&self) -> MutexGuard<'_, BTreeMap<LinkId, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn vouch(&self, link: LinkId) {
        self.standing().insert(link, Standing::Vouched);
    }

    pub(super) fn is_vouched(&self, link: LinkId) -> bool {
        self.standing().get(&link) == Some(&Standing::Vouched)
    }

    /// Whether a lane may be opened: strangers need one, and many of them with many each would fill
    /// the memory with greetings that never end.
    fn takes_lane(&self, link: LinkId) -> bool {
        match self.standing().entry(link) {
            Entry::Vacant(stranger) => {
                stranger.insert(Standing::Greeting);
                true
            }
            Entry::Occupied(known) => *known.get() == Standing::Vouched,
        }
    }

    pub(super) fn gate(&self, link: LinkId) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(link).or_default())
    }

    /// Keeps bytes that came on no lane until the peer has decided about them.
    pub(super) fn arrive(&self, incoming: Incoming) -> LaneId {
        let lane = LaneId(self.lanes.fetch_add(1, Ordering::Relaxed));
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).insert(lane, incoming);
        lane
    }

    pub(super) fn take_arrived(&self, lane: LaneId) -> Option<Incoming> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).remove(&lane)
    }
}

/// The handle of a running core.
pub(super) struct Core {
    shared: Arc<Shared>,
    runtime: Handle,
}

/// Files by which this host's operator tells the node something.
pub(super) struct Watched {
    /// There when the node is to leave.
    pub(super) leaves: PathBuf,
    /// The operator's list of partners.
    pub(super) partners: PathBuf,
    /// The node's certificate.
    pub(super) certificate: PathBuf,
}

pub(super) fn start(
    peer: Peer,
    store: Store,
    net: Net,
    hooks: Hooks,
    clock: Clock,
    runtime: Handle,
    watched: Watched,
) -> io::Result<Core> {
    let (events, inbox) = channel();
    let shared = Arc::new(Shared {
        store,
        net,
        events: Mutex::new(events),
        arrived: Mutex::default(),
        gates: Mutex::default(),
        standing: Mutex::default(),
        lanes: AtomicU64::new(0),
        has_trash: AtomicBool::new(false),
    });
    let machine = Machine {
        peer,
        shared: Arc::clone(&shared),
        lanes: BTreeMap::new(),
        hooks,
        clock,
        runtime: runtime.clone(),
        watched,
        reached: Reached::default(),
    };
    std::thread::Builder::new().name("strewn-peer".into()).spawn(move || machine.run(&inbox))?;
    Ok(Core { shared, runtime })
}

impl Core {
    pub(super) fn handle_event(&self, event: NetEvent) {
        match event {
            NetEvent::Listening(_) => {}
            NetEvent::Connected { link, key, outbound, address } => {
                if outbound {
                    self.shared.vouch(link);
                    if let Some(address) = ip_of(&address) {
                        self.shared.tell(Event::Reached(key.into(), address));
                    }
                }
                self.shared.tell(Event::Input(Input::Connected { link, key, outbound }));
            }
            NetEvent::Disconnected(link) => {
                self.shared.standing().remove(&link);
                let gates = &self.shared.gates;
                gates.lock().unwrap_or_else(PoisonError::into_inner).remove(&link);
                self.shared.tell(Event::Input(Input::Disconnected(link)));
            }
            NetEvent::Lane { link, .. } if !self.shared.takes_lane(link) => {
                Counters::count(&self.shared.net.counters().lanes_refused);
            }
            NetEvent::Lane { link, lane } => {
                let id = LaneId(self.shared.lanes.fetch_add(1, Ordering::Relaxed));
                self.runtime.spawn(lane::serve(Arc::clone(&self.shared), link, id, lane));
            }
        }
    }
}

struct Machine {
    peer: Peer,
    shared: Arc<Shared>,
    lanes: BTreeMap<LaneId, UnboundedSender<Order>>,
    hooks: Hooks,
    clock: Clock,
    runtime: Handle,
    watched: Watched,
    reached: Reached,
}

impl Machine {
    fn run(mut self, inbox: &Receiver<Event>) {
        let doubt = self.shared.store.doubt().map(str::to_owned);
        self.handle(Input::Doubt(doubt));
        let mut space_at = self.clock.now().mono;
        loop {
            let now = self.clock.now();
            if space_at <= now.mono {
                space_at.0 = now.mono.0 + SPACE_PERIOD.as_millis() as u64;
                if let Ok(space) = self.shared.store.space() {
                    self.handle(Input::Space(space));
                }
                // What cannot be told now stays as it was.
                if let Ok(leaves) = self.watched.leaves.try_exists() {
                    self.handle(Input::Leaving(leaves));
                }
                match read_signed::<PartnerList>(&self.watched.partners) {
                    Ok(Some(list)) => self.handle(Input::Partners(Box::new(list))),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "the list of partners cannot be read"),
                }
                match read_signed::<NodeCertificate>(&self.watched.certificate) {
                    Ok(Some(signed)) => self.handle(Input::Certificate(Box::new(signed))),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "the certificate cannot be read"),
                }
                self.empty_trash();
                for (node, what) in self.reached.news(self.peer.sites()) {
                    self.tell(&super::events::Event::contradicted(&node, &what));
                }
            }
            let wake = self.peer.poll_timeout().min(space_at);
            let wait = Duration::from_millis(wake.0.saturating_sub(now.mono.0));
            match inbox.recv_timeout(wait) {
                Ok(Event::Input(input)) => {
                    // Whoever asks how this node is hears of what never came as far as here.
                    if matches!(&input, Input::Request { request, .. } if matches!(**request, Request::Status))
                    {
                        self.handle(Input::TurnedAway(self.shared.net.counters().named()));
                    }
                    let mended = match &input {
                        Input::Rebuilt { rebuilt, .. } => rebuilt.mended,
                        _ => None,
                    };
                    self.handle(input);
                    // What the peer did not want kept is wanted by nobody.
                    drop(mended.and_then(|lane| self.shared.take_arrived(lane)));
                }
                Ok(Event::LaneOpened(lane, orders)) => {
                    self.lanes.insert(lane, orders);
                }
                Ok(Event::Reached(node, address)) => self.reached.add(node, address),
                Ok(Event::LaneClosed(lane)) => {
                    self.lanes.remove(&lane);
                    drop(self.shared.take_arrived(lane));
                    let refusal =
                        Refusal { code: RefusalCode::Internal, text: "the stream ended".into() };
                    self.handle(Input::ReceiveFailed { lane, refusal });
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.peer.handle_timeout(self.clock.now(), &self.shared.store);
                    self.drain();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.peer.handle(self.clock.now(), &self.shared.store, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            self.act(output);
        }
    }

    fn order(&self, lane: LaneId, order: Order) {
        // A lane that has ended needs no orders.
        if let Some(orders) = self.lanes.get(&lane) {
            let _ = orders.send(order);
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Reply { lane, response, close } => {
                self.order(lane, Order::Reply { response, close });
            }
            Output::Look { lane, shard, len } => {
                let shared = Arc::clone(&self.shared);
                self.runtime.spawn_blocking(move || {
                    let whole = shared.store.is_whole(shard, len);
                    shared.tell(Event::Input(Input::Looked { lane, whole }));
                });
            }
            Output::Receive { lane, len, wait, .. } => {
                self.order(lane, Order::Receive { len, wait });
            }
            Output::Discard { lane, len, response } => {
                self.order(lane, Order::Discard { len, response });
            }
            Output::Transmit { lane, shard, offset, len, wait } => {
                self.order(lane, Order::Transmit { shard, offset, len, wait });
            }
            Output::Prove { lane, pieces } => {
                let shared = Arc::clone(&self.shared);
                self.runtime.spawn_blocking(move || {
                    let prove = |pieces: Option<Pieces>| shared.store.prove(&pieces?);
                    let proofs = pieces.into_iter().map(prove).collect();
                    shared.tell(Event::Input(Input::Proved { lane, proofs }));
                });
            }
            Output::Scrub { shard, len } => {
                let shared = Arc::clone(&self.shared);
                self.runtime.spawn_blocking(move || {
                    let what = shared.store.check(shard, len).err().map(|error| error.to_string());
                    shared.tell(Event::Input(Input::Scrubbed { shard, what }));
                });
            }
            Output::Persist { token, writes, shard } => {
                let shard = match shard {
                    None => None,
                    Some((lane, shard, note)) => {
                        if let Some(incoming) = self.shared.take_arrived(lane) {
                            Some((incoming, shard, note))
                        } else {
                            // The lane ended meanwhile and took its bytes along.
                            let refusal = Refusal {
                                code: RefusalCode::Internal,
                                text: "the stream ended".into(),
                            };
                            self.handle(Input::PersistFailed { token, refusal });
                            return;
                        }
                    }
                };
                let shared = Arc::clone(&self.shared);
                let done = move |result: Result<(), StoreError>| {
                    let input = match result {
                        Ok(()) => Input::Persisted(token),
                        Err(error) => {
                            tracing::error!(%error, "a write failed");
                            Input::PersistFailed { token, refusal: refusal_of(&error) }
                        }
                    };
                    shared.tell(Event::Input(input));
                };
                self.shared.store.commit(Batch { writes, shard }, Box::new(done));
            }
            Output::Drop { shard, decision } => {
                let shared = Arc::clone(&self.shared);
                self.runtime.spawn_blocking(move || {
                    let trashed = shared.store.trash(shard);
                    if let Err(error) = &trashed {
                        let release = decision.release().short();
                        tracing::error!(%shard, release, %error, "a shard cannot be dropped");
                    }
                    shared.has_trash.store(true, Ordering::Relaxed);
                    let gone = trashed.is_ok();
                    shared.tell(Event::Input(Input::Dropped { shard, gone }));
                });
            }
            Output::Rebuild { job, record, sources, targets } => {
                let shared = Arc::clone(&self.shared);
                self.runtime.spawn(async move {
                    let rebuilt = Box::new(rebuild(&shared, &record, sources, targets).await);
                    shared.tell(Event::Input(Input::Rebuilt { job, rebuilt }));
                });
            }
            Output::Mend { job, record, sources, index } => {
                let shared = Arc::clone(&self.shared);
                self.runtime.spawn(async move {
                    let rebuilt = Box::new(mend(&shared, &record, sources, index).await);
                    shared.tell(Event::Input(Input::Rebuilt { job, rebuilt }));
                });
            }
            Output::Dial { node, addresses } => {
                let shared = Arc::clone(&self.shared);
                self.runtime.spawn(async move {
                    let addresses: Vec<_> =
                        addresses.iter().filter_map(|a| a.parse().ok()).collect();
                    if let Err(error) = shared.net.connect(node.key(), &addresses).await {
                        tracing::debug!(%error, "a node cannot be reached");
                        shared.tell(Event::Input(Input::DialFailed(node)));
                    }
                });
            }
            Output::Greet { call, link, greeting } => self.call(call, link, greeting.encode()),
            Output::Call { call, link, request } => self.call(call, link, request.encode()),
            Output::Close { link } => self.shared.net.close(link),
            Output::Note(note) => self.tell(&super::events::Event::from(&note)),
        }
    }

    /// Tells log and hooks.
    fn tell(&mut self, event: &super::events::Event) {
        event.log();
        self.hooks.tell(event);
    }

    /// Removes what was dropped, where it holds up nobody.
    fn empty_trash(&self) {
        if !self.shared.has_trash.swap(false, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn_blocking(move || {
            let left = shared.store.empty_trash().unwrap_or_else(|error| {
                tracing::warn!(%error, "what was dropped cannot be removed");
                true
            });
            shared.has_trash.fetch_or(left, Ordering::Relaxed);
        });
    }

    fn call(&self, call: protocol::peer::CallId, link: LinkId, (kind, body): (u8, Vec<u8>)) {
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let exchange = async {
                let mut lane = shared.net.open_lane(link).await.ok()?;
                lane.send_frame(kind, &body).await.ok()?;
                let frame = lane
                    .recv_frame(|kind| {
                        (kind == KIND_RESPONSE).then(|| frame_len_max(kind)).flatten()
                    })
                    .await
                    .ok()?;
                // The answer is here; how the stream ends does not matter.
                let _ = lane.close().await;
                Response::decode(&frame.body).ok().map(Box::new)
            };
            let response = exchange.await;
            shared.tell(Event::Input(Input::Answer { call, response }));
        });
    }
}

pub(super) fn refusal_of(error: &StoreError) -> Refusal {
    let code = match error {
        StoreError::Full { .. } => RefusalCode::Full,
        // Somebody else was quicker to fill the disk.
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            RefusalCode::Full
        }
        StoreError::Missing(_) => RefusalCode::NotHeld,
        StoreError::Damaged { .. } => RefusalCode::Damaged,
        _ => RefusalCode::Internal,
    };
    // Paths of this host are not for others.
    let text = match error {
        StoreError::Io { source, .. } => format!("the disk failed: {source}"),
        StoreError::State(_) => "the state database failed".into(),
        other => other.to_string(),
    };
    Refusal { code, text }
}
