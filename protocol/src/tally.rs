//! What a holder held and did for a vault in a month, so that neither side can dispute it later.
//!
//! ```text
//! holder ──signs──► UsageStatement { vault, month, figures }      owner's operator ──signs──► Countersigned { the signed statement }
//! ```
//! A shard counts from the moment that its receipt names until it goes, whatever lies between: a month is a sum over its shards, so the order in which
//! they come and go does not matter, nothing has to be done when a month ends, and whoever has the receipts finds the same sum
//! ([`Recount`]). What was done besides is what receipts for service ([`crate::served`]) come to. Months are those of the holder's wall clock, in UTC: a clock that is wrong moves figures to another month and makes none.
//! What is written down where is [`crate::peer`]'s.

use crate::id::{NodeId, OperatorId, PublicKey, VaultId};
use crate::planted::{Bug, is_planted};
use crate::record::{Receipt, Record, SHARD_LEN_MAX};
use crate::retention::calendar::{civil, first_of};
use crate::sign::{SignatureError, Signed, Statement};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

const DAY: u64 = Period::days(1).0;
/// Years that can be written: the last one is as far as a wall clock's claim is taken.
const YEARS: [u64; 2] = [1970, 9999];

/// A month of the UTC calendar, counted from January 1970. In text `2026-10`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Month(pub u32);

impl Month {
    /// The month in which a point of time lies.
    #[must_use]
    pub fn of(time: Wall) -> Self {
        let (year, month, _) = civil(time.0 / DAY);
        let year = year.clamp(YEARS[0], YEARS[1]) - YEARS[0];
        Self((year * 12 + month) as u32)
    }

    /// Its first moment.
    #[must_use]
    pub fn start(self) -> Wall {
        let (year, month) = (i64::from(self.0 / 12) + YEARS[0] as i64, i64::from(self.0 % 12));
        Wall(u64::try_from(first_of(year, month)).unwrap_or(0).saturating_mul(DAY))
    }

    /// The first moment of the next one.
    #[must_use]
    pub fn end(self) -> Wall {
        Self(self.0.saturating_add(1)).start()
    }

    /// How far into it a point of time is, in milliseconds: 0 before it, and its whole length behind it.
    fn offset(self, time: Wall) -> u64 {
        time.0.clamp(self.start().0, self.end().0) - self.start().0
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:02}", u64::from(self.0 / 12) + YEARS[0], self.0 % 12 + 1)
    }
}

/// Text that is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no month: write 2026-10")]
pub struct ParseMonthError(String);

impl FromStr for Month {
    type Err = ParseMonthError;
    fn from_str(text: &str) -> Result<Self, ParseMonthError> {
        let read = || {
            let (year, month) = text.split_once('-')?;
            let is_written = year.len() == 4 && month.len() == 2;
            let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            let (year, month): (u64, u64) = (year.parse().ok()?, month.parse().ok()?);
            let fits = is_written && text.split('-').all(is_digits);
            let is_one = (1..=12).contains(&month) && (YEARS[0]..=YEARS[1]).contains(&year);
            (fits && is_one).then(|| Self(((year - YEARS[0]) * 12 + month - 1) as u32))
        };
        read().ok_or_else(|| ParseMonthError(text.chars().take(40).collect()))
    }
}

/// Shards, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Shards.
    pub shards: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            shards: self.shards.saturating_add(other.shards),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            shards: self.shards.saturating_sub(other.shards),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// Shards that came, or went, in a month, and the sum of their bytes times the milliseconds of the month before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Moved {
    amount: Amount,
    moment: u128,
}

impl Moved {
    fn of(amount: Amount, offset: u64) -> Self {
        Self { amount, moment: u128::from(amount.bytes) * u128::from(offset) }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            amount: self.amount.plus(other.amount),
            moment: self.moment.saturating_add(other.moment),
        }
    }

    /// Bytes times milliseconds from their moments to this one.
    fn until(&self, offset: u64) -> u128 {
        (u128::from(self.amount.bytes) * u128::from(offset)).saturating_sub(self.moment)
    }
}

/// What is written down of a vault and a month, or what something adds to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    came: Moved,
    went: Moved,
    /// Part of the row: what earlier programs counted themselves, which is stated no more.
    done: Done,
}

impl Tally {
    /// What shards add that came at this moment, and to which month.
    #[must_use]
    pub fn came(amount: Amount, at: Wall) -> (Month, Self) {
        let month = Month::of(at);
        (month, Self { came: Moved::of(amount, month.offset(at)), ..Self::default() })
    }

    /// What shards add that went at this moment, which is none before they came.
    #[must_use]
    pub fn went(amount: Amount, at: Wall) -> (Month, Self) {
        let amount = if is_planted(Bug::Months) { Amount::default() } else { amount };
        let month = Month::of(at);
        (month, Self { went: Moved::of(amount, month.offset(at)), ..Self::default() })
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            came: self.came.plus(other.came),
            went: self.went.plus(other.went),
            done: self.done.plus(other.done),
        }
    }
}

/// What was done for a vault in a month, by the receipts of whoever was served ([`crate::served`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {
    /// Bytes of shards that arrived, those that healed a damaged one among them.
    pub received: u64,
    /// Bytes of shards that were sent to whoever may read the vault.
    pub sent: u64,
    /// Shards that were proved to whoever asked for that.
    pub proved: u64,
    /// Shards that were promised, and not proved.
    pub unproved: u64,
}

impl Done {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            received: self.received.saturating_add(other.received),
            sent: self.sent.saturating_add(other.sent),
            proved: self.proved.saturating_add(other.proved),
            unproved: self.unproved.saturating_add(other.unproved),
        }
    }

    /// What is more than that; `None` where anything is less.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        Some(Self {
            received: self.received.checked_sub(other.received)?,
            sent: self.sent.checked_sub(other.sent)?,
            proved: self.proved.checked_sub(other.proved)?,
            unproved: self.unproved.checked_sub(other.unproved)?,
        })
    }
}

/// A month of a vault at a holder, up to some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// What was held when it began.
    pub opening: Amount,
    /// What came since. A shard whose promise was renewed counts as gone and come again.
    pub came: Amount,
    /// What went.
    pub went: Amount,
    /// Bytes times the milliseconds for which they were held.
    pub byte_ms: u128,
    /// What was done.
    pub done: Done,
}

impl Figures {
    /// Whole bytes times days.
    #[must_use]
    pub fn byte_days(&self) -> u64 {
        u64::try_from(self.byte_ms / u128::from(DAY)).unwrap_or(u64::MAX)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            opening: self.opening.plus(other.opening),
            came: self.came.plus(other.came),
            went: self.went.plus(other.went),
            byte_ms: self.byte_ms.saturating_add(other.byte_ms),
            done: self.done.plus(other.done),
        }
    }
}

/// All months of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Months(BTreeMap<Month, Tally>);

impl Months {
    /// Takes in a month as it was stored.
    pub fn insert(&mut self, month: Month, tally: Tally) {
        self.0.insert(month, tally);
    }

    /// A month as it is to be stored.
    #[must_use]
    pub fn get(&self, month: Month) -> Tally {
        self.0.get(&month).copied().unwrap_or_default()
    }

    /// The first of which something is written down.
    #[must_use]
    pub fn first(&self) -> Option<Month> {
        self.0.keys().next().copied()
    }

    /// Those of which something is written down.
    pub fn months(&self) -> impl Iterator<Item = Month> {
        self.0.keys().copied()
    }

    /// Adds to a month.
    pub fn add(&mut self, (month, tally): (Month, Tally)) {
        let known = self.0.entry(month).or_default();
        *known = known.plus(tally);
    }

    /// What is held by all that came and went.
    #[must_use]
    pub fn held(&self) -> Amount {
        let tallies = self.0.values();
        let all = |moved: fn(&Tally) -> Amount| {
            tallies.clone().map(moved).fold(Amount::default(), Amount::plus)
        };
        all(|tally| tally.came.amount).minus(all(|tally| tally.went.amount))
    }

    /// What went behind a month.
    fn gone_since(&self, month: Month) -> Amount {
        let later = self.0.iter().filter(|(other, _)| **other > month);
        later.map(|(_, tally)| tally.went.amount).fold(Amount::default(), Amount::plus)
    }

    /// A month up to a moment of it that nothing counted lies behind; what was done in it is not written down here.
    #[must_use]
    pub fn figures(&self, month: Month, until: Wall) -> Figures {
        let earlier = Self(self.0.range(..month).map(|(&month, &tally)| (month, tally)).collect());
        let (opening, tally, offset) = (earlier.held(), self.get(month), month.offset(until));
        let all = u128::from(opening.bytes) * u128::from(offset);
        let byte_ms = (all + tally.came.until(offset)).saturating_sub(tally.went.until(offset));
        let (came, went) = (tally.came.amount, tally.went.amount);
        Figures { opening, came, went, byte_ms, done: Done::default() }
    }
}

/// What a holder says of a vault and a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageStatement {
    /// Who held.
    pub holder: NodeId,
    /// Whose.
    pub vault: VaultId,
    /// Who vouches for the vault there.
    pub operator: OperatorId,
    /// In which month.
    pub month: Month,
    /// Up to this moment: its end, or that at which it was asked.
    pub until: Wall,
    /// How much.
    pub figures: Figures,
    /// What went behind the month: it was held in it, or came later, and its receipts are gone.
    pub gone_since: Amount,
}

impl Statement for UsageStatement {
    const CONTEXT: &'static str = "strewn usage statement";
    const LEN_MAX: usize = 1 << 10;
    fn signer(&self) -> PublicKey {
        self.holder.key()
    }
}

impl UsageStatement {
    /// What this holder says now, by what it held and the receipts for what it did; `None` of a month that has not begun.
    #[must_use]
    pub fn of(
        (holder, vault, operator): (NodeId, VaultId, OperatorId),
        months: &Months,
        month: Month,
        done: Done,
        now: Wall,
    ) -> Option<Self> {
        let until = now.min(month.end());
        (month.start() < until).then(|| Self {
            holder,
            vault,
            operator,
            month,
            until,
            figures: Figures { done, ..months.figures(month, until) },
            gone_since: months.gone_since(month),
        })
    }
}

/// The owner's operator agrees with a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Countersigned {
    /// Who agrees.
    pub operator: OperatorId,
    /// With what.
    pub statement: Signed<UsageStatement>,
}

impl Statement for Countersigned {
    const CONTEXT: &'static str = "strewn usage countersignature";
    const LEN_MAX: usize = 2 << 10;
    fn signer(&self) -> PublicKey {
        self.operator.key()
    }
    fn operator(&self) -> Option<OperatorId> {
        Some(self.operator)
    }
}

/// Why a countersigned statement does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Somebody else agreed.
    #[error("the statement is about a vault of operator {owner}, and operator {found} signed it")]
    Signer {
        /// Whose vault it is about.
        owner: OperatorId,
        /// Who signed.
        found: OperatorId,
    },
    /// It speaks of time outside its month.
    #[error("the statement of {0} ends at a moment that is not in that month")]
    Time(Month),
}

impl UsageStatement {
    /// Whether both speak of the same month of the same vault at the same holder, and of the same operator as its owner: anybody can agree to
    /// a statement that names itself.
    #[must_use]
    pub fn is_about(&self, other: &Self) -> bool {
        let what = |said: &Self| (said.holder, said.vault, said.operator, said.month);
        what(self) == what(other)
    }

    /// Whether it says more of the month than the other one: receipts for service come in for a while after its end.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        let (done, before) = (self.figures.done, other.figures.done);
        let has_more = self.until == other.until && done != before && done.minus(before).is_some();
        self.until > other.until || has_more
    }

    /// Whether it says less than the same holder said of the month before.
    #[must_use]
    pub fn takes_back(&self, before: &Self) -> bool {
        self.until < before.until || self.figures.done.minus(before.figures.done).is_none()
    }

    /// Verifies a holder's word, and that it speaks of its month.
    pub fn verify(signed: &Signed<Self>) -> Result<Self, StatementError> {
        let statement = signed.verify()?;
        let Self { month, until, .. } = statement;
        if until <= month.start() || until > month.end() {
            return Err(StatementError::Time(month));
        }
        Ok(statement)
    }
}

impl Countersigned {
    /// Verifies both signatures, and that the second is the owner's.
    pub fn verify(signed: &Signed<Self>) -> Result<UsageStatement, StatementError> {
        let Self { operator, statement } = signed.verify()?;
        let statement = UsageStatement::verify(&statement)?;
        if statement.operator != operator {
            return Err(StatementError::Signer { owner: statement.operator, found: operator });
        }
        Ok(statement)
    }
}

/// A statement's figures, found again from the receipts that its holder shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recount {
    month: Month,
    until: Wall,
    /// What was held when it began, as far as it is still there.
    pub opening: Amount,
    /// What came.
    pub came: Amount,
    /// Bytes times milliseconds.
    pub byte_ms: u128,
    /// Shards that the vault let go.
    let_go: u64,
    /// The longest shard of the vault that is known.
    longest: Option<u32>,
}

/// More went by a holder's word than the vault let go: what it says of that nothing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unshown {
    /// What went, by its word.
    pub stated: Amount,
    /// What can have gone, by what the vault did.
    pub let_go: Amount,
}

/// A figure that receipts do not bear out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub what: &'static str,
    /// As the holder says.
    pub stated: u128,
    /// The least that its receipts come to,
    pub least: u128,
    /// and the most, with all that it says is gone.
    pub most: u128,
}

impl Recount {
    /// Nothing yet, for this statement.
    #[must_use]
    pub fn of(statement: &UsageStatement) -> Self {
        let (opening, came) = (Amount::default(), Amount::default());
        let (month, until) = (statement.month, statement.until);
        Self { month, until, opening, came, byte_ms: 0, let_go: 0, longest: None }
    }

    /// Takes in the record of a stripe: how long its shards are, and how often the promise can have been made anew, if the holder has one.
    pub fn know(&mut self, record: &Record, is_promised: bool) {
        self.longest = self.longest.max(Some(record.stripe.shard_len));
        if is_promised {
            self.let_go(record.version.saturating_sub(1).into());
        }
    }

    /// The vault let so many shards go.
    pub fn let_go(&mut self, shards: u64) {
        self.let_go = self.let_go.saturating_add(shards);
    }

    /// Counts a receipt; whether it concerns the month.
    pub fn add(&mut self, receipt: &Receipt) -> bool {
        let Receipt { received, len, .. } = *receipt;
        if received >= self.until {
            return false;
        }
        let amount = Amount { shards: 1, bytes: u64::from(len) };
        let is_opening = Month::of(received) < self.month;
        let sum = if is_opening { &mut self.opening } else { &mut self.came };
        *sum = sum.plus(amount);
        let held = self.month.offset(self.until) - self.month.offset(received);
        self.byte_ms = self.byte_ms.saturating_add(u128::from(len) * u128::from(held));
        true
    }

    /// Whether more went than the vault let go. Then the figures are a holder's that says that much came and went: no receipt speaks against
    /// that, and none for it.
    #[must_use]
    pub fn unshown(&self, statement: &UsageStatement) -> Option<Unshown> {
        let stated = statement.figures.went.plus(statement.gone_since);
        let longest = self.longest.unwrap_or(SHARD_LEN_MAX);
        let bytes = self.let_go.saturating_mul(longest.into());
        let let_go = Amount { shards: self.let_go, bytes };
        let is_more = stated.shards > let_go.shards || stated.bytes > let_go.bytes;
        is_more.then_some(Unshown { stated, let_go })
    }

    /// What the receipts do not bear out. Exact where nothing went since the month began; where something did, its receipts are gone,
    /// and what the statement says of it is taken for as much as it can be. What was done is counted by
    /// [`crate::served::ServiceCount`].
    #[must_use]
    pub fn differences(&self, statement: &UsageStatement) -> Vec<Difference> {
        let UsageStatement { figures, gone_since, .. } = statement;
        let gone = figures.went.plus(*gone_since);
        let all = u128::from(self.month.offset(self.until));
        let stated = figures.opening.plus(figures.came);
        let found = self.opening.plus(self.came);
        let pairs = [
            ("shards", stated.shards.into(), found.shards.into(), u128::from(gone.shards)),
            ("bytes", stated.bytes.into(), found.bytes.into(), u128::from(gone.bytes)),
            ("byte_ms", figures.byte_ms, self.byte_ms, u128::from(gone.bytes) * all),
        ];
        let wrong = pairs.into_iter().filter_map(|(what, stated, least, gone)| {
            let most = least.saturating_add(gone);
            let is_so = (least..=most).contains(&stated);
            (!is_so).then_some(Difference { what, stated, least, most })
        });
        wrong.collect()
    }
}

#[cfg(test)]
mod tests;
