//! The life of a held shard: the only code that can decide to drop one.
//!
//! ```text
//! Locked(until) ──time──► Releasable ──release──► Cooling(until) ──time──► Dropped
//!    ▲                      │    ▲                  │        │
//!    └───────extend─────────┴────┼───extend─────────┘        │
//!                                └───veto, hold──────────────┘
//! ```
//!
//! - Spans count on the holder's own lock clock ([`crate::lock_clock`]) from when something arrived here. No date that
//!   anybody claims plays a part, and while that clock is frozen nothing is released or dropped.
//! - A promise is the strongest of all that was ever asked: the latest end, the longest cooldown. Nothing shortens one.
//!   The guardians that a lock first names stay; later policies name others for later stripes.
//! - Time alone drops nothing. It takes a release ([`crate::release::accepts`]) that is accepted after the lock has ended, and
//!   then the cooldown, in which no guardian stopped it, nobody extended the lock, and no hold ([`crate::hold`]) was on. Where one
//!   was, the release is void, and it takes another.
//! - A drop is decided once, and stored; what was decided is finished after any crash ([`Life::decided`]).
//! - What a lock may ask for is bounded by the holder ([`Life::receive`]): that is what a stolen device key can cost.
//!
//! What a life says depends on the reading and on the vault's holds, which are stored once and not with each shard. The
//! lock clock is stored in the same write as whatever counts by it, so that no later reading is lower.

use crate::hold::Holds;
use crate::id::{OperatorId, ReleaseId, StripeId};
use crate::lock_clock::{LockTime, Reading};
use crate::planted::{Bug, is_planted};
use crate::policy::Lock;
use crate::release::{Accepted, Veto};
use crate::time::Period;
use serde::{Deserialize, Serialize};

/// A lock is stored anew once it is longer by so much, or by a 64th of its period: who asks again and again costs no writes.
pub const EXTENSION_MIN: Period = Period::seconds(3600);

/// A span of time that a policy asks holders for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// How long a shard is locked.
    Lock,
    /// How long after a release it is kept.
    Cooldown,
}

impl Span {
    /// As people write it in a policy, where they have to look for it.
    #[must_use]
    pub fn in_policy(self) -> &'static str {
        match self {
            Self::Lock => "a lock period",
            Self::Cooldown => "a release_cooldown",
        }
    }
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LifeError {
    /// More is asked for than this holder promises.
    #[error("{} of {asked} is asked for, and {longest} at most is promised", .what.in_policy())]
    TooLong {
        /// Which of both.
        what: Span,
        /// How long.
        asked: Period,
        /// The holder's limit.
        longest: Period,
    },
    /// The lock or a hold lasts.
    #[error("it is locked until {until} of the lock clock")]
    Locked {
        /// Its end.
        until: LockTime,
    },
    /// Another release is running.
    #[error("release {0} is running already")]
    Cooling(ReleaseId),
    /// The lock clock is frozen.
    #[error("the lock clock is frozen")]
    Frozen,
    /// The release was accepted for another stripe or under another lock.
    #[error("the release was accepted for another stripe or under another lock")]
    Other,
    /// Who stops it is no guardian of this lock.
    #[error("{0} is no guardian of this lock")]
    NoGuardian(OperatorId),
    /// The shard is gone.
    #[error("it is dropped")]
    Dropped,
}

/// Where a shard is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing and nobody can release it.
    Locked {
        /// The end of the lock, or of a hold that lasts longer.
        until: LockTime,
    },
    /// A release can be accepted.
    Releasable,
    /// A release was accepted.
    Cooling {
        /// Which.
        release: ReleaseId,
        /// When the shard is dropped.
        until: LockTime,
    },
    /// Its bytes may be removed.
    Dropped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Kept,
    Cooling { release: ReleaseId, accepted: LockTime, until: LockTime },
    Dropped { release: ReleaseId },
}

/// The life of a shard of this stripe at one holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    stripe: StripeId,
    /// The strongest of what was asked.
    lock: Lock,
    /// The latest end of what was promised.
    end: LockTime,
    stage: Stage,
}

/// The decision that a shard is dropped. Only [`Life::tick`] makes one; [`Life::decided`] tells it again.
#[derive(Debug, PartialEq, Eq)]
pub struct DropDecision {
    stripe: StripeId,
    release: ReleaseId,
}

impl DropDecision {
    /// Of which stripe.
    #[must_use]
    pub fn stripe(&self) -> StripeId {
        self.stripe
    }

    /// By which release.
    #[must_use]
    pub fn release(&self) -> ReleaseId {
        self.release
    }
}

/// Whether a holder with this limit promises what the lock asks for. A cooldown without an end would keep a shard for ever
/// as well as a lock would.
pub(crate) fn check_bounds(lock: &Lock, longest: Period) -> Result<(), LifeError> {
    let asked = [(Span::Lock, lock.period), (Span::Cooldown, lock.release_cooldown)];
    match asked.into_iter().find(|(_, asked)| *asked > longest) {
        Some((what, asked)) => Err(LifeError::TooLong { what, asked, longest }),
        None => Ok(()),
    }
}

impl Life {
    /// A shard has arrived that is to be kept under this lock, by a holder that promises no lock and no cooldown longer than
    /// `longest`.
    pub fn receive(
        stripe: StripeId,
        lock: &Lock,
        now: Reading,
        longest: Period,
    ) -> Result<Self, LifeError> {
        check_bounds(lock, longest)?;
        let end = now.at.after(lock.period);
        Ok(Self { stripe, lock: lock.clone(), end, stage: Stage::Kept })
    }

    /// The lock is asked for again, from now on: what is weaker in it than what was promised changes nothing.
    pub fn extend(&mut self, lock: &Lock, now: Reading, longest: Period) -> Result<(), LifeError> {
        check_bounds(lock, longest)?;
        if matches!(self.stage, Stage::Dropped { .. }) {
            return Err(LifeError::Dropped);
        }
        self.stage = Stage::Kept;
        self.end = self.end.max(now.at.after(lock.period));
        self.lock.period = self.lock.period.max(lock.period);
        self.lock.release_cooldown = self.lock.release_cooldown.max(lock.release_cooldown);
        if self.lock.guardians.is_none() {
            self.lock.guardians.clone_from(&lock.guardians);
        }
        Ok(())
    }

    /// What is promised: what a release must satisfy.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Where the shard is in its life.
    #[must_use]
    pub fn state(&self, now: Reading, holds: &Holds) -> State {
        let held = holds.end(&self.lock).filter(|_| !is_planted(Bug::Hold));
        match self.stage {
            Stage::Dropped { .. } => State::Dropped,
            Stage::Cooling { release, accepted, until } if held < Some(accepted) => {
                State::Cooling { release, until }
            }
            Stage::Cooling { .. } | Stage::Kept => {
                // At the very reading at which a hold ends, it is not over yet.
                let held = held.map(|held| held.after(Period(1)));
                let until = held.map_or(self.end, |held| held.max(self.end));
                if now.at < until && !is_planted(Bug::Lock) {
                    State::Locked { until }
                } else {
                    State::Releasable
                }
            }
        }
    }

    /// A release was accepted: begins the cooldown, and gives its end. The same one again changes nothing.
    pub fn release(
        &mut self,
        accepted: &Accepted,
        now: Reading,
        holds: &Holds,
    ) -> Result<LockTime, LifeError> {
        if accepted.stripe() != self.stripe || *accepted.lock() != self.lock {
            return Err(LifeError::Other);
        }
        if now.is_frozen {
            return Err(LifeError::Frozen);
        }
        match self.state(now, holds) {
            State::Locked { until } => Err(LifeError::Locked { until }),
            State::Cooling { release, until } if release == accepted.release() => Ok(until),
            State::Cooling { release, .. } => Err(LifeError::Cooling(release)),
            State::Dropped => Err(LifeError::Dropped),
            State::Releasable => {
                let skips = is_planted(Bug::Cooldown);
                let cooldown = if skips { Period(0) } else { self.lock.release_cooldown };
                let until = now.at.after(cooldown);
                let release = accepted.release();
                self.stage = Stage::Cooling { release, accepted: now.at, until };
                Ok(until)
            }
        }
    }

    /// A guardian stops a release. True when it was running here. Whoever calls keeps the veto, for
    /// [`crate::release::Release::verify`], so that the same release is not accepted again.
    pub fn veto(&mut self, veto: &Veto) -> Result<bool, LifeError> {
        let guardians = self.lock.guardians.iter().flat_map(|guardians| &guardians.of);
        if !guardians.clone().any(|guardian| *guardian == veto.guardian) {
            return Err(LifeError::NoGuardian(veto.guardian));
        }
        match self.stage {
            Stage::Dropped { .. } => Err(LifeError::Dropped),
            Stage::Cooling { release, .. } if release == veto.release => {
                self.stage = Stage::Kept;
                Ok(true)
            }
            Stage::Cooling { .. } | Stage::Kept => Ok(false),
        }
    }

    /// Time has passed. Once the cooldown is over, and only then, decides that the shard is dropped.
    pub fn tick(&mut self, now: Reading, holds: &Holds) -> Option<DropDecision> {
        match self.state(now, holds) {
            State::Cooling { release, until } if !now.is_frozen && now.at >= until => {
                self.stage = Stage::Dropped { release };
                Some(DropDecision { stripe: self.stripe, release })
            }
            _ => None,
        }
    }

    /// The decision that was made, for whoever has to finish what a crash interrupted.
    #[must_use]
    pub fn decided(&self) -> Option<DropDecision> {
        match self.stage {
            Stage::Dropped { release } => Some(DropDecision { stripe: self.stripe, release }),
            Stage::Cooling { .. } | Stage::Kept => None,
        }
    }

    /// By which release the shard cools, whether or not a hold has made that void.
    #[must_use]
    pub fn cooling(&self) -> Option<(ReleaseId, LockTime)> {
        match self.stage {
            Stage::Cooling { release, until, .. } => Some((release, until)),
            Stage::Kept | Stage::Dropped { .. } => None,
        }
    }

    /// Until when nothing and nobody can release it, holds aside.
    #[must_use]
    pub fn locked_until(&self) -> LockTime {
        self.end
    }

    /// Whether this life is as good as the one before: all that became of it is an end that is later by less than a 64th
    /// of the lock's period, and less than an hour. Then it need not be stored, and what was promised before is what counts.
    #[must_use]
    pub fn is_about(&self, before: &Self) -> bool {
        let slack = (self.lock.period.0 / 64).min(EXTENSION_MIN.0);
        self.stripe == before.stripe
            && self.lock == before.lock
            && self.stage == before.stage
            && self.end.0.abs_diff(before.end.0) <= slack
    }
}

#[cfg(test)]
mod tests;
