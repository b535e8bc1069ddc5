//! How the program ends: the exit codes that scripts rely on. They are those of restic, where it has one for the
//! case; a code that is not listed here must be treated as failure.

use std::process::ExitCode;

/// How the program ends. Codes never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed; nothing may be assumed.
    Failed,
    /// 2: the command line makes no sense.
    Usage,
    /// 3: a snapshot was written, and some of the source could not be read or changed meanwhile.
    SourceUnreadable,
    /// 10: the vault, the mesh or the state folder does not exist.
    NotThere,
    /// 11: another process has the lock.
    Locked,
    /// 12: the identity given does not open the vault.
    WrongIdentity,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// The code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::SourceUnreadable => 3,
            Self::NotThere => 10,
            Self::Locked => 11,
            Self::WrongIdentity => 12,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The exit codes as the program's help shows them.
pub(super) const HELP: &str = "\
Exit codes:
  0    done
  1    failed
  2    the command line makes no sense
  3    a snapshot was written, but some of the source could not be read or changed while it was read
  10   the vault, the mesh or the state folder does not exist
  11   locked by another process
  12   the identity given does not open the vault
  130  interrupted
Any other code means failure.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code() {
        use Exit::{
            Done, Failed, Interrupted, Locked, NotThere, SourceUnreadable, Usage, WrongIdentity,
        };
        let all =
            [Done, Failed, Usage, SourceUnreadable, NotThere, Locked, WrongIdentity, Interrupted];
        let listed: Vec<u8> =
            HELP.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert_eq!(listed, all.map(Exit::code));
    }
}
