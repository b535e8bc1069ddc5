//! Asking the other holders of what is held here to prove that they have it: who is asked about what, and what they answer. When and by whom
//! is [`crate::audit`]'s to say, and what comes of it [`super::findings`]'s.
//!
//! - All stripes held here come in turn, each at a time of its own. What is to be asked waits by node, and sixteen shards of one node are
//!   asked about at once: which of them it promises, then the audit. Whoever is not connected is asked when it is again, or in the next round.
//! - A question that is not answered is put again, the same one, also after the holder was away. Only what was put on a connection that
//!   stood counts, and where that has ended since, only if many did in a row.
//! - How far it is is stored now and then; after a restart it goes on from there.

use super::due::Due;
use super::facts::{Facts, Table, View, Write, decode};
use super::ledger::DEVICES_MAX;
use super::membership::Pending;
use super::{LinkId, Output, Peer};
use crate::audit::{
    ANSWER_MAX, AUDIT_SHARDS_MAX, AuditOpening, AuditQuestion, CUTS_MAX, Outcome, Sweep, TRIES,
    TURN_LIFE, Transcript, Verdict, auditors, commitment, pause, position,
};
use crate::id::{DeviceId, NodeId, OperatorId, ShardId, StripeId, VaultId};
use crate::message::{HeldRecord, Request, Response};
use crate::record::{Receipt, Record};
use crate::sign::Signed;
use crate::time::{Mono, Now, Period};
use crate::told::Told;
use std::collections::{BTreeMap, BTreeSet};

/// Records looked at in one go.
const SCAN_PAGE: usize = 16;
/// Questions that wait, 70 bytes each. Where there are more, those for nodes that are not there are left for the next round.
const WAITING_MAX: usize = 1 << 14;
/// Nodes that are asked at once: who does not answer holds up no others.
const TALKS_MAX: usize = 4;
/// How often in a round's length it is looked for what is due,
const LOOKS: u64 = 1024;
/// and how often at most and at least.
const LOOK_MIN: Period = Period(250);
const LOOK_MAX: Period = Period::days(1);
/// Between two goes while there is more to do.
const PAUSE: Period = Period(100);
/// After so long the same question is put again.
const RETRY: Period = Period::seconds(10);
/// How often a node may say that it is busy, for a second at least, before that is no answer.
const BUSY_MAX: u32 = 600;

/// A shard that a node is asked about.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) stripe: StripeId,
    pub(super) shard: ShardId,
    /// What the node shows for it; none while it has not answered.
    receipt: Option<(Signed<Receipt>, u32)>,
}

/// What a node is asked next.
#[derive(Debug)]
enum Stage {
    /// Which shards it promises.
    Records(Vec<StripeId>),
    /// To settle on its nonce.
    Opening(AuditOpening),
    /// To prove them.
    Question(Box<AuditQuestion>),
}

/// What one node is being asked.
#[derive(Debug)]
struct Talk {
    number: u64,
    vault: VaultId,
    promises: Vec<Promise>,
    nonce: [u8; 32],
    stage: Stage,
    /// How often this was put.
    tries: u32,
    busy: u32,
    /// Whether an answer to the last try is awaited,
    is_awaited: bool,
    /// and on which connection.
    link: Option<LinkId>,
    /// Until when; or when it is put again.
    until: Mono,
    /// Then it is no use any more.
    expires: Mono,
}

/// What is remembered of asking.
#[derive(Debug)]
pub(super) struct Asking {
    sweep: Sweep,
    /// As far as everything was asked, but for those that were away.
    safe: Sweep,
    /// What is stored of that.
    stored: Option<Sweep>,
    at: Due,
    /// No audit begins before.
    free_at: Mono,
    waiting: BTreeMap<NodeId, BTreeSet<(VaultId, StripeId)>>,
    talks: BTreeMap<NodeId, Talk>,
    /// How many connections in a row ended under a question.
    cuts: BTreeMap<NodeId, u32>,
    /// Who was asked last.
    last: Option<NodeId>,
    pub(super) asked: u64,
}

impl Asking {
    pub(super) fn load(
        now: Now,
        period: Period,
        facts: &dyn Facts,
    ) -> Result<Self, super::FactsError> {
        let row = facts.get(Table::Audit, &[0])?;
        let stored = row.map(|bytes| decode(Table::Audit, &bytes)).transpose()?;
        let sweep = stored.unwrap_or_else(|| Sweep::new(now.wall, period));
        Ok(Self {
            sweep,
            safe: sweep,
            stored,
            at: Due::at(now.mono),
            free_at: now.mono,
            waiting: BTreeMap::new(),
            talks: BTreeMap::new(),
            cuts: BTreeMap::new(),
            last: None,
            asked: 0,
        })
    }

    pub(super) fn poll_timeout(&self) -> Mono {
        self.at.by()
    }

    /// How far asking came, where that is to be stored.
    pub(super) fn take_progress(&mut self) -> Option<Write> {
        let is_news = self.stored.replace(self.safe) != Some(self.safe);
        is_news.then(|| Write::audit(&self.safe))
    }

    /// Looks again at once.
    fn wake(&mut self) {
        self.at.hurry(Mono(0));
    }

    /// There is a connection to a node: what waits for it is asked.
    pub(super) fn meet(&mut self, node: NodeId) {
        if self.waiting.contains_key(&node) {
            self.wake();
        }
    }

    /// A node is to be asked about its shard of a stripe.
    pub(super) fn want(&mut self, node: NodeId, vault: VaultId, stripe: StripeId) {
        if self.count_waiting() < 2 * WAITING_MAX {
            self.waiting.entry(node).or_default().insert((vault, stripe));
            self.wake();
        }
    }

    /// A node has answered a question. One answer makes up for one connection that ended, or who has some shards could hang up whenever it
    /// is asked about others.
    fn mend(&mut self, node: NodeId) {
        if let Some(cuts) = self.cuts.remove(&node).filter(|cuts| *cuts > 1) {
            self.cuts.insert(node, cuts - 1);
        }
    }

    fn count_waiting(&self) -> usize {
        self.waiting.values().map(BTreeSet::len).sum()
    }

    pub(super) fn finished(&self) -> Option<crate::time::Wall> {
        self.sweep.finished()
    }
}

impl Peer {
    /// Asks whoever is to be asked, when it is time.
    pub(super) fn handle_asking(&mut self, now: Now, facts: &dyn Facts) {
        if !self.asking.at.is_due(now.mono) {
            return;
        }
        self.put_again(now, facts);
        self.look_at_findings(now, facts);
        let is_more = self.sweep_records(now, facts);
        self.begin_audits(now);
        let is_there = |node: &&NodeId| self.link_to(**node).is_some();
        let waiting: Vec<NodeId> = self.asking.waiting.keys().filter(is_there).copied().collect();
        if self.asking.talks.is_empty() && waiting.is_empty() && !is_more {
            self.asking.safe = self.asking.sweep;
        }
        let members = &self.members;
        self.asking.cuts.retain(|node, _| members.contains_key(node));
        let look = Period(self.config.audit_period.0 / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
        let mut due = Due::after(now.mono, if is_more { PAUSE } else { look }, 2);
        let is_ready = waiting.iter().any(|node| !self.asking.talks.contains_key(node));
        if is_ready && self.asking.talks.len() < TALKS_MAX {
            due.hurry(self.asking.free_at.max(now.mono.after(PAUSE)));
        }
        self.asking.talks.values().for_each(|talk| due.hurry(talk.until));
        self.asking.at = due;
    }

    /// Goes through the stripes whose time has come. Whether there are more.
    fn sweep_records(&mut self, now: Now, facts: &dyn Facts) -> bool {
        if self.asking.count_waiting() >= WAITING_MAX {
            let waiting = std::mem::take(&mut self.asking.waiting);
            let there = waiting.into_iter().filter(|(node, _)| self.link_to(*node).is_some());
            self.asking.waiting = there.collect();
            if self.asking.count_waiting() >= WAITING_MAX {
                return false;
            }
        }
        let Some(span) = self.asking.sweep.due(now.wall, self.config.audit_period) else {
            return false;
        };
        let mut until = span.until;
        let mut found: Vec<(u64, Record)> = Vec::new();
        for &vault in self.usage.keys() {
            let after = [&vault.0[..], &span.from.to_be_bytes()].concat();
            // Mostly nothing is due: then no more than one row is read.
            let first = facts.scan(Table::Record, &vault.0, Some(&after), 1);
            let is_later = |(row, _): &(Vec<u8>, Vec<u8>)| {
                let stripe = row.get(32..).and_then(|id| id.try_into().ok()).map(StripeId);
                until.zip(stripe).is_some_and(|(until, stripe)| until <= position(stripe))
            };
            if first.is_ok_and(|rows| rows.first().is_none_or(is_later)) {
                continue;
            }
            // What cannot be read now is read at the next go.
            let Ok(rows) = facts.scan(Table::Record, &vault.0, Some(&after), SCAN_PAGE) else {
                return false;
            };
            let mut last = span.from;
            for (row, bytes) in &rows {
                let stripe = row.get(32..).and_then(|id| id.try_into().ok()).map(StripeId);
                last = stripe.map_or(last, position);
                if until.is_some_and(|until| until <= last) {
                    break;
                }
                // A damaged row is no stripe.
                let record = decode::<Signed<Record>>(Table::Record, bytes).ok();
                let record = record.and_then(|signed| signed.split().ok());
                found.extend(record.map(|(record, _)| (last, record)));
            }
            if rows.len() == SCAN_PAGE {
                // What comes behind a page is not known yet, of any vault.
                let cut = last.max(span.from.saturating_add(1));
                until = Some(until.map_or(cut, |until| until.min(cut)));
            }
        }
        found.retain(|(place, _)| until.is_none_or(|until| *place < until));
        for (_, record) in found {
            self.share_out(facts, span.round, &record);
        }
        self.asking.sweep.advance(until, now.wall);
        until != span.until || span.until.is_none()
    }

    /// Who holds a stripe, as far as is known here, each with its operator; without those that are lost.
    pub(super) fn holders_of(&self, record: &Record) -> BTreeMap<NodeId, OperatorId> {
        let settled = self.repair.settled.get(&record.stripe.id());
        let known = settled.map_or(&record.holders, |(holders, _)| holders);
        let own = std::iter::once((self.node(), self.site.operator));
        let others = known.iter().filter(|node| !self.repair.lost.contains(node));
        let others = others.filter_map(|&node| Some((node, self.site_of(node)?.operator)));
        others.chain(own).collect()
    }

    /// Takes of the questions about a stripe those that are this node's in this round.
    fn share_out(&mut self, facts: &dyn Facts, round: u64, record: &Record) {
        if !self.is_kept_here(facts, record) {
            return;
        }
        let (own, stripe) = (self.node(), record.stripe.id());
        let holders = self.holders_of(record);
        for &holder in holders.keys().filter(|holder| **holder != own) {
            if auditors(stripe, holder, round, &holders).contains(&own) {
                self.asking.want(holder, record.stripe.vault, stripe);
            }
        }
    }

    /// Begins to ask nodes that are there and about which something waits.
    fn begin_audits(&mut self, now: Now) {
        let last = self.asking.last;
        let mut order: Vec<NodeId> = self.asking.waiting.keys().copied().collect();
        let at = order.partition_point(|node| Some(*node) <= last);
        order.rotate_left(at);
        for node in order {
            if self.asking.talks.len() >= TALKS_MAX || now.mono < self.asking.free_at {
                return;
            }
            if self.asking.talks.contains_key(&node) || self.link_to(node).is_none() {
                continue;
            }
            let Some(waiting) = self.asking.waiting.get_mut(&node) else { continue };
            let Some(&(vault, _)) = waiting.first() else { continue };
            let taken = waiting.iter().take_while(|(of, _)| *of == vault).take(AUDIT_SHARDS_MAX);
            let stripes: Vec<StripeId> = taken.map(|(_, stripe)| *stripe).collect();
            for &stripe in &stripes {
                waiting.remove(&(vault, stripe));
            }
            if waiting.is_empty() {
                self.asking.waiting.remove(&node);
            }
            let number = self.next_token;
            self.next_token += 1;
            let parts = [&b"question"[..], &number.to_be_bytes()].concat();
            let talk = Talk {
                number,
                vault,
                promises: Vec::new(),
                nonce: *blake3::keyed_hash(&self.audit_secret, &parts).as_bytes(),
                stage: Stage::Records(stripes),
                tries: 0,
                busy: 0,
                is_awaited: false,
                link: None,
                until: now.mono,
                expires: now.mono.after(TURN_LIFE),
            };
            self.asking.talks.insert(node, talk);
            self.asking.last = Some(node);
            self.put_question(now, node);
        }
    }

    /// Puts what a node is to be asked, if it is there.
    fn put_question(&mut self, now: Now, node: NodeId) {
        let link = self.link_to(node);
        let Some(talk) = self.asking.talks.get_mut(&node) else { return };
        talk.is_awaited = false;
        talk.until = now.mono.after(RETRY);
        let Some(link): Option<LinkId> = link else { return };
        talk.is_awaited = true;
        talk.link = Some(link);
        talk.until = now.mono.after(ANSWER_MAX);
        talk.tries += 1;
        let (number, tries) = (talk.number, talk.tries);
        let request = match &talk.stage {
            Stage::Records(stripes) => {
                Request::Records { vault: talk.vault, stripes: stripes.clone() }
            }
            Stage::Opening(opening) => Request::AuditOpen(opening.clone()),
            Stage::Question(question) => Request::Audit(question.clone()),
        };
        let call = self.call(Pending::Audit { node, number, tries });
        self.outputs.push_back(Output::Call { call, link, request: Box::new(request) });
    }

    /// Puts questions again to which no answer came.
    fn put_again(&mut self, now: Now, facts: &dyn Facts) {
        let talks = self.asking.talks.iter();
        let due: Vec<NodeId> =
            talks.filter(|(_, talk)| talk.until <= now.mono).map(|(&node, _)| node).collect();
        for node in due {
            let Some(talk) = self.asking.talks.get(&node) else { continue };
            if talk.is_awaited {
                self.miss_answer(now, facts, node);
            } else if talk.expires <= now.mono {
                // It was away: nothing is known.
                self.asking.talks.remove(&node);
            } else {
                self.put_question(now, node);
            }
        }
    }

    /// No answer came to a question that was put.
    fn miss_answer(&mut self, now: Now, facts: &dyn Facts, node: NodeId) {
        let Some(talk) = self.asking.talks.get_mut(&node) else { return };
        talk.is_awaited = false;
        talk.until = now.mono.after(RETRY);
        if talk.link.is_some_and(|link| self.links.get(link).is_none()) {
            let cuts = self.asking.cuts.entry(node).or_default();
            if *cuts < CUTS_MAX {
                *cuts += 1;
                talk.tries = talk.tries.saturating_sub(1);
            }
        }
        if talk.tries >= TRIES {
            self.end_in_silence(now, facts, node);
        }
    }

    fn end_in_silence(&mut self, now: Now, facts: &dyn Facts, node: NodeId) {
        let Some(mut talk) = self.asking.talks.remove(&node) else { return };
        if let Stage::Records(stripes) = &talk.stage {
            talk.promises = self.named(facts, node, talk.vault, stripes);
        }
        for Promise { stripe, shard, .. } in talk.promises {
            self.find(now, facts, (talk.vault, stripe, node, shard), Outcome::Silent, None);
        }
    }

    /// The shards that the records give to a node which says nothing.
    fn named(
        &self,
        facts: &dyn Facts,
        node: NodeId,
        vault: VaultId,
        stripes: &[StripeId],
    ) -> Vec<Promise> {
        let view = View { facts, overlay: &self.overlay };
        let named = stripes.iter().filter_map(|&stripe| {
            let (record, _) = view.record(vault, stripe).ok()??.split().ok()?;
            let index = record.index_of(node)?;
            let shard = *record.stripe.shards.get(usize::from(index))?;
            Some(Promise { stripe, shard, receipt: None })
        });
        named.collect()
    }

    /// A node answers, or the call came to nothing.
    pub(super) fn handle_audit_answer(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        (node, number, tries): (NodeId, u64, u32),
        response: Option<Response>,
    ) {
        if self.asking.talks.get(&node).is_none_or(|talk| talk.number != number) {
            return;
        }
        if response.is_some() {
            self.hear(now, node);
        }
        let Some(talk) = self.asking.talks.get_mut(&node) else { return };
        self.asking.at.hurry(Mono(0));
        match (response, &talk.stage) {
            (Some(Response::Busy { retry_after }), _)
                if talk.busy < BUSY_MAX && talk.is_awaited && talk.tries == tries =>
            {
                talk.busy += 1;
                talk.tries -= 1;
                talk.is_awaited = false;
                let wait = Period(retry_after.0.clamp(1000, RETRY.0));
                talk.until = now.mono.after(wait);
            }
            (Some(Response::Records(found)), Stage::Records(stripes)) => {
                let stripes = stripes.clone();
                self.hear_promises(now, facts, node, stripes, found);
            }
            // Who may not tell, or knows nothing of the vault, promises nothing: that is no silence.
            (Some(Response::Refused(refusal)), Stage::Records(stripes)) if refusal.is_denial() => {
                let stripes = stripes.clone();
                let nothing = vec![None; stripes.len()];
                self.hear_promises(now, facts, node, stripes, nothing);
            }
            (Some(Response::AuditTurn(turn)), Stage::Opening(opening)) => {
                let nonce = talk.nonce;
                let question = AuditQuestion { opening: opening.clone(), turn, nonce };
                let own = self.key.public();
                let fits = question
                    .verify()
                    .is_ok_and(|asked| asked.check_for(node, own, asked.drawn).is_ok());
                if fits {
                    self.next_stage(now, node, Stage::Question(Box::new(question)));
                } else if talk.tries == tries {
                    self.miss_answer(now, facts, node);
                }
            }
            (Some(Response::Audited { answer, proofs }), Stage::Question(question)) => {
                let receipts = talk.promises.iter().filter_map(|promise| promise.receipt.clone());
                let transcript = Transcript {
                    question: (**question).clone(),
                    answer,
                    proofs,
                    receipts: receipts.map(|(receipt, _)| receipt).collect(),
                };
                match transcript.judge() {
                    Ok(judged) => {
                        self.asking.mend(node);
                        let verdicts = judged.found.into_iter().map(|found| found.verdict);
                        let verdicts: Vec<Verdict> = verdicts.collect();
                        self.end_with(now, facts, node, &transcript, verdicts);
                    }
                    Err(_) if talk.tries == tries => self.miss_answer(now, facts, node),
                    Err(_) => {}
                }
            }
            // The connection may have ended, which is heard of later than this.
            (None, _) if talk.is_awaited && talk.tries == tries => {
                talk.until = talk.until.min(now.mono.after(RETRY));
            }
            // What is no answer is none.
            _ if talk.is_awaited && talk.tries == tries => self.miss_answer(now, facts, node),
            _ => {}
        }
    }

    fn next_stage(&mut self, now: Now, node: NodeId, stage: Stage) {
        if let Some(talk) = self.asking.talks.get_mut(&node) {
            talk.stage = stage;
            talk.tries = 0;
            self.put_question(now, node);
        }
    }

    /// A node tells what it promises of some stripes: it is asked to prove that.
    fn hear_promises(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        node: NodeId,
        stripes: Vec<StripeId>,
        found: Vec<Option<HeldRecord>>,
    ) {
        let Some(vault) = self.asking.talks.get(&node).map(|talk| talk.vault) else { return };
        let Ok(devices) = facts.scan(Table::Device, &vault.0, None, DEVICES_MAX) else { return };
        let devices = devices.iter().filter_map(|(row, _)| row.get(32..)?.try_into().ok());
        let devices: BTreeSet<DeviceId> = devices.map(DeviceId).collect();
        // A page ends early; one with nothing in it says nothing.
        let count = found.len();
        for &stripe in stripes.get(count.max(1)..).unwrap_or_default() {
            self.asking.want(node, vault, stripe);
        }
        let mut promises = Vec::new();
        for (stripe, held) in stripes.into_iter().zip(found) {
            let told = held.as_ref().and_then(|held| {
                let told = Told::check(held, node, vault, &devices).ok()?;
                let index = told.promised.filter(|_| told.stripe == stripe)?;
                let shard = *told.record.stripe.shards.get(usize::from(index))?;
                let receipt = (held.receipt.clone()?, told.record.stripe.shard_len);
                Some(Promise { stripe, shard, receipt: Some(receipt) })
            });
            if let Some(promise) = told {
                promises.push(promise);
                continue;
            }
            if held.is_none() {
                self.see_taken(now, (stripe, node), false);
            }
            self.miss_promise(now, facts, node, vault, stripe);
        }
        let bytes = promises.iter().filter_map(|promise| promise.receipt.as_ref());
        let bytes: u64 = bytes.map(|(_, len)| u64::from(*len)).sum();
        let Some(talk) = self.asking.talks.get_mut(&node) else { return };
        if promises.is_empty() {
            self.asking.talks.remove(&node);
            return;
        }
        let shards = promises.iter().map(|promise| promise.shard).collect();
        let commitment = commitment(self.key.public(), &talk.nonce);
        talk.promises = promises;
        self.asking.free_at = self.asking.free_at.max(now.mono).after(pause(bytes));
        self.next_stage(now, node, Stage::Opening(AuditOpening { vault, shards, commitment }));
    }

    /// A node shows no promise of a stripe of which it was thought to hold a shard.
    fn miss_promise(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        node: NodeId,
        vault: VaultId,
        stripe: StripeId,
    ) {
        if let [promise] = &self.named(facts, node, vault, &[stripe])[..] {
            let what = (vault, stripe, node, promise.shard);
            self.find(now, facts, what, Outcome::NotPromised, None);
        }
        self.doubt_stripe(now, facts, vault, stripe, node);
    }

    fn end_with(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        node: NodeId,
        transcript: &Transcript,
        verdicts: Vec<Verdict>,
    ) {
        let Some(talk) = self.asking.talks.remove(&node) else { return };
        for (Promise { stripe, shard, .. }, verdict) in talk.promises.into_iter().zip(verdicts) {
            let outcome = match verdict {
                Verdict::Proved => Outcome::Proved,
                Verdict::Missing => Outcome::Missing,
                Verdict::Wrong(_) => Outcome::Wrong,
            };
            let evidence = outcome.is_failure().then_some(transcript);
            self.find(now, facts, (talk.vault, stripe, node, shard), outcome, evidence);
        }
    }
}
