//! Which chunk lies where, as this host knows it: a cache in redb of what the index packs say, and the
//! journal of what holders have taken that no index pack says yet.
//!
//! The cache can be lost at any time: the log and the index packs hold everything but the journal, and what that
//! loses is sent again. One process has a cache at a time; a second one that runs beside it has its own
//! (`index-1.redb` and so on), which the next process that is alone takes in.
//!
//! A chunk can lie in several packs: it was sent again when a pack did not satisfy the policy any more. The newest place
//! is the one to read it from, and the others are kept for when that is lost.

mod holdings;
#[cfg(test)]
mod tests;

use super::{ClientError, Result};
use holdings::{HELD, HOLDINGS, LISTED, is_listed, set_holders, set_listed};
use protocol::codec;
use protocol::id::{ChunkId, DeviceId, SessionId, StripeId};
use protocol::index::{BLOCK_LEN_MAX, IndexBlock, IndexedPack};
use protocol::placement::Holders;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition,
    TableHandle, UntypedTableHandle, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const PACKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("packs");
/// The number of each stripe's pack.
const STRIPES: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("stripes");
const CHUNKS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("chunks");
/// Older places of chunks: chunk ‖ pack.
const OLDER: TableDefinition<'_, &[u8; 40], &[u8]> = TableDefinition::new("older");
/// Log entries whose index packs are in here: device ‖ number.
const MERGED: TableDefinition<'_, &[u8], ()> = TableDefinition::new("merged");
/// The journal: packs that holders have, and no log entry names the index of.
const PENDING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pending");

/// Memory for pages, in bytes.
const CACHE: usize = 32 << 20;
/// Processes of one host that use a vault at the same time.
const SLOTS: usize = 16;

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
}

/// Packs that wait for a place in the index, as one block of it.
#[derive(Debug, Default)]
pub struct PendingBlock {
    /// What they are called here.
    pub numbers: Vec<u64>,
    /// What is to be written.
    pub block: IndexBlock,
}

fn failed(error: impl std::fmt::Display) -> ClientError {
    ClientError::Index(error.to_string())
}

fn create(path: &Path) -> std::result::Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE).create(path)
}

impl Index {
    /// Opens the first cache in `dir` that no other process has, or begins a new one when it is missing or
    /// damaged. What processes left in the other caches is taken in.
    pub fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let names: Vec<_> = (0..SLOTS)
            .map(|slot| match slot {
                0 => dir.join("index.redb"),
                _ => dir.join(format!("index-{slot}.redb")),
            })
            .collect();
        for (slot, path) in names.iter().enumerate() {
            let Some(index) = Self::open_file(path)? else { continue };
            for other in names[slot + 1..].iter().filter(|other| other.exists()) {
                if let Some(left) = Self::open_file(other)? {
                    while let Some(pending) = left.pending()? {
                        let mut known = Vec::new();
                        for pack in &pending.block.packs {
                            let holders = left.holders(pack.stripe)?;
                            known.extend(holders.map(|holders| (pack.stripe, holders)));
                        }
                        index.add_pending(&pending.block.packs, &known)?;
                        left.forget(&pending.numbers)?;
                    }
                    std::fs::remove_file(other)?;
                }
            }
            return Ok(index);
        }
        Err(ClientError::Locked)
    }

    /// `None` when another process has it.
    fn open_file(path: &Path) -> Result<Option<Self>> {
        let db = match create(path) {
            Err(DatabaseError::DatabaseAlreadyOpen) => return Ok(None),
            Err(error) if path.exists() => {
                tracing::warn!(%error, "the local index is damaged and is made anew");
                std::fs::remove_file(path)?;
                create(path).map_err(failed)?
            }
            db => db.map_err(failed)?,
        };
        let index = Self { db };
        index.write(|write| {
            let has = |name: &str| -> Result<bool> {
                let is_it = |table: UntypedTableHandle| table.name() == name;
                Ok(write.list_tables().map_err(failed)?.any(is_it))
            };
            if !has(LISTED.name())? {
                keep_journal_only(write)?;
            } else if !has(STRIPES.name())? {
                number_stripes(write)?;
            }
            write.open_table(PACKS).map_err(failed)?;
            write.open_table(STRIPES).map_err(failed)?;
            write.open_table(CHUNKS).map_err(failed)?;
            write.open_table(OLDER).map_err(failed)?;
            write.open_table(MERGED).map_err(failed)?;
            write.open_table(PENDING).map_err(failed)?;
            write.open_table(HELD).map_err(failed)?;
            write.open_table(HOLDINGS).map_err(failed)?;
            write.open_table(LISTED).map_err(failed)?;
            Ok(())
        })?;
        Ok(Some(index))
    }

    fn write(&self, change: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
        let mut write = self.db.begin_write().map_err(failed)?;
        write.set_durability(Durability::Immediate).map_err(failed)?;
        // A process that was killed must not cost the next one a walk through all pages.
        write.set_quick_repair(true);
        change(&write)?;
        write.commit().map_err(failed)
    }

    /// Whether the index packs that this log entry names are in here.
    pub fn is_merged(&self, device: DeviceId, seq: u64) -> Result<bool> {
        let read = self.db.begin_read().map_err(failed)?;
        let merged = read.open_table(MERGED).map_err(failed)?;
        Ok(merged.get(merged_key(device, seq).as_slice()).map_err(failed)?.is_some())
    }

    /// Takes in the blocks that the index stripes of a log entry hold. A pack that another block has listed before is listed
    /// by this one from now on, unless this one is given up.
    pub fn merge(
        &self,
        device: DeviceId,
        seq: u64,
        blocks: &[(StripeId, IndexBlock)],
        given_up: &BTreeSet<StripeId>,
    ) -> Result<()> {
        self.write(|write| {
            for (stripe, block) in blocks {
                let mut numbers = Vec::with_capacity(block.packs.len());
                for pack in &block.packs {
                    let number = match number_of(write, pack.stripe)? {
                        Some(number) => number,
                        None => insert(write, pack)?,
                    };
                    if !given_up.contains(stripe) || !is_listed(write, number)? {
                        numbers.push(number);
                    }
                }
                // What a process listed before it was killed need not be listed again.
                forget(write, &numbers)?;
                set_listed(write, &numbers, *stripe)?;
            }
            let mut merged = write.open_table(MERGED).map_err(failed)?;
            merged.insert(merged_key(device, seq).as_slice(), ()).map_err(failed)?;
            Ok(())
        })
    }

    /// Takes in packs whose holders' receipts are here. When this returns they outlive the process.
    pub fn add_pending(
        &self,
        packs: &[IndexedPack],
        holders: &[(StripeId, Holders)],
    ) -> Result<()> {
        self.write(|write| {
            for pack in packs {
                insert_pending(write, pack)?;
            }
            set_holders(write, holders)
        })
    }

    /// The oldest packs that wait for a place in the index, as many as a block takes; `None` when none do.
    pub fn pending(&self) -> Result<Option<PendingBlock>> {
        let read = self.db.begin_read().map_err(failed)?;
        let pending = read.open_table(PENDING).map_err(failed)?;
        let mut found = PendingBlock::default();
        for row in pending.iter().map_err(failed)? {
            let (number, bytes) = row.map_err(failed)?;
            let pack: IndexedPack = codec::decode(bytes.value(), BLOCK_LEN_MAX).map_err(failed)?;
            if !found.block.fits(pack.chunks.len()) {
                break;
            }
            found.numbers.push(number.value());
            found.block.packs.push(pack);
        }
        Ok(if found.numbers.is_empty() { None } else { Some(found) })
    }

    /// A log entry names these packs' index now, which is in this stripe.
    pub fn settle(
        &self,
        device: DeviceId,
        seq: u64,
        settled: &PendingBlock,
        (stripe, holders): (StripeId, Holders),
    ) -> Result<()> {
        self.write(|write| {
            forget(write, &settled.numbers)?;
            set_listed(write, &settled.numbers, stripe)?;
            set_holders(write, &[(stripe, holders)])?;
            let mut merged = write.open_table(MERGED).map_err(failed)?;
            merged.insert(merged_key(device, seq).as_slice(), ()).map_err(failed)?;
            Ok(())
        })
    }

    fn forget(&self, numbers: &[u64]) -> Result<()> {
        self.write(|write| forget(write, numbers))
    }

    /// Where else a chunk lies than where [`Index::find`] says, the newest place first.
    pub fn find_older(&self, chunk: ChunkId) -> Result<Vec<Location>> {
        let read = self.db.begin_read().map_err(failed)?;
        let older = read.open_table(OLDER).map_err(failed)?;
        let (first, last) = (older_key(chunk, 0), older_key(chunk, u64::MAX));
        let rows = older.range::<&[u8; 40]>(&first..=&last).map_err(failed)?.rev().map(|row| {
            let (_, row) = row.map_err(failed)?;
            codec::decode(row.value(), 64).map_err(failed)
        });
        rows.collect()
    }

    /// Where a chunk lies.
    pub fn find(&self, chunk: ChunkId) -> Result<Option<Location>> {
        let read = self.db.begin_read().map_err(failed)?;
        let chunks = read.open_table(CHUNKS).map_err(failed)?;
        let row = chunks.get(&chunk.0).map_err(failed)?;
        row.map(|row| codec::decode(row.value(), 64).map_err(failed)).transpose()
    }

    /// The numbers of packs from this one on.
    pub fn packs_from(&self, first: u64, count: usize) -> Result<Vec<u64>> {
        let read = self.db.begin_read().map_err(failed)?;
        let packs = read.open_table(PACKS).map_err(failed)?;
        let range = packs.range(first..).map_err(failed)?.take(count);
        range.map(|row| row.map(|(number, _)| number.value()).map_err(failed)).collect()
    }

    /// A pack by its number.
    pub fn pack(&self, number: u64) -> Result<PackInfo> {
        let read = self.db.begin_read().map_err(failed)?;
        let packs = read.open_table(PACKS).map_err(failed)?;
        let row = packs.get(number).map_err(failed)?.ok_or_else(|| failed("a pack is missing"))?;
        codec::decode(row.value(), 256).map_err(failed)
    }

    /// Stripes that nothing is read from any more: of packs whose every chunk was sent again, and of the index packs that list
    /// only such.
    pub fn replaced(&self) -> Result<BTreeSet<StripeId>> {
        let read = self.db.begin_read().map_err(failed)?;
        let mut packs = BTreeSet::new();
        for row in read.open_table(OLDER).map_err(failed)?.iter().map_err(failed)? {
            let place: Location =
                codec::decode(row.map_err(failed)?.1.value(), 64).map_err(failed)?;
            packs.insert(place.pack);
        }
        if packs.is_empty() {
            return Ok(BTreeSet::new());
        }
        for row in read.open_table(CHUNKS).map_err(failed)?.iter().map_err(failed)? {
            let place: Location =
                codec::decode(row.map_err(failed)?.1.value(), 64).map_err(failed)?;
            packs.remove(&place.pack);
        }
        let (mut replaced, mut needed) = (BTreeSet::new(), BTreeSet::new());
        for row in read.open_table(LISTED).map_err(failed)?.iter().map_err(failed)? {
            let (pack, stripe) = row.map_err(failed)?;
            let lists = if packs.contains(&pack.value()) { &mut replaced } else { &mut needed };
            lists.insert(StripeId(*stripe.value()));
        }
        replaced.retain(|stripe| !needed.contains(stripe));
        for pack in packs {
            replaced.insert(self.pack(pack)?.stripe);
        }
        Ok(replaced)
    }

    /// Reads chunks that lie in several packs from one that is not given up, where there is one: the newest of these.
    pub fn set_aside(&self, given_up: &BTreeSet<StripeId>) -> Result<()> {
        if given_up.is_empty() {
            return Ok(());
        }
        let read = self.db.begin_read().map_err(failed)?;
        let mut aside = BTreeSet::new();
        for row in read.open_table(PACKS).map_err(failed)?.iter().map_err(failed)? {
            let (number, bytes) = row.map_err(failed)?;
            let pack: PackInfo = codec::decode(bytes.value(), 256).map_err(failed)?;
            if given_up.contains(&pack.stripe) {
                aside.insert(number.value());
            }
        }
        let chunks = read.open_table(CHUNKS).map_err(failed)?;
        // Those of a chunk follow each other, the newest last.
        let mut better: BTreeMap<[u8; 32], (Location, Location)> = BTreeMap::new();
        for row in read.open_table(OLDER).map_err(failed)?.iter().map_err(failed)? {
            let (key, place) = row.map_err(failed)?;
            let chunk: [u8; 32] = std::array::from_fn(|i| key.value()[i]);
            let place: Location = codec::decode(place.value(), 64).map_err(failed)?;
            let Some(newest) = chunks.get(&chunk).map_err(failed)? else { continue };
            let newest: Location = codec::decode(newest.value(), 64).map_err(failed)?;
            if aside.contains(&newest.pack) && !aside.contains(&place.pack) {
                better.insert(chunk, (place, newest));
            }
        }
        if better.is_empty() {
            return Ok(());
        }
        self.write(|write| {
            let mut chunks = write.open_table(CHUNKS).map_err(failed)?;
            let mut older = write.open_table(OLDER).map_err(failed)?;
            for (chunk, (place, newest)) in &better {
                let key = |place: &Location| older_key(ChunkId(*chunk), place.pack);
                chunks.insert(chunk, codec::encode(place).as_slice()).map_err(failed)?;
                older.remove(&key(place)).map_err(failed)?;
                older.insert(&key(newest), codec::encode(newest).as_slice()).map_err(failed)?;
            }
            Ok(())
        })
    }

    /// Shows every pack and its number.
    pub fn each_pack(&self, mut each: impl FnMut(u64, PackInfo)) -> Result<()> {
        let read = self.db.begin_read().map_err(failed)?;
        let packs = read.open_table(PACKS).map_err(failed)?;
        for row in packs.iter().map_err(failed)? {
            let (number, bytes) = row.map_err(failed)?;
            each(number.value(), codec::decode(bytes.value(), 256).map_err(failed)?);
        }
        Ok(())
    }

    /// Shows every place where a chunk lies.
    pub fn each_place(&self, mut each: impl FnMut(ChunkId, Location)) -> Result<()> {
        let read = self.db.begin_read().map_err(failed)?;
        for row in read.open_table(CHUNKS).map_err(failed)?.iter().map_err(failed)? {
            let (chunk, place) = row.map_err(failed)?;
            each(ChunkId(*chunk.value()), codec::decode(place.value(), 64).map_err(failed)?);
        }
        for row in read.open_table(OLDER).map_err(failed)?.iter().map_err(failed)? {
            let (key, place) = row.map_err(failed)?;
            let chunk = ChunkId(std::array::from_fn(|i| key.value()[i]));
            each(chunk, codec::decode(place.value(), 64).map_err(failed)?);
        }
        Ok(())
    }
}

/// The number of a stripe's pack; `None` when it is not in here.
fn number_of(write: &WriteTransaction, stripe: StripeId) -> Result<Option<u64>> {
    let stripes = write.open_table(STRIPES).map_err(failed)?;
    let number = stripes.get(&stripe.0).map_err(failed)?;
    Ok(number.map(|number| number.value()))
}

/// An older format has no numbers of stripes.
fn number_stripes(write: &WriteTransaction) -> Result<()> {
    let packs = write.open_table(PACKS).map_err(failed)?;
    let mut stripes = write.open_table(STRIPES).map_err(failed)?;
    for row in packs.iter().map_err(failed)? {
        let (number, bytes) = row.map_err(failed)?;
        let pack: PackInfo = codec::decode(bytes.value(), 256).map_err(failed)?;
        stripes.insert(&pack.stripe.0, number.value()).map_err(failed)?;
    }
    Ok(())
}

fn forget(write: &WriteTransaction, numbers: &[u64]) -> Result<()> {
    let mut pending = write.open_table(PENDING).map_err(failed)?;
    for number in numbers {
        pending.remove(number).map_err(failed)?;
    }
    Ok(())
}

/// The first format does not say which index stripe lists a pack: of such a cache only the journal stays, and the rest
/// is read again.
fn keep_journal_only(write: &WriteTransaction) -> Result<()> {
    let mut packs: Vec<IndexedPack> = Vec::new();
    for row in write.open_table(PENDING).map_err(failed)?.iter().map_err(failed)? {
        let (_, bytes) = row.map_err(failed)?;
        packs.push(codec::decode(bytes.value(), BLOCK_LEN_MAX).map_err(failed)?);
    }
    write.delete_table(PACKS).map_err(failed)?;
    write.delete_table(CHUNKS).map_err(failed)?;
    write.delete_table(MERGED).map_err(failed)?;
    write.delete_table(PENDING).map_err(failed)?;
    packs.iter().try_for_each(|pack| insert_pending(write, pack))
}

fn insert_pending(write: &WriteTransaction, pack: &IndexedPack) -> Result<()> {
    let number = insert(write, pack)?;
    let mut pending = write.open_table(PENDING).map_err(failed)?;
    pending.insert(number, codec::encode(pack).as_slice()).map_err(failed)?;
    Ok(())
}

/// Enters a pack and its chunks, and says which number it got.
fn insert(write: &WriteTransaction, pack: &IndexedPack) -> Result<u64> {
    let mut packs: Table<'_, u64, &[u8]> = write.open_table(PACKS).map_err(failed)?;
    let number = packs.last().map_err(failed)?.map_or(0, |(key, _)| key.value() + 1);
    packs.insert(number, codec::encode(&info_of(pack)).as_slice()).map_err(failed)?;
    let mut stripes = write.open_table(STRIPES).map_err(failed)?;
    stripes.insert(&pack.stripe.0, number).map_err(failed)?;
    let mut chunks = write.open_table(CHUNKS).map_err(failed)?;
    let mut older = write.open_table(OLDER).map_err(failed)?;
    for (place, entry) in pack.chunks.iter().enumerate() {
        let location = Location {
            pack: number,
            number: place as u32,
            offset: entry.offset,
            len: entry.len,
            plain_len: entry.plain_len,
        };
        let bytes = codec::encode(&location);
        let before = chunks.insert(&entry.id.0, bytes.as_slice()).map_err(failed)?;
        if let Some(before) = before {
            let place: Location = codec::decode(before.value(), 64).map_err(failed)?;
            let key = older_key(entry.id, place.pack);
            older.insert(&key, before.value()).map_err(failed)?;
        }
    }
    Ok(number)
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

fn older_key(chunk: ChunkId, pack: u64) -> [u8; 40] {
    let (chunk, pack) = (chunk.0, pack.to_be_bytes());
    std::array::from_fn(|i| if i < 32 { chunk[i] } else { pack[i - 32] })
}

fn merged_key(device: DeviceId, seq: u64) -> Vec<u8> {
    [&device.0[..], &seq.to_be_bytes()].concat()
}
