//! What a node tells operators' commands of partners: the own one what is held for whom, and each what was held in a month.

use crate::id::{OperatorId, VaultId};
use crate::notice::{Cause, Notice};
use crate::partner::PartnerList;
use crate::sign::Signed;
use crate::tally::{Countersigned, UsageStatement};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};

/// What a node holds for a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldFor {
    /// The partner, or one that was.
    pub operator: OperatorId,
    /// Bytes of shards held for its vaults.
    pub bytes: u64,
    /// Bytes that it may hold for them at most, as things are: 0 without an agreement in force.
    pub share: u64,
}

/// A node's partners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerStatus {
    /// The version of the list that it goes by; 0 for none.
    pub version: u64,
    /// The list, when that is newer than the one known to whoever asks.
    pub list: Option<Signed<PartnerList>>,
    /// What it holds for whom.
    pub held: Vec<HeldFor>,
}

/// What a holder says of a vault and a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// As things are now.
    pub statement: Signed<UsageStatement>,
    /// What the vault's operator agreed to last.
    pub countersigned: Option<Signed<Countersigned>>,
}

/// That nothing new is put with a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Why.
    pub cause: Cause,
    /// For how long already, by the lock clock of the node that says so.
    pub ago: Period,
    /// In how long what lies there is moved off, 0 when it is; `None` where nothing is agreed.
    pub moves_in: Option<Period>,
}

/// What a vault has at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultHeld {
    /// Which.
    pub vault: VaultId,
    /// Bytes of its shards.
    pub bytes: u64,
    /// How many it may have at most there, where that is bounded.
    pub quota: Option<u64>,
}

/// How a partner stands at a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerStanding {
    /// Which.
    pub operator: OperatorId,
    /// Since when nothing new is put with it, if so.
    pub frozen: Option<Frozen>,
    /// Notices that either side gave of what is agreed now.
    pub notices: Vec<Signed<Notice>>,
    /// When the agreement ends, by its term or by notice.
    pub ends: Option<Wall>,
    /// Whether it has ended.
    pub is_over: bool,
    /// What its vaults have at the node.
    pub vaults: Vec<VaultHeld>,
    /// Stripes held at the node that are to lie elsewhere because somebody parts, and do not yet, as far as they were gone through.
    pub waiting: u64,
    /// Of these, the ones for which there is no place now.
    pub stuck: u64,
    /// Whether all were gone through.
    pub is_counted: bool,
    /// Bytes a second that go to and come from it at most, where that is bounded.
    pub per_second: Option<u64>,
}
