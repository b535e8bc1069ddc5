//! Operators who swap, in a ring, over virtual months: small here, and a thousand nodes for a year where somebody asks for it. Every promise is looked
//! at after every event, and in the end everything is there.

use simulator::plan::{Measures, Outcome, Verdict};
use simulator::{run, year};

fn survives(nodes: usize, stripes: usize, days: u64) -> Measures {
    let plan = year::plan(nodes, stripes, days, 1);
    let Outcome { verdict, violation, measures, .. } = run(&plan, 1);
    assert_eq!((verdict, violation), (Verdict::Survived, None), "lost: {:?}", measures.lost);
    assert_eq!((measures.backups_failed, measures.restores.1), (0, 0));
    assert!(measures.committed >= stripes as u64 && measures.restores.0 > 0);
    assert!(!measures.lost.is_empty() && measures.rebuilt > 0, "{} rebuilt", measures.rebuilt);
    measures
}

#[test]
fn a_ring_of_operators_who_swap_loses_nodes_and_no_data() {
    let _ = survives(40, 200, 40);
}

#[test]
#[ignore = "takes long, and gigabytes of memory"]
fn a_thousand_nodes_do_so_for_a_year() {
    let measures = survives(1000, 100_000, 365);
    assert!(measures.left > 0);
}
