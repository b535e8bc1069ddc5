//! Arguments of `prove` and `verify-proof`.

use super::args::VaultArg;
use clap::Args;
use protocol::id::{OperatorId, PublicKey};
use std::path::PathBuf;
use std::str::FromStr;

/// Arguments of `prove`.
#[derive(Debug, Args)]
#[command(after_help = "\
It has what vault, devices and holders signed: the snapshot's log entry and who
countersigned it, the record of every stripe, and the receipt of every holder. It tells nothing of the content, and anybody can
check it with `strewn verify-proof`, without a mesh and without a key.

With the recovery identity the stripes are those that the snapshot needs, and those of the index; without it, all stripes
of the vault.

Example:
  strewn prove latest --identity recovery.txt > snapshot.proof")]
pub struct ProveArgs {
    /// The first digits of a snapshot's id, or `latest`
    pub snapshot: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// The recovery identity: an age identity file or an SSH private key [or: $`STREWN_IDENTITY_FILE`, $`STREWN_IDENTITY`]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Write it to this new file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `verify-proof`.
#[derive(Debug, Args)]
#[command(after_help = "\
Says who vouches, for how long every holder promised, and what would have to fall; where the policy is not kept, which stripe breaks
which clause, and the domains that show it.

A proof shows what was promised. It cannot show that labels are true: the operators named vouch for them, so compare these with
those you know, or name them with --operator. Whether holders keep their word, `strewn check --read-data` finds out.

Exit code 1 when the policy is not kept, or when it is no proof.")]
pub struct VerifyProofArgs {
    /// The proof; `-` is standard input
    pub proof: PathBuf,
    /// Only nodes for which this operator vouches count: its id or its fingerprint (repeatable) [default: all]
    #[arg(long, value_name = "OPERATOR")]
    pub operator: Vec<OperatorName>,
}

/// An operator, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorName {
    /// By its id.
    Id(OperatorId),
    /// By the fingerprint of its key.
    Fingerprint(String),
}

impl FromStr for OperatorName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let text = text.to_ascii_uppercase();
        let shape = PublicKey([0; 32]).fingerprint();
        let fits = text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(a, b)| (a == b'-') == (b == b'-'));
        if fits {
            return Ok(Self::Fingerprint(text));
        }
        Err("give the operator's id, 64 hex digits, or its whole fingerprint".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_named_by_id_or_by_fingerprint() {
        let operator = OperatorId([7; 32]);
        let fingerprint = operator.key().fingerprint();
        assert_eq!(operator.to_string().parse(), Ok(OperatorName::Id(operator)));
        for text in [fingerprint.clone(), fingerprint.to_lowercase()] {
            assert_eq!(text.parse(), Ok(OperatorName::Fingerprint(fingerprint.clone())));
        }
        for wrong in [&fingerprint[..9], "", "ours", &"-".repeat(29)] {
            assert!(wrong.parse::<OperatorName>().is_err(), "{wrong}");
        }
    }
}
