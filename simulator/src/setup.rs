//! Who takes part: nodes, their operators and labels, and how the world around them behaves. Keys
//! follow from names, not from the seed: two seeds differ in what happens, not in who is there.

use crate::disk::DiskConfig;
use crate::network::NetworkConfig;
use protocol::certificate::{Authority, NodeCertificate, Trust};
use protocol::id::OperatorId;
use protocol::label::{Label, Labels};
use protocol::peer::PeerConfig;
use protocol::sign::{SecretKey, Signed};
use protocol::time::{Period, Wall};

/// The wall clock when the world begins.
pub(crate) const EPOCH: Wall = Wall(1_800_000_000_000);
/// How long everything signed at the beginning counts.
pub(crate) const VALIDITY: Period = Period::days(3650);

/// One node.
#[derive(Debug, Clone)]
pub struct NodeSetup {
    /// The name of its operator.
    pub operator: String,
    /// What its certificate states.
    pub labels: Labels,
}

/// Everything that a world begins with, but the seed.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The nodes. They trust each other's operators.
    pub nodes: Vec<NodeSetup>,
    /// What every peer is set to. Each node looks for members at node 0 first.
    pub peer: PeerConfig,
    /// The network.
    pub network: NetworkConfig,
    /// The disks.
    pub disk: DiskConfig,
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
            }
        });
        Self {
            nodes: nodes.collect(),
            peer: PeerConfig::default(),
            network: NetworkConfig::default(),
            disk: DiskConfig::default(),
        }
    }

    /// Trusts the operators of all nodes.
    pub(crate) fn trust(&self) -> Trust {
        Trust::new(self.nodes.iter().map(|node| operator_id(&node.operator)))
    }

    pub(crate) fn node_key(index: usize) -> SecretKey {
        key("node", &index.to_string())
    }

    /// The certificate of one node.
    pub(crate) fn certificate(&self, index: usize) -> Signed<NodeCertificate> {
        let NodeSetup { operator, labels } = &self.nodes[index];
        let certificate = NodeCertificate {
            node: Self::node_key(index).public().into(),
            operator: operator_id(operator),
            labels: labels.clone(),
            issued: EPOCH,
            expires: EPOCH.after(VALIDITY),
            authority: Authority::Operator,
        };
        Signed::sign(&certificate, &operator_key(operator))
    }
}

/// The key of whoever has this name.
pub(crate) fn key(kind: &str, name: &str) -> SecretKey {
    let context = "strewn 2026-11 simulator key v1";
    SecretKey::from_seed(&blake3::derive_key(context, format!("{kind} {name}").as_bytes()))
}

pub(crate) fn operator_key(name: &str) -> SecretKey {
    key("operator", name)
}

fn operator_id(name: &str) -> OperatorId {
    operator_key(name).public().into()
}
