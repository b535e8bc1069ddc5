//! Copies too many: which nodes keep shards that others have as well, since something was rebuilt and its holder came back, or since somebody
//! left. The vault discharges them of these ([`protocol::discharge`] says what that is, and which copy is too many).
//!
//! It is said in the log first: from then on no host of the vault extends their locks. They last as long as they last, so a copy goes
//! when somebody asks again once they are over; what was said before is not said again.

use super::Result;
use super::inventory::{Held, Inventory, devices};
use super::ledger::Ledger;
use super::mesh::Mesh;
use super::partners;
use super::release::Asked;
use super::vault::Vault;
use crate::service::wall;
use protocol::discharge::{DISCHARGE_STRIPES_MAX, Discharge, Discharged, failing, surplus};
use protocol::id::{NodeId, StripeId};
use protocol::log::Body;
use protocol::message::{Request, Response};
use protocol::release::{RELEASE_VALIDITY_MAX, ReleaseRequest};
use protocol::repair::is_full;
use protocol::sign::{SecretKey, Signed};
use protocol::time::{Period, Wall};
use std::collections::{BTreeMap, BTreeSet};

/// A discharge that ends so soon is said anew.
const RENEWED_BEFORE: Period = Period::days(7);

/// Copies that are too many.
#[derive(Debug, Default)]
pub struct Surplus {
    /// How many there are, discharged already or not,
    pub copies: u64,
    /// and their bytes.
    pub bytes: u64,
    /// Of which stripes nodes are to be discharged that are not yet.
    new: BTreeMap<NodeId, Vec<StripeId>>,
    /// What was said before of others.
    said: Vec<Signed<Discharge>>,
}

impl Surplus {
    /// Asks all nodes what they hold. Stripes of which `is_kept` says nothing are left alone.
    ///
    /// # Errors
    /// When the home cannot be read.
    pub async fn find(
        mesh: &Mesh,
        vault: &Vault,
        ledger: &Ledger,
        is_kept: impl Fn(StripeId) -> bool,
    ) -> Result<Self> {
        let now = wall();
        let ways = Ways::ask(mesh, vault).await;
        let mut found = Self::default();
        let mut asked_before: BTreeMap<NodeId, BTreeSet<StripeId>> = BTreeMap::new();
        let mut inventory = Inventory::new(mesh, vault.id, devices(mesh, vault).await);
        while let Some(held) = inventory.next().await {
            if !is_kept(held.stripe) {
                continue;
            }
            for node in found.take(&held, mesh, &ways, (ledger.discharged(), now)) {
                asked_before.entry(node).or_default().insert(held.stripe);
            }
        }
        let is_open = |said: &Discharge| {
            let of_node = asked_before.get(&said.node);
            now < said.request.expires
                && of_node.is_some_and(|of| said.request.stripes.iter().any(|id| of.contains(id)))
        };
        let said = ledger.discharges();
        found.said = said.filter(|(_, said)| is_open(said)).map(|(signed, _)| signed).collect();
        Ok(found)
    }

    /// Takes in what is held of one stripe, and gives the nodes that were discharged of it before and have it still.
    fn take(
        &mut self,
        held: &Held,
        mesh: &Mesh,
        ways: &Ways,
        (discharged, now): (&Discharged, Wall),
    ) -> Vec<NodeId> {
        let site = |node: NodeId| mesh.nodes.get(&node).map(|node| &node.site);
        let is_free = |node: NodeId| discharged.is_discharged(node, held.stripe, now);
        let stays = |node: NodeId| !ways.moving.contains(&node) && !is_free(node);
        let surplus = surplus(&held.record, &held.promised, &ways.full, stays, site);
        self.copies += surplus.len() as u64;
        self.bytes += surplus.len() as u64 * u64::from(held.record.stripe.shard_len);
        for &node in &surplus {
            if !discharged.is_discharged(node, held.stripe, now.after(RENEWED_BEFORE)) {
                self.new.entry(node).or_default().push(held.stripe);
            }
        }
        held.promised.keys().copied().filter(|&node| is_free(node)).collect()
    }

    /// Whether nothing is to be asked.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.new.is_empty() && self.said.is_empty()
    }

    /// Says in the log what is new, and gives everything that is to be asked.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub async fn say(
        &self,
        ledger: &mut Ledger,
        mesh: &Mesh,
        vault: &Vault,
        key: &SecretKey,
    ) -> Result<Vec<Asked>> {
        let (issued, expires) = (wall(), Wall(wall().after(RELEASE_VALIDITY_MAX).0 - 60_000));
        let mut asked: Vec<Asked> = self.said.iter().cloned().map(Asked::At).collect();
        for (&node, stripes) in &self.new {
            for stripes in stripes.chunks(DISCHARGE_STRIPES_MAX) {
                let stripes = stripes.to_vec();
                let request = ReleaseRequest { vault: vault.id, issued, expires, stripes };
                let signed = Signed::sign(&Discharge { node, request }, key);
                let body = Body::Discharged(signed.clone());
                let _ = ledger.append(mesh, vault, body, false).await?;
                asked.push(Asked::At(signed));
            }
        }
        Ok(asked)
    }
}

/// Nodes that are to be free of what they hold, if that can be.
struct Ways {
    /// On which nothing is to be counted for long: they leave or fail audits, or their operator leaves or breaks its part.
    moving: BTreeSet<NodeId>,
    /// Which are nearly full.
    full: BTreeSet<NodeId>,
}

impl Ways {
    async fn ask(mesh: &Mesh, vault: &Vault) -> Self {
        let avoided = partners::avoided(mesh, vault.operator).await;
        let theirs = mesh.nodes.values().filter(|node| avoided.contains(&node.site.operator));
        let mut ways = Self { moving: theirs.map(|node| node.id).collect(), full: BTreeSet::new() };
        let mut audits = Vec::new();
        for (node, answer) in mesh.ask_all(&Request::Status).await {
            let Ok(Response::Status(status)) = answer else { continue };
            let shown = status.audit.failing.iter().map(|(node, _)| *node).collect();
            audits.push((node.site.operator, shown));
            if status.leaving.is_some() {
                ways.moving.insert(node.id);
            }
            if is_full(status.used, status.quota) {
                ways.full.insert(node.id);
            }
        }
        ways.moving.extend(failing(vault.operator, audits));
        ways
    }
}
