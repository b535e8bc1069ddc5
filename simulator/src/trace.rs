//! What happened, as one hash over all of it and the last lines as text.

use protocol::time::Mono;
use std::collections::VecDeque;
use std::fmt::{self, Write};

/// Lines kept as text: enough to see what led to a failure.
const TAIL_MAX: usize = 64;

/// The trace of a run.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    events: u64,
    tail: VecDeque<String>,
}

impl Trace {
    /// Adds an event.
    pub(crate) fn add(&mut self, now: Mono, event: fmt::Arguments<'_>) {
        // The oldest line's memory is used again: there are millions of them.
        let is_full = self.tail.len() == TAIL_MAX;
        let mut line = if is_full { self.tail.pop_front() } else { None }.unwrap_or_default();
        line.clear();
        // A string takes whatever is written to it.
        let _ = writeln!(line, "{:>9} {event}", now.0);
        self.hasher.update(line.as_bytes());
        line.pop();
        self.events += 1;
        self.tail.push_back(line);
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash of all events so far, as hex: two runs with the same one were the same run.
    #[must_use]
    pub fn digest(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// The last events, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }
}
