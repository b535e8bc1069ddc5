//! The chain that carries a repository's objects: its description (the item `format`), and when its newest bundles
//! become one.
//!
//! A chain begins with a *base*, the repository's own packs (see `base`), or without one where the repository has no
//! packs. Bundles follow, each with what is not in the chain before it. A bundle's own prerequisites do not prove that it
//! continues the one before (a bundle of just a tag on an old commit has none), so the description names every bundle by
//! its hash; a pack it names by the checksum that Git has put at its end.
//!
//! A backup that finds something new adds a bundle. When the newest bundles together are [`FAN`] times as large as
//! the largest of them, the next bundle takes their place: it is made of what the chain before those does not
//! have; where those are the whole chain, a new one begins. So what is sent again lands in a bundle many times larger than
//! the one it was in, which can happen only a few times. Sizes that vary much can keep small bundles before larger ones;
//! where a chain has grown to [`CHAIN_LEN_MAX`] because of that, it is cut before the first that is outweighed by those
//! after it. Computed for ten thousand equal pushes, and for thousands of log-normal ones: each byte is sent two to four
//! times.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The version of the item `format` of a chain with a base.
const FORMAT: &str = "strewn git 3";

/// The version of one without.
const FORMAT_OF_BUNDLES: &str = "strewn git 2";

/// The version before: without reflogs, large files, linked work trees and submodules.
const FORMAT_BEFORE: &str = "strewn git 1";

/// Most links in a chain, a base counting as one: a restore takes some twenty milliseconds for each bundle, and more with
/// every one before it.
pub(crate) const CHAIN_LEN_MAX: usize = 48;

/// Most packs in a base. While it is read two files are open for each.
pub(crate) const PACKS_MAX: usize = 100;

/// How many bundles of one size become one.
const FAN: u64 = 16;

/// What is smaller counts as so many bytes: what is stored with a bundle costs as much.
const SIZE_FLOOR: u64 = 64 << 10;

/// One bundle of a chain, or the rest of its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bundle {
    pub(crate) size: u64,
    /// BLAKE3.
    pub(crate) hash: [u8; 32],
}

/// One pack of a base, with its index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pack {
    /// What is between `pack-` and `.pack` in its name: hex digits, as many as an object id has.
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) idx_size: u64,
    /// The last bytes of the pack, which the index has too: the hash of all before them, in hex.
    pub(crate) checksum: String,
}

impl Pack {
    pub(crate) fn pack_path(&self) -> String {
        format!("base/{}", self.pack_name())
    }

    pub(crate) fn idx_path(&self) -> String {
        format!("base/{}", self.idx_name())
    }

    /// The file's name in a repository.
    pub(crate) fn pack_name(&self) -> String {
        format!("pack-{}.pack", self.name)
    }

    /// The index's name in a repository.
    pub(crate) fn idx_name(&self) -> String {
        format!("pack-{}.idx", self.name)
    }

    fn is_sound(&self, object_format: &str) -> bool {
        let digits = 2 * oid_len(object_format).unwrap_or(0);
        [&self.name, &self.checksum].iter().all(|hex| is_hex(hex, digits))
    }
}

/// The beginning of a chain: packs as the repository has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// By name.
    pub(crate) packs: Vec<Pack>,
    /// One pack more, without an index, of what the references reach and these do not have.
    pub(crate) rest: Option<Bundle>,
}

/// Where the rest of a base lies.
pub(crate) const REST_PATH: &str = "base/rest.pack";

impl Base {
    fn size(&self) -> u64 {
        let packs = self.packs.iter().map(|pack| pack.size.saturating_add(pack.idx_size));
        packs.chain(self.rest.map(|rest| rest.size)).fold(0, u64::saturating_add)
    }

    /// The paths and sizes of its items, in path order.
    pub(crate) fn items(&self) -> Vec<(String, u64)> {
        let of = |pack: &Pack| [(pack.idx_path(), pack.idx_size), (pack.pack_path(), pack.size)];
        let rest = self.rest.map(|rest| (REST_PATH.to_owned(), rest.size));
        self.packs.iter().flat_map(of).chain(rest).collect()
    }

    /// Whether its names are names of packs, in order, and not too many.
    pub(crate) fn is_sound(&self, object_format: &str) -> bool {
        (1..=PACKS_MAX).contains(&self.packs.len())
            && self.packs.iter().all(|pack| pack.is_sound(object_format))
            && self.packs.is_sorted_by(|a, b| a.name < b.name)
    }
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
/// strewn git 3                              2 where there is no base
/// object-format sha1|sha256
/// form bare|worktree|module
/// pack NAME PACK-SIZE IDX-SIZE CHECKSUM     one for base/pack-NAME.pack and base/pack-NAME.idx, by name
/// rest SIZE BLAKE3                          base/rest.pack, where there is one
/// bundle SIZE BLAKE3                        one for each file in bundles/, in order
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) object_format: String,
    pub(crate) form: Form,
    pub(crate) base: Option<Base>,
    pub(crate) bundles: Vec<Bundle>,
}

impl Description {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let form = match self.form {
            Form::Bare => "bare",
            Form::WorkTree => "worktree",
            Form::Module => "module",
        };
        let version = if self.base.is_some() { FORMAT } else { FORMAT_OF_BUNDLES };
        let mut text = format!("{version}\nobject-format {}\nform {form}\n", self.object_format);
        let (packs, rest) =
            self.base.as_ref().map(|base| (&base.packs[..], base.rest)).unwrap_or_default();
        for Pack { name, size, idx_size, checksum } in packs {
            let _ = writeln!(text, "pack {name} {size} {idx_size} {checksum}");
        }
        let rest = rest.iter().map(|rest| ("rest", rest));
        for (word, Bundle { size, hash }) in rest.chain(self.bundles.iter().map(|b| ("bundle", b)))
        {
            let _ = writeln!(text, "{word} {size} {}", HEXLOWER.encode(hash));
        }
        text.into_bytes()
    }

    /// The inverse of [`Description::encode`].
    pub(crate) fn decode(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
        let mut lines = text.split('\n').peekable();
        let has_base = match lines.next()? {
            FORMAT => true,
            FORMAT_OF_BUNDLES | FORMAT_BEFORE => false,
            _ => return None,
        };
        let object_format = lines.next()?.strip_prefix("object-format ")?.to_owned();
        oid_len(&object_format)?;
        let form = match lines.next()? {
            "form bare" => Form::Bare,
            "form worktree" => Form::WorkTree,
            "form module" => Form::Module,
            _ => return None,
        };
        let mut base = None;
        if has_base {
            let mut found = Base::default();
            while let Some(line) = lines.next_if(|line| line.starts_with("pack ")) {
                found.packs.push(decode_pack(line)?);
            }
            if let Some(line) = lines.next_if(|line| line.starts_with("rest ")) {
                found.rest = Some(decode_bundle("rest ", line)?);
            }
            base = Some(Some(found).filter(|base| base.is_sound(&object_format))?);
        }
        let bundles = lines.map(|line| decode_bundle("bundle ", line)).collect::<Option<_>>()?;
        Some(Self { object_format, form, base, bundles })
    }
}

fn decode_bundle(word: &str, line: &str) -> Option<Bundle> {
    let (size, hash) = line.strip_prefix(word)?.split_once(' ')?;
    let hash = HEXLOWER.decode(hash.as_bytes()).ok()?.try_into().ok()?;
    Some(Bundle { size: size.parse().ok()?, hash })
}

fn decode_pack(line: &str) -> Option<Pack> {
    let mut parts = line.strip_prefix("pack ")?.split(' ');
    let pack = Pack {
        name: parts.next()?.to_owned(),
        size: parts.next()?.parse().ok()?,
        idx_size: parts.next()?.parse().ok()?,
        checksum: parts.next()?.to_owned(),
    };
    parts.next().is_none().then_some(pack)
}

/// Bytes of an object id, which is also that of a checksum; `None` for a format that is unknown.
pub(crate) fn oid_len(object_format: &str) -> Option<usize> {
    match object_format {
        "sha1" => Some(20),
        "sha256" => Some(32),
        _ => None,
    }
}

/// Whether it is so many lower-case hex digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// The path of the bundle at `index`, counted from zero.
pub(crate) fn bundle_path(index: usize) -> String {
    format!("bundles/{:06}.bundle", index + 1)
}

/// What carries a part of the objects, and what the chain holds since it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link<T = Bundle> {
    pub(crate) body: T,
    /// Objects that the chain up to here holds together with everything that they reach, but for those
    /// that are named earlier.
    pub(crate) tips: BTreeSet<String>,
}

/// What carries the objects of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) object_format: String,
    pub(crate) base: Option<Link<Base>>,
    pub(crate) bundles: Vec<Link>,
    /// A commit whose `.gitattributes` do not speak of large files (LFS), if that was found out.
    pub(crate) plain_tip: Option<String>,
}

impl Chain {
    /// All objects that it is known to hold together with everything that they reach.
    pub(crate) fn tips(&self) -> BTreeSet<String> {
        let base = self.base.iter().map(|base| &base.tips);
        base.chain(self.bundles.iter().map(|link| &link.tips)).flatten().cloned().collect()
    }

    /// How many links it has.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.base.is_some()) + self.bundles.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps so many links from the beginning.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len == 0 {
            self.base = None;
        }
        self.bundles.truncate(len.saturating_sub(usize::from(self.base.is_some())));
    }

    /// How many links stay when there is something new.
    pub(crate) fn kept_len(&self) -> usize {
        let base = self.base.iter().map(|base| base.body.size());
        let sizes: Vec<u64> = base.chain(self.bundles.iter().map(|link| link.body.size)).collect();
        let len = sizes.len();
        let (mut after, mut largest) = (0_u64, 0);
        let (mut level, mut outweighed) = (len, len);
        for (i, size) in sizes.iter().enumerate().rev() {
            let size = (*size).max(SIZE_FLOOR);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str = "strewn git 3\nobject-format sha1\nform bare\n";

    #[test]
    fn the_format_item_reads_as_drawn() {
        let bundle = Bundle { size: 5, hash: [0xab; 32] };
        let description = Description {
            object_format: "sha1".into(),
            form: Form::Bare,
            base: None,
            bundles: vec![bundle],
        };
        let text =
            format!("strewn git 2\nobject-format sha1\nform bare\nbundle 5 {}\n", "ab".repeat(32));
        assert_eq!(description.encode(), text.as_bytes());
        let before = text.replace("git 2", "git 1");
        assert_eq!(Description::decode(text.as_bytes()), Some(description.clone()));
        assert_eq!(Description::decode(before.as_bytes()), Some(description.clone()));
        assert_eq!(Description::decode(b"strewn git 4\nobject-format sha1\nform bare\n"), None);
        assert_eq!(Description::decode(b"strewn git 2\nobject-format md5\nform bare\n"), None);

        let pack = |digit: &str| Pack {
            name: digit.repeat(40),
            size: 70_000,
            idx_size: 1072,
            checksum: "c".repeat(40),
        };
        let base = Base { packs: vec![pack("a"), pack("b")], rest: Some(bundle) };
        let description = Description { base: Some(base), ..description };
        let (a, b, c, hash) = ("a".repeat(40), "b".repeat(40), "c".repeat(40), "ab".repeat(32));
        let text = format!(
            "{HEADER}pack {a} 70000 1072 {c}\npack {b} 70000 1072 {c}\nrest 5 {hash}\nbundle 5 {hash}\n"
        );
        assert_eq!(description.encode(), text.as_bytes());
        assert_eq!(Description::decode(text.as_bytes()), Some(description));
    }

    #[test]
    fn packs_that_git_would_not_name_so_are_refused() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let packs = |count: usize| {
            let lines: Vec<_> = (0..count).map(|i| format!("pack {i:040x} 1 2 {b}\n")).collect();
            lines.concat()
        };
        let decode = |lines: &str| Description::decode(format!("{HEADER}{lines}").as_bytes());
        assert!(decode(&format!("pack {a} 1 2 {b}\n")).is_some());
        assert!(decode(&packs(PACKS_MAX)).is_some());
        for bad in [
            String::new(),
            format!("pack ../{} 1 2 {b}\n", "a".repeat(37)),
            format!("pack {}/ 1 2 {b}\n", "a".repeat(39)),
            format!("pack {} 1 2 {b}\n", "A".repeat(40)),
            format!("pack {a}a 1 2 {b}\n"),
            format!("pack {a} 1 2 {b} 3\n"),
            format!("pack {a} -1 2 {b}\n"),
            format!("pack {a} 1 2 {}\n", "b".repeat(64)),
            format!("pack {a} 1 2 {b}\npack {a} 1 2 {b}\n"),
            format!("pack {b} 1 2 {b}\npack {a} 1 2 {b}\n"),
            format!("rest 5 {}\n", "ab".repeat(32)),
            format!("bundle 5 {}\npack {a} 1 2 {b}\n", "ab".repeat(32)),
            packs(PACKS_MAX + 1),
        ] {
            assert_eq!(decode(&bad), None, "{bad}");
        }
        let of_bundles = format!("{HEADER}pack {a} 1 2 {b}\n").replace("git 3", "git 2");
        assert_eq!(Description::decode(of_bundles.as_bytes()), None);
    }

    fn size(chain: &Chain) -> u64 {
        let base = chain.base.iter().map(|base| base.body.size());
        base.chain(chain.bundles.iter().map(|link| link.body.size)).sum()
    }

    /// Adds a bundle of so many bytes of something new, and gives what is sent for it.
    fn push(chain: &mut Chain, new: u64) -> u64 {
        let all = size(chain);
        chain.truncate(chain.kept_len());
        let size = new + all - size(chain);
        let body = Bundle { size, hash: [7; 32] };
        chain.bundles.push(Link { body, tips: BTreeSet::new() });
        size
    }

    #[test]
    fn a_chain_of_ten_thousand_pushes_is_short_and_little_is_sent_again() {
        let mut chain = Chain::default();
        let (mut sent, mut longest) = (0, 0);
        for _ in 0..10_000 {
            sent += push(&mut chain, 100 << 10);
            longest = longest.max(chain.bundles.len());
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
            assert!(chain.bundles.len() <= CHAIN_LEN_MAX);
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
        assert_eq!(chain.bundles[0].body.size, 10 << 30);
        assert!(sent < 100 << 20, "{sent} bytes for 2 MB");
        assert!(chain.bundles.len() <= 32, "{} bundles", chain.bundles.len());
    }

    #[test]
    fn a_base_counts_as_the_first_of_a_chain() {
        let pack = Pack { size: 10 << 30, ..Pack::default() };
        let base = Base { packs: vec![pack], rest: None };
        let base = Some(Link { body: base, tips: BTreeSet::new() });
        let mut chain = Chain { base: base.clone(), ..Chain::default() };
        assert_eq!(chain.kept_len(), 1);
        let sent: u64 = (0..1000).map(|_| push(&mut chain, 2000)).sum();
        assert!(chain.base == base && sent < 100 << 20, "{sent} bytes for 2 MB");
        assert!(chain.bundles.len() <= 32, "{} bundles", chain.bundles.len());
        chain.truncate(3);
        assert!(chain.base == base && chain.bundles.len() == 2);
        chain.truncate(0);
        assert!(chain.is_empty());
    }

    proptest! {
        #[test]
        fn a_chain_is_bounded_whatever_is_pushed(pushes in prop::collection::vec(0_u32..34, 0..200)) {
            let mut chain = Chain::default();
            for bits in pushes {
                push(&mut chain, 1 << bits);
                prop_assert!(chain.bundles.len() <= CHAIN_LEN_MAX);
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Description::decode(&bytes);
            let _ = Description::decode(&[HEADER.as_bytes(), &bytes].concat());
        }
    }
}
