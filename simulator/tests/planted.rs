//! Bugs are planted, and drawn plans find each of them. Built with `RUSTFLAGS="--cfg strewn_planted"`; otherwise there is
//! nothing here.
#![cfg(strewn_planted)]

use protocol::planted::{Bug, plant};
use simulator::{Found, fuzz};
use std::sync::Mutex;

/// Within so many seeds each is found.
const SEEDS: u64 = 60;
/// Those that drawn plans find. The others of [`Bug::ALL`] want plans that provoke them more often.
const FOUND: [Bug; 11] = [
    Bug::Lock,
    Bug::Extension,
    Bug::Durable,
    Bug::Receipt,
    Bug::ForkEvidence,
    Bug::Countersignature,
    Bug::Roster,
    Bug::Guardians,
    Bug::Revocation,
    Bug::Cooldown,
    Bug::Usage,
];

#[test]
fn each_planted_bug_is_found_and_without_one_the_seeds_are_clean() {
    let bugs = Mutex::new(FOUND.to_vec());
    let search = || {
        while let Some(bug) = { bugs.lock().unwrap().pop() } {
            plant(Some(bug));
            let (ran, found) = fuzz(None, 0..SEEDS);
            let Some(Found { seed, violation, .. }) = found else {
                panic!("{bug:?} was not found in {ran} seeds")
            };
            println!("{bug:?}: seed {seed}, {}: {}", violation.promise, violation.text);
        }
        plant(None);
    };
    std::thread::scope(|scope| {
        scope.spawn(search);
        scope.spawn(search);
    });
    let (_, found) = fuzz(None, 0..20);
    assert!(found.is_none(), "{found:?}");
}
