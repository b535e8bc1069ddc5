//! The command line: what can be asked, and how answers and errors are shown.

use super::audit::AuditArgs;
use super::browse::{CatArgs, DiffArgs, FindArgs, LsArgs, MountArgs};
use super::forget::ForgetArgs;
use super::operator::OperatorCommand;
use super::ops::{
    CheckArgs, CompletionsArgs, DeviceCommand, ManArgs, SnapshotsArgs, TagArgs, WhatIfArgs,
};
use super::partner::PartnerCommand;
use super::proof::{ProveArgs, VerifyProofArgs};
use super::recovery::{CombineArgs, KitArgs, RecoverArgs, RecoveryCommand, SplitArgs};
use super::release::{HoldCommand, PruneArgs, ReleaseCommand};
use super::repair::RepairCommand;
use crate::config::RateLimit;
use crate::restore::tree::Overwrite;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Backup that no single account, provider or stolen key can destroy.
#[derive(Debug, Parser)]
#[command(name = "strewn", version, after_help = super::exit::HELP)]
pub struct Cli {
    /// The state folder [default: $`STREWN_HOME` or ~/.strewn]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Answer in JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Say less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Send at most so many bytes a second: 10MiB [default: limit-upload of strewn.toml]
    #[arg(long, global = true, value_name = "SIZE")]
    pub limit_upload: Option<RateLimit>,
    /// Receive at most so many bytes a second
    #[arg(long, global = true, value_name = "SIZE")]
    pub limit_download: Option<RateLimit>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this host the first node of a mesh: operator key, node key, certificate, settings
    Init(InitArgs),
    /// The node of this host
    #[command(subcommand)]
    Node(NodeCommand),
    /// Make a ticket with which one further node can join
    Invite(InviteArgs),
    /// Join a mesh with a ticket
    Join(JoinArgs),
    /// Show the nodes of the mesh
    Peers,
    /// Whose key speaks for this host's operator, and who names the next
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Other operators with whom capacity is swapped
    #[command(subcommand)]
    Partner(PartnerCommand),
    /// Vaults
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Let further hosts write to a vault
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Back up Git repositories, folders, files and streams
    Backup(BackupArgs),
    /// List snapshots
    Snapshots(SnapshotsArgs),
    /// Change the tags of snapshots
    Tag(TagArgs),
    /// Say which snapshots to keep, and forget the others
    Forget(ForgetArgs),
    /// Ask for the release of what no kept snapshot needs, and of shards that others have as well
    Prune(PruneArgs),
    /// Releases: what is about to be dropped, and who agrees to it or stops it
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// As a guardian, freeze all expiry of a vault
    #[command(subcommand)]
    Hold(HoldCommand),
    /// List what is in a snapshot
    Ls(LsArgs),
    /// Write a file of a snapshot to standard output
    Cat(CatArgs),
    /// Find files by name, kind and time in all snapshots
    Find(FindArgs),
    /// Show what changed between two snapshots
    Diff(DiffArgs),
    /// Show all snapshots as folders, until it is unmounted
    Mount(MountArgs),
    /// Restore a snapshot
    Restore(RestoreArgs),
    /// Bring a vault back to a machine that has nothing but the recovery identity
    Recover(RecoverArgs),
    /// Try the recovery before it is needed
    #[command(subcommand)]
    Recovery(RecoveryCommand),
    /// Check that everything is there and can be restored
    Check(CheckArgs),
    /// Have holders prove that they have what they promised to keep
    Audit(AuditArgs),
    /// Say which snapshots survive a loss
    WhatIf(WhatIfArgs),
    /// The logs of a vault
    #[command(subcommand)]
    Log(LogCommand),
    /// Write down who promised to keep a snapshot: a proof that anybody can check
    Prove(ProveArgs),
    /// Check such a proof, or what `audit` wrote, without a mesh and without a key
    VerifyProof(VerifyProofArgs),
    /// Show nodes, health and exposure, and one line that says it all
    ///
    /// With --json its last field, `survey`, is what a rehearsal needs: the nodes with their operators, certified labels and room, the
    /// vault's policy, and on which nodes how many stripes lie. `strewn-sim what-if --from-mesh FILE` and `strewn-sim run SCENARIO
    /// --from-mesh FILE` read it; simulator/README.md describes its fields.
    Status(VaultArg),
    /// What the nodes make good by themselves
    #[command(subcommand)]
    Repair(RepairCommand),
    /// Show it all on this machine: nine nodes, a backup, the loss of a provider, a restore
    Demo(DemoArgs),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

/// About the node of this host.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Run it, in the foreground
    Run,
    /// Say whether what it stores is in doubt, and why; with --clear, take the doubt away
    #[command(
        after_help = "A node whose state database was damaged, gone or rolled back makes it again from its shards, and drops nothing until its\n\
operator has looked after it: `strewn check` on a host that writes to the vaults says whether shards are missing. Then stop the\n\
node, clear the doubt, and start it again. What was cleared is kept in node/doubt.cleared.N."
    )]
    Doubt {
        /// Take it away: everything was looked after. The node must be stopped
        #[arg(long)]
        clear: bool,
    },
    /// Empty it, so that it can be taken away and nobody misses it
    #[command(
        after_help = "Use it before a host is given up, sold or rebuilt. The node takes no new shards from then on, and what it holds comes to lie on other\n\
nodes as their vaults' policies ask, while it still answers. It drops nothing: its locks are promises. It goes on across restarts.\n\n\
This command follows it, and ends when the node may leave: no stripe would be worse off without it. Then stop it, and delete what it\n\
has. Ctrl-C ends the following and not the leaving; the same command follows again. Where too few nodes are left to take its shards,\n\
it says how many stripes would fall below their policy if the node went now, and why they cannot be moved: mostly nodes, room or\n\
providers are missing. Stripes that keep their policy without it hold nobody up.\n\n\
Exit code 0 when it may leave, 1 when that cannot be reached now or the node does not answer, 130 when interrupted."
    )]
    Drain {
        /// It stays after all: what it holds counts again, and it takes new shards
        #[arg(long)]
        cancel: bool,
    },
    /// Show it: its labels, what shows that they are true, and for what a cloud's document has to be made
    Show,
    /// Put what a partner vouches for into a node's certificate; needs the operator's key
    #[command(
        after_help = "The line is the one that `strewn partner vouch` printed there. For this host's node the certificate is written here; for another node of the\n\
operator, which has to answer, a line is printed with which the same command takes it in on that node's host, without the operator's key.\n\
The node takes it up in a few seconds, or when it is started."
    )]
    Carry {
        /// The line
        line: String,
    },
    /// Let a node go on that lets nothing expire; it must be stopped
    #[command(
        after_help = "A node's lock clock freezes when other operators do not agree on the time, or when it counted more time than they say has\n\
passed; nothing expires then. It thaws by itself once they agree. Say this when you have looked into it: the clock goes on from\n\
where it stands. While the others still disagree it freezes again.\n\
A node that was set back to an older disk (another node has its signature under a promise that it does not know any more) lets\n\
nothing expire either. Then this makes it go on above what others have seen, and all its locks begin anew."
    )]
    Thaw,
}

/// About the logs of a vault.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Verify every signature and chain, and that each node still shows what it showed before
    #[command(
        after_help = "Every device has a log that only grows, and every node has all of it. A device that signed two different entries of one number\n\
has forked its log: its key is in other hands, or its host was set back. A node that does not show any more what it once showed\n\
was set back to an older disk, or lies. What nodes showed is remembered in the vault's folder here.\n\n\
Exit code 1 when something is wrong."
    )]
    Verify {
        #[command(flatten)]
        #[allow(missing_docs)]
        vault: VaultArg,
    },
}

/// About vaults.
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Make a vault
    #[command(
        after_help = "Without a recipient, a recovery identity is made and shown once: keep it away from this host.\n\n\
Example policy file:\n  [survive]\n  any = [ { provider = 1 }, { account = 2 } ]\n  [lock]\n  period = \"90d\""
    )]
    Create {
        /// Its name on this host
        name: String,
        /// What it must survive (TOML)
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// Who can read it: age1…, ssh-ed25519 …, ssh-rsa … (repeatable)
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Vec<String>,
    },
    /// List the vaults of this host
    List,
    /// Print all that a recovery needs, to be kept on paper
    Kit(KitArgs),
    /// Split the recovery identity among people
    Split(SplitArgs),
    /// Put the recovery identity together from its parts
    Combine(CombineArgs),
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where this node lies: provider=aws, account=1234, region=eu-west-1 … (repeatable)
    #[arg(long, value_name = "LEVEL=NAME")]
    pub label: Vec<protocol::label::Label>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub node: NodeArgs,
}

/// How a node is set up.
#[derive(Debug, Args, Default)]
pub struct NodeArgs {
    /// Where to listen (repeatable) [default: /ip4/0.0.0.0/tcp/7440 and /ip4/0.0.0.0/udp/7440/quic-v1]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<libp2p::Multiaddr>,
    /// Where others reach this node, if elsewhere (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub external: Vec<libp2p::Multiaddr>,
    /// How much it takes [default: 100GiB]
    #[arg(long, value_name = "SIZE")]
    pub quota: Option<crate::size::ByteSize>,
}

/// Arguments of `invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// Labels that the new node gets; it may state others itself (repeatable)
    #[arg(long, value_name = "LEVEL=NAME")]
    pub label: Vec<protocol::label::Label>,
    /// For how long the ticket counts
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = super::ops::validity)]
    pub expires: protocol::time::Period,
}

/// Arguments of `join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// The ticket, as `strewn invite` printed it
    pub ticket: String,
    /// Where this node lies (repeatable)
    #[arg(long, value_name = "LEVEL=NAME")]
    pub label: Vec<protocol::label::Label>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub node: NodeArgs,
}

/// Which vault.
#[derive(Debug, Default, Args)]
pub struct VaultArg {
    /// The vault [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub vault: Option<String>,
}

/// Arguments of `backup`.
#[derive(Debug, Default, Args)]
#[command(after_help = BACKUP_HELP)]
pub struct BackupArgs {
    /// Git repositories, folders and files [default: those of the profiles in strewn.toml]
    #[arg(conflicts_with = "stdin")]
    pub source: Vec<PathBuf>,
    /// Every Git repository below this folder, each as a snapshot of its own (repeatable)
    #[arg(long, value_name = "DIR", conflicts_with_all = ["stdin", "from_command", "as_directory"])]
    pub git_root: Vec<PathBuf>,
    /// Only this profile of strewn.toml (repeatable) [default: all]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["source", "git_root"])]
    pub profile: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// A word to find the snapshot by (repeatable)
    #[arg(long)]
    pub tag: Vec<String>,
    /// Take Git repositories as plain folders
    #[arg(long)]
    pub as_directory: bool,
    /// Go on although the policy cannot be met; the snapshot is marked
    #[arg(long)]
    pub allow_degraded: bool,
    /// Read every file again
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub rules: RuleArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub stream: StreamArgs,
}

/// What of folders is left out.
#[derive(Debug, Args, Default)]
pub struct RuleArgs {
    /// Leave out what matches, in the syntax of .gitignore, relative to the folder (repeatable)
    #[arg(long, value_name = "PATTERN", help_heading = "Leaving out")]
    pub exclude: Vec<String>,
    /// Leave out what matches a line of this file; --exclude has the last word (repeatable)
    #[arg(long, value_name = "FILE", help_heading = "Leaving out")]
    pub exclude_file: Vec<PathBuf>,
    /// Leave out what is in caches: folders with a valid CACHEDIR.TAG
    #[arg(long, help_heading = "Leaving out")]
    pub exclude_caches: bool,
    /// Leave out what is in folders on other file systems than the source itself
    #[arg(long, help_heading = "Leaving out")]
    pub one_file_system: bool,
}

/// A stream instead of folders.
#[derive(Debug, Args, Default)]
pub struct StreamArgs {
    /// Back up what comes on standard input
    #[arg(long, requires = "name", conflicts_with = "from_command", help_heading = "Streams")]
    pub stdin: bool,
    /// Back up what the command after -- writes; if it fails, no snapshot is written
    #[arg(long, requires_all = ["name", "source"], help_heading = "Streams")]
    pub from_command: bool,
    /// The name of the file that the stream becomes
    #[arg(long, value_name = "NAME", help_heading = "Streams")]
    pub name: Option<String>,
}

/// What is not plain from the arguments of `backup`.
const BACKUP_HELP: &str = "\
Of a folder everything is kept: hard links, holes, extended attributes, access control lists, devices, FIFOs.
A folder with an entry `.nobackup` is always kept as an empty folder; so is a cache with --exclude-caches, and
where another file system begins with --one-file-system.

Of a Git repository references, all objects that they and the reflogs reach, the stash, LFS objects, hooks, settings
and the repositories of submodules are kept; what is not committed is not, and is named. --git-root finds bare
repositories and those with a work tree, and follows no links; --exclude says where not to look.

What vanishes, cannot be read, or changes while it is read is named; the rest is saved, and the exit code is 3.

Examples:
  strewn backup --git-root /srv/git --exclude /archive/
  strewn backup ~/work --exclude '*.o' --exclude '/target/'
  pg_dumpall | strewn backup --stdin --name db.sql
  strewn backup --from-command --name db.sql -- pg_dump --format custom shop";

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = RESTORE_HELP)]
pub struct RestoreArgs {
    /// The first digits of a snapshot's id, or `latest`
    #[arg(required = true, value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    /// Where to; of several snapshots each goes into a folder in it, with the name of its source
    pub target: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// Only this path and what is below it (repeatable)
    #[arg(long, value_name = "PATH")]
    pub path: Vec<PathBuf>,
    /// The recovery identity: an age identity file or an SSH private key [or: $`STREWN_IDENTITY_FILE`, $`STREWN_IDENTITY`]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Write into a folder that is not empty, and over what is there already; what the snapshot does not have stays
    #[arg(long, value_name = "WHEN", num_args = 0..=1, default_missing_value = "always", hide_possible_values = true)]
    pub overwrite: Option<Overwrite>,
    /// Show what would be done, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// At the end read everything again from the disk, and compare it with the snapshot
    #[arg(long, conflicts_with = "dry_run")]
    pub verify: bool,
    /// Of a Git repository, write plain bundles, with a README that says how to use them with Git alone
    #[arg(long, conflicts_with_all = ["path", "overwrite", "dry_run", "verify"])]
    pub as_bundle: bool,
}

/// What is not plain from the arguments of `restore`.
const RESTORE_HELP: &str = "\
Without --overwrite the target must be empty, or be what an interrupted restore of the same snapshot left. With it:
  always      every file and link is replaced; of a file only what differs is fetched (default)
  if-changed  the same, but a file with the size and time of the snapshot is taken to be the same
  if-newer    what is older than in the snapshot is replaced
  never       what is there is kept

A restore that was interrupted (Ctrl-C, a crash, no network) goes on where it was when the same command is given again.
Until then the target has a file `.strewn-restore-*`, and files that are not whole are called `.strewn-partial-*`.

A Git repository is restored to where nothing is.

Examples:
  strewn restore latest ~/restored --identity recovery.txt
  strewn restore 1a2b3c4d 5e6f7a8b /srv/git
  strewn restore 1a2b3c4d ~/work --path src/main.rs --overwrite if-newer --dry-run
  strewn restore latest /srv/www --overwrite if-changed --verify";

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// What to back up [default: the repository here]
    pub source: Option<PathBuf>,
    /// What to lose: provider=aws, account=gcp-2 … (repeatable) [default: provider=aws]
    #[arg(long, value_name = "LEVEL=NAME")]
    pub lose: Vec<protocol::label::Label>,
    /// Leave the mesh running, and say how to use it
    #[arg(long)]
    pub keep: bool,
}
