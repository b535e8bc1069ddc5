//! Whom a node meets, and when.
//!
//! - Every [`super::PeerConfig::exchange_period`] it meets [`FANOUT`] members in turn and asks all that it ever asks: the time, promises, vaults, findings, who
//!   is silent, records that it lacks. Log-many rounds bring news to everybody.
//! - Each member has its turn several times within the patience, however many there are, or else some would seem silent that nobody
//!   asked. Where the rounds above are too rare for that, there are *glances* between them: members that were not heard for a while are
//!   asked how they are, and nothing else. Two that ask each other take turns so, and a mesh of N nodes costs each of them a few
//!   short messages for each other one in a patience.

use super::facts::Facts;
use super::membership::Pending;
use super::{LinkId, Output, Peer};
use crate::codec::Blob;
use crate::id::NodeId;
use crate::message::{RECORD_NAME_LEN, Request};
use crate::time::{Mono, Now, Period};
use std::ops::Bound::{Excluded, Unbounded};

/// Members met at once.
const FANOUT: usize = 3;
/// So often each member has its turn within the patience.
const TURNS_IN_PATIENCE: u64 = 4;
/// Who was heard within this part of the patience is not asked again at a glance.
const HEARD_PART: u64 = TURNS_IN_PATIENCE + 1;
/// No two rounds are closer together.
const PERIOD_MIN: Period = Period(250);

/// What is remembered of whose turn it is.
#[derive(Debug)]
pub(super) struct Meetings {
    /// When the next round or glance is,
    at: Mono,
    /// and when the next round.
    round_at: Mono,
    /// Who had its turn last.
    last: Option<NodeId>,
}

impl Meetings {
    pub(super) fn new(now: Mono) -> Self {
        Self { at: now, round_at: now, last: None }
    }

    pub(super) fn poll_timeout(&self) -> Mono {
        self.at
    }

    /// There is news that others are to have at once.
    pub(super) fn hurry(&mut self, now: Mono) {
        (self.at, self.round_at) = (now, now);
    }
}

impl Peer {
    /// Between two rounds or glances.
    pub(super) fn meeting_period(&self) -> Period {
        let turns = TURNS_IN_PATIENCE * self.members.len().max(1) as u64;
        let patience = self.config.patience.0.saturating_mul(FANOUT as u64);
        self.config.exchange_period.min(Period((patience / turns).max(PERIOD_MIN.0)))
    }

    /// A round or a glance, when it is time.
    pub(super) fn handle_meetings(&mut self, now: Now, facts: &dyn Facts) {
        if self.meetings.at > now.mono {
            return;
        }
        self.tick_lock_clock(now);
        let is_round = self.meetings.round_at <= now.mono;
        if is_round {
            self.meetings.round_at = now.mono.after(self.config.exchange_period);
            self.judge_partners(now);
            self.part_from_succeeded(now);
            self.forget_releases(facts);
            self.check_sums(now, facts);
        }
        self.meetings.at = now.mono.after(self.meeting_period()).min(self.meetings.round_at);
        for node in self.next_in_turn(now, is_round) {
            self.meet(now, facts, (node, None), is_round);
        }
        let contacts = if is_round { self.unknown_contacts() } else { Vec::new() };
        for (node, addresses) in contacts {
            self.meet(now, facts, (node, Some(addresses)), true);
        }
    }

    /// Asks a node, or connects to it first. Where a member is, its record says.
    fn meet(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        (node, addresses): (NodeId, Option<Vec<String>>),
        is_round: bool,
    ) {
        self.liveness.ask(node, now.mono);
        match self.link_to(node) {
            Some(link) if is_round => self.exchange_with(now, facts, node, link),
            Some(link) => self.ask_hearsay(now, node, link),
            None => {
                let member = || self.members.get(&node).map(|m| m.record.addresses.clone());
                let addresses = addresses.or_else(member).unwrap_or_default();
                self.outputs.push_back(Output::Dial { node, addresses });
            }
        }
    }

    /// The next members whose turn it is; at a glance only those who were not heard for a while.
    fn next_in_turn(&mut self, now: Now, is_round: bool) -> Vec<NodeId> {
        let in_turn: Vec<NodeId> = if is_round {
            let behind = (self.meetings.last.map_or(Unbounded, Excluded), Unbounded);
            let first = self.members.range(behind).chain(&self.members);
            first.take(self.members.len()).take(FANOUT).map(|(node, _)| *node).collect()
        } else {
            let least = self.config.patience.0 / HEARD_PART;
            let mut due = self.members.not_heard_since(now.mono.0.checked_sub(least).map(Mono));
            let first = due.partition_point(|node| Some(*node) <= self.meetings.last);
            due.rotate_left(first);
            due.truncate(FANOUT);
            due
        };
        self.meetings.last = in_turn.last().copied().or(self.meetings.last);
        in_turn
    }

    /// Those who are to be met and are no members yet: of the first to ask, and of partners.
    fn unknown_contacts(&self) -> Vec<(NodeId, Vec<String>)> {
        let is_met = |operator| {
            let mut nodes = self.members.of(|of| of == operator);
            nodes.any(|node| self.members.heard(*node).is_some())
        };
        let contacts = self.partnership.contacts(is_met);
        let all = self.config.bootstrap.iter().chain(&contacts);
        let unknown = all
            .filter(|(node, _)| !self.members.contains_key(node) && *node != self.node())
            .cloned();
        unknown.collect()
    }

    /// Asks a member all that is ever asked.
    pub(super) fn exchange_with(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        node: NodeId,
        link: LinkId,
    ) {
        if !self.is_guest(node) {
            self.ask_time(now, node, link);
            self.ask_promises(facts, node, link);
        }
        self.begin_talk(now, node, link);
        self.ask_stops(link);
        self.tell_partners(node, link);
        self.tell_notices(node, link);
        self.ask_findings(node, link);
        self.give_receipts(now, node, link);
        self.ask_hearsay(now, node, link);
        let operator = self.operator_of_node(node);
        let mut known = if self.is_told_of_all(operator) {
            let names = self.members.names().as_flattened();
            let mut known = Vec::with_capacity(names.len() + RECORD_NAME_LEN);
            known.extend_from_slice(names);
            known
        } else {
            // Of this operator's own nodes everybody tells it: who hears nothing of their names tells of them again and again.
            let (is_told_of, own) = (self.told_of(operator), self.site.operator);
            let told = self.members.names_of(|operator| is_told_of(operator) || operator == own);
            told.flatten().copied().collect()
        };
        known.extend(self.record_name);
        let call = self.call(Pending::Members(node));
        let request = Box::new(Request::Lacking { known: Blob(known) });
        self.outputs.push_back(Output::Call { call, link, request });
    }
}
