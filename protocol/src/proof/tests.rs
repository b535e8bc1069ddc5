use super::*;
use crate::certificate::{Authority, NodeCertificate, Roster, VaultCertificate, VaultDescriptor};
use crate::codec::Blob;
use crate::id::ShardId;
use crate::label::Labels;
use crate::record::{CODEC_REED_SOLOMON, Stripe};
use crate::sign::SecretKey;
use proptest::prelude::*;

const MADE: Wall = Wall(1_800_000_000_000);
const SESSION: SessionId = SessionId([7; 32]);
const OPERATOR: u8 = 1;
const PARTNER: u8 = 2;
const VAULT: u8 = 3;
const DEVICE: u8 = 4;
/// Nodes, the providers that they state and who vouches for them.
const NODES: [(u8, &str, u8); 4] =
    [(10, "a", OPERATOR), (11, "b", OPERATOR), (12, "c", PARTNER), (13, "a", OPERATOR)];

fn key(name: u8) -> SecretKey {
    SecretKey::from_seed(&[name; 32])
}

fn sign<T: crate::sign::Statement>(statement: &T, name: u8) -> Signed<T> {
    Signed::sign(statement, &key(name))
}

fn vault() -> VaultId {
    key(VAULT).public().into()
}

fn opening() -> Opening {
    let (issued, expires) = (Wall(MADE.0 - 1000), MADE.after(Period::days(9)));
    let operator = key(OPERATOR).public().into();
    let certificate =
        sign(&VaultCertificate { vault: vault(), operator, issued, expires }, OPERATOR);
    let descriptor = VaultDescriptor {
        vault: vault(),
        version: 1,
        recipients: Vec::new(),
        sealed_secret: Blob(Vec::new()),
        policy: Policy::survive_one("provider"),
    };
    let node = |(node, provider, operator): (u8, &str, u8)| {
        let certificate = NodeCertificate {
            node: key(node).public().into(),
            operator: key(operator).public().into(),
            labels: Labels::new([format!("provider={provider}").parse().unwrap()]).unwrap(),
            issued,
            expires,
            authority: Authority::Operator,
        };
        sign(&certificate, operator)
    };
    let roster = Roster { vault: vault(), version: 1, nodes: NODES.map(node).to_vec() };
    let device = key(DEVICE).public().into();
    let device = DeviceCertificate { vault: vault(), device, issued, expires };
    let (descriptor, roster) = (sign(&descriptor, VAULT), sign(&roster, VAULT));
    Opening {
        snapshot: entry_id(&entry(1).entry),
        made: MADE,
        papers: VaultPapers { certificate, descriptor, roster },
        devices: vec![sign(&device, VAULT)],
    }
}

/// 0 is the session's entry, 1 the snapshot's.
fn entry(seq: u64) -> EntryProof {
    let session = SESSION;
    let body = match seq {
        0 => Body::Session { session, sealed_key: Blob(vec![1]) },
        _ => Body::Snapshot { session, summary: Blob(vec![2]), root: Blob(vec![3]) },
    };
    let device = key(DEVICE).public().into();
    let entry = Entry { vault: vault(), device, seq, previous: None, claimed: MADE, body };
    let entry = sign(&entry, DEVICE);
    let acks = [10, 11].map(|node| {
        let ack = EntryAck {
            holder: key(node).public().into(),
            vault: vault(),
            device,
            seq,
            entry: entry_id(&entry),
            witnessed: MADE,
        };
        sign(&ack, node)
    });
    EntryProof { entry, acks: acks.to_vec() }
}

/// Two of three shards are needed.
fn stripe(name: u8, holders: [u8; 3]) -> StripeProof {
    let shards = [1, 2, 3].map(|i| ShardId([name, i].repeat(16).try_into().unwrap()));
    let record = Record {
        stripe: Stripe {
            vault: vault(),
            codec: CODEC_REED_SOLOMON,
            k: 2,
            n: 3,
            shard_len: 128,
            shards: shards.to_vec(),
        },
        session: SESSION,
        policy: Policy::survive_one("provider"),
        holders: holders.map(|node| key(node).public().into()).to_vec(),
        version: 1,
        device: key(DEVICE).public().into(),
    };
    let receipt = |(index, node): (usize, &u8)| {
        let received = MADE;
        sign(&Receipt { received, ..Receipt::as_asked(&record, index as u16) }, *node)
    };
    let receipts = holders.iter().enumerate().map(receipt).collect();
    StripeProof { record: sign(&record, DEVICE), receipts }
}

/// A proof of these stripes, whatever their order.
fn proof(mut stripes: Vec<StripeProof>) -> Vec<Part> {
    stripes.sort_by_key(|proof| proof.record.verify().unwrap().stripe.id());
    let mut parts = vec![Part::Opening(Box::new(opening()))];
    parts.extend([0, 1].map(|seq| Part::Entry(entry(seq))));
    let count = stripes.len() as u64;
    parts.extend(stripes.into_iter().map(Part::Stripe));
    parts.push(Part::End { entries: 2, stripes: count });
    parts
}

fn good() -> Vec<Part> {
    proof(vec![stripe(1, [10, 11, 12]), stripe(2, [11, 12, 13])])
}

fn check_with(trust: Option<Trust>, parts: &[Part]) -> Result<Shown, ProofError> {
    let mut verifier = Verifier::new(MADE.after(Period::days(1)), trust);
    for part in parts {
        verifier.handle_part(&part.encode()[4..])?;
    }
    verifier.finish()
}

fn check(parts: &[Part]) -> Result<Shown, ProofError> {
    check_with(None, parts)
}

#[test]
fn a_good_proof_says_for_how_long_by_whom_and_what_must_fall() {
    let shown = check(&good()).unwrap();
    assert!(shown.is_good(), "{:?}", shown.shortfalls);
    assert_eq!((shown.entries, shown.stripes), (2, 2));
    let period = Policy::survive_one("provider").lock.period;
    assert_eq!(shown.kept_until, Some(MADE.after(period)));
    assert_eq!(shown.kept_for(MADE.after(period)), None);
    let nodes: Vec<u64> = shown.operators.values().copied().collect();
    assert_eq!(nodes.iter().sum::<u64>(), 4);
    let provider = &shown.exposure.levels[&Level::new("provider").unwrap()];
    assert_eq!(provider.destroy.len(), 2);
}

#[test]
fn what_breaks_a_clause_is_shown_with_the_counterexample() {
    // Providers a, b, a: without a one shard of two needed is left.
    let shown = check(&proof(vec![stripe(1, [10, 11, 13]), stripe(2, [10, 11, 12])])).unwrap();
    assert_eq!(shown.short, 1);
    assert!(shown.shortfalls[0].why.contains("provider=a"), "{:?}", shown.shortfalls);
    // A holder that promised nothing holds nothing.
    let mut silent = stripe(1, [10, 11, 12]);
    silent.receipts.remove(1);
    assert_eq!(check(&proof(vec![silent])).unwrap().short, 1);
    assert_eq!(check(&proof(vec![])).unwrap().short, 1);
}

#[test]
fn the_snapshot_and_its_key_must_be_there() {
    let mut parts = good();
    parts[1] = parts[2].clone();
    assert_eq!(check(&parts).unwrap().short, 1);
    let mut parts = good();
    parts[2] = parts[1].clone();
    assert!(matches!(check(&parts), Err(ProofError::NoSnapshot(_))));
    let mut parts = good();
    let Part::Entry(entry) = &mut parts[2] else { unreachable!("an entry") };
    entry.acks.truncate(1);
    assert_eq!(check(&parts).unwrap().short, 1);
}

#[test]
fn operators_that_are_not_trusted_vouch_for_nothing() {
    let trust = |names: &[u8]| Trust::new(names.iter().map(|&name| key(name).public().into()));
    assert!(check_with(Some(trust(&[OPERATOR, PARTNER])), &good()).unwrap().is_good());
    // Without the partner's node each stripe has too few left.
    assert_eq!(check_with(Some(trust(&[OPERATOR])), &good()).unwrap().short, 2);
    let stranger = check_with(Some(trust(&[PARTNER])), &good());
    assert!(matches!(stranger, Err(ProofError::Papers(_))));
}

#[test]
fn parts_that_are_missing_doubled_or_out_of_order_are_refused() {
    let all = good();
    for cut in 0..all.len() {
        assert!(check(&all[..cut]).is_err(), "cut at {cut}");
    }
    for i in 0..all.len() {
        let mut parts = all.clone();
        parts.remove(i);
        assert!(check(&parts).is_err(), "without part {i}");
        let mut parts = all.clone();
        parts.insert(i, all[i].clone());
        assert!(check(&parts).is_err(), "part {i} twice");
    }
    let mut parts = all.clone();
    parts.swap(3, 4);
    assert!(check(&parts).is_err());
    let mut parts = all;
    parts.swap(2, 3);
    assert!(check(&parts).is_err());
}

#[test]
fn who_stands_in_for_a_holder_counts_and_a_second_copy_does_not() {
    let stand_in = |stripe: &StripeProof, index: usize| {
        let receipt = stripe.receipts[index].verify().unwrap();
        sign(&Receipt { holder: key(13).public().into(), ..receipt }, 13)
    };
    // Node 13 has the shard of node 10, which is gone: they share a provider.
    let mut repaired = stripe(1, [10, 11, 12]);
    repaired.receipts[0] = stand_in(&repaired, 0);
    let shown = check(&proof(vec![repaired])).unwrap();
    assert!(shown.is_good(), "{:?}", shown.shortfalls);
    // Two of three are needed. Node 13 has a copy of what node 11 has, and nobody has the third.
    let mut copied = stripe(1, [10, 11, 12]);
    copied.receipts[2] = stand_in(&copied, 1);
    assert_eq!(check(&proof(vec![copied])).unwrap().short, 1);
}

#[test]
fn statements_of_others_are_refused() {
    let mut forged = stripe(1, [10, 11, 12]);
    // Node 11 says that it has node 10's shard.
    let receipt = forged.receipts[0].verify().unwrap();
    forged.receipts[0] = sign(&Receipt { holder: key(11).public().into(), ..receipt }, 11);
    assert_eq!(check(&proof(vec![forged])), Err(ProofError::Other("a receipt")));
    let mut other = stripe(1, [10, 11, 12]);
    other.receipts[0] = stripe(2, [10, 11, 12]).receipts[0].clone();
    assert_eq!(check(&proof(vec![other])), Err(ProofError::Other("a receipt")));
    let mut stranger = stripe(1, [10, 11, 12]);
    let record = Record { device: key(9).public().into(), ..stranger.record.verify().unwrap() };
    stranger.record = sign(&record, 9);
    assert_eq!(check(&proof(vec![stranger])), Err(ProofError::Other("a record")));
    let mut future = good();
    let Part::Opening(opening) = &mut future[0] else { unreachable!("an opening") };
    opening.made = MADE.after(Period::days(3));
    assert!(matches!(check(&future), Err(ProofError::NotYet { .. })));
}

proptest! {
    #[test]
    fn an_altered_proof_is_refused_or_shows_the_same(part in 0usize..6, at: prop::sample::Index, flip in 1u8..) {
        let parts = good();
        let mut bodies: Vec<Vec<u8>> = parts.iter().map(|part| part.encode()[4..].to_vec()).collect();
        let at = at.index(bodies[part].len());
        bodies[part][at] ^= flip;
        let mut verifier = Verifier::new(MADE.after(Period::days(1)), None);
        let taken = bodies.iter().try_for_each(|body| verifier.handle_part(body));
        if let Ok(shown) = taken.and_then(|()| verifier.finish()) {
            // The time is the prover's own word.
            let honest = check(&parts).unwrap();
            prop_assert_eq!(Shown { made: honest.made, ..shown }, honest);
        }
    }

    #[test]
    fn a_proof_is_good_just_when_every_stripe_survives_the_loss_of_any_provider(
        stripes in prop::collection::vec(prop::sample::subsequence(vec![10u8, 11, 12, 13], 3), 1..5),
    ) {
        let holders: Vec<[u8; 3]> = stripes.iter().map(|some| some[..].try_into().unwrap()).collect();
        let numbered = holders.iter().enumerate();
        let shown = check(&proof(numbered.map(|(i, &some)| stripe(i as u8, some)).collect())).unwrap();
        // Nodes 10 and 13 share a provider.
        let short = holders.iter().filter(|some| some.contains(&10) && some.contains(&13)).count();
        prop_assert_eq!(shown.short, short as u64);
    }
}
