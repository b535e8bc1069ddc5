//! A device's log: a hash chain of signed entries, and what holders countersign.
//!
//! Entry `seq` 0 has no predecessor; every other names the [`EntryId`] of the one before. A holder
//! appends what continues the chain, and keeps the other side of a fork as evidence.

use crate::codec::Blob;
use crate::id::{DeviceId, EntryId, NodeId, PublicKey, SessionId, StripeId, VaultId};
use crate::label::Site;
use crate::placement::{Violation, check_placement};
use crate::policy::{Clauses, Policy};
use crate::sign::{Signed, Statement};
use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// Most index stripes that one entry names.
pub const INDEX_STRIPES_MAX: usize = 1024;

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// A backup session began; its key can be opened by the vault's recipients.
    Session {
        /// The session.
        session: SessionId,
        /// The session key, as an age file.
        sealed_key: Blob,
    },
    /// New index packs: they say where chunks of this session lie.
    Index {
        /// The session.
        session: SessionId,
        /// The stripes that hold them.
        stripes: Vec<StripeId>,
    },
    /// A snapshot is complete.
    Snapshot {
        /// The session that wrote it.
        session: SessionId,
        /// Source, host, counts: sealed so that the vault's devices can list it.
        summary: Blob,
        /// Where its item stream begins: sealed with the session key.
        root: Blob,
    },
    /// A snapshot has these tags from now on, whatever it or an earlier entry says.
    Tags {
        /// The snapshot, of whichever device.
        snapshot: EntryId,
        /// All its tags: [`crate::tag::Tags`], sealed so that the vault's devices can list them.
        tags: Blob,
    },
}

/// One entry of a device's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The vault.
    pub vault: VaultId,
    /// The device.
    pub device: DeviceId,
    /// Counts from 0.
    pub seq: u64,
    /// The entry before, or `None` for the first.
    pub previous: Option<EntryId>,
    /// The time that the device claims.
    pub claimed: Wall,
    /// What it says.
    pub body: Body,
}

impl Statement for Entry {
    const CONTEXT: &'static str = "strewn log entry";
    const LEN_MAX: usize = 64 << 10;
    fn signer(&self) -> PublicKey {
        self.device.key()
    }
}

/// The name of a signed entry.
#[must_use]
pub fn entry_id(entry: &Signed<Entry>) -> EntryId {
    EntryId(entry.digest())
}

/// A holder has the entry on durable storage, and saw it at this time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryAck {
    /// Who countersigns.
    pub holder: NodeId,
    /// The vault.
    pub vault: VaultId,
    /// The device.
    pub device: DeviceId,
    /// The entry's number.
    pub seq: u64,
    /// The entry.
    pub entry: EntryId,
    /// When it arrived, by the holder's wall clock.
    pub witnessed: Wall,
}

impl Statement for EntryAck {
    const CONTEXT: &'static str = "strewn entry ack";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.holder.key()
    }
}

/// Where a device's log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last entry's number.
    pub seq: u64,
    /// The last entry.
    pub entry: EntryId,
}

/// How an entry relates to the log that a holder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuation {
    /// It is the next one.
    Next,
    /// Its number is at or before the head: the same entry again, or a fork.
    Past,
    /// Entries between are missing; this number is the next expected.
    Gap {
        /// The next expected.
        next: u64,
    },
    /// Its number is next, and it names another predecessor: a fork.
    Fork,
}

/// Compares an entry with the head of its device's log.
#[must_use]
pub fn continuation(head: Option<Head>, entry: &Entry) -> Continuation {
    let next = head.map_or(0, |head| head.seq + 1);
    if entry.seq < next {
        Continuation::Past
    } else if entry.seq > next {
        Continuation::Gap { next }
    } else if entry.previous == head.map(|head| head.entry) {
        Continuation::Next
    } else {
        Continuation::Fork
    }
}

/// Whether an entry is held widely enough to be listed: whatever the survive clauses name is
/// lost, one node that countersigned it is left. (The one predicate, with k = 1.)
pub fn check_held(policy: &Policy, countersigned: &[&Site]) -> Result<(), Violation> {
    let policy = Policy { conceal: Clauses::default(), ..policy.clone() };
    check_placement(&policy, 1, countersigned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(seq: u64, previous: Option<u8>) -> Entry {
        Entry {
            vault: VaultId([1; 32]),
            device: DeviceId([2; 32]),
            seq,
            previous: previous.map(|byte| EntryId([byte; 32])),
            claimed: Wall(0),
            body: Body::Index { session: SessionId([0; 32]), stripes: vec![] },
        }
    }

    #[test]
    fn only_the_next_entry_continues() {
        assert_eq!(continuation(None, &entry(0, None)), Continuation::Next);
        assert_eq!(continuation(None, &entry(0, Some(1))), Continuation::Fork);
        assert_eq!(continuation(None, &entry(3, Some(1))), Continuation::Gap { next: 0 });
        let head = Some(Head { seq: 4, entry: EntryId([4; 32]) });
        assert_eq!(continuation(head, &entry(5, Some(4))), Continuation::Next);
        assert_eq!(continuation(head, &entry(5, Some(3))), Continuation::Fork);
        assert_eq!(continuation(head, &entry(5, None)), Continuation::Fork);
        assert_eq!(continuation(head, &entry(4, Some(3))), Continuation::Past);
    }

    proptest! {
        #[test]
        fn nothing_but_head_plus_one_ever_continues(head: u64, seq: u64, byte: u8, previous: Option<u8>) {
            prop_assume!(head < u64::MAX);
            let at = Some(Head { seq: head, entry: EntryId([byte; 32]) });
            let next = continuation(at, &entry(seq, previous)) == Continuation::Next;
            prop_assert_eq!(next, seq == head + 1 && previous == Some(byte));
        }
    }
}
