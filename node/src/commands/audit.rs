//! `audit`, and what `verify-proof` says of its transcripts.

use super::data::time;
use crate::cli::Exit;
use crate::cli::audit::AuditArgs;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Output};
use crate::cli::progress::Progress;
use crate::client::audit::{NodeAudit, Scope, audit as audit_all, collect as collect_all};
use crate::client::vault::{self, Vault};
use crate::home::{Home, write_new};
use crate::service::wall;
use crate::size::{ByteSize, counted, format_duration};
use protocol::audit::{Transcript, Verdict};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Audits the holders of a vault.
pub async fn audit(home: &Home, args: AuditArgs, output: &Output) -> Result<Exit, CliError> {
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    if args.collect {
        return collect(home, &vault, args.evidence, output).await;
    }
    let scope = Scope { nodes: args.node, percent: args.sample };
    let begin = Instant::now();
    let progress = Progress::start(output, "auditing");
    let audited = audit_all(home, &vault, &scope, &progress.counters()).await;
    drop(progress);
    let audited = audited?;
    let folder = args.evidence.unwrap_or_else(|| vault.folder().join("evidence"));
    let mut files = Vec::new();
    for node in &audited.nodes {
        files.extend(keep(node, &folder)?);
    }
    let asked: u64 = audited.nodes.iter().map(|node| node.asked).sum();
    let proved: u64 = audited.nodes.iter().map(|node| node.proved).sum();
    let exit = if audited.good { Exit::Done } else { Exit::Failed };
    if output.style().json {
        let body = json!({
            "good": audited.good, "asked": asked, "proved": proved, "silent": audited.silent,
            "nodes": audited.nodes, "evidence": files,
        });
        output.json("summary", &body);
        return Ok(exit);
    }
    let columns = [
        Column::text("node"),
        Column::number("shards"),
        Column::number("proved"),
        Column::number("missing"),
        Column::number("wrong"),
        Column::number("no answer"),
        Column::text(""),
    ];
    output.table(&columns, audited.nodes.iter().map(row));
    let bytes = audited.nodes.iter().map(|node| node.proof_bytes).sum();
    output.line(format!("{} of proofs, {}", ByteSize(bytes), format_duration(begin.elapsed())));
    if audited.silent > 0 {
        let silent = counted(audited.silent, "node");
        output
            .warn(format!("{silent} did not answer: offline, nothing is known of what they have"));
    }
    let shards = counted(asked as usize, "shard");
    if audited.good {
        output.good(format!("{shards} promised, all proved"));
        return Ok(exit);
    }
    output.bad(format!("{shards} promised, {proved} proved"));
    for file in &files {
        output
            .line(format!("  {}: what it signed; `strewn verify-proof` checks it", file.display()));
    }
    if audited.nodes.iter().any(NodeAudit::is_guilty) {
        output.line("  → `strewn status` says whether the policy is still kept; look after the nodes, and back up again: what is missing is sent anew");
    }
    Ok(exit)
}

/// Writes down what holders have in writing against each other.
async fn collect(
    home: &Home,
    vault: &Vault,
    folder: Option<PathBuf>,
    output: &Output,
) -> Result<Exit, CliError> {
    let found = collect_all(home, vault).await?;
    let folder = folder.unwrap_or_else(|| vault.folder().join("evidence"));
    let mut files = Vec::new();
    for (number, (holder, transcript)) in found.iter().enumerate() {
        files.push(keep_one(&folder, &holder.short(), number, transcript)?);
    }
    let exit = if files.is_empty() { Exit::Done } else { Exit::Failed };
    if output.style().json {
        output.json("summary", &json!({ "good": files.is_empty(), "evidence": files }));
        return Ok(exit);
    }
    if files.is_empty() {
        output.good("no holder has anything in writing against another");
    }
    for file in &files {
        output
            .line(format!("  {}: what it signed; `strewn verify-proof` checks it", file.display()));
    }
    Ok(exit)
}

fn row(node: &NodeAudit) -> Vec<String> {
    vec![
        node.node.short(),
        node.asked.to_string(),
        node.proved.to_string(),
        node.missing.to_string(),
        node.wrong.to_string(),
        node.unanswered.to_string(),
        node.why.clone().unwrap_or_default(),
    ]
}

/// Writes down what convicts a node.
fn keep(node: &NodeAudit, folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for (number, transcript) in node.evidence.iter().enumerate() {
        files.push(keep_one(folder, &node.node.short(), number, transcript)?);
    }
    Ok(files)
}

fn keep_one(
    folder: &Path,
    holder: &str,
    number: usize,
    transcript: &Transcript,
) -> Result<PathBuf, CliError> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{holder}-{}-{number}.audit", wall().0));
    write_new(&path, &transcript.to_bytes(), 0o644)?;
    Ok(path)
}

/// What a transcript shows, to whoever was not there.
pub(super) fn verify(path: &Path, bytes: &[u8], output: &Output) -> Result<Exit, CliError> {
    let judged = Transcript::from_bytes(bytes).and_then(|transcript| transcript.judge());
    let judged = judged.map_err(|error| {
        CliError::new(format!("{} shows nothing: {error}", path.display()))
            .next("ask whoever gave it to you for the file that `strewn audit` wrote")
    })?;
    let count = |verdict: fn(&Verdict) -> bool| {
        judged.found.iter().filter(|found| verdict(&found.verdict)).count()
    };
    let proved = count(|verdict| matches!(verdict, Verdict::Proved));
    let missing = count(|verdict| matches!(verdict, Verdict::Missing));
    let wrong = judged.found.len() - proved - missing;
    let good = proved == judged.found.len();
    let exit = if good { Exit::Done } else { Exit::Failed };
    if output.style().json {
        let broken = judged.found.iter().filter(|found| found.verdict != Verdict::Proved);
        let broken = broken.map(|found| {
            let receipt = &found.receipt;
            json!({
                "shard": found.shard, "stripe": receipt.stripe, "received": receipt.received, "keep": receipt.keep,
                "missing": found.verdict == Verdict::Missing,
            })
        });
        let body = json!({
            "good": good, "kind": "audit", "node": judged.holder, "auditor": judged.auditor, "vault": judged.vault,
            "answered": judged.answered, "shards": judged.found.len(), "proved": proved, "missing": missing, "wrong": wrong,
            "broken": broken.collect::<Vec<_>>(),
        });
        output.json("summary", &body);
        return Ok(exit);
    }
    output.line(format!("an audit of node {}", judged.holder));
    output.line(format!("  by {}, of vault {}", judged.auditor, judged.vault));
    output.line(format!(
        "  on {} UTC by its own clock it answered about {} that it had promised to keep",
        time(judged.answered),
        counted(judged.found.len(), "shard")
    ));
    for found in judged.found.iter().filter(|found| found.verdict != Verdict::Proved) {
        let receipt = &found.receipt;
        let what = match &found.verdict {
            Verdict::Wrong(fault) => format!("it signed a proof that is none: {fault}"),
            _ => "it signed that it has it not".into(),
        };
        output.line(format!(
            "  shard {}, received {} UTC to be kept for {}: {what}",
            found.shard.short(),
            time(receipt.received),
            receipt.keep
        ));
    }
    if good {
        output.good(format!("PROVED: it had all {proved}"));
    } else {
        output.bad(format!("BROKEN: of {} it proved {proved}", judged.found.len()));
        output.line(
            "  a lock that ended before, and was released, is no broken promise: compare the dates",
        );
    }
    Ok(exit)
}
