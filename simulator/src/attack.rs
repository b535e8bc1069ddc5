//! Attackers: what is done with stolen keys and domains. Each speaks real messages, as a client of its own; nothing here
//! knows more than the keys that it holds.

mod partners;

use crate::client::Client;
use crate::owner::policy_of;
use crate::plan::{Attack, What};
use crate::setup::{EPOCH, operator_key};
use crate::world::{Event, World};
use protocol::certificate::{Roster, VaultDescriptor};
use protocol::codec::{Blob, VALUE_LEN_MAX, decode};
use protocol::id::{ShardId, StripeId, VaultId};
use protocol::label::{Domain, Level, Site};
use protocol::log::Body;
use protocol::message::Request;
use protocol::peer::{Facts, Held, Table};
use protocol::placement::Exposure;
use protocol::recovery::RecoveryCard;
use protocol::sign::Signed;
use protocol::succession::Speaker;
use protocol::time::Period;
use std::collections::{BTreeMap, BTreeSet};

/// Longest time by which a drawn release is dated ahead, or back.
const DATED_MAX_MS: u64 = 2 * 86_400_000;

impl World {
    /// An attacker acts.
    pub(crate) fn attack(&mut self, attack: Attack) {
        match attack {
            Attack::Release { vault, guardians, dated_ms } => {
                self.attack_release(vault, guardians, dated_ms);
            }
            Attack::Weaken { vault } => self.attack_weaken(vault),
            Attack::Fork { vault, seq } => self.attack_fork(vault, seq),
            Attack::Skip { vault } => self.attack_skip(vault),
            Attack::Fill { vault, stripes } => self.attack_fill(vault, stripes),
            Attack::WriteRevoked { vault } => self.attack_revoked(vault),
            Attack::Card { vault } => self.attack_card(vault),
            Attack::Stranger => self.attack_as_stranger(),
            Attack::Neighbour { by, vault } => self.attack_neighbour(by, vault),
            Attack::Cheapest { level, most } => self.attack_cheapest(&level, most as usize),
            Attack::Repairer => self.attack_repairer(),
            Attack::Greed { vault, vaults, stripes, lock } => {
                self.attack_greedily(vault, vaults, stripes, lock);
            }
            Attack::Slander { by, of } => self.attack_slander(&by, &of),
            Attack::OldKey { operator } => self.attack_with_old_key(&operator),
            Attack::Random { rounds } => self.attack_randomly(rounds),
        }
    }

    /// A client with the keys of one of a vault's devices.
    fn thief(&mut self, vault: usize, device: usize) -> Option<usize> {
        let owner = self.owners.get(vault)?;
        let device = owner.old_devices.get(device)?.clone();
        let (name, setup) = (owner.name().to_owned(), owner.setup.clone());
        Some(self.new_device(&name, &device, &setup))
    }

    fn newest_device(&self, vault: usize) -> usize {
        self.owners.get(vault).map_or(0, |owner| owner.old_devices.len().saturating_sub(1))
    }

    pub(crate) fn stripes_of(&self, vault: usize) -> Vec<StripeId> {
        let owner = self.owners.get(vault);
        owner.map_or_else(Vec::new, |owner| {
            owner.stripes.iter().map(|owned| owned.stored.stripe.id()).collect()
        })
    }

    fn attack_release(&mut self, vault: usize, guardians: u32, dated_ms: i64) {
        let stripes = self.stripes_of(vault);
        let Some(client) = self.thief(vault, self.newest_device(vault)) else { return };
        if stripes.is_empty() {
            return;
        }
        let issued = EPOCH.0.saturating_add(self.now().0).saturating_add_signed(dated_ms);
        let issued = protocol::time::Wall(issued);
        let (request, approvals) = self.request(vault, stripes, guardians, issued);
        for node in 0..self.nodes() {
            let (request, approvals) = (request.clone(), approvals.clone());
            self.clients[client].say(node, Request::Release { request, approvals, from: 0 });
        }
        // A veto of its newest release is one of this one, too.
        self.owners[vault].releases.push(request);
        self.act(client);
    }

    fn attack_weaken(&mut self, vault: usize) {
        let device = self.newest_device(vault);
        let Some(client) = self.thief(vault, device) else { return };
        let owner = &self.owners[vault];
        let mut policy = policy_of(&owner.setup);
        policy.lock.period = Period(1000);
        policy.lock.release_cooldown = Period(1000);
        policy.lock.guardians = None;
        let key = self.clients[client].vault_key().clone();
        let mut papers = self.clients[client].papers().clone();
        let descriptor = VaultDescriptor {
            vault: key.public().into(),
            version: 2,
            recipients: vec![owner.recipient()],
            sealed_secret: Blob(b"another".to_vec()),
            policy: policy.clone(),
        };
        papers.descriptor = Signed::sign(&descriptor, &key);
        let listed = papers.roster.verify().map_or(1, |roster| roster.version);
        let nobody = Roster { vault: descriptor.vault, version: listed + 1, nodes: Vec::new() };
        papers.roster = Signed::sign(&nobody, &key);
        let stored: Vec<_> = owner.stripes.iter().map(|owned| owned.stored.clone()).collect();
        let weaker: Vec<_> =
            stored.iter().map(|stored| self.clients[client].record(stored, &policy, 2)).collect();
        for node in 0..self.nodes() {
            self.clients[client].say(node, Request::Introduce(papers.clone()));
            for record in &weaker {
                self.clients[client].say(node, Request::Replace(record.clone()));
            }
        }
        self.act(client);
    }

    fn attack_fork(&mut self, vault: usize, seq: u64) {
        let device = self.newest_device(vault);
        let Some(client) = self.thief(vault, device) else { return };
        let log = self.clients[self.owners[vault].client].log();
        let history = log[..log.len().min(seq as usize)].to_vec();
        let session = protocol::id::SessionId([7; 32]);
        let body = Body::Session { session, sealed_key: Blob(vec![seq as u8; 64]) };
        self.clients[client].rewrite(&history, body);
        self.act(client);
    }

    fn attack_skip(&mut self, vault: usize) {
        let device = self.newest_device(vault);
        let Some(client) = self.thief(vault, device) else { return };
        let history = self.clients[self.owners[vault].client].log().to_vec();
        let body = |byte: u8| {
            let session = protocol::id::SessionId([9; 32]);
            Body::Session { session, sealed_key: Blob(vec![byte; 64]) }
        };
        self.clients[client].keep_back(&history, body(1));
        self.clients[client].append(body(2));
        self.act(client);
    }

    fn attack_fill(&mut self, vault: usize, stripes: u32) {
        let device = self.newest_device(vault);
        let Some(client) = self.thief(vault, device) else { return };
        let holders: Vec<usize> = (0..self.nodes().min(8)).collect();
        for stripe in 0..stripes {
            let salt = (1 << 40) + (client as u64) * (1 << 20) + u64::from(stripe);
            let len = holders.len() * 1024;
            let data = self.random().bytes(len);
            self.clients[client].put(&data, salt, holders.len(), &holders);
        }
        self.act(client);
    }

    fn attack_revoked(&mut self, vault: usize) {
        let Some(client) = self.thief(vault, 0) else { return };
        let holders: Vec<usize> = (0..self.nodes().min(4)).collect();
        let data = self.random().bytes(64);
        let salt = (1 << 41) + client as u64;
        self.clients[client].put(&data, salt, 1, &holders);
        let session = protocol::id::SessionId([8; 32]);
        self.clients[client].append(Body::Session { session, sealed_key: Blob(vec![1; 64]) });
        self.act(client);
    }

    fn attack_card(&mut self, vault: usize) {
        let device = self.newest_device(vault);
        let Some(client) = self.thief(vault, device) else { return };
        let key = self.clients[client].vault_key().clone();
        let recipient = self.owners[vault].recipient();
        let version = 2 + self.now().0;
        let card = RecoveryCard::new(key.public().into(), version, &[recipient], vec![9; 32]);
        let card = Signed::sign(&card, &key);
        for node in 0..self.nodes() {
            self.clients[client].say(node, Request::Card(card.clone()));
        }
        self.act(client);
    }

    /// Everything that may be asked about a vault.
    pub(crate) fn questions(&mut self, client: usize, vault: VaultId, stripes: &[StripeId]) {
        let ids: Vec<StripeId> = stripes.iter().copied().take(8).collect();
        for node in 0..self.nodes() {
            let disk = &self.hosts[node].disk;
            let is_theirs = |shard: &ShardId| {
                let row = disk.facts().get(Table::Held, shard.as_bytes()).ok().flatten();
                let held: Option<Held> = row.and_then(|row| decode(&row, VALUE_LEN_MAX).ok());
                held.is_some_and(|held| held.vault == vault)
            };
            let shard = disk.names().into_iter().find(is_theirs);
            let get = shard.map(|shard| Request::Get { shard, offset: 0, len: 64 });
            let requests = [
                Request::Vault(vault),
                Request::Log { vault, after: None },
                Request::Inventory { vault, after: None },
                Request::Records { vault, stripes: ids.clone() },
                Request::Extend { vault, stripes: ids.clone() },
                Request::Releases(vault),
            ];
            for request in requests.into_iter().chain(get) {
                self.clients[client].say(node, request);
            }
        }
        self.act(client);
    }

    fn attack_as_stranger(&mut self) {
        let Some(owner) = self.owners.first() else { return };
        let (policy, stripes) = (policy_of(&owner.setup), self.stripes_of(0));
        let vault = self.clients[owner.client].vault();
        let name = format!("stranger {}", self.clients.len());
        let roster = self.roster(&[]);
        let nobody = Speaker::first(operator_key("whom nobody knows"));
        let client = Client::new((&name, &name), &nobody, roster, policy);
        let client = self.join(client);
        self.checker().strangers.insert(client, None);
        self.questions(client, vault, &stripes);
    }

    fn attack_neighbour(&mut self, by: usize, vault: usize) {
        if by == vault || vault >= self.owners.len() {
            return;
        }
        let device = self.newest_device(by);
        let Some(client) = self.thief(by, device) else { return };
        let own = self.clients[client].vault();
        self.checker().strangers.insert(client, Some(own));
        let stripes = self.stripes_of(vault);
        let other = self.clients[self.owners[vault].client].vault();
        self.questions(client, other, &stripes);
    }

    /// Deletes the fewest domains of a level that destroy some stripe.
    fn attack_cheapest(&mut self, level: &Level, most: usize) {
        let mut cheapest: Option<Vec<Domain>> = None;
        let mut holding: BTreeMap<Domain, usize> = BTreeMap::new();
        for owner in &self.owners {
            for stripe in owner.needed() {
                let stored = &owner.stripes[stripe].stored;
                let live = stored.holders.iter().filter(|&&node| self.hosts[node].is_honest());
                let sites: Vec<&Site> = live.map(|&node| &self.hosts[node].site).collect();
                for site in &sites {
                    *holding.entry(site.domain(level)).or_default() += 1;
                }
                let exposure =
                    Exposure::of(usize::from(stored.stripe.k), &sites, std::slice::from_ref(level));
                let Some(found) = exposure.levels.into_values().next() else { continue };
                if cheapest.as_ref().is_none_or(|known| found.destroy.len() < known.len()) {
                    cheapest = Some(found.destroy);
                }
            }
        }
        let mut by_held: Vec<(usize, Domain)> =
            holding.into_iter().map(|(domain, held)| (held, domain)).collect();
        by_held.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let fall: Vec<Domain> = match cheapest {
            Some(cheapest) if cheapest.len() <= most => cheapest,
            _ => by_held.into_iter().take(most).map(|(_, domain)| domain).collect(),
        };
        let nodes: BTreeSet<usize> = (0..self.nodes())
            .filter(|&node| fall.contains(&self.hosts[node].site.domain(level)))
            .collect();
        for domain in &fall {
            self.lost.push((Period(self.now().0), domain.short()));
        }
        self.disturbed = self.disturbed.max(self.now());
        for node in nodes {
            self.vanish_node(node);
        }
    }

    /// Has whoever repairs right now.
    fn attack_repairer(&mut self) {
        let Some(node) = self.rebuilds.first() else { return };
        self.disturbed = self.disturbed.max(self.now());
        self.lost.push((Period(self.now().0), format!("node {node} seized")));
        self.seize(node);
    }

    fn attack_randomly(&mut self, rounds: u32) {
        for round in 0..rounds {
            let vault = (self.random().number() % self.owners.len().max(1) as u64) as usize;
            let small = self.random().number();
            let attack = match self.random().number() % 8 {
                0 | 1 => {
                    let dated = (small % (2 * DATED_MAX_MS)) as i64 - DATED_MAX_MS as i64;
                    let guardians = (small >> 40) as u32 % 3;
                    Attack::Release { vault, guardians, dated_ms: dated }
                }
                2 => Attack::Weaken { vault },
                3 => Attack::Fork { vault, seq: small % 6 },
                4 => Attack::Fill { vault, stripes: (small % 8) as u32 },
                5 => Attack::Card { vault },
                6 => Attack::Stranger,
                _ => Attack::Neighbour { by: vault, vault: (vault + 1) % self.owners.len().max(1) },
            };
            let wait = Period(u64::from(round) * 60_000);
            let at = self.now().after(wait);
            self.cause_at(at, Event::Do(Box::new(What::Attack(attack))));
        }
    }
}
