//! The stripes that a vault's log and index name. Whoever looks at its health counts these: a stripe of which every record is
//! gone is listed by no node, and would not be missed otherwise. Needs no identity: every device reads the index.

use super::Result;
use super::index::Index;
use super::ledger::Ledger;
use super::packs::Packs;
use super::vault::Vault;
use protocol::id::{SessionId, StripeId};
use protocol::log::Body;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a stripe by what names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// The session that wrote it.
    pub(super) session: SessionId,
    /// Shards that reading it needs, as far as that is known; at least one.
    pub(super) needed: usize,
}

/// All stripes that the log or the index ever named, also those that need not be missed any more. What nodes have besides was left by a backup
/// that did not end, or is being written now.
pub(super) async fn ever_named(
    vault: &Vault,
    packs: &Packs,
    ledger: &Ledger,
) -> Result<BTreeSet<StripeId>> {
    let mut ever: BTreeSet<StripeId> = named(vault, packs, ledger).await?.into_keys().collect();
    ever.extend(Index::open(&vault.caches())?.replaced()?);
    ever.extend(ledger.given_up().stripes());
    Ok(ever)
}

/// All stripes that are named: index stripes by the log, the others by index packs and by this host's cache of them. To be
/// asked before nodes list what they have: what is named now was stored before.
pub(super) async fn named(
    vault: &Vault,
    packs: &Packs,
    ledger: &Ledger,
) -> Result<BTreeMap<StripeId, Named>> {
    let index = Index::open(&vault.caches())?;
    packs.sync_index(ledger, &index).await?;
    let mut named = BTreeMap::new();
    for logged in ledger.all() {
        let Body::Index { session, stripes } = &logged.entry.body else { continue };
        // One that cannot be read is named all the same, and counted for what it is.
        let once = |stripe: &StripeId| (*stripe, Named { session: *session, needed: 1 });
        named.extend(stripes.iter().map(once));
    }
    index.each_pack(|_, pack| {
        let known = Named { session: pack.session, needed: usize::from(pack.k).max(1) };
        named.insert(pack.stripe, known);
    })?;
    // Whoever was sent again because of them need not be missed, nor what was given up.
    for stripe in index.replaced()?.iter().chain(&ledger.given_up().stripes()) {
        named.remove(stripe);
    }
    Ok(named)
}
