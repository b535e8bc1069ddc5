//! Hundreds of nodes over virtual weeks, with faults of all kinds and somebody who strikes while others repair. Every promise is looked at
//! after every event, and once all faults are over the mesh comes back to its policies within the stated bound.

use simulator::plan::{Measures, Outcome, Verdict};
use simulator::{run, weeks};

fn survives(nodes: usize, days: u64, seed: u64) -> Measures {
    let plan = weeks::plan(nodes, days, seed);
    let Outcome { verdict, violation, measures, .. } = run(&plan, seed);
    let told = format!(
        "{nodes} nodes, {days} days, seed {seed}: {} messages, {} rebuilt, {} left, lost: {:?}",
        measures.messages, measures.rebuilt, measures.left, measures.lost
    );
    println!("{told}");
    assert_eq!((verdict, violation), (Verdict::Survived, None), "{told}");
    assert_eq!(measures.restores, (plan.vaults.len() as u64, 0), "{told}");
    let is_hurt = measures.timeline.iter().any(|sample| sample.below_policy > 0);
    assert!(is_hurt && measures.rebuilt > 20 && measures.left > 2, "{told}");
    measures
}

#[test]
#[ignore = "takes minutes"]
fn a_large_mesh_comes_back_to_its_policies_after_weeks_of_faults_and_attacks() {
    let _ = survives(200, 9, 1);
}

#[test]
#[ignore = "takes minutes: more seeds, and a mesh of a thousand nodes"]
fn larger_meshes_do_so_for_longer() {
    for seed in 2..6 {
        let _ = survives(300, 21, seed);
    }
    let _ = survives(1000, 10, 1);
}
