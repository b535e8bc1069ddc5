//! Stories of leaving: what a node holds comes to lie elsewhere while it is there, and it goes when nobody would miss it.

use super::cast::*;
use super::desk::code;
use super::repair::*;
use crate::id::NodeId;
use crate::leave::paper::{Part, Verifier};
use crate::leave::{Page, Word};
use crate::message::{LeaveStatus, RefusalCode, Request, Response};
use crate::peer::{Input, Note, Source, Table, Target};
use crate::record::Record;
use crate::time::Period;

/// Does the next repair that is ordered; which shards were moved, and where to.
fn do_next(mesh: &mut Mesh) -> Option<(Vec<Source>, Vec<Target>)> {
    let (job, signed, sources, targets) = mesh.ordered()?;
    mesh.rebuild(job, &signed.verify().unwrap(), &targets);
    Some((sources, targets))
}

fn said(mesh: &mut Mesh) -> LeaveStatus {
    mesh.status().leaving.expect("it leaves")
}

fn indexes(targets: &[Target]) -> Vec<u16> {
    let mut indexes: Vec<u16> = targets.iter().map(|target| target.index).collect();
    indexes.sort_unstable();
    indexes
}

/// As [`stripe`], of which two shards are needed.
fn two_needed() -> Record {
    let mut two = stripe();
    two.stripe.k = 2;
    two
}

#[test]
fn what_a_leaving_node_holds_is_moved_while_it_is_there() {
    let mut mesh = three_and_two_spare();
    mesh.leaving.insert(NEIGHBOUR);
    mesh.pass(Period(4 * HOUR.0));
    assert!(mesh.desk.notes.contains(&Note::Leaving(id(NEIGHBOUR))));
    let (sources, targets) = do_next(&mut mesh).expect("a repair");
    assert!(sources.iter().any(|source| source.node == id(NEIGHBOUR)), "it is read from");
    assert_eq!(indexes(&targets), [1]);
    assert!([id(FOURTH), id(FIFTH)].contains(&targets[0].node));
    mesh.pass(Period(4 * HOUR.0));
    assert_eq!((mesh.repair().waiting, mesh.repair().lost), (vec![], vec![]));
    // It goes, and nobody misses it.
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period::days(3));
    assert!(mesh.ordered().is_none());
}

#[test]
fn who_says_again_and_again_that_it_leaves_has_its_shards_copied_once() {
    let mut mesh = three_and_two_spare();
    let mut moved = 0;
    for _ in 0..20 {
        for leaves in [true, false] {
            if leaves {
                mesh.leaving.insert(NEIGHBOUR);
            } else {
                mesh.leaving.remove(&NEIGHBOUR);
            }
            mesh.pass(Period(5 * HOUR.0));
            while let Some((_, targets)) = do_next(&mut mesh) {
                moved += targets.len();
            }
        }
    }
    assert_eq!(moved, 1);
    assert!(mesh.desk.notes.contains(&Note::Stays(id(NEIGHBOUR))));
    // However often it says so, it is listened to once a term.
    mesh.desk.notes.clear();
    for _ in 0..40 {
        mesh.leaving.insert(NEIGHBOUR);
        mesh.pass(Period::seconds(900));
        mesh.leaving.remove(&NEIGHBOUR);
        mesh.pass(Period::seconds(900));
    }
    let changes = |note: &&Note| matches!(note, Note::Leaving(_) | Note::Stays(_));
    assert!(mesh.desk.notes.iter().filter(changes).count() <= 20);
    assert!(mesh.ordered().is_none());
}

#[test]
fn nothing_is_put_to_a_node_that_leaves() {
    let mut mesh = three_and_two_spare();
    mesh.leaving.insert(FOURTH);
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(30 * HOUR.0));
    let (_, targets) = do_next(&mut mesh).expect("a repair");
    assert_eq!(targets.iter().map(|target| target.node).collect::<Vec<NodeId>>(), [id(FIFTH)]);
}

#[test]
fn what_could_not_be_read_without_those_that_leave_is_moved_all_the_same() {
    let has = [(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, None), (FIFTH, None)];
    let mut mesh = Mesh::new(&two_needed(), &has);
    mesh.leaving.extend([NEIGHBOUR, THIRD]);
    mesh.pass(Period(6 * HOUR.0));
    let (_, targets) = do_next(&mut mesh).expect("a repair");
    assert_eq!(indexes(&targets), [1, 2]);
    assert!(targets.iter().all(|target| [id(FOURTH), id(FIFTH)].contains(&target.node)));
}

#[test]
fn a_node_that_leaves_moves_what_it_holds_and_then_may_go() {
    let mut mesh = three_and_two_spare();
    assert_eq!(mesh.status().leaving, None);
    mesh.desk.handle(Input::Leaving(true));
    let status = mesh.status();
    assert_eq!(status.room, 0);
    let said_first = status.leaving.unwrap();
    assert!(!said_first.is_counted && !said_first.may_leave(), "nothing is known yet");
    mesh.pass(Period::seconds(900));
    let now = said(&mut mesh);
    assert_eq!((now.is_counted, now.stripes, now.left, now.may_leave()), (true, 1, 1, false));
    let (sources, targets) = do_next(&mut mesh).expect("it is its own custodian, at once");
    assert_eq!(sources[0], Source { index: 0, node: id(NODE), link: None });
    assert_eq!(indexes(&targets), [0]);
    mesh.pass(Period::seconds(900));
    let now = said(&mut mesh);
    assert_eq!((now.stripes, now.left, now.may_leave()), (1, 0, true), "{now:?}");
    // What it holds stays, and is served.
    mesh.pass(Period::days(3));
    assert_eq!((mesh.desk.rows(Table::Held), mesh.desk.gone.len()), (1, 0));
    let shard = stripe().stripe.shards[0];
    let get = Request::Get { shard, offset: 0, len: SHARD_LEN };
    assert_eq!(mesh.desk.ask(mesh.device, get), Response::Bytes { len: SHARD_LEN });
    assert!(said(&mut mesh).may_leave());
    // Who has the shard now is lost: this node would be missed again.
    let taker = if targets[0].node == id(FOURTH) { FOURTH } else { FIFTH };
    mesh.silent.insert(taker);
    mesh.pass(Period(30 * HOUR.0));
    assert!(!said(&mut mesh).may_leave());
    let (_, targets) = do_next(&mut mesh).expect("another one");
    assert_ne!(targets[0].node, id(taker));
    mesh.pass(Period::seconds(900));
    assert!(said(&mut mesh).may_leave());
}

#[test]
fn a_node_that_leaves_takes_nothing_new_and_takes_again_when_it_stays() {
    let mut mesh = three_and_two_spare();
    // The bytes of one are on their way when it begins to leave.
    let second = record(VAULT, DEVICE, 2);
    let lane = mesh.desk.send_put(mesh.device, &second, 0);
    mesh.desk.handle(Input::Leaving(true));
    mesh.desk.arrive(lane, &shard_bytes(2, 0));
    mesh.desk.settle();
    let refused = mesh.desk.reply(lane).expect("an answer").0;
    assert_eq!(code(&refused), RefusalCode::Full, "{refused:?}");
    let put = |mesh: &mut Mesh, link, stripe: u8| {
        mesh.desk.put(link, &record(VAULT, DEVICE, stripe), 0, &shard_bytes(stripe, 0))
    };
    let device = mesh.device;
    let refused = put(&mut mesh, device, 2);
    assert_eq!(code(&refused), RefusalCode::Full, "{refused:?}");
    let neighbour = mesh.links[&NEIGHBOUR];
    assert_eq!(code(&put(&mut mesh, neighbour, 2)), RefusalCode::Full, "nor from nodes");
    // What it has it may be given again: that extends its lock, or heals it.
    assert!(matches!(put(&mut mesh, device, 1), Response::Receipt(_)));
    assert_eq!(mesh.desk.rows(Table::Held), 1);

    mesh.desk.handle(Input::Leaving(false));
    assert_eq!(mesh.status().leaving, None);
    mesh.pass(Period(6 * HOUR.0));
    assert!(mesh.ordered().is_none(), "its shards count as ever");
    assert!(matches!(put(&mut mesh, device, 2), Response::Receipt(_)));
}

#[test]
fn who_would_be_missed_says_why_its_shards_cannot_be_moved() {
    let has = [(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, None), (FIFTH, None)];
    let mut mesh = Mesh::new(&two_needed(), &has);
    mesh.rooms = [(FOURTH, 63), (FIFTH, 63)].into();
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period(2 * HOUR.0));
    let now = said(&mut mesh);
    assert_eq!((now.stripes, now.left, now.below, now.may_leave()), (1, 1, 1, false), "{now:?}");
    let [(why, 1)] = &now.stuck[..] else { panic!("{now:?}") };
    assert!(why.contains("room for 64 B"), "{why}");
    assert!(mesh.ordered().is_none());
    mesh.rooms.clear();
    mesh.pass(Period(2 * HOUR.0));
    assert!(do_next(&mut mesh).is_some(), "there is room again");
    mesh.pass(Period::seconds(900));
    assert!(said(&mut mesh).may_leave());
}

#[test]
fn what_keeps_its_policy_and_can_lie_nowhere_else_holds_nobody() {
    let mut mesh = Mesh::new(&stripe(), &[(NEIGHBOUR, Some(1)), (THIRD, Some(2))]);
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period(HOUR.0));
    assert!(mesh.ordered().is_none());
    let now = said(&mut mesh);
    assert_eq!((now.stripes, now.left, now.below), (1, 0, 0), "{now:?}");
    assert!(now.may_leave());
}

#[test]
fn a_stand_in_that_leaves_moves_what_no_record_says_that_it_holds() {
    let mut named = stripe();
    named.holders = [FOURTH, NEIGHBOUR, THIRD].map(id).to_vec();
    let has = [(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, None), (FIFTH, None)];
    let mut mesh = Mesh::without(&named, &has);
    let neighbour = mesh.links[&NEIGHBOUR];
    let put = mesh.desk.put(neighbour, &named, 0, &shard_bytes(1, 0));
    assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    mesh.silent.insert(FOURTH);
    mesh.pass(Period(30 * HOUR.0));
    assert!(mesh.ordered().is_none());
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period::seconds(900));
    assert_eq!(said(&mut mesh).left, 1);
    let (_, targets) = do_next(&mut mesh).expect("a repair");
    assert_eq!((indexes(&targets), targets[0].node), (vec![0], id(FIFTH)));
    mesh.pass(Period::seconds(900));
    assert!(said(&mut mesh).may_leave());
}

/// The node holds the first of three shards, of which one must be left, as do two others; these are the operators of others.
fn of_operators(operators: &[(u8, u8)]) -> Mesh {
    let has = [(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, Some(0)), (FIFTH, None)];
    let operator =
        |name| operators.iter().find(|(n, _)| *n == name).map_or(OPERATOR, |(_, of)| *of);
    let mut mesh = Mesh::among(&stripe(), &has, operator);
    let put = mesh.desk.put(mesh.device, &stripe(), 0, &shard_bytes(1, 0));
    assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    mesh
}

#[test]
fn a_node_may_leave_when_two_other_operators_have_signed_that() {
    let mut mesh = of_operators(&[(NEIGHBOUR, 30), (THIRD, 31)]);
    mesh.unwilling.insert(THIRD);
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period(2 * HOUR.0));
    // One operator's word, and that of its own, are not enough.
    let now = said(&mut mesh);
    assert_eq!((now.left, now.unsigned, now.may_leave()), (0, 1, false), "{now:?}");
    let signers: Vec<NodeId> = now.signers.iter().map(|signer| signer.node).collect();
    assert!(signers.contains(&id(NEIGHBOUR)) && !signers.contains(&id(THIRD)), "{signers:?}");
    mesh.unwilling.clear();
    mesh.pass(Period(2 * HOUR.0));
    let now = said(&mut mesh);
    assert!(now.may_leave() && now.signers.len() >= 2, "{now:?}");
}

#[test]
fn where_there_is_one_other_operator_its_word_is_needed_and_does() {
    let mut mesh = of_operators(&[(NEIGHBOUR, 30)]);
    mesh.unwilling.insert(NEIGHBOUR);
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period(2 * HOUR.0));
    assert_eq!(said(&mut mesh).unsigned, 1, "its own operator's nodes do not count");
    mesh.unwilling.clear();
    mesh.pass(Period(2 * HOUR.0));
    assert!(said(&mut mesh).may_leave());
}

#[test]
fn what_was_signed_counts_no_more_once_somebody_else_is_lost() {
    let mut mesh = three_and_two_spare();
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period::seconds(900));
    do_next(&mut mesh).expect("a repair");
    mesh.pass(Period::seconds(1800));
    assert!(said(&mut mesh).may_leave());
    assert!(mesh.desk.rows(Table::MayLeave) > 0);
    mesh.unwilling.extend([NEIGHBOUR, THIRD, FOURTH, FIFTH]);
    mesh.silent.insert(THIRD);
    mesh.pass(Period(30 * HOUR.0));
    while do_next(&mut mesh).is_some() {
        mesh.pass(Period(2 * HOUR.0));
    }
    let now = said(&mut mesh);
    assert_eq!((now.left, now.unsigned, now.signers), (0, 1, vec![]));
    mesh.unwilling.clear();
    mesh.pass(Period(2 * HOUR.0));
    assert!(said(&mut mesh).may_leave());
    // When it stays nothing is kept.
    mesh.desk.handle(Input::Leaving(false));
    mesh.desk.settle();
    assert_eq!(mesh.desk.rows(Table::MayLeave), 0);
}

#[test]
fn what_becomes_of_a_node_that_holds_nothing_of_it_is_nothing_to_who_leaves() {
    let mut mesh = three_and_two_spare();
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period::seconds(900));
    let (_, targets) = do_next(&mut mesh).expect("a repair");
    mesh.pass(Period::seconds(1800));
    assert!(said(&mut mesh).may_leave());
    // Whoever runs many such nodes can have one lost, or leave, all the time.
    let idle = if targets[0].node == id(FOURTH) { FIFTH } else { FOURTH };
    mesh.unwilling.extend([NEIGHBOUR, THIRD, FOURTH, FIFTH]);
    mesh.silent.insert(idle);
    mesh.pass(Period(30 * HOUR.0));
    assert!(mesh.desk.notes.contains(&Note::Lost(id(idle))));
    let now = said(&mut mesh);
    assert!(now.may_leave() && now.is_counted, "{now:?}");
    mesh.silent.remove(&idle);
    mesh.leaving.insert(idle);
    mesh.pass(Period(4 * HOUR.0));
    assert!(mesh.desk.notes.contains(&Note::Leaving(id(idle))));
    assert!(said(&mut mesh).may_leave());
}

#[test]
fn what_was_signed_outlives_a_start() {
    let mut mesh = of_operators(&[]);
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period(HOUR.0));
    assert!(said(&mut mesh).may_leave());
    mesh.unwilling.extend([NEIGHBOUR, THIRD, FOURTH, FIFTH]);
    let mut mesh = mesh.restart();
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period(HOUR.0));
    let now = said(&mut mesh);
    assert!(now.may_leave(), "{now:?}");
}

#[test]
fn the_paper_that_a_node_takes_along_can_be_checked_by_anybody() {
    let mut mesh = of_operators(&[(NEIGHBOUR, 30), (THIRD, 31)]);
    let console = mesh.desk.greet(77, console_greeting(NODE, 77)).0;
    let part = |mesh: &mut Mesh, link, part| match mesh.desk.ask(link, Request::LeavePaper { part })
    {
        Response::LeavePaper(part) => Ok(part),
        refused => Err(code(&refused)),
    };
    assert_eq!(part(&mut mesh, console, 0), Err(RefusalCode::NotAllowed), "it stays");
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period(2 * HOUR.0));
    let device = mesh.device;
    assert_eq!(part(&mut mesh, device, 0), Err(RefusalCode::NotAllowed));
    let mut verifier = Verifier::new(mesh.desk.now.wall, None);
    for number in 0.. {
        let Some(part) = part(&mut mesh, console, number).unwrap() else { break };
        verifier.handle_part(&Part::encode(&part)[4..]).unwrap();
    }
    let shown = verifier.finish().unwrap();
    assert!(shown.is_good(), "{shown:?}");
    assert_eq!((shown.node, shown.stripes), (id(NODE), 1));
}

/// What the node on the desk signs for a neighbour that asks.
fn ask_to_leave(mesh: &mut Mesh, stripes: &[(&Record, u16)]) -> Option<Word> {
    let held = stripes.iter().map(|(record, index)| (record.stripe.id(), *index)).collect();
    let page = Page { vault: public(VAULT).into(), held };
    let neighbour = mesh.links[&NEIGHBOUR];
    let answer = mesh.desk.ask(neighbour, Request::MayLeave(page.clone()));
    let Response::MayLeave(signed) = answer else { panic!("{answer:?}") };
    let word = signed?.verify().unwrap();
    assert_eq!(word.check(id(NEIGHBOUR), &page), Ok(()));
    Some(word)
}

#[test]
fn who_is_asked_looks_for_itself_before_it_signs() {
    let mut mesh = three_and_two_spare();
    assert_eq!(ask_to_leave(&mut mesh, &[(&stripe(), 1)]), None, "it was not looked at");
    mesh.leaving.insert(NEIGHBOUR);
    mesh.pass(Period::seconds(900));
    assert_eq!(ask_to_leave(&mut mesh, &[(&stripe(), 1)]), None, "its shard lies nowhere else");
    mesh.pass(Period(6 * HOUR.0));
    do_next(&mut mesh).expect("a repair");
    let asked = mesh.asked;
    mesh.pass(Period::seconds(900));
    assert!(mesh.asked > asked);
    let word = ask_to_leave(&mut mesh, &[(&stripe(), 1)]).expect("a word");
    assert_eq!((word.witness, word.count()), (id(NODE), 1));
    // Of what it does not hold, and of shards that there are not, it says nothing.
    let mut both = [stripe(), record(VAULT, DEVICE, 2)];
    both.sort_by_key(|record| record.stripe.id());
    let word = ask_to_leave(&mut mesh, &[(&both[0], 1), (&both[1], 1)]).expect("a word");
    assert_eq!(word.count(), 1);
    assert_eq!(ask_to_leave(&mut mesh, &[(&stripe(), 3)]), None);
    // Somebody else is lost: it looks again.
    mesh.silent.insert(THIRD);
    mesh.pass(Period(30 * HOUR.0));
    assert_eq!(ask_to_leave(&mut mesh, &[(&stripe(), 1)]), None);
}

#[test]
fn who_leaves_as_well_signs_nothing_and_strangers_get_no_answer() {
    let mut mesh = three_and_two_spare();
    mesh.leaving.insert(NEIGHBOUR);
    mesh.desk.handle(Input::Leaving(true));
    mesh.pass(Period(6 * HOUR.0));
    while do_next(&mut mesh).is_some() {
        mesh.pass(Period(2 * HOUR.0));
    }
    assert_eq!(ask_to_leave(&mut mesh, &[(&stripe(), 1)]), None);
    let page = Page { vault: public(VAULT).into(), held: vec![(stripe().stripe.id(), 1)] };
    let device = mesh.device;
    let refused = mesh.desk.ask(device, Request::MayLeave(page.clone()));
    assert_eq!(code(&refused), RefusalCode::NotAllowed);
    let other = mesh.desk.node(50);
    let refused = mesh.desk.ask(other, Request::MayLeave(page.clone()));
    assert_eq!(code(&refused), RefusalCode::UnknownVault, "no roster lists it");
    let empty = Page { held: vec![], ..page };
    let refused = mesh.desk.ask(mesh.links[&THIRD], Request::MayLeave(empty));
    assert_eq!(code(&refused), RefusalCode::Malformed);
}
