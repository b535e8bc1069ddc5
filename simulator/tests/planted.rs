//! Bugs are planted, and drawn plans find each of them, in a build with `STREWN_CAN_PLANT=1`. How many seeds each takes is in the
//! simulator's README.

use protocol::planted::{Bug, plant};
use simulator::{Found, Replay, fuzz, run};
use std::sync::Mutex;

/// Within so many seeds each is found.
const SEEDS: u64 = 120;
/// Seeds that are clean without a bug.
const CLEAN: u64 = 30;

/// What drawn plans find too seldom: a node that was cut off hears nearly all others before it repairs, and that nobody takes over is seen where a custodian is there and cannot repair.
const KEPT: [(Bug, &str); 2] = [
    (Bug::CutOff, include_str!("../regressions/cut-off-and-back-to-two-others.json")),
    (Bug::Takeover, include_str!("../regressions/the-custodian-does-nothing.json")),
];

/// Plants a bug, and says whether the plan that is kept for it breaks a promise.
fn breaks(bug: Bug, kept: &str) -> bool {
    let Replay { seed, plan, .. } = serde_json::from_str(kept).expect("a plan that was kept");
    assert!(plant(Some(bug)), "built without STREWN_CAN_PLANT");
    let violation = run(&plan, seed).violation;
    assert!(plant(None));
    println!("{bug:?}: {violation:?}");
    violation.is_some()
}

/// Plants a bug, and says at which seed it is found.
fn search(bug: Bug) -> Option<u64> {
    assert!(plant(Some(bug)), "built without STREWN_CAN_PLANT");
    let (ran, found) = fuzz(None, 0..SEEDS);
    assert!(plant(None));
    match found {
        Some(Found { seed, violation, .. }) => {
            println!("{bug:?}: {ran} seeds, {}: {}", violation.promise, violation.text);
            Some(seed)
        }
        None => None,
    }
}

#[test]
fn each_planted_bug_is_found_and_without_one_the_seeds_are_clean() {
    if !plant(None) {
        println!(
            "skipped: no bug can be planted in this build; set STREWN_CAN_PLANT=1 and build again"
        );
        return;
    }
    // Only those that are named, where somebody looks for one.
    let named = std::env::var("STREWN_PLANTED").unwrap_or_default();
    let is_rare = |bug: &Bug| KEPT.iter().any(|(kept, _)| kept == bug);
    let is_named = |bug: &Bug| named.split(',').any(|n| n == format!("{bug:?}"));
    let is_meant = |bug: &Bug| if named.is_empty() { !is_rare(bug) } else { is_named(bug) };
    let left = Mutex::new(Bug::ALL.into_iter().filter(is_meant).collect::<Vec<_>>());
    let missed = Mutex::new(Vec::new());
    let work = || {
        while let Some(bug) = { left.lock().unwrap().pop() } {
            if search(bug).is_none() {
                missed.lock().unwrap().push(bug);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    assert_eq!(*missed.lock().unwrap(), [], "not found in {SEEDS} seeds");
    assert!(KEPT.into_iter().all(|(bug, plan)| breaks(bug, plan)));
    let (ran, found) = fuzz(None, 0..CLEAN);
    assert!(found.is_none(), "{found:?}");
    assert_eq!(ran, CLEAN);
}
