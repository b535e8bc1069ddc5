//! `list` and `show`, and how a scenario is found: by its name, or as a file; and with it the mesh that it is also played against.

use crate::failure::{End, Failure};
use crate::human;
use crate::mesh::{self, MeshArgs};
use simulator::scenario::{FILE_LEN_MAX, Scenario, read_with, shipped};
use std::path::Path;

/// A scenario, and what it was read from.
pub(crate) struct Found {
    pub(crate) scenario: Scenario,
    /// The texts of all files, for a hash.
    pub(crate) text: String,
    /// What there is to know of the mesh that exists.
    pub(crate) notes: Vec<String>,
}

/// Finds a scenario by name or as a file.
pub(crate) fn find(name: &str, with: &MeshArgs) -> Result<Found, Failure> {
    let (file, mut text) = match shipped().iter().find(|(shipped, _)| *shipped == name) {
        Some((_, text)) => (format!("{name}.toml"), (*text).to_owned()),
        None => (name.to_owned(), from_file(name)?),
    };
    let mesh = with.read()?;
    let real = mesh.as_ref().map(|(mesh, _)| mesh);
    let scenario = read_with(&file, &text, real).map_err(|error| {
        Failure::usage(
            error.to_string(),
            "correct that line; simulator/README.md documents every field",
        )
    })?;
    let notes = real.map_or_else(Vec::new, simulator::from_mesh::FromMesh::notes);
    if let Some((_, status)) = &mesh {
        text += status;
        text += &with.renamed.join("\n");
    }
    Ok(Found { scenario, text, notes })
}

fn from_file(name: &str) -> Result<String, Failure> {
    let path = Path::new(name);
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    if !is_toml && !path.exists() {
        let next = "see the names with `strewn-sim list`, or give a file that ends in .toml";
        return Err(Failure::usage(format!("there is no scenario called {name:?}"), next));
    }
    mesh::text_of(path, FILE_LEN_MAX, "scenario")
}

/// Lists the shipped scenarios.
pub(crate) fn list(json: bool) -> Result<End, Failure> {
    for (name, _) in shipped() {
        let Found { scenario, .. } = find(name, &MeshArgs::default())?;
        if json {
            let names: Vec<&str> = scenario.arrangements.iter().map(|a| a.name.as_str()).collect();
            let line = serde_json::json!({
                "name": scenario.name, "title": scenario.title,
                "when": scenario.facts.as_ref().map(|facts| &facts.when), "arrangements": names,
            });
            say!("{line}");
        } else {
            say!("{:24} {}", scenario.name, scenario.title);
        }
    }
    if !json {
        say!("\nshow one: strewn-sim show NAME    play one: strewn-sim run NAME");
    }
    Ok(End::Expected)
}

/// Prints a scenario's file.
pub(crate) fn text(name: &str) -> Result<End, Failure> {
    say!("{}", find(name, &MeshArgs::default())?.text.trim_end());
    Ok(End::Expected)
}

/// Shows a scenario.
pub(crate) fn show(name: &str, with: &MeshArgs) -> Result<End, Failure> {
    let Found { scenario, notes, .. } = find(name, with)?;
    say!("{}\n", scenario.title);
    if let Some(facts) = &scenario.facts {
        say!("{}. {}\n", facts.when, facts.text);
        let how = if facts.checked { "compared in several reports" } else { "widely reported" };
        say!("Sources ({how}):");
        facts.sources.iter().for_each(|source| say!("  {source}"));
        if let Some(model) = &facts.model {
            say!("\nHow it is played: {model}");
        }
    }
    say!("\nPlayed for {}, against:", human::span(scenario.duration));
    for arrangement in &scenario.arrangements {
        say!("  {:24} {}", arrangement.name, arrangement.title);
        say!("  {:24}   {}", "", human::made_of(arrangement));
    }
    mesh::say(&notes);
    say!("\nplay it: strewn-sim run {name}    its file: strewn-sim show {name} --toml");
    Ok(End::Expected)
}
