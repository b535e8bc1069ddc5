//! Who is not vouched for.

use crate::enemy::{Enemy, assert_sound, code, key, refused, target};
use crate::statements::{
    an_hour_ago, before_that, damaged, device_certificate, in_a_day, node_greeting, node_record,
    operator, vault_certificate,
};
use harness::Mesh;
use protocol::certificate::{ConsolePass, DeviceCertificate, NodeRecord};
use protocol::id::NodeId;
use protocol::message::{Greeting, RefusalCode, Request, Response};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Wall;

fn device(operator: &SecretKey, vault: &SecretKey, device: Signed<DeviceCertificate>) -> Greeting {
    Greeting::Device { vault: vault_certificate(operator, vault, in_a_day()), device }
}

/// A pass for `console`, by the word of `node`.
fn pass(console: &SecretKey, node: &SecretKey, expires: Wall) -> Greeting {
    let pass = ConsolePass {
        console: console.public(),
        node: node.public().into(),
        issued: before_that(),
        expires,
    };
    Greeting::Console(Signed::sign(&pass, node))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_vouched_for_is_refused() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let target = target(&mesh, 0);
    let (ours, foreign, me, other) = (operator(&mesh), key("foreign"), key("me"), key("other"));
    let (vault, another) = (key("vault"), key("another vault"));
    let member = node_record(&ours, &me, in_a_day());
    let wordy = NodeRecord {
        addresses: vec!["/ip4/192.0.2.1/tcp/1".into(); 1000],
        ..member.verify().unwrap()
    };
    let of_vault = |key: &SecretKey| device_certificate(&vault, key, in_a_day());
    let certified = vault_certificate(&ours, &vault, in_a_day());
    let wrong = [
        node_greeting(&foreign, &me, in_a_day()),
        node_greeting(&ours, &me, an_hour_ago()),
        node_greeting(&ours, &other, in_a_day()),
        Greeting::Node(damaged(&member)),
        Greeting::Node(Signed::sign(&wordy, &me)),
        device(&foreign, &vault, of_vault(&me)),
        device(&ours, &vault, of_vault(&other)),
        device(&ours, &vault, damaged(&of_vault(&me))),
        device(&ours, &vault, device_certificate(&vault, &me, an_hour_ago())),
        device(&ours, &vault, device_certificate(&another, &me, in_a_day())),
        Greeting::Device { vault: damaged(&certified), device: of_vault(&me) },
        pass(&me, &key("no node"), in_a_day()),
        pass(&other, &key("no node"), in_a_day()),
    ];
    for (count, greeting) in wrong.iter().enumerate() {
        let enemy = Enemy::dial(target, &me).await;
        let refusal = code(enemy.greet(greeting).await);
        assert_eq!(refusal, Some(RefusalCode::NotVouched), "greeting {count}");
        assert!(enemy.is_closed().await, "greeting {count}");
    }
    assert_eq!(refused(&mesh, 0, RefusalCode::NotVouched).await, wrong.len() as u64);

    let _member = Enemy::welcome(target, &me, &Greeting::Node(member)).await;
    // A member's word for a console lasts as long as it says, and is for one key.
    let _console = Enemy::welcome(target, &other, &pass(&other, &me, in_a_day())).await;
    for (key, pass) in
        [(&other, pass(&other, &me, an_hour_ago())), (&foreign, pass(&other, &me, in_a_day()))]
    {
        let enemy = Enemy::dial(target, key).await;
        assert_eq!(code(enemy.greet(&pass).await), Some(RefusalCode::NotVouched));
        assert!(enemy.is_closed().await);
    }
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_cannot_bring_in_others() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let (ours, me, other) = (operator(&mesh), key("me"), key("other"));
    let member = node_record(&ours, &me, in_a_day());
    let enemy = Enemy::welcome(target(&mesh, 0), &me, &Greeting::Node(member.clone())).await;
    let strangers = vec![
        node_record(&key("foreign"), &other, in_a_day()),
        node_record(&ours, &other, an_hour_ago()),
        damaged(&node_record(&ours, &other, in_a_day())),
        // By its own word, which is nobody's here.
        node_record(&me, &other, in_a_day()),
    ];
    let answer = enemy.ask(&Request::Members(strangers)).await;
    let Some(Response::Members(known)) = answer else { panic!("{answer:?}") };
    let nodes: Vec<NodeId> = known.iter().map(|record| record.verify().unwrap().node).collect();
    assert_eq!(nodes, [target(&mesh, 0).node, me.public().into()]);
    drop(enemy);
    // A member that nobody reaches is one that is down: the others are served.
    let _ = mesh.strewn(["peers"]);
    assert_eq!(refused(&mesh, 0, RefusalCode::NotVouched).await, 0);
    assert!(mesh.nodes[0].is_up());
}
