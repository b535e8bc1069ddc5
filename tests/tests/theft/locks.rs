//! Deleting, shortening, moving and overwriting.

use super::Owned;
use super::thief::Thief;
use node::client::ClientError;
use node::client::inventory::Held;
use protocol::certificate::VaultPapers;
use protocol::id::NodeId;
use protocol::message::{RefusalCode, Request};
use protocol::policy::{Clauses, Policy};
use protocol::record::Record;
use protocol::sign::Signed;
use protocol::time::Period;

fn refusal(error: &ClientError) -> RefusalCode {
    match error {
        ClientError::Refused { refusal, .. } => refusal.code,
        other => panic!("not refused: {other}"),
    }
}

/// The record as the thief would like it to be, signed with the owner's device.
fn altered(thief: &Thief, held: &Held, change: impl FnOnce(&mut Record)) -> Signed<Record> {
    let mut record = held.record.clone();
    record.version += 1;
    record.device = thief.vault.device_id();
    change(&mut record);
    Signed::sign(&record, &thief.vault.device)
}

/// No node does what the record says. (Who holds nothing of the stripe has nothing to do.)
async fn assert_refused(thief: &Thief, record: &Signed<Record>) {
    let (done, refused) = thief.say(&Request::Replace(record.clone())).await;
    assert_eq!(done, 0);
    let not_held = refused.iter().filter(|code| **code == RefusalCode::NotHeld).count();
    assert!(not_held < refused.len(), "somebody holds it");
    let known = [RefusalCode::NotHeld, RefusalCode::NotAllowed, RefusalCode::Malformed];
    assert!(refused.iter().all(|code| known.contains(code)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_of_the_owner_deletes_shortens_moves_or_overwrites() {
    let owned = Owned::new();
    let thief = Thief::new(&owned.mesh).await;
    thief.assert_all_locked().await;
    for held in thief.stripes().await {
        let shorter = [Period(0), Period::seconds(1), Period::days(89)];
        for period in shorter {
            assert_refused(&thief, &altered(&thief, &held, |r| r.policy.lock.period = period))
                .await;
        }
        let hasty = altered(&thief, &held, |r| r.policy.lock.release_cooldown = Period(0));
        assert_refused(&thief, &hasty).await;
        // Nobody holds it any more, by the word of the thief.
        let nobody = altered(&thief, &held, |r| {
            for (i, holder) in r.holders.iter_mut().enumerate() {
                *holder = NodeId([i as u8; 32]);
            }
        });
        assert_refused(&thief, &nobody).await;
        let empty = altered(&thief, &held, |r| r.policy.survive = Clauses::default());
        let _ = thief.say(&Request::Replace(empty)).await;
        // Other bytes under the same name, at each holder.
        let record = Signed::sign(&held.record, &thief.vault.device);
        for (node, &index) in &held.promised {
            let bytes = vec![7; held.record.stripe.shard_len as usize];
            let node = &thief.mesh.nodes[node];
            match node.put(&record, index, &bytes).await {
                // It has the shard, and wants no other.
                Ok(receipt) => assert_eq!(receipt.verify().unwrap().index, index),
                Err(error) => assert_ne!(refusal(&error), RefusalCode::Internal),
            }
        }
    }
    // A policy without locks is for what comes later, at most.
    let mut descriptor = thief.vault.papers.descriptor.verify().unwrap();
    descriptor.version += 1;
    let lock = protocol::policy::Lock { period: Period(0), ..Policy::survive_one("node").lock };
    descriptor.policy = Policy { lock, ..Policy::survive_one("node") };
    let descriptor = Signed::sign(&descriptor, &thief.key);
    let papers = VaultPapers { descriptor, ..thief.vault.papers.clone() };
    let _ = thief.say(&Request::Introduce(papers)).await;
    thief.assert_all_locked().await;
    owned.assert_all_restore(owned.mesh.owner());
    owned.assert_all_restore(&owned.recover(4));
    // It was noticed, with who tried.
    let device = thief.vault.device_id().short();
    for node in &owned.mesh.nodes {
        let log = node.log();
        assert!(log.contains("not_allowed") && log.contains(&device), "{log}");
    }
}
