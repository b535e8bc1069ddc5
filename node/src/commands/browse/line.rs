//! One entry or reference on one line, for people and for programs.

use crate::cli::names::{PathText, shown, text_and_base64};
use crate::cli::output::Output;
use crate::client::browse::git::GitRef;
use crate::client::browse::{Entry, What};
use protocol::item::{NodeKind, Timestamp};
use serde::Serialize;
use std::borrow::Cow;

/// An entry for programs.
#[derive(Debug, Serialize)]
pub(super) struct EntryLine<'a> {
    #[serde(flatten)]
    path: PathText<'a>,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    mode: u32,
    permissions: String,
    uid: u32,
    gid: u32,
    /// Nothing for a time that no calendar has.
    mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Cow<'a, str>>,
}

impl<'a> From<&'a Entry> for EntryLine<'a> {
    fn from(entry: &'a Entry) -> Self {
        let (target, target_base64) = match &entry.what {
            What::Symlink { target } => {
                let (text, exact) = text_and_base64(target);
                (Some(text), exact)
            }
            _ => (None, None),
        };
        let device = match &entry.what {
            What::Node(node) if node.kind != NodeKind::Fifo => Some((node.major, node.minor)),
            _ => None,
        };
        let names = entry.attributes.iter().map(|a| String::from_utf8_lossy(&a.name.0));
        Self {
            path: entry.path().into(),
            kind: kind_of(&entry.what),
            size: entry.size(),
            mode: entry.meta.mode,
            permissions: permissions(entry),
            uid: entry.meta.uid,
            gid: entry.meta.gid,
            mtime: instant(entry.meta.mtime).map(|time| time.to_string()),
            target,
            target_base64,
            device,
            attributes: names.collect(),
        }
    }
}

/// What an entry is, in a word.
pub(super) fn kind_of(what: &What) -> &'static str {
    match what {
        What::Directory => "dir",
        What::File { .. } => "file",
        What::Symlink { .. } => "symlink",
        What::Node(node) => match node.kind {
            NodeKind::Fifo => "fifo",
            NodeKind::CharacterDevice => "chardev",
            NodeKind::BlockDevice => "blockdev",
        },
    }
}

/// An entry's path for people; the top has none.
pub(super) fn path_of(entry: &Entry) -> Cow<'_, str> {
    if entry.path().is_empty() { Cow::Borrowed(".") } else { shown(entry.path()) }
}

/// An entry for people, all of it when `long`.
pub(super) fn text_of(entry: &Entry, long: bool) -> String {
    let path = path_of(entry);
    if !long {
        return path.into_owned();
    }
    let meta = &entry.meta;
    let size = match &entry.what {
        What::Node(node) if node.kind != NodeKind::Fifo => {
            format!("{}, {}", node.major, node.minor)
        }
        _ => entry.size().to_string(),
    };
    let time = instant(meta.mtime);
    let time = time.map_or_else(|| "?".into(), |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let (permissions, uid, gid) = (permissions(entry), meta.uid, meta.gid);
    let mut text = format!("{permissions} {uid:>5} {gid:>5} {size:>12} {time:<19} {path}");
    if let What::Symlink { target } = &entry.what {
        text.push_str(" -> ");
        text.push_str(&shown(target));
    }
    text
}

/// As `ls -l` shows them: `drwxr-xr-x`.
fn permissions(entry: &Entry) -> String {
    let kind = match &entry.what {
        What::Directory => 'd',
        What::File { .. } => '-',
        What::Symlink { .. } => 'l',
        What::Node(node) => match node.kind {
            NodeKind::Fifo => 'p',
            NodeKind::CharacterDevice => 'c',
            NodeKind::BlockDevice => 'b',
        },
    };
    let mode = entry.meta.mode;
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn instant(time: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.secs, time.nanos as i32).ok()
}

/// A reference for programs.
#[derive(Debug, Serialize)]
pub(super) struct RefLine<'a> {
    name: Cow<'a, str>,
    object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbolic: Option<Cow<'a, str>>,
}

impl<'a> From<&'a GitRef> for RefLine<'a> {
    fn from(r: &'a GitRef) -> Self {
        Self {
            name: String::from_utf8_lossy(&r.name),
            object: r.object.as_deref(),
            symbolic: r.symbolic.as_deref().map(String::from_utf8_lossy),
        }
    }
}

/// A reference for people, as `git ls-remote` shows it.
pub(super) fn text_of_ref(r: &GitRef, long: bool) -> String {
    let object = r.object.as_deref().unwrap_or("(nothing yet)");
    let mut text = format!("{object}  {}", shown(&r.name));
    if long && let Some(symbolic) = &r.symbolic {
        text.push_str(" -> ");
        text.push_str(&shown(symbolic));
    }
    text
}

/// Says what an entry is.
pub(super) fn say(output: &Output, entry: &Entry, long: bool) {
    if output.style().json {
        output.json("item", &EntryLine::from(entry));
    } else {
        output.result(text_of(entry, long));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Node;
    use protocol::codec::Blob;
    use protocol::item::Meta;

    fn entry(path: &[u8], mode: u32, what: What) -> Entry {
        let mtime = Timestamp { secs: 86_400, nanos: 5 };
        let meta = Meta { path: Blob(path.to_vec()), mode, uid: 0, gid: 100, mtime };
        Entry { at: 0, meta, what, attributes: Vec::new(), shared: None }
    }

    #[test]
    fn a_long_line_reads_as_that_of_ls() {
        let link = entry(b"a\x1b", 0o777, What::Symlink { target: b"b\n".to_vec() });
        let expected = "lrwxrwxrwx     0   100            0 1970-01-02 00:00:00 a\\u{1b} -> b\\n";
        assert_eq!(text_of(&link, true), expected);
        let node = Node { kind: NodeKind::BlockDevice, major: 8, minor: 1 };
        let text = text_of(&entry(b"sda1", 0o660, What::Node(node)), true);
        assert!(text.starts_with("brw-rw----") && text.contains("8, 1"), "{text}");
        for (mode, expected) in [
            (0o7777, "drwsrwsrwt"),
            (0o7000, "d--S--S--T"),
            (0o1750, "drwxr-x--T"),
            (0o644, "drw-r--r--"),
        ] {
            assert_eq!(permissions(&entry(b"", mode, What::Directory)), expected);
        }
    }

    #[test]
    fn programs_read_everything() {
        let link = entry(b"a\xff", 0o777, What::Symlink { target: b"b".to_vec() });
        let line = serde_json::to_value(EntryLine::from(&link)).unwrap();
        assert_eq!(
            line,
            serde_json::json!({
                "path": "a\u{fffd}", "path_base64": "Yf8=", "type": "symlink", "size": 0, "mode": 0o777,
                "permissions": "lrwxrwxrwx", "uid": 0, "gid": 100, "mtime": "1970-01-02T00:00:00.000000005Z",
                "target": "b",
            })
        );
        let mut odd = entry(b"a", 0, What::Directory);
        odd.meta.mtime.secs = i64::MIN;
        let line = serde_json::to_value(EntryLine::from(&odd)).unwrap();
        assert_eq!(line["mtime"], serde_json::Value::Null);
        assert!(text_of(&odd, true).contains('?'));
    }
}
