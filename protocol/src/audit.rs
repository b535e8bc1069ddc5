//! Audits: a holder shows that it has shards, by pieces of them that chance chose and that their names prove.
//!
//! ```text
//! auditor ── AuditOpening: which shards, and a commitment to a nonce ──► holder
//!         ◄─ AuditTurn, signed: the holder's nonce ─────────────────────
//!         ── AuditQuestion: the auditor's nonce ────────────────────────►
//!         ◄─ AuditAnswer, signed, and the proofs ───────────────────────
//! ```
//! - Which pieces are asked for follows from both nonces, and neither side knows the other's when it settles on its own: an
//!   auditor cannot ask for what a friend has left, nor a holder prepare. Who gets no answer asks the *same* question again.
//! - A shard's name is the root of its BLAKE3 tree, so a piece is proved against it with the hashes on the way up (Bao, in
//!   groups of 16 KiB). The last group is always among them: its proof shows the length as well.
//! - The holder keeps nothing in between: its own signed turn comes back to it with the question.
//! - The answer is signed, and says of each shard that a proof follows or that there is none. A [`Transcript`] therefore
//!   convinces a third party, for and against; with the holder's receipt it shows a broken promise. Silence shows nothing.
//!
//! Owners ask when they like; holders of a stripe ask each other, all in turn: [`Sweep`] says when, [`auditors`] who, and [`Case`] what
//! comes of it.
//!
//! What a proof does not show is *where* the bytes lie: a holder could fetch them from elsewhere meanwhile.

mod auditors;
mod finding;
mod pace;
mod transcript;
mod tree;

#[cfg(test)]
mod tests;

pub use auditors::{AUDITORS, auditors};
pub use finding::{Case, Finding, Outcome};
pub use pace::{
    ANSWER_MAX, AUDIT_PERIOD, AUDIT_RATE_MAX, CUTS_MAX, Point, Span, Sweep, TRIES, pause, position,
};
pub use transcript::{
    Found, Judged, TRANSCRIPT_LEN_MAX, TRANSCRIPT_MAGIC, Transcript, TranscriptError, Verdict,
};
pub use tree::{GROUP_LEN, ProofFault, ProveError, check_proof, prove, prove_bytes};

use crate::codec;
use crate::id::{NodeId, PublicKey, ShardId, VaultId};
use crate::sign::{SignatureError, Signed, Statement};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};

/// Most shards that one question asks about: proofs of so many fit in a response.
pub const AUDIT_SHARDS_MAX: usize = 16;
/// Groups that chance chooses of each shard, besides the last one.
pub const POINTS: usize = 2;
/// For how long a holder answers the question to which its turn belongs: asking again included.
pub const TURN_LIFE: Period = Period::seconds(3600);

/// Random bytes of one side.
pub type Nonce = [u8; 32];

/// What an auditor asks about. It shows the nonce only when the holder has chosen its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditOpening {
    /// Whose shards.
    pub vault: VaultId,
    /// Which, [`AUDIT_SHARDS_MAX`] at most.
    pub shards: Vec<ShardId>,
    /// To the auditor's nonce: [`commitment`].
    pub commitment: [u8; 32],
}

impl AuditOpening {
    /// What it is called in the holder's turn.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        blake3::derive_key("strewn 2026-11 audit opening v1", &codec::encode(self))
    }

    /// Checks its bounds.
    pub fn check(&self) -> Result<(), AuditError> {
        let found = self.shards.len();
        if found == 0 || found > AUDIT_SHARDS_MAX { Err(AuditError::Count(found)) } else { Ok(()) }
    }
}

/// What binds an auditor to its nonce.
#[must_use]
pub fn commitment(auditor: PublicKey, nonce: &Nonce) -> [u8; 32] {
    blake3::derive_key("strewn 2026-11 audit commitment v1", &[auditor.0, *nonce].concat())
}

/// The holder's nonce, for one auditor and one opening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditTurn {
    /// Who holds.
    pub holder: NodeId,
    /// Who asks.
    pub auditor: PublicKey,
    /// Digest of the opening.
    pub opening: [u8; 32],
    /// Random.
    pub nonce: Nonce,
    /// When it was drawn, by the holder's wall clock.
    pub drawn: Wall,
}

impl Statement for AuditTurn {
    const CONTEXT: &'static str = "strewn audit turn";
    const LEN_MAX: usize = 256;
    fn signer(&self) -> PublicKey {
        self.holder.key()
    }
}

/// The whole question: nothing in it can be chosen any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuestion {
    /// What was opened.
    pub opening: AuditOpening,
    /// The holder's turn.
    pub turn: Signed<AuditTurn>,
    /// The auditor's nonce.
    pub nonce: Nonce,
}

/// Why a question is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// No shards, or too many.
    #[error("an audit asks about 1 to {AUDIT_SHARDS_MAX} shards, not {0}")]
    Count(usize),
    /// Its parts do not belong together.
    #[error("the audit's {0} is another's")]
    Other(&'static str),
    /// The auditor shows another nonce than it had settled on.
    #[error("the auditor's nonce is not the one that it had settled on")]
    Nonce,
    /// The turn is too old, or of the future.
    #[error("the holder's turn is of another time: open the audit anew")]
    Late,
}

/// A question whose parts belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who holds.
    pub holder: NodeId,
    /// Who asks.
    pub auditor: PublicKey,
    /// What the answer calls it, and the source of its points.
    pub digest: [u8; 32],
    /// When the holder drew its nonce.
    pub drawn: Wall,
}

impl AuditQuestion {
    /// Checks that opening, turn and nonce belong together.
    pub fn verify(&self) -> Result<Asked, AuditError> {
        self.opening.check()?;
        let turn = self.turn.verify()?;
        if turn.opening != self.opening.digest() {
            return Err(AuditError::Other("opening"));
        }
        if commitment(turn.auditor, &self.nonce) != self.opening.commitment {
            return Err(AuditError::Nonce);
        }
        let parts = [&turn.opening[..], &turn.nonce, &self.nonce, &turn.holder.0].concat();
        let digest = blake3::derive_key("strewn 2026-11 audit question v1", &parts);
        Ok(Asked { holder: turn.holder, auditor: turn.auditor, digest, drawn: turn.drawn })
    }
}

impl Asked {
    /// Checks that this node is to answer this auditor now.
    pub fn check_for(
        &self,
        holder: NodeId,
        auditor: PublicKey,
        now: Wall,
    ) -> Result<(), AuditError> {
        if self.holder != holder {
            return Err(AuditError::Other("holder"));
        }
        if self.auditor != auditor {
            return Err(AuditError::Other("auditor"));
        }
        if now.0.abs_diff(self.drawn.0) > TURN_LIFE.0 {
            return Err(AuditError::Late);
        }
        Ok(())
    }

    /// The groups of a shard that are asked for, in increasing order, the last one of it among them.
    #[must_use]
    pub fn groups(&self, shard: ShardId, len: u32) -> Vec<u64> {
        let count = u64::from(len).div_ceil(u64::from(GROUP_LEN)).max(1);
        let mut stream = blake3::Hasher::new_derive_key("strewn 2026-11 audit points v1");
        stream.update(&self.digest).update(&shard.0);
        let mut reader = stream.finalize_xof();
        let mut groups = vec![count - 1];
        for _ in 0..POINTS {
            let mut bytes = [0; 16];
            reader.fill(&mut bytes);
            // The remainder's bias is one in 2^64 at most.
            groups.push((u128::from_le_bytes(bytes) % u128::from(count)) as u64);
        }
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// What a holder answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAnswer {
    /// Who holds.
    pub holder: NodeId,
    /// Digest of the question.
    pub question: [u8; 32],
    /// Of each shard, in the order asked, the BLAKE3 hash of the proof; `None`: it is not here, or not whole.
    pub proofs: Vec<Option<[u8; 32]>>,
    /// When, by the holder's wall clock.
    pub answered: Wall,
}

impl Statement for AuditAnswer {
    const CONTEXT: &'static str = "strewn audit answer";
    const LEN_MAX: usize = 128 + AUDIT_SHARDS_MAX * 34;
    fn signer(&self) -> PublicKey {
        self.holder.key()
    }
}
