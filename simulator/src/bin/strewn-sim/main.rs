//! `strewn-sim`: plays losses against arrangements of backups. The command line and its dispatch; what commands do lives
//! in the modules beside, one a subject.

mod durability;
mod failure;

use clap::{Parser, Subcommand};
use failure::{End, Failure};
use std::process::ExitCode;

/// Rehearse the loss of providers, accounts, operators and keys: on the real protocol, under virtual time.
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
    List,
    #[command(flatten)]
    Durability(durability::Command),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let done: Result<End, Failure> = match command {
        Command::List => Ok(End::Expected),
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
