//! Leaving: a node whose operator takes it away says so, and what it holds comes to lie elsewhere while it is still there.
//!
//! - Only the node's own host can say that it leaves ([`super::Input::Leaving`]). It takes no shard any more, keeps and serves those
//!   that it has, and drops nothing.
//! - Others learn it from its status. A leaving node's shards are read from, and do not count: [`super::repair`] moves them under the
//!   one predicate. The leaving node comes first in rank for its own stripes, because it has what is to be moved.
//! - Who lies and says that it leaves makes the others do what they would do if it fell silent: one copy of each of its shards, within
//!   their budgets. To say so again and again moves nothing twice, and is listened to once a term.
//! - It goes through all that it holds, whichever record names it, and counts the stripes that were found well without it. When none
//!   is left, counted in one go after the last change, it asks the others to sign that ([`super::vouching`]), and may leave then.

use super::facts::{Facts, View};
use super::vouching::Vouching;
use super::{Note, Output, Peer, Then};
use crate::id::{NodeId, ShardId, VaultId};
use crate::leave::{PAGE_STRIPES_MAX, Page};
use crate::life::Life;
use crate::message::LeaveStatus;
use crate::record::Record;
use crate::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};

/// Stripes of which a shard is held here, and those of them that would miss this node.
#[derive(Debug, Default)]
struct Tally {
    stripes: u64,
    left: u64,
    /// Those that would not, as long as there are no others.
    pages: Vec<Page>,
}

/// Who would miss what is held here of a stripe.
enum Missed {
    /// Nobody: it is this shard.
    ByNobody(u16),
    /// Somebody may.
    Perhaps,
}

impl Tally {
    fn add(&mut self, record: Option<&Record>, missed: &Missed) {
        self.stripes += 1;
        let (Some(record), &Missed::ByNobody(index), 0) = (record, missed, self.left) else {
            self.left += u64::from(matches!(missed, Missed::Perhaps));
            self.pages.clear();
            return;
        };
        let vault = record.stripe.vault;
        let is_open = |page: &&mut Page| page.vault == vault && page.held.len() < PAGE_STRIPES_MAX;
        let place = (record.stripe.id(), index);
        match self.pages.last_mut().filter(is_open) {
            Some(page) => page.held.push(place),
            None => self.pages.push(Page { vault, held: vec![place] }),
        }
    }
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
    /// Whether something has changed that concerns what was counted.
    is_upset: bool,
    /// What others sign of it.
    pub(super) vouching: Vouching,
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

    /// Something has changed; whether that concerns what was counted.
    pub(super) fn upset(&mut self, is_concerned: bool) {
        self.is_upset |= is_concerned;
    }

    /// Whether something has since this was asked last.
    pub(super) fn take_upset(&mut self) -> bool {
        std::mem::take(&mut self.is_upset)
    }

    /// Whether all was counted, and nobody would miss this node by its own word.
    pub(super) fn is_done(&self) -> bool {
        self.own && self.counted.as_ref().is_some_and(|tally| tally.left == 0)
    }
}

impl Peer {
    /// This node's operator says that it leaves, or that it stays.
    pub(super) fn handle_leaving(&mut self, leaves: bool) {
        if self.leaving.own != leaves {
            self.leaving.own = leaves;
            self.leaving.forget();
            if !leaves {
                self.tear_up();
            }
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
        for node in &self.repair.leaving - &known {
            self.outputs.push_back(Output::Note(Note::Leaving(node)));
            if node != own {
                self.void_words(node);
            }
            self.leaving.upset(node == own || self.concerns_leaving(node));
        }
        for &node in known.difference(&self.repair.leaving) {
            self.outputs.push_back(Output::Note(Note::Stays(node)));
        }
        true
    }

    /// Whether a node has something of what is held here, as far as is known: only then does it matter to a node that leaves what becomes of it.
    pub(super) fn concerns_leaving(&self, node: NodeId) -> bool {
        let settled = self.repair.settled.values().map(|(holders, _)| holders);
        let mut known = settled.chain(self.repair.cases.values().map(|case| &case.holders));
        self.leaving.own && known.any(|holders| holders.contains(&node))
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
        let missed = record.map_or(Some(Missed::Perhaps), |record| self.is_missed(facts, record));
        if let Some(missed) = missed {
            self.leaving.counting.add(record, &missed);
        }
    }

    /// Whether somebody would miss what is held here of a stripe; `None` when nothing is held, or nothing that stays.
    fn is_missed(&mut self, facts: &dyn Facts, record: &Record) -> Option<Missed> {
        let (vault, stripe) = (record.stripe.vault, record.stripe.id());
        let view = View { facts, overlay: &self.overlay };
        let index = match self.place_of(&view, record) {
            Ok(None) => return None,
            Ok(Some((shard, _))) if self.is_going(&view, vault, shard) => return None,
            Ok(Some((_, held))) => Some(held.index),
            Err(_) => None,
        };
        match self.is_abandoned(facts, vault, stripe) {
            Ok(Some(true)) => return None,
            Ok(Some(false)) => {}
            _ => return Some(Missed::Perhaps),
        }
        let index = index.filter(|_| self.repair.settled_holders(vault, stripe).is_some());
        Some(index.map_or(Missed::Perhaps, Missed::ByNobody))
    }

    /// Whether a release is ending a shard here. What is discharged may be needed yet.
    fn is_going(&self, view: &View<'_>, vault: VaultId, shard: ShardId) -> bool {
        let life = view.life(shard).ok().flatten();
        let is_ending = |life: Life| {
            life.decided().is_some()
                || life.cooling().is_some() && !self.is_discharged(vault, &life)
        };
        self.lives.is_dropping(shard) || life.is_some_and(is_ending)
    }

    /// All was gone through.
    pub(super) fn end_counting(&mut self, now: Now, facts: &dyn Facts) {
        if !self.leaving.own {
            return;
        }
        let mut tally = std::mem::take(&mut self.leaving.counting);
        let pages = std::mem::take(&mut tally.pages);
        self.leaving.counted = Some(tally);
        if self.leaving.is_done() {
            self.ask_to_leave(now, facts, pages);
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
    #[must_use]
    pub fn leave_status(&self) -> Option<LeaveStatus> {
        if !self.leaving.own {
            return None;
        }
        let counted = self.leaving.counted.as_ref();
        let (stripes, left) = counted.map_or((0, 0), |tally| (tally.stripes, tally.left));
        let is_done = self.leaving.is_done();
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
            is_counted: counted.is_some(),
            stripes,
            left,
            below: short.filter(|case| case.margin < 0).count() as u64,
            stuck: stuck.into_iter().collect(),
            unsigned: if is_done { self.leaving.vouching.unsigned() } else { 0 },
            signers: if is_done { self.signers() } else { Vec::new() },
        })
    }
}
