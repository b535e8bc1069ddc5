//! The panic hold: one guardian freezes all expiry of a vault, for a while that can be renewed.
//!
//! - The span counts on the holder's lock clock, from when the order arrived, and is bounded by [`HOLD_MAX`].
//! - A guardian's orders are numbered, and each counts once: what was said before cannot be said again by somebody else.
//! - A guardian ends only its own hold. Another one that was stolen ends nothing.
//! - Every cooldown that runs when a hold begins is void, and no release is accepted until it has ended
//!   ([`crate::life::Life`]).
//!
//! For a shard only the guardians of its own lock count. The stored form is the codec's, a map from guardian to number and
//! end; the lock clock is stored in the same write.

use crate::id::{OperatorId, PublicKey, VaultId};
use crate::lock_clock::LockTime;
use crate::policy::Lock;
use crate::sign::{SignatureError, Signed, Statement};
use crate::time::Period;
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
    /// Grows with every order of this guardian for this vault; the time in milliseconds will do.
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

impl Holds {
    /// Follows an order that arrived at `now`, if it is one of these guardians': all that the vault names or ever named.
    pub fn follow(
        &mut self,
        order: &Signed<HoldOrder>,
        vault: VaultId,
        guardians: &[OperatorId],
        now: LockTime,
    ) -> Result<(), HoldError> {
        let order = order.verify()?;
        let HoldOrder { guardian, number, .. } = order;
        if order.vault != vault {
            return Err(HoldError::Vault);
        }
        if !guardians.contains(&guardian) {
            return Err(HoldError::NoGuardian(guardian));
        }
        let known = self.0.get(&guardian).copied();
        if let Some(known) = known.filter(|known| number <= known.number) {
            return Err(HoldError::Old { found: number, known: known.number });
        }
        if known.is_none() && self.0.len() >= HOLDERS_MAX {
            return Err(HoldError::TooMany);
        }
        let before = known.map_or(LockTime::default(), |known| known.until);
        let until = match order.period {
            Some(period) => before.max(now.after(period.min(HOLD_MAX))),
            None => before.min(now),
        };
        self.0.insert(guardian, Hold { number, until });
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

    #[test]
    fn a_hold_is_bounded_renewed_and_ended_by_its_own_guardian() {
        let guardians = [guardian(1), guardian(2)];
        let mut holds = Holds::default();
        let mut follow = |order: &Signed<HoldOrder>, now| {
            let followed = holds.follow(order, VAULT, &guardians, day(now));
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
    fn only_the_guardians_of_a_lock_hold_it() {
        let guardians = [guardian(1), guardian(2)];
        let mut holds = Holds::default();
        holds.follow(&order(1, 1, Some(3)), VAULT, &guardians, day(0)).unwrap();
        assert_eq!(holds.end(&lock(&[1, 2])), Some(day(3)));
        assert_eq!(holds.end(&lock(&[2])), None);
        assert_eq!(holds.end(&Lock::default()), None);
        let stranger = holds.follow(&order(3, 1, Some(3)), VAULT, &guardians, day(0));
        assert_eq!(stranger, Err(HoldError::NoGuardian(guardian(3))));
        let elsewhere = holds.follow(&order(1, 2, Some(3)), VaultId([8; 32]), &guardians, day(0));
        assert_eq!(elsewhere, Err(HoldError::Vault));
    }
}
