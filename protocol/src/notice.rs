//! How a swap ends before its term: a side gives notice, or breaks its part.
//!
//! ```text
//! leaver ──signs──► Notice { of which version of the agreement, given when }        both sides hold it
//! ```
//! - After the agreement's notice nothing new is taken under it, on either side. Until then what lies with the other side is moved off,
//!   while it is still there. A later version of the agreement, with both signatures, takes a notice back. Whoever gives it writes down when:
//!   a node that hears of it more than a day after that counts from then on, so that nobody ends an agreement at once by a date that is long past.
//! - A partner *breaks its part* when more shards of what is held here were shown not to be there than a bad disk explains, or when all
//!   of its nodes are lost. From then on nothing new is put there; after the notice what lies there is moved off. Whoever heals is free
//!   again a day later: it is a rule for data, and no verdict about anybody.

use crate::agreement::Agreement;
use crate::certificate::CLOCK_SKEW_MAX;
use crate::id::{OperatorId, PublicKey};
use crate::lock_clock::LockTime;
use crate::message::PartnerStanding;
use crate::sign::{SignatureError, Signed, Statement};
use crate::time::{Mono, Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// So many shards that a partner was shown not to have, of the stripes that are held here, are borne: repair makes them good.
pub const FAULTS_BORNE: usize = 8;
/// For so long a partner has to be well again before it is free. What a restart of this node forgets is found out again within it.
pub const HEALING: Period = Period::days(1);

/// One side of an agreement ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Who.
    pub leaver: OperatorId,
    /// With whom it was agreed.
    pub other: OperatorId,
    /// Which version of the agreement.
    pub version: u64,
    /// When.
    pub given: Wall,
}

impl Statement for Notice {
    const CONTEXT: &'static str = "strewn agreement notice";
    const LEN_MAX: usize = 256;
    fn signer(&self) -> PublicKey {
        self.leaver.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.leaver)
    }
}

/// Why a notice does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Nobody leaves itself.
    #[error("the notice is to its own operator")]
    Own,
    /// It is from later.
    #[error("the notice was given at a moment that lies ahead")]
    Early,
}

impl Notice {
    /// Verifies a notice.
    pub fn verify(signed: &Signed<Self>, now: Wall) -> Result<Self, NoticeError> {
        let notice = signed.verify()?;
        if notice.leaver == notice.other {
            return Err(NoticeError::Own);
        }
        if notice.given > now.after(CLOCK_SKEW_MAX) {
            return Err(NoticeError::Early);
        }
        Ok(notice)
    }

    /// Whether it ends this agreement: one of its version, and given when that had begun. Who removes a partner and adds it again
    /// begins with version 1 again, and an old notice is not about that.
    #[must_use]
    pub fn concerns(&self, agreement: &Agreement) -> bool {
        self.version == agreement.version && self.given.after(CLOCK_SKEW_MAX) >= agreement.start
    }

    /// When an agreement ends by it for a node that has it since then.
    #[must_use]
    pub fn end(&self, agreement: &Agreement, received: Wall) -> Wall {
        let is_late = received > self.given.after(CLOCK_SKEW_MAX);
        let from = if is_late { received } else { self.given };
        from.after(agreement.notice)
    }

    /// The other side, seen from this one; `None` when it is none of its business.
    #[must_use]
    pub fn across(&self, own: OperatorId) -> Option<OperatorId> {
        match (self.leaver == own, self.other == own) {
            (true, _) => Some(self.other),
            (_, true) => Some(self.leaver),
            _ => None,
        }
    }
}

/// A notice as a node keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeRow {
    /// It.
    pub notice: Signed<Notice>,
    /// When the node received it first.
    pub received: Wall,
}

/// How a partner broke its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It was shown not to have shards that it promised.
    Unproved,
    /// All of its nodes have been silent for longer than the patience.
    Absent,
}

/// What one node sees of a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Nodes of it that are known,
    pub nodes: usize,
    /// of these, the lost ones,
    pub lost: usize,
    /// and those that were heard since this node's start.
    pub heard: usize,
    /// Shards of stripes held here that it was shown not to have.
    pub unproved: usize,
}

/// Since when a partner breaks its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// How.
    pub cause: Cause,
    /// By the lock clock: a wall clock that is set forward moves nothing.
    pub since: LockTime,
}

/// What came of looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing new.
    None,
    /// It breaks its part now.
    Breaks(Breach),
    /// It is free again.
    Heals,
}

/// What is remembered of a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conduct {
    /// Since when it breaks its part, if it does.
    pub breach: Option<Breach>,
    /// Since when it has been well meanwhile.
    well: Option<Mono>,
}

impl Conduct {
    /// As it was stored.
    #[must_use]
    pub fn stored(breach: Breach) -> Self {
        Self { breach: Some(breach), well: None }
    }

    /// Looks at what is seen now.
    pub fn see(&mut self, seen: &Seen, at: LockTime, now: Mono) -> Step {
        let cause = if seen.unproved > FAULTS_BORNE {
            Some(Cause::Unproved)
        } else if seen.nodes > 0 && seen.lost == seen.nodes {
            Some(Cause::Absent)
        } else {
            None
        };
        match (cause, self.breach) {
            (Some(cause), None) => {
                let breach = Breach { cause, since: at };
                (self.breach, self.well) = (Some(breach), None);
                Step::Breaks(breach)
            }
            // After a restart nobody is lost: that says nothing before somebody was heard.
            (None, Some(_)) if seen.heard > 0 => {
                let since = *self.well.get_or_insert(now);
                if now < since.after(HEALING) {
                    return Step::None;
                }
                *self = Self::default();
                Step::Heals
            }
            _ => {
                self.well = None;
                Step::None
            }
        }
    }
}

/// With which operators nothing new is put, by what the nodes of this one say of partners: most of them say that one breaks its part, or
/// show a notice by which one of these agreements has ended. So no own node alone, in somebody else's hands, shuts out whom it likes: when a notice came it
/// alone would know, and whoever stole a key of either side could date one as he likes.
#[must_use]
pub fn avoided(
    own: OperatorId,
    said: &[Vec<PartnerStanding>],
    agreements: &[Agreement],
    now: Wall,
) -> BTreeSet<OperatorId> {
    let is_ended = |standing: &PartnerStanding| {
        let operator = standing.operator;
        let is_theirs = |agreement: &&Agreement| {
            agreement.side(own).is_some() && agreement.side(operator).is_some()
        };
        let ends = |notice: &Notice, agreement: &Agreement| {
            notice.concerns(agreement) && notice.end(agreement, notice.given) <= now
        };
        let is_shown = |signed: &Signed<Notice>| {
            Notice::verify(signed, now).is_ok_and(|notice| {
                notice.across(own) == Some(operator)
                    && agreements.iter().filter(is_theirs).any(|of| ends(&notice, of))
            })
        };
        standing.is_over && standing.notices.iter().any(is_shown)
    };
    let is_frozen = |standing: &PartnerStanding| standing.frozen.is_some();
    let by_most = |is_so: &dyn Fn(&PartnerStanding) -> bool| {
        let mut nodes: BTreeMap<OperatorId, usize> = BTreeMap::new();
        for of_node in said {
            let by_node: BTreeSet<OperatorId> =
                of_node.iter().filter(|said| is_so(said)).map(|said| said.operator).collect();
            for operator in by_node {
                *nodes.entry(operator).or_default() += 1;
            }
        }
        nodes.into_iter().filter(|(_, nodes)| 2 * nodes > said.len()).map(|(operator, _)| operator)
    };
    let mut avoided: BTreeSet<OperatorId> = by_most(&is_frozen).chain(by_most(&is_ended)).collect();
    avoided.remove(&own);
    avoided
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::Side;
    use crate::label::Labels;
    use crate::message::Frozen;
    use crate::sign::SecretKey;
    use proptest::prelude::*;

    const HOUR: u64 = 3_600_000;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn operator(seed: u8) -> OperatorId {
        key(seed).public().into()
    }

    fn seen(unproved: usize, lost: usize) -> Seen {
        Seen { nodes: 2, lost, heard: 2 - lost, unproved }
    }

    #[test]
    fn one_own_node_alone_shuts_nobody_out() {
        let now = Wall(1_800_000_000_000);
        let standing = |frozen: bool, notices: Vec<Signed<Notice>>| PartnerStanding {
            operator: operator(2),
            frozen: frozen.then_some(Frozen {
                cause: Cause::Absent,
                ago: Period(0),
                moves_in: None,
            }),
            is_over: !notices.is_empty(),
            notices,
            ends: None,
            vaults: Vec::new(),
            waiting: 0,
            stuck: 0,
            is_counted: true,
            per_second: None,
        };
        let side = |of: u8| Side { operator: operator(of), gives: 1, labels: Labels::default() };
        let month = Period::days(30);
        let agreement = Agreement {
            first: side(1),
            second: side(2),
            version: 2,
            start: Wall(now.0 - 3 * month.0),
            term: Period::days(365),
            notice: month,
            lock_max: Period::days(90),
        };
        let agreements = [agreement];
        let avoided = |said: &[Vec<PartnerStanding>]| avoided(operator(1), said, &agreements, now);
        let says = |frozen: [bool; 3]| {
            let said: Vec<_> = frozen.iter().map(|f| vec![standing(*f, Vec::new())]).collect();
            avoided(&said).contains(&operator(2))
        };
        assert!(!says([true, false, false]) && says([true, true, false]));
        let thrice = vec![vec![standing(true, Vec::new()); 3], Vec::new(), Vec::new()];
        assert!(avoided(&thrice).is_empty(), "however often it says so");
        let shows = |leaver: u8, other: u8, version: u64, given: Wall| {
            let notice =
                Notice { leaver: operator(leaver), other: operator(other), version, given };
            let shown = vec![standing(false, vec![Signed::sign(&notice, &key(leaver))])];
            let alone = [shown.clone(), vec![standing(false, Vec::new())], Vec::new()];
            assert!(avoided(&alone).is_empty(), "whenever it is dated");
            avoided(&[shown.clone(), shown, Vec::new()]).contains(&operator(2))
        };
        let given = Wall(now.0 - month.0);
        assert!(shows(1, 2, 2, given) && shows(2, 1, 2, given));
        assert!(!shows(3, 2, 2, given), "somebody else's notice ends nothing here");
        assert!(!shows(1, 2, 1, given), "it was of the version before");
        assert!(!shows(1, 2, 2, Wall(given.0 + 1)), "it runs still");
        assert!(!shows(1, 2, 2, Wall(now.0 - 9 * month.0)), "it is older than what was agreed");
    }

    #[test]
    fn a_notice_that_comes_late_begins_when_it_comes() {
        let side = |of: u8| Side { operator: operator(of), gives: 1, labels: Labels::default() };
        let agreement = Agreement {
            first: side(1),
            second: side(2),
            version: 1,
            start: Wall(0),
            term: Period::days(365),
            notice: Period::days(30),
            lock_max: Period::days(90),
        };
        let given = Wall(100 * 24 * HOUR);
        let notice = Notice { leaver: operator(1), other: operator(2), version: 1, given };
        let end = |received: Wall| notice.end(&agreement, received);
        let days = |days: u64| given.after(Period::days(days));
        assert_eq!([end(given), end(days(1)), end(Wall(0))], [days(30); 3]);
        assert_eq!(end(days(200)), days(230), "a date that is long past ends nothing at once");
    }

    #[test]
    fn a_few_lost_files_are_borne_and_who_heals_is_free_a_day_later() {
        let mut conduct = Conduct::default();
        let mut see =
            |what: Seen, hour: u64| conduct.see(&what, LockTime(hour * HOUR), Mono(hour * HOUR));
        assert_eq!(see(seen(FAULTS_BORNE, 1), 0), Step::None);
        let breach = Breach { cause: Cause::Unproved, since: LockTime(HOUR) };
        assert_eq!(see(seen(FAULTS_BORNE + 1, 0), 1), Step::Breaks(breach));
        assert_eq!(see(seen(100, 2), 2), Step::None, "it is known");
        assert_eq!(see(seen(0, 0), 3), Step::None);
        assert_eq!(see(seen(9, 0), 26), Step::None, "it was not well for a day");
        assert_eq!(see(seen(0, 0), 27), Step::None);
        assert_eq!(see(seen(0, 0), 50), Step::None);
        assert_eq!(see(seen(0, 0), 51), Step::Heals);
        assert_eq!(see(seen(0, 0), 52), Step::None);
        let breach = Breach { cause: Cause::Absent, since: LockTime(53 * HOUR) };
        assert_eq!(see(seen(0, 2), 53), Step::Breaks(breach));
    }

    #[test]
    fn a_restart_makes_nobody_well() {
        let breach = Breach { cause: Cause::Absent, since: LockTime(7) };
        let mut conduct = Conduct::stored(breach);
        let unheard = Seen { nodes: 2, lost: 0, heard: 0, unproved: 0 };
        for day in 0..10 {
            assert_eq!(conduct.see(&unheard, LockTime(9), Mono(day * 24 * HOUR)), Step::None);
        }
        assert_eq!(conduct.breach, Some(breach));
        let strangers = Seen::default();
        assert_eq!(Conduct::default().see(&strangers, LockTime(9), Mono(0)), Step::None);
    }

    #[test]
    fn a_notice_is_given_by_one_side_to_the_other() {
        let now = Wall(1_800_000_000_000);
        let notice = |leaver, other, given| {
            let notice =
                Notice { leaver: operator(leaver), other: operator(other), version: 1, given };
            Notice::verify(&Signed::sign(&notice, &key(leaver)), now)
        };
        let given = notice(1, 2, now).unwrap();
        assert_eq!(given.across(operator(1)), Some(operator(2)));
        assert_eq!(given.across(operator(2)), Some(operator(1)));
        assert_eq!(given.across(operator(3)), None);
        assert_eq!(notice(1, 1, now), Err(NoticeError::Own));
        assert_eq!(notice(1, 2, now.after(Period::days(2))), Err(NoticeError::Early));
    }

    proptest! {
        #[test]
        fn notices_are_read_or_refused_and_never_panic(bytes: Vec<u8>) {
            let read = Signed::<Notice>::from_bytes(&bytes);
            let _ = read.map(|signed| Notice::verify(&signed, Wall(0)));
        }
    }
}
