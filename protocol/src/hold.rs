//! The panic hold: one guardian freezes all expiry of a vault, for a while that can be renewed.
//!
//! - The span counts on the holder's lock clock, from when the order arrived, and is bounded by [`HOLD_MAX`].
//! - A guardian's orders are numbered, and each counts once: what was said before cannot be said again by somebody else. Those under a longer line of its
//!   keys come after all under a shorter one, so whoever stole a key that was succeeded has used no numbers up. Nor has one order: a number that
//!   lies ahead of the time ends nothing, and is not remembered beyond a day from now.
//! - A guardian ends only its own hold. Another one that was stolen ends nothing.
//! - Every cooldown that runs when a hold begins is void, and no release is accepted until it has ended
//!   ([`crate::life::Life`]).
//!
//! For a shard only the guardians of its own lock count. The stored form is the codec's, a map from guardian to number and
//! end; the lock clock is stored in the same write.

use crate::certificate::CLOCK_SKEW_MAX;
use crate::id::{OperatorId, PublicKey, VaultId};
use crate::lock_clock::LockTime;
use crate::policy::Lock;
use crate::sign::{SignatureError, Signed, Statement};
use crate::succession::{Line, SuccessionError};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest hold that one order makes.
pub const HOLD_MAX: Period = Period::days(30);
/// Most guardians whose orders are kept for one vault: those that it has, and had.
pub const HOLDERS_MAX: usize = 256;

/// A guardian begins, renews or ends its hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldOrder {
    /// Of which vault.
    pub vault: VaultId,
    /// Who.
    pub guardian: OperatorId,
    /// Grows with every order of this guardian for this vault: the time in milliseconds.
    pub number: u64,
    /// For how long; `None` ends it. What is beyond [`HOLD_MAX`] is left away.
    pub period: Option<Period>,
}

impl Statement for HoldOrder {
    const CONTEXT: &'static str = "strewn hold order";
    const LEN_MAX: usize = 128;
    fn signer(&self) -> PublicKey {
        self.guardian.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.guardian)
    }
}

/// Why an order is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is for another vault.
    #[error("the order is for another vault")]
    Vault,
    /// The vault never named this guardian.
    #[error("{0} is no guardian of the vault")]
    NoGuardian(OperatorId),
    /// It was given before, or a later one was.
    #[error("order {found} of the guardian comes after {known}")]
    Old {
        /// The number of the order.
        found: u64,
        /// The last one followed.
        known: u64,
    },
    /// Its number is no time that has come.
    #[error(
        "order {found} of the guardian is numbered more than a day ahead of the time here, {now}, and ends nothing: set the clocks"
    )]
    Ahead {
        /// The number of the order.
        found: u64,
        /// The highest that there can be now, but for a day.
        now: u64,
    },
    /// It was signed with an earlier key than another order, or by somebody else.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// There were too many guardians.
    #[error("{HOLDERS_MAX} guardians have given orders, more are not kept")]
    TooMany,
}

/// The hold of one guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    number: u64,
    /// When it ends, or ended.
    until: LockTime,
}

/// The holds of one vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds(BTreeMap<OperatorId, Hold>);

/// In which circumstances an order comes.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// To whose holder.
    pub vault: VaultId,
    /// All that the vault names or ever named.
    pub guardians: &'a [OperatorId],
    /// Whether it is by a later key than the last order of its guardian ([`is_further`]): then it comes after it, whatever their numbers.
    pub is_further: bool,
    /// When, by the lock clock
    pub at: LockTime,
    /// and by the latest wall clock that is known.
    pub wall: Wall,
}

/// Whether an order was given under a longer line of its guardian's keys than the last one. One under a shorter line is refused, as is one under a line
/// that parts from it.
pub fn is_further(last: &Signed<HoldOrder>, order: &Signed<HoldOrder>) -> Result<bool, HoldError> {
    let line = |signed: &Signed<HoldOrder>| {
        let guardian = signed.verify()?.guardian;
        Ok::<_, SignatureError>(signed.line()?.unwrap_or_else(|| Line::first(guardian)))
    };
    let (last, line) = (line(last)?, line(order)?);
    let is_further = last.is_continued_by(&line)?;
    if line.number() < last.number() {
        let (operator, number) = (last.operator(), last.number());
        return Err(SuccessionError::Succeeded { operator, number }.into());
    }
    Ok(is_further)
}

impl Holds {
    /// Follows an order, if it is one of these guardians'.
    pub fn follow(
        &mut self,
        signed: &Signed<HoldOrder>,
        arrival: &Arrival<'_>,
    ) -> Result<(), HoldError> {
        let order = signed.verify()?;
        let HoldOrder { guardian, number, .. } = order;
        if order.vault != arrival.vault {
            return Err(HoldError::Vault);
        }
        if !arrival.guardians.contains(&guardian) {
            return Err(HoldError::NoGuardian(guardian));
        }
        let known = self.0.get(&guardian).copied();
        if let Some(last) = known.filter(|known| !arrival.is_further && number <= known.number) {
            return Err(HoldError::Old { found: number, known: last.number });
        }
        if known.is_none() && self.0.len() >= HOLDERS_MAX {
            return Err(HoldError::TooMany);
        }
        let latest = arrival.wall.after(CLOCK_SKEW_MAX).0;
        let (before, at) = (known.map_or(LockTime::default(), |known| known.until), arrival.at);
        let until = match order.period {
            Some(period) => before.max(at.after(period.min(HOLD_MAX))),
            None if number > latest => {
                return Err(HoldError::Ahead { found: number, now: arrival.wall.0 });
            }
            None => before.min(at),
        };
        self.0.insert(guardian, Hold { number: number.min(latest), until });
        Ok(())
    }

    /// Whose holds are on, and until when.
    pub fn running(&self, now: LockTime) -> impl Iterator<Item = (OperatorId, LockTime)> + '_ {
        let running = self.0.iter().filter(move |(_, hold)| hold.until >= now);
        running.map(|(guardian, hold)| (*guardian, hold.until))
    }

    /// When the last hold ends, or ended, of those guardians that a lock names.
    #[must_use]
    pub fn end(&self, lock: &Lock) -> Option<LockTime> {
        let guardians = lock.guardians.iter().flat_map(|guardians| &guardians.of);
        guardians.filter_map(|guardian| Some(self.0.get(guardian)?.until)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Guardians;
    use crate::sign::SecretKey;

    const VAULT: VaultId = VaultId([9; 32]);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn guardian(seed: u8) -> OperatorId {
        key(seed).public().into()
    }

    fn lock(of: &[u8]) -> Lock {
        let of = of.iter().map(|&seed| guardian(seed)).collect();
        Lock { guardians: Some(Guardians { need: 1, of }), ..Lock::default() }
    }

    fn order(seed: u8, number: u64, days: Option<u64>) -> Signed<HoldOrder> {
        let period = days.map(Period::days);
        let order = HoldOrder { vault: VAULT, guardian: guardian(seed), number, period };
        Signed::sign(&order, &key(seed))
    }

    fn day(n: u64) -> LockTime {
        LockTime::default().after(Period::days(n))
    }

    const NOW: Wall = Wall(1_800_000_000_000);

    fn arrival(guardians: &[OperatorId], day: u64) -> Arrival<'_> {
        let at = self::day(day);
        Arrival { vault: VAULT, guardians, is_further: false, at, wall: NOW }
    }

    #[test]
    fn a_hold_is_bounded_renewed_and_ended_by_its_own_guardian() {
        let guardians = [guardian(1), guardian(2)];
        let mut holds = Holds::default();
        let mut follow = |order: &Signed<HoldOrder>, now| {
            let followed = holds.follow(order, &arrival(&guardians, now));
            (followed.is_ok(), holds.end(&lock(&[1, 2])))
        };
        assert_eq!(follow(&order(1, 5, Some(20)), 10), (true, Some(day(30))));
        assert_eq!(follow(&order(1, 6, Some(4000)), 12), (true, Some(day(42))));
        // A shorter one does not shorten it, and what was said before is not said again.
        assert_eq!(follow(&order(1, 7, Some(1)), 13), (true, Some(day(42))));
        assert_eq!(follow(&order(1, 6, Some(4000)), 41), (false, Some(day(42))));
        // Another guardian ends nothing.
        assert_eq!(follow(&order(2, 9, None), 20), (true, Some(day(42))));
        assert_eq!(follow(&order(1, 8, None), 21), (true, Some(day(21))));
        assert_eq!(follow(&order(1, 9, None), 23), (true, Some(day(21))));
    }

    #[test]
    fn an_order_from_the_future_ends_nothing_and_is_not_the_last() {
        let guardians = [guardian(1)];
        let mut holds = Holds::default();
        let day_ahead = NOW.0 + CLOCK_SKEW_MAX.0;
        holds.follow(&order(1, u64::MAX, Some(3)), &arrival(&guardians, 0)).unwrap();
        let ended = holds.follow(&order(1, u64::MAX, None), &arrival(&guardians, 0));
        assert_eq!(ended, Err(HoldError::Ahead { found: u64::MAX, now: NOW.0 }));
        assert_eq!(holds.end(&lock(&[1])), Some(day(3)));
        let known = holds.follow(&order(1, day_ahead, Some(9)), &arrival(&guardians, 1));
        assert_eq!(known, Err(HoldError::Old { found: day_ahead, known: day_ahead }));
        let later = Arrival { wall: Wall(NOW.0 + 1), ..arrival(&guardians, 1) };
        holds.follow(&order(1, day_ahead + 1, None), &later).unwrap();
        assert_eq!(holds.end(&lock(&[1])), Some(day(1)));
    }

    #[test]
    fn only_the_guardians_of_a_lock_hold_it() {
        let guardians = [guardian(1), guardian(2)];
        let mut holds = Holds::default();
        holds.follow(&order(1, 1, Some(3)), &arrival(&guardians, 0)).unwrap();
        assert_eq!(holds.end(&lock(&[1, 2])), Some(day(3)));
        assert_eq!(holds.end(&lock(&[2])), None);
        assert_eq!(holds.end(&Lock::default()), None);
        let stranger = holds.follow(&order(3, 1, Some(3)), &arrival(&guardians, 0));
        assert_eq!(stranger, Err(HoldError::NoGuardian(guardian(3))));
        let there = Arrival { vault: VaultId([8; 32]), ..arrival(&guardians, 0) };
        let elsewhere = holds.follow(&order(1, 2, Some(3)), &there);
        assert_eq!(elsewhere, Err(HoldError::Vault));
    }
}
