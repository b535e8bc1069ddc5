//! What a node says of the shards that it holds, by reading them.

use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// What reading all that it holds has shown a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Shards of which it does not have the bytes: it serves none of them, and takes them again from whoever brings them.
    pub damaged: u64,
    /// Those that were well again, since its start.
    pub healed: u64,
    /// When it had last read everything.
    pub finished: Option<Wall>,
    /// Bytes read since its start.
    pub read: u64,
    /// Vaults of which what is kept of how much is held was not what is held, when all was read last. It was corrected.
    pub miscounted: u64,
}
