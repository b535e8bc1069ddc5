//! What nodes did for a command, and the receipts that it gives them for that at its end ([`protocol::served`]).
//!
//! ```text
//! vaults/NAME/served/MONTH/NODE        the last receipt that this device gave
//! vaults/NAME/served/MONTH/NODE.due    the node did not say yet that it has it
//! ```
//! A receipt is written down before it is sent; several commands at once sign one after the other. Nobody is given one by its own operator.
//! A node that does not take it costs a command [`PATIENCE`] at most, and is given it by a later one.

use super::{Mesh, Node};
use crate::client::vault::Vault;
use crate::client::{ClientError, Result};
use crate::home::{read_signed, write_file, write_signed};
use crate::service::wall;
use protocol::id::{NodeId, VaultId};
use protocol::message::{Request, Response};
use protocol::served::ServiceReceipt;
use protocol::sign::{SecretKey, Signed};
use protocol::tally::{Done, Month};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long a command waits for nodes to take their receipts.
const PATIENCE: Duration = Duration::from_secs(5);
/// In the vault's folder: what was given.
const FOLDER: &str = "served";

impl Node {
    /// It did something for this command.
    pub fn note(&self, more: Done) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        *served = served.plus(more);
    }

    /// It sent bytes that are what they should be.
    pub fn note_sent(&self, sent: usize) {
        self.note(Done { sent: sent as u64, ..Done::default() });
    }

    fn take_served(&self) -> Done {
        std::mem::take(&mut *self.served.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The receipts of a month that this device gave, while nobody else signs any.
struct Book<'a> {
    device: &'a SecretKey,
    vault: VaultId,
    month: Month,
    folder: PathBuf,
    _lock: File,
}

impl<'a> Book<'a> {
    fn open(vault: &'a Vault, month: Month) -> io::Result<Self> {
        Self::at(vault.folder(), &vault.device, vault.id, month)
    }

    /// In the folder of a vault.
    fn at(dir: &Path, device: &'a SecretKey, vault: VaultId, month: Month) -> io::Result<Self> {
        let folder = dir.join(FOLDER).join(month.to_string());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let lock = File::create(dir.join(FOLDER).join("lock"))?;
        lock.lock()?;
        Ok(Self { device, vault, month, folder, _lock: lock })
    }

    fn due(&self, holder: NodeId) -> PathBuf {
        self.folder.join(format!("{holder}.due"))
    }

    fn last(&self, holder: NodeId) -> Result<Option<Signed<ServiceReceipt>>> {
        Ok(read_signed(&self.folder.join(holder.to_string()))?)
    }

    /// The receipt that a node is to be given, if one is: the last one is given again until it is taken.
    fn next(&self, holder: NodeId, more: Done) -> Result<Option<Signed<ServiceReceipt>>> {
        let last = self.last(holder)?;
        if more == Done::default() {
            return Ok(last.filter(|_| self.due(holder).exists()));
        }
        let last = last.map(|signed| signed.verify()).transpose().map_err(ClientError::content)?;
        self.sign(holder, last.as_ref(), more).map(Some)
    }

    fn sign(
        &self,
        holder: NodeId,
        last: Option<&ServiceReceipt>,
        more: Done,
    ) -> Result<Signed<ServiceReceipt>> {
        let who = (self.device.public(), holder, self.vault);
        let receipt = ServiceReceipt::next(who, self.month, last, more);
        let signed = Signed::sign(&receipt, self.device);
        write_file(&self.due(holder), b"", 0o600)?;
        write_signed(&self.folder.join(holder.to_string()), &signed)?;
        Ok(signed)
    }

    /// A node has this one.
    fn taken(&self, holder: NodeId, given: &Signed<ServiceReceipt>) -> Result<()> {
        if self.last(holder)?.as_ref() == Some(given) {
            std::fs::remove_file(self.due(holder))?;
        }
        Ok(())
    }

    /// A node shows a later one than the last one here, which was lost: what was done since comes on top of it.
    fn follow(
        &self,
        holder: NodeId,
        shown: &Signed<ServiceReceipt>,
    ) -> Result<Option<Signed<ServiceReceipt>>> {
        let last = self.last(holder)?.and_then(|signed| signed.verify().ok());
        let shown = ServiceReceipt::verify(shown).map_err(ClientError::content)?;
        match last {
            Some(last) if last.is_behind(&shown) => {
                self.sign(holder, Some(&shown), last.done).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The receipts of a month that this device gave.
pub(in crate::client) fn given(vault: &Vault, month: Month) -> Vec<Signed<ServiceReceipt>> {
    let folder = vault.folder().join(FOLDER).join(month.to_string());
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files.map(|file| file.path()).filter(|path| path.extension().is_none());
    files.filter_map(|path| read_signed(&path).ok().flatten()).collect()
}

/// Gives a node a receipt.
async fn give(node: &Node, vault: &Vault, signed: Signed<ServiceReceipt>) -> Result<()> {
    let month = signed.verify().map_err(ClientError::content)?.month;
    let answer = node.request(&Request::Served(Box::new(signed.clone()))).await?;
    let next = match answer {
        Response::Done => {
            Book::open(vault, month)?.taken(node.id, &signed)?;
            return Ok(());
        }
        Response::Served(shown) => Book::open(vault, month)?.follow(node.id, &shown)?,
        _ => None,
    };
    if let Some(next) = next
        && node.request(&Request::Served(Box::new(next.clone()))).await? == Response::Done
    {
        Book::open(vault, month)?.taken(node.id, &next)?;
    }
    Ok(())
}

impl Mesh {
    /// Gives nodes of other operators receipts for what they did for this command.
    pub async fn acknowledge(&self, vault: &Vault) {
        let nodes: Vec<&Arc<Node>> = self.nodes.values().chain(self.late.values()).collect();
        let signed = tokio::task::block_in_place(|| sign_all(vault, &nodes));
        let signed = signed.unwrap_or_else(|error| {
            tracing::warn!(%error, "receipts for what nodes did cannot be written down");
            Vec::new()
        });
        let given = signed.into_iter().map(async |(node, signed)| {
            if let Err(error) = give(node, vault, signed).await {
                tracing::debug!(node = node.id.short(), %error, "a receipt was not taken");
            }
        });
        let _ = tokio::time::timeout(PATIENCE, futures::future::join_all(given)).await;
    }
}

/// What nodes that answer are to be given.
fn sign_all<'a>(
    vault: &Vault,
    nodes: &[&'a Arc<Node>],
) -> Result<Vec<(&'a Arc<Node>, Signed<ServiceReceipt>)>> {
    let others = nodes.iter().copied().filter(|node| node.site.operator != vault.operator);
    let served: Vec<_> = others.map(|node| (node, node.take_served())).collect();
    if served.is_empty() {
        return Ok(Vec::new());
    }
    let book = Book::open(vault, Month::of(wall()))?;
    let mut signed = Vec::new();
    for (node, more) in served {
        let next = book.next(node.id, more)?;
        signed.extend(next.filter(|_| !node.is_resting()).map(|next| (node, next)));
    }
    Ok(signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: NodeId = NodeId([1; 32]);
    const NOTHING: Done = Done { received: 0, sent: 0, proved: 0, unproved: 0 };

    fn sent(sent: u64) -> Done {
        Done { sent, ..NOTHING }
    }

    #[test]
    fn a_receipt_is_given_until_it_is_taken_and_the_next_one_follows_it() {
        let (dir, key) = (tempfile::tempdir().unwrap(), SecretKey::from_seed(&[2; 32]));
        let open = || Book::at(dir.path(), &key, VaultId([3; 32]), Month(600)).unwrap();
        let said = |signed: Option<Signed<ServiceReceipt>>| {
            signed.map(|signed| signed.verify().unwrap()).map(|said| (said.number, said.done.sent))
        };
        assert_eq!(open().next(HOLDER, NOTHING).unwrap(), None);
        let first = open().next(HOLDER, sent(5)).unwrap().unwrap();
        // A command that was cut off here leaves it to the next one.
        assert_eq!(open().next(HOLDER, NOTHING).unwrap().as_ref(), Some(&first));
        let second = open().next(HOLDER, sent(2)).unwrap().unwrap();
        assert_eq!(said(Some(second.clone())), Some((2, 7)));
        open().taken(HOLDER, &first).unwrap();
        assert_eq!(open().next(HOLDER, NOTHING).unwrap().as_ref(), Some(&second), "not this one");
        open().taken(HOLDER, &second).unwrap();
        assert_eq!(open().next(HOLDER, NOTHING).unwrap(), None);
        // What the holder shows counts only where it is later than what is kept.
        assert_eq!(open().follow(HOLDER, &second).unwrap(), None);
        std::fs::remove_file(open().folder.join(HOLDER.to_string())).unwrap();
        let anew = open().next(HOLDER, sent(1)).unwrap();
        assert_eq!(said(anew), Some((1, 1)));
        assert_eq!(said(open().follow(HOLDER, &second).unwrap()), Some((3, 8)));
        assert_eq!(open().follow(HOLDER, &second).unwrap(), None);
    }
}
