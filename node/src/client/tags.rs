//! The tags of snapshots as the log has them: what a snapshot was written with, and what was said later.

use super::backup::SnapshotInfo;
use super::ledger::{Ledger, Logged};
use super::restore::info_of;
use super::vault::Vault;
use crate::client::Result;
use crate::home::random;
use protocol::codec::Blob;
use protocol::id::{DeviceId, EntryId};
use protocol::log::Body;
use protocol::tag::Tags;
use protocol::time::Wall;
use std::collections::BTreeMap;

/// What the log says of tags.
#[derive(Debug, Default)]
pub struct Catalog(BTreeMap<EntryId, Tags>);

impl Catalog {
    /// Reads all entries about tags. Of one device the last entry counts, of several devices the one that holders
    /// saw last.
    #[must_use]
    pub fn read(vault: &Vault, ledger: &Ledger) -> Self {
        let key = vault.secret.catalog_key();
        let mut last: BTreeMap<(EntryId, DeviceId), (Wall, Tags)> = BTreeMap::new();
        // By device and number: what comes later replaces what came before.
        for logged in ledger.entries.values() {
            let Body::Tags { snapshot, tags } = &logged.entry.body else { continue };
            if let Ok(tags) = Tags::open(&key, &tags.0) {
                last.insert((*snapshot, logged.entry.device), (logged.witnessed(), tags));
            }
        }
        let mut newest: BTreeMap<EntryId, (Wall, Tags)> = BTreeMap::new();
        for ((snapshot, _), (seen, tags)) in last {
            if newest.get(&snapshot).is_none_or(|(other, _)| *other <= seen) {
                newest.insert(snapshot, (seen, tags));
            }
        }
        Self(newest.into_iter().map(|(snapshot, (_, tags))| (snapshot, tags)).collect())
    }

    /// What a snapshot says of itself, with the tags that it has now.
    #[must_use]
    pub fn info_of(&self, vault: &Vault, logged: &Logged) -> Option<SnapshotInfo> {
        let mut info = info_of(vault, logged)?;
        if let Some(tags) = self.0.get(&logged.id) {
            info.tags = tags.words().map(str::to_owned).collect();
        }
        Some(info)
    }
}

/// The entry that gives a snapshot these tags.
pub fn entry(vault: &Vault, snapshot: EntryId, tags: &Tags) -> Result<Body> {
    let random = random()?;
    let nonce = std::array::from_fn(|i| random[i]);
    let tags = Blob(tags.seal(&vault.secret.catalog_key(), nonce));
    Ok(Body::Tags { snapshot, tags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{recipients, vault};
    use crate::home::{Home, create_key};
    use protocol::id::NodeId;
    use protocol::log::Entry;
    use protocol::policy::Policy;
    use protocol::sign::{SecretKey, Signed};

    const SNAPSHOT: EntryId = EntryId([7; 32]);

    fn vault(home: &Home) -> Vault {
        create_key(&home.path("operator.key"), "an operator").unwrap();
        let (_, recipient) = recipients::generate();
        vault::create(home, "v", &Policy::survive_one("provider"), &[recipient]).unwrap()
    }

    fn say(vault: &Vault, ledger: &mut Ledger, device: u8, seq: u64, seen: u64, word: &str) {
        let key = SecretKey::from_seed(&[device; 32]);
        let tags = Tags::new([word.to_owned()]).unwrap();
        let body = entry(vault, SNAPSHOT, &tags).unwrap();
        let device = key.public().into();
        let entry = Entry { vault: vault.id, device, seq, previous: None, claimed: Wall(0), body };
        let signed = Signed::sign(&entry, &key);
        let holders = BTreeMap::from([(NodeId([1; 32]), Wall(seen))]);
        let logged = Logged { holders, ..Logged::new(&signed).unwrap() };
        ledger.entries.insert((device, seq), logged);
    }

    fn tags(vault: &Vault, ledger: &Ledger) -> Option<String> {
        let catalog = Catalog::read(vault, ledger);
        catalog.0.get(&SNAPSHOT).map(|tags| tags.words().collect::<Vec<_>>().join(","))
    }

    #[test]
    fn the_last_word_of_a_device_and_the_latest_of_several_counts() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(&Home::new(dir.path().into()));
        let mut ledger = Ledger::default();
        assert_eq!(tags(&vault, &ledger), None);
        say(&vault, &mut ledger, 1, 4, 500, "first");
        // A holder's clock that was set back does not bring an earlier word back.
        say(&vault, &mut ledger, 1, 5, 400, "second");
        assert_eq!(tags(&vault, &ledger).as_deref(), Some("second"));
        say(&vault, &mut ledger, 2, 0, 450, "another host");
        assert_eq!(tags(&vault, &ledger).as_deref(), Some("another host"));
        say(&vault, &mut ledger, 1, 6, 600, "third");
        assert_eq!(tags(&vault, &ledger).as_deref(), Some("third"));
    }
}
