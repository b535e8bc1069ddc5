//! What a vault gives up: stripes that no kept snapshot needs, said in its log, so that all of its hosts know.
//!
//! A statement ([`GivenUp`]) is signed by the vault, so that no device alone can make it. It ends one thing only: that hosts extend the
//! locks of these stripes, and take their chunks for known or miss them when they are gone. Whether a holder drops anything is
//! [`crate::release`]'s, which does not look here: in a vault with guardians a stolen vault key gains nothing by it. In one
//! without them a thief could have locks run out that are needed. So hosts say aloud what another device has brought, a chunk
//! that a backup meets in a stripe that was given up is sent again, readers go on reading what was given up while it is there,
//! and what is needed after all is taken back.
//!
//! Of a stripe the statement with the highest number counts, and of two with the same number the one that keeps it: whoever takes
//! back always can, whatever numbers somebody else has used up. The order in which statements arrive does not matter.

use crate::id::{PublicKey, SessionId, StripeId, VaultId};
use crate::sign::Statement;
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most stripes that one statement names: with its signature it fits into a log entry (64 KiB), and a day's budget of log entries
/// (64 MiB) is for 30 TiB in packs of 16 MiB.
pub const GIVEN_UP_STRIPES_MAX: usize = 1500;

/// The vault gives up stripes, or takes back that it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// The vault.
    pub vault: VaultId,
    /// Higher than that of any statement which this one is to overrule.
    pub number: u64,
    /// Whether they are needed after all.
    pub keep: bool,
    /// The stripes.
    pub stripes: Vec<StripeId>,
}

impl Statement for GivenUp {
    const CONTEXT: &'static str = "strewn given up";
    const LEN_MAX: usize = 64 + GIVEN_UP_STRIPES_MAX * 32;
    fn signer(&self) -> PublicKey {
        self.vault.key()
    }
}

/// What all statements of a vault come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// Of each stripe that was ever named: the number that counts, and whether it is kept.
    words: BTreeMap<StripeId, (u64, bool)>,
    highest: Option<u64>,
}

impl Abandoned {
    /// Takes in a statement of the vault.
    pub fn hear(&mut self, said: &GivenUp) {
        self.highest = self.highest.max(Some(said.number));
        for stripe in &said.stripes {
            let word = self.words.entry(*stripe).or_insert((said.number, said.keep));
            *word = (*word).max((said.number, said.keep));
        }
    }

    /// Whether a stripe is given up.
    #[must_use]
    pub fn contains(&self, stripe: StripeId) -> bool {
        self.words.get(&stripe).is_some_and(|(_, keep)| !keep)
    }

    /// The stripes that are given up.
    #[must_use]
    pub fn stripes(&self) -> BTreeSet<StripeId> {
        let given_up = self.words.iter().filter(|(_, (_, keep))| !keep);
        given_up.map(|(stripe, _)| *stripe).collect()
    }

    /// Statements by which these are given up, and taken back where they were. What has been said already is not said again.
    #[must_use]
    pub fn to_say(
        &self,
        vault: VaultId,
        unneeded: &BTreeSet<StripeId>,
        needed: &BTreeSet<StripeId>,
    ) -> Vec<GivenUp> {
        let number = self.highest.map_or(0, |highest| highest.saturating_add(1));
        let said = |keep: bool, stripes: Vec<StripeId>| {
            let parts: Vec<Vec<StripeId>> =
                stripes.chunks(GIVEN_UP_STRIPES_MAX).map(<[StripeId]>::to_vec).collect();
            parts.into_iter().map(move |stripes| GivenUp { vault, number, keep, stripes })
        };
        let back = needed.iter().copied().filter(|stripe| self.contains(*stripe)).collect();
        let new = unneeded.iter().copied().filter(|stripe| !self.contains(*stripe)).collect();
        said(true, back).chain(said(false, new)).collect()
    }
}

/// A session that wrote nothing for so long, and made no snapshot, was killed: one that runs lists what it placed every few minutes.
/// Should it run all the same, its host finds out before the backup ends, and sends again what was given up.
pub const ABANDONED_AFTER: Period = Period::days(7);

/// Whether what a session wrote is needed only by snapshots that are there: it has made one, or its newest entry arrived too long
/// ago for another one to come.
#[must_use]
pub fn has_ended(has_snapshot: bool, newest: Wall, now: Wall) -> bool {
    has_snapshot || newest.after(ABANDONED_AFTER) <= now
}

/// Which of the stripes that an index lists nobody needs: no kept snapshot leads to them (`needed`), and every session that wrote
/// one has ended. What is written by a session that may be running is needed by a snapshot that is still to come.
#[must_use]
pub fn unneeded(
    listed: impl IntoIterator<Item = (StripeId, SessionId)>,
    needed: &BTreeSet<StripeId>,
    ended: &BTreeSet<SessionId>,
) -> BTreeSet<StripeId> {
    let (mut unneeded, mut running) = (BTreeSet::new(), BTreeSet::new());
    for (stripe, session) in listed {
        let set = if ended.contains(&session) { &mut unneeded } else { &mut running };
        set.insert(stripe);
    }
    unneeded.retain(|stripe| !needed.contains(stripe) && !running.contains(stripe));
    unneeded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Body, Entry};
    use crate::sign::{SecretKey, Signed};
    use proptest::prelude::*;

    const VAULT: VaultId = VaultId([1; 32]);

    fn stripe(name: u8) -> StripeId {
        StripeId([name; 32])
    }

    fn said(number: u64, keep: bool, names: &[u8]) -> GivenUp {
        GivenUp { vault: VAULT, number, keep, stripes: names.iter().copied().map(stripe).collect() }
    }

    fn heard(all: &[GivenUp]) -> Abandoned {
        let mut abandoned = Abandoned::default();
        for said in all {
            abandoned.hear(said);
        }
        abandoned
    }

    fn set(names: &[u8]) -> BTreeSet<StripeId> {
        names.iter().copied().map(stripe).collect()
    }

    #[test]
    fn the_highest_number_counts_and_of_equal_ones_the_one_that_keeps() {
        let abandoned =
            heard(&[said(2, false, &[1, 2, 3]), said(2, true, &[2]), said(1, true, &[3])]);
        assert_eq!(abandoned.stripes(), set(&[1, 3]));
        let all = heard(&[said(u64::MAX, false, &[1])]);
        let back = all.to_say(VAULT, &set(&[]), &set(&[1]));
        assert_eq!(back, [said(u64::MAX, true, &[1])], "no number is too high to be taken back");
        let mut all = all;
        all.hear(&back[0]);
        assert!(!all.contains(stripe(1)));
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let abandoned = heard(&[said(0, false, &[1, 2])]);
        let says = abandoned.to_say(VAULT, &set(&[1, 3]), &set(&[2, 4]));
        assert_eq!(says, [said(1, true, &[2]), said(1, false, &[3])]);
        let mut after = abandoned;
        for said in &says {
            after.hear(said);
        }
        assert_eq!(after.to_say(VAULT, &set(&[1, 3]), &set(&[2, 4])), []);
        assert_eq!(Abandoned::default().to_say(VAULT, &set(&[]), &set(&[1])), []);
    }

    #[test]
    fn a_full_statement_fits_into_an_entry() {
        let (vault, device) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let id: VaultId = vault.public().into();
        let many: BTreeSet<StripeId> = (0..=GIVEN_UP_STRIPES_MAX as u32)
            .map(|i| StripeId(*blake3::hash(&i.to_be_bytes()).as_bytes()))
            .collect();
        let highest = heard(&[GivenUp { number: u64::MAX - 1, ..said(0, true, &[9]) }]);
        let said = highest.to_say(id, &many, &BTreeSet::new());
        assert_eq!(said.iter().map(|said| said.stripes.len()).collect::<Vec<_>>(), [1500, 1]);
        let entry = Entry {
            vault: id,
            device: device.public().into(),
            seq: u64::MAX,
            previous: Some(crate::id::EntryId([3; 32])),
            claimed: Wall(u64::MAX),
            body: Body::GivenUp(Signed::sign(&said[0], &vault)),
        };
        let signed = Signed::sign(&entry, &device);
        let read = Signed::<Entry>::from_bytes(&signed.to_bytes()).unwrap().verify().unwrap();
        let Body::GivenUp(inner) = &read.body else { panic!() };
        assert_eq!(inner.verify().unwrap(), said[0]);
    }

    #[test]
    fn a_session_without_a_snapshot_ends_after_a_while() {
        let (begun, later) = (Wall(1_000), Wall(1_000).after(ABANDONED_AFTER));
        assert!(has_ended(true, begun, begun) && has_ended(false, begun, later));
        assert!(!has_ended(false, begun, begun) && !has_ended(false, begun, Wall(later.0 - 1)));
        assert!(!has_ended(false, later, begun), "a clock that was set back");
    }

    #[test]
    fn what_a_running_session_wrote_is_not_given_up() {
        let (ended, running) = (SessionId([1; 32]), SessionId([2; 32]));
        let listed = [(1, ended), (2, ended), (3, running), (4, ended), (4, running)];
        let listed = listed.map(|(name, session)| (stripe(name), session));
        assert_eq!(unneeded(listed, &set(&[2]), &[ended].into()), set(&[1]));
    }

    proptest! {
        #[test]
        fn in_whatever_order_statements_come_they_come_to_the_same(
            all in proptest::collection::vec(
                (0u64..4, any::<bool>(), proptest::collection::vec(0u8..5, 0..4)), 0..8),
            at in any::<proptest::sample::Index>(),
        ) {
            let all: Vec<GivenUp> = all.iter().map(|(n, keep, names)| said(*n, *keep, names)).collect();
            let mut turned = all.clone();
            turned.rotate_left(if all.is_empty() { 0 } else { at.index(all.len()) });
            turned.reverse();
            prop_assert_eq!(heard(&all), heard(&turned));
            prop_assert_eq!(heard(&all), heard(&[all.clone(), all.clone()].concat()));
            // Brute force: of those with the highest number that name it, none keeps it.
            for name in 0..5 {
                let naming = || all.iter().filter(|said| said.stripes.contains(&stripe(name)));
                let highest = naming().map(|said| said.number).max();
                let counting = || naming().filter(|said| Some(said.number) == highest);
                let given_up = counting().next().is_some() && !counting().any(|said| said.keep);
                prop_assert_eq!(heard(&all).contains(stripe(name)), given_up);
            }
        }

        #[test]
        fn what_is_said_comes_true_whatever_was_said_before(
            before in proptest::collection::vec(
                (prop_oneof![0u64..4, Just(u64::MAX)], any::<bool>(), proptest::collection::vec(0u8..8, 0..6)), 0..8),
            needed in proptest::collection::btree_set(0u8..8, 0..8),
        ) {
            let before: Vec<GivenUp> = before.iter().map(|(n, keep, names)| said(*n, *keep, names)).collect();
            let mut abandoned = heard(&before);
            let needed: BTreeSet<StripeId> = needed.into_iter().map(stripe).collect();
            let unneeded: BTreeSet<StripeId> =
                (0..8).map(stripe).filter(|stripe| !needed.contains(stripe)).collect();
            for said in abandoned.to_say(VAULT, &unneeded, &needed) {
                abandoned.hear(&said);
            }
            prop_assert!(abandoned.stripes().is_disjoint(&needed), "what is needed is taken back");
            if before.iter().all(|said| said.number < u64::MAX) {
                prop_assert_eq!(abandoned.stripes(), unneeded);
            }
        }
    }
}
