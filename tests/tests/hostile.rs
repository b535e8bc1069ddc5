//! Bad input against real nodes: refused or closed, counted, and nobody else notices.

use harness::{Mesh, bytes, within, write};
use libp2p::Multiaddr;
use node::client::mesh::{Caller, Mesh as Connections};
use node::client::vault::{self, Vault};
use node::home::{Home, read_key};
use node::net::{Lane, LaneError, LinkId, Net, NetConfig, NetLimits};
use node::service::{split_address, wall};
use node::ticket::Ticket;
use protocol::certificate::{
    Authority, ConsolePass, DeviceCertificate, Invitation, JoinRequest, NodeCertificate,
    NodeRecord, VaultCertificate,
};
use protocol::codec::Blob;
use protocol::id::{EntryId, NodeId, SessionId, ShardId, StripeId};
use protocol::label::Labels;
use protocol::log::{Body, Entry, entry_id};
use protocol::message::{
    GREETING_LEN_MAX, Greeting, KIND_GREETING, KIND_REQUEST, KIND_RESPONSE, REQUEST_LEN_MAX,
    RefusalCode, Request, Response, frame_len_max,
};
use protocol::record::{CODEC_REED_SOLOMON, Record, SHARD_LEN_MAX, Stripe};
use protocol::sign::{SecretKey, Signed};
use protocol::time::{Period, Wall};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// Most memory that a node may ever have had, in MiB.
const MEMORY_MAX: u64 = 150;
/// How long a refusal may take to show in the counters.
const SOON: Duration = Duration::from_secs(20);

fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(blake3::hash(name.as_bytes()).as_bytes())
}

fn home(mesh: &Mesh, node: usize) -> Home {
    Home::new(mesh.nodes[node].home.clone())
}

fn addresses(mesh: &Mesh, node: usize) -> Vec<(NodeId, Multiaddr)> {
    let listen = std::fs::read_to_string(mesh.nodes[node].home.join("run/listen")).unwrap();
    listen.lines().map(|line| split_address(&line.parse().unwrap()).unwrap()).collect()
}

/// A connection to a node under some key.
struct Enemy {
    net: Net,
    link: LinkId,
}

impl Enemy {
    async fn dial(mesh: &Mesh, node: usize, key: &SecretKey) -> Self {
        let config = NetConfig { listen: Vec::new(), limits: NetLimits::default() };
        let (net, mut events) = Net::start(config, key).unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let (id, address) = addresses(mesh, node).swap_remove(0);
        let link = net.connect(id.key(), &[address]).await.unwrap();
        Self { net, link }
    }

    /// As a device of a vault, greeted.
    async fn device(mesh: &Mesh, node: usize, vault: &Vault) -> Self {
        let caller = Caller::device(vault);
        let enemy = Self::dial(mesh, node, &caller.key).await;
        let (kind, body) = caller.greeting.encode();
        let welcome = enemy.say(kind, &body).await;
        assert!(matches!(welcome, Some(Response::Welcome { .. })), "{welcome:?}");
        enemy
    }

    async fn lane(&self) -> Lane {
        self.net.open_lane(self.link).await.unwrap()
    }

    /// Says something on a lane of its own; what is answered, if anything.
    async fn say(&self, kind: u8, body: &[u8]) -> Option<Response> {
        let mut lane = self.net.open_lane(self.link).await.ok()?;
        lane.send_frame(kind, body).await.ok()?;
        answer(&mut lane).await.ok()
    }

    async fn greet(&self, greeting: &Greeting) -> Option<Response> {
        let (kind, body) = greeting.encode();
        self.say(kind, &body).await
    }

    async fn ask(&self, request: &Request) -> Option<Response> {
        let (kind, body) = request.encode();
        self.say(kind, &body).await
    }

    /// Offers a shard with these bytes.
    async fn put(&self, record: &Signed<Record>, index: u16, bytes: &[u8]) -> Option<Response> {
        let len = bytes.len() as u32;
        let (kind, body) = Request::Put { record: record.clone(), index, len }.encode();
        let mut lane = self.lane().await;
        lane.send_frame(kind, &body).await.ok()?;
        lane.send_bytes(bytes).await.ok()?;
        lane.flush().await.ok()?;
        answer(&mut lane).await.ok()
    }

    /// Whether the connection is closed from the other side before long.
    async fn is_closed(&self) -> bool {
        for _ in 0..100 {
            if self.net.open_lane(self.link).await.is_err() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        false
    }
}

async fn answer(lane: &mut Lane) -> Result<Response, LaneError> {
    let frame =
        lane.recv_frame(|kind| frame_len_max(kind).filter(|_| kind == KIND_RESPONSE)).await?;
    Ok(Response::decode(&frame.body).unwrap())
}

fn code(response: Option<Response>) -> Option<RefusalCode> {
    match response {
        Some(Response::Refused(refusal)) => Some(refusal.code),
        None => None,
        other => panic!("not refused: {other:?}"),
    }
}

/// How often a node refused something for this reason.
async fn refused(mesh: &Mesh, node: usize, code: RefusalCode) -> u64 {
    let caller = Caller::console(&home(mesh, node)).unwrap();
    let connections = Connections::connect(&home(mesh, node), caller).await.unwrap();
    let me = connections.nodes[&addresses(mesh, node)[0].0].request(&Request::Status).await;
    let Response::Status(status) = me.unwrap() else { panic!("a status") };
    status.refused.iter().find(|(name, _)| name == code.as_str()).map_or(0, |(_, count)| *count)
}

/// Every node runs, serves, has had little memory, and did not panic.
fn assert_sound(mesh: &mut Mesh) {
    mesh.settle();
    for node in &mut mesh.nodes {
        assert!(node.is_up());
        assert!(node.peak_memory() < MEMORY_MAX, "{} MiB", node.peak_memory());
        assert!(!node.log().contains("a mistake of its own"), "{}", node.log());
    }
}

fn operator(mesh: &Mesh) -> SecretKey {
    read_key(&home(mesh, 0).path("operator.key")).unwrap().unwrap()
}

fn in_a_day() -> Wall {
    wall().after(Period::days(1))
}

fn an_hour_ago() -> Wall {
    Wall(wall().0 - 3_600_000)
}

/// A node's greeting, vouched for by `operator`.
fn node_greeting(operator: &SecretKey, node: &SecretKey, expires: Wall) -> Greeting {
    let certificate = NodeCertificate {
        node: node.public().into(),
        operator: operator.public().into(),
        labels: Labels::default(),
        issued: Wall(an_hour_ago().0 - 1000),
        expires,
        authority: Authority::Operator,
    };
    let record = NodeRecord {
        node: node.public().into(),
        certificate: Signed::sign(&certificate, operator),
        addresses: Vec::new(),
        version: 1,
    };
    Greeting::Node(Signed::sign(&record, node))
}

fn device_greeting(
    operator: &SecretKey,
    vault: &SecretKey,
    vouching: &SecretKey,
    device: &SecretKey,
) -> Greeting {
    let (issued, expires) = (an_hour_ago(), in_a_day());
    let certificate = VaultCertificate {
        vault: vault.public().into(),
        operator: operator.public().into(),
        issued,
        expires,
    };
    let device = DeviceCertificate {
        vault: vouching.public().into(),
        device: device.public().into(),
        issued,
        expires,
    };
    Greeting::Device {
        vault: Signed::sign(&certificate, operator),
        device: Signed::sign(&device, vouching),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_before_the_handshake_harms_nobody() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let address = addresses(&mesh, 0).swap_remove(0).1.to_string();
    let port: u16 = address.rsplit('/').next().unwrap().parse().unwrap();
    let mut open = Vec::new();
    for round in 0..60 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        if round % 3 > 0 {
            // The node may have closed it already.
            let _ = stream.write_all(&bytes(&format!("noise {round}"), 1 << (round % 17)));
        }
        open.push(stream);
    }
    assert_sound(&mut mesh);
    // Half of those are still open, silent, and keep nobody out.
    drop(open);
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_greeted_gets_nothing() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let silent = Enemy::dial(&mesh, 0, &key("silent")).await;
    let hasty = Enemy::dial(&mesh, 0, &key("hasty")).await;
    let (kind, body) = Request::Status.encode();
    assert_eq!(hasty.say(kind, &body).await, None);
    assert!(hasty.is_closed().await);
    assert!(silent.is_closed().await);
    // One for the request, one for the silence.
    assert!(refused(&mesh, 0, RefusalCode::NotVouched).await >= 2);

    // Not even read: a stranger's frames are short.
    let long = Enemy::dial(&mesh, 0, &key("long")).await;
    let mut lane = long.lane().await;
    let head = [&[1, KIND_REQUEST][..], &(GREETING_LEN_MAX as u32 + 1).to_le_bytes()].concat();
    lane.send_bytes(&head).await.unwrap();
    lane.flush().await.unwrap();
    assert!(long.is_closed().await);
    assert!(refused(&mesh, 0, RefusalCode::Malformed).await >= 1);
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_closes_the_connection_and_is_counted() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let frame = |version: u8, kind: u8, len: u32, body: &[u8]| {
        [&[version, kind][..], &len.to_le_bytes(), body].concat()
    };
    let greeting = node_greeting(&key("o"), &key("n"), in_a_day()).encode().1;
    let trailing = [&greeting[..], &[0]].concat();
    let mut wrong = vec![
        frame(0, KIND_GREETING, 1, &[0]),
        frame(2, KIND_GREETING, 1, &[0]),
        frame(1, 0, 1, &[0]),
        frame(1, KIND_RESPONSE, 1, &[0]),
        frame(1, 255, 1, &[0]),
        frame(1, KIND_GREETING, u32::MAX, &[0; 100]),
        frame(1, KIND_REQUEST, u32::MAX, &[0; 100]),
        frame(1, KIND_GREETING, GREETING_LEN_MAX as u32 + 1, &[0; 100]),
        frame(1, KIND_GREETING, 0, &[]),
        frame(1, KIND_GREETING, trailing.len() as u32, &trailing),
        frame(1, KIND_GREETING, greeting.len() as u32 - 1, &greeting[..greeting.len() - 1]),
    ];
    for round in 0..30 {
        let body = bytes(&format!("body {round}"), 1 << (round % 15));
        // A kind that is spoken, and a first byte that often names a variant.
        let body = [&[round % 6][..], &body].concat();
        wrong.push(frame(1, 1 + round % 2, body.len() as u32, &body));
    }
    for (count, bytes) in wrong.iter().enumerate() {
        let enemy = Enemy::dial(&mesh, 0, &key(&format!("malformed {count}"))).await;
        let mut lane = enemy.lane().await;
        lane.send_bytes(bytes).await.unwrap();
        lane.flush().await.unwrap();
        match answer(&mut lane).await {
            Ok(Response::Refused(_)) | Err(_) => {}
            other => panic!("{bytes:?} was answered with {other:?}"),
        }
        assert!(enemy.is_closed().await, "{bytes:?}");
    }
    let counted = refused(&mesh, 0, RefusalCode::Malformed).await
        + refused(&mesh, 0, RefusalCode::NotVouched).await;
    assert_eq!(counted, wrong.len() as u64);

    // A frame that never ends: the connection, not the node, waits for the rest.
    let slow = Enemy::dial(&mesh, 0, &key("slow")).await;
    let mut lane = slow.lane().await;
    lane.send_bytes(&frame(1, KIND_GREETING, 1000, &[0; 10])).await.unwrap();
    lane.flush().await.unwrap();
    assert_sound(&mut mesh);
    assert!(slow.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_vouched_for_is_refused() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let (ours, foreign, me, other) = (operator(&mesh), key("foreign"), key("me"), key("other"));
    let Greeting::Node(honest) = node_greeting(&ours, &me, in_a_day()) else { unreachable!() };
    let mut damaged = honest.to_bytes();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = Signed::from_bytes(&damaged).unwrap();
    let console = |node: &SecretKey, expires| {
        let pass = ConsolePass {
            console: me.public(),
            node: node.public().into(),
            issued: Wall(an_hour_ago().0 - 1000),
            expires,
        };
        Greeting::Console(Signed::sign(&pass, node))
    };
    let wrong = [
        node_greeting(&foreign, &me, in_a_day()),
        node_greeting(&ours, &me, an_hour_ago()),
        node_greeting(&ours, &other, in_a_day()),
        Greeting::Node(damaged),
        device_greeting(&foreign, &key("vault"), &key("vault"), &me),
        device_greeting(&ours, &key("vault"), &key("another vault"), &me),
        device_greeting(&ours, &key("vault"), &key("vault"), &other),
        console(&key("no node"), in_a_day()),
    ];
    for (count, greeting) in wrong.iter().enumerate() {
        let enemy = Enemy::dial(&mesh, 0, &me).await;
        let refusal = code(enemy.greet(greeting).await);
        assert_eq!(refusal, Some(RefusalCode::NotVouched), "greeting {count}");
        assert!(enemy.is_closed().await, "greeting {count}");
    }
    assert_eq!(refused(&mesh, 0, RefusalCode::NotVouched).await, wrong.len() as u64);
    let friend = Enemy::dial(&mesh, 0, &me).await;
    let welcome = friend.greet(&Greeting::Node(honest)).await;
    assert!(matches!(welcome, Some(Response::Welcome { .. })), "{welcome:?}");
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_counts_once_in_time_and_at_its_node() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let (ours, me, bearer) = (operator(&mesh), key("me"), key("bearer"));
    let admitter = addresses(&mesh, 0)[0].0;
    let invite = |operator: &SecretKey, admitter, expires| {
        let invitation = Invitation {
            operator: operator.public().into(),
            admitter,
            bearer: bearer.public(),
            labels: Labels::default(),
            issued: Wall(an_hour_ago().0 - 1000),
            expires,
        };
        Signed::sign(&invitation, operator)
    };
    let request = |node: &SecretKey, signer: &SecretKey| {
        let request = JoinRequest {
            bearer: signer.public(),
            node: node.public().into(),
            labels: Labels::default(),
        };
        Signed::sign(&request, signer)
    };
    let mut damaged = invite(&ours, admitter, in_a_day()).to_bytes();
    damaged[40] ^= 1;
    let mut wrong = vec![
        (invite(&ours, admitter, an_hour_ago()), request(&me, &bearer)),
        (invite(&key("foreign"), admitter, in_a_day()), request(&me, &bearer)),
        (invite(&ours, key("elsewhere").public().into(), in_a_day()), request(&me, &bearer)),
        (invite(&ours, admitter, in_a_day()), request(&me, &key("thief"))),
        (invite(&ours, admitter, in_a_day()), request(&key("another"), &bearer)),
    ];
    wrong.extend(Signed::from_bytes(&damaged).ok().map(|damaged| (damaged, request(&me, &bearer))));
    for (count, (invitation, request)) in wrong.into_iter().enumerate() {
        let enemy = Enemy::dial(&mesh, 0, &me).await;
        let refusal = code(enemy.greet(&Greeting::Join { invitation, request }).await);
        assert!(refusal.is_some(), "ticket {count}");
        assert!(enemy.is_closed().await, "ticket {count}");
    }
    let honest = Greeting::Join {
        invitation: invite(&ours, admitter, in_a_day()),
        request: request(&me, &bearer),
    };
    let friend = Enemy::dial(&mesh, 0, &me).await;
    let admitted = friend.greet(&honest).await;
    assert!(matches!(admitted, Some(Response::Admitted { .. })), "{admitted:?}");
    // Overheard by somebody else, who has a node of its own.
    let replay = Greeting::Join {
        invitation: invite(&ours, admitter, in_a_day()),
        request: request(&key("replay"), &bearer),
    };
    for _ in 0..2 {
        let enemy = Enemy::dial(&mesh, 0, &key("replay")).await;
        assert_eq!(code(enemy.greet(&replay).await), Some(RefusalCode::Ticket));
        // The node forgets no ticket when it is started again.
        mesh.nodes[0].kill();
        mesh.nodes[0].start();
    }
    let line = strewn_invite(&mesh);
    assert!(Ticket::from_line(&line).is_ok());
    assert_sound(&mut mesh);
}

fn strewn_invite(mesh: &Mesh) -> String {
    mesh.strewn(["--quiet", "invite"]).ok().out.trim().to_string()
}

/// Three nodes, a vault that all of them know, and a record of a stripe of three.
fn vault_on_three() -> (Mesh, Vault, Record, Vec<u8>) {
    let mesh = Mesh::start(&[("p", "a"), ("q", "b"), ("r", "c")]);
    mesh.create_vault("v", "[survive]\nany = [ { provider = 1 } ]\n[lock]\nperiod = \"90d\"\n");
    write(mesh.dir().join("source/file"), bytes("file", 10_000));
    let _ = mesh.backup(&mesh.dir().join("source")).ok();
    let vault = vault::load(&home(&mesh, 0), "v").unwrap();
    let shard = bytes("shard", 4096);
    let record = Record {
        stripe: Stripe {
            vault: vault.id,
            codec: CODEC_REED_SOLOMON,
            k: 1,
            n: 3,
            shard_len: shard.len() as u32,
            shards: vec![ShardId(*blake3::hash(&shard).as_bytes()); 3],
        },
        session: SessionId([1; 32]),
        policy: vault.policy.clone(),
        holders: (0..3).map(|node| addresses(&mesh, node)[0].0).collect(),
        version: 1,
        device: vault.device_id(),
    };
    (mesh, vault, record, shard)
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_and_records_that_do_not_fit_are_refused() {
    let (mut mesh, vault, record, shard) = vault_on_three();
    let enemy = Enemy::device(&mesh, 0, &vault).await;
    let used = mesh.nodes[0].shard_files().len();
    let with = |change: &dyn Fn(&mut Record)| {
        let mut record = record.clone();
        change(&mut record);
        record
    };
    let wrong: Vec<Record> = vec![
        with(&|r| r.stripe.k = 0),
        with(&|r| r.stripe.k = 4),
        with(&|r| r.stripe.n = 2),
        with(&|r| r.stripe.n = 0),
        with(&|r| r.stripe.codec = 9),
        with(&|r| r.stripe.shard_len = 0),
        with(&|r| r.stripe.shard_len = 4097),
        with(&|r| r.stripe.shard_len = 8192),
        with(&|r| r.stripe.shard_len = u32::MAX - 63),
        with(&|r| r.stripe.shards.truncate(1)),
        with(&|r| r.holders.truncate(1)),
        with(&|r| r.holders[1] = r.holders[0]),
        with(&|r| r.holders.swap(0, 1)),
        with(&|r| r.stripe.vault = key("no vault").public().into()),
    ];
    for (count, record) in wrong.iter().enumerate() {
        let signed = Signed::sign(record, &vault.device);
        let refusal = enemy.put(&signed, 0, &shard).await;
        assert!(code(refusal).is_some(), "record {count}");
    }
    let signed = Signed::sign(&record, &vault.device);
    for index in [1, 3, u16::MAX] {
        assert!(code(enemy.put(&signed, index, &shard).await).is_some(), "index {index}");
    }
    let forged = Signed::sign(&with(&|r| r.device = key("thief").public().into()), &key("thief"));
    assert!(code(enemy.put(&forged, 0, &shard).await).is_some());
    let mut damaged = signed.to_bytes();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = Signed::from_bytes(&damaged).unwrap();
    assert!(code(enemy.put(&damaged, 0, &shard).await).is_some());
    let other = bytes("other", shard.len());
    assert_eq!(code(enemy.put(&signed, 0, &other).await), Some(RefusalCode::WrongShard));
    assert!(code(enemy.put(&signed, 0, &shard[..64]).await).is_some());
    assert_eq!(mesh.nodes[0].shard_files().len(), used);

    // Bytes that stop half-way leave nothing.
    {
        let leaving = Enemy::device(&mesh, 0, &vault).await;
        let len = shard.len() as u32;
        let (kind, body) = Request::Put { record: signed.clone(), index: 0, len }.encode();
        let mut lane = leaving.lane().await;
        lane.send_frame(kind, &body).await.unwrap();
        lane.send_bytes(&shard[..1000]).await.unwrap();
        lane.flush().await.unwrap();
        leaving.net.close(leaving.link);
    }
    let incoming = mesh.nodes[0].home.join("node/incoming");
    let is_empty = || std::fs::read_dir(&incoming).unwrap().next().is_none();
    assert!(within(SOON, is_empty));
    assert_eq!(mesh.nodes[0].shard_files().len(), used);

    // Longer than any shard: nobody reads that much to be polite.
    let long = Enemy::device(&mesh, 0, &vault).await;
    let put = Request::Put { record: signed.clone(), index: 0, len: SHARD_LEN_MAX + 1 };
    assert_eq!(code(long.ask(&put).await), Some(RefusalCode::Malformed));
    assert!(long.is_closed().await);

    // And what fits is still taken, once.
    let kept = enemy.put(&signed, 0, &shard).await;
    assert!(matches!(kept, Some(Response::Receipt(_))), "{kept:?}");
    let again = enemy.put(&signed, 0, &shard).await;
    assert!(matches!(again, Some(Response::Receipt(_))), "{again:?}");
    assert_eq!(mesh.nodes[0].shard_files().len(), used + 1);
    assert!(refused(&mesh, 0, RefusalCode::WrongShard).await >= 1);
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_vaults_device_sees_nothing_of_another_vault() {
    let (mut mesh, victim, record, shard) = vault_on_three();
    let friend = Enemy::device(&mesh, 0, &victim).await;
    let kept = friend.put(&Signed::sign(&record, &victim.device), 0, &shard).await;
    assert!(matches!(kept, Some(Response::Receipt(_))), "{kept:?}");

    mesh.create_vault("w", "[survive]\nany = [ { provider = 1 } ]\n");
    let backup = ["backup", "--vault", "w"].map(str::to_string);
    let source = mesh.dir().join("source").display().to_string();
    let _ = mesh.strewn(backup.into_iter().chain([source])).ok();
    let thief = vault::load(&home(&mesh, 0), "w").unwrap();
    let enemy = Enemy::device(&mesh, 0, &thief).await;
    let get = |offset, len| Request::Get { shard: record.stripe.shards[0], offset, len };
    let stripes: Vec<StripeId> = vec![record.stripe.id()];
    for request in [
        get(0, 64),
        Request::Records { vault: victim.id, stripes },
        Request::Inventory { vault: victim.id, after: None },
        Request::Log { vault: victim.id, after: None },
        Request::Introduce(victim.papers.clone()),
    ] {
        assert!(code(enemy.ask(&request).await).is_some(), "{request:?}");
    }
    assert_eq!(enemy.ask(&Request::Vault(victim.id)).await, Some(Response::Vault(None)));
    // Its record and bytes, taken from elsewhere, are of no use either.
    let put = enemy.put(&Signed::sign(&record, &victim.device), 0, &shard).await;
    assert!(code(put).is_some());

    // The owner itself gets what is there, and nothing beyond.
    for (offset, len) in [(4096, 64), (4095, 2), (u32::MAX, u32::MAX), (0, u32::MAX)] {
        assert!(code(friend.ask(&get(offset, len)).await).is_some(), "{len} at {offset}");
    }
    let missing = Request::Get { shard: ShardId([7; 32]), offset: 0, len: 1 };
    assert_eq!(code(friend.ask(&missing).await), Some(RefusalCode::NotHeld));
    let bytes = friend.ask(&get(0, 64)).await;
    assert_eq!(bytes, Some(Response::Bytes { len: 64 }));
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_not_rewritten() {
    let (mut mesh, vault, ..) = vault_on_three();
    let enemy = Enemy::device(&mesh, 0, &vault).await;
    let log = enemy.ask(&Request::Log { vault: vault.id, after: None }).await;
    let Some(Response::Log { entries, .. }) = log else { panic!("{log:?}") };
    let last = entries.last().unwrap().entry.clone();
    let seq = last.verify().unwrap().seq;
    let entry = |seq, previous: Option<EntryId>, summary: usize| Entry {
        vault: vault.id,
        device: vault.device_id(),
        seq,
        previous,
        claimed: wall(),
        body: Body::Snapshot {
            session: SessionId([1; 32]),
            summary: Blob(vec![0; summary]),
            root: Blob(vec![1]),
        },
    };
    let append = |entry: &Entry, signer: &SecretKey| Request::Append(Signed::sign(entry, signer));
    let fork = entry(seq, entries.first().map(|first| entry_id(&first.entry)), 1);
    assert_eq!(code(enemy.ask(&append(&fork, &vault.device)).await), Some(RefusalCode::Fork));
    let lost = entry(seq + 1, Some(EntryId([9; 32])), 1);
    assert!(code(enemy.ask(&append(&lost, &vault.device)).await).is_some());
    let gap = enemy.ask(&append(&entry(seq + 5, Some(entry_id(&last)), 1), &vault.device)).await;
    assert_eq!(gap, Some(Response::Behind { next: seq + 1 }));
    let next = entry(seq + 1, Some(entry_id(&last)), 1);
    let mut stolen = next.clone();
    stolen.device = key("thief").public().into();
    assert!(code(enemy.ask(&append(&stolen, &key("thief"))).await).is_some());
    let appended = enemy.ask(&append(&next, &vault.device)).await;
    assert!(matches!(appended, Some(Response::Appended(_))), "{appended:?}");
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_stay_within_bounds() {
    let (mut mesh, vault, record, _) = vault_on_three();
    // Strangers with long frames that never end, many lanes each.
    let mut strangers = Vec::new();
    for count in 0..12 {
        let enemy = Enemy::dial(&mesh, 0, &key(&format!("stranger {count}"))).await;
        for _ in 0..32 {
            let Ok(mut lane) = enemy.net.open_lane(enemy.link).await else { break };
            let len = (REQUEST_LEN_MAX as u32).to_le_bytes();
            let head = [&[1, KIND_REQUEST][..], &len, &vec![0; 60_000]].concat();
            let _ = lane.send_bytes(&head).await;
            let _ = lane.flush().await;
            strangers.push(lane);
        }
    }
    // A device that opens lanes without end, and offers shards on all of them.
    let device = Enemy::device(&mesh, 0, &vault).await;
    let mut lanes = Vec::new();
    let len = SHARD_LEN_MAX;
    let mut large = record.clone();
    large.stripe.shard_len = len;
    let signed = Signed::sign(&large, &vault.device);
    let (kind, body) = Request::Put { record: signed, index: 0, len }.encode();
    let piece = vec![0; 64 << 10];
    for _ in 0..1000 {
        let Ok(mut lane) = device.net.open_lane(device.link).await else { break };
        if lane.send_frame(kind, &body).await.is_ok() && lane.send_bytes(&piece).await.is_ok() {
            lanes.push(lane);
        }
    }
    // One that asks and never listens.
    let deaf = Enemy::device(&mesh, 0, &vault).await;
    let (kind, body) = Request::Inventory { vault: vault.id, after: None }.encode();
    let mut lane = deaf.lane().await;
    for _ in 0..200 {
        if tokio::time::timeout(Duration::from_millis(200), lane.send_frame(kind, &body))
            .await
            .is_err()
        {
            break;
        }
    }
    assert_sound(&mut mesh);
    drop((strangers, lanes));
    let _ = mesh.backup(&mesh.dir().join("source")).ok();
}
