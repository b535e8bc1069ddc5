//! Looking into snapshots: their items in order, the content of files at any place, searches and comparisons. Nothing is
//! written, and only what is needed is fetched.

pub mod diff;
mod entries;
pub mod find;
pub mod git;
mod paths;
mod pieces;

pub use entries::{Entries, Entry, What};
pub use paths::Selection;
pub(crate) use paths::{below, clean};
pub(crate) use pieces::Content;
pub use pieces::Pieces;

use super::Result;
use super::backup::SnapshotInfo;
use super::items::{Items, Stream, root_of};
use super::ledger::Logged;
use super::opened::{KEPT_LOOKING, Opened};
use super::recipients::Identities;
use super::restore::{Reader, info_of};
use super::vault::Vault;
use crate::home::Home;
use protocol::item::Root;
use std::sync::Arc;

/// A vault whose snapshots can be looked into.
#[derive(Debug)]
pub struct Browser {
    /// The vault, open for reading.
    pub reader: Reader,
    opened: Arc<Opened>,
}

impl Browser {
    /// Connects, and opens what these identities open.
    pub async fn open(home: &Home, vault: Vault, identities: &Identities) -> Result<Self> {
        let reader = Reader::open(home, vault, Some(identities)).await?;
        let (packs, index) = (Arc::clone(&reader.packs), Arc::clone(&reader.index));
        let opened = Opened::new(packs, index, KEPT_LOOKING);
        Ok(Self { reader, opened })
    }

    /// Gives nodes of others receipts for what was read.
    pub async fn close(&self) {
        self.reader.close().await;
    }

    /// The snapshot that a person means.
    pub fn find(&self, name: &str) -> Result<&Logged> {
        self.reader.ledger.find_snapshot(name)
    }

    /// What a snapshot says of itself.
    #[must_use]
    pub fn info_of(&self, snapshot: &Logged) -> Option<SnapshotInfo> {
        info_of(&self.reader.vault, snapshot)
    }

    /// Where a snapshot's items begin: snapshots with the same root are the same in all.
    pub fn root_of(&self, snapshot: &Logged) -> Result<Root> {
        root_of(&self.reader.packs, snapshot)
    }

    /// The entries of a snapshot.
    pub async fn entries(&self, snapshot: &Logged) -> Result<Entries> {
        let stream = self.stream(snapshot).await?;
        Ok(Entries::new(Items::new(Arc::clone(&self.opened), Arc::new(stream))))
    }

    /// The chunks that are read, and the last ones again.
    pub(super) fn opened(&self) -> &Arc<Opened> {
        &self.opened
    }

    /// Where the bytes of a snapshot's items are.
    pub(super) async fn stream(&self, snapshot: &Logged) -> Result<Stream> {
        Stream::open(&self.opened, self.root_of(snapshot)?).await
    }

    /// The bytes of a file, in pieces of at most `len`.
    pub async fn each_piece(
        &self,
        pieces: Pieces,
        len: usize,
        mut each: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        let content = Content::new(Arc::clone(&self.opened), Arc::new(pieces));
        let mut at = 0;
        while at < content.pieces.len() {
            let bytes = content.read(at, len).await?;
            at += bytes.len() as u64;
            if !tokio::task::block_in_place(|| each(&bytes))? {
                break;
            }
        }
        Ok(())
    }
}
