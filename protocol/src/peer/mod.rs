//! One node's state machine, without I/O.
//!
//! The driver tells the peer what happened ([`Peer::handle`], [`Peer::handle_timeout`]), then takes
//! what is to be done ([`Peer::poll_output`]) until there is nothing more, and calls again at
//! [`Peer::poll_timeout`]. The contract:
//!
//! - Stored state is read through [`Facts`] and changed only by [`Output::Persist`]. The driver
//!   makes each one durable whole or not at all, in the order given ([`Table::SUMS`] says which rows are added to), and reports
//!   [`Input::Persisted`] or [`Input::PersistFailed`]. A reply that promises something leaves the peer
//!   only after that report, so no driver can acknowledge too early.
//! - Bulk bytes do not pass through here. [`Output::Receive`] tells the driver to take the raw bytes that
//!   follow a `Put` into temporary storage, hashing them; it reports [`Input::Received`] with what it
//!   found, and the peer decides whether they are kept ([`Output::Persist`] names the lane) or not
//!   ([`Output::Discard`]). Before the bytes of a shard that is held already are waved through,
//!   [`Output::Look`] asks whether its file is still whole.
//! - Nothing is removed but by [`Output::Drop`], which carries the decision that only [`crate::life`] makes. It is asked for
//!   once the decision is durable, and until [`Input::Dropped`] answers nothing else is done with that shard.
//! - A *link* is one authenticated connection: the driver vouches that the other side has the secret
//!   half of its key. A *lane* is a stream on which requests arrive one at a time; the driver sends
//!   the next one only after the reply to the last.
//! - Nothing but a greeting is answered on a link before it is vouched for.

mod auditing;
mod audits;
mod budgets;
mod clock;
mod due;
mod effects;
mod exchange;
mod facts;
mod faults;
mod findings;
mod guardians;
mod hearsay;
mod holder;
mod inquiry;
mod leaving;
mod ledger;
mod links;
mod lives;
mod meetings;
mod members;
mod membership;
mod parting;
mod partners;
mod promises;
mod recovery;
mod releases;
mod repair;
mod rounds;
mod scrub;
mod served;
mod showing;
mod standing_in;
mod standpoint;
mod succession;
mod sums;
mod taking;
mod tallies;
#[cfg(test)]
mod tests;
mod usages;
mod vouching;

pub use effects::{
    CallId, Input, JobId, LaneId, LinkId, Note, Output, Pieces, Rebuilt, Source, Target,
};
pub use facts::{
    Facts, FactsError, FindingRow, Held, HoldRow, MemoryFacts, ReleaseRow, Rows, Table, Usage,
    Write, held_key, is_first_record, rows_of, sums_of, thawed,
};
pub use faults::DeniedRow;
pub use promises::{PromiseRow, SetBack, WitnessedRow, thawed_promises};
pub use scrub::ScrubRow;
pub use served::ServedRow;
pub use sums::MiscountRow;

use crate::certificate::{NodeCertificate, NodeRecord, Trust};
use crate::id::{DeviceId, NodeId, OperatorId, PublicKey, ReleaseId, ShardId, VaultId};
use crate::label::Site;
use crate::life::DropDecision;
use crate::liveness::Liveness;
use crate::lock_clock::{BootId, LockClock};
use crate::message::{NodeStatus, Refusal, RefusalCode, Request, Response};
use crate::partner::{PartnerError, PartnerList, Partners};
use crate::planted::{Bug, is_planted};
use crate::record::SHARD_LEN_MAX;
use crate::sign::{SecretKey, Signed};
use crate::time::{Mono, Now, Period};
use facts::{Overlay, View};
use meetings::Meetings;
use std::collections::{BTreeMap, VecDeque};

/// What a peer is set to.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Bytes of shards that this node takes.
    pub quota: u64,
    /// Bytes of shards that one vault has here at most; `None` is as much as the quota has room for.
    pub vault_quota: Option<u64>,
    /// Bytes that go to and come from each partner in a second, in the long run; `None` is as many as come.
    pub partner_per_second: Option<u64>,
    /// The longest lock, and the longest cooldown, that it promises.
    pub lock_max: Period,
    /// Bytes of shards that one vault may add in a day, and after a rest at once; `None` is as much as the quota has room for.
    pub growth_per_day: Option<u64>,
    /// Bytes being received at once, over all streams; beyond it puts are told to come later.
    pub inflight_max: u64,
    /// A connection must be vouched for within this time.
    pub greeting_timeout: Period,
    /// In how long all that is held is read once.
    pub scrub_period: Period,
    /// In how long every shard that others hold of what is held here is asked about once.
    pub audit_period: Period,
    /// How often members are exchanged.
    pub exchange_period: Period,
    /// How long a node may be silent before what it holds is rebuilt elsewhere. All members are asked several times within it.
    pub patience: Period,
    /// Bytes that repairs may move in a second, in the long run.
    pub repair_per_second: u64,
    /// Where to look for members at first.
    pub bootstrap: Vec<(NodeId, Vec<String>)>,
    /// This software's version, as shown to others.
    pub version: String,
    /// The stretch of monotonic time that [`Now::mono`] belongs to.
    pub boot: BootId,
    /// Random: questions to others are drawn from it.
    pub seed: [u8; 32],
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            quota: 100 << 30,
            vault_quota: None,
            partner_per_second: None,
            lock_max: Period::days(400),
            growth_per_day: None,
            inflight_max: 128 << 20,
            greeting_timeout: Period::seconds(10),
            scrub_period: crate::scrub::SCRUB_PERIOD,
            audit_period: crate::audit::AUDIT_PERIOD,
            exchange_period: Period::seconds(30),
            patience: Period::days(1),
            repair_per_second: 16 << 20,
            bootstrap: Vec::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            boot: BootId([0; 16]),
            seed: [0; 32],
        }
    }
}

/// As whom the other side of a link is vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Node(NodeId),
    /// By the word of the operator that vouches for the vault.
    Device {
        vault: VaultId,
        device: DeviceId,
        operator: OperatorId,
    },
    /// Looking, for the operator of a node.
    Console {
        operator: OperatorId,
    },
}

impl Role {
    /// The device of this vault that it is, if it is one.
    fn device_of(&self, vault: VaultId) -> Option<DeviceId> {
        match self {
            Self::Device { vault: own, device, .. } if *own == vault => Some(*device),
            _ => None,
        }
    }
}

/// What to do once something is durable.
#[derive(Debug)]
enum Then {
    Nothing,
    Reply {
        lane: LaneId,
        response: Box<Response>,
        close: bool,
    },
    Discard {
        lane: LaneId,
        len: u32,
        response: Box<Response>,
    },
    Held {
        reply: Option<(LaneId, Box<Response>)>,
        shard: ShardId,
        vault: VaultId,
        len: u64,
    },
    Drop(Vec<(ShardId, DropDecision)>),
    Gone {
        shard: ShardId,
        vault: VaultId,
        len: u64,
        release: ReleaseId,
    },
    /// A vault's sums were wrong, and are right now.
    Corrected {
        vault: VaultId,
        more: Usage,
        less: Usage,
    },
    Welcome {
        lane: LaneId,
        link: LinkId,
        role: Role,
        response: Box<Response>,
    },
    /// A notice counts.
    Notice {
        notice: Box<parting::Kept>,
        lane: LaneId,
    },
    /// The operator's list counts.
    Partners {
        list: Box<(Signed<PartnerList>, Partners)>,
        lane: Option<LaneId>,
    },
    Taken {
        node: NodeId,
        number: u64,
        step: exchange::Step,
    },
}

impl Then {
    /// The vault whose sums change with what is being written, if one's do.
    fn counted(&self) -> Option<VaultId> {
        match self {
            Self::Held { vault, .. } | Self::Gone { vault, .. } | Self::Corrected { vault, .. } => {
                Some(*vault)
            }
            _ => None,
        }
    }
}

/// The state machine of one node. See the module for the contract.
#[derive(Debug)]
pub struct Peer {
    key: SecretKey,
    certificate: NodeCertificate,
    record: Signed<NodeRecord>,
    trust: Trust,
    partnership: partners::Partnership,
    config: PeerConfig,
    members: members::Members,
    links: links::Links,
    receiving: BTreeMap<LaneId, holder::Receiving>,
    auditing: BTreeMap<LaneId, audits::Auditing>,
    audit_secret: [u8; 32],
    calls: BTreeMap<CallId, membership::Pending>,
    usage: usages::Usages,
    tallies: tallies::Tallies,
    services: served::Services,
    budgets: BTreeMap<VaultId, budgets::Budgets>,
    partner_budgets: BTreeMap<OperatorId, budgets::PartnerBudgets>,
    lives: lives::Lives,
    releases: releases::Releases,
    lock_clock: LockClock,
    promises: promises::Promises,
    exchange: exchange::Exchange,
    site: Site,
    liveness: Liveness,
    repair: repair::Repair,
    leaving: leaving::Leaving,
    abandonment: standing_in::Abandonment,
    scrub: scrub::Scrub,
    sums: sums::Sums,
    asking: auditing::Asking,
    findings: findings::Findings,
    /// What others call the own record.
    record_name: membership::RecordName,
    started: Mono,
    store_clock_at: Mono,
    overlay: Overlay,
    pending: BTreeMap<u64, Then>,
    outputs: VecDeque<Output>,
    refused: BTreeMap<RefusalCode, u64>,
    turned_away: Vec<(&'static str, u64)>,
    space: u64,
    doubt: Option<String>,
    next_token: u64,
    meetings: Meetings,
}

/// Why a peer cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its own certificate does not count.
    #[error("this node's certificate: {0}")]
    Certificate(#[from] crate::certificate::CertificateError),
    /// The stored list of partners does not count.
    #[error("this node's partners: {0}")]
    Partners(#[from] PartnerError),
    /// Stored state cannot be read.
    #[error(transparent)]
    Facts(#[from] FactsError),
}

type Decision = Result<(), Refusal>;

fn refusal(code: RefusalCode, text: impl Into<String>) -> Refusal {
    Refusal { code, text: text.into() }
}

impl From<FactsError> for Refusal {
    fn from(error: FactsError) -> Self {
        refusal(RefusalCode::Internal, error.to_string())
    }
}

impl From<crate::certificate::CertificateError> for Refusal {
    fn from(error: crate::certificate::CertificateError) -> Self {
        refusal(RefusalCode::NotVouched, error.to_string())
    }
}

impl Peer {
    /// The peer with this key, as its certificate and stored state say. `addresses` is where others
    /// reach it; `trust` whom it believes besides its own operator.
    pub fn new(
        key: SecretKey,
        certificate: &Signed<NodeCertificate>,
        trust: Trust,
        addresses: Vec<String>,
        mut config: PeerConfig,
        now: Now,
        facts: &dyn Facts,
    ) -> Result<Self, StartError> {
        config.exchange_period = repair::exchange_period(&config);
        let verified = NodeCertificate::verify(certificate, now.wall)?;
        trust.check(verified.operator)?;
        let line = verified.line(certificate)?;
        let partnership = partners::Partnership::load(line, trust, facts)?;
        let trust = partnership.trust();
        // A later start has a later version, whatever the clock did: the one stored plus one at least.
        let view = View { facts, overlay: &Overlay::default() };
        let members = membership::load(&view, &trust, partnership.speakers.lines(), now)?;
        let node = NodeId::from(key.public());
        let stored = members.get(&node).map_or(0, |member| member.record.version);
        let record = NodeRecord {
            node,
            certificate: certificate.clone(),
            addresses,
            version: now.wall.0.max(stored.saturating_add(1)),
        };
        let signed = Signed::sign(&record, &key);
        NodeRecord::verify(&signed, now.wall)?;
        let mut usage = usages::Usages::default();
        for (key, bytes) in facts.scan(Table::Usage, &[], None, usize::MAX)? {
            if let Ok(vault) = key.try_into() {
                let held = facts::decode(Table::Usage, &bytes)?;
                usage.change(VaultId(vault), held, Usage::default());
            }
        }
        let tallies = tallies::Tallies::load(facts)?;
        let missing = tallies.missing(&usage, now.wall);
        let services = served::Services::load(facts, key.public(), now.wall)?;
        let operator = verified.operator;
        let lock_clock = match view.lock_clock()? {
            Some(stored) => LockClock::resume(&stored, operator, config.boot, now.mono)
                .map_err(|source| FactsError::Damaged { table: Table::LockClock, source })?,
            None => LockClock::new(operator, config.boot, now.mono),
        };
        let audit_secret = blake3::derive_key("strewn 2026-11 audit nonces v1", &config.seed);
        let boot = config.boot;
        let mut liveness = Liveness::new(config.patience, operator, now.mono);
        members.keys().filter(|&&known| known != node).for_each(|&n| liveness.watch(n, now.mono));
        let mut repair = repair::Repair::new(&config, now.mono);
        repair.taken = faults::Taken::load(facts, lock_clock.reading().at, now.mono)?;
        let asking = auditing::Asking::load(now, config.audit_period, facts)?;
        let mut peer = Self {
            key,
            record_name: membership::name_of(&signed),
            record: signed,
            trust,
            partnership,
            config,
            members: members.into_iter().collect(),
            links: links::Links::default(),
            receiving: BTreeMap::new(),
            auditing: BTreeMap::new(),
            audit_secret,
            calls: BTreeMap::new(),
            usage,
            tallies,
            services,
            budgets: BTreeMap::new(),
            partner_budgets: BTreeMap::new(),
            lives: lives::Lives::begin(now.mono, facts)?,
            releases: releases::load(facts)?,
            lock_clock,
            promises: promises::Promises::load(facts, boot)?,
            exchange: exchange::Exchange::default(),
            site: verified.site(),
            liveness,
            repair,
            leaving: leaving::Leaving::default(),
            abandonment: standing_in::Abandonment::default(),
            certificate: verified,
            scrub: scrub::Scrub::load(now.mono, facts)?,
            sums: sums::Sums::load(facts)?,
            asking,
            findings: findings::Findings::load(now.mono, facts)?,
            started: now.mono,
            store_clock_at: now.mono,
            overlay: Overlay::default(),
            pending: BTreeMap::new(),
            outputs: VecDeque::new(),
            refused: BTreeMap::new(),
            turned_away: Vec::new(),
            space: u64::MAX,
            doubt: None,
            next_token: 0,
            meetings: Meetings::new(now.mono),
        };
        peer.members.remove(&node);
        peer.learn_lines();
        peer.notice_all_contradictions();
        let writes = std::iter::once(Write::member(node, &peer.record)).chain(missing).collect();
        peer.persist(writes, None, Then::Nothing);
        peer.begin_renewal();
        Ok(peer)
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.certificate.node
    }

    /// Its certificate and addresses, as told to others.
    #[must_use]
    pub fn record(&self) -> &Signed<NodeRecord> {
        &self.record
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, facts: &dyn Facts, input: Input) {
        match input {
            Input::Connected { link, key, outbound } => {
                self.handle_connected(now, link, key, outbound);
            }
            Input::Disconnected(link) => {
                self.links.remove(link);
            }
            Input::DialFailed(node) => {
                self.handle_dial_failed(node);
                self.miss(node);
            }
            Input::Greeting { link, lane, greeting } => {
                let decision = self.handle_greeting(now, facts, link, lane, *greeting);
                self.refuse_on_error(link, lane, decision, true);
            }
            Input::Request { link, lane, request } => {
                self.handle_request(now, facts, link, lane, *request);
            }
            Input::Malformed { link, reason } => {
                let key = self.links.get(link).map(|link| link.key);
                if let Some(key) = key {
                    self.count_refusal(key, &refusal(RefusalCode::Malformed, reason));
                }
                self.outputs.push_back(Output::Close { link });
            }
            Input::Looked { lane, whole } => self.handle_looked(now, facts, lane, whole),
            Input::Received { lane, shard } => self.handle_received(now, facts, lane, shard),
            Input::Proved { lane, proofs } => self.handle_proved(now, lane, proofs),
            Input::ReceiveFailed { lane, refusal } => {
                self.auditing.remove(&lane);
                if self.receiving.remove(&lane).is_some() {
                    let response = Box::new(Response::Refused(refusal));
                    self.outputs.push_back(Output::Reply { lane, response, close: false });
                }
            }
            Input::Persisted(token) => self.handle_persisted(now, facts, token),
            Input::PersistFailed { token, refusal } => self.handle_persist_failed(token, refusal),
            Input::Scrubbed { shard, what } => self.handle_scrubbed(now, facts, shard, what),
            Input::Dropped { shard, gone } => self.handle_dropped(now, facts, shard, gone),
            Input::Rebuilt { job, rebuilt } => self.handle_rebuilt(now, facts, job, *rebuilt),
            Input::Answer { call, response } => {
                self.handle_answer(now, facts, call, response.map(|response| *response));
            }
            Input::Space(bytes) => self.space = bytes,
            Input::Doubt(doubt) => self.doubt = doubt,
            Input::Leaving(leaves) => self.handle_leaving(leaves),
            Input::Partners(list) => {
                let is_known = self.partnership.is_known(&list);
                if !is_known && let Err(refusal) = self.handle_partners(now, facts, *list, None) {
                    self.count_refusal(self.certificate.operator.key(), &refusal);
                }
            }
            Input::Certificate(signed) => self.handle_certificate(now, facts, &signed),
            Input::TurnedAway(counts) => self.turned_away = counts,
        }
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Now, facts: &dyn Facts) {
        while let Some((id, link)) = self.links.take_silent(now.mono) {
            if !link.outbound {
                self.count_refusal(
                    link.key,
                    &refusal(RefusalCode::NotVouched, "no greeting in time"),
                );
            }
            self.outputs.push_back(Output::Close { link: id });
        }
        self.handle_meetings(now, facts);
        self.handle_lives(now, facts);
        self.handle_repair(now, facts);
        self.handle_scrub(now, facts);
        self.handle_asking(now, facts);
    }

    /// When to call [`Peer::handle_timeout`] next, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Mono {
        let greetings = self.links.next_greeting();
        let other = self
            .meetings
            .poll_timeout()
            .min(self.lives.poll_timeout())
            .min(self.repair.poll_timeout());
        let other = other.min(self.scrub.poll_timeout()).min(self.asking.poll_timeout());
        greetings.map_or(other, |at| at.min(other))
    }

    /// What to do next, if anything.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn handle_request(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        link: LinkId,
        lane: LaneId,
        request: Request,
    ) {
        let known = self.links.get(link);
        let Some((key, role)) = known.and_then(|link| Some((link.key, link.role.clone()?))) else {
            let key = self.links.get(link).map(|link| link.key);
            if let Some(key) = key {
                self.count_refusal(
                    key,
                    &refusal(RefusalCode::NotVouched, "a request before a greeting"),
                );
            }
            self.outputs.push_back(Output::Close { link });
            return;
        };
        if let Role::Node(node) = role {
            self.hear_member(now, node);
        }
        let checked = self.check_guest(&role, &request);
        if let Err(refusal) = checked.and_then(|()| self.check_speakers(now, facts, &request)) {
            self.refuse_on_error(link, lane, Err(refusal), false);
            return;
        }
        let decision = match request {
            Request::Members(records) => self.handle_members(now, facts, lane, &role, records),
            Request::Lacking { known } => self.handle_lacking(facts, lane, &role, known.as_ref()),
            Request::Status => self.handle_status(now, facts, lane, &role),
            Request::Hearsay { of } => self.handle_hearsay(now, facts, lane, &role, &of),
            Request::Partners { known } => self.handle_partners_asked(now, lane, &role, known),
            Request::Statements { month } => self.handle_statements(now, facts, lane, &role, month),
            Request::Countersign(signed) => self.handle_countersigned(facts, lane, &role, &signed),
            Request::Served(receipt) => {
                self.handle_served(now, facts, lane, (&role, key), &receipt)
            }
            Request::Services { vault, month, after } => {
                self.handle_services(facts, lane, &role, (vault, month), after)
            }
            Request::GiveNotice(notice) => self.handle_notice(now, facts, lane, &role, *notice),
            Request::Standings => self.handle_standings(now, facts, lane, &role),
            Request::TakePartners(list) => {
                self.handle_take_partners(now, facts, lane, &role, *list)
            }
            Request::Introduce(papers) => self.handle_introduce(now, facts, lane, &role, &papers),
            Request::Vault(vault) => self.handle_vault(facts, lane, &role, vault),
            Request::Revoke(order) => self.handle_revoke(facts, lane, &role, &order),
            Request::Append(entry) => self.handle_append(now, facts, lane, &role, entry),
            Request::Log { vault, after } => self.handle_log(facts, lane, &role, vault, after),
            Request::Put { record, index, len } => {
                if len > SHARD_LEN_MAX {
                    // No holder ever asked for so many: they are not even read.
                    let decision =
                        Err(refusal(RefusalCode::Malformed, format!("a shard of {len} bytes")));
                    self.refuse_on_error(link, lane, decision, true);
                    return;
                }
                // The bytes follow whatever is decided, so a refusal reads and forgets them.
                let decision = self.handle_put(now, facts, lane, &role, record, index, len);
                if let Err(refusal) = decision {
                    self.count_link_refusal(link, &refusal);
                    let response = Box::new(Response::Refused(refusal));
                    self.outputs.push_back(Output::Discard { lane, len, response });
                }
                return;
            }
            Request::PromiseHead { nonce, known, witness } => {
                self.handle_promise_head(lane, &role, nonce, known.as_ref(), witness.as_ref())
            }
            Request::Vaults => self.handle_vaults(facts, lane, &role),
            Request::Holdings(vault) => self.handle_holdings(facts, lane, &role, vault),
            Request::Namings(vault) => self.handle_namings(facts, lane, &role, vault),
            Request::Logs(vault) => self.handle_logs(facts, lane, &role, vault),
            Request::Entries { vault, device, from } => {
                self.handle_entries(facts, lane, &role, (vault, device, from))
            }
            Request::Forks { vault, device } => {
                self.handle_forks(facts, lane, &role, (vault, device))
            }
            Request::Promised => self.handle_promised(facts, lane, &role),
            Request::Time { nonce } => self.handle_time(now, lane, &role, nonce),
            Request::Card(card) => self.handle_card(now, facts, lane, &role, &card),
            Request::Replace(record) => self.handle_replace(now, facts, lane, &role, record),
            Request::Get { shard, offset, len } => {
                self.handle_get(now, facts, lane, &role, shard, offset, len)
            }
            Request::Records { vault, stripes } => {
                self.handle_records(facts, lane, &role, vault, &stripes)
            }
            Request::Inventory { vault, after } => {
                self.handle_inventory(facts, lane, &role, vault, after)
            }
            Request::Extend { vault, stripes } => {
                self.handle_extend(now, facts, lane, &role, vault, &stripes)
            }
            Request::Release { request, approvals, from } => {
                self.handle_release(now, facts, lane, &role, request, approvals, from)
            }
            Request::Discharge { discharge, approvals, from } => {
                self.handle_release(now, facts, lane, &role, discharge, approvals, from)
            }
            Request::Veto { vault, veto } => self.handle_veto(now, facts, lane, &role, vault, veto),
            Request::Hold(order) => self.handle_hold(now, facts, lane, &role, order),
            Request::Releases(vault) => self.handle_releases(now, facts, lane, &role, vault),
            Request::Stops { vault, releases } => {
                self.handle_stops(now, facts, lane, &role, vault, &releases)
            }
            Request::AuditOpen(opening) => {
                self.handle_audit_open(now, facts, lane, &role, key, &opening)
            }
            Request::Evidence { vault, after } => {
                self.handle_evidence(facts, lane, &role, vault, after)
            }
            Request::Findings { after } => self.handle_findings(facts, lane, &role, after),
            Request::MayLeave(page) => self.handle_may_leave(now, facts, lane, &role, &page),
            Request::LeavePaper { part } => self.handle_leave_paper(now, lane, &role, part),
            Request::Audit(question) => self.handle_audit(now, facts, lane, &role, key, &question),
        };
        self.refuse_on_error(link, lane, decision, false);
    }

    fn handle_status(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
    ) -> Decision {
        // Nobody is told of nodes that are none of its business, whatever is said of them.
        let mut repair = self.repair_status(now.mono);
        repair.lost.retain(|node| self.is_shown(facts, role, *node));
        let mut audit = self.audit_status();
        audit.failing.retain(|(node, _)| self.is_shown(facts, role, *node));
        let room = self.room_for(now, facts, role)?;
        let mut leaving = self.leave_status();
        if let Some(leaving) = &mut leaving {
            leaving.signers.retain(|signer| self.is_shown(facts, role, signer.node));
        }
        let refused = self.refused.iter().map(|(code, &count)| (code.as_str(), count));
        let turned_away = self.turned_away.iter().copied();
        let status = NodeStatus {
            record: self.record.clone(),
            version: self.config.version.clone(),
            used: self.used(),
            shards: self.usage.total().shards,
            room,
            quota: self.config.quota,
            doubt: self.doubt.clone().or_else(|| self.promises.alarm()),
            lock_clock: self.lock_clock.standing(),
            members: self.member_status(now, role),
            refused: refused
                .chain(turned_away)
                .filter(|&(_, count)| count > 0)
                .map(|(reason, count)| (reason.to_owned(), count))
                .collect(),
            repair,
            scrub: self.scrub_status(),
            audit,
            leaving,
        };
        self.reply(lane, Response::Status(Box::new(status)));
        Ok(())
    }

    fn reply(&mut self, lane: LaneId, response: Response) {
        self.outputs.push_back(Output::Reply { lane, response: Box::new(response), close: false });
    }

    fn refuse_on_error(&mut self, link: LinkId, lane: LaneId, decision: Decision, close: bool) {
        if let Err(refusal) = decision {
            self.count_link_refusal(link, &refusal);
            let response = Box::new(Response::Refused(refusal));
            self.outputs.push_back(Output::Reply { lane, response, close });
        }
    }

    fn count_link_refusal(&mut self, link: LinkId, refusal: &Refusal) {
        if let Some(key) = self.links.get(link).map(|link| link.key) {
            self.count_refusal(key, refusal);
        }
    }

    fn count_refusal(&mut self, key: PublicKey, refusal: &Refusal) {
        *self.refused.entry(refusal.code).or_default() += 1;
        self.outputs.push_back(Output::Note(Note::Refused { key, refusal: refusal.clone() }));
    }

    fn persist(
        &mut self,
        mut writes: Vec<Write>,
        shard: Option<(LaneId, ShardId, Vec<u8>)>,
        then: Then,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        self.promises.link(token, &mut writes);
        self.exchange.touch(token, &writes);
        self.partnership.touch(token, &writes);
        self.tallies.touch(token, &writes);
        self.overlay.add(token, &writes);
        let then = match then {
            Then::Held { reply: Some((lane, response)), shard, vault, len }
                if is_planted(Bug::Durable) =>
            {
                self.outputs.push_back(Output::Reply { lane, response, close: false });
                Then::Held { reply: None, shard, vault, len }
            }
            then => then,
        };
        self.pending.insert(token, then);
        self.outputs.push_back(Output::Persist { token, writes, shard });
    }

    fn handle_persisted(&mut self, now: Now, facts: &dyn Facts, token: u64) {
        let settled = self.overlay.settle(token);
        self.partnership.note_rows(&settled);
        let records = settled.into_iter().filter(|(table, _)| *table == Table::Record);
        self.repair.rounds.note_records(records.map(|(_, key)| key));
        self.promises.settle(token, true);
        self.exchange.settle(token);
        self.partnership.settle(token, true);
        self.tallies.settle(token, true);
        match self.pending.remove(&token) {
            None | Some(Then::Nothing) => {}
            Some(Then::Reply { lane, response, close }) => {
                self.outputs.push_back(Output::Reply { lane, response, close });
            }
            Some(Then::Held { reply, shard, vault, len }) => {
                self.sums.came(shard, vault, len);
                if let Some((lane, response)) = reply {
                    self.outputs.push_back(Output::Reply { lane, response, close: false });
                }
            }
            Some(Then::Discard { lane, len, response }) => {
                self.outputs.push_back(Output::Discard { lane, len, response });
            }
            Some(Then::Notice { notice, lane }) => {
                self.begin_notice(*notice);
                self.reply(lane, Response::Done);
            }
            Some(Then::Partners { list, lane }) => {
                self.begin_partners(now, facts, list.0, list.1);
                if let Some(lane) = lane {
                    self.reply(lane, Response::Done);
                }
            }
            Some(Then::Drop(decided)) => self.begin_drops(decided),
            Some(Then::Taken { node, number, step }) => {
                self.handle_taken(now, facts, (node, number), step);
            }
            Some(Then::Corrected { vault, more, less }) => self.end_correction(vault, more, less),
            Some(Then::Gone { shard, vault, len, release }) => {
                self.sums.went(shard, vault, len);
                self.end_drop(shard, vault, len, release);
            }
            Some(Then::Welcome { lane, link, role, response }) => {
                self.links.set_role(link, role);
                self.outputs.push_back(Output::Reply { lane, response, close: false });
            }
        }
    }

    fn handle_persist_failed(&mut self, token: u64, refusal: Refusal) {
        self.overlay.settle(token);
        self.promises.settle(token, false);
        self.exchange.settle(token);
        self.partnership.settle(token, false);
        self.tallies.settle(token, false);
        let response = Box::new(Response::Refused(refusal));
        match self.pending.remove(&token) {
            None
            | Some(Then::Nothing | Then::Corrected { .. } | Then::Partners { lane: None, .. }) => {}
            Some(Then::Partners { lane: Some(lane), .. } | Then::Notice { lane, .. }) => {
                self.outputs.push_back(Output::Reply { lane, response, close: false });
            }
            Some(Then::Held { reply, vault, len, .. }) => {
                self.usage.change(vault, Usage::default(), Usage::of_one(len));
                if let Some((lane, _)) = reply {
                    self.outputs.push_back(Output::Reply { lane, response, close: false });
                }
            }
            Some(Then::Reply { lane, close, .. }) => {
                self.outputs.push_back(Output::Reply { lane, response, close });
            }
            Some(Then::Discard { lane, len, .. }) => {
                self.outputs.push_back(Output::Discard { lane, len, response });
            }
            Some(Then::Drop(decided)) => self.cancel_drops(&decided),
            Some(Then::Taken { node, .. }) => self.end_talk(node),
            Some(Then::Gone { shard, .. }) => self.await_removal(shard),
            Some(Then::Welcome { lane, .. }) => {
                self.outputs.push_back(Output::Reply { lane, response, close: true });
            }
        }
    }
}
