//! Whatever comes, goes, fails and is cut off in a partner's vault, in whatever order: at each moment usage and months, as they are stored, are
//! what a model finds that has seen durable receipts come and go, and never is more held than was given.

use super::cast::*;
use super::desk::{Desk, decode};
use super::partners::{SHARD, holding, its_device};
use crate::id::ShardId;
use crate::message::Request;
use crate::peer::{Facts, Held, Input, LinkId, PeerConfig, Table, Usage};
use crate::record::{Receipt, Record};
use crate::sign::Signed;
use crate::tally::{Amount, Month};
use crate::time::{Period, Wall};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;

const STRIPES: u8 = 5;
/// So many shards are given.
const GIVEN: u64 = 3;
const LOCK: Period = Period::days(2);
const LONGER: Period = Period::days(4);
const COOLDOWN: Period = Period::days(1);

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    /// The stripe is to be kept for longer, by a new promise.
    Renew(u8),
    Read(u8),
    Release,
    Pass {
        hours: u64,
    },
    Durable,
    NotDurable,
    Removed,
    NotRemoved,
    /// The bytes are gone, and come anew with the next put.
    Lost(u8),
    Killed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..STRIPES).prop_map(Step::Put),
        1 => (0..STRIPES).prop_map(Step::Renew),
        1 => (0..STRIPES).prop_map(Step::Read),
        4 => Just(Step::Release),
        6 => (1u64..60).prop_map(|hours| Step::Pass { hours }),
        16 => Just(Step::Durable),
        1 => Just(Step::NotDurable),
        5 => Just(Step::Removed),
        1 => Just(Step::NotRemoved),
        1 => (0..STRIPES).prop_map(Step::Lost),
        2 => Just(Step::Killed),
    ]
}

fn lay(stripe: u8, lock: Period) -> Record {
    let mut record = record(VAULT, DEVICE, stripe);
    record.policy.lock.period = lock;
    record.policy.lock.release_cooldown = COOLDOWN;
    record
}

fn shard_of(stripe: u8) -> ShardId {
    shard_id(&shard_bytes(stripe, 0))
}

/// What receipts show: each shard from when its receipt says until it went.
#[derive(Debug, Default)]
struct Model {
    here: BTreeMap<ShardId, Receipt>,
    stayed: Vec<(u64, Wall, Wall)>,
    /// When files were removed last.
    removed: BTreeMap<ShardId, Wall>,
}

impl Model {
    fn see(&mut self, desk: &Desk) {
        let rows = desk.facts.scan(Table::Held, &[], None, usize::MAX).unwrap();
        let held: BTreeMap<ShardId, Receipt> = rows
            .into_iter()
            .map(|(key, bytes)| {
                let held: Held = decode(&bytes);
                (ShardId(key.try_into().unwrap()), held.receipt.verify().unwrap())
            })
            .collect();
        for (shard, receipt) in &self.here {
            let until = match held.get(shard) {
                Some(same) if same == receipt => continue,
                Some(renewed) => renewed.received,
                None => self.removed[shard],
            };
            self.stayed.push((receipt.len.into(), receipt.received, until));
        }
        self.here = held;
    }

    fn held(&self) -> Amount {
        let shards = self.here.len() as u64;
        Amount { shards, bytes: shards * SHARD }
    }

    fn byte_ms(&self, month: Month) -> u128 {
        let inside = |time: Wall| time.0.clamp(month.start().0, month.end().0);
        let span = |len: u64, from: Wall, until: Wall| {
            u128::from(len) * u128::from(inside(until) - inside(from))
        };
        let here = self.here.values();
        let here = here.map(|r| span(r.len.into(), r.received, Wall(u64::MAX)));
        here.chain(self.stayed.iter().map(|&(len, from, until)| span(len, from, until))).sum()
    }
}

struct Story {
    desk: Desk,
    device: LinkId,
    model: Model,
}

impl Story {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Put(stripe) => {
                let lane = self.desk.send_put(self.device, &lay(stripe, LOCK), 0);
                self.desk.arrive(lane, &shard_bytes(stripe, 0));
            }
            Step::Renew(stripe) => {
                let record = Record { version: 2, ..lay(stripe, LONGER) };
                let record = Signed::sign(&record, &secret(DEVICE));
                let _ = self.desk.send(self.device, Request::Replace(record));
            }
            Step::Read(stripe) => {
                let shard = shard_of(stripe);
                let _ = self.desk.send(self.device, Request::Get { shard, offset: 0, len: 8 });
            }
            Step::Release => {
                let ids: Vec<_> = (0..STRIPES).map(|s| lay(s, LOCK).stripe.id()).collect();
                let request = release_request(VAULT, self.desk.now.wall, &ids);
                let request = Request::Release { request, approvals: vec![], from: 0 };
                let _ = self.desk.send(self.device, request);
            }
            Step::Pass { hours } => self.desk.pass(Period::seconds(hours * 3600)),
            Step::Durable => {
                self.desk.settle_one();
            }
            Step::NotDurable => {
                self.desk.fail_one();
            }
            Step::Removed => {
                if let Some(&shard) = self.desk.leaving.front() {
                    self.model.removed.insert(shard, self.desk.now.wall);
                    self.desk.remove_one();
                }
            }
            Step::NotRemoved => {
                self.desk.fail_removal();
            }
            Step::Lost(stripe) => {
                self.desk.lost.insert(shard_of(stripe));
            }
            Step::Killed => self.restart(),
        }
        self.check();
    }

    /// What was not durable is gone, and all that was in memory.
    fn restart(&mut self) {
        let lost = self.desk.lost.clone();
        let (now, facts) = (self.desk.now, self.desk.facts.clone());
        self.desk = Desk::of(NODE, facts, PeerConfig::default(), now);
        self.desk.lost = lost;
        self.device = its_device(&mut self.desk);
    }

    fn check(&mut self) {
        self.model.see(&self.desk);
        assert!(self.model.held().bytes <= GIVEN * SHARD, "more than was given");
        let months = self.desk.months(VAULT);
        let Usage { bytes, shards } = self.desk.usage(VAULT);
        assert_eq!(Amount { shards, bytes }, self.model.held());
        assert_eq!(months.held(), self.model.held());
        for month in months.months() {
            let said = months.figures(month, month.end()).byte_ms;
            assert_eq!(said, self.model.byte_ms(month), "{month}: {:?}", self.model);
        }
    }

    fn settle(&mut self) {
        self.desk.gone.clear();
        self.desk.settle();
        let gone = std::mem::take(&mut self.desk.gone);
        self.model.removed.extend(gone.into_iter().map(|shard| (shard, self.desk.now.wall)));
    }

    /// Neither the next exchange nor a restart changes anything.
    fn end(&mut self) {
        for _ in 0..2 {
            self.settle();
            self.desk.pass(PeerConfig::default().exchange_period);
            self.settle();
            self.check();
            self.restart();
        }
    }
}

/// How many shards went.
fn play(steps: &[Step]) -> usize {
    let (desk, device) = holding(GIVEN * SHARD);
    let mut story = Story { desk, device, model: Model::default() };
    for step in steps {
        story.take(step);
    }
    story.desk.handle(Input::Space(u64::MAX));
    story.end();
    story.model.stayed.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn months_are_what_receipts_that_come_and_go_show(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let _ = play(&steps);
    }
}

/// The test above would show little if nothing went in it.
#[test]
fn in_many_a_story_something_goes() {
    let mut runner = TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 120);
    let went = (0..40).filter(|_| play(&steps.new_tree(&mut runner).unwrap().current()) > 0);
    let went = went.count();
    assert!(went >= 10, "{went} of 40");
}
