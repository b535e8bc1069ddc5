//! Months: what was held and done for a partner's vault, stated to both sides.

use super::cast::*;
use super::desk::{Desk, code};
use super::partners::{ITS_NODE, PARTNER, SHARD, holding, its_device, operator, put};
use crate::message::{RefusalCode, Request, Response, Stated};
use crate::peer::{Facts, PeerConfig};
use crate::peer::{LinkId, MemoryFacts, Table, Write};
use crate::sign::Signed;
use crate::tally::{Amount, Countersigned, Month, UsageStatement};
use crate::time::Period;

/// The partner's operator looks, by the word of its node.
fn their_console(desk: &mut Desk) -> LinkId {
    let (_, answer) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
    desk.greet(82, console_greeting_at(ITS_NODE, 82, desk.now.wall)).0
}

fn own_console(desk: &mut Desk) -> LinkId {
    desk.greet(80, console_greeting_at(NODE, 80, desk.now.wall)).0
}

fn january() -> Month {
    "2027-01".parse().unwrap()
}

fn stated(desk: &mut Desk, link: LinkId, month: Month) -> Vec<Stated> {
    match desk.ask(link, Request::Statements { month }) {
        Response::Statements(stated) => stated,
        other => panic!("{other:?}"),
    }
}

/// The one statement there is.
fn one(desk: &mut Desk, link: LinkId, month: Month) -> UsageStatement {
    let stated = stated(desk, link, month);
    assert_eq!(stated.len(), 1);
    UsageStatement::verify(&stated[0].statement).unwrap()
}

const ONE: Amount = Amount { shards: 1, bytes: SHARD };
const DAY: u128 = Period::days(1).0 as u128;

#[test]
fn both_sides_are_told_of_a_month_and_nobody_else() {
    let (mut desk, device) = holding(4 * SHARD);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    desk.pass(Period::days(10));
    let theirs = their_console(&mut desk);
    let said = one(&mut desk, theirs, january());
    assert_eq!((said.holder, said.operator), (public(NODE).into(), operator(PARTNER)));
    assert_eq!(
        (said.until, said.figures.came, said.figures.opening),
        (desk.now.wall, ONE, Amount::default())
    );
    assert_eq!(said.figures.byte_ms, u128::from(SHARD) * 10 * DAY);
    let own = own_console(&mut desk);
    assert_eq!(one(&mut desk, own, january()), said);
    assert_eq!(one(&mut desk, device, january()), said);
    // A month that has ended is stated to its end, and what it held opens the next one.
    desk.pass(Period::days(10));
    let theirs = their_console(&mut desk);
    let said = one(&mut desk, theirs, january());
    assert_eq!(said.until, january().end());
    let february = one(&mut desk, theirs, Month(january().0 + 1));
    assert_eq!((february.figures.opening, february.figures.came), (ONE, Amount::default()));
    let all = said.figures.byte_ms + february.figures.byte_ms;
    assert_eq!(all, u128::from(SHARD) * 20 * DAY);
    let next = desk.ask(theirs, Request::Statements { month: Month(january().0 + 2) });
    assert_eq!(code(&next), RefusalCode::Malformed);
    // Nodes hold, and do not account; another vault's device hears nothing of this one.
    let (node, _) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    let asked = desk.ask(node, Request::Statements { month: january() });
    assert_eq!(code(&asked), RefusalCode::NotAllowed);
    let (other, _) = desk.greet(OTHER_DEVICE, device_greeting(PARTNER, OTHER_VAULT, OTHER_DEVICE));
    assert_eq!(stated(&mut desk, other, january()), []);
}

#[test]
fn months_are_exact_after_a_crash_and_count_nothing_that_was_not_stored() {
    let (mut desk, device) = holding(4 * SHARD);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    // One fails while another, decided after it, is stored. What is cut off before anything else is written counts as it is stored.
    let lanes = [2, 3].map(|stripe| desk.send_put(device, &record(VAULT, DEVICE, stripe), 0));
    for (lane, stripe) in lanes.into_iter().zip([2, 3]) {
        desk.arrive(lane, &shard_bytes(stripe, 0));
    }
    assert!(desk.fail_one());
    assert!(desk.settle_one());
    assert_eq!((desk.usage(VAULT).shards, desk.months(VAULT).held().shards), (2, 2));
    desk.settle();
    desk.pass(Period::days(1));
    let own = own_console(&mut desk);
    let said = one(&mut desk, own, january());
    assert_eq!(said.figures.came, Amount { shards: 2, bytes: 2 * SHARD });
    let mut desk = desk.restart();
    let own = own_console(&mut desk);
    assert_eq!(one(&mut desk, own, january()), said);
    assert_eq!(desk.months(VAULT).held(), said.figures.came);
}

#[test]
fn what_the_owner_agreed_to_is_kept_the_latest_of_a_month() {
    let (mut desk, device) = holding(4 * SHARD);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    let mut agreed = Vec::new();
    for _ in 0..2 {
        desk.pass(Period::seconds(3600));
        let link = their_console(&mut desk);
        let statement = stated(&mut desk, link, january()).remove(0).statement;
        let said = Countersigned { operator: operator(PARTNER), statement };
        agreed.push(Signed::sign(&said, &secret(PARTNER)));
    }
    let theirs = their_console(&mut desk);
    let own = own_console(&mut desk);
    // Not by whom it does not concern, nor under another's signature, nor of another holder.
    let foreign = desk.ask(own, Request::Countersign(Box::new(agreed[0].clone())));
    assert_eq!(code(&foreign), RefusalCode::NotAllowed);
    let statement = agreed[0].verify().unwrap().statement;
    let said = Countersigned { operator: operator(OPERATOR), statement };
    let forged = Request::Countersign(Box::new(Signed::sign(&said, &secret(OPERATOR))));
    assert_eq!(code(&desk.ask(theirs, forged)), RefusalCode::Malformed);
    let mut other = Desk::of(THIRD, MemoryFacts::default(), PeerConfig::default(), desk.now);
    let link = other.device(OTHER_VAULT, OTHER_DEVICE);
    let answer = other.ask(link, Request::Countersign(Box::new(agreed[0].clone())));
    assert_eq!(code(&answer), RefusalCode::Malformed);
    assert_eq!(desk.rows(Table::Statement), 0);
    // The later one counts, whichever comes first.
    for signed in [&agreed[1], &agreed[0]] {
        let answer = desk.ask(theirs, Request::Countersign(Box::new(signed.clone())));
        assert_eq!(answer, Response::Done);
    }
    let mut desk = desk.restart();
    let own = own_console(&mut desk);
    let kept = stated(&mut desk, own, january()).remove(0).countersigned;
    assert_eq!(kept.as_ref(), Some(&agreed[1]));
}

#[test]
fn of_months_before_anything_was_held_nothing_is_said_and_nothing_kept() {
    let (mut desk, device) = holding(4 * SHARD);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    desk.pass(Period::days(1));
    let theirs = their_console(&mut desk);
    let before = Month(january().0 - 1);
    assert_eq!(stated(&mut desk, theirs, before), []);
    // Not even in the node's own words.
    for month in [before, Month(0)] {
        let said = one(&mut desk, theirs, january());
        let said = UsageStatement { month, until: month.end(), ..said };
        let statement = Signed::sign(&said, &secret(NODE));
        let said = Countersigned { operator: operator(PARTNER), statement };
        let signed = Signed::sign(&said, &secret(PARTNER));
        let answer = desk.ask(theirs, Request::Countersign(Box::new(signed)));
        assert_eq!(code(&answer), RefusalCode::NotAllowed);
    }
    assert_eq!(desk.rows(Table::Statement), 0);
}

#[test]
fn what_an_earlier_program_held_counts_from_the_start_on() {
    let (mut desk, device) = holding(4 * SHARD);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    desk.settle();
    let rows = desk.facts.scan(Table::Tally, &[], None, 99).unwrap();
    let gone = |(key, _)| Write { table: Table::Tally, key, value: None };
    desk.facts.apply(rows.into_iter().map(gone).collect());
    desk.now = at(Period::days(2));
    let mut desk = desk.restart();
    desk.pass(Period::days(1));
    desk.settle();
    let own = own_console(&mut desk);
    let said = one(&mut desk, own, january());
    assert_eq!((said.figures.came, said.figures.byte_ms), (ONE, u128::from(SHARD) * DAY));
    assert_eq!(desk.months(VAULT).held(), ONE);
    let _ = its_device(&mut desk);
}
