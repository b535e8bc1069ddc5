//! What is no frame, or no message, or comes at the wrong time.

use crate::enemy::{
    Enemy, Target, answer, assert_sound, count, frame, key, refused, status, target,
};
use crate::statements::{Owner, in_a_day, node_greeting, operator};
use harness::{Mesh, bytes};
use protocol::message::{
    GREETING_LEN_MAX, KIND_GREETING, KIND_REQUEST, KIND_RESPONSE, REQUEST_LEN_MAX, RefusalCode,
    Request, Response,
};
use tokio::task::JoinSet;

/// Enemies at once.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_greeted_gets_nothing() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let target = target(&mesh, 0);
    let silent = Enemy::dial(target, &key("silent")).await;
    let hasty = Enemy::dial(target, &key("hasty")).await;
    assert_eq!(hasty.ask(&Request::Status).await, None);
    assert!(hasty.is_closed().await);
    assert!(silent.is_closed().await);
    // One for the request, one for the silence.
    assert_eq!(refused(&mesh, 0, RefusalCode::NotVouched).await, 2);

    // Not even read: a stranger's frames are short.
    let long = Enemy::dial(target, &key("long")).await;
    let head = frame(1, KIND_REQUEST, GREETING_LEN_MAX as u32 + 1, &[]);
    let _lane = long.push(&head).await.unwrap();
    assert!(long.is_closed().await);
    assert_eq!(refused(&mesh, 0, RefusalCode::Malformed).await, 1);
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_greets_once() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let (operator, me) = (operator(&mesh), key("me"));
    let greeting = node_greeting(&operator, &me, in_a_day());
    let enemy = Enemy::welcome(target(&mesh, 0), &me, &greeting).await;
    let again = enemy.greet(&greeting).await;
    assert_eq!(crate::enemy::code(again), Some(RefusalCode::Malformed));
    assert!(enemy.is_closed().await);
    assert_eq!(refused(&mesh, 0, RefusalCode::Malformed).await, 1);
    assert_sound(&mut mesh);
}

/// Sends these bytes under a key of their own: they are refused, if answered at all, and the
/// connection is closed.
async fn send(target: Target, name: usize, bytes: Vec<u8>) {
    let enemy = Enemy::dial(target, &key(&format!("stranger {name}"))).await;
    let mut lane = enemy.push(&bytes).await.unwrap();
    match answer(&mut lane).await {
        Ok(Response::Refused(_)) | Err(_) => {}
        other => panic!("{bytes:?} was answered with {other:?}"),
    }
    assert!(enemy.is_closed().await, "{bytes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_closes_the_connection_and_is_counted() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let target = target(&mesh, 0);
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
        frame(1, KIND_GREETING, 1, &[4]),
        frame(1, KIND_GREETING, trailing.len() as u32, &trailing),
        frame(1, KIND_GREETING, greeting.len() as u32 - 1, &greeting[..greeting.len() - 1]),
    ];
    for (variant, round) in (0..6).cycle().zip(0..300) {
        let body = bytes(&format!("body {round}"), 1 << (round % 15));
        // A kind that is spoken, and a first byte that often names a variant.
        let body = [&[variant][..], &body].concat();
        wrong.push(frame(1, 1 + variant % 2, body.len() as u32, &body));
    }
    let sent = wrong.len() as u64;
    let mut sending = JoinSet::new();
    for (name, bytes) in wrong.into_iter().enumerate() {
        if sending.len() == AT_ONCE {
            sending.join_next().await.unwrap().unwrap();
        }
        sending.spawn(send(target, name, bytes));
    }
    sending.join_all().await;
    let status = status(&mesh, 0).await;
    assert_eq!(count(&status, "malformed") + count(&status, "not_vouched"), sent);
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_never_ends_ends_with_its_connection() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let target = target(&mesh, 0);
    let part = frame(1, KIND_GREETING, 1000, &[0; 10]);
    let slow = Enemy::dial(target, &key("slow")).await;
    let _waiting = slow.push(&part).await.unwrap();
    for (name, part) in [&part[..1], &part[..5], &part[..]].into_iter().enumerate() {
        let leaving = Enemy::dial(target, &key(&format!("leaving {name}"))).await;
        let _ = leaving.push(part).await.unwrap().close().await;
        leaving.net.close(leaving.link);
    }
    assert!(slow.is_closed().await);
    // Who left was not refused: only the slow one was.
    assert_eq!(refused(&mesh, 0, RefusalCode::NotVouched).await, 1);
    assert_sound(&mut mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_talks_nonsense_is_closed_and_counted() {
    let mut mesh = Mesh::start(&[("p", "a")]);
    let owner = Owner::new(&mesh, 0, "v");
    let status_body = Request::Status.encode().1;
    let trailing = [&status_body[..], &[0]].concat();
    let mut wrong = vec![
        frame(1, KIND_REQUEST, REQUEST_LEN_MAX as u32 + 1, &[]),
        frame(1, KIND_REQUEST, u32::MAX, &[]),
        frame(1, KIND_REQUEST, trailing.len() as u32, &trailing),
        frame(1, KIND_REQUEST, 0, &[]),
        frame(1, KIND_RESPONSE, 1, &[0]),
    ];
    let noise = (0..200).map(|round| bytes(&format!("noise {round}"), 1 << (round % 16)));
    wrong.extend(noise.enumerate().map(|(round, noise)| {
        let body = [&[(round % 12) as u8][..], &noise].concat();
        frame(1, KIND_REQUEST, body.len() as u32, &body)
    }));
    let mut enemy = owner.connect().await;
    let mut refusals = 0;
    for bytes in wrong {
        let mut lane = enemy.push(&bytes).await.unwrap();
        // A body may be a request by chance: then it is answered.
        if let Ok(response) = answer(&mut lane).await {
            refusals += u64::from(matches!(response, Response::Refused(_)));
        } else {
            assert!(enemy.is_closed().await);
            refusals += 1;
            enemy = owner.connect().await;
        }
    }
    assert!(refusals > 150);
    let status = status(&mesh, 0).await;
    let reasons = ["malformed", "not_held", "unknown_vault", "not_allowed"];
    let counted: u64 = reasons.iter().map(|reason| count(&status, reason)).sum();
    assert_eq!(counted, refusals);
    assert_sound(&mut mesh);
}
