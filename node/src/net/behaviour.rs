//! The libp2p behaviour that opens and accepts raw streams of one protocol.

use super::Counters;
use super::lane::LaneCount;
use super::limiter::Limiter;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamProtocol, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::oneshot;

/// The protocol's name on the wire.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/strewn/1");

/// Where an opened stream goes. Dropped when the connection ends, which tells the waiting side.
pub(super) type OpenReply = oneshot::Sender<Result<Stream, String>>;

/// An inbound stream.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) connection: ConnectionId,
    pub(super) stream: Stream,
    pub(super) count: LaneCount,
}

#[derive(Debug)]
pub(super) struct Lanes {
    events: VecDeque<ToSwarm<Inbound, OpenReply>>,
    limiter: Limiter,
    streams_max: usize,
    counters: Arc<Counters>,
}

/// Too many handshakes from one address.
#[derive(Debug, thiserror::Error)]
#[error("too many handshakes from this address")]
struct TooMany;

impl Lanes {
    pub(super) fn new(limiter: Limiter, streams_max: usize, counters: Arc<Counters>) -> Self {
        Self { events: VecDeque::new(), limiter, streams_max, counters }
    }

    pub(super) fn open(&mut self, peer: PeerId, connection: ConnectionId, reply: OpenReply) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: reply,
        });
    }

    fn handler(&self) -> Handler {
        Handler {
            open: VecDeque::new(),
            accepted: VecDeque::new(),
            lanes: Arc::default(),
            streams_max: self.streams_max,
            counters: Arc::clone(&self.counters),
        }
    }
}

impl NetworkBehaviour for Lanes {
    type ConnectionHandler = Handler;
    type ToSwarm = Inbound;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.limiter.begin(connection, remote, Instant::now()) {
            return Ok(());
        }
        Counters::count(&self.counters.handshakes_limited);
        Err(ConnectionDenied::new(TooMany))
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(up) => self.limiter.end(up.connection_id),
            FromSwarm::ListenFailure(failed) => self.limiter.end(failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: ConnectionId,
        (stream, count): THandlerOutEvent<Self>,
    ) {
        self.events.push_back(ToSwarm::GenerateEvent(Inbound { connection, stream, count }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Inbound, THandlerInEvent<Self>>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Opens and accepts the streams of one connection.
#[derive(Debug)]
pub(super) struct Handler {
    open: VecDeque<OpenReply>,
    accepted: VecDeque<(Stream, LaneCount)>,
    lanes: Arc<AtomicUsize>,
    streams_max: usize,
    counters: Arc<Counters>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenReply;
    type ToBehaviour = (Stream, LaneCount);
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenReply;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, ()> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, OpenReply, Self::ToBehaviour>> {
        if let Some(accepted) = self.accepted.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(accepted));
        }
        if let Some(reply) = self.open.pop_front() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), reply)
                .with_timeout(super::OPEN_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, reply: OpenReply) {
        self.open.push_back(reply);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), OpenReply>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: stream,
                ..
            }) => match LaneCount::take(&self.lanes, self.streams_max) {
                Some(count) => self.accepted.push_back((stream, count)),
                None => Counters::count(&self.counters.lanes_refused),
            },
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info,
            }) => {
                // Whoever asked may have given up waiting.
                let _ = info.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.send(Err(error.to_string()));
            }
            _ => {}
        }
    }
}
