//! Releases as they arrive: judged for each stripe that is held here ([`crate::release::accepts`]), kept while something
//! cools by them, and told to the other holders. Whoever is vouched for may bring one: it is signed by the vault.
//!
//! A *discharge* ([`crate::discharge`]) is a release at this node alone, and told to nobody. While a shard cools by one this node treats its
//! stripe as if it left: the shard is served and does not count, other nodes are shown no promise of it, and what is missing without it is
//! rebuilt. It is dropped when all shards were found elsewhere, by asking after the discharge was accepted. Two that are discharged of
//! the same shard do not drop both: who asks last, of the two, sees the other one's no more, and waits until somebody else has one.

use super::facts::{Asked, Facts, FactsError, Held, ReleaseRow, Table, View, Write, decode, key};
use super::lives::life_of;
use super::membership::Pending;
use super::repair::Why;
use super::{Decision, LaneId, LinkId, Note, Output, Peer, Role, Then, refusal};
use crate::discharge::Discharge;
use crate::hold::HOLDERS_MAX;
use crate::id::{NodeId, OperatorId, ReleaseId, ShardId, StripeId, VaultId};
use crate::life::{Life, LifeError};
use crate::lock_clock::{LockTime, Reading};
use crate::message::{
    Outcome, RELEASE_PAGE, Refusal, RefusalCode, Released, Request, Response, Running, Standstill,
};
use crate::release::{Approval, Release, ReleaseRequest, accepts, release_id};
use crate::sign::Signed;
use crate::time::{Now, Period, Wall};
use std::collections::{BTreeMap, BTreeSet};

/// Most releases of one vault by which something cools at a time: 16 TiB in packs of 16 MiB.
const RELEASES_MAX: usize = 64;
/// A release whose last cooldown is over is shown for so much longer.
const SHOWN: Period = Period::days(1);

/// What is remembered of a release by which something cools.
#[derive(Debug)]
pub(super) struct Known {
    /// Where it is stored.
    table: Table,
    issued: Wall,
    stripes: u32,
    until: LockTime,
    guardians: BTreeSet<OperatorId>,
}

pub(super) type Releases = BTreeMap<(VaultId, ReleaseId), Known>;

impl Known {
    fn new<T: Asked>(row: &ReleaseRow<T>, request: &ReleaseRequest) -> Self {
        Self {
            table: T::TABLE,
            issued: request.issued,
            stripes: request.stripes.len() as u32,
            until: row.until,
            guardians: row.guardians.iter().copied().collect(),
        }
    }

    /// Whether a lock that it met names this guardian.
    pub(super) fn is_guarded_by(&self, guardian: OperatorId) -> bool {
        self.guardians.contains(&guardian)
    }
}

/// The releases and discharges that are stored.
pub(super) fn load(facts: &dyn Facts) -> Result<Releases, FactsError> {
    let mut releases = Releases::new();
    load_from::<ReleaseRequest>(facts, &mut releases)?;
    load_from::<Discharge>(facts, &mut releases)?;
    Ok(releases)
}

fn load_from<T: Asked>(facts: &dyn Facts, releases: &mut Releases) -> Result<(), FactsError> {
    let mut after: Option<Vec<u8>> = None;
    // One after the other: each can be half a MiB long.
    while let Some((row, bytes)) = facts.scan(T::TABLE, &[], after.as_deref(), 1)?.pop() {
        let release: ReleaseRow<T> = decode(T::TABLE, &bytes)?;
        if let Ok(asked) = release.request.verify() {
            let (id, (request, _)) = (release_id(&release.request), asked.into_parts());
            releases.insert((request.vault, id), Known::new(&release, &request));
        }
        after = Some(row);
    }
    Ok(())
}

/// What a page of a release comes to.
#[derive(Default)]
struct Page {
    outcomes: Vec<(StripeId, Outcome)>,
    writes: Vec<Write>,
    /// What cools by the release, from now on or already.
    due: Vec<(LockTime, ShardId)>,
    /// What of it from now on.
    begun: Vec<StripeId>,
    /// Who can stop it.
    guardians: BTreeSet<OperatorId>,
    /// Who else holds what began to cool.
    holders: BTreeSet<NodeId>,
}

/// Statements about a vault are signed by it or by its guardians; what a device brings is for its own.
pub(super) fn check_speaker(view: &View<'_>, role: &Role, vault: VaultId) -> Decision {
    let is_other = matches!(role, Role::Device { vault: own, .. } if *own != vault);
    if is_other || view.vault(vault)?.is_none() {
        return Err(refusal(RefusalCode::UnknownVault, format!("vault {vault} is not known here")));
    }
    Ok(())
}

impl Peer {
    /// Judges a page of a release, or of a discharge. What begins to cool by a release is told to the other holders: whoever brought it
    /// may not reach them.
    #[allow(clippy::too_many_arguments, reason = "all of one request")]
    pub(super) fn handle_release<T: Asked>(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        request: Signed<T>,
        approvals: Vec<Signed<Approval>>,
        from: u32,
    ) -> Decision {
        let malformed = |text: String| refusal(RefusalCode::Malformed, text);
        let mut release = Release::verify(&request, &approvals, &[])
            .map_err(|error| malformed(error.to_string()))?;
        let (vault, id) = (release.request().vault, release.id());
        if let Some(other) = release.at().filter(|node| *node != self.node()) {
            return Err(malformed(format!("the discharge is node {}'s", other.short())));
        }
        let reading = self.read_lock_clock(now);
        let view = View { facts, overlay: &self.overlay };
        check_speaker(&view, role, vault)?;
        let stripes = release.request().stripes.clone();
        let Some(rest) = stripes.get(from as usize..) else {
            return Err(malformed(format!("the release has no stripe {from}")));
        };
        let is_known = self.releases.contains_key(&(vault, id));
        if !is_known && self.releases_of(vault).count() >= RELEASES_MAX {
            let text = format!("{RELEASES_MAX} releases of the vault are running here already");
            return Err(refusal(RefusalCode::Quota, text));
        }
        let page = &rest[..rest.len().min(RELEASE_PAGE)];
        let mut page = self.judge(&view, now, reading, &mut release, page)?;
        let after = from as usize + page.outcomes.len();
        let next = (after < stripes.len()).then_some(after as u32);
        let outcomes = std::mem::take(&mut page.outcomes);
        let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, o)| is(o)).count();
        let locked = count(|outcome| matches!(outcome, Outcome::Locked { .. }));
        let refused = count(|outcome| matches!(outcome, Outcome::Refused(_)));
        if locked + refused > 0 {
            let note = Note::NotReleased { vault, release: id, locked, refused };
            self.outputs.push_back(Output::Note(note));
        }
        let response = Response::Released(Released { outcomes, next });
        let until = page.due.iter().map(|(until, _)| *until).max();
        let mut writes = std::mem::take(&mut page.writes);
        if let Some(until) = until.filter(|_| !writes.is_empty()) {
            let row = view.release::<T>(vault, id)?;
            page.guardians.extend(row.iter().flat_map(|row| &row.guardians));
            let row = ReleaseRow {
                until: row.map_or(until, |row| row.until.max(until)),
                guardians: page.guardians.iter().copied().take(HOLDERS_MAX).collect(),
                request: request.clone(),
                approvals: approvals.clone(),
            };
            writes.push(Write::release(vault, id, &row));
            self.releases.insert((vault, id), Known::new(&row, release.request()));
        }
        self.await_drops(now, page.due);
        if writes.is_empty() {
            self.reply(lane, response);
            return Ok(());
        }
        writes.push(Write::promise(&mut self.lock_clock, now.mono));
        let response = Box::new(response);
        self.persist(writes, None, Then::Reply { lane, response, close: false });
        if let Some(until) = until
            && !page.begun.is_empty()
        {
            let (shards, remaining) = (page.begun.len(), until.since(reading.at));
            let note = Note::Cooling { vault, release: id, shards, remaining };
            self.outputs.push_back(Output::Note(note));
            if release.at().is_some() {
                for &stripe in &page.begun {
                    self.look_for_others(now, facts, vault, stripe);
                }
            } else if !matches!(role, Role::Node(_)) {
                // What a node told is told no further.
                if let Some(request) = T::to_tell(request, approvals, from) {
                    self.tell(&request, |node| page.holders.contains(&node));
                }
            }
        }
        Ok(())
    }

    /// Whether a shard that lives so cools by a discharge: it is served, and nobody is to count on it.
    pub(super) fn is_discharged(&self, vault: VaultId, life: &Life) -> bool {
        let known = life.cooling().and_then(|(release, _)| self.releases.get(&(vault, release)));
        known.is_some_and(|known| known.table == Table::Discharge)
    }

    /// Whether anything of a vault may cool by a discharge: without one no life has to be read.
    pub(super) fn has_discharges(&self, vault: VaultId) -> bool {
        self.releases_of(vault).any(|(_, known)| known.table == Table::Discharge)
    }

    /// A shard that is held here does not count any more: whether the others have all of its stripe is found out anew.
    fn look_for_others(&mut self, now: Now, facts: &dyn Facts, vault: VaultId, stripe: StripeId) {
        self.repair.settled.remove(&stripe);
        self.look_at_stripe(now, facts, (vault, stripe), Why::Doubted);
    }

    /// Whether a discharged shard can go: all shards of its stripe were found with others since it began to cool.
    pub(super) fn is_spared(&self, view: &View<'_>, held: &Held) -> Result<bool, FactsError> {
        let (vault, stripe) = (held.vault, held.stripe);
        let record = view.record(vault, stripe)?.and_then(|signed| signed.verify().ok());
        let others = self.repair.settled_holders(vault, stripe);
        let is_whole = |others: &[NodeId], n: u16| {
            others.len() == usize::from(n) && !others.contains(&self.node())
        };
        Ok(record.zip(others).is_some_and(|(record, others)| is_whole(others, record.stripe.n)))
    }

    /// A discharged shard whose time has come cannot go yet: it is asked about, unless that is going on.
    pub(super) fn await_others(&mut self, now: Now, facts: &dyn Facts, held: &Held) {
        if !self.repair.cases.contains_key(&held.stripe) {
            self.look_for_others(now, facts, held.vault, held.stripe);
        }
    }

    /// Judges a release for stripes, one by one.
    fn judge(
        &self,
        view: &View<'_>,
        now: Now,
        reading: Reading,
        release: &mut Release,
        stripes: &[StripeId],
    ) -> Result<Page, Refusal> {
        let vault = release.request().vault;
        let wall = self.lock_clock.latest(now.wall);
        let holds = view.holds(vault)?.holds;
        let mut page = Page::default();
        let mut asked = BTreeSet::new();
        for &stripe in stripes {
            let Some((record, shard, held)) = self.held_of(view, vault, stripe)? else {
                page.outcomes.push((stripe, Outcome::NotHeld));
                continue;
            };
            let stored = view.life(shard)?;
            let Some(mut life) = life_of(view, shard, &held, reading)? else {
                page.outcomes.push((stripe, Outcome::NotHeld));
                continue;
            };
            let lock = life.lock().clone();
            let guardians =
                lock.guardians.iter().flat_map(|guardians| guardians.of.iter().copied());
            let guardians: BTreeSet<OperatorId> = guardians.collect();
            for &guardian in guardians.iter().filter(|guardian| asked.insert(**guardian)) {
                if let Some(veto) = view.veto(vault, guardian, release.id())? {
                    let stopped = release.stop(&veto);
                    stopped.map_err(|e| refusal(RefusalCode::Internal, e.to_string()))?;
                }
            }
            let outcome = match accepts((vault, stripe), &lock, release, wall) {
                Err(error) => Outcome::Refused(error.to_string()),
                Ok(accepted) => match life.release(&accepted, reading, &holds) {
                    Ok(until) => {
                        page.due.push((until, shard));
                        page.guardians.extend(guardians);
                        page.holders.extend(record.holders);
                        Outcome::Cooling { remaining: until.since(reading.at) }
                    }
                    Err(LifeError::Locked { until }) => {
                        Outcome::Locked { remaining: until.since(reading.at) }
                    }
                    Err(LifeError::Cooling(other)) => Outcome::Other(other),
                    Err(LifeError::Dropped) => Outcome::NotHeld,
                    Err(error) => Outcome::Refused(error.to_string()),
                },
            };
            page.outcomes.push((stripe, outcome));
            let is_news = stored.as_ref() != Some(&life);
            page.begun.extend((is_news && life.cooling().is_some()).then_some(stripe));
            // An answer rests on nothing that could still fail to be stored.
            if is_news || view.is_pending(Table::Life, &shard.0) {
                page.writes.push(Write::life(shard, &life));
            }
        }
        Ok(page)
    }

    /// The releases of a vault by which something cools here.
    pub(super) fn release_ids(&self, vault: VaultId) -> Vec<ReleaseId> {
        self.releases_of(vault).map(|(id, _)| id).collect()
    }

    fn releases_of(&self, vault: VaultId) -> impl Iterator<Item = (ReleaseId, &Known)> {
        let (first, last) = (ReleaseId([0; 32]), ReleaseId([255; 32]));
        self.releases.range((vault, first)..=(vault, last)).map(|((_, id), known)| (*id, known))
    }

    /// Says something to each of these nodes to which there is a connection.
    pub(super) fn tell(&mut self, request: &Request, is_meant: impl Fn(NodeId) -> bool) {
        let links = self.links.newest_of(is_meant);
        for link in links {
            let call = self.call(Pending::Told);
            let request = Box::new(request.clone());
            self.outputs.push_back(Output::Call { call, link, request });
        }
    }

    /// Asks another node what stops the releases that run here: whoever stops one may have reached that node only.
    pub(super) fn ask_stops(&mut self, link: LinkId) {
        let mut asked: BTreeMap<VaultId, Vec<ReleaseId>> = BTreeMap::new();
        for (vault, release) in self.releases.keys() {
            asked.entry(*vault).or_default().push(*release);
        }
        for (vault, releases) in asked {
            let call = self.call(Pending::Stops(vault));
            let request = Box::new(Request::Stops { vault, releases });
            self.outputs.push_back(Output::Call { call, link, request });
        }
    }

    /// What runs here, for everybody who can stop it.
    pub(super) fn handle_releases(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
    ) -> Decision {
        let reading = self.read_lock_clock(now);
        let view = View { facts, overlay: &self.overlay };
        check_speaker(&view, role, vault)?;
        if matches!(role, Role::Node(_)) {
            self.check_reader(&view, role, vault)?;
        }
        let mut standstill = Standstill::default();
        for (release, known) in self.releases_of(vault) {
            let mut vetoed = Vec::new();
            for &guardian in &known.guardians {
                if view.veto(vault, guardian, release)?.is_some() {
                    vetoed.push(guardian);
                }
            }
            let remaining = known.until.since(reading.at);
            let Known { issued, stripes, .. } = *known;
            standstill.running.push(Running { release, issued, stripes, remaining, vetoed });
        }
        let holds = view.holds(vault)?.holds;
        standstill.holds =
            holds.running(reading.at).map(|(who, until)| (who, until.since(reading.at))).collect();
        let frozen = || self.lock_clock.standing().to_string();
        let stands = self.doubt.clone().or_else(|| self.promises.holds_up());
        standstill.stands = stands.or_else(|| reading.is_frozen.then(frozen));
        self.reply(lane, Response::Releases(Box::new(standstill)));
        Ok(())
    }

    /// Forgets releases by which nothing can cool any more.
    pub(super) fn forget_releases(&mut self, facts: &dyn Facts) {
        let reading = self.lock_clock.reading();
        if reading.is_frozen || self.forbids_drops() || !self.lives.is_done(reading.at) {
            return;
        }
        let over = |known: &Known| known.until.after(SHOWN) < reading.at;
        let over: Vec<(VaultId, ReleaseId, Table)> = self
            .releases
            .iter()
            .filter(|(_, known)| over(known))
            .map(|(&(vault, release), known)| (vault, release, known.table))
            .take(RELEASES_MAX)
            .collect();
        let mut writes = Vec::new();
        for (vault, release, table) in over {
            if table == Table::Discharge && self.is_waiting(facts, vault, release) {
                if let Some(known) = self.releases.get_mut(&(vault, release)) {
                    known.until = reading.at;
                }
                continue;
            }
            writes.push(Write::remove(table, key(&[&vault.0, &release.0])));
            self.releases.remove(&(vault, release));
        }
        if !writes.is_empty() {
            self.persist(writes, None, Then::Nothing);
        }
    }

    /// Whether something waits, by a discharge, for others to have it. What cannot be read now may wait: without its discharge it would go
    /// as by any release.
    fn is_waiting(&self, facts: &dyn Facts, vault: VaultId, release: ReleaseId) -> bool {
        let view = View { facts, overlay: &self.overlay };
        let Ok(row) = view.release::<Discharge>(vault, release) else { return true };
        let Some(discharge) = row.and_then(|row| row.request.verify().ok()) else { return false };
        discharge.request.stripes.iter().any(|&stripe| {
            let Ok(held) = self.held_of(&view, vault, stripe) else { return true };
            let life = held.map(|(_, shard, _)| view.life(shard)).transpose();
            let Ok(life) = life else { return true };
            life.flatten().and_then(|life| life.cooling()).is_some_and(|(id, _)| id == release)
        })
    }
}
