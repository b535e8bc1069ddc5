//! `peers`, `status`.

use crate::cli::Exit;
use crate::cli::args::VaultArg;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Output, printable};
use crate::client::audit::LastAudit;
use crate::client::mesh::{Caller, Mesh};
use crate::client::status::{self, NodeLine, Status};
use crate::client::vault;
use crate::home::Home;
use crate::service::wall;
use crate::size::{ByteSize, counted};
use protocol::evidence::Evidence;
use protocol::id::OperatorId;
use protocol::message::AuditStatus;
use std::collections::{BTreeMap, BTreeSet};

/// As whom this host looks at nodes: as its own node, or else as the device of a vault.
pub(super) fn caller(home: &Home) -> Result<Caller, CliError> {
    Ok(match home.vaults()?.first() {
        Some(name) if !home.path("node.key").exists() => Caller::device(&vault::load(home, name)?),
        _ => Caller::console(home)?,
    })
}

/// Shows the nodes.
pub async fn peers(home: &Home, output: &Output) -> Result<Exit, CliError> {
    let mesh = Mesh::connect(home, caller(home)?).await?;
    let nodes = status::nodes(&mesh).await;
    if output.style().json {
        for node in &nodes {
            output.json("node", node);
        }
    }
    show_nodes(&nodes, &mesh.partners, output);
    Ok(Exit::Done)
}

/// Whose nodes they are is shown where there is more than one operator.
fn show_nodes(nodes: &[NodeLine], names: &BTreeMap<OperatorId, String>, output: &Output) {
    let operators: BTreeSet<OperatorId> = nodes.iter().map(|node| node.operator).collect();
    let are_several = operators.len() > 1;
    let whose = |operator: OperatorId| match names.get(&operator) {
        Some(name) => printable(name).into_owned(),
        None => operator.key().fingerprint(),
    };
    let rows = nodes.iter().map(|node| {
        let label = |(level, name): (&String, &String)| match node.evidence.get(level) {
            // What its operator signed is what one expects.
            None | Some(Evidence::Signed) => format!("{level}={name}"),
            Some(evidence) => format!("{level}={name} ({evidence})"),
        };
        let labels: Vec<String> = node.labels.iter().map(label).collect();
        let mut row = vec![
            node.node.short(),
            if node.up { "up".into() } else { "SILENT".into() },
            labels.join(" "),
            node.shards.to_string(),
            ByteSize(node.used).to_string(),
            ByteSize(node.room).to_string(),
            node.trouble.clone().unwrap_or_default(),
        ];
        if are_several {
            row.insert(2, whose(node.operator));
        }
        row
    });
    let mut columns = vec![
        Column::text("node"),
        Column::text("state"),
        Column::text("labels"),
        Column::number("shards"),
        Column::number("used"),
        Column::number("room"),
        Column::text(""),
    ];
    if are_several {
        columns.insert(2, Column::text("operator"));
    }
    output.table(&columns, rows);
}

/// Shows it all.
pub async fn status(home: &Home, args: &VaultArg, output: &Output) -> Result<Exit, CliError> {
    let none = args.vault.is_none() && home.vaults()?.is_empty();
    let vault = if none { None } else { Some(vault::choose(home, args.vault.as_deref())?) };
    let status = status::status(home, vault).await?;
    if output.style().json {
        output.json("summary", &status);
    } else {
        show(&status, output);
    }
    Ok(if status.good { Exit::Done } else { Exit::Failed })
}

/// Shows a status to people.
pub(super) fn show(status: &Status, output: &Output) {
    show_nodes(&status.nodes, &status.partners, output);
    if let Some(vault) = &status.vault {
        let health = &vault.health;
        let snapshots = counted(vault.snapshots, "snapshot");
        let snapshots = match vault.forgotten {
            0 => snapshots,
            forgotten => format!("{snapshots} and {forgotten} forgotten"),
        };
        output.line(format!(
            "\nvault {}: {}; {}, {} healthy, {} below policy, {} unreadable",
            vault.name,
            snapshots,
            counted(health.stripes as usize, "stripe"),
            health.healthy,
            health.degraded,
            health.unreadable
        ));
        show_exposure(status, output);
        output.line(last_drill(vault.last_drill));
        output.line(last_audit(vault.last_audit));
        output.line(mutual(&status.nodes));
        if let Some(note) = &vault.given_up {
            output.warn(note);
        }
    }
    if status.good {
        output.good(&status.verdict);
    } else {
        output.bad(&status.verdict);
    }
}

fn ago(when: u64) -> String {
    const DAY: u64 = 24 * 3600 * 1000;
    match wall().0.saturating_sub(when) / DAY {
        0 => "today".into(),
        days => format!("{} ago", counted(days as usize, "day")),
    }
}

fn last_drill(when: Option<u64>) -> String {
    match when {
        None => "last recovery drill: never (strewn recovery drill)".into(),
        Some(when) => format!("last recovery drill: {}", ago(when)),
    }
}

fn last_audit(last: Option<LastAudit>) -> String {
    let Some(LastAudit { when, asked, proved }) = last else {
        return "last audit: never (strewn audit)".into();
    };
    let shards = counted(asked as usize, "shard");
    if asked == proved {
        format!("last audit: {}, {shards}, all proved", ago(when))
    } else {
        format!("last audit: {}, {shards}, {proved} PROVED", ago(when))
    }
}

/// What holders' asking each other has come to.
fn mutual(nodes: &[NodeLine]) -> String {
    let audits: Vec<&AuditStatus> = nodes.iter().filter_map(|node| node.audit.as_ref()).collect();
    let asked: u64 = audits.iter().map(|audit| audit.asked).sum();
    let proved: u64 = audits.iter().map(|audit| audit.proved).sum();
    let whole = audits.iter().map(|audit| audit.finished.map(|wall| wall.0)).min().flatten();
    let whole = whole
        .map_or_else(|| "not everything yet".into(), |when| format!("everything, {}", ago(when)));
    let shards = counted(asked as usize, "shard");
    format!("holders asked each other: {whole}; since they started {shards}, {proved} proved")
}

/// Shows what an attacker would have to seize.
pub(super) fn show_exposure(status: &Status, output: &Output) {
    let Some(vault) = &status.vault else { return };
    let rows = vault.exposure.iter().map(|line| {
        let assemble = line.assemble.map_or_else(|| "never".into(), |n| n.to_string());
        vec![
            line.level.clone(),
            line.destroy.to_string(),
            assemble,
            line.destroy_example.join(", "),
        ]
    });
    let columns = [
        Column::text("level"),
        Column::number("to destroy"),
        Column::number("to assemble the ciphertext"),
        Column::text("for example"),
    ];
    let short = rows.map(|mut row: Vec<String>| {
        if row[0] == "node" || row[0] == "operator" {
            row[3] = String::new();
        }
        row
    });
    output.table(&columns, short);
}
