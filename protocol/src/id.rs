//! The names of things: 32-byte ids, each a type of its own, shown as hex.

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: 64 hexadecimal digits expected")]
pub struct ParseIdError(pub String);

fn parse_hex(text: &str) -> Result<[u8; 32], ParseIdError> {
    let error = || ParseIdError(text.chars().take(80).collect());
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| error())?;
    bytes.try_into().map_err(|_| error())
}

// The codec writes 32 bytes one at a time, and a float as its eight bytes in one go: an id is the same bytes either way, and whoever reads and writes
// records does little else. (There is no other type that it writes so whatever its value.)
#[cfg(all(target_arch = "x86", not(target_feature = "sse2")))]
compile_error!("floats of this target do not keep their bits");

fn words(id: &[u8; 32]) -> [f64; 4] {
    let (words, _) = id.as_chunks::<8>();
    std::array::from_fn(|place| f64::from_bits(u64::from_le_bytes(words[place])))
}

fn bytes(words: [f64; 4]) -> [u8; 32] {
    let mut id = [0; 32];
    for (bytes, word) in id.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_bits().to_le_bytes();
    }
    id
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 32]);

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                // The order of the bytes. Eight at once tell nearly all ids apart, and they are compared all the time.
                let first = |id: &Self| id.0.first_chunk().map(|first| u64::from_be_bytes(*first));
                first(self).cmp(&first(other)).then_with(|| self.0.cmp(&other.0))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hex digits: enough for people, never for a decision.
            #[must_use]
            pub fn short(&self) -> String {
                data_encoding::HEXLOWER.encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    words(&self.0).serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[f64; 4]>::deserialize(deserializer).map(|words| Self(bytes(words)))
                }
            }
        }
    )*};
}

ids! {
    /// An Ed25519 public key (RFC 8032), whoever's it is.
    PublicKey;
    /// A node: its Ed25519 public key, which is also its libp2p identity.
    NodeId;
    /// An operator: its Ed25519 public key.
    OperatorId;
    /// A vault: its Ed25519 public key.
    VaultId;
    /// A device: its Ed25519 public key.
    DeviceId;
    /// A shard: the BLAKE3 hash of its bytes.
    ShardId;
    /// A stripe: the hash of its shape and shards, see [`crate::record::Stripe::id`].
    StripeId;
    /// A chunk: the keyed BLAKE3 hash of its plain bytes.
    ChunkId;
    /// A backup session: random.
    SessionId;
    /// A log entry: the hash of its signed bytes. The id of a snapshot is that of its entry.
    EntryId;
    /// A release request: the hash of its signed bytes.
    ReleaseId;
}

macro_rules! keys {
    ($($name:ident),*) => {$(
        impl $name {
            /// The public key that this id is.
            #[must_use]
            pub const fn key(&self) -> PublicKey {
                PublicKey(self.0)
            }
        }
        impl From<PublicKey> for $name {
            fn from(key: PublicKey) -> Self {
                Self(key.0)
            }
        }
    )*};
}
keys!(NodeId, OperatorId, VaultId, DeviceId);

/// Where a node is in a sorted list, or belongs: as a binary search finds it. Keys are spread evenly, so that it begins where a node should be and
/// mostly looks at few; somebody who makes keys up has it look at some more.
pub(crate) fn find(nodes: &[NodeId], node: &NodeId) -> Result<usize, usize> {
    let start = |id: &NodeId| u64::from_be_bytes(std::array::from_fn(|i| id.0[i]));
    let at = (u128::from(start(node)) * nodes.len() as u128) >> 64;
    let (mut from, mut until) = (at as usize, at as usize);
    let mut step = 1;
    while from > 0 && nodes[from - 1] >= *node {
        from = from.saturating_sub(step);
        step *= 2;
    }
    step = 1;
    while until < nodes.len() && nodes[until] < *node {
        until = nodes.len().min(until + step);
        step *= 2;
    }
    // What lies before these is smaller, and what lies behind them larger.
    let until = nodes.len().min(until + 1);
    nodes[from..until].binary_search(node).map(|at| from + at).map_err(|at| from + at)
}

impl PublicKey {
    /// A short fingerprint that people can compare by voice: six groups of four base32 letters
    /// of the key's BLAKE3 hash (120 bits).
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hash = blake3::derive_key("strewn 2026-11 key fingerprint v1", &self.0);
        let text = data_encoding::BASE32_NOPAD.encode(&hash[..15]);
        let groups: Vec<&str> = (0..24).step_by(4).map(|i| &text[i..i + 4]).collect();
        groups.join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_what_they_print() {
        let id = ShardId(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        assert_eq!(id.to_string().parse::<ShardId>().unwrap(), id);
        assert!("12".parse::<ShardId>().is_err());
        assert!("zz".repeat(32).parse::<ShardId>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn an_id_is_written_as_its_bytes_whatever_they_are(id: [u8; 32], high: [bool; 4]) {
            // Among them those that are no numbers.
            let mut id = id;
            for (word, _) in id.as_chunks_mut::<8>().0.iter_mut().zip(high).filter(|(_, high)| *high) {
                (word[7], word[6]) = (word[7] | 0x7f, word[6] | 0xf0);
            }
            let encoded = crate::codec::encode(&ShardId(id));
            proptest::prop_assert_eq!(&encoded, &id);
            proptest::prop_assert_eq!(crate::codec::decode::<ShardId>(&encoded, 32), Ok(ShardId(id)));
            proptest::prop_assert!(crate::codec::decode::<ShardId>(&encoded[..31], 32).is_err());
        }

        #[test]
        fn a_node_is_found_as_by_a_binary_search(
            mut nodes in proptest::collection::vec(proptest::array::uniform32(0u8..), 0..60),
            made_up in proptest::collection::vec(0u8..4, 0..30),
            node: [u8; 32],
            place: proptest::sample::Index,
        ) {
            nodes.extend(made_up.into_iter().map(|last| std::array::from_fn(|i| if i == 31 { last } else { 200 })));
            nodes.sort_unstable();
            nodes.dedup();
            let mut nodes: Vec<NodeId> = nodes.into_iter().map(NodeId).collect();
            for node in [vec![NodeId(node), NodeId([0; 32]), NodeId([255; 32]), NodeId([200; 32])], nodes.clone()].concat() {
                proptest::prop_assert_eq!(find(&nodes, &node), nodes.binary_search(&node));
            }
            if !nodes.is_empty() {
                let node = nodes.remove(place.index(nodes.len()));
                proptest::prop_assert_eq!(find(&nodes, &node), nodes.binary_search(&node));
            }
        }

        #[test]
        fn ids_are_in_the_order_of_their_bytes(mut a: [u8; 32], b: [u8; 32], same in 0usize..33) {
            a[..same].copy_from_slice(&b[..same]);
            proptest::prop_assert_eq!(ShardId(a).cmp(&ShardId(b)), a.cmp(&b));
        }
    }

    #[test]
    fn a_fingerprint_is_stable() {
        let key = PublicKey([7; 32]);
        assert_eq!(key.fingerprint().len(), 29);
        assert_eq!(key.fingerprint(), PublicKey([7; 32]).fingerprint());
        assert_ne!(key.fingerprint(), PublicKey([8; 32]).fingerprint());
    }
}
