//! Connections that say whatever a test wants, and what the node made of it.

use harness::Mesh;
use node::client::mesh::{Caller, Mesh as Connections};
use node::home::Home;
use node::net::{Lane, LaneError, LinkId, Net, NetConfig, NetLimits};
use node::service::split_address;
use protocol::id::NodeId;
use protocol::message::{
    Greeting, KIND_RESPONSE, NodeStatus, RefusalCode, Request, Response, frame_len_max,
};
use protocol::record::Record;
use protocol::sign::{SecretKey, Signed};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Most memory that a node may ever have had, in MiB.
const MEMORY_MAX: u64 = 150;
/// How long a refusal, or a connection's end, may take to show.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(blake3::hash(name.as_bytes()).as_bytes())
}

pub(crate) fn home(mesh: &Mesh, node: usize) -> Home {
    Home::new(mesh.nodes[node].home.clone())
}

/// A node, and where it listens on loopback, over TCP and QUIC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) node: NodeId,
    pub(crate) port: u16,
}

pub(crate) fn target(mesh: &Mesh, node: usize) -> Target {
    let listen = std::fs::read_to_string(mesh.nodes[node].home.join("run/listen")).unwrap();
    let tcp = listen.lines().find(|line| line.contains("/tcp/")).expect("it listens over TCP");
    let (node, address) = split_address(&tcp.parse().unwrap()).unwrap();
    let port = address.to_string().rsplit('/').next().unwrap().parse().unwrap();
    Target { node, port }
}

/// An address of this host that nobody came from yet: what it does is not held against others.
pub(crate) fn fresh_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    Ipv4Addr::from(0x7f10_0001 + COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Connects to a node from this address.
pub(crate) async fn connect_from(from: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect((Ipv4Addr::LOCALHOST, port).into()).await
}

/// A port that leads to the node, which sees the given address.
async fn detour(from: Ipv4Addr, port: u16) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut far) = connect_from(from, port).await {
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    // Either side may end it in any way.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    at
}

/// A connection to a node under some key.
pub(crate) struct Enemy {
    pub(crate) net: Net,
    pub(crate) link: LinkId,
}

impl Enemy {
    pub(crate) async fn dial(target: Target, key: &SecretKey) -> Self {
        let dialed = Self::dial_from(fresh_address(), target, key).await;
        dialed.expect("the node takes connections")
    }

    pub(crate) async fn dial_from(from: Ipv4Addr, target: Target, key: &SecretKey) -> Option<Self> {
        let port = detour(from, target.port).await;
        Self::open(target, key, &format!("/ip4/127.0.0.1/tcp/{port}")).await
    }

    /// Over QUIC, from where the honest ones come.
    pub(crate) async fn dial_quic(target: Target, key: &SecretKey) -> Self {
        let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", target.port);
        Self::open(target, key, &address).await.expect("the node takes connections")
    }

    async fn open(target: Target, key: &SecretKey, address: &str) -> Option<Self> {
        let config = NetConfig { listen: Vec::new(), limits: NetLimits::default() };
        let (net, mut events) = Net::start(config, key).unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let link = net.connect(target.node.key(), &[address.parse().unwrap()]).await.ok()?;
        Some(Self { net, link })
    }

    /// Under this key, greeted and welcome.
    pub(crate) async fn welcome(target: Target, key: &SecretKey, greeting: &Greeting) -> Self {
        let enemy = Self::dial(target, key).await;
        let welcome = enemy.greet(greeting).await;
        assert!(matches!(welcome, Some(Response::Welcome { .. })), "{welcome:?}");
        enemy
    }

    /// Sends bytes as they are on a lane of its own.
    pub(crate) async fn push(&self, bytes: &[u8]) -> Option<Lane> {
        let mut lane = self.net.open_lane(self.link).await.ok()?;
        lane.send_bytes(bytes).await.ok()?;
        lane.flush().await.ok()?;
        Some(lane)
    }

    /// Says something on a lane of its own; what is answered, if anything.
    pub(crate) async fn say(&self, kind: u8, body: &[u8]) -> Option<Response> {
        let mut lane = self.net.open_lane(self.link).await.ok()?;
        lane.send_frame(kind, body).await.ok()?;
        answer(&mut lane).await.ok()
    }

    pub(crate) async fn greet(&self, greeting: &Greeting) -> Option<Response> {
        let (kind, body) = greeting.encode();
        self.say(kind, &body).await
    }

    pub(crate) async fn ask(&self, request: &Request) -> Option<Response> {
        let (kind, body) = request.encode();
        self.say(kind, &body).await
    }

    /// Offers a shard with these bytes.
    pub(crate) async fn put(
        &self,
        record: &Signed<Record>,
        index: u16,
        bytes: &[u8],
    ) -> Option<Response> {
        let mut lane = self.begin_put(record, index, bytes.len() as u32, bytes).await?;
        answer(&mut lane).await.ok()
    }

    /// Offers a shard of `len` bytes and sends these of them.
    pub(crate) async fn begin_put(
        &self,
        record: &Signed<Record>,
        index: u16,
        len: u32,
        bytes: &[u8],
    ) -> Option<Lane> {
        let (kind, body) = Request::Put { record: record.clone(), index, len }.encode();
        let mut lane = self.net.open_lane(self.link).await.ok()?;
        lane.send_frame(kind, &body).await.ok()?;
        lane.send_bytes(bytes).await.ok()?;
        lane.flush().await.ok()?;
        Some(lane)
    }

    /// Whether the connection is closed from the other side before long.
    pub(crate) async fn is_closed(&self) -> bool {
        let closed = async {
            while self.net.open_lane(self.link).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(SOON, closed).await.is_ok()
    }
}

pub(crate) async fn answer(lane: &mut Lane) -> Result<Response, LaneError> {
    let frame =
        lane.recv_frame(|kind| frame_len_max(kind).filter(|_| kind == KIND_RESPONSE)).await?;
    Ok(Response::decode(&frame.body).unwrap())
}

/// A frame as it is on the wire, whatever its head says.
pub(crate) fn frame(version: u8, kind: u8, len: u32, body: &[u8]) -> Vec<u8> {
    [&[version, kind][..], &len.to_le_bytes(), body].concat()
}

/// Why something was refused; `None` when the connection ended without a word.
pub(crate) fn code(response: Option<Response>) -> Option<RefusalCode> {
    match response {
        Some(Response::Refused(refusal)) => Some(refusal.code),
        None => None,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) async fn status(mesh: &Mesh, node: usize) -> NodeStatus {
    let caller = Caller::console(&home(mesh, node)).unwrap();
    let connections = Connections::connect(&home(mesh, node), caller).await.unwrap();
    let answer = connections.nodes[&target(mesh, node).node].request(&Request::Status).await;
    let Response::Status(status) = answer.unwrap() else { panic!("a status") };
    *status
}

/// How often a node refused something for this reason.
pub(crate) fn count(status: &NodeStatus, reason: &str) -> u64 {
    status.refused.iter().find(|(name, _)| name == reason).map_or(0, |(_, count)| *count)
}

pub(crate) async fn refused(mesh: &Mesh, node: usize, code: RefusalCode) -> u64 {
    count(&status(mesh, node).await, code.as_str())
}

/// Every node runs, serves, has had little memory, and did not panic.
pub(crate) fn assert_sound(mesh: &mut Mesh) {
    mesh.settle();
    for node in &mut mesh.nodes {
        assert!(node.is_up());
        assert!(node.peak_memory() < MEMORY_MAX, "{} MiB", node.peak_memory());
        let log = node.log();
        assert!(!log.contains("panicked") && !log.contains("a mistake of its own"), "{log}");
    }
}
