//! Shards: put, kept, promised, served, and refused with the bytes discarded.

use super::cast::*;
use super::desk::{Desk, code};
use crate::message::{RefusalCode, Request, Response};
use crate::peer::{Input, LinkId, Note, PeerConfig, Table, Usage};
use crate::policy::Guardians;
use crate::record::{Record, SHARD_LEN_MAX};
use crate::sign::Signed;
use crate::time::Period;

fn config(change: impl FnOnce(&mut PeerConfig)) -> PeerConfig {
    let mut config = PeerConfig::default();
    change(&mut config);
    config
}

fn desk() -> (Desk, LinkId) {
    Desk::with_vault(PeerConfig::default())
}

/// The vault's policy names guardians.
fn guarded_desk() -> (Desk, LinkId) {
    let mut desk = Desk::new();
    let link = desk.device(VAULT, DEVICE);
    let papers = guarded_papers(VAULT, 1, &[NODE, NEIGHBOUR, THIRD]);
    assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
    (desk, link)
}

/// The put is refused, its bytes are discarded and nothing is kept.
fn refused(desk: &mut Desk, link: LinkId, record: &Record, index: u16) -> RefusalCode {
    let (discarded, held) = (desk.discarded, desk.rows(Table::Held));
    let response = desk.put(link, record, index, &shard_bytes(1, index));
    assert_eq!(desk.discarded, discarded + u64::from(SHARD_LEN));
    assert_eq!(desk.rows(Table::Held), held);
    code(&response)
}

fn is_busy(response: Option<(Response, bool)>) -> bool {
    matches!(response, Some((Response::Busy { .. }, false)))
}

#[test]
fn a_put_is_received_then_kept_then_receipted() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    let lane = desk.send_put(link, &record, 0);
    assert_eq!(desk.arriving.get(&lane), Some(&record.stripe.shards[0]));
    assert_eq!((desk.undurable(), desk.reply(lane)), (0, None));
    desk.arrive(lane, &shard_bytes(1, 0));
    assert_eq!(desk.undurable(), 1);
    assert_eq!(desk.reply(lane), None, "no receipt before it is durable");
    assert!(desk.settle_one());
    let Some((Response::Receipt(receipt), false)) = desk.reply(lane) else { panic!() };
    let receipt = receipt.verify().unwrap();
    assert_eq!((receipt.shard, receipt.index), (record.stripe.shards[0], 0));
    assert_eq!(receipt.keep, record.policy.lock.period);
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
}

#[test]
fn what_the_disk_did_not_keep_is_not_promised_and_not_counted() {
    let (mut desk, link) = desk();
    let first = desk.send_put(link, &record(VAULT, DEVICE, 1), 0);
    let second = desk.send_put(link, &record(VAULT, DEVICE, 2), 0);
    desk.arrive(first, &shard_bytes(1, 0));
    desk.arrive(second, &shard_bytes(2, 0));
    assert!(desk.fail_one());
    assert_eq!(code(&desk.reply(first).unwrap().0), RefusalCode::Internal);
    desk.settle();
    assert!(matches!(desk.reply(second), Some((Response::Receipt(_), _))));
    // The second row counted the first shard; the true figure followed.
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
    let response = desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    assert!(matches!(response, Response::Receipt(_)), "it can be put again: {response:?}");
    assert_eq!(desk.usage(VAULT), Usage { bytes: 128, shards: 2 });
}

#[test]
fn bytes_that_are_not_what_the_record_names_are_refused() {
    let (mut desk, link) = desk();
    let response = desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 1));
    assert_eq!(code(&response), RefusalCode::WrongShard);
    let noted = |note: &Note| matches!(note, Note::Refused { key, .. } if *key == public(DEVICE));
    assert!(desk.notes.iter().any(noted), "the log says who sent them");
    assert_eq!((desk.rows(Table::Held), desk.usage(VAULT)), (0, Usage::default()));
}

#[test]
fn bytes_that_never_come_leave_nothing_behind() {
    let (mut desk, link) =
        Desk::with_vault(config(|config| config.inflight_max = u64::from(SHARD_LEN)));
    let lane = desk.send_put(link, &record(VAULT, DEVICE, 1), 0);
    desk.fail_arrival(lane);
    assert_eq!(code(&desk.reply(lane).unwrap().0), RefusalCode::Internal);
    let response = desk.put(link, &record(VAULT, DEVICE, 2), 0, &shard_bytes(2, 0));
    assert!(matches!(response, Response::Receipt(_)), "the way is free: {response:?}");
}

#[test]
fn a_shard_that_the_record_gives_to_another_node_is_refused() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    assert_eq!(refused(&mut desk, link, &record, 1), RefusalCode::NotAllowed);
    assert_eq!(refused(&mut desk, link, &record, 9), RefusalCode::NotAllowed);
    let mut elsewhere = record;
    elsewhere.holders[0] = public(STRANGER).into();
    assert_eq!(refused(&mut desk, link, &elsewhere, 0), RefusalCode::NotAllowed);
}

#[test]
fn a_length_that_is_not_the_records_is_refused() {
    let (mut desk, link) = desk();
    let record = Signed::sign(&record(VAULT, DEVICE, 1), &secret(DEVICE));
    let response = desk.ask(link, Request::Put { record, index: 0, len: SHARD_LEN + 64 });
    assert_eq!(code(&response), RefusalCode::NotAllowed);
    assert_eq!(desk.discarded, u64::from(SHARD_LEN) + 64);
}

#[test]
fn bytes_beyond_the_longest_shard_are_not_even_read() {
    let (mut desk, link) = desk();
    let record = Signed::sign(&record(VAULT, DEVICE, 1), &secret(DEVICE));
    let lane = desk.send(link, Request::Put { record, index: 0, len: SHARD_LEN_MAX + 1 });
    let (response, close) = desk.reply(lane).unwrap();
    assert_eq!((code(&response), close, desk.discarded), (RefusalCode::Malformed, true, 0));
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let (mut desk, link) = desk();
    let mut no_code = record(VAULT, DEVICE, 1);
    no_code.stripe.k = 0;
    assert_eq!(refused(&mut desk, link, &no_code, 0), RefusalCode::Malformed);
    let mut twice = record(VAULT, DEVICE, 1);
    twice.holders[1] = twice.holders[0];
    assert_eq!(refused(&mut desk, link, &twice, 0), RefusalCode::Malformed);
}

#[test]
fn a_node_that_the_roster_does_not_list_takes_nothing() {
    let mut desk = Desk::new();
    let link = desk.device(VAULT, DEVICE);
    let record = record(VAULT, DEVICE, 1);
    assert_eq!(refused(&mut desk, link, &record, 0), RefusalCode::UnknownVault);
    let without = papers(VAULT, 1, &[NEIGHBOUR, THIRD]);
    assert_eq!(desk.ask(link, Request::Introduce(without)), Response::Done);
    assert_eq!(refused(&mut desk, link, &record, 0), RefusalCode::NotAllowed);
}

#[test]
fn another_vaults_record_is_refused() {
    let (mut desk, _) = desk();
    let other = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let foreign = record(VAULT, DEVICE, 1);
    assert_eq!(refused(&mut desk, other, &foreign, 0), RefusalCode::NotAllowed);
}

#[test]
fn a_record_of_a_device_that_is_not_known_is_refused() {
    let (mut desk, link) = desk();
    let unknown = record(VAULT, SECOND_DEVICE, 1);
    assert_eq!(refused(&mut desk, link, &unknown, 0), RefusalCode::NotAllowed);
    desk.device(VAULT, SECOND_DEVICE);
    // Now it is: any device of the vault may bring what another signed.
    let response = desk.put(link, &unknown, 0, &shard_bytes(1, 0));
    assert!(matches!(response, Response::Receipt(_)), "{response:?}");
}

#[test]
fn a_node_replaces_no_record_and_extends_no_lock() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    desk.put(link, &record, 0, &shard_bytes(1, 0));
    let node = desk.node(NEIGHBOUR);
    assert_eq!(code(&replace(&mut desk, node, &moved(2))), RefusalCode::NotAllowed);
    let extend = Request::Extend { vault: record.stripe.vault, stripes: vec![record.stripe.id()] };
    assert_eq!(code(&desk.ask(node, extend)), RefusalCode::NotAllowed);
}

#[test]
fn a_lock_beyond_the_longest_that_the_node_promises_is_refused() {
    let (mut desk, link) = Desk::with_vault(config(|config| config.lock_max = Period::days(30)));
    let mut record = record(VAULT, DEVICE, 1);
    assert_eq!(refused(&mut desk, link, &record, 0), RefusalCode::NotAllowed);
    // Nor does a cooldown without an end keep a shard for ever.
    record.policy.lock.period = Period::days(30);
    record.policy.lock.release_cooldown = Period(u64::MAX);
    assert_eq!(refused(&mut desk, link, &record, 0), RefusalCode::NotAllowed);
    record.policy.lock.release_cooldown = Period::days(30);
    assert!(matches!(desk.put(link, &record, 0, &shard_bytes(1, 0)), Response::Receipt(_)));
}

#[test]
fn a_vault_whose_certificate_has_expired_takes_no_new_data() {
    let mut desk = Desk::new();
    let link = desk.device(VAULT, DEVICE);
    let mut short = papers(VAULT, 1, &[NODE]);
    short.certificate = vault_certificate(OPERATOR, VAULT, EPOCH.after(Period::days(1)));
    assert_eq!(desk.ask(link, Request::Introduce(short)), Response::Done);
    let (first, second) = (record(VAULT, DEVICE, 1), record(VAULT, DEVICE, 2));
    let response = desk.put(link, &first, 0, &shard_bytes(1, 0));
    assert!(matches!(response, Response::Receipt(_)), "{response:?}");
    desk.pass(Period::days(1));
    assert_eq!(refused(&mut desk, link, &second, 0), RefusalCode::NotVouched);
    let response = desk.ask(link, Request::Append(entry(0, None, 0)));
    assert_eq!(code(&response), RefusalCode::NotVouched);
    // What is there is served on.
    let get = Request::Get { shard: first.stripe.shards[0], offset: 0, len: SHARD_LEN };
    assert_eq!(desk.ask(link, get), Response::Bytes { len: SHARD_LEN });
}

#[test]
fn the_quota_counts_what_is_kept_and_what_is_arriving() {
    let (mut desk, link) =
        Desk::with_vault(config(|config| config.quota = 2 * u64::from(SHARD_LEN)));
    let kept = desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    assert!(matches!(kept, Response::Receipt(_)));
    let arriving = desk.send_put(link, &record(VAULT, DEVICE, 2), 0);
    assert_eq!(refused(&mut desk, link, &record(VAULT, DEVICE, 3), 0), RefusalCode::Quota);
    desk.fail_arrival(arriving);
    let response = desk.put(link, &record(VAULT, DEVICE, 3), 0, &shard_bytes(3, 0));
    assert!(matches!(response, Response::Receipt(_)), "there is room again: {response:?}");
}

#[test]
fn a_full_disk_refuses() {
    let (mut desk, link) = desk();
    desk.handle(Input::Space(u64::from(SHARD_LEN) - 1));
    assert_eq!(refused(&mut desk, link, &record(VAULT, DEVICE, 1), 0), RefusalCode::Full);
}

#[test]
fn too_much_at_once_is_told_to_come_later() {
    let (mut desk, link) =
        Desk::with_vault(config(|config| config.inflight_max = u64::from(SHARD_LEN)));
    let first = desk.send_put(link, &record(VAULT, DEVICE, 1), 0);
    let second = desk.send_put(link, &record(VAULT, DEVICE, 2), 0);
    assert!(is_busy(desk.reply(second)));
    assert_eq!(desk.discarded, u64::from(SHARD_LEN));
    desk.arrive(first, &shard_bytes(1, 0));
    desk.settle();
    let second = desk.put(link, &record(VAULT, DEVICE, 2), 0, &shard_bytes(2, 0));
    assert!(matches!(second, Response::Receipt(_)));
}

/// The same stripe with the shards dealt out differently, so that the node is to hold shard 1.
fn dealt_anew() -> Record {
    let mut record = record(VAULT, DEVICE, 1);
    record.holders.swap(0, 1);
    record.version = 2;
    record
}

#[test]
fn a_second_shard_of_a_stripe_is_refused() {
    let (mut desk, link) = desk();
    let kept = desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    assert!(matches!(kept, Response::Receipt(_)));
    assert_eq!(refused(&mut desk, link, &dealt_anew(), 1), RefusalCode::NotAllowed);
}

#[test]
fn two_shards_of_a_stripe_do_not_slip_in_side_by_side() {
    let (mut desk, link) = desk();
    let first = desk.send_put(link, &record(VAULT, DEVICE, 1), 0);
    let second = desk.send_put(link, &dealt_anew(), 1);
    assert!(is_busy(desk.reply(second)), "the first is still arriving");
    desk.arrive(first, &shard_bytes(1, 0));
    desk.settle();
    assert!(matches!(desk.reply(first), Some((Response::Receipt(_), _))));
    assert_eq!(refused(&mut desk, link, &dealt_anew(), 1), RefusalCode::NotAllowed);
}

#[test]
fn one_shard_on_two_lanes_is_kept_and_counted_once() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    let lanes = [(); 2].map(|()| desk.send_put(link, &record, 0));
    assert!(is_busy(desk.reply(lanes[1])));
    desk.arrive(lanes[0], &shard_bytes(1, 0));
    let third = desk.send_put(link, &record, 0);
    assert!(is_busy(desk.reply(third)), "it has come and is not durable yet");
    desk.settle();
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
}

#[test]
fn the_same_put_again_gets_the_same_receipt() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    let first = desk.put(link, &record, 0, &shard_bytes(1, 0));
    desk.pass(Period::seconds(1));
    let again = desk.put(link, &record, 0, &shard_bytes(1, 0));
    assert_eq!(first, again);
    assert_eq!(desk.discarded, u64::from(SHARD_LEN));
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
}

#[test]
fn a_shard_that_the_disk_lost_is_received_anew_when_it_is_put_again() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    let first = desk.put(link, &record, 0, &shard_bytes(1, 0));
    desk.lost.insert(record.stripe.shards[0]);
    desk.pass(Period::seconds(1));
    let lane = desk.send_put(link, &record, 0);
    assert_eq!(desk.reply(lane), None, "no receipt for bytes that are not there");
    assert_eq!(desk.arriving.get(&lane), Some(&record.stripe.shards[0]));
    let second = desk.send_put(link, &record, 0);
    assert!(is_busy(desk.reply(second)), "one lane heals it");
    desk.arrive(lane, &shard_bytes(1, 0));
    assert_eq!(desk.reply(lane), None, "no receipt before it is durable");
    desk.settle();
    assert_eq!(desk.reply(lane), Some((first, false)), "the promise is the one made first");
    assert!(desk.lost.is_empty());
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
}

#[test]
fn healing_that_fails_is_not_promised_and_changes_no_figure() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    desk.put(link, &record, 0, &shard_bytes(1, 0));
    desk.lost.insert(record.stripe.shards[0]);
    let lane = desk.send_put(link, &record, 0);
    desk.arrive(lane, &shard_bytes(1, 1));
    assert_eq!(code(&desk.reply(lane).unwrap().0), RefusalCode::WrongShard);
    let lane = desk.send_put(link, &record, 0);
    desk.arrive(lane, &shard_bytes(1, 0));
    assert!(desk.fail_one());
    assert_eq!(code(&desk.reply(lane).unwrap().0), RefusalCode::Internal);
    desk.handle(Input::Space(u64::from(SHARD_LEN) - 1));
    let response = desk.put(link, &record, 0, &shard_bytes(1, 0));
    assert_eq!(code(&response), RefusalCode::Full);
    assert_eq!(desk.usage(VAULT), Usage { bytes: 64, shards: 1 });
}

#[test]
fn the_same_bytes_as_a_shard_of_another_stripe_are_refused() {
    let (mut desk, link) = desk();
    desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    let mut other = record(VAULT, DEVICE, 2);
    other.stripe.shards[0] = shard_id(&shard_bytes(1, 0));
    assert_eq!(refused(&mut desk, link, &other, 0), RefusalCode::NotAllowed);
}

#[test]
fn readers_are_the_vaults_devices_and_the_nodes_of_its_roster() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    desk.put(link, &record, 0, &shard_bytes(1, 0));
    let get = || Request::Get { shard: record.stripe.shards[0], offset: 2, len: 7 };
    let (listed, unlisted) = (desk.node(NEIGHBOUR), desk.node(50));
    let (second, other) =
        (desk.device(VAULT, SECOND_DEVICE), desk.device(OTHER_VAULT, OTHER_DEVICE));
    for reader in [link, listed, second] {
        assert_eq!(desk.ask(reader, get()), Response::Bytes { len: 7 });
    }
    assert_eq!(desk.transmitted, [(record.stripe.shards[0], 2, 7); 3]);
    let absent = Request::Get { shard: shard_id(&[]), offset: 2, len: 7 };
    for nobody in [unlisted, other] {
        assert_eq!(code(&desk.ask(nobody, get())), RefusalCode::NotHeld);
        assert_eq!(code(&desk.ask(nobody, absent.clone())), RefusalCode::NotHeld);
        let vault = public(VAULT).into();
        for request in [
            Request::Inventory { vault, after: None },
            Request::Log { vault, after: None },
            Request::Records { vault, stripes: vec![record.stripe.id()] },
        ] {
            assert_eq!(code(&desk.ask(nobody, request)), RefusalCode::UnknownVault);
        }
        assert_eq!(desk.ask(nobody, Request::Vault(vault)), Response::Vault(None));
    }
}

#[test]
fn ranges_beyond_the_shard_are_refused() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    desk.put(link, &record, 0, &shard_bytes(1, 0));
    let shard = record.stripe.shards[0];
    for (offset, len) in [(0, SHARD_LEN + 1), (SHARD_LEN, 1), (0, 0), (u32::MAX, 1), (1, u32::MAX)]
    {
        let response = desk.ask(link, Request::Get { shard, offset, len });
        assert_eq!(code(&response), RefusalCode::Malformed, "{len} from {offset}");
    }
    let whole = desk.ask(link, Request::Get { shard, offset: 0, len: SHARD_LEN });
    assert_eq!(whole, Response::Bytes { len: SHARD_LEN });
}

#[test]
fn what_is_not_durable_yet_is_neither_served_nor_shown() {
    let (mut desk, link) = desk();
    let record = record(VAULT, DEVICE, 1);
    let put = desk.send_put(link, &record, 0);
    desk.arrive(put, &shard_bytes(1, 0));
    let get =
        desk.send(link, Request::Get { shard: record.stripe.shards[0], offset: 0, len: SHARD_LEN });
    assert!(is_busy(desk.reply(get)));
    let (vault, stripes) = (record.stripe.vault, vec![record.stripe.id()]);
    let lane = desk.send(link, Request::Records { vault, stripes });
    let Some((Response::Records(records), _)) = desk.reply(lane) else { panic!() };
    assert!(records[0].as_ref().is_none_or(|held| held.receipt.is_none()));
    desk.settle();
    let Response::Inventory { records, more: false } =
        desk.ask(link, Request::Inventory { vault, after: None })
    else {
        panic!()
    };
    assert!(matches!(&records[..], [held] if held.receipt.is_some()));
}

fn replace(desk: &mut Desk, link: LinkId, record: &Record) -> Response {
    desk.ask(link, Request::Replace(Signed::sign(record, &secret(DEVICE))))
}

/// The record that moves the third shard.
fn moved(version: u32) -> Record {
    let mut record = record(VAULT, DEVICE, 1);
    record.holders[2] = public(50).into();
    record.version = version;
    record
}

#[test]
fn a_record_is_replaced_by_newer_versions_only() {
    let (mut desk, link) = desk();
    assert_eq!(code(&replace(&mut desk, link, &moved(2))), RefusalCode::NotHeld);
    desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    assert_eq!(code(&replace(&mut desk, link, &moved(1))), RefusalCode::NotAllowed);
    assert_eq!(replace(&mut desk, link, &moved(3)), Response::Done);
    assert_eq!(replace(&mut desk, link, &moved(3)), Response::Done, "the same again");
    assert_eq!(code(&replace(&mut desk, link, &moved(2))), RefusalCode::NotAllowed);
}

#[test]
fn a_replacement_is_not_done_before_it_is_durable() {
    let (mut desk, link) = desk();
    desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    let request = || Request::Replace(Signed::sign(&moved(2), &secret(DEVICE)));
    let first = desk.send(link, request());
    let again = desk.send(link, request());
    assert_eq!(desk.reply(first), None);
    assert!(is_busy(desk.reply(again)));
    assert!(desk.fail_one());
    assert_eq!(code(&desk.reply(first).unwrap().0), RefusalCode::Internal);
    assert_eq!(desk.ask(link, request()), Response::Done);
}

#[test]
fn a_replacement_never_takes_the_shard_away() {
    let (mut desk, link) = desk();
    desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    let mut without = moved(2);
    without.holders[0] = public(51).into();
    assert_eq!(code(&replace(&mut desk, link, &without)), RefusalCode::NotAllowed);
    assert_eq!(code(&replace(&mut desk, link, &dealt_anew())), RefusalCode::NotAllowed);
}

#[test]
fn a_replacement_never_weakens_the_lock() {
    let (mut desk, link) = guarded_desk();
    let guarded = guarded_record(1);
    desk.put(link, &guarded, 0, &shard_bytes(1, 0));
    let weaker: [fn(&mut Record); 4] = [
        |record| record.policy.lock.period.0 -= 1,
        |record| record.policy.lock.release_cooldown.0 -= 1,
        |record| record.policy.lock.guardians = None,
        |record| record.policy.lock.guardians.as_mut().unwrap().of[0] = public(STRANGER).into(),
    ];
    for weaken in weaker {
        let mut record = Record { version: 2, ..guarded.clone() };
        weaken(&mut record);
        assert_eq!(code(&replace(&mut desk, link, &record)), RefusalCode::NotAllowed);
    }
    let mut longer = Record { version: 2, ..guarded };
    longer.policy.lock.period = Period::days(180);
    assert_eq!(replace(&mut desk, link, &longer), Response::Done);
    let asked = vec![longer.stripe.id()];
    let records = Request::Records { vault: public(VAULT).into(), stripes: asked };
    let Response::Records(records) = desk.ask(link, records) else { panic!("records") };
    let receipt = records[0].as_ref().unwrap().receipt.as_ref().expect("a promise");
    assert_eq!(receipt.verify().unwrap().check_for(&longer, 0), Ok(()));
    let far = Record { version: u32::MAX, ..longer };
    assert_eq!(code(&replace(&mut desk, link, &far)), RefusalCode::NotAllowed);
}

#[test]
fn a_device_names_no_guardians_but_those_of_the_vault() {
    let of_its_own = Some(Guardians { need: 1, of: vec![public(FOREIGN_OPERATOR).into()] });
    let (mut desk, link) = desk();
    desk.put(link, &record(VAULT, DEVICE, 1), 0, &shard_bytes(1, 0));
    let mut replaced = Record { version: 2, ..record(VAULT, DEVICE, 1) };
    replaced.policy.lock.guardians.clone_from(&of_its_own);
    assert_eq!(code(&replace(&mut desk, link, &replaced)), RefusalCode::NotAllowed);
    let mut fresh = record(VAULT, DEVICE, 2);
    fresh.policy.lock.guardians = of_its_own;
    assert_eq!(refused(&mut desk, link, &fresh, 0), RefusalCode::NotAllowed);
    // Those that the vault named for a stripe stay, also when it names others later.
    let (mut desk, link) = guarded_desk();
    desk.put(link, &guarded_record(1), 0, &shard_bytes(1, 0));
    let others = papers(VAULT, 2, &[NODE, NEIGHBOUR, THIRD]);
    assert_eq!(desk.ask(link, Request::Introduce(others)), Response::Done);
    let moved = Record { version: 2, ..guarded_record(1) };
    assert_eq!(replace(&mut desk, link, &moved), Response::Done);
}
