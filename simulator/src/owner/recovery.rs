//! A vault brought back by a machine that has nothing but the recovery identity and the address of one node.

use super::stand_ins::stand_in;
use super::{PATIENCE, policy_of};
use crate::client::{Client, Stored};
use crate::setup::{EPOCH, VALIDITY, key};
use crate::world::{Event, World};
use protocol::certificate::DeviceCertificate;
use protocol::id::{DeviceId, ShardId, StripeId};
use protocol::log::Body;
use protocol::message::{Greeting, Request, Response};
use protocol::recovery::RecoveryTag;
use protocol::sign::Signed;
use protocol::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// A machine that recovers a vault.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) client: usize,
    by: usize,
    begun: Mono,
    stage: Stage,
    listed: BTreeSet<StripeId>,
    records: BTreeMap<StripeId, Stored>,
    /// Who stands in for a holder, with the shard that it has.
    stand_ins: BTreeSet<(StripeId, usize, ShardId)>,
    /// What was needed when it began.
    needed: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Card,
    Papers,
    Lists,
    Shards,
}

impl World {
    /// A machine with nothing but the recovery identity asks one node.
    pub(crate) fn recover(&mut self, owner: usize, by: usize) {
        let Some(of) = self.owners.get(owner) else { return };
        let host = self.hosts.get(by);
        let is_stranger = !self.is_known_to(&of.setup.operator, by.min(self.nodes() - 1));
        if is_stranger || host.is_none_or(|host| host.peer.is_none() || !host.is_honest()) {
            self.count_restore(false);
            return;
        }
        let needed = of.needed().into_iter().collect();
        let tag = RecoveryTag::of(&of.recipient());
        let stranger = key("machine", &format!("{owner} {}", self.clients.len()));
        let (name, setup) = (of.name.clone(), of.setup.clone());
        let names = (name.as_str(), name.as_str());
        let roster = self.roster(&[]);
        let client = Client::new(names, &self.speaker(&setup.operator), roster, policy_of(&setup))
            .greeting(Some(Greeting::Recover { tag }), Some(stranger));
        let client = self.join(client);
        // The greeting is all that it says; the question after it is never asked.
        self.clients[client].say(by, Request::Status);
        let (begun, stage) = (self.now(), Stage::Card);
        let (listed, records) = (BTreeSet::new(), BTreeMap::new());
        let stand_ins = BTreeSet::new();
        let recovery = Recovery { client, by, begun, stage, listed, records, stand_ins, needed };
        self.owners[owner].recoveries.push(recovery);
        self.act(client);
        self.strike();
        self.cause_at(begun.after(PATIENCE), Event::Owner(owner));
    }

    pub(super) fn recovery_told(
        &mut self,
        owner: usize,
        client: usize,
        node: usize,
        response: Response,
    ) {
        let Some(at) = self.owners[owner].recoveries.iter().position(|r| r.client == client) else {
            return;
        };
        let vault = self.clients[client].vault();
        match response {
            Response::Recovery { sealed } => self.recovery_card(owner, at, sealed),
            Response::Vault(Some(_)) => {
                self.owners[owner].recoveries[at].stage = Stage::Lists;
                for node in 0..self.nodes() {
                    self.clients[client].say(node, Request::Log { vault, after: None });
                    self.clients[client].say(node, Request::Inventory { vault, after: None });
                }
            }
            Response::Log { entries, more } => {
                let mut last = None;
                for logged in entries {
                    let Ok(entry) = logged.entry.verify() else { continue };
                    last = Some((entry.device, entry.seq));
                    if let Body::Index { stripes, .. } = entry.body {
                        self.owners[owner].recoveries[at].listed.extend(stripes);
                    }
                }
                if more && last.is_some() {
                    self.clients[client].say(node, Request::Log { vault, after: last });
                }
            }
            Response::Inventory { records, more } => {
                let mut last = None;
                for held in records {
                    let stands_in = stand_in(&self.hosts[node].site, &held);
                    let Ok(record) = held.record.verify() else { continue };
                    let stripe = record.stripe.id();
                    last = Some(stripe);
                    let holders =
                        record.holders.iter().filter_map(|&node| self.node_of(node)).collect();
                    let of = &mut self.owners[owner];
                    let len = of.setup.stripe_len as usize;
                    let stored = Stored { stripe: record.stripe, holders, len };
                    let recovery = &mut of.recoveries[at];
                    recovery.records.entry(stripe).or_insert(stored);
                    recovery.stand_ins.extend(stands_in.map(|shard| (stripe, node, shard)));
                }
                if more && last.is_some() {
                    self.clients[client].say(node, Request::Inventory { vault, after: last });
                }
            }
            _ => {}
        }
        self.act(client);
    }

    fn recovery_card(&mut self, owner: usize, at: usize, sealed: Vec<protocol::codec::Blob>) {
        let of = &self.owners[owner];
        let by = of.recoveries[at].by;
        let vault = self.clients[of.client].vault_key().clone();
        let own = vault.seed().to_vec();
        let is_there = sealed.iter().any(|blob| blob.0 == own);
        if !is_there {
            let was_kept = self.checker_ref().cards.contains(&(by, own));
            if was_kept && self.hosts[by].is_honest() {
                let text = format!("node {by} kept the card of owner {owner} and does not give it");
                self.checker().report("P7", text);
            }
            self.owners[owner].recoveries.remove(at);
            self.count_restore(false);
            return;
        }
        // With the vault's key it makes a device of its own.
        let name = format!("{}.recovered.{}", of.name, self.clients.len());
        let device = key("device", &name);
        let certificate = DeviceCertificate {
            vault: vault.public().into(),
            device: DeviceId::from(device.public()),
            issued: EPOCH,
            expires: EPOCH.after(VALIDITY),
        };
        let Greeting::Device { vault: word, .. } = self.clients[of.client].greeting_of().clone()
        else {
            return;
        };
        let greeting = Greeting::Device { vault: word, device: Signed::sign(&certificate, &vault) };
        let (setup, vault_name) = (of.setup.clone(), of.name.clone());
        let roster = self.roster(&[]);
        let names = (vault_name.as_str(), name.as_str());
        let client = Client::new(names, &self.speaker(&setup.operator), roster, policy_of(&setup))
            .greeting(Some(greeting), Some(device));
        let client = self.join_known(client, &setup.operator);
        let id = self.clients[client].vault();
        let recovery = &mut self.owners[owner].recoveries[at];
        (recovery.client, recovery.stage) = (client, Stage::Papers);
        self.clients[client].say(by, Request::Vault(id));
        self.act(client);
    }

    pub(super) fn go_on_recovering(&mut self, owner: usize) {
        for at in (0..self.owners[owner].recoveries.len()).rev() {
            let Recovery { client, begun, stage, .. } = self.owners[owner].recoveries[at];
            let is_late = self.now() >= begun.after(PATIENCE);
            let is_settled = self.clients[client].is_settled(0);
            match stage {
                Stage::Lists if is_settled || is_late => {
                    let recovery = &mut self.owners[owner].recoveries[at];
                    recovery.stage = Stage::Shards;
                    let listed = recovery.listed.iter();
                    let found: Vec<Stored> =
                        listed.filter_map(|id| recovery.records.get(id).cloned()).collect();
                    let lens: BTreeMap<StripeId, u32> = found
                        .iter()
                        .map(|stored| (stored.stripe.id(), stored.stripe.shard_len))
                        .collect();
                    let recovery_stand_ins = recovery.stand_ins.clone();
                    self.clients[client].purpose = 1;
                    for stored in found {
                        for &node in &stored.holders {
                            self.clients[client].fetch(&stored, node);
                        }
                    }
                    for (stripe, node, shard) in recovery_stand_ins {
                        if let Some(len) = lens.get(&stripe) {
                            self.clients[client].fetch_shard(node, shard, *len);
                        }
                    }
                    self.act(client);
                }
                Stage::Shards if self.clients[client].is_settled(1) || is_late => {
                    let recovery = self.owners[owner].recoveries.remove(at);
                    self.end_recovery(owner, recovery);
                }
                _ if is_late => {
                    let recovery = self.owners[owner].recoveries.remove(at);
                    self.end_recovery(owner, recovery);
                }
                _ => {}
            }
        }
    }

    /// What was needed when the recovery began, and can be had, must have come back.
    fn end_recovery(&mut self, owner: usize, recovery: Recovery) {
        let Recovery { client, begun, needed, .. } = recovery;
        let mut is_whole = true;
        for stripe in needed {
            is_whole &= self.check_read(owner, client, stripe, begun);
        }
        for node in 0..self.nodes() {
            self.clients[client].leave(node);
        }
        self.clients[client].forget_fetched();
        self.count_restore(is_whole);
        self.note(format_args!("owner {owner} has recovered: {is_whole}"));
    }
}
