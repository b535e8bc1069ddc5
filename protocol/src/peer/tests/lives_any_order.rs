//! Whatever is said, by whatever key, in whatever order, whatever the disk loses and however time passes: an oracle that
//! knows only what was said, when, and what was answered, finds for every shard that is given up a release that counted for
//! it, and no promise that is broken by it.

use super::cast::*;
use super::desk::Desk;
use crate::id::{ShardId, StripeId};
use crate::lock_clock::{BootId, LockTime};
use crate::message::{Outcome, Request, Response};
use crate::peer::facts::View;
use crate::peer::{Facts, Held, Input, LaneId, LinkId, PeerConfig, Table, Usage, Write};
use crate::record::Record;
use crate::release::release_id;
use crate::sign::Signed;
use crate::time::{Period, Wall};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};

const STRIPES: u8 = 2;
const LOCK: Period = Period::days(5);
const LONGER: Period = Period::days(9);
const COOLDOWN: Period = Period::days(2);

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Put { stripe: u8, guarded: bool },
    Replace { stripe: u8, version: u32, longer: bool, guarded: bool },
    Extend { by_device: bool },
    Release(Asked),
    Veto { by: usize, asked: Asked },
    Hold { by: usize, number: u64, days: Option<u64> },
    Pass { hours: u64 },
    Durable,
    NotDurable,
    Removed,
    NotRemoved,
    Lost(u8),
    Doubt(bool),
    Restart { lost: u8, another_boot: bool },
    Disconnect,
}

/// A request for the release of all stripes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    by_vault: bool,
    /// Days after the epoch at which it says it was made; it counts for 30.
    day: u64,
    /// Guardians that agree, as bits.
    agree: u8,
}

impl Asked {
    fn issued(self) -> Wall {
        EPOCH.after(Period::days(self.day))
    }

    fn signed(self) -> Signed<crate::release::ReleaseRequest> {
        let stripes: Vec<StripeId> =
            (0..STRIPES).map(|stripe| lay(stripe, true).stripe.id()).collect();
        let signer = if self.by_vault { VAULT } else { OTHER_VAULT };
        release_request(signer, self.issued(), &stripes)
    }

    fn agreeing(self) -> Vec<u8> {
        // The fourth is nobody.
        let all = [GUARDIANS[0], GUARDIANS[1], GUARDIANS[2], STRANGER];
        all.into_iter()
            .enumerate()
            .filter(|(i, _)| self.agree >> i & 1 == 1)
            .map(|(_, k)| k)
            .collect()
    }

    /// Whether it counts, at that time, for what is guarded or not.
    fn counts(self, now: Wall, guarded: bool) -> bool {
        let guardians = self.agreeing().iter().filter(|name| GUARDIANS.contains(name)).count();
        self.by_vault
            && self.issued() <= now.after(Period::days(1))
            && now < self.issued().after(Period::days(30))
            && (!guarded || guardians >= 2)
    }
}

fn lay(stripe: u8, guarded: bool) -> Record {
    let mut record = record(VAULT, DEVICE, stripe);
    record.policy.lock.period = LOCK;
    record.policy.lock.release_cooldown = COOLDOWN;
    if guarded {
        record.policy.lock.guardians = guarded_lock().guardians;
    }
    record
}

fn asked() -> impl Strategy<Value = Asked> {
    (prop::bool::weighted(0.9), 0u64..30, prop_oneof![2 => Just(0b11u8), 1 => 0u8..16])
        .prop_map(|(by_vault, day, agree)| Asked { by_vault, day, agree })
}

fn step() -> impl Strategy<Value = Step> {
    let days = prop_oneof![2 => (0u64..4).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        4 => (0..STRIPES, prop::bool::weighted(0.6))
            .prop_map(|(stripe, guarded)| Step::Put { stripe, guarded }),
        1 => (0..STRIPES, 2u32..4, any::<bool>(), prop::bool::weighted(0.6)).prop_map(
            |(stripe, version, longer, guarded)| Step::Replace { stripe, version, longer, guarded }
        ),
        1 => prop::bool::weighted(0.7).prop_map(|by_device| Step::Extend { by_device }),
        12 => asked().prop_map(Step::Release),
        1 => (0usize..4, asked()).prop_map(|(by, asked)| Step::Veto { by, asked }),
        1 => (0usize..4, 0u64..9, days).prop_map(|(by, number, days)| Step::Hold { by, number, days }),
        12 => (1u64..80).prop_map(|hours| Step::Pass { hours }),
        24 => Just(Step::Durable),
        1 => Just(Step::NotDurable),
        6 => Just(Step::Removed),
        1 => Just(Step::NotRemoved),
        1 => (0..STRIPES).prop_map(Step::Lost),
        1 => prop::bool::weighted(0.2).prop_map(Step::Doubt),
        1 => (0u8..8, any::<bool>())
            .prop_map(|(lost, another_boot)| Step::Restart { lost, another_boot }),
        1 => Just(Step::Disconnect),
    ]
}

/// What was said, with the time at which it arrived.
#[derive(Debug, Clone)]
enum Said {
    /// The stripe is to be kept from then on, for so long.
    Keep {
        stripes: Vec<u8>,
        period: Option<Period>,
        guarded: Option<bool>,
    },
    Release(Asked),
    Veto {
        by: u8,
        asked: Asked,
    },
    Hold {
        by: u8,
        number: u64,
        days: Option<u64>,
    },
}

/// A promise that was answered.
#[derive(Debug, Clone, Copy)]
struct Kept {
    at: Wall,
    until: Wall,
    guarded: bool,
    period: Period,
}

/// Who knows only what was said and what was answered.
#[derive(Debug, Default)]
struct Oracle {
    kept: BTreeMap<u8, Vec<Kept>>,
    /// Everything that ever arrived, whatever became of it.
    releases: Vec<(Wall, Asked)>,
    vetoes: Vec<(Wall, u8, Asked)>,
    /// From when to when a guardian held the vault.
    holds: Vec<(u8, Wall, Wall)>,
    /// When an order to hold first arrived: the same one again is done already, and holds no longer.
    ordered: BTreeMap<(u8, u64), Wall>,
}

impl Oracle {
    fn last(&self, stripe: u8) -> Option<Kept> {
        self.kept.get(&stripe)?.last().copied()
    }

    fn answered(&mut self, at: Wall, said: &Said, response: &Response) {
        match (said, response) {
            (Said::Keep { stripes, .. }, Response::Extended(ends)) => {
                for (stripe, end) in stripes.iter().zip(ends) {
                    let Some(remaining) = *end else { continue };
                    let Some(last) = self.last(*stripe) else { continue };
                    let promised = at.after(remaining);
                    // At most a 64th of the period, or an hour, is left away.
                    let least = at.after(last.period);
                    assert!(promised.0 + Period::seconds(3600).0 >= least.0, "{remaining}");
                    let kept = Kept { at, until: promised, ..last };
                    self.kept.get_mut(stripe).unwrap().push(kept);
                }
            }
            (Said::Keep { stripes, period, guarded }, Response::Receipt(_) | Response::Done) => {
                let stripe = stripes[0];
                let last = self.last(stripe);
                // Nobody heard how it was put before: what is claimed for it is the least that can be.
                let period = period.or(last.map(|last| last.period)).unwrap_or(LOCK);
                let guarded = guarded.unwrap_or(false) || last.is_some_and(|last| last.guarded);
                // As above: what is left away is no more than this.
                let slack = period.0 / 64;
                let until = Wall(at.after(period).0 - slack.min(3_600_000));
                self.kept.entry(stripe).or_default().push(Kept { at, until, guarded, period });
            }
            (Said::Veto { by, asked }, Response::Done) => self.vetoes.push((at, *by, *asked)),
            (Said::Hold { by, number, days }, Response::Done) => {
                let at = self.ordered.get(&(*by, *number)).copied().unwrap_or(at);
                let running = self.holds.iter_mut().filter(|hold| hold.0 == *by && hold.2 > at);
                match days {
                    Some(days) => self.holds.push((*by, at, at.after(Period::days(*days)))),
                    None => running.for_each(|hold| hold.2 = at),
                }
            }
            _ => {}
        }
    }

    /// The shard of a stripe is given up now: checks that it may be.
    fn check(&self, stripe: u8, now: Wall) -> Result<(), String> {
        let kept = self.kept.get(&stripe).map_or(&[][..], Vec::as_slice);
        let until = kept.iter().map(|kept| kept.until).max().unwrap_or_default();
        if now < until {
            return Err(format!("stripe {stripe} is locked until {until:?}, now {now:?}"));
        }
        let explains = |(at, asked): &&(Wall, Asked)| {
            let guarded = kept.iter().any(|kept| kept.guarded);
            let is_after = kept.iter().all(|kept| kept.at <= *at && kept.until <= *at);
            let release = release_id(&asked.signed());
            let vetoed = guarded
                && self.vetoes.iter().any(|(when, by, vetoed)| {
                    *when <= now
                        && GUARDIANS.contains(by)
                        && release_id(&vetoed.signed()) == release
                });
            let held = guarded && self.holds.iter().any(|(_, from, to)| *from <= now && *to >= *at);
            asked.counts(*at, guarded) && is_after && at.after(COOLDOWN) <= now && !vetoed && !held
        };
        match self.releases.iter().find(explains) {
            Some(_) => Ok(()),
            None => Err(format!("nothing released stripe {stripe} by {now:?}: {self:?}")),
        }
    }
}

struct Story {
    desk: Desk,
    device: LinkId,
    node: LinkId,
    said: BTreeMap<LaneId, (Wall, Said)>,
    oracle: Oracle,
    /// What was given up and is still there.
    ending: BTreeSet<ShardId>,
    ends: BTreeMap<ShardId, LockTime>,
    boot: u8,
    doubt: bool,
    dropped: usize,
}

fn config(boot: u8) -> PeerConfig {
    PeerConfig { boot: BootId([boot; 16]), ..PeerConfig::default() }
}

fn shard_of(stripe: u8) -> ShardId {
    shard_id(&shard_bytes(stripe, 0))
}

impl Story {
    fn new() -> Self {
        let mut desk = Desk::with(config(0));
        let device = desk.device(VAULT, DEVICE);
        let papers = guarded_papers(VAULT, 1, &[NODE, NEIGHBOUR, THIRD]);
        assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
        let node = desk.node(NEIGHBOUR);
        let (said, oracle) = (BTreeMap::new(), Oracle::default());
        let (ending, ends) = (BTreeSet::new(), BTreeMap::new());
        Self { desk, device, node, said, oracle, ending, ends, boot: 0, doubt: false, dropped: 0 }
    }

    fn say(&mut self, link: LinkId, request: Request, said: Said) {
        let lane = self.desk.send(link, request);
        if let Said::Release(asked) = &said {
            self.oracle.releases.push((self.desk.now.wall, *asked));
        }
        self.said.insert(lane, (self.desk.now.wall, said));
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        let leaving = self.desk.leaving.len();
        match *step {
            Step::Put { stripe, guarded } => {
                // Put again, it is kept as its record says and not as this one does.
                let held = View { facts: &self.desk.facts, overlay: &self.desk.peer.overlay }
                    .held(shard_of(stripe))
                    .unwrap();
                let lane = self.desk.send_put(self.device, &lay(stripe, guarded), 0);
                let at = self.desk.now.wall;
                self.desk.arrive(lane, &shard_bytes(stripe, 0));
                let is_new = held.is_none();
                let period = is_new.then_some(LOCK);
                let guarded = is_new.then_some(guarded);
                self.said.insert(lane, (at, Said::Keep { stripes: vec![stripe], period, guarded }));
            }
            Step::Replace { stripe, version, longer, guarded } => {
                let mut record = lay(stripe, guarded);
                record.version = version;
                if longer {
                    record.policy.lock.period = LONGER;
                }
                let period = Some(record.policy.lock.period);
                let request = Request::Replace(Signed::sign(&record, &secret(DEVICE)));
                let before = self.desk.undurable();
                let link = self.device;
                let said = Said::Keep { stripes: vec![stripe], period, guarded: Some(guarded) };
                self.say(link, request, said);
                if self.desk.undurable() == before {
                    // The same again, which is done already and asks for nothing.
                    let lane = *self.said.keys().next_back().unwrap();
                    self.said.remove(&lane);
                }
            }
            Step::Extend { by_device } => {
                let link = if by_device { self.device } else { self.node };
                let stripes: Vec<u8> = (0..STRIPES).collect();
                let ids = stripes.iter().map(|&stripe| lay(stripe, true).stripe.id()).collect();
                let request = Request::Extend { vault: public(VAULT).into(), stripes: ids };
                self.say(link, request, Said::Keep { stripes, period: None, guarded: None });
            }
            Step::Release(asked) => {
                let request = asked.signed();
                let approvals = approve(&request, &asked.agreeing());
                let link = if asked.day % 2 == 0 { self.device } else { self.node };
                let request = Request::Release { request, approvals, from: 0 };
                self.say(link, request, Said::Release(asked));
            }
            Step::Veto { by, asked } => {
                let by = [GUARDIANS[0], GUARDIANS[1], GUARDIANS[2], STRANGER][by];
                self.say(self.node, veto(&asked.signed(), by), Said::Veto { by, asked });
            }
            Step::Hold { by, number, days } => {
                let by = [GUARDIANS[0], GUARDIANS[1], GUARDIANS[2], STRANGER][by];
                let order = hold(by, number, days.map(Period::days));
                let now = self.desk.now.wall;
                let _ = self.oracle.ordered.entry((by, number)).or_insert(now);
                self.say(self.node, order, Said::Hold { by, number, days });
            }
            Step::Pass { hours } => self.desk.pass(Period::seconds(hours * 3600)),
            Step::Durable => {
                self.desk.settle_one();
            }
            Step::NotDurable => {
                self.desk.fail_one();
            }
            Step::Removed => {
                self.dropped += usize::from(self.desk.remove_one());
            }
            Step::NotRemoved => {
                self.desk.fail_removal();
            }
            Step::Lost(stripe) => {
                self.desk.lost.insert(shard_of(stripe));
            }
            Step::Doubt(doubt) => {
                self.doubt = doubt;
                self.desk.handle(Input::Doubt(doubt.then(|| "doubt".into())));
            }
            Step::Restart { lost, another_boot } => self.restart(lost, another_boot),
            Step::Disconnect => {
                self.desk.handle(Input::Disconnected(self.node));
                self.node = self.desk.connect(public(NEIGHBOUR), false);
                self.desk.send_greeting(self.node, node_greeting(OPERATOR, NEIGHBOUR));
            }
        }
        if self.doubt && self.desk.leaving.len() > leaving {
            return Err("something is dropped while there is doubt".into());
        }
        self.hear();
        self.check()
    }

    fn restart(&mut self, lost: u8, another_boot: bool) {
        self.boot += u8::from(another_boot);
        let mut facts = self.desk.facts.clone();
        let tables: &[Table] = match lost {
            // As when rows are made again, and as when the clock went with them.
            1 => &[Table::Life],
            2 => &[Table::Life, Table::LockClock],
            _ => &[],
        };
        for &table in tables {
            let rows = facts.scan(table, &[], None, usize::MAX).unwrap();
            facts.apply(
                rows.into_iter().map(|(key, _)| Write { table, key, value: None }).collect(),
            );
            self.ends.clear();
        }
        let now = self.desk.now;
        let gone = self.desk.lost.clone();
        self.desk = Desk::of(NODE, facts, config(self.boot), now);
        self.desk.lost = gone;
        (self.doubt, self.ending) = (false, BTreeSet::new());
        self.said.clear();
        self.device = self.desk.device(VAULT, DEVICE);
        self.node = self.desk.node(NEIGHBOUR);
        // What was decided and durable was checked then.
        self.note_ending(|_, _| Ok(())).unwrap();
    }

    /// Takes in what was answered.
    fn hear(&mut self) {
        let lanes: Vec<LaneId> = self.said.keys().copied().collect();
        for lane in lanes {
            if let Some((response, _)) = self.desk.reply(lane) {
                let (at, said) = self.said.remove(&lane).unwrap();
                self.oracle.answered(at, &said, &response);
                if let Response::Released(released) = &response {
                    for (_, outcome) in &released.outcomes {
                        let Outcome::Cooling { remaining } = outcome else { continue };
                        assert!(*remaining <= COOLDOWN);
                    }
                }
            }
        }
    }

    fn note_ending(
        &mut self,
        check: impl Fn(&Oracle, u8) -> Result<(), String>,
    ) -> Result<(), String> {
        for stripe in 0..STRIPES {
            let shard = shard_of(stripe);
            let view = View { facts: &self.desk.facts, overlay: &self.desk.peer.overlay };
            let (life, held) = (view.life(shard).unwrap(), view.held(shard).unwrap());
            let is_ending = life.as_ref().is_some_and(|life| life.decided().is_some());
            if is_ending && self.ending.insert(shard) {
                check(&self.oracle, stripe)?;
            }
            if !is_ending && self.ending.remove(&shard) && held.is_none() {
                // Gone for good: whatever comes now is another one.
                self.oracle.kept.remove(&stripe);
                self.ends.remove(&shard);
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let now = self.desk.now.wall;
        self.note_ending(|oracle, stripe| oracle.check(stripe, now))?;
        for (key, bytes) in self.desk.facts.scan(Table::Life, &[], None, usize::MAX).unwrap() {
            let life: crate::life::Life = super::desk::decode(&bytes);
            let shard = ShardId(key.try_into().unwrap());
            let end = self.ends.entry(shard).or_default();
            if life.locked_until() < *end {
                return Err(format!("the lock of {shard} was shortened"));
            }
            *end = life.locked_until();
        }
        Ok(())
    }

    /// Once all is decided, what is counted is what is held.
    fn check_end(&mut self) -> Result<(), String> {
        self.desk.settle();
        self.hear();
        self.check()?;
        let rows = self.desk.facts.scan(Table::Held, &[], None, usize::MAX).unwrap();
        let held: Vec<Held> = rows.iter().map(|(_, bytes)| super::desk::decode(bytes)).collect();
        let bytes = held.iter().map(|held| u64::from(held.len)).sum();
        let usage = Usage { bytes, shards: held.len() as u64 };
        assert_eq!(self.desk.usage(VAULT), usage);
        let counted = self.desk.months(VAULT).held();
        let counted = Usage { bytes: counted.bytes, shards: counted.shards };
        assert_eq!(counted, usage, "what its months come to");
        assert!(self.desk.peer.overlay.is_empty() && self.desk.peer.pending.is_empty());
        Ok(())
    }
}

fn play(steps: &[Step]) -> Result<usize, String> {
    let mut story = Story::new();
    for step in steps {
        story.take(step).map_err(|error| format!("{error}, after {step:?}"))?;
    }
    story.check_end()?;
    Ok(story.dropped)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_that_is_locked_is_given_up(steps in prop::collection::vec(step(), 0..150)) {
        prop_assert_eq!(play(&steps).err(), None);
    }
}

/// The test above would show little if shards were never dropped in it.
#[test]
fn many_a_story_drops_something() {
    let mut runner = TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 150);
    let dropped = (0..100)
        .filter(|_| {
            let steps = steps.new_tree(&mut runner).unwrap().current();
            play(&steps).unwrap() > 0
        })
        .count();
    assert!(dropped >= 10, "{dropped} of 100");
}

#[test]
fn a_record_is_not_taken_on_top_of_a_shard_that_may_still_fail() {
    use Step::{Durable, NotDurable, Pass, Put, Release, Replace};
    let asked = Asked { by_vault: true, day: 0, agree: 3 };
    let all = || std::iter::repeat_n(Durable, 20);
    let mut steps = vec![Put { stripe: 1, guarded: false }];
    steps.extend(all());
    // The lock is over, the shard cools, and its file is gone.
    steps.extend([Step::Lost(1), Pass { hours: 130 }]);
    steps.extend(all());
    steps.push(Release(asked));
    steps.extend(all());
    // It is put again, which fails, and with that its lock.
    steps.extend([Put { stripe: 1, guarded: false }]);
    steps.extend([Replace { stripe: 1, version: 2, longer: false, guarded: false }, NotDurable]);
    steps.extend(all());
    steps.push(Pass { hours: 60 });
    assert_eq!(play(&steps), Ok(0));
}
