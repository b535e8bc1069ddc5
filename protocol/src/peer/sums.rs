//! Whether the sums that are kept of what is held are right: what each vault takes up ([`Table::Usage`]), by which quotas and shares go, and what its
//! months come to. Nothing counts them anew at a start or when somebody asks; a pass of reading ([`super::scrub`]) checks them.
//!
//! - The rows of shards are gone through behind the reading and summed by vault, so the sum is of what is durable up to some shard, at each moment: what comes
//!   there later adds to it once it is durable, what goes is taken off once its row is gone, and what comes or goes further on is met, or is not. A shard that
//!   is being written may be there already or not yet, so the sum goes no further than the first of these until that is known.
//! - When everything was read the rest is summed, and each vault is compared at a moment at which nothing of it is being written. Then it is the
//!   sum of all its rows, to the byte.
//! - What a row stands for does not matter: a damaged shard is held, and so is one that is to be dropped as long as its row is there. A shard has one
//!   row, and so one vault ([`super::holder`] takes the same bytes for no second stripe).
//! - The sum is in memory. After a restart it begins anew and catches up with the reading: rows alone are read for that, in pages.
//!
//! What differs is said ([`Note::Miscounted`], and in the status until a later pass finds the vault right) and corrected by adding the difference, in one
//! write with the note of it. That is safe: rows of shards are what is served, repaired, released and dropped by, and the sums are nothing but what these come to; what comes and goes
//! meanwhile is added too, in whatever order. So a wrong row of a sum can keep a partner out, or let it in too far, for one pass and no longer.

use super::facts::{Facts, FactsError, Held, Table, Write, decode};
use super::{Note, Peer, Then, Usage, tallies};
use crate::id::{ShardId, VaultId};
use crate::time::{Now, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Rows that are summed in one go, once in each exchange of members: those of 1 TiB in shards of 4 MiB within half an hour.
const PAGE: usize = 4096;
/// So many more are read than twice those that were summed the last time.
const SPARE: usize = 2;

/// That the sums of a vault were wrong, as it is stored until they are found right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiscountRow {
    /// When that was found.
    pub found: Wall,
    /// What was kept, which was wrong,
    pub kept: Usage,
    /// and what the vault's shards came to.
    pub counted: Usage,
}

/// How far the rows of shards are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Summed {
    /// Up to this one.
    UpTo(Option<ShardId>),
    All,
}

/// What is remembered of checking the sums.
#[derive(Debug)]
pub(super) struct Sums {
    counted: BTreeMap<VaultId, Usage>,
    summed: Summed,
    /// How many rows are read in the next go: not many more than the reading passes meanwhile.
    page: usize,
    /// A pass of reading has ended: the rest is summed, however far the next one is.
    has_ended: bool,
    /// Vaults that are still to be compared.
    open: BTreeSet<VaultId>,
    /// Those that were found wrong.
    wrong: BTreeSet<VaultId>,
}

impl Sums {
    pub(super) fn load(facts: &dyn Facts) -> Result<Self, FactsError> {
        let wrong = facts.scan(Table::Miscounted, &[], None, usize::MAX)?.into_iter();
        let wrong = wrong.filter_map(|(key, _)| key.try_into().ok().map(VaultId)).collect();
        Ok(Self {
            counted: BTreeMap::new(),
            summed: Summed::UpTo(None),
            page: PAGE,
            has_ended: false,
            open: BTreeSet::new(),
            wrong,
        })
    }

    /// Everything was read.
    pub(super) fn end_pass(&mut self) {
        self.has_ended = true;
    }

    /// Vaults that the last whole pass found wrong.
    pub(super) fn wrong(&self) -> u64 {
        self.wrong.len() as u64
    }

    /// A shard has come, durably.
    pub(super) fn came(&mut self, shard: ShardId, vault: VaultId, len: u64) {
        if self.is_behind(shard) {
            self.add(vault, len);
        }
    }

    /// The row of a shard is gone, durably.
    pub(super) fn went(&mut self, shard: ShardId, vault: VaultId, len: u64) {
        if self.is_behind(shard) {
            let counted = self.counted.entry(vault).or_default();
            *counted = counted.minus(Usage::of_one(len));
        }
    }

    /// How far rows are summed, `None` for not to the end, and what they came to.
    #[cfg(test)]
    pub(super) fn so_far(&self) -> (Option<ShardId>, bool, &BTreeMap<VaultId, Usage>) {
        match self.summed {
            Summed::UpTo(last) => (last, false, &self.counted),
            Summed::All => (None, true, &self.counted),
        }
    }

    fn is_behind(&self, shard: ShardId) -> bool {
        match self.summed {
            Summed::UpTo(last) => last.is_some_and(|last| shard <= last),
            Summed::All => true,
        }
    }

    fn add(&mut self, vault: VaultId, len: u64) {
        let counted = self.counted.entry(vault).or_default();
        *counted = counted.plus(Usage::of_one(len));
    }

    fn begin_anew(&mut self) {
        self.counted.clear();
        self.summed = Summed::UpTo(None);
        self.has_ended = false;
    }
}

impl Peer {
    /// Goes on with checking the sums.
    pub(super) fn check_sums(&mut self, now: Now, facts: &dyn Facts) {
        if let Summed::UpTo(after) = self.sums.summed {
            self.sum_on(facts, after);
        }
        if self.sums.summed != Summed::All {
            return;
        }
        let busy: BTreeSet<VaultId> = self.pending.values().filter_map(Then::counted).collect();
        let open = std::mem::take(&mut self.sums.open);
        let (later, ready) = open.into_iter().partition(|vault| busy.contains(vault));
        self.sums.open = later;
        for vault in ready {
            self.compare_sums(now, facts, vault);
        }
        if self.sums.open.is_empty() {
            self.sums.begin_anew();
        }
    }

    /// Sums a page of rows, no further than the reading is.
    fn sum_on(&mut self, facts: &dyn Facts, after: Option<ShardId>) {
        let end = if self.sums.has_ended { None } else { self.scrub.reached() };
        if !self.sums.has_ended && end <= after {
            return;
        }
        let after = after.as_ref().map(|shard| &shard.0[..]);
        let page = if self.sums.has_ended { PAGE } else { self.sums.page };
        let Ok(rows) = facts.scan(Table::Held, &[], after, page) else { return };
        let is_rest = rows.len() < page;
        self.sums.page = SPARE;
        let pending = self.overlay.first_after(Table::Held, after).cloned();
        for (key, bytes) in rows {
            let Ok(shard) = <[u8; 32]>::try_from(&key[..]).map(ShardId) else { continue };
            let is_read = end.is_none_or(|end| shard <= end);
            if !is_read || pending.as_ref().is_some_and(|pending| *pending <= key) {
                return;
            }
            // What cannot be read is missing in the sum, and found as that.
            if let Ok(Held { vault, len, .. }) = decode(Table::Held, &bytes) {
                self.sums.add(vault, len.into());
            }
            self.sums.summed = Summed::UpTo(Some(shard));
            self.sums.page = (self.sums.page + 2).min(PAGE);
        }
        if is_rest && self.sums.has_ended && pending.is_none() {
            let Ok(rows) = facts.scan(Table::Usage, &[], None, usize::MAX) else { return };
            let rows = rows.into_iter().filter_map(|(key, _)| key.try_into().ok().map(VaultId));
            let known = self.usage.keys().chain(self.sums.counted.keys()).copied();
            self.sums.open = known.chain(rows).collect();
            self.sums.summed = Summed::All;
        }
    }

    /// Compares what is kept of a vault of which nothing is being written.
    fn compare_sums(&mut self, now: Now, facts: &dyn Facts, vault: VaultId) {
        let counted = self.sums.counted.get(&vault).copied().unwrap_or_default();
        let row = facts.get(Table::Usage, &vault.0).map(|row| {
            row.map_or(Ok(Usage::default()), |bytes| decode::<Usage>(Table::Usage, &bytes))
        });
        // The next start says that it cannot be read.
        let Ok(Ok(row)) = row else { return };
        let used = self.usage.get(&vault).copied().unwrap_or_default();
        let months = self.tallies.held(vault);
        let Some(kept) = [row, used, months].into_iter().find(|kept| *kept != counted) else {
            if self.sums.wrong.remove(&vault) {
                let write = Write::remove(Table::Miscounted, vault.0.to_vec());
                self.persist(vec![write], None, Then::Nothing);
            }
            return;
        };
        self.sums.wrong.insert(vault);
        self.outputs.push_back(super::Output::Note(Note::Miscounted { vault, kept, counted }));
        let mut writes =
            vec![Write::miscounted(vault, &MiscountRow { found: now.wall, kept, counted })];
        if row != counted {
            writes.push(Write::change(vault, counted.minus(row), row.minus(counted)));
        }
        writes.extend(tallies::corrected(vault, months, counted, now.wall));
        let (more, less) = (counted.minus(used), used.minus(counted));
        self.persist(writes, None, Then::Corrected { vault, more, less });
    }

    /// A correction is durable.
    pub(super) fn end_correction(&mut self, vault: VaultId, more: Usage, less: Usage) {
        self.usage.change(vault, more, less);
    }
}
