//! Connections of a command to the nodes of a mesh.

use super::{ClientError, Result};
use crate::config::Config;
use crate::home::{Home, read_file, read_key, read_signed};
use crate::net::{Gate, Lane, LaneError, Net, NetConfig, NetEvent, NetLimits};
use crate::service::{split_address, wall};
use libp2p::Multiaddr;
use protocol::certificate::{ConsolePass, NodeCertificate, NodeRecord, Trust};
use protocol::id::{NodeId, ShardId};
use protocol::label::Site;
use protocol::message::{Greeting, KIND_RESPONSE, Request, Response, frame_len_max};
use protocol::record::{Receipt, Record};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Period;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

/// Lanes in use with one node at once: enough to hide the latency of syncs and links.
const LANES: usize = 4;
/// How long to wait for further nodes to answer after the last one did.
const STRAGGLERS: Duration = Duration::from_secs(3);
/// How often a busy node is asked again.
const BUSY_TRIES: u32 = 100;

/// A node that answers.
#[derive(Debug)]
pub struct Node {
    /// Who it is.
    pub id: NodeId,
    /// Where it lies.
    pub site: Site,
    /// What it says of itself.
    pub record: Signed<NodeRecord>,
    /// Its certificate.
    pub certificate: Signed<NodeCertificate>,
    link: crate::net::LinkId,
    net: Net,
    idle: Mutex<Vec<Lane>>,
    lanes: Semaphore,
    gate: Gate,
}

/// A node that is known and does not answer.
#[derive(Debug, Clone)]
pub struct Silent {
    /// Where it lies.
    pub site: Site,
    /// Why.
    pub reason: String,
}

/// The nodes of a mesh.
#[derive(Debug)]
pub struct Mesh {
    /// Those that answer.
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Those that do not.
    pub silent: BTreeMap<NodeId, Silent>,
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
        Self {
            key: vault.device.clone(),
            greeting: Greeting::Device {
                vault: vault.papers.certificate.clone(),
                device: vault.device_certificate.clone(),
            },
            trust: Trust::new([vault.operator]),
        }
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
    for file in ["run/listen", "run/met"] {
        let text = read_file(&home.path(file))?.unwrap_or_default();
        let lines = String::from_utf8_lossy(&text).into_owned();
        addresses.extend(lines.lines().filter_map(|line| line.parse::<Multiaddr>().ok()));
    }
    addresses.extend(config.client.nodes.iter().chain(&config.node.bootstrap).cloned());
    Ok(addresses)
}

impl Mesh {
    /// Connects to all nodes that can be learned of, beginning at these addresses.
    pub async fn connect(home: &Home, caller: Caller) -> Result<Self> {
        let config = Config::load(home)?;
        let addresses = first_addresses(home, &config)?;
        let mesh = Self::connect_to(caller, &addresses).await?;
        let met: String = mesh
            .nodes
            .values()
            .filter_map(|node| node.record.verify().ok())
            .flat_map(|record| {
                let node = record.node;
                record.addresses.into_iter().filter_map(move |address| {
                    Some(format!(
                        "{}\n",
                        crate::service::full_address(&address.parse().ok()?, node)
                    ))
                })
            })
            .collect();
        crate::home::write_file(&home.path("run/met"), met.as_bytes(), 0o644)?;
        Ok(mesh)
    }

    /// Connects to all nodes that can be learned of, beginning at these addresses.
    pub async fn connect_to(caller: Caller, addresses: &[Multiaddr]) -> Result<Self> {
        let (net, mut events) = Net::start(
            NetConfig { listen: Vec::new(), limits: NetLimits::default() },
            &caller.key,
        )?;
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
        let mut mesh = Self { nodes: BTreeMap::new(), silent: BTreeMap::new() };
        let mut asked: BTreeSet<NodeId> = BTreeSet::new();
        let mut sites: BTreeMap<NodeId, Site> = BTreeMap::new();
        let mut reasons: BTreeMap<NodeId, String> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut last = String::new();
        for (node, addresses) in first {
            asked.insert(node);
            tasks.spawn(Node::connect(net.clone(), Arc::clone(&caller), node, addresses));
        }
        loop {
            // Who has not answered a while after the last one did is taken as silent.
            let next = tasks.join_next();
            let done = if mesh.nodes.is_empty() {
                next.await
            } else {
                tokio::time::timeout(STRAGGLERS, next).await.unwrap_or_default()
            };
            let Some(done) = done else { break };
            let Ok((id, connected)) = done else { continue };
            match connected {
                Ok((node, members)) => {
                    mesh.nodes.insert(id, Arc::new(node));
                    for signed in members {
                        let Ok((record, certificate)) = NodeRecord::verify(&signed, wall()) else {
                            continue;
                        };
                        if caller.trust.check(certificate.operator).is_err() {
                            continue;
                        }
                        sites.insert(record.node, certificate.site());
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
        for (id, site) in sites {
            if !mesh.nodes.contains_key(&id) {
                let reason = reasons.remove(&id).unwrap_or_else(|| "no answer".into());
                mesh.silent.insert(id, Silent { site, reason });
            }
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

impl Node {
    async fn connect(
        net: Net,
        caller: Arc<Caller>,
        id: NodeId,
        addresses: Vec<Multiaddr>,
    ) -> (NodeId, Result<(Self, Vec<Signed<NodeRecord>>)>) {
        (id, Self::greet(net, &caller, id, &addresses).await)
    }

    async fn greet(
        net: Net,
        caller: &Caller,
        id: NodeId,
        addresses: &[Multiaddr],
    ) -> Result<(Self, Vec<Signed<NodeRecord>>)> {
        let link = net.connect(id.key(), addresses).await?;
        let mut lane = net.open_lane(link).await?;
        let failed = |what: &dyn std::fmt::Display| node_error(id, what);
        let (kind, body) = caller.greeting.encode();
        let record = match exchange(&mut lane, kind, &body).await.map_err(|e| failed(&e))? {
            Response::Welcome { record, .. } => record,
            Response::Refused(refusal) => {
                return Err(ClientError::Refused { node: id.short(), refusal });
            }
            _ => return Err(failed(&"an unexpected answer to the greeting")),
        };
        let (verified, certificate) = NodeRecord::verify(&record, wall())?;
        caller.trust.check(certificate.operator)?;
        if verified.node != id {
            return Err(failed(&"it shows another node's certificate"));
        }
        let node = Self {
            id,
            site: certificate.site(),
            record,
            certificate: verified.certificate,
            link,
            net,
            idle: Mutex::new(vec![lane]),
            lanes: Semaphore::new(LANES),
            gate: Gate::default(),
        };
        let Response::Members(members) = node.request(&Request::Members(Vec::new())).await? else {
            return Err(failed(&"an unexpected answer"));
        };
        Ok((node, members))
    }

    /// Asks the node. A refusal is an error.
    pub async fn request(&self, request: &Request) -> Result<Response> {
        let (kind, body) = request.encode();
        for _ in 0..BUSY_TRIES {
            let _permit = self.lanes.acquire().await.map_err(|e| node_error(self.id, &e))?;
            let mut lane = self.lane().await?;
            let response =
                exchange(&mut lane, kind, &body).await.map_err(|e| node_error(self.id, &e))?;
            self.idle.lock().await.push(lane);
            match response {
                Response::Busy { retry_after } => wait(retry_after).await,
                Response::Refused(refusal) => {
                    return Err(ClientError::Refused { node: self.id.short(), refusal });
                }
                response => return Ok(response),
            }
        }
        Err(node_error(self.id, &"it is busy all the time"))
    }

    async fn lane(&self) -> Result<Lane> {
        match self.idle.lock().await.pop() {
            Some(lane) => Ok(lane),
            None => Ok(self.net.open_lane(self.link).await?),
        }
    }

    /// Gives the node a shard to keep, and gets its receipt.
    pub async fn put(
        &self,
        record: &Signed<Record>,
        index: u16,
        expected: ShardId,
        bytes: &[u8],
    ) -> Result<Signed<Receipt>> {
        let len = bytes.len() as u32;
        let request = Request::Put { record: record.clone(), index, len };
        let (kind, body) = request.encode();
        for _ in 0..BUSY_TRIES {
            let _permit = self.lanes.acquire().await.map_err(|e| node_error(self.id, &e))?;
            let mut lane = self.lane().await?;
            let sent = async {
                let _turn = self.gate.outward().await;
                lane.send_frame(kind, &body).await?;
                lane.send_bytes(bytes).await?;
                lane.flush().await?;
                response(&mut lane).await
            };
            let answer = sent.await.map_err(|e| node_error(self.id, &e))?;
            self.idle.lock().await.push(lane);
            match answer {
                Response::Receipt(signed) => {
                    let receipt = signed.verify().map_err(|e| node_error(self.id, &e))?;
                    if receipt.holder != self.id || receipt.shard != expected || receipt.len != len
                    {
                        return Err(node_error(self.id, &"its receipt is for something else"));
                    }
                    return Ok(signed);
                }
                Response::Busy { retry_after } => wait(retry_after).await,
                Response::Refused(refusal) => {
                    return Err(ClientError::Refused { node: self.id.short(), refusal });
                }
                _ => return Err(node_error(self.id, &"an unexpected answer to a shard")),
            }
        }
        Err(node_error(self.id, &"it is busy all the time"))
    }

    /// Fills `buffer` with bytes of a shard from `offset` on. They are not verified yet.
    pub async fn get(&self, shard: ShardId, offset: u32, buffer: &mut [u8]) -> Result<()> {
        let len = buffer.len() as u32;
        let (kind, body) = Request::Get { shard, offset, len }.encode();
        let _permit = self.lanes.acquire().await.map_err(|e| node_error(self.id, &e))?;
        let mut lane = self.lane().await?;
        let _turn = self.gate.inward().await;
        let answer = exchange(&mut lane, kind, &body).await.map_err(|e| node_error(self.id, &e))?;
        match answer {
            Response::Bytes { len: found } if found == len => {
                lane.recv_exact(buffer).await.map_err(|e| node_error(self.id, &e))?;
                self.idle.lock().await.push(lane);
                Ok(())
            }
            Response::Refused(refusal) => {
                self.idle.lock().await.push(lane);
                Err(ClientError::Refused { node: self.id.short(), refusal })
            }
            _ => Err(node_error(self.id, &"an unexpected answer to a read")),
        }
    }
}

/// Asks one node for admission with a ticket, as a node that has no certificate yet.
pub async fn join(
    key: &SecretKey,
    admitter: NodeId,
    addresses: &[Multiaddr],
    greeting: &Greeting,
) -> Result<Response> {
    let (net, _events) =
        Net::start(NetConfig { listen: Vec::new(), limits: NetLimits::default() }, key)?;
    let link = net.connect(admitter.key(), addresses).await?;
    let mut lane = net.open_lane(link).await?;
    let (kind, body) = greeting.encode();
    exchange(&mut lane, kind, &body).await.map_err(|e| node_error(admitter, &e))
}

fn node_error(node: NodeId, what: &dyn std::fmt::Display) -> ClientError {
    ClientError::Node { node: node.short(), what: what.to_string() }
}

async fn wait(period: Period) {
    tokio::time::sleep(Duration::from_millis(period.0.clamp(10, 5_000))).await;
}

async fn exchange(
    lane: &mut Lane,
    kind: u8,
    body: &[u8],
) -> std::result::Result<Response, LaneError> {
    lane.send_frame(kind, body).await?;
    response(lane).await
}

async fn response(lane: &mut Lane) -> std::result::Result<Response, LaneError> {
    let frame = lane
        .recv_frame(|kind| if kind == KIND_RESPONSE { frame_len_max(kind) } else { None })
        .await?;
    Response::decode(&frame.body).map_err(|e| LaneError::Io(std::io::Error::other(e)))
}
