//! Being let go: a node that leaves asks the holders of what it holds to sign that nobody would miss it, and they look for
//! themselves. The statements and the rule of whose words are enough are [`crate::leave`]'s.
//!
//! - It asks once its own count finds nothing left ([`super::leaving`]), page by page, those that count as holders of stripes for which
//!   not enough others vouch yet. Only their words count: who holds no shard has no say.
//! - Who is asked vouches for stripes of which it holds a shard that counts, and which it found well without the leaver, by asking
//!   all that may hold them ([`super::inquiry`]). What it did not find yet it looks at soon, each stripe once a term at most.
//! - Words are stored. When somebody else is lost or leaves, they count no more of the stripes of which that one held something, and the others
//!   are asked again; those from before a start count for the patience. When the node stays after all they are torn up.

use super::facts::{Facts, Table, View, Write, decode, key};
use super::membership::Pending;
use super::repair::{Stage, Why};
use super::{Decision, LaneId, Output, Peer, Role, Then, refusal};
use crate::certificate::ROSTER_MAX;
use crate::id::{NodeId, OperatorId, StripeId, VaultId};
use crate::leave::paper::{Digest, List, Part};
use crate::leave::{Page, Word, is_enough};
use crate::message::{LeaveSigner, RefusalCode, Request, Response};
use crate::sign::Signed;
use crate::time::{Mono, Now, Period};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Who does not answer within this time is asked again at the next go.
const ANSWER_MAX: Period = Period::seconds(60);
/// Between two goes that brought nothing, at first.
const PAUSE: Period = Period::seconds(5);
/// Rows that count no more, removed in one go.
const ROWS_MAX: usize = 1024;

/// A page, and for how many of its stripes not enough others vouch.
#[derive(Debug)]
struct Sheet {
    page: Page,
    digest: [u8; 32],
    unsigned: u64,
}

/// What is remembered of being let go.
#[derive(Debug, Default)]
pub(super) struct Vouching {
    sheets: Vec<Sheet>,
    words: BTreeMap<([u8; 32], NodeId), (Word, Signed<Word>)>,
    /// Places of pages of which the words count no more.
    void: BTreeMap<([u8; 32], NodeId), BTreeSet<usize>>,
    /// Whether what was stored before the start was read, or counts no more.
    is_read: bool,
    /// Whom to ask about which sheet in this go,
    queue: VecDeque<(usize, NodeId)>,
    /// until when an answer is awaited,
    awaited: Option<Mono>,
    /// when the next go is,
    at: Mono,
    /// and how many brought nothing.
    vain: u32,
}

impl Vouching {
    /// Stripes for which not enough others vouch.
    pub(super) fn unsigned(&self) -> u64 {
        self.sheets.iter().map(|sheet| sheet.unsigned).sum()
    }

    /// Whether a word counts of a place of its page.
    fn counts(&self, key: ([u8; 32], NodeId), word: &Word, place: usize) -> bool {
        word.covers(place) && self.void.get(&key).is_none_or(|void| !void.contains(&place))
    }

    /// When to go on.
    fn due(&self, now: Mono) -> Mono {
        if self.unsigned() == 0 {
            return Mono(u64::MAX);
        }
        let wait = if self.queue.is_empty() { self.at } else { now };
        self.awaited.unwrap_or(wait)
    }
}

impl Peer {
    /// This is what the node holds, and it misses nobody by its own count: others are asked.
    pub(super) fn ask_to_leave(&mut self, now: Now, facts: &dyn Facts, pages: Vec<Page>) {
        let sheets = pages.into_iter().map(|page| Sheet {
            digest: page.digest(),
            unsigned: page.held.len() as u64,
            page,
        });
        let sheets: Vec<Sheet> = sheets.collect();
        if !self.leaving.vouching.is_read {
            self.leaving.vouching.is_read = true;
            for sheet in &sheets {
                let rows = facts.scan(Table::MayLeave, &sheet.digest, None, ROSTER_MAX);
                for (_, bytes) in rows.unwrap_or_default() {
                    let Ok(signed) = decode::<Signed<Word>>(Table::MayLeave, &bytes) else {
                        continue;
                    };
                    let is_young = |word: &Word| word.seen.after(self.config.patience) >= now.wall;
                    if let Ok(word) = signed.verify()
                        && word.check(self.node(), &sheet.page).is_ok()
                        && is_young(&word)
                    {
                        let place = (sheet.digest, word.witness);
                        self.leaving.vouching.words.insert(place, (word, signed));
                    }
                }
            }
        }
        let current: BTreeSet<[u8; 32]> = sheets.iter().map(|sheet| sheet.digest).collect();
        let vouching = &mut self.leaving.vouching;
        vouching.words.retain(|(page, _), _| current.contains(page));
        vouching.void.retain(|(page, _), _| current.contains(page));
        (vouching.sheets, vouching.awaited, vouching.at) = (sheets, None, now.mono);
        vouching.vain = 0;
        vouching.queue.clear();
        let rows = facts.scan(Table::MayLeave, &[], None, ROWS_MAX).unwrap_or_default();
        let is_old = |row: &[u8]| !row.first_chunk().is_some_and(|page| current.contains(page));
        let old = rows.into_iter().map(|(row, _)| row).filter(|row| is_old(row));
        let writes: Vec<Write> = old.map(|row| Write::remove(Table::MayLeave, row)).collect();
        if !writes.is_empty() {
            self.persist(writes, None, Then::Nothing);
        }
        for at in 0..self.leaving.vouching.sheets.len() {
            self.count_words(at);
        }
    }

    /// Somebody is lost, or leaves as well: what was said counts no more of the stripes of which it held something.
    pub(super) fn void_words(&mut self, gone: NodeId) {
        let vouching = &mut self.leaving.vouching;
        // What was stored is not known to be about other stripes before the first count.
        vouching.is_read = true;
        for sheet in &vouching.sheets {
            let settled = |(_, (stripe, _)): &(usize, &(StripeId, u16))| {
                let settled = self.repair.settled.get(stripe);
                settled.is_none_or(|(holders, _)| holders.contains(&gone))
            };
            let places = sheet.page.held.iter().enumerate().filter(settled);
            let places: Vec<usize> = places.map(|(place, _)| place).collect();
            if places.is_empty() {
                continue;
            }
            let all = (sheet.digest, NodeId([0; 32]))..=(sheet.digest, NodeId([0xff; 32]));
            for (&key, _) in vouching.words.range(all) {
                vouching.void.entry(key).or_default().extend(&places);
            }
        }
    }

    /// The node stays: what was said of its leaving is removed.
    pub(super) fn tear_up(&mut self) {
        let words = std::mem::take(&mut self.leaving.vouching).words.into_keys();
        let row = |(page, witness): ([u8; 32], NodeId)| key(&[&page, &witness.0]);
        let writes: Vec<Write> =
            words.map(|place| Write::remove(Table::MayLeave, row(place))).collect();
        self.leaving.vouching.is_read = true;
        if !writes.is_empty() {
            self.persist(writes, None, Then::Nothing);
        }
    }

    fn operator_at(&self, node: NodeId) -> Option<OperatorId> {
        self.site_of(node).map(|site| site.operator)
    }

    /// For each stripe of a sheet that is not vouched for enough, those of its holders that do not vouch.
    fn lacking(&self, sheet: &Sheet) -> Vec<Vec<NodeId>> {
        let vouching = &self.leaving.vouching;
        let operators = |nodes: &[NodeId]| -> BTreeSet<OperatorId> {
            nodes.iter().filter_map(|&node| self.operator_at(node)).collect()
        };
        let lack = |(place, (stripe, _)): (usize, &(StripeId, u16))| {
            let holders =
                self.repair.settled_holders(sheet.page.vault, *stripe).unwrap_or_default();
            let vouches = |node: &NodeId| {
                let key = (sheet.digest, *node);
                let said = vouching.words.get(&key);
                said.is_some_and(|(word, _)| vouching.counts(key, word, place))
            };
            let (willing, others): (Vec<NodeId>, Vec<NodeId>) =
                holders.iter().copied().partition(vouches);
            let is_enough =
                is_enough(self.site.operator, &operators(holders), &operators(&willing));
            (!is_enough).then_some(others)
        };
        sheet.page.held.iter().enumerate().filter_map(lack).collect()
    }

    /// Counts of how many of a sheet's stripes not enough others vouch for; whether that is fewer now.
    fn count_words(&mut self, at: usize) -> bool {
        let Some(sheet) = self.leaving.vouching.sheets.get(at) else { return false };
        let (before, unsigned) = (sheet.unsigned, self.lacking(sheet).len() as u64);
        self.leaving.vouching.sheets[at].unsigned = unsigned;
        unsigned < before
    }

    /// When others are to be asked: not before the own count is done.
    pub(super) fn vouching_due(&self, now: Mono) -> Mono {
        if self.leaving.is_done() { self.leaving.vouching.due(now) } else { Mono(u64::MAX) }
    }

    /// Asks the next one, if somebody is to be asked.
    pub(super) fn handle_vouching(&mut self, now: Now) {
        if !self.leaving.is_done() || self.leaving.vouching.unsigned() == 0 {
            return;
        }
        if self.leaving.vouching.awaited.is_some_and(|until| until > now.mono) {
            return;
        }
        self.leaving.vouching.awaited = None;
        if self.leaving.vouching.queue.is_empty() {
            if self.leaving.vouching.at > now.mono {
                return;
            }
            let mut queue = VecDeque::new();
            let sheets = self.leaving.vouching.sheets.iter().enumerate();
            for (at, sheet) in sheets.filter(|(_, sheet)| sheet.unsigned > 0) {
                let nodes: BTreeSet<NodeId> = self.lacking(sheet).into_iter().flatten().collect();
                queue.extend(nodes.into_iter().map(|node| (at, node)));
            }
            let wait = PAUSE.0 << self.leaving.vouching.vain.min(16);
            let wait = Period(wait.min(self.repair_term().0.max(PAUSE.0)));
            let vouching = &mut self.leaving.vouching;
            (vouching.queue, vouching.at) = (queue, now.mono.after(wait));
            vouching.vain = vouching.vain.saturating_add(1);
        }
        while let Some((at, node)) = self.leaving.vouching.queue.pop_front() {
            let Some(sheet) = self.leaving.vouching.sheets.get(at) else { continue };
            let (page, digest) = (sheet.page.clone(), sheet.digest);
            if let Some(link) = self.link_to(node) {
                let call = self.call(Pending::MayLeave { node, page: digest });
                let request = Box::new(Request::MayLeave(page));
                self.outputs.push_back(Output::Call { call, link, request });
                self.leaving.vouching.awaited = Some(now.mono.after(ANSWER_MAX));
                return;
            }
            if let Some(member) = self.members.get(&node) {
                let addresses = member.record.addresses.clone();
                self.outputs.push_back(Output::Dial { node, addresses });
            }
        }
    }

    /// A holder answers whether it vouches for stripes of a page.
    pub(super) fn handle_word(
        &mut self,
        now: Now,
        node: NodeId,
        page: [u8; 32],
        response: Option<Response>,
    ) {
        self.leaving.vouching.awaited = None;
        self.repair.wake();
        let Some(Response::MayLeave(Some(signed))) = response else { return };
        self.hear(now, node);
        let sheets = &self.leaving.vouching.sheets;
        let Some(at) = sheets.iter().position(|sheet| sheet.digest == page) else { return };
        let Ok(word) = signed.verify() else { return };
        let is_its = word.witness == node && word.check(self.node(), &sheets[at].page).is_ok();
        if !is_its || !self.leaving.is_done() {
            return;
        }
        let write = Write::may_leave(&word, &signed);
        self.leaving.vouching.words.insert((page, node), (word, signed));
        self.leaving.vouching.void.remove(&(page, node));
        self.persist(vec![write], None, Then::Nothing);
        if self.count_words(at) {
            self.leaving.vouching.vain = 0;
        }
    }

    /// Who vouches for this node's leaving, and for how many stripes.
    pub(super) fn signers(&self) -> Vec<LeaveSigner> {
        let mut stripes: BTreeMap<NodeId, u64> = BTreeMap::new();
        let vouching = &self.leaving.vouching;
        for (key, (word, _)) in &vouching.words {
            let void = vouching.void.get(key).into_iter().flatten();
            let count = word.count() - void.filter(|place| word.covers(**place)).count() as u64;
            if count > 0 {
                *stripes.entry(key.1).or_default() += count;
            }
        }
        let signer = |(node, stripes)| {
            let operator = self.operator_at(node)?;
            Some(LeaveSigner { node, operator, stripes })
        };
        stripes.into_iter().filter_map(signer).collect()
    }

    /// A node that leaves asks for which stripes this one vouches.
    pub(super) fn handle_may_leave(
        &mut self,
        now: Now,
        facts: &dyn Facts,
        lane: LaneId,
        role: &Role,
        page: &Page,
    ) -> Decision {
        let Role::Node(leaver) = *role else {
            return Err(refusal(RefusalCode::NotAllowed, "only nodes leave"));
        };
        self.check_reader(&View { facts, overlay: &self.overlay }, role, page.vault)?;
        page.check().map_err(|e| refusal(RefusalCode::Malformed, e.to_string()))?;
        self.hear_leaving(leaver, true);
        let mut covered = BTreeSet::new();
        // Before it is listened to nothing is known to be well without it.
        if self.repair.leaving.contains(&leaver) {
            for (place, &(stripe, index)) in page.held.iter().enumerate() {
                if self.repair.settled_holders(page.vault, stripe).is_none() {
                    self.hurry(now, facts, page.vault, stripe);
                } else if self.vouches(facts, page.vault, stripe, index) {
                    covered.insert(place);
                }
            }
        }
        let word = Word::sign(page, leaver, now.wall, &self.key, |place| covered.contains(&place));
        self.reply(lane, Response::MayLeave(word));
        Ok(())
    }

    /// Whether this node holds what counts of a stripe that was found well without those that leave, of which there is such a shard.
    fn vouches(&self, facts: &dyn Facts, vault: VaultId, stripe: StripeId, index: u16) -> bool {
        let view = View { facts, overlay: &self.overlay };
        let holders = self.repair.settled_holders(vault, stripe).unwrap_or_default();
        let Ok(Some(signed)) = view.record(vault, stripe) else { return false };
        let Ok(record) = signed.verify() else { return false };
        let is_damaged = matches!(
            self.place_of(&view, &record),
            Ok(Some((shard, _))) if self.scrub.is_damaged(shard)
        );
        holders.contains(&self.node())
            && index < record.stripe.n
            && !is_damaged
            && self.is_kept_here(facts, &record)
    }

    /// Looks at a stripe soon, because somebody waits for it.
    fn hurry(&mut self, now: Now, facts: &dyn Facts, vault: VaultId, stripe: StripeId) {
        self.look_at_stripe(now, facts, (vault, stripe), Why::Doubted);
        let next = now.mono.after(self.repair_term());
        let Some(case) = self.repair.cases.get_mut(&stripe) else { return };
        let is_waiting = matches!(case.stage, Stage::New | Stage::Waits);
        if is_waiting && case.hurry <= now.mono {
            (case.due, case.hurry) = (case.due.min(now.mono), next);
            self.repair.wake();
        }
    }

    /// This node's operator asks for the paper by which it may leave.
    pub(super) fn handle_leave_paper(
        &mut self,
        now: Now,
        lane: LaneId,
        role: &Role,
        part: u32,
    ) -> Decision {
        if *role != (Role::Console { operator: self.site.operator }) {
            return Err(refusal(RefusalCode::NotAllowed, "only the node's operator is given it"));
        }
        if !self.leave_status().is_some_and(|status| status.may_leave()) {
            return Err(refusal(RefusalCode::NotAllowed, "this node may not leave yet"));
        }
        let vouching = &self.leaving.vouching;
        let pages = vouching.sheets.len();
        let part = match part as usize {
            0 => Some(self.opening(now)?),
            at if at <= pages => {
                let sheet = &vouching.sheets[at - 1];
                let words = vouching.words.iter().filter(|((page, _), _)| *page == sheet.digest);
                let words = words.filter(|((_, witness), _)| self.members.contains_key(witness));
                let words = words.map(|(_, (_, signed))| signed.clone()).collect();
                Some(Part::Page { page: sheet.page.clone(), words })
            }
            at if at == pages + 1 => {
                let mut digest = Digest::default();
                vouching.sheets.iter().for_each(|sheet| digest.update(sheet.digest));
                let held = vouching.sheets.iter().map(|sheet| sheet.page.held.len() as u64);
                let (stripes, digest) = (held.sum(), digest.finish());
                let list = List { node: self.node(), made: now.wall, stripes, digest };
                Some(Part::End(Signed::sign(&list, &self.key)))
            }
            _ => None,
        };
        self.reply(lane, Response::LeavePaper(part.map(Box::new)));
        Ok(())
    }

    fn opening(&self, now: Now) -> Result<Part, crate::message::Refusal> {
        let own = self.record.split().map_err(|e| refusal(RefusalCode::Internal, e.to_string()))?.0;
        let vouching: BTreeSet<NodeId> =
            self.leaving.vouching.words.keys().map(|(_, witness)| *witness).collect();
        let witnesses = vouching.iter().filter_map(|node| self.members.get(node));
        Ok(Part::Opening {
            made: now.wall,
            node: own.certificate,
            witnesses: witnesses.map(|member| member.record.certificate.clone()).collect(),
        })
    }
}
