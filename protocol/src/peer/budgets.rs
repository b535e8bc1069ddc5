//! What each vault may add here in a day, so that a stolen key of a device can fill neither the node nor the memory of
//! whoever reads its logs.

use super::{Decision, Peer, refusal};
use crate::budget::{Budget, Rate};
use crate::id::VaultId;
use crate::message::RefusalCode;
use crate::planted::{Bug, is_planted};
use crate::time::Now;

/// Of log entries, per vault: a thousand sources that are backed up every hour write 40 MB a day.
const LOG: Rate = Rate { per_day: 64 << 20, burst: 256 << 20 };

/// The budgets of one vault.
#[derive(Debug)]
pub(super) struct Budgets {
    log: Budget,
    growth: Option<Budget>,
}

impl Peer {
    fn budgets(&mut self, now: Now, vault: VaultId) -> &mut Budgets {
        let growth = self.config.growth_per_day;
        self.budgets.entry(vault).or_insert_with(|| Budgets {
            log: Budget::full(LOG, now.mono),
            growth: growth.map(|per_day| Budget::full(Rate { per_day, burst: per_day }, now.mono)),
        })
    }

    /// Whether a vault may add an entry of so many bytes to its logs. The vault must be known here.
    pub(super) fn spend_log(&mut self, now: Now, vault: VaultId, bytes: usize) -> Decision {
        let spent = self.budgets(now, vault).log.spend(bytes as u64, now.mono);
        spent.map_err(|e| refusal(RefusalCode::Quota, format!("log entries: {e}")))
    }

    /// Whether a vault may add a shard of so many bytes. The vault must be known here.
    pub(super) fn spend_growth(&mut self, now: Now, vault: VaultId, bytes: u32) -> Decision {
        let Some(growth) = &mut self.budgets(now, vault).growth else { return Ok(()) };
        if is_planted(Bug::Growth) {
            return Ok(());
        }
        let spent = growth.spend(bytes.into(), now.mono);
        spent.map_err(|e| refusal(RefusalCode::Quota, e.to_string()))
    }
}
