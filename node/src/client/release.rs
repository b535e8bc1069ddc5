//! What owners and guardians say to holders: releases, vetoes, holds; and what holders tell of them.

use super::mesh::{Caller, Mesh, Node};
use super::vault;
use super::{ClientError, Result};
use crate::home::{Home, HomeError, read_signed};
use protocol::discharge::Discharge;
use protocol::id::{NodeId, VaultId};
use protocol::message::{Outcome, RefusalCode, Released, Request, Response, Standstill};
use protocol::release::{Approval, Release, ReleaseError, ReleaseRequest};
use protocol::sign::Signed;
use protocol::time::Period;
use serde::Serialize;
use std::path::Path;

/// What a vault asks holders to give up, as it is sent, and handed to guardians in files.
#[derive(Debug, Clone)]
pub enum Asked {
    /// Stripes, wherever they lie.
    Everywhere(Signed<ReleaseRequest>),
    /// A node's shards of some.
    At(Signed<Discharge>),
}

impl Asked {
    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is no signed statement. Whether it is what it should be is found out by [`Asked::verify`].
    pub fn read(path: &Path) -> std::result::Result<Option<Self>, HomeError> {
        let Some(signed) = read_signed::<ReleaseRequest>(path)? else { return Ok(None) };
        if signed.verify().is_err()
            && let Ok(Some(discharge)) = read_signed::<Discharge>(path)
            && discharge.verify().is_ok()
        {
            return Ok(Some(Self::At(discharge)));
        }
        Ok(Some(Self::Everywhere(signed)))
    }

    /// Verifies it, and the approvals that come with it.
    ///
    /// # Errors
    /// As [`Release::verify`].
    pub fn verify(
        &self,
        approvals: &[Signed<Approval>],
    ) -> std::result::Result<Release, ReleaseError> {
        match self {
            Self::Everywhere(request) => Release::verify(request, approvals, &[]),
            Self::At(discharge) => Release::verify(discharge, approvals, &[]),
        }
    }

    /// As it stands in a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Everywhere(request) => request.to_bytes(),
            Self::At(discharge) => discharge.to_bytes(),
        }
    }

    fn to_request(&self, approvals: &[Signed<Approval>], from: u32) -> Request {
        let approvals = approvals.to_vec();
        match self.clone() {
            Self::Everywhere(request) => Request::Release { request, approvals, from },
            Self::At(discharge) => Request::Discharge { discharge, approvals, from },
        }
    }

    /// The node that alone it concerns.
    fn node(&self) -> Option<NodeId> {
        match self {
            Self::Everywhere(_) => None,
            Self::At(discharge) => discharge.verify().ok().map(|discharge| discharge.node),
        }
    }
}

/// Who is spoken to, and of which vault.
#[derive(Debug)]
pub struct Audience {
    /// The nodes.
    pub mesh: Mesh,
    /// The vault.
    pub vault: VaultId,
}

impl Audience {
    /// The holders of a vault of this host, by its name; or by its id, as the operator of this host's node.
    ///
    /// # Errors
    /// When there is no such vault, or nobody answers.
    pub async fn gather(home: &Home, name: Option<&str>) -> Result<Self> {
        if let Some(vault) = name.and_then(|name| name.parse::<VaultId>().ok()) {
            let mesh = Mesh::connect(home, Caller::console(home)?).await?;
            return Ok(Self { mesh, vault });
        }
        let vault = vault::choose(home, name)?;
        let mesh = Mesh::connect(home, Caller::device(&vault)).await?;
        Ok(Self { mesh, vault: vault.id })
    }

    /// What runs and what holds it up, by node. Who does not know the vault is left out.
    pub async fn standstills(&self) -> Vec<(NodeId, Result<Standstill>)> {
        let answers = self.mesh.ask_all(&Request::Releases(self.vault)).await;
        let standstill = |(node, answer): (std::sync::Arc<Node>, Result<Response>)| {
            let told = match answer {
                Ok(Response::Releases(standstill)) => Ok(*standstill),
                Ok(_) => Err(ClientError::node(node.id, "an unexpected answer")),
                Err(error) if is_unknown(&error) => return None,
                Err(error) => Err(error),
            };
            Some((node.id, told))
        };
        answers.into_iter().filter_map(standstill).collect()
    }

    /// Says something that is done or refused, to everybody. By node: whether it is done. Who does not know the vault is
    /// left out.
    pub async fn say(&self, request: &Request) -> Vec<(NodeId, Result<()>)> {
        let answers = self.mesh.ask_all(request).await;
        let said = |(node, answer): (std::sync::Arc<Node>, Result<Response>)| {
            let done = match answer {
                Ok(Response::Done) => Ok(()),
                Ok(_) => Err(ClientError::node(node.id, "an unexpected answer")),
                Err(error) if is_unknown(&error) => return None,
                Err(error) => Err(error),
            };
            Some((node.id, done))
        };
        answers.into_iter().filter_map(said).collect()
    }
}

fn is_unknown(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { refusal, .. } if refusal.code == RefusalCode::UnknownVault)
}

/// What a release came to at one node.
#[derive(Debug, Default, Serialize)]
pub struct Came {
    /// The node.
    pub node: String,
    /// Shards that will be dropped,
    pub cooling: u64,
    /// after so many milliseconds at most.
    pub cooling_for: u64,
    /// Shards that are locked or on hold,
    pub locked: u64,
    /// for so many milliseconds at most.
    pub locked_for: u64,
    /// Shards for which it does not count.
    pub refused: u64,
    /// Why, for the first of them; or why the node did not answer.
    pub why: Option<String>,
}

/// Brings a release to every node that it concerns, page by page.
pub async fn send(mesh: &Mesh, asked: &Asked, approvals: &[Signed<Approval>]) -> Vec<Came> {
    let alone = asked.node();
    let nodes = mesh.nodes.values().filter(|node| alone.is_none_or(|alone| node.id == alone));
    let to_each = nodes.map(|node| async {
        let mut came = Came { node: node.id.short(), ..Came::default() };
        if let Err(error) = send_to(node, asked, approvals, &mut came).await {
            if is_unknown(&error) {
                return None;
            }
            came.why.get_or_insert(error.to_string());
        }
        Some(came)
    });
    futures::future::join_all(to_each).await.into_iter().flatten().collect()
}

async fn send_to(
    node: &Node,
    asked: &Asked,
    approvals: &[Signed<Approval>],
    came: &mut Came,
) -> Result<()> {
    let mut from = 0;
    loop {
        let answer = node.request(&asked.to_request(approvals, from)).await?;
        let Response::Released(Released { outcomes, next }) = answer else {
            return Err(ClientError::node(node.id, "an unexpected answer to a release"));
        };
        for (_, outcome) in outcomes {
            came.take(outcome);
        }
        match next {
            Some(next) if next > from => from = next,
            _ => return Ok(()),
        }
    }
}

impl Came {
    fn take(&mut self, outcome: Outcome) {
        let longer = |known: &mut u64, remaining: Period| *known = (*known).max(remaining.0);
        match outcome {
            Outcome::NotHeld => {}
            Outcome::Cooling { remaining } => {
                self.cooling += 1;
                longer(&mut self.cooling_for, remaining);
            }
            Outcome::Locked { remaining } => {
                self.locked += 1;
                longer(&mut self.locked_for, remaining);
            }
            Outcome::Other(release) => {
                self.refused += 1;
                self.why.get_or_insert(format!("release {} is running already", release.short()));
            }
            Outcome::Refused(why) => {
                self.refused += 1;
                self.why.get_or_insert(why);
            }
        }
    }
}
