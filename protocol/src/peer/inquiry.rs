//! Asking who holds what of stripes that may have lost shards, and deciding what to do about each ([`super::repair`]).
//!
//! All live nodes that a roster of the vault lists, or ever did, are asked about a few stripes at once; about those of which nothing is known to be
//! wrong only the nodes that should hold them, each about its own, and all if one of them is not well. Nobody is believed but for
//! its own promise. Who does not answer and is not lost is taken to have what the record says: a short outage moves nothing. Only
//! where a clause is broken already is something done although somebody was not heard, who might stand in.

use super::facts::{Facts, Table, View};
use super::ledger::DEVICES_MAX;
use super::membership::Pending;
use super::repair::{JOBS_MAX, Stage};
use super::standpoint::Seen;
use super::{JobId, LinkId, Output, Peer, Source, Target};
use crate::id::{DeviceId, NodeId, StripeId, VaultId};
use crate::label::Site;
use crate::liveness::Presence;
use crate::message::{HeldRecord, Refusal, Request, Response};
use crate::placement::{Candidate, margin};
use crate::planted::{Bug, is_planted};
use crate::record::Record;
use crate::repair::{Finding, Spread, each_its_own, gives, is_emptier, rank};
use crate::sign::Signed;
use crate::time::{Mono, Now, Period};
use crate::told::{Told, counted, counted_best};
use std::collections::{BTreeMap, BTreeSet};

/// Stripes asked about at once, of everybody,
const BATCH: usize = 32;
/// and of those alone that should have them, each about its own.
const PATROL_BATCH: usize = 256;
/// Where the budget is used up, it is looked at again after this.
const SAVING: Period = Period::seconds(15);
/// Who does not answer within this time is not waited for.
const ANSWER_MAX: Period = Period::seconds(20);
/// Who is heard and left so many inquiries in a row unanswered counts as one that has nothing.
const MUTE: u32 = 8;

/// What was heard of one stripe.
#[derive(Debug, Default)]
struct Heard {
    answered: BTreeSet<NodeId>,
    promised: BTreeMap<NodeId, u16>,
    /// Who has the record and promises nothing that counts: its shard is on its way, in or out.
    unsure: BTreeSet<NodeId>,
    /// Who answered that it tells nothing: it is not waited for, and put nothing. What a record says that it has it may have.
    closed: BTreeSet<NodeId>,
    newest: Option<(Record, Signed<Record>)>,
}

/// Some stripes of one vault, and whom they are asked of.
#[derive(Debug)]
pub(super) struct Inquiry {
    number: u64,
    vault: VaultId,
    heard: BTreeMap<StripeId, Heard>,
    /// Who was asked and has not answered, or is being connected to.
    awaited: BTreeSet<NodeId>,
    dialed: BTreeSet<NodeId>,
    until: Mono,
    devices: BTreeSet<DeviceId>,
    /// All who are asked,
    asked: BTreeSet<NodeId>,
    /// and whether that is everybody who may hold something.
    is_whole: bool,
}

impl Inquiry {
    /// How long an answer is waited for at most.
    pub(super) fn left(&self, now: Mono) -> Period {
        Period(self.until.0.saturating_sub(now.0))
    }

    /// Whether nothing more is awaited.
    pub(super) fn is_over(&self, now: Mono) -> bool {
        self.awaited.is_empty() && self.dialed.is_empty() || self.until <= now
    }
}

/// Who may take shards of a vault.
struct Ground {
    /// Nodes that the newest roster lists,
    listed: BTreeMap<NodeId, Site>,
    /// and members that only an earlier one did. They are asked to take something where the others cannot: a thief of the vault's key
    /// would end repair by a roster that lists nobody.
    formerly: BTreeMap<NodeId, Site>,
    seen: Seen,
}

impl Ground {
    fn has(&self, node: NodeId) -> bool {
        self.listed.contains_key(&node) || self.formerly.contains_key(&node)
    }
}

/// What is to become of a case.
pub(super) enum Verdict {
    /// Nothing: it is none.
    None,
    /// It is well with these holders, or as well as it can be.
    Well(Vec<NodeId>),
    /// It is looked at again then.
    Later(Mono),
    /// Nothing is done before somebody is heard again.
    Unheard,
    /// Nothing can be done now.
    Stuck(String),
    /// Everybody is to be asked before anything is done.
    AskAll,
    /// It waits for a free job.
    Ready,
    /// It is being rebuilt.
    Begun,
}

impl Peer {
    /// Asks about the most urgent cases whose time has come.
    pub(super) fn begin_inquiry(&mut self, now: Now, facts: &dyn Facts) {
        if self.repair.inquiry.is_some() {
            return;
        }
        let is_free = self.repair.jobs.len() < JOBS_MAX;
        let mut due: Vec<(i64, StripeId, VaultId)> = self
            .repair
            .cases
            .iter()
            .filter(|(_, case)| case.due <= now.mono)
            .filter(|(_, case)| match case.stage {
                Stage::New | Stage::Waits => true,
                Stage::Ready => is_free,
                Stage::Working => false,
            })
            .map(|(&stripe, case)| (case.margin, stripe, case.vault))
            .collect();
        due.sort_unstable();
        let Some(&(_, first, vault)) = due.first() else { return };
        // What is ready was asked about before, and only so much of it can be begun.
        let is_ready = self.repair.cases.get(&first).is_some_and(|case| case.stage == Stage::Ready);
        let asked_of = |stripe| self.repair.cases.get(stripe).and_then(|case| case.asked.as_ref());
        let is_whole = asked_of(&first).is_none();
        let batch = match (is_ready, is_whole) {
            (true, _) => 2 * JOBS_MAX,
            (false, true) => BATCH,
            (false, false) => PATROL_BATCH,
        };
        let alike = due
            .iter()
            .filter(|(_, stripe, of)| *of == vault && asked_of(stripe).is_none() == is_whole);
        let stripes: Vec<StripeId> = alike.take(batch).map(|(_, stripe, _)| *stripe).collect();
        let holders: BTreeSet<NodeId> =
            stripes.iter().filter_map(asked_of).flatten().copied().collect();
        let heard = stripes.into_iter().map(|stripe| (stripe, Heard::default())).collect();
        let Ok(devices) = facts.scan(Table::Device, &vault.0, None, DEVICES_MAX) else { return };
        let devices = devices.iter().filter_map(|(row, _)| row.get(32..)?.try_into().ok());
        let devices = devices.map(DeviceId).collect();
        let view = View { facts, overlay: &self.overlay };
        let is_meant = |node: &&NodeId| {
            (is_whole || holders.contains(node))
                && !self.repair.lost.contains(node)
                && view.is_listed(**node, vault).unwrap_or(false)
        };
        let asked: BTreeSet<NodeId> = self.members.keys().filter(is_meant).copied().collect();
        let number = self.next_token;
        self.next_token += 1;
        self.repair.inquiry = Some(Inquiry {
            number,
            vault,
            heard,
            awaited: BTreeSet::new(),
            dialed: asked.clone(),
            until: now.mono.after(ANSWER_MAX),
            devices,
            asked: asked.clone(),
            is_whole,
        });
        for node in asked {
            self.liveness.ask(node, now.mono);
            if self.link_to(node).is_some() {
                self.inquire_at(now, node);
            } else if let Some(member) = self.members.get(&node) {
                let addresses = member.record.addresses.clone();
                self.outputs.push_back(Output::Dial { node, addresses });
            }
        }
    }

    /// There is a connection to a node: it is asked, if it is to be.
    pub(super) fn inquire_at(&mut self, now: Now, node: NodeId) {
        let Some(inquiry) = &mut self.repair.inquiry else { return };
        if inquiry.dialed.remove(&node) {
            inquiry.awaited.insert(node);
            let (is_whole, cases) = (inquiry.is_whole, &self.repair.cases);
            let should_have = |stripe: &&StripeId| {
                let asked = cases.get(stripe).and_then(|case| case.asked.as_ref());
                asked.is_some_and(|asked| asked.contains(&node))
            };
            let stripes = inquiry.heard.keys().filter(|stripe| is_whole || should_have(stripe));
            let stripes = stripes.copied().collect();
            // How much room it has matters where something may be put.
            if is_whole && let Some(link) = self.link_to(node) {
                self.ask_hearsay(now, node, link);
            }
            self.ask_about(node, stripes);
        }
    }

    /// There is none.
    pub(super) fn miss(&mut self, node: NodeId) {
        if let Some(inquiry) = &mut self.repair.inquiry
            && inquiry.dialed.remove(&node)
        {
            self.repair.wake();
        }
    }

    fn ask_about(&mut self, node: NodeId, stripes: Vec<StripeId>) {
        let Some((number, vault)) = self.repair.inquiry.as_ref().map(|i| (i.number, i.vault))
        else {
            return;
        };
        let Some(link) = self.link_to(node) else {
            self.stop_awaiting(node);
            return;
        };
        let request = Box::new(Request::Records { vault, stripes: stripes.clone() });
        let call = self.call(Pending::Inquiry { number, node, stripes });
        self.outputs.push_back(Output::Call { call, link, request });
    }

    fn stop_awaiting(&mut self, node: NodeId) {
        if let Some(inquiry) = &mut self.repair.inquiry {
            inquiry.awaited.remove(&node);
            if inquiry.awaited.is_empty() && inquiry.dialed.is_empty() {
                self.repair.wake();
            }
        }
    }

    /// A node tells what it has of stripes.
    pub(super) fn handle_inquiry_answer(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        (number, node): (u64, NodeId),
        mut stripes: Vec<StripeId>,
        response: Option<Response>,
    ) {
        if self.repair.inquiry.as_ref().is_none_or(|inquiry| inquiry.number != number) {
            return;
        }
        let found = match response {
            Some(Response::Records(found)) => found,
            Some(Response::Refused(refusal)) if refusal.is_denial() => {
                // It knows nothing of the vault, or is not to tell: that is an answer.
                if let Some(inquiry) = self.repair.inquiry.as_mut() {
                    for stripe in &stripes {
                        if let Some(heard) = inquiry.heard.get_mut(stripe) {
                            heard.closed.insert(node);
                        }
                    }
                }
                for &stripe in &stripes {
                    self.see_taken(now, (stripe, node), false);
                }
                Vec::new()
            }
            _ => {
                self.stop_awaiting(node);
                return;
            }
        };
        self.hear(now, node);
        let Some(inquiry) = self.repair.inquiry.as_mut() else { return };
        let count = found.len().min(stripes.len());
        let mut shown = Vec::new();
        for (stripe, held) in stripes.drain(..count).zip(found) {
            if let Some(heard) = inquiry.heard.get_mut(&stripe) {
                let is_nothing = held.is_none();
                heard.take(node, stripe, held, inquiry.vault, &inquiry.devices);
                // A record without a receipt is neither: its shard may be damaged, or on its way.
                let is_shown = heard.promised.contains_key(&node);
                shown.extend((is_shown || is_nothing).then_some((stripe, is_shown)));
            }
        }
        for (stripe, is_shown) in shown {
            self.see_taken(now, (stripe, node), is_shown);
        }
        // A page ends early; one with nothing in it says nothing.
        if count > 0 && !stripes.is_empty() {
            self.ask_about(node, stripes);
        } else {
            self.stop_awaiting(node);
        }
        if self.repair.inquiry.as_ref().is_some_and(|inquiry| inquiry.is_over(now.mono)) {
            self.conclude(now, facts);
            self.begin_inquiry(now, facts);
        }
    }

    /// Decides about each stripe that was asked about, the most urgent first.
    pub(super) fn conclude(&mut self, now: Now, facts: &dyn Facts) {
        let Some(inquiry) = self.repair.inquiry.take() else { return };
        // Those that should hold something are members, or it is not well.
        let ground = if inquiry.is_whole {
            self.ground(now, facts, inquiry.vault)
        } else {
            let seen = self.seen_for(now, facts, inquiry.vault);
            seen.map(|seen| Ground { seen, listed: BTreeMap::new(), formerly: BTreeMap::new() })
        };
        self.notice_mute(now, &inquiry);
        let mut order: Vec<(i64, StripeId)> = Vec::new();
        for &stripe in inquiry.heard.keys() {
            order.extend(self.repair.cases.get(&stripe).map(|case| (case.margin, stripe)));
        }
        order.sort_unstable();
        for (_, stripe) in order {
            let verdict = match &ground {
                Ok(ground) => self.judge_case(now, facts, &inquiry, ground, stripe),
                Err(refusal) => Err(refusal.clone()),
            };
            let vain = self.repair.cases.get(&stripe).map_or(0, |case| case.vain);
            let next_try = self.next_try(vain, now.mono);
            let Some(case) = self.repair.cases.get_mut(&stripe) else { continue };
            case.why = None;
            case.stage = Stage::Waits;
            case.vain = 0;
            match verdict {
                Ok(Verdict::None) => {
                    self.repair.cases.remove(&stripe);
                    // It may be one later.
                    self.repair.rounds.change();
                }
                Ok(Verdict::Well(holders)) => self.settle_stripe(stripe, holders, now.mono),
                Ok(Verdict::Later(due)) => case.due = due,
                Ok(Verdict::Stuck(why)) => {
                    case.why = Some(why);
                    (case.due, case.vain) = (next_try, vain.saturating_add(1));
                }
                Ok(Verdict::AskAll) => (case.asked, case.due) = (None, now.mono),
                Ok(Verdict::Unheard) => {
                    (case.due, case.vain) = (next_try, vain.saturating_add(1));
                }
                Ok(Verdict::Ready) => {
                    case.stage = Stage::Ready;
                    case.due = now.mono.after(Period::seconds(1));
                }
                Ok(Verdict::Begun) => case.stage = Stage::Working,
                Err(refusal) => {
                    case.why = Some(refusal.text);
                    (case.due, case.vain) = (next_try, vain.saturating_add(1));
                }
            }
        }
    }

    fn ground(&self, now: Now, facts: &dyn Facts, vault: VaultId) -> Result<Ground, Refusal> {
        let view = View { facts, overlay: &self.overlay };
        let listed = self.sites_for(now, facts, vault)?;
        let mut formerly = BTreeMap::new();
        for site in self.sites().chain([&self.site]) {
            if !listed.contains_key(&site.node) && view.is_listed(site.node, vault)? {
                formerly.insert(site.node, site.clone());
            }
        }
        Ok(Ground { listed, formerly, seen: self.seen_for(now, facts, vault)? })
    }

    /// Counts how often in a row who is heard left an inquiry without any answer.
    fn notice_mute(&mut self, now: Now, inquiry: &Inquiry) {
        for &node in &inquiry.asked {
            let has_answered =
                |heard: &Heard| heard.answered.contains(&node) || heard.closed.contains(&node);
            if inquiry.heard.values().any(has_answered) {
                self.repair.mute.remove(&node);
            } else if self.liveness.presence(node, now.mono) == Presence::Heard {
                let times = self.repair.mute.entry(node).or_default();
                *times = times.saturating_add(1);
            }
        }
        let members = &self.members;
        self.repair.mute.retain(|node, _| members.contains_key(node));
    }

    fn judge_case(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        inquiry: &Inquiry,
        ground: &Ground,
        stripe: StripeId,
    ) -> Result<Verdict, Refusal> {
        let view = View { facts, overlay: &self.overlay };
        let (vault, own) = (inquiry.vault, self.node());
        let Some(signed) = view.record(vault, stripe)? else { return Ok(Verdict::None) };
        let Ok(mine) = signed.verify() else { return Ok(Verdict::None) };
        let Some((shard, held)) = self.place_of(&view, &mine)? else { return Ok(Verdict::None) };
        if !self.is_kept_here(facts, &mine) {
            return Ok(Verdict::None);
        }
        match self.is_abandoned(facts, vault, stripe)? {
            Some(true) => return Ok(Verdict::None),
            None => return Ok(Verdict::Later(now.mono.after(Period::seconds(1)))),
            Some(false) => {}
        }
        let view = View { facts, overlay: &self.overlay };
        let heard = &inquiry.heard[&stripe];
        let (record, signed) = match &heard.newest {
            Some((record, signed)) if record.version > mine.version => (record, signed),
            _ => (&mine, &signed),
        };
        let site = |node: NodeId| self.site_on(ground, node);
        let mut promised = heard.promised.clone();
        promised.insert(own, held.index);
        promised.retain(|&node, _| !self.repair.is_gone(stripe, node) && site(node).is_some());
        if self.scrub.is_damaged(shard) {
            promised.remove(&own);
            let (record, signed) = (record.clone(), signed.clone());
            return Ok(self.mend(now, stripe, (&record, &signed), held.index, &promised));
        }
        // Who is silent and not lost has what the record says.
        let mut all = promised.clone();
        for (&holder, index) in record.holders.iter().zip(0..) {
            let is_silent = holder != own && !heard.answered.contains(&holder);
            let stood_in = promised.values().any(|&other| other == index);
            if is_silent
                && !stood_in
                && !self.repair.is_gone(stripe, holder)
                && site(holder).is_some()
            {
                all.insert(holder, index);
            }
        }
        let is_unheard = !heard.unsure.is_empty();
        // Who is there and never answers holds up nobody for ever.
        let is_awaited = |node: &NodeId| {
            !heard.answered.contains(node)
                && !heard.closed.contains(node)
                && self.repair.mute.get(node).is_none_or(|times| *times < MUTE)
        };
        let is_unheard = is_unheard || inquiry.asked.iter().any(is_awaited);
        let readable = counted(record, &all).into_iter().flatten().count();
        // Who leaves has what it has, and does not count.
        let mut staying = all.clone();
        let leavers = self.repair.leavers(vault);
        let life = view.life(shard)?;
        let is_free = life.is_some_and(|life| self.is_discharged(vault, &life));
        staying.retain(|&node, _| self.repair.stays(vault, node) && !(is_free && node == own));
        let counted = counted_best(record, &staying, site);
        let holders: Vec<NodeId> = counted.iter().copied().flatten().collect();
        let surplus: Vec<NodeId> =
            all.keys().copied().filter(|node| !holders.contains(node)).collect();
        let sites = |nodes: &[NodeId]| -> Vec<&Site> {
            nodes.iter().filter_map(|&node| site(node)).collect()
        };
        let spread = Spread {
            policy: &record.policy,
            k: usize::from(record.stripe.k),
            n: usize::from(record.stripe.n),
            shard_len: record.stripe.shard_len.into(),
            counted: sites(&holders),
            surplus: sites(&surplus),
            readable,
        };
        let allowed = self.check_terms(&view, record).map(|_| ());
        let is_listed = ground.has(own);
        let candidates = |of| self.candidates(now, (ground, of), (vault, stripe), heard, &all);
        let found = match spread.assess() {
            Finding::Well => {
                let is_able = !is_unheard && allowed.is_ok() && is_listed && inquiry.is_whole;
                if !is_able || !self.may_give(stripe, held.index, &promised) {
                    return Ok(Verdict::Well(holders));
                }
                let candidates = candidates(&ground.listed);
                let Some(to) = self.given_to(&spread, tie(stripe), &candidates) else {
                    return Ok(Verdict::Well(holders));
                };
                let (sources, targets) =
                    self.ends(record, &promised, &[(held.index, to)], &candidates);
                return Ok(self.order(now, (record, signed), sources, targets, false));
            }
            Finding::Beyond { .. } | Finding::Short { .. } if !inquiry.is_whole => {
                return Ok(Verdict::AskAll);
            }
            Finding::Beyond { found } => {
                let k = record.stripe.k;
                let margin = margin(&record.policy, k.into(), &spread.counted);
                if let Some(case) = self.repair.cases.get_mut(&stripe) {
                    (case.margin, case.is_short) = (margin, true);
                    case.holders.clone_from(&holders);
                }
                return Ok(Verdict::Stuck(format!("{found} shards are left, {k} needed")));
            }
            Finding::Short { margin } => margin,
        };
        let missing: Vec<u16> =
            (0..record.stripe.n).filter(|i| counted[usize::from(*i)].is_none()).collect();
        let term = self.repair_term();
        let listed = promised.keys().copied().filter(|n| ground.has(*n));
        let rank = rank(stripe, own, &leavers, listed);
        let Some(case) = self.repair.cases.get(&stripe) else { return Ok(Verdict::None) };
        // Before it was asked about the first time nobody is known to have changed.
        let is_same = case.holders.is_empty() || case.holders == holders;
        let since = if is_same { case.since } else { now.mono };
        let is_left = rank > 0 && is_planted(Bug::Takeover);
        let terms = if is_left { u64::MAX } else { term.0.saturating_mul(rank as u64) };
        let turn = since.after(Period(terms));
        let formerly = candidates(&ground.formerly);
        let mut candidates = candidates(&ground.listed);
        let preferred = candidates.len();
        candidates.extend(formerly);
        let placed = spread.place_preferring(preferred, &missing, &candidates, tie(stripe));
        let placed = placed.map(|placed| {
            each_its_own(&placed, &missing, |i| record.index_of(candidates[i].site.node))
        });
        let lying = (0..record.stripe.n).filter(|i| counted[usize::from(*i)].is_some());
        let shards: Vec<u16> = lying.chain(missing.iter().copied()).collect();
        // What is there and lies too close together is copied.
        let spread_out = || {
            spread.spread_out(&candidates[..preferred]).or_else(|_| spread.spread_out(&candidates))
        };
        let placed = placed.or_else(|why| match spread_out() {
            Ok(moved) if found < 0 => Ok(moved.iter().map(|&(at, to)| (shards[at], to)).collect()),
            _ => Err(why),
        });
        let needed = usize::from(record.stripe.k);
        let (sources, targets) =
            self.ends(record, &promised, &placed.clone().unwrap_or_default(), &candidates);
        let is_early = now.mono < turn;

        if let Some(case) = self.repair.cases.get_mut(&stripe) {
            case.margin = found;
            case.is_short = true;
            case.since = since;
            case.holders.clone_from(&holders);
        }
        if found >= 0 && is_unheard {
            return Ok(Verdict::Unheard);
        }
        if let Err(error) = placed {
            // What lies on all nodes there are cannot be whole again, and keeps its policy: it is left as it is.
            let is_bearable = found >= 0;
            return Ok(if is_bearable {
                Verdict::Well(holders)
            } else {
                Verdict::Stuck(error.to_string())
            });
        }
        allowed?;
        if !is_listed {
            return Ok(Verdict::Stuck("no roster of the vault lists this node".into()));
        }
        if sources.len() < needed {
            let text = format!("{} shards can be had now, {needed} needed", sources.len());
            return Ok(Verdict::Stuck(text));
        }
        if is_early {
            return Ok(Verdict::Later(turn));
        }
        Ok(self.order(now, (record, signed), sources, targets, found < 0))
    }

    /// By what a node is judged: as the vault sees it, by its certificate, or by the roster alone.
    fn site_on<'a>(&'a self, ground: &'a Ground, node: NodeId) -> Option<&'a Site> {
        let seen = ground.seen.get(&node).or_else(|| self.site_of(node));
        seen.or_else(|| ground.listed.get(&node))
    }

    /// Of these nodes those that have nothing of a stripe and could take a shard of it.
    fn candidates(
        &self,
        now: Now,
        (ground, of): (&Ground, &BTreeMap<NodeId, Site>),
        (vault, stripe): (VaultId, StripeId),
        heard: &Heard,
        all: &BTreeMap<NodeId, u16>,
    ) -> Vec<Candidate> {
        let leavers = self.repair.leavers(vault);
        let case = self.repair.cases.get(&stripe);
        let has_refused = |node: &NodeId| {
            let until = case.and_then(|case| case.refused.get(node));
            until.is_some_and(|until| *until > now.mono)
        };
        of.values()
            .filter(|site| heard.answered.contains(&site.node) && !all.contains_key(&site.node))
            .filter(|site| !heard.unsure.contains(&site.node))
            .filter(|site| !leavers.contains(&site.node))
            .filter(|site| !self.is_frozen_for(vault, site.operator))
            .filter(|site| !self.repair.taken.is_denied(&(stripe, site.node)))
            // What is said not to be there is put nowhere near.
            .filter(|site| !self.repair.is_gone(stripe, site.node) && !has_refused(&site.node))
            .filter(|site| self.link_to(site.node).is_some())
            .map(|listed| Candidate {
                site: self.site_on(ground, listed.node).unwrap_or(listed).clone(),
                free: self.members.room(listed.node),
            })
            .collect()
    }

    /// Whether this node gives its shard of a stripe, being nearly full, and nobody else has it yet. Its own copy goes once the vault says so
    /// ([`crate::discharge`]).
    fn may_give(&self, stripe: StripeId, index: u16, promised: &BTreeMap<NodeId, u16>) -> bool {
        let own = self.node();
        let has_it = |(&node, &other): (&NodeId, &u16)| node != own && other == index;
        gives(stripe, own, self.used(), self.config.quota) && !promised.iter().any(has_it)
    }

    /// To which candidate it goes.
    fn given_to(&self, spread: &Spread<'_>, tie: u64, candidates: &[Candidate]) -> Option<usize> {
        let left = self.config.quota.saturating_sub(self.used());
        let is_emptier = |at: &usize| is_emptier(candidates[*at].free, left, spread.shard_len);
        let emptier: Vec<usize> = (0..candidates.len()).filter(is_emptier).collect();
        let offered: Vec<Candidate> = emptier.iter().map(|&at| candidates[at].clone()).collect();
        spread.give(self.node(), &offered, tie).map(|to| emptier[to])
    }

    /// Has shards brought to where they are to be, if that may begin now.
    fn order(
        &mut self,
        now: Now,
        (record, signed): (&Record, &Signed<Record>),
        sources: Vec<Source>,
        targets: Vec<Target>,
        is_urgent: bool,
    ) -> Verdict {
        if self.repair.jobs.len() >= JOBS_MAX {
            return Verdict::Ready;
        }
        // What somebody has is copied, and read once.
        let is_there = |target: &Target| sources.iter().any(|source| source.index == target.index);
        let needed = usize::from(record.stripe.k);
        let read = if targets.iter().all(is_there) { targets.len() } else { needed - 1 };
        let len = u64::from(record.stripe.shard_len);
        if !self.repair.spend(len * (read + targets.len()) as u64, is_urgent, now.mono) {
            return Verdict::Later(now.mono.after(SAVING));
        }
        for target in &targets {
            let room = self.members.room(target.node);
            self.members.set_room(target.node, room.saturating_sub(len));
        }
        let job = JobId(self.next_token);
        self.next_token += 1;
        self.repair.jobs.insert(job, (record.stripe.id(), targets.len()));
        self.outputs.push_back(Output::Rebuild {
            job,
            record: Box::new(signed.clone()),
            sources,
            targets,
        });
        Verdict::Begun
    }

    /// Where shards are to be had, this node's own first, and where missing ones go.
    fn ends(
        &self,
        record: &Record,
        promised: &BTreeMap<NodeId, u16>,
        placed: &[(u16, usize)],
        candidates: &[Candidate],
    ) -> (Vec<Source>, Vec<Target>) {
        let own = self.node();
        let source = |index: u16, node: NodeId| -> Option<Source> {
            let link: Option<LinkId> = self.link_to(node);
            (node == own || link.is_some()).then_some(Source { index, node, link })
        };
        let named = counted(record, promised).into_iter().zip(0..);
        let mut sources: Vec<Source> =
            named.filter_map(|(node, index)| source(index, node?)).collect();
        sources.sort_by_key(|source| source.node != own);
        let target = |&(index, at): &(u16, usize)| {
            let node = candidates[at].site.node;
            Some(Target { index, node, link: self.link_to(node)? })
        };
        (sources, placed.iter().filter_map(target).collect())
    }
}

/// What decides between nodes that are as good for a stripe.
fn tie(stripe: StripeId) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| stripe.0[i]))
}

impl Heard {
    /// Takes in what a node tells of a stripe.
    fn take(
        &mut self,
        node: NodeId,
        stripe: StripeId,
        held: Option<HeldRecord>,
        vault: VaultId,
        devices: &BTreeSet<DeviceId>,
    ) {
        self.answered.insert(node);
        let Some(held) = held else { return };
        // What counts for nothing promises nothing.
        let Ok(told) = Told::check(&held, node, vault, devices) else { return };
        if told.stripe != stripe {
            return;
        }
        match told.promised {
            Some(index) => self.promised.insert(node, index).is_none(),
            None => self.unsure.insert(node),
        };
        let known = self.newest.as_ref().map(|(record, _)| record.version);
        if known.is_none_or(|version| version < told.record.version) {
            self.newest = Some((told.record, held.record));
        }
    }
}
