//! Stories of labels: how well they are shown to be true for those who hold for a vault, and what contradicts an agreement.

use super::cast::*;
use super::desk::Desk;
use super::partners::{ITS_NODE, PARTNER, introduced, list, operator, say};
use crate::agreement::{Acceptance, Agreement, Side};
use crate::certificate::{Authority, NodeCertificate, NodeRecord, Roster, VaultPapers};
use crate::evidence::{Evidence, Vouch};
use crate::id::NodeId;
use crate::label::{Labels, Level};
use crate::message::{Greeting, Request, Response};
use crate::peer::{MemoryFacts, Note, PeerConfig};
use crate::sign::Signed;
use crate::time::Period;

fn id(name: u8) -> NodeId {
    public(name).into()
}

/// What the desk's peer takes for shown of a node's provider, for a vault.
fn seen(desk: &Desk, vault: u8, node: u8) -> Option<Evidence> {
    let seen = desk.peer.seen_for(desk.now, &desk.facts, public(vault).into()).unwrap();
    seen.get(&id(node)).map(|site| site.evidence.of(&Level::new("provider").unwrap()))
}

/// A neighbour of another operator, for whose provider somebody vouches.
fn vouched_by(voucher: u8) -> Signed<NodeCertificate> {
    let vouch = Vouch {
        by: operator(voucher),
        node: id(NEIGHBOUR),
        labels: labels(&["provider=p3"]),
        document: None,
        issued: EPOCH,
        expires: EPOCH.after(Period::days(10)),
    };
    let plain = node_certificate(FOREIGN_OPERATOR, NEIGHBOUR).verify().unwrap();
    let authority = Authority::Shown { vouches: vec![Signed::sign(&vouch, &secret(voucher))] };
    Signed::sign(&NodeCertificate { authority, ..plain }, &secret(FOREIGN_OPERATOR))
}

fn meeting(certificate: &Signed<NodeCertificate>) -> Desk {
    let (facts, config) = (MemoryFacts::default(), PeerConfig::default());
    let trusted = [OPERATOR, FOREIGN_OPERATOR];
    let mut desk = Desk::trusting(&trusted, NODE, facts, config, at(Period(0)));
    let device = desk.device(VAULT, DEVICE);
    let nodes = vec![node_certificate(OPERATOR, NODE), certificate.clone()];
    let roster = Roster { vault: public(VAULT).into(), version: 2, nodes };
    let roster = Signed::sign(&roster, &secret(VAULT));
    let papers = VaultPapers { roster, ..papers(VAULT, 2, &[NODE, NEIGHBOUR]) };
    assert_eq!(desk.ask(device, Request::Introduce(papers)), Response::Done);
    let record = NodeRecord {
        node: id(NEIGHBOUR),
        certificate: certificate.clone(),
        addresses: Vec::new(),
        version: 5,
    };
    let greeting = Greeting::Node(Signed::sign(&record, &secret(NEIGHBOUR)));
    let (_, answer) = desk.greet(NEIGHBOUR, greeting);
    assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
    desk.settle();
    desk
}

#[test]
fn whose_nodes_the_roster_lists_may_vouch_for_others_and_nobody_else() {
    let mut desk = meeting(&vouched_by(OPERATOR));
    assert_eq!(seen(&desk, VAULT, NEIGHBOUR), Some(Evidence::Vouched));
    desk.pass(Period::days(11));
    assert_eq!(seen(&desk, VAULT, NEIGHBOUR), Some(Evidence::Signed), "it has ended");
    let desk = meeting(&vouched_by(STRANGER));
    assert_eq!(seen(&desk, VAULT, NEIGHBOUR), Some(Evidence::Signed), "of no node listed");
    // What an operator says of its own node is what its certificate says already.
    let desk = meeting(&vouched_by(FOREIGN_OPERATOR));
    assert_eq!(seen(&desk, VAULT, NEIGHBOUR), None);
}

fn agreed(version: u64, labels: Labels) -> Signed<Acceptance> {
    let agreement = Agreement {
        first: Side { operator: operator(OPERATOR), gives: 1 << 30, labels: Labels::default() },
        second: Side { operator: operator(PARTNER), gives: 1 << 30, labels },
        version,
        start: EPOCH,
        term: Period::days(300),
        notice: Period::days(1),
        lock_max: Period::days(90),
    };
    let agreement = Signed::sign(&agreement, &secret(OPERATOR));
    Signed::sign(&Acceptance { operator: operator(PARTNER), agreement }, &secret(PARTNER))
}

fn mislabelled(desk: &Desk) -> Vec<&Note> {
    desk.notes.iter().filter(|note| matches!(note, Note::Mislabelled { .. })).collect()
}

#[test]
fn a_partners_node_that_lies_elsewhere_than_agreed_is_named_and_counts_as_unknown_for_the_own_vaults()
 {
    let mut desk = Desk::new();
    let as_it_is = labels(&["provider=p51"]);
    say(&mut desk, &list(1, vec![introduced(Some(agreed(1, as_it_is.clone())), &[NODE])]));
    let (_, answer) = desk.greet(ITS_NODE, node_greeting(PARTNER, ITS_NODE));
    assert!(matches!(answer, Response::Welcome { .. }), "{answer:?}");
    let (link, _) = desk.greet(DEVICE, device_greeting(PARTNER, VAULT, DEVICE));
    let certificate = vault_certificate(PARTNER, VAULT, EXPIRY);
    let its_papers = VaultPapers { certificate, ..papers(VAULT, 1, &[NODE, ITS_NODE]) };
    assert_eq!(desk.ask(link, Request::Introduce(its_papers)), Response::Done);
    assert_eq!(mislabelled(&desk), Vec::<&Note>::new());
    assert_eq!(seen(&desk, OTHER_VAULT, ITS_NODE), None);

    let elsewhere = labels(&["provider=elsewhere"]);
    say(&mut desk, &list(2, vec![introduced(Some(agreed(2, elsewhere)), &[NODE])]));
    let what = "it states provider=p51, and elsewhere was agreed".to_owned();
    assert_eq!(mislabelled(&desk), [&Note::Mislabelled { node: id(ITS_NODE), what }]);
    assert_eq!(seen(&desk, OTHER_VAULT, ITS_NODE), Some(Evidence::Contradicted));
    assert_eq!(seen(&desk, VAULT, ITS_NODE), None, "its own vault has its own agreements");
    // It is said once, and again after a restart.
    let _ = desk.greet(ITS_NODE, Greeting::Node(node_record(PARTNER, ITS_NODE, 9)));
    assert_eq!(mislabelled(&desk).len(), 1);
    let mut desk = desk.restart();
    desk.settle();
    assert_eq!(mislabelled(&desk).len(), 1);

    say(&mut desk, &list(3, vec![introduced(Some(agreed(3, as_it_is)), &[NODE])]));
    assert_eq!(seen(&desk, OTHER_VAULT, ITS_NODE), None);
    assert_eq!(mislabelled(&desk).len(), 1);
}
