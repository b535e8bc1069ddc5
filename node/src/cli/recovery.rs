//! Arguments of recovery: bringing a vault back to an empty machine, and what has to be ready for that.

use super::args::VaultArg;
use crate::address::Address;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `recover`.
#[derive(Debug, Args)]
#[command(after_help = RECOVER_HELP)]
pub struct RecoverArgs {
    /// The recovery identity: an age identity file or an SSH private key [or: $`STREWN_IDENTITY_FILE`, $`STREWN_IDENTITY`]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// A node of the mesh that runs: /ip4/192.0.2.10/tcp/7440, 192.0.2.10:7440 or node.example.org (repeatable)
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub from: Vec<Address>,
    /// The vault's name on this host [default: the name that it had]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only the vault whose id, fingerprint or name begins so [default: all that the identity opens]
    #[arg(long, value_name = "VAULT")]
    pub vault: Option<String>,
}

/// What is not plain from the arguments of `recover`.
const RECOVER_HELP: &str = "\
For a machine that has nothing but the recovery identity. Afterwards `strewn snapshots`, `restore` and `backup` work as
they did where the vault was made. What is on this host already is not overwritten; a recovery that was interrupted is
done again by the same command.

Compare the vault and the operator that are shown with those of the recovery kit before you back up into it.

Each node knows the vaults that were backed up while it was a member. Where one knows nothing, ask another one.

Example:
  strewn recover --identity recovery.txt --from 192.0.2.10:7440";

/// About recovery.
#[derive(Debug, Subcommand)]
pub enum RecoveryCommand {
    /// With nothing but the kit, recover into a folder that goes away and restore a file that chance chooses
    Drill(DrillArgs),
}

/// Arguments of `recovery drill`.
#[derive(Debug, Args)]
#[command(after_help = DRILL_HELP)]
pub struct DrillArgs {
    /// The kit, as `strewn vault kit` printed it
    #[arg(long, value_name = "FILE")]
    pub kit: Option<PathBuf>,
    /// The recovery identity, if it is not in the kit [or: $`STREWN_IDENTITY_FILE`, $`STREWN_IDENTITY`]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// A node to begin with (repeatable) [default: those in the kit]
    #[arg(long, value_name = "ADDRESS")]
    pub from: Vec<Address>,
    /// The vault whose id, fingerprint or name begins so [default: that of the kit, or the only one]
    #[arg(long, value_name = "VAULT")]
    pub vault: Option<String>,
    /// Restore into this folder, and leave it there
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// What is not plain from the arguments of `recovery drill`.
const DRILL_HELP: &str = "\
Nothing of this host is used but the network: what is needed is recovered into a temporary folder, a file of a snapshot
is restored and compared, and all of it is removed. Of a Git repository all is restored. Holders see one and the same
device at each drill, and no log is written. Where the vault is on this host as well, `strewn status` shows when the last
drill was done.

Examples:
  strewn recovery drill --kit kit.txt
  strewn recovery drill --identity recovery.txt --from 192.0.2.10:7440 --keep /tmp/drill";

/// Arguments of `vault kit`.
#[derive(Debug, Args)]
#[command(after_help = KIT_HELP)]
pub struct KitArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// Put the recovery identity on the page [default: a line to write it on]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Write a page for a printer, with QR codes, into this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// What is not plain from the arguments of `vault kit`.
const KIT_HELP: &str = "\
The page has the vault, its operator, addresses of nodes in different domains and the command to type. With the
identity on it, whoever finds it reads the backup. The file is for its owner alone and loads nothing from anywhere.

Examples:
  strewn vault kit > kit.txt
  strewn vault kit --identity recovery.txt --html kit.html";

/// Arguments of `vault split`.
#[derive(Debug, Args)]
#[command(after_help = SPLIT_HELP)]
pub struct SplitArgs {
    /// So many parts are needed, 2 at least
    #[arg(long, value_name = "N")]
    pub need: u8,
    /// So many parts are made, 64 at most
    #[arg(long, value_name = "N")]
    pub parts: u8,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// The recovery identity: an age identity file or an SSH private key [or: $`STREWN_IDENTITY_FILE`, $`STREWN_IDENTITY`]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Write each part into a file of its own in this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What is not plain from the arguments of `vault split`.
const SPLIT_HELP: &str = "\
Each part is one line to print and to type. Whoever has fewer than are needed learns nothing. Where this host has the
vault, the identity is checked against it first.

Example:
  strewn vault split --need 3 --parts 5 --identity recovery.txt --out parts";

/// Arguments of `vault combine`.
#[derive(Debug, Args)]
#[command(after_help = "\
Parts that are mistyped, of different splits, given twice or altered are named. Without arguments parts are read from
standard input, with an empty line after each; so they are not seen by other users of this host.

Example:
  strewn vault combine part-1-of-5.txt part-4-of-5.txt part-5-of-5.txt --out recovery.txt")]
pub struct CombineArgs {
    /// Parts, or files with one each
    #[arg(value_name = "PART")]
    pub part: Vec<String>,
    /// Write the identity into this file, and do not show it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
