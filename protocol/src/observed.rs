//! What was observed of nodes that contradicts what they state. It is said, and changes nothing that counts: addresses can be borrowed (relays,
//! address translation), and a version is a node's own word.

use crate::id::NodeId;
use crate::label::{Level, Site};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

/// The level at which a node states its software.
const BUILD: &str = "build";
/// The level at which a node states from which network it can be reached, as ADDRESS/BITS.
const NETWORK: &str = "network";
/// The level of providers, of whom each has addresses of its own.
const PROVIDER: &str = "provider";

/// What was observed of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Where it answered, with its key.
    pub addresses: BTreeSet<IpAddr>,
    /// What it says it runs.
    pub version: Option<String>,
}

/// What contradicts labels, in words, by node.
#[must_use]
pub fn contradictions(nodes: &[(&Site, Observed)]) -> BTreeMap<NodeId, Vec<String>> {
    let mut found: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    let stated = |site: &Site, level: &str| -> Option<String> {
        site.labels.get(&Level::new(level).ok()?).map(str::to_owned)
    };
    let mut by_address: BTreeMap<IpAddr, Vec<(NodeId, String)>> = BTreeMap::new();
    for (site, observed) in nodes {
        if let (Some(build), Some(version)) = (stated(site, BUILD), &observed.version)
            && build != *version
        {
            let text = format!("it states build={build}, and says that it runs {version}");
            found.entry(site.node).or_default().push(text);
        }
        let network = stated(site, NETWORK);
        if let Some((first, bits)) = network.as_deref().and_then(network_of) {
            let outside =
                observed.addresses.iter().find(|a| is_within(**a, first, bits) == Some(false));
            if let Some(address) = outside {
                let text =
                    format!("it states network={first}/{bits}, and was reached at {address}");
                found.entry(site.node).or_default().push(text);
            }
        }
        if let Some(provider) = stated(site, PROVIDER) {
            for address in observed.addresses.iter().filter(|address| is_public(**address)) {
                by_address.entry(*address).or_default().push((site.node, provider.clone()));
            }
        }
    }
    for (address, there) in by_address {
        for (node, provider) in &there {
            if let Some((other, theirs)) = there.iter().find(|(_, other)| other != provider) {
                let text = format!(
                    "it states provider={provider} and was reached at {address}, where node {} states provider={theirs}",
                    other.short()
                );
                found.entry(*node).or_default().push(text);
            }
        }
    }
    found
}

fn network_of(text: &str) -> Option<(IpAddr, u32)> {
    let (first, bits) = text.split_once('/')?;
    let (first, bits): (IpAddr, u32) = (first.parse().ok()?, bits.parse().ok()?);
    (bits <= if first.is_ipv4() { 32 } else { 128 }).then_some((first, bits))
}

/// The bits of an address, from the highest on.
fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}

/// Whether an address lies in a network; nobody knows of one of the other kind.
fn is_within(address: IpAddr, first: IpAddr, bits: u32) -> Option<bool> {
    let differing = (bits_of(address) ^ bits_of(first)).checked_shr(128 - bits).unwrap_or(0);
    (address.is_ipv4() == first.is_ipv4()).then_some(differing == 0)
}

/// Whether an address means the same host everywhere.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let is_shared = a.octets()[0] == 100 && a.octets()[1] & 0xc0 == 64;
            !(a.is_private()
                || a.is_loopback()
                || a.is_link_local()
                || a.is_unspecified()
                || is_shared)
        }
        IpAddr::V6(a) => {
            let is_local = |a: Ipv6Addr| {
                a.segments()[0] & 0xfe00 == 0xfc00 || a.segments()[0] & 0xffc0 == 0xfe80
            };
            !(a.is_loopback() || a.is_unspecified() || is_local(a))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(nodes: &[(&str, &str, &str)]) -> Vec<Vec<String>> {
        let sites: Vec<Site> =
            nodes.iter().zip(0..).map(|((labels, ..), i)| Site::stating(i, labels)).collect();
        let observed = nodes.iter().map(|(_, addresses, version)| Observed {
            addresses: addresses.split_whitespace().map(|a| a.parse().unwrap()).collect(),
            version: Some((*version).into()),
        });
        let all: Vec<(&Site, Observed)> = sites.iter().zip(observed).collect();
        let mut found = contradictions(&all);
        sites.iter().map(|site| found.remove(&site.node).unwrap_or_default()).collect()
    }

    #[test]
    fn two_providers_share_no_public_address() {
        let all = found(&[
            ("provider=aws", "203.0.113.7", ""),
            ("provider=gcp", "203.0.113.7 2001:db8::1", ""),
            ("provider=gcp", "203.0.113.8", ""),
            ("region=x", "203.0.113.7", ""),
        ]);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 0, 0]);
        assert!(all[0][0].contains("provider=gcp"), "{all:?}");
        for local in ["127.0.0.1", "10.0.0.1", "100.64.0.1", "fd00::1", "fe80::1", "::1"] {
            let all = found(&[("provider=aws", local, ""), ("provider=gcp", local, "")]);
            assert!(all.iter().all(Vec::is_empty), "{local}");
        }
    }

    #[test]
    fn a_node_is_reached_in_the_network_and_runs_the_build_that_it_states() {
        let all = found(&[
            ("network=203.0.113.0/24 build=0.1.0", "203.0.113.7 2001:db8::1", "0.1.0"),
            ("network=203.0.113.0/24", "198.51.100.7", "0.1.0"),
            ("network=2001:db8::/32", "2001:db9::1", ""),
            ("network=0.0.0.0/0", "198.51.100.7", ""),
            ("network=somewhere build=0.2.0", "198.51.100.7", "0.1.0"),
            ("network=10.0.0.0/33", "198.51.100.7", ""),
        ]);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 1, 0, 1, 0]);
        assert!(all[4][0].contains("build=0.2.0") && all[4][0].contains("0.1.0"));
    }
}
