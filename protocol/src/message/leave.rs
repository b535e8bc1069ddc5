//! What a node says of its own leaving.

use crate::id::{NodeId, OperatorId};
use serde::{Deserialize, Serialize};

/// How far a node that leaves is: its shards come to lie elsewhere before it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveStatus {
    /// Whether all that it holds was gone through since it leaves, and since nodes were lost or left. Before, the figures are none.
    pub is_counted: bool,
    /// Stripes of which it holds a shard that is not about to go.
    pub stripes: u64,
    /// Of these, those that would miss it.
    pub left: u64,
    /// Of those left, the ones that would break their policy if it went now, as far as is known.
    pub below: u64,
    /// Why some of those left cannot be moved now, and how many.
    pub stuck: Vec<(String, u64)>,
    /// Stripes that nobody would miss it for by its own word, and for which not enough others vouch yet ([`crate::leave`]).
    pub unsigned: u64,
    /// Who vouches, and for how many stripes.
    pub signers: Vec<LeaveSigner>,
}

/// A node that signed that another may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveSigner {
    /// The node.
    pub node: NodeId,
    /// Its operator.
    pub operator: OperatorId,
    /// For how many stripes it vouches.
    pub stripes: u64,
}

impl LeaveStatus {
    /// Whether nothing would miss the node, and others have signed that.
    #[must_use]
    pub fn may_leave(&self) -> bool {
        self.is_counted && self.left == 0 && self.unsigned == 0
    }
}
