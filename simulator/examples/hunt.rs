//! Runs drawn plans from a seed on, and says what they find.
use simulator::{fuzz_plan, run};
fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let (from, to) = (args.next().unwrap(), args.next().unwrap());
    let mut kinds = std::collections::BTreeMap::new();
    let begun = std::time::Instant::now();
    let (mut messages, mut committed, mut restores) = (0, 0, (0, 0));
    for seed in from..to {
        let plan = fuzz_plan(seed);
        let out = run(&plan, seed);
        messages += out.measures.messages;
        committed += out.measures.committed;
        restores.0 += out.measures.restores.0;
        restores.1 += out.measures.restores.1;
        *kinds.entry(format!("{:?}", out.verdict)).or_insert(0) += 1;
        if let Some(v) = out.violation {
            println!("seed {seed}: {} {} at {}", v.promise, v.text, v.at);
            if to == from + 1 { println!("{:#?}\n{:#?}", plan.steps, v.events); }
        }
    }
    println!("{kinds:?} messages {messages} committed {committed} restores {restores:?} {:?}", begun.elapsed());
}
