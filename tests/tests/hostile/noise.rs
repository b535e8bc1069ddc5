//! Connections that never become one.

use crate::enemy::{Enemy, assert_sound, connect_from, count, fresh_address, key, status, target};
use harness::{Mesh, bytes};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;

#[tokio::test(flavor = "multi_thread")]
async fn noise_before_the_handshake_harms_nobody() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let port = target(&mesh, 0).port;
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut open = Vec::new();
    for round in 0..300 {
        let mut stream = connect_from(fresh_address(), port).await.unwrap();
        if round % 3 > 0 {
            // The node may have closed it already.
            let _ = stream.write_all(&bytes(&format!("noise {round}"), 1 << (round % 17))).await;
        }
        open.push(stream);
        let noise = bytes(&format!("datagram {round}"), 1 + 4 * round);
        datagrams.send_to(&noise, ("127.0.0.1", port)).await.unwrap();
    }
    // Many are still open and silent, from as many addresses, and keep nobody out for long.
    assert_sound(&mut mesh);
    assert!(count(&status(&mesh, 0).await, "connections") > 0);
    drop(open);
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_keep_the_others_out() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let (target, from) = (target(&mesh, 0), fresh_address());
    let mut open = Vec::new();
    for _ in 0..300 {
        open.extend(connect_from(from, target.port).await);
    }
    // All of them begin a handshake and hold it open. Nobody else waits until they time out.
    assert!(Enemy::dial_from(fresh_address(), target, &key("other")).await.is_some());
    let _ = mesh.strewn(["peers"]).ok();
    assert!(Enemy::dial_from(from, target, &key("same")).await.is_none());
    assert!(count(&status(&mesh, 0).await, "handshakes") > 0);
    drop(open);
    assert_sound(&mut mesh);
}
