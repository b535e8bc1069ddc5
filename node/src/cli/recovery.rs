//! Arguments of recovery: bringing a vault back to an empty machine.

use crate::address::Address;
use clap::Args;
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
