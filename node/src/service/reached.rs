//! Where the peer's node reached others, and what of that contradicts their labels: said once for each, and nothing else comes of it.

use protocol::id::NodeId;
use protocol::label::Site;
use protocol::observed::{Observed, contradictions};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Most nodes of which it is kept,
const NODES_MAX: usize = 1024;
/// and most addresses of each.
const ADDRESSES_MAX: usize = 16;

/// What is kept of it.
#[derive(Debug, Default)]
pub(super) struct Reached {
    addresses: BTreeMap<NodeId, BTreeSet<IpAddr>>,
    said: BTreeMap<NodeId, Vec<String>>,
    is_news: bool,
}

impl Reached {
    /// A node was reached.
    pub(super) fn add(&mut self, node: NodeId, address: IpAddr) {
        if self.addresses.len() >= NODES_MAX && !self.addresses.contains_key(&node) {
            return;
        }
        let known = self.addresses.entry(node).or_default();
        self.is_news |= known.len() < ADDRESSES_MAX && known.insert(address);
    }

    /// What contradicts labels of these nodes and was not said yet.
    pub(super) fn news<'a>(
        &mut self,
        sites: impl Iterator<Item = &'a Site>,
    ) -> Vec<(NodeId, String)> {
        if !std::mem::take(&mut self.is_news) {
            return Vec::new();
        }
        let observed = |site: &'a Site| {
            let addresses = self.addresses.get(&site.node).cloned().unwrap_or_default();
            (site, Observed { addresses, version: None })
        };
        let found = contradictions(&sites.map(observed).collect::<Vec<_>>());
        let is_new = |(node, what): &(&NodeId, &Vec<String>)| self.said.get(node) != Some(what);
        let news =
            found.iter().filter(is_new).map(|(node, what)| (*node, what.join("; "))).collect();
        self.said = found;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::OperatorId;
    use protocol::label::Labels;

    #[test]
    fn what_contradicts_labels_is_said_once() {
        let site = |node: u8, label: &str| {
            let labels = Labels::new([label.parse().unwrap()]).unwrap();
            Site::new(NodeId([node; 32]), OperatorId([9; 32]), labels)
        };
        let sites = [site(1, "provider=aws"), site(2, "provider=gcp")];
        let mut reached = Reached::default();
        let address: IpAddr = "203.0.113.7".parse().unwrap();
        reached.add(sites[0].node, address);
        assert!(reached.news(sites.iter()).is_empty());
        reached.add(sites[1].node, address);
        let news = reached.news(sites.iter());
        assert_eq!(news.len(), 2, "{news:?}");
        reached.add(sites[1].node, address);
        reached.add(sites[1].node, "203.0.113.8".parse().unwrap());
        assert!(reached.news(sites.iter()).is_empty());
    }
}
