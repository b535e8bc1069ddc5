//! Receipts for service here: what this node signs of what others did for it, and what it keeps of what others sign. What they say and when
//! one follows another is [`crate::served`]'s.
//!
//! - What others did is counted when it is known: bytes that a repair read or put, shards that an audit asked about.
//! - At a meeting the holder is given what came together since, not more often than [`GIVE_EVERY`], and again until it took it. What nobody was
//!   told yet is in memory, and a crash loses it; what was signed is written down. A holder that gives no answer is left alone for a day: an
//!   earlier program ends the connection over what it does not know.
//! - A holder takes a giver's receipts from the giver, and from devices of the vault, who bring what they found with it.
//! - Rows are kept for good: one for each month and for each two that had to do with each other in it.

use super::facts::{Facts, FactsError, Table, View, Write, decode, key};
use super::holder::{BUSY_RETRY, not_allowed};
use super::membership::Pending;
use super::{Decision, LaneId, LinkId, Output, Peer, Refusal, Role, Then, refusal};
use crate::id::{NodeId, PublicKey, VaultId};
use crate::message::{RefusalCode, Request, Response};
use crate::record::Receipt;
use crate::served::ServiceReceipt;
use crate::sign::Signed;
use crate::tally::{Done, Month};
use crate::time::{Mono, Now, Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A node gives a holder no receipts more often.
const GIVE_EVERY: Period = Period::seconds(600);
/// A holder that gives no answer is left alone for so long.
const REST: Period = Period::days(1);
/// Receipts that are given at one meeting.
const GIVEN_MAX: usize = 16;
/// Receipts in one page of an answer: 200 KiB.
const PAGE: usize = 512;
/// Most givers of a vault and a month: its devices, and the nodes of a roster.
const GIVERS_MAX: usize = super::ledger::DEVICES_MAX + crate::certificate::ROSTER_MAX;

/// What was done is kept apart by these.
type Service = (NodeId, VaultId, Month);

/// A receipt as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedRow {
    /// Its number, as it says,
    pub number: u64,
    /// and what was done.
    pub done: Done,
    /// It.
    pub receipt: Signed<ServiceReceipt>,
}

/// The last receipt that this node gave.
#[derive(Debug)]
struct Last {
    receipt: ServiceReceipt,
    /// Whether the holder said, since the start, that it has it.
    is_taken: bool,
}

/// What is remembered of what others did.
#[derive(Debug, Default)]
pub(super) struct Services {
    unsaid: BTreeMap<Service, Done>,
    last: BTreeMap<Service, Last>,
    /// No receipts are given to a node before.
    rests: BTreeMap<NodeId, Mono>,
}

fn row_of((holder, vault, month): Service, by: PublicKey) -> Vec<u8> {
    key(&[&month_row(vault, month), &holder.0, &by.0])
}

fn month_row(vault: VaultId, month: Month) -> Vec<u8> {
    key(&[&vault.0, &month.0.to_be_bytes()])
}

/// Receipts are taken in the month that they are about, and in the one after it.
fn is_open(month: Month, now: Wall) -> bool {
    month.0.abs_diff(Month::of(now).0) <= 1
}

impl Services {
    /// What this node gave lately.
    pub(super) fn load(facts: &dyn Facts, own: PublicKey, now: Wall) -> Result<Self, FactsError> {
        let mut services = Self::default();
        for (row, bytes) in facts.scan(Table::Served, &[], None, usize::MAX)? {
            if !row.ends_with(&own.0) {
                continue;
            }
            let row: ServedRow = decode(Table::Served, &bytes)?;
            if let Ok(receipt) = row.receipt.verify()
                && receipt.by == own
                && is_open(receipt.month, now)
            {
                let service = (receipt.holder, receipt.vault, receipt.month);
                services.last.insert(service, Last { receipt, is_taken: false });
            }
        }
        Ok(services)
    }

    /// What a node is to be given: a part of it, if it is much.
    fn due(&self, node: NodeId) -> Vec<Service> {
        let all = (node, VaultId([0; 32]), Month(0))..=(node, VaultId([255; 32]), Month(u32::MAX));
        let unsaid = self.unsaid.range(all.clone()).map(|(service, _)| *service);
        let untaken = self.last.range(all).filter(|(_, last)| !last.is_taken);
        let due: BTreeSet<Service> = unsaid.chain(untaken.map(|(service, _)| *service)).collect();
        due.into_iter().take(GIVEN_MAX).collect()
    }
}

impl Peer {
    /// Whether something is to be settled between a holder and who is served by it.
    fn is_settled_between(&self, holder: NodeId, vault: VaultId) -> bool {
        let operator = self.operator_of_node(holder);
        let owner = self.partnership.owner(vault);
        operator.is_some()
            && owner.is_some()
            && operator != owner
            && operator != Some(self.site.operator)
    }

    /// A holder did something for this node, about shards of a vault.
    pub(super) fn note_service(&mut self, now: Now, holder: NodeId, vault: VaultId, more: Done) {
        if self.is_settled_between(holder, vault) {
            let service = (holder, vault, Month::of(now.wall));
            let unsaid = self.services.unsaid.entry(service).or_default();
            *unsaid = unsaid.plus(more);
        }
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

    /// Gives a node the receipts for what it did since it was given some last, and those that it did not take.
    pub(super) fn give_receipts(&mut self, now: Now, node: NodeId, link: LinkId) {
        let due = self.services.due(node);
        if due.is_empty() || self.services.rests.get(&node).is_some_and(|until| now.mono < *until) {
            return;
        }
        let every = GIVE_EVERY.min(Period(self.config.audit_period.0 / 16));
        self.services.rests.insert(node, now.mono.after(every));
        let members = &self.members;
        self.services.rests.retain(|node, _| members.contains_key(node));
        self.services.unsaid.retain(|(node, ..), _| members.contains_key(node));
        self.services.last.retain(|(_, _, month), _| is_open(*month, now.wall));
        for service in due {
            if let Some(more) = self.services.unsaid.remove(&service) {
                let (holder, vault, month) = service;
                let last = self.services.last.get(&service).map(|last| &last.receipt);
                let who = (self.key.public(), holder, vault);
                self.sign_service(service, ServiceReceipt::next(who, month, last, more));
            }
            self.send_receipt(service, link);
        }
    }

    /// Signs a receipt and writes it down.
    fn sign_service(&mut self, service: Service, receipt: ServiceReceipt) {
        let signed = Signed::sign(&receipt, &self.key);
        let row = ServedRow { number: receipt.number, done: receipt.done, receipt: signed };
        let write = Write::row(Table::Served, row_of(service, receipt.by), &row);
        self.services.last.insert(service, Last { receipt, is_taken: false });
        self.persist(vec![write], None, Then::Nothing);
    }

    fn send_receipt(&mut self, service: Service, link: LinkId) {
        let Some(last) = self.services.last.get(&service) else { return };
        let signed = Box::new(Signed::sign(&last.receipt, &self.key));
        let call = self.call(Pending::Served(service, last.receipt.number));
        self.outputs.push_back(Output::Call {
            call,
            link,
            request: Box::new(Request::Served(signed)),
        });
    }

    /// What came of giving a receipt.
    pub(super) fn handle_given(
        &mut self,
        now: Now,
        service: Service,
        number: u64,
        response: Option<Response>,
    ) {
        let Some(last) = self.services.last.get_mut(&service) else { return };
        match response {
            Some(Response::Done) => last.is_taken |= last.receipt.number == number,
            Some(Response::Served(shown)) => {
                // What was kept here was lost: what was done since comes on top of what was said before that.
                if let Ok(shown) = ServiceReceipt::verify(&shown)
                    && last.receipt.is_behind(&shown)
                {
                    let (holder, vault, month) = service;
                    let (who, since) = ((shown.by, holder, vault), last.receipt.done);
                    let next = ServiceReceipt::next(who, month, Some(&shown), since);
                    self.sign_service(service, next);
                    if let Some(link) = self.link_to(holder) {
                        self.send_receipt(service, link);
                    }
                }
            }
            Some(Response::Busy { .. }) => {}
            _ => {
                self.services.rests.insert(service.0, now.mono.after(REST));
            }
        }
    }

    /// Whether somebody can have been served here about shards of a vault: a device of it, or a node that may hold it and is of another
    /// operator than this one.
    fn check_giver(&self, view: &View<'_>, vault: VaultId, by: PublicKey) -> Decision {
        if view.device(vault, by.into())?.is_some() {
            return Self::check_not_revoked(view, vault, by.into());
        }
        let is_own = self.operator_of_node(by.into()) == Some(self.site.operator);
        if is_own || !self.may_hold(view, vault, by.into())? {
            return Err(not_allowed(
                "who gives the receipt is no device of the vault, and no other operator's node that holds it",
            ));
        }
        Ok(())
    }

    /// Somebody says what this node did for it, or a device of the vault brings what somebody said.
    pub(super) fn handle_served(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        (role, bringer): (&Role, PublicKey),
        signed: &Signed<ServiceReceipt>,
    ) -> Decision {
        let malformed = |text: String| refusal(RefusalCode::Malformed, text);
        let receipt = ServiceReceipt::verify(signed).map_err(|e| malformed(e.to_string()))?;
        let ServiceReceipt { by, holder, vault, month, .. } = receipt;
        let device = role.device_of(vault);
        if holder != self.node() || by != bringer && device.is_none() {
            return Err(malformed("a receipt for what another node did, or for another".into()));
        }
        let view = View { facts, overlay: &self.overlay };
        self.check_reader(&view, role, vault)?;
        if let Some(device) = device {
            Self::check_not_revoked(&view, vault, device)?;
        }
        self.check_giver(&view, vault, by)?;
        if self.partner_of(vault).is_none() {
            return Err(not_allowed("nothing is settled about vaults of one's own operator"));
        }
        if !is_open(month, now.wall) {
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
        let known: Option<ServedRow> =
            known.map(|bytes| decode(Table::Served, &bytes)).transpose()?;
        let last = known.as_ref().map(|row| ServiceReceipt {
            number: row.number,
            done: row.done,
            ..receipt.clone()
        });
        match (known, receipt.adds(last.as_ref())) {
            (Some(known), _) if known.receipt == *signed => self.reply(lane, Response::Done),
            (Some(known), None) => self.reply(lane, Response::Served(Box::new(known.receipt))),
            (known, _) => {
                if known.is_none() {
                    self.check_room_for_giver(&view, facts, vault, month)?;
                }
                self.spend_log(now, vault, signed.to_bytes().len())?;
                let (number, done, receipt) = (receipt.number, receipt.done, signed.clone());
                let written = ServedRow { number, done, receipt };
                let writes = vec![Write::row(Table::Served, row, &written)];
                let response = Box::new(Response::Done);
                self.persist(writes, None, Then::Reply { lane, response, close: false });
            }
        }
        Ok(())
    }

    fn check_room_for_giver(
        &self,
        view: &View<'_>,
        facts: &dyn Facts,
        vault: VaultId,
        month: Month,
    ) -> Decision {
        let prefix = key(&[&month_row(vault, month), &self.node().0]);
        let kept = facts.scan(Table::Served, &prefix, None, GIVERS_MAX)?.len();
        if kept + view.count_pending(Table::Served, &prefix) >= GIVERS_MAX {
            let text = format!("{GIVERS_MAX} gave receipts for this month already");
            return Err(refusal(RefusalCode::Quota, text));
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
        let mut sum = Done::default();
        for (_, bytes) in facts.scan(Table::Served, &prefix, None, GIVERS_MAX)? {
            sum = sum.plus(decode::<ServedRow>(Table::Served, &bytes)?.done);
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
        let mut receipts = Vec::with_capacity(rows.len());
        for (_, bytes) in rows {
            receipts.push(decode::<ServedRow>(Table::Served, &bytes)?.receipt);
        }
        self.reply(lane, Response::Services { receipts, more });
        Ok(())
    }
}
