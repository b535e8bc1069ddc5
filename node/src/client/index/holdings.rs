//! Who holds what, as this host saw it last: the holders of each stripe, and which index stripe lists a pack. So a backup
//! can put stripes that were written long ago to the predicate without asking anybody.
//!
//! Many stripes lie with the same holders: each such set is kept once, under its hash.

use super::{Index, failed};
use crate::client::Result;
use protocol::codec;
use protocol::id::{NodeId, StripeId};
use protocol::policy::Lock;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

/// The holding of a stripe, by its hash.
pub(super) const HELD: TableDefinition<'_, &[u8; 32], &[u8; 32]> = TableDefinition::new("held");
pub(super) const HOLDINGS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("holdings");
/// The index stripe that lists a pack.
pub(super) const LISTED: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("listed");

/// Longest encoded holding, in bytes: 256 holders and a lock with its guardians.
const HOLDING_LEN_MAX: usize = 32 << 10;

/// Who holds shards of a stripe, one each, and under which terms.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holding {
    /// Shards needed.
    pub k: u16,
    /// For how long they are kept.
    pub lock: Lock,
    /// The holders.
    pub holders: Vec<NodeId>,
}

impl Index {
    /// Who holds a stripe; `None` when that was never seen here.
    pub fn holding(&self, stripe: StripeId) -> Result<Option<Holding>> {
        let read = self.db.begin_read().map_err(failed)?;
        let held = read.open_table(HELD).map_err(failed)?;
        let Some(name) = held.get(&stripe.0).map_err(failed)? else { return Ok(None) };
        let holdings = read.open_table(HOLDINGS).map_err(failed)?;
        let row = holdings.get(name.value()).map_err(failed)?;
        row.map(|row| codec::decode(row.value(), HOLDING_LEN_MAX).map_err(failed)).transpose()
    }

    /// Keeps who holds these stripes.
    pub fn set_holdings(&self, holdings: &[(StripeId, Holding)]) -> Result<()> {
        if holdings.is_empty() {
            return Ok(());
        }
        self.write(|write| set_holdings(write, holdings))
    }

    /// The index stripe that lists a pack; `None` when none is known to.
    pub fn listed_in(&self, pack: u64) -> Result<Option<StripeId>> {
        let read = self.db.begin_read().map_err(failed)?;
        let listed = read.open_table(LISTED).map_err(failed)?;
        let row = listed.get(pack).map_err(failed)?;
        Ok(row.map(|row| StripeId(*row.value())))
    }
}

pub(super) fn set_holdings(
    write: &WriteTransaction,
    holdings: &[(StripeId, Holding)],
) -> Result<()> {
    let mut held = write.open_table(HELD).map_err(failed)?;
    let mut known = write.open_table(HOLDINGS).map_err(failed)?;
    for (stripe, holding) in holdings {
        let bytes = codec::encode(holding);
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
