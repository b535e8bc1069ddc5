//! Operators who share no administrator: whom each deals with, and what they agreed. The papers are real: introductions, agreements with
//! two signatures, lists and notices. A node begins with its operator's list on its disk; what is agreed later is brought to one node of either
//! side, which tell the others. What that gives, and what not, is the peers' to decide and `check`'s to compare.

use crate::check::Swapping;
use crate::client::Client;
use crate::host::address;
use crate::plan::VaultSetup;
use crate::setup::{EPOCH, Setup, key, operator_id};
use crate::world::World;
use protocol::agreement::{Acceptance, Agreement, Side};
use protocol::certificate::{ConsolePass, NodeRecord};
use protocol::codec::{VALUE_LEN_MAX, decode, encode};
use protocol::id::{OperatorId, VaultId};
use protocol::label::Labels;
use protocol::message::{Greeting, Request};
use protocol::notice::Notice;
use protocol::partner::{CONTACTS_MAX, Contact, Introduction, Partner, PartnerList};
use protocol::peer::{Facts, Input, Table, Write};
use protocol::policy::Policy;
use protocol::sign::Signed;
use protocol::succession::Speaker;
use protocol::time::{Period, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// So long before the world begins every agreement did.
const BEFORE: Period = Period::days(1);

/// Two operators who swap capacity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// Their names.
    pub between: [String; 2],
    /// Bytes of shards that each of them holds for the other's vaults.
    pub gives: [u64; 2],
    /// The longest lock, and the longest cooldown, that either promises the other.
    pub lock_max: Period,
    /// How long before its end whoever leaves says so.
    pub notice: Period,
    /// When its term ends, from the beginning of the world.
    pub ends: Period,
}

impl Swap {
    fn is_between(&self, one: &str, other: &str) -> bool {
        let [first, second] = &self.between;
        (first == one && second == other) || (first == other && second == one)
    }

    /// The other side, and what each gives: this one first.
    fn seen_by(&self, operator: &str) -> Option<(&str, u64, u64)> {
        let ([first, second], [gives, takes]) = (&self.between, self.gives);
        match operator {
            _ if operator == first => Some((second, gives, takes)),
            _ if operator == second => Some((first, takes, gives)),
            _ => None,
        }
    }

    /// The document, with the signatures of both.
    fn signed(&self, version: u64, [first, second]: [&Speaker; 2]) -> Signed<Acceptance> {
        let side = |at: usize| Side {
            operator: operator_id(&self.between[at]),
            gives: self.gives[at],
            labels: Labels::default(),
        };
        let agreement = Agreement {
            first: side(0),
            second: side(1),
            version,
            start: Wall(EPOCH.0 - BEFORE.0),
            term: Period(BEFORE.0.saturating_add(self.ends.0)),
            notice: self.notice,
            lock_max: self.lock_max,
        };
        let agreement = Signed::speak(&agreement, first);
        Signed::speak(&Acceptance { operator: second.operator(), agreement }, second)
    }
}

/// What two operators agreed.
#[derive(Debug, Clone)]
struct Agreed {
    version: u64,
    swap: Swap,
    /// By the keys that spoke then.
    signed: Signed<Acceptance>,
}

/// What is agreed now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Swaps {
    agreed: Vec<Agreed>,
    /// Who speaks for operators that have not their first key any more.
    pub(crate) speakers: BTreeMap<String, Speaker>,
    /// The versions of operators' lists, where that is not the first one.
    lists: BTreeMap<String, u64>,
    /// Whose vaults were to lie with others than this one's nodes at some time: notice was given, or it broke its part.
    parted: BTreeSet<(OperatorId, OperatorId)>,
    /// The nodes of each operator.
    nodes: BTreeMap<String, Vec<usize>>,
}

impl Swaps {
    pub(crate) fn new(setup: &Setup) -> Self {
        let mut nodes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, node) in setup.nodes.iter().enumerate() {
            nodes.entry(node.operator.clone()).or_default().push(index);
        }
        let mut swaps = Self { nodes, ..Self::default() };
        swaps.agreed = setup.swaps.iter().map(|swap| swaps.sign(swap, 1)).collect();
        swaps
    }

    fn sign(&self, swap: &Swap, version: u64) -> Agreed {
        let [first, second] = [0, 1].map(|side| self.speaker(&swap.between[side]));
        let signed = swap.signed(version, [&first, &second]);
        Agreed { version, swap: swap.clone(), signed }
    }

    fn nodes_of(&self, operator: &str) -> &[usize] {
        self.nodes.get(operator).map_or(&[], Vec::as_slice)
    }

    /// Whom an operator deals with, by its own word.
    pub(crate) fn list(&self, operator: &str) -> Signed<PartnerList> {
        let partners = self.agreed.iter().filter_map(|Agreed { swap, signed, .. }| {
            let (other, ..) = swap.seen_by(operator)?;
            let contact = |&node: &usize| Contact {
                node: Setup::node_key(node).public().into(),
                addresses: vec![address(node)],
            };
            let introduction = Introduction {
                operator: operator_id(other),
                name: other.to_owned(),
                contacts: self.nodes_of(other).iter().take(CONTACTS_MAX).map(contact).collect(),
                issued: EPOCH,
            };
            let holders = self.nodes_of(operator).iter();
            Some(Partner {
                name: other.to_owned(),
                introduction: Signed::speak(&introduction, &self.speaker(other)),
                added: EPOCH,
                agreement: Some(signed.clone()),
                holders: holders.map(|&node| Setup::node_key(node).public().into()).collect(),
            })
        });
        let list = PartnerList {
            operator: operator_id(operator),
            version: self.lists.get(operator).copied().unwrap_or(1),
            partners: partners.collect(),
        };
        Signed::speak(&list, &self.speaker(operator))
    }

    /// A list, as a node of its operator has it on its disk.
    pub(crate) fn row(&self, operator: &str) -> Write {
        let value = Some(encode(&self.list(operator)));
        Write { table: Table::Partners, key: vec![0], value }
    }

    /// Whether two operators are partners, or one and the same.
    pub(crate) fn are_partners(&self, one: &str, other: &str) -> bool {
        one == other || self.agreed.iter().any(|known| known.swap.is_between(one, other))
    }

    /// Bytes that one operator holds for the other's vaults, on all of its nodes together; `None` where they are the same.
    pub(crate) fn given(&self, by: &str, to: &str) -> Option<u64> {
        let mut found = self.agreed.iter().filter_map(|known| {
            let swap = &known.swap;
            swap.seen_by(by).filter(|(other, ..)| *other == to).map(|(_, gives, _)| gives)
        });
        (by != to).then(|| found.next().unwrap_or(0))
    }

    /// How many nodes share what an operator gives.
    pub(crate) fn parts(&self, operator: &str) -> u64 {
        self.nodes_of(operator).len().max(1) as u64
    }

    /// A new agreement, or the next version of one.
    fn agree(&mut self, swap: &Swap) {
        let [one, other] = &swap.between;
        match self.agreed.iter().position(|known| known.swap.is_between(one, other)) {
            Some(at) => self.agreed[at] = self.sign(swap, self.agreed[at].version + 1),
            None => self.agreed.push(self.sign(swap, 1)),
        }
        self.renew_lists(&swap.between);
    }

    /// Operators sign their lists anew.
    pub(crate) fn renew_lists(&mut self, of: &[String]) {
        for operator in of {
            *self.lists.entry(operator.clone()).or_insert(1) += 1;
        }
    }

    /// An operator and its partners.
    pub(crate) fn partners_of(&self, operator: &str) -> Vec<String> {
        let others = self.agreed.iter().filter_map(|known| known.swap.seen_by(operator));
        let others = others.map(|(other, ..)| other.to_owned());
        others.chain([operator.to_owned()]).collect()
    }

    /// One operator wants to have nothing with the other any more.
    pub(crate) fn parts_from(&mut self, own: OperatorId, other: OperatorId) {
        self.parted.insert((own, other));
    }

    fn version(&self, one: &str, other: &str) -> Option<u64> {
        let known = self.agreed.iter().find(|known| known.swap.is_between(one, other));
        known.map(|known| known.version)
    }
}

impl World {
    /// Everybody begins with the list of its operator.
    pub(crate) fn begin_swaps(&mut self, setup: &Setup) {
        if setup.swaps.is_empty() {
            return;
        }
        let (now, swaps) = (self.now(), Swaps::new(setup));
        let mut swapping = Swapping::default();
        for (node, host) in self.hosts.iter_mut().enumerate() {
            let row = swaps.row(&host.operator);
            swapping.listed(node, operator_id(&host.operator), now, &row);
            host.disk.keep(vec![row], None);
        }
        self.checker().swapping = Some(swapping);
        self.swaps = Some(swaps);
    }

    /// The nodes that know a vault's operator: those of others turn its devices away.
    pub(crate) fn is_known_to(&self, operator: &str, node: usize) -> bool {
        let swaps = self.swaps.as_ref();
        swaps.is_none_or(|swaps| swaps.are_partners(operator, &self.hosts[node].operator))
    }

    /// Bytes that a vault's operator may still put at a node, by what was agreed and what is held there. Nodes tell that in production.
    pub(crate) fn agreed_room(&self, vault: &VaultSetup, node: usize) -> u64 {
        let Some(swaps) = &self.swaps else { return u64::MAX };
        let host = &self.hosts[node];
        let Some(given) = swaps.given(&host.operator, &vault.operator) else { return u64::MAX };
        let held = self.checker_ref().held_for(node, operator_id(&vault.operator));
        (given / swaps.parts(&host.operator)).saturating_sub(held)
    }

    /// A vault's device tells its holders where the others are: those whose operators do not know each other would not meet.
    pub(crate) fn tell_of_each_other(&mut self, owner: usize) {
        if self.swaps.is_none() {
            return;
        }
        let listed = self.owners[owner].listed.clone();
        let client = self.owners[owner].client;
        let record = |&node: &usize| {
            let own = self.site(node).node;
            let row = self.disk(node).facts().get(Table::Member, &own.0).ok()??;
            decode(&row, VALUE_LEN_MAX).ok()
        };
        let records: Vec<Signed<NodeRecord>> = listed.iter().filter_map(record).collect();
        for node in listed {
            self.clients[client].say(node, Request::Members(records.clone()));
        }
    }

    /// Two operators agree anew. One node of either side is told, if one is up.
    pub(crate) fn agree(&mut self, swap: &Swap) {
        let Some(swaps) = &mut self.swaps else { return };
        swaps.agree(swap);
        self.tell_lists(&swap.between);
    }

    /// Of each of these operators one node is told its list, if one is up. It tells the others.
    pub(crate) fn tell_lists(&mut self, of: &[String]) {
        let Some(swaps) = &self.swaps else { return };
        let told = of.iter().filter_map(|operator| {
            let first =
                swaps.nodes_of(operator).iter().find(|&&node| self.hosts[node].peer.is_some());
            Some((*first?, swaps.list(operator)))
        });
        for (node, list) in told.collect::<Vec<_>>() {
            self.tell(node, Input::Partners(Box::new(list)));
        }
    }

    /// Whether a node once was to have nothing of a vault any more: its operator and the vault's parted.
    pub(crate) fn has_parted(&self, vault: VaultId, node: usize) -> bool {
        let swapping = self.checker_ref().swapping.as_ref();
        let owner = swapping.and_then(|swapping| swapping.owners.get(&vault));
        let sides = owner.map(|owner| (*owner, self.site(node).operator));
        let parted = self.swaps.as_ref().map(|swaps| &swaps.parted);
        sides.zip(parted).is_some_and(|(sides, parted)| parted.contains(&sides))
    }

    /// One side of an agreement gives notice to the nodes of both, as `strewn partner leave` does.
    pub(crate) fn give_notice(&mut self, by: &str, to: &str) {
        let given = EPOCH.after(Period(self.now().0));
        let Some(swaps) = &mut self.swaps else { return };
        let first = swaps.nodes_of(by).first().copied();
        let (Some(version), Some(first)) = (swaps.version(by, to), first) else { return };
        let (leaver, other) = (operator_id(by), operator_id(to));
        swaps.parted.extend([(leaver, other), (other, leaver)]);
        let notice = Notice { leaver, other, version, given };
        let notice = Signed::speak(&notice, &swaps.speaker(by));
        let nodes: BTreeSet<usize> =
            swaps.nodes_of(by).iter().chain(swaps.nodes_of(to)).copied().collect();
        let name = format!("console {}", self.clients.len());
        let console = key("console", &name);
        let pass = ConsolePass {
            console: console.public(),
            node: Setup::node_key(first).public().into(),
            issued: given,
            expires: given.after(Period::days(1)),
        };
        let pass = Greeting::Console(Signed::sign(&pass, &Setup::node_key(first)));
        let names = (name.as_str(), name.as_str());
        let policy = Policy::survive_one("node");
        let client = Client::new(names, &self.speaker(by), self.roster(&[]), policy)
            .greeting(Some(pass), Some(console));
        let client = self.join(client);
        for node in nodes {
            self.clients[client].say(node, Request::GiveNotice(Box::new(notice.clone())));
        }
        self.act(client);
    }
}
