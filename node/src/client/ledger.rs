//! The logs of a vault as its holders have them, merged; and appending to this device's.

use super::mesh::Mesh;
use super::vault::Vault;
use super::{ClientError, Result};
use crate::service::wall;
use protocol::certificate::CertificateError;
use protocol::id::{DeviceId, EntryId, NodeId, VaultId};
use protocol::label::Site;
use protocol::log::{Body, Entry, check_held, entry_id};
use protocol::message::{Request, Response};
use protocol::sign::Signed;
use protocol::time::Wall;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// An entry and who has it.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Its name.
    pub id: EntryId,
    /// The signed entry.
    pub signed: Signed<Entry>,
    /// The entry.
    pub entry: Entry,
    /// Which of the nodes that answer have it, and since when.
    pub holders: BTreeMap<NodeId, Wall>,
}

impl Logged {
    /// When it was first seen by a holder.
    #[must_use]
    pub fn witnessed(&self) -> Wall {
        self.holders.values().copied().min().unwrap_or(self.entry.claimed)
    }
}

/// The entries of a vault, by device and number.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The entries.
    pub entries: BTreeMap<(DeviceId, u64), Logged>,
}

impl Ledger {
    /// Asks all nodes for their entries and merges them. Entries with a wrong signature or
    /// countersignature are left out.
    pub async fn read(mesh: &Mesh, vault: &Vault) -> Result<Self> {
        let mut ledger = Self::default();
        ledger.read_after(mesh, vault.id, None).await;
        Ok(ledger)
    }

    /// Merges what the nodes have behind an entry, page by page from all of them at once.
    async fn read_after(&mut self, mesh: &Mesh, vault: VaultId, after: Option<(DeviceId, u64)>) {
        let merged = Mutex::new(std::mem::take(&mut self.entries));
        let reads = mesh.nodes.values().map(|node| async {
            let mut after = after;
            loop {
                let answer = node.request(&Request::Log { vault, after }).await;
                // A node that does not know the vault yet, or just went away, has nothing to say.
                let Ok(Response::Log { entries, more }) = answer else { break };
                let before = after;
                for logged in entries {
                    let (Ok(entry), Ok(ack)) = (logged.entry.verify(), logged.ack.verify()) else {
                        continue;
                    };
                    let id = entry_id(&logged.entry);
                    if entry.vault != vault || ack.entry != id || ack.holder != node.id {
                        continue;
                    }
                    after = Some((entry.device, entry.seq));
                    let mut merged = merged.lock().unwrap_or_else(PoisonError::into_inner);
                    let slot = merged.entry((entry.device, entry.seq)).or_insert_with(|| Logged {
                        id,
                        signed: logged.entry.clone(),
                        entry,
                        holders: BTreeMap::new(),
                    });
                    if slot.id == id {
                        slot.holders.insert(node.id, ack.witnessed);
                    }
                }
                if !more || after <= before {
                    break;
                }
            }
        });
        futures::future::join_all(reads).await;
        self.entries = merged.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    fn last_of(&self, device: DeviceId) -> Option<&Logged> {
        self.entries.range((device, 0)..=(device, u64::MAX)).next_back().map(|(_, last)| last)
    }

    /// Learns what other processes of this host have appended, and what one that was killed signed and did
    /// not send: two entries of the same number would be a fork.
    async fn catch_up(&mut self, mesh: &Mesh, vault: &Vault) -> Result<()> {
        let device = vault.device_id();
        let Some(head) = vault.log_head()? else { return Ok(()) };
        let id = entry_id(&head);
        let entry = head.verify().map_err(CertificateError::from)?;
        if entry.device != device || entry.vault != vault.id {
            return Err(ClientError::Content("the end of this device's log is another's".into()));
        }
        let is_behind = |ledger: &Self| {
            ledger.last_of(device).is_none_or(|last| last.entry.seq < entry.seq && last.id != id)
        };
        if is_behind(self) {
            let known = self.last_of(device).map(|last| (device, last.entry.seq));
            self.read_after(mesh, vault.id, known).await;
        }
        if is_behind(self) {
            if entry.previous != self.last_of(device).map(|last| last.id) {
                return Err(ClientError::LogGap { known: entry.seq });
            }
            let logged = Logged { id, signed: head, entry, holders: BTreeMap::new() };
            self.entries.insert((device, logged.entry.seq), logged);
        }
        Ok(())
    }

    /// Appends to this device's log: signed, kept here, sent to all nodes, held widely enough for the policy.
    pub async fn append(
        &mut self,
        mesh: &Mesh,
        vault: &Vault,
        body: Body,
        allow_degraded: bool,
    ) -> Result<Logged> {
        // Processes of one host share the device's log.
        let turn = tokio::task::block_in_place(|| vault.lock_log())?;
        self.catch_up(mesh, vault).await?;
        let device = vault.device_id();
        let (seq, previous) =
            self.last_of(device).map_or((0, None), |last| (last.entry.seq + 1, Some(last.id)));
        let entry = Entry { vault: vault.id, device, seq, previous, claimed: wall(), body };
        let signed = Signed::sign(&entry, &vault.device);
        vault.set_log_head(&signed)?;
        let mut logged = Logged { id: entry_id(&signed), signed, entry, holders: BTreeMap::new() };
        let mut failures = Vec::new();
        let sent =
            mesh.nodes.values().map(|node| async { (node.id, self.bring(node, &logged).await) });
        for (node, answer) in futures::future::join_all(sent).await {
            match answer {
                Ok(witnessed) => {
                    logged.holders.insert(node, witnessed);
                }
                Err(error) => failures.push(error.to_string()),
            }
        }
        self.entries.insert((device, seq), logged.clone());
        drop(turn);
        let sites: Vec<&Site> = logged.holders.keys().map(|id| &mesh.nodes[id].site).collect();
        if let Err(violation) = check_held(&vault.policy, &sites)
            && !allow_degraded
        {
            tracing::warn!(?failures, "the log entry is not held widely enough");
            return Err(violation.into());
        }
        Ok(logged)
    }

    /// Brings one node an entry, with those before it that it lacks.
    async fn bring(&self, node: &super::mesh::Node, logged: &Logged) -> Result<Wall> {
        let device = logged.entry.device;
        let mut queue = vec![logged.signed.clone()];
        let mut behind = false;
        while let Some(signed) = queue.pop() {
            match node.request(&Request::Append(signed.clone())).await? {
                Response::Appended(ack) => {
                    let ack = ack.verify().map_err(CertificateError::from)?;
                    if ack.holder != node.id || ack.entry != entry_id(&signed) {
                        return Err(ClientError::Node {
                            node: node.id.short(),
                            what: "it countersigned something else".into(),
                        });
                    }
                    if queue.is_empty() {
                        return Ok(ack.witnessed);
                    }
                }
                Response::Behind { next } if !behind && next < logged.entry.seq => {
                    behind = true;
                    queue = vec![logged.signed.clone()];
                    let missing = self.entries.range((device, next)..(device, logged.entry.seq));
                    queue.extend(missing.rev().map(|(_, logged)| logged.signed.clone()));
                }
                _ => break,
            }
        }
        Err(ClientError::Node {
            node: node.id.short(),
            what: "it does not take the log entry".into(),
        })
    }

    /// The snapshots, oldest first by when they were first witnessed.
    #[must_use]
    pub fn snapshots(&self) -> Vec<&Logged> {
        let is_snapshot = |logged: &&Logged| matches!(logged.entry.body, Body::Snapshot { .. });
        let mut snapshots: Vec<&Logged> = self.entries.values().filter(is_snapshot).collect();
        snapshots.sort_by_key(|logged| (logged.witnessed(), logged.entry.seq));
        snapshots
    }

    /// The snapshot that a person means: `latest`, or the first digits of its id.
    pub fn find_snapshot(&self, name: &str) -> Result<&Logged> {
        let snapshots = self.snapshots();
        let unknown = || ClientError::NoSnapshot(name.into());
        if name == "latest" {
            return snapshots.last().copied().ok_or_else(unknown);
        }
        let mut matching =
            snapshots.into_iter().filter(|logged| logged.id.to_string().starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(logged), None) if !name.is_empty() => Ok(logged),
            (Some(_), Some(_)) => {
                Err(ClientError::NoSnapshot(format!("{name} alone: several begin like this")))
            }
            _ => Err(unknown()),
        }
    }
}
