//! Two networks over loopback.

use super::*;
use std::time::Instant;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

struct Host {
    net: Net,
    events: mpsc::Receiver<NetEvent>,
    key: PublicKey,
    address: Option<Multiaddr>,
}

async fn host(seed: u8, listen: Option<&str>, stall: Duration) -> Host {
    let limits = NetLimits { stall, ..NetLimits::default() };
    let listening: Vec<Multiaddr> = listen.iter().map(|address| address.parse().unwrap()).collect();
    let (net, mut events) =
        Net::start(NetConfig { listen: listening, limits }, &key(seed)).unwrap();
    let mut address = None;
    if listen.is_some() {
        match events.recv().await {
            Some(NetEvent::Listening(found)) => address = Some(found),
            other => panic!("{other:?}"),
        }
    }
    Host { net, events, key: key(seed).public(), address }
}

async fn next_lane(host: &mut Host) -> Lane {
    loop {
        if let NetEvent::Lane { lane, .. } = host.events.recv().await.expect("the network runs") {
            return lane;
        }
    }
}

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const STALL: Duration = Duration::from_secs(20);

async fn pair(listen: &str) -> (Host, Host, Lane, Lane) {
    let (client, mut server) = (host(1, None, STALL).await, host(2, Some(listen), STALL).await);
    let address = server.address.clone().unwrap();
    let link = client.net.connect(server.key, &[address]).await.unwrap();
    let mut lane = client.net.open_lane(link).await.unwrap();
    lane.send_frame(1, b"hello").await.unwrap();
    let other = next_lane(&mut server).await;
    (client, server, lane, other)
}

#[tokio::test]
async fn frames_and_bytes_cross_over_tcp_and_quic() {
    for listen in [TCP, QUIC] {
        let (_client, _server, mut lane, mut other) = pair(listen).await;
        let frame = other.recv_frame(|kind| (kind == 1).then_some(100)).await.unwrap();
        assert_eq!(frame, Frame { kind: 1, body: b"hello".to_vec() });
        let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut received = vec![0; sent.len()];
        let (a, b) = tokio::join!(
            async {
                lane.send_bytes(&sent).await?;
                lane.flush().await
            },
            other.recv_exact(&mut received)
        );
        a.unwrap();
        b.unwrap();
        assert!(sent == received);
    }
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
    let (_client, _server, _lane, mut other) = pair(TCP).await;
    let refused = other.recv_frame(|_| Some(4)).await.unwrap_err();
    assert!(matches!(refused, LaneError::TooLong { len: 5, max: 4 }), "{refused}");
    assert!(refused.is_malformed());
}

#[tokio::test]
async fn a_kind_that_does_not_exist_is_refused() {
    let (_client, _server, _lane, mut other) = pair(TCP).await;
    assert!(matches!(other.recv_frame(|_| None).await, Err(LaneError::Kind(1))));
}

#[tokio::test]
async fn who_is_not_there_is_said_to_be_not_there() {
    let client = host(1, None, STALL).await;
    let before = Instant::now();
    let error =
        client.net.connect(key(9).public(), &["/ip4/127.0.0.1/tcp/1".parse().unwrap()]).await;
    let text = error.unwrap_err().to_string();
    assert!(text.ends_with("at /ip4/127.0.0.1/tcp/1: Connection refused"), "{text}");
    assert!(before.elapsed() < OPEN_TIMEOUT * 2);
}

#[tokio::test]
async fn another_key_at_the_address_is_an_error() {
    let (client, server) = (host(1, None, STALL).await, host(2, Some(TCP), STALL).await);
    let wrong = client.net.connect(key(3).public(), &[server.address.unwrap()]).await;
    assert!(matches!(wrong, Err(NetError::Unreachable { .. })), "{wrong:?}");
}

#[tokio::test]
async fn a_lane_to_who_has_gone_fails_and_does_not_hang() {
    let (client, server, mut lane, other) = pair(TCP).await;
    let link = lane.link();
    drop((server, other));
    let before = Instant::now();
    while before.elapsed() < Duration::from_secs(30) && client.net.open_lane(link).await.is_ok() {}
    assert!(client.net.open_lane(link).await.is_err());
    assert!(lane.recv_exact(&mut [0]).await.is_err());
}

#[tokio::test]
async fn a_side_that_stops_reading_loses_its_link() {
    let stall = Duration::from_millis(500);
    let (client, mut server) = (host(1, None, stall).await, host(2, Some(TCP), STALL).await);
    let address = server.address.clone().unwrap();
    let link = client.net.connect(server.key, &[address]).await.unwrap();
    let mut lane = client.net.open_lane(link).await.unwrap();
    lane.send_frame(1, b"x").await.unwrap();
    let _kept_and_not_read = next_lane(&mut server).await;
    let piece = vec![0; 1 << 20];
    let error = loop {
        if let Err(error) = lane.send_bytes(&piece).await {
            break error;
        }
    };
    assert!(matches!(error, LaneError::Stalled(_)), "{error}");
    assert_eq!(client.net.counters().stalls.load(Ordering::Relaxed), 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(matches!(client.net.open_lane(link).await, Err(NetError::Gone)));
}

#[tokio::test]
async fn lanes_beyond_the_limit_are_refused_and_counted() {
    let limits = NetLimits { lanes_per_link: 2, ..NetLimits::default() };
    let config = NetConfig { listen: vec![TCP.parse().unwrap()], limits };
    let (net, mut events) = Net::start(config, &key(2)).unwrap();
    let Some(NetEvent::Listening(address)) = events.recv().await else { panic!("it listens") };
    let client = host(1, None, STALL).await;
    let link = client.net.connect(key(2).public(), &[address]).await.unwrap();
    let mut lanes = Vec::new();
    for _ in 0..5 {
        let mut lane = client.net.open_lane(link).await.unwrap();
        let _ = lane.send_frame(1, b"x").await;
        lanes.push(lane);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(net.counters().lanes_refused.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn noise_on_the_port_is_dropped_and_counted() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = host(2, Some(TCP), STALL).await;
    let address = server.address.unwrap().to_string();
    let port: u16 = address.rsplit('/').next().unwrap().parse().unwrap();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _ = stream.write_all(&[0xff; 4096]).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection was ended");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(server.net.counters().connections_failed.load(Ordering::Relaxed) >= 1);
}

#[test]
fn names_of_keys_go_both_ways() {
    let key = key(7).public();
    assert_eq!(key_of(peer_id_of(key).unwrap()), Some(key));
}
