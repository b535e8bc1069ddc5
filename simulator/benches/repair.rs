//! What repair reads and writes for each byte that was lost: `cargo bench -p strewn-simulator --bench repair`. A node of a mesh is lost for
//! good, and everything that it held is rebuilt by the others. Counted is what disks read and write, and all that the network carries beside it.

use protocol::policy::Policy;
use protocol::time::Period;
use simulator::plan::{Outcome, Plan, Step, VaultSetup, What, Who};
use simulator::{Setup, run};

/// As `strewn-sim` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOUR: u64 = 3_600_000;
/// Bytes in each shard: what is counted beside shards weighs less in production, where they have megabytes.
const SHARD_LEN: u32 = 16 << 10;

fn plan((k, n): (u16, u16), stripes: u32, is_lost: bool) -> Plan {
    let mut setup = Setup::over_providers(40, 20);
    setup.peer.exchange_period = Period(HOUR);
    setup.peer.patience = Period(6 * HOUR);
    let vault = VaultSetup {
        operator: setup.nodes[0].operator.clone(),
        policy: Policy::survive_one("provider"),
        outside: Vec::new(),
        guardians: None,
        code: Some((k, n)),
        stripe_len: SHARD_LEN * u32::from(k),
        allow_degraded: false,
        placed: Vec::new(),
    };
    let backup = What::BackUp { vault: 0, stripes, changed_per_mille: 0 };
    let mut steps = vec![Step { at: Period(HOUR), what: backup }];
    if is_lost {
        steps.push(Step { at: Period(3 * HOUR), what: What::Vanish(Who::Node(7)) });
    }
    let duration = Period(24 * HOUR);
    Plan {
        name: format!("{k} of {n}"),
        setup,
        vaults: vec![vault],
        steps,
        duration,
        sample: Period(0),
    }
}

fn main() {
    for (code, stripes) in [((4, 6), 300), ((10, 14), 120)] {
        let Outcome { measures: quiet, .. } = run(&plan(code, stripes, false), 1);
        let Outcome { measures, verdict, violation, .. } = run(&plan(code, stripes, true), 1);
        let lost = measures.rebuilt * u64::from(SHARD_LEN);
        let (read, written) = measures.rebuilt_bytes;
        let per_byte = |bytes: u64| bytes as f64 / lost as f64;
        println!(
            "{} of {}: {verdict:?}, {violation:?}; {} shards of {} stripes lost; for each byte lost {:.2} read and {:.2} written; \
             {} messages more than without a loss, {:.0} bytes of them a shard beside the shards themselves",
            code.0,
            code.1,
            measures.rebuilt,
            measures.committed,
            per_byte(read),
            per_byte(written),
            measures.messages.saturating_sub(quiet.messages),
            measures.bytes.saturating_sub(quiet.bytes + read + written) as f64
                / measures.rebuilt as f64,
        );
    }
}
