//! Reading: from a chunk's name to its bytes, over any k shards of its stripe.
//!
//! A whole pack comes from the first k shards that answer and fit their names; a single chunk comes from the
//! range of the data shards that hold it, and where that does not work, from the whole pack. Chunks are opened and
//! compared with their names in any case: for them shards are looked at one by one only once something did not open.

mod chunks;
mod records;
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
use protocol::id::{DeviceId, NodeId, SessionId, StripeId, VaultId};
use protocol::index::{BLOCK_LEN_MAX, IndexBlock};
use protocol::log::Body;
use protocol::pack::{PackHeader, PackKind, PackOpener};
use protocol::seal::SessionKey;
use records::Whereabouts;
use shards::Lately;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;
use tokio::sync::{Mutex, OnceCell};

/// What the first pack is thought to take: nobody is late before three times that.
const FIRST_PACK: Duration = Duration::from_secs(3);

/// Reads packs of one vault.
pub struct Packs {
    mesh: Arc<Mesh>,
    vault_id: VaultId,
    chunker: Chunker,
    index_key: SessionKey,
    sessions: BTreeMap<SessionId, SessionKey>,
    /// This host, whose word counts without a certificate that nodes know.
    device: DeviceId,
    devices: OnceCell<BTreeSet<DeviceId>>,
    whereabouts: Mutex<BTreeMap<StripeId, Arc<Whereabouts>>>,
    /// Who did not answer when everybody was asked: of the late ones, nobody is waited for twice.
    deaf: Mutex<BTreeSet<NodeId>>,
    buffers: Arc<Buffers>,
    lately: Mutex<Lately>,
    lately_ms: AtomicU64,
    /// Some pack was not what its shards' names say: from now on each shard is looked at.
    is_wary: AtomicBool,
}

impl std::fmt::Debug for Packs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packs({} sessions)", self.sessions.len())
    }
}

/// A whole pack.
#[derive(Debug)]
pub struct Pack {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether each shard of it had the bytes that its name says.
    is_proved: bool,
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
            device: vault.device_id(),
            devices: OnceCell::new(),
            whereabouts: Mutex::default(),
            deaf: Mutex::default(),
            buffers: Arc::default(),
            lately: Mutex::default(),
            lately_ms: AtomicU64::new(FIRST_PACK.as_millis() as u64),
            is_wary: AtomicBool::new(false),
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

    /// Brings the local index up to what the log says, as far as it can be read: what an entry names whose index is lost
    /// is missing here, and the next time that entry is tried again. Of index stripes that were given up those are read that are
    /// still there: nobody misses the others, but who gave them up may not have been the owner.
    pub async fn sync_index(&self, ledger: &Ledger, index: &Index) -> Result<()> {
        let given_up = ledger.given_up().stripes();
        let (mut missing, mut doubtful) = (Vec::new(), Vec::new());
        for logged in ledger.entries.values() {
            let Body::Index { stripes, .. } = &logged.entry.body else { continue };
            let entry = (logged.entry.device, logged.entry.seq);
            if index.is_merged(entry.0, entry.1)? {
                continue;
            }
            doubtful.extend(stripes.iter().filter(|stripe| given_up.contains(stripe)));
            missing.push((entry, stripes));
        }
        let left = self.holders_of(&doubtful).await;
        let is_there = |stripe: &StripeId| {
            !given_up.contains(stripe)
                || left
                    .get(stripe)
                    .is_some_and(|(holders, _)| holders.nodes.len() >= usize::from(holders.k))
        };
        for ((device, seq), stripes) in missing {
            if !stripes.iter().all(is_there) {
                continue;
            }
            match self.read_blocks(stripes).await {
                Ok(blocks) => index.merge(device, seq, &blocks, &given_up)?,
                Err(error) => tracing::warn!(
                    %error,
                    device = device.short(),
                    entry = seq,
                    "a part of the index cannot be read, and its chunks are not known here"
                ),
            }
        }
        index.set_aside(&given_up)
    }

    async fn read_blocks(&self, stripes: &[StripeId]) -> Result<Vec<(StripeId, IndexBlock)>> {
        let mut blocks = Vec::with_capacity(stripes.len());
        for &stripe in stripes {
            blocks.push((stripe, self.read_index(stripe).await?));
        }
        Ok(blocks)
    }

    /// What an index pack says.
    pub(super) async fn read_index(&self, stripe: StripeId) -> Result<IndexBlock> {
        let pack = self.pack(stripe).await?;
        let header = PackHeader::decode(&pack.bytes).map_err(ClientError::content)?;
        let opener =
            PackOpener::for_pack(&header, &self.index_key).map_err(ClientError::content)?;
        let entries = opener.open_table(&pack.bytes).map_err(ClientError::content)?;
        let (mut block, mut room) = (Vec::new(), Vec::new());
        for (number, entry) in entries.iter().enumerate() {
            let range = entry.offset as usize..(entry.offset + entry.len) as usize;
            let mut sealed = pack.bytes[range].to_vec();
            let encoded =
                opener.open_chunk(number as u32, &mut sealed).map_err(ClientError::content)?;
            let plain =
                decode_chunk(encoded, entry.plain_len, &mut room).map_err(ClientError::content)?;
            if block.len() + plain.len() > BLOCK_LEN_MAX {
                return Err(ClientError::content("an index block that is too long"));
            }
            block.extend_from_slice(plain);
        }
        IndexBlock::decode(&block).map_err(ClientError::content)
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
