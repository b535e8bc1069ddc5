//! A device's log: a hash chain of signed entries, and what holders countersign.
//!
//! Entry `seq` 0 has no predecessor; every other names the [`EntryId`] of the one before. A holder
//! appends what continues the chain, and keeps the other side of a fork as evidence.
//!
//! Who reads the logs of several holders believes none of them alone: an entry arrived when the middle one of its
//! holders says ([`witnessed`]), no entry arrived after the one that follows it ([`settle_arrivals`]), both sides of a fork
//! are kept ([`contradicts`]), whether it is held widely enough is asked of all ([`Holding`]), and who shows less than it did
//! was set back ([`Standing`]).

mod shown;

pub use shown::Standing;

use crate::codec::Blob;
use crate::discharge::Discharge;
use crate::given_up::GivenUp;
use crate::id::{DeviceId, EntryId, NodeId, PublicKey, SessionId, StripeId, VaultId};
use crate::label::Site;
use crate::placement::{Violation, ViolationKind, check_placement};
use crate::policy::{Clauses, Policy};
use crate::retention::Forget;
use crate::seal::{SealError, SealKey};
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
    /// The vault does not want some snapshots any more. Its own word: a device cannot hide what another one wrote.
    Forget(Signed<Forget>),
    /// The vault gives up stripes, or takes back that it did. Its own word as well.
    GivenUp(Signed<GivenUp>),
    /// A node need not keep its shards of some stripes, which others have as well. Its own word as well.
    Discharged(Signed<Discharge>),
}

/// What of a snapshot is sealed, each under a context that binds it to who wrote it: under the entry of another device, or
/// of another session, it does not open. What was sealed under contexts of version 1, which bind to nothing, is still read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotPart {
    /// Its summary, under the vault's catalog key.
    Summary,
    /// Its root, under the session's root key.
    Root,
}

impl SnapshotPart {
    fn name(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Root => "root",
        }
    }

    fn context(self, device: DeviceId, session: SessionId) -> String {
        format!("strewn {} v2 {device} {session}", self.name())
    }

    /// Seals it. A nonce is used once per key.
    #[must_use]
    pub fn seal(
        self,
        key: &SealKey,
        nonce: [u8; 24],
        (device, session): (DeviceId, SessionId),
        plain: &[u8],
    ) -> Blob {
        Blob(key.seal_blob(&self.context(device, session), nonce, plain))
    }

    /// The inverse of [`SnapshotPart::seal`]: opens what a snapshot's entry has.
    ///
    /// # Errors
    /// When the entry is no snapshot, the key is another one, or the part was sealed for another entry.
    pub fn open(self, key: &SealKey, entry: &Entry) -> Result<Vec<u8>, SealError> {
        let Body::Snapshot { session, summary, root } = &entry.body else {
            return Err(SealError::TooShort(0));
        };
        let sealed = match self {
            Self::Summary => summary,
            Self::Root => root,
        };
        key.open_blob(&self.context(entry.device, *session), &sealed.0).or_else(|error| match error
        {
            SealError::Altered => key.open_blob(&format!("strewn {} v1", self.name()), &sealed.0),
            error => Err(error),
        })
    }
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

/// Whether nothing that is held widely can be known to these nodes alone, which do not answer: all of them together are a loss that
/// the policy survives. Who withholds what it has is not told from who is silent here: what a policy survives, it survives once.
#[must_use]
pub fn is_all_told(policy: &Policy, silent: &[&Site]) -> bool {
    let is_survived = |violation: Violation| violation.kind == ViolationKind::Survive;
    silent.is_empty() || check_held(policy, silent).is_err_and(is_survived)
}

/// How widely an entry is held, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holding {
    /// Nodes that do not answer would have to have it, and some such set of them would be enough.
    Unknown,
    /// Not widely enough, also if every node had it that does not answer.
    Narrow,
    /// Widely enough, by the countersignatures seen.
    Wide,
}

impl Holding {
    /// Of an entry that these nodes countersigned, when those do not answer.
    #[must_use]
    pub fn of(policy: &Policy, countersigned: &[&Site], silent: &[&Site]) -> Self {
        if check_held(policy, countersigned).is_ok() {
            return Self::Wide;
        }
        let all: Vec<&Site> = countersigned.iter().chain(silent).copied().collect();
        if check_held(policy, &all).is_ok() { Self::Unknown } else { Self::Narrow }
    }
}

/// When an entry arrived, by what its holders claim: the middle one, of two the earlier. As long as fewer than half of
/// them lie, honest holders saw it both no later and no earlier than that.
#[must_use]
pub fn witnessed(claims: impl IntoIterator<Item = Wall>) -> Option<Wall> {
    let mut claims: Vec<Wall> = claims.into_iter().collect();
    let middle = claims.len().checked_sub(1)? / 2;
    Some(*claims.select_nth_unstable(middle).1)
}

/// Makes one order of what holders witnessed and what the chain says: of one device's entries, by their numbers, none
/// arrived after one that follows it. A time that is too early moves only what came before it, never the newest.
pub fn settle_arrivals(times: &mut [Wall]) {
    let mut next = Wall(u64::MAX);
    for time in times.iter_mut().rev() {
        next = next.min(*time);
        *time = next;
    }
}

/// Whether a device that signed both of these has forked its log: two entries of one number, or an entry that names another
/// predecessor than the one with the number before it.
#[must_use]
pub fn contradicts(one: (EntryId, &Entry), other: (EntryId, &Entry)) -> bool {
    let (one, other) = if one.1.seq <= other.1.seq { (one, other) } else { (other, one) };
    let ((id, before), (other_id, after)) = (one, other);
    if (before.vault, before.device) != (after.vault, after.device) {
        return false;
    }
    match after.seq - before.seq {
        0 => id != other_id,
        1 => after.previous != Some(id),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::OperatorId;
    use crate::label::Labels;
    use crate::policy::Clause;
    use proptest::prelude::*;

    fn site(node: u8, provider: &str) -> Site {
        let labels = Labels::new([format!("provider={provider}").parse().unwrap()]).unwrap();
        Site::new(NodeId([node; 32]), OperatorId([9; 32]), labels)
    }

    #[test]
    fn a_root_opens_under_its_own_entry_only_and_version_1_still_opens() {
        let (key, session) = (SealKey([3; 32]), SessionId([4; 32]));
        let sealed = |part: SnapshotPart| {
            part.seal(&key, [5; 24], (DeviceId([2; 32]), session), part.name().as_bytes())
        };
        let (summary, root) = (sealed(SnapshotPart::Summary), sealed(SnapshotPart::Root));
        let body = Body::Snapshot { session, summary: summary.clone(), root: root.clone() };
        let own = Entry { body, ..entry(3, Some(1)) };
        let open = |entry: &Entry| {
            [SnapshotPart::Summary, SnapshotPart::Root].map(|part| part.open(&key, entry).ok())
        };
        assert_eq!(open(&own), [Some(b"summary".to_vec()), Some(b"root".to_vec())]);
        assert_eq!(open(&Entry { device: DeviceId([9; 32]), ..own.clone() }), [None, None]);
        let session = SessionId([8; 32]);
        let body = Body::Snapshot { session, summary: summary.clone(), root: root.clone() };
        assert_eq!(open(&Entry { body, ..own.clone() }), [None, None]);
        let body = Body::Snapshot { session: SessionId([4; 32]), summary: root, root: summary };
        assert_eq!(open(&Entry { body, ..own.clone() }), [None, None]);
        let [summary, root] = ["strewn summary v1", "strewn root v1"]
            .map(|context| Blob(key.seal_blob(context, [6; 24], b"old")));
        let body = Body::Snapshot { session, summary, root };
        assert_eq!(open(&Entry { body, ..own }), [Some(b"old".to_vec()), Some(b"old".to_vec())]);
    }

    #[test]
    fn an_entry_is_held_unknown_or_not_held() {
        let policy = Policy::survive_one("provider");
        let (a, a2, b, c) = (site(1, "a"), site(2, "a"), site(3, "b"), site(4, "c"));
        let of = |has: &[&Site], silent: &[&Site]| Holding::of(&policy, has, silent);
        assert_eq!(of(&[&a, &b], &[]), Holding::Wide);
        assert_eq!(of(&[&a, &a2], &[]), Holding::Narrow);
        assert_eq!(of(&[&a], &[&a2]), Holding::Narrow);
        assert_eq!(of(&[&a], &[&c]), Holding::Unknown);
        assert_eq!(of(&[&a, &c], &[&b]), Holding::Wide);
        assert_eq!(of(&[], &[]), Holding::Narrow);
    }

    #[test]
    fn silent_nodes_that_a_policy_survives_know_nothing_alone() {
        let policy = Policy::survive_one("provider");
        let (a, a2, b) = (site(1, "a"), site(2, "a"), site(3, "b"));
        let told = |silent: &[&Site]| is_all_told(&policy, silent);
        assert!(told(&[]) && told(&[&a]) && told(&[&a, &a2]) && told(&[&b]));
        assert!(!told(&[&a, &b]) && !told(&[&a, &a, &b]));
        // Nothing is survived: whatever a silent node has may be there alone.
        let none = Policy { survive: Clauses::default(), ..policy.clone() };
        assert!(is_all_told(&none, &[]) && !is_all_told(&none, &[&a]));
        // What cannot be computed is no reason to go on.
        assert!(!told(&[&a, &a]), "a node named twice");
    }

    #[test]
    fn one_lying_holder_of_three_moves_nothing() {
        let at = |times: [u64; 3]| witnessed(times.map(Wall)).unwrap();
        assert_eq!(at([0, 500, 510]), Wall(500));
        assert_eq!(at([u64::MAX, 510, 500]), Wall(510));
        assert_eq!(witnessed([Wall(7), Wall(5)]), Some(Wall(5)));
        assert_eq!(witnessed([]), None);
    }

    #[test]
    fn two_entries_of_a_number_or_two_predecessors_are_a_fork() {
        let (id, first) = (EntryId([1; 32]), entry(4, Some(9)));
        let (other, second) = (EntryId([2; 32]), entry(5, Some(1)));
        assert!(!contradicts((id, &first), (id, &first)));
        assert!(contradicts((id, &first), (other, &first)));
        assert!(!contradicts((id, &first), (other, &second)));
        assert!(contradicts((EntryId([3; 32]), &first), (other, &second)));
        assert!(contradicts((other, &second), (EntryId([3; 32]), &first)));
        assert!(!contradicts((id, &first), (other, &entry(7, None))));
        let elsewhere = Entry { device: DeviceId([8; 32]), ..first.clone() };
        assert!(!contradicts((id, &first), (other, &elsewhere)));
    }

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
        fn what_is_held_widely_is_known_to_somebody_who_answers(
            labels in prop::collection::vec((0u8..4, 0u8..4), 1..8),
            (providers, accounts) in (0u32..3, 0u32..3),
            silent: u8,
        ) {
            prop_assume!(providers + accounts > 0);
            let site = |(i, (p, a)): (usize, &(u8, u8))| {
                Site::stating(i as u8, &format!("provider=p{p} account=a{a}"))
            };
            let sites: Vec<Site> = labels.iter().enumerate().map(site).collect();
            let levels = [("provider", providers), ("account", accounts)];
            let levels = levels.into_iter().filter(|(_, count)| *count > 0);
            let clause = Clause(levels.map(|(level, n)| (level.parse().unwrap(), n)).collect());
            let policy = Policy {
                survive: Clauses { any: vec![clause] },
                ..Policy::survive_one("provider")
            };
            let some = |set: u8| -> Vec<&Site> {
                (0..sites.len()).filter(|i| set >> i & 1 == 1).map(|i| &sites[i]).collect()
            };
            // Brute force: whoever the holders may be, if they are enough and all silent, something was missed.
            let all = ((1u32 << sites.len()) - 1) as u8;
            let missed = (1..=all)
                .filter(|holders| holders & silent == *holders)
                .any(|holders| check_held(&policy, &some(holders)).is_ok());
            prop_assert_eq!(is_all_told(&policy, &some(silent)), !missed);
        }

        #[test]
        fn fewer_than_half_of_the_holders_move_no_entry_out_of_the_others_range(
            honest in prop::collection::vec(any::<u64>(), 1..8),
            lies in prop::collection::vec(any::<u64>(), 0..8),
        ) {
            let lies = &lies[..lies.len().min(honest.len() - 1)];
            let found = witnessed(lies.iter().chain(&honest).copied().map(Wall)).unwrap().0;
            prop_assert!(honest.iter().any(|&time| time <= found));
            prop_assert!(honest.iter().any(|&time| time >= found));
        }

        #[test]
        fn arrivals_never_go_backwards_and_the_newest_stays(
            times in prop::collection::vec(any::<u64>(), 1..20),
        ) {
            let mut settled: Vec<Wall> = times.iter().copied().map(Wall).collect();
            settle_arrivals(&mut settled);
            prop_assert!(settled.is_sorted());
            prop_assert_eq!(settled.last().map(|time| time.0), times.last().copied());
            prop_assert!(settled.iter().zip(&times).all(|(settled, time)| settled.0 <= *time));
        }

        #[test]
        fn nothing_but_head_plus_one_ever_continues(head: u64, seq: u64, byte: u8, previous: Option<u8>) {
            prop_assume!(head < u64::MAX);
            let at = Some(Head { seq: head, entry: EntryId([byte; 32]) });
            let next = continuation(at, &entry(seq, previous)) == Continuation::Next;
            prop_assert_eq!(next, seq == head + 1 && previous == Some(byte));
        }
    }
}
