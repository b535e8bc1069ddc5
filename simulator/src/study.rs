//! A study: a scenario's arrangements, each with many seeds, spread over cores and machines. Every run becomes one [`Row`];
//! what a part of the runs gave can be merged with the other parts, and is then the same as one big run, byte for byte.

mod parts;
mod through;

pub use parts::{MergeError, Runs, merge};
pub use through::{Happened, course, through};

use crate::arrangement;
use crate::plan::{Moment, Outcome, Sample, Verdict, Violation, Waited, What};
use crate::scenario::{self, Arrangement, Scenario};
use crate::table::{Cell, Kind, Table};
use protocol::time::Period;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most runs of one study.
pub const RUNS_MAX: usize = 10_000_000;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Which run of the study this is.
    pub index: usize,
    /// The scenario.
    pub scenario: String,
    /// The arrangement.
    pub arrangement: String,
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// What was not as expected; empty where all was.
    pub unexpected: String,
    /// Stripes that count at the end.
    pub stripes: u64,
    /// Those that can be read.
    pub readable: u64,
    /// When the first was gone for good.
    pub destroyed_at: Option<Period>,
    /// For how long something that was not gone could not be read, or everything was gone; as sampled.
    pub unreadable: Period,
    /// How long until the policy held again, from the first time that it did not; `None` where it always did, or never again.
    pub repaired_after: Option<Period>,
    /// Work since the newest backup left: from the last one that succeeded to the first loss. `None` where nothing was lost, or
    /// everything.
    pub work_lost: Option<Period>,
    /// The domains, nodes or copies lost, in order, each once.
    pub lost: Vec<String>,
    /// Backups of a mesh that put away all that they should; copies have none.
    pub backups: Option<u64>,
    /// Those that did not.
    pub backups_failed: Option<u64>,
    /// Restores and recoveries that gave all back.
    pub restores: u64,
    /// Those that did not.
    pub restores_failed: u64,
    /// Messages between nodes.
    pub messages: u64,
    /// Bytes that they carried.
    pub bytes: u64,
    /// What waited for a moment, in the order in which it began to. Copies are struck at once.
    #[serde(default)]
    pub awaited: Vec<Awaited>,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// The hash of all that happened.
    pub digest: String,
}

/// An event of a scenario that waited for a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// What it is called in a sentence.
    pub what: String,
    /// For what.
    pub until: Moment,
    /// Since when.
    pub from: Period,
    /// When it struck; `None` where the moment never came.
    pub came: Option<Period>,
}

impl Row {
    /// Whether it is the run of a mesh into which nothing was ever put as it should be: its verdict says nothing.
    #[must_use]
    pub fn is_never_backed_up(&self) -> bool {
        self.backups == Some(0)
    }
}

/// A run with its course.
#[derive(Debug, Clone)]
pub struct Played {
    /// What came of it.
    pub row: Row,
    /// How it went.
    pub timeline: Vec<Sample>,
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Study<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The hash of its text.
    pub text: String,
    /// The arrangements.
    pub arrangements: Vec<&'a Arrangement>,
    /// First and last seed.
    pub seeds: (u64, u64),
    /// Which part of how many, from 1.
    pub shard: (usize, usize),
}

impl Study<'_> {
    /// Runs of the whole study.
    #[must_use]
    pub fn total(&self) -> usize {
        let seeds = (self.seeds.1 - self.seeds.0).saturating_add(1);
        usize::try_from(seeds).unwrap_or(usize::MAX).saturating_mul(self.arrangements.len())
    }

    /// The runs of this part.
    fn indices(&self) -> Vec<usize> {
        let (part, parts) = self.shard;
        (0..self.total()).filter(|index| index % parts.max(1) + 1 == part).collect()
    }

    /// How many runs this part has.
    #[must_use]
    pub fn part(&self) -> usize {
        self.indices().len()
    }

    /// Runs this part over so many threads; `done` hears of every run that is over.
    #[must_use]
    pub fn run(&self, threads: usize, done: &(dyn Fn(&Row) + Sync)) -> Runs {
        let indices = self.indices();
        let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(&index) = indices.get(next.fetch_add(1, Ordering::Relaxed)) {
                let arrangement = self.arrangements[index % self.arrangements.len()];
                let seed = self.seeds.0 + (index / self.arrangements.len()) as u64;
                let mut row = play(self.scenario, arrangement, seed).row;
                row.index = index;
                done(&row);
                rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(row);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(work);
            }
        });
        let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        rows.sort_by_key(|row| row.index);
        let arrangements = self.arrangements.iter().map(|a| a.name.clone()).collect();
        Runs {
            scenario: self.scenario.name.clone(),
            text: self.text.clone(),
            arrangements,
            seeds: self.seeds,
            shard: self.shard,
            total: self.total(),
            rows,
        }
    }
}

/// Plays one arrangement with one seed.
#[must_use]
pub fn play(scenario: &Scenario, arrangement: &Arrangement, seed: u64) -> Played {
    let (outcome, work_lost) = match &arrangement.kind {
        scenario::Kind::Copies(copies) => {
            let played = arrangement::play(scenario, copies, seed);
            (played.outcome, played.work_lost)
        }
        scenario::Kind::Mesh(mesh) => {
            let outcome = crate::run(&scenario.plan(mesh, seed), seed);
            let work_lost = mesh_work_lost(&outcome);
            (outcome, work_lost)
        }
    };
    let timeline = outcome.measures.timeline.clone();
    let awaited = awaited(scenario, seed, &outcome.measures.waited);
    let row = Row { awaited, ..row(scenario, arrangement, outcome, work_lost) };
    Played { row, timeline }
}

/// By event, what a plan has by step: an event may have several steps, which strike together.
fn awaited(scenario: &Scenario, seed: u64, waited: &[Waited]) -> Vec<Awaited> {
    let mut waited = waited.iter();
    let of = |event: scenario::Event| {
        let steps = event.steps();
        let waits = steps.iter().filter(|step| matches!(step.what, What::Lurk { .. })).count();
        let mut own = waited.by_ref().take(waits);
        let first = own.next().copied();
        own.for_each(drop);
        let Waited { until, from, came, .. } = first?;
        Some(Awaited { what: through::name(&event.hit), until, from, came })
    };
    scenario.drawn(seed).into_iter().filter_map(of).collect()
}

/// What a mesh keeps is as old as the last backup before the first loss that succeeded.
fn mesh_work_lost(outcome: &Outcome) -> Option<Period> {
    let first = outcome.measures.lost.iter().map(|(at, _)| *at).min()?;
    let last = outcome.measures.backups.iter().rfind(|at| **at <= first)?;
    let kept = outcome.verdict != Verdict::Destroyed;
    kept.then_some(Period(first.0 - last.0))
}

fn row(
    scenario: &Scenario,
    arrangement: &Arrangement,
    outcome: Outcome,
    work_lost: Option<Period>,
) -> Row {
    let Outcome { seed, verdict, violation, measures, digest } = outcome;
    let last = measures.timeline.last().cloned().unwrap_or_default();
    let of_mesh = |count: u64| matches!(arrangement.kind, scenario::Kind::Mesh(_)).then_some(count);
    let mut row = Row {
        index: 0,
        scenario: scenario.name.clone(),
        arrangement: arrangement.name.clone(),
        seed,
        verdict,
        unexpected: String::new(),
        stripes: last.stripes,
        readable: last.readable,
        destroyed_at: measures.destroyed_at,
        unreadable: spans(&measures.timeline, |s| s.readable < s.stripes).0,
        repaired_after: repaired_after(&measures.timeline),
        work_lost,
        lost: measures.lost.into_iter().map(|(_, name)| plain(&name)).collect(),
        backups: of_mesh(measures.backups.len() as u64),
        backups_failed: of_mesh(measures.backups_failed),
        restores: measures.restores.0,
        restores_failed: measures.restores.1,
        messages: measures.messages,
        bytes: measures.bytes,
        awaited: Vec::new(),
        violation,
        digest,
    };
    row.unexpected = unexpected(&row, arrangement);
    row
}

/// What was lost, as a scenario's file calls it: the engine shows the step's form.
fn plain(name: &str) -> String {
    name.replace("Label(\"", "").replace("\")", "").replace("Node(", "node=").replace(')', "")
}

/// For how long something held, in all, and whether it does at the end.
fn spans(timeline: &[Sample], holds: impl Fn(&Sample) -> bool) -> (Period, bool) {
    let mut sum = 0;
    for pair in timeline.windows(2) {
        if holds(&pair[0]) {
            sum += pair[1].at.0.saturating_sub(pair[0].at.0);
        }
    }
    (Period(sum), timeline.last().is_some_and(holds))
}

fn repaired_after(timeline: &[Sample]) -> Option<Period> {
    let broken = |sample: &Sample| sample.below_policy + sample.destroyed > 0;
    let first = timeline.iter().find(|s| broken(s))?.at;
    let last = timeline.iter().rposition(broken)?;
    timeline.get(last + 1).map(|sample| Period(sample.at.0 - first.0))
}

fn unexpected(row: &Row, arrangement: &Arrangement) -> String {
    let expect = &arrangement.expect;
    if let Some(violation) = &row.violation {
        return format!("promise {} was violated: {}", violation.promise, violation.text);
    }
    let mut why = Vec::new();
    if row.is_never_backed_up() {
        why.push("no backup succeeded, and there was nothing to lose".to_owned());
    }
    if !expect.verdicts.contains(&row.verdict) {
        let words: Vec<&str> = expect.verdicts.iter().map(|v| word(*v)).collect();
        why.push(format!("{}, where {} was expected", word(row.verdict), words.join(" or ")));
    }
    if let Some(max) = expect.unreadable_max.filter(|max| row.unreadable > *max) {
        why.push(format!("unreadable for {}, at most {max} expected", row.unreadable));
    }
    if let Some(min) = expect.unreadable_min.filter(|min| row.unreadable < *min) {
        why.push(format!("unreadable for {}, at least {min} expected", row.unreadable));
    }
    why.join("; ")
}

/// A verdict in a word, as files expect it.
#[must_use]
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Survived => "survived",
        Verdict::Degraded => "degraded",
        Verdict::Unreachable => "unreachable",
        Verdict::Destroyed => "destroyed",
        Verdict::Violated => "violated",
    }
}

/// The columns of [`table`]. Times are in milliseconds.
pub const COLUMNS: [(&str, Kind); 22] = [
    ("scenario", Kind::Text),
    ("arrangement", Kind::Text),
    ("seed", Kind::Count),
    ("verdict", Kind::Text),
    ("as_expected", Kind::Flag),
    ("stripes", Kind::Count),
    ("readable", Kind::Count),
    ("destroyed_at_ms", Kind::Count),
    ("unreadable_ms", Kind::Count),
    ("repaired_after_ms", Kind::Count),
    ("work_lost_ms", Kind::Count),
    ("lost", Kind::Text),
    ("backups", Kind::Count),
    ("backups_failed", Kind::Count),
    ("restores", Kind::Count),
    ("restores_failed", Kind::Count),
    ("messages", Kind::Count),
    ("bytes", Kind::Count),
    ("awaited", Kind::Text),
    ("violation", Kind::Text),
    ("unexpected", Kind::Text),
    ("digest", Kind::Text),
];

/// The rows as a table: nothing where there is no such time or text.
#[must_use]
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&COLUMNS);
    let text = |text: &str| -> Cell { Some(text).filter(|text| !text.is_empty()).into() };
    let period = |period: Option<Period>| -> Cell { period.map(|period| period.0).into() };
    for row in rows {
        let violation = row.violation.as_ref().map_or("", |violation| violation.promise.as_str());
        table.push(vec![
            text(&row.scenario),
            text(&row.arrangement),
            row.seed.into(),
            word(row.verdict).into(),
            row.unexpected.is_empty().into(),
            row.stripes.into(),
            row.readable.into(),
            period(row.destroyed_at),
            row.unreadable.0.into(),
            period(row.repaired_after),
            period(row.work_lost),
            text(&row.lost.join("; ")),
            row.backups.into(),
            row.backups_failed.into(),
            row.restores.into(),
            row.restores_failed.into(),
            row.messages.into(),
            row.bytes.into(),
            text(&row.awaited.iter().map(awaited_text).collect::<Vec<_>>().join("; ")),
            text(violation),
            text(&row.unexpected),
            text(&row.digest),
        ]);
    }
    table
}

/// What waited, and when it struck, for a cell.
fn awaited_text(awaited: &Awaited) -> String {
    let came = awaited.came.map_or("never".into(), |came| came.0.to_string());
    format!("{} {} {came}", awaited.what, awaited.until.name())
}

/// A row as one JSON object: what the table has of it, in the same words, with `lost` and `awaited` as lists and all that is known of
/// a violation.
#[must_use]
pub fn json(row: &Row) -> serde_json::Value {
    let mut object = table(std::slice::from_ref(row)).objects().swap_remove(0);
    object["lost"] = row.lost.clone().into();
    let awaited = |of: &Awaited| {
        serde_json::json!({
            "what": of.what, "until": of.until.name(), "from_ms": of.from.0,
            "came_ms": of.came.map(|came| came.0),
        })
    };
    object["awaited"] = row.awaited.iter().map(awaited).collect();
    if let Some(Violation { promise, text, at, events }) = &row.violation {
        object["violation"] = serde_json::json!({
            "promise": promise, "text": text, "at_ms": at.0, "events": events,
        });
    }
    object
}
