//! Nodes met before: where a command begins when it looks for a mesh.
//!
//! One address a line, those of nodes that answered last first. Who does not answer today may be the only one who does
//! tomorrow, so nobody is forgotten but for want of room.

use super::Result;
use crate::home::{Home, read_file, write_file};
use crate::service::{full_address, split_address};
use libp2p::Multiaddr;
use protocol::certificate::NodeRecord;
use protocol::id::NodeId;
use protocol::sign::Signed;
use std::collections::BTreeSet;

/// Below the state folder.
pub(super) const FILE: &str = "run/met";
/// Nodes remembered: more than a mesh has.
const NODES_MAX: usize = 1024;
/// Addresses remembered of each.
const ADDRESSES_MAX: usize = 4;

/// Remembers where these nodes are, besides those known before.
pub(super) fn remember(home: &Home, records: &[Signed<NodeRecord>]) -> Result<()> {
    let known = read_file(&home.path(FILE))?.unwrap_or_default();
    let met = merge(records, &String::from_utf8_lossy(&known));
    Ok(write_file(&home.path(FILE), met.as_bytes(), 0o644)?)
}

/// What to remember of nodes: these records, and behind them who was met before and is not among them.
fn merge(records: &[Signed<NodeRecord>], before: &str) -> String {
    let mut nodes: Vec<(NodeId, Vec<Multiaddr>)> = Vec::new();
    for record in records.iter().filter_map(|signed| signed.verify().ok()) {
        let addresses = record.addresses.iter().filter_map(|address| address.parse().ok());
        nodes.push((record.node, addresses.collect()));
    }
    let now: BTreeSet<NodeId> = nodes.iter().map(|(node, _)| *node).collect();
    let before = before.lines().filter_map(|line| split_address(&line.parse().ok()?));
    for (node, address) in before.filter(|(node, _)| !now.contains(node)) {
        match nodes.iter_mut().find(|(known, _)| *known == node) {
            Some((_, addresses)) => addresses.push(address),
            None => nodes.push((node, vec![address])),
        }
    }
    let lines = nodes.into_iter().take(NODES_MAX).flat_map(|(node, addresses)| {
        let addresses = addresses.into_iter().take(ADDRESSES_MAX);
        addresses.map(move |address| format!("{}\n", full_address(&address, node)))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::certificate::{Authority, NodeCertificate};
    use protocol::id::OperatorId;
    use protocol::label::Labels;
    use protocol::sign::SecretKey;
    use protocol::time::Wall;

    fn record(key: &SecretKey, addresses: &[&str]) -> Signed<NodeRecord> {
        let certificate = NodeCertificate {
            operator: OperatorId::from(key.public()),
            node: key.public().into(),
            labels: Labels::new([]).expect("no labels"),
            issued: Wall(0),
            expires: Wall(1),
            authority: Authority::Operator,
        };
        let record = NodeRecord {
            node: key.public().into(),
            certificate: Signed::sign(&certificate, key),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            version: 1,
        };
        Signed::sign(&record, key)
    }

    #[test]
    fn who_was_met_before_is_remembered_behind_those_who_answer() {
        let [one, two] = [1, 2].map(|seed| SecretKey::from_seed(&[seed; 32]));
        let before = merge(
            &[record(&one, &["/ip4/10.0.0.1/tcp/1"]), record(&two, &["/ip4/10.0.0.2/tcp/2"])],
            "",
        );
        assert_eq!(before.lines().count(), 2);
        // The second one alone answers, and has moved.
        let after = merge(&[record(&two, &["/ip4/10.0.0.3/tcp/3", "nonsense"])], &before);
        let lines: Vec<&str> = after.lines().collect();
        assert_eq!(lines.len(), 2, "{after}");
        assert!(lines[0].starts_with("/ip4/10.0.0.3/tcp/3/p2p/"), "{after}");
        assert!(lines[1].starts_with("/ip4/10.0.0.1/tcp/1/p2p/"), "{after}");
        assert_eq!(merge(&[], "nonsense\n/ip4/10.0.0.1/tcp/1\n"), "");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let key = SecretKey::from_seed(&[1; 32]);
        let addresses: Vec<String> =
            (1..100).map(|port| format!("/ip4/10.0.0.1/tcp/{port}")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let known = merge(&[record(&key, &addresses)], "");
        assert_eq!(known.lines().count(), ADDRESSES_MAX);
        assert_eq!(merge(&[], &known), known);
    }
}
