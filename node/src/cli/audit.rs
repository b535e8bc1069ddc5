//! Arguments of `audit`.

use super::args::VaultArg;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Holders are asked to prove that they have the shards that they promised to keep: pieces that chance chooses, checked against the shards'
names. That moves some 50 KiB a shard instead of all of it, and makes each holder read its shards once.

Who answers and cannot prove what it promised broke its word: what it signed is written to a file, and anybody can check that
with `strewn verify-proof FILE`. Who is silent is offline, and not guilty.

Holders ask each other all the time as well; what convicts one they keep, and --collect fetches it.

A node is asked about what it says it holds; whether that is all that it should hold, `strewn status` shows. Whether what was
backed up can be opened, `strewn check --read-data` finds out.

Exit code 1 when something was not proved.")]
pub struct AuditArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub vault: VaultArg,
    /// Only nodes whose ids begin so (repeatable) [default: all]
    #[arg(long, value_name = "NODE")]
    pub node: Vec<String>,
    /// Only a part of the shards, drawn at random each time, such as 5%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub sample: Option<f64>,
    /// Ask nobody for proofs, and write down what holders have found out about each other
    #[arg(long, conflicts_with_all = ["node", "sample"])]
    pub collect: bool,
    /// Where files go that show who broke its word [default: the vault's folder]
    #[arg(long, value_name = "DIR")]
    pub evidence: Option<PathBuf>,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>();
    match number {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("give a percentage, such as 5%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_percentage() {
        assert_eq!(percent("5%"), Ok(5.0));
        assert_eq!(percent(" 0.5 % "), Ok(0.5));
        assert_eq!(percent("100"), Ok(100.0));
        for wrong in ["", "0", "0%", "101%", "NaN", "-1", "1/2"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
