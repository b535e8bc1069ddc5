//! This node's chain of lock promises, and what it has seen of those of others. The rules of heads are [`crate::promise`]'s.
//!
//! - A link is added to every write that promises something ([`Peer::persist`]), so that it costs a row in a write that is made
//!   anyway. Only a head that is durable is told.
//! - Each node asks those whom it meets for their heads, tells them what it knew, and countersigns it. Who learns so that it
//!   knew more before was set back: expiry is frozen, durably, until its operator thaws it ([`thawed_promises`]). Uploads go on.
//! - After a start nothing is dropped before somebody was met who countersigned before. A node that nobody ever countersigned for
//!   is not held up: a lone node has nobody who could know better.
//! - A node that was thawed goes on above the head that was seen, and begins all its locks anew: what was promised after the disk
//!   image was made is not known any more, and lasts no longer than that.

use super::facts::{Facts, FactsError, Table, View, Write, decode};
use super::membership::Pending;
use super::{Decision, LaneId, LinkId, Note, Output, Peer, Role, Then, refusal};
use crate::id::NodeId;
use crate::lock_clock::BootId;
use crate::message::{Contradiction, Promised, RefusalCode, Request, Response};
use crate::promise::{PromiseHead, PromiseStatement, PromiseWitness};
use crate::sign::Signed;
use crate::time::{Now, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most nodes whose heads, and whose countersignatures, are kept: more than are members at a time, since who was seen once is not
/// forgotten when it leaves.
const KEPT_MAX: usize = 4 * crate::certificate::ROSTER_MAX;
/// Most countersignatures and contradictions that are told to whoever asks.
const TOLD_MAX: usize = 256;
/// The key of the one row of the own chain.
const OWN: &[u8] = &[0];

/// What another node showed that this one said, and does not know any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBack {
    /// The highest head that was shown.
    pub shown: PromiseHead,
    /// The head with which the run began that was found out.
    pub began: PromiseHead,
    /// Who showed it first.
    pub by: NodeId,
}

/// The own chain, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseRow {
    /// Where it ends.
    pub head: PromiseHead,
    /// Why expiry is frozen.
    pub set_back: Option<SetBack>,
    /// Whether all lives are to begin anew, because locks are not known any more that were promised.
    pub renews: bool,
}

/// What is kept of another node's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessedRow {
    /// What it said last that goes on from what it said before.
    pub said: Signed<PromiseStatement>,
    /// When.
    pub witnessed: Wall,
    /// What it said that does not, the first time.
    pub contradiction: Option<Contradiction>,
}

/// What is remembered of the own chain.
#[derive(Debug)]
pub(super) struct Promises {
    /// As it is decided.
    row: PromiseRow,
    run: BootId,
    began: PromiseHead,
    /// What may be told.
    durable: PromiseHead,
    /// Heads whose writes are not durable yet.
    pending: BTreeMap<u64, PromiseHead>,
    /// Who countersigned which head, before this start and since.
    countersigned: BTreeMap<NodeId, PromiseHead>,
    /// Whether nothing keeps this run from dropping: somebody was met who countersigned before, or nobody ever did.
    is_compared: bool,
    /// Whom an answer is awaited from.
    asking: BTreeSet<NodeId>,
    /// How many nodes' heads are kept, or fewer: what could not be written was counted.
    witnessed: usize,
    /// Countersignatures as they were said last, and of what: one that says nothing new is not made again.
    said: BTreeMap<NodeId, Countersigned>,
}

/// A countersignature, and what was countersigned.
#[derive(Debug)]
struct Countersigned {
    said: Signed<PromiseStatement>,
    witnessed: Wall,
    witness: Signed<PromiseWitness>,
}

fn row_of(facts: &dyn Facts) -> Result<PromiseRow, FactsError> {
    let row = facts.get(Table::Promises, OWN)?;
    row.map_or_else(|| Ok(PromiseRow::default()), |bytes| decode(Table::Promises, &bytes))
}

fn write_row(row: &PromiseRow) -> Write {
    Write::row(Table::Promises, OWN.to_vec(), row)
}

impl Promises {
    pub(super) fn load(facts: &dyn Facts, run: BootId) -> Result<Self, FactsError> {
        let row = row_of(facts)?;
        let mut countersigned = BTreeMap::new();
        for (_, bytes) in facts.scan(Table::Countersigned, &[], None, KEPT_MAX)? {
            let signed: Signed<PromiseWitness> = decode(Table::Countersigned, &bytes)?;
            if let Ok(witness) = signed.verify() {
                countersigned.insert(witness.witness, witness.head);
            }
        }
        let (began, durable) = (row.head, row.head);
        let is_compared = countersigned.is_empty();
        let (pending, asking) = (BTreeMap::new(), BTreeSet::new());
        let (witnessed, said) = (count_witnessed(facts)?, BTreeMap::new());
        Ok(Self {
            row,
            run,
            began,
            durable,
            pending,
            countersigned,
            is_compared,
            asking,
            witnessed,
            said,
        })
    }

    /// Adds a link for what these writes promise, if they do.
    pub(super) fn link(&mut self, token: u64, writes: &mut Vec<Write>) {
        let mut hasher = blake3::Hasher::new();
        let mut promises = false;
        for write in writes.iter() {
            if let (Table::Held | Table::Life, Some(value)) = (write.table, &write.value) {
                // Keys of both tables are names of shards, and values say themselves where they end.
                hasher.update(&[write.table as u8]).update(&write.key).update(value);
                promises = true;
            }
        }
        if promises {
            self.row.head = self.row.head.next(hasher.finalize().as_bytes());
            self.pending.insert(token, self.row.head);
            writes.push(write_row(&self.row));
        }
    }

    /// Writes are durable, or have failed.
    pub(super) fn settle(&mut self, token: u64, is_durable: bool) {
        if let Some(head) = self.pending.remove(&token)
            && is_durable
        {
            self.durable = head;
        }
    }

    /// Whether this node was set back, and its operator has not looked into it.
    pub(super) fn is_frozen(&self) -> bool {
        self.row.set_back.is_some()
    }

    /// Whether nothing may be dropped.
    pub(super) fn forbids_drops(&self) -> bool {
        self.is_frozen() || self.row.renews || !self.is_compared
    }

    /// The number of the head with which this run began.
    #[cfg(test)]
    pub(super) fn began_at(&self) -> u64 {
        self.began.seq
    }

    /// Whether lives are to begin anew.
    pub(super) fn renews(&self) -> bool {
        self.row.renews
    }

    /// Why nothing is dropped, for people who ask what becomes of a release.
    pub(super) fn holds_up(&self) -> Option<String> {
        let waits = || {
            let text = "nothing is dropped before a node was met that countersigned this one's promises before its start";
            (!self.is_compared).then(|| text.to_owned())
        };
        let renews = || self.row.renews.then(|| "all locks are being begun anew".to_owned());
        self.alarm().or_else(waits).or_else(renews)
    }

    /// What is wrong, for people.
    pub(super) fn alarm(&self) -> Option<String> {
        let SetBack { shown, began, by } = self.row.set_back?;
        Some(format!(
            "this node was set back to an older disk: node {} has its signature under promise {}, and it began this run with \
             {}; nothing is dropped until that is looked into and `strewn node thaw` is said with the node stopped",
            by.short(),
            shown.seq,
            began.seq
        ))
    }
}

/// The chain as the node's own operator lets it go on, who has looked into why the node was set back; nothing where it was not. Only
/// for a node that does not run.
pub fn thawed_promises(facts: &dyn Facts) -> Result<Option<Write>, FactsError> {
    let row = row_of(facts)?;
    Ok(row.set_back.map(|SetBack { shown, .. }| {
        let above = if shown.seq > row.head.seq { shown } else { row.head };
        let head = above.next(&[shown.hash, row.head.hash].concat());
        write_row(&PromiseRow { head, set_back: None, renews: true })
    }))
}

impl Peer {
    /// Asks a member for its head, and tells it what was known of it.
    pub(super) fn ask_promises(&mut self, facts: &dyn Facts, node: NodeId, link: LinkId) {
        if node == self.node() || self.promises.asking.contains(&node) {
            return;
        }
        // Only what is durable here is countersigned.
        let Ok(known) = witnessed(facts, node) else { return };
        let witness = known.as_ref().and_then(|row| self.countersign(node, row));
        let random = blake3::keyed_hash(&self.config.seed, &self.next_token.to_le_bytes());
        let nonce = std::array::from_fn(|i| random.as_bytes()[i]);
        self.promises.asking.insert(node);
        let call = self.call(Pending::Promises { node, nonce });
        let known = known.map(|row| row.said);
        let request = Box::new(Request::PromiseHead { nonce, known, witness });
        self.outputs.push_back(Output::Call { call, link, request });
    }

    /// This node's word for what another one said last.
    fn countersign(&mut self, node: NodeId, row: &WitnessedRow) -> Option<Signed<PromiseWitness>> {
        if let Some(Countersigned { said, witnessed, witness }) = self.promises.said.get(&node)
            && (said, witnessed) == (&row.said, &row.witnessed)
        {
            return Some(witness.clone());
        }
        let head = row.said.verify().ok()?.head;
        let (witness, witnessed) = (self.node(), row.witnessed);
        let said = PromiseWitness { witness, holder: node, head, witnessed };
        let witness = Signed::sign(&said, &self.key);
        if self.promises.said.len() >= KEPT_MAX {
            self.promises.said.clear();
        }
        let last = Countersigned { said: row.said.clone(), witnessed, witness: witness.clone() };
        self.promises.said.insert(node, last);
        Some(witness)
    }

    /// What this node says of its chain to one that asks.
    fn say_promises(&self, asker: NodeId, nonce: [u8; 16]) -> PromiseStatement {
        let Promises { run, began, durable: head, .. } = self.promises;
        PromiseStatement { holder: self.node(), asker, nonce, run, began, head }
    }

    pub(super) fn handle_promise_head(
        &mut self,
        lane: LaneId,
        role: &Role,
        nonce: [u8; 16],
        known: Option<&Signed<PromiseStatement>>,
        witness: Option<&Signed<PromiseWitness>>,
    ) -> Decision {
        let Role::Node(asker) = *role else {
            return Err(refusal(RefusalCode::NotAllowed, "only nodes are told heads of promises"));
        };
        let malformed = |text: &str| refusal(RefusalCode::Malformed, text);
        let said = self.say_promises(asker, nonce);
        if let Some(known) = known {
            let known = known.verify().map_err(|e| malformed(&e.to_string()))?;
            if known.holder != self.node() {
                return Err(malformed("a head of another node's promises"));
            }
            if !said.keeps(&known) {
                self.freeze(known.head, asker);
            } else if let Some(countersigned) = self.promises.countersigned.get(&asker)
                && known.head.covers(countersigned)
            {
                // It still knows what it countersigned, and that is known here too.
                self.promises.is_compared = true;
            }
        }
        if let Some(signed) = witness {
            let witness = signed.verify().map_err(|e| malformed(&e.to_string()))?;
            if (witness.witness, witness.holder) != (asker, self.node()) {
                return Err(malformed("a countersignature of other nodes"));
            }
            self.keep_countersignature(&witness, signed);
        }
        let said = Response::PromiseHead(Signed::sign(&said, &self.key));
        self.reply(lane, said);
        Ok(())
    }

    /// Somebody showed what this node signed and does not know any more.
    fn freeze(&mut self, shown: PromiseHead, by: NodeId) {
        let before = self.promises.row.set_back;
        let highest = before.is_none_or(|known| known.shown.seq < shown.seq);
        if !highest {
            return;
        }
        let by = before.map_or(by, |known| known.by);
        let began = self.promises.began;
        self.promises.row.set_back = Some(SetBack { shown, began, by });
        let row = write_row(&self.promises.row);
        self.persist(vec![row], None, Then::Nothing);
        if before.is_none() {
            self.outputs.push_back(Output::Note(Note::SetBack { by, shown: shown.seq }));
        }
    }

    fn keep_countersignature(&mut self, witness: &PromiseWitness, signed: &Signed<PromiseWitness>) {
        let PromiseWitness { witness, head, .. } = *witness;
        let known = self.promises.countersigned.get(&witness);
        let is_new = known.is_none_or(|known| known.seq < head.seq);
        let is_full = known.is_none() && self.promises.countersigned.len() >= KEPT_MAX;
        // Of a head that is not known here nothing is kept: whoever was set back is told so otherwise.
        if !is_new || is_full || !self.promises.durable.covers(&head) || self.promises.is_frozen() {
            return;
        }
        self.promises.countersigned.insert(witness, head);
        let row = Write::row(Table::Countersigned, witness.0.to_vec(), signed);
        self.persist(vec![row], None, Then::Nothing);
    }

    /// A member told its head, or did not answer.
    pub(super) fn handle_promise_answer(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        node: NodeId,
        nonce: [u8; 16],
        said: Option<Signed<PromiseStatement>>,
    ) {
        self.promises.asking.remove(&node);
        let Some(signed) = said else { return };
        let Ok(said) = signed.verify() else { return };
        if (said.holder, said.asker, said.nonce) != (node, self.node(), nonce) {
            return;
        }
        let view = View { facts, overlay: &self.overlay };
        if view.is_pending(Table::Witnessed, &node.0) {
            return;
        }
        let Ok(known) = witnessed(facts, node) else { return };
        let Some(known) = known else {
            if self.promises.witnessed >= KEPT_MAX {
                self.promises.witnessed = count_witnessed(facts).unwrap_or(KEPT_MAX);
            }
            if self.promises.witnessed < KEPT_MAX {
                self.promises.witnessed += 1;
                let contradiction = None;
                let row = WitnessedRow { said: signed, witnessed: now.wall, contradiction };
                self.persist_witnessed(node, &row);
            }
            return;
        };
        let Ok(before) = known.said.verify() else { return };
        let stood = known.contradiction.as_ref().is_some_and(|found| found.stands);
        if said.keeps(&before) {
            if (said.run, said.began, said.head) == (before.run, before.began, before.head)
                && !stood
            {
                return;
            }
            let contradiction =
                known.contradiction.map(|found| Contradiction { stands: false, ..found });
            let row = WitnessedRow { said: signed, witnessed: now.wall, contradiction };
            self.persist_witnessed(node, &row);
        } else if !stood {
            let found = Contradiction { before: known.said.clone(), after: signed, stands: true };
            self.persist_witnessed(node, &WitnessedRow { contradiction: Some(found), ..known });
            let (before, after) = (before.head.seq, said.head.seq);
            self.outputs.push_back(Output::Note(Note::Contradicted { node, before, after }));
        }
    }

    fn persist_witnessed(&mut self, node: NodeId, row: &WitnessedRow) {
        let row = Write::row(Table::Witnessed, node.0.to_vec(), row);
        self.persist(vec![row], None, Then::Nothing);
    }

    /// A node that holds nothing has no lives to begin anew.
    pub(super) fn begin_renewal(&mut self) {
        if self.promises.renews() && self.lives.is_swept() {
            self.end_renewal();
        }
    }

    /// All lives have begun anew.
    pub(super) fn end_renewal(&mut self) {
        self.promises.row.renews = false;
        let row = write_row(&self.promises.row);
        self.persist(vec![row], None, Then::Nothing);
    }

    pub(super) fn handle_promised(
        &mut self,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
    ) -> Decision {
        let is_shown = |row: &[u8]| {
            let node = row.try_into().map(NodeId);
            node.is_ok_and(|node| self.is_shown(facts, role, node))
        };
        let mut witnesses = Vec::new();
        for (row, bytes) in facts.scan(Table::Countersigned, &[], None, TOLD_MAX)? {
            if is_shown(&row) {
                witnesses.push(decode(Table::Countersigned, &bytes)?);
            }
        }
        let mut contradictions = Vec::new();
        for (row, bytes) in facts.scan(Table::Witnessed, &[], None, KEPT_MAX)? {
            if !is_shown(&row) {
                continue;
            }
            let witnessed: WitnessedRow = decode(Table::Witnessed, &bytes)?;
            if let (Ok(node), Some(found)) = (row.try_into().map(NodeId), witnessed.contradiction)
                && contradictions.len() < TOLD_MAX
            {
                contradictions.push((node, found));
            }
        }
        let Promises { durable: head, row, is_compared, .. } = &self.promises;
        let (head, awaits) = (*head, !is_compared);
        let set_back = row.set_back.map(|found| found.shown);
        let promised = Promised { head, set_back, awaits, witnesses, contradictions };
        self.reply(lane, Response::Promised(Box::new(promised)));
        Ok(())
    }
}

fn count_witnessed(facts: &dyn Facts) -> Result<usize, FactsError> {
    Ok(facts.scan(Table::Witnessed, &[], None, KEPT_MAX)?.len())
}

fn witnessed(facts: &dyn Facts, node: NodeId) -> Result<Option<WitnessedRow>, FactsError> {
    let row = facts.get(Table::Witnessed, &node.0)?;
    row.map(|bytes| decode(Table::Witnessed, &bytes)).transpose()
}
