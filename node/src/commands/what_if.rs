//! `what-if`.

use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::ops::WhatIfArgs;
use crate::cli::output::{Column, Output};
use crate::cli::progress::Progress;
use crate::client::recipients::Identities;
use crate::client::vault;
use crate::client::what_if::{self, Outcome};
use crate::home::Home;
use crate::size::counted;

/// Says what survives.
pub async fn what_if(home: &Home, args: WhatIfArgs, output: &Output) -> Result<Exit, CliError> {
    let vault = vault::choose(home, args.vault.vault.as_deref())?;
    let identities = Identities::find_any(args.identity.as_deref())?;
    let progress = Progress::start(output, "following snapshots");
    let counters = progress.counters();
    let answer = what_if::what_if(home, vault, identities.as_ref(), &args.lose, &counters).await;
    drop(progress);
    let answer = answer?;
    for note in &answer.notes {
        output.warn(note);
    }
    if output.style().json {
        output.json("summary", &answer);
        return Ok(if answer.good { Exit::Done } else { Exit::Failed });
    }
    output.line(format!(
        "without {}: {} lost, {} left; {} of {} can be read{}",
        answer.lost.join(" and "),
        counted(answer.nodes_lost, "node"),
        counted(answer.nodes_left, "node"),
        answer.stripes_left,
        counted(answer.stripes as usize, "stripe"),
        match answer.stripes_lost_already {
            0 => String::new(),
            already => format!(" ({already} cannot be read now)"),
        },
    ));
    let rows = answer.snapshots.iter().map(|fate| {
        let outcome = match fate.outcome {
            Outcome::Survives => "survives",
            Outcome::Lost => "LOST",
            Outcome::Unknown => "unknown",
        };
        let worst = fate.worst.as_ref().map(|worst| {
            format!("{}: {} of {} shards", worst.stripe.short(), worst.left, worst.needed)
        });
        vec![
            fate.id.short(),
            outcome.into(),
            fate.source.clone(),
            fate.stripes_lost.to_string(),
            worst.unwrap_or_default(),
            fate.why.clone(),
        ]
    });
    let columns = [
        Column::text("snapshot"),
        Column::text(""),
        Column::text("source"),
        Column::number("stripes lost"),
        Column::text("worst stripe"),
        Column::text("why"),
    ];
    if !answer.snapshots.is_empty() {
        output.table(&columns, rows);
    }
    if answer.good {
        output.good(&answer.verdict);
        return Ok(Exit::Done);
    }
    output.bad(&answer.verdict);
    if answer.nodes_left > 0 && !answer.snapshots.is_empty() {
        output.line(
            "  → to survive this too, name it in a policy's [survive], and add nodes elsewhere",
        );
    }
    Ok(Exit::Failed)
}
