//! Going through the stripes that are held here, again and again, for those that may have lost shards ([`super::repair`]).
//!
//! - A round begins 24 times in a patience. It looks at all records when something has changed that may concern any of them: who is lost,
//!   who leaves, where nodes lie. Otherwise it looks at those that came since the last one.
//! - After that it looks at those whose turn it is, which are found without reading others, and one of the holders of each asks about it then
//!   though nothing is known to be wrong ([`crate::repair::patrols`]). Everything has its turn once in [`PATROL_ROUNDS`] by the wall clock, whenever a
//!   node was started: one vault after the other, in the order of names, and of a node that holds little more in fewer rounds. So what is asked
//!   about at once is of one vault and has the same holders, and takes few messages.
//! - Whoever leaves counts all that it holds, in every round.

use super::Peer;
use super::facts::{Facts, Table, decode, key};
use super::repair::Why;
use crate::audit::position;
use crate::id::{StripeId, VaultId};
use crate::record::Record;
use crate::sign::Signed;
use crate::time::{Mono, Now, Period};
use std::collections::BTreeSet;
use std::ops::Range;

/// Records looked at in one go, and at most so many vaults.
const PAGE: usize = 64;
/// Records that came, as far as they are remembered: where more come the next round looks at all.
const FRESH_MAX: usize = 4096;
/// Rounds in which every stripe is asked about once though nothing is known to be wrong: a week at the default patience.
pub(super) const PATROL_ROUNDS: u64 = 168;
/// Stripes that have their turn together, where a turn is that of several rounds: one of their holders asks, so these are some 128 for each.
const TOGETHER: u64 = 768;
/// How many rounds a turn can be that of. Each is a part of the next one, and the last is a patrol.
const TURN_ROUNDS: [u64; 7] = [1, 2, 4, 8, 24, 56, PATROL_ROUNDS];
/// The longest.
const TURN_ROUNDS_MAX: u64 = TURN_ROUNDS[TURN_ROUNDS.len() - 1];

/// Shards of a vault that are counted: more than any node holds.
const SHARDS_MAX: u64 = 1 << 40;

/// How far a round is.
#[derive(Debug)]
enum Scan {
    /// It looks at all records, behind this one.
    Whole(Option<Vec<u8>>),
    /// It looks at those that came; then at those whose turn it is.
    Fresh,
    /// It looks at those whose turn it is, the first ones at the end.
    Turn(Vec<Part>),
}

/// Some of a vault's stripes, by their [`position`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    vault: VaultId,
    from: u64,
    /// Before this one; `None`: all.
    until: Option<u64>,
    /// The last one that was looked at.
    after: Option<StripeId>,
}

/// What is remembered of rounds.
#[derive(Debug)]
pub(super) struct Rounds {
    scan: Option<Scan>,
    /// When the next one begins.
    at: Mono,
    /// Up to which round all had their turn.
    turned: Option<u64>,
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
        Self { scan: None, at: now, turned: None, has_changed: true, fresh, is_followed: false }
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

    /// Begins the turn of this round, where nobody had it yet. After a start what had its turn before in these rounds is left out: it was asked about by
    /// this node, or is by another one in the next cycle.
    fn begin_turn(&mut self, round: u64, held: &[(VaultId, u64)]) {
        // Where the clock was set back far it was another one's.
        let ahead = self.turned.and_then(|end| end.checked_sub(round));
        if ahead.is_some_and(|ahead| (1..=TURN_ROUNDS_MAX).contains(&ahead)) {
            return;
        }
        let mut rounds = turn_of(round, held);
        if self.turned.is_none() {
            rounds.start = round;
        }
        self.turned = Some(rounds.end);
        let mut parts = parts(held, rounds);
        parts.reverse();
        self.scan = (!parts.is_empty()).then_some(Scan::Turn(parts));
    }
}

/// How many shards are held.
fn count(held: &[(VaultId, u64)]) -> u64 {
    held.iter().fold(0, |sum, (_, shards)| sum.saturating_add(*shards))
}

/// The rounds that share the turn of this one.
fn turn_of(round: u64, held: &[(VaultId, u64)]) -> Range<u64> {
    let is_enough = |rounds: &u64| count(held).saturating_mul(*rounds) >= TOGETHER * PATROL_ROUNDS;
    let rounds = TURN_ROUNDS.into_iter().find(is_enough).unwrap_or(TURN_ROUNDS_MAX);
    let first = round - round % rounds;
    first..first.saturating_add(rounds)
}

/// What has its turn in these rounds, of so many shards of each vault.
fn parts(held: &[(VaultId, u64)], rounds: Range<u64>) -> Vec<Part> {
    let (all, first) = (u128::from(count(held)), rounds.start % PATROL_ROUNDS);
    let at = |round: u64| u128::from(round) * all;
    let (from, until) = (at(first), at(first + rounds.end - rounds.start));
    let mut parts = Vec::new();
    let mut before = 0;
    for &(vault, shards) in held.iter().filter(|(_, shards)| *shards > 0) {
        let len = u128::from(shards) * u128::from(PATROL_ROUNDS);
        let within = |at: u128| at.saturating_sub(before).min(len);
        let (begin, end) = (within(from), within(until));
        if begin < end {
            let place = |at: u128| u64::try_from((at << 64) / len).ok();
            let from = place(begin).unwrap_or(u64::MAX);
            parts.push(Part { vault, from, until: place(end), after: None });
        }
        before += len;
    }
    parts
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
        // Of what was cut off the most urgent may be new.
        let is_whole = rounds.has_changed || self.repair.is_cut || self.leaving.is_own();
        if is_whole {
            self.begin_whole_round();
        } else if rounds.fresh.is_empty() {
            self.begin_turn(now);
        } else {
            rounds.scan = Some(Scan::Fresh);
        }
        self.repair.rounds.at = now.mono.after(self.round_period());
        self.repair.faults.forget(self.config.audit_period, now.mono);
        self.forget_taken(now);
    }

    fn begin_turn(&mut self, now: Now) {
        let round = now.wall.0 / self.round_period().0;
        let held: Vec<(VaultId, u64)> = self
            .usage
            .iter()
            .map(|(&vault, usage)| (vault, usage.shards.min(SHARDS_MAX)))
            .collect();
        self.repair.rounds.begin_turn(round, &held);
    }

    /// Looks at some of the records that this round is about.
    pub(super) fn go_on_with_round(&mut self, now: Now, facts: &dyn Facts) {
        match self.repair.rounds.scan.take() {
            None => {}
            Some(Scan::Whole(after)) => self.look_at_all(now, facts, after),
            Some(Scan::Fresh) => self.look_at_fresh(now, facts),
            Some(Scan::Turn(parts)) => self.look_at_turn(now, facts, parts),
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
                self.look_at(now, facts, record, Why::Changed);
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
                } else if !self.leaving.is_own() {
                    self.begin_turn(now);
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
                self.look_at(now, facts, &record, Why::Changed);
            }
        }
        if self.repair.rounds.fresh.is_empty() {
            self.begin_turn(now);
        } else {
            self.repair.rounds.scan = Some(Scan::Fresh);
        }
    }

    fn look_at_turn(&mut self, now: Now, facts: &dyn Facts, mut parts: Vec<Part>) {
        let mut looked_at = 0;
        for _ in 0..PAGE {
            if looked_at >= PAGE {
                break;
            }
            let Some(mut part) = parts.pop() else { break };
            let first = match part.after {
                Some(last) => key(&[&part.vault.0, &last.0]),
                None => key(&[&part.vault.0, &part.from.to_be_bytes()]),
            };
            let Ok(rows) = facts.scan(Table::Record, &part.vault.0, Some(&first), PAGE) else {
                // What cannot be read now is read at the next go.
                parts.push(part);
                break;
            };
            let stripe = |row: &[u8]| row.last_chunk().map(|stripe| StripeId(*stripe));
            let rows_of_part = rows.iter().map_while(|(row, bytes)| {
                let stripe = stripe(row)?;
                part.until.is_none_or(|until| position(stripe) < until).then_some((stripe, bytes))
            });
            let rows_of_part: Vec<(StripeId, &Vec<u8>)> = rows_of_part.collect();
            for (_, bytes) in &rows_of_part {
                if let Some(record) = record_of(bytes) {
                    self.look_at(now, facts, &record, Why::Turn);
                }
            }
            looked_at += rows_of_part.len();
            if rows_of_part.len() == PAGE {
                part.after = rows_of_part.last().map(|(stripe, _)| *stripe);
                parts.push(part);
            }
        }
        self.repair.rounds.scan = (!parts.is_empty()).then_some(Scan::Turn(parts));
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn everything_has_its_turn_once_in_a_patrol(
            shards in prop::collection::vec(prop_oneof![0u64..50, 0u64..100_000, Just(SHARDS_MAX)], 0..20),
            begin in 0u64..10_000,
        ) {
            let held: Vec<(VaultId, u64)> = (0..).map(|n| VaultId([n; 32])).zip(shards).collect();
            let mut rounds = Rounds::new(Mono(0));
            let mut had: Vec<Part> = Vec::new();
            // From the beginning of a patrol to its end.
            let begin = begin * PATROL_ROUNDS;
            for round in begin..begin + PATROL_ROUNDS {
                rounds.scan = None;
                rounds.begin_turn(round, &held);
                match rounds.scan.take() {
                    Some(Scan::Turn(parts)) => had.extend(parts.into_iter().rev()),
                    other => prop_assert!(other.is_none()),
                }
            }
            let mut expected: Vec<VaultId> =
                held.iter().filter(|(_, shards)| *shards > 0).map(|(vault, _)| *vault).collect();
            expected.reverse();
            let (mut vault, mut until) = (None, None);
            for part in had {
                if until.is_none() {
                    // The next vault, from its first stripe on.
                    vault = expected.pop();
                    until = Some(0);
                }
                prop_assert_eq!((Some(part.vault), Some(part.from)), (vault, until));
                until = part.until;
            }
            prop_assert!(until.is_none() && expected.is_empty());
        }

        #[test]
        fn what_has_its_turn_together_is_enough_and_not_too_much(shards in 1u64..SHARDS_MAX, round in 0u64..1000) {
            let held = [(VaultId([1; 32]), shards)];
            let rounds = turn_of(round, &held);
            prop_assert!(rounds.contains(&round));
            let len = rounds.end - rounds.start;
            prop_assert!(PATROL_ROUNDS.is_multiple_of(len) && rounds.start.is_multiple_of(len));
            prop_assert!(len == TURN_ROUNDS_MAX || shards * len >= TOGETHER * PATROL_ROUNDS);
            prop_assert!(len == 1 || shards * len < 3 * TOGETHER * PATROL_ROUNDS);
        }
    }

    #[test]
    fn a_turn_is_begun_once_and_again_where_the_clock_was_set_back() {
        let held = [(VaultId([1; 32]), 100)];
        let mut rounds = Rounds::new(Mono(0));
        let mut begins = |round| {
            rounds.scan = None;
            rounds.begin_turn(round, &held);
            rounds.scan.is_some()
        };
        assert!(begins(840) && !begins(841) && !begins(1007) && begins(1008) && begins(1200));
        assert!(begins(100) && !begins(101));
    }

    #[test]
    fn after_a_start_what_had_its_turn_before_is_left_to_others() {
        let held = [(VaultId([1; 32]), 100)];
        let mut rounds = Rounds::new(Mono(0));
        let mut turn = |round| {
            rounds.scan = None;
            rounds.begin_turn(round, &held);
            match rounds.scan.take() {
                Some(Scan::Turn(parts)) => parts.into_iter().map(|part| part.from).collect(),
                _ => Vec::new(),
            }
        };
        let three_quarters = (3u64 << 62) - 1..=3 << 62;
        assert!(matches!(turn(840 + 126)[..], [from] if three_quarters.contains(&from)));
        assert_eq!(turn(1008 + 5), [0], "the whole turn, though it comes a little late");
    }
}
