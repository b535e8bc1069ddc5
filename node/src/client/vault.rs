//! A vault as this host knows it: its keys, papers and caches.

use super::device::Revocations;
use super::mesh::{Mesh, Node};
use super::papers::Shown;
use super::recovery::card;
use super::{ClientError, Result, operator, recipients};
use crate::home::{
    Home, create_key, random, read_key, read_secret, read_signed, write_secret, write_signed,
};
use crate::service::wall;
use futures::StreamExt;
use protocol::certificate::{
    CertificateError, DeviceCertificate, NodeCertificate, ROSTER_MAX, Roster, VaultCertificate,
    VaultDescriptor, VaultPapers,
};
use protocol::codec::Blob;
use protocol::id::{DeviceId, NodeId, OperatorId, VaultId};
use protocol::log::Entry;
use protocol::message::{Request, Response, VaultState};
use protocol::policy::Policy;
use protocol::seal::VaultSecret;
use protocol::sign::{SecretKey, Signed, Statement};
use protocol::time::Period;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long certificates of vaults and devices count.
pub(super) const VALIDITY: Period = Period::days(10 * 365);

/// Nodes that are asked for their papers at once.
const ASKED_AT_ONCE: usize = 16;

/// A scratch folder that is older was left behind.
const SCRATCH_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A vault that this host writes to.
#[derive(Debug)]
pub struct Vault {
    /// Its name here.
    pub name: String,
    dir: PathBuf,
    /// Its id.
    pub id: VaultId,
    /// Who vouches for it.
    pub operator: OperatorId,
    /// This host's key.
    pub device: SecretKey,
    /// The vault's word for it.
    pub device_certificate: Signed<DeviceCertificate>,
    /// What devices share.
    pub secret: VaultSecret,
    /// Papers as holders get them.
    pub papers: VaultPapers,
    /// Who can read it.
    pub recipients: Vec<String>,
    /// What must be survived.
    pub policy: Policy,
    key: Option<SecretKey>,
    is_revoked: bool,
}

/// Makes a vault. Needs the operator's key.
pub fn create(home: &Home, name: &str, policy: &Policy, recipients: &[String]) -> Result<Vault> {
    recipients::check(recipients)?;
    let dir = home.vault(name)?;
    if dir.join("vault.cert").exists() {
        return Err(ClientError::VaultExists(name.into()));
    }
    let speaker = operator::speaker_for(home, "making a vault")?;
    let key = create_key(&dir.join("vault.key"), "the signing key of a vault")?;
    let device = create_key(&dir.join("device.key"), "the key of this device for a vault")?;
    let secret = random()?;
    write_secret(&dir.join("secret.key"), "the dedup secret of a vault", &secret)?;
    let (vault, issued) = (VaultId::from(key.public()), wall());
    let expires = issued.after(VALIDITY);
    let device_certificate =
        DeviceCertificate { vault, device: DeviceId::from(device.public()), issued, expires };
    write_signed(&dir.join("device.cert"), &Signed::sign(&device_certificate, &key))?;
    let descriptor = VaultDescriptor {
        vault,
        version: 1,
        recipients: recipients.to_vec(),
        sealed_secret: Blob(recipients::seal(recipients, &secret)?),
        policy: policy.clone(),
    };
    write_signed(&dir.join("descriptor"), &Signed::sign(&descriptor, &key))?;
    let roster = Roster { vault, version: 1, nodes: Vec::new() };
    write_signed(&dir.join("roster"), &Signed::sign(&roster, &key))?;
    let certificate = VaultCertificate { vault, operator: speaker.operator(), issued, expires };
    let certificate = Signed::speak(&certificate, &speaker);
    let sealed = card::secret_of(&certificate, &key, &VaultSecret(secret), name);
    let _ = card::make(&dir, &sealed, recipients)?;
    // Written last: a vault without it was not made.
    write_signed(&dir.join("vault.cert"), &certificate)?;
    load(home, name)
}

/// Loads a vault.
pub fn load(home: &Home, name: &str) -> Result<Vault> {
    let dir = home.vault(name)?;
    let missing = || ClientError::NoVault(name.into());
    let papers = VaultPapers {
        certificate: read_signed(&dir.join("vault.cert"))?.ok_or_else(missing)?,
        descriptor: read_signed(&dir.join("descriptor"))?.ok_or_else(missing)?,
        roster: read_signed(&dir.join("roster"))?.ok_or_else(missing)?,
    };
    let terms = papers.verify(wall())?;
    Ok(Vault {
        name: name.into(),
        id: terms.certificate.vault,
        operator: terms.certificate.operator,
        device: read_key(&dir.join("device.key"))?.ok_or_else(missing)?,
        device_certificate: read_signed(&dir.join("device.cert"))?.ok_or_else(missing)?,
        secret: VaultSecret(*read_secret(&dir.join("secret.key"))?.ok_or_else(missing)?),
        recipients: terms.descriptor.recipients,
        policy: terms.descriptor.policy,
        key: read_key(&dir.join("vault.key"))?,
        papers,
        dir,
        is_revoked: false,
    })
}

/// The vault of this name, or the only one there is.
pub fn choose(home: &Home, name: Option<&str>) -> Result<Vault> {
    if let Some(name) = name {
        return load(home, name);
    }
    match home.vaults()?.as_slice() {
        [] => Err(ClientError::NoVault("at all".into())),
        [name] => load(home, name),
        names => Err(ClientError::NoVault(format!(
            "chosen: name one with --vault: {}",
            names.join(", ")
        ))),
    }
}

/// Shows what each node that answers knows of a vault, a few nodes at a time: rosters can be long.
pub(super) async fn states(mesh: &Mesh, vault: VaultId, mut each: impl FnMut(&Node, VaultState)) {
    let asked = mesh
        .nodes
        .values()
        .map(|node| async move { (node, node.request(&Request::Vault(vault)).await) });
    let mut answers = futures::stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
    while let Some((node, answer)) = answers.next().await {
        if let Ok(Response::Vault(Some(state))) = answer {
            each(node, *state);
        }
    }
}

impl Vault {
    /// This host's id.
    #[must_use]
    pub fn device_id(&self) -> DeviceId {
        self.device.public().into()
    }

    /// A file of its cache.
    #[must_use]
    pub fn cache(&self, name: &str) -> PathBuf {
        self.caches().join(name)
    }

    /// The last entry that this device signed; `None` before the first.
    pub(super) fn log_head(&self) -> Result<Option<Signed<Entry>>> {
        Ok(read_signed(&self.dir.join("log.head"))?)
    }

    /// Keeps the last entry that this device signed. It must be durable before anybody gets the entry.
    pub(super) fn set_log_head(&self, entry: &Signed<Entry>) -> Result<()> {
        Ok(write_signed(&self.dir.join("log.head"), entry)?)
    }

    /// Waits until no other process of this host appends to the device's log, and keeps others from it for as
    /// long as the file is open.
    pub(super) fn lock_log(&self) -> Result<File> {
        let path = self.dir.join("log.lock");
        let file = File::options().create(true).append(true).open(&path)?;
        file.lock()?;
        Ok(file)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// The folder of its caches.
    #[must_use]
    pub fn caches(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// The vault's key, on the hosts that have it.
    #[must_use]
    pub fn key(&self) -> Option<&SecretKey> {
        self.key.as_ref()
    }

    /// Takes in newer papers that the nodes have: other devices may have listed nodes since. Which devices were revoked is
    /// brought to the nodes that have not heard of it.
    pub async fn refresh(&mut self, mesh: &Mesh) {
        let (mut revocations, mut shown) = (Revocations::default(), Shown::default());
        let whose = (self.id, self.operator);
        states(mesh, self.id, |node, state| {
            revocations.take(node.id, whose.0, &state);
            if let Err(error) = shown.take(state.papers, whose, wall()) {
                tracing::warn!(%error, node = node.id.short(), "a node's papers of the vault do not count");
            }
        })
        .await;
        if let Err(error) = self.take_papers(shown) {
            tracing::warn!(%error, "newer papers of the vault cannot be taken");
        }
        revocations.spread(mesh).await;
        self.is_revoked = revocations.has(self.device_id());
    }

    /// Whether nodes say that the vault took this device's right to write away.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.is_revoked
    }

    /// Takes of these papers what is newer.
    fn take_papers(&mut self, mut shown: Shown) -> Result<()> {
        let ours = self.papers.verify(wall())?;
        if let Some(signed) = shown.descriptor(ours.descriptor.version) {
            let descriptor = signed.verify().map_err(CertificateError::from)?;
            write_signed(&self.dir.join("descriptor"), &signed)?;
            self.papers.descriptor = signed;
            self.recipients = descriptor.recipients;
            self.policy = descriptor.policy;
        }
        if let Some(signed) = shown.roster(ours.roster.version) {
            write_signed(&self.dir.join("roster"), &signed)?;
            self.papers.roster = signed;
        }
        Ok(())
    }

    /// The nodes that the roster lists.
    pub fn listed(&self) -> Result<BTreeSet<NodeId>> {
        let roster = self.papers.roster.verify().map_err(CertificateError::from)?;
        let nodes = roster.nodes.iter().filter_map(|signed| signed.verify().ok());
        Ok(nodes.map(|certificate| certificate.node).collect())
    }

    /// An empty folder among its caches, which goes away with the value. What a killed process left is removed.
    pub(super) fn scratch(&self, prefix: &str) -> Result<TempDir> {
        std::fs::create_dir_all(self.caches())?;
        for entry in std::fs::read_dir(self.caches())? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if entry.file_name().to_string_lossy().starts_with(prefix) && age > SCRATCH_AGE {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(tempfile::Builder::new().prefix(prefix).tempdir_in(self.caches())?)
    }

    /// Lists these nodes in the roster, besides those listed. Nodes are never taken off here: what they
    /// hold is still theirs to serve. Needs the vault's key; without it the roster stays as it is.
    pub fn extend_roster(&mut self, nodes: &[Signed<NodeCertificate>]) -> Result<bool> {
        let roster = self.papers.roster.verify().map_err(CertificateError::from)?;
        let listed = with_nodes(&roster.nodes, nodes);
        if listed == roster.nodes {
            return Ok(false);
        }
        // Without the vault's key new nodes are just not used: another device lists them.
        let Some(key) = &self.key else { return Ok(false) };
        let version = roster.version.saturating_add(1);
        let roster = Roster { vault: self.id, version, nodes: listed };
        self.papers.roster = Signed::sign(&roster, key);
        write_signed(&self.dir.join("roster"), &self.papers.roster)?;
        Ok(true)
    }
}

/// A roster's nodes with these besides, each by its newest certificate, as far as a roster can carry them: a partner's certificates may be long, and
/// a roster that is too long would be read by nobody.
fn with_nodes(
    listed: &[Signed<NodeCertificate>],
    nodes: &[Signed<NodeCertificate>],
) -> Vec<Signed<NodeCertificate>> {
    /// What a roster has besides its nodes.
    const REST: usize = 1 << 10;
    let node_of = |signed: &Signed<NodeCertificate>| signed.verify().ok().map(|c| c.node);
    let len_of = |signed: &Signed<NodeCertificate>| signed.to_bytes().len();
    let mut all = listed.to_vec();
    let mut len = REST + all.iter().map(len_of).sum::<usize>();
    for signed in nodes {
        let node = node_of(signed);
        let known = all.iter().position(|known| node_of(known) == node);
        let freed = known.map_or(0, |at| len_of(&all[at]));
        if len - freed + len_of(signed) > Roster::LEN_MAX
            || known.is_none() && all.len() >= ROSTER_MAX
        {
            continue;
        }
        len = len - freed + len_of(signed);
        match known {
            Some(at) => all[at] = signed.clone(),
            None => all.push(signed.clone()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::certificate::Authority;
    use protocol::evidence::{Cloud, DOCUMENT_LEN_MAX, Document, Vouch};
    use protocol::label::Labels;
    use protocol::time::Wall;

    /// A node's certificate that is as long as its operator can make it.
    fn long(node: u8) -> Signed<NodeCertificate> {
        let key = |seed: u8| SecretKey::from_seed(&[seed; 32]);
        let labels = Labels::new(["provider=p".parse().unwrap()]).unwrap();
        let (issued, expires) = (Wall(1), Wall(2));
        let text: Blob = vec![0; DOCUMENT_LEN_MAX].into();
        let vouch = |by: u8| Vouch {
            by: key(by).public().into(),
            node: key(node).public().into(),
            labels: labels.clone(),
            document: Some(Document {
                cloud: Cloud::Aws,
                text: text.clone(),
                signature: Vec::new().into(),
            }),
            issued,
            expires,
        };
        let vouches = [1, 2, 3].map(|by| Signed::sign(&vouch(by), &key(by))).to_vec();
        let certificate = NodeCertificate {
            node: key(node).public().into(),
            operator: key(0).public().into(),
            labels: labels.clone(),
            issued,
            expires,
            authority: Authority::Shown { vouches },
        };
        Signed::sign(&certificate, &key(0))
    }

    #[test]
    fn a_roster_lists_no_more_than_it_can_carry() {
        let nodes: Vec<Signed<NodeCertificate>> = (10..60).map(long).collect();
        let listed = with_nodes(&nodes[..2], &nodes);
        assert!(listed.len() > 30 && listed.len() < 50, "{}", listed.len());
        assert_eq!(listed[..2], nodes[..2]);
        let key = SecretKey::from_seed(&[9; 32]);
        let roster = Roster { vault: key.public().into(), version: 1, nodes: listed };
        assert!(Signed::sign(&roster, &key).verify().is_ok());
        assert_eq!(with_nodes(&roster.nodes, &nodes), roster.nodes);
    }
}
