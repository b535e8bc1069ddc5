//! Operators who mean no good: they take more than they were given, or help each other to blame a third.

use crate::client::Client;
use crate::owner::policy_of;
use crate::setup::{EPOCH, operator_id};
use crate::world::World;
use protocol::audit::{Finding, Outcome};
use protocol::codec::{VALUE_LEN_MAX, decode};
use protocol::id::VaultId;
use protocol::message::Response;
use protocol::peer::{Facts, Table};
use protocol::record::Record;
use protocol::sign::Signed;
use protocol::time::{Period, Wall};

/// Bytes of each shard of who is greedy.
const GREEDY_SHARD: usize = 512;
/// Findings that are made up in one answer.
const FORGED_MAX: usize = 256;

impl World {
    /// Whose a vault is, is the checker's to know.
    pub(crate) fn vouched(&mut self, vault: VaultId, operator: &str) {
        if let Some(swapping) = &mut self.checker().swapping {
            swapping.owners.insert(vault, operator_id(operator));
        }
    }

    /// An operator's vaults put what they can with everybody else's nodes, whatever was agreed.
    pub(super) fn attack_greedily(
        &mut self,
        vault: usize,
        vaults: u32,
        stripes: u32,
        lock: Period,
    ) {
        let Some(owner) = self.owners.get(vault) else { return };
        let setup = owner.setup.clone();
        let mut policy = policy_of(&setup);
        policy.lock.period = lock;
        policy.lock.release_cooldown = lock.min(policy.lock.release_cooldown);
        let is_target = |&node: &usize| {
            self.hosts[node].operator != setup.operator && !setup.outside.contains(&node)
        };
        let holders: Vec<usize> = (0..self.nodes()).filter(is_target).take(8).collect();
        if holders.is_empty() {
            return;
        }
        let speaker = self.speaker(&setup.operator);
        for _ in 0..vaults {
            let name = format!("greedy {}", self.clients.len());
            let names = (name.as_str(), name.as_str());
            let roster = self.roster(&setup.outside);
            let mut client = Client::new(names, &speaker, roster, policy.clone());
            for node in (0..self.nodes()).filter(|node| !holders.contains(node)) {
                client.leave(node);
            }
            let client = self.join(client);
            self.vouched(self.clients[client].vault(), &setup.operator);
            for stripe in 0..stripes {
                let data = self.random().bytes(holders.len() * GREEDY_SHARD);
                self.clients[client].put(&data, u64::from(stripe), holders.len(), &holders);
            }
            self.act(client);
        }
    }

    /// The nodes of some operators say what is not so of another one's, from now on.
    pub(super) fn attack_slander(&mut self, by: &[String], of: &str) {
        for host in &mut self.hosts {
            if by.contains(&host.operator) && host.operator != of {
                host.slanders = Some(of.to_owned());
            }
        }
    }

    /// What a node answers that slanders another one's nodes: nobody heard them, and they have nothing of what they promised.
    pub(crate) fn slander(&self, node: usize, response: &mut Response) {
        let host = &self.hosts[node];
        let Some(of) = &host.slanders else { return };
        match response {
            Response::Hearsay(said) => said.ages.iter_mut().for_each(|age| *age = None),
            Response::Findings { found, .. } => {
                let when = Wall(EPOCH.0 + self.now().0);
                let rows = host.disk.facts().scan(Table::Record, &[], None, usize::MAX);
                let records = rows.unwrap_or_default().into_iter().filter_map(|(_, row)| {
                    let signed: Signed<Record> = decode(&row, VALUE_LEN_MAX).ok()?;
                    signed.verify().ok()
                });
                let mut forged = Vec::new();
                for record in records {
                    let holders = record.holders.iter().zip(&record.stripe.shards);
                    for (&holder, &shard) in holders {
                        let is_meant = self.node_of(holder);
                        if is_meant.is_none_or(|holder| self.hosts[holder].operator != *of) {
                            continue;
                        }
                        let finding = Finding {
                            auditor: host.site.node,
                            holder,
                            vault: record.stripe.vault,
                            stripe: record.stripe.id(),
                            shard,
                            outcome: Outcome::Silent,
                            when,
                        };
                        forged.push(Signed::sign(&finding, host.key()));
                    }
                }
                forged.truncate(FORGED_MAX);
                *found = forged;
            }
            _ => {}
        }
    }
}
