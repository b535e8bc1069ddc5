//! Tests of discharges: what they are, what several come to, and which copies are too many.

use super::*;
use crate::id::{SessionId, ShardId, VaultId};
use crate::policy::{Lock, Policy};
use crate::record::{CODEC_REED_SOLOMON, Stripe};
use crate::release::{
    NotAccepted, RELEASE_VALIDITY_MAX, Release, ReleaseError, accepts, release_id,
};
use crate::sign::{SecretKey, Signed};
use crate::time::Period;
use proptest::prelude::*;

const NOW: Wall = Wall(1_800_000_000_000);

fn key(name: u8) -> SecretKey {
    SecretKey::from_seed(&[name; 32])
}

fn vault() -> VaultId {
    key(1).public().into()
}

fn node(name: u8) -> NodeId {
    NodeId([name; 32])
}

fn stripe(name: u8) -> StripeId {
    StripeId([name; 32])
}

fn discharge(of: u8, stripes: &[u8], expires: Wall) -> Discharge {
    let stripes = stripes.iter().map(|name| stripe(*name)).collect();
    let request = ReleaseRequest { vault: vault(), issued: NOW, expires, stripes };
    Discharge { node: node(of), request }
}

#[test]
fn it_is_a_release_at_one_node() {
    let day = NOW.after(Period::days(1));
    let signed = Signed::sign(&discharge(7, &[2, 3], day), &key(1));
    let release = Release::verify(&signed, &[], &[]).unwrap();
    assert_eq!((release.at(), release.id()), (Some(node(7)), release_id(&signed)));
    let lock = Lock { guardians: None, ..Policy::survive_one("provider").lock };
    assert!(accepts((vault(), stripe(2)), &lock, &release, NOW).is_ok());
    let unnamed = accepts((vault(), stripe(4)), &lock, &release, NOW);
    assert_eq!(unnamed, Err(NotAccepted::Stripe(stripe(4))));
    assert!(matches!(
        accepts((vault(), stripe(2)), &lock, &release, day),
        Err(NotAccepted::Expired { .. })
    ));
}

#[test]
fn it_keeps_the_bounds_of_a_release_and_those_of_the_log() {
    let refused = |discharge: &Discharge| {
        Release::verify(&Signed::sign(discharge, &key(1)), &[], &[]).unwrap_err()
    };
    let day = NOW.after(Period::days(1));
    assert_eq!(refused(&discharge(7, &[], day)), ReleaseError::Stripes(DISCHARGE_STRIPES_MAX));
    assert_eq!(refused(&discharge(7, &[3, 2], day)), ReleaseError::Stripes(DISCHARGE_STRIPES_MAX));
    let late = NOW.after(RELEASE_VALIDITY_MAX).after(Period(1));
    assert_eq!(refused(&discharge(7, &[2], late)), ReleaseError::Validity);
    let name = |i: usize| StripeId(std::array::from_fn(|at| (i >> (8 * (31 - at).min(7))) as u8));
    let mut longest = discharge(7, &[], day);
    longest.request.stripes = (0..DISCHARGE_STRIPES_MAX).map(name).collect();
    let signed = Signed::sign(&longest, &key(1));
    assert!(Release::verify(&signed, &[], &[]).is_ok());
    assert!(signed.to_bytes().len() + 1024 < crate::log::Entry::LEN_MAX, "it fits into an entry");
    longest.request.stripes.push(StripeId([255; 32]));
    assert_eq!(refused(&longest), ReleaseError::Stripes(DISCHARGE_STRIPES_MAX));
}

#[test]
fn a_node_is_discharged_until_the_last_statement_ends() {
    let at = |days: u64| NOW.after(Period::days(days));
    let mut discharged = Discharged::default();
    for said in [discharge(7, &[2, 3], at(2)), discharge(7, &[2], at(1)), discharge(8, &[3], at(5))]
    {
        discharged.hear(&said);
    }
    assert_eq!(discharged.until(node(7), stripe(2)), Some(at(2)));
    assert!(discharged.is_discharged(node(7), stripe(3), at(1)));
    assert!(!discharged.is_discharged(node(7), stripe(3), at(2)));
    assert!(!discharged.is_discharged(node(8), stripe(2), NOW));
    assert!(discharged.is_discharged(node(8), stripe(3), at(4)));
}

fn record(holders: &[u8]) -> Record {
    let stripe = Stripe {
        vault: vault(),
        codec: CODEC_REED_SOLOMON,
        k: 2,
        n: holders.len() as u16,
        shard_len: 128,
        shards: holders.iter().map(|name| ShardId([*name; 32])).collect(),
    };
    Record {
        stripe,
        session: SessionId([0; 32]),
        policy: Policy::survive_one("provider"),
        holders: holders.iter().map(|name| node(*name)).collect(),
        version: 1,
        device: key(2).public().into(),
    }
}

fn site(name: u8, provider: u8) -> Site {
    Site { node: node(name), ..Site::stating(name, &format!("provider=p{provider}")) }
}

#[test]
fn a_copy_is_too_many_only_where_all_else_is_there_and_lies_well() {
    let record = record(&[1, 2, 3]);
    let sites = [site(1, 1), site(2, 2), site(3, 3), site(4, 4), site(5, 2)];
    let of = |promised: &[(u8, u16)], stays: &dyn Fn(NodeId) -> bool| {
        let promised = promised.iter().map(|(name, index)| (node(*name), *index)).collect();
        let site = |id| sites.iter().find(|site| site.node == id);
        surplus(&record, &promised, &BTreeSet::new(), stays, site)
    };
    let all = |_| true;
    let named = [(1, 0), (2, 1), (3, 2)];
    let with = |more: &[(u8, u16)]| [&named[..], more].concat();
    assert_eq!(of(&named, &all), []);
    // The holder of shard 2 came back: who stood in for it is free.
    assert_eq!(of(&with(&[(4, 2)]), &all), [node(4)]);
    // It came back, and is to be free itself: it leaves.
    assert_eq!(of(&with(&[(4, 2)]), &|id| id != node(3)), [node(3)]);
    // Shard 1 is missing.
    assert_eq!(of(&[(1, 0), (3, 2), (4, 2)], &all), []);
    // Without node 1 all would lie with two providers.
    assert_eq!(of(&with(&[(5, 0)]), &|id| id != node(1)), []);
    // A node of which nobody knows where it lies does not count.
    assert_eq!(of(&[(1, 0), (2, 1), (9, 2), (3, 2)], &all), [node(9)]);
}

#[test]
fn of_two_copies_the_one_at_a_full_node_is_too_many_if_the_other_will_do() {
    let record = record(&[1, 2, 3]);
    let sites = [site(1, 1), site(2, 2), site(3, 3), site(4, 4), site(5, 2)];
    let of = |promised: &[(u8, u16)], full: &[u8]| {
        let promised = promised.iter().map(|(name, index)| (node(*name), *index)).collect();
        let full = full.iter().map(|name| node(*name)).collect();
        surplus(&record, &promised, &full, |_| true, |id| sites.iter().find(|site| site.node == id))
    };
    let named = [(1, 0), (2, 1), (3, 2)];
    let with = |more: &[(u8, u16)]| [&named[..], more].concat();
    // The record names node 3, which is full and gave its shard to node 4.
    assert_eq!(of(&with(&[(4, 2)]), &[3]), [node(3)]);
    assert_eq!(of(&with(&[(4, 2)]), &[4]), [node(4)]);
    // Others that are full have given nothing.
    assert_eq!(of(&with(&[(4, 2)]), &[1, 2, 3]), [node(3)]);
    assert_eq!(of(&named, &[1, 2, 3]), []);
    // With the copy in place of node 1's all would lie with two providers.
    assert_eq!(of(&with(&[(5, 0)]), &[1]), [node(5)]);
}

proptest! {
    #[test]
    fn without_what_is_too_many_all_is_there_and_the_policy_holds(
        promises in proptest::collection::vec((1u8..12, 0u16..4, 0u8..5, any::<bool>()), 0..12),
        full in proptest::collection::btree_set((1u8..12).prop_map(node), 0..4),
    ) {
        let record = record(&[1, 2, 3, 4]);
        let sites: BTreeMap<NodeId, Site> =
            promises.iter().map(|(name, _, provider, _)| (node(*name), site(*name, *provider))).collect();
        let promised: BTreeMap<NodeId, u16> =
            promises.iter().map(|(name, index, ..)| (node(*name), *index)).collect();
        let leaving: BTreeSet<NodeId> =
            promises.iter().filter(|(.., leaves)| *leaves).map(|(name, ..)| node(*name)).collect();
        let free = surplus(&record, &promised, &full, |id| !leaving.contains(&id), |id| sites.get(&id));
        if !free.is_empty() {
            let left: BTreeMap<NodeId, u16> = promised
                .iter()
                .filter(|(node, _)| !free.contains(node))
                .map(|(node, index)| (*node, *index))
                .collect();
            let indexes: BTreeSet<u16> = left.values().copied().collect();
            prop_assert_eq!(indexes.len(), 4, "each shard once more");
            prop_assert_eq!(left.len(), 4, "and once only");
            let places: Vec<&Site> = left.keys().map(|node| &sites[node]).collect();
            prop_assert!(check_placement(&record.policy, 2, &places).is_ok());
            prop_assert!(left.keys().all(|node| !leaving.contains(node)));
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed(bit in any::<usize>()) {
        let mut bytes = Signed::sign(&discharge(7, &[2, 3], NOW), &key(1)).to_bytes();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read = Signed::<Discharge>::from_bytes(&bytes);
        prop_assert!(read.is_err() || read.is_ok_and(|signed| signed.verify().is_err()));
    }

    #[test]
    fn a_discharge_is_read_or_refused_and_never_panics(bytes: Vec<u8>) {
        if let Ok(signed) = Signed::<Discharge>::from_bytes(&bytes) {
            let _ = Release::verify(&signed, &[], &[]);
        }
    }
}

#[test]
fn who_fails_audits_is_not_counted_on_by_the_word_of_an_own_node_or_of_two_operators() {
    let [own, one, other] = [1, 2, 3].map(|name| OperatorId([name; 32]));
    let node = |name: u8| NodeId([name; 32]);
    let said = |said: &[(OperatorId, u8)]| {
        failing(own, said.iter().map(|&(operator, name)| (operator, vec![node(name)])))
    };
    assert_eq!(said(&[(own, 9)]), [node(9)].into());
    assert_eq!(said(&[(one, 9), (one, 9), (other, 8)]), [].into());
    assert_eq!(said(&[(one, 9), (other, 9), (other, 8)]), [node(9)].into());
}
