//! "You may leave": what other holders sign when a node goes away, so that nobody has to take its own word for it.
//!
//! - The leaving node lists what it holds in *pages*. Whoever holds shards of the same stripes looks for itself, by asking all that
//!   may hold them, and signs of which of a page's stripes it found that they lie as their policy asks, or as well as they can,
//!   without the node that leaves ([`Word`]). One statement speaks for a page and not for a stripe.
//! - Whose words are enough is decided by operators ([`is_enough`]): nodes of two operators other than the leaving node's own, where
//!   so many hold the stripe. A node that lies, and all that its operator runs, lets nobody leave alone.
//! - A word says what was found at a time. It is no promise: promises are the receipts by which it was found.
//!
//! The leaving node itself is not believed to have listed all: it signs its list ([`paper::List`]), and the owner of a vault can
//! compare that with what records say.

pub mod paper;

use crate::codec::Blob;
use crate::id::{NodeId, OperatorId, PublicKey, StripeId, VaultId};
use crate::sign::{SecretKey, Signed, Statement};
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most stripes in a page: whoever signs reads a record of each in one go.
pub const PAGE_STRIPES_MAX: usize = 1024;
/// Operators, other than the one that takes its node away, whose nodes must vouch for a stripe where so many hold it.
pub const OPERATORS_NEEDED: usize = 2;

/// Why a page or a word is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// There are none, or too many.
    #[error("a page of {0} stripes, 1 to {PAGE_STRIPES_MAX} allowed")]
    Length(usize),
    /// They do not increase.
    #[error("the stripes of a page are not in order")]
    Order,
    /// It is about something else.
    #[error("a word about another page or another node")]
    Other,
    /// It covers nothing, or more than there is.
    #[error("a word that does not fit its page")]
    Covered,
}

/// Some of what a leaving node holds of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The vault.
    pub vault: VaultId,
    /// Stripes in increasing order, and which shard of each it holds.
    pub held: Vec<(StripeId, u16)>,
}

impl Page {
    /// Checks length and order.
    ///
    /// # Errors
    /// [`LeaveError`] says what is wrong.
    pub fn check(&self) -> Result<(), LeaveError> {
        if self.held.is_empty() || self.held.len() > PAGE_STRIPES_MAX {
            return Err(LeaveError::Length(self.held.len()));
        }
        let is_sorted = self.held.is_sorted_by(|(a, _), (b, _)| a < b);
        if is_sorted { Ok(()) } else { Err(LeaveError::Order) }
    }

    /// The hash that names this page.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("strewn 2026-11 leave page v1");
        hasher.update(&self.vault.0);
        for (stripe, index) in &self.held {
            hasher.update(&stripe.0).update(&index.to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

/// A holder's word that stripes do not miss a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Who leaves.
    pub leaver: NodeId,
    /// Who says so: it holds a shard of each stripe that it covers.
    pub witness: NodeId,
    /// [`Page::digest`] of the page that it speaks of.
    pub page: [u8; 32],
    /// When it last looked at the page, by its wall clock.
    pub seen: Wall,
    /// A bit for each stripe of the page, the lowest of the first byte for the first: set where it was found well without the leaver.
    pub covered: Blob,
}

impl Statement for Word {
    const CONTEXT: &'static str = "strewn may leave";
    const LEN_MAX: usize = 512;
    fn signer(&self) -> PublicKey {
        self.witness.key()
    }
}

impl Word {
    /// The word of the node with this key on those stripes of a page for which `covers` holds, by their places; `None` when these
    /// are none.
    pub fn sign(
        page: &Page,
        leaver: NodeId,
        seen: Wall,
        key: &SecretKey,
        covers: impl Fn(usize) -> bool,
    ) -> Option<Signed<Self>> {
        let mut covered = vec![0u8; page.held.len().div_ceil(8)];
        for place in (0..page.held.len()).filter(|&place| covers(place)) {
            covered[place / 8] |= 1 << (place % 8);
        }
        let is_any = covered.iter().any(|byte| *byte != 0);
        let (witness, page) = (key.public().into(), page.digest());
        let word = Self { leaver, witness, page, seen, covered: Blob(covered) };
        is_any.then(|| Signed::sign(&word, key))
    }

    /// Checks that it speaks of this page of what this node holds.
    ///
    /// # Errors
    /// [`LeaveError`] when it does not, or covers nothing, or what is not there.
    pub fn check(&self, leaver: NodeId, page: &Page) -> Result<(), LeaveError> {
        if self.leaver != leaver || self.witness == leaver || self.page != page.digest() {
            return Err(LeaveError::Other);
        }
        let (len, covered) = (page.held.len(), &self.covered.0);
        let is_long = covered.len() == len.div_ceil(8);
        let beyond = (len..covered.len().saturating_mul(8)).any(|place| self.covers(place));
        let is_any = covered.iter().any(|byte| *byte != 0);
        if is_long && is_any && !beyond { Ok(()) } else { Err(LeaveError::Covered) }
    }

    /// Whether it covers the stripe at this place of its page.
    #[must_use]
    pub fn covers(&self, place: usize) -> bool {
        self.covered.0.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1)
    }

    /// How many stripes it covers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.covered.0.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }
}

/// Whether those whose nodes vouch for a stripe are enough, where these are the operators of its other holders: two that are not
/// the leaving node's own, or as many as there are; and where there is no other, its own.
#[must_use]
pub fn is_enough(
    own: OperatorId,
    holders: &BTreeSet<OperatorId>,
    vouching: &BTreeSet<OperatorId>,
) -> bool {
    let others = |operators: &BTreeSet<OperatorId>| {
        operators.iter().filter(|operator| **operator != own).count()
    };
    match others(holders).min(OPERATORS_NEEDED) {
        0 => !vouching.is_empty(),
        needed => others(vouching) >= needed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(stripes: &[u8]) -> Page {
        let held = stripes.iter().map(|&name| (StripeId([name; 32]), u16::from(name % 3)));
        Page { vault: VaultId([7; 32]), held: held.collect() }
    }

    fn key(name: u8) -> SecretKey {
        SecretKey::from_seed(&[name; 32])
    }

    fn word(page: &Page, covered: &[usize]) -> Option<Word> {
        let signed =
            Word::sign(page, NodeId([1; 32]), Wall(5), &key(2), |place| covered.contains(&place));
        signed.map(|signed| signed.verify().unwrap())
    }

    #[test]
    fn a_page_is_short_and_in_order() {
        assert_eq!(page(&[1, 2, 9]).check(), Ok(()));
        assert_eq!(page(&[]).check(), Err(LeaveError::Length(0)));
        assert_eq!(page(&[1, 1]).check(), Err(LeaveError::Order));
        assert_eq!(page(&[2, 1]).check(), Err(LeaveError::Order));
        let long = Page { held: vec![(StripeId([1; 32]), 0); 1025], ..page(&[]) };
        assert_eq!(long.check(), Err(LeaveError::Length(1025)));
    }

    #[test]
    fn a_word_counts_for_its_page_and_its_leaver_alone() {
        let (leaver, nine) = (NodeId([1; 32]), page(&[1, 2, 3, 4, 5, 6, 7, 8, 9]));
        let said = word(&nine, &[0, 8]).unwrap();
        assert_eq!(said.check(leaver, &nine), Ok(()));
        assert_eq!((0..9).filter(|place| said.covers(*place)).collect::<Vec<_>>(), [0, 8]);
        assert_eq!(said.count(), 2);
        assert_eq!(said.check(NodeId([3; 32]), &nine), Err(LeaveError::Other));
        // One shard that is another one makes another page.
        let mut other = nine.clone();
        other.held[4].1 += 1;
        assert_eq!(said.check(leaver, &other), Err(LeaveError::Other));
        assert_eq!(word(&nine, &[]), None);
        let with = |covered: &[u8]| Word { covered: Blob(covered.to_vec()), ..said.clone() };
        for wrong in [&[1][..], &[0, 0], &[1, 2], &[1, 1, 0], &[]] {
            assert_eq!(with(wrong).check(leaver, &nine), Err(LeaveError::Covered), "{wrong:?}");
        }
        // Nobody vouches for itself.
        let own = Word { leaver: key(2).public().into(), ..said };
        assert_eq!(own.check(own.leaver, &nine), Err(LeaveError::Other));
    }

    fn operators(names: &[u8]) -> BTreeSet<OperatorId> {
        names.iter().map(|&name| OperatorId([name; 32])).collect()
    }

    #[test]
    fn two_operators_vouch_where_there_are_two_and_the_own_one_only_where_there_is_no_other() {
        let enough = |holders: &[u8], vouching: &[u8]| {
            is_enough(OperatorId([1; 32]), &operators(holders), &operators(vouching))
        };
        assert!(!enough(&[1, 2, 3], &[2]) && !enough(&[1, 2, 3], &[1, 2]));
        assert!(enough(&[1, 2, 3], &[2, 3]) && enough(&[1, 2, 3, 4], &[2, 4]));
        assert!(enough(&[1, 2], &[2]) && !enough(&[1, 2], &[1]));
        assert!(enough(&[1], &[1]) && !enough(&[1], &[]));
    }

    proptest! {
        #[test]
        fn no_one_operator_lets_a_node_leave_where_two_others_hold_the_stripe(
            own in 0u8..5, holders in prop::collection::btree_set(0u8..5, 0..5), liar in 0u8..5,
        ) {
            let set = |names: &BTreeSet<u8>| operators(&names.iter().copied().collect::<Vec<_>>());
            let others = holders.iter().filter(|name| **name != own).count();
            let alone = is_enough(OperatorId([own; 32]), &set(&holders), &operators(&[liar, own]));
            prop_assert!(others < 2 || !alone);
            // All that hold it are always enough, if there are any.
            prop_assert!(holders.is_empty() || is_enough(OperatorId([own; 32]), &set(&holders), &set(&holders)));
        }

        #[test]
        fn what_is_covered_is_told_again(len in 1usize..40, bits: u64) {
            let nine = page(&(0..len as u8).collect::<Vec<_>>());
            let covered: Vec<usize> = (0..len).filter(|place| bits >> place & 1 == 1).collect();
            if let Some(said) = word(&nine, &covered) {
                prop_assert_eq!(said.check(NodeId([1; 32]), &nine), Ok(()));
                prop_assert_eq!((0..len + 9).filter(|p| said.covers(*p)).collect::<Vec<_>>(), covered);
            } else {
                prop_assert!(covered.is_empty());
            }
        }
    }
}
