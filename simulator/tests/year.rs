//! Operators who swap, in a ring, over virtual months: small here, and a thousand nodes for a year where somebody asks for it. Every promise is looked
//! at after every event, and in the end everything is there.

use simulator::plan::{Measures, Outcome, Verdict};
use simulator::{run, year};

fn survives(nodes: usize, stripes: usize, days: u64) -> (Verdict, Measures) {
    let plan = year::plan(nodes, stripes, days, 1);
    let Outcome { verdict, violation, measures, .. } = run(&plan, 1);
    assert_eq!((violation, measures.restores.1), (None, 0), "lost: {:?}", measures.lost);
    assert!(measures.committed >= stripes as u64 && measures.restores.0 > 0);
    assert!(!measures.lost.is_empty() && measures.rebuilt > 0, "{} rebuilt", measures.rebuilt);
    (verdict, measures)
}

#[test]
fn a_ring_of_operators_who_swap_loses_nodes_and_no_data() {
    let (verdict, measures) = survives(40, 200, 40);
    assert_eq!((verdict, measures.backups_failed), (Verdict::Survived, 0));
}

#[test]
#[ignore = "takes long, and gigabytes of memory"]
fn a_thousand_nodes_do_so_for_a_year() {
    // One of a vault's forty nodes is cut off at one backup in four: it does not extend its locks within the hour, and that backup counts as failed.
    let (verdict, measures) = survives(1000, 100_000, 365);
    assert!(matches!(verdict, Verdict::Survived | Verdict::Degraded), "{verdict:?}");
    assert!(measures.left > 0 && measures.backups_failed < measures.backups.len() as u64);
}
