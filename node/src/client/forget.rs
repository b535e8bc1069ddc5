//! What retention rules mean for the snapshots of a vault, and how the vault says so in its log.
//!
//! Rules apply to each source of each host as each device wrote it. The device is not what people ask for, but the only one
//! of the three that is proved: with its key alone somebody can crowd out its own snapshots, and none of another's.

use super::ledger::Ledger;
use super::tags::Catalog;
use super::vault::Vault;
use crate::service::wall;
use protocol::id::{DeviceId, EntryId};
use protocol::log::{Body, Holding};
use protocol::retention::{Candidate, FORGET_MAX, Forget, Reason, Rules, judge};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Wall;
use std::collections::BTreeMap;

/// A snapshot and why it is kept.
#[derive(Debug)]
pub struct Judged {
    /// The snapshot.
    pub id: EntryId,
    /// When it arrived, by its holders.
    pub witnessed: Wall,
    /// Its tags.
    pub tags: Vec<String>,
    /// Why it is kept; when there is no reason it is not.
    pub reasons: Vec<Reason>,
}

/// The snapshots that one device wrote of one source.
#[derive(Debug)]
pub struct Group {
    /// The source.
    pub source: String,
    /// The host, by its own word.
    pub host: String,
    /// The device.
    pub device: DeviceId,
    /// The snapshots, in the order in which they arrived.
    pub snapshots: Vec<Judged>,
}

/// What rules mean for all snapshots that are not forgotten yet.
#[derive(Debug, Default)]
pub struct Plan {
    /// By source, host and device.
    pub groups: Vec<Group>,
    /// Snapshots that this host cannot read the summary of: they stay.
    pub unreadable: Vec<EntryId>,
}

impl Plan {
    /// Judges all groups.
    #[must_use]
    pub fn new(vault: &Vault, ledger: &Ledger, rules: &Rules) -> Self {
        let catalog = Catalog::read(vault, ledger);
        let mut plan = Self::default();
        let mut groups: BTreeMap<_, (Vec<EntryId>, Vec<Candidate>)> = BTreeMap::new();
        for (witnessed, logged) in ledger.arrivals() {
            if ledger.is_forgotten(logged) {
                continue;
            }
            let Some(info) = catalog.info_of(vault, logged) else {
                plan.unreadable.push(logged.id);
                continue;
            };
            let is_wide = ledger.holding(logged) == Holding::Wide;
            let (claimed, tags) = (logged.entry.claimed, info.tags.into_iter().collect());
            let group = groups.entry((info.source, info.host, logged.entry.device)).or_default();
            group.0.push(logged.id);
            group.1.push(Candidate { witnessed, claimed, is_wide, tags });
        }
        for ((source, host, device), (ids, candidates)) in groups {
            let verdicts = judge(&candidates, rules);
            let judged = ids.into_iter().zip(candidates).zip(verdicts);
            let judged = judged.map(|((id, candidate), reasons)| {
                let tags = candidate.tags.into_iter().collect();
                Judged { id, witnessed: candidate.witnessed, tags, reasons }
            });
            plan.groups.push(Group { source, host, device, snapshots: judged.collect() });
        }
        plan
    }

    /// The snapshots that no rule keeps.
    #[must_use]
    pub fn forgotten(&self) -> Vec<EntryId> {
        let all = self.groups.iter().flat_map(|group| &group.snapshots);
        all.filter(|judged| judged.reasons.is_empty()).map(|judged| judged.id).collect()
    }
}

/// The entries by which a vault says that it does not want these snapshots any more.
#[must_use]
pub fn entries(vault: &Vault, key: &SecretKey, snapshots: &[EntryId]) -> Vec<Body> {
    let body = |some: &[EntryId]| {
        let forget = Forget { vault: vault.id, issued: wall(), snapshots: some.to_vec() };
        Body::Forget(Signed::sign(&forget, key))
    };
    snapshots.chunks(FORGET_MAX).map(body).collect()
}
