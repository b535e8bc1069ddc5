//! Nodes that stand in for holders which were lost. No record names them: who wants to read a stripe asks all nodes for its record, and
//! each one answers with its own receipt.

use super::{Doing, World};
use protocol::id::ShardId;
use protocol::label::Site;
use protocol::message::{HeldRecord, Request, Response};

/// Stripes asked about in one request: the answer to so many is never cut short.
const ASKED_MAX: usize = 32;

/// The shard that a node promises to keep of a stripe whose record gives it to another one.
pub(super) fn stand_in(site: &Site, held: &HeldRecord) -> Option<ShardId> {
    let (record, receipt) = (held.record.verify().ok()?, held.receipt.as_ref()?.verify().ok()?);
    let is_kept = receipt.holder == site.node && receipt.check_kept(&record, receipt.index).is_ok();
    let is_named = record.index_of(site.node) == Some(receipt.index);
    (is_kept && !is_named).then_some(receipt.shard)
}

impl World {
    /// Asks all nodes about stripes that an owner restores and that their holders did not give. Whether there were any, and it is the
    /// first time.
    pub(super) fn ask_for_stand_ins(&mut self, owner: usize) -> bool {
        let of = &mut self.owners[owner];
        let client = of.client;
        let Some(Doing::Restore { stripes, is_asked, purpose, .. }) = &mut of.doing else {
            return false;
        };
        if std::mem::replace(is_asked, true) {
            return false;
        }
        let (purpose, all) = (*purpose, of.stripes.as_slice());
        let unread = stripes.iter().map(|&stripe| &all[stripe].stored);
        let unread = unread.filter(|stored| !self.clients[client].is_read(stored));
        let unread: Vec<_> = unread.map(|stored| stored.stripe.id()).collect();
        if unread.is_empty() {
            return false;
        }
        let vault = self.clients[client].vault();
        self.clients[client].purpose = purpose;
        for node in self.owners[owner].listed.clone() {
            for page in unread.chunks(ASKED_MAX) {
                let stripes = page.to_vec();
                self.clients[client].say(node, Request::Records { vault, stripes });
            }
        }
        self.act(client);
        true
    }

    /// A node tells what it has of stripes: who stands in is asked for its shard.
    pub(super) fn stand_ins_told(
        &mut self,
        owner: usize,
        client: usize,
        node: usize,
        response: &Response,
    ) {
        let (Response::Records(records), Some(Doing::Restore { purpose, .. })) =
            (response, &self.owners[owner].doing)
        else {
            return;
        };
        if self.owners[owner].client != client {
            return;
        }
        self.clients[client].purpose = *purpose;
        for held in records.iter().flatten() {
            if let Some(shard) = stand_in(&self.hosts[node].site, held)
                && !self.clients[client].has(shard)
                && let Ok(record) = held.record.verify()
            {
                self.clients[client].fetch_shard(node, shard, record.stripe.shard_len);
            }
        }
        self.act(client);
    }
}
