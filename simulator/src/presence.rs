//! Who could hear whom, by what truly happened: for how long at most a node can have found another one silent. Nodes count less where
//! they were cut off themselves. Repair is compared with it: what is only away for a short while is not lost.

use crate::network::End;
use crate::world::World;
use protocol::time::{Mono, Period};

/// Larger meshes are not looked at in this way: it takes the square of their size at each fault.
const NODES_MAX: usize = 512;

/// What one node can know of another one.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    /// They have reached each other for so long.
    linked: Period,
    /// Before that they had not, while the first one reached anybody.
    silent: Period,
}

/// Who could hear whom.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    pairs: Vec<Vec<Pair>>,
    seen: Mono,
}

impl World {
    /// Something is about to change that decides who hears whom.
    pub(crate) fn note_presence(&mut self) {
        let (count, now) = (self.nodes(), self.now());
        let passed = Period(now.0 - self.presence.seen.0);
        if count > NODES_MAX {
            return;
        }
        if self.presence.pairs.is_empty() {
            self.presence.pairs = vec![vec![Pair::default(); count]; count];
        }
        if passed.0 == 0 {
            return;
        }
        // Whatever changes says so before: since then it was as it is now, and who was dark was so until now.
        let is_there: Vec<bool> = (0..count).map(|node| self.is_there(node)).collect();
        let is_open = self.network.is_open();
        for here in 0..count {
            let is_linked = |there: usize| {
                here != there
                    && is_there[here]
                    && is_there[there]
                    && (is_open || self.is_linked(here, there))
            };
            let linked: Vec<bool> = (0..count).map(is_linked).collect();
            let hears_anybody = linked.iter().any(|linked| *linked);
            for (there, is_linked) in linked.into_iter().enumerate() {
                let pair = &mut self.presence.pairs[here][there];
                if is_linked {
                    pair.linked = Period(pair.linked.0 + passed.0);
                    // Whom it reaches it has heard by then, though messages are lost.
                    if pair.linked.0 >= self.patience.0 / 2 {
                        pair.silent = Period(0);
                    }
                } else {
                    pair.linked = Period(0);
                    if hears_anybody {
                        pair.silent = Period(pair.silent.0 + passed.0);
                    }
                }
            }
        }
        self.presence.seen = now;
    }

    fn is_there(&self, node: usize) -> bool {
        self.is_up(node) && !self.network.is_dark(self.presence.seen, End::Node(node))
    }

    fn is_linked(&self, here: usize, there: usize) -> bool {
        let (from, to, now) = (End::Node(here), End::Node(there), self.presence.seen);
        self.network.reaches(now, from, to)
            && self.network.reaches(now, to, from)
            && self.network.is_fair(from, to)
    }

    /// For how long at most a node can have found another one silent, but for the time that passes between being heard and being
    /// out of reach; `None` in meshes that are too large to be looked at.
    pub(crate) fn silence(&mut self, here: usize, there: usize) -> Option<Period> {
        self.note_presence();
        Some(self.presence.pairs.get(here)?.get(there)?.silent)
    }
}
