//! Shards: which are accepted, kept, served and refused. Nothing here drops one; [`super::lives`] does.

use super::facts::{Facts, Held, Table, View, Write, decode, key};
use super::guardians::namings;
use super::lives::{self, Extension};
use super::{Decision, LaneId, Output, Peer, Role, Then, Usage, refusal, tallies};
use crate::certificate::DeviceCertificate;
use crate::codec;
use crate::id::{DeviceId, PublicKey, ShardId, StripeId, VaultId};
use crate::life::{Life, check_bounds};
use crate::message::{HeldRecord, IDS_MAX, PAGE_LEN, Refusal, RefusalCode, Response};
use crate::planted::{Bug, is_planted};
use crate::policy::Lock;
use crate::record::{Receipt, Record};
use crate::sign::Signed;
use crate::time::{Now, Period};

/// When to come back after having been told that too much is arriving at once.
pub(super) const BUSY_RETRY: Period = Period(200);

/// Furthest step from one version of a record to the next: so many may have been missed.
const RECORD_STEP_MAX: u32 = 1 << 16;

/// A shard whose bytes are arriving.
#[derive(Debug)]
pub(super) struct Receiving {
    signed: Signed<Record>,
    record: Record,
    stripe: StripeId,
    index: u16,
    /// Who sends it; another device may have signed the record.
    sender: PublicKey,
    /// Whether that is a device of the vault, whose asking again extends the lock.
    extends: bool,
    /// The promise that stands already, when the shard was held before.
    held: Option<Held>,
}

impl Receiving {
    fn shard(&self) -> ShardId {
        self.record.stripe.shards[usize::from(self.index)]
    }

    /// Whose it is.
    pub(super) fn vault(&self) -> VaultId {
        self.record.stripe.vault
    }

    /// Bytes by which more is held once it is here: what heals is counted already.
    pub(super) fn new_bytes(&self) -> u64 {
        if self.held.is_some() { 0 } else { u64::from(self.record.stripe.shard_len) }
    }
}

pub(super) fn not_allowed(text: impl Into<String>) -> Refusal {
    refusal(RefusalCode::NotAllowed, text)
}

impl Peer {
    /// Checks a record that somebody wants acted upon: signed by a device of the vault that the
    /// link is vouched for, for a vault whose papers are here, with numbers that fit. Gives the record and who
    /// sent it.
    fn check_record(
        &self,
        now: Now,
        view: &View<'_>,
        role: &Role,
        signed: &Signed<Record>,
    ) -> Result<(Record, DeviceId), Refusal> {
        let Role::Device { vault, device: sender, .. } = role else {
            return Err(not_allowed("only a device of the vault may do this"));
        };
        Self::check_not_revoked(view, *vault, *sender)?;
        let record = signed.verify().map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        record.check().map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        if record.stripe.vault != *vault {
            return Err(not_allowed("the record is another vault's"));
        }
        let device = self.check_terms(view, &record)?;
        Self::check_not_revoked(view, *vault, record.device)?;
        DeviceCertificate::verify(&device, now.wall)?;
        if !self.may_hold(view, *vault, self.node())? && !is_planted(Bug::Roster) {
            return Err(not_allowed("no roster of the vault lists this node"));
        }
        Ok((record, *sender))
    }

    /// Checks what a record asks, whoever brings it: a device that is known signed it, and its lock is one that this node promises. Gives
    /// that device's certificate, which may have expired.
    pub(super) fn check_terms(
        &self,
        view: &View<'_>,
        record: &Record,
    ) -> Result<Signed<DeviceCertificate>, Refusal> {
        let vault = record.stripe.vault;
        let device = view.device(vault, record.device)?.ok_or_else(|| {
            not_allowed("the record is signed by a device that is not known here")
        })?;
        check_bounds(&record.policy.lock, self.config.lock_max)
            .map_err(|e| not_allowed(e.to_string()))?;
        if record.policy.lock.guardians.is_some() {
            check_guardians(view, vault, record)?;
        }
        Ok(device)
    }

    #[allow(clippy::too_many_arguments, reason = "all of one request")]
    pub(super) fn handle_put(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        signed: Signed<Record>,
        index: u16,
        len: u32,
    ) -> Decision {
        let view = View { facts, overlay: &self.overlay };
        let custodian = match role {
            Role::Node(node) => Some(*node),
            _ => None,
        };
        let (record, sender) = if let Some(node) = custodian {
            (self.check_custodian(&view, node, &signed)?, node.key())
        } else {
            let (record, device) = self.check_record(now, &view, role, &signed)?;
            (record, device.key())
        };
        let extends = custodian.is_none();
        Self::check_vault_open(now, &view, record.stripe.vault)?;
        if extends {
            self.check_vault_spoken(now, &view, record.stripe.vault)?;
        }
        let stripe = &record.stripe;
        // What another node rebuilt is taken by whoever has none of the stripe.
        let is_given = custodian.is_some() || record.index_of(self.node()) == Some(index);
        if !is_given || index >= stripe.n || len != stripe.shard_len {
            return Err(not_allowed("the record does not give this shard to this node"));
        }
        let shard = stripe.shards[usize::from(index)];
        let (vault, id) = (stripe.vault, stripe.id());
        // What another lane is bringing is decided when it has come: two at once would be counted
        // twice, or leave this node with two shards of one stripe.
        let arriving = self.receiving.values().any(|r| r.stripe == id || r.shard() == shard);
        if arriving || view.is_pending(Table::Held, &shard.0) {
            self.discard_busy(lane, len);
            return Ok(());
        }
        if let Some(held) = view.held(shard)? {
            check_same(&held, vault, id, index)?;
            if view.life(shard)?.is_some_and(|life| life.decided().is_some()) {
                // It is on its way out, and is received anew when it is gone.
                self.discard_busy(lane, len);
                return Ok(());
            }
            // The row is no proof that the bytes are still there. Should they come anew, the note in
            // their file has the record as it is known, however old or weak the one put now is.
            let signed = view.record(vault, id)?.unwrap_or(signed);
            let held = Some(held);
            let receiving = Receiving { signed, record, stripe: id, index, sender, extends, held };
            self.receiving.insert(lane, receiving);
            self.outputs.push_back(Output::Look { lane, shard, len });
            return Ok(());
        }
        if view.record(vault, id)?.is_some() && self.place_of(&view, &record)?.is_some() {
            return Err(not_allowed("this node holds another shard of the stripe"));
        }
        self.check_stays()?;
        if custodian.is_some() && !self.check_wanted(facts, vault, id)? {
            self.discard_busy(lane, len);
            return Ok(());
        }
        let inflight = self.inflight();
        if self.is_too_much(inflight, len) {
            self.discard_busy(lane, len);
            return Ok(());
        }
        // What heals is counted in the usage already.
        let healing: u64 =
            self.receiving.values().filter_map(|r| r.held.as_ref()).map(|h| u64::from(h.len)).sum();
        let used = self.used() + inflight - healing;
        let room = self.config.quota.saturating_sub(used);
        if u64::from(len) > room && !is_planted(Bug::Quota) {
            return Err(refusal(
                RefusalCode::Quota,
                format!(
                    "{room} bytes of the quota of {} are left, {len} needed",
                    self.config.quota
                ),
            ));
        }
        self.check_vault_quota(vault, len)?;
        self.check_share(now, vault, &record.policy.lock, len)?;
        self.check_space(len)?;
        let Ok(wait) = self.pace(now, self.partner_of(vault), len) else {
            self.discard_busy(lane, len);
            return Ok(());
        };
        self.spend_growth(now, vault, len)?;
        let held = None;
        let receiving = Receiving { signed, record, stripe: id, index, sender, extends, held };
        self.receiving.insert(lane, receiving);
        self.outputs.push_back(Output::Receive { lane, shard, len, wait });
        Ok(())
    }

    /// Bytes of the shards that are arriving.
    fn inflight(&self) -> u64 {
        self.receiving.values().map(|r| u64::from(r.record.stripe.shard_len)).sum()
    }

    fn is_too_much(&self, inflight: u64, len: u32) -> bool {
        inflight + u64::from(len) > self.config.inflight_max && inflight > 0
    }

    /// Bytes that a vault may still add here; `None` where that is not bounded.
    pub(super) fn left_of_vault(&self, vault: VaultId) -> Option<u64> {
        let quota = self.config.vault_quota?;
        let held = self.usage.get(&vault).map_or(0, |usage| usage.bytes);
        let arriving = self.receiving.values().filter(|receiving| receiving.vault() == vault);
        Some(quota.saturating_sub(held + arriving.map(Receiving::new_bytes).sum::<u64>()))
    }

    fn check_vault_quota(&self, vault: VaultId, len: u32) -> Decision {
        let Some(left) = self.left_of_vault(vault).filter(|left| u64::from(len) > *left) else {
            return Ok(());
        };
        let quota = self.config.vault_quota.unwrap_or_default();
        let text = format!(
            "{left} bytes are left of the {quota} that one vault may have on this node, {len} needed"
        );
        Err(refusal(RefusalCode::Quota, text))
    }

    /// A node that leaves takes nothing that it does not have.
    fn check_stays(&self) -> Decision {
        if self.leaving.is_own() {
            return Err(refusal(RefusalCode::Full, "this node leaves: it takes no new shards"));
        }
        Ok(())
    }

    fn check_space(&self, len: u32) -> Decision {
        if u64::from(len) > self.space {
            return Err(refusal(
                RefusalCode::Full,
                format!("{} bytes of disk are left for shards, {len} needed", self.space),
            ));
        }
        Ok(())
    }

    fn discard_busy(&mut self, lane: LaneId, len: u32) {
        let response = Box::new(Response::Busy { retry_after: BUSY_RETRY });
        self.outputs.push_back(Output::Discard { lane, len, response });
    }

    /// A shard that is held was put again. Where its file is whole, the promise made for it stands and the
    /// bytes are not needed; where it is not, they are taken anew and heal it.
    pub(super) fn handle_looked(&mut self, now: Now, facts: &dyn Facts, lane: LaneId, whole: bool) {
        let Some(receiving) = self.receiving.remove(&lane) else { return };
        let Some(held) = receiving.held.clone() else { return };
        // Its bytes were looked at, and were not well.
        let whole = whole && !self.scrub.is_damaged(receiving.shard());
        let (shard, len) = (receiving.shard(), held.len);
        if whole {
            match self.extend_again(now, facts, shard, &held, &receiving) {
                Ok(Some(writes)) => {
                    let response = Box::new(Response::Receipt(held.receipt));
                    if writes.is_empty() {
                        self.outputs.push_back(Output::Discard { lane, len, response });
                    } else {
                        self.persist(writes, None, Then::Discard { lane, len, response });
                    }
                }
                Ok(None) => self.discard_busy(lane, len),
                Err(refusal) => {
                    let response = Box::new(Response::Refused(refusal));
                    self.outputs.push_back(Output::Discard { lane, len, response });
                }
            }
        } else if self.is_too_much(self.inflight(), len) {
            self.discard_busy(lane, len);
        } else if let Err(refusal) = self.check_space(len) {
            self.count_refusal(receiving.sender, &refusal);
            let response = Box::new(Response::Refused(refusal));
            self.outputs.push_back(Output::Discard { lane, len, response });
        } else {
            // It is counted already: the quota has room for it.
            self.receiving.insert(lane, receiving);
            self.outputs.push_back(Output::Receive { lane, shard, len, wait: Period(0) });
        }
    }

    /// A shard that is held was put again: its lock begins again, as its stored record has it, unless another node put it, which
    /// may heal it and extends nothing. What to write, if anything; `None` when the shard is on its way out.
    fn extend_again(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        shard: ShardId,
        held: &Held,
        receiving: &Receiving,
    ) -> Result<Option<Vec<Write>>, Refusal> {
        if !receiving.extends {
            return Ok((!self.lives.is_dropping(shard)).then(Vec::new));
        }
        let record =
            receiving.signed.verify().map_err(|e| refusal(RefusalCode::Internal, e.to_string()))?;
        let reading = self.read_lock_clock(now);
        let view = View { facts, overlay: &self.overlay };
        let (lock, longest) = (&record.policy.lock, self.longest_lock(now, &view, held.vault)?);
        Ok(match lives::extend(&view, shard, held, lock, reading, longest)? {
            Some(Extension { life, is_news: true }) => {
                let clock = Write::promise(&mut self.lock_clock, now.mono);
                Some(vec![Write::life(shard, &life), clock])
            }
            Some(Extension { is_news: false, .. }) => Some(Vec::new()),
            None => None,
        })
    }

    /// Whether bytes of a shard are arriving.
    pub(super) fn is_arriving(&self, shard: ShardId) -> bool {
        self.receiving.values().any(|receiving| receiving.shard() == shard)
    }

    /// Checks again, now that its bytes are here, whether a shard may come. What nodes bring may, whoever wrote it once.
    fn check_sender(&self, facts: &dyn Facts, receiving: &Receiving) -> Decision {
        if receiving.held.is_none() {
            self.check_stays()?;
        }
        if receiving.extends {
            let view = View { facts, overlay: &self.overlay };
            let (vault, signer) = (receiving.record.stripe.vault, receiving.record.device);
            Self::check_not_revoked(&view, vault, receiving.sender.into())?;
            Self::check_not_revoked(&view, vault, signer)?;
        }
        Ok(())
    }

    pub(super) fn handle_received(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        shard: ShardId,
    ) {
        let Some(receiving) = self.receiving.remove(&lane) else { return };
        let expected = receiving.shard();
        let shard = if is_planted(Bug::Hash) { expected } else { shard };
        if shard != expected {
            let refusal = refusal(
                RefusalCode::WrongShard,
                format!("the bytes are {shard}, the record names {expected}"),
            );
            self.count_refusal(receiving.sender, &refusal);
            let response = Box::new(Response::Refused(refusal));
            self.outputs.push_back(Output::Discard { lane, len: 0, response });
            return;
        }
        // Its sender may have been revoked, or this node have begun to leave, while the bytes came.
        if let Err(refusal) = self.check_sender(facts, &receiving) {
            let response = Box::new(Response::Refused(refusal));
            self.outputs.push_back(Output::Discard { lane, len: 0, response });
            return;
        }
        if let Some(held) = &receiving.held {
            match self.extend_again(now, facts, shard, held, &receiving) {
                Ok(Some(writes)) => {
                    self.heal(now, lane, (shard, &receiving.signed, held), writes);
                }
                Ok(None) => self.discard_busy(lane, 0),
                Err(refusal) => {
                    let response = Box::new(Response::Refused(refusal));
                    self.outputs.push_back(Output::Discard { lane, len: 0, response });
                }
            }
            return;
        }
        let Receiving { signed, record, stripe, index, .. } = receiving;
        let (vault, len) = (record.stripe.vault, record.stripe.shard_len);
        let reading = self.read_lock_clock(now);
        let life = Life::receive(stripe, &record.policy.lock, reading, self.config.lock_max);
        let life = match life {
            Ok(life) => life,
            Err(error) => {
                let response = Box::new(Response::Refused(not_allowed(error.to_string())));
                self.outputs.push_back(Output::Discard { lane, len: 0, response });
                return;
            }
        };
        let receipt = Receipt {
            holder: self.node(),
            vault,
            stripe,
            index,
            shard,
            len,
            keep: record.policy.lock.period,
            received: now.wall,
        };
        let receipt = Signed::sign(&receipt, &self.key);
        let held = Held { vault, stripe, index, len, receipt: receipt.clone() };
        let (bytes, more) = (u64::from(len), Usage::of_one(len.into()));
        self.usage.change(vault, more, Usage::default());
        let note =
            codec::encode(&HeldRecord { record: signed.clone(), receipt: Some(receipt.clone()) });
        let writes = vec![
            Write::held(shard, &held),
            Write::record(vault, stripe, &signed),
            Write::more(vault, more),
            tallies::came(vault, bytes, now.wall),
            Write::life(shard, &life),
            Write::promise(&mut self.lock_clock, now.mono),
        ];
        let response = Box::new(Response::Receipt(receipt));
        let then = Then::Held { reply: Some((lane, response)), shard, vault, len: bytes };
        self.persist(writes, Some((lane, shard, note)), then);
    }

    /// Keeps the bytes of a shard whose file was lost or damaged, under the promise made before.
    fn heal(
        &mut self,
        now: Now,
        lane: LaneId,
        (shard, signed, held): (ShardId, &Signed<Record>, &Held),
        mut writes: Vec<Write>,
    ) {
        writes.push(Write::held(shard, held));
        writes.extend(self.scrub.heal(shard, now.mono));
        let receipt = held.receipt.clone();
        let note =
            codec::encode(&HeldRecord { record: signed.clone(), receipt: Some(receipt.clone()) });
        let response = Box::new(Response::Receipt(receipt));
        let then = Then::Reply { lane, response, close: false };
        self.persist(writes, Some((lane, shard, note)), then);
    }

    pub(super) fn handle_replace(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        signed: Signed<Record>,
    ) -> Decision {
        let reading = self.read_lock_clock(now);
        let view = View { facts, overlay: &self.overlay };
        let (record, _) = self.check_record(now, &view, role, &signed)?;
        let (vault, stripe) = (record.stripe.vault, record.stripe.id());
        if view.is_pending(Table::Record, &key(&[&vault.0, &stripe.0])) {
            // Neither "done" nor a further version may rest on a row that could still fail.
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        let known = view
            .record(vault, stripe)?
            .ok_or_else(|| refusal(RefusalCode::NotHeld, "nothing of this stripe is held here"))?;
        let known = known.verify().map_err(|e| refusal(RefusalCode::Internal, e.to_string()))?;
        let held = self.place_of(&view, &known)?;
        if held.as_ref().is_some_and(|(shard, _)| view.is_pending(Table::Held, &shard.0)) {
            // The shard that is on its way may fail, and with it the lock that it brings.
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        let mine = known.index_of(self.node());
        // Who stands in for a holder is named by no record, and by a new one only for what it has.
        let place = held.as_ref().map(|(_, held)| held.index);
        let stands_in = mine.is_none() && place.is_some();
        let given = record.index_of(self.node());
        let is_kept = if stands_in { given.is_none() || given == place } else { given == mine };
        if !is_kept || mine.is_none() && !stands_in {
            return Err(not_allowed("the record takes this node's shard away"));
        }
        check_lock_kept(&known.policy.lock, &record.policy.lock)?;
        let longest = self.longest_lock(now, &view, vault)?;
        if !known.policy.lock.covers(&record.policy.lock) {
            check_bounds(&record.policy.lock, longest).map_err(|e| not_allowed(e.to_string()))?;
        }
        if record.version <= known.version {
            if record == known {
                self.reply(lane, Response::Done);
                return Ok(());
            }
            return Err(not_allowed(format!("version {} is known already", known.version)));
        }
        if record.version - known.version > RECORD_STEP_MAX {
            // Or else one statement, signed with a stolen key, would be the last for ever.
            let text = format!("version {} is too far ahead of {}", record.version, known.version);
            return Err(not_allowed(text));
        }
        let response = Box::new(Response::Done);
        let mut writes = vec![Write::record(vault, stripe, &signed)];
        if let Some((_, shard, held)) = self.held_of(&view, vault, stripe)? {
            let lock = &record.policy.lock;
            let Some(Extension { life, .. }) =
                lives::extend(&view, shard, &held, lock, reading, longest)?
            else {
                return Err(refusal(RefusalCode::NotHeld, "its shard is being dropped here"));
            };
            writes.push(Write::life(shard, &life));
            writes.push(Write::promise(&mut self.lock_clock, now.mono));
            let period = record.policy.lock.period;
            let promised = held.receipt.verify();
            let promised = promised.map_err(|e| refusal(RefusalCode::Internal, e.to_string()))?;
            if promised.keep < period {
                // Who compares the promise with the record finds as much as that asks.
                let promised = Receipt { keep: period, received: now.wall, ..promised };
                let receipt = Signed::sign(&promised, &self.key);
                writes.push(tallies::renewed(vault, held.len.into(), now.wall));
                writes.push(Write::held(shard, &Held { receipt, ..held }));
            }
        }
        self.persist(writes, None, Then::Reply { lane, response, close: false });
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "all of one request")]
    pub(super) fn handle_get(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        shard: ShardId,
        offset: u32,
        len: u32,
    ) -> Decision {
        let view = View { facts, overlay: &self.overlay };
        let not_held = || refusal(RefusalCode::NotHeld, format!("shard {shard} is not held here"));
        let held = view.held(shard)?.ok_or_else(not_held)?;
        // Who may not read a vault is not told what is held of it.
        if self.check_reader(&view, role, held.vault).is_err() {
            return Err(not_held());
        }
        if view.is_pending(Table::Held, &shard.0) {
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        if self.scrub.is_damaged(shard) {
            let text = format!("the bytes of shard {shard} are damaged here");
            return Err(refusal(RefusalCode::NotHeld, text));
        }
        let end = offset.checked_add(len).filter(|&end| end <= held.len && len > 0);
        if end.is_none() {
            return Err(refusal(
                RefusalCode::Malformed,
                format!("{len} bytes from {offset} on of a shard of {}", held.len),
            ));
        }
        // Whoever reads for a partner's vault draws on that partner's budget, whosever node it is.
        let asking =
            self.partner_asking(role).map(|asker| self.partner_of(held.vault).unwrap_or(asker));
        let wait = match self.pace(now, asking, len) {
            Ok(wait) => wait,
            Err(retry_after) => {
                self.reply(lane, Response::Busy { retry_after });
                return Ok(());
            }
        };
        self.outputs.push_back(Output::Transmit { lane, shard, offset, len, wait });
        Ok(())
    }

    pub(super) fn handle_records(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
        stripes: &[StripeId],
    ) -> Decision {
        let view = View { facts, overlay: &self.overlay };
        self.check_reader(&view, role, vault)?;
        if stripes.len() > IDS_MAX {
            return Err(refusal(
                RefusalCode::Malformed,
                format!("{} ids, at most {IDS_MAX}", stripes.len()),
            ));
        }
        let mut records = Vec::new();
        let mut len = 0;
        for &stripe in stripes {
            // A page ends early; the asker asks again for the rest.
            if len > PAGE_LEN {
                break;
            }
            let record = match view.record(vault, stripe)? {
                Some(record) => Some(self.held_record(&view, role, record)?),
                None => None,
            };
            len += record.as_ref().map_or(1, |record| codec::encode(record).len());
            records.push(record);
        }
        self.reply(lane, Response::Records(records));
        Ok(())
    }

    pub(super) fn handle_inventory(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        vault: VaultId,
        after: Option<StripeId>,
    ) -> Decision {
        let view = View { facts, overlay: &self.overlay };
        self.check_reader(&view, role, vault)?;
        let mut cursor = after.map(|stripe| key(&[&vault.0, &stripe.0]));
        let mut records = Vec::new();
        let mut len = 0;
        let more = 'page: loop {
            let rows = facts.scan(Table::Record, &vault.0, cursor.as_deref(), 64)?;
            let Some((last, _)) = rows.last() else { break 'page false };
            cursor = Some(last.clone());
            for (_, bytes) in rows {
                len += bytes.len() + 256;
                records.push(self.held_record(&view, role, decode(Table::Record, &bytes)?)?);
                if len > PAGE_LEN {
                    break 'page true;
                }
            }
        };
        self.reply(lane, Response::Inventory { records, more });
        Ok(())
    }

    fn held_record(
        &self,
        view: &View<'_>,
        role: &Role,
        signed: Signed<Record>,
    ) -> Result<HeldRecord, Refusal> {
        // Whoever is shown it verifies it.
        let record = signed.stored().ok_or_else(|| {
            refusal(RefusalCode::Internal, "what is kept of the stripe cannot be read")
        })?;
        // A receipt that is not durable yet is no promise yet, whoever asks.
        let held = self.place_of(view, &record)?.filter(|(shard, _)| {
            !view.is_pending(Table::Held, &shard.0)
                && !self.lives.is_dropping(*shard)
                && !self.scrub.is_damaged(*shard)
        });
        let Some((shard, held)) = held else {
            return Ok(HeldRecord { record: signed, receipt: None });
        };
        // Nobody is to count on what is discharged. (To whom it belongs, it is still held.)
        let is_hidden = matches!(role, Role::Node(_))
            && self.has_discharges(held.vault)
            && view.life(shard)?.is_some_and(|life| self.is_discharged(held.vault, &life));
        Ok(HeldRecord { record: signed, receipt: (!is_hidden).then_some(held.receipt) })
    }
}

/// One shard, the same bytes, can be part of two stripes only by a broken or lying writer.
fn check_same(held: &Held, vault: VaultId, stripe: StripeId, index: u16) -> Decision {
    if (held.vault, held.stripe, held.index) == (vault, stripe, index) {
        Ok(())
    } else {
        Err(not_allowed("these bytes are held as a shard of another stripe"))
    }
}

/// A lock names the guardians that the vault names or once named, or those that it named for this stripe before: who has a device's key
/// alone does not give stripes to guardians of his own, whom no release would ever satisfy; and who has the vault's does not end
/// backups and repair by a descriptor that names others.
fn check_guardians(view: &View<'_>, vault: VaultId, record: &Record) -> Decision {
    let guardians = &record.policy.lock.guardians;
    let internal = |e: crate::sign::SignatureError| refusal(RefusalCode::Internal, e.to_string());
    if let Some(signed) = view.descriptor(vault)?
        && signed.verify().map_err(internal)?.policy.lock.guardians == *guardians
    {
        return Ok(());
    }
    if let Some(signed) = view.record(vault, record.stripe.id())?
        && signed.verify().map_err(internal)?.policy.lock.guardians == *guardians
    {
        return Ok(());
    }
    let earlier = namings(view.facts, vault)?;
    if earlier.iter().any(|(named, _)| Some(named) == guardians.as_ref()) {
        return Ok(());
    }
    Err(not_allowed("the vault names no such guardians"))
}

/// Whoever signs a later record: the lock that it names is at least as strong as the one before.
fn check_lock_kept(known: &Lock, offered: &Lock) -> Decision {
    if offered.period < known.period {
        Err(not_allowed("a lock is never shortened"))
    } else if offered.release_cooldown < known.release_cooldown {
        Err(not_allowed("the wait before a release is never shortened"))
    } else if known.guardians.is_some() && offered.guardians != known.guardians {
        Err(not_allowed("the guardians of a lock stay"))
    } else {
        Ok(())
    }
}
