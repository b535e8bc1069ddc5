//! Brings a vault back: becomes a device of it, gets its papers from the mesh, and writes its folder.

use super::find::Candidate;
use super::{RecoverError, card};
use crate::client::ClientError;
use crate::client::device::{addresses, begin_at};
use crate::client::mesh::{Caller, Mesh, operators_of};
use crate::client::papers::Shown;
use crate::client::vault::{self, VALIDITY, Vault};
use crate::home::{Home, create_key, read_key, write_secret, write_signed};
use crate::service::wall;
use libp2p::Multiaddr;
use protocol::certificate::{
    CertificateError, DeviceCertificate, RECIPIENTS_MAX, VaultDescriptor, VaultPapers,
};
use protocol::id::VaultId;
use protocol::recovery::{RecoveryCard, RecoveryTag};
use protocol::sign::{SecretKey, Signed};
use std::collections::BTreeSet;
use std::path::Path;

/// As which device a vault comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// A new one, of this host.
    Own,
    /// That of all drills.
    Drill,
}

/// A vault that is back.
#[derive(Debug)]
pub struct Recovered {
    /// It.
    pub vault: Vault,
    /// The nodes that answered, and those that did not.
    pub nodes: (usize, usize),
    /// What whoever recovers should know.
    pub warnings: Vec<String>,
}

/// Brings the vault of these cards back, the first card that leads to it before later ones. Nothing is overwritten; what
/// was interrupted is done again.
pub async fn recover(
    home: &Home,
    candidates: &[Candidate],
    identity: &[String],
    nodes: &[Multiaddr],
    name: Option<&str>,
    device: Device,
) -> Result<Recovered, RecoverError> {
    let mut last = None;
    for candidate in candidates {
        match recover_one(home, candidate, identity, nodes, name, device).await {
            Err(error @ (RecoverError::NotLetIn { .. } | RecoverError::NoPapers(_))) => {
                last = Some(error);
            }
            done => return done,
        }
    }
    Err(last.unwrap_or_else(|| RecoverError::Nothing("nobody".into())))
}

async fn recover_one(
    home: &Home,
    candidate: &Candidate,
    identity: &[String],
    nodes: &[Multiaddr],
    name: Option<&str>,
    device: Device,
) -> Result<Recovered, RecoverError> {
    let id = candidate.secret.vault();
    if let Some(name) = name_here(home, id)? {
        return Err(RecoverError::Known { vault: id, name });
    }
    let name = free_name(home, candidate, name)?;
    let dir = home.vault(&name)?;
    let (device, word) = match device {
        Device::Own => own_device(&dir, candidate)?,
        Device::Drill => {
            let drill = candidate.secret.drill_device().map_err(CertificateError::from);
            let (key, word) = drill.map_err(ClientError::from)?;
            write_secret(&dir.join("device.key"), "the key of recovery drills", &key.seed())?;
            (key, word)
        }
    };
    let (papers, mesh) = fetch(home, candidate, device, &word, nodes).await?;
    let descriptor: VaultDescriptor =
        papers.descriptor.verify().map_err(CertificateError::from).map_err(ClientError::from)?;
    let warnings = doubts(&descriptor, identity);
    write(&dir, candidate, &word, &papers)?;
    let recipients: Vec<String> = identity.iter().chain(&descriptor.recipients).cloned().collect();
    write_signed(&dir.join(card::FILE), &renewed(candidate, &recipients))?;
    let mut all = addresses(&mesh);
    all.extend(nodes.iter().map(ToString::to_string));
    begin_at(home, &all)?;
    // Written last: without it the vault is not here, and all of this is done again.
    write_signed(&dir.join("vault.cert"), &papers.certificate)?;
    let vault = vault::load(home, &name)?;
    Ok(Recovered { vault, nodes: (mesh.nodes.len(), mesh.silent.len()), warnings })
}

/// This host's key and the vault's word for it. The same key when it is done again: each one is a further device.
fn own_device(
    dir: &Path,
    candidate: &Candidate,
) -> Result<(SecretKey, Signed<DeviceCertificate>), RecoverError> {
    let file = dir.join("device.key");
    let device = match read_key(&file)? {
        Some(key) => key,
        None => create_key(&file, "the key of this device for a vault")?,
    };
    let word = DeviceCertificate {
        vault: candidate.secret.vault(),
        device: device.public().into(),
        issued: wall(),
        expires: wall().after(VALIDITY),
    };
    Ok((device, Signed::sign(&word, &candidate.secret.key)))
}

/// Whether a folder has a vault, or what is left of another one.
fn is_taken(dir: &Path, id: VaultId) -> Result<bool, RecoverError> {
    let other =
        read_key(&dir.join("vault.key"))?.is_some_and(|key| VaultId::from(key.public()) != id);
    Ok(other || dir.join("vault.cert").exists())
}

/// What the vault is called on this host, if it is here. One that cannot be loaded is no reason not to recover.
fn name_here(home: &Home, id: VaultId) -> Result<Option<String>, RecoverError> {
    let is_it = |name: &String| vault::load(home, name).is_ok_and(|vault| vault.id == id);
    Ok(home.vaults()?.into_iter().find(is_it))
}

/// The name asked for, or the one that the vault had, made different from those that are here.
fn free_name(
    home: &Home,
    candidate: &Candidate,
    asked: Option<&str>,
) -> Result<String, RecoverError> {
    let is_taken = |name: &str| is_taken(&home.vault(name)?, candidate.secret.vault());
    let short = candidate.secret.vault().short();
    let name = match asked {
        Some(name) => name.to_owned(),
        // Whoever sealed the card may have given a name that is none.
        None => match home.vault(&candidate.secret.name) {
            Ok(_) if !is_taken(&candidate.secret.name)? => candidate.secret.name.clone(),
            _ => format!("recovered-{short}"),
        },
    };
    if is_taken(&name)? {
        return Err(ClientError::VaultExists(name).into());
    }
    Ok(name)
}

/// Greets the mesh as a device of the vault, and takes the newest of the papers that its nodes have.
pub(super) async fn fetch(
    home: &Home,
    candidate: &Candidate,
    device: SecretKey,
    word: &Signed<DeviceCertificate>,
    nodes: &[Multiaddr],
) -> Result<(VaultPapers, Mesh), RecoverError> {
    let id = candidate.secret.vault();
    let vault = candidate.secret.certificate.clone();
    let mut believed = BTreeSet::from([candidate.operator]);
    loop {
        // Who was named may be a partner's: the roster that it shows says of whom to learn more.
        let (device, vault) = (device.clone(), vault.clone());
        let caller = Caller::of_device(device, vault, word.clone(), candidate.operator);
        caller.believe(believed.iter().copied());
        let mesh = Mesh::connect_at(home, caller.believing_nodes(nodes), nodes)
            .await
            .map_err(|source| RecoverError::NotLetIn { vault: id, source: Box::new(source) })?;
        let (mut shown, whose) = (Shown::default(), (id, candidate.operator));
        vault::states(&mesh, id, |node, state| {
            if let Err(error) = shown.take(state.papers, whose, wall()) {
                tracing::warn!(%error, node = node.id.short(), "a node's papers of the vault do not count");
            }
        })
        .await;
        let papers = shown.into_papers().ok_or(RecoverError::NoPapers(id))?;
        let roster = papers.roster.verify().map_err(CertificateError::from);
        let listed = operators_of(&roster.map_err(ClientError::from)?);
        let known = believed.len();
        believed.extend(listed);
        if believed.len() == known || known > 1 {
            return Ok((papers, mesh));
        }
    }
}

/// What of the papers does not fit to who recovers: somebody with the vault's key may have changed them.
fn doubts(descriptor: &VaultDescriptor, identity: &[String]) -> Vec<String> {
    let tags: Vec<RecoveryTag> = identity.iter().map(|text| RecoveryTag::of(text)).collect();
    if descriptor.recipients.iter().any(|text| tags.contains(&RecoveryTag::of(text))) {
        return Vec::new();
    }
    let warning = format!(
        "the vault is sealed to {} now, and this identity is none of them: if that was not you, somebody has the vault's key; \
         do not back up into this vault",
        descriptor.recipients.join(", ")
    );
    vec![warning]
}

/// The card that was opened, for nodes that join later: as it was sealed, because the vault's papers may name a recipient
/// that a thief added.
fn renewed(candidate: &Candidate, recipients: &[String]) -> Signed<RecoveryCard> {
    let recipients = &recipients[..recipients.len().min(RECIPIENTS_MAX)];
    let (id, sealed) = (candidate.secret.vault(), candidate.sealed.clone());
    Signed::sign(&RecoveryCard::new(id, wall().0, recipients, sealed), &candidate.secret.key)
}

/// Writes the vault's folder, but for what says that it is whole.
fn write(
    dir: &Path,
    candidate: &Candidate,
    word: &Signed<DeviceCertificate>,
    papers: &VaultPapers,
) -> Result<(), RecoverError> {
    let secret = &candidate.secret;
    write_secret(&dir.join("vault.key"), "the signing key of a vault", &secret.key.seed())?;
    write_secret(&dir.join("secret.key"), "the dedup secret of a vault", &secret.secret.0)?;
    write_signed(&dir.join("device.cert"), word)?;
    write_signed(&dir.join("descriptor"), &papers.descriptor)?;
    write_signed(&dir.join("roster"), &papers.roster)?;
    Ok(())
}
