//! Introductions, agreements and lists of partners, statements of months, notices, and what is said of them.

use super::{NOW, hex, statement, stored, value};
use protocol::agreement::{Acceptance, Agreement, Side};
use protocol::certificate::{Authority, NodeCertificate};
use protocol::evidence::{Cloud, Document, Vouch};
use protocol::id::{NodeId, OperatorId, VaultId};
use protocol::label::Labels;
use protocol::lock_clock::LockTime;
use protocol::message::{
    Frozen, HeldFor, PartnerStanding, PartnerStatus, Request, Response, Stated, VaultHeld,
};
use protocol::notice::{Breach, Cause, Notice, NoticeRow};
use protocol::partner::{Contact, Introduction, Partner, PartnerList};
use protocol::peer::{DeniedRow, MiscountRow, ServedRow, Usage};
use protocol::served::ServiceReceipt;
use protocol::sign::{SecretKey, Signed};
use protocol::tally::{Amount, Countersigned, Done, Month, Months, Tally, UsageStatement};
use protocol::time::Period;

#[test]
fn vouches_are_read_as_ever() {
    let (operator, other, node) = ([0x90; 32], [0x91; 32], NodeId([0x92; 32]));
    let [operator, other] = [operator, other].map(|seed| SecretKey::from_seed(&seed));
    let labels = ["provider=aws".parse().unwrap(), "region=eu-west-1".parse().unwrap()];
    let labels = Labels::new(labels).unwrap();
    let document = Document {
        cloud: Cloud::Azure,
        text: b"{ }".to_vec().into(),
        signature: b"signed".to_vec().into(),
    };
    let vouch = Vouch {
        by: other.public().into(),
        node,
        labels: labels.clone(),
        document: None,
        issued: NOW,
        expires: NOW.after(Period::days(365)),
    };
    statement("vouch-v1.bin", &vouch, &other);
    let attested = Vouch { document: Some(document), ..vouch.clone() };
    statement("vouch-document-v1.bin", &attested, &other);
    let vouches = vec![Signed::sign(&vouch, &other), Signed::sign(&attested, &other)];
    let certificate = NodeCertificate {
        node,
        operator: operator.public().into(),
        labels,
        issued: NOW,
        expires: NOW.after(Period::days(365)),
        authority: Authority::Shown { vouches },
    };
    statement("node-certificate-shown-v1.bin", &certificate, &operator);
    let signed = Signed::sign(&certificate, &operator);
    let read = NodeCertificate::verify(&signed, NOW).unwrap();
    assert_eq!(read.vouches().collect::<Vec<_>>(), [vouch, attested]);
    assert_eq!(read.site().evidence.backings().len(), 4);
}

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

#[test]
fn statements_of_months_are_read_as_ever() {
    let (holder, owner) = (SecretKey::from_seed(&[0x95; 32]), SecretKey::from_seed(&[0x96; 32]));
    let (vault, month) = (VaultId([0x97; 32]), Month::of(NOW));
    let amount = |bytes| Amount { shards: 1, bytes };
    let mut months = Months::default();
    months.add(Tally::came(amount(4 << 20), NOW));
    months.add(Tally::came(amount(1 << 40), NOW.after(Period::days(1))));
    months.add(Tally::went(amount(4 << 20), NOW.after(Period::days(2))));
    let tally = months.get(month);
    let written = protocol::codec::encode(&tally);
    let read = stored("tally-v1b.bin", &written);
    assert_eq!(hex(&read), hex(&written));
    assert_eq!(protocol::codec::decode_canonical::<Tally>(&read, 1000).unwrap(), tally);
    // As it was written while a holder counted itself what it did: the same but for that, which nothing states any more.
    let earlier = stored("tally-v1.bin", &written);
    let earlier: Tally = protocol::codec::decode_canonical(&earlier, 1000).unwrap();
    let figures = |tally| {
        let mut months = Months::default();
        months.insert(month, tally);
        months.figures(month, month.end())
    };
    assert_eq!(figures(earlier), figures(tally));
    let done = Done { received: 1 << 40, sent: 5, proved: 1000, unproved: 3 };

    let operator = OperatorId::from(owner.public());
    let who = (NodeId::from(holder.public()), vault, operator);
    let said = UsageStatement::of(who, &months, month, done, NOW.after(Period::days(3))).unwrap();
    statement("usage-statement-v1.bin", &said, &holder);
    let signed = Signed::sign(&said, &holder);
    let agreed = Countersigned { operator, statement: signed.clone() };
    statement("usage-countersigned-v1.bin", &agreed, &owner);
    let agreed = Signed::sign(&agreed, &owner);
    assert_eq!(Countersigned::verify(&agreed).unwrap(), said);

    value("request-statements-v1.bin", &Request::Statements { month });
    value("request-countersign-v1.bin", &Request::Countersign(Box::new(agreed.clone())));
    let stated = vec![Stated { statement: signed, countersigned: Some(agreed) }];
    let written = Response::Statements(stated).encode().1;
    assert_eq!(hex(&stored("response-statements-v1.bin", &written)), hex(&written));
    assert_eq!(Response::decode(&written).unwrap().encode().1, written);
}

#[test]
fn receipts_for_service_are_read_as_ever() {
    let (giver, holder) = (SecretKey::from_seed(&[0x9b; 32]), NodeId([0x9c; 32]));
    let (vault, month) = (VaultId([0x97; 32]), Month::of(NOW));
    let who = (giver.public(), holder, vault);
    let done = Done { received: 1 << 40, sent: 5, proved: 1000, unproved: 3 };
    let first = ServiceReceipt::next(who, month, None, done);
    let receipt = ServiceReceipt::next(who, month, Some(&first), done);
    statement("service-receipt-v1.bin", &receipt, &giver);
    let signed = Signed::sign(&receipt, &giver);
    let row = ServedRow { number: 2, done: receipt.done, receipt: signed.clone() };
    let read = stored("served-row-v1.bin", &protocol::codec::encode(&row));
    assert_eq!(protocol::codec::decode_canonical::<ServedRow>(&read, 1000).unwrap(), row);
    value("request-served-v1.bin", &Request::Served(Box::new(signed.clone())));
    let after = Some((holder, giver.public()));
    value("request-services-v1.bin", &Request::Services { vault, month, after });
    value("response-served-v1.bin", &Response::Served(Box::new(signed.clone())));
    value("response-services-v1.bin", &Response::Services { receipts: vec![signed], more: true });
}

#[test]
fn what_is_kept_of_wrong_sums_is_read_as_ever() {
    let kept = Usage { bytes: 1 << 33, shards: 2049 };
    let counted = Usage { bytes: 1 << 32, shards: 1024 };
    let row = MiscountRow { found: NOW, kept, counted };
    let read = stored("miscount-row-v1.bin", &protocol::codec::encode(&row));
    assert_eq!(protocol::codec::decode_canonical::<MiscountRow>(&read, 100).unwrap(), row);
}

#[test]
fn what_is_denied_is_read_as_ever() {
    let row = DeniedRow { vault: VaultId([0x93; 32]), until: LockTime(86_400_000) };
    let read = stored("denied-row-v1.bin", &protocol::codec::encode(&row));
    assert_eq!(protocol::codec::decode_canonical::<DeniedRow>(&read, 100).unwrap(), row);
}

#[test]
fn notices_and_breaches_are_read_as_ever() {
    let (own, partner) = (SecretKey::from_seed(&[0x98; 32]), SecretKey::from_seed(&[0x99; 32]));
    let [leaver, other] = [&own, &partner].map(|key| OperatorId::from(key.public()));
    let notice = Notice { leaver, other, version: 3, given: NOW };
    statement("agreement-notice-v1.bin", &notice, &own);
    let signed = Signed::sign(&notice, &own);
    let row = NoticeRow { notice: signed.clone(), received: NOW.after(Period::days(2)) };
    let written = protocol::codec::encode(&row);
    let read = stored("notice-row-v1.bin", &written);
    assert_eq!(hex(&read), hex(&written));
    assert_eq!(protocol::codec::decode_canonical::<NoticeRow>(&read, 1000).unwrap(), row);
    let breaches = [(Cause::Unproved, "unproved"), (Cause::Absent, "absent")];
    for (cause, name) in breaches {
        let breach = Breach { cause, since: LockTime(86_400_000) };
        let written = protocol::codec::encode(&breach);
        let read = stored(&format!("breach-{name}-v1.bin"), &written);
        assert_eq!(hex(&read), hex(&written));
        assert_eq!(protocol::codec::decode_canonical::<Breach>(&read, 100).unwrap(), breach);
    }
    value("request-give-notice-v1.bin", &Request::GiveNotice(Box::new(signed.clone())));
    value("request-standings-v1.bin", &Request::Standings);
    let (ago, moves_in) = (Period::days(2), Some(Period::days(28)));
    let standing = PartnerStanding {
        operator: other,
        frozen: Some(Frozen { cause: Cause::Absent, ago, moves_in }),
        notices: vec![signed],
        ends: Some(NOW.after(Period::days(30))),
        is_over: false,
        vaults: vec![VaultHeld { vault: VaultId([0x9a; 32]), bytes: 7, quota: Some(1 << 40) }],
        waiting: 12,
        stuck: 3,
        is_counted: true,
        per_second: Some(10 << 20),
    };
    let written = Response::Standings(vec![standing]).encode().1;
    assert_eq!(hex(&stored("response-standings-v1.bin", &written)), hex(&written));
    assert_eq!(Response::decode(&written).unwrap().encode().1, written);
}
