//! Who holds what, as this host saw it last: the holders of each stripe, and which index stripe lists a pack. So a backup
//! can put stripes that were written long ago to the predicate without asking anybody.
//!
//! Many stripes lie with the same holders: each such set is kept once, under its hash.

use super::{Index, PENDING, failed};
use crate::client::Result;
use protocol::codec;
use protocol::id::StripeId;
use protocol::placement::{Holders, Listing};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

/// The holders of a stripe, by their hash.
pub(super) const HELD: TableDefinition<'_, &[u8; 32], &[u8; 32]> = TableDefinition::new("held");
pub(super) const HOLDINGS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("holdings");
/// The index stripe that lists a pack.
pub(super) const LISTED: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("listed");

/// Longest encoded holders, in bytes: 256 holders and a lock with its guardians.
const HOLDING_LEN_MAX: usize = 32 << 10;

impl Index {
    /// Who holds a stripe; `None` when that was never seen here.
    pub fn holders(&self, stripe: StripeId) -> Result<Option<Holders>> {
        let read = self.db.begin_read().map_err(failed)?;
        let held = read.open_table(HELD).map_err(failed)?;
        let Some(name) = held.get(&stripe.0).map_err(failed)? else { return Ok(None) };
        let holdings = read.open_table(HOLDINGS).map_err(failed)?;
        let row = holdings.get(name.value()).map_err(failed)?;
        row.map(|row| codec::decode(row.value(), HOLDING_LEN_MAX).map_err(failed)).transpose()
    }

    /// Keeps who holds these stripes.
    pub fn set_holders(&self, holders: &[(StripeId, Holders)]) -> Result<()> {
        if holders.is_empty() {
            return Ok(());
        }
        self.write(|write| set_holders(write, holders))
    }

    /// Which index stripe lists a pack.
    pub fn listing(&self, pack: u64) -> Result<Listing<StripeId>> {
        let read = self.db.begin_read().map_err(failed)?;
        if read.open_table(PENDING).map_err(failed)?.get(pack).map_err(failed)?.is_some() {
            return Ok(Listing::Pending);
        }
        let listed = read.open_table(LISTED).map_err(failed)?;
        let row = listed.get(pack).map_err(failed)?;
        Ok(row.map_or(Listing::Nowhere, |row| Listing::In(StripeId(*row.value()))))
    }
}

pub(super) fn set_holders(write: &WriteTransaction, holders: &[(StripeId, Holders)]) -> Result<()> {
    let mut held = write.open_table(HELD).map_err(failed)?;
    let mut known = write.open_table(HOLDINGS).map_err(failed)?;
    for (stripe, holders) in holders {
        let bytes = codec::encode(holders);
        let name = *blake3::hash(&bytes).as_bytes();
        held.insert(&stripe.0, &name).map_err(failed)?;
        if known.get(&name).map_err(failed)?.is_none() {
            known.insert(&name, bytes.as_slice()).map_err(failed)?;
        }
    }
    Ok(())
}

/// An index stripe lists these packs.
pub(super) fn set_listed(write: &WriteTransaction, packs: &[u64], stripe: StripeId) -> Result<()> {
    let mut listed = write.open_table(LISTED).map_err(failed)?;
    for &pack in packs {
        listed.insert(pack, &stripe.0).map_err(failed)?;
    }
    Ok(())
}

/// Whether an index stripe lists a pack.
pub(super) fn is_listed(write: &WriteTransaction, pack: u64) -> Result<bool> {
    let listed = write.open_table(LISTED).map_err(failed)?;
    Ok(listed.get(pack).map_err(failed)?.is_some())
}
