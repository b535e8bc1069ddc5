//! An owner who discharges holders of their shards, whether others have them or not: whoever would drop the only one is to find out.

use super::World;
use protocol::discharge::{DISCHARGE_STRIPES_MAX, Discharge};
use protocol::id::StripeId;
use protocol::message::Request;
use protocol::release::{Approval, ReleaseRequest, release_id};
use protocol::sign::Signed;
use protocol::time::Period;
use std::collections::BTreeMap;

impl World {
    /// Of a thousand shards of what a vault needs, so many need not be kept where its records say. From now on their locks are not
    /// extended; who was asked before is asked again, since locks end.
    pub(super) fn discharge(&mut self, owner: usize, per_mille: u32, approvals: u32) {
        let of = &self.owners[owner];
        let needed = of.needed().into_iter().filter(|stripe| of.stripes[*stripe].is_committed);
        let places = needed.flat_map(|stripe| {
            let stored = &of.stripes[stripe].stored;
            let id = stored.stripe.id();
            stored.holders.iter().map(move |&node| (node, id)).collect::<Vec<_>>()
        });
        let places: Vec<(usize, StripeId)> = places.collect();
        let drawn: Vec<(usize, StripeId)> =
            places.into_iter().filter(|_| self.random().happens(per_mille)).collect();
        let of = &mut self.owners[owner];
        of.discharged.extend(drawn);
        let mut by_node: BTreeMap<usize, Vec<StripeId>> = BTreeMap::new();
        for &(node, stripe) in &of.discharged {
            by_node.entry(node).or_default().push(stripe);
        }
        let (client, issued) = (of.client, self.wall());
        for (node, mut stripes) in by_node {
            stripes.truncate(DISCHARGE_STRIPES_MAX);
            let vault = self.clients[client].vault_key();
            let expires = issued.after(Period::days(80));
            let request = ReleaseRequest { vault: vault.public().into(), issued, expires, stripes };
            let discharge = Discharge { node: self.hosts[node].site.node, request };
            let discharge = Signed::sign(&discharge, vault);
            let release = release_id(&discharge);
            let approve = |index: u32| {
                let key = self.owners[owner].guardian(index as usize)?;
                let guardian = key.public().into();
                Some(Signed::sign(&Approval { guardian, release, expires }, &key))
            };
            let approvals = (0..approvals).filter_map(approve).collect();
            let request = Request::Discharge { discharge, approvals, from: 0 };
            self.clients[client].say(node, request);
        }
    }
}
