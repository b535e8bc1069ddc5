//! Who is vouched for, who is a member, and how members learn of each other.

use super::facts::Facts;
use super::facts::{self, FactsError, Table, View, Write};
use super::ledger::DEVICES_MAX;
use super::members::order;
use super::parting::ToldNotice;
use super::{CallId, Decision, LaneId, LinkId, Note, Output, Peer, Role, Then, refusal};
use crate::certificate::{
    ADMITTED_VALIDITY_MAX, Authority, ConsolePass, DeviceCertificate, Invitation, JoinRequest,
    NodeCertificate, NodeRecord, Trust, VaultCertificate,
};
use crate::id::{NodeId, OperatorId, PublicKey, StripeId, VaultId};
use crate::label::Site;
use crate::message::{Greeting, NOT_KNOWN, PAGE_LEN, RECORD_NAME_LEN, RefusalCode, Response};
use crate::partner::Rank;
use crate::sign::Signed;
use crate::succession::{Lines, Said};
use crate::tally::Month;
use crate::time::{Mono, Now};
use std::collections::BTreeMap;

/// Most members that a node keeps.
const MEMBERS_MAX: usize = crate::certificate::ROSTER_MAX;
/// Another node that is vouched for.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) signed: Signed<NodeRecord>,
    pub(super) name: RecordName,
    pub(super) record: NodeRecord,
    pub(super) site: Site,
    /// Under which line of its operator's keys it was certified.
    pub(super) said: Said,
    /// By whose invitation it was admitted.
    bearer: Option<PublicKey>,
}

/// What an answer is awaited for.
#[derive(Debug)]
pub(super) enum Pending {
    Welcome(LinkId),
    Members(NodeId),
    Time {
        node: NodeId,
        nonce: [u8; 16],
        asked: Mono,
    },
    Stops(VaultId),
    Exchange {
        node: NodeId,
        number: u64,
        step: super::exchange::Step,
    },
    Promises {
        node: NodeId,
        nonce: [u8; 16],
    },
    /// Whether it heard nodes that are silent here.
    Hearsay {
        node: NodeId,
        of: Vec<NodeId>,
    },
    /// What a node has of stripes that may need repair.
    Inquiry {
        number: u64,
        node: NodeId,
        stripes: Vec<StripeId>,
    },
    /// Whether a holder has what it promised.
    Audit {
        node: NodeId,
        number: u64,
        tries: u32,
    },
    /// What an auditor found.
    Findings {
        node: NodeId,
        after: u64,
    },
    /// Whether it vouches for stripes of a page that this node, which leaves, holds.
    MayLeave {
        node: NodeId,
        page: [u8; 32],
    },
    /// That a node of the own operator takes the list of partners.
    Partners {
        node: NodeId,
        rank: Rank,
    },
    /// That a node takes a notice.
    Notice(ToldNotice),
    /// That a node takes a receipt for what it did.
    Served((NodeId, VaultId, Month), u64),
    /// Something that was said; what is answered does not matter.
    Told,
}

/// What a record is called by who asks for others.
pub(super) type RecordName = [u8; RECORD_NAME_LEN];

pub(super) fn name_of(signed: &Signed<NodeRecord>) -> RecordName {
    *signed.digest().first_chunk().expect("a hash is longer than a name")
}

/// The members stored, as far as they are still vouched for.
pub(super) fn load(
    view: &View<'_>,
    trust: &Trust,
    lines: &Lines,
    now: Now,
) -> Result<BTreeMap<NodeId, Member>, FactsError> {
    let mut members = BTreeMap::new();
    for (_, bytes) in view.facts.scan(Table::Member, &[], None, MEMBERS_MAX)? {
        let signed: Signed<NodeRecord> = facts::decode(Table::Member, &bytes)?;
        if let Ok((record, certificate)) = NodeRecord::verify(&signed, now.wall)
            && (trust.check(certificate.operator).is_ok() || view.is_listed_at_all(record.node)?)
            && let Ok(said) = certificate.said(&record.certificate)
            && lines.check(&said, now.wall).is_ok()
        {
            let (site, bearer) = (certificate.site(), certificate.bearer());
            let name = name_of(&signed);
            let member = Member { signed, name, record, site, said, bearer };
            members.insert(member.record.node, member);
        }
    }
    Ok(members)
}

impl Peer {
    pub(super) fn handle_connected(
        &mut self,
        now: Now,
        link: LinkId,
        key: PublicKey,
        outbound: bool,
    ) {
        let greet_by = now.mono.after(self.config.greeting_timeout);
        self.links.insert(link, key, outbound, greet_by);
        if outbound {
            let greeting = Box::new(Greeting::Node(self.record.clone()));
            let call = self.call(Pending::Welcome(link));
            self.outputs.push_back(Output::Greet { call, link, greeting });
        }
    }

    pub(super) fn handle_dial_failed(&mut self, node: NodeId) {
        self.members.miss(node);
    }

    pub(super) fn handle_greeting(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        link: LinkId,
        lane: LaneId,
        greeting: Greeting,
    ) -> Decision {
        let key = match self.links.get(link) {
            Some(link) if link.role.is_none() => link.key,
            Some(_) => return Err(refusal(RefusalCode::Malformed, "a second greeting")),
            None => return Ok(()),
        };
        match greeting {
            Greeting::Node(signed) => {
                let node = self.accept_member(now, facts, &signed, Some(key))?;
                self.welcome(now, link, lane, Role::Node(node));
                self.forget_told(node);
                self.inquire_at(now, node);
                self.asking.meet(node);
                Ok(())
            }
            Greeting::Device { vault, device } => {
                self.greet_device(now, facts, link, lane, key, &vault, &device)
            }
            Greeting::Console(pass) => {
                let pass = ConsolePass::verify(&pass, key, now.wall)?;
                let own = (pass.node == self.node()).then_some(self.certificate.operator);
                let member = self.operator_of_node(pass.node).filter(|_| !self.is_guest(pass.node));
                let operator = own.or(member).ok_or_else(|| {
                    let text = format!("node {} {NOT_KNOWN}", pass.node);
                    refusal(RefusalCode::NotVouched, text)
                })?;
                self.welcome(now, link, lane, Role::Console { operator });
                Ok(())
            }
            Greeting::Join { invitation, request } => {
                self.admit(now, facts, lane, key, invitation, &request)
            }
            Greeting::Recover { tag } => self.handle_recover(facts, link, lane, key, tag),
        }
    }

    fn welcome(&mut self, now: Now, link: LinkId, lane: LaneId, role: Role) {
        self.links.set_role(link, role);
        self.reply(lane, Response::Welcome { record: self.record.clone(), wall: now.wall });
    }

    #[allow(clippy::too_many_arguments, reason = "all of one greeting")]
    fn greet_device(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        link: LinkId,
        lane: LaneId,
        key: PublicKey,
        vault: &Signed<VaultCertificate>,
        device: &Signed<DeviceCertificate>,
    ) -> Decision {
        let certificate = vault.verify().map_err(crate::certificate::CertificateError::from)?;
        let view = View { facts, overlay: &self.overlay };
        if let Err(foreign) = self.trust.check(certificate.operator)
            && !self.is_owner(&view, certificate.vault, certificate.operator)?
        {
            return Err(foreign.into());
        }
        // The word for a vault that is known here was taken before: it can be read still.
        if !self.is_owner(&view, certificate.vault, certificate.operator)? {
            self.check_signed(now, vault)?;
        }
        let view = View { facts, overlay: &self.overlay };
        let device_certificate = DeviceCertificate::verify(device, now.wall)?;
        if device_certificate.vault != certificate.vault {
            return Err(refusal(RefusalCode::NotVouched, "the device belongs to another vault"));
        }
        if device_certificate.device.key() != key {
            return Err(refusal(RefusalCode::NotVouched, "the certificate is another device's"));
        }
        let (vault_id, device_id) = (certificate.vault, device_certificate.device);
        let operator = certificate.operator;
        let role = Role::Device { vault: vault_id, device: device_id, operator };
        let row = facts::key(&[&vault_id.0, &device_id.0]);
        let known = view.device(vault_id, device_id)?.as_ref() == Some(device);
        if known && !view.is_pending(Table::Device, &row) {
            self.welcome(now, link, lane, role);
            return Ok(());
        }
        // Whoever has the vault's key can certify devices without end. Those known stay known, and it can still be read.
        let kept = facts.scan(Table::Device, &vault_id.0, None, DEVICES_MAX)?.len();
        let pending = view.count_pending(Table::Device, &vault_id.0);
        if kept + pending >= DEVICES_MAX && view.device(vault_id, device_id)?.is_none() {
            self.welcome(now, link, lane, role);
            return Ok(());
        }
        // The device's certificate is kept: what it signs must be verifiable when it is gone.
        let writes = vec![Write::device(vault_id, device_id, device)];
        let response = Box::new(Response::Welcome { record: self.record.clone(), wall: now.wall });
        self.persist(writes, None, Then::Welcome { lane, link, role, response });
        Ok(())
    }

    /// Certifies a node that bears an invitation of this node's operator, once.
    fn admit(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        key: PublicKey,
        signed: Signed<Invitation>,
        asked: &Signed<JoinRequest>,
    ) -> Decision {
        let ticket = |text: String| refusal(RefusalCode::Ticket, text);
        let invitation =
            Invitation::verify(&signed, now.wall).map_err(|e| ticket(e.to_string()))?;
        let request = asked.verify().map_err(|e| ticket(e.to_string()))?;
        self.check_signed(now, &signed).map_err(|refused| ticket(refused.text))?;
        if invitation.operator != self.certificate.operator {
            return Err(ticket("the ticket is another operator's".into()));
        }
        if invitation.admitter != self.node() {
            return Err(ticket("the ticket names another node".into()));
        }
        if request.bearer != invitation.bearer || request.node.key() != key {
            return Err(ticket("the ticket's secret does not vouch for this node".into()));
        }
        let labels = invitation.labels_for(&request.labels).map_err(|e| ticket(e.to_string()))?;
        let view = View { facts, overlay: &self.overlay };
        let redeemed = view.redeemed(invitation.bearer)?;
        if redeemed.is_some_and(|node| node != request.node) {
            return Err(ticket("the ticket was used before: ask for a new one".into()));
        }
        let certificate = NodeCertificate {
            node: request.node,
            operator: invitation.operator,
            labels,
            issued: now.wall,
            expires: now.wall.after(ADMITTED_VALIDITY_MAX),
            authority: Authority::Bearer {
                node: self.node(),
                invitation: signed,
                request: asked.clone(),
            },
        };
        let certificate = Signed::sign(&certificate, &self.key);
        let members = self.known_records(facts, None, &[])?;
        let response = Box::new(Response::Admitted { certificate, members });
        let writes = vec![Write::redeemed(invitation.bearer, request.node)];
        self.persist(writes, None, Then::Reply { lane, response, close: true });
        Ok(())
    }

    /// Takes a node's record when it is vouched for and news, and says whose it is.
    fn accept_member(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        signed: &Signed<NodeRecord>,
        presented_by: Option<PublicKey>,
    ) -> Result<NodeId, crate::message::Refusal> {
        let (record, certificate) = NodeRecord::verify(signed, now.wall)?;
        let (node, operator) = (record.node, certificate.operator);
        if let Err(foreign) = self.trust.check(operator)
            && !self.is_introduced(facts, node, operator)?
        {
            return Err(foreign.into());
        }
        if let Some(key) = presented_by
            && node.key() != key
        {
            return Err(refusal(RefusalCode::NotVouched, "the certificate is another node's"));
        }
        if node == self.node() {
            return Ok(node);
        }
        let said = certificate.said(&record.certificate)?;
        self.check_said(now, &said)?;
        let bearer = certificate.bearer();
        let is_used =
            |(other, member): (&NodeId, &Member)| *other != node && member.bearer == bearer;
        if bearer.is_some() && self.members.iter().any(is_used) {
            let text = "the ticket that admitted it admitted another node";
            return Err(refusal(RefusalCode::NotVouched, text));
        }
        if !self.members.contains_key(&node) {
            self.make_room_for_node(facts, node, operator)?;
        }
        let heard = presented_by.map(|_| now.mono);
        match heard {
            Some(at) if self.trust.check(operator).is_err() => self.liveness.hear_apart(node, at),
            Some(at) => self.liveness.hear(node, at),
            None => self.liveness.watch(node, now.mono),
        }
        let full = self.members.len() >= MEMBERS_MAX;
        match self.members.get(&node) {
            Some(member) if member.record.version >= record.version => {
                if let Some(at) = heard {
                    self.members.hear(node, at);
                }
                return Ok(node);
            }
            None if full => {
                // Who is there in person takes the place of one that nobody has heard since the start, and that is not the operator's own.
                let own = self.certificate.operator;
                let is_open = |node: &NodeId| self.operator_of_node(*node) != Some(own);
                let unheard = self.members.not_heard_since(None).into_iter().find(is_open);
                let unheard = unheard.filter(|_| heard.is_some());
                let Some(unheard) = unheard else {
                    let text = format!("{MEMBERS_MAX} members are known already");
                    return Err(refusal(RefusalCode::Quota, text));
                };
                self.members.remove(&unheard);
                let row = Write::remove(Table::Member, unheard.0.to_vec());
                self.persist(vec![row], None, Then::Nothing);
                return self.accept_member(now, facts, signed, presented_by);
            }
            known => {
                let is_elsewhere =
                    known.as_ref().is_some_and(|member| member.site != certificate.site());
                self.repair.is_relabelled |= is_elsewhere;
                self.outputs.push_back(Output::Note(Note::Joined(certificate.site())));
                let (site, signed, name) = (certificate.site(), signed.clone(), name_of(signed));
                let member = Member { signed, name, record, site, said, bearer };
                self.members.insert(node, member);
                if let Some(at) = heard {
                    self.members.hear(node, at);
                }
            }
        }
        self.notice_contradictions(&[node]);
        self.persist(vec![Write::member(node, signed)], None, Then::Nothing);
        Ok(node)
    }

    pub(super) fn handle_members(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        records: Vec<Signed<NodeRecord>>,
    ) -> Decision {
        let named = match role {
            Role::Node(_) => records,
            // A vault's device tells its holders where the others are, and names nobody else.
            Role::Device { vault, .. } => {
                let view = View { facts, overlay: &self.overlay };
                let mut listed = Vec::new();
                for signed in records.into_iter().take(MEMBERS_MAX) {
                    if let Ok((record, _)) = signed.split()
                        && view.is_listed(record.node, *vault)?
                    {
                        listed.push(signed);
                    }
                }
                listed
            }
            Role::Console { .. } => Vec::new(),
        };
        self.learn(now, facts, &named);
        let known = self.known_records(facts, Some(role), &[])?;
        self.reply(lane, Response::Members(known));
        Ok(())
    }

    pub(super) fn handle_lacking(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        known: &[u8],
    ) -> Decision {
        if !matches!(role, Role::Node(_)) {
            return Err(refusal(RefusalCode::NotAllowed, "only nodes are told what they lack"));
        }
        let (names, rest) = known.as_chunks::<RECORD_NAME_LEN>();
        if !rest.is_empty() || names.len() > 2 * MEMBERS_MAX {
            return Err(refusal(RefusalCode::Malformed, "no names of records"));
        }
        let mut but: Vec<u64> = names.iter().copied().map(order).collect();
        if self.are_all(self.operator_of(role), &but) {
            self.reply(lane, Response::Members(Vec::new()));
            return Ok(());
        }
        but.sort_unstable();
        let lacking = self.known_records(facts, Some(role), &but)?;
        self.reply(lane, Response::Members(lacking));
        Ok(())
    }

    /// Whether these are the names of all records of which somebody is told, as mostly they are. Whoever makes up names that come to the same sum is told
    /// of nobody.
    fn are_all(&self, asker: Option<OperatorId>, names: &[u64]) -> bool {
        let (count, sum) = self.members.sum_of(self.told_of(asker));
        let all = sum.wrapping_add(order(self.record_name));
        names.len() == count + 1
            && names.iter().fold(0, |sum: u64, name| sum.wrapping_add(*name)) == all
    }

    /// Takes the records that are vouched for; the others are nobody's fault and are left out.
    fn learn(&mut self, now: Now, facts: &dyn Facts, records: &[Signed<NodeRecord>]) {
        for signed in records.iter().take(MEMBERS_MAX) {
            let _ = self.accept_member(now, facts, signed, None);
        }
    }

    /// As many as fit into a message, this node and those heard last before others: whoever has an operator's key can make up
    /// as many as there is room for, and long ones. Without those whose names these are, in [`order`].
    fn known_records(
        &self,
        facts: &dyn Facts,
        role: Option<&Role>,
        but: &[u64],
    ) -> Result<Vec<Signed<NodeRecord>>, FactsError> {
        let view = View { facts, overlay: &self.overlay };
        let asker = role.map_or(Some(self.certificate.operator), |role| self.operator_of(role));
        let is_named = |name: &RecordName| but.binary_search(&order(*name)).is_ok();
        let is_told_of = self.told_of(asker);
        let told = self.members.of(&is_told_of).filter_map(|node| self.members.get(node));
        let mut others: Vec<&Member> = told.filter(|member| !is_named(&member.name)).collect();
        if let Some(Role::Device { vault, .. }) = role {
            // A vault's device is told of all who may hold its shards.
            for node in self.members.of(|operator| !is_told_of(operator)) {
                let listed =
                    if view.is_listed(*node, *vault)? { self.members.get(node) } else { None };
                others.extend(listed.filter(|member| !is_named(&member.name)));
            }
        }
        others.sort_by_key(|member| std::cmp::Reverse(self.members.heard(member.record.node)));
        let mut len = 0;
        let fits = |signed: &&Signed<NodeRecord>| {
            len += signed.to_bytes().len();
            len <= PAGE_LEN
        };
        let others = others.into_iter().map(|member| &member.signed);
        let own = Some(&self.record).filter(|_| !is_named(&self.record_name));
        Ok(own.into_iter().chain(others).take_while(fits).cloned().collect())
    }

    /// The newest link to a node.
    pub(super) fn link_to(&self, node: NodeId) -> Option<LinkId> {
        self.links.newest(node)
    }

    /// A node asked or answered.
    pub(super) fn hear_member(&mut self, now: Now, node: NodeId) {
        if self.members.hear(node, now.mono) {
            self.hear(now, node);
        }
    }

    pub(super) fn call(&mut self, pending: Pending) -> CallId {
        let call = CallId(self.next_token);
        self.next_token += 1;
        self.calls.insert(call, pending);
        call
    }

    pub(super) fn handle_answer(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        call: CallId,
        response: Option<Response>,
    ) {
        match (self.calls.remove(&call), response) {
            (Some(Pending::Welcome(link)), Some(Response::Welcome { record, .. })) => {
                let Some(key) = self.links.get(link).map(|link| link.key) else { return };
                match self.accept_member(now, facts, &record, Some(key)) {
                    Ok(node) => {
                        self.links.set_role(link, Role::Node(node));
                        self.exchange_with(now, facts, node, link);
                        self.inquire_at(now, node);
                        self.asking.meet(node);
                    }
                    Err(refusal) => {
                        self.count_refusal(key, &refusal);
                        self.outputs.push_back(Output::Close { link });
                    }
                }
            }
            (Some(Pending::Welcome(link)), _) => self.outputs.push_back(Output::Close { link }),
            (Some(Pending::Members(node)), Some(Response::Members(records))) => {
                self.hear_member(now, node);
                self.learn(now, facts, &records);
            }
            (Some(Pending::Hearsay { node, of }), Some(Response::Hearsay(said))) => {
                self.hear_member(now, node);
                self.handle_hearsay_answer(now, node, of, &said);
            }
            (Some(Pending::Inquiry { number, node, stripes }), response) => {
                self.handle_inquiry_answer(now, facts, (number, node), stripes, response);
            }
            (Some(Pending::Audit { node, number, tries }), response) => {
                self.handle_audit_answer(now, facts, (node, number, tries), response);
            }
            (Some(Pending::Findings { node, after }), response) => {
                self.handle_findings_answer(now, facts, (node, after), response);
            }
            (Some(Pending::MayLeave { node, page }), response) => {
                self.handle_word(now, node, page, response);
            }
            (Some(Pending::Time { node, nonce, asked }), Some(Response::Time(signed))) => {
                self.handle_time_answer(now, node, (asked, &nonce), &signed);
            }
            (Some(Pending::Exchange { node, number, step }), response) => {
                self.handle_exchange_answer(now, facts, (node, number), step, response);
            }
            (Some(Pending::Promises { node, nonce }), response) => {
                let said = match response {
                    Some(Response::PromiseHead(said)) => Some(said),
                    _ => None,
                };
                self.handle_promise_answer(now, facts, node, nonce, said);
            }
            (Some(Pending::Partners { node, rank }), Some(Response::Done)) => {
                self.handle_told_partners(node, rank);
            }
            (Some(Pending::Notice(told)), Some(Response::Done)) => self.handle_told_notice(told),
            (Some(Pending::Served(service, number)), response) => {
                self.handle_given(now, service, number, response);
            }
            (Some(Pending::Stops(vault)), Some(Response::Stops(stops))) => {
                self.handle_stops_answer(now, facts, vault, stops);
            }
            _ => {}
        }
    }
}
