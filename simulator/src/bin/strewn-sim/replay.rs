//! `replay` and `fuzz`, and the plans between them: a file with a plan and a seed is a run.

use crate::failure::{End, Failure};
use crate::human;
use crate::mesh::{MeshArgs, bytes_of};
use crate::outputs::Target;
use crate::show::{Found, find};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use simulator::Replay;
use simulator::plan::Verdict;
use simulator::scenario::Kind;
use simulator::study::word;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest plan that is read, in bytes: a million steps.
const PLAN_LEN_MAX: u64 = 1 << 30;

/// Most runs that shrinking a plan takes.
const SHRINK_TRIES_MAX: u32 = 400;
/// Longest time that `fuzz` runs, in minutes: a year.
const MINUTES_MAX: f64 = 525_600.0;

/// Prints the plan of an arrangement.
pub(crate) fn write_plan(
    name: &str,
    with: &MeshArgs,
    arrangement: &str,
    seed: u64,
) -> Result<End, Failure> {
    let Found { scenario, .. } = find(name, with)?;
    let found = scenario.arrangement(arrangement);
    let Some(Kind::Mesh(mesh)) = found.map(|arrangement| &arrangement.kind) else {
        let what = format!("{arrangement:?} is no Strewn arrangement of {}", scenario.name);
        return Err(Failure::usage(what, format!("see `strewn-sim show {name}`")));
    };
    let about = format!("{arrangement} of {}", scenario.name);
    let replay = Replay { about, seed, plan: scenario.plan(mesh, seed) };
    let json = serde_json::to_string_pretty(&replay).map_err(|error| {
        Failure::failed(format!("the plan cannot be written: {error}"), "report this")
    })?;
    say!("{json}");
    Ok(End::Expected)
}

/// Runs a plan again.
pub(crate) fn replay(file: &Path, json: bool) -> Result<End, Failure> {
    let bytes = bytes_of(file, PLAN_LEN_MAX, "plan")?;
    let Replay { seed, plan, .. } = serde_json::from_slice(&bytes).map_err(|error| {
        let what = format!("{} is no plan: {error}", file.display());
        Failure::usage(what, "give a file that a violation or `strewn-sim show --plan` wrote")
    })?;
    let outcome = simulator::run(&plan, seed);
    if json {
        say!("{}", serde_json::json!(outcome));
    } else {
        say!("{}: {}, seed {seed}, trace {}", plan.name, word(outcome.verdict), outcome.digest);
        if let Some(violation) = &outcome.violation {
            let at = human::span(violation.at);
            say!("promise {} was broken after {at}: {}", violation.promise, violation.text);
            violation.events.iter().for_each(|event| say!("  {event}"));
        }
    }
    let violated = outcome.violation.is_some() || outcome.verdict == Verdict::Violated;
    Ok(if violated { End::Violated } else { End::Expected })
}

/// A bar that is full then; on a terminal only.
fn progress(until: Instant) -> ProgressBar {
    let bar = ProgressBar::new(until.saturating_duration_since(Instant::now()).as_secs());
    let style = ProgressStyle::with_template("{bar:30} {elapsed} of {len} s  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

/// Runs drawn plans until one breaks a promise or the time is over.
pub(crate) fn fuzz(minutes: f64, first: Option<u64>, out: &Path) -> Result<End, Failure> {
    if !(minutes > 0.0 && minutes <= MINUTES_MAX) {
        return Err(Failure::usage(
            format!("{minutes} minutes cannot be"),
            "give --minutes 5, or 0.5",
        ));
    }
    // Fresh seeds: a search that begins at the same one every day finds what it found yesterday.
    let fresh =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |age| age.as_secs() << 16);
    let first = first.unwrap_or_else(fresh);
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let bar = progress(until);
    let (ran, found) = simulator::fuzz(
        Some(until),
        (first..=u64::MAX).inspect(|seed| {
            let left = until.saturating_duration_since(Instant::now());
            bar.set_position(bar.length().unwrap_or(0).saturating_sub(left.as_secs()));
            bar.set_message(format!("{} plans, at seed {seed}", seed - first));
        }),
    );
    bar.finish_and_clear();
    let Some(found) = found else {
        say!("{ran} drawn plans, seeds from {first} on: no promise was broken");
        return Ok(End::Expected);
    };
    say!(
        "seed {}: promise {} was broken: {}",
        found.seed,
        found.violation.promise,
        found.violation.text
    );
    let (plan, tries) = simulator::shrink(&found.plan, found.seed, SHRINK_TRIES_MAX);
    say!("{} of {} steps suffice ({tries} runs)", plan.steps.len(), found.plan.steps.len());
    let about = format!("{}: {}", found.violation.promise, found.violation.text);
    let replay = Replay { about, seed: found.seed, plan };
    let json = serde_json::to_vec_pretty(&replay).map_err(|error| {
        Failure::failed(format!("the plan cannot be written: {error}"), "report this")
    })?;
    Target::open(out)?.write(&json)?;
    say!("run it again: strewn-sim replay {}", out.display());
    Ok(End::Violated)
}
