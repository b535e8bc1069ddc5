//! A node's disk: rows and shards that are durable, writes that are not yet, and bytes received into
//! temporary storage. What is not durable is gone after a crash, whether or not that was about to be reported; of the bytes of a shard that
//! was being written a first part may lie under its name, which no row knows of.

use protocol::id::ShardId;
use protocol::peer::{LaneId, MemoryFacts, Write};
use protocol::time::{Mono, Period};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// How a disk behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// The shortest time that one write takes to be durable.
    pub write_min: Period,
    /// The longest.
    pub write_max: Period,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { write_min: Period(1), write_max: Period(20) }
    }
}

/// A write that is not durable yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) token: u64,
    pub(crate) writes: Vec<Write>,
    pub(crate) shard: Option<(LaneId, ShardId)>,
}

/// A node's disk.
#[derive(Debug, Default)]
pub struct Disk {
    facts: MemoryFacts,
    shards: BTreeMap<ShardId, Vec<u8>>,
    /// What a crash left of shards whose writes were under way.
    torn: BTreeMap<ShardId, Vec<u8>>,
    temporary: BTreeMap<LaneId, Vec<u8>>,
    queue: VecDeque<Pending>,
    busy_until: Mono,
}

impl Disk {
    /// The rows that are durable.
    #[must_use]
    pub fn facts(&self) -> &MemoryFacts {
        &self.facts
    }

    /// The bytes that lie under a shard's name: of one that is durable all, unless they were damaged.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<&[u8]> {
        self.shards.get(&shard).or_else(|| self.torn.get(&shard)).map(Vec::as_slice)
    }

    /// Whether a shard is durable.
    #[must_use]
    pub fn has(&self, shard: ShardId) -> bool {
        self.shards.contains_key(&shard)
    }

    /// Shards that are durable.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Shards that have come and are not durable yet.
    #[must_use]
    pub fn unfinished_shards(&self) -> usize {
        self.temporary.len()
    }

    /// Bytes of the shards that are durable.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Whether everything that was to be written is durable, or has failed.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// The names of what is durable.
    pub(crate) fn names(&self) -> Vec<ShardId> {
        self.shards.keys().copied().collect()
    }

    /// Puts received bytes into temporary storage.
    pub(crate) fn receive(&mut self, lane: LaneId, bytes: Vec<u8>) {
        self.temporary.insert(lane, bytes);
    }

    /// Whether what came on a lane is to be durable.
    pub(crate) fn is_awaited(&self, lane: LaneId) -> bool {
        self.queue.iter().any(|write| write.shard.is_some_and(|(of, _)| of == lane))
    }

    /// Empties temporary storage of what came on a lane.
    pub(crate) fn discard(&mut self, lane: LaneId) {
        self.temporary.remove(&lane);
    }

    /// Begins a write that takes so long once those before it are done; says when it will be durable.
    pub(crate) fn begin(
        &mut self,
        now: Mono,
        takes: Period,
        token: u64,
        writes: Vec<Write>,
        shard: Option<(LaneId, ShardId)>,
    ) -> Mono {
        self.queue.push_back(Pending { token, writes, shard });
        self.busy_until = self.busy_until.max(now).after(takes);
        self.busy_until
    }

    /// The oldest write, whose time has come.
    pub(crate) fn next(&mut self) -> Option<Pending> {
        self.queue.pop_front()
    }

    /// A write is durable, whole.
    pub(crate) fn keep(&mut self, writes: Vec<Write>, shard: Option<(LaneId, ShardId)>) {
        self.facts.apply(writes);
        if let Some((lane, shard)) = shard
            && let Some(bytes) = self.temporary.remove(&lane)
        {
            self.torn.remove(&shard);
            self.shards.insert(shard, bytes);
        }
    }

    /// A write has failed, whole.
    pub(crate) fn fail(&mut self, shard: Option<(LaneId, ShardId)>) {
        if let Some((lane, _)) = shard {
            self.temporary.remove(&lane);
        }
    }

    /// The bytes of a shard are gone.
    pub(crate) fn remove(&mut self, shard: ShardId) {
        self.shards.remove(&shard);
        self.torn.remove(&shard);
    }

    /// The bytes of a shard are others.
    pub(crate) fn damage(&mut self, shard: ShardId) {
        if let Some(byte) = self.shards.get_mut(&shard).and_then(|bytes| bytes.first_mut()) {
            *byte ^= 0x55;
        }
    }

    /// How many writes are under way.
    pub(crate) fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Loses what is not durable. Of the write under way so many bytes of its shard stay, if it has so many; a file takes
    /// the place of another one as a whole or not at all.
    pub(crate) fn crash(&mut self, torn: u64) {
        if let Some((lane, shard)) = self.queue.front().and_then(|write| write.shard)
            && let Some(mut bytes) = self.temporary.remove(&lane)
            && !self.has(shard)
        {
            bytes.truncate((torn % (bytes.len() as u64 + 1)) as usize);
            self.torn.insert(shard, bytes);
        }
        self.queue.clear();
        self.temporary.clear();
        self.busy_until = Mono(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::peer::{Facts, Table};

    fn row(byte: u8) -> Vec<Write> {
        vec![Write { table: Table::Held, key: vec![byte], value: Some(vec![byte]) }]
    }

    #[test]
    fn writes_are_durable_in_order_and_a_crash_loses_the_rest() {
        let mut disk = Disk::default();
        let shard = ShardId([1; 32]);
        disk.receive(LaneId(5), vec![7]);
        let first = disk.begin(Mono(100), Period(10), 1, row(1), Some((LaneId(5), shard)));
        let second = disk.begin(Mono(100), Period(10), 2, row(2), None);
        assert_eq!((first, second), (Mono(110), Mono(120)));
        assert_eq!((disk.shards(), disk.unfinished_shards()), (0, 1));
        let Pending { token, writes, shard: arrived } = disk.next().unwrap();
        assert_eq!(token, 1);
        disk.keep(writes, arrived);
        assert_eq!(disk.shard(shard), Some(&[7][..]));
        disk.damage(shard);
        assert_ne!(disk.shard(shard), Some(&[7][..]));
        disk.receive(LaneId(6), vec![8]);
        disk.crash(0);
        assert!(disk.next().is_none() && disk.is_idle());
        assert_eq!((disk.unfinished_shards(), disk.shards()), (0, 1));
        assert_eq!(disk.facts().get(Table::Held, &[1]).unwrap(), Some(vec![1]));
        assert_eq!(disk.facts().get(Table::Held, &[2]).unwrap(), None);
    }

    #[test]
    fn a_crash_leaves_a_first_part_of_the_shard_that_was_being_written_and_the_next_write_all_of_it()
     {
        let (mut disk, shard) = (Disk::default(), ShardId([1; 32]));
        let write = |disk: &mut Disk, bytes: &[u8]| {
            disk.receive(LaneId(5), bytes.to_vec());
            disk.begin(Mono(0), Period(10), 1, row(1), Some((LaneId(5), shard)));
        };
        write(&mut disk, &[1, 2, 3]);
        disk.crash(2);
        assert_eq!(disk.shard(shard), Some(&[1, 2][..]));
        assert!(!disk.has(shard) && disk.bytes() == 0 && disk.names().is_empty());
        assert_eq!(disk.facts().get(Table::Held, &[1]).unwrap(), None);
        write(&mut disk, &[1, 2, 3]);
        let Pending { writes, shard: arrived, .. } = disk.next().unwrap();
        disk.keep(writes, arrived);
        assert!(disk.has(shard) && disk.shard(shard) == Some(&[1, 2, 3][..]));
        // What is whole stays so.
        write(&mut disk, &[1, 2, 3]);
        disk.crash(1);
        assert_eq!(disk.shard(shard), Some(&[1, 2, 3][..]));
        disk.remove(shard);
        assert_eq!(disk.shard(shard), None);
    }
}
