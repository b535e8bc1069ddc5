//! A running node: the driver around `protocol::Peer`.
//!
//! One thread owns the peer and feeds it one input after another; lanes are tasks that read requests, hand
//! them to that thread and do what it answers. Shard bytes go straight between lane and store.

mod core;
mod events;
mod hooks;
mod lane;
mod reached;
mod rebuild;

pub(crate) use hooks::EXAMPLE as HOOKS_EXAMPLE;
pub use hooks::HookConfig;

use crate::config::Config;
use crate::home::{Home, HomeError, random, read_key, read_signed, write_file};
use crate::net::{Net, NetConfig, NetError, NetEvent, key_of, peer_id_of};
use crate::store::{Store, StoreError, StoreOptions};
use hooks::Hooks;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use protocol::certificate::{NodeCertificate, Trust};
use protocol::id::NodeId;
use protocol::lock_clock::BootId;
use protocol::peer::{Peer, PeerConfig, StartError};
use protocol::time::{Mono, Now, Wall};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// In the state folder, the file that is there when the node is to leave.
pub const LEAVES: &str = "node/leaves";
/// How long to wait for further addresses after the first one that the node listens on.
const ADDRESSES_SETTLE: Duration = Duration::from_millis(200);

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Nothing was set up.
    #[error("there is no node in {0}: run `strewn init` or `strewn join` first")]
    NoNode(std::path::PathBuf),
    /// The state folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The settings.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The peer.
    #[error(transparent)]
    Peer(#[from] StartError),
    /// The settings of hooks.
    #[error("[hooks] {0}")]
    Hooks(String),
    /// The system.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// The wall clock's claim.
#[must_use]
pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Counts monotonic time from its making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    fn now(self) -> Now {
        let mono = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono: Mono(mono), wall: wall() }
    }
}

/// Splits an address that ends in /p2p/… into node and the rest.
#[must_use]
pub fn split_address(address: &Multiaddr) -> Option<(NodeId, Multiaddr)> {
    let mut address = address.clone();
    match address.pop() {
        Some(Protocol::P2p(peer)) => Some((key_of(peer)?.into(), address)),
        _ => None,
    }
}

/// The address with the node's name behind it.
#[must_use]
pub fn full_address(address: &Multiaddr, node: NodeId) -> Multiaddr {
    match peer_id_of(node.key()) {
        Some(peer) => address.clone().with(Protocol::P2p(peer)),
        None => address.clone(),
    }
}

/// Runs the node of this state folder until `stop` resolves.
pub async fn run(home: &Home, stop: impl Future<Output = ()>) -> Result<(), ServiceError> {
    let config = Config::load(home)?;
    let no_node = || ServiceError::NoNode(home.path(""));
    let key = read_key(&home.path("node.key"))?.ok_or_else(no_node)?;
    let certificate =
        read_signed::<NodeCertificate>(&home.path("node.cert"))?.ok_or_else(no_node)?;
    let node = NodeId::from(key.public());
    let store = Store::open(
        &home.path("node"),
        StoreOptions { reserve: config.node.reserve.0, ..StoreOptions::default() },
    )?;
    if let Some(doubt) = store.doubt() {
        tracing::warn!(doubt, "nothing will be dropped until this is cleared");
    }
    let net_config = NetConfig { listen: config.node.listen.clone(), limits: config.node.limits() };
    let (net, mut events) = Net::start(net_config, &key)?;
    let listening = listen_addresses(&mut events).await;
    let shown = if config.node.external.is_empty() { &listening } else { &config.node.external };
    let addresses: Vec<String> =
        shown.iter().take(protocol::certificate::ADDRESSES_MAX).map(ToString::to_string).collect();

    let operator = certificate.verify().map_err(protocol::certificate::CertificateError::from);
    let operator = operator.map_err(StartError::from)?.operator;
    let bootstrap = config.node.bootstrap.iter().filter_map(split_address);
    let boot = random()?;
    let peer_config = PeerConfig {
        quota: config.node.quota.0,
        growth_per_day: config.node.growth_per_day.map(|size| size.0),
        vault_quota: config.node.vault_quota.map(|size| size.0),
        partner_per_second: config.node.partner_per_second.map(|size| size.0),
        lock_max: config.node.longest_lock,
        patience: config.node.patience,
        repair_per_second: config.node.repair_per_second.0,
        scrub_period: config.node.scrub_period,
        audit_period: config.node.audit_period,
        bootstrap: bootstrap.map(|(node, address)| (node, vec![address.to_string()])).collect(),
        version: env!("CARGO_PKG_VERSION").into(),
        // Time is counted from the start of this run: what was before is another stretch.
        boot: BootId(std::array::from_fn(|i| boot[i])),
        seed: random()?,
        ..PeerConfig::default()
    };
    let clock = Clock(Instant::now());
    let trust = Trust::new([operator]);
    let peer = Peer::new(key, &certificate, trust, addresses, peer_config, clock.now(), &store)?;
    let hooks = Hooks::start(config.hooks, node).map_err(ServiceError::Hooks)?;
    let runtime = tokio::runtime::Handle::current();
    let leaves = home.path(LEAVES);
    let watched = core::Watched {
        leaves,
        partners: home.path(crate::client::partners::FILE),
        certificate: home.path("node.cert"),
    };
    let core = core::start(peer, store, net.clone(), hooks, clock, runtime, watched)?;

    let mut lines = String::new();
    for address in &listening {
        lines.push_str(&full_address(address, node).to_string());
        lines.push('\n');
    }
    write_file(&home.path("run/listen"), lines.as_bytes(), 0o644)?;
    for address in &listening {
        tracing::info!(%address, node = node.short(), "listening");
    }

    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            event = events.recv() => match event {
                Some(event) => core.handle_event(event),
                None => return Err(NetError::Start("the network ended".into()).into()),
            },
        }
    }
}

async fn listen_addresses(events: &mut tokio::sync::mpsc::Receiver<NetEvent>) -> Vec<Multiaddr> {
    let mut addresses = Vec::new();
    // Nobody knows of this node before it said where it listens, so no other event comes first.
    while let Ok(Some(NetEvent::Listening(address))) =
        tokio::time::timeout(ADDRESSES_SETTLE, events.recv()).await
    {
        addresses.push(address);
    }
    addresses
}
