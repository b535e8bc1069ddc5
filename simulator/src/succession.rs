//! Operators whose key was stolen or lost: two of three heirs have another one speak. Whoever has to know is told, as by `strewn operator take`,
//! `node carry` and `partner add`, and vaults show their operator's new word. What the earlier key can do from then on is the thief's. What that
//! gives, and that agreements go on, is the peers' to decide.

use crate::client::Client;
use crate::setup::{EPOCH, VALIDITY, certify, key, operator_id, operator_key};
use crate::swap::Swaps;
use crate::world::World;
use protocol::certificate::{NodeRecord, VaultCertificate};
use protocol::codec::{VALUE_LEN_MAX, decode};
use protocol::id::{OperatorId, VaultId};
use protocol::label::Labels;
use protocol::message::Greeting;
use protocol::partner::PartnerList;
use protocol::peer::{Facts, Input, Table};
use protocol::policy::Policy;
use protocol::sign::{SecretKey, Signed};
use protocol::succession::{Change, Draft, Heirs, Line, Speaker};
use protocol::time::Period;

/// Bytes of what a thief puts with each node.
const SHARD: usize = 64;

/// A line that goes on with this key, by the word of these.
fn step(line: Line, heirs: &[SecretKey; 3], next: &SecretKey, by: &[&SecretKey]) -> Option<Line> {
    let heirs = Heirs::new(2, heirs.iter().map(SecretKey::public)).ok()?;
    // It counts at once, whatever clocks show.
    let change = Change { heirs, issued: EPOCH, grace: Period(0) };
    let mut draft = Draft::new(line, change, next).ok()?;
    by.iter().try_for_each(|key| draft.sign(key)).ok()?;
    draft.finish().ok()
}

/// Who speaks after this one, once somebody has named heirs of these names.
fn next_of(speaker: &Speaker, name: &str) -> Option<Speaker> {
    let heirs = [0, 1, 2].map(|heir| key("heir", &format!("{name}, {heir}")));
    let mut line = speaker.line().clone();
    if line.heirs().is_empty() {
        line = step(line, &heirs, speaker.key(), &[speaker.key()])?;
    }
    let next = key("successor", &format!("{name}, {}", line.number()));
    let line = step(line, &heirs, &next, &[&heirs[0], &heirs[2]])?;
    Speaker::new(next, line).ok()
}

/// An operator's word for a vault. A later one takes the place of one before where it counts for longer.
pub(crate) fn word_for(vault: VaultId, speaker: &Speaker) -> Signed<VaultCertificate> {
    let certificate = VaultCertificate {
        vault,
        operator: speaker.operator(),
        issued: EPOCH,
        expires: EPOCH.after(VALIDITY).after(Period(speaker.line().number() as u64)),
    };
    Signed::speak(&certificate, speaker)
}

impl Swaps {
    /// Who speaks for an operator now.
    pub(crate) fn speaker(&self, operator: &str) -> Speaker {
        let succeeded = self.speakers.get(operator).cloned();
        succeeded.unwrap_or_else(|| Speaker::first(operator_key(operator)))
    }

    /// Another key speaks for an operator, if its line is not as long as lines may be.
    fn succeed(&mut self, operator: &str) -> bool {
        let Some(next) = next_of(&self.speaker(operator), operator) else { return false };
        self.speakers.insert(operator.to_owned(), next);
        self.renew_lists(&self.partners_of(operator));
        true
    }
}

/// Whether an operator's list shows that a later key speaks for this one than its first.
fn shows(list: &Signed<PartnerList>, operator: OperatorId) -> bool {
    let said = list.said().ok().flatten();
    let own = said.filter(|said| said.operator() == operator).map(|said| said.number());
    let partners = list.verify().map_or_else(|_| Vec::new(), |list| list.partners);
    let mut its = partners.iter().filter_map(|partner| {
        let said = partner.introduction.said().ok().flatten()?;
        (said.operator() == operator).then(|| said.number())
    });
    own.or_else(|| its.next()).is_some_and(|number| number > 0)
}

impl World {
    /// Who speaks for an operator now.
    pub(crate) fn speaker(&self, operator: &str) -> Speaker {
        let swaps = self.swaps.as_ref();
        swaps
            .map_or_else(|| Speaker::first(operator_key(operator)), |swaps| swaps.speaker(operator))
    }

    /// Another key speaks for an operator from now on. Nothing where nobody swaps: only lists say more of others than that they count.
    pub(crate) fn succeed(&mut self, operator: &str) {
        let Some(swaps) = &mut self.swaps else { return };
        if !swaps.succeed(operator) {
            return;
        }
        let speaker = swaps.speaker(operator);
        let of = swaps.partners_of(operator);
        self.tell_lists(&of);
        for node in 0..self.nodes() {
            if self.hosts[node].operator == operator && !self.hosts[node].vanished {
                self.hosts[node].speak(speaker.clone());
                let certificate = Box::new(self.hosts[node].certificate().clone());
                self.tell(node, Input::Certificate(certificate));
            }
        }
        let its = self.owners.iter().filter(|owner| owner.setup.operator == operator);
        for client in its.map(|owner| owner.client).collect::<Vec<_>>() {
            self.clients[client].renew(&speaker);
            self.act(client);
        }
    }

    /// Whether a node knows durably that an operator's first key speaks no more.
    fn knows(&self, node: usize, operator: OperatorId) -> bool {
        let host = &self.hosts[node];
        let row = host.disk.facts().get(Table::Partners, &[0]).ok().flatten();
        let list = row.and_then(|row| decode(&row, VALUE_LEN_MAX).ok());
        !host.vanished && list.is_some_and(|list: Signed<PartnerList>| shows(&list, operator))
    }

    /// Who stole an operator's first key greets those who know that another one speaks: with a vault and with a node of its own, by that
    /// key, and with a vault by a line of its own, for which that key named heirs.
    pub(crate) fn attack_with_old_key(&mut self, operator: &str) {
        let id = operator_id(operator);
        let knowing: Vec<usize> = (0..self.nodes()).filter(|&node| self.knows(node, id)).collect();
        if knowing.is_empty() {
            return;
        }
        let first = Speaker::first(operator_key(operator));
        let forged = next_of(&first, &format!("a thief of {operator}"));
        for speaker in forged.into_iter().chain([first.clone()]) {
            let client = self.thief_of(&speaker, &knowing, None);
            let holders = &knowing[..knowing.len().min(4)];
            let data = self.random().bytes(holders.len() * SHARD);
            self.clients[client].put(&data, 0, holders.len(), holders);
            self.ask_all(client);
        }
        let node = key("node", &format!("thief {}", self.clients.len()));
        let record = NodeRecord {
            node: node.public().into(),
            certificate: certify(node.public().into(), &first, Labels::default()),
            addresses: Vec::new(),
            version: EPOCH.0,
        };
        let greeting = Greeting::Node(Signed::sign(&record, &node));
        let client = self.thief_of(&first, &knowing, Some((greeting, node)));
        self.ask_all(client);
    }

    /// A client whom none of these nodes may welcome.
    fn thief_of(
        &mut self,
        speaker: &Speaker,
        knowing: &[usize],
        greets: Option<(Greeting, SecretKey)>,
    ) -> usize {
        let name = format!("thief {}", self.clients.len());
        let policy = Policy::survive_one("node");
        let client = Client::new((&name, &name), speaker, self.roster(&[]), policy);
        let mut client = match greets {
            Some((greeting, key)) => client.greeting(Some(greeting), Some(key)),
            None => client,
        };
        for node in (0..self.nodes()).filter(|node| !knowing.contains(node)) {
            client.leave(node);
        }
        let client = self.join(client);
        self.checker().strangers.insert(client, None);
        self.checker().unwelcome.insert(client);
        client
    }

    /// Asks for everything of the first vault.
    fn ask_all(&mut self, client: usize) {
        let Some(owner) = self.owners.first() else { return };
        let (vault, stripes) = (self.clients[owner.client].vault(), self.stripes_of(0));
        self.questions(client, vault, &stripes);
    }

    /// How many who have only a key that was succeeded were turned away, and how many came.
    #[cfg(test)]
    pub(crate) fn turned_away(&self) -> (usize, usize) {
        let thieves = &self.checker_ref().unwelcome;
        let away = thieves.iter().filter(|&&client| self.clients[client].turned_away.is_some());
        (away.count(), thieves.len())
    }
}
