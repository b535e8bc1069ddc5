//! The program `strewn`: reads the command line, runs the command, ends with its code.

use clap::Parser;
use node::cli::{self, Cli, Exit};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;

fn main() -> ExitCode {
    node::allocator::give_back_large_memory();
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if cli::has_ended() && std::thread::current().name() != Some("main") {
            return;
        }
        tell_of_panic(info);
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            default_hook(info);
        }
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Help into a pipe that was closed is no failure.
            if !usage.use_stderr() {
                let _ = usage.print();
                return Exit::Done.into();
            }
            cli::tell_of_usage(&usage);
            return Exit::Usage.into();
        }
    };
    // The runtime ignores SIGPIPE, so a closed pipe is an error of the write, which `Output` handles.
    panic::catch_unwind(AssertUnwindSafe(|| cli::run(cli))).unwrap_or(Exit::Failed).into()
}

fn tell_of_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
    // A closed standard error must not turn one panic into two.
    let _ = writeln!(
        std::io::stderr(),
        "error: strewn met a mistake of its own: {message}{}\n  → please report it, with what you did; RUST_BACKTRACE=1 tells more",
        place.unwrap_or_default()
    );
}
