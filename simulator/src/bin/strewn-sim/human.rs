//! What runs came to, in sentences and tables for people.

use protocol::time::Period;
use simulator::plan::{Moment, Verdict};
use simulator::scenario::{Arrangement, Kind, Scenario};
use simulator::study::{Awaited, Row, through};
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
pub(crate) fn awaited(awaited: &Awaited) -> String {
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
pub(crate) fn moment(moment: Moment) -> &'static str {
    match moment {
        Moment::Recovering => "while a recovery ran",
        Moment::Cooling => "when something began to cool",
        Moment::BackingUp => "while a backup ran",
        Moment::Repairing => "while something was repaired",
        Moment::LockEnded => "when a lock had ended",
    }
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
