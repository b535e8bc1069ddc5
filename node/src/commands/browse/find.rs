//! `find`.

use super::line::{EntryLine, RefLine, text_of, text_of_ref};
use super::{is_git, open};
use crate::cli::Exit;
use crate::cli::browse::FindArgs;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::client::ClientError;
use crate::client::browse::Browser;
use crate::client::browse::find::{Pattern, Search};
use crate::client::browse::git::GitSnapshot;
use crate::client::ledger::Logged;
use crate::commands::data::time;
use crate::home::Home;
use crate::service::wall;
use crate::size::counted;
use protocol::id::EntryId;
use serde::Serialize;
use std::fmt::Write as _;

/// Of snapshots that are the same in all so many are named to people.
const NAMED: usize = 3;

/// Snapshots that are the same in all.
struct Same<'a> {
    root: Vec<u8>,
    snapshots: Vec<&'a Logged>,
}

/// Something that was found, for programs.
#[derive(Serialize)]
struct Match<'a, T> {
    snapshots: &'a [EntryId],
    #[serde(flatten)]
    what: T,
}

/// Finds files in snapshots.
pub async fn find(home: &Home, args: FindArgs, output: &Output) -> Result<Exit, CliError> {
    let search = search(&args)?;
    let browser = open(home, &args.open).await?;
    let ledger = &browser.reader.ledger;
    let snapshots: Vec<&Logged> = if args.snapshot.is_empty() {
        let is_searched = |logged: &&Logged| args.all || !ledger.is_forgotten(logged);
        ledger.snapshots().into_iter().filter(is_searched).collect()
    } else {
        let named = args.snapshot.iter().map(|name| browser.find(name));
        named.collect::<Result<_, _>>()?
    };
    let all = snapshots.len();
    let (groups, closed) = groups(&browser, snapshots)?;
    if closed > 0 {
        output.warn(format!(
            "{} not searched: sealed to another identity",
            if closed == 1 { "1 snapshot is".into() } else { format!("{closed} snapshots are") }
        ));
    }
    let mut matches = 0;
    for group in &groups {
        matches += search_in(&browser, group, &search, args.long, output).await?;
    }
    let searched = all - closed;
    if output.style().json {
        let body = serde_json::json!({ "snapshots": searched, "matches": matches });
        output.json("summary", &body);
    } else if matches == 0 {
        output.line(format!("nothing is found in {}", counted(searched, "snapshot")));
    }
    browser.close().await;
    Ok(Exit::Done)
}

fn search(args: &FindArgs) -> Result<Search, CliError> {
    let wrong = |error: &dyn std::fmt::Display| CliError::new(error.to_string()).exit(Exit::Usage);
    let patterns = args.pattern.iter().map(|text| Pattern::new(text, args.ignore_case));
    let now = wall();
    Ok(Search {
        patterns: patterns.collect::<Result<_, _>>().map_err(|error| wrong(&error))?,
        kinds: args.kind.clone(),
        newer: args.newer.map(|time| time.from(now)),
        older: args.older.map(|time| time.from(now)),
    })
}

/// The snapshots by what is in them, and how many this identity does not open.
fn groups<'a>(
    browser: &Browser,
    snapshots: Vec<&'a Logged>,
) -> Result<(Vec<Same<'a>>, usize), CliError> {
    let mut groups: Vec<Same<'a>> = Vec::new();
    let mut closed = 0;
    for snapshot in snapshots {
        let root = match browser.root_of(snapshot) {
            Ok(root) => root.encode(),
            Err(ClientError::Identity(_)) => {
                closed += 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match groups.iter_mut().find(|group| group.root == root) {
            Some(group) if group.snapshots.iter().all(|other| other.id != snapshot.id) => {
                group.snapshots.push(snapshot);
            }
            Some(_) => {}
            None => groups.push(Same { root, snapshots: vec![snapshot] }),
        }
    }
    Ok((groups, closed))
}

/// Says what is found in these snapshots, and how much.
async fn search_in(
    browser: &Browser,
    group: &Same<'_>,
    search: &Search,
    long: bool,
    output: &Output,
) -> Result<u64, CliError> {
    let first = group.snapshots[0];
    let ids: Vec<EntryId> = group.snapshots.iter().map(|snapshot| snapshot.id).collect();
    let mut matches = 0;
    let mut head = || {
        if matches == 0 && !output.style().json {
            say_heads(browser, &group.snapshots, output);
        }
        matches += 1;
    };
    if is_git(browser, first) && !search.is_of_files() {
        for r in GitSnapshot::read(browser, first).await?.refs {
            if search.is_named(&r.name) {
                head();
                let what = RefLine::from(&r);
                output.json("ref", &Match { snapshots: &ids, what });
                output.result(format!("  {}", text_of_ref(&r, long)));
            }
        }
    } else {
        let mut entries = browser.entries(first).await?;
        while let Some(entry) = entries.next().await? {
            if search.finds(&entry) {
                head();
                let what = EntryLine::from(&entry);
                output.json("match", &Match { snapshots: &ids, what });
                output.result(format!("  {}", text_of(&entry, long)));
            }
        }
    }
    Ok(matches)
}

/// Says in which snapshots something is found; programs hear of all of them.
fn say_heads(browser: &Browser, snapshots: &[&Logged], output: &Output) {
    for snapshot in snapshots.iter().take(NAMED) {
        output.heading(heading(browser, snapshot));
    }
    if snapshots.len() > NAMED {
        let further = counted(snapshots.len() - NAMED, "snapshot");
        output.heading(format!("and {further} more that are the same in all"));
    }
}

fn heading(browser: &Browser, snapshot: &Logged) -> String {
    let mut text = format!("snapshot {} of {}", snapshot.id.short(), time(snapshot.witnessed()));
    if let Some(info) = browser.info_of(snapshot) {
        let _ = write!(text, ", {} {}", info.host, info.source);
    }
    text.replace('\n', " ")
}
