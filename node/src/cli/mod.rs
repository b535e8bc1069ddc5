//! The command line: what it accepts ([`args`]), how it speaks ([`output`], [`progress`], [`error`]) and how it ends
//! ([`Exit`]). What the commands do lives in [`crate::commands`].

pub mod args;
pub mod audit;
pub mod browse;
pub mod error;
mod exit;
pub mod forget;
pub mod names;
pub mod operator;
pub mod ops;
pub mod output;
pub mod partner;
pub mod progress;
pub mod proof;
pub mod recovery;
pub mod release;
pub mod repair;
pub(crate) mod signals;

pub use args::Cli;
pub use exit::Exit;

use crate::commands;
use crate::config::Overrides;
use crate::home::Home;
use crate::logging;
use args::{Command, LogCommand, NodeCommand, VaultCommand};
use error::CliError;
use output::{Output, Style};
use recovery::RecoveryCommand;
use repair::RepairCommand;
use signals::Signals;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs the command that was given, tells how it went, and says with which code to end.
#[must_use]
pub fn run(cli: Cli) -> Exit {
    let output = Output::new(Style::detect(cli.json, cli.quiet));
    let result = execute(cli, &output).and_then(|exit| output.check_delivered().map(|()| exit));
    result.unwrap_or_else(|error| {
        output.exit_error(&error);
        error.code()
    })
}

/// Says what is wrong with a command line; as JSON where it asks for that.
pub fn tell_of_usage(usage: &clap::Error) {
    let is_json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if is_json {
        let text = usage.to_string();
        let (what, next) = text.split_once("\n\n").unwrap_or((&text, ""));
        let what = what.trim().trim_start_matches("error: ");
        let error = CliError::new(what).next(next.trim()).exit(Exit::Usage);
        Output::new(Style { json: true, ..Style::default() }).exit_error(&error);
    } else {
        // Nothing is left to tell it to.
        let _ = usage.print();
    }
}

fn execute(cli: Cli, output: &Output) -> Result<Exit, CliError> {
    let overrides =
        Overrides { limit_upload: cli.limit_upload, limit_download: cli.limit_download };
    let home = Home::find(cli.home).with_overrides(overrides);
    let goes_on = match cli.command {
        Command::Backup(_) | Command::Restore(_) | Command::Recover(_) => {
            Some("nothing is lost: the same command goes on where this one was")
        }
        Command::Node(NodeCommand::Drain { .. }) => Some(
            "the node goes on leaving: the same command follows it again, and with --cancel it stays",
        ),
        _ => None,
    };
    let is_node = matches!(&cli.command, Command::Node(command) if !matches!(command, NodeCommand::Drain { .. } | NodeCommand::Show | NodeCommand::Carry { .. }));
    let level = if is_node { "info" } else { "error" };
    logging::start(output, level)?;
    // A mount is unmounted first, and a node lets go of what it has open.
    let ends_by_itself = matches!(cli.command, Command::Mount(_) | Command::Node(NodeCommand::Run));
    // What it recovers must not stay behind.
    let is_drill = matches!(cli.command, Command::Recovery(_));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let work = async {
        match cli.command {
            Command::Init(args) => commands::node::init(&home, args, output),
            Command::Node(NodeCommand::Run) => commands::node::run(&home).await,
            Command::Node(NodeCommand::Doubt { clear }) => {
                commands::node::doubt(&home, clear, output)
            }
            Command::Node(NodeCommand::Drain { cancel }) => {
                commands::drain::drain(&home, cancel, output).await
            }
            Command::Node(NodeCommand::Show) => commands::vouch::show(&home, output),
            Command::Node(NodeCommand::Carry { line }) => {
                commands::vouch::carry(&home, &line, output).await
            }
            Command::Node(NodeCommand::Thaw) => commands::node::thaw(&home, output),
            Command::Invite(args) => commands::node::invite(&home, args, output),
            Command::Join(args) => commands::node::join(&home, args, output).await,
            Command::Operator(command) => commands::operator::run(&home, command, output).await,
            Command::Partner(command) => commands::partner::run(&home, command, output).await,
            Command::Peers => commands::look::peers(&home, output).await,
            Command::Vault(VaultCommand::Create { name, policy, recipient }) => {
                commands::vault::create(&home, &name, &policy, recipient, output)
            }
            Command::Vault(VaultCommand::List) => commands::vault::list(&home, output),
            Command::Vault(VaultCommand::Kit(args)) => {
                commands::kit::kit(&home, args, output).await
            }
            Command::Vault(VaultCommand::Split(args)) => {
                commands::share::split(&home, &args, output)
            }
            Command::Vault(VaultCommand::Combine(args)) => commands::share::combine(&args, output),
            Command::Device(command) => commands::device::run(&home, command, output).await,
            Command::Backup(args) => commands::profile::backup(&home, args, output).await,
            Command::Snapshots(args) => commands::data::snapshots(&home, &args, output).await,
            Command::Tag(args) => commands::tag::tag(&home, args, output).await,
            Command::Forget(args) => commands::forget::forget(&home, args, output).await,
            Command::Prune(args) => commands::prune::prune(&home, args, output).await,
            Command::Release(command) => commands::release::release(&home, command, output).await,
            Command::Hold(command) => commands::release::hold(&home, command, output).await,
            Command::Ls(args) => commands::browse::ls(&home, args, output).await,
            Command::Cat(args) => commands::browse::cat(&home, args, output).await,
            Command::Find(args) => commands::browse::find(&home, args, output).await,
            Command::Diff(args) => commands::browse::diff(&home, args, output).await,
            Command::Mount(args) => commands::mount::mount(&home, args, output).await,
            Command::Check(args) => commands::check::check(&home, args, output).await,
            Command::WhatIf(args) => commands::what_if::what_if(&home, args, output).await,
            Command::Log(LogCommand::Verify { vault }) => {
                commands::log::verify(&home, vault.vault.as_deref(), output).await
            }
            Command::Audit(args) => commands::audit::audit(&home, args, output).await,
            Command::Prove(args) => commands::proof::prove(&home, args, output).await,
            Command::VerifyProof(args) => commands::proof::verify(&args, output),
            Command::Completions(args) => commands::describe::completions(&args, output),
            Command::Man(args) => commands::describe::man(&args, output),
            Command::Recover(args) => commands::recover::recover(&home, args, output).await,
            Command::Recovery(RecoveryCommand::Drill(args)) => {
                commands::drill::run(&home, args, output).await
            }
            Command::Restore(args) => commands::data::restore(&home, args, output).await,
            Command::Status(args) => commands::look::status(&home, &args, output).await,
            Command::Repair(RepairCommand::Status) => commands::repair::status(&home, output).await,
            Command::Demo(args) => commands::demo::run(args, output).await,
        }
    };
    let result = runtime.block_on(async {
        let mut signals = Signals::new(is_drill)?;
        tokio::select! {
            result = work => result,
            () = signals.next(), if !ends_by_itself => interrupted(goes_on),
        }
    });
    HAS_ENDED.store(true, Ordering::Relaxed);
    drop(runtime);
    result
}

static HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// Whether the command is over. Tasks that are still at work then find their runtime gone and panic, which is no mistake.
#[must_use]
pub fn has_ended() -> bool {
    HAS_ENDED.load(Ordering::Relaxed)
}

fn interrupted(goes_on: Option<&str>) -> Result<Exit, CliError> {
    match goes_on {
        Some(next) => Err(CliError::new("interrupted").next(next).exit(Exit::Interrupted)),
        None => Ok(Exit::Interrupted),
    }
}
