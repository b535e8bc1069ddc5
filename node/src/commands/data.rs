//! `backup`, `snapshots`, `restore`.

use super::git_roots::GitRoots;
use crate::capped::Faults;
use crate::cli::Exit;
use crate::cli::args::{BackupArgs, RestoreArgs, RuleArgs};
use crate::cli::error::CliError;
use crate::cli::ops::SnapshotsArgs;
use crate::cli::output::{Column, Output};
use crate::cli::progress::Progress;
use crate::client::backup::{BackupOptions, Writer};
use crate::client::extend::Extended;
use crate::client::ledger::{Ledger, Logged};
use crate::client::recipients::Identities;
use crate::client::restore::{Action, Reader, RestoreOptions, RestoreSummary, Step, info_of};
use crate::client::tags::Catalog;
use crate::client::vault;
use crate::home::Home;
pub(super) use crate::size::format_time as time;
use crate::size::{ByteSize, counted, format_duration};
use crate::source::{Input, Rules, Stream};
use protocol::log::Holding;
use serde::Serialize;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Backs up.
pub async fn backup(home: &Home, args: BackupArgs, output: &Output) -> Result<Exit, CliError> {
    let stream = stream(&args)?;
    let rules = Arc::new(rules(&args.rules)?);
    let roots = GitRoots::search(&args.git_root, &rules, output)?;
    let mut sources = match &args.stream.name {
        Some(name) if stream.is_some() => vec![PathBuf::from(name)],
        _ => args.source,
    };
    sources.extend(roots.repositories.iter().cloned());
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    let options = BackupOptions {
        tags: args.tag,
        force: args.force,
        allow_degraded: args.allow_degraded,
        as_directory: args.as_directory,
        rules,
        stream: stream.map(Arc::new),
    };
    let mut writer = Writer::open(home, vault, options.allow_degraded).await?;
    let backed_up = backup_all(&mut writer, &sources, &options, &roots, output).await;
    if backed_up.is_ok() {
        warn_of_locks(writer.extended(), output);
        if let Some(note) = writer.given_up() {
            output.warn(note);
        }
    }
    writer.close().await;
    let (exit, failed) = backed_up?;
    roots.sum_up(&failed, output);
    if !failed.is_empty() {
        let (failed, all) = (failed.len(), sources.len());
        return Err(CliError::new(format!("{failed} of {all} sources could not be backed up"))
            .next("the messages above say why; the others are saved"));
    }
    Ok(exit)
}

/// Backs up one source after the other; how that ended, and those that could not be backed up.
async fn backup_all<'a>(
    writer: &mut Writer,
    sources: &'a [PathBuf],
    options: &BackupOptions,
    roots: &GitRoots,
    output: &Output,
) -> Result<(Exit, Vec<&'a PathBuf>), CliError> {
    let mut exit = roots.exit();
    let mut failed = Vec::new();
    for source in sources {
        let begin = Instant::now();
        let progress = Progress::start(output, "backing up");
        let summary = writer.backup(source, options, &progress.counters()).await;
        drop(progress);
        let summary = match summary {
            Ok(summary) => summary,
            // One source that fails does not stop the others.
            Err(error) if sources.len() > 1 || roots.is_asked() => {
                let what = CliError::from(error).message();
                output.item_error("backup", &source.display().to_string(), &what);
                failed.push(source);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        output.item_errors("backup", &summary.failed);
        if !summary.failed.is_empty() {
            exit = Exit::SourceUnreadable;
        }
        for note in &summary.notes {
            output.warn(note);
        }
        if output.style().json {
            output.json("summary", &Counted::new(&summary, &summary.failed, None));
            continue;
        }
        output.good(format!("snapshot {} of {}", summary.snapshot.short(), summary.source));
        output.line(format!(
            "  {} items, {}; {} new, {} stored in {} stripes of {}+{}; log on {} nodes; {}",
            summary.items,
            ByteSize(summary.bytes),
            ByteSize(summary.new_bytes),
            ByteSize(summary.stored_bytes),
            summary.stripes,
            summary.k,
            summary.n - summary.k,
            summary.log_holders,
            format_duration(begin.elapsed()),
        ));
        if summary.degraded {
            output.bad(
                "  the policy is not met: start nodes where they are missing, and back up again",
            );
        }
    }
    Ok((exit, failed))
}

/// What was saved is saved; that it may be released one day sooner than meant is worth saying.
fn warn_of_locks(extended: &Extended, output: &Output) {
    for (node, what) in &extended.failed {
        let node = node.short();
        output
            .warn(format!("node {node} did not extend locks, the next backup asks again: {what}"));
    }
    for (node, count) in &extended.short {
        let (node, shards) = (node.short(), counted(*count as usize, "shard"));
        output
            .warn(format!("node {node} locks {shards} for less than half of what the policy asks"));
    }
}

fn rules(args: &RuleArgs) -> Result<Rules, CliError> {
    let rules = Rules::new(&args.exclude, &args.exclude_file)
        .map_err(|error| CliError::new(error.to_string()).exit(Exit::Usage))?;
    Ok(Rules { caches: args.exclude_caches, one_file_system: args.one_file_system, ..rules })
}

fn stream(args: &BackupArgs) -> Result<Option<Stream>, CliError> {
    let input = if args.stream.stdin {
        if std::io::stdin().is_terminal() {
            return Err(CliError::new("standard input is a terminal")
                .next("pipe something into it: pg_dump | strewn backup --stdin --name db.sql")
                .exit(Exit::Usage));
        }
        Input::Stdin
    } else if args.stream.from_command {
        Input::Command(args.source.iter().map(|word| word.clone().into_os_string()).collect())
    } else if args.stream.name.is_some() {
        let error = CliError::new("--name is the name of a stream, and there is none");
        return Err(error.next("add --stdin or --from-command").exit(Exit::Usage));
    } else {
        return Ok(None);
    };
    let name = args.stream.name.as_deref().unwrap_or_default();
    let stream = Stream::new(name, input);
    stream.map(Some).map_err(|error| CliError::new(error.to_string()).exit(Exit::Usage))
}

/// What is to be known of the logs before anything in them is believed.
fn warn_of_logs(ledger: &Ledger, output: &Output) {
    for device in ledger.forked() {
        output.warn(format!(
            "device {} signed two logs that contradict each other: its key is in other hands, or its host was set back; both are listed, and strewn check says which entries",
            device.short()
        ));
    }
}

/// Lists snapshots.
pub async fn snapshots(
    home: &Home,
    args: &SnapshotsArgs,
    output: &Output,
) -> Result<Exit, CliError> {
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    let reader = Reader::open(home, vault, None).await?;
    let catalog = Catalog::read(&reader.vault, &reader.ledger);
    warn_of_logs(&reader.ledger, output);
    let mut rows = Vec::new();
    for logged in reader.ledger.snapshots() {
        let held = reader.ledger.holding(logged);
        let info = catalog.info_of(&reader.vault, logged);
        let has = |word: &String| info.as_ref().is_some_and(|info| info.tags.contains(word));
        let is_forgotten = reader.ledger.is_forgotten(logged);
        if !args.tag.iter().all(has) || (is_forgotten && !args.all) {
            continue;
        }
        if output.style().json {
            output.json(
                "snapshot",
                &serde_json::json!({
                    "id": logged.id, "device": logged.entry.device, "claimed": logged.entry.claimed,
                    "witnessed": logged.witnessed(), "holders": logged.holders.len(),
                    "held": match held {
                        Holding::Wide => Some(true),
                        Holding::Narrow => Some(false),
                        Holding::Unknown => None,
                    },
                    "forgotten": is_forgotten, "info": info,
                }),
            );
        }
        let mut row = vec![logged.id.short(), time(logged.witnessed())];
        row.extend(match info {
            Some(info) => vec![
                info.host,
                info.source,
                info.tags.join(","),
                info.items.to_string(),
                ByteSize(info.bytes).to_string(),
            ],
            None => vec![String::new(); 5],
        });
        row.push(match held {
            _ if is_forgotten => "forgotten".into(),
            Holding::Wide => String::new(),
            Holding::Narrow => "NOT HELD WIDELY".into(),
            Holding::Unknown => "held? nodes are silent".into(),
        });
        rows.push(row);
    }
    let columns = [
        Column::text("id"),
        Column::text("witnessed (UTC)"),
        Column::text("host"),
        Column::text("source"),
        Column::text("tags"),
        Column::number("items"),
        Column::number("size"),
        Column::text(""),
    ];
    output.table(&columns, rows);
    Ok(Exit::Done)
}

/// Restores.
pub async fn restore(home: &Home, args: RestoreArgs, output: &Output) -> Result<Exit, CliError> {
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    let identities = Identities::find(args.identity.as_deref())?;
    let reader = Reader::open(home, vault, Some(&identities)).await?;
    warn_of_logs(&reader.ledger, output);
    let restored = restore_all(&reader, args, output).await;
    reader.close().await;
    restored
}

async fn restore_all(
    reader: &Reader,
    args: RestoreArgs,
    output: &Output,
) -> Result<Exit, CliError> {
    let mut snapshots = Vec::new();
    for name in &args.snapshots {
        let snapshot = reader.ledger.find_snapshot(name)?;
        let newest = reader.ledger.newest().map_or(snapshot.id, |newest| newest.id);
        if name == "latest" && newest != snapshot.id {
            output.warn(format!(
                "snapshot {} is newer and not held widely enough to be believed; this is {}",
                newest.short(),
                snapshot.id.short()
            ));
        }
        snapshots.push(snapshot);
    }
    let paths = args.path.iter().map(|path| {
        let bytes = path.as_os_str().as_bytes();
        let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
        bytes.strip_suffix(b"/").unwrap_or(bytes).to_vec()
    });
    let options = RestoreOptions {
        paths: paths.collect(),
        overwrite: args.overwrite,
        verify: args.verify,
        as_bundle: args.as_bundle,
    };
    let [snapshot] = snapshots[..] else {
        let mut exit = Exit::Done;
        for (snapshot, target) in apart(reader, &snapshots, &args.target)? {
            match restore_one(reader, snapshot, &target, &options, args.dry_run, output).await {
                Ok(Exit::Done) => {}
                Ok(worse) => exit = worse,
                // One snapshot that fails does not stop the others.
                Err(error) => {
                    let target = target.display().to_string();
                    output.item_error("restore", &target, &error.message());
                    exit = Exit::Failed;
                }
            }
        }
        return Ok(exit);
    };
    restore_one(reader, snapshot, &args.target, &options, args.dry_run, output).await
}

/// Where each of several snapshots goes: below `target`, by the name of its source.
fn apart<'a>(
    reader: &Reader,
    snapshots: &[&'a Logged],
    target: &Path,
) -> Result<Vec<(&'a Logged, PathBuf)>, CliError> {
    let mut places: Vec<(&Logged, PathBuf)> = Vec::new();
    for &snapshot in snapshots {
        let info = info_of(&reader.vault, snapshot);
        let name = info.as_ref().and_then(|info| Path::new(&info.source).file_name());
        let place = target.join(name.unwrap_or(snapshot.id.short().as_ref()));
        if let Some((other, _)) = places.iter().find(|(_, taken)| *taken == place) {
            let (one, other) = (snapshot.id.short(), other.id.short());
            let text = format!("{one} and {other} would both go to {}", place.display());
            return Err(CliError::new(text).next("restore one of them to another folder"));
        }
        places.push((snapshot, place));
    }
    Ok(places)
}

async fn restore_one(
    reader: &Reader,
    snapshot: &Logged,
    target: &Path,
    options: &RestoreOptions,
    dry_run: bool,
    output: &Output,
) -> Result<Exit, CliError> {
    let begin = Instant::now();
    let progress = Progress::start(output, if dry_run { "looking" } else { "restoring" });
    let summary = if dry_run {
        let mut tell = |step: Step<'_>| show(step, output);
        reader.plan(snapshot, target, options, &mut tell).await
    } else {
        reader.restore(snapshot, target, options, &progress.counters()).await
    };
    drop(progress);
    let mut summary = summary?;
    summary.snapshot = snapshot.id.to_string();
    summary.target = target.display().to_string();
    output.item_errors("restore", &summary.failed);
    output.item_errors("verify", &summary.differs);
    for note in &summary.notes {
        output.warn(note);
    }
    if summary.items == 0 && !options.paths.is_empty() {
        return Err(
            CliError::new("nothing in the snapshot lies at these paths").exit(Exit::NotThere)
        );
    }
    if output.style().json {
        output.json("summary", &Counted::new(&summary, &summary.failed, Some(&summary.differs)));
    } else {
        let (id, target) = (snapshot.id.short(), target.display());
        if summary.dry_run {
            output.good(format!("nothing was written; snapshot {id} to {target} would be"));
        } else if !summary.failed.is_empty() {
            output.bad(format!(
                "snapshot {id} is restored to {target}, but for {} items that cannot be read now: the same command goes on",
                summary.failed.len()
            ));
        } else {
            output.good(format!("snapshot {id} is restored to {target}"));
        }
        output.line(format!("  {}; {}", counts(&summary), format_duration(begin.elapsed())));
        if let (Some(verified), true) = (summary.verified, summary.differs.is_empty()) {
            output.line(format!("  {verified} items were read again: as in the snapshot"));
        }
    }
    let is_right = summary.failed.is_empty() && summary.differs.is_empty();
    Ok(if is_right { Exit::Done } else { Exit::Failed })
}

fn show(step: Step<'_>, output: &Output) {
    let path = String::from_utf8_lossy(step.path);
    let path = if path.is_empty() { "." } else { &path };
    if output.style().json {
        let Step { action, size, .. } = step;
        let body = serde_json::json!({ "action": action, "item": path, "size": size });
        output.json("verbose_status", &body);
        return;
    }
    let action = match step.action {
        Action::Restore => "restore",
        Action::Update => "update",
        Action::Unchanged => "unchanged",
        Action::Keep => "keep",
    };
    output.line(format!("{action:<9} {path}"));
}

/// A summary for programs. Its lists of paths may be cut: how many there are in all is said beside them.
#[derive(Serialize)]
struct Counted<'a, S> {
    #[serde(flatten)]
    summary: &'a S,
    failed_total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    differs_total: Option<u64>,
    /// Whether not all of them are named.
    is_cut: bool,
}

impl<'a, S> Counted<'a, S> {
    fn new(summary: &'a S, failed: &Faults, differs: Option<&Faults>) -> Self {
        let is_cut = failed.more() > 0 || differs.is_some_and(|differs| differs.more() > 0);
        let (failed_total, differs_total) = (failed.len(), differs.map(Faults::len));
        Self { summary, failed_total, differs_total, is_cut }
    }
}

fn counts(summary: &RestoreSummary) -> String {
    let is_part = summary.resumed || summary.dry_run || summary.fetched_bytes < summary.bytes;
    let parts = [
        Some(format!("{} items, {}", summary.items, ByteSize(summary.bytes))),
        summary.refs.map(|refs| format!("{refs} refs")),
        is_part.then(|| format!("{} fetched", ByteSize(summary.fetched_bytes))),
        (summary.unchanged > 0).then(|| format!("{} files were there already", summary.unchanged)),
        (summary.kept > 0).then(|| format!("{} kept what was in their place", summary.kept)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capped::NAMED_MAX;

    #[test]
    fn a_list_that_is_cut_says_so_to_programs() {
        let mut summary = RestoreSummary::default();
        let told = |summary: &RestoreSummary| {
            let counted = Counted::new(summary, &summary.failed, Some(&summary.differs));
            let value = serde_json::to_value(counted).unwrap();
            let named = value["failed"].as_array().unwrap().len();
            (named, value["failed_total"].clone(), value["is_cut"] == true, value["items"].clone())
        };
        summary.failed.push(("a".into(), "gone".into()));
        assert_eq!(told(&summary), (1, 1.into(), false, 0.into()));
        for _ in 0..NAMED_MAX {
            summary.failed.push(("b".into(), "gone".into()));
        }
        assert_eq!(told(&summary), (NAMED_MAX, (NAMED_MAX as u64 + 1).into(), true, 0.into()));
    }
}
