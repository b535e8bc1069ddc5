//! The chain of bundles that carries a repository's objects: its description (the item `format`)
//! and what the source remembers of it between two runs.
//!
//! A bundle's own prerequisites do not prove that it continues the one before (a bundle of just a
//! tag on an old commit has none), so the description names every bundle by its hash.

use data_encoding::HEXLOWER;
use protocol::codec::{self, Blob};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The newest version of the item `format`.
const FORMAT: &str = "strewn git 1";

/// Bundles in a chain before it starts anew: bounds what a restore has to go through, and gets rid of
/// what is no longer referenced.
pub(crate) const CHAIN_LEN_MAX: usize = 1000;

/// Bytes of object ids that are remembered. Remembering fewer makes the next bundle larger, not
/// wrong.
const TIPS_LEN_MAX: usize = 8 << 20;

/// Encoded bytes of [`State`] that are read back.
const STATE_LEN_MAX: usize = TIPS_LEN_MAX + (1 << 20);

const STATE_VERSION: u8 = 1;

/// One bundle of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bundle {
    pub(crate) size: u64,
    /// BLAKE3.
    pub(crate) hash: [u8; 32],
}

/// Whether a repository has a work tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Bare,
    WorkTree,
}

/// The item `format`, lines of text:
///
/// ```text
/// strewn git 1
/// object-format sha1|sha256
/// form bare|worktree
/// bundle SIZE BLAKE3            one for each file in bundles/, in order
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) object_format: String,
    pub(crate) form: Form,
    pub(crate) bundles: Vec<Bundle>,
}

impl Description {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let form = match self.form {
            Form::Bare => "bare",
            Form::WorkTree => "worktree",
        };
        let mut text = format!("{FORMAT}\nobject-format {}\nform {form}\n", self.object_format);
        for bundle in &self.bundles {
            text.extend([
                "bundle ",
                &bundle.size.to_string(),
                " ",
                &HEXLOWER.encode(&bundle.hash),
                "\n",
            ]);
        }
        text.into_bytes()
    }

    /// The inverse of [`Description::encode`].
    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
        let mut lines = text.split('\n');
        lines.next().filter(|line| *line == FORMAT)?;
        let object_format = lines.next()?.strip_prefix("object-format ")?.to_owned();
        if !is_object_format(&object_format) {
            return None;
        }
        let form = match lines.next()? {
            "form bare" => Form::Bare,
            "form worktree" => Form::WorkTree,
            _ => return None,
        };
        let bundles = lines.map(decode_bundle).collect::<Option<_>>()?;
        Some(Self { object_format, form, bundles })
    }
}

fn decode_bundle(line: &str) -> Option<Bundle> {
    let (size, hash) = line.strip_prefix("bundle ")?.split_once(' ')?;
    let hash = HEXLOWER.decode(hash.as_bytes()).ok()?.try_into().ok()?;
    Some(Bundle { size: size.parse().ok()?, hash })
}

pub(crate) fn is_object_format(name: &str) -> bool {
    matches!(name, "sha1" | "sha256")
}

/// The path of the bundle at `index`, counted from zero.
pub(crate) fn bundle_path(index: usize) -> String {
    format!("bundles/{:06}.bundle", index + 1)
}

/// What the source remembers of the last committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) object_format: String,
    pub(crate) bundles: Vec<Bundle>,
    /// Objects that the chain holds together with everything that they reach.
    pub(crate) tips: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct StateBytes {
    version: u8,
    object_format: String,
    bundles: Vec<Bundle>,
    tips: Blob,
}

impl State {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut tips = Vec::new();
        for oid in &self.tips {
            let Ok(raw) = HEXLOWER.decode(oid.as_bytes()) else { continue };
            if tips.len() + raw.len() > TIPS_LEN_MAX {
                break;
            }
            tips.extend_from_slice(&raw);
        }
        codec::encode(&StateBytes {
            version: STATE_VERSION,
            object_format: self.object_format.clone(),
            bundles: self.bundles.clone(),
            tips: Blob(tips),
        })
    }

    /// `None` for what this version did not write; the chain then starts anew.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: StateBytes = codec::decode(bytes, STATE_LEN_MAX).ok()?;
        if bytes.version != STATE_VERSION || bytes.bundles.len() > CHAIN_LEN_MAX {
            return None;
        }
        let oid_len = match bytes.object_format.as_str() {
            "sha1" => 20,
            "sha256" => 32,
            _ => return None,
        };
        let tips = bytes.tips.0.chunks(oid_len).map(|raw| HEXLOWER.encode(raw)).collect();
        Some(Self { object_format: bytes.object_format, bundles: bytes.bundles, tips })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_format_item_reads_as_drawn() {
        let description = Description {
            object_format: "sha1".into(),
            form: Form::Bare,
            bundles: vec![Bundle { size: 5, hash: [0xab; 32] }],
        };
        let text =
            format!("strewn git 1\nobject-format sha1\nform bare\nbundle 5 {}\n", "ab".repeat(32));
        assert_eq!(description.encode(), text.as_bytes());
        assert_eq!(Description::decode(text.as_bytes()), Some(description));
        assert_eq!(Description::decode(b"strewn git 2\nobject-format sha1\nform bare\n"), None);
        assert_eq!(Description::decode(b"strewn git 1\nobject-format md5\nform bare\n"), None);
    }

    proptest! {
        #[test]
        fn the_state_round_trips(sizes: Vec<u64>, tips in prop::collection::btree_set("[0-9a-f]{40}", 0..50)) {
            let bundles = sizes.into_iter().map(|size| Bundle { size, hash: [7; 32] }).collect();
            let state = State { object_format: "sha1".into(), bundles, tips };
            prop_assert_eq!(State::decode(&state.encode()).unwrap(), state);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = State::decode(&bytes);
            let _ = Description::decode(&bytes);
        }
    }
}
