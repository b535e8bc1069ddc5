//! Partners who take more than is theirs: of places, of days, of what is said about others.

use super::cast::*;
use super::desk::{Desk, code};
use super::partners::{
    ITS_NODE, PARTNER, SHARD, desk_with, give, holding, introduced, its_device, its_papers, list,
    operator, say,
};
use crate::certificate::{Authority, NodeCertificate, NodeRecord, Roster, VaultPapers};
use crate::id::NodeId;
use crate::message::{Greeting, Hearsay, NodeStatus, RefusalCode, Request, Response};
use crate::partner::{Introduction, Partner};
use crate::peer::{Input, LinkId, PeerConfig, Table, Write};
use crate::promise::{PromiseHead, PromiseWitness};
use crate::sign::{SecretKey, Signed};
use crate::time::Period;

/// Another partner, and its node.
const OTHER: u8 = 53;
const OTHER_NODE: u8 = 54;
/// Somebody who is no partner.
const THIRD_PARTY: u8 = 57;

const HOUR: Period = Period::seconds(3600);

fn id(name: u8) -> NodeId {
    public(name).into()
}

fn other_partner(agreed: bool) -> Partner {
    let introduction = Introduction {
        operator: operator(OTHER),
        name: "others".into(),
        contacts: Vec::new(),
        issued: EPOCH,
    };
    let agreement = agreed.then(|| super::partners::agreed_with(OTHER, 1 << 20));
    Partner {
        name: "others".into(),
        introduction: Signed::sign(&introduction, &secret(OTHER)),
        agreement,
        ..introduced(None, &[NODE])
    }
}

/// A node of the many that somebody runs.
fn one_of_many(operator: u8, number: u16) -> (SecretKey, Signed<NodeRecord>) {
    let mut seed = [operator; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    let key = SecretKey::from_seed(&seed);
    let certificate = NodeCertificate {
        node: key.public().into(),
        operator: public(operator).into(),
        labels: labels(&["provider=many"]),
        issued: EPOCH,
        expires: EXPIRY,
        authority: Authority::Operator,
    };
    let certificate = Signed::sign(&certificate, &secret(operator));
    let addresses = vec![format!("/memory/{number}")];
    let record = NodeRecord { node: key.public().into(), certificate, addresses, version: 1 };
    let record = Signed::sign(&record, &key);
    (key, record)
}

fn meet(desk: &mut Desk, key: &SecretKey, record: &Signed<NodeRecord>) -> Response {
    let link = desk.connect(key.public(), false);
    let lane = desk.send_greeting(link, Greeting::Node(record.clone()));
    desk.settle();
    desk.reply(lane).expect("a greeting is answered").0
}

fn is_welcome(response: &Response) -> bool {
    matches!(response, Response::Welcome { .. })
}

fn status(desk: &mut Desk, link: LinkId) -> NodeStatus {
    match desk.ask(link, Request::Status) {
        Response::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

fn console(desk: &mut Desk) -> LinkId {
    desk.greet(80, console_greeting_at(NODE, 80, desk.now.wall)).0
}

/// A version of a vault's papers that lists these nodes besides the desk's.
fn listing(
    papers: VaultPapers,
    (vault, version): (u8, u64),
    nodes: &[(SecretKey, Signed<NodeRecord>)],
) -> VaultPapers {
    let certificates = nodes.iter().map(|(_, record)| record.verify().unwrap().certificate);
    let nodes = std::iter::once(node_certificate(OPERATOR, NODE)).chain(certificates).collect();
    let roster = Roster { vault: public(vault).into(), version, nodes };
    VaultPapers { roster: Signed::sign(&roster, &secret(vault)), ..papers }
}

#[test]
fn one_partners_vault_does_not_take_all_places_of_guests() {
    let mut desk = desk_with(vec![introduced(give(1 << 20), &[NODE]), other_partner(true)]);
    let device = its_device(&mut desk);
    // Of two operators: no one has more than 128 nodes here.
    let many: Vec<_> = (0..260u16).map(|n| one_of_many(THIRD_PARTY + (n % 2) as u8, n)).collect();
    let papers = listing(its_papers(), (VAULT, 2), &many);
    assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
    let met = many.iter().filter(|(key, record)| is_welcome(&meet(&mut desk, key, record)));
    assert_eq!(met.count(), 256, "while nobody else needs them it has them all");
    // The other one comes later, and finds room.
    let (link, answer) =
        desk.greet(OTHER_DEVICE, device_greeting(OTHER, OTHER_VAULT, OTHER_DEVICE));
    assert!(is_welcome(&answer), "{answer:?}");
    let theirs: Vec<_> = (1000..1003).map(|n| one_of_many(THIRD_PARTY + 2, n)).collect();
    let papers = VaultPapers {
        certificate: vault_certificate(OTHER, OTHER_VAULT, EXPIRY),
        ..super::cast::papers(OTHER_VAULT, 1, &[NODE])
    };
    let papers = listing(papers, (OTHER_VAULT, 1), &theirs);
    assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
    for (key, record) in &theirs {
        let answer = meet(&mut desk, key, record);
        assert!(is_welcome(&answer), "{answer:?}");
    }
    assert_eq!(desk.rows(Table::Member), 257, "this node and 256 guests");
    // The first one gets back none of what was more than its part.
    let (key, record) = &many[259];
    assert_eq!(code(&meet(&mut desk, key, record)), RefusalCode::Quota);
}

#[test]
fn however_many_operators_read_for_a_partners_vault_they_draw_on_one_pace() {
    let config = PeerConfig { partner_per_second: Some(SHARD), ..PeerConfig::default() };
    let mut desk = Desk::with(config);
    say(&mut desk, &list(1, vec![introduced(give(1 << 20), &[NODE])]));
    let device = its_device(&mut desk);
    let guests = [one_of_many(THIRD_PARTY, 1), one_of_many(THIRD_PARTY + 1, 2)];
    let papers = listing(its_papers(), (VAULT, 1), &guests);
    assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
    let put = super::partners::put(&mut desk, device, 1);
    assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    let links = guests.each_ref().map(|(key, record)| {
        let link = desk.connect(key.public(), false);
        let lane = desk.send_greeting(link, Greeting::Node(record.clone()));
        desk.settle();
        assert!(is_welcome(&desk.reply(lane).expect("a greeting is answered").0));
        link
    });
    let shard = record(VAULT, DEVICE, 1).stripe.shards[0];
    for link in [links[0], links[1], links[0], links[1]] {
        let read = desk.ask(link, Request::Get { shard, offset: 0, len: 64 });
        assert_eq!(read, Response::Bytes { len: 64 });
    }
    let waits: Vec<u64> = desk.waits.iter().map(|wait| wait.0).collect();
    assert_eq!(waits, [0, 0, 0, 1000, 2000]);
}

#[test]
fn whom_a_vault_lists_does_not_keep_the_silence_of_others_counting() {
    let (mut desk, device) = holding(1 << 20);
    let guest = one_of_many(THIRD_PARTY, 1);
    let papers = listing(its_papers(), (VAULT, 2), std::slice::from_ref(&guest));
    assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
    let _ = desk.node(NEIGHBOUR);
    for _ in 0..40 {
        desk.pass(HOUR);
        desk.settle();
        assert!(is_welcome(&meet(&mut desk, &guest.0, &guest.1)));
    }
    let own = console(&mut desk);
    assert_eq!(status(&mut desk, own).repair.lost, [], "this node may be the one that is cut off");
    // Whoever has a say shows that it is not.
    for _ in 0..40 {
        desk.pass(HOUR);
        desk.settle();
        let _ = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    }
    let own = console(&mut desk);
    assert!(status(&mut desk, own).repair.lost.contains(&id(NEIGHBOUR)));
}

#[test]
fn the_operators_own_nodes_make_room_for_nobody() {
    let mut desk = desk_with(vec![introduced(None, &[])]);
    let own: Vec<_> = (0..1024).map(|number| one_of_many(OPERATOR, number)).collect();
    let link = desk.node(NEIGHBOUR);
    for page in own.chunks(256) {
        let records = page.iter().map(|(_, record)| record.clone()).collect();
        let _ = desk.ask(link, Request::Members(records));
    }
    let known = desk.rows(Table::Member);
    assert_eq!(known, 1025, "all there is room for, and this node");
    let (_, answer) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert_eq!(code(&answer), RefusalCode::Quota);
    assert_eq!(desk.rows(Table::Member), known);
}

#[test]
fn a_partner_reads_of_no_other_partners_node_in_what_is_said_of_it() {
    let mut desk = desk_with(vec![introduced(None, &[]), other_partner(false)]);
    let _ = desk.greet(OTHER_NODE, node_greeting(OTHER, OTHER_NODE));
    for _ in 0..30 {
        desk.pass(HOUR);
        desk.settle();
        let _ = desk.node(NEIGHBOUR);
    }
    let witness = PromiseWitness {
        witness: id(OTHER_NODE),
        holder: id(NODE),
        head: PromiseHead::default(),
        witnessed: EPOCH,
    };
    let row = Signed::sign(&witness, &secret(OTHER_NODE));
    let row = Write::row(Table::Countersigned, id(OTHER_NODE).0.to_vec(), &row);
    desk.facts.apply(vec![row]);
    let told = |desk: &mut Desk, link| {
        let is_lost = status(desk, link).repair.lost.contains(&id(OTHER_NODE));
        let Response::Promised(promised) = desk.ask(link, Request::Promised) else { panic!() };
        (is_lost, promised.witnesses.len())
    };
    let own = console(&mut desk);
    assert_eq!(told(&mut desk, own), (true, 1));
    let (theirs, _) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert_eq!(told(&mut desk, theirs), (false, 0));
}

#[test]
fn a_partners_node_is_told_no_more_room_than_its_operator_has() {
    let (mut desk, _) = holding(2 * SHARD);
    let (theirs, _) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert_eq!(status(&mut desk, theirs).room, 2 * SHARD);
    // Its people, who look at this node, are told the same.
    let (looking, _) = desk.greet(STRANGER, console_greeting_at(ITS_NODE, STRANGER, desk.now.wall));
    assert_eq!(status(&mut desk, looking).room, 2 * SHARD);
    let own = console(&mut desk);
    assert_eq!(status(&mut desk, own).room, PeerConfig::default().quota);
    // What it rebuilds of a vault of this operator has the room of that.
    let own = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let nodes = vec![node_certificate(OPERATOR, NODE), node_certificate(PARTNER, ITS_NODE)];
    let roster = Roster { vault: public(OTHER_VAULT).into(), version: 1, nodes };
    let roster = Signed::sign(&roster, &secret(OTHER_VAULT));
    let papers = VaultPapers { roster, ..papers(OTHER_VAULT, 1, &[NODE]) };
    assert_eq!(desk.ask(own, Request::Introduce(papers)), Response::Done);
    assert_eq!(status(&mut desk, theirs).room, PeerConfig::default().quota);
}

/// A vault of the partner's, and a device of it.
fn further_vault(desk: &mut Desk, vault: u8) -> (LinkId, VaultPapers) {
    let device = vault + 50;
    let (link, answer) = desk.greet(device, device_greeting(PARTNER, vault, device));
    assert!(is_welcome(&answer), "{answer:?}");
    let certificate = vault_certificate(PARTNER, vault, EXPIRY);
    (link, VaultPapers { certificate, ..papers(vault, 1, &[NODE, ITS_NODE]) })
}

#[test]
fn many_vaults_bring_a_partner_no_more_log_than_a_few() {
    let mut desk = desk_with(vec![introduced(give(1 << 20), &[NODE])]);
    let (mut all, day) = (0, 64 << 20);
    for vault in 100..110 {
        let (link, papers) = further_vault(&mut desk, vault);
        assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
        while desk.peer.spend_log(desk.now, public(vault).into(), 32 << 20).is_ok() {
            all += 32 << 20;
        }
    }
    // A little went for the papers themselves.
    assert!((15 * day..=16 * day).contains(&all), "{all}");
    desk.pass(Period::days(1));
    let own = desk.device(OTHER_VAULT, OTHER_DEVICE);
    let papers = papers(OTHER_VAULT, 1, &[NODE]);
    assert_eq!(desk.ask(own, Request::Introduce(papers)), Response::Done);
    let vault = public(OTHER_VAULT).into();
    assert!(desk.peer.spend_log(desk.now, vault, 128 << 20).is_ok(), "that is nobody else's");
}

#[test]
fn a_vault_whose_papers_were_not_stored_is_nobodys() {
    let mut desk = desk_with(vec![introduced(give(1 << 20), &[NODE])]);
    // As many as a partner may have, and one more: each fails to be stored.
    for vault in 100..133 {
        let (link, papers) = further_vault(&mut desk, vault);
        let lane = desk.send(link, Request::Introduce(papers));
        assert!(desk.fail_one());
        desk.settle();
        let (answer, _) = desk.reply(lane).expect("an answer");
        assert_eq!(code(&answer), RefusalCode::Internal, "{vault}");
    }
    let (link, papers) = further_vault(&mut desk, 133);
    assert_eq!(desk.ask(link, Request::Introduce(papers)), Response::Done);
}

#[test]
fn what_a_removed_partners_nodes_said_counts_no_more() {
    let mut desk = desk_with(vec![introduced(None, &[]), other_partner(false)]);
    let _ = desk.node(NEIGHBOUR);
    // Both say that they hear a node that this one does not.
    for _ in 0..30 {
        desk.pass(HOUR);
        desk.settle();
        for (operator, node) in [(PARTNER, ITS_NODE), (OTHER, OTHER_NODE)] {
            let (link, answer) = desk.greet(node, node_greeting(operator, node));
            assert!(is_welcome(&answer), "{answer:?}");
            desk.pass(Period::seconds(31));
            let asked = std::mem::take(&mut desk.called).into_iter();
            for (call, on, request) in asked {
                if let Request::Hearsay { of } = request
                    && on == link
                {
                    let ages = vec![Some(Period(0)); of.len()];
                    let said = Hearsay { ages, room: 0, leaves: false };
                    let response = Some(Box::new(Response::Hearsay(said)));
                    desk.handle(Input::Answer { call, response });
                }
            }
        }
    }
    let own = console(&mut desk);
    assert_eq!(status(&mut desk, own).repair.lost, [], "most operators heard it");
    say(&mut desk, &list(2, Vec::new()));
    desk.pass(HOUR);
    let own = console(&mut desk);
    assert_eq!(status(&mut desk, own).repair.lost, [id(NEIGHBOUR)]);
}
