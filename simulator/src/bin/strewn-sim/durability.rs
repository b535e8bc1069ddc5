//! `strewn-sim durability`, `sweep`, `validate` and `plan`: arguments and output. What they compute is the library's.

use crate::failure::{End, Failure};
use crate::outputs::{Tables, Target};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use simulator::durability::analysis::{self, Figures};
use simulator::durability::estimate::{Effort, Method};
use simulator::durability::input::{Input, read_text};
use simulator::durability::mesh::MeshFigures;
use simulator::durability::planner;
use simulator::durability::published;
use simulator::durability::sweep::{Vary, combinations};
use simulator::table;
use std::path::{Path, PathBuf};

/// The commands about how many nines there are.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How probable loss is: exact where it can be, sampled with an interval where not.
    ///
    /// FILE is a model (TOML): nodes with their labels, a code, what goes wrong and how it is repaired. The fields are
    /// described in simulator/DURABILITY.md; simulator/models has examples.
    Durability(DurabilityArgs),
    /// The same over ranges of its numbers: one row for every combination.
    Sweep(SweepArgs),
    /// Published figures of durability beside ours, with the difference. Ends with 1 when one is not explained.
    Validate(Output),
    /// From what there is and what is wanted to codes that do it, cheapest first.
    Plan(PlanArgs),
}

/// How results are written.
#[derive(Debug, Clone, Args)]
pub(crate) struct Output {
    /// Write JSON to standard output
    #[arg(long)]
    json: bool,
    /// Write CSV to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write Parquet to this file: the same table, with typed columns
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
}

/// How hard to try.
#[derive(Debug, Args)]
pub(crate) struct Trying {
    /// The method; without it the one that suits the model
    #[arg(long, value_enum)]
    method: Option<MethodName>,
    /// Half the 95 % interval over the estimate, at which sampling ends
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    relative_error: f64,
    /// Failures and repairs to play at most
    #[arg(long, default_value_t = 500_000_000, value_name = "COUNT")]
    events: u64,
    /// Seed of all chance: the same one gives the same result, whatever --jobs is
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; all cores when left out
    #[arg(long, value_parser = crate::threads)]
    jobs: Option<usize>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MethodName {
    /// Missions as they come
    Plain,
    /// Importance sampling with failures made frequent
    Biasing,
    /// Multilevel splitting
    Splitting,
}

#[derive(Debug, Args)]
pub(crate) struct DurabilityArgs {
    /// The model
    file: PathBuf,
    /// The nodes are those of this mesh: what `strewn status --json` printed
    #[arg(long, value_name = "STATUS")]
    from_mesh: Option<PathBuf>,
    #[command(flatten)]
    trying: Trying,
    #[command(flatten)]
    output: Output,
    /// Write one self-contained page with charts to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Play the whole mesh too: so many missions are counted, and where losses are rarer a method for that follows
    #[arg(long, value_name = "MISSIONS")]
    mesh: Option<u64>,
    /// Show also which assumption the result hangs on
    #[arg(long)]
    sensitivity: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// The model
    file: PathBuf,
    /// A field and its values: `k=2..8`, `repair.patience=6h,1d,3d`, `"cause.account closed.per_year=0.001,0.01"`
    #[arg(long, required = true, value_name = "PATH=VALUES")]
    vary: Vec<Vary>,
    #[command(flatten)]
    trying: Trying,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// What there is and what is wanted: a model with `[wish]` and prices
    file: PathBuf,
    /// The nodes are those of this mesh: what `strewn status --json` printed
    #[arg(long, value_name = "STATUS")]
    from_mesh: Option<PathBuf>,
    #[command(flatten)]
    trying: Trying,
    #[command(flatten)]
    output: Output,
    /// Write one self-contained page with charts to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Trying {
    fn effort(&self) -> Effort {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Effort {
            seed: self.seed,
            jobs: self.jobs.unwrap_or_else(cores),
            relative_error: self.relative_error,
            events_max: self.events,
        }
    }

    fn method(&self) -> Option<Method> {
        self.method.map(|name| match name {
            MethodName::Plain => Method::Plain,
            MethodName::Biasing => Method::Biasing,
            MethodName::Splitting => Method::Splitting,
        })
    }
}

/// Runs a command. `validate` and `plan` end unexpectedly when a figure is not explained, or nothing fits.
pub(crate) fn run(command: &Command) -> Result<End, Failure> {
    match command {
        Command::Durability(args) => durability(args),
        Command::Sweep(args) => sweep(args),
        Command::Validate(output) => validate(output),
        Command::Plan(args) => plan(args),
    }
}

impl From<bool> for End {
    fn from(as_expected: bool) -> Self {
        if as_expected { Self::Expected } else { Self::Unexpected }
    }
}

fn wrong(error: impl std::fmt::Display) -> Failure {
    Failure::usage(
        error.to_string(),
        "simulator/DURABILITY.md describes the fields, simulator/models has examples",
    )
}

fn text_of(value: &serde_json::Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(unwritable)
}

fn json_of(value: &impl serde::Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(value).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::failed(error.to_string(), "leave --json and --csv out")
}

/// A line on standard output; who stops reading misses nothing.
fn say(text: impl std::fmt::Display) {
    say!("{text}");
}

fn show(title: &[&str], rows: &[Vec<String>]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(title.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    say(table);
}

/// Where results go.
struct Opened {
    json: bool,
    tables: Tables,
    html: Option<Target>,
}

impl Output {
    /// Opens what is written, the page too where there is one.
    fn open(&self, html: Option<&Path>) -> Result<Opened, Failure> {
        let paths = [self.csv.as_deref(), self.parquet.as_deref(), html];
        let [csv, parquet, html] = Target::open_all(paths)?;
        Ok(Opened { json: self.json, tables: Tables { csv, parquet }, html })
    }
}

impl Tables {
    /// Writes objects as asked.
    fn put(self, objects: &[serde_json::Value]) -> Result<(), Failure> {
        self.write(&table::Table::of_objects(objects))
    }
}

/// Prints objects as JSON.
fn say_json(objects: &[serde_json::Value]) -> Result<(), Failure> {
    let text = match objects {
        [only] => text_of(only)?,
        all => text_of(&all.into())?,
    };
    say(text);
    Ok(())
}

/// A model, of the nodes of a mesh that exists where one is named.
fn input_of(file: &Path, mesh: Option<&Path>) -> Result<Input, Failure> {
    let Some(mesh) = mesh else { return Input::read(file).map_err(wrong) };
    let (mesh, _) = crate::mesh::read(mesh)?;
    Input::read_for(file, &mesh).map_err(wrong)
}

fn durability(args: &DurabilityArgs) -> Result<End, Failure> {
    let input = input_of(&args.file, args.from_mesh.as_deref())?;
    let opened = args.output.open(args.html.as_deref())?;
    let effort = args.trying.effort();
    let figures = analysis::analyse(&input, args.trying.method(), &effort).map_err(wrong)?;
    let mesh = args
        .mesh
        .map(|missions| MeshFigures::of(&input, missions, args.trying.method(), &effort))
        .transpose()
        .map_err(wrong)?;
    let mut object = json_of(&figures)?;
    if let (Some(fields), Some(mesh)) = (object.as_object_mut(), &mesh)
        && let serde_json::Value::Object(of_mesh) = json_of(mesh)?
    {
        fields.extend(of_mesh);
    }
    let objects = [object];
    if opened.json {
        say_json(&objects)?;
    } else {
        say(&input.name);
        show(&["figure", "value"], &analysis::rows(&figures));
        if args.sensitivity {
            let swings = analysis::sensitivity(&input, &effort).map_err(wrong)?;
            let row = |s: &simulator::chart::Swing| {
                vec![s.label.clone(), format!("{:.2e}", s.low), format!("{:.2e}", s.high)]
            };
            show(
                &["assumption", "loss at half", "loss at twice"],
                &swings.iter().map(row).collect::<Vec<_>>(),
            );
            let without = analysis::without_each(&input, &effort).map_err(wrong)?;
            let row = |(name, loss): &(String, f64)| vec![name.clone(), format!("{loss:.2e}")];
            show(&["without", "loss"], &without.iter().map(row).collect::<Vec<_>>());
        }
        if let Some(mesh) = &mesh {
            show(&["whole mesh", "value"], &mesh.rows());
        }
    }
    if let Some(target) = opened.html {
        let page = analysis::page(&input, &figures, &effort).map_err(wrong)?;
        target.write(page.as_bytes())?;
    }
    opened.tables.put(&objects)?;
    Ok(End::Expected)
}

fn sweep(args: &SweepArgs) -> Result<End, Failure> {
    let text = read_text(&args.file).map_err(wrong)?;
    let opened = args.output.open(None)?;
    let (mut objects, mut rows) = (Vec::new(), Vec::new());
    for (chosen, input) in
        combinations(&text, args.file.parent().unwrap_or(Path::new("")), &args.vary)
            .map_err(wrong)?
    {
        let found = input.and_then(|input| {
            analysis::analyse(&input, args.trying.method(), &args.trying.effort())
        });
        let mut row: Vec<String> = chosen.iter().map(|(_, value)| value.clone()).collect();
        let mut object = serde_json::Map::new();
        match found {
            Ok(figures) => {
                row.extend(short(&figures));
                if let serde_json::Value::Object(fields) = json_of(&figures)? {
                    object.extend(fields);
                }
            }
            // A code that cannot be placed is a result of a sweep, not its end.
            Err(error) => row.extend(["-".into(), "-".into(), "-".into(), error.to_string()]),
        }
        for (path, value) in chosen {
            object.insert(path, typed(&value));
        }
        if object.len() > args.vary.len() {
            objects.push(object.into());
        }
        rows.push(row);
    }
    if opened.json {
        say_json(&objects)?;
    } else {
        let mut title: Vec<&str> = args.vary.iter().map(|vary| vary.path.as_str()).collect();
        title.extend(["overhead", "nines", "95 %", "fewest that destroy"]);
        show(&title, &rows);
    }
    opened.tables.put(&objects)?;
    Ok(End::Expected)
}

/// A number where it is one, so that it can be plotted.
fn typed(value: &str) -> serde_json::Value {
    let number = value.parse::<u64>().ok().map(serde_json::Value::from);
    let number = number.or_else(|| value.parse::<f64>().ok().map(serde_json::Value::from));
    number.filter(|number| !number.is_null()).unwrap_or_else(|| value.into())
}

fn short(figures: &Figures) -> Vec<String> {
    let doubt = if figures.doubts.is_empty() { "" } else { " (doubtful)" };
    vec![
        format!("{:.2}", figures.overhead),
        format!("{:.2}{doubt}", figures.nines),
        format!("{:.2} to {:.2}", figures.nines_low, figures.nines_high),
        figures.destroy_size.map_or_else(|| "-".into(), |size| size.to_string()),
    ]
}

fn validate(output: &Output) -> Result<End, Failure> {
    let opened = output.open(None)?;
    let figures = published::figures();
    let objects: Vec<serde_json::Value> = figures
        .iter()
        .map(|f| {
            serde_json::json!({
                "source": f.source, "what": f.what, "published": f.theirs, "ours": f.ours, "unit": f.unit,
                "difference": f.difference(), "agrees": f.agrees(), "reason": f.reason,
            })
        })
        .collect();
    if opened.json {
        say_json(&objects)?;
    } else {
        let row = |f: &published::Figure| {
            let said = if f.agrees() { "same" } else { f.reason };
            vec![
                f.source.to_owned(),
                f.what.clone(),
                format!("{} {}", figure(f.theirs, f.digits), f.unit),
                figure(f.ours, f.digits + 1),
                format!("{:+.1e}", f.difference()),
                said.to_owned(),
            ]
        };
        let rows: Vec<Vec<String>> = figures.iter().map(row).collect();
        show(&["source", "what", "published", "ours", "difference", "verdict"], &rows);
    }
    opened.tables.put(&objects)?;
    Ok(figures.iter().all(published::Figure::is_explained).into())
}

/// A figure to so many digits.
fn figure(value: f64, digits: u32) -> String {
    let digits = digits.saturating_sub(1) as usize;
    if (1e-2..1e4).contains(&value) {
        let before = value.log10().floor() as i32;
        format!("{value:.*}", usize::try_from(digits as i32 - before).unwrap_or(0))
    } else {
        format!("{value:.digits$e}")
    }
}

fn plan(args: &PlanArgs) -> Result<End, Failure> {
    let input = input_of(&args.file, args.from_mesh.as_deref())?;
    let opened = args.output.open(args.html.as_deref())?;
    let planned = planner::plan(&input, &args.trying.effort()).map_err(wrong)?;
    let objects = planned.choices.iter().map(json_of).collect::<Result<Vec<_>, _>>()?;
    // JSON has the advice and the additions too; a table has the choices alone.
    if opened.json {
        say(text_of(&json_of(&planned)?)?);
    } else {
        let rows: Vec<Vec<String>> = planned.choices.iter().map(planner::Choice::row).collect();
        show(&planner::Choice::TITLE, &rows);
        for line in &planned.advice {
            say(line);
        }
    }
    if let Some(target) = opened.html {
        target.write(planner::page(&input, &planned).map_err(wrong)?.as_bytes())?;
    }
    opened.tables.put(&objects)?;
    Ok(planned.choices.iter().any(|choice| choice.fits).into())
}
