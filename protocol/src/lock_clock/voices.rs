//! What other operators say of the time: signed answers to a question, one voice per operator.

use super::{TOLERANCE, VOICE_LIFE, VOICES_MAX};
use crate::certificate::NodeCertificate;
use crate::id::{NodeId, OperatorId, PublicKey};
use crate::sign::{SignatureError, Signed, Statement};
use crate::time::{Mono, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node says what its wall clock shows, to whoever asked. The question's nonce keeps old answers from being given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeStatement {
    /// Who says so.
    pub node: NodeId,
    /// Who asked.
    pub asker: NodeId,
    /// The question: random, asked once.
    pub nonce: [u8; 16],
    /// What the clock shows.
    pub wall: Wall,
}

impl Statement for TimeStatement {
    const CONTEXT: &'static str = "strewn time statement";
    const LEN_MAX: usize = 256;
    fn signer(&self) -> PublicKey {
        self.node.key()
    }
}

/// Why a time statement says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VoiceError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It answers another question, or is another node's.
    #[error("the time statement is no answer to what was asked of this node")]
    NotAsked,
}

/// A time statement that answers this node's question, and whose word it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    operator: OperatorId,
    node: NodeId,
    wall: Wall,
}

impl Voice {
    /// Checks that the node of this certificate signed the statement for this asker and question.
    pub fn verify(
        signed: &Signed<TimeStatement>,
        certificate: &NodeCertificate,
        asker: NodeId,
        nonce: &[u8; 16],
    ) -> Result<Self, VoiceError> {
        let said = signed.verify()?;
        if said.node != certificate.node || said.asker != asker || said.nonce != *nonce {
            return Err(VoiceError::NotAsked);
        }
        Ok(Self { operator: certificate.operator, node: said.node, wall: said.wall })
    }

    pub(super) fn operator(&self) -> OperatorId {
        self.operator
    }

    #[cfg(test)]
    pub(super) fn of(operator: u8, node: u8, wall: u64) -> Self {
        let operator = OperatorId([operator; 32]);
        Self { operator, node: NodeId([node; 32]), wall: Wall(wall) }
    }
}

/// What all of them say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// Too few operators are heard.
    TooFew { heard: usize, needed: usize },
    /// No majority of those heard agrees.
    Apart { heard: usize },
    /// A majority agrees on about this time.
    Agreed {
        /// The middle one of all operators, those not heard taken to say that no time has passed: not later than what
        /// the latest honest one says, as long as no more than half of all lie.
        low: Wall,
        /// The middle one of those heard.
        middle: Wall,
        /// As `low`, with those not heard taken to say that all time has passed: not earlier than the earliest honest one.
        high: Wall,
    },
}

/// A node's last word.
#[derive(Debug, Clone, Copy)]
struct Word {
    wall: Wall,
    asked: Mono,
    heard: Mono,
}

/// What was heard lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Voices(BTreeMap<OperatorId, BTreeMap<NodeId, Word>>);

impl Voices {
    /// Takes in a voice heard at `heard`. A node's last word counts.
    pub(super) fn hear(&mut self, asked: Mono, heard: Mono, voice: &Voice) {
        let count: usize = self.0.values().map(BTreeMap::len).sum();
        let of_operator = self.0.entry(voice.operator).or_default();
        if count < VOICES_MAX || of_operator.contains_key(&voice.node) {
            of_operator.insert(voice.node, Word { wall: voice.wall, asked, heard });
        }
    }

    /// Forgets what an operator's nodes said.
    pub(super) fn forget(&mut self, operator: OperatorId) {
        self.0.remove(&operator);
    }

    /// Forgets what was heard too long ago.
    pub(super) fn forget_old(&mut self, now: Mono) {
        for of_operator in self.0.values_mut() {
            of_operator.retain(|_, word| now.0.saturating_sub(word.heard.0) <= VOICE_LIFE.0);
        }
        self.0.retain(|_, of_operator| !of_operator.is_empty());
    }

    /// What those say who were asked at `since` or later, of so many other operators that are known.
    pub(super) fn judge(&self, since: Mono, now: Mono, known: usize) -> Hearing {
        let at = |word: &Word| word.wall.0.saturating_add(now.0.saturating_sub(word.heard.0));
        let of_operator = |nodes: &BTreeMap<NodeId, Word>| {
            let asked = nodes.values().filter(|word| word.asked >= since);
            let mut walls: Vec<u64> = asked.map(at).collect();
            let middle = walls.len().checked_sub(1)? / 2;
            Some(*walls.select_nth_unstable(middle).1)
        };
        let mut walls: Vec<u64> = self.0.values().filter_map(of_operator).collect();
        walls.sort_unstable();
        let (heard, all) = (walls.len(), known.max(walls.len()));
        // More than half of them, and never one alone.
        let needed = (all / 2 + 1).max(2);
        if heard < needed {
            return Hearing::TooFew { heard, needed };
        }
        let middle = walls[(heard - 1) / 2];
        let agreeing = walls.iter().filter(|wall| wall.abs_diff(middle) <= TOLERANCE.0).count();
        if 2 * agreeing <= heard {
            return Hearing::Apart { heard };
        }
        let silent = all - heard;
        Hearing::Agreed {
            low: Wall(walls[(all - 1) / 2 - silent]),
            middle: Wall(middle),
            high: Wall(walls[all / 2]),
        }
    }
}
