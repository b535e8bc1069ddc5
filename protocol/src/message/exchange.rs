//! What nodes tell each other of the vaults whose rosters list them, and of promises: the parts of requests and responses by which
//! they bring each other up to date.

use super::VaultState;
use crate::id::{DeviceId, EntryId, NodeId, VaultId};
use crate::log::Head;
use crate::promise::{PromiseHead, PromiseStatement, PromiseWitness};
use crate::recovery::RecoveryCard;
use crate::sign::Signed;
use serde::{Deserialize, Serialize};

/// What a node has of a vault, in two hashes: two nodes with the same ones have the same, and need not talk about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultDigest {
    /// Which vault.
    pub vault: VaultId,
    /// Over papers, devices, revocations and cards.
    pub papers: [u8; 32],
    /// Over the ends of logs and the forks.
    pub logs: [u8; 32],
}

/// All that a node has of a vault but for its logs and stripes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// Papers, devices and revocations.
    pub state: VaultState,
    /// Recovery cards, in the order in which they came.
    pub cards: Vec<Signed<RecoveryCard>>,
}

/// Where a device's log ends at a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// The device.
    pub device: DeviceId,
    /// Its last entry; `None` when only forks are known.
    pub head: Option<Head>,
    /// The forks that are kept.
    pub forks: Vec<EntryId>,
}

/// What a node has in writing against another: what that one said, and what it said after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// What was said first.
    pub before: Signed<PromiseStatement>,
    /// What was said after that, and does not go on from there.
    pub after: Signed<PromiseStatement>,
    /// Whether it has not been put right since.
    pub stands: bool,
}

/// How a node's own chain of promises is, and what it has seen of those of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// Its head.
    pub head: PromiseHead,
    /// What another node showed that it does not know any more: it was set back, and drops nothing.
    pub set_back: Option<PromiseHead>,
    /// Whether it has not met anybody since its start who countersigned before, and drops nothing until then.
    pub awaits: bool,
    /// The newest countersignatures.
    pub witnesses: Vec<Signed<PromiseWitness>>,
    /// Whom it found out.
    pub contradictions: Vec<(NodeId, Contradiction)>,
}
