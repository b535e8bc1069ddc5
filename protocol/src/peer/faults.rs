//! Shards that a repair asked for and did not get as their holders promise: missing, or other bytes. Each counts as gone for a while. Whether
//! its holder has it is for audits to find out, which are told to ask; what they find is kept apart ([`super::findings`]).

use crate::id::{NodeId, StripeId};
use crate::time::{Mono, Period};
use std::collections::BTreeMap;

/// Most that are remembered; the newest.
const FAULTS_MAX: usize = 4096;

/// A shard of a stripe at a holder.
type Place = (StripeId, NodeId);

/// What is remembered of fetches that failed.
#[derive(Debug, Default)]
pub(super) struct Faults(BTreeMap<Place, Mono>);

impl Faults {
    pub(super) fn contains(&self, place: &Place) -> bool {
        self.0.contains_key(place)
    }

    /// A fetch failed; whether that is news.
    pub(super) fn add(&mut self, place: Place, now: Mono) -> bool {
        let is_new = self.0.insert(place, now).is_none();
        if self.0.len() > FAULTS_MAX {
            let oldest = self.0.iter().min_by_key(|(place, at)| (**at, **place));
            if let Some(oldest) = oldest.map(|(place, _)| *place) {
                self.0.remove(&oldest);
            }
        }
        is_new
    }

    /// Forgets what is older than this: its holder was audited since, and may have it again.
    pub(super) fn forget(&mut self, older_than: Period, now: Mono) {
        self.0.retain(|_, at| at.after(older_than) > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(stripe: u16) -> Place {
        let [high, low] = stripe.to_be_bytes();
        let name: [u8; 32] = std::array::from_fn(|i| [high, low].get(i).copied().unwrap_or(0));
        (StripeId(name), NodeId([1; 32]))
    }

    #[test]
    fn a_fault_is_forgotten_in_time_and_counts_anew_when_it_happens_again() {
        let mut faults = Faults::default();
        assert!(faults.add(place(1), Mono(0)) && faults.add(place(2), Mono(50)));
        assert!(!faults.add(place(1), Mono(60)), "known already");
        faults.forget(Period(100), Mono(150));
        assert!(faults.contains(&place(1)) && !faults.contains(&place(2)));
        faults.forget(Period(100), Mono(160));
        assert!(!faults.contains(&place(1)));
        assert!(faults.add(place(1), Mono(170)));
    }

    #[test]
    fn where_there_are_too_many_the_oldest_makes_room_for_the_newest() {
        let mut faults = Faults::default();
        for (at, stripe) in (0..FAULTS_MAX as u16 + 5).rev().enumerate() {
            assert!(faults.add(place(stripe), Mono(at as u64)));
        }
        assert_eq!(faults.0.len(), FAULTS_MAX);
        assert!(!faults.contains(&place(FAULTS_MAX as u16 + 4)));
        assert!(faults.contains(&place(FAULTS_MAX as u16 - 1)) && faults.contains(&place(0)));
    }
}
