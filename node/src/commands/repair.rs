//! `repair status`: what the nodes say of what they make good.

use super::look::caller;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Output};
use crate::client::mesh::Mesh;
use crate::client::repair::Repairs;
use crate::client::status;
use crate::home::Home;
use crate::size::{ByteSize, counted, format_duration};
use std::time::Duration;

/// Shows how far repair is.
pub async fn status(home: &Home, output: &Output) -> Result<Exit, CliError> {
    let mesh = Mesh::connect(home, caller(home)?).await?;
    let repairs = Repairs::of(&status::nodes(&mesh).await);
    if output.style().json {
        output.json("summary", &repairs);
    } else {
        show(&repairs, output);
    }
    Ok(if repairs.good { Exit::Done } else { Exit::Failed })
}

fn show(repairs: &Repairs, output: &Output) {
    let rows = repairs.nodes.iter().map(|line| {
        vec![
            line.node.short(),
            if line.up { "up".into() } else { "SILENT".into() },
            line.short.to_string(),
            line.running.to_string(),
            line.repaired.to_string(),
            ByteSize(line.moved).to_string(),
            line.failed.to_string(),
        ]
    });
    let columns = [
        Column::text("node"),
        Column::text("state"),
        Column::number("stripes short"),
        Column::number("being rebuilt"),
        Column::number("repaired"),
        Column::number("moved"),
        Column::number("attempts failed"),
    ];
    output.table(&columns, rows);
    for node in &repairs.lost {
        output.warn(format!("node {} is LOST: what it held is rebuilt elsewhere", node.short()));
    }
    for failing in &repairs.failing {
        let stripes = counted(failing.stripes as usize, "stripe");
        output.warn(format!(
            "node {} is NOT TRUSTED with its shards of {stripes}: it did not prove that it has them",
            failing.node.short()
        ));
    }
    for stuck in &repairs.stuck {
        let stripes = counted(stuck.stripes as usize, "stripe");
        output.bad(format!("{stripes} cannot be repaired now: {}", stuck.why));
    }
    if let Some(margin) = repairs.worst.filter(|margin| *margin < 0) {
        output.bad(format!(
            "the worst stripe is {} short of its policy",
            counted(margin.unsigned_abs() as usize, "shard")
        ));
    }
    let short = counted(repairs.short as usize, "stripe");
    match repairs.left {
        _ if repairs.short == 0 && repairs.good => output.good("nothing is short"),
        _ if repairs.short == 0 => output.line("nothing waits to be rebuilt"),
        Some(seconds) => output.line(format!(
            "{short} short; done in about {} at the rate so far",
            format_duration(Duration::from_secs(seconds))
        )),
        None => output.line(format!(
            "{short} short; nothing was repaired since, so nobody knows how long it takes"
        )),
    }
}
