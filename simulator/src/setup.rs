//! Who takes part: nodes, their operators and labels, and how the world around them behaves. Keys
//! follow from names, not from the seed: two seeds differ in what happens, not in who is there.

use crate::disk::DiskConfig;
use crate::network::NetworkConfig;
use crate::swap::Swap;
use protocol::certificate::{Authority, NodeCertificate, Trust};
use protocol::id::{NodeId, OperatorId};
use protocol::label::{Label, Labels};
use protocol::peer::PeerConfig;
use protocol::sign::{SecretKey, Signed};
use protocol::succession::Speaker;
use protocol::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The wall clock when the world begins.
pub(crate) const EPOCH: Wall = Wall(1_800_000_000_000);
/// How long everything signed at the beginning counts.
pub(crate) const VALIDITY: Period = Period::days(3650);

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSetup {
    /// The name of its operator.
    pub operator: String,
    /// What its certificate states.
    pub labels: Labels,
    /// Bytes of shards that it takes, if other than [`PeerSetup::quota`].
    #[serde(default)]
    pub quota: Option<u64>,
    /// So many millionths its clock runs too fast, or too slow.
    #[serde(default)]
    pub drift_ppm: i32,
    /// So many milliseconds its clock shows too much, or too little.
    #[serde(default)]
    pub offset_ms: i64,
    /// Whether it is down until a step starts it. Rosters list it from the beginning.
    #[serde(default)]
    pub joins_later: bool,
    /// How its disk behaves, if other than [`Setup::disk`].
    #[serde(default)]
    pub disk: Option<DiskConfig>,
}

/// What every peer is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSetup {
    /// Bytes of shards that a node takes.
    pub quota: u64,
    /// The longest lock, and the longest cooldown, that it promises.
    pub lock_max: Period,
    /// Bytes of shards that one vault may add in a day; `None` is as much as the quota has room for.
    pub growth_per_day: Option<u64>,
    /// How often members are exchanged and clocks compared. Half a minute in production; a year of a thousand nodes is simulated
    /// with an hour.
    pub exchange_period: Period,
    /// How long a node may be silent before what it holds is rebuilt elsewhere.
    #[serde(default = "patience")]
    pub patience: Period,
    /// In how long every shard that others hold of what a node holds is asked about once.
    #[serde(default = "audit_period")]
    pub audit_period: Period,
    /// Bytes of shards that one vault has at a node at most; `None` is as much as its quota has room for.
    #[serde(default)]
    pub vault_quota: Option<u64>,
}

fn patience() -> Period {
    PeerConfig::default().patience
}

fn audit_period() -> Period {
    PeerConfig::default().audit_period
}

impl Default for PeerSetup {
    fn default() -> Self {
        let PeerConfig {
            quota,
            lock_max,
            growth_per_day,
            exchange_period,
            patience,
            audit_period,
            vault_quota,
            ..
        } = PeerConfig::default();
        Self {
            quota,
            lock_max,
            growth_per_day,
            exchange_period,
            patience,
            audit_period,
            vault_quota,
        }
    }
}

/// Everything that a world begins with, but the seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The nodes. They trust each other's operators, unless these swap.
    pub nodes: Vec<NodeSetup>,
    /// What every peer is set to. Each node looks for members at node 0 first, or at the first one of its operator where these swap.
    pub peer: PeerSetup,
    /// The network.
    pub network: NetworkConfig,
    /// The disks.
    pub disk: DiskConfig,
    /// What operators agreed. Where anything is, each trusts itself and its partners alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub swaps: Vec<Swap>,
}

impl Setup {
    /// So many nodes over so many providers, in turn; each provider is run by an operator of its own.
    #[must_use]
    pub fn over_providers(nodes: usize, providers: usize) -> Self {
        let nodes = (0..nodes).map(|index| {
            let provider = index % providers.max(1);
            let label = |level: &str, name: String| -> Label {
                format!("{level}={name}").parse().expect("a level and a number make a label")
            };
            let labels = Labels::new([
                label("provider", format!("p{provider}")),
                label("region", format!("r{}", index / providers.max(1))),
            ]);
            NodeSetup {
                operator: format!("operator of p{provider}"),
                labels: labels.expect("two labels of different levels"),
                ..NodeSetup::default()
            }
        });
        Self {
            nodes: nodes.collect(),
            peer: PeerSetup::default(),
            network: NetworkConfig::default(),
            disk: DiskConfig::default(),
            swaps: Vec::new(),
        }
    }

    /// What the peer of a node is set to.
    pub(crate) fn config(&self, index: usize) -> PeerConfig {
        let PeerSetup {
            quota,
            lock_max,
            growth_per_day,
            exchange_period,
            patience,
            audit_period,
            vault_quota,
        } = self.peer;
        PeerConfig {
            quota: self.nodes[index].quota.unwrap_or(quota),
            vault_quota,
            lock_max,
            growth_per_day,
            audit_period,
            exchange_period,
            patience,
            ..PeerConfig::default()
        }
    }

    /// Whom a node trusts from the beginning: the operators of all nodes, or its own where they swap.
    pub(crate) fn trust(&self, index: usize) -> Trust {
        let own = &self.nodes[index].operator;
        let is_trusted = |node: &&NodeSetup| self.swaps.is_empty() || node.operator == *own;
        let trusted = self.nodes.iter().filter(is_trusted).map(|node| node.operator.as_str());
        // To know a key by its name takes a multiplication on the curve.
        let trusted: BTreeSet<&str> = trusted.collect();
        Trust::new(trusted.into_iter().map(operator_id))
    }

    /// Where a node looks for members first: at the first one that its operator runs, or at node 0 where they do not swap.
    pub(crate) fn first_of(&self, index: usize) -> usize {
        let own = &self.nodes[index].operator;
        let first = self.nodes.iter().position(|node| node.operator == *own);
        first.filter(|_| !self.swaps.is_empty()).unwrap_or(0)
    }

    pub(crate) fn node_key(index: usize) -> SecretKey {
        key("node", &index.to_string())
    }

    /// The certificate of one node.
    pub(crate) fn certificate(&self, index: usize) -> Signed<NodeCertificate> {
        let NodeSetup { operator, labels, .. } = &self.nodes[index];
        let node = Self::node_key(index).public().into();
        certify(node, &Speaker::first(operator_key(operator)), labels.clone())
    }
}

/// An operator's word for a node.
pub(crate) fn certify(node: NodeId, speaker: &Speaker, labels: Labels) -> Signed<NodeCertificate> {
    let certificate = NodeCertificate {
        node,
        operator: speaker.operator(),
        labels,
        issued: EPOCH,
        expires: EPOCH.after(VALIDITY),
        authority: Authority::Operator,
    };
    Signed::speak(&certificate, speaker)
}

/// The key of whoever has this name.
pub(crate) fn key(kind: &str, name: &str) -> SecretKey {
    let context = "strewn 2026-11 simulator key v1";
    SecretKey::from_seed(&blake3::derive_key(context, format!("{kind} {name}").as_bytes()))
}

pub(crate) fn operator_key(name: &str) -> SecretKey {
    key("operator", name)
}

pub(crate) fn operator_id(name: &str) -> OperatorId {
    operator_key(name).public().into()
}
