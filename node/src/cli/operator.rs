//! Arguments of `operator`.

use super::ops::validity;
use crate::client::partners;
use clap::{Args, Subcommand, ValueEnum};
use protocol::id::PublicKey;
use protocol::time::Period;
use std::path::PathBuf;

/// About the operator of this host: which key speaks for it, and who names the next.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Show which key speaks for the operator of this host, and its heirs; or what stands in a line
    Show {
        /// A line that heirs are to sign
        line: Option<String>,
    },
    /// Make the key of an heir, and print what whoever names it needs
    #[command(
        after_help = "The file stays with the heir, offline. The line that is printed is no secret. Whoever is an operator can be an heir by the key that it has: strewn operator show."
    )]
    Heir {
        /// Where to write the key
        file: PathBuf,
    },
    /// Name who may say which key speaks next; needs the operator's key
    #[command(
        after_help = "Do it while the key is yours: heirs count where they were known before. From then on the key alone names no successor and no other heirs, and so many of the\n\
heirs together do: when the key is lost, stolen or to be changed. They sign nothing else, and see nothing.\n\
Partners get to know them by a new line: strewn partner ticket, which each partner adds again.\n\
Where heirs are named already it prints a line, which as many of these sign as it takes.\n\
An heir is a key, and not an operator: where an heir's key is lost or stolen, name the heirs anew. Give the operator's other nodes the certificates that are printed\n\
(strewn node carry LINE): so they know the heirs whatever happens to the list of partners.\n\n\
Example: strewn operator heirs --need 2 3f9a… 77c0… b1d2…"
    )]
    Heirs(HeirsArgs),
    /// Have a new key speak for the operator
    #[command(
        after_help = "Where no heirs are named the key that is here signs it and it counts at once. Otherwise a line is printed; heirs sign it (strewn operator sign LINE), and\n\
`strewn operator take LINE…` on this host puts together what they send back. The operator stays who it is: partners, agreements, vaults and\n\
accounts go on.\n\
What the earlier key signed before counts until the grace is over: time to renew the certificates of nodes. After a theft say --grace 0: then it counts no\n\
more at once, and no node's certificate is signed anew that was not named."
    )]
    Succeed {
        /// For how long nodes certified by the earlier key are still let in
        #[arg(long, default_value = "30d", value_name = "TIME", value_parser = grace)]
        grace: Period,
        #[command(flatten)]
        #[allow(missing_docs)]
        list: ListArgs,
    },
    /// As an heir, sign a line that was sent, and print it with the signature
    #[command(
        after_help = "Before you sign, speak with the people of that operator: nobody can take it back. `strewn operator show LINE` says what stands in it."
    )]
    Sign {
        /// The line
        line: String,
        /// The heir's key [default: this host's operator's]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Put together the lines that heirs have signed; once it takes no more, it counts
    #[command(
        after_help = "It is done on the host that made the line. The certificates of its node and its vaults are signed anew, and of the operator's other nodes that answer it prints the new\n\
certificate: strewn node carry LINE there. Of nodes that state labels by themselves, and after a theft of all, it shows what they have: sign what is yours with `strewn operator renew`.\n\
The list of partners is signed anew, too: look at each of them, whoever had the key may have added some.\n\
Then give partners a new line (strewn partner ticket), and back up, so that holders get the new word for the vaults."
    )]
    Take {
        /// The lines
        #[arg(required = true)]
        lines: Vec<String>,
        #[command(flatten)]
        #[allow(missing_docs)]
        list: ListArgs,
    },
    /// Sign a node's certificate anew; needs the operator's key
    #[command(
        after_help = "For nodes that did not answer when the key was changed. `strewn --json node show` there prints its certificate as a line.\n\
What the node stated by itself when it joined becomes the operator's word, where you say that it is true. It counts as long as the one before did."
    )]
    Renew {
        /// The node's certificate as a line
        certificate: String,
        /// Sign also what the node states by itself: it is true
        #[arg(long, conflicts_with = "without_declared")]
        declared_too: bool,
        /// Leave out what the node states by itself
        #[arg(long)]
        without_declared: bool,
    },
}

/// Which list of partners is signed anew.
#[derive(Debug, Clone, Copy, Args)]
pub struct ListArgs {
    /// Whose list of partners is signed anew, where nodes have a later one than this host and another key is to speak
    #[arg(long, value_enum, value_name = "WHOSE")]
    pub partners: Option<Whose>,
}

/// Where a list of partners lies.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Whose {
    /// In this host's state folder
    Here,
    /// With the operator's nodes
    Nodes,
}

impl From<Whose> for partners::Whose {
    fn from(whose: Whose) -> Self {
        match whose {
            Whose::Here => Self::Here,
            Whose::Nodes => Self::Nodes,
        }
    }
}

/// Arguments of `operator heirs`.
#[derive(Debug, Args)]
pub struct HeirsArgs {
    /// How many of them it takes [default: more than half]
    #[arg(long, value_name = "N")]
    pub need: Option<u8>,
    /// Their keys, 64 digits each
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<PublicKey>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub list: ListArgs,
}

impl HeirsArgs {
    /// How many of them it takes.
    pub fn need(&self) -> u8 {
        let most = self.keys.len() / 2 + 1;
        self.need.unwrap_or_else(|| u8::try_from(most).unwrap_or(u8::MAX))
    }
}

/// A grace may be none.
fn grace(text: &str) -> Result<Period, String> {
    if text == "0" { Ok(Period(0)) } else { validity(text) }
}
