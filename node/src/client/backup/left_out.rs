//! Why a policy cannot be met, as far as partners are the reason: what they do not promise, and what they have no room for. A holder
//! would refuse it as well, shard by shard, when others have theirs already.

use crate::client::ClientError;
use crate::size::ByteSize;
use protocol::agreement::{Agreement, AgreementError};
use protocol::id::OperatorId;
use protocol::pack::PACK_LEN_MAX;
use protocol::placement::{Candidate, Unplaceable};
use protocol::policy::Lock;
use protocol::time::Wall;
use std::collections::BTreeMap;
use std::fmt;

/// Whose node has less room than that, for one shard of a large pack at any code, is nearly full.
const NEARLY_FULL: u64 = PACK_LEN_MAX as u64;

/// What a partner does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The agreement does not allow what the policy asks for, or does not count now.
    Agreement(AgreementError),
    /// Nothing is agreed.
    Nothing,
    /// It breaks its part, or what was agreed has ended by notice.
    Avoided,
    /// Little is left of what it gives.
    Room {
        /// Bytes that it gives,
        gives: u64,
        /// and those that its nodes have left, of those that answer.
        left: u64,
    },
}

/// A partner that is a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name here.
    pub partner: String,
    /// What it does not give.
    pub reason: Reason,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partner = &self.partner;
        match &self.reason {
            Reason::Agreement(error) => write!(f, "{partner} is left out: {error}"),
            Reason::Nothing => write!(f, "{partner} is left out: nothing is agreed with it"),
            Reason::Avoided => {
                write!(f, "{partner} is left out: it breaks its part, or its notice is over")
            }
            Reason::Room { gives, left } => {
                let (gives, left) = (ByteSize(*gives), ByteSize(*left));
                write!(f, "{partner} gives {gives}, of which {left} are left")
            }
        }
    }
}

impl LeftOut {
    /// What to do about it.
    #[must_use]
    pub fn next(&self) -> Option<String> {
        let partner = &self.partner;
        match &self.reason {
            Reason::Agreement(AgreementError::Lock(_)) => Some(format!(
                "agree on longer locks (`strewn partner propose {partner} … --max-lock TIME`), or make a vault whose policy asks for less"
            )),
            Reason::Agreement(_) | Reason::Nothing => {
                Some(format!("agree on something: `strewn partner propose {partner} …`"))
            }
            Reason::Avoided => Some(format!("`strewn partner show {partner}` says why")),
            Reason::Room { .. } => {
                Some(format!("agree on more: `strewn partner propose {partner} …`"))
            }
        }
    }
}

/// What is known of partners before anything is placed.
#[derive(Debug, Default)]
pub(super) struct Partners {
    names: BTreeMap<OperatorId, String>,
    gives: BTreeMap<OperatorId, u64>,
    out: BTreeMap<OperatorId, Reason>,
}

impl Partners {
    /// Of what is agreed: who promises what the lock asks for.
    pub(super) fn new(
        names: &BTreeMap<OperatorId, String>,
        agreed: &[Agreement],
        avoided: impl IntoIterator<Item = OperatorId>,
        lock: &Lock,
        now: Wall,
    ) -> Self {
        let mut known = Self { names: names.clone(), ..Self::default() };
        for &partner in names.keys() {
            let agreement = agreed.iter().find(|agreement| agreement.side(partner).is_some());
            let checked = agreement.map(|agreement| {
                agreement.check_time(now).and_then(|()| agreement.check_lock(lock))
            });
            let reason = match checked {
                Some(Ok(())) => None,
                Some(Err(error)) => Some(Reason::Agreement(error)),
                None => Some(Reason::Nothing),
            };
            known.out.extend(reason.map(|reason| (partner, reason)));
            let gives = agreement.and_then(|agreement| agreement.side(partner));
            known.gives.extend(gives.map(|side| (partner, side.gives)));
        }
        known.out.extend(avoided.into_iter().map(|partner| (partner, Reason::Avoided)));
        known
    }

    /// Whether nothing is put with an operator.
    pub(super) fn leaves_out(&self, operator: OperatorId) -> bool {
        self.out.contains_key(&operator)
    }

    /// Why there is no placement on these candidates.
    pub(super) fn explain<'a>(
        &self,
        error: Unplaceable,
        candidates: impl Iterator<Item = &'a Candidate>,
        is_degraded: bool,
    ) -> ClientError {
        let mut left: BTreeMap<OperatorId, (u64, bool)> = BTreeMap::new();
        for Candidate { site, free } in candidates {
            let (sum, is_full) = left.entry(site.operator).or_default();
            *sum = sum.saturating_add(*free);
            *is_full |= *free < NEARLY_FULL;
        }
        let rooms = self.gives.iter().filter(|(partner, _)| !self.leaves_out(**partner));
        let rooms = rooms.filter_map(|(&partner, &gives)| match left.get(&partner) {
            Some(&(left, true)) => Some((partner, Reason::Room { gives, left })),
            _ => None,
        });
        let out = self.out.iter().map(|(&partner, reason)| (partner, reason.clone()));
        let name = |partner: OperatorId| {
            let name = self.names.get(&partner).cloned();
            name.unwrap_or_else(|| partner.key().fingerprint())
        };
        let why = out
            .chain(rooms)
            .map(|(partner, reason)| LeftOut { partner: name(partner), reason })
            .collect();
        ClientError::Unplaceable { error, why, is_degraded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::error::CliError;
    use protocol::agreement::Side;
    use protocol::id::NodeId;
    use protocol::label::{Labels, Site};
    use protocol::time::Period;

    const NOW: Wall = Wall(1_800_000_000_000);
    const BETA: OperatorId = OperatorId([2; 32]);

    fn agreement(lock_max: Period) -> Agreement {
        let side = |operator| Side { operator, gives: 20 << 20, labels: Labels::default() };
        Agreement {
            first: side(OperatorId([1; 32])),
            second: side(BETA),
            version: 1,
            start: NOW,
            term: Period::days(365),
            notice: Period::days(30),
            lock_max,
        }
    }

    fn partners(agreed: &[Agreement], period: Period) -> Partners {
        let lock = Lock { period, release_cooldown: Period::days(1), ..Lock::default() };
        let names = [(BETA, "beta".to_owned())].into();
        Partners::new(&names, agreed, [], &lock, NOW)
    }

    fn explained(partners: &Partners, free: u64, is_degraded: bool) -> String {
        let site = Site::new(NodeId([9; 32]), BETA, Labels::default());
        let candidates = [Candidate { site, free }];
        let candidates = candidates.iter().filter(|c| !partners.leaves_out(c.site.operator));
        let error = Unplaceable::Nodes { found: 1, needed: 2, len: 1 << 20 };
        CliError::from(partners.explain(error, candidates, is_degraded)).to_string()
    }

    #[test]
    fn who_does_not_promise_the_lock_is_left_out_and_named_with_both_spans() {
        let short = [agreement(Period::days(2))];
        assert!(!partners(&short, Period::days(2)).leaves_out(BETA));
        let refused = partners(&short, Period::days(40));
        assert!(refused.leaves_out(BETA));
        let text = explained(&refused, 1 << 30, false);
        let said = "a lock period of 40d is asked for, and 2d at most is promised";
        assert!(text.contains("beta") && text.contains(said), "{text}");
        assert!(text.contains("--max-lock"), "{text}");
        // What the policy does not say is asked for all the same.
        let lock = Lock { period: Period::days(1), ..Lock::default() };
        let names = [(BETA, "beta".to_owned())].into();
        let refused = Partners::new(&names, &short, [], &lock, NOW);
        let text = explained(&refused, 1 << 30, false);
        assert!(text.contains("a release_cooldown of 7d is asked for"), "{text}");
        assert!(partners(&[], Period::days(1)).leaves_out(BETA), "nothing is agreed");
    }

    #[test]
    fn a_partner_that_is_nearly_full_is_named_and_no_hint_leads_back() {
        let good = partners(&[agreement(Period::days(90))], Period::days(90));
        let text = explained(&good, 2 << 20, true);
        assert!(text.contains("beta gives 20 MiB, of which 2 MiB are left"), "{text}");
        assert!(text.contains("strewn partner propose beta"), "{text}");
        assert!(!text.contains("--allow-degraded"), "it was said already: {text}");
        assert!(explained(&good, 2 << 20, false).contains("--allow-degraded"));
        assert!(!explained(&good, 1 << 40, true).contains("beta"), "it has room");
    }
}
