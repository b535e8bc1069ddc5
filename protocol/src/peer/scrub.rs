//! Reading all that is held, one shard after the other ([`crate::scrub`] says how fast): what the disk lost or altered is found here
//! before somebody needs it.
//!
//! A shard whose bytes are not those of its name is *damaged*: that is stored, so that a restart does not forget it. Its promise
//! stands and its file stays, but it is served to nobody, proved to nobody, and shown to nobody as held, so that others rebuild it;
//! whoever puts it again heals it. It is read again every hour, because a disk that was away may come back. While requests bring
//! shards nothing is read, for a while. What all that is held comes to is checked on the way ([`super::sums`]).

use super::due::Due;
use super::facts::{Facts, Table, View, Write, decode};
use super::repair::Why;
use super::{Note, Output, Peer, Then};
use crate::id::ShardId;
use crate::message::ScrubStatus;
use crate::scrub::pause;
use crate::time::{Mono, Now, Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How long reading gives way to shards that arrive, at most.
const GIVE_WAY_MAX: Period = Period::seconds(60);
/// How long it waits for them each time.
const GIVE_WAY: Period = Period::seconds(1);
/// How often damaged shards are read again.
const AGAIN: Period = Period::seconds(3600);

/// How far reading has come, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRow {
    /// Up to this shard everything was read in this pass.
    pub after: Option<ShardId>,
    /// When the pass before ended.
    pub finished: Option<Wall>,
}

/// What is remembered of reading.
#[derive(Debug)]
pub(super) struct Scrub {
    row: ScrubRow,
    /// Whether that is news to what is stored.
    is_news: bool,
    /// When the next shard is to be read,
    at: Due,
    /// and since when it gives way.
    gives_way: Option<Mono>,
    /// How much later than it might have been the one was begun that is being read.
    late: Period,
    /// Which one is being read, and whether it is the next one of the pass.
    reading: Option<(ShardId, bool)>,
    /// To be read before the pass goes on.
    soon: BTreeSet<ShardId>,
    again: Mono,
    damaged: BTreeSet<ShardId>,
    healed: u64,
    read: u64,
}

impl Scrub {
    pub(super) fn load(now: Mono, facts: &dyn Facts) -> Result<Self, super::FactsError> {
        let row = facts.get(Table::Scrub, &[0])?;
        let row = row.map(|bytes| decode(Table::Scrub, &bytes)).transpose()?.unwrap_or_default();
        let mut damaged = BTreeSet::new();
        for (key, _) in facts.scan(Table::Damaged, &[], None, usize::MAX)? {
            damaged.extend(key.try_into().map(ShardId));
        }
        Ok(Self {
            row,
            is_news: false,
            at: Due::at(now.after(GIVE_WAY)),
            gives_way: None,
            late: Period(0),
            reading: None,
            soon: BTreeSet::new(),
            again: now.after(AGAIN),
            damaged,
            healed: 0,
            read: 0,
        })
    }

    pub(super) fn poll_timeout(&self) -> Mono {
        if self.reading.is_some() { Mono(u64::MAX) } else { self.at.by() }
    }

    /// How far reading came, where that is to be stored.
    pub(super) fn take_progress(&mut self) -> Option<Write> {
        std::mem::take(&mut self.is_news).then(|| Write::scrub(&self.row))
    }

    /// Up to which shard everything was read in this pass.
    pub(super) fn reached(&self) -> Option<ShardId> {
        self.row.after
    }

    /// Whether the bytes of a shard that is held are not there, as far as is known.
    pub(super) fn is_damaged(&self, shard: ShardId) -> bool {
        self.damaged.contains(&shard)
    }

    pub(super) fn is_any_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Something went wrong with a shard: it is read next.
    pub(super) fn suspect(&mut self, shard: ShardId, now: Mono) {
        self.soon.insert(shard);
        self.at.hurry(now);
    }

    /// The bytes of a shard come anew: what to write. They are read once they are there.
    pub(super) fn heal(&mut self, shard: ShardId, now: Mono) -> Option<Write> {
        self.damaged.remove(&shard).then(|| {
            self.healed += 1;
            self.soon.insert(shard);
            self.at.hurry(now.after(GIVE_WAY));
            Write::remove(Table::Damaged, shard.0.to_vec())
        })
    }

    /// A shard was dropped: what to write.
    pub(super) fn forget(&mut self, shard: ShardId) -> Option<Write> {
        self.soon.remove(&shard);
        self.damaged.remove(&shard).then(|| Write::remove(Table::Damaged, shard.0.to_vec()))
    }
}

impl Peer {
    /// Begins to read the next shard when it is time.
    pub(super) fn handle_scrub(&mut self, now: Now, facts: &dyn Facts) {
        if self.scrub.reading.is_some() || !self.scrub.at.is_due(now.mono) {
            return;
        }
        let since = *self.scrub.gives_way.get_or_insert(now.mono);
        if !self.receiving.is_empty() && now.mono < since.after(GIVE_WAY_MAX) {
            self.scrub.at = Due::at(now.mono.after(GIVE_WAY));
            return;
        }
        self.scrub.gives_way = None;
        if self.scrub.again <= now.mono {
            self.scrub.again = now.mono.after(AGAIN);
            let damaged = self.scrub.damaged.clone();
            self.scrub.soon.extend(damaged);
        }
        self.scrub.late = self.scrub.at.since(now.mono);
        // Whatever happens to this one, it goes on.
        self.scrub.at = Due::at(now.mono.after(AGAIN));
        let mut unsettled = Vec::new();
        while let Some(shard) = self.scrub.soon.pop_first() {
            match self.read_shard(facts, shard, false) {
                Some(true) => break,
                Some(false) => unsettled.push(shard),
                None => {}
            }
        }
        self.scrub.soon.extend(unsettled);
        if self.scrub.reading.is_some() {
            return;
        }
        loop {
            let after = self.scrub.row.after;
            let after = after.as_ref().map(|shard| &shard.0[..]);
            let Ok(rows) = facts.scan(Table::Held, &[], after, 1) else { return };
            let next = rows.first().and_then(|(key, _)| key[..].try_into().ok().map(ShardId));
            let Some(shard) = next else { break };
            self.scrub.row.after = Some(shard);
            if self.read_shard(facts, shard, true) == Some(true) {
                return;
            }
        }
        // Everything was read, if there was anything.
        self.sums.end_pass();
        if self.scrub.row.after.take().is_some() {
            self.scrub.row.finished = Some(now.wall);
            self.scrub.at = Due::at(now.mono.after(GIVE_WAY));
            self.scrub.is_news = true;
        } else {
            // What comes to a node that has nothing yet is read in time, too.
            self.scrub.at = Due::at(now.mono.after(self.config.scrub_period.min(AGAIN)));
        }
    }

    /// Has a shard read. False while it comes or goes; `None` when it is not held.
    fn read_shard(&mut self, facts: &dyn Facts, shard: ShardId, is_next: bool) -> Option<bool> {
        let view = View { facts, overlay: &self.overlay };
        let is_settled = !view.is_pending(Table::Held, &shard.0)
            && !self.lives.is_dropping(shard)
            && !self.is_arriving(shard);
        let held = view.held(shard).ok()??;
        if is_settled {
            self.scrub.reading = Some((shard, is_next));
            self.outputs.push_back(Output::Scrub { shard, len: held.len });
        }
        Some(is_settled)
    }

    /// A shard was read: `what` is wrong with it, if anything.
    pub(super) fn handle_scrubbed(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        shard: ShardId,
        what: Option<String>,
    ) {
        let Some((reading, is_next)) = self.scrub.reading.take() else { return };
        let view = View { facts, overlay: &self.overlay };
        let held = view.held(shard).ok().flatten();
        let len = held.as_ref().map_or(0, |held| u64::from(held.len));
        let used = self.used();
        self.scrub.read += len;
        // What is read out of turn delays the pass by no more than it must.
        let all = if is_next { used } else { u64::MAX };
        let pause = pause(len, all, self.config.scrub_period);
        // What was put off until the node woke for something else is made up for: a pass takes no longer.
        let made_up = self.scrub.late.min(Period(pause.0 / 2));
        self.scrub.at = Due::after(now.mono, Period(pause.0 - made_up.0), 2);
        let is_settled = reading == shard
            && !self.is_arriving(shard)
            && !view.is_pending(Table::Held, &shard.0)
            && !self.lives.is_dropping(shard);
        if let Some(held) = held.filter(|_| is_settled) {
            let (vault, stripe) = (held.vault, held.stripe);
            let is_new = what.is_some();
            let writes = match what {
                Some(what) if self.scrub.damaged.insert(shard) => {
                    self.outputs.push_back(Output::Note(Note::Damaged {
                        vault,
                        stripe,
                        shard,
                        what,
                    }));
                    vec![Write::damaged(shard, now.wall)]
                }
                None if self.scrub.damaged.remove(&shard) => {
                    self.scrub.healed += 1;
                    vec![Write::remove(Table::Damaged, shard.0.to_vec())]
                }
                _ => Vec::new(),
            };
            if !writes.is_empty() {
                self.persist(writes, None, Then::Nothing);
                if is_new {
                    self.look_at_stripe(now, facts, (vault, stripe), Why::Changed);
                }
            }
        }
        self.scrub.is_news |= is_next;
    }

    pub(super) fn scrub_status(&self) -> ScrubStatus {
        ScrubStatus {
            damaged: self.scrub.damaged.len() as u64,
            healed: self.scrub.healed,
            finished: self.scrub.row.finished,
            read: self.scrub.read,
            miscounted: self.sums.wrong(),
        }
    }
}
