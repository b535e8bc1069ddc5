//! The figures as a table: medians, and the ratio of the medians with the least and the greatest of the rounds.

use crate::measure::Measured;
use crate::tools::Strewn;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that was measured, in the order in which it came.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: Vec<(String, String)>,
    measured: BTreeMap<(String, String, String), Vec<Measured>>,
    notes: BTreeMap<(String, String), String>,
    peak_of_nodes: u64,
}

pub(crate) fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    values[values.len() / 2]
}

impl Report {
    pub(crate) fn add(&mut self, set: &str, what: &str, tool: &str, measured: Measured) {
        let step = (set.to_owned(), what.to_owned());
        eprintln!("  {what}: {tool} {:.2} s", measured.wall.as_secs_f64());
        self.measured
            .entry((step.0.clone(), step.1.clone(), tool.into()))
            .or_default()
            .push(measured);
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
    }

    pub(crate) fn note(&mut self, set: &str, what: &str, note: String) {
        self.notes.insert((set.into(), what.into()), note);
    }

    pub(crate) fn peaks(&mut self, strewn: &Strewn) {
        self.peak_of_nodes = self.peak_of_nodes.max(strewn.peak_of_nodes());
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<5}{:<32}{:<8}{:>8}{:>8}{:>8}{:>7}{:>12}  {:<20}stored ratio",
            "", "", "", "wall s", "CPU s", "nodes s", "MiB", "stored", "wall ratio"
        );
        for (set, what) in &self.steps {
            let of = |tool: &str| self.measured.get(&(set.clone(), what.clone(), tool.into()));
            for tool in ["restic", "tahoe", "strewn"] {
                let Some(all) = of(tool) else { continue };
                let seconds = |of: fn(&Measured) -> Duration| {
                    median(all.iter().map(|one| of(one).as_secs_f64()).collect())
                };
                let stored = median(all.iter().map(|one| one.stored).collect());
                let (mut ratio, mut stored_ratio) = (String::new(), String::new());
                let peer = of("restic").or_else(|| of("tahoe"));
                if let Some(theirs) = peer.filter(|_| tool == "strewn") {
                    let wall = |one: &Measured| one.wall.as_secs_f64();
                    let mut each: Vec<f64> =
                        all.iter().zip(theirs).map(|(a, b)| wall(a) / wall(b)).collect();
                    each.sort_by(f64::total_cmp);
                    let median_of =
                        |all: &[Measured]| median(all.iter().map(wall).collect::<Vec<_>>());
                    ratio = format!(
                        "{:.2} ({:.2} to {:.2})",
                        median_of(all) / median_of(theirs),
                        each[0],
                        each[each.len() - 1]
                    );
                    let theirs = median(theirs.iter().map(|one| one.stored).collect());
                    if theirs > 0 && stored > 0 {
                        stored_ratio = format!("{:.3}", stored as f64 / theirs as f64);
                    }
                }
                let peak = all.iter().map(|one| one.peak_mib).max().unwrap_or(0);
                println!(
                    "{:<5}{:<32}{:<8}{:>8.2}{:>8.2}{:>8.2}{:>7}{:>12}  {:<20}{}",
                    set,
                    what,
                    tool,
                    seconds(|one| one.wall),
                    seconds(|one| one.cpu),
                    seconds(|one| one.cpu_nodes),
                    peak,
                    if stored > 0 { size(stored) } else { String::new() },
                    ratio,
                    stored_ratio
                );
            }
            if let Some(note) = self.notes.get(&(set.clone(), what.clone())) {
                println!("{:<5}{note}", "");
            }
        }
        println!("most memory of a node: {} MiB", self.peak_of_nodes);
    }
}
