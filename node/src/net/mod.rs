//! The network: libp2p connections (*links*), streams on them (*lanes*), their limits and watchdogs.
//!
//! Frames and raw bytes only; what they mean is decided in `protocol`. libp2p runs on a runtime of its own,
//! because its polls are long under load. What libp2p does not give is done here: opening a lane fails
//! at once without a connection, inbound lanes are never dropped unseen, a stalled lane ends its link.

mod behaviour;
mod driver;
mod gate;
mod lane;
mod limiter;
mod mux;
mod rate;
mod secure;
#[cfg(test)]
mod tests;

pub use gate::{Gate, Permit};
pub use lane::{Frame, Lane, LaneError};
pub use rate::{RATE_MIN, Rate, Turn};

use driver::Command;
use libp2p::identity::{Keypair, ed25519};
use libp2p::{Multiaddr, PeerId};
use protocol::id::PublicKey;
use protocol::sign::SecretKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a connection or a lane may take to come up.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Inbound lanes and other events that wait for the node; beyond it lanes are refused and counted.
const EVENTS_MAX: usize = 1024;

/// A link's name on this host.
pub use protocol::peer::LinkId;

/// What the network is set to.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Where to listen; nowhere for a client.
    pub listen: Vec<Multiaddr>,
    /// Bounds.
    pub limits: NetLimits,
}

/// Bounds of what others can make this host hold.
#[derive(Debug, Clone)]
pub struct NetLimits {
    /// Connections in all: 500 nodes know each other.
    pub connections: u32,
    /// Handshakes going on at once.
    pub pending_inbound: u32,
    /// Handshakes going on at once with one address: they can be held open, and must not be all there are.
    pub pending_per_address: usize,
    /// Connections with one peer: two, because simultaneous dials would close each other at one.
    pub per_peer: u32,
    /// Handshakes that one address may begin in a minute.
    pub handshakes_per_minute: u32,
    /// Lanes that the other side may have open on a connection. Each can hold a page of a listing that nobody
    /// reads; commands use four.
    pub lanes_per_link: usize,
    /// At least one step of a transfer (64 KiB, or what is left of it) must be made within this time.
    pub stall: Duration,
    /// How fast this host sends; as fast as it can when `None`.
    pub upload: Option<Rate>,
    /// How fast this host receives.
    pub download: Option<Rate>,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            pending_inbound: 256,
            pending_per_address: 32,
            per_peer: 2,
            handshakes_per_minute: 120,
            lanes_per_link: 16,
            stall: Duration::from_secs(30),
            upload: None,
            download: None,
        }
    }
}

/// What happened on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// This host can be reached here.
    Listening(Multiaddr),
    /// A link is up.
    Connected {
        /// The link.
        link: LinkId,
        /// The key that the other side proved to have.
        key: PublicKey,
        /// Whether this side dialed.
        outbound: bool,
        /// The other side's address.
        address: Multiaddr,
    },
    /// A link is gone.
    Disconnected(LinkId),
    /// The other side opened a lane.
    Lane {
        /// On this link.
        link: LinkId,
        /// It.
        lane: Lane,
    },
}

/// Why there is no connection or lane.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// No address led to the peer.
    #[error("{key} cannot be reached at {addresses}: {cause}")]
    Unreachable {
        /// Whom.
        key: String,
        /// Where.
        addresses: String,
        /// Why.
        cause: String,
    },
    /// The link is gone.
    #[error("the connection is gone")]
    Gone,
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The other side does not speak the protocol.
    #[error("the other side does not take lanes: {0}")]
    NotSpoken(String),
    /// Listening is not possible there.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: Multiaddr,
        /// Why.
        cause: String,
    },
    /// The network cannot start.
    #[error("the network cannot start: {0}")]
    Start(String),
}

/// What was refused and lost since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections refused before their handshake, by address.
    pub handshakes_limited: AtomicU64,
    /// Connections that did not come up or were refused by a limit.
    pub connections_failed: AtomicU64,
    /// Lanes refused because there were too many.
    pub lanes_refused: AtomicU64,
    /// Links closed because a lane stalled.
    pub stalls: AtomicU64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them, by name.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let named = [
            ("handshakes", &self.handshakes_limited),
            ("connections", &self.connections_failed),
            ("lanes", &self.lanes_refused),
            ("stalls", &self.stalls),
        ];
        named.map(|(name, counter)| (name, counter.load(Ordering::Relaxed))).into()
    }
}

/// The network's handle. Dropping the last one ends it.
#[derive(Debug, Clone)]
pub struct Net {
    commands: mpsc::UnboundedSender<Command>,
    counters: Arc<Counters>,
}

/// The libp2p name of a key.
#[must_use]
pub fn peer_id_of(key: PublicKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&key.0).ok()?;
    Some(libp2p::identity::PublicKey::from(key).to_peer_id())
}

/// The key behind a libp2p name, when it is an Ed25519 key.
#[must_use]
pub fn key_of(peer: PeerId) -> Option<PublicKey> {
    // An Ed25519 key is short enough that the name is the key: multihash 0x00, protobuf 08 01 12 20.
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20])?;
    Some(PublicKey(key.try_into().ok()?))
}

impl Net {
    /// Starts the network under this identity.
    pub fn start(
        config: NetConfig,
        key: &SecretKey,
    ) -> Result<(Self, mpsc::Receiver<NetEvent>), NetError> {
        let mut seed = *key.seed();
        let keypair =
            Keypair::ed25519_from_bytes(&mut seed).map_err(|e| NetError::Start(e.to_string()))?;
        let counters = Arc::new(Counters::default());
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (commands, inbox) = mpsc::unbounded_channel();
        driver::start(config, keypair, events, (commands.clone(), inbox), Arc::clone(&counters))?;
        Ok((Self { commands, counters }, receiver))
    }

    /// What was refused and lost.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A link to this peer: the one there is, or a new one to the first of the addresses that answers.
    pub async fn connect(
        &self,
        key: PublicKey,
        addresses: &[Multiaddr],
    ) -> Result<LinkId, NetError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Connect { key, addresses: addresses.to_vec(), reply };
        self.commands.send(command).map_err(|_| NetError::Gone)?;
        match tokio::time::timeout(OPEN_TIMEOUT, answer).await {
            Err(_) => Err(NetError::Unreachable {
                key: key.short(),
                addresses: list(addresses),
                cause: format!("no answer within {OPEN_TIMEOUT:?}"),
            }),
            Ok(answer) => answer.map_err(|_| NetError::Gone)?,
        }
    }

    /// A link to whoever answers at this address, and whose key it is.
    pub async fn meet(&self, address: &Multiaddr) -> Result<(LinkId, PublicKey), NetError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Meet { address: address.clone(), reply };
        self.commands.send(command).map_err(|_| NetError::Gone)?;
        let late = || driver::nobody(address, format!("no answer within {OPEN_TIMEOUT:?}"));
        let answer = tokio::time::timeout(OPEN_TIMEOUT, answer).await.map_err(|_| late())?;
        answer.map_err(|_| NetError::Gone)?
    }

    /// Opens a lane on a link.
    pub async fn open_lane(&self, link: LinkId) -> Result<Lane, NetError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::OpenLane { link, reply }).map_err(|_| NetError::Gone)?;
        match tokio::time::timeout(OPEN_TIMEOUT, answer).await {
            Err(_) => Err(NetError::Timeout(OPEN_TIMEOUT)),
            Ok(answer) => answer.map_err(|_| NetError::Gone)?,
        }
    }

    /// Closes a link.
    pub fn close(&self, link: LinkId) {
        // When the network has ended there is nothing to close.
        let _ = self.commands.send(Command::Close(link));
    }
}

fn list(addresses: &[Multiaddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "no address".into() } else { texts.join(", ") }
}
