//! What becomes of the stripes of a vault, and what that tells of a snapshot of which nobody knows which it needs.

use super::{LostStripe, Outcome, Question, SnapshotFate, fate, whole, why, worst};
use crate::client::inventory::{Inventory, devices};
use crate::client::ledger::Logged;
use crate::client::named::Named;
use protocol::id::{NodeId, SessionId, StripeId};
use protocol::log::Body;
use protocol::placement::Fate;
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of the stripes.
#[derive(Default)]
pub(super) struct Stripes {
    pub(super) all: u64,
    pub(super) below: u64,
    pub(super) lost_already: u64,
    pub(super) lost: BTreeMap<StripeId, LostStripe>,
    lost_of_session: BTreeMap<SessionId, Vec<StripeId>>,
    pub(super) known: BTreeSet<StripeId>,
}

impl Stripes {
    fn lose(&mut self, session: SessionId, lost: LostStripe) {
        self.lost_already += u64::from(lost.already);
        self.lost_of_session.entry(session).or_default().push(lost.stripe);
        self.lost.insert(lost.stripe, lost);
    }
}

impl Question {
    /// All that nodes list, and what of the stripes named nobody lists.
    pub(super) async fn stripes(&self, named: BTreeMap<StripeId, Named>) -> Stripes {
        let mut stripes = Stripes::default();
        let devices = devices(&self.mesh, &self.vault).await;
        let mut inventory = Inventory::new(&self.mesh, self.vault.id, devices);
        // Stripes with the same holders have the same fate.
        let mut fates: BTreeMap<(u16, Vec<NodeId>), Fate> = BTreeMap::new();
        while let Some(held) = inventory.next().await {
            let sites = held.sites(&self.mesh);
            let k = held.record.stripe.k;
            let pattern = (k, sites.iter().map(|site| site.node).collect());
            let fate = fates
                .entry(pattern)
                .or_insert_with(|| self.loss.fate(&self.vault.policy, usize::from(k), &sites));
            stripes.all += 1;
            stripes.known.insert(held.stripe);
            match fate {
                Fate::Whole => {}
                Fate::BelowPolicy { .. } => stripes.below += 1,
                Fate::Destroyed { left, needed, broken } => {
                    let (left, needed) = (*left, *needed);
                    let already = sites.len() < usize::from(k);
                    let clause = broken.as_ref().map(ToString::to_string);
                    let lost = LostStripe { stripe: held.stripe, left, needed, clause, already };
                    stripes.lose(held.record.session, lost);
                }
            }
        }
        for (stripe, Named { session, needed }) in named {
            if !stripes.known.contains(&stripe) {
                stripes.all += 1;
                let lost = LostStripe { stripe, left: 0, needed, clause: None, already: true };
                stripes.lose(session, lost);
            }
        }
        stripes
    }

    /// What can be said of a snapshot without knowing what it needs.
    pub(super) fn guess(&self, logged: &Logged, stripes: &Stripes) -> SnapshotFate {
        if !self.is_kept(logged) {
            return fate(logged, Outcome::Lost, "no node left lists it");
        }
        if stripes.lost.is_empty() {
            return whole(logged);
        }
        let Body::Snapshot { session, .. } = &logged.entry.body else {
            return fate(logged, Outcome::Unknown, "it is no snapshot");
        };
        if stripes.lost.len() as u64 == stripes.all {
            let worst = worst(stripes.lost.values());
            return SnapshotFate {
                stripes_lost: stripes.all,
                worst: worst.cloned(),
                ..fate(logged, Outcome::Lost, worst.map_or_else(String::new, why))
            };
        }
        let own = stripes.lost_of_session.get(session).map_or(&[][..], Vec::as_slice);
        let worst = worst(own.iter().filter_map(|stripe| stripes.lost.get(stripe)));
        let why = match own.len() {
            0 => "none of the stripes lost was written with it; it may need older ones".into(),
            count => format!("{count} of the stripes lost were written with it"),
        };
        SnapshotFate {
            stripes_lost: own.len() as u64,
            worst: worst.cloned(),
            ..fate(logged, Outcome::Unknown, why)
        }
    }
}
