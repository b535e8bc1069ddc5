//! Keys and sealing: BLAKE3 `derive_key` for every key, XChaCha20-Poly1305 for every byte.
//!
//! ```text
//! vault secret ─┬─ chunk id key          session key ─┐
//!               ├─ gear key                           ├─ pack key = derive(key ‖ pack nonce) ─ commitment
//!               ├─ index key ─────────────────────────┘
//!               └─ catalog key
//!
//! sealed blob:    0      24  nonce, random
//!                 24     32  commitment to the key
//!                 56     …   ciphertext, as long as the plain bytes; the context is authenticated with it
//!                 end-16 16  tag
//! ```
//! `derive` is BLAKE3 `derive_key` under a context string of its own for each use; a commitment is
//! derived from the key in the same way.
//!
//! The AEAD does not commit to its key, so a hash of the key stands in the clear before everything
//! sealed and is compared first: no bytes open under two keys.

use crate::codec::CodecError;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes that sealing adds to a chunk.
pub const TAG_LEN: usize = 16;
/// Bytes that sealing adds to a blob.
pub const BLOB_OVERHEAD: usize = 24 + 32 + TAG_LEN;

/// Why nothing is opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Sealed with another key.
    #[error("sealed with another key")]
    WrongKey,
    /// The bytes are not what was sealed.
    #[error("the sealed bytes were altered")]
    Altered,
    /// Too short to be sealed bytes.
    #[error("{0} bytes are too few to be sealed")]
    TooShort(usize),
    /// What was sealed is not what was expected.
    #[error("sealed content: {0}")]
    Content(#[from] CodecError),
}

macro_rules! secrets {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
        pub struct $name(pub [u8; 32]);

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    )*};
}

secrets! {
    /// What all devices of a vault share, and nobody else but its readers knows.
    VaultSecret;
    /// What one backup session seals its packs with.
    SessionKey;
    /// Seals one pack, or one kind of blob.
    SealKey;
}

impl VaultSecret {
    /// The key of chunk ids.
    #[must_use]
    pub fn chunk_id_key(&self) -> SealKey {
        SealKey(blake3::derive_key("strewn 2026-11 chunk id v1", &self.0))
    }
    /// The key of chunk boundaries.
    #[must_use]
    pub fn gear_key(&self) -> SealKey {
        SealKey(blake3::derive_key("strewn 2026-11 chunk gear v1", &self.0))
    }
    /// What index packs are sealed with.
    #[must_use]
    pub fn index_key(&self) -> SessionKey {
        SessionKey(blake3::derive_key("strewn 2026-11 index v1", &self.0))
    }
    /// What summaries of snapshots are sealed with.
    #[must_use]
    pub fn catalog_key(&self) -> SealKey {
        SealKey(blake3::derive_key("strewn 2026-11 catalog v1", &self.0))
    }
}

impl SessionKey {
    /// The key of one pack.
    #[must_use]
    pub fn pack_key(&self, nonce: &[u8; 32]) -> SealKey {
        let mut material = [0; 64];
        material[..32].copy_from_slice(&self.0);
        material[32..].copy_from_slice(nonce);
        let key = SealKey(blake3::derive_key("strewn 2026-11 pack v1", &material));
        material.zeroize();
        key
    }

    /// The key of a snapshot's root.
    #[must_use]
    pub fn root_key(&self) -> SealKey {
        SealKey(blake3::derive_key("strewn 2026-11 root v1", &self.0))
    }
}

impl SealKey {
    /// A hash that binds to this key and tells nothing of it.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        blake3::derive_key("strewn 2026-11 key commitment v1", &self.0)
    }

    /// Checks that something was sealed with this key.
    pub fn check_commitment(&self, commitment: &[u8; 32]) -> Result<(), SealError> {
        // blake3::Hash compares in constant time.
        if blake3::Hash::from(self.commitment()) == blake3::Hash::from(*commitment) {
            Ok(())
        } else {
            Err(SealError::WrongKey)
        }
    }

    /// Seals bytes in place and gives the tag. A nonce is used once per key.
    ///
    /// # Panics
    /// Never: the cipher's limit is 256 GiB, far above every buffer here.
    #[must_use]
    pub fn seal_in_place(
        &self,
        nonce: [u8; 24],
        context: &[u8],
        bytes: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let cipher = XChaCha20Poly1305::new(&Key::from(self.0));
        let tag = cipher
            .encrypt_inout_detached(&XNonce::from(nonce), context, InOutBuf::from(bytes))
            .expect("a buffer is far shorter than the cipher's limit");
        tag.into()
    }

    /// The inverse of [`SealKey::seal_in_place`]. On an error the bytes are unspecified.
    pub fn open_in_place(
        &self,
        nonce: [u8; 24],
        context: &[u8],
        bytes: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), SealError> {
        let cipher = XChaCha20Poly1305::new(&Key::from(self.0));
        cipher
            .decrypt_inout_detached(
                &XNonce::from(nonce),
                context,
                InOutBuf::from(bytes),
                &Tag::from(*tag),
            )
            .map_err(|_| SealError::Altered)
    }

    /// The inverse of [`SealKey::seal_in_place`], to other memory of the same length. Nothing is written there before the
    /// tag was found to be right.
    pub fn open_to(
        &self,
        nonce: [u8; 24],
        context: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        plain: &mut [u8],
    ) -> Result<(), SealError> {
        let cipher = XChaCha20Poly1305::new(&Key::from(self.0));
        let room = plain.len();
        let buffers = InOutBuf::new(sealed, plain).map_err(|_| SealError::TooShort(room))?;
        cipher
            .decrypt_inout_detached(&XNonce::from(nonce), context, buffers, &Tag::from(*tag))
            .map_err(|_| SealError::Altered)
    }

    /// Seals a small blob under a random nonce.
    #[must_use]
    pub fn seal_blob(&self, context: &str, nonce: [u8; 24], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plain.len() + BLOB_OVERHEAD);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&self.commitment());
        sealed.extend_from_slice(plain);
        let tag = self.seal_in_place(nonce, context.as_bytes(), &mut sealed[56..]);
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// The inverse of [`SealKey::seal_blob`].
    pub fn open_blob(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let short = || SealError::TooShort(sealed.len());
        let (nonce, rest) = sealed.split_first_chunk::<24>().ok_or_else(short)?;
        let (commitment, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (cipher, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or_else(short)?;
        self.check_commitment(commitment)?;
        let mut plain = cipher.to_vec();
        self.open_in_place(*nonce, context.as_bytes(), &mut plain, tag)?;
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn another_key_is_noticed_before_anything_is_opened() {
        let sealed = SealKey([1; 32]).seal_blob("a", [0; 24], b"text");
        assert_eq!(SealKey([2; 32]).open_blob("a", &sealed), Err(SealError::WrongKey));
        assert_eq!(SealKey([1; 32]).open_blob("b", &sealed), Err(SealError::Altered));
        assert_eq!(SealKey([1; 32]).open_blob("a", &sealed).unwrap(), b"text");
    }

    #[test]
    fn every_use_has_a_key_of_its_own() {
        let secret = VaultSecret([7; 32]);
        let keys = [
            secret.chunk_id_key().0,
            secret.gear_key().0,
            secret.index_key().0,
            secret.catalog_key().0,
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != key));
        }
        assert!(!format!("{secret:?}").contains('7'));
    }

    proptest! {
        #[test]
        fn blobs_round_trip_and_any_change_shows(plain: Vec<u8>, key: [u8; 32], nonce: [u8; 24], at: usize, bit in 0u8..8) {
            let key = SealKey(key);
            let mut sealed = key.seal_blob("test", nonce, &plain);
            prop_assert_eq!(key.open_blob("test", &sealed).unwrap(), plain);
            let at = at % sealed.len();
            sealed[at] ^= 1 << bit;
            prop_assert!(key.open_blob("test", &sealed).is_err());
        }
    }
}
