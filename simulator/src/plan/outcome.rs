//! What came of a run, as data: the verdict, what was broken, and what was measured.

use super::Moment;
use protocol::time::Period;
use serde::{Deserialize, Serialize};

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// In one word.
    pub verdict: Verdict,
    /// The first promise that was broken: the run ends there.
    pub violation: Option<Violation>,
    /// What was measured.
    pub measures: Measures,
    /// The hash of all that happened: two runs with the same one were the same run.
    pub digest: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Every stripe that was committed and not released can be read, and satisfies its policy.
    Survived,
    /// Every stripe can be read, and some do not satisfy their policy.
    Degraded,
    /// Some stripes cannot be read now, and enough of their shards exist.
    Unreachable,
    /// Some stripes are gone for good.
    Destroyed,
    /// The code broke a promise.
    Violated,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which promise: `P1` to `P8`, `swap`, `durability`, `conservation`, `receipt` or `liveness`.
    pub promise: String,
    /// What happened.
    pub text: String,
    /// When.
    pub at: Period,
    /// The last events before it.
    pub events: Vec<String>,
}

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// How it went.
    pub timeline: Vec<Sample>,
    /// Messages delivered.
    pub messages: u64,
    /// Bytes that they carried.
    pub bytes: u64,
    /// Events.
    pub events: u64,
    /// Stripes whose write was committed: every holder gave a receipt.
    pub committed: u64,
    /// Stripes that holders dropped after a release that counts, so that they cannot be read.
    pub released: u64,
    /// The first time at which a stripe was gone for good.
    pub destroyed_at: Option<Period>,
    /// Since when, at the end, all stripes satisfy their policy.
    pub policy_held_since: Option<Period>,
    /// Which nodes were lost or seized, as the plan names them, with the time.
    pub lost: Vec<(Period, String)>,
    /// Shards that nodes rebuilt and others took.
    pub rebuilt: u64,
    /// Bytes of shards that were read for that, and written.
    pub rebuilt_bytes: (u64, u64),
    /// Nodes that left, and might.
    pub left: u64,
    /// Restores and recoveries that gave everything back, and those that did not, also because nobody was there to ask.
    pub restores: (u64, u64),
    /// When the backups began that put away all that they should, in order.
    pub backups: Vec<Period>,
    /// Backups that ended without that.
    pub backups_failed: u64,
    /// What waited for a moment, in the order in which it began to.
    #[serde(default)]
    pub waited: Vec<Waited>,
}

/// Something of a plan that waited for a moment ([`super::What::Lurk`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// Which step of the plan.
    pub step: usize,
    /// For what.
    pub until: Moment,
    /// Since when.
    pub from: Period,
    /// When it came, and the attacker struck; `None` where it never did.
    pub came: Option<Period>,
}

/// A moment of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Period,
    /// Committed stripes that are not released.
    pub stripes: u64,
    /// Those of them that can be read now.
    pub readable: u64,
    /// Those whose live holders do not satisfy the policy.
    pub below_policy: u64,
    /// Those that are gone for good.
    pub destroyed: u64,
    /// Nodes that run and are not seized.
    pub nodes_up: u64,
    /// Messages delivered so far.
    pub messages: u64,
    /// Bytes that they carried so far.
    pub bytes: u64,
}
