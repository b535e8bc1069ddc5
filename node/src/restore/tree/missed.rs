//! What could not be restored as it was, counted by kind: the rest of a tree is worth having.

use super::shown;
use protocol::item::Meta;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

/// How often, and where and why the first time.
#[derive(Debug)]
struct Times {
    count: u64,
    first: String,
    error: Errno,
    advice: &'static str,
}

/// Counts, by what people call the kind.
#[derive(Debug, Default)]
pub(super) struct Missed(Mutex<BTreeMap<&'static str, Times>>);

impl Missed {
    pub(super) fn add(&self, kind: &'static str, advice: &'static str, meta: &Meta, error: Errno) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.entry(kind).and_modify(|times| times.count += 1).or_insert_with(|| Times {
            count: 1,
            first: shown(meta),
            error,
            advice,
        });
    }

    pub(super) fn owner(&self, meta: &Meta, error: Errno) {
        self.add("owners", "only root can restore owners", meta, error);
    }

    /// One line a kind.
    pub(super) fn notes(&self) -> Vec<String> {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |(kind, times): (&&str, &Times)| {
            let Times { count, first, error, advice } = times;
            let error = io::Error::from(*error);
            format!("{kind}: {count} not restored, the first at {first:?}: {error} ({advice})")
        };
        kinds.iter().map(line).collect()
    }
}
