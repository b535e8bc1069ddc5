//! Releases: who asks that stripes be given up, who must agree, and who can stop it.
//!
//! - A [`ReleaseRequest`] is signed by the vault and names every stripe. It counts for a while only.
//! - Each guardian that agrees signs an [`Approval`] of exactly that request, and any one guardian stops it with a [`Veto`].
//! - Which guardians count, and how many must agree, is said by the lock under which a stripe is held, not by the request.
//! - [`accepts`] is the only judge. What it gives, [`Accepted`], cannot be had otherwise, and
//!   [`crate::life::Life::release`] takes nothing else. It begins a cooldown, it drops nothing.
//!
//! Whoever has the vault's key can ask for everything; asking is all that it allows while a lock lasts, and without
//! guardians it is all that is needed afterwards.

use crate::certificate::CLOCK_SKEW_MAX;
use crate::id::{NodeId, OperatorId, PublicKey, ReleaseId, StripeId, VaultId};
use crate::planted::{Bug, is_planted};
use crate::policy::{GUARDIANS_MAX, Lock};
use crate::sign::{SignatureError, Signed, Statement};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most stripes that one request names: a quarter of a TiB in packs of 16 MiB.
pub const RELEASE_STRIPES_MAX: usize = 16_384;
/// Longest time for which a request counts.
pub const RELEASE_VALIDITY_MAX: Period = Period::days(90);

/// The vault asks that these stripes be given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// Whose they are.
    pub vault: VaultId,
    /// When it was made. A request that is to be made again has another time, and so another name.
    pub issued: Wall,
    /// Until when it counts.
    pub expires: Wall,
    /// The stripes, in increasing order, none twice.
    pub stripes: Vec<StripeId>,
}

impl Statement for ReleaseRequest {
    const CONTEXT: &'static str = "strewn release request";
    const LEN_MAX: usize = 128 + RELEASE_STRIPES_MAX * 32;
    fn signer(&self) -> PublicKey {
        self.vault.key()
    }
}

/// What a vault can ask holders to give up.
pub trait Ask: Statement {
    /// Most stripes that one statement names.
    const STRIPES_MAX: usize;
    /// The request, and the node that alone it concerns.
    fn into_parts(self) -> (ReleaseRequest, Option<NodeId>);
}

impl Ask for ReleaseRequest {
    const STRIPES_MAX: usize = RELEASE_STRIPES_MAX;
    fn into_parts(self) -> (Self, Option<NodeId>) {
        (self, None)
    }
}

/// The name of a signed request.
#[must_use]
pub fn release_id<T: Ask>(request: &Signed<T>) -> ReleaseId {
    ReleaseId(request.digest())
}

/// A guardian agrees to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who agrees.
    pub guardian: OperatorId,
    /// To what.
    pub release: ReleaseId,
    /// Until when.
    pub expires: Wall,
}

impl Statement for Approval {
    const CONTEXT: &'static str = "strewn release approval";
    const LEN_MAX: usize = 128;
    fn signer(&self) -> PublicKey {
        self.guardian.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.guardian)
    }
}

/// A guardian stops a request, for ever. There is no way to take it back; the vault can ask anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Veto {
    /// Who stops it.
    pub guardian: OperatorId,
    /// What.
    pub release: ReleaseId,
}

impl Statement for Veto {
    const CONTEXT: &'static str = "strewn release veto";
    const LEN_MAX: usize = 128;
    fn signer(&self) -> PublicKey {
        self.guardian.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.guardian)
    }
}

/// A request, or what came with it, that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It names no stripe, too many, or not in order.
    #[error("such a release names 1 to {0} stripes in increasing order")]
    Stripes(usize),
    /// It is to count for too long.
    #[error("a release counts for {RELEASE_VALIDITY_MAX} at most")]
    Validity,
    /// More statements than a vault can have guardians.
    #[error("{0} statements of guardians, at most {GUARDIANS_MAX} allowed")]
    TooMany(usize),
    /// A guardian's statement is about something else.
    #[error("a statement of guardian {0} is about another release")]
    Other(OperatorId),
}

/// A request with what guardians say of it: signatures and bounds are checked, whether it counts is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    id: ReleaseId,
    request: ReleaseRequest,
    /// The node that alone it concerns.
    at: Option<NodeId>,
    /// Who agrees, and until when.
    approvals: BTreeMap<OperatorId, Wall>,
    vetoes: BTreeSet<OperatorId>,
}

fn check_count(found: usize) -> Result<(), ReleaseError> {
    if found > GUARDIANS_MAX { Err(ReleaseError::TooMany(found)) } else { Ok(()) }
}

impl Release {
    /// Verifies a request, the approvals that came with it and the vetoes that are known. A wrong statement among
    /// them is no reason to go on without it: nothing is released by mistake.
    pub fn verify<T: Ask>(
        request: &Signed<T>,
        approvals: &[Signed<Approval>],
        vetoes: &[Signed<Veto>],
    ) -> Result<Self, ReleaseError> {
        check_count(approvals.len())?;
        check_count(vetoes.len())?;
        let id = release_id(request);
        let (request, at) = request.verify()?.into_parts();
        let stripes = &request.stripes;
        let is_ordered = stripes.windows(2).all(|pair| pair[0] < pair[1]);
        if stripes.is_empty() || stripes.len() > T::STRIPES_MAX || !is_ordered {
            return Err(ReleaseError::Stripes(T::STRIPES_MAX));
        }
        if request.expires > request.issued.after(RELEASE_VALIDITY_MAX) {
            return Err(ReleaseError::Validity);
        }
        let (approved, vetoes_of) = (BTreeMap::new(), BTreeSet::new());
        let mut release = Self { id, request, at, approvals: approved, vetoes: vetoes_of };
        for signed in approvals {
            let Approval { guardian, release: of, expires } = signed.verify()?;
            if of != id {
                return Err(ReleaseError::Other(guardian));
            }
            let until = release.approvals.entry(guardian).or_insert(expires);
            *until = expires.max(*until);
        }
        for signed in vetoes {
            let Veto { guardian, release: of } = signed.verify()?;
            if of != id {
                return Err(ReleaseError::Other(guardian));
            }
            release.vetoes.insert(guardian);
        }
        Ok(release)
    }

    /// Takes in a veto that is known. More of them than a vault can have guardians may be: who was named by what lock is
    /// for [`accepts`] to see.
    pub fn stop(&mut self, veto: &Signed<Veto>) -> Result<(), ReleaseError> {
        let Veto { guardian, release } = veto.verify()?;
        if release != self.id {
            return Err(ReleaseError::Other(guardian));
        }
        self.vetoes.insert(guardian);
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> ReleaseId {
        self.id
    }

    /// What is asked.
    #[must_use]
    pub fn request(&self) -> &ReleaseRequest {
        &self.request
    }

    /// The node that alone it concerns; `None` when it concerns all holders.
    #[must_use]
    pub fn at(&self) -> Option<NodeId> {
        self.at
    }
}

/// Why a release does not count for a stripe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// It is another vault's.
    #[error("the release is another vault's")]
    Vault,
    /// It does not name the stripe.
    #[error("the release does not name stripe {0}")]
    Stripe(StripeId),
    /// It is dated in the future.
    #[error("the release was made at {issued}, which is after {now}")]
    NotYet {
        /// When it was made.
        issued: Wall,
        /// The time it was looked at.
        now: Wall,
    },
    /// It counts no more.
    #[error("the release expired at {expired}; it is {now} now")]
    Expired {
        /// End of its validity.
        expired: Wall,
        /// The time it was looked at.
        now: Wall,
    },
    /// A guardian stopped it.
    #[error("guardian {0} stopped the release")]
    Vetoed(OperatorId),
    /// Too few guardians agree.
    #[error("{have} guardians agree to the release, {need} are needed")]
    Approvals {
        /// Guardians of the lock whose approval counts now.
        have: usize,
        /// Needed.
        need: u32,
    },
}

/// The proof that a release counts for a stripe under its lock. Only [`accepts`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    release: ReleaseId,
    stripe: StripeId,
    lock: Lock,
}

impl Accepted {
    /// Which release.
    #[must_use]
    pub fn release(&self) -> ReleaseId {
        self.release
    }

    /// For which stripe.
    #[must_use]
    pub fn stripe(&self) -> StripeId {
        self.stripe
    }

    /// Under which lock.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.lock
    }
}

/// Whether a release counts for this stripe of this vault, held under this lock.
///
/// `now` is the latest that the node's wall clock and other operators say: a clock that was set back must not bring back what
/// has expired. Nothing is released earlier because of it: locks and cooldowns go by the lock clock.
pub fn accepts(
    (vault, stripe): (VaultId, StripeId),
    lock: &Lock,
    release: &Release,
    now: Wall,
) -> Result<Accepted, NotAccepted> {
    let request = &release.request;
    if request.vault != vault {
        return Err(NotAccepted::Vault);
    }
    if request.stripes.binary_search(&stripe).is_err() {
        return Err(NotAccepted::Stripe(stripe));
    }
    if request.issued > now.after(CLOCK_SKEW_MAX) {
        return Err(NotAccepted::NotYet { issued: request.issued, now });
    }
    if request.expires <= now {
        return Err(NotAccepted::Expired { expired: request.expires, now });
    }
    if let Some(guardians) = &lock.guardians {
        let named: BTreeSet<OperatorId> = guardians.of.iter().copied().collect();
        let vetoes =
            |guardian: &&OperatorId| release.vetoes.contains(*guardian) && !is_planted(Bug::Veto);
        if let Some(guardian) = named.iter().find(vetoes) {
            return Err(NotAccepted::Vetoed(*guardian));
        }
        let agrees = |guardian: &&OperatorId| {
            release.approvals.get(guardian).is_some_and(|&expires| expires > now)
        };
        let (have, need) = (named.iter().filter(agrees).count(), guardians.need);
        if have < need as usize && !is_planted(Bug::Guardians) {
            return Err(NotAccepted::Approvals { have, need });
        }
    }
    Ok(Accepted { release: release.id, stripe, lock: lock.clone() })
}

#[cfg(test)]
mod tests;
