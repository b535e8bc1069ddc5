//! Keys, and signatures over bytes under a context. What is signed, and by whom it counts, is not here.

use super::ideal;
use crate::id::PublicKey;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use std::fmt;

/// Length of a signature, in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// A secret Ed25519 key. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key with this seed (RFC 8032, section 5.1.5). The seed must be random.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for storage in a file that only its owner reads.
    #[must_use]
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes under a context.
    pub(crate) fn sign(&self, context: &str, body: &[u8]) -> [u8; SIGNATURE_LEN] {
        ideal::sign(self.public(), || self.seed(), context, body)
            .unwrap_or_else(|| self.0.sign(&message(context, body)).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

fn message(context: &str, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(context.len() + 1 + body.len());
    message.extend_from_slice(context.as_bytes());
    message.push(0);
    message.extend_from_slice(body);
    message
}

/// Whether these bytes were signed by a key under a context.
pub(crate) fn is_signed(key: PublicKey, context: &str, body: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = <&[u8; SIGNATURE_LEN]>::try_from(signature) else { return false };
    if ideal::is_signed(key, context, body, signature) {
        return true;
    }
    VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|key| key.verify_strict(&message(context, body), &signature.into()).is_ok())
}

/// Whether anybody could sign with a key: it is a point of the curve, and none under which anything counts as signed.
pub(crate) fn is_usable(key: PublicKey) -> bool {
    VerifyingKey::from_bytes(&key.0).is_ok_and(|key| !key.is_weak())
}
