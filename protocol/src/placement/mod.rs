//! Whether, where and with what code a stripe is placed: promise P1.
//!
//! [`check_placement`] is the one predicate: upload, status, planner, repair and simulator all ask it
//! and nothing else. [`solve`] finds holders that satisfy it, [`plan`] finds the code
//! (for the index [`plan_wide`]), [`Exposure`] asks it
//! backwards, [`Loss`] for domains that somebody names, [`Standing`] for what was placed earlier. Everything is exact; what cannot be computed within its work limit counts as bad.

mod exposure;
mod loss;
mod planner;
mod predicate;
mod solver;
mod standing;

pub use exposure::{Exposure, KillSets, is_destroyed, smallest_kill_sets};
pub use loss::{Fate, Loss};
pub use planner::{Plan, PlanLimits, WIDE_OVERHEAD_MAX, plan, plan_wide};
pub use predicate::{Violation, ViolationKind, check_placement, conceal_margin, lie, margin};
pub use solver::{Candidate, Unplaceable, solve};
pub use standing::{Holders, Listing, Standing};
