//! Logs: append-only, countersigned when durable, forks kept as evidence.

use super::cast::*;
use super::desk::{Desk, code};
use crate::codec::Blob;
use crate::given_up::GivenUp;
use crate::id::{SessionId, StripeId};
use crate::log::{Body, Entry, entry_id};
use crate::message::{PAGE_LEN, RefusalCode, Request, Response};
use crate::peer::{LinkId, Note, PeerConfig, Table};
use crate::retention::Forget;
use crate::sign::Signed;
use crate::time::Period;

fn desk() -> (Desk, LinkId) {
    Desk::with_vault(PeerConfig::default())
}

#[test]
fn the_next_entry_is_countersigned_once_durable() {
    let (mut desk, link) = desk();
    let first = entry(0, None, 0);
    let lane = desk.send(link, Request::Append(first.clone()));
    assert_eq!(desk.reply(lane), None);
    desk.settle();
    let Some((Response::Appended(ack), _)) = desk.reply(lane) else { panic!() };
    let ack = ack.verify().unwrap();
    assert_eq!((ack.seq, ack.entry), (0, crate::log::entry_id(&first)));
    assert_eq!((ack.holder, ack.witnessed), (public(NODE).into(), desk.now.wall));
    let second = desk.ask(link, Request::Append(entry(1, Some(&first), 1)));
    assert!(matches!(second, Response::Appended(_)));
}

#[test]
fn an_entry_that_the_disk_did_not_keep_is_not_countersigned() {
    let (mut desk, link) = desk();
    let lane = desk.send(link, Request::Append(entry(0, None, 0)));
    assert!(desk.fail_one());
    assert_eq!(code(&desk.reply(lane).unwrap().0), RefusalCode::Internal);
    let Response::Behind { next: 0 } = desk.ask(link, Request::Append(entry(3, None, 0))) else {
        panic!()
    };
}

#[test]
fn a_gap_is_told_and_not_filled_in() {
    let (mut desk, link) = desk();
    let first = entry(0, None, 0);
    let third = entry(2, Some(&entry(1, Some(&first), 1)), 2);
    assert_eq!(desk.ask(link, Request::Append(third.clone())), Response::Behind { next: 0 });
    desk.ask(link, Request::Append(first));
    assert_eq!(desk.ask(link, Request::Append(third)), Response::Behind { next: 1 });
    assert_eq!(desk.rows(Table::Entry), 1);
}

#[test]
fn the_same_entry_again_gets_the_same_countersignature() {
    let (mut desk, link) = desk();
    let first = entry(0, None, 0);
    let ack = desk.ask(link, Request::Append(first.clone()));
    desk.ask(link, Request::Append(entry(1, Some(&first), 1)));
    desk.pass(Period::seconds(1));
    assert_eq!(desk.ask(link, Request::Append(first)), ack);
}

#[test]
fn nothing_is_appended_to_a_head_that_is_not_durable() {
    let (mut desk, link) = desk();
    let first = entry(0, None, 0);
    let lane = desk.send(link, Request::Append(first.clone()));
    for request in [entry(1, Some(&first), 1), first.clone(), entry(0, None, 9)] {
        let early = desk.send(link, Request::Append(request));
        assert!(matches!(desk.reply(early), Some((Response::Busy { .. }, false))));
    }
    desk.settle();
    assert!(matches!(desk.reply(lane), Some((Response::Appended(_), _))));
    assert_eq!((desk.rows(Table::Entry), desk.rows(Table::Fork)), (1, 0));
}

#[test]
fn a_fork_is_refused_and_kept_as_evidence() {
    let (mut desk, link) = desk();
    let (first, other) = (entry(0, None, 0), entry(0, None, 1));
    desk.ask(link, Request::Append(first.clone()));
    // The other side at the same place, and one built on top of it.
    for (kept, fork) in [(1, other.clone()), (2, entry(1, Some(&other), 2))] {
        assert_eq!(code(&desk.ask(link, Request::Append(fork))), RefusalCode::Fork);
        assert_eq!(desk.rows(Table::Fork), kept);
    }
    assert!(matches!(desk.notes[..], [.., Note::Refused { .. }]));
    assert!(desk.notes.iter().any(|note| matches!(note, Note::Forked { .. })));
    // The log goes on where it was.
    let next = desk.ask(link, Request::Append(entry(1, Some(&first), 3)));
    assert!(matches!(next, Response::Appended(_)));
}

#[test]
fn evidence_of_forks_is_bounded_however_slow_the_disk() {
    let (mut desk, link) = desk();
    desk.ask(link, Request::Append(entry(0, None, 0)));
    for text in 1..=40 {
        for _ in 0..2 {
            let lane = desk.send(link, Request::Append(entry(0, None, text)));
            assert_eq!(code(&desk.reply(lane).unwrap().0), RefusalCode::Fork);
        }
    }
    assert_eq!(desk.undurable(), 16);
    desk.settle();
    assert_eq!(code(&desk.ask(link, Request::Append(entry(0, None, 50)))), RefusalCode::Fork);
    assert_eq!(desk.rows(Table::Fork), 16);
}

#[test]
fn only_devices_of_the_vault_append() {
    let (mut desk, link) = desk();
    let (node, other) = (desk.node(NEIGHBOUR), desk.device(OTHER_VAULT, OTHER_DEVICE));
    for stranger in [node, other] {
        let response = desk.ask(stranger, Request::Append(entry(0, None, 0)));
        assert_eq!(code(&response), RefusalCode::NotAllowed);
    }
    let unknown = entry_by(VAULT, SECOND_DEVICE, 0, None, 0);
    let response = desk.ask(link, Request::Append(unknown.clone()));
    assert_eq!(code(&response), RefusalCode::NotAllowed);
    // Once its device is known, any other may bring it.
    desk.device(VAULT, SECOND_DEVICE);
    assert!(matches!(desk.ask(link, Request::Append(unknown)), Response::Appended(_)));
}

#[test]
fn a_log_is_read_in_order_from_where_one_likes() {
    let (mut desk, link) = desk();
    let mut previous = None;
    for seq in 0..40 {
        let next = entry(seq, previous.as_ref(), seq as u8);
        desk.ask(link, Request::Append(next.clone()));
        previous = Some(next);
    }
    let reader = desk.node(NEIGHBOUR);
    let vault = public(VAULT).into();
    for (after, from) in [(None, 0), (Some((public(DEVICE).into(), 17)), 18)] {
        let Response::Log { entries, more: false } =
            desk.ask(reader, Request::Log { vault, after })
        else {
            panic!()
        };
        let seqs: Vec<u64> =
            entries.iter().map(|logged| logged.entry.verify().unwrap().seq).collect();
        assert_eq!(seqs, (from..40).collect::<Vec<_>>());
    }
}

#[test]
fn a_page_of_a_log_ends_where_pages_end() {
    let (mut desk, link) = desk();
    let mut previous: Option<Signed<Entry>> = None;
    for seq in 0..40 {
        let session = SessionId([7; 32]);
        let next = Entry {
            vault: public(VAULT).into(),
            device: public(DEVICE).into(),
            seq,
            previous: previous.as_ref().map(entry_id),
            claimed: EPOCH,
            body: Body::Session { session, sealed_key: Blob(vec![0; 60_000]) },
        };
        let next = Signed::sign(&next, &secret(DEVICE));
        desk.ask(link, Request::Append(next.clone()));
        previous = Some(next);
    }
    let (mut after, mut read, mut pages) = (None, 0, 0);
    loop {
        let response = desk.ask(link, Request::Log { vault: public(VAULT).into(), after });
        assert!(response.encode().1.len() < PAGE_LEN + 61_000);
        let Response::Log { entries, more } = response else { panic!("{response:?}") };
        (read, pages) = (read + entries.len() as u64, pages + 1);
        if !more {
            break;
        }
        after = Some((public(DEVICE).into(), read - 1));
    }
    assert_eq!((read, pages), (40, 3));
}

#[test]
fn only_the_vault_itself_says_which_of_its_snapshots_are_forgotten() {
    let (mut desk, link) = desk();
    let forget = |vault: u8| {
        let snapshots = vec![entry_id(&entry(0, None, 0))];
        let forget = Forget { vault: public(vault).into(), issued: EPOCH, snapshots };
        let body = Body::Forget(Signed::sign(&forget, &secret(vault)));
        let entry = Entry { body, ..entry(0, None, 0).verify().unwrap() };
        Request::Append(Signed::sign(&entry, &secret(DEVICE)))
    };
    assert_eq!(code(&desk.ask(link, forget(OTHER_VAULT))), RefusalCode::NotAllowed);
    assert_eq!(code(&desk.ask(link, forget(DEVICE))), RefusalCode::NotAllowed);
    assert!(matches!(desk.ask(link, forget(VAULT)), Response::Appended(_)));
}

#[test]
fn only_the_vault_itself_gives_up_its_stripes() {
    let (mut desk, link) = desk();
    let given_up = |vault: u8, flip: u8| {
        let stripes = vec![StripeId([4; 32])];
        let said = GivenUp { vault: public(vault).into(), number: 0, keep: false, stripes };
        let mut bytes = Signed::sign(&said, &secret(vault)).to_bytes();
        *bytes.last_mut().unwrap() ^= flip;
        let body = Body::GivenUp(Signed::from_bytes(&bytes).unwrap());
        let entry = Entry { body, ..entry(0, None, 0).verify().unwrap() };
        Request::Append(Signed::sign(&entry, &secret(DEVICE)))
    };
    for other in [OTHER_VAULT, DEVICE] {
        assert_eq!(code(&desk.ask(link, given_up(other, 0))), RefusalCode::NotAllowed);
    }
    assert_eq!(code(&desk.ask(link, given_up(VAULT, 1))), RefusalCode::Malformed);
    assert!(matches!(desk.ask(link, given_up(VAULT, 0)), Response::Appended(_)));
}
