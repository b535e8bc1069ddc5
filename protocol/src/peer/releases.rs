//! Releases as they arrive: judged for each stripe that is held here ([`crate::release::accepts`]), kept while something
//! cools by them, and told to the other holders. Whoever is vouched for may bring one: it is signed by the vault.

use super::facts::{Facts, FactsError, ReleaseRow, Table, View, Write, decode, key};
use super::lives::life_of;
use super::membership::Pending;
use super::{Decision, LaneId, LinkId, Note, Output, Peer, Role, Then, refusal};
use crate::hold::HOLDERS_MAX;
use crate::id::{NodeId, OperatorId, ReleaseId, ShardId, StripeId, VaultId};
use crate::life::LifeError;
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
    issued: Wall,
    stripes: u32,
    until: LockTime,
    guardians: BTreeSet<OperatorId>,
}

pub(super) type Releases = BTreeMap<(VaultId, ReleaseId), Known>;

impl Known {
    fn new(row: &ReleaseRow, request: &ReleaseRequest) -> Self {
        Self {
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

/// The releases that are stored.
pub(super) fn load(facts: &dyn Facts) -> Result<Releases, FactsError> {
    let mut releases = Releases::new();
    let mut after: Option<Vec<u8>> = None;
    // One after the other: each can be half a MiB long.
    while let Some((row, bytes)) = facts.scan(Table::Release, &[], after.as_deref(), 1)?.pop() {
        let release: ReleaseRow = decode(Table::Release, &bytes)?;
        if let Ok(request) = release.request.verify() {
            let id = release_id(&release.request);
            releases.insert((request.vault, id), Known::new(&release, &request));
        }
        after = Some(row);
    }
    Ok(releases)
}

/// What a page of a release comes to.
#[derive(Default)]
struct Page {
    outcomes: Vec<(StripeId, Outcome)>,
    writes: Vec<Write>,
    /// What cools by the release, from now on or already.
    due: Vec<(LockTime, ShardId)>,
    /// How much of it from now on.
    begun: usize,
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
    #[allow(clippy::too_many_arguments, reason = "all of one request")]
    pub(super) fn handle_release(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        request: Signed<ReleaseRequest>,
        approvals: Vec<Signed<Approval>>,
        from: u32,
    ) -> Decision {
        let malformed = |text: String| refusal(RefusalCode::Malformed, text);
        let mut release = Release::verify(&request, &approvals, &[])
            .map_err(|error| malformed(error.to_string()))?;
        let (vault, id) = (release.request().vault, release.id());
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
            let row = view.release(vault, id)?;
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
            && page.begun > 0
        {
            let (shards, remaining) = (page.begun, until.since(reading.at));
            let note = Note::Cooling { vault, release: id, shards, remaining };
            self.outputs.push_back(Output::Note(note));
            // Who brought it may not reach the others. What a node told is told no further.
            if !matches!(role, Role::Node(_)) {
                let request = Request::Release { request, approvals, from };
                self.tell(&request, |node| page.holders.contains(&node));
            }
        }
        Ok(())
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
            page.begun += usize::from(is_news && life.cooling().is_some());
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
    pub(super) fn forget_releases(&mut self) {
        let reading = self.lock_clock.reading();
        if reading.is_frozen || self.forbids_drops() || !self.lives.is_done(reading.at) {
            return;
        }
        let over = |known: &Known| known.until.after(SHOWN) < reading.at;
        let over: Vec<(VaultId, ReleaseId)> = self
            .releases
            .iter()
            .filter(|(_, known)| over(known))
            .map(|(&name, _)| name)
            .take(RELEASES_MAX)
            .collect();
        if over.is_empty() {
            return;
        }
        let row = |(vault, release): &(VaultId, ReleaseId)| {
            Write::remove(Table::Release, key(&[&vault.0, &release.0]))
        };
        let writes = over.iter().map(row).collect();
        self.releases.retain(|name, _| !over.contains(name));
        self.persist(writes, None, Then::Nothing);
    }
}
