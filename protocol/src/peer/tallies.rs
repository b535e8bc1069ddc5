//! Months of vaults here: what is counted when, and what is stated and countersigned. The sums are [`crate::tally`]'s.
//!
//! - What comes and goes is counted in the same write as the shard's own rows, so that it is exact after a crash.
//! - Bytes that are sent and proofs that are asked for change nothing else that is stored: they are written down at each exchange of members, and
//!   with the next shard of the vault. A crash loses what was done since, which a holder claims too little then and never too much.
//! - After the tables were made anew from the shards' files a month has what is held, since when its receipts say; what went before, and what
//!   was done, is forgotten. What the rows miss of what is held (an earlier program wrote none) is counted from the start on.
//! - A statement is made when it is asked for. What the owner has countersigned is kept, the latest of each month, and shown with it.

use super::facts::{self, Facts, FactsError, Table, View, Write, decode, key};
use super::holder::{BUSY_RETRY, not_allowed};
use super::{Decision, LaneId, Peer, Role, Then, Usage, refusal};
use crate::id::{OperatorId, VaultId};
use crate::message::{RefusalCode, Response, Stated};
use crate::sign::Signed;
use crate::tally::{Amount, Countersigned, Done, Month, Months, Tally, UsageStatement};
use crate::time::{Now, Wall};
use std::collections::{BTreeMap, BTreeSet};

/// Most vaults of which something is stated in one answer: as many as all partners together may have.
const STATED_MAX: usize = crate::partner::PARTNERS_MAX * super::partners::PARTNER_VAULTS_MAX;

/// What is written down of all vaults.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    of: BTreeMap<VaultId, Months>,
    /// Those that are not stored as they are.
    changed: BTreeSet<(VaultId, Month)>,
}

/// The key of a month of a vault.
fn tally_key(vault: VaultId, month: Month) -> Vec<u8> {
    key(&[&vault.0, &month.0.to_be_bytes()])
}

fn one(bytes: u64) -> Amount {
    Amount { shards: 1, bytes }
}

/// The key of the row in which a shard that came at this moment is counted.
#[must_use]
pub fn tally_row_key(vault: VaultId, received: Wall) -> Vec<u8> {
    tally_key(vault, Month::of(received))
}

/// That row with the shard counted; `known` is what it holds. One that cannot be read is made anew.
#[must_use]
pub fn tally_row(vault: VaultId, len: u32, received: Wall, known: Option<&[u8]>) -> Write {
    let mut months = Months::default();
    if let Some(tally) = known.and_then(|bytes| decode(Table::Tally, bytes).ok()) {
        months.insert(Month::of(received), tally);
    }
    let month = months.come(one(len.into()), received);
    Write::row(Table::Tally, tally_key(vault, month), &months.get(month))
}

impl Tallies {
    pub(super) fn load(
        facts: &dyn Facts,
        usage: &BTreeMap<VaultId, Usage>,
        now: Now,
    ) -> Result<Self, FactsError> {
        let mut tallies = Self::default();
        for (row, bytes) in facts.scan(Table::Tally, &[], None, usize::MAX)? {
            let tally: Tally = facts::decode(Table::Tally, &bytes)?;
            let Some((vault, month)) = row.split_first_chunk::<32>() else { continue };
            let Ok(month) = <[u8; 4]>::try_from(month) else { continue };
            let months = tallies.of.entry(VaultId(*vault)).or_default();
            months.insert(Month(u32::from_be_bytes(month)), tally);
        }
        for (&vault, usage) in usage {
            let months = tallies.of.entry(vault).or_default();
            let held = months.held();
            let more = Amount {
                shards: usage.shards.saturating_sub(held.shards),
                bytes: usage.bytes.saturating_sub(held.bytes),
            };
            let less = Amount {
                shards: held.shards.saturating_sub(usage.shards),
                bytes: held.bytes.saturating_sub(usage.bytes),
            };
            if more != Amount::default() {
                let month = months.come(more, now.wall);
                tallies.changed.insert((vault, month));
            }
            if less != Amount::default() {
                let month = months.go(less, now.wall);
                tallies.changed.insert((vault, month));
            }
        }
        Ok(tallies)
    }

    fn row(&self, vault: VaultId, month: Month) -> Write {
        let tally = self.of.get(&vault).map(|months| months.get(month)).unwrap_or_default();
        Write::row(Table::Tally, tally_key(vault, month), &tally)
    }

    /// The row of a month that changed, for the write that changes it.
    fn write(&mut self, vault: VaultId, month: Month) -> Write {
        self.changed.remove(&(vault, month));
        self.row(vault, month)
    }

    /// A shard came.
    pub(super) fn come(&mut self, vault: VaultId, bytes: u64, received: Wall) -> Write {
        let months = self.of.entry(vault).or_default();
        let _ = months.add(Done { received: bytes, ..Done::default() }, received);
        let month = months.come(one(bytes), received);
        self.write(vault, month)
    }

    /// It was not stored. Rows that were decided after its own count it: they are written again by [`Tallies::rows`].
    pub(super) fn come_not(&mut self, vault: VaultId, bytes: u64, received: Wall) {
        let _ = self.of.entry(vault).or_default().come_not(one(bytes), received);
    }

    /// A shard goes that came at that moment.
    pub(super) fn go(&mut self, vault: VaultId, bytes: u64, at: Wall) -> Write {
        let month = self.of.entry(vault).or_default().go(one(bytes), at);
        self.write(vault, month)
    }

    /// It does not.
    pub(super) fn go_not(&mut self, vault: VaultId, bytes: u64, at: Wall) {
        let _ = self.of.entry(vault).or_default().go_not(one(bytes), at);
    }

    /// The promise of a shard is made anew: its time is counted by two receipts.
    pub(super) fn renew(&mut self, vault: VaultId, bytes: u64, at: Wall) -> Write {
        let _ = self.of.entry(vault).or_default().go(one(bytes), at);
        let month = self.of.entry(vault).or_default().come(one(bytes), at);
        self.write(vault, month)
    }

    /// Something was done.
    pub(super) fn add(&mut self, vault: VaultId, done: Done, now: Now) {
        let month = self.of.entry(vault).or_default().add(done, now.wall);
        self.changed.insert((vault, month));
    }

    /// All months of a vault.
    pub(super) fn rows(&self, vault: VaultId) -> Vec<Write> {
        let months = self.of.get(&vault).into_iter().flat_map(Months::months);
        months.map(|month| self.row(vault, month)).collect()
    }

    /// What is not stored as it is.
    fn take_changed(&mut self) -> Vec<Write> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|(vault, month)| self.row(vault, month)).collect()
    }

    /// A write failed: what it had of months may be missing.
    pub(super) fn distrust(&mut self) {
        for (&vault, months) in &self.of {
            self.changed.extend(months.months().map(|month| (vault, month)));
        }
    }
}

impl Peer {
    /// Writes down what was done since.
    pub(super) fn store_tallies(&mut self) {
        let writes = self.tallies.take_changed();
        if !writes.is_empty() {
            self.persist(writes, None, Then::Nothing);
        }
    }

    /// Says what was held and done in a month: to the own operator for others' vaults, to others for theirs.
    pub(super) fn handle_statements(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        month: Month,
    ) -> Decision {
        let asker = self.check_accountant(role)?;
        let mut vaults = self.partnership.stated_to(asker);
        if let Role::Device { vault: own, .. } = role {
            vaults.retain(|(vault, _)| vault == own);
        }
        let mut stated = Vec::new();
        for (vault, operator) in vaults.into_iter().take(STATED_MAX) {
            let Some(months) = self.tallies.of.get(&vault) else { continue };
            let who = (self.node(), vault, operator);
            let Some(statement) = UsageStatement::of(who, months, month, now.wall) else {
                return Err(refusal(RefusalCode::Malformed, format!("{month} has not begun here")));
            };
            let countersigned = facts.get(Table::Statement, &tally_key(vault, month))?;
            let countersigned =
                countersigned.map(|bytes| decode(Table::Statement, &bytes)).transpose()?;
            stated.push(Stated { statement: Signed::sign(&statement, &self.key), countersigned });
        }
        self.reply(lane, Response::Statements(stated));
        Ok(())
    }

    /// Keeps what the owner's operator agreed to: a word of this node, about a vault of that operator.
    pub(super) fn handle_countersigned(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        signed: &Signed<Countersigned>,
    ) -> Decision {
        let asker = self.check_accountant(role)?;
        let malformed = |text: String| refusal(RefusalCode::Malformed, text);
        let said = Countersigned::verify(signed).map_err(|e| malformed(e.to_string()))?;
        if said.holder != self.node() {
            return Err(malformed(format!("the statement is node {}'s", said.holder)));
        }
        if said.operator != asker {
            return Err(not_allowed("an operator agrees to what is said of its own vaults"));
        }
        let row = tally_key(said.vault, said.month);
        let view = View { facts, overlay: &self.overlay };
        if view.is_pending(Table::Statement, &row) {
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        let known = facts.get(Table::Statement, &row)?;
        let known: Option<Signed<Countersigned>> =
            known.map(|bytes| decode(Table::Statement, &bytes)).transpose()?;
        let known = known.and_then(|known| Countersigned::verify(&known).ok());
        if known.is_some_and(|known| known.until >= said.until) {
            self.reply(lane, Response::Done);
            return Ok(());
        }
        let writes = vec![Write::row(Table::Statement, row, signed)];
        let response = Box::new(Response::Done);
        self.persist(writes, None, Then::Reply { lane, response, close: false });
        Ok(())
    }

    /// For which operator somebody asks about months: not a node, and no guest.
    fn check_accountant(&self, role: &Role) -> Result<OperatorId, super::Refusal> {
        match role {
            Role::Device { operator, .. } | Role::Console { operator } => Ok(*operator),
            Role::Node(_) => Err(not_allowed("months are stated to operators' commands")),
        }
    }
}
