//! Reading: from a chunk's name to its bytes, over any k shards of its stripe.
//!
//! A whole pack comes from the first k shards that answer and fit their names; a single chunk comes from the
//! range of the data shards that hold it, and where that does not work, from the whole pack.

mod chunks;
mod shards;

pub use chunks::Need;

use super::buffers::Buffers;
use super::index::{Index, PackInfo};
use super::ledger::Ledger;
use super::mesh::{Mesh, Node};
use super::vault::Vault;
use super::{ClientError, Result};
use crate::client::recipients::Identities;
use protocol::chunk::{Chunker, decode_chunk};
use protocol::id::{NodeId, SessionId, StripeId};
use protocol::index::{BLOCK_LEN_MAX, IndexBlock};
use protocol::log::Body;
use protocol::message::{Request, Response};
use protocol::pack::{PackHeader, PackKind, PackOpener};
use protocol::record::Record;
use protocol::seal::SessionKey;
use shards::Lately;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::Mutex;

/// What the first pack is thought to take: nobody is late before three times that.
const FIRST_PACK: Duration = Duration::from_secs(3);

/// Reads packs of one vault.
pub struct Packs {
    mesh: Arc<Mesh>,
    vault_id: protocol::id::VaultId,
    chunker: Chunker,
    index_key: SessionKey,
    sessions: BTreeMap<SessionId, SessionKey>,
    records: Mutex<BTreeMap<StripeId, Arc<Record>>>,
    buffers: Arc<Buffers>,
    lately: Mutex<Lately>,
    lately_ms: AtomicU64,
}

impl std::fmt::Debug for Packs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packs({} sessions)", self.sessions.len())
    }
}

/// A whole pack, verified shard by shard.
#[derive(Debug)]
pub struct Pack {
    /// Its bytes.
    pub bytes: Vec<u8>,
    buffers: Arc<Buffers>,
}

impl Drop for Pack {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.bytes));
    }
}

impl Packs {
    /// For what this host can read without an identity: the index.
    #[must_use]
    pub fn new(mesh: Arc<Mesh>, vault: &Vault) -> Self {
        Self {
            mesh,
            vault_id: vault.id,
            chunker: Chunker::new(&vault.secret),
            index_key: vault.secret.index_key(),
            sessions: BTreeMap::new(),
            records: Mutex::default(),
            buffers: Arc::default(),
            lately: Mutex::default(),
            lately_ms: AtomicU64::new(FIRST_PACK.as_millis() as u64),
        }
    }

    /// Opens the session keys of the log. Sessions that this identity does not open stay closed.
    pub fn open_sessions(&mut self, ledger: &Ledger, identities: &Identities) -> Result<()> {
        let mut last = None;
        for logged in ledger.all() {
            let Body::Session { session, sealed_key } = &logged.entry.body else { continue };
            match identities.open(&sealed_key.0) {
                Ok(key) => {
                    let key =
                        key.try_into().map_err(|_| ClientError::Content("a session key".into()))?;
                    self.sessions.insert(*session, SessionKey(key));
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if self.sessions.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// The key of a session that was opened.
    pub fn session(&self, session: SessionId) -> Result<&SessionKey> {
        self.sessions.get(&session).ok_or_else(|| {
            ClientError::Identity(format!("this identity does not open session {session}"))
        })
    }

    /// The key of the pack with this header, if it is known here.
    pub(super) fn key_of(&self, header: &PackHeader) -> Option<&SessionKey> {
        match header.kind {
            PackKind::Index => Some(&self.index_key),
            PackKind::Content => self.sessions.get(&header.session),
        }
    }

    /// What names the vault's chunks.
    pub(super) fn chunker(&self) -> &Chunker {
        &self.chunker
    }

    /// Brings the local index up to what the log says.
    pub async fn sync_index(&self, ledger: &Ledger, index: &Index) -> Result<()> {
        for logged in ledger.entries.values() {
            let Body::Index { stripes, .. } = &logged.entry.body else { continue };
            let (device, seq) = (logged.entry.device, logged.entry.seq);
            if index.is_merged(device, seq)? {
                continue;
            }
            let mut blocks = Vec::new();
            for &stripe in stripes {
                blocks.push(self.read_index(stripe).await?);
            }
            index.merge(device, seq, &blocks)?;
        }
        Ok(())
    }

    /// What an index pack says.
    pub(super) async fn read_index(&self, stripe: StripeId) -> Result<IndexBlock> {
        let pack = self.pack(stripe).await?;
        let content = |e: &dyn std::fmt::Display| ClientError::Content(e.to_string());
        let header = PackHeader::decode(&pack.bytes).map_err(|e| content(&e))?;
        let opener = PackOpener::for_pack(&header, &self.index_key).map_err(|e| content(&e))?;
        let entries = opener.open_table(&pack.bytes).map_err(|e| content(&e))?;
        let (mut block, mut room) = (Vec::new(), Vec::new());
        for (number, entry) in entries.iter().enumerate() {
            let range = entry.offset as usize..(entry.offset + entry.len) as usize;
            let mut sealed = pack.bytes[range].to_vec();
            let encoded = opener.open_chunk(number as u32, &mut sealed).map_err(|e| content(&e))?;
            let plain =
                decode_chunk(encoded, entry.plain_len, &mut room).map_err(|e| content(&e))?;
            if block.len() + plain.len() > BLOCK_LEN_MAX {
                return Err(content(&"an index block that is too long"));
            }
            block.extend_from_slice(plain);
        }
        IndexBlock::decode(&block).map_err(|e| content(&e))
    }

    /// The records of these stripes, as far as anybody who answers has them. What is kept is verified.
    pub async fn find_records(&self, stripes: &[StripeId]) -> Result<()> {
        let mut missing: Vec<StripeId> = {
            let known = self.records.lock().await;
            stripes.iter().copied().filter(|stripe| !known.contains_key(stripe)).collect()
        };
        for node in self.mesh.nodes.values() {
            let mut at = 0;
            while at < missing.len() {
                let asked: Vec<StripeId> = missing[at..].iter().copied().take(512).collect();
                let request = Request::Records { vault: self.vault_id, stripes: asked.clone() };
                let Ok(Response::Records(found)) = node.request(&request).await else { break };
                if found.is_empty() {
                    break;
                }
                at += found.len().min(asked.len());
                let mut known = self.records.lock().await;
                for (stripe, held) in asked.iter().zip(found) {
                    let Some(record) = held.and_then(|held| held.record.verify().ok()) else {
                        continue;
                    };
                    let newer = known.get(stripe).is_none_or(|old| old.version < record.version);
                    if record.check().is_ok() && record.stripe.id() == *stripe && newer {
                        known.insert(*stripe, Arc::new(record));
                    }
                }
            }
            let known = self.records.lock().await;
            missing.retain(|stripe| !known.contains_key(stripe));
            if missing.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn record(&self, stripe: StripeId) -> Result<Arc<Record>> {
        if let Some(record) = self.records.lock().await.get(&stripe) {
            return Ok(Arc::clone(record));
        }
        self.find_records(&[stripe]).await?;
        self.records.lock().await.get(&stripe).cloned().ok_or(ClientError::NoRecord(stripe))
    }

    fn holder(&self, node: NodeId) -> Option<&Arc<Node>> {
        self.mesh.nodes.get(&node).or_else(|| self.mesh.late.get(&node))
    }

    /// The opener of a pack's chunks.
    pub fn opener(&self, info: &PackInfo) -> Result<PackOpener> {
        let key = self.session(info.session)?;
        Ok(PackOpener::new(PackKind::Content, key, &info.nonce))
    }
}
