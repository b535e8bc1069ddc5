//! The one place that turns values into bytes and back (bincode 2, standard configuration).
//!
//! Every decode has a limit, consumes its whole input and returns an error instead of allocating
//! what a hostile length claims. Signatures and hashes cover the bytes received, never a
//! re-encoding. Bulk shard bytes do not pass through here.

use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Visitor};

/// Largest encoded value this crate ever decodes, in bytes; the per-kind limits are smaller.
pub const VALUE_LEN_MAX: usize = 4 << 20;

/// Why bytes are not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// More bytes than this kind of value may have.
    #[error("{len} bytes, at most {max} allowed")]
    TooLong {
        /// Bytes offered.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not an encoding of the expected type.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A value was there, and then more bytes.
    #[error("{0} bytes after the end of the value")]
    Trailing(usize),
    /// The same value has another, canonical encoding.
    #[error("not the canonical encoding")]
    NotCanonical,
    /// A version this software does not know.
    #[error("format version {found}, this software knows {known}")]
    Version {
        /// Version found.
        found: u8,
        /// Newest version known.
        known: u8,
    },
}

/// Encodes a value. The result is canonical: the same value always gives the same bytes.
///
/// # Panics
/// Never for the types of this crate: they hold no type that bincode cannot encode.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Bytes(Vec::with_capacity(LEN_USUAL));
    bincode::serde::encode_into_writer(value, &mut bytes, bincode::config::standard())
        .expect("the types of this crate hold nothing that bincode cannot encode");
    bytes.0
}

/// Room that is made for a value at once: most messages and rows are no longer, or not much.
const LEN_USUAL: usize = 128;

/// What is encoded so far.
struct Bytes(Vec<u8>);

impl Writer for Bytes {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// What of the expected bytes has not been written yet.
struct Expected<'a>(&'a [u8]);

impl Writer for Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 = self.0.strip_prefix(bytes).ok_or(EncodeError::Other("other bytes"))?;
        Ok(())
    }
}

/// Whether [`encode`] gives these bytes.
pub(crate) fn encodes_to<T: Serialize + ?Sized>(value: &T, bytes: &[u8]) -> bool {
    let mut expected = Expected(bytes);
    let config = bincode::config::standard();
    let is_begun = bincode::serde::encode_into_writer(value, &mut expected, config).is_ok();
    is_begun && expected.0.is_empty()
}

/// Decodes a value from exactly `bytes`, which may be at most `max` long.
///
/// # Errors
/// [`CodecError`] when too long, malformed or followed by further bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CodecError> {
    if bytes.len() > max {
        return Err(CodecError::TooLong { len: bytes.len(), max });
    }
    // The limit bounds what a length prefix may claim before anything is allocated for it.
    let config = bincode::config::standard().with_limit::<{ 4 * VALUE_LEN_MAX }>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|e| CodecError::Malformed(e.to_string()))?;
    if used != bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    Ok(value)
}

/// As [`decode`], and refuses every encoding but the one that [`encode`] gives.
///
/// # Errors
/// As [`decode`], and [`CodecError::NotCanonical`].
pub fn decode_canonical<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    max: usize,
) -> Result<T, CodecError> {
    let value: T = decode(bytes, max)?;
    if !encodes_to(&value, bytes) {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}

/// A byte string that encodes as one run of bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob(pub Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E>(self, v: &[u8]) -> Result<Blob, E> {
                Ok(Blob(v.to_vec()))
            }
            fn visit_byte_buf<E>(self, v: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(v))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Blob, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u64);
        bytes.push(0);
        assert_eq!(decode::<u64>(&bytes, 100), Err(CodecError::Trailing(1)));
    }

    #[test]
    fn a_number_written_longer_than_needed_is_not_canonical() {
        // 7 as a three-byte varint.
        let bytes = [251, 7, 0];
        assert_eq!(decode::<u64>(&bytes, 100), Ok(7));
        assert_eq!(decode_canonical::<u64>(&bytes, 100), Err(CodecError::NotCanonical));
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        // A byte string that claims 2^60 bytes.
        let mut bytes = vec![253];
        bytes.extend_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(matches!(decode::<Blob>(&bytes, 100), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<Vec<u64>>(&bytes, 100), Err(CodecError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn blobs_round_trip(bytes: Vec<u8>) {
            let blob = Blob(bytes);
            let encoded = encode(&blob);
            prop_assert_eq!(decode_canonical::<Blob>(&encoded, VALUE_LEN_MAX).unwrap(), blob);
        }

        #[test]
        fn a_value_encodes_to_its_bytes_and_no_others(
            value: (Vec<String>, Option<u64>, Vec<u8>), other: Vec<u8>, at: prop::sample::Index,
        ) {
            let bytes = encode(&value);
            prop_assert!(encodes_to(&value, &bytes));
            prop_assert_eq!(encodes_to(&value, &other), bytes == other);
            let mut altered = bytes.clone();
            altered[at.index(bytes.len())] ^= 1;
            prop_assert!(!encodes_to(&value, &altered));
            prop_assert!(!encodes_to(&value, &bytes[..at.index(bytes.len())]));
            prop_assert!(!encodes_to(&value, &[&bytes[..], &[0]].concat()));
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode::<(Vec<String>, Option<Blob>, u64)>(&bytes, 1 << 16);
        }
    }
}
