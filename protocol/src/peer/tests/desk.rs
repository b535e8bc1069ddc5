//! The driver of the stories: one peer, its facts, and a clerk who makes things durable when told to.

use super::cast::{self, EPOCH, NODE, OPERATOR};
use crate::certificate::{NodeCertificate, Trust};
use crate::codec;
use crate::id::{NodeId, PublicKey, ShardId, VaultId};
use crate::life::Life;
use crate::message::{Greeting, HeldRecord, LoggedEntry, Refusal, RefusalCode, Request, Response};
use crate::partner::PartnerList;
use crate::peer::{
    CallId, Facts, Held, HoldRow, Input, JobId, LaneId, LinkId, MemoryFacts, Note, Output, Peer,
    PeerConfig, Pieces, ServedRow, Source, Table, Target, Usage, Write,
};
use crate::record::{Receipt, Record};
use crate::sign::Signed;
use crate::tally::{Countersigned, Month, Months};
use crate::time::{Mono, Now, Period};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What was asked on a lane.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Greeting(Box<Greeting>),
    Request(Box<Request>),
}

/// A repair, as the driver is told to do it.
pub(super) type Ordered = (JobId, Signed<Record>, Vec<Source>, Vec<Target>);

#[derive(Debug)]
struct Pending {
    token: u64,
    writes: Vec<Write>,
    shard: Option<ShardId>,
    /// It is in the facts already, and the peer does not know.
    is_there: bool,
}

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) peer: Peer,
    pub(super) facts: MemoryFacts,
    pub(super) now: Now,
    undurable: VecDeque<Pending>,
    /// Lanes whose raw bytes the peer wants, and what they should be.
    pub(super) arriving: BTreeMap<LaneId, ShardId>,
    /// Shards that the disk lost, unknown to the peer.
    pub(super) lost: BTreeSet<ShardId>,
    /// What is to be proved, in the order asked.
    pub(super) proving: VecDeque<(LaneId, Vec<Option<Pieces>>)>,
    /// Shards that are to be read.
    pub(super) scrubbing: VecDeque<ShardId>,
    replies: BTreeMap<LaneId, (Response, bool)>,
    asked: BTreeMap<LaneId, Asked>,
    pub(super) discarded: u64,
    /// How long bytes were to wait, in the order in which they were let come and go.
    pub(super) waits: Vec<Period>,
    pub(super) transmitted: Vec<(ShardId, u32, u32)>,
    pub(super) closed: Vec<LinkId>,
    pub(super) dialed: Vec<NodeId>,
    pub(super) greeted: Vec<(CallId, LinkId, Greeting)>,
    pub(super) called: Vec<(CallId, LinkId, Request)>,
    pub(super) notes: Vec<Note>,
    /// What is to be rebuilt, in the order asked.
    pub(super) rebuilding: VecDeque<Ordered>,
    /// What is to be mended, in the order asked.
    pub(super) mending: VecDeque<(JobId, Signed<Record>, Vec<Source>, u16)>,
    /// Shards whose files are to be removed.
    pub(super) leaving: VecDeque<ShardId>,
    /// Shards whose files were removed.
    pub(super) gone: Vec<ShardId>,
    next: u64,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self::with(PeerConfig::default())
    }

    pub(super) fn with(config: PeerConfig) -> Self {
        Self::of(NODE, MemoryFacts::default(), config, cast::at(Period(0)))
    }

    pub(super) fn of(node: u8, facts: MemoryFacts, config: PeerConfig, now: Now) -> Self {
        Self::trusting(&[OPERATOR], node, facts, config, now)
    }

    /// A node that believes several operators.
    pub(super) fn trusting(
        operators: &[u8],
        node: u8,
        facts: MemoryFacts,
        config: PeerConfig,
        now: Now,
    ) -> Self {
        let trust = Trust::new(operators.iter().map(|&name| cast::public(name).into()));
        Self::certified(&cast::node_certificate(OPERATOR, node), trust, (facts, config), now)
    }

    /// A node with this certificate.
    pub(super) fn certified(
        certificate: &Signed<NodeCertificate>,
        trust: Trust,
        (facts, config): (MemoryFacts, PeerConfig),
        now: Now,
    ) -> Self {
        let node = certificate.verify().unwrap().node.key();
        let node = (0..=255u8).find(|&name| cast::public(name) == node).unwrap();
        let addresses = vec![format!("/memory/{node}")];
        let peer =
            Peer::new(cast::secret(node), certificate, trust, addresses, config, now, &facts)
                .unwrap();
        let mut desk = Self {
            peer,
            facts,
            now,
            undurable: VecDeque::new(),
            arriving: BTreeMap::new(),
            proving: VecDeque::new(),
            lost: BTreeSet::new(),
            scrubbing: VecDeque::new(),
            replies: BTreeMap::new(),
            asked: BTreeMap::new(),
            discarded: 0,
            waits: Vec::new(),
            transmitted: Vec::new(),
            closed: Vec::new(),
            dialed: Vec::new(),
            greeted: Vec::new(),
            called: Vec::new(),
            notes: Vec::new(),
            rebuilding: VecDeque::new(),
            mending: VecDeque::new(),
            leaving: VecDeque::new(),
            gone: Vec::new(),
            next: 0,
        };
        desk.collect();
        desk.settle();
        desk
    }

    /// A desk at which the vault is introduced, and the link of its device.
    pub(super) fn with_vault(config: PeerConfig) -> (Self, LinkId) {
        let mut desk = Self::with(config);
        let link = desk.device(cast::VAULT, cast::DEVICE);
        let papers = cast::papers(cast::VAULT, 1, &[NODE, cast::NEIGHBOUR, cast::THIRD]);
        assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
        (desk, link)
    }

    /// The same node again, on what was durable.
    pub(super) fn restart(self) -> Self {
        let after = Period(self.now.wall.0 - EPOCH.0);
        Self::of(NODE, self.facts, PeerConfig::default(), cast::at(after))
    }

    /// The same, started with another certificate.
    pub(super) fn restart_as(self, certificate: &Signed<NodeCertificate>) -> Self {
        let now = cast::at(Period(self.now.wall.0 - EPOCH.0));
        let trust = Trust::new([cast::public(OPERATOR).into()]);
        Self::certified(certificate, trust, (self.facts, PeerConfig::default()), now)
    }

    pub(super) fn connect(&mut self, key: PublicKey, outbound: bool) -> LinkId {
        self.next += 1;
        let link = LinkId(self.next);
        self.handle(Input::Connected { link, key, outbound });
        link
    }

    /// A greeting on a connection of its own, everything durable at once.
    pub(super) fn greet(&mut self, key: u8, greeting: Greeting) -> (LinkId, Response) {
        let link = self.connect(cast::public(key), false);
        let lane = self.send_greeting(link, greeting);
        self.settle();
        (link, self.reply(lane).expect("a greeting is answered").0)
    }

    pub(super) fn device(&mut self, vault: u8, device: u8) -> LinkId {
        let (link, response) = self.greet(device, cast::device_greeting(OPERATOR, vault, device));
        assert!(matches!(response, Response::Welcome { .. }), "{response:?}");
        link
    }

    pub(super) fn node(&mut self, node: u8) -> LinkId {
        let (link, response) = self.greet(node, cast::node_greeting(OPERATOR, node));
        assert!(matches!(response, Response::Welcome { .. }), "{response:?}");
        link
    }

    pub(super) fn send_greeting(&mut self, link: LinkId, greeting: Greeting) -> LaneId {
        let lane = self.lane(Asked::Greeting(Box::new(greeting.clone())));
        self.handle(Input::Greeting { link, lane, greeting: Box::new(greeting) });
        lane
    }

    pub(super) fn send(&mut self, link: LinkId, request: Request) -> LaneId {
        let lane = self.lane(Asked::Request(Box::new(request.clone())));
        self.handle(Input::Request { link, lane, request: Box::new(request) });
        lane
    }

    /// A request whose answer is there once everything is durable.
    pub(super) fn ask(&mut self, link: LinkId, request: Request) -> Response {
        let lane = self.send(link, request);
        self.settle();
        self.reply(lane).expect("a request is answered").0
    }

    pub(super) fn send_put(&mut self, link: LinkId, record: &Record, index: u16) -> LaneId {
        let device = (0..=255u8).find(|&name| cast::public(name) == record.device.key()).unwrap();
        let record = Signed::sign(record, &cast::secret(device));
        self.send(link, Request::Put { record, index, len: cast::SHARD_LEN })
    }

    /// A put with its bytes, durable at once.
    pub(super) fn put(
        &mut self,
        link: LinkId,
        record: &Record,
        index: u16,
        bytes: &[u8],
    ) -> Response {
        let lane = self.send_put(link, record, index);
        self.arrive(lane, bytes);
        self.settle();
        self.reply(lane).expect("a put is answered").0
    }

    /// The raw bytes behind a put, if the peer asked for them.
    pub(super) fn arrive(&mut self, lane: LaneId, bytes: &[u8]) {
        if self.arriving.remove(&lane).is_some() {
            self.handle(Input::Received { lane, shard: cast::shard_id(bytes) });
        }
    }

    pub(super) fn fail_arrival(&mut self, lane: LaneId) {
        if self.arriving.remove(&lane).is_some() {
            self.handle(Input::ReceiveFailed { lane, refusal: storage_refusal() });
        }
    }

    /// The answer on a lane, and whether the connection ends with it.
    /// Proves what was asked for first, of the bytes that are there.
    pub(super) fn prove_one(&mut self, bytes: impl Fn(ShardId) -> Option<Vec<u8>>) -> bool {
        let Some((lane, pieces)) = self.proving.pop_front() else { return false };
        let prove = |pieces: Option<Pieces>| {
            let Pieces { shard, groups, .. } = pieces?;
            assert!(self.held(shard).is_some(), "proves what is not durable");
            let bytes = bytes(shard)?;
            crate::audit::prove_bytes(shard, &groups, &bytes).ok()
        };
        let proofs = pieces.into_iter().map(prove).collect();
        self.handle(Input::Proved { lane, proofs });
        true
    }

    pub(super) fn reply(&mut self, lane: LaneId) -> Option<(Response, bool)> {
        self.replies.remove(&lane)
    }

    pub(super) fn undurable(&self) -> usize {
        self.undurable.len()
    }

    /// Makes everything durable, and removes what is to be removed.
    pub(super) fn settle(&mut self) {
        while self.settle_one() || self.remove_one() {}
    }

    /// Removes the file of the first shard that is to go.
    pub(super) fn remove_one(&mut self) -> bool {
        let Some(shard) = self.leaving.pop_front() else { return false };
        self.gone.push(shard);
        self.handle(Input::Dropped { shard, gone: true });
        true
    }

    /// The file of the first shard that is to go cannot be removed.
    pub(super) fn fail_removal(&mut self) -> bool {
        let Some(shard) = self.leaving.pop_front() else { return false };
        self.handle(Input::Dropped { shard, gone: false });
        true
    }

    /// Makes the oldest thing durable that is not.
    pub(super) fn settle_one(&mut self) -> bool {
        let Some(Pending { token, writes, shard, .. }) = self.undurable.pop_front() else {
            return false;
        };
        self.facts.apply(writes);
        if let Some(shard) = shard {
            self.lost.remove(&shard);
        }
        self.handle(Input::Persisted(token));
        true
    }

    /// Makes the oldest thing durable that is not, and does not say so yet.
    pub(super) fn commit_one(&mut self) {
        if let Some(next) = self.undurable.iter_mut().find(|pending| !pending.is_there) {
            next.is_there = true;
            self.facts.apply(std::mem::take(&mut next.writes));
        }
    }

    /// Whether the peer knows of all that is durable.
    pub(super) fn is_told(&self) -> bool {
        self.undurable.iter().all(|pending| !pending.is_there)
    }

    /// The oldest thing that is not durable will not be.
    pub(super) fn fail_one(&mut self) -> bool {
        if self.undurable.front().is_some_and(|pending| pending.is_there) {
            return self.settle_one();
        }
        let Some(Pending { token, .. }) = self.undurable.pop_front() else { return false };
        self.handle(Input::PersistFailed { token, refusal: storage_refusal() });
        true
    }

    pub(super) fn pass(&mut self, period: Period) {
        self.now = Now { mono: self.now.mono.after(period), wall: self.now.wall.after(period) };
        self.peer.handle_timeout(self.now, &self.facts);
        self.collect();
    }

    pub(super) fn wait_until(&mut self, mono: Mono) {
        self.pass(Period(mono.0 - self.now.mono.0));
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.peer.handle(self.now, &self.facts, input);
        self.peer.members.check();
        self.collect();
    }

    pub(super) fn usage(&self, vault: u8) -> Usage {
        let row = self.facts.get(Table::Usage, &cast::public(vault).0).unwrap();
        row.map_or_else(Usage::default, |bytes| decode(&bytes))
    }

    /// What is written down of a vault's months.
    pub(super) fn months(&self, vault: u8) -> Months {
        let mut months = Months::default();
        let vault = cast::public(vault).0;
        for (row, bytes) in self.facts.scan(Table::Tally, &vault, None, usize::MAX).unwrap() {
            let month = u32::from_be_bytes(row[32..].try_into().unwrap());
            months.insert(Month(month), decode(&bytes));
        }
        months
    }

    pub(super) fn rows(&self, table: Table) -> usize {
        self.facts.scan(table, &[], None, usize::MAX).unwrap().len()
    }

    fn lane(&mut self, asked: Asked) -> LaneId {
        self.next += 1;
        self.asked.insert(LaneId(self.next), asked);
        LaneId(self.next)
    }

    fn collect(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Reply { lane, response, close } => self.answer(lane, *response, close),
                Output::Look { lane, shard, len } => {
                    assert_eq!(len, cast::SHARD_LEN);
                    let whole = !self.lost.contains(&shard);
                    self.peer.handle(self.now, &self.facts, Input::Looked { lane, whole });
                }
                Output::Receive { lane, shard, len, wait } => {
                    self.waits.push(wait);
                    assert_eq!(len, cast::SHARD_LEN);
                    self.arriving.insert(lane, shard);
                }
                Output::Discard { lane, len, response } => {
                    self.discarded += u64::from(len);
                    self.answer(lane, *response, false);
                }
                Output::Transmit { lane, shard, offset, len, wait } => {
                    self.waits.push(wait);
                    assert!(self.held(shard).is_some(), "transmits what is not durable");
                    self.transmitted.push((shard, offset, len));
                    self.answer(lane, Response::Bytes { len }, false);
                }
                Output::Scrub { shard, len } => {
                    assert_eq!(len, cast::SHARD_LEN);
                    self.scrubbing.push_back(shard);
                }
                Output::Prove { lane, pieces } => self.proving.push_back((lane, pieces)),
                Output::Persist { token, writes, shard } => {
                    let shard = shard.map(|(_, shard, _)| shard);
                    self.undurable.push_back(Pending { token, writes, shard, is_there: false });
                }
                Output::Drop { shard, decision } => {
                    let life: Life = decode(
                        &self.facts.get(Table::Life, &shard.0).unwrap().expect("a durable life"),
                    );
                    assert_eq!(life.decided(), Some(decision), "what goes was decided durably");
                    assert!(!self.leaving.contains(&shard), "asked once until it is answered");
                    self.leaving.push_back(shard);
                }
                Output::Rebuild { job, record, sources, targets } => {
                    self.rebuilding.push_back((job, *record, sources, targets));
                }
                Output::Mend { job, record, sources, index } => {
                    self.mending.push_back((job, *record, sources, index));
                }
                Output::Dial { node, .. } => self.dialed.push(node),
                Output::Greet { call, link, greeting } => {
                    self.greeted.push((call, link, *greeting));
                }
                Output::Call { call, link, request } => self.called.push((call, link, *request)),
                Output::Close { link } => self.closed.push(link),
                Output::Note(note) => self.notes.push(note),
            }
        }
    }

    fn answer(&mut self, lane: LaneId, response: Response, close: bool) {
        let asked = self.asked.remove(&lane).expect("one answer to each request");
        self.check_promise(&asked, &response);
        self.replies.insert(lane, (response, close));
    }

    /// Whatever an answer promises is durable when it leaves.
    fn check_promise(&self, asked: &Asked, response: &Response) {
        match (asked, response) {
            (_, Response::Receipt(receipt)) => self.check_receipt(receipt),
            (_, Response::Records(records)) => {
                for record in records.iter().flatten() {
                    self.check_held_record(record);
                }
            }
            (_, Response::Inventory { records, .. }) => {
                for record in records {
                    self.check_held_record(record);
                }
            }
            (_, Response::Appended(ack)) => {
                let said = ack.verify().unwrap();
                let key = [&said.vault.0[..], &said.device.0, &said.seq.to_be_bytes()].concat();
                let logged: LoggedEntry =
                    decode(&self.facts.get(Table::Entry, &key).unwrap().expect("a durable entry"));
                assert_eq!(&logged.ack, ack);
                assert_eq!(crate::log::entry_id(&logged.entry), said.entry);
            }
            (_, Response::Admitted { certificate, .. }) => {
                let node = certificate.verify().unwrap().node;
                let bearer = cast::public(cast::BEARER);
                let row = self.facts.get(Table::Redeemed, &bearer.0).unwrap();
                assert_eq!(decode::<NodeId>(&row.expect("a durable redemption")), node);
            }
            (Asked::Greeting(greeting), Response::Welcome { .. }) => {
                if let Greeting::Device { device, .. } = &**greeting {
                    let said = device.verify().unwrap();
                    let key = [said.vault.0, said.device.0].concat();
                    let is_full = self.rows(Table::Device) >= crate::peer::ledger::DEVICES_MAX;
                    assert!(is_full || self.facts.get(Table::Device, &key).unwrap().is_some());
                }
            }
            (Asked::Request(request), Response::Done) => match &**request {
                Request::Introduce(papers) => {
                    let roster = papers.roster.verify().unwrap();
                    let newest = self
                        .facts
                        .scan(Table::Roster, &roster.vault.0, None, usize::MAX)
                        .unwrap()
                        .pop();
                    let key = [&roster.vault.0[..], &roster.version.to_be_bytes()].concat();
                    assert!(newest.expect("a durable roster").0 >= key);
                }
                Request::Replace(record) => {
                    let record = record.verify().unwrap();
                    let key = [record.stripe.vault.0, record.stripe.id().0].concat();
                    let row = self.facts.get(Table::Record, &key).unwrap();
                    let durable: Signed<Record> = decode(&row.expect("a durable record"));
                    assert!(durable.verify().unwrap().version >= record.version);
                }
                Request::Revoke(order) => {
                    let said = order.verify().unwrap();
                    let key = [said.vault.0, said.device.0].concat();
                    assert!(self.facts.get(Table::Revoked, &key).unwrap().is_some());
                }
                Request::Card(card) => {
                    let card = card.verify().unwrap();
                    for tag in card.tags {
                        let rows = self.facts.scan(
                            Table::Recovery,
                            &[&[1], &tag.0[..]].concat(),
                            None,
                            99,
                        );
                        let vaults =
                            rows.unwrap().into_iter().map(|(_, row)| decode::<VaultId>(&row));
                        assert_eq!(vaults.filter(|vault| *vault == card.vault).count(), 1);
                    }
                }
                Request::Veto { vault, veto } => {
                    let said = veto.verify().unwrap();
                    let key = [vault.0, said.guardian.0, said.release.0].concat();
                    assert!(self.facts.get(Table::Veto, &key).unwrap().is_some());
                }
                Request::Hold(order) => {
                    let said = order.verify().unwrap();
                    let row = self.facts.get(Table::Holds, &said.vault.0).unwrap();
                    let row: HoldRow = decode(&row.expect("a durable hold"));
                    assert!(row.orders.contains_key(&said.guardian));
                }
                Request::TakePartners(list) => {
                    let row = self.facts.get(Table::Partners, &[0]).unwrap();
                    let durable: Signed<PartnerList> = decode(&row.expect("a durable list"));
                    let said = list.verify().unwrap();
                    assert!(durable.verify().unwrap().version >= said.version);
                }
                Request::GiveNotice(signed) => {
                    let said = signed.verify().unwrap();
                    let row = [said.leaver.0, said.other.0].concat();
                    assert!(self.facts.get(Table::Notice, &row).unwrap().is_some());
                }
                Request::Countersign(signed) => {
                    let said = Countersigned::verify(signed).unwrap();
                    let row = [&said.vault.0[..], &said.month.0.to_be_bytes()].concat();
                    let row = self.facts.get(Table::Statement, &row).unwrap();
                    let durable: Signed<Countersigned> = decode(&row.expect("a durable word"));
                    assert!(Countersigned::verify(&durable).unwrap().until >= said.until);
                }
                Request::Served(signed) => {
                    let said = signed.verify().unwrap();
                    let month = said.month.0.to_be_bytes();
                    let row = [&said.vault.0[..], &month, &said.holder.0, &said.by.0].concat();
                    let row = self.facts.get(Table::Served, &row).unwrap();
                    let durable: ServedRow = decode(&row.expect("a durable receipt"));
                    assert!(durable.number >= said.number);
                }
                other => panic!("{other:?} is not answered with Done"),
            },
            _ => {}
        }
    }

    fn check_held_record(&self, held: &HeldRecord) {
        if let Some(receipt) = &held.receipt {
            self.check_receipt(receipt);
        }
    }

    fn check_receipt(&self, receipt: &Signed<Receipt>) {
        let held = self.held(receipt.verify().unwrap().shard).expect("a durable shard");
        assert_eq!(&held.receipt, receipt);
    }

    fn held(&self, shard: ShardId) -> Option<Held> {
        self.facts.get(Table::Held, &shard.0).unwrap().map(|bytes| decode(&bytes))
    }
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> T {
    codec::decode(bytes, codec::VALUE_LEN_MAX).unwrap()
}

fn storage_refusal() -> Refusal {
    Refusal { code: RefusalCode::Internal, text: "the disk failed".into() }
}

/// Why a response refuses; panics when it does not.
pub(super) fn code(response: &Response) -> RefusalCode {
    match response {
        Response::Refused(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}
