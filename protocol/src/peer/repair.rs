//! Repair without the owner: which stripes that are held here have lost shards, which of them this node rebuilds, and how far it
//! is. The rules are [`crate::repair`]'s and [`crate::liveness`]'s; who has what is found out by [`super::inquiry`].
//!
//! - Stripes held here are gone through again and again ([`super::rounds`]). One that may have lost a shard becomes a *case*: its record names a node
//!   that is lost, somebody who counted is, or it is its turn to be asked about although nothing is known to be wrong.
//!   In each cycle of these turns one of its holders asks, and the others alone: only where something turns out to be missing is everybody asked.
//! - Cases go by how many further losses they bear, then by name. Each is asked about before anything is done, and again after it.
//! - The custodian acts at once, the next in rank after a while in which nothing changed, and so on. Several at once do no harm: a
//!   holder takes one shard of a stripe, and a copy too many is locked like any other and no loss.
//! - At most [`JOBS_MAX`] at once, within a budget of bytes; what breaks its policy may draw on a larger one.

use super::due::Due;
use super::facts::{Facts, Table, View, Write};
use super::faults::{Faults, Taken};
use super::inquiry::{Inquiry, Verdict};
use super::parting::Parted;
use super::rounds::{PATROL_ROUNDS, Rounds};
use super::standpoint::Seen;
use super::{JobId, LaneId, Note, Output, Peer, PeerConfig, Rebuilt, Source, Then};
use crate::budget::{Budget, Rate};
use crate::codec;
use crate::id::{NodeId, OperatorId, StripeId, VaultId};
use crate::label::Site;
use crate::liveness::Presence;
use crate::message::{HeldRecord, RepairStatus};
use crate::placement::margin;
use crate::planted::{Bug, is_planted};
use crate::record::Record;
use crate::repair::{gives, patrols, rank};
use crate::sign::Signed;
use crate::time::{Mono, Now, Period};
use std::collections::{BTreeMap, BTreeSet};

/// Holders that records name and that are no members, as far as they are watched: whoever signs records can name as many as it likes.
const STRANGERS_MAX: usize = 8192;
/// Cases kept: the most urgent ones; the others are found again by the next round.
const CASES_MAX: usize = 4096;
/// Stripes rebuilt at once: each takes all of its shards in memory.
pub(super) const JOBS_MAX: usize = 2;
/// Stripes of which it is remembered that they are well, though their records name nodes that are lost.
const SETTLED_MAX: usize = 1 << 16;
/// Between two goes while there is more to do,
const PAUSE: Period = Period(100);
/// and while something is awaited.
const BUSY_PAUSE: Period = Period::seconds(1);
/// Those that come as late in rank or later ask at the same time, about many stripes at once, and then wait for their turn where nobody was there before.
const TOGETHER_FROM: usize = 2;
/// Rounds, and terms after which the next in rank takes over, in one patience.
pub(super) const TERMS: u64 = 24;
/// No term is shorter: an honest repair takes a while.
const TERM_MIN: Period = Period::seconds(2);
/// All members are asked so often within a patience at least, in a mesh of this many.
const ROUNDS_IN_PATIENCE: u64 = 16;
/// Repairs draw so many seconds of their rate at once after a rest,
const BURST_SECONDS: u64 = 32;
/// which is enough for a stripe, however wide, whatever the rate,
const BURST_MIN: u64 = 128 << 20;
/// and those of stripes that break their policy so many.
const URGENT_BURST_SECONDS: u64 = 512;
/// Reasons that a status tells.
pub(super) const REASONS_MAX: usize = 16;

/// How often members are exchanged, so that each is asked several times within the patience.
pub(super) fn exchange_period(config: &PeerConfig) -> Period {
    config.exchange_period.min(Period((config.patience.0 / ROUNDS_IN_PATIENCE).max(250)))
}

/// What a case waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be asked about.
    New,
    /// For its time: another one comes first, or nothing can be done now.
    Waits,
    /// For a free job: it is this node's.
    Ready,
    /// It is being rebuilt.
    Working,
}

/// Why a stripe is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Something has changed.
    Changed,
    /// It is its turn to be asked about though nothing is known to be wrong.
    Turn,
    /// A node shows no promise of it, or somebody says that something is wrong.
    Doubted,
}

/// A stripe that may have lost shards.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) vault: VaultId,
    /// As far as it is known; [`crate::placement::margin`].
    pub(super) margin: i64,
    /// Whether something is known to be missing.
    pub(super) is_short: bool,
    /// Who is asked while nothing is known to be wrong: those that should have it. `None` is everybody who may.
    pub(super) asked: Option<Vec<NodeId>>,
    pub(super) stage: Stage,
    /// When it is to be asked about next.
    pub(super) due: Mono,
    /// Since when who holds it has been the same, and who that is.
    pub(super) since: Mono,
    pub(super) holders: Vec<NodeId>,
    /// Why nothing can be done now.
    pub(super) why: Option<String>,
    /// When a node that leaves may have it looked at again.
    pub(super) hurry: Mono,
    /// How often in a row nothing could be done.
    pub(super) vain: u32,
    /// Nodes that did not take a shard, and until when they are not asked again.
    pub(super) refused: BTreeMap<NodeId, Mono>,
}

/// What is remembered of repair.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) cases: BTreeMap<StripeId, Case>,
    /// Who counted as a holder when all was well, and when that was.
    pub(super) settled: BTreeMap<StripeId, (Vec<NodeId>, Mono)>,
    /// Shards that are missing or wrong though their holders promise them.
    pub(super) faults: Faults,
    /// Who signed for what was rebuilt.
    pub(super) taken: Taken,
    /// Shards whose holders were shown by audits not to have them.
    pub(super) unproved: BTreeMap<(StripeId, NodeId), VaultId>,
    pub(super) inquiry: Option<Inquiry>,
    pub(super) jobs: BTreeMap<JobId, (StripeId, usize)>,
    pub(super) lost: BTreeSet<NodeId>,
    /// How many nodes were known, and which of them did not answer, when it was last looked.
    known: usize,
    silent: BTreeSet<NodeId>,
    /// Whether stripes are known that break their policy.
    is_at_risk: bool,
    /// When that last had everything looked at again.
    hurried: Mono,
    /// Whether a node's labels have changed since everything was looked at.
    pub(super) is_relabelled: bool,
    /// In this turn: who is seen otherwise than by its certificate alone, by vault.
    seen: BTreeMap<VaultId, Seen>,
    /// Nodes that are there and leave, this one as well if it does.
    pub(super) leaving: BTreeSet<NodeId>,
    /// Nodes that leave as far as some vaults are concerned.
    pub(super) parted: Parted,
    /// By which members, and whose nodes of them are to hold nothing of own vaults.
    pub(super) parted_by: (u64, BTreeSet<OperatorId>),
    /// How many inquiries in a row nodes left unanswered that are heard.
    pub(super) mute: BTreeMap<NodeId, u32>,
    /// Holders that records name and that are no members.
    strangers: BTreeSet<NodeId>,
    pub(super) rounds: Rounds,
    /// Whether there were more cases than are kept.
    pub(super) is_cut: bool,
    budget: Budget,
    urgent: Budget,
    repaired: u64,
    failed: u64,
    moved: u64,
    /// Since when something is short, and how many stripes were repaired meanwhile.
    bout: Option<(Mono, u64)>,
    at: Due,
}

impl Repair {
    pub(super) fn new(config: &PeerConfig, now: Mono) -> Self {
        let per_second = config.repair_per_second;
        let rate = |seconds: u64| Rate {
            per_day: per_second.saturating_mul(Period::days(1).0 / 1000),
            burst: per_second.saturating_mul(seconds).max(BURST_MIN),
        };
        Self {
            cases: BTreeMap::new(),
            settled: BTreeMap::new(),
            faults: Faults::default(),
            taken: Taken::default(),
            unproved: BTreeMap::new(),
            inquiry: None,
            jobs: BTreeMap::new(),
            lost: BTreeSet::new(),
            known: 0,
            silent: BTreeSet::new(),
            is_at_risk: false,
            hurried: now,
            is_relabelled: false,
            leaving: BTreeSet::new(),
            parted: Parted::default(),
            parted_by: (0, BTreeSet::new()),
            mute: BTreeMap::new(),
            strangers: BTreeSet::new(),
            seen: BTreeMap::new(),
            rounds: Rounds::new(now),
            is_cut: false,
            budget: Budget::full(rate(BURST_SECONDS), now),
            urgent: Budget::full(rate(URGENT_BURST_SECONDS), now),
            repaired: 0,
            failed: 0,
            moved: 0,
            bout: None,
            at: Due::at(now),
        }
    }

    pub(super) fn poll_timeout(&self) -> Mono {
        self.at.by()
    }

    /// Looks again at once.
    pub(super) fn wake(&mut self) {
        self.at.hurry(Mono(0));
    }

    /// Whether so many bytes may be moved now.
    pub(super) fn spend(&mut self, bytes: u64, is_urgent: bool, now: Mono) -> bool {
        is_urgent && self.urgent.spend(bytes, now).is_ok() || self.budget.spend(bytes, now).is_ok()
    }

    /// Whether a node does not have what it promises of a stripe, or may as well not be there.
    pub(super) fn is_gone(&self, stripe: StripeId, node: NodeId) -> bool {
        let place = (stripe, node);
        self.lost.contains(&node)
            || self.faults.contains(&place)
            || self.unproved.contains_key(&place)
    }

    /// Whether a node that promises a shard of a stripe counts as its holder.
    pub(super) fn counts(&self, vault: VaultId, stripe: StripeId, node: NodeId) -> bool {
        !self.is_gone(stripe, node) && self.stays(vault, node)
    }

    /// Whether a node does not leave, as far as a vault is concerned.
    pub(super) fn stays(&self, vault: VaultId, node: NodeId) -> bool {
        !self.leaves(vault, node) || is_planted(Bug::Leaver)
    }

    /// Who counted as the holders of a stripe when it was found well, if nothing has spoken against that since.
    pub(super) fn settled_holders(&self, vault: VaultId, stripe: StripeId) -> Option<&[NodeId]> {
        let (holders, _) = self.settled.get(&stripe)?;
        let counts = holders.iter().all(|&holder| self.counts(vault, stripe, holder));
        (counts && !self.cases.contains_key(&stripe)).then_some(holders)
    }

    /// Whether everything was gone through since who counts changed.
    pub(super) fn is_gone_through(&self) -> bool {
        !self.rounds.is_whole_on()
    }
}

impl Peer {
    /// After so long the next in rank takes over.
    pub(super) fn repair_term(&self) -> Period {
        Period(self.config.patience.0 / TERMS).max(TERM_MIN)
    }

    /// When to look again at what nothing could be done about, time after time: later each time, and at least once in a patience. A
    /// stripe that cannot be made whole again would be asked about for ever, by all that hold it.
    pub(super) fn next_try(&self, vain: u32, now: Mono) -> Mono {
        let term = self.repair_term();
        let wait = term.0.saturating_mul(1 << vain.min(16));
        now.after(Period(wait.min(self.config.patience.0)).max(term))
    }

    /// A site by what a node's certificate says.
    pub(super) fn site_of(&self, node: NodeId) -> Option<&Site> {
        if node == self.site.node {
            return Some(&self.site);
        }
        self.members.get(&node).map(|member| &member.site)
    }

    /// Looks after what was lost, when it is time.
    pub(super) fn handle_repair(&mut self, now: Now, facts: &dyn Facts) {
        if !self.repair.at.is_due(now.mono) {
            return;
        }
        self.repair.seen.clear();
        let has_changed =
            self.notice_losses(now) | self.notice_leaving(now) | self.notice_labels(now);
        let has_changed = has_changed | self.notice_parting();
        if has_changed {
            self.look_again(now);
        }
        let has_room = self.repair.is_cut && self.repair.cases.len() < CASES_MAX / 2;
        if !self.repair.rounds.is_on() && has_room {
            self.begin_whole_round();
        }
        self.begin_round(now);
        self.go_on_with_round(now, facts);
        let is_over = self.repair.inquiry.as_ref().is_some_and(|inquiry| inquiry.is_over(now.mono));
        if is_over {
            self.conclude(now, facts);
        }
        self.begin_inquiry(now, facts);
        self.handle_vouching(now);
        let is_short = self.repair.cases.values().any(|case| case.is_short);
        self.repair.bout = is_short.then(|| self.repair.bout.unwrap_or((now.mono, 0)));
        self.notice_risk();
        let next = self.repair.cases.values().filter(|case| case.stage != Stage::Working);
        let next = next.map(|case| case.due).min();
        let wait = if self.repair.rounds.is_on() {
            PAUSE
        } else if let Some(inquiry) = &self.repair.inquiry {
            // Whoever answers last ends it before.
            inquiry.left(now.mono).max(PAUSE)
        } else if !self.repair.jobs.is_empty() {
            BUSY_PAUSE
        } else {
            let due =
                next.map_or(self.round_period(), |due| Period(due.0.saturating_sub(now.mono.0)));
            due.clamp(PAUSE, self.round_period())
        };
        // Whatever is due and cannot be done now is not tried again and again in the same moment.
        let due = self.vouching_due(now.mono).max(now.mono.after(PAUSE));
        self.repair.at = Due::after(now.mono, wait, 8);
        self.repair.at.hurry(due);
    }

    /// Finds who is lost now, and who is not any more; whether anything is to be looked at again.
    fn notice_losses(&mut self, now: Now) -> bool {
        let (mut lost, mut silent) = (BTreeSet::new(), BTreeSet::new());
        for (node, presence) in self.liveness.unheard(now.mono) {
            if !self.members.contains_key(&node) {
                continue;
            }
            silent.insert(node);
            if presence == Presence::Lost {
                lost.insert(node);
            }
        }
        // Nodes that only records name.
        let (members, strangers) = (&self.members, self.repair.strangers.len());
        self.repair.strangers.retain(|node| !members.contains_key(node));
        // Where records name more than are watched anybody may be one of them.
        let is_met = self.repair.strangers.len() < strangers || strangers >= STRANGERS_MAX;
        for &node in self.repair.strangers.union(&self.repair.lost) {
            if self.liveness.is_lost(node, now.mono) {
                lost.insert(node);
            }
        }
        for &node in silent.difference(&self.repair.silent).filter(|node| !lost.contains(node)) {
            self.outputs.push_back(Output::Note(Note::Suspected(node)));
        }
        // Who is new, or is heard again, may have what was missing, or take what had no place. Somebody who comes and goes has nobody
        // ask more often than once in a term.
        let is_new = std::mem::replace(&mut self.repair.known, members.len()) < members.len();
        let is_back = self.repair.silent.iter().any(|node| !silent.contains(node))
            && self.repair.hurried.after(self.repair_term()) <= now.mono;
        if lost == self.repair.lost && !(is_new && is_met) {
            // Nobody counts otherwise: what was well is well.
            if is_back {
                (self.repair.silent, self.repair.hurried) = (silent, now.mono);
            } else {
                self.repair.silent.extend(silent);
            }
            if is_new || is_back {
                self.hurry_cases(now);
            }
            return false;
        }
        self.repair.silent = silent;
        self.repair.hurried = now.mono;
        let known = std::mem::replace(&mut self.repair.lost, lost);
        for node in &self.repair.lost - &known {
            self.outputs.push_back(Output::Note(Note::Lost(node)));
            self.void_words(node);
            self.leaving.upset(self.concerns_leaving(node));
        }
        for &node in known.difference(&self.repair.lost) {
            self.outputs.push_back(Output::Note(Note::Returned(node)));
        }
        true
    }

    /// Finds whether a node lies elsewhere by its labels now: what was well may be no more. Whoever changes them all the time has
    /// nobody look more often than once in a term.
    fn notice_labels(&mut self, now: Now) -> bool {
        let is_due = self.repair.hurried.after(self.repair_term()) <= now.mono;
        if !self.repair.is_relabelled || !is_due {
            return false;
        }
        (self.repair.is_relabelled, self.repair.hurried) = (false, now.mono);
        self.repair.settled.clear();
        self.leaving.upset(true);
        true
    }

    /// Goes through everything, from the beginning. Who leaves begins anew at once, because it counts; others end what they began before.
    pub(super) fn begin_whole_round(&mut self) {
        self.repair.is_cut = false;
        if self.leaving.is_own() {
            self.repair.rounds.begin_whole();
        } else {
            self.repair.rounds.follow_with_whole();
        }
    }

    /// Who counts has changed: what was known of cases may have, too.
    fn look_again(&mut self, now: Now) {
        if self.leaving.take_upset() {
            self.leaving.forget();
            self.begin_whole_round();
        } else {
            self.repair.is_cut = false;
            self.repair.rounds.follow_with_whole();
        }
        self.hurry_cases(now);
    }

    /// What waits is asked about again soon.
    fn hurry_cases(&mut self, now: Now) {
        for case in self.repair.cases.values_mut().filter(|case| case.stage == Stage::Waits) {
            case.due = case.due.min(now.mono.after(BUSY_PAUSE));
            case.vain = 0;
        }
    }

    /// Says when stripes that were asked about break their policy, and when none does any more.
    fn notice_risk(&mut self) {
        let is_broken = |case: &&Case| case.is_short && case.margin < 0 && !case.holders.is_empty();
        let stripes = self.repair.cases.values().filter(is_broken).count();
        if (stripes > 0) != self.repair.is_at_risk {
            self.repair.is_at_risk = stripes > 0;
            self.outputs.push_back(Output::Note(Note::AtRisk { stripes }));
        }
    }

    /// Something was found out, or is doubted, about a stripe that is held here.
    pub(super) fn look_at_stripe(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        (vault, stripe): (VaultId, StripeId),
        why: Why,
    ) {
        let view = View { facts, overlay: &self.overlay };
        if let Ok(Some(signed)) = view.record(vault, stripe)
            && let Ok(record) = signed.verify()
        {
            self.look_at(now, facts, &record, why);
            self.repair.wake();
        }
    }

    /// A node shows no promise of a stripe of which it was thought to hold a shard.
    pub(super) fn doubt_stripe(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        vault: VaultId,
        stripe: StripeId,
        node: NodeId,
    ) {
        let settled = self.repair.settled.get(&stripe);
        if settled.is_none_or(|(holders, _)| holders.contains(&node)) {
            self.look_at_stripe(now, facts, (vault, stripe), Why::Doubted);
        }
    }

    /// Makes a case of a stripe that may have lost shards. One that is only doubted may be on its way: it is asked about later.
    pub(super) fn look_at(&mut self, now: Now, facts: &dyn Facts, record: &Record, why: Why) {
        let (is_doubted, is_turn) = (why == Why::Doubted, why == Why::Turn);
        let (vault, stripe) = (record.stripe.vault, record.stripe.id());
        if self.repair.cases.contains_key(&stripe) {
            return;
        }
        for &holder in &record.holders {
            if holder == self.node() || self.members.contains_key(&holder) {
                continue;
            }
            // Nobody knows where it could be asked. Whom no roster ever listed somebody made up.
            let view = View { facts, overlay: &self.overlay };
            if view.is_listed(holder, vault).unwrap_or(false) {
                self.liveness.ask_stranger(holder, now.mono);
                if self.repair.strangers.len() < STRANGERS_MAX {
                    self.repair.strangers.insert(holder);
                }
            }
        }
        let is_hurt = self.is_hurt(facts, record);
        let leaves = self.repair.leaves(vault, self.node());
        // What was found well with those who still count is well. Where that was all of it, it is left alone until its turn, whoever its record names.
        let settled = self.repair.settled.get(&stripe);
        let settled = settled.filter(|(holders, _)| {
            holders.iter().all(|&holder| self.repair.counts(vault, stripe, holder))
        });
        let all = settled.map(|(holders, _)| holders);
        let all = all.filter(|holders| holders.len() >= record.holders.len());
        if all.is_some() && !is_hurt && !leaves && !is_doubted && !is_turn {
            return;
        }
        if let Some((_, at)) = settled {
            let patrol = Period(self.round_period().0.saturating_mul(PATROL_ROUNDS / 2));
            if !is_hurt && !is_doubted && now.mono < at.after(patrol) {
                return;
            }
        }
        let (own, all) = (self.node(), all.cloned());
        let named = record.holders.iter().copied();
        let named = named.filter(|&holder| self.repair.counts(vault, stripe, holder));
        let there: Vec<NodeId> = all.clone().unwrap_or_else(|| named.collect());
        let is_short = is_hurt || there.len() < record.holders.len() || leaves;
        let leaving = self.repair.leavers(vault);
        let present = record.holders.iter().copied();
        let present = present.filter(|&holder| !self.repair.is_gone(stripe, holder));
        let present: Vec<NodeId> = present.collect();
        let rank = || rank(stripe, own, &leaving, present.iter().copied());
        // Who is nearly full looks for somebody who takes what is its turn.
        let is_giver = gives(stripe, own, self.used(), self.config.quota);
        if is_turn && !is_short && !is_giver {
            let length = self.round_period().0.saturating_mul(PATROL_ROUNDS);
            let others = present.iter().filter(|holder| **holder != own).count();
            if !patrols(rank(), others + 1, now.wall.0 / length.max(1)) {
                return;
            }
        }
        if !self.repair.seen.contains_key(&vault) {
            // A vault whose roster is not here has no holders to agree with.
            let seen = self.seen_for(now, facts, vault).unwrap_or_default();
            self.repair.seen.insert(vault, seen);
        }
        let seen = &self.repair.seen[&vault];
        let site = |&node: &NodeId| seen.get(&node).or_else(|| self.site_of(node));
        let sites: Vec<&Site> = there.iter().filter_map(site).collect();
        let margin = margin(&record.policy, usize::from(record.stripe.k), &sites);
        // Who leaves may stand in, and is named by no record then. What is all there may lie too close together.
        // Of whom nothing is known yet nobody can say where they are.
        let is_misplaced = margin < 0 && sites.len() == there.len();
        let is_short = is_short || is_misplaced;
        if !is_short && !is_doubted && !is_turn {
            return;
        }
        let is_patrol = !is_short && !is_doubted && !is_giver;
        let is_wanted = self.is_kept_here(facts, record)
            && matches!(self.is_abandoned(facts, vault, stripe), Ok(Some(false)));
        if !is_wanted {
            // It may be again.
            self.repair.rounds.change();
            return;
        }
        let asked = is_patrol.then(|| {
            let counted = all.iter().flatten();
            record.holders.iter().chain(counted).copied().collect()
        });
        // What is damaged here nobody else mends.
        let rank = if is_hurt || is_patrol { 0 } else { rank() };
        let terms = rank.min(TOGETHER_FROM) as u64 + u64::from(is_doubted);
        let due = now.mono.after(Period(self.repair_term().0.saturating_mul(terms)));
        let case = Case {
            vault,
            margin,
            is_short,
            asked,
            stage: Stage::New,
            due,
            since: now.mono,
            holders: Vec::new(),
            why: None,
            hurry: now.mono,
            vain: 0,
            refused: BTreeMap::new(),
        };
        if self.repair.cases.len() >= CASES_MAX {
            self.repair.is_cut = true;
            let cases = self.repair.cases.iter().filter(|(_, case)| case.stage == Stage::New);
            let last =
                cases.max_by_key(|(id, case)| (case.margin, **id)).map(|(id, c)| (c.margin, *id));
            match last {
                Some(last) if last > (margin, stripe) => self.repair.cases.remove(&last.1),
                _ => return,
            };
        }
        self.repair.cases.insert(stripe, case);
    }

    /// Whether a shard of a stripe is held here that stays, or that goes by a discharge and may be needed: what is about to go by a release is
    /// nobody's loss.
    pub(super) fn is_kept_here(&self, facts: &dyn Facts, record: &Record) -> bool {
        let view = View { facts, overlay: &self.overlay };
        let Ok(Some((shard, _))) = self.place_of(&view, record) else { return false };
        if view.is_pending(Table::Held, &shard.0) || self.lives.is_dropping(shard) {
            return false;
        }
        let Ok(life) = view.life(shard) else { return false };
        let vault = record.stripe.vault;
        life.is_none_or(|life| match life.cooling() {
            Some(_) => self.is_discharged(vault, &life),
            None => life.decided().is_none(),
        })
    }

    /// A job has ended.
    pub(super) fn handle_rebuilt(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        job: JobId,
        rebuilt: Rebuilt,
    ) {
        let Some((stripe, wanted)) = self.repair.jobs.remove(&job) else { return };
        self.repair.moved = self.repair.moved.saturating_add(rebuilt.moved);
        let own = self.node();
        for node in rebuilt.faulty {
            if node == own {
                self.suspect_stripe(now, facts, stripe);
                continue;
            }
            if self.repair.faults.add((stripe, node), now.mono) {
                self.outputs.push_back(Output::Note(Note::Faulty { node, stripe }));
                if let Some(vault) = self.repair.cases.get(&stripe).map(|case| case.vault) {
                    self.asking.want(node, vault, stripe);
                }
            }
        }
        // Who took a shard shows it when it is asked; here it is counted, and held to it.
        if let Some(vault) = self.repair.cases.get(&stripe).map(|case| case.vault) {
            self.note_taken(now, (vault, stripe), &rebuilt.receipts);
            self.note_repair(now, vault, &rebuilt.read, &rebuilt.receipts);
        }
        let mended = rebuilt.mended.is_some_and(|lane| self.keep_mended(now, facts, stripe, lane));
        let taken = rebuilt.receipts.len() + usize::from(mended);
        let term = self.repair_term();
        self.repair.wake();
        let Some(case) = self.repair.cases.get_mut(&stripe) else { return };
        let vault = case.vault;
        for node in rebuilt.refused {
            case.refused.insert(node, now.mono.after(term));
        }
        case.stage = Stage::Waits;
        case.due = if taken > 0 { now.mono } else { now.mono.after(term) };
        if taken >= wanted {
            self.repair.repaired += 1;
            if let Some((_, lately)) = &mut self.repair.bout {
                *lately += 1;
            }
            let note = Note::Repaired { vault, stripe, shards: taken };
            self.outputs.push_back(Output::Note(note));
        } else {
            self.repair.failed += 1;
            let nobody = || format!("{taken} of {wanted} shards were taken");
            let why = rebuilt.failed.unwrap_or_else(nobody);
            case.why = Some(why.clone());
            self.outputs.push_back(Output::Note(Note::NotRepaired { vault, stripe, why }));
        }
    }

    /// Whether the bytes of the shard that is held here of a stripe are damaged.
    fn is_hurt(&self, facts: &dyn Facts, record: &Record) -> bool {
        let view = View { facts, overlay: &self.overlay };
        self.scrub.is_any_damaged()
            && matches!(self.place_of(&view, record), Ok(Some((shard, _))) if self.scrub.is_damaged(shard))
    }

    /// What is held here of a stripe could not be read.
    fn suspect_stripe(&mut self, now: Now, facts: &dyn Facts, stripe: StripeId) {
        let Some(vault) = self.repair.cases.get(&stripe).map(|case| case.vault) else { return };
        let view = View { facts, overlay: &self.overlay };
        if let Ok(Some((_, shard, _))) = self.held_of(&view, vault, stripe) {
            self.scrub.suspect(shard, now.mono);
        }
    }

    /// Has the bytes of a damaged shard made anew from others.
    pub(super) fn mend(
        &mut self,
        now: Now,
        stripe: StripeId,
        (record, signed): (&Record, &Signed<Record>),
        index: u16,
        promised: &BTreeMap<NodeId, u16>,
    ) -> Verdict {
        if let Some(case) = self.repair.cases.get_mut(&stripe) {
            case.is_short = true;
        }
        let needed = usize::from(record.stripe.k);
        let source = |(&node, &index): (&NodeId, &u16)| {
            Some(Source { index, node, link: Some(self.link_to(node)?) })
        };
        let mut seen = BTreeSet::new();
        let sources: Vec<Source> = promised.iter().filter_map(source).collect();
        let sources: Vec<Source> =
            sources.into_iter().filter(|source| seen.insert(source.index)).collect();
        if sources.len() < needed {
            let text = format!("{} other shards can be had now, {needed} needed", sources.len());
            return Verdict::Stuck(text);
        }
        let moved = u64::from(record.stripe.shard_len) * needed as u64;
        if self.repair.jobs.len() >= JOBS_MAX || !self.repair.spend(moved, false, now.mono) {
            return Verdict::Ready;
        }
        let job = JobId(self.next_token);
        self.next_token += 1;
        self.repair.jobs.insert(job, (stripe, 1));
        let record = Box::new(signed.clone());
        self.outputs.push_back(Output::Mend { job, record, sources, index });
        Verdict::Begun
    }

    /// Keeps the bytes that a damaged shard was mended with, if they are still wanted.
    fn keep_mended(&mut self, now: Now, facts: &dyn Facts, stripe: StripeId, lane: LaneId) -> bool {
        let Some(vault) = self.repair.cases.get(&stripe).map(|case| case.vault) else {
            return false;
        };
        let view = View { facts, overlay: &self.overlay };
        let found = (view.record(vault, stripe), self.held_of(&view, vault, stripe));
        let (Ok(Some(record)), Ok(Some((_, shard, held)))) = found else { return false };
        let is_settled = self.scrub.is_damaged(shard)
            && !self.is_arriving(shard)
            && !view.is_pending(Table::Held, &shard.0)
            && !self.lives.is_dropping(shard);
        if !is_settled {
            return false;
        }
        let mut writes = vec![Write::held(shard, &held)];
        writes.extend(self.scrub.heal(shard, now.mono));
        let receipt = Some(held.receipt);
        let note = codec::encode(&HeldRecord { record, receipt });
        self.persist(writes, Some((lane, shard, note)), Then::Nothing);
        true
    }

    /// All was well with a stripe when these counted as its holders.
    pub(super) fn settle_stripe(&mut self, stripe: StripeId, holders: Vec<NodeId>, now: Mono) {
        // Who leaves must know of all that it holds.
        if self.repair.settled.len() >= SETTLED_MAX && !self.leaving.is_own() {
            self.repair.settled.clear();
            self.repair.rounds.change();
        }
        self.repair.settled.insert(stripe, (holders, now));
        self.repair.cases.remove(&stripe);
        if self.count_down() && !self.repair.rounds.is_on() {
            self.begin_whole_round();
        }
    }

    /// How far repair is.
    pub(super) fn repair_status(&self, now: Mono) -> RepairStatus {
        let (mut waiting, mut stuck) = (BTreeMap::new(), BTreeMap::new());
        for case in self.repair.cases.values().filter(|case| case.is_short) {
            match &case.why {
                Some(why) if stuck.contains_key(why) || stuck.len() < REASONS_MAX => {
                    *stuck.entry(why.clone()).or_default() += 1;
                }
                _ => *waiting.entry(case.margin).or_default() += 1,
            }
        }
        RepairStatus {
            lost: self.repair.lost.iter().copied().collect(),
            waiting: waiting.into_iter().collect(),
            running: self.repair.jobs.len() as u32,
            repaired: self.repair.repaired,
            failed: self.repair.failed,
            moved: self.repair.moved,
            stuck: stuck.into_iter().collect(),
            since: self.repair.bout.map(|(since, _)| Period(now.0.saturating_sub(since.0))),
            lately: self.repair.bout.map_or(0, |(_, lately)| lately),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_urgent_draws_on_more_and_nothing_beyond_the_rate_in_the_long_run() {
        let config = PeerConfig { repair_per_second: 8 << 20, ..PeerConfig::default() };
        let mut repair = Repair::new(&config, Mono(0));
        let mib = |n: u64| n << 20;
        assert!(repair.spend(mib(256), false, Mono(0)), "32 seconds at once");
        assert!(!repair.spend(mib(1), false, Mono(0)));
        assert!(repair.spend(mib(4096), true, Mono(0)), "512 seconds of what breaks its policy");
        assert!(!repair.spend(mib(1), true, Mono(0)));
        assert!(repair.spend(mib(8), false, Mono(1000)));
        assert!(!repair.spend(mib(1), false, Mono(1000)));
        // However little a second brings, one stripe can be repaired.
        let config = PeerConfig { repair_per_second: 1, ..PeerConfig::default() };
        assert!(Repair::new(&config, Mono(0)).spend(BURST_MIN, false, Mono(0)));
    }

    #[test]
    fn all_members_are_asked_several_times_within_the_patience() {
        let period =
            |patience: Period| exchange_period(&PeerConfig { patience, ..PeerConfig::default() });
        assert_eq!(period(Period::days(1)), PeerConfig::default().exchange_period);
        assert_eq!(period(Period::seconds(160)), Period::seconds(10));
        assert_eq!(period(Period(0)), Period(250));
    }
}
