//! Asks nodes, as a stranger, for what was sealed to an identity, and opens it.

use super::RecoverError;
use crate::client::ClientError;
use crate::client::mesh::ask_stranger;
use crate::client::recipients::Identities;
use crate::service::{full_address, split_address, wall};
use crate::size::format_time;
use futures::future::join_all;
use libp2p::Multiaddr;
use protocol::certificate::VaultCertificate;
use protocol::id::{NodeId, OperatorId, VaultId};
use protocol::message::{Greeting, Response};
use protocol::recovery::{ANSWER_LEN_MAX, RecoverySecret, RecoveryTag, VAULTS_PER_TAG_MAX};
use std::collections::BTreeMap;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a node has for its answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most cards in an answer: two of each vault.
const CARDS_MAX: usize = 2 * VAULTS_PER_TAG_MAX;

/// A card that was opened.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What it sealed.
    pub secret: RecoverySecret,
    /// Who vouches for the vault, by the card.
    pub operator: OperatorId,
    /// As it was sealed.
    pub(super) sealed: Vec<u8>,
}

/// What nodes gave.
#[derive(Debug, Default)]
pub struct Found {
    /// By vault what was opened, those that came first before later ones: there is more than one where somebody
    /// changed the card.
    pub vaults: BTreeMap<VaultId, Vec<Candidate>>,
    /// The nodes that answered.
    pub nodes: Vec<Multiaddr>,
    /// What went wrong with others.
    pub faults: Vec<String>,
    cards: usize,
    reason: Option<RecoverError>,
}

/// Asks the nodes at these addresses.
pub async fn find(from: &[Multiaddr], identities: &Identities) -> Result<Found, RecoverError> {
    let tags: Vec<RecoveryTag> =
        identities.recipients().iter().map(|recipient| RecoveryTag::of(recipient)).collect();
    let asked = from.iter().flat_map(|address| tags.iter().map(move |&tag| ask(address, tag)));
    let mut found = Found::default();
    for answer in join_all(asked).await {
        match answer {
            Ok((node, sealed)) => {
                if !found.nodes.contains(&node) {
                    found.nodes.push(node);
                }
                found.take(sealed, identities);
            }
            Err(error) => found.faults.push(error.to_string()),
        }
    }
    if found.nodes.is_empty() {
        return Err(RecoverError::NoAnswer(found.faults.join("; ")));
    }
    if found.vaults.is_empty() {
        let nodes: Vec<String> = found.nodes.iter().map(ToString::to_string).collect();
        return Err(found.reason.unwrap_or_else(|| RecoverError::Nothing(nodes.join(", "))));
    }
    Ok(found)
}

/// The node's full address, and what it has for a tag.
async fn ask(
    address: &Multiaddr,
    tag: RecoveryTag,
) -> Result<(Multiaddr, Vec<Vec<u8>>), ClientError> {
    let greeting = Greeting::Recover { tag };
    let asked = ask_stranger(address, &greeting);
    let late = |_| ClientError::NoNode(format!(" at {address}: no answer within {PATIENCE:?}"));
    let (node, answer) = tokio::time::timeout(PATIENCE, asked).await.map_err(late)??;
    match answer {
        Response::Recovery { sealed } => {
            let sealed = bounded(sealed.into_iter().map(|blob| blob.0));
            Ok((full_without_twice(address, node), sealed))
        }
        Response::Refused(refusal) => Err(ClientError::Refused { node: node.short(), refusal }),
        _ => Err(ClientError::node(node, "an unexpected answer to who wants to recover")),
    }
}

fn full_without_twice(address: &Multiaddr, node: NodeId) -> Multiaddr {
    match split_address(address) {
        Some((_, bare)) => full_address(&bare, node),
        None => full_address(address, node),
    }
}

/// No more than an honest node keeps: opening costs time.
fn bounded(sealed: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut room = ANSWER_LEN_MAX;
    let fits = |card: &Vec<u8>| {
        let left = room.checked_sub(card.len());
        room = left.unwrap_or_default();
        left.is_some()
    };
    sealed.take(CARDS_MAX).take_while(fits).collect()
}

impl Found {
    fn take(&mut self, sealed: Vec<Vec<u8>>, identities: &Identities) {
        for card in sealed {
            self.cards += 1;
            match open(&card, identities) {
                Ok(candidate) => self.add(candidate),
                // A clock that is wrong explains everything; what else is wrong with cards may be somebody's noise.
                Err(error @ RecoverError::Clock { .. }) => self.reason = Some(error),
                Err(error) if !matches!(self.reason, Some(RecoverError::Clock { .. })) => {
                    let reason = error.to_string();
                    self.reason = Some(RecoverError::Unusable { count: self.cards, reason });
                }
                Err(_) => {}
            }
        }
    }

    /// The vaults, as people are told of them.
    #[must_use]
    pub fn names(&self) -> String {
        let all: Vec<String> = self.vaults.iter().map(|(id, found)| shown(*id, found)).collect();
        all.join(", ")
    }

    fn add(&mut self, candidate: Candidate) {
        let known = self.vaults.entry(candidate.secret.vault()).or_default();
        let is_known = |known: &Candidate| {
            known.secret.certificate == candidate.secret.certificate
                && known.secret.secret == candidate.secret.secret
        };
        if !known.iter().any(is_known) {
            known.push(candidate);
        }
    }

    /// Leaves the vault whose id or name begins so, or all of them.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn choose(&mut self, wanted: Option<&str>) -> Result<(), RecoverError> {
        let Some(wanted) = wanted else { return Ok(()) };
        let known = self.names();
        let prefix = wanted.to_ascii_lowercase();
        let fits = |id: VaultId| {
            let shown = [id.to_string(), id.key().fingerprint()];
            let plain = |text: &str| text.replace([' ', '-', ':'], "").to_ascii_lowercase();
            shown.iter().any(|text| plain(text).starts_with(&plain(&prefix)))
        };
        let named: Vec<VaultId> = self
            .vaults
            .iter()
            .filter(|(id, found)| fits(**id) || found[0].secret.name == wanted)
            .map(|(id, _)| *id)
            .collect();
        let [one] = named[..] else {
            return Err(RecoverError::NotAmong { wanted: wanted.into(), known });
        };
        self.vaults.retain(|id, _| *id == one);
        Ok(())
    }
}

/// A vault as people are told of it.
fn shown(id: VaultId, found: &[Candidate]) -> String {
    let name: String = found[0].secret.name.escape_default().collect();
    format!("{name} ({})", id.short())
}

fn open(sealed: &[u8], identities: &Identities) -> Result<Candidate, RecoverError> {
    let content = |error: &dyn std::fmt::Display| RecoverError::Unusable {
        count: 1,
        reason: error.to_string(),
    };
    let plain = Zeroizing::new(identities.open(sealed).map_err(|e| content(&e))?);
    let (secret, operator) = RecoverySecret::decode(&plain).map_err(|e| content(&e))?;
    let (vault, now) = (secret.vault(), wall());
    let certificate = secret.certificate.verify().map_err(|e| content(&e))?;
    VaultCertificate::verify(&secret.certificate, now).map_err(|_| RecoverError::Clock {
        vault,
        now: format_time(now),
        from: format_time(certificate.issued),
        until: format_time(certificate.expires),
    })?;
    Ok(Candidate { secret, operator, sealed: sealed.to_vec() })
}
