//! What each vault, and all vaults of a partner together, may add here in a day, so that a stolen key of a device can fill neither the node nor the memory of
//! whoever reads its logs.

use super::{Decision, Peer, refusal};
use crate::budget::{Budget, Pace, Rate};
use crate::id::{OperatorId, VaultId};
use crate::message::RefusalCode;
use crate::planted::{Bug, is_planted};
use crate::time::{Now, Period};

/// Of log entries, per vault: a thousand sources that are backed up every hour write 40 MB a day.
const LOG: Rate = Rate { per_day: 64 << 20, burst: 256 << 20 };

/// Of what nodes bring that a device brought elsewhere, per vault: four times what comes in a day, so that who lacks everything is up to
/// date in a quarter of the time that it took to write at most, and at once in all but the largest vaults. A device's key and a
/// lying node together fill no more than that.
const CATCHING_UP: Rate = Rate { per_day: 4 * (64 << 20), burst: 1 << 30 };

/// A partner's bandwidth holds so many seconds of its rate after a rest.
const PACE_BURST_SECONDS: u64 = 2;
/// Bytes that would have to wait longer are not begun with: whoever sends them is told to come again.
const PACE_WAIT_MAX: Period = Period::seconds(5);

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
    /// Of shards that go and come, where that is bounded.
    pace: Option<Pace>,
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

    /// After how long so many bytes may go to or come from a partner; an error says when to ask again.
    pub(super) fn pace(
        &mut self,
        now: Now,
        partner: Option<OperatorId>,
        bytes: u32,
    ) -> Result<Period, Period> {
        let (Some(partner), Some(per_second)) = (partner, self.config.partner_per_second) else {
            return Ok(Period(0));
        };
        let pace = self.budgets_of(now, partner).pace.get_or_insert_with(|| {
            let burst = per_second.saturating_mul(PACE_BURST_SECONDS);
            Pace::full(per_second, burst, now.mono)
        });
        pace.take(bytes.into(), now.mono, PACE_WAIT_MAX).map_err(|late| late.min(PACE_WAIT_MAX))
    }

    /// The budgets of the partner whose vault it is; `None` of those that need no agreement.
    fn partner_budgets(&mut self, now: Now, vault: VaultId) -> Option<&mut PartnerBudgets> {
        let operator = self.partner_of(vault)?;
        Some(self.budgets_of(now, operator))
    }

    fn budgets_of(&mut self, now: Now, operator: OperatorId) -> &mut PartnerBudgets {
        let budgets = self.partner_budgets.entry(operator);
        budgets.or_insert_with(|| PartnerBudgets {
            log: Budget::full(together(LOG), now.mono),
            catching_up: Budget::full(together(CATCHING_UP), now.mono),
            pace: None,
        })
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
