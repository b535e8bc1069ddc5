//! Receipts for service: who was served says so, the holder states that and nothing else, and both sides can count it again.

use super::cast::*;
use super::desk::{Desk, code};
use super::partners::{
    ITS_NODE, PARTNER, SHARD, desk_with, give, holding, introduced, its_device, put,
};
use crate::certificate::DeviceRevocation;
use crate::id::{NodeId, VaultId};
use crate::message::{RefusalCode, Request, Response};
use crate::peer::{CallId, Input, LinkId, PeerConfig, Table};
use crate::served::{ServiceCount, ServiceReceipt};
use crate::sign::Signed;
use crate::tally::{Done, Month, UsageStatement};
use crate::time::Period;

fn january() -> Month {
    "2027-01".parse().unwrap()
}

fn sent(sent: u64) -> Done {
    Done { sent, ..Done::default() }
}

/// What a device says after its last receipt.
fn receipt(desk: &Desk, last: Option<&ServiceReceipt>, more: Done) -> ServiceReceipt {
    let who = (public(DEVICE), public(NODE).into(), public(VAULT).into());
    ServiceReceipt::next(who, january(), last, more, desk.now.wall)
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
    let first = receipt(&desk, None, sent(8));
    assert_eq!(bring(&mut desk, device, DEVICE, &first), Response::Done);
    // A session that knew of none gets the last one, and goes on from there.
    let anew = receipt(&desk, None, sent(5));
    let answer = bring(&mut desk, device, DEVICE, &anew);
    let Response::Served(known) = answer else { panic!("{answer:?}") };
    assert_eq!(known.verify().unwrap(), first);
    let second = receipt(&desk, Some(&first), sent(5));
    assert_eq!(bring(&mut desk, device, DEVICE, &second), Response::Done);
    let again = bring(&mut desk, device, DEVICE, &second);
    assert!(matches!(again, Response::Served(_)), "{again:?}");
    let mut desk = desk.restart();
    desk.pass(Period::days(1));
    let own = desk.greet(80, console_greeting_at(NODE, 80, desk.now.wall)).0;
    let (theirs, device) = (their_console(&mut desk), its_device(&mut desk));
    for link in [own, theirs, device] {
        let said = statement(&mut desk, link);
        assert_eq!(said.figures.done, sent(13));
        let mut count = ServiceCount::of(&said, Some([public(DEVICE)].into()));
        for signed in shown(&mut desk, link) {
            count.show(&signed).unwrap();
        }
        assert_eq!((count.count(), count.differences(&said)), (1, Vec::new()));
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
    let good = receipt(&desk, None, sent(8));
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
        (stranger, OTHER_DEVICE, RefusalCode::Malformed),
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

/// A node that reads and audits at a partner's node for its own operator's vault.
struct Giver {
    desk: Desk,
    link: LinkId,
}

impl Giver {
    fn new() -> Self {
        let mut desk = desk_with(vec![introduced(give(4 * SHARD), &[NODE])]);
        let device = desk.device(VAULT, DEVICE);
        let introduced = Request::Introduce(papers(VAULT, 1, &[NODE]));
        assert_eq!(desk.ask(device, introduced), Response::Done);
        let (link, answer) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
        assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
        Self { desk, link }
    }

    fn note(&mut self, holder: u8, more: Done) {
        let now = self.desk.now;
        self.desk.peer.note_service(now, public(holder).into(), public(VAULT).into(), more);
    }

    /// What it gives in so much time.
    fn given(&mut self, period: Period) -> Vec<(CallId, LinkId, ServiceReceipt)> {
        self.desk.called.clear();
        self.desk.pass(period);
        self.desk.settle();
        let called = std::mem::take(&mut self.desk.called).into_iter();
        let served = called.filter_map(|(call, link, request)| match request {
            Request::Served(signed) => Some((call, link, signed.verify().unwrap())),
            _ => None,
        });
        served.collect()
    }
}

#[test]
fn a_node_says_what_was_done_for_it_now_and_then_and_goes_on_after_a_restart() {
    let every = PeerConfig::default().exchange_period;
    let mut giver = Giver::new();
    giver.note(ITS_NODE, sent(3));
    giver.note(ITS_NODE, Done { proved: 2, unproved: 1, ..Done::default() });
    // Nothing is settled between nodes of the vault's own operator.
    giver.note(NODE, sent(99));
    let given = giver.given(every);
    let [(_, link, first)] = &given[..] else { panic!("{given:?}") };
    let expected = Done { sent: 3, proved: 2, unproved: 1, ..Done::default() };
    assert_eq!((*link, first.done, first.number), (giver.link, expected, 1));
    assert_eq!((first.by, first.holder), (public(NODE), public(ITS_NODE).into()));
    // Not at each meeting.
    giver.note(ITS_NODE, sent(4));
    assert_eq!(giver.given(every).len(), 0);
    let given = giver.given(Period::seconds(600));
    let [(_, _, second)] = &given[..] else { panic!("{given:?}") };
    assert_eq!((second.done.sent, second.number), (7, 2));
    let mut giver = Giver { desk: giver.desk.restart(), link: LinkId(0) };
    giver.link = giver.desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).0;
    giver.note(ITS_NODE, sent(1));
    let given = giver.given(every);
    let [(_, _, third)] = &given[..] else { panic!("{given:?}") };
    assert_eq!((third.done.sent, third.number), (8, 3));
}

#[test]
fn a_node_that_lost_its_copies_goes_on_from_its_own_word_at_the_holder() {
    let mut giver = Giver::new();
    giver.note(ITS_NODE, sent(3));
    let given = giver.given(PeerConfig::default().exchange_period);
    let [(call, _, first)] = &given[..] else { panic!("{given:?}") };
    let before = ServiceReceipt { number: 7, done: sent(40), ..first.clone() };
    let mut answer = |response: Response, call: CallId| {
        giver.desk.called.clear();
        giver.desk.handle(Input::Answer { call, response: Some(Box::new(response)) });
        giver.desk.settle();
        giver.desk.called.iter().find_map(|(call, _, request)| match request {
            Request::Served(signed) => Some((*call, signed.verify().unwrap())),
            _ => None,
        })
    };
    let signed = |receipt: &ServiceReceipt, by: u8| {
        Response::Served(Box::new(Signed::sign(receipt, &secret(by))))
    };
    // Only its own word counts.
    let forged = ServiceReceipt { by: public(ITS_NODE), ..before.clone() };
    let (next, after) = answer(signed(&before, NODE), *call).unwrap();
    assert_eq!((after.number, after.done.sent), (8, 43));
    assert!(answer(signed(&forged, ITS_NODE), next).is_none());
}

#[test]
fn a_holder_that_shows_an_earlier_word_stops_nothing() {
    let mut giver = Giver::new();
    giver.note(ITS_NODE, sent(3));
    let given = giver.given(PeerConfig::default().exchange_period);
    let [(call, _, first)] = &given[..] else { panic!("{given:?}") };
    let (call, earlier) = (*call, ServiceReceipt { number: 0, ..first.clone() });
    let response = Response::Served(Box::new(Signed::sign(&earlier, &secret(NODE))));
    giver.desk.called.clear();
    giver.desk.handle(Input::Answer { call, response: Some(Box::new(response)) });
    giver.desk.settle();
    assert!(giver.desk.called.iter().all(|(_, _, request)| !matches!(request, Request::Served(_))));
}
