//! Facts in memory: what tests and simulations store.

use super::{Facts, FactsError, Rows, Table, Write};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Tables in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryFacts(BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>);

impl MemoryFacts {
    /// Makes writes durable.
    pub fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            let table = self.0.entry(write.table).or_default();
            match write.value {
                Some(more) if write.table.is_sum() => {
                    let known = table.get(&write.key).map(Vec::as_slice);
                    let sum = write.table.sum(known, &more);
                    table.insert(write.key, sum)
                }
                Some(value) => table.insert(write.key, value),
                None => table.remove(&write.key),
            };
        }
    }
}

impl Facts for MemoryFacts {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, FactsError> {
        Ok(self.0.get(&table).and_then(|table| table.get(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Rows, FactsError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let rows = self.0.get(&table).into_iter();
        let rows = rows.flat_map(|table| table.range::<[u8], _>((from, Bound::Unbounded)));
        let rows = rows.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
