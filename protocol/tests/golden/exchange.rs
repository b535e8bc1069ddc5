//! What nodes tell each other to bring each other up to date, and chains of promises.

use super::{hex, statement, stored, value};
use protocol::id::{DeviceId, EntryId, NodeId, OperatorId, StripeId, VaultId};
use protocol::leave::paper::{Digest, List, Part};
use protocol::leave::{Page, Word};
use protocol::lock_clock::BootId;
use protocol::log::Head;
use protocol::message::{
    Contradiction, LeaveSigner, LeaveStatus, LogEnd, Promised, Request, Response, VaultDigest,
};
use protocol::peer::{PromiseRow, SetBack, WitnessedRow};
use protocol::promise::{PromiseHead, PromiseStatement, PromiseWitness};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Wall;

fn key() -> SecretKey {
    SecretKey::from_seed(&[0x71; 32])
}

fn said(run: u8, began: PromiseHead, head: PromiseHead) -> PromiseStatement {
    let (holder, asker) = (NodeId::from(key().public()), NodeId([0x72; 32]));
    PromiseStatement { holder, asker, nonce: [0x73; 16], run: BootId([run; 16]), began, head }
}

#[test]
fn a_node_that_leaves_is_understood_as_ever() {
    let stuck = vec![("no room".to_owned(), 2)];
    let signer =
        LeaveSigner { node: NodeId([0x7c; 32]), operator: OperatorId([0x7d; 32]), stripes: 27 };
    let (is_counted, signers) = (true, vec![signer]);
    value(
        "leave-status-v2.bin",
        &LeaveStatus { is_counted, stripes: 40, left: 12, below: 3, stuck, unsigned: 1, signers },
    );
    let held = vec![(StripeId([0x7e; 32]), 3), (StripeId([0x7f; 32]), 0)];
    let (leaver, page) = (NodeId([0x72; 32]), Page { vault: VaultId([0x75; 32]), held });
    let signed = Word::sign(&page, leaver, Wall(1_800_000_000_000), &key(), |place| place == 1);
    statement("may-leave-v1.bin", &signed.clone().unwrap().verify().unwrap(), &key());
    value("request-may-leave-v1.bin", &Request::MayLeave(page.clone()));
    value("request-leave-paper-v1.bin", &Request::LeavePaper { part: 2 });
    value("response-may-leave-v1.bin", &Response::MayLeave(signed.clone()));
    let mut digest = Digest::default();
    digest.update(page.digest());
    let (made, digest) = (Wall(1_800_000_000_000), digest.finish());
    let list = List { node: key().public().into(), made, stripes: 2, digest };
    statement("leave-list-v1.bin", &list, &key());
    value("leave-page-v1.bin", &Part::Page { page, words: signed.into_iter().collect() });
    let end = Part::End(Signed::sign(&list, &key()));
    value("response-leave-paper-v1.bin", &Response::LeavePaper(Some(Box::new(end))));
}

#[test]
fn promises_are_chained_as_ever() {
    let first = PromiseHead::default().next(b"a receipt");
    let second = first.next(b"a longer lock");
    value("promise-heads-v1.bin", &[first, second]);
    let (witness, holder) = (NodeId::from(key().public()), NodeId([0x74; 32]));
    let seen = PromiseWitness { witness, holder, head: second, witnessed: Wall(1_800_000_000_000) };
    statement("promise-head-v1.bin", &said(1, first, second), &key());
    statement("promise-witness-v1.bin", &seen, &key());
    let set_back = SetBack { shown: second, began: first, by: holder };
    value("promise-row-v1.bin", &PromiseRow { head: second, set_back: None, renews: false });
    let row = PromiseRow { head: first, set_back: Some(set_back), renews: true };
    value("promise-row-set-back-v1.bin", &row);
    let signed = |statement: &PromiseStatement| Signed::sign(statement, &key());
    let before = signed(&said(1, PromiseHead::default(), second));
    let after = signed(&said(2, first, first));
    let contradiction = Some(Contradiction { before: before.clone(), after, stands: true });
    value(
        "witnessed-row-v1.bin",
        &WitnessedRow { said: before, witnessed: Wall(1_800_000_000_000), contradiction },
    );
}

#[test]
fn nodes_understand_each_other_as_ever() {
    let (vault, device) = (VaultId([0x75; 32]), DeviceId([0x76; 32]));
    let zero = PromiseHead::default();
    let known = Signed::sign(&said(1, zero, zero.next(b"x")), &key());
    let (nonce, witness) = ([0x77; 16], None);
    let requests = [
        Request::Vaults,
        Request::Holdings(vault),
        Request::Logs(vault),
        Request::Entries { vault, device, from: 7 },
        Request::Forks { vault, device },
        Request::PromiseHead { nonce, known: Some(known.clone()), witness },
        Request::Promised,
        Request::Namings(vault),
    ];
    for (number, request) in requests.into_iter().enumerate() {
        let written = request.encode().1;
        let stored = stored(&format!("request-exchange-{number}-v1.bin"), &written);
        assert_eq!(hex(&stored), hex(&written), "{request:?}");
        assert_eq!(Request::decode(&stored).unwrap(), request);
    }
    let head = Some(Head { seq: 6, entry: EntryId([0x78; 32]) });
    let end = LogEnd { device, head, forks: vec![EntryId([0x79; 32])] };
    let promised = Promised {
        head: zero,
        set_back: Some(zero.next(b"x")),
        awaits: true,
        witnesses: vec![],
        contradictions: vec![],
    };
    let responses = [
        Response::Vaults(vec![VaultDigest { vault, papers: [0x7a; 32], logs: [0x7b; 32] }]),
        Response::Holdings(None),
        Response::Logs(vec![end]),
        Response::Entries(vec![]),
        Response::PromiseHead(known),
        Response::Promised(Box::new(promised)),
        Response::Namings(vec![]),
    ];
    for (number, response) in responses.into_iter().enumerate() {
        let written = response.encode().1;
        let stored = stored(&format!("response-exchange-{number}-v1.bin"), &written);
        assert_eq!(hex(&stored), hex(&written), "{response:?}");
        assert_eq!(Response::decode(&stored).unwrap(), response);
    }
}
