//! Partners: what a node gives another operator, by its own operator's signed word and as far as they agreed.

use super::cast::*;
use super::desk::{Desk, code, decode};
use crate::agreement::{Acceptance, Agreement, Side};
use crate::certificate::{Roster, VaultPapers};
use crate::id::OperatorId;
use crate::label::Labels;
use crate::message::{PartnerStatus, RefusalCode, Request, Response};
use crate::partner::{Contact, Introduction, Partner, PartnerList};
use crate::peer::{Input, LinkId, MemoryFacts, Note, PeerConfig, Table};
use crate::sign::Signed;
use crate::time::{Period, Wall};

/// Another operator, and its node.
pub(super) const PARTNER: u8 = 50;
pub(super) const ITS_NODE: u8 = 51;
pub(super) const SHARD: u64 = SHARD_LEN as u64;

pub(super) fn operator(name: u8) -> OperatorId {
    public(name).into()
}

/// What the desk's operator and the partner agreed: so many bytes are held here.
pub(super) fn agreed(
    version: u64,
    gives: u64,
    lock_max: Period,
    term: Period,
) -> Signed<Acceptance> {
    between(PARTNER, version, gives, (lock_max, term), EPOCH)
}

/// An agreement that begins then.
pub(super) fn agreed_from(version: u64, gives: u64, start: Wall) -> Signed<Acceptance> {
    between(PARTNER, version, gives, (Period::days(400), Period::days(300)), start)
}

/// What another partner and the desk's operator agreed.
pub(super) fn agreed_with(partner: u8, gives: u64) -> Signed<Acceptance> {
    between(partner, 1, gives, (Period::days(400), Period::days(300)), EPOCH)
}

fn between(
    partner: u8,
    version: u64,
    gives: u64,
    (lock_max, term): (Period, Period),
    start: Wall,
) -> Signed<Acceptance> {
    let side = |name, gives| Side { operator: operator(name), gives, labels: Labels::default() };
    let agreement = Agreement {
        first: side(OPERATOR, gives),
        second: side(partner, 1 << 40),
        version,
        start,
        term,
        notice: Period::days(1),
        lock_max,
    };
    let agreement = Signed::sign(&agreement, &secret(OPERATOR));
    Signed::sign(&Acceptance { operator: operator(partner), agreement }, &secret(partner))
}

pub(super) fn give(gives: u64) -> Option<Signed<Acceptance>> {
    Some(agreed(1, gives, Period::days(400), Period::days(300)))
}

pub(super) fn introduced(agreement: Option<Signed<Acceptance>>, holders: &[u8]) -> Partner {
    let contacts =
        vec![Contact { node: public(ITS_NODE).into(), addresses: vec!["/memory/51".into()] }];
    let name = "them".to_owned();
    let introduction =
        Introduction { operator: operator(PARTNER), name: name.clone(), contacts, issued: EPOCH };
    let introduction = Signed::sign(&introduction, &secret(PARTNER));
    let holders = holders.iter().map(|&node| public(node).into()).collect();
    Partner { name, introduction, added: EPOCH, agreement, holders }
}

pub(super) fn list(version: u64, partners: Vec<Partner>) -> Signed<PartnerList> {
    let list = PartnerList { operator: operator(OPERATOR), version, partners };
    Signed::sign(&list, &secret(OPERATOR))
}

/// The node's operator says who its partners are.
pub(super) fn say(desk: &mut Desk, list: &Signed<PartnerList>) {
    desk.handle(Input::Partners(Box::new(list.clone())));
    desk.settle();
}

pub(super) fn desk_with(partners: Vec<Partner>) -> Desk {
    let mut desk = Desk::new();
    say(&mut desk, &list(1, partners));
    desk
}

pub(super) fn its_papers() -> VaultPapers {
    let certificate = vault_certificate(PARTNER, VAULT, EXPIRY);
    VaultPapers { certificate, ..papers(VAULT, 1, &[NODE, ITS_NODE]) }
}

/// A device of the partner's vault.
pub(super) fn its_device(desk: &mut Desk) -> LinkId {
    let (link, answer) = desk.greet(DEVICE, device_greeting(PARTNER, VAULT, DEVICE));
    assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
    link
}

/// A desk that holds for the partner, whose vault is introduced.
pub(super) fn holding(gives: u64) -> (Desk, LinkId) {
    let mut desk = desk_with(vec![introduced(give(gives), &[NODE])]);
    let link = its_device(&mut desk);
    assert_eq!(desk.ask(link, Request::Introduce(its_papers())), Response::Done);
    (desk, link)
}

pub(super) fn put(desk: &mut Desk, link: LinkId, stripe: u8) -> Response {
    desk.put(link, &record(VAULT, DEVICE, stripe), 0, &shard_bytes(stripe, 0))
}

fn asked(desk: &mut Desk, link: LinkId) -> PartnerStatus {
    match desk.ask(link, Request::Partners { known: 0 }) {
        Response::Partners(status) => *status,
        other => panic!("{other:?}"),
    }
}

fn held(desk: &mut Desk) -> (u64, u64) {
    let (link, _) = desk.greet(80, console_greeting_at(NODE, 80, desk.now.wall));
    let status = asked(desk, link);
    assert_eq!(status.held.len(), 1);
    (status.held[0].bytes, status.held[0].share)
}

fn room(desk: &mut Desk, link: LinkId) -> u64 {
    let Response::Status(status) = desk.ask(link, Request::Status) else { panic!() };
    status.room
}

#[test]
fn a_partner_is_believed_once_that_is_durable_and_no_further() {
    let mut desk = Desk::new();
    assert_eq!(
        code(&desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1),
        RefusalCode::NotVouched
    );
    desk.handle(Input::Partners(Box::new(list(1, vec![introduced(None, &[])]))));
    assert_eq!(desk.undurable(), 1);
    assert_eq!(
        code(&desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1),
        RefusalCode::NotVouched
    );
    desk.settle();
    assert!(desk.notes.contains(&Note::Partners { version: 1, partners: 1 }));
    // It is looked for at once.
    desk.pass(Period(0));
    assert!(desk.dialed.contains(&public(ITS_NODE).into()));
    let (link, answer) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
    assert!(matches!(desk.ask(link, Request::Time { nonce: [1; 16] }), Response::Time(_)));
    // Whom a partner vouches for is somebody; whom it believes is nobody.
    let foreign = desk.greet(STRANGER, node_greeting(FOREIGN_OPERATOR, STRANGER)).1;
    assert_eq!(code(&foreign), RefusalCode::NotVouched);
    // Whom the operator deals with is not the partner's business.
    let Response::Members(records) = desk.ask(link, Request::Members(vec![])) else { panic!() };
    assert_eq!(records.len(), 2, "this node, and its own");
    assert_eq!(code(&desk.ask(link, Request::Partners { known: 0 })), RefusalCode::NotAllowed);
    let forged = list(9, vec![]);
    let taken = desk.ask(link, Request::TakePartners(Box::new(forged)));
    assert_eq!(code(&taken), RefusalCode::NotAllowed);
    // After a restart it is as before.
    let mut desk = desk.restart();
    let answer = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1;
    assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
}

#[test]
fn a_list_that_was_not_stored_does_not_count() {
    let mut desk = Desk::new();
    desk.handle(Input::Partners(Box::new(list(1, vec![introduced(None, &[])]))));
    assert!(desk.fail_one());
    desk.settle();
    assert_eq!(
        code(&desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1),
        RefusalCode::NotVouched
    );
    // It is said again.
    say(&mut desk, &list(1, vec![introduced(None, &[])]));
    assert!(matches!(
        desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1,
        Response::Welcome { .. }
    ));
}

#[test]
fn an_older_list_puts_nobody_back_and_anothers_list_is_none() {
    let mut desk = desk_with(vec![introduced(None, &[])]);
    let link = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).0;
    assert_eq!(desk.rows(Table::Member), 2);
    say(&mut desk, &list(2, vec![]));
    assert_eq!(desk.closed, [link], "its connection ends");
    assert_eq!(desk.rows(Table::Member), 1, "it is no member any more");
    say(&mut desk, &list(1, vec![introduced(None, &[])]));
    let forged = PartnerList { operator: operator(PARTNER), version: 3, partners: vec![] };
    say(&mut desk, &Signed::sign(&forged, &secret(PARTNER)));
    let far = list(u64::MAX, vec![introduced(None, &[])]);
    say(&mut desk, &far);
    assert_eq!(
        code(&desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1),
        RefusalCode::NotVouched
    );
    let mut desk = desk.restart();
    assert_eq!(
        code(&desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1),
        RefusalCode::NotVouched
    );
}

#[test]
fn an_older_list_never_follows_a_newer_one_to_the_disk() {
    let mut desk = Desk::new();
    desk.handle(Input::Partners(Box::new(list(3, vec![]))));
    desk.handle(Input::Partners(Box::new(list(2, vec![introduced(None, &[])]))));
    desk.settle();
    let mut desk = desk.restart();
    assert_eq!(
        code(&desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1),
        RefusalCode::NotVouched
    );
    say(&mut desk, &list(2, vec![introduced(None, &[])]));
    assert_eq!(
        code(&desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1),
        RefusalCode::NotVouched
    );
}

#[test]
fn own_vaults_introduce_nobody() {
    let (mut desk, device) = Desk::with_vault(PeerConfig::default());
    let (other, guest) = (53, 54);
    let nodes = vec![node_certificate(OPERATOR, NODE), node_certificate(other, guest)];
    let roster = Roster { vault: public(VAULT).into(), version: 2, nodes };
    let roster = Signed::sign(&roster, &secret(VAULT));
    let papers = VaultPapers { roster, ..papers(VAULT, 1, &[NODE, NEIGHBOUR]) };
    assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
    assert_eq!(code(&desk.greet(guest, node_greeting(other, guest)).1), RefusalCode::NotVouched);
    let known = desk.rows(Table::Member);
    let _ = desk.ask(device, Request::Members(vec![node_record(other, guest, 1)]));
    assert_eq!(desk.rows(Table::Member), known);
}

#[test]
fn the_operators_other_nodes_are_told_once() {
    let mut desk = desk_with(vec![introduced(None, &[])]);
    let (theirs, own) =
        (desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).0, desk.node(NEIGHBOUR));
    desk.pass(Period::seconds(31));
    let told = |desk: &mut Desk| -> Vec<_> {
        let is_it = |request: &Request| matches!(request, Request::TakePartners(_));
        std::mem::take(&mut desk.called).into_iter().filter(|(_, _, r)| is_it(r)).collect()
    };
    let mut calls = told(&mut desk);
    assert!(calls.iter().all(|(_, link, _)| *link == own && *link != theirs), "{calls:?}");
    let (call, _, request) = calls.pop().expect("its neighbour is told");
    // The neighbour takes it from a node of its operator.
    let mut there = Desk::of(NEIGHBOUR, MemoryFacts::default(), PeerConfig::default(), desk.now);
    let link = there.node(NODE);
    assert_eq!(there.ask(link, request), Response::Done);
    assert!(there.notes.contains(&Note::Partners { version: 1, partners: 1 }));
    desk.handle(Input::Answer { call, response: Some(Box::new(Response::Done)) });
    desk.pass(Period::seconds(31));
    assert_eq!(told(&mut desk).len(), 0, "who knows it is not told again");
    let _ = desk.node(NEIGHBOUR);
    desk.pass(Period::seconds(31));
    assert_eq!(told(&mut desk).len(), 1, "who begins again may have lost it");
}

#[test]
fn nothing_is_held_without_an_agreement() {
    let mut desk = desk_with(vec![introduced(None, &[NODE])]);
    let link = its_device(&mut desk);
    assert_eq!(room(&mut desk, link), 0);
    assert_eq!(code(&desk.ask(link, Request::Introduce(its_papers()))), RefusalCode::NotAllowed);
    // One that has not begun, has ended, or names other nodes as holders, gives as little.
    let ended = agreed(1, 1 << 30, Period::days(400), Period::days(2));
    for (version, agreement, holders) in
        [(2, ended, NODE), (3, agreed(2, 1 << 30, Period::days(400), Period::days(300)), THIRD)]
    {
        say(&mut desk, &list(version, vec![introduced(Some(agreement), &[holders])]));
        desk.pass(Period::days(3));
        let link = its_device(&mut desk);
        assert_eq!(room(&mut desk, link), 0);
        let introduced = desk.ask(link, Request::Introduce(its_papers()));
        if holders == NODE {
            assert_eq!(code(&introduced), RefusalCode::NotAllowed);
        } else {
            assert_eq!(introduced, Response::Done);
            assert_eq!(code(&put(&mut desk, link, 1)), RefusalCode::Quota);
        }
    }
    assert_eq!(desk.rows(Table::Held), 0);
}

#[test]
fn a_partner_fills_its_share_and_not_a_byte_more() {
    let (mut desk, link) = holding(2 * SHARD + 1);
    assert_eq!(room(&mut desk, link), 2 * SHARD + 1);
    // Two arrive at once: both count before they are here.
    let lanes = [1, 2].map(|stripe| desk.send_put(link, &record(VAULT, DEVICE, stripe), 0));
    assert_eq!(room(&mut desk, link), 1);
    let Response::Refused(refusal) = put(&mut desk, link, 3) else { panic!("it is refused") };
    assert_eq!(refusal.code, RefusalCode::Quota);
    assert!(refusal.text.contains("1 B are left of the 129 B"), "{}", refusal.text);
    for (lane, stripe) in lanes.into_iter().zip([1, 2]) {
        desk.arrive(lane, &shard_bytes(stripe, 0));
    }
    desk.settle();
    assert_eq!(held(&mut desk), (2 * SHARD, 2 * SHARD + 1));
    assert_eq!(code(&put(&mut desk, link, 3)), RefusalCode::Quota);
    // What is here already may be brought again.
    assert!(matches!(put(&mut desk, link, 1), Response::Receipt(_)));
    // After a crash it is counted as before.
    let mut desk = desk.restart();
    assert_eq!(held(&mut desk), (2 * SHARD, 2 * SHARD + 1));
    let link = its_device(&mut desk);
    assert_eq!(code(&put(&mut desk, link, 3)), RefusalCode::Quota);
}

#[test]
fn what_was_not_stored_is_not_counted_and_own_vaults_are_nobodys_share() {
    let (mut desk, link) = holding(SHARD);
    let lane = desk.send_put(link, &record(VAULT, DEVICE, 1), 0);
    desk.arrive(lane, &shard_bytes(1, 0));
    assert!(desk.fail_one());
    desk.settle();
    assert_eq!(held(&mut desk), (0, SHARD));
    let own = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let papers = papers(OTHER_VAULT, 1, &[NODE, NEIGHBOUR, THIRD]);
    assert_eq!(desk.ask(own, Request::Introduce(papers)), Response::Done);
    for stripe in [7, 8] {
        let record = record(OTHER_VAULT, OTHER_DEVICE, stripe);
        let answer = desk.put(own, &record, 0, &shard_bytes(stripe, 0));
        assert!(matches!(answer, Response::Receipt(_)), "{answer:?}");
    }
    assert_eq!(held(&mut desk), (0, SHARD));
    assert!(matches!(put(&mut desk, link, 1), Response::Receipt(_)));
    assert_eq!(held(&mut desk), (SHARD, SHARD));
}

#[test]
fn no_lock_is_longer_than_agreed() {
    let agreement = agreed(1, 1 << 20, Period::days(30), Period::days(300));
    let mut desk = desk_with(vec![introduced(Some(agreement), &[NODE])]);
    let link = its_device(&mut desk);
    assert_eq!(desk.ask(link, Request::Introduce(its_papers())), Response::Done);
    assert_eq!(code(&put(&mut desk, link, 1)), RefusalCode::NotAllowed);
    let mut short = record(VAULT, DEVICE, 1);
    short.policy.lock.period = Period::days(30);
    let answer = desk.put(link, &short, 0, &shard_bytes(1, 0));
    assert!(matches!(answer, Response::Receipt(_)), "{answer:?}");
    // Nor does a later record make it longer.
    let mut long = short.clone();
    (long.version, long.policy.lock.period) = (2, Period::days(31));
    let long = Signed::sign(&long, &secret(DEVICE));
    assert_eq!(code(&desk.ask(link, Request::Replace(long))), RefusalCode::NotAllowed);
}

/// For how long the first stripe is still locked, after it was asked to be extended.
fn extended(desk: &mut Desk, link: LinkId) -> Period {
    let stripes = vec![record(VAULT, DEVICE, 1).stripe.id()];
    let request = Request::Extend { vault: public(VAULT).into(), stripes };
    let Response::Extended(answer) = desk.ask(link, request) else { panic!() };
    answer[0].expect("it is held")
}

#[test]
fn what_is_held_stays_and_is_read_when_an_agreement_shrinks_or_ends() {
    let (mut desk, link) = holding(2 * SHARD);
    let lock = record(VAULT, DEVICE, 1).policy.lock.period;
    assert!(matches!(put(&mut desk, link, 1), Response::Receipt(_)));
    let first = entry(0, None, 1);
    assert!(matches!(desk.ask(link, Request::Append(first.clone())), Response::Appended(_)));
    desk.pass(Period::days(10));
    assert_eq!(extended(&mut desk, link), lock);
    let smaller = agreed(2, 1, Period::days(400), Period::days(300));
    say(&mut desk, &list(2, vec![introduced(Some(smaller), &[NODE])]));
    assert_eq!(held(&mut desk), (SHARD, 1));
    assert_eq!(room(&mut desk, link), 0);
    assert_eq!(code(&put(&mut desk, link, 2)), RefusalCode::Quota);
    desk.pass(Period::days(10));
    assert_eq!(extended(&mut desk, link), lock);
    // The partner is removed: its vault's device reads on, and nothing new is promised.
    say(&mut desk, &list(3, vec![]));
    let link = its_device(&mut desk);
    desk.pass(Period::days(10));
    assert_eq!(extended(&mut desk, link), Period(lock.0 - Period::days(10).0));
    assert!(matches!(put(&mut desk, link, 1), Response::Receipt(_)), "it is held");
    assert_eq!(extended(&mut desk, link), Period(lock.0 - Period::days(10).0));
    assert_eq!(code(&put(&mut desk, link, 2)), RefusalCode::NotAllowed);
    assert_eq!(
        code(&desk.ask(link, Request::Append(entry(1, Some(&first), 2)))),
        RefusalCode::NotAllowed
    );
    let shard = record(VAULT, DEVICE, 1).stripe.shards[0];
    let read = desk.ask(link, Request::Get { shard, offset: 0, len: 8 });
    assert_eq!(read, Response::Bytes { len: 8 });
    // A vault that is not known here gets nothing of that.
    let other = desk.greet(OTHER_DEVICE, device_greeting(PARTNER, OTHER_VAULT, OTHER_DEVICE)).1;
    assert_eq!(code(&other), RefusalCode::NotVouched);
    assert_eq!(desk.rows(Table::Held), 1);
    assert_eq!(held(&mut desk), (SHARD, 0));
}

#[test]
fn a_vault_with_bytes_here_stays_with_its_operator() {
    let (mut desk, link) = holding(4 * SHARD);
    let owner = |desk: &Desk| {
        let row = crate::peer::Facts::get(&desk.facts, Table::Vault, &public(VAULT).0).unwrap();
        let signed: Signed<crate::certificate::VaultCertificate> = decode(&row.unwrap());
        signed.verify().unwrap().operator
    };
    // Its own device may say who vouches for it while nothing is held,
    let later = Wall(EXPIRY.0 - 1);
    let papers = |operator, expires, version| VaultPapers {
        certificate: vault_certificate(operator, VAULT, expires),
        ..super::cast::papers(VAULT, version, &[NODE, ITS_NODE])
    };
    assert_eq!(desk.ask(link, Request::Introduce(papers(OPERATOR, later, 2))), Response::Done);
    assert_eq!(owner(&desk), operator(OPERATOR));
    assert_eq!(desk.ask(link, Request::Introduce(papers(PARTNER, later, 3))), Response::Done);
    assert_eq!(owner(&desk), operator(PARTNER));
    // and not once its bytes are in the account of one.
    assert!(matches!(put(&mut desk, link, 1), Response::Receipt(_)));
    let moved = desk.ask(link, Request::Introduce(papers(OPERATOR, EXPIRY, 4)));
    assert_eq!(code(&moved), RefusalCode::NotAllowed);
    assert_eq!(owner(&desk), operator(PARTNER));
    assert_eq!(held(&mut desk).0, SHARD);
}

#[test]
fn a_partner_is_not_told_of_another() {
    let other = 53;
    let their_node = 54;
    let introduction = Introduction {
        operator: operator(other),
        name: "others".into(),
        contacts: Vec::new(),
        issued: EPOCH,
    };
    let others = Partner {
        name: "others".into(),
        introduction: Signed::sign(&introduction, &secret(other)),
        ..introduced(None, &[])
    };
    let mut desk = desk_with(vec![introduced(None, &[]), others]);
    let own = desk.node(NEIGHBOUR);
    let _ = desk.greet(their_node, node_greeting(other, their_node));
    let (link, _) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    let told = |desk: &mut Desk, link| {
        let Response::Members(records) = desk.ask(link, Request::Members(vec![])) else { panic!() };
        let Response::Status(status) = desk.ask(link, Request::Status) else { panic!() };
        let is_it = |node| node == crate::id::NodeId::from(public(their_node));
        let in_records = records.iter().any(|signed| is_it(signed.verify().unwrap().node));
        let in_status = status.members.iter().any(|member| is_it(member.node));
        assert_eq!(in_records, in_status);
        (records.len(), in_records)
    };
    assert_eq!(told(&mut desk, own), (4, true));
    assert_eq!(told(&mut desk, link), (3, false));
}

#[test]
fn a_guest_need_not_tell_again_and_again_of_nodes_that_are_known() {
    let (other, guest) = (53, 54);
    let (mut desk, device) = holding(1 << 20);
    let listed = [(OPERATOR, NODE), (PARTNER, ITS_NODE), (other, guest)];
    let nodes = listed.map(|(operator, node)| node_certificate(operator, node)).into();
    let roster = Roster { vault: public(VAULT).into(), version: 2, nodes };
    let papers = VaultPapers { roster: Signed::sign(&roster, &secret(VAULT)), ..its_papers() };
    assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
    let _ = desk.node(NEIGHBOUR);
    let (link, _) = desk.greet(guest, node_greeting(other, guest));
    desk.called.clear();
    desk.pass(Period::seconds(31));
    let known = desk.called.iter().find_map(|(_, on, request)| match request {
        Request::Lacking { known } if *on == link => Some(known.0.len()),
        _ => None,
    });
    // This node and its operator's other one, and the guest itself: no partner's.
    assert_eq!(known, Some(3 * crate::message::RECORD_NAME_LEN));
}

#[test]
fn a_vaults_roster_introduces_its_holders_to_each_other_and_to_nothing_else() {
    let (other, guest) = (53, 54);
    let (mut desk, device) = holding(1 << 20);
    assert_eq!(code(&desk.greet(guest, node_greeting(other, guest)).1), RefusalCode::NotVouched);
    let nodes = vec![
        node_certificate(OPERATOR, NODE),
        node_certificate(PARTNER, ITS_NODE),
        node_certificate(other, guest),
    ];
    let roster = Roster { vault: public(VAULT).into(), version: 2, nodes };
    let papers = VaultPapers { roster: Signed::sign(&roster, &secret(VAULT)), ..its_papers() };
    assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
    // It is met as the operator's under which it is listed, and not as another's.
    assert_eq!(code(&desk.greet(guest, node_greeting(55, guest)).1), RefusalCode::NotVouched);
    let (link, answer) = desk.greet(guest, node_greeting(other, guest));
    assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
    let Response::Vaults(vaults) = desk.ask(link, Request::Vaults) else { panic!() };
    assert_eq!(vaults.len(), 1);
    let holdings = desk.ask(link, Request::Holdings(public(VAULT).into()));
    assert!(matches!(holdings, Response::Holdings(Some(_))), "{holdings:?}");
    // It has no say in what time it is, and is asked for none.
    let nonce = [1; 16];
    assert_eq!(code(&desk.ask(link, Request::Time { nonce })), RefusalCode::NotAllowed);
    desk.pass(Period::seconds(31));
    let asked = std::mem::take(&mut desk.called);
    let is_meant =
        |request: &Request| matches!(request, Request::Time { .. } | Request::PromiseHead { .. });
    let of_guest: Vec<&Request> =
        asked.iter().filter(|(_, on, _)| *on == link).map(|(_, _, request)| request).collect();
    assert!(of_guest.contains(&&Request::Vaults) && !of_guest.iter().any(|r| is_meant(r)));
    let Response::Members(told) = desk.ask(link, Request::Members(vec![])) else { panic!() };
    assert_eq!(told.len(), 2, "the node that it asks, and itself");
    let Response::Status(status) = desk.ask(link, Request::Status) else { panic!() };
    assert!(status.members.iter().all(|member| member.node == public(guest).into()));
    // Nobody looks by its word, and it is not told of vaults that do not list it.
    let console = desk.greet(81, console_greeting_at(guest, 81, desk.now.wall)).1;
    assert_eq!(code(&console), RefusalCode::NotVouched);
    let own = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let papers = super::cast::papers(OTHER_VAULT, 1, &[NODE, NEIGHBOUR]);
    assert_eq!(desk.ask(own, Request::Introduce(papers)), Response::Done);
    let vault = public(OTHER_VAULT).into();
    assert_eq!(code(&desk.ask(link, Request::Holdings(vault))), RefusalCode::UnknownVault);
    // The device of the vault that lists it finds it; the partner's others do not.
    let told = |desk: &mut Desk, link| {
        let Response::Members(records) = desk.ask(link, Request::Members(vec![])) else { panic!() };
        let nodes = records.iter().map(|signed| signed.verify().unwrap().node);
        nodes.into_iter().any(|node| node == crate::id::NodeId::from(public(guest)))
    };
    assert!(told(&mut desk, device));
    let (theirs, _) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert!(!told(&mut desk, theirs));
    // The partner is removed: whoever holds shards of its vault still meets, and it is one of them.
    say(&mut desk, &list(2, vec![]));
    assert!(!desk.closed.contains(&link) && !desk.closed.contains(&theirs), "{:?}", desk.closed);
    let mut desk = desk.restart();
    for (operator, node) in [(other, guest), (PARTNER, ITS_NODE)] {
        let (link, answer) = desk.greet(node, node_greeting(operator, node));
        assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
        assert_eq!(code(&desk.ask(link, Request::Time { nonce })), RefusalCode::NotAllowed);
    }
}

#[test]
fn a_vaults_device_tells_its_holders_where_the_others_are() {
    let (mut desk, device) = holding(1 << 20);
    let (other, guest) = (53, 54);
    let records = vec![node_record(other, guest, 1), node_record(PARTNER, ITS_NODE, 1)];
    let _ = desk.ask(device, Request::Members(records.clone()));
    assert_eq!(desk.rows(Table::Member), 2, "the partner's node, and no stranger");
    let nodes = vec![node_certificate(OPERATOR, NODE), node_certificate(other, guest)];
    let roster = Roster { vault: public(VAULT).into(), version: 2, nodes };
    let papers = VaultPapers { roster: Signed::sign(&roster, &secret(VAULT)), ..its_papers() };
    assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
    let _ = desk.ask(device, Request::Members(records));
    desk.pass(Period::seconds(31));
    assert!(desk.dialed.contains(&public(guest).into()), "{:?}", desk.dialed);
    assert_eq!(desk.rows(Table::Member), 3);
}
