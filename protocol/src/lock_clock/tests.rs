use super::*;
use crate::certificate::{Authority, NodeCertificate};
use crate::id::NodeId;
use crate::label::Labels;
use crate::sign::{SecretKey, Signed};
use proptest::prelude::*;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const OWN: OperatorId = OperatorId([0; 32]);
/// What the world's time was when the node first started.
const START: u64 = 1_793_000_000_000;

/// A node and the time around it.
struct World {
    clock: LockClock,
    boot: u8,
    mono: u64,
    truth: u64,
    /// For how long the machine ran.
    uptime: u64,
}

impl World {
    fn new() -> Self {
        let clock = LockClock::new(OWN, BootId([0; 16]), Mono(0));
        Self { clock, boot: 0, mono: 0, truth: START, uptime: 0 }
    }

    fn run(&mut self, ms: u64, operators: usize) {
        self.mono += ms;
        self.truth += ms;
        self.uptime += ms;
        self.clock.tick(Mono(self.mono), operators);
    }

    /// The machine is off for so long, and starts again.
    fn reboot(&mut self, ms: u64) {
        self.boot = self.boot.wrapping_add(1);
        self.truth += ms;
        self.mono = 5;
        self.resume();
    }

    /// The program is not running for so long, and the machine is.
    fn restart(&mut self, ms: u64) {
        self.mono += ms;
        self.truth += ms;
        self.uptime += ms;
        self.resume();
        self.clock.tick(Mono(self.mono), 0);
    }

    fn resume(&mut self) {
        let stored = self.clock.to_bytes();
        let boot = BootId([self.boot; 16]);
        self.clock = LockClock::resume(&stored, OWN, boot, Mono(self.mono)).unwrap();
    }

    /// Operators 1, 2, … say these times.
    fn hear(&mut self, walls: &[u64]) {
        for (operator, &wall) in (1..).zip(walls) {
            let now = Mono(self.mono);
            self.clock.hear(now, now, &Voice::of(operator, operator, wall));
        }
        self.clock.tick(Mono(self.mono), walls.len());
    }

    fn hear_one(&mut self, asked: Mono, voice: &Voice) {
        self.clock.hear(asked, Mono(self.mono), voice);
    }

    /// The machine sleeps for so long, which its monotonic time does not count.
    fn sleep(&mut self, ms: u64) {
        self.truth += ms;
    }

    fn promise(&mut self) {
        self.clock.promise(Mono(self.mono));
    }

    /// So many operators tell the truth.
    fn hear_honest(&mut self, operators: usize) {
        self.hear(&vec![self.truth; operators]);
    }

    fn shown(&self) -> u64 {
        self.clock.reading().at.0
    }
}

#[test]
fn a_lone_node_counts_its_own_running_time_and_says_so() {
    let mut world = World::new();
    world.run(3 * DAY, 0);
    world.reboot(30 * DAY);
    world.run(DAY, 1);
    world.hear(&[world.truth]);
    assert_eq!(world.shown(), 4 * DAY);
    assert_eq!(world.clock.standing(), Standing::Alone { heard: 1, needed: 2 });
    assert!(!world.clock.reading().is_frozen);
}

#[test]
fn a_restart_of_the_program_alone_loses_nothing() {
    let mut world = World::new();
    world.run(DAY, 0);
    world.restart(2 * DAY);
    assert_eq!(world.shown(), 3 * DAY);
}

#[test]
fn what_went_by_while_the_machine_was_off_is_made_up_as_far_as_it_was_earned() {
    let mut world = World::new();
    world.run(DAY, 2);
    world.hear_honest(2);
    world.reboot(12 * HOUR);
    world.hear_honest(2);
    assert_eq!(world.shown(), 36 * HOUR);
    assert_eq!(world.clock.standing(), Standing::Agreed { behind: Period(0) });
    world.reboot(10 * DAY);
    world.hear_honest(2);
    // Half of the day that it earned is left.
    assert_eq!(world.shown(), 48 * HOUR);
    assert_eq!(world.clock.standing(), Standing::Agreed { behind: Period(10 * DAY - 12 * HOUR) });
    // It is made up once, not again and again.
    world.run(DAY, 2);
    world.hear_honest(2);
    assert_eq!(world.shown(), 72 * HOUR);
}

#[test]
fn what_went_by_before_a_promise_is_not_made_up_after_it() {
    let mut world = World::new();
    world.run(20 * DAY, 2);
    world.hear_honest(2);
    world.reboot(12 * DAY);
    world.promise();
    world.run(1000, 2);
    world.hear_honest(2);
    assert_eq!(world.shown(), 20 * DAY + 1000, "it was off before it promised");
    // What goes by after that is made up.
    world.reboot(DAY);
    world.hear_honest(2);
    assert_eq!(world.shown(), 21 * DAY + 1000);
    assert_eq!(world.clock.standing(), Standing::Agreed { behind: Period(0) });
}

#[test]
fn nothing_is_made_up_until_others_were_asked_after_the_last_promise() {
    let mut world = World::new();
    world.run(20 * DAY, 2);
    world.hear_honest(2);
    // Nobody notices that its machine sleeps.
    world.sleep(5 * DAY);
    world.promise();
    world.run(1000, 2);
    world.reboot(DAY);
    world.hear_honest(2);
    assert_eq!(world.shown(), 20 * DAY + 1000);
    // An answer that was asked for before it slept may have waited for as long as it did.
    let before = world.truth;
    world.run(HOUR / 2, 2);
    let asked = Mono(world.mono);
    world.sleep(3 * DAY);
    world.run(1000, 2);
    world.promise();
    for operator in [1, 2] {
        world.hear_one(asked, &Voice::of(operator, operator, before + HOUR / 2));
    }
    world.run(1000, 2);
    world.reboot(DAY);
    world.hear_honest(2);
    assert_eq!(world.shown(), 20 * DAY + HOUR / 2 + 3000);
}

#[test]
fn a_promise_while_the_clock_stands_forgoes_what_went_by() {
    let mut world = World::new();
    world.run(DAY, 3);
    world.hear_honest(3);
    world.hear(&[world.truth - 2 * HOUR; 3]);
    world.run(10 * HOUR, 3);
    world.promise();
    world.run(1000, 3);
    world.hear_honest(3);
    assert_eq!((world.shown(), world.clock.reading().is_frozen), (DAY, false));
    assert_eq!(world.clock.standing(), Standing::Agreed { behind: Period(0) });
}

#[test]
fn a_few_liars_do_not_set_what_is_forgone() {
    let mut world = World::new();
    world.run(10 * DAY, 5);
    world.hear_honest(5);
    world.promise();
    world.run(2 * HOUR, 5);
    // Two of five, and the others but one are not heard.
    world.hear_one(Mono(world.mono), &Voice::of(3, 3, world.truth));
    for liar in [1, 2] {
        world.hear_one(Mono(world.mono), &Voice::of(liar, liar, world.truth + 9 * DAY));
    }
    world.run(0, 5);
    world.run(1000, 5);
    world.hear_honest(5);
    assert_eq!(world.clock.standing(), Standing::Agreed { behind: Period(0) });
}

#[test]
fn others_that_all_lie_gain_nothing_while_the_node_runs_and_little_by_restarts() {
    let mut world = World::new();
    world.run(10 * DAY, 3);
    world.hear_honest(3);
    world.hear(&[world.truth + 900 * DAY; 3]);
    world.run(DAY, 3);
    assert_eq!(world.shown(), 11 * DAY);
    for _ in 0..5 {
        world.reboot(1000);
        world.hear(&[world.truth + 900 * DAY; 3]);
    }
    assert_eq!(world.shown(), 22 * DAY);
    assert_eq!(world.uptime, 11 * DAY);
}

#[test]
fn others_that_say_that_less_time_has_passed_freeze_the_clock_until_they_agree() {
    let mut world = World::new();
    world.run(DAY, 3);
    world.hear_honest(3);
    world.hear(&[world.truth - 2 * HOUR; 3]);
    let ahead = Standing::Frozen(Alarm::Ahead { by: Period(2 * HOUR) });
    assert_eq!((world.clock.standing(), world.clock.reading().is_frozen), (ahead, true));
    // Neither silence nor a restart thaws it.
    world.run(2 * HOUR, 3);
    world.reboot(0);
    world.run(HOUR, 3);
    assert_eq!((world.shown(), world.clock.standing()), (DAY, ahead));
    world.hear_honest(3);
    assert_eq!(world.clock.standing(), Standing::Agreed { behind: Period(0) });
    assert_eq!(world.shown(), DAY + 3 * HOUR);
}

#[test]
fn one_liar_of_three_changes_nothing_and_one_of_two_freezes() {
    let mut world = World::new();
    world.run(DAY, 3);
    world.hear_honest(3);
    for lie in [0, u64::MAX, world.truth + 5 * DAY] {
        world.reboot(HOUR);
        world.hear(&[lie, world.truth, world.truth]);
        assert_eq!(world.clock.standing(), Standing::Agreed { behind: Period(0) });
    }
    assert_eq!(world.shown(), DAY + 3 * HOUR);

    let mut world = World::new();
    world.run(DAY, 2);
    world.hear_honest(2);
    world.hear(&[world.truth, world.truth + 5 * DAY]);
    world.run(HOUR, 2);
    assert_eq!(world.clock.standing(), Standing::Frozen(Alarm::Apart { operators: 2 }));
    assert_eq!(world.shown(), DAY);
    world.clock.thaw();
    world.run(2 * HOUR, 2);
    assert_eq!((world.shown(), world.clock.reading().is_frozen), (DAY + 2 * HOUR, false));
}

#[test]
fn who_keeps_others_from_being_heard_is_not_a_majority() {
    let mut world = World::new();
    world.run(10 * DAY, 5);
    world.hear_honest(5);
    world.reboot(1000);
    let lie = world.truth + 9 * DAY;
    for liar in [1, 2] {
        world.hear_one(Mono(0), &Voice::of(liar, liar, lie));
    }
    world.run(1000, 5);
    assert_eq!(world.clock.standing(), Standing::Alone { heard: 2, needed: 3 });
    world.hear_one(Mono(0), &Voice::of(3, 3, world.truth));
    world.run(1000, 5);
    assert!(world.shown() <= 10 * DAY + 3000, "{}", world.shown());
}

#[test]
fn an_operator_has_one_voice_and_the_own_one_has_none() {
    let mut world = World::new();
    world.run(DAY, 3);
    world.hear_honest(3);
    world.reboot(HOUR);
    for node in 0..50 {
        let lie = world.truth + DAY;
        world.hear_one(Mono(0), &Voice::of(0, node, lie));
        world.hear_one(Mono(0), &Voice::of(1, node, lie));
    }
    world.hear_one(Mono(0), &Voice::of(2, 102, world.truth));
    world.hear_one(Mono(0), &Voice::of(3, 103, world.truth));
    world.run(0, 3);
    assert_eq!(world.shown(), DAY + HOUR);
}

#[test]
fn answers_that_are_old_count_no_more() {
    let mut world = World::new();
    world.run(DAY, 2);
    world.hear_honest(2);
    world.run(VOICE_LIFE.0 + 1, 2);
    assert_eq!(world.clock.standing(), Standing::Alone { heard: 0, needed: 2 });
}

#[test]
fn a_machine_set_back_to_an_image_of_itself_has_a_gap() {
    let mut world = World::new();
    world.run(DAY, 2);
    world.hear_honest(2);
    world.run(DAY, 2);
    let later = world.clock.to_bytes();
    let clock = LockClock::resume(&later, OWN, BootId([0; 16]), Mono(5)).unwrap();
    assert!(clock.state.uncounted == Uncounted::Owed && clock.state.mono == 5);
    assert_eq!(clock.reading().at, LockTime(2 * DAY));
}

#[test]
fn only_an_answer_to_what_was_asked_is_a_voice() {
    let key = SecretKey::from_seed(&[1; 32]);
    let (node, asker, nonce) = (NodeId::from(key.public()), NodeId([9; 32]), [7; 16]);
    let certificate = |node| NodeCertificate {
        node,
        operator: OperatorId([4; 32]),
        labels: Labels::default(),
        issued: Wall(0),
        expires: Wall(1),
        authority: Authority::Operator,
    };
    let said = TimeStatement { node, asker, nonce, wall: Wall(START) };
    let signed = Signed::sign(&said, &key);
    let verify = |certificate: &NodeCertificate, asker, nonce| {
        Voice::verify(&signed, certificate, asker, nonce)
    };
    let voice = verify(&certificate(node), asker, &nonce).unwrap();
    assert_eq!(voice.operator(), OperatorId([4; 32]));
    let refused = Err(VoiceError::NotAsked);
    assert_eq!(verify(&certificate(NodeId([2; 32])), asker, &nonce), refused);
    assert_eq!(verify(&certificate(node), NodeId([8; 32]), &nonce), refused);
    assert_eq!(verify(&certificate(node), asker, &[6; 16]), refused);
}

/// What happens to a node.
#[derive(Debug, Clone)]
enum Step {
    Run(u64),
    Restart(u64),
    Reboot(u64),
    /// These operators are heard, and those who lie all tell this lie: apart they would be no majority.
    Hear(Vec<bool>, u64),
    /// The machine sleeps.
    Sleep(u64),
    Promise,
    Thaw,
}

/// What a liar may say: anything, and above all what is near the truth.
fn lie(truth: u64, seed: u64) -> u64 {
    match seed % 4 {
        0 => seed,
        1 => truth.saturating_add(seed % (60 * DAY)),
        2 => truth.saturating_sub(seed % (60 * DAY)),
        _ => truth + seed % (2 * HOUR),
    }
}

fn steps(operators: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..20 * HOUR).prop_map(Step::Run),
        1 => (0..20 * DAY).prop_map(Step::Restart),
        3 => (0..90 * DAY).prop_map(Step::Reboot),
        1 => (0..10 * DAY).prop_map(Step::Sleep),
        2 => Just(Step::Promise),
        6 => (prop::collection::vec(prop::bool::weighted(0.7), operators), any::<u64>())
            .prop_map(|(heard, lie)| Step::Hear(heard, lie)),
    ];
    prop::collection::vec(step, 1..60)
}

/// Takes a step in a world whose first operators lie and whose others are off by their offsets.
fn step(world: &mut World, step: &Step, liars: usize, offsets: &[i64]) {
    let operators = offsets.len();
    match step {
        Step::Run(ms) => world.run(*ms, operators),
        Step::Restart(ms) => world.restart(*ms),
        Step::Reboot(ms) => world.reboot(*ms),
        Step::Sleep(ms) => world.sleep(*ms),
        Step::Promise => world.promise(),
        Step::Thaw => world.clock.thaw(),
        Step::Hear(heard, seed) => {
            for (index, is_heard) in heard.iter().enumerate() {
                let honest = world.truth.saturating_add_signed(offsets[index]);
                let wall = if index < liars { lie(world.truth, *seed) } else { honest };
                let name = index as u8 + 1;
                if *is_heard {
                    world.hear_one(Mono(world.mono), &Voice::of(name, name, wall));
                }
            }
            world.run(0, operators);
        }
    }
}

const ERROR: i64 = 600_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Up to half of the operators say what they like, any of the others cannot be heard, and the node is started as often
    /// as an attacker likes.
    #[test]
    fn no_more_is_counted_after_a_promise_than_passed_and_twice_the_error_of_honest_clocks(
        (offsets, liars, taken) in prop::collection::vec(-ERROR..=ERROR, 1..8).prop_flat_map(|offsets| {
            let operators = offsets.len();
            (Just(offsets), 0..=operators / 2, steps(operators))
        }),
    ) {
        let mut world = World::new();
        let mut before = 0;
        let mut promises = vec![(START, 0)];
        for taken in &taken {
            step(&mut world, taken, liars, &offsets);
            prop_assert!(world.shown() >= before, "it went back");
            before = world.shown();
            if let Step::Promise = taken {
                promises.push((world.truth, world.shown()));
            }
            for (made, shown) in &promises {
                let (passed, counted) = (world.truth - made, world.shown() - shown);
                let most = passed + 2 * ERROR as u64;
                prop_assert!(counted <= most, "{counted} since a promise, and at most {most}");
            }
        }
    }

    #[test]
    fn whatever_all_others_say_it_runs_at_most_twice_as_fast_as_the_machine_did(
        taken in steps(5), thaw_at in 0usize..60,
    ) {
        let mut taken = taken;
        taken.insert(thaw_at.min(taken.len()), Step::Thaw);
        let mut world = World::new();
        let mut before = 0;
        for taken in &taken {
            step(&mut world, taken, 5, &[0; 5]);
            prop_assert!(world.shown() >= before, "it went back");
            before = world.shown();
            prop_assert!(world.shown() <= 2 * world.uptime);
        }
    }

    /// Where nobody lies and all are heard it counts everything that it earned, and never freezes.
    #[test]
    fn honest_others_never_freeze_it(
        offsets in prop::collection::vec(-ERROR..=ERROR, 2..8), taken in steps(1),
    ) {
        let mut world = World::new();
        let all = Step::Hear(vec![true; offsets.len()], 0);
        for taken in &taken {
            let taken = if let Step::Hear(..) = taken { &all } else { taken };
            step(&mut world, taken, 0, &offsets);
            prop_assert!(!world.clock.reading().is_frozen);
            prop_assert!(world.shown() <= world.truth - START + 2 * ERROR as u64);
        }
        world.run(0, offsets.len());
        prop_assert!(world.shown() >= world.uptime);
    }

    #[test]
    fn what_is_stored_is_read_again_and_hostile_bytes_never_panic(
        taken in steps(3), bytes: Vec<u8>, flip in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let mut world = World::new();
        for taken in &taken {
            step(&mut world, taken, 1, &[0; 3]);
        }
        let stored = world.clock.to_bytes();
        prop_assert!(stored.len() <= LEN_MAX);
        let (boot, mono) = (BootId([world.boot; 16]), Mono(world.mono));
        let again = LockClock::resume(&stored, OWN, boot, mono).unwrap();
        prop_assert_eq!(again.to_bytes(), stored.clone());
        prop_assert_eq!(again.reading(), world.clock.reading());
        let mut flipped = stored;
        let at = flip.index(flipped.len());
        flipped[at] ^= 1 << bit;
        for hostile in [flipped, bytes] {
            if let Ok(mut clock) = LockClock::resume(&hostile, OWN, boot, mono) {
                clock.tick(Mono(u64::MAX), usize::MAX);
                let _ = clock.to_bytes();
            }
        }
    }
}
