//! Further devices of a vault: a host asks, a host with the vault's key answers, and the first one takes the vault.
//!
//! Both ways it is one line that people carry (`line`). The request is signed by the new device and names an
//! age recipient that was made for it alone; the answer has the vault's papers (with a roster that lists nobody: the
//! holders have the real one), the device's certificate, and the vault's dedup secret sealed to that recipient.

use super::ledger::{Ledger, Logged};
use super::mesh::{Caller, Mesh};
use super::recipients::Identities;
use super::recovery::card;
use super::tags::Catalog;
use super::vault::{self, Vault, states};
use super::{ClientError, Result, recipients};
use crate::config::{ClientConfig, Config};
use crate::home::{Home, create_key, read_file, read_key, write_file, write_secret, write_signed};
use crate::line::{LineError, from_line, to_line};
use crate::service::{full_address, wall};
use protocol::certificate::{
    CertificateError, DeviceCertificate, DeviceRequest, DeviceRevocation, Roster, VaultPapers,
};
use protocol::codec::Blob;
use protocol::id::{DeviceId, NodeId, OperatorId, VaultId};
use protocol::message::{Request, VaultState};
use protocol::recovery::drill_key;
use protocol::sign::Signed;
use protocol::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const REQUEST: &str = "strewnreq1";
const GRANT: &str = "strewndev1";
/// Longest request, in characters.
const REQUEST_LEN_MAX: usize = 4 << 10;
/// Longest answer, in characters: a descriptor with 32 long recipients fits.
const GRANT_LEN_MAX: usize = 160 << 10;
/// Nodes that an answer names to begin with, and addresses of each.
const NODES_MAX: usize = 6;
/// Addresses of each.
const ADDRESSES_MAX: usize = 2;

/// Why a host cannot become a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No request.
    #[error("this is no request of a device: {0}")]
    Request(LineError),
    /// No answer.
    #[error("this is no answer to a request: {0}")]
    Grant(LineError),
    /// What the line says does not count.
    #[error("the line does not count: {0}")]
    Certificate(#[from] CertificateError),
    /// It is the answer to somebody else's request.
    #[error("the line is the answer to a request of device {}, and no such request was made here", .0.short())]
    NotAsked(DeviceId),
    /// What it carries cannot be opened or used.
    #[error("the line cannot be used: {0}")]
    Content(String),
    /// Only who has the vault's key lets others in.
    #[error("the key of vault {0} is not here")]
    NoKey(String),
    /// No device of this name, or several.
    #[error("{1} devices of the vault begin with {0:?}")]
    Unknown(String, usize),
    /// This host would lock itself out.
    #[error("this is the device of this host")]
    Own,
    /// The vault is here.
    #[error("this host writes to this vault already, as {0}")]
    Known(String),
    /// Everything else.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl From<crate::home::HomeError> for DeviceError {
    fn from(error: crate::home::HomeError) -> Self {
        Self::Client(error.into())
    }
}

/// What the host with the vault's key answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Grant {
    papers: VaultPapers,
    device: Signed<DeviceCertificate>,
    /// The vault's dedup secret, as an age file.
    sealed_secret: Blob,
    /// What the vault is called there.
    name: String,
    /// Nodes to begin with.
    addresses: Vec<String>,
}

fn key_file(home: &Home, device: DeviceId) -> PathBuf {
    home.path(&format!("requests/{device}.key"))
}

fn identity_file(home: &Home, device: DeviceId) -> PathBuf {
    home.path(&format!("requests/{device}.age"))
}

/// Makes the keys of a device to be, and the line that asks for it.
pub fn request(home: &Home, host: &str) -> std::result::Result<(DeviceId, String), DeviceError> {
    let fresh = home.path("requests/new.key");
    let key = create_key(&fresh, "the key of a device of a vault that is not accepted yet")?;
    let device = DeviceId::from(key.public());
    let (identity, recipient) = recipients::generate();
    write_file(&identity_file(home, device), format!("{identity}\n").as_bytes(), 0o600)?;
    std::fs::rename(&fresh, key_file(home, device)).map_err(ClientError::from)?;
    let host = host.chars().take(64).collect();
    let request = Signed::sign(&DeviceRequest { device, recipient, host }, &key);
    Ok((device, to_line(REQUEST, &request)))
}

/// What a request says, verified.
pub fn read_request(line: &str) -> std::result::Result<DeviceRequest, DeviceError> {
    let signed: Signed<DeviceRequest> =
        from_line(REQUEST, REQUEST_LEN_MAX, line).map_err(DeviceError::Request)?;
    let request = signed.verify().map_err(CertificateError::from)?;
    // Sealing to whatever else is a recipient would be somebody's mistake.
    if !request.recipient.starts_with("age1") {
        return Err(DeviceError::Content("its recipient is none of age's".into()));
    }
    recipients::check(std::slice::from_ref(&request.recipient))?;
    Ok(request)
}

/// Brings the vault's papers on this host and on the nodes up to date: the new device learns from them who may hold
/// what it writes. How many nodes took the recovery card; `None` where this host has none.
pub async fn introduce(vault: &mut Vault, mesh: &Mesh) -> Result<Option<usize>> {
    vault.refresh(mesh).await;
    vault.extend_roster(&mesh.certificates())?;
    for (node, answer) in mesh.ask_all(&Request::Introduce(vault.papers.clone())).await {
        if let Err(error) = answer {
            tracing::warn!(%error, node = node.id.short(), "a node does not take the vault");
        }
    }
    // Nodes whose operators do not know each other hear of each other from the vault that they hold.
    let operators: BTreeSet<OperatorId> = mesh.nodes.values().map(|n| n.site.operator).collect();
    if operators.len() > 1 {
        let records = mesh.nodes.values().map(|node| node.record.clone()).collect();
        for (node, answer) in mesh.ask_all(&Request::Members(records)).await {
            if let Err(error) = answer {
                tracing::warn!(%error, node = node.id.short(), "a node does not hear of the others");
            }
        }
    }
    card::hand_out(vault, mesh).await
}

/// Which devices were revoked, and which nodes know of it.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    orders: BTreeMap<DeviceId, Signed<DeviceRevocation>>,
    nodes: BTreeMap<NodeId, BTreeSet<DeviceId>>,
}

impl Revocations {
    /// Takes in what a node knows.
    pub(super) fn take(&mut self, node: NodeId, vault: VaultId, state: &VaultState) {
        let known = self.nodes.entry(node).or_default();
        for signed in &state.revoked {
            let Ok(order) = signed.verify() else { continue };
            if order.vault == vault {
                known.insert(order.device);
                self.orders.entry(order.device).or_insert_with(|| signed.clone());
            }
        }
    }

    /// Whether a device was revoked.
    pub(super) fn has(&self, device: DeviceId) -> bool {
        self.orders.contains_key(&device)
    }

    /// Tells those nodes that do not know.
    pub(super) async fn spread(&self, mesh: &Mesh) {
        for (node, known) in &self.nodes {
            let Some(node) = mesh.nodes.get(node) else { continue };
            for (_, order) in self.orders.iter().filter(|(device, _)| !known.contains(device)) {
                if let Err(error) = node.request(&Request::Revoke(order.clone())).await {
                    tracing::debug!(%error, node = node.id.short(), "a revocation was not taken");
                }
            }
        }
    }
}

/// A device of a vault, as a list shows it.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceLine {
    /// Which.
    pub device: DeviceId,
    /// Whether it is the one of this host.
    pub here: bool,
    /// What its host calls itself, where this host can read that.
    pub host: Option<String>,
    /// Whether it is the one as which recovery drills read, where this host has the vault's key to tell.
    pub drill: bool,
    /// Until when its certificate counts.
    pub expires: Wall,
    /// Whether it may not write any more.
    pub revoked: bool,
    /// Entries in its log.
    pub entries: u64,
    /// When the last of them arrived.
    pub last: Option<Wall>,
}

/// All devices of a vault that nodes know.
pub async fn list(home: &Home, vault: &Vault) -> Result<Vec<DeviceLine>> {
    let mesh = Mesh::connect(home, Caller::device(vault)).await?;
    let ledger = Ledger::read(&mesh, vault).await?;
    let catalog = Catalog::read(vault, &ledger);
    let mut revocations = Revocations::default();
    let mut certificates = BTreeMap::new();
    states(&mesh, vault.id, |node, state| {
        revocations.take(node.id, vault.id, &state);
        let devices = state.devices.iter().filter_map(|signed| signed.verify().ok());
        for certificate in devices.filter(|certificate| certificate.vault == vault.id) {
            certificates.insert(certificate.device, certificate.expires);
        }
    })
    .await;
    let drill = vault.key().map(|key| drill_key(key).public().into());
    let mut lines = Vec::new();
    for (device, expires) in certificates {
        let of_device = || ledger.all().filter(|logged| logged.entry.device == device);
        let host = of_device().filter_map(|logged| catalog.info_of(vault, logged)).last();
        lines.push(DeviceLine {
            device,
            here: device == vault.device_id(),
            host: host.map(|info| info.host),
            drill: Some(device) == drill,
            expires,
            revoked: revocations.orders.contains_key(&device),
            entries: of_device().count() as u64,
            last: of_device().map(Logged::witnessed).max(),
        });
    }
    Ok(lines)
}

/// What a revocation came to.
#[derive(Debug, Clone, Serialize)]
pub struct Revoked {
    /// The device.
    pub device: DeviceId,
    /// Nodes that refuse it from now on.
    pub nodes: usize,
    /// Nodes that answer and did not take it, and why.
    pub failed: Vec<(NodeId, String)>,
    /// Nodes that do not answer.
    pub silent: usize,
}

/// Takes away a device's right to write. `name` is the first digits of its id.
pub async fn revoke(
    home: &Home,
    vault: &Vault,
    name: &str,
) -> std::result::Result<Revoked, DeviceError> {
    let key = vault.key().ok_or_else(|| DeviceError::NoKey(vault.name.clone()))?;
    let mut known = list(home, vault).await?;
    known.retain(|line| !name.is_empty() && line.device.to_string().starts_with(name));
    let device = match known.as_slice() {
        [one] if one.here => return Err(DeviceError::Own),
        [one] => one.device,
        some => return Err(DeviceError::Unknown(name.into(), some.len())),
    };
    let order = DeviceRevocation { vault: vault.id, device, issued: wall() };
    let order = Request::Revoke(Signed::sign(&order, key));
    let mesh = Mesh::connect(home, Caller::device(vault)).await?;
    let (mut nodes, mut failed) = (0, Vec::new());
    for (node, answer) in mesh.ask_all(&order).await {
        match answer {
            Ok(_) => nodes += 1,
            Err(error) => failed.push((node.id, error.to_string())),
        }
    }
    Ok(Revoked { device, nodes, failed, silent: mesh.silent.len() })
}

/// Addresses of some nodes that answer.
#[must_use]
pub fn addresses(mesh: &Mesh) -> Vec<String> {
    let records = mesh.nodes.values().filter_map(|node| node.record.verify().ok());
    let of_node = |record: protocol::certificate::NodeRecord| {
        let full = record
            .addresses
            .iter()
            .filter_map(|address| Some(full_address(&address.parse().ok()?, record.node)))
            .map(|address| address.to_string());
        full.take(ADDRESSES_MAX).collect::<Vec<_>>()
    };
    records.take(NODES_MAX).flat_map(of_node).collect()
}

/// The line that lets a device write to the vault, and until when.
pub fn grant(
    vault: &Vault,
    request: &DeviceRequest,
    valid: Period,
    addresses: Vec<String>,
) -> std::result::Result<String, DeviceError> {
    let key = vault.key().ok_or_else(|| DeviceError::NoKey(vault.name.clone()))?;
    let certificate = DeviceCertificate {
        vault: vault.id,
        device: request.device,
        issued: wall(),
        expires: wall().after(valid),
    };
    let nobody = Roster { vault: vault.id, version: 0, nodes: Vec::new() };
    let recipient = std::slice::from_ref(&request.recipient);
    let grant = Grant {
        papers: VaultPapers { roster: Signed::sign(&nobody, key), ..vault.papers.clone() },
        device: Signed::sign(&certificate, key),
        sealed_secret: Blob(recipients::seal(recipient, &vault.secret.0)?),
        name: vault.name.clone(),
        addresses,
    };
    Ok(to_line(GRANT, &grant))
}

/// Takes the vault that an answer to a request of this host names.
pub fn accept(
    home: &Home,
    line: &str,
    name: Option<&str>,
) -> std::result::Result<Vault, DeviceError> {
    let grant: Grant = from_line(GRANT, GRANT_LEN_MAX, line).map_err(DeviceError::Grant)?;
    let terms = grant.papers.verify(wall())?;
    let certificate = DeviceCertificate::verify(&grant.device, wall())?;
    let (id, device) = (terms.certificate.vault, certificate.device);
    if certificate.vault != id {
        return Err(CertificateError::Chain("the device is another vault's").into());
    }
    if let Some(known) = name_of(home, id)? {
        return Err(DeviceError::Known(known));
    }
    let key = read_key(&key_file(home, device))?.ok_or(DeviceError::NotAsked(device))?;
    let identity = read_file(&identity_file(home, device))?.ok_or(DeviceError::NotAsked(device))?;
    let identity = Identities::parse(&String::from_utf8_lossy(&identity))?;
    let secret = identity.open(&grant.sealed_secret.0)?;
    let secret: [u8; 32] = secret
        .try_into()
        .map_err(|_| DeviceError::Content("what it seals is no vault's secret".into()))?;

    let name = name.unwrap_or(&grant.name);
    let dir = home.vault(name)?;
    if dir.join("vault.cert").exists() {
        return Err(ClientError::VaultExists(name.into()).into());
    }
    write_secret(&dir.join("device.key"), "the key of this device for a vault", &key.seed())?;
    write_secret(&dir.join("secret.key"), "the dedup secret of a vault", &secret)?;
    write_signed(&dir.join("device.cert"), &grant.device)?;
    write_signed(&dir.join("descriptor"), &grant.papers.descriptor)?;
    write_signed(&dir.join("roster"), &grant.papers.roster)?;
    begin_at(home, &grant.addresses)?;
    // Written last: without it the vault is not here.
    write_signed(&dir.join("vault.cert"), &grant.papers.certificate)?;
    for file in [key_file(home, device), identity_file(home, device)] {
        std::fs::remove_file(file).map_err(ClientError::from)?;
    }
    Ok(vault::load(home, name)?)
}

/// What a vault is called on this host.
fn name_of(home: &Home, id: VaultId) -> Result<Option<String>> {
    for name in home.vaults()? {
        if vault::load(home, &name)?.id == id {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Enters nodes to begin with: in the settings where there are none yet, and among those met.
pub(super) fn begin_at(home: &Home, addresses: &[String]) -> Result<()> {
    let most = NODES_MAX * ADDRESSES_MAX;
    let nodes: Vec<libp2p::Multiaddr> =
        addresses.iter().take(most).filter_map(|address| address.parse().ok()).collect();
    if !home.path("strewn.toml").exists() {
        let client = ClientConfig { nodes: nodes.clone(), ..ClientConfig::default() };
        Config { client, ..Config::default() }.write(home)?;
    }
    let met = home.path("run/met");
    let mut lines = String::from_utf8_lossy(&read_file(&met)?.unwrap_or_default()).into_owned();
    lines.extend(nodes.iter().map(|node| format!("{node}\n")));
    Ok(write_file(&met, lines.as_bytes(), 0o644)?)
}

#[cfg(test)]
mod tests;
