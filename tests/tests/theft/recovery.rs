//! The way back: papers, devices and cards that are to keep the owner out.

use super::Owned;
use super::thief::Thief;
use node::client::recipients;
use node::service::wall;
use protocol::certificate::{
    DeviceCertificate, DeviceRevocation, Roster, VaultCertificate, VaultPapers,
};
use protocol::codec::Blob;
use protocol::message::Request;
use protocol::recovery::RecoveryCard;
use protocol::sign::{SecretKey, Signed};
use protocol::time::Period;

/// Everything that papers, devices and cards allow.
pub(crate) async fn close_the_way_back(thief: &Thief) {
    let Thief { vault, key, operator, .. } = thief;
    // Every device is revoked, and many others are let in.
    let revocation =
        DeviceRevocation { vault: vault.id, device: vault.device_id(), issued: wall() };
    let _ = thief.say(&Request::Revoke(Signed::sign(&revocation, key))).await;
    // Who was revoked does no more harm: the thief goes on as a new device.
    let device = SecretKey::from_seed(&[77; 32]);
    let certificate = DeviceCertificate {
        vault: vault.id,
        device: device.public().into(),
        issued: wall(),
        expires: wall().after(Period::days(9)),
    };
    let mut own = node::client::vault::load(&thief.home, "v").unwrap();
    own.device_certificate = Signed::sign(&certificate, key);
    own.device = device;
    let mesh =
        node::client::mesh::Mesh::connect(&thief.home, node::client::mesh::Caller::device(&own));
    let mesh = mesh.await.unwrap();
    let (mut descriptor, roster) =
        (vault.papers.descriptor.verify().unwrap(), vault.papers.roster.verify().unwrap());
    // A certificate that is over, a descriptor that opens nothing, a roster of nobody; versions without end.
    let ended = VaultCertificate {
        vault: vault.id,
        operator: operator.public().into(),
        issued: wall(),
        expires: wall().after(Period::seconds(1)),
    };
    for step in [1, 1000, u64::MAX - 10] {
        descriptor.version = descriptor.version.saturating_add(step);
        descriptor.sealed_secret = Blob(vec![1; 100]);
        descriptor.recipients = vec![recipients::generate().1];
        let nobody =
            Roster { version: roster.version.saturating_add(step), nodes: Vec::new(), ..roster };
        let papers = VaultPapers {
            certificate: Signed::sign(&ended, operator),
            descriptor: Signed::sign(&descriptor, key),
            roster: Signed::sign(&nobody, key),
        };
        for (_, _answer) in mesh.ask_all(&Request::Introduce(papers)).await {}
        let card = RecoveryCard::new(vault.id, u64::MAX - step, &vault.recipients, vec![9; 500]);
        for (_, _answer) in mesh.ask_all(&Request::Card(Signed::sign(&card, key))).await {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_of_the_owner_closes_the_way_back() {
    let mut owned = Owned::new();
    let thief = Thief::new(&owned.mesh).await;
    close_the_way_back(&thief).await;
    // A vault of the same name and operator, made anew, is another one.
    let policy = owned.mesh.dir().join("v.toml");
    let again = ["--json", "vault", "create", "again", "--policy", policy.to_str().unwrap()];
    let _ = harness::strewn(&thief.home.path(""), again).ok();
    thief.assert_all_locked().await;
    owned.assert_all_restore(owned.mesh.owner());
    let home = owned.recover(3);
    owned.assert_all_restore(&home);
    // One provider besides.
    owned.mesh.destroy("y");
    owned.assert_all_restore(&home);
    owned.assert_all_restore(&owned.recover(5));
}
