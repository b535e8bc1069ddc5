//! What goes into a peer and what comes out: [`Input`], [`Output`], and [`Note`] for the log. The contract they
//! follow is the one of [`super`]; nothing here decides.

use crate::audit::Outcome;
use crate::certificate::NodeCertificate;
use crate::id::{DeviceId, NodeId, OperatorId, PublicKey, ReleaseId, ShardId, StripeId, VaultId};
use crate::label::Site;
use crate::life::DropDecision;
use crate::message::{Greeting, Refusal, Request, Response};
use crate::notice::Cause;
use crate::partner::PartnerList;
use crate::peer::facts::{Usage, Write};
use crate::record::{Receipt, Record};
use crate::sign::Signed;
use crate::time::Period;

/// A connection, named by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A stream on which requests arrive, named by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u64);

/// A request that this peer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A repair that this peer ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Where a shard of a stripe is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its place in the stripe.
    pub index: u16,
    /// Who has it.
    pub node: NodeId,
    /// The connection to that node; `None` for the one that is held here.
    pub link: Option<LinkId>,
}

/// Where a shard of a stripe is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its place in the stripe.
    pub index: u16,
    /// Who is to take it.
    pub node: NodeId,
    /// The connection to that node.
    pub link: LinkId,
}

/// What came of [`Output::Rebuild`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The promises of those who took a shard.
    pub receipts: Vec<Signed<Receipt>>,
    /// Sources that served other bytes than the record names, or said that they do not have them.
    pub faulty: Vec<NodeId>,
    /// Targets that did not take their shard.
    pub refused: Vec<NodeId>,
    /// Bytes that were moved.
    pub moved: u64,
    /// How many of them each source sent.
    pub read: Vec<(NodeId, u64)>,
    /// Of [`Output::Mend`]: where the bytes are, in temporary storage.
    pub mended: Option<LaneId>,
    /// Why nothing was rebuilt, if so.
    pub failed: Option<String>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A connection is up; the other side has this key.
    Connected {
        /// The connection.
        link: LinkId,
        /// The other side.
        key: PublicKey,
        /// Whether this side dialed.
        outbound: bool,
    },
    /// A connection is gone.
    Disconnected(LinkId),
    /// [`Output::Dial`] led to nothing.
    DialFailed(NodeId),
    /// A greeting arrived.
    Greeting {
        /// On this connection.
        link: LinkId,
        /// On this stream.
        lane: LaneId,
        /// It.
        greeting: Box<Greeting>,
    },
    /// A request arrived.
    Request {
        /// On this connection.
        link: LinkId,
        /// On this stream.
        lane: LaneId,
        /// It.
        request: Box<Request>,
    },
    /// Something arrived that is no message. The driver closes the connection.
    Malformed {
        /// On this connection.
        link: LinkId,
        /// What is wrong with it.
        reason: String,
    },
    /// What [`Output::Look`] found.
    Looked {
        /// On this stream.
        lane: LaneId,
        /// Whether the shard's file is there, with its header and its length as they should be.
        whole: bool,
    },
    /// The raw bytes asked for by [`Output::Receive`] are in temporary storage.
    Received {
        /// On this stream.
        lane: LaneId,
        /// The hash of what came.
        shard: ShardId,
    },
    /// They are not, and will not be: there was no space, or the stream ended, whatever it was waiting for.
    ReceiveFailed {
        /// On this stream.
        lane: LaneId,
        /// What to tell the other side, if it can still hear.
        refusal: Refusal,
    },
    /// An [`Output::Persist`] is durable.
    Persisted(u64),
    /// It is not, and will not be.
    PersistFailed {
        /// Which.
        token: u64,
        /// Why.
        refusal: Refusal,
    },
    /// What [`Output::Prove`] came to.
    Proved {
        /// On this stream.
        lane: LaneId,
        /// Of each shard, in the order asked, the proof; `None` where it is not there or not whole.
        proofs: Vec<Option<Vec<u8>>>,
    },
    /// What came of [`Output::Scrub`].
    Scrubbed {
        /// The shard.
        shard: ShardId,
        /// What is wrong with its file, if anything.
        what: Option<String>,
    },
    /// What came of [`Output::Drop`].
    Dropped {
        /// The shard.
        shard: ShardId,
        /// Whether its file is gone, durably; the driver does nothing more about it.
        gone: bool,
    },
    /// What came of [`Output::Rebuild`] or [`Output::Mend`].
    Rebuilt {
        /// Which.
        job: JobId,
        /// It.
        rebuilt: Box<Rebuilt>,
    },
    /// The answer to [`Output::Call`]; `None` when there was none.
    Answer {
        /// Which call.
        call: CallId,
        /// The answer.
        response: Option<Box<Response>>,
    },
    /// How much space the disk has for shards, in bytes.
    Space(u64),
    /// Stored state is in doubt, or no longer: shown in the status.
    Doubt(Option<String>),
    /// This node's operator takes it away, or not any more: its shards are to come to lie elsewhere first.
    Leaving(bool),
    /// This node's operator says who its partners are; as often as it likes.
    Partners(Box<Signed<PartnerList>>),
    /// This node's certificate as it is on its host now; as often as it likes.
    Certificate(Box<Signed<NodeCertificate>>),
    /// What the driver turned away since its start before it was a message, by reason: shown in the status.
    TurnedAway(Vec<(&'static str, u64)>),
}

/// Pieces of a shard that are to be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// Which shard.
    pub shard: ShardId,
    /// Its length in bytes.
    pub len: u32,
    /// Which groups, in increasing order.
    pub groups: Vec<u64>,
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Read all of a shard that is held, when the disk has time, and see whether its bytes are those of its name.
    Scrub {
        /// The shard.
        shard: ShardId,
        /// Its length in bytes.
        len: u32,
    },
    /// Send a response; close the link after it when asked to.
    Reply {
        /// On this stream.
        lane: LaneId,
        /// It.
        response: Box<Response>,
        /// Whether the connection ends with it.
        close: bool,
    },
    /// See whether a shard that is held, and was put again, is still there.
    Look {
        /// On this stream.
        lane: LaneId,
        /// The shard.
        shard: ShardId,
        /// Its length.
        len: u32,
    },
    /// Take `len` raw bytes into temporary storage.
    Receive {
        /// From this stream.
        lane: LaneId,
        /// What they should be.
        shard: ShardId,
        /// How many.
        len: u32,
        /// After so long: until then they are not read, so that who sends them waits as well.
        wait: Period,
    },
    /// Read and forget `len` raw bytes (or the temporary storage already filled), then respond.
    Discard {
        /// From this stream.
        lane: LaneId,
        /// How many are still to be read.
        len: u32,
        /// Then send this.
        response: Box<Response>,
    },
    /// Send bytes of a shard, after a `Bytes` response.
    Transmit {
        /// On this stream.
        lane: LaneId,
        /// The shard.
        shard: ShardId,
        /// From here.
        offset: u32,
        /// So many.
        len: u32,
        /// After so long.
        wait: Period,
    },
    /// Prove pieces of shards by [`crate::audit::prove`], and report it.
    Prove {
        /// For this stream.
        lane: LaneId,
        /// Each shard with its length and the groups asked for, in increasing order; `None` for one that is not held.
        pieces: Vec<Option<Pieces>>,
    },
    /// Make this durable, all or nothing, and report it.
    Persist {
        /// What to report.
        token: u64,
        /// Rows.
        writes: Vec<Write>,
        /// The shard received on this stream becomes one that is held. The note goes into its file, so
        /// that the rows can be made again from it.
        shard: Option<(LaneId, ShardId, Vec<u8>)>,
    },
    /// Remove the file of a shard, and report it once that is durable.
    Drop {
        /// The shard.
        shard: ShardId,
        /// Its life has ended: nothing else lets a file go.
        decision: DropDecision,
    },
    /// As [`Output::Rebuild`], for one shard that is held here and whose bytes are damaged: they go into temporary storage, as if they
    /// had arrived on a lane of their own, which [`Output::Persist`] names afterwards.
    Mend {
        /// The job.
        job: JobId,
        /// The stripe's record, as its device signed it.
        record: Box<Signed<Record>>,
        /// Where shards are to be had.
        sources: Vec<Source>,
        /// The damaged one's place in the stripe.
        index: u16,
    },
    /// Fetch any k shards of a stripe, each verified by its name, compute those that are missing, put them to their targets, and
    /// report it.
    Rebuild {
        /// The job.
        job: JobId,
        /// The stripe's record, as its device signed it.
        record: Box<Signed<Record>>,
        /// Where shards are to be had, the nearest first.
        sources: Vec<Source>,
        /// Where those that are missing go.
        targets: Vec<Target>,
    },
    /// Connect to a node.
    Dial {
        /// The node.
        node: NodeId,
        /// Where to try.
        addresses: Vec<String>,
    },
    /// Send a greeting and report the answer.
    Greet {
        /// The call.
        call: CallId,
        /// The connection.
        link: LinkId,
        /// It.
        greeting: Box<Greeting>,
    },
    /// Send a request and report the answer.
    Call {
        /// The call.
        call: CallId,
        /// The connection.
        link: LinkId,
        /// It.
        request: Box<Request>,
    },
    /// Close a connection.
    Close {
        /// Which.
        link: LinkId,
    },
    /// Something worth a line in the log.
    Note(Note),
}

/// What is worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The bytes of a shard that is held are not there, or not those of its name.
    Damaged {
        /// Whose.
        vault: VaultId,
        /// Of which stripe.
        stripe: StripeId,
        /// The shard.
        shard: ShardId,
        /// What is wrong.
        what: String,
    },
    /// What was kept of how much of a vault is held was not what its shards come to. It is corrected.
    Miscounted {
        /// Whose.
        vault: VaultId,
        /// What was kept.
        kept: Usage,
        /// What its shards come to.
        counted: Usage,
    },
    /// Somebody was refused.
    Refused {
        /// Who.
        key: PublicKey,
        /// Why.
        refusal: Refusal,
    },
    /// A node is now a member.
    Joined(Site),
    /// A partner's node is not what was agreed: it counts as unknown for the own vaults.
    Mislabelled {
        /// Which.
        node: NodeId,
        /// How it differs.
        what: String,
    },
    /// A partner breaks its part: nothing new is put with it.
    PartnerFrozen {
        /// Which.
        operator: OperatorId,
        /// How.
        cause: Cause,
    },
    /// One that did is free again.
    PartnerFree(OperatorId),
    /// One side of an agreement gave notice.
    Notice {
        /// Who.
        leaver: OperatorId,
        /// To whom.
        other: OperatorId,
    },
    /// Another key speaks for an operator now.
    Succeeded {
        /// Which.
        operator: OperatorId,
        /// By which step of its line.
        number: usize,
    },
    /// Somebody shows another successor of an operator's key than the one that is known here, which stays.
    Disputed {
        /// Whose.
        operator: OperatorId,
        /// From which step of its line on.
        number: usize,
    },
    /// The operator's list of partners counts now.
    Partners {
        /// Its version.
        version: u64,
        /// How many it has.
        partners: usize,
    },
    /// A device's log has forked; both sides are kept.
    Forked {
        /// Whose vault.
        vault: VaultId,
        /// The device.
        device: DeviceId,
    },
    /// Shards wait to be dropped.
    Cooling {
        /// Whose.
        vault: VaultId,
        /// By which release.
        release: ReleaseId,
        /// How many.
        shards: usize,
        /// How long.
        remaining: Period,
    },
    /// A release was asked for that does not count, or not yet.
    NotReleased {
        /// Whose.
        vault: VaultId,
        /// Which.
        release: ReleaseId,
        /// Shards held here that are locked or on hold.
        locked: usize,
        /// Those for which it does not count.
        refused: usize,
    },
    /// A guardian stopped a release.
    Vetoed {
        /// Whose vault.
        vault: VaultId,
        /// Who.
        guardian: OperatorId,
        /// What.
        release: ReleaseId,
    },
    /// A guardian froze all expiry of a vault, or ended that.
    Held {
        /// Whose.
        vault: VaultId,
        /// Who.
        guardian: OperatorId,
        /// For how long; `None` ends it.
        period: Option<Period>,
    },
    /// A shard is gone.
    Dropped {
        /// Whose.
        vault: VaultId,
        /// The shard.
        shard: ShardId,
        /// By which release.
        release: ReleaseId,
    },
    /// Another node showed a head of this node's promises that it does not know any more: its disk was set back.
    SetBack {
        /// Who.
        by: NodeId,
        /// The number of the promise that was shown.
        shown: u64,
    },
    /// Another node's promises do not go on from where they were: its disk was set back.
    Contradicted {
        /// Which node.
        node: NodeId,
        /// The number of the promise that it showed before.
        before: u64,
        /// Of the one that it shows now.
        after: u64,
    },
    /// A node that was asked does not answer.
    Suspected(NodeId),
    /// So many stripes that are held here break their policy now: before, none did. Or none does any more.
    AtRisk {
        /// How many.
        stripes: usize,
    },
    /// A node has been silent for longer than the patience.
    Lost(NodeId),
    /// One that was lost was heard again.
    Returned(NodeId),
    /// A node leaves: what it holds is to lie elsewhere.
    Leaving(NodeId),
    /// One that was to leave stays.
    Stays(NodeId),
    /// Shards of a stripe that were lost are held elsewhere now.
    Repaired {
        /// Whose.
        vault: VaultId,
        /// The stripe.
        stripe: StripeId,
        /// How many.
        shards: usize,
    },
    /// A stripe was to be repaired, and not all of that was done.
    NotRepaired {
        /// Whose.
        vault: VaultId,
        /// The stripe.
        stripe: StripeId,
        /// Why.
        why: String,
    },
    /// A holder gave other bytes than it promised, or none.
    Faulty {
        /// Which.
        node: NodeId,
        /// Of which stripe.
        stripe: StripeId,
    },
    /// A holder did not prove that it has a shard that it promised, to this node. That alone means nothing.
    AuditFailed {
        /// Which.
        node: NodeId,
        /// Of which stripe.
        stripe: StripeId,
        /// What came of it.
        outcome: Outcome,
    },
    /// A holder was shown not to have a shard that it promised: it counts as lost.
    Unproved {
        /// Which.
        node: NodeId,
        /// Of which stripe.
        stripe: StripeId,
    },
    /// It counts as held again.
    HeldAgain {
        /// Which.
        node: NodeId,
        /// Of which stripe.
        stripe: StripeId,
    },
    /// A stranger showed the tag of a vault's recipient, and got its cards.
    Recovering {
        /// Under which key.
        key: PublicKey,
    },
}
