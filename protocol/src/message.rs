//! What is sent: requests, responses and their frames.
//!
//! ```text
//! frame = version(u8 = 1) kind(u8) length(u32 LE) body        kind 1 greeting, 2 request, 3 response
//! ```
//! A lane carries request and response frames strictly in turn. After a `Put` frame follow `len` raw
//! bytes; after a `Bytes` response follow `len` raw bytes. Raw bytes never pass the codec. A
//! greeting is all that is accepted from whoever is not vouched for yet, and it is small.

mod audit;
mod exchange;
mod expiry;
mod leave;
mod partners;
mod repair;
mod scrub;

pub use audit::AuditStatus;
pub use exchange::{Contradiction, Holdings, LogEnd, Promised, VaultDigest};
pub use expiry::{Outcome, RELEASE_PAGE, RELEASES_ASKED_MAX, Released, Running, Standstill, Stops};
pub use leave::{LeaveSigner, LeaveStatus};
pub use partners::{Frozen, HeldFor, PartnerStanding, PartnerStatus, Stated, VaultHeld};
pub use repair::RepairStatus;
pub use scrub::ScrubStatus;

use crate::audit::{AuditAnswer, AuditOpening, AuditQuestion, AuditTurn, Finding, Transcript};
use crate::certificate::{
    ConsolePass, DeviceCertificate, DeviceRevocation, Invitation, JoinRequest, NodeCertificate,
    NodeRecord, VaultCertificate, VaultDescriptor, VaultPapers,
};
use crate::codec::{self, Blob, CodecError};
use crate::discharge::Discharge;
use crate::hold::HoldOrder;
use crate::id::{DeviceId, NodeId, PublicKey, ReleaseId, ShardId, StripeId, VaultId};
use crate::leave::{Page, Word, paper::Part};
use crate::lock_clock::{Standing, TimeStatement};
use crate::log::{Entry, EntryAck};
use crate::notice::Notice;
use crate::partner::PartnerList;
use crate::promise::{PromiseStatement, PromiseWitness};
use crate::record::{Receipt, Record};
use crate::recovery::{RecoveryCard, RecoveryTag};
use crate::release::{Approval, ReleaseRequest, Veto};
use crate::served::ServiceReceipt;
use crate::sign::Signed;
use crate::tally::{Countersigned, Month};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};

/// Frame kind of [`Greeting`].
pub const KIND_GREETING: u8 = 1;
/// Frame kind of [`Request`].
pub const KIND_REQUEST: u8 = 2;
/// Frame kind of [`Response`].
pub const KIND_RESPONSE: u8 = 3;

/// Longest greeting, in bytes: all that a stranger can make us read.
pub const GREETING_LEN_MAX: usize = 64 << 10;
/// Longest request, in bytes: a roster of 1,024 nodes fits.
pub const REQUEST_LEN_MAX: usize = 2 << 20;
/// Longest response, in bytes.
pub const RESPONSE_LEN_MAX: usize = 4 << 20;
/// Bytes after which a page of a listing ends.
pub const PAGE_LEN: usize = 1 << 20;
/// Most ids in one request.
pub const IDS_MAX: usize = 4096;
/// What a node says to the command of one that it does not know: of a stranger, or of a partner that was not added yet.
pub const NOT_KNOWN: &str = "is not a member known here";

/// The longest body of a frame of this kind, or `None` for a kind that does not exist.
#[must_use]
pub fn frame_len_max(kind: u8) -> Option<usize> {
    match kind {
        KIND_GREETING => Some(GREETING_LEN_MAX),
        KIND_REQUEST => Some(REQUEST_LEN_MAX),
        KIND_RESPONSE => Some(RESPONSE_LEN_MAX),
        _ => None,
    }
}

/// The first thing that is said on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Greeting {
    /// A node.
    Node(Signed<NodeRecord>),
    /// A backup host.
    Device {
        /// The operator's word for the vault.
        vault: Signed<VaultCertificate>,
        /// The vault's word for the device.
        device: Signed<DeviceCertificate>,
    },
    /// A node's operator, looking.
    Console(Signed<ConsolePass>),
    /// A node to be.
    Join {
        /// The operator's permission.
        invitation: Signed<Invitation>,
        /// The bearer's word for the node.
        request: Signed<JoinRequest>,
    },
    /// Somebody who has nothing but a recovery identity. The answer ends the connection.
    Recover {
        /// Of the identity's recipient.
        tag: RecoveryTag,
    },
}

/// What a vouched-for peer asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Here is whom I know; whom do you know?
    Members(Vec<Signed<NodeRecord>>),
    /// How are you?
    Status,
    /// The papers of the vault that the asking device writes to.
    Introduce(VaultPapers),
    /// What is known of a vault.
    Vault(VaultId),
    /// Append to a device's log.
    Append(Signed<Entry>),
    /// Entries of a vault's logs, by device and number.
    Log {
        /// The vault.
        vault: VaultId,
        /// Behind this entry.
        after: Option<(DeviceId, u64)>,
    },
    /// Keep this shard; its bytes follow.
    Put {
        /// The record that says so.
        record: Signed<Record>,
        /// Which shard.
        index: u16,
        /// Bytes that follow.
        len: u32,
    },
    /// The shards of this stripe lie elsewhere now.
    Replace(Signed<Record>),
    /// Send bytes of a shard.
    Get {
        /// The shard.
        shard: ShardId,
        /// From this byte on.
        offset: u32,
        /// So many.
        len: u32,
    },
    /// The records of these stripes.
    Records {
        /// The vault.
        vault: VaultId,
        /// The stripes.
        stripes: Vec<StripeId>,
    },
    /// All records of a vault, by stripe, and what is held of each.
    Inventory {
        /// The vault.
        vault: VaultId,
        /// Behind this stripe.
        after: Option<StripeId>,
    },
    /// What time is it?
    Time {
        /// Random, so that an old answer is none.
        nonce: [u8; 16],
    },
    /// Extend the locks of these stripes, each by the lock of its record.
    Extend {
        /// The vault.
        vault: VaultId,
        /// The stripes, [`IDS_MAX`] at most.
        stripes: Vec<StripeId>,
    },
    /// Give up these stripes.
    Release {
        /// By whose word.
        request: Signed<ReleaseRequest>,
        /// Who agrees.
        approvals: Vec<Signed<Approval>>,
        /// From this stripe of the request on, by its place there.
        from: u32,
    },
    /// A guardian stops a release.
    Veto {
        /// Whose release.
        vault: VaultId,
        /// By whose word.
        veto: Signed<Veto>,
    },
    /// A guardian freezes all expiry of a vault, or ends that.
    Hold(Signed<HoldOrder>),
    /// Which releases are running, and which holds?
    Releases(VaultId),
    /// What stops these releases, as far as you know?
    Stops {
        /// Whose.
        vault: VaultId,
        /// Which, [`RELEASES_ASKED_MAX`] at most.
        releases: Vec<ReleaseId>,
    },
    /// Keep this card of the vault that the asking device writes to.
    Card(Signed<RecoveryCard>),
    /// A device may not write any more.
    Revoke(Signed<DeviceRevocation>),
    /// A node: what do you have of the vaults whose rosters list me?
    Vaults,
    /// A node: all that you have of this vault but for its logs.
    Holdings(VaultId),
    /// A node: where do this vault's logs end?
    Logs(VaultId),
    /// A node: entries of a device's log.
    Entries {
        /// The vault.
        vault: VaultId,
        /// The device.
        device: DeviceId,
        /// From this number on.
        from: u64,
    },
    /// A node: the forks of a device's log.
    Forks {
        /// The vault.
        vault: VaultId,
        /// The device.
        device: DeviceId,
    },
    /// A node: where does your chain of promises end?
    PromiseHead {
        /// Random, so that an old answer is none.
        nonce: [u8; 16],
        /// What you told me last.
        known: Option<Signed<PromiseStatement>>,
        /// My countersignature of it.
        witness: Option<Signed<PromiseWitness>>,
    },
    /// How is your chain of promises, and what have you seen of others'?
    Promised,
    /// Do you have these shards? The auditor has settled on its nonce.
    AuditOpen(AuditOpening),
    /// Then prove it.
    Audit(Box<AuditQuestion>),
    /// A node: what did you find, auditing the holders of what I may read?
    Findings {
        /// Behind this number.
        after: u64,
    },
    /// What do you have in writing against holders of this vault?
    Evidence {
        /// The vault.
        vault: VaultId,
        /// Behind this one.
        after: Option<(StripeId, NodeId)>,
    },
    /// A node that leaves: of which of these stripes, which I hold as well, did you find that they do not miss me?
    MayLeave(Page),
    /// The paper by which you may leave.
    LeavePaper {
        /// Which part of it.
        part: u32,
    },
    /// Who are your partners, and what do you hold for them?
    Partners {
        /// The list is not sent again that has this version.
        known: u64,
    },
    /// A node: these are our operator's partners.
    TakePartners(Box<Signed<PartnerList>>),
    /// A node: which records of nodes do you know that I do not?
    Lacking {
        /// The names of those that I know, [`RECORD_NAME_LEN`] bytes each, in any order.
        known: Blob,
    },
    /// An operator: what did you hold and do in this month for my vaults, or, of my own node, for others'?
    Statements {
        /// Which month.
        month: Month,
    },
    /// I agree with what you said of a month.
    Countersign(Box<Signed<Countersigned>>),
    /// One side of an agreement ends it.
    GiveNotice(Box<Signed<Notice>>),
    /// An operator: how do your partners stand, or, of another's node, how do I?
    Standings,
    /// A node: when did you hear these, and what may I put at you?
    Hearsay {
        /// Nodes that I have not heard for a while, [`IDS_MAX`] at most.
        of: Vec<NodeId>,
    },
    /// Give up your shards of these stripes, which others have as well.
    Discharge {
        /// By whose word.
        discharge: Signed<Discharge>,
        /// Who agrees.
        approvals: Vec<Signed<Approval>>,
        /// From this stripe of the discharge on, by its place there.
        from: u32,
    },
    /// A node: the descriptors by which this vault named its guardians.
    Namings(VaultId),
    /// This is what you did for me.
    Served(Box<Signed<ServiceReceipt>>),
    /// What did others sign that you did for a vault in a month, and what did you sign of others?
    Services {
        /// Whose shards.
        vault: VaultId,
        /// Which month.
        month: Month,
        /// Behind the receipt about this holder by that giver.
        after: Option<(NodeId, PublicKey)>,
    },
}

/// What a node's record is called by who asks for others: the first bytes of [`Signed::digest`]. Whoever makes two records of one name keeps
/// some from hearing of one of them, which it could as well not have made.
pub const RECORD_NAME_LEN: usize = 8;

/// An entry as a holder keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEntry {
    /// The entry.
    pub entry: Signed<Entry>,
    /// The holder's countersignature.
    pub ack: Signed<EntryAck>,
}

/// A record as a holder keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRecord {
    /// The record.
    pub record: Signed<Record>,
    /// The holder's receipt for its shard; `None` when it has only the record.
    pub receipt: Option<Signed<Receipt>>,
}

/// What is known of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultState {
    /// Its papers.
    pub papers: VaultPapers,
    /// Its devices.
    pub devices: Vec<Signed<DeviceCertificate>>,
    /// Those that may not write any more.
    pub revoked: Vec<Signed<DeviceRevocation>>,
}

/// A member as another sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The node.
    pub node: NodeId,
    /// How long ago it was last heard, by the answering node's monotonic clock; `None` never
    /// since its start.
    pub heard: Option<Period>,
}

/// What a node tells others of itself and of those that are silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hearsay {
    /// How long ago it heard each node asked about, in that order; `None` when it did not, since its start.
    pub ages: Vec<Option<Period>>,
    /// Bytes it may still take.
    pub room: u64,
    /// Whether it leaves.
    pub leaves: bool,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its certificate and addresses.
    pub record: Signed<NodeRecord>,
    /// Its software's version.
    pub version: String,
    /// Bytes of shards held.
    pub used: u64,
    /// Shards held.
    pub shards: u64,
    /// Bytes it may still take.
    pub room: u64,
    /// Its quota in bytes.
    pub quota: u64,
    /// Why nothing is dropped at the moment, if something is in doubt.
    pub doubt: Option<String>,
    /// How its lock clock is.
    pub lock_clock: Standing,
    /// Whom it knows.
    pub members: Vec<MemberStatus>,
    /// What it refused since its start, by reason.
    pub refused: Vec<(String, u64)>,
    /// How far it is with repairing what was lost elsewhere.
    pub repair: RepairStatus,
    /// What reading its shards has shown.
    pub scrub: ScrubStatus,
    /// What asking other holders has shown.
    pub audit: AuditStatus,
    /// How far it is with leaving; `None` when it stays.
    pub leaving: Option<LeaveStatus>,
}

/// Why a request is refused. People read the text; programs read the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RefusalCode {
    /// Nobody vouches for you, or not for this.
    NotVouched,
    /// Not a message.
    Malformed,
    /// The ticket was used, or has expired.
    Ticket,
    /// The vault is not known here.
    UnknownVault,
    /// Not held here.
    NotHeld,
    /// Record or roster do not allow it.
    NotAllowed,
    /// The bytes are not what the record names.
    WrongShard,
    /// The quota is used up.
    Quota,
    /// No space.
    Full,
    /// The entry is the other side of a fork.
    Fork,
    /// The shard on this disk is damaged.
    Damaged,
    /// Something here does not work.
    Internal,
}

impl RefusalCode {
    /// The name under which refusals are counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotVouched => "not_vouched",
            Self::Malformed => "malformed",
            Self::Ticket => "ticket",
            Self::UnknownVault => "unknown_vault",
            Self::NotHeld => "not_held",
            Self::NotAllowed => "not_allowed",
            Self::WrongShard => "wrong_shard",
            Self::Quota => "quota",
            Self::Full => "full",
            Self::Fork => "fork",
            Self::Damaged => "damaged",
            Self::Internal => "internal",
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// Why, for people.
    pub text: String,
}

impl Refusal {
    /// Whether who refuses knows nothing of what it was asked about, or is not to tell: asking again changes nothing.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        matches!(self.code, RefusalCode::UnknownVault | RefusalCode::NotAllowed)
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// You are vouched for; this is me.
    Welcome {
        /// The answering node.
        record: Signed<NodeRecord>,
        /// Its wall clock.
        wall: Wall,
    },
    /// You are certified now.
    Admitted {
        /// The certificate.
        certificate: Signed<NodeCertificate>,
        /// Whom to ask next.
        members: Vec<Signed<NodeRecord>>,
    },
    /// Whom I know.
    Members(Vec<Signed<NodeRecord>>),
    /// How I am.
    Status(Box<NodeStatus>),
    /// Done, and durable.
    Done,
    /// What is known of the vault.
    Vault(Option<Box<VaultState>>),
    /// The entry is durable.
    Appended(Signed<EntryAck>),
    /// Send the entries from this number on first.
    Behind {
        /// The next expected.
        next: u64,
    },
    /// A page of entries.
    Log {
        /// The entries.
        entries: Vec<LoggedEntry>,
        /// Whether there are more.
        more: bool,
    },
    /// The shard is durable.
    Receipt(Signed<Receipt>),
    /// So many raw bytes follow.
    Bytes {
        /// How many.
        len: u32,
    },
    /// The records known, in the order asked.
    Records(Vec<Option<HeldRecord>>),
    /// A page of records.
    Inventory {
        /// The records.
        records: Vec<HeldRecord>,
        /// Whether there are more.
        more: bool,
    },
    /// No.
    Refused(Refusal),
    /// Not now; ask again later.
    Busy {
        /// How much later.
        retry_after: Period,
    },
    /// What my clock shows.
    Time(Signed<TimeStatement>),
    /// For how long the first of the stripes asked for are still locked, in the order asked; `None` for those of which no
    /// shard is held here. A page ends early: whoever asks does so again for the rest.
    Extended(Vec<Option<Period>>),
    /// What became of a page of the stripes of a release.
    Released(Released),
    /// What is running.
    Releases(Box<Standstill>),
    /// What stops releases.
    Stops(Stops),
    /// What was sealed to the recipient with the tag shown, the first cards before later ones.
    Recovery {
        /// Age files.
        sealed: Vec<Blob>,
    },
    /// What I have of the vaults whose rosters list you.
    Vaults(Vec<VaultDigest>),
    /// All that I have of a vault but for its logs; `None` when I do not know it.
    Holdings(Option<Box<Holdings>>),
    /// Where a vault's logs end.
    Logs(Vec<LogEnd>),
    /// Entries, as they follow each other, or forks. A page ends early: whoever asks does so again for the rest.
    Entries(Vec<Signed<Entry>>),
    /// Where my chain of promises ends.
    PromiseHead(Signed<PromiseStatement>),
    /// How my chain of promises is, and what I have seen of others'.
    Promised(Box<Promised>),
    /// The holder has settled on its nonce, too.
    AuditTurn(Signed<AuditTurn>),
    /// What it can prove.
    Audited {
        /// Its word.
        answer: Signed<AuditAnswer>,
        /// The proofs of which it speaks.
        proofs: Vec<Blob>,
    },
    /// What I found, auditing.
    Findings {
        /// That is all up to this number.
        until: u64,
        /// It.
        found: Vec<Signed<Finding>>,
    },
    /// The next audit that a holder failed, and what it is about; `None` when there are no more.
    Evidence(Option<(StripeId, NodeId, Box<Transcript>)>),
    /// My word on the stripes that I found well without you; `None` when I found none, or did not look yet.
    MayLeave(Option<Signed<Word>>),
    /// That part of it; `None` behind the last.
    LeavePaper(Option<Box<Part>>),
    /// Who my partners are.
    Partners(Box<PartnerStatus>),
    /// What I held and did in a month, of each vault.
    Statements(Vec<Stated>),
    /// How partners stand.
    Standings(Vec<PartnerStanding>),
    /// When I heard those that you ask about.
    Hearsay(Hearsay),
    /// For each choice of guardians the first descriptor that I have of it, [`PAGE_LEN`] bytes at most.
    Namings(Vec<Signed<VaultDescriptor>>),
    /// A receipt for service does not follow the last one that I have, which is this.
    Served(Box<Signed<ServiceReceipt>>),
    /// A page of receipts for service.
    Services {
        /// They.
        receipts: Vec<Signed<ServiceReceipt>>,
        /// Whether there are more.
        more: bool,
    },
}

macro_rules! framed {
    ($name:ident, $kind:expr, $max:expr) => {
        impl $name {
            /// The body of its frame, and the frame's kind.
            #[must_use]
            pub fn encode(&self) -> (u8, Vec<u8>) {
                ($kind, codec::encode(self))
            }

            /// The inverse of `encode`, for a body whose frame had the right kind.
            pub fn decode(body: &[u8]) -> Result<Self, CodecError> {
                codec::decode(body, $max)
            }
        }
    };
}
framed!(Greeting, KIND_GREETING, GREETING_LEN_MAX);
framed!(Request, KIND_REQUEST, REQUEST_LEN_MAX);
framed!(Response, KIND_RESPONSE, RESPONSE_LEN_MAX);

impl Response {
    /// A refusal.
    #[must_use]
    pub fn refused(code: RefusalCode, text: impl Into<String>) -> Self {
        Self::Refused(Refusal { code, text: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_round_trip() {
        let request = Request::Get { shard: ShardId([5; 32]), offset: 64, len: 4096 };
        let (kind, body) = request.encode();
        assert_eq!(kind, KIND_REQUEST);
        assert_eq!(Request::decode(&body).unwrap(), request);
        let response = Response::refused(RefusalCode::Quota, "no room");
        assert_eq!(Response::decode(&response.encode().1).unwrap(), response);
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_or_decoded_and_never_panic(bytes: Vec<u8>, first in 0u8..16) {
            let mut body = vec![first];
            body.extend(bytes);
            let _ = Greeting::decode(&body);
            let _ = Request::decode(&body);
            let _ = Response::decode(&body);
        }
    }
}
