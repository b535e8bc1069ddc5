//! What two operators swap: how much each holds for the other, from when, for how long, with what notice, and the longest lock.
//!
//! ```text
//! first ──signs──► Agreement          second ──signs──► Acceptance { the signed agreement }
//! ```
//! The signed acceptance is the document: one statement with both signatures in it, so that both sides hold the same bytes. A change is
//! a further version, signed by both again; either may propose it. Where two versions cross on their way, each side takes the
//! same one ([`supersedes`]). Time is the wall clock's, as for certificates: nothing that is held depends on it, only what is
//! taken anew.

use crate::certificate::{CLOCK_SKEW_MAX, is_next_version};
use crate::id::{OperatorId, PublicKey};
use crate::label::{Labels, Site};
use crate::life::{LifeError, check_bounds};
use crate::policy::Lock;
use crate::sign::{SignatureError, Signed, Statement};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};

/// Most bytes that one side gives: sums of shares stay far from overflowing.
pub const BYTES_MAX: u64 = 1 << 60;
/// Shortest and longest term.
pub const TERM: [Period; 2] = [Period::days(1), Period::days(100 * 365)];
/// The longest lock that an agreement can allow.
pub const LOCK_MAX: Period = Period::days(100 * 365);

/// What one side brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Who.
    pub operator: OperatorId,
    /// Bytes of shards that it holds for the other side's vaults.
    pub gives: u64,
    /// Labels that the nodes have on which it holds them.
    pub labels: Labels,
}

/// Two operators' swap, as the first one proposes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Who proposes.
    pub first: Side,
    /// Who is to accept.
    pub second: Side,
    /// Grows with every change, 1 at first.
    pub version: u64,
    /// From when on it counts.
    pub start: Wall,
    /// For how long.
    pub term: Period,
    /// How long before its end whoever leaves says so.
    pub notice: Period,
    /// The longest lock, and the longest cooldown, that either side promises the other.
    pub lock_max: Period,
}

impl Statement for Agreement {
    const CONTEXT: &'static str = "strewn agreement";
    const LEN_MAX: usize = 8 << 10;
    fn signer(&self) -> PublicKey {
        self.first.operator.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.first.operator)
    }
}

/// The second side agrees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Who accepts.
    pub operator: OperatorId,
    /// What.
    pub agreement: Signed<Agreement>,
}

impl Statement for Acceptance {
    const CONTEXT: &'static str = "strewn agreement acceptance";
    const LEN_MAX: usize = 18 << 10;
    fn signer(&self) -> PublicKey {
        self.operator.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.operator)
    }
}

/// Why an agreement does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgreementError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is not between these two.
    #[error("the agreement is between others: {0} and {1}")]
    Others(OperatorId, OperatorId),
    /// It is accepted by somebody else than its second side.
    #[error("the agreement is accepted by {0}, who is not its second side")]
    Accepter(OperatorId),
    /// It cannot be meant.
    #[error("the agreement cannot be meant: {0}")]
    Meaning(&'static str),
    /// It is not the next version.
    #[error("version {found} of the agreement does not follow version {known}")]
    Version {
        /// Its version.
        found: u64,
        /// The one that counts now; 0 for none.
        known: u64,
    },
    /// It does not allow so long a lock.
    #[error("the agreement does not allow it: {0}")]
    Lock(#[from] LifeError),
    /// It does not count yet.
    #[error("the agreement begins later")]
    NotYet,
    /// It does not count any more.
    #[error("the agreement has ended")]
    Ended,
}

impl Agreement {
    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), AgreementError> {
        let wrong = if self.first.operator == self.second.operator {
            "both sides are the same operator"
        } else if self.first.gives == 0 && self.second.gives == 0 {
            "neither side gives anything"
        } else if self.first.gives.max(self.second.gives) > BYTES_MAX {
            "more bytes than there are"
        } else if self.version == 0 {
            "versions begin at 1"
        } else if self.term < TERM[0] || self.term > TERM[1] {
            "its term is shorter than a day or longer than a hundred years"
        } else if self.notice > self.term {
            "its notice is longer than its term"
        } else if self.lock_max > LOCK_MAX {
            "its longest lock is longer than a hundred years"
        } else {
            return Ok(());
        };
        Err(AgreementError::Meaning(wrong))
    }

    /// Verifies a proposal.
    pub fn verify(signed: &Signed<Self>) -> Result<Self, AgreementError> {
        let agreement = signed.verify()?;
        agreement.check()?;
        Ok(agreement)
    }

    /// Refuses one that is not between these two.
    pub fn check_between(&self, one: OperatorId, other: OperatorId) -> Result<(), AgreementError> {
        let sides = (self.first.operator, self.second.operator);
        if sides == (one, other) || sides == (other, one) {
            Ok(())
        } else {
            Err(AgreementError::Others(sides.0, sides.1))
        }
    }

    /// Refuses a version that does not follow the one that counts now.
    pub fn check_next(&self, known: Option<u64>) -> Result<(), AgreementError> {
        let (known, found) = (known.unwrap_or(0), self.version);
        if is_next_version(known, found) {
            Ok(())
        } else {
            Err(AgreementError::Version { found, known })
        }
    }

    /// What an operator brings; `None` when it is neither side.
    #[must_use]
    pub fn side(&self, operator: OperatorId) -> Option<&Side> {
        [&self.first, &self.second].into_iter().find(|side| side.operator == operator)
    }

    /// How a node differs from the labels that its operator promised, in words; `None` when it does not, or nothing was promised.
    #[must_use]
    pub fn contradicted_by(&self, site: &Site) -> Option<String> {
        let promised = &self.side(site.operator)?.labels;
        let differing: Vec<String> = promised
            .iter()
            .filter(|(level, name)| site.labels.get(level) != Some(name))
            .map(|(level, name)| match site.labels.get(level) {
                Some(stated) => format!("{level}={stated}, and {name} was agreed"),
                None => format!("no {level}, and {name} was agreed"),
            })
            .collect();
        (!differing.is_empty()).then(|| format!("it states {}", differing.join("; ")))
    }

    /// Refuses a lock, or a cooldown, that is longer than either side promises the other. What holders ask of what arrives, and owners
    /// before they send it.
    pub fn check_lock(&self, lock: &Lock) -> Result<(), AgreementError> {
        Ok(check_bounds(lock, self.lock_max)?)
    }

    /// When it ends.
    #[must_use]
    pub fn end(&self) -> Wall {
        self.start.after(self.term)
    }

    /// Refuses what lies before its start, as far as clocks may differ, or behind its end.
    pub fn check_time(&self, now: Wall) -> Result<(), AgreementError> {
        if self.start > now.after(CLOCK_SKEW_MAX) {
            Err(AgreementError::NotYet)
        } else if now >= self.end() {
            Err(AgreementError::Ended)
        } else {
            Ok(())
        }
    }
}

impl Acceptance {
    /// Verifies both signatures, and gives what was agreed. Between whom it has to be is for the caller to check.
    pub fn verify(signed: &Signed<Self>) -> Result<Agreement, AgreementError> {
        let acceptance = signed.verify()?;
        let agreement = Agreement::verify(&acceptance.agreement)?;
        if acceptance.operator != agreement.second.operator {
            return Err(AgreementError::Accepter(acceptance.operator));
        }
        Ok(agreement)
    }
}

/// Whether a document takes the place of another one between the same two. The higher version does; of two with one version, which
/// cross when both sides propose at once, the one with the higher hash, so that both sides end with the same.
pub fn supersedes(
    new: &Signed<Acceptance>,
    known: &Signed<Acceptance>,
) -> Result<bool, AgreementError> {
    let rank = |signed: &Signed<Acceptance>| -> Result<_, AgreementError> {
        Ok((Acceptance::verify(signed)?.version, signed.digest()))
    };
    Ok(rank(new)? > rank(known)?)
}

/// The part of `bytes` that one of `parts` holders has: equal parts, the first ones a byte larger where that does not divide. The parts of
/// all are `bytes` together.
#[must_use]
pub fn share(bytes: u64, place: usize, parts: usize) -> u64 {
    let parts = parts as u64;
    let rest = bytes.checked_rem(parts).unwrap_or(0);
    bytes.checked_div(parts).unwrap_or(0) + u64::from((place as u64) < rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::SecretKey;
    use proptest::prelude::*;

    const NOW: Wall = Wall(1_800_000_000_000);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn side(seed: u8, gives: u64) -> Side {
        Side { operator: key(seed).public().into(), gives, labels: Labels::default() }
    }

    fn agreement() -> Agreement {
        Agreement {
            first: side(1, 500 << 30),
            second: side(2, 400 << 30),
            version: 1,
            start: NOW,
            term: Period::days(365),
            notice: Period::days(30),
            lock_max: Period::days(90),
        }
    }

    fn accepted(agreement: &Agreement, first: u8, second: u8) -> Signed<Acceptance> {
        let acceptance = Acceptance {
            operator: key(second).public().into(),
            agreement: Signed::sign(agreement, &key(first)),
        };
        Signed::sign(&acceptance, &key(second))
    }

    #[test]
    fn it_counts_with_the_signatures_of_both_sides_alone() {
        let good = agreement();
        assert_eq!(Acceptance::verify(&accepted(&good, 1, 2)), Ok(good.clone()));
        let other = Acceptance::verify(&accepted(&good, 1, 3));
        assert!(matches!(other, Err(AgreementError::Accepter(_))), "{other:?}");
        // The first side accepts its own proposal.
        let alone = Acceptance::verify(&accepted(&good, 1, 1));
        assert!(matches!(alone, Err(AgreementError::Accepter(_))), "{alone:?}");
        assert!(good.check_between(side(2, 0).operator, side(1, 0).operator).is_ok());
        assert!(good.check_between(side(2, 0).operator, side(3, 0).operator).is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let change = |change: fn(&mut Agreement)| {
            let mut agreement = agreement();
            change(&mut agreement);
            agreement.check()
        };
        assert_eq!(change(|_| {}), Ok(()));
        assert_eq!(change(|a| a.first.gives = 0), Ok(()), "one side may give alone");
        let wrong: [fn(&mut Agreement); 8] = [
            |a| a.second.operator = a.first.operator,
            |a| (a.first.gives, a.second.gives) = (0, 0),
            |a| a.second.gives = BYTES_MAX + 1,
            |a| a.version = 0,
            |a| a.term = Period::days(0),
            |a| a.term = Period(u64::MAX),
            |a| a.notice = Period::days(366),
            |a| a.lock_max = Period(LOCK_MAX.0 + 1),
        ];
        for (number, wrong) in wrong.into_iter().enumerate() {
            let checked = change(wrong);
            assert!(matches!(checked, Err(AgreementError::Meaning(_))), "{number}: {checked:?}");
        }
    }

    #[test]
    fn it_counts_from_its_start_to_its_end() {
        let agreement = agreement();
        let at = |wall: u64| agreement.check_time(Wall(wall));
        assert_eq!(at(NOW.0 - 2 * CLOCK_SKEW_MAX.0), Err(AgreementError::NotYet));
        assert_eq!(at(NOW.0), Ok(()));
        assert_eq!(at(agreement.end().0 - 1), Ok(()));
        assert_eq!(at(agreement.end().0), Err(AgreementError::Ended));
    }

    #[test]
    fn it_allows_locks_and_cooldowns_up_to_its_longest() {
        let agreement = agreement();
        let check = |period, release_cooldown| {
            agreement.check_lock(&Lock { period, release_cooldown, ..Lock::default() })
        };
        let longest = agreement.lock_max;
        assert_eq!(check(longest, longest), Ok(()));
        let longer = Period(longest.0 + 1);
        for (period, cooldown) in [(longer, longest), (longest, longer)] {
            assert!(matches!(check(period, cooldown), Err(AgreementError::Lock(_))));
        }
    }

    #[test]
    fn a_change_is_the_next_version() {
        let of = |version| Agreement { version, ..agreement() };
        assert_eq!(of(1).check_next(None), Ok(()));
        assert_eq!(of(2).check_next(Some(1)), Ok(()));
        for (version, known) in [(1, Some(1)), (1, Some(2)), (u64::MAX, Some(1)), (u64::MAX, None)]
        {
            let checked = of(version).check_next(known);
            assert!(matches!(checked, Err(AgreementError::Version { .. })), "{checked:?}");
        }
    }

    #[test]
    fn a_node_that_lies_elsewhere_than_agreed_contradicts_it() {
        let mut agreement = agreement();
        agreement.second.labels =
            Labels::new(["provider=hetzner".parse().unwrap(), "region=fsn1".parse().unwrap()])
                .unwrap();
        let of = |seed: u8, labels: &str| {
            let site = Site { operator: side(seed, 0).operator, ..Site::stating(1, labels) };
            agreement.contradicted_by(&site)
        };
        assert_eq!(of(2, "provider=hetzner region=fsn1 account=7"), None);
        assert_eq!(of(1, "provider=aws"), None, "nothing was promised of these");
        assert_eq!(of(9, "provider=aws"), None, "neither side");
        assert_eq!(
            of(2, "provider=aws").as_deref(),
            Some("it states provider=aws, and hetzner was agreed; no region, and fsn1 was agreed")
        );
    }

    #[test]
    fn of_two_that_cross_both_sides_take_the_same() {
        let one = accepted(&agreement(), 1, 2);
        let turned = Agreement { first: side(2, 1), second: side(1, 2), ..agreement() };
        let other = accepted(&turned, 2, 1);
        assert_ne!(supersedes(&one, &other), supersedes(&other, &one));
        assert_eq!(supersedes(&one, &one), Ok(false));
        let next = accepted(&Agreement { version: 2, ..agreement() }, 1, 2);
        assert_eq!(supersedes(&next, &one), Ok(true));
        assert_eq!(supersedes(&next, &other), Ok(true));
        assert_eq!(supersedes(&one, &next), Ok(false));
    }

    proptest! {
        #[test]
        fn shares_are_all_that_is_given_and_no_more(bytes in 0..=BYTES_MAX, parts in 1usize..300) {
            let shares: Vec<u64> = (0..parts).map(|place| share(bytes, place, parts)).collect();
            prop_assert_eq!(shares.iter().sum::<u64>(), bytes);
            prop_assert!(shares[0] - shares[parts - 1] <= 1);
            prop_assert_eq!(share(bytes, 0, 0), 0);
        }

        #[test]
        fn any_flipped_bit_is_noticed(bit in any::<usize>()) {
            let mut bytes = accepted(&agreement(), 1, 2).to_bytes();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = Signed::<Acceptance>::from_bytes(&bytes);
            let verified = read.is_ok_and(|signed| Acceptance::verify(&signed).is_ok());
            prop_assert!(!verified);
        }

        #[test]
        fn what_is_agreed_is_read_as_it_was_written(
            gives in 0..=BYTES_MAX,
            takes in 1..=BYTES_MAX,
            version in 1u64..,
            start: u64,
            days in 1u64..36_500,
            lock in 0..=LOCK_MAX.0,
        ) {
            let written = Agreement {
                first: side(1, gives),
                second: side(2, takes),
                version,
                start: Wall(start),
                term: Period::days(days),
                notice: Period::days(days / 2),
                lock_max: Period(lock),
            };
            let signed = accepted(&written, 1, 2);
            let read = Signed::from_bytes(&signed.to_bytes()).unwrap();
            prop_assert_eq!(&read, &signed);
            prop_assert_eq!(Acceptance::verify(&read), Ok(written));
        }

        #[test]
        fn a_proposal_is_read_or_refused_and_never_panics(bytes: Vec<u8>) {
            let _ = Signed::<Acceptance>::from_bytes(&bytes).map(|signed| Acceptance::verify(&signed));
        }
    }
}
