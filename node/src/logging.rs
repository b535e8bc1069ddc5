//! The log of this program: to standard error, through [`Output`], so that bars stay whole and `--json` stays JSON.
//!
//! `$STREWN_LOG`, else `$RUST_LOG`, says what is logged (`node=debug,libp2p=info`); else a node logs what happens and commands only warnings.

use crate::cli::error::CliError;
use crate::cli::output::Output;
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;

/// The environment variable that goes before `$RUST_LOG`.
pub const LOG_VARIABLE: &str = "STREWN_LOG";

/// Begins to log, at this level when no variable says otherwise.
///
/// # Errors
/// When a variable is no filter.
pub fn start(output: &Output, level: &str) -> Result<(), CliError> {
    let variable = [LOG_VARIABLE, "RUST_LOG"]
        .into_iter()
        .find_map(|name| Some((name, std::env::var(name).ok().filter(|value| !value.is_empty())?)));
    let filter = match variable {
        Some((name, value)) => EnvFilter::try_new(&value).map_err(|error| {
            CliError::new(format!("${name} is not a log filter"))
                .cause(&error)
                .next(format!("write for example {name}=node=debug,libp2p=info"))
        })?,
        None => EnvFilter::new(format!("warn,node={level},protocol={level}")),
    };
    let output = output.clone();
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(output.style().color_errors)
        .with_writer(move || LogWriter(output.clone()))
        .try_init();
    // A log that was started before (tests, a library user's own) stays.
    drop(started);
    Ok(())
}

/// Takes one event in one call, as the formatter gives it.
struct LogWriter(Output);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.log_line(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
