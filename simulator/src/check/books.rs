//! What is counted of a node: what it holds by its rows, what it says that it holds, and what it says that months came to.
//!
//! - Conservation: what is counted as used is what is held, and no more than quota and growth allow.
//! - What is written down of a month is what the receipts say that came in it, and what came and did not go is what is held.

use super::{Checker, id};
use crate::host::Host;
use protocol::codec::{VALUE_LEN_MAX, decode};
use protocol::id::{ShardId, VaultId};
use protocol::peer::{Facts, Held, Table, Usage, Write};
use protocol::record::Receipt;
use protocol::tally::{Amount, Month, Months, Tally};
use protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// What is counted of a node.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) held: BTreeMap<VaultId, Usage>,
    pub(super) rows: BTreeMap<VaultId, Usage>,
    pub(super) shards: BTreeMap<ShardId, (VaultId, u64)>,
    /// Bytes that a vault added since the node started.
    pub(super) grown: BTreeMap<VaultId, u64>,
    pub(super) started: Mono,
    pub(super) accounts: Accounts,
}

/// What came of a vault in a month, by its receipts.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Came {
    bytes: u64,
    shards: u64,
    /// Bytes times the milliseconds of the month before they came.
    moment: u128,
}

/// What receipts say of months, and what is written down of them.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Of which vault each shard is, and what names its receipt.
    receipts: BTreeMap<ShardId, (VaultId, [u8; 16])>,
    came: BTreeMap<(VaultId, Month), Came>,
    /// Vaults of which something went.
    went: BTreeSet<VaultId>,
    rows: BTreeMap<(VaultId, Month), Tally>,
    /// Vaults of which something changed.
    changed: BTreeSet<VaultId>,
}

impl Accounts {
    /// A shard's row changes.
    pub(super) fn count(&mut self, shard: ShardId, receipt: Option<(Receipt, [u8; 16])>) {
        let known = self.receipts.remove(&shard);
        let new = receipt.as_ref().map(|(receipt, name)| (receipt.vault, *name));
        self.receipts.extend(new.map(|new| (shard, new)));
        if known.is_some() && known == new {
            return;
        }
        if let Some((vault, _)) = known {
            self.went.insert(vault);
            self.changed.insert(vault);
        }
        let Some((receipt, _)) = receipt else { return };
        let month = Month::of(receipt.received);
        let len = u64::from(receipt.len);
        let came = self.came.entry((receipt.vault, month)).or_default();
        came.bytes += len;
        came.shards += 1;
        came.moment += u128::from(len) * u128::from(receipt.received.0 - month.start().0);
        self.changed.insert(receipt.vault);
    }

    /// The row of a month changes.
    fn tally(&mut self, vault: VaultId, month: Month, tally: Tally) {
        self.rows.insert((vault, month), tally);
        self.changed.insert(vault);
    }

    /// What is written down of a vault.
    fn months(&self, vault: VaultId) -> Months {
        let mut months = Months::default();
        let rows = self.rows.range((vault, Month(0))..=(vault, Month(u32::MAX)));
        rows.for_each(|(&(_, month), &tally)| months.insert(month, tally));
        months
    }

    /// What is wrong with what is written down, if something is.
    pub(super) fn check(&mut self, held: impl Fn(VaultId) -> Amount) -> Option<String> {
        let changed = std::mem::take(&mut self.changed);
        for vault in changed {
            let (months, held) = (self.months(vault), held(vault));
            if months.held() != held {
                let text = format!("the months of vault {vault} come to {:?}", months.held());
                return Some(format!("{text}, and {held:?} is held"));
            }
            let mut opening = 0u64;
            let came = self.came.range((vault, Month(0))..=(vault, Month(u32::MAX)));
            for (&(_, month), came) in came {
                let figures = months.figures(month, month.end());
                let amount = Amount { shards: came.shards, bytes: came.bytes };
                let all = u128::from(opening + came.bytes);
                let length = u128::from(month.end().0 - month.start().0);
                let byte_ms = all * length - came.moment;
                opening += came.bytes;
                let is_sum = self.went.contains(&vault) || figures.byte_ms == byte_ms;
                if figures.came != amount || !is_sum {
                    let text = format!("{month} of vault {vault} is {figures:?}");
                    return Some(format!("{text}, and receipts say {amount:?}, {byte_ms}"));
                }
            }
        }
        None
    }
}

impl Checker {
    /// A row of a sum changes.
    pub(super) fn count_sum(&mut self, node: usize, host: &Host, write: &Write) {
        let (Some(vault), Some(more)) = (id(&write.key, 0).map(VaultId), &write.value) else {
            return;
        };
        let known = host.disk.facts().get(write.table, &write.key).ok().flatten();
        let sum = write.table.sum(known.as_deref(), more);
        let books = self.books.entry(node).or_default();
        if write.table == Table::Usage {
            books.rows.extend(decode(&sum, VALUE_LEN_MAX).ok().map(|usage| (vault, usage)));
            return;
        }
        let month = write.key.get(32..36).and_then(|month| month.try_into().ok());
        if let (Some(month), Ok(tally)) = (month, decode(&sum, VALUE_LEN_MAX)) {
            books.accounts.tally(vault, Month(u32::from_be_bytes(month)), tally);
        }
    }

    pub(super) fn count_held(&mut self, now: Mono, node: usize, host: &Host, write: &Write) {
        let Some(shard) = id(&write.key, 0).map(ShardId) else { return };
        let books = self.books.entry(node).or_default();
        let known = books.shards.remove(&shard);
        let is_known = known.is_some();
        if let Some((vault, len)) = known {
            let held = books.held.entry(vault).or_default();
            held.bytes -= len;
            held.shards -= 1;
            if write.value.is_some() {
                // Healed: it is counted again below, and did not grow.
                let grown = books.grown.entry(vault).or_default();
                *grown = grown.saturating_sub(len);
            }
        }
        let held = write.value.as_ref().and_then(|bytes| decode::<Held>(bytes, VALUE_LEN_MAX).ok());
        let receipt = held.as_ref().and_then(|held| {
            let name = *held.receipt.digest().first_chunk()?;
            Some((held.receipt.verify().ok()?, name))
        });
        books.accounts.count(shard, receipt);
        let Some(Held { vault, len, .. }) = held else { return };
        let is_new = !is_known;
        let len = u64::from(len);
        books.shards.insert(shard, (vault, len));
        let held = books.held.entry(vault).or_default();
        held.bytes += len;
        held.shards += 1;
        let all: u64 = books.held.values().map(|held| held.bytes).sum();
        let config = host.config();
        let grown = books.grown.entry(vault).or_default();
        *grown += len;
        let (grown, ran) = (*grown, now.0 - books.started.0);
        if all > config.quota {
            let text = format!("node {node} holds {all} bytes, and its quota is {}", config.quota);
            self.report("conservation", text);
        }
        // Its own clock may run twice as fast.
        if let Some(per_day) = config.growth_per_day
            && u128::from(grown)
                > u128::from(per_day) + u128::from(per_day) * 2 * u128::from(ran) / 86_400_000
        {
            let text =
                format!("a vault added {grown} bytes at node {node}, {per_day} may come in a day");
            self.report("conservation", text);
        }
        if is_new {
            self.check_part(now, node, vault);
            let bytes = self.books[&node].held[&vault].bytes;
            if let Some(quota) = config.vault_quota.filter(|quota| bytes > *quota) {
                let text = format!("node {node} holds {bytes} bytes of a vault that has {quota}");
                self.report("swap", text);
            }
        }
    }

    /// Nothing is being written at a node.
    pub(crate) fn idle(&mut self, node: usize) {
        let Some(books) = self.books.get_mut(&node) else { return };
        let held = |vault| {
            let Usage { bytes, shards } = books.held.get(&vault).copied().unwrap_or_default();
            Amount { shards, bytes }
        };
        if let Some(text) = books.accounts.check(held) {
            let text = format!("node {node}: {text}");
            self.broken.get_or_insert(("conservation", text));
            return;
        }
        for (vault, held) in &books.held {
            let row = books.rows.get(vault).copied().unwrap_or_default();
            if row != *held {
                let text = format!(
                    "node {node} counts {} bytes of vault {vault} and holds {}",
                    row.bytes, held.bytes
                );
                self.broken.get_or_insert(("conservation", text));
                return;
            }
        }
    }
}
