//! The lives of held shards: begun with a receipt, extended when they are asked for again, and ended. What decides is
//! [`crate::life`]; here lives are read, stored, and looked after when it is time.
//!
//! - A shard that cools is looked at when its cooldown is over, and only then: vetoes and holds are stored once, not with
//!   every shard, and count when the life is read.
//! - Dropping takes three writes in turn: the life says that it is decided; the driver removes the file
//!   ([`Output::Drop`]); the rows go, and with them what was counted. A crash between two of them leaves the first to be
//!   finished by the next start. Nothing is dropped while stored state is in doubt or the lock clock is frozen.
//! - After each start the lives are swept once: those that cool or were to be dropped are found again, and a shard without
//!   a life (older stores had none, and making rows again leaves none) begins one anew.

use super::facts::{Facts, FactsError, Held, Table, View, Write, decode, held_key, key};
use super::{Decision, LaneId, Note, Output, Peer, Role, Then, Usage, refusal, tallies};
use crate::id::{ReleaseId, ShardId, StripeId, VaultId};
use crate::life::{DropDecision, Life, LifeError, State};
use crate::lock_clock::{LockTime, Reading};
use crate::message::{IDS_MAX, RELEASE_PAGE, Refusal, RefusalCode, Response};
use crate::planted::{Bug, is_planted};
use crate::policy::Lock;
use crate::record::Record;
use crate::release::Veto;
use crate::time::{Mono, Now, Period};
use std::collections::{BTreeMap, BTreeSet};

/// Shards decided upon in one go: others wait for the peer meanwhile.
const DROPS_MAX: usize = 64;
/// Shards swept in one go.
const SWEEP_PAGE: usize = 256;
/// Between two goes, while there is more to do.
const PAUSE: Period = Period(100);
/// What could not be dropped is tried again so much later.
const RETRY: Period = Period::seconds(60);

/// What is remembered of lives.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// When to look at which shard: its cooldown is over then, or it was decided to drop it.
    due: BTreeSet<(LockTime, ShardId)>,
    /// Shards that are to be dropped and are not gone yet.
    dropping: BTreeSet<ShardId>,
    /// Those of them that the driver is removing: what is asked of it once is not asked again before it has answered, or
    /// the second time could meet a shard that was put anew.
    leaving: BTreeSet<ShardId>,
    /// Behind which shard the sweep goes on; `None` once all were seen.
    sweep: Option<Vec<u8>>,
    /// When to look next.
    at: Mono,
}

/// What becomes of a shard whose time has come.
enum Verdict {
    /// It stays.
    Stays,
    /// It stays, and its life is stored as it is now.
    Stopped(Life),
    /// It cannot be said before then.
    Later(LockTime),
    /// It was decided just now.
    Decided(Life, DropDecision),
    /// It was decided before.
    Again(DropDecision),
    /// It is discharged, and the others do not have all of its stripe yet.
    Needed(Held),
}

impl Lives {
    /// What a start has to do for what is held.
    pub(super) fn begin(now: Mono, facts: &dyn Facts) -> Result<Self, FactsError> {
        let is_any = !facts.scan(Table::Held, &[], None, 1)?.is_empty();
        Ok(Self { sweep: is_any.then(Vec::new), at: now, ..Self::default() })
    }

    /// Whether nothing is left to be dropped by now.
    pub(super) fn is_done(&self, now: LockTime) -> bool {
        let is_due = self.due.first().is_some_and(|(until, _)| *until <= now);
        self.sweep.is_none() && !is_due && self.dropping.is_empty()
    }

    /// Whether a shard is on its way out: what was promised for it holds no more.
    pub(super) fn is_dropping(&self, shard: ShardId) -> bool {
        self.dropping.contains(&shard)
    }

    /// Whether all that is held was seen.
    pub(super) fn is_swept(&self) -> bool {
        self.sweep.is_none()
    }

    /// When to look next.
    pub(super) fn poll_timeout(&self) -> Mono {
        if self.sweep.is_some() || !self.due.is_empty() { self.at } else { Mono(u64::MAX) }
    }
}

/// The life of a held shard as all that is stored makes it; `None` where nothing says under which lock it is held.
pub(super) fn life_of(
    view: &View<'_>,
    shard: ShardId,
    held: &Held,
    now: Reading,
) -> Result<Option<Life>, FactsError> {
    let Some(mut life) = view.life(shard)? else { return begin_anew(view, held, now) };
    if let Some((release, _)) = life.cooling() {
        let guardians = life.lock().guardians.iter().flat_map(|guardians| guardians.of.clone());
        for guardian in guardians.collect::<BTreeSet<_>>() {
            // That the row is there is enough: it was verified when it came.
            if view.veto(held.vault, guardian, release)?.is_some() && !is_planted(Bug::Veto) {
                let _ = life.veto(&Veto { guardian, release });
            }
        }
    }
    Ok(Some(life))
}

/// A life whose row is missing is that of a shard which arrived now: whatever was promised ends no later.
fn begin_anew(view: &View<'_>, held: &Held, now: Reading) -> Result<Option<Life>, FactsError> {
    let record = view.record(held.vault, held.stripe)?.and_then(|signed| signed.verify().ok());
    // It was promised: what this holder promises at most by now does not matter.
    let longest = Period(u64::MAX);
    Ok(record.and_then(|record| Life::receive(held.stripe, &record.policy.lock, now, longest).ok()))
}

/// What extending a lock comes to.
pub(super) struct Extension {
    pub(super) life: Life,
    /// Whether it is to be stored.
    pub(super) is_news: bool,
}

/// Extends the lock of a held shard; `None` when the shard is on its way out. What this holder does not promise changes
/// nothing.
pub(super) fn extend(
    view: &View<'_>,
    shard: ShardId,
    held: &Held,
    lock: &Lock,
    now: Reading,
    longest: Period,
) -> Result<Option<Extension>, FactsError> {
    let stored = view.life(shard)?;
    // Where the record is missing as well, the one that it is asked for with says how it is kept.
    let known = life_of(view, shard, held, now)?;
    let begun = || Life::receive(held.stripe, lock, now, longest).ok();
    let Some(mut life) = known.or_else(begun) else { return Ok(None) };
    if life.extend(lock, now, longest) == Err(LifeError::Dropped) {
        return Ok(None);
    }
    // What could still fail to be stored is stored with this one.
    let is_pending = view.is_pending(Table::Life, &shard.0);
    Ok(Some(match stored {
        Some(stored) if life.is_about(&stored) => Extension { life: stored, is_news: is_pending },
        _ => Extension { life, is_news: true },
    }))
}

/// By how much less is held when a shard of this length is dropped.
fn dropped(len: u64) -> Usage {
    if is_planted(Bug::Usage) { Usage::default() } else { Usage::of_one(len) }
}

impl Peer {
    /// The record of a stripe, and the shard of it that is held here.
    pub(super) fn held_of(
        &self,
        view: &View<'_>,
        vault: VaultId,
        stripe: StripeId,
    ) -> Result<Option<(Record, ShardId, Held)>, Refusal> {
        let Some(signed) = view.record(vault, stripe)? else { return Ok(None) };
        let record = signed.verify().map_err(|e| refusal(RefusalCode::Internal, e.to_string()))?;
        let found = self.place_of(view, &record)?;
        let settled = found.filter(|(shard, _)| !view.is_pending(Table::Held, &shard.0));
        Ok(settled.map(|(shard, held)| (record, shard, held)))
    }

    /// A device of the vault asks for the locks of stripes again.
    pub(super) fn handle_extend(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
        stripes: &[StripeId],
    ) -> Decision {
        if role.device_of(vault).is_none() {
            let text = "only a device of the vault extends its locks";
            return Err(refusal(RefusalCode::NotAllowed, text));
        }
        if stripes.len() > IDS_MAX {
            let text = format!("{} ids, at most {IDS_MAX}", stripes.len());
            return Err(refusal(RefusalCode::Malformed, text));
        }
        let reading = self.read_lock_clock(now);
        let view = View { facts, overlay: &self.overlay };
        let longest = self.longest_lock(now, &view, vault)?;
        let (mut writes, mut answer) = (Vec::new(), Vec::new());
        for &stripe in stripes.iter().take(RELEASE_PAGE) {
            let extension = match self.held_of(&view, vault, stripe)? {
                Some((record, shard, held)) => {
                    let lock = &record.policy.lock;
                    let extension = extend(&view, shard, &held, lock, reading, longest)?;
                    extension.map(|extension| (shard, extension))
                }
                None => None,
            };
            answer.push(
                extension
                    .as_ref()
                    .map(|(_, Extension { life, .. })| life.locked_until().since(reading.at)),
            );
            if let Some((shard, Extension { life, is_news: true })) = &extension {
                writes.push(Write::life(*shard, life));
            }
        }
        let response = Response::Extended(answer);
        if writes.is_empty() {
            self.reply(lane, response);
        } else {
            writes.push(Write::promise(&mut self.lock_clock, now.mono));
            let response = Box::new(response);
            self.persist(writes, None, Then::Reply { lane, response, close: false });
        }
        Ok(())
    }

    /// Shards cool until then.
    pub(super) fn await_drops(&mut self, now: Now, due: Vec<(LockTime, ShardId)>) {
        let at = self.lock_clock.reading().at;
        for (until, shard) in due {
            let wait = until.since(at).max(PAUSE);
            self.lives.at = match self.lives.poll_timeout() {
                Mono(u64::MAX) => now.mono.after(wait),
                known => known.min(now.mono.after(wait)),
            };
            self.lives.due.insert((until, shard));
        }
    }

    /// Looks after lives, when it is time.
    pub(super) fn handle_lives(&mut self, now: Now, facts: &dyn Facts) {
        if self.lives.poll_timeout() > now.mono {
            return;
        }
        let reading = self.read_lock_clock(now);
        self.sweep(now, facts, reading);
        let stands = reading.is_frozen || self.forbids_drops();
        if !stands {
            self.drop_due(now, facts, reading);
        }
        let due = self.lives.due.first().filter(|_| !stands);
        let wait = due.map(|(until, _)| until.since(reading.at).max(PAUSE));
        let wait = if self.lives.sweep.is_some() { Some(PAUSE) } else { wait };
        self.lives.at = now.mono.after(wait.unwrap_or(RETRY));
    }

    /// Whether nothing may be dropped, whatever was decided.
    pub(super) fn forbids_drops(&self) -> bool {
        self.doubt.is_some() || self.promises.forbids_drops()
    }

    /// Sees what a page of the held shards needs.
    fn sweep(&mut self, now: Now, facts: &dyn Facts, reading: Reading) {
        let Some(after) = self.lives.sweep.clone() else { return };
        let rows = |table| facts.scan(table, &[], Some(&after), SWEEP_PAGE);
        // What cannot be read now is read at the next go.
        let (Ok(held), Ok(lives)) = (rows(Table::Held), rows(Table::Life)) else { return };
        let lives: BTreeMap<Vec<u8>, Vec<u8>> = lives.into_iter().collect();
        let view = View { facts, overlay: &self.overlay };
        let mut writes = Vec::new();
        for (row, bytes) in &held {
            let Ok(shard) = <[u8; 32]>::try_from(row.as_slice()).map(ShardId) else { continue };
            let life = match lives.get(row) {
                Some(bytes) if !view.is_pending(Table::Life, row) => {
                    decode::<Life>(Table::Life, bytes).map(Some)
                }
                _ => view.life(shard),
            };
            match life {
                Ok(Some(mut life)) => {
                    if self.promises.renews() {
                        // It was promised: what this holder promises at most by now does not matter.
                        let (lock, longest) = (life.lock().clone(), Period(u64::MAX));
                        if life.extend(&lock, reading, longest).is_ok() {
                            writes.push(Write::life(shard, &life));
                        }
                    }
                    if life.decided().is_some() {
                        if self.lives.dropping.insert(shard) {
                            self.lives.due.insert((LockTime::default(), shard));
                        }
                    } else if let Some((_, until)) = life.cooling() {
                        self.lives.due.insert((until, shard));
                    }
                }
                Ok(None) => {
                    let held = decode::<Held>(Table::Held, bytes);
                    if let Ok(Some(life)) = held.and_then(|held| begin_anew(&view, &held, reading))
                    {
                        writes.push(Write::life(shard, &life));
                    }
                }
                // A damaged row drops nothing.
                Err(_) => {}
            }
        }
        self.lives.sweep = match held.last() {
            Some((last, _)) if held.len() == SWEEP_PAGE => Some(last.clone()),
            _ => None,
        };
        if !writes.is_empty() {
            writes.push(Write::promise(&mut self.lock_clock, now.mono));
            self.persist(writes, None, Then::Nothing);
        }
        if self.lives.sweep.is_none() && self.promises.renews() {
            self.end_renewal();
        }
    }

    /// Decides about shards whose time has come.
    fn drop_due(&mut self, now: Now, facts: &dyn Facts, reading: Reading) {
        let mut shards = Vec::new();
        while let Some(&(until, shard)) = self.lives.due.first()
            && until <= reading.at
            && shards.len() < DROPS_MAX
        {
            self.lives.due.pop_first();
            shards.push(shard);
        }
        let (mut writes, mut decided) = (Vec::new(), Vec::new());
        for shard in shards {
            let verdict = self.verdict(&View { facts, overlay: &self.overlay }, shard, reading);
            match verdict {
                Ok(Verdict::Stays) => {
                    self.lives.dropping.remove(&shard);
                }
                Ok(Verdict::Stopped(life)) => writes.push(Write::life(shard, &life)),
                Ok(Verdict::Later(until)) => {
                    self.lives.due.insert((until, shard));
                }
                Err(_) => {
                    self.lives.due.insert((reading.at.after(RETRY), shard));
                }
                Ok(Verdict::Decided(life, decision)) => {
                    writes.push(Write::life(shard, &life));
                    self.lives.dropping.insert(shard);
                    decided.push((shard, decision));
                }
                Ok(Verdict::Again(decision)) => self.put_out_drop(shard, decision),
                Ok(Verdict::Needed(held)) => {
                    self.lives.due.insert((reading.at.after(RETRY), shard));
                    self.await_others(now, facts, &held);
                }
            }
        }
        if !writes.is_empty() {
            writes.push(Write::lock_clock(&self.lock_clock));
            self.persist(writes, None, Then::Drop(decided));
        }
    }

    fn verdict(
        &self,
        view: &View<'_>,
        shard: ShardId,
        reading: Reading,
    ) -> Result<Verdict, FactsError> {
        let is_pending = [Table::Held, Table::Life].iter().any(|&t| view.is_pending(t, &shard.0));
        if is_pending || self.is_arriving(shard) {
            return Ok(Verdict::Later(reading.at.after(PAUSE)));
        }
        let (Some(held), Some(stored)) = (view.held(shard)?, view.life(shard)?) else {
            return Ok(Verdict::Stays);
        };
        if let Some(decision) = stored.decided() {
            return Ok(Verdict::Again(decision));
        }
        let Some(mut life) = life_of(view, shard, &held, reading)? else {
            return Ok(Verdict::Stays);
        };
        let holds = view.holds(held.vault)?.holds;
        let is_needed = self.is_discharged(held.vault, &life) && !self.is_spared(view, &held)?;
        if let Some(decision) = life.tick(reading, &holds) {
            if is_needed && !is_planted(Bug::Discharge) {
                return Ok(Verdict::Needed(held));
            }
            return Ok(Verdict::Decided(life, decision));
        }
        Ok(match life.state(reading, &holds) {
            State::Cooling { until, .. } => Verdict::Later(until),
            _ if life == stored => Verdict::Stays,
            _ => Verdict::Stopped(life),
        })
    }

    /// That shards are to be dropped is durable: their files go.
    pub(super) fn begin_drops(&mut self, decided: Vec<(ShardId, DropDecision)>) {
        for (shard, decision) in decided {
            if self.forbids_drops() {
                // It is decided; once there is no doubt any more it is done.
                self.lives.due.insert((LockTime::default(), shard));
            } else {
                self.put_out_drop(shard, decision);
            }
        }
    }

    fn put_out_drop(&mut self, shard: ShardId, decision: DropDecision) {
        self.lives.dropping.insert(shard);
        if self.lives.leaving.insert(shard) {
            self.outputs.push_back(Output::Drop { shard, decision });
        }
    }

    /// It is not durable: nothing is decided.
    pub(super) fn cancel_drops(&mut self, decided: &[(ShardId, DropDecision)]) {
        let later = self.lock_clock.reading().at.after(RETRY);
        for (shard, _) in decided {
            self.lives.dropping.remove(shard);
            self.lives.due.insert((later, *shard));
        }
    }

    /// The file of a shard is gone, or could not be removed.
    pub(super) fn handle_dropped(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        shard: ShardId,
        gone: bool,
    ) {
        if !self.lives.leaving.remove(&shard) {
            return;
        }
        let view = View { facts, overlay: &self.overlay };
        let found = view.held(shard).and_then(|held| Ok((held, view.life(shard)?)));
        let (Ok((Some(held), Some(life))), true) = (found, gone) else {
            self.await_removal(shard);
            return;
        };
        let Some(decision) = life.decided() else { return };
        let (vault, stripe, len) = (held.vault, held.stripe, u64::from(held.len));
        // A clock that was set back makes no stay shorter than none.
        let received = held.receipt.verify().map_or(now.wall, |receipt| receipt.received);
        let at = now.wall.max(received);
        let mut writes = vec![
            Write::remove(Table::Held, held_key(shard)),
            Write::remove(Table::Life, shard.0.to_vec()),
            Write::remove(Table::Record, key(&[&vault.0, &stripe.0])),
            Write::less(vault, dropped(len)),
            tallies::went(vault, len, at),
        ];
        writes.extend(self.scrub.forget(shard));
        let release = decision.release();
        self.persist(writes, None, Then::Gone { shard, vault, len, release });
    }

    /// The rows of a dropped shard are gone: nothing is left of it.
    pub(super) fn end_drop(
        &mut self,
        shard: ShardId,
        vault: VaultId,
        len: u64,
        release: ReleaseId,
    ) {
        self.usage.change(vault, Usage::default(), dropped(len));
        self.lives.dropping.remove(&shard);
        self.outputs.push_back(Output::Note(Note::Dropped { vault, shard, release }));
    }

    /// Its file or its rows could not be removed: it is tried again. Until its rows are gone it is counted.
    pub(super) fn await_removal(&mut self, shard: ShardId) {
        let later = self.lock_clock.reading().at.after(RETRY);
        self.lives.due.insert((later, shard));
    }
}
