//! What a peer knows after a restart: all that was durable, and nothing else.

use super::cast::*;
use super::desk::{Desk, code};
use crate::message::{RefusalCode, Request, Response};
use crate::peer::{PeerConfig, Table};
use crate::time::Period;

#[test]
fn members_and_its_own_version_survive() {
    let mut desk = Desk::new();
    desk.node(NEIGHBOUR);
    let before = desk.peer.record().verify().unwrap().version;
    let mut desk = desk.restart();
    let link = desk.node(THIRD);
    let Response::Members(records) = desk.ask(link, Request::Members(vec![])) else { panic!() };
    assert!(records.contains(&node_record(OPERATOR, NEIGHBOUR, 1)));
    // Started at the same time by the clock, and yet newer.
    assert!(desk.peer.record().verify().unwrap().version > before);
}

#[test]
fn a_member_whose_certificate_expired_meanwhile_is_gone() {
    let mut desk = Desk::new();
    desk.node(NEIGHBOUR);
    let late = at(Period(EXPIRY.0 - EPOCH.0 - 1));
    let facts = desk.facts.clone();
    let mut desk = Desk::of(NODE, facts.clone(), PeerConfig::default(), late);
    desk.pass(Period(0));
    assert_eq!(desk.dialed.len(), 1, "the member is still dialed");
    let trust = crate::certificate::Trust::new([public(OPERATOR).into()]);
    let certificate = node_certificate(OPERATOR, NODE);
    let started = crate::Peer::new(
        secret(NODE),
        &certificate,
        trust,
        vec![],
        PeerConfig::default(),
        at(Period(EXPIRY.0 - EPOCH.0)),
        &facts,
    );
    assert!(started.is_err(), "neither does the node itself start");
}

#[test]
fn a_ticket_used_before_stays_used() {
    let mut desk = Desk::new();
    let ticket = || invitation(OPERATOR, NODE, &[]);
    desk.greet(NEIGHBOUR, join(ticket(), NEIGHBOUR, &[]));
    let mut desk = desk.restart();
    let (_, response) = desk.greet(THIRD, join(ticket(), THIRD, &[]));
    assert_eq!(code(&response), RefusalCode::Ticket);
    let (_, response) = desk.greet(NEIGHBOUR, join(ticket(), NEIGHBOUR, &[]));
    assert!(matches!(response, Response::Admitted { .. }));
}

#[test]
fn shards_receipts_and_usage_survive() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let record = record(VAULT, DEVICE, 1);
    let receipt = desk.put(link, &record, 0, &shard_bytes(1, 0));
    let mut desk = desk.restart();
    let link = desk.device(VAULT, DEVICE);
    assert_eq!(desk.put(link, &record, 0, &shard_bytes(1, 0)), receipt);
    let Response::Status(status) = desk.ask(link, Request::Status) else { panic!() };
    assert_eq!((status.used, status.shards), (u64::from(SHARD_LEN), 1));
}

#[test]
fn heads_of_logs_survive() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let first = entry(0, None, 0);
    let ack = desk.ask(link, Request::Append(first.clone()));
    let mut desk = desk.restart();
    let link = desk.device(VAULT, DEVICE);
    assert_eq!(desk.ask(link, Request::Append(first.clone())), ack);
    let fork = desk.ask(link, Request::Append(entry(0, None, 1)));
    assert_eq!(code(&fork), RefusalCode::Fork);
    let next = desk.ask(link, Request::Append(entry(1, Some(&first), 1)));
    assert!(matches!(next, Response::Appended(_)));
}

#[test]
fn what_was_not_durable_is_as_if_it_had_never_been_asked() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let record = record(VAULT, DEVICE, 1);
    let put = desk.send_put(link, &record, 0);
    desk.arrive(put, &shard_bytes(1, 0));
    let append = desk.send(link, Request::Append(entry(0, None, 0)));
    assert_eq!((desk.reply(put), desk.reply(append)), (None, None));
    let mut desk = desk.restart();
    assert_eq!((desk.rows(Table::Held), desk.rows(Table::Entry)), (0, 0));
    let link = desk.device(VAULT, DEVICE);
    let Response::Status(status) = desk.ask(link, Request::Status) else { panic!() };
    assert_eq!((status.used, status.shards), (0, 0));
    assert!(matches!(desk.put(link, &record, 0, &shard_bytes(1, 0)), Response::Receipt(_)));
}
