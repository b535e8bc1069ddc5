//! Placement proofs: where a snapshot lies and for how long it is promised, checked offline by anybody.
//!
//! ```text
//! proof = "strewn proof\n" version(u8 = 1) frame*        frame = length(u32 LE) body
//! body  = Part by the codec: 0 opening, entries as 1, stripes in increasing order as 2, 3 end
//! ```
//! A proof is as long as the snapshot is large, so neither who makes nor who checks it has it in memory. Whoever made it
//! is not believed: vault, devices, operators and holders signed every statement in it.
//!
//! What it shows: by the word of the holders, countersigned by nobody but themselves, that each stripe listed lies as the
//! vault's policy asks (the one predicate), and that the snapshot's entry and keys do. A receipt states for how long a shard is kept;
//! cooldown and guardians stand in the record alone. What a proof cannot show: that labels are true (its
//! operators vouch for them), that a holder keeps its word (an audit does that), and that all stripes of the snapshot are listed
//! (the recovery identity alone knows which those are).

use crate::certificate::{CLOCK_SKEW_MAX, CertificateError, DeviceCertificate, Trust, VaultPapers};
use crate::codec::{self, CodecError};
use crate::id::{DeviceId, EntryId, NodeId, OperatorId, SessionId, StripeId, VaultId};
use crate::label::{Level, Site};
use crate::log::{Body, Entry, EntryAck, check_held, entry_id};
use crate::placement::{Exposure, check_placement, conceal_margin};
use crate::policy::Policy;
use crate::record::{Receipt, Record, RecordError};
use crate::sign::{SignatureError, Signed};
use crate::time::{Period, Wall};
use crate::told::counted_best;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How a proof begins: a name and the version.
pub const MAGIC: &[u8; 14] = b"strewn proof\n\x01";
/// Longest part, in bytes: a roster of 1,024 nodes fits.
pub const PART_LEN_MAX: usize = 2 << 20;
/// Most devices that one proof lists.
pub const DEVICES_MAX: usize = 4096;
/// Shortfalls that are kept; beyond it they are counted.
pub const SHORTFALLS_MAX: usize = 100;

/// Of which snapshot, and by whose word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The snapshot.
    pub snapshot: EntryId,
    /// When the proof was made: certificates must count at that time.
    pub made: Wall,
    /// The vault, its policy and its roster.
    pub papers: VaultPapers,
    /// Its devices.
    pub devices: Vec<Signed<DeviceCertificate>>,
}

/// A log entry, and who countersigned it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryProof {
    /// The entry.
    pub entry: Signed<Entry>,
    /// The countersignatures.
    pub acks: Vec<Signed<EntryAck>>,
}

/// A stripe, and who promised to keep its shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StripeProof {
    /// Its record.
    pub record: Signed<Record>,
    /// The promises.
    pub receipts: Vec<Signed<Receipt>>,
}

/// A part of a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The first.
    Opening(Box<Opening>),
    /// An entry that the snapshot needs: its own, its session's, and those that name the index.
    Entry(EntryProof),
    /// A stripe.
    Stripe(StripeProof),
    /// The last: how many there were of the others, so that a proof that was cut off is none.
    End {
        /// Entries.
        entries: u64,
        /// Stripes.
        stripes: u64,
    },
}

impl Part {
    /// Its frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = codec::encode(self);
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        [&len.to_le_bytes()[..], &body].concat()
    }

    /// From the body of a frame.
    pub fn decode(body: &[u8]) -> Result<Self, CodecError> {
        codec::decode(body, PART_LEN_MAX)
    }
}

/// Why something is no proof at all: a statement in it is false, or it is not whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// A part is not one.
    #[error("a part of it cannot be read: {0}")]
    Codec(#[from] CodecError),
    /// A signature is wrong.
    #[error("{what}: {source}")]
    Signature {
        /// Of what.
        what: &'static str,
        /// What is wrong.
        source: SignatureError,
    },
    /// The vault's papers do not count.
    #[error("the vault's papers: {0}")]
    Papers(CertificateError),
    /// A node's certificate does not count.
    #[error("a node's certificate: {0}")]
    Node(CertificateError),
    /// A record makes no sense.
    #[error("a record: {0}")]
    Record(#[from] RecordError),
    /// The parts are not in order.
    #[error("{0}")]
    Order(&'static str),
    /// It claims to be from the future.
    #[error("it was made at {made}, which is after {now}: is the clock right?")]
    NotYet {
        /// When it was made, by its own word.
        made: Wall,
        /// The time it was looked at.
        now: Wall,
    },
    /// It ends before its end.
    #[error("it is cut off: have it made or sent again")]
    CutOff,
    /// A statement is about something else.
    #[error("{0} is about something else")]
    Other(&'static str),
    /// The snapshot's own entry is not there.
    #[error("it has no entry of snapshot {0}")]
    NoSnapshot(EntryId),
}

pub(crate) fn verify<T: crate::sign::Statement>(
    what: &'static str,
    signed: &Signed<T>,
) -> Result<T, ProofError> {
    signed.verify().map_err(|source| ProofError::Signature { what, source })
}

/// What does not lie as the policy asks, with the counterexample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shortfall {
    /// The stripe or entry.
    pub what: String,
    /// Why: the clause, and the domains that show it.
    pub why: String,
}

/// What a proof shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Of which vault.
    pub vault: VaultId,
    /// Of which snapshot.
    pub snapshot: EntryId,
    /// When the proof was made, by its own word.
    pub made: Wall,
    /// The vault's policy.
    pub policy: Policy,
    /// Who vouches for the vault.
    pub operator: OperatorId,
    /// Nodes that promise something, by the operators that vouch for them.
    pub operators: BTreeMap<OperatorId, u64>,
    /// Entries shown.
    pub entries: u64,
    /// Stripes shown.
    pub stripes: u64,
    /// When the first of the promises ends that count, by the holders' clocks; `None` without any.
    pub kept_until: Option<Wall>,
    /// What would have to fall.
    pub exposure: Exposure,
    /// What does not lie as the policy asks: the first of them.
    pub shortfalls: Vec<Shortfall>,
    /// How many there are.
    pub short: u64,
}

/// What the opening says, verified.
#[derive(Debug)]
struct Premises {
    snapshot: EntryId,
    made: Wall,
    vault: VaultId,
    operator: OperatorId,
    policy: Policy,
    sites: BTreeMap<NodeId, Site>,
    levels: Vec<Level>,
    devices: BTreeSet<DeviceId>,
}

/// Checks a proof, part by part.
#[derive(Debug)]
pub struct Verifier {
    now: Wall,
    trust: Option<Trust>,
    premises: Option<Premises>,
    /// The snapshot's session, once its entry was seen; and the sessions whose entries were.
    session: Option<(DeviceId, SessionId)>,
    sessions: BTreeSet<(DeviceId, SessionId)>,
    entries: u64,
    last: Option<StripeId>,
    stripes: u64,
    has_ended: bool,
    holders: BTreeSet<NodeId>,
    kept_until: Option<Wall>,
    exposure: Option<Exposure>,
    shortfalls: Vec<Shortfall>,
    short: u64,
}

impl Verifier {
    /// With `trust` only nodes count for which one of these operators vouches.
    #[must_use]
    pub fn new(now: Wall, trust: Option<Trust>) -> Self {
        Self {
            now,
            trust,
            premises: None,
            session: None,
            sessions: BTreeSet::new(),
            entries: 0,
            last: None,
            stripes: 0,
            has_ended: false,
            holders: BTreeSet::new(),
            kept_until: None,
            exposure: None,
            shortfalls: Vec::new(),
            short: 0,
        }
    }

    /// Takes in the body of the next frame.
    ///
    /// # Errors
    /// When a statement is false or out of place. What falls short of the policy is no error: [`Shown`] has it.
    pub fn handle_part(&mut self, body: &[u8]) -> Result<(), ProofError> {
        let part = Part::decode(body)?;
        if self.has_ended {
            return Err(ProofError::Order("something follows its end"));
        }
        let Some(premises) = self.premises.take() else {
            let Part::Opening(opening) = part else {
                return Err(ProofError::Order("it does not begin with the vault's papers"));
            };
            self.premises = Some(self.check_opening(&opening)?);
            return Ok(());
        };
        let checked = match &part {
            Part::Opening(_) => Err(ProofError::Order("it begins twice")),
            Part::Entry(entry) => self.check_entry(&premises, entry),
            Part::Stripe(stripe) => self.check_stripe(&premises, stripe),
            Part::End { entries, stripes } => self.check_end(*entries, *stripes),
        };
        self.premises = Some(premises);
        checked
    }

    /// What the whole proof shows.
    pub fn finish(mut self) -> Result<Shown, ProofError> {
        let premises = self.premises.take().ok_or(ProofError::CutOff)?;
        if !self.has_ended {
            return Err(ProofError::CutOff);
        }
        let session = self.session.ok_or(ProofError::NoSnapshot(premises.snapshot))?;
        if !self.sessions.contains(&session) {
            self.fall_short(
                format!("session {}", session.1),
                "the entry with its key is not shown",
            );
        }
        if self.stripes == 0 {
            let what = format!("snapshot {}", premises.snapshot);
            self.fall_short(what, "no stripe is shown");
        }
        let mut operators: BTreeMap<OperatorId, u64> = BTreeMap::new();
        for site in self.holders.iter().filter_map(|node| premises.sites.get(node)) {
            *operators.entry(site.operator).or_default() += 1;
        }
        Ok(Shown {
            vault: premises.vault,
            snapshot: premises.snapshot,
            made: premises.made,
            policy: premises.policy,
            operator: premises.operator,
            operators,
            entries: self.entries,
            stripes: self.stripes,
            kept_until: self.kept_until,
            exposure: self.exposure.unwrap_or_default(),
            shortfalls: self.shortfalls,
            short: self.short,
        })
    }

    fn check_opening(&self, opening: &Opening) -> Result<Premises, ProofError> {
        let (made, now) = (opening.made, self.now);
        if made > now.after(CLOCK_SKEW_MAX) {
            return Err(ProofError::NotYet { made, now });
        }
        let terms = opening.papers.verify(made).map_err(ProofError::Papers)?;
        let vault = terms.certificate.vault;
        let operator = terms.certificate.operator;
        if let Some(trust) = &self.trust {
            trust.check(operator).map_err(ProofError::Papers)?;
        }
        if opening.devices.len() > DEVICES_MAX {
            return Err(ProofError::Order("it lists too many devices"));
        }
        let mut devices = BTreeSet::new();
        for signed in &opening.devices {
            // What a device wrote counts also when its certificate has expired since.
            let certificate = verify("a device's certificate", signed)?;
            if certificate.vault != vault {
                return Err(ProofError::Other("a device's certificate"));
            }
            devices.insert(certificate.device);
        }
        let counts = |site: &Site| {
            self.trust.as_ref().is_none_or(|trust| trust.check(site.operator).is_ok())
        };
        let listed = terms.roster.sites(made, operator).into_iter().filter(counts);
        let sites: BTreeMap<NodeId, Site> = listed.map(|site| (site.node, site)).collect();
        let stated =
            sites.values().flat_map(|site| site.labels.iter().map(|(level, _)| level.clone()));
        let mut levels: BTreeSet<Level> = stated.collect();
        levels.extend([Level::operator(), Level::node()]);
        levels.extend(terms.descriptor.policy.evidence_levels());
        Ok(Premises {
            snapshot: opening.snapshot,
            made,
            vault,
            operator,
            policy: terms.descriptor.policy,
            sites,
            levels: levels.into_iter().collect(),
            devices,
        })
    }

    fn check_entry(&mut self, premises: &Premises, proof: &EntryProof) -> Result<(), ProofError> {
        if self.last.is_some() {
            return Err(ProofError::Order("an entry follows a stripe"));
        }
        let entry = verify("a log entry", &proof.entry)?;
        if entry.vault != premises.vault || !premises.devices.contains(&entry.device) {
            return Err(ProofError::Other("a log entry"));
        }
        let id = entry_id(&proof.entry);
        let mut holders = BTreeMap::new();
        for signed in &proof.acks {
            let ack = verify("a countersignature", signed)?;
            if ack.entry != id || ack.vault != premises.vault {
                return Err(ProofError::Other("a countersignature"));
            }
            holders.extend(premises.sites.get(&ack.holder).map(|site| (ack.holder, site)));
        }
        match &entry.body {
            Body::Session { session, .. } => {
                self.sessions.insert((entry.device, *session));
            }
            Body::Snapshot { session, .. } if id == premises.snapshot => {
                self.session = Some((entry.device, *session));
            }
            _ => {}
        }
        self.entries += 1;
        self.holders.extend(holders.keys());
        let sites: Vec<&Site> = holders.into_values().collect();
        if let Err(violation) = check_held(&premises.policy, &sites) {
            self.fall_short(format!("log entry {id}"), violation);
        }
        Ok(())
    }

    fn check_stripe(&mut self, premises: &Premises, proof: &StripeProof) -> Result<(), ProofError> {
        let record = verify("a record", &proof.record)?;
        record.check()?;
        let id = record.stripe.id();
        if record.stripe.vault != premises.vault || !premises.devices.contains(&record.device) {
            return Err(ProofError::Other("a record"));
        }
        if self.last.is_some_and(|last| id <= last) {
            return Err(ProofError::Order("its stripes are not in order"));
        }
        self.last = Some(id);
        self.stripes += 1;
        let mut promised = BTreeMap::new();
        for signed in &proof.receipts {
            let receipt = verify("a receipt", signed)?;
            if receipt.check_kept(&record, receipt.index).is_err() {
                return Err(ProofError::Other("a receipt"));
            }
            if !premises.sites.contains_key(&receipt.holder) {
                continue;
            }
            // A holder keeps one shard of a stripe.
            let other = promised.insert(receipt.holder, receipt.index);
            if other.is_some_and(|other| other != receipt.index) {
                return Err(ProofError::Other("a receipt"));
            }
            let until = receipt.received.after(receipt.keep);
            self.kept_until = Some(self.kept_until.map_or(until, |known| known.min(until)));
        }
        self.holders.extend(promised.keys());
        // Two copies of a shard survive no more than one, and betray more.
        let site = |node: NodeId| premises.sites.get(&node);
        let counted = counted_best(&record, &promised, site);
        let counted: Vec<NodeId> = counted.into_iter().flatten().collect();
        let sites: Vec<&Site> = counted.iter().map(|node| &premises.sites[node]).collect();
        let all: Vec<&Site> = promised.keys().map(|node| &premises.sites[node]).collect();
        let k = usize::from(record.stripe.k);
        if let Err(violation) = check_placement(&premises.policy, k, &sites) {
            self.fall_short(format!("stripe {id}"), violation);
        } else if conceal_margin(&premises.policy, k, &all) < 0 {
            let what = "copies of its shards let domains assemble it that may not";
            self.fall_short(format!("stripe {id}"), what);
        } else if !record.policy.lock.covers(&premises.policy.lock) {
            self.fall_short(
                format!("stripe {id}"),
                "it is kept under a weaker lock than the policy's",
            );
        }
        let exposure = Exposure::of(k, &sites, &premises.levels);
        self.exposure = Some(match self.exposure.take() {
            Some(all) => all.worst(exposure),
            None => exposure,
        });
        Ok(())
    }

    fn check_end(&mut self, entries: u64, stripes: u64) -> Result<(), ProofError> {
        if (entries, stripes) != (self.entries, self.stripes) {
            return Err(ProofError::Order("it has more or fewer parts than its end says"));
        }
        self.has_ended = true;
        Ok(())
    }

    fn fall_short(&mut self, what: String, why: impl ToString) {
        self.short += 1;
        if self.shortfalls.len() < SHORTFALLS_MAX {
            self.shortfalls.push(Shortfall { what, why: why.to_string() });
        }
    }
}

impl Shown {
    /// Whether all of it lies as the policy asks.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.short == 0
    }

    /// For how long from `now` on the first promise counts; `None` when it has ended or there is none.
    #[must_use]
    pub fn kept_for(&self, now: Wall) -> Option<Period> {
        let left = self.kept_until?.0.checked_sub(now.0)?;
        (left > 0).then_some(Period(left))
    }
}

#[cfg(test)]
mod tests;
