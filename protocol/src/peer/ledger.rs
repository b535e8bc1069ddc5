//! Vaults' papers and devices' logs: what is accepted, countersigned and handed out.

use super::facts::{Facts, FactsError, Table, View, Write, decode, key};
use super::holder::BUSY_RETRY;
use super::{Decision, LaneId, Note, Output, Peer, Role, Then, refusal};
use crate::certificate::{
    CertificateError, DeviceRevocation, NodeCertificate, Roster, VaultCertificate, VaultPapers,
    VaultTerms, is_next_version,
};
use crate::id::{DeviceId, EntryId, VaultId};
use crate::log::{
    Body, Continuation, Entry, EntryAck, Head, INDEX_STRIPES_MAX, continuation, entry_id,
};
use crate::message::{LoggedEntry, PAGE_LEN, Refusal, RefusalCode, Response, VaultState};
use crate::planted::{Bug, is_planted};
use crate::sign::Signed;
use crate::time::Now;

/// Most devices of one vault that are known here. Whoever comes later may read: its key is certified like theirs.
pub(super) const DEVICES_MAX: usize = 1024;
/// Most vaults of one node.
pub(super) const VAULTS_MAX: usize = 4096;
/// Most versions kept of a vault's descriptor, and of its roster.
const VERSIONS_MAX: usize = 1024;
/// Most forks kept as evidence for one device: more prove nothing new.
pub(super) const FORKS_MAX: usize = 16;

impl Peer {
    /// The vault's roster, or a refusal that says to introduce the vault first.
    pub(super) fn roster_of(&self, view: &View<'_>, vault: VaultId) -> Result<Roster, Refusal> {
        let unknown =
            || refusal(RefusalCode::UnknownVault, format!("vault {vault} was not introduced here"));
        let signed = view.roster(vault)?.ok_or_else(unknown)?;
        signed.verify().map_err(|e| refusal(RefusalCode::Internal, e.to_string()))
    }

    /// New data is accepted while the operator's word for the vault lasts.
    pub(super) fn check_vault_open(now: Now, view: &View<'_>, vault: VaultId) -> Decision {
        let signed = view.vault(vault)?.ok_or_else(|| {
            refusal(RefusalCode::UnknownVault, format!("vault {vault} was not introduced here"))
        })?;
        VaultCertificate::verify(&signed, now.wall)?;
        Ok(())
    }

    /// And while that is the word of whoever speaks for the operator: of a vault whose owner has not renewed it, what is held is
    /// read and repaired as before.
    pub(super) fn check_vault_spoken(&self, now: Now, view: &View<'_>, vault: VaultId) -> Decision {
        match view.vault(vault)? {
            Some(signed) => self.is_spoken(now, &signed),
            None => Ok(()),
        }
    }

    /// A device reads its own vault; a node reads vaults of which a roster lists it, or ever did: what it could read then it may
    /// have kept, so that hiding it now protects nothing, and whoever stole the vault's key would part its holders by a roster that
    /// lists none of them.
    pub(super) fn check_reader(&self, view: &View<'_>, role: &Role, vault: VaultId) -> Decision {
        let unknown =
            || refusal(RefusalCode::UnknownVault, format!("vault {vault} is not known here"));
        match role {
            Role::Device { vault: own, .. } if *own == vault || is_planted(Bug::Reader) => Ok(()),
            Role::Node(node) => {
                let may_hold = self.may_hold(view, vault, *node).map_err(|_| unknown())?;
                if may_hold { Ok(()) } else { Err(unknown()) }
            }
            Role::Device { .. } | Role::Console { .. } => Err(unknown()),
        }
    }

    pub(super) fn handle_introduce(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        papers: &VaultPapers,
    ) -> Decision {
        let terms = papers.verify(now.wall)?;
        let vault = terms.certificate.vault;
        let Some(sender) = role.device_of(vault) else {
            return Err(refusal(
                RefusalCode::NotAllowed,
                "only a device of the vault introduces it",
            ));
        };
        self.trust.check(terms.certificate.operator)?;
        let view = View { facts, overlay: &self.overlay };
        Self::check_not_revoked(&view, vault, sender)?;
        let undecided = [Table::Vault, Table::Descriptor, Table::Roster]
            .iter()
            .any(|&table| view.count_pending(table, &vault.0) > 0);
        if undecided {
            // "Done" may not rest on papers that could still fail to be stored.
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        self.check_owner(&view, &terms, true)?;
        let writes = self.paper_writes(now, facts, papers, &terms)?;
        if writes.is_empty() {
            self.reply(lane, Response::Done);
            return Ok(());
        }
        if !self.is_owner(&view, vault, terms.certificate.operator)? {
            Self::check_room_for_vault(facts)?;
            self.check_new_vault(now, terms.certificate.operator)?;
        }
        self.check_agreed(now, vault)?;
        // Papers fill a disk as log entries do.
        let len = writes.iter().filter_map(|write| Some(write.value.as_ref()?.len())).sum();
        self.spend_log(now, vault, len)?;
        let response = Box::new(Response::Done);
        self.persist(writes, None, Then::Reply { lane, response, close: false });
        Ok(())
    }

    /// What to write of a vault's papers: what is newer than what is known, and whom its roster lists.
    pub(super) fn paper_writes(
        &self,
        now: Now,
        facts: &dyn Facts,
        papers: &VaultPapers,
        terms: &VaultTerms,
    ) -> Result<Vec<Write>, Refusal> {
        let vault = terms.certificate.vault;
        let view = View { facts, overlay: &self.overlay };
        let mut writes = Vec::new();
        if self.is_later_word(now, &view, &papers.certificate)? {
            self.is_spoken(now, &papers.certificate)?;
            writes.push(Write::vault(vault, &papers.certificate));
        }
        let known = view.descriptor(vault)?.map(|signed| signed.verify().map(|d| d.version));
        if is_news(known, terms.descriptor.version)? {
            check_versions(facts, Table::Descriptor, vault)?;
            writes.push(Write::descriptor(vault, terms.descriptor.version, &papers.descriptor));
        }
        let known = view.roster(vault)?.map(|signed| signed.verify().map(|r| r.version));
        let is_known = matches!(known, Some(Ok(version)) if version == terms.roster.version);
        let is_newer = is_news(known, terms.roster.version)?;
        if is_newer {
            check_versions(facts, Table::Roster, vault)?;
            writes.push(Write::roster(vault, terms.roster.version, &papers.roster));
        }
        let is_the_known = || Ok(view.roster(vault)?.as_ref() == Some(&papers.roster));
        if is_newer || (is_known && is_the_known().map_err(|e: FactsError| Refusal::from(e))?) {
            for signed in &terms.roster.nodes {
                let NodeCertificate { node, operator, .. } =
                    signed.verify().map_err(CertificateError::from)?;
                if !view.is_listed(node, vault)? {
                    writes.push(Write::listed(node, vault, terms.roster.version, operator));
                }
            }
        }
        Ok(writes)
    }

    /// Whether an operator's word for a vault comes after the one known. First counts by whose key it is, then the date: whoever has that key may not
    /// make the vault end earlier than it said before, and who had it before may not have said the last word.
    fn is_later_word(
        &self,
        now: Now,
        view: &View<'_>,
        signed: &Signed<VaultCertificate>,
    ) -> Result<bool, Refusal> {
        let rank = |signed: &Signed<VaultCertificate>, word: &VaultCertificate| {
            let steps = signed.said()?.map_or(0, |said| said.number());
            Ok::<_, CertificateError>((self.is_spoken(now, signed).is_ok(), steps, word.expires))
        };
        let word = signed.verify().map_err(CertificateError::from)?;
        let Some(known) = view.vault(word.vault)? else { return Ok(true) };
        let before = known.verify().map_err(CertificateError::from)?;
        Ok(before.operator != word.operator || rank(&known, &before)? < rank(signed, &word)?)
    }

    pub(super) fn check_room_for_vault(facts: &dyn Facts) -> Decision {
        if facts.scan(Table::Vault, &[], None, VAULTS_MAX)?.len() >= VAULTS_MAX {
            let text = format!("{VAULTS_MAX} vaults are known here already");
            return Err(refusal(RefusalCode::Quota, text));
        }
        Ok(())
    }

    pub(super) fn handle_vault(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
    ) -> Decision {
        let view = View { facts, overlay: &self.overlay };
        // Who may not read a vault is not told that it is known here.
        let reads = self.check_reader(&view, role, vault).is_ok();
        let state = if reads { Self::vault_state(&view, vault)? } else { None };
        self.reply(lane, Response::Vault(state.map(Box::new)));
        Ok(())
    }

    /// Papers, devices and revocations of a vault that is known here.
    pub(super) fn vault_state(
        view: &View<'_>,
        vault: VaultId,
    ) -> Result<Option<VaultState>, Refusal> {
        let facts = view.facts;
        let parts = (view.vault(vault)?, view.descriptor(vault)?, view.roster(vault)?);
        let (Some(certificate), Some(descriptor), Some(roster)) = parts else { return Ok(None) };
        let mut devices = Vec::new();
        for (_, bytes) in facts.scan(Table::Device, &vault.0, None, DEVICES_MAX)? {
            devices.push(decode(Table::Device, &bytes)?);
        }
        let mut revoked = Vec::new();
        for (_, bytes) in facts.scan(Table::Revoked, &vault.0, None, 2 * DEVICES_MAX)? {
            revoked.push(decode(Table::Revoked, &bytes)?);
        }
        let papers = VaultPapers { certificate, descriptor, roster };
        Ok(Some(VaultState { papers, devices, revoked }))
    }

    /// The vault takes a device's right to write away, from now on. What it wrote stays.
    pub(super) fn handle_revoke(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        signed: &Signed<DeviceRevocation>,
    ) -> Decision {
        let order = signed.verify().map_err(CertificateError::from)?;
        let (vault, device) = (order.vault, order.device);
        if role.device_of(vault).is_none() {
            let text = "only a device of the vault brings the revocation of another";
            return Err(refusal(RefusalCode::NotAllowed, text));
        }
        let view = View { facts, overlay: &self.overlay };
        let row = key(&[&vault.0, &device.0]);
        // Also of devices that never came here, as many again: this one may come next.
        let kept = facts.scan(Table::Revoked, &vault.0, None, 2 * DEVICES_MAX)?.len();
        let pending = view.count_pending(Table::Revoked, &vault.0);
        if kept + pending >= 2 * DEVICES_MAX && !view.is_revoked(vault, device)? {
            let text = "too many devices of the vault were revoked here already";
            return Err(refusal(RefusalCode::Quota, text));
        }
        if view.is_pending(Table::Revoked, &row) {
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
        } else if view.is_revoked(vault, device)? {
            self.reply(lane, Response::Done);
        } else {
            let response = Box::new(Response::Done);
            let writes = vec![Write::revoked(vault, device, signed)];
            self.persist(writes, None, Then::Reply { lane, response, close: false });
        }
        Ok(())
    }

    /// Whether a device may still write: a revocation counts as soon as it is decided.
    pub(super) fn check_not_revoked(view: &View<'_>, vault: VaultId, device: DeviceId) -> Decision {
        if view.is_revoked(vault, device)? && !is_planted(Bug::Revocation) {
            let text =
                format!("device {device} was revoked by the vault: it may read, and not write");
            return Err(refusal(RefusalCode::NotAllowed, text));
        }
        Ok(())
    }

    pub(super) fn handle_append(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        signed: Signed<Entry>,
    ) -> Decision {
        let entry = signed.verify().map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        // Any device of the vault may bring another's entries: they are signed.
        let Some(sender) = role.device_of(entry.vault) else {
            return Err(refusal(
                RefusalCode::NotAllowed,
                "only a device of the vault appends to its logs",
            ));
        };
        let view = View { facts, overlay: &self.overlay };
        self.check_entry(now, &view, &entry)?;
        let id = entry_id(&signed);
        if view.is_pending(Table::Head, &key(&[&entry.vault.0, &entry.device.0])) {
            // An entry on top of one that could still fail would leave a gap.
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        let is_allowed = Self::check_not_revoked(&view, entry.vault, sender)
            .and_then(|()| Self::check_not_revoked(&view, entry.vault, entry.device));
        match continuation(view.head(entry.vault, entry.device)?, &entry) {
            Continuation::Next => {
                is_allowed?;
                self.check_agreed(now, entry.vault)?;
                self.spend_log(now, entry.vault, signed.to_bytes().len())?;
                self.append(now, lane, signed, &entry, id);
                Ok(())
            }
            Continuation::Gap { .. } if is_planted(Bug::Continuation) => {
                self.append(now, lane, signed, &entry, id);
                Ok(())
            }
            Continuation::Gap { next } => {
                self.reply(lane, Response::Behind { next });
                Ok(())
            }
            Continuation::Past => {
                let known = view.entry(entry.vault, entry.device, entry.seq)?;
                match known {
                    Some(logged) if entry_id(&logged.entry) == id => {
                        self.reply(lane, Response::Appended(logged.ack));
                        Ok(())
                    }
                    _ => self.keep_fork(now, facts, &signed, &entry, id),
                }
            }
            Continuation::Fork => self.keep_fork(now, facts, &signed, &entry, id),
        }
    }

    /// Whether an entry can be one of a log that is kept here, whoever brings it.
    pub(super) fn check_entry(&self, now: Now, view: &View<'_>, entry: &Entry) -> Decision {
        check_body(entry)?;
        self.roster_of(view, entry.vault)?;
        Self::check_vault_open(now, view, entry.vault)?;
        self.check_vault_spoken(now, view, entry.vault)?;
        if view.device(entry.vault, entry.device)?.is_none() {
            return Err(refusal(RefusalCode::NotAllowed, "the entry's device is not known here"));
        }
        Ok(())
    }

    fn append(
        &mut self,
        now: Now,
        lane: LaneId,
        signed: Signed<Entry>,
        entry: &Entry,
        id: EntryId,
    ) {
        let (ack, writes) = self.entry_writes(now, signed, entry, id);
        let response = Box::new(Response::Appended(ack));
        self.persist(writes.into(), None, Then::Reply { lane, response, close: false });
    }

    /// The countersignature of an entry that continues its log, and what to write before it is given.
    pub(super) fn entry_writes(
        &self,
        now: Now,
        signed: Signed<Entry>,
        entry: &Entry,
        id: EntryId,
    ) -> (Signed<EntryAck>, [Write; 2]) {
        let Entry { vault, device, seq, .. } = *entry;
        let counted = if is_planted(Bug::Countersignature) { seq + 1 } else { seq };
        let ack = EntryAck {
            holder: self.node(),
            vault,
            device,
            seq: counted,
            entry: id,
            witnessed: now.wall,
        };
        let ack = Signed::sign(&ack, &self.key);
        let logged = LoggedEntry { entry: signed, ack: ack.clone() };
        let writes = [
            Write::entry(vault, device, seq, &logged),
            Write::head(vault, device, Head { seq, entry: id }),
        ];
        (ack, writes)
    }

    /// Whether the other side of a fork is not known, and there is room for it.
    pub(super) fn is_new_fork(
        &self,
        facts: &dyn Facts,
        entry: &Entry,
        id: EntryId,
    ) -> Result<bool, FactsError> {
        let of_device = key(&[&entry.vault.0, &entry.device.0]);
        let row = key(&[&of_device, &id.0]);
        let view = View { facts, overlay: &self.overlay };
        let known = view.is_pending(Table::Fork, &row) || facts.get(Table::Fork, &row)?.is_some();
        let durable = facts.scan(Table::Fork, &of_device, None, FORKS_MAX)?.len();
        Ok(!known && durable + view.count_pending(Table::Fork, &of_device) < FORKS_MAX)
    }

    fn keep_fork(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        signed: &Signed<Entry>,
        entry: &Entry,
        id: EntryId,
    ) -> Decision {
        let (vault, device) = (entry.vault, entry.device);
        if !is_planted(Bug::ForkEvidence)
            && self.is_new_fork(facts, entry, id)?
            && self.spend_log(now, vault, signed.to_bytes().len()).is_ok()
        {
            self.persist(vec![Write::fork(vault, device, id, signed)], None, Then::Nothing);
        }
        self.outputs.push_back(Output::Note(Note::Forked { vault, device }));
        Err(refusal(
            RefusalCode::Fork,
            format!("entry {} of device {device} contradicts the log held here", entry.seq),
        ))
    }

    pub(super) fn handle_log(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
        after: Option<(DeviceId, u64)>,
    ) -> Decision {
        let view = View { facts, overlay: &self.overlay };
        self.check_reader(&view, role, vault)?;
        let mut cursor = after.map(|(device, seq)| key(&[&vault.0, &device.0, &seq.to_be_bytes()]));
        let mut entries = Vec::new();
        let mut len = 0;
        let more = 'page: loop {
            let rows = facts.scan(Table::Entry, &vault.0, cursor.as_deref(), 16)?;
            let Some((last, _)) = rows.last() else { break 'page false };
            cursor = Some(last.clone());
            for (_, bytes) in rows {
                len += bytes.len();
                entries.push(decode(Table::Entry, &bytes)?);
                if len > PAGE_LEN {
                    break 'page true;
                }
            }
        };
        self.reply(lane, Response::Log { entries, more });
        Ok(())
    }
}

/// What a device cannot mean, or must not say.
fn check_body(entry: &Entry) -> Decision {
    match &entry.body {
        Body::Index { stripes, .. } if stripes.len() > INDEX_STRIPES_MAX => {
            Err(refusal(RefusalCode::Malformed, format!("{} index stripes", stripes.len())))
        }
        Body::Forget(signed) => {
            let forget = signed.verify();
            let forget = forget.map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
            check_vaults_word(forget.vault, entry, "which of its snapshots are forgotten")
        }
        Body::GivenUp(signed) => {
            let said = signed.verify();
            let said = said.map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
            check_vaults_word(said.vault, entry, "which of its stripes are given up")
        }
        Body::Discharged(signed) => {
            let said = signed.verify();
            let said = said.map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
            check_vaults_word(said.request.vault, entry, "what a node need not keep")
        }
        _ => Ok(()),
    }
}

/// Some things a vault says itself: a device brings them, and cannot make them.
fn check_vaults_word(vault: VaultId, entry: &Entry, what: &str) -> Decision {
    if vault == entry.vault {
        return Ok(());
    }
    let text = format!("only the vault's own key says {what}");
    Err(refusal(RefusalCode::NotAllowed, text))
}

/// Whether a version is newer than the one known. One version is one content: a statement with
/// the same number and other content is not news, and never replaces the first.
fn is_news(
    known: Option<Result<u64, crate::sign::SignatureError>>,
    version: u64,
) -> Result<bool, Refusal> {
    let known = match known {
        // Whoever comes first says where it begins: a node that joins late must take what the others have.
        None => return Ok(true),
        Some(Ok(known)) => known,
        Some(Err(error)) => return Err(refusal(RefusalCode::Internal, error.to_string())),
    };
    if version > known && !is_next_version(known, version) {
        let text = format!("version {version} is too far ahead of {known}");
        return Err(refusal(RefusalCode::NotAllowed, text));
    }
    Ok(version > known)
}

/// Every version is kept, so there is an end to them.
pub(super) fn check_versions(facts: &dyn Facts, table: Table, vault: VaultId) -> Decision {
    let (mut count, mut after) = (0, None);
    while count < VERSIONS_MAX {
        // Each can be a MiB long.
        let mut page = facts.scan(table, &vault.0, after.as_deref(), 16)?;
        count += page.len();
        match page.pop() {
            Some((last, _)) => after = Some(last),
            None => return Ok(()),
        }
    }
    let text = format!("{VERSIONS_MAX} versions of the vault's papers are kept here already");
    Err(refusal(RefusalCode::Quota, text))
}
