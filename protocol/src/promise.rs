//! Lock promises, hash-chained: by what a holder that was set back to an older disk is found out.
//!
//! Whenever a holder stores what it promises (a receipt, a longer lock, a life that changed), a link is added to a chain of its
//! own, one for all that is stored at once, and the chain's [`PromiseHead`] is stored in the same write. Other nodes ask for the
//! head, keep the last one that they were told and countersign it. Only heads are kept and told, never what was promised.
//!
//! ```text
//! head 0 = zeros        head n+1 = BLAKE3 derive_key("strewn 2026-11 promise link v1", n (u64 LE) ‖ head n ‖ what was promised)
//! ```
//! Of the links between two heads nobody has a copy, so a head alone does not show that it is built on another one: a holder that
//! was set back and then promised more than it ever had would look like one that went on. Therefore a statement also says with
//! which head this *run* of the holder began, and that is what must not lie before what was told in an earlier run. Within one run
//! heads only grow. A holder shows no head that is not durable, so an honest one keeps to this whatever crashes.

use crate::id::{NodeId, PublicKey};
use crate::lock_clock::BootId;
use crate::sign::Statement;
use crate::time::Wall;
use serde::{Deserialize, Serialize};

const LINK_CONTEXT: &str = "strewn 2026-11 promise link v1";

/// Where a chain of promises ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseHead {
    /// How many links it has.
    pub seq: u64,
    /// The hash over all of them; zeros without any.
    pub hash: [u8; 32],
}

impl PromiseHead {
    /// The head with one link more.
    #[must_use]
    pub fn next(&self, promised: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(LINK_CONTEXT);
        hasher.update(&self.seq.to_le_bytes()).update(&self.hash).update(promised);
        Self { seq: self.seq.saturating_add(1), hash: *hasher.finalize().as_bytes() }
    }

    /// Whether a chain that ends here can have ended there before.
    #[must_use]
    pub fn covers(&self, before: &Self) -> bool {
        before.seq < self.seq || before == self
    }
}

/// Where a holder's chain ends, told to one node that asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseStatement {
    /// Whose chain.
    pub holder: NodeId,
    /// Who asked.
    pub asker: NodeId,
    /// What the asker drew, so that an old statement is no answer.
    pub nonce: [u8; 16],
    /// Drawn at each start of the holder.
    pub run: BootId,
    /// The head with which this run began.
    pub began: PromiseHead,
    /// The head now.
    pub head: PromiseHead,
}

impl Statement for PromiseStatement {
    const CONTEXT: &'static str = "strewn promise head";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.holder.key()
    }
}

impl PromiseStatement {
    /// Whether the holder, when it says this, still knows all that it knew when it said the other before.
    #[must_use]
    pub fn keeps(&self, before: &Self) -> bool {
        // A run that began where another one did, which had promised nothing yet, goes on with it.
        let is_same_run = self.run == before.run && self.began == before.began;
        let since = if is_same_run { &self.head } else { &self.began };
        since.covers(&before.head)
    }

    /// Whether no holder that always knew what it had promised says both, in whichever order. What convinces a third party.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        self.holder == other.holder && !self.keeps(other) && !other.keeps(self)
    }
}

/// A node has seen this head of a holder's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseWitness {
    /// Who countersigns.
    pub witness: NodeId,
    /// Whose chain.
    pub holder: NodeId,
    /// Its head.
    pub head: PromiseHead,
    /// When the witness saw it, by its wall clock.
    pub witnessed: Wall,
}

impl Statement for PromiseWitness {
    const CONTEXT: &'static str = "strewn promise witness";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.witness.key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn statement(run: u8, began: PromiseHead, head: PromiseHead) -> PromiseStatement {
        let (holder, asker) = (NodeId([1; 32]), NodeId([2; 32]));
        PromiseStatement { holder, asker, nonce: [3; 16], run: BootId([run; 16]), began, head }
    }

    fn chain(len: u64, promised: u8) -> Vec<PromiseHead> {
        let mut heads = vec![PromiseHead::default()];
        for _ in 0..len {
            heads.push(heads[heads.len() - 1].next(&[promised]));
        }
        heads
    }

    #[test]
    fn a_head_depends_on_all_that_was_promised_and_on_its_order() {
        let zero = PromiseHead::default();
        assert_ne!(zero.next(b"a"), zero.next(b"b"));
        assert_ne!(zero.next(b"a").next(b"b"), zero.next(b"b").next(b"a"));
        assert_eq!(zero.next(b"a").next(b"b"), zero.next(b"a").next(b"b"));
        assert!(zero.next(b"a").covers(&zero) && !zero.covers(&zero.next(b"a")));
        assert!(!zero.next(b"a").covers(&zero.next(b"b")));
    }

    #[test]
    fn who_was_set_back_and_promised_more_than_ever_is_found_out_by_where_it_began() {
        let (old, new) = (chain(10, 1), chain(20, 2));
        let before = statement(1, old[3], old[10]);
        let after = statement(2, old[5], new[20]);
        assert!(!after.keeps(&before) && after.contradicts(&before));
        let restarted = statement(2, old[10], new[20]);
        assert!(restarted.keeps(&before) && !restarted.contradicts(&before));
        // The same number and another hash.
        assert!(!statement(2, new[10], new[11]).keeps(&before));
    }

    proptest! {
        /// Runs one after the other, each with the heads that it showed.
        #[test]
        fn nobody_honest_contradicts_itself(runs in prop::collection::vec(
            prop::collection::vec(0u64..4, 1..5), 1..6,
        )) {
            let (mut head, mut said) = (PromiseHead::default(), Vec::new());
            for (run, steps) in runs.iter().enumerate() {
                let began = head;
                for step in steps {
                    head = (0..*step).fold(head, |head, link| head.next(&link.to_le_bytes()));
                    said.push(statement(run as u8, began, head));
                }
            }
            for (i, earlier) in said.iter().enumerate() {
                for later in &said[i..] {
                    prop_assert!(later.keeps(earlier));
                    prop_assert!(!later.contradicts(earlier) && !earlier.contradicts(later));
                }
            }
        }
    }
}
