//! A stranger gets nothing; who is vouched for gets in; a ticket admits one node.

use super::cast::{self, *};
use super::desk::{Desk, code};
use crate::certificate::NodeCertificate;
use crate::message::{Greeting, RefusalCode, Request, Response};
use crate::peer::{Input, Note, PeerConfig, Table};
use crate::time::Period;

fn refused_and_closed(key: u8, greeting: Greeting) -> RefusalCode {
    let mut desk = Desk::new();
    let link = desk.connect(public(key), false);
    let lane = desk.send_greeting(link, greeting);
    desk.settle();
    let (response, close) = desk.reply(lane).expect("a refused greeting is answered");
    assert!(close, "the link ends with the refusal");
    // The link is still not vouched for.
    desk.send(link, Request::Status);
    assert_eq!(desk.closed, [link]);
    assert_eq!(desk.rows(Table::Member), 1, "nothing but its own record is kept");
    assert_eq!(desk.rows(Table::Device), 0);
    code(&response)
}

#[test]
fn no_request_is_answered_before_a_greeting() {
    let record = crate::sign::Signed::sign(&record(VAULT, DEVICE, 1), &secret(DEVICE));
    let vault = public(VAULT).into();
    for request in [
        Request::Status,
        Request::Members(vec![node_record(OPERATOR, STRANGER, 1)]),
        Request::Introduce(papers(VAULT, 1, &[NODE])),
        Request::Vault(vault),
        Request::Append(entry(0, None, 0)),
        Request::Log { vault, after: None },
        Request::Put { record: record.clone(), index: 0, len: SHARD_LEN },
        Request::Replace(record),
        Request::Get { shard: shard_id(&[]), offset: 0, len: 1 },
        Request::Records { vault, stripes: vec![] },
        Request::Inventory { vault, after: None },
    ] {
        let mut desk = Desk::new();
        let link = desk.connect(public(STRANGER), false);
        let lane = desk.send(link, request);
        assert_eq!(desk.undurable(), 0);
        assert_eq!(desk.reply(lane), None);
        assert!(desk.arriving.is_empty());
        assert_eq!(desk.closed, [link]);
    }
}

#[test]
fn a_late_greeting_is_closed_at_the_deadline_and_not_before() {
    let mut desk = Desk::new();
    let link = desk.connect(public(NEIGHBOUR), false);
    let timeout = PeerConfig::default().greeting_timeout;
    assert!(desk.peer.poll_timeout() <= desk.now.mono.after(timeout));
    desk.pass(Period(timeout.0 - 1));
    assert!(desk.closed.is_empty());
    let deadline = desk.peer.poll_timeout();
    desk.wait_until(deadline);
    assert_eq!(desk.closed, [link]);
    let lane = desk.send_greeting(link, node_greeting(OPERATOR, NEIGHBOUR));
    assert_eq!(desk.reply(lane), None, "too late");
    assert!(matches!(desk.notes[..], [Note::Refused { .. }]));
}

#[test]
fn who_greeted_in_time_is_not_closed() {
    let mut desk = Desk::new();
    desk.node(NEIGHBOUR);
    desk.pass(Period::seconds(60));
    assert!(desk.closed.is_empty());
}

#[test]
fn a_device_that_is_not_durable_at_the_deadline_is_closed() {
    let mut desk = Desk::new();
    let link = desk.connect(public(DEVICE), false);
    let lane = desk.send_greeting(link, device_greeting(OPERATOR, VAULT, DEVICE));
    assert_eq!(desk.reply(lane), None, "no welcome before its certificate is kept");
    desk.pass(Period::seconds(10));
    assert_eq!(desk.closed, [link]);
    desk.settle();
    desk.send(link, Request::Status);
    assert_eq!(desk.closed, [link, link]);
}

#[test]
fn a_node_of_a_foreign_operator_is_refused() {
    let greeting = node_greeting(FOREIGN_OPERATOR, NEIGHBOUR);
    assert_eq!(refused_and_closed(NEIGHBOUR, greeting), RefusalCode::NotVouched);
}

#[test]
fn another_nodes_record_is_refused() {
    let greeting = node_greeting(OPERATOR, NEIGHBOUR);
    assert_eq!(refused_and_closed(STRANGER, greeting), RefusalCode::NotVouched);
}

#[test]
fn an_expired_certificate_is_refused() {
    let mut desk = Desk::new();
    desk.pass(Period(EXPIRY.0 - EPOCH.0));
    let (_, response) = desk.greet(NEIGHBOUR, node_greeting(OPERATOR, NEIGHBOUR));
    assert_eq!(code(&response), RefusalCode::NotVouched);
    let (_, response) = desk.greet(DEVICE, device_greeting(OPERATOR, VAULT, DEVICE));
    assert_eq!(code(&response), RefusalCode::NotVouched);
}

#[test]
fn a_device_of_a_foreign_operators_vault_is_refused() {
    let greeting = device_greeting(FOREIGN_OPERATOR, VAULT, DEVICE);
    assert_eq!(refused_and_closed(DEVICE, greeting), RefusalCode::NotVouched);
}

#[test]
fn another_devices_certificate_is_refused() {
    let greeting = device_greeting(OPERATOR, VAULT, DEVICE);
    assert_eq!(refused_and_closed(SECOND_DEVICE, greeting), RefusalCode::NotVouched);
}

#[test]
fn a_device_of_another_vault_is_refused() {
    let greeting = Greeting::Device {
        vault: vault_certificate(OPERATOR, VAULT, EXPIRY),
        device: device_certificate(OTHER_VAULT, DEVICE, EXPIRY),
    };
    assert_eq!(refused_and_closed(DEVICE, greeting), RefusalCode::NotVouched);
}

#[test]
fn a_device_whose_certificate_cannot_be_kept_is_refused_and_closed() {
    let mut desk = Desk::new();
    let link = desk.connect(public(DEVICE), false);
    let lane = desk.send_greeting(link, device_greeting(OPERATOR, VAULT, DEVICE));
    assert!(desk.fail_one());
    let (response, close) = desk.reply(lane).unwrap();
    assert_eq!((code(&response), close), (RefusalCode::Internal, true));
    desk.send(link, Request::Status);
    assert_eq!(desk.closed, [link]);
}

#[test]
fn a_device_on_a_second_link_waits_for_the_disk_too() {
    let mut desk = Desk::new();
    let links = [desk.connect(public(DEVICE), false), desk.connect(public(DEVICE), false)];
    let lanes =
        links.map(|link| desk.send_greeting(link, device_greeting(OPERATOR, VAULT, DEVICE)));
    assert_eq!(lanes.map(|lane| desk.reply(lane)), [None, None]);
    desk.settle();
    for lane in lanes {
        assert!(matches!(desk.reply(lane), Some((Response::Welcome { .. }, false))));
    }
}

#[test]
fn a_second_greeting_closes_the_link() {
    let mut desk = Desk::new();
    let link = desk.node(NEIGHBOUR);
    let lane = desk.send_greeting(link, device_greeting(OPERATOR, VAULT, DEVICE));
    let (response, close) = desk.reply(lane).unwrap();
    assert_eq!((code(&response), close), (RefusalCode::Malformed, true));
}

#[test]
fn what_is_no_message_closes_the_link_and_is_counted() {
    let mut desk = Desk::new();
    let link = desk.node(NEIGHBOUR);
    desk.handle(Input::Malformed { link, reason: "a frame of kind 9".into() });
    assert_eq!(desk.closed, [link]);
    let asking = desk.node(THIRD);
    let Response::Status(status) = desk.ask(asking, Request::Status) else { panic!() };
    assert_eq!(status.refused, [("malformed".to_owned(), 1)]);
}

#[test]
fn what_the_driver_turned_away_is_in_the_status() {
    let mut desk = Desk::new();
    let asking = desk.node(THIRD);
    desk.handle(Input::TurnedAway(vec![("handshakes", 1), ("lanes", 0)]));
    desk.handle(Input::TurnedAway(vec![("handshakes", 7), ("lanes", 0)]));
    let Response::Status(status) = desk.ask(asking, Request::Status) else { panic!() };
    assert_eq!(status.refused, [("handshakes".to_owned(), 7)]);
}

#[test]
fn a_console_sees_the_status_and_no_vault() {
    let (mut desk, _) = Desk::with_vault(PeerConfig::default());
    let (link, response) = desk.greet(STRANGER, console_greeting(NODE, STRANGER));
    assert!(matches!(response, Response::Welcome { .. }));
    assert!(matches!(desk.ask(link, Request::Status), Response::Status(_)));
    let vault = public(VAULT).into();
    assert_eq!(desk.ask(link, Request::Vault(vault)), Response::Vault(None));
    let response = desk.ask(link, Request::Inventory { vault, after: None });
    assert_eq!(code(&response), RefusalCode::UnknownVault);
}

#[test]
fn a_console_that_no_known_node_vouches_for_is_refused() {
    let greeting = console_greeting(STRANGER, STRANGER);
    assert_eq!(refused_and_closed(STRANGER, greeting), RefusalCode::NotVouched);
    let stolen = console_greeting(NODE, DEVICE);
    assert_eq!(refused_and_closed(STRANGER, stolen), RefusalCode::NotVouched);
}

fn admitted(response: Response) -> NodeCertificate {
    match response {
        Response::Admitted { certificate, .. } => {
            NodeCertificate::verify(&certificate, EPOCH).unwrap()
        }
        other => panic!("not admitted: {other:?}"),
    }
}

#[test]
fn a_ticket_admits_once_and_the_same_node_again() {
    let mut desk = Desk::new();
    let ticket = || invitation(OPERATOR, NODE, &["provider=aws"]);
    let greeting = join(ticket(), NEIGHBOUR, &["region=eu"]);
    let link = desk.connect(public(NEIGHBOUR), false);
    let lane = desk.send_greeting(link, greeting.clone());
    assert_eq!(desk.reply(lane), None, "not before the ticket is known to be used");
    desk.settle();
    let (response, close) = desk.reply(lane).unwrap();
    assert!(close);
    let certificate = admitted(response);
    assert_eq!(certificate.labels, labels(&["provider=aws", "region=eu"]));

    // The answer was lost: the same node may ask again.
    let again = admitted(desk.greet(NEIGHBOUR, greeting).1);
    assert_eq!(again.node, certificate.node);

    let (_, response) = desk.greet(THIRD, join(ticket(), THIRD, &[]));
    assert_eq!(code(&response), RefusalCode::Ticket);
    assert_eq!(desk.rows(Table::Redeemed), 1);
}

#[test]
fn a_ticket_that_is_being_used_admits_nobody_else() {
    let mut desk = Desk::new();
    let ticket = || invitation(OPERATOR, NODE, &[]);
    let links = [NEIGHBOUR, THIRD].map(|node| desk.connect(public(node), false));
    let first = desk.send_greeting(links[0], join(ticket(), NEIGHBOUR, &[]));
    let second = desk.send_greeting(links[1], join(ticket(), THIRD, &[]));
    assert_eq!(code(&desk.reply(second).unwrap().0), RefusalCode::Ticket);
    assert!(desk.fail_one());
    let (response, close) = desk.reply(first).unwrap();
    assert_eq!((code(&response), close), (RefusalCode::Internal, true));
    // What failed used nothing up.
    admitted(desk.greet(THIRD, join(ticket(), THIRD, &[])).1);
}

#[test]
fn a_ticket_is_not_valid_for_ever_nor_elsewhere_nor_for_other_labels() {
    let ticket = |greeting, key| refused_and_closed(key, greeting) == RefusalCode::Ticket;
    let aws = ["provider=aws"];
    assert!(ticket(
        join(invitation(OPERATOR, NODE, &aws), NEIGHBOUR, &["provider=gcp"]),
        NEIGHBOUR
    ));
    assert!(ticket(join(invitation(OPERATOR, THIRD, &aws), NEIGHBOUR, &[]), NEIGHBOUR));
    assert!(ticket(join(invitation(FOREIGN_OPERATOR, NODE, &aws), NEIGHBOUR, &[]), NEIGHBOUR));
    // Another node presents the request.
    assert!(ticket(join(invitation(OPERATOR, NODE, &aws), NEIGHBOUR, &[]), THIRD));

    let mut desk = Desk::new();
    desk.pass(Period::days(1));
    let (_, response) =
        desk.greet(NEIGHBOUR, join(invitation(OPERATOR, NODE, &aws), NEIGHBOUR, &[]));
    assert_eq!(code(&response), RefusalCode::Ticket);
}

#[test]
fn a_ticket_without_its_secret_admits_nobody() {
    let Greeting::Join { mut request, .. } = join(invitation(OPERATOR, NODE, &[]), NEIGHBOUR, &[])
    else {
        unreachable!()
    };
    let forged = crate::certificate::JoinRequest {
        bearer: cast::public(STRANGER),
        ..request.verify().unwrap()
    };
    request = crate::sign::Signed::sign(&forged, &secret(STRANGER));
    let greeting = Greeting::Join { invitation: invitation(OPERATOR, NODE, &[]), request };
    assert_eq!(refused_and_closed(NEIGHBOUR, greeting), RefusalCode::Ticket);
}
