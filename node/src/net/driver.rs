//! The task that owns the swarm, on a runtime of its own.

use super::behaviour::{Inbound, Lanes};
use super::lane::{Lane, LinkHandle};
use super::limiter::Limiter;
use super::mux::Yamux;
use super::secure::Tls;
use super::{Counters, LinkId, NetConfig, NetError, NetEvent, NetLimits, key_of, list, peer_id_of};
use futures::StreamExt;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, SwarmBuilder, identify, noise, ping, tcp};
use protocol::id::PublicKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// A connection on which nothing is open is closed after this time.
const IDLE: Duration = Duration::from_secs(300);
/// A handshake must be done within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the other side must show that it lives; two misses close the link.
const PING: Duration = Duration::from_secs(15);
/// QUIC: bytes on their way on one stream; 16 MiB is 1.6 Gbit/s at 80 ms.
const QUIC_STREAM_WINDOW: u32 = 16 << 20;
/// QUIC: bytes on their way on one connection.
const QUIC_CONNECTION_WINDOW: u32 = 32 << 20;

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    Connect {
        key: PublicKey,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<LinkId, NetError>>,
    },
    /// To whoever answers at an address.
    Meet {
        address: Multiaddr,
        reply: oneshot::Sender<Met>,
    },
    OpenLane {
        link: LinkId,
        reply: oneshot::Sender<Result<Lane, NetError>>,
    },
    Close(LinkId),
}

/// A link to somebody who was not known, and whose key it is.
pub(super) type Met = Result<(LinkId, PublicKey), NetError>;

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    lanes: Lanes,
}

struct Link {
    peer: PeerId,
    connection: ConnectionId,
    gone: watch::Sender<bool>,
    handle: LinkHandle,
    missed_pings: u32,
}

struct Dial {
    key: PublicKey,
    addresses: Vec<Multiaddr>,
    replies: Vec<oneshot::Sender<Result<LinkId, NetError>>>,
}

struct Driver {
    swarm: Swarm<Behaviour>,
    events: mpsc::Sender<NetEvent>,
    commands: mpsc::WeakUnboundedSender<Command>,
    limits: NetLimits,
    counters: Arc<Counters>,
    links: BTreeMap<LinkId, Link>,
    by_connection: BTreeMap<ConnectionId, LinkId>,
    dials: BTreeMap<ConnectionId, Dial>,
    meetings: BTreeMap<ConnectionId, (Multiaddr, oneshot::Sender<Met>)>,
    next_link: u64,
}

/// Starts the driver on a thread of its own.
pub(super) fn start(
    config: NetConfig,
    keypair: Keypair,
    events: mpsc::Sender<NetEvent>,
    (commands, inbox): (mpsc::UnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
    counters: Arc<Counters>,
) -> Result<(), NetError> {
    let start = |e: std::io::Error| NetError::Start(e.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("strewn-net")
        .enable_all()
        .build()
        .map_err(start)?;
    let mut swarm = {
        let _entered = runtime.enter();
        swarm(&config.limits, keypair, &counters)?
    };
    {
        let _entered = runtime.enter();
        for address in config.listen {
            let listening = swarm.listen_on(address.clone());
            listening.map_err(|e| NetError::Listen { address, cause: e.to_string() })?;
        }
    }
    let driver = Driver {
        swarm,
        events,
        commands: commands.downgrade(),
        limits: config.limits,
        counters,
        links: BTreeMap::new(),
        by_connection: BTreeMap::new(),
        dials: BTreeMap::new(),
        meetings: BTreeMap::new(),
        next_link: 0,
    };
    let thread = std::thread::Builder::new().name("strewn-net".into());
    thread.spawn(move || runtime.block_on(driver.run(inbox))).map_err(start)?;
    Ok(())
}

fn swarm(
    limits: &NetLimits,
    keypair: Keypair,
    counters: &Arc<Counters>,
) -> Result<Swarm<Behaviour>, NetError> {
    let connections = ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits.pending_inbound))
        .with_max_established(Some(limits.connections))
        .with_max_established_per_peer(Some(limits.per_peer));
    // Where it listens and what it runs is nobody's business but the members'.
    let identify = identify::Config::new("/strewn/id/1".into(), keypair.public())
        .with_agent_version("strewn".into())
        .with_hide_listen_addrs(true);
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(connections),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING).with_timeout(PING)),
        lanes: Lanes::new(
            Limiter::new(limits.handshakes_per_minute, limits.pending_per_address),
            limits.lanes_per_link,
            Arc::clone(counters),
        ),
    };
    let failed = |e: &dyn std::fmt::Display| NetError::Start(e.to_string());
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), (Tls::new, noise::Config::new), Yamux::new)
        .map_err(|e| failed(&e))?
        .with_quic_config(|mut config| {
            config.handshake_timeout = HANDSHAKE;
            config.max_idle_timeout = 20_000;
            config.keep_alive_interval = Duration::from_secs(5);
            config.max_stream_data = QUIC_STREAM_WINDOW;
            config.max_connection_data = QUIC_CONNECTION_WINDOW;
            config
        })
        .with_dns()
        .map_err(|e| failed(&e))?
        .with_behaviour(|_| behaviour)
        .map_err(|e| failed(&e))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .with_connection_timeout(HANDSHAKE)
        .build();
    Ok(swarm)
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.handle_command(command),
                    // The last handle is gone.
                    None => return,
                },
                event = self.swarm.select_next_some() => self.handle_event(event).await,
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Connect { key, addresses, reply } => self.connect(key, addresses, reply),
            Command::Meet { address, reply } => self.meet(address, reply),
            Command::OpenLane { link, reply } => {
                let Some(Link { peer, connection, handle, .. }) = self.links.get(&link) else {
                    // Whoever asked may have given up waiting.
                    let _ = reply.send(Err(NetError::Gone));
                    return;
                };
                let (opened, stream) = oneshot::channel();
                self.swarm.behaviour_mut().lanes.open(*peer, *connection, opened);
                let handle = handle.clone();
                tokio::spawn(async move {
                    let lane = match stream.await {
                        Ok(Ok(stream)) => Ok(Lane::new(stream, handle, None)),
                        Ok(Err(cause)) => Err(NetError::NotSpoken(cause)),
                        Err(_) => Err(NetError::Gone),
                    };
                    let _ = reply.send(lane);
                });
            }
            Command::Close(link) => {
                if let Some(link) = self.links.get(&link) {
                    self.swarm.close_connection(link.connection);
                }
            }
        }
    }

    fn connect(
        &mut self,
        key: PublicKey,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<LinkId, NetError>>,
    ) {
        let Some(peer) = peer_id_of(key) else {
            let cause = "not an Ed25519 key".to_owned();
            let _ = reply.send(Err(unreachable(key, &addresses, cause)));
            return;
        };
        if let Some((&link, _)) = self.links.iter().find(|(_, link)| link.peer == peer) {
            let _ = reply.send(Ok(link));
            return;
        }
        if let Some(dial) = self.dials.values_mut().find(|dial| dial.key == key) {
            dial.replies.push(reply);
            return;
        }
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses.clone())
            .build();
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.dials.insert(connection, Dial { key, addresses, replies: vec![reply] });
            }
            Err(error) => {
                let _ = reply.send(Err(unreachable(key, &addresses, cause_of(&error))));
            }
        }
    }

    fn meet(&mut self, address: Multiaddr, reply: oneshot::Sender<Met>) {
        let opts = DialOpts::unknown_peer_id().address(address.clone()).build();
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.meetings.insert(connection, (address, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(nobody(&address, cause_of(&error))));
            }
        }
    }

    async fn handle_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                self.tell(NetEvent::Listening(address)).await;
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let address = endpoint.get_remote_address().clone();
                self.established(peer_id, connection_id, endpoint.is_dialer(), address).await;
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                if let Some(id) = self.by_connection.remove(&connection_id)
                    && let Some(link) = self.links.remove(&id)
                {
                    link.gone.send_replace(true);
                    self.tell(NetEvent::Disconnected(id)).await;
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                Counters::count(&self.counters.connections_failed);
                if let Some(dial) = self.dials.remove(&connection_id) {
                    for reply in dial.replies {
                        let _ = reply.send(Err(unreachable(
                            dial.key,
                            &dial.addresses,
                            cause_of(&error),
                        )));
                    }
                }
                if let Some((address, reply)) = self.meetings.remove(&connection_id) {
                    let _ = reply.send(Err(nobody(&address, cause_of(&error))));
                }
            }
            SwarmEvent::IncomingConnectionError { .. } => {
                Counters::count(&self.counters.connections_failed);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Lanes(Inbound { connection, stream, count })) => {
                let Some(&link) = self.by_connection.get(&connection) else { return };
                let Some(handle) = self.links.get(&link).map(|link| link.handle.clone()) else {
                    return;
                };
                let lane = Lane::new(stream, handle, Some(count));
                // A node that cannot keep up refuses lanes rather than the network standing still.
                if self.events.try_send(NetEvent::Lane { link, lane }).is_err() {
                    Counters::count(&self.counters.lanes_refused);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                connection, result, ..
            })) => {
                let Some(id) = self.by_connection.get(&connection) else { return };
                let Some(link) = self.links.get_mut(id) else { return };
                link.missed_pings = if result.is_ok() { 0 } else { link.missed_pings + 1 };
                if link.missed_pings >= 2 {
                    self.swarm.close_connection(connection);
                }
            }
            _ => {}
        }
    }

    async fn established(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        outbound: bool,
        address: Multiaddr,
    ) {
        let Some(key) = key_of(peer) else {
            // Another kind of key: it can be nobody's certificate.
            self.swarm.close_connection(connection);
            return;
        };
        let id = LinkId(self.next_link);
        self.next_link += 1;
        let (gone, watch) = watch::channel(false);
        let handle = LinkHandle {
            link: id,
            gone: watch,
            close: self.commands.clone(),
            stall: self.limits.stall,
            upload: self.limits.upload.clone(),
            download: self.limits.download.clone(),
            counters: Arc::clone(&self.counters),
        };
        self.links.insert(id, Link { peer, connection, gone, handle, missed_pings: 0 });
        self.by_connection.insert(connection, id);
        self.tell(NetEvent::Connected { link: id, key, outbound, address }).await;
        if let Some(dial) = self.dials.remove(&connection) {
            for reply in dial.replies {
                let _ = reply.send(Ok(id));
            }
        }
        if let Some((_, reply)) = self.meetings.remove(&connection) {
            let _ = reply.send(Ok((id, key)));
        }
    }

    /// Links come and go at a bounded rate, so waiting for the node to take note is right.
    async fn tell(&self, event: NetEvent) {
        // A client that does not listen has dropped its end.
        let _ = self.events.send(event).await;
    }
}

pub(super) fn nobody(address: &Multiaddr, cause: String) -> NetError {
    let addresses = list(std::slice::from_ref(address));
    NetError::Unreachable { key: "a node".into(), addresses, cause }
}

fn unreachable(key: PublicKey, addresses: &[Multiaddr], cause: String) -> NetError {
    NetError::Unreachable { key: key.short(), addresses: list(addresses), cause }
}

/// What stands innermost in a failed dial's long text: "Connection refused".
fn cause_of(error: &DialError) -> String {
    let text = error.to_string();
    let last = text.rsplit(": ").next().unwrap_or(&text);
    let last = last.split(" (os error").next().unwrap_or(last).trim_end_matches([')', ']']);
    if last.is_empty() { text } else { last.to_owned() }
}
