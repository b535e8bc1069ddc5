//! A step for which signatures are being collected.

use super::{
    CONSENT, Heirs, LINE_LEN_MAX, Line, STEPS_MAX, Step, Succession, SuccessionError, VERSION,
    VOICE,
};
use crate::codec::{self, Blob};
use crate::sign::key::SecretKey;
use crate::time::{Period, Wall};

/// What is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who may name the key after.
    pub heirs: Heirs,
    /// When it is made.
    pub issued: Wall,
    /// For how long earlier keys are still taken.
    pub grace: Period,
}

/// The next step of a line, with the signatures that are there. Who passes it on can add none that is not his.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    line: Line,
    pub(super) step: Step,
    succession: Succession,
}

impl Draft {
    /// The next step, by which this key speaks.
    pub fn new(line: Line, change: Change, key: &SecretKey) -> Result<Self, SuccessionError> {
        if line.number() >= STEPS_MAX {
            return Err(SuccessionError::Broken(
                "the line has 8 steps, and takes no more: begin with a new operator's key",
            ));
        }
        let succession = Succession {
            operator: line.operator,
            number: u32::try_from(line.number() + 1).unwrap_or(u32::MAX),
            before: line.tip(),
            key: key.public(),
            heirs: change.heirs,
            issued: change.issued,
            grace: change.grace,
        };
        let mut body = vec![VERSION];
        body.extend(codec::encode(&succession));
        let consent = key.sign(CONSENT, &body).to_vec();
        let step = Step { body: Blob(body), consent: Blob(consent), voices: Vec::new() };
        let succession = line.check_next(&step)?;
        line.check_new_heirs(&succession)?;
        Ok(Self { line, step, succession })
    }

    /// What is to change.
    #[must_use]
    pub fn succession(&self) -> &Succession {
        &self.succession
    }

    /// The line before it.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// How many have signed, and how many must.
    #[must_use]
    pub fn signatures(&self) -> (usize, usize) {
        (self.step.voices.len(), self.line.need())
    }

    /// Signs it, as one who has a say. Twice is as once.
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), SuccessionError> {
        let public = key.public();
        let place = self.line.voices().iter().position(|&voice| voice == public);
        let place = place.ok_or(SuccessionError::NoVoice(public))?;
        let signature = Blob(key.sign(VOICE, &self.step.body.0).to_vec());
        self.add(u8::try_from(place).unwrap_or(u8::MAX), signature);
        Ok(())
    }

    fn add(&mut self, place: u8, signature: Blob) {
        if let Err(at) = self.step.voices.binary_search_by_key(&place, |(place, _)| *place) {
            self.step.voices.insert(at, (place, signature));
        }
    }

    /// Takes in the signatures under another copy.
    pub fn join(&mut self, other: Self) -> Result<(), SuccessionError> {
        if other.step.body != self.step.body {
            return Err(SuccessionError::Broken("these are two different successions"));
        }
        for (place, signature) in other.step.voices {
            self.add(place, signature);
        }
        Ok(())
    }

    /// The line with this step at its end.
    pub fn finish(mut self) -> Result<Line, SuccessionError> {
        self.step.voices.truncate(self.line.need());
        self.line.check_signatures(&self.step, &self.succession)?;
        self.line.push(self.step, self.succession);
        Ok(self.line)
    }

    /// All of it as bytes, to be passed on.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&(&self.line.steps, &self.step))
    }

    /// The inverse of [`Draft::to_bytes`]; every signature that is there is verified.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SuccessionError> {
        let (steps, step): (Vec<Step>, Step) = codec::decode_canonical(bytes, LINE_LEN_MAX)?;
        let line = Line::verify(step.read()?.operator, steps)?;
        if line.number() >= STEPS_MAX {
            return Err(SuccessionError::Broken("more than 8 steps"));
        }
        let succession = line.check_next(&step)?;
        line.check_new_heirs(&succession)?;
        line.check_given(&step, &succession)?;
        Ok(Self { line, step, succession })
    }
}
