//! How far the nodes are with what they make good by themselves, as they say it. Every holder of a stripe counts it as short, so of what
//! they say the most is taken, and not the sum.

use super::status::{NodeLine, failing};
use protocol::id::NodeId;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a node repairs.
#[derive(Debug, Clone, Serialize)]
pub struct RepairLine {
    /// Which.
    pub node: NodeId,
    /// Whether it answers.
    pub up: bool,
    /// Stripes held there that are short.
    pub short: u64,
    /// Stripes that it is rebuilding.
    pub running: u32,
    /// Stripes that it repaired since its start.
    pub repaired: u64,
    /// Bytes that it moved for that.
    pub moved: u64,
    /// Attempts that came to nothing.
    pub failed: u64,
}

/// Stripes that cannot be repaired now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stuck {
    /// Why.
    pub why: String,
    /// How many.
    pub stripes: u64,
}

/// A holder that was shown not to have what it promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// Which.
    pub node: NodeId,
    /// Of how many stripes.
    pub stripes: u64,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Repairs {
    /// Whether nothing is lost, short or not proved.
    pub good: bool,
    /// By node.
    pub nodes: Vec<RepairLine>,
    /// Nodes that any takes for lost.
    pub lost: BTreeSet<NodeId>,
    /// Stripes that are short, those that cannot be repaired now as well.
    pub short: u64,
    /// How many losses more than that the worst of them bears, after the worst that its policy names; less than 0 breaks the policy.
    pub worst: Option<i64>,
    /// What cannot be repaired now.
    pub stuck: Vec<Stuck>,
    /// Holders that did not prove what they promise.
    pub failing: Vec<Failing>,
    /// In about so many seconds what can be repaired is, at the rate so far; `None` where nothing is to be done, or no rate is known.
    pub left: Option<u64>,
}

impl Repairs {
    /// What nodes say, together.
    #[must_use]
    pub fn of(nodes: &[NodeLine]) -> Self {
        let mut lost = BTreeSet::new();
        let mut worst: Option<i64> = None;
        let mut stuck: BTreeMap<String, u64> = BTreeMap::new();
        let (mut short, mut waiting, mut per_second) = (0, 0, 0.0);
        let mut lines = Vec::new();
        for line in nodes {
            let said = line.repair.clone().unwrap_or_default();
            lost.extend(said.lost);
            worst = said.waiting.iter().map(|(margin, _)| *margin).chain(worst).min();
            let waits: u64 = said.waiting.iter().map(|(_, count)| count).sum();
            let stands: u64 = said.stuck.iter().map(|(_, count)| count).sum();
            for (why, count) in said.stuck {
                let most = stuck.entry(why).or_default();
                *most = (*most).max(count);
            }
            waiting = waiting.max(waits);
            short = short.max(waits + stands);
            if let Some(since) = said.since.filter(|since| since.0 > 0) {
                per_second += said.lately as f64 * 1000.0 / since.0 as f64;
            }
            lines.push(RepairLine {
                node: line.node,
                up: line.up,
                short: waits + stands,
                running: said.running,
                repaired: said.repaired,
                moved: said.moved,
                failed: said.failed,
            });
        }
        let failing: Vec<Failing> =
            failing(nodes).into_iter().map(|(node, stripes)| Failing { node, stripes }).collect();
        // Without a rate it is no number, and no time.
        let left = Duration::try_from_secs_f64(waiting as f64 / per_second).ok();
        let left = left.filter(|_| waiting > 0).map(|left| left.as_secs());
        let stuck = stuck.into_iter().map(|(why, stripes)| Stuck { why, stripes }).collect();
        let good = short == 0 && lost.is_empty() && failing.is_empty();
        Self { good, nodes: lines, lost, short, worst, stuck, failing, left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::OperatorId;
    use protocol::message::{AuditStatus, RepairStatus};
    use protocol::time::Period;

    fn line(name: u8, repair: RepairStatus, failing: &[(u8, u64)]) -> NodeLine {
        let failing = failing.iter().map(|&(node, count)| (NodeId([node; 32]), count)).collect();
        NodeLine {
            evidence: BTreeMap::new(),
            node: NodeId([name; 32]),
            operator: OperatorId([0; 32]),
            labels: BTreeMap::new(),
            up: true,
            used: 0,
            room: 0,
            quota: 0,
            shards: 0,
            trouble: None,
            lock_clock: None,
            repair: Some(repair),
            scrub: None,
            audit: Some(AuditStatus { failing, ..AuditStatus::default() }),
            leaving: None,
        }
    }

    #[test]
    fn what_several_nodes_say_of_the_same_stripes_is_counted_once() {
        let said = |waiting: &[(i64, u64)], lately: u64| RepairStatus {
            waiting: waiting.to_vec(),
            stuck: vec![("no room".into(), 2)],
            since: Some(Period::seconds(100)),
            lately,
            ..RepairStatus::default()
        };
        let nodes = [
            line(1, said(&[(-1, 3), (0, 5)], 1), &[(9, 4)]),
            line(2, said(&[(0, 10)], 3), &[(9, 6)]),
        ];
        let all = Repairs::of(&nodes);
        assert_eq!((all.good, all.short, all.worst), (false, 12, Some(-1)));
        assert_eq!(all.stuck, [Stuck { why: "no room".into(), stripes: 2 }]);
        assert_eq!(all.failing, [Failing { node: NodeId([9; 32]), stripes: 6 }]);
        // Four in a hundred seconds: ten in 250.
        assert_eq!(all.left, Some(250));
    }

    #[test]
    fn where_nothing_is_short_nothing_is_said() {
        let all = Repairs::of(&[line(1, RepairStatus::default(), &[])]);
        assert_eq!((all.good, all.short, all.worst, all.left), (true, 0, None, None));
    }
}
