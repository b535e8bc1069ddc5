//! `recover`: a vault comes back to a machine that has nothing but the recovery identity.

use crate::cli::Exit;
use crate::cli::args::VaultArg;
use crate::cli::error::CliError;
use crate::cli::ops::SnapshotsArgs;
use crate::cli::output::Output;
use crate::cli::recovery::RecoverArgs;
use crate::client::recipients::Identities;
use crate::client::recovery::{self, Device, RecoverError, Recovered};
use crate::home::Home;
use crate::size::counted;
use libp2p::Multiaddr;

/// Does it.
pub async fn recover(home: &Home, args: RecoverArgs, output: &Output) -> Result<Exit, CliError> {
    let identities = Identities::find(args.identity.as_deref())?;
    let from: Vec<Multiaddr> = args.from.into_iter().map(|address| address.0).collect();
    let mut found = recovery::find(&from, &identities).await?;
    for fault in &found.faults {
        output.warn(fault);
    }
    found.choose(args.vault.as_deref())?;
    if args.name.is_some() && found.vaults.len() > 1 {
        let what =
            format!("the identity opens {} vaults, and one name was given", found.vaults.len());
        return Err(CliError::new(what)
            .next("choose one with --vault, or leave --name out")
            .exit(Exit::Usage));
    }
    let is_one = found.vaults.len() == 1;
    let mut failed = 0;
    for (id, candidates) in &found.vaults {
        let recipients = identities.recipients();
        let name = args.name.as_deref();
        let recovered =
            recovery::recover(home, candidates, recipients, &found.nodes, name, Device::Own).await;
        match recovered {
            Ok(recovered) => show(home, &recovered, output).await?,
            Err(error) if is_one => return Err(error.into()),
            // What keeps one vault away stops no other.
            Err(error) => {
                failed += 1;
                output.item_error("recover", &id.short(), &CliError::from(error).message());
            }
        }
    }
    if failed > 0 {
        let what = format!("{failed} of {} vaults could not be recovered", found.vaults.len());
        return Err(CliError::new(what).next("the messages above say why; the others are here"));
    }
    Ok(Exit::Done)
}

async fn show(home: &Home, recovered: &Recovered, output: &Output) -> Result<(), CliError> {
    let (vault, (up, silent)) = (&recovered.vault, recovered.nodes);
    for warning in &recovered.warnings {
        output.warn(warning);
    }
    if output.style().json {
        let body = serde_json::json!({
            "vault": vault.id, "name": vault.name, "fingerprint": vault.id.key().fingerprint(),
            "operator": vault.operator, "device": vault.device_id(), "recipients": vault.recipients,
            "nodes": up, "silent": silent, "warnings": recovered.warnings,
        });
        output.json("summary", &body);
    } else {
        output.good(format!("vault {} is here again", vault.name));
        output.line(format!(
            "  vault     {}\n  operator  {}\n  {}, {silent} silent\nCompare vault and operator with the recovery kit before the first backup.\n",
            vault.id.key().fingerprint(),
            vault.operator.key().fingerprint(),
            counted(up, "node"),
        ));
    }
    let vault = VaultArg { vault: Some(vault.name.clone()) };
    let listed = SnapshotsArgs { vault, tag: Vec::new(), all: false };
    let _ = super::data::snapshots(home, &listed, output).await?;
    output.line("\nNext: strewn restore SNAPSHOT DIR --identity FILE");
    Ok(())
}

impl From<RecoverError> for CliError {
    fn from(error: RecoverError) -> Self {
        let what = Self::new(error.to_string());
        match error {
            RecoverError::Client(error) => error.into(),
            RecoverError::NoAnswer(_) => what
                .next("give the address of another node with --from; the recovery kit lists some")
                .exit(Exit::NotThere),
            RecoverError::Nothing(_) => what
                .next("is this the vault's identity? If it is, ask another node: one that joined after the last backup knows nothing of it")
                .exit(Exit::WrongIdentity),
            RecoverError::Unusable { .. } => {
                what.next("ask another node with --from: this one may lie, or somebody misuses the vault's key")
            }
            RecoverError::Clock { .. } => what.next("set the clock of this machine (`date`), and try again"),
            RecoverError::NotAmong { .. } => what.next("name one of them with --vault").exit(Exit::NotThere),
            RecoverError::Known { .. } => what.next("nothing is to be done: `strewn snapshots` lists what is in it"),
            RecoverError::NoPapers(_) => {
                what.next("start more nodes, or ask another one with --from").exit(Exit::NotThere)
            }
            RecoverError::NotLetIn { .. } => what
                .next("is the clock of this machine right (`date`)? If it is, ask another node with --from")
                .exit(Exit::NotThere),
        }
    }
}
