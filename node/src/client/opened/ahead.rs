//! How far ahead of a reader things are fetched: not at all at first, and twice as far with every step that goes on
//! where the last one ended.

use std::ops::Range;

/// Most pieces that are fetched at once: with chunks of the usual size a quarter of a pack, which is then read whole.
const MAX: usize = 16;

/// How far a reader is, and what was begun for it.
#[derive(Debug)]
pub(in crate::client) struct Ahead {
    /// Everything before this is here or on its way.
    expected: usize,
    further: usize,
}

impl Ahead {
    /// A reader that begins at this piece.
    pub(in crate::client) fn new(begin: usize) -> Self {
        Self { expected: begin, further: 1 }
    }

    /// What is to be fetched when the reader needs `next`, of `count` pieces in all.
    pub(in crate::client) fn step(&mut self, next: usize, count: usize) -> Range<usize> {
        // Reads of one reader overtake each other a little.
        if next > self.expected || next + 2 * MAX < self.expected {
            *self = Self::new(next);
        }
        let begin = self.expected.min(count);
        if next + self.further / 2 < self.expected {
            return begin..begin;
        }
        self.expected = (begin + self.further).min(count);
        self.further = (2 * self.further).min(MAX);
        begin..self.expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_reads_on_gets_more_and_who_jumps_gets_one() {
        let mut ahead = Ahead::new(0);
        let steps: Vec<_> = (0..6).map(|next| ahead.step(next, 100)).collect();
        assert_eq!(steps, [0..1, 1..3, 3..7, 7..15, 15..15, 15..15]);
        assert_eq!(ahead.step(7, 100), 15..31);
        assert_eq!(ahead.step(6, 100), 31..31, "an earlier one comes late");
        assert_eq!(ahead.step(90, 100), 90..91);
        assert_eq!(ahead.step(2, 100), 2..3);
        assert_eq!(ahead.step(99, 100), 99..100);
        assert_eq!(ahead.step(99, 100), 100..100);
    }

    proptest! {
        #[test]
        fn everything_is_fetched_once_in_order(count in 0usize..200) {
            let mut ahead = Ahead::new(0);
            let mut fetched = 0;
            for next in 0..count {
                let range = ahead.step(next, count);
                prop_assert_eq!(range.start, fetched);
                fetched = range.end;
                prop_assert!(next < fetched && fetched <= (next + 3 * MAX).min(count));
            }
        }

        #[test]
        fn what_is_needed_was_fetched_wherever_it_lies(reads: Vec<prop::sample::Index>) {
            let mut ahead = Ahead::new(0);
            for read in reads {
                let next = read.index(500);
                let range = ahead.step(next, 500);
                prop_assert!(next < ahead.expected && range.end <= ahead.expected);
                prop_assert!(range.len() <= MAX);
            }
        }
    }
}
