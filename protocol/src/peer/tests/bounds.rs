//! What stolen keys cannot do to a vault's papers, its devices and the space of its holders.

use super::cast::*;
use super::desk::{Desk, code};
use crate::certificate::{DeviceRevocation, VaultPapers};
use crate::codec::Blob;
use crate::id::SessionId;
use crate::log::{Body, Entry, entry_id};
use crate::message::{RefusalCode, Request, Response};
use crate::peer::ledger::DEVICES_MAX;
use crate::peer::{LinkId, PeerConfig, Table};
use crate::sign::Signed;
use crate::time::{Period, Wall};

fn revocation(device: u8, by: u8) -> Request {
    let order =
        DeviceRevocation { vault: public(by).into(), device: public(device).into(), issued: EPOCH };
    Request::Revoke(Signed::sign(&order, &secret(by)))
}

fn papers_of(desk: &mut Desk, link: LinkId) -> VaultPapers {
    match desk.ask(link, Request::Vault(public(VAULT).into())) {
        Response::Vault(Some(state)) => state.papers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_on_its_way_when_its_device_is_revoked_is_not_taken() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let second = desk.device(VAULT, SECOND_DEVICE);
    let lane = desk.send_put(link, &record(VAULT, DEVICE, 1), 0);
    let other = desk.send_put(second, &record(VAULT, DEVICE, 2), 0);
    assert_eq!(desk.ask(second, revocation(DEVICE, VAULT)), Response::Done);
    desk.arrive(lane, &shard_bytes(1, 0));
    desk.arrive(other, &shard_bytes(2, 0));
    desk.settle();
    for lane in [lane, other] {
        let (response, _) = desk.reply(lane).expect("a put is answered");
        assert_eq!(code(&response), RefusalCode::NotAllowed);
    }
    assert_eq!(desk.rows(Table::Held), 0);
}

#[test]
fn a_revoked_device_writes_no_more_and_what_it_wrote_stays() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let second = desk.device(VAULT, SECOND_DEVICE);
    let first = entry(0, None, 0);
    assert!(matches!(desk.ask(link, Request::Append(first.clone())), Response::Appended(_)));
    assert!(matches!(
        desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0)),
        Response::Receipt(_)
    ));
    assert_eq!(desk.ask(second, revocation(DEVICE, VAULT)), Response::Done);
    assert_eq!(desk.ask(second, revocation(DEVICE, VAULT)), Response::Done);

    let mut desk = desk.restart();
    let (link, second) = (desk.device(VAULT, DEVICE), desk.device(VAULT, SECOND_DEVICE));
    let next = entry(1, Some(&first), 1);
    for sender in [link, second] {
        let appended = desk.ask(sender, Request::Append(next.clone()));
        assert_eq!(code(&appended), RefusalCode::NotAllowed);
        let put = desk.put(sender, &record(VAULT, DEVICE, 2), 0, &shard_bytes(2, 0));
        assert_eq!(code(&put), RefusalCode::NotAllowed);
    }
    let papers = papers(VAULT, 2, &[NODE]);
    assert_eq!(code(&desk.ask(link, Request::Introduce(papers))), RefusalCode::NotAllowed);
    // It reads, as anybody does who restores, and gets the countersignature that it had.
    assert!(matches!(desk.ask(link, Request::Append(first)), Response::Appended(_)));
    let get = Request::Get { shard: record(VAULT, DEVICE, 1).stripe.shards[0], offset: 0, len: 64 };
    assert!(matches!(desk.ask(link, get), Response::Bytes { .. }));
    assert_eq!((desk.rows(Table::Entry), desk.rows(Table::Held)), (1, 1));
    let Response::Vault(Some(state)) = desk.ask(second, Request::Vault(public(VAULT).into()))
    else {
        panic!("the vault is known")
    };
    assert_eq!((state.devices.len(), state.revoked.len()), (2, 1));
    // Others write on.
    let put = desk.put(second, &record(VAULT, SECOND_DEVICE, 3), 0, &shard_bytes(3, 0));
    assert!(matches!(put, Response::Receipt(_)));
}

#[test]
fn only_the_vault_revokes() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    assert_eq!(code(&desk.ask(link, revocation(DEVICE, OTHER_VAULT))), RefusalCode::NotAllowed);
    let node = desk.node(NEIGHBOUR);
    assert_eq!(code(&desk.ask(node, revocation(DEVICE, VAULT))), RefusalCode::NotAllowed);
    assert_eq!(desk.rows(Table::Revoked), 0);
}

#[test]
fn a_device_that_never_came_is_revoked_too() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    assert_eq!(desk.ask(link, revocation(SECOND_DEVICE, VAULT)), Response::Done);
    let late = desk.device(VAULT, SECOND_DEVICE);
    let put = desk.put(late, &record(VAULT, SECOND_DEVICE, 1), 0, &shard_bytes(1, 0));
    assert_eq!(code(&put), RefusalCode::NotAllowed);
}

#[test]
fn a_device_beyond_those_that_are_kept_reads_and_does_not_write() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    // All that somebody with the vault's key certified.
    let vault: crate::id::VaultId = public(VAULT).into();
    let certificate = device_certificate(VAULT, STRANGER, EXPIRY);
    let flood = (1..DEVICES_MAX).map(|i| {
        let device = *blake3::hash(&i.to_le_bytes()).as_bytes();
        crate::peer::Write::device(vault, crate::id::DeviceId(device), &certificate)
    });
    desk.facts.apply(flood.collect());
    let late = desk.device(VAULT, SECOND_DEVICE);
    assert_eq!(desk.rows(Table::Device), DEVICES_MAX);
    let get = Request::Get { shard: record(VAULT, DEVICE, 1).stripe.shards[0], offset: 0, len: 64 };
    assert!(matches!(desk.ask(late, get), Response::Bytes { .. }));
    let put = desk.put(late, &record(VAULT, SECOND_DEVICE, 2), 0, &shard_bytes(2, 0));
    assert_eq!(code(&put), RefusalCode::NotAllowed);
    // Those known are known as before.
    desk.device(VAULT, DEVICE);
}

#[test]
fn the_operators_word_for_a_vault_is_prolonged_and_never_cut_short() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let with = |expires: Wall| VaultPapers {
        certificate: vault_certificate(OPERATOR, VAULT, expires),
        ..papers(VAULT, 1, &[NODE, NEIGHBOUR, THIRD])
    };
    let ends = |desk: &mut Desk| papers_of(desk, link).certificate.verify().unwrap().expires;
    let soon = EPOCH.after(Period::days(1));
    assert_eq!(desk.ask(link, Request::Introduce(with(soon))), Response::Done);
    assert_eq!(ends(&mut desk), EXPIRY);
    let late = EXPIRY.after(Period::days(1));
    assert_eq!(desk.ask(link, Request::Introduce(with(late))), Response::Done);
    assert_eq!(ends(&mut desk), late);
}

#[test]
fn no_version_of_the_papers_is_the_last_for_ever() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    for version in [u64::MAX, 1 << 40] {
        let far = papers(VAULT, version, &[NODE]);
        assert_eq!(code(&desk.ask(link, Request::Introduce(far))), RefusalCode::NotAllowed);
    }
    let next = papers(VAULT, 9, &[NODE, NEIGHBOUR]);
    assert_eq!(desk.ask(link, Request::Introduce(next)), Response::Done);
    assert_eq!(papers_of(&mut desk, link).roster.verify().unwrap().version, 9);
}

/// Appends entries as large as they may be until one is refused; says how many there are.
fn flood(
    desk: &mut Desk,
    link: LinkId,
    previous: &mut Option<Signed<Entry>>,
    seq: &mut u64,
) -> u64 {
    let before = *seq;
    loop {
        let body =
            Body::Session { session: SessionId([7; 32]), sealed_key: Blob(vec![0; 60 << 10]) };
        let entry = Entry {
            vault: public(VAULT).into(),
            device: public(DEVICE).into(),
            seq: *seq,
            previous: previous.as_ref().map(entry_id),
            claimed: EPOCH,
            body,
        };
        let entry = Signed::sign(&entry, &secret(DEVICE));
        match desk.ask(link, Request::Append(entry.clone())) {
            Response::Appended(_) => (*previous, *seq) = (Some(entry), *seq + 1),
            refused => {
                assert_eq!(code(&refused), RefusalCode::Quota);
                return *seq - before;
            }
        }
    }
}

#[test]
fn a_flood_of_log_entries_ends_and_a_day_later_there_is_room_again() {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let (mut previous, mut seq) = (None, 0);
    let at_once = flood(&mut desk, link, &mut previous, &mut seq);
    assert!((4000..4400).contains(&at_once), "{at_once} entries of 60 KiB");
    desk.pass(Period::days(1));
    let a_day_later = flood(&mut desk, link, &mut previous, &mut seq);
    assert!((1000..1100).contains(&a_day_later), "{a_day_later} entries of 60 KiB");
}

#[test]
fn a_vault_adds_no_more_in_a_day_than_the_node_allows() {
    let growth_per_day = Some(2 * u64::from(SHARD_LEN));
    let config = PeerConfig { growth_per_day, ..PeerConfig::default() };
    let (mut desk, link) = Desk::with_vault(config);
    let put = |desk: &mut Desk, name: u8| {
        desk.put(link, &record(VAULT, DEVICE, name), 0, &shard_bytes(name, 0))
    };
    for name in 1..=2 {
        assert!(matches!(put(&mut desk, name), Response::Receipt(_)));
    }
    assert_eq!(code(&put(&mut desk, 3)), RefusalCode::Quota);
    // What is held already costs nothing.
    assert!(matches!(put(&mut desk, 1), Response::Receipt(_)));
    desk.pass(Period::days(1));
    assert!(matches!(put(&mut desk, 3), Response::Receipt(_)));
}
