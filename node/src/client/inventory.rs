//! All stripes of a vault, one after another, with what their holders say: the records of all nodes that answer, merged
//! as they come. A page of each node is in memory, however many stripes there are.

use super::mesh::{Mesh, Node};
use super::vault::{Vault, states};
use protocol::id::{DeviceId, NodeId, StripeId, VaultId};
use protocol::label::Site;
use protocol::message::{Request, Response};
use protocol::record::{Record, RecordError};
use protocol::told::{Heard, Told, counted_best, devices_of};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A stripe as its holders tell of it.
#[derive(Debug, Clone)]
pub struct Held {
    /// Which.
    pub stripe: StripeId,
    /// The newest record.
    pub record: Record,
    /// Nodes that answer and promise to have a shard, and which.
    pub promised: BTreeMap<NodeId, u16>,
}

impl Held {
    /// Of each shard the node that answers and promises to have it: the holder that the record names, or one that stands in for it.
    #[must_use]
    pub fn holders(&self, mesh: &Mesh) -> Vec<Option<NodeId>> {
        // Of several that have the same shard one counts that is counted on.
        let node = |node: NodeId| mesh.nodes.get(&node).filter(|node| node.is_relied_on());
        let site = |id: NodeId| node(id).map(|node| &node.site);
        counted_best(&self.record, &self.promised, site)
    }

    /// Where its live shards lie.
    #[must_use]
    pub fn sites<'a>(&self, mesh: &'a Mesh) -> Vec<&'a Site> {
        let live = self.holders(mesh).into_iter().flatten();
        live.filter_map(|holder| mesh.nodes.get(&holder)).map(|node| &node.site).collect()
    }
}

/// What one node has listed and nobody has looked at yet.
#[derive(Debug)]
struct Cursor {
    node: Arc<Node>,
    page: VecDeque<Told>,
    after: Option<StripeId>,
    more: bool,
    strange: u64,
}

/// The stripes of a vault in order.
#[derive(Debug)]
pub struct Inventory {
    vault: VaultId,
    devices: BTreeSet<DeviceId>,
    cursors: Vec<Cursor>,
    /// Nodes that list records which no device of the vault signed, and how many: these are left out.
    pub strange: BTreeMap<NodeId, u64>,
    /// Nodes that ended their listing with an error, and which.
    pub failed: Vec<(NodeId, String)>,
}

impl Inventory {
    /// Of a vault with these devices, from all nodes that answer.
    #[must_use]
    pub fn new(mesh: &Mesh, vault: VaultId, devices: BTreeSet<DeviceId>) -> Self {
        let cursor = |node: &Arc<Node>| Cursor {
            node: Arc::clone(node),
            page: VecDeque::new(),
            after: None,
            more: true,
            strange: 0,
        };
        let cursors = mesh.nodes.values().map(cursor).collect();
        Self { vault, devices, cursors, strange: BTreeMap::new(), failed: Vec::new() }
    }

    /// The next stripe; `None` behind the last one.
    pub async fn next(&mut self) -> Option<Held> {
        let (vault, devices) = (self.vault, &self.devices);
        let fills = self.cursors.iter_mut().map(|cursor| cursor.fill(vault, devices));
        self.failed.extend(futures::future::join_all(fills).await.into_iter().flatten());
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.strange > 0) {
            let strange = self.strange.entry(cursor.node.id).or_default();
            *strange += std::mem::take(&mut cursor.strange);
        }
        let stripe = self.cursors.iter().filter_map(|c| Some(c.page.front()?.stripe)).min()?;
        let mut heard = Heard::default();
        for cursor in &mut self.cursors {
            if cursor.page.front().is_some_and(|told| told.stripe == stripe)
                && let Some(told) = cursor.page.pop_front()
            {
                heard.hear(cursor.node.id, told);
            }
        }
        let (record, promised) = heard.into_newest()?;
        Some(Held { stripe, record, promised })
    }
}

impl Cursor {
    /// Asks for a page where there is none left. A node that fails has nothing more to say.
    async fn fill(
        &mut self,
        vault: VaultId,
        devices: &BTreeSet<DeviceId>,
    ) -> Option<(NodeId, String)> {
        while self.page.is_empty() && self.more {
            let request = Request::Inventory { vault, after: self.after };
            let (records, more) = match self.node.request(&request).await {
                Ok(Response::Inventory { records, more }) => (records, more),
                answer => {
                    self.more = false;
                    let what = match answer {
                        Err(error) => error.to_string(),
                        Ok(_) => "an unexpected answer".into(),
                    };
                    return Some((self.node.id, what));
                }
            };
            let before = self.after;
            tokio::task::block_in_place(|| {
                for held in records {
                    let told = Told::check(&held, self.node.id, vault, devices);
                    let stripe = match &told {
                        Ok(told) => told.stripe,
                        Err(RecordError::Stranger { stripe, .. }) => *stripe,
                        Err(_) => continue,
                    };
                    // In order, and each once: whoever lists otherwise is not listened to.
                    if self.after.is_none_or(|after| stripe > after) {
                        self.after = Some(stripe);
                        self.strange += u64::from(told.is_err());
                        self.page.extend(told);
                    }
                }
            });
            self.more = more && self.after > before;
        }
        None
    }
}

/// The devices that a vault ever certified, as far as nodes know them. What they wrote counts, also when a certificate
/// has expired since.
pub async fn devices(mesh: &Mesh, vault: &Vault) -> BTreeSet<DeviceId> {
    let mut devices = BTreeSet::from([vault.device_id()]);
    states(mesh, vault.id, |_, state| devices.extend(devices_of(&state, vault.id))).await;
    devices
}
