//! Asking holders to extend the locks of what a vault needs: every backup does, also for what did not change, because
//! what nobody asks for any more can be released once its lock has ended.
//!
//! What is needed is everything that the log and the index name, but for stripes whose every chunk was sent again, and those
//! that the vault gave up (of the index only where another block lists the same). Which of it an older snapshot refers to only its
//! reader could tell. A node is not asked for what the vault discharged it of: others have that as well.
//!
//! It is done before anything is read from the source: what holders have given up, or are about to, must not be taken for
//! known. So a holder is asked when a tenth of the lock's period has passed, up to 4096 stripes in a request, and at once
//! when a release is running there: what was extended so lately is locked, and cannot begin to cool meanwhile.

use super::index::Index;
use super::ledger::Ledger;
use super::mesh::{Mesh, Node};
use super::vault::Vault;
use super::{ClientError, Result};
use crate::home::{read_file, write_file};
use crate::service::wall;
use protocol::codec;
use protocol::id::{NodeId, StripeId};
use protocol::log::Body;
use protocol::message::{IDS_MAX, RefusalCode, Request, Response};
use protocol::time::{Period, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::JoinSet;

/// When which holder was asked, in the vault's cache: losing it costs asking once more.
const EXTENDED: &str = "extended";

/// What extending came to.
#[derive(Debug, Default)]
pub struct Extended {
    /// Shards whose locks were extended.
    pub shards: u64,
    /// What went wrong with which node: it is asked again next time.
    pub failed: Vec<(NodeId, String)>,
    /// Nodes that keep shards for less than half of what the policy asks, and how many.
    pub short: BTreeMap<NodeId, u64>,
}

/// What one holder answered.
#[derive(Default)]
struct Answer {
    shards: u64,
    short: u64,
    /// Stripes of which it holds nothing.
    without: Vec<StripeId>,
}

/// The holders that are to be asked now.
async fn due(
    vault: &Vault,
    mesh: &Mesh,
    asked: &BTreeMap<NodeId, Wall>,
) -> (Vec<Arc<Node>>, Vec<(NodeId, String)>) {
    let now = wall();
    let is_late = |last: &Wall| vault.policy.lock.is_extension_due(*last, now);
    let (mut due, mut failed) = (Vec::new(), Vec::new());
    for (node, answer) in mesh.ask_all(&Request::Releases(vault.id)).await {
        match answer {
            Ok(Response::Releases(standstill)) => {
                let is_still = standstill.running.iter().all(|running| running.remaining.0 == 0);
                if !is_still || asked.get(&node.id).is_none_or(is_late) {
                    due.push(node);
                }
            }
            Ok(_) => failed.push((node.id, "an unexpected answer about releases".into())),
            // Who does not know the vault holds nothing of it.
            Err(ClientError::Refused { refusal, .. })
                if refusal.code == RefusalCode::UnknownVault => {}
            Err(error) => failed.push((node.id, error.to_string())),
        }
    }
    (due, failed)
}

/// Extends the locks of everything that the vault needs, at the holders that answer and are due.
pub(super) async fn extend(
    vault: &Vault,
    mesh: &Mesh,
    ledger: &Ledger,
    index: &Index,
) -> Result<Extended> {
    let mut extended = Extended::default();
    let period = vault.policy.lock.period;
    let stored = read_file(&vault.cache(EXTENDED))?.unwrap_or_default();
    let mut asked: BTreeMap<NodeId, Wall> =
        codec::decode(&stored, codec::VALUE_LEN_MAX).unwrap_or_default();
    let (due, failed) = due(vault, mesh, &asked).await;
    extended.failed = failed;
    if due.is_empty() {
        return Ok(extended);
    }
    let stripes = Arc::new(needed(ledger, index)?);
    let mut tasks = JoinSet::new();
    for node in due {
        let begun = wall();
        let discharged = ledger.discharged();
        let is_needed = |stripe: &StripeId| !discharged.is_discharged(node.id, *stripe, begun);
        let stripes = if stripes.iter().all(is_needed) {
            Arc::clone(&stripes)
        } else {
            Arc::new(stripes.iter().copied().filter(is_needed).collect())
        };
        let vault = vault.id;
        tasks.spawn(async move {
            let answer = extend_at(&node, vault, &stripes, period).await;
            (node.id, begun, answer)
        });
    }
    for (node, begun, answer) in tasks.join_all().await {
        match answer {
            Ok(Answer { shards, short, without }) => {
                forget_holder(index, node, &without)?;
                asked.insert(node, begun);
                extended.shards += shards;
                if short > 0 {
                    extended.short.insert(node, short);
                }
            }
            Err(error) => extended.failed.push((node, error.to_string())),
        }
    }
    write_file(&vault.cache(EXTENDED), &codec::encode(&asked), 0o600)?;
    Ok(extended)
}

/// A node holds nothing of these stripes: that it was a holder once counts no more.
fn forget_holder(index: &Index, node: NodeId, stripes: &[StripeId]) -> Result<()> {
    let mut fewer = Vec::new();
    for &stripe in stripes {
        if let Some(mut holders) = index.holders(stripe)?
            && holders.nodes.contains(&node)
        {
            holders.nodes.retain(|holder| *holder != node);
            fewer.push((stripe, holders));
        }
    }
    index.set_holders(&fewer)
}

fn needed(ledger: &Ledger, index: &Index) -> Result<Vec<StripeId>> {
    let (mut needed, given_up) = (BTreeSet::new(), ledger.given_up());
    let mut packs = Vec::new();
    index.each_pack(|number, pack| {
        if !given_up.contains(pack.stripe) {
            needed.insert(pack.stripe);
            packs.push(number);
        }
    })?;
    for logged in ledger.all() {
        if let Body::Index { stripes, .. } = &logged.entry.body {
            needed.extend(stripes.iter().filter(|stripe| !given_up.contains(**stripe)));
        }
    }
    // What alone lists something that was not given up is needed, whoever gave it up.
    for pack in packs {
        needed.extend(index.listing(pack)?.stripe());
    }
    for stripe in &index.replaced()? {
        needed.remove(stripe);
    }
    Ok(needed.into_iter().collect())
}

async fn extend_at(
    node: &Node,
    vault: protocol::id::VaultId,
    stripes: &[StripeId],
    period: Period,
) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut rest = stripes;
    while !rest.is_empty() {
        let some = &rest[..rest.len().min(IDS_MAX)];
        let request = Request::Extend { vault, stripes: some.to_vec() };
        let Response::Extended(ends) = node.request(&request).await? else {
            return Err(ClientError::node(node.id, "an unexpected answer about locks"));
        };
        if ends.is_empty() || ends.len() > some.len() {
            return Err(ClientError::node(node.id, "it answers for other stripes"));
        }
        for (remaining, stripe) in ends.iter().zip(rest) {
            match remaining {
                Some(remaining) => {
                    answer.shards += 1;
                    answer.short += u64::from(remaining.0 < period.0 / 2);
                }
                None => answer.without.push(*stripe),
            }
        }
        rest = &rest[ends.len()..];
    }
    Ok(answer)
}
