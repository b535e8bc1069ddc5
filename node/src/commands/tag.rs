//! `tag`.

use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::ops::TagArgs;
use crate::cli::output::Output;
use crate::client::restore::Reader;
use crate::client::tags::{self, Catalog};
use crate::client::vault;
use crate::home::Home;
use protocol::tag::{TagError, Tags, check_tag};
use std::collections::BTreeSet;

fn wrong(error: TagError) -> CliError {
    CliError::new(error.to_string()).exit(Exit::Usage)
}

/// What is asked of the tags of every snapshot named.
struct Change {
    add: Vec<String>,
    remove: Vec<String>,
    set: Option<Vec<String>>,
}

impl Change {
    fn of(args: &TagArgs) -> Result<Self, CliError> {
        // `--set ""` means none at all.
        let set: Vec<String> = args.set.iter().filter(|word| !word.is_empty()).cloned().collect();
        let words = args.add.iter().chain(&args.remove).chain(&set);
        words.into_iter().try_for_each(|word| check_tag(word)).map_err(wrong)?;
        let set = (!args.set.is_empty()).then_some(set);
        Ok(Self { add: args.add.clone(), remove: args.remove.clone(), set })
    }

    fn apply(&self, before: &[String]) -> Result<Tags, CliError> {
        let mut words: BTreeSet<String> =
            self.set.as_deref().unwrap_or(before).iter().cloned().collect();
        words.extend(self.add.iter().cloned());
        words.retain(|word| !self.remove.contains(word));
        Tags::new(words).map_err(wrong)
    }
}

/// Changes tags.
pub async fn tag(home: &Home, args: TagArgs, output: &Output) -> Result<Exit, CliError> {
    let change = Change::of(&args)?;
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    let mut reader = Reader::open(home, vault, None).await?;
    let catalog = Catalog::read(&reader.vault, &reader.ledger);
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    // All are looked at before any is changed.
    for name in &args.snapshot {
        let logged = reader.ledger.find_snapshot(name)?;
        if !seen.insert(logged.id) {
            continue;
        }
        let info = catalog.info_of(&reader.vault, logged).ok_or_else(|| {
            CliError::new(format!("the summary of snapshot {} cannot be opened", logged.id.short()))
        })?;
        let tags = change.apply(&info.tags)?;
        let is_same = tags == Tags::new(info.tags).map_err(wrong)?;
        entries.push((logged.id, tags, is_same));
    }
    for (snapshot, tags, is_same) in entries {
        if !is_same {
            let body = tags::entry(&reader.vault, snapshot, &tags)?;
            let _ = reader.ledger.append(&reader.mesh, &reader.vault, body, false).await?;
        }
        let words: Vec<&str> = tags.words().collect();
        if output.style().json {
            let body =
                serde_json::json!({ "snapshot": snapshot, "tags": words, "changed": !is_same });
            output.json("summary", &body);
        } else {
            let words = if words.is_empty() { "no tags".into() } else { words.join(", ") };
            output.good(format!("snapshot {}: {words}", snapshot.short()));
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(add: &[&str], remove: &[&str], set: &[&str]) -> Result<Change, CliError> {
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Change::of(&TagArgs {
            snapshot: Vec::new(),
            vault: crate::cli::args::VaultArg::default(),
            add: list(add),
            remove: list(remove),
            set: list(set),
        })
    }

    #[test]
    fn tags_are_added_removed_and_set() {
        let before = ["daily".to_owned(), "old".to_owned()];
        let after = |change: Change| {
            change.apply(&before).unwrap().words().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(after(change(&["new"], &["old", "none"], &[]).unwrap()), ["daily", "new"]);
        assert_eq!(after(change(&[], &[], &["one", "two"]).unwrap()), ["one", "two"]);
        assert_eq!(after(change(&[], &[], &[""]).unwrap()), Vec::<String>::new());
        assert!(change(&["a,b"], &[], &[]).is_err_and(|error| error.code() == Exit::Usage));
    }
}
