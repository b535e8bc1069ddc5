//! What repairs find of holders: shards that they asked for and did not get as promised, and shards that somebody took and knows nothing of.
//!
//! - What is missing, or has other bytes, counts as gone for a while. Whether its holder has it is for audits to find out, which are told to ask;
//!   what they find is kept apart ([`super::findings`]).
//! - Who took a shard of a repair signed for it, and cannot have dropped it lawfully before its lock is over. Who shows nothing of it *denies* it: it is
//!   given that shard no more, and what it denies counts against its operator as what audits showed. Who shows it again denies it no more. What is
//!   denied is stored, each for itself ([`Table::Denied`]), with its end by the lock clock; who only took something is forgotten by a restart.

use super::facts::{Facts, FactsError, Table, Write, decode, key};
use super::{Note, Output, Peer, Then};
use crate::id::{NodeId, StripeId, VaultId};
use crate::lock_clock::LockTime;
use crate::record::Receipt;
use crate::sign::Signed;
use crate::time::{Mono, Now, Period};
use serde::{Deserialize, Serialize};
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

/// A shard that its holder denies, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedRow {
    /// Of whose vault.
    pub vault: VaultId,
    /// Until then it counts.
    pub until: LockTime,
}

/// What is remembered of shards that this node's repairs brought to others.
#[derive(Debug, Default)]
pub(super) struct Taken {
    of: BTreeMap<Place, Taking>,
    /// What was denied and is forgotten, and is stored still.
    forgotten: Vec<Place>,
}

/// What it means that somebody shows a shard, or nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing new.
    Nothing,
    /// It denies it from now on, until then,
    Denies(VaultId, Mono),
    /// and no more.
    Shows,
}

fn row_of((stripe, node): Place) -> Vec<u8> {
    key(&[&stripe.0, &node.0])
}

impl Taken {
    /// What was denied before a start.
    pub(super) fn load(facts: &dyn Facts, at: LockTime, now: Mono) -> Result<Self, FactsError> {
        let mut taken = Self::default();
        for (row, bytes) in facts.scan(Table::Denied, &[], None, usize::MAX)? {
            let DeniedRow { vault, until } = decode(Table::Denied, &bytes)?;
            let Some((stripe, node)) = row.split_first_chunk::<32>() else { continue };
            let Ok(node) = node.try_into() else { continue };
            let until = now.after(until.since(at));
            let taking = Taking { vault, at: now, until, is_denied: true };
            taken.of.insert((StripeId(*stripe), NodeId(node)), taking);
        }
        Ok(taken)
    }

    /// Somebody signed that it keeps a shard for so long. Its clock may be the faster one: it is held to half of that.
    pub(super) fn take(&mut self, place: Place, vault: VaultId, keep: Period, now: Mono) {
        let until = now.after(Period(keep.0 / 2));
        let taking = Taking { vault, at: now, until, is_denied: false };
        let before = self.of.insert(place, taking);
        self.forgotten.extend(before.filter(|before| before.is_denied).map(|_| place));
        if self.of.len() > TAKEN_MAX {
            let oldest = self.of.iter().min_by_key(|(place, of)| (of.is_denied, of.at, **place));
            if let Some((oldest, is_denied)) = oldest.map(|(place, of)| (*place, of.is_denied)) {
                self.of.remove(&oldest);
                self.forgotten.extend(is_denied.then_some(oldest));
            }
        }
    }

    /// Somebody shows a shard, or nothing of it.
    pub(super) fn see(&mut self, place: Place, is_shown: bool) -> Seen {
        let Some(taking) = self.of.get_mut(&place) else { return Seen::Nothing };
        let was_denied = std::mem::replace(&mut taking.is_denied, !is_shown);
        match (was_denied, is_shown) {
            (false, false) => Seen::Denies(taking.vault, taking.until),
            (true, true) => Seen::Shows,
            _ => Seen::Nothing,
        }
    }

    pub(super) fn is_denied(&self, place: &Place) -> bool {
        self.of.get(place).is_some_and(|taking| taking.is_denied)
    }

    /// What is denied, and of which vaults.
    pub(super) fn denied(&self) -> impl Iterator<Item = (&Place, &VaultId)> {
        let denied = self.of.iter().filter(|(_, taking)| taking.is_denied);
        denied.map(|(place, taking)| (place, &taking.vault))
    }

    /// Forgets what may have been dropped since.
    pub(super) fn forget(&mut self, now: Mono) {
        let gone = self.of.extract_if(.., |_, taking| taking.until <= now);
        let denied = gone.filter(|(_, taking)| taking.is_denied);
        self.forgotten.extend(denied.map(|(place, _)| place));
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
    pub(super) fn see_taken(
        &mut self,
        now: Now,
        (stripe, node): (StripeId, NodeId),
        is_shown: bool,
    ) {
        let write = match self.repair.taken.see((stripe, node), is_shown) {
            Seen::Nothing => return,
            Seen::Denies(vault, until) => {
                self.outputs.push_back(Output::Note(Note::Faulty { node, stripe }));
                let left = Period(until.0.saturating_sub(now.mono.0));
                let until = self.lock_clock.reading().at.after(left);
                Write::row(Table::Denied, row_of((stripe, node)), &DeniedRow { vault, until })
            }
            Seen::Shows => Write::remove(Table::Denied, row_of((stripe, node))),
        };
        let clock = Write::lock_clock(&self.lock_clock);
        self.persist(vec![write, clock], None, Then::Nothing);
    }

    /// Forgets what may have been dropped since, and the rows of what was denied of it.
    pub(super) fn forget_taken(&mut self, now: Now) {
        self.repair.taken.forget(now.mono);
        let gone = std::mem::take(&mut self.repair.taken.forgotten).into_iter();
        let gone = gone.filter(|place| !self.repair.taken.is_denied(place));
        let writes: Vec<Write> =
            gone.map(|place| Write::remove(Table::Denied, row_of(place))).collect();
        if !writes.is_empty() {
            self.persist(writes, None, Then::Nothing);
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
        assert_eq!(taken.see(place(1), false), Seen::Nothing, "nobody took it");
        taken.take(place(1), vault, keep, Mono(0));
        assert_eq!(taken.see(place(1), true), Seen::Nothing);
        assert!(!taken.is_denied(&place(1)));
        assert_eq!(taken.see(place(1), false), Seen::Denies(vault, Mono(50)));
        assert_eq!(taken.see(place(1), false), Seen::Nothing, "told once");
        assert_eq!(taken.denied().collect::<Vec<_>>(), [(&place(1), &vault)]);
        assert_eq!(taken.see(place(1), true), Seen::Shows);
        assert!(!taken.is_denied(&place(1)));
        assert_ne!(taken.see(place(1), false), Seen::Nothing);
        taken.forget(Mono(49));
        assert!(taken.is_denied(&place(1)));
        // What is denied is remembered when there are too many.
        for stripe in 2..TAKEN_MAX as u16 + 9 {
            taken.take(place(stripe), vault, keep, Mono(20));
        }
        assert_eq!(taken.of.len(), TAKEN_MAX);
        assert!(taken.is_denied(&place(1)));
        taken.forget(Mono(50));
        assert!(!taken.is_denied(&place(1)));
        assert_eq!(taken.forgotten, [place(1)], "what is stored of it is removed");
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
