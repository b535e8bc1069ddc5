//! An operator's partners as this host knows them: the list in the state folder, and the lines that operators exchange.
//!
//! On the operator's host the list is written, with its key; this host's node looks for it and tells the others. Hosts without the key ask
//! the operator's nodes for it when they connect ([`super::mesh`]), and keep it.

mod again;

use super::mesh::{Mesh, Node};
use super::{ClientError, Result, operator};
use crate::home::{Home, read_signed, write_signed};
use crate::line::{LineError, from_line, to_line};
use crate::service::wall;
use protocol::agreement::{Acceptance, Agreement, AgreementError, Side, supersedes};
use protocol::certificate::CLOCK_SKEW_MAX;
use protocol::id::{NodeId, OperatorId};
use protocol::label::Labels;
use protocol::message::{HeldFor, PartnerStanding, Request, Response};
use protocol::notice::{self, Notice};
use protocol::partner::{
    Contact, HOLDERS_MAX, Introduction, Known, Partner, PartnerError, PartnerList, Partners,
};
use protocol::sign::{Signed, Statement};
use protocol::succession::{Line as KeyLine, Speaker, SuccessionError};
use protocol::tally::StatementError;
use protocol::time::Period;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use again::{Lists, Whose};

/// In the state folder, the operator's list of partners.
pub const FILE: &str = "partners";
/// Before an introduction.
pub(crate) const INTRODUCTION: &str = "strewnpart1";
/// Before a proposal.
pub(crate) const PROPOSAL: &str = "strewnprop1";
/// Before what both sides signed.
pub(crate) const AGREED: &str = "strewnagr1";
/// All of these.
const PREFIXES: &str =
    "strewnpart1 (an introduction), strewnprop1 (a proposal) or strewnagr1 (an agreement)";
/// Longest of these lines, in characters behind that.
const LINE_LEN_MAX: usize = 32 << 10;

/// Why partners cannot be dealt with as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartnersError {
    /// The mesh or the state folder.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Not the line asked for.
    #[error(transparent)]
    Line(#[from] LineError),
    /// An introduction or the list.
    #[error(transparent)]
    Partner(#[from] PartnerError),
    /// An agreement.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// Whose key speaks.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// A statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// No such partner.
    #[error("there is no partner {0} here")]
    Unknown(String),
    /// The name is another partner's.
    #[error("another partner is called {0} here")]
    NameTaken(String),
    /// Its own line came back.
    #[error("this is a line of this operator's own: it is for the partner")]
    Own,
    /// The line is older than what is known.
    #[error("what is known of the partner is as new as this line, or newer")]
    Old,
    /// The line knows less of its operator's keys.
    #[error("the line shows fewer steps of its operator's keys than are known here")]
    Shorter,
    /// The line was made in the future.
    #[error("the line is dated more than a day ahead of this host's clock")]
    Ahead,
    /// There are two lists, and nobody has said which counts.
    #[error("which list of partners is the new key to sign? {0}")]
    Which(String),
    /// There is nothing to leave.
    #[error("nothing is agreed with this partner")]
    NothingAgreed,
    /// The operator's nodes are not known here.
    #[error("no node of this operator can be reached to hold for a partner")]
    NoHolders,
}

impl From<crate::home::HomeError> for PartnersError {
    fn from(error: crate::home::HomeError) -> Self {
        Self::Client(error.into())
    }
}

/// Results of what is done with partners.
pub type Done<T> = std::result::Result<T, PartnersError>;

/// Whether what is agreed with a partner was begun since another key speaks for it. Who had the earlier key could agree until its line was known here.
#[must_use]
pub fn is_agreed_since_change(known: &Known) -> bool {
    let mut key = known.introduction.operator.key();
    let steps = known.line.successions().iter();
    let changes = steps.filter(|step| std::mem::replace(&mut key, step.key) != step.key);
    let changed = changes.map(|step| step.issued).max();
    let begun = known.agreement.as_ref().map(|agreement| agreement.start);
    changed.zip(begun).is_some_and(|(changed, begun)| begun >= changed)
}

/// The list that is kept in the state folder, if it is this operator's.
pub fn stored(home: &Home, own: OperatorId) -> Result<Option<(Signed<PartnerList>, Partners)>> {
    let Some(signed) = read_signed::<PartnerList>(&home.path(FILE))? else { return Ok(None) };
    match PartnerList::verify(&signed, own) {
        Ok(partners) => Ok(Some((signed, partners))),
        // Another operator's, of before this host changed hands.
        Err(PartnerError::Foreign(_)) => Ok(None),
        Err(error) => Err(ClientError::content(error)),
    }
}

/// Keeps a list that nodes told, where it is newer than the one here. Whether it is the one that counts.
pub(super) fn keep(home: &Home, own: OperatorId, signed: &Signed<PartnerList>) -> Result<bool> {
    let found = PartnerList::verify(signed, own).map_err(ClientError::content)?;
    let known = match stored(home, own)? {
        Some((known, _)) if known == *signed => return Ok(true),
        Some((_, known)) => known,
        None => Partners::default(),
    };
    let is_newer = found.rank(own) > known.rank(own);
    if is_newer {
        write_signed(&home.path(FILE), signed)?;
    }
    Ok(is_newer)
}

/// What stands in a line that a partner may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Who it is.
    Introduction(Signed<Introduction>, Introduction),
    /// What it proposes.
    Proposal(Signed<Agreement>, Agreement),
    /// What was agreed.
    Agreed(Signed<Acceptance>, Agreement),
}

/// Reads a line, and verifies its signatures.
pub fn read_line(line: &str) -> Done<Line> {
    let line = line.trim();
    if line.starts_with(PROPOSAL) {
        let signed = from_line(PROPOSAL, LINE_LEN_MAX, line)?;
        let agreement = Agreement::verify(&signed)?;
        Ok(Line::Proposal(signed, agreement))
    } else if line.starts_with(AGREED) {
        let signed = from_line(AGREED, LINE_LEN_MAX, line)?;
        let agreement = Acceptance::verify(&signed)?;
        Ok(Line::Agreed(signed, agreement))
    } else {
        let signed = from_line(INTRODUCTION, LINE_LEN_MAX, line).map_err(|error| match error {
            // What fits is more than that.
            LineError::Prefix(_) => LineError::Prefix(PREFIXES),
            error => error,
        })?;
        let introduction = Introduction::verify(&signed)?;
        Ok(Line::Introduction(signed, introduction))
    }
}

/// The partner that is meant: by key or fingerprint, which people compared, before by what somebody calls himself.
pub fn find<'a>(
    partners: impl Iterator<Item = &'a Known> + Clone,
    meant: &str,
) -> Option<&'a Known> {
    let is_key = |known: &&Known| {
        let operator = known.introduction.operator;
        let fingerprints = [operator.key().fingerprint(), known.line.fingerprint()];
        operator.to_string() == meant || fingerprints.iter().any(|shown| shown == meant)
    };
    let by_key = partners.clone().find(is_key);
    by_key.or_else(|| partners.into_iter().find(|known| known.name == meant))
}

/// What is held for partners, and for how much there is room, over the nodes that answer; and the newest list that they have.
#[derive(Debug, Default)]
pub struct Told {
    /// By operator.
    pub held: BTreeMap<OperatorId, HeldFor>,
    list: Option<(Signed<PartnerList>, (usize, u64))>,
}

/// How partners stand at this operator's nodes, and how it stands at theirs, by the nodes that answer.
pub async fn standings(mesh: &Mesh, own: OperatorId) -> Vec<(Arc<Node>, Vec<PartnerStanding>)> {
    let mut standings = Vec::new();
    for (node, answer) in mesh.ask_all(&Request::Standings).await {
        match answer {
            Ok(Response::Standings(said)) => standings.push((node, said)),
            Ok(_) => tracing::warn!(node = node.id.short(), "an unexpected answer"),
            // One of an earlier version knows nothing of it.
            Err(error) => tracing::debug!(%error, node = node.id.short(), "no standings"),
        }
    }
    // Others say how this operator stands with them, and nothing else counts.
    for (node, said) in &mut standings {
        let is_own = node.site.operator == own;
        said.retain(|standing| is_own != (standing.operator == own));
    }
    standings
}

/// Operators with whose nodes nothing new is put, as this operator's nodes see them: they break their part, or what was agreed has ended
/// by notice.
pub async fn avoided(mesh: &Mesh, own: OperatorId) -> BTreeSet<OperatorId> {
    let answers = mesh.ask_of(own, &Request::Standings).await.into_iter();
    let said = answers.filter_map(|(_, answer)| match answer {
        Ok(Response::Standings(said)) => Some(said),
        _ => None,
    });
    notice::avoided(own, &said.collect::<Vec<_>>(), &mesh.agreed, wall())
}

/// Asks the operator's own nodes.
pub async fn ask(mesh: &Mesh, own: OperatorId) -> Told {
    let mut told = Told::default();
    for (node, answer) in mesh.ask_of(own, &Request::Partners { known: 0 }).await {
        let status = match answer {
            Ok(Response::Partners(status)) => status,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(%error, node = node.id.short(), "a node does not say who its partners are");
                continue;
            }
        };
        for held in status.held {
            let none = HeldFor { bytes: 0, share: 0, ..held };
            let all = told.held.entry(held.operator).or_insert(none);
            all.bytes = all.bytes.saturating_add(held.bytes);
            all.share = all.share.saturating_add(held.share);
        }
        if let Some(signed) = status.list
            && let Ok(partners) = PartnerList::verify(&signed, own)
            && told.list.as_ref().is_none_or(|(_, rank)| *rank < partners.rank(own))
        {
            told.list = Some((signed, partners.rank(own)));
        }
    }
    told
}

/// Whether a list was signed under this line of the operator's keys, or a part of it: what parts from it is somebody else's.
fn is_under(line: &KeyLine, signed: &Signed<PartnerList>) -> bool {
    let said = signed.said().ok().flatten();
    said.is_some_and(|said| line.check_names(&said).is_ok())
}

/// The list, in the hands of whoever has the operator's key.
#[derive(Debug)]
pub struct Book {
    speaker: Speaker,
    list: PartnerList,
    known: Partners,
}

impl Book {
    /// The newest list: the one here, or one that the operator's nodes have.
    pub fn open(home: &Home, told: &Told) -> Done<Self> {
        let speaker = operator::speaker_for(home, "dealing with partners")?;
        let operator = speaker.operator();
        let here = stored(home, operator)?.map(|(signed, known)| (signed, known.rank(operator)));
        let all = here.into_iter().chain(told.list.clone());
        let counts = |signed: &Signed<PartnerList>| is_under(speaker.line(), signed);
        let newest = all.filter(|(signed, _)| counts(signed)).max_by_key(|(_, rank)| *rank);
        Self::of(speaker, newest.map(|(signed, _)| signed))
    }

    /// This list, or an empty one.
    fn of(speaker: Speaker, signed: Option<Signed<PartnerList>>) -> Done<Self> {
        let operator = speaker.operator();
        let (list, known) = match signed {
            Some(signed) => {
                let known = PartnerList::verify(&signed, operator)?;
                (signed.verify().map_err(PartnerError::from)?, known)
            }
            None => {
                (PartnerList { operator, version: 0, partners: Vec::new() }, Partners::default())
            }
        };
        Ok(Self { speaker, list, known })
    }

    /// Whose it is.
    #[must_use]
    pub fn operator(&self) -> OperatorId {
        self.list.operator
    }

    /// Whose key speaks for it.
    #[must_use]
    pub fn line(&self) -> &KeyLine {
        self.speaker.line()
    }

    /// All partners.
    pub fn partners(&self) -> impl Iterator<Item = &Known> + Clone {
        self.known.by_operator.values()
    }

    /// The partner with this name, key or fingerprint.
    pub fn find(&self, name: &str) -> Done<&Known> {
        find(self.partners(), name).ok_or_else(|| PartnersError::Unknown(name.into()))
    }

    /// The line by which a partner adds this operator.
    pub fn introduce(&self, name: String, contacts: Vec<Contact>) -> Done<String> {
        let introduction =
            Introduction { operator: self.operator(), name, contacts, issued: wall() };
        let signed = Signed::speak(&introduction, &self.speaker);
        Introduction::verify(&signed)?;
        Ok(to_line(INTRODUCTION, &signed))
    }

    /// Adds a partner, or takes a later introduction of one that is known. What was agreed stays.
    pub fn add(
        &mut self,
        home: &Home,
        signed: Signed<Introduction>,
        name: Option<String>,
    ) -> Done<&Known> {
        let introduction = Introduction::verify(&signed)?;
        let operator = introduction.operator;
        if operator == self.operator() {
            return Err(PartnersError::Own);
        }
        let known = self.known.by_operator.get(&operator);
        let line = signed.line().map_err(PartnerError::from)?;
        let line = line.unwrap_or_else(|| KeyLine::first(operator));
        // The line that is known stays known: what shows another, or an earlier key, is nobody's word. Of one key the later counts.
        // A shorter one would have heirs and changes forgotten.
        let is_further = match known {
            Some(known) => {
                known.line.check(&line.said(), wall())?;
                if line.number() < known.line.number() {
                    return Err(PartnersError::Shorter);
                }
                line.number() > known.line.number()
            }
            None => true,
        };
        let latest = wall().after(CLOCK_SKEW_MAX);
        if introduction.issued > latest {
            return Err(PartnersError::Ahead);
        }
        // One that is dated ahead, from before that was refused, is not the last.
        let is_older = |known: &Known| {
            (introduction.issued.0 + 1..=latest.0).contains(&known.introduction.issued.0)
        };
        if !is_further && known.is_some_and(is_older) {
            return Err(PartnersError::Old);
        }
        let old = known.map(|known| known.name.clone());
        let name = name.or_else(|| old.clone()).unwrap_or(introduction.name);
        if self.partners().any(|k| k.name == name && k.introduction.operator != operator) {
            return Err(PartnersError::NameTaken(name));
        }
        match self.entry(old.as_deref()) {
            Some(partner) => (partner.introduction, partner.name) = (signed, name),
            None => self.list.partners.push(Partner {
                name,
                introduction: signed,
                added: wall(),
                agreement: None,
                holders: Vec::new(),
            }),
        }
        self.save(home)?;
        self.known.by_operator.get(&operator).ok_or(PartnersError::Own)
    }

    /// Removes a partner. What is held for it stays held.
    pub fn remove(&mut self, home: &Home, name: &str) -> Done<Known> {
        let known = self.find(name)?.clone();
        self.list.partners.retain(|partner| partner.name != known.name);
        self.save(home)?;
        Ok(known)
    }

    /// The line that proposes an agreement, or a change of the one there is.
    pub fn propose(&self, name: &str, terms: Terms) -> Done<(Agreement, String)> {
        let partner = self.find(name)?;
        let agreement = Agreement {
            first: Side { operator: self.operator(), gives: terms.gives, labels: terms.labels },
            second: Side {
                operator: partner.introduction.operator,
                gives: terms.takes,
                labels: terms.asks,
            },
            version: partner.agreement.as_ref().map_or(0, |known| known.version).saturating_add(1),
            start: wall(),
            term: terms.term,
            notice: terms.notice,
            lock_max: terms.lock_max,
        };
        let signed = Signed::speak(&agreement, &self.speaker);
        Agreement::verify(&signed)?;
        let line = to_line(PROPOSAL, &signed);
        Ok((agreement, line))
    }

    /// Accepts what a partner proposes; the line with which the partner gets it back.
    pub fn accept(
        &mut self,
        home: &Home,
        proposal: Signed<Agreement>,
        holders: Vec<NodeId>,
    ) -> Done<String> {
        let agreement = Agreement::verify(&proposal)?;
        if agreement.first.operator == self.operator() {
            return Err(PartnersError::Own);
        }
        agreement.check_between(self.operator(), agreement.first.operator)?;
        self.check_spoken(&proposal)?;
        if let Some(line) = self.accepted(&proposal)? {
            return Ok(line);
        }
        let known = self.partner(agreement.first.operator)?.agreement.as_ref();
        agreement.check_next(known.map(|known| known.version))?;
        let acceptance = Acceptance { operator: self.operator(), agreement: proposal };
        let signed = Signed::speak(&acceptance, &self.speaker);
        let line = to_line(AGREED, &signed);
        self.agree(home, agreement.first.operator, signed, holders)?;
        Ok(line)
    }

    /// The line that went to a partner, where this very proposal of it was accepted: it can be printed again.
    fn accepted(&self, proposal: &Signed<Agreement>) -> Done<Option<String>> {
        for known in self.list.partners.iter().filter_map(|partner| partner.agreement.as_ref()) {
            let acceptance = known.verify().map_err(PartnerError::from)?;
            if acceptance.operator == self.operator() && acceptance.agreement == *proposal {
                return Ok(Some(to_line(AGREED, known)));
            }
        }
        Ok(None)
    }

    /// Takes what a partner has accepted.
    pub fn conclude(
        &mut self,
        home: &Home,
        signed: Signed<Acceptance>,
        holders: Vec<NodeId>,
    ) -> Done<()> {
        let agreement = Acceptance::verify(&signed)?;
        let sides = [agreement.first.operator, agreement.second.operator];
        let other = sides.into_iter().find(|side| *side != self.operator());
        let other = other.ok_or(PartnersError::Own)?;
        agreement.check_between(self.operator(), other)?;
        let name = self.partner(other)?.name.clone();
        if let Some(known) = self.entry(Some(&name)).and_then(|p| p.agreement.clone()) {
            if known == signed {
                return self.agree(home, other, signed, holders);
            }
            if !supersedes(&signed, &known)? {
                return Err(PartnersError::Old);
            }
        } else {
            agreement.check_next(None)?;
        }
        self.check_spoken(&signed)?;
        self.check_spoken(&signed.verify().map_err(PartnerError::from)?.agreement)?;
        self.agree(home, other, signed, holders)
    }

    /// Refuses what comes now and was signed with a key that was succeeded.
    fn check_spoken<T: Statement>(&self, signed: &Signed<T>) -> Done<()> {
        if let Some(said) = signed.said().map_err(PartnerError::from)? {
            self.known.lines.check(&said, wall())?;
        }
        Ok(())
    }

    /// Gives notice of what is agreed with a partner: what both sides are to hold.
    pub fn leave(&self, name: &str) -> Done<(Known, Agreement, Signed<Notice>)> {
        let known = self.find(name)?;
        let agreement = known.agreement.clone().ok_or(PartnersError::NothingAgreed)?;
        let other = known.introduction.operator;
        let (leaver, version) = (self.operator(), agreement.version);
        let notice = Notice { leaver, other, version, given: wall() };
        Ok((known.clone(), agreement, Signed::speak(&notice, &self.speaker)))
    }

    /// Divides what a partner may store among these nodes.
    pub fn share(&mut self, home: &Home, name: &str, holders: Vec<NodeId>) -> Done<&Known> {
        let operator = self.find(name)?.introduction.operator;
        let name = self.find(name)?.name.clone();
        if holders.is_empty() {
            return Err(PartnersError::NoHolders);
        }
        if let Some(partner) = self.entry(Some(&name)) {
            partner.holders = holders;
        }
        self.save(home)?;
        self.partner(operator)
    }

    fn agree(
        &mut self,
        home: &Home,
        operator: OperatorId,
        signed: Signed<Acceptance>,
        holders: Vec<NodeId>,
    ) -> Done<()> {
        if holders.is_empty() {
            return Err(PartnersError::NoHolders);
        }
        let name = self.partner(operator)?.name.clone();
        if let Some(partner) = self.entry(Some(&name)) {
            (partner.agreement, partner.holders) = (Some(signed), holders);
        }
        self.save(home)
    }

    fn partner(&self, operator: OperatorId) -> Done<&Known> {
        let unknown = || PartnersError::Unknown(operator.key().fingerprint());
        self.known.by_operator.get(&operator).ok_or_else(unknown)
    }

    fn entry(&mut self, name: Option<&str>) -> Option<&mut Partner> {
        self.list.partners.iter_mut().find(|partner| Some(partner.name.as_str()) == name)
    }

    /// Signs the list anew and writes it.
    fn save(&mut self, home: &Home) -> Done<()> {
        self.list.version = self.list.version.saturating_add(1);
        let signed = Signed::speak(&self.list, &self.speaker);
        self.known = PartnerList::verify(&signed, self.list.operator)?;
        write_signed(&home.path(FILE), &signed)?;
        Ok(())
    }
}

/// What is proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Bytes that this operator holds for the partner.
    pub gives: u64,
    /// Bytes that the partner holds for this operator.
    pub takes: u64,
    /// For how long.
    pub term: Period,
    /// With what notice.
    pub notice: Period,
    /// The longest lock.
    pub lock_max: Period,
    /// Labels of this operator's nodes.
    pub labels: Labels,
    /// Labels of the partner's nodes.
    pub asks: Labels,
}

/// The operator's nodes that are to hold for partners: those that are known now, also who does not answer.
#[must_use]
pub fn holders(mesh: &Mesh, own: OperatorId) -> Vec<NodeId> {
    let up = mesh.nodes.values().map(|node| &node.site);
    let sites = up.chain(mesh.silent.values().map(|silent| &silent.site));
    let mut holders: Vec<NodeId> =
        sites.filter(|site| site.operator == own).map(|site| site.node).collect();
    holders.sort_unstable();
    holders.dedup();
    holders.truncate(HOLDERS_MAX);
    holders
}

#[cfg(test)]
mod tests;
