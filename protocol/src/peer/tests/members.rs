//! Members: whom a node believes to be one, and how it learns of them.

use super::cast::*;
use super::desk::{Desk, code};
use crate::certificate::NodeRecord;
use crate::codec::Blob;
use crate::id::NodeId;
use crate::message::{Greeting, Hearsay, IDS_MAX, RECORD_NAME_LEN, RefusalCode, Request, Response};
use crate::peer::{Input, LinkId, MemoryFacts, Note, PeerConfig, Table};
use crate::sign::Signed;
use crate::time::Period;
use std::collections::BTreeMap;

fn members(desk: &mut Desk) -> Vec<u8> {
    let link = desk.node(NEIGHBOUR);
    let Response::Members(records) = desk.ask(link, Request::Members(vec![])) else { panic!() };
    let mut names: Vec<u8> = records
        .iter()
        .map(|signed| {
            let node = signed.verify().unwrap().node.key();
            (0..=255).find(|&name| public(name) == node).unwrap()
        })
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_node_is_told_the_records_that_it_lacks_and_no_others() {
    let mut desk = Desk::new();
    let link = desk.node(NEIGHBOUR);
    desk.ask(link, Request::Members(vec![node_record(OPERATOR, THIRD, 1)]));
    let mut lacking = |known: &[&Signed<NodeRecord>]| -> Vec<NodeId> {
        let names = known.iter().flat_map(|signed| signed.digest()[..RECORD_NAME_LEN].to_vec());
        let known = Blob(names.collect());
        let Response::Members(records) = desk.ask(link, Request::Lacking { known }) else {
            panic!()
        };
        records.iter().map(|signed| signed.verify().unwrap().node).collect()
    };
    let all = lacking(&[]);
    assert_eq!(all.len(), 3, "itself and both others");
    let (third, newer) = (node_record(OPERATOR, THIRD, 1), node_record(OPERATOR, THIRD, 2));
    assert!(!lacking(&[&third]).contains(&public(THIRD).into()));
    assert_eq!(lacking(&[&newer]), all, "what is known in another version is told");
    for known in [vec![0; RECORD_NAME_LEN + 1], vec![0; RECORD_NAME_LEN * 2 * 1025]] {
        let request = Request::Lacking { known: Blob(known) };
        assert!(matches!(desk.ask(link, request), Response::Refused(_)));
    }
    let device = desk.device(VAULT, DEVICE);
    let request = Request::Lacking { known: Blob::default() };
    assert!(matches!(desk.ask(device, request), Response::Refused(_)));
}

#[test]
fn others_are_asked_about_those_alone_that_are_silent_and_tell_when_they_heard_them() {
    let mut desk = Desk::new();
    let (link, _) = (desk.node(NEIGHBOUR), desk.node(THIRD));
    let asked = |desk: &Desk| match &desk.called.last().expect("an exchange").2 {
        Request::Lacking { .. } => {
            desk.called.iter().rev().find_map(|(_, _, request)| match request {
                Request::Hearsay { of } => Some(of.clone()),
                _ => None,
            })
        }
        other => panic!("{other:?}"),
    };
    for hour in 1..=8 {
        desk.pass(Period::seconds(3600));
        desk.ask(link, Request::Status);
        let silent = if hour < 6 { vec![] } else { vec![public(THIRD).into()] };
        assert_eq!(asked(&desk), Some(silent), "after {hour} hours");
    }
    let of = vec![public(THIRD).into(), public(99).into(), public(NEIGHBOUR).into()];
    let Response::Hearsay(said) = desk.ask(link, Request::Hearsay { of }) else { panic!() };
    assert_eq!(said.ages, [Some(Period::seconds(8 * 3600)), None, Some(Period(0))]);
    assert!(said.room > 0 && !said.leaves);
    let of = vec![public(THIRD).into(); IDS_MAX + 1];
    assert!(matches!(desk.ask(link, Request::Hearsay { of }), Response::Refused(_)));
    let device = desk.device(VAULT, DEVICE);
    let of = vec![public(THIRD).into()];
    assert!(matches!(desk.ask(device, Request::Hearsay { of }), Response::Refused(_)));
}

#[test]
fn the_more_members_there_are_the_more_often_some_are_asked() {
    let (exchange_period, patience) = (Period::seconds(3600), Period::seconds(7200));
    let mut desk = Desk::with(PeerConfig { exchange_period, patience, ..PeerConfig::default() });
    let link = desk.node(NEIGHBOUR);
    assert_eq!(desk.peer.meeting_period(), Period::seconds(450), "a part of the patience");
    let others = (100..151).map(|name| node_record(OPERATOR, name, 1)).collect();
    desk.ask(link, Request::Members(others));
    // All 52 four times, three at once.
    assert_eq!(desk.peer.meeting_period(), Period(7_200_000 * 3 / (4 * 52)));
}

#[test]
fn between_two_rounds_those_alone_are_glanced_at_that_were_not_heard_for_a_while() {
    let (exchange_period, patience) = (Period::days(1), Period::days(16));
    let mut desk = Desk::with(PeerConfig { exchange_period, patience, ..PeerConfig::default() });
    let nodes: Vec<u8> = (100..200).collect();
    let links: BTreeMap<LinkId, u8> = nodes.iter().map(|&node| (desk.node(node), node)).collect();
    let (mut met, mut glanced) = (0, BTreeMap::new());
    let silent = [nodes[7], nodes[70]];
    desk.pass(Period(0));
    for _ in 0..16 * 24 {
        desk.pass(Period::seconds(3600));
        for (call, link, request) in std::mem::take(&mut desk.called) {
            let node = links[&link];
            met += usize::from(matches!(request, Request::Lacking { .. }));
            let Request::Hearsay { of } = request else { continue };
            glanced.entry(node).or_insert_with(Vec::new).push(desk.now.mono);
            if !silent.contains(&node) {
                let ages = of.iter().map(|_| None).collect();
                let said = Hearsay { ages, room: 0, leaves: false };
                let response = Some(Box::new(Response::Hearsay(said)));
                desk.handle(Input::Answer { call, response });
            }
        }
    }
    assert_eq!(met, 3 * 17, "a round a day, and one at the start");
    let times = |node| glanced.get(node).map_or(0, Vec::len);
    assert!(nodes.iter().all(|node| (3..=6).contains(&times(node))), "{glanced:?}");
    // Who asks is not asked.
    let (asker, before) = (nodes[50], times(&nodes[50]));
    let link = *links.iter().find(|(_, node)| **node == asker).unwrap().0;
    for _ in 0..4 * 24 {
        desk.pass(Period::seconds(3600));
        desk.ask(link, Request::Status);
    }
    let asked = |(_, on, request): &&(_, LinkId, Request)| {
        *on == link && matches!(request, Request::Hearsay { .. })
    };
    assert!(desk.called.iter().filter(asked).count() <= 1, "but in a round ({before} before)");
}

#[test]
fn two_nodes_learn_of_a_third_by_exchange() {
    let mut here = Desk::new();
    here.node(THIRD);
    let now = here.now;
    let mut there = Desk::of(NEIGHBOUR, MemoryFacts::default(), PeerConfig::default(), now);

    // The desk over there dials; both greet; the exchange follows by itself.
    let outbound = there.connect(public(NODE), true);
    let (greet, _, Greeting::Node(_)) = there.greeted.pop().unwrap() else { panic!() };
    let (inbound, response) = {
        let record = there.peer.record().clone();
        here.greet(NEIGHBOUR, Greeting::Node(record))
    };
    there.handle(Input::Answer { call: greet, response: Some(Box::new(response)) });
    let (call, link, request) = there.called.pop().unwrap();
    assert_eq!(link, outbound);
    let response = here.ask(inbound, request);
    there.handle(Input::Answer { call, response: Some(Box::new(response)) });
    there.settle();
    assert_eq!(there.rows(Table::Member), 3);
    assert_eq!(members(&mut here), [NODE, NEIGHBOUR, THIRD]);
}

#[test]
fn who_answers_with_anothers_record_is_closed() {
    let mut desk = Desk::new();
    let link = desk.connect(public(STRANGER), true);
    let (call, ..) = desk.greeted.pop().unwrap();
    let record = node_record(OPERATOR, NEIGHBOUR, 1);
    let response = Some(Box::new(Response::Welcome { record, wall: EPOCH }));
    desk.handle(Input::Answer { call, response });
    assert_eq!(desk.closed, [link]);
    assert!(desk.called.is_empty());
}

#[test]
fn who_does_not_welcome_is_closed() {
    for answer in [None, Some(Box::new(Response::Done))] {
        let mut desk = Desk::new();
        let link = desk.connect(public(NEIGHBOUR), true);
        let (call, ..) = desk.greeted.pop().unwrap();
        desk.handle(Input::Answer { call, response: answer });
        assert_eq!(desk.closed, [link]);
    }
}

#[test]
fn records_that_nobody_vouches_for_are_left_out() {
    let mut desk = Desk::new();
    let link = desk.node(NEIGHBOUR);
    let offered = vec![
        node_record(FOREIGN_OPERATOR, STRANGER, 1),
        node_record(OPERATOR, THIRD, 1),
        node_record(OPERATOR, NODE, u64::MAX),
    ];
    desk.ask(link, Request::Members(offered));
    assert_eq!(members(&mut desk), [NODE, NEIGHBOUR, THIRD]);
    let joined = desk.notes.iter().filter(|note| matches!(note, Note::Joined(_))).count();
    assert_eq!(joined, 2);
}

#[test]
fn one_invitation_makes_one_member_also_where_admitter_and_bearer_lie_together() {
    let mut desk = Desk::new();
    let link = desk.node(NEIGHBOUR);
    desk.ask(link, Request::Members(vec![admitted_record(THIRD), admitted_record(STRANGER)]));
    assert_eq!(members(&mut desk), [NODE, NEIGHBOUR, THIRD]);
    let (_, response) = desk.greet(STRANGER, Greeting::Node(admitted_record(STRANGER)));
    assert_eq!(code(&response), RefusalCode::NotVouched);
    // Nor after a restart, in whatever order they are loaded.
    let now = desk.now;
    let mut again = Desk::of(NODE, desk.facts.clone(), PeerConfig::default(), now);
    let (_, response) = again.greet(STRANGER, Greeting::Node(admitted_record(STRANGER)));
    assert_eq!(code(&response), RefusalCode::NotVouched);
}

#[test]
fn devices_name_no_members() {
    let mut desk = Desk::new();
    let link = desk.device(VAULT, DEVICE);
    desk.ask(link, Request::Members(vec![node_record(OPERATOR, THIRD, 1)]));
    assert_eq!(members(&mut desk), [NODE, NEIGHBOUR]);
}

#[test]
fn the_higher_version_of_a_record_counts() {
    let mut desk = Desk::new();
    let link = desk.node(NEIGHBOUR);
    for (offered, known) in [(5, 5), (4, 5), (6, 6)] {
        desk.ask(link, Request::Members(vec![node_record(OPERATOR, THIRD, offered)]));
        let Response::Members(records) = desk.ask(link, Request::Members(vec![])) else { panic!() };
        let third = node_record(OPERATOR, THIRD, known);
        assert!(records.contains(&third), "version {known} after {offered} was offered");
    }
}

#[test]
fn bootstrap_nodes_are_dialed_until_they_are_known() {
    let config = PeerConfig {
        bootstrap: vec![(public(NEIGHBOUR).into(), vec!["/memory/3".into()])],
        ..PeerConfig::default()
    };
    let mut desk = Desk::with(config);
    desk.pass(Period(0));
    assert_eq!(desk.dialed, [public(NEIGHBOUR).into()]);
    desk.handle(Input::DialFailed(public(NEIGHBOUR).into()));
    let period = PeerConfig::default().exchange_period;
    desk.pass(period);
    assert_eq!(desk.dialed.len(), 2);
    // Over the link that is up, members are asked; nobody is dialed.
    desk.node(NEIGHBOUR);
    desk.pass(period);
    let asks = |(_, _, request): &(_, _, Request)| matches!(request, Request::Lacking { .. });
    assert_eq!((desk.dialed.len(), desk.called.iter().filter(|call| asks(call)).count()), (2, 1));
}

#[test]
fn who_began_again_is_asked_on_its_new_link_though_the_old_one_has_not_ended() {
    let mut desk = Desk::new();
    let old = desk.node(NEIGHBOUR);
    let period = PeerConfig::default().exchange_period;
    desk.pass(period);
    assert!(!desk.called.is_empty() && desk.called.iter().all(|(_, link, _)| *link == old));
    desk.called.clear();
    let new = desk.node(NEIGHBOUR);
    desk.pass(period);
    assert!(!desk.called.is_empty() && desk.called.iter().all(|(_, link, _)| *link == new));
    desk.called.clear();
    desk.handle(Input::Disconnected(new));
    desk.pass(period);
    assert!(!desk.called.is_empty() && desk.called.iter().all(|(_, link, _)| *link == old));
}
