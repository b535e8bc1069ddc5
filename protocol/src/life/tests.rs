//! Stories, and any sequence of events against a naive oracle that only knows what was said and when.

use super::*;
use crate::hold::{Arrival, HoldOrder};
use crate::id::VaultId;
use crate::policy::Guardians;
use crate::release::{Approval, Release, ReleaseRequest, accepts, release_id};
use crate::sign::{SecretKey, Signed};
use crate::time::Wall;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const HOUR: u64 = 3_600_000;
const NOW: Wall = Wall(1_793_000_000_000);
const STRIPE: StripeId = StripeId([3; 32]);
const LONGEST: Period = Period::days(400);

/// Keys: 0 is the vault's, 1 to 3 and 4 to 6 are two sets of guardians, 7 is a stranger's.
fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn guardian(seed: u8) -> OperatorId {
    key(seed).public().into()
}

fn vault() -> VaultId {
    key(0).public().into()
}

fn guardians(of: &[u8], need: u32) -> Option<Guardians> {
    Some(Guardians { need, of: of.iter().map(|&seed| guardian(seed)).collect() })
}

/// Everybody and everything that a shard meets.
struct Game {
    life: Life,
    holds: Holds,
    now: Reading,
    vetoes: Vec<Signed<Veto>>,
}

impl Game {
    fn new(lock: &Lock) -> Self {
        let now = Reading { at: LockTime(HOUR), is_frozen: false };
        let life = Life::receive(STRIPE, lock, now, LONGEST).unwrap();
        Self { life, holds: Holds::default(), now, vetoes: Vec::new() }
    }

    fn state(&self) -> State {
        self.life.state(self.now, &self.holds)
    }

    /// Time passes, and whether the shard is dropped then.
    fn pass(&mut self, period: Period) -> bool {
        self.now.at = self.now.at.after(period);
        self.life.tick(self.now, &self.holds).is_some()
    }

    /// A request of this key arrives with the approvals of these.
    fn release(&mut self, asked: &Asked) -> Result<(), String> {
        let request = asked.signed();
        let id = release_id(&request);
        let approve = |&seed: &u8| {
            let approval =
                Approval { guardian: guardian(seed), release: id, expires: NOW.after(Period(1)) };
            Signed::sign(&approval, &key(seed))
        };
        let approvals: Vec<_> = asked.approvals.iter().map(approve).collect();
        let is_of = |veto: &&Signed<Veto>| veto.verify().is_ok_and(|veto| veto.release == id);
        let vetoes: Vec<_> = self.vetoes.iter().filter(is_of).cloned().collect();
        let text = |error: &dyn std::error::Error| error.to_string();
        let release = Release::verify(&request, &approvals, &vetoes).map_err(|e| text(&e))?;
        let accepted = accepts((vault(), STRIPE), self.life.lock(), &release, NOW);
        let accepted = accepted.map_err(|e| text(&e))?;
        self.life.release(&accepted, self.now, &self.holds).map_err(|e| text(&e)).map(|_| ())
    }

    fn veto(&mut self, seed: u8, release: ReleaseId) -> Result<bool, LifeError> {
        let veto = Veto { guardian: guardian(seed), release };
        let signed = Signed::sign(&veto, &key(seed));
        if !self.vetoes.contains(&signed) {
            self.vetoes.push(signed);
        }
        self.life.veto(&veto)
    }

    fn hold(&mut self, seed: u8, number: u64, period: Option<Period>) -> bool {
        let order = HoldOrder { vault: vault(), guardian: guardian(seed), number, period };
        let signed = Signed::sign(&order, &key(seed));
        let all: Vec<OperatorId> = (1..=6).map(guardian).collect();
        let (vault, guardians, at) = (vault(), &all[..], self.now.at);
        let arrival = Arrival { vault, guardians, is_further: false, at, wall: NOW };
        self.holds.follow(&signed, &arrival).is_ok()
    }
}

/// A release that somebody asks for.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    /// Whose key signs: the vault that is named is that key's.
    signer: u8,
    /// Tells requests apart.
    issued: u64,
    names_it: bool,
    approvals: Vec<u8>,
}

impl Asked {
    fn well(issued: u64, approvals: &[u8]) -> Self {
        Self { signer: 0, issued, names_it: true, approvals: approvals.to_vec() }
    }

    fn signed(&self) -> Signed<ReleaseRequest> {
        let stripe = if self.names_it { STRIPE } else { StripeId([4; 32]) };
        let issued = Wall(NOW.0 - 1000 + self.issued);
        let request = ReleaseRequest {
            vault: key(self.signer).public().into(),
            issued,
            expires: issued.after(Period::days(30)),
            stripes: vec![StripeId([1; 32]), stripe],
        };
        Signed::sign(&request, &key(self.signer))
    }

    fn id(&self) -> ReleaseId {
        release_id(&self.signed())
    }
}

fn guarded() -> Lock {
    Lock { guardians: guardians(&[1, 2, 3], 2), ..Lock::default() }
}

fn day(n: u64) -> LockTime {
    LockTime(HOUR).after(Period::days(n))
}

#[test]
fn a_shard_goes_one_way_and_only_with_a_release() {
    let mut game = Game::new(&guarded());
    let asked = Asked::well(1, &[1, 2]);
    assert_eq!(game.state(), State::Locked { until: day(90) });
    assert!(game.release(&asked).unwrap_err().contains("locked"));
    assert!(!game.pass(Period::days(90)));
    assert_eq!(game.state(), State::Releasable);
    // An owner who vanishes keeps the data.
    assert!(!game.pass(Period::days(40_000)));
    assert!(game.release(&Asked::well(1, &[1])).unwrap_err().contains("2 are needed"));
    game.release(&asked).unwrap();
    let until = game.now.at.after(Period::days(7));
    assert_eq!(game.state(), State::Cooling { release: asked.id(), until });
    assert!(!game.pass(Period(7 * 24 * HOUR - 1)));
    // The same again neither hurries it nor holds it up; another one does not either.
    game.release(&asked).unwrap();
    assert!(game.release(&Asked::well(2, &[1, 2])).unwrap_err().contains("running already"));
    assert!(game.pass(Period(1)));
    assert_eq!(game.state(), State::Dropped);
    assert!(!game.pass(Period(1)));
    assert_eq!(game.life.extend(&guarded(), game.now, LONGEST), Err(LifeError::Dropped));
    assert!(game.release(&asked).is_err());
}

#[test]
fn a_lock_grows_only_and_its_guardians_stay() {
    let mut game = Game::new(&guarded());
    let weak = Lock { period: Period(0), release_cooldown: Period(0), guardians: None };
    game.life.extend(&weak, game.now, LONGEST).unwrap();
    let others = Lock { guardians: guardians(&[4, 5, 6], 1), ..weak.clone() };
    game.life.extend(&others, game.now, LONGEST).unwrap();
    assert_eq!((game.life.lock(), game.state()), (&guarded(), State::Locked { until: day(90) }));
    game.pass(Period::days(30));
    let slower = Lock { release_cooldown: Period::days(20), ..guarded() };
    game.life.extend(&slower, game.now, LONGEST).unwrap();
    assert_eq!((game.life.lock(), game.state()), (&slower, State::Locked { until: day(120) }));
    // What is cooling is locked again by whoever still refers to it.
    game.pass(Period::days(90));
    game.release(&Asked::well(1, &[1, 2])).unwrap();
    game.life.extend(&weak, game.now, LONGEST).unwrap();
    assert_eq!(game.state(), State::Releasable);
    assert!(!game.pass(Period::days(100)));
}

#[test]
fn a_stolen_device_key_asks_for_no_more_than_the_holder_promises() {
    let now = Reading { at: day(0), is_frozen: false };
    let ask = |lock: &Lock| Life::receive(STRIPE, lock, now, LONGEST).map(|_| ());
    assert_eq!(ask(&Lock { period: LONGEST, ..Lock::default() }), Ok(()));
    let too_long =
        |what| Err(LifeError::TooLong { what, asked: Period(u64::MAX), longest: LONGEST });
    assert_eq!(ask(&Lock { period: Period(u64::MAX), ..Lock::default() }), too_long(Span::Lock));
    let cooling = Lock { release_cooldown: Period(u64::MAX), ..Lock::default() };
    assert_eq!(ask(&cooling), too_long(Span::Cooldown));
    // Whoever wrote the policy is told which of its values is meant.
    let text = ask(&cooling).unwrap_err().to_string();
    assert!(text.starts_with("a release_cooldown of "), "{text}");
    let mut game = Game::new(&guarded());
    let forever = Lock { period: Period(u64::MAX), ..guarded() };
    assert_eq!(game.life.extend(&forever, now, LONGEST), too_long(Span::Lock));
    assert_eq!(game.state(), State::Locked { until: day(90) });
}

#[test]
fn one_guardian_stops_a_release_for_ever() {
    let mut game = Game::new(&guarded());
    game.pass(Period::days(90));
    let asked = Asked::well(1, &[1, 2]);
    game.release(&asked).unwrap();
    assert_eq!(game.veto(7, asked.id()), Err(LifeError::NoGuardian(guardian(7))));
    assert!(matches!(game.state(), State::Cooling { .. }));
    assert_eq!(game.veto(3, asked.id()), Ok(true));
    assert_eq!(game.state(), State::Releasable);
    assert!(game.release(&asked).unwrap_err().contains("stopped"));
    assert!(!game.pass(Period::days(30)));
    game.release(&Asked::well(2, &[1, 2])).unwrap();
    assert!(game.pass(Period::days(7)));
}

#[test]
fn a_panic_hold_stops_what_is_cooling_and_what_was_about_to() {
    let mut game = Game::new(&guarded());
    game.pass(Period::days(90));
    game.release(&Asked::well(1, &[1, 2])).unwrap();
    game.pass(Period::days(6));
    assert!(game.hold(3, 1, Some(Period::days(10))));
    assert!(!game.pass(Period::days(10)));
    assert!(matches!(game.state(), State::Locked { .. }), "at its end it is not over yet");
    assert!(!game.pass(Period(1)));
    assert_eq!(game.state(), State::Releasable);
    // It began a cooldown of its own once; that one is void.
    assert!(!game.pass(Period::days(30)));
    game.release(&Asked::well(1, &[1, 2])).unwrap();
    assert!(game.hold(3, 2, Some(Period::days(1))) && game.hold(3, 3, None));
    assert!(!game.pass(Period::days(30)));
}

#[test]
fn a_frozen_clock_drops_and_releases_nothing() {
    let mut game = Game::new(&guarded());
    game.pass(Period::days(90));
    game.now.is_frozen = true;
    assert!(game.release(&Asked::well(1, &[1, 2])).unwrap_err().contains("frozen"));
    game.now.is_frozen = false;
    game.release(&Asked::well(1, &[1, 2])).unwrap();
    game.now.is_frozen = true;
    assert!(!game.pass(Period::days(8)));
    game.now.is_frozen = false;
    assert!(game.pass(Period(0)));
}

/// What happens to a shard.
#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Freeze(bool),
    Extend { days: u64, cooldown: u64, guardians: u8 },
    Release(Asked),
    Veto { seed: u8, asked: Asked },
    Hold { seed: u8, number: u64, days: Option<u64> },
}

/// Mostly what is about to be acted upon: a request that would do, and guardians.
fn asked() -> impl Strategy<Value = Asked> {
    let approvals = prop_oneof![
        6 => Just(vec![1, 2]),
        1 => Just(vec![4, 5, 6]),
        2 => prop::collection::vec(0u8..8, 0..5),
    ];
    let signer = prop_oneof![12 => Just(0u8), 1 => 1u8..8];
    (signer, 0..3u64, prop::bool::weighted(0.95), approvals).prop_map(
        |(signer, issued, names_it, approvals)| Asked { signer, issued, names_it, approvals },
    )
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let days = || prop_oneof![4 => 0..20u64, 2 => 20..120u64, 1 => 390..420u64];
    let event = prop_oneof![
        8 => days().prop_map(|days| Event::Pass(days * 24 * HOUR)),
        2 => (0..3u64).prop_map(Event::Pass),
        1 => any::<bool>().prop_map(Event::Freeze),
        1 => (days(), days(), 0..3u8)
            .prop_map(|(days, cooldown, guardians)| Event::Extend { days, cooldown, guardians }),
        7 => asked().prop_map(Event::Release),
        1 => (0..8u8, asked()).prop_map(|(seed, asked)| Event::Veto { seed, asked }),
        2 => (prop_oneof![4 => 1..4u8, 1 => 0..8u8], 0..60u64, prop::option::of(0..9u64))
            .prop_map(|(seed, number, days)| Event::Hold { seed, number, days }),
    ];
    prop::collection::vec(event, 0..60)
}

/// What was said, and when: nothing is ever concluded from it before it is asked for.
#[derive(Default)]
struct Oracle {
    /// Asked at, period, cooldown, guardians.
    promises: Vec<(u64, u64, u64, u8)>,
    /// When, and what.
    accepted: Vec<(u64, Asked)>,
    /// By whom, and what.
    vetoes: Vec<(u8, Asked)>,
    /// By whom, its number, when and for how long.
    orders: Vec<(u8, u64, u64, Option<u64>)>,
    /// The vetoes and extensions since the last release was accepted.
    disturbed: bool,
    dropped: bool,
}

const DAY: u64 = 24 * HOUR;

impl Oracle {
    /// The guardians that count: those of the first promise that names any.
    fn of(&self) -> Vec<u8> {
        match self.promises.iter().map(|promise| promise.3).find(|set| *set > 0) {
            None => vec![],
            Some(1) => vec![1, 2, 3],
            Some(_) => vec![4, 5, 6],
        }
    }

    fn ended(&self, at: u64) -> bool {
        self.promises.iter().all(|&(asked, period, ..)| at >= asked + period)
    }

    /// Whether a hold of a guardian that counts was on at some moment from `from` on: each order moves the end of its
    /// guardian's hold.
    fn held_since(&self, from: u64) -> bool {
        self.of().into_iter().any(|guardian| {
            let (mut last, mut end) = (None, None);
            for &(seed, number, at, days) in &self.orders {
                if seed != guardian || last.is_some_and(|last| number <= last) {
                    continue;
                }
                last = Some(number);
                end = match days {
                    Some(days) => end.max(Some(at + days.min(30) * DAY)),
                    None => Some(end.unwrap_or(0).min(at)),
                };
            }
            end.is_some_and(|end| end >= from)
        })
    }

    fn is_valid(&self, asked: &Asked) -> bool {
        let of = self.of();
        let agree = of.iter().filter(|seed| asked.approvals.contains(seed)).count();
        let is_same = |other: &Asked| {
            (other.signer, other.issued, other.names_it)
                == (asked.signer, asked.issued, asked.names_it)
        };
        let stopped = self.vetoes.iter().any(|(seed, other)| of.contains(seed) && is_same(other));
        let enough = of.is_empty() || agree >= 2;
        asked.signer == 0 && asked.names_it && enough && !stopped
    }

    /// The release that is running.
    fn running(&self) -> Option<&(u64, Asked)> {
        self.accepted.last().filter(|(at, _)| !self.disturbed && !self.held_since(*at))
    }

    fn accepts(&self, at: u64, is_frozen: bool, asked: &Asked) -> bool {
        let may = match self.running() {
            Some((_, running)) => running.issued == asked.issued,
            None => self.ended(at) && !self.held_since(at),
        };
        may && !is_frozen && !self.dropped && self.is_valid(asked)
    }

    fn drops(&self, at: u64, is_frozen: bool) -> bool {
        let cooldown = self.promises.iter().map(|promise| promise.2).max().unwrap();
        let over = self.running().is_some_and(|(accepted, _)| at >= accepted + cooldown);
        over && self.ended(at) && !is_frozen && !self.dropped
    }
}

fn lock_of(days: u64, cooldown: u64, set: u8) -> Lock {
    let guardians = match set {
        0 => None,
        1 => guardians(&[1, 2, 3], 2),
        _ => guardians(&[4, 5, 6], 2),
    };
    Lock { period: Period::days(days), release_cooldown: Period::days(cooldown), guardians }
}

/// Plays events against the oracle. Whether the shard was dropped in the end.
fn play(first: &Lock, set: u8, events: &[Event]) -> Result<bool, TestCaseError> {
    let mut game = Game::new(first);
    let at = |game: &Game| game.now.at.0;
    let promises = vec![(at(&game), first.period.0, first.release_cooldown.0, set)];
    let mut oracle = Oracle { promises, ..Oracle::default() };
    for event in events {
        match event {
            Event::Freeze(is_frozen) => game.now.is_frozen = *is_frozen,
            // A frozen clock stands.
            Event::Pass(_) if game.now.is_frozen => {}
            Event::Pass(ms) => game.now.at = game.now.at.after(Period(*ms)),
            Event::Extend { days, cooldown, guardians } => {
                let lock = lock_of(*days, *cooldown, *guardians);
                let end = game.life.end;
                let extended = game.life.extend(&lock, game.now, LONGEST).is_ok();
                let fits = *days.max(cooldown) <= 400;
                prop_assert_eq!(extended, fits && !oracle.dropped);
                prop_assert!(game.life.end >= end, "the lock was shortened");
                prop_assert!(game.life.end <= end.max(game.now.at.after(LONGEST)));
                if extended {
                    oracle.promises.push((at(&game), days * DAY, cooldown * DAY, *guardians));
                    oracle.disturbed = true;
                }
            }
            Event::Release(asked) => {
                let expected = oracle.accepts(at(&game), game.now.is_frozen, asked);
                let found = game.release(asked);
                prop_assert_eq!(found.is_ok(), expected, "{:?}: {:?}", asked, found);
                if expected && oracle.running().is_none() {
                    oracle.accepted.push((at(&game), asked.clone()));
                    oracle.disturbed = false;
                }
            }
            Event::Veto { seed, asked } => {
                let _ = game.veto(*seed, asked.id());
                let of = oracle.of();
                let hits = oracle.accepted.last().is_some_and(|(_, running)| {
                    running.issued == asked.issued && asked.signer == 0 && asked.names_it
                });
                oracle.disturbed |= hits && of.contains(seed);
                oracle.vetoes.push((*seed, asked.clone()));
            }
            Event::Hold { seed, number, days } => {
                let _ = game.hold(*seed, *number, days.map(Period::days));
                oracle.orders.push((*seed, *number, at(&game), *days));
            }
        }
        let expected = oracle.drops(at(&game), game.now.is_frozen);
        let dropped = game.life.tick(game.now, &game.holds).is_some();
        prop_assert_eq!(dropped, expected, "after {:?}", event);
        oracle.dropped |= dropped;
        prop_assert_eq!(game.state() == State::Dropped, oracle.dropped);
        // What is stored says the same.
        let stored = crate::codec::encode(&game.life);
        let read: Life = crate::codec::decode_canonical(&stored, 4096).unwrap();
        prop_assert_eq!(&read, &game.life);
    }
    Ok(oracle.dropped)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A shard is dropped exactly when the oracle says that it may be, and never before every lock promised has ended.
    #[test]
    fn no_sequence_of_events_drops_a_shard_too_early(
        (days, cooldown, set) in (0..120u64, 0..20u64, 0..3u8), events in events(),
    ) {
        play(&lock_of(days, cooldown, set), set, &events)?;
    }
}

#[test]
fn the_sequences_played_do_drop_shards() {
    let mut runner = TestRunner::deterministic();
    let dropped = (0..200).filter(|_| {
        let events = events().new_tree(&mut runner).unwrap().current();
        play(&lock_of(60, 7, 1), 1, &events).unwrap()
    });
    let dropped = dropped.count();
    assert!((20..180).contains(&dropped), "{dropped} of 200");
}
