//! What happened, as one hash over all of it and the last lines as text.

use protocol::time::Mono;
use std::collections::VecDeque;
use std::fmt;

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
        let line = format!("{:>9} {event}", now.0);
        self.hasher.update(line.as_bytes()).update(b"\n");
        self.events += 1;
        if self.tail.len() == TAIL_MAX {
            self.tail.pop_front();
        }
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
