//! Names of files, which are bytes and need not be text: so that people can read them and no name can play with the
//! terminal, and so that programs have them exactly.

use super::output::is_invisible_order;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write as _;

/// A name for people, on one line. What is no text, control characters and those that turn the direction of writing
/// are escaped; where anything is, backslashes are doubled.
#[must_use]
pub fn shown(name: &[u8]) -> Cow<'_, str> {
    let is_plain = |c: char| !(c.is_control() || is_invisible_order(c));
    if let Ok(text) = std::str::from_utf8(name)
        && text.chars().all(is_plain)
    {
        return Cow::Borrowed(text);
    }
    let mut all = String::with_capacity(name.len() + 16);
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => all.push_str("\\\\"),
                _ if is_plain(c) => all.push(c),
                _ => all.extend(c.escape_default()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(all, "\\x{byte:02x}");
        }
    }
    Cow::Owned(all)
}

/// A path for programs: as text, and where it is none, exactly in base64 beside it.
#[derive(Debug, Serialize)]
pub struct PathText<'a> {
    /// With � in place of what is no text.
    pub path: Cow<'a, str>,
    /// Only where the path is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
}

impl<'a> From<&'a [u8]> for PathText<'a> {
    fn from(path: &'a [u8]) -> Self {
        let (path, path_base64) = text_and_base64(path);
        Self { path, path_base64 }
    }
}

/// Bytes as text, and where they are none, exactly in base64.
#[must_use]
pub fn text_and_base64(bytes: &[u8]) -> (Cow<'_, str>, Option<String>) {
    let text = String::from_utf8_lossy(bytes);
    let is_text = matches!(text, Cow::Borrowed(_));
    (text, (!is_text).then(|| data_encoding::BASE64.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_shown_on_one_line_and_harmless() {
        for (name, expected) in [
            (&b"plain \xc3\xa4"[..], "plain ä"),
            (b"dev-disk-by\\x2duuid.swap", "dev-disk-by\\x2duuid.swap"),
            (b"a\nb", "a\\nb"),
            (b"\x1b[2Jx", "\\u{1b}[2Jx"),
            (b"a\\\xff", "a\\\\\\xff"),
            ("txt.\u{202e}exe".as_bytes(), "txt.\\u{202e}exe"),
        ] {
            assert_eq!(shown(name), expected);
        }
    }

    #[test]
    fn programs_have_names_exactly() {
        let json = |name: &[u8]| serde_json::to_value(PathText::from(name)).unwrap();
        assert_eq!(json(b"a\nb"), serde_json::json!({ "path": "a\nb" }));
        let exact = serde_json::json!({ "path": "a\u{fffd}", "path_base64": "Yf8=" });
        assert_eq!(json(b"a\xff"), exact);
    }

    proptest! {
        #[test]
        fn different_names_look_different(one: Vec<u8>, two: Vec<u8>) {
            let escaped = |name: &[u8]| matches!(shown(name), Cow::Owned(_));
            let text = shown(&one);
            prop_assert!(!text.chars().any(char::is_control));
            if one != two && escaped(&one) && escaped(&two) {
                prop_assert_ne!(text, shown(&two));
            }
        }
    }
}
