//! Answering audits: [`crate::audit`] has the rules. Whoever may read a vault may ask about its shards.

use super::facts::{Facts, Table, View};
use super::holder::BUSY_RETRY;
use super::{Decision, LaneId, Output, Peer, Pieces, Role, refusal};
use crate::audit::{AuditAnswer, AuditError, AuditOpening, AuditQuestion, AuditTurn};
use crate::codec::Blob;
use crate::id::{PublicKey, ShardId, VaultId};
use crate::message::{RefusalCode, Response};
use crate::sign::Signed;
use crate::time::Now;

/// Most audits that are answered at once: each reads up to 16 shards from the disk.
const AUDITS_MAX: usize = 4;

/// An audit whose shards are being read.
#[derive(Debug)]
pub(super) struct Auditing {
    /// What the answer calls the question.
    question: [u8; 32],
    /// Those that are held.
    shards: Vec<Option<ShardId>>,
}

fn malformed(error: &AuditError) -> super::Refusal {
    refusal(RefusalCode::Malformed, error.to_string())
}

impl Peer {
    pub(super) fn handle_audit_open(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        auditor: PublicKey,
        opening: &AuditOpening,
    ) -> Decision {
        opening.check().map_err(|error| malformed(&error))?;
        let view = View { facts, overlay: &self.overlay };
        self.check_reader(&view, role, opening.vault)?;
        let digest = opening.digest();
        // Unknown to the auditor, and the same for as long as nothing changes: nothing is remembered.
        let parts = [&digest[..], &auditor.0, &now.wall.0.to_be_bytes()].concat();
        let nonce = *blake3::keyed_hash(&self.audit_secret, &parts).as_bytes();
        let (holder, drawn) = (self.node(), now.wall);
        let turn = AuditTurn { holder, auditor, opening: digest, nonce, drawn };
        self.reply(lane, Response::AuditTurn(Signed::sign(&turn, &self.key)));
        Ok(())
    }

    pub(super) fn handle_audit(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        auditor: PublicKey,
        question: &AuditQuestion,
    ) -> Decision {
        let view = View { facts, overlay: &self.overlay };
        let vault = question.opening.vault;
        self.check_reader(&view, role, vault)?;
        let asked = question.verify().map_err(|error| malformed(&error))?;
        asked.check_for(self.node(), auditor, now.wall).map_err(|error| malformed(&error))?;
        if self.auditing.len() >= AUDITS_MAX {
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        let mut pieces = Vec::with_capacity(question.opening.shards.len());
        for &shard in &question.opening.shards {
            let len = self.len_of(&view, vault, shard)?;
            pieces.push(len.map(|len| Pieces { shard, len, groups: asked.groups(shard, len) }));
        }
        let shards =
            pieces.iter().map(|pieces| pieces.as_ref().map(|pieces| pieces.shard)).collect();
        self.auditing.insert(lane, Auditing { question: asked.digest, shards });
        self.outputs.push_back(Output::Prove { lane, pieces });
        Ok(())
    }

    /// The length of a shard of this vault that is held, durably and not about to go.
    fn len_of(
        &self,
        view: &View<'_>,
        vault: VaultId,
        shard: ShardId,
    ) -> Result<Option<u32>, super::Refusal> {
        let held = view.held(shard)?.filter(|held| held.vault == vault);
        let is_settled = !view.is_pending(Table::Held, &shard.0)
            && !self.lives.is_dropping(shard)
            && !self.scrub.is_damaged(shard);
        Ok(held.filter(|_| is_settled).map(|held| held.len))
    }

    pub(super) fn handle_proved(&mut self, now: Now, lane: LaneId, proofs: Vec<Option<Vec<u8>>>) {
        // The stream may have ended meanwhile.
        let Some(Auditing { question, shards }) = self.auditing.remove(&lane) else {
            return;
        };
        let failed = shards.iter().zip(&proofs).filter(|(_, proof)| proof.is_none());
        for shard in failed.filter_map(|(shard, _)| *shard) {
            self.scrub.suspect(shard, now.mono);
        }
        let hash = |proof: &Vec<u8>| *blake3::hash(proof).as_bytes();
        let answer = AuditAnswer {
            holder: self.node(),
            question,
            proofs: proofs.iter().map(|proof| proof.as_ref().map(hash)).collect(),
            answered: now.wall,
        };
        let answer = Signed::sign(&answer, &self.key);
        let proofs = proofs.into_iter().flatten().map(Blob).collect();
        self.reply(lane, Response::Audited { answer, proofs });
    }
}
