//! Facts in memory: what tests and simulations store.

use super::{Facts, FactsError, Rows, Table, Write};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Longest key that lies in the tree itself: two ids and a number.
const SHORT_MAX: usize = 72;

/// The key of a row. In simulations millions of them are compared all the time, and each that lay elsewhere would have to be fetched for that.
#[derive(Debug, Clone)]
enum Key {
    Short(u8, [u8; SHORT_MAX]),
    Long(Box<[u8]>),
}

impl From<Vec<u8>> for Key {
    fn from(key: Vec<u8>) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..key.len()) {
            Some(place) => {
                place.copy_from_slice(&key);
                Self::Short(key.len() as u8, bytes)
            }
            None => Self::Long(key.into_boxed_slice()),
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl Key {
    fn bytes(&self) -> &[u8] {
        self.borrow()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The rows of a table.
type Stored = BTreeMap<Key, Box<[u8]>>;

/// Tables in memory, each at the place of its number.
#[derive(Debug, Clone, Default)]
pub struct MemoryFacts(Vec<Stored>);

impl MemoryFacts {
    fn table(&self, table: Table) -> Option<&Stored> {
        self.0.get(table as usize)
    }

    /// Makes writes durable.
    pub fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            let place = write.table as usize;
            if self.0.len() <= place {
                self.0.resize_with(place + 1, Stored::new);
            }
            let table = &mut self.0[place];
            match write.value {
                Some(more) if write.table.is_sum() => {
                    let known = table.get(&write.key[..]).map(AsRef::as_ref);
                    let sum = write.table.sum(known, &more);
                    table.insert(write.key.into(), sum.into_boxed_slice())
                }
                Some(value) => table.insert(write.key.into(), value.into_boxed_slice()),
                None => table.remove(&write.key[..]),
            };
        }
    }
}

impl Facts for MemoryFacts {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, FactsError> {
        Ok(self.table(table).and_then(|table| table.get(key)).map(|value| value.to_vec()))
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
        let rows = self.table(table).into_iter();
        let rows = rows.flat_map(|table| table.range::<[u8], _>((from, Bound::Unbounded)));
        let rows = rows.take_while(|(key, _)| key.bytes().starts_with(prefix)).take(limit);
        Ok(rows.map(|(key, value)| (key.bytes().to_vec(), value.to_vec())).collect())
    }
}
