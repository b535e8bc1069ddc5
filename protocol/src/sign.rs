//! Signed statements: Ed25519 (RFC 8032) over a context string, a version and one canonical encoding.
//!
//! ```text
//! signed message = context "\0" version(u8) body
//! ```
//! The context differs for every kind of statement, so that no signature means two things. What operators state may be signed by the key that
//! speaks for them by then, which shows the line from the first one, and signs that with it ([`crate::succession`]).

pub mod ideal;
pub mod key;

use crate::codec::{self, Blob, CodecError};
use crate::id::{OperatorId, PublicKey};
use crate::succession::{LINE_LEN_MAX, Line, Said, Speaker, SuccessionError};
use key::{SIGNATURE_LEN, is_signed};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

pub use key::SecretKey;

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

    /// The operator whose word it is, where it is one's: then the key that has succeeded its first one may sign as well.
    fn operator(&self) -> Option<OperatorId> {
        None
    }
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
    /// The signer does not show that it speaks for the operator.
    #[error("{context}: {source}")]
    Succession {
        /// The kind of statement.
        context: &'static str,
        /// What is wrong with the line.
        source: SuccessionError,
    },
}

/// A signature that was verified, kept beside its statement: together they are the signed statement again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

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
        let signature = key.sign(T::CONTEXT, &body);
        Self { body: Blob(body), signature: Blob(signature.to_vec()), kind: PhantomData }
    }

    /// Signs a statement of an operator with the key that speaks for it.
    ///
    /// # Panics
    /// When that is another operator than [`Statement::operator`]: the statement would count for nobody.
    #[must_use]
    pub fn speak(statement: &T, speaker: &Speaker) -> Self {
        let operator = Some(speaker.operator());
        assert_eq!(statement.operator(), operator, "{}: another operator's word", T::CONTEXT);
        let body = body_of(statement);
        let signature = speaker.sign(T::CONTEXT, &body);
        Self { body: Blob(body), signature: Blob(signature), kind: PhantomData }
    }

    /// Checks it as [`Signed::verify`] does, and gives its signature too. [`Signed::join`] is the inverse.
    ///
    /// # Errors
    /// As [`Signed::verify`].
    pub fn split(&self) -> Result<(T, Signature), SignatureError> {
        let statement = self.verify()?;
        Ok((statement, Signature(self.signature.0.clone())))
    }

    /// The signed statement of which these are the parts: there is one encoding of a statement.
    #[must_use]
    pub fn join(statement: &T, signature: &Signature) -> Self {
        let signature = Blob(signature.0.clone());
        Self { body: Blob(body_of(statement)), signature, kind: PhantomData }
    }

    fn codec_error(source: CodecError) -> SignatureError {
        SignatureError::Codec { context: T::CONTEXT, source }
    }

    /// The statement, whoever signed it.
    fn read(&self) -> Result<(T, &[u8]), SignatureError> {
        let (version, body) = self
            .body
            .0
            .split_first()
            .ok_or_else(|| Self::codec_error(CodecError::Malformed("empty".into())))?;
        if *version != T::VERSION {
            let version = CodecError::Version { found: *version, known: T::VERSION };
            return Err(Self::codec_error(version));
        }
        Ok((codec::decode(body, T::LEN_MAX).map_err(Self::codec_error)?, body))
    }

    /// Checks encoding and signature, and gives the statement. Whether its signer may say so is
    /// for the caller to decide.
    ///
    /// # Errors
    /// [`SignatureError`] when the bytes are not a canonical statement or the signature is wrong.
    pub fn verify(&self) -> Result<T, SignatureError> {
        let context = T::CONTEXT;
        let (statement, body) = self.read()?;
        let (signer, signature, (signed, bytes)) = match statement.operator() {
            Some(operator) if self.signature.0.len() != SIGNATURE_LEN => {
                let line = Line::of_signature(operator, &self.signature.0);
                let (line, signature) =
                    line.map_err(|source| SignatureError::Succession { context, source })?;
                let (spoken, bytes) = line.spoken(context, &self.body.0);
                (line.key(), Some(signature), (spoken, Cow::Owned(bytes)))
            }
            _ => {
                let signature = self.signature.0.as_slice().try_into().ok();
                (statement.signer(), signature, (context, Cow::Borrowed(&self.body.0[..])))
            }
        };
        let wrong = || SignatureError::Wrong { context, signer };
        let signature: [u8; SIGNATURE_LEN] = signature.ok_or_else(wrong)?;
        if !codec::encodes_to(&statement, body) {
            return Err(Self::codec_error(CodecError::NotCanonical));
        }
        if !is_signed(signer, signed, &bytes, &signature) {
            return Err(wrong());
        }
        Ok(statement)
    }

    /// The statement as it stands there, of what was verified when it was stored. Where something depends on it alone it is to be verified again.
    pub(crate) fn stored(&self) -> Option<T> {
        Some(self.read().ok()?.0)
    }

    /// Under which line it claims to have been said; `None` where it is no operator's word. Nothing is verified here.
    ///
    /// # Errors
    /// [`SignatureError`] when the bytes are not such a statement.
    pub fn said(&self) -> Result<Option<Said>, SignatureError> {
        let (statement, _) = self.read()?;
        let said = statement.operator().map(|operator| Said::claimed(operator, &self.signature.0));
        said.transpose()
            .map_err(|source| SignatureError::Succession { context: T::CONTEXT, source })
    }

    /// Checks it as [`Signed::verify`] does, and gives the line that it shows too; `None` where it is no operator's word.
    ///
    /// # Errors
    /// As [`Signed::verify`].
    pub fn line(&self) -> Result<Option<Line>, SignatureError> {
        self.verify()?.operator().map(|operator| self.line_of(operator)).transpose()
    }

    /// The line that it shows, of what was verified as this operator's word.
    pub(crate) fn line_of(&self, operator: OperatorId) -> Result<Line, SignatureError> {
        if self.signature.0.len() == SIGNATURE_LEN {
            return Ok(Line::first(operator));
        }
        let line = Line::of_signature(operator, &self.signature.0);
        let error = |source| SignatureError::Succession { context: T::CONTEXT, source };
        Ok(line.map_err(error)?.0)
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
        codec::decode_canonical(bytes, T::LEN_MAX + 128 + LINE_LEN_MAX)
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
