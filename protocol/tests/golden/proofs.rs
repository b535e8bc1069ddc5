//! Revocations, and proofs with all kinds of parts.

use super::{NOW, hex, statement, stored, value};
use protocol::certificate::{
    DeviceCertificate, DeviceRevocation, Roster, VaultCertificate, VaultDescriptor, VaultPapers,
};
use protocol::codec::Blob;
use protocol::id::{DeviceId, NodeId, SessionId, ShardId, VaultId};
use protocol::log::{Body, Entry, EntryAck, entry_id};
use protocol::message::Request;
use protocol::policy::Policy;
use protocol::proof::{EntryProof, MAGIC, Opening, Part, ProofError, StripeProof, Verifier};
use protocol::record::{CODEC_REED_SOLOMON, Receipt, Record, Stripe};
use protocol::sign::{SecretKey, Signed};
use protocol::time::Period;

#[test]
fn revocations_and_proofs_are_read() {
    let (vault, device) = (SecretKey::from_seed(&[0x7d; 32]), SecretKey::from_seed(&[0x7e; 32]));
    let (operator, node) = (SecretKey::from_seed(&[0x7f; 32]), SecretKey::from_seed(&[0x80; 32]));
    let (id, device_id) = (VaultId::from(vault.public()), DeviceId::from(device.public()));
    let expires = NOW.after(Period::days(30));
    let order = DeviceRevocation { vault: id, device: device_id, issued: NOW };
    statement("device-revocation-v1.bin", &order, &vault);
    value("request-revoke-v1.bin", &Request::Revoke(Signed::sign(&order, &vault)));

    let certificate =
        VaultCertificate { vault: id, operator: operator.public().into(), issued: NOW, expires };
    let descriptor = VaultDescriptor {
        vault: id,
        version: 1,
        recipients: vec!["age1qx".into()],
        sealed_secret: Blob(vec![1; 40]),
        policy: Policy::survive_one("provider"),
    };
    let roster = Roster { vault: id, version: 2, nodes: Vec::new() };
    let papers = VaultPapers {
        certificate: Signed::sign(&certificate, &operator),
        descriptor: Signed::sign(&descriptor, &vault),
        roster: Signed::sign(&roster, &vault),
    };
    let word = DeviceCertificate { vault: id, device: device_id, issued: NOW, expires };
    let session = SessionId([3; 32]);
    let body = Body::Session { session, sealed_key: Blob(vec![4; 20]) };
    let entry = Entry { vault: id, device: device_id, seq: 0, previous: None, claimed: NOW, body };
    let entry = Signed::sign(&entry, &device);
    let opening = Opening {
        snapshot: entry_id(&entry),
        made: NOW,
        papers,
        devices: vec![Signed::sign(&word, &vault)],
    };
    let holder = NodeId::from(node.public());
    let ack = EntryAck {
        holder,
        vault: id,
        device: device_id,
        seq: 0,
        entry: entry_id(&entry),
        witnessed: NOW,
    };
    let stripe = Stripe {
        vault: id,
        codec: CODEC_REED_SOLOMON,
        k: 1,
        n: 1,
        shard_len: 64,
        shards: vec![ShardId([5; 32])],
    };
    let record = Record {
        stripe: stripe.clone(),
        session,
        policy: Policy::survive_one("provider"),
        holders: vec![holder],
        version: 1,
        device: device_id,
    };
    let receipt = Receipt {
        holder,
        vault: id,
        stripe: stripe.id(),
        index: 0,
        shard: ShardId([5; 32]),
        len: 64,
        keep: Period::days(90),
        received: NOW,
    };
    let parts = [
        Part::Opening(Box::new(opening)),
        Part::Entry(EntryProof { entry, acks: vec![Signed::sign(&ack, &node)] }),
        Part::Stripe(StripeProof {
            record: Signed::sign(&record, &device),
            receipts: vec![Signed::sign(&receipt, &node)],
        }),
        Part::End { entries: 1, stripes: 1 },
    ];
    let mut proof = MAGIC.to_vec();
    for part in &parts {
        proof.extend(part.encode());
    }
    assert_eq!(hex(&stored("proof-v1.bin", &proof)), hex(&proof));
    let mut verifier = Verifier::new(NOW, None);
    let mut rest = &proof[MAGIC.len()..];
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let (body, after) = after.split_at(u32::from_le_bytes(*len) as usize);
        verifier.handle_part(body).unwrap();
        rest = after;
    }
    // The entry is no snapshot's.
    assert!(matches!(verifier.finish(), Err(ProofError::NoSnapshot(_))));
}
