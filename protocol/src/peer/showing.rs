//! What a node shows to another one that wants to be brought up to date ([`super::exchange`]): of the vaults of which a roster lists that
//! one, and only what is durable here.

use super::facts::{Facts, Overlay, Table, View, decode, key};
use super::guardians::namings;
use super::ledger::{DEVICES_MAX, FORKS_MAX};
use super::{Decision, LaneId, Peer, Role, refusal};
use crate::codec;
use crate::id::{DeviceId, EntryId, VaultId};
use crate::log::{Entry, Head};
use crate::message::{
    Holdings, LogEnd, LoggedEntry, PAGE_LEN, Refusal, RefusalCode, Response, VaultDigest,
};
use crate::sign::Signed;
use std::collections::BTreeMap;

/// Digests that are computed for one answer: each takes a scan of the vault's rows. The others are told next time.
const DIGESTS_MAX: usize = 64;
/// Forks of one vault that are told and compared: each is read for that, and can be a long entry. More prove nothing new.
const FORKS_TOLD_MAX: usize = 64;

fn nodes_only() -> Refusal {
    refusal(RefusalCode::NotAllowed, "only nodes are brought up to date")
}

/// The entries of the forks of a device's log.
fn forks(
    facts: &dyn Facts,
    vault: VaultId,
    device: DeviceId,
) -> Result<Vec<Signed<Entry>>, Refusal> {
    let rows = facts.scan(Table::Fork, &key(&[&vault.0, &device.0]), None, FORKS_MAX)?;
    let rows = rows.into_iter().map(|(_, bytes)| decode(Table::Fork, &bytes));
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Where the logs of a vault end, by what is durable.
pub(super) fn log_ends(facts: &dyn Facts, vault: VaultId) -> Result<Vec<LogEnd>, Refusal> {
    let mut ends: BTreeMap<DeviceId, LogEnd> = BTreeMap::new();
    let none = |device| LogEnd { device, head: None, forks: Vec::new() };
    let id = |row: &[u8], at: usize| <[u8; 32]>::try_from(row.get(at..at + 32)?).ok();
    for (row, bytes) in facts.scan(Table::Head, &vault.0, None, DEVICES_MAX)? {
        let Some(device) = id(&row, 32).map(DeviceId) else { continue };
        let head: Head = decode(Table::Head, &bytes)?;
        ends.entry(device).or_insert_with(|| none(device)).head = Some(head);
    }
    let (mut after, mut told) = (None::<Vec<u8>>, 0);
    while told < FORKS_TOLD_MAX {
        let rows = facts.scan(Table::Fork, &vault.0, after.as_deref(), FORKS_MAX)?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        told += rows.len();
        for (row, _) in rows {
            let (Some(device), Some(entry)) = (id(&row, 32).map(DeviceId), id(&row, 64)) else {
                continue;
            };
            ends.entry(device).or_insert_with(|| none(device)).forks.push(EntryId(entry));
        }
    }
    Ok(ends.into_values().collect())
}

impl Peer {
    /// What is durable of a vault, if it is known here.
    pub(super) fn digest(
        &mut self,
        facts: &dyn Facts,
        vault: VaultId,
    ) -> Result<Option<VaultDigest>, Refusal> {
        if let Some(known) = self.exchange.digests.get(&vault) {
            return Ok(Some(*known));
        }
        let Some(holdings) = self.holdings(facts, vault)? else { return Ok(None) };
        let papers = &holdings.state.papers;
        let mut parts =
            vec![papers.certificate.digest(), papers.descriptor.digest(), papers.roster.digest()];
        let namings = namings(facts, vault)?;
        let earlier = namings.iter().filter(|(_, signed)| *signed != papers.descriptor);
        parts.extend(earlier.map(|(_, signed)| signed.digest()));
        parts.extend(holdings.state.devices.iter().map(Signed::digest));
        // Of several revocations of one device each node keeps another: their rows name the devices.
        let revoked = facts.scan(Table::Revoked, &vault.0, None, 2 * DEVICES_MAX)?;
        parts.extend(
            revoked.iter().filter_map(|(row, _)| <[u8; 32]>::try_from(row.get(32..)?).ok()),
        );
        let mut cards: Vec<[u8; 32]> = holdings.cards.iter().map(Signed::digest).collect();
        cards.sort_unstable();
        parts.extend(cards);
        let papers = *blake3::hash(&parts.concat()).as_bytes();
        let logs = *blake3::hash(&codec::encode(&log_ends(facts, vault)?)).as_bytes();
        let digest = VaultDigest { vault, papers, logs };
        self.exchange.digests.insert(vault, digest);
        Ok(Some(digest))
    }

    /// All that is durable of a vault but its logs.
    fn holdings(&self, facts: &dyn Facts, vault: VaultId) -> Result<Option<Holdings>, Refusal> {
        // What is only decided could fail: nobody is told of it.
        let overlay = &Overlay::default();
        let Some(state) = Self::vault_state(&View { facts, overlay }, vault)? else {
            return Ok(None);
        };
        let cards = super::recovery::cards_of(facts, vault)?;
        Ok(Some(Holdings { state, cards }))
    }

    pub(super) fn handle_vaults(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
    ) -> Decision {
        let Role::Node(asker) = *role else { return Err(nodes_only()) };
        let mut vaults = Vec::new();
        let mut computed = 0;
        for vault in self.listing(facts, asker)? {
            computed += usize::from(!self.exchange.digests.contains_key(&vault));
            if computed <= DIGESTS_MAX || self.exchange.digests.contains_key(&vault) {
                vaults.extend(self.digest(facts, vault)?);
            }
        }
        self.reply(lane, Response::Vaults(vaults));
        Ok(())
    }

    /// Refuses whoever is no node that a roster of the vault lists.
    fn check_partner(&self, facts: &dyn Facts, role: &Role, vault: VaultId) -> Decision {
        if !matches!(role, Role::Node(_)) {
            return Err(nodes_only());
        }
        self.check_reader(&View { facts, overlay: &self.overlay }, role, vault)
    }

    pub(super) fn handle_holdings(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
    ) -> Decision {
        self.check_partner(facts, role, vault)?;
        let holdings = self.holdings(facts, vault)?.map(Box::new);
        self.reply(lane, Response::Holdings(holdings));
        Ok(())
    }

    pub(super) fn handle_namings(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
    ) -> Decision {
        self.check_partner(facts, role, vault)?;
        let (mut shown, mut len) = (Vec::new(), 0);
        for (_, signed) in namings(facts, vault)? {
            len += signed.to_bytes().len();
            if len > PAGE_LEN {
                break;
            }
            shown.push(signed);
        }
        self.reply(lane, Response::Namings(shown));
        Ok(())
    }

    pub(super) fn handle_logs(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
    ) -> Decision {
        self.check_partner(facts, role, vault)?;
        let ends = log_ends(facts, vault)?;
        self.reply(lane, Response::Logs(ends));
        Ok(())
    }

    pub(super) fn handle_entries(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        (vault, device, from): (VaultId, DeviceId, u64),
    ) -> Decision {
        self.check_partner(facts, role, vault)?;
        let log = key(&[&vault.0, &device.0]);
        let before = from.checked_sub(1).map(|seq| key(&[&log, &seq.to_be_bytes()]));
        let (mut cursor, mut entries, mut len) = (before, Vec::new(), 0);
        'page: loop {
            let rows = facts.scan(Table::Entry, &log, cursor.as_deref(), 16)?;
            let Some((last, _)) = rows.last() else { break 'page };
            cursor = Some(last.clone());
            for (_, bytes) in rows {
                len += bytes.len();
                let logged: LoggedEntry = decode(Table::Entry, &bytes)?;
                entries.push(logged.entry);
                if len > PAGE_LEN {
                    break 'page;
                }
            }
        }
        self.reply(lane, Response::Entries(entries));
        Ok(())
    }

    pub(super) fn handle_forks(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        (vault, device): (VaultId, DeviceId),
    ) -> Decision {
        self.check_partner(facts, role, vault)?;
        let forks = forks(facts, vault, device)?;
        self.reply(lane, Response::Entries(forks));
        Ok(())
    }
}
