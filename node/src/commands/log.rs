//! `log verify`.

use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Output};
use crate::client::{heads, vault};
use crate::home::Home;
use crate::size::counted;
use protocol::log::Standing;

/// Verifies the logs of a vault.
pub async fn verify(home: &Home, name: Option<&str>, output: &Output) -> Result<Exit, CliError> {
    let vault = vault::choose(home, name)?;
    let verified = heads::verify(home, &vault).await?;
    for (kind, samples) in verified.findings.samples() {
        for what in samples {
            output.finding(kind, what);
        }
    }
    for (node, device) in &verified.gone {
        let (node, device) = (node.short(), device.short());
        output.warn(format!(
            "node {node} showed the log of device {device} before, and nothing of it any more"
        ));
    }
    for found in &verified.promises {
        output.warn(format!("node {} {}", found.node.short(), found.sentence()));
    }
    let mut rows = Vec::new();
    for log in &verified.logs {
        let count = |is: fn(&Standing) -> bool| {
            log.nodes.iter().filter(|(_, standing)| is(standing)).count().to_string()
        };
        for (node, standing) in &log.nodes {
            if let Standing::SetBack { was } = standing {
                let (node, device) = (node.short(), log.device.short());
                output.warn(format!(
                    "node {node} showed entry {was} of device {device} before, and does not any more: its disk was set back, or it lies"
                ));
            }
        }
        rows.push(vec![
            log.device.short(),
            (log.end.seq + 1).to_string(),
            log.end.entry.short(),
            count(|standing| *standing == Standing::Same),
            count(|standing| matches!(standing, Standing::Behind { .. })),
            count(|standing| *standing == Standing::Forked),
            count(|standing| matches!(standing, Standing::SetBack { .. })),
        ]);
    }
    if output.style().json {
        output.json("summary", &verified);
        return Ok(if verified.good { Exit::Done } else { Exit::Failed });
    }
    let columns = [
        Column::text("device"),
        Column::number("entries"),
        Column::text("the last"),
        Column::number("nodes that show it"),
        Column::number("behind"),
        Column::number("forked"),
        Column::number("set back"),
    ];
    output.table(&columns, rows);
    if verified.silent > 0 {
        output.warn(format!("{} did not answer", counted(verified.silent, "node")));
    }
    if verified.good {
        output.good("all logs hold: signatures, chains, countersignatures, and nothing that was shown or promised before is gone");
        return Ok(Exit::Done);
    }
    let faults: u64 = verified.findings.counts().values().sum();
    let faults = faults as usize + verified.set_back + verified.promises.len();
    output.bad(format!("{} in the logs and promises", counted(faults, "fault")));
    Ok(Exit::Failed)
}
