//! The chain of bundles that carries a repository's objects: its description (the item `format`),
//! what the source remembers of it between two runs, and when its newest bundles become one.
//!
//! A bundle's own prerequisites do not prove that it continues the one before (a bundle of just a
//! tag on an old commit has none), so the description names every bundle by its hash.
//!
//! A backup that finds something new adds a bundle. When the newest bundles together are [`FAN`] times as large as
//! the largest of them, the next bundle takes their place: it is made of what the bundles before those do not
//! have. So what is sent again lands in a bundle many times larger than the one it was in, which can happen only a
//! few times. Sizes that vary much can keep small bundles before larger ones; where a chain has grown to
//! [`CHAIN_LEN_MAX`] because of that, it is cut before the first that is outweighed by those after it.
//! Computed for ten thousand equal pushes, and for thousands of log-normal ones: each byte is sent two to four times.

use data_encoding::HEXLOWER;
use protocol::codec::{self, Blob};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The newest version of the item `format`.
const FORMAT: &str = "strewn git 2";

/// The version before: without reflogs, large files, linked work trees and submodules.
const FORMAT_BEFORE: &str = "strewn git 1";

/// Most bundles in a chain: a restore takes some twenty milliseconds for each, and more with every one
/// before it.
pub(crate) const CHAIN_LEN_MAX: usize = 48;

/// How many bundles of one size become one.
const FAN: u64 = 16;

/// What is smaller counts as so many bytes: what is stored with a bundle costs as much.
const SIZE_FLOOR: u64 = 64 << 10;

/// Most repositories in a source, submodules and theirs included, whose chains are remembered.
const CHAINS_MAX: usize = 10_000;

/// Bytes of object ids that are remembered. Remembering fewer makes the next bundle larger, not
/// wrong.
const TIPS_LEN_MAX: usize = 8 << 20;

/// Encoded bytes of [`State`] that are read back.
const STATE_LEN_MAX: usize = TIPS_LEN_MAX + (64 << 20);

const STATE_VERSION: u8 = 2;

/// One bundle of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bundle {
    pub(crate) size: u64,
    /// BLAKE3.
    pub(crate) hash: [u8; 32],
}

/// What a repository is the repository of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Bare,
    WorkTree,
    /// A submodule, of which the work tree lies in that of the repository around it.
    Module,
}

/// The item `format`, lines of text:
///
/// ```text
/// strewn git 2
/// object-format sha1|sha256
/// form bare|worktree|module
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
            Form::Module => "module",
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
        lines.next().filter(|line| [FORMAT, FORMAT_BEFORE].contains(line))?;
        let object_format = lines.next()?.strip_prefix("object-format ")?.to_owned();
        if !is_object_format(&object_format) {
            return None;
        }
        let form = match lines.next()? {
            "form bare" => Form::Bare,
            "form worktree" => Form::WorkTree,
            "form module" => Form::Module,
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

/// A bundle, and what the chain holds since it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) bundle: Bundle,
    /// Objects that the chain up to here holds together with everything that they reach, but for those
    /// that are named earlier.
    pub(crate) tips: BTreeSet<String>,
}

/// The bundles of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) object_format: String,
    pub(crate) links: Vec<Link>,
}

impl Chain {
    /// All objects that it is known to hold together with everything that they reach.
    pub(crate) fn tips(&self) -> BTreeSet<String> {
        self.links.iter().flat_map(|link| &link.tips).cloned().collect()
    }

    pub(crate) fn bundles(&self) -> Vec<Bundle> {
        self.links.iter().map(|link| link.bundle).collect()
    }

    /// How many bundles stay when there is something new.
    pub(crate) fn kept_len(&self) -> usize {
        let len = self.links.len();
        let (mut after, mut largest) = (0_u64, 0);
        let (mut level, mut outweighed) = (len, len);
        for (i, link) in self.links.iter().enumerate().rev() {
            let size = link.bundle.size.max(SIZE_FLOOR);
            if after >= size.saturating_mul(FAN) {
                outweighed = i;
            }
            after = after.saturating_add(size);
            largest = size.max(largest);
            if after >= largest.saturating_mul(FAN) {
                level = i;
            }
        }
        if level < len || len < CHAIN_LEN_MAX {
            level
        } else if outweighed < len {
            outweighed
        } else {
            len / 2
        }
    }
}

/// What the source remembers of the last committed snapshot: the chain of every repository in it, by the
/// path before its items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) chains: BTreeMap<Vec<u8>, Chain>,
}

#[derive(Serialize, Deserialize)]
struct StateBytes {
    version: u8,
    chains: Vec<ChainBytes>,
}

#[derive(Serialize, Deserialize)]
struct ChainBytes {
    prefix: Blob,
    object_format: String,
    links: Vec<LinkBytes>,
}

#[derive(Serialize, Deserialize)]
struct LinkBytes {
    bundle: Bundle,
    tips: Blob,
}

impl State {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut room = TIPS_LEN_MAX;
        let mut encode_tips = |tips: &BTreeSet<String>| {
            let mut bytes = Vec::new();
            for oid in tips {
                let Ok(raw) = HEXLOWER.decode(oid.as_bytes()) else { continue };
                if raw.len() > room {
                    break;
                }
                room -= raw.len();
                bytes.extend_from_slice(&raw);
            }
            Blob(bytes)
        };
        let mut encode_chain = |(prefix, chain): (&Vec<u8>, &Chain)| ChainBytes {
            prefix: Blob(prefix.clone()),
            object_format: chain.object_format.clone(),
            links: chain
                .links
                .iter()
                .map(|link| LinkBytes { bundle: link.bundle, tips: encode_tips(&link.tips) })
                .collect(),
        };
        let chains = self.chains.iter().take(CHAINS_MAX).map(&mut encode_chain).collect();
        codec::encode(&StateBytes { version: STATE_VERSION, chains })
    }

    /// `None` for what this version did not write; the chains then start anew.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: StateBytes = codec::decode(bytes, STATE_LEN_MAX).ok()?;
        if bytes.version != STATE_VERSION || bytes.chains.len() > CHAINS_MAX {
            return None;
        }
        let mut chains = BTreeMap::new();
        for chain in bytes.chains {
            chains.insert(chain.prefix.0.clone(), decode_chain(chain)?);
        }
        Some(Self { chains })
    }
}

fn decode_chain(bytes: ChainBytes) -> Option<Chain> {
    let oid_len = match bytes.object_format.as_str() {
        "sha1" => 20,
        "sha256" => 32,
        _ => return None,
    };
    if bytes.links.len() > CHAIN_LEN_MAX {
        return None;
    }
    let decode_link = |link: LinkBytes| Link {
        bundle: link.bundle,
        tips: link.tips.0.chunks(oid_len).map(|raw| HEXLOWER.encode(raw)).collect(),
    };
    let links = bytes.links.into_iter().map(decode_link).collect();
    Some(Chain { object_format: bytes.object_format, links })
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
            format!("strewn git 2\nobject-format sha1\nform bare\nbundle 5 {}\n", "ab".repeat(32));
        assert_eq!(description.encode(), text.as_bytes());
        let before = text.replace("git 2", "git 1");
        assert_eq!(Description::decode(text.as_bytes()), Some(description.clone()));
        assert_eq!(Description::decode(before.as_bytes()), Some(description));
        assert_eq!(Description::decode(b"strewn git 3\nobject-format sha1\nform bare\n"), None);
        assert_eq!(Description::decode(b"strewn git 2\nobject-format md5\nform bare\n"), None);
    }

    /// Adds a bundle of so many bytes of something new, and gives what is sent for it.
    fn push(chain: &mut Chain, new: u64) -> u64 {
        let again = chain.links.split_off(chain.kept_len());
        let size = new + again.iter().map(|link| link.bundle.size).sum::<u64>();
        let bundle = Bundle { size, hash: [7; 32] };
        chain.links.push(Link { bundle, tips: BTreeSet::new() });
        size
    }

    #[test]
    fn a_chain_of_ten_thousand_pushes_is_short_and_little_is_sent_again() {
        let mut chain = Chain::default();
        let (mut sent, mut longest) = (0, 0);
        for _ in 0..10_000 {
            sent += push(&mut chain, 100 << 10);
            longest = longest.max(chain.links.len());
        }
        let new = 10_000 * (100 << 10);
        assert!(sent <= 4 * new, "{} times", sent as f64 / new as f64);
        assert!(longest <= CHAIN_LEN_MAX, "{longest} bundles");
    }

    #[test]
    fn pushes_of_very_different_sizes_are_sent_a_few_times_too() {
        let mut chain = Chain::default();
        let (mut sent, mut new, mut state) = (0, 0, 1_u64);
        for _ in 0..3000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // From 1 KiB to 1 GiB, every power of two as often as any other.
            let size = 1 << (10 + (state >> 33) % 21);
            new += size;
            sent += push(&mut chain, size);
            assert!(chain.links.len() <= CHAIN_LEN_MAX);
        }
        assert!(sent <= 5 * new, "{} times", sent as f64 / new as f64);
    }

    #[test]
    fn a_large_import_is_not_sent_again_because_something_small_came_before() {
        let mut chain = Chain::default();
        push(&mut chain, 1000);
        push(&mut chain, 10 << 30);
        let sent: u64 = (0..2000).map(|_| push(&mut chain, 50_000)).sum();
        assert!(sent < 1 << 30, "{sent} bytes for 100 MB");
    }

    #[test]
    fn the_beginning_is_not_sent_again_because_small_things_follow() {
        let mut chain = Chain::default();
        push(&mut chain, 10 << 30);
        let sent: u64 = (0..1000).map(|_| push(&mut chain, 2000)).sum();
        assert_eq!(chain.links[0].bundle.size, 10 << 30);
        assert!(sent < 100 << 20, "{sent} bytes for 2 MB");
        assert!(chain.links.len() <= 32, "{} bundles", chain.links.len());
    }

    proptest! {
        #[test]
        fn a_chain_is_bounded_whatever_is_pushed(pushes in prop::collection::vec(0_u32..34, 0..200)) {
            let mut chain = Chain::default();
            for bits in pushes {
                push(&mut chain, 1 << bits);
                prop_assert!(chain.links.len() <= CHAIN_LEN_MAX);
            }
        }

        #[test]
        fn the_state_round_trips(
            sizes in prop::collection::vec(any::<u64>(), 0..20),
            tips in prop::collection::btree_set("[0-9a-f]{40}", 0..50),
            prefix: Vec<u8>,
        ) {
            let link = |size| Link { bundle: Bundle { size, hash: [7; 32] }, tips: tips.clone() };
            let chain = Chain { object_format: "sha1".into(), links: sizes.into_iter().map(link).collect() };
            let chains = BTreeMap::from([(Vec::new(), Chain { links: Vec::new(), ..chain.clone() }), (prefix, chain)]);
            let state = State { chains };
            prop_assert_eq!(State::decode(&state.encode()).unwrap(), state);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = State::decode(&bytes);
            let _ = Description::decode(&bytes);
        }
    }
}
