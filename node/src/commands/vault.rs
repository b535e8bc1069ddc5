//! `vault create`, `vault list`.

use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Output};
use crate::client::{recipients, vault};
use crate::home::Home;
use protocol::policy::{Policy, PolicyText};
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
