//! Leaving: a node whose operator takes it away says so, and what it holds comes to lie elsewhere while it is still there.
//!
//! - Only the node's own host can say that it leaves ([`super::Input::Leaving`]). It takes no shard any more, keeps and serves those
//!   that it has, and drops nothing.
//! - Others learn it from its status. A leaving node's shards are read from, and do not count: [`super::repair`] moves them under the
//!   one predicate. The leaving node comes first in rank for its own stripes, because it has what is to be moved.
//! - Who lies and says that it leaves makes the others do what they would do if it fell silent: one copy of each of its shards, within
//!   their budgets. To say so again and again moves nothing twice, and is listened to once a term.
//! - It goes through all that it holds, whichever record names it, and counts the stripes that were found well without it. It
//!   may leave when none is left, counted in one go after the last change.

use super::facts::{Facts, View};
use super::{Note, Output, Peer, Then};
use crate::id::{NodeId, ShardId};
use crate::message::LeaveStatus;
use crate::record::Record;
use crate::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};

/// Stripes of which a shard is held here, and those of them that would miss this node.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    stripes: u64,
    left: u64,
}

/// What is remembered of leaving.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Whether this node leaves.
    own: bool,
    /// Others that say that they do.
    said: BTreeSet<NodeId>,
    /// When others are listened to again.
    at: Mono,
    /// How far counting is,
    counting: Tally,
    /// and what it came to last, unless something changed since.
    counted: Option<Tally>,
}

impl Leaving {
    /// Whether this node leaves.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// What was counted counts no more.
    pub(super) fn forget(&mut self) {
        self.counted = None;
    }
}

impl Peer {
    /// This node's operator says that it leaves, or that it stays.
    pub(super) fn handle_leaving(&mut self, leaves: bool) {
        if self.leaving.own != leaves {
            self.leaving.own = leaves;
            self.leaving.forget();
            self.repair.wake();
        }
    }

    /// Another node says whether it leaves.
    pub(super) fn hear_leaving(&mut self, node: NodeId, leaves: bool) {
        let is_news =
            if leaves { self.leaving.said.insert(node) } else { self.leaving.said.remove(&node) };
        if is_news {
            self.repair.wake();
        }
    }

    /// Finds who leaves now; whether that is news.
    pub(super) fn notice_leaving(&mut self, now: Now) -> bool {
        let own = self.node();
        let members = &self.members;
        self.leaving.said.retain(|node| members.contains_key(node));
        // Whoever changes its mind all the time has everything looked at once a term.
        let listens = self.leaving.at <= now.mono;
        let mut leaving =
            if listens { self.leaving.said.clone() } else { self.repair.leaving.clone() };
        leaving.remove(&own);
        leaving.extend(self.leaving.own.then_some(own));
        if leaving == self.repair.leaving {
            return false;
        }
        if listens {
            self.leaving.at = now.mono.after(self.repair_term());
        }
        let known = std::mem::replace(&mut self.repair.leaving, leaving);
        for &node in self.repair.leaving.difference(&known) {
            self.outputs.push_back(Output::Note(Note::Leaving(node)));
        }
        for &node in known.difference(&self.repair.leaving) {
            self.outputs.push_back(Output::Note(Note::Stays(node)));
        }
        true
    }

    /// Begins to count anew; false while that is too early, because a shard that was taken is not durable yet.
    pub(super) fn begin_counting(&mut self) -> bool {
        self.leaving.counting = Tally::default();
        !self.leaving.own || !self.pending.values().any(|then| matches!(then, Then::Held { .. }))
    }

    /// Counts a stripe of which there is a record here; one whose record cannot be read may well be missed.
    pub(super) fn count_stripe(&mut self, facts: &dyn Facts, record: Option<&Record>) {
        if !self.leaving.own {
            return;
        }
        let is_well = record.map_or(Some(false), |record| self.is_well_without(facts, record));
        if let Some(is_well) = is_well {
            self.leaving.counting.stripes += 1;
            self.leaving.counting.left += u64::from(!is_well);
        }
    }

    /// Whether nobody would miss what is held here of a stripe; `None` when nothing is, or nothing that stays.
    fn is_well_without(&mut self, facts: &dyn Facts, record: &Record) -> Option<bool> {
        let (vault, stripe) = (record.stripe.vault, record.stripe.id());
        let view = View { facts, overlay: &self.overlay };
        match self.place_of(&view, record) {
            Ok(None) => return None,
            Ok(Some((shard, _))) if self.is_going(&view, shard) => return None,
            _ => {}
        }
        match self.is_abandoned(facts, vault, stripe) {
            Ok(Some(true)) => return None,
            Ok(Some(false)) => {}
            _ => return Some(false),
        }
        if self.repair.cases.contains_key(&stripe) {
            return Some(false);
        }
        let settled = self.repair.settled.get(&stripe);
        Some(settled.is_some_and(|(holders, _)| {
            holders.iter().all(|&holder| self.repair.counts(stripe, holder))
        }))
    }

    /// Whether a release is ending a shard here.
    fn is_going(&self, view: &View<'_>, shard: ShardId) -> bool {
        let life = view.life(shard).ok().flatten();
        self.lives.is_dropping(shard)
            || life.is_some_and(|life| life.cooling().is_some() || life.decided().is_some())
    }

    /// All was gone through.
    pub(super) fn end_counting(&mut self) {
        if self.leaving.own {
            self.leaving.counted = Some(self.leaving.counting);
        }
    }

    /// A stripe was found well without this node. Whether all may be now, so that it is worth counting again.
    pub(super) fn count_down(&mut self) -> bool {
        match &mut self.leaving.counted {
            Some(tally) if tally.left > 1 => {
                tally.left -= 1;
                false
            }
            Some(tally) => tally.left == 1,
            None => false,
        }
    }

    /// How far this node is with leaving; `None` when it stays.
    pub(super) fn leave_status(&self) -> Option<LeaveStatus> {
        if !self.leaving.own {
            return None;
        }
        let tally = self.leaving.counted.unwrap_or_default();
        let mut stuck: BTreeMap<String, u64> = BTreeMap::new();
        let short = self.repair.cases.values().filter(|case| case.is_short);
        for case in short.clone() {
            if let Some(why) = &case.why
                && (stuck.contains_key(why) || stuck.len() < super::repair::REASONS_MAX)
            {
                *stuck.entry(why.clone()).or_default() += 1;
            }
        }
        Some(LeaveStatus {
            is_counted: self.leaving.counted.is_some(),
            stripes: tally.stripes,
            left: tally.left,
            below: short.filter(|case| case.margin < 0).count() as u64,
            stuck: stuck.into_iter().collect(),
        })
    }
}
