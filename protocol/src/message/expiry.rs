//! What is answered about locks, releases, vetoes and holds. Times are spans from now on: a lock clock means nothing elsewhere.

use crate::hold::HoldOrder;
use crate::id::{OperatorId, ReleaseId, StripeId};
use crate::release::Veto;
use crate::sign::Signed;
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};

/// Stripes of a release that are looked at for one request: each takes the verification of its record.
pub const RELEASE_PAGE: usize = 1024;
/// Most releases about which one request asks what stops them.
pub const RELEASES_ASKED_MAX: usize = 64;

/// What became of one stripe of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// No shard of it is held here.
    NotHeld,
    /// It waits to be dropped, by this release.
    Cooling {
        /// For so long.
        remaining: Period,
    },
    /// It is locked, or on hold.
    Locked {
        /// For so long.
        remaining: Period,
    },
    /// It waits to be dropped, by another release.
    Other(ReleaseId),
    /// The release does not count for it.
    Refused(String),
}

/// What became of a page of the stripes of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The stripes, in the order of the request.
    pub outcomes: Vec<(StripeId, Outcome)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<u32>,
}

/// A release by which something waits to be dropped, or did so lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Which.
    pub release: ReleaseId,
    /// When it was made, by its own word.
    pub issued: Wall,
    /// Stripes that it names.
    pub stripes: u32,
    /// When the last of those held here is dropped; nothing when that is over.
    pub remaining: Period,
    /// Who stopped it.
    pub vetoed: Vec<OperatorId>,
}

/// What of a vault is about to go, and what holds that up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standstill {
    /// Releases.
    pub running: Vec<Running>,
    /// Guardians whose hold is on, and for how long.
    pub holds: Vec<(OperatorId, Period)>,
    /// Why nothing is dropped here at the moment, whatever runs.
    pub stands: Option<String>,
}

/// What stops releases: the statements themselves, for whoever did not hear them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stops {
    /// Vetoes of the releases asked about.
    pub vetoes: Vec<Signed<Veto>>,
    /// The last order of each guardian whose hold is on.
    pub holds: Vec<Signed<HoldOrder>>,
}
