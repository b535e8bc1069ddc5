//! The lock clock of a node among nodes of other operators.

use super::cast::*;
use super::desk::{Desk, code};
use crate::lock_clock::{Alarm, BootId, LockTime, Standing, TimeStatement};
use crate::message::{NodeStatus, Outcome, RefusalCode, Request, Response};
use crate::peer::{CallId, Input, LinkId, MemoryFacts, PeerConfig};
use crate::record::Record;
use crate::sign::Signed;
use crate::time::{Now, Period, Wall};

const SECOND_OPERATOR: u8 = 31;
const OPERATORS: [u8; 3] = [OPERATOR, FOREIGN_OPERATOR, SECOND_OPERATOR];

fn desk(facts: MemoryFacts, boot: u8, now: Now) -> Desk {
    let config = PeerConfig { boot: BootId([boot; 16]), ..PeerConfig::default() };
    Desk::trusting(&OPERATORS, NODE, facts, config, now)
}

/// The node with a neighbour of its own operator and one of each of two others, and those links.
pub(super) fn among_others(facts: MemoryFacts, boot: u8, now: Now) -> (Desk, [LinkId; 2]) {
    let mut desk = desk(facts, boot, now);
    let _ = desk.node(NEIGHBOUR);
    let mut link = |operator, node| {
        let (link, answer) = desk.greet(node, node_greeting(operator, node));
        assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
        link
    };
    let links = [link(FOREIGN_OPERATOR, THIRD), link(SECOND_OPERATOR, 5)];
    (desk, links)
}

/// Time passes until the members are asked, and the others answer that they are so much ahead.
pub(super) fn ask(desk: &mut Desk, links: [LinkId; 2], ahead: [i64; 2]) {
    desk.called.clear();
    desk.pass(Period::seconds(30));
    let mut asked = 0;
    for (call, link, request) in std::mem::take(&mut desk.called) {
        let Request::Time { nonce } = request else { continue };
        let place = links.iter().position(|other| *other == link);
        let place = place.expect("only nodes of other operators are asked");
        let wall = Wall(desk.now.wall.0.checked_add_signed(ahead[place]).unwrap());
        answer(desk, call, [THIRD, 5][place], nonce, wall);
        asked += 1;
    }
    assert_eq!(asked, 2);
    desk.settle();
}

fn answer(desk: &mut Desk, call: CallId, node: u8, nonce: [u8; 16], wall: Wall) {
    let said = TimeStatement { node: public(node).into(), asker: public(NODE).into(), nonce, wall };
    let said = Response::Time(Signed::sign(&said, &secret(node)));
    desk.handle(Input::Answer { call, response: Some(Box::new(said)) });
}

fn status(desk: &mut Desk) -> Box<NodeStatus> {
    let link = desk.node(NEIGHBOUR);
    match desk.ask(link, Request::Status) {
        Response::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_says_what_time_it_is_to_whom_asks_and_to_nodes_only() {
    let mut desk = desk(MemoryFacts::default(), 0, at(Period(0)));
    let link = desk.node(NEIGHBOUR);
    let Response::Time(said) = desk.ask(link, Request::Time { nonce: [7; 16] }) else { panic!() };
    let said = said.verify().unwrap();
    assert_eq!((said.node, said.asker), (public(NODE).into(), public(NEIGHBOUR).into()));
    assert_eq!((said.nonce, said.wall), ([7; 16], desk.now.wall));
    let link = desk.device(VAULT, DEVICE);
    let refused = desk.ask(link, Request::Time { nonce: [7; 16] });
    assert_eq!(code(&refused), RefusalCode::NotAllowed);
}

#[test]
fn a_node_among_its_own_counts_its_running_time_and_says_so() {
    let mut desk = desk(MemoryFacts::default(), 0, at(Period(0)));
    let _ = desk.node(NEIGHBOUR);
    desk.pass(Period::days(1));
    desk.settle();
    let alone = Standing::Alone { heard: 0, needed: 2 };
    assert_eq!(status(&mut desk).lock_clock, alone);
    assert!(desk.called.iter().all(|(_, _, asked)| !matches!(asked, Request::Time { .. })));
    // Another run: what was between does not count.
    let mut desk = self::desk(desk.facts, 1, at(Period::days(9)));
    desk.pass(Period::days(1));
    assert_eq!(desk.peer.lock_clock.reading().at, LockTime(Period::days(2).0));
}

#[test]
fn what_went_by_between_two_runs_is_made_up_once_two_other_operators_say_so() {
    let (mut desk, links) = among_others(MemoryFacts::default(), 0, at(Period(0)));
    ask(&mut desk, links, [0, 0]);
    for _ in 0..24 {
        desk.pass(Period::seconds(3600));
    }
    desk.settle();
    // Ten hours later it runs again.
    let wall = desk.now.wall.after(Period::seconds(10 * 3600));
    let later = Now { wall, ..at(Period(0)) };
    let (mut desk, links) = among_others(desk.facts, 1, later);
    ask(&mut desk, links, [0, 0]);
    let hours = Period::seconds(34 * 3600 + 60);
    assert_eq!(desk.peer.lock_clock.reading().at, LockTime(hours.0));
    assert_eq!(status(&mut desk).lock_clock, Standing::Agreed { behind: Period(0) });
}

/// Promises that a node of the guarded vault makes when it is asked for one.
const PROMISES: [fn(&mut Desk, LinkId); 5] = [
    |desk, device| {
        let put = desk.put(device, &guarded_record(3), 0, &shard_bytes(3, 0));
        assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    },
    |desk, device| {
        let stripes = vec![guarded_record(1).stripe.id()];
        let asked = desk.ask(device, Request::Extend { vault: public(VAULT).into(), stripes });
        assert!(matches!(asked, Response::Extended(_)), "{asked:?}");
    },
    |desk, device| {
        let moved = Record { version: 2, ..guarded_record(1) };
        let moved = Signed::sign(&moved, &secret(DEVICE));
        assert_eq!(desk.ask(device, Request::Replace(moved)), Response::Done);
    },
    |desk, device| {
        let stripes = [guarded_record(1).stripe.id()];
        let request = release_request(VAULT, desk.now.wall, &stripes);
        let approvals = approve(&request, &GUARDIANS);
        let asked = desk.ask(device, Request::Release { request, approvals, from: 0 });
        let Response::Released(released) = asked else { panic!("{asked:?}") };
        assert!(matches!(released.outcomes[0].1, Outcome::Cooling { .. }), "{released:?}");
    },
    |desk, device| {
        let order = hold(GUARDIANS[2], 1, Some(Period::days(10)));
        assert_eq!(desk.ask(device, order), Response::Done);
    },
];

#[test]
fn what_went_by_before_a_promise_of_any_kind_is_not_made_up_after_it() {
    for promise in PROMISES {
        let (mut desk, links) = among_others(MemoryFacts::default(), 0, at(Period(0)));
        let device = desk.device(VAULT, DEVICE);
        let papers = guarded_papers(VAULT, 1, &[NODE, NEIGHBOUR, THIRD]);
        assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
        let put = desk.put(device, &guarded_record(1), 0, &shard_bytes(1, 0));
        assert!(matches!(put, Response::Receipt(_)), "{put:?}");
        desk.pass(Period::days(91));
        ask(&mut desk, links, [0, 0]);
        desk.pass(Period::days(1));
        desk.settle();
        let counted = desk.peer.lock_clock.reading().at;
        let wall = desk.now.wall.after(Period::seconds(10 * 3600));
        let (mut desk, _) = among_others(desk.facts, 1, Now { wall, ..at(Period(0)) });
        let device = desk.device(VAULT, DEVICE);
        promise(&mut desk, device);
        // It is so after another start, too.
        desk.settle();
        let (mut desk, links) = among_others(desk.facts, 2, desk.now);
        ask(&mut desk, links, [0, 0]);
        let since = desk.peer.lock_clock.reading().at.since(counted);
        assert_eq!(since, Period::seconds(30));
    }
}

#[test]
fn others_that_disagree_freeze_the_clock_over_a_restart() {
    let (mut desk, links) = among_others(MemoryFacts::default(), 0, at(Period(0)));
    ask(&mut desk, links, [0, 0]);
    ask(&mut desk, links, [0, Period::days(2).0.cast_signed()]);
    let frozen = Standing::Frozen(Alarm::Apart { operators: 2 });
    assert_eq!(status(&mut desk).lock_clock, frozen);
    let (mut desk, links) = among_others(desk.facts, 1, at(Period::days(1)));
    desk.pass(Period::seconds(30));
    assert_eq!(status(&mut desk).lock_clock, frozen);
    ask(&mut desk, links, [0, 0]);
    assert!(!desk.peer.lock_clock.reading().is_frozen);
}

#[test]
fn what_was_not_asked_or_was_said_by_another_is_no_voice() {
    let (mut desk, links) = among_others(MemoryFacts::default(), 0, at(Period(0)));
    desk.called.clear();
    desk.pass(Period::seconds(30));
    for (call, link, request) in std::mem::take(&mut desk.called) {
        let Request::Time { nonce } = request else { continue };
        // The first gives an answer to another question, the second has its neighbour answer.
        let (node, nonce) = if link == links[0] { (THIRD, [0; 16]) } else { (THIRD, nonce) };
        let wall = desk.now.wall;
        answer(&mut desk, call, node, nonce, wall);
    }
    assert_eq!(desk.peer.lock_clock.standing(), Standing::Alone { heard: 0, needed: 2 });
}
