//! The tags of a snapshot: words to find it by. They can change after it was written, by a log entry
//! ([`crate::log::Body::Tags`]) that seals all of them anew.
//!
//! ```text
//! tags = count(n) words      word = length(n) bytes, UTF-8, increasing      n: a varint of the codec
//! ```

use crate::codec::{self, CodecError};
use crate::seal::{SealError, SealKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most tags of one snapshot.
pub const TAGS_MAX: usize = 64;
/// Longest tag, in bytes.
pub const TAG_LEN_MAX: usize = 128;
/// Context of sealed tags.
const CONTEXT: &str = "strewn tags v1";
/// Longest encoding, in bytes.
const LEN_MAX: usize = 8 + TAGS_MAX * (TAG_LEN_MAX + 4);

/// Words that cannot be tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// Empty, too long, with a comma or with what is no text.
    #[error("{0:?} is no tag: 1 to {TAG_LEN_MAX} bytes of text without commas and line breaks")]
    Word(String),
    /// Too many.
    #[error("{0} tags, at most {TAGS_MAX} allowed")]
    TooMany(usize),
    /// Not sealed with this key, or altered.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Not tags.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Checks that a word can be a tag.
pub fn check_tag(word: &str) -> Result<(), TagError> {
    let fits = (1..=TAG_LEN_MAX).contains(&word.len())
        && word.trim() == word
        && !word.contains(|c: char| c == ',' || c.is_control());
    if fits { Ok(()) } else { Err(TagError::Word(word.chars().take(40).collect())) }
}

/// The tags of one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeSet<String>);

impl Tags {
    /// Collects words; one that comes twice counts once.
    pub fn new(words: impl IntoIterator<Item = String>) -> Result<Self, TagError> {
        let words: BTreeSet<String> = words.into_iter().collect();
        if words.len() > TAGS_MAX {
            return Err(TagError::TooMany(words.len()));
        }
        words.iter().try_for_each(|word| check_tag(word))?;
        Ok(Self(words))
    }

    /// The words, in order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Seals them under the vault's catalog key. A nonce is used once.
    #[must_use]
    pub fn seal(&self, key: &SealKey, nonce: [u8; 24]) -> Vec<u8> {
        key.seal_blob(CONTEXT, nonce, &codec::encode(self))
    }

    /// The inverse of [`Tags::seal`].
    pub fn open(key: &SealKey, sealed: &[u8]) -> Result<Self, TagError> {
        let plain = key.open_blob(CONTEXT, sealed)?;
        let words: Self = codec::decode_canonical(&plain, LEN_MAX)?;
        Self::new(words.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_not_be_typed_or_listed_is_no_tag() {
        for wrong in ["", " a", "a,b", "a\nb", "\u{1b}[2J", &"x".repeat(TAG_LEN_MAX + 1)] {
            assert!(check_tag(wrong).is_err(), "{wrong:?}");
        }
        let many = (0..=TAGS_MAX).map(|i| i.to_string());
        assert_eq!(Tags::new(many), Err(TagError::TooMany(TAGS_MAX + 1)));
        let twice = Tags::new(["a".into(), "b c".into(), "a".into()]).unwrap();
        assert_eq!(twice.words().collect::<Vec<_>>(), ["a", "b c"]);
    }

    proptest! {
        #[test]
        fn tags_open_as_they_were_sealed(words in proptest::collection::vec("[a-zà-ü0-9]{1,20}", 0..64), nonce: [u8; 24]) {
            let (key, tags) = (SealKey([3; 32]), Tags::new(words).unwrap());
            let sealed = tags.seal(&key, nonce);
            prop_assert_eq!(Tags::open(&key, &sealed).unwrap(), tags);
            prop_assert!(Tags::open(&SealKey([4; 32]), &sealed).is_err());
        }

        #[test]
        fn hostile_bytes_under_the_right_key_are_refused_or_tags(plain: Vec<u8>) {
            let key = SealKey([3; 32]);
            if let Ok(tags) = Tags::open(&key, &key.seal_blob(CONTEXT, [0; 24], &plain)) {
                prop_assert_eq!(Tags::new(tags.0.clone()), Ok(tags));
            }
        }
    }
}
