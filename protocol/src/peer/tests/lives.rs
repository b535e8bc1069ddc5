//! How held shards end: after their locks, by releases that count, when nobody stopped them; and by nothing else.

use super::cast::*;
use super::desk::{Desk, code};
use crate::id::{ReleaseId, StripeId};
use crate::lock_clock::{BootId, LockClock};
use crate::message::{
    Outcome, RELEASE_PAGE, Refusal, RefusalCode, Released, Request, Response, Standstill,
};
use crate::peer::{Input, LinkId, MemoryFacts, Note, PeerConfig, Table, Usage, thawed};
use crate::record::Record;
use crate::release::{ReleaseRequest, release_id};
use crate::sign::Signed;
use crate::time::{Period, Wall};

const DAY: Period = Period::days(1);

fn guarded(node: u8) -> (Desk, LinkId) {
    let mut desk = Desk::of(node, MemoryFacts::default(), PeerConfig::default(), at(Period(0)));
    let link = desk.device(VAULT, DEVICE);
    let papers = guarded_papers(VAULT, 1, &[NODE, NEIGHBOUR, THIRD]);
    assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
    (desk, link)
}

/// A node that has held the shards of these stripes until their locks ended.
fn unlocked(node: u8, index: u16, stripes: &[u8]) -> (Desk, LinkId) {
    let (mut desk, link) = guarded(node);
    for &stripe in stripes {
        keep(&mut desk, link, &guarded_record(stripe), stripe, index);
    }
    desk.pass(Period::days(90));
    desk.settle();
    (desk, link)
}

fn keep(desk: &mut Desk, link: LinkId, record: &Record, stripe: u8, index: u16) {
    let kept = desk.put(link, record, index, &shard_bytes(stripe, index));
    assert!(matches!(kept, Response::Receipt(_)), "{kept:?}");
}

fn ids(stripes: &[u8]) -> Vec<StripeId> {
    stripes.iter().map(|&stripe| guarded_record(stripe).stripe.id()).collect()
}

/// A request of the vault for these stripes, made now.
fn request(desk: &Desk, stripes: &[u8]) -> Signed<ReleaseRequest> {
    release_request(VAULT, desk.now.wall, &ids(stripes))
}

fn release(
    desk: &mut Desk,
    link: LinkId,
    request: &Signed<ReleaseRequest>,
    by: &[u8],
) -> Vec<Outcome> {
    let (request, approvals) = (request.clone(), approve(request, by));
    match desk.ask(link, Request::Release { request, approvals, from: 0 }) {
        Response::Released(Released { outcomes, .. }) => {
            outcomes.into_iter().map(|(_, outcome)| outcome).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn standstill(desk: &mut Desk, link: LinkId) -> Standstill {
    match desk.ask(link, Request::Releases(public(VAULT).into())) {
        Response::Releases(standstill) => *standstill,
        other => panic!("{other:?}"),
    }
}

/// The operator of the neighbour looks in.
fn console(desk: &mut Desk) -> LinkId {
    let greeting = console_greeting_at(NEIGHBOUR, STRANGER, desk.now.wall);
    let (link, answer) = desk.greet(STRANGER, greeting);
    assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
    link
}

/// Makes all rows durable, and removes nothing.
fn store(desk: &mut Desk) {
    while desk.settle_one() {}
}

fn cooling(days: u64) -> Vec<Outcome> {
    vec![Outcome::Cooling { remaining: Period::days(days) }]
}

#[test]
fn a_shard_goes_once_its_lock_and_a_cooldown_are_over_and_leaves_nothing() {
    let (mut desk, link) = guarded(NODE);
    let record = guarded_record(1);
    keep(&mut desk, link, &record, 1, 0);
    keep(&mut desk, link, &guarded_record(2), 2, 0);
    desk.pass(Period(Period::days(90).0 - 1));
    let early = request(&desk, &[1]);
    let locked = release(&mut desk, link, &early, &GUARDIANS);
    assert_eq!(locked, [Outcome::Locked { remaining: Period(1) }]);
    desk.pass(Period(1));
    // An owner who vanishes keeps the data.
    desk.pass(DAY);
    let asked = request(&desk, &[1]);
    let few = release(&mut desk, link, &asked, &GUARDIANS[..1]);
    assert!(
        matches!(&few[..], [Outcome::Refused(text)] if text.contains("2 are needed")),
        "{few:?}"
    );
    assert_eq!(release(&mut desk, link, &asked, &GUARDIANS[..2]), cooling(7));
    let noted = |note: &Note| matches!(note, Note::Cooling { shards: 1, .. });
    assert_eq!(desk.notes.iter().filter(|note| noted(note)).count(), 1, "it is announced");
    desk.pass(Period(Period::days(7).0 - 1));
    desk.settle();
    assert_eq!((desk.gone.len(), desk.usage(VAULT).shards), (0, 2));
    desk.pass(Period(1));
    assert_eq!(desk.leaving.len(), 0, "not before the decision is durable");
    desk.settle();
    assert_eq!(desk.gone, [record.stripe.shards[0]]);
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
    assert_eq!([Table::Held, Table::Life, Table::Record].map(|table| desk.rows(table)), [1; 3]);
    assert!(desk.notes.iter().any(|note| matches!(note, Note::Dropped { .. })));
    // It can come again, as if it had never been here.
    keep(&mut desk, link, &record, 1, 0);
    let asked = request(&desk, &[1]);
    let locked = release(&mut desk, link, &asked, &GUARDIANS);
    assert_eq!(locked, [Outcome::Locked { remaining: Period::days(90) }]);
}

#[test]
fn a_stolen_vault_key_releases_nothing_that_is_locked() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let record = record(VAULT, DEVICE, 1);
    keep(&mut desk, link, &record, 1, 0);
    let node = desk.node(NEIGHBOUR);
    for day in 0..90 {
        // Whatever time it claims, by whomever it is brought.
        for issued in [desk.now.wall, EPOCH, Wall(0), desk.now.wall.after(Period::days(365))] {
            let request = release_request(VAULT, issued, &[record.stripe.id()]);
            for link in [link, node] {
                let outcome = release(&mut desk, link, &request, &[]);
                assert!(!matches!(outcome[0], Outcome::Cooling { .. }), "{day}: {outcome:?}");
            }
        }
        desk.pass(DAY);
        desk.settle();
        assert_eq!(desk.gone, []);
    }
    // No other key releases anything, ever.
    desk.pass(Period::days(100));
    let forged = release_request(OTHER_VAULT, desk.now.wall, &[record.stripe.id()]);
    let answer = desk.ask(link, Request::Release { request: forged, approvals: vec![], from: 0 });
    assert_eq!(code(&answer), RefusalCode::UnknownVault);
    desk.pass(Period::days(30));
    desk.settle();
    assert_eq!(desk.gone, []);
}

#[test]
fn extending_ends_a_cooldown_and_is_not_stored_again_and_again() {
    let (mut desk, link) = unlocked(NODE, 0, &[1]);
    let asked = request(&desk, &[1]);
    assert_eq!(release(&mut desk, link, &asked, &GUARDIANS[..2]), cooling(7));
    let vault = public(VAULT).into();
    let extend = || Request::Extend { vault, stripes: ids(&[1, 9]) };
    let full = Response::Extended(vec![Some(Period::days(90)), None]);
    assert_eq!(desk.ask(link, extend()), full);
    desk.pass(Period::seconds(60));
    desk.settle();
    let lane = desk.send(link, extend());
    assert_eq!(desk.undurable(), 0, "a minute more is not worth a write");
    let less = Period(Period::days(90).0 - 60_000);
    assert_eq!(desk.reply(lane).unwrap().0, Response::Extended(vec![Some(less), None]));
    desk.pass(DAY);
    assert_eq!(desk.ask(link, extend()), full);
    desk.pass(Period::days(30));
    desk.settle();
    assert_eq!(desk.gone, []);
    // Nobody else extends anything: that would cost the holder.
    let (node, other) = (desk.node(NEIGHBOUR), desk.device(OTHER_VAULT, OTHER_DEVICE));
    for link in [node, other] {
        assert_eq!(code(&desk.ask(link, extend())), RefusalCode::NotAllowed);
    }
}

#[test]
fn putting_a_shard_again_and_replacing_its_record_extend_its_lock() {
    let (mut desk, link) = unlocked(NODE, 0, &[1, 2]);
    keep(&mut desk, link, &guarded_record(1), 1, 0);
    let mut moved = guarded_record(2);
    moved.version = 2;
    let moved = Signed::sign(&moved, &secret(DEVICE));
    assert_eq!(desk.ask(link, Request::Replace(moved)), Response::Done);
    let asked = request(&desk, &[1, 2]);
    let locked = Outcome::Locked { remaining: Period::days(90) };
    assert_eq!(release(&mut desk, link, &asked, &GUARDIANS), [locked.clone(), locked]);
}

#[test]
fn a_veto_reaches_every_holder() {
    let (mut first, first_link) = unlocked(NODE, 0, &[1]);
    let (mut second, second_link) = unlocked(NEIGHBOUR, 1, &[1]);
    // They are connected: the second one dialed.
    let from_second = first.node(NEIGHBOUR);
    let asked = request(&first, &[1]);
    assert_eq!(release(&mut first, first_link, &asked, &GUARDIANS[..2]), cooling(7));
    let (_, link, told) = first.called.last().cloned().unwrap();
    assert_eq!(link, from_second);
    assert!(matches!(told, Request::Release { .. }), "the other holder is told: {told:?}");
    let from_first = second.node(NODE);
    assert!(matches!(second.ask(from_first, told), Response::Released(_)));
    // A guardian reaches the second one only, by way of its console.
    let console = console(&mut second);
    let running = standstill(&mut second, console).running;
    assert_eq!((running.len(), running[0].release), (1, release_id(&asked)));
    assert_eq!(second.ask(console, veto(&asked, GUARDIANS[2])), Response::Done);
    assert_eq!(standstill(&mut second, console).running[0].vetoed, [public(GUARDIANS[2]).into()]);
    // It is told on at once.
    let (_, _, told) = second.called.last().cloned().unwrap();
    assert!(matches!(told, Request::Veto { .. }), "{told:?}");
    assert_eq!(first.ask(from_second, told), Response::Done);
    for (desk, link) in [(&mut first, first_link), (&mut second, second_link)] {
        desk.pass(Period::days(8));
        desk.settle();
        assert_eq!(desk.gone, []);
        let again = release(desk, link, &asked, &GUARDIANS);
        assert!(matches!(&again[..], [Outcome::Refused(text)] if text.contains("stopped")));
        // Another request is another question.
        let anew = request(desk, &[1]);
        assert_eq!(release(desk, link, &anew, &GUARDIANS[..2]), cooling(7));
    }
}

#[test]
fn a_veto_or_a_hold_that_was_not_heard_is_asked_for() {
    for say in [|asked: &_| veto(asked, GUARDIANS[0]), |_: &_| hold(GUARDIANS[1], 1, Some(DAY))] {
        let (mut first, link) = unlocked(NODE, 0, &[1]);
        let (mut second, _) = guarded(NEIGHBOUR);
        let asked = request(&first, &[1]);
        release(&mut first, link, &asked, &GUARDIANS[..2]);
        let console = console(&mut second);
        assert_eq!(second.ask(console, say(&asked)), Response::Done);
        // They meet later on.
        let _ = first.node(NEIGHBOUR);
        first.called.clear();
        first.pass(Period::seconds(30));
        let stops = |(_, _, request): &&(_, _, Request)| matches!(request, Request::Stops { .. });
        let (call, _, question) = first.called.iter().find(stops).cloned().unwrap();
        let from_first = second.node(NODE);
        let answer = second.ask(from_first, question);
        first.handle(Input::Answer { call, response: Some(Box::new(answer)) });
        first.settle();
        first.pass(Period::days(8));
        first.settle();
        assert_eq!(first.gone, []);
    }
}

#[test]
fn one_guardian_holds_all_and_what_cooled_is_void() {
    let (mut desk, link) = unlocked(NODE, 0, &[1]);
    let asked = request(&desk, &[1]);
    assert_eq!(release(&mut desk, link, &asked, &GUARDIANS[..2]), cooling(7));
    let stranger = hold(STRANGER, 1, Some(Period::days(10)));
    assert_eq!(code(&desk.ask(link, stranger)), RefusalCode::NotAllowed);
    let order = hold(GUARDIANS[2], 1, Some(Period::days(10)));
    assert_eq!(desk.ask(link, order.clone()), Response::Done);
    assert_eq!(desk.ask(link, order), Response::Done, "the same again");
    let held = standstill(&mut desk, link).holds;
    assert_eq!(held, [(public(GUARDIANS[2]).into(), Period::days(10))]);
    desk.pass(Period::days(9));
    desk.settle();
    let anew = request(&desk, &[1]);
    let locked = release(&mut desk, link, &anew, &GUARDIANS[..2]);
    assert_eq!(locked, [Outcome::Locked { remaining: Period(DAY.0 + 1) }]);
    desk.pass(Period::days(20));
    desk.settle();
    assert_eq!(desk.gone, []);
    let anew = request(&desk, &[1]);
    assert_eq!(release(&mut desk, link, &anew, &GUARDIANS[..2]), cooling(7));
}

#[test]
fn nothing_is_dropped_while_in_doubt() {
    let (mut desk, link) = unlocked(NODE, 0, &[1]);
    let asked = request(&desk, &[1]);
    release(&mut desk, link, &asked, &GUARDIANS[..2]);
    desk.handle(Input::Doubt(Some("the tables were rolled back".into())));
    for _ in 0..10 {
        desk.pass(DAY);
        desk.settle();
    }
    assert_eq!(desk.gone, []);
    assert_eq!(standstill(&mut desk, link).stands.unwrap(), "the tables were rolled back");
    desk.handle(Input::Doubt(None));
    // Doubt that comes once it is decided holds up what was decided.
    desk.pass(DAY);
    assert!(desk.undurable() > 0);
    desk.handle(Input::Doubt(Some("again".into())));
    desk.settle();
    desk.pass(DAY);
    desk.settle();
    assert_eq!(desk.gone, []);
    desk.handle(Input::Doubt(None));
    desk.pass(DAY);
    desk.settle();
    assert_eq!(desk.gone.len(), 1);
}

#[test]
fn nothing_is_dropped_while_the_lock_clock_is_frozen() {
    let (mut desk, link) = unlocked(NODE, 0, &[1, 2]);
    let asked = request(&desk, &[1]);
    release(&mut desk, link, &asked, &GUARDIANS[..2]);
    // What freezes it is for its own stories; here it stands.
    let mut frozen = desk.peer.lock_clock.to_bytes();
    let last = frozen.len() - 1;
    frozen.splice(last.., [1, 0, 2]);
    let operator = public(OPERATOR).into();
    let clock = LockClock::resume(&frozen, operator, BootId([0; 16]), desk.now.mono).unwrap();
    assert!(clock.reading().is_frozen);
    desk.peer.lock_clock = clock;
    for _ in 0..10 {
        desk.pass(DAY);
        desk.settle();
    }
    assert_eq!(desk.gone, []);
    let anew = request(&desk, &[2]);
    let refused = release(&mut desk, link, &anew, &GUARDIANS[..2]);
    assert!(matches!(&refused[..], [Outcome::Refused(text)] if text.contains("frozen")));
    assert!(standstill(&mut desk, link).stands.unwrap().contains("FROZEN"));
    // The node's operator has looked into it, while it did not run.
    let write = thawed(&desk.facts, operator).unwrap().expect("it was stored frozen");
    desk.facts.apply(vec![write]);
    assert_eq!(thawed(&desk.facts, operator).unwrap(), None);
    let mut desk = desk.restart();
    desk.pass(Period::days(8));
    desk.settle();
    assert_eq!(desk.gone.len(), 1);
}

#[test]
fn what_a_crash_interrupted_is_finished_by_the_next_start() {
    for steps in 0..3 {
        let (mut desk, link) = unlocked(NODE, 0, &[1, 2]);
        let asked = request(&desk, &[1]);
        release(&mut desk, link, &asked, &GUARDIANS[..2]);
        desk.pass(Period::days(7));
        // Nothing, the decision, or the file is gone; the rows are not.
        if steps > 0 {
            store(&mut desk);
        }
        assert!(steps < 2 || desk.remove_one());
        let mut desk = desk.restart();
        assert_eq!(desk.usage(VAULT).shards, 2);
        desk.pass(DAY);
        desk.settle();
        desk.pass(DAY);
        desk.settle();
        assert_eq!(desk.gone, [guarded_record(1).stripe.shards[0]], "{steps}");
        assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
        assert_eq!([Table::Held, Table::Life, Table::Record].map(|table| desk.rows(table)), [1; 3]);
    }
}

#[test]
fn a_step_of_dropping_that_fails_is_taken_again() {
    let (mut desk, link) = unlocked(NODE, 0, &[1]);
    let asked = request(&desk, &[1]);
    release(&mut desk, link, &asked, &GUARDIANS[..2]);
    desk.pass(Period::days(7));
    while desk.fail_one() {}
    assert_eq!(desk.leaving.len(), 0, "the decision is not durable");
    desk.pass(DAY);
    store(&mut desk);
    assert!(desk.fail_removal(), "the file");
    assert_eq!(desk.undurable(), 0);
    desk.pass(DAY);
    store(&mut desk);
    assert!(desk.remove_one());
    assert!(desk.fail_one(), "the rows");
    desk.settle();
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 }, "what has its rows is counted");
    desk.pass(DAY);
    desk.settle();
    assert_eq!((desk.usage(VAULT), desk.rows(Table::Held)), (Usage::default(), 0));
}

#[test]
fn a_shard_that_is_being_dropped_is_taken_anew_when_it_is_gone() {
    let (mut desk, link) = unlocked(NODE, 0, &[1]);
    let record = guarded_record(1);
    let asked = request(&desk, &[1]);
    release(&mut desk, link, &asked, &GUARDIANS[..2]);
    desk.pass(Period::days(7));
    let is_busy = |desk: &mut Desk| {
        let lane = desk.send_put(link, &record, 0);
        matches!(desk.reply(lane), Some((Response::Busy { .. }, false)))
    };
    assert!(is_busy(&mut desk), "decided");
    store(&mut desk);
    assert!(is_busy(&mut desk), "on its way");
    let vault = public(VAULT).into();
    let extend = Request::Extend { vault, stripes: ids(&[1]) };
    let lane = desk.send(link, extend);
    assert_eq!(desk.reply(lane).unwrap().0, Response::Extended(vec![None]));
    let lane = desk.send(link, Request::Records { vault, stripes: ids(&[1]) });
    let Some((Response::Records(records), _)) = desk.reply(lane) else { panic!() };
    assert!(records[0].as_ref().is_some_and(|held| held.receipt.is_none()), "no promise any more");
    assert!(desk.remove_one());
    assert!(is_busy(&mut desk), "its rows are still there");
    desk.settle();
    keep(&mut desk, link, &record, 1, 0);
    desk.pass(Period::days(80));
    desk.settle();
    assert_eq!((desk.gone.len(), desk.rows(Table::Held)), (1, 1));
}

#[test]
fn bytes_that_arrive_for_a_held_shard_hold_up_its_end() {
    let (mut desk, link) = unlocked(NODE, 0, &[1]);
    let record = guarded_record(1);
    let asked = request(&desk, &[1]);
    release(&mut desk, link, &asked, &GUARDIANS[..2]);
    desk.lost.insert(record.stripe.shards[0]);
    let lane = desk.send_put(link, &record, 0);
    desk.pass(Period::days(8));
    desk.settle();
    assert_eq!(desk.gone, []);
    desk.arrive(lane, &shard_bytes(1, 0));
    desk.settle();
    assert!(matches!(desk.reply(lane), Some((Response::Receipt(_), _))));
    desk.pass(Period::days(8));
    desk.settle();
    assert_eq!(desk.gone, [], "it is locked again");
}

#[test]
fn a_shard_without_a_life_begins_one_anew() {
    let (mut desk, link) = unlocked(NODE, 0, &[1, 2]);
    let lives = crate::peer::Facts::scan(&desk.facts, Table::Life, &[], None, 9).unwrap();
    let lost =
        |key: &Vec<u8>| crate::peer::Write { table: Table::Life, key: key.clone(), value: None };
    desk.facts.apply(lives.iter().map(|(key, _)| lost(key)).collect());
    // Even where nothing has looked after it yet.
    let asked = request(&desk, &[1]);
    let locked = Outcome::Locked { remaining: Period::days(90) };
    assert_eq!(release(&mut desk, link, &asked, &GUARDIANS), [locked]);
    let mut desk = desk.restart();
    desk.pass(Period(0));
    desk.settle();
    assert_eq!(desk.rows(Table::Life), 2);
    let link = desk.device(VAULT, DEVICE);
    desk.pass(Period(Period::days(90).0 - 1));
    let asked = request(&desk, &[1, 2]);
    let locked = Outcome::Locked { remaining: Period(1) };
    assert_eq!(release(&mut desk, link, &asked, &GUARDIANS), [locked.clone(), locked]);
}

#[test]
fn a_node_that_starts_again_goes_on_with_what_cools() {
    let (mut desk, link) = unlocked(NODE, 0, &[1, 2]);
    let asked = request(&desk, &[1, 2]);
    release(&mut desk, link, &asked, &GUARDIANS[..2]);
    let mut desk = desk.restart();
    let link = desk.device(VAULT, DEVICE);
    let running = standstill(&mut desk, link).running;
    assert_eq!((running.len(), running[0].stripes), (1, 2));
    desk.pass(DAY);
    desk.settle();
    assert_eq!(desk.gone, []);
    desk.pass(Period::days(6));
    desk.settle();
    assert_eq!(desk.gone.len(), 2);
    desk.pass(Period::days(2));
    desk.settle();
    assert_eq!((desk.rows(Table::Release), standstill(&mut desk, link).running), (0, vec![]));
}

#[test]
fn statements_of_nobody_and_for_nobody_are_not_kept() {
    let (mut desk, link) = unlocked(NODE, 0, &[1]);
    let asked = request(&desk, &[1]);
    assert_eq!(code(&desk.ask(link, veto(&asked, STRANGER))), RefusalCode::NotAllowed);
    let other = desk.device(OTHER_VAULT, OTHER_DEVICE);
    for request in [
        veto(&asked, GUARDIANS[0]),
        hold(GUARDIANS[0], 1, Some(DAY)),
        Request::Releases(public(VAULT).into()),
        Request::Release {
            request: asked.clone(),
            approvals: approve(&asked, &GUARDIANS),
            from: 0,
        },
    ] {
        assert_eq!(code(&desk.ask(other, request)), RefusalCode::UnknownVault);
    }
    let unlisted = desk.node(50);
    let (vault, releases) = (public(VAULT).into(), vec![ReleaseId([1; 32]); 65]);
    let node = desk.node(NEIGHBOUR);
    for (link, request) in [
        (unlisted, Request::Releases(vault)),
        (node, Request::Stops { vault, releases }),
        (link, Request::Release { request: asked.clone(), approvals: vec![], from: 7 }),
    ] {
        let answer = desk.ask(link, request);
        assert!(matches!(answer, Response::Refused(Refusal { .. })), "{answer:?}");
    }
    assert_eq!(desk.ask(node, veto(&asked, GUARDIANS[1])), Response::Done);
    let stops = |releases| Request::Stops { vault, releases };
    for (link, count) in [(unlisted, 0), (node, 1)] {
        let answer = desk.ask(link, stops(vec![release_id(&asked)]));
        assert!(matches!(answer, Response::Stops(told) if told.vetoes.len() == count));
    }
    // An approval of something else spoils the whole.
    let strange = approve(&request(&desk, &[2]), &GUARDIANS);
    let spoiled = Request::Release { request: asked, approvals: strange, from: 0 };
    assert_eq!(code(&desk.ask(link, spoiled)), RefusalCode::Malformed);
    let rows = [Table::Veto, Table::Holds, Table::Release].map(|table| desk.rows(table));
    assert_eq!(rows, [1, 0, 0]);
}

#[test]
fn a_long_release_is_answered_page_by_page() {
    let (mut desk, link) = unlocked(NODE, 0, &[1]);
    let mut stripes: Vec<StripeId> = (0..RELEASE_PAGE as u32)
        .map(|i| StripeId(*blake3::hash(&i.to_le_bytes()).as_bytes()))
        .collect();
    stripes.extend(ids(&[1]));
    let request = release_request(VAULT, desk.now.wall, &stripes);
    let mut from = Some(0);
    let mut outcomes = Vec::new();
    while let Some(place) = from {
        let (request, approvals) = (request.clone(), approve(&request, &GUARDIANS[..2]));
        let answer = desk.ask(link, Request::Release { request, approvals, from: place });
        let Response::Released(Released { outcomes: page, next }) = answer else { panic!() };
        assert!(page.len() <= RELEASE_PAGE);
        outcomes.extend(page);
        from = next;
    }
    stripes.sort_unstable();
    assert!(outcomes.iter().map(|(stripe, _)| *stripe).eq(stripes));
    let begun = outcomes.iter().filter(|(_, outcome)| *outcome != Outcome::NotHeld).count();
    assert_eq!(begun, 1);
}
