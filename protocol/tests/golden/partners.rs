//! Introductions, agreements and lists of partners, and what is said of them.

use super::{NOW, hex, statement, stored, value};
use protocol::agreement::{Acceptance, Agreement, Side};
use protocol::id::{NodeId, OperatorId};
use protocol::label::Labels;
use protocol::message::{HeldFor, PartnerStatus, Request, Response};
use protocol::partner::{Contact, Introduction, Partner, PartnerList};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Period;

#[test]
fn partners_are_read_as_ever() {
    let (own, partner) = (SecretKey::from_seed(&[0x90; 32]), SecretKey::from_seed(&[0x91; 32]));
    let [operator, other] = [&own, &partner].map(|key| OperatorId::from(key.public()));
    let contact = Contact {
        node: NodeId([0x92; 32]),
        addresses: vec!["/ip4/192.0.2.1/tcp/7440".into(), "/dns/n.example.org/tcp/7440".into()],
    };
    let introduction =
        Introduction { operator: other, name: "Them".into(), contacts: vec![contact], issued: NOW };
    statement("introduction-v1.bin", &introduction, &partner);

    let labels = Labels::new(["provider=hetzner".parse().unwrap()]).unwrap();
    let agreement = Agreement {
        first: Side { operator, gives: 500 << 30, labels },
        second: Side { operator: other, gives: 400 << 30, labels: Labels::default() },
        version: 3,
        start: NOW,
        term: Period::days(365),
        notice: Period::days(30),
        lock_max: Period::days(90),
    };
    statement("agreement-v1.bin", &agreement, &own);
    let acceptance = Acceptance { operator: other, agreement: Signed::sign(&agreement, &own) };
    statement("agreement-acceptance-v1.bin", &acceptance, &partner);
    let accepted = Signed::sign(&acceptance, &partner);
    assert_eq!(Acceptance::verify(&accepted).unwrap(), agreement);

    let listed = Partner {
        name: "them".into(),
        introduction: Signed::sign(&introduction, &partner),
        added: NOW,
        agreement: Some(accepted),
        holders: vec![NodeId([0x93; 32]), NodeId([0x94; 32])],
    };
    let list = PartnerList { operator, version: 7, partners: vec![listed] };
    statement("partner-list-v1.bin", &list, &own);
    let signed = Signed::sign(&list, &own);
    assert_eq!(PartnerList::verify(&signed, operator).unwrap().version, 7);

    value("request-partners-v1.bin", &Request::Partners { known: 6 });
    value("request-take-partners-v1.bin", &Request::TakePartners(Box::new(signed.clone())));
    let held = vec![HeldFor { operator: other, bytes: 1 << 20, share: 1 << 30 }];
    let status = PartnerStatus { version: 7, list: Some(signed), held };
    let written = Response::Partners(Box::new(status)).encode().1;
    assert_eq!(hex(&stored("response-partners-v1.bin", &written)), hex(&written));
    assert_eq!(Response::decode(&written).unwrap().encode().1, written);
}
