//! Partners that leave, are left or break their part, and what bounds those that stay: quota of a vault, and pace.

use super::cast::*;
use super::desk::{Desk, code};
use super::partners::{
    ITS_NODE, PARTNER, SHARD, give, holding, introduced, its_device, its_papers, list, operator,
    put, say,
};
use crate::certificate::{Roster, VaultPapers};
use crate::id::NodeId;
use crate::message::{PartnerStanding, RefusalCode, Request, Response};
use crate::notice::{Cause, FAULTS_BORNE, Notice};
use crate::peer::repair::{Case, Stage};
use crate::peer::{Input, LinkId, MemoryFacts, Note, PeerConfig, Table, Write};
use crate::sign::Signed;
use crate::time::{Period, Wall};

const HOUR: Period = Period::seconds(3600);

fn id(name: u8) -> NodeId {
    public(name).into()
}

fn notice(leaver: u8, other: u8, version: u64, given: Wall) -> Signed<Notice> {
    let notice = Notice { leaver: operator(leaver), other: operator(other), version, given };
    Signed::sign(&notice, &secret(leaver))
}

fn own_console(desk: &mut Desk) -> LinkId {
    desk.greet(80, console_greeting_at(NODE, 80, desk.now.wall)).0
}

fn their_console(desk: &mut Desk) -> LinkId {
    let _ = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    desk.greet(82, console_greeting_at(ITS_NODE, 82, desk.now.wall)).0
}

fn standings(desk: &mut Desk, link: LinkId) -> Vec<PartnerStanding> {
    match desk.ask(link, Request::Standings) {
        Response::Standings(standings) => standings,
        other => panic!("{other:?}"),
    }
}

fn standing(desk: &mut Desk) -> PartnerStanding {
    let own = own_console(desk);
    let mut all = standings(desk, own);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn give_notice(desk: &mut Desk, link: LinkId, notice: Signed<Notice>) -> Response {
    desk.ask(link, Request::GiveNotice(Box::new(notice)))
}

#[test]
fn after_the_notice_nothing_new_is_taken_and_a_new_agreement_takes_it_back() {
    let (mut desk, device) = holding(1 << 20);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    let theirs = their_console(&mut desk);
    let given = notice(PARTNER, OPERATOR, 1, desk.now.wall);
    assert_eq!(give_notice(&mut desk, theirs, given.clone()), Response::Done);
    let noted = Note::Notice { leaver: operator(PARTNER), other: operator(OPERATOR) };
    assert!(desk.notes.contains(&noted));
    // The agreement of these stories has a notice of a day. A second one makes it no longer.
    desk.pass(HOUR);
    let theirs = their_console(&mut desk);
    let later = notice(PARTNER, OPERATOR, 1, desk.now.wall);
    assert_eq!(give_notice(&mut desk, theirs, later), Response::Done);
    let end = EPOCH.after(Period::days(1));
    let said = standing(&mut desk);
    assert_eq!((said.ends, said.is_over, said.notices.len()), (Some(end), false, 1));
    assert!(matches!(put(&mut desk, device, 2), Response::Receipt(_)));
    // Both sides read the same of it.
    let theirs = their_console(&mut desk);
    assert_eq!(standings(&mut desk, theirs)[0].notices, [given]);
    let mut desk = desk.restart();
    desk.pass(Period::days(1));
    assert!(standing(&mut desk).is_over);
    let device = its_device(&mut desk);
    let Response::Refused(refusal) = put(&mut desk, device, 3) else { panic!("it is refused") };
    assert_eq!(refusal.code, RefusalCode::NotAllowed);
    assert!(refusal.text.contains("notice"), "{}", refusal.text);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)), "what is held stays");
    // A further version, which both signed, begins anew.
    let again = super::partners::agreed(2, 1 << 20, Period::days(400), Period::days(300));
    say(&mut desk, &list(2, vec![introduced(Some(again), &[NODE])]));
    assert!(matches!(put(&mut desk, device, 3), Response::Receipt(_)));
    assert_eq!(standing(&mut desk).notices, []);
}

#[test]
fn notice_is_given_by_either_side_and_by_nobody_else() {
    let (mut desk, device) = holding(1 << 20);
    let theirs = their_console(&mut desk);
    let now = desk.now.wall;
    let wrong = [
        notice(PARTNER, OPERATOR, 2, now),
        notice(PARTNER, 53, 1, now),
        notice(53, OPERATOR, 1, now),
    ];
    for wrong in wrong {
        assert_eq!(code(&give_notice(&mut desk, theirs, wrong)), RefusalCode::NotAllowed);
    }
    let early = notice(PARTNER, OPERATOR, 1, now.after(Period::days(9)));
    assert_eq!(code(&give_notice(&mut desk, theirs, early)), RefusalCode::Malformed);
    let right = notice(PARTNER, OPERATOR, 1, now);
    assert_eq!(code(&give_notice(&mut desk, device, right)), RefusalCode::NotAllowed);
    assert_eq!(desk.rows(Table::Notice), 0);
    // It counts once it is durable.
    let own = own_console(&mut desk);
    let lane = desk.send(own, Request::GiveNotice(Box::new(notice(OPERATOR, PARTNER, 1, now))));
    assert!(desk.fail_one());
    desk.settle();
    assert_eq!(code(&desk.reply(lane).unwrap().0), RefusalCode::Internal);
    assert_eq!(standing(&mut desk).notices, []);
}

#[test]
fn a_notice_goes_on_to_the_nodes_of_both_sides() {
    let (mut desk, _) = holding(1 << 20);
    let own = own_console(&mut desk);
    let given = notice(OPERATOR, PARTNER, 1, desk.now.wall);
    assert_eq!(give_notice(&mut desk, own, given.clone()), Response::Done);
    let links = [desk.node(NEIGHBOUR), desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE)).0];
    desk.pass(Period::seconds(31));
    let is_it = |request: &Request| matches!(request, Request::GiveNotice(_));
    let called = std::mem::take(&mut desk.called);
    let mut told: Vec<LinkId> =
        called.iter().filter(|(_, _, r)| is_it(r)).map(|(_, link, _)| *link).collect();
    told.sort_unstable();
    assert_eq!(told, links);
    // A neighbour that knows the agreement takes it from a node.
    let mut there = Desk::of(NEIGHBOUR, MemoryFacts::default(), PeerConfig::default(), desk.now);
    say(&mut there, &list(1, vec![introduced(give(1 << 20), &[NODE])]));
    let link = there.node(NODE);
    assert_eq!(give_notice(&mut there, link, given), Response::Done);
    assert_eq!(there.rows(Table::Notice), 1);
}

#[test]
fn who_leaves_counts_as_leaving_for_what_either_side_has_with_the_other() {
    let (mut desk, _) = holding(1 << 20);
    let own_vault = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let papers = papers(OTHER_VAULT, 1, &[NODE, NEIGHBOUR]);
    assert_eq!(desk.ask(own_vault, Request::Introduce(papers)), Response::Done);
    let (ours, theirs) = (public(OTHER_VAULT).into(), public(VAULT).into());
    let link = their_console(&mut desk);
    let leaves = |desk: &Desk, vault, node: u8| desk.peer.repair.leaves(vault, id(node));
    assert!(!leaves(&desk, ours, ITS_NODE));
    let given = notice(OPERATOR, PARTNER, 1, desk.now.wall);
    let own = own_console(&mut desk);
    assert_eq!(give_notice(&mut desk, own, given), Response::Done);
    let _ = link;
    desk.pass(Period::seconds(1));
    assert!(leaves(&desk, ours, ITS_NODE) && leaves(&desk, theirs, NODE));
    assert!(!leaves(&desk, theirs, ITS_NODE), "what is its own stays with it");
    assert!(!leaves(&desk, ours, NODE) && !leaves(&desk, ours, NEIGHBOUR));
}

#[test]
fn a_partner_that_is_gone_is_frozen_then_left_and_free_when_it_is_back() {
    let (mut desk, _) = holding(1 << 20);
    let own_vault = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let papers = papers(OTHER_VAULT, 1, &[NODE, NEIGHBOUR]);
    assert_eq!(desk.ask(own_vault, Request::Introduce(papers)), Response::Done);
    let (ours, theirs) = (public(OTHER_VAULT).into(), public(VAULT).into());
    let _ = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    let pass = |desk: &mut Desk, hours: u64, with_partner: bool| {
        for _ in 0..hours {
            desk.pass(HOUR);
            desk.settle();
            let _ = desk.node(NEIGHBOUR);
            if with_partner {
                let _ = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
            }
            // What was noticed meanwhile is looked at.
            desk.pass(Period::seconds(31));
            desk.settle();
        }
    };
    pass(&mut desk, 20, false);
    assert_eq!(standing(&mut desk).frozen, None, "offline is not lost");
    pass(&mut desk, 8, false);
    let noted = Note::PartnerFrozen { operator: operator(PARTNER), cause: Cause::Absent };
    assert!(desk.notes.contains(&noted), "{:?}", desk.notes);
    let frozen = standing(&mut desk).frozen.expect("it is frozen");
    assert!(frozen.moves_in > Some(Period(0)));
    assert!(desk.peer.is_frozen_for(ours, operator(PARTNER)));
    assert!(!desk.peer.is_frozen_for(theirs, operator(PARTNER)), "its own it may repair");
    assert!(!desk.peer.repair.leaves(ours, id(ITS_NODE)));
    pass(&mut desk, 26, false);
    assert_eq!(standing(&mut desk).frozen.and_then(|frozen| frozen.moves_in), Some(Period(0)));
    assert!(desk.peer.repair.leaves(ours, id(ITS_NODE)));
    assert!(!desk.peer.repair.leaves(theirs, id(NODE)), "what is held for it was promised");
    // A restart forgives nothing; a day of being well does.
    let mut desk = desk.restart();
    assert!(standing(&mut desk).frozen.is_some());
    pass(&mut desk, 20, true);
    assert!(standing(&mut desk).frozen.is_some());
    pass(&mut desk, 6, true);
    assert_eq!(standing(&mut desk).frozen, None);
    assert!(desk.notes.contains(&Note::PartnerFree(operator(PARTNER))));
    assert!(!desk.peer.repair.leaves(ours, id(ITS_NODE)));
    assert_eq!(desk.rows(Table::Breach), 0);
}

#[test]
fn a_few_lost_shards_are_borne_and_more_freeze_a_partner() {
    let (mut desk, _) = holding(1 << 20);
    let _ = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    let lose = |desk: &mut Desk, vault: u8, shards: usize| {
        let stripes = (0..shards).map(|n| record(vault, DEVICE, n as u8).stripe.id());
        let places = stripes.map(|stripe| ((stripe, id(ITS_NODE)), public(vault).into()));
        desk.peer.repair.unproved = places.collect();
        desk.pass(Period::seconds(31));
        desk.settle();
    };
    lose(&mut desk, OTHER_VAULT, FAULTS_BORNE);
    assert_eq!(standing(&mut desk).frozen, None);
    // Whoever writes the records of a vault can name anybody in them: what is missing of others' vaults says nothing about this one.
    lose(&mut desk, VAULT, 10 * FAULTS_BORNE);
    assert_eq!(standing(&mut desk).frozen, None);
    lose(&mut desk, OTHER_VAULT, FAULTS_BORNE + 1);
    let frozen = standing(&mut desk).frozen.expect("it is frozen");
    assert_eq!(frozen.cause, Cause::Unproved);
    // What it took of repairs and denies counts as what audits showed, and the same shard counts once.
    let (mut desk, _) = holding(1 << 20);
    let _ = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    for n in 0..=FAULTS_BORNE as u8 {
        lose(&mut desk, OTHER_VAULT, FAULTS_BORNE);
        assert_eq!(standing(&mut desk).frozen, None);
        let place = (record(OTHER_VAULT, DEVICE, n).stripe.id(), id(ITS_NODE));
        let now = desk.now.mono;
        let repair = &mut desk.peer.repair;
        repair.taken.take(place, public(OTHER_VAULT).into(), Period::days(90), now);
        assert_ne!(repair.taken.see(place, false), crate::peer::faults::Seen::Nothing);
    }
    lose(&mut desk, OTHER_VAULT, FAULTS_BORNE);
    assert!(standing(&mut desk).frozen.is_some());
    // It is told itself, and others are not.
    let theirs = their_console(&mut desk);
    assert!(standings(&mut desk, theirs)[0].frozen.is_some());
    let (node, _) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert_eq!(code(&desk.ask(node, Request::Standings)), RefusalCode::NotAllowed);
}

#[test]
fn who_is_removed_is_moved_off_and_begins_anew_when_it_is_added_again() {
    let (mut desk, _) = holding(1 << 20);
    let own_vault = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let nodes = vec![node_certificate(OPERATOR, NODE), node_certificate(PARTNER, ITS_NODE)];
    let roster = Roster { vault: public(OTHER_VAULT).into(), version: 1, nodes };
    let roster = Signed::sign(&roster, &secret(OTHER_VAULT));
    let papers = VaultPapers { roster, ..papers(OTHER_VAULT, 1, &[NODE]) };
    assert_eq!(desk.ask(own_vault, Request::Introduce(papers)), Response::Done);
    let _ = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    let ours = public(OTHER_VAULT).into();
    let stripes = (0..=FAULTS_BORNE).map(|n| record(OTHER_VAULT, OTHER_DEVICE, n as u8));
    let places = stripes.map(|record| ((record.stripe.id(), id(ITS_NODE)), ours));
    desk.peer.repair.unproved = places.collect();
    desk.pass(Period::seconds(31));
    desk.settle();
    assert_eq!(desk.rows(Table::Breach), 1);
    assert!(!desk.peer.repair.leaves(ours, id(ITS_NODE)), "not before the notice is over");
    say(&mut desk, &list(2, vec![]));
    desk.pass(Period::seconds(31));
    desk.settle();
    assert!(desk.peer.repair.leaves(ours, id(ITS_NODE)), "what lies there does not count");
    assert_eq!(desk.rows(Table::Breach), 0);
    desk.peer.repair.unproved.clear();
    say(&mut desk, &list(3, vec![introduced(give(1 << 20), &[NODE])]));
    let mut desk = desk.restart();
    assert_eq!(standing(&mut desk).frozen, None);
    desk.pass(Period::seconds(31));
    assert!(!desk.peer.repair.leaves(ours, id(ITS_NODE)));
}

#[test]
fn an_old_notice_is_not_about_an_agreement_that_was_made_since() {
    let (mut desk, device) = holding(1 << 20);
    let theirs = their_console(&mut desk);
    let old = notice(PARTNER, OPERATOR, 1, desk.now.wall);
    assert_eq!(give_notice(&mut desk, theirs, old.clone()), Response::Done);
    desk.pass(Period::days(20));
    say(&mut desk, &list(2, vec![]));
    // They begin again, with version 1.
    let start = Period::days(20);
    let fresh = super::partners::agreed_from(1, 1 << 20, EPOCH.after(start));
    say(&mut desk, &list(3, vec![introduced(Some(fresh), &[NODE])]));
    let said = standing(&mut desk);
    assert_eq!((said.notices, said.is_over), (vec![], false));
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    let theirs = their_console(&mut desk);
    assert_eq!(code(&give_notice(&mut desk, theirs, old)), RefusalCode::NotAllowed);
    let new = notice(PARTNER, OPERATOR, 1, desk.now.wall);
    assert_eq!(give_notice(&mut desk, theirs, new.clone()), Response::Done);
    assert_eq!(standing(&mut desk).notices, [new]);
}

/// The agreement of these stories began at the epoch and has a notice of a day.
#[test]
fn a_date_that_is_long_past_ends_nothing_at_once() {
    let (mut desk, device) = holding(1 << 20);
    desk.pass(Period::days(40));
    let theirs = their_console(&mut desk);
    let backdated = notice(PARTNER, OPERATOR, 1, EPOCH.after(Period::days(1)));
    assert_eq!(give_notice(&mut desk, theirs, backdated.clone()), Response::Done);
    let end = desk.now.wall.after(Period::days(1));
    let said = standing(&mut desk);
    assert_eq!((said.ends, said.is_over), (Some(end), false));
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)));
    // It counts from when it came first, also after a restart.
    let mut desk = desk.restart();
    desk.pass(HOUR);
    let theirs = their_console(&mut desk);
    assert_eq!(give_notice(&mut desk, theirs, backdated.clone()), Response::Done);
    assert_eq!(standing(&mut desk).ends, Some(end));
    desk.pass(Period::days(1));
    assert!(standing(&mut desk).is_over);
    // What an earlier program stored without a word of when it came ends as it did there.
    let key = [operator(PARTNER).0, operator(OPERATOR).0].concat();
    let value = Some(crate::codec::encode(&backdated));
    desk.facts.apply(vec![Write { table: Table::Notice, key, value }]);
    let mut desk = desk.restart();
    assert_eq!(standing(&mut desk).ends, Some(EPOCH.after(Period::days(2))));
}

#[test]
fn who_was_told_a_notice_of_one_version_is_told_that_of_the_next() {
    let (mut desk, _) = holding(1 << 20);
    let neighbour = desk.node(NEIGHBOUR);
    let tell = |desk: &mut Desk, version: u64| {
        let own = own_console(desk);
        let given = notice(OPERATOR, PARTNER, version, desk.now.wall);
        assert_eq!(give_notice(desk, own, given.clone()), Response::Done);
        let mut told = 0;
        for _ in 0..3 {
            desk.pass(Period::seconds(31));
            for (call, link, request) in std::mem::take(&mut desk.called) {
                let is_it = matches!(&request, Request::GiveNotice(notice) if **notice == given);
                let response = is_it.then(|| Box::new(Response::Done));
                told += usize::from(is_it && link == neighbour);
                desk.handle(Input::Answer { call, response });
            }
        }
        told
    };
    assert_eq!(tell(&mut desk, 1), 1, "once");
    let again = super::partners::agreed(2, 1 << 20, Period::days(400), Period::days(300));
    say(&mut desk, &list(2, vec![introduced(Some(again), &[NODE])]));
    assert_eq!(tell(&mut desk, 2), 1);
}

#[test]
fn what_is_still_to_be_moved_is_told_by_partner_and_to_each_of_its_own() {
    let (mut desk, _) = holding(1 << 20);
    let own_vault = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let papers = papers(OTHER_VAULT, 1, &[NODE, NEIGHBOUR]);
    assert_eq!(desk.ask(own_vault, Request::Introduce(papers)), Response::Done);
    let own = own_console(&mut desk);
    let given = notice(OPERATOR, PARTNER, 1, desk.now.wall);
    assert_eq!(give_notice(&mut desk, own, given), Response::Done);
    let _ = their_console(&mut desk);
    desk.pass(Period::seconds(1));
    let now = desk.now.mono;
    let cases = [
        (VAULT, 1, NODE, Some("no place")),
        (OTHER_VAULT, 2, ITS_NODE, Some("no place")),
        (OTHER_VAULT, 3, ITS_NODE, None),
        // Something else is wrong with this one.
        (OTHER_VAULT, 4, NEIGHBOUR, Some("no place")),
    ];
    for (vault, stripe, holder, why) in cases {
        let stripe = record(vault, DEVICE, stripe).stripe.id();
        let case = Case {
            vault: public(vault).into(),
            margin: 0,
            asked: None,
            is_short: true,
            stage: Stage::Waits,
            due: now,
            since: now,
            holders: Vec::new(),
            why: why.map(str::to_owned),
            hurry: now,
            vain: 0,
            refused: std::collections::BTreeMap::new(),
        };
        desk.peer.repair.cases.insert(stripe, case);
        desk.peer.repair.settled.insert(stripe, (vec![id(holder)], now));
    }
    let said = standing(&mut desk);
    assert_eq!((said.waiting, said.stuck), (3, 2));
    let theirs = their_console(&mut desk);
    let said = standings(&mut desk, theirs).remove(0);
    assert_eq!((said.waiting, said.stuck), (1, 1), "of own vaults it is told nothing");
}

fn bounded(config: PeerConfig) -> (Desk, LinkId) {
    let mut desk = Desk::with(config);
    say(&mut desk, &list(1, vec![introduced(give(1 << 20), &[NODE])]));
    let link = its_device(&mut desk);
    assert_eq!(desk.ask(link, Request::Introduce(its_papers())), Response::Done);
    (desk, link)
}

#[test]
fn a_vault_has_no_more_than_its_quota() {
    let config = PeerConfig { vault_quota: Some(2 * SHARD), ..PeerConfig::default() };
    let (mut desk, device) = bounded(config);
    for stripe in [1, 2] {
        assert!(matches!(put(&mut desk, device, stripe), Response::Receipt(_)));
    }
    let Response::Refused(refusal) = put(&mut desk, device, 3) else { panic!("it is refused") };
    assert_eq!(refusal.code, RefusalCode::Quota);
    assert!(refusal.text.contains("0 bytes are left of the 128"), "{}", refusal.text);
    assert!(matches!(put(&mut desk, device, 1), Response::Receipt(_)), "it is held");
    let Response::Status(status) = desk.ask(device, Request::Status) else { panic!() };
    assert_eq!(status.room, 0);
    let own = own_console(&mut desk);
    let vaults = standings(&mut desk, own).remove(0).vaults;
    assert_eq!((vaults[0].bytes, vaults[0].quota), (2 * SHARD, Some(2 * SHARD)));
    // Another vault has its own.
    let own = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let papers = papers(OTHER_VAULT, 1, &[NODE, NEIGHBOUR]);
    assert_eq!(desk.ask(own, Request::Introduce(papers)), Response::Done);
    let answer = desk.put(own, &record(OTHER_VAULT, OTHER_DEVICE, 7), 0, &shard_bytes(7, 0));
    assert!(matches!(answer, Response::Receipt(_)), "{answer:?}");
}

#[test]
fn a_partners_bytes_keep_to_its_pace_and_own_ones_do_not_wait() {
    let config = PeerConfig { partner_per_second: Some(SHARD), ..PeerConfig::default() };
    let (mut desk, device) = bounded(config);
    // Two seconds of it at once, and then one shard a second.
    for stripe in 1..=5 {
        assert!(matches!(put(&mut desk, device, stripe), Response::Receipt(_)));
    }
    let waits: Vec<u64> = desk.waits.iter().map(|wait| wait.0).collect();
    assert_eq!(waits, [0, 0, 0, 1000, 2000]);
    let shard = record(VAULT, DEVICE, 1).stripe.shards[0];
    let read = desk.ask(device, Request::Get { shard, offset: 0, len: 64 });
    assert_eq!((read, desk.waits[5]), (Response::Bytes { len: 64 }, Period(3000)));
    // What would wait too long is told to come again.
    for stripe in 6..=7 {
        assert!(matches!(put(&mut desk, device, stripe), Response::Receipt(_)));
    }
    assert!(matches!(put(&mut desk, device, 8), Response::Busy { .. }));
    let own = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let papers = papers(OTHER_VAULT, 1, &[NODE, NEIGHBOUR]);
    assert_eq!(desk.ask(own, Request::Introduce(papers)), Response::Done);
    let answer = desk.put(own, &record(OTHER_VAULT, OTHER_DEVICE, 9), 0, &shard_bytes(9, 0));
    assert!(matches!(answer, Response::Receipt(_)), "{answer:?}");
    assert_eq!(desk.waits.last(), Some(&Period(0)));
    desk.pass(Period::seconds(60));
    assert!(matches!(put(&mut desk, device, 8), Response::Receipt(_)));
}
