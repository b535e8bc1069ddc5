//! `recovery drill`: shows that the kit alone brings the backup back.

use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::names::shown;
use crate::cli::output::Output;
use crate::cli::recovery::DrillArgs;
use crate::client::recipients::{self, Identities};
use crate::client::recovery::remember_drill;
use crate::client::recovery::{Drilled, Page, RecoverError, drill};
use crate::home::{Home, read_file};
use crate::size::{ByteSize, counted, format_duration};
use libp2p::Multiaddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

fn page_of(args: &DrillArgs) -> Result<Page, CliError> {
    let Some(file) = &args.kit else { return Ok(Page::default()) };
    let missing =
        || CliError::new(format!("{}: there is no kit", file.display())).exit(Exit::NotThere);
    let bytes = Zeroizing::new(read_file(file)?.ok_or_else(missing)?);
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    Ok(Page::read(&text))
}

/// Does it.
pub async fn run(home: &Home, args: DrillArgs, output: &Output) -> Result<Exit, CliError> {
    let begin = Instant::now();
    let page = page_of(&args)?;
    let text = match (&args.identity, &page.identity) {
        (None, Some(text)) => text.clone(),
        (file, _) => recipients::find_text(file.as_deref())?,
    };
    let identities = Identities::parse(&text)?;
    let given: Vec<Multiaddr> = args.from.iter().map(|address| address.0.clone()).collect();
    let from = if given.is_empty() { page.addresses } else { given };
    if from.is_empty() {
        return Err(CliError::new("no node to begin with")
            .next("give --from ADDRESS, or a kit that lists some with --kit FILE")
            .exit(Exit::Usage));
    }
    let wanted = args.vault.clone().or(page.vault.map(|id| id.to_string()));
    // The vault's key is in it for a while.
    let only_mine = std::fs::Permissions::from_mode(0o700);
    let scratch =
        tempfile::Builder::new().prefix("strewn-drill-").permissions(only_mine).tempdir()?;
    let (target, kept) = match &args.keep {
        Some(dir) => (dir.clone(), true),
        None => (scratch.path().join("restored"), false),
    };
    let vaults = scratch.path().join("home");
    let done = drill(&vaults, &target, &from, &identities, wanted.as_deref()).await;
    let done = done.map_err(|error| match error {
        RecoverError::NotAmong { .. } => {
            CliError::from(error).next("choose one with --vault").exit(Exit::Usage)
        }
        error => error.into(),
    })?;
    let took = begin.elapsed();
    if done.is_good() {
        remember_drill(home, done.vault)?;
    }
    show(&done, &target, kept, took, output);
    Ok(if done.is_good() { Exit::Done } else { Exit::Failed })
}

fn show(done: &Drilled, target: &PathBuf, kept: bool, took: Duration, output: &Output) {
    for warning in &done.warnings {
        output.warn(warning);
    }
    output.item_errors("drill", &done.restored.failed);
    output.item_errors("drill", &done.restored.differs);
    let (up, silent) = done.nodes;
    if output.style().json {
        let path = done.path.as_deref().map(String::from_utf8_lossy);
        let body = serde_json::json!({
            "vault": done.vault, "name": done.name, "snapshots": done.snapshots,
            "snapshot": done.snapshot, "source": done.source, "path": path, "nodes": up,
            "silent": silent, "items": done.restored.items, "bytes": done.restored.bytes,
            "verified": done.restored.verified, "good": done.is_good(),
            "seconds": took.as_secs_f64(), "target": kept.then_some(target),
        });
        output.json("summary", &body);
        return;
    }
    let what = match &done.path {
        Some(path) => shown(path).into_owned(),
        None => "all of it".into(),
    };
    let verdict = format!(
        "the kit brings vault {} back: {what} of snapshot {} of {}, {}, is as it was backed up",
        done.vault.short(),
        done.snapshot.short(),
        done.source,
        ByteSize(done.restored.bytes),
    );
    if done.is_good() {
        output.good(verdict);
    } else {
        output.bad("the drill failed: what was restored is not as it was backed up");
    }
    output.line(format!(
        "  {}, {}, {silent} silent; {}",
        counted(done.snapshots, "snapshot"),
        counted(up, "node"),
        format_duration(took)
    ));
    if kept {
        output.line(format!("  it is in {}", target.display()));
    }
}
