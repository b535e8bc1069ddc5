//! `ls`.

use super::line::{RefLine, say, text_of_ref};
use super::{is_git, not_there, open};
use crate::cli::Exit;
use crate::cli::browse::LsArgs;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::client::browse::git::GitSnapshot;
use crate::client::browse::{Selection, What};
use crate::home::Home;

/// Lists what is in a snapshot.
pub async fn ls(home: &Home, args: LsArgs, output: &Output) -> Result<Exit, CliError> {
    let browser = open(home, &args.open).await?;
    let snapshot = browser.find(&args.snapshot)?;
    let (mut count, mut bytes) = (0u64, 0u64);
    let selection = if is_git(&browser, snapshot) && !args.items {
        let mut selection = Selection::new(&args.path, true);
        for r in GitSnapshot::read(&browser, snapshot).await?.refs {
            if !selection.takes(&r.name, false) {
                continue;
            }
            count += 1;
            if output.style().json {
                output.json("ref", &RefLine::from(&r));
            } else {
                output.result(text_of_ref(&r, args.long));
            }
        }
        selection
    } else {
        let mut selection = Selection::new(&args.path, args.recursive);
        let mut entries = browser.entries(snapshot).await?;
        while let Some(entry) = entries.next().await? {
            if selection.is_past(entry.path()) {
                break;
            }
            if selection.takes(entry.path(), entry.what == What::Directory) {
                count += 1;
                bytes += entry.size();
                say(output, &entry, args.long);
            }
        }
        selection
    };
    if let Some(missing) = selection.missing() {
        return Err(not_there(snapshot, missing));
    }
    let body = serde_json::json!({ "snapshot": snapshot.id, "items": count, "bytes": bytes });
    output.json("summary", &body);
    browser.close().await;
    Ok(Exit::Done)
}
