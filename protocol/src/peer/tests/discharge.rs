//! Stories of discharges: a copy too many goes, once its lock and a cooldown are over and all of its stripe is with others; and not before.

use super::cast::*;
use super::desk::{Desk, code};
use super::repair::{FIFTH, FOURTH, HOUR, Mesh, id, stripe};
use crate::discharge::Discharge;
use crate::message::{Outcome, RefusalCode, Released, Request, Response};
use crate::peer::{LinkId, Note, Table};
use crate::policy::{Lock, Policy};
use crate::record::Record;
use crate::release::ReleaseRequest;
use crate::sign::Signed;
use crate::time::Period;

const DAY: Period = Period::days(1);

/// A stripe whose locks last for a day, and the cooldown for another one.
fn short() -> Record {
    let policy = Policy::survive_one("provider");
    let lock = Lock { period: DAY, release_cooldown: DAY, ..policy.lock.clone() };
    Record { policy: Policy { lock, ..policy }, ..stripe() }
}

/// The node holds shard 0, and these hold others.
fn mesh(has: &[(u8, Option<u16>)]) -> Mesh {
    let mut mesh = Mesh::without(&short(), has);
    let put = mesh.desk.put(mesh.device, &short(), 0, &shard_bytes(1, 0));
    assert!(matches!(put, Response::Receipt(_)), "{put:?}");
    mesh
}

/// All shards lie with others as well.
fn spared() -> Mesh {
    mesh(&[(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, Some(0)), (FIFTH, None)])
}

fn discharge(desk: &Desk, node: u8) -> Signed<Discharge> {
    let issued = desk.now.wall;
    let (vault, stripes) = (public(VAULT).into(), vec![short().stripe.id()]);
    let request =
        ReleaseRequest { vault, issued, expires: issued.after(Period::days(30)), stripes };
    Signed::sign(&Discharge { node: id(node), request }, &secret(VAULT))
}

fn ask(desk: &mut Desk, link: LinkId, discharge: &Signed<Discharge>) -> Outcome {
    let request =
        Request::Discharge { discharge: discharge.clone(), approvals: Vec::new(), from: 0 };
    match desk.ask(link, request) {
        Response::Released(Released { outcomes, next: None }) if outcomes.len() == 1 => {
            outcomes.into_iter().next().unwrap().1
        }
        other => panic!("{other:?}"),
    }
}

/// Its lock has ended, and it cools.
fn begin(mesh: &mut Mesh) -> Signed<Discharge> {
    mesh.pass(DAY);
    let asked = discharge(&mesh.desk, NODE);
    let outcome = ask(&mut mesh.desk, mesh.device, &asked);
    assert_eq!(outcome, Outcome::Cooling { remaining: DAY });
    asked
}

fn is_shown(desk: &mut Desk, link: LinkId) -> bool {
    let request =
        Request::Records { vault: public(VAULT).into(), stripes: vec![short().stripe.id()] };
    match desk.ask(link, request) {
        Response::Records(found) => found[0].as_ref().is_some_and(|held| held.receipt.is_some()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_copy_too_many_goes_after_its_lock_and_a_cooldown_and_meanwhile_no_node_counts_on_it() {
    let mut mesh = spared();
    let (device, node) = (mesh.device, mesh.links[&THIRD]);
    let early = discharge(&mesh.desk, NODE);
    let locked = ask(&mut mesh.desk, device, &early);
    assert_eq!(locked, Outcome::Locked { remaining: DAY });
    assert!(is_shown(&mut mesh.desk, node));
    begin(&mut mesh);
    assert!(!is_shown(&mut mesh.desk, node));
    assert!(is_shown(&mut mesh.desk, device), "to whom it belongs it is still held");
    assert!(
        mesh.desk.called.iter().all(|(.., request)| !matches!(request, Request::Discharge { .. }))
    );
    mesh.pass(Period(23 * HOUR.0));
    assert_eq!(mesh.desk.gone, []);
    mesh.pass(Period(2 * HOUR.0));
    assert_eq!(mesh.desk.gone, [short().stripe.shards[0]]);
    assert_eq!(mesh.desk.usage(VAULT).shards, 0);
    assert!(mesh.ordered().is_none(), "nothing was lost by it");
    mesh.pass(Period::days(3));
    assert_eq!(mesh.desk.rows(Table::Discharge), 0, "it is forgotten");
}

#[test]
fn what_nobody_else_has_stays_until_it_is_rebuilt_elsewhere() {
    let mut mesh = mesh(&[(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, None), (FIFTH, None)]);
    begin(&mut mesh);
    mesh.pass(Period(12 * HOUR.0));
    let (job, signed, sources, targets) = mesh.ordered().expect("it is copied");
    let [target] = targets[..] else { panic!("{targets:?}") };
    assert_eq!((target.index, sources[0].node), (0, id(NODE)));
    mesh.pass(Period::days(5));
    assert_eq!(mesh.desk.gone, [], "long after its time");
    mesh.rebuild(job, &signed.verify().unwrap(), &targets);
    mesh.pass(Period(4 * HOUR.0));
    assert_eq!(mesh.desk.gone, [short().stripe.shards[0]]);
}

#[test]
fn of_two_that_are_discharged_of_one_shard_one_stays_though_neither_knows_of_the_other() {
    // The other one shows no promise, as one does that is discharged.
    let mut mesh = mesh(&[(NEIGHBOUR, Some(1)), (THIRD, Some(2))]);
    let asked = begin(&mut mesh);
    mesh.pass(Period::days(8));
    assert_eq!(mesh.desk.gone, []);
    let mut mesh = mesh.restart();
    mesh.pass(Period::days(8));
    assert_eq!(mesh.desk.gone, [], "a restart makes no release of it");
    assert_eq!(mesh.desk.rows(Table::Discharge), 1);
    // It was found out before: somebody who had it has lost it since.
    let outcome = ask(&mut mesh.desk, mesh.device, &asked);
    assert!(matches!(outcome, Outcome::Cooling { .. }), "{outcome:?}");
}

#[test]
fn what_was_found_before_it_was_discharged_does_not_count() {
    let mut mesh = mesh(&[(NEIGHBOUR, Some(1)), (THIRD, Some(2)), (FOURTH, Some(0))]);
    mesh.pass(DAY);
    // All is well, and known to be: FOURTH has the shard too.
    let asked = discharge(&mesh.desk, NODE);
    mesh.silent.insert(FOURTH);
    let outcome = ask(&mut mesh.desk, mesh.device, &asked);
    assert!(matches!(outcome, Outcome::Cooling { .. }), "{outcome:?}");
    mesh.pass(Period::days(4));
    assert_eq!(mesh.desk.gone, [], "nobody shows that shard");
    mesh.silent.clear();
    mesh.pass(Period::days(2));
    assert_eq!(mesh.desk.gone, [short().stripe.shards[0]]);
}

#[test]
fn it_is_void_once_the_lock_is_extended_and_concerns_the_node_that_it_names() {
    let mut mesh = spared();
    begin(&mut mesh);
    let (vault, stripes) = (public(VAULT).into(), vec![short().stripe.id()]);
    let extended = mesh.desk.ask(mesh.device, Request::Extend { vault, stripes });
    assert_eq!(extended, Response::Extended(vec![Some(DAY)]));
    let node = mesh.links[&THIRD];
    assert!(is_shown(&mut mesh.desk, node));
    mesh.pass(Period::days(4));
    assert_eq!(mesh.desk.gone, []);
    let others = discharge(&mesh.desk, FOURTH);
    let request = Request::Discharge { discharge: others, approvals: Vec::new(), from: 0 };
    assert_eq!(code(&mesh.desk.ask(mesh.device, request)), RefusalCode::Malformed);
    assert!(!mesh.desk.notes.iter().any(|note| matches!(note, Note::Dropped { .. })));
}
