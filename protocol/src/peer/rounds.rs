//! Going through the stripes that are held here, again and again, for those that may have lost shards ([`super::repair`]).
//!
//! - A round begins 24 times in a patience. It looks at all records when something has changed that may concern any of them: who is lost,
//!   who leaves, where nodes lie. Otherwise it looks at those that came since the last one, and at those whose turn it is, which are found without
//!   reading others.
//! - Each stripe has its turn once in [`PATROL_ROUNDS`], by the first byte of its name, and one of its holders asks about it then though nothing is
//!   known to be wrong ([`crate::repair::patrols`]).
//! - Whoever leaves counts all that it holds, in every round.

use super::Peer;
use super::facts::{Facts, Table, decode};
use crate::id::{StripeId, VaultId};
use crate::record::Record;
use crate::sign::Signed;
use crate::time::{Mono, Now, Period};
use std::collections::BTreeSet;
use std::ops::Range;

/// Records looked at in one go,
const PAGE: usize = 64;
/// and vaults in which one is looked for.
const VAULTS: usize = 64;
/// Records that came, as far as they are remembered: where more come the next round looks at all.
const FRESH_MAX: usize = 4096;
/// Rounds in which every stripe is asked about once though nothing is known to be wrong: a week at the default patience.
pub(super) const PATROL_ROUNDS: u64 = 168;

/// How far a round is.
#[derive(Debug)]
enum Scan {
    /// It looks at all records, behind this one.
    Whole(Option<Vec<u8>>),
    /// It looks at those that came; then at those whose turn it is.
    Fresh,
    /// It looks at those of a vault whose names begin with the first of these bytes, behind this one; then at the next vault's.
    Turn { first: Range<u16>, vault: Option<VaultId>, after: Option<Vec<u8>> },
}

/// What is remembered of rounds.
#[derive(Debug)]
pub(super) struct Rounds {
    scan: Option<Scan>,
    /// When the next one begins.
    at: Mono,
    number: u64,
    /// Whether something has changed since the last round that looked at all.
    has_changed: bool,
    /// Records that came since the last round.
    fresh: BTreeSet<(VaultId, StripeId)>,
    /// Whether the one that is on is to be followed by another one that looks at all.
    is_followed: bool,
}

impl Rounds {
    pub(super) fn new(now: Mono) -> Self {
        let fresh = BTreeSet::new();
        Self { scan: None, at: now, number: 0, has_changed: true, fresh, is_followed: false }
    }

    /// Whether one goes on.
    pub(super) fn is_on(&self) -> bool {
        self.scan.is_some()
    }

    /// Whether one that looks at all goes on.
    pub(super) fn is_whole_on(&self) -> bool {
        matches!(self.scan, Some(Scan::Whole(_)))
    }

    /// Something has changed: the next round looks at all.
    pub(super) fn change(&mut self) {
        self.has_changed = true;
    }

    /// These records came, by their keys. Where the next round looks at all anyway, or there are too many, none is remembered.
    pub(super) fn note_records(&mut self, keys: impl Iterator<Item = Vec<u8>>) {
        for key in keys.filter(|_| !self.has_changed) {
            let vault = key.first_chunk().map(|vault| VaultId(*vault));
            let stripe = key.last_chunk().map(|stripe| StripeId(*stripe));
            self.fresh.extend(vault.zip(stripe));
        }
        if self.fresh.len() > FRESH_MAX {
            self.fresh.clear();
            self.change();
        }
    }

    /// Goes through all, from the beginning.
    pub(super) fn begin_whole(&mut self) {
        self.fresh.clear();
        self.scan = Some(Scan::Whole(None));
        (self.has_changed, self.is_followed) = (false, false);
    }

    /// Goes through all, from the beginning, once what goes on has come to its end: or else who comes and goes all the time keeps the last
    /// ones from ever being looked at.
    pub(super) fn follow_with_whole(&mut self) {
        if self.is_whole_on() {
            self.is_followed = true;
        } else {
            self.begin_whole();
        }
    }

    fn begin_turn(&mut self) {
        let first = turn(self.number);
        self.scan = Some(Scan::Turn { first, vault: None, after: None });
    }

    /// Whether it is a stripe's turn.
    pub(super) fn is_turn(&self, stripe: StripeId) -> bool {
        turn(self.number).contains(&stripe.0[0].into())
    }
}

/// The first bytes of the stripes whose turn it is in a round.
fn turn(round: u64) -> Range<u16> {
    let from = |round: u64| (round * 256 / PATROL_ROUNDS) as u16;
    let round = round % PATROL_ROUNDS;
    from(round)..from(round + 1)
}

impl Peer {
    /// Between two rounds.
    pub(super) fn round_period(&self) -> Period {
        Period((self.config.patience.0 / super::repair::TERMS).max(1000))
    }

    /// Begins a round when it is time.
    pub(super) fn begin_round(&mut self, now: Now) {
        let rounds = &mut self.repair.rounds;
        if rounds.is_on() || rounds.at > now.mono {
            return;
        }
        rounds.number += 1;
        // Of what was cut off the most urgent may be new.
        let is_whole = rounds.has_changed || self.repair.is_cut || self.leaving.is_own();
        if is_whole {
            self.begin_whole_round();
        } else if rounds.fresh.is_empty() {
            rounds.begin_turn();
        } else {
            rounds.scan = Some(Scan::Fresh);
        }
        self.repair.rounds.at = now.mono.after(self.round_period());
        self.repair.faults.forget(self.config.audit_period, now.mono);
        self.forget_taken(now);
    }

    /// Looks at some of the records that this round is about.
    pub(super) fn go_on_with_round(&mut self, now: Now, facts: &dyn Facts) {
        match self.repair.rounds.scan.take() {
            None => {}
            Some(Scan::Whole(after)) => self.look_at_all(now, facts, after),
            Some(Scan::Fresh) => self.look_at_fresh(now, facts),
            Some(Scan::Turn { first, vault, after }) => {
                self.look_at_turn(now, facts, first, vault, after);
            }
        }
    }

    fn look_at_all(&mut self, now: Now, facts: &dyn Facts, after: Option<Vec<u8>>) {
        if after.is_none() && !self.begin_counting() {
            self.repair.rounds.scan = Some(Scan::Whole(None));
            return;
        }
        let Ok(rows) = facts.scan(Table::Record, &[], after.as_deref(), PAGE) else {
            // What cannot be read now is read at the next go.
            self.repair.rounds.scan = Some(Scan::Whole(after));
            return;
        };
        for (_, bytes) in &rows {
            // Who leaves goes by what it counted.
            let is_counted = self.leaving.is_own();
            let record = if is_counted { verified_record_of(bytes) } else { record_of(bytes) };
            if let Some(record) = &record {
                self.look_at(now, facts, record, false);
            }
            self.count_stripe(facts, record.as_ref());
        }
        match rows.last() {
            Some((last, _)) if rows.len() == PAGE => {
                self.repair.rounds.scan = Some(Scan::Whole(Some(last.clone())));
            }
            _ => {
                if self.repair.rounds.is_followed {
                    self.repair.rounds.begin_whole();
                }
                self.end_counting(now, facts);
            }
        }
    }

    fn look_at_fresh(&mut self, now: Now, facts: &dyn Facts) {
        for _ in 0..PAGE {
            let Some((vault, stripe)) = self.repair.rounds.fresh.pop_first() else { break };
            let Ok(row) = facts.get(Table::Record, &[vault.0, stripe.0].concat()) else {
                // What cannot be read now is read with all others.
                self.repair.rounds.change();
                continue;
            };
            if let Some(record) = row.and_then(|row| record_of(&row)) {
                self.look_at(now, facts, &record, false);
            }
        }
        if self.repair.rounds.fresh.is_empty() {
            self.repair.rounds.begin_turn();
        } else {
            self.repair.rounds.scan = Some(Scan::Fresh);
        }
    }

    fn look_at_turn(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        mut first: Range<u16>,
        mut vault: Option<VaultId>,
        mut after: Option<Vec<u8>>,
    ) {
        let mut looked_at = 0;
        for _ in 0..VAULTS {
            let Some(byte) = first.clone().next() else { return };
            let before = vault;
            if after.is_none() {
                let last = vault.map(|vault| vault.0);
                let next =
                    facts.scan(Table::Vault, &[], last.as_ref().map(<[u8; 32]>::as_slice), 1);
                // What cannot be read now is read at the next go.
                let Ok(next) = next else {
                    self.repair.rounds.scan = Some(Scan::Turn { first, vault, after });
                    return;
                };
                let next = next.first().and_then(|(row, _)| row.as_slice().try_into().ok());
                vault = next.map(VaultId);
            }
            let Some(of) = vault else {
                // That was the last vault.
                first.start += 1;
                continue;
            };
            let prefix = [&of.0[..], &[byte as u8]].concat();
            let Ok(rows) = facts.scan(Table::Record, &prefix, after.as_deref(), PAGE) else {
                self.repair.rounds.scan = Some(Scan::Turn { first, vault: before, after });
                return;
            };
            for (_, bytes) in &rows {
                if let Some(record) = record_of(bytes) {
                    self.look_at(now, facts, &record, false);
                }
            }
            after = rows.last().filter(|_| rows.len() == PAGE).map(|(last, _)| last.clone());
            looked_at += rows.len();
            if looked_at >= PAGE {
                break;
            }
        }
        self.repair.rounds.scan = Some(Scan::Turn { first, vault, after });
    }
}

/// What a row says. It is verified before anything is done about it: a damaged one repairs nothing.
fn record_of(row: &[u8]) -> Option<Record> {
    let record = decode::<Signed<Record>>(Table::Record, row).ok()?.stored()?;
    record.check().is_ok().then_some(record)
}

/// What a row says that is as it was signed.
fn verified_record_of(row: &[u8]) -> Option<Record> {
    decode::<Signed<Record>>(Table::Record, row).ok()?.verify().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_come_are_remembered_as_far_as_there_is_room() {
        let mut rounds = Rounds::new(Mono(0));
        let keys = |count: u32| {
            (0..count).map(|n| [[1; 32], *blake3::hash(&n.to_be_bytes()).as_bytes()].concat())
        };
        rounds.note_records(keys(10));
        assert!(rounds.fresh.is_empty(), "the first round looks at all");
        rounds.begin_whole();
        rounds.note_records(keys(10));
        assert_eq!((rounds.fresh.len(), rounds.has_changed), (10, false));
        rounds.note_records(keys(FRESH_MAX as u32 + 1));
        assert_eq!((rounds.fresh.len(), rounds.has_changed), (0, true));
    }

    #[test]
    fn what_changes_meanwhile_begins_another_round_and_does_not_cut_off_the_one_that_is_on() {
        let mut rounds = Rounds::new(Mono(0));
        rounds.follow_with_whole();
        assert!(rounds.is_whole_on() && !rounds.is_followed);
        rounds.scan = Some(Scan::Whole(Some(vec![7])));
        for _ in 0..3 {
            rounds.follow_with_whole();
            assert!(matches!(&rounds.scan, Some(Scan::Whole(Some(after))) if *after == [7]));
        }
        assert!(rounds.is_followed);
        rounds.begin_whole();
        assert!(matches!(rounds.scan, Some(Scan::Whole(None))) && !rounds.is_followed);
    }

    #[test]
    fn every_stripe_has_its_turn_once_in_a_patrol() {
        for round in [0, 5 * PATROL_ROUNDS] {
            let turns = (round..round + PATROL_ROUNDS).flat_map(turn);
            assert!(turns.eq(0..256));
        }
    }
}
