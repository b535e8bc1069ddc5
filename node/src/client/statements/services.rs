//! Receipts for service of a month ([`protocol::served`]): what the holder shows, what those have who gave them, and whether a statement's
//! figures come to that.
//!
//! While a month goes on receipts come in. So they are compared with what the holder states at the same time, and what it stated before may
//! not have been more.

use super::Counted;
use crate::client::mesh::{Mesh, Node};
use crate::client::vault::Vault;
use crate::client::{ClientError, Result};
use protocol::id::{DeviceId, NodeId, PublicKey};
use protocol::message::{Request, Response};
use protocol::served::{ServiceCount, ServiceReceipt};
use protocol::sign::Signed;
use protocol::tally::{Difference, UsageStatement};
use std::collections::BTreeSet;

/// How often receipts are compared anew because some came in meanwhile.
const TRIES: usize = 3;
/// Receipts of one node and month: more than a vault's devices and holders.
const RECEIPTS_MAX: usize = 1 << 13;

/// Who can have been served: devices of the vault, and nodes that hold or held shards of it.
pub(super) fn givers(
    mesh: &Mesh,
    vault: &Vault,
    devices: &BTreeSet<DeviceId>,
) -> Result<BTreeSet<PublicKey>> {
    let listed = vault.listed()?.into_iter();
    let nodes = listed.chain(mesh.nodes.keys().copied()).chain(mesh.silent.keys().copied());
    let nodes = nodes.map(|node: NodeId| node.key());
    Ok(nodes.chain(devices.iter().map(DeviceId::key)).collect())
}

/// Adds to what receipts of shards came to what those for service do.
pub(super) async fn add(
    mesh: &Mesh,
    holder: &Node,
    statement: &UsageStatement,
    givers: &BTreeSet<PublicKey>,
    mut counted: Counted,
) -> Result<Counted> {
    let mut found = compare(mesh, holder, statement, givers).await?;
    for _ in 1..TRIES {
        if found.differences.is_empty() {
            break;
        }
        found = compare(mesh, holder, statement, givers).await?;
    }
    counted.receipts += found.receipts;
    counted.differences.extend(found.differences);
    counted.services_wrong = found.wrong;
    Ok(counted)
}

/// What comparing came to.
struct Found {
    receipts: u64,
    differences: Vec<Difference>,
    wrong: Vec<String>,
}

async fn compare(
    mesh: &Mesh,
    holder: &Node,
    statement: &UsageStatement,
    givers: &BTreeSet<PublicKey>,
) -> Result<Found> {
    let now = stated(holder, statement).await?;
    let mut count = ServiceCount::of(&now, Some(givers.clone()));
    let mut wrong = Vec::new();
    for signed in shown(holder, statement).await? {
        let is_its = signed.verify().is_ok_and(|receipt| receipt.holder == holder.id);
        if is_its && let Err(error) = count.show(&signed) {
            wrong.push(error.to_string());
        }
    }
    for node in mesh.nodes.values().filter(|node| node.id != holder.id) {
        // Who does not say what it gave keeps nothing from being counted.
        let given = shown(node, statement).await.unwrap_or_default();
        given.iter().for_each(|signed| count.hear(signed));
    }
    let mut differences = count.differences(&now);
    if now.figures.done.minus(statement.figures.done).is_none() {
        differences = count.differences(statement);
    }
    let withheld = count.withheld(now.until).into_iter();
    wrong.extend(withheld.map(|by| format!("the last receipt that {by} gave is not shown")));
    Ok(Found { receipts: count.count(), differences, wrong })
}

/// What the holder says now of the same month.
async fn stated(holder: &Node, statement: &UsageStatement) -> Result<UsageStatement> {
    let request = Request::Statements { month: statement.month };
    let unexpected = || ClientError::node(holder.id, "it states that month no more");
    let Response::Statements(stated) = holder.request(&request).await? else {
        return Err(unexpected());
    };
    let mut said =
        stated.iter().filter_map(|stated| UsageStatement::verify(&stated.statement).ok());
    said.find(|said| said.is_about(statement)).ok_or_else(unexpected)
}

/// The receipts of the month that a node has.
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
