//! `vault kit`: the page with all that a recovery needs.

use super::share::check_opens;
use crate::cli::Exit;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::recovery::KitArgs;
use crate::client::device;
use crate::client::mesh::{Caller, Mesh, first_addresses};
use crate::client::recipients::{self, Identities};
use crate::client::recovery::{Kit, spread};
use crate::client::vault;
use crate::config::Config;
use crate::home::{Home, write_new};

/// Nodes on the page when none answers.
const NODES_MAX: usize = 6;

/// Why it is not sure that these nodes bring the vault back.
fn doubt(taken: Option<usize>, nodes: usize) -> Option<String> {
    match taken {
        None => Some("this host does not have the vault's key; whether the nodes have its recovery card only a drill can tell".into()),
        Some(taken) if taken < nodes => Some(format!(
            "{taken} of {nodes} nodes took the vault's recovery card; strewn recover finds nothing at the others: do they run this version?"
        )),
        Some(_) => None,
    }
}

/// Prints it.
pub async fn kit(home: &Home, args: KitArgs, output: &Output) -> Result<Exit, CliError> {
    let mut vault = vault::choose(home, args.vault.vault.as_deref())?;
    let identity = match &args.identity {
        Some(file) => {
            let text = recipients::find_text(Some(file))?;
            check_opens(&vault, &Identities::parse(&text)?)?;
            Some(recipients::secret_lines(&text).unwrap_or(text))
        }
        None => None,
    };
    let addresses = match Mesh::connect(home, Caller::device(&vault)).await {
        Ok(mesh) => {
            // A kit is of no use with nodes that do not keep the vault's card.
            let taken = device::introduce(&mut vault, &mesh).await?;
            if let Some(doubt) = doubt(taken, mesh.nodes.len()) {
                output.warn(doubt);
            }
            spread(&mesh)
        }
        Err(error) => {
            output.warn(format!("{error}; the addresses on the page are those known before"));
            let known = first_addresses(home, &Config::load(home)?)?;
            known.iter().take(NODES_MAX).map(ToString::to_string).collect()
        }
    };
    let kit = Kit::new(&vault, addresses, identity);
    if let Some(file) = &args.html {
        write_new(file, kit.html().as_bytes(), 0o600)?;
    }
    if output.style().json {
        let body = serde_json::json!({
            "vault": kit.vault, "name": kit.name, "fingerprint": kit.vault.key().fingerprint(),
            "operator": kit.operator, "recipients": kit.recipients, "addresses": kit.addresses,
            "made": kit.made, "command": kit.command(), "identity": kit.identity(), "html": args.html,
        });
        output.json("summary", &body);
        return Ok(Exit::Done);
    }
    match &args.html {
        Some(file) => {
            let file = file.display();
            output.good(format!("the page is in {file}: print it, and delete the file"));
        }
        None => output.result(kit.text().as_str()),
    }
    Ok(Exit::Done)
}
