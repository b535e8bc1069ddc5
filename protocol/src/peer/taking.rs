//! What a node takes from another one that brings it up to date ([`super::exchange`]): what it would take from a device of the vault,
//! by the same judges, and countersigned with its own time.
//!
//! - A vault that is not known here is taken when the roster that comes with it lists this node.
//! - Of a device whose right to write has ended, by revocation or by time, an entry that is missing here is taken only when nodes
//!   show it that satisfy the vault's policy for log entries ([`check_held`]), each listed in a roster of the vault. Whether it was
//!   written before the end nobody can know; but who has that device's key needs as many holders to help him as the
//!   policy says must fall together, and not one. So a node whose disk was wiped gets the log of a laptop that was stolen and revoked,
//!   and where too few have it, it stays with those.
//! - Budgets for what nodes bring are their own: a liar uses up nothing that a device needs, and who lacks years of logs catches up.

use super::facts::{Facts, Table, View, Write, key};
use super::guardians::{NAMINGS_MAX, namings};
use super::ledger::{DEVICES_MAX, check_versions};
use super::{Note, Output, Peer, refusal};
use crate::certificate::{CertificateError, DeviceCertificate, VaultDescriptor};
use crate::id::{DeviceId, EntryId, NodeId, VaultId};
use crate::label::Site;
use crate::log::{Continuation, Entry, Head, check_held, continuation, entry_id};
use crate::message::{Holdings, Refusal, RefusalCode};
use crate::sign::Signed;
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// Entries looked at of one answer.
const ENTRIES_MAX: usize = 1 << 14;
/// Entries of a device that may not write any more that are compared at once,
const SHOWN_MAX: usize = 512;
/// nodes whose word is kept for that,
const WITNESSES_MAX: usize = 16;
/// and logs: together 8 MiB.
const LOGS_MAX: usize = 32;

/// What came of an answer.
#[derive(Debug)]
pub(super) enum Taken {
    /// It had something new, which is to be stored.
    News(Vec<Write>),
    /// It says what to ask for.
    Asked,
    /// It had nothing new.
    Nothing,
    /// It cannot be said now.
    Later,
}

impl Taken {
    fn of(writes: Vec<Write>) -> Self {
        if writes.is_empty() { Self::Nothing } else { Self::News(writes) }
    }
}

/// What nodes show of the logs of devices that may not write any more, from the first entry on that is missing here.
#[derive(Debug, Default)]
pub(super) struct Shown(BTreeMap<(VaultId, DeviceId), Log>);

#[derive(Debug, Default)]
struct Log {
    from: u64,
    by: BTreeMap<NodeId, Vec<EntryId>>,
}

impl Shown {
    /// A node shows these entries, from this number on. Gives, for each of them, the nodes that show it and all before it.
    fn show(
        &mut self,
        log: (VaultId, DeviceId),
        from: u64,
        node: NodeId,
        entries: Vec<EntryId>,
    ) -> Vec<BTreeSet<NodeId>> {
        if !self.0.contains_key(&log) && self.0.len() >= LOGS_MAX {
            self.0.pop_first();
        }
        let shown = self.0.entry(log).or_default();
        if shown.from != from {
            *shown = Log { from, by: BTreeMap::new() };
        }
        if !shown.by.contains_key(&node) && shown.by.len() >= WITNESSES_MAX {
            shown.by.pop_first();
        }
        let witnesses = |end: usize| {
            let same = shown.by.iter().filter(|(_, known)| known.get(..end) == entries.get(..end));
            same.map(|(&node, _)| node).chain([node]).collect()
        };
        let found = (1..=entries.len()).map(witnesses).collect();
        shown.by.insert(node, entries);
        found
    }
}

impl Peer {
    /// Takes what is new of papers, devices, revocations and cards.
    pub(super) fn take_holdings(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        vault: VaultId,
        theirs: &Holdings,
    ) -> Result<Taken, Refusal> {
        let Holdings { state, cards } = theirs;
        let terms = state.papers.verify(now.wall)?;
        if terms.certificate.vault != vault {
            return Err(refusal(RefusalCode::Malformed, "papers of another vault"));
        }
        self.trust.check(terms.certificate.operator)?;
        let view = View { facts, overlay: &self.overlay };
        let tables =
            [Table::Vault, Table::Descriptor, Table::Roster, Table::Device, Table::Revoked];
        let undecided = tables.iter().any(|&table| view.count_pending(table, &vault.0) > 0);
        if undecided || view.count_pending(Table::Recovery, &[]) > 0 {
            return Ok(Taken::Later);
        }
        self.check_owner(&view, &terms, false)?;
        let mut writes = self.paper_writes(now, facts, &state.papers, &terms)?;
        if view.vault(vault)?.is_none() {
            let own = self.node();
            let is_listed = terms
                .roster
                .nodes
                .iter()
                .any(|signed| signed.verify().is_ok_and(|certificate| certificate.node == own));
            if !is_listed {
                let text = "the vault's roster does not list this node";
                return Err(refusal(RefusalCode::NotAllowed, text));
            }
            Self::check_room_for_vault(facts)?;
            self.check_new_vault(now, terms.certificate.operator)?;
        }
        let mut devices = facts.scan(Table::Device, &vault.0, None, DEVICES_MAX)?.len();
        for signed in state.devices.iter().take(DEVICES_MAX) {
            // Also one that has expired: what it wrote before counts.
            let found = signed.verify().map_err(CertificateError::from)?;
            if found.vault != vault {
                return Err(refusal(RefusalCode::Malformed, "a device of another vault"));
            }
            let known = view.device(vault, found.device)?;
            let known = known.and_then(|known| known.verify().ok());
            let is_new = known.is_none() && devices < DEVICES_MAX;
            if is_new || known.is_some_and(|known| known.expires < found.expires) {
                devices += usize::from(is_new);
                writes.push(Write::device(vault, found.device, signed));
            }
        }
        let mut revoked = facts.scan(Table::Revoked, &vault.0, None, 2 * DEVICES_MAX)?.len();
        for signed in state.revoked.iter().take(2 * DEVICES_MAX) {
            let order = signed.verify().map_err(CertificateError::from)?;
            if order.vault != vault {
                return Err(refusal(RefusalCode::Malformed, "a revocation of another vault"));
            }
            if revoked < 2 * DEVICES_MAX && !view.is_revoked(vault, order.device)? {
                revoked += 1;
                writes.push(Write::revoked(vault, order.device, signed));
            }
        }
        writes.extend(super::recovery::card_writes(facts, vault, cards)?);
        let len = writes.iter().filter_map(|write| Some(write.value.as_ref()?.len())).sum();
        match self.spend_catching_up(now, vault, len) {
            Ok(()) => Ok(Taken::of(writes)),
            Err(_) => Ok(Taken::Later),
        }
    }

    /// Takes descriptors that are older than the newest one and name other guardians than those known here.
    pub(super) fn take_namings(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        vault: VaultId,
        theirs: &[Signed<VaultDescriptor>],
    ) -> Result<Taken, Refusal> {
        let view = View { facts, overlay: &self.overlay };
        if view.count_pending(Table::Descriptor, &vault.0) > 0 {
            return Ok(Taken::Later);
        }
        // Of a vault that was not taken nothing is.
        let Some(newest) = view.descriptor(vault)? else { return Ok(Taken::Nothing) };
        let newest = newest.verify().map_err(CertificateError::from)?.version;
        let mut known = namings(facts, vault)?;
        let mut writes = Vec::new();
        for signed in theirs.iter().take(NAMINGS_MAX) {
            let naming = signed.verify().map_err(CertificateError::from)?;
            if naming.vault != vault {
                return Err(refusal(RefusalCode::Malformed, "a descriptor of another vault"));
            }
            let Some(guardians) = naming.policy.lock.guardians else { continue };
            let is_free = facts
                .get(Table::Descriptor, &key(&[&vault.0, &naming.version.to_be_bytes()]))?
                .is_none();
            let is_known = known.iter().any(|(named, _)| *named == guardians);
            if !is_known && is_free && naming.version < newest && known.len() < NAMINGS_MAX {
                writes.push(Write::descriptor(vault, naming.version, signed));
                known.push((guardians, signed.clone()));
            }
        }
        if !writes.is_empty() {
            check_versions(facts, Table::Descriptor, vault)?;
        }
        let len = writes.iter().filter_map(|write| Some(write.value.as_ref()?.len())).sum();
        match self.spend_catching_up(now, vault, len) {
            Ok(()) => Ok(Taken::of(writes)),
            Err(_) => Ok(Taken::Later),
        }
    }

    /// Whether a device may not write any more, by revocation or by time.
    fn has_ended(
        view: &View<'_>,
        vault: VaultId,
        device: DeviceId,
        now: Now,
    ) -> Result<bool, Refusal> {
        let certificate = view.device(vault, device)?;
        let is_valid =
            certificate.is_some_and(|signed| DeviceCertificate::verify(&signed, now.wall).is_ok());
        Ok(!is_valid || view.is_revoked(vault, device)?)
    }

    /// Takes the entries that continue a log, and keeps what contradicts it.
    pub(super) fn take_entries(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        node: NodeId,
        (vault, device): (VaultId, DeviceId),
        entries: &[Signed<Entry>],
    ) -> Result<Taken, Refusal> {
        let view = View { facts, overlay: &self.overlay };
        if view.is_pending(Table::Head, &key(&[&vault.0, &device.0])) {
            return Ok(Taken::Later);
        }
        let mut head = view.head(vault, device)?;
        let has_ended = Self::has_ended(&view, vault, device, now)?;
        let begin = head;
        let (mut next, mut fork) = (Vec::new(), None);
        for signed in entries.iter().take(ENTRIES_MAX) {
            let entry = self.check_brought(now, &view, (vault, device), signed)?;
            let id = entry_id(signed);
            match continuation(head, &entry) {
                Continuation::Next => {
                    head = Some(Head { seq: entry.seq, entry: id });
                    next.push((signed, entry, id));
                }
                Continuation::Gap { .. } => break,
                Continuation::Past => {
                    let known = view.entry(vault, device, entry.seq)?;
                    if known.is_none_or(|known| entry_id(&known.entry) != id) {
                        fork = Some((signed, entry, id));
                        break;
                    }
                }
                Continuation::Fork => {
                    fork = Some((signed, entry, id));
                    break;
                }
            }
        }
        if has_ended {
            let from = begin.map_or(0, |head| head.seq + 1);
            next.truncate(SHOWN_MAX);
            let ids = next.iter().map(|(_, _, id)| *id).collect();
            let vouched = self.vouched(now, facts, node, (vault, device), from, ids)?;
            next.truncate(vouched);
        }
        let mut writes = Vec::new();
        let mut is_later = false;
        for (signed, entry, id) in next {
            if self.spend_catching_up(now, vault, signed.to_bytes().len()).is_err() {
                is_later = true;
                break;
            }
            writes.extend(self.entry_writes(now, signed.clone(), &entry, id).1);
        }
        if let Some((signed, entry, id)) = fork {
            writes.extend(self.fork_writes(now, facts, signed, &entry, id)?);
        }
        if writes.is_empty() && is_later { Ok(Taken::Later) } else { Ok(Taken::of(writes)) }
    }

    /// How many of these entries, from the first on, are shown by nodes enough.
    fn vouched(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        node: NodeId,
        (vault, device): (VaultId, DeviceId),
        from: u64,
        entries: Vec<EntryId>,
    ) -> Result<usize, Refusal> {
        let shown = self.exchange.shown.show((vault, device), from, node, entries);
        let view = View { facts, overlay: &self.overlay };
        let Some(descriptor) = view.descriptor(vault)? else { return Ok(0) };
        let internal =
            |e: crate::sign::SignatureError| refusal(RefusalCode::Internal, e.to_string());
        let policy = descriptor.verify().map_err(internal)?.policy;
        let seen = self.seen_for(now, facts, vault)?;
        let mut sites: BTreeMap<NodeId, Site> = BTreeMap::new();
        for witness in shown.first().into_iter().flatten() {
            let member = self.members.get(witness);
            let certificate = member.and_then(|m| m.record.certificate.verify().ok());
            if let (Some(certificate), true) = (certificate, view.is_listed(*witness, vault)?) {
                let seen = seen.get(witness).cloned();
                sites.insert(*witness, seen.unwrap_or_else(|| certificate.site()));
            }
        }
        let is_enough = |witnesses: &BTreeSet<NodeId>| {
            let sites: Vec<&Site> = witnesses.iter().filter_map(|node| sites.get(node)).collect();
            check_held(&policy, &sites).is_ok()
        };
        // Who shows an entry shows all before it.
        Ok(shown.partition_point(is_enough))
    }

    /// Keeps forks that are evidence here too.
    pub(super) fn take_forks(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        (vault, device): (VaultId, DeviceId),
        forks: &[Signed<Entry>],
    ) -> Result<Taken, Refusal> {
        let mut writes: Vec<Write> = Vec::new();
        for signed in forks.iter().take(super::ledger::FORKS_MAX) {
            let view = View { facts, overlay: &self.overlay };
            let entry = self.check_brought(now, &view, (vault, device), signed)?;
            let id = entry_id(signed);
            let is_evidence = match continuation(view.head(vault, device)?, &entry) {
                // On top of another fork it is one itself, and cannot be told from what comes next.
                Continuation::Next | Continuation::Gap { .. } => false,
                Continuation::Fork => true,
                Continuation::Past => {
                    let known = view.entry(vault, device, entry.seq)?;
                    known.is_none_or(|known| entry_id(&known.entry) != id)
                }
            };
            let room = facts.scan(Table::Fork, &key(&[&vault.0, &device.0]), None, usize::MAX)?;
            if is_evidence && room.len() + writes.len() < super::ledger::FORKS_MAX {
                writes.extend(self.fork_writes(now, facts, signed, &entry, id)?);
            }
        }
        Ok(Taken::of(writes))
    }

    /// Checks an entry that a node brought, as if a device had.
    fn check_brought(
        &self,
        now: Now,
        view: &View<'_>,
        (vault, device): (VaultId, DeviceId),
        signed: &Signed<Entry>,
    ) -> Result<Entry, Refusal> {
        let entry = signed.verify().map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        if (entry.vault, entry.device) != (vault, device) {
            return Err(refusal(RefusalCode::Malformed, "an entry of another log"));
        }
        self.check_entry(now, view, &entry)?;
        Ok(entry)
    }

    /// What to write to keep a fork; nothing when it is known or enough are kept.
    fn fork_writes(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        signed: &Signed<Entry>,
        entry: &Entry,
        id: EntryId,
    ) -> Result<Vec<Write>, Refusal> {
        let (vault, device) = (entry.vault, entry.device);
        if !self.is_new_fork(facts, entry, id)? {
            return Ok(Vec::new());
        }
        if self.spend_catching_up(now, vault, signed.to_bytes().len()).is_err() {
            return Ok(Vec::new());
        }
        self.outputs.push_back(Output::Note(Note::Forked { vault, device }));
        Ok(vec![Write::fork(vault, device, id, signed)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shows_the_same_from_the_beginning_vouches() {
        let id = |byte: u8| EntryId([byte; 32]);
        let (a, b, c) = (NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]));
        let log = (VaultId([1; 32]), DeviceId([2; 32]));
        let mut shown = Shown::default();
        let count =
            |found: Vec<BTreeSet<NodeId>>| found.iter().map(BTreeSet::len).collect::<Vec<_>>();
        assert_eq!(count(shown.show(log, 5, a, vec![id(1), id(2), id(3)])), [1, 1, 1]);
        assert_eq!(count(shown.show(log, 5, a, vec![id(1), id(2)])), [1, 1]);
        assert_eq!(count(shown.show(log, 5, b, vec![id(1), id(9), id(3)])), [2, 1, 1]);
        assert_eq!(count(shown.show(log, 5, c, vec![id(1), id(2)])), [3, 2]);
        // What was shown from another place on counts for nothing.
        assert_eq!(count(shown.show(log, 6, c, vec![id(2)])), [1]);
    }
}
