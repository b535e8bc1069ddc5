//! Receipts for service here: what this node signs of what others did for it, and what it keeps of what others sign. What they say and when
//! one follows another is [`crate::served`]'s.
//!
//! - What others did is counted when it is known: bytes that a repair read or put, shards that an audit asked about. Of a vault whose operator
//!   runs the holder as well nothing is signed, since nothing is settled between them.
//! - At a meeting the holder is given what came together since, not more often than [`GIVE_EVERY`]; what nobody was told yet is in memory, and
//!   a crash loses it. The receipt is written down here and sent; the holder writes it down and states it from then on.
//! - Rows are kept for good: one for each month and for each two that had to do with each other in it.

use super::facts::{Facts, Table, View, Write, decode, key};
use super::holder::{BUSY_RETRY, not_allowed};
use super::membership::Pending;
use super::{Decision, LaneId, LinkId, Output, Peer, Refusal, Role, Then, refusal};
use crate::id::{NodeId, PublicKey, VaultId};
use crate::message::{RefusalCode, Request, Response};
use crate::record::Receipt;
use crate::served::ServiceReceipt;
use crate::sign::Signed;
use crate::tally::{Done, Month};
use crate::time::{Mono, Now, Period};
use std::collections::BTreeMap;

/// A node gives a holder no receipts more often.
const GIVE_EVERY: Period = Period::seconds(600);
/// Receipts that are given at one meeting.
const GIVEN_MAX: usize = 16;
/// Receipts in one page of an answer: 200 KiB.
const PAGE: usize = 512;

/// What was done is kept apart by these.
type Service = (NodeId, VaultId, Month);

/// A receipt that was sent, and what it says that none did before.
#[derive(Debug)]
pub(super) struct Given {
    service: Service,
    number: u64,
    more: Done,
}

/// What is remembered of what others did.
#[derive(Debug, Default)]
pub(super) struct Services {
    unsaid: BTreeMap<Service, Done>,
    given: BTreeMap<NodeId, Mono>,
}

fn row_of((holder, vault, month): Service, by: PublicKey) -> Vec<u8> {
    key(&[&vault.0, &month.0.to_be_bytes(), &holder.0, &by.0])
}

fn month_row(vault: VaultId, month: Month) -> Vec<u8> {
    key(&[&vault.0, &month.0.to_be_bytes()])
}

impl Peer {
    /// A holder did something for this node, about shards of a vault.
    pub(super) fn note_service(&mut self, now: Now, holder: NodeId, vault: VaultId, more: Done) {
        let owner = self.partnership.owner(vault);
        if holder == self.node() || owner.is_none() || self.operator_of_node(holder) == owner {
            return;
        }
        let service = (holder, vault, Month::of(now.wall));
        let unsaid = self.services.unsaid.entry(service).or_default();
        *unsaid = unsaid.plus(more);
    }

    /// What holders did for a repair of a stripe: they sent these bytes, and took what they signed for.
    pub(super) fn note_repair(
        &mut self,
        now: Now,
        vault: VaultId,
        read: &[(NodeId, u64)],
        receipts: &[Signed<Receipt>],
    ) {
        for &(holder, sent) in read {
            self.note_service(now, holder, vault, Done { sent, ..Done::default() });
        }
        for receipt in receipts.iter().filter_map(|signed| signed.verify().ok()) {
            let done = Done { received: receipt.len.into(), ..Done::default() };
            self.note_service(now, receipt.holder, vault, done);
        }
    }

    /// Gives a node the receipts for what it did since it was given some last.
    pub(super) fn give_receipts(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        node: NodeId,
        link: LinkId,
    ) {
        let first = (node, VaultId([0; 32]), Month(0));
        let due = self.services.unsaid.range(first..).take_while(|(service, _)| service.0 == node);
        let due: Vec<(Service, Done)> =
            due.take(GIVEN_MAX).map(|(&service, &more)| (service, more)).collect();
        let every = GIVE_EVERY.min(Period(self.config.audit_period.0 / 16));
        let given = self.services.given.get(&node);
        if due.is_empty() || given.is_some_and(|given| now.mono < given.after(every)) {
            return;
        }
        self.services.given.insert(node, now.mono);
        let members = &self.members;
        self.services.given.retain(|node, _| members.contains_key(node));
        self.services.unsaid.retain(|(node, ..), _| members.contains_key(node));
        for (service, more) in due {
            let row = row_of(service, self.key.public());
            let view = View { facts, overlay: &self.overlay };
            let known = facts.get(Table::Served, &row).and_then(|row| {
                row.map(|bytes| decode::<Signed<ServiceReceipt>>(Table::Served, &bytes)).transpose()
            });
            // What cannot be read now is read at another meeting.
            let (Ok(known), false) = (known, view.is_pending(Table::Served, &row)) else {
                continue;
            };
            let known = known.and_then(|signed| signed.split().ok()).map(|(known, _)| known);
            self.services.unsaid.remove(&service);
            self.give_receipt(now, link, service, known.as_ref(), more);
        }
    }

    fn give_receipt(
        &mut self,
        now: Now,
        link: LinkId,
        service: Service,
        last: Option<&ServiceReceipt>,
        more: Done,
    ) {
        let (holder, vault, month) = service;
        let by = self.key.public();
        let receipt = ServiceReceipt::next((by, holder, vault), month, last, more, now.wall);
        let signed = Signed::sign(&receipt, &self.key);
        let write = Write::row(Table::Served, row_of(service, by), &signed);
        self.persist(vec![write], None, Then::Nothing);
        let number = receipt.number;
        let call = self.call(Pending::Served(Given { service, number, more }));
        let request = Box::new(Request::Served(Box::new(signed)));
        self.outputs.push_back(Output::Call { call, link, request });
    }

    /// A holder has a later receipt of this node than the one that was given: what is here was lost. The next one follows that.
    pub(super) fn handle_given(&mut self, now: Now, given: Given, known: &Signed<ServiceReceipt>) {
        let (holder, vault, month) = given.service;
        let Some(link) = self.link_to(holder) else { return };
        let Ok(known) = known.verify() else { return };
        let is_own = known.by == self.key.public();
        let is_it = (known.holder, known.vault, known.month) == (holder, vault, month);
        if is_own && is_it && known.number >= given.number {
            self.give_receipt(now, link, given.service, Some(&known), given.more);
        }
    }

    /// Somebody says what this node did for it.
    pub(super) fn handle_served(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        (role, giver): (&Role, PublicKey),
        signed: &Signed<ServiceReceipt>,
    ) -> Decision {
        let malformed = |text: String| refusal(RefusalCode::Malformed, text);
        let receipt = signed.verify().map_err(|e| malformed(e.to_string()))?;
        let ServiceReceipt { by, holder, vault, month, .. } = receipt;
        if holder != self.node() || by != giver {
            return Err(malformed("a receipt for what another node did, or for another".into()));
        }
        let view = View { facts, overlay: &self.overlay };
        self.check_reader(&view, role, vault)?;
        if let Role::Device { device, .. } = role {
            Self::check_not_revoked(&view, vault, *device)?;
        }
        if month.0.abs_diff(Month::of(now.wall).0) > 1 {
            return Err(not_allowed(
                "what was done longer ago than a month is not counted any more",
            ));
        }
        if self.tallies.first(vault).is_none_or(|first| month < first) {
            return Err(not_allowed("nothing was held for the vault then"));
        }
        let row = row_of((holder, vault, month), by);
        if view.is_pending(Table::Served, &row) {
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        let known = facts.get(Table::Served, &row)?;
        let known: Option<Signed<ServiceReceipt>> =
            known.map(|bytes| decode(Table::Served, &bytes)).transpose()?;
        let last = known.as_ref().and_then(|signed| signed.split().ok()).map(|(last, _)| last);
        match known {
            Some(known) if receipt.adds(last.as_ref()).is_none() => {
                self.reply(lane, Response::Served(Box::new(known)));
            }
            _ => {
                let writes = vec![Write::row(Table::Served, row, signed)];
                let response = Box::new(Response::Done);
                self.persist(writes, None, Then::Reply { lane, response, close: false });
            }
        }
        Ok(())
    }

    /// What this node did for a vault in a month, by what those signed for whom it did it.
    pub(super) fn done_for(
        &self,
        facts: &dyn Facts,
        vault: VaultId,
        month: Month,
    ) -> Result<Done, Refusal> {
        let prefix = key(&[&month_row(vault, month), &self.node().0]);
        let rows = facts.scan(Table::Served, &prefix, None, usize::MAX)?.into_iter();
        let mut sum = Done::default();
        for (_, bytes) in rows {
            let signed: Signed<ServiceReceipt> = decode(Table::Served, &bytes)?;
            if let Ok((receipt, _)) = signed.split() {
                sum = sum.plus(receipt.done);
            }
        }
        Ok(sum)
    }

    /// Shows the receipts of a month to whom it is stated, and to devices of the vault.
    pub(super) fn handle_services(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        (vault, month): (VaultId, Month),
        after: Option<(NodeId, PublicKey)>,
    ) -> Decision {
        let asker = self.check_accountant(role)?;
        let view = View { facts, overlay: &self.overlay };
        let stated = || self.partnership.stated_to(asker).into_iter().any(|(of, _)| of == vault);
        let is_told = match role {
            Role::Device { .. } => self.check_reader(&view, role, vault).is_ok(),
            _ => stated(),
        };
        if !is_told {
            return Err(not_allowed("receipts are shown to the two sides of a month"));
        }
        let prefix = month_row(vault, month);
        let after = after.map(|(holder, by)| key(&[&prefix, &holder.0, &by.0]));
        let rows = facts.scan(Table::Served, &prefix, after.as_deref(), PAGE)?;
        let more = rows.len() == PAGE;
        let read = rows.into_iter().map(|(_, bytes)| decode(Table::Served, &bytes));
        let receipts = read.collect::<Result<_, _>>()?;
        self.reply(lane, Response::Services { receipts, more });
        Ok(())
    }
}
