//! `list` and `show`, and how a scenario is found: by its name, or as a file.

use crate::failure::{End, Failure};
use crate::human;
use simulator::scenario::{FILE_LEN_MAX, Scenario, read, shipped};
use std::path::Path;

/// A scenario and the text that it was read from.
pub(crate) struct Found {
    pub(crate) scenario: Scenario,
    pub(crate) text: String,
}

/// Finds a scenario by name or as a file.
pub(crate) fn find(name: &str) -> Result<Found, Failure> {
    let (file, text) = match shipped().iter().find(|(shipped, _)| *shipped == name) {
        Some((_, text)) => (format!("{name}.toml"), (*text).to_owned()),
        None => (name.to_owned(), from_file(name)?),
    };
    let scenario = read(&file, &text).map_err(|error| {
        Failure::usage(
            error.to_string(),
            "correct that line; simulator/README.md documents every field",
        )
    })?;
    Ok(Found { scenario, text })
}

fn from_file(name: &str) -> Result<String, Failure> {
    let path = Path::new(name);
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    if !is_toml && !path.exists() {
        let next = "see the names with `strewn-sim list`, or give a file that ends in .toml";
        return Err(Failure::usage(format!("there is no scenario called {name:?}"), next));
    }
    let unread = |error: std::io::Error| {
        Failure::usage(
            format!("{name} cannot be read: {error}"),
            "check the path and its permissions",
        )
    };
    if std::fs::metadata(path).map_err(unread)?.len() > FILE_LEN_MAX {
        let what = format!("{name} is longer than {FILE_LEN_MAX} bytes, which no scenario is");
        return Err(Failure::usage(what, "give a scenario file"));
    }
    std::fs::read_to_string(path).map_err(unread)
}

/// Lists the shipped scenarios.
pub(crate) fn list(json: bool) -> Result<End, Failure> {
    for (name, _) in shipped() {
        let Found { scenario, .. } = find(name)?;
        if json {
            let names: Vec<&str> = scenario.arrangements.iter().map(|a| a.name.as_str()).collect();
            let line = serde_json::json!({
                "name": scenario.name, "title": scenario.title,
                "when": scenario.facts.as_ref().map(|facts| &facts.when), "arrangements": names,
            });
            println!("{line}");
        } else {
            println!("{:24} {}", scenario.name, scenario.title);
        }
    }
    if !json {
        println!("\nshow one: strewn-sim show NAME    play one: strewn-sim run NAME");
    }
    Ok(End::Expected)
}

/// Prints a scenario's file.
pub(crate) fn text(name: &str) -> Result<End, Failure> {
    print!("{}", find(name)?.text);
    Ok(End::Expected)
}

/// Shows a scenario.
pub(crate) fn show(name: &str) -> Result<End, Failure> {
    let Found { scenario, .. } = find(name)?;
    println!("{}\n", scenario.title);
    if let Some(facts) = &scenario.facts {
        println!("{}. {}\n", facts.when, facts.text);
        let how = if facts.checked { "compared in several reports" } else { "widely reported" };
        println!("Sources ({how}):");
        facts.sources.iter().for_each(|source| println!("  {source}"));
        if let Some(model) = &facts.model {
            println!("\nHow it is played: {model}");
        }
    }
    println!("\nPlayed for {}, against:", human::span(scenario.duration));
    for arrangement in &scenario.arrangements {
        println!("  {:24} {}", arrangement.name, arrangement.title);
        println!("  {:24}   {}", "", human::made_of(arrangement));
    }
    println!("\nplay it: strewn-sim run {name}    its file: strewn-sim show {name} --toml");
    Ok(End::Expected)
}
