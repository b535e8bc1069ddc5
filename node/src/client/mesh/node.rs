//! One node: its connection, which is made again when it is lost, and what is asked on its lanes.

use super::Caller;
use crate::client::{ClientError, Result};
use crate::home::random;
use crate::net::{Gate, Lane, LaneError, LinkId, Net, NetConfig, NetError, NetLimits};
use crate::service::{split_address, wall};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use protocol::certificate::{NodeCertificate, NodeRecord};
use protocol::id::{NodeId, ShardId};
use protocol::label::Site;
use protocol::message::{Greeting, KIND_RESPONSE, Request, Response, frame_len_max};
use protocol::partner::PartnerList;
use protocol::record::{Receipt, Record};
use protocol::sign::{SecretKey, Signed};
use protocol::tally::Done;
use protocol::time::Period;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};

/// Lanes in use with one node at once: enough to hide the latency of syncs and links.
const LANES: usize = 4;
/// How long a node that refused TCP is tried over QUIC.
const SECOND_CHANCE: Duration = Duration::from_secs(2);
/// How often a busy node is asked again.
const BUSY_TRIES: u32 = 100;
/// How long a node that could not be reached again is not dialed.
const REDIAL: Duration = Duration::from_secs(5);
/// How long a node that failed or was slow is used only where nobody else will do.
const REST: Duration = Duration::from_secs(60);

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
    net: Net,
    caller: Arc<Caller>,
    addresses: Vec<Multiaddr>,
    link: Mutex<Link>,
    idle: Mutex<Vec<Lane>>,
    lanes: Semaphore,
    gate: Gate,
    /// Until when it is used only where nobody else will do.
    rests_until: std::sync::Mutex<Option<Instant>>,
    /// What it did for this command, and was given no receipt for.
    pub(super) served: std::sync::Mutex<Done>,
}

/// A node that answers for the first time.
pub(super) struct Begun {
    /// It.
    pub(super) node: Node,
    /// Whom it knows.
    pub(super) members: Vec<Signed<NodeRecord>>,
    /// Its operator's partners, where that is the caller's and the caller does not know them.
    pub(super) partners: Option<Signed<PartnerList>>,
}

/// The connection to a node, which may have to be made again.
#[derive(Debug, Clone, Copy)]
struct Link {
    id: Option<LinkId>,
    /// When it could not be made again, last.
    failed: Option<Instant>,
}

impl Node {
    pub(super) async fn connect(
        net: Net,
        caller: Arc<Caller>,
        id: NodeId,
        addresses: Vec<Multiaddr>,
    ) -> (NodeId, Result<Begun>) {
        (id, Self::begin(net, caller, id, addresses).await)
    }

    async fn begin(
        net: Net,
        caller: Arc<Caller>,
        id: NodeId,
        addresses: Vec<Multiaddr>,
    ) -> Result<Begun> {
        let link = dial(&net, id, &addresses).await?;
        let (lane, record) = greet(&net, &caller, id, link).await?;
        let mut node = Self::new(net, caller, record, Some((link, lane)))?;
        // Those it was reached at come first.
        let others = std::mem::replace(&mut node.addresses, addresses);
        let new: Vec<_> = others.into_iter().filter(|a| !node.addresses.contains(a)).collect();
        node.addresses.extend(new);
        let Response::Members(members) = node.request(&Request::Members(Vec::new())).await? else {
            return Err(ClientError::node(id, "an unexpected answer"));
        };
        // Whatever version is known: it may be one by a key that was succeeded, whose numbers come first.
        let asks = node.caller.asks && node.site.operator == node.caller.operator;
        let partners = if asks {
            match node.request(&Request::Partners { known: 0 }).await {
                Ok(Response::Partners(status)) => status.list,
                // It serves all the same.
                _ => None,
            }
        } else {
            None
        };
        Ok(Begun { node, members, partners })
    }

    pub(super) fn new(
        net: Net,
        caller: Arc<Caller>,
        record: Signed<NodeRecord>,
        open: Option<(LinkId, Lane)>,
    ) -> Result<Self> {
        let (verified, certificate) = NodeRecord::verify(&record, wall())?;
        let (link, lane) = open.unzip();
        Ok(Self {
            id: verified.node,
            site: certificate.site(),
            record,
            certificate: verified.certificate,
            net,
            caller,
            addresses: verified.addresses.iter().filter_map(|a| a.parse().ok()).collect(),
            link: Mutex::new(Link { id: link, failed: None }),
            idle: Mutex::new(lane.into_iter().collect()),
            lanes: Semaphore::new(LANES),
            gate: Gate::default(),
            rests_until: std::sync::Mutex::default(),
            served: std::sync::Mutex::default(),
        })
    }

    /// Whether anything new is stored with it: not with a partner that was removed, from which data is read still.
    #[must_use]
    pub fn is_relied_on(&self) -> bool {
        self.caller.relies_on(self.site.operator)
    }

    /// It failed or was slow: for a while it is used only where nobody else will do.
    pub fn rest(&self) {
        let mut until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + REST);
    }

    /// Whether it is used only where nobody else will do.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        let until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// A lane that is not in use, or a new one; the connection is made again where it is gone.
    async fn lane(&self) -> Result<Lane> {
        let link = self.link.lock().await.id;
        while let Some(lane) = self.idle.lock().await.pop() {
            if Some(lane.link()) == link {
                return Ok(lane);
            }
        }
        let opened = match link {
            Some(link) => self.net.open_lane(link).await,
            None => Err(NetError::Gone),
        };
        match opened {
            Ok(lane) => Ok(lane),
            Err(error) => self.reconnect(link, error).await,
        }
    }

    async fn reconnect(&self, gone: Option<LinkId>, error: NetError) -> Result<Lane> {
        let mut link = self.link.lock().await;
        if let Some(id) = link.id.filter(|_| link.id != gone) {
            return Ok(self.net.open_lane(id).await?);
        }
        if link.failed.is_some_and(|failed| failed.elapsed() < REDIAL) {
            return Err(error.into());
        }
        let again = async {
            let id = dial(&self.net, self.id, &self.addresses).await?;
            let (lane, _) = greet(&self.net, &self.caller, self.id, id).await?;
            Ok((id, lane))
        };
        match again.await {
            Ok((id, lane)) => {
                *link = Link { id: Some(id), failed: None };
                Ok(lane)
            }
            Err(error) => {
                link.failed = Some(Instant::now());
                Err(error)
            }
        }
    }

    /// Does its work on a lane: again on a new one when the connection was lost before it was done.
    /// Everything that a node is asked can be asked twice.
    async fn exchange(&self, work: &mut Work<'_>) -> Result<Response> {
        let _permit = self.lanes.acquire().await.map_err(|e| ClientError::node(self.id, e))?;
        let mut is_again = false;
        loop {
            let mut lane = self.lane().await?;
            match work.perform(&mut lane, &self.gate).await {
                Ok(response) => {
                    self.idle.lock().await.push(lane);
                    return Ok(response);
                }
                Err(error) if error.is_lost() && !is_again => is_again = true,
                Err(error) => return Err(ClientError::node(self.id, error)),
            }
        }
    }

    /// Asks until the answer is not that the node is busy. A refusal is an error.
    async fn ask(&self, mut work: Work<'_>) -> Result<Response> {
        for _ in 0..BUSY_TRIES {
            match self.exchange(&mut work).await? {
                Response::Busy { retry_after } => wait(retry_after).await,
                Response::Refused(refusal) => {
                    return Err(ClientError::Refused { node: self.id.short(), refusal });
                }
                response => return Ok(response),
            }
        }
        Err(ClientError::node(self.id, "it is busy all the time"))
    }

    /// Asks the node. A refusal is an error.
    pub async fn request(&self, request: &Request) -> Result<Response> {
        self.ask(Work { request: request.encode(), bulk: Bulk::None }).await
    }

    /// Gives the node a shard to keep, and gets its receipt.
    pub async fn put(
        &self,
        record: &Signed<Record>,
        index: u16,
        bytes: &[u8],
    ) -> Result<Signed<Receipt>> {
        let len = bytes.len() as u32;
        let request = Request::Put { record: record.clone(), index, len };
        let work = Work { request: request.encode(), bulk: Bulk::Out(bytes) };
        let Response::Receipt(signed) = self.ask(work).await? else {
            return Err(ClientError::node(self.id, "an unexpected answer to a shard"));
        };
        let receipt = signed.verify().map_err(|e| ClientError::node(self.id, e))?;
        let asked = record.verify().map_err(|e| ClientError::node(self.id, e))?;
        if receipt.holder != self.id {
            return Err(ClientError::node(self.id, "its receipt is another node's"));
        }
        let wrong =
            |e| ClientError::node(self.id, format!("its receipt is not what was asked: {e}"));
        receipt.check_for(&asked, index).map_err(wrong)?;
        self.note(Done { received: len.into(), ..Done::default() });
        Ok(signed)
    }

    /// Fills `buffer` with bytes of a shard from `offset` on. They are not verified yet: whoever does says so by [`Node::note_sent`].
    pub async fn get(&self, shard: ShardId, offset: u32, buffer: &mut [u8]) -> Result<()> {
        let request = Request::Get { shard, offset, len: buffer.len() as u32 };
        let work = Work { request: request.encode(), bulk: Bulk::In(buffer) };
        match self.ask(work).await? {
            Response::Bytes { .. } => Ok(()),
            _ => Err(ClientError::node(self.id, "an unexpected answer to a read")),
        }
    }
}

/// What a node is asked, and the raw bytes that go with it.
struct Work<'a> {
    request: (u8, Vec<u8>),
    bulk: Bulk<'a>,
}

enum Bulk<'a> {
    None,
    /// They follow the request.
    Out(&'a [u8]),
    /// They follow the response.
    In(&'a mut [u8]),
}

impl Work<'_> {
    async fn perform(
        &mut self,
        lane: &mut Lane,
        gate: &Gate,
    ) -> std::result::Result<Response, LaneError> {
        let (kind, body) = (self.request.0, &self.request.1);
        match &mut self.bulk {
            Bulk::None => exchange(lane, kind, body).await,
            Bulk::Out(bytes) => {
                let _turn = gate.outward().await;
                let _share = lane.upload_turn().await;
                lane.send_frame(kind, body).await?;
                lane.send_bytes(bytes).await?;
                lane.flush().await?;
                response(lane).await
            }
            Bulk::In(buffer) => {
                let _turn = gate.inward().await;
                let _share = lane.download_turn().await;
                let answer = exchange(lane, kind, body).await?;
                if let Response::Bytes { len } = answer {
                    if len as usize != buffer.len() {
                        return Err(LaneError::TooLong { len: len as usize, max: buffer.len() });
                    }
                    lane.recv_exact(buffer).await?;
                }
                Ok(answer)
            }
        }
    }
}

/// Says who calls, and hears who answers: the first thing on a connection.
async fn greet(
    net: &Net,
    caller: &Caller,
    id: NodeId,
    link: LinkId,
) -> Result<(Lane, Signed<NodeRecord>)> {
    let mut lane = net.open_lane(link).await?;
    let (kind, body) = caller.greeting.encode();
    let record =
        match exchange(&mut lane, kind, &body).await.map_err(|e| ClientError::node(id, e))? {
            Response::Welcome { record, .. } => record,
            Response::Refused(refusal) => {
                return Err(ClientError::Refused { node: id.short(), refusal });
            }
            _ => return Err(ClientError::node(id, "an unexpected answer to the greeting")),
        };
    let (verified, certificate) = NodeRecord::verify(&record, wall())?;
    caller.check(&verified.certificate, &certificate)?;
    if verified.node != id {
        return Err(ClientError::node(id, "it shows another node's certificate"));
    }
    Ok((lane, record))
}

/// Dials TCP first: it costs half of what QUIC does, and says at once when nobody listens. QUIC is for
/// where TCP does not get through.
async fn dial(net: &Net, id: NodeId, addresses: &[Multiaddr]) -> Result<LinkId> {
    let (tcp, other): (Vec<Multiaddr>, Vec<Multiaddr>) = addresses
        .iter()
        .cloned()
        .partition(|a| a.iter().any(|part| matches!(part, Protocol::Tcp(_))));
    if tcp.is_empty() {
        return Ok(net.connect(id.key(), &other).await?);
    }
    match net.connect(id.key(), &tcp).await {
        Err(error) if other.is_empty() => Err(error.into()),
        Err(error) => {
            match tokio::time::timeout(SECOND_CHANCE, net.connect(id.key(), &other)).await {
                Ok(Ok(link)) => Ok(link),
                _ => Err(error.into()),
            }
        }
        Ok(link) => Ok(link),
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
    let link = dial(&net, admitter, addresses).await?;
    let mut lane = net.open_lane(link).await?;
    let (kind, body) = greeting.encode();
    exchange(&mut lane, kind, &body).await.map_err(|e| ClientError::node(admitter, e))
}

/// Says one thing to whoever answers at an address, under a key that is used once; who answered, and what.
pub async fn ask_stranger(address: &Multiaddr, greeting: &Greeting) -> Result<(NodeId, Response)> {
    let key = SecretKey::from_seed(&random()?);
    let (net, _events) =
        Net::start(NetConfig { listen: Vec::new(), limits: NetLimits::default() }, &key)?;
    let (link, node) = match split_address(address) {
        Some((node, bare)) => (dial(&net, node, &[bare]).await?, node),
        None => net.meet(address).await.map(|(link, key)| (link, key.into()))?,
    };
    let mut lane = net.open_lane(link).await?;
    let (kind, body) = greeting.encode();
    let answer = exchange(&mut lane, kind, &body).await;
    Ok((node, answer.map_err(|e| ClientError::node(node, e))?))
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
