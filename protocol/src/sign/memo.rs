//! Signatures that were made or found right, remembered by who simulates many peers in one thread: each verifies what others have
//! signed or verified. Off unless [`switch_on`] was called on the thread. What is remembered is key, signature, context and body under one
//! hash, so a hit means what verifying would have said; what was found wrong is not remembered. Lines of keys are always remembered, a few of them: one stands
//! behind every statement of an operator that has named heirs.

use crate::id::PublicKey;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};

/// Most lines that are remembered: of as many operators as one node has partners, and of some that it meets as guests.
const LINES_MAX: usize = 128;

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
    static LINES: RefCell<BTreeSet<[u8; 32]>> = const { RefCell::new(BTreeSet::new()) };
}

struct Known {
    max: usize,
    set: HashSet<[u8; 32]>,
}

/// Remembers up to so many signatures on this thread from now on; beyond that it forgets all and begins anew.
pub fn switch_on(max: usize) {
    KNOWN.set(Some(Known { max, set: HashSet::new() }));
}

/// Forgets everything, and remembers no more.
pub fn switch_off() {
    KNOWN.set(None);
}

fn name(signer: &PublicKey, signature: &[u8; 64], context: &str, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&signer.0).update(signature);
    hasher.update(context.as_bytes()).update(&[0]).update(body);
    *hasher.finalize().as_bytes()
}

pub(super) fn is_known(
    signer: &PublicKey,
    signature: &[u8; 64],
    context: &str,
    body: &[u8],
) -> bool {
    KNOWN.with_borrow(|known| {
        let known = known.as_ref();
        known.is_some_and(|known| known.set.contains(&name(signer, signature, context, body)))
    })
}

pub(super) fn remember(signer: &PublicKey, signature: &[u8; 64], context: &str, body: &[u8]) {
    KNOWN.with_borrow_mut(|known| {
        let Some(known) = known else { return };
        if known.set.len() >= known.max {
            known.set.clear();
        }
        known.set.insert(name(signer, signature, context, body));
    });
}

/// Whether all signatures of a line with this hash were found right.
pub(crate) fn is_known_line(hash: &[u8; 32]) -> bool {
    LINES.with_borrow(|lines| lines.contains(hash))
}

/// They were.
pub(crate) fn remember_line(hash: [u8; 32]) {
    LINES.with_borrow_mut(|lines| {
        if lines.len() >= LINES_MAX {
            lines.clear();
        }
        lines.insert(hash);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{OperatorId, ReleaseId};
    use crate::release::Approval;
    use crate::sign::{SecretKey, Signed};
    use crate::time::Wall;

    #[test]
    fn what_is_remembered_changes_no_answer() {
        let key = SecretKey::from_seed(&[7; 32]);
        let guardian = OperatorId::from(key.public());
        let approval = Approval { guardian, release: ReleaseId([1; 32]), expires: Wall(5) };
        let signed = Signed::sign(&approval, &key);
        let mut forged = signed.to_bytes();
        *forged.last_mut().unwrap() ^= 1;
        let forged = Signed::<Approval>::from_bytes(&forged).unwrap();
        switch_on(1);
        for _ in 0..3 {
            assert_eq!(signed.verify().unwrap(), approval);
            assert!(forged.verify().is_err());
        }
        let other = Approval { expires: Wall(6), ..approval };
        assert!(Signed::sign(&other, &key).verify().is_ok());
        assert!(forged.verify().is_err());
        switch_off();
        assert!(forged.verify().is_err() && signed.verify().is_ok());
    }
}
