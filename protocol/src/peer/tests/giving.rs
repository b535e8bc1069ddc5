//! Stories of giving: a node that is nearly full has some of its shards copied to emptier ones.

use super::cast::*;
use super::repair::*;
use crate::id::StripeId;
use crate::peer::{Note, PeerConfig, Source, Table};
use crate::repair::gives;
use crate::time::Period;
use std::collections::BTreeSet;

/// Stripes that the node holds a shard of; they take up its quota.
const STRIPES: u8 = 40;
/// As long as it takes until each stripe was asked about once.
const PATROL: Period = Period::days(9);

fn quota(parts: u64) -> u64 {
    u64::from(SHARD_LEN) * parts
}

/// Three holders of forty stripes, and two nodes that have nothing.
fn mesh(quota: u64) -> Mesh {
    let has = [(NEIGHBOUR, None), (THIRD, None), (FOURTH, None), (FIFTH, None)];
    let config = PeerConfig { quota, ..PeerConfig::default() };
    let mut mesh = Mesh::configured(&stripe(), &has, |_| OPERATOR, config);
    for number in 1..=STRIPES {
        mesh.add(&record(VAULT, DEVICE, number), &shard_bytes(number, 0));
    }
    mesh
}

/// The stripes that a node with this quota gives.
fn given(quota: u64) -> BTreeSet<StripeId> {
    let used = u64::from(SHARD_LEN) * u64::from(STRIPES);
    let all = (1..=STRIPES).map(|number| record(VAULT, DEVICE, number).stripe.id());
    all.filter(|&stripe| gives(stripe, id(NODE), used, quota)).collect()
}

/// Lets time pass and does all that is ordered; of which stripes shards were copied.
fn copied(mesh: &mut Mesh, period: Period) -> Vec<StripeId> {
    let mut copied = Vec::new();
    for _ in 0..period.0 / HOUR.0 {
        mesh.pass(HOUR);
        while let Some((job, signed, sources, targets)) = mesh.ordered() {
            let record = signed.verify().unwrap();
            assert_eq!(sources[0], Source { index: 0, node: id(NODE), link: None });
            let [target] = targets[..] else { panic!("{targets:?}") };
            assert_eq!(target.index, 0, "its own shard");
            assert!([id(FOURTH), id(FIFTH)].contains(&target.node));
            copied.push(record.stripe.id());
            mesh.rebuild(job, &record, &targets);
        }
    }
    copied
}

#[test]
fn a_full_node_gives_some_of_its_shards_once_and_keeps_them_meanwhile() {
    let full = quota(STRIPES.into());
    let meant = given(full);
    assert!((3..15).contains(&meant.len()), "{}", meant.len());
    let mut mesh = mesh(full);
    let first = copied(&mut mesh, PATROL);
    assert_eq!(first.len(), meant.len(), "each once");
    assert_eq!(first.into_iter().collect::<BTreeSet<_>>(), meant);
    assert_eq!((mesh.desk.rows(Table::Held), mesh.desk.gone.len()), (STRIPES.into(), 0));
    // It was no loss, and is none now.
    let status = mesh.repair();
    assert_eq!((status.waiting, status.stuck), (vec![], vec![]));
    assert!(
        !mesh
            .desk
            .notes
            .iter()
            .any(|note| matches!(note, Note::AtRisk { stripes } if *stripes > 0))
    );
    let mut mesh = mesh.restart();
    assert_eq!(copied(&mut mesh, PATROL), [], "it remembers nothing, and finds the copies");
}

#[test]
fn a_node_with_room_gives_nothing() {
    let mut mesh = mesh(quota(46));
    assert_eq!(copied(&mut mesh, PATROL), []);
}

#[test]
fn nothing_is_given_to_whom_is_nearly_as_full() {
    let mut mesh = mesh(quota(43));
    // Three shards fit in here yet.
    let much = u64::from(SHARD_LEN) * 7;
    mesh.rooms = [NEIGHBOUR, THIRD, FOURTH, FIFTH].map(|name| (name, much - 1)).into();
    assert_eq!(copied(&mut mesh, PATROL), []);
    mesh.rooms.insert(FIFTH, much);
    let copied = copied(&mut mesh, PATROL);
    assert!(!copied.is_empty());
}
