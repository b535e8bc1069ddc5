//! What a peer has stored: tables of bytes, read through [`Facts`] and changed by [`Write`]s that
//! the driver makes durable. The layout of keys and values is decided here and nowhere else.

mod memory;
mod overlay;

pub use memory::MemoryFacts;
pub(crate) use overlay::Overlay;

use crate::audit::{Finding, Sweep, Transcript};
use crate::certificate::{
    DeviceCertificate, DeviceRevocation, NodeRecord, Roster, VaultCertificate, VaultDescriptor,
};
use crate::codec::{self, CodecError, VALUE_LEN_MAX};
use crate::discharge::Discharge;
use crate::hold::{HoldOrder, Holds};
use crate::id::{
    DeviceId, EntryId, NodeId, OperatorId, PublicKey, ReleaseId, ShardId, StripeId, VaultId,
};
use crate::leave::Word;
use crate::life::Life;
use crate::lock_clock::{BootId, LockClock, LockTime};
use crate::log::Head;
use crate::message::{HeldRecord, LoggedEntry, Request};
use crate::record::{Receipt, Record};
use crate::release::{Approval, Ask, ReleaseRequest, Veto};
use crate::sign::{Signed, Statement};
use crate::tally::Tally;
use crate::time::{Mono, Wall};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// A table. The number is part of the format on disk and never used again.
///
/// | table | key | value |
/// |---|---|---|
/// | `Member` | node | signed node record |
/// | `Redeemed` | bearer key of an invitation | node admitted |
/// | `Vault` | vault | signed vault certificate |
/// | `Descriptor`, `Roster` | vault, version (u64 BE) | signed statement; every version is kept |
/// | `Device` | vault, device | signed device certificate |
/// | `Record` | vault, stripe | signed record |
/// | `Held` | shard | [`Held`] |
/// | `Entry` | vault, device, seq (u64 BE) | logged entry |
/// | `Head` | vault, device | [`Head`] |
/// | `Fork` | vault, device, entry | signed entry: evidence |
/// | `Usage` | vault | [`Usage`]: a sum |
/// | `LockClock` | `0` | [`LockClock::to_bytes`] |
/// | `Revoked` | vault, device | signed revocation of the device |
/// | `Recovery` | `0`, vault | its recovery cards |
/// | | `1`, tag, place (u64 BE) | vault |
/// | `Life` | shard | [`Life`] |
/// | `Veto` | vault, guardian, release | signed veto |
/// | `Holds` | vault | [`HoldRow`] |
/// | `Release`, `Discharge` | vault, release | [`ReleaseRow`] |
/// | `Listed` | node, vault | the first version of the vault's roster that listed the node, as far as known here, and as whose (of the version alone where an earlier program wrote it) |
/// | `Promises` | `0` | [`super::PromiseRow`] |
/// | `Countersigned` | node | that node's newest countersignature of the own chain of promises |
/// | `Witnessed` | node | [`super::WitnessedRow`] |
/// | `Damaged` | shard | when that was found ([`Wall`]) |
/// | `Scrub` | `0` | [`super::ScrubRow`] |
/// | `Audit` | `0` | how far asking other holders is ([`Sweep`]) |
/// | `Finding` | stripe, holder | [`FindingRow`] |
/// | `Evidence` | stripe, holder | the [`Transcript`] of an audit that the holder failed |
/// | `MayLeave` | page digest, witness | its signed [`Word`] that this node may leave |
/// | `Partners` | `0` | the operator's signed list of partners |
/// | `Tally` | vault, month (u32 BE) | [`crate::tally::Tally`]: a sum |
/// | `Notice` | leaver, other side | its signed notice |
/// | `Breach` | partner | since when it breaks its part ([`crate::notice::Breach`]) |
/// | `Statement` | vault, month (u32 BE) | what the vault's operator countersigned last |
/// | `Miscounted` | vault | [`super::MiscountRow`] |
/// | `Denied` | stripe, holder | [`super::DeniedRow`] |
/// | `Served` | vault, month (u32 BE), holder, giver's key | [`super::ServedRow`]: the last receipt for service, taken or given |
///
/// Spans of `Life`, `Holds`, `Release`, `Discharge` and `Denied` count by the lock clock, which is stored in the same write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the table above says what each is")]
pub enum Table {
    Member = 1,
    Redeemed = 2,
    Vault = 3,
    Descriptor = 4,
    Roster = 5,
    Device = 6,
    Record = 7,
    Held = 8,
    Entry = 9,
    Head = 10,
    Fork = 11,
    Usage = 12,
    LockClock = 13,
    Revoked = 23,
    Recovery = 20,
    Life = 14,
    Veto = 15,
    Holds = 16,
    Release = 17,
    Listed = 24,
    Promises = 25,
    Countersigned = 26,
    Witnessed = 27,
    Damaged = 28,
    Scrub = 29,
    Audit = 30,
    Finding = 31,
    Evidence = 32,
    MayLeave = 33,
    Partners = 34,
    Tally = 35,
    Statement = 36,
    Notice = 37,
    Breach = 38,
    Discharge = 39,
    Miscounted = 40,
    Denied = 41,
    Served = 42,
}

impl Table {
    /// Whether the shards' files tell these rows, so that they need no other copy to be made again from. (Not lives: one
    /// that is missing begins anew, and one from an older time could count for what was stopped since.)
    #[must_use]
    pub fn is_told_by_shards(self) -> bool {
        matches!(self, Self::Held | Self::Usage | Self::Life | Self::Tally)
    }

    /// The tables whose rows are sums. What is written to a row is added to what it holds, by the driver and in the same
    /// transaction: so a row is the sum of what is durable, whatever else was decided, failed or was cut off.
    pub const SUMS: [Self; 2] = [Self::Usage, Self::Tally];

    /// Whether its rows are sums.
    #[must_use]
    pub fn is_sum(self) -> bool {
        Self::SUMS.contains(&self)
    }

    /// What a row of sums holds once this was added to what it held. One that cannot be read stays as it is: the next start says so.
    #[must_use]
    pub fn sum(self, known: Option<&[u8]>, more: &[u8]) -> Vec<u8> {
        let sum = match self {
            Self::Tally => tally_sum(known, more),
            _ => usage_sum(known, more),
        };
        sum.unwrap_or_else(|_| known.unwrap_or(more).to_vec())
    }
}

fn tally_sum(known: Option<&[u8]>, more: &[u8]) -> Result<Vec<u8>, FactsError> {
    let known: Option<Tally> = known.map(|bytes| decode(Table::Tally, bytes)).transpose()?;
    let more: Tally = decode(Table::Tally, more)?;
    Ok(codec::encode(&known.unwrap_or_default().plus(more)))
}

fn usage_sum(known: Option<&[u8]>, more: &[u8]) -> Result<Vec<u8>, FactsError> {
    let known: Option<Usage> = known.map(|bytes| decode(Table::Usage, bytes)).transpose()?;
    let UsageChange { more, less } = decode(Table::Usage, more)?;
    Ok(codec::encode(&known.unwrap_or_default().plus(more).minus(less)))
}

/// That a vault's roster lists a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListedRow {
    version: u64,
    operator: OperatorId,
}

/// A change to one row. `None` removes it; in a table of sums ([`Table::SUMS`]) anything else is added to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The table.
    pub table: Table,
    /// The row.
    pub key: Vec<u8>,
    /// What it holds afterwards, or how much more.
    pub value: Option<Vec<u8>>,
}

/// Stored state cannot be read at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// The storage says so.
    #[error("stored state cannot be read: {0}")]
    Storage(String),
    /// A row is not what was written.
    #[error("a stored row of {table:?} is damaged: {source}")]
    Damaged {
        /// The table.
        table: Table,
        /// What is wrong.
        source: CodecError,
    },
}

/// A key and its value.
type Row = (Vec<u8>, Vec<u8>);
/// A page of rows.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads of a peer's own durable state. Synchronous and deterministic: the same state gives the
/// same answer.
pub trait Facts {
    /// One row.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, FactsError>;
    /// Rows whose keys begin with `prefix` and come after `after`, in order, at most `limit`.
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Rows, FactsError>;
}

/// A shard that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whose it is.
    pub vault: VaultId,
    /// Of which stripe.
    pub stripe: StripeId,
    /// Its place there.
    pub index: u16,
    /// Its length in bytes.
    pub len: u32,
    /// The promise that was made for it.
    pub receipt: Signed<Receipt>,
}

/// The holds of a vault, and the orders that made them, for whoever did not hear them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// What counts here.
    pub holds: Holds,
    /// The last order of each guardian.
    pub orders: BTreeMap<OperatorId, Signed<HoldOrder>>,
}

/// What a vault asks, and the table that keeps it while something cools by it.
pub(crate) trait Asked: Ask {
    const TABLE: Table;
    /// How the other holders are told, if they are.
    fn to_tell(
        request: Signed<Self>,
        approvals: Vec<Signed<Approval>>,
        from: u32,
    ) -> Option<Request>;
}

impl Asked for ReleaseRequest {
    const TABLE: Table = Table::Release;
    fn to_tell(
        request: Signed<Self>,
        approvals: Vec<Signed<Approval>>,
        from: u32,
    ) -> Option<Request> {
        Some(Request::Release { request, approvals, from })
    }
}

impl Asked for Discharge {
    const TABLE: Table = Table::Discharge;
    fn to_tell(_: Signed<Self>, _: Vec<Signed<Approval>>, _: u32) -> Option<Request> {
        None
    }
}

/// A release or a discharge by which something began to cool here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ReleaseRow<T = ReleaseRequest> {
    /// The request.
    pub request: Signed<T>,
    /// The approvals that came with it.
    pub approvals: Vec<Signed<Approval>>,
    /// When the last cooldown ends that it began.
    pub until: LockTime,
    /// Who can stop it: the guardians of the locks that it met.
    pub guardians: Vec<OperatorId>,
}

/// What a vault takes up here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of shards.
    pub bytes: u64,
    /// Shards.
    pub shards: u64,
}

impl Usage {
    pub(super) fn of_one(len: u64) -> Self {
        Self { bytes: len, shards: 1 }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            shards: self.shards.saturating_add(other.shards),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            shards: self.shards.saturating_sub(other.shards),
        }
    }
}

/// What is written to a row of [`Table::Usage`].
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct UsageChange {
    more: Usage,
    less: Usage,
}

/// What this node found last of a shard at a holder, where something ever spoke against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingRow {
    /// By which others fetch what is new: it only grows.
    pub number: u64,
    /// What was found.
    pub finding: Signed<Finding>,
}

/// Versions that are read at once: more than a vault has that nobody attacks.
const VERSIONS_PAGE: usize = 16;

/// The key of the one row of the lock clock.
const LOCK_CLOCK_KEY: &[u8] = &[0];

/// Joins the parts of a key.
pub(crate) fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Typed reads: what is decided, over what is durable.
pub(crate) struct View<'a> {
    pub(crate) facts: &'a dyn Facts,
    pub(crate) overlay: &'a Overlay,
}

impl View<'_> {
    fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, FactsError> {
        let bytes = match self.overlay.get(table, key) {
            Some(decided) => decided.clone(),
            None => self.facts.get(table, key)?,
        };
        bytes.map(|bytes| decode(table, &bytes)).transpose()
    }

    /// Whether a row was decided and is not durable yet: nothing may be promised on it.
    pub(crate) fn is_pending(&self, table: Table, key: &[u8]) -> bool {
        self.overlay.get(table, key).is_some()
    }

    /// How many rows whose keys begin with `prefix` were decided and are not durable yet.
    pub(crate) fn count_pending(&self, table: Table, prefix: &[u8]) -> usize {
        self.overlay.range(table, prefix).count()
    }

    pub(crate) fn redeemed(&self, bearer: PublicKey) -> Result<Option<NodeId>, FactsError> {
        self.get(Table::Redeemed, &bearer.0)
    }

    pub(crate) fn vault(
        &self,
        vault: VaultId,
    ) -> Result<Option<Signed<VaultCertificate>>, FactsError> {
        self.get(Table::Vault, &vault.0)
    }

    pub(crate) fn device(
        &self,
        vault: VaultId,
        device: DeviceId,
    ) -> Result<Option<Signed<DeviceCertificate>>, FactsError> {
        self.get(Table::Device, &key(&[&vault.0, &device.0]))
    }

    pub(crate) fn is_revoked(&self, vault: VaultId, device: DeviceId) -> Result<bool, FactsError> {
        let row: Option<Signed<DeviceRevocation>> =
            self.get(Table::Revoked, &key(&[&vault.0, &device.0]))?;
        Ok(row.is_some())
    }

    pub(crate) fn record(
        &self,
        vault: VaultId,
        stripe: StripeId,
    ) -> Result<Option<Signed<Record>>, FactsError> {
        self.get(Table::Record, &key(&[&vault.0, &stripe.0]))
    }

    /// Whether a roster of the vault, the newest or an earlier one, lists the node.
    pub(crate) fn is_listed(&self, node: NodeId, vault: VaultId) -> Result<bool, FactsError> {
        let key = key(&[&node.0, &vault.0]);
        match self.overlay.get(Table::Listed, &key) {
            Some(decided) => Ok(decided.is_some()),
            None => Ok(self.facts.get(Table::Listed, &key)?.is_some()),
        }
    }

    /// The vaults whose rosters first listed the node as this operator's, as far as that is durable.
    pub(crate) fn listed_as(
        &self,
        node: NodeId,
        operator: OperatorId,
    ) -> Result<Vec<VaultId>, FactsError> {
        let rows = self.facts.scan(Table::Listed, &node.0, None, super::ledger::VAULTS_MAX)?;
        let vault_of = |(row, bytes): (Vec<u8>, Vec<u8>)| {
            // Earlier versions wrote no operator: such a row introduces nobody.
            let listed: ListedRow = decode(Table::Listed, &bytes).ok()?;
            let vault = VaultId(row.get(32..)?.try_into().ok()?);
            (listed.operator == operator).then_some(vault)
        };
        Ok(rows.into_iter().filter_map(vault_of).collect())
    }

    /// The vaults whose rosters list the node, or did, as far as that is durable.
    pub(crate) fn listing(&self, node: NodeId) -> Result<Vec<VaultId>, FactsError> {
        let rows = self.facts.scan(Table::Listed, &node.0, None, super::ledger::VAULTS_MAX)?;
        let vaults = rows.into_iter().filter_map(|(row, _)| row.get(32..)?.try_into().ok());
        Ok(vaults.map(VaultId).collect())
    }

    /// Whether a roster of any vault lists the node, or did.
    pub(crate) fn is_listed_at_all(&self, node: NodeId) -> Result<bool, FactsError> {
        Ok(!self.facts.scan(Table::Listed, &node.0, None, 1)?.is_empty())
    }

    /// The lock clock as it was stored.
    pub(crate) fn lock_clock(&self) -> Result<Option<Vec<u8>>, FactsError> {
        self.facts.get(Table::LockClock, LOCK_CLOCK_KEY)
    }

    pub(crate) fn held(&self, shard: ShardId) -> Result<Option<Held>, FactsError> {
        self.get(Table::Held, &shard.0)
    }

    /// The life of a shard as it is stored.
    pub(crate) fn life(&self, shard: ShardId) -> Result<Option<Life>, FactsError> {
        self.get(Table::Life, &shard.0)
    }

    pub(crate) fn veto(
        &self,
        vault: VaultId,
        guardian: OperatorId,
        release: ReleaseId,
    ) -> Result<Option<Signed<Veto>>, FactsError> {
        self.get(Table::Veto, &key(&[&vault.0, &guardian.0, &release.0]))
    }

    pub(crate) fn holds(&self, vault: VaultId) -> Result<HoldRow, FactsError> {
        Ok(self.get(Table::Holds, &vault.0)?.unwrap_or_default())
    }

    pub(crate) fn release<T: Asked>(
        &self,
        vault: VaultId,
        release: ReleaseId,
    ) -> Result<Option<ReleaseRow<T>>, FactsError> {
        self.get(T::TABLE, &key(&[&vault.0, &release.0]))
    }

    pub(crate) fn head(
        &self,
        vault: VaultId,
        device: DeviceId,
    ) -> Result<Option<Head>, FactsError> {
        self.get(Table::Head, &key(&[&vault.0, &device.0]))
    }

    pub(crate) fn entry(
        &self,
        vault: VaultId,
        device: DeviceId,
        seq: u64,
    ) -> Result<Option<LoggedEntry>, FactsError> {
        self.get(Table::Entry, &key(&[&vault.0, &device.0, &seq.to_be_bytes()]))
    }

    /// The newest of the versions kept.
    fn newest<T: Statement>(
        &self,
        table: Table,
        vault: VaultId,
    ) -> Result<Option<Signed<T>>, FactsError> {
        let last = last_version(self.facts, table, vault)?;
        let pending = self.overlay.range(table, &vault.0);
        let pending = pending.filter_map(|(key, value)| Some((key.clone(), value.clone()?))).last();
        let newest = match (last, pending) {
            (Some(durable), Some(pending)) if durable.0 > pending.0 => Some(durable),
            (durable, pending) => pending.or(durable),
        };
        newest.map(|(_, bytes)| decode(table, &bytes)).transpose()
    }

    pub(crate) fn descriptor(
        &self,
        vault: VaultId,
    ) -> Result<Option<Signed<VaultDescriptor>>, FactsError> {
        self.newest(Table::Descriptor, vault)
    }

    pub(crate) fn roster(&self, vault: VaultId) -> Result<Option<Signed<Roster>>, FactsError> {
        self.newest(Table::Roster, vault)
    }
}

/// The row with the highest version of a vault's rows, which are keyed by vault and version.
///
/// Most vaults have a few. Whoever has the vault's key can make them many and long, so they are not paged through: from the
/// last one found on, ever smaller gaps are leapt, some hundred reads at most.
fn last_version(
    facts: &dyn Facts,
    table: Table,
    vault: VaultId,
) -> Result<Option<Row>, FactsError> {
    let mut first = facts.scan(table, &vault.0, None, VERSIONS_PAGE)?;
    let is_all = first.len() < VERSIONS_PAGE;
    let mut last = first.pop();
    if is_all {
        return Ok(last);
    }
    let mut gap = 1u64 << 63;
    while let Some((row, _)) = &last {
        let version = row.last_chunk().map_or(0, |version| u64::from_be_bytes(*version));
        let after = version.checked_add(gap - 1);
        let after = after.map(|after| key(&[&vault.0, &after.to_be_bytes()]));
        let next = match after {
            Some(after) => facts.scan(table, &vault.0, Some(&after), 1)?.pop(),
            None => None,
        };
        match next {
            Some(found) => last = Some(found),
            None if gap == 1 => break,
            None => gap /= 2,
        }
    }
    Ok(last)
}

/// Decodes a row.
pub(crate) fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, FactsError> {
    codec::decode(bytes, VALUE_LEN_MAX).map_err(|source| FactsError::Damaged { table, source })
}

fn put<T: Serialize>(table: Table, key: Vec<u8>, value: &T) -> Write {
    Write { table, key, value: Some(codec::encode(value)) }
}

impl Write {
    pub(crate) fn member(node: NodeId, record: &Signed<NodeRecord>) -> Self {
        put(Table::Member, node.0.to_vec(), record)
    }
    pub(crate) fn redeemed(bearer: PublicKey, node: NodeId) -> Self {
        put(Table::Redeemed, bearer.0.to_vec(), &node)
    }
    pub(crate) fn vault(vault: VaultId, certificate: &Signed<VaultCertificate>) -> Self {
        put(Table::Vault, vault.0.to_vec(), certificate)
    }
    pub(crate) fn descriptor(
        vault: VaultId,
        version: u64,
        descriptor: &Signed<VaultDescriptor>,
    ) -> Self {
        put(Table::Descriptor, key(&[&vault.0, &version.to_be_bytes()]), descriptor)
    }
    pub(crate) fn roster(vault: VaultId, version: u64, roster: &Signed<Roster>) -> Self {
        put(Table::Roster, key(&[&vault.0, &version.to_be_bytes()]), roster)
    }
    pub(crate) fn listed(node: NodeId, vault: VaultId, version: u64, operator: OperatorId) -> Self {
        put(Table::Listed, key(&[&node.0, &vault.0]), &ListedRow { version, operator })
    }
    pub(crate) fn device(
        vault: VaultId,
        device: DeviceId,
        certificate: &Signed<DeviceCertificate>,
    ) -> Self {
        put(Table::Device, key(&[&vault.0, &device.0]), certificate)
    }
    pub(crate) fn revoked(
        vault: VaultId,
        device: DeviceId,
        order: &Signed<DeviceRevocation>,
    ) -> Self {
        put(Table::Revoked, key(&[&vault.0, &device.0]), order)
    }
    pub(crate) fn record(vault: VaultId, stripe: StripeId, record: &Signed<Record>) -> Self {
        put(Table::Record, key(&[&vault.0, &stripe.0]), record)
    }
    pub(crate) fn held(shard: ShardId, held: &Held) -> Self {
        put(Table::Held, held_key(shard), held)
    }
    pub(crate) fn damaged(shard: ShardId, found: Wall) -> Self {
        put(Table::Damaged, shard.0.to_vec(), &found)
    }
    pub(crate) fn scrub(row: &super::ScrubRow) -> Self {
        put(Table::Scrub, vec![0], row)
    }
    pub(crate) fn audit(sweep: &Sweep) -> Self {
        put(Table::Audit, vec![0], sweep)
    }
    pub(crate) fn finding(key: Vec<u8>, row: &FindingRow) -> Self {
        put(Table::Finding, key, row)
    }
    pub(crate) fn evidence(key: Vec<u8>, transcript: &Transcript) -> Self {
        put(Table::Evidence, key, transcript)
    }
    pub(crate) fn may_leave(word: &Word, signed: &Signed<Word>) -> Self {
        put(Table::MayLeave, key(&[&word.page, &word.witness.0]), signed)
    }
    pub(crate) fn entry(vault: VaultId, device: DeviceId, seq: u64, entry: &LoggedEntry) -> Self {
        put(Table::Entry, key(&[&vault.0, &device.0, &seq.to_be_bytes()]), entry)
    }
    pub(crate) fn head(vault: VaultId, device: DeviceId, head: Head) -> Self {
        put(Table::Head, key(&[&vault.0, &device.0]), &head)
    }
    pub(crate) fn fork(
        vault: VaultId,
        device: DeviceId,
        entry: EntryId,
        signed: &Signed<crate::log::Entry>,
    ) -> Self {
        put(Table::Fork, key(&[&vault.0, &device.0, &entry.0]), signed)
    }
    pub(crate) fn life(shard: ShardId, life: &Life) -> Self {
        put(Table::Life, shard.0.to_vec(), life)
    }
    pub(crate) fn veto(vault: VaultId, veto: &Veto, signed: &Signed<Veto>) -> Self {
        put(Table::Veto, key(&[&vault.0, &veto.guardian.0, &veto.release.0]), signed)
    }
    pub(crate) fn holds(vault: VaultId, row: &HoldRow) -> Self {
        put(Table::Holds, vault.0.to_vec(), row)
    }
    pub(crate) fn release<T: Asked>(
        vault: VaultId,
        release: ReleaseId,
        row: &ReleaseRow<T>,
    ) -> Self {
        put(T::TABLE, key(&[&vault.0, &release.0]), row)
    }
    /// The row is gone afterwards.
    pub(crate) fn remove(table: Table, key: Vec<u8>) -> Self {
        Self { table, key, value: None }
    }
    pub(crate) fn lock_clock(clock: &LockClock) -> Self {
        let value = Some(clock.to_bytes());
        Self { table: Table::LockClock, key: LOCK_CLOCK_KEY.to_vec(), value }
    }
    /// For what is promised in the same write.
    pub(crate) fn promise(clock: &mut LockClock, mono: Mono) -> Self {
        clock.promise(mono);
        Self::lock_clock(clock)
    }
    /// So much more of a vault is held.
    pub(crate) fn more(vault: VaultId, more: Usage) -> Self {
        Self::change(vault, more, Usage::default())
    }
    /// So much less of a vault is held.
    #[must_use]
    pub fn less(vault: VaultId, less: Usage) -> Self {
        Self::change(vault, Usage::default(), less)
    }
    /// So much more and so much less.
    pub(crate) fn change(vault: VaultId, more: Usage, less: Usage) -> Self {
        put(Table::Usage, vault.0.to_vec(), &UsageChange { more, less })
    }
    pub(crate) fn miscounted(vault: VaultId, row: &super::MiscountRow) -> Self {
        put(Table::Miscounted, vault.0.to_vec(), row)
    }
    pub(crate) fn row<T: Serialize>(table: Table, key: Vec<u8>, value: &T) -> Self {
        put(table, key, value)
    }
}

/// That a shard is counted, by the row in which it is held; `None` when that is no such row.
#[must_use]
pub fn sums_of(held: &[u8]) -> Option<[Write; 2]> {
    let Held { vault, len, receipt, .. } = decode(Table::Held, held).ok()?;
    let received = receipt.verify().ok()?.received;
    let more = Write::more(vault, Usage::of_one(len.into()));
    Some([more, super::tallies::came(vault, len.into(), received)])
}

/// The rows that the note in a shard's file tells of, and that the shard is counted; `None` when the note is not of this
/// shard or is not vouched for by the holder's own receipt.
#[must_use]
pub fn rows_of(shard: ShardId, note: &HeldRecord) -> Option<Vec<Write>> {
    let record = note.record.verify().ok()?;
    let signed = note.receipt.as_ref()?;
    let receipt = signed.verify().ok()?;
    let (vault, stripe) = (record.stripe.vault, record.stripe.id());
    let fits = receipt.shard == shard && receipt.vault == vault && receipt.stripe == stripe;
    fits.then(|| {
        let Receipt { index, len, received, .. } = receipt;
        let held = Held { vault, stripe, index, len, receipt: signed.clone() };
        vec![
            Write::held(shard, &held),
            Write::record(vault, stripe, &note.record),
            Write::more(vault, Usage::of_one(len.into())),
            super::tallies::came(vault, len.into(), received),
        ]
    })
}

/// Whether a stored record is the first of its stripe: the file of the shard, which came with it, has it too.
#[must_use]
pub fn is_first_record(row: &[u8]) -> bool {
    decode::<Signed<Record>>(Table::Record, row)
        .is_ok_and(|signed| signed.verify().is_ok_and(|record| record.version <= 1))
}

/// The lock clock as the node's own operator thaws it, who has looked into why it stood; `None` where it counts.
/// `operator` is the node's. Only for a node that does not run.
pub fn thawed(facts: &dyn Facts, operator: OperatorId) -> Result<Option<Write>, FactsError> {
    let view = View { facts, overlay: &Overlay::default() };
    let Some(stored) = view.lock_clock()? else { return Ok(None) };
    // Which stretch of monotonic time it was does not matter to a clock that starts anew.
    let mut clock = LockClock::resume(&stored, operator, BootId([0; 16]), Mono(0))
        .map_err(|source| FactsError::Damaged { table: Table::LockClock, source })?;
    if !clock.reading().is_frozen {
        return Ok(None);
    }
    clock.thaw();
    Ok(Some(Write::lock_clock(&clock)))
}

/// The key of the row in which a shard is held.
#[must_use]
pub fn held_key(shard: ShardId) -> Vec<u8> {
    shard.0.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_last_version_is_found_however_many_there_are(
            steps in prop::collection::vec(1u64..1 << 20, 0..200),
            others in prop::collection::vec(any::<u64>(), 0..3),
        ) {
            let (vault, before, behind) =
                (VaultId([7; 32]), VaultId([6; 32]), VaultId([8; 32]));
            let mut facts = MemoryFacts::default();
            let mut put = |vault: VaultId, version: u64| {
                let key = key(&[&vault.0, &version.to_be_bytes()]);
                let value = Some(version.to_be_bytes().to_vec());
                facts.apply(vec![Write { table: Table::Roster, key, value }]);
            };
            let mut version = 0;
            for step in &steps {
                version += step;
                put(vault, version);
            }
            for other in others {
                put(before, other);
                put(behind, other);
            }
            let last = last_version(&facts, Table::Roster, vault).unwrap();
            let last = last.map(|(_, value)| u64::from_be_bytes(value.try_into().unwrap()));
            prop_assert_eq!(last, (!steps.is_empty()).then_some(version));
        }
    }
}
