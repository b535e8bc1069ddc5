//! What is believed of logs that several nodes show.

use super::*;
use protocol::codec::Blob;
use protocol::id::{SessionId, StripeId};
use protocol::log::EntryAck;
use protocol::retention::Forget;
use protocol::sign::SecretKey;

/// The vault's key is key 9.
fn vault() -> VaultId {
    key(9).public().into()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn device(seed: u8) -> DeviceId {
    key(seed).public().into()
}

fn node(seed: u8) -> NodeId {
    key(seed).public().into()
}

fn snapshot(device: u8, seq: u64, previous: Option<&Signed<Entry>>, name: u8) -> Signed<Entry> {
    let body = Body::Snapshot {
        session: SessionId([1; 32]),
        summary: Blob::default(),
        root: Blob(vec![name]),
    };
    let (device, key) = (self::device(device), key(device));
    let previous = previous.map(entry_id);
    Signed::sign(&Entry { vault: vault(), device, seq, previous, claimed: Wall(0), body }, &key)
}

fn listed(holder: u8, entry: &Signed<Entry>, witnessed: u64) -> LoggedEntry {
    let Entry { vault, device, seq, .. } = entry.verify().unwrap();
    let (entry_id, witnessed) = (entry_id(entry), Wall(witnessed));
    let ack = EntryAck { holder: node(holder), vault, device, seq, entry: entry_id, witnessed };
    LoggedEntry { entry: entry.clone(), ack: Signed::sign(&ack, &key(holder)) }
}

/// What comes of it when these nodes list these entries as seen at these times.
fn ledger(listings: &[(u8, &Signed<Entry>, u64)]) -> Ledger {
    let devices = BTreeSet::from([device(50), device(51)]);
    let mut ledger = Ledger::default();
    for (holder, entry, seen) in listings {
        let checked =
            check_listed(&listed(*holder, entry, *seen), vault(), node(*holder), &devices);
        if let Ok((logged, witnessed)) = checked {
            ledger.take(node(*holder), witnessed, logged);
        }
    }
    ledger.settle_forks();
    ledger
}

fn order(ledger: &Ledger) -> Vec<EntryId> {
    ledger.snapshots().into_iter().map(|logged| logged.id).collect()
}

#[test]
fn what_no_device_of_the_vault_signed_is_not_taken_in() {
    // A listed holder made itself a key, and copied an old snapshot under it.
    let (own, forged) = (snapshot(50, 0, None, 1), snapshot(99, 0, None, 1));
    let ledger = ledger(&[(1, &own, 10), (2, &forged, u64::MAX), (2, &own, 11)]);
    assert_eq!(order(&ledger), [entry_id(&own)]);
    assert_eq!(ledger.find_snapshot("latest").unwrap().id, entry_id(&own));
    let devices = BTreeSet::from([device(50)]);
    let others = check_listed(&listed(1, &own, 10), vault(), node(2), &devices);
    assert_eq!(others.unwrap_err(), "a log entry without its own countersignature");
    assert!(check_listed(&listed(1, &own, 10), VaultId([2; 32]), node(1), &devices).is_err());
}

#[test]
fn the_lie_of_one_holder_of_three_does_not_change_the_order() {
    let (old, new) = (snapshot(50, 0, None, 1), snapshot(51, 0, None, 2));
    for lie in [0, u64::MAX] {
        for subject in [&old, &new] {
            let seen = |holder, entry: &Signed<Entry>, time| match holder {
                3 if entry_id(entry) == entry_id(subject) => lie,
                _ => time,
            };
            let listings: Vec<_> = [(&old, 100), (&new, 200)]
                .into_iter()
                .flat_map(|(entry, time)| [1, 2, 3].map(|h| (h, entry, seen(h, entry, time))))
                .collect();
            assert_eq!(order(&ledger(&listings)), [entry_id(&old), entry_id(&new)]);
        }
    }
}

#[test]
fn a_devices_snapshots_stand_in_the_order_of_its_log_whatever_clocks_say() {
    let first = snapshot(50, 0, None, 1);
    let second = snapshot(50, 1, Some(&first), 2);
    let between = snapshot(51, 0, None, 3);
    let ledger = ledger(&[(1, &first, 900), (1, &second, 400), (1, &between, 300)]);
    assert_eq!(order(&ledger), [&between, &first, &second].map(entry_id));
}

#[test]
fn both_sides_of_a_fork_are_kept_and_shown_whoever_answers_first() {
    let first = snapshot(50, 0, None, 1);
    let (one, other) = (snapshot(50, 1, Some(&first), 2), snapshot(50, 1, Some(&first), 3));
    let listings = [(1, &first, 1), (1, &one, 5), (2, &other, 5), (3, &other, 5)];
    let forwards = ledger(&listings);
    let backwards = ledger(&listings.into_iter().rev().collect::<Vec<_>>());
    for ledger in [&forwards, &backwards] {
        assert_eq!(ledger.forked(), BTreeSet::from([device(50)]));
        assert_eq!(ledger.snapshots().len(), 3);
        assert_eq!(ledger.entries[&(device(50), 1)].id, entry_id(&other));
        assert_eq!(ledger.others.keys().copied().collect::<Vec<_>>(), [entry_id(&one)]);
    }
    assert_eq!(order(&forwards), order(&backwards));
    assert!(ledger(&[(1, &first, 1), (1, &one, 5)]).forked().is_empty());
    // The entry before it is another one.
    let elsewhere = snapshot(50, 1, Some(&other), 4);
    assert_eq!(ledger(&[(1, &first, 1), (2, &elsewhere, 5)]).forked().len(), 1);
}

#[test]
fn latest_is_one_that_is_held_widely_while_there_is_one() {
    let first = snapshot(50, 0, None, 1);
    let second = snapshot(50, 1, Some(&first), 2);
    let mut ledger = ledger(&[(1, &first, 1), (1, &second, 2)]);
    let latest = |ledger: &Ledger| ledger.find_snapshot("latest").unwrap().id;
    assert_eq!(latest(&ledger), entry_id(&second));
    ledger.doubtful = BTreeMap::from([(entry_id(&second), Holding::Narrow)]);
    assert_eq!(latest(&ledger), entry_id(&first));
    assert_eq!(order(&ledger).len(), 2);
    // Silent nodes may have it.
    ledger.doubtful = BTreeMap::from([(entry_id(&second), Holding::Unknown)]);
    assert_eq!(latest(&ledger), entry_id(&second));
    let narrow = [&first, &second].map(|entry| (entry_id(entry), Holding::Narrow));
    ledger.doubtful = BTreeMap::from(narrow);
    assert_eq!(latest(&ledger), entry_id(&second));
}

#[test]
fn only_what_the_vault_itself_forgets_is_left_out() {
    let first = snapshot(50, 0, None, 1);
    let second = snapshot(50, 1, Some(&first), 2);
    let forget = |signer: u8| {
        let vault = key(signer).public().into();
        let forget = Forget { vault, issued: Wall(0), snapshots: vec![entry_id(&second)] };
        let body = Body::Forget(Signed::sign(&forget, &key(signer)));
        let entry = snapshot(51, 0, None, 3).verify().unwrap();
        Signed::sign(&Entry { body, ..entry }, &key(51))
    };
    for (signer, latest) in [(9, &first), (50, &second), (51, &second)] {
        let said = forget(signer);
        let mut ledger = ledger(&[(1, &first, 1), (1, &second, 2), (1, &said, 3)]);
        ledger.forget();
        assert_eq!(ledger.find_snapshot("latest").unwrap().id, entry_id(latest));
        assert_eq!(order(&ledger).len(), 2);
        // By its id it is found all the same.
        let name = entry_id(&second).to_string();
        assert!(ledger.find_snapshot(&name).is_ok());
    }
}

#[test]
fn only_what_the_vault_itself_gives_up_counts_and_it_is_known_who_brought_it() {
    let stripe = StripeId([7; 32]);
    let given_up = |signer: u8, keep: bool, previous: Option<&Signed<Entry>>| {
        let vault = key(signer).public().into();
        let said = GivenUp { vault, number: 0, keep, stripes: vec![stripe] };
        let body = Body::GivenUp(Signed::sign(&said, &key(signer)));
        let seq = u64::from(previous.is_some());
        let entry = snapshot(51, seq, previous, 3).verify().unwrap();
        Signed::sign(&Entry { body, ..entry }, &key(51))
    };
    let heard = |entries: &[&Signed<Entry>]| {
        let listed: Vec<_> = entries.iter().map(|entry| (1, *entry, 3)).collect();
        let mut ledger = ledger(&listed);
        ledger.forget();
        let brought = ledger.given_up_by().get(&device(51)).copied();
        (ledger.given_up().contains(stripe), brought)
    };
    let said = given_up(9, false, None);
    let brought = Some(Brought { stripes: 1, last: Wall(3) });
    assert_eq!(heard(&[&said]), (true, brought));
    assert_eq!(heard(&[&said, &given_up(9, true, Some(&said))]), (false, brought));
    for device in [50, 51] {
        assert_eq!(heard(&[&given_up(device, false, None)]), (false, None), "a device says so");
    }
}
