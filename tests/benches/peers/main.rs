//! Strewn and its peers on the same data in the same run, alternating: wall time, CPU of all processes, peak memory, bytes
//! stored, and the ratios with their spread.
//!
//! ```text
//! cargo bench --locked -p strewn-tests --bench peers -- --help
//! ```
//! Strewn runs 4+2 over six nodes on this machine, through its whole network stack; restic writes to a folder (Debian:
//! restic). Both make backups durable; Strewn alone flushes what it restores. Tahoe-LAFS (`pip install tahoe-lafs`), when its
//! program is named, stores and reads one file over six servers of its own, 4 of 6 as well. Ratios count, seconds drift from
//! machine to machine.

mod data;
mod measure;
mod report;
mod tahoe;
mod tools;

use clap::Parser;
use data::Set;
use report::Report;
use std::path::PathBuf;
use tahoe::Tahoe;
use tools::{Restic, Strewn};

/// What is compared.
#[derive(Parser, Debug)]
struct Options {
    /// Where data is made, and everything else lies; the data is kept and used again
    #[arg(long, default_value = "target/peers")]
    dir: PathBuf,
    /// How often everything is done
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// MiB of incompressible data
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Only these sets of data: big, git, src; or many, a million small files, backed up only (repeatable)
    #[arg(long)]
    only: Vec<String>,
    /// The program of Tahoe-LAFS, to be compared on one file of the big data
    #[arg(long)]
    tahoe: Option<PathBuf>,
    /// Without restic
    #[arg(long)]
    alone: bool,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    // Cargo runs benchmarks in their package's folder.
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&options.dir);
    std::fs::create_dir_all(&dir).expect("a folder for the data");
    let dir = dir.canonicalize().expect("the folder is there");
    let mut report = Report::default();
    for (name, make) in data::SETS {
        let is_named = options.only.iter().any(|only| only == name);
        if !is_named && (!options.only.is_empty() || name == data::MANY) {
            continue;
        }
        eprintln!("{name}: making the data");
        let set = make(&dir, options.mib);
        for round in 0..options.rounds {
            eprintln!("{name}: round {} of {}", round + 1, options.rounds);
            compare(&dir, &set, options.alone, &mut report);
            if let Some(tahoe) = options.tahoe.as_ref().filter(|_| name == data::BIG) {
                compare_one_file(&dir, &set, tahoe, &mut report);
            }
        }
        let _ = std::fs::remove_dir_all(dir.join("restored"));
    }
    report.print();
}

/// One round on one set: the same steps with both, one after the other.
fn compare(dir: &std::path::Path, set: &Set, alone: bool, report: &mut Report) {
    let live = set.live();
    let restic = (!alone).then(|| Restic::new(dir));
    let mut strewn = Strewn::new(dir);
    let mut step = |what: &str, ours: measure::Measured, theirs: Option<measure::Measured>| {
        report.add(set.name, what, "strewn", ours);
        if let Some(theirs) = theirs {
            report.add(set.name, what, "restic", theirs);
        }
    };
    set.show(data::State::Before);
    let theirs = restic.as_ref().map(|restic| restic.backup(&live));
    let (ours, first) = strewn.backup(&set.sources());
    step("first backup", ours, theirs);
    let theirs = restic.as_ref().map(|restic| restic.backup(&live));
    step("unchanged backup", strewn.backup(&set.sources()).0, theirs);
    if set.name == data::MANY {
        let theirs = restic.as_ref().map_or(0, Restic::index_size);
        let (ours, theirs) = (report::size(strewn.index_size()), report::size(theirs));
        report.note(
            set.name,
            "unchanged backup",
            format!("index here: {ours}; restic's: {theirs}"),
        );
        report.peaks(&strewn);
        set.show(data::State::Before);
        return;
    }
    for what in ["restore", "restore, two of six nodes gone"] {
        let theirs = restic.as_ref().map(|restic| restic.restore(&live, None));
        if what != "restore" {
            strewn.lose_two();
        }
        step(what, strewn.restore(&first, &set.sources(), None), theirs);
    }
    let theirs = restic.as_ref().map(|restic| restic.restore(&live, Some(&set.one)));
    step(
        "one of many, two of six gone",
        strewn.restore(&first, &set.sources(), Some(&set.one)),
        theirs,
    );
    strewn.return_all();
    let theirs = restic.as_ref().map(|restic| restic.restore(&live, Some(&set.one)));
    step("one of many", strewn.restore(&first, &set.sources(), Some(&set.one)), theirs);
    set.show(data::State::After);
    let theirs = restic.as_ref().map(|restic| restic.backup(&live));
    let (ours, _) = strewn.backup(&set.sources());
    step("changed backup", ours, theirs);
    if let Some(new) = set.new_bytes {
        report.note(set.name, "changed backup", format!("{} is what is new", report::size(new)));
    }
    report.peaks(&strewn);
    set.show(data::State::Before);
}

/// One file over six servers, each tool's own.
fn compare_one_file(
    dir: &std::path::Path,
    set: &Set,
    program: &std::path::Path,
    report: &mut Report,
) {
    set.show(data::State::Before);
    let file = set.live().join(&set.one);
    let tahoe = Tahoe::new(dir, program);
    let (theirs, capability) = tahoe.put(&file);
    report.add(set.name, "put one file", "tahoe", theirs);
    report.add(set.name, "get one file", "tahoe", tahoe.get(&capability, &file));
    drop(tahoe);
    let mut strewn = Strewn::new(dir);
    let sources = [file];
    let (ours, snapshots) = strewn.backup(&sources);
    report.add(set.name, "put one file", "strewn", ours);
    report.add(set.name, "get one file", "strewn", strewn.restore(&snapshots, &sources, None));
    set.show(data::State::Before);
}
