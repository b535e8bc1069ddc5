//! Standing in for holders that were lost: which shards a node takes from another one, and which shard of a stripe it has.
//!
//! Nobody is there to sign a new record, and no trust in who brings the shard is needed: the record is signed by a device of the
//! vault, the roster names both nodes, the hash fits, and quota, growth and space are those of every put. That a node stands in is
//! said by its own receipt, which it shows to whoever asks for the record. From then on its shard is locked like any other.
//!
//! What a device wrote stays when it is revoked, and is repaired like anything else: nobody can tell when it was written. So who has a
//! revoked device's key and a node that the roster lists can bring what it makes up, within quota and growth, as it could before.
//!
//! What a vault gave up, and what a release is about to end here, is not taken: some holders have dropped it already, and what
//! looks like a loss is none.

use super::facts::{Facts, FactsError, Held, Table, View, decode, key};
use super::holder::not_allowed;
use super::ledger::DEVICES_MAX;
use super::{Peer, refusal};
use crate::given_up::Abandoned;
use crate::id::{DeviceId, NodeId, ShardId, StripeId, VaultId};
use crate::log::Body;
use crate::message::{LoggedEntry, Refusal, RefusalCode};
use crate::record::Record;
use crate::release::ReleaseRequest;
use crate::sign::Signed;
use std::collections::BTreeMap;

/// Log entries read in one go for what a vault gave up: others wait for the peer meanwhile.
const ENTRIES_PAGE: usize = 512;

/// What vaults gave up, as far as their logs were read. Logs only grow.
#[derive(Debug, Default)]
pub(super) struct Abandonment {
    read: BTreeMap<(VaultId, DeviceId), u64>,
    said: BTreeMap<VaultId, Abandoned>,
}

impl Peer {
    /// The shard of this stripe that is held here, durably or about to be: the one that the record gives to this node, or another
    /// one for whose holder it stands in.
    pub(super) fn place_of(
        &self,
        view: &View<'_>,
        record: &Record,
    ) -> Result<Option<(ShardId, Held)>, FactsError> {
        let (id, named) = (record.stripe.id(), record.index_of(self.node()));
        let others = (0..record.stripe.n).filter(|index| Some(*index) != named);
        for index in named.into_iter().chain(others) {
            let Some(&shard) = record.stripe.shards.get(usize::from(index)) else { continue };
            if let Some(held) = view.held(shard)?
                && (held.stripe, held.index) == (id, index)
            {
                return Ok(Some((shard, held)));
            }
        }
        Ok(None)
    }

    /// Whether a node may hold for a vault: a roster of it lists the node, or did. Whoever stole the vault's key would end backups and
    /// repair by a newest roster that lists nobody.
    pub(super) fn may_hold(
        &self,
        view: &View<'_>,
        vault: VaultId,
        node: NodeId,
    ) -> Result<bool, Refusal> {
        if view.is_listed(node, vault)? {
            return Ok(true);
        }
        // Rosters that came before such rows were kept. They were verified when they were accepted; here only whom one lists counts.
        let roster = self.roster_of(view, vault)?;
        let mut listed = roster.nodes.iter().filter_map(|signed| signed.split().ok());
        Ok(listed.any(|(certificate, _)| certificate.node == node))
    }

    /// Checks the record of a shard that another node rebuilt and brings.
    pub(super) fn check_custodian(
        &self,
        view: &View<'_>,
        custodian: NodeId,
        signed: &Signed<Record>,
    ) -> Result<Record, Refusal> {
        let record = signed.verify().map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        record.check().map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        let vault = record.stripe.vault;
        for node in [custodian, self.node()] {
            if !self.may_hold(view, vault, node)? {
                return Err(not_allowed(format!("no roster of the vault lists node {node}")));
            }
        }
        self.check_terms(view, &record)?;
        Ok(record)
    }

    /// Whether a stripe that another node brings is wanted, or refuses it; false while that cannot be said.
    pub(super) fn check_wanted(
        &mut self,
        facts: &dyn Facts,
        vault: VaultId,
        stripe: StripeId,
    ) -> Result<bool, Refusal> {
        match self.is_abandoned(facts, vault, stripe)? {
            None => return Ok(false),
            Some(true) => return Err(not_allowed("the vault gave this stripe up")),
            Some(false) => {}
        }
        let view = View { facts, overlay: &self.overlay };
        for id in self.release_ids(vault) {
            let row = view.release::<ReleaseRequest>(vault, id)?;
            let request = row.and_then(|row| row.request.verify().ok());
            if request.is_some_and(|request| request.stripes.binary_search(&stripe).is_ok()) {
                return Err(not_allowed("a release of this stripe is running here"));
            }
        }
        Ok(true)
    }

    /// Whether the vault gave a stripe up, by its logs here; `None` while these are still being read.
    pub(super) fn is_abandoned(
        &mut self,
        facts: &dyn Facts,
        vault: VaultId,
        stripe: StripeId,
    ) -> Result<Option<bool>, FactsError> {
        let mut left = ENTRIES_PAGE;
        for (row, _) in facts.scan(Table::Head, &vault.0, None, DEVICES_MAX)? {
            let Some(device) = row.get(32..).and_then(|id| id.try_into().ok()).map(DeviceId) else {
                continue;
            };
            let log = key(&[&vault.0, &device.0]);
            loop {
                let next = self.abandonment.read.get(&(vault, device)).copied().unwrap_or(0);
                let after = next.checked_sub(1).map(|seq| key(&[&log, &seq.to_be_bytes()]));
                let rows = facts.scan(Table::Entry, &log, after.as_deref(), left.min(64))?;
                if rows.is_empty() {
                    break;
                }
                left -= rows.len();
                for (row, bytes) in rows {
                    let seq = row.last_chunk().map_or(u64::MAX - 1, |seq| u64::from_be_bytes(*seq));
                    self.hear_entry(vault, &bytes)?;
                    self.abandonment.read.insert((vault, device), seq.saturating_add(1));
                }
                if left == 0 {
                    return Ok(None);
                }
            }
        }
        Ok(Some(self.abandonment.said.get(&vault).is_some_and(|said| said.contains(stripe))))
    }

    fn hear_entry(&mut self, vault: VaultId, bytes: &[u8]) -> Result<(), FactsError> {
        let logged: LoggedEntry = decode(Table::Entry, bytes)?;
        if let Ok((entry, _)) = logged.entry.split()
            && let Body::GivenUp(signed) = entry.body
            && let Ok(said) = signed.verify()
            && said.vault == vault
        {
            self.abandonment.said.entry(vault).or_default().hear(&said);
        }
        Ok(())
    }
}
