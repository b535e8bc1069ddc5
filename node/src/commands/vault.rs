//! `vault create`, `vault list`.

use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Output};
use crate::client::{recipients, vault};
use crate::home::Home;
use protocol::label::Level;
use protocol::policy::{Policy, PolicyText};
use std::collections::BTreeSet;
use std::path::Path;

/// Longest policy file, in bytes.
const POLICY_MAX: u64 = 64 << 10;

fn read_policy(path: &Path) -> Result<Policy, CliError> {
    let name = path.display();
    let wrong = |e: &dyn std::fmt::Display| CliError::new(format!("policy {name}: {e}"));
    let len = std::fs::metadata(path).map_err(|e| wrong(&e))?.len();
    if len > POLICY_MAX {
        return Err(wrong(&"the file is too long"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
    let text: PolicyText = toml::from_str(&text).map_err(|e| wrong(&e))?;
    Policy::try_from(text).map_err(|e| wrong(&e))
}

/// Makes a vault.
pub fn create(
    home: &Home,
    name: &str,
    policy: &Path,
    mut recipients: Vec<String>,
    output: &Output,
) -> Result<Exit, CliError> {
    let policy = read_policy(policy)?;
    let mut made = None;
    if recipients.is_empty() {
        let (identity, recipient) = recipients::generate();
        recipients.push(recipient);
        made = Some(identity);
    }
    for level in unusual(&policy) {
        output.warn(format!(
            "the policy names the level {level}, which is none of the usual ones ({}): where no node states it, all lie in one domain of it",
            USUAL.join(", ")
        ));
    }
    let vault = vault::create(home, name, &policy, &recipients)?;
    if output.style().json {
        output.json(
            "summary",
            &serde_json::json!({ "vault": vault.id, "name": name, "recipients": recipients, "identity": made }),
        );
        return Ok(Exit::Done);
    }
    output.good(format!("vault {name} is made: {}", vault.id));
    for recipient in &recipients {
        output.line(format!("  recipient {recipient}"));
    }
    if let Some(identity) = made {
        output.heading("\nThe recovery identity");
        output.result(&identity);
        output.line(
            "\nThis is the only thing that reads the vault, and it is shown only now. Write it down or save it\n\
             where this host cannot reach it. Backing up does not need it; restoring does (--identity FILE).",
        );
    }
    Ok(Exit::Done)
}

/// Levels that nodes mostly state, beside those of keys.
const USUAL: [&str; 9] = [
    "provider",
    "account",
    "region",
    "zone",
    "datacenter",
    "jurisdiction",
    "identity-provider",
    Level::OPERATOR,
    Level::NODE,
];

/// Levels of a policy that nobody may ever state: written wrong, perhaps.
fn unusual(policy: &Policy) -> BTreeSet<Level> {
    let clauses = policy.survive.any.iter().chain(&policy.conceal.any);
    let levels = clauses.flat_map(|clause| clause.0.keys()).map(|level| level.asks().0);
    levels.filter(|level| !USUAL.contains(&level.as_str())).collect()
}

/// Lists the vaults of this host.
pub fn list(home: &Home, output: &Output) -> Result<Exit, CliError> {
    let mut rows = Vec::new();
    for name in home.vaults()? {
        let vault = vault::load(home, &name)?;
        let clauses: Vec<String> =
            vault.policy.survive.any.iter().map(ToString::to_string).collect();
        if output.style().json {
            output.json(
                "vault",
                &serde_json::json!({ "name": name, "vault": vault.id, "survives": clauses }),
            );
        }
        rows.push(vec![name, vault.id.short(), clauses.join("; ")]);
    }
    output.table(
        &[Column::text("name"), Column::text("vault"), Column::text("survives the loss of")],
        rows,
    );
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_written_wrong_is_named() {
        let levels = |text: &str| -> Vec<String> {
            let text: PolicyText = toml::from_str(text).unwrap();
            let policy = Policy::try_from(text).unwrap();
            unusual(&policy).iter().map(ToString::to_string).collect()
        };
        let good = "[survive]\nany = [ { operator = 1 }, { provider_vouched = 1, node = 1 } ]";
        assert_eq!(levels(good), Vec::<String>::new());
        assert_eq!(levels("[survive]\nany = [ { operatr = 1 } ]"), ["operatr"]);
    }
}
