//! What each vault, and all vaults of a partner together, may add here in a day, so that a stolen key of a device can fill neither the node nor the memory of
//! whoever reads its logs.

use super::{Decision, Peer, refusal};
use crate::budget::{Budget, Rate};
use crate::id::VaultId;
use crate::message::RefusalCode;
use crate::planted::{Bug, is_planted};
use crate::time::Now;

/// Of log entries, per vault: a thousand sources that are backed up every hour write 40 MB a day.
const LOG: Rate = Rate { per_day: 64 << 20, burst: 256 << 20 };

/// Of what nodes bring that a device brought elsewhere, per vault: four times what comes in a day, so that who lacks everything is up to
/// date in a quarter of the time that it took to write at most, and at once in all but the largest vaults. A device's key and a
/// lying node together fill no more than that.
const CATCHING_UP: Rate = Rate { per_day: 4 * (64 << 20), burst: 1 << 30 };

/// So many vaults' budgets all vaults of one partner have together: it may make more vaults than it needs.
const PARTNER_VAULTS: u64 = 4;

fn together(rate: Rate) -> Rate {
    Rate { per_day: rate.per_day * PARTNER_VAULTS, burst: rate.burst * PARTNER_VAULTS }
}

/// The budgets of all vaults of one partner.
#[derive(Debug)]
pub(super) struct PartnerBudgets {
    log: Budget,
    catching_up: Budget,
}

/// The budgets of one vault.
#[derive(Debug)]
pub(super) struct Budgets {
    log: Budget,
    catching_up: Budget,
    growth: Option<Budget>,
}

impl Peer {
    fn budgets(&mut self, now: Now, vault: VaultId) -> &mut Budgets {
        let growth = self.config.growth_per_day;
        self.budgets.entry(vault).or_insert_with(|| Budgets {
            log: Budget::full(LOG, now.mono),
            catching_up: Budget::full(CATCHING_UP, now.mono),
            growth: growth.map(|per_day| Budget::full(Rate { per_day, burst: per_day }, now.mono)),
        })
    }

    /// The budgets of the partner whose vault it is; `None` of those that need no agreement.
    fn partner_budgets(&mut self, now: Now, vault: VaultId) -> Option<&mut PartnerBudgets> {
        let operator = self.partner_of(vault)?;
        let budgets = self.partner_budgets.entry(operator);
        Some(budgets.or_insert_with(|| PartnerBudgets {
            log: Budget::full(together(LOG), now.mono),
            catching_up: Budget::full(together(CATCHING_UP), now.mono),
        }))
    }

    /// Whether a vault may add an entry of so many bytes to its logs. The vault must be known here.
    pub(super) fn spend_log(&mut self, now: Now, vault: VaultId, bytes: usize) -> Decision {
        let bytes = bytes as u64;
        // First its own: what one vault is refused costs the others nothing.
        let mut spent = self.budgets(now, vault).log.spend(bytes, now.mono);
        if spent.is_ok()
            && let Some(all) = self.partner_budgets(now, vault)
        {
            spent = all.log.spend(bytes, now.mono);
        }
        spent.map_err(|e| refusal(RefusalCode::Quota, format!("log entries: {e}")))
    }

    /// Whether a node may bring so many bytes of a vault's papers and logs.
    pub(super) fn spend_catching_up(&mut self, now: Now, vault: VaultId, bytes: usize) -> Decision {
        let bytes = bytes as u64;
        let mut spent = self.budgets(now, vault).catching_up.spend(bytes, now.mono);
        if spent.is_ok()
            && let Some(all) = self.partner_budgets(now, vault)
        {
            spent = all.catching_up.spend(bytes, now.mono);
        }
        spent.map_err(|e| refusal(RefusalCode::Quota, format!("what nodes bring: {e}")))
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
