//! Draws plans: each run first draws which kinds of faults and attacks it has at all, and how much of each (swarm testing,
//! Groce et al., 2012). A plan that has everything at once hides more than it finds.

mod moves;
mod repair;
mod swaps;

use crate::disk::DiskConfig;
use crate::network::NetworkConfig;
use crate::plan::{
    Attack, GuardianSetup, LinkQuality, Moment, Plan, Step, VaultSetup, Violation, What, Who,
};
use crate::random::Random;
use crate::run::{SETTLES_WITHIN, run};
use crate::setup::{NodeSetup, PeerSetup, Setup};
use protocol::label::{Label, Labels};
use protocol::policy::{Clause, Clauses, Lock, Policy};
use protocol::time::Period;
use std::collections::BTreeMap;
use std::time::Instant;

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The plan that was drawn.
    pub plan: Plan,
    /// The seed, of the plan and of its run.
    pub seed: u64,
    /// What it breaks.
    pub violation: Violation,
}

/// Runs the plans of these seeds until one breaks a promise or the time is over. How many ran, and what was found.
/// (The clock that is read here ends the search and decides nothing in a run.)
#[must_use]
pub fn fuzz(until: Option<Instant>, seeds: impl IntoIterator<Item = u64>) -> (u64, Option<Found>) {
    let mut ran = 0;
    for seed in seeds {
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        ran += 1;
        let plan = plan(seed);
        if let Some(violation) = run(&plan, seed).violation {
            return (ran, Some(Found { plan, seed, violation }));
        }
    }
    (ran, None)
}

/// Kinds of steps that a plan has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Crashes,
    Partitions,
    Darkness,
    BadLinks,
    Drift,
    Lies,
    Rot,
    FailingDisks,
    FullDisks,
    SlowDisks,
    Loss,
    Seizure,
    Releases,
    Guardians,
    Revocation,
    Recovery,
    StolenVault,
    StolenGuardians,
    Weaken,
    Forks,
    Filling,
    Cards,
    Strangers,
    Lurking,
}

const KINDS: [Kind; 24] = [
    Kind::Crashes,
    Kind::Partitions,
    Kind::Darkness,
    Kind::BadLinks,
    Kind::Drift,
    Kind::Lies,
    Kind::Rot,
    Kind::FailingDisks,
    Kind::FullDisks,
    Kind::SlowDisks,
    Kind::Loss,
    Kind::Seizure,
    Kind::Releases,
    Kind::Guardians,
    Kind::Revocation,
    Kind::Recovery,
    Kind::StolenVault,
    Kind::StolenGuardians,
    Kind::Weaken,
    Kind::Forks,
    Kind::Filling,
    Kind::Cards,
    Kind::Strangers,
    Kind::Lurking,
];

struct Drawing {
    random: Random,
    kinds: Vec<Kind>,
    nodes: usize,
    providers: usize,
    vaults: usize,
    /// For how long things happen.
    busy: Period,
    lock: Period,
    patience: Period,
    /// Whether there are losses that are to be repaired.
    repairs: bool,
    /// Whether nodes leave, or come to lie elsewhere.
    moves: bool,
    /// Whether operators say of another one what is not so.
    slanders: bool,
}

impl Drawing {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.number() % bound.max(1)
    }

    fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    fn who(&mut self) -> Who {
        match self.below(4) {
            0 => Who::Label(format!("provider=p{}", self.below(self.providers as u64))),
            1 => Who::Label(format!("region=r{}", self.below(2))),
            _ => Who::Node(self.below(self.nodes as u64) as usize),
        }
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn vault(&mut self) -> usize {
        self.below(self.vaults as u64) as usize
    }

    /// Up to a quarter of the longest lock.
    fn while_(&mut self) -> Period {
        self.random.between(Period::seconds(10), Period(self.lock.0 / 4))
    }
}

/// The plan of a seed.
#[must_use]
pub fn plan(seed: u64) -> Plan {
    let mut random = Random::new(seed ^ 0x706c_616e);
    let kinds: Vec<Kind> = KINDS.into_iter().filter(|_| random.happens(400)).collect();
    let providers = 3 + (random.number() % 3) as usize;
    let each = 1 + (random.number() % 3) as usize;
    let lock = Period::seconds(1800 << (random.number() % 4));
    // A neighbour has a vault of its own.
    let is_alone = !kinds.contains(&Kind::Strangers) && random.happens(500);
    let vaults = if is_alone { 1 } else { 2 };
    let nodes = providers * each;
    let busy = Period(lock.0 * 3);
    // Drawn apart: what was found with a seed before this was drawn is found with it again.
    let mut apart = Random::new(seed ^ 0x7265_7061_6972);
    let repairs = nodes >= 5 && apart.happens(500);
    let mut apart_too = Random::new(seed ^ 0x006d_6f76_6573);
    let moves = repairs && apart_too.happens(500);
    let patience = Period::seconds(if repairs { 3600 } else { 4 * 3600 });
    let mut apart_again = Random::new(seed ^ 0x7377_6170);
    let swaps = apart_again.happens(250);
    let mut drawing = Drawing {
        random,
        kinds,
        nodes,
        providers,
        vaults,
        busy,
        lock,
        patience,
        repairs,
        moves,
        slanders: false,
    };
    let mut setup = setup(&mut drawing);
    let mut vaults: Vec<VaultSetup> = (0..vaults).map(|_| vault(&mut drawing)).collect();
    if swaps {
        let before = std::mem::replace(&mut drawing.random, apart_again);
        swaps::begin(&mut drawing, &mut setup, &mut vaults);
        apart_again = std::mem::replace(&mut drawing.random, before);
    }
    let mut steps = Vec::new();
    work(&mut drawing, &mut steps);
    faults(&mut drawing, &mut steps);
    attacks(&mut drawing, &mut steps);
    drawing.random = apart;
    repair::losses(&mut drawing, &mut steps);
    drawing.random = apart_too;
    moves::moves(&mut drawing, &mut steps);
    if swaps {
        drawing.random = apart_again;
        swaps::deeds(&mut drawing, &setup, &mut steps);
        drawing.random = Random::new(seed ^ 0x0068_6569_7273);
        swaps::successions(&mut drawing, &setup, &mut steps);
    }
    calm(&drawing, &mut steps);
    steps.sort_by_key(|step| step.at);
    let duration = Period(busy.0 + SETTLES_WITHIN.0 + 3_600_000);
    Plan { name: format!("fuzz {seed}"), setup, vaults, steps, duration, sample: Period(0) }
}

fn setup(drawing: &mut Drawing) -> Setup {
    let label = |level: &str, name: String| -> Label {
        format!("{level}={name}").parse().expect("a level and a number make a label")
    };
    let providers = drawing.providers;
    let shared = 1 + drawing.below(2) as usize;
    let nodes = (0..drawing.nodes).map(|index| {
        let provider = index % providers;
        let labels = Labels::new([
            label("provider", format!("p{provider}")),
            label("region", format!("r{}", index / providers % 2)),
        ]);
        NodeSetup {
            operator: format!("operator {}", provider / shared),
            labels: labels.expect("two labels of different levels"),
            ..NodeSetup::default()
        }
    });
    let nodes = nodes.collect();
    // One attack that fills brings 8 to 31 KiB to each node.
    let quota = if drawing.has(Kind::Filling) { 16 << (10 + drawing.below(3)) } else { 1 << 30 };
    let growth = drawing.has(Kind::Filling) && drawing.random.happens(500);
    let peer = PeerSetup {
        patience: drawing.patience,
        quota,
        lock_max: Period::days(30),
        growth_per_day: growth.then_some(12 << 10),
        exchange_period: Period::seconds(120 << drawing.below(4)),
        ..PeerSetup::default()
    };
    let loss_per_mille = if drawing.has(Kind::BadLinks) { drawing.below(60) as u32 } else { 0 };
    let quality = LinkQuality { loss_per_mille, ..LinkQuality::default() };
    let network = NetworkConfig { quality, ..NetworkConfig::default() };
    let write_max = Period(1 << drawing.below(9));
    let disk = DiskConfig { write_min: Period(1), write_max };
    Setup { nodes, peer, network, disk, swaps: Vec::new() }
}

fn vault(drawing: &mut Drawing) -> VaultSetup {
    let clause = |level: &str, count: u32| {
        let level = protocol::label::Level::new(level).expect("a level's name");
        Clause(BTreeMap::from([(level, count)]))
    };
    let mut survive = vec![clause("provider", 1)];
    if drawing.nodes >= 6 && drawing.random.happens(400) {
        survive.push(clause("node", 2));
    }
    let conceals = drawing.random.happens(400);
    let conceal = if conceals { vec![clause("provider", 1)] } else { Vec::new() };
    let cooldown = Period(drawing.lock.0 / (2 << drawing.below(3)));
    let lock = Lock { period: drawing.lock, release_cooldown: cooldown, guardians: None };
    let policy =
        Policy { survive: Clauses { any: survive }, conceal: Clauses { any: conceal }, lock };
    let guardians = drawing.has(Kind::Guardians).then(|| GuardianSetup {
        need: 1 + drawing.below(2) as u32,
        of: (0..3).map(|guardian| format!("guardian {guardian}")).collect(),
    });
    let outside = if drawing.nodes >= 6 && drawing.random.happens(500) {
        vec![drawing.nodes - 1]
    } else {
        Vec::new()
    };
    let operator = "operator 0".into();
    let stripe_len = 64 + drawing.below(1000) as u32;
    let code = drawing.repairs.then_some(if conceals { (3, 5) } else { (2, 4) });
    let placed = Vec::new();
    let allow_degraded = drawing.moves && !conceals;
    VaultSetup { operator, policy, outside, guardians, code, stripe_len, allow_degraded, placed }
}

fn add(steps: &mut Vec<Step>, at: Period, what: What) {
    steps.push(Step { at, what });
}

/// What owners do: backups often enough that no lock lapses, and the rest.
fn work(drawing: &mut Drawing, steps: &mut Vec<Step>) {
    for vault in 0..drawing.vaults {
        let every = Period(drawing.lock.0 / (2 + drawing.below(3)));
        let mut at = drawing.random.between(Period::seconds(60), Period::seconds(600));
        while at < drawing.busy {
            let stripes = 1 + drawing.below(5) as u32;
            let changed_per_mille = drawing.below(3) as u32 * 300;
            add(steps, at, What::BackUp { vault, stripes, changed_per_mille });
            at = Period(at.0 + every.0);
        }
    }
    let times = 1 + drawing.below(3);
    for _ in 0..times {
        let vault = drawing.vault();
        let at = drawing.random.between(Period::seconds(900), drawing.busy);
        let later = Period(at.0 + 60_000);
        // Guardians stop only what somebody asks for.
        if drawing.has(Kind::Releases) || drawing.has(Kind::Guardians) {
            add(steps, at, What::Forget { vault, keep: 1 });
            // Once their locks are over.
            let after = Period(at.0 + drawing.lock.0 + drawing.lock.0 / 16);
            let approvals = drawing.below(4) as u32;
            add(steps, after, What::Release { vault, approvals });
            if drawing.below(2) == 0 {
                let per_mille = [100, 400, 1000][drawing.below(3) as usize];
                let approvals = drawing.below(4) as u32;
                add(steps, at, What::Discharge { vault, per_mille, approvals });
                // Their locks are extended no more, and end.
                add(steps, after, What::Discharge { vault, per_mille: 0, approvals });
            }
            if drawing.has(Kind::Guardians) {
                // Before the shortest cooldown is over, and a hold for longer than the longest.
                let wait = drawing.random.between(Period::seconds(10), Period(drawing.lock.0 / 8));
                let stop = stop(drawing, vault, drawing.lock);
                add(steps, Period(after.0 + wait.0), stop);
            }
        }
        if drawing.has(Kind::Guardians) {
            let ends = drawing.below(4) == 0;
            let period = if ends { Period(0) } else { drawing.while_() };
            let stop = stop(drawing, vault, period);
            let again = drawing.random.between(at, drawing.busy.max(at));
            add(steps, again, stop);
        }
        if drawing.has(Kind::Revocation) {
            add(steps, at, What::Revoke { vault });
            add(steps, later, What::Attack(Attack::WriteRevoked { vault }));
        }
        if drawing.has(Kind::Recovery) {
            let by = drawing.below(drawing.nodes as u64) as usize;
            add(steps, later, What::Recover { vault, by });
        }
        add(steps, later, What::Restore { vault });
    }
}

/// What a guardian does against a release.
fn stop(drawing: &mut Drawing, vault: usize, period: Period) -> What {
    let guardian = drawing.below(3) as usize;
    match drawing.below(2) {
        0 => What::Hold { vault, guardian, period },
        _ => What::Veto { vault, guardian },
    }
}

fn faults(drawing: &mut Drawing, steps: &mut Vec<Step>) {
    let times = 1 + drawing.below(6);
    for _ in 0..times {
        for kind in drawing.kinds.clone() {
            let at = drawing.random.between(Period(0), drawing.busy);
            let (who, after) = (drawing.who(), drawing.while_());
            let (small, sign) = (drawing.below(1000), drawing.below(2) == 0);
            let what = match kind {
                Kind::Crashes => What::Restart { who, after },
                Kind::Partitions => {
                    add(steps, Period(at.0 + after.0), What::Heal);
                    What::Part { from: who, to: drawing.who(), one_way: sign }
                }
                Kind::Darkness => What::Dark { who, period: after },
                Kind::BadLinks => {
                    let quality = LinkQuality {
                        latency_max: Period(10 + 10 * small),
                        loss_per_mille: (small / 4) as u32,
                        bytes_per_second: 1000 * small,
                        ..LinkQuality::default()
                    };
                    add(steps, Period(at.0 + after.0), What::Heal);
                    What::Link { from: who, to: drawing.who(), quality }
                }
                Kind::Drift => {
                    let ppm = if sign { small as i32 / 5 } else { -(small as i32 / 5) };
                    What::ClockDrift { who, ppm }
                }
                Kind::Lies => {
                    let by_ms = (1 + small as i64) * 3_600_000;
                    if small < 300 {
                        all_are_ahead(drawing, steps, at);
                        continue;
                    }
                    let who = if small > 700 { Who::All } else { who };
                    What::ClockJump { who, by_ms: if sign { by_ms } else { -by_ms } }
                }
                Kind::Rot => What::Rot { who, per_mille: small as u32, loud: sign },
                Kind::FailingDisks => {
                    let heals = What::DiskFails { who: who.clone(), per_mille: 0 };
                    add(steps, Period(at.0 + after.0), heals);
                    What::DiskFails { who, per_mille: (small / 2) as u32 }
                }
                Kind::FullDisks => {
                    let empties = What::DiskFull { who: who.clone(), full: false };
                    add(steps, Period(at.0 + after.0), empties);
                    What::DiskFull { who, full: true }
                }
                Kind::SlowDisks => What::DiskSlow { who, times: 1 + (small % 20) as u32 },
                Kind::Loss if small < 300 => What::Vanish(who),
                Kind::Seizure if small < 300 => What::Seize(who),
                _ => continue,
            };
            add(steps, at, what);
        }
    }
}

/// All clocks are set forward by days, all machines are started anew, and somebody with all keys asks for everything to be released.
fn all_are_ahead(drawing: &mut Drawing, steps: &mut Vec<Step>, at: Period) {
    // The longer a node has run, the more its lock clock may make up.
    let at = Period(600_000 + at.0 / 6);
    let by_ms = (1 + drawing.below(30) as i64) * 86_400_000;
    add(steps, at, What::ClockJump { who: Who::All, by_ms });
    add(steps, at, What::Restart { who: Who::All, after: Period::seconds(5) });
    let vault = drawing.vault();
    for times in 1..=4 {
        let attack = Attack::Release { vault, guardians: 3, dated_ms: 0 };
        add(steps, Period(at.0 + times * drawing.lock.0 / 16), What::Attack(attack));
    }
}

fn attacks(drawing: &mut Drawing, steps: &mut Vec<Step>) {
    let times = 1 + drawing.below(4);
    for _ in 0..times {
        for kind in drawing.kinds.clone() {
            let at = drawing.random.between(Period::seconds(60), drawing.busy);
            let (vault, small) = (drawing.vault(), drawing.below(1000));
            let attack = match kind {
                Kind::StolenVault | Kind::StolenGuardians => {
                    let stolen = kind == Kind::StolenGuardians;
                    let guardians = if stolen { 1 + small as u32 % 3 } else { 0 };
                    let dated_ms =
                        if small % 3 == 0 { 3_600_000 * (small as i64 - 500) } else { 0 };
                    Attack::Release { vault, guardians, dated_ms }
                }
                Kind::Weaken => Attack::Weaken { vault },
                Kind::Forks if small % 3 == 0 => Attack::Skip { vault },
                Kind::Forks => Attack::Fork { vault, seq: small % 6 },
                Kind::Filling => Attack::Fill { vault, stripes: 8 + (small % 24) as u32 },
                Kind::Cards => {
                    let by = small as usize % drawing.nodes;
                    let later = drawing.while_();
                    add(steps, Period(at.0 + later.0), What::Recover { vault, by });
                    Attack::Card { vault }
                }
                Kind::Strangers if small < 500 => Attack::Stranger,
                Kind::Strangers => Attack::Neighbour { by: vault, vault: (vault + 1) % 2 },
                _ => continue,
            };
            let what = What::Attack(attack);
            if drawing.has(Kind::Lurking) && small % 2 == 0 {
                let until = match small % 8 {
                    0 => Moment::Recovering,
                    2 => Moment::Cooling,
                    4 => Moment::BackingUp,
                    _ => Moment::LockEnded,
                };
                add(steps, at, What::Lurk { until, then: Box::new(what) });
            } else {
                add(steps, at, what);
            }
        }
    }
}

/// In the end all faults are over.
fn calm(drawing: &Drawing, steps: &mut Vec<Step>) {
    let all = Who::All;
    let over = [
        What::Heal,
        What::DiskFails { who: all.clone(), per_mille: 0 },
        What::DiskFull { who: all.clone(), full: false },
        What::DiskSlow { who: all.clone(), times: 1 },
        What::Start(all),
    ];
    let at = Period(drawing.busy.0 + drawing.lock.0 / 4 + 1);
    for what in over {
        add(steps, at, what);
    }
}
