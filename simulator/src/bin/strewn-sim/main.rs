//! `strewn-sim`: what the simulator can do, from the command line.

mod durability;

use clap::Parser;
use std::process::ExitCode;

/// Plays meshes under virtual time, and computes how many nines they have.
#[derive(Debug, Parser)]
#[command(name = "strewn-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: durability::Command,
}

fn main() -> ExitCode {
    durability::run(&Arguments::parse().command)
}
