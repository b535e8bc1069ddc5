//! Months of vaults here: what is counted when, and what is stated and countersigned. The sums are [`crate::tally`]'s.
//!
//! - What comes and goes is added in the same write as the shard's own rows ([`Table::SUMS`]), so that it is exact after a crash, whatever else
//!   failed; and it is stated once that write is durable.
//! - What was done besides is what others signed for ([`super::served`]), summed when it is asked for.
//! - After the tables were made anew from the shards' files a month has what is held, since when its receipts say; what went before is
//!   forgotten. What the rows miss of what is held (an earlier program wrote none) is counted from the start on.
//! - A statement is made when it is asked for. What the owner has countersigned is kept, the latest of each month, and shown with it.

use super::facts::{self, Facts, FactsError, Table, View, Write, decode, key};
use super::holder::{BUSY_RETRY, not_allowed};
use super::{Decision, LaneId, Peer, Role, Then, Usage, refusal};
use crate::id::{OperatorId, VaultId};
use crate::message::{RefusalCode, Response, Stated};
use crate::sign::Signed;
use crate::tally::{Amount, Countersigned, Month, Months, Tally, UsageStatement};
use crate::time::{Now, Wall};
use std::collections::BTreeMap;

/// Most vaults of which something is stated in one answer: as many as all partners together may have.
const STATED_MAX: usize = crate::partner::PARTNERS_MAX * super::partners::PARTNER_VAULTS_MAX;

/// What adds to a vault's month.
pub(super) type Added = (VaultId, (Month, Tally));

/// What is written down of all vaults.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    /// What is durable.
    of: BTreeMap<VaultId, Months>,
    /// What came and went by writes that are not durable yet.
    writing: BTreeMap<u64, Vec<Added>>,
}

/// The key of a month of a vault.
fn tally_key(vault: VaultId, month: Month) -> Vec<u8> {
    key(&[&vault.0, &month.0.to_be_bytes()])
}

/// Which month of which vault a row is.
fn month_of(row: &[u8]) -> Option<(VaultId, Month)> {
    let (vault, month) = row.split_first_chunk::<32>()?;
    Some((VaultId(*vault), Month(u32::from_be_bytes(month.try_into().ok()?))))
}

fn one(bytes: u64) -> Amount {
    Amount { shards: 1, bytes }
}

fn write((vault, (month, tally)): &Added) -> Write {
    Write::row(Table::Tally, tally_key(*vault, *month), tally)
}

/// A shard came: for the write that has its rows.
pub(super) fn came(vault: VaultId, bytes: u64, received: Wall) -> Write {
    write(&(vault, Tally::came(one(bytes), received)))
}

/// A shard goes, at that moment.
pub(super) fn went(vault: VaultId, bytes: u64, at: Wall) -> Write {
    write(&(vault, Tally::went(one(bytes), at)))
}

/// The promise of a shard is made anew: its time is counted by two receipts.
pub(super) fn renewed(vault: VaultId, bytes: u64, at: Wall) -> Write {
    let ((month, went), (_, came)) = (Tally::went(one(bytes), at), Tally::came(one(bytes), at));
    write(&(vault, (month, went.plus(came))))
}

/// The months of a vault come to this much and should come to that: what they lack, or have too much, counts as come or gone at this moment.
pub(super) fn corrected(
    vault: VaultId,
    held: Usage,
    is: Usage,
    at: Wall,
) -> impl Iterator<Item = Write> {
    let amount = |Usage { bytes, shards }| Amount { shards, bytes };
    let (more, less) = (amount(is.minus(held)), amount(held.minus(is)));
    let is_any = |amount: &Amount| *amount != Amount::default();
    let more = Some(more).filter(is_any).map(|more| (vault, Tally::came(more, at)));
    let less = Some(less).filter(is_any).map(|less| (vault, Tally::went(less, at)));
    more.into_iter().chain(less).map(|added| write(&added))
}

impl Tallies {
    pub(super) fn load(facts: &dyn Facts) -> Result<Self, FactsError> {
        let mut tallies = Self::default();
        for (row, bytes) in facts.scan(Table::Tally, &[], None, usize::MAX)? {
            let tally: Tally = facts::decode(Table::Tally, &bytes)?;
            let Some((vault, month)) = month_of(&row) else { continue };
            tallies.of.entry(vault).or_default().add((month, tally));
        }
        Ok(tallies)
    }

    /// What months lack of what is held, or have too much.
    pub(super) fn missing(&self, usage: &BTreeMap<VaultId, Usage>, at: Wall) -> Vec<Write> {
        let of = |(&vault, &is): (&VaultId, &Usage)| corrected(vault, self.held(vault), is, at);
        usage.iter().flat_map(of).collect()
    }

    /// What is held of a vault by what came and went.
    pub(super) fn held(&self, vault: VaultId) -> Usage {
        let Amount { shards, bytes } = self.of.get(&vault).map(Months::held).unwrap_or_default();
        Usage { bytes, shards }
    }

    /// The first month of a vault of which something is written down.
    pub(super) fn first(&self, vault: VaultId) -> Option<Month> {
        self.of.get(&vault).and_then(Months::first)
    }

    /// Remembers what writes add, until [`Tallies::settle`] is told that `token` is durable or has failed.
    pub(super) fn touch(&mut self, token: u64, writes: &[Write]) {
        let added = writes.iter().filter(|write| write.table == Table::Tally).filter_map(|write| {
            let (vault, month) = month_of(&write.key)?;
            let tally = decode(Table::Tally, write.value.as_deref()?).ok()?;
            Some((vault, (month, tally)))
        });
        let added: Vec<Added> = added.collect();
        if !added.is_empty() {
            self.writing.insert(token, added);
        }
    }

    /// They are durable, or have failed: then nothing was added.
    pub(super) fn settle(&mut self, token: u64, is_durable: bool) {
        let added = self.writing.remove(&token).filter(|_| is_durable);
        for (vault, added) in added.into_iter().flatten() {
            self.of.entry(vault).or_default().add(added);
        }
    }
}

impl Peer {
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
            // Of what was before anything was held nothing is said.
            if months.first().is_none_or(|first| month < first) {
                continue;
            }
            let who = (self.node(), vault, operator);
            let done = self.done_for(facts, vault, month)?;
            let Some(statement) = UsageStatement::of(who, months, month, done, now.wall) else {
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
        if self.tallies.first(said.vault).is_none_or(|first| said.month < first) {
            let text = format!("nothing was held or done for the vault in {}", said.month);
            return Err(not_allowed(text));
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
        if known.is_some_and(|known| !said.is_after(&known)) {
            self.reply(lane, Response::Done);
            return Ok(());
        }
        let writes = vec![Write::row(Table::Statement, row, signed)];
        let response = Box::new(Response::Done);
        self.persist(writes, None, Then::Reply { lane, response, close: false });
        Ok(())
    }

    /// For which operator somebody asks about months: not a node, and no guest.
    pub(super) fn check_accountant(&self, role: &Role) -> Result<OperatorId, super::Refusal> {
        match role {
            Role::Device { operator, .. } | Role::Console { operator } => Ok(*operator),
            Role::Node(_) => Err(not_allowed("months are stated to operators' commands")),
        }
    }
}
