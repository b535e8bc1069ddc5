//! Levels, labels and domains: what can fail, or fall to one attacker, together.

use crate::evidence::{Evidence, Evidences};
use crate::id::{NodeId, OperatorId};
use crate::succession::Lines;
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Longest name of a level, in bytes.
pub const LEVEL_LEN_MAX: usize = 32;
/// Longest name of a domain, in bytes.
pub const NAME_LEN_MAX: usize = 128;
/// Most labels that one certificate states.
pub const LABELS_MAX: usize = 16;

/// Text that is not a label, or labels that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// Not `level=name`.
    #[error("{0:?} is not a label: write level=name, for example provider=aws")]
    NotALabel(String),
    /// A level's name has other characters than allowed.
    #[error(
        "{0:?} is not a level: lower-case letters, digits and '-', starting with a letter, at most 32; in a policy _signed, _vouched or _attested may follow"
    )]
    Level(String),
    /// A domain's name is empty, too long or holds control characters.
    #[error("{0:?} is not a domain's name: 1 to 128 bytes of printable text")]
    Name(String),
    /// A label that asks for evidence instead of stating something.
    #[error("{0} asks for evidence, which a policy does: a label states {1}")]
    Evidence(Level, String),
    /// `operator` and `node` are keys, not claims.
    #[error("{0} is not stated by a label: it is the key itself")]
    Reserved(Level),
    /// One level twice.
    #[error("level {0} is stated twice")]
    Twice(Level),
    /// More labels than a certificate may state.
    #[error("{0} labels, at most {LABELS_MAX} allowed")]
    TooMany(usize),
}

/// A level: `provider`, `account`, `region`, `operator`, `node` or any other. One that asks for evidence, `provider_vouched`, has the
/// same domains for those nodes whose label of `provider` is shown that well; other nodes lie in its domain `unknown`, too, whatever they state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Level(String);

/// Between a level and the evidence that it asks for. No level's own name has it.
const ASKS: char = '_';

impl Level {
    /// The level whose domains are the operators' keys.
    pub const OPERATOR: &'static str = "operator";
    /// The level whose domains are the single nodes.
    pub const NODE: &'static str = "node";

    /// The level with this name.
    ///
    /// # Errors
    /// [`LabelError::Level`] when the name has other characters than `a-z0-9-`.
    pub fn new(name: impl Into<String>) -> Result<Self, LabelError> {
        let name = name.into();
        let (stated, asked) = match name.split_once(ASKS) {
            None => (name.as_str(), true),
            // What everybody has is not asked for: there is one way to write a level. A key needs no evidence.
            Some((stated, asked)) => (
                stated,
                asked.parse().is_ok_and(|asked: Evidence| asked > Evidence::Declared)
                    && stated != Self::OPERATOR
                    && stated != Self::NODE,
            ),
        };
        let fits = stated.len() <= LEVEL_LEN_MAX
            && stated.starts_with(|c: char| c.is_ascii_lowercase())
            && stated.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if fits && asked { Ok(Self(name)) } else { Err(LabelError::Level(name)) }
    }

    /// The level whose labels count, and how well they have to be shown to be true.
    #[must_use]
    pub fn asks(&self) -> (Self, Evidence) {
        match self.0.split_once(ASKS) {
            Some((stated, asked)) => (Self(stated.into()), asked.parse().unwrap_or_default()),
            None => (self.clone(), Evidence::Declared),
        }
    }

    /// Whether more is asked for than that a node states something.
    #[must_use]
    pub fn asks_evidence(&self) -> bool {
        self.0.contains(ASKS)
    }

    /// The level that asks for this evidence; those of keys ask for none.
    #[must_use]
    pub fn asking(&self, evidence: Evidence) -> Self {
        let (stated, _) = self.asks();
        if evidence <= Evidence::Declared || stated.is_reserved() {
            stated
        } else {
            Self(format!("{stated}{ASKS}{evidence}"))
        }
    }

    /// The level of operators.
    #[must_use]
    pub fn operator() -> Self {
        Self(Self::OPERATOR.into())
    }

    /// The level of nodes.
    #[must_use]
    pub fn node() -> Self {
        Self(Self::NODE.into())
    }

    /// The level's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this level's domains are keys, which no label can state.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0 == Self::OPERATOR || self.0 == Self::NODE
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Level {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Level {
    type Error = LabelError;
    fn try_from(text: String) -> Result<Self, LabelError> {
        Self::new(text)
    }
}

impl From<Level> for String {
    fn from(level: Level) -> Self {
        level.0
    }
}

/// A level and the name of one of its domains: `provider=aws`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The level.
    pub level: Level,
    /// The domain's name at that level.
    pub name: String,
}

impl FromStr for Label {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let (level, name) =
            text.split_once('=').ok_or_else(|| LabelError::NotALabel(text.into()))?;
        check_name(name)?;
        Ok(Self { level: Level::new(level)?, name: name.into() })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.level, self.name)
    }
}

fn check_name(name: &str) -> Result<(), LabelError> {
    let fits = !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && name.trim() == name
        && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(LabelError::Name(name.into())) }
}

/// The labels that a certificate states: at most one name a level, none of a reserved level.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Level, String>", into = "BTreeMap<Level, String>")]
pub struct Labels(BTreeMap<Level, String>);

impl Labels {
    /// Collects labels.
    ///
    /// # Errors
    /// [`LabelError`] when a level is reserved or stated twice, or there are too many.
    pub fn new(labels: impl IntoIterator<Item = Label>) -> Result<Self, LabelError> {
        let mut map = BTreeMap::new();
        for label in labels {
            if map.insert(label.level.clone(), label.name).is_some() {
                return Err(LabelError::Twice(label.level));
            }
        }
        map.try_into()
    }

    /// The name stated for a level.
    #[must_use]
    pub fn get(&self, level: &Level) -> Option<&str> {
        self.0.get(level).map(String::as_str)
    }

    /// All of them, by level.
    pub fn iter(&self) -> impl Iterator<Item = (&Level, &str)> {
        self.0.iter().map(|(level, name)| (level, name.as_str()))
    }

    /// Whether none is stated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<BTreeMap<Level, String>> for Labels {
    type Error = LabelError;
    fn try_from(map: BTreeMap<Level, String>) -> Result<Self, LabelError> {
        if map.len() > LABELS_MAX {
            return Err(LabelError::TooMany(map.len()));
        }
        for (level, name) in &map {
            if level.is_reserved() {
                return Err(LabelError::Reserved(level.clone()));
            }
            if level.asks_evidence() {
                return Err(LabelError::Evidence(level.clone(), level.asks().0.0));
            }
            check_name(name)?;
        }
        Ok(Self(map))
    }
}

impl From<Labels> for BTreeMap<Level, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (level, name) in &self.0 {
            write!(f, "{separator}{level}={name}")?;
            separator = " ";
        }
        Ok(())
    }
}

/// One domain of a level. Nodes without a label of the level share the domain whose name is
/// `None`: what is not stated is not counted as separate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Domain {
    /// The level.
    pub level: Level,
    /// The name stated, or `None` for all nodes that state none.
    pub name: Option<String>,
}

/// The name of a domain, as a node states it: a key in hex, or what its label says. Of one level all are of one kind, and in the order of their texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DomainName<'a> {
    Key(&'a [u8; 32]),
    Label(&'a str),
}

impl fmt::Display for DomainName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(&data_encoding::HEXLOWER.encode(*key)),
            Self::Label(name) => f.write_str(name),
        }
    }
}

/// A label that means no domain there is, or several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no node has {label}; there are {known}")]
pub struct NoDomain {
    /// What was asked for.
    pub label: String,
    /// What there is, shortened; where several were meant, those.
    pub known: String,
}

/// Fewest digits of a key that name a node or an operator.
const PREFIX_MIN: usize = 4;

impl Domain {
    pub(crate) fn named(level: &Level, name: Option<DomainName<'_>>) -> Self {
        Self { level: level.clone(), name: name.map(|name| name.to_string()) }
    }

    /// The one domain of these sites that somebody means by a label: keys may be shortened to four digits, and `unknown` is what
    /// is not stated.
    ///
    /// # Errors
    /// [`NoDomain`] with those that there are.
    pub fn meant<'a>(
        label: &Label,
        sites: impl IntoIterator<Item = &'a Site>,
    ) -> Result<Self, NoDomain> {
        let known: BTreeSet<Self> =
            sites.into_iter().flat_map(|site| site.domains(&label.level)).collect();
        let is_meant = |domain: &&Self| match &domain.name {
            Some(name) if label.level.is_reserved() => {
                label.name.len() >= PREFIX_MIN && name.starts_with(&label.name)
            }
            Some(name) => *name == label.name,
            None => label.name == "unknown",
        };
        let meant: Vec<&Self> = known.iter().filter(is_meant).collect();
        match meant.as_slice() {
            [one] => Ok((*one).clone()),
            [] => {
                let names: Vec<String> = known.iter().map(Self::short).collect();
                Err(NoDomain { label: label.to_string(), known: names.join(", ") })
            }
            several => {
                let names: Vec<String> = several.iter().map(ToString::to_string).collect();
                Err(NoDomain { label: format!("{label} alone"), known: names.join(", ") })
            }
        }
    }

    /// As people read it: keys are shortened.
    #[must_use]
    pub fn short(&self) -> String {
        match &self.name {
            Some(name) if self.level.is_reserved() => {
                format!("{}={}", self.level, name.get(..8).unwrap_or(name))
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.level, self.name.as_deref().unwrap_or("unknown"))
    }
}

/// A node as placement sees it: who it is, whose it is, and what it states.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The node.
    pub node: NodeId,
    /// Its operator, which is a key and not a claim.
    pub operator: OperatorId,
    /// What its certificate states.
    pub labels: Labels,
    /// How well that is shown to be true.
    pub evidence: Evidences,
}

impl Site {
    /// A node that states these labels, and nothing else shows them.
    #[must_use]
    pub fn new(node: NodeId, operator: OperatorId, labels: Labels) -> Self {
        Self { node, operator, labels, evidence: Evidences::default() }
    }

    /// What it states at a level, and whether that is shown as well as the level asks.
    fn stated(&self, level: &Level) -> (Option<DomainName<'_>>, bool) {
        match level.as_str() {
            Level::NODE => (Some(DomainName::Key(self.node.as_bytes())), true),
            Level::OPERATOR => (Some(DomainName::Key(self.operator.as_bytes())), true),
            _ if level.asks_evidence() => {
                let (stated, asked) = level.asks();
                let name = self.labels.get(&stated).map(DomainName::Label);
                (name, self.evidence.of(&stated) >= asked)
            }
            _ => {
                let name = self.labels.get(level).map(DomainName::Label);
                (name, self.evidence.of(level) >= Evidence::Declared)
            }
        }
    }

    /// The domain of a level in which this node counts: that of its label, if this is shown as well as the level asks.
    #[must_use]
    pub fn domain(&self, level: &Level) -> Domain {
        let (name, is_shown) = self.stated(level);
        Domain::named(level, name.filter(|_| is_shown))
    }

    /// All domains of a level with which this node may fall: that of its label, and where this is not shown as well as the level asks also
    /// `unknown`. A claim counts against whoever makes it even without evidence; otherwise a stricter policy would accept some
    /// placements that a laxer one refuses.
    pub fn domains(&self, level: &Level) -> impl Iterator<Item = Domain> {
        self.domain_names(level).map(|name| Domain::named(level, name))
    }

    /// What these are called.
    pub(crate) fn domain_names<'a>(
        &'a self,
        level: &Level,
    ) -> impl Iterator<Item = Option<DomainName<'a>>> + use<'a> {
        let (name, is_shown) = self.stated(level);
        let is_unknown = name.is_some() && !is_shown;
        std::iter::once(name).chain(is_unknown.then_some(None))
    }

    /// Whether it falls with a domain.
    #[must_use]
    pub fn lies_in(&self, domain: &Domain) -> bool {
        let (name, is_shown) = self.stated(&domain.level);
        domain.name == name.map(|name| name.to_string()) || domain.name.is_none() && !is_shown
    }

    /// The levels of its labels, and the evidence that counts for each.
    pub fn shown(&self) -> impl Iterator<Item = (&Level, &str, Evidence)> {
        self.labels.iter().map(|(level, name)| (level, name, self.evidence.of(level)))
    }

    /// The node as somebody sees it who believes the operators of these lines: what others say of it counts as far as they are among them.
    #[must_use]
    pub fn seen_by(&self, believed: &Lines, now: Wall) -> Self {
        Self { evidence: self.evidence.by(believed, now), ..self.clone() }
    }
}

#[cfg(test)]
impl Site {
    /// A node of operator 0 that states these labels, with spaces between.
    pub(crate) fn stating(node: u8, labels: &str) -> Self {
        let labels = labels.split_whitespace().map(|label| label.parse().unwrap());
        let (node, operator) = (NodeId([node; 32]), OperatorId([0; 32]));
        Self::new(node, operator, Labels::new(labels).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_as_people_write_them() {
        let label: Label = "provider=aws".parse().unwrap();
        assert_eq!((label.level.as_str(), label.name.as_str()), ("provider", "aws"));
        for wrong in ["provider", "Provider=aws", "=aws", "provider=", "provider= aws", "p=a\nb"] {
            assert!(wrong.parse::<Label>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_operator_is_never_a_claim() {
        let labels = Labels::new(["operator=me".parse().unwrap()]);
        assert!(matches!(labels, Err(LabelError::Reserved(_))));
    }

    #[test]
    fn a_level_that_asks_for_evidence_has_one_name_and_is_stated_by_nobody() {
        let level = |text: &str| Level::new(text);
        let vouched = level("provider_vouched").unwrap();
        assert_eq!(vouched.asks(), (level("provider").unwrap(), Evidence::Vouched));
        assert_eq!(level("provider").unwrap().asking(Evidence::Vouched), vouched);
        assert_eq!(vouched.asking(Evidence::Declared), level("provider").unwrap());
        assert_eq!(Level::operator().asking(Evidence::Attested), Level::operator());
        for wrong in [
            "provider_declared",
            "provider_",
            "_vouched",
            "operator_signed",
            "p_x",
            "a_signed_signed",
        ] {
            assert!(level(wrong).is_err(), "{wrong}");
        }
        let stated = Labels::new(["provider_vouched=aws".parse().unwrap()]);
        assert!(matches!(stated, Err(LabelError::Evidence(..))), "{stated:?}");
    }

    #[test]
    fn a_claim_without_the_evidence_asked_for_counts_against_its_node_alone() {
        let level = Level::new("provider_vouched").unwrap();
        let claims = Site::stating(1, "provider=aws");
        let known =
            |name: Option<&str>| Domain { level: level.clone(), name: name.map(Into::into) };
        assert_eq!(claims.domain(&level), known(None));
        assert_eq!(claims.domains(&level).collect::<Vec<_>>(), [known(Some("aws")), known(None)]);
        let provider = Level::new("provider").unwrap();
        let shown = BTreeMap::from([(provider.clone(), Evidence::Attested)]);
        let shown = Site { evidence: Evidences::counted(shown), ..claims.clone() };
        assert_eq!(shown.domains(&level).collect::<Vec<_>>(), [known(Some("aws"))]);
        assert_eq!(shown.domain(&level), known(Some("aws")));
        assert_eq!(Site::stating(2, "").domains(&level).collect::<Vec<_>>(), [known(None)]);
        // What is contradicted counts as unknown also where nothing is asked for.
        let denied = Site { evidence: Evidences::contradicted(), ..claims };
        assert_eq!(denied.domains(&provider).count(), 2);
        assert_eq!(denied.domain(&provider).name, None);
        for site in [&shown, &denied] {
            for level in [&level, &provider] {
                let all = [Some("aws"), Some("gcp"), None]
                    .map(known)
                    .map(|d| Domain { level: level.clone(), ..d });
                let lies: Vec<&Domain> = all.iter().filter(|domain| site.lies_in(domain)).collect();
                assert_eq!(
                    lies,
                    site.domains(level).collect::<Vec<_>>().iter().collect::<Vec<_>>()
                );
            }
        }
    }

    #[test]
    fn what_is_not_stated_is_one_domain() {
        let site = |node| Site::new(NodeId([node; 32]), OperatorId([9; 32]), Labels::default());
        let region = Level::new("region").unwrap();
        assert_eq!(site(1).domain(&region), site(2).domain(&region));
        assert_ne!(site(1).domain(&Level::node()), site(2).domain(&Level::node()));
    }
}
