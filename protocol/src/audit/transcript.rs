//! All that was said in an audit of one holder, so that anybody can judge it without having been there.
//!
//! ```text
//! file = "strewn audit\n" version(u8 = 1) transcript      the codec's encoding, to the end
//! ```

use super::{AUDIT_SHARDS_MAX, AuditAnswer, AuditError, AuditQuestion, ProofFault, check_proof};
use crate::codec::{self, Blob, CodecError};
use crate::id::{NodeId, PublicKey, ShardId, VaultId};
use crate::record::{Receipt, SHARD_LEN_MAX};
use crate::sign::{SignatureError, Signed};
use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// How the file of a transcript begins, its version included.
pub const TRANSCRIPT_MAGIC: &[u8; 14] = b"strewn audit\n\x01";
/// Longest file of a transcript, in bytes.
pub const TRANSCRIPT_LEN_MAX: usize = 4 << 20;

/// An audit of one holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// What was asked.
    pub question: AuditQuestion,
    /// What the holder signed.
    pub answer: Signed<AuditAnswer>,
    /// The proofs that came with it, one for each shard of which the answer says so.
    pub proofs: Vec<Blob>,
    /// The holder's promises to keep the shards, in the order asked.
    pub receipts: Vec<Signed<Receipt>>,
}

/// What an audit shows of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The holder had it.
    Proved,
    /// The holder says that it has not.
    Missing,
    /// The holder signed a proof that is none.
    Wrong(ProofFault),
}

/// A shard that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub shard: ShardId,
    /// What the holder had promised.
    pub receipt: Receipt,
    /// What it showed.
    pub verdict: Verdict,
}

/// What a transcript shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Whose shards.
    pub vault: VaultId,
    /// Who was asked.
    pub holder: NodeId,
    /// By whom.
    pub auditor: PublicKey,
    /// When it answered, by its own clock.
    pub answered: Wall,
    /// The shards, in the order asked.
    pub found: Vec<Found>,
}

/// A transcript that shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TranscriptError {
    /// The question is none.
    #[error(transparent)]
    Question(#[from] AuditError),
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The bytes are no transcript.
    #[error("it is no transcript of an audit: {0}")]
    Codec(#[from] CodecError),
    /// Its parts do not belong together.
    #[error("the {0} of the audit is another's")]
    Other(&'static str),
    /// A list has another length than what it is about.
    #[error("{found} {what}, {expected} expected")]
    Count {
        /// Which list.
        what: &'static str,
        /// Its length.
        found: usize,
        /// What it should be.
        expected: usize,
    },
}

fn check_len(what: &'static str, found: usize, expected: usize) -> Result<(), TranscriptError> {
    if found == expected { Ok(()) } else { Err(TranscriptError::Count { what, found, expected }) }
}

impl Transcript {
    /// As a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = TRANSCRIPT_MAGIC.to_vec();
        bytes.extend(codec::encode(self));
        bytes
    }

    /// The inverse of [`Transcript::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TranscriptError> {
        let body = bytes.strip_prefix(TRANSCRIPT_MAGIC.as_slice());
        let malformed = || CodecError::Malformed("it does not begin like one".into());
        let body = body.ok_or_else(malformed)?;
        Ok(codec::decode(body, TRANSCRIPT_LEN_MAX)?)
    }

    /// What it shows. An error means that it shows nothing, for nobody and against nobody.
    pub fn judge(&self) -> Result<Judged, TranscriptError> {
        let asked = self.question.verify()?;
        let answer = self.answer.verify()?;
        if answer.holder != asked.holder {
            return Err(TranscriptError::Other("holder"));
        }
        if answer.question != asked.digest {
            return Err(TranscriptError::Other("question"));
        }
        let shards = &self.question.opening.shards;
        debug_assert!(shards.len() <= AUDIT_SHARDS_MAX, "checked with the question");
        check_len("answers", answer.proofs.len(), shards.len())?;
        check_len("receipts", self.receipts.len(), shards.len())?;
        check_len("proofs", self.proofs.len(), answer.proofs.iter().flatten().count())?;
        let mut proofs = self.proofs.iter();
        let mut found = Vec::with_capacity(shards.len());
        for ((&shard, hash), signed) in shards.iter().zip(&answer.proofs).zip(&self.receipts) {
            let receipt = signed.verify()?;
            let fits = receipt.holder == asked.holder
                && receipt.shard == shard
                && receipt.vault == self.question.opening.vault
                && receipt.len <= SHARD_LEN_MAX;
            if !fits {
                return Err(TranscriptError::Other("receipt"));
            }
            let verdict = match (hash, hash.and_then(|_| proofs.next())) {
                (Some(hash), Some(proof)) => {
                    if blake3::hash(&proof.0).as_bytes() != hash {
                        // What the holder signed is not what is here: the one who shows it may have altered it.
                        return Err(TranscriptError::Other("proof"));
                    }
                    let groups = asked.groups(shard, receipt.len);
                    match check_proof(shard, receipt.len, &groups, &proof.0) {
                        Ok(()) => Verdict::Proved,
                        Err(fault) => Verdict::Wrong(fault),
                    }
                }
                _ => Verdict::Missing,
            };
            found.push(Found { shard, receipt, verdict });
        }
        let vault = self.question.opening.vault;
        let (holder, auditor, answered) = (asked.holder, asked.auditor, answer.answered);
        Ok(Judged { vault, holder, auditor, answered, found })
    }
}
