//! Records: where a stripe's shards lie, as the nodes tell it.
//!
//! A record counts when a device that the vault certified signed it. Of several the newest does, until its holders do
//! not give the pack: then all nodes are asked, and whoever any version names may have a shard.

use super::Packs;
use crate::client::index::Holding;
use crate::client::mesh::{Node, is_most};
use crate::client::{ClientError, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use protocol::id::{DeviceId, NodeId, StripeId, VaultId};
use protocol::message::{HeldRecord, Request, Response};
use protocol::record::{Record, Stripe};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Stripes asked for at once.
const ASKED: usize = 512;
/// How long nodes may take to tell which devices there are,
const INTRODUCTION: Duration = Duration::from_secs(5);
/// and one of them to tell of a few stripes before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(15);

/// A stripe, and where its shards may lie.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whereabouts {
    pub(super) stripe: Stripe,
    /// For each shard, whoever may have it, the likeliest first.
    pub(super) holders: Vec<Vec<NodeId>>,
}

/// What nodes tell of one stripe.
#[derive(Debug, Default)]
struct Told {
    /// Different records, the newest first.
    records: Vec<Record>,
    /// Who promised to keep which shard.
    promised: BTreeMap<NodeId, u16>,
}

/// What one node tells of some stripes; `None` when it did not answer.
type Tale = Option<Vec<(StripeId, Record, Option<u16>)>>;

impl Told {
    fn hear(&mut self, node: NodeId, record: Record, promised: Option<u16>) {
        self.promised.extend(promised.map(|index| (node, index)));
        if !self.records.contains(&record) {
            let at = self.records.partition_point(|known| known.version >= record.version);
            self.records.insert(at, record);
        }
    }

    /// Where the newest record says that the shards lie.
    fn newest(&self) -> Option<Whereabouts> {
        let record = self.records.first()?;
        let holders = record.holders.iter().map(|&holder| vec![holder]).collect();
        Some(Whereabouts { stripe: record.stripe.clone(), holders })
    }

    /// Wherever they may lie: who promised comes first, then what the records say, the newest first.
    fn anywhere(&self) -> Option<Whereabouts> {
        let mut found = self.newest()?;
        for (i, holders) in found.holders.iter_mut().enumerate() {
            let promised = self.promised.iter().filter(|&(_, &index)| usize::from(index) == i);
            let mut all: Vec<NodeId> = promised.map(|(&node, _)| node).collect();
            for holder in self.records.iter().filter_map(|record| record.holders.get(i)) {
                if !all.contains(holder) {
                    all.push(*holder);
                }
            }
            *holders = all;
        }
        Some(found)
    }

    /// Who holds it: of the newest record's holders those who promised, and those who are silent now. Also whether
    /// nobody of them is silent.
    fn holding(&self, answered: &BTreeSet<NodeId>) -> Option<(Holding, bool)> {
        let record = self.records.first()?;
        let (mut holders, mut is_sure) = (Vec::new(), true);
        for (i, holder) in record.holders.iter().enumerate() {
            if !answered.contains(holder) {
                is_sure = false;
                holders.push(*holder);
            } else if self.promised.get(holder) == Some(&(i as u16)) {
                holders.push(*holder);
            }
        }
        let (k, lock) = (record.stripe.k, record.policy.lock.clone());
        Some((Holding { k, lock, holders }, is_sure))
    }
}

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

    /// What a node's word comes to when signatures and numbers are checked.
    fn check_record(
        &self,
        devices: &BTreeSet<DeviceId>,
        stripe: StripeId,
        node: NodeId,
        held: HeldRecord,
    ) -> Option<(StripeId, Record, Option<u16>)> {
        let record = held.record.verify().ok()?;
        record.check().ok()?;
        if record.stripe.id() != stripe || record.stripe.vault != self.vault_id {
            return None;
        }
        if !devices.contains(&record.device) {
            tracing::warn!(
                node = node.short(),
                stripe = stripe.short(),
                "a record counts for nothing: no device of the vault signed it"
            );
            return None;
        }
        let receipt = held.receipt.and_then(|signed| signed.verify().ok());
        let receipt = receipt.filter(|receipt| {
            receipt.holder == node && receipt.check_for(&record, receipt.index).is_ok()
        });
        Some((stripe, record, receipt.map(|receipt| receipt.index)))
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
                    let held = held.and_then(|h| self.check_record(devices, *stripe, node.id, h));
                    tale.extend(held);
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
    ) -> (BTreeMap<StripeId, Told>, BTreeSet<NodeId>) {
        let asked = nodes.len();
        let mut tales = FuturesUnordered::new();
        for node in nodes {
            tales.push(self.hear(node, stripes));
        }
        let mut told: BTreeMap<StripeId, Told> = BTreeMap::new();
        let (mut answered, mut heard) = (BTreeSet::new(), 0);
        while let Some((node, tale)) = tales.next().await {
            heard += 1;
            let Some(tale) = tale else { continue };
            answered.insert(node);
            for (stripe, record, promised) in tale {
                told.entry(stripe).or_default().hear(node, record, promised);
            }
            if is_hurried && is_most(heard, asked) && told.len() == stripes.len() {
                break;
            }
        }
        (told, answered)
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
        let (told, _) = self.gather(self.live(), &missing, true).await;
        let found = told.into_iter().filter_map(|(stripe, told)| Some((stripe, told.newest()?)));
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
        let (told, answered) = self.gather(nodes, &[stripe], false).await;
        self.deaf.lock().await.extend(asked.into_iter().filter(|node| !answered.contains(node)));
        let found = Arc::new(told.get(&stripe)?.anywhere()?);
        let known = self.whereabouts.lock().await.insert(stripe, Arc::clone(&found));
        known.is_none_or(|known| known != found).then_some(found)
    }

    /// Who holds these stripes, and whether each of the holders said so. A holder that does not answer counts as the
    /// newest record says; a stripe of which nobody has a record is left out.
    pub(in crate::client) async fn holdings(
        &self,
        stripes: &[StripeId],
    ) -> BTreeMap<StripeId, (Holding, bool)> {
        let (told, answered) = self.gather(self.live(), stripes, false).await;
        let held = |(stripe, told): (StripeId, Told)| Some((stripe, told.holding(&answered)?));
        told.into_iter().filter_map(held).collect()
    }
}

/// The devices of a vault that a node knows.
async fn devices_at(node: Arc<Node>, vault: VaultId) -> Vec<DeviceId> {
    let Ok(Response::Vault(Some(state))) = node.request(&Request::Vault(vault)).await else {
        return Vec::new();
    };
    let certificates = state.devices.iter().filter_map(|signed| signed.verify().ok());
    let ours = certificates.filter(|certificate| certificate.vault == vault);
    ours.map(|certificate| certificate.device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::{SessionId, ShardId};
    use protocol::policy::Policy;
    use protocol::record::CODEC_REED_SOLOMON;

    fn node(name: u8) -> NodeId {
        NodeId([name; 32])
    }

    fn record(version: u32, holders: [u8; 3]) -> Record {
        let stripe = Stripe {
            vault: VaultId([1; 32]),
            codec: CODEC_REED_SOLOMON,
            k: 2,
            n: 3,
            shard_len: 128,
            shards: vec![ShardId([1; 32]), ShardId([2; 32]), ShardId([3; 32])],
        };
        Record {
            stripe,
            session: SessionId([0; 32]),
            policy: Policy::survive_one("provider"),
            holders: holders.map(node).to_vec(),
            version,
            device: DeviceId([4; 32]),
        }
    }

    fn told(tales: &[(u8, u32, [u8; 3], Option<u16>)]) -> Told {
        let mut told = Told::default();
        for &(name, version, holders, promised) in tales {
            told.hear(node(name), record(version, holders), promised);
        }
        told
    }

    #[test]
    fn the_newest_record_counts_whoever_tells_it_first() {
        let (old, new) = ((1, 1, [1, 2, 3], Some(0)), (4, 2, [1, 2, 4], Some(2)));
        for tales in [[old, new], [new, old]] {
            let newest = told(&tales).newest().unwrap();
            assert_eq!(newest.holders, [vec![node(1)], vec![node(2)], vec![node(4)]]);
        }
    }

    #[test]
    fn whoever_any_record_names_may_have_a_shard_and_who_promised_comes_first() {
        let tales =
            [(1, 1, [1, 2, 3], Some(0)), (2, 9, [3, 2, 1], Some(1)), (5, 1, [1, 2, 3], Some(2))];
        let anywhere = told(&tales).anywhere().unwrap();
        assert_eq!(anywhere.holders[0], [node(1), node(3)]);
        assert_eq!(anywhere.holders[1], [node(2)]);
        assert_eq!(anywhere.holders[2], [node(5), node(1), node(3)]);
    }

    #[test]
    fn who_answers_holds_what_it_promised_and_who_is_silent_what_the_record_says() {
        let tales = [(1, 1, [1, 2, 3], Some(0)), (2, 1, [1, 2, 3], None)];
        let holders = |answered: &[u8]| {
            let answered = answered.iter().copied().map(node).collect();
            let (holding, is_sure) = told(&tales).holding(&answered).unwrap();
            (holding.holders, is_sure)
        };
        assert_eq!(holders(&[1, 2]), (vec![node(1), node(3)], false));
        assert_eq!(holders(&[1, 2, 3]), (vec![node(1)], true));
    }
}
