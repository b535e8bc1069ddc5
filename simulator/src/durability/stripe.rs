//! One stripe through a mission: what can happen to its shards, and the event loop that plays it. Loss is fewer than
//! k whole shards at one moment. Time is in years.
//!
//! What happens comes from *causes*: Poisson processes, each with a set of shards that it hits together (one shard for a
//! disk, all those of a provider for a provider), and from wear: lifetimes of single shards of any law. A shard
//! lost is whole again after a time of its cause's law, which has noticing, waiting and transfer in it, and takes
//! the same place: replacements fail together as those did that they replace. Sampling methods built on this loop:
//! `plain`, `biasing` and `splitting`, beside this file.

use super::dice::Dice;
use super::law::{Law, LawError};
use std::collections::BTreeMap;

/// Most shards of a stripe: a set of them is one word.
pub const SHARDS_MAX: usize = 64;
/// Most causes.
pub const CAUSES_MAX: usize = 4096;

/// How many lost shards are repaired at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repairers {
    /// All of them: each has a rebuild of its own.
    Unlimited,
    /// One after another.
    One,
    /// So many; not zero.
    Some(usize),
}

impl Repairers {
    /// How many of `lost` shards are being repaired.
    #[must_use]
    pub fn busy(self, lost: usize) -> usize {
        match self {
            Self::Unlimited => lost,
            Self::One => lost.min(1),
            Self::Some(most) => lost.min(most),
        }
    }
}

/// What a cause does to its shards.
#[derive(Debug, Clone, PartialEq)]
pub enum Harm {
    /// They are gone, and whole again after the time. A shard that is rebuilt within `notice` is not lost at all: the holder
    /// still answered that long.
    Lost {
        /// From the loss, or from the notice of it, until the shard is rebuilt.
        repair: Law,
        /// How long before the loss it was announced; 0 for none.
        notice: f64,
    },
    /// They cannot be reached for a time, and come back whole.
    Dark {
        /// For how long.
        lasts: Law,
    },
}

impl Harm {
    /// Whether shards are lost by it.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

/// A Poisson process of harm.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// What it is, for people.
    pub name: String,
    /// The shards it hits, as bits.
    pub shards: u64,
    /// Times a year.
    pub rate: f64,
    /// What it does.
    pub harm: Harm,
}

/// Lifetimes of single shards' disks, all new at the start, replaced by new ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Wear {
    /// How long a disk lives.
    pub lifetime: Law,
    /// How long until its shard is whole again.
    pub repair: Law,
}

/// A stripe and what can happen to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Shards.
    pub n: usize,
    /// Shards needed.
    pub k: usize,
    /// What happens.
    pub causes: Vec<Cause>,
    /// Lifetimes beside the causes.
    pub wear: Option<Wear>,
    /// How many repairs run at once.
    pub repairers: Repairers,
}

/// A model that cannot be meant.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// k of n is none.
    #[error("{k} of {n} shards: 1 <= k <= n <= {SHARDS_MAX} is expected")]
    Code {
        /// Shards needed.
        k: usize,
        /// Shards.
        n: usize,
    },
    /// Too many causes.
    #[error("{0} causes, at most {CAUSES_MAX} allowed")]
    Causes(usize),
    /// A rate or a set of shards of a cause is wrong.
    #[error("{0}: a rate of at least 0 a year and shards of this stripe are expected")]
    Cause(String),
    /// A law.
    #[error("{0}: {1}")]
    Law(String, LawError),
    /// No repair at all would run.
    #[error("0 repairs at once: nothing would ever be repaired; give a repair rate of 0 for that")]
    Repairers,
}

impl Model {
    /// A stripe whose shards fail each alone, at one rate, and are repaired with one law.
    #[must_use]
    pub fn independent(n: usize, k: usize, rate: f64, repair: &Law, repairers: Repairers) -> Self {
        let cause = |shard: usize| Cause {
            name: format!("shard {shard}"),
            shards: 1 << shard,
            rate,
            harm: Harm::Lost { repair: repair.clone(), notice: 0.0 },
        };
        Self { n, k, causes: (0..n).map(cause).collect(), wear: None, repairers }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn check(&self) -> Result<(), ModelError> {
        if self.k == 0 || self.k > self.n || self.n > SHARDS_MAX {
            return Err(ModelError::Code { k: self.k, n: self.n });
        }
        if self.causes.len() > CAUSES_MAX {
            return Err(ModelError::Causes(self.causes.len()));
        }
        if self.repairers == Repairers::Some(0) {
            return Err(ModelError::Repairers);
        }
        for cause in &self.causes {
            let outside = cause.shards & !self.all();
            if !cause.rate.is_finite() || cause.rate < 0.0 || outside != 0 {
                return Err(ModelError::Cause(cause.name.clone()));
            }
            let (law, notice) = match &cause.harm {
                Harm::Lost { repair, notice } => (repair, *notice),
                Harm::Dark { lasts } => (lasts, 0.0),
            };
            law.check().map_err(|error| ModelError::Law(cause.name.clone(), error))?;
            if !notice.is_finite() || notice < 0.0 {
                return Err(ModelError::Cause(cause.name.clone()));
            }
        }
        if let Some(wear) = &self.wear {
            for law in [&wear.lifetime, &wear.repair] {
                law.check().map_err(|error| ModelError::Law("wear".into(), error))?;
            }
        }
        Ok(())
    }

    /// Shards.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Shards that may be lost.
    #[must_use]
    pub fn spare(&self) -> u32 {
        (self.n - self.k) as u32
    }

    /// All shards, as bits.
    #[must_use]
    pub fn all(&self) -> u64 {
        if self.n == 64 { u64::MAX } else { (1 << self.n) - 1 }
    }

    /// The one rate of repair of a model in which all is exponential and nothing goes dark.
    ///
    /// # Errors
    /// What is not.
    pub fn exponential_repair(&self) -> Result<f64, &'static str> {
        if self.wear.is_some() {
            return Err("wear");
        }
        let mut found = None;
        for cause in &self.causes {
            let Harm::Lost { repair, notice } = &cause.harm else { return Err("an outage") };
            let rate = repair.rate().ok_or("a repair time")?;
            if *notice > 0.0 || found.is_some_and(|other: f64| other.to_bits() != rate.to_bits()) {
                return Err(if *notice > 0.0 { "notice" } else { "a mix of repair times" });
            }
            found = Some(rate);
        }
        Ok(found.unwrap_or(0.0))
    }
}

/// What one mission was like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mission {
    /// When the stripe was lost.
    pub lost_at: Option<f64>,
    /// Years in which fewer than k shards could be reached, up to the loss or the end.
    pub unavailable: f64,
    /// Years in which not all shards were whole, up to the loss or the end.
    pub short: f64,
    /// Shards rebuilt.
    pub rebuilt: u64,
    /// Failures and repairs played.
    pub events: u64,
}

/// A stripe at a moment.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// The moment.
    pub(super) time: f64,
    /// Shards lost, as bits.
    pub(super) lost: u64,
    /// Of those, shards whose repair waits for its turn.
    waiting: u64,
    /// Of those, shards whose repair is due, and waits for shards to read.
    held: u64,
    /// Shards out of reach.
    pub(super) dark: u64,
    /// When the next repair is done, and whose.
    repair: (f64, usize),
    /// When the next dark shard is back.
    pub(super) light: f64,
    /// When the next lifetime ends, and whose.
    end: (f64, usize),
    done: [f64; SHARDS_MAX],
    lit: [f64; SHARDS_MAX],
    ends: [f64; SHARDS_MAX],
    /// Since when each shard's disk lives.
    born: [f64; SHARDS_MAX],
    /// The cause by which each lost shard was lost; past the causes for wear.
    by: [u16; SHARDS_MAX],
    pub(super) seen: Mission,
    /// For how long which shards were lost, where that is asked for.
    pub(super) spans: Option<BTreeMap<u64, f64>>,
}

/// The repairs that run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    /// Shards whose repair is memoryless, as bits: when it is done may be drawn anew at any time.
    pub(super) memoryless: u64,
    /// How often one of these is done, times a year.
    pub(super) rate: f64,
    /// When the first of the others is done, and whose; never, where there is none.
    pub(super) known: (f64, usize),
}

/// Why the loop stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The time was over.
    Time,
    /// As many shards are lost as asked.
    Lost,
    /// A cause that loses shards struck while all were whole: which. Nothing has been done about it.
    Struck(usize),
}

/// The loop, with what it looks up prepared.
#[derive(Debug)]
pub(super) struct Player<'a> {
    pub(super) model: &'a Model,
    /// All causes that are played, together, times a year.
    pub(super) rate: f64,
    /// Of each cause, the rate of its repairs where they are memoryless, else zero.
    memoryless: Vec<f64>,
    /// Walker's alias table: the share of each slot, and who has the rest.
    alias: Vec<(f64, u16)>,
}

impl<'a> Player<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self::of(model, |_| true)
    }

    /// Plays some of the causes only.
    pub(super) fn of(model: &'a Model, is_played: impl Fn(&Cause) -> bool) -> Self {
        let rate_of = |cause: &Cause| if is_played(cause) { cause.rate } else { 0.0 };
        let rate: f64 = model.causes.iter().map(rate_of).sum();
        let count = model.causes.len();
        let mut shares: Vec<f64> =
            model.causes.iter().map(|cause| rate_of(cause) * count as f64 / rate).collect();
        let mut alias = vec![(1.0, 0); count];
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|&i| shares[i] < 1.0);
        while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
            alias[less] = (shares[less], more as u16);
            shares[more] -= 1.0 - shares[less];
            if shares[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        for (index, slot) in alias.iter_mut().enumerate() {
            if slot.0 >= 1.0 {
                slot.1 = index as u16;
            }
        }
        let memoryless = |cause: &Cause| match &cause.harm {
            Harm::Lost { repair, notice } if *notice == 0.0 => repair.rate().unwrap_or(0.0),
            _ => 0.0,
        };
        Self { model, rate, memoryless: model.causes.iter().map(memoryless).collect(), alias }
    }

    /// All shards whole, disks new.
    pub(super) fn start(&self, dice: &mut Dice) -> State {
        let mut state = State {
            time: 0.0,
            lost: 0,
            waiting: 0,
            held: 0,
            dark: 0,
            repair: (f64::INFINITY, 0),
            light: f64::INFINITY,
            end: (f64::INFINITY, 0),
            done: [f64::INFINITY; SHARDS_MAX],
            lit: [0.0; SHARDS_MAX],
            ends: [f64::INFINITY; SHARDS_MAX],
            born: [0.0; SHARDS_MAX],
            by: [0; SHARDS_MAX],
            seen: Mission::default(),
            spans: None,
        };
        if let Some(wear) = &self.model.wear {
            for end in &mut state.ends[..self.model.n] {
                *end = wear.lifetime.draw(dice);
            }
            self.find_end(&mut state);
        }
        state
    }

    /// Lifetimes that go on are drawn again under the condition that they came so far, so that two copies of a state
    /// have futures of their own. The law of the future stays the same.
    pub(super) fn forget_future(&self, state: &mut State, dice: &mut Dice) {
        let Some(wear) = &self.model.wear else { return };
        for shard in 0..self.model.n {
            if state.lost >> shard & 1 == 0
                && let Some(rest) = wear.lifetime.draw_rest(state.time - state.born[shard], dice)
            {
                state.ends[shard] = state.time + rest;
            }
        }
        self.find_end(state);
    }

    /// The repairs that run.
    pub(super) fn running(&self, state: &State) -> Running {
        let mut running = Running { memoryless: 0, rate: 0.0, known: (f64::INFINITY, 0) };
        let mut left = state.lost & !state.waiting;
        while left != 0 {
            let shard = left.trailing_zeros() as usize;
            let rate = self.memoryless_rate(state, shard);
            if rate > 0.0 {
                running.memoryless |= 1 << shard;
                running.rate += rate;
            } else if state.done[shard] < running.known.0 {
                running.known = (state.done[shard], shard);
            }
            left &= left - 1;
        }
        running
    }

    /// How often a shard's repair is done, where that is memoryless; else zero.
    pub(super) fn memoryless_rate(&self, state: &State, shard: usize) -> f64 {
        if state.held >> shard & 1 == 1 {
            return 0.0;
        }
        self.memoryless.get(usize::from(state.by[shard])).copied().unwrap_or(0.0)
    }

    #[expect(clippy::cast_sign_loss, reason = "a share of a length is not negative")]
    /// One of the causes, as often as its rate says.
    pub(super) fn pick(&self, dice: &mut Dice) -> usize {
        let at = dice.share() * self.alias.len() as f64;
        let slot = (at as usize).min(self.alias.len() - 1);
        let (share, other) = self.alias[slot];
        if at - (slot as f64) < share { slot } else { usize::from(other) }
    }

    #[expect(clippy::float_cmp, reason = "the first of some times is one of them")]
    /// Plays until `until`, or until `most` shards are lost. With `announce`, stops also whenever a cause that loses shards strikes
    /// a stripe that is whole.
    pub(super) fn play(
        &self,
        state: &mut State,
        dice: &mut Dice,
        until: f64,
        most: u32,
        announce: bool,
    ) -> Stop {
        if state.lost.count_ones() >= most {
            return Stop::Lost;
        }
        let has_causes = self.rate > 0.0;
        let next = |now: f64, dice: &mut Dice| {
            if has_causes { now + dice.exponential() / self.rate } else { f64::INFINITY }
        };
        let mut strike = next(state.time, dice);
        loop {
            let first = strike.min(state.repair.0).min(state.end.0).min(state.light);
            if first >= until {
                self.pass(state, until);
                return Stop::Time;
            }
            self.pass(state, first);
            state.seen.events += 1;
            if first == state.light {
                // Before a repair that waits for it.
                self.relight(state);
            } else if first == state.repair.0 {
                self.repaired(state, state.repair.1, dice);
            } else if first == strike {
                let cause = self.pick(dice);
                if announce && state.lost == 0 && self.model.causes[cause].harm.is_loss() {
                    return Stop::Struck(cause);
                }
                strike = next(first, dice);
                self.strike(state, cause, dice);
            } else {
                let shard = state.end.1;
                state.ends[shard] = f64::INFINITY;
                self.lose(state, shard, self.model.causes.len(), dice);
                self.find_end(state);
            }
            if state.lost.count_ones() >= most {
                return Stop::Lost;
            }
        }
    }

    /// Lets time pass, and counts it.
    fn pass(&self, state: &mut State, to: f64) {
        if state.lost | state.dark != 0 {
            let span = to - state.time;
            if state.lost != 0 {
                state.seen.short += span;
                if let Some(spans) = &mut state.spans {
                    *spans.entry(state.lost).or_default() += span;
                }
            }
            if self.reachable(state) < self.model.k {
                state.seen.unavailable += span;
            }
        }
        state.time = to;
    }

    fn reachable(&self, state: &State) -> usize {
        self.model.n - (state.lost | state.dark).count_ones() as usize
    }

    /// A cause does its harm to what is whole of its shards.
    pub(super) fn strike(&self, state: &mut State, cause: usize, dice: &mut Dice) {
        let mut hit = self.model.causes[cause].shards & !state.lost;
        match &self.model.causes[cause].harm {
            Harm::Lost { .. } => {
                while hit != 0 {
                    self.lose(state, hit.trailing_zeros() as usize, cause, dice);
                    hit &= hit - 1;
                }
            }
            Harm::Dark { lasts } => {
                let until = state.time + lasts.draw(dice);
                while hit != 0 {
                    let shard = hit.trailing_zeros() as usize;
                    state.lit[shard] = state.lit[shard].max(until);
                    state.dark |= 1 << shard;
                    hit &= hit - 1;
                }
                self.find_light(state);
            }
        }
    }

    /// From which law, and with how much notice, a shard is repaired that this cause lost.
    fn repair_of(&self, cause: usize) -> (&Law, f64) {
        match (self.model.causes.get(cause).map(|cause| &cause.harm), &self.model.wear) {
            (Some(Harm::Lost { repair, notice }), _) => (repair, *notice),
            (_, Some(wear)) => (&wear.repair, 0.0),
            _ => (&Law::Fixed(0.0), 0.0),
        }
    }

    fn lose(&self, state: &mut State, shard: usize, cause: usize, dice: &mut Dice) {
        let (law, notice) = self.repair_of(cause);
        let turn = self.model.repairers.busy(usize::MAX)
            > (state.lost & !state.waiting).count_ones() as usize;
        if turn {
            let takes = law.draw(dice) - notice;
            if notice > 0.0 && takes <= 0.0 {
                return;
            }
            state.done[shard] = state.time + takes;
            if state.done[shard] < state.repair.0 {
                state.repair = (state.done[shard], shard);
            }
        } else {
            state.waiting |= 1 << shard;
        }
        state.by[shard] = cause as u16;
        state.lost |= 1 << shard;
        state.dark &= !(1 << shard);
        if state.ends[shard] != f64::INFINITY {
            state.ends[shard] = f64::INFINITY;
            self.find_end(state);
        }
    }

    /// A repair that is due is done, unless too few shards can be reached: then it waits for the next that is back.
    pub(super) fn repaired(&self, state: &mut State, shard: usize, dice: &mut Dice) {
        if state.dark != 0 && self.reachable(state) < self.model.k {
            state.done[shard] = state.light;
            state.held |= 1 << shard;
            self.find_repair(state);
            return;
        }
        state.lost &= !(1 << shard);
        state.held &= !(1 << shard);
        state.done[shard] = f64::INFINITY;
        state.seen.rebuilt += 1;
        if let Some(wear) = &self.model.wear {
            state.born[shard] = state.time;
            state.ends[shard] = state.time + wear.lifetime.draw(dice);
            self.find_end(state);
        }
        if state.waiting != 0 {
            let next = state.waiting.trailing_zeros() as usize;
            state.waiting &= !(1 << next);
            let (law, notice) = self.repair_of(usize::from(state.by[next]));
            state.done[next] = state.time + (law.draw(dice) - notice).max(0.0);
        }
        self.find_repair(state);
    }

    /// Who is back by now is within reach.
    pub(super) fn relight(&self, state: &mut State) {
        let mut dark = state.dark;
        while dark != 0 {
            let shard = dark.trailing_zeros() as usize;
            if state.lit[shard] <= state.time {
                state.dark &= !(1 << shard);
                state.lit[shard] = 0.0;
            }
            dark &= dark - 1;
        }
        self.find_light(state);
    }

    fn find_repair(&self, state: &mut State) {
        state.repair = earliest(state.lost & !state.waiting, &state.done);
    }

    fn find_light(&self, state: &mut State) {
        state.light = earliest(state.dark, &state.lit).0;
    }

    fn find_end(&self, state: &mut State) {
        state.end = earliest(self.model.all() & !state.lost, &state.ends);
    }

    /// One mission from the start.
    pub(super) fn mission(&self, years: f64, dice: &mut Dice) -> Mission {
        let mut state = self.start(dice);
        if self.play(&mut state, dice, years, self.model.spare() + 1, false) == Stop::Lost {
            state.seen.lost_at = Some(state.time);
        }
        state.seen
    }

    /// One mission: adds for how long which shards were lost.
    pub(super) fn spans(&self, years: f64, dice: &mut Dice, spans: &mut BTreeMap<u64, f64>) {
        let mut state = self.start(dice);
        state.spans = Some(std::mem::take(spans));
        self.play(&mut state, dice, years, self.model.spare() + 1, false);
        *spans = state.spans.unwrap_or_default();
    }
}

fn earliest(mut set: u64, times: &[f64; SHARDS_MAX]) -> (f64, usize) {
    let mut first = (f64::INFINITY, 0);
    while set != 0 {
        let shard = set.trailing_zeros() as usize;
        if times[shard] < first.0 {
            first = (times[shard], shard);
        }
        set &= set - 1;
    }
    first
}
