//! Who is there and who is lost, as one node sees it.
//!
//! - A node is *heard* when it asked or answered on a vouched connection, *suspect* after a while without that though it was asked,
//!   and *lost* after the patience. Whoever is heard again has returned, and what it holds counts as before. Whom nobody asked may
//!   be silent for as long as it likes: in a large mesh it takes a while until a node's turn comes.
//! - Time counts while this node hears anybody, and a little longer: who is cut off, or has just started, calls nobody lost.
//! - What others heard counts as well: as long as most operators say that most of their nodes heard it lately, a node is not lost, for
//!   three times the patience. So several that lie together put repair off and do not prevent it; one alone does neither, and nobody is made lost by words. They are asked about those alone that have been
//!   silent here for a while: who was not asked about a node has no say.
//!
//! Offline is not lost, and lost is no guilt: it only says that what was held there is to be had elsewhere, too.

use crate::id::{NodeId, OperatorId, find};
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Period};
use std::collections::BTreeMap;

/// For so long who was asked may be silent before it is suspect, or for half of the patience when that is less.
const SUSPECT: Period = Period::seconds(300);
/// Others are asked about who was silent for this part of the patience: long before it is over, so that all of them were.
const HEARSAY_PART: u64 = 4;
/// Without anybody being heard time counts on for this part of the patience.
const GRACE_PART: u64 = 4;
/// What others say keeps a node from being lost for so many times the patience.
const DEFERRED: u64 = 3;
/// With so many nodes watched no more strangers are: whoever signs records can name as many as it likes. Members always are.
const WATCHED_MAX: usize = 8192;

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It was heard lately, or was not asked since.
    Heard,
    /// It was asked and does not answer.
    Suspect,
    /// It has been silent for longer than the patience.
    Lost,
}

/// Points of the time that counts, in milliseconds.
type Point = u64;

/// What another node says of whom it heard.
#[derive(Debug)]
struct Word {
    operator: OperatorId,
    said: Point,
    /// Of whom it was asked, and when it heard those.
    heard: BTreeMap<NodeId, Option<Point>>,
}

/// What one node knows of others' presence.
#[derive(Debug)]
pub struct Liveness {
    patience: Period,
    operator: OperatorId,
    /// The time that counts, as of `seen`.
    count: Point,
    seen: Mono,
    /// When anybody was heard last.
    anybody: Option<Mono>,
    /// All that are watched, in order,
    nodes: Vec<NodeId>,
    /// and when each was heard last: side by side, because all are looked at with each question that is put.
    heard: Vec<Point>,
    /// Those that were asked and not heard since, and when that was.
    asked: BTreeMap<NodeId, Point>,
    words: BTreeMap<NodeId, Word>,
}

impl Liveness {
    /// Of a node of this operator, which begins to listen now.
    #[must_use]
    pub fn new(patience: Period, operator: OperatorId, now: Mono) -> Self {
        let (nodes, heard) = (Vec::new(), Vec::new());
        let (asked, words) = (BTreeMap::new(), BTreeMap::new());
        let (count, seen, anybody) = (0, now, None);
        Self { patience, operator, count, seen, anybody, nodes, heard, asked, words }
    }

    /// Where a node is, which is watched from now on.
    fn place(&mut self, node: NodeId) -> usize {
        find(&self.nodes, &node).unwrap_or_else(|place| {
            self.nodes.insert(place, node);
            self.heard.insert(place, self.count);
            place
        })
    }

    fn advance(&mut self, now: Mono) {
        let grace = Period(self.patience.0 / GRACE_PART);
        if let Some(anybody) = self.anybody {
            let until = now.min(anybody.after(grace));
            let until = if is_planted(Bug::CutOff) { now } else { until };
            self.count = self.count.saturating_add(until.0.saturating_sub(self.seen.0));
        }
        self.seen = self.seen.max(now);
    }

    /// From now on it is noticed when this node is silent.
    pub fn watch(&mut self, node: NodeId, now: Mono) {
        self.advance(now);
        self.place(node);
    }

    /// As [`Self::ask`], of one whom only others name: where there are too many it is watched by nobody.
    pub fn ask_stranger(&mut self, node: NodeId, now: Mono) {
        if self.nodes.len() < WATCHED_MAX || find(&self.nodes, &node).is_ok() {
            self.ask(node, now);
        }
    }

    /// It asked or answered.
    pub fn hear(&mut self, node: NodeId, now: Mono) {
        self.hear_apart(node, now);
        self.anybody = Some(now);
    }

    /// One that has no say asked or answered: it is there, and that this node hears it does not show that it is not cut off.
    pub fn hear_apart(&mut self, node: NodeId, now: Mono) {
        self.advance(now);
        let place = self.place(node);
        self.heard[place] = self.count;
        self.asked.remove(&node);
    }

    /// What nodes of this operator said counts no more.
    pub fn forget_words(&mut self, operator: OperatorId) {
        self.words.retain(|_, word| word.operator != operator);
    }

    /// It is asked something, or dialed.
    pub fn ask(&mut self, node: NodeId, now: Mono) {
        self.watch(node, now);
        self.asked.entry(node).or_insert(self.count);
    }

    /// A node of that operator says how long ago it heard those of whom it was asked.
    pub fn tell(
        &mut self,
        by: NodeId,
        operator: OperatorId,
        ages: impl IntoIterator<Item = (NodeId, Option<Period>)>,
        now: Mono,
    ) {
        self.advance(now);
        let count = self.count;
        let point = |age: Option<Period>| age.map(|age| count.saturating_sub(age.0));
        let mut ages = ages.into_iter().peekable();
        if ages.peek().is_none() {
            // Mostly nobody is silent. Who was asked about nobody has no say.
            self.words.remove(&by);
            return;
        }
        let heard = ages.map(|(node, age)| {
            // Its clock may have run since before this node began to count.
            let age = age.filter(|age| *age < self.patience);
            (node, point(age))
        });
        let heard = heard.collect();
        self.words.insert(by, Word { operator, said: self.count, heard });
    }

    /// What is known of a node. One that nobody watches is not lost.
    pub fn presence(&mut self, node: NodeId, now: Mono) -> Presence {
        self.advance(now);
        let Ok(place) = find(&self.nodes, &node) else { return Presence::Heard };
        let silence = self.count - self.heard[place];
        let patience = SUSPECT.0.min(self.patience.0 / 2);
        let is_late = self.asked.get(&node).is_some_and(|asked| self.count - asked >= patience);
        let is_over = silence >= self.patience.0 || is_planted(Bug::Patience);
        match (is_late, is_over) {
            (true, true)
                if silence >= DEFERRED * self.patience.0 || !self.is_heard_elsewhere(node) =>
            {
                Presence::Lost
            }
            (true, _) => Presence::Suspect,
            (false, _) => Presence::Heard,
        }
    }

    /// Who has been silent for so long that it matters whether others heard them; so many at most, those first that are meant.
    pub fn silent(
        &mut self,
        max: usize,
        is_first: impl Fn(NodeId) -> bool,
        now: Mono,
    ) -> Vec<NodeId> {
        self.advance(now);
        let is_silent = |heard: Point| self.count - heard >= self.patience.0 / HEARSAY_PART;
        let all = self.nodes.iter().zip(&self.heard);
        let silent = all.filter(|(_, heard)| is_silent(**heard));
        let mut silent: Vec<NodeId> = silent.map(|(&node, _)| node).collect();
        silent.sort_by_key(|node| !is_first(*node));
        silent.truncate(max);
        silent
    }

    /// Those who were asked and do not answer, in order, and what is known of them: all others are heard, as far as anybody knows.
    pub fn unheard(&mut self, now: Mono) -> Vec<(NodeId, Presence)> {
        let asked: Vec<NodeId> = self.asked.keys().copied().collect();
        let known = asked.into_iter().map(|node| (node, self.presence(node, now)));
        known.filter(|(_, presence)| *presence != Presence::Heard).collect()
    }

    /// Whether a node is lost.
    pub fn is_lost(&mut self, node: NodeId, now: Mono) -> bool {
        self.presence(node, now) == Presence::Lost
    }

    /// Whether most operators that can be heard say that they heard it within the patience.
    fn is_heard_elsewhere(&self, node: NodeId) -> bool {
        let is_recent = |point: Point| self.count - point < self.patience.0;
        // Of each operator: who said so, and who spoke. This node has not heard it.
        let mut votes: BTreeMap<OperatorId, (usize, usize)> =
            BTreeMap::from([(self.operator, (0, 1))]);
        for (by, word) in &self.words {
            if *by == node || !is_recent(word.said) {
                continue;
            }
            let Some(&heard) = word.heard.get(&node) else { continue };
            let (yes, all) = votes.entry(word.operator).or_default();
            *yes += usize::from(heard.is_some_and(is_recent));
            *all += 1;
        }
        let agree = votes.values().filter(|(yes, all)| 2 * yes > *all).count();
        2 * agree > votes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Period = Period::days(1);
    const HOUR: u64 = 3_600_000;

    fn node(name: u8) -> NodeId {
        NodeId([name; 32])
    }

    fn operator(name: u8) -> OperatorId {
        OperatorId([name; 32])
    }

    fn liveness() -> Liveness {
        Liveness::new(PATIENCE, operator(1), Mono(0))
    }

    /// Somebody is heard every hour of a span.
    fn hear_hourly(liveness: &mut Liveness, name: u8, from: u64, to: u64) {
        (from..=to).for_each(|hour| liveness.hear(node(name), Mono(hour * HOUR)));
    }

    #[test]
    fn who_is_silent_is_suspect_when_asked_and_lost_after_the_patience_and_may_return() {
        let mut liveness = liveness();
        liveness.hear(node(2), Mono(0));
        hear_hourly(&mut liveness, 3, 0, 1);
        assert_eq!(liveness.presence(node(2), Mono(HOUR)), Presence::Heard, "nobody asked");
        assert!(liveness.silent(9, |_| true, Mono(HOUR)).is_empty());
        liveness.ask(node(2), Mono(HOUR));
        liveness.ask(node(2), Mono(HOUR + 200_000));
        assert_eq!(liveness.presence(node(2), Mono(HOUR + 300_000)), Presence::Suspect);
        hear_hourly(&mut liveness, 3, 2, 6);
        assert_eq!(liveness.silent(9, |_| true, Mono(6 * HOUR)), [node(2)]);
        hear_hourly(&mut liveness, 3, 7, 24);
        assert_eq!(liveness.presence(node(2), Mono(24 * HOUR)), Presence::Lost);
        assert_eq!(liveness.presence(node(3), Mono(24 * HOUR)), Presence::Heard);
        liveness.hear(node(2), Mono(25 * HOUR));
        assert_eq!(liveness.presence(node(2), Mono(26 * HOUR)), Presence::Heard);
        assert_eq!(
            liveness.presence(node(9), Mono(26 * HOUR)),
            Presence::Heard,
            "nobody's concern"
        );
    }

    #[test]
    fn who_is_cut_off_or_has_just_started_calls_nobody_lost() {
        let mut liveness = liveness();
        (2..6).for_each(|name| liveness.watch(node(name), Mono(0)));
        let later = Mono(1000 * HOUR);
        assert!((2..6).all(|name| !liveness.is_lost(node(name), later)), "it heard nobody yet");
        (2..6).for_each(|name| liveness.hear(node(name), later));
        let much_later = Mono(5000 * HOUR);
        assert!((2..6).all(|name| !liveness.is_lost(node(name), much_later)), "it is cut off");
        liveness.hear(node(2), much_later);
        assert!((2..6).all(|name| !liveness.is_lost(node(name), much_later)));
        // From here on somebody is heard, and the silence of others counts.
        liveness.ask(node(3), much_later);
        hear_hourly(&mut liveness, 2, 5001, 5024);
        assert!(liveness.is_lost(node(3), Mono(5024 * HOUR)));
        assert!(!liveness.is_lost(node(4), Mono(5024 * HOUR)), "nobody asked it");
    }

    #[test]
    fn several_that_lie_together_put_off_that_somebody_is_lost_and_do_not_prevent_it() {
        let mut liveness = liveness();
        liveness.hear(node(2), Mono(0));
        liveness.ask(node(2), Mono(0));
        let mut lost_at = None;
        for hour in 0..100 {
            let now = Mono(hour * HOUR);
            liveness.hear(node(3), now);
            for liar in [4, 5] {
                liveness.tell(node(liar), operator(liar), [(node(2), Some(Period(0)))], now);
            }
            if lost_at.is_none() && liveness.is_lost(node(2), now) {
                lost_at = Some(hour);
            }
        }
        assert_eq!(lost_at, Some(3 * 24));
    }

    #[test]
    fn names_that_somebody_made_up_take_no_members_place() {
        let mut liveness = liveness();
        let name = |n: usize| NodeId(std::array::from_fn(|i| (n >> (8 * i.min(7))) as u8));
        for n in 0..2 * WATCHED_MAX {
            liveness.ask_stranger(name(n), Mono(0));
        }
        assert_eq!(liveness.nodes.len(), WATCHED_MAX);
        let member = NodeId([255; 32]);
        liveness.watch(member, Mono(0));
        liveness.ask(member, Mono(0));
        hear_hourly(&mut liveness, 3, 0, 24);
        let asked = liveness.silent(99, |node| node == member, Mono(24 * HOUR));
        assert_eq!((asked[0], asked.len()), (member, 99));
        assert!(liveness.is_lost(member, Mono(24 * HOUR)));
    }

    #[test]
    fn whom_most_operators_hear_is_not_lost_and_one_liar_decides_nothing() {
        let mut liveness = liveness();
        liveness.hear(node(9), Mono(0));
        liveness.ask(node(9), Mono(0));
        hear_hourly(&mut liveness, 2, 0, 30);
        let now = Mono(30 * HOUR);
        assert!(liveness.is_lost(node(9), now));
        let age = Period(HOUR);
        liveness.tell(node(3), operator(3), [(node(9), Some(age))], now);
        assert!(liveness.is_lost(node(9), now), "one of two operators is not most");
        liveness.tell(node(4), operator(4), [(node(9), Some(age))], now);
        assert!(!liveness.is_lost(node(9), now), "two of three are");
        liveness.tell(node(5), operator(4), [], now);
        assert!(!liveness.is_lost(node(9), now), "who was not asked has no say");
        liveness.tell(node(5), operator(4), [(node(9), None)], now);
        assert!(liveness.is_lost(node(9), now), "half of an operator's nodes are not most");
        liveness.tell(node(9), operator(5), [(node(9), Some(age))], now);
        assert!(liveness.is_lost(node(9), now), "nobody speaks for itself");
        liveness.tell(node(5), operator(4), [(node(9), Some(age))], now);
        assert!(!liveness.is_lost(node(9), now));
        // What was heard grows old.
        hear_hourly(&mut liveness, 2, 31, 53);
        assert!(liveness.is_lost(node(9), Mono(53 * HOUR)));
        liveness.tell(node(3), operator(3), [(node(9), Some(PATIENCE))], Mono(53 * HOUR));
        assert!(liveness.is_lost(node(9), Mono(53 * HOUR)));
    }

    proptest! {
        #[test]
        fn a_node_that_comes_back_within_the_patience_is_never_lost(
            gaps in prop::collection::vec(1u64..24 * HOUR, 1..40),
        ) {
            let mut liveness = liveness();
            liveness.hear(node(2), Mono(0));
            let mut now = 0;
            for gap in gaps {
                for at in (now..now + gap).step_by(HOUR as usize) {
                    liveness.hear(node(3), Mono(at));
                    liveness.ask(node(2), Mono(at));
                    prop_assert!(!liveness.is_lost(node(2), Mono(at)));
                }
                now += gap;
                liveness.hear(node(2), Mono(now));
            }
        }

        #[test]
        fn time_in_which_nobody_was_heard_makes_nobody_lost(
            steps in prop::collection::vec((0u8..4, 0u64..100 * HOUR), 1..30),
        ) {
            // Whoever was heard last is at most a grace of silence away, whatever the clock says.
            let mut liveness = liveness();
            let mut now = Mono(0);
            (0..4).for_each(|name| liveness.watch(node(name), now));
            for (name, wait) in steps {
                now = now.after(Period(wait));
                liveness.hear(node(name), now);
                prop_assert!(!liveness.is_lost(node(name), now.after(Period(1000 * HOUR))));
            }
        }
    }
}
