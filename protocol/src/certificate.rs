//! Who vouches for whom.
//!
//! ```text
//! operator ──signs──► NodeCertificate (labels)          operator ──signs──► VaultCertificate
//! operator ──signs──► Invitation ◄─admits─ node         vault ──signs──► DeviceCertificate, Roster, VaultDescriptor
//!                     └────► NodeCertificate            node ──signs──► NodeRecord (addresses), ConsolePass
//! ```
//! The operator's key is needed when a node is certified or invited, not while nodes run: an
//! invitation lets one named node (the admitter) certify one other node, once, until it expires. What the bearer of the
//! invitation asked for is part of that certificate: an admitter makes no node up.
//! Everything here is a statement to verify; whether its operator is trusted is [`Trust`]'s to say.

use crate::codec::Blob;
use crate::evidence::{Backing, Evidence, Evidences, VOUCHES_MAX, Vouch};
use crate::id::{DeviceId, NodeId, OperatorId, PublicKey, VaultId};
use crate::label::{Labels, Site};
use crate::planted::{Bug, is_planted};
use crate::policy::Policy;
use crate::sign::{SignatureError, Signed, Statement};
use crate::succession::{Line, Lines, Said, SuccessionError};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How far a certificate may lie in the future and still count: clocks differ.
pub const CLOCK_SKEW_MAX: Period = Period::days(1);
/// Most nodes in one roster.
pub const ROSTER_MAX: usize = 1024;
/// Most addresses of one node.
pub const ADDRESSES_MAX: usize = 16;
/// Longest address, in bytes.
pub const ADDRESS_LEN_MAX: usize = 256;
/// Furthest step from one version of a vault's papers to the next: so many may have been missed.
pub const VERSION_STEP_MAX: u64 = 1 << 20;
/// Longest time for which a certificate counts that an admitter signed.
pub const ADMITTED_VALIDITY_MAX: Period = Period::days(5 * 365);
/// Longest time for which an operator's word for a vault counts.
pub const VAULT_VALIDITY_MAX: Period = Period::days(100 * 365);
/// Most recipients of a vault.
pub const RECIPIENTS_MAX: usize = 32;

/// Why nobody is vouched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Whoever signed does not speak for the operator any more.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// The certificate's time is over.
    #[error("expired at {expired}; it is {now} now")]
    Expired {
        /// End of its validity.
        expired: Wall,
        /// The time it was looked at.
        now: Wall,
    },
    /// The certificate is dated in the future.
    #[error("issued at {issued}, which is after {now}")]
    NotYet {
        /// Start of its validity.
        issued: Wall,
        /// The time it was looked at.
        now: Wall,
    },
    /// The operator is not one that this node trusts.
    #[error("operator {0} is not trusted here")]
    Foreign(OperatorId),
    /// The certificate is about somebody else than who presents it.
    #[error("made for {made_for}, presented by {presented_by}")]
    NotYours {
        /// Who the certificate names.
        made_for: PublicKey,
        /// Who presents it.
        presented_by: PublicKey,
    },
    /// The parts of a chain do not belong together.
    #[error("the certificate's chain does not fit together: {0}")]
    Chain(&'static str),
    /// A list is longer than allowed.
    #[error("{what}: {found}, at most {max} allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many are allowed.
        max: usize,
    },
}

fn check_time(issued: Wall, expires: Wall, now: Wall) -> Result<(), CertificateError> {
    if issued > now.after(CLOCK_SKEW_MAX) {
        return Err(CertificateError::NotYet { issued, now });
    }
    if now >= expires {
        return Err(CertificateError::Expired { expired: expires, now });
    }
    Ok(())
}

/// Whether a version of a vault's papers may follow the one known. Were any step allowed, one statement with the
/// highest number, signed with a stolen key, would be the last for ever.
#[must_use]
pub fn is_next_version(known: u64, found: u64) -> bool {
    found > known && found - known <= VERSION_STEP_MAX
}

/// The highest version to believe of those that several holders show (in any order), by who knows one already (0: none): a
/// step beyond that, or beyond the middle one. Of holders each keeps to [`is_next_version`], so as long as fewer than half lie, the
/// middle one is where the vault really is.
#[must_use]
pub fn plausible_version(known: u64, shown: &mut [u64]) -> u64 {
    shown.sort_unstable();
    let middle = shown.len().checked_sub(1).map_or(0, |last| shown[last / 2]);
    known.max(middle).saturating_add(VERSION_STEP_MAX)
}

pub(crate) fn check_count(
    what: &'static str,
    found: usize,
    max: usize,
) -> Result<(), CertificateError> {
    if found > max { Err(CertificateError::TooMany { what, found, max }) } else { Ok(()) }
}

/// The operators that a node or client trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    operators: BTreeSet<OperatorId>,
    fingerprints: BTreeSet<String>,
}

impl Trust {
    /// Trusts these operators and nobody else.
    pub fn new(operators: impl IntoIterator<Item = OperatorId>) -> Self {
        Self { operators: operators.into_iter().collect(), fingerprints: BTreeSet::new() }
    }

    /// Trusts also these operators.
    #[must_use]
    pub fn and_operators(mut self, operators: impl IntoIterator<Item = OperatorId>) -> Self {
        self.operators.extend(operators);
        self
    }

    /// Trusts also the operators whose keys have these fingerprints.
    #[must_use]
    pub fn and_fingerprints(mut self, fingerprints: impl IntoIterator<Item = String>) -> Self {
        self.fingerprints.extend(fingerprints);
        self
    }

    /// Refuses operators that are not trusted.
    pub fn check(&self, operator: OperatorId) -> Result<(), CertificateError> {
        let is_trusted = is_planted(Bug::Vouching)
            || self.operators.contains(&operator)
            || !self.fingerprints.is_empty()
                && self.fingerprints.contains(&operator.key().fingerprint());
        if is_trusted { Ok(()) } else { Err(CertificateError::Foreign(operator)) }
    }
}

/// An operator lets one node certify one other node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Who invites.
    pub operator: OperatorId,
    /// The node that may admit, and remembers that it did.
    pub admitter: NodeId,
    /// The key whose secret half the ticket carries.
    pub bearer: PublicKey,
    /// Labels that the operator fixes; the joining node may state further levels.
    pub labels: Labels,
    /// When it was made.
    pub issued: Wall,
    /// Until when it may be used.
    pub expires: Wall,
}

impl Statement for Invitation {
    const CONTEXT: &'static str = "strewn invitation";
    const LEN_MAX: usize = 8 << 10;
    fn signer(&self) -> PublicKey {
        self.operator.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.operator)
    }
}

/// What the bearer of a ticket asks for: that the named node is certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The bearer key of the invitation.
    pub bearer: PublicKey,
    /// The node to certify.
    pub node: NodeId,
    /// The labels it states.
    pub labels: Labels,
}

impl Statement for JoinRequest {
    const CONTEXT: &'static str = "strewn join request";
    const LEN_MAX: usize = 8 << 10;
    fn signer(&self) -> PublicKey {
        self.bearer
    }
}

/// By whose word a node's certificate counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authority {
    /// Signed by the operator itself.
    Operator,
    /// Signed by the admitter that the operator's invitation names, whatever the bearer asked for. It counts no more: an
    /// admitter could certify whom it liked. Nodes that have one join again.
    Admitter {
        /// The node that admitted.
        node: NodeId,
        /// Its permission.
        invitation: Signed<Invitation>,
    },
    /// Signed by the admitter that the operator's invitation names, for the node that the invitation's bearer named.
    Bearer {
        /// The node that admitted.
        node: NodeId,
        /// Its permission.
        invitation: Signed<Invitation>,
        /// What the bearer asked for.
        request: Signed<JoinRequest>,
    },
    /// Signed by the operator itself, which shows what others say of the labels.
    Shown {
        /// What they say. What does not count is no evidence; the certificate counts without.
        vouches: Vec<Signed<Vouch>>,
    },
}

/// A node belongs to an operator and lies in these domains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCertificate {
    /// The node.
    pub node: NodeId,
    /// Its operator.
    pub operator: OperatorId,
    /// What the operator states of it.
    pub labels: Labels,
    /// When it was made.
    pub issued: Wall,
    /// Until when it counts.
    pub expires: Wall,
    /// By whose word.
    pub authority: Authority,
}

impl Statement for NodeCertificate {
    const CONTEXT: &'static str = "strewn node certificate";
    const LEN_MAX: usize = 28 << 10;
    fn signer(&self) -> PublicKey {
        match &self.authority {
            Authority::Operator | Authority::Shown { .. } => self.operator.key(),
            Authority::Admitter { node, .. } | Authority::Bearer { node, .. } => node.key(),
        }
    }
    fn operator(&self) -> Option<OperatorId> {
        let is_own = matches!(self.authority, Authority::Operator | Authority::Shown { .. });
        is_own.then_some(self.operator)
    }
}

impl NodeCertificate {
    /// Verifies the certificate and its chain up to the operator at the given time. Whether the
    /// operator is trusted remains to be asked.
    pub fn verify(signed: &Signed<Self>, now: Wall) -> Result<Self, CertificateError> {
        let certificate = signed.verify()?;
        check_time(certificate.issued, certificate.expires, now)?;
        match &certificate.authority {
            Authority::Operator => {}
            Authority::Shown { vouches } => check_count("vouches", vouches.len(), VOUCHES_MAX)?,
            Authority::Admitter { .. } => {
                return Err(CertificateError::Chain(
                    "it does not show what the invitation's bearer asked for: join again",
                ));
            }
            Authority::Bearer { node, invitation, request } => {
                certificate.check_admitted(*node, &invitation.verify()?, &request.verify()?)?;
            }
        }
        Ok(certificate)
    }

    fn check_admitted(
        &self,
        admitter: NodeId,
        invitation: &Invitation,
        request: &JoinRequest,
    ) -> Result<(), CertificateError> {
        let wrong = if invitation.operator != self.operator {
            "the invitation is another operator's"
        } else if invitation.admitter != admitter {
            "the invitation names another admitter"
        } else if self.issued >= invitation.expires {
            "issued after the invitation expired"
        } else if self.expires > self.issued.after(ADMITTED_VALIDITY_MAX) {
            "an admitter's word does not count for so long"
        } else if request.bearer != invitation.bearer {
            "the invitation has another bearer"
        } else if request.node != self.node {
            "the invitation's bearer named another node"
        } else if invitation.labels_for(&request.labels)? != self.labels {
            "the labels are not those of the invitation and its bearer"
        } else {
            return Ok(());
        };
        Err(CertificateError::Chain(wrong))
    }

    /// The bearer of the invitation by which it was admitted; `None` where its operator signed it. One bearer stands for
    /// one node, also where admitter and bearer lie together.
    #[must_use]
    pub fn bearer(&self) -> Option<PublicKey> {
        match &self.authority {
            Authority::Bearer { invitation, .. } => {
                invitation.verify().ok().map(|invitation| invitation.bearer)
            }
            Authority::Operator | Authority::Admitter { .. } | Authority::Shown { .. } => None,
        }
    }

    /// Under which line of its operator's keys it was made: where an admitter signed it, that of the invitation.
    pub fn said(&self, signed: &Signed<Self>) -> Result<Said, CertificateError> {
        let said = match &self.authority {
            Authority::Operator | Authority::Shown { .. } => signed.said()?,
            Authority::Admitter { invitation, .. } | Authority::Bearer { invitation, .. } => {
                invitation.said()?
            }
        };
        Ok(said.unwrap_or_else(|| Said::first(self.operator)))
    }

    /// That line, of a certificate that was verified.
    pub fn line(&self, signed: &Signed<Self>) -> Result<Line, CertificateError> {
        Ok(match &self.authority {
            Authority::Operator | Authority::Shown { .. } => signed.line_of(self.operator)?,
            Authority::Admitter { invitation, .. } | Authority::Bearer { invitation, .. } => {
                invitation.line_of(self.operator)?
            }
        })
    }

    /// The node as placement sees it. What others say of it counts as far as somebody believes them: [`Site::seen_by`].
    #[must_use]
    pub fn site(&self) -> Site {
        let site = Site::new(self.node, self.operator, self.labels.clone());
        Site { evidence: self.evidence(), ..site }
    }

    fn evidence(&self) -> Evidences {
        match &self.authority {
            Authority::Operator => Evidences::signed(Vec::new()),
            Authority::Shown { vouches } => {
                let mut backings = Vec::new();
                for signed in vouches {
                    if let Ok(vouch) = Vouch::verify(signed)
                        && let Ok(Some(said)) = signed.said()
                    {
                        self.back(&vouch, &said, &mut backings);
                    }
                }
                Evidences::signed(backings)
            }
            Authority::Admitter { invitation, .. } | Authority::Bearer { invitation, .. } => {
                let fixed = invitation.verify().map(|invitation| invitation.labels);
                let fixed = fixed.unwrap_or_default();
                let fixed = fixed.iter().map(|(level, _)| (level.clone(), Evidence::Signed));
                Evidences::counted(fixed.collect())
            }
        }
    }

    /// Which of the labels a vouch is for. Nobody vouches for himself.
    fn back(&self, vouch: &Vouch, said: &Said, backings: &mut Vec<Backing>) {
        if vouch.node != self.node || vouch.by == self.operator {
            return;
        }
        let evidence =
            if vouch.document.is_some() { Evidence::Attested } else { Evidence::Vouched };
        let same = vouch.labels.iter().filter(|(level, name)| self.labels.get(level) == Some(name));
        backings.extend(same.map(|(level, _)| Backing {
            level: level.clone(),
            by: said.clone(),
            from: vouch.issued,
            until: vouch.expires,
            evidence,
        }));
    }

    /// What others say of it, as far as it was signed by them.
    pub fn vouches(&self) -> impl Iterator<Item = Vouch> + '_ {
        let vouches: &[_] = match &self.authority {
            Authority::Shown { vouches } => vouches,
            _ => &[],
        };
        vouches.iter().filter_map(|signed| Vouch::verify(signed).ok())
    }
}

/// Where a node can be reached, by its own word. The higher version counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node.
    pub node: NodeId,
    /// Its certificate.
    pub certificate: Signed<NodeCertificate>,
    /// Its addresses (multiaddr text, without the peer's id).
    pub addresses: Vec<String>,
    /// Grows with every change.
    pub version: u64,
}

impl Statement for NodeRecord {
    const CONTEXT: &'static str = "strewn node record";
    const LEN_MAX: usize = 44 << 10;
    fn signer(&self) -> PublicKey {
        self.node.key()
    }
}

impl NodeRecord {
    /// Verifies record, certificate and their bounds.
    pub fn verify(
        signed: &Signed<Self>,
        now: Wall,
    ) -> Result<(Self, NodeCertificate), CertificateError> {
        let record = signed.verify()?;
        check_count("addresses", record.addresses.len(), ADDRESSES_MAX)?;
        let longest = record.addresses.iter().map(String::len).max().unwrap_or(0);
        check_count("bytes of an address", longest, ADDRESS_LEN_MAX)?;
        let certificate = NodeCertificate::verify(&record.certificate, now)?;
        check_subject(certificate.node.key(), record.node.key())?;
        Ok((record, certificate))
    }
}

fn check_subject(made_for: PublicKey, presented_by: PublicKey) -> Result<(), CertificateError> {
    if made_for == presented_by {
        Ok(())
    } else {
        Err(CertificateError::NotYours { made_for, presented_by })
    }
}

/// A vault belongs to an operator, whose nodes and partners may hold its shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultCertificate {
    /// The vault.
    pub vault: VaultId,
    /// Who vouches for it.
    pub operator: OperatorId,
    /// When it was made.
    pub issued: Wall,
    /// Until when new data is accepted under it.
    pub expires: Wall,
}

impl Statement for VaultCertificate {
    const CONTEXT: &'static str = "strewn vault certificate";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.operator.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.operator)
    }
}

/// What everyone who reads or writes a vault must know of it. The higher version counts; holders
/// keep every version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultDescriptor {
    /// The vault.
    pub vault: VaultId,
    /// Grows with every change.
    pub version: u64,
    /// Who can read it: age recipients, as text.
    pub recipients: Vec<String>,
    /// The vault's dedup secret, as an age file to the recipients.
    pub sealed_secret: Blob,
    /// The policy of new stripes.
    pub policy: Policy,
}

impl Statement for VaultDescriptor {
    const CONTEXT: &'static str = "strewn vault descriptor";
    const LEN_MAX: usize = 64 << 10;
    fn signer(&self) -> PublicKey {
        self.vault.key()
    }
}

/// A device may write to a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCertificate {
    /// The vault.
    pub vault: VaultId,
    /// The device.
    pub device: DeviceId,
    /// When it was made.
    pub issued: Wall,
    /// Until when it counts.
    pub expires: Wall,
}

impl Statement for DeviceCertificate {
    const CONTEXT: &'static str = "strewn device certificate";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.vault.key()
    }
}

/// A device may not write to the vault any more, whatever its certificate says. For ever: it takes another key to let the
/// host in again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRevocation {
    /// The vault.
    pub vault: VaultId,
    /// The device.
    pub device: DeviceId,
    /// When it was made, by its own word. It counts from when it arrives.
    pub issued: Wall,
}

impl Statement for DeviceRevocation {
    const CONTEXT: &'static str = "strewn device revocation";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.vault.key()
    }
}

/// A host that is to become a device of a vault: its key, and to whom the vault's secret is to be sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// The device to be.
    pub device: DeviceId,
    /// An age recipient, made for this alone.
    pub recipient: String,
    /// What its host calls itself.
    pub host: String,
}

impl Statement for DeviceRequest {
    const CONTEXT: &'static str = "strewn device request";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.device.key()
    }
}

/// The nodes that may hold a vault's shards. The higher version counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The vault.
    pub vault: VaultId,
    /// Grows with every change.
    pub version: u64,
    /// The nodes' certificates: a roster introduces holders to each other.
    pub nodes: Vec<Signed<NodeCertificate>>,
}

impl Statement for Roster {
    const CONTEXT: &'static str = "strewn roster";
    const LEN_MAX: usize = 1 << 20;
    fn signer(&self) -> PublicKey {
        self.vault.key()
    }
}

impl Roster {
    /// The sites of the nodes listed whose certificates count at the given time, as whoever holds for this vault of `owner` sees
    /// them. Of nodes that one bearer admitted the first one listed counts.
    #[must_use]
    pub fn sites(&self, now: Wall, owner: OperatorId) -> Vec<Site> {
        let mut bearers = BTreeMap::new();
        let (certificates, believed) = self.read(now, owner);
        let is_first = |certificate: &NodeCertificate| {
            let node = certificate.node;
            certificate.bearer().is_none_or(|b| *bearers.entry(b).or_insert(node) == node)
        };
        let certificates: Vec<NodeCertificate> =
            certificates.into_iter().filter(is_first).collect();
        certificates.iter().map(|certificate| certificate.site().seen_by(&believed, now)).collect()
    }

    /// Whose word about the labels of other operators' nodes counts for this vault of `owner`: those whose nodes it lists, and its own. By the
    /// longest line of keys that the nodes of each show: so all holders end a key that was succeeded alike.
    #[must_use]
    pub fn believed(&self, now: Wall, owner: OperatorId) -> Lines {
        self.read(now, owner).1
    }

    fn read(&self, now: Wall, owner: OperatorId) -> (Vec<NodeCertificate>, Lines) {
        let mut believed = Lines::default();
        let _ = believed.learn(Line::first(owner));
        let mut certificates = Vec::new();
        for signed in &self.nodes {
            if let Ok(certificate) = NodeCertificate::verify(signed, now)
                && let Ok(line) = certificate.line(signed)
            {
                // Of two that part the one listed first counts.
                let _ = believed.learn(line);
                certificates.push(certificate);
            }
        }
        (certificates, believed)
    }
}

/// A node's operator looks at the mesh from the node's host: read only, for a short time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsolePass {
    /// The key that connects.
    pub console: PublicKey,
    /// The node that vouches.
    pub node: NodeId,
    /// When it was made.
    pub issued: Wall,
    /// Until when it counts.
    pub expires: Wall,
}

impl Statement for ConsolePass {
    const CONTEXT: &'static str = "strewn console pass";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.node.key()
    }
}

/// All that a holder must see before it serves a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultPapers {
    /// The operator's word for the vault.
    pub certificate: Signed<VaultCertificate>,
    /// What the vault says of itself.
    pub descriptor: Signed<VaultDescriptor>,
    /// Who may hold its shards.
    pub roster: Signed<Roster>,
}

/// [`VaultPapers`], verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultTerms {
    /// The operator's word for the vault.
    pub certificate: VaultCertificate,
    /// What the vault says of itself.
    pub descriptor: VaultDescriptor,
    /// Who may hold its shards.
    pub roster: Roster,
}

impl VaultPapers {
    /// Verifies the papers, that they are of one vault, and their bounds.
    pub fn verify(&self, now: Wall) -> Result<VaultTerms, CertificateError> {
        let certificate = VaultCertificate::verify(&self.certificate, now)?;
        let descriptor = self.descriptor.verify()?;
        let roster = self.roster.verify()?;
        if descriptor.vault != certificate.vault || roster.vault != certificate.vault {
            return Err(CertificateError::Chain("papers of different vaults"));
        }
        check_count("recipients", descriptor.recipients.len(), RECIPIENTS_MAX)?;
        check_count("nodes of a roster", roster.nodes.len(), ROSTER_MAX)?;
        descriptor
            .policy
            .check()
            .map_err(|_| CertificateError::Chain("a policy that cannot be meant"))?;
        Ok(VaultTerms { certificate, descriptor, roster })
    }
}

impl VaultCertificate {
    /// Verifies the certificate at the given time.
    pub fn verify(signed: &Signed<Self>, now: Wall) -> Result<Self, CertificateError> {
        let certificate = signed.verify()?;
        check_time(certificate.issued, certificate.expires, now)?;
        if certificate.expires > certificate.issued.after(VAULT_VALIDITY_MAX) {
            return Err(CertificateError::Chain("nobody vouches for a vault for 100 years"));
        }
        Ok(certificate)
    }
}

impl DeviceCertificate {
    /// Verifies the certificate at the given time.
    pub fn verify(signed: &Signed<Self>, now: Wall) -> Result<Self, CertificateError> {
        let certificate = signed.verify()?;
        check_time(certificate.issued, certificate.expires, now)?;
        Ok(certificate)
    }
}

impl ConsolePass {
    /// Verifies the pass at the given time, presented by the key that connects.
    pub fn verify(
        signed: &Signed<Self>,
        presented_by: PublicKey,
        now: Wall,
    ) -> Result<Self, CertificateError> {
        let pass = signed.verify()?;
        check_time(pass.issued, pass.expires, now)?;
        check_subject(pass.console, presented_by)?;
        Ok(pass)
    }
}

impl Invitation {
    /// Verifies the invitation at the given time.
    pub fn verify(signed: &Signed<Self>, now: Wall) -> Result<Self, CertificateError> {
        let invitation = signed.verify()?;
        check_time(invitation.issued, invitation.expires, now)?;
        Ok(invitation)
    }

    /// The labels of a node that joins: what the operator fixed, and what the node states of
    /// other levels.
    pub fn labels_for(&self, stated: &Labels) -> Result<Labels, CertificateError> {
        let mut labels: BTreeMap<_, _> = stated.clone().into();
        for (level, name) in self.labels.iter() {
            let stated = labels.insert(level.clone(), name.to_owned());
            if stated.is_some_and(|stated| stated != name) {
                return Err(CertificateError::Chain("a label differs from the invitation"));
            }
        }
        labels.try_into().map_err(|_| CertificateError::Chain("too many labels"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Cloud, Document};
    use crate::sign::SecretKey;

    const NOW: Wall = Wall(1_800_000_000_000);
    const LATER: Wall = Wall(1_900_000_000_000);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn certificate(operator: &SecretKey, node: &SecretKey) -> NodeCertificate {
        NodeCertificate {
            node: node.public().into(),
            operator: operator.public().into(),
            labels: Labels::new(["provider=aws".parse().unwrap()]).unwrap(),
            issued: NOW,
            expires: LATER,
            authority: Authority::Operator,
        }
    }

    fn invited(operator: &SecretKey, admitter: &SecretKey, node: &SecretKey) -> NodeCertificate {
        let invitation = Invitation {
            operator: operator.public().into(),
            admitter: admitter.public().into(),
            bearer: key(77).public(),
            labels: Labels::new(["provider=aws".parse().unwrap()]).unwrap(),
            issued: NOW,
            expires: NOW.after(Period::days(1)),
        };
        let invitation = Signed::sign(&invitation, operator);
        let request = JoinRequest {
            bearer: key(77).public(),
            node: node.public().into(),
            labels: Labels::default(),
        };
        let request = Signed::sign(&request, &key(77));
        let authority = Authority::Bearer { node: admitter.public().into(), invitation, request };
        let expires = NOW.after(Period::days(365));
        NodeCertificate { expires, authority, ..certificate(operator, node) }
    }

    #[test]
    fn an_operator_vouches_for_its_node() {
        let (operator, node) = (key(1), key(2));
        let signed = Signed::sign(&certificate(&operator, &node), &operator);
        let verified = NodeCertificate::verify(&signed, NOW).unwrap();
        let trust = Trust::new([verified.operator]);
        assert_eq!(trust.check(verified.operator), Ok(()));
        let named = Trust::default().and_fingerprints([verified.operator.key().fingerprint()]);
        assert_eq!(named.check(verified.operator), Ok(()));
        for trust in [trust, named] {
            assert!(matches!(trust.check(OperatorId([0; 32])), Err(CertificateError::Foreign(_))));
        }
    }

    #[test]
    fn time_bounds_hold() {
        let (operator, node) = (key(1), key(2));
        let signed = Signed::sign(&certificate(&operator, &node), &operator);
        let expired = NodeCertificate::verify(&signed, LATER);
        assert!(matches!(expired, Err(CertificateError::Expired { .. })));
        let early = NodeCertificate::verify(&signed, Wall(NOW.0 - 2 * CLOCK_SKEW_MAX.0));
        assert!(matches!(early, Err(CertificateError::NotYet { .. })));
    }

    #[test]
    fn an_admitter_vouches_only_as_invited() {
        let (operator, admitter, node) = (key(1), key(2), key(3));
        let good = invited(&operator, &admitter, &node);
        assert!(NodeCertificate::verify(&Signed::sign(&good, &admitter), NOW).is_ok());

        let mut relabelled = good.clone();
        relabelled.labels = Labels::new(["provider=gcp".parse().unwrap()]).unwrap();
        let late = NodeCertificate { issued: NOW.after(Period::days(1)), ..good.clone() };
        let stolen = NodeCertificate { operator: key(9).public().into(), ..good.clone() };
        let made_up = NodeCertificate { node: key(4).public().into(), ..good.clone() };
        let too_long = Period(ADMITTED_VALIDITY_MAX.0 + 1);
        let long = NodeCertificate { expires: NOW.after(too_long), ..good.clone() };
        let mut unasked = good.clone();
        if let Authority::Bearer { node, invitation, .. } = unasked.authority {
            unasked.authority = Authority::Admitter { node, invitation };
        }
        for wrong in [relabelled, late, stolen, made_up, long, unasked] {
            let verified = NodeCertificate::verify(
                &Signed::sign(&wrong, &admitter),
                NOW.after(Period::days(1)),
            );
            assert!(matches!(verified, Err(CertificateError::Chain(_))), "{verified:?}");
        }
        // Another node uses the invitation that is not its own.
        let mut other = good;
        if let Authority::Bearer { node, .. } = &mut other.authority {
            *node = key(8).public().into();
        }
        let verified = NodeCertificate::verify(&Signed::sign(&other, &key(8)), NOW);
        assert!(matches!(verified, Err(CertificateError::Chain(_))));
    }

    #[test]
    fn one_bearer_stands_for_one_node_of_a_roster() {
        let (operator, admitter) = (key(1), key(2));
        let admitted =
            |node: u8| Signed::sign(&invited(&operator, &admitter, &key(node)), &admitter);
        let (vault, version) = (VaultId([5; 32]), 1);
        let nodes = vec![admitted(4), admitted(3), admitted(4)];
        let sites = Roster { vault, version, nodes }.sites(NOW, key(1).public().into());
        assert!(sites.iter().all(|site| site.node == key(4).public().into()), "{sites:?}");
    }

    fn vouch(by: &SecretKey, node: &SecretKey, labels: &str) -> Vouch {
        Vouch {
            by: by.public().into(),
            node: node.public().into(),
            labels: Labels::new([labels.parse().unwrap()]).unwrap(),
            document: None,
            issued: NOW,
            expires: NOW.after(Period::days(30)),
        }
    }

    #[test]
    fn others_vouch_for_labels_as_they_are_and_nobody_for_himself() {
        let [operator, other, stranger, node] = [1, 2, 3, 4].map(key);
        let provider = crate::label::Level::new("provider").unwrap();
        let shown = |vouch: &Vouch, by: &SecretKey, now: Wall| {
            let vouches = vec![Signed::sign(vouch, by)];
            let authority = Authority::Shown { vouches };
            let certificate = NodeCertificate { authority, ..certificate(&operator, &node) };
            let signed = Signed::sign(&certificate, &operator);
            NodeCertificate::verify(&signed, NOW).unwrap();
            let beside = Signed::sign(&self::certificate(&other, &key(5)), &other);
            let (vault, version) = (VaultId([5; 32]), 1);
            let roster = Roster { vault, version, nodes: vec![signed, beside] };
            let owner = operator.public().into();
            assert!(roster.believed(now, owner).get(other.public().into()).is_some());
            roster.sites(now, owner)[0].evidence.of(&provider)
        };
        let good = vouch(&other, &node, "provider=aws");
        assert_eq!(shown(&good, &other, NOW), Evidence::Vouched);
        let document =
            Document { cloud: Cloud::Aws, text: b"{}".to_vec().into(), signature: vec![1].into() };
        let attested = Vouch { document: Some(document), ..good.clone() };
        assert_eq!(shown(&attested, &other, NOW), Evidence::Attested);
        assert_eq!(shown(&good, &other, good.expires), Evidence::Signed);
        let stranger_says = vouch(&stranger, &node, "provider=aws");
        assert_eq!(shown(&stranger_says, &stranger, NOW), Evidence::Signed, "of no node listed");
        let own = vouch(&operator, &node, "provider=aws");
        assert_eq!(shown(&own, &operator, NOW), Evidence::Signed, "of its own node");
        for wrong in [vouch(&other, &node, "provider=gcp"), vouch(&other, &key(9), "provider=aws")]
        {
            assert_eq!(shown(&wrong, &other, NOW), Evidence::Signed);
        }
        let many = vec![Signed::sign(&good, &other); VOUCHES_MAX + 1];
        let authority = Authority::Shown { vouches: many };
        let many = NodeCertificate { authority, ..certificate(&operator, &node) };
        let verified = NodeCertificate::verify(&Signed::sign(&many, &operator), NOW);
        assert!(matches!(verified, Err(CertificateError::TooMany { .. })));
    }

    /// Whose key was succeeded vouches no more: all see it by the roster, on which its nodes show the key that speaks.
    #[test]
    fn a_vouch_by_a_key_that_was_succeeded_is_none() {
        use crate::succession::{Change, Draft, Heirs, Speaker};
        let [operator, other, new, node] = [1, 2, 3, 4].map(key);
        let provider = crate::label::Level::new("provider").unwrap();
        let line = Line::first(other.public().into());
        let change = Change { heirs: Heirs::default(), issued: NOW, grace: Period(0) };
        let mut draft = Draft::new(line, change, &new).unwrap();
        draft.sign(&other).unwrap();
        let speaker = Speaker::new(new, draft.finish().unwrap()).unwrap();
        let first = Speaker::first(other);
        let seen = |vouches: &Speaker, certifies: &Speaker| {
            let vouch = vouch(&key(2), &node, "provider=aws");
            let authority = Authority::Shown { vouches: vec![Signed::speak(&vouch, vouches)] };
            let certificate = NodeCertificate { authority, ..certificate(&operator, &node) };
            let signed = Signed::sign(&certificate, &operator);
            let beside = Signed::speak(&self::certificate(&key(2), &key(5)), certifies);
            let roster =
                Roster { vault: VaultId([5; 32]), version: 1, nodes: vec![signed, beside] };
            roster.sites(NOW, operator.public().into())[0].evidence.of(&provider)
        };
        assert_eq!(seen(&first, &first), Evidence::Vouched);
        assert_eq!(seen(&speaker, &speaker), Evidence::Vouched);
        assert_eq!(seen(&speaker, &first), Evidence::Vouched, "it is further than they know");
        assert_eq!(seen(&first, &speaker), Evidence::Signed);
    }

    #[test]
    fn what_a_bearer_adds_to_its_invitation_is_declared() {
        let (operator, admitter, node) = (key(1), key(2), key(3));
        let site = invited(&operator, &admitter, &node).site();
        let of = |level: &str| site.evidence.of(&crate::label::Level::new(level).unwrap());
        assert_eq!((of("provider"), of("account")), (Evidence::Signed, Evidence::Declared));
    }

    #[test]
    fn a_record_carries_the_certificate_of_its_own_node() {
        let (operator, node) = (key(1), key(2));
        let certificate = Signed::sign(&certificate(&operator, &node), &operator);
        let record = |by: &SecretKey, addresses| NodeRecord {
            node: by.public().into(),
            certificate: certificate.clone(),
            addresses,
            version: 1,
        };
        let good = Signed::sign(&record(&node, vec!["/ip4/127.0.0.1/tcp/1".into()]), &node);
        assert!(NodeRecord::verify(&good, NOW).is_ok());
        let thief = Signed::sign(&record(&key(5), vec![]), &key(5));
        assert!(matches!(NodeRecord::verify(&thief, NOW), Err(CertificateError::NotYours { .. })));
        let many = Signed::sign(&record(&node, vec![String::new(); ADDRESSES_MAX + 1]), &node);
        assert!(matches!(NodeRecord::verify(&many, NOW), Err(CertificateError::TooMany { .. })));
    }
}
