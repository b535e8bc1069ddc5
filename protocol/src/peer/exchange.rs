//! Nodes that a vault's rosters list bring each other up to date: papers, devices, revocations, cards, logs and forks. What is shown
//! is here, and who asks whom; what is taken is [`super::taking`]'s.
//!
//! - A node pulls. At each meeting it asks what the other one has of the vaults whose rosters list it, in two hashes for each
//!   vault; where they differ it asks for papers, then for the ends of logs, then for entries, one call after the other, and
//!   goes on when what it took is durable. Who has the same as the other sends nothing but hashes.
//! - Nobody is believed: what is taken was signed by the vault and its devices, and is judged as if a device had brought it.
//! - A talk ends after [`CALLS_MAX`] calls, or [`USELESS_MAX`] that brought nothing; who wastes calls is left alone for a while, longer
//!   each time. What brought nothing is not asked for again before one of the two has something else.
//! - With 500 nodes each asks three in half a minute, as for members, and news is everywhere within minutes.

use super::facts::{Facts, Table, View, Write, decode, key};
use super::ledger::{DEVICES_MAX, FORKS_MAX, VAULTS_MAX};
use super::membership::Pending;
use super::taking::{Shown, Taken};
use super::{Decision, LaneId, LinkId, Output, Peer, Role, refusal};
use crate::codec;
use crate::id::{DeviceId, EntryId, NodeId, VaultId};
use crate::log::{Entry, Head, entry_id};
use crate::message::{
    Holdings, LogEnd, LoggedEntry, PAGE_LEN, Refusal, RefusalCode, Request, Response, VaultDigest,
};
use crate::sign::Signed;
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
/// Digests that are computed for one answer: each takes a scan of the vault's rows. The others are told next time.
const DIGESTS_MAX: usize = 64;
/// Forks of one vault that are told and compared: each is read for that, and can be a long entry. More prove nothing new.
const FORKS_TOLD_MAX: usize = 64;
/// What is remembered of vaults about which another node has nothing new, 160 bytes each.
const SETTLED_MAX: usize = 16 << 10;

/// What is asked next in a talk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Vaults,
    Holdings(VaultId),
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
    digests: BTreeMap<VaultId, VaultDigest>,
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

fn nodes_only() -> Refusal {
    refusal(RefusalCode::NotAllowed, "only nodes are brought up to date")
}

/// The entries of the forks of a device's log.
fn forks(
    facts: &dyn Facts,
    vault: VaultId,
    device: DeviceId,
) -> Result<Vec<Signed<Entry>>, Refusal> {
    let rows = facts.scan(Table::Fork, &key(&[&vault.0, &device.0]), None, FORKS_MAX)?;
    let rows = rows.into_iter().map(|(_, bytes)| decode(Table::Fork, &bytes));
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Where the logs of a vault end, by what is durable.
pub(super) fn log_ends(facts: &dyn Facts, vault: VaultId) -> Result<Vec<LogEnd>, Refusal> {
    let mut ends: BTreeMap<DeviceId, LogEnd> = BTreeMap::new();
    let none = |device| LogEnd { device, head: None, forks: Vec::new() };
    let id = |row: &[u8], at: usize| <[u8; 32]>::try_from(row.get(at..at + 32)?).ok();
    for (row, bytes) in facts.scan(Table::Head, &vault.0, None, DEVICES_MAX)? {
        let Some(device) = id(&row, 32).map(DeviceId) else { continue };
        let head: Head = decode(Table::Head, &bytes)?;
        ends.entry(device).or_insert_with(|| none(device)).head = Some(head);
    }
    let (mut after, mut told) = (None::<Vec<u8>>, 0);
    while told < FORKS_TOLD_MAX {
        let rows = facts.scan(Table::Fork, &vault.0, after.as_deref(), FORKS_MAX)?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        told += rows.len();
        for (row, _) in rows {
            let (Some(device), Some(entry)) = (id(&row, 32).map(DeviceId), id(&row, 64)) else {
                continue;
            };
            ends.entry(device).or_insert_with(|| none(device)).forks.push(EntryId(entry));
        }
    }
    Ok(ends.into_values().collect())
}

impl Peer {
    /// What is durable of a vault, if it is known here.
    fn digest(
        &mut self,
        facts: &dyn Facts,
        vault: VaultId,
    ) -> Result<Option<VaultDigest>, Refusal> {
        if let Some(known) = self.exchange.digests.get(&vault) {
            return Ok(Some(*known));
        }
        let Some(holdings) = self.holdings(facts, vault)? else { return Ok(None) };
        let papers = &holdings.state.papers;
        let mut parts =
            vec![papers.certificate.digest(), papers.descriptor.digest(), papers.roster.digest()];
        parts.extend(holdings.state.devices.iter().map(Signed::digest));
        // Of several revocations of one device each node keeps another: their rows name the devices.
        let revoked = facts.scan(Table::Revoked, &vault.0, None, 2 * DEVICES_MAX)?;
        parts.extend(
            revoked.iter().filter_map(|(row, _)| <[u8; 32]>::try_from(row.get(32..)?).ok()),
        );
        let mut cards: Vec<[u8; 32]> = holdings.cards.iter().map(Signed::digest).collect();
        cards.sort_unstable();
        parts.extend(cards);
        let papers = *blake3::hash(&parts.concat()).as_bytes();
        let logs = *blake3::hash(&codec::encode(&log_ends(facts, vault)?)).as_bytes();
        let digest = VaultDigest { vault, papers, logs };
        self.exchange.digests.insert(vault, digest);
        Ok(Some(digest))
    }

    /// All that is durable of a vault but its logs.
    fn holdings(&self, facts: &dyn Facts, vault: VaultId) -> Result<Option<Holdings>, Refusal> {
        // What is only decided could fail: nobody is told of it.
        let overlay = &super::facts::Overlay::default();
        let Some(state) = Self::vault_state(&View { facts, overlay }, vault)? else {
            return Ok(None);
        };
        let cards = super::recovery::cards_of(facts, vault)?;
        Ok(Some(Holdings { state, cards }))
    }

    pub(super) fn handle_vaults(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
    ) -> Decision {
        let Role::Node(asker) = *role else { return Err(nodes_only()) };
        let mut vaults = Vec::new();
        let mut computed = 0;
        for (row, _) in facts.scan(Table::Listed, &asker.0, None, VAULTS_MAX)? {
            let Some(vault) = row.get(32..).and_then(|id| id.try_into().ok()).map(VaultId) else {
                continue;
            };
            computed += usize::from(!self.exchange.digests.contains_key(&vault));
            if computed <= DIGESTS_MAX || self.exchange.digests.contains_key(&vault) {
                vaults.extend(self.digest(facts, vault)?);
            }
        }
        self.reply(lane, Response::Vaults(vaults));
        Ok(())
    }

    /// Refuses whoever is no node that a roster of the vault lists.
    fn check_partner(&self, facts: &dyn Facts, role: &Role, vault: VaultId) -> Decision {
        if !matches!(role, Role::Node(_)) {
            return Err(nodes_only());
        }
        self.check_reader(&View { facts, overlay: &self.overlay }, role, vault)
    }

    pub(super) fn handle_holdings(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
    ) -> Decision {
        self.check_partner(facts, role, vault)?;
        let holdings = self.holdings(facts, vault)?.map(Box::new);
        self.reply(lane, Response::Holdings(holdings));
        Ok(())
    }

    pub(super) fn handle_logs(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
    ) -> Decision {
        self.check_partner(facts, role, vault)?;
        let ends = log_ends(facts, vault)?;
        self.reply(lane, Response::Logs(ends));
        Ok(())
    }

    pub(super) fn handle_entries(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        (vault, device, from): (VaultId, DeviceId, u64),
    ) -> Decision {
        self.check_partner(facts, role, vault)?;
        let log = key(&[&vault.0, &device.0]);
        let before = from.checked_sub(1).map(|seq| key(&[&log, &seq.to_be_bytes()]));
        let (mut cursor, mut entries, mut len) = (before, Vec::new(), 0);
        'page: loop {
            let rows = facts.scan(Table::Entry, &log, cursor.as_deref(), 16)?;
            let Some((last, _)) = rows.last() else { break 'page };
            cursor = Some(last.clone());
            for (_, bytes) in rows {
                len += bytes.len();
                let logged: LoggedEntry = decode(Table::Entry, &bytes)?;
                entries.push(logged.entry);
                if len > PAGE_LEN {
                    break 'page;
                }
            }
        }
        self.reply(lane, Response::Entries(entries));
        Ok(())
    }

    pub(super) fn handle_forks(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        (vault, device): (VaultId, DeviceId),
    ) -> Decision {
        self.check_partner(facts, role, vault)?;
        let forks = forks(facts, vault, device)?;
        self.reply(lane, Response::Entries(forks));
        Ok(())
    }

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
                steps.push(Step::Holdings(vault));
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
