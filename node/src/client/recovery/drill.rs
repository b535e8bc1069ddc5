//! The drill: recovers with nothing but the kit, in a home that goes away, and restores a file that chance chose.
//!
//! It comes as the drill's device, which is the same each time: a drill leaves nothing behind on the holders but its
//! first certificate, and writes to no log.

use super::find::{Candidate, find};
use super::take::{Device, recover};
use super::{RecoverError, Recovered};
use crate::cli::progress::Counters;
use crate::client::browse::{Browser, What};
use crate::client::ledger::Logged;
use crate::client::recipients::Identities;
use crate::client::restore::{RestoreOptions, RestoreSummary};
use crate::client::{ClientError, vault};
use crate::home::{Home, random, read_file, write_file};
use crate::service::wall;
use libp2p::Multiaddr;
use protocol::id::{EntryId, VaultId};
use protocol::item::SourceKind;
use protocol::time::Wall;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// In the vault's folder: when a drill was last done here, in milliseconds since 1970.
const FILE: &str = "drill";

/// What a drill did.
#[derive(Debug)]
pub struct Drilled {
    /// The vault.
    pub vault: VaultId,
    /// What it is called.
    pub name: String,
    /// Nodes that answered, and those that did not.
    pub nodes: (usize, usize),
    /// Snapshots that it has.
    pub snapshots: usize,
    /// The one that was chosen.
    pub snapshot: EntryId,
    /// What it is of.
    pub source: String,
    /// The file that was chosen; `None` where all of it was restored, as of a Git repository.
    pub path: Option<Vec<u8>>,
    /// How it was restored.
    pub restored: RestoreSummary,
    /// What whoever recovers should know.
    pub warnings: Vec<String>,
}

impl Drilled {
    /// Whether everything that was restored is as it was.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.restored.failed.is_empty()
            && self.restored.differs.is_empty()
            && self.restored.verified.is_none_or(|verified| verified > 0)
    }
}

/// Recovers in a folder that is empty, and restores something into another.
pub async fn drill(
    scratch: &Path,
    target: &Path,
    from: &[Multiaddr],
    identities: &Identities,
    wanted: Option<&str>,
) -> Result<Drilled, RecoverError> {
    let home = Home::new(scratch.to_owned());
    let mut found = find(from, identities).await?;
    found.choose(wanted)?;
    let mut vaults = found.vaults.values();
    let (Some(candidates), None) = (vaults.next(), vaults.next()) else {
        let known = found.names();
        return Err(RecoverError::NotAmong { wanted: "chosen".into(), known });
    };
    let recovered = back(&home, candidates, identities, &found.nodes).await?;
    let (nodes, warnings) = (recovered.nodes, recovered.warnings);
    let browser = Browser::open(&home, recovered.vault, identities).await?;
    let snapshots = browser.reader.ledger.snapshots();
    let Some(&snapshot) = pick(&snapshots)? else {
        return Err(ClientError::NoSnapshot("in the vault: back up first".into()).into());
    };
    let info = browser.info_of(snapshot);
    let is_git = info.as_ref().is_some_and(|info| info.kind == SourceKind::Git);
    let path = if is_git { None } else { a_file(&browser, snapshot).await? };
    let options = RestoreOptions {
        paths: path.iter().cloned().collect(),
        verify: true,
        ..RestoreOptions::default()
    };
    let progress = Arc::new(Counters::default());
    let restored = browser.reader.restore(snapshot, target, &options, &progress).await?;
    Ok(Drilled {
        vault: browser.reader.vault.id,
        name: browser.reader.vault.name.clone(),
        nodes,
        snapshots: snapshots.len(),
        snapshot: snapshot.id,
        source: info.map(|info| info.source).unwrap_or_default(),
        path,
        restored,
        warnings,
    })
}

async fn back(
    home: &Home,
    candidates: &[Candidate],
    identities: &Identities,
    nodes: &[Multiaddr],
) -> Result<Recovered, RecoverError> {
    recover(home, candidates, identities.recipients(), nodes, None, Device::Drill).await
}

/// A random number below `below`; the bias of the remainder does not matter for so few.
fn draw(below: u64) -> Result<u64, RecoverError> {
    let bytes = random()?;
    let number = u64::from_le_bytes(std::array::from_fn(|i| bytes[i]));
    Ok(number % below.max(1))
}

fn pick<T>(all: &[T]) -> Result<Option<&T>, RecoverError> {
    let at = draw(all.len() as u64)?;
    Ok(all.get(usize::try_from(at).unwrap_or_default()))
}

/// The path of any one file of a snapshot, each as likely as the others; all of it where it has none.
async fn a_file(browser: &Browser, snapshot: &Logged) -> Result<Option<Vec<u8>>, RecoverError> {
    let mut entries = browser.entries(snapshot).await?;
    let (mut chosen, mut seen) = (None, 0);
    while let Some(entry) = entries.next().await? {
        if matches!(entry.what, What::File { .. }) {
            seen += 1;
            if draw(seen)? == 0 {
                chosen = Some(entry.path().to_vec());
            }
        }
    }
    Ok(chosen)
}

/// Remembers that a drill was done now, where the vault is on this host.
pub fn remember(home: &Home, id: VaultId) -> Result<(), ClientError> {
    for name in home.vaults()? {
        // One that cannot be loaded is not this drill's business.
        if vault::load(home, &name).is_ok_and(|vault| vault.id == id) {
            let file = home.vault(&name)?.join(FILE);
            write_file(&file, format!("{}\n", wall().0).as_bytes(), 0o644)?;
        }
    }
    Ok(())
}

/// When the last drill was done on this host; `None` never.
pub(in crate::client) fn last(folder: &Path) -> Option<Wall> {
    let text = read_file(&PathBuf::from(folder).join(FILE)).ok()??;
    let millis = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    Some(Wall(millis))
}
