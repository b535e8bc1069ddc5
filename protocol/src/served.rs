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
//! - A giver keeps its last one, and follows that. Where it lost it, it goes on from the one that the holder shows under its own signature.
//! - Between a holder and a giver of one operator, or a giver of the vault's own operator and a holder of that one, nothing is settled and nothing
//!   is signed: who vouches for a holder could sign whatever that one likes to state.
//! - Whoever counts again ([`ServiceCount`]) takes what the holder shows, and what givers have that it does not take though it was brought:
//!   a holder cannot leave out the receipts that speak against it.

use crate::id::{DeviceId, NodeId, OperatorId, PublicKey, VaultId};
use crate::sign::{Signed, Statement};
use crate::tally::{Difference, Done, Month, UsageStatement};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most that one receipt says of anything, bytes or shards: a PiB in a month. Sums of all givers stay below what a number holds.
pub const SERVICE_MAX: u64 = 1 << 50;

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
    /// It says more than can be.
    #[error("a receipt for service by {0} says more than a PiB")]
    Size(PublicKey),
    /// By nobody who could have been served.
    #[error(
        "a receipt for service by {0}, which is no device of the vault and no other operator's node that holds shards of it"
    )]
    Giver(PublicKey),
}

impl ServiceReceipt {
    /// Verifies a giver's word.
    pub fn verify(signed: &Signed<Self>) -> Result<Self, ServiceError> {
        let receipt = signed.verify()?;
        let Done { received, sent, proved, unproved } = receipt.done;
        let fits = [received, sent, proved, unproved].iter().all(|&said| said <= SERVICE_MAX);
        if fits { Ok(receipt) } else { Err(ServiceError::Size(receipt.by)) }
    }

    /// The one that follows the last one of its month, and says that so much more was done.
    #[must_use]
    pub fn next(
        (by, holder, vault): (PublicKey, NodeId, VaultId),
        month: Month,
        last: Option<&Self>,
        more: Done,
    ) -> Self {
        let (number, done) = last.map_or((0, Done::default()), |last| (last.number, last.done));
        let (number, done) = (number.saturating_add(1), done.plus(more));
        Self { by, holder, vault, month, number, done }
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

    /// Whether a holder shows a later word of the same giver than this one, its last: what it kept was lost.
    #[must_use]
    pub fn is_behind(&self, shown: &Self) -> bool {
        self.by == shown.by
            && shown.is_about(self.holder, self.vault, self.month)
            && shown.number > self.number
    }

    fn is_about(&self, holder: NodeId, vault: VaultId, month: Month) -> bool {
        (self.holder, self.vault, self.month) == (holder, vault, month)
    }
}

/// Who can have been served by a holder of an operator: devices of the vault, and nodes of other operators that may hold shards of it.
pub fn givers(
    devices: impl IntoIterator<Item = DeviceId>,
    nodes: impl IntoIterator<Item = (NodeId, OperatorId)>,
    holders: OperatorId,
) -> BTreeSet<PublicKey> {
    let others = nodes.into_iter().filter(|(_, operator)| *operator != holders);
    let others = others.map(|(node, _)| node.key());
    others.chain(devices.into_iter().map(|device| device.key())).collect()
}

/// The last receipt of each giver.
type Last = BTreeMap<PublicKey, ServiceReceipt>;

/// What receipts for service come to, beside what their holder states.
///
/// While a month goes on further ones come in: those that the holder shows before it states the month and after that are two sums, between
/// which its figures lie, and mostly one.
#[derive(Debug, Clone)]
pub struct ServiceCount {
    holder: NodeId,
    vault: VaultId,
    month: Month,
    /// Who can have been served.
    givers: BTreeSet<PublicKey>,
    before: Last,
    after: Last,
    /// Those that givers have.
    given: Last,
}

impl ServiceCount {
    /// Nothing yet, of a holder, a vault and a month.
    #[must_use]
    pub fn new(
        (holder, vault, month): (NodeId, VaultId, Month),
        givers: BTreeSet<PublicKey>,
    ) -> Self {
        let (before, after, given) = (Last::new(), Last::new(), Last::new());
        Self { holder, vault, month, givers, before, after, given }
    }

    fn check(&self, signed: &Signed<ServiceReceipt>) -> Result<ServiceReceipt, ServiceError> {
        let receipt = ServiceReceipt::verify(signed)?;
        if !receipt.is_about(self.holder, self.vault, self.month) {
            return Err(ServiceError::Other);
        }
        if !self.givers.contains(&receipt.by) {
            return Err(ServiceError::Giver(receipt.by));
        }
        Ok(receipt)
    }

    /// Takes in one that the holder shows before it states the month.
    pub fn show_before(&mut self, signed: &Signed<ServiceReceipt>) -> Result<(), ServiceError> {
        let receipt = self.check(signed)?;
        keep_last(&mut self.before, receipt);
        Ok(())
    }

    /// Takes in one that it shows after that.
    pub fn show_after(&mut self, signed: &Signed<ServiceReceipt>) -> Result<(), ServiceError> {
        let receipt = self.check(signed)?;
        keep_last(&mut self.after, receipt);
        Ok(())
    }

    /// Takes in one that its giver has, and says whether the holder did not show one as late before; one about anything else is left out.
    pub fn hear(&mut self, signed: &Signed<ServiceReceipt>) -> bool {
        let Ok(receipt) = self.check(signed) else { return false };
        let is_news = is_later(&self.before, &receipt);
        keep_last(&mut self.given, receipt);
        is_news
    }

    /// Those that givers have, and that the holder does not show though they were brought to it.
    pub fn withheld(&self) -> impl Iterator<Item = &ServiceReceipt> {
        self.given.values().filter(|given| is_later(&self.after, given))
    }

    /// What each giver says, as the holder shows it.
    pub fn by_giver(&self) -> impl Iterator<Item = (PublicKey, Done)> {
        self.after.values().map(|receipt| (receipt.by, receipt.done))
    }

    fn sum(&self, shown: &Last) -> Done {
        let mut all = shown.clone();
        self.withheld().for_each(|given| keep_last(&mut all, given.clone()));
        all.values().fold(Done::default(), |sum, receipt| sum.plus(receipt.done))
    }

    /// The figures of a statement that they do not bear out.
    #[must_use]
    pub fn differences(&self, statement: &UsageStatement) -> Vec<Difference> {
        let (stated, least, most) =
            (statement.figures.done, self.sum(&self.before), self.sum(&self.after));
        let figures = |done: Done| [done.received, done.sent, done.proved, done.unproved];
        let names = ["received", "sent", "audits_passed", "audits_failed"].into_iter();
        let all = names.zip(figures(stated)).zip(figures(least)).zip(figures(most));
        let wrong = all.filter(|(((_, stated), least), most)| !(least..=most).contains(&stated));
        let difference = |(((what, stated), least), most): (((_, u64), u64), u64)| Difference {
            what,
            stated: stated.into(),
            least: least.into(),
            most: most.into(),
        };
        wrong.map(difference).collect()
    }
}

fn is_later(known: &Last, receipt: &ServiceReceipt) -> bool {
    known.get(&receipt.by).is_none_or(|known| known.number < receipt.number)
}

fn keep_last(kept: &mut Last, receipt: ServiceReceipt) {
    if is_later(kept, &receipt) {
        kept.insert(receipt.by, receipt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn receipt(giver: u8, last: Option<&ServiceReceipt>, more: Done) -> ServiceReceipt {
        ServiceReceipt::next((key(giver).public(), HOLDER, VAULT), MONTH, last, more)
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

    fn count() -> ServiceCount {
        let [its, others] = [9, 6].map(|name| key(name).public().into());
        let nodes = [(its, OperatorId([1; 32])), (others, OperatorId([2; 32]))];
        let givers = givers([key(5).public().into()], nodes, OperatorId([1; 32]));
        ServiceCount::new((HOLDER, VAULT, MONTH), givers)
    }

    #[test]
    fn what_a_receipt_adds_is_counted_once_whatever_is_shown_again() {
        let first = receipt(5, None, sent(10));
        let second = receipt(5, Some(&first), sent(5));
        let other = receipt(5, Some(&first), sent(7));
        assert_eq!(first.adds(None), Some(sent(10)));
        assert_eq!(second.adds(Some(&first)), Some(sent(5)));
        assert_eq!(second.adds(None), Some(sent(15)), "the first one was lost");
        assert_eq!(first.adds(Some(&first)), None);
        assert_eq!(first.adds(Some(&second)), None);
        assert_eq!(other.adds(Some(&second)), None, "it follows the same one");
        let less = ServiceReceipt { number: 9, done: sent(3), ..second.clone() };
        assert_eq!(less.adds(Some(&second)), None, "nothing is taken back");
        // A giver goes on from a later one alone, of its own.
        assert!(
            first.is_behind(&second) && !second.is_behind(&second) && !second.is_behind(&first)
        );
        assert!(!first.is_behind(&receipt(6, Some(&second), sent(1))));
        assert!(!first.is_behind(&ServiceReceipt { month: Month(601), ..second }));
    }

    #[test]
    fn a_holder_neither_makes_up_receipts_nor_leaves_out_those_against_it() {
        let failed = Done { unproved: 1, ..Done::default() };
        let first = receipt(5, None, sent(10));
        let second = receipt(5, Some(&first), failed);
        let mut count = count();
        count.show_before(&signed(5, &first)).unwrap();
        count.show_after(&signed(5, &first)).unwrap();
        assert_eq!(count.differences(&said(sent(10))), []);
        for wrong in [9, 11] {
            let differs = count.differences(&said(sent(wrong)));
            let [differs] = differs[..] else { panic!("{differs:?}") };
            assert_eq!((differs.what, differs.least, differs.most), ("sent", 10, 10));
        }
        // What its giver has is brought to it, and then it shows it, or is found out.
        assert!(!count.hear(&signed(5, &first)) && count.hear(&signed(5, &second)));
        let differs = count.differences(&said(sent(10)));
        let [differs] = differs[..] else { panic!("{differs:?}") };
        assert_eq!((differs.what, differs.least), ("audits_failed", 1));
        assert_eq!(count.withheld().collect::<Vec<_>>(), [&second]);
        count.show_after(&signed(5, &second)).unwrap();
        assert_eq!(count.withheld().count(), 0);
        // It may have come just before the month was stated, or just after.
        for stated in [sent(10), sent(10).plus(failed)] {
            assert_eq!(count.differences(&said(stated)), []);
        }
        assert_eq!(count.by_giver().collect::<Vec<_>>(), [(second.by, second.done)]);
        // Nobody's word and that of the holder's operator, another holder, more than can be.
        for name in [7, 9] {
            let wrong = count.show_after(&signed(name, &receipt(name, None, sent(10))));
            assert_eq!(wrong, Err(ServiceError::Giver(key(name).public())));
        }
        let nobody = receipt(7, None, sent(10));
        let elsewhere = ServiceReceipt { holder: NodeId([9; 32]), ..first.clone() };
        assert_eq!(count.show_after(&signed(5, &elsewhere)), Err(ServiceError::Other));
        let much = receipt(5, Some(&second), sent(SERVICE_MAX));
        assert_eq!(count.show_after(&signed(5, &much)), Err(ServiceError::Size(much.by)));
        assert!(!count.hear(&signed(7, &nobody)) && !count.hear(&signed(5, &much)));
    }

    proptest! {
        #[test]
        fn what_is_counted_one_by_one_is_what_the_last_ones_say(
            served in prop::collection::vec((0usize..3, 0u64..1000, any::<bool>(), any::<bool>()), 0..40),
        ) {
            let mut last: [Option<ServiceReceipt>; 3] = Default::default();
            let mut kept: [Option<ServiceReceipt>; 3] = Default::default();
            let mut sum = Done::default();
            for (giver, more, arrives, again) in served {
                let next = receipt(giver as u8, last[giver].as_ref(), sent(more));
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
