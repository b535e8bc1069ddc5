//! A recovery identity split among people: Shamir's sharing over GF(256) (`vsss-rs`), and parts as lines to print and type.
//!
//! ```text
//! shared = commitment(16) text                 commitment: BLAKE3 derive_key of set and text
//! part   = version(u8 = 1) vault(4) set(4) need(u8) index(u8) share check(4)
//! line   = "strewnpart1-" groups joined with "-"
//! group  = up to 7 symbols of Crockford's base32 and a check symbol
//! ```
//! A group's check symbol is the sum over GF(32) of its symbols and its number, each with a weight of its own: any one
//! symbol mistyped, any two changed over and any two groups changed over are found, and the group is named. `check` is the
//! hash of all before it. The commitment is inside what is shared: whoever has fewer parts than needed learns nothing
//! from it, and nobody is given an identity that another set of parts, or a forged one, made up.

mod line;

use crate::id::VaultId;
use rand_core::{TryCryptoRng, TryRng};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

pub use line::PartError;

/// Longest text that is split: an SSH key of 4096 bits fits.
pub const TEXT_LEN_MAX: usize = 4 << 10;
/// Fewest parts that may be needed: with one each would be the identity itself.
pub const NEED_MIN: u8 = 2;
/// Most parts.
pub const PARTS_MAX: u8 = 64;

const COMMITMENT_LEN: usize = 16;

/// Why nothing is split, or nothing comes of the parts. Parts are numbered in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// Numbers that cannot be meant.
    #[error(
        "{need} of {parts} parts: at least {NEED_MIN} must be needed, and there are at most {PARTS_MAX}"
    )]
    Numbers {
        /// Parts needed.
        need: u8,
        /// Parts in all.
        parts: u8,
    },
    /// A text that is empty or too long.
    #[error("a text of {0} bytes cannot be split, only 1 to {TEXT_LEN_MAX}")]
    Length(usize),
    /// Parts of different splits.
    #[error("part {} was made in another split than most of the others", list(.odd))]
    Mixed {
        /// Which.
        odd: Vec<usize>,
    },
    /// The same part twice.
    #[error("parts {one} and {two} are the same one, number {index} of its set")]
    Twice {
        /// The first.
        one: usize,
        /// The second.
        two: usize,
        /// Its number in the set.
        index: u8,
    },
    /// Two parts with one number: one of them is none.
    #[error("parts {one} and {two} both say that they are number {index} of their set, and differ")]
    Contradiction {
        /// The first.
        one: usize,
        /// The second.
        two: usize,
        /// Their number.
        index: u8,
    },
    /// More parts are needed.
    #[error("{given} of the {need} parts needed are here")]
    TooFew {
        /// Parts given.
        given: usize,
        /// Parts needed.
        need: u8,
    },
    /// The parts make up something else than what was split.
    #[error("the parts do not make up what was split: {}", forged(.odd))]
    Wrong {
        /// Those without which the others do; empty when nobody knows.
        odd: Vec<usize>,
    },
    /// What was combined is no text.
    #[error("what was split is no text")]
    NoText,
}

fn list(parts: &[usize]) -> String {
    let texts: Vec<String> = parts.iter().map(ToString::to_string).collect();
    texts.join(" and part ")
}

fn forged(odd: &[usize]) -> String {
    if odd.is_empty() {
        "one of them was altered; with a further part it can be said which".into()
    } else {
        format!("part {} was altered", list(odd))
    }
}

/// One part.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    vault: [u8; 4],
    set: [u8; 4],
    need: u8,
    index: u8,
    share: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({} of set {}, {} needed)", self.index, self.set(), self.need)
    }
}

impl Part {
    /// The first digits of the vault's id; zeros where it was split without one.
    #[must_use]
    pub fn vault(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.vault)
    }

    /// What its split is called.
    #[must_use]
    pub fn set(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.set)
    }

    /// How many are needed.
    #[must_use]
    pub fn need(&self) -> u8 {
        self.need
    }

    /// Its number.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// What parts of one split have in common.
    fn split(&self) -> ([u8; 4], [u8; 4], u8, usize) {
        (self.vault, self.set, self.need, self.share.len())
    }
}

/// The random numbers of a split, drawn from its seed: this crate has none of its own.
struct Drawn(blake3::OutputReader);

impl TryRng for Drawn {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

fn commitment(set: [u8; 4], text: &[u8]) -> [u8; COMMITMENT_LEN] {
    let mut hasher = blake3::Hasher::new_derive_key("strewn 2026-11 shared identity v1");
    hasher.update(&set).update(text);
    let hash = hasher.finalize();
    std::array::from_fn(|i| hash.as_bytes()[i])
}

/// Splits a text so that any `need` of the `parts` give it back and fewer tell nothing of it but its length. The seed must
/// be random and is used once.
///
/// # Errors
/// [`ShareError::Numbers`], [`ShareError::Length`].
pub fn split(
    text: &str,
    vault: Option<VaultId>,
    need: u8,
    parts: u8,
    seed: &[u8; 32],
) -> Result<Vec<Part>, ShareError> {
    if need < NEED_MIN || need > parts || parts > PARTS_MAX {
        return Err(ShareError::Numbers { need, parts });
    }
    if text.is_empty() || text.len() > TEXT_LEN_MAX {
        return Err(ShareError::Length(text.len()));
    }
    let mut drawn = blake3::Hasher::new_derive_key("strewn 2026-11 split v1");
    let mut drawn = Drawn(drawn.update(seed).finalize_xof());
    let mut set = [0; 4];
    drawn.0.fill(&mut set);
    let mut shared = Zeroizing::new(Vec::with_capacity(COMMITMENT_LEN + text.len()));
    shared.extend_from_slice(&commitment(set, text.as_bytes()));
    shared.extend_from_slice(text.as_bytes());
    let (need_of, of) = (usize::from(need), usize::from(parts));
    let shares = Gf256::split_bytes(need_of, of, shared.as_slice(), drawn);
    let shares = shares.map_err(|_| ShareError::Numbers { need, parts })?;
    let vault = vault.map_or([0; 4], |id| std::array::from_fn(|i| id.0[i]));
    let shares = shares.into_iter().map(Zeroizing::new);
    let part = |share: Zeroizing<Vec<u8>>| {
        let index = *share.first()?;
        let share = Zeroizing::new(share[1..].to_vec());
        Some(Part { vault, set, need, index, share })
    };
    Ok(shares.filter_map(part).collect())
}

/// The text that the parts were split from.
///
/// # Errors
/// What is wrong with the parts, and with which of them.
pub fn combine(parts: &[Part]) -> Result<Zeroizing<String>, ShareError> {
    let Some(first) = parts.first() else {
        return Err(ShareError::TooFew { given: 0, need: NEED_MIN });
    };
    check_one_split(parts)?;
    check_different(parts)?;
    if parts.len() < usize::from(first.need) {
        return Err(ShareError::TooFew { given: parts.len(), need: first.need });
    }
    if let Some(text) = open(parts) {
        return as_text(text);
    }
    // With parts to spare the altered one can be told: the others open without it.
    let spare = parts.len() > usize::from(first.need);
    let without = |odd: &usize| {
        let mut others = parts.to_vec();
        others.remove(*odd);
        open(&others).is_some()
    };
    let odd: Vec<usize> = (0..parts.len()).filter(|odd| spare && without(odd)).collect();
    let odd = if odd.len() == 1 { vec![odd[0] + 1] } else { Vec::new() };
    Err(ShareError::Wrong { odd })
}

fn as_text(bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, ShareError> {
    let text = std::str::from_utf8(&bytes).map_err(|_| ShareError::NoText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Those that differ from the largest group that belongs together; of groups as large the first counts.
fn check_one_split(parts: &[Part]) -> Result<(), ShareError> {
    let mut counts = BTreeMap::new();
    for part in parts {
        *counts.entry(part.split()).or_insert(0usize) += 1;
    }
    let most = counts.values().copied().max().unwrap_or_default();
    let common = parts.iter().map(Part::split).find(|split| counts[split] == most);
    let odd = |(at, part): (usize, &Part)| (Some(part.split()) != common).then_some(at + 1);
    let odd: Vec<usize> = parts.iter().enumerate().filter_map(odd).collect();
    if odd.is_empty() { Ok(()) } else { Err(ShareError::Mixed { odd }) }
}

fn check_different(parts: &[Part]) -> Result<(), ShareError> {
    let mut seen: BTreeMap<u8, usize> = BTreeMap::new();
    for (at, part) in parts.iter().enumerate() {
        let Some(before) = seen.insert(part.index, at) else { continue };
        let (one, two, index) = (before + 1, at + 1, part.index);
        return Err(if parts[before] == *part {
            ShareError::Twice { one, two, index }
        } else {
            ShareError::Contradiction { one, two, index }
        });
    }
    Ok(())
}

/// What the parts make up, all of them, if it is what was split.
fn open(parts: &[Part]) -> Option<Zeroizing<Vec<u8>>> {
    let set = parts.first()?.set;
    let shares: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(
        parts
            .iter()
            .map(|part| {
                let mut share = Vec::with_capacity(1 + part.share.len());
                share.push(part.index);
                share.extend_from_slice(&part.share);
                share
            })
            .collect(),
    );
    let shared = Zeroizing::new(Gf256::combine_bytes(shares.as_slice()).ok()?);
    let (said, text) = shared.split_first_chunk::<COMMITMENT_LEN>()?;
    (*said == commitment(set, text)).then(|| Zeroizing::new(text.to_vec()))
}

#[cfg(test)]
mod tests;
