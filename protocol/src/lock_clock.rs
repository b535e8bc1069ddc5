//! The lock clock: by what a holder counts locks and cooldowns.
//!
//! - It is the holder's own and stored. It advances with monotonic time while the node runs, and never goes back. No wall
//!   clock of this machine is asked, so that setting one forward frees nothing.
//! - Time in which the node did not run is made up once after the start, and never further than the middle one of the
//!   *other operators* says: signed answers, one voice per operator, a majority of those known and two at least. Who is
//!   not heard counts as saying that no time has passed. As long as at most half of them lie, the reading is never
//!   ahead of true time by more than twice the error of honest clocks, however many starts there were.
//! - What went by before a promise is never made up after it, or the promise would end early. So a promise
//!   ([`LockClock::promise`]) forgoes all that was not counted till then. How much that is (the machine may have slept unnoticed) the
//!   others must say in answers to questions that were asked afterwards; as long as they have not, nothing at all is made up.
//! - What may be made up is earned by running: as much as was counted, [`ALLOWANCE_MAX`] at most. So if *all* others
//!   lie, and the node is started over and over, its clock runs at most twice as fast as the time it really ran.
//! - A lone node, or one that hears too few, counts its own running time and says so ([`Standing::Alone`]).
//! - When no majority agrees, or the reading is ahead of what the others say by more than [`TOLERANCE`], the clock
//!   *freezes*: it stands, nothing expires, uploads go on, and the alarm shows. An agreement thaws it, or the node's own
//!   operator ([`LockClock::thaw`]); a restart does not.
//!
//! Time that was not counted keeps data for longer; no error here keeps it for a shorter time.
//!
//! ```text
//! stored    = version(u8 = 1) reading(n) allowance(n) boot(16) mono(n) origin(0 | 1 n) uncounted(u8) frozen(0 | 1 alarm)
//! uncounted = 0 nothing | 1 owed | 2 forgone
//! alarm     = 0 operators(n)  no majority agrees | 1 by(n)  ahead     n: a varint of the codec, times in milliseconds
//! ```

mod voices;

#[cfg(test)]
mod tests;

pub use voices::{TimeStatement, Voice, VoiceError};

use crate::codec::{self, CodecError};
use crate::id::OperatorId;
use crate::planted::{Bug, is_planted};
use crate::time::{Mono, Period, Wall};
use serde::{Deserialize, Serialize};
use std::fmt;
use voices::{Hearing, Voices};

/// How far apart clocks may be and still agree.
pub const TOLERANCE: Period = Period::seconds(3600);
/// Most that can be made up at once.
pub const ALLOWANCE_MAX: Period = Period::days(30);
/// For how long an answer counts.
pub const VOICE_LIFE: Period = Period::seconds(3600);
/// Most nodes whose answers are kept.
pub const VOICES_MAX: usize = 1024;
/// Version of the stored form.
const VERSION: u8 = 1;
/// Longest stored form, in bytes.
const LEN_MAX: usize = 128;

/// A point on a holder's lock clock: milliseconds counted since its first start. Means nothing elsewhere.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct LockTime(pub u64);

impl LockTime {
    /// This point plus a span; saturates.
    #[must_use]
    pub const fn after(self, period: Period) -> Self {
        Self(self.0.saturating_add(period.0))
    }

    /// How long it is from an earlier point to this one; nothing when that one is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Period {
        Period(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for LockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Period(self.0).fmt(f)
    }
}

/// What the lock clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time: promises count from here.
    pub at: LockTime,
    /// Whether the clock is frozen: nothing expires.
    pub is_frozen: bool,
}

/// Names a stretch of monotonic time: the boot of the machine, or one run of the program where that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

/// Why a lock clock is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Alarm {
    /// No majority of the operators heard agrees on the time.
    Apart {
        /// So many were heard.
        operators: u32,
    },
    /// This node counted more time than the others say has passed.
    Ahead {
        /// So much more.
        by: Period,
    },
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apart { operators } => {
                write!(f, "the clocks of {operators} other operators do not agree")
            }
            Self::Ahead { by } => write!(
                f,
                "this node counted {} s more than other operators say have passed",
                by.0 / 1000
            ),
        }
    }
}

/// How a lock clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It counts, and other operators agree.
    Agreed {
        /// So much less was counted than has passed by what they say.
        behind: Period,
    },
    /// It counts this node's running time and makes nothing up.
    Alone {
        /// Other operators heard.
        heard: u32,
        /// How many it takes.
        needed: u32,
    },
    /// It stands, and nothing expires.
    Frozen(Alarm),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreed { behind } => {
                write!(f, "counts, {} s behind other operators", behind.0 / 1000)
            }
            Self::Alone { heard, needed } => write!(
                f,
                "counts its own running time: {heard} other operators heard, {needed} needed"
            ),
            Self::Frozen(alarm) => write!(f, "FROZEN, nothing expires: {alarm}"),
        }
    }
}

/// What is stored of a lock clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    reading: LockTime,
    /// What may be made up.
    allowance: Period,
    boot: BootId,
    /// Monotonic time of `boot` up to which was counted, in milliseconds.
    mono: u64,
    /// What the others' clocks showed when the reading was 0, or would have shown without what was forgone. From the first
    /// agreement on it only moves forward: were it taken anew at each start, small errors would add up.
    origin: Option<Wall>,
    uncounted: Uncounted,
    frozen: Option<Alarm>,
}

/// What becomes of time that went by and was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Uncounted {
    /// Nothing is known to be missing.
    Nothing,
    /// The next agreement makes it up.
    Owed,
    /// It is never made up: something was promised since. How much it was is not known yet.
    Forgone,
}

impl State {
    /// Time goes by that is not counted.
    fn owe(&mut self) {
        if self.uncounted == Uncounted::Nothing {
            self.uncounted = Uncounted::Owed;
        }
    }
}

/// A holder's lock clock. See the module for its rules.
#[derive(Debug, Clone)]
pub struct LockClock {
    operator: OperatorId,
    state: State,
    voices: Voices,
    standing: Standing,
    /// The last promise, or the start: what was asked later tells what went by before.
    promised: Mono,
}

impl LockClock {
    /// The clock of a node of this operator that starts for the first time.
    #[must_use]
    pub fn new(operator: OperatorId, boot: BootId, mono: Mono) -> Self {
        let (reading, allowance) = (LockTime::default(), Period::default());
        let (origin, uncounted, frozen) = (None, Uncounted::Nothing, None);
        let state = State { reading, allowance, boot, mono: mono.0, origin, uncounted, frozen };
        Self::with(operator, state)
    }

    /// The clock as it was stored. In the same boot nothing is lost; in another one the time between is not known.
    pub fn resume(
        stored: &[u8],
        operator: OperatorId,
        boot: BootId,
        mono: Mono,
    ) -> Result<Self, CodecError> {
        let (&version, body) =
            stored.split_first().ok_or_else(|| CodecError::Malformed("empty".into()))?;
        if version != VERSION {
            return Err(CodecError::Version { found: version, known: VERSION });
        }
        let mut state: State = codec::decode_canonical(body, LEN_MAX)?;
        state.allowance = state.allowance.min(ALLOWANCE_MAX);
        // Monotonic time that went back is that of another run, or of a machine set back to an image of itself.
        if state.boot != boot || mono.0 < state.mono {
            state = State { boot, mono: mono.0, ..state };
            state.owe();
        }
        Ok(Self::with(operator, state))
    }

    fn with(operator: OperatorId, state: State) -> Self {
        let standing = match state.frozen {
            Some(alarm) => Standing::Frozen(alarm),
            None => Standing::Alone { heard: 0, needed: 2 },
        };
        let promised = Mono(state.mono);
        Self { operator, state, voices: Voices::default(), standing, promised }
    }

    /// What to store, now and then: what was counted since is lost in a crash of the machine, and kept longer for.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(codec::encode(&self.state));
        bytes
    }

    /// What it shows.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading { at: self.state.reading, is_frozen: self.state.frozen.is_some() }
    }

    /// How it is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The later one of what a wall clock shows and what the others' clocks show by all that is known here: a wall clock
    /// that was set back brings nothing back that has expired.
    #[must_use]
    pub fn latest(&self, wall: Wall) -> Wall {
        let behind = match self.standing {
            Standing::Agreed { behind } => behind,
            Standing::Alone { .. } | Standing::Frozen(_) => Period::default(),
        };
        let counted = Period(self.state.reading.0.saturating_add(behind.0));
        self.state.origin.map_or(wall, |origin| wall.max(origin.after(counted)))
    }

    /// Something is promised that counts from the reading. To be stored with the promise.
    pub fn promise(&mut self, mono: Mono) {
        self.promised = self.promised.max(mono);
        self.state.uncounted = Uncounted::Forgone;
    }

    /// What nodes of this operator said counts no more.
    pub fn forget(&mut self, operator: OperatorId) {
        self.voices.forget(operator);
    }

    /// Takes in what another node, asked at `asked`, says of the time. Nodes of this node's own operator have no voice.
    pub fn hear(&mut self, asked: Mono, mono: Mono, voice: &Voice) {
        if voice.operator() != self.operator {
            self.voices.hear(asked, mono, voice);
        }
    }

    /// Counts the time since the last call, by the monotonic time of this boot, which stands while the machine sleeps.
    /// `operators` is how many other operators have nodes that this node knows, heard or not.
    pub fn tick(&mut self, mono: Mono, operators: usize) {
        let passed = Period(mono.0.saturating_sub(self.state.mono));
        self.state.mono = self.state.mono.max(mono.0);
        if self.state.frozen.is_none() {
            let allowance = self.state.allowance.0.saturating_add(passed.0);
            self.state.reading = self.state.reading.after(passed);
            self.state.allowance = Period(allowance).min(ALLOWANCE_MAX);
        }
        self.voices.forget_old(mono);
        self.standing = match self.voices.judge(Mono(0), mono, operators) {
            // Silence proves nothing: it neither freezes nor thaws.
            Hearing::TooFew { heard, needed } => match self.state.frozen {
                Some(alarm) => Standing::Frozen(alarm),
                None => Standing::Alone { heard: heard as u32, needed: needed as u32 },
            },
            Hearing::Apart { heard } => self.freeze(Alarm::Apart { operators: heard as u32 }),
            Hearing::Agreed { low, middle, high } => {
                self.forgo(mono, operators);
                self.agree(low, middle, high)
            }
        };
    }

    /// What went by before the last promise is forgone for good once others who were asked after it say how much it was.
    fn forgo(&mut self, mono: Mono, operators: usize) {
        if self.state.uncounted != Uncounted::Forgone {
            return;
        }
        let after = Mono(self.promised.0.saturating_add(1));
        // The later one of what may be true: what goes too far is not made up. Far apart it may be a liar's.
        if let Hearing::Agreed { low, high, .. } = self.voices.judge(after, mono, operators)
            && high.0.saturating_sub(low.0) <= TOLERANCE.0 / 2
        {
            let begun = Wall(high.0.saturating_sub(self.state.reading.0));
            self.state.origin = self.state.origin.max(Some(begun));
            self.state.uncounted = Uncounted::Nothing;
        }
    }

    fn freeze(&mut self, alarm: Alarm) -> Standing {
        self.state.frozen = Some(alarm);
        self.state.owe();
        Standing::Frozen(alarm)
    }

    fn agree(&mut self, low: Wall, middle: Wall, high: Wall) -> Standing {
        let reading = self.state.reading.0;
        let origin = *self.state.origin.get_or_insert(Wall(high.0.saturating_sub(reading)));
        let passed = |wall: Wall| wall.0.saturating_sub(origin.0);
        let ahead = Period(reading.saturating_sub(passed(middle)));
        if ahead > TOLERANCE {
            return self.freeze(Alarm::Ahead { by: ahead });
        }
        self.state.frozen = None;
        if self.state.uncounted == Uncounted::Owed {
            self.state.uncounted = Uncounted::Nothing;
            let missing = Period(passed(low).saturating_sub(reading));
            let is_bounded = !is_planted(Bug::ClockBound);
            let made_up = if is_bounded { missing.min(self.state.allowance) } else { missing };
            self.state.reading = self.state.reading.after(made_up);
            self.state.allowance = Period(self.state.allowance.0.saturating_sub(made_up.0));
        }
        let behind = Period(passed(middle).saturating_sub(self.state.reading.0));
        Standing::Agreed { behind }
    }

    /// The node's operator has looked into the alarm: the clock goes on from where it stands, makes up nothing, and takes the
    /// next agreement for the first. While the others still disagree it freezes again.
    pub fn thaw(&mut self) {
        self.state.frozen = None;
        self.state.origin = None;
        if self.state.uncounted == Uncounted::Owed {
            self.state.uncounted = Uncounted::Nothing;
        }
        self.standing = Standing::Alone { heard: 0, needed: 2 };
    }
}
