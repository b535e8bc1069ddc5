//! A mesh at a moment, and the events that change it. Causes strike whole nodes or single shards; shards that are lost are
//! rebuilt after their law's time and, where the mesh has a bandwidth for repair, a wait in one queue in which the
//! stripe with the fewest shards to spare comes first. Nodes go dark and come back; who is silent for longer than patience allows is
//! given up, and its shards are rebuilt elsewhere ([`super::moving`] says where).

use super::super::dice::Dice;
use super::super::stripe::Harm;
use super::moving::Hand;
use super::{MeshTally, Played, Whom};
use crate::durability::input::Replacement;
use protocol::placement::check_placement;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens at a time that is known. Of what happens at once, what comes back comes before repairs that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A dark node may be back.
    Lit(u32),
    /// An empty node stands where one was lost.
    Back(u32),
    /// A node that is dark since this outage is given up.
    GivenUp(u32, u32),
    /// A disk's lifetime ends, if it is this one still.
    End(u32, u32),
    /// A shard may be rebuilt from here on, if it has not been lost again.
    Ready(u32, u32),
    /// The rebuild that has the bandwidth is done.
    Done(u32, u32),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// Whether there is one: not while a lost one waits to be replaced.
    pub(super) is_there: bool,
    /// Until when it is dark; 0 when it is not.
    pub(super) dark_until: f64,
    pub(super) is_given_up: bool,
    outages: u32,
    lives: u32,
    born: f64,
}

impl Node {
    pub(super) fn is_dark(&self) -> bool {
        self.dark_until > 0.0
    }
}

/// A mesh at a moment.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) time: f64,
    pub(super) nodes: Vec<Node>,
    /// Of each node, its shards.
    pub(super) shards: Vec<Vec<u32>>,
    /// Of each shard, who has it, or had it.
    pub(super) holder: Vec<u32>,
    /// Of each shard, whether it is lost.
    pub(super) gone: Vec<bool>,
    /// Of each shard, whether its holder's list names it.
    pub(super) listed: Vec<bool>,
    times: Vec<u32>,
    ready_at: Vec<f64>,
    /// Of each stripe, shards lost. A stripe that is lost keeps its number.
    pub(super) lost: Vec<u16>,
    /// Of each stripe, whole shards on dark nodes.
    away: Vec<u16>,
    below: Vec<bool>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    /// Shards to spare, when they came, which, and how often it has been lost.
    queue: BinaryHeap<Reverse<(u16, u64, u32, u32)>>,
    is_busy: bool,
    /// Rebuilds that found no place, or too few shards to read.
    stuck: Vec<(u32, u32)>,
    /// Stripes that lack shards, that cannot be read, and watched ones below their policy.
    counts: [u64; 3],
    /// Most shards that any stripe has had lost at once.
    pub(super) deepest: u16,
    pub(super) tally: MeshTally,
}

/// What a source is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) source: usize,
    /// The shard, where the source takes one.
    pub(super) shard: Option<usize>,
}

/// How far the mesh was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Up to the time asked.
    Over,
    /// Up to a strike, of which nothing has been done yet.
    Strike(Hit),
    /// Through one event.
    Event,
}

impl Played<'_> {
    /// All shards whole, disks new.
    pub(super) fn start(&self, dice: &mut Dice) -> Run {
        let (nodes, all) = (self.input.sites.len(), self.holders.len());
        let mut shards = vec![Vec::new(); nodes];
        for (shard, &node) in self.holders.iter().enumerate() {
            shards[node as usize].push(shard as u32);
        }
        let node = Node {
            is_there: true,
            dark_until: 0.0,
            is_given_up: false,
            outages: 0,
            lives: 0,
            born: 0.0,
        };
        let mut run = Run {
            time: 0.0,
            nodes: vec![node; nodes],
            shards,
            holder: self.holders.clone(),
            gone: vec![false; all],
            listed: vec![true; all],
            times: vec![0; all],
            ready_at: vec![0.0; all],
            lost: vec![0; self.stripes],
            away: vec![0; self.stripes],
            below: vec![false; self.watched()],
            events: BinaryHeap::new(),
            queue: BinaryHeap::new(),
            is_busy: false,
            stuck: Vec::new(),
            counts: [0; 3],
            deepest: 0,
            tally: MeshTally::default(),
        };
        (0..nodes).for_each(|node| self.live(&mut run, node, dice));
        run
    }

    /// A new disk begins its life.
    fn live(&self, run: &mut Run, node: usize, dice: &mut Dice) {
        let Some(wear) = &self.input.wear else { return };
        let of = &mut run.nodes[node];
        of.lives += 1;
        of.born = run.time;
        let (end, lives) = (run.time + wear.lifetime.draw(dice), of.lives);
        run.push(end, Event::End(node as u32, lives));
    }

    /// Lifetimes that go on are drawn again under the condition that they came so far, so that two copies of a state have
    /// futures of their own. The law of the future stays the same.
    pub(super) fn forget_future(&self, run: &mut Run, dice: &mut Dice) {
        let Some(wear) = &self.input.wear else { return };
        for node in 0..run.nodes.len() {
            let of = &mut run.nodes[node];
            if !of.is_there {
                continue;
            }
            if let Some(rest) = wear.lifetime.draw_rest(run.time - of.born, dice) {
                of.lives += 1;
                let lives = of.lives;
                run.push(run.time + rest, Event::End(node as u32, lives));
            }
        }
    }

    /// When the next cause strikes.
    pub(super) fn next_strike(&self, now: f64, dice: &mut Dice) -> f64 {
        if self.rate > 0.0 { now + dice.exponential() / self.rate } else { f64::INFINITY }
    }

    /// Plays until a time.
    pub(super) fn play(&self, run: &mut Run, hand: &mut Hand<'_>, until: f64) {
        let mut strike = self.next_strike(run.time, hand.dice);
        loop {
            match self.step(run, hand, &mut strike, until) {
                Step::Over => return,
                Step::Strike(hit) => self.strike(run, hand, hit),
                Step::Event => {}
            }
        }
    }

    /// The next thing that happens, if it does before `until`.
    pub(super) fn step(
        &self,
        run: &mut Run,
        hand: &mut Hand<'_>,
        strike: &mut f64,
        until: f64,
    ) -> Step {
        let next = run.events.peek().map_or(f64::INFINITY, |Reverse((at, _))| f64::from_bits(*at));
        let first = next.min(*strike);
        run.pass(first.min(until));
        if first >= until {
            return Step::Over;
        }
        run.tally.events += 1;
        if *strike < next {
            *strike = self.next_strike(first, hand.dice);
            let at = hand.dice.share() * self.rate;
            let source = self.sources.partition_point(|source| source.until <= at);
            let source = source.min(self.sources.len() - 1);
            let shard = match self.sources[source].whom {
                Whom::Nodes(_) => None,
                Whom::Shard => Some(hand.dice.below(self.holders.len())),
            };
            return Step::Strike(Hit { source, shard });
        }
        if let Some(Reverse((_, event))) = run.events.pop() {
            self.happen(run, hand, event);
        }
        Step::Event
    }

    fn happen(&self, run: &mut Run, hand: &mut Hand<'_>, event: Event) {
        let now = run.time;
        match event {
            Event::Lit(node) => {
                let node = node as usize;
                if run.nodes[node].is_dark() && run.nodes[node].dark_until <= now {
                    self.light(run, node);
                    run.wake();
                }
            }
            Event::Back(node) => {
                run.nodes[node as usize].is_there = true;
                self.live(run, node as usize, hand.dice);
                run.wake();
            }
            Event::GivenUp(node, outage) => {
                let of = &mut run.nodes[node as usize];
                if of.is_dark() && of.outages == outage {
                    of.is_given_up = true;
                    for index in 0..run.shards[node as usize].len() {
                        let shard = run.shards[node as usize][index] as usize;
                        let is_dead = run.lost[shard / self.input.n] > self.spare();
                        if !run.gone[shard] && !is_dead {
                            run.times[shard] += 1;
                            let at = now + self.input.transfer.draw(hand.dice);
                            run.ready_at[shard] = at;
                            run.push(at, Event::Ready(shard as u32, run.times[shard]));
                        }
                    }
                }
            }
            Event::End(node, life) => {
                let of = run.nodes[node as usize];
                if of.is_there && of.lives == life && self.input.wear.is_some() {
                    self.take_nodes(run, hand, &[node as usize], None);
                }
            }
            Event::Ready(shard, times) if self.service > 0.0 => {
                if run.times[shard as usize] == times {
                    self.enqueue(run, shard as usize);
                }
            }
            Event::Ready(shard, times) => self.rebuild(run, hand, shard as usize, times),
            Event::Done(shard, times) => {
                run.is_busy = false;
                self.rebuild(run, hand, shard as usize, times);
            }
        }
        while !run.is_busy {
            let Some(Reverse((_, _, shard, times))) = run.queue.pop() else { return };
            if self.is_due(run, shard as usize, times) {
                run.is_busy = true;
                run.tally.waited += now - run.ready_at[shard as usize];
                run.push(now + self.service, Event::Done(shard, times));
            }
        }
    }

    /// A source does its harm.
    pub(super) fn strike(&self, run: &mut Run, hand: &mut Hand<'_>, hit: Hit) {
        let source = &self.sources[hit.source];
        match (&source.whom, &self.input.troubles[source.trouble].harm) {
            (Whom::Nodes(nodes), Harm::Lost { .. }) => {
                self.take_nodes(run, hand, nodes, Some(source.trouble));
            }
            (Whom::Nodes(nodes), Harm::Dark { lasts }) => {
                let lasts = lasts.draw(hand.dice);
                let patience =
                    if self.moves { self.input.patience.draw(hand.dice) } else { f64::INFINITY };
                for &node in nodes {
                    self.darken(run, node, lasts, patience);
                }
            }
            (Whom::Shard, _) => {
                let (Some(shard), Some((law, notice))) = (hit.shard, self.law_of(source.trouble))
                else {
                    return;
                };
                if !self.is_alive(run, shard) || !source.befalls[run.holder[shard] as usize] {
                    return;
                }
                let takes = law.draw(hand.dice) - notice;
                if notice == 0.0 || takes > 0.0 {
                    self.lose(run, shard, takes);
                }
            }
        }
    }

    /// Whether a shard is whole, of a stripe that is not lost.
    pub(super) fn is_alive(&self, run: &Run, shard: usize) -> bool {
        !run.gone[shard] && run.lost[shard / self.input.n] <= self.spare()
    }

    /// Nodes are lost with all that they have; without a trouble, to wear.
    fn take_nodes(
        &self,
        run: &mut Run,
        hand: &mut Hand<'_>,
        nodes: &[usize],
        trouble: Option<usize>,
    ) {
        let (law, notice) = match (trouble.and_then(|t| self.law_of(t)), &self.input.wear) {
            (Some(found), _) => found,
            (None, Some(wear)) => (&wear.repair, 0.0),
            (None, None) => return,
        };
        let nodes: Vec<usize> =
            nodes.iter().copied().filter(|&node| run.nodes[node].is_there).collect();
        for &node in &nodes {
            if run.nodes[node].is_dark() {
                self.light(run, node);
            }
            if self.moves {
                run.nodes[node].is_there = false;
                run.nodes[node].lives += 1;
                if let Replacement::After(law) = &self.input.replacement {
                    let back = run.time + law.draw(hand.dice);
                    run.push(back, Event::Back(node as u32));
                }
            } else {
                self.live(run, node, hand.dice);
            }
        }
        for node in nodes {
            let shards = if self.moves {
                std::mem::take(&mut run.shards[node])
            } else {
                run.shards[node].clone()
            };
            for shard in shards {
                let shard = shard as usize;
                if self.moves {
                    run.listed[shard] = false;
                }
                if !self.is_alive(run, shard) {
                    continue;
                }
                let takes = law.draw(hand.dice) - notice;
                // What was announced in time is elsewhere by now, if it found a place.
                if notice > 0.0 && takes <= 0.0 && (!self.moves || self.moved(run, hand, shard)) {
                    run.tally.rebuilt += 1;
                    continue;
                }
                self.lose(run, shard, takes.max(0.0));
            }
        }
    }

    fn darken(&self, run: &mut Run, node: usize, lasts: f64, patience: f64) {
        let until = run.time + lasts;
        let of = &mut run.nodes[node];
        if !of.is_there || lasts <= 0.0 {
            return;
        }
        let was_dark = of.is_dark();
        of.dark_until = of.dark_until.max(until);
        if !was_dark {
            of.outages += 1;
            let outages = of.outages;
            for index in 0..run.shards[node].len() {
                let shard = run.shards[node][index] as usize;
                if !run.gone[shard] {
                    self.change(run, shard / self.input.n, |run, stripe| run.away[stripe] += 1);
                }
            }
            if patience.is_finite() {
                run.push(run.time + patience, Event::GivenUp(node as u32, outages));
            }
        }
        run.push(until, Event::Lit(node as u32));
    }

    /// A dark node is back. Rebuilds of its shards that are not done are no longer wanted.
    fn light(&self, run: &mut Run, node: usize) {
        let was_given_up = run.nodes[node].is_given_up;
        run.nodes[node].dark_until = 0.0;
        run.nodes[node].is_given_up = false;
        for index in 0..run.shards[node].len() {
            let shard = run.shards[node][index] as usize;
            if !run.gone[shard] {
                if was_given_up {
                    run.times[shard] += 1;
                }
                self.change(run, shard / self.input.n, |run, stripe| run.away[stripe] -= 1);
            }
        }
    }

    fn lose(&self, run: &mut Run, shard: usize, takes: f64) {
        let stripe = shard / self.input.n;
        let is_away = run.nodes[run.holder[shard] as usize].is_dark();
        self.change(run, stripe, |run, stripe| {
            run.gone[shard] = true;
            run.lost[stripe] += 1;
            if is_away {
                run.away[stripe] -= 1;
            }
        });
        run.times[shard] += 1;
        run.ready_at[shard] = run.time + takes;
        run.deepest = run.deepest.max(run.lost[stripe]);
        run.push(run.time + takes, Event::Ready(shard as u32, run.times[shard]));
        if run.lost[stripe] > self.spare() {
            run.tally.lost += 1;
            return;
        }
        // Whoever waits already is more urgent now: an entry more, and the old one is skipped when its turn comes.
        if self.service > 0.0 {
            for other in stripe * self.input.n..(stripe + 1) * self.input.n {
                if run.gone[other] && run.ready_at[other] <= run.time {
                    self.enqueue(run, other);
                }
            }
        }
    }

    fn enqueue(&self, run: &mut Run, shard: usize) {
        let spare = self.spare().saturating_sub(run.lost[shard / self.input.n]);
        let entry = (spare, run.ready_at[shard].to_bits(), shard as u32, run.times[shard]);
        run.queue.push(Reverse(entry));
    }

    /// Whether a rebuild is still wanted.
    fn is_due(&self, run: &Run, shard: usize, times: u32) -> bool {
        run.times[shard] == times
            && (run.gone[shard] || run.nodes[run.holder[shard] as usize].is_given_up)
            && run.lost[shard / self.input.n] <= self.spare()
    }

    /// A shard is rebuilt, in place or elsewhere; where too few can be read, or no place is found, it waits for who comes back.
    fn rebuild(&self, run: &mut Run, hand: &mut Hand<'_>, shard: usize, times: u32) {
        if !self.is_due(run, shard, times) {
            return;
        }
        let stripe = shard / self.input.n;
        let reachable = self.input.n as u16 - run.lost[stripe] - run.away[stripe];
        let holder = &run.nodes[run.holder[shard] as usize];
        // A shard that is lost while its node is not is written there again.
        let waits = !self.moves || !holder.is_given_up;
        let in_place = run.gone[shard] && run.listed[shard] && holder.is_there && waits;
        let can = usize::from(reachable) >= self.input.k
            && if in_place { !holder.is_dark() } else { self.moved(run, hand, shard) };
        if !can {
            run.stuck.push((shard as u32, times));
            return;
        }
        run.times[shard] += 1;
        run.tally.rebuilt += 1;
        if run.gone[shard] {
            self.change(run, stripe, |run, stripe| {
                run.gone[shard] = false;
                run.lost[stripe] -= 1;
            });
        }
    }

    /// Puts a shard on another node, if the rule of placement has one for it.
    fn moved(&self, run: &mut Run, hand: &mut Hand<'_>, shard: usize) -> bool {
        let Some(to) = self.place_again(run, hand, shard) else { return false };
        let from = run.holder[shard] as usize;
        let is_away = !run.gone[shard] && run.nodes[from].is_dark();
        if run.listed[shard] {
            run.shards[from].retain(|&other| other as usize != shard);
        }
        run.shards[to].push(shard as u32);
        run.listed[shard] = true;
        run.tally.moved += 1;
        self.change(run, shard / self.input.n, |run, stripe| {
            run.holder[shard] = to as u32;
            if is_away {
                run.away[stripe] -= 1;
            }
        });
        true
    }

    /// Changes something of a stripe, and keeps count of how stripes are.
    fn change(&self, run: &mut Run, stripe: usize, change: impl FnOnce(&mut Run, usize)) {
        let before = self.how(run, stripe);
        change(run, stripe);
        if stripe < run.below.len() {
            run.below[stripe] = self.is_below(run, stripe);
        }
        let after = self.how(run, stripe);
        for (count, (before, after)) in run.counts.iter_mut().zip(before.into_iter().zip(after)) {
            *count = *count + u64::from(after) - u64::from(before);
        }
    }

    /// Whether a stripe lacks shards, cannot be read, and is below its policy; nothing of one that is lost.
    fn how(&self, run: &Run, stripe: usize) -> [bool; 3] {
        let (lost, away) = (run.lost[stripe], run.away[stripe]);
        let lives = lost <= self.spare();
        [
            lives && lost > 0,
            lives && lost + away > self.spare(),
            lives && run.below.get(stripe).is_some_and(|below| *below),
        ]
    }

    /// Whether the whole shards of a stripe break its policy; without one, whether any is missing.
    fn is_below(&self, run: &Run, stripe: usize) -> bool {
        let Some(policy) = self.policy() else { return run.lost[stripe] > 0 };
        let all = stripe * self.input.n..(stripe + 1) * self.input.n;
        let sites: Vec<_> = all
            .filter(|&shard| !run.gone[shard])
            .map(|shard| &self.input.sites[run.holder[shard] as usize])
            .collect();
        check_placement(policy, self.input.k, &sites).is_err()
    }
}

impl Run {
    fn push(&mut self, at: f64, event: Event) {
        self.events.push(Reverse((at.to_bits(), event)));
    }

    /// From here on nobody looks at policies: they decide nothing here, and asking takes most of the time.
    pub(super) fn unwatched(mut self) -> Self {
        self.below = Vec::new();
        self
    }

    /// Lets time pass, and counts it.
    fn pass(&mut self, to: f64) {
        let span = to - self.time;
        let [short, unavailable, below] = self.counts.map(|count| count as f64 * span);
        self.tally.short += short;
        self.tally.unavailable += unavailable;
        self.tally.below += below;
        self.time = to;
    }

    /// Rebuilds that were stuck are tried again.
    fn wake(&mut self) {
        for (shard, times) in std::mem::take(&mut self.stuck) {
            self.push(self.time, Event::Ready(shard, times));
        }
    }
}
