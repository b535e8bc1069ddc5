//! A partner's nodes as `partner show` tells of them: where those lie that answer, and why others do not.

use crate::cli::error::CliError;
use crate::client::mesh::{Caller, Mesh, Node};
use crate::commands::vouch;
use crate::home::Home;
use crate::service::full_address;
use futures::future::join_all;
use libp2p::Multiaddr;
use protocol::evidence::Evidence;
use protocol::id::{NodeId, OperatorId};
use protocol::label::Labels;
use protocol::message::NOT_KNOWN;
use protocol::partner::Known;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A partner's node that does not answer, or not to this operator.
#[derive(Debug, Serialize)]
pub(super) struct SilentNode {
    pub(super) node: NodeId,
    pub(super) why: String,
}

/// How long a partner's node is tried that this operator's nodes have not met.
const PATIENCE: Duration = Duration::from_secs(5);

/// A partner's nodes that do not answer, and why: those that are known, and those that its introduction names.
pub(super) async fn silent(home: &Home, mesh: &Mesh, known: &Known) -> Vec<SilentNode> {
    let partner = known.introduction.operator;
    let met = mesh.silent.iter().filter(|(_, silent)| silent.site.operator == partner);
    let mut gone: BTreeMap<NodeId, String> =
        met.map(|(node, silent)| (*node, format!("SILENT: {}", silent.reason))).collect();
    let unmet = known.introduction.contacts.iter().filter(|contact| {
        !mesh.nodes.contains_key(&contact.node) && !gone.contains_key(&contact.node)
    });
    let tried = unmet.map(async |contact| {
        let parsed = contact.addresses.iter().filter_map(|address| address.parse().ok());
        let addresses: Vec<_> =
            parsed.map(|address| full_address(&address, contact.node)).collect();
        (contact.node, why_unmet(home, &addresses).await)
    });
    gone.extend(join_all(tried).await);
    gone.into_iter().map(|(node, why)| SilentNode { node, why }).collect()
}

/// What a node answers at these addresses that none of the own nodes has met.
async fn why_unmet(home: &Home, addresses: &[Multiaddr]) -> String {
    let Ok(caller) = Caller::console(home) else { return "not met yet".into() };
    let connect = Mesh::connect_at(home, caller.believing_nodes(addresses), addresses);
    match tokio::time::timeout(PATIENCE, connect).await {
        Ok(Ok(_)) => "answers here, and this operator's nodes have not met it yet".into(),
        Ok(Err(error)) => unmet_text(&error.to_string()),
        Err(_) => "SILENT: it does not answer".into(),
    }
}

/// A node that refuses whoever it does not know says so in words.
fn unmet_text(error: &str) -> String {
    if error.contains(NOT_KNOWN) {
        "refuses this operator: its people have not added it yet (strewn partner add there, with the line of strewn partner ticket), or in the last minute".into()
    } else {
        format!("SILENT: {error}")
    }
}

/// Where a partner's node lies.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) node: NodeId,
    labels: Labels,
    evidence: BTreeMap<String, Evidence>,
    pub(super) vouches: Vec<vouch::ShownVouch>,
    /// How that differs from what was agreed; then it counts as unknown.
    pub(super) contradicted: Option<String>,
    #[serde(skip)]
    pub(super) text: String,
}

pub(super) fn places(
    home: &Home,
    mesh: &Mesh,
    partner: OperatorId,
) -> Result<Vec<Place>, CliError> {
    let theirs = mesh.nodes.values().filter(|node| node.site.operator == partner);
    let place = |node: &Arc<Node>| {
        let certificate = node.certificate.verify().map_err(|e| CliError::new(e.to_string()))?;
        let shown = node.site.shown();
        Ok(Place {
            node: node.id,
            labels: node.site.labels.clone(),
            evidence: shown.map(|(level, _, evidence)| (level.to_string(), evidence)).collect(),
            vouches: vouch::vouches(home, &certificate)?,
            contradicted: mesh.mislabelled.get(&node.id).cloned(),
            text: vouch::label_texts(&node.site),
        })
    };
    theirs.map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_added_this_operator_is_told_from_who_is_gone() {
        assert!(
            unmet_text(&format!("node 1 refused: node 2 {NOT_KNOWN}")).contains("have not added")
        );
        assert!(unmet_text("connection refused").starts_with("SILENT"));
    }
}
