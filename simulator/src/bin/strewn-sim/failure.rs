//! How the program ends: its exit codes, and errors as a sentence for a person with the next step.

use std::fmt;
use std::process::ExitCode;

/// What `--help` says of exit codes.
pub(crate) const HELP: &str = "Exit codes:
  0  everything came out as expected
  1  something did not: a verdict other than expected, or a file that cannot be written
  2  the command line, a scenario or another input is wrong
  3  a promise of the protocol was violated: the output names the seed and the command that replays it";

/// How the program ends when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// All as expected.
    Expected = 0,
    /// Something was not.
    Unexpected = 1,
    /// A promise was violated.
    Violated = 3,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(end as u8)
    }
}

/// What a command failed with.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    next: String,
    code: u8,
}

impl Failure {
    /// An input is wrong: what is, and what to do now.
    pub(crate) fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into(), code: 2 }
    }

    /// Something could not be done: what, and what to do now.
    pub(crate) fn failed(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into(), code: 1 }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strewn-sim: {}\n  next: {}", self.what, self.next)
    }
}
