//! Arguments of the commands that look after a vault.

use super::args::VaultArg;
use crate::client::check::Subset;
use clap::{Args, Subcommand};
use clap_complete::Shell;
use protocol::label::Label;
use protocol::time::Period;
use std::path::PathBuf;

/// Arguments of `snapshots`.
#[derive(Debug, Args)]
#[command(
    after_help = "A snapshot counts when its log entry is held widely enough for the policy. One whose entry is not is marked (\"held\": false in \
                  JSON), and is never `latest` while there is one that is; where silent nodes may have it, nobody knows (\"held\": null)."
)]
pub struct SnapshotsArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// Only those with this tag (repeatable: with all of them)
    #[arg(long, value_name = "WORD")]
    pub tag: Vec<String>,
    /// Also those that `strewn forget` left out
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `tag`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is overwritten: the change is a new entry of the vault's log, and the last one counts."
)]
pub struct TagArgs {
    /// The first digits of snapshots' ids, or `latest`
    #[arg(required = true)]
    pub snapshot: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// Add this tag (repeatable)
    #[arg(long, value_name = "WORD", required_unless_present_any = ["remove", "set"])]
    pub add: Vec<String>,
    /// Remove this tag (repeatable)
    #[arg(long, value_name = "WORD")]
    pub remove: Vec<String>,
    /// Have this tag and no others but those that are set with it (repeatable); `--set ""` removes all
    #[arg(long, value_name = "WORD", conflicts_with_all = ["add", "remove"])]
    pub set: Vec<String>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Always checked: the logs of all devices (signatures, countersignatures, chains, and that the policy is kept), every
index pack, that there is a record of every stripe, that its holders say they have their shards, and that the policy
is kept. With the recovery identity also: that every chunk of every snapshot is in the index.

With --read-data every shard of every stripe is fetched and hashed, and with the identity every chunk is opened.

Exit code 1 when something is wrong.")]
pub struct CheckArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// The recovery identity: an age identity file or an SSH private key [or: $`STREWN_IDENTITY_FILE`, $`STREWN_IDENTITY`]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Fetch and check all data
    #[arg(long)]
    pub read_data: bool,
    /// Fetch and check a part: the second of five parts (2/5), a random percentage (10%) or a random part of a size (5GiB)
    #[arg(long, value_name = "PART", conflicts_with = "read_data")]
    pub read_data_subset: Option<Subset>,
}

/// Arguments of `what-if`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is changed. Nodes that are silent now count as lost as well.

Which stripes a snapshot needs is known to the recovery identity alone. Without it the answer is about all stripes of
the vault, and about a snapshot only where that decides.

Exit code 1 when a snapshot would be lost, or may be.")]
pub struct WhatIfArgs {
    /// What is lost: provider=aws, account=1234, node=0a1b2c3d (repeatable: all of it together)
    #[arg(long, value_name = "LEVEL=NAME", required = true)]
    pub lose: Vec<Label>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// The recovery identity: an age identity file or an SSH private key [or: $`STREWN_IDENTITY_FILE`, $`STREWN_IDENTITY`]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// About devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// On the new host, first: ask to become a device of a vault
    Request,
    /// On a host with the vault's key: let the host that asked write to the vault
    Add {
        /// The line that `strewn device request` printed on the new host
        request: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        vault: VaultArg,
        /// For how long it may write
        #[arg(long, default_value = "10y", value_name = "TIME", value_parser = validity)]
        valid: Period,
    },
    /// List the devices of a vault: who may write, who did, who may not any more
    List {
        #[command(flatten)]
        #[allow(missing_docs)]
        vault: VaultArg,
    },
    /// On a host with the vault's key: take a device's right to write away, for ever
    #[command(
        after_help = "For a host that was stolen, broken into or given away. Holders take nothing more from it; what it wrote before stays and is\n\
listed as before. It can still read what holders have, which is sealed: only the recovery identity opens snapshots.\n\
To let the host in again: `strewn device request` there makes a new key."
    )]
    Revoke {
        /// The first digits of the device's id
        device: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        vault: VaultArg,
    },
    /// On the new host, last: take the vault
    Accept {
        /// The line that `strewn device add` printed
        line: String,
        /// The vault's name on this host [default: its name there]
        #[arg(long)]
        name: Option<String>,
    },
}

/// As a period, with years.
pub(super) fn validity(text: &str) -> Result<Period, String> {
    let years = text.strip_suffix('y').and_then(|number| number.parse::<u64>().ok());
    match years {
        Some(years @ 1..=100) => Ok(Period::days(years * 365)),
        Some(_) => Err("1 to 100 years".into()),
        None => match text.parse() {
            Ok(Period(0)) => Err("no time at all".into()),
            Ok(period) => Ok(period),
            Err(_) => Err(format!("{text:?} is not a span of time: write 10y, 90d or 12h")),
        },
    }
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "For example: strewn completions bash > /etc/bash_completion.d/strewn\n             strewn completions zsh > ~/.zfunc/_strewn"
)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "For example: strewn man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// The folder to write to
    pub dir: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_a_time_that_can_be_meant() {
        assert_eq!(validity("10y"), Ok(Period::days(3650)));
        assert_eq!(validity("12h"), Ok(Period::seconds(12 * 3600)));
        for wrong in ["", "y", "0y", "0d", "1000y", "-1y", "soon"] {
            assert!(validity(wrong).is_err(), "{wrong}");
        }
    }
}
