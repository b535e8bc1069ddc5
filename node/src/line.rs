//! Lines that people paste from one host to another: bounded, checksummed, with what they are for at the front.
//!
//! ```text
//! prefix base32(codec bytes of what it carries ‖ first 4 bytes of their BLAKE3 hash), lower case, no padding
//! ```

use data_encoding::{Encoding, Specification};
use protocol::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Lines by prefix, and what each is for.
const KINDS: [(&str, &str); 9] = [
    ("strewn1", "a ticket, for `strewn join`"),
    ("strewnreq1", "a device's request, for `strewn device add`"),
    ("strewndev1", "the answer to a device's request, for `strewn device accept`"),
    ("strewnpart1", "an operator's introduction, for `strewn partner add`"),
    ("strewnprop1", "a proposed agreement, for `strewn partner accept`"),
    ("strewnagr1", "an agreement that the partner accepted, for `strewn partner accept`"),
    ("strewnvouch1", "a partner's word about a node, for `strewn node carry`"),
    ("strewncert1", "a node's certificate, for `strewn node carry`"),
    ("strewnheir1", "a succession that heirs sign, for `strewn operator sign` or `take`"),
];

/// Text that is not the line asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// It begins otherwise.
    #[error("it is no line of Strewn: one begins with {0}")]
    Prefix(&'static str),
    /// It is a line for something else.
    #[error("this is {0}")]
    Other(&'static str),
    /// Something was lost or changed on the way.
    #[error("it is damaged: copy it again, the whole line")]
    Damaged,
}

fn base32() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("a constant alphabet")
}

/// The line that carries a value.
pub(crate) fn to_line(prefix: &str, value: &impl Serialize) -> String {
    let mut bytes = codec::encode(value);
    let sum = *blake3::hash(&bytes).as_bytes();
    bytes.extend_from_slice(&sum[..4]);
    format!("{prefix}{}", base32().encode(&bytes))
}

/// The inverse of [`to_line`], for lines of at most `len_max` characters behind the prefix.
pub(crate) fn from_line<T: DeserializeOwned>(
    prefix: &'static str,
    len_max: usize,
    line: &str,
) -> Result<T, LineError> {
    let line = line.trim();
    let other = || KINDS.iter().find(|(other, _)| line.starts_with(other));
    let text = line.strip_prefix(prefix).ok_or_else(|| match other() {
        Some((_, what)) => LineError::Other(what),
        None => LineError::Prefix(prefix),
    })?;
    if text.len() > len_max {
        return Err(LineError::Damaged);
    }
    let bytes = base32().decode(text.as_bytes()).map_err(|_| LineError::Damaged)?;
    let (bytes, sum) = bytes.split_last_chunk::<4>().ok_or(LineError::Damaged)?;
    if blake3::hash(bytes).as_bytes()[..4] != *sum {
        return Err(LineError::Damaged);
    }
    codec::decode(bytes, len_max).map_err(|_| LineError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_something_else_is_named() {
        let line = to_line("strewnreq1", &7u32);
        assert_eq!(from_line::<u32>("strewnreq1", 100, &format!(" {line}\n")), Ok(7));
        let error = from_line::<u32>("strewndev1", 100, &line).unwrap_err();
        assert!(error.to_string().contains("strewn device add"), "{error}");
        assert_eq!(from_line::<u32>("strewn1", 100, "hello"), Err(LineError::Prefix("strewn1")));
        assert_eq!(from_line::<u32>("strewnreq1", 3, &line), Err(LineError::Damaged));
        assert_eq!(
            from_line::<u32>("strewnreq1", 100, &line[..line.len() - 1]),
            Err(LineError::Damaged)
        );
    }
}
