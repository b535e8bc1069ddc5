//! `completions`, `man`: the command line, described for shells and readers.

use crate::cli::Exit;
use crate::cli::args::Cli;
use crate::cli::error::CliError;
use crate::cli::ops::{CompletionsArgs, ManArgs};
use crate::cli::output::Output;
use clap::CommandFactory;
use std::path::Path;

/// Prints completions.
pub fn completions(args: &CompletionsArgs, output: &Output) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "strewn", &mut script);
    let script = String::from_utf8_lossy(&script);
    if output.style().json {
        let body = serde_json::json!({ "shell": args.shell.to_string(), "script": script });
        output.json("summary", &body);
    } else {
        output.raw(&script);
    }
    Ok(Exit::Done)
}

/// Writes manual pages: one of the program and one of each command.
pub fn man(args: &ManArgs, output: &Output) -> Result<Exit, CliError> {
    let failed = |path: &Path, e: std::io::Error| {
        CliError::new(format!("{} cannot be written", path.display())).cause(&e)
    };
    std::fs::create_dir_all(&args.dir).map_err(|e| failed(&args.dir, e))?;
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    describe(&program, &mut pages)?;
    for (name, page) in &pages {
        let path = args.dir.join(format!("{name}.1"));
        std::fs::write(&path, page).map_err(|e| failed(&path, e))?;
    }
    if output.style().json {
        let names: Vec<&String> = pages.iter().map(|(name, _)| name).collect();
        output.json("summary", &serde_json::json!({ "dir": args.dir, "pages": names }));
    } else {
        output.line(format!("{} pages are written to {}", pages.len(), args.dir.display()));
    }
    Ok(Exit::Done)
}

fn describe(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), CliError> {
    // Of a built command: "strewn-device-add".
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    pages.push((name.to_owned(), page));
    command.get_subcommands().try_for_each(|sub| describe(sub, pages))
}
