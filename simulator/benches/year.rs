//! What a year of a very large mesh costs (`year::plan`): `cargo bench -p strewn-simulator --bench year [-- NODES STRIPES DAYS SEED]`. One core; memory is the
//! most that the process had.

use simulator::{memory, run, year};
use std::time::Instant;

/// As `strewn-sim` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    memory::keep();
    let asked: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let at = |place: usize, or: u64| asked.get(place).copied().unwrap_or(or);
    let (nodes, stripes, days, seed) = (at(0, 1000), at(1, 100_000), at(2, 365), at(3, 1));
    let plan = year::plan(nodes as usize, stripes as usize, days, seed);
    let virtual_days = plan.duration.0 as f64 / 86_400_000.0;
    let start = Instant::now();
    let outcome = run(&plan, seed);
    let seconds = start.elapsed().as_secs_f64();
    let measures = &outcome.measures;
    println!(
        "{nodes} nodes, {} stripes, {days} days of faults, {virtual_days:.2} in all, seed {seed}: {:?}, {seconds:.1} s; {} messages, {:.0} a second; \
         {} events, {:.0} a second; {} rebuilt, {} left, {} backups and {} failed; {} MiB; {}",
        measures.committed,
        outcome.verdict,
        measures.messages,
        measures.messages as f64 / seconds,
        measures.events,
        measures.events as f64 / seconds,
        measures.rebuilt,
        measures.left,
        measures.backups.len(),
        measures.backups_failed,
        memory::most() / 1024,
        outcome.digest,
    );
    if let Some(violation) = &outcome.violation {
        println!("{}: {}", violation.promise, violation.text);
        for event in &violation.events {
            println!("  {event}");
        }
    }
}
