//! What enemies show and sign: with keys of their own, or with those that they stole.

use crate::enemy::{Enemy, Target, home, target};
use harness::Mesh;
use node::home::{read_key, read_signed};
use node::service::wall;
use protocol::certificate::{
    Authority, DeviceCertificate, NodeCertificate, NodeRecord, Roster, VaultCertificate,
    VaultDescriptor, VaultPapers,
};
use protocol::codec::Blob;
use protocol::id::{DeviceId, NodeId, SessionId, ShardId, VaultId};
use protocol::label::Labels;
use protocol::message::{Greeting, Request, Response};
use protocol::policy::Policy;
use protocol::record::{CODEC_REED_SOLOMON, Record, Stripe};
use protocol::sign::{SecretKey, Signed};
use protocol::time::{Period, Wall};

pub(crate) fn operator(mesh: &Mesh) -> SecretKey {
    read_key(&home(mesh, 0).path("operator.key")).unwrap().unwrap()
}

pub(crate) fn in_a_day() -> Wall {
    wall().after(Period::days(1))
}

pub(crate) fn an_hour_ago() -> Wall {
    Wall(wall().0 - 3_600_000)
}

pub(crate) fn before_that() -> Wall {
    Wall(an_hour_ago().0 - 1000)
}

/// The same statement with its last byte, which is one of the signature, changed.
pub(crate) fn damaged<T: protocol::sign::Statement>(signed: &Signed<T>) -> Signed<T> {
    let mut bytes = signed.to_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    Signed::from_bytes(&bytes).unwrap()
}

/// A node's record, vouched for by `operator`.
pub(crate) fn node_record(
    operator: &SecretKey,
    node: &SecretKey,
    expires: Wall,
) -> Signed<NodeRecord> {
    let certificate = NodeCertificate {
        node: node.public().into(),
        operator: operator.public().into(),
        labels: Labels::default(),
        issued: before_that(),
        expires,
        authority: Authority::Operator,
    };
    let record = NodeRecord {
        node: node.public().into(),
        certificate: Signed::sign(&certificate, operator),
        addresses: Vec::new(),
        version: 1,
    };
    Signed::sign(&record, node)
}

pub(crate) fn node_greeting(operator: &SecretKey, node: &SecretKey, expires: Wall) -> Greeting {
    Greeting::Node(node_record(operator, node, expires))
}

pub(crate) fn vault_certificate(
    operator: &SecretKey,
    vault: &SecretKey,
    expires: Wall,
) -> Signed<VaultCertificate> {
    let certificate = VaultCertificate {
        vault: vault.public().into(),
        operator: operator.public().into(),
        issued: before_that(),
        expires,
    };
    Signed::sign(&certificate, operator)
}

pub(crate) fn device_certificate(
    vault: &SecretKey,
    device: &SecretKey,
    expires: Wall,
) -> Signed<DeviceCertificate> {
    let certificate = DeviceCertificate {
        vault: vault.public().into(),
        device: device.public().into(),
        issued: before_that(),
        expires,
    };
    Signed::sign(&certificate, vault)
}

/// A vault of the mesh's operator with one device, on one node.
pub(crate) struct Owner {
    pub(crate) device: SecretKey,
    pub(crate) papers: VaultPapers,
    pub(crate) certificate: Signed<DeviceCertificate>,
    pub(crate) id: VaultId,
    target: Target,
}

impl Owner {
    pub(crate) fn new(mesh: &Mesh, node: usize, name: &str) -> Self {
        let (vault, device) = (crate::enemy::key(name), crate::enemy::key(&format!("{name} dev")));
        let certificate = device_certificate(&vault, &device, in_a_day());
        let descriptor = VaultDescriptor {
            vault: vault.public().into(),
            version: 1,
            recipients: Vec::new(),
            sealed_secret: Blob::default(),
            policy: Policy::survive_one("provider"),
        };
        let holder = read_signed(&home(mesh, node).path("node.cert")).unwrap().unwrap();
        let roster = Roster { vault: vault.public().into(), version: 1, nodes: vec![holder] };
        let papers = VaultPapers {
            certificate: vault_certificate(&operator(mesh), &vault, in_a_day()),
            descriptor: Signed::sign(&descriptor, &vault),
            roster: Signed::sign(&roster, &vault),
        };
        let id = vault.public().into();
        Self { device, papers, certificate, id, target: target(mesh, node) }
    }

    pub(crate) fn device_id(&self) -> DeviceId {
        self.device.public().into()
    }

    pub(crate) fn greeting(&self) -> Greeting {
        Greeting::Device {
            vault: self.papers.certificate.clone(),
            device: self.certificate.clone(),
        }
    }

    /// A connection as the vault's device; the node knows the vault.
    pub(crate) async fn connect(&self) -> Enemy {
        let enemy = Enemy::welcome(self.target, &self.device, &self.greeting()).await;
        let done = enemy.ask(&Request::Introduce(self.papers.clone())).await;
        assert_eq!(done, Some(Response::Done));
        enemy
    }

    /// A record that gives the first of three shards, all of these bytes, to the node.
    pub(crate) fn record(&self, shard: &[u8]) -> Record {
        let elsewhere = |name: &str| NodeId::from(crate::enemy::key(name).public());
        Record {
            stripe: Stripe {
                vault: self.id,
                codec: CODEC_REED_SOLOMON,
                k: 1,
                n: 3,
                shard_len: shard.len() as u32,
                shards: vec![ShardId(*blake3::hash(shard).as_bytes()); 3],
            },
            session: SessionId([1; 32]),
            policy: Policy::survive_one("provider"),
            holders: vec![self.target.node, elsewhere("second"), elsewhere("third")],
            version: 1,
            device: self.device_id(),
        }
    }

    pub(crate) fn sign(&self, record: &Record) -> Signed<Record> {
        Signed::sign(record, &self.device)
    }
}
