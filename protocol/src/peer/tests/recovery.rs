//! Recovery cards: the first one stays, a stranger gets what was sealed to the recipient that he knows, and nothing else.

use super::cast::*;
use super::desk::{Desk, code};
use crate::message::{Greeting, RefusalCode, Request, Response};
use crate::peer::{LinkId, Note, PeerConfig, Table};
use crate::recovery::{
    ANSWER_LEN_MAX, RecoveryCard, RecoveryTag, SEALED_LEN_MAX, TAGS_PER_VAULT_MAX,
    VAULTS_PER_TAG_MAX,
};
use crate::sign::Signed;
use proptest::prelude::*;

const OWNER: &str = "age1owner";
const HEIR: &str = "age1heir";

/// What a stranger gets for a recipient, and that the connection ends with it.
fn ask(desk: &mut Desk, recipient: &str) -> Vec<Vec<u8>> {
    let link = desk.connect(public(STRANGER), false);
    let lane = desk.send_greeting(link, Greeting::Recover { tag: RecoveryTag::of(recipient) });
    let Some((Response::Recovery { sealed }, true)) = desk.reply(lane) else { panic!() };
    sealed.into_iter().map(|blob| blob.0).collect()
}

fn sealed(names: &[u8]) -> Vec<Vec<u8>> {
    names.iter().map(|&name| vec![name; 100]).collect()
}

/// A further vault, introduced here.
fn vault(desk: &mut Desk, vault: u8) -> LinkId {
    let link = desk.device(vault, DEVICE);
    assert_eq!(desk.ask(link, Request::Introduce(papers(vault, 1, &[NODE]))), Response::Done);
    link
}

#[test]
fn who_knows_the_recipient_gets_the_card_and_nobody_else_gets_anything() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    assert_eq!(desk.ask(link, Request::Card(card(VAULT, 1, &[OWNER, HEIR], 1))), Response::Done);
    for recipient in [OWNER, HEIR, " AGE1OWNER "] {
        assert_eq!(ask(&mut desk, recipient), sealed(&[1]));
    }
    let notes = |desk: &Desk| {
        desk.notes.iter().filter(|note| matches!(note, Note::Recovering { .. })).count()
    };
    assert_eq!(notes(&desk), 3);
    for recipient in ["age1other", ""] {
        assert!(ask(&mut desk, recipient).is_empty());
    }
    assert_eq!(notes(&desk), 3);
    // It is counted like any other stranger that gets nothing.
    let Some(Note::Refused { refusal, .. }) = desk.notes.last() else { panic!() };
    assert_eq!(refusal.code, RefusalCode::NotVouched);
    // A vault's id is no tag, although it is the key of a row.
    let link = desk.connect(public(STRANGER), false);
    let tag = RecoveryTag(public(VAULT).0);
    let lane = desk.send_greeting(link, Greeting::Recover { tag });
    assert_eq!(desk.reply(lane), Some((Response::Recovery { sealed: Vec::new() }, true)));
}

#[test]
fn a_stranger_is_not_vouched_for_by_having_asked() {
    let (mut desk, device) = Desk::with_vault(PeerConfig::default());
    assert_eq!(desk.ask(device, Request::Card(card(VAULT, 1, &[OWNER], 1))), Response::Done);
    let link = desk.connect(public(STRANGER), false);
    let _ = desk.send_greeting(link, Greeting::Recover { tag: RecoveryTag::of(OWNER) });
    let lane = desk.send(link, Request::Vault(public(VAULT).into()));
    assert_eq!(desk.reply(lane), None);
    assert!(desk.closed.contains(&link));
}

#[test]
fn a_stolen_vault_key_replaces_no_first_card() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    assert_eq!(desk.ask(link, Request::Card(card(VAULT, 1, &[OWNER], 1))), Response::Done);
    for (version, name, given, is_kept) in [
        (2, 2, sealed(&[1, 2]), true),
        // An older one is not kept, and whoever brings it is told so.
        (1, 9, sealed(&[1, 2]), false),
        (1, 1, sealed(&[1, 2]), true),
        (u64::MAX, 3, sealed(&[1, 3]), true),
        (u64::MAX, 4, sealed(&[1, 3]), false),
    ] {
        let answer = desk.ask(link, Request::Card(card(VAULT, version, &[OWNER], name)));
        if is_kept {
            assert_eq!(answer, Response::Done);
        } else {
            assert_eq!(code(&answer), RefusalCode::NotAllowed);
        }
        assert_eq!(ask(&mut desk, OWNER), given);
    }
    // One for somebody else takes nothing away either.
    let other = card(VAULT, u64::MAX, &["age1thief"], 5);
    assert_eq!(desk.ask(link, Request::Card(other)), Response::Done);
    assert_eq!(ask(&mut desk, OWNER)[0], vec![1; 100]);
    assert_eq!(ask(&mut desk, "age1thief"), sealed(&[5]));
    let mut desk = desk.restart();
    assert_eq!(ask(&mut desk, OWNER)[0], vec![1; 100]);
}

#[test]
fn a_vault_has_no_more_tags_and_bytes_than_are_kept() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    assert_eq!(desk.ask(link, Request::Card(card(VAULT, 1, &[OWNER], 1))), Response::Done);
    let mut refused = None;
    for version in 2..200 {
        let name = format!("age1{version}");
        let answer = desk.ask(link, Request::Card(card(VAULT, version, &[&name], 2)));
        if answer != Response::Done {
            refused = Some((version, code(&answer)));
            break;
        }
    }
    assert_eq!(refused, Some((1 + TAGS_PER_VAULT_MAX as u64, RefusalCode::Quota)));
    assert_eq!(ask(&mut desk, OWNER), sealed(&[1]));

    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let long = |version: u64| {
        let recipients = [format!("age1{version}")];
        let card =
            RecoveryCard::new(public(VAULT).into(), version, &recipients, vec![0; SEALED_LEN_MAX]);
        Request::Card(Signed::sign(&card, &secret(VAULT)))
    };
    let answers: Vec<Response> = (1..20).map(|version| desk.ask(link, long(version))).collect();
    let taken = answers.iter().filter(|answer| **answer == Response::Done).count();
    assert_eq!(taken, 6);
    assert_eq!(code(&answers[taken]), RefusalCode::Quota);
}

#[test]
fn other_vaults_of_a_recipient_crowd_nobody_out() {
    let mut desk = Desk::new();
    let first = vault(&mut desk, 100);
    assert_eq!(desk.ask(first, Request::Card(card(100, 1, &[OWNER], 1))), Response::Done);
    // Whoever has the operator's key makes vaults for the same recipient, as many and as large as will do.
    let mut refused = 0;
    for name in 101..101 + VAULTS_PER_TAG_MAX as u8 {
        let link = vault(&mut desk, name);
        let id = public(name).into();
        let large = RecoveryCard::new(id, 1, &[OWNER.into()], vec![name; SEALED_LEN_MAX]);
        let answer = desk.ask(link, Request::Card(Signed::sign(&large, &secret(name))));
        if answer == Response::Done {
            // And their cards grow: nothing is left for the newest of others, and all firsts still fit.
            let large = RecoveryCard::new(id, 2, &[OWNER.into()], vec![0; SEALED_LEN_MAX]);
            assert_eq!(
                desk.ask(link, Request::Card(Signed::sign(&large, &secret(name)))),
                Response::Done
            );
        } else {
            assert_eq!(code(&answer), RefusalCode::Quota);
            refused += 1;
        }
    }
    assert!(refused > 0);
    let given = ask(&mut desk, OWNER);
    assert_eq!(given[0], vec![1; 100]);
    assert!(given.iter().map(Vec::len).sum::<usize>() <= ANSWER_LEN_MAX);
    let firsts = given.iter().filter(|card| card[0] != 0).count();
    assert_eq!(firsts, 1 + VAULTS_PER_TAG_MAX - refused);
}

#[test]
fn only_a_device_of_an_introduced_vault_brings_its_card() {
    let (mut desk, _) = Desk::with_vault(PeerConfig::default());
    let brought = card(VAULT, 1, &[OWNER], 1);
    let (node, other) = (desk.node(NEIGHBOUR), desk.device(OTHER_VAULT, OTHER_DEVICE));
    for link in [node, other] {
        let answer = desk.ask(link, Request::Card(brought.clone()));
        assert_eq!(code(&answer), RefusalCode::NotAllowed);
    }
    let own = desk.ask(other, Request::Card(card(OTHER_VAULT, 1, &[OWNER], 1)));
    assert_eq!(code(&own), RefusalCode::UnknownVault);
    assert_eq!(desk.rows(Table::Recovery), 0);
}

#[test]
fn a_card_is_not_done_before_it_is_durable() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let first = desk.send(link, Request::Card(card(VAULT, 1, &[OWNER], 1)));
    let again = desk.send(link, Request::Card(card(VAULT, 1, &[OWNER], 1)));
    assert_eq!(desk.reply(first), None);
    assert!(matches!(desk.reply(again), Some((Response::Busy { .. }, false))));
    assert!(ask(&mut desk, OWNER).is_empty());
    assert!(desk.fail_one());
    assert_eq!(code(&desk.reply(first).unwrap().0), RefusalCode::Internal);
    assert_eq!(desk.rows(Table::Recovery), 0);
}

/// A card of one of two vaults, for some of three recipients; whether it becomes durable, and whether the node starts again
/// then.
type Step = (bool, u64, u8, u8, bool, bool);

const RECIPIENTS: [&str; 3] = [OWNER, HEIR, "age1third"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        any::<bool>(),
        0u64..5,
        1u8..8,
        any::<u8>(),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_was_given_first_is_given_first_for_ever(steps in steps()) {
        let mut desk = Desk::new();
        for name in [VAULT, OTHER_VAULT] {
            let _ = vault(&mut desk, name);
        }
        // By recipient: what was sealed in the first card of each vault, in the order in which they came.
        let mut firsts: [Vec<(bool, u8)>; 3] = Default::default();
        for (other, version, some, name, is_durable, restarts) in steps {
            let (vault, device) = (if other { OTHER_VAULT } else { VAULT }, DEVICE);
            let chosen: Vec<usize> = (0..3).filter(|i| some >> i & 1 == 1).collect();
            let recipients: Vec<&str> = chosen.iter().map(|&i| RECIPIENTS[i]).collect();
            let link = desk.device(vault, device);
            let lane = desk.send(link, Request::Card(card(vault, version, &recipients, name)));
            if is_durable { desk.settle() } else { while desk.fail_one() {} }
            let (answer, _) = desk.reply(lane).expect("an answer");
            if answer == Response::Done {
                for i in chosen {
                    if !firsts[i].iter().any(|(known, _)| *known == other) {
                        firsts[i].push((other, name));
                    }
                }
            }
            if restarts {
                desk = desk.restart();
            }
            for (recipient, firsts) in RECIPIENTS.iter().zip(&firsts) {
                let given = ask(&mut desk, recipient);
                let expected: Vec<u8> = firsts.iter().map(|(_, name)| *name).collect();
                prop_assert_eq!(&given[..expected.len()], &sealed(&expected)[..]);
                prop_assert!(given.len() <= 2 * expected.len());
            }
        }
    }
}
