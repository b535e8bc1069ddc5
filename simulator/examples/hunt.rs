//! Runs drawn plans of the seeds FROM..TO and says what they find. Built with `--cfg strewn_planted` and given a word, does
//! so for every bug that can be planted, and says how many seeds it took to find each.

#[cfg(strewn_planted)]
use simulator::{Found, fuzz};
use simulator::{fuzz_plan, run};
use std::collections::BTreeMap;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(0);
    let (from, to): (u64, u64) = (number(1), number(2));
    #[cfg(strewn_planted)]
    if args.len() > 3 {
        for bug in protocol::planted::Bug::ALL {
            if args[3] != "all" && args[3] != format!("{bug:?}") {
                continue;
            }
            protocol::planted::plant(Some(bug));
            let (ran, found) = fuzz(None, from..to);
            let found = found.map(|Found { violation, .. }| violation.promise + ": " + &violation.text);
            println!("{bug:?}: {ran} seeds, {found:?}");
        }
        return;
    }
    let (mut verdicts, begun) = (BTreeMap::new(), std::time::Instant::now());
    let mut messages = 0;
    for seed in from..to {
        let outcome = run(&fuzz_plan(seed), seed);
        messages += outcome.measures.messages;
        *verdicts.entry(format!("{:?}", outcome.verdict)).or_insert(0) += 1;
        if let Some(violation) = outcome.violation {
            println!("seed {seed}: {} at {}: {}", violation.promise, violation.at, violation.text);
        }
    }
    println!("{verdicts:?}, {messages} messages in {:?}", begun.elapsed());
}
