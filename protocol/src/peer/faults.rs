//! What repairs find of holders: shards that they asked for and did not get as promised, and shards that somebody took and knows nothing of.
//!
//! - What is missing, or has other bytes, counts as gone for a while. Whether its holder has it is for audits to find out, which are told to ask;
//!   what they find is kept apart ([`super::findings`]).
//! - Who took a shard of a repair signed for it, and cannot have dropped it lawfully before its lock is over. Who shows nothing of it *denies* it: it is
//!   given that shard no more, and what it denies counts against its operator as what audits showed. Who shows it again denies it no more.

use super::{Note, Output, Peer};
use crate::id::{NodeId, StripeId, VaultId};
use crate::record::Receipt;
use crate::sign::Signed;
use crate::time::{Mono, Now, Period};
use std::collections::BTreeMap;

/// Most that are remembered; the newest.
const FAULTS_MAX: usize = 4096;
/// Most shards that are remembered as taken, 130 bytes each: those that were denied, and the newest.
const TAKEN_MAX: usize = 1 << 14;

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

/// A shard that somebody signed for.
#[derive(Debug)]
struct Taking {
    vault: VaultId,
    at: Mono,
    /// Until then it cannot have been dropped.
    until: Mono,
    is_denied: bool,
}

/// What is remembered of shards that this node's repairs brought to others.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<Place, Taking>);

impl Taken {
    /// Somebody signed that it keeps a shard for so long. Its clock may be the faster one: it is held to half of that.
    pub(super) fn take(&mut self, place: Place, vault: VaultId, keep: Period, now: Mono) {
        let until = now.after(Period(keep.0 / 2));
        self.0.insert(place, Taking { vault, at: now, until, is_denied: false });
        if self.0.len() > TAKEN_MAX {
            let oldest = self.0.iter().min_by_key(|(place, of)| (of.is_denied, of.at, **place));
            if let Some(oldest) = oldest.map(|(place, _)| *place) {
                self.0.remove(&oldest);
            }
        }
    }

    /// Somebody shows a shard, or nothing of it; whether it denies now what it did not deny before.
    pub(super) fn see(&mut self, place: Place, is_shown: bool) -> bool {
        let Some(taking) = self.0.get_mut(&place) else { return false };
        let was_denied = std::mem::replace(&mut taking.is_denied, !is_shown);
        !is_shown && !was_denied
    }

    pub(super) fn is_denied(&self, place: &Place) -> bool {
        self.0.get(place).is_some_and(|taking| taking.is_denied)
    }

    /// What is denied, and of which vaults.
    pub(super) fn denied(&self) -> impl Iterator<Item = (&Place, &VaultId)> {
        let denied = self.0.iter().filter(|(_, taking)| taking.is_denied);
        denied.map(|(place, taking)| (place, &taking.vault))
    }

    /// Forgets what may have been dropped since.
    pub(super) fn forget(&mut self, now: Mono) {
        self.0.retain(|_, taking| taking.until > now);
    }
}

impl Peer {
    /// Remembers who signed for shards of a stripe that were rebuilt.
    pub(super) fn note_taken(
        &mut self,
        now: Now,
        (vault, stripe): (VaultId, StripeId),
        receipts: &[Signed<Receipt>],
    ) {
        for receipt in receipts.iter().filter_map(|signed| signed.verify().ok()) {
            if (receipt.vault, receipt.stripe) == (vault, stripe) {
                let place = (stripe, receipt.holder);
                self.repair.taken.take(place, vault, receipt.keep, now.mono);
            }
        }
    }

    /// A node shows that it has a shard of a stripe, or knows nothing of one.
    pub(super) fn see_taken(&mut self, stripe: StripeId, node: NodeId, is_shown: bool) {
        if self.repair.taken.see((stripe, node), is_shown) {
            self.outputs.push_back(Output::Note(Note::Faulty { node, stripe }));
        }
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
    fn who_took_a_shard_is_held_to_it_for_half_of_its_lock() {
        let (vault, keep) = (VaultId([2; 32]), Period(100));
        let mut taken = Taken::default();
        assert!(!taken.see(place(1), false), "nobody took it");
        taken.take(place(1), vault, keep, Mono(0));
        assert!(!taken.see(place(1), true) && !taken.is_denied(&place(1)));
        assert!(taken.see(place(1), false) && !taken.see(place(1), false), "told once");
        assert_eq!(taken.denied().collect::<Vec<_>>(), [(&place(1), &vault)]);
        assert!(!taken.see(place(1), true) && !taken.is_denied(&place(1)), "it shows it again");
        assert!(taken.see(place(1), false));
        taken.forget(Mono(49));
        assert!(taken.is_denied(&place(1)));
        // What is denied is remembered when there are too many.
        for stripe in 2..TAKEN_MAX as u16 + 9 {
            taken.take(place(stripe), vault, keep, Mono(20));
        }
        assert_eq!(taken.0.len(), TAKEN_MAX);
        assert!(taken.is_denied(&place(1)));
        taken.forget(Mono(50));
        assert!(!taken.is_denied(&place(1)));
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
