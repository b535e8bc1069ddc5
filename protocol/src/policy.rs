//! What a vault must survive and conceal, and for how long holders keep it: the text that owners
//! write (TOML) and the form that records carry. Whether a placement satisfies it is decided in
//! [`crate::placement`] alone.

use crate::evidence::{Evidence, NoEvidence};
use crate::id::OperatorId;
use crate::label::Level;
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Most clauses of one kind in a policy.
pub const CLAUSES_MAX: usize = 16;
/// Most levels that one clause names.
pub const CLAUSE_LEVELS_MAX: usize = 4;
/// Most domains of a level that one clause may name.
pub const CLAUSE_COUNT_MAX: u32 = 64;
/// Most guardians of a vault.
pub const GUARDIANS_MAX: usize = 32;

/// A policy that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Nothing would have to be survived.
    #[error(
        "the policy has no survive clause: name at least one, for example [survive] any = [{{ provider = 1 }}]"
    )]
    NoSurviveClause,
    /// More clauses than allowed.
    #[error("{0} clauses, at most {CLAUSES_MAX} allowed")]
    TooManyClauses(usize),
    /// A clause without a level, or with too many.
    #[error("clause {0:?} names {1} levels, 1 to {CLAUSE_LEVELS_MAX} allowed")]
    Levels(String, usize),
    /// A clause asks for no domain, or too many.
    #[error("clause {0}: the number of domains must lie between 1 and {CLAUSE_COUNT_MAX}")]
    Count(String),
    /// Evidence asked for a level that is named nowhere, or is a key.
    #[error("evidence is asked for {0}, which no clause names, or which is a key and no claim")]
    Evidence(Level),
    /// More approvals asked for than guardians named, or none.
    #[error("guardians: {need} of {of} cannot be had")]
    Guardians {
        /// Approvals asked for.
        need: u32,
        /// Guardians named.
        of: usize,
    },
}

/// Domains that may be lost together: so many of each level named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Clause(pub BTreeMap<Level, u32>);

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (level, count) in &self.0 {
            write!(f, "{separator}{level}={count}")?;
            separator = " with ";
        }
        Ok(())
    }
}

/// Clauses, each of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clauses {
    /// The clauses. (`any`: whichever domains a clause names.)
    pub any: Vec<Clause>,
}

/// Guardians of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guardians {
    /// Approvals that a release needs.
    pub need: u32,
    /// The operator keys that may approve, veto and freeze.
    pub of: Vec<OperatorId>,
}

/// How long holders keep what they accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// How long a holder keeps a shard, counted from its own receipt.
    pub period: Period,
    /// How long an accepted release waits before anything is dropped.
    pub release_cooldown: Period,
    /// Who must approve a release; nobody when absent.
    pub guardians: Option<Guardians>,
}

impl Default for Lock {
    fn default() -> Self {
        Self { period: Period::days(90), release_cooldown: Period::days(7), guardians: None }
    }
}

/// Locks are extended when this part of their period has passed since.
const EXTENSION_PART: u64 = 10;

impl Lock {
    /// Whether what is kept under this lock is kept at least as another one asks.
    #[must_use]
    pub fn covers(&self, asked: &Self) -> bool {
        self.period >= asked.period
            && self.release_cooldown >= asked.release_cooldown
            && (asked.guardians.is_none() || self.guardians == asked.guardians)
    }

    /// Whether locks that were last extended then are to be extended now: when a tenth of the period has passed. A clock that
    /// was set back proves nothing.
    #[must_use]
    pub fn is_extension_due(&self, last: Wall, now: Wall) -> bool {
        last > now || last.after(Period(self.period.0 / EXTENSION_PART)) <= now
    }
}

/// What must be survived, what must be concealed, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// Whichever domains a clause names are lost: k shards are left elsewhere.
    pub survive: Clauses,
    /// The domains that a clause names hold fewer than k shards together.
    pub conceal: Clauses,
    /// The lock.
    pub lock: Lock,
}

/// The policy as a file has it: what is left out has a default. A type of its own because the
/// binary form has every field, always.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    survive: Clauses,
    #[serde(default)]
    conceal: Clauses,
    /// The least evidence for labels of a level, in all clauses that name it without a word about it.
    #[serde(default)]
    evidence: BTreeMap<Level, Asked>,
    #[serde(default)]
    lock: LockText,
}

/// Evidence that can be asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Asked(Evidence);

impl TryFrom<String> for Asked {
    type Error = NoEvidence;
    fn try_from(text: String) -> Result<Self, NoEvidence> {
        text.parse().map(Self)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockText {
    period: Option<Period>,
    release_cooldown: Option<Period>,
    guardians: Option<Guardians>,
}

impl TryFrom<PolicyText> for Policy {
    type Error = PolicyError;
    fn try_from(mut text: PolicyText) -> Result<Self, PolicyError> {
        for (level, Asked(least)) in std::mem::take(&mut text.evidence) {
            let asking = level.asking(least);
            let clauses = text.survive.any.iter_mut().chain(&mut text.conceal.any);
            let mut is_named = false;
            for clause in clauses {
                let counts = std::mem::take(&mut clause.0);
                is_named |= counts.contains_key(&level);
                for (named, count) in counts {
                    let named = if named == level { asking.clone() } else { named };
                    let sum = clause.0.entry(named).or_default();
                    *sum = sum.saturating_add(count);
                }
            }
            if !is_named || level.is_reserved() || level.asks_evidence() {
                return Err(PolicyError::Evidence(level));
            }
        }
        let default = Lock::default();
        let policy = Self {
            survive: text.survive,
            conceal: text.conceal,
            lock: Lock {
                period: text.lock.period.unwrap_or(default.period),
                release_cooldown: text.lock.release_cooldown.unwrap_or(default.release_cooldown),
                guardians: text.lock.guardians,
            },
        };
        policy.check()?;
        Ok(policy)
    }
}

impl Policy {
    /// Survives any one provider, and any two accounts: what the demo and examples use.
    ///
    /// # Panics
    /// Never: the level names are constants that fit.
    #[must_use]
    pub fn survive_one(level: &str) -> Self {
        let level = Level::new(level).expect("a level's name");
        Self {
            survive: Clauses { any: vec![Clause(BTreeMap::from([(level, 1)]))] },
            conceal: Clauses::default(),
            lock: Lock::default(),
        }
    }

    /// The levels of clauses that ask for evidence.
    pub fn evidence_levels(&self) -> impl Iterator<Item = Level> + '_ {
        let clauses = self.survive.any.iter().chain(&self.conceal.any);
        clauses.flat_map(|clause| clause.0.keys()).filter(|level| level.asks_evidence()).cloned()
    }

    /// Checks that the numbers can be meant. Decoded policies are hostile until this passed.
    ///
    /// # Errors
    /// [`PolicyError`] with the clause.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.survive.any.is_empty() {
            return Err(PolicyError::NoSurviveClause);
        }
        for clauses in [&self.survive, &self.conceal] {
            if clauses.any.len() > CLAUSES_MAX {
                return Err(PolicyError::TooManyClauses(clauses.any.len()));
            }
            for clause in &clauses.any {
                if clause.0.is_empty() || clause.0.len() > CLAUSE_LEVELS_MAX {
                    return Err(PolicyError::Levels(clause.to_string(), clause.0.len()));
                }
                if clause.0.values().any(|&count| count == 0 || count > CLAUSE_COUNT_MAX) {
                    return Err(PolicyError::Count(clause.to_string()));
                }
            }
        }
        if let Some(guardians) = &self.lock.guardians {
            let of = guardians.of.len();
            if guardians.need == 0 || guardians.need as usize > of || of > GUARDIANS_MAX {
                return Err(PolicyError::Guardians { need: guardians.need, of });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, String> {
        let text: PolicyText = toml::from_str(text).map_err(|e| e.to_string())?;
        Policy::try_from(text).map_err(|e| e.to_string())
    }

    #[test]
    fn locks_are_extended_once_per_tenth_of_their_period_and_when_the_clock_goes_back() {
        let lock = Lock { period: Period(1000), ..Lock::default() };
        let due = |last, now| lock.is_extension_due(Wall(last), Wall(now));
        assert!(!due(500, 500) && !due(500, 599) && due(500, 600) && due(500, 499));
        assert!(due(u64::MAX, 5));
    }

    #[test]
    fn the_policy_of_the_design_reads() {
        let policy = read(
            r#"
            [survive]
            any = [ { provider = 1, node = 1 }, { account = 2 }, { operator = 1 } ]
            [conceal]
            any = [ { provider = 1 } ]
            [lock]
            period = "90d"
            release_cooldown = "7d"
            "#,
        )
        .unwrap();
        assert_eq!(policy.survive.any.len(), 3);
        assert_eq!(policy.survive.any[0].to_string(), "node=1 with provider=1");
        assert_eq!(policy.lock.period, Period::days(90));
        let bytes = crate::codec::encode(&policy);
        assert_eq!(crate::codec::decode_canonical::<Policy>(&bytes, 1000).unwrap(), policy);
    }

    #[test]
    fn a_policy_asks_for_evidence_per_clause_and_per_level() {
        let policy = read(
            r#"
            [survive]
            any = [ { provider = 1, node = 1 }, { account = 2 }, { provider_attested = 1 } ]
            [evidence]
            provider = "vouched"
            "#,
        )
        .unwrap();
        let clauses: Vec<String> = policy.survive.any.iter().map(ToString::to_string).collect();
        assert_eq!(clauses, ["node=1 with provider_vouched=1", "account=2", "provider_attested=1"]);
        assert_eq!(policy.evidence_levels().count(), 2);
        let bytes = crate::codec::encode(&policy);
        assert_eq!(crate::codec::decode_canonical::<Policy>(&bytes, 1000).unwrap(), policy);

        let wrong = |evidence: &str| {
            read(&format!(
                "[survive]
any=[{{provider=1, operator=1}}]
[evidence]
{evidence}"
            ))
            .unwrap_err()
        };
        assert!(wrong("region = 'vouched'").contains("no clause names"));
        assert!(wrong("operator = 'vouched'").contains("a key and no claim"));
        assert!(wrong("provider = 'contradicted'").contains("contradicted"));
        assert!(wrong("provider = 'sworn'").contains("sworn"));
        assert!(
            read(
                "[survive]
any = [{ operator_vouched = 1 }]"
            )
            .is_err()
        );
    }

    #[test]
    fn a_lock_covers_what_is_no_stronger() {
        let lock = Lock::default();
        assert!(lock.covers(&lock));
        let longer = Lock { period: Period::days(91), ..lock.clone() };
        assert!(longer.covers(&lock) && !lock.covers(&longer));
        let slower = Lock { release_cooldown: Period::days(8), ..lock.clone() };
        assert!(slower.covers(&lock) && !lock.covers(&slower));
        let of = vec![OperatorId([1; 32])];
        let guarded = Lock { guardians: Some(Guardians { need: 1, of }), ..lock.clone() };
        assert!(guarded.covers(&lock) && !lock.covers(&guarded));
    }

    #[test]
    fn a_policy_that_cannot_be_meant_is_refused() {
        assert!(read("[survive]\nany = []").unwrap_err().contains("no survive clause"));
        assert!(read("[survive]\nany = [{ provider = 0 }]").unwrap_err().contains("provider=0"));
        assert!(
            read("[survive]\nany = [{ provider = 1 }]\n[lokc]\n").unwrap_err().contains("lokc")
        );
        assert!(read("[survive]\nany = [{ Provider = 1 }]").unwrap_err().contains("level"));
        assert!(read("[survive]\nany=[{provider=1}]\n[lock]\nguardians={need=2,of=[]}").is_err());
    }
}
