//! How fast stripes are played, and how long eleven nines take: `cargo bench -p strewn-simulator --bench durability`.

use simulator::durability::estimate::{Effort, estimate};
use simulator::durability::input::Input;
use simulator::durability::law::Law;
use simulator::durability::plain;
use simulator::durability::stripe::{Model, Repairers};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Failures and repairs a second, on one core.
fn events() {
    for (name, n, k, rate) in [
        ("14 of 10, busy", 14, 10, 2.0),
        ("40 of 20, busy", 40, 20, 2.0),
        ("14 of 10, quiet", 14, 10, 0.1),
    ] {
        let repair = Law::Exponential { mean: 1.0 / 365.0 };
        let model = Model::independent(n, k, rate, &repair, Repairers::Unlimited);
        let effort = Effort { seed: 1, jobs: 1, ..Effort::default() };
        let start = seconds();
        let tally = plain::missions(&model, 10.0, &effort, 0..40);
        let took = seconds() - start;
        println!(
            "{name}: {:.1} million events a second and core",
            tally.events as f64 / took / 1e6
        );
    }
}

/// Seconds that this thread ran, where the system tells: others that run at the same time do not count. Else those of the clock.
fn seconds() -> f64 {
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = ran.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    ran.map_or_else(|| START.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

/// A thousand nodes, four levels, 40 shards: to ±10 % at 95 %, on two cores.
fn nines() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/wide-mesh.toml");
    let start = START.elapsed();
    let result = Input::read(&file).and_then(|input| {
        let holders = input.place(1)?.remove(0);
        let model = input.model(&holders)?;
        Ok(estimate(&model, input.years, None, &Effort { jobs: 2, ..Effort::default() })?)
    });
    let seconds = START.elapsed().saturating_sub(start).as_secs_f64();
    match result {
        Ok(found) => println!(
            "wide mesh: {:.3e} ({:.2} nines) ±{:.1} %, {} with {} samples and {} events, in {seconds:.2} s; doubts: {:?}",
            found.loss,
            found.nines().0,
            100.0 * found.relative_error(),
            found.method.name(),
            found.samples,
            found.events,
            found.doubts
        ),
        Err(error) => println!("wide mesh: {error}"),
    }
}

fn main() {
    events();
    nines();
}
