//! Records: where a stripe's shards lie, as the nodes tell it.
//!
//! What of it counts is `protocol::told`'s; here nodes are asked: those that answer for where the newest record says, and all
//! of them when its holders do not give the pack.

use super::Packs;
use crate::client::mesh::{Node, is_most};
use crate::client::{ClientError, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use protocol::id::{DeviceId, NodeId, StripeId, VaultId};
use protocol::message::{HeldRecord, Request, Response};
use protocol::placement::Holders;
pub(super) use protocol::told::Whereabouts;
use protocol::told::{Heard, Told, devices_of};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Stripes asked for at once.
const ASKED: usize = 512;
/// How long nodes may take to tell which devices there are,
const INTRODUCTION: Duration = Duration::from_secs(5);
/// and one of them to tell of a few stripes before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(15);

/// What one node tells of some stripes; `None` when it did not answer.
type Tale = Option<Vec<Told>>;

impl Packs {
    /// The devices that the vault ever certified, as far as nodes know them.
    async fn devices(&self) -> &BTreeSet<DeviceId> {
        self.devices.get_or_init(|| self.ask_devices()).await
    }

    async fn ask_devices(&self) -> BTreeSet<DeviceId> {
        let mut devices = BTreeSet::from([self.device]);
        let mut answers = FuturesUnordered::new();
        for node in self.mesh.nodes.values() {
            answers.push(devices_at(Arc::clone(node), self.vault_id));
        }
        let until = tokio::time::Instant::now() + INTRODUCTION;
        // Who takes longer is not waited for: the others know the devices as well.
        while let Ok(Some(known)) = tokio::time::timeout_at(until, answers.next()).await {
            devices.extend(known);
        }
        devices
    }

    /// What a node's word of a stripe comes to, if anything.
    fn believe(
        &self,
        devices: &BTreeSet<DeviceId>,
        stripe: StripeId,
        node: NodeId,
        held: &HeldRecord,
    ) -> Option<Told> {
        match Told::check(held, node, self.vault_id, devices) {
            Ok(told) => (told.stripe == stripe).then_some(told),
            Err(error) => {
                let (node, stripe) = (node.short(), stripe.short());
                tracing::warn!(node, stripe, %error, "a record counts for nothing");
                None
            }
        }
    }

    /// What a node tells of some stripes.
    async fn hear(&self, node: Arc<Node>, stripes: &[StripeId]) -> (NodeId, Tale) {
        let tale = tokio::time::timeout(PATIENCE, self.ask(&node, stripes)).await;
        (node.id, tale.ok().flatten())
    }

    async fn ask(&self, node: &Node, stripes: &[StripeId]) -> Tale {
        let devices = self.devices().await;
        let (mut tale, mut rest) = (Vec::new(), stripes);
        while !rest.is_empty() {
            let asked = &rest[..rest.len().min(ASKED)];
            let request = Request::Records { vault: self.vault_id, stripes: asked.to_vec() };
            let Ok(Response::Records(found)) = node.request(&request).await else { return None };
            if found.is_empty() {
                return None;
            }
            let told = found.len().min(asked.len());
            tokio::task::block_in_place(|| {
                for (stripe, held) in asked.iter().zip(found) {
                    let told = held.and_then(|h| self.believe(devices, *stripe, node.id, &h));
                    tale.extend(told);
                }
            });
            rest = &rest[told..];
        }
        Some(tale)
    }

    /// What these nodes tell of some stripes, and which of them answered. Who is in a hurry does not wait for the last
    /// ones when there is something of each stripe.
    async fn gather(
        &self,
        nodes: Vec<Arc<Node>>,
        stripes: &[StripeId],
        is_hurried: bool,
    ) -> (BTreeMap<StripeId, Heard>, BTreeSet<NodeId>) {
        let asked = nodes.len();
        let mut tales = FuturesUnordered::new();
        for node in nodes {
            tales.push(self.hear(node, stripes));
        }
        let mut heard: BTreeMap<StripeId, Heard> = BTreeMap::new();
        let (mut answered, mut done) = (BTreeSet::new(), 0);
        while let Some((node, tale)) = tales.next().await {
            done += 1;
            let Some(tale) = tale else { continue };
            answered.insert(node);
            for told in tale {
                heard.entry(told.stripe).or_default().hear(node, told);
            }
            if is_hurried && is_most(done, asked) && heard.len() == stripes.len() {
                break;
            }
        }
        (heard, answered)
    }

    fn live(&self) -> Vec<Arc<Node>> {
        self.mesh.nodes.values().map(Arc::clone).collect()
    }

    /// Learns where these stripes lie, as far as anybody who answers knows.
    pub async fn find_records(&self, stripes: &[StripeId]) -> Result<()> {
        let missing: BTreeSet<StripeId> = {
            let known = self.whereabouts.lock().await;
            stripes.iter().copied().filter(|stripe| !known.contains_key(stripe)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<StripeId> = missing.into_iter().collect();
        let (heard, _) = self.gather(self.live(), &missing, true).await;
        let found = heard.into_iter().filter_map(|(stripe, heard)| Some((stripe, heard.newest()?)));
        let found = found.map(|(stripe, whereabouts)| (stripe, Arc::new(whereabouts)));
        self.whereabouts.lock().await.extend(found);
        Ok(())
    }

    pub(super) async fn whereabouts(&self, stripe: StripeId) -> Result<Arc<Whereabouts>> {
        if let Some(known) = self.whereabouts.lock().await.get(&stripe) {
            return Ok(Arc::clone(known));
        }
        self.find_records(&[stripe]).await?;
        let found = self.whereabouts.lock().await.get(&stripe).cloned();
        found.ok_or(ClientError::NoRecord(stripe))
    }

    /// Asks everybody, also those who had not answered when reading began, for all that they know of a stripe.
    /// `None` when that leads to nobody new.
    pub(super) async fn look_everywhere(&self, stripe: StripeId) -> Option<Arc<Whereabouts>> {
        let mut nodes = self.live();
        {
            let deaf = self.deaf.lock().await;
            let late = self.mesh.late.values().filter(|node| !deaf.contains(&node.id));
            nodes.extend(late.map(Arc::clone));
        }
        let asked: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
        let (heard, answered) = self.gather(nodes, &[stripe], false).await;
        self.deaf.lock().await.extend(asked.into_iter().filter(|node| !answered.contains(node)));
        let found = Arc::new(heard.get(&stripe)?.anywhere()?);
        let known = self.whereabouts.lock().await.insert(stripe, Arc::clone(&found));
        known.is_none_or(|known| known != found).then_some(found)
    }

    /// Who holds these stripes, and whether each of the holders said so. A holder that does not answer counts as the
    /// newest record says; a stripe of which nobody has a record is left out.
    pub(in crate::client) async fn holders_of(
        &self,
        stripes: &[StripeId],
    ) -> BTreeMap<StripeId, (Holders, bool)> {
        let (heard, answered) = self.gather(self.live(), stripes, false).await;
        let site = |node: NodeId| self.mesh.nodes.get(&node).map(|node| &node.site);
        let held =
            |(stripe, heard): (StripeId, Heard)| Some((stripe, heard.holders(&answered, site)?));
        heard.into_iter().filter_map(held).collect()
    }
}

/// The devices of a vault that a node knows.
async fn devices_at(node: Arc<Node>, vault: VaultId) -> Vec<DeviceId> {
    match node.request(&Request::Vault(vault)).await {
        Ok(Response::Vault(Some(state))) => devices_of(&state, vault).collect(),
        _ => Vec::new(),
    }
}
