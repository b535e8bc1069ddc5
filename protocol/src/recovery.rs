//! Recovery cards: by which a vault is found again with its recovery identity and the address of one node.
//!
//! ```text
//! card   = vault, version, tags, sealed                              signed by the vault, kept by holders
//! sealed = age file to the vault's recipients, of: version(u8 = 1) codec(certificate, key, secret, name)
//! tag    = BLAKE3 derive_key("strewn 2026-11 recovery tag v1", recipient without its comment)
//! ```
//! A stranger who shows the tag of a recipient gets what was sealed to it and nothing else: no vault's name, no other tag.
//! Age files say nothing of who made them, so whoever opens one believes only what the operator signed in it. The
//! vault's dedup secret is in the card although the descriptor has it too: of a card the first version is kept for ever,
//! and nobody who steals the vault's key later can put another in its place.

use crate::certificate::{
    CertificateError, DeviceCertificate, RECIPIENTS_MAX, VaultCertificate, check_count,
};
use crate::codec::{self, Blob, CodecError};
use crate::id::{OperatorId, PublicKey, VaultId};
use crate::seal::VaultSecret;
use crate::sign::{SecretKey, SignatureError, Signed, Statement};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Longest age file of a card: 32 recipients with RSA keys of 4096 bits fit.
pub const SEALED_LEN_MAX: usize = 40 << 10;
/// Most bytes of cards that are given for one tag.
pub const ANSWER_LEN_MAX: usize = 1 << 20;
/// Most vaults that are kept for one tag: who has more takes a further recipient.
pub const VAULTS_PER_TAG_MAX: usize = 64;
/// Longest name of a vault.
pub const NAME_LEN_MAX: usize = 64;
/// Most tags of one vault, those of all its cards together: it has 32 recipients, and had others.
pub const TAGS_PER_VAULT_MAX: usize = 64;
/// Most bytes of cards that are kept of one vault.
pub const CARDS_LEN_MAX: usize = 256 << 10;

const SECRET_VERSION: u8 = 1;
/// Longest content of a card: certificate, two keys and a name.
const SECRET_LEN_MAX: usize = 2 << 10;

/// What stands for a recipient where strangers ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecoveryTag(pub [u8; 32]);

impl RecoveryTag {
    /// The tag of a recipient as people write it: an SSH key's comment does not count, nor whether age's are in capitals.
    #[must_use]
    pub fn of(recipient: &str) -> Self {
        let mut words = recipient.split_whitespace();
        let first = words.next().unwrap_or_default();
        let text = match words.next() {
            Some(key) if first.starts_with("ssh-") => format!("{first} {key}"),
            _ => first.to_ascii_lowercase(),
        };
        Self(blake3::derive_key("strewn 2026-11 recovery tag v1", text.as_bytes()))
    }
}

/// What holders keep for whoever comes with nothing but a recovery identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryCard {
    /// The vault.
    pub vault: VaultId,
    /// Grows with every change.
    pub version: u64,
    /// By which it is found: one for each recipient, in order.
    pub tags: Vec<RecoveryTag>,
    /// [`RecoverySecret::encode`], as an age file to the recipients.
    pub sealed: Blob,
}

impl Statement for RecoveryCard {
    const CONTEXT: &'static str = "strewn recovery card";
    const LEN_MAX: usize = SEALED_LEN_MAX + 2048;
    fn signer(&self) -> PublicKey {
        self.vault.key()
    }
}

impl RecoveryCard {
    /// The card of a vault for these recipients.
    #[must_use]
    pub fn new(vault: VaultId, version: u64, recipients: &[String], sealed: Vec<u8>) -> Self {
        let mut tags: Vec<RecoveryTag> = recipients.iter().map(|r| RecoveryTag::of(r)).collect();
        tags.sort_unstable();
        tags.dedup();
        Self { vault, version, tags, sealed: Blob(sealed) }
    }

    /// Whether it is for these recipients and no others.
    #[must_use]
    pub fn is_for(&self, recipients: &[String]) -> bool {
        self.tags == Self::new(self.vault, 0, recipients, Vec::new()).tags
    }

    /// Verifies the card and its bounds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(signed: &Signed<Self>) -> Result<Self, CertificateError> {
        let card = signed.verify()?;
        check_count("recipients of a card", card.tags.len(), RECIPIENTS_MAX)?;
        check_count("bytes of a card", card.sealed.0.len(), SEALED_LEN_MAX)?;
        if card.tags.is_empty() {
            return Err(CertificateError::Chain("a card that nobody can find"));
        }
        if !card.tags.is_sorted_by(|a, b| a < b) {
            return Err(CertificateError::Chain("the tags of a card are not in order"));
        }
        Ok(card)
    }
}

/// Why what was sealed in a card does not bring a vault back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// It is no content of a card.
    #[error("the card holds something else: {0}")]
    Codec(#[from] CodecError),
    /// Nobody vouches for the vault.
    #[error("the card's vault is not vouched for: {0}")]
    Signature(#[from] SignatureError),
    /// The key is not the vault's.
    #[error("the card's key is not that of its vault")]
    Key,
    /// Its name cannot be one.
    #[error("the card names its vault in a way that cannot be")]
    Name,
}

/// What brings a vault back: whoever has it is the vault's owner.
#[derive(Clone)]
pub struct RecoverySecret {
    /// The operator's word for the vault.
    pub certificate: Signed<VaultCertificate>,
    /// The vault's signing key.
    pub key: SecretKey,
    /// What its devices share.
    pub secret: VaultSecret,
    /// What it was called where it was made.
    pub name: String,
}

impl fmt::Debug for RecoverySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoverySecret(of {})", self.vault().short())
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    certificate: Signed<VaultCertificate>,
    key: [u8; 32],
    secret: [u8; 32],
    name: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.key.zeroize();
        self.secret.zeroize();
    }
}

impl RecoverySecret {
    /// The vault.
    #[must_use]
    pub fn vault(&self) -> VaultId {
        self.key.public().into()
    }

    /// As bytes, to be sealed.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let stored = Stored {
            certificate: self.certificate.clone(),
            key: *self.key.seed(),
            secret: self.secret.0,
            name: self.name.clone(),
        };
        let body = Zeroizing::new(codec::encode(&stored));
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + body.len()));
        bytes.push(SECRET_VERSION);
        bytes.extend_from_slice(&body);
        bytes
    }

    /// The inverse of [`RecoverySecret::encode`], with the operator that vouches for the vault. Whether the certificate
    /// counts now remains to be asked.
    ///
    /// # Errors
    /// [`RecoveryError`] when it is none, or its parts do not belong together.
    pub fn decode(bytes: &[u8]) -> Result<(Self, OperatorId), RecoveryError> {
        let (&version, body) =
            bytes.split_first().ok_or_else(|| CodecError::Malformed("empty".into()))?;
        if version != SECRET_VERSION {
            return Err(CodecError::Version { found: version, known: SECRET_VERSION }.into());
        }
        let stored: Stored = codec::decode(body, SECRET_LEN_MAX)?;
        let certificate = stored.certificate.verify()?;
        let key = SecretKey::from_seed(&stored.key);
        if VaultId::from(key.public()) != certificate.vault {
            return Err(RecoveryError::Key);
        }
        if stored.name.len() > NAME_LEN_MAX {
            return Err(RecoveryError::Name);
        }
        let secret = Self {
            certificate: stored.certificate.clone(),
            key,
            secret: VaultSecret(stored.secret),
            name: stored.name.clone(),
        };
        Ok((secret, certificate.operator))
    }

    /// The device of recovery drills and the vault's word for it. They are the same each time, so that a holder keeps one
    /// row for all drills there will ever be. It reads, and never writes a log.
    ///
    /// # Errors
    /// [`SignatureError`] when the operator's word is none.
    pub fn drill_device(&self) -> Result<(SecretKey, Signed<DeviceCertificate>), SignatureError> {
        let certificate = self.certificate.verify()?;
        let device = drill_key(&self.key);
        let word = DeviceCertificate {
            vault: certificate.vault,
            device: device.public().into(),
            issued: certificate.issued,
            expires: certificate.expires,
        };
        Ok((device, Signed::sign(&word, &self.key)))
    }
}

/// The key of the device as which recovery drills read, from the vault's.
#[must_use]
pub fn drill_key(vault: &SecretKey) -> SecretKey {
    let context = "strewn 2026-11 recovery drill device v1";
    SecretKey::from_seed(&Zeroizing::new(blake3::derive_key(context, &*vault.seed())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;
    use proptest::prelude::*;

    fn secret(operator: u8, vault: u8) -> RecoverySecret {
        let (operator, key) =
            (SecretKey::from_seed(&[operator; 32]), SecretKey::from_seed(&[vault; 32]));
        let certificate = VaultCertificate {
            vault: key.public().into(),
            operator: operator.public().into(),
            issued: Wall(1000),
            expires: Wall(2000),
        };
        RecoverySecret {
            certificate: Signed::sign(&certificate, &operator),
            key,
            secret: VaultSecret([7; 32]),
            name: "work".into(),
        }
    }

    #[test]
    fn what_was_sealed_brings_the_vault_back() {
        let made = secret(1, 2);
        let (read, operator) = RecoverySecret::decode(&made.encode()).unwrap();
        assert_eq!(operator, SecretKey::from_seed(&[1; 32]).public().into());
        assert_eq!((read.vault(), &read.secret), (made.vault(), &made.secret));
        assert_eq!((read.name, read.certificate), (made.name, made.certificate));
        assert_eq!(*read.key.seed(), [2; 32]);
    }

    #[test]
    fn a_key_of_another_vault_is_refused() {
        let mut mixed = secret(1, 2);
        mixed.key = SecretKey::from_seed(&[3; 32]);
        let refused = RecoverySecret::decode(&mixed.encode()).unwrap_err();
        assert_eq!(refused, RecoveryError::Key);
        let mut wordy = secret(1, 2);
        wordy.name = "n".repeat(NAME_LEN_MAX + 1);
        assert_eq!(RecoverySecret::decode(&wordy.encode()).unwrap_err(), RecoveryError::Name);
        assert!(!format!("{mixed:?}").contains('['), "nothing secret is printed");
    }

    #[test]
    fn a_recipient_has_one_tag_however_it_is_written() {
        let tag = RecoveryTag::of("ssh-ed25519 AAAAC3Nza alice@example.org");
        assert_eq!(RecoveryTag::of(" ssh-ed25519   AAAAC3Nza\n"), tag);
        assert_ne!(RecoveryTag::of("ssh-ed25519 AAAAC3NzA"), tag);
        assert_ne!(RecoveryTag::of("ssh-rsa AAAAC3Nza"), tag);
        assert_eq!(RecoveryTag::of("AGE1QX"), RecoveryTag::of("age1qx"));
    }

    #[test]
    fn drills_have_one_device_for_ever() {
        let (device, word) = secret(1, 2).drill_device().unwrap();
        let (again, same) = secret(1, 2).drill_device().unwrap();
        assert_eq!((device.public(), &word), (again.public(), &same));
        let word = DeviceCertificate::verify(&word, Wall(1500)).unwrap();
        assert_eq!(word.device, device.public().into());
        assert_ne!(secret(1, 3).drill_device().unwrap().0.public(), device.public());
    }

    #[test]
    fn a_card_out_of_bounds_is_refused() {
        let key = SecretKey::from_seed(&[2; 32]);
        let recipients: Vec<String> = (0..RECIPIENTS_MAX).map(|n| format!("age1{n}")).collect();
        let card = RecoveryCard::new(key.public().into(), 1, &recipients, vec![0; SEALED_LEN_MAX]);
        assert!(RecoveryCard::verify(&Signed::sign(&card, &key)).is_ok());
        assert!(card.is_for(&recipients) && !card.is_for(&recipients[1..]));
        let is_refused = |change: &dyn Fn(&mut RecoveryCard)| {
            let mut wrong = card.clone();
            change(&mut wrong);
            RecoveryCard::verify(&Signed::sign(&wrong, &key)).is_err()
        };
        assert!(is_refused(&|card| card.tags.clear()));
        assert!(is_refused(&|card| card.tags.swap(0, 1)));
        assert!(is_refused(&|card| card.tags[0] = card.tags[1]));
        assert!(is_refused(&|card| card.tags.push(RecoveryTag([255; 32]))));
        assert!(is_refused(&|card| card.sealed.0.push(0)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic(bytes: Vec<u8>, at in 0usize..300, bit in 0u8..8) {
            prop_assert!(RecoverySecret::decode(&bytes).is_err());
            let mut altered = secret(1, 2).encode().to_vec();
            let at = at % altered.len();
            altered[at] ^= 1 << bit;
            // Names and dedup secrets are what they are; nothing else changes unseen.
            if let Ok((read, _)) = RecoverySecret::decode(&altered) {
                prop_assert_eq!(read.vault(), secret(1, 2).vault());
                prop_assert_eq!(read.certificate, secret(1, 2).certificate);
            }
        }
    }
}
