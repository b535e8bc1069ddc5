//! A large mesh over weeks with everything in it: backups, faults of all kinds, losses for good, nodes that leave and nodes that move, and
//! somebody who strikes while others repair. Ever so often something is lost for good that the policies name; nothing that they do
//! not name is lost before the one before can be repaired. Then all is calm, for as long as repair may take, and everything is read back.

use crate::check::converges_within;
use crate::plan::{Attack, LinkQuality, Moment, Plan, Rate, Step, VaultSetup, What, Who};
use crate::random::Random;
use crate::run::SETTLES_WITHIN;
use crate::setup::{NodeSetup, PeerSetup, Setup};
use protocol::label::{Label, Labels, Level};
use protocol::policy::{Clause, Clauses, Policy};
use protocol::time::Period;
use std::collections::BTreeMap;

const HOUR: u64 = 3_600_000;
/// Providers, each with an operator of its own,
const PROVIDERS: usize = 8;
/// and accounts at each.
const ACCOUNTS: usize = 3;
/// Nodes for which there is one more vault.
const NODES_PER_VAULT: usize = 50;
/// Stripes of each vault.
const STRIPES: u32 = 24;
/// Between two losses for good: each is noticed after the patience, and repaired in less than the other half.
const BETWEEN_LOSSES: u64 = 2;

/// The plan for so many nodes: for so many days things happen, and what follows is calm.
#[must_use]
pub fn plan(nodes: usize, days: u64, seed: u64) -> Plan {
    let vaults = nodes.div_ceil(NODES_PER_VAULT);
    let setup = setup(nodes);
    let mut weeks =
        Weeks { random: Random::new(seed ^ 0x77_6565_6b73), nodes, vaults, steps: Vec::new() };
    let busy = Period::days(days);
    weeks.work(busy);
    weeks.losses(&setup, busy);
    weeks.moves(busy);
    let steps = weeks.steps;
    let vault = |vault: usize| VaultSetup {
        operator: setup.nodes[vault % nodes].operator.clone(),
        policy: policy(),
        outside: Vec::new(),
        guardians: None,
        code: Some((4, 6)),
        stripe_len: 256,
        allow_degraded: false,
        placed: Vec::new(),
    };
    let vaults: Vec<VaultSetup> = (0..vaults).map(vault).collect();
    let calm = Period(busy.0 + 12 * HOUR);
    let rates = faults(nodes, busy);
    let settled = Period(calm.0 + converges_within(&setup.peer).0 + HOUR);
    let duration = Period(settled.0 + SETTLES_WITHIN.0 + HOUR);
    let name = format!("{nodes} nodes for {days} days");
    let plan = Plan { name, setup, vaults, steps, duration, sample: Period(6 * HOUR) };
    let mut plan = plan.with_rates(&rates, seed);
    for what in [What::Heal, What::DiskFails { who: Who::All, per_mille: 0 }, What::Start(Who::All)]
    {
        plan.steps.push(Step { at: calm, what });
    }
    for vault in 0..plan.vaults.len() {
        plan.steps.push(Step { at: settled, what: What::Restore { vault } });
    }
    plan
}

/// Somebody's loss of a provider, and of any two accounts.
fn policy() -> Policy {
    let clause = |level: &str, count: u32| {
        Clause(BTreeMap::from([(Level::new(level).expect("a level's name"), count)]))
    };
    let survive = Clauses { any: vec![clause("provider", 1), clause("account", 2)] };
    Policy { survive, ..Policy::survive_one("provider") }
}

fn labels(provider: usize, account: usize) -> Labels {
    let label = |text: String| -> Label { text.parse().expect("a level and a name make a label") };
    let provider_label = label(format!("provider=p{provider}"));
    let account = label(format!("account=p{provider}/{account}"));
    Labels::new([provider_label, account]).expect("two labels of different levels")
}

fn setup(nodes: usize) -> Setup {
    let node = |index: usize| {
        let (provider, account) = (index % PROVIDERS, index / PROVIDERS % ACCOUNTS);
        NodeSetup {
            operator: format!("operator of p{provider}"),
            labels: labels(provider, account),
            drift_ppm: (index % 41) as i32 - 20,
            ..NodeSetup::default()
        }
    };
    let (exchange_period, patience) = (Period(3 * HOUR), Period::days(2));
    let peer = PeerSetup { exchange_period, patience, ..PeerSetup::default() };
    Setup { nodes: (0..nodes).map(node).collect(), peer, ..Setup::over_providers(0, 1) }
}

/// Faults that pass, all over the mesh, several a day.
fn faults(nodes: usize, until: Period) -> Vec<Rate> {
    let every = |hours: u64, what: Vec<What>| Rate {
        what,
        mean: Period(hours * HOUR),
        from: Period(2 * HOUR),
        until,
    };
    let node = Who::Node;
    let all = 0..nodes;
    let restart =
        |i: usize| What::Restart { who: node(i), after: Period((1 + i as u64 % 5) * HOUR / 4) };
    let away = |i: usize| What::Dark { who: node(i), period: Period((1 + i as u64 % 30) * HOUR) };
    let rot = |i: usize| What::Rot { who: node(i), per_mille: 100, loud: i.is_multiple_of(2) };
    let fails = |i: usize| What::DiskFails { who: node(i), per_mille: (i % 300) as u32 };
    let provider = |i: usize| Who::Label(format!("provider=p{i}"));
    let outage = |i: usize| What::Dark { who: provider(i), period: Period((1 + i as u64) * HOUR) };
    let part = |i: usize| What::Part {
        from: provider(i),
        to: provider((i + 3) % PROVIDERS),
        one_way: i.is_multiple_of(2),
    };
    let slow = |i: usize| {
        let quality = LinkQuality {
            latency_max: Period(3000),
            loss_per_mille: 40,
            bytes_per_second: 100_000,
            ..LinkQuality::default()
        };
        What::Link { from: provider(i), to: Who::All, quality }
    };
    vec![
        every(3, all.clone().map(restart).collect()),
        every(12, all.clone().map(away).collect()),
        every(24, all.clone().map(rot).collect()),
        every(24, all.map(fails).collect()),
        every(60, (0..PROVIDERS).map(outage).collect()),
        every(60, (0..PROVIDERS).map(part).chain((0..PROVIDERS).map(slow)).collect()),
        every(8, vec![What::Heal, What::DiskFails { who: Who::All, per_mille: 0 }]),
    ]
}

struct Weeks {
    random: Random,
    nodes: usize,
    vaults: usize,
    steps: Vec<Step>,
}

impl Weeks {
    fn below(&mut self, bound: usize) -> usize {
        (self.random.number() % bound as u64) as usize
    }

    fn add(&mut self, at: u64, what: What) {
        self.steps.push(Step { at: Period(at), what });
    }

    /// What owners do.
    fn work(&mut self, busy: Period) {
        for vault in 0..self.vaults {
            let mut at = HOUR + vault as u64 * 60_000;
            while at < busy.0 {
                let what = What::BackUp { vault, stripes: STRIPES, changed_per_mille: 50 };
                self.add(at, what);
                at += 48 * HOUR;
            }
        }
    }

    /// An account is lost for good, or a few nodes; and while that is repaired, somebody takes a node that repairs.
    fn losses(&mut self, setup: &Setup, busy: Period) {
        let every = BETWEEN_LOSSES * setup.peer.patience.0;
        let mut at = 24 * HOUR;
        let mut turn = 0;
        while at + every <= busy.0 {
            let lost = if turn % 2 == 0 {
                let (provider, account) = (self.below(PROVIDERS), self.below(ACCOUNTS));
                What::Vanish(Who::Label(format!("account=p{provider}/{account}")))
            } else {
                What::Vanish(Who::Node(self.below(self.nodes)))
            };
            self.add(at, lost);
            let strike = What::Attack(Attack::Repairer);
            self.add(at, What::Lurk { until: Moment::Repairing, then: Box::new(strike) });
            // What somebody asks to be released may be left as it is.
            let release = Attack::Release { vault: 0, guardians: 0, dated_ms: 0 };
            self.add(at + 30 * HOUR, What::Attack(release));
            (at, turn) = (at + every, turn + 1);
        }
    }

    /// Nodes are taken away, and others turn out to lie elsewhere.
    fn moves(&mut self, busy: Period) {
        let mut at = 12 * HOUR;
        while at < busy.0 {
            let node = self.below(self.nodes);
            self.add(at, What::Leave(Who::Node(node)));
            let (node, provider, account) =
                (self.below(self.nodes), self.below(PROVIDERS), self.below(ACCOUNTS));
            let labels = labels(provider, account);
            self.add(at + 6 * HOUR, What::Relabel { who: Who::Node(node), labels });
            at += 36 * HOUR;
        }
    }
}
