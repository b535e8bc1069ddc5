//! What a thief did with an operator's key before another one spoke, and what he can do with it afterwards: as a guardian, for vaults and for lists
//! of partners.

use super::cast::*;
use super::clock::{among_others, ask};
use super::desk::{Desk, code, decode};
use super::partners::{
    ITS_NODE, PARTNER, agreed, desk_with, give, introduced, its_device, its_papers, list, operator,
    put, say,
};
use super::succession::{
    ITS_THIEF, THIEF, certified, first, greeting, is_welcome, list_by, next, shown_by, succeeded,
    with_heirs,
};
use crate::certificate::{VaultCertificate, VaultPapers};
use crate::hold::HoldOrder;
use crate::id::{OperatorId, ReleaseId};
use crate::message::{Outcome, RefusalCode, Released, Request, Response};
use crate::notice::Notice;
use crate::peer::{Facts, HoldRow, Input, LinkId, MemoryFacts, Note, PeerConfig, Table};
use crate::policy::{Guardians, Lock};
use crate::record::Record;
use crate::release::{Approval, ReleaseRequest, Veto, release_id};
use crate::sign::Signed;
use crate::succession::{Line, Speaker};
use crate::time::{Period, Wall};

const DAY: Period = Period::days(1);

/// Who signs with an operator's stolen key after its heirs were named.
fn with_line(name: u8, line: Line) -> Speaker {
    Speaker::new(secret(name), line).unwrap()
}

/// What a thief makes of the first key where nobody knows of heirs.
fn usurper(name: u8) -> Speaker {
    with_line(THIEF, next(&Line::first(operator(name)), &[], Period(0), THIEF, &[name]))
}

fn lock() -> Lock {
    let of = vec![operator(PARTNER)];
    Lock { guardians: Some(Guardians { need: 1, of }), ..Lock::default() }
}

fn guarded_record(stripe: u8) -> Record {
    let mut record = record(VAULT, DEVICE, stripe);
    record.policy.lock = lock();
    record
}

/// A desk with a vault that has the partner for its guardian, whether or not that one is listed.
fn guarded(is_listed: bool) -> (Desk, LinkId) {
    let mut desk = desk_with(if is_listed { vec![introduced(None, &[])] } else { vec![] });
    let link = desk.device(VAULT, DEVICE);
    let mut papers = papers(VAULT, 1, &[NODE, NEIGHBOUR, THIRD]);
    let mut descriptor = papers.descriptor.verify().unwrap();
    descriptor.policy.lock = lock();
    papers.descriptor = Signed::sign(&descriptor, &secret(VAULT));
    assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
    (desk, link)
}

fn order(speaker: &Speaker, number: u64, period: Option<Period>) -> Request {
    let (vault, guardian) = (public(VAULT).into(), speaker.operator());
    Request::Hold(Signed::speak(&HoldOrder { vault, guardian, number, period }, speaker))
}

fn veto(speaker: &Speaker, release: ReleaseId) -> Request {
    let veto = Signed::speak(&Veto { guardian: speaker.operator(), release }, speaker);
    Request::Veto { vault: public(VAULT).into(), veto }
}

/// For how long the holds of the vault go on.
fn held_for(desk: &Desk) -> Vec<(OperatorId, Period)> {
    let row = desk.facts.get(Table::Holds, &public(VAULT).0).unwrap();
    let row: HoldRow = row.map(|bytes| decode(&bytes)).unwrap_or_default();
    let now = crate::lock_clock::LockTime(desk.now.wall.0 - EPOCH.0);
    row.holds.running(now).map(|(who, until)| (who, until.since(now))).collect()
}

#[test]
fn a_guardians_stolen_key_ends_no_hold_of_the_key_that_speaks() {
    // Where the guardian's line is known, and where nobody knows it but by its orders.
    for is_listed in [true, false] {
        let (mut desk, link) = guarded(is_listed);
        let (thief, speaker) = (first(PARTNER), succeeded(PARTNER, Period(0)));
        // He has used up the numbers.
        assert_eq!(desk.ask(link, order(&thief, u64::MAX, Some(Period(1)))), Response::Done);
        if is_listed {
            say(&mut desk, &list(2, vec![shown_by(&speaker, introduced(None, &[]))]));
        }
        let number = desk.now.wall.0;
        let hold = order(&speaker, number, Some(Period::days(30)));
        assert_eq!(desk.ask(link, hold), Response::Done, "{is_listed}");
        let held = [(operator(PARTNER), Period::days(30))];
        assert_eq!(held_for(&desk), held);
        for thief in [thief, with_line(PARTNER, with_heirs(PARTNER))] {
            for number in [number + 1, u64::MAX] {
                let ended = desk.ask(link, order(&thief, number, None));
                let expected =
                    if is_listed { RefusalCode::NotVouched } else { RefusalCode::NotAllowed };
                assert_eq!(code(&ended), expected);
            }
        }
        assert_eq!(held_for(&desk), held);
        // What it says itself counts in turn.
        assert_eq!(desk.ask(link, order(&speaker, number + 1, None)), Response::Done);
        assert_eq!(code(&desk.ask(link, order(&speaker, number, None))), RefusalCode::NotAllowed);
    }
}

#[test]
fn no_order_is_the_last_whatever_its_number() {
    let (mut desk, link) = guarded(true);
    let (guardian, ahead) = (first(PARTNER), desk.now.wall.after(Period::days(2)).0);
    for number in [ahead, u64::MAX] {
        let ended = desk.ask(link, order(&guardian, number, None));
        assert_eq!(code(&ended), RefusalCode::NotAllowed, "it ends nothing");
    }
    assert_eq!(desk.ask(link, order(&guardian, u64::MAX, Some(DAY))), Response::Done);
    desk.pass(Period(DAY.0 + 1));
    let number = desk.now.wall.0;
    assert_eq!(desk.ask(link, order(&guardian, number, Some(DAY))), Response::Done);
    assert_eq!(held_for(&desk), [(operator(PARTNER), DAY)]);
}

#[test]
fn a_stolen_key_uses_up_no_veto_that_a_release_needs() {
    let (mut desk, link) = guarded(true);
    let (thief, speaker) = (first(PARTNER), succeeded(PARTNER, Period(0)));
    assert!(matches!(put_guarded(&mut desk, link), Response::Receipt(_)));
    desk.pass(Period::days(90));
    desk.settle();
    let mut release = [0; 32];
    for number in 0..1024u32 {
        release[..4].copy_from_slice(&number.to_be_bytes());
        assert_eq!(desk.ask(link, veto(&thief, ReleaseId(release))), Response::Done);
    }
    release[31] = 1;
    assert_eq!(code(&desk.ask(link, veto(&thief, ReleaseId(release)))), RefusalCode::Quota);
    say(&mut desk, &list(2, vec![shown_by(&speaker, introduced(None, &[]))]));
    assert_eq!(code(&desk.ask(link, veto(&thief, ReleaseId(release)))), RefusalCode::NotVouched);
    let asked: Signed<ReleaseRequest> =
        release_request(VAULT, desk.now.wall, &[guarded_record(1).stripe.id()]);
    let approval = Approval {
        guardian: operator(PARTNER),
        release: release_id(&asked),
        expires: asked.verify().unwrap().expires,
    };
    let approvals = vec![Signed::speak(&approval, &speaker)];
    let answer = desk.ask(link, Request::Release { request: asked.clone(), approvals, from: 0 });
    let Response::Released(Released { outcomes, .. }) = answer else { panic!("{answer:?}") };
    assert!(matches!(outcomes[0].1, Outcome::Cooling { .. }), "{outcomes:?}");
    assert_eq!(desk.ask(link, veto(&speaker, release_id(&asked))), Response::Done);
    desk.pass(Period::days(30));
    desk.settle();
    assert_eq!(desk.gone, []);
}

fn certificate(speaker: &Speaker, expires: Wall) -> Signed<VaultCertificate> {
    let (vault, operator) = (public(VAULT).into(), speaker.operator());
    let certificate = VaultCertificate { vault, operator, issued: EPOCH, expires };
    Signed::speak(&certificate, speaker)
}

#[test]
fn a_certificate_with_the_farthest_date_shuts_no_owner_out() {
    let far = EPOCH.after(Period::days(99 * 365));
    let mut desk = desk_with(vec![]);
    let link = desk.device(VAULT, DEVICE);
    let nodes = [NODE, NEIGHBOUR, THIRD];
    let shown = |certificate, version| {
        Request::Introduce(VaultPapers { certificate, ..papers(VAULT, version, &nodes) })
    };
    let thief = first(OPERATOR);
    assert_eq!(desk.ask(link, shown(certificate(&thief, far), 1)), Response::Done);
    let beyond = certificate(&thief, EPOCH.after(Period::days(101 * 366)));
    assert_eq!(code(&desk.ask(link, shown(beyond, 1))), RefusalCode::NotVouched, "nobody means it");
    let speaker = succeeded(OPERATOR, Period(0));
    say(&mut desk, &list_by(&speaker, 2, vec![]));
    assert_eq!(code(&put(&mut desk, link, 1)), RefusalCode::NotVouched);
    // With a shorter date, too.
    assert_eq!(desk.ask(link, shown(certificate(&speaker, EXPIRY), 1)), Response::Done);
    assert!(matches!(put(&mut desk, link, 1), Response::Receipt(_)));
    // A device that has the thief's brings its newer roster all the same, and it puts nothing back.
    let farther = certificate(&thief, Wall(far.0 + 1));
    assert_eq!(desk.ask(link, shown(farther, 2)), Response::Done);
    assert_eq!(desk.rows(Table::Roster), 2);
    assert!(matches!(put(&mut desk, link, 2), Response::Receipt(_)));
    // The key that speaks still cannot make the vault end earlier.
    assert_eq!(desk.ask(link, shown(certificate(&speaker, Wall(EXPIRY.0 - 1)), 2)), Response::Done);
    let stored = desk.facts.get(Table::Vault, &public(VAULT).0).unwrap().unwrap();
    let stored: Signed<VaultCertificate> = decode(&stored);
    assert_eq!(stored.verify().unwrap().expires, EXPIRY);
}

#[test]
fn the_rightful_list_is_told_to_who_was_told_the_thiefs() {
    let grace = Period::days(30);
    let mut desk = desk_with(vec![]);
    let heirs = with_line(OPERATOR, with_heirs(OPERATOR));
    say(&mut desk, &list_by(&heirs, 2, vec![]));
    let own = desk.node(NEIGHBOUR);
    let told = |desk: &mut Desk| {
        desk.pass(Period::seconds(31));
        let calls = std::mem::take(&mut desk.called).into_iter();
        let mut lists = calls.filter_map(|(call, link, request)| match request {
            Request::TakePartners(list) if link == own => Some((call, *list)),
            _ => None,
        });
        let (call, list) = lists.next()?;
        let response = Some(Box::new(Response::Done));
        desk.handle(Input::Answer { call, response });
        Some(list)
    };
    assert!(told(&mut desk).is_some());
    let (link, _) = desk.greet(ITS_THIEF, greeting(&heirs, ITS_THIEF, 1));
    let his = list_by(&heirs, 100, vec![introduced(give(1), &[NODE])]);
    assert_eq!(desk.ask(link, Request::TakePartners(Box::new(his.clone()))), Response::Done);
    assert_eq!(told(&mut desk), Some(his));
    let rightful = list_by(&succeeded(OPERATOR, grace), 3, vec![]);
    say(&mut desk, &rightful);
    assert_eq!(told(&mut desk), Some(rightful));
    assert_eq!(told(&mut desk), None, "once");
}

#[test]
fn a_clock_that_is_behind_brings_no_key_back() {
    // After a theft whatever the clock says,
    let mut desk = desk_with(vec![introduced(give(1), &[NODE])]);
    let speaker = succeeded(PARTNER, Period(0));
    say(&mut desk, &list(2, vec![shown_by(&speaker, introduced(give(1), &[NODE]))]));
    desk.now.wall = Wall(EPOCH.0 - DAY.0);
    let old = greeting(&first(PARTNER), ITS_NODE, 1);
    assert_eq!(code(&desk.greet(ITS_NODE, old).1), RefusalCode::NotVouched);
    // and after a grace by what the lock clock has counted.
    let (mut desk, links) = among_others(MemoryFacts::default(), 0, at(Period(0)));
    ask(&mut desk, links, [0, 0]);
    say(&mut desk, &list_by(&succeeded(OPERATOR, Period::days(30)), 1, vec![]));
    for (days, counts) in [(29, true), (2, false)] {
        desk.pass(Period::days(days));
        desk.now.wall = EPOCH;
        let answer = desk.greet(NEIGHBOUR, node_greeting(OPERATOR, NEIGHBOUR)).1;
        assert_eq!(is_welcome(&answer), counts, "{answer:?}");
    }
}

#[test]
fn a_hosts_own_certificate_counts_before_a_list_that_came_over_the_network() {
    let mut desk = Desk::new();
    // A thief reached the node before it heard of heirs.
    let usurper = usurper(OPERATOR);
    let his = list_by(&usurper, 100, vec![introduced(give(1), &[NODE])]);
    say(&mut desk, &his);
    assert!(is_welcome(&desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1));
    let (link, answer) = desk.greet(ITS_THIEF, greeting(&usurper, ITS_THIEF, 1));
    assert!(is_welcome(&answer));
    let rightful = with_line(OPERATOR, with_heirs(OPERATOR));
    let new = certified(&rightful, NODE);
    desk.handle(Input::Certificate(Box::new(new.clone())));
    desk.settle();
    assert!(desk.closed.contains(&link));
    let told = Note::Disputed { operator: operator(OPERATOR), number: 1 };
    assert!(desk.notes.contains(&told));
    // One that was started with the certificate beside such a list is no better off.
    let mut started = Desk::new();
    say(&mut started, &his);
    for mut desk in [desk, started.restart_as(&new)] {
        for _ in 0..2 {
            assert_eq!(desk.peer.record().verify().unwrap().certificate, new);
            let his_node = greeting(&usurper, ITS_THIEF, 1);
            assert_eq!(code(&desk.greet(ITS_THIEF, his_node).1), RefusalCode::NotVouched);
            let partner = node_greeting(PARTNER, ITS_NODE);
            assert_eq!(code(&desk.greet(ITS_NODE, partner).1), RefusalCode::NotVouched);
            desk = desk.restart_as(&new);
        }
        say(&mut desk, &his);
        let list = list_by(&rightful, 1, vec![introduced(give(1), &[NODE])]);
        let (link, answer) = desk.greet(NEIGHBOUR, greeting(&rightful, NEIGHBOUR, 1));
        assert!(is_welcome(&answer));
        assert_eq!(desk.ask(link, Request::TakePartners(Box::new(list))), Response::Done);
        assert!(is_welcome(&desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).1));
    }
}

#[test]
fn nobody_disputes_a_line_that_he_made_up() {
    let mut desk = desk_with(vec![]);
    let link = desk.device(VAULT, DEVICE);
    say(&mut desk, &list_by(&with_line(OPERATOR, with_heirs(OPERATOR)), 2, vec![]));
    let request = release_request(VAULT, EPOCH, &[record(VAULT, DEVICE, 1).stripe.id()]);
    let (guardian, release) = (operator(OPERATOR), release_id(&request));
    let usurped =
        Signed::speak(&Approval { guardian, release, expires: EXPIRY }, &usurper(OPERATOR));
    let mut bytes = usurped.to_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = Signed::<Approval>::from_bytes(&bytes).unwrap();
    let disputed = Note::Disputed { operator: operator(OPERATOR), number: 1 };
    for (approval, is_told) in [(forged, false), (usurped, true)] {
        let approvals = vec![approval];
        let answer =
            desk.ask(link, Request::Release { request: request.clone(), approvals, from: 0 });
        let _ = code(&answer);
        assert_eq!(desk.notes.contains(&disputed), is_told);
    }
}

#[test]
fn an_earlier_key_gives_no_notice_of_what_was_agreed_since() {
    let known = || introduced(give(1), &[NODE]);
    let mut desk = desk_with(vec![known()]);
    let (own, _) = desk.greet(NEIGHBOUR, node_greeting(OPERATOR, NEIGHBOUR));
    let notice = |version| {
        let given = EPOCH;
        let (leaver, other) = (operator(PARTNER), operator(OPERATOR));
        let notice = Notice { leaver, other, version, given };
        Request::GiveNotice(Box::new(Signed::speak(&notice, &first(PARTNER))))
    };
    assert_eq!(desk.ask(own, notice(1)), Response::Done);
    let again = Some(agreed(2, 1, Period::days(400), Period::days(300)));
    let speaker = succeeded(PARTNER, Period(0));
    say(&mut desk, &list(2, vec![shown_by(&speaker, introduced(again, &[NODE]))]));
    assert_eq!(code(&desk.ask(own, notice(2))), RefusalCode::NotVouched);
}

#[test]
fn an_owner_who_does_not_renew_holds_what_it_has_and_no_longer() {
    let agreement = || Some(agreed(1, 1 << 20, Period::days(100), Period::days(300)));
    let mut desk = desk_with(vec![introduced(agreement(), &[NODE])]);
    let link = its_device(&mut desk);
    assert_eq!(desk.ask(link, Request::Introduce(its_papers())), Response::Done);
    assert!(matches!(put(&mut desk, link, 1), Response::Receipt(_)));
    let speaker = succeeded(PARTNER, Period(0));
    say(&mut desk, &list(2, vec![shown_by(&speaker, introduced(agreement(), &[NODE]))]));
    let stripes = vec![record(VAULT, DEVICE, 1).stripe.id()];
    let extended = |desk: &mut Desk| {
        let link = its_device(desk);
        let vault = public(VAULT).into();
        match desk.ask(link, Request::Extend { vault, stripes: stripes.clone() }) {
            Response::Extended(left) => left[0].unwrap(),
            other => panic!("{other:?}"),
        }
    };
    // Within the longest lock that was agreed it may still come.
    desk.pass(Period::days(80));
    assert_eq!(extended(&mut desk), Period::days(90));
    desk.pass(Period::days(21));
    assert_eq!(extended(&mut desk), Period::days(69));
    // With the new word all goes on.
    let link = its_device(&mut desk);
    let papers = VaultPapers { certificate: certificate(&speaker, EXPIRY), ..its_papers() };
    assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
    assert_eq!(extended(&mut desk), Period::days(90));
}

/// Nothing of the vault's own operator is affected: of the own vaults nobody pays for another one.
#[test]
fn own_vaults_are_extended_whoever_spoke_for_them() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    assert!(matches!(put(&mut desk, link, 1), Response::Receipt(_)));
    say(&mut desk, &list_by(&succeeded(OPERATOR, Period(0)), 1, vec![]));
    desk.pass(Period::days(200));
    let link = desk.device(VAULT, DEVICE);
    let stripes = vec![record(VAULT, DEVICE, 1).stripe.id()];
    let answer = desk.ask(link, Request::Extend { vault: public(VAULT).into(), stripes });
    assert_eq!(answer, Response::Extended(vec![Some(Period::days(90))]));
}

#[test]
fn a_guardian_who_is_no_partner_ends_its_stolen_key_by_an_order() {
    let (mut desk, link) = guarded(false);
    let (thief, speaker) = (first(PARTNER), succeeded(PARTNER, Period(0)));
    assert!(matches!(put_guarded(&mut desk, link), Response::Receipt(_)));
    desk.pass(Period::days(90));
    desk.settle();
    let number = desk.now.wall.0;
    assert_eq!(desk.ask(link, order(&speaker, number, Some(Period(1)))), Response::Done);
    desk.pass(Period(2));
    let asked = release_request(VAULT, desk.now.wall, &[guarded_record(1).stripe.id()]);
    let approval = Approval {
        guardian: operator(PARTNER),
        release: release_id(&asked),
        expires: asked.verify().unwrap().expires,
    };
    let mut release = |speaker: &Speaker| {
        let approvals = vec![Signed::speak(&approval, speaker)];
        desk.ask(link, Request::Release { request: asked.clone(), approvals, from: 0 })
    };
    assert_eq!(code(&release(&thief)), RefusalCode::NotVouched);
    assert!(matches!(release(&speaker), Response::Released(_)));
}

fn put_guarded(desk: &mut Desk, link: LinkId) -> Response {
    desk.put(link, &guarded_record(1), 0, &shard_bytes(1, 0))
}
