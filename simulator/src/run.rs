//! Runs a plan.

use crate::plan::{Measures, Outcome, Plan, Verdict};
use crate::world::World;

/// Runs a plan with a seed: the same two give the same outcome, byte for byte, on any machine.
#[must_use]
pub fn run(plan: &Plan, seed: u64) -> Outcome {
    let mut world = World::new(seed, &plan.setup);
    world.run_for(plan.duration);
    let measures = Measures { events: world.trace().events(), ..Measures::default() };
    let digest = world.trace().digest();
    Outcome { seed, verdict: Verdict::Survived, violation: None, measures, digest }
}
