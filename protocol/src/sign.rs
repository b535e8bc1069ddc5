//! Signed statements: Ed25519 (RFC 8032) over a context string, a version and one canonical encoding.
//!
//! ```text
//! signed message = context "\0" version(u8) body
//! ```
//! The context differs for every kind of statement, so that no signature means two things.

pub mod memo;

use crate::codec::{self, Blob, CodecError};
use crate::id::PublicKey;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;
use std::marker::PhantomData;

/// A kind of statement that somebody signs.
pub trait Statement: Serialize + DeserializeOwned {
    /// Separates this kind from every other; never reused.
    const CONTEXT: &'static str;
    /// Version of the body's format.
    const VERSION: u8 = 1;
    /// Longest encoding accepted, in bytes.
    const LEN_MAX: usize;

    /// Whose signature makes this statement count.
    fn signer(&self) -> PublicKey;
}

/// Why a signed statement is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The body is not the statement it claims to be.
    #[error("{context}: {source}")]
    Codec {
        /// The kind of statement.
        context: &'static str,
        /// What is wrong with its bytes.
        source: CodecError,
    },
    /// The signature is not that of the signer named.
    #[error("{context}: the signature is not that of {signer}")]
    Wrong {
        /// The kind of statement.
        context: &'static str,
        /// Who should have signed.
        signer: PublicKey,
    },
}

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
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

/// A signature that was verified, kept beside its statement: together they are the signed statement again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// A statement with its signature, not yet verified: only [`Signed::verify`] gives the statement.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    body: Blob,
    signature: Blob,
    #[serde(skip)]
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self { body: self.body.clone(), signature: self.signature.clone(), kind: PhantomData }
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body && self.signature == other.signature
    }
}

impl<T> Eq for Signed<T> {}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({} bytes)", self.body.0.len())
    }
}

fn message<T: Statement>(body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(T::CONTEXT.len() + 1 + body.len());
    message.extend_from_slice(T::CONTEXT.as_bytes());
    message.push(0);
    message.extend_from_slice(body);
    message
}

fn body_of<T: Statement>(statement: &T) -> Vec<u8> {
    let mut body = vec![T::VERSION];
    body.extend(codec::encode(statement));
    body
}

impl<T: Statement> Signed<T> {
    /// Signs a statement with the key of its [`Statement::signer`].
    ///
    /// # Panics
    /// When `key` is not that key: the statement would count for nobody.
    #[must_use]
    pub fn sign(statement: &T, key: &SecretKey) -> Self {
        let signer = key.public();
        assert_eq!(statement.signer(), signer, "{}: signed with another's key", T::CONTEXT);
        let body = body_of(statement);
        let signature = key.0.sign(&message::<T>(&body)).to_bytes();
        memo::remember(&signer, &signature, T::CONTEXT, &body);
        Self { body: Blob(body), signature: Blob(signature.to_vec()), kind: PhantomData }
    }

    /// Checks it as [`Signed::verify`] does, and gives its signature too. [`Signed::join`] is the inverse.
    ///
    /// # Errors
    /// As [`Signed::verify`].
    pub fn split(&self) -> Result<(T, Signature), SignatureError> {
        let statement = self.verify()?;
        let signature = self.signature.0.as_slice().try_into();
        let wrong = |_| SignatureError::Wrong { context: T::CONTEXT, signer: statement.signer() };
        let signature = Signature(signature.map_err(wrong)?);
        Ok((statement, signature))
    }

    /// The signed statement of which these are the parts: there is one encoding of a statement.
    #[must_use]
    pub fn join(statement: &T, signature: &Signature) -> Self {
        let signature = Blob(signature.0.to_vec());
        Self { body: Blob(body_of(statement)), signature, kind: PhantomData }
    }

    /// Checks encoding and signature, and gives the statement. Whether its signer may say so is
    /// for the caller to decide.
    ///
    /// # Errors
    /// [`SignatureError`] when the bytes are not a canonical statement or the signature is wrong.
    pub fn verify(&self) -> Result<T, SignatureError> {
        let context = T::CONTEXT;
        let codec_error = |source| SignatureError::Codec { context, source };
        let (version, body) = self
            .body
            .0
            .split_first()
            .ok_or_else(|| codec_error(CodecError::Malformed("empty".into())))?;
        if *version != T::VERSION {
            return Err(codec_error(CodecError::Version { found: *version, known: T::VERSION }));
        }
        let statement: T = codec::decode(body, T::LEN_MAX).map_err(codec_error)?;
        let signer = statement.signer();
        let signature = <&[u8; 64]>::try_from(self.signature.0.as_slice());
        if signature.is_ok_and(|known| memo::is_known(&signer, known, context, &self.body.0)) {
            return Ok(statement);
        }
        if codec::encode(&statement) != body {
            return Err(codec_error(CodecError::NotCanonical));
        }
        let wrong = || SignatureError::Wrong { context, signer };
        let signature = signature.map_err(|_| wrong())?;
        let key = VerifyingKey::from_bytes(&signer.0).map_err(|_| wrong())?;
        key.verify_strict(&message::<T>(&self.body.0), &signature.into()).map_err(|_| wrong())?;
        memo::remember(&signer, signature, context, &self.body.0);
        Ok(statement)
    }

    /// The hash that names this signed statement: body and signature.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("strewn 2026-11 signed statement v1");
        hasher.update(T::CONTEXT.as_bytes()).update(&[0]);
        hasher.update(&(self.body.0.len() as u64).to_le_bytes());
        hasher.update(&self.body.0).update(&self.signature.0);
        *hasher.finalize().as_bytes()
    }

    /// All of it as bytes, for a file or a table.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The inverse of [`Signed::to_bytes`]; verifies nothing yet.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are no signed statement.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_canonical(bytes, T::LEN_MAX + 128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        by: PublicKey,
        text: String,
    }
    impl Statement for Note {
        const CONTEXT: &'static str = "strewn test note";
        const LEN_MAX: usize = 1000;
        fn signer(&self) -> PublicKey {
            self.by
        }
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Other(Note);
    impl Statement for Other {
        const CONTEXT: &'static str = "strewn test other";
        const LEN_MAX: usize = 1000;
        fn signer(&self) -> PublicKey {
            self.0.by
        }
    }

    fn note(text: &str) -> (SecretKey, Signed<Note>) {
        let key = SecretKey::from_seed(&[3; 32]);
        let signed = Signed::sign(&Note { by: key.public(), text: text.into() }, &key);
        (key, signed)
    }

    #[test]
    fn what_was_signed_verifies_and_survives_storage() {
        let (_, signed) = note("hello");
        assert_eq!(signed.verify().unwrap().text, "hello");
        let again = Signed::<Note>::from_bytes(&signed.to_bytes()).unwrap();
        assert_eq!(again.verify().unwrap().text, "hello");
        assert_eq!(again.digest(), signed.digest());
        let (statement, signature) = signed.split().unwrap();
        assert_eq!(Signed::join(&statement, &signature), signed);
    }

    #[test]
    fn a_signature_means_one_kind_of_statement_only() {
        let (_, signed) = note("hello");
        let other = Signed::<Other>::from_bytes(&signed.to_bytes()).unwrap();
        assert!(matches!(other.verify(), Err(SignatureError::Wrong { .. })));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in 0usize..200) {
            let (_, signed) = note("some text of some length");
            let mut bytes = signed.to_bytes();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verified = Signed::<Note>::from_bytes(&bytes).map(|s| s.verify().is_ok());
            prop_assert!(!matches!(verified, Ok(true)));
        }
    }
}
