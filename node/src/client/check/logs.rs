//! The logs of a vault, checked and not just read: every signature and countersignature, every chain, whether holders
//! show the same, and whether each entry is held as widely as the policy asks.

use super::findings::{Findings, Kind};
use crate::client::Result;
use crate::client::inventory::devices;
use crate::client::ledger::{Ledger, Logged, check_listed};
use crate::client::mesh::{Mesh, Node};
use crate::client::vault::Vault;
use protocol::certificate::CertificateError;
use protocol::id::{DeviceId, EntryId, NodeId, VaultId};
use protocol::label::Site;
use protocol::log::{Body, check_held, entry_id};
use protocol::message::{LoggedEntry, Request, Response};
use protocol::time::Wall;
use std::collections::{BTreeMap, BTreeSet};

/// What the logs come to.
#[derive(Debug)]
pub(super) struct Logs {
    /// The entries that count.
    pub(super) ledger: Ledger,
    /// Devices that the vault certified, as far as nodes know.
    pub(super) devices: BTreeSet<DeviceId>,
}

/// Reads and checks all logs.
pub(super) async fn check(mesh: &Mesh, vault: &Vault, findings: &mut Findings) -> Result<Logs> {
    let devices = devices(mesh, vault).await;
    let mut logs = Logs { ledger: Ledger::default(), devices };
    for node in mesh.nodes.values() {
        logs.read(node, vault, findings).await;
    }
    logs.ledger.judge(mesh, vault);
    check_own_head(vault, &logs.ledger, findings)?;
    check_policy(mesh, vault, &logs.ledger, findings);
    check_names(&logs.ledger, findings);
    Ok(logs)
}

impl Logs {
    /// Takes in all that a node lists, page by page. A node that ends in the middle has said what it has said.
    async fn read(&mut self, node: &Node, vault: &Vault, findings: &mut Findings) {
        let (mut after, mut last) = (None, None);
        loop {
            let request = Request::Log { vault: vault.id, after };
            let Ok(Response::Log { entries, more }) = node.request(&request).await else { break };
            let before = after;
            tokio::task::block_in_place(|| {
                for listed in entries {
                    if let Some((logged, witnessed)) =
                        self.sound(vault.id, node.id, listed, findings)
                    {
                        after = Some((logged.entry.device, logged.entry.seq));
                        self.take(node.id, witnessed, logged, &mut last, findings);
                    }
                }
            });
            if !more || after <= before {
                break;
            }
        }
    }

    /// A listed entry whose signatures hold, and when the node saw it.
    fn sound(
        &self,
        vault: VaultId,
        node: NodeId,
        listed: LoggedEntry,
        findings: &mut Findings,
    ) -> Option<(Logged, Wall)> {
        let checked = check_listed(&listed, vault, node, &self.devices);
        checked
            .map_err(|what| {
                findings.add(Kind::Forged, format!("node {} shows {what}", node.short()));
            })
            .ok()
    }

    /// Takes in one entry; `last` is the one that the node listed before it.
    fn take(
        &mut self,
        node: NodeId,
        witnessed: Wall,
        logged: Logged,
        last: &mut Option<(DeviceId, u64, EntryId)>,
        findings: &mut Findings,
    ) {
        let (id, entry) = (logged.id, &logged.entry);
        let (device, seq) = (entry.device, entry.seq);
        let continues = match last.filter(|(other, ..)| *other == device) {
            None => seq == 0 && entry.previous.is_none(),
            Some((_, before, previous)) => {
                before.checked_add(1) == Some(seq) && entry.previous == Some(previous)
            }
        };
        if !continues {
            findings.add(
                Kind::LogBroken,
                format!(
                    "node {}: entry {seq} of device {} does not follow from the one before it there",
                    node.short(),
                    device.short()
                ),
            );
        }
        *last = Some((device, seq, id));
        if !self.ledger.take(node, witnessed, logged) {
            findings.add(
                Kind::LogBroken,
                format!(
                    "device {} signed two entries {seq}: node {} has another one than the others",
                    device.short(),
                    node.short()
                ),
            );
        }
    }
}

/// What this device signed last must be somewhere: or else holders were set back, or it never left.
fn check_own_head(vault: &Vault, ledger: &Ledger, findings: &mut Findings) -> Result<()> {
    let Some(head) = vault.log_head()? else { return Ok(()) };
    let entry = head.verify().map_err(CertificateError::from)?;
    let known = ledger.entries.get(&(entry.device, entry.seq)).map(|logged| logged.id);
    if known != Some(entry_id(&head)) {
        findings.add(
            Kind::LogBroken,
            format!(
                "the last entry that this device signed ({}) is with no node that answers",
                entry.seq
            ),
        );
    }
    Ok(())
}

/// The one predicate for every entry; entries with the same holders have the same answer.
fn check_policy(mesh: &Mesh, vault: &Vault, ledger: &Ledger, findings: &mut Findings) {
    let mut known: BTreeMap<Vec<NodeId>, Option<String>> = BTreeMap::new();
    for logged in ledger.all() {
        let holders: Vec<NodeId> = logged.holders.keys().copied().collect();
        let answer = known.entry(holders).or_insert_with_key(|holders| {
            let sites = holders.iter().filter_map(|id| mesh.nodes.get(id)).map(|node| &node.site);
            let sites: Vec<&Site> = sites.collect();
            check_held(&vault.policy, &sites).err().map(|violation| violation.to_string())
        });
        if let Some(violation) = answer {
            findings.add(
                Kind::EntryBelowPolicy,
                format!(
                    "entry {} of device {}: {violation}",
                    logged.entry.seq,
                    logged.entry.device.short()
                ),
            );
        }
    }
}

/// Every session that is named began somewhere.
fn check_names(ledger: &Ledger, findings: &mut Findings) {
    let bodies = || ledger.all().map(|logged| &logged.entry.body);
    let begun: BTreeSet<_> = bodies()
        .filter_map(|body| match body {
            Body::Session { session, .. } => Some(*session),
            _ => None,
        })
        .collect();
    for logged in ledger.all() {
        if let Body::Snapshot { session, .. } | Body::Index { session, .. } = &logged.entry.body
            && !begun.contains(session)
        {
            findings.add(
                Kind::LogBroken,
                format!(
                    "entry {} of device {} belongs to a session whose key is in no log",
                    logged.entry.seq,
                    logged.entry.device.short()
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::SessionId;
    use protocol::log::{Entry, EntryAck};
    use protocol::sign::{SecretKey, Signed};

    const VAULT: VaultId = VaultId([1; 32]);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn entry(device: u8, seq: u64, previous: Option<EntryId>, content: u8) -> Signed<Entry> {
        let key = key(device);
        let body = Body::Index { session: SessionId([content; 32]), stripes: Vec::new() };
        let device = key.public().into();
        Signed::sign(&Entry { vault: VAULT, device, seq, previous, claimed: Wall(0), body }, &key)
    }

    fn chain(device: u8, len: u64) -> Vec<Signed<Entry>> {
        let mut entries: Vec<Signed<Entry>> = Vec::new();
        for seq in 0..len {
            entries.push(entry(device, seq, entries.last().map(entry_id), 0));
        }
        entries
    }

    fn held(holder: u8, entry: &Signed<Entry>) -> LoggedEntry {
        let (key, said) = (key(holder), entry.verify().unwrap());
        let ack = EntryAck {
            holder: key.public().into(),
            vault: VAULT,
            device: said.device,
            seq: said.seq,
            entry: entry_id(entry),
            witnessed: Wall(7),
        };
        LoggedEntry { entry: entry.clone(), ack: Signed::sign(&ack, &key) }
    }

    /// What is found when these nodes list this.
    fn found(listings: Vec<(u8, Vec<LoggedEntry>)>) -> (Logs, Findings) {
        let devices = BTreeSet::from([key(50).public().into(), key(51).public().into()]);
        let mut logs = Logs { ledger: Ledger::default(), devices };
        let mut findings = Findings::default();
        for (node, listing) in listings {
            let (node, mut last) = (NodeId::from(key(node).public()), None);
            for logged in listing {
                if let Some((logged, seen)) = logs.sound(VAULT, node, logged, &mut findings) {
                    logs.take(node, seen, logged, &mut last, &mut findings);
                }
            }
        }
        (logs, findings)
    }

    fn listed(node: u8, entries: &[Signed<Entry>]) -> (u8, Vec<LoggedEntry>) {
        (node, entries.iter().map(|entry| held(node, entry)).collect())
    }

    #[test]
    fn sound_logs_are_merged_and_nothing_is_found() {
        let (one, two) = (chain(50, 5), chain(51, 3));
        let both = [&one[..], &two].concat();
        // A node that is behind is sound as far as it goes.
        let (logs, findings) = found(vec![listed(1, &both), listed(2, &one[..2])]);
        assert!(findings.is_empty(), "{findings:?}");
        let holders: Vec<usize> = logs.ledger.entries.values().map(|l| l.holders.len()).collect();
        assert_eq!((holders.len(), holders.iter().sum::<usize>()), (8, 10));
    }

    #[test]
    fn gaps_forks_and_wrong_beginnings_are_breaks() {
        let log = chain(50, 5);
        let kinds = |listings| found(listings).1.counts().clone();
        let broken = |count| BTreeMap::from([(Kind::LogBroken, count)]);
        let gap: Vec<Signed<Entry>> = log.iter().take(2).chain(&log[3..]).cloned().collect();
        assert_eq!(kinds(vec![listed(1, &gap)]), broken(1));
        assert_eq!(kinds(vec![listed(1, &log[1..])]), broken(1));
        let fork = entry(50, 4, Some(entry_id(&log[3])), 9);
        let other = [&log[..4], &[fork]].concat();
        assert_eq!(kinds(vec![listed(1, &log), listed(2, &other)]), broken(1));
        let elsewhere = entry(50, 4, Some(EntryId([3; 32])), 0);
        assert_eq!(kinds(vec![listed(1, &[&log[..4], &[elsewhere]].concat())]), broken(1));
    }

    #[test]
    fn what_nobody_signed_counts_for_nothing() {
        let log = chain(50, 2);
        let others = held(2, &log[0]);
        let strange = chain(99, 1);
        let mut another = held(1, &log[1]);
        another.entry = log[0].clone();
        let listings = vec![(1, vec![others]), listed(1, &strange), (1, vec![another])];
        let (logs, findings) = found(listings);
        assert_eq!(findings.counts(), &BTreeMap::from([(Kind::Forged, 3)]));
        assert!(logs.ledger.entries.is_empty());
    }
}
