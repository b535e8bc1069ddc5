//! What a simulated mesh costs, and how that grows with its size: `cargo bench -p strewn-simulator --bench mesh [-- NODES...]`. Ten
//! providers, an operator each; ten stripes a node; two days, with backups, an account that is lost for good, nodes that restart, and what
//! holders do by themselves: they exchange, compare clocks, audit, scrub and repair. One core; memory is what the process has more than before.

use protocol::policy::Policy;
use protocol::time::Period;
use simulator::plan::{Plan, Rate, Step, VaultSetup, What, Who};
use simulator::{Setup, memory, run};
use std::time::Instant;

/// As `strewn-sim` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOUR: u64 = 3_600_000;
/// What is backed up goes to a vault for so many nodes.
const NODES_PER_VAULT: usize = 100;

fn plan(nodes: usize) -> Plan {
    let mut setup = Setup::over_providers(nodes, 10);
    setup.peer.exchange_period = Period(HOUR);
    let vaults = nodes.div_ceil(NODES_PER_VAULT);
    let vault = |_| VaultSetup {
        operator: setup.nodes[0].operator.clone(),
        policy: Policy::survive_one("provider"),
        outside: Vec::new(),
        guardians: None,
        code: Some((4, 6)),
        stripe_len: 512,
        placed: Vec::new(),
        allow_degraded: false,
    };
    let stripes = (10 * nodes / vaults) as u32;
    let back_up = |vault| {
        [1, 25].map(|hour| Step {
            at: Period(hour * HOUR + vault as u64 * 60_000),
            what: What::BackUp { vault, stripes, changed_per_mille: 50 },
        })
    };
    let mut steps: Vec<Step> = (0..vaults).flat_map(back_up).collect();
    steps.push(Step { at: Period(3 * HOUR), what: What::Vanish(Who::Node(nodes - 1)) });
    let restart = |node| What::Restart { who: Who::Node(node), after: Period(HOUR / 4) };
    let rate = Rate {
        what: (1..nodes / 2).map(restart).collect(),
        mean: Period(30 * 24 * HOUR / nodes as u64),
        from: Period(HOUR),
        until: Period(48 * HOUR),
    };
    let plan = Plan {
        name: format!("{nodes} nodes"),
        vaults: (0..vaults).map(vault).collect(),
        setup,
        steps,
        duration: Period(48 * HOUR),
        sample: Period(0),
    };
    plan.with_rates(&[rate], 1)
}

fn main() {
    memory::keep();
    let asked: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![100, 300, 1000] } else { asked };
    for nodes in sizes {
        let plan = plan(nodes);
        let (before, start) = (memory::most(), Instant::now());
        let outcome = run(&plan, 1);
        let seconds = start.elapsed().as_secs_f64();
        let measures = &outcome.measures;
        let stripes = measures.committed;
        println!(
            "{nodes} nodes, {stripes} stripes: {:?}, {:.1} s for 2 days; {} messages, {:.0} a second; {} events, {:.0} a second; \
             {} rebuilt; {:.0} KiB a node",
            outcome.verdict,
            seconds,
            measures.messages,
            measures.messages as f64 / seconds,
            measures.events,
            measures.events as f64 / seconds,
            measures.rebuilt,
            memory::most().saturating_sub(before) as f64 / nodes as f64,
        );
    }
}
