//! Arguments of `prune`, `release` and `hold`.

use super::args::VaultArg;
use crate::size::ByteSize;
use clap::{Args, Subcommand};
use protocol::id::ReleaseId;
use protocol::repack::MaxUnused;
use protocol::time::Period;
use std::path::PathBuf;

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is deleted at once. Holders keep what is locked whatever anybody says; of what is not, they begin a cooldown, in which
any guardian of the vault can stop it, and a backup that needs it again takes it back. Nothing is changed without --apply, or a
yes to the question on a terminal.

Where the policy names guardians, --apply writes the request to a file, for each of them to approve with `strewn release
approve`, and `strewn release request` brings it to the holders. Ask again when locks have ended: each request counts for 90
days. What is given up is said in the vault's log: other hosts do not extend it, and do not miss it, from then on. Nodes may be
silent as long as the policy survives the loss of all of them together.

What --repack writes takes room at once, and what it replaces is kept until its locks end and the cooldown is over: for that time
both are stored.")]
pub struct PruneArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// The recovery identity: an age identity file or an SSH private key [or: $`STREWN_IDENTITY_FILE`, $`STREWN_IDENTITY`]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Ask for the release; needs the vault's key
    #[arg(long)]
    pub apply: bool,
    /// Write again what is needed of packs that hold much that nobody needs, and blocks of the index that list little, and
    /// give up the old ones
    #[arg(long)]
    pub repack: bool,
    /// With --repack: how much that nobody needs may stay, as a share of all (5%), a size (10GiB) or `unlimited`
    #[arg(long, value_name = "LIMIT", default_value = "5%", requires = "repack", value_parser = max_unused)]
    pub max_unused: MaxUnused,
    /// Write the request to this file instead of sending it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

fn max_unused(text: &str) -> Result<MaxUnused, String> {
    text.parse::<ByteSize>()
        .map(|size| MaxUnused::Bytes(size.0))
        .or_else(|_| text.parse::<MaxUnused>().map_err(|error| error.to_string()))
}

/// The key of a guardian.
#[derive(Debug, Args)]
pub struct GuardianArg {
    /// The guardian's key [default: the operator's key of this host]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// A vault that need not be one of this host.
#[derive(Debug, Args)]
pub struct AnyVaultArg {
    /// The vault: its name on this host, or its id, as the operator of this host's node
    #[arg(long, value_name = "NAME|ID")]
    pub vault: Option<String>,
}

/// About releases.
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Show what is about to be dropped, and what holds it up
    List {
        #[command(flatten)]
        #[allow(missing_docs)]
        vault: AnyVaultArg,
    },
    /// Bring a request to the holders, with what guardians say to it
    Request {
        /// The request that `strewn prune` wrote
        request: PathBuf,
        /// An approval that `strewn release approve` wrote (repeatable)
        #[arg(long, value_name = "FILE")]
        approval: Vec<PathBuf>,
        #[command(flatten)]
        #[allow(missing_docs)]
        vault: VaultArg,
    },
    /// As a guardian, agree to a request; nobody is asked, a file is written
    Approve {
        /// The request that `strewn prune` wrote
        request: PathBuf,
        /// Where the approval goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        #[allow(missing_docs)]
        guardian: GuardianArg,
    },
    /// Show the id of a guardian, for the policy of a vault
    Guardian {
        #[command(flatten)]
        #[allow(missing_docs)]
        guardian: GuardianArg,
    },
    /// As a guardian, stop a release for ever
    Veto {
        /// Its id, as `strewn release list` shows it
        release: ReleaseId,
        #[command(flatten)]
        #[allow(missing_docs)]
        vault: AnyVaultArg,
        #[command(flatten)]
        #[allow(missing_docs)]
        guardian: GuardianArg,
    },
}

/// About holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// As a guardian, freeze all expiry of a vault: what was about to be dropped stays
    On {
        /// For how long; it can be renewed
        #[arg(long, value_name = "PERIOD", default_value = "30d")]
        period: Period,
        #[command(flatten)]
        #[allow(missing_docs)]
        vault: AnyVaultArg,
        #[command(flatten)]
        #[allow(missing_docs)]
        guardian: GuardianArg,
    },
    /// End the guardian's own hold
    Off {
        #[command(flatten)]
        #[allow(missing_docs)]
        vault: AnyVaultArg,
        #[command(flatten)]
        #[allow(missing_docs)]
        guardian: GuardianArg,
    },
}
