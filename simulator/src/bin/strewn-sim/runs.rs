//! `run`, `compare` and `merge`: studies, and what is written of them.

use crate::beside;
use crate::failure::{End, Failure};
use crate::mesh;
use crate::outputs::{Tables, Target};
use crate::show::{Found, find};
use crate::{CompareArgs, OutputArgs, RunArgs, SeedArgs, human};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use simulator::from_mesh::NAME;
use simulator::scenario::{Arrangement, Scenario};
use simulator::study::{self, RUNS_MAX, Row, Runs, Study};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Longest part that `merge` reads, in bytes: ten million runs of a few hundred bytes.
const PART_LEN_MAX: u64 = 8 << 30;

/// Plays a scenario with one seed or many.
pub(crate) fn run(args: &RunArgs) -> Result<End, Failure> {
    let Found { scenario, text, notes } = find(&args.scenario, &args.mesh)?;
    let seeds = seeds(&args.seeds)?;
    let shard = args.shard.as_deref().map_or(Ok((1, 1)), shard)?;
    let study = Study {
        scenario: &scenario,
        text: hash(&text),
        arrangements: chosen(&scenario, &args.arrangement)?,
        seeds,
        shard,
    };
    check_total(&study)?;
    let outputs = Outputs::open(&args.output)?;
    let runs = with_progress(&study, args.seeds.jobs);
    if !args.output.json {
        mesh::say(&notes);
        if let (0, (part, parts)) = (runs.rows.len(), shard) {
            say!("part {part} of {parts} has no runs: the study has {}", study.total());
        }
    }
    let end = answer(&args.scenario, &scenario, &study.arrangements, &runs.rows, args.output.json);
    outputs.write(&runs)?;
    Ok(end)
}

/// Plays a scenario with one seed or many, and shows all arrangements side by side.
pub(crate) fn compare(args: &CompareArgs) -> Result<End, Failure> {
    let Found { scenario, text, notes } = find(&args.scenario, &args.mesh)?;
    let arrangements: Vec<&Arrangement> = scenario.arrangements.iter().collect();
    let (text, seeds, shard) = (hash(&text), seeds(&args.seeds)?, (1, 1));
    let study = Study { scenario: &scenario, text, arrangements, seeds, shard };
    check_total(&study)?;
    let outputs = Outputs::open(&args.output)?;
    let runs = with_progress(&study, args.seeds.jobs);
    let is_json = args.output.json;
    if !is_json {
        say!("{}\n", scenario.title);
        mesh::say(&notes);
        if seeds.0 == seeds.1 {
            say!("{}", beside::table(&runs.rows));
        }
    }
    let end = answer(&args.scenario, &scenario, &study.arrangements, &runs.rows, is_json);
    outputs.write(&runs)?;
    Ok(end)
}

fn seeds(args: &SeedArgs) -> Result<(u64, u64), Failure> {
    match (&args.seeds, args.seed) {
        (Some(seeds), _) => range(seeds),
        (None, Some(seed)) => Ok((seed, seed)),
        (None, None) => Ok((1, 1)),
    }
}

fn check_total(study: &Study<'_>) -> Result<(), Failure> {
    if study.total() <= RUNS_MAX {
        return Ok(());
    }
    let what = format!("{} runs are more than {RUNS_MAX}", study.total());
    Err(Failure::usage(what, "run fewer seeds at once"))
}

/// Puts parts together.
pub(crate) fn merge(parts: &[PathBuf], output: &OutputArgs) -> Result<End, Failure> {
    let read = |path: &PathBuf| -> Result<(String, Runs), Failure> {
        let name = path.display().to_string();
        let bytes = mesh::bytes_of(path, PART_LEN_MAX, "part of a study")?;
        let runs = serde_json::from_slice(&bytes).map_err(|error| {
            let what = format!("{name} is no part of a study: {error}");
            Failure::usage(what, "give files that `strewn-sim run --shard --out` wrote")
        })?;
        Ok((name, runs))
    };
    let parts = parts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let runs = study::merge(parts).map_err(|error| {
        Failure::usage(error.to_string(), "give every part of one study, each once")
    })?;
    let outputs = Outputs::open(output)?;
    if output.json {
        print_rows(&runs.rows);
    } else {
        say!("{} runs of {}\n", runs.rows.len(), runs.scenario);
        say!("{}", beside::table(&runs.rows));
    }
    outputs.write(&runs)?;
    Ok(end(&runs.rows))
}

fn with_progress(study: &Study<'_>, jobs: Option<usize>) -> Runs {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bar = ProgressBar::new(study.part() as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    if !std::io::stderr().is_terminal() || study.part() < 2 {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let runs = study.run(jobs.unwrap_or(cores), &|row: &Row| {
        bar.inc(1);
        if !row.unexpected.is_empty() {
            bar.set_message(format!(
                "{} seed {}: {}",
                row.arrangement,
                row.seed,
                study::word(row.verdict)
            ));
        }
    });
    bar.finish_and_clear();
    runs
}

/// Prints what came of it, and says how the program ends. The scenario is called as whoever runs it called it.
fn answer(
    called: &str,
    scenario: &Scenario,
    arrangements: &[&Arrangement],
    rows: &[Row],
    json: bool,
) -> End {
    if json {
        print_rows(rows);
    } else if rows.len() <= arrangements.len() {
        for row in rows {
            let Some(of) = arrangements.iter().find(|a| a.name == row.arrangement) else {
                continue;
            };
            say!("{}: {}\n  {}", of.name, of.title, human::verdict(row, scenario, of));
            if !row.unexpected.is_empty() {
                say!("  NOT AS EXPECTED: {}", row.unexpected);
            }
        }
    } else {
        say!("{}", beside::table(rows));
    }
    if !json {
        let wrong = rows.iter().filter(|row| !row.unexpected.is_empty());
        for row in wrong.take(10).filter(|_| rows.len() > arrangements.len()) {
            say!("not as expected: {}, seed {}: {}", row.arrangement, row.seed, row.unexpected);
        }
        if let Some(row) = rows.iter().find(|row| row.violation.is_some()) {
            let mesh = if row.arrangement == NAME { " --from-mesh FILE" } else { "" };
            say!(
                "\nrun it again: strewn-sim show {called} --plan {} --seed {}{mesh} > plan.json && strewn-sim replay plan.json",
                row.arrangement,
                row.seed
            );
        }
    }
    end(rows)
}

fn print_rows(rows: &[Row]) {
    for row in rows {
        say!("{}", study::json(row));
    }
}

fn end(rows: &[Row]) -> End {
    let of = |row: &Row| match (&row.violation, row.unexpected.is_empty()) {
        (Some(_), _) => End::Violated,
        (None, false) => End::Unexpected,
        (None, true) => End::Expected,
    };
    rows.iter().map(of).max().unwrap_or(End::Expected)
}

/// Where runs are written.
struct Outputs {
    tables: Tables,
    out: Option<Target>,
}

impl Outputs {
    fn open(args: &OutputArgs) -> Result<Self, Failure> {
        let paths = [&args.csv, &args.parquet, &args.out].map(|path| path.as_deref());
        let [csv, parquet, out] = Target::open_all(paths)?;
        Ok(Self { tables: Tables { csv, parquet }, out })
    }

    fn write(self, runs: &Runs) -> Result<(), Failure> {
        self.tables.write(&study::table(&runs.rows))?;
        if let Some(target) = self.out {
            let json = serde_json::to_vec_pretty(runs).map_err(|error| {
                Failure::failed(format!("runs cannot be written: {error}"), "report this")
            })?;
            target.write(&json)?;
        }
        Ok(())
    }
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn chosen<'a>(scenario: &'a Scenario, names: &[String]) -> Result<Vec<&'a Arrangement>, Failure> {
    if names.is_empty() {
        return Ok(scenario.arrangements.iter().collect());
    }
    let find = |name: &String| {
        scenario.arrangement(name).ok_or_else(|| {
            let all: Vec<&str> = scenario.arrangements.iter().map(|a| a.name.as_str()).collect();
            let what = format!("{} has no arrangement {name:?}", scenario.name);
            Failure::usage(what, format!("choose among {}", all.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn range(text: &str) -> Result<(u64, u64), Failure> {
    let parsed = text.split_once("..").and_then(|(first, last)| {
        let last = last.trim_start_matches('=');
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
    });
    parsed.filter(|(first, last)| first <= last && last - first < u64::MAX).ok_or_else(|| {
        let next = "write first and last seed, both included: --seeds 1..1000";
        Failure::usage(format!("{text:?} are no seeds"), next)
    })
}

fn shard(text: &str) -> Result<(usize, usize), Failure> {
    let parsed = text
        .split_once('/')
        .and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    parsed.filter(|(part, parts)| (1..=*parts).contains(part)).ok_or_else(|| {
        let next = "write part and parts, from 1: --shard 3/16";
        Failure::usage(format!("{text:?} is no part"), next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_parts_read_as_people_write_them() {
        assert_eq!(range("1..1000").unwrap(), (1, 1000));
        assert_eq!(range("7..=7").unwrap(), (7, 7));
        assert_eq!(shard("3/16").unwrap(), (3, 16));
        for wrong in ["", "1", "2..1", "a..b", "0..18446744073709551615"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0/3", "4/3", "1", "a/b"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }
}
