//! Which chunk lies where, as this host knows it: a cache in redb of what the index packs say.
//!
//! It can be lost at any time: the log and the index packs hold everything.

use super::{ClientError, Result};
use protocol::codec;
use protocol::id::{ChunkId, DeviceId, SessionId, StripeId};
use protocol::index::{IndexBlock, IndexedPack};
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tempfile::TempPath;

const PACKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("packs");
const CHUNKS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("chunks");
/// Log entries whose index packs are in here: device ‖ number.
const MERGED: TableDefinition<'_, &[u8], ()> = TableDefinition::new("merged");

/// Memory for pages, in bytes.
const CACHE: usize = 32 << 20;

/// A pack, as far as reading a chunk from it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackInfo {
    /// Its stripe.
    pub stripe: StripeId,
    /// Under whose key it is sealed.
    pub session: SessionId,
    /// Makes its key.
    pub nonce: [u8; 32],
    /// Data shards.
    pub k: u16,
    /// Bytes in each.
    pub shard_len: u32,
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Which pack; a number of this cache.
    pub pack: u64,
    /// Its number in the pack.
    pub number: u32,
    /// From the start of the pack.
    pub offset: u32,
    /// Sealed bytes.
    pub len: u32,
    /// Plain bytes.
    pub plain_len: u32,
}

/// The cache.
#[derive(Debug)]
pub struct Index {
    db: Database,
    /// Deletes the file of a cache that is not kept.
    _temporary: Option<TempPath>,
}

fn failed(error: impl std::fmt::Display) -> ClientError {
    ClientError::Index(error.to_string())
}

impl Index {
    /// Opens the cache, or begins a new one when it is missing or damaged. One process has it at a time;
    /// the others get [`ClientError::Locked`].
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let db = match Database::builder().set_cache_size(CACHE).create(path) {
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(ClientError::Locked),
            Err(error) if path.exists() => {
                tracing::warn!(%error, "the local index is damaged and is made anew");
                std::fs::remove_file(path)?;
                Database::builder().set_cache_size(CACHE).create(path).map_err(failed)?
            }
            db => db.map_err(failed)?,
        };
        Self::with(db, None)
    }

    /// The cache, or one that lives as long as this process where another one has it: who reads need not
    /// wait for who writes.
    pub fn open_for_reading(path: &Path) -> Result<Self> {
        match Self::open(path) {
            Err(ClientError::Locked) => {
                let dir = path.parent().unwrap_or(Path::new("."));
                let file = tempfile::Builder::new().prefix(".index-").tempfile_in(dir)?;
                let (file, path) = file.into_parts();
                let file = FileBackend::new(file).map_err(failed)?;
                let db = Database::builder().set_cache_size(CACHE).create_with_backend(file);
                Self::with(db.map_err(failed)?, Some(path))
            }
            index => index,
        }
    }

    fn with(db: Database, temporary: Option<TempPath>) -> Result<Self> {
        let write = db.begin_write().map_err(failed)?;
        write.open_table(PACKS).map_err(failed)?;
        write.open_table(CHUNKS).map_err(failed)?;
        write.open_table(MERGED).map_err(failed)?;
        write.commit().map_err(failed)?;
        Ok(Self { db, _temporary: temporary })
    }

    /// Whether the index packs that this log entry names are in here.
    pub fn is_merged(&self, device: DeviceId, seq: u64) -> Result<bool> {
        let read = self.db.begin_read().map_err(failed)?;
        let merged = read.open_table(MERGED).map_err(failed)?;
        Ok(merged.get(merged_key(device, seq).as_slice()).map_err(failed)?.is_some())
    }

    /// Takes in the blocks of a log entry. A chunk that is known keeps its first place.
    pub fn merge(&self, device: DeviceId, seq: u64, blocks: &[IndexBlock]) -> Result<()> {
        let mut write = self.db.begin_write().map_err(failed)?;
        write.set_durability(Durability::Immediate).map_err(failed)?;
        {
            let mut packs = write.open_table(PACKS).map_err(failed)?;
            let mut chunks = write.open_table(CHUNKS).map_err(failed)?;
            let mut next = packs.last().map_err(failed)?.map_or(0, |(key, _)| key.value() + 1);
            for pack in blocks.iter().flat_map(|block| &block.packs) {
                let info = codec::encode(&info_of(pack));
                packs.insert(next, info.as_slice()).map_err(failed)?;
                for (number, entry) in pack.chunks.iter().enumerate() {
                    if chunks.get(&entry.id.0).map_err(failed)?.is_some() {
                        continue;
                    }
                    let location = Location {
                        pack: next,
                        number: number as u32,
                        offset: entry.offset,
                        len: entry.len,
                        plain_len: entry.plain_len,
                    };
                    chunks
                        .insert(&entry.id.0, codec::encode(&location).as_slice())
                        .map_err(failed)?;
                }
                next += 1;
            }
            let mut merged = write.open_table(MERGED).map_err(failed)?;
            merged.insert(merged_key(device, seq).as_slice(), ()).map_err(failed)?;
        }
        write.commit().map_err(failed)
    }

    /// Where a chunk lies.
    pub fn find(&self, chunk: ChunkId) -> Result<Option<Location>> {
        let read = self.db.begin_read().map_err(failed)?;
        let chunks = read.open_table(CHUNKS).map_err(failed)?;
        let row = chunks.get(&chunk.0).map_err(failed)?;
        row.map(|row| codec::decode(row.value(), 64).map_err(failed)).transpose()
    }

    /// A pack by its number.
    pub fn pack(&self, number: u64) -> Result<PackInfo> {
        let read = self.db.begin_read().map_err(failed)?;
        let packs = read.open_table(PACKS).map_err(failed)?;
        let row = packs.get(number).map_err(failed)?.ok_or_else(|| failed("a pack is missing"))?;
        codec::decode(row.value(), 256).map_err(failed)
    }
}

fn info_of(pack: &IndexedPack) -> PackInfo {
    PackInfo {
        stripe: pack.stripe,
        session: pack.session,
        nonce: pack.nonce,
        k: pack.k,
        shard_len: pack.shard_len,
    }
}

fn merged_key(device: DeviceId, seq: u64) -> Vec<u8> {
    [&device.0[..], &seq.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::pack::PackEntry;

    #[test]
    fn what_was_merged_is_found_and_a_damaged_cache_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.redb");
        let index = Index::open(&path).unwrap();
        let entry = PackEntry { id: ChunkId([1; 32]), offset: 128, len: 50, plain_len: 33 };
        let pack = IndexedPack {
            stripe: StripeId([2; 32]),
            session: SessionId([3; 32]),
            nonce: [4; 32],
            k: 2,
            shard_len: 128,
            chunks: vec![entry],
        };
        let device = DeviceId([9; 32]);
        index.merge(device, 3, &[IndexBlock { packs: vec![pack] }]).unwrap();
        let location = index.find(ChunkId([1; 32])).unwrap().unwrap();
        assert_eq!((location.number, location.offset, location.plain_len), (0, 128, 33));
        assert_eq!(index.pack(location.pack).unwrap().stripe, StripeId([2; 32]));
        assert!(index.is_merged(device, 3).unwrap() && !index.is_merged(device, 4).unwrap());
        assert_eq!(index.find(ChunkId([7; 32])).unwrap(), None);
        drop(index);
        std::fs::write(&path, b"not a database").unwrap();
        assert_eq!(Index::open(&path).unwrap().find(ChunkId([1; 32])).unwrap(), None);
    }
}
