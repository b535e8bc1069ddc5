//! `strewn check`: whether everything that the log names is there, placed as the policy asks, and what it is called.
//!
//! ```text
//! logs ─► stripes (records, receipts, the predicate) ─► index packs ─► data, if asked for ─► snapshots
//! ```
//! The log is read before the stripes: what it names was stored before it. Nothing of this host's caches is trusted; the
//! index is read anew. A list of the stripes is in memory (some 200 bytes each), everything else passes through.

mod data;
mod findings;
mod index;
mod logs;
mod subset;

pub use data::DataRead;
pub use findings::{Findings, Kind};
pub use subset::Subset;

use super::index::Index;
use super::inventory::{Held, Inventory};
use super::items::root_of;
use super::ledger::{Ledger, Logged};
use super::mesh::{Caller, Mesh};
use super::named::ever_named;
use super::packs::Packs;
use super::recipients::Identities;
use super::restore::info_of;
use super::vault::Vault;
use super::walk::Walker;
use super::{ClientError, Result};
use crate::cli::progress::Counters;
use crate::home::Home;
use crate::size::counted;
use data::{Read, Readers};
use protocol::id::{ChunkId, DeviceId, EntryId, NodeId, StripeId};
use protocol::item::Root;
use protocol::log::Body;
use protocol::placement::check_placement;
use protocol::record::Stripe;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Bytes of stripes that are read at once; one stripe always is. At 6 of 9 a stripe takes 32 MiB.
const READ_AT_ONCE: u64 = 100 << 20;
/// A stripe that takes more is not read: no plan makes one.
const STRIPE_MAX: u64 = 256 << 20;

/// What was checked, and what was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub good: bool,
    /// One line that says it all.
    pub verdict: String,
    /// Nodes that answer.
    pub nodes: usize,
    /// Nodes that do not, and why.
    pub silent: BTreeMap<NodeId, String>,
    /// Log entries checked.
    pub entries: usize,
    /// Stripes checked.
    pub stripes: u64,
    /// Index packs read and opened.
    pub index_packs: u64,
    /// Snapshots listed.
    pub snapshots: usize,
    /// Those of which every chunk was looked for.
    pub snapshots_checked: usize,
    /// Those that cannot be restored whole.
    pub snapshots_broken: Vec<EntryId>,
    /// What was read of the data, when that was asked for.
    pub data: Option<DataRead>,
    /// How often something was wrong, by kind, the worst first.
    pub problems: BTreeMap<Kind, u64>,
    /// What was not checked, and what else there is to know.
    pub notes: Vec<String>,
    /// What was found, in words.
    #[serde(skip)]
    pub findings: Findings,
}

/// A stripe, as far as later stages need it.
struct Known {
    /// Bytes of its pack.
    len: u64,
    shards: u64,
    readable: bool,
    /// What the index says of its chunks.
    listed: Option<[u8; 32]>,
}

/// A check that is going on.
struct Check {
    vault: Vault,
    mesh: Arc<Mesh>,
    packs: Arc<Packs>,
    index: Arc<Index>,
    progress: Arc<Counters>,
    findings: Findings,
    notes: Vec<String>,
    devices: BTreeSet<DeviceId>,
    stripes: BTreeMap<StripeId, Known>,
    /// Those that the vault gave up: they may be gone, and nobody misses them.
    given_up: BTreeSet<StripeId>,
    /// Those that the log or the index names; `None` where that is not known.
    named: Option<BTreeSet<StripeId>>,
    /// Those that neither does, and that are not all there: nothing needs them.
    unfinished: BTreeSet<StripeId>,
    damaged: BTreeSet<ChunkId>,
}

/// What is wrong with a snapshot.
#[derive(Debug, Clone)]
struct Answer {
    /// What of it cannot be read, in words.
    broken: Option<String>,
    /// A stripe that it needs, and that the vault gave up.
    given_up: Option<StripeId>,
}

/// The logs alone, and what is wrong with them.
pub(super) async fn check_logs(mesh: &Mesh, vault: &Vault) -> Result<(Ledger, Findings)> {
    let mut findings = Findings::default();
    let logs = logs::check(mesh, vault, &mut findings).await?;
    Ok((logs.ledger, findings))
}

/// Checks a vault. Without identities what only they open is not looked at, and the report says so.
pub async fn check(
    home: &Home,
    vault: Vault,
    identities: Option<&Identities>,
    read: Option<Subset>,
    progress: &Arc<Counters>,
) -> Result<Report> {
    let mesh = Arc::new(Mesh::connect(home, Caller::device(&vault)).await?);
    let mut findings = Findings::default();
    let logs = logs::check(&mesh, &vault, &mut findings).await?;
    let ledger = logs.ledger;
    let mut packs = Packs::new(Arc::clone(&mesh), &vault);
    if let Some(identities) = identities {
        packs.open_sessions(&ledger, identities)?;
    }
    // Where that cannot be read, which is found below, everything counts.
    let named = ever_named(&vault, &packs, &ledger).await.ok();
    let scratch = vault.scratch("check-")?;
    let index = Arc::new(Index::open(scratch.path())?);
    let given_up = ledger.given_up().stripes();
    let notes = super::given_up::note(&vault, &ledger).into_iter().collect();
    let mut check = Check {
        vault,
        packs: Arc::new(packs),
        index,
        progress: Arc::clone(progress),
        findings,
        notes,
        devices: logs.devices,
        stripes: BTreeMap::new(),
        given_up,
        named,
        unfinished: BTreeSet::new(),
        damaged: BTreeSet::new(),
        mesh,
    };
    check.check_stripes().await;
    let index_packs = check.check_index(&ledger).await?;
    check.judge_unfinished(&ledger);
    let data = match read {
        Some(subset) => Some(check.check_data(subset).await?),
        None => None,
    };
    let snapshots = ledger.snapshots();
    let mut snapshots_broken = Vec::new();
    let mut snapshots_checked = 0;
    if identities.is_some() {
        (snapshots_checked, snapshots_broken) = check.check_snapshots(&ledger, &snapshots).await?;
    } else if !snapshots.is_empty() {
        check.notes.push(
            "without the recovery identity it was not checked which chunks the snapshots need, nor what is in the packs"
                .into(),
        );
    }
    check.mesh.acknowledge(&check.vault).await;
    Ok(check.report(&ledger, index_packs, data, snapshots_checked, snapshots_broken))
}

impl Check {
    /// Every stripe: its record, its holders' promises, and the one predicate.
    async fn check_stripes(&mut self) {
        let mut inventory = Inventory::new(&self.mesh, self.vault.id, self.devices.clone());
        // Stripes with the same holders have the same fate.
        let mut judged: BTreeMap<(u16, Vec<NodeId>), Option<String>> = BTreeMap::new();
        let mut silent: BTreeMap<NodeId, u64> = BTreeMap::new();
        while let Some(held) = inventory.next().await {
            self.check_stripe(&held, &mut judged, &mut silent);
        }
        for (node, count) in silent {
            let shards = counted(count as usize, "shard");
            let what = format!("node {} does not answer: {shards}", node.short());
            self.findings.add_many(Kind::HolderSilent, count, what);
        }
        for (node, count) in &inventory.strange {
            let what = format!("node {} lists {count} records of no device", node.short());
            self.findings.add(Kind::Forged, what);
        }
        for (node, error) in &inventory.failed {
            self.notes.push(format!("node {} did not list all its stripes: {error}", node.short()));
        }
    }

    /// Of what is not all there nothing is needed, where all of the index could be read.
    fn judge_unfinished(&mut self, ledger: &Ledger) {
        if self.unfinished.is_empty() {
            return;
        }
        let is_readable = |stripe: &StripeId| {
            self.given_up.contains(stripe) || self.stripes.get(stripe).is_some_and(|s| s.readable)
        };
        let is_index_whole = ledger.all().all(|logged| match &logged.entry.body {
            Body::Index { stripes, .. } => stripes.iter().all(is_readable),
            _ => true,
        });
        if is_index_whole {
            let stripes = counted(self.unfinished.len(), "stripe");
            let what = "left by a backup that did not end, or being written now: not all there, and nothing needs it";
            self.notes.push(format!("{stripes} {what}"));
            return;
        }
        for stripe in std::mem::take(&mut self.unfinished) {
            let is_readable = self.stripes.get(&stripe).is_some_and(|known| known.readable);
            let kind = if is_readable { Kind::ShardMissing } else { Kind::StripeUnreadable };
            let what = "not all there, and not all of the index can be read that would name it";
            self.findings.add(kind, format!("stripe {}: {what}", stripe.short()));
        }
    }

    fn check_stripe(
        &mut self,
        held: &Held,
        judged: &mut BTreeMap<(u16, Vec<NodeId>), Option<String>>,
        silent: &mut BTreeMap<NodeId, u64>,
    ) {
        let stripe = &held.record.stripe;
        let sites = held.sites(&self.mesh);
        let k = usize::from(stripe.k);
        let readable = sites.len() >= k;
        let len = u64::from(stripe.shard_len) * k as u64;
        let known = Known { len, shards: u64::from(stripe.n), readable, listed: None };
        self.stripes.insert(held.stripe, known);
        if self.given_up.contains(&held.stripe) {
            return;
        }
        let short = held.stripe.short();
        let holders = held.holders(&self.mesh);
        let is_whole = holders.iter().all(Option::is_some);
        if !is_whole && self.named.as_ref().is_some_and(|named| !named.contains(&held.stripe)) {
            self.unfinished.insert(held.stripe);
            return;
        }
        for (i, holder) in held.record.holders.iter().enumerate() {
            if holders.get(i).is_some_and(Option::is_some) {
                continue;
            }
            if self.mesh.nodes.contains_key(holder) {
                let holder = holder.short();
                let what = format!(
                    "shard {i} of stripe {short}: node {holder} says that it does not have it"
                );
                self.findings.add(Kind::ShardMissing, what);
            } else {
                *silent.entry(*holder).or_default() += 1;
            }
        }
        if readable {
            let pattern = (stripe.k, sites.iter().map(|site| site.node).collect());
            let violation = judged.entry(pattern).or_insert_with(|| {
                // Who is no partner any more is read from, and not counted on.
                let is_counted = |site: &&protocol::label::Site| {
                    self.mesh.nodes.get(&site.node).is_some_and(|node| node.is_relied_on())
                };
                let counted: Vec<_> = sites.iter().copied().filter(is_counted).collect();
                check_placement(&self.vault.policy, k, &counted).err().map(|v| v.to_string())
            });
            if let Some(violation) = violation {
                self.findings.add(Kind::StripeBelowPolicy, format!("stripe {short}: {violation}"));
            }
        } else {
            let what = format!("stripe {short}: {} shards left, {k} needed", sites.len());
            self.findings.add(Kind::StripeUnreadable, what);
        }
    }

    /// Fetches and opens a part of the data.
    async fn check_data(&mut self, subset: Subset) -> Result<DataRead> {
        let is_read = |stripe| !self.given_up.contains(stripe) && !self.unfinished.contains(stripe);
        let kept = self.stripes.iter().filter(|(stripe, _)| is_read(stripe));
        let stripes = kept.map(|(stripe, known)| (*stripe, known.len));
        let chosen = subset.choose(stripes.collect::<Vec<_>>().into_iter())?;
        let expected = chosen.iter().filter_map(|stripe| self.stripes.get(stripe));
        let bytes = |known: &Known| known.len / known.shards.max(1) * known.shards;
        self.progress.begin_again();
        self.progress.expect(chosen.len() as u64, expected.map(bytes).sum());
        let readers = Arc::new(Readers {
            mesh: Arc::clone(&self.mesh),
            packs: Arc::clone(&self.packs),
            buffers: super::buffers::Buffers::default(),
            progress: Arc::clone(&self.progress),
        });
        let mut total = DataRead::default();
        let mut tasks: JoinSet<(StripeId, u64, Result<Read>)> = JoinSet::new();
        let mut inventory = Inventory::new(&self.mesh, self.vault.id, self.devices.clone());
        let mut at_once = 0;
        loop {
            let next = inventory.next().await;
            // Behind the last stripe all that are under way are waited for.
            let takes = match &next {
                None if tasks.is_empty() => break,
                None => READ_AT_ONCE,
                Some(held) if !chosen.contains(&held.stripe) => continue,
                Some(held) => room(&held.record.stripe),
            };
            if takes > STRIPE_MAX
                && let Some(held) = &next
            {
                let what = "too large to be one of this vault, and not read";
                let what = format!("stripe {}: {what}", held.stripe.short());
                self.findings.add(Kind::PackDamaged, what);
                continue;
            }
            while at_once + takes > READ_AT_ONCE
                && let Some(done) = tasks.join_next().await
            {
                let (stripe, took, read) = done.map_err(ClientError::content)?;
                at_once -= took;
                self.take_read(stripe, read?, &mut total);
            }
            let Some(held) = next else { continue };
            at_once += takes;
            let readers = Arc::clone(&readers);
            let listed = self.stripes.get(&held.stripe).and_then(|known| known.listed);
            tasks.spawn(async move { (held.stripe, takes, readers.read(&held, listed).await) });
        }
        if total.closed > 0 {
            self.notes.push(format!(
                "{} hashed and not opened: their keys are sealed to another identity",
                counted(total.closed as usize, "pack")
            ));
        }
        Ok(total)
    }

    fn take_read(&mut self, stripe: StripeId, read: Read, total: &mut DataRead) {
        total.stripes += read.data.stripes;
        total.shards += read.data.shards;
        total.bytes += read.data.bytes;
        total.chunks += read.data.chunks;
        total.closed += read.data.closed;
        self.progress.file();
        self.damaged.extend(read.damaged);
        let Some(known) = self.stripes.get_mut(&stripe) else { return };
        let was_readable = known.readable;
        known.readable &= !read.unreadable;
        for (kind, what) in read.findings {
            self.progress.error();
            // What was lost before it was read is on the list.
            if kind != Kind::StripeUnreadable || was_readable {
                self.findings.add(kind, what);
            }
        }
    }

    /// Every chunk of every snapshot: in the index, in a stripe that can be read.
    async fn check_snapshots(
        &mut self,
        ledger: &Ledger,
        snapshots: &[&Logged],
    ) -> Result<(usize, Vec<EntryId>)> {
        self.progress.begin_again();
        for info in snapshots.iter().filter_map(|logged| info_of(&self.vault, logged)) {
            self.progress.expect(info.items, info.bytes);
        }
        let (mut checked, mut broken) = (0, Vec::new());
        let (mut closed, mut given_up) = (0, 0);
        // Unchanged sources have the same root: one answer for all of them.
        let mut answers: BTreeMap<Vec<u8>, Answer> = BTreeMap::new();
        let (packs, index) = (Arc::clone(&self.packs), Arc::clone(&self.index));
        let mut walker = Walker::new(packs, index, Arc::clone(&self.progress));
        for logged in snapshots {
            let root = match root_of(&self.packs, logged) {
                Ok(root) => root,
                Err(ClientError::Identity(_)) => {
                    closed += 1;
                    continue;
                }
                Err(error) => {
                    broken.push(logged.id);
                    let what = format!("snapshot {}: {error}", logged.id.short());
                    self.findings.add(Kind::SnapshotBroken, what);
                    continue;
                }
            };
            checked += 1;
            let name = root.encode();
            let answer = if let Some(answer) = answers.get(&name) {
                if let Some(info) = info_of(&self.vault, logged) {
                    self.progress.bytes(info.bytes);
                }
                answer.clone()
            } else {
                let answer = self.check_snapshot(&mut walker, root).await?;
                answers.insert(name, answer.clone());
                answer
            };
            let is_kept = !ledger.is_forgotten(logged);
            if let Some(stripe) = answer.given_up.filter(|_| is_kept) {
                let (id, stripe) = (logged.id.short(), stripe.short());
                let what = format!("snapshot {id}: stripe {stripe} was given up, and it needs it");
                self.findings.add(Kind::GivenUp, what);
            }
            if answer.broken.is_some() && !self.given_up.is_empty() && !is_kept {
                given_up += 1;
            } else if let Some(what) = answer.broken {
                broken.push(logged.id);
                self.progress.error();
                let what = format!("snapshot {}: {what}", logged.id.short());
                self.findings.add(Kind::SnapshotBroken, what);
            }
        }
        if given_up > 0 {
            let what =
                "cannot be restored whole any more: `strewn prune` gave up what they alone needed";
            self.notes.push(format!("{} {what}", counted(given_up, "forgotten snapshot")));
        }
        if closed > 0 {
            let what = "not checked: sealed to another identity";
            self.notes.push(format!("{} {what}", counted(closed, "snapshot")));
        }
        Ok((checked, broken))
    }

    /// What is wrong with a snapshot.
    async fn check_snapshot(&self, walker: &mut Walker, root: Root) -> Result<Answer> {
        let mut lost = 0u64;
        let mut first: Option<String> = None;
        let mut given_up: Option<StripeId> = None;
        let mut packs: BTreeMap<u64, (StripeId, bool)> = BTreeMap::new();
        let mut each = |chunk: &protocol::item::ChunkRef| -> Result<bool> {
            let mut is_well = true;
            let what = match self.index.find(chunk.id)? {
                None => Some(format!("chunk {} is in no index pack", chunk.id.short())),
                Some(location) if location.plain_len != chunk.len => {
                    Some(format!("chunk {} has another length", chunk.id.short()))
                }
                Some(_) if self.damaged.contains(&chunk.id) => {
                    Some(format!("chunk {} is damaged", chunk.id.short()))
                }
                Some(location) => {
                    let (stripe, is_lost) = if let Some(known) = packs.get(&location.pack) {
                        *known
                    } else {
                        let stripe = self.index.pack(location.pack)?.stripe;
                        let known = self.stripes.get(&stripe);
                        let is_lost = known.is_none_or(|known| !known.readable);
                        packs.insert(location.pack, (stripe, is_lost));
                        (stripe, is_lost)
                    };
                    // The index prefers what is not given up: nobody else has it.
                    if self.given_up.contains(&stripe) {
                        given_up.get_or_insert(stripe);
                        is_well = false;
                    }
                    is_lost.then(|| format!("stripe {} cannot be read", stripe.short()))
                }
            };
            is_well &= what.is_none();
            if let Some(what) = what {
                lost += 1;
                first.get_or_insert(what);
            }
            Ok(is_well)
        };
        let ended = walker.walk(root, &mut each).await;
        let broken = match (ended, first) {
            (Err(ClientError::System(error)), _) => return Err(error.into()),
            (Err(_), Some(first)) => {
                Some(format!("its list of files cannot be read to the end ({first})"))
            }
            (Err(error), None) => {
                Some(format!("its list of files cannot be read to the end ({error})"))
            }
            (Ok(()), Some(first)) => {
                Some(format!("{} of it cannot be read ({first})", counted(lost as usize, "chunk")))
            }
            (Ok(()), None) => None,
        };
        Ok(Answer { broken, given_up })
    }

    fn report(
        self,
        ledger: &Ledger,
        index_packs: u64,
        data: Option<DataRead>,
        snapshots_checked: usize,
        snapshots_broken: Vec<EntryId>,
    ) -> Report {
        let snapshots = ledger.snapshots().len();
        let stripes = self.stripes.len() as u64;
        let good = self.findings.is_empty();
        let verdict = verdict(&self.findings, stripes, snapshots, snapshots_checked, data.as_ref());
        Report {
            good,
            verdict,
            nodes: self.mesh.nodes.len(),
            silent: self.mesh.silent.iter().map(|(id, s)| (*id, s.reason.clone())).collect(),
            entries: ledger.all().count(),
            stripes,
            index_packs,
            snapshots,
            snapshots_checked,
            snapshots_broken,
            data,
            problems: self.findings.counts().clone(),
            notes: self.notes,
            findings: self.findings,
        }
    }
}

/// Bytes that reading a stripe takes: its shards, and its parity once more to compare with.
fn room(stripe: &Stripe) -> u64 {
    u64::from(stripe.shard_len) * (2 * u64::from(stripe.n) - u64::from(stripe.k))
}

fn verdict(
    findings: &Findings,
    stripes: u64,
    snapshots: usize,
    checked: usize,
    data: Option<&DataRead>,
) -> String {
    if !findings.is_empty() {
        let counts = findings.counts().iter();
        let kinds: Vec<String> = counts.map(|(kind, &count)| kind.counted(count)).collect();
        return format!("NOT AS IT SHOULD BE: {}", kinds.join(", "));
    }
    if stripes == 0 {
        return "nothing is backed up yet".into();
    }
    let whole = match checked {
        0 => counted(snapshots, "snapshot"),
        _ if checked == snapshots => {
            format!("all of {} can be restored", counted(snapshots, "snapshot"))
        }
        _ => format!("{checked} of {} can be restored", counted(snapshots, "snapshot")),
    };
    let read = data.map_or_else(
        || "the data itself was not read (--read-data)".to_owned(),
        |data| {
            let part = if data.stripes == stripes { "all" } else { "a part" };
            format!("{part} of the data was read: {} shards, {} chunks", data.shards, data.chunks)
        },
    );
    format!("GOOD: {whole}, {} as the policy asks; {read}", counted(stripes as usize, "stripe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_begins_with_the_worst() {
        let mut findings = Findings::default();
        for _ in 0..3 {
            findings.add(Kind::ShardMissing, "");
        }
        findings.add(Kind::SnapshotBroken, "");
        findings.add(Kind::Forged, "");
        findings.add(Kind::Forged, "");
        assert_eq!(
            verdict(&findings, 5, 2, 2, None),
            "NOT AS IT SHOULD BE: 1 snapshot that cannot be restored whole, 2 statements that do not count, 3 missing shards"
        );
        let good = verdict(&Findings::default(), 5, 2, 0, None);
        assert!(
            good.starts_with("GOOD: 2 snapshots, 5 stripes") && good.contains("--read-data"),
            "{good}"
        );
    }
}
