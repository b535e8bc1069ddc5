//! Stories of stand-ins: which shards a node takes from another one, and what it promises by that.

use super::cast::*;
use super::desk::{Desk, code};
use crate::certificate::DeviceRevocation;
use crate::given_up::GivenUp;
use crate::log::{Body, Entry};
use crate::message::{HeldRecord, RefusalCode, Request, Response};
use crate::peer::{LinkId, Usage};
use crate::record::Record;
use crate::sign::Signed;
use crate::time::Period;

const FOURTH: u8 = 5;
const LOST: u8 = 6;

/// The node is listed, and the record names others.
fn desk() -> (Desk, LinkId, LinkId) {
    let (mut desk, device) = Desk::with_vault(crate::peer::PeerConfig::default());
    let node = desk.node(NEIGHBOUR);
    (desk, device, node)
}

fn elsewhere(stripe: u8) -> Record {
    let holders = [NEIGHBOUR, THIRD, LOST].map(|name| public(name).into()).to_vec();
    Record { holders, ..record(VAULT, DEVICE, stripe) }
}

fn shown(desk: &mut Desk, link: LinkId, record: &Record) -> HeldRecord {
    let (vault, stripes) = (record.stripe.vault, vec![record.stripe.id()]);
    let Response::Records(mut found) = desk.ask(link, Request::Records { vault, stripes }) else {
        panic!("records")
    };
    found.pop().flatten().expect("a record")
}

#[test]
fn a_listed_node_takes_what_another_one_rebuilt_and_shows_it() {
    let (mut desk, device, node) = desk();
    let record = elsewhere(1);
    let response = desk.put(node, &record, 2, &shard_bytes(1, 2));
    let Response::Receipt(receipt) = response else { panic!("{response:?}") };
    let said = receipt.verify().unwrap();
    assert_eq!((said.holder, said.index), (desk.peer.node(), 2));
    assert_eq!(said.check_kept(&record, 2), Ok(()));
    assert_eq!(shown(&mut desk, node, &record).receipt, Some(receipt.clone()));
    let inventory = Request::Inventory { vault: record.stripe.vault, after: None };
    let Response::Inventory { records, .. } = desk.ask(device, inventory) else { panic!() };
    assert_eq!(records[0].receipt, Some(receipt.clone()));
    let get = Request::Get { shard: record.stripe.shards[2], offset: 0, len: SHARD_LEN };
    assert_eq!(desk.ask(device, get), Response::Bytes { len: SHARD_LEN });
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
    // It outlives a restart.
    let mut desk = desk.restart();
    let node = desk.node(NEIGHBOUR);
    assert_eq!(shown(&mut desk, node, &record).receipt, Some(receipt));
}

#[test]
fn papers_of_a_thief_end_neither_repair_nor_backups() {
    let (mut desk, device, node) = desk();
    let known = [NODE, NEIGHBOUR, THIRD];
    let named = guarded_papers(VAULT, 2, &known);
    assert_eq!(desk.ask(device, Request::Introduce(named)), Response::Done);
    // Who has the vault's key names no guardians any more, and lists nobody.
    assert_eq!(desk.ask(device, Request::Introduce(papers(VAULT, 3, &[]))), Response::Done);
    let holders = [NEIGHBOUR, THIRD, LOST].map(|name| public(name).into()).to_vec();
    let put = desk.put(node, &Record { holders, ..guarded_record(1) }, 2, &shard_bytes(1, 2));
    assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    let put = desk.put(device, &guarded_record(2), 0, &shard_bytes(2, 0));
    assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    // Guardians that the vault never named are refused as before.
    let mut record = guarded_record(3);
    record.policy.lock.guardians.as_mut().unwrap().need = 1;
    let put = desk.put(device, &record, 0, &shard_bytes(3, 0));
    assert_eq!(code(&put), RefusalCode::NotAllowed);
}

#[test]
fn the_shard_of_a_stand_in_is_locked_and_extended_like_any_other() {
    let (mut desk, device, node) = desk();
    let record = elsewhere(1);
    let _ = desk.put(node, &record, 2, &shard_bytes(1, 2));
    let (vault, stripe) = (record.stripe.vault, record.stripe.id());
    let release = |desk: &Desk| {
        let request = release_request(VAULT, desk.now.wall, &[stripe]);
        Request::Release { request, approvals: Vec::new(), from: 0 }
    };
    desk.pass(Period::days(10));
    let asked = release(&desk);
    let Response::Released(released) = desk.ask(device, asked) else { panic!("an outcome") };
    let left = Period::days(80);
    let locked = crate::message::Outcome::Locked { remaining: left };
    assert_eq!(released.outcomes, [(stripe, locked)]);
    // Another node brings it again: it keeps what it promised, and promises no more.
    let again = desk.put(node, &record, 2, &shard_bytes(1, 2));
    assert!(matches!(again, Response::Receipt(_)), "{again:?}");
    let asked = release(&desk);
    let Response::Released(released) = desk.ask(device, asked) else { panic!("an outcome") };
    assert_eq!(released.outcomes, [(stripe, crate::message::Outcome::Locked { remaining: left })]);
    let extend = Request::Extend { vault, stripes: vec![stripe] };
    let extended = desk.ask(device, extend);
    assert_eq!(extended, Response::Extended(vec![Some(Period::days(90))]));
    // A new record may move other shards.
    let moved = Record { version: 2, ..record.clone() };
    let replace = Request::Replace(Signed::sign(&moved, &secret(DEVICE)));
    assert_eq!(desk.ask(device, replace), Response::Done);
    let mut moved = Record { version: 3, ..record };
    moved.holders[0] = public(NODE).into();
    let replace = Request::Replace(Signed::sign(&moved, &secret(DEVICE)));
    assert_eq!(code(&desk.ask(device, replace)), RefusalCode::NotAllowed);
}

#[test]
fn a_lost_file_of_a_stand_in_is_healed_by_another_node() {
    let (mut desk, _, node) = desk();
    let record = elsewhere(1);
    let first = desk.put(node, &record, 2, &shard_bytes(1, 2));
    desk.lost.insert(record.stripe.shards[2]);
    desk.pass(Period::seconds(1));
    assert_eq!(desk.put(node, &record, 2, &shard_bytes(1, 2)), first);
    assert!(desk.lost.is_empty());
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
}

#[test]
fn a_node_takes_one_shard_of_a_stripe_whoever_brings_it() {
    let (mut desk, device, node) = desk();
    let record = elsewhere(1);
    let _ = desk.put(node, &record, 2, &shard_bytes(1, 2));
    let second = desk.put(node, &record, 1, &shard_bytes(1, 1));
    assert_eq!(code(&second), RefusalCode::NotAllowed);
    let mut given = Record { version: 2, ..record };
    given.holders[0] = public(NODE).into();
    let by_device = desk.put(device, &given, 0, &shard_bytes(1, 0));
    assert_eq!(code(&by_device), RefusalCode::NotAllowed);
    // Its own shard counts as well.
    let own = crate::peer::tests::cast::record(VAULT, DEVICE, 2);
    let _ = desk.put(device, &own, 0, &shard_bytes(2, 0));
    let more = desk.put(node, &own, 1, &shard_bytes(2, 1));
    assert_eq!(code(&more), RefusalCode::NotAllowed);
}

#[test]
fn who_lost_its_own_shard_takes_it_back_from_another_node() {
    let (mut desk, _, node) = desk();
    let own = record(VAULT, DEVICE, 1);
    let back = desk.put(node, &own, 0, &shard_bytes(1, 0));
    let Response::Receipt(receipt) = back else { panic!("{back:?}") };
    assert_eq!(receipt.verify().unwrap().check_for(&own, 0), Ok(()));
}

#[test]
fn strangers_and_wrong_bytes_are_refused_and_what_a_device_wrote_is_taken_after_its_revocation() {
    let (mut desk, device, node) = desk();
    let record = elsewhere(1);
    let unlisted = desk.node(FOURTH);
    let refused = desk.put(unlisted, &record, 2, &shard_bytes(1, 2));
    assert_eq!(code(&refused), RefusalCode::NotAllowed);
    let wrong = desk.put(node, &record, 2, &shard_bytes(1, 1));
    assert_eq!(code(&wrong), RefusalCode::WrongShard);
    // A device does not make a stand-in of a node that its record does not name.
    let by_device = desk.put(device, &record, 2, &shard_bytes(1, 2));
    assert_eq!(code(&by_device), RefusalCode::NotAllowed);
    let unknown = Record { device: public(SECOND_DEVICE).into(), ..record.clone() };
    let refused = desk.put(node, &unknown, 2, &shard_bytes(1, 2));
    assert_eq!(code(&refused), RefusalCode::NotAllowed);
    let mut other = record.clone();
    other.stripe.vault = public(OTHER_VAULT).into();
    let refused = desk.put(node, &other, 2, &shard_bytes(1, 2));
    assert_eq!(code(&refused), RefusalCode::UnknownVault);
    let mut long = record.clone();
    long.policy.lock.period = Period::days(4000);
    let refused = desk.put(node, &long, 2, &shard_bytes(1, 2));
    assert_eq!(code(&refused), RefusalCode::NotAllowed);
    for index in [3, 9, u16::MAX] {
        assert_eq!(code(&desk.put(node, &record, index, &[])), RefusalCode::NotAllowed);
    }
    assert_eq!(desk.usage(VAULT), Usage::default());

    let second = desk.device(VAULT, SECOND_DEVICE);
    let (vault, revoked) = (public(VAULT).into(), public(DEVICE).into());
    let order = DeviceRevocation { vault, device: revoked, issued: EPOCH };
    let revoke = Request::Revoke(Signed::sign(&order, &secret(VAULT)));
    assert_eq!(desk.ask(second, revoke), Response::Done);
    assert!(matches!(desk.put(node, &record, 2, &shard_bytes(1, 2)), Response::Receipt(_)));
    let refused = desk.put(device, &self::record(VAULT, DEVICE, 3), 0, &shard_bytes(3, 0));
    assert_eq!(code(&refused), RefusalCode::NotAllowed, "it brings nothing itself");
}

#[test]
fn what_was_given_up_or_is_being_released_is_not_taken_from_a_node() {
    let (mut desk, device, node) = desk();
    let (given_up, released) = (elsewhere(1), record(VAULT, DEVICE, 2));
    let vault = public(VAULT).into();
    let stripes = vec![given_up.stripe.id()];
    let said = GivenUp { vault, number: 0, keep: false, stripes };
    let entry = Entry {
        vault,
        device: public(DEVICE).into(),
        seq: 0,
        previous: None,
        claimed: EPOCH,
        body: Body::GivenUp(Signed::sign(&said, &secret(VAULT))),
    };
    let append = Request::Append(Signed::sign(&entry, &secret(DEVICE)));
    assert!(matches!(desk.ask(device, append), Response::Appended(_)));
    let refused = desk.put(node, &given_up, 2, &shard_bytes(1, 2));
    assert_eq!(code(&refused), RefusalCode::NotAllowed);
    // This one is dropped here by a release, and then comes back from a node that has not heard of it.
    let _ = desk.put(device, &released, 0, &shard_bytes(2, 0));
    desk.pass(Period::days(91));
    let request = release_request(VAULT, desk.now.wall, &[released.stripe.id()]);
    let asked = Request::Release { request, approvals: Vec::new(), from: 0 };
    assert!(matches!(desk.ask(device, asked), Response::Released(_)));
    desk.pass(Period::days(7));
    desk.settle();
    desk.pass(Period::seconds(60));
    desk.settle();
    assert_eq!(desk.gone, [released.stripe.shards[0]]);
    let refused = desk.put(node, &released, 0, &shard_bytes(2, 0));
    assert_eq!(code(&refused), RefusalCode::NotAllowed);
}
