//! Nodes that a vault's rosters list bring each other up to date: papers, devices, revocations, cards, logs and forks. Who asks
//! whom for what is here; what is shown is [`super::showing`]'s, and what is taken [`super::taking`]'s.
//!
//! - A node pulls. At each meeting it asks what the other one has of the vaults whose rosters list it, in two hashes for each
//!   vault; where they differ it asks for papers, for those that named guardians before, for the ends of logs, then for entries, one
//!   call after the other, and goes on when what it took is durable. Who has the same as the other sends nothing but hashes.
//! - Nobody is believed: what is taken was signed by the vault and its devices, and is judged as if a device had brought it.
//! - A talk ends after [`CALLS_MAX`] calls, or [`USELESS_MAX`] that brought nothing; who wastes calls is left alone for a while, longer
//!   each time. What brought nothing is not asked for again before one of the two has something else.
//! - With 500 nodes each asks three in half a minute, as for members, and news is everywhere within minutes.

use super::facts::{Facts, Table, View, Write, decode, key};
use super::ledger::{DEVICES_MAX, FORKS_MAX, VAULTS_MAX};
use super::membership::Pending;
use super::showing::log_ends;
use super::taking::{Shown, Taken};
use super::{LinkId, Output, Peer};
use crate::id::{DeviceId, NodeId, VaultId};
use crate::log::entry_id;
use crate::message::{LogEnd, LoggedEntry, Refusal, RefusalCode, Request, Response, VaultDigest};
use crate::time::{Mono, Now, Period};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Talks at once: as many as are asked in one round.
const TALKS_MAX: usize = 3;
/// Calls of one talk: 64 pages of entries, some 200,000 of them.
const CALLS_MAX: usize = 64;
/// Calls of one talk that bring nothing new. One that is honest and behind costs a few, and then no more while nothing changes.
const USELESS_MAX: usize = 8;
/// For how long who wasted calls is left alone the first time, doubled each time,
const REST_MIN: Period = Period::seconds(60);
/// and at most.
const REST_MAX: Period = Period::seconds(3600);
/// For so long a talk may last: whoever answers a byte at a time holds up no others.
const TALK_MAX: Period = Period::seconds(600);
/// What is remembered of vaults about which another node has nothing new, 160 bytes each.
const SETTLED_MAX: usize = 16 << 10;

/// What is asked next in a talk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Vaults,
    Holdings(VaultId),
    Namings(VaultId),
    Logs(VaultId),
    Entries {
        vault: VaultId,
        device: DeviceId,
        from: u64,
        until: u64,
    },
    Forks {
        vault: VaultId,
        device: DeviceId,
    },
    /// Nothing: all of this vault was asked for, and this is what the other one has.
    Settled(VaultDigest),
}

impl Step {
    fn request(&self) -> Option<Request> {
        Some(match *self {
            Self::Vaults => Request::Vaults,
            Self::Holdings(vault) => Request::Holdings(vault),
            Self::Namings(vault) => Request::Namings(vault),
            Self::Logs(vault) => Request::Logs(vault),
            Self::Entries { vault, device, from, .. } => Request::Entries { vault, device, from },
            Self::Forks { vault, device } => Request::Forks { vault, device },
            Self::Settled(_) => return None,
        })
    }
}

/// What one node is asked, one thing after the other.
#[derive(Debug)]
struct Talk {
    /// What belongs to an earlier talk concerns nobody any more.
    number: u64,
    began: Mono,
    link: LinkId,
    steps: VecDeque<Step>,
    calls: usize,
    useless: usize,
    /// Whether something was put off that has to be asked for again, whatever the digests say.
    is_put_off: bool,
}

/// Who is left alone.
#[derive(Debug)]
struct Rest {
    until: Mono,
    next: Period,
}

/// What is remembered of talks.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    talks: BTreeMap<NodeId, Talk>,
    rests: BTreeMap<NodeId, Rest>,
    /// Digests of what is durable here.
    pub(super) digests: BTreeMap<VaultId, VaultDigest>,
    /// Vaults whose rows the writes of a token change.
    touched: BTreeMap<u64, BTreeSet<VaultId>>,
    /// What both had when nothing new was left to be asked for.
    settled: BTreeMap<(NodeId, VaultId), (Option<VaultDigest>, VaultDigest)>,
    /// What nodes show of logs whose devices may not write any more.
    pub(super) shown: Shown,
}

/// The vault whose digest a row counts for.
fn vault_of(write: &Write) -> Option<VaultId> {
    let id = match write.table {
        Table::Vault
        | Table::Descriptor
        | Table::Roster
        | Table::Device
        | Table::Revoked
        | Table::Head
        | Table::Fork => write.key.get(..32)?,
        Table::Recovery if write.key.first() == Some(&0) => write.key.get(1..)?,
        _ => return None,
    };
    Some(VaultId(id.try_into().ok()?))
}

impl Exchange {
    /// Writes were decided.
    pub(super) fn touch(&mut self, token: u64, writes: &[Write]) {
        let vaults: BTreeSet<VaultId> = writes.iter().filter_map(vault_of).collect();
        if !vaults.is_empty() {
            self.touched.insert(token, vaults);
        }
    }

    /// They are durable, or have failed.
    pub(super) fn settle(&mut self, token: u64) {
        for vault in self.touched.remove(&token).into_iter().flatten() {
            self.digests.remove(&vault);
        }
    }
}

impl Peer {
    /// Begins to ask a member what it has, unless that is going on or it is left alone.
    pub(super) fn begin_talk(&mut self, now: Now, node: NodeId, link: LinkId) {
        let talks = self.exchange.talks.iter();
        let long = talks.filter(|(_, talk)| talk.began.after(TALK_MAX) <= now.mono);
        for slow in long.map(|(&node, _)| node).collect::<Vec<_>>() {
            self.exchange.talks.remove(&slow);
            self.leave_alone(now, slow);
        }
        let exchange = &mut self.exchange;
        let rests = exchange.rests.get(&node).is_some_and(|rest| now.mono < rest.until);
        if rests || exchange.talks.contains_key(&node) || exchange.talks.len() >= TALKS_MAX {
            return;
        }
        let steps = VecDeque::from([Step::Vaults]);
        let (number, began) = (self.next_token, now.mono);
        let talk = Talk { number, began, link, steps, calls: 0, useless: 0, is_put_off: false };
        exchange.talks.insert(node, talk);
        self.go_on(now, node);
    }

    /// Asks the next thing in a talk, or ends it.
    fn go_on(&mut self, now: Now, node: NodeId) {
        loop {
            let Some(talk) = self.exchange.talks.get_mut(&node) else { return };
            let step = talk.steps.pop_front();
            let is_over = talk.calls >= CALLS_MAX || talk.useless >= USELESS_MAX;
            match step {
                Some(Step::Settled(theirs)) if !is_over => {
                    let is_final = !std::mem::take(&mut talk.is_put_off);
                    if is_final {
                        let own = self.exchange.digests.get(&theirs.vault).copied();
                        if self.exchange.settled.len() >= SETTLED_MAX {
                            self.exchange.settled.clear();
                        }
                        self.exchange.settled.insert((node, theirs.vault), (own, theirs));
                    }
                }
                Some(step) if !is_over => {
                    let Some(request) = step.request() else { continue };
                    talk.calls += 1;
                    let (link, number) = (talk.link, talk.number);
                    let call = self.call(Pending::Exchange { node, number, step });
                    let request = Box::new(request);
                    self.outputs.push_back(Output::Call { call, link, request });
                    return;
                }
                _ => {
                    let wasted = talk.useless >= USELESS_MAX;
                    self.exchange.talks.remove(&node);
                    if wasted {
                        self.leave_alone(now, node);
                    }
                    return;
                }
            }
        }
    }

    fn leave_alone(&mut self, now: Now, node: NodeId) {
        let known = self.exchange.rests.get(&node).map_or(REST_MIN, |rest| rest.next);
        let next = Period((known.0 * 2).min(REST_MAX.0));
        self.exchange.rests.insert(node, Rest { until: now.mono.after(known), next });
        self.exchange.rests.retain(|node, _| self.members.contains_key(node));
    }

    /// What was taken in a talk is durable, or nothing will come of it.
    pub(super) fn handle_taken(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        (node, number): (NodeId, u64),
        step: Step,
    ) {
        if self.is_on(node, number) {
            self.follow(facts, node, step);
            self.go_on(now, node);
        }
    }

    fn is_on(&self, node: NodeId, number: u64) -> bool {
        self.exchange.talks.get(&node).is_some_and(|talk| talk.number == number)
    }

    /// What was taken could not be stored: another time.
    pub(super) fn end_talk(&mut self, node: NodeId) {
        self.exchange.talks.remove(&node);
    }

    /// After entries were taken, what is still missing of that log comes next.
    fn follow(&mut self, facts: &dyn Facts, node: NodeId, step: Step) {
        let Step::Entries { vault, device, until, .. } = step else { return };
        let view = View { facts, overlay: &self.overlay };
        let Ok(head) = view.head(vault, device) else { return };
        let from = head.map_or(0, |head| head.seq.saturating_add(1));
        if from <= until
            && let Some(talk) = self.exchange.talks.get_mut(&node)
        {
            talk.steps.push_front(Step::Entries { vault, device, from, until });
        }
    }

    /// A member answered in a talk.
    pub(super) fn handle_exchange_answer(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        (node, number): (NodeId, u64),
        step: Step,
        response: Option<Response>,
    ) {
        if !self.is_on(node, number) {
            return;
        }
        let taken = match (&step, response) {
            (Step::Vaults, Some(Response::Vaults(theirs))) => {
                self.compare(facts, node, theirs);
                Ok(Taken::Asked)
            }
            (Step::Holdings(vault), Some(Response::Holdings(Some(theirs)))) => {
                self.take_holdings(now, facts, *vault, &theirs)
            }
            (Step::Namings(vault), Some(Response::Namings(theirs))) => {
                self.take_namings(now, facts, *vault, &theirs)
            }
            (Step::Logs(vault), Some(Response::Logs(theirs))) => {
                self.compare_logs(facts, node, *vault, theirs)
            }
            (Step::Entries { vault, device, .. }, Some(Response::Entries(entries))) => {
                self.take_entries(now, facts, node, (*vault, *device), &entries)
            }
            (Step::Forks { vault, device }, Some(Response::Entries(entries))) => {
                self.take_forks(now, facts, (*vault, *device), &entries)
            }
            _ => {
                self.end_talk(node);
                return;
            }
        };
        let Some(talk) = self.exchange.talks.get_mut(&node) else { return };
        match taken {
            Ok(Taken::News(writes)) => {
                self.exchange.rests.remove(&node);
                self.persist(writes, None, super::Then::Taken { node, number, step });
                return;
            }
            Ok(Taken::Asked) => {}
            Ok(Taken::Nothing) => talk.useless += 1,
            // What cannot be taken now is asked for again, and what counts for nothing is not.
            Ok(Taken::Later) => talk.is_put_off = true,
            Err(refusal) => {
                talk.useless += 1;
                talk.is_put_off |= refusal.code == RefusalCode::Internal;
            }
        }
        self.go_on(now, node);
    }

    /// Finds what to ask for.
    fn compare(&mut self, facts: &dyn Facts, node: NodeId, theirs: Vec<VaultDigest>) {
        let mut steps = Vec::new();
        for theirs in theirs.into_iter().take(VAULTS_MAX) {
            let vault = theirs.vault;
            let own = self.digest(facts, vault).unwrap_or_default();
            let known = self.exchange.settled.get(&(node, vault));
            if own == Some(theirs) || known == Some(&(own, theirs)) {
                continue;
            }
            if own.is_none_or(|own| own.papers != theirs.papers) {
                steps.extend([Step::Holdings(vault), Step::Namings(vault)]);
            }
            if own.is_none_or(|own| own.logs != theirs.logs) {
                steps.push(Step::Logs(vault));
            }
            steps.push(Step::Settled(theirs));
            if steps.len() > CALLS_MAX {
                break;
            }
        }
        if let Some(talk) = self.exchange.talks.get_mut(&node) {
            talk.steps.extend(steps);
        }
    }

    /// Finds which entries and forks to ask for.
    fn compare_logs(
        &mut self,
        facts: &dyn Facts,
        node: NodeId,
        vault: VaultId,
        theirs: Vec<LogEnd>,
    ) -> Result<Taken, Refusal> {
        let own: BTreeMap<DeviceId, LogEnd> =
            log_ends(facts, vault)?.into_iter().map(|end| (end.device, end)).collect();
        let mut steps = Vec::new();
        for LogEnd { device, head: their_head, forks: their_forks } in
            theirs.into_iter().take(DEVICES_MAX)
        {
            let own = own.get(&device);
            let own_head = own.and_then(|own| own.head);
            let next = own_head.map_or(0, |head| head.seq.saturating_add(1));
            match their_head {
                Some(their_head) if their_head.seq >= next => {
                    let until = their_head.seq;
                    steps.push(Step::Entries { vault, device, from: next, until });
                }
                Some(their_head) => {
                    // It has less: unless what it has is another log.
                    let row = key(&[&vault.0, &device.0, &their_head.seq.to_be_bytes()]);
                    let known = facts.get(Table::Entry, &row)?;
                    let known: Option<LoggedEntry> =
                        known.map(|bytes| decode(Table::Entry, &bytes)).transpose()?;
                    let is_same = known.is_some_and(|l| entry_id(&l.entry) == their_head.entry);
                    let is_kept = own.is_some_and(|own| own.forks.contains(&their_head.entry));
                    if !is_same && !is_kept {
                        let (from, until) = (their_head.seq, 0);
                        steps.push(Step::Entries { vault, device, from, until });
                    }
                }
                None => {}
            }
            let is_new = |fork| own.is_none_or(|own| !own.forks.contains(fork));
            let room = own.is_none_or(|own| own.forks.len() < FORKS_MAX);
            if room && their_forks.iter().take(FORKS_MAX).any(is_new) {
                steps.push(Step::Forks { vault, device });
            }
        }
        if steps.is_empty() {
            return Ok(Taken::Nothing);
        }
        if let Some(talk) = self.exchange.talks.get_mut(&node) {
            for step in steps.into_iter().rev() {
                talk.steps.push_front(step);
            }
        }
        Ok(Taken::Asked)
    }
}
