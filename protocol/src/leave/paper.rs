//! The paper that a node takes along when it leaves: its list, and the words of those that vouch for it. Anybody can check it, offline.
//!
//! ```text
//! paper = "strewn leave\n" version(u8 = 1) frame*        frame = length(u32 LE) body
//! body  = Part by the codec: 0 opening, pages in increasing order of vault and first stripe as 1, 2 end
//! ```
//! What it shows: how many stripes the node says that it held, and for each the operators, other than its own, of which a node looked
//! and found it well without. What it cannot show: that the list is whole (the node signed it), and what became of anything since.

use super::{OPERATORS_NEEDED, Page, Word};
use crate::certificate::{CLOCK_SKEW_MAX, NodeCertificate, Trust};
use crate::codec::{self, CodecError};
use crate::id::{NodeId, OperatorId, PublicKey, StripeId, VaultId};
use crate::proof::{ProofError, verify};
use crate::sign::{Signed, Statement};
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How a paper begins: a name and the version.
pub const MAGIC: &[u8; 14] = b"strewn leave\n\x01";
/// Longest part, in bytes: the certificates of some hundred nodes fit.
pub const PART_LEN_MAX: usize = 3 << 20;
/// Most nodes whose words one paper has.
pub const WITNESSES_MAX: usize = 1024;

/// The leaving node's word that it held nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The node.
    pub node: NodeId,
    /// When it said so.
    pub made: Wall,
    /// How many stripes it lists.
    pub stripes: u64,
    /// [`Digest`] of its pages.
    pub digest: [u8; 32],
}

impl Statement for List {
    const CONTEXT: &'static str = "strewn leave list";
    const LEN_MAX: usize = 128;
    fn signer(&self) -> PublicKey {
        self.node.key()
    }
}

/// The hash over the pages of a list, in their order.
#[derive(Debug)]
pub struct Digest(blake3::Hasher);

impl Default for Digest {
    fn default() -> Self {
        Self(blake3::Hasher::new_derive_key("strewn 2026-11 leave list v1"))
    }
}

impl Digest {
    /// Takes in the next page.
    pub fn update(&mut self, page: [u8; 32]) {
        self.0.update(&page);
    }

    /// The hash.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// A part of a paper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The first: who leaves, and who vouches.
    Opening {
        /// When it was made: certificates must count at that time.
        made: Wall,
        /// Who leaves.
        node: Signed<NodeCertificate>,
        /// Those whose words follow.
        witnesses: Vec<Signed<NodeCertificate>>,
    },
    /// A page, and what is said of it.
    Page {
        /// What the node holds.
        page: Page,
        /// The words.
        words: Vec<Signed<Word>>,
    },
    /// The last.
    End(Signed<List>),
}

impl Part {
    /// Its frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = codec::encode(self);
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        [&len.to_le_bytes()[..], &body].concat()
    }

    /// From the body of a frame.
    ///
    /// # Errors
    /// [`CodecError`] when it is none.
    pub fn decode(body: &[u8]) -> Result<Self, CodecError> {
        codec::decode(body, PART_LEN_MAX)
    }
}

/// What a paper shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Who leaves.
    pub node: NodeId,
    /// Its operator.
    pub operator: OperatorId,
    /// When the paper was made, by its own word.
    pub made: Wall,
    /// Stripes that it lists.
    pub stripes: u64,
    /// For how many of them each operator's nodes vouch, the leaving node's own as well.
    pub operators: BTreeMap<OperatorId, u64>,
    /// Stripes by how many other operators vouch for them: none, one, and enough.
    pub vouched: [u64; OPERATORS_NEEDED + 1],
    /// When the first of the words was given that count.
    pub since: Option<Wall>,
}

impl Shown {
    /// Whether no one operator's word had to be taken.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.stripes > 0 && self.vouched[OPERATORS_NEEDED] == self.stripes
    }
}

/// What the opening says, verified.
#[derive(Debug)]
struct Premises {
    witnesses: BTreeMap<NodeId, Option<OperatorId>>,
    shown: Shown,
}

/// Checks a paper, part by part.
#[derive(Debug)]
pub struct Verifier {
    now: Wall,
    trust: Option<Trust>,
    premises: Option<Premises>,
    digest: Digest,
    last: Option<(VaultId, StripeId)>,
    has_ended: bool,
}

impl Verifier {
    /// With `trust` only witnesses count for which one of these operators vouches.
    #[must_use]
    pub fn new(now: Wall, trust: Option<Trust>) -> Self {
        let digest = Digest::default();
        Self { now, trust, premises: None, digest, last: None, has_ended: false }
    }

    /// Takes in the body of the next frame.
    ///
    /// # Errors
    /// When a statement is false or out of place.
    pub fn handle_part(&mut self, body: &[u8]) -> Result<(), ProofError> {
        let part = Part::decode(body)?;
        if self.has_ended {
            return Err(ProofError::Order("something follows its end"));
        }
        match (part, self.premises.take()) {
            (Part::Opening { made, node, witnesses }, None) => {
                self.premises = Some(self.check_opening(made, &node, &witnesses)?);
            }
            (Part::Opening { .. }, Some(_)) => return Err(ProofError::Order("it begins twice")),
            (_, None) => return Err(ProofError::Order("it does not begin with who leaves")),
            (Part::Page { page, words }, Some(mut premises)) => {
                self.check_page(&mut premises, &page, &words)?;
                self.premises = Some(premises);
            }
            (Part::End(list), Some(premises)) => {
                let list = verify("the list", &list)?;
                let is_of = (list.node, list.stripes, list.digest)
                    == (premises.shown.node, premises.shown.stripes, self.digest.finish());
                if !is_of {
                    return Err(ProofError::Other("the list"));
                }
                self.has_ended = true;
                self.premises = Some(premises);
            }
        }
        Ok(())
    }

    /// What the whole paper shows.
    ///
    /// # Errors
    /// When it is cut off.
    pub fn finish(self) -> Result<Shown, ProofError> {
        let premises = self.premises.filter(|_| self.has_ended).ok_or(ProofError::CutOff)?;
        Ok(premises.shown)
    }

    fn check_opening(
        &self,
        made: Wall,
        node: &Signed<NodeCertificate>,
        witnesses: &[Signed<NodeCertificate>],
    ) -> Result<Premises, ProofError> {
        let now = self.now;
        if made > now.after(CLOCK_SKEW_MAX) {
            return Err(ProofError::NotYet { made, now });
        }
        if witnesses.len() > WITNESSES_MAX {
            return Err(ProofError::Order("it lists too many nodes"));
        }
        let certified = |signed| NodeCertificate::verify(signed, made).map_err(ProofError::Node);
        let leaver = certified(node)?;
        let mut found = BTreeMap::new();
        for signed in witnesses {
            let NodeCertificate { node, operator, .. } = certified(signed)?;
            let is_trusted = self.trust.as_ref().is_none_or(|trust| trust.check(operator).is_ok());
            found.insert(node, is_trusted.then_some(operator));
        }
        let shown = Shown {
            node: leaver.node,
            operator: leaver.operator,
            made,
            stripes: 0,
            operators: BTreeMap::new(),
            vouched: [0; OPERATORS_NEEDED + 1],
            since: None,
        };
        Ok(Premises { witnesses: found, shown })
    }

    fn check_page(
        &mut self,
        premises: &mut Premises,
        page: &Page,
        words: &[Signed<Word>],
    ) -> Result<(), ProofError> {
        page.check().map_err(|_| ProofError::Order("a page of it is not in order"))?;
        let first = page.held.first().map(|(stripe, _)| (page.vault, *stripe));
        if first <= self.last {
            return Err(ProofError::Order("its pages are not in order"));
        }
        self.last = page.held.last().map(|(stripe, _)| (page.vault, *stripe));
        self.digest.update(page.digest());
        let Premises { witnesses, shown } = premises;
        let mut counting: Vec<(OperatorId, Word)> = Vec::new();
        for signed in words.iter().take(WITNESSES_MAX) {
            let word = verify("a word", signed)?;
            word.check(shown.node, page).map_err(|_| ProofError::Other("a word"))?;
            let witness = witnesses.get(&word.witness).ok_or(ProofError::Other("a word"))?;
            if word.seen > shown.made.after(CLOCK_SKEW_MAX) {
                return Err(ProofError::Other("a word"));
            }
            if let Some(operator) = *witness {
                shown.since = Some(shown.since.map_or(word.seen, |since| since.min(word.seen)));
                counting.push((operator, word));
            }
        }
        for place in 0..page.held.len() {
            let vouching = counting.iter().filter(|(_, word)| word.covers(place));
            let vouching: BTreeSet<OperatorId> = vouching.map(|(operator, _)| *operator).collect();
            for &operator in &vouching {
                *shown.operators.entry(operator).or_default() += 1;
            }
            let others = vouching.iter().filter(|operator| **operator != shown.operator).count();
            shown.vouched[others.min(OPERATORS_NEEDED)] += 1;
        }
        shown.stripes += page.held.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Authority;
    use crate::label::Labels;
    use crate::sign::SecretKey;
    use crate::time::Period;

    const MADE: Wall = Wall(1_800_000_000_000);

    fn key(name: u8) -> SecretKey {
        SecretKey::from_seed(&[name; 32])
    }

    fn certificate(operator: u8, node: u8) -> Signed<NodeCertificate> {
        let certificate = NodeCertificate {
            node: key(node).public().into(),
            operator: key(operator).public().into(),
            labels: Labels::default(),
            issued: Wall(MADE.0 - 1),
            expires: MADE.after(Period::days(9)),
            authority: Authority::Operator,
        };
        Signed::sign(&certificate, &key(operator))
    }

    fn page(vault: u8, stripes: &[u8]) -> Page {
        let held = stripes.iter().map(|&name| (StripeId([name; 32]), 0));
        Page { vault: VaultId([vault; 32]), held: held.collect() }
    }

    /// Node 11 of operator 1 leaves; nodes 21 and 31 of operators 2 and 3 vouch for what is named.
    fn parts(pages: &[(Page, &[u8])]) -> Vec<Part> {
        let leaver = key(11).public().into();
        let witnesses = vec![certificate(2, 21), certificate(3, 31)];
        let mut parts = vec![Part::Opening { made: MADE, node: certificate(1, 11), witnesses }];
        let (mut digest, mut stripes) = (Digest::default(), 0);
        for (page, who) in pages {
            digest.update(page.digest());
            stripes += page.held.len() as u64;
            let sign = |name: &u8| Word::sign(page, leaver, MADE, &key(*name), |_| true);
            parts.push(Part::Page {
                page: page.clone(),
                words: who.iter().filter_map(sign).collect(),
            });
        }
        let list = List { node: leaver, made: MADE, stripes, digest: digest.finish() };
        parts.push(Part::End(Signed::sign(&list, &key(11))));
        parts
    }

    fn check(parts: &[Part], trust: Option<Trust>) -> Result<Shown, ProofError> {
        let mut verifier = Verifier::new(MADE, trust);
        for part in parts {
            verifier.handle_part(&part.encode()[4..])?;
        }
        verifier.finish()
    }

    #[test]
    fn what_two_other_operators_vouch_for_may_leave() {
        let shown =
            check(&parts(&[(page(5, &[1, 2]), &[21, 31]), (page(6, &[1]), &[31, 21])]), None);
        let shown = shown.unwrap();
        assert!(shown.is_good());
        assert_eq!((shown.stripes, shown.vouched, shown.since), (3, [0, 0, 3], Some(MADE)));
        assert_eq!(shown.operators.values().copied().collect::<Vec<_>>(), [3, 3]);
    }

    #[test]
    fn the_word_of_one_operator_or_of_none_is_not_enough() {
        let all = parts(&[(page(5, &[1, 2]), &[21]), (page(6, &[1]), &[21, 31])]);
        let shown = check(&all, None).unwrap();
        assert_eq!((shown.is_good(), shown.vouched), (false, [0, 2, 1]));
        // Whom the reader does not trust does not count.
        let trust = Trust::new([key(3).public().into()]);
        assert_eq!(check(&all, Some(trust)).unwrap().vouched, [2, 1, 0]);
        assert!(!check(&parts(&[]), None).unwrap().is_good(), "nobody says anything");
    }

    #[test]
    fn a_paper_that_was_changed_is_none() {
        let two = || parts(&[(page(5, &[1, 2]), &[21, 31]), (page(6, &[1]), &[31, 21])]);
        let left_out = |at: usize| {
            let mut parts = two();
            parts.remove(at);
            check(&parts, None)
        };
        assert!(matches!(left_out(0), Err(ProofError::Order(_))));
        assert!(matches!(left_out(1), Err(ProofError::Other(_))), "the list has more");
        assert_eq!(left_out(3), Err(ProofError::CutOff));
        let mut swapped = two();
        swapped.swap(1, 2);
        assert!(matches!(check(&swapped, None), Err(ProofError::Order(_))));
        // The words of one page under another.
        let mut mixed = two();
        let Part::Page { words, .. } = mixed[1].clone() else { panic!() };
        mixed[2] = Part::Page { page: page(6, &[1]), words };
        assert_eq!(check(&mixed, None), Err(ProofError::Other("a word")));
        // A stranger's word.
        let strange = parts(&[(page(5, &[1]), &[21, 41])]);
        assert_eq!(check(&strange, None), Err(ProofError::Other("a word")));
        // Another node's list.
        let mut other = two();
        other[0] = Part::Opening {
            made: MADE,
            node: certificate(1, 12),
            witnesses: vec![certificate(2, 21)],
        };
        assert!(check(&other, None).is_err());
    }
}
