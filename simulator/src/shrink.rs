//! Makes a plan that fails smaller: fewer steps, in the manner of delta debugging (Zeller and Hildebrandt, 2002), then less time. What is
//! left still breaks the same promise with the same seed.

use crate::plan::{Plan, Step};
use crate::run::run;
use protocol::time::Period;

/// The smallest plan found, and how many runs it took; the plan as it is when it does not fail.
#[must_use]
pub fn shrink(plan: &Plan, seed: u64, tries_max: u32) -> (Plan, u32) {
    let broken = |plan: &Plan| run(plan, seed).violation.map(|violation| violation.promise);
    let Some(promise) = broken(plan) else { return (plan.clone(), 1) };
    let mut tries = 1;
    let mut best = plan.clone();
    let fails = |plan: &Plan, tries: &mut u32| {
        *tries += 1;
        broken(plan).as_ref() == Some(&promise)
    };
    // What comes after the violation plays no part.
    if let Some(violation) = run(&best, seed).violation {
        let mut shorter = best.clone();
        shorter.steps.retain(|step| step.at <= violation.at);
        shorter.duration = Period(violation.at.0 + 1).min(best.duration);
        if fails(&shorter, &mut tries) {
            best = shorter;
        }
    }
    let mut pieces = 2;
    while best.steps.len() > 1 && tries < tries_max {
        let len = best.steps.len().div_ceil(pieces);
        let mut is_smaller = false;
        for at in 0..best.steps.len().div_ceil(len) {
            let rest: Vec<Step> = best
                .steps
                .chunks(len)
                .enumerate()
                .filter(|(piece, _)| *piece != at)
                .flat_map(|(_, piece)| piece.iter().cloned())
                .collect();
            let less = Plan { steps: rest, ..best.clone() };
            if fails(&less, &mut tries) {
                best = less;
                is_smaller = true;
                break;
            }
            if tries >= tries_max {
                break;
            }
        }
        if is_smaller {
            pieces = (pieces - 1).max(2);
        } else if len == 1 {
            break;
        } else {
            pieces = (pieces * 2).min(best.steps.len());
        }
    }
    (best, tries)
}
