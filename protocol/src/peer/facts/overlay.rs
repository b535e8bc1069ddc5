//! Writes that are decided and not durable yet, laid over the facts: a peer reads what it decided.

use super::{Table, Write};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The token that wrote a row last, and what it wrote; `None` when it removed it.
type Decided = (u64, Option<Vec<u8>>);

/// What is decided and not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    rows: BTreeMap<Table, BTreeMap<Vec<u8>, Decided>>,
    /// The rows that each token wrote.
    written: BTreeMap<u64, Vec<(Table, Vec<u8>)>>,
}

impl Overlay {
    /// Remembers writes until [`Overlay::settle`] is told that `token` is durable or has failed.
    pub(crate) fn add(&mut self, token: u64, writes: &[Write]) {
        // What a sum comes to is known once it is durable.
        for write in writes.iter().filter(|write| !write.table.is_sum()) {
            let table = self.rows.entry(write.table).or_default();
            table.insert(write.key.clone(), (token, write.value.clone()));
            self.written.entry(token).or_default().push((write.table, write.key.clone()));
        }
    }

    /// What was decided of a row, if anything.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        Some(&self.rows.get(&table)?.get(key)?.1)
    }

    /// The first row behind this one of which something was decided.
    pub(crate) fn first_after(&self, table: Table, after: Option<&[u8]>) -> Option<&Vec<u8>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = self.rows.get(&table)?.range::<[u8], _>((from, Bound::Unbounded));
        rows.next().map(|(key, _)| key)
    }

    /// What was decided of rows whose keys begin with `prefix`, in order.
    pub(crate) fn range(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl Iterator<Item = (&Vec<u8>, &Option<Vec<u8>>)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let rows = self.rows.get(&table).into_iter();
        let rows = rows.flat_map(move |table| table.range::<[u8], _>(from));
        rows.map(|(key, (_, value))| (key, value))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Whether everything decided is settled.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.written.is_empty()
    }

    /// Forgets the rows that `token` wrote last, and tells which those were.
    pub(crate) fn settle(&mut self, token: u64) -> Vec<(Table, Vec<u8>)> {
        let mut settled = self.written.remove(&token).unwrap_or_default();
        settled.retain(|(table, key)| {
            let Some(rows) = self.rows.get_mut(table) else { return false };
            // Somebody may have written it since.
            let is_last = rows.get(key).is_some_and(|(by, _)| *by == token);
            if is_last {
                rows.remove(key);
            }
            if rows.is_empty() {
                self.rows.remove(table);
            }
            is_last
        });
        settled
    }
}
