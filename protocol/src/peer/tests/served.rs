//! Receipts for service: who was served says so, the holder states that and nothing else, and both sides can count it again.

use super::cast::*;
use super::desk::{Desk, code};
use super::partners::{
    ITS_NODE, PARTNER, SHARD, desk_with, give, holding, introduced, its_device, operator, put,
};
use crate::certificate::{DeviceRevocation, VaultPapers};
use crate::id::{NodeId, VaultId};
use crate::message::{RefusalCode, Request, Response};
use crate::peer::{CallId, Input, LinkId, PeerConfig, Table};
use crate::served::{ServiceCount, ServiceReceipt};
use crate::sign::Signed;
use crate::tally::{Countersigned, Done, Month, UsageStatement};
use crate::time::Period;

fn january() -> Month {
    "2027-01".parse().unwrap()
}

fn sent(sent: u64) -> Done {
    Done { sent, ..Done::default() }
}

/// What a device says after its last receipt.
fn receipt(last: Option<&ServiceReceipt>, more: Done) -> ServiceReceipt {
    let who = (public(DEVICE), public(NODE).into(), public(VAULT).into());
    ServiceReceipt::next(who, january(), last, more)
}

fn bring(desk: &mut Desk, link: LinkId, by: u8, receipt: &ServiceReceipt) -> Response {
    let signed = Box::new(Signed::sign(receipt, &secret(by)));
    desk.ask(link, Request::Served(signed))
}

fn their_console(desk: &mut Desk) -> LinkId {
    let (_, answer) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
    desk.greet(82, console_greeting_at(ITS_NODE, 82, desk.now.wall)).0
}

fn statement(desk: &mut Desk, link: LinkId) -> UsageStatement {
    let response = desk.ask(link, Request::Statements { month: january() });
    let Response::Statements(stated) = response else { panic!("{response:?}") };
    UsageStatement::verify(&stated[0].statement).unwrap()
}

fn shown(desk: &mut Desk, link: LinkId) -> Vec<Signed<ServiceReceipt>> {
    let (vault, month) = (public(VAULT).into(), january());
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let response = desk.ask(link, Request::Services { vault, month, after });
        let Response::Services { receipts, more } = response else { panic!("{response:?}") };
        let last = receipts.last().map(|signed| signed.verify().unwrap());
        after = last.map(|last| (last.holder, last.by));
        all.extend(receipts);
        if !more {
            return all;
        }
    }
}

#[test]
fn a_month_states_what_those_say_who_were_served_and_both_sides_count_it() {
    let (mut desk, device) = holding(4 * SHARD);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    let own = desk.greet(80, console_greeting_at(NODE, 80, desk.now.wall)).0;
    assert_eq!(statement(&mut desk, own).figures.done, Done::default(), "nobody said anything");
    let first = receipt(None, sent(8));
    assert_eq!(bring(&mut desk, device, DEVICE, &first), Response::Done);
    // A session that knew of none gets the last one, and goes on from there.
    let anew = receipt(None, sent(5));
    let answer = bring(&mut desk, device, DEVICE, &anew);
    let Response::Served(known) = answer else { panic!("{answer:?}") };
    assert_eq!(known.verify().unwrap(), first);
    let second = receipt(Some(&first), sent(5));
    assert_eq!(bring(&mut desk, device, DEVICE, &second), Response::Done);
    // What was sent again because no answer came is known already.
    assert_eq!(bring(&mut desk, device, DEVICE, &second), Response::Done);
    let earlier = bring(&mut desk, device, DEVICE, &first);
    assert!(matches!(earlier, Response::Served(_)), "{earlier:?}");
    let mut desk = desk.restart();
    desk.pass(Period::days(1));
    let own = desk.greet(80, console_greeting_at(NODE, 80, desk.now.wall)).0;
    let (theirs, device) = (their_console(&mut desk), its_device(&mut desk));
    for link in [own, theirs, device] {
        let said = statement(&mut desk, link);
        assert_eq!(said.figures.done, sent(13));
        let what = (said.holder, said.vault, said.month);
        let mut count = ServiceCount::new(what, [public(DEVICE)].into());
        for signed in shown(&mut desk, link) {
            count.show_before(&signed).unwrap();
            count.show_after(&signed).unwrap();
        }
        assert_eq!((count.by_giver().count(), count.differences(&said)), (1, Vec::new()));
    }
    // Nobody else is shown them.
    let (node, _) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    let (other, _) = desk.greet(OTHER_DEVICE, device_greeting(PARTNER, OTHER_VAULT, OTHER_DEVICE));
    let asked = Request::Services { vault: public(VAULT).into(), month: january(), after: None };
    for link in [node, other] {
        assert_eq!(code(&desk.ask(link, asked.clone())), RefusalCode::NotAllowed);
    }
}

#[test]
fn only_who_was_served_says_so_of_this_node_and_of_this_month() {
    let (mut desk, device) = holding(4 * SHARD);
    let good = receipt(None, sent(8));
    assert_eq!(code(&bring(&mut desk, device, DEVICE, &good)), RefusalCode::NotAllowed, "no shard");
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    let of = |change: &dyn Fn(&mut ServiceReceipt)| {
        let mut wrong = good.clone();
        change(&mut wrong);
        wrong
    };
    let stranger = of(&|wrong| wrong.by = public(OTHER_DEVICE));
    let refused = [
        (of(&|wrong| wrong.holder = NodeId([9; 32])), DEVICE, RefusalCode::Malformed),
        (stranger, OTHER_DEVICE, RefusalCode::NotAllowed),
        (of(&|wrong| wrong.vault = VaultId([9; 32])), DEVICE, RefusalCode::UnknownVault),
        (of(&|wrong| wrong.month = Month(wrong.month.0 - 2)), DEVICE, RefusalCode::NotAllowed),
        (of(&|wrong| wrong.month = Month(wrong.month.0 - 1)), DEVICE, RefusalCode::NotAllowed),
        (of(&|wrong| wrong.month = Month(wrong.month.0 + 2)), DEVICE, RefusalCode::NotAllowed),
    ];
    for (wrong, by, expected) in refused {
        assert_eq!(code(&bring(&mut desk, device, by, &wrong)), expected, "{wrong:?}");
    }
    let (other, _) = desk.greet(OTHER_DEVICE, device_greeting(PARTNER, OTHER_VAULT, OTHER_DEVICE));
    let foreign = of(&|wrong| wrong.by = public(OTHER_DEVICE));
    let answer = bring(&mut desk, other, OTHER_DEVICE, &foreign);
    assert_eq!(code(&answer), RefusalCode::UnknownVault);
    let order = DeviceRevocation {
        vault: public(VAULT).into(),
        device: public(DEVICE).into(),
        issued: desk.now.wall,
    };
    let order = Signed::sign(&order, &secret(VAULT));
    assert_eq!(desk.ask(device, Request::Revoke(order)), Response::Done);
    assert_eq!(code(&bring(&mut desk, device, DEVICE, &good)), RefusalCode::NotAllowed, "stolen");
    assert_eq!(desk.rows(Table::Served), 0);
}

#[test]
fn a_device_brings_what_it_found_with_others_and_no_operator_signs_for_its_own_nodes() {
    let (mut desk, device) = holding(4 * SHARD);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    let of = |by: u8| ServiceReceipt { by: public(by), ..receipt(None, sent(3)) };
    // The owner's node, which its roster lists.
    assert_eq!(bring(&mut desk, device, ITS_NODE, &of(ITS_NODE)), Response::Done);
    let (its_node, _) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert_eq!(bring(&mut desk, its_node, ITS_NODE, &of(ITS_NODE)), Response::Done);
    let foreign = bring(&mut desk, its_node, DEVICE, &of(DEVICE));
    assert_eq!(code(&foreign), RefusalCode::Malformed, "nodes bring their own alone");
    // A node that no roster lists, and one of this operator that it lists.
    assert_eq!(code(&bring(&mut desk, device, THIRD, &of(THIRD))), RefusalCode::NotAllowed);
    let certificate = vault_certificate(PARTNER, VAULT, EXPIRY);
    let listed = VaultPapers { certificate, ..papers(VAULT, 2, &[NODE, ITS_NODE, NEIGHBOUR]) };
    assert_eq!(desk.ask(device, Request::Introduce(listed)), Response::Done);
    let own = desk.node(NEIGHBOUR);
    for (link, what) in [(own, "itself"), (device, "by a device")] {
        let answer = bring(&mut desk, link, NEIGHBOUR, &of(NEIGHBOUR));
        assert_eq!(code(&answer), RefusalCode::NotAllowed, "{what}");
    }
    assert_eq!(desk.rows(Table::Served), 1);
    // Nor for its own vaults.
    let (mut desk, device) = Desk::with_vault(PeerConfig::default());
    let put = desk.put(device, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    assert!(matches!(put, Response::Receipt(_)));
    assert_eq!(code(&bring(&mut desk, device, DEVICE, &of(DEVICE))), RefusalCode::NotAllowed);
}

#[test]
fn a_month_that_is_over_is_agreed_to_again_when_more_came_in() {
    let (mut desk, device) = holding(4 * SHARD);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    desk.pass(Period::days(31));
    let (theirs, device) = (their_console(&mut desk), its_device(&mut desk));
    let mut agreed = Vec::new();
    let mut last = None;
    for more in [5, 7] {
        let next = receipt(last.as_ref(), sent(more));
        assert_eq!(bring(&mut desk, device, DEVICE, &next), Response::Done);
        last = Some(next);
        let response = desk.ask(theirs, Request::Statements { month: january() });
        let Response::Statements(mut stated) = response else { panic!("{response:?}") };
        let said =
            Countersigned { operator: operator(PARTNER), statement: stated.remove(0).statement };
        agreed.push(Signed::sign(&said, &secret(PARTNER)));
    }
    for signed in [&agreed[0], &agreed[1], &agreed[0]] {
        let answer = desk.ask(theirs, Request::Countersign(Box::new(signed.clone())));
        assert_eq!(answer, Response::Done);
    }
    let response = desk.ask(theirs, Request::Statements { month: january() });
    let Response::Statements(stated) = response else { panic!("{response:?}") };
    assert_eq!(stated[0].countersigned.as_ref(), Some(&agreed[1]));
}

/// A node that reads and audits at a partner's node for its own operator's vault.
struct Giver {
    desk: Desk,
    link: LinkId,
}

/// What it gives: by which call, and on which connection.
type Given = (CallId, LinkId, ServiceReceipt);

impl Giver {
    fn new() -> Self {
        let mut desk = desk_with(vec![introduced(give(4 * SHARD), &[NODE])]);
        let device = desk.device(VAULT, DEVICE);
        let introduced = Request::Introduce(papers(VAULT, 1, &[NODE]));
        assert_eq!(desk.ask(device, introduced), Response::Done);
        let mut giver = Self { desk, link: LinkId(0) };
        giver.meet();
        giver
    }

    fn meet(&mut self) {
        let (link, answer) = self.desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
        assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
        self.link = link;
    }

    fn note(&mut self, holder: u8, more: Done) {
        let now = self.desk.now;
        self.desk.peer.note_service(now, public(holder).into(), public(VAULT).into(), more);
    }

    fn take(&mut self) -> Vec<Given> {
        self.desk.settle();
        let called = std::mem::take(&mut self.desk.called).into_iter();
        let served = called.filter_map(|(call, link, request)| match request {
            Request::Served(signed) => Some((call, link, signed.verify().unwrap())),
            _ => None,
        });
        served.collect()
    }

    /// What it gives in so much time.
    fn given(&mut self, period: Period) -> Vec<Given> {
        self.desk.called.clear();
        self.desk.pass(period);
        self.take()
    }

    /// The one that it gives.
    fn one(&mut self, period: Period) -> Given {
        let mut given = self.given(period);
        assert_eq!(given.len(), 1, "{given:?}");
        given.remove(0)
    }

    /// What it gives upon an answer.
    fn answer(&mut self, call: CallId, response: Option<Response>) -> Vec<Given> {
        self.desk.called.clear();
        self.desk.handle(Input::Answer { call, response: response.map(Box::new) });
        self.take()
    }
}

fn every() -> Period {
    PeerConfig::default().exchange_period
}

const PACE: Period = Period::seconds(600);

#[test]
fn a_node_says_what_was_done_for_it_now_and_then_and_goes_on_after_a_restart() {
    let mut giver = Giver::new();
    giver.note(ITS_NODE, sent(3));
    giver.note(ITS_NODE, Done { proved: 2, unproved: 1, ..Done::default() });
    // Nothing is settled between nodes of one operator.
    giver.note(NODE, sent(99));
    let (call, link, first) = giver.one(every());
    let expected = Done { sent: 3, proved: 2, unproved: 1, ..Done::default() };
    assert_eq!((link, first.done, first.number), (giver.link, expected, 1));
    assert_eq!((first.by, first.holder), (public(NODE), public(ITS_NODE).into()));
    assert_eq!(giver.answer(call, Some(Response::Done)), []);
    // Not at each meeting, and not without a reason.
    giver.note(ITS_NODE, sent(4));
    assert_eq!(giver.given(every()), []);
    let (call, _, second) = giver.one(PACE);
    assert_eq!((second.done.sent, second.number), (7, 2));
    assert_eq!(giver.answer(call, Some(Response::Done)), []);
    assert_eq!(giver.given(PACE), []);
    // After a start it does not know whether it was taken, and says it again.
    let mut giver = Giver { desk: giver.desk.restart(), link: LinkId(0) };
    giver.meet();
    let (_, _, again) = giver.one(every());
    assert_eq!(again, second);
    giver.note(ITS_NODE, sent(1));
    let (_, _, third) = giver.one(PACE);
    assert_eq!((third.done.sent, third.number), (8, 3));
}

#[test]
fn what_was_not_taken_is_given_again_and_who_gives_no_answer_is_left_alone() {
    let mut giver = Giver::new();
    giver.note(ITS_NODE, sent(3));
    let (call, _, first) = giver.one(every());
    assert_eq!(giver.answer(call, Some(Response::Busy { retry_after: Period(1) })), []);
    let (call, _, again) = giver.one(PACE);
    assert_eq!(again, first);
    assert_eq!(giver.answer(call, None), []);
    giver.note(ITS_NODE, sent(1));
    assert_eq!(giver.given(Period::seconds(3600)), []);
    giver.desk.pass(Period::days(1));
    giver.meet();
    let (_, _, later) = giver.one(PACE);
    assert_eq!((later.number, later.done), (2, sent(4)));
}

#[test]
fn a_node_that_lost_its_copies_goes_on_from_its_own_word_and_no_echo_adds_to_it() {
    let mut giver = Giver::new();
    giver.note(ITS_NODE, sent(3));
    let (call, _, first) = giver.one(every());
    let served = |receipt: &ServiceReceipt, by: u8| {
        Some(Response::Served(Box::new(Signed::sign(receipt, &secret(by)))))
    };
    // What it just said is no later word, nor is another's.
    let before = ServiceReceipt { number: 7, done: sent(40), ..first.clone() };
    let others = ServiceReceipt { by: public(ITS_NODE), ..before.clone() };
    assert_eq!(giver.answer(call, served(&others, ITS_NODE)), []);
    let (call, _, first) = giver.one(PACE);
    assert_eq!(giver.answer(call, served(&first, NODE)), []);
    let (call, _, _) = giver.one(PACE);
    let mut given = giver.answer(call, served(&before, NODE));
    let (call, _, after) = given.remove(0);
    assert_eq!((after.number, after.done), (8, sent(43)));
    for echo in [&before, &after] {
        assert_eq!(giver.answer(call, served(echo, NODE)), []);
    }
}
