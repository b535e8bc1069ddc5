//! Owners: what a vault's people do, one thing after the other. They back up and extend, forget and release, restore, and recover with
//! nothing but an identity. They decide as the real client does: placement is the protocol's solver, receipts are
//! checked by the protocol's rule. What they were promised is the checker's to remember.

mod discharge;
mod recovery;
mod stand_ins;

use crate::client::{Client, Report, Stored, shard_len};
use crate::network::End;
use crate::plan::{Moment, VaultSetup, What};
use crate::random::Random;
use crate::setup::{EPOCH, operator_key};
use crate::world::{Event, World};
use protocol::certificate::DeviceRevocation;
use protocol::hold::HoldOrder;
use protocol::id::{EntryId, ShardId, StripeId};
use protocol::label::Site;
use protocol::log::check_held;
use protocol::message::{RELEASE_PAGE, Request};
use protocol::placement::{Candidate, PlanLimits, plan, solve};
use protocol::policy::{Guardians, Policy};
use protocol::recovery::RecoveryCard;
use protocol::release::{Approval, ReleaseRequest, Veto, release_id};
use protocol::sign::{SecretKey, Signed};
use protocol::time::{Mono, Period, Wall};
use recovery::Recovery;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long an owner waits for what it began, before it goes on with something else.
const PATIENCE: Period = Period::seconds(3600);
/// Stripes listed in one entry of the log.
const LISTED_MAX: usize = 512;

/// A stripe that an owner put away.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) stored: Stored,
    /// From which its data is drawn again.
    salt: u64,
    receipts: BTreeSet<usize>,
    pub(crate) is_committed: bool,
    pub(crate) is_released: bool,
    /// It was written although there were too few nodes for its policy.
    pub(crate) is_degraded: bool,
}

#[derive(Debug)]
enum Doing {
    /// `not_held`: what holders say that they have not.
    BackUp {
        begun: Mono,
        purpose: u64,
        /// So many stripes there should be afterwards.
        meant: usize,
        new: Vec<usize>,
        all: Vec<usize>,
        /// By which the new ones are listed.
        entries: Vec<EntryId>,
        not_held: BTreeSet<(usize, StripeId)>,
    },
    Restore {
        begun: Mono,
        purpose: u64,
        stripes: Vec<usize>,
        /// Whether it was asked who stands in for holders that did not give their shards.
        is_asked: bool,
    },
    Other {
        begun: Mono,
        purpose: u64,
    },
}

impl Doing {
    fn begun(&self) -> (Mono, u64) {
        match self {
            Self::BackUp { begun, purpose, .. }
            | Self::Restore { begun, purpose, .. }
            | Self::Other { begun, purpose } => (*begun, *purpose),
        }
    }
}

/// The people of one vault.
#[derive(Debug)]
pub(crate) struct Owner {
    name: String,
    pub(crate) setup: VaultSetup,
    pub(crate) policy: Policy,
    code: Option<(usize, usize)>,
    /// The nodes that its roster lists.
    pub(crate) listed: Vec<usize>,
    pub(crate) client: usize,
    devices: u32,
    pub(crate) old_devices: Vec<String>,
    pub(crate) stripes: Vec<Owned>,
    /// Of the backups that are kept, the last one at the end.
    backups: VecDeque<Vec<usize>>,
    /// When those began that put away all that they should.
    pub(crate) backed_up: Vec<Period>,
    /// How many did not.
    pub(crate) backups_failed: u64,
    by_id: BTreeMap<StripeId, usize>,
    pub(crate) releases: Vec<Signed<ReleaseRequest>>,
    /// What nodes need not keep: nobody extends their locks.
    discharged: BTreeSet<(usize, StripeId)>,
    doing: Option<Doing>,
    next: VecDeque<What>,
    purposes: u64,
    orders: u64,
    recoveries: Vec<Recovery>,
}

impl Owner {
    pub(crate) fn new(index: usize, setup: &VaultSetup, sites: &[Site], client: usize) -> Self {
        let policy = policy_of(setup);
        let outside: BTreeSet<usize> = setup.outside.iter().copied().collect();
        let listed: Vec<usize> = (0..sites.len()).filter(|node| !outside.contains(node)).collect();
        let candidate = |&node: &usize| Candidate { site: sites[node].clone(), free: u64::MAX };
        let code = if let Some((k, n)) = setup.code {
            Some((usize::from(k), usize::from(n)))
        } else {
            let candidates: Vec<Candidate> = listed.iter().map(candidate).collect();
            plan(&policy, &candidates, PlanLimits::default()).ok().map(|p| (p.k, p.n))
        };
        let name = index.to_string();
        Self {
            old_devices: vec![name.clone()],
            name,
            setup: setup.clone(),
            policy,
            code,
            listed,
            client,
            devices: 1,
            stripes: Vec::new(),
            backups: VecDeque::new(),
            backed_up: Vec::new(),
            backups_failed: 0,
            by_id: BTreeMap::new(),
            releases: Vec::new(),
            discharged: BTreeSet::new(),
            doing: None,
            next: VecDeque::new(),
            purposes: 0,
            orders: 0,
            recoveries: Vec::new(),
        }
    }

    /// Stripes that a backup which is kept leads to.
    pub(crate) fn needed(&self) -> BTreeSet<usize> {
        self.backups.iter().flatten().copied().collect()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.doing.is_some() || !self.next.is_empty() || !self.recoveries.is_empty()
    }

    pub(crate) fn is_now(&self, moment: Moment) -> bool {
        match moment {
            Moment::Recovering => !self.recoveries.is_empty(),
            Moment::BackingUp => matches!(self.doing, Some(Doing::BackUp { .. })),
            Moment::Cooling | Moment::LockEnded | Moment::Repairing => false,
        }
    }

    fn data(&self, salt: u64) -> Vec<u8> {
        let seed = blake3::hash(format!("data {} {salt}", self.name).as_bytes());
        let seed = u64::from_le_bytes(seed.as_bytes()[..8].try_into().expect("eight bytes"));
        Random::new(seed).bytes(self.setup.stripe_len.max(1) as usize)
    }

    /// The recipient to which the vault's cards are sealed.
    pub(crate) fn recipient(&self) -> String {
        format!("recipient of {}", self.name)
    }

    /// The card, which here is not sealed: that is the driver's to do.
    pub(crate) fn card(&self, vault: &SecretKey) -> Signed<RecoveryCard> {
        let sealed = vault.seed().to_vec();
        let card = RecoveryCard::new(vault.public().into(), 1, &[self.recipient()], sealed);
        Signed::sign(&card, vault)
    }

    pub(crate) fn guardian(&self, index: usize) -> Option<SecretKey> {
        let guardians = self.setup.guardians.as_ref()?;
        guardians.of.get(index).map(|name| operator_key(name))
    }
}

/// A vault's policy, with its guardians.
pub(crate) fn policy_of(setup: &VaultSetup) -> Policy {
    let mut policy = setup.policy.clone();
    policy.lock.guardians = setup.guardians.as_ref().map(|guardians| Guardians {
        need: guardians.need,
        of: guardians.of.iter().map(|name| operator_key(name).public().into()).collect(),
    });
    policy
}

impl World {
    /// A vault of a plan, with its first device.
    pub(crate) fn add_owner(&mut self, index: usize, vault: &VaultSetup) {
        let sites: Vec<Site> = (0..self.nodes()).map(|node| self.site(node).clone()).collect();
        let client = self.new_device(&index.to_string(), &index.to_string(), vault);
        let id = self.client(client).vault();
        self.checker().outside.insert(id, vault.outside.iter().copied().collect());
        self.vouched(id, &vault.operator);
        let owner = Owner::new(index, vault, &sites, client);
        let policy = owner.policy.clone();
        self.checker().policies.insert(id, policy);
        let card = owner.card(self.client(client).vault_key());
        self.owners.push(owner);
        for node in 0..self.nodes() {
            self.clients[client].say(node, Request::Card(card.clone()));
        }
        self.act(client);
    }

    /// A client with the keys of a device of a vault.
    pub(crate) fn new_device(&mut self, vault: &str, device: &str, setup: &VaultSetup) -> usize {
        let roster = self.roster(&setup.outside);
        let policy = policy_of(setup);
        let names = (vault, device);
        let client = Client::new(names, &self.speaker(&setup.operator), roster, policy);
        self.join_known(client, &setup.operator)
    }

    /// A client is there that speaks with those alone that know who vouches for it.
    fn join_known(&mut self, mut client: Client, operator: &str) -> usize {
        let strangers = (0..self.nodes()).filter(|&node| !self.is_known_to(operator, node));
        client.leave_all(&strangers.collect());
        self.join(client)
    }

    /// Has an owner do something, once it has done what it does.
    pub(crate) fn order(&mut self, owner: usize, what: What) {
        let Some(of) = self.owners.get_mut(owner) else { return };
        of.next.push_back(what);
        self.go_on(owner);
    }

    /// What an owner's clients are told.
    pub(crate) fn owner_reports(&mut self, client: usize) {
        while let Some(report) = self.clients[client].poll_report() {
            let Some(owner) = self.owner_of(client) else { continue };
            match report {
                Report::Receipt { node, receipt, asked } => {
                    if self.hosts[node].is_honest() || !asked.holders.is_empty() {
                        let holder = self.hosts[node].site.node;
                        self.checker().believed(node, holder, &receipt, &asked);
                    }
                    let of = &mut self.owners[owner];
                    if let Some(&stripe) = of.by_id.get(&receipt.stripe) {
                        of.stripes[stripe].receipts.insert(node);
                    }
                }
                Report::Extended { stripes, locked, node } => {
                    if let Some(Doing::BackUp { not_held, .. }) = &mut self.owners[owner].doing {
                        let locked = stripes.into_iter().zip(locked);
                        not_held.extend(
                            locked.filter(|(_, l)| l.is_none()).map(|(stripe, _)| (node, stripe)),
                        );
                    }
                }
                Report::Said { node, response } => {
                    self.stand_ins_told(owner, client, node, &response);
                    self.recovery_told(owner, client, node, response);
                }
                Report::Refused { node, refusal } => {
                    self.note(format_args!("client {client}: node {node} refuses: {refusal}"));
                }
                Report::Ack { ack } => {
                    let node = ack.holder;
                    let seq = ack.seq;
                    self.note(format_args!("client {client}: entry {seq} is held by {node}"));
                }
            }
        }
        if let Some(owner) = self.owner_of(client) {
            self.go_on(owner);
        }
    }

    fn owner_of(&self, client: usize) -> Option<usize> {
        self.owners.iter().position(|owner| {
            owner.client == client || owner.recoveries.iter().any(|r| r.client == client)
        })
    }

    /// Ends what an owner does when it is done, and begins what is next.
    pub(crate) fn go_on(&mut self, owner: usize) {
        self.go_on_recovering(owner);
        loop {
            let of = &self.owners[owner];
            if let Some(doing) = &of.doing {
                let (begun, purpose) = doing.begun();
                let is_over = self.clients[of.client].is_settled(purpose);
                if !is_over && self.now() < begun.after(PATIENCE) {
                    return;
                }
                if is_over && self.ask_for_stand_ins(owner) {
                    return;
                }
                let Some(doing) = self.owners[owner].doing.take() else { return };
                self.end(owner, doing, is_over);
            }
            let Some(what) = self.owners[owner].next.pop_front() else { return };
            self.begin(owner, what);
            let now = self.now();
            self.cause_at(now.after(PATIENCE), Event::Owner(owner));
        }
    }

    fn begin(&mut self, owner: usize, what: What) {
        let begun = self.now();
        let of = &mut self.owners[owner];
        of.purposes += 1;
        let (client, purpose) = (of.client, of.purposes);
        self.clients[client].purpose = purpose;
        match what {
            What::BackUp { stripes, changed_per_mille, .. } => {
                self.begin_backup(owner, stripes as usize, changed_per_mille);
            }
            What::Restore { .. } => {
                let of = &self.owners[owner];
                let stripes: Vec<usize> = of.needed().into_iter().collect();
                for &stripe in &stripes {
                    let stored = self.owners[owner].stripes[stripe].stored.clone();
                    for &node in &stored.holders {
                        self.clients[client].fetch(&stored, node);
                    }
                }
                let is_asked = false;
                self.owners[owner].doing =
                    Some(Doing::Restore { begun, purpose, stripes, is_asked });
            }
            What::Release { approvals, .. } => self.release(owner, approvals),
            What::Discharge { per_mille, approvals, .. } => {
                self.discharge(owner, per_mille, approvals);
            }
            What::Veto { guardian, .. } => self.veto(owner, guardian),
            What::Hold { guardian, period, .. } => self.hold(owner, guardian, period),
            What::Revoke { .. } => self.revoke(owner),
            _ => {}
        }
        let of = &mut self.owners[owner];
        of.doing.get_or_insert(Doing::Other { begun, purpose });
        self.act(client);
        self.strike();
    }

    fn begin_backup(&mut self, owner: usize, stripes: usize, changed_per_mille: u32) {
        self.tell_of_each_other(owner);
        let (begun, of) = (self.now(), &self.owners[owner]);
        let (client, purpose) = (of.client, of.purposes);
        let last = of.backups.back().cloned().unwrap_or_default();
        let mut all: Vec<usize> = Vec::new();
        for stripe in last.into_iter().take(stripes) {
            if !self.random().happens(changed_per_mille) {
                all.push(stripe);
            }
        }
        // Everything that is kept is extended, also what only older backups lead to, wherever it may lie by now.
        let of = &self.owners[owner];
        let kept: Vec<StripeId> =
            of.needed().into_iter().map(|stripe| of.stripes[stripe].stored.stripe.id()).collect();
        if !self.skips_extensions {
            for node in self.owners[owner].listed.clone() {
                let discharged = &self.owners[owner].discharged;
                let kept = kept.iter().copied().filter(|id| !discharged.contains(&(node, *id)));
                let kept: Vec<StripeId> = kept.collect();
                for page in kept.chunks(RELEASE_PAGE) {
                    self.clients[client].extend(node, page.to_vec());
                }
            }
        }
        let mut new = Vec::new();
        let mut candidates = self.candidates(owner);
        while all.len() < stripes {
            let Some(stripe) = self.put_stripe(owner, &candidates) else { break };
            if self.swaps.is_some() {
                self.take_room(owner, stripe, &mut candidates);
            }
            new.push(stripe);
            all.push(stripe);
        }
        let ids: Vec<StripeId> = new
            .iter()
            .map(|&stripe| self.owners[owner].stripes[stripe].stored.stripe.id())
            .collect();
        let entries =
            ids.chunks(LISTED_MAX).map(|page| self.clients[client].list(page.to_vec())).collect();
        let not_held = BTreeSet::new();
        let meant = stripes;
        let doing = Doing::BackUp { begun, purpose, meant, new, all, entries, not_held };
        self.owners[owner].doing = Some(doing);
    }

    /// The nodes on which an owner can put shards now: those that its client reaches.
    fn candidates(&self, owner: usize) -> Vec<(usize, Candidate)> {
        let (now, client) = (self.now(), End::Client(self.owners[owner].client));
        let is_there = |node: usize| {
            let (host, end) = (&self.hosts[node], End::Node(node));
            let is_reached = self.network.reaches(now, client, end);
            host.peer.is_some()
                && !host.is_full
                && is_reached
                && self.network.reaches(now, end, client)
        };
        let listed = self.owners[owner].listed.iter().copied();
        listed
            .filter(|&node| is_there(node))
            .map(|node| {
                let host = &self.hosts[node];
                let free = host.config().quota.saturating_sub(host.disk.bytes());
                let free = free.min(self.agreed_room(&self.owners[owner].setup, node));
                (node, Candidate { site: host.site.clone(), free })
            })
            .collect()
    }

    /// Whoever holds a shard of a stripe has less room for the next one.
    fn take_room(&self, owner: usize, stripe: usize, candidates: &mut [(usize, Candidate)]) {
        let stored = &self.owners[owner].stripes[stripe].stored;
        let len = u64::from(stored.stripe.shard_len);
        for (_, candidate) in
            candidates.iter_mut().filter(|(node, _)| stored.holders.contains(node))
        {
            candidate.free = candidate.free.saturating_sub(len);
        }
    }

    fn put_stripe(&mut self, owner: usize, candidates: &[(usize, Candidate)]) -> Option<usize> {
        let of = &self.owners[owner];
        let salt = of.stripes.len() as u64;
        let (k, holders, is_degraded) = match of.setup.placed(of.stripes.len()) {
            Some(placed) if placed.fits(self.nodes()) => {
                (usize::from(placed.k), placed.holders.clone(), false)
            }
            Some(_) => return None,
            None => {
                let (k, n) = of.code?;
                let len = shard_len(of.setup.stripe_len as usize, k) as u64;
                let only: Vec<Candidate> = candidates.iter().map(|(_, c)| c.clone()).collect();
                let solved = |policy: &Policy| solve(policy, k, n, len, &only, &[], salt).ok();
                let chosen = solved(&of.policy);
                let is_degraded = chosen.is_none();
                let least = || {
                    let conceal = of.policy.conceal.clone();
                    solved(&Policy { conceal, ..Policy::survive_one("node") })
                };
                let chosen = chosen.or_else(|| of.setup.allow_degraded.then(least)?)?;
                (k, chosen.into_iter().map(|i| candidates[i].0).collect(), is_degraded)
            }
        };
        let data = of.data(salt);
        let client = of.client;
        let stored = self.clients[client].put(&data, salt, k, &holders);
        let of = &mut self.owners[owner];
        of.by_id.insert(stored.stripe.id(), of.stripes.len());
        let receipts = BTreeSet::new();
        let (is_committed, is_released) = (false, false);
        of.stripes.push(Owned { stored, salt, receipts, is_committed, is_released, is_degraded });
        Some(of.stripes.len() - 1)
    }

    fn end(&mut self, owner: usize, doing: Doing, is_over: bool) {
        let now = self.now();
        match doing {
            Doing::BackUp { begun, meant, new, all, entries, not_held, .. } => {
                let mut is_whole = is_over;
                for entry in entries {
                    is_whole &= self.is_listed(owner, entry);
                }
                for stripe in new {
                    is_whole &= self.commit(owner, stripe, begun);
                }
                let of = &mut self.owners[owner];
                // A client that finds no place for something refuses the whole backup.
                if is_whole && all.len() >= meant.max(1) {
                    of.backed_up.push(Period(begun.0));
                } else {
                    of.backups_failed += 1;
                }
                if is_whole && !all.is_empty() {
                    of.backups.push_back(all);
                }
                if is_over {
                    self.check_locked(owner, begun, &not_held);
                }
                self.note(format_args!("owner {owner} has backed up, whole: {is_whole}"));
            }
            Doing::Restore { begun, stripes, .. } => {
                let client = self.owners[owner].client;
                let mut is_whole = true;
                for stripe in stripes {
                    is_whole &= self.check_read(owner, client, stripe, begun);
                }
                self.clients[client].forget_fetched();
                self.count_restore(is_whole);
                self.note(format_args!("owner {owner} has restored at {now:?}: {is_whole}"));
            }
            Doing::Other { .. } => {}
        }
    }

    /// Whether an entry is held as the policy says: where a stolen device has forked the log, what comes after it is found by nobody.
    fn is_listed(&self, owner: usize, entry: EntryId) -> bool {
        let of = &self.owners[owner];
        let holders = self.clients[of.client].countersigned(entry);
        let sites: Vec<&Site> = holders.map(|node| self.site(node)).collect();
        check_held(&of.policy, &sites).is_ok()
    }

    /// A backup is done: all that is kept is locked from when it began, unchanged stripes too.
    fn check_locked(&mut self, owner: usize, begun: Mono, not_held: &BTreeSet<(usize, StripeId)>) {
        let (now, of) = (self.now(), &self.owners[owner]);
        let period = of.policy.lock.period;
        let slack = Period((period.0 / 64).min(protocol::life::EXTENSION_MIN.0));
        let until = Mono(begun.after(period).0.saturating_sub(slack.0));
        let mut lapsing = None;
        for stripe in of.needed() {
            let stored = &of.stripes[stripe].stored;
            let id = stored.stripe.id();
            let named = stored.holders.iter().copied().zip(stored.stripe.shards.iter().copied());
            let stand_ins = self.checker_ref().standing_in(id);
            let stand_ins = stand_ins.filter(|(_, _, since)| *since < begun);
            for (node, shard) in named.chain(stand_ins.map(|(node, shard, _)| (node, shard))) {
                let host = &self.hosts[node];
                let is_asked =
                    !not_held.contains(&(node, id)) && !of.discharged.contains(&(node, id));
                let is_held = host.is_honest() && host.disk.has(shard) && is_asked;
                // With whom nothing is agreed any more, or not so long a lock, nothing is extended.
                let wall = host.clock.read(now).wall;
                let lock = &of.policy.lock;
                let is_over =
                    self.checker_ref().has_ended((node, now), wall, stored.stripe.vault, lock);
                // By a clock that shows another year it has, or has not begun.
                if is_over || host.lies && self.swaps.is_some() {
                    continue;
                }
                if is_held && !self.checker_ref().is_locked(node, shard, until) {
                    lapsing = Some((stripe, node, self.checker_ref().locked_until(node, shard)));
                }
            }
        }
        if let Some((stripe, node, locked)) = lapsing {
            let text = format!(
                "owner {owner} has backed up, and stripe {stripe} at node {node} is locked until {locked:?}, not {until:?}"
            );
            self.checker().report("P2", text);
        }
    }

    /// A stripe counts once every holder has promised its shard.
    fn commit(&mut self, owner: usize, stripe: usize, begun: Mono) -> bool {
        let of = &mut self.owners[owner];
        let owned = &mut of.stripes[stripe];
        if owned.receipts.len() < owned.stored.holders.len() {
            return false;
        }
        owned.is_committed = true;
        // Where the plan placed it, the policy was not asked.
        if of.setup.placed(stripe).is_some() {
            return true;
        }
        let holders = owned.stored.holders.clone();
        let (mut policy, k) = (of.policy.clone(), usize::from(owned.stored.stripe.k));
        if owned.is_degraded {
            policy.survive.any.clear();
        }
        // Holders came to lie elsewhere meanwhile.
        if self.relabelled.is_some_and(|at| at >= begun) {
            return true;
        }
        let sites: Vec<Site> = holders.iter().map(|&node| self.site(node).clone()).collect();
        let sites: Vec<&Site> = sites.iter().collect();
        self.checker().committed(&policy, k, &sites);
        true
    }

    /// Whether a stripe was read. What was read must be what was written, and what could be read must have been.
    fn check_read(&mut self, owner: usize, client: usize, stripe: usize, since: Mono) -> bool {
        let owned = &self.owners[owner].stripes[stripe];
        let expected = self.owners[owner].data(owned.salt);
        let read = self.clients[client].assemble(&owned.stored);
        let k = usize::from(owned.stored.stripe.k);
        let lies = self.hosts.iter().any(|host| host.lies);
        let is_quiet = self.disturbed.max(self.departed.0) < since && self.is_whole() && !lies;
        let intact = self.intact(&owned.stored, true);
        match read {
            Some(read) if read == expected => true,
            Some(_) => {
                let text = format!("stripe {stripe} of owner {owner} came back as something else");
                self.checker().report("P7", text);
                false
            }
            None => {
                if is_quiet && intact >= k {
                    let text = format!(
                        "stripe {stripe} of owner {owner} has {intact} shards and is not read"
                    );
                    self.checker().report("P7", text);
                }
                false
            }
        }
    }

    /// Shards of a stripe that are as they should be, at nodes that are up or that at least exist.
    pub(crate) fn intact(&self, stored: &Stored, is_up: bool) -> usize {
        self.places(stored, |node| !is_up || self.is_up(node)).len()
    }

    /// Of each shard of a stripe that is as it should be one node that has it, of nodes that are honest and meant.
    pub(crate) fn places(&self, stored: &Stored, is_meant: impl Fn(usize) -> bool) -> Vec<usize> {
        self.all_places(stored, is_meant)
            .iter()
            .filter_map(|nodes| nodes.first().copied())
            .collect()
    }

    /// Of each shard of a stripe all nodes that have it as it should be, of those that are honest and meant.
    pub(crate) fn all_places(
        &self,
        stored: &Stored,
        is_meant: impl Fn(usize) -> bool,
    ) -> Vec<Vec<usize>> {
        let stripe = &stored.stripe;
        let stand_ins: Vec<_> = self.checker_ref().standing_in(stripe.id()).collect();
        let has = |node: usize, shard: ShardId| {
            let host = &self.hosts[node];
            host.is_honest()
                && is_meant(node)
                && host.disk.has(shard)
                && !self.checker_ref().is_rotten(node, shard)
        };
        let place = |(&named, &shard): (&usize, &ShardId)| {
            let others = stand_ins.iter().filter(|(_, of, _)| *of == shard);
            let nodes = std::iter::once(named).chain(others.map(|(node, ..)| *node));
            nodes.filter(|&node| has(node, shard)).collect()
        };
        stored.holders.iter().zip(&stripe.shards).map(place).collect()
    }

    /// A vault needs only its newest backups.
    pub(crate) fn forget(&mut self, owner: usize, keep: usize) {
        let Some(of) = self.owners.get_mut(owner) else { return };
        while of.backups.len() > keep {
            of.backups.pop_front();
        }
    }

    fn wall(&self) -> Wall {
        EPOCH.after(Period(self.now().0))
    }

    /// A request to release stripes, with the approvals of so many guardians.
    pub(crate) fn request(
        &self,
        owner: usize,
        mut stripes: Vec<StripeId>,
        approvals: u32,
        issued: Wall,
    ) -> (Signed<ReleaseRequest>, Vec<Signed<Approval>>) {
        let of = &self.owners[owner];
        let vault = self.clients[of.client].vault_key();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.truncate(protocol::release::RELEASE_STRIPES_MAX);
        let expires = issued.after(Period::days(80));
        let request = ReleaseRequest { vault: vault.public().into(), issued, expires, stripes };
        let request = Signed::sign(&request, vault);
        let release = release_id(&request);
        let approve = |index: u32| {
            let key = of.guardian(index as usize)?;
            let guardian = key.public().into();
            Some(Signed::sign(&Approval { guardian, release, expires }, &key))
        };
        (request, (0..approvals).filter_map(approve).collect())
    }

    fn release(&mut self, owner: usize, approvals: u32) {
        let of = &self.owners[owner];
        let needed = of.needed();
        let unneeded = (0..of.stripes.len())
            .filter(|stripe| !needed.contains(stripe) && of.stripes[*stripe].is_committed);
        let unneeded: Vec<usize> = unneeded.collect();
        let stripes: Vec<StripeId> =
            unneeded.iter().map(|&stripe| of.stripes[stripe].stored.stripe.id()).collect();
        if stripes.is_empty() {
            return;
        }
        let client = of.client;
        let (request, approved) = self.request(owner, stripes, approvals, self.wall());
        for stripe in unneeded {
            self.owners[owner].stripes[stripe].is_released = true;
        }
        for node in 0..self.nodes() {
            let (request, approvals) = (request.clone(), approved.clone());
            self.clients[client].say(node, Request::Release { request, approvals, from: 0 });
        }
        self.owners[owner].releases.push(request);
    }

    fn veto(&mut self, owner: usize, guardian: usize) {
        let of = &self.owners[owner];
        let (Some(key), Some(request)) = (of.guardian(guardian), of.releases.last()) else {
            return;
        };
        let veto = Veto { guardian: key.public().into(), release: release_id(request) };
        let (client, veto) = (of.client, Signed::sign(&veto, &key));
        let vault = self.clients[client].vault();
        for node in 0..self.nodes() {
            self.clients[client].say(node, Request::Veto { vault, veto: veto.clone() });
        }
    }

    fn hold(&mut self, owner: usize, guardian: usize, period: Period) {
        let of = &mut self.owners[owner];
        let Some(key) = of.guardian(guardian) else { return };
        of.orders += 1;
        let (client, number) = (of.client, of.orders);
        let order = HoldOrder {
            vault: self.clients[client].vault(),
            guardian: key.public().into(),
            number,
            period: (period.0 > 0).then_some(period),
        };
        let order = Signed::sign(&order, &key);
        for node in 0..self.nodes() {
            self.clients[client].say(node, Request::Hold(order.clone()));
        }
    }

    /// The vault goes on with another device, which tells everybody that the first one may write no more.
    fn revoke(&mut self, owner: usize) {
        let (begun, of) = (self.now(), &self.owners[owner]);
        let (vault_name, number) = (of.name.clone(), of.devices);
        let device_name = format!("{vault_name}.{number}");
        let setup = of.setup.clone();
        let old = self.clients[of.client].device();
        let client = self.new_device(&vault_name, &device_name, &setup);
        let of = &mut self.owners[owner];
        of.devices += 1;
        of.old_devices.push(device_name);
        of.client = client;
        let vault = self.clients[client].vault_key();
        let (id, issued) = (vault.public().into(), self.wall());
        let order = Signed::sign(&DeviceRevocation { vault: id, device: old, issued }, vault);
        self.clients[client].purpose = 1;
        for node in 0..self.nodes() {
            self.clients[client].say(node, Request::Revoke(order.clone()));
        }
        let of = &mut self.owners[owner];
        of.purposes = of.purposes.max(1);
        of.doing = Some(Doing::Other { begun, purpose: 1 });
        self.act(client);
    }
}
