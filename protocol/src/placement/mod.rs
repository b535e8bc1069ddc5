//! Placement.
use crate::label::Site;
use crate::policy::Policy;
/// V
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation;
/// C
pub fn check_placement(_p: &Policy, k: usize, h: &[&Site]) -> Result<(), Violation> {
    if h.len() < k { Err(Violation) } else { Ok(()) }
}
