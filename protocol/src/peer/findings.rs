//! What audits found against holders, here and elsewhere, and whether it counts: [`crate::audit::Case`] has the rule, [`super::repair`] acts on it.
//!
//! - Of what this node found itself the last is kept, durably, where something ever spoke against the holder; with what the holder signed.
//! - Nodes fetch each other's findings whenever they meet, by number. Nobody is believed alone, and who hears something against a holder
//!   asks it as well: so one auditor's word is heard by all who could confirm it, and a proof given to this node outweighs all words.
//! - A holder that hears that it failed reads that shard next. It is asked again and again, and trusted again when it proves it.

use super::facts::{Facts, FactsError, FindingRow, Table, View, Write, decode, key};
use super::membership::Pending;
use super::repair::Why;
use super::{Decision, LaneId, LinkId, Note, Output, Peer, Role, Then};
use crate::audit::{Case, Finding, Outcome, Transcript};
use crate::id::{NodeId, ShardId, StripeId, VaultId};
use crate::message::{AuditStatus, Request, Response};
use crate::record::Record;
use crate::sign::Signed;
use crate::tally::Done;
use crate::time::{Mono, Now, Period};
use std::collections::{BTreeMap, BTreeSet};

/// Most of this node's findings that are kept, and most of others', each.
const FINDINGS_MAX: usize = 1 << 16;
/// Transcripts kept: more of the same holder show nothing new.
const EVIDENCE_MAX: usize = 32;
/// Findings in one answer.
const PAGE: usize = 512;
/// How often in a round's length those that failed are asked again,
const AGAIN: u64 = 84;
/// and how often at most.
const AGAIN_MIN: Period = Period::seconds(1);
/// How many of them each time.
const AGAIN_PAGE: usize = 1024;

/// A shard of a stripe at a holder.
type Place = (StripeId, NodeId);

/// What this node found last.
#[derive(Debug)]
struct Own {
    row: FindingRow,
    finding: Finding,
}

/// What is remembered of findings.
#[derive(Debug)]
pub(super) struct Findings {
    own: BTreeMap<Place, Own>,
    numbers: BTreeMap<u64, Place>,
    /// The last number given.
    last: u64,
    evidence: BTreeSet<Vec<u8>>,
    heard: BTreeMap<Place, BTreeMap<NodeId, VaultId>>,
    /// Up to which number others' findings were heard.
    seen: BTreeMap<NodeId, u64>,
    again_at: Mono,
    again_after: Option<Place>,
    proved: u64,
    failed: u64,
    unsure: u64,
}

impl Findings {
    pub(super) fn load(now: Mono, facts: &dyn Facts) -> Result<Self, FactsError> {
        let mut findings = Self {
            own: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last: 0,
            evidence: BTreeSet::new(),
            heard: BTreeMap::new(),
            seen: BTreeMap::new(),
            again_at: now,
            again_after: None,
            proved: 0,
            failed: 0,
            unsure: 0,
        };
        for (row, _) in facts.scan(Table::Evidence, &[], None, EVIDENCE_MAX)? {
            findings.evidence.insert(row);
        }
        for (_, bytes) in facts.scan(Table::Finding, &[], None, 2 * FINDINGS_MAX)? {
            let row: FindingRow = decode(Table::Finding, &bytes)?;
            if let Ok((finding, _)) = row.finding.split() {
                findings.keep(row, finding);
            }
        }
        Ok(findings)
    }

    fn keep(&mut self, row: FindingRow, finding: Finding) {
        let place = (finding.stripe, finding.holder);
        self.last = self.last.max(row.number);
        self.numbers.insert(row.number, place);
        if let Some(before) = self.own.insert(place, Own { row, finding }) {
            self.numbers.remove(&before.row.number);
        }
    }

    fn forget(&mut self, place: Place) {
        if let Some(own) = self.own.remove(&place) {
            self.numbers.remove(&own.row.number);
        }
        self.heard.remove(&place);
        self.evidence.remove(&row_of(place));
    }

    fn outcome(&self, place: Place) -> Option<Outcome> {
        self.own.get(&place).map(|own| own.finding.outcome)
    }

    /// Above all that were given before, also by an earlier run whose last findings are forgotten.
    fn next_number(&self, now: Now) -> u64 {
        now.wall.0.max(self.last.saturating_add(1))
    }
}

fn row_of((stripe, holder): Place) -> Vec<u8> {
    key(&[&stripe.0, &holder.0])
}

impl Peer {
    /// A holder was asked: this came of it.
    pub(super) fn find(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        (vault, stripe, holder, shard): (VaultId, StripeId, NodeId, ShardId),
        outcome: Outcome,
        evidence: Option<&Transcript>,
    ) {
        let place = (stripe, holder);
        self.asking.asked += 1;
        match outcome {
            Outcome::Proved => {
                self.findings.proved += 1;
                self.note_service(now, holder, vault, Done { proved: 1, ..Done::default() });
            }
            Outcome::NotPromised => {}
            Outcome::Missing | Outcome::Wrong | Outcome::Silent => {
                let view = View { facts, overlay: &self.overlay };
                let record = view.record(vault, stripe).ok().flatten();
                let Some((record, _)) = record.and_then(|signed| signed.split().ok()) else {
                    return;
                };
                // Before anybody is blamed: is it this node that is cut off?
                if self.count_others(&record, holder) < usize::from(record.stripe.k) {
                    self.findings.unsure += 1;
                    return;
                }
                self.findings.failed += 1;
            }
        }
        let known = self.findings.outcome(place);
        let is_contested = known.is_some() || self.findings.heard.contains_key(&place);
        if known == Some(outcome) || !outcome.is_failure() && !is_contested {
            return;
        }
        // Asked again and again, it failed once; and silence is nobody's word.
        if matches!(outcome, Outcome::Missing | Outcome::Wrong) {
            self.note_service(now, holder, vault, Done { unproved: 1, ..Done::default() });
        }
        if known.is_none() && self.findings.own.len() >= FINDINGS_MAX {
            return;
        }
        let auditor = self.node();
        let finding = Finding { auditor, holder, vault, stripe, shard, outcome, when: now.wall };
        let signed = Signed::sign(&finding, &self.key);
        let row = FindingRow { number: self.findings.next_number(now), finding: signed };
        let mut writes = vec![Write::finding(row_of(place), &row)];
        let is_room = self.findings.evidence.len() < EVIDENCE_MAX;
        if let Some(transcript) = evidence.filter(|_| is_room) {
            self.findings.evidence.insert(row_of(place));
            writes.push(Write::evidence(row_of(place), transcript));
        }
        self.findings.keep(row, finding);
        self.persist(writes, None, Then::Nothing);
        if outcome.is_failure() {
            self.outputs.push_back(Output::Note(Note::AuditFailed {
                node: holder,
                stripe,
                outcome,
            }));
        }
        self.weigh(now, facts, vault, place);
    }

    /// How many other shards of a stripe can be had now, as far as is known here.
    fn count_others(&self, record: &Record, holder: NodeId) -> usize {
        let (own, stripe) = (self.node(), record.stripe.id());
        let is_there = |node: &&NodeId| {
            **node == own || self.link_to(**node).is_some() && !self.repair.is_gone(stripe, **node)
        };
        let holders = self.holders_of(record);
        holders.keys().filter(|node| **node != holder).filter(is_there).count()
    }

    /// Whether what is known against a holder counts now, and what follows from it.
    fn weigh(&mut self, now: Now, facts: &dyn Facts, vault: VaultId, place: Place) {
        let (stripe, holder) = place;
        let view = View { facts, overlay: &self.overlay };
        let record = view.record(vault, stripe).ok().flatten();
        let Some((record, _)) = record.and_then(|signed| signed.split().ok()) else { return };
        let own = self.findings.outcome(place);
        let mut auditors = self.holders_of(&record);
        auditors.remove(&holder);
        let heard = self.findings.heard.get(&place).into_iter().flat_map(BTreeMap::keys).copied();
        let own_word = own.filter(|outcome| outcome.is_failure()).map(|_| self.node());
        let case = Case {
            against: heard.chain(own_word).collect(),
            is_convicted: own == Some(Outcome::Wrong),
            is_proved: own == Some(Outcome::Proved),
            others: self.count_others(&record, holder),
            k: usize::from(record.stripe.k),
            auditors,
        };
        // What was shown stays so while it cannot be looked into.
        let is_known = self.repair.unproved.contains_key(&place);
        let is_cut_off = is_known && case.others < case.k && !case.is_proved;
        if case.is_shown() && !is_known {
            self.repair.unproved.insert(place, vault);
            self.outputs.push_back(Output::Note(Note::Unproved { node: holder, stripe }));
            self.look_at(now, facts, &record, Why::Changed);
            self.repair.wake();
        } else if is_known && !case.is_shown() && !is_cut_off {
            self.repair.unproved.remove(&place);
            self.outputs.push_back(Output::Note(Note::HeldAgain { node: holder, stripe }));
        }
    }

    /// Asks again those that failed, and forgets what concerns this node no more.
    pub(super) fn look_at_findings(&mut self, now: Now, facts: &dyn Facts) {
        if now.mono < self.findings.again_at {
            return;
        }
        let again = Period(self.config.audit_period.0 / AGAIN).max(AGAIN_MIN);
        self.findings.again_at = now.mono.after(again);
        let after = self.findings.again_after.take();
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let own = self.findings.own.iter().map(|(place, own)| (*place, own.finding.vault));
        let heard = self.findings.heard.iter();
        let heard = heard.filter_map(|(place, by)| Some((*place, *by.values().next()?)));
        let all: BTreeMap<Place, VaultId> = own.chain(heard).collect();
        let page: Vec<(Place, VaultId)> = all
            .range((from, std::ops::Bound::Unbounded))
            .take(AGAIN_PAGE)
            .map(|(place, vault)| (*place, *vault))
            .collect();
        if page.len() == AGAIN_PAGE {
            self.findings.again_after = page.last().map(|(place, _)| *place);
        }
        for (place, vault) in page {
            let (stripe, holder) = place;
            let view = View { facts, overlay: &self.overlay };
            let record = view.record(vault, stripe).ok().flatten();
            let record = record.and_then(|signed| signed.split().ok());
            if record.is_none_or(|(record, _)| !self.is_kept_here(facts, &record)) {
                self.findings.forget(place);
                self.repair.unproved.remove(&place);
                let remove = |table| Write::remove(table, row_of(place));
                let writes = vec![remove(Table::Finding), remove(Table::Evidence)];
                self.persist(writes, None, Then::Nothing);
                continue;
            }
            self.weigh(now, facts, vault, place);
            let is_against = self.findings.outcome(place).is_some_and(Outcome::is_failure);
            if is_against || self.repair.unproved.contains_key(&place) {
                self.asking.want(holder, vault, stripe);
            }
        }
    }

    /// Asks a node what it found.
    pub(super) fn ask_findings(&mut self, node: NodeId, link: LinkId) {
        let after = self.findings.seen.get(&node).copied().unwrap_or(0);
        let call = self.call(Pending::Findings { node, after });
        let request = Box::new(Request::Findings { after });
        self.outputs.push_back(Output::Call { call, link, request });
    }

    /// Another node asks what this one found.
    pub(super) fn handle_findings(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        after: u64,
    ) -> Decision {
        let view = View { facts, overlay: &self.overlay };
        let (mut until, mut found) = (self.findings.last, Vec::new());
        let mut readable: BTreeMap<VaultId, bool> = BTreeMap::new();
        let behind = self.findings.numbers.range(after.saturating_add(1)..);
        for (count, (&number, place)) in behind.enumerate() {
            let Some(own) = self.findings.own.get(place) else { continue };
            let vault = own.finding.vault;
            let reads = readable
                .entry(vault)
                .or_insert_with(|| self.check_reader(&view, role, vault).is_ok());
            let is_durable = !view.is_pending(Table::Finding, &row_of(*place));
            if !is_durable || count >= PAGE {
                until = number - 1;
                break;
            }
            if *reads {
                found.push(own.row.finding.clone());
            }
        }
        self.reply(lane, Response::Findings { until, found });
        Ok(())
    }

    /// Somebody asks what this node has in writing against holders: one audit at a time.
    pub(super) fn handle_evidence(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
        after: Option<Place>,
    ) -> Decision {
        let view = View { facts, overlay: &self.overlay };
        self.check_reader(&view, role, vault)?;
        let after = after.map(row_of);
        let mut next = None;
        for (row, bytes) in facts.scan(Table::Evidence, &[], after.as_deref(), EVIDENCE_MAX)? {
            let transcript: Transcript = decode(Table::Evidence, &bytes)?;
            let place = row.split_at_checked(32).and_then(|(stripe, holder)| {
                Some((StripeId(stripe.try_into().ok()?), NodeId(holder.try_into().ok()?)))
            });
            if let Some((stripe, holder)) =
                place.filter(|_| transcript.question.opening.vault == vault)
            {
                next = Some((stripe, holder, Box::new(transcript)));
                break;
            }
        }
        self.reply(lane, Response::Evidence(next));
        Ok(())
    }

    /// A node tells what it found.
    pub(super) fn handle_findings_answer(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        (node, after): (NodeId, u64),
        response: Option<Response>,
    ) {
        let Some(Response::Findings { until, found }) = response else { return };
        if self.findings.seen.get(&node).copied().unwrap_or(0) != after {
            return;
        }
        if until < after {
            // It was made anew: what it said before is nobody's word any more.
            self.findings.seen.remove(&node);
            self.findings.heard.retain(|_, by| {
                by.remove(&node);
                !by.is_empty()
            });
            return;
        }
        self.findings.seen.insert(node, until);
        let is_cut = found.len() >= PAGE;
        for signed in found.into_iter().take(PAGE) {
            self.hear_finding(now, facts, node, &signed);
        }
        if is_cut
            && until > after
            && let Some(link) = self.link_to(node)
        {
            self.ask_findings(node, link);
        }
    }

    fn hear_finding(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        node: NodeId,
        signed: &Signed<Finding>,
    ) {
        let Ok((finding, _)) = signed.split() else { return };
        let Finding { vault, stripe, holder, shard, outcome, .. } = finding;
        let place = (stripe, holder);
        let view = View { facts, overlay: &self.overlay };
        let record = view.record(vault, stripe).ok().flatten();
        let Some((record, _)) = record.and_then(|signed| signed.split().ok()) else { return };
        let is_meant = finding.auditor == node && holder != node && record.stripe.vault == vault;
        if !is_meant || !self.is_kept_here(facts, &record) || signed.verify().is_err() {
            return;
        }
        if holder == self.node() {
            if outcome.is_failure() && record.stripe.shards.contains(&shard) {
                self.scrub.suspect(shard, now.mono);
            }
            return;
        }
        if outcome.is_failure() {
            let is_full = self.findings.heard.len() >= FINDINGS_MAX;
            if is_full && !self.findings.heard.contains_key(&place) {
                return;
            }
            self.findings.heard.entry(place).or_default().insert(node, vault);
            if !self.findings.outcome(place).is_some_and(Outcome::is_failure) {
                self.asking.want(holder, vault, stripe);
            }
        } else if let Some(by) = self.findings.heard.get_mut(&place) {
            by.remove(&node);
            if by.is_empty() {
                self.findings.heard.remove(&place);
            }
        }
        self.weigh(now, facts, vault, place);
    }

    /// What audits came to.
    pub(super) fn audit_status(&self) -> AuditStatus {
        let mut failing: BTreeMap<NodeId, u64> = BTreeMap::new();
        for (_, holder) in self.repair.unproved.keys() {
            *failing.entry(*holder).or_default() += 1;
        }
        let own = self.findings.own.iter().filter(|(_, own)| own.finding.outcome.is_failure());
        let own: BTreeSet<Place> = own.map(|(place, _)| *place).collect();
        let doubted = own.iter().chain(self.findings.heard.keys());
        let doubted: BTreeSet<&Place> =
            doubted.filter(|place| !self.repair.unproved.contains_key(place)).collect();
        AuditStatus {
            asked: self.asking.asked,
            proved: self.findings.proved,
            failed: self.findings.failed,
            unsure: self.findings.unsure,
            finished: self.asking.finished(),
            failing: failing.into_iter().collect(),
            doubted: doubted.len() as u64,
        }
    }
}
