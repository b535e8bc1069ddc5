//! Bugs that a test build plants, one at a time, to see that the simulator finds them.
//!
//! Built with `STREWN_CAN_PLANT=1` in the environment, [`plant`] switches one on for the thread. In every other build
//! [`is_planted`] is a constant `false`, and what stands behind it is not compiled in. Nothing decides anything here.

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A release is accepted while the lock lasts.
    Lock,
    /// The client does not extend the locks of unchanged stripes.
    Extension,
    /// Every placement satisfies every policy.
    Placement,
    /// Answers leave before what they promise is durable.
    Durable,
    /// Clients believe any receipt.
    Receipt,
    /// The lock clock makes up any time that others say has passed.
    ClockBound,
    /// The other side of a fork is refused and not kept.
    ForkEvidence,
    /// Any entry continues any log.
    Continuation,
    /// An entry is countersigned under another number.
    Countersignature,
    /// A record counts at a node that no roster lists.
    Roster,
    /// The quota is not looked at.
    Quota,
    /// The growth budget is not looked at.
    Growth,
    /// Releases need no guardian.
    Guardians,
    /// Vetoes are stored and ignored.
    Veto,
    /// Holds are stored and ignored.
    Hold,
    /// Revoked devices go on writing.
    Revocation,
    /// A cooldown is over at once.
    Cooldown,
    /// A later recovery card takes the place of the first.
    Card,
    /// Whoever greets is vouched for.
    Vouching,
    /// One vault's device may read another's.
    Reader,
    /// What a dropped shard took up stays counted.
    Usage,
    /// Repair puts shards anywhere.
    RepairPlacement,
    /// Who is silent for a while is lost.
    Patience,
    /// Who is cut off goes on counting the silence of others.
    CutOff,
    /// A holder keeps whatever bytes come.
    Hash,
    /// Nobody repairs in place of the first in rank.
    Takeover,
    /// Who leaves counts as if it stayed.
    Leaver,
    /// A discharged shard goes, whether others have it or not.
    Discharge,
    /// What an agreement gives is not looked at.
    Share,
    /// Each node gives a partner all that was agreed, not its part.
    Division,
    /// The longest lock of an agreement is not looked at.
    AgreedLock,
    /// Shards are taken after the end of a notice.
    Notice,
    /// A shard that goes is not counted in its month.
    Months,
    /// What one operator says against a holder counts.
    Word,
    /// What an operator's earlier key signs goes on counting.
    Succession,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 35] = [
        Self::Lock,
        Self::Extension,
        Self::Placement,
        Self::Durable,
        Self::Receipt,
        Self::ClockBound,
        Self::ForkEvidence,
        Self::Continuation,
        Self::Countersignature,
        Self::Roster,
        Self::Quota,
        Self::Growth,
        Self::Guardians,
        Self::Veto,
        Self::Hold,
        Self::Revocation,
        Self::Cooldown,
        Self::Card,
        Self::Vouching,
        Self::Reader,
        Self::Usage,
        Self::RepairPlacement,
        Self::Patience,
        Self::CutOff,
        Self::Hash,
        Self::Takeover,
        Self::Leaver,
        Self::Discharge,
        Self::Share,
        Self::Division,
        Self::AgreedLock,
        Self::Notice,
        Self::Months,
        Self::Word,
        Self::Succession,
    ];
}

#[cfg(strewn_planted)]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug for this thread, in place of the one before, and says whether this build can.
    #[must_use]
    pub fn plant(bug: Option<Bug>) -> bool {
        PLANTED.set(bug);
        true
    }

    /// Whether a bug is planted.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(not(strewn_planted))]
mod switch {
    use super::Bug;

    /// Plants nothing, and says so: this build cannot.
    #[must_use]
    pub const fn plant(_: Option<Bug>) -> bool {
        false
    }

    /// Whether a bug is planted: never, in this build.
    #[must_use]
    pub const fn is_planted(_: Bug) -> bool {
        false
    }
}

pub use switch::*;
