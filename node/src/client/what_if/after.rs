//! The day after: every snapshot is followed to its last chunk, through an index as it is and as it would be.

use super::stripes::Stripes;
use super::{Outcome, Question, SnapshotFate, fate, whole, why, worst};
use crate::client::index::Index;
use crate::client::items::root_of;
use crate::client::ledger::{Ledger, Logged};
use crate::client::packs::Packs;
use crate::client::recipients::Identities;
use crate::client::restore::info_of;
use crate::client::walk::Walker;
use crate::client::{ClientError, Result};
use protocol::id::{SessionId, StripeId};
use protocol::index::IndexBlock;
use protocol::item::{ChunkRef, Root};
use protocol::log::Body;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Question {
    /// Follows every snapshot to its last chunk.
    pub(super) async fn walk_all(
        &self,
        ledger: &Ledger,
        identities: &Identities,
        stripes: &Stripes,
    ) -> Result<Vec<SnapshotFate>> {
        let mut packs = Packs::new(Arc::clone(&self.mesh), &self.vault);
        packs.open_sessions(ledger, identities)?;
        let packs = Arc::new(packs);
        let scratch = self.vault.scratch("what-if-")?;
        let (now, then) = (scratch.path().join("now"), scratch.path().join("then"));
        let (now, then) = (Arc::new(Index::open(&now)?), Arc::new(Index::open(&then)?));
        let given_up = ledger.given_up().stripes();
        for logged in ledger.all() {
            let Body::Index { stripes: named, .. } = &logged.entry.body else { continue };
            let (mut all, mut left) = (Vec::new(), Vec::new());
            for &stripe in named {
                // What cannot be read now is lost already, and listed so.
                let Ok(block) = packs.read_index(stripe).await else { continue };
                if self.is_kept(logged) && !stripes.lost.contains_key(&stripe) {
                    let packs = block.packs.iter().filter(|pack| {
                        stripes.known.contains(&pack.stripe)
                            && !stripes.lost.contains_key(&pack.stripe)
                    });
                    left.push((stripe, IndexBlock { packs: packs.cloned().collect() }));
                }
                all.push((stripe, block));
            }
            now.merge(logged.entry.device, logged.entry.seq, &all, &given_up)?;
            then.merge(logged.entry.device, logged.entry.seq, &left, &given_up)?;
        }
        let keys: BTreeSet<SessionId> = ledger
            .all()
            .filter(|logged| self.is_kept(logged))
            .filter_map(|logged| match &logged.entry.body {
                Body::Session { session, .. } => Some(*session),
                _ => None,
            })
            .collect();
        let (packs_too, now_too) = (Arc::clone(&packs), Arc::clone(&now));
        let mut walker = Walker::new(packs_too, now_too, Arc::clone(&self.progress));
        let day_after = DayAfter { packs, now, then, keys, stripes };
        for info in ledger.snapshots().iter().filter_map(|s| info_of(&self.vault, s)) {
            self.progress.expect(info.items, info.bytes);
        }
        let mut fates = Vec::new();
        // Unchanged sources have the same root: one answer for all of them.
        let mut answers: BTreeMap<Vec<u8>, SnapshotFate> = BTreeMap::new();
        for logged in ledger.snapshots() {
            if !self.is_kept(logged) {
                fates.push(fate(logged, Outcome::Lost, "no node left lists it"));
                continue;
            }
            let root = match root_of(&day_after.packs, logged) {
                Ok(root) => root,
                Err(error) => {
                    fates.push(fate(logged, Outcome::Unknown, error.to_string()));
                    continue;
                }
            };
            let Body::Snapshot { session, .. } = &logged.entry.body else { continue };
            if !day_after.keys.contains(session) {
                fates.push(fate(logged, Outcome::Lost, "no node left has its key"));
                continue;
            }
            let name = root.encode();
            let found = match answers.get(&name) {
                Some(known) => known.clone(),
                None => day_after.follow(&mut walker, logged, root).await?,
            };
            answers.insert(name, found.clone());
            fates.push(SnapshotFate { id: logged.id, witnessed: logged.witnessed().0, ..found });
        }
        Ok(fates)
    }
}

/// The vault as it is, and as it would be.
struct DayAfter<'a> {
    packs: Arc<Packs>,
    now: Arc<Index>,
    then: Arc<Index>,
    /// Sessions whose keys are left.
    keys: BTreeSet<SessionId>,
    stripes: &'a Stripes,
}

impl DayAfter<'_> {
    /// Follows one snapshot.
    async fn follow(
        &self,
        walker: &mut Walker,
        logged: &Logged,
        root: Root,
    ) -> Result<SnapshotFate> {
        let mut lost: BTreeSet<StripeId> = BTreeSet::new();
        let mut unexplained = 0u64;
        let mut keyless = 0u64;
        let mut each = |chunk: &ChunkRef| -> Result<bool> {
            if let Some(location) = self.then.find(chunk.id)? {
                let has_key = self.keys.contains(&self.then.pack(location.pack)?.session);
                keyless += u64::from(!has_key);
                return Ok(has_key);
            }
            // It would be found no more: where does it lie now?
            let stripe = match self.now.find(chunk.id)? {
                Some(location) => Some(self.now.pack(location.pack)?.stripe),
                None => None,
            };
            match stripe.filter(|stripe| self.stripes.lost.contains_key(stripe)) {
                Some(stripe) => {
                    lost.insert(stripe);
                }
                // Its stripe is left, and what says where it lies is not; or nobody knew that before.
                None => unexplained += 1,
            }
            Ok(false)
        };
        let ended = walker.walk(root, &mut each).await;
        if let Err(ClientError::System(error)) = ended {
            return Err(error.into());
        }
        let worst = worst(lost.iter().filter_map(|stripe| self.stripes.lost.get(stripe))).cloned();
        let stripes_lost = lost.len() as u64;
        if let Some(stripe) = &worst {
            let why = why(stripe);
            return Ok(SnapshotFate { stripes_lost, worst, ..fate(logged, Outcome::Lost, why) });
        }
        let why = match ended {
            Err(error) => format!("it cannot be read now: {error}"),
            Ok(()) if unexplained > 0 => {
                let lost = self.stripes.lost.values();
                // Index packs are stripes as well.
                let why = super::worst(lost).map_or_else(|| "no node left lists it".into(), why);
                format!("the index of {unexplained} of its chunks would be lost: {why}")
            }
            Ok(()) if keyless > 0 => "keys that it needs would be with no node left".into(),
            Ok(()) => return Ok(whole(logged)),
        };
        Ok(fate(logged, Outcome::Lost, why))
    }
}
