//! Reading what is held: in turn, out of turn, and what becomes of what is damaged.

use super::cast::*;
use super::desk::{Desk, code};
use crate::id::ShardId;
use crate::message::{RefusalCode, Request, Response, ScrubStatus};
use crate::peer::{Input, LinkId, Note, PeerConfig, Table};
use crate::time::Period;

/// A desk that holds shard 0 of so many stripes.
fn desk(stripes: u8) -> (Desk, LinkId, Vec<ShardId>) {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let mut shards = Vec::new();
    for name in 1..=stripes {
        let record = record(VAULT, DEVICE, name);
        let response = desk.put(link, &record, 0, &shard_bytes(name, 0));
        assert!(matches!(response, Response::Receipt(_)), "{response:?}");
        shards.push(record.stripe.shards[0]);
    }
    shards.sort_unstable();
    (desk, link, shards)
}

/// What is to be read next; it is found to be like this.
fn read(desk: &mut Desk, what: Option<&str>) -> ShardId {
    // Between two passes it waits once more.
    for _ in 0..2 {
        if desk.scrubbing.is_empty() {
            desk.wait_until(desk.peer.scrub.poll_timeout().max(desk.now.mono));
            desk.settle();
        }
    }
    let shard = desk.scrubbing.pop_front().expect("something is to be read");
    desk.handle(Input::Scrubbed { shard, what: what.map(Into::into) });
    desk.settle();
    shard
}

fn status(desk: &mut Desk, link: LinkId) -> ScrubStatus {
    let Response::Status(status) = desk.ask(link, Request::Status) else { panic!() };
    status.scrub
}

fn get(desk: &mut Desk, link: LinkId, shard: ShardId) -> Response {
    desk.ask(link, Request::Get { shard, offset: 0, len: SHARD_LEN })
}

fn has_receipt(desk: &mut Desk, link: LinkId, name: u8) -> bool {
    let record = record(VAULT, DEVICE, name);
    let vault = record.stripe.vault;
    let request = Request::Records { vault, stripes: vec![record.stripe.id()] };
    let Response::Records(records) = desk.ask(link, request) else { panic!() };
    records[0].as_ref().expect("a record").receipt.is_some()
}

#[test]
fn everything_is_read_in_turn_again_and_again() {
    let (mut desk, link, shards) = desk(3);
    for _ in 0..2 {
        let turn: Vec<ShardId> = (0..3).map(|_| read(&mut desk, None)).collect();
        assert_eq!(turn, shards);
        assert_eq!(desk.scrubbing.len(), 0);
        // The end of a pass is seen when the next shard would be due.
        desk.wait_until(desk.peer.scrub.poll_timeout());
        desk.settle();
        assert_eq!(status(&mut desk, link).finished, Some(desk.now.wall));
    }
    assert_eq!(status(&mut desk, link).read, 6 * u64::from(SHARD_LEN));
    assert_eq!(desk.rows(Table::Damaged), 0);
}

#[test]
fn after_a_restart_it_goes_on_where_it_was() {
    let (mut desk, _, shards) = desk(3);
    // An hour lies between two shards of so few, and the lock clock is stored before that.
    assert_eq!([read(&mut desk, None), read(&mut desk, None)], shards[..2]);
    desk.pass(Period::seconds(1200));
    desk.settle();
    let mut desk = desk.restart();
    assert_eq!(read(&mut desk, None), shards[2]);
}

#[test]
fn what_is_damaged_is_shown_to_nobody_and_healed_by_whoever_brings_it() {
    let (mut desk, link, shards) = desk(1);
    let record = record(VAULT, DEVICE, 1);
    assert_eq!(read(&mut desk, Some("its bytes were altered")), shards[0]);
    let told = |note: &Note| matches!(note, Note::Damaged { shard, .. } if *shard == shards[0]);
    assert_eq!(desk.notes.iter().filter(|note| told(note)).count(), 1);
    assert_eq!(code(&get(&mut desk, link, shards[0])), RefusalCode::NotHeld);
    assert!(!has_receipt(&mut desk, link, 1));
    assert_eq!(status(&mut desk, link).damaged, 1);

    // What a restart must not forget.
    let mut desk = desk.restart();
    let link = desk.device(VAULT, DEVICE);
    assert_eq!(code(&get(&mut desk, link, shards[0])), RefusalCode::NotHeld);
    // The file has its header and its length, and is not taken for whole all the same.
    let lane = desk.send_put(link, &record, 0);
    assert_eq!(desk.arriving.get(&lane), Some(&shards[0]));
    desk.arrive(lane, &shard_bytes(1, 0));
    desk.settle();
    assert!(matches!(desk.reply(lane), Some((Response::Receipt(_), false))));
    assert_eq!(get(&mut desk, link, shards[0]), Response::Bytes { len: SHARD_LEN });
    assert!(has_receipt(&mut desk, link, 1));
    assert_eq!(desk.rows(Table::Damaged), 0);
    let usage = desk.usage(VAULT);
    assert_eq!((usage.shards, usage.bytes), (1, u64::from(SHARD_LEN)), "counted once");
    // It is read at once, and is damaged again if that was a lie.
    assert_eq!(read(&mut desk, Some("its bytes were altered")), shards[0]);
    let said = status(&mut desk, link);
    assert_eq!((said.damaged, said.healed), (1, 1));
}

#[test]
fn a_disk_that_comes_back_has_its_shards_again() {
    let (mut desk, link, shards) = desk(2);
    let damaged = |desk: &mut Desk| status(desk, link).damaged;
    for _ in 0..4 {
        read(&mut desk, Some("its file is gone"));
    }
    assert_eq!(damaged(&mut desk), 2);
    // All of what is damaged is read again every hour.
    for _ in 0..4 {
        read(&mut desk, None);
    }
    assert_eq!(damaged(&mut desk), 0);
    for shard in shards {
        assert_eq!(get(&mut desk, link, shard), Response::Bytes { len: SHARD_LEN });
    }
}

#[test]
fn what_is_suspected_is_read_next() {
    let (mut desk, _, shards) = desk(3);
    desk.peer.scrub.suspect(shards[2], desk.now.mono);
    assert_eq!(read(&mut desk, None), shards[2]);
    assert_eq!(read(&mut desk, None), shards[0]);
    // Of what is not held nothing is read.
    desk.peer.scrub.suspect(ShardId([9; 32]), desk.now.mono);
    assert_eq!(read(&mut desk, None), shards[1]);
}

#[test]
fn reading_gives_way_to_what_arrives_for_a_while() {
    let (mut desk, link, shards) = desk(1);
    let lane = desk.send_put(link, &record(VAULT, DEVICE, 7), 0);
    for _ in 0..60 {
        desk.wait_until(desk.peer.scrub.poll_timeout().max(desk.now.mono));
        assert_eq!(desk.scrubbing.len(), 0);
    }
    assert_eq!(read(&mut desk, None), shards[0], "not for ever");
    desk.fail_arrival(lane);
    desk.pass(Period::seconds(1));
}
