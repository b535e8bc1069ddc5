//! `diff`.

use super::line::{kind_of, path_of};
use super::{is_git, open};
use crate::cli::Exit;
use crate::cli::browse::DiffArgs;
use crate::cli::error::CliError;
use crate::cli::names::{PathText, shown};
use crate::cli::output::Output;
use crate::client::browse::diff::{Change, Counts, Diff, Sign, Statistics, changes};
use crate::client::browse::git::{GitSnapshot, RefChange, changed_refs};
use crate::client::browse::{Browser, Entry, Pieces};
use crate::client::ledger::Logged;
use crate::home::Home;
use crate::size::{ByteSize, counted};
use serde::Serialize;
use std::borrow::Cow;

/// A change for programs.
#[derive(Serialize)]
struct ChangeLine<'a> {
    modifier: &'static str,
    #[serde(flatten)]
    path: PathText<'a>,
    #[serde(rename = "type")]
    kind: &'static str,
    size_before: Option<u64>,
    size_after: Option<u64>,
}

/// A change of a reference for programs.
#[derive(Serialize)]
struct RefChangeLine<'a> {
    modifier: &'static str,
    name: Cow<'a, str>,
    before: Option<String>,
    after: Option<String>,
}

/// Shows what changed between two snapshots.
pub async fn diff(home: &Home, args: DiffArgs, output: &Output) -> Result<Exit, CliError> {
    let browser = open(home, &args.open).await?;
    let (before, after) = (browser.find(&args.before)?, browser.find(&args.after)?);
    match (is_git(&browser, before), is_git(&browser, after)) {
        (false, false) => files(&browser, before, after, args.metadata, output).await?,
        (true, true) => repositories(&browser, before, after, output).await?,
        _ => {
            let what = "one is a Git repository, and the other one is not";
            let error = CliError::new(format!("these snapshots cannot be compared: {what}"));
            return Err(error.next("`strewn snapshots` shows of what they are"));
        }
    }
    browser.close().await;
    Ok(Exit::Done)
}

async fn files(
    browser: &Browser,
    before: &Logged,
    after: &Logged,
    with_metadata: bool,
    output: &Output,
) -> Result<(), CliError> {
    let mut diff = Diff::new(browser.entries(before).await?, browser.entries(after).await?);
    while let Some(change) = diff.next().await? {
        if change.sign != Sign::Metadata || with_metadata {
            say(&change, output);
        }
    }
    let found = diff.statistics;
    if output.style().json {
        let body = Summary { before: before.id, after: after.id, statistics: found };
        output.json("summary", &body);
        return Ok(());
    }
    output.line("");
    for (name, counts) in
        [("files", found.files), ("folders", found.dirs), ("others", found.others)]
    {
        output.line(format!("{:<9} {}", format!("{name}:"), counts_text(counts)));
    }
    output.line(format!(
        "bytes:    {} added, {} removed",
        ByteSize(found.bytes_added),
        ByteSize(found.bytes_removed)
    ));
    Ok(())
}

#[derive(Serialize)]
struct Summary {
    before: protocol::id::EntryId,
    after: protocol::id::EntryId,
    #[serde(flatten)]
    statistics: Statistics,
}

fn counts_text(counts: Counts) -> String {
    let Counts { added, removed, changed, metadata, unchanged } = counts;
    format!(
        "{added} added, {removed} removed, {changed} changed, {metadata} with other metadata, {unchanged} unchanged"
    )
}

fn say(change: &Change, output: &Output) {
    let Some(entry) = change.after.as_ref().or(change.before.as_ref()) else { return };
    let modifier = change.sign.letter();
    if output.style().json {
        output.json(
            "change",
            &ChangeLine {
                modifier,
                path: entry.path().into(),
                kind: kind_of(&entry.what),
                size_before: change.before.as_ref().map(Entry::size),
                size_after: change.after.as_ref().map(Entry::size),
            },
        );
    } else {
        output.result(format!("{modifier}  {}", path_of(entry)));
    }
}

async fn repositories(
    browser: &Browser,
    before: &Logged,
    after: &Logged,
    output: &Output,
) -> Result<(), CliError> {
    let old = GitSnapshot::read(browser, before).await?;
    let new = GitSnapshot::read(browser, after).await?;
    let (mut added, mut removed, mut moved) = (0u64, 0u64, 0u64);
    for change in changed_refs(&old.refs, &new.refs) {
        let (modifier, r, from, to) = match &change {
            RefChange::Added(r) => (Sign::Added, r, None, Some(r.points_at())),
            RefChange::Removed(r) => (Sign::Removed, r, Some(r.points_at()), None),
            RefChange::Moved(from, to) => {
                (Sign::Modified, to, Some(from.points_at()), Some(to.points_at()))
            }
        };
        match change {
            RefChange::Added(_) => added += 1,
            RefChange::Removed(_) => removed += 1,
            RefChange::Moved(..) => moved += 1,
        }
        if output.style().json {
            let name = String::from_utf8_lossy(&r.name);
            let line = RefChangeLine { modifier: modifier.letter(), name, before: from, after: to };
            output.json("ref_change", &line);
        } else {
            let points = [from, to].into_iter().flatten().collect::<Vec<_>>().join(" -> ");
            output.result(format!("{}  {}  {points}", modifier.letter(), shown(&r.name)));
        }
    }
    let settings = changes(old.others, new.others);
    for change in &settings {
        say(change, output);
    }
    let fresh = |new: &[(Pieces, u64)], old: &[(Pieces, u64)]| {
        let fresh = new.iter().filter(|piece| !old.contains(piece));
        fresh.fold((0usize, 0u64), |(n, all), (_, size)| (n + 1, all + size))
    };
    let (bundles, of_bundles) = fresh(&new.bundles, &old.bundles);
    let (packs, of_packs) = fresh(&new.packs, &old.packs);
    let bytes = of_bundles + of_packs;
    if output.style().json {
        let body = serde_json::json!({
            "before": before.id, "after": after.id, "refs_added": added, "refs_removed": removed,
            "refs_moved": moved, "items_changed": settings.len(), "bundles_added": bundles, "packs_added": packs,
            "bytes_added": bytes,
        });
        output.json("summary", &body);
        return Ok(());
    }
    output.line("");
    output.line(format!("refs:     {added} added, {removed} removed, {moved} moved"));
    let bundles = counted(bundles, "new bundle");
    let carriers = match packs {
        0 => bundles,
        packs => format!("{} and {bundles}", counted(packs, "new pack")),
    };
    output.line(format!("objects:  {} in {carriers}", ByteSize(bytes)));
    Ok(())
}
