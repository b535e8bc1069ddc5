//! What a node tells operators' commands of partners: the own one what is held for whom, and each what was held in a month.

use crate::id::OperatorId;
use crate::partner::PartnerList;
use crate::sign::Signed;
use crate::tally::{Countersigned, UsageStatement};
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
