//! What runs came to, in sentences and tables for people.

use protocol::time::Period;
use simulator::plan::{Moment, Verdict};
use simulator::scenario::{Arrangement, Kind, Scenario};
use simulator::study::{Awaited, Row, through, word};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Write, stdout};

/// Prints a line. Whoever closes the pipe, as `head` does, wants no more: that is no failure, and nothing is left to do.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(stdout(), "{line}") {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("strewn-sim: the output cannot be written: {error}");
        std::process::exit(1);
    }
}

/// A span of time as one says it: the two largest units.
pub(crate) fn span(period: Period) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)];
    let mut rest = period.0;
    let mut parts = Vec::new();
    for (name, unit) in units {
        if rest >= unit && parts.len() < 2 {
            parts.push(format!("{} {name}", rest / unit));
            rest %= unit;
        } else if !parts.is_empty() {
            break;
        }
    }
    if parts.is_empty() { "no time".into() } else { parts.join(" ") }
}

/// Bytes as one says them.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// What one run came to, in a few sentences.
pub(crate) fn verdict(row: &Row, scenario: &Scenario, arrangement: &Arrangement) -> String {
    let text = match row.verdict {
        Verdict::Survived | Verdict::Degraded if row.is_never_backed_up() => {
            "NOTHING WAS WRITTEN: no backup succeeded, and there was nothing to lose.".to_owned()
        }
        Verdict::Survived => {
            "SURVIVED: everything can be read, and all is as it should be again.".to_owned()
        }
        Verdict::Degraded => {
            "SURVIVED, WEAKER: everything can be read; less is left than there should be.".into()
        }
        Verdict::Unreachable => format!(
            "OUT OF REACH: {} of {} stripes can be read at the end; the rest exists, and nobody gets at it.",
            row.readable, row.stripes
        ),
        Verdict::Destroyed => {
            let at = row
                .destroyed_at
                .map_or(String::new(), |at| format!(" on day {}", at.0 / 86_400_000));
            format!("DESTROYED{at}: {} of {} stripes can be read.", row.readable, row.stripes)
        }
        Verdict::Violated => "A PROMISE WAS BROKEN.".into(),
    };
    let mut parts = vec![text];
    if let Some(violation) = &row.violation {
        parts.push(format!(
            "{} after {}: {}",
            violation.promise,
            span(violation.at),
            violation.text
        ));
    }
    let through = through(scenario, arrangement, row);
    if !through.is_empty() && row.verdict != Verdict::Survived {
        parts.push(format!("Through {}.", through.join(", then ")));
    }
    parts.extend(row.awaited.iter().map(awaited));
    if row.unreadable.0 > 0 && row.verdict != Verdict::Destroyed {
        parts.push(format!("Something could not be read for {}.", span(row.unreadable)));
    }
    if let Some(after) = row.repaired_after {
        parts.push(format!("Back to policy after {}.", span(after)));
    }
    if let Some(lost) = row.work_lost {
        parts.push(format!("Work of {} before the loss is in no backup.", span(lost)));
    }
    if let (Some(backups), Some(failed @ 1..)) = (row.backups, row.backups_failed) {
        parts.push(format!("{failed} of {} backups failed.", backups.saturating_add(failed)));
    }
    if row.restores_failed > 0 {
        let (failed, all) = (row.restores_failed, row.restores.saturating_add(row.restores_failed));
        parts.push(format!("{failed} of {all} restores and recoveries did not bring all back."));
    }
    if row.messages > 0 {
        parts.push(format!("{} messages, {}.", row.messages, bytes(row.bytes)));
    }
    parts.join(" ")
}

/// When something struck that waited for a moment, or that it never did.
fn awaited(awaited: &Awaited) -> String {
    let Awaited { what, until, from, came } = awaited;
    match came {
        Some(came) => format!("After {}, {}: {what}.", span(*came), moment(*until)),
        None => format!(
            "The moment {:?} never came, for which {what} waited from {} on.",
            until.name(),
            span(*from)
        ),
    }
}

/// When an attacker struck.
fn moment(moment: Moment) -> &'static str {
    match moment {
        Moment::Recovering => "while a recovery ran",
        Moment::Cooling => "when something began to cool",
        Moment::BackingUp => "while a backup ran",
        Moment::Repairing => "while something was repaired",
        Moment::LockEnded => "when a lock had ended",
    }
}

/// Arrangements side by side, over all their seeds.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "arrangement",
        "verdict",
        "unreadable",
        "policy again",
        "work lost",
        "backups failed",
        "as expected",
    ];
    let mut lines: Vec<[String; 7]> = vec![head.map(String::from)];
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.arrangement.as_str()) {
            names.push(&row.arrangement);
        }
    }
    for name in names {
        let of: Vec<&Row> = rows.iter().filter(|row| row.arrangement == name).collect();
        let longest =
            |get: fn(&Row) -> Option<Period>| match of.iter().filter_map(|row| get(row)).max() {
                Some(period) => span(period),
                None => "-".into(),
            };
        let expected = of.iter().filter(|row| row.unexpected.is_empty()).count();
        lines.push([
            name.to_owned(),
            verdicts(&of),
            longest(|row| {
                (row.verdict != Verdict::Destroyed && row.unreadable.0 > 0)
                    .then_some(row.unreadable)
            }),
            longest(|row| row.repaired_after),
            longest(|row| row.work_lost),
            failed(&of),
            if expected == of.len() { "yes".into() } else { format!("{expected} of {}", of.len()) },
        ]);
    }
    let widths: Vec<usize> = (0..7)
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// How many backups failed, of how many; copies have none.
fn failed(rows: &[&Row]) -> String {
    let sum =
        |get: fn(&Row) -> Option<u64>| -> Option<u64> { rows.iter().map(|row| get(row)).sum() };
    match (sum(|row| row.backups), sum(|row| row.backups_failed)) {
        (Some(backups), Some(failed)) => format!("{failed} of {}", backups.saturating_add(failed)),
        _ => "-".into(),
    }
}

/// The verdicts of several runs, with their numbers where they differ.
pub(crate) fn verdicts(rows: &[&Row]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(word(row.verdict)).or_default() += 1;
    }
    if let [(only, _)] = counts.iter().collect::<Vec<_>>()[..] {
        return (*only).to_owned();
    }
    counts.iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
}

/// What an arrangement is made of, in a line.
pub(crate) fn made_of(arrangement: &Arrangement) -> String {
    match &arrangement.kind {
        Kind::Copies(copies) => format!("{} whole copies", copies.len()),
        Kind::Mesh(mesh) => {
            let clauses: Vec<String> =
                mesh.policy.survive.any.iter().map(|clause| format!("{{{clause}}}")).collect();
            format!("Strewn on {} nodes, survives {}", mesh.nodes.len(), clauses.join(" "))
        }
    }
}
