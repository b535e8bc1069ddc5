//! What a node says of the repair that it does.

use crate::id::NodeId;
use crate::time::Period;
use serde::{Deserialize, Serialize};

/// How far a node is with repairing what was lost elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Nodes that it takes for lost.
    pub lost: Vec<NodeId>,
    /// Stripes held here that it found short, by how many further losses they bear after the worst that their policy names.
    pub waiting: Vec<(i64, u64)>,
    /// Stripes that it is rebuilding.
    pub running: u32,
    /// Stripes that it repaired since its start.
    pub repaired: u64,
    /// Attempts that came to nothing, or to less than was wanted.
    pub failed: u64,
    /// Bytes that it moved for that.
    pub moved: u64,
    /// Why stripes cannot be repaired now, and how many.
    pub stuck: Vec<(String, u64)>,
    /// For how long something here has been short; `None` when nothing is.
    pub since: Option<Period>,
    /// Stripes that it repaired in that time.
    pub lately: u64,
}
