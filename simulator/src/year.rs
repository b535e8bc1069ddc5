//! A very large mesh for a year: operators who swap capacity, each with a few neighbours, so that a node knows some seventy others however many there
//! are. Vaults are backed up again and again, machines restart, are cut off, lose disks; now and then a node or an account is lost for
//! good, a provider is out for hours, a node leaves. In the end all is calm, for as long as repair may take.

use crate::check::converges_within;
use crate::plan::{Plan, Rate, Step, VaultSetup, What, Who};
use crate::random::Random;
use crate::run::SETTLES_WITHIN;
use crate::setup::{NodeSetup, PeerSetup, Setup};
use crate::swap::Swap;
use protocol::label::{Label, Labels, Level};
use protocol::policy::{Clause, Clauses, Policy};
use protocol::scrub::SCRUB_PERIOD;
use protocol::time::Period;
use std::collections::{BTreeMap, BTreeSet};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// Nodes of an operator,
const NODES: usize = 8;
/// at so many of these providers, an account at each.
const ACCOUNTS: usize = 4;
const PROVIDERS: usize = 10;
/// Each operator swaps with so many on either side of it.
const NEIGHBOURS: usize = 2;
/// Days until something is repaired. Nodes are cut off for less than two.
const PATIENCE: u64 = 7;
/// Between two backups of a vault.
const BETWEEN_BACKUPS: u64 = 28 * DAY;
/// Between two losses for good anywhere in the mesh, for each thousand nodes, and never more than a month: a node, or in every sixth turn an account.
const BETWEEN_LOSSES: u64 = 9 * DAY;
/// In which each node restarts once, on average,
const BETWEEN_RESTARTS: u64 = 60 * DAY;
/// and is cut off for a while.
const BETWEEN_ABSENCES: u64 = 120 * DAY;

/// The plan for so many nodes and stripes: for so many days things happen, and what follows is calm.
#[must_use]
pub fn plan(nodes: usize, stripes: usize, days: u64, seed: u64) -> Plan {
    let operators = nodes.div_ceil(NODES);
    let setup = setup(nodes, operators);
    let busy = Period::days(days);
    let per_vault = stripes.div_ceil(operators) as u32;
    let mut steps = Vec::new();
    for vault in 0..operators {
        // Not all at once.
        let mut at = HOUR + vault as u64 * (2 * DAY / operators as u64);
        while at < busy.0 {
            let what = What::BackUp { vault, stripes: per_vault, changed_per_mille: 20 };
            steps.push(Step { at: Period(at), what });
            at += BETWEEN_BACKUPS;
        }
    }
    losses(&mut steps, &setup, seed, busy);
    let vaults = (0..operators).map(|vault| self::vault(vault, nodes, operators)).collect();
    let rates = faults(nodes, busy);
    let calm = Period(busy.0 + DAY);
    let settled = Period(calm.0 + converges_within(&setup.peer).0 + HOUR);
    let duration = Period(settled.0 + SETTLES_WITHIN.0 + HOUR);
    let name = format!("{nodes} nodes and {stripes} stripes for {days} days");
    let plan = Plan { name, setup, vaults, steps, duration, sample: Period::days(14) };
    let mut plan = plan.with_rates(&rates, seed);
    for what in [What::Heal, What::Start(Who::All)] {
        plan.steps.push(Step { at: calm, what });
    }
    for vault in 0..plan.vaults.len().min(10) {
        plan.steps.push(Step { at: settled, what: What::Restore { vault } });
    }
    plan
}

fn operator(index: usize) -> String {
    format!("operator {index}")
}

/// Whether two operators are close enough in the ring of all to have agreed on something.
fn are_neighbours(one: usize, other: usize, operators: usize) -> bool {
    let apart = one.abs_diff(other);
    apart.min(operators - apart) <= NEIGHBOURS
}

fn vault(vault: usize, nodes: usize, operators: usize) -> VaultSetup {
    let clause = |level: &str, count: u32| {
        Clause(BTreeMap::from([(Level::new(level).expect("a level's name"), count)]))
    };
    let survive =
        Clauses { any: vec![clause("provider", 1), clause("operator", 1), clause("account", 2)] };
    VaultSetup {
        operator: operator(vault),
        policy: Policy { survive, ..Policy::survive_one("provider") },
        outside: (0..nodes)
            .filter(|node| !are_neighbours(node / NODES, vault, operators))
            .collect(),
        guardians: None,
        code: Some((4, 6)),
        stripe_len: 256,
        allow_degraded: false,
        placed: Vec::new(),
    }
}

fn setup(nodes: usize, operators: usize) -> Setup {
    let node = |index: usize| {
        let (own, place) = (index / NODES, index % NODES % ACCOUNTS);
        let provider = (3 * own + place) % PROVIDERS;
        let label =
            |text: String| -> Label { text.parse().expect("a level and a name make a label") };
        let labels = [
            label(format!("provider=p{provider}")),
            label(format!("account=p{provider}/{own}")),
            label(format!("region=r{}", index % 12)),
        ];
        NodeSetup {
            operator: operator(own),
            labels: Labels::new(labels).expect("labels of different levels"),
            drift_ppm: (index % 41) as i32 - 20,
            ..NodeSetup::default()
        }
    };
    let pairs = (0..operators).flat_map(|one| {
        let others = (1..=NEIGHBOURS).map(move |apart| (one + apart) % operators);
        others.map(move |other| [one.min(other), one.max(other)])
    });
    let pairs: BTreeSet<[usize; 2]> = pairs.filter(|[one, other]| one != other).collect();
    let swap = |between: [usize; 2]| Swap {
        between: between.map(operator),
        gives: [1 << 40; 2],
        lock_max: Period::days(400),
        notice: Period::days(30),
        ends: Period::days(3650),
    };
    let peer = PeerSetup {
        exchange_period: Period(12 * HOUR),
        patience: Period::days(PATIENCE),
        audit_period: Period::days(5 * 365),
        ..PeerSetup::default()
    };
    Setup {
        nodes: (0..nodes).map(node).collect(),
        peer,
        swaps: pairs.into_iter().map(swap).collect(),
        ..Setup::over_providers(0, 1)
    }
}

/// What passes.
fn faults(nodes: usize, until: Period) -> Vec<Rate> {
    let every = |mean: u64, what: Vec<What>| Rate {
        what,
        mean: Period(mean.max(1)),
        from: Period(3 * DAY),
        until,
    };
    let node = Who::Node;
    let all = 0..nodes;
    let restart =
        |i: usize| What::Restart { who: node(i), after: Period((1 + i as u64 % 5) * HOUR / 4) };
    let away = |i: usize| What::Dark { who: node(i), period: Period((1 + i as u64 % 40) * HOUR) };
    let rot = |i: usize| What::Rot { who: node(i), per_mille: 5, loud: i.is_multiple_of(2) };
    let outage = |i: usize| What::Dark {
        who: Who::Label(format!("provider=p{i}")),
        period: Period((1 + i as u64) * HOUR),
    };
    let count = nodes as u64;
    vec![
        every(BETWEEN_RESTARTS / count, all.clone().map(restart).collect()),
        every(BETWEEN_ABSENCES / count, all.clone().map(away).collect()),
        // What rots unnoticed is found when it is read the next time.
        Rate {
            until: Period(until.0.saturating_sub(SCRUB_PERIOD.0 + 3 * DAY)),
            ..every(365 * DAY / count, all.map(rot).collect())
        },
        every(60 * DAY, (0..PROVIDERS).map(outage).collect()),
    ]
}

/// Nodes and accounts that are lost for good, one after another, and nodes that are taken away.
fn losses(steps: &mut Vec<Step>, setup: &Setup, seed: u64, busy: Period) {
    let nodes = setup.nodes.len();
    let mut random = Random::new(seed ^ 0x7965_6172);
    let mut below = |bound: usize| (random.number() % bound as u64) as usize;
    let every = (BETWEEN_LOSSES * 1000 / nodes as u64).min(30 * DAY);
    let mut at = 5 * DAY;
    for turn in 1.. {
        if at + every > busy.0 {
            return;
        }
        let (lost, leaves) = (below(nodes), below(nodes));
        let account = Level::new("account").ok().and_then(|level| {
            let name = setup.nodes[lost].labels.get(&level)?;
            Some(Who::Label(format!("account={name}")))
        });
        let who = account.filter(|_| turn % 6 == 0).unwrap_or(Who::Node(lost));
        steps.push(Step { at: Period(at), what: What::Vanish(who) });
        if turn % 4 == 0 {
            let at = Period(at + every / 2);
            steps.push(Step { at, what: What::Leave(Who::Node(leaves)) });
        }
        at += every;
    }
}
