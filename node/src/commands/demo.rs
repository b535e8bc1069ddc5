//! `demo`: nine real node processes on this machine, a backup, the loss of a provider, a restore, a comparison.

mod compare;

use super::look::show_exposure;
use super::node::setup_for;
use crate::cli::Exit;
use crate::cli::args::{DemoArgs, NodeArgs};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::client::backup::{BackupOptions, Writer};
use crate::client::mesh::{Caller, Mesh};
use crate::client::recipients::{self, Identities};
use crate::client::restore::{Reader, RestoreOptions};
use crate::client::{ClientError, status, vault};
use crate::config::{ClientConfig, Config};
use crate::home::{Home, create_key, read_file, write_file};
use crate::size::{ByteSize, format_duration};
use libp2p::Multiaddr;
use protocol::label::{Label, Labels};
use protocol::policy::Policy;
use protocol::sign::SecretKey;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROVIDERS: [&str; 3] = ["aws", "gcp", "hetzner"];
const ACCOUNTS: usize = 3;
/// How long the mesh may take to come up: processes start at once, machines may be busy.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// One node process.
struct NodeProcess {
    labels: Vec<Label>,
    home: PathBuf,
    process: Child,
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start_node(home: &Path) -> Result<Child, CliError> {
    let log = std::fs::File::create(home.join("log"))?;
    let program = std::env::current_exe()?;
    let child = Command::new(program)
        .arg("--home")
        .arg(home)
        .args(["node", "run"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(child)
}

async fn addresses_of(node: &mut NodeProcess) -> Result<Vec<Multiaddr>, CliError> {
    let begin = Instant::now();
    loop {
        if let Some(bytes) = read_file(&node.home.join("run/listen"))? {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(text.lines().filter_map(|line| line.parse().ok()).collect());
        }
        let ended = node.process.try_wait()?.is_some();
        if ended || begin.elapsed() > START_TIMEOUT {
            let log = std::fs::read_to_string(node.home.join("log")).unwrap_or_default();
            return Err(CliError::new(format!("a node did not start: {}", log.trim())));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn start_mesh(root: &Path, operator: &SecretKey) -> Result<Vec<NodeProcess>, CliError> {
    let mut nodes: Vec<NodeProcess> = Vec::new();
    let mut bootstrap: Vec<Multiaddr> = Vec::new();
    for provider in PROVIDERS {
        for account in 1..=ACCOUNTS {
            let labels: Vec<Label> =
                [format!("provider={provider}"), format!("account={provider}-{account}")]
                    .iter()
                    .filter_map(|text| text.parse().ok())
                    .collect();
            let dir = root.join(format!("{provider}-{account}"));
            let home = Home::new(dir.clone());
            let listen = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];
            let args = NodeArgs {
                listen: listen.iter().filter_map(|a| a.parse().ok()).collect(),
                external: Vec::new(),
                quota: Some(ByteSize(64 << 30)),
            };
            let stated = Labels::new(labels.clone()).map_err(|e| CliError::new(e.to_string()))?;
            setup_for(&home, operator, stated, args, bootstrap.clone())?;
            let mut node = NodeProcess { labels, process: start_node(&dir)?, home: dir };
            if bootstrap.is_empty() {
                bootstrap = addresses_of(&mut node).await?;
            }
            nodes.push(node);
        }
    }
    for node in &mut nodes {
        bootstrap.extend(addresses_of(node).await?);
    }
    Ok(nodes)
}

/// Waits until everybody answers and knows everybody.
async fn settle(owner: &Home, vault: &vault::Vault, count: usize) -> Result<(), CliError> {
    let begin = Instant::now();
    loop {
        if let Ok(mesh) = Mesh::connect(owner, Caller::device(vault)).await
            && mesh.nodes.len() == count
        {
            return Ok(());
        }
        if begin.elapsed() > START_TIMEOUT {
            return Err(CliError::new("the nodes did not find each other"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn step(output: &Output, begin: Instant, text: &str) {
    output.line(format!("  {:>8}  {text}", format_duration(begin.elapsed())));
}

/// Runs the demonstration.
pub async fn run(args: DemoArgs, output: &Output) -> Result<Exit, CliError> {
    let source = args.source.clone().unwrap_or_else(|| PathBuf::from("."));
    let source = std::fs::canonicalize(&source).map_err(|e| {
        CliError::new(format!("{}: {e}", source.display())).next("name a repository or folder")
    })?;
    let lose = if args.lose.is_empty() {
        vec!["provider=aws".parse().map_err(|_| CliError::new("label"))?]
    } else {
        args.lose
    };
    for label in &lose {
        let known = label.level.as_str() == "provider" && PROVIDERS.contains(&label.name.as_str())
            || label.level.as_str() == "account"
                && PROVIDERS
                    .iter()
                    .any(|p| (1..=ACCOUNTS).any(|i| label.name == format!("{p}-{i}")));
        if !known {
            return Err(CliError::new(format!("{label} is none of the demo's domains"))
                .next("choose provider=aws|gcp|hetzner or account=aws-1 … hetzner-3"));
        }
    }
    let root = tempfile::Builder::new().prefix("strewn-demo-").tempdir()?;
    let all = Instant::now();
    output.heading("Strewn: nine nodes, three providers, three accounts each, on this machine");

    let begin = Instant::now();
    let owner = Home::new(root.path().join("owner"));
    let operator = create_key(&owner.path("operator.key"), "the key of the operator")?;
    let mut nodes = start_mesh(root.path(), &operator).await?;
    let mut addresses = Vec::new();
    for node in &mut nodes {
        addresses.extend(addresses_of(node).await?);
    }
    let client = ClientConfig { nodes: addresses, ..ClientConfig::default() };
    Config { client, ..Config::default() }.write(&owner)?;
    let (identity, recipient) = recipients::generate();
    let made = vault::create(&owner, "demo", &Policy::survive_one("provider"), &[recipient])?;
    settle(&owner, &made, nodes.len()).await?;
    step(output, begin, "nine processes run and have found each other");

    let begin = Instant::now();
    let mut writer = Writer::open(&owner, made, false).await?;
    let progress = Progress::start(output, "backing up");
    let summary = writer.backup(&source, &BackupOptions::default(), &progress.counters()).await;
    drop(progress);
    let summary = summary?;
    drop(writer);
    step(
        output,
        begin,
        &format!(
            "{} is backed up: {} items, {}; any {} of {} shards give it back",
            source.display(),
            summary.items,
            ByteSize(summary.bytes),
            summary.k,
            summary.n
        ),
    );
    output.item_errors("backup", &summary.failed);

    let state = status::status(&owner, Some(vault::load(&owner, "demo")?)).await?;
    output.heading("\nWhat an attacker would have to seize, together");
    show_exposure(&state, output);

    let begin = Instant::now();
    let names: Vec<String> = lose.iter().map(ToString::to_string).collect();
    output.heading(format!("\nThe loss: {}", names.join(" and ")));
    let before = nodes.len();
    let (gone, left): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|node| node.labels.iter().any(|label| lose.contains(label)));
    let nodes = left;
    for mut node in gone {
        node.process.kill()?;
        node.process.wait()?;
        std::fs::remove_dir_all(&node.home)?;
    }
    step(
        output,
        begin,
        &format!(
            "{} of {before} nodes are killed (SIGKILL), their disks wiped",
            before - nodes.len()
        ),
    );

    let begin = Instant::now();
    let target = root.path().join("restored");
    let restored = restore(&owner, &identity, &target, output).await;
    let restored = match restored {
        Ok(restored) => restored,
        Err(error) => {
            step(output, begin, &format!("the restore failed: {error}"));
            output.bad("\nDESTROYED: what was lost is more than the policy survives (it survives any one provider)");
            finish_json(output, &summary, "destroyed", all);
            return Ok(Exit::Failed);
        }
    };
    step(
        output,
        begin,
        &format!("{restored} items are restored from the {} nodes left", nodes.len()),
    );

    let begin = Instant::now();
    let compared = tokio::task::block_in_place(|| compare::compare(&source, &target))?;
    step(output, begin, &compared.what);
    if !compared.differences.is_empty() {
        for difference in compared.differences.iter().take(20) {
            output.bad(format!("  {difference}"));
        }
        output.bad(format!("\nDIFFERENT in {} places", compared.differences.len()));
        finish_json(output, &summary, "different", all);
        return Ok(Exit::Failed);
    }
    output.good(format!(
        "\nSURVIVED: everything is back, bit for bit. {} in all.",
        format_duration(all.elapsed())
    ));
    finish_json(output, &summary, "survived", all);
    if args.keep {
        keep(root, nodes, &owner, &identity, output)?;
    }
    Ok(Exit::Done)
}

fn finish_json(
    output: &Output,
    summary: &crate::client::backup::BackupSummary,
    verdict: &str,
    all: Instant,
) {
    if output.style().json {
        let seconds = all.elapsed().as_secs_f64();
        output.json(
            "summary",
            &serde_json::json!({ "verdict": verdict, "seconds": seconds, "backup": summary }),
        );
    }
}

async fn restore(
    owner: &Home,
    identity: &str,
    target: &Path,
    output: &Output,
) -> Result<u64, ClientError> {
    let identities = Identities::parse(identity)?;
    let reader = Reader::open(owner, vault::load(owner, "demo")?, Some(&identities)).await?;
    let snapshot = reader.ledger.find_snapshot("latest")?;
    let progress = Progress::start(output, "restoring");
    let summary =
        reader.restore(snapshot, target, &RestoreOptions::default(), &progress.counters()).await;
    drop(progress);
    let summary = summary?;
    match summary.failed.first() {
        None => Ok(summary.items),
        Some((path, why)) => {
            let (lost, all) = (summary.failed.len(), summary.items);
            Err(ClientError::Content(format!("{lost} of {all} items are lost, {path}: {why}")))
        }
    }
}

fn keep(
    root: tempfile::TempDir,
    nodes: Vec<NodeProcess>,
    owner: &Home,
    identity: &str,
    output: &Output,
) -> Result<(), CliError> {
    let path = root.keep();
    write_file(&owner.path("identity"), format!("{identity}\n").as_bytes(), 0o600)?;
    let pids: Vec<String> = nodes.iter().map(|node| node.process.id().to_string()).collect();
    // The processes go on by themselves.
    nodes.into_iter().for_each(std::mem::forget);
    let home = owner.path("");
    let home = home.display().to_string();
    let home = home.trim_end_matches('/');
    output.line(format!(
        "\nThe mesh is still running in {}. Use it:\n  strewn --home {home} status\n  strewn --home {home} backup FOLDER\n  \
         strewn --home {home} restore latest TARGET --identity {home}/identity\nStop it:\n  kill {}; rm -r {}",
        path.display(),
        pids.join(" "),
        path.display(),
    ));
    Ok(())
}
