//! Arguments of `partner`.

use super::ops::validity;
use crate::size::ByteSize;
use clap::{Args, Subcommand};
use protocol::evidence::Cloud;
use protocol::label::Label;
use protocol::tally::Month;
use protocol::time::Period;
use std::path::PathBuf;
use std::str::FromStr;

/// About partners: other operators with whom capacity is swapped.
#[derive(Debug, Subcommand)]
pub enum PartnerCommand {
    /// Print the line by which another operator adds this one
    #[command(
        after_help = "Give it to the other operator, by any way, and take theirs; then each adds the other. Whoever carries the lines could swap them: so compare\n\
both fingerprints by voice. Each is of an operator and of the key that speaks for it, so it is another one once heirs are named or the key has changed. Nothing in\n\
the line is secret."
    )]
    Ticket {
        /// What this operator calls itself [default: this host's name]
        #[arg(long)]
        name: Option<String>,
    },
    /// Add a partner, by the line that it printed; needs the operator's key
    #[command(
        after_help = "The nodes of both operators then know each other. Nothing is stored for a partner before something is agreed: strewn partner propose.\n\
It is done once, on the host with the operator's key: its node tells the operator's other nodes. Where no node runs on that host,\n\
copy the file `partners` from its state folder into that of a node.\n\
A later line of the same partner says where its nodes are now, which key speaks for it and who its heirs are; what was agreed stays. A line that shows\n\
fewer of its keys than are known here, or another successor, is refused: then compare by voice, and remove the partner and add it again if its people say so."
    )]
    Add {
        /// The line that `strewn partner ticket` printed there
        ticket: String,
        /// What it is called here [default: what it calls itself]
        #[arg(long)]
        name: Option<String>,
    },
    /// List the partners
    List,
    /// Show a partner, or what stands in a line that one has sent
    Show {
        /// Its name, key or fingerprint; or a line
        partner: String,
    },
    /// Remove a partner; needs the operator's key
    #[command(
        after_help = "Its nodes are strangers from then on, and nothing new is stored for it. What is held for it stays until its locks have ended and it is released;\n\
its hosts can read it. What it holds for this operator's vaults can be read as long as it serves it, and is not counted on any more."
    )]
    Remove {
        /// Its name, key or fingerprint
        partner: String,
    },
    /// Propose a swap to a partner, or a change of it; needs the operator's key
    #[command(
        after_help = "It prints a line. The partner accepts it and sends another line back, which is accepted here; then both hold the same document, with both\n\
signatures. Until then what was agreed before counts.\n\n\
Example: strewn partner propose them --give 500GiB --take 500GiB --term 1y --notice 30d --max-lock 90d --labels provider=hetzner"
    )]
    Propose(ProposeArgs),
    /// Accept what a partner proposed, or take in what it has accepted; needs the operator's key
    #[command(after_help = "What stands in a line is shown by `strewn partner show LINE`.")]
    Accept {
        /// The line that the partner has sent
        line: String,
    },
    /// Say that labels of a partner's node are true, until a day; needs the operator's key
    #[command(
        after_help = "It prints a line, which the node's operator puts into its certificate: strewn node carry LINE. A policy that asks for evidence\n\
(provider_vouched = 1, or under [evidence] provider = \"vouched\") counts labels only of nodes for which another operator vouches whose\n\
nodes hold for the vault as well, or that whose vault it is.\n\n\
With --document the labels are those that a cloud has signed, and count as attested. It is verified offline by the keys in the state folder:\n\
roots/aws/*.pem (Amazon's certificate of each region), roots/gcp/*.json (Google's keys, a JWK set), roots/azure/*.pem (who issues the certificates of\n\
metadata.azure.com). `strewn node show` on the node says for what the cloud has to make it. Amazon's document names no node: with it you\n\
sign yourself that this node runs on that machine.\n\n\
Example: strewn partner vouch 3f9ac0 --label provider=hetzner --for 365d"
    )]
    Vouch(VouchArgs),
    /// Divide what a partner may store among the nodes that this operator has now; needs the operator's key
    #[command(
        after_help = "Each of the operator's nodes holds an equal part of what the agreement gives, so that all together never hold more. The nodes are those that are\n\
known when an agreement is accepted. Say this when nodes have come or gone."
    )]
    Share {
        /// Its name, key or fingerprint
        partner: String,
    },
    /// Give notice of what is agreed with a partner; needs the operator's key
    #[command(
        after_help = "A signed statement goes to the nodes of both sides. What either has with the other is moved to other nodes from then on, as far as there are any, and\n\
at the end of the notice nothing new is taken; what was promised stays. `strewn partner show` says how much is still to be moved, and what has no place.\n\
Both operators can begin anew with a further agreement: strewn partner propose."
    )]
    Leave {
        /// Its name, key or fingerprint
        partner: String,
    },
    /// Show what nodes held and did in a month: this operator's for partners, and partners' for its vaults
    #[command(
        after_help = "Each node signs what it says. With --verify the receipts that partners' nodes show for the vaults of this host are counted again: a month in\n\
which nothing was dropped comes to the same, to the byte. Bytes sent and received and audits are what those signed for who were served; that is added up as well,\n\
from what the holder shows and what they have. With --countersign, which needs the operator's key,\n\
what is borne out is signed as well, given back to the node, and kept in the state folder under `statements`: neither side can dispute it later.\n\n\
Example: strewn partner statement --month 2026-10 --verify --csv"
    )]
    Statement(StatementArgs),
    /// Show what was given to partners and taken from them in a month, in bytes times days
    #[command(
        after_help = "A byte-day is a byte held for a day: 10 GiB for 30 days are 300 GiB of them. `given` is what this operator's nodes held for the partner, `taken` what its\n\
nodes held for this operator; `sent to it` and `read from it` are bytes that left for it, and came from it, when data was read. All as the nodes state it that answer:\n\
`strewn partner statement --verify` counts it again."
    )]
    Balance {
        /// Which month, as 2026-10 [default: this one]
        #[arg(long)]
        month: Option<Month>,
    },
}

/// A cloud.
#[derive(Debug, Clone, Copy)]
pub struct CloudArg(pub Cloud);

impl FromStr for CloudArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Cloud::Aws, Cloud::Gcp, Cloud::Azure]
            .into_iter()
            .find(|cloud| crate::cloud::name(*cloud) == text)
            .map(Self)
            .ok_or_else(|| "aws, gcp or azure".into())
    }
}

/// Arguments of `partner vouch`.
#[derive(Debug, Args)]
pub struct VouchArgs {
    /// The node, by the first digits of its name
    pub node: String,
    /// What is true of it (repeatable) [default with --document: all that it shows]
    #[arg(long, value_name = "LEVEL=NAME", value_delimiter = ',')]
    pub label: Vec<Label>,
    /// What a cloud has signed about its machine
    #[arg(long, value_name = "FILE", requires = "cloud")]
    pub document: Option<PathBuf>,
    /// The document's signature, where that is apart from it
    #[arg(long, value_name = "FILE", requires = "document")]
    pub signature: Option<PathBuf>,
    /// Which cloud: aws, gcp or azure
    #[arg(long, requires = "document")]
    pub cloud: Option<CloudArg>,
    /// For how long it counts, 400 days at most
    #[arg(long = "for", default_value = "365d", value_name = "TIME", value_parser = validity)]
    pub period: Period,
}

/// Arguments of `partner statement`.
#[derive(Debug, Args)]
pub struct StatementArgs {
    /// Only this partner: its name, key or fingerprint
    pub partner: Option<String>,
    /// Which month, as 2026-10 [default: this one]
    #[arg(long)]
    pub month: Option<Month>,
    /// Count the receipts that partners' nodes show again
    #[arg(long)]
    pub verify: bool,
    /// Sign what the receipts bear out, and give it back; needs the operator's key
    #[arg(long)]
    pub countersign: bool,
    /// Print comma-separated values
    #[arg(long)]
    pub csv: bool,
}

/// Arguments of `partner propose`.
#[derive(Debug, Args)]
pub struct ProposeArgs {
    /// Its name, key or fingerprint
    pub partner: String,
    /// How much this operator's nodes hold for its vaults, all together
    #[arg(long, value_name = "SIZE")]
    pub give: ByteSize,
    /// How much its nodes hold for this operator's vaults
    #[arg(long, value_name = "SIZE")]
    pub take: ByteSize,
    /// For how long
    #[arg(long, default_value = "1y", value_name = "TIME", value_parser = validity)]
    pub term: Period,
    /// How long before the end whoever leaves says so
    #[arg(long, default_value = "30d", value_name = "TIME", value_parser = validity)]
    pub notice: Period,
    /// The longest lock that either promises the other
    #[arg(long, default_value = "90d", value_name = "TIME", value_parser = validity)]
    pub max_lock: Period,
    /// Where this operator's nodes lie that hold for it (repeatable)
    #[arg(long, value_name = "LEVEL=NAME", value_delimiter = ',')]
    pub labels: Vec<Label>,
    /// Where its nodes are to lie (repeatable)
    #[arg(long, value_name = "LEVEL=NAME", value_delimiter = ',')]
    pub asks: Vec<Label>,
}
