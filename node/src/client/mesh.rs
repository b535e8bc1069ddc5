//! Connections of a command to the nodes of a mesh.

mod node;

pub use node::{Node, ask_stranger, join};

use super::{ClientError, Result, met};
use crate::config::Config;
use crate::home::{Home, read_file, read_key, read_signed};
use crate::net::{Net, NetConfig, NetEvent, NetLimits};
use crate::service::{split_address, wall};
use libp2p::Multiaddr;
use protocol::certificate::{
    ConsolePass, DeviceCertificate, NodeCertificate, NodeRecord, Trust, VaultCertificate,
};
use protocol::id::{NodeId, OperatorId};
use protocol::label::Site;
use protocol::message::{Greeting, Request, Response};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Period;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Who only reads waits for a node no longer than the others took once more, and not less than this,
const GRACE: Duration = Duration::from_millis(150);
/// once so large a part of the nodes has answered.
const MOST: (usize, usize) = (2, 3);

/// A node that is known and does not answer.
#[derive(Debug, Clone)]
pub struct Silent {
    /// Where it lies.
    pub site: Site,
    /// Why.
    pub reason: String,
}

/// The nodes of a mesh.
#[derive(Debug, Default)]
pub struct Mesh {
    /// Those that answer.
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Those that had not answered yet when reading began: dialed again when they are needed.
    pub late: BTreeMap<NodeId, Arc<Node>>,
    /// Those that do not.
    pub silent: BTreeMap<NodeId, Silent>,
    /// What all of them say of themselves, those that answer first.
    records: Vec<Signed<NodeRecord>>,
}

/// As whom a command comes.
#[derive(Debug)]
pub struct Caller {
    /// Its key.
    pub key: SecretKey,
    /// Who vouches for it.
    pub greeting: Greeting,
    /// Whom it believes.
    pub trust: Trust,
}

impl Caller {
    /// As a device of a vault.
    #[must_use]
    pub fn device(vault: &super::vault::Vault) -> Self {
        let certificate = vault.papers.certificate.clone();
        Self::of_device(
            vault.device.clone(),
            certificate,
            vault.device_certificate.clone(),
            vault.operator,
        )
    }

    /// As a device with this key, by the word of a vault that this operator vouches for.
    #[must_use]
    pub fn of_device(
        key: SecretKey,
        vault: Signed<VaultCertificate>,
        device: Signed<DeviceCertificate>,
        operator: OperatorId,
    ) -> Self {
        Self { key, greeting: Greeting::Device { vault, device }, trust: Trust::new([operator]) }
    }

    /// As the operator of this host's node, looking.
    pub fn console(home: &Home) -> Result<Self> {
        let none = || {
            ClientError::NoNode(": there is no node here; run strewn init or strewn join".into())
        };
        let node = read_key(&home.path("node.key"))?.ok_or_else(none)?;
        let certificate: Signed<NodeCertificate> =
            read_signed(&home.path("node.cert"))?.ok_or_else(none)?;
        let certificate = NodeCertificate::verify(&certificate, wall())?;
        let key = SecretKey::from_seed(&crate::home::random()?);
        let pass = ConsolePass {
            console: key.public(),
            node: node.public().into(),
            issued: wall(),
            expires: wall().after(Period::seconds(24 * 3600)),
        };
        let greeting = Greeting::Console(Signed::sign(&pass, &node));
        Ok(Self { key, greeting, trust: Trust::new([certificate.operator]) })
    }
}

/// Where to begin: settings, the node of this host, and nodes met before.
pub fn first_addresses(home: &Home, config: &Config) -> Result<Vec<Multiaddr>> {
    let mut addresses = Vec::new();
    for file in ["run/listen", met::FILE] {
        let text = read_file(&home.path(file))?.unwrap_or_default();
        let lines = String::from_utf8_lossy(&text).into_owned();
        addresses.extend(lines.lines().filter_map(|line| line.parse::<Multiaddr>().ok()));
    }
    addresses.extend(config.client.nodes.iter().chain(&config.node.bootstrap).cloned());
    Ok(addresses)
}

impl Mesh {
    /// Connects to all nodes that can be learned of.
    pub async fn connect(home: &Home, caller: Caller) -> Result<Self> {
        Self::begin(home, caller, false).await
    }

    /// Connects to nodes enough to read: who is gone without a word holds nobody up.
    pub async fn connect_to_read(home: &Home, caller: Caller) -> Result<Self> {
        Self::begin(home, caller, true).await
    }

    /// Connects to all nodes that can be learned of from those at these addresses alone.
    pub async fn connect_at(home: &Home, caller: Caller, addresses: &[Multiaddr]) -> Result<Self> {
        let limits = Config::load(home)?.client.limits();
        let mesh = Self::connect_to(caller, addresses, limits, false).await?;
        met::remember(home, &mesh.records)?;
        Ok(mesh)
    }

    async fn begin(home: &Home, caller: Caller, is_reading: bool) -> Result<Self> {
        let config = Config::load(home)?;
        let addresses = first_addresses(home, &config)?;
        let limits = config.client.limits();
        let mesh = Self::connect_to(caller, &addresses, limits, is_reading).await?;
        met::remember(home, &mesh.records)?;
        Ok(mesh)
    }

    async fn connect_to(
        caller: Caller,
        addresses: &[Multiaddr],
        limits: NetLimits,
        is_reading: bool,
    ) -> Result<Self> {
        let (net, mut events) = Net::start(NetConfig { listen: Vec::new(), limits }, &caller.key)?;
        // Nobody opens lanes to a command; what comes is let go of.
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                drop::<NetEvent>(event);
            }
        });
        let mut first: BTreeMap<NodeId, Vec<Multiaddr>> = BTreeMap::new();
        for (node, address) in addresses.iter().filter_map(split_address) {
            first.entry(node).or_default().push(address);
        }
        let caller = Arc::new(caller);
        let mut mesh = Self::default();
        let mut asked: BTreeSet<NodeId> = BTreeSet::new();
        let mut members: BTreeMap<NodeId, (Site, Signed<NodeRecord>)> = BTreeMap::new();
        let mut reasons: BTreeMap<NodeId, String> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut last = String::new();
        for (node, addresses) in first {
            asked.insert(node);
            tasks.spawn(Node::connect(net.clone(), Arc::clone(&caller), node, addresses));
        }
        let begin = Instant::now();
        let mut patience = None;
        loop {
            let next = match patience.filter(|_| is_most(mesh.nodes.len(), asked.len())) {
                Some(until) if is_reading => {
                    match tokio::time::timeout_at(until, tasks.join_next()).await {
                        Ok(next) => next,
                        Err(_) => break,
                    }
                }
                _ => tasks.join_next().await,
            };
            let Some(done) = next else { break };
            let Ok((id, connected)) = done else { continue };
            match connected {
                Ok((node, found)) => {
                    patience = Some((Instant::now() + begin.elapsed().max(GRACE)).into());
                    mesh.nodes.insert(id, Arc::new(node));
                    for signed in found {
                        let Ok((record, certificate)) = NodeRecord::verify(&signed, wall()) else {
                            continue;
                        };
                        if caller.trust.check(certificate.operator).is_err() {
                            continue;
                        }
                        members.insert(record.node, (certificate.site(), signed));
                        if asked.insert(record.node) {
                            let addresses =
                                record.addresses.iter().filter_map(|a| a.parse().ok()).collect();
                            tasks.spawn(Node::connect(
                                net.clone(),
                                Arc::clone(&caller),
                                record.node,
                                addresses,
                            ));
                        }
                    }
                }
                Err(error) => {
                    last = format!(": {error}");
                    reasons.insert(id, error.to_string());
                }
            }
        }
        if mesh.nodes.is_empty() {
            return Err(ClientError::NoNode(last));
        }
        tasks.abort_all();
        mesh.records.extend(mesh.nodes.values().map(|node| node.record.clone()));
        for (id, (site, record)) in members {
            if mesh.nodes.contains_key(&id) {
                continue;
            }
            mesh.records.push(record.clone());
            if let Some(reason) = reasons.remove(&id) {
                mesh.silent.insert(id, Silent { site, reason });
                continue;
            }
            let node = Node::new(net.clone(), Arc::clone(&caller), record, None)?;
            node.rest();
            mesh.late.insert(id, Arc::new(node));
            mesh.silent.insert(id, Silent { site, reason: "no answer yet".into() });
        }
        Ok(mesh)
    }

    /// The certificates of the nodes that answer.
    #[must_use]
    pub fn certificates(&self) -> Vec<Signed<NodeCertificate>> {
        self.nodes.values().map(|node| node.certificate.clone()).collect()
    }

    /// Asks all nodes at once.
    pub async fn ask_all(&self, request: &Request) -> Vec<(Arc<Node>, Result<Response>)> {
        let request = Arc::new(request.clone());
        let mut tasks = JoinSet::new();
        for node in self.nodes.values() {
            let (node, request) = (Arc::clone(node), Arc::clone(&request));
            tasks.spawn(async move {
                let response = node.request(&request).await;
                (node, response)
            });
        }
        tasks.join_all().await
    }
}

/// Whether those who answered are so many that what is held widely is among them.
pub(super) fn is_most(answered: usize, asked: usize) -> bool {
    answered * MOST.1 >= asked * MOST.0
}
