//! Partners that leave, are left, or break their part: what is put with them no more, and what is moved off. The rules are
//! [`crate::notice`]'s.
//!
//! - Notices come from operators' commands, go on to the nodes of both sides, and count once they are durable. What either side has with the other is
//!   to lie elsewhere then: own vaults' shards off the partner's nodes, and the partner's off the own ones. A node *leaves* as far as
//!   a vault is concerned, and [`super::repair`] does what it does for any node that leaves.
//! - Of a partner that breaks its part no node is chosen for anything but its own vaults; after the notice, counted by the lock clock, its
//!   nodes leave as far as own vaults are concerned. What is held for it stays: that was promised.
//! - Each node judges by what it sees itself; of audits that takes two operators' word, or the holder's own signature.

use super::facts::{Facts, FactsError, Table, View, Write, decode, key};
use super::holder::{BUSY_RETRY, not_allowed};
use super::membership::Pending;
use super::{Decision, LaneId, LinkId, Note, Output, Peer, Role, Then, refusal};
use crate::agreement::Agreement;
use crate::id::{NodeId, OperatorId, StripeId, VaultId};
use crate::lock_clock::LockTime;
use crate::message::{Frozen, PartnerStanding, Refusal, RefusalCode, Request, Response, VaultHeld};
use crate::notice::{Breach, Conduct, Notice, NoticeRow, Seen, Step};
use crate::partner::PARTNERS_MAX;
use crate::sign::Signed;
use crate::time::{Now, Wall};
use std::collections::{BTreeMap, BTreeSet};

/// Who leaves, and with whom it was agreed.
type Sides = (OperatorId, OperatorId);
/// Which node was told which notice: between whom, its version and when it was given.
pub(super) type ToldNotice = (NodeId, Sides, u64, Wall);

/// A notice that counts.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    signed: Signed<Notice>,
    notice: Notice,
    /// When it came.
    received: Wall,
}

impl Kept {
    fn read(row: &[u8]) -> Result<Option<Self>, FactsError> {
        // An earlier program did not write down when it came.
        let row: Result<NoticeRow, FactsError> = decode(Table::Notice, row).or_else(|_| {
            let notice: Signed<Notice> = decode(Table::Notice, row)?;
            Ok(NoticeRow { notice, received: Wall(0) })
        });
        let NoticeRow { notice: signed, received } = row?;
        Ok(signed.verify().ok().map(|notice| Self { signed, notice, received }))
    }
}

/// What is remembered of partings.
#[derive(Debug, Default)]
pub(super) struct Parting {
    notices: BTreeMap<Sides, Kept>,
    conduct: BTreeMap<OperatorId, Conduct>,
    told: BTreeSet<ToldNotice>,
}

/// Which nodes leave as far as some vaults are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parted {
    ours: BTreeSet<VaultId>,
    their_nodes: BTreeSet<NodeId>,
    theirs: BTreeSet<VaultId>,
    our_nodes: BTreeSet<NodeId>,
}

impl Parted {
    /// The nodes that leave as far as a vault is concerned.
    fn nodes(&self, vault: VaultId) -> Option<&BTreeSet<NodeId>> {
        if self.ours.contains(&vault) {
            Some(&self.their_nodes)
        } else {
            Some(&self.our_nodes).filter(|_| self.theirs.contains(&vault))
        }
    }

    pub(super) fn leaves(&self, vault: VaultId, node: NodeId) -> bool {
        self.nodes(vault).is_some_and(|nodes| nodes.contains(&node))
    }

    /// These nodes, and those that leave as far as the vault is concerned.
    pub(super) fn and(&self, leaving: &BTreeSet<NodeId>, vault: VaultId) -> BTreeSet<NodeId> {
        leaving.iter().chain(self.nodes(vault).into_iter().flatten()).copied().collect()
    }

    /// Whether a vault has to lie elsewhere.
    fn concerns(&self, vault: VaultId) -> bool {
        self.nodes(vault).is_some_and(|nodes| !nodes.is_empty())
    }
}

fn row_of((leaver, other): Sides) -> Vec<u8> {
    key(&[&leaver.0, &other.0])
}

impl Parting {
    pub(super) fn load(facts: &dyn Facts) -> Result<Self, FactsError> {
        let mut parting = Self::default();
        for (_, bytes) in facts.scan(Table::Notice, &[], None, usize::MAX)? {
            if let Some(kept) = Kept::read(&bytes)? {
                parting.notices.insert((kept.notice.leaver, kept.notice.other), kept);
            }
        }
        for (row, bytes) in facts.scan(Table::Breach, &[], None, usize::MAX)? {
            let breach: Breach = decode(Table::Breach, &bytes)?;
            if let Ok(operator) = row.try_into() {
                parting.conduct.insert(OperatorId(operator), Conduct::stored(breach));
            }
        }
        Ok(parting)
    }

    /// Whether it is one that counts.
    pub(super) fn is_kept(&self, signed: &Signed<Notice>) -> bool {
        self.notices.values().any(|kept| kept.signed == *signed)
    }

    /// Notices of an agreement between these two, by either.
    fn of(
        &self,
        one: OperatorId,
        other: OperatorId,
        agreement: &Agreement,
    ) -> impl Iterator<Item = &Kept> {
        let sides = [(one, other), (other, one)];
        let found = sides.into_iter().filter_map(|sides| self.notices.get(&sides));
        found.filter(|kept| kept.notice.concerns(agreement))
    }

    /// When an agreement ends by notice, if it does.
    pub(super) fn end_of(
        &self,
        own: OperatorId,
        partner: OperatorId,
        agreement: &Agreement,
    ) -> Option<Wall> {
        let ends = self.of(own, partner, agreement);
        ends.map(|kept| kept.notice.end(agreement, kept.received)).min()
    }

    /// Whether nothing new is put with a partner, because it breaks its part.
    pub(super) fn is_frozen(&self, partner: OperatorId) -> bool {
        self.conduct.get(&partner).is_some_and(|conduct| conduct.breach.is_some())
    }

    /// A node greets: it may have begun anew, on an empty disk.
    pub(super) fn forget_told(&mut self, node: NodeId) {
        self.told.retain(|(told, ..)| *told != node);
    }
}

impl Peer {
    /// Takes a notice from an operator's command, or from a node of either side.
    pub(super) fn handle_notice(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        signed: Signed<Notice>,
    ) -> Decision {
        let notice = Notice::verify(&signed, now.wall)
            .map_err(|error| refusal(RefusalCode::Malformed, error.to_string()))?;
        let sides = (notice.leaver, notice.other);
        let asker = self.operator_of(role);
        if matches!(role, Role::Device { .. }) || ![Some(sides.0), Some(sides.1)].contains(&asker) {
            return Err(not_allowed("notice is given by operators' commands and nodes"));
        }
        let known = notice.across(self.certificate.operator).and_then(|partner| {
            let known = self.partnership.known_partner(partner)?;
            known.agreement.as_ref().filter(|agreement| notice.concerns(agreement))
        });
        let Some(agreement) = known else {
            return Err(not_allowed(
                "no such agreement is known here, to which the notice could be given",
            ));
        };
        let view = View { facts, overlay: &self.overlay };
        if view.is_pending(Table::Notice, &row_of(sides)) {
            self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            return Ok(());
        }
        let before = self.partnership.parting.notices.get(&sides);
        // The first one counts: a later one would make it longer.
        let is_first =
            |before: &Notice| before.version < notice.version || !before.concerns(agreement);
        if before.is_some_and(|before| !is_first(&before.notice)) {
            self.reply(lane, Response::Done);
            return Ok(());
        }
        let received = now.wall;
        let row = NoticeRow { notice: signed.clone(), received };
        let writes = vec![Write::row(Table::Notice, row_of(sides), &row)];
        let notice = Box::new(Kept { signed, notice, received });
        self.persist(writes, None, Then::Notice { notice, lane });
        Ok(())
    }

    /// It is durable.
    pub(super) fn begin_notice(&mut self, kept: Kept) {
        let sides = (kept.notice.leaver, kept.notice.other);
        self.outputs.push_back(Output::Note(Note::Notice { leaver: sides.0, other: sides.1 }));
        self.partnership.parting.notices.insert(sides, kept);
        self.repair.wake();
    }

    /// Tells a node of either side a notice that it was not told yet, one at a time.
    pub(super) fn tell_notices(&mut self, node: NodeId, link: LinkId) {
        let Some(operator) = self.operator_of_node(node) else { return };
        let own = self.certificate.operator;
        let parting = &self.partnership.parting;
        // Of what counts no more nobody has to hear.
        let counts = |notice: &Notice| {
            let partner = notice.across(own).and_then(|partner| self.partnership.agreed(partner));
            partner.is_some_and(|agreement| notice.concerns(agreement))
        };
        let mut new = parting.notices.iter().filter(|(sides, Kept { notice, .. })| {
            (operator == sides.0 || operator == sides.1)
                && !parting.told.contains(&(node, **sides, notice.version, notice.given))
                && counts(notice)
        });
        let Some((&sides, Kept { signed, notice, .. })) = new.next() else { return };
        let told = (node, sides, notice.version, notice.given);
        let request = Box::new(Request::GiveNotice(Box::new(signed.clone())));
        let call = self.call(Pending::Notice(told));
        self.outputs.push_back(Output::Call { call, link, request });
    }

    /// A node took it.
    pub(super) fn handle_told_notice(&mut self, told: ToldNotice) {
        self.partnership.parting.told.insert(told);
        let members = &self.members;
        self.partnership.parting.told.retain(|(node, ..)| members.contains_key(node));
    }

    /// Looks at how partners keep their part.
    pub(super) fn judge_partners(&mut self, now: Now) {
        let at = self.read_lock_clock(now).at;
        let partners: Vec<OperatorId> = self.partnership.partners().collect();
        let mut writes = Vec::new();
        for &partner in partners.iter().take(PARTNERS_MAX) {
            let mut seen = Seen::default();
            for node in self.members.of(|operator| operator == partner) {
                seen.nodes += 1;
                seen.lost += usize::from(self.repair.lost.contains(node));
                seen.heard += usize::from(self.members.heard(*node).is_some());
            }
            // Of own vaults: who writes the records of another one can name whomever it likes.
            let is_its = |&(&(_, node), &vault): &(&(StripeId, NodeId), &VaultId)| {
                self.operator_of_node(node) == Some(partner) && self.partner_of(vault).is_none()
            };
            let unproved = &self.repair.unproved;
            let denied = self.repair.taken.denied();
            let denied = denied.filter(|(place, _)| !unproved.contains_key(place));
            seen.unproved = unproved.iter().chain(denied).filter(is_its).count();
            let conduct = self.partnership.parting.conduct.entry(partner).or_default();
            match conduct.see(&seen, at, now.mono) {
                Step::None => {}
                Step::Breaks(breach) => {
                    writes.push(Write::row(Table::Breach, partner.0.to_vec(), &breach));
                    let note = Note::PartnerFrozen { operator: partner, cause: breach.cause };
                    self.outputs.push_back(Output::Note(note));
                }
                Step::Heals => {
                    writes.push(Write::remove(Table::Breach, partner.0.to_vec()));
                    self.outputs.push_back(Output::Note(Note::PartnerFree(partner)));
                    self.repair.wake();
                }
            }
        }
        let conduct = &mut self.partnership.parting.conduct;
        for removed in conduct.extract_if(.., |operator, _| !partners.contains(operator)) {
            // Who is added anew begins anew.
            if removed.1.breach.is_some() {
                writes.push(Write::remove(Table::Breach, removed.0.0.to_vec()));
            }
        }
        if !writes.is_empty() {
            writes.push(Write::lock_clock(&self.lock_clock));
            self.persist(writes, None, Then::Nothing);
        }
    }

    /// Finds who parts now; whether that is news.
    pub(super) fn notice_parting(&mut self) -> bool {
        let (own, at) = (self.certificate.operator, self.lock_clock.reading().at);
        let (mut left, mut avoided) = (BTreeSet::new(), BTreeSet::new());
        for partner in self.partnership.partners() {
            let Some(agreement) = self.partnership.agreed(partner) else { continue };
            let parting = &self.partnership.parting;
            if parting.end_of(own, partner, agreement).is_some() {
                left.insert(partner);
                avoided.insert(partner);
            }
            let breach = parting.conduct.get(&partner).and_then(|conduct| conduct.breach);
            if breach.is_some_and(|breach| breach.since.after(agreement.notice) <= at) {
                avoided.insert(partner);
            }
        }
        // Nodes of those who are no partners, or no more: rosters of own vaults list them for ever, and nothing of theirs is to lie there.
        // (Before any list is known nobody can tell who is one.)
        let is_known = self.partnership.is_told();
        let is_stranger = |operator| is_known && self.trust.check(operator).is_err();
        let theirs = self.members.operators().filter(|operator| is_stranger(*operator));
        let theirs: BTreeSet<OperatorId> = theirs.chain(avoided).collect();
        let mut parted = Parted::default();
        if !theirs.is_empty() {
            (parted.ours, parted.theirs) = self.partnership.divided(&left);
        }
        // Mostly all is as it was: then nothing is put together anew.
        let before = &self.repair.parted;
        let is_same = (&parted.ours, &parted.theirs) == (&before.ours, &before.theirs);
        let by = (self.members.changes(), theirs);
        if is_same && self.repair.parted_by == by {
            return false;
        }
        if !by.1.is_empty() {
            parted.their_nodes =
                self.members.of(|operator| by.1.contains(&operator)).copied().collect();
            parted.our_nodes = self.members.of(|operator| operator == own).copied().collect();
            parted.our_nodes.insert(self.node());
        }
        self.repair.parted_by = by;
        let is_news = parted != self.repair.parted;
        let before = std::mem::replace(&mut self.repair.parted, parted);
        let parted = &self.repair.parted;
        let mut moved = (&parted.their_nodes ^ &before.their_nodes).into_iter();
        let is_upset = !is_same
            || parted.our_nodes != before.our_nodes
            || moved.any(|node| self.concerns_leaving(node));
        self.leaving.upset(is_news && is_upset);
        is_news
    }

    /// Whether an operator's nodes take nothing new of a vault, because it breaks its part: they may of its own.
    pub(super) fn is_frozen_for(&self, vault: VaultId, operator: OperatorId) -> bool {
        self.partnership.parting.is_frozen(operator) && self.partner_of(vault) != Some(operator)
    }

    /// Says how partners stand: to the own operator's commands of all, and to each partner's of itself.
    pub(super) fn handle_standings(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
    ) -> Decision {
        let own = self.certificate.operator;
        let Some(asker) = self.operator_of(role).filter(|_| !matches!(role, Role::Node(_))) else {
            return Err(not_allowed("how partners stand is told to operators' commands"));
        };
        let partners: Vec<OperatorId> = if asker == own {
            self.partnership.partners().collect()
        } else {
            self.partnership.partners().filter(|partner| *partner == asker).collect()
        };
        let at = self.read_lock_clock(now).at;
        let stands = |partner| self.standing_of(now, facts, (partner, asker), at);
        let mut standings: Vec<PartnerStanding> = partners.into_iter().map(stands).collect();
        // A device knows its own vault, and of no others.
        if let Role::Device { vault: own, .. } = role {
            for standing in &mut standings {
                standing.vaults.retain(|held| held.vault == *own);
            }
        }
        self.reply(lane, Response::Standings(standings));
        Ok(())
    }

    fn standing_of(
        &self,
        now: Now,
        facts: &dyn Facts,
        (partner, asker): (OperatorId, OperatorId),
        at: LockTime,
    ) -> PartnerStanding {
        let own = self.certificate.operator;
        let parting = &self.partnership.parting;
        let agreement = self.partnership.agreed(partner);
        let breach = parting.conduct.get(&partner).and_then(|conduct| conduct.breach);
        let frozen = breach.map(|breach| Frozen {
            cause: breach.cause,
            ago: at.since(breach.since),
            moves_in: agreement.map(|agreement| breach.since.after(agreement.notice).since(at)),
        });
        let notices =
            agreement.into_iter().flat_map(|agreement| parting.of(own, partner, agreement));
        let notices = notices.map(|kept| kept.signed.clone()).collect();
        let by_notice = agreement.and_then(|agreement| parting.end_of(own, partner, agreement));
        let ends = agreement
            .map(|agreement| by_notice.map_or(agreement.end(), |end| end.min(agreement.end())));
        let vaults = self.partnership.vaults_of(partner).map(|vault| {
            let bytes = self.usage.get(&vault).map_or(0, |usage| usage.bytes);
            VaultHeld { vault, bytes, quota: self.config.vault_quota }
        });
        let (waiting, stuck) = self.still_to_move(facts, partner, asker);
        PartnerStanding {
            operator: partner,
            frozen,
            notices,
            ends,
            is_over: ends.is_some_and(|end| end <= now.wall),
            vaults: vaults.collect(),
            waiting,
            stuck,
            is_counted: self.repair.is_gone_through(),
            per_second: self.config.partner_per_second,
        }
    }

    /// How many stripes have to lie elsewhere because a partner parts, and how many of these have no place now: its own, and for the own operator
    /// also those of own vaults of which its nodes have something.
    fn still_to_move(
        &self,
        facts: &dyn Facts,
        partner: OperatorId,
        asker: OperatorId,
    ) -> (u64, u64) {
        let view = View { facts, overlay: &self.overlay };
        let parted = &self.repair.parted;
        let has_some = |vault: VaultId, stripe: StripeId| {
            let record = view.record(vault, stripe).ok().flatten();
            let named = record.and_then(|signed| signed.split().ok());
            let named = named.map(|(record, _)| record.holders).unwrap_or_default();
            let known = self.repair.settled.get(&stripe).into_iter().flat_map(|(known, _)| known);
            let mut all = named.iter().chain(known);
            all.any(|&node| {
                self.operator_of_node(node) == Some(partner) && parted.leaves(vault, node)
            })
        };
        let (mut waiting, mut stuck) = (0, 0);
        for (&stripe, case) in self.repair.cases.iter().filter(|(_, case)| case.is_short) {
            let is_meant = match self.partner_of(case.vault) {
                Some(owner) => owner == partner && parted.concerns(case.vault),
                None => asker == self.certificate.operator && has_some(case.vault, stripe),
            };
            if is_meant {
                waiting += 1;
                stuck += u64::from(case.why.is_some());
            }
        }
        (waiting, stuck)
    }

    /// The partner that asks, if one does.
    pub(super) fn partner_asking(&self, role: &Role) -> Option<OperatorId> {
        self.operator_of(role).filter(|operator| self.partnership.is_other(*operator))
    }
}

impl super::repair::Repair {
    /// Whether a node leaves: altogether, or as far as a vault is concerned.
    pub(super) fn leaves(&self, vault: VaultId, node: NodeId) -> bool {
        self.leaving.contains(&node) || self.parted.leaves(vault, node)
    }

    /// All nodes that leave as far as a vault is concerned.
    pub(super) fn leavers(&self, vault: VaultId) -> BTreeSet<NodeId> {
        self.parted.and(&self.leaving, vault)
    }
}

/// Refuses what is taken anew when a notice has run out.
pub(super) fn check_notice(end: Option<Wall>, now: Wall) -> Result<(), Refusal> {
    if end.is_some_and(|end| end <= now) {
        return Err(not_allowed("the agreement has ended by notice: nothing new is held under it"));
    }
    Ok(())
}
