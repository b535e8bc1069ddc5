//! Tickets that admit nobody.

use crate::enemy::{Enemy, assert_sound, code, key, refused, target};
use crate::statements::{an_hour_ago, before_that, damaged, in_a_day, operator};
use harness::Mesh;
use protocol::certificate::{Invitation, JoinRequest};
use protocol::id::NodeId;
use protocol::label::Labels;
use protocol::message::{Greeting, RefusalCode, Response};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Wall;

fn invitation(
    operator: &SecretKey,
    admitter: NodeId,
    bearer: &SecretKey,
    expires: Wall,
) -> Signed<Invitation> {
    let invitation = Invitation {
        operator: operator.public().into(),
        admitter,
        bearer: bearer.public(),
        labels: Labels::default(),
        issued: before_that(),
        expires,
    };
    Signed::sign(&invitation, operator)
}

fn request(node: &SecretKey, bearer: &SecretKey) -> Signed<JoinRequest> {
    let request = JoinRequest {
        bearer: bearer.public(),
        node: node.public().into(),
        labels: Labels::default(),
    };
    Signed::sign(&request, bearer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_counts_once_in_time_and_at_its_node() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let at = target(&mesh, 0);
    let (ours, me, bearer) = (operator(&mesh), key("me"), key("bearer"));
    let good = invitation(&ours, at.node, &bearer, in_a_day());
    let elsewhere = key("elsewhere").public().into();
    let wrong = [
        (invitation(&ours, at.node, &bearer, an_hour_ago()), request(&me, &bearer)),
        (invitation(&key("foreign"), at.node, &bearer, in_a_day()), request(&me, &bearer)),
        (invitation(&ours, elsewhere, &bearer, in_a_day()), request(&me, &bearer)),
        (damaged(&good), request(&me, &bearer)),
        (good.clone(), request(&me, &key("thief"))),
        (good.clone(), request(&key("another"), &bearer)),
        (good.clone(), damaged(&request(&me, &bearer))),
    ];
    for (count, (invitation, request)) in wrong.iter().cloned().enumerate() {
        let enemy = Enemy::dial(at, &me).await;
        let refusal = code(enemy.greet(&Greeting::Join { invitation, request }).await);
        assert_eq!(refusal, Some(RefusalCode::Ticket), "ticket {count}");
        assert!(enemy.is_closed().await, "ticket {count}");
    }
    assert_eq!(refused(&mesh, 0, RefusalCode::Ticket).await, wrong.len() as u64);

    let honest = Greeting::Join { invitation: good.clone(), request: request(&me, &bearer) };
    let friend = Enemy::dial(at, &me).await;
    let admitted = friend.greet(&honest).await;
    assert!(matches!(admitted, Some(Response::Admitted { .. })), "{admitted:?}");
    // Overheard by somebody else, who has a node of its own.
    let replay = Greeting::Join { invitation: good, request: request(&key("replay"), &bearer) };
    for _ in 0..2 {
        let enemy = Enemy::dial(at, &key("replay")).await;
        assert_eq!(code(enemy.greet(&replay).await), Some(RefusalCode::Ticket));
        assert!(enemy.is_closed().await);
        assert!(refused(&mesh, 0, RefusalCode::Ticket).await > 0);
        // The node forgets no ticket when it is started again.
        mesh.nodes[0].kill();
        mesh.nodes[0].start();
    }
    assert_sound(&mut mesh);
}
