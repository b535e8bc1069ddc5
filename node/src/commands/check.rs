//! `check`.

use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::ops::CheckArgs;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::client::check::{self, Report, Subset};
use crate::client::recipients::Identities;
use crate::client::vault;
use crate::home::Home;
use crate::size::{ByteSize, counted, format_duration};
use std::time::Instant;

/// Of each kind so many findings are shown to people; programs get more.
const SHOWN: usize = 10;

/// Checks a vault.
pub async fn check(home: &Home, args: CheckArgs, output: &Output) -> Result<Exit, CliError> {
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    let name = vault.name.clone();
    let identities = Identities::find_any(args.identity.as_deref())?;
    let read = if args.read_data { Some(Subset::All) } else { args.read_data_subset };
    let begin = Instant::now();
    let progress = Progress::start(output, "checking");
    let report = check::check(home, vault, identities.as_ref(), read, &progress.counters()).await;
    drop(progress);
    let report = report?;
    for (kind, samples) in report.findings.samples() {
        let shown = if output.style().json { samples.len() } else { SHOWN };
        for what in samples.iter().take(shown) {
            output.finding(kind, what);
        }
        if samples.len() > shown {
            output.warn(format!(
                "and more: {} in all",
                kind.counted(report.findings.counts()[&kind])
            ));
        }
    }
    for note in &report.notes {
        output.warn(note);
    }
    for (node, reason) in &report.silent {
        output.warn(format!("node {} does not answer: {reason}", node.short()));
    }
    if output.style().json {
        output.json("summary", &report);
    } else {
        show(&name, &report, output);
        output.line(format!("  {}", format_duration(begin.elapsed())));
    }
    if report.good {
        output.good(&report.verdict);
        return Ok(Exit::Done);
    }
    output.bad(&report.verdict);
    if let Some(kind) = report.findings.worst() {
        output.line(format!("  → {}", kind.next_step()));
    }
    Ok(Exit::Failed)
}

fn show(name: &str, report: &Report, output: &Output) {
    output.line(format!(
        "vault {name}: {} answered, {} of the log, {}, {}, {}",
        counted(report.nodes, "node"),
        if report.entries == 1 { "1 entry".into() } else { format!("{} entries", report.entries) },
        counted(report.stripes as usize, "stripe"),
        counted(report.index_packs as usize, "index pack"),
        counted(report.snapshots, "snapshot"),
    ));
    if let Some(data) = &report.data {
        output.line(format!(
            "  read {} of {}, {}; {} opened",
            counted(data.shards as usize, "shard"),
            counted(data.stripes as usize, "stripe"),
            ByteSize(data.bytes),
            counted(data.chunks as usize, "chunk"),
        ));
    }
}
