//! Recovery cards: which are kept, and what a stranger gets who shows a recipient's tag.
//!
//! ```text
//! 0 ‖ vault               → Kept: the cards of a vault
//! 1 ‖ tag ‖ place(u64 BE) → vault, in the order in which the vaults came
//! ```
//! For each tag of a vault the first card is kept for ever: a stolen vault key adds cards and replaces none that brings the
//! vault back. Firsts are given before later ones and in the order in which they came, and what would not fit is refused
//! when it comes, so nobody crowds out who was there.

use super::facts::{Facts, FactsError, Table, View, Write, decode, key};
use super::holder::BUSY_RETRY;
use super::{Decision, LaneId, LinkId, Note, Output, Peer, Role, Then, refusal};
use crate::certificate::CertificateError;
use crate::codec::{self, Blob};
use crate::id::{PublicKey, VaultId};
use crate::message::{Refusal, RefusalCode, Response};
use crate::planted::{Bug, is_planted};
use crate::recovery::{
    ANSWER_LEN_MAX, CARDS_LEN_MAX, RecoveryCard, RecoveryTag, TAGS_PER_VAULT_MAX,
    VAULTS_PER_TAG_MAX,
};
use crate::sign::Signed;
use crate::time::Now;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The cards of a vault.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Kept {
    /// Those that were the first with one of their tags.
    firsts: Vec<Signed<RecoveryCard>>,
    /// The newest, when it is none of them.
    newest: Option<Signed<RecoveryCard>>,
}

/// What becomes of a card.
enum Added {
    /// It is kept from now on.
    News(Vec<Write>),
    /// It is kept already.
    Known,
    /// Others are kept, and this one is not.
    Old,
}

impl Kept {
    /// Keeps a card when it brings a tag that the vault had not, or is newer than what is kept.
    fn add(
        &mut self,
        facts: &dyn Facts,
        card: &RecoveryCard,
        signed: &Signed<RecoveryCard>,
    ) -> Result<Added, Refusal> {
        let known = self.cards()?;
        let tags: BTreeSet<RecoveryTag> =
            known.iter().flat_map(|card| card.tags.iter().copied()).collect();
        let new: Vec<RecoveryTag> =
            card.tags.iter().copied().filter(|tag| !tags.contains(tag)).collect();
        let is_newer = known.iter().all(|known| known.version < card.version);
        if new.is_empty() && !is_newer {
            let is_known = self.firsts.iter().chain(&self.newest).any(|known| known == signed);
            return Ok(if is_known { Added::Known } else { Added::Old });
        }
        if tags.len() + new.len() > TAGS_PER_VAULT_MAX {
            return Err(refusal(RefusalCode::Quota, "the vault had too many recipients"));
        }
        let mut writes = Vec::new();
        for &tag in &new {
            let place = check_room(facts, tag, card.sealed.0.len())?;
            let row = key(&[&tag_key(tag), &place.to_be_bytes()]);
            writes.push(Write::row(Table::Recovery, row, &card.vault));
        }
        if is_planted(Bug::Card) {
            self.firsts = vec![signed.clone()];
        } else if new.is_empty() {
            self.newest = Some(signed.clone());
        } else {
            self.firsts.push(signed.clone());
            // One that is older than the new one is not the newest any more.
            self.newest = self.newest.take().filter(|_| !is_newer);
        }
        if codec::encode(self).len() > CARDS_LEN_MAX {
            return Err(refusal(RefusalCode::Quota, "the vault's cards are too long"));
        }
        writes.push(Write::row(Table::Recovery, vault_key(card.vault), self));
        Ok(Added::News(writes))
    }

    /// All of them, verified: they were when they came, so what is none any more is the disk's fault.
    fn cards(&self) -> Result<Vec<RecoveryCard>, CertificateError> {
        self.firsts.iter().chain(&self.newest).map(RecoveryCard::verify).collect()
    }

    /// The first card with a tag, and the newest if that is another.
    fn found_by(&self, tag: RecoveryTag) -> Result<Option<Found>, CertificateError> {
        let mut cards = self.cards()?;
        cards.retain(|card| card.tags.contains(&tag));
        let mut cards = cards.into_iter();
        let Some(first) = cards.next() else { return Ok(None) };
        let newest = cards.max_by_key(|card| card.version);
        let newest = newest.filter(|newest| newest.version > first.version);
        Ok(Some(Found { first: first.sealed, newest: newest.map(|card| card.sealed) }))
    }
}

struct Found {
    first: Blob,
    newest: Option<Blob>,
}

fn vault_key(vault: VaultId) -> Vec<u8> {
    key(&[&[0], &vault.0])
}

fn tag_key(tag: RecoveryTag) -> Vec<u8> {
    key(&[&[1], &tag.0])
}

fn kept(facts: &dyn Facts, vault: VaultId) -> Result<Kept, FactsError> {
    let row = facts.get(Table::Recovery, &vault_key(vault))?;
    row.map_or_else(|| Ok(Kept::default()), |bytes| decode(Table::Recovery, &bytes))
}

/// All cards of a vault, in the order in which they came.
pub(super) fn cards_of(
    facts: &dyn Facts,
    vault: VaultId,
) -> Result<Vec<Signed<RecoveryCard>>, FactsError> {
    let Kept { mut firsts, newest } = kept(facts, vault)?;
    firsts.extend(newest);
    Ok(firsts)
}

/// What to write of cards that another node keeps, in the order in which they came there. What does not fit or is older is
/// left out.
pub(super) fn card_writes(
    facts: &dyn Facts,
    vault: VaultId,
    cards: &[Signed<RecoveryCard>],
) -> Result<Vec<Write>, Refusal> {
    let mut kept = kept(facts, vault)?;
    let mut writes = Vec::new();
    for signed in cards.iter().take(2 * TAGS_PER_VAULT_MAX) {
        let card = RecoveryCard::verify(signed)?;
        if card.vault != vault {
            return Err(refusal(RefusalCode::Malformed, "a card of another vault"));
        }
        let before = kept.clone();
        match kept.add(facts, &card, signed) {
            Ok(Added::News(more)) => writes.extend(more),
            Ok(Added::Known | Added::Old) => {}
            Err(refusal) if refusal.code == RefusalCode::Quota => kept = before,
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(writes)
}

/// What is given for a tag.
fn found(facts: &dyn Facts, tag: RecoveryTag) -> Result<Vec<Blob>, Refusal> {
    let mut firsts = Vec::new();
    let mut newest = Vec::new();
    let rows = facts.scan(Table::Recovery, &tag_key(tag), None, VAULTS_PER_TAG_MAX)?;
    let mut len = 0;
    for (_, bytes) in rows {
        let kept = kept(facts, decode(Table::Recovery, &bytes)?)?;
        let internal = |e: CertificateError| refusal(RefusalCode::Internal, e.to_string());
        let Some(found) = kept.found_by(tag).map_err(internal)? else { continue };
        len += found.first.0.len();
        if len > ANSWER_LEN_MAX {
            break;
        }
        firsts.push(found.first);
        newest.extend(found.newest);
    }
    let mut room = ANSWER_LEN_MAX.saturating_sub(len);
    for card in newest {
        if let Some(left) = room.checked_sub(card.0.len()) {
            room = left;
            firsts.push(card);
        }
    }
    Ok(firsts)
}

/// Refuses a tag for which there is no room: nobody would be given the card.
fn check_room(facts: &dyn Facts, tag: RecoveryTag, len: usize) -> Result<u64, Refusal> {
    let rows = facts.scan(Table::Recovery, &tag_key(tag), None, VAULTS_PER_TAG_MAX)?;
    let full = || refusal(RefusalCode::Quota, "one recipient has too many vaults here");
    if rows.len() >= VAULTS_PER_TAG_MAX {
        return Err(full());
    }
    let mut all = len;
    for (_, bytes) in &rows {
        let kept = kept(facts, decode(Table::Recovery, bytes)?)?;
        let internal = |e: CertificateError| refusal(RefusalCode::Internal, e.to_string());
        all += kept.found_by(tag).map_err(internal)?.map_or(0, |found| found.first.0.len());
        if all > ANSWER_LEN_MAX {
            return Err(full());
        }
    }
    Ok(rows.len() as u64)
}

impl Peer {
    /// Keeps a vault's card when it brings a tag that the vault had not, or is newer than what is kept.
    pub(super) fn handle_card(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        signed: &Signed<RecoveryCard>,
    ) -> Decision {
        let card = RecoveryCard::verify(signed)?;
        if role.device_of(card.vault).is_none() {
            return Err(refusal(
                RefusalCode::NotAllowed,
                "only a device of the vault brings its card",
            ));
        }
        let view = View { facts, overlay: &self.overlay };
        Self::check_vault_open(now, &view, card.vault)?;
        if view.count_pending(Table::Recovery, &[]) > 0 {
            // "Done" may not rest on rows that could still fail, and places are given one after the other.
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        let mut kept = kept(facts, card.vault)?;
        match kept.add(facts, &card, signed)? {
            Added::News(writes) => {
                self.check_agreed(now, card.vault)?;
                let response = Box::new(Response::Done);
                self.persist(writes, None, Then::Reply { lane, response, close: false });
                Ok(())
            }
            Added::Known => {
                self.reply(lane, Response::Done);
                Ok(())
            }
            Added::Old => {
                // Whoever has the vault's key may have been here before: that must not look as if all were well.
                let text = "other cards of the vault are kept here, and this one is not";
                Err(refusal(RefusalCode::NotAllowed, text))
            }
        }
    }

    /// Gives a stranger what was sealed to the recipient with this tag, and ends the connection. Whose it is, and whether
    /// there is anything, nobody learns who does not know the recipient.
    pub(super) fn handle_recover(
        &mut self,
        facts: &dyn Facts,
        link: LinkId,
        lane: LaneId,
        stranger: PublicKey,
        tag: RecoveryTag,
    ) -> Decision {
        let sealed = found(facts, tag)?;
        if sealed.is_empty() {
            let reason = "it asked for the recovery of what is not here";
            self.count_link_refusal(link, &refusal(RefusalCode::NotVouched, reason));
        } else {
            self.outputs.push_back(Output::Note(Note::Recovering { key: stranger }));
        }
        let response = Box::new(Response::Recovery { sealed });
        self.outputs.push_back(Output::Reply { lane, response, close: true });
        Ok(())
    }
}
