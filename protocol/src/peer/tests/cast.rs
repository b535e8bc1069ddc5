//! The people of the stories and the statements that they sign. A key is named by one byte.

use crate::certificate::{
    Authority, ConsolePass, DeviceCertificate, Invitation, JoinRequest, NodeCertificate,
    NodeRecord, Roster, VaultCertificate, VaultDescriptor, VaultPapers,
};
use crate::codec::Blob;
use crate::hold::HoldOrder;
use crate::id::{EntryId, PublicKey, SessionId, ShardId, StripeId};
use crate::label::Labels;
use crate::log::{Body, Entry};
use crate::message::{Greeting, Request};
use crate::policy::{Guardians, Lock, Policy};
use crate::record::{CODEC_REED_SOLOMON, Record, Stripe};
use crate::recovery::RecoveryCard;
use crate::release::{Approval, ReleaseRequest, Veto, release_id};
use crate::sign::{SecretKey, Signed};
use crate::time::{Mono, Now, Period, Wall};

pub(super) const OPERATOR: u8 = 1;
/// The node whose peer is on the desk.
pub(super) const NODE: u8 = 2;
pub(super) const NEIGHBOUR: u8 = 3;
pub(super) const THIRD: u8 = 4;
pub(super) const VAULT: u8 = 10;
pub(super) const DEVICE: u8 = 11;
pub(super) const SECOND_DEVICE: u8 = 12;
pub(super) const OTHER_VAULT: u8 = 20;
pub(super) const OTHER_DEVICE: u8 = 21;
pub(super) const FOREIGN_OPERATOR: u8 = 30;
pub(super) const BEARER: u8 = 40;
pub(super) const STRANGER: u8 = 99;

pub(super) const EPOCH: Wall = Wall(1_800_000_000_000);
pub(super) const EXPIRY: Wall = Wall(EPOCH.0 + Period::days(365).0);
pub(super) const SHARD_LEN: u32 = 64;

/// So long after the epoch.
pub(super) fn at(after: Period) -> Now {
    Now { mono: Mono(after.0), wall: EPOCH.after(after) }
}

pub(super) fn secret(name: u8) -> SecretKey {
    SecretKey::from_seed(&[name; 32])
}

pub(super) fn public(name: u8) -> PublicKey {
    secret(name).public()
}

pub(super) fn labels(text: &[&str]) -> Labels {
    Labels::new(text.iter().map(|label| label.parse().unwrap())).unwrap()
}

pub(super) fn node_certificate(operator: u8, node: u8) -> Signed<NodeCertificate> {
    let certificate = NodeCertificate {
        node: public(node).into(),
        operator: public(operator).into(),
        labels: labels(&["provider=aws"]),
        issued: EPOCH,
        expires: EXPIRY,
        authority: Authority::Operator,
    };
    Signed::sign(&certificate, &secret(operator))
}

pub(super) fn node_record(operator: u8, node: u8, version: u64) -> Signed<NodeRecord> {
    let record = NodeRecord {
        node: public(node).into(),
        certificate: node_certificate(operator, node),
        addresses: vec![format!("/memory/{node}")],
        version,
    };
    Signed::sign(&record, &secret(node))
}

/// The record of a node that the one on the desk admitted, for the bearer of [`invitation`].
pub(super) fn admitted_record(node: u8) -> Signed<NodeRecord> {
    let invitation = invitation(OPERATOR, NODE, &["provider=aws"]);
    let Greeting::Join { request, .. } = join(invitation.clone(), node, &[]) else {
        unreachable!()
    };
    let certificate = NodeCertificate {
        node: public(node).into(),
        operator: public(OPERATOR).into(),
        labels: labels(&["provider=aws"]),
        issued: EPOCH,
        expires: EXPIRY,
        authority: Authority::Bearer { node: public(NODE).into(), invitation, request },
    };
    let certificate = Signed::sign(&certificate, &secret(NODE));
    let addresses = vec![format!("/memory/{node}")];
    let record = NodeRecord { node: public(node).into(), certificate, addresses, version: 1 };
    Signed::sign(&record, &secret(node))
}

pub(super) fn node_greeting(operator: u8, node: u8) -> Greeting {
    Greeting::Node(node_record(operator, node, 1))
}

pub(super) fn vault_certificate(
    operator: u8,
    vault: u8,
    expires: Wall,
) -> Signed<VaultCertificate> {
    let certificate = VaultCertificate {
        vault: public(vault).into(),
        operator: public(operator).into(),
        issued: EPOCH,
        expires,
    };
    Signed::sign(&certificate, &secret(operator))
}

pub(super) fn device_certificate(
    vault: u8,
    device: u8,
    expires: Wall,
) -> Signed<DeviceCertificate> {
    let certificate = DeviceCertificate {
        vault: public(vault).into(),
        device: public(device).into(),
        issued: EPOCH,
        expires,
    };
    Signed::sign(&certificate, &secret(vault))
}

pub(super) fn device_greeting(operator: u8, vault: u8, device: u8) -> Greeting {
    Greeting::Device {
        vault: vault_certificate(operator, vault, EXPIRY),
        device: device_certificate(vault, device, EXPIRY),
    }
}

/// A vault's papers: the version of descriptor and roster, and whom the roster lists.
pub(super) fn papers(vault: u8, version: u64, nodes: &[u8]) -> VaultPapers {
    let descriptor = VaultDescriptor {
        vault: public(vault).into(),
        version,
        recipients: vec!["age1recipient".into()],
        sealed_secret: Blob(vec![vault]),
        policy: Policy::survive_one("provider"),
    };
    let nodes = nodes.iter().map(|&node| node_certificate(OPERATOR, node)).collect();
    let roster = Roster { vault: public(vault).into(), version, nodes };
    VaultPapers {
        certificate: vault_certificate(OPERATOR, vault, EXPIRY),
        descriptor: Signed::sign(&descriptor, &secret(vault)),
        roster: Signed::sign(&roster, &secret(vault)),
    }
}

/// A recovery card: what it seals is named by one byte.
pub(super) fn card(
    vault: u8,
    version: u64,
    recipients: &[&str],
    sealed: u8,
) -> Signed<RecoveryCard> {
    let recipients: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    let card = RecoveryCard::new(public(vault).into(), version, &recipients, vec![sealed; 100]);
    Signed::sign(&card, &secret(vault))
}

/// The bytes of one shard of a stripe.
pub(super) fn shard_bytes(stripe: u8, index: u16) -> Vec<u8> {
    let mut bytes = vec![stripe; SHARD_LEN as usize];
    bytes[..2].copy_from_slice(&index.to_le_bytes());
    bytes
}

pub(super) fn shard_id(bytes: &[u8]) -> ShardId {
    ShardId(*blake3::hash(bytes).as_bytes())
}

/// The record of a stripe of three shards, any of which suffices: [`NODE`], [`NEIGHBOUR`] and
/// [`THIRD`] hold one each.
pub(super) fn record(vault: u8, device: u8, stripe: u8) -> Record {
    Record {
        stripe: Stripe {
            vault: public(vault).into(),
            codec: CODEC_REED_SOLOMON,
            k: 1,
            n: 3,
            shard_len: SHARD_LEN,
            shards: (0..3).map(|index| shard_id(&shard_bytes(stripe, index))).collect(),
        },
        session: SessionId([7; 32]),
        policy: Policy::survive_one("provider"),
        holders: [NODE, NEIGHBOUR, THIRD].map(|node| public(node).into()).to_vec(),
        version: 1,
        device: public(device).into(),
    }
}

pub(super) fn entry(seq: u64, previous: Option<&Signed<Entry>>, text: u8) -> Signed<Entry> {
    entry_by(VAULT, DEVICE, seq, previous.map(crate::log::entry_id), text)
}

pub(super) fn entry_by(
    vault: u8,
    device: u8,
    seq: u64,
    previous: Option<EntryId>,
    text: u8,
) -> Signed<Entry> {
    let body = Body::Session { session: SessionId([7; 32]), sealed_key: Blob(vec![text]) };
    let entry = Entry {
        vault: public(vault).into(),
        device: public(device).into(),
        seq,
        previous,
        claimed: EPOCH,
        body,
    };
    Signed::sign(&entry, &secret(device))
}

pub(super) fn invitation(operator: u8, admitter: u8, stated: &[&str]) -> Signed<Invitation> {
    let invitation = Invitation {
        operator: public(operator).into(),
        admitter: public(admitter).into(),
        bearer: public(BEARER),
        labels: labels(stated),
        issued: EPOCH,
        expires: EPOCH.after(Period::days(1)),
    };
    Signed::sign(&invitation, &secret(operator))
}

pub(super) fn join(invitation: Signed<Invitation>, node: u8, stated: &[&str]) -> Greeting {
    let request =
        JoinRequest { bearer: public(BEARER), node: public(node).into(), labels: labels(stated) };
    Greeting::Join { invitation, request: Signed::sign(&request, &secret(BEARER)) }
}

pub(super) fn console_greeting(node: u8, console: u8) -> Greeting {
    console_greeting_at(node, console, EPOCH)
}

pub(super) fn console_greeting_at(node: u8, console: u8, issued: Wall) -> Greeting {
    let pass = ConsolePass {
        console: public(console),
        node: public(node).into(),
        issued,
        expires: issued.after(Period::days(1)),
    };
    Greeting::Console(Signed::sign(&pass, &secret(node)))
}

/// Who can stop releases of guarded vaults; two of them must agree.
pub(super) const GUARDIANS: [u8; 3] = [60, 61, 62];

pub(super) fn guarded_lock() -> Lock {
    let of = GUARDIANS.map(|guardian| public(guardian).into()).to_vec();
    Lock { guardians: Some(Guardians { need: 2, of }), ..Lock::default() }
}

/// Papers whose policy names the guardians.
pub(super) fn guarded_papers(vault: u8, version: u64, nodes: &[u8]) -> VaultPapers {
    let mut papers = papers(vault, version, nodes);
    let mut descriptor = papers.descriptor.verify().unwrap();
    descriptor.policy.lock = guarded_lock();
    papers.descriptor = Signed::sign(&descriptor, &secret(vault));
    papers
}

/// As [`record`], under the guarded lock.
pub(super) fn guarded_record(stripe: u8) -> Record {
    let mut record = record(VAULT, DEVICE, stripe);
    record.policy.lock = guarded_lock();
    record
}

/// A request of this key, made then, for stripes of the vault.
pub(super) fn release_request(
    vault: u8,
    issued: Wall,
    stripes: &[StripeId],
) -> Signed<ReleaseRequest> {
    let mut stripes = stripes.to_vec();
    stripes.sort_unstable();
    stripes.dedup();
    let expires = issued.after(Period::days(30));
    let request = ReleaseRequest { vault: public(vault).into(), issued, expires, stripes };
    Signed::sign(&request, &secret(vault))
}

pub(super) fn approve(request: &Signed<ReleaseRequest>, by: &[u8]) -> Vec<Signed<Approval>> {
    let release = release_id(request);
    let approval = |&name: &u8| {
        let approval = Approval { guardian: public(name).into(), release, expires: EXPIRY };
        Signed::sign(&approval, &secret(name))
    };
    by.iter().map(approval).collect()
}

pub(super) fn veto(request: &Signed<ReleaseRequest>, by: u8) -> Request {
    let veto = Veto { guardian: public(by).into(), release: release_id(request) };
    Request::Veto { vault: public(VAULT).into(), veto: Signed::sign(&veto, &secret(by)) }
}

pub(super) fn hold(by: u8, number: u64, period: Option<Period>) -> Request {
    let (vault, guardian) = (public(VAULT).into(), public(by).into());
    Request::Hold(Signed::sign(&HoldOrder { vault, guardian, number, period }, &secret(by)))
}
