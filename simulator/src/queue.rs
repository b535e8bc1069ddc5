//! What is going to happen, in the order of its time; of one time, in the order in which it was caused.

use protocol::time::Mono;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events that are not over. Each lies in a place of its own, and what is put in order are the times alone: these are small.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    order: BinaryHeap<Reverse<(Mono, u64, usize)>>,
    places: Vec<Option<T>>,
    free: Vec<usize>,
    caused: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let (order, places, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Self { order, places, free, caused: 0 }
    }
}

impl<T> Queue<T> {
    /// Something is going to happen.
    pub(crate) fn add(&mut self, at: Mono, event: T) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(event);
        self.caused += 1;
        self.order.push(Reverse((at, self.caused, place)));
    }

    /// Takes what happens next, unless it lies behind the deadline.
    pub(crate) fn next(&mut self, deadline: Mono) -> Option<(Mono, T)> {
        let &Reverse((at, _, place)) = self.order.peek()?;
        if at > deadline {
            return None;
        }
        self.order.pop();
        self.free.push(place);
        Some((at, self.places[place].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn what_is_caused_happens_by_its_time_and_then_in_order(
            steps in prop::collection::vec((0u64..20, 0u64..30), 1..200),
        ) {
            let (mut queue, mut model) = (Queue::default(), BTreeMap::new());
            for (number, (at, deadline)) in steps.into_iter().enumerate() {
                queue.add(Mono(at), number);
                model.insert((Mono(at), number), number);
                let first = model.first_entry().filter(|first| first.key().0 <= Mono(deadline));
                let first = first.map(|first| (first.key().0, first.remove()));
                prop_assert_eq!(queue.next(Mono(deadline)), first);
            }
            let left: Vec<usize> = std::iter::from_fn(|| queue.next(Mono(99))).map(|next| next.1).collect();
            prop_assert_eq!(left, model.into_values().collect::<Vec<_>>());
        }
    }
}
