//! Large buffers that are used again. The system's allocator keeps what was freed in one arena a thread, so
//! that packs, each of 16 MiB, would hold several times the memory in use.

use std::sync::{Mutex, PoisonError};

/// Buffers kept for later: as many as are in use at once.
const KEPT: usize = 8;

/// A pool of buffers.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer with room for `capacity` bytes.
    pub(super) fn take(&self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.take_filled(capacity);
        buffer.clear();
        buffer
    }

    /// A buffer of `len` bytes, whatever they are.
    pub(super) fn take_filled(&self, len: usize) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = kept.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= len);
        let smallest = fitting.min_by_key(|(_, buffer)| buffer.capacity()).map(|(i, _)| i);
        let mut buffer = smallest.map_or_else(Vec::new, |i| kept.swap_remove(i));
        drop(kept);
        if buffer.capacity() < len {
            return vec![0; len];
        }
        buffer.resize(len, 0);
        buffer
    }

    /// Takes a buffer back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(buffer);
        if kept.len() > KEPT {
            kept.sort_by_key(|buffer| std::cmp::Reverse(buffer.capacity()));
            kept.truncate(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_the_smallest_that_fits() {
        let buffers = Buffers::default();
        let (small, large) = (vec![1; 1000], vec![2; 100_000]);
        let (at_small, at_large) = (small.as_ptr(), large.as_ptr());
        buffers.give(large);
        buffers.give(small);
        let again = buffers.take_filled(900);
        assert_eq!((again.as_ptr(), again.len()), (at_small, 900));
        let again = buffers.take(50_000);
        assert_eq!((again.as_ptr(), again.len()), (at_large, 0));
        assert_eq!(buffers.take_filled(10), [0; 10]);
    }

    #[test]
    fn no_more_are_kept_than_are_of_use() {
        let buffers = Buffers::default();
        (0..100).for_each(|i| buffers.give(Vec::with_capacity(i)));
        assert_eq!(buffers.0.lock().unwrap().len(), KEPT);
    }
}
