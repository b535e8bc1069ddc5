//! Audits: whoever may read a vault may ask, what is asked is chance, and the answer is signed.

use super::cast::*;
use super::desk::{Desk, code};
use crate::audit::{
    AuditOpening, AuditQuestion, AuditTurn, TURN_LIFE, Transcript, Verdict, commitment,
};
use crate::id::ShardId;
use crate::message::{RefusalCode, Request, Response};
use crate::peer::{Input, LinkId, PeerConfig};
use crate::record::Receipt;
use crate::sign::Signed;
use crate::time::Period;

const NONCE: [u8; 32] = [5; 32];

fn opening(auditor: u8, shards: &[ShardId]) -> AuditOpening {
    let commitment = commitment(public(auditor), &NONCE);
    AuditOpening { vault: public(VAULT).into(), shards: shards.to_vec(), commitment }
}

/// Both halves of opening an audit: the question to put.
fn question(desk: &mut Desk, link: LinkId, auditor: u8, shards: &[ShardId]) -> AuditQuestion {
    let opening = opening(auditor, shards);
    let response = desk.ask(link, Request::AuditOpen(opening.clone()));
    let Response::AuditTurn(turn) = response else { panic!("{response:?}") };
    AuditQuestion { opening, turn, nonce: NONCE }
}

/// A desk that holds the first shard of stripe 1, its receipt, and the device's link.
fn holding() -> (Desk, LinkId, ShardId, Signed<Receipt>) {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let record = record(VAULT, DEVICE, 1);
    let response = desk.put(link, &record, 0, &shard_bytes(1, 0));
    let Response::Receipt(receipt) = response else { panic!("{response:?}") };
    (desk, link, record.stripe.shards[0], receipt)
}

fn bytes(_: ShardId) -> Option<Vec<u8>> {
    Some(shard_bytes(1, 0))
}

#[test]
fn a_holder_proves_what_it_has_as_often_as_the_question_is_asked() {
    let (mut desk, link, shard, receipt) = holding();
    let question = question(&mut desk, link, DEVICE, &[shard]);
    for has in [true, true, false] {
        let lane = desk.send(link, Request::Audit(Box::new(question.clone())));
        assert_eq!(desk.reply(lane), None);
        assert!(desk.prove_one(|shard| bytes(shard).filter(|_| has)));
        let Some((Response::Audited { answer, proofs }, false)) = desk.reply(lane) else {
            panic!()
        };
        let receipts = vec![receipt.clone()];
        let transcript = Transcript { question: question.clone(), answer, proofs, receipts };
        let judged = transcript.judge().unwrap();
        assert_eq!(judged.holder, public(NODE).into());
        let expected = if has { Verdict::Proved } else { Verdict::Missing };
        assert_eq!(judged.found[0].verdict, expected);
    }
}

#[test]
fn what_is_not_held_is_said_to_be_missing() {
    let (mut desk, link, shard, _) = holding();
    let shards = [ShardId([9; 32]), shard];
    let question = question(&mut desk, link, DEVICE, &shards);
    let lane = desk.send(link, Request::Audit(Box::new(question)));
    assert!(desk.prove_one(bytes));
    let Some((Response::Audited { answer, proofs }, _)) = desk.reply(lane) else { panic!() };
    let answer = answer.verify().unwrap();
    assert_eq!((answer.proofs[0], answer.proofs[1].is_some(), proofs.len()), (None, true, 1));
}

#[test]
fn a_node_of_the_roster_audits_and_nobody_else_is_answered() {
    let (mut desk, _, shard, _) = holding();
    let neighbour = desk.node(NEIGHBOUR);
    let question = question(&mut desk, neighbour, NEIGHBOUR, &[shard]);
    let lane = desk.send(neighbour, Request::Audit(Box::new(question.clone())));
    assert!(desk.prove_one(bytes) && desk.reply(lane).is_some());

    let stranger = desk.node(STRANGER);
    let refused = desk.ask(stranger, Request::AuditOpen(opening(STRANGER, &[shard])));
    assert_eq!(code(&refused), RefusalCode::UnknownVault);
    let refused = desk.ask(stranger, Request::Audit(Box::new(question.clone())));
    assert_eq!(code(&refused), RefusalCode::UnknownVault);
    let other = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let refused = desk.ask(other, Request::Audit(Box::new(question.clone())));
    assert_eq!(code(&refused), RefusalCode::UnknownVault);
    // Another auditor of the same vault has a question of its own.
    let third = desk.node(THIRD);
    let refused = desk.ask(third, Request::Audit(Box::new(question)));
    assert_eq!(code(&refused), RefusalCode::Malformed);
    assert!(desk.proving.is_empty());
}

#[test]
fn a_question_of_another_time_or_with_a_turn_of_somebody_else_is_refused() {
    let (mut desk, link, shard, _) = holding();
    let good = question(&mut desk, link, DEVICE, &[shard]);
    let forged = AuditTurn {
        holder: public(THIRD).into(),
        auditor: public(DEVICE),
        opening: good.opening.digest(),
        nonce: [0; 32],
        drawn: desk.now.wall,
    };
    let forged = AuditQuestion { turn: Signed::sign(&forged, &secret(THIRD)), ..good.clone() };
    let refused = desk.ask(link, Request::Audit(Box::new(forged)));
    assert_eq!(code(&refused), RefusalCode::Malformed);
    desk.pass(Period(TURN_LIFE.0 + 1));
    let refused = desk.ask(link, Request::Audit(Box::new(good)));
    assert_eq!(code(&refused), RefusalCode::Malformed);
}

#[test]
fn audits_beyond_what_the_disk_bears_come_later_and_streams_that_end_make_room() {
    let (mut desk, link, shard, _) = holding();
    let question = question(&mut desk, link, DEVICE, &[shard]);
    let ask = || Request::Audit(Box::new(question.clone()));
    let lanes: Vec<_> = (0..4).map(|_| desk.send(link, ask())).collect();
    assert!(matches!(desk.ask(link, ask()), Response::Busy { .. }));
    let refusal = crate::message::Refusal { code: RefusalCode::Internal, text: String::new() };
    desk.handle(Input::ReceiveFailed { lane: lanes[0], refusal });
    assert_eq!(desk.peer.auditing.len(), 3);
    // What was read for nobody is forgotten.
    assert!(desk.prove_one(bytes));
    assert_eq!(desk.reply(lanes[0]), None);
    let lane = desk.send(link, ask());
    assert_eq!(desk.reply(lane), None);
    while desk.prove_one(bytes) {}
    assert!(lanes[1..].iter().chain([&lane]).all(|&lane| desk.reply(lane).is_some()));
    assert!(desk.peer.auditing.is_empty());
}
