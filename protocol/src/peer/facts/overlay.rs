//! Writes that are decided and not durable yet, laid over the facts: a peer reads what it decided.

use super::{Table, Write};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The token that wrote a row last, and what it wrote; `None` when it removed it.
type Decided = (u64, Option<Vec<u8>>);

/// What is decided and not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Overlay(BTreeMap<Table, BTreeMap<Vec<u8>, Decided>>);

impl Overlay {
    /// Remembers writes until [`Overlay::settle`] is told that `token` is durable or has failed.
    pub(crate) fn add(&mut self, token: u64, writes: &[Write]) {
        // What a sum comes to is known once it is durable.
        for write in writes.iter().filter(|write| !write.table.is_sum()) {
            let table = self.0.entry(write.table).or_default();
            table.insert(write.key.clone(), (token, write.value.clone()));
        }
    }

    /// What was decided of a row, if anything.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        Some(&self.0.get(&table)?.get(key)?.1)
    }

    /// The first row behind this one of which something was decided.
    pub(crate) fn first_after(&self, table: Table, after: Option<&[u8]>) -> Option<&Vec<u8>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = self.0.get(&table)?.range::<[u8], _>((from, Bound::Unbounded));
        rows.next().map(|(key, _)| key)
    }

    /// What was decided of rows whose keys begin with `prefix`, in order.
    pub(crate) fn range(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl Iterator<Item = (&Vec<u8>, &Option<Vec<u8>>)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let rows = self.0.get(&table).into_iter();
        let rows = rows.flat_map(move |table| table.range::<[u8], _>(from));
        rows.map(|(key, (_, value))| (key, value))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Whether everything decided is settled.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets the rows that `token` wrote last, and tells in which tables there were any.
    pub(crate) fn settle(&mut self, token: u64) -> Vec<Table> {
        let mut settled = Vec::new();
        self.0.retain(|&table, rows| {
            let known = rows.len();
            rows.retain(|_, (by, _)| *by != token);
            settled.extend((rows.len() < known).then_some(table));
            !rows.is_empty()
        });
        settled
    }
}
