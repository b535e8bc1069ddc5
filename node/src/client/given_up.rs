//! What the vault gives up, as its log has it: said there before any holder is asked, and told aloud where another device has
//! brought it. What it means is [`protocol::given_up`]'s.

use super::Result;
use super::ledger::{Brought, Ledger};
use super::mesh::Mesh;
use super::vault::Vault;
use crate::service::wall;
use crate::size::{counted, format_time};
use protocol::id::{DeviceId, StripeId};
use protocol::log::Body;
use protocol::sign::{SecretKey, Signed};
use std::collections::BTreeSet;

/// Says in the log that these stripes are given up, and takes back those that are needed. Not again what was said before.
pub(super) async fn say(
    ledger: &mut Ledger,
    mesh: &Mesh,
    vault: &Vault,
    key: &SecretKey,
    (unneeded, needed): (&BTreeSet<StripeId>, &BTreeSet<StripeId>),
) -> Result<()> {
    for said in ledger.given_up().to_say(vault.id, unneeded, needed) {
        let body = Body::GivenUp(Signed::sign(&said, key));
        let _ = ledger.append(mesh, vault, body, false).await?;
    }
    Ok(())
}

/// What other devices than this one have brought, as long as locks that it concerns may last.
fn brought_by_others<'a>(
    vault: &'a Vault,
    ledger: &'a Ledger,
) -> impl Iterator<Item = (&'a DeviceId, &'a Brought)> {
    let (own, now, period) = (vault.device_id(), wall(), vault.policy.lock.period);
    let brought = ledger.given_up_by().iter();
    brought.filter(move |(device, brought)| **device != own && brought.last.after(period) > now)
}

/// What to tell people of stripes that another device gave up with the vault's key.
pub(super) fn note(vault: &Vault, ledger: &Ledger) -> Option<String> {
    let brought = brought_by_others(vault, ledger);
    let parts: Vec<String> = brought
        .map(|(device, brought)| {
            let stripes = counted(brought.stripes as usize, "stripe");
            format!("{stripes} by device {}, last {}", device.short(), format_time(brought.last))
        })
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "given up with the vault's key on another host: {}; if that was not you, somebody else has the key, and `strewn prune --apply` with the recovery identity takes back what snapshots need",
            parts.join("; ")
        )
    })
}
