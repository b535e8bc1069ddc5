//! Whose key speaks for an operator: what an earlier key may not do any more, and what goes on as it was.

use super::cast::*;
use super::desk::code;
use super::partners::{
    ITS_NODE, PARTNER, desk_with, give, holding, introduced, its_papers, list, operator, put, say,
};
use crate::certificate::{Authority, NodeCertificate, NodeRecord, VaultCertificate, VaultPapers};
use crate::message::{Greeting, RefusalCode, Request, Response};
use crate::partner::{Partner, PartnerList};
use crate::peer::{Input, Note};
use crate::release::{Approval, release_id};
use crate::sign::{SecretKey, Signed};
use crate::succession::{Change, Draft, Heirs, Line, Speaker};
use crate::time::{Period, Wall};

const NEW: u8 = 70;
const HEIRS: [u8; 3] = [71, 72, 73];
pub(super) const THIEF: u8 = 75;
pub(super) const ITS_THIEF: u8 = 76;

/// Goes on from a line: `key` speaks, and these have signed.
pub(super) fn next(line: &Line, heirs: &[u8], grace: Period, key: u8, signed: &[u8]) -> Line {
    let need = u8::from(!heirs.is_empty()) * 2;
    let heirs = Heirs::new(need, heirs.iter().map(|&heir| public(heir))).unwrap();
    let change = Change { heirs, issued: EPOCH, grace };
    let mut draft = Draft::new(line.clone(), change, &secret(key)).unwrap();
    for &name in signed {
        draft.sign(&secret(name)).unwrap();
    }
    draft.finish().unwrap()
}

/// An operator that named two of three as heirs,
pub(super) fn with_heirs(name: u8) -> Line {
    next(&Line::first(operator(name)), &HEIRS, Period(0), name, &[name])
}

/// and whose key these have replaced since.
pub(super) fn succeeded(name: u8, grace: Period) -> Speaker {
    let line = next(&with_heirs(name), &HEIRS, grace, NEW, &[71, 73]);
    Speaker::new(secret(NEW), line).unwrap()
}

pub(super) fn first(name: u8) -> Speaker {
    Speaker::first(secret(name))
}

pub(super) fn certified(speaker: &Speaker, node: u8) -> Signed<NodeCertificate> {
    let plain = node_certificate(THIEF, node).verify().unwrap();
    Signed::speak(&NodeCertificate { operator: speaker.operator(), ..plain }, speaker)
}

pub(super) fn greeting(speaker: &Speaker, node: u8, version: u64) -> Greeting {
    let record = NodeRecord {
        node: public(node).into(),
        certificate: certified(speaker, node),
        addresses: vec![format!("/memory/{node}")],
        version,
    };
    Greeting::Node(Signed::sign(&record, &secret(node)))
}

/// The partner with the line that its people showed.
pub(super) fn shown_by(speaker: &Speaker, known: Partner) -> Partner {
    let introduction = known.introduction.verify().unwrap();
    Partner { introduction: Signed::speak(&introduction, speaker), ..known }
}

pub(super) fn list_by(
    speaker: &Speaker,
    version: u64,
    partners: Vec<Partner>,
) -> Signed<PartnerList> {
    let list = PartnerList { operator: speaker.operator(), version, partners };
    Signed::speak(&list, speaker)
}

pub(super) fn is_welcome(response: &Response) -> bool {
    matches!(response, Response::Welcome { .. })
}

#[test]
fn an_earlier_key_ends_with_its_grace_and_the_nodes_with_it() {
    let grace = Period::days(30);
    let partner = || introduced(give(1 << 20), &[NODE]);
    let mut desk = desk_with(vec![partner()]);
    let old = greeting(&first(PARTNER), ITS_NODE, 1);
    assert!(is_welcome(&desk.greet(ITS_NODE, old.clone()).1));
    let speaker = succeeded(PARTNER, grace);
    say(&mut desk, &list(2, vec![shown_by(&speaker, partner())]));
    let told = Note::Succeeded { operator: operator(PARTNER), number: 2 };
    assert_eq!(desk.notes.iter().filter(|note| **note == told).count(), 1);
    // In the grace both count.
    assert!(is_welcome(&desk.greet(ITS_NODE, old).1));
    let other = greeting(&first(PARTNER), ITS_NODE + 1, 1);
    assert!(is_welcome(&desk.greet(ITS_NODE + 1, other.clone()).1));
    assert!(is_welcome(&desk.greet(ITS_NODE, greeting(&speaker, ITS_NODE, 2)).1));
    // Then who has not renewed is a stranger, and may come back with a new one.
    desk.pass(grace);
    desk.settle();
    assert_eq!(code(&desk.greet(ITS_NODE + 1, other).1), RefusalCode::NotVouched);
    assert!(is_welcome(&desk.greet(ITS_NODE, greeting(&speaker, ITS_NODE, 2)).1));
    assert!(is_welcome(&desk.greet(ITS_NODE + 1, greeting(&speaker, ITS_NODE + 1, 2)).1));
}

#[test]
fn a_thief_of_the_own_key_is_shut_out_by_the_heirs_whatever_number_he_used() {
    let mut desk = desk_with(vec![]);
    say(
        &mut desk,
        &list_by(&Speaker::new(secret(OPERATOR), with_heirs(OPERATOR)).unwrap(), 2, vec![]),
    );
    // He has a node certified and says who the partners are.
    let his = greeting(&first(OPERATOR), ITS_THIEF, 1);
    let (link, response) = desk.greet(ITS_THIEF, his.clone());
    assert!(is_welcome(&response));
    // He cannot succeed himself, nor name other heirs.
    let stolen = next(&Line::first(operator(OPERATOR)), &[], Period(0), THIEF, &[OPERATOR]);
    let usurper = Speaker::new(secret(THIEF), stolen).unwrap();
    let list_of_his = list_by(&usurper, 100, vec![introduced(give(1), &[NODE])]);
    let answer = desk.ask(link, Request::TakePartners(Box::new(list_of_his)));
    assert_eq!(code(&answer), RefusalCode::NotVouched);
    assert_eq!(
        code(&desk.greet(ITS_THIEF + 1, greeting(&usurper, ITS_THIEF + 1, 1)).1),
        RefusalCode::NotVouched
    );
    let told = Note::Disputed { operator: operator(OPERATOR), number: 1 };
    assert_eq!(desk.notes.iter().filter(|note| **note == told).count(), 1, "once");
    // The heirs name a key: its list counts, of whatever version, and the thief's node is out, also after a restart.
    let speaker = succeeded(OPERATOR, Period(0));
    say(&mut desk, &list_by(&speaker, 1, vec![introduced(give(1), &[NODE])]));
    assert!(desk.closed.contains(&link));
    for _ in 0..2 {
        assert_eq!(code(&desk.greet(ITS_THIEF, his.clone()).1), RefusalCode::NotVouched);
        let invited = join(invitation(OPERATOR, NODE, &[]), STRANGER, &[]);
        assert_eq!(code(&desk.greet(STRANGER, invited).1), RefusalCode::Ticket);
        let late = list(1000, vec![]);
        desk.handle(Input::Partners(Box::new(late)));
        desk.settle();
        assert!(is_welcome(&desk.greet(ITS_NODE, greeting(&first(PARTNER), ITS_NODE, 1)).1));
        assert!(is_welcome(&desk.greet(NEIGHBOUR, greeting(&speaker, NEIGHBOUR, 1)).1));
        desk = desk.restart();
    }
}

#[test]
fn a_node_takes_its_new_certificate_while_it_runs() {
    let mut desk = desk_with(vec![]);
    let before = desk.peer.record().verify().unwrap();
    let speaker = succeeded(OPERATOR, Period(0));
    let wrong = certified(&speaker, NEIGHBOUR);
    desk.handle(Input::Certificate(Box::new(wrong)));
    assert_eq!(desk.peer.record().verify().unwrap(), before);
    let new = certified(&speaker, NODE);
    for _ in 0..2 {
        desk.handle(Input::Certificate(Box::new(new.clone())));
        desk.settle();
    }
    let record = desk.peer.record().verify().unwrap();
    assert_eq!(record.certificate, new);
    assert_eq!(record.version, before.version + 1, "taken once");
    // It shows that another key speaks.
    assert_eq!(
        code(&desk.greet(NEIGHBOUR, node_greeting(OPERATOR, NEIGHBOUR)).1),
        RefusalCode::NotVouched
    );
    assert!(is_welcome(&desk.greet(NEIGHBOUR, greeting(&speaker, NEIGHBOUR, 1)).1));
    // The one before does not come back.
    desk.handle(Input::Certificate(Box::new(node_certificate(OPERATOR, NODE))));
    assert_eq!(desk.peer.record().verify().unwrap().certificate, new);
}

#[test]
fn what_is_held_and_agreed_stays_and_the_new_key_renews_it() {
    let (mut desk, link) = holding(1 << 20);
    assert!(matches!(put(&mut desk, link, 1), Response::Receipt(_)));
    let held = desk.usage(VAULT);
    let speaker = succeeded(PARTNER, Period(0));
    let known = introduced(give(1 << 20), &[NODE]);
    say(&mut desk, &list(2, vec![shown_by(&speaker, known)]));
    assert_eq!(desk.usage(VAULT), held);
    // By the old word the vault is read, and takes nothing new; nor does another vault come in by it.
    let (link, response) = desk.greet(DEVICE, device_greeting(PARTNER, VAULT, DEVICE));
    assert!(is_welcome(&response));
    assert_eq!(code(&put(&mut desk, link, 2)), RefusalCode::NotVouched);
    let get = Request::Get { shard: shard_id(&shard_bytes(1, 0)), offset: 0, len: SHARD_LEN };
    assert!(matches!(desk.ask(link, get), Response::Bytes { .. }));
    let other = device_greeting(PARTNER, OTHER_VAULT, OTHER_DEVICE);
    assert_eq!(code(&desk.greet(OTHER_DEVICE, other).1), RefusalCode::NotVouched);
    // The agreement that the old key signed counts still: with the vault's word renewed all goes on.
    let certificate = VaultCertificate {
        vault: public(VAULT).into(),
        operator: operator(PARTNER),
        issued: EPOCH,
        expires: Wall(EXPIRY.0 + 1),
    };
    let certificate = Signed::speak(&certificate, &speaker);
    let papers = VaultPapers { certificate, ..its_papers() };
    assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
    assert!(matches!(put(&mut desk, link, 2), Response::Receipt(_)));
    assert_eq!(desk.usage(VAULT).shards, held.shards + 1);
}

#[test]
fn a_guardian_agrees_by_the_key_that_speaks_for_it() {
    let mut desk = desk_with(vec![introduced(give(1 << 20), &[NODE])]);
    let speaker = succeeded(PARTNER, Period(0));
    say(&mut desk, &list(2, vec![shown_by(&speaker, introduced(give(1 << 20), &[NODE]))]));
    let (link, _) = desk.greet(NEIGHBOUR, node_greeting(OPERATOR, NEIGHBOUR));
    let request = release_request(VAULT, EPOCH, &[record(VAULT, DEVICE, 1).stripe.id()]);
    let approved = |key: &dyn Fn(&Approval) -> Signed<Approval>| {
        let verified = request.verify().unwrap();
        let (guardian, release) = (operator(PARTNER), release_id(&request));
        key(&Approval { guardian, release, expires: verified.expires })
    };
    let old = approved(&|approval| Signed::sign(approval, &SecretKey::from_seed(&[PARTNER; 32])));
    let new = approved(&|approval| Signed::speak(approval, &speaker));
    let release = |approvals| Request::Release { request: request.clone(), approvals, from: 0 };
    assert_eq!(code(&desk.ask(link, release(vec![old]))), RefusalCode::NotVouched);
    let answer = desk.ask(link, release(vec![new]));
    assert!(
        !matches!(&answer, Response::Refused(refusal) if refusal.code == RefusalCode::NotVouched),
        "{answer:?}"
    );
}

/// Certificates by an invitation go by the line under which the invitation was made.
#[test]
fn who_was_admitted_by_an_earlier_keys_invitation_goes_with_it() {
    let mut desk = desk_with(vec![]);
    let admitted = Greeting::Node(admitted_record(NEIGHBOUR));
    assert!(is_welcome(&desk.greet(NEIGHBOUR, admitted.clone()).1));
    say(&mut desk, &list_by(&succeeded(OPERATOR, Period(0)), 2, vec![]));
    assert_eq!(code(&desk.greet(NEIGHBOUR, admitted).1), RefusalCode::NotVouched);
    let signed = admitted_record(NEIGHBOUR).verify().unwrap().certificate;
    assert!(matches!(signed.verify().unwrap().authority, Authority::Bearer { .. }));
}
