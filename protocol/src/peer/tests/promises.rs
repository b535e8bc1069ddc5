//! A node that was set back to an older disk is found out by whoever knew it before, drops nothing, and says so; and nobody who
//! only crashed is accused.

use super::cast::*;
use super::desk::{Desk, code};
use super::meeting::meet;
use crate::lock_clock::BootId;
use crate::message::{Promised, RefusalCode, Request, Response};
use crate::peer::{LinkId, MemoryFacts, Note, PeerConfig, Table, thawed_promises};
use crate::release::ReleaseRequest;
use crate::sign::Signed;
use crate::time::{Now, Period};
use proptest::prelude::*;

fn run(node: u8, facts: MemoryFacts, run: u8, now: Now) -> Desk {
    let config = PeerConfig { boot: BootId([run; 16]), ..PeerConfig::default() };
    Desk::of(node, facts, config, now)
}

/// A holder with the vault introduced.
fn holder() -> Desk {
    let mut desk = run(NODE, MemoryFacts::default(), 0, at(Period(0)));
    let link = desk.device(VAULT, DEVICE);
    let papers = papers(VAULT, 1, &[NODE, NEIGHBOUR, THIRD]);
    assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
    desk
}

fn witness(node: u8) -> Desk {
    run(node, MemoryFacts::default(), 0, at(Period(0)))
}

fn keep(desk: &mut Desk, stripe: u8) {
    let link = desk.device(VAULT, DEVICE);
    let kept = desk.put(link, &record(VAULT, DEVICE, stripe), 0, &shard_bytes(stripe, 0));
    assert!(matches!(kept, Response::Receipt(_)), "{kept:?}");
}

fn promised(desk: &mut Desk) -> Promised {
    let link = desk.node(FIFTH);
    match desk.ask(link, Request::Promised) {
        Response::Promised(promised) => *promised,
        other => panic!("{other:?}"),
    }
}

const FIFTH: u8 = 6;

fn doubt(desk: &mut Desk) -> Option<String> {
    let link = desk.node(FIFTH);
    match desk.ask(link, Request::Status) {
        Response::Status(status) => status.doubt,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_write_that_promises_adds_a_link_and_only_what_is_durable_is_told() {
    let mut desk = holder();
    assert_eq!(promised(&mut desk).head.seq, 0);
    let (link, asker) = (desk.device(VAULT, DEVICE), desk.node(NEIGHBOUR));
    let lane = desk.send_put(link, &record(VAULT, DEVICE, 1), 0);
    desk.arrive(lane, &shard_bytes(1, 0));
    let asked = Request::PromiseHead { nonce: [1; 16], known: None, witness: None };
    let lane = desk.send(asker, asked.clone());
    let (Response::PromiseHead(said), _) = desk.reply(lane).unwrap() else { panic!() };
    assert_eq!(said.verify().unwrap().head.seq, 0, "the disk may still fail");
    desk.settle();
    let (first, Response::PromiseHead(said)) = (promised(&mut desk).head, desk.ask(asker, asked))
    else {
        panic!()
    };
    let said = said.verify().unwrap();
    assert_eq!((said.head, said.began.seq, said.head.seq), (first, 0, 1));
    assert_eq!((said.asker, said.nonce), (public(NEIGHBOUR).into(), [1; 16]));
    // A day later the lock is longer: another link.
    desk.pass(Period::days(1));
    let stripes = vec![record(VAULT, DEVICE, 1).stripe.id()];
    let vault = public(VAULT).into();
    desk.ask(link, Request::Extend { vault, stripes: stripes.clone() });
    assert_eq!(promised(&mut desk).head.seq, 2);
    desk.ask(link, Request::Extend { vault, stripes });
    assert_eq!(promised(&mut desk).head.seq, 2, "nothing new was promised");
    let device = desk.device(VAULT, SECOND_DEVICE);
    let asked = Request::PromiseHead { nonce: [1; 16], known: None, witness: None };
    assert_eq!(code(&desk.ask(device, asked)), RefusalCode::NotAllowed);
}

fn release(desk: &mut Desk, link: LinkId, stripe: u8) {
    let request: Signed<ReleaseRequest> =
        release_request(VAULT, desk.now.wall, &[record(VAULT, DEVICE, stripe).stripe.id()]);
    let asked = Request::Release { request, approvals: vec![], from: 0 };
    assert!(matches!(desk.ask(link, asked), Response::Released(_)));
}

#[test]
fn a_node_that_was_set_back_drops_nothing_says_so_and_goes_on_when_its_operator_says_so() {
    let (mut desk, mut neighbour) = (holder(), witness(NEIGHBOUR));
    keep(&mut desk, 1);
    meet(&mut neighbour, &mut desk);
    meet(&mut neighbour, &mut desk);
    assert_eq!(promised(&mut desk).witnesses.len(), 1);
    // Its lock is over, it is about to go; then the image is made.
    desk.pass(Period::days(91));
    desk.settle();
    let link = desk.device(VAULT, DEVICE);
    release(&mut desk, link, 1);
    let image = desk.facts.clone();
    // The owner needs it after all, and another shard comes.
    let vault = public(VAULT).into();
    let stripes = vec![record(VAULT, DEVICE, 1).stripe.id()];
    desk.ask(link, Request::Extend { vault, stripes });
    neighbour.pass(Period::days(91));
    meet(&mut neighbour, &mut desk);

    let now = desk.now;
    let mut desk = run(NODE, image, 2, now);
    desk.pass(Period::days(30));
    desk.settle();
    assert_eq!(desk.gone, [], "before anybody was met nothing is dropped");
    assert!(promised(&mut desk).awaits);
    // It promises more than it ever had.
    for stripe in 2..9 {
        keep(&mut desk, stripe);
    }
    meet(&mut neighbour, &mut desk);
    assert!(desk.notes.iter().any(|note| matches!(note, Note::SetBack { .. })));
    assert!(doubt(&mut desk).unwrap().contains("set back"));
    let found = promised(&mut neighbour).contradictions;
    assert_eq!(found.len(), 1);
    let (node, found) = &found[0];
    let (before, after) = (found.before.verify().unwrap(), found.after.verify().unwrap());
    assert_eq!((*node, found.stands), (public(NODE).into(), true));
    assert!(after.contradicts(&before), "it convinces others too");
    assert!(neighbour.notes.iter().any(|note| matches!(note, Note::Contradicted { .. })));
    // Also after a restart, and whatever is asked: nothing goes.
    let facts = desk.facts.clone();
    let mut desk = run(NODE, facts, 3, desk.now);
    meet(&mut neighbour, &mut desk);
    let link = desk.device(VAULT, DEVICE);
    desk.pass(Period::days(91));
    release(&mut desk, link, 2);
    desk.pass(Period::days(8));
    desk.settle();
    assert_eq!(desk.gone, []);
    keep(&mut desk, 9);

    let write = thawed_promises(&desk.facts).unwrap().expect("it is frozen");
    desk.facts.apply(vec![write]);
    assert_eq!(thawed_promises(&desk.facts).unwrap(), None);
    let facts = desk.facts.clone();
    let mut desk = run(NODE, facts, 4, desk.now);
    assert_eq!(doubt(&mut desk), None);
    // All locks begin anew, and then it is as before.
    desk.pass(Period(0));
    desk.settle();
    for _ in 0..3 {
        meet(&mut neighbour, &mut desk);
        desk.pass(Period::days(30));
        desk.settle();
    }
    assert_eq!(desk.gone, []);
    assert!(!promised(&mut neighbour).contradictions[0].1.stands);
    desk.pass(Period::days(1));
    let link = desk.device(VAULT, DEVICE);
    release(&mut desk, link, 2);
    desk.pass(Period::days(8));
    desk.settle();
    assert_eq!(desk.gone.len(), 1);
}

#[test]
fn a_node_that_lost_all_it_had_is_set_back_and_a_lone_one_is_not_held_up() {
    let (mut desk, mut neighbour) = (holder(), witness(NEIGHBOUR));
    keep(&mut desk, 1);
    assert!(!promised(&mut desk).awaits, "nobody ever countersigned");
    meet(&mut neighbour, &mut desk);
    let mut wiped = run(NODE, MemoryFacts::default(), 1, desk.now);
    assert!(!promised(&mut wiped).awaits);
    meet(&mut neighbour, &mut wiped);
    assert!(promised(&mut wiped).set_back.is_some());
    // It holds nothing, so that nothing has to begin anew.
    let write = thawed_promises(&wiped.facts).unwrap().unwrap();
    wiped.facts.apply(vec![write]);
    let wiped = run(NODE, wiped.facts.clone(), 2, wiped.now);
    assert!(!wiped.peer.forbids_drops());
}

#[test]
fn a_witness_shows_only_what_the_node_itself_has_signed() {
    let mut desk = holder();
    let link = desk.node(NEIGHBOUR);
    let lie = crate::promise::PromiseStatement {
        holder: public(THIRD).into(),
        asker: public(NEIGHBOUR).into(),
        nonce: [0; 16],
        run: BootId([0; 16]),
        began: crate::promise::PromiseHead::default(),
        head: crate::promise::PromiseHead { seq: 9, hash: [1; 32] },
    };
    let known = Some(Signed::sign(&lie, &secret(THIRD)));
    let asked = Request::PromiseHead { nonce: [1; 16], known, witness: None };
    assert_eq!(code(&desk.ask(link, asked)), RefusalCode::Malformed);
    let said = crate::promise::PromiseWitness {
        witness: public(THIRD).into(),
        holder: public(NODE).into(),
        head: crate::promise::PromiseHead::default(),
        witnessed: EPOCH,
    };
    let witness = Some(Signed::sign(&said, &secret(THIRD)));
    let asked = Request::PromiseHead { nonce: [1; 16], known: None, witness };
    assert_eq!(code(&desk.ask(link, asked)), RefusalCode::Malformed);
    assert_eq!((desk.rows(Table::Countersigned), doubt(&mut desk)), (0, None));
}

#[derive(Debug, Clone)]
enum Step {
    Keep { durable: bool },
    Meet(usize),
    Restart,
    Image,
    SetBack,
    WitnessRestarts(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::bool::weighted(0.8).prop_map(|durable| Step::Keep { durable }),
        4 => (0usize..2).prop_map(Step::Meet),
        2 => Just(Step::Restart),
        1 => Just(Step::Image),
        1 => Just(Step::SetBack),
        1 => (0usize..2).prop_map(Step::WitnessRestarts),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn whoever_was_set_back_is_found_out_and_nobody_else_is_accused(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut desk = holder();
        let mut witnesses = [witness(NEIGHBOUR), witness(THIRD)];
        let (mut stripes, mut runs) = (0u8, 0u8);
        let mut image = desk.facts.clone();
        // The highest head that each witness was told, and whether the node was set back below it.
        let mut told = [0u64; 2];
        let mut is_back = false;
        for step in steps {
            match step {
                Step::Keep { durable } => {
                    stripes += 1;
                    let link = desk.device(VAULT, DEVICE);
                    let lane = desk.send_put(link, &record(VAULT, DEVICE, stripes), 0);
                    desk.arrive(lane, &shard_bytes(stripes, 0));
                    if durable { desk.settle() } else { desk.fail_one(); desk.settle() }
                }
                Step::Meet(which) => {
                    let frozen = desk.peer.promises.is_frozen();
                    meet(&mut witnesses[which], &mut desk);
                    if is_back && told[which] > promised_before(&desk) {
                        prop_assert!(desk.peer.promises.is_frozen());
                    }
                    if !is_back {
                        prop_assert!(!desk.peer.promises.is_frozen());
                        prop_assert_eq!(promised(&mut witnesses[which]).contradictions, vec![]);
                        told[which] = told[which].max(promised(&mut desk).head.seq);
                    }
                    prop_assert!(!frozen || desk.peer.promises.is_frozen());
                }
                Step::Restart => {
                    runs += 1;
                    let frozen = desk.peer.promises.is_frozen();
                    desk = run(NODE, desk.facts.clone(), runs, desk.now);
                    prop_assert_eq!(desk.peer.promises.is_frozen(), frozen);
                }
                Step::Image => image = desk.facts.clone(),
                Step::SetBack => {
                    runs += 1;
                    let ever = promised(&mut desk).head.seq;
                    desk = run(NODE, image.clone(), runs, desk.now);
                    let now = promised(&mut desk);
                    // Who was set back to what it was is no worse for it.
                    is_back |= now.head.seq < ever;
                    if !now.witnesses.is_empty() {
                        prop_assert!(desk.peer.forbids_drops());
                    }
                }
                Step::WitnessRestarts(which) => {
                    runs += 1;
                    let facts = witnesses[which].facts.clone();
                    let node = [NEIGHBOUR, THIRD][which];
                    witnesses[which] = run(node, facts, runs, desk.now);
                }
            }
        }
    }
}

/// The head with which the present run began.
fn promised_before(desk: &Desk) -> u64 {
    desk.peer.promises.began_at()
}
