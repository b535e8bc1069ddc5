//! Receipts for service of a month ([`protocol::served`]): what the holder shows, what those have who gave them, and whether what it states
//! comes to that.
//!
//! What givers have and the holder does not show is brought to it first: it was on its way, or forgotten, and is taken now; or it is not, and
//! then the holder is found out.

use crate::client::mesh::{Mesh, Node, given};
use crate::client::vault::{Vault, states};
use crate::client::{ClientError, Result};
use protocol::certificate::{DeviceCertificate, NodeCertificate};
use protocol::id::{DeviceId, NodeId, OperatorId, PublicKey};
use protocol::message::{Request, Response};
use protocol::served::{ServiceCount, ServiceReceipt, givers};
use protocol::sign::Signed;
use protocol::tally::{Difference, Done, UsageStatement};
use std::collections::{BTreeMap, BTreeSet};

/// Receipts of one node and month: more than a vault's devices and holders.
const RECEIPTS_MAX: usize = 1 << 13;

/// Who can have been served.
pub(super) struct Givers {
    /// Devices of the vault, also those that were revoked since.
    pub(super) devices: BTreeSet<DeviceId>,
    revoked: BTreeSet<DeviceId>,
    /// Nodes that its roster lists, and those of operators with whom it is stored, each with its operator.
    nodes: BTreeMap<NodeId, OperatorId>,
}

impl Givers {
    /// By what nodes know of the vault.
    pub(super) async fn of(mesh: &Mesh, vault: &Vault) -> Result<Self> {
        let mut devices = BTreeSet::from([vault.device_id()]);
        let mut revoked = BTreeSet::new();
        states(mesh, vault.id, |_, state| {
            let certificates = state.devices.iter().filter_map(|signed| signed.verify().ok());
            let its = certificates.filter(|it: &DeviceCertificate| it.vault == vault.id);
            devices.extend(its.map(|certificate| certificate.device));
            let orders = state.revoked.iter().filter_map(|signed| signed.verify().ok());
            revoked.extend(orders.filter(|it| it.vault == vault.id).map(|order| order.device));
        })
        .await;
        let roster = vault.papers.roster.verify().map_err(ClientError::content)?;
        let listed = roster.nodes.iter().filter_map(|signed| signed.verify().ok());
        let listed = listed.map(|it: NodeCertificate| (it.node, it.operator));
        let met = mesh.nodes.values().map(|node| (node.id, node.site.operator));
        let silent = mesh.silent.iter().map(|(node, silent)| (*node, silent.site.operator));
        Ok(Self { devices, revoked, nodes: listed.chain(met).chain(silent).collect() })
    }

    /// Those who can have been served by nodes of an operator.
    fn by(&self, operator: OperatorId) -> BTreeSet<PublicKey> {
        let nodes = self.nodes.iter().map(|(node, operator)| (*node, *operator));
        givers(self.devices.iter().copied(), nodes, operator)
    }
}

/// The receipts of a statement's month that their givers have: nodes, and this host.
pub(super) async fn heard(
    mesh: &Mesh,
    vault: &Vault,
    statement: &UsageStatement,
) -> Vec<Signed<ServiceReceipt>> {
    let shown = mesh.nodes.values().map(|node| shown(node, statement));
    // Who does not say what it gave keeps nothing from being counted.
    let shown = futures::future::join_all(shown).await.into_iter().flatten().flatten();
    shown.chain(given(vault, statement.month)).collect()
}

/// What receipts for service came to.
pub(super) struct Service {
    /// What the holder states, at the time of the count.
    pub(super) signed: Signed<UsageStatement>,
    pub(super) by_giver: Vec<(PublicKey, Done)>,
    pub(super) differences: Vec<Difference>,
    /// What does not count, is not shown, or is to be looked at.
    pub(super) wrong: BTreeSet<String>,
}

/// Has a holder state a month, and compares that with the receipts.
pub(super) async fn count(
    holder: &Node,
    statement: &UsageStatement,
    givers: &Givers,
    heard: &[Signed<ServiceReceipt>],
) -> Result<Service> {
    let UsageStatement { vault, month, .. } = *statement;
    let operator = holder.site.operator;
    let mut count = ServiceCount::new((holder.id, vault, month), givers.by(operator));
    let mut wrong = BTreeSet::new();
    for signed in about(holder, statement).await? {
        if let Err(error) = count.show_before(&signed) {
            wrong.insert(error.to_string());
        }
    }
    let mut is_brought = false;
    for signed in heard.iter().filter(|signed| count.hear(signed)).collect::<Vec<_>>() {
        // What it does not take is found below.
        let _ = holder.request(&Request::Served(Box::new(signed.clone()))).await;
        is_brought = true;
    }
    if is_brought {
        for signed in about(holder, statement).await? {
            let _ = count.show_before(&signed);
        }
    }
    let signed = stated(holder, statement).await?;
    let said = UsageStatement::verify(&signed).map_err(ClientError::content)?;
    for signed in about(holder, statement).await? {
        if let Err(error) = count.show_after(&signed) {
            wrong.insert(error.to_string());
        }
    }
    wrong.extend(
        count.withheld().map(|given| format!("the receipt that {} gave is not taken", given.by)),
    );
    let by_giver: Vec<(PublicKey, Done)> = count.by_giver().collect();
    let revoked = by_giver.iter().filter(|(by, _)| givers.revoked.contains(&DeviceId::from(*by)));
    wrong.extend(revoked.map(|(by, _)| format!("a receipt is of device {by}, which was revoked")));
    Ok(Service { signed, by_giver, differences: count.differences(&said), wrong })
}

/// What the holder says now of the same month, which is not less than it said before.
async fn stated(holder: &Node, statement: &UsageStatement) -> Result<Signed<UsageStatement>> {
    let request = Request::Statements { month: statement.month };
    let unexpected = |what: &str| ClientError::node(holder.id, what);
    let Response::Statements(stated) = holder.request(&request).await? else {
        return Err(unexpected("an unexpected answer"));
    };
    for stated in stated {
        if let Ok(said) = UsageStatement::verify(&stated.statement)
            && said.is_about(statement)
        {
            return if said.takes_back(statement) {
                Err(unexpected("it states less than before"))
            } else {
                Ok(stated.statement)
            };
        }
    }
    Err(unexpected("it states that month no more"))
}

/// What a holder shows of what it did itself.
async fn about(holder: &Node, statement: &UsageStatement) -> Result<Vec<Signed<ServiceReceipt>>> {
    let mut shown = shown(holder, statement).await?;
    shown.retain(|signed| signed.verify().is_ok_and(|receipt| receipt.holder == holder.id));
    Ok(shown)
}

/// The receipts of the month that a node has, taken and given.
async fn shown(node: &Node, statement: &UsageStatement) -> Result<Vec<Signed<ServiceReceipt>>> {
    let UsageStatement { vault, month, .. } = *statement;
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let request = Request::Services { vault, month, after };
        let Response::Services { receipts, more } = node.request(&request).await? else {
            return Err(ClientError::node(node.id, "an unexpected answer"));
        };
        let last = receipts.last().and_then(|signed| signed.verify().ok());
        let last = last.map(|receipt| (receipt.holder, receipt.by));
        all.extend(receipts);
        if !more || last <= after {
            return Ok(all);
        }
        if all.len() > RECEIPTS_MAX {
            let text = format!("more than {RECEIPTS_MAX} receipts for a month");
            return Err(ClientError::node(node.id, text));
        }
        after = last;
    }
}
