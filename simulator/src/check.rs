//! The checker: what nodes promised, remembered apart from them, and compared with what they do. It sees each message in
//! and out of a node and each write as it becomes durable, and looks at what that one changes.
//!
//! - P1, P4 (conceal): of every stripe that is committed, by counting out all domains, not by the protocol's predicate.
//! - P2: no shard is dropped before its lock is over by true time (extensions and holds counted), before its cooldown is, without the
//!   guardians it needs, or against a veto; and no lock of what an owner keeps backing up lapses.
//! - P3: no entry is removed, replaced or appended out of order; who refuses the other side of a fork keeps it; what was
//!   revoked writes no more.
//! - P7: whoever recovers is given the card that was kept for it (`owner` checks what comes back).
//! - P8: strangers, neighbours and what no roster lists get nothing.
//! - Durability: what is promised is durable when the promise leaves. Conservation: what is counted as used is what is held, and no
//!   more than quota and growth allow. Receipts that a client believes say what was asked.
//!
//! - Partners (`swap`): who swaps holds no more for the other than was agreed, and months are what receipts say. P5: by the word of one operator
//!   nobody is shown to lack what it has.
//!
//! What a seized or vanished node promised counts for nothing.

mod books;
mod leave;
mod repair;
mod swap;

pub(crate) use repair::converges_within;
pub(crate) use swap::Swapping;

use crate::host::Host;
use crate::network::End;
use books::Books;
use protocol::codec::{VALUE_LEN_MAX, decode};
use protocol::id::{DeviceId, EntryId, NodeId, OperatorId, ReleaseId, ShardId, StripeId, VaultId};
use protocol::label::{Domain, Site};
use protocol::life::DropDecision;
use protocol::log::{Entry, check_held, entry_id};
use protocol::message::{HeldRecord, LoggedEntry, Refusal, RefusalCode, Request, Response};
use protocol::peer::{Facts, LaneId, Table, Write};
use protocol::policy::{Clause, Lock, Policy};
use protocol::record::{Receipt, Record};
use protocol::release::{Approval, Veto, release_id};
use protocol::sign::Signed;
use protocol::time::{Mono, Period};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What is broken, and how.
pub(crate) type Broken = (&'static str, String);

/// How far true time and a lock clock may be apart, on top of the errors of honest clocks: latency, and rounding.
const SLACK: Period = Period::seconds(2);

/// What a node was asked, as far as its answer may promise something.
#[derive(Debug)]
enum Asked {
    Put {
        sender: Option<DeviceId>,
        signer: DeviceId,
        shard: Option<ShardId>,
        /// Why it is not to be taken anew, if it is not.
        forbidden: Option<Broken>,
    },
    Append {
        vault: VaultId,
        device: DeviceId,
        seq: u64,
        entry: EntryId,
    },
    Extend {
        stripes: Vec<StripeId>,
    },
    Revoke {
        vault: VaultId,
        device: DeviceId,
    },
    Hold {
        vault: VaultId,
        guardian: OperatorId,
        period: Option<Period>,
    },
    Card {
        sealed: Vec<u8>,
    },
    /// By somebody to whom nothing may be told or done.
    Nothing,
    /// By somebody who may not even be welcomed.
    Greeting,
}

/// Under which terms a shard is held.
#[derive(Debug, Clone)]
struct Terms {
    vault: VaultId,
    lock: Rc<Lock>,
    /// By true time.
    until: Mono,
}

/// Who agreed to a release, as far as anybody was told.
#[derive(Debug, Default)]
struct Backing {
    approvals: BTreeSet<OperatorId>,
}

/// What was promised.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) broken: Option<Broken>,
    asked: BTreeMap<LaneId, (usize, Asked)>,
    terms: BTreeMap<(usize, ShardId), Terms>,
    shard_of: BTreeMap<(usize, StripeId), ShardId>,
    /// Nodes that took a shard which the record gives to another one, and when.
    stand_ins: BTreeMap<StripeId, BTreeMap<usize, (ShardId, Mono)>>,
    locks: Vec<Rc<Lock>>,
    dropped: BTreeSet<(usize, ShardId)>,
    /// Shards that disks damaged or lost, not nodes.
    rotten: BTreeSet<(usize, ShardId)>,
    /// Also those that came anew since: whoever found one missing remembers it.
    ever_rotten: BTreeSet<(usize, ShardId)>,
    /// Stripes that somebody asked to be released.
    given_up: BTreeSet<StripeId>,
    /// Releases that concern one node: what it drops by them somebody else has.
    discharges: BTreeSet<ReleaseId>,
    /// Which nodes were asked so, of which stripes: their shards may count no more.
    discharged: BTreeSet<(usize, StripeId)>,
    requests: BTreeMap<ReleaseId, Backing>,
    heard: BTreeMap<(usize, ReleaseId), Mono>,
    vetoes: BTreeSet<(usize, ReleaseId)>,
    holds: BTreeMap<(usize, VaultId, OperatorId), Mono>,
    revoked: BTreeSet<(usize, VaultId, DeviceId)>,
    forked: BTreeMap<(usize, VaultId, DeviceId), u64>,
    forks: BTreeSet<(usize, VaultId, DeviceId)>,
    /// Which nodes have ever had an entry.
    logged: BTreeMap<EntryId, BTreeSet<usize>>,
    pub(crate) cards: BTreeSet<(usize, Vec<u8>)>,
    books: BTreeMap<usize, Books>,
    /// Where nodes are.
    pub(crate) sites: BTreeMap<usize, Site>,
    /// What vaults ask for.
    pub(crate) policies: BTreeMap<VaultId, Policy>,
    /// Vaults and the nodes that their rosters do not list.
    pub(crate) outside: BTreeMap<VaultId, BTreeSet<usize>>,
    /// Clients that nobody vouches for, with the only vault that they may ask about, if any.
    pub(crate) strangers: BTreeMap<usize, Option<VaultId>>,
    /// Clients that have only a key that was succeeded, and speak to those alone that know that.
    pub(crate) unwelcome: BTreeSet<usize>,
    /// The worst error of an honest clock so far.
    pub(crate) error: Period,
    /// Whether so many clocks lie that all others of a node may.
    pub(crate) is_outvoted: bool,
    /// What operators agreed, where they swap.
    pub(crate) swapping: Option<Swapping>,
}

impl Checker {
    pub(crate) fn report(&mut self, promise: &'static str, text: String) {
        self.broken.get_or_insert((promise, text));
    }

    fn slack(&self) -> Period {
        Period(2 * self.error.0 + SLACK.0)
    }

    /// What a node dropped, whenever.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped.len()
    }

    /// Whether some lock is over by true time.
    pub(crate) fn is_any_over(&self, now: Mono) -> bool {
        self.terms.values().any(|terms| terms.until < now)
    }

    /// Nodes that took a shard of a stripe which its record gives to another one, and when.
    pub(crate) fn standing_in(
        &self,
        stripe: StripeId,
    ) -> impl Iterator<Item = (usize, ShardId, Mono)> + '_ {
        let of = self.stand_ins.get(&stripe).into_iter().flatten();
        of.map(|(&node, &(shard, since))| (node, shard, since))
    }

    /// Whether a node took a shard and has not dropped it.
    fn has_taken(&self, node: usize, shard: ShardId) -> bool {
        self.terms.contains_key(&(node, shard)) && !self.dropped.contains(&(node, shard))
    }

    /// A disk damaged a shard.
    pub(crate) fn rot(&mut self, node: usize, shard: ShardId) {
        self.rotten.insert((node, shard));
        self.ever_rotten.insert((node, shard));
    }

    /// Whether a disk damaged a shard.
    pub(crate) fn is_rotten(&self, node: usize, shard: ShardId) -> bool {
        self.rotten.contains(&(node, shard))
    }

    /// A node starts: what it may grow begins anew.
    pub(crate) fn started(&mut self, node: usize, now: Mono) {
        let books = self.books.entry(node).or_default();
        books.grown.clear();
        books.started = now;
        self.asked.retain(|_, (of, _)| *of != node);
        self.forked.retain(|(of, ..), _| *of != node);
    }

    /// A greeting arrives.
    pub(crate) fn greeted(&mut self, node: usize, lane: LaneId, asker: End) {
        if matches!(asker, End::Client(client) if self.unwelcome.contains(&client)) {
            self.asked.insert(lane, (node, Asked::Greeting));
        }
    }

    /// A request arrives.
    pub(crate) fn asked(
        &mut self,
        now: Mono,
        (node, host): (usize, &Host),
        lane: LaneId,
        (asker, device): (End, Option<DeviceId>),
        request: &Request,
    ) {
        let stranger = match asker {
            End::Client(client) => self.strangers.get(&client),
            End::Node(_) => None,
        };
        if let Some(own) = stranger
            && !own.is_some_and(|own| is_about(request, own))
        {
            self.asked.insert(lane, (node, Asked::Nothing));
            return;
        }
        let asked = match request {
            Request::Put { record, index, .. } => {
                let Ok(record) = record.verify() else { return };
                let shard = record.stripe.shards.get(usize::from(*index)).copied();
                let wall = host.clock.read(now).wall;
                let forbidden = self.forbids((node, host), wall, &record, shard);
                Asked::Put { sender: device, signer: record.device, shard, forbidden }
            }
            Request::Append(signed) => {
                let Ok(entry) = signed.verify() else { return };
                let Entry { vault, device: of, seq, .. } = entry;
                let entry = entry_id(signed);
                Asked::Append { vault, device: of, seq, entry }
            }
            Request::Extend { stripes, .. } => Asked::Extend { stripes: stripes.clone() },
            Request::Release { request, approvals, .. } => {
                let release = release_id(request);
                let stripes = request.verify().map_or_else(|_| Vec::new(), |of| of.stripes);
                self.given_up.extend(stripes);
                self.hear_release(now, node, release, approvals);
                return;
            }
            Request::Discharge { discharge, approvals, .. } => {
                let release = release_id(discharge);
                self.discharges.insert(release);
                let said = discharge.verify();
                let stripes = said.map_or_else(|_| Vec::new(), |said| said.request.stripes);
                self.discharged.extend(stripes.into_iter().map(|stripe| (node, stripe)));
                self.hear_release(now, node, release, approvals);
                return;
            }
            Request::Revoke(order) => {
                let Ok(order) = order.verify() else { return };
                Asked::Revoke { vault: order.vault, device: order.device }
            }
            Request::Hold(order) => {
                let Ok(order) = order.verify() else { return };
                let period = order.period.map(|period| period.min(protocol::hold::HOLD_MAX));
                Asked::Hold { vault: order.vault, guardian: order.guardian, period }
            }
            Request::Card(card) => {
                let Ok(card) = card.verify() else { return };
                Asked::Card { sealed: card.sealed.0 }
            }
            _ => return,
        };
        self.asked.insert(lane, (node, asked));
    }

    /// An answer leaves an honest node.
    pub(crate) fn answered(
        &mut self,
        now: Mono,
        (node, host): (usize, &Host),
        lane: LaneId,
        response: &Response,
    ) {
        let Some((_, asked)) = self.asked.remove(&lane) else { return };
        let facts = host.disk.facts();
        match (asked, response) {
            (
                Asked::Nothing,
                Response::Refused(_)
                | Response::Busy { .. }
                | Response::Vault(None)
                | Response::Welcome { .. }
                | Response::Status(_)
                | Response::Members(_)
                | Response::Stops(_),
            ) => {}
            (Asked::Greeting, Response::Refused(_) | Response::Busy { .. }) => {}
            (Asked::Greeting, response) => {
                let response = brief(response);
                let text =
                    format!("node {node} tells who has a key that was succeeded: {response}");
                self.report("P8", text);
            }
            (Asked::Nothing, Response::Records(records)) if records.iter().all(Option::is_none) => {
            }
            (Asked::Nothing, response) => {
                let text = format!("node {node} tells a stranger: {}", brief(response));
                self.report("P8", text);
            }
            (Asked::Put { sender, signer, shard, forbidden }, Response::Receipt(signed)) => {
                if let Some((promise, why)) = forbidden {
                    self.report(promise, format!("node {node} takes a shard {why}"));
                }
                let Ok(receipt) = signed.verify() else {
                    self.report("receipt", format!("node {node} gives a receipt that is none"));
                    return;
                };
                if Some(receipt.shard) != shard || receipt.holder != host.site.node {
                    let text = format!("node {node} gives a receipt for something else");
                    self.report("receipt", text);
                }
                self.check_kept(node, host, &receipt);
                if self.outside.get(&receipt.vault).is_some_and(|nodes| nodes.contains(&node)) {
                    let text =
                        format!("node {node} holds a shard, and the roster does not list it");
                    self.report("P8", text);
                }
                // What nodes bring is repaired like anything else, whoever wrote it once.
                if let Some(sender) = sender {
                    self.check_may_write(node, receipt.vault, sender);
                    self.check_may_write(node, receipt.vault, signer);
                }
            }
            (Asked::Append { vault, device, seq, entry }, Response::Appended(ack)) => {
                let key = [&vault.0[..], &device.0, &seq.to_be_bytes()].concat();
                let row = facts.get(Table::Entry, &key).ok().flatten();
                let logged: Option<LoggedEntry> =
                    row.and_then(|row| decode(&row, VALUE_LEN_MAX).ok());
                if logged.is_none_or(|logged| entry_id(&logged.entry) != entry) {
                    let text =
                        format!("node {node} countersigned entry {seq} and has not stored it");
                    self.report("durability", text);
                }
                let fits = ack.verify().is_ok_and(|ack| {
                    ack.entry == entry && ack.holder == host.site.node && ack.seq == seq
                });
                if !fits {
                    let text = format!("node {node} countersigned something else than entry {seq}");
                    self.report("P3", text);
                }
            }
            (
                Asked::Append { vault, device, .. },
                Response::Refused(Refusal { code: RefusalCode::Fork, .. }),
            ) => {
                self.forked.insert((node, vault, device), host.start);
            }
            (Asked::Extend { stripes }, Response::Extended(locked)) => {
                for (stripe, locked) in stripes.iter().zip(locked) {
                    let Some(locked) = locked else { continue };
                    self.extended(now, node, *stripe, *locked);
                }
            }
            (Asked::Revoke { vault, device }, Response::Done) => {
                self.revoked.insert((node, vault, device));
            }
            (Asked::Hold { vault, guardian, period }, Response::Done) => {
                let until = period.map_or(Mono(0), |period| now.after(period));
                let known = self.holds.entry((node, vault, guardian)).or_default();
                *known = if period.is_some() { until.max(*known) } else { until };
            }
            (Asked::Card { sealed }, Response::Done) => {
                self.cards.insert((node, sealed));
            }
            _ => {}
        }
    }

    fn hear_release(
        &mut self,
        now: Mono,
        node: usize,
        release: ReleaseId,
        approvals: &[Signed<Approval>],
    ) {
        let known = self.requests.entry(release).or_default();
        let approved = approvals.iter().filter_map(|signed| signed.verify().ok());
        known
            .approvals
            .extend(approved.filter(|a| a.release == release).map(|approval| approval.guardian));
        self.heard.entry((node, release)).or_insert(now);
    }

    fn check_kept(&mut self, node: usize, host: &Host, receipt: &Receipt) {
        let shard = receipt.shard;
        let row = host.disk.facts().get(Table::Held, shard.as_bytes());
        let is_held = matches!(row, Ok(Some(_))) && host.disk.has(shard);
        if !is_held && !self.rotten.contains(&(node, shard)) {
            let text =
                format!("node {node} gives a receipt for shard {shard}, which is not stored");
            self.report("durability", text);
        }
        let bytes = host.disk.shard(shard);
        if bytes.is_some_and(|bytes| *blake3::hash(bytes).as_bytes() != shard.0)
            && !self.rotten.contains(&(node, shard))
        {
            let text = format!("node {node} took other bytes for shard {shard}");
            self.report("P6", text);
        }
    }

    fn check_may_write(&mut self, node: usize, vault: VaultId, device: DeviceId) {
        if self.revoked.contains(&(node, vault, device)) {
            self.report("P3", format!("node {node} takes what a revoked device writes"));
        }
    }

    fn extended(&mut self, now: Mono, node: usize, stripe: StripeId, locked: Period) {
        let Some(&shard) = self.shard_of.get(&(node, stripe)) else { return };
        if let Some(terms) = self.terms.get_mut(&(node, shard)) {
            terms.until = terms.until.max(now.after(locked));
        }
    }

    /// Until when a shard was promised to be locked, by true time.
    pub(crate) fn locked_until(&self, node: usize, shard: ShardId) -> Option<Mono> {
        self.terms.get(&(node, shard)).map(|terms| terms.until)
    }

    /// Whether what was promised for a shard lasts until then at least; what was never put there is nobody's promise.
    pub(crate) fn is_locked(&self, node: usize, shard: ShardId, until: Mono) -> bool {
        self.terms.get(&(node, shard)).is_none_or(|terms| terms.until.after(self.slack()) >= until)
    }

    /// A shard that came on a lane is to be kept, with what its file says of it.
    pub(crate) fn received(
        &mut self,
        now: Mono,
        node: usize,
        (lane, shard): (LaneId, ShardId),
        note: &[u8],
    ) {
        let note: Result<HeldRecord, _> = decode(note, VALUE_LEN_MAX);
        let Some(record) = note.ok().and_then(|note| note.record.verify().ok()) else {
            self.report("durability", format!("node {node} stores a shard without a record"));
            return;
        };
        let lock = self.lock(&record.policy.lock);
        let until = now.after(lock.period);
        let (stripe, vault) = (record.stripe.id(), record.stripe.vault);
        let was_dropped = self.dropped.remove(&(node, shard));
        self.rotten.remove(&(node, shard));
        self.shard_of.insert((node, stripe), shard);
        let is_named = |holder: &NodeId| self.sites.get(&node).is_some_and(|s| s.node == *holder);
        let place = record.stripe.shards.iter().position(|named| *named == shard);
        if !place.and_then(|place| record.holders.get(place)).is_some_and(is_named) {
            self.stand_ins.entry(stripe).or_default().insert(node, (shard, now));
        }
        let by_device =
            matches!(self.asked.get(&lane), Some((_, Asked::Put { sender: Some(_), .. })));
        let terms = Terms { vault, lock, until };
        // Healed: what was promised stands, and only a device of the vault makes more of it.
        let known = self.terms.entry((node, shard)).or_insert_with(|| terms.clone());
        if by_device || was_dropped {
            known.until = known.until.max(until);
        }
    }

    fn lock(&mut self, lock: &Lock) -> Rc<Lock> {
        if let Some(known) = self.locks.iter().find(|known| ***known == *lock) {
            return known.clone();
        }
        self.locks.push(Rc::new(lock.clone()));
        self.locks[self.locks.len() - 1].clone()
    }

    /// A node drops a shard.
    pub(crate) fn drop(&mut self, now: Mono, node: usize, shard: ShardId, decision: &DropDecision) {
        let release = decision.release();
        let slack = self.slack();
        if let Some(terms) = self.terms.get(&(node, shard)).cloned() {
            let lock = &terms.lock;
            let mut until = terms.until;
            // Where all others lie, a lock clock has counted at most twice the time since the node's first start: the lock, and
            // after it the cooldown, end no earlier.
            if self.is_outvoted {
                until = Mono(until.after(lock.release_cooldown).0 / 2);
            }
            let mut say = |promise, text: String| {
                self.broken.get_or_insert((promise, text));
            };
            if now.after(slack) < until {
                let early = Period(until.0 - now.0);
                say("P2", format!("node {node} drops shard {shard} {early} before its lock ends"));
            }
            let heard = self.heard.get(&(node, release)).copied();
            let cooldown = if self.is_outvoted { Period(0) } else { lock.release_cooldown };
            let cooled = heard.map(|heard| heard.after(cooldown));
            if cooled.is_none_or(|cooled| now.after(slack) < cooled) {
                say("P2", format!("node {node} drops shard {shard} before its cooldown is over"));
            }
            if let Some(guardians) = &lock.guardians {
                let approvals = self.requests.get(&release);
                let named: BTreeSet<OperatorId> = guardians.of.iter().copied().collect();
                let have = approvals.map_or(0, |r| r.approvals.intersection(&named).count());
                if have < guardians.need as usize {
                    let need = guardians.need;
                    let text = format!(
                        "node {node} drops shard {shard}: {have} guardians agree, {need} are needed"
                    );
                    say("P2", text);
                }
                if self.vetoes.contains(&(node, release)) {
                    say("P2", format!("node {node} drops shard {shard} against a veto"));
                }
                let held = |guardian: &OperatorId| {
                    let until = self.holds.get(&(node, terms.vault, *guardian)).copied();
                    until.is_some_and(|until| now.after(slack) < until)
                };
                if !self.is_outvoted && named.iter().any(held) {
                    say("P2", format!("node {node} drops shard {shard} during a hold"));
                }
            }
        }
        self.dropped.insert((node, shard));
        let is_copied = || {
            let mut others = self.terms.keys().filter(|(_, of)| *of == shard);
            others.any(|&place| !self.dropped.contains(&place))
        };
        if self.discharges.contains(&release) && !is_copied() {
            let text = format!(
                "node {node} drops shard {shard}, which nobody else has: it was discharged, not released"
            );
            self.report("P6", text);
        }
    }

    /// Rows are about to be durable.
    pub(crate) fn written(&mut self, now: Mono, (node, host): (usize, &Host), writes: &[Write]) {
        for write in writes {
            match write.table {
                Table::Entry => self.check_entry(node, host, writes, write),
                Table::Fork => {
                    if let (Some(vault), Some(device)) = (id(&write.key, 0), id(&write.key, 32)) {
                        self.forks.insert((node, VaultId(vault), DeviceId(device)));
                    }
                    if write.value.is_none() {
                        self.report("P3", format!("node {node} removes the evidence of a fork"));
                    }
                }
                Table::Veto => {
                    let veto =
                        write.value.as_ref().and_then(|bytes| decode(bytes, VALUE_LEN_MAX).ok());
                    let veto = veto.and_then(|signed: Signed<Veto>| signed.verify().ok());
                    if let Some(veto) = veto {
                        self.vetoes.insert((node, veto.release));
                    }
                }
                Table::Held => self.count_held(now, node, host, write),
                Table::Partners | Table::Notice => self.agreed(now, node, write),
                Table::Tally | Table::Usage => self.count_sum(node, host, write),
                _ => {}
            }
        }
    }

    fn check_entry(&mut self, node: usize, host: &Host, together: &[Write], write: &Write) {
        let facts = host.disk.facts();
        let known = facts.get(Table::Entry, &write.key).ok().flatten();
        let new: Option<LoggedEntry> =
            write.value.as_ref().and_then(|bytes| decode(bytes, VALUE_LEN_MAX).ok());
        let Some(new) = new else {
            self.report("P3", format!("node {node} removes an entry of a log"));
            return;
        };
        let known: Option<LoggedEntry> = known.and_then(|bytes| decode(&bytes, VALUE_LEN_MAX).ok());
        if known.is_some_and(|known| known.entry != new.entry) {
            self.report("P3", format!("node {node} replaces an entry of a log"));
        }
        let Ok(entry) = new.entry.verify() else {
            self.report("P3", format!("node {node} stores an entry that nobody signed"));
            return;
        };
        let before = entry.seq.checked_sub(1).map(|seq| {
            let key = [&entry.vault.0[..], &entry.device.0, &seq.to_be_bytes()].concat();
            // What is written in one go continues each other.
            let beside = together.iter().rfind(|w| w.table == Table::Entry && w.key == key);
            let row = match beside {
                Some(beside) => beside.value.clone(),
                None => facts.get(Table::Entry, &key).ok().flatten(),
            };
            let row: Option<LoggedEntry> = row.and_then(|row| decode(&row, VALUE_LEN_MAX).ok());
            row.map(|row| entry_id(&row.entry))
        });
        let continues = match before {
            None => entry.previous.is_none(),
            Some(before) => before.is_some() && entry.previous == before,
        };
        if !continues {
            let text = format!("node {node} stores entry {}, which continues nothing", entry.seq);
            self.report("P3", text);
        }
        self.check_author(node, (entry.vault, entry.device), entry_id(&new.entry));
    }

    /// A node has entries of logs, honest or not: it may show them to others.
    pub(crate) fn logged(&mut self, node: usize, writes: &[Write]) {
        for write in writes.iter().filter(|write| write.table == Table::Entry) {
            let logged = write.value.as_ref().and_then(|bytes| decode(bytes, VALUE_LEN_MAX).ok());
            let logged: Option<LoggedEntry> = logged;
            if let Some(logged) = logged {
                self.logged.entry(entry_id(&logged.entry)).or_default().insert(node);
            }
        }
    }

    /// Who was revoked brings nothing any more. Nodes bring what it wrote before, which nobody can tell from what it writes now:
    /// then there must be others that have it, as many as the policy says.
    fn check_author(&mut self, node: usize, (vault, device): (VaultId, DeviceId), id: EntryId) {
        if !self.revoked.contains(&(node, vault, device)) {
            return;
        }
        let is_brought = self.asked.values().any(|(of, asked)| {
            *of == node && matches!(asked, Asked::Append { entry, .. } if *entry == id)
        });
        let others = self.logged.get(&id);
        let sites = others.into_iter().flatten().filter_map(|other| self.sites.get(other));
        let sites: Vec<&Site> = sites.collect();
        let is_held = self.policies.get(&vault).is_some_and(|p| check_held(p, &sites).is_ok());
        if is_brought || !is_held {
            self.report("P3", format!("node {node} takes what a revoked device writes"));
        }
    }

    /// The run is over.
    pub(crate) fn end(&mut self, hosts: &[Host]) {
        let lost = self.forked.iter().find(|((node, vault, device), start)| {
            let host = &hosts[*node];
            host.is_honest()
                && host.peer.is_some()
                && host.start == **start
                && host.fails_per_mille == 0
                && host.disk.is_idle()
                && !self.forks.contains(&(*node, *vault, *device))
        });
        if let Some(((node, ..), _)) = lost {
            let text = format!("node {node} refused the other side of a fork and did not keep it");
            self.report("P3", text);
        }
    }

    /// A client believes a receipt.
    pub(crate) fn believed(
        &mut self,
        node: usize,
        holder: NodeId,
        receipt: &Receipt,
        asked: &Record,
    ) {
        let place = usize::from(receipt.index);
        let fits = receipt.holder == holder
            && asked.holders.get(place) == Some(&holder)
            && asked.stripe.shards.get(place) == Some(&receipt.shard)
            && receipt.stripe == asked.stripe.id()
            && receipt.len == asked.stripe.shard_len
            && receipt.keep >= asked.policy.lock.period;
        if !fits {
            let text = format!("a client believes a receipt of node {node} that promises less");
            self.report("receipt", text);
        }
    }

    /// A stripe is committed at these sites.
    pub(crate) fn committed(&mut self, policy: &Policy, k: usize, sites: &[&Site]) {
        for clause in &policy.survive.any {
            let worst = worst(clause, sites);
            if sites.len() - worst < k {
                let left = sites.len() - worst;
                let text = format!("clause {clause}: {left} shards may be left, {k} are needed");
                self.report("P1", text);
            }
        }
        for clause in &policy.conceal.any {
            let worst = worst(clause, sites);
            if worst >= k {
                self.report("P4", format!("conceal clause {clause}: {worst} shards lie together"));
            }
        }
    }
}

fn is_about(request: &Request, own: VaultId) -> bool {
    match request {
        Request::Vault(vault)
        | Request::Log { vault, .. }
        | Request::Records { vault, .. }
        | Request::Inventory { vault, .. }
        | Request::Extend { vault, .. }
        | Request::Releases(vault)
        | Request::Stops { vault, .. } => *vault == own,
        Request::Introduce(papers) => {
            papers.certificate.verify().is_ok_and(|certificate| certificate.vault == own)
        }
        Request::Append(entry) => entry.verify().is_ok_and(|entry| entry.vault == own),
        Request::Put { record, .. } => {
            record.verify().is_ok_and(|record| record.stripe.vault == own)
        }
        Request::Members(_) | Request::Status => true,
        _ => false,
    }
}

fn brief(response: &Response) -> String {
    format!("{response:?}").chars().take(60).collect()
}

fn id(key: &[u8], at: usize) -> Option<[u8; 32]> {
    key.get(at..at + 32)?.try_into().ok()
}

/// Most shards that fall with a clause's domains: every choice is looked at.
fn worst(clause: &Clause, sites: &[&Site]) -> usize {
    let levels: Vec<_> = clause.0.iter().collect();
    fell(&levels, sites)
}

fn fell(levels: &[(&protocol::label::Level, &u32)], left: &[&Site]) -> usize {
    let Some(((level, count), rest)) = levels.split_first() else { return 0 };
    let domains: BTreeSet<Domain> = left.iter().map(|site| site.domain(level)).collect();
    let domains: Vec<Domain> = domains.into_iter().collect();
    choose(&domains, **count as usize, &mut Vec::new(), &mut |lost| {
        let (gone, left): (Vec<&Site>, Vec<&Site>) =
            left.iter().partition(|site| lost.contains(&site.domain(level)));
        gone.len() + fell(rest, &left)
    })
}

fn choose(
    domains: &[Domain],
    count: usize,
    chosen: &mut Vec<Domain>,
    look: &mut dyn FnMut(&[Domain]) -> usize,
) -> usize {
    if count == 0 || domains.is_empty() {
        return look(chosen);
    }
    let mut worst = 0;
    for (i, domain) in domains.iter().enumerate() {
        chosen.push(domain.clone());
        worst = worst.max(choose(&domains[i + 1..], count - 1, chosen, look));
        chosen.pop();
    }
    worst
}
