//! Ideal signatures: what the keys of a simulated world sign with, where many peers live on one thread and multiplications on the curve
//! would be a quarter of all that is computed. A key's signature is then a keyed hash (BLAKE3) of the same bytes, under a key that only its seed
//! gives; whoever verifies looks up the signer among the keys that have signed on this thread. So nobody signs for a key that he has not, whatever
//! is altered is noticed, and lengths are those of Ed25519: a peer cannot tell. What a third machine would make of them is the one thing they are
//! not good for: there they are wrong signatures.
//!
//! Off unless [`begin`] was called on the thread, which nothing but the simulator does.

use super::key::SIGNATURE_LEN;
use crate::id::PublicKey;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Derives what a key hashes with from its seed.
const CONTEXT: &str = "strewn 2026-11 ideal signature of a simulation v1";

thread_local! {
    static KEYS: RefCell<Option<Keys>> = const { RefCell::new(None) };
}

/// What each key that has signed hashes with.
type Keys = BTreeMap<PublicKey, [u8; 32]>;

/// While it lives, keys on this thread sign ideally.
#[derive(Debug)]
pub struct Ideal(());

/// From now on keys on this thread sign ideally, until what this returns is dropped.
#[must_use]
pub fn begin() -> Ideal {
    KEYS.set(Some(Keys::new()));
    Ideal(())
}

impl Drop for Ideal {
    fn drop(&mut self) {
        KEYS.set(None);
    }
}

fn hash(key: &[u8; 32], context: &str, body: &[u8]) -> [u8; SIGNATURE_LEN] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(context.as_bytes()).update(&[0]).update(body);
    let mut signature = [0; SIGNATURE_LEN];
    hasher.finalize_xof().fill(&mut signature);
    signature
}

/// The signature of a key, if they are ideal on this thread.
pub(super) fn sign(
    signer: PublicKey,
    seed: impl FnOnce() -> zeroize::Zeroizing<[u8; 32]>,
    context: &str,
    body: &[u8],
) -> Option<[u8; SIGNATURE_LEN]> {
    KEYS.with_borrow_mut(|keys| {
        let keys = keys.as_mut()?;
        let key = keys.entry(signer).or_insert_with(|| blake3::derive_key(CONTEXT, &*seed()));
        Some(hash(key, context, body))
    })
}

/// Whether it is the ideal signature of a key that has signed on this thread.
pub(super) fn is_signed(
    signer: PublicKey,
    context: &str,
    body: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> bool {
    KEYS.with_borrow(|keys| {
        let key = keys.as_ref().and_then(|keys| keys.get(&signer));
        key.is_some_and(|key| hash(key, context, body) == *signature)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{OperatorId, ReleaseId};
    use crate::release::Approval;
    use crate::sign::{SecretKey, Signed};
    use crate::time::Wall;
    use proptest::prelude::*;

    fn approval(key: &SecretKey, expires: u64) -> Signed<Approval> {
        let guardian = OperatorId::from(key.public());
        let release = ReleaseId([1; 32]);
        Signed::sign(&Approval { guardian, release, expires: Wall(expires) }, key)
    }

    #[test]
    fn they_count_where_they_were_made_and_nowhere_else() {
        let key = SecretKey::from_seed(&[7; 32]);
        let real = approval(&key, 5);
        let signed = {
            let _ideal = begin();
            let signed = approval(&key, 5);
            assert!(signed != real && signed.to_bytes().len() == real.to_bytes().len());
            assert_eq!(signed.verify().unwrap(), real.verify().unwrap());
            assert!(approval(&key, 5) == signed && approval(&key, 6) != signed);
            signed
        };
        assert!(signed.verify().is_err() && real.verify().is_ok());
        let _ideal = begin();
        assert!(signed.verify().is_err(), "another simulation, in which that key has not signed");
    }

    proptest! {
        #[test]
        fn whatever_is_altered_is_noticed_and_nobody_signs_for_another(bit in 0usize..8000) {
            let _ideal = begin();
            let (key, other) = (SecretKey::from_seed(&[7; 32]), SecretKey::from_seed(&[8; 32]));
            let (signed, others) = (approval(&key, 5), approval(&other, 5));
            let mut bytes = signed.to_bytes();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verified = Signed::<Approval>::from_bytes(&bytes).map(|signed| signed.verify().is_ok());
            prop_assert!(!matches!(verified, Ok(true)));
            let signature = others.split().unwrap().1;
            prop_assert!(Signed::join(&signed.verify().unwrap(), &signature).verify().is_err());
        }
    }
}
