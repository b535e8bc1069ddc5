//! Stories of holders that ask each other: who is asked, what is believed, and what is made good.

use super::cast::*;
use super::desk::{Desk, decode};
use crate::audit::{AuditAnswer, AuditTurn, Finding, Outcome, Transcript, Verdict, prove_bytes};
use crate::codec::Blob;
use crate::id::{NodeId, StripeId};
use crate::message::{
    AuditStatus, Hearsay, HeldRecord, NodeStatus, Refusal, RefusalCode, Request, Response,
};
use crate::peer::{Facts, Input, LinkId, Note, PeerConfig, Rebuilt, Table};
use crate::record::{Receipt, Record};
use crate::sign::Signed;
use crate::time::Period;
use std::collections::{BTreeMap, BTreeSet};

const FOURTH: u8 = 5;
const FIFTH: u8 = 6;
const DAY: Period = Period::days(1);
const HOUR: Period = Period::seconds(3600);

fn id(name: u8) -> NodeId {
    public(name).into()
}

/// How a holder answers an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It proves what it promised.
    Has,
    /// It says that it has it not.
    Lost,
    /// It signs bytes that are no proof.
    Lies,
    /// It answers everything else.
    Silent,
    /// It is busy each time but the last of so many.
    Busy(u32),
    /// So many times the connection ends under the question.
    HangsUp(u32),
    /// It shows no promise.
    Denies,
    /// It says that it knows nothing of the vault.
    Closed,
}

/// The node on the desk holds shard 0 of stripes; the others answer when it asks.
struct Holders {
    desk: Desk,
    device: LinkId,
    records: Vec<Record>,
    links: BTreeMap<u8, LinkId>,
    operators: BTreeMap<u8, u8>,
    /// Which shard of all stripes each has.
    has: BTreeMap<u8, u16>,
    ways: BTreeMap<u8, Way>,
    /// What each says that it found.
    words: BTreeMap<u8, Vec<Signed<Finding>>>,
    /// Audits that were put, as they came.
    questions: Vec<(u8, Request)>,
}

impl Holders {
    /// Nodes of these operators, each with this shard, if any.
    fn new(stripes: u8, k: u16, others: &[(u8, u8, Option<u16>)]) -> Self {
        let config = PeerConfig { audit_period: DAY, ..PeerConfig::default() };
        let operators = [OPERATOR, FOREIGN_OPERATOR];
        let facts = crate::peer::MemoryFacts::default();
        let mut desk = Desk::trusting(&operators, NODE, facts, config, at(Period(0)));
        let device = desk.device(VAULT, DEVICE);
        let listed: Vec<u8> = std::iter::once(NODE).chain(others.iter().map(|o| o.0)).collect();
        let introduced = Request::Introduce(papers(VAULT, 1, &listed));
        assert_eq!(desk.ask(device, introduced), Response::Done);
        let mut has: BTreeMap<u8, u16> =
            others.iter().filter_map(|&(name, _, index)| Some((name, index?))).collect();
        let named: BTreeMap<u16, u8> = has.iter().map(|(name, index)| (*index, *name)).collect();
        let mut records = Vec::new();
        for stripe in 1..=stripes {
            let mut record = record(VAULT, DEVICE, stripe);
            record.stripe.k = k;
            record.stripe.n = named.len() as u16 + 1;
            record.stripe.shards =
                (0..record.stripe.n).map(|i| shard_id(&shard_bytes(stripe, i))).collect();
            record.holders = std::iter::once(NODE).chain(named.values().copied()).map(id).collect();
            let put = desk.put(device, &record, 0, &shard_bytes(stripe, 0));
            assert!(matches!(put, Response::Receipt(_)), "{put:?}");
            records.push(record);
        }
        let mut links = BTreeMap::new();
        for &(name, operator, _) in others {
            links.insert(name, desk.greet(name, node_greeting(operator, name)).0);
        }
        has.remove(&NODE);
        let (ways, words) = (BTreeMap::new(), BTreeMap::new());
        let operators = others.iter().map(|&(name, operator, _)| (name, operator)).collect();
        Self { desk, device, records, links, operators, has, ways, words, questions: Vec::new() }
    }

    /// Three holders of one operator, of whose shards one suffices, and two nodes that have none.
    fn three_and_two_spare() -> Self {
        let holders = [(NEIGHBOUR, OPERATOR, Some(1)), (THIRD, OPERATOR, Some(2))];
        let spare = [(FOURTH, OPERATOR, None), (FIFTH, OPERATOR, None)];
        Self::new(1, 1, &[holders, spare].concat())
    }

    fn way(&self, name: u8) -> Way {
        self.ways.get(&name).copied().unwrap_or(Way::Has)
    }

    fn status(&mut self) -> NodeStatus {
        let Response::Status(status) = self.desk.ask(self.device, Request::Status) else {
            panic!()
        };
        *status
    }

    fn audit(&mut self) -> AuditStatus {
        self.status().audit
    }

    fn record_of(&self, stripe: StripeId) -> (u8, Record) {
        let mut all = (1u8..).zip(&self.records);
        let (name, record) = all.find(|(_, record)| record.stripe.id() == stripe).unwrap();
        (name, record.clone())
    }

    fn records(&self, name: u8, asked: &[StripeId]) -> Response {
        let found = asked.iter().map(|&stripe| {
            let (_, record) = self.record_of(stripe);
            let index = *self.has.get(&name)?;
            let receipt = Receipt { holder: id(name), ..Receipt::as_asked(&record, index) };
            let receipt = Signed::sign(&receipt, &secret(name));
            let receipt = Some(receipt).filter(|_| self.way(name) != Way::Denies);
            Some(HeldRecord { record: Signed::sign(&record, &secret(DEVICE)), receipt })
        });
        Response::Records(found.collect())
    }

    /// What a holder answers to the question.
    fn prove(&mut self, name: u8, question: &crate::audit::AuditQuestion) -> Option<Response> {
        let way = self.way(name);
        if let Way::Busy(left) = way {
            let next = if left > 0 { Way::Busy(left - 1) } else { Way::Has };
            self.ways.insert(name, next);
            return Some(Response::Busy { retry_after: Period(200) });
        }
        let asked = question.verify().unwrap();
        asked.check_for(id(name), public(NODE), self.desk.now.wall).unwrap();
        let prove = |shard: &crate::id::ShardId| match way {
            Way::Has => {
                let bytes = (1..9u8)
                    .flat_map(|s| (0..9).map(move |i| shard_bytes(s, i)))
                    .find(|bytes| shard_id(bytes) == *shard)
                    .unwrap();
                Some(prove_bytes(*shard, &asked.groups(*shard, SHARD_LEN), &bytes).unwrap())
            }
            Way::Lies => Some(vec![7; SHARD_LEN as usize]),
            _ => None,
        };
        let proofs: Vec<Option<Vec<u8>>> = question.opening.shards.iter().map(prove).collect();
        let hash = |proof: &Vec<u8>| *blake3::hash(proof).as_bytes();
        let answer = AuditAnswer {
            holder: id(name),
            question: asked.digest,
            proofs: proofs.iter().map(|proof| proof.as_ref().map(hash)).collect(),
            answered: self.desk.now.wall,
        };
        let answer = Signed::sign(&answer, &secret(name));
        let proofs = proofs.into_iter().flatten().map(Blob).collect();
        (way != Way::Silent).then_some(Response::Audited { answer, proofs })
    }

    fn respond(&mut self, name: u8, request: &Request) -> Option<Response> {
        match request {
            Request::Records { .. } if self.way(name) == Way::Closed => {
                let (code, text) = (RefusalCode::UnknownVault, "not known".into());
                Some(Response::Refused(Refusal { code, text }))
            }
            Request::Records { stripes, .. } => Some(self.records(name, stripes)),
            Request::Hearsay { of } => {
                let ages = vec![None; of.len()];
                Some(Response::Hearsay(Hearsay { ages, room: 1 << 30, leaves: false }))
            }
            Request::Findings { after } => {
                let words = self.words.get(&name).cloned().unwrap_or_default();
                let until = words.len() as u64;
                let found = words.into_iter().skip(*after as usize).collect();
                Some(Response::Findings { until, found })
            }
            Request::AuditOpen(opening) => {
                assert_eq!(opening.check(), Ok(()));
                let turn = AuditTurn {
                    holder: id(name),
                    auditor: public(NODE),
                    opening: opening.digest(),
                    nonce: [name; 32],
                    drawn: self.desk.now.wall,
                };
                Some(Response::AuditTurn(Signed::sign(&turn, &secret(name))))
            }
            Request::Audit(question) => {
                self.questions.push((name, request.clone()));
                self.prove(name, question)
            }
            _ => None,
        }
    }

    /// Whether a node hangs up now.
    fn hangs_up(&mut self, name: u8, request: &Request) -> bool {
        let Way::HangsUp(left) = self.way(name) else { return false };
        let is_question = matches!(request, Request::Audit(_));
        if is_question {
            let next = if left > 1 { Way::HangsUp(left - 1) } else { Way::Has };
            self.ways.insert(name, next);
        }
        is_question
    }

    /// Answers what the node asks, until it asks no more.
    fn answer(&mut self) {
        loop {
            self.desk.settle();
            let calls = std::mem::take(&mut self.desk.called);
            if calls.is_empty() {
                break;
            }
            for (call, link, request) in calls {
                let name = self.links.iter().find(|(_, on)| **on == link).map(|(name, _)| *name);
                let hangs_up = name.filter(|&name| self.hangs_up(name, &request));
                let response = name.filter(|_| hangs_up.is_none());
                let response = response.and_then(|name| self.respond(name, &request));
                let response = response.map(Box::new);
                self.desk.handle(Input::Answer { call, response });
                if let Some(name) = hangs_up {
                    self.desk.handle(Input::Disconnected(link));
                    let link = self.desk.greet(name, node_greeting(self.operators[&name], name)).0;
                    self.links.insert(name, link);
                }
            }
        }
    }

    /// Time passes; whoever is connected speaks every quarter of an hour.
    fn pass(&mut self, period: Period) {
        for minute in 0..period.0 / 60_000 {
            if minute % 15 == 0 {
                for link in self.links.clone().into_values() {
                    let _ = self.desk.ask(link, Request::Status);
                }
            }
            let next = self.desk.now.mono.after(Period::seconds(60));
            while self.desk.now.mono < next {
                let wake = self.desk.peer.poll_timeout();
                let wake = wake.max(self.desk.now.mono.after(Period(100))).min(next);
                self.desk.wait_until(wake);
                self.answer();
            }
        }
    }

    fn leave(&mut self, name: u8) {
        if let Some(link) = self.links.remove(&name) {
            self.desk.handle(Input::Disconnected(link));
        }
    }

    /// An auditor says what it found of the first stripe.
    fn say(&mut self, auditor: u8, holder: u8, outcome: Outcome) {
        let record = &self.records[0];
        let finding = Finding {
            auditor: id(auditor),
            holder: id(holder),
            vault: record.stripe.vault,
            stripe: record.stripe.id(),
            shard: record.stripe.shards[usize::from(self.has.get(&holder).copied().unwrap_or(0))],
            outcome,
            when: self.desk.now.wall,
        };
        let signed = Signed::sign(&finding, &secret(auditor));
        self.words.entry(auditor).or_default().push(signed);
    }

    fn noted(&self, note: &Note) -> usize {
        self.desk.notes.iter().filter(|other| *other == note).count()
    }

    /// The shards that are to be rebuilt next, and whether nobody who failed is to take one.
    fn rebuilt(&mut self) -> Option<Vec<u16>> {
        let (job, signed, sources, targets) = self.desk.rebuilding.pop_front()?;
        let record = signed.verify().unwrap();
        let mut receipts = Vec::new();
        for target in &targets {
            assert_eq!(self.way_of(target.node), Way::Has);
            let receipt =
                Receipt { holder: target.node, ..Receipt::as_asked(&record, target.index) };
            let name = self.name(target.node);
            receipts.push(Signed::sign(&receipt, &secret(name)));
            self.has.insert(name, target.index);
        }
        assert!(sources.iter().all(|source| self.way_of(source.node) == Way::Has), "{sources:?}");
        let rebuilt = Box::new(Rebuilt { receipts, ..Rebuilt::default() });
        self.desk.handle(Input::Rebuilt { job, rebuilt });
        self.answer();
        Some(targets.iter().map(|target| target.index).collect())
    }

    fn name(&self, node: NodeId) -> u8 {
        (1..10).find(|&name| id(name) == node).unwrap()
    }

    fn way_of(&self, node: NodeId) -> Way {
        self.way(self.name(node))
    }
}

#[test]
fn what_others_hold_is_asked_about_once_in_a_period() {
    let holders = [(NEIGHBOUR, OPERATOR, Some(1)), (THIRD, OPERATOR, Some(2))];
    let mut mesh = Holders::new(5, 1, &holders);
    mesh.pass(Period(3 * DAY.0));
    let said = mesh.audit();
    // Of three holders the other two ask about each one's shard.
    let shards: BTreeSet<(u8, crate::id::ShardId)> = mesh
        .questions
        .iter()
        .flat_map(|(name, request)| {
            let Request::Audit(question) = request else { unreachable!() };
            question.opening.shards.iter().map(|shard| (*name, *shard)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(shards.len(), 10);
    assert_eq!((said.asked, said.proved), (30, 30), "{said:?}");
    assert!(said.finished.is_some());
    assert_eq!((said.failing, said.doubted), (vec![], 0));
    assert_eq!(mesh.desk.rows(Table::Finding), 0, "nothing is kept of what is well");
}

#[test]
fn after_a_restart_it_goes_on_where_it_was() {
    let holders = [(NEIGHBOUR, OPERATOR, Some(1)), (THIRD, OPERATOR, Some(2))];
    let mut mesh = Holders::new(8, 1, &holders);
    mesh.pass(Period(DAY.0 / 2));
    let asked = mesh.audit().asked;
    assert!(asked < 16, "{asked}");
    let config = PeerConfig { audit_period: DAY, ..PeerConfig::default() };
    mesh.desk = Desk::of(NODE, mesh.desk.facts, config, at(Period(mesh.desk.now.mono.0)));
    mesh.device = mesh.desk.device(VAULT, DEVICE);
    mesh.links = [NEIGHBOUR, THIRD].map(|name| (name, mesh.desk.node(name))).into();
    mesh.pass(Period(DAY.0 / 2));
    let again = mesh.audit().asked;
    assert!((16..=20).contains(&(asked + again)), "{asked} and {again}");
}

#[test]
fn one_auditor_blames_nobody_and_two_nodes_of_one_operator_do() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.ways.insert(THIRD, Way::Lost);
    mesh.pass(DAY);
    let said = mesh.audit();
    assert_eq!((said.failing.clone(), said.doubted), (vec![], 1), "{said:?}");
    assert!(said.failed >= 1);
    assert_eq!(mesh.rebuilt(), None);
    let stripe = mesh.records[0].stripe.id();
    let failed = Note::AuditFailed { node: id(THIRD), stripe, outcome: Outcome::Missing };
    assert_eq!(mesh.noted(&failed), 1, "it is said once");
    // Another holder saw it, too.
    mesh.say(NEIGHBOUR, THIRD, Outcome::Missing);
    mesh.pass(HOUR);
    assert_eq!(mesh.audit().failing, [(id(THIRD), 1)]);
    assert_eq!(mesh.noted(&Note::Unproved { node: id(THIRD), stripe }), 1);
    mesh.pass(Period(3 * HOUR.0));
    assert_eq!(mesh.rebuilt(), Some(vec![2]));
    // It has it again, proves it, and is trusted: nothing more is rebuilt.
    mesh.ways.remove(&THIRD);
    mesh.pass(Period(2 * HOUR.0));
    assert_eq!(mesh.noted(&Note::HeldAgain { node: id(THIRD), stripe }), 1);
    let said = mesh.audit();
    assert_eq!(said.failing, []);
    assert_eq!(mesh.status().repair.waiting, []);
    mesh.say(NEIGHBOUR, THIRD, Outcome::Proved);
    mesh.pass(HOUR);
    assert_eq!(mesh.audit().doubted, 0);
}

#[test]
fn where_there_are_two_operators_both_must_have_seen_it() {
    let holders = [
        (NEIGHBOUR, OPERATOR, Some(1)),
        (THIRD, OPERATOR, Some(2)),
        (FOURTH, FOREIGN_OPERATOR, Some(3)),
        (FIFTH, OPERATOR, None),
    ];
    let mut mesh = Holders::new(1, 1, &holders);
    mesh.ways.insert(THIRD, Way::Silent);
    mesh.say(NEIGHBOUR, THIRD, Outcome::Silent);
    mesh.pass(DAY);
    let said = mesh.audit();
    assert_eq!((said.failing, said.doubted), (vec![], 1), "one operator, twice");
    // Who does not hold the stripe has no say.
    mesh.say(FIFTH, THIRD, Outcome::Silent);
    mesh.pass(HOUR);
    assert_eq!(mesh.audit().failing, []);
    mesh.say(FOURTH, THIRD, Outcome::Silent);
    mesh.pass(HOUR);
    assert_eq!(mesh.audit().failing, [(id(THIRD), 1)]);
    // It is taken back where it was said.
    mesh.say(FOURTH, THIRD, Outcome::Proved);
    mesh.pass(HOUR);
    assert_eq!(mesh.audit().failing, []);
}

#[test]
fn who_gives_no_answer_is_asked_the_same_three_times() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.ways.insert(THIRD, Way::Silent);
    mesh.pass(DAY);
    let asked: Vec<&Request> =
        mesh.questions.iter().filter(|(name, _)| *name == THIRD).map(|(_, asked)| asked).collect();
    assert!(asked.len() >= 3);
    assert!(asked[0] == asked[1] && asked[1] == asked[2]);
    assert!(asked.len() == 3 || asked[3] != asked[2], "and then another time");
    assert_eq!((mesh.audit().failing, mesh.audit().doubted), (vec![], 1));
}

#[test]
fn who_is_busy_is_asked_later_and_is_not_guilty() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.ways.insert(THIRD, Way::Busy(20));
    mesh.pass(DAY);
    let said = mesh.audit();
    assert_eq!((said.asked, said.proved, said.failed), (2, 2, 0), "{said:?}");
}

#[test]
fn a_connection_that_ends_under_a_question_is_no_silence_and_many_in_a_row_are() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.ways.insert(THIRD, Way::HangsUp(5));
    mesh.pass(DAY);
    let said = mesh.audit();
    assert_eq!((said.failed, said.doubted), (0, 0), "{said:?}");
    assert_eq!(mesh.way(THIRD), Way::Has);
    mesh.ways.insert(THIRD, Way::HangsUp(u32::MAX));
    mesh.pass(DAY);
    assert_eq!(mesh.audit().doubted, 1);
}

#[test]
fn who_goes_away_is_offline_and_not_guilty() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.ways.insert(THIRD, Way::Silent);
    while mesh.questions.iter().all(|(name, _)| *name != THIRD) {
        mesh.pass(Period::seconds(60));
    }
    let asked = mesh.questions.len();
    // All three tries may be over within the minute: only what came before it left counts.
    let before = mesh.audit();
    mesh.leave(THIRD);
    mesh.pass(Period(6 * HOUR.0));
    let said = mesh.audit();
    assert_eq!(said.failed, before.failed);
    assert_eq!(said.failing, []);
    assert!(mesh.questions.len() <= asked + 1);
}

#[test]
fn fewer_than_the_stripe_needs_blame_nobody() {
    let holders = [(NEIGHBOUR, OPERATOR, Some(1)), (THIRD, OPERATOR, Some(2))];
    let mut mesh = Holders::new(1, 2, &holders);
    mesh.leave(NEIGHBOUR);
    mesh.ways.insert(THIRD, Way::Lies);
    mesh.pass(DAY);
    let said = mesh.audit();
    assert!(said.unsure >= 1, "{said:?}");
    assert_eq!((said.failed, said.failing, said.doubted), (0, vec![], 0));
    // The other one is back: now it can be told.
    mesh.links.insert(NEIGHBOUR, mesh.desk.node(NEIGHBOUR));
    mesh.pass(DAY);
    assert_eq!(mesh.audit().failing, [(id(THIRD), 1)]);
}

#[test]
fn what_is_signed_and_no_proof_is_enough_and_convinces_anybody() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.ways.insert(THIRD, Way::Lies);
    mesh.pass(DAY);
    assert_eq!(mesh.audit().failing, [(id(THIRD), 1)]);
    mesh.pass(Period(4 * HOUR.0));
    assert_eq!(mesh.rebuilt(), Some(vec![2]));
    let rows = mesh.desk.facts.scan(Table::Evidence, &[], None, 9).unwrap();
    let [(_, row)] = &rows[..] else { panic!("{rows:?}") };
    let transcript: Transcript = decode(row);
    let judged = Transcript::from_bytes(&transcript.to_bytes()).unwrap().judge().unwrap();
    assert_eq!((judged.holder, judged.auditor), (id(THIRD), public(NODE)));
    assert!(matches!(judged.found[0].verdict, Verdict::Wrong(_)));
    // Whoever may read the vault gets it.
    let vault = public(VAULT).into();
    let Response::Evidence(Some((stripe, holder, told))) =
        mesh.desk.ask(mesh.device, Request::Evidence { vault, after: None })
    else {
        panic!()
    };
    assert_eq!((stripe, holder, *told), (mesh.records[0].stripe.id(), id(THIRD), transcript));
    let more = Request::Evidence { vault, after: Some((stripe, holder)) };
    assert_eq!(mesh.desk.ask(mesh.device, more.clone()), Response::Evidence(None));
    let stranger = mesh.desk.node(STRANGER);
    assert!(matches!(mesh.desk.ask(stranger, more), Response::Refused(_)));
    // A restart forgets nothing of it.
    let config = PeerConfig { audit_period: DAY, ..PeerConfig::default() };
    mesh.desk = Desk::of(NODE, mesh.desk.facts, config, at(Period(mesh.desk.now.mono.0)));
    mesh.device = mesh.desk.device(VAULT, DEVICE);
    let names = [NEIGHBOUR, THIRD, FOURTH, FIFTH];
    mesh.links = names.map(|name| (name, mesh.desk.node(name))).into();
    mesh.pass(Period::seconds(1800));
    assert_eq!(mesh.audit().failing, [(id(THIRD), 1)]);
}

#[test]
fn a_proof_given_here_outweighs_what_all_others_say() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.say(NEIGHBOUR, THIRD, Outcome::Missing);
    mesh.say(THIRD, NEIGHBOUR, Outcome::Wrong);
    let before = mesh.audit().asked;
    mesh.pass(HOUR);
    let said = mesh.audit();
    assert_eq!((said.failing, said.failed), (vec![], 0));
    assert!(said.asked > before, "what is said is looked into");
    assert_eq!(mesh.rebuilt(), None);
}

#[test]
fn who_hears_that_it_failed_reads_that_shard_next() {
    let holders = [(NEIGHBOUR, OPERATOR, Some(1)), (THIRD, OPERATOR, Some(2))];
    let mut mesh = Holders::new(4, 1, &holders);
    let shard = mesh.records[0].stripe.shards[0];
    // It is read in its turn; of so few one is in an hour.
    loop {
        mesh.pass(Period::seconds(60));
        let Some(read) = mesh.desk.scrubbing.pop_front() else { continue };
        mesh.desk.handle(Input::Scrubbed { shard: read, what: None });
        if read == shard {
            break;
        }
    }
    mesh.say(NEIGHBOUR, NODE, Outcome::Missing);
    mesh.pass(Period::seconds(600));
    assert_eq!(mesh.desk.scrubbing, [shard]);
}

#[test]
fn a_holder_that_fails_again_and_again_causes_one_repair() {
    let mut mesh = Holders::three_and_two_spare();
    let mut repairs = 0;
    for _ in 0..6 {
        mesh.ways.insert(THIRD, Way::Lies);
        mesh.pass(DAY);
        while mesh.rebuilt().is_some() {
            repairs += 1;
        }
        mesh.ways.remove(&THIRD);
        mesh.pass(Period(6 * HOUR.0));
        assert_eq!(mesh.audit().failing, []);
    }
    assert_eq!(repairs, 1);
}

#[test]
fn a_holder_that_shows_no_promise_any_more_is_replaced_and_not_blamed() {
    // Two are needed: what is left breaks the policy, and so nobody waits for it.
    let holders = [(NEIGHBOUR, OPERATOR, Some(1)), (THIRD, OPERATOR, Some(2))];
    let spare = [(FOURTH, OPERATOR, None), (FIFTH, OPERATOR, None)];
    let mut mesh = Holders::new(1, 2, &[holders, spare].concat());
    mesh.ways.insert(THIRD, Way::Denies);
    mesh.pass(Period(30 * HOUR.0));
    assert_eq!((mesh.audit().failed, mesh.audit().failing), (0, vec![]));
    assert_eq!(mesh.rebuilt(), Some(vec![2]));
}

/// Whoever writes records can name anybody in them: who knows nothing of the vault says so, and that is no silence.
#[test]
fn who_knows_nothing_of_a_vault_is_blamed_for_nothing_however_many_say_so() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.ways.insert(THIRD, Way::Closed);
    mesh.say(NEIGHBOUR, THIRD, Outcome::Silent);
    mesh.pass(DAY);
    let said = mesh.audit();
    assert!(said.asked > 0);
    assert_eq!((said.failed, said.failing), (0, vec![]), "this node has no word against it");
    // One that says nothing has failed, with the same word against it.
    mesh.ways.insert(THIRD, Way::Silent);
    mesh.pass(DAY);
    assert_eq!(mesh.audit().failing, [(id(THIRD), 1)]);
}

#[test]
fn what_was_found_is_told_to_whoever_may_read_the_vault() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.ways.insert(THIRD, Way::Lost);
    mesh.pass(DAY);
    let neighbour = mesh.links[&NEIGHBOUR];
    let told = mesh.desk.ask(neighbour, Request::Findings { after: 0 });
    let Response::Findings { until, found } = told else { panic!() };
    let [signed] = &found[..] else { panic!("{found:?}") };
    let finding = signed.verify().unwrap();
    assert_eq!((finding.auditor, finding.holder), (id(NODE), id(THIRD)));
    assert_eq!(finding.outcome, Outcome::Missing);
    let news = mesh.desk.ask(neighbour, Request::Findings { after: until });
    assert_eq!(news, Response::Findings { until, found: vec![] });
    let stranger = mesh.desk.node(STRANGER);
    let told = mesh.desk.ask(stranger, Request::Findings { after: 0 });
    assert_eq!(told, Response::Findings { until, found: vec![] });
    // What came of it since is news.
    mesh.ways.remove(&THIRD);
    mesh.pass(HOUR);
    let news = mesh.desk.ask(neighbour, Request::Findings { after: until });
    let Response::Findings { until: later, found } = news else { panic!() };
    assert!(later > until);
    assert_eq!(found[0].verify().unwrap().outcome, Outcome::Proved);
}

#[test]
fn what_is_said_and_means_nothing_is_left_out() {
    let mut mesh = Holders::three_and_two_spare();
    mesh.ways.insert(THIRD, Way::Lost);
    mesh.pass(DAY);
    let real = {
        mesh.say(NEIGHBOUR, THIRD, Outcome::Missing);
        mesh.words.remove(&NEIGHBOUR).unwrap().remove(0)
    };
    let said = real.verify().unwrap();
    let mut forged = real.to_bytes();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Signed::from_bytes(&forged).unwrap();
    let others = Finding { auditor: id(FOURTH), ..said.clone() };
    let of_nothing = Finding { stripe: StripeId([1; 32]), ..said.clone() };
    let words = vec![
        forged,
        Signed::sign(&others, &secret(FOURTH)),
        Signed::sign(&of_nothing, &secret(NEIGHBOUR)),
    ];
    mesh.words.insert(NEIGHBOUR, words);
    mesh.pass(HOUR);
    assert_eq!(mesh.audit().failing, []);
    mesh.words.entry(NEIGHBOUR).or_default().push(real);
    mesh.pass(HOUR);
    assert_eq!(mesh.audit().failing, [(id(THIRD), 1)]);
    // It lost its disk, and what it said with it.
    mesh.words.remove(&NEIGHBOUR);
    mesh.pass(HOUR);
    assert_eq!(mesh.audit().failing, []);
}
