//! What weeks of a large mesh cost (`weeks::plan`): `cargo bench -p strewn-simulator --bench weeks [-- NODES DAYS SEED]`. One core. The digest of
//! what happened is printed, too: where a change only makes something faster, it stays the same.

use simulator::{memory, run, weeks};
use std::time::Instant;

/// As `strewn-sim` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    memory::keep();
    let asked: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let at = |place: usize, or: u64| asked.get(place).copied().unwrap_or(or);
    let (nodes, days, seed) = (at(0, 200), at(1, 2), at(2, 1));
    let plan = weeks::plan(nodes as usize, days, seed);
    let virtual_days = plan.duration.0 as f64 / 86_400_000.0;
    let start = Instant::now();
    let outcome = run(&plan, seed);
    let seconds = start.elapsed().as_secs_f64();
    let measures = &outcome.measures;
    println!(
        "{nodes} nodes, {days} days of faults, {virtual_days:.2} in all, seed {seed}: {:?}, {seconds:.1} s; {} messages, {:.0} a second; {} events; \
         {} rebuilt; {}",
        outcome.verdict,
        measures.messages,
        measures.messages as f64 / seconds,
        measures.events,
        measures.rebuilt,
        outcome.digest,
    );
}
