//! What a holder did for others, in the words of those for whom it did it.
//!
//! ```text
//! who wrote, read, audited ──signs──► ServiceReceipt { holder, vault, month, what was done so far in it }     both keep it
//! ```
//! Where a shard lies is shown by the holder's receipt ([`crate::record::Receipt`]); that bytes were sent, or that somebody asked for a proof,
//! leaves nothing behind that could be counted again later. So whoever was served signs it, and a holder states of a month
//! ([`crate::tally`]) what such receipts come to and nothing else. What nobody signed for is not claimed.
//!
//! - Each says all of its month so far, so that only the last one of a giver is kept, and one that is lost costs nothing once the next is there.
//! - A giver has its next one follow the last one that it knows of: its own copy, or the one that the holder shows, under its own signature.
//!   Two that follow the same one (two sessions of a device at once) are told from each other by the holder, which takes one of them.
//! - Whoever counts again ([`ServiceCount`]) takes what the holder shows, and beside it what givers have that it does not show: a holder cannot
//!   leave out the receipts that speak against it.

use crate::id::{NodeId, PublicKey, VaultId};
use crate::sign::{Signed, Statement};
use crate::tally::{Difference, Done, Month, UsageStatement};
use crate::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// For so long a receipt may be on its way to the holder.
const ON_ITS_WAY: Period = Period::days(1);

/// What a holder did for somebody in a month, as that one says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReceipt {
    /// Who was served: a device of the vault, or a node that holds shards of it.
    pub by: PublicKey,
    /// Who served.
    pub holder: NodeId,
    /// Of whose shards.
    pub vault: VaultId,
    /// In which month, by the giver's wall clock.
    pub month: Month,
    /// The giver's receipts of this month at this holder are numbered.
    pub number: u64,
    /// All that was done in it so far.
    pub done: Done,
    /// When this was said, by the giver's wall clock.
    pub when: Wall,
}

impl Statement for ServiceReceipt {
    const CONTEXT: &'static str = "strewn service receipt";
    const LEN_MAX: usize = 256;
    fn signer(&self) -> PublicKey {
        self.by
    }
}

/// A receipt that does not count where it is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Signature or encoding.
    #[error(transparent)]
    Signature(#[from] crate::sign::SignatureError),
    /// It is about something else.
    #[error("a receipt for service of another holder, vault or month")]
    Other,
    /// By nobody who could have been served.
    #[error(
        "a receipt for service by {0}, which is no device of the vault and holds nothing of it"
    )]
    Giver(PublicKey),
}

impl ServiceReceipt {
    /// The one that follows the last one of its month, and says that so much more was done.
    #[must_use]
    pub fn next(
        (by, holder, vault): (PublicKey, NodeId, VaultId),
        month: Month,
        last: Option<&Self>,
        more: Done,
        when: Wall,
    ) -> Self {
        let (number, done) = last.map_or((0, Done::default()), |last| (last.number, last.done));
        let (number, done) = (number.saturating_add(1), done.plus(more));
        Self { by, holder, vault, month, number, done, when }
    }

    /// How much more it says than the last one that is known; `None` where it does not follow that.
    #[must_use]
    pub fn adds(&self, last: Option<&Self>) -> Option<Done> {
        match last {
            None => Some(self.done),
            Some(last) if self.number > last.number => self.done.minus(last.done),
            Some(_) => None,
        }
    }

    fn is_about(&self, holder: NodeId, vault: VaultId, month: Month) -> bool {
        (self.holder, self.vault, self.month) == (holder, vault, month)
    }
}

/// What receipts for service come to, beside what their holder states.
#[derive(Debug, Clone)]
pub struct ServiceCount {
    holder: NodeId,
    vault: VaultId,
    month: Month,
    /// Who can have been served; `None` where that is not known.
    givers: Option<BTreeSet<PublicKey>>,
    shown: BTreeMap<PublicKey, ServiceReceipt>,
    /// Those that others have.
    elsewhere: BTreeMap<PublicKey, ServiceReceipt>,
}

impl ServiceCount {
    /// Nothing yet, of the holder, vault and month of a statement.
    #[must_use]
    pub fn of(statement: &UsageStatement, givers: Option<BTreeSet<PublicKey>>) -> Self {
        let UsageStatement { holder, vault, month, .. } = *statement;
        let (shown, elsewhere) = (BTreeMap::new(), BTreeMap::new());
        Self { holder, vault, month, givers, shown, elsewhere }
    }

    fn check(&self, signed: &Signed<ServiceReceipt>) -> Result<ServiceReceipt, ServiceError> {
        let receipt = signed.verify()?;
        if !receipt.is_about(self.holder, self.vault, self.month) {
            return Err(ServiceError::Other);
        }
        if self.givers.as_ref().is_some_and(|givers| !givers.contains(&receipt.by)) {
            return Err(ServiceError::Giver(receipt.by));
        }
        Ok(receipt)
    }

    /// Takes in one that the holder shows.
    pub fn show(&mut self, signed: &Signed<ServiceReceipt>) -> Result<(), ServiceError> {
        let receipt = self.check(signed)?;
        keep_last(&mut self.shown, receipt);
        Ok(())
    }

    /// Takes in one that somebody else has; one about anything else is left out.
    pub fn hear(&mut self, signed: &Signed<ServiceReceipt>) {
        if let Ok(receipt) = self.check(signed) {
            keep_last(&mut self.elsewhere, receipt);
        }
    }

    /// How many the holder shows.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shown.len() as u64
    }

    /// What those come to that the holder shows, and those that were given to it long enough before a moment.
    #[must_use]
    pub fn sum(&self, until: Wall) -> Done {
        let mut all = self.shown.clone();
        let given = self.elsewhere.values().filter(|given| given.when.after(ON_ITS_WAY) < until);
        given.for_each(|given| keep_last(&mut all, given.clone()));
        all.values().fold(Done::default(), |sum, receipt| sum.plus(receipt.done))
    }

    /// Who gave the holder one long enough before a moment that it does not show.
    #[must_use]
    pub fn withheld(&self, until: Wall) -> Vec<PublicKey> {
        let is_shown = |given: &ServiceReceipt| {
            self.shown.get(&given.by).is_some_and(|shown| shown.number >= given.number)
        };
        let given = self.elsewhere.values().filter(|given| given.when.after(ON_ITS_WAY) < until);
        given.filter(|given| !is_shown(given)).map(|given| given.by).collect()
    }

    /// The figures of a statement that they do not bear out.
    #[must_use]
    pub fn differences(&self, statement: &UsageStatement) -> Vec<Difference> {
        let (stated, found) = (statement.figures.done, self.sum(statement.until));
        let pairs = [
            ("received", stated.received, found.received),
            ("sent", stated.sent, found.sent),
            ("audits_passed", stated.proved, found.proved),
            ("audits_failed", stated.unproved, found.unproved),
        ];
        let wrong = pairs.into_iter().filter(|(_, stated, found)| stated != found);
        let difference = |(what, stated, found): (_, u64, u64)| Difference {
            what,
            stated: stated.into(),
            least: found.into(),
            most: found.into(),
        };
        wrong.map(difference).collect()
    }
}

fn keep_last(kept: &mut BTreeMap<PublicKey, ServiceReceipt>, receipt: ServiceReceipt) {
    let known = kept.get(&receipt.by);
    if known.is_none_or(|known| known.number < receipt.number) {
        kept.insert(receipt.by, receipt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::OperatorId;
    use crate::sign::SecretKey;
    use crate::tally::{Amount, Figures};
    use proptest::prelude::*;

    const HOLDER: NodeId = NodeId([1; 32]);
    const VAULT: VaultId = VaultId([2; 32]);
    const MONTH: Month = Month(600);

    fn key(name: u8) -> SecretKey {
        SecretKey::from_seed(&[name; 32])
    }

    fn sent(sent: u64) -> Done {
        Done { sent, ..Done::default() }
    }

    fn receipt(giver: u8, last: Option<&ServiceReceipt>, more: Done, when: Wall) -> ServiceReceipt {
        ServiceReceipt::next((key(giver).public(), HOLDER, VAULT), MONTH, last, more, when)
    }

    fn signed(giver: u8, receipt: &ServiceReceipt) -> Signed<ServiceReceipt> {
        Signed::sign(receipt, &key(giver))
    }

    fn said(done: Done) -> UsageStatement {
        UsageStatement {
            holder: HOLDER,
            vault: VAULT,
            operator: OperatorId([3; 32]),
            month: MONTH,
            until: MONTH.end(),
            figures: Figures { done, ..Figures::default() },
            gone_since: Amount::default(),
        }
    }

    fn givers() -> Option<BTreeSet<PublicKey>> {
        Some([5, 6].map(|name| key(name).public()).into())
    }

    #[test]
    fn what_a_receipt_adds_is_counted_once_whatever_is_shown_again() {
        let first = receipt(5, None, sent(10), Wall(0));
        let second = receipt(5, Some(&first), sent(5), Wall(1));
        let other = receipt(5, Some(&first), sent(7), Wall(1));
        assert_eq!(first.adds(None), Some(sent(10)));
        assert_eq!(second.adds(Some(&first)), Some(sent(5)));
        assert_eq!(second.adds(None), Some(sent(15)), "the first one was lost");
        assert_eq!(first.adds(Some(&first)), None);
        assert_eq!(first.adds(Some(&second)), None);
        assert_eq!(other.adds(Some(&second)), None, "it follows the same one");
        let again = receipt(5, Some(&second), sent(7), Wall(2));
        assert_eq!(again.adds(Some(&second)), Some(sent(7)));
        let less = ServiceReceipt { number: 9, done: sent(3), ..second.clone() };
        assert_eq!(less.adds(Some(&second)), None, "nothing is taken back");
    }

    #[test]
    fn a_holder_neither_makes_up_receipts_nor_leaves_out_those_against_it() {
        let failed = Done { unproved: 1, ..Done::default() };
        let first = receipt(5, None, sent(10), MONTH.start());
        let early = receipt(5, Some(&first), failed, MONTH.start());
        let late = receipt(5, Some(&first), failed, MONTH.end());
        let mut count = ServiceCount::of(&said(sent(10)), givers());
        count.show(&signed(5, &first)).unwrap();
        assert_eq!(count.differences(&said(sent(10))), []);
        let differs = count.differences(&said(sent(11)));
        assert_eq!((differs.len(), differs[0].what, differs[0].most), (1, "sent", 10));
        // What was given only now may be on its way.
        count.hear(&signed(5, &late));
        assert_eq!(count.differences(&said(sent(10))), []);
        count.elsewhere.clear();
        count.hear(&signed(5, &early));
        let differs = count.differences(&said(sent(10)));
        assert_eq!((differs.len(), differs[0].what, differs[0].least), (1, "audits_failed", 1));
        assert_eq!(count.withheld(MONTH.end()), [key(5).public()]);
        // Nobody's word, another holder.
        let nobody = receipt(7, None, sent(10), Wall(0));
        let wrong = count.show(&signed(7, &nobody)).unwrap_err();
        assert_eq!(wrong, ServiceError::Giver(key(7).public()));
        let elsewhere = ServiceReceipt { holder: NodeId([9; 32]), ..first.clone() };
        assert_eq!(count.show(&signed(5, &elsewhere)), Err(ServiceError::Other));
    }

    proptest! {
        #[test]
        fn what_is_counted_one_by_one_is_what_the_last_ones_say(
            served in prop::collection::vec((0usize..3, 0u64..1000, any::<bool>(), any::<bool>()), 0..40),
        ) {
            let mut last: [Option<ServiceReceipt>; 3] = Default::default();
            let mut kept: [Option<ServiceReceipt>; 3] = Default::default();
            let (mut sum, mut unsaid) = (Done::default(), [Done::default(); 3]);
            for (giver, more, arrives, again) in served {
                unsaid[giver] = unsaid[giver].plus(sent(more));
                let next = receipt(giver as u8, last[giver].as_ref(), unsaid[giver], Wall(0));
                unsaid[giver] = Done::default();
                last[giver] = Some(next.clone());
                for _ in 0..usize::from(arrives) + usize::from(arrives && again) {
                    if let Some(adds) = next.adds(kept[giver].as_ref()) {
                        sum = sum.plus(adds);
                        kept[giver] = Some(next.clone());
                    }
                }
            }
            let all = kept.iter().flatten().fold(Done::default(), |all, kept| all.plus(kept.done));
            prop_assert_eq!(sum, all);
        }
    }
}
