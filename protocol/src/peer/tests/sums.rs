//! Sums of what is held, compared with all that is read.

use super::cast::*;
use super::desk::{Desk, code};
use crate::id::{ShardId, VaultId};
use crate::message::{RefusalCode, Request, Response, ScrubStatus};
use crate::peer::{Input, LinkId, Note, PeerConfig, Table, Usage, Write};
use crate::time::Wall;

const LEN: u64 = SHARD_LEN as u64;

fn usage(shards: u64) -> Usage {
    Usage { bytes: shards * LEN, shards }
}

fn vault() -> VaultId {
    public(VAULT).into()
}

/// A desk that holds shard 0 of so many stripes, and these in order.
fn desk(stripes: u8) -> (Desk, LinkId, Vec<ShardId>) {
    let (mut desk, link) = Desk::with_vault(PeerConfig::default());
    let mut shards: Vec<ShardId> = (1..=stripes).map(|name| put(&mut desk, link, name)).collect();
    shards.sort_unstable();
    (desk, link, shards)
}

fn put(desk: &mut Desk, link: LinkId, name: u8) -> ShardId {
    let record = record(VAULT, DEVICE, name);
    let response = desk.put(link, &record, 0, &shard_bytes(name, 0));
    assert!(matches!(response, Response::Receipt(_)), "{response:?}");
    record.stripe.shards[0]
}

fn status(desk: &mut Desk) -> ScrubStatus {
    let (link, _) = desk.greet(80, console_greeting_at(NODE, 80, desk.now.wall));
    let Response::Status(status) = desk.ask(link, Request::Status) else { panic!() };
    status.scrub
}

/// The next shard is read.
fn read(desk: &mut Desk) {
    for _ in 0..3 {
        if desk.scrubbing.is_empty() {
            desk.wait_until(desk.peer.scrub.poll_timeout().max(desk.now.mono));
            desk.settle();
        }
    }
    let shard = desk.scrubbing.pop_front().expect("something is to be read");
    desk.handle(Input::Scrubbed { shard, what: None });
    desk.settle();
}

/// Reads on to the end of the pass, and lets two exchanges pass.
fn end_pass(desk: &mut Desk) {
    let finished = |desk: &mut Desk| -> Option<Wall> { status(desk).finished };
    let before = finished(desk);
    while finished(desk) == before {
        if let Some(shard) = desk.scrubbing.pop_front() {
            desk.handle(Input::Scrubbed { shard, what: None });
        } else {
            desk.wait_until(desk.peer.scrub.poll_timeout().max(desk.now.mono));
        }
        desk.settle();
    }
    exchange(desk);
    exchange(desk);
}

fn exchange(desk: &mut Desk) {
    desk.pass(PeerConfig::default().exchange_period);
    desk.settle();
}

fn miscounts(desk: &Desk) -> Vec<(Usage, Usage)> {
    let notes = desk.notes.iter().filter_map(|note| match note {
        Note::Miscounted { vault: of, kept, counted } => {
            assert_eq!(*of, vault());
            Some((*kept, *counted))
        }
        _ => None,
    });
    notes.collect()
}

fn plant(desk: &mut Desk, write: Write) {
    desk.facts.apply(vec![write]);
}

#[test]
fn a_wrong_sum_is_found_in_a_pass_said_and_corrected() {
    let (mut desk, ..) = desk(3);
    end_pass(&mut desk);
    assert_eq!((miscounts(&desk), status(&mut desk).miscounted), (vec![], 0));

    plant(&mut desk, Write::more(vault(), usage(2)));
    end_pass(&mut desk);
    assert_eq!(miscounts(&desk), [(usage(5), usage(3))]);
    assert_eq!((desk.usage(VAULT), desk.rows(Table::Miscounted)), (usage(3), 1));
    // What a restart does not forget.
    let mut desk = desk.restart();
    assert_eq!(status(&mut desk).miscounted, 1);
    end_pass(&mut desk);
    assert_eq!((miscounts(&desk), status(&mut desk).miscounted), (vec![], 0));
    assert_eq!(desk.rows(Table::Miscounted), 0);
}

#[test]
fn a_wrong_sum_keeps_nobody_out_for_longer_than_a_pass() {
    let (mut desk, ..) = desk(3);
    let full = Usage { bytes: PeerConfig::default().quota, shards: 1 };
    plant(&mut desk, Write::more(vault(), full));
    // It goes by what it finds at its start, its months too.
    let mut desk = desk.restart();
    let link = desk.device(VAULT, DEVICE);
    let response = desk.put(link, &record(VAULT, DEVICE, 9), 0, &shard_bytes(9, 0));
    assert_eq!(code(&response), RefusalCode::Quota);

    end_pass(&mut desk);
    assert_eq!(miscounts(&desk).len(), 1);
    put(&mut desk, link, 9);
    assert_eq!(desk.usage(VAULT), usage(4));
    let months = desk.months(VAULT).held();
    assert_eq!(Usage { bytes: months.bytes, shards: months.shards }, usage(4));
    end_pass(&mut desk);
    assert_eq!(miscounts(&desk).len(), 1);
}

#[test]
fn what_is_too_little_is_found_too_where_nothing_is_held_as_well() {
    let (mut desk, ..) = desk(3);
    plant(&mut desk, Write::less(vault(), usage(1)));
    end_pass(&mut desk);
    assert_eq!(miscounts(&desk), [(usage(2), usage(3))]);

    let (mut desk, _) = Desk::with_vault(PeerConfig::default());
    plant(&mut desk, Write::more(vault(), usage(1)));
    let mut desk = desk.restart();
    desk.wait_until(desk.peer.scrub.poll_timeout());
    exchange(&mut desk);
    assert_eq!(miscounts(&desk), [(usage(1), usage(0))]);
    assert_eq!(desk.usage(VAULT), usage(0));
}

#[test]
fn what_comes_and_goes_while_all_is_read_is_counted_once() {
    let (mut desk, link, shards) = desk(6);
    for _ in 0..3 {
        read(&mut desk);
        exchange(&mut desk);
    }
    // Some of these lie before what was read, some behind it.
    let new: Vec<ShardId> = (20..32).map(|name| put(&mut desk, link, name)).collect();
    let is_early = |shard: &&ShardId| **shard < shards[3];
    let early = new.iter().filter(is_early).count();
    assert!(early > 0 && early < new.len(), "{early}");
    end_pass(&mut desk);
    assert_eq!((miscounts(&desk), desk.usage(VAULT)), (vec![], usage(18)));
}

#[test]
fn a_pass_that_a_restart_cut_in_two_counts_all() {
    let (mut desk, ..) = desk(6);
    for _ in 0..4 {
        read(&mut desk);
    }
    plant(&mut desk, Write::less(vault(), usage(2)));
    let mut desk = desk.restart();
    end_pass(&mut desk);
    assert_eq!(miscounts(&desk), [(usage(4), usage(6))]);
    assert_eq!(desk.usage(VAULT), usage(6));
}

#[test]
fn what_is_being_written_is_waited_for() {
    let (mut desk, link, _) = desk(2);
    let lane = desk.send_put(link, &record(VAULT, DEVICE, 9), 0);
    desk.arrive(lane, &shard_bytes(9, 0));
    plant(&mut desk, Write::more(vault(), usage(1)));
    // It is durable, and the peer does not know yet: what it reads then could be either.
    while desk.undurable() > 1 {
        desk.settle_one();
    }
    desk.commit_one();
    desk.peer.sums.end_pass();
    desk.pass(PeerConfig::default().exchange_period);
    assert_eq!(miscounts(&desk), []);
    desk.settle();
    exchange(&mut desk);
    assert_eq!(miscounts(&desk), [(usage(4), usage(3))]);
    assert_eq!(desk.usage(VAULT), usage(3));
}
