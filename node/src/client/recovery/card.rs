//! The recovery card of a vault on this host, and how holders get it.
//!
//! It is made once and stays as it is. It is not made again when the vault's papers name other recipients: they come from
//! the nodes, and whoever stole the vault's key could have this host seal the dedup secret to a recipient of his own.

use crate::client::mesh::Mesh;
use crate::client::vault::Vault;
use crate::client::{Result, recipients};
use crate::home::{read_signed, write_signed};
use crate::service::wall;
use protocol::certificate::VaultCertificate;
use protocol::message::Request;
use protocol::recovery::{NAME_LEN_MAX, RecoveryCard, RecoverySecret};
use protocol::sign::Signed;
use std::path::Path;

/// In the vault's folder.
pub(super) const FILE: &str = "recovery";

/// Makes the card of a vault and writes it into its folder.
pub(in crate::client) fn make(
    dir: &Path,
    secret: &RecoverySecret,
    recipients: &[String],
) -> Result<Signed<RecoveryCard>> {
    let sealed = recipients::seal(recipients, &secret.encode())?;
    // A host that was recovered does not know the number of the last one.
    let card = RecoveryCard::new(secret.vault(), wall().0, recipients, sealed);
    let signed = Signed::sign(&card, &secret.key);
    write_signed(&dir.join(FILE), &signed)?;
    Ok(signed)
}

/// What a card of this vault seals.
pub(in crate::client) fn secret_of(
    certificate: &Signed<VaultCertificate>,
    key: &protocol::sign::SecretKey,
    secret: &protocol::seal::VaultSecret,
    name: &str,
) -> RecoverySecret {
    let name = name.chars().take(NAME_LEN_MAX).collect();
    RecoverySecret {
        certificate: certificate.clone(),
        key: key.clone(),
        secret: secret.clone(),
        name,
    }
}

/// The card of a vault, made now where an older version made the vault. `None` where the vault's key is not.
pub(in crate::client) fn card_of(vault: &Vault) -> Result<Option<Signed<RecoveryCard>>> {
    if let Ok(Some(signed)) = read_signed::<RecoveryCard>(&vault.folder().join(FILE))
        && RecoveryCard::verify(&signed).is_ok_and(|card| card.vault == vault.id)
    {
        return Ok(Some(signed));
    }
    let Some(key) = vault.key() else { return Ok(None) };
    let secret = secret_of(&vault.papers.certificate, key, &vault.secret, &vault.name);
    make(vault.folder(), &secret, &vault.recipients).map(Some)
}

/// Gives the nodes the card. How many took it; `None` where there is none to give.
pub(in crate::client) async fn hand_out(vault: &Vault, mesh: &Mesh) -> Result<Option<usize>> {
    let Some(card) = card_of(vault)? else { return Ok(None) };
    let mut taken = 0;
    for (node, answer) in mesh.ask_all(&Request::Card(card)).await {
        match answer {
            Ok(_) => taken += 1,
            Err(error) => {
                tracing::warn!(%error, node = node.id.short(), "a node does not take the recovery card");
            }
        }
    }
    Ok(Some(taken))
}
