//! Partners: other operators that this node's operator deals with, and what their vaults may store here.
//!
//! - The operator's list comes from the driver, and goes on to the operator's other nodes; it counts once it is durable. Others are not told.
//! - What is new (a vault, a shard, a longer lock) needs an agreement in force, and fits into this node's share of it. What is held
//!   stays, whatever becomes of the agreement: its vault can be read, audited and repaired as before.
//! - Bytes are counted per vault, with each shard; here they are added up by the operator of the vault's certificate.
//!
//! **Guests** are nodes of operators that are no partners: a roster of a partner's vault that is known here lists them, under that operator. They and this
//! node hold shards of one vault, so they meet, for that vault alone: what they may read of it they are shown, shards that they rebuilt are
//! taken, and they audit. They have no say in anything else: not what time it is, nor who is lost. The vault's device tells its
//! holders where the others are.
//!
//! Operators that the peer was started with need no agreement: the own one, and those under one administration with it.

use super::facts::{Facts, FactsError, Table, View, Write, decode};
use super::holder::{BUSY_RETRY, not_allowed};
use super::ledger::VAULTS_MAX;
use super::membership::Pending;
use super::{Decision, LaneId, LinkId, Note, Output, Peer, Role, StartError, Then, refusal};
use crate::agreement::Agreement;
use crate::certificate::{Trust, VaultCertificate, VaultTerms, is_next_version};
use crate::id::{NodeId, OperatorId, VaultId};
use crate::message::{HeldFor, PartnerStatus, Refusal, RefusalCode, Request, Response};
use crate::partner::{Known, PartnerList, Partners, Rank};
use crate::planted::{Bug, is_planted};
use crate::policy::Lock;
use crate::sign::Signed;
use crate::size::Size;
use crate::succession::{Line, Lines};
use crate::time::{Now, Period};
use std::collections::{BTreeMap, BTreeSet};

/// Most vaults of one partner. Shards count for its share; logs and papers are bounded for each vault by itself ([`crate::budget`]).
pub(super) const PARTNER_VAULTS_MAX: usize = 32;
/// Most nodes of one partner that are members here, for the same reason.
const PARTNER_NODES_MAX: usize = crate::certificate::ROSTER_MAX / 8;
/// Most guests.
const GUESTS_MAX: usize = crate::certificate::ROSTER_MAX / 4;

/// Of a node that more vaults list it is not remembered which those are.
const LISTING_MAX: usize = 64;

/// What is known of partners.
#[derive(Debug)]
pub(super) struct Partnership {
    pub(super) own: OperatorId,
    /// Whom the peer was started with.
    base: Trust,
    signed: Option<Signed<PartnerList>>,
    known: Partners,
    /// Whose keys speak for the own operator and its partners.
    pub(super) speakers: super::succession::Speakers,
    /// By whose certificate the vaults are here.
    owners: BTreeMap<VaultId, OperatorId>,
    /// Of writes that are not durable yet: by whose certificate the vaults were here before.
    undecided: BTreeMap<u64, Vec<(VaultId, Option<OperatorId>)>>,
    /// Which vaults list a node that asked, until rosters here change.
    listings: BTreeMap<NodeId, Vec<VaultId>>,
    /// Nodes of partners that are not what was agreed, and how.
    pub(super) flagged: BTreeMap<NodeId, String>,
    /// Which list the own operator's nodes have taken.
    told: BTreeMap<NodeId, Rank>,
    /// Who leaves, or breaks its part.
    pub(super) parting: super::parting::Parting,
}

impl Partnership {
    pub(super) fn load(own: Line, base: Trust, facts: &dyn Facts) -> Result<Self, StartError> {
        let (own, line) = (own.operator(), own);
        let stored = facts.get(Table::Partners, &[0])?;
        let signed: Option<Signed<PartnerList>> =
            stored.map(|bytes| decode(Table::Partners, &bytes)).transpose()?;
        let known = match &signed {
            // What another operator's node left here when the host came over says nothing.
            Some(signed) => PartnerList::verify(signed, own).unwrap_or_default(),
            None => Partners::default(),
        };
        // Nor does a list under a line that parts from this node's certificate: that was put here by whoever owns the host.
        let parts = super::succession::parting(&line, &known.lines);
        let (signed, known) = match &parts {
            Some(_) => (None, Partners::default()),
            None => (signed, known),
        };
        let mut owners = BTreeMap::new();
        for (_, bytes) in facts.scan(Table::Vault, &[], None, VAULTS_MAX)? {
            let signed: Signed<VaultCertificate> = decode(Table::Vault, &bytes)?;
            if let Ok(certificate) = signed.verify() {
                owners.insert(certificate.vault, certificate.operator);
            }
        }
        let (undecided, told) = (BTreeMap::new(), BTreeMap::new());
        let parting = super::parting::Parting::load(facts)?;
        let (listings, flagged) = (BTreeMap::new(), BTreeMap::new());
        let speakers = super::succession::Speakers::new(line, &known.lines, parts);
        Ok(Self {
            own,
            base,
            signed,
            known,
            speakers,
            owners,
            undecided,
            listings,
            flagged,
            told,
            parting,
        })
    }

    /// Whom this node believes.
    pub(super) fn trust(&self) -> Trust {
        self.base.clone().and_operators(self.known.by_operator.keys().copied())
    }

    /// Whether the operator's list is known.
    pub(super) fn is_told(&self) -> bool {
        self.signed.is_some()
    }

    /// Whose keys speak, as the list shows it.
    pub(super) fn listed_lines(&self) -> Lines {
        self.known.lines.clone()
    }

    /// Whether an operator needs an agreement.
    pub(super) fn is_other(&self, operator: OperatorId) -> bool {
        self.base.check(operator).is_err()
    }

    /// All partners.
    pub(super) fn partners(&self) -> impl Iterator<Item = OperatorId> {
        self.known.by_operator.keys().copied()
    }

    pub(super) fn known_partner(&self, operator: OperatorId) -> Option<&Known> {
        self.known.by_operator.get(&operator)
    }

    /// What was agreed with a partner, in force or not.
    pub(super) fn agreed(&self, operator: OperatorId) -> Option<&Agreement> {
        self.known_partner(operator)?.agreement.as_ref()
    }

    /// By whose certificate a vault is here.
    pub(super) fn owner(&self, vault: VaultId) -> Option<OperatorId> {
        self.owners.get(&vault).copied()
    }

    /// The vaults that are here by an operator's certificate.
    pub(super) fn vaults_of(&self, operator: OperatorId) -> impl Iterator<Item = VaultId> {
        let its = self.owners.iter().filter(move |(_, owner)| **owner == operator);
        its.map(|(vault, _)| *vault)
    }

    /// The vaults of this side, and those of these operators.
    pub(super) fn divided(
        &self,
        operators: &BTreeSet<OperatorId>,
    ) -> (BTreeSet<VaultId>, BTreeSet<VaultId>) {
        let of = |is_meant: &dyn Fn(OperatorId) -> bool| {
            let vaults = self.owners.iter().filter(|(_, owner)| is_meant(**owner));
            vaults.map(|(vault, _)| *vault).collect()
        };
        (of(&|owner| !self.is_other(owner)), of(&|owner| operators.contains(&owner)))
    }

    /// Vaults of which months are stated to an operator, and whose they are: the own one hears of others', and others of theirs.
    pub(super) fn stated_to(&self, asker: OperatorId) -> Vec<(VaultId, OperatorId)> {
        let is_meant = |owner: OperatorId| {
            if asker == self.own { self.is_other(owner) } else { owner == asker }
        };
        let vaults = self.owners.iter().map(|(&vault, &owner)| (vault, owner));
        vaults.filter(|(_, owner)| is_meant(*owner)).collect()
    }

    /// Whether this is the list that counts.
    pub(super) fn is_known(&self, list: &Signed<PartnerList>) -> bool {
        self.signed.as_ref() == Some(list)
    }

    /// Writes were decided. By whose certificate a vault is here counts from then on, for what rests on them; should they fail, it is
    /// as before.
    pub(super) fn touch(&mut self, token: u64, writes: &[Write]) {
        let certificates = writes.iter().filter(|write| write.table == Table::Vault);
        for bytes in certificates.filter_map(|write| write.value.as_ref()) {
            let signed = decode::<Signed<VaultCertificate>>(Table::Vault, bytes);
            let Some(Ok(said)) = signed.ok().map(|signed| signed.verify()) else { continue };
            let before = self.owners.insert(said.vault, said.operator);
            self.undecided.entry(token).or_default().push((said.vault, before));
        }
    }

    /// These rows are others now.
    pub(super) fn note_rows(&mut self, rows: &[(Table, Vec<u8>)]) {
        if rows.iter().any(|(table, _)| *table == Table::Listed) {
            self.listings.clear();
        }
    }

    /// They are durable, or have failed.
    pub(super) fn settle(&mut self, token: u64, is_durable: bool) {
        let before = self.undecided.remove(&token).filter(|_| !is_durable);
        for (vault, before) in before.into_iter().flatten() {
            match before {
                Some(operator) => self.owners.insert(vault, operator),
                None => self.owners.remove(&vault),
            };
        }
    }

    /// How many other operators have vaults here.
    fn count_owners(&self) -> usize {
        let owners = self.owners.values().filter(|owner| self.is_other(**owner));
        owners.collect::<BTreeSet<_>>().len()
    }

    /// Where nodes of a partner are, for those of whom nobody is met.
    pub(super) fn contacts(
        &self,
        is_met: impl Fn(OperatorId) -> bool,
    ) -> Vec<(NodeId, Vec<String>)> {
        let unmet = self.known.by_operator.iter().filter(|(operator, _)| !is_met(**operator));
        let contacts = unmet.flat_map(|(_, known)| &known.introduction.contacts);
        contacts.map(|contact| (contact.node, contact.addresses.clone())).collect()
    }

    /// What counts with a partner now, if anything does.
    fn in_force(&self, now: Now, operator: OperatorId) -> Result<(&Known, &Agreement), Refusal> {
        let name = || operator.key().fingerprint();
        let known = self.known.by_operator.get(&operator).ok_or_else(|| {
            not_allowed(format!(
                "operator {} is no partner here: nothing new is held for it",
                name()
            ))
        })?;
        let agreement = known.agreement.as_ref().ok_or_else(|| {
            not_allowed(format!(
                "nothing is agreed with operator {}: nothing is held for it",
                name()
            ))
        })?;
        agreement
            .check_time(now.wall)
            .map_err(|error| not_allowed(format!("operator {}: {error}", name())))?;
        let end = self.parting.end_of(self.own, operator, agreement);
        super::parting::check_notice(end.filter(|_| !is_planted(Bug::Notice)), now.wall)?;
        Ok((known, agreement))
    }
}

impl Peer {
    /// Takes the operator's list of partners when it is newer, and answers whoever brought it. It counts once it is durable.
    pub(super) fn handle_partners(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        signed: Signed<PartnerList>,
        lane: Option<LaneId>,
    ) -> Decision {
        let known = PartnerList::verify(&signed, self.partnership.own)
            .map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        self.check_signed(now, &signed)?;
        let view = View { facts, overlay: &self.overlay };
        if view.is_pending(Table::Partners, &[0]) {
            // An older list behind a newer one would be what is read after a restart. It comes again.
            if let Some(lane) = lane {
                self.reply(lane, Response::Busy { retry_after: BUSY_RETRY });
            }
            return Ok(());
        }
        let (rank, its) =
            [&self.partnership.known, &known].map(|p| p.rank(self.partnership.own)).into();
        // One version is one content: another one with the same number is not news.
        if its.0 > rank.0 || its.0 == rank.0 && is_next_version(rank.1, its.1) {
            let writes = vec![Write::row(Table::Partners, vec![0], &signed)];
            self.persist(writes, None, Then::Partners { list: Box::new((signed, known)), lane });
        } else if let Some(lane) = lane {
            self.reply(lane, Response::Done);
        }
        Ok(())
    }

    /// The list is durable: whom it leaves out is not believed any more.
    pub(super) fn begin_partners(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        signed: Signed<PartnerList>,
        known: Partners,
    ) {
        let own = self.partnership.own;
        // The node may have been given a certificate meanwhile from which it parts.
        let parts = self.partnership.speakers.parting(&known.lines).is_some();
        if parts || known.rank(own) <= self.partnership.known.rank(own) {
            return;
        }
        self.put_partners(now, facts, Some(signed), known);
    }

    /// The list that counts is under a line that parts from the certificate that this node was given: it is none.
    pub(super) fn drop_partners(&mut self, now: Now, facts: &dyn Facts) {
        self.put_partners(now, facts, None, Partners::default());
        let row = Write::remove(Table::Partners, vec![0]);
        self.persist(vec![row], None, Then::Nothing);
    }

    fn put_partners(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        signed: Option<Signed<PartnerList>>,
        known: Partners,
    ) {
        let (version, partners) = (known.version, known.by_operator.len());
        let before = std::mem::replace(&mut self.partnership.known, known);
        self.partnership.signed = signed;
        self.trust = self.partnership.trust();
        self.learn_lines();
        self.notice_all_contradictions();
        // Their nodes may stay as guests, which have no say: what they said has none either.
        for &operator in before.by_operator.keys() {
            if self.trust.check(operator).is_err() {
                self.liveness.forget_words(operator);
                self.lock_clock.forget(operator);
            }
        }
        let gone: BTreeSet<NodeId> = self
            .members
            .iter()
            .filter(|(_, member)| self.trust.check(member.site.operator).is_err())
            .map(|(node, _)| *node)
            // Those that hold shards of one vault with this node stay, as guests.
            .filter(|node| {
                let view = View { facts, overlay: &self.overlay };
                !view.is_listed_at_all(*node).unwrap_or(false)
            })
            .collect();
        self.part_from(&gone);
        self.part_from_succeeded(now);
        self.outputs.push_back(Output::Note(Note::Partners { version, partners }));
        // Those who are new are looked for at once, and the own nodes are told. Who counts has changed.
        self.meetings.hurry(now.mono);
        self.repair.rounds.change();
        self.repair.wake();
    }

    /// These nodes are no members any more.
    pub(super) fn part_from(&mut self, gone: &BTreeSet<NodeId>) {
        for node in gone {
            self.members.remove(node);
        }
        let links = self.links.of_nodes(|node| gone.contains(node));
        for link in links {
            self.links.remove(link);
            self.outputs.push_back(Output::Close { link });
        }
        if !gone.is_empty() {
            let rows = gone.iter().map(|node| Write::remove(Table::Member, node.0.to_vec()));
            self.persist(rows.collect(), None, Then::Nothing);
        }
    }

    /// Tells a node of the own operator the list, once.
    pub(super) fn tell_partners(&mut self, node: NodeId, link: LinkId) {
        let is_own = self.operator_of_node(node) == Some(self.partnership.own);
        let rank = self.partnership.known.rank(self.partnership.own);
        let known = self.partnership.told.get(&node).copied().unwrap_or_default();
        let Some(signed) = self.partnership.signed.clone().filter(|_| is_own && known < rank)
        else {
            return;
        };
        let call = self.call(Pending::Partners { node, rank });
        let request = Box::new(Request::TakePartners(Box::new(signed)));
        self.outputs.push_back(Output::Call { call, link, request });
    }

    /// A node greets: it may have begun anew, on an empty disk.
    pub(super) fn forget_told(&mut self, node: NodeId) {
        self.partnership.told.remove(&node);
        self.partnership.parting.forget_told(node);
    }

    pub(super) fn handle_told_partners(&mut self, node: NodeId, rank: Rank) {
        if self.members.contains_key(&node) {
            self.partnership.told.insert(node, rank);
        }
        self.partnership.told.retain(|node, _| self.members.contains_key(node));
    }

    pub(super) fn handle_take_partners(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        signed: Signed<PartnerList>,
    ) -> Decision {
        let Role::Node(node) = *role else {
            return Err(not_allowed("only nodes tell each other of partners"));
        };
        if self.operator_of_node(node) != Some(self.partnership.own) {
            return Err(not_allowed("only nodes of one operator tell each other of partners"));
        }
        self.handle_partners(now, facts, signed, Some(lane))
    }

    /// Shows the own operator's commands the list, and what is held for whom.
    pub(super) fn handle_partners_asked(
        &mut self,
        now: Now,
        lane: LaneId,
        role: &Role,
        known: u64,
    ) -> Decision {
        if self.operator_of(role) != Some(self.partnership.own) {
            return Err(not_allowed("an operator's partners are shown to its own commands alone"));
        }
        let version = self.partnership.known.version;
        let list = self.partnership.signed.clone().filter(|_| version > known);
        let owners = self.partnership.owners.values().copied();
        let others: BTreeSet<OperatorId> = owners
            .chain(self.partnership.known.by_operator.keys().copied())
            .filter(|operator| self.partnership.is_other(*operator))
            .collect();
        let held = others.into_iter().map(|operator| HeldFor {
            operator,
            bytes: self.held_for(operator),
            share: self.share_of(now, operator).unwrap_or(0),
        });
        let status = PartnerStatus { version, list, held: held.collect() };
        self.reply(lane, Response::Partners(Box::new(status)));
        Ok(())
    }

    /// For whom somebody asks.
    pub(super) fn operator_of(&self, role: &Role) -> Option<OperatorId> {
        match role {
            Role::Node(node) => self.operator_of_node(*node),
            Role::Device { operator, .. } | Role::Console { operator } => Some(*operator),
        }
    }

    /// Whether somebody who asks for this operator is told of a node.
    pub(super) fn is_told_of(&self, asker: Option<OperatorId>, node: NodeId) -> bool {
        let operator = self.operator_of_node(node);
        operator.map_or_else(|| self.is_told_of_all(asker), self.told_of(asker))
    }

    /// Of whose nodes somebody who asks for this operator is told: a partner is not told of other partners, and who is none of its
    /// own operator's alone.
    pub(super) fn told_of(&self, asker: Option<OperatorId>) -> impl Fn(OperatorId) -> bool {
        let is_known = asker.is_some_and(|asker| self.trust.check(asker).is_ok());
        let is_told_of_all = self.is_told_of_all(asker);
        move |operator| {
            let is_close = || is_known && !self.partnership.is_other(operator);
            is_told_of_all || Some(operator) == asker || is_close()
        }
    }

    /// Whether somebody who asks for this operator is told of all nodes.
    pub(super) fn is_told_of_all(&self, asker: Option<OperatorId>) -> bool {
        let is_close = |asker| self.trust.check(asker).is_ok() && !self.partnership.is_other(asker);
        asker.is_some_and(is_close)
    }

    pub(super) fn operator_of_node(&self, node: NodeId) -> Option<OperatorId> {
        self.members.operator(node)
    }

    /// Whether it is a member by the word of a vault's roster alone, or none any more.
    pub(super) fn is_guest(&self, node: NodeId) -> bool {
        self.operator_of_node(node).is_none_or(|operator| self.trust.check(operator).is_err())
    }

    /// Whether somebody is told of a node, whatever is said of it: a vault's device also of those that its rosters list.
    pub(super) fn is_shown(&self, facts: &dyn Facts, role: &Role, node: NodeId) -> bool {
        let view = View { facts, overlay: &self.overlay };
        let is_listed = match role {
            Role::Device { vault, .. } => view.is_listed(node, *vault).unwrap_or(false),
            _ => false,
        };
        is_listed || node == self.node() || self.is_told_of(self.operator_of(role), node)
    }

    /// A node asked or answered. Guests are heard apart: whom a vault may list without end shows nobody that it is not cut off.
    pub(super) fn hear(&mut self, now: Now, node: NodeId) {
        if self.is_guest(node) {
            self.liveness.hear_apart(node, now.mono);
        } else {
            self.liveness.hear(node, now.mono);
        }
    }

    /// Whether the roster of a partner's vault that is known here lists a node as this operator's. The own vaults introduce nobody: whoever
    /// stole the key of one could have any node let in.
    pub(super) fn is_introduced(
        &self,
        facts: &dyn Facts,
        node: NodeId,
        operator: OperatorId,
    ) -> Result<bool, Refusal> {
        if self.operator_of_node(node) == Some(operator) {
            return Ok(true);
        }
        let view = View { facts, overlay: &self.overlay };
        let vaults = view.listed_as(node, operator)?;
        Ok(vaults.into_iter().any(|vault| self.partner_of(vault).is_some()))
    }

    /// A guest asks about vaults, and nothing else.
    pub(super) fn check_guest(&self, role: &Role, request: &Request) -> Decision {
        let is_of_members = matches!(
            request,
            Request::Time { .. } | Request::PromiseHead { .. } | Request::Promised
        );
        match role {
            Role::Node(node) if is_of_members && self.is_guest(*node) => {
                Err(not_allowed("only the vaults whose rosters list both nodes are their business"))
            }
            _ => Ok(()),
        }
    }

    /// The partners whose vaults introduce a node.
    fn introducers(
        &self,
        facts: &dyn Facts,
        node: NodeId,
        operator: OperatorId,
    ) -> Result<BTreeSet<OperatorId>, FactsError> {
        let view = View { facts, overlay: &self.overlay };
        let vaults = view.listed_as(node, operator)?;
        Ok(vaults.into_iter().filter_map(|vault| self.partner_of(vault)).collect())
    }

    /// Makes room for a guest: the places are divided among the operators that have vaults here. One whose part is used up by what it
    /// introduced itself waits; where all are taken, who has more than its part, because another came later, gives one back.
    fn make_room_for_guest(
        &mut self,
        facts: &dyn Facts,
        node: NodeId,
        operator: OperatorId,
    ) -> Decision {
        let (mut by_introducer, mut idle) = (BTreeMap::<OperatorId, Vec<NodeId>>::new(), None);
        let mut guests = 0;
        for (&guest, member) in &self.members {
            if self.trust.check(member.site.operator).is_ok() {
                continue;
            }
            guests += 1;
            let introducers = self.introducers(facts, guest, member.site.operator)?;
            if introducers.is_empty() {
                idle = Some(guest);
            }
            for introducer in introducers {
                let list = by_introducer.entry(introducer).or_default();
                // Who was not heard goes first.
                let is_heard = self.members.heard(guest).is_some();
                if is_heard { list.push(guest) } else { list.insert(0, guest) }
            }
        }
        let part = (GUESTS_MAX / self.partnership.count_owners().max(1)).max(1);
        let has_room =
            |introducer: &OperatorId| by_introducer.get(introducer).is_none_or(|g| g.len() < part);
        if !self.introducers(facts, node, operator)?.iter().any(has_room) {
            let text = format!(
                "{part} nodes of operators that are no partners are known already for who introduces this one"
            );
            return Err(refusal(RefusalCode::Quota, text));
        }
        if guests < GUESTS_MAX {
            return Ok(());
        }
        let most = by_introducer.values().max_by_key(|list| list.len());
        if let Some(guest) = idle.or_else(|| most.and_then(|list| list.first().copied())) {
            self.members.remove(&guest);
            let row = Write::remove(Table::Member, guest.0.to_vec());
            self.persist(vec![row], None, Then::Nothing);
        }
        Ok(())
    }

    /// Whether an operator has as many nodes here as a partner may have.
    pub(super) fn make_room_for_node(
        &mut self,
        facts: &dyn Facts,
        node: NodeId,
        operator: OperatorId,
    ) -> Decision {
        if self.trust.check(operator).is_err() {
            self.make_room_for_guest(facts, node, operator)?;
        }
        let own = self.members.values().filter(|member| member.site.operator == operator);
        if self.partnership.is_other(operator) && own.count() >= PARTNER_NODES_MAX {
            let text = format!("{PARTNER_NODES_MAX} nodes of the operator are known already");
            return Err(refusal(RefusalCode::Quota, text));
        }
        Ok(())
    }

    /// Whether a vault that this operator vouches for may be made known here.
    pub(super) fn check_new_vault(&self, now: Now, operator: OperatorId) -> Decision {
        if !self.partnership.is_other(operator) {
            return Ok(());
        }
        self.partnership.in_force(now, operator)?;
        let vaults = self.partnership.owners.values().filter(|owner| **owner == operator).count();
        if vaults >= PARTNER_VAULTS_MAX {
            let text =
                format!("{PARTNER_VAULTS_MAX} vaults of the operator are known here already");
            return Err(refusal(RefusalCode::Quota, text));
        }
        Ok(())
    }

    /// Whether an operator's word for a vault may take the place of another operator's: when the vault's own device brings it and
    /// nothing is held for it, so that no bytes change the account. The first one may be a lie: a vault has no say in who vouches for it.
    pub(super) fn check_owner(
        &self,
        view: &View<'_>,
        terms: &VaultTerms,
        by_device: bool,
    ) -> Decision {
        let VaultCertificate { vault, operator, .. } = terms.certificate;
        let Some(known) = self.owner_of(view, vault)? else { return Ok(()) };
        let is_empty = self.usage.get(&vault).is_none_or(|usage| usage.shards == 0)
            && !self.receiving.values().any(|receiving| receiving.vault() == vault);
        let needs_none = |operator| !self.partnership.is_other(operator);
        let is_between_own = needs_none(known) && needs_none(operator);
        if known == operator || is_between_own || by_device && is_empty {
            return Ok(());
        }
        Err(not_allowed("another operator vouches for this vault here"))
    }

    /// Whether something new may be written to a vault: to a partner's while something is agreed.
    pub(super) fn check_agreed(&self, now: Now, vault: VaultId) -> Decision {
        let Some(operator) = self.partner_of(vault) else { return Ok(()) };
        self.partnership.in_force(now, operator).map(|_| ())
    }

    fn owner_of(&self, view: &View<'_>, vault: VaultId) -> Result<Option<OperatorId>, FactsError> {
        let known = view.vault(vault)?.and_then(|signed| signed.verify().ok());
        Ok(known.map(|certificate| certificate.operator))
    }

    /// Whether a vault is known here by this operator's word: its devices may read it, whoever is a partner now.
    pub(super) fn is_owner(
        &self,
        view: &View<'_>,
        vault: VaultId,
        operator: OperatorId,
    ) -> Result<bool, FactsError> {
        Ok(self.owner_of(view, vault)? == Some(operator))
    }

    /// The partner whose vault it is; `None` for those that need no agreement.
    pub(super) fn partner_of(&self, vault: VaultId) -> Option<OperatorId> {
        let owner = self.partnership.owners.get(&vault).copied();
        owner.filter(|operator| self.partnership.is_other(*operator))
    }

    /// Bytes of shards that are held for an operator's vaults, those that are arriving among them.
    fn held_for(&self, operator: OperatorId) -> u64 {
        let is_its = |vault| self.partnership.owners.get(&vault) == Some(&operator);
        let held = self.usage.iter().filter(|(vault, _)| is_its(**vault));
        let arriving = self.receiving.values().filter(|receiving| is_its(receiving.vault()));
        held.map(|(_, usage)| usage.bytes).sum::<u64>()
            + arriving.map(super::holder::Receiving::new_bytes).sum::<u64>()
    }

    /// Bytes that are held for a partner at most.
    fn share_of(&self, now: Now, operator: OperatorId) -> Result<u64, Refusal> {
        let (known, _) = self.partnership.in_force(now, operator)?;
        Ok(known.share_of(self.partnership.own, self.node()))
    }

    /// Of so many bytes those that may still come from somebody as far as agreements go. A node brings what it rebuilt of the vaults that list it.
    pub(super) fn left_for(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        role: &Role,
        room: u64,
    ) -> Result<u64, FactsError> {
        let is_other = |owner: &OperatorId| self.partnership.is_other(*owner);
        match *role {
            Role::Device { operator, .. } | Role::Console { operator } => {
                let bound = is_other(&operator).then(|| self.left_of_share(now, operator));
                let of_vault = match *role {
                    Role::Device { vault, .. } => self.left_of_vault(vault),
                    _ => None,
                };
                Ok(bound.into_iter().chain(of_vault).fold(room, u64::min))
            }
            // Where no partner has a vault nothing is bounded.
            Role::Node(_) if !self.partnership.owners.values().any(is_other) => Ok(room),
            Role::Node(node) => {
                let listing = self.listing(facts, node)?.into_iter();
                // However many vaults of one partner list it, what is held for that one is added up once.
                let partners: BTreeSet<_> = listing.map(|vault| self.partner_of(vault)).collect();
                let mut most = None;
                for partner in partners {
                    let left = partner.map(|partner| self.left_of_share(now, partner));
                    let left = left.map_or(room, |left| left.min(room));
                    most = most.max(Some(left));
                    if left == room {
                        break;
                    }
                }
                Ok(most.unwrap_or(room))
            }
        }
    }

    /// Bytes that may still come for a partner's vaults.
    fn left_of_share(&self, now: Now, operator: OperatorId) -> u64 {
        self.share_of(now, operator).unwrap_or(0).saturating_sub(self.held_for(operator))
    }

    /// The vaults whose rosters list a node, or did, as far as that is durable.
    pub(super) fn listing(
        &mut self,
        facts: &dyn Facts,
        node: NodeId,
    ) -> Result<Vec<VaultId>, FactsError> {
        if let Some(known) = self.partnership.listings.get(&node) {
            return Ok(known.clone());
        }
        let vaults = View { facts, overlay: &self.overlay }.listing(node)?;
        let known = &mut self.partnership.listings;
        // Some of those have gone.
        if known.len() > self.members.len() {
            known.clear();
        }
        if vaults.len() <= LISTING_MAX {
            known.insert(node, vaults.clone());
        }
        Ok(vaults)
    }

    /// Whether a shard that is not held yet may come: of a partner's vault as far as the agreement goes.
    pub(super) fn check_share(&self, now: Now, vault: VaultId, lock: &Lock, len: u32) -> Decision {
        let Some(operator) = self.partner_of(vault) else { return Ok(()) };
        let (_, agreement) = self.partnership.in_force(now, operator)?;
        if !is_planted(Bug::AgreedLock) {
            agreement.check_lock(lock).map_err(|error| not_allowed(error.to_string()))?;
        }
        let share = self.share_of(now, operator)?;
        let left = share.saturating_sub(self.held_for(operator));
        if u64::from(len) > left && !is_planted(Bug::Share) {
            let text = format!(
                "{} are left of the {} that the agreement gives on this node, {} needed",
                Size(left),
                Size(share),
                Size(len.into())
            );
            return Err(refusal(RefusalCode::Quota, text));
        }
        Ok(())
    }

    /// The longest lock that is promised to a vault now: none to a partner with which nothing is agreed, whose locks run on as they are, and none to one
    /// that lets its word for the vault be that of a key that ended so long ago: it may be a thief's vault, which the partner pays for.
    pub(super) fn longest_lock(
        &self,
        now: Now,
        view: &View<'_>,
        vault: VaultId,
    ) -> Result<Period, FactsError> {
        let Some(operator) = self.partner_of(vault) else { return Ok(self.config.lock_max) };
        let agreed =
            self.partnership.in_force(now, operator).map(|(_, agreement)| agreement.lock_max);
        let longest = agreed.map_or(Period(0), |lock_max| lock_max.min(self.config.lock_max));
        let said = view.vault(vault)?.and_then(|signed| signed.said().ok().flatten());
        let ended = said.and_then(|said| self.ended_at(&said));
        let is_over = ended.is_some_and(|end| self.latest(now) >= end.after(longest));
        Ok(if is_over { Period(0) } else { longest })
    }
}
