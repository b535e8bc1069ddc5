//! A part as a line that people print and type.

use super::{COMMITMENT_LEN, NEED_MIN, PARTS_MAX, Part, TEXT_LEN_MAX};
use zeroize::Zeroizing;

const PREFIX: &str = "strewnpart1";
const VERSION: u8 = 1;
/// Crockford's base32: no letter that looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Symbols of a group before its check symbol.
const GROUP: usize = 7;
const HEAD_LEN: usize = 11;
const CHECK_LEN: usize = 4;
const SYMBOLS_MAX: usize = (HEAD_LEN + COMMITMENT_LEN + TEXT_LEN_MAX + CHECK_LEN) * 8 / 5 + 1;

/// Text that is no part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// It begins otherwise.
    #[error("it does not begin with {PREFIX}")]
    Prefix,
    /// A character that is in no part.
    #[error("group {group} has {found:?}, which is in no part")]
    Symbol {
        /// Which group, from 1 on.
        group: usize,
        /// It.
        found: char,
    },
    /// A group that is mistyped.
    #[error("group {group} is mistyped")]
    Group {
        /// Which, from 1 on.
        group: usize,
    },
    /// Groups are missing or too many.
    #[error("groups are missing, doubled or in another order")]
    Check,
    /// A part of another version of this software.
    #[error("it is of version {0}, this software knows {VERSION}")]
    Version(u8),
    /// It is longer than any part.
    #[error("it is too long")]
    TooLong,
    /// What it says cannot be.
    #[error("its numbers cannot be: {index} of a set of which {need} are needed")]
    Numbers {
        /// Its number.
        index: u8,
        /// Parts needed.
        need: u8,
    },
}

/// Multiplies in GF(32), modulo x⁵ + x² + 1.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b > 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a <<= 1;
        if a & 0x20 != 0 {
            a ^= 0x25;
        }
        b >>= 1;
    }
    product
}

/// The check symbol of a group: each symbol and the group's number with a weight of its own.
fn check_symbol(group: usize, symbols: &[u8]) -> u8 {
    let mut weight = 2;
    let mut sum = (group % 32) as u8;
    for &symbol in symbols {
        sum ^= times(symbol, weight);
        weight = times(weight, 2);
    }
    sum
}

fn symbol_of(c: char) -> Option<u8> {
    let c = match c.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    };
    let found = ALPHABET.iter().position(|&symbol| char::from(symbol) == c);
    found.and_then(|at| u8::try_from(at).ok())
}

/// Five bits at a time, the last ones filled up with zeros.
fn to_symbols(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut symbols = Zeroizing::new(Vec::with_capacity(bytes.len() * 8 / 5 + 1));
    let (mut bits, mut count) = (0u32, 0);
    for &byte in bytes {
        bits = bits << 8 | u32::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            symbols.push((bits >> count & 31) as u8);
        }
    }
    if count > 0 {
        symbols.push((bits << (5 - count) & 31) as u8);
    }
    symbols
}

/// The inverse of [`to_symbols`]; `None` where it gives no such symbols.
fn to_bytes(symbols: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(symbols.len() * 5 / 8));
    let (mut bits, mut count) = (0u32, 0);
    for &symbol in symbols {
        bits = bits << 5 | u32::from(symbol);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 255) as u8);
        }
    }
    (count < 5 && bits & ((1 << count) - 1) == 0).then_some(bytes)
}

fn checksum(bytes: &[u8]) -> [u8; CHECK_LEN] {
    let hash = blake3::derive_key("strewn 2026-11 part v1", bytes);
    std::array::from_fn(|i| hash[i])
}

impl Part {
    /// The line.
    #[must_use]
    pub fn to_line(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD_LEN + self.share.len() + CHECK_LEN));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.vault);
        bytes.extend_from_slice(&self.set);
        bytes.extend_from_slice(&[self.need, self.index]);
        bytes.extend_from_slice(&self.share);
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        let symbols = to_symbols(&bytes);
        let mut line = Zeroizing::new(String::with_capacity(PREFIX.len() + symbols.len() * 2));
        line.push_str(PREFIX);
        for (number, group) in symbols.chunks(GROUP).enumerate() {
            line.push('-');
            for &symbol in group.iter().chain([&check_symbol(number, group)]) {
                line.push(char::from(ALPHABET[usize::from(symbol)]));
            }
        }
        line
    }

    /// The inverse of [`Part::to_line`], for what people typed: capitals, blanks, line ends and dashes do not count, and O, I
    /// and L are read as the digits that they look like.
    ///
    /// # Errors
    /// [`PartError`], with the group that is mistyped.
    pub fn from_line(line: &str) -> Result<Self, PartError> {
        let line = line.trim();
        let is_part = line.get(..PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(PREFIX));
        if !is_part {
            return Err(PartError::Prefix);
        }
        let mut symbols = Zeroizing::new(Vec::new());
        for c in line[PREFIX.len()..].chars() {
            if c == '-' || c.is_whitespace() {
                continue;
            }
            let group = symbols.len() / (GROUP + 1) + 1;
            symbols.push(symbol_of(c).ok_or(PartError::Symbol { group, found: c })?);
            if symbols.len() > SYMBOLS_MAX.div_ceil(GROUP) * (GROUP + 1) {
                return Err(PartError::TooLong);
            }
        }
        let bytes = Self::ungroup(&symbols)?;
        let (bytes, check) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(PartError::Check)?;
        if checksum(bytes) != *check {
            return Err(PartError::Check);
        }
        Self::decode(bytes)
    }

    fn ungroup(symbols: &[u8]) -> Result<Zeroizing<Vec<u8>>, PartError> {
        let mut plain = Zeroizing::new(Vec::with_capacity(symbols.len()));
        for (number, group) in symbols.chunks(GROUP + 1).enumerate() {
            let (check, data) = group.split_last().ok_or(PartError::Check)?;
            if data.is_empty() || check_symbol(number, data) != *check {
                return Err(PartError::Group { group: number + 1 });
            }
            plain.extend_from_slice(data);
        }
        to_bytes(&plain).ok_or(PartError::Check)
    }

    fn decode(bytes: &[u8]) -> Result<Self, PartError> {
        let &version = bytes.first().ok_or(PartError::Check)?;
        if version != VERSION {
            return Err(PartError::Version(version));
        }
        let (head, share) = bytes.split_first_chunk::<HEAD_LEN>().ok_or(PartError::Check)?;
        let (need, index) = (head[9], head[10]);
        let is_possible =
            (NEED_MIN..=PARTS_MAX).contains(&need) && (1..=PARTS_MAX).contains(&index);
        if !is_possible {
            return Err(PartError::Numbers { index, need });
        }
        if !(COMMITMENT_LEN + 1..=COMMITMENT_LEN + TEXT_LEN_MAX).contains(&share.len()) {
            return Err(PartError::Check);
        }
        Ok(Self {
            vault: std::array::from_fn(|i| head[1 + i]),
            set: std::array::from_fn(|i| head[5 + i]),
            need,
            index,
            share: Zeroizing::new(share.to_vec()),
        })
    }
}
