//! The logs of a vault as its holders have them, merged; and appending to this device's.
//!
//! Only entries of devices that the vault certified are taken in, and no holder is believed alone: the rules are in
//! [`protocol::log`]. A fork is kept, both sides. A snapshot whose entry is not held widely enough is listed with a mark and
//! is never `latest` while there is one that is; nodes that do not answer may have it, and count for it.
//! All entries are in memory, each once: as it was read, with its signature.

use super::inventory::devices;
use super::mesh::Mesh;
use super::vault::Vault;
use super::{ClientError, Result};
use crate::service::wall;
use protocol::certificate::CertificateError;
use protocol::discharge::{Discharge, Discharged};
use protocol::given_up::{Abandoned, GivenUp};
use protocol::id::{DeviceId, EntryId, NodeId, VaultId};
use protocol::label::Site;
use protocol::log::{
    Body, Entry, Holding, check_held, contradicts, entry_id, settle_arrivals, witnessed,
};
use protocol::message::{LoggedEntry, RefusalCode, Request, Response};
use protocol::sign::{Signature, SignatureError, Signed};
use protocol::time::Wall;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// An entry and who has it.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Its name.
    pub id: EntryId,
    /// The entry.
    pub entry: Entry,
    /// Its device's signature.
    pub signature: Signature,
    /// Which of the nodes that answer have it, and since when.
    pub holders: BTreeMap<NodeId, Wall>,
}

impl Logged {
    /// An entry that was signed, of which nobody is known to have it.
    pub(super) fn new(signed: &Signed<Entry>) -> std::result::Result<Self, SignatureError> {
        let (entry, signature) = signed.split()?;
        Ok(Self { id: entry_id(signed), entry, signature, holders: BTreeMap::new() })
    }

    /// As it was signed.
    #[must_use]
    pub fn signed(&self) -> Signed<Entry> {
        Signed::join(&self.entry, &self.signature)
    }

    /// When it arrived, by the middle one of its holders.
    #[must_use]
    pub fn witnessed(&self) -> Wall {
        witnessed(self.holders.values().copied()).unwrap_or(self.entry.claimed)
    }
}

/// An entry as a node lists it, and when that node saw it, if both signatures hold and a device of the vault wrote it; what
/// is wrong with it otherwise.
pub(super) fn check_listed(
    listed: &LoggedEntry,
    vault: VaultId,
    node: NodeId,
    devices: &BTreeSet<DeviceId>,
) -> std::result::Result<(Logged, Wall), &'static str> {
    let logged = Logged::new(&listed.entry).map_err(|_| "a log entry with a wrong signature")?;
    if logged.entry.vault != vault || !devices.contains(&logged.entry.device) {
        return Err("a log entry of no device of this vault");
    }
    match listed.ack.verify() {
        Ok(ack) if ack.entry == logged.id && ack.holder == node && ack.vault == vault => {
            Ok((logged, ack.witnessed))
        }
        _ => Err("a log entry without its own countersignature"),
    }
}

/// What one device brought of the vault's statements about stripes that are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Brought {
    /// How many stripes they name.
    pub stripes: u64,
    /// When the last one arrived.
    pub last: Wall,
}

/// The entries of a vault, by device and number.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The entries; where a device forked its log, those of the side that more holders have.
    pub entries: BTreeMap<(DeviceId, u64), Logged>,
    /// The entries of other sides of forks.
    pub others: BTreeMap<EntryId, Logged>,
    /// Snapshots that are not known to be held widely enough.
    doubtful: BTreeMap<EntryId, Holding>,
    /// Snapshots that the vault does not want any more.
    forgotten: BTreeSet<EntryId>,
    /// Stripes that the vault gives up.
    given_up: Abandoned,
    /// Which device brought statements about given-up stripes, or about nodes that need not keep theirs.
    given_up_by: BTreeMap<DeviceId, Brought>,
    /// What nodes need not keep.
    discharged: Discharged,
    /// Nodes that did not show all of what they have.
    unread: BTreeSet<NodeId>,
    /// Entries of these devices are taken in.
    devices: BTreeSet<DeviceId>,
}

impl Ledger {
    /// Asks all nodes for their entries and merges them. Entries of no device of the vault, and those with a wrong
    /// signature or countersignature, are left out.
    pub async fn read(mesh: &Mesh, vault: &Vault) -> Result<Self> {
        let devices = devices(mesh, vault).await;
        let mut ledger = Self { devices, ..Self::default() };
        ledger.read_after(mesh, vault.id, None).await;
        ledger.judge(mesh, vault);
        Ok(ledger)
    }

    /// Takes in an entry that a node has. False when another one of its number is known.
    pub(super) fn take(&mut self, node: NodeId, witnessed: Wall, mut logged: Logged) -> bool {
        let slot = (logged.entry.device, logged.entry.seq);
        let known = match self.entries.get_mut(&slot) {
            Some(known) if known.id != logged.id => self.others.get_mut(&logged.id),
            known => known,
        };
        if let Some(known) = known {
            known.holders.insert(node, witnessed);
            return self.entries.get(&slot).is_some_and(|first| first.id == logged.id);
        }
        logged.holders.insert(node, witnessed);
        let is_first = !self.entries.contains_key(&slot);
        if is_first {
            self.entries.insert(slot, logged);
        } else {
            self.others.insert(logged.id, logged);
        }
        is_first
    }

    /// Decides which side of a fork comes first, and finds the snapshots that are not held widely enough.
    pub(super) fn judge(&mut self, mesh: &Mesh, vault: &Vault) {
        self.settle_forks();
        let silent: Vec<&Site> = mesh.silent.values().map(|silent| &silent.site).collect();
        let mut doubtful = BTreeMap::new();
        // Entries with the same holders have the same answer.
        let mut known: BTreeMap<Vec<NodeId>, Holding> = BTreeMap::new();
        for logged in self.all().filter(|logged| is_snapshot(logged)) {
            let holders: Vec<NodeId> = logged.holders.keys().copied().collect();
            let holding = *known.entry(holders).or_insert_with_key(|holders| {
                let sites = holders.iter().filter_map(|id| mesh.nodes.get(id));
                let sites: Vec<&Site> = sites.map(|node| &node.site).collect();
                Holding::of(&vault.policy, &sites, &silent)
            });
            if holding != Holding::Wide {
                doubtful.insert(logged.id, holding);
            }
        }
        self.doubtful = doubtful;
        self.forget();
    }

    /// Finds the snapshots that the vault does not want any more, and the stripes that it gives up.
    fn forget(&mut self) {
        self.forgotten = self.all().flat_map(forgotten_by).collect();
        let (mut given_up, mut by) = (Abandoned::default(), BTreeMap::<_, Brought>::new());
        for (logged, said) in self.all().filter_map(|logged| Some((logged, given_up_by(logged)?))) {
            given_up.hear(&said);
            if !said.keep {
                let brought = by.entry(logged.entry.device).or_default();
                brought.stripes += said.stripes.len() as u64;
                brought.last = brought.last.max(logged.witnessed());
            }
        }
        let mut discharged = Discharged::default();
        for (logged, (_, said)) in
            self.all().filter_map(|logged| Some((logged, discharge_of(logged)?)))
        {
            discharged.hear(&said);
            let brought = by.entry(logged.entry.device).or_default();
            brought.stripes += said.request.stripes.len() as u64;
            brought.last = brought.last.max(logged.witnessed());
        }
        (self.given_up, self.given_up_by, self.discharged) = (given_up, by, discharged);
    }

    /// What nodes need not keep, since others have it as well.
    #[must_use]
    pub fn discharged(&self) -> &Discharged {
        &self.discharged
    }

    /// The statements by which they need not.
    pub fn discharges(&self) -> impl Iterator<Item = (Signed<Discharge>, Discharge)> + '_ {
        self.all().filter_map(discharge_of)
    }

    /// The stripes that the vault gives up.
    #[must_use]
    pub fn given_up(&self) -> &Abandoned {
        &self.given_up
    }

    /// Which devices brought statements by which stripes are given up.
    #[must_use]
    pub fn given_up_by(&self) -> &BTreeMap<DeviceId, Brought> {
        &self.given_up_by
    }

    /// Nodes that did not show all entries that they have.
    #[must_use]
    pub fn unread(&self) -> &BTreeSet<NodeId> {
        &self.unread
    }

    /// Reads what other hosts have appended since, and what it means.
    pub(super) async fn refresh(&mut self, mesh: &Mesh, vault: &Vault) {
        // Entries of a device that comes late lie anywhere: all is read again, and what is known stays.
        self.read_after(mesh, vault.id, None).await;
        self.judge(mesh, vault);
    }

    /// The side that more holders have comes first, or else that with the lower name: who answered first must not show.
    fn settle_forks(&mut self) {
        let weight = |logged: &Logged| (logged.holders.len(), Reverse(logged.id));
        for mut other in std::mem::take(&mut self.others).into_values() {
            let first = self.entries.get_mut(&(other.entry.device, other.entry.seq));
            if let Some(first) = first.filter(|first| weight(first) < weight(&other)) {
                std::mem::swap(first, &mut other);
            }
            self.others.insert(other.id, other);
        }
    }

    /// All entries, those of both sides of forks.
    pub fn all(&self) -> impl Iterator<Item = &Logged> {
        self.entries.values().chain(self.others.values())
    }

    /// How widely a snapshot's entry is held.
    #[must_use]
    pub fn holding(&self, snapshot: &Logged) -> Holding {
        self.doubtful.get(&snapshot.id).copied().unwrap_or(Holding::Wide)
    }

    /// Whether the vault does not want a snapshot any more. It is there all the same.
    #[must_use]
    pub fn is_forgotten(&self, snapshot: &Logged) -> bool {
        self.forgotten.contains(&snapshot.id)
    }

    /// The devices that forked their logs: somebody else has the device's key, or its host was set back to an older state.
    #[must_use]
    pub fn forked(&self) -> BTreeSet<DeviceId> {
        let entries: Vec<&Logged> = self.entries.values().collect();
        let breaks = entries
            .windows(2)
            .filter(|pair| contradicts((pair[0].id, &pair[0].entry), (pair[1].id, &pair[1].entry)));
        let others = self.others.values().map(|logged| logged.entry.device);
        breaks.map(|pair| pair[0].entry.device).chain(others).collect()
    }

    /// Merges what the nodes have behind an entry, page by page from all of them at once.
    async fn read_after(&mut self, mesh: &Mesh, vault: VaultId, after: Option<(DeviceId, u64)>) {
        let devices = self.devices.clone();
        let merged = Mutex::new(std::mem::take(self));
        let reads = mesh.nodes.values().map(|node| async {
            let mut after = after;
            loop {
                let (entries, more) = match node.request(&Request::Log { vault, after }).await {
                    Ok(Response::Log { entries, more }) => (entries, more),
                    // It has nothing to say.
                    Err(ClientError::Refused { refusal, .. })
                        if refusal.code == RefusalCode::UnknownVault =>
                    {
                        break;
                    }
                    Ok(_) | Err(_) => {
                        let mut merged = merged.lock().unwrap_or_else(PoisonError::into_inner);
                        merged.unread.insert(node.id);
                        break;
                    }
                };
                let before = after;
                for listed in entries {
                    let checked = check_listed(&listed, vault, node.id, &devices);
                    let Ok((logged, witnessed)) = checked else { continue };
                    after = Some((logged.entry.device, logged.entry.seq));
                    let mut merged = merged.lock().unwrap_or_else(PoisonError::into_inner);
                    merged.take(node.id, witnessed, logged);
                }
                if !more || after <= before {
                    break;
                }
            }
        });
        futures::future::join_all(reads).await;
        *self = merged.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    fn last_of(&self, device: DeviceId) -> Option<&Logged> {
        self.entries.range((device, 0)..=(device, u64::MAX)).next_back().map(|(_, last)| last)
    }

    /// Learns what other processes of this host have appended, and what one that was killed signed and did
    /// not send: two entries of the same number would be a fork.
    async fn catch_up(&mut self, mesh: &Mesh, vault: &Vault) -> Result<()> {
        let device = vault.device_id();
        let Some(head) = vault.log_head()? else { return Ok(()) };
        let head = Logged::new(&head).map_err(CertificateError::from)?;
        let (id, entry) = (head.id, &head.entry);
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
            self.entries.insert((device, head.entry.seq), head);
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
        let mut logged = Logged::new(&signed).map_err(CertificateError::from)?;
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
        if let Some(said) = given_up_by(&logged) {
            self.given_up.hear(&said);
        }
        if let Some((_, said)) = discharge_of(&logged) {
            self.discharged.hear(&said);
        }
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
        let mut queue = vec![logged.signed()];
        let mut behind = false;
        while let Some(signed) = queue.pop() {
            match node.request(&Request::Append(signed.clone())).await? {
                Response::Appended(ack) => {
                    let ack = ack.verify().map_err(CertificateError::from)?;
                    if ack.holder != node.id || ack.entry != entry_id(&signed) {
                        let what = "it countersigned something else";
                        return Err(ClientError::node(node.id, what));
                    }
                    if queue.is_empty() {
                        return Ok(ack.witnessed);
                    }
                }
                Response::Behind { next } if !behind && next < logged.entry.seq => {
                    behind = true;
                    queue = vec![logged.signed()];
                    let missing = self.entries.range((device, next)..(device, logged.entry.seq));
                    queue.extend(missing.rev().map(|(_, logged)| logged.signed()));
                }
                _ => break,
            }
        }
        Err(ClientError::node(node.id, "it does not take the log entry"))
    }

    /// The snapshots, oldest first: those of a device in the order of its log, those of several devices by when they
    /// arrived.
    #[must_use]
    pub fn snapshots(&self) -> Vec<&Logged> {
        self.arrivals().into_iter().map(|(_, logged)| logged).collect()
    }

    /// The snapshots in that order, and when each arrived by what all holders say of its device's log.
    #[must_use]
    pub fn arrivals(&self) -> Vec<(Wall, &Logged)> {
        let mut times: BTreeMap<DeviceId, Vec<(u64, Wall)>> = BTreeMap::new();
        for ((device, seq), logged) in &self.entries {
            times.entry(*device).or_default().push((*seq, logged.witnessed()));
        }
        let mut arrivals: BTreeMap<(DeviceId, u64), Wall> = BTreeMap::new();
        for (device, entries) in times {
            let (numbers, mut times): (Vec<u64>, Vec<Wall>) = entries.into_iter().unzip();
            settle_arrivals(&mut times);
            arrivals.extend(numbers.into_iter().map(|seq| (device, seq)).zip(times));
        }
        let arrival = |logged: &Logged| {
            let known = arrivals.get(&(logged.entry.device, logged.entry.seq));
            known.copied().unwrap_or_else(|| logged.witnessed())
        };
        let mut snapshots: Vec<(Wall, &Logged)> = self
            .all()
            .filter(|logged| is_snapshot(logged))
            .map(|logged| (arrival(logged), logged))
            .collect();
        snapshots.sort_by_key(|(time, logged)| {
            (*time, logged.entry.device, logged.entry.seq, logged.id)
        });
        snapshots
    }

    /// The newest snapshot that is wanted.
    #[must_use]
    pub fn newest(&self) -> Option<&Logged> {
        self.snapshots().into_iter().rfind(|logged| !self.is_forgotten(logged))
    }

    /// The newest snapshot that is wanted and is held widely enough, or may be as far as silent nodes go; where there is
    /// none, the newest that is wanted.
    #[must_use]
    pub fn latest(&self) -> Option<&Logged> {
        let is_held = |logged: &&Logged| {
            self.holding(logged) != Holding::Narrow && !self.is_forgotten(logged)
        };
        self.snapshots().into_iter().rfind(is_held).or_else(|| self.newest())
    }

    /// The snapshot that a person means: `latest`, or the first digits of its id.
    pub fn find_snapshot(&self, name: &str) -> Result<&Logged> {
        let unknown = || ClientError::NoSnapshot(name.into());
        if name == "latest" {
            return self.latest().ok_or_else(unknown);
        }
        let snapshots = self.snapshots().into_iter();
        let mut matching = snapshots.filter(|logged| logged.id.to_string().starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(logged), None) if !name.is_empty() => Ok(logged),
            (Some(_), Some(_)) => {
                Err(ClientError::NoSnapshot(format!("{name} alone: several begin like this")))
            }
            _ => Err(unknown()),
        }
    }
}

/// The snapshots that an entry says are not wanted, if it is the vault that says so.
fn forgotten_by(logged: &Logged) -> Vec<EntryId> {
    let Body::Forget(signed) = &logged.entry.body else { return Vec::new() };
    let forget = signed.verify().ok().filter(|forget| forget.vault == logged.entry.vault);
    forget.map_or_else(Vec::new, |forget| forget.snapshots)
}

/// The vault's word in an entry about stripes that are given up, if it is the vault that says so.
fn given_up_by(logged: &Logged) -> Option<GivenUp> {
    let Body::GivenUp(signed) = &logged.entry.body else { return None };
    signed.verify().ok().filter(|said| said.vault == logged.entry.vault)
}

/// The vault's word in an entry about what a node need not keep, if it is the vault that says so.
fn discharge_of(logged: &Logged) -> Option<(Signed<Discharge>, Discharge)> {
    let Body::Discharged(signed) = &logged.entry.body else { return None };
    let said = signed.verify().ok().filter(|said| said.request.vault == logged.entry.vault)?;
    Some((signed.clone(), said))
}

fn is_snapshot(logged: &Logged) -> bool {
    matches!(logged.entry.body, Body::Snapshot { .. })
}

#[cfg(test)]
mod tests;
