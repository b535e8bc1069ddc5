//! Nodes that leave, nodes that come to lie elsewhere, and what was written when there were too few.

use super::*;
use protocol::label::Labels;

/// As [`super::spacious`], for so many hours.
fn spacious(hours: u64) -> Plan {
    Plan { duration: Period::seconds(hours * 3600), ..super::spacious() }
}

fn leave(node: usize) -> What {
    What::Leave(Who::Node(node))
}

fn moved_to(node: usize, provider: &str) -> What {
    let label = format!("provider={provider}").parse().unwrap();
    What::Relabel { who: Who::Node(node), labels: Labels::new([label]).unwrap() }
}

#[test]
fn nodes_that_leave_are_gone_once_nobody_misses_them_and_everything_is_as_it_was() {
    let plan = [(5000, leave(5)), (5000, leave(6)), (9000, leave(0))]
        .into_iter()
        .fold(spacious(8), |plan, (at, what)| with(plan, at, what));
    let plan = with(plan, 7 * 3600, What::Restore { vault: 0 });
    let plan = with(plan, 7 * 3600 + 600, What::Recover { vault: 0, by: 1 });
    let Outcome { verdict, measures, violation, .. } = run(&plan, 1);
    assert_eq!((verdict, violation), (Verdict::Survived, None));
    assert_eq!((measures.left, measures.restores), (3, (2, 0)));
    assert!(measures.rebuilt > 0 && measures.lost.is_empty());
}

#[test]
fn a_node_that_has_what_nobody_can_take_does_not_leave() {
    let plan = with(backups(3), 5000, leave(4));
    let outcome = run(&plan, 1);
    assert_eq!((outcome.verdict, outcome.violation), (Verdict::Survived, None));
    assert_eq!((outcome.measures.left, outcome.measures.timeline.last().unwrap().nodes_up), (0, 6));
}

#[test]
fn a_node_that_stays_after_all_is_not_taken_away() {
    let plan = with(with(spacious(3), 5000, leave(5)), 5030, What::Stay(Who::Node(5)));
    let outcome = run(&plan, 1);
    assert_eq!((outcome.verdict, outcome.violation), (Verdict::Survived, None));
    assert_eq!(
        (outcome.measures.left, outcome.measures.timeline.last().unwrap().nodes_up),
        (0, 12)
    );
}

#[test]
fn what_lies_too_close_together_since_nodes_moved_is_copied_elsewhere() {
    // All of one provider turn out to lie at another one, and then some do that were taken for spare.
    let plan = [(5000, 1), (5000, 5), (5000, 9), (12_000, 2), (12_000, 6)]
        .into_iter()
        .fold(spacious(7), |plan, (at, node)| with(plan, at, moved_to(node, "p0")));
    let Outcome { verdict, measures, violation, .. } = run(&plan, 1);
    assert_eq!((verdict, violation), (Verdict::Survived, None));
    let worst = measures.timeline.iter().map(|sample| sample.below_policy).max();
    assert!(worst > Some(0) && measures.rebuilt > 0, "{worst:?}");
}

#[test]
fn what_was_written_with_too_few_nodes_comes_up_to_its_policy_when_there_are_more() {
    let mut plan = spacious(6);
    plan.vaults[0].allow_degraded = true;
    // Of all disks that are not full only one belongs to another provider than the others.
    let full = [vec![5, 9], vec![2, 6, 10], vec![3, 7, 11]].concat();
    let fill = |plan: Plan, at: u64, full_now: bool| {
        let fill = |node: &usize| What::DiskFull { who: Who::Node(*node), full: full_now };
        full.iter().map(fill).fold(plan, |plan, what| with(plan, at, what))
    };
    let Outcome { verdict, violation, measures, .. } = run(&fill(plan.clone(), 1, true), 1);
    assert_eq!((verdict, violation), (Verdict::Degraded, None));
    assert!(measures.committed >= 3 && measures.rebuilt == 0);
    let Outcome { verdict, violation, .. } = run(&fill(fill(plan, 1, true), 7000, false), 1);
    assert_eq!((verdict, violation), (Verdict::Survived, None));
}

#[test]
fn repairs_go_by_where_nodes_lie_now_and_not_by_what_the_roster_says() {
    // What the roster takes for a fourth provider is a part of the first one by now, but for one node.
    let plan = [(5000, 3), (5000, 7)]
        .into_iter()
        .fold(spacious(7), |plan, (at, node)| with(plan, at, moved_to(node, "p0")));
    let outcome = run(&with(plan, 12_000, vanish("p1")), 1);
    assert_eq!((outcome.verdict, outcome.violation), (Verdict::Survived, None));
}
