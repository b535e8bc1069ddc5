//! What nodes did for a command, and the receipts that it gives them for that at its end ([`protocol::served`]).
//!
//! A device keeps no copy: its next receipt follows the one that the holder shows, under the device's own signature. Nobody is given one by
//! its own operator, and a node that does not take it costs the command nothing.

use super::{Caller, Mesh, Node};
use crate::client::Result;
use crate::service::wall;
use protocol::id::{OperatorId, PublicKey, VaultId};
use protocol::message::{Greeting, Request, Response};
use protocol::served::ServiceReceipt;
use protocol::sign::Signed;
use protocol::tally::{Done, Month};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a command waits for nodes to take their receipts.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a receipt is made to follow another one: other sessions of the device may be at it.
const TRIES: usize = 4;

impl Node {
    /// It did something for this command.
    pub fn note(&self, more: Done) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        *served = served.plus(more);
    }

    fn take_served(&self) -> Done {
        std::mem::take(&mut *self.served.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives it a receipt for all that it did since the last one.
    async fn acknowledge(&self, caller: &Caller, vault: VaultId, more: Done) -> Result<()> {
        let (by, when) = (caller.key.public(), wall());
        let month = Month::of(when);
        let mut last: Option<ServiceReceipt> = None;
        for _ in 0..TRIES {
            let receipt =
                ServiceReceipt::next((by, self.id, vault), month, last.as_ref(), more, when);
            let signed = Box::new(Signed::sign(&receipt, &caller.key));
            match self.request(&Request::Served(signed)).await? {
                Response::Served(known) => match is_last(&known, by, &receipt) {
                    Some(known) => last = Some(known),
                    None => break,
                },
                _ => break,
            }
        }
        Ok(())
    }
}

/// What a holder shows, where it is this device's word of the same month.
fn is_last(
    known: &Signed<ServiceReceipt>,
    by: PublicKey,
    given: &ServiceReceipt,
) -> Option<ServiceReceipt> {
    let known = known.verify().ok()?;
    let what = |receipt: &ServiceReceipt| (receipt.holder, receipt.vault, receipt.month);
    (known.by == by && what(&known) == what(given)).then_some(known)
}

/// The vault for which a device comes, and whose it is.
fn vault_of(caller: &Caller) -> Option<(VaultId, OperatorId)> {
    match &caller.greeting {
        Greeting::Device { vault, .. } => Some((vault.verify().ok()?.vault, caller.operator)),
        _ => None,
    }
}

impl Mesh {
    /// Gives nodes of other operators receipts for what they did for this command.
    pub async fn acknowledge(&self) {
        let mut tasks = JoinSet::new();
        for node in self.nodes.values().chain(self.late.values()) {
            let caller = Arc::clone(&node.caller);
            let more = node.take_served();
            let Some((vault, operator)) = vault_of(&caller) else { continue };
            let is_owed = more != Done::default() && node.site.operator != operator;
            if !is_owed || node.is_resting() {
                continue;
            }
            let node = Arc::clone(node);
            tasks.spawn(async move {
                if let Err(error) = node.acknowledge(&caller, vault, more).await {
                    tracing::debug!(node = node.id.short(), %error, "a receipt was not taken");
                }
            });
        }
        let _ = tokio::time::timeout(PATIENCE, tasks.join_all()).await;
    }
}
