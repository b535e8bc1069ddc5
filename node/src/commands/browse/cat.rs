//! `cat`.

use super::line::kind_of;
use super::{not_there, open};
use crate::cli::Exit;
use crate::cli::browse::CatArgs;
use crate::cli::error::CliError;
use crate::cli::names::{PathText, shown};
use crate::cli::output::Output;
use crate::client::browse::{Pieces, Selection, What, clean};
use crate::home::Home;

/// Bytes written at once.
const PIECE: usize = 1 << 20;

/// Writes a file of a snapshot to standard output.
pub async fn cat(home: &Home, args: CatArgs, output: &Output) -> Result<Exit, CliError> {
    let browser = open(home, &args.open).await?;
    let snapshot = browser.find(&args.snapshot)?;
    let path = clean(args.path.as_os_str());
    let selection = Selection::new(std::slice::from_ref(&args.path), false);
    let mut entries = browser.entries(snapshot).await?.with_pieces();
    let pieces: Pieces = loop {
        let entry = entries.next().await?.filter(|entry| !selection.is_past(entry.path()));
        let entry = entry.ok_or_else(|| not_there(snapshot, &path))?;
        if entry.path() == path {
            break match entry.what {
                What::File { pieces, .. } => pieces,
                What::Symlink { target } => {
                    let what = "is a symbolic link, and not a file";
                    let error = CliError::new(format!("{} {what}", shown(&path)));
                    return Err(error.next(format!("it points to {}", shown(&target))));
                }
                What::Directory => {
                    let error = CliError::new(format!("{} is a folder", shown(&path)));
                    return Err(error.next("`strewn ls` lists what is in it"));
                }
                what @ What::Node(_) => {
                    let error =
                        format!("{} is a {}, and has no content", shown(&path), kind_of(&what));
                    return Err(CliError::new(error));
                }
            };
        }
    };
    let (len, json) = (pieces.len(), output.style().json);
    let (mut at, mut last, mut is_harmless) = (0u64, 0, true);
    let write = |bytes: &[u8]| {
        if json {
            let base64 = data_encoding::BASE64.encode(bytes);
            output.json("content", &serde_json::json!({ "offset": at, "base64": base64 }));
            at += bytes.len() as u64;
            return Ok(true);
        }
        if output.style().terminal && !is_text(last, bytes) {
            is_harmless = false;
            return Ok(false);
        }
        last = bytes.last().copied().unwrap_or_default();
        Ok(output.bytes(bytes))
    };
    browser.each_piece(pieces, PIECE, write).await?;
    if !is_harmless {
        let error = format!("{} is no text, and this is a terminal", shown(&path));
        return Err(CliError::new(error).next("write it to a file: > FILE, or to another program"));
    }
    let path = PathText::from(&path[..]);
    output.json("summary", &Written { path, bytes: len });
    browser.close().await;
    Ok(Exit::Done)
}

#[derive(serde::Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    path: PathText<'a>,
    bytes: u64,
}

/// Whether nothing in it tells a terminal to do anything but to show it. `before` is the byte that came before.
fn is_text(mut before: u8, bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| {
        let is_control = (byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7f;
        // U+0080 to U+009F in UTF-8: control characters as well.
        let is_high_control = before == 0xc2 && (0x80..0xa0).contains(&byte);
        before = byte;
        !is_control && !is_high_control
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_no_text() {
        assert!(is_text(0, "Grüße,\t\r\n".as_bytes()) && is_text(0, b""));
        for wrong in [&b"\0"[..], b"\x1b[2J", b"a\x07", b"\x7f", "\u{9b}2J".as_bytes()] {
            assert!(!is_text(b'a', wrong), "{wrong:?}");
        }
        assert!(!is_text(0xc2, b"\x9b"), "in two pieces as well");
    }
}
