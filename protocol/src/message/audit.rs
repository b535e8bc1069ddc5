//! What a node says of the audits that it makes.

use crate::id::NodeId;
use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// What asking other holders has shown a node. Counts are since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// Shards that it asked about.
    pub asked: u64,
    /// Those that were proved.
    pub proved: u64,
    /// Those that were not, though their holders promise them.
    pub failed: u64,
    /// Those of which it could not tell, because too few others were there.
    pub unsure: u64,
    /// When it had last asked about everything, once in a period.
    pub finished: Option<Wall>,
    /// Holders that were shown not to have what they promise, and of how many stripes held here: these shards count as lost.
    pub failing: Vec<(NodeId, u64)>,
    /// Shards that some auditor could not have proved and others did not confirm.
    pub doubted: u64,
}
