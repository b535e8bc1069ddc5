//! `strewn-sim`: plays losses against arrangements of backups. The command line and its dispatch; what commands do lives
//! in the modules beside, one a subject.

/// Prints a line, as `println!` does, for [`human::say`].
macro_rules! say {
    ($($text:tt)*) => {
        $crate::human::say(format_args!($($text)*))
    };
}

mod beside;
mod durability;
mod failure;
mod human;
mod mesh;
mod outputs;
mod page;
mod replay;
mod runs;
mod show;

use clap::{Args, Parser, Subcommand};
use failure::{End, Failure};
use mesh::{MeshArgs, WhatIfArgs};
use std::path::PathBuf;
use std::process::ExitCode;

/// A simulation allocates small things all the time, and the C library's allocator takes a quarter of it for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rehearse the loss of providers, accounts, operators and keys: on the real protocol, under virtual time.
///
/// A scenario is a loss, and several arrangements of backups that it is played against. Those that are Strewn run on the
/// protocol's own peers; whole copies are a small model. The real incidents come with the program; your own scenario is a TOML
/// file: simulator/README.md documents it field by field.
#[derive(Debug, Parser)]
#[command(name = "strewn-sim", version, after_help = failure::HELP)]
struct Cli {
    /// What to do
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the scenarios that come with the program
    List {
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Show a scenario: what happened, its sources, what it is played against
    Show {
        /// A scenario's name, or a TOML file
        scenario: String,
        /// Print the file itself: copy it to begin one of your own
        #[arg(long)]
        toml: bool,
        /// Print the plan of this arrangement as JSON, for `replay`
        #[arg(long, value_name = "ARRANGEMENT")]
        plan: Option<String>,
        /// The seed of that plan
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The mesh
        #[command(flatten)]
        mesh: MeshArgs,
    },
    /// Play a scenario against its arrangements, with one seed or many
    #[command(after_help = "Examples:
  strewn-sim run code-spaces-2014
  strewn-sim run mine.toml --seeds 1..1000 --csv runs.csv
  strewn status --json > status.json; strewn-sim run mine.toml --from-mesh status.json
  strewn-sim run mine.toml --seeds 1..1000 --shard 3/16 --out part3.json   (then: strewn-sim merge part*.json)")]
    Run(RunArgs),
    /// Play a scenario with one seed or many, and show its arrangements side by side
    #[command(after_help = "Examples:
  strewn-sim compare code-spaces-2014
  strewn-sim compare mine.toml --seeds 1..50      how many seeds came to which verdict; medians, least and most of the numbers")]
    Compare(CompareArgs),
    /// Say what the loss of domains of a mesh that exists comes to, by its records, and play it
    ///
    /// The same question as `strewn what-if`, asked of a file and without the mesh; and beyond it: whether the nodes that are left
    /// rebuild what was lost, and how long that takes.
    #[command(after_help = "Example:
  strewn status --json > status.json
  strewn-sim what-if --from-mesh status.json --lose account=prod-7 --lose provider=aws")]
    WhatIf(WhatIfArgs),
    /// Put the parts that `run --shard --out` wrote together
    Merge {
        /// The parts
        #[arg(required = true)]
        parts: Vec<PathBuf>,
        /// What is written
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Write one self-contained HTML page about a scenario: verdicts, timelines, the map of domains
    Report {
        /// A scenario's name, or a TOML file
        scenario: String,
        /// The seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The page
        #[arg(long, value_name = "FILE")]
        html: PathBuf,
        /// The mesh
        #[command(flatten)]
        mesh: MeshArgs,
    },
    /// Run a plan again, as a violation or `show --plan` wrote it
    Replay {
        /// The file
        file: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Run drawn plans, each with faults and attacks of its own, until a promise is broken or the time is over
    Fuzz {
        /// For how long
        #[arg(long, value_name = "M", default_value_t = 5.0)]
        minutes: f64,
        /// The first seed [default: fresh ones]
        #[arg(long)]
        seed: Option<u64>,
        /// Where the shortest plan that breaks a promise is written
        #[arg(long, value_name = "FILE", default_value = "violation.json")]
        out: PathBuf,
    },
    #[command(flatten)]
    Durability(durability::Command),
}

/// With which seeds, and on how many threads.
#[derive(Debug, Args)]
struct SeedArgs {
    /// One seed [default: 1]
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// First and last seed: 1..1000
    #[arg(long, value_name = "FIRST..LAST")]
    seeds: Option<String>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "J", value_parser = threads)]
    jobs: Option<usize>,
}

/// What is compared, and what is written.
#[derive(Debug, Args)]
struct CompareArgs {
    /// A scenario's name, or a TOML file
    scenario: String,
    /// The seeds
    #[command(flatten)]
    seeds: SeedArgs,
    /// The mesh
    #[command(flatten)]
    mesh: MeshArgs,
    /// What is written besides
    #[command(flatten)]
    output: OutputArgs,
}

/// What is run, and what is written.
#[derive(Debug, Args)]
struct RunArgs {
    /// A scenario's name, or a TOML file
    scenario: String,
    /// The seeds
    #[command(flatten)]
    seeds: SeedArgs,
    /// Only this arrangement; may be given several times
    #[arg(long, value_name = "NAME")]
    arrangement: Vec<String>,
    /// Only the third part of sixteen: 3/16
    #[arg(long, value_name = "PART/PARTS")]
    shard: Option<String>,
    /// The mesh
    #[command(flatten)]
    mesh: MeshArgs,
    /// What is written
    #[command(flatten)]
    output: OutputArgs,
}

/// What is written besides the answer.
#[derive(Debug, Args)]
struct OutputArgs {
    /// Every run as JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Every run as CSV, with a header
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Every run as Parquet, with typed columns
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
    /// All runs as one JSON file, for `merge`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A number of threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    let threads = text.parse::<usize>().map_err(|error| error.to_string())?;
    if threads == 0 { Err("at least one thread is needed".into()) } else { Ok(threads) }
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    simulator::memory::keep();
    let done: Result<End, Failure> = match command {
        Command::List { json } => show::list(json),
        Command::Show { scenario, toml: true, .. } => show::text(&scenario),
        Command::Show { scenario, plan: Some(arrangement), seed, mesh, .. } => {
            replay::write_plan(&scenario, &mesh, &arrangement, seed)
        }
        Command::Show { scenario, mesh, .. } => show::show(&scenario, &mesh),
        Command::Run(args) => runs::run(&args),
        Command::Compare(args) => runs::compare(&args),
        Command::WhatIf(args) => mesh::what_if(&args),
        Command::Merge { parts, output } => runs::merge(&parts, &output),
        Command::Report { scenario, seed, html, mesh } => {
            page::report(&scenario, &mesh, seed, &html)
        }
        Command::Replay { file, json } => replay::replay(&file, json),
        Command::Fuzz { minutes, seed, out } => replay::fuzz(minutes, seed, &out),
        Command::Durability(command) => durability::run(&command),
    };
    match done {
        Ok(end) => end.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.code()
        }
    }
}
