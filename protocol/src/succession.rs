//! Which key speaks for an operator: a new one after it was changed, lost or stolen.
//!
//! ```text
//! operator = its first key ──signs──► step 1 ──► step 2 ──► …    each names the key that speaks from then on, and its heirs
//!                                       └─ heirs named? then `need` of them sign the next step, and the key alone cannot
//! line      = steps
//! step      = body, the named key's consent, voices: (place among who may sign u8, signature)…
//! body      = version(u8) Succession
//! signature = 64 bytes by the first key, or codec bytes of (line, 64 bytes by the line's last key)
//! signed    = as ever (crate::sign), or under a line "strewn spoken\0" name of its last step, context "\0" version(u8) body
//! ```
//! An operator *is* its first key ([`OperatorId`]), whoever speaks for it: agreements, domains and accounts go by that, so a mesh that has heard
//! of a change in part counts one operator, never two. Every statement of an operator shows the line of the key that signed it, and so can be checked by whoever
//! knows nothing but the operator. What ends an earlier key is that somebody knows a longer line ([`Line::check`]).
//!
//! Heirs must be named while the key is still its owner's: of two lines that part, the one counts that was known first.

use crate::codec::{self, Blob, CodecError};
use crate::id::{OperatorId, PublicKey};
use crate::planted::{Bug, is_planted};
use crate::sign::key::{SIGNATURE_LEN, SecretKey, is_signed, is_usable};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

mod draft;
#[cfg(test)]
mod tests;

pub use draft::{Change, Draft};

/// Most steps of a line. With [`HEIRS_MAX`] it bounds what a signature takes up, and the work of checking it.
pub const STEPS_MAX: usize = 8;
/// Most heirs.
pub const HEIRS_MAX: usize = 8;
/// Longest time for which an earlier key's word is still taken after a step.
pub const GRACE_MAX: Period = Period::days(90);
/// Longest encoding of a line with the signature by its last key, in bytes: so many that the longest line fits.
pub const LINE_LEN_MAX: usize = 8 << 10;

/// What the heirs, or the key before, sign.
const VOICE: &str = "strewn succession";
/// What the key signs that a step names: that its owner has it.
const CONSENT: &str = "strewn succession consent";
/// What a key signs that speaks under a line. That names the line, so that nothing said under one was said under another.
const SPOKEN: &str = "strewn spoken";
const VERSION: u8 = 1;

/// Why a line, or what was said under it, does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessionError {
    /// Encoding.
    #[error("a succession: {0}")]
    Codec(#[from] CodecError),
    /// It cannot be meant, or does not follow from what it shows.
    #[error("the succession does not count: {0}")]
    Broken(&'static str),
    /// Not as many have signed as must.
    #[error("{have} of the {need} signatures that it takes are there")]
    Missing {
        /// How many have.
        have: usize,
        /// How many must.
        need: usize,
    },
    /// Somebody signs who has no say.
    #[error("the key {0} has no say in this succession")]
    NoVoice(PublicKey),
    /// It was signed with a key that was succeeded.
    #[error(
        "signed with an earlier key of operator {operator}, which speaks with key {number} now: take the new line or certificate of that operator"
    )]
    Succeeded {
        /// Whose.
        operator: OperatorId,
        /// The number of the step by which another key speaks.
        number: usize,
    },
    /// Two different steps from one key.
    #[error(
        "step {number} of operator {operator}'s succession is not the one that is known here: compare with its people by voice who speaks for it"
    )]
    Forked {
        /// Whose.
        operator: OperatorId,
        /// The step.
        number: usize,
    },
}

/// Who may name the next key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heirs {
    need: u8,
    of: Vec<PublicKey>,
}

impl Heirs {
    /// So many of these. Of nobody none are needed: then the key itself names the next.
    pub fn new(need: u8, of: impl IntoIterator<Item = PublicKey>) -> Result<Self, SuccessionError> {
        let mut of: Vec<PublicKey> = of.into_iter().collect();
        of.sort_unstable();
        if of.windows(2).any(|two| two[0] == two[1]) {
            return Err(SuccessionError::Broken("an heir is named twice"));
        }
        let heirs = Self { need, of };
        heirs.check()?;
        Ok(heirs)
    }

    /// How many must sign.
    #[must_use]
    pub fn need(&self) -> usize {
        usize::from(self.need)
    }

    /// Of whom.
    #[must_use]
    pub fn of(&self) -> &[PublicKey] {
        &self.of
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    fn check(&self) -> Result<(), SuccessionError> {
        let wrong = if self.of.len() > HEIRS_MAX {
            "more than 8 heirs"
        } else if !self.of.is_sorted_by(|one, next| one < next) {
            "an heir is named twice, or they are not in order"
        } else if self.need() > self.of.len() || (self.need == 0) != self.of.is_empty() {
            "it takes more heirs than there are, or none of them"
        } else if !self.of.iter().all(|&key| is_usable(key)) {
            "an heir's key cannot be one"
        } else {
            return Ok(());
        };
        Err(SuccessionError::Broken(wrong))
    }
}

/// From now on this key speaks for an operator, and these may name the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// Whose.
    pub operator: OperatorId,
    /// Its number in the line, from 1 on.
    pub number: u32,
    /// The name of the step before; of the first one, of the operator.
    pub before: [u8; 32],
    /// Who speaks. The same key as before where only the heirs change.
    pub key: PublicKey,
    /// Who may name the next.
    pub heirs: Heirs,
    /// When it was made, by the word of who made it.
    pub issued: Wall,
    /// For how long after that what earlier keys sign is still taken: time to renew certificates, and none after a theft.
    pub grace: Period,
}

impl Succession {
    /// Until when what earlier keys signed is taken; where no grace was given, that is over whatever the time is.
    #[must_use]
    pub fn ends(&self) -> Wall {
        self.issued.after(self.grace)
    }

    fn is_over(&self, now: Wall) -> bool {
        self.grace == Period(0) || now >= self.ends()
    }
}

/// A succession with its signatures, not verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    body: Blob,
    consent: Blob,
    voices: Vec<(u8, Blob)>,
}

impl Step {
    fn read(&self) -> Result<Succession, SuccessionError> {
        let malformed = || CodecError::Malformed("empty".into());
        let (version, body) = self.body.0.split_first().ok_or_else(malformed)?;
        if *version != VERSION {
            return Err(CodecError::Version { found: *version, known: VERSION }.into());
        }
        Ok(codec::decode_canonical(body, LINE_LEN_MAX)?)
    }

    fn name(&self) -> [u8; 32] {
        blake3::derive_key("strewn 2026-11 succession step v1", &self.body.0)
    }
}

fn name_of(operator: OperatorId) -> [u8; 32] {
    blake3::derive_key("strewn 2026-11 succession begin v1", &operator.0)
}

/// How far the line was under which something was said: the names of its steps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Said {
    operator: OperatorId,
    names: Vec<[u8; 32]>,
}

impl Said {
    /// By the operator's first key.
    #[must_use]
    pub fn first(operator: OperatorId) -> Self {
        Self { operator, names: Vec::new() }
    }

    /// As a signature claims that is not verified yet.
    pub(crate) fn claimed(operator: OperatorId, signature: &[u8]) -> Result<Self, SuccessionError> {
        if signature.len() == SIGNATURE_LEN {
            return Ok(Self::first(operator));
        }
        let names = Word::read(signature)?.line.iter().map(Step::name).collect();
        Ok(Self { operator, names })
    }

    /// Whose word it is.
    #[must_use]
    pub fn operator(&self) -> OperatorId {
        self.operator
    }

    /// How many steps there were.
    #[must_use]
    pub fn number(&self) -> usize {
        self.names.len()
    }
}

/// Most lines of which it is remembered that they were verified: of as many operators as one node has partners, and of some that it meets as guests.
const KNOWN_MAX: usize = 128;

thread_local! {
    /// The same line stands behind every statement of an operator. Verified is verified, whoever asks.
    static KNOWN: RefCell<BTreeSet<[u8; 32]>> = const { RefCell::new(BTreeSet::new()) };
}

/// The keys that spoke for an operator one after another, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    operator: OperatorId,
    steps: Vec<Step>,
    said: Vec<Succession>,
    names: Vec<[u8; 32]>,
}

impl Line {
    /// That of an operator that has only its first key.
    #[must_use]
    pub fn first(operator: OperatorId) -> Self {
        Self { operator, steps: Vec::new(), said: Vec::new(), names: Vec::new() }
    }

    /// Verifies a line.
    pub fn verify(operator: OperatorId, steps: Vec<Step>) -> Result<Self, SuccessionError> {
        if steps.len() > STEPS_MAX {
            return Err(SuccessionError::Broken("more than 8 steps"));
        }
        let name = blake3::hash(&codec::encode(&(operator, &steps)));
        let is_known = KNOWN.with_borrow(|known| known.contains(name.as_bytes()));
        let mut line = Self::first(operator);
        for step in steps {
            let succession = line.check_next(&step)?;
            if !is_known {
                line.check_signatures(&step, &succession)?;
            }
            line.push(step, succession);
        }
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(*name.as_bytes());
        });
        Ok(line)
    }

    fn push(&mut self, step: Step, succession: Succession) {
        self.names.push(step.name());
        self.steps.push(step);
        self.said.push(succession);
    }

    /// The line and the key at its end that stand in a signature.
    pub(crate) fn of_signature(
        operator: OperatorId,
        signature: &[u8],
    ) -> Result<(Self, [u8; SIGNATURE_LEN]), SuccessionError> {
        let Word { line, signature } = Word::read(signature)?;
        let signature = signature.0.as_slice().try_into();
        let signature = signature.map_err(|_| SuccessionError::Broken("no signature"))?;
        Ok((Self::verify(operator, line)?, signature))
    }

    /// Refuses a step that cannot be the next, whoever signed it.
    fn check_next(&self, step: &Step) -> Result<Succession, SuccessionError> {
        let next = step.read()?;
        next.heirs.check()?;
        let is_earlier = |key| self.key() != key && self.has_spoken(key);
        let wrong = if next.operator != self.operator {
            "it is another operator's"
        } else if next.number as usize != self.number() + 1 {
            "its number is not the next"
        } else if next.before != self.tip() {
            "it does not follow the step before"
        } else if next.grace > GRACE_MAX {
            "earlier keys are to count for longer than 90 days"
        } else if is_earlier(next.key) {
            "it names a key that was succeeded"
        } else if !is_usable(next.key) {
            "the key that it names cannot be one"
        } else {
            return Ok(next);
        };
        Err(SuccessionError::Broken(wrong))
    }

    /// One encoding counts: as many voices as it takes, in the order of who may sign.
    fn check_signatures(
        &self,
        step: &Step,
        succession: &Succession,
    ) -> Result<(), SuccessionError> {
        self.check_given(step, succession)?;
        let (have, need) = (step.voices.len(), self.need());
        match have.cmp(&need) {
            std::cmp::Ordering::Less => Err(SuccessionError::Missing { have, need }),
            std::cmp::Ordering::Greater => {
                Err(SuccessionError::Broken("more signatures than it takes"))
            }
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Checks the signatures that are there.
    fn check_given(&self, step: &Step, succession: &Succession) -> Result<(), SuccessionError> {
        let who = self.voices();
        if !step.voices.is_sorted_by(|(one, _), (next, _)| one < next)
            || step.voices.iter().any(|(place, _)| usize::from(*place) >= who.len())
        {
            return Err(SuccessionError::Broken("signatures of nobody, or not in order"));
        }
        if !is_signed(succession.key, CONSENT, &step.body.0, &step.consent.0) {
            return Err(SuccessionError::Broken("the key that it names has not signed it"));
        }
        let is_good = |(place, signature): &(u8, Blob)| {
            is_signed(who[usize::from(*place)], VOICE, &step.body.0, &signature.0)
        };
        if step.voices.iter().all(is_good) {
            Ok(())
        } else {
            Err(SuccessionError::Broken("a signature is not that of who may name the next key"))
        }
    }

    /// Whose.
    #[must_use]
    pub fn operator(&self) -> OperatorId {
        self.operator
    }

    /// Who speaks now.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.said.last().map_or(self.operator.key(), |last| last.key)
    }

    /// How many steps there are.
    #[must_use]
    pub fn number(&self) -> usize {
        self.said.len()
    }

    /// Whether a key speaks for the operator, or did.
    fn has_spoken(&self, key: PublicKey) -> bool {
        self.operator.key() == key || self.said.iter().any(|said| said.key == key)
    }

    /// Refuses heirs among whom the operator itself is: whoever stole its key would have a say in what ends it. Lines that name one from before
    /// this was refused stand, and those heirs may stay heirs.
    fn check_new_heirs(&self, next: &Succession) -> Result<(), SuccessionError> {
        let is_own = |&heir: &PublicKey| heir == next.key || self.has_spoken(heir);
        if next.heirs != *self.heirs() && next.heirs.of.iter().any(is_own) {
            return Err(SuccessionError::Broken(
                "an heir is a key of the operator itself, the one that speaks or an earlier one: whoever stole it would have a say",
            ));
        }
        Ok(())
    }

    /// Who may name the next key; nobody where the key itself does.
    #[must_use]
    pub fn heirs(&self) -> &Heirs {
        const NONE: &Heirs = &Heirs { need: 0, of: Vec::new() };
        self.said.last().map_or(NONE, |last| &last.heirs)
    }

    /// Its steps, as they were signed.
    #[must_use]
    pub fn successions(&self) -> &[Succession] {
        &self.said
    }

    /// Who may sign the next step,
    fn voices(&self) -> Vec<PublicKey> {
        let heirs = self.heirs();
        if heirs.is_empty() { vec![self.key()] } else { heirs.of.clone() }
    }

    /// and how many of them must.
    fn need(&self) -> usize {
        self.heirs().need().max(1)
    }

    fn tip(&self) -> [u8; 32] {
        self.names.last().copied().unwrap_or_else(|| name_of(self.operator))
    }

    /// What people compare by voice, of an operator and whoever speaks for it together: another line has another one. That of a first key is the
    /// key's own.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        if self.steps.is_empty() {
            return self.operator.key().fingerprint();
        }
        let both = [self.operator.0, self.tip()].concat();
        PublicKey(blake3::derive_key("strewn 2026-11 line of keys v1", &both)).fingerprint()
    }

    /// The context, and the bytes, that its last key signs: contexts have no zero in them.
    pub(crate) fn spoken(&self, context: &str, body: &[u8]) -> (&'static str, Vec<u8>) {
        (SPOKEN, [&self.tip()[..], context.as_bytes(), &[0], body].concat())
    }

    /// How far it is.
    #[must_use]
    pub fn said(&self) -> Said {
        Said { operator: self.operator, names: self.names.clone() }
    }

    /// The steps by which other keys came to speak than the one by which something was said under a part of this line.
    fn changes_since(&self, said: &Said) -> impl Iterator<Item = (&Succession, usize)> {
        let (before, after) = self.said.split_at(said.number().min(self.number()));
        let mut key = before.last().map_or(self.operator.key(), |last| last.key);
        let steps = after.iter().zip(said.number() + 1..);
        steps.filter(move |(step, _)| std::mem::replace(&mut key, step.key) != step.key)
    }

    /// When what was said under a part of this line came to its end, or will; `None` where nothing has ended its key.
    #[must_use]
    pub fn end_of(&self, said: &Said) -> Option<Wall> {
        self.changes_since(said).map(|(step, _)| step.ends()).min()
    }

    /// Refuses what was said under a line that parts from this one, whatever has ended meanwhile.
    pub fn check_names(&self, said: &Said) -> Result<(), SuccessionError> {
        if said.operator != self.operator {
            return Err(SuccessionError::Broken("it is another operator's"));
        }
        let operator = self.operator;
        match self.names.iter().zip(&said.names).position(|(known, shown)| known != shown) {
            Some(at) => Err(SuccessionError::Forked { operator, number: at + 1 }),
            None => Ok(()),
        }
    }

    /// Refuses what was said with a key that this line has ended, and what was said under a line that parts from it.
    pub fn check(&self, said: &Said, now: Wall) -> Result<(), SuccessionError> {
        self.check_names(said)?;
        let operator = self.operator;
        // A later theft leaves no grace to what came before either.
        let is_over = self.changes_since(said).any(|(step, _)| step.is_over(now));
        let is_over = is_over && !is_planted(Bug::Succession);
        match self.changes_since(said).last().filter(|_| is_over) {
            Some((_, number)) => Err(SuccessionError::Succeeded { operator, number }),
            None => Ok(()),
        }
    }

    /// Whether another line goes on from where this one ends: then it takes its place.
    pub fn is_continued_by(&self, other: &Self) -> Result<bool, SuccessionError> {
        self.check_names(&other.said())?;
        Ok(other.number() > self.number())
    }

    /// All of it as bytes, for a file. Empty for that of a first key.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&self.steps)
    }

    /// The inverse of [`Line::to_bytes`], of a line with at least one step.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SuccessionError> {
        let steps: Vec<Step> = codec::decode_canonical(bytes, LINE_LEN_MAX)?;
        let first = steps.first().ok_or(SuccessionError::Broken("it has no steps"))?;
        Self::verify(first.read()?.operator, steps)
    }
}

/// The lines that somebody knows. Of whom none is known, whatever shows a line that is right counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(BTreeMap<OperatorId, Line>);

impl Lines {
    /// That of an operator.
    #[must_use]
    pub fn get(&self, operator: OperatorId) -> Option<&Line> {
        self.0.get(&operator)
    }

    /// Those that are known.
    pub fn iter(&self) -> impl Iterator<Item = &Line> {
        self.0.values()
    }

    /// Takes a line in where it goes on from the one known, and says whether another key speaks now. One that is behind changes
    /// nothing, and one that parts from it is refused: the first known stays.
    pub fn learn(&mut self, line: Line) -> Result<bool, SuccessionError> {
        let operator = line.operator;
        let known = self.0.entry(operator).or_insert_with(|| Line::first(operator));
        let is_news = known.is_continued_by(&line)? && known.key() != line.key();
        if line.number() > known.number() {
            *known = line;
        }
        Ok(is_news)
    }

    /// Refuses what was said with a key that is known to be succeeded, and what was said under a line that parts from the known one.
    pub fn check(&self, said: &Said, now: Wall) -> Result<(), SuccessionError> {
        self.0.get(&said.operator).map_or(Ok(()), |line| line.check(said, now))
    }
}

/// What stands in place of a signature where a later key speaks.
#[derive(Serialize, Deserialize)]
struct Word {
    line: Vec<Step>,
    signature: Blob,
}

impl Word {
    fn read(signature: &[u8]) -> Result<Self, SuccessionError> {
        let word: Self = codec::decode_canonical(signature, LINE_LEN_MAX)?;
        // What the first key says without having named heirs is 64 bytes, and nothing else.
        if word.line.is_empty() || word.line.len() > STEPS_MAX {
            return Err(SuccessionError::Broken("no steps, or more than 8"));
        }
        Ok(word)
    }
}

/// Who speaks for an operator: the key at the end of its line.
#[derive(Debug, Clone)]
pub struct Speaker {
    key: SecretKey,
    line: Line,
}

impl Speaker {
    /// An operator with its first key.
    #[must_use]
    pub fn first(key: SecretKey) -> Self {
        let line = Line::first(key.public().into());
        Self { key, line }
    }

    /// The key at the end of a line.
    pub fn new(key: SecretKey, line: Line) -> Result<Self, SuccessionError> {
        if line.key() == key.public() {
            Ok(Self { key, line })
        } else {
            Err(SuccessionError::NoVoice(key.public()))
        }
    }

    /// For whom.
    #[must_use]
    pub fn operator(&self) -> OperatorId {
        self.line.operator
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Its line.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// What stands in place of a signature.
    pub(crate) fn sign(&self, context: &str, body: &[u8]) -> Vec<u8> {
        if self.line.steps.is_empty() {
            return self.key.sign(context, body).to_vec();
        }
        let (context, spoken) = self.line.spoken(context, body);
        let signature = self.key.sign(context, &spoken).to_vec();
        codec::encode(&Word { line: self.line.steps.clone(), signature: Blob(signature) })
    }
}
