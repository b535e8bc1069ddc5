//! Stories of repair: who is lost, what is rebuilt, by whom and where to, and when nothing is.

use super::cast::*;
use super::desk::{Desk, Ordered};
use crate::certificate::{Roster, VaultPapers};
use crate::given_up::GivenUp;
use crate::id::{NodeId, StripeId};
use crate::leave::{Page, Word};
use crate::log::{Body, Entry};
use crate::message::{
    Hearsay, HeldRecord, NodeStatus, Refusal, RefusalCode, RepairStatus, Request, Response,
};
use crate::peer::{
    Input, JobId, LaneId, LinkId, MemoryFacts, Note, PeerConfig, Rebuilt, Source, Table, Target,
};
use crate::policy::Policy;
use crate::record::{Receipt, Record};
use crate::sign::Signed;
use crate::time::Period;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const FOURTH: u8 = 5;
pub(super) const FIFTH: u8 = 6;
pub(super) const HOUR: Period = Period::seconds(3600);

pub(super) fn id(name: u8) -> NodeId {
    public(name).into()
}

/// The node on the desk, and what the others say when it asks.
pub(super) struct Mesh {
    pub(super) desk: Desk,
    pub(super) device: LinkId,
    pub(super) links: BTreeMap<u8, LinkId>,
    /// What each has of stripes.
    has: BTreeMap<u8, Vec<(Record, Option<u16>)>>,
    /// Who neither speaks nor answers.
    pub(super) silent: BTreeSet<u8>,
    /// Who says that it leaves.
    pub(super) leaving: BTreeSet<u8>,
    pub(super) rooms: BTreeMap<u8, u64>,
    /// Who does not sign that a node may leave.
    pub(super) unwilling: BTreeSet<u8>,
    /// Who tells nothing of the vault, and who says nothing when it is asked for records.
    pub(super) closed: BTreeSet<u8>,
    pub(super) mute: BTreeSet<u8>,
    /// Who signs for what it takes, and shows nothing of it.
    denying: BTreeSet<u8>,
    /// How often records were asked for,
    pub(super) asked: usize,
    /// and of whom about which stripes.
    asked_about: BTreeSet<(u8, StripeId)>,
}

impl Mesh {
    /// The node holds the first shard of a stripe; the neighbours named have the others, or nothing.
    pub(super) fn new(stripe: &Record, has: &[(u8, Option<u16>)]) -> Self {
        let mut mesh = Self::without(stripe, has);
        let put = mesh.desk.put(mesh.device, stripe, 0, &shard_bytes(1, 0));
        assert!(matches!(put, Response::Receipt(_)), "{put:?}");
        mesh
    }

    /// The node holds nothing.
    pub(super) fn without(stripe: &Record, has: &[(u8, Option<u16>)]) -> Self {
        Self::among(stripe, has, |_| OPERATOR)
    }

    /// The node holds nothing, and the others are these operators'.
    pub(super) fn among(
        stripe: &Record,
        has: &[(u8, Option<u16>)],
        operator: impl Fn(u8) -> u8,
    ) -> Self {
        Self::configured(stripe, has, operator, PeerConfig::default())
    }

    /// The node holds nothing and is set up so.
    pub(super) fn configured(
        stripe: &Record,
        has: &[(u8, Option<u16>)],
        operator: impl Fn(u8) -> u8,
        config: PeerConfig,
    ) -> Self {
        // Audits ask about stripes as well: here they have all the time in the world.
        let config = PeerConfig { audit_period: Period::days(100_000), ..config };
        let mut trusted: Vec<u8> = has.iter().map(|&(name, _)| operator(name)).collect();
        trusted.push(OPERATOR);
        let facts = MemoryFacts::default();
        let mut desk = Desk::trusting(&trusted, NODE, facts, config, at(Period(0)));
        let device = desk.device(VAULT, DEVICE);
        let listed = [NODE, NEIGHBOUR, THIRD, FOURTH, FIFTH];
        let nodes = listed.map(|name| {
            let is_there = has.iter().any(|(other, _)| *other == name);
            node_certificate(if is_there { operator(name) } else { OPERATOR }, name)
        });
        let roster = Roster { vault: public(VAULT).into(), version: 2, nodes: nodes.into() };
        let roster = Signed::sign(&roster, &secret(VAULT));
        let papers = VaultPapers { roster, ..papers(VAULT, 2, &listed) };
        assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
        let mut meet = |name| desk.greet(name, node_greeting(operator(name), name)).0;
        let links = has.iter().map(|&(name, _)| (name, meet(name))).collect();
        let of = |index: Option<u16>| index.map(|index| (stripe.clone(), Some(index)));
        let has =
            has.iter().map(|&(name, index)| (name, of(index).into_iter().collect())).collect();
        let (silent, leaving, rooms) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let (unwilling, closed, mute) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let denying = BTreeSet::new();
        Self {
            desk,
            device,
            links,
            has,
            silent,
            leaving,
            rooms,
            unwilling,
            closed,
            mute,
            denying,
            asked: 0,
            asked_about: BTreeSet::new(),
        }
    }

    /// A stripe more: the node holds its first shard, and the others those that it gives to them.
    pub(super) fn add(&mut self, stripe: &Record, bytes: &[u8]) {
        let put = self.desk.put(self.device, stripe, 0, bytes);
        assert!(matches!(put, Response::Receipt(_)), "{put:?}");
        for (&name, has) in &mut self.has {
            if let Some(index) = stripe.index_of(id(name)) {
                has.push((stripe.clone(), Some(index)));
            }
        }
    }

    /// The node starts again, and all meet it.
    pub(super) fn restart(mut self) -> Self {
        self.desk.settle();
        self.desk = self.desk.restart();
        self.device = self.desk.device(VAULT, DEVICE);
        self.links = self.links.keys().map(|&name| (name, self.desk.node(name))).collect();
        self
    }

    /// What the node says of itself.
    pub(super) fn status(&mut self) -> NodeStatus {
        match self.desk.ask(self.device, Request::Status) {
            Response::Status(status) => *status,
            _ => panic!(),
        }
    }

    pub(super) fn repair(&mut self) -> RepairStatus {
        self.status().repair
    }

    fn records(&self, name: u8, asked: &[crate::id::StripeId]) -> Response {
        let found = asked.iter().map(|stripe| {
            let all = &self.has[&name];
            let (record, index) = all.iter().find(|(record, _)| record.stripe.id() == *stripe)?;
            let receipt = index.map(|index| {
                let receipt = Receipt { holder: id(name), ..Receipt::as_asked(record, index) };
                Signed::sign(&receipt, &secret(name))
            });
            Some(HeldRecord { record: Signed::sign(record, &secret(DEVICE)), receipt })
        });
        Response::Records(found.collect())
    }

    /// Who is willing vouches for whatever it holds.
    fn word(&self, name: u8, page: &Page) -> Option<Signed<Word>> {
        let holds = |place: usize| {
            let (stripe, _) = page.held[place];
            self.has[&name]
                .iter()
                .any(|(record, index)| record.stripe.id() == stripe && index.is_some())
        };
        let is_willing = !self.unwilling.contains(&name);
        let wall = self.desk.now.wall;
        is_willing.then(|| Word::sign(page, id(NODE), wall, &secret(name), holds)).flatten()
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
                let name = name.filter(|name| !self.silent.contains(name));
                let response = match (name, &request) {
                    (Some(name), Request::Records { .. }) if self.mute.contains(&name) => None,
                    (Some(name), Request::Records { .. }) if self.closed.contains(&name) => {
                        let (code, text) = (RefusalCode::UnknownVault, "not known".into());
                        Some(Box::new(Response::Refused(Refusal { code, text })))
                    }
                    (Some(name), Request::Records { stripes, .. }) => {
                        self.asked += 1;
                        self.asked_about.extend(stripes.iter().map(|stripe| (name, *stripe)));
                        Some(Box::new(self.records(name, stripes)))
                    }
                    (Some(name), Request::Hearsay { of }) => {
                        let room = self.rooms.get(&name).copied().unwrap_or(1 << 30);
                        let leaves = self.leaving.contains(&name);
                        let ages = vec![None; of.len()];
                        Some(Box::new(Response::Hearsay(Hearsay { ages, room, leaves })))
                    }
                    (Some(name), Request::MayLeave(page)) => {
                        Some(Box::new(Response::MayLeave(self.word(name, page))))
                    }
                    _ => None,
                };
                self.desk.handle(Input::Answer { call, response });
            }
        }
    }

    /// Time passes; whoever is not silent speaks every quarter of an hour.
    pub(super) fn pass(&mut self, period: Period) {
        let step = Period::seconds(900);
        for _ in 0..period.0 / step.0 {
            let links = self.links.clone();
            for (name, link) in links {
                if !self.silent.contains(&name) {
                    let _ = self.desk.ask(link, Request::Status);
                }
            }
            self.desk.pass(step);
            self.answer();
            // What is awaited for seconds.
            let soon =
                |desk: &Desk| desk.peer.poll_timeout() < desk.now.mono.after(Period::seconds(20));
            for _ in 0..25 {
                if soon(&self.desk) {
                    self.desk.pass(Period::seconds(1));
                    self.answer();
                }
            }
        }
    }

    /// A neighbour has nothing any more, and says so.
    fn lose(&mut self, name: u8) {
        self.has.insert(name, Vec::new());
    }

    /// It has this shard now.
    fn take(&mut self, name: u8, index: u16) {
        self.has.insert(name, vec![(stripe(), Some(index))]);
    }

    pub(super) fn ordered(&mut self) -> Option<Ordered> {
        self.desk.rebuilding.pop_front()
    }

    /// The driver did as it was told: the targets have their shards now.
    pub(super) fn rebuild(&mut self, job: JobId, record: &Record, targets: &[Target]) {
        let mut receipts = Vec::new();
        for target in targets {
            let name = *self.links.keys().find(|name| id(**name) == target.node).unwrap();
            if !self.denying.contains(&name) {
                self.has.get_mut(&name).unwrap().push((record.clone(), Some(target.index)));
            }
            let receipt =
                Receipt { holder: target.node, ..Receipt::as_asked(record, target.index) };
            receipts.push(Signed::sign(&receipt, &secret(name)));
        }
        let rebuilt = Box::new(Rebuilt { receipts, moved: 100, ..Rebuilt::default() });
        self.desk.handle(Input::Rebuilt { job, rebuilt });
        self.answer();
    }
}

pub(super) fn stripe() -> Record {
    record(VAULT, DEVICE, 1)
}

/// One of three shards suffices, and each lies at a provider of its own; two nodes have none.
pub(super) fn three_and_two_spare() -> Mesh {
    let has = [(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, None), (FIFTH, None)];
    Mesh::new(&stripe(), &has)
}

#[test]
fn what_a_lost_node_held_is_rebuilt_elsewhere_and_then_there_is_peace() {
    let mut mesh = three_and_two_spare();
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(23 * HOUR.0));
    assert!(mesh.ordered().is_none(), "offline is not lost");
    assert_eq!(mesh.repair(), RepairStatus::default());
    let suspected = |note: &&Note| **note == Note::Suspected(id(NEIGHBOUR));
    assert_eq!(mesh.desk.notes.iter().filter(suspected).count(), 1);
    mesh.pass(Period(5 * HOUR.0));
    let (job, signed, sources, targets) = mesh.ordered().expect("a repair");
    let record = signed.verify().unwrap();
    assert_eq!(record, stripe());
    assert!(mesh.desk.notes.contains(&Note::Lost(id(NEIGHBOUR))));
    assert_eq!(sources[0], Source { index: 0, node: id(NODE), link: None }, "its own first");
    assert_eq!((sources[1].index, sources[1].node), (2, id(THIRD)));
    let [target] = targets[..] else { panic!("{targets:?}") };
    assert_eq!(target.index, 1);
    assert!([id(FOURTH), id(FIFTH)].contains(&target.node));
    let status = mesh.repair();
    assert_eq!((status.lost, status.running), (vec![id(NEIGHBOUR)], 1));
    assert!(mesh.ordered().is_none(), "once");
    mesh.rebuild(job, &record, &targets);
    // The record names the lost node for ever: it is asked about once more, and left alone then.
    mesh.pass(Period(2 * HOUR.0));
    let status = mesh.repair();
    assert_eq!((status.repaired, status.running, status.moved), (1, 0, 100));
    assert_eq!((status.waiting, status.stuck), (vec![], vec![]));
    let asked = mesh.asked;
    mesh.pass(Period::days(2));
    assert!(mesh.ordered().is_none());
    assert_eq!(mesh.asked, asked, "nobody is bothered");
    // Who returns is welcome: there is one copy more than needed.
    mesh.silent.clear();
    mesh.pass(Period(3 * HOUR.0));
    assert!(mesh.desk.notes.contains(&Note::Returned(id(NEIGHBOUR))));
    assert_eq!(mesh.repair().lost, []);
    assert!(mesh.ordered().is_none());
    // And when the stand-in is lost, its holder counts again.
    let stand_in = if target.node == id(FOURTH) { FOURTH } else { FIFTH };
    mesh.silent.insert(stand_in);
    mesh.pass(Period::days(2));
    assert_eq!(mesh.repair().lost, [target.node]);
    assert!(mesh.ordered().is_none());
}

#[test]
fn a_roster_that_lists_nobody_ends_no_repair() {
    let mut mesh = three_and_two_spare();
    let listed = |mesh: &mut Mesh, version, nodes: &[u8]| {
        let papers = papers(VAULT, version, nodes);
        assert_eq!(mesh.desk.ask(mesh.device, Request::Introduce(papers)), Response::Done);
    };
    listed(&mut mesh, 3, &[]);
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(28 * HOUR.0));
    let (.., targets) = mesh.ordered().expect("a repair");
    assert!([id(FOURTH), id(FIFTH)].contains(&targets[0].node));
    // Whom the newest one lists comes first.
    let mut mesh = three_and_two_spare();
    listed(&mut mesh, 3, &[NODE, FIFTH]);
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(28 * HOUR.0));
    let (.., targets) = mesh.ordered().expect("a repair");
    assert_eq!(targets[0].node, id(FIFTH));
}

/// One of three shards suffices, and each lies at a provider of its own. What is lost breaks no policy yet.
#[test]
fn who_tells_nothing_or_never_answers_holds_up_no_repair_for_ever() {
    let record = Record { policy: Policy::survive_one("node"), ..stripe() };
    for is_mute in [false, true] {
        let has = [(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, None), (FIFTH, None)];
        let mut mesh = Mesh::new(&record, &has);
        if is_mute { &mut mesh.mute } else { &mut mesh.closed }.insert(FIFTH);
        mesh.silent.insert(NEIGHBOUR);
        mesh.pass(Period(if is_mute { 8 * 24 } else { 40 } * HOUR.0));
        let (.., targets) = mesh.ordered().expect("a repair");
        assert_eq!(targets[0].node, id(FOURTH), "who tells nothing is put nothing");
    }
}

#[test]
fn who_takes_a_shard_and_then_knows_nothing_of_it_is_not_given_it_again() {
    let mut mesh = three_and_two_spare();
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(28 * HOUR.0));
    let (job, signed, _, targets) = mesh.ordered().expect("a repair");
    let cheat = if targets[0].node == id(FOURTH) { FOURTH } else { FIFTH };
    mesh.denying.insert(cheat);
    mesh.rebuild(job, &signed.verify().unwrap(), &targets);
    mesh.pass(Period(2 * HOUR.0));
    let (job, signed, _, targets) = mesh.ordered().expect("another one");
    assert_ne!(targets[0].node, id(cheat));
    let stripe = stripe().stripe.id();
    let noted = Note::Faulty { node: id(cheat), stripe };
    assert_eq!(mesh.desk.notes.iter().filter(|note| **note == noted).count(), 1);
    mesh.rebuild(job, &signed.verify().unwrap(), &targets);
    mesh.pass(Period(2 * HOUR.0));
    assert!(mesh.ordered().is_none(), "the honest one has it");
    let place = (stripe, id(cheat));
    assert!(mesh.desk.peer.repair.taken.is_denied(&place));
    // A restart does not forget it, and its end is what it was.
    let mut desk = mesh.desk.restart();
    assert!(desk.peer.repair.taken.is_denied(&place));
    assert_eq!(desk.rows(Table::Denied), 1);
    desk.peer.see_taken(desk.now, place, true);
    desk.pass(HOUR);
    desk.settle();
    assert_eq!((desk.peer.repair.taken.is_denied(&place), desk.rows(Table::Denied)), (false, 0));
    desk.peer.see_taken(desk.now, place, false);
    desk.pass(HOUR);
    desk.settle();
    assert_eq!(desk.rows(Table::Denied), 1);
    let period = signed.verify().unwrap().policy.lock.period;
    desk.pass(Period(period.0 / 2));
    desk.peer.forget_taken(desk.now);
    desk.pass(HOUR);
    desk.settle();
    let is_denied = desk.peer.repair.taken.is_denied(&place);
    assert_eq!((is_denied, desk.rows(Table::Denied)), (false, 0), "it may be gone by now");
}

/// One of three shards suffices, and an operator may be lost: the three that the record names are one operator's.
fn too_close() -> Record {
    Record { policy: Policy::survive_one("operator"), ..stripe() }
}

#[test]
fn shards_that_are_all_there_and_lie_too_close_together_are_copied_apart() {
    let has = [(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, None), (FIFTH, None)];
    let operator = |name| if name == FOURTH { 30 } else { OPERATOR };
    let mut mesh = Mesh::among(&too_close(), &has, operator);
    let put = mesh.desk.put(mesh.device, &too_close(), 0, &shard_bytes(1, 0));
    assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    mesh.pass(Period(6 * HOUR.0));
    let (job, signed, sources, targets) = mesh.ordered().expect("a repair");
    let [target] = targets[..] else { panic!("{targets:?}") };
    assert_eq!(target.node, id(FOURTH));
    assert!(sources.iter().any(|source| source.index == target.index), "it is a copy");
    assert_eq!(mesh.repair().waiting, [(-1, 1)]);
    mesh.rebuild(job, &signed.verify().unwrap(), &targets);
    mesh.pass(Period(2 * HOUR.0));
    let status = mesh.repair();
    assert_eq!((status.repaired, status.waiting, status.stuck), (1, vec![], vec![]));
    let asked = mesh.asked;
    mesh.pass(Period::days(2));
    assert_eq!(mesh.asked, asked, "there is peace");
    assert!(mesh.ordered().is_none());
    // The copy is lost: what is left lies too close again.
    mesh.silent.insert(FOURTH);
    mesh.pass(Period(30 * HOUR.0));
    assert!(mesh.ordered().is_none());
    assert_eq!(mesh.repair().stuck.len(), 1);
}

#[test]
fn what_lies_too_close_together_is_said_until_there_is_a_node_that_helps() {
    let has = [(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, None), (FIFTH, None)];
    let operator = |name| if name == FOURTH { 30 } else { OPERATOR };
    let mut mesh = Mesh::among(&too_close(), &has, operator);
    let put = mesh.desk.put(mesh.device, &too_close(), 0, &shard_bytes(1, 0));
    assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    mesh.rooms.insert(FOURTH, 63);
    mesh.pass(Period(6 * HOUR.0));
    assert!(mesh.ordered().is_none());
    let why = "all its shards are there, and they lie too close together";
    assert_eq!(mesh.repair().stuck, [(why.to_owned(), 1)]);
    mesh.rooms.clear();
    mesh.pass(Period(30 * HOUR.0));
    assert!(mesh.ordered().is_some());
}

#[test]
fn what_nothing_is_known_against_is_asked_about_once_in_a_patrol() {
    let mut mesh = three_and_two_spare();
    mesh.pass(Period::days(1));
    // Three hold it, and take turns. Who asks asks the two others that have it.
    let mut asked = Vec::new();
    for _ in 0..6 {
        let before = mesh.asked;
        mesh.pass(Period::days(7));
        asked.push(mesh.asked - before);
    }
    asked.sort_unstable();
    assert_eq!(asked, [0, 0, 0, 0, 2, 2]);
    assert!(mesh.ordered().is_none());
}

#[test]
fn in_a_patrol_all_of_every_vault_is_asked_about_and_each_node_about_its_own_alone() {
    const OTHER: u8 = 40;
    let mut mesh = three_and_two_spare();
    let other = mesh.desk.device(OTHER, DEVICE);
    let papers = papers(OTHER, 1, &[NODE, NEIGHBOUR, THIRD, FOURTH, FIFTH]);
    assert_eq!(mesh.desk.ask(other, Request::Introduce(papers)), Response::Done);
    let mut expected: BTreeSet<(u8, StripeId)> =
        [NEIGHBOUR, THIRD].map(|name| (name, stripe().stripe.id())).into();
    // More of each vault than are looked at in one go.
    for number in 2..200 {
        let (vault, device) = if number < 100 { (VAULT, mesh.device) } else { (OTHER, other) };
        let others = if number % 2 == 0 { [NEIGHBOUR, THIRD] } else { [FOURTH, FIFTH] };
        let holders = [NODE, others[0], others[1]].map(id).into();
        let stripe = Record { holders, ..record(vault, DEVICE, number) };
        let put = mesh.desk.put(device, &stripe, 0, &shard_bytes(number, 0));
        assert!(matches!(put, Response::Receipt(_)), "{put:?}");
        for (name, index) in others.into_iter().zip(1..) {
            expected.insert((name, stripe.stripe.id()));
            mesh.has.entry(name).or_default().push((stripe.clone(), Some(index)));
        }
    }
    mesh.pass(Period::days(29));
    assert!(mesh.asked_about == expected, "{} of {}", mesh.asked_about.len(), expected.len());
    assert!(mesh.ordered().is_none());
}

#[test]
fn where_a_patrol_finds_something_missing_everybody_is_asked_before_it_is_rebuilt() {
    let mut mesh = three_and_two_spare();
    mesh.pass(Period::days(1));
    let asked = mesh.asked;
    mesh.lose(NEIGHBOUR);
    mesh.pass(Period::days(21));
    let (_, signed, _, targets) = mesh.ordered().expect("it is rebuilt");
    assert_eq!(signed.verify().unwrap().stripe.id(), stripe().stripe.id());
    let [target] = targets[..] else { panic!("{targets:?}") };
    assert!(target.index == 1 && [id(FOURTH), id(FIFTH)].contains(&target.node));
    assert!(mesh.asked - asked >= 2 + 4, "{} asked", mesh.asked - asked);
    // Somebody stands in for whom a record names: then that is found, and nothing is rebuilt.
    let mut mesh = three_and_two_spare();
    mesh.lose(NEIGHBOUR);
    mesh.take(FIFTH, 1);
    mesh.pass(Period::days(22));
    assert!(mesh.ordered().is_none());
}

#[test]
fn a_node_that_comes_and_goes_causes_no_repair() {
    let mut mesh = three_and_two_spare();
    for _ in 0..6 {
        mesh.silent.insert(NEIGHBOUR);
        mesh.pass(Period(20 * HOUR.0));
        mesh.silent.clear();
        mesh.pass(Period(HOUR.0));
    }
    assert!(mesh.ordered().is_none());
    assert!(mesh.asked <= 4, "nobody is asked but when it is its turn");
}

#[test]
fn who_hears_nobody_repairs_nothing() {
    let mut mesh = three_and_two_spare();
    mesh.silent = [NEIGHBOUR, THIRD, FOURTH, FIFTH].into();
    mesh.pass(Period::days(10));
    assert!(mesh.ordered().is_none());
    assert_eq!(mesh.repair(), RepairStatus::default());
    // The others come back together, and one does not.
    mesh.silent = [NEIGHBOUR].into();
    mesh.pass(Period(12 * HOUR.0));
    assert!(mesh.ordered().is_none(), "its silence counts from now on");
    mesh.pass(Period(24 * HOUR.0));
    assert!(mesh.ordered().is_some());
}

#[test]
fn a_stripe_of_which_too_little_is_left_or_that_nobody_can_take_is_said() {
    let mut two = stripe();
    two.stripe.k = 2;
    let has = [(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, None), (FIFTH, None)];
    let mut mesh = Mesh::new(&two, &has);
    mesh.rooms = [(FOURTH, 63), (FIFTH, 63)].into();
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(30 * HOUR.0));
    assert!(mesh.ordered().is_none());
    let [(why, 1)] = &mesh.repair().stuck[..] else { panic!("{:?}", mesh.repair()) };
    assert!(why.contains("room for 64 B"), "{why}");
    assert!(mesh.desk.notes.contains(&Note::AtRisk { stripes: 1 }));
    // There is room again.
    mesh.rooms.clear();
    mesh.pass(Period(4 * HOUR.0));
    let (job, signed, _, targets) = mesh.ordered().expect("a repair");
    assert!(!mesh.desk.notes.contains(&Note::AtRisk { stripes: 0 }));
    mesh.rebuild(job, &signed.verify().unwrap(), &targets);
    mesh.pass(Period(2 * HOUR.0));
    assert!(mesh.desk.notes.contains(&Note::AtRisk { stripes: 0 }), "{:?}", mesh.desk.notes);
    let mut mesh = Mesh::new(&two, &has);
    mesh.silent = [NEIGHBOUR, THIRD].into();
    mesh.pass(Period(30 * HOUR.0));
    let stuck = vec![("1 shards are left, 2 needed".to_owned(), 1)];
    assert_eq!(mesh.repair().stuck, stuck);
    assert!(mesh.ordered().is_none());
}

#[test]
fn what_lies_on_all_nodes_and_keeps_its_policy_is_left_as_it_is() {
    let mut mesh = Mesh::new(&stripe(), &[(NEIGHBOUR, Some(1)), (THIRD, Some(2))]);
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(30 * HOUR.0));
    let asked = mesh.asked;
    mesh.pass(Period(10 * HOUR.0));
    assert_eq!(mesh.asked, asked, "nobody is bothered");
    let status = mesh.repair();
    assert_eq!((status.lost, status.waiting, status.stuck), (vec![id(NEIGHBOUR)], vec![], vec![]));
}

#[test]
fn who_is_silent_and_not_lost_has_what_the_record_says() {
    let mut mesh = three_and_two_spare();
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(20 * HOUR.0));
    mesh.silent.insert(THIRD);
    mesh.pass(Period(8 * HOUR.0));
    // One shard is enough to read, two are left and a provider more may be lost: it can wait for the third.
    assert!(mesh.ordered().is_none());
    assert_eq!(mesh.repair().lost, [id(NEIGHBOUR)]);
    mesh.silent.remove(&THIRD);
    mesh.pass(Period(4 * HOUR.0));
    let (_, _, _, targets) = mesh.ordered().expect("a repair");
    assert_eq!(targets.iter().map(|target| target.index).collect::<Vec<_>>(), [1]);
}

#[test]
fn who_served_wrong_bytes_counts_as_a_holder_no_more() {
    let mut mesh = three_and_two_spare();
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(29 * HOUR.0));
    let (job, signed, _, _) = mesh.ordered().expect("a repair");
    let faulty = vec![id(THIRD)];
    let failed = Some("1 shards could be had, 2 needed".to_owned());
    let rebuilt = Box::new(Rebuilt { faulty, failed, ..Rebuilt::default() });
    mesh.desk.handle(Input::Rebuilt { job, rebuilt });
    let stripe = signed.verify().unwrap().stripe.id();
    assert!(mesh.desk.notes.contains(&Note::Faulty { node: id(THIRD), stripe }));
    mesh.pass(Period(6 * HOUR.0));
    let (job, signed, sources, targets) = mesh.ordered().expect("a repair");
    assert_eq!(sources.len(), 1, "{sources:?}");
    let mut missing: Vec<u16> = targets.iter().map(|target| target.index).collect();
    missing.sort_unstable();
    assert_eq!(missing, [1, 2]);
    assert!(targets.iter().all(|target| target.node != id(THIRD)));
    mesh.rebuild(job, &signed.verify().unwrap(), &targets);
    mesh.pass(Period(2 * HOUR.0));
    let status = mesh.repair();
    assert_eq!((status.repaired, status.failed, status.waiting), (1, 1, vec![]));
}

#[test]
fn a_target_that_takes_nothing_is_left_alone_for_a_while() {
    let mut mesh = three_and_two_spare();
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(29 * HOUR.0));
    let (job, _, _, targets) = mesh.ordered().expect("a repair");
    let first = targets[0].node;
    let rebuilt = Box::new(Rebuilt { refused: vec![first], ..Rebuilt::default() });
    mesh.desk.handle(Input::Rebuilt { job, rebuilt });
    mesh.answer();
    assert!(mesh.ordered().is_none(), "not at once");
    mesh.pass(Period(2 * HOUR.0));
    assert!(mesh.ordered().is_some(), "but later");
}

#[test]
fn what_was_given_up_is_no_loss() {
    let mut mesh = three_and_two_spare();
    let vault = public(VAULT).into();
    let stripes = vec![stripe().stripe.id()];
    let said = GivenUp { vault, number: 0, keep: false, stripes };
    let entry = Entry {
        vault,
        device: public(DEVICE).into(),
        seq: 0,
        previous: None,
        claimed: EPOCH,
        body: Body::GivenUp(Signed::sign(&said, &secret(VAULT))),
    };
    let append = Request::Append(Signed::sign(&entry, &secret(DEVICE)));
    let response = mesh.desk.ask(mesh.device, append);
    assert!(matches!(response, Response::Appended(_)), "{response:?}");
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(30 * HOUR.0));
    assert_eq!(mesh.repair().lost, [id(NEIGHBOUR)]);
    assert!(mesh.ordered().is_none());
    assert_eq!(mesh.asked, 0);
}

#[test]
fn what_a_device_wrote_that_was_revoked_since_is_repaired() {
    let mut mesh = three_and_two_spare();
    let order = crate::certificate::DeviceRevocation {
        vault: public(VAULT).into(),
        device: public(DEVICE).into(),
        issued: EPOCH,
    };
    let second = mesh.desk.device(VAULT, SECOND_DEVICE);
    let revoke = Request::Revoke(Signed::sign(&order, &secret(VAULT)));
    assert_eq!(mesh.desk.ask(second, revoke), Response::Done);
    mesh.silent.insert(NEIGHBOUR);
    mesh.pass(Period(30 * HOUR.0));
    let (_, _, _, targets) = mesh.ordered().expect("a repair");
    assert_eq!(targets.iter().map(|target| target.index).collect::<Vec<_>>(), [1]);
}

/// What is read next is like this.
fn scrub(mesh: &mut Mesh, what: Option<&str>) {
    while mesh.desk.scrubbing.is_empty() {
        mesh.desk.pass(HOUR);
        mesh.answer();
    }
    let shard = mesh.desk.scrubbing.pop_front().unwrap();
    assert_eq!(shard, stripe().stripe.shards[0]);
    mesh.desk.handle(Input::Scrubbed { shard, what: what.map(Into::into) });
    mesh.answer();
    mesh.desk.pass(Period::seconds(2));
    mesh.answer();
}

#[test]
fn what_a_disk_altered_is_mended_in_its_place_from_others() {
    let mut mesh = three_and_two_spare();
    scrub(&mut mesh, Some("its bytes were altered"));
    let (job, signed, sources, index) = mesh.desk.mending.pop_front().expect("at once");
    assert_eq!((signed.verify().unwrap(), index), (stripe(), 0));
    let from: BTreeSet<NodeId> = sources.iter().map(|source| source.node).collect();
    assert_eq!(from, [id(NEIGHBOUR), id(THIRD)].into());
    assert!(sources.iter().all(|source| source.link.is_some() && source.index != 0));
    // It did not work, and is tried again.
    let failed = Box::new(Rebuilt { failed: Some("no space".into()), ..Rebuilt::default() });
    mesh.desk.handle(Input::Rebuilt { job, rebuilt: failed });
    mesh.pass(Period(2 * HOUR.0));
    let (job, ..) = mesh.desk.mending.pop_front().expect("again");
    let shard = stripe().stripe.shards[0];
    let get = Request::Get { shard, offset: 0, len: SHARD_LEN };
    assert!(matches!(mesh.desk.ask(mesh.device, get.clone()), Response::Refused(_)));
    let mended = Some(LaneId(1 << 40));
    mesh.desk.handle(Input::Rebuilt {
        job,
        rebuilt: Box::new(Rebuilt { mended, ..Rebuilt::default() }),
    });
    mesh.answer();
    assert_eq!(mesh.desk.rows(Table::Damaged), 0);
    assert_eq!(mesh.desk.ask(mesh.device, get), Response::Bytes { len: SHARD_LEN });
    assert_eq!(mesh.repair().repaired, 1);
    scrub(&mut mesh, None);
    mesh.pass(Period(30 * HOUR.0));
    assert!(mesh.desk.mending.is_empty() && mesh.ordered().is_none(), "there is peace");
}

#[test]
fn what_cannot_be_mended_says_why_and_bytes_that_nobody_wants_any_more_are_not_kept() {
    let mut mesh = three_and_two_spare();
    mesh.silent.extend([NEIGHBOUR, THIRD]);
    scrub(&mut mesh, Some("its file is gone"));
    mesh.pass(Period::seconds(1800));
    assert!(mesh.desk.mending.is_empty());
    let said = mesh.repair();
    assert_eq!(said.stuck, [("0 other shards can be had now, 1 needed".to_owned(), 1)], "{said:?}");
    mesh.silent.clear();
    mesh.pass(Period(2 * HOUR.0));
    let (job, ..) = mesh.desk.mending.pop_front().expect("there are others again");
    // The disk came back meanwhile.
    scrub(&mut mesh, None);
    let undurable = mesh.desk.undurable();
    let mended = Some(LaneId(1 << 40));
    mesh.desk.handle(Input::Rebuilt {
        job,
        rebuilt: Box::new(Rebuilt { mended, ..Rebuilt::default() }),
    });
    assert_eq!(mesh.desk.undurable(), undurable);
}
