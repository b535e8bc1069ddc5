//! A mesh that exists, from the survey that `strewn status --json` wrote: as an arrangement it is played like those of a file, with
//! its nodes, its policy, and back-ups placed as they lie. What a loss comes to is also told without playing, by the one predicate.
//!
//! What it assumes:
//! - Stripes that lie alike fare alike: at most [`STRIPES_MAX`] are played, of every pattern at least one, or of the patterns that
//!   lose most. The room of nodes is scaled as their stripes are.
//! - Nodes that do not answer have the shards that they should have, and stay away.
//! - Locks are as after a backup; nodes have no other vault, trust each other, and have a day's patience unless the scenario says
//!   otherwise. New stripes are coded like most of those that there are.

use crate::client::shard_len;
use crate::plan::{GuardianSetup, Placed, Verdict, What, Who};
use crate::scenario::{Arrangement, Expect, Hit, Kind, Mesh, Real, STRIPE_LEN, Scenario};
use crate::setup::NodeSetup;
use protocol::id::OperatorId;
use protocol::label::{Domain, Label, LabelError, Level, NoDomain, Site};
use protocol::placement::Loss;
use protocol::survey::{NodeState, Pattern, Survey, SurveyError, SurveyedVault, Toll, VERSION};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Most stripes that are played.
pub const STRIPES_MAX: u32 = 240;
/// Longest file with a status, in bytes: a survey has about a megabyte, ten thousand nodes some twenty.
pub const FILE_LEN_MAX: u64 = 64 << 20;
/// What the arrangement is called.
pub const NAME: &str = "your-mesh";
/// Most names in an error.
const KNOWN_MAX: usize = 12;

/// Why a file's mesh cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FromMeshError {
    /// It is no JSON, or not of the form.
    #[error("it is no status of a mesh: {0}")]
    Json(String),
    /// JSON without a survey.
    #[error("it has no survey: what `strewn status --json` prints is expected")]
    NoSurvey,
    /// A survey that cannot be.
    #[error("its survey cannot be: {0}")]
    Survey(#[from] SurveyError),
    /// Only nodes.
    #[error(
        "it says nothing of a vault: `strewn status --json` on a host that has one, with --vault where there are several"
    )]
    NoVault,
    /// Nothing is stored, or nothing of it can be read.
    #[error("no stripe of it can be read, so that there is nothing to lose")]
    Nothing,
    /// No such domain.
    #[error("your mesh has no {label}; it has {known}")]
    NoDomain {
        /// What was asked for.
        label: String,
        /// Some of those that there are.
        known: String,
    },
    /// No label.
    #[error("{0}")]
    Label(#[from] LabelError),
}

impl From<NoDomain> for FromMeshError {
    fn from(NoDomain { label, known }: NoDomain) -> Self {
        let names: Vec<&str> = known.split(", ").filter(|name| !name.is_empty()).collect();
        let known = match names.len() {
            0 => "no nodes".into(),
            count if count > KNOWN_MAX => {
                format!("{} and {} more", names[..KNOWN_MAX].join(", "), count - KNOWN_MAX)
            }
            _ => names.join(", "),
        };
        Self::NoDomain { label, known }
    }
}

/// A mesh that exists.
#[derive(Debug, Clone)]
pub struct FromMesh {
    survey: Survey,
    sites: Vec<Site>,
    /// What operators are called here: keys have no name that all know.
    operators: BTreeMap<OperatorId, String>,
    /// What a scenario calls domains, and which it means here.
    called: BTreeMap<String, Label>,
}

/// Only the version, whatever else there is.
#[derive(Deserialize)]
#[serde(expecting = "an object as `strewn status --json` prints it")]
struct Head {
    survey: Option<HeadOfSurvey>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object `survey` as `strewn status --json` prints it")]
struct HeadOfSurvey {
    version: u32,
}

#[derive(Deserialize)]
#[serde(expecting = "an object as `strewn status --json` prints it")]
struct Body {
    survey: Option<Survey>,
}

/// The first JSON object that has what is looked for.
fn first<'a, T: Deserialize<'a>, U>(
    text: &'a str,
    find: impl Fn(T) -> Option<U>,
) -> Result<U, FromMeshError> {
    for object in serde_json::Deserializer::from_str(text).into_iter::<T>() {
        let object = object.map_err(|error| FromMeshError::Json(error.to_string()))?;
        if let Some(found) = find(object) {
            return Ok(found);
        }
    }
    Err(FromMeshError::NoSurvey)
}

impl FromMesh {
    /// Reads what `strewn status --json` printed.
    ///
    /// # Errors
    /// [`FromMeshError`] with what is wrong.
    pub fn read(text: &str) -> Result<Self, FromMeshError> {
        // Another version may have other fields, and is to be called that.
        let version = first(text, |head: Head| head.survey)?.version;
        if version != VERSION {
            return Err(SurveyError::Version(version).into());
        }
        let survey = first(text, |body: Body| body.survey)?;
        survey.check()?;
        let guardians = survey.vault.iter().filter_map(|v| v.policy.lock.guardians.as_ref());
        let keys: BTreeSet<OperatorId> = survey
            .nodes
            .iter()
            .map(|node| node.operator)
            .chain(survey.vault.iter().map(|vault| vault.operator))
            .chain(guardians.flat_map(|guardians| guardians.of.iter().copied()))
            .collect();
        let short: BTreeSet<String> = keys.iter().map(OperatorId::short).collect();
        let is_plain = short.len() == keys.len();
        let name = |key: OperatorId| if is_plain { key.short() } else { key.to_string() };
        let operators = keys.into_iter().map(|key| (key, name(key))).collect();
        Ok(Self { sites: survey.sites(), survey, operators, called: BTreeMap::new() })
    }

    /// What a scenario calls by the first label is a domain of the mesh.
    ///
    /// # Errors
    /// [`FromMeshError`] when the mesh has no such domain.
    pub fn calling(mut self, scenario: &str, mesh: &str) -> Result<Self, FromMeshError> {
        let label = mesh.parse()?;
        Domain::meant(&label, &self.sites)?;
        self.called.insert(scenario.into(), label);
        Ok(self)
    }

    /// What was read.
    #[must_use]
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// The vault.
    ///
    /// # Errors
    /// [`FromMeshError::NoVault`].
    pub fn vault(&self) -> Result<&SurveyedVault, FromMeshError> {
        self.survey.vault.as_ref().ok_or(FromMeshError::NoVault)
    }

    /// What an operator is called here.
    #[must_use]
    pub fn operator(&self, key: OperatorId) -> &str {
        self.operators.get(&key).map_or("unknown", String::as_str)
    }

    /// The code of most stripes, if there are any.
    #[must_use]
    pub fn code(&self) -> Option<(u16, u16)> {
        let mut codes: BTreeMap<(u16, u16), u64> = BTreeMap::new();
        for pattern in self.survey.vault.iter().flat_map(|vault| &vault.patterns) {
            let stripes = codes.entry((pattern.k, pattern.n)).or_default();
            *stripes = stripes.saturating_add(pattern.stripes);
        }
        codes.into_iter().max_by_key(|(_, stripes)| *stripes).map(|(code, _)| code)
    }

    /// The domain that a scenario or a person means.
    ///
    /// # Errors
    /// [`FromMeshError`] with the domains that there are.
    pub fn domain(&self, name: &str) -> Result<Domain, FromMeshError> {
        let label = match self.called.get(name) {
            Some(label) => label.clone(),
            None => name.parse()?,
        };
        Ok(Domain::meant(&label, &self.sites)?)
    }

    /// What a loss comes to, by the records alone.
    ///
    /// # Errors
    /// [`FromMeshError`] when there is no vault or no such domain.
    pub fn toll(&self, lose: &[String]) -> Result<Toll, FromMeshError> {
        self.vault()?;
        let domains = lose.iter().map(|name| self.domain(name));
        let loss = domains.collect::<Result<Loss, _>>()?;
        Ok(self.survey.toll(&loss))
    }

    /// The nodes that a scenario means by a label.
    fn who(&self, name: &str) -> Result<Who, FromMeshError> {
        let domain = self.domain(name)?;
        let is_there = |site: &Site| site.domain(&domain.level) == domain;
        Ok(match domain.level.as_str() {
            Level::NODE => {
                let index = self.sites.iter().position(is_there);
                index.map_or(Who::Label(domain.to_string()), Who::Node)
            }
            Level::OPERATOR => {
                let named = self.sites.iter().find(|site| is_there(site));
                let name = named.and_then(|site| self.operators.get(&site.operator));
                Who::Label(format!("operator={}", name.map_or("", String::as_str)))
            }
            _ => Who::Label(domain.to_string()),
        })
    }

    /// The mesh as one more arrangement of a scenario, whose events say which stripes matter most.
    ///
    /// # Errors
    /// [`FromMeshError`] when the mesh has not what an event names, or nothing to lose.
    pub fn arrangement(&self, scenario: &Scenario) -> Result<Arrangement, FromMeshError> {
        let vault = self.vault()?;
        let rates = scenario.rates.iter().flat_map(|rate| &rate.hits);
        let hits = scenario.events.iter().map(|event| &event.hit).chain(rates);
        let (mut called, mut loss) = (BTreeMap::new(), Vec::new());
        for name in hits.flat_map(names) {
            loss.push(self.domain(&name)?);
            let who = self.who(&name)?;
            called.insert(name, who);
        }
        let loss: Loss = loss.into_iter().collect();
        let (placed, scaled) = self.placed(vault, &loss)?;
        let nodes = self.nodes(vault, &placed);
        let silent = (0..).zip(&self.survey.nodes).filter(|(_, node)| !node.state.answers());
        let silent: Vec<usize> = silent.map(|(index, _)| index).collect();
        let stays = |index: &usize| {
            self.survey.nodes[*index].state.answers() && !loss.takes(&self.sites[*index])
        };
        let asked = (0..self.sites.len()).find(stays).unwrap_or(0);
        let mut policy = vault.policy.clone();
        let guardians = policy.lock.guardians.take().map(|guardians| GuardianSetup {
            need: guardians.need,
            of: guardians.of.iter().map(|key| self.operators[key].clone()).collect(),
        });
        let title = format!("Your mesh: {} nodes, vault {}; {scaled}", nodes.len(), vault.name);
        let operator = self.operators[&vault.operator].clone();
        let real = Real { operator, placed, silent, called, asked };
        let mesh = Mesh {
            nodes,
            policy,
            guardians,
            code: self.code(),
            patience: scenario.patience,
            real: Some(real),
        };
        let verdicts =
            [Verdict::Survived, Verdict::Degraded, Verdict::Unreachable, Verdict::Destroyed];
        // It is a question: nothing is expected.
        let expect =
            Expect { verdicts: verdicts.into(), unreadable_max: None, unreadable_min: None };
        Ok(Arrangement { name: NAME.into(), title, kind: Kind::Mesh(Box::new(mesh)), expect })
    }

    /// What is known of the mesh and not played, for people.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let count = |state| self.survey.nodes.iter().filter(|node| node.state == state).count();
        let away = count(NodeState::Silent) + count(NodeState::Lost);
        let mut notes = Vec::new();
        if away > 0 {
            notes.push(format!("{away} of its nodes do not answer, and stay away"));
        }
        if self.survey.nodes_left_out > 0 {
            notes.push(format!("the status leaves out {} nodes", self.survey.nodes_left_out));
        }
        let Some(vault) = &self.survey.vault else { return notes };
        if vault.stripes_left_out > 0 {
            let (stripes, patterns) = (vault.stripes_left_out, vault.patterns_left_out);
            notes.push(format!("the status leaves out {stripes} stripes, in {patterns} patterns"));
        }
        let lost = self.survey.toll(&Loss::default()).lost_already;
        if lost > 0 {
            notes.push(format!("{lost} stripes cannot be read now, whatever happens"));
        }
        notes
    }

    /// The stripes that are played, and how they stand for all.
    fn placed(
        &self,
        vault: &SurveyedVault,
        loss: &Loss,
    ) -> Result<(Vec<Placed>, String), FromMeshError> {
        let left = |pattern: &Pattern| {
            let left = pattern.holders.iter().filter(|&&i| !loss.takes(&self.sites[i as usize]));
            left.count() as i64 - i64::from(pattern.k)
        };
        let shards = |pattern: &&Pattern| pattern.holders.len() + pattern.silent.len();
        let is_there = |pattern: &&Pattern| shards(pattern) >= usize::from(pattern.k);
        let mut patterns: Vec<&Pattern> = vault.patterns.iter().filter(is_there).collect();
        patterns.sort_by_key(|pattern| (left(pattern), pattern.spare()));
        let all: u64 = patterns.iter().map(|pattern| pattern.stripes).sum();
        let known = patterns.len();
        patterns.truncate(STRIPES_MAX as usize);
        let counts: Vec<u64> = patterns.iter().map(|pattern| pattern.stripes).collect();
        let place = |(pattern, stripes): (&&Pattern, u32)| {
            let holders = pattern.holders.iter().chain(&pattern.silent);
            Placed { k: pattern.k, holders: holders.map(|&i| i as usize).collect(), stripes }
        };
        let placed: Vec<Placed> =
            patterns.iter().zip(shares(&counts, STRIPES_MAX)).map(place).collect();
        let played: u32 = placed.iter().map(|placed| placed.stripes).sum();
        if played == 0 {
            return Err(FromMeshError::Nothing);
        }
        let scaled = match known {
            _ if u64::from(played) == all => format!("all {all} stripes are played"),
            known if known > patterns.len() => format!(
                "{played} of {all} stripes are played, one of each of the patterns that lose most, of {known}"
            ),
            known => format!(
                "{played} stripes stand for {all}, of each of {known} patterns at least one"
            ),
        };
        Ok((placed, scaled))
    }

    /// The nodes, with room in proportion to the stripes that are played.
    fn nodes(&self, vault: &SurveyedVault, placed: &[Placed]) -> Vec<NodeSetup> {
        let mut held = vec![0u64; self.sites.len()];
        for Placed { k, holders, stripes } in placed {
            let len = shard_len(STRIPE_LEN as usize, usize::from(*k)) as u64;
            for &holder in holders {
                held[holder] += len * u64::from(*stripes);
            }
        }
        let bytes = |pattern: &Pattern| {
            let shards = (pattern.holders.len() + pattern.silent.len()) as u128;
            shards * u128::from(pattern.shard_bytes)
        };
        let real: u128 = vault.patterns.iter().map(bytes).sum();
        let played: u128 = held.iter().map(|&bytes| u128::from(bytes)).sum();
        let quota = |index: usize| {
            let node = &self.survey.nodes[index];
            let room = if node.state == NodeState::Leaving { 0 } else { node.room? };
            let room = u128::from(room).saturating_mul(played) / real.max(1);
            Some(held[index].saturating_add(u64::try_from(room).unwrap_or(u64::MAX)))
        };
        let setup = |(index, site): (usize, &Site)| NodeSetup {
            operator: self.operators[&site.operator].clone(),
            labels: site.labels.clone(),
            quota: quota(index),
            ..NodeSetup::default()
        };
        self.sites.iter().enumerate().map(setup).collect()
    }
}

/// The labels by which a hit names domains.
fn names(hit: &Hit) -> Vec<String> {
    let mut names = Vec::new();
    let mut note = |who: &mut Who| {
        if let Who::Label(label) = who {
            names.push(label.clone());
        }
    };
    match hit.clone() {
        Hit::Destroy(mut who)
        | Hit::Delete(mut who)
        | Hit::Close(mut who, _)
        | Hit::Dark(mut who, _) => note(&mut who),
        Hit::StealKeys(_) | Hit::StopBackups => {}
        Hit::Step(mut what) => what.each_who(&mut note),
    }
    names
}

/// So many in all, at least one of each and otherwise in proportion; of none more than there are.
fn shares(counts: &[u64], most: u32) -> Vec<u32> {
    let total: u64 = counts.iter().sum();
    if total <= u64::from(most) {
        return counts.iter().map(|&count| count as u32).collect();
    }
    let spare = u128::from(most) - counts.len() as u128;
    let share = |&count: &u64| 1 + (spare * u128::from(count) / u128::from(total)) as u32;
    let mut shares: Vec<u32> = counts.iter().map(share).collect();
    let mut rest = most - shares.iter().sum::<u32>();
    for (share, &count) in shares.iter_mut().zip(counts) {
        if rest > 0 && u64::from(*share) < count {
            *share += 1;
            rest -= 1;
        }
    }
    shares
}

impl Real {
    /// A step of a scenario, with the names that domains have here.
    pub(crate) fn call(&self, mut what: What) -> What {
        if let What::Recover { by, .. } = &mut what {
            *by = self.asked;
        }
        what.each_who(&mut |who| {
            if let Who::Label(label) = who
                && let Some(meant) = self.called.get(label)
            {
                *who = meant.clone();
            }
        });
        what
    }
}

#[cfg(test)]
mod tests;
