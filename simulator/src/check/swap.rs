//! What operators agreed, compared with what holders take. It goes by the list and the notices that are durable at a node: what that says is
//! the operators' word, and a node goes by nothing else.
//!
//! - P8: a holder takes nothing anew of a vault whose operator is no partner of its own.
//! - Swap: and of a partner's nothing once the agreement has ended by its term or by notice, no lock longer than agreed, and no more bytes than
//!   its part of what is given. Parts are counted out here. What is held stays held, whatever becomes of the agreement.
//! - P1: operators who lie, or delete, destroy nothing while a clause names as many.
//! - P5: nobody is shown to lack what it has by the word of one operator, or of nobody.

use super::Checker;
use super::books::Books;
use crate::host::Host;
use crate::world::World;
use protocol::agreement::Acceptance;
use protocol::certificate::CLOCK_SKEW_MAX;
use protocol::codec::{VALUE_LEN_MAX, decode};
use protocol::id::{NodeId, OperatorId, ShardId, StripeId, VaultId};
use protocol::label::Level;
use protocol::notice::{Notice, NoticeRow};
use protocol::partner::PartnerList;
use protocol::peer::{Facts, Table, Write};
use protocol::policy::Lock;
use protocol::record::Record;
use protocol::sign::Signed;
use protocol::time::{Mono, Period, Wall};
use std::collections::{BTreeMap, BTreeSet};

/// What was let come under a list may be stored so long after the next one.
const ON_ITS_WAY: Period = Period::seconds(3600);

/// What a node's list gives a partner there.
#[derive(Debug, Clone)]
struct Bound {
    version: u64,
    /// Bytes at this node.
    part: u64,
    lock_max: Period,
    notice: Period,
    end: Wall,
}

type Bounds = BTreeMap<OperatorId, Bound>;
/// Notices by their sides, with when they came.
type Notices = BTreeMap<(OperatorId, OperatorId), (Notice, Wall)>;

/// What was agreed, as far as each node knows.
#[derive(Debug, Default)]
pub(crate) struct Swapping {
    operators: BTreeMap<usize, OperatorId>,
    /// Who vouches for each vault.
    pub(crate) owners: BTreeMap<VaultId, OperatorId>,
    bounds: BTreeMap<usize, Bounds>,
    /// Those before, until when they may count.
    before: BTreeMap<usize, (Mono, Bounds)>,
    notices: BTreeMap<usize, Notices>,
}

/// The bounds of a list, by the papers in it alone.
fn bounds(own: OperatorId, node: NodeId, row: &Write) -> Bounds {
    let list = row.value.as_ref().and_then(|bytes| decode(bytes, VALUE_LEN_MAX).ok());
    let list = list.and_then(|signed: Signed<PartnerList>| signed.verify().ok());
    let mut bounds = Bounds::new();
    for partner in list.into_iter().flat_map(|list| list.partners) {
        let (Ok(them), Some(agreement)) = (partner.introduction.verify(), &partner.agreement)
        else {
            continue;
        };
        let Ok(agreement) = Acceptance::verify(agreement) else { continue };
        let gives = [&agreement.first, &agreement.second]
            .into_iter()
            .find(|side| side.operator == own)
            .map_or(0, |side| side.gives);
        let parts = partner.holders.len() as u64;
        let is_holder = partner.holders.contains(&node);
        let bound = Bound {
            version: agreement.version,
            part: if is_holder { gives.div_ceil(parts) } else { 0 },
            lock_max: agreement.lock_max,
            notice: agreement.notice,
            end: Wall(agreement.start.0.saturating_add(agreement.term.0)),
        };
        bounds.insert(them.operator, bound);
    }
    bounds
}

impl Swapping {
    /// A node has a list durably.
    pub(crate) fn listed(&mut self, node: usize, own: OperatorId, now: Mono, row: &Write) {
        self.operators.insert(node, own);
        let name = crate::setup::Setup::node_key(node).public().into();
        let before = self.bounds.insert(node, bounds(own, name, row));
        if let Some(before) = before {
            self.before.insert(node, (now.after(ON_ITS_WAY), before));
        }
    }

    fn noticed(&mut self, node: usize, row: &Write) {
        let row: Option<NoticeRow> =
            row.value.as_ref().and_then(|bytes| decode(bytes, VALUE_LEN_MAX).ok());
        let Some(NoticeRow { notice, received }) = row else { return };
        if let Ok(notice) = notice.verify() {
            let sides = (notice.leaver, notice.other);
            self.notices.entry(node).or_default().insert(sides, (notice, received));
        }
    }

    /// For which other operator's vault a node would hold this.
    fn other_of(&self, node: usize, vault: VaultId) -> Option<OperatorId> {
        let owner = *self.owners.get(&vault)?;
        (self.operators.get(&node) != Some(&owner)).then_some(owner)
    }

    /// Why a node may not take something new of a vault now, if it may not.
    fn forbids(
        &self,
        node: usize,
        wall: Wall,
        vault: VaultId,
        lock: &Lock,
    ) -> Option<(&'static str, String)> {
        let partner = self.other_of(node, vault)?;
        let Some(bound) = self.bounds.get(&node).and_then(|bounds| bounds.get(&partner)) else {
            return Some(("P8", "of an operator with which nothing is agreed".into()));
        };
        if wall >= bound.end {
            return Some(("swap", "after the agreement has ended".into()));
        }
        let own = self.operators.get(&node).copied()?;
        let notices = self.notices.get(&node);
        let ends = [(own, partner), (partner, own)].into_iter().filter_map(|sides| {
            let (notice, received) = notices?.get(&sides)?;
            // Who hears of it more than a day late counts from then on.
            let from = Some(*received).filter(|at| *at > notice.given.after(CLOCK_SKEW_MAX));
            let from = from.unwrap_or(notice.given);
            (notice.version == bound.version).then(|| from.after(bound.notice))
        });
        if ends.min().is_some_and(|end| end <= wall) {
            return Some(("swap", "after the end of the notice".into()));
        }
        let asked = lock.period.max(lock.release_cooldown);
        let longest = bound.lock_max;
        (asked > longest).then(|| ("swap", format!("locked for {asked}, and {longest} was agreed")))
    }

    /// Bytes that a node may hold for a partner, now or a little while ago.
    fn part_of(&self, node: usize, partner: OperatorId, now: Mono) -> u64 {
        let of = |bounds: &Bounds| bounds.get(&partner).map_or(0, |bound| bound.part);
        let before = self.before.get(&node).filter(|(until, _)| now <= *until);
        let before = before.map_or(0, |(_, bounds)| of(bounds));
        self.bounds.get(&node).map_or(0, of).max(before)
    }
}

impl Books {
    /// Bytes held for the vaults of an operator.
    fn held_for(&self, swapping: &Swapping, operator: OperatorId) -> u64 {
        let is_its = |vault| swapping.owners.get(vault) == Some(&operator);
        let held = self.held.iter().filter(|(vault, _)| is_its(vault));
        held.map(|(_, usage)| usage.bytes).sum()
    }
}

impl Checker {
    /// Bytes that a node holds for the vaults of an operator.
    pub(crate) fn held_for(&self, node: usize, operator: OperatorId) -> u64 {
        let swapping = self.swapping.as_ref();
        let books = self.books.get(&node).zip(swapping);
        books.map_or(0, |(books, swapping)| books.held_for(swapping, operator))
    }

    /// Why a node may not take a shard that it is asked to take, if it may not.
    pub(super) fn forbids(
        &self,
        (node, host): (usize, &Host),
        wall: Wall,
        record: &Record,
        shard: Option<ShardId>,
    ) -> Option<(&'static str, String)> {
        let swapping = self.swapping.as_ref()?;
        let held = host.disk.facts().get(Table::Held, shard?.as_bytes());
        if !matches!(held, Ok(None)) {
            return None;
        }
        swapping.forbids(node, wall, record.stripe.vault, &record.policy.lock)
    }

    /// Whether a node extends nothing of a vault: what was agreed has ended, or is not what it was a little while ago.
    pub(crate) fn has_ended(
        &self,
        (node, now): (usize, Mono),
        wall: Wall,
        vault: VaultId,
        lock: &Lock,
    ) -> bool {
        let Some(swapping) = &self.swapping else { return false };
        let is_new = swapping.before.get(&node).is_some_and(|(until, _)| now <= *until);
        let is_other = swapping.other_of(node, vault).is_some();
        is_other && (is_new || swapping.forbids(node, wall, vault, lock).is_some())
    }

    /// A node has taken a shard of a vault.
    pub(super) fn check_part(&mut self, now: Mono, node: usize, vault: VaultId) {
        let Some(swapping) = &self.swapping else { return };
        let Some(partner) = swapping.other_of(node, vault) else { return };
        let held = self.held_for(node, partner);
        let part = swapping.part_of(node, partner, now);
        if held > part {
            let text =
                format!("node {node} holds {held} bytes for a partner whose part there is {part}");
            self.report("swap", text);
        }
    }

    /// What operators said is durable at a node.
    pub(super) fn agreed(&mut self, now: Mono, node: usize, write: &Write) {
        let Some(swapping) = &mut self.swapping else { return };
        match write.table {
            Table::Partners => {
                if let Some(own) = swapping.operators.get(&node).copied() {
                    swapping.listed(node, own, now, write);
                }
            }
            Table::Notice => swapping.noticed(node, write),
            _ => {}
        }
    }
}

impl World {
    /// A node counts a shard as one that its holder has not.
    pub(crate) fn check_blame(&mut self, node: usize, holder: NodeId, stripe: StripeId) {
        let Some(holder) = self.node_of(holder) else { return };
        let Some(&shard) = self.checker_ref().shard_of.get(&(holder, stripe)) else { return };
        let host = &self.hosts[holder];
        let checker = self.checker_ref();
        let is_quiet = self.is_calm() && self.disturbed.after(self.patience) <= self.now();
        let is_sound = host.is_honest()
            && host.disk.has(shard)
            && !host.has_left
            && !checker.ever_rotten.contains(&(holder, shard))
            && !checker.given_up.contains(&stripe)
            && !self.hosts.iter().any(|host| host.lies);
        if !is_quiet || !is_sound || !self.hosts[node].is_honest() {
            return;
        }
        let operator = |node: &usize| self.hosts[*node].operator.as_str();
        // Who has a shard of the stripe may ask about those of the others.
        let others = checker.shard_of.iter().filter(|((other, of), shard)| {
            *of == stripe && *other != holder && checker.has_taken(*other, **shard)
        });
        let others: BTreeSet<usize> = others.map(|((other, _), _)| *other).collect();
        let having: BTreeSet<&str> = others.iter().map(operator).collect();
        let liars: BTreeSet<&str> = (0..self.nodes())
            .filter(|&node| self.hosts[node].slanders.is_some())
            .map(|node| operator(&node))
            .collect();
        if liars.len() < 2 && having.len() >= 2 {
            let text = format!(
                "node {node} counts a shard of node {holder} as not there by the word of {liars:?}, and {others:?} have some of {}",
                stripe.short()
            );
            self.checker().report("P5", text);
        }
    }

    /// Whether two operators say of a node that it lacks what it has: others are to believe two.
    pub(super) fn is_slandered(&self, node: usize) -> bool {
        let of = Some(self.hosts[node].operator.as_str());
        let liars = self.hosts.iter().filter(|host| host.slanders.as_deref() == of);
        liars.map(|host| host.operator.as_str()).collect::<BTreeSet<&str>>().len() >= 2
    }

    /// Operators who lie, and those whose nodes deleted what they hold, have destroyed nothing that is to bear as many.
    pub(crate) fn check_colluders(&mut self) {
        let is_bad = |host: &&Host| host.seized || host.slanders.is_some();
        let bad: BTreeSet<&str> =
            self.hosts.iter().filter(is_bad).map(|host| host.operator.as_str()).collect();
        let is_hurt = self.hosts.iter().any(|host| host.vanished)
            || self.relabelled.is_some()
            || !self.checker_ref().ever_rotten.is_empty();
        if bad.is_empty() || is_hurt {
            return;
        }
        let mut destroyed = None;
        for (owner, of) in self.owners.iter().enumerate() {
            let borne = of.policy.survive.any.iter().filter_map(|clause| {
                let (level, count) = clause.0.first_key_value()?;
                (clause.0.len() == 1 && level.as_str() == Level::OPERATOR)
                    .then_some(*count as usize)
            });
            if borne.max().is_none_or(|borne| borne < bad.len()) {
                continue;
            }
            for stripe in of.needed() {
                let owned = &of.stripes[stripe];
                let stored = &owned.stored;
                if !owned.is_committed
                    || owned.is_degraded
                    || self.checker_ref().given_up.contains(&stored.stripe.id())
                {
                    continue;
                }
                let is_good = |node: usize| !bad.contains(self.hosts[node].operator.as_str());
                let left = self.places(stored, is_good).len();
                if left < usize::from(stored.stripe.k) {
                    destroyed = Some((owner, stripe, left));
                }
            }
        }
        if let Some((owner, stripe, left)) = destroyed {
            let text = format!(
                "stripe {stripe} of owner {owner} has {left} shards left with others than {bad:?}"
            );
            self.checker().report("P1", text);
        }
    }
}
