//! A survey: which nodes a mesh has, what a vault's policy asks, and on which nodes its stripes lie, as patterns with a count.
//! `strewn status --json` writes it and the simulator reads it, so that both mean the same by it; README.md of the simulator
//! documents its fields. Whoever reads one has a file from somewhere: nothing of it counts until [`Survey::check`] has passed.
//!
//! Its size is bounded, whatever the mesh's: what is left out is counted.

use crate::evidence::{Evidence, Evidences};
use crate::id::{NodeId, OperatorId};
use crate::label::{Labels, Level, Site};
use crate::placement::{Fate, Loss};
use crate::policy::{Policy, PolicyError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The form described here.
pub const VERSION: u32 = 1;
/// Most nodes that a survey lists.
pub const NODES_MAX: usize = 10_000;
/// Most patterns that a survey lists.
pub const PATTERNS_MAX: usize = 10_000;
/// Most holders in all patterns together: about a megabyte of text.
pub const HOLDERS_MAX: usize = 200_000;
/// Most shards of a stripe.
const SHARDS_MAX: u16 = 256;

/// A survey that contradicts itself or is larger than one can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// Another form.
    #[error(
        "it is of version {0}, and this program reads version {VERSION}: use programs of one release"
    )]
    Version(u32),
    /// More than there may be.
    #[error("it lists {count} {what}, at most {max} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// So many.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// A node twice.
    #[error("node {0} is listed twice")]
    Twice(NodeId),
    /// A pattern that cannot be.
    #[error("pattern {0}: {1}")]
    Pattern(usize, &'static str),
    /// Numbers that do not add up.
    #[error("it says {said} stripes, and its patterns and what is left out make {found}")]
    Sum {
        /// What it says.
        said: u64,
        /// What it comes to.
        found: u64,
    },
    /// Numbers that no mesh has.
    #[error("its numbers of stripes or bytes are beyond any mesh")]
    Overflow,
    /// The policy cannot be meant.
    #[error("its policy: {0}")]
    Policy(#[from] PolicyError),
}

/// How a node is, as whoever made the survey saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It answers.
    Up,
    /// It answers, and moves away what it holds.
    Leaving,
    /// It does not answer.
    Silent,
    /// It does not answer, and other nodes count it as lost.
    Lost,
}

impl NodeState {
    /// Whether what it holds can be asked for.
    #[must_use]
    pub fn answers(self) -> bool {
        matches!(self, Self::Up | Self::Leaving)
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurveyedNode {
    /// Who.
    pub node: NodeId,
    /// Whose.
    pub operator: OperatorId,
    /// What its certificate states.
    pub labels: Labels,
    /// How well that is shown to be true, where it is more or less than declared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<Level, Evidence>,
    /// How it is.
    pub state: NodeState,
    /// Bytes of shards that it may hold; `None` when it does not answer.
    pub quota: Option<u64>,
    /// Bytes of shards that it holds, of all vaults; `None` when it does not answer.
    pub used: Option<u64>,
    /// Bytes of shards that it may still take; `None` when it does not answer.
    pub room: Option<u64>,
}

impl SurveyedNode {
    /// The node as placement sees it.
    #[must_use]
    pub fn site(&self) -> Site {
        let evidence = Evidences::counted(self.evidence.clone());
        Site { evidence, ..Site::new(self.node, self.operator, self.labels.clone()) }
    }
}

/// Stripes whose shards lie on the same nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Shards needed.
    pub k: u16,
    /// Shards made.
    pub n: u16,
    /// Nodes that answer and promise to have a shard, by their place in the list of nodes.
    pub holders: Vec<u32>,
    /// Nodes that do not answer and should have the shards that nobody else has.
    pub silent: Vec<u32>,
    /// How many stripes.
    pub stripes: u64,
    /// Bytes of one shard of each of them, together.
    pub shard_bytes: u64,
}

impl Pattern {
    /// Shards more than needed; less than 0 where it cannot be read now.
    #[must_use]
    pub fn spare(&self) -> i64 {
        self.holders.len() as i64 - i64::from(self.k)
    }

    fn check(&self, nodes: &[SurveyedNode]) -> Result<(), &'static str> {
        if self.k == 0 || self.k > self.n || self.n > SHARDS_MAX {
            return Err("1 ≤ k ≤ n ≤ 256 is expected");
        }
        if self.holders.len() + self.silent.len() > usize::from(self.n) {
            return Err("it has more holders than shards");
        }
        if self.stripes == 0 {
            return Err("it counts no stripe");
        }
        let mut seen = BTreeSet::new();
        for (holders, answers) in [(&self.holders, true), (&self.silent, false)] {
            for &index in holders {
                let node = nodes.get(index as usize).ok_or("it names a node that is not listed")?;
                if node.state.answers() != answers {
                    return Err("a holder's state is not that of the node");
                }
                if !seen.insert(index) {
                    return Err("it names a node twice");
                }
            }
        }
        Ok(())
    }
}

/// What is known of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurveyedVault {
    /// What its owner calls it.
    pub name: String,
    /// Who vouches for it.
    pub operator: OperatorId,
    /// What it asks for now.
    pub policy: Policy,
    /// All stripes that count.
    pub stripes: u64,
    /// Where they lie.
    pub patterns: Vec<Pattern>,
    /// Patterns that are not listed: there are too many.
    pub patterns_left_out: u64,
    /// Stripes in those.
    pub stripes_left_out: u64,
    /// Stripes of which no node that answers has a record: they are lost already.
    pub unrecorded: u64,
}

/// A mesh, and where a vault's stripes lie in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// [`VERSION`].
    pub version: u32,
    /// The nodes, those that do not answer as well.
    pub nodes: Vec<SurveyedNode>,
    /// Nodes that are not listed: there are too many.
    pub nodes_left_out: u64,
    /// The vault, if one was asked about.
    pub vault: Option<SurveyedVault>,
}

/// What a loss would come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Toll {
    /// All stripes but those left out.
    pub stripes: u64,
    /// Those that can be read afterwards.
    pub left: u64,
    /// Of those, the ones that break a clause afterwards.
    pub below_policy: u64,
    /// Those that cannot be read now, whatever is lost.
    pub lost_already: u64,
    /// Stripes of which the survey does not say where they lie.
    pub left_out: u64,
}

impl Survey {
    /// Nodes, and no vault yet: of more nodes than [`NODES_MAX`] the first ones.
    #[must_use]
    pub fn of(mut nodes: Vec<SurveyedNode>) -> Self {
        let nodes_left_out = nodes.len().saturating_sub(NODES_MAX) as u64;
        nodes.truncate(NODES_MAX);
        Self { version: VERSION, nodes, nodes_left_out, vault: None }
    }

    /// Checks that it can be meant.
    ///
    /// # Errors
    /// [`SurveyError`] with what cannot.
    pub fn check(&self) -> Result<(), SurveyError> {
        if self.version != VERSION {
            return Err(SurveyError::Version(self.version));
        }
        let bounded = |what, count, max| match count {
            count if count > max => Err(SurveyError::TooMany { what, count, max }),
            _ => Ok(()),
        };
        bounded("nodes", self.nodes.len(), NODES_MAX)?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.nodes.iter().find(|node| !seen.insert(node.node)) {
            return Err(SurveyError::Twice(twice.node));
        }
        let Some(vault) = &self.vault else { return Ok(()) };
        vault.policy.check()?;
        bounded("patterns", vault.patterns.len(), PATTERNS_MAX)?;
        let holders = vault.patterns.iter().map(|p| p.holders.len() + p.silent.len()).sum();
        bounded("holders", holders, HOLDERS_MAX)?;
        let (mut found, mut bytes) =
            (vault.stripes_left_out.checked_add(vault.unrecorded), Some(0u64));
        for (index, pattern) in vault.patterns.iter().enumerate() {
            pattern.check(&self.nodes).map_err(|what| SurveyError::Pattern(index, what))?;
            found = found.and_then(|found| found.checked_add(pattern.stripes));
            let held = pattern.shard_bytes.checked_mul(u64::from(pattern.n));
            bytes = bytes.zip(held).and_then(|(bytes, held)| bytes.checked_add(held));
        }
        let (Some(found), Some(_)) = (found, bytes) else { return Err(SurveyError::Overflow) };
        if found != vault.stripes {
            return Err(SurveyError::Sum { said: vault.stripes, found });
        }
        Ok(())
    }

    /// Where its nodes lie.
    #[must_use]
    pub fn sites(&self) -> Vec<Site> {
        self.nodes.iter().map(SurveyedNode::site).collect()
    }

    /// What a loss would come to, by the one predicate. As in `strewn what-if`, who does not answer counts as lost as well.
    /// To be asked of a survey that was checked.
    #[must_use]
    pub fn toll(&self, loss: &Loss) -> Toll {
        let Some(vault) = &self.vault else { return Toll::default() };
        let sites = self.sites();
        let mut toll = Toll {
            stripes: vault.stripes - vault.stripes_left_out,
            lost_already: vault.unrecorded,
            left_out: vault.stripes_left_out,
            ..Toll::default()
        };
        for pattern in &vault.patterns {
            let holders: Vec<&Site> =
                pattern.holders.iter().map(|&index| &sites[index as usize]).collect();
            toll.lost_already += if pattern.spare() < 0 { pattern.stripes } else { 0 };
            match loss.fate(&vault.policy, usize::from(pattern.k), &holders) {
                Fate::Whole => toll.left += pattern.stripes,
                Fate::BelowPolicy { .. } => {
                    toll.left += pattern.stripes;
                    toll.below_policy += pattern.stripes;
                }
                Fate::Destroyed { .. } => {}
            }
        }
        toll
    }
}

/// Where stripes lie, while they are being counted.
#[derive(Debug, Default)]
pub struct Patterns(BTreeMap<Lie, (u64, u64)>);

/// By what patterns differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lie {
    /// Shards needed.
    pub k: u16,
    /// Shards made.
    pub n: u16,
    /// Nodes that answer, by place in a list.
    pub holders: Vec<u32>,
    /// Nodes that do not.
    pub silent: Vec<u32>,
}

impl Patterns {
    /// One stripe more with shards of this length.
    pub fn add(&mut self, lie: Lie, shard_len: u32) {
        let (stripes, bytes) = self.0.entry(lie).or_default();
        *stripes += 1;
        *bytes = bytes.saturating_add(u64::from(shard_len));
    }

    /// All stripes.
    #[must_use]
    pub fn stripes(&self) -> u64 {
        self.0.values().map(|(stripes, _)| stripes).sum()
    }

    /// Every pattern, and how many stripes it has.
    pub fn iter(&self) -> impl Iterator<Item = (&Lie, u64)> {
        self.0.iter().map(|(lie, (stripes, _))| (lie, *stripes))
    }

    /// As a survey lists them that lists so many nodes: where there are too many, those with the fewest shards to spare, then an
    /// even choice of the others. With how many patterns and stripes are left out.
    #[must_use]
    pub fn listed(self, nodes: usize) -> (Vec<Pattern>, u64, u64) {
        self.bounded(nodes, PATTERNS_MAX, HOLDERS_MAX)
    }

    fn bounded(self, nodes: usize, most: usize, holders_max: usize) -> (Vec<Pattern>, u64, u64) {
        let (stripes, patterns) = (self.stripes(), self.0.len());
        let mut all: Vec<Pattern> = self
            .0
            .into_iter()
            .map(|(Lie { k, n, holders, silent }, (stripes, shard_bytes))| Pattern {
                k,
                n,
                holders,
                silent,
                stripes,
                shard_bytes,
            })
            .collect();
        all.retain(|p| p.holders.iter().chain(&p.silent).all(|&index| (index as usize) < nodes));
        let len = |pattern: &Pattern| pattern.holders.len() + pattern.silent.len();
        if all.len() > most || all.iter().map(len).sum::<usize>() > holders_max {
            // The order of holders says nothing: by it, only nodes that come first would be seen.
            all.sort_by_cached_key(|pattern| (pattern.spare(), mixed(pattern)));
            let mut holders = 0;
            let keep = all.iter().take(most).take_while(|pattern| {
                holders += len(pattern);
                holders <= holders_max
            });
            all.truncate(keep.count());
        }
        let left_out = (patterns - all.len()) as u64;
        let stripes_left_out = stripes - all.iter().map(|pattern| pattern.stripes).sum::<u64>();
        (all, left_out, stripes_left_out)
    }
}

/// A number that depends on all of a pattern, and follows no order.
fn mixed(pattern: &Pattern) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for index in pattern.holders.iter().chain(&pattern.silent) {
        hasher.update(&index.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::{Domain, Level};
    use proptest::prelude::*;

    fn node(index: u8, provider: u8, state: NodeState) -> SurveyedNode {
        let site = Site::stating(index, &format!("provider=p{provider}"));
        let known = state.answers().then_some(1 << 30);
        SurveyedNode {
            evidence: BTreeMap::new(),
            node: site.node,
            operator: site.operator,
            labels: site.labels,
            state,
            quota: known,
            used: known.map(|_| 0),
            room: known,
        }
    }

    fn vault(patterns: Vec<Pattern>) -> SurveyedVault {
        SurveyedVault {
            name: "v".into(),
            operator: OperatorId([0; 32]),
            policy: Policy::survive_one("provider"),
            stripes: patterns.iter().map(|p| p.stripes).sum(),
            patterns,
            patterns_left_out: 0,
            stripes_left_out: 0,
            unrecorded: 0,
        }
    }

    /// Four nodes at two providers, one of which is silent; ten stripes on the first three, two on the last three.
    fn small() -> Survey {
        let states = [NodeState::Up, NodeState::Leaving, NodeState::Up, NodeState::Silent];
        let nodes = (0..).zip(states).map(|(index, state)| node(index, index / 2, state));
        let mut survey = Survey::of(nodes.collect());
        let pattern = |holders: &[u32], silent: &[u32], stripes| Pattern {
            k: 2,
            n: 3,
            holders: holders.to_vec(),
            silent: silent.to_vec(),
            stripes,
            shard_bytes: stripes << 20,
        };
        survey.vault = Some(vault(vec![pattern(&[0, 1, 2], &[], 10), pattern(&[1, 2], &[3], 2)]));
        survey
    }

    fn lost(label: &str) -> Loss {
        let (level, name) = label.split_once('=').unwrap();
        let domain = Domain { level: Level::new(level).unwrap(), name: Some(name.into()) };
        [domain].into_iter().collect()
    }

    #[test]
    fn a_loss_is_told_as_what_if_tells_it() {
        let survey = small();
        survey.check().unwrap();
        let all = Toll { stripes: 12, ..Toll::default() };
        let nothing = survey.toll(&Loss::default());
        assert_eq!(nothing, Toll { left: 12, below_policy: 12, ..all });
        let toll = survey.toll(&lost("provider=p1"));
        assert_eq!(toll, Toll { left: 10, below_policy: 10, ..all });
        assert_eq!(survey.toll(&lost("provider=p0")), all);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let wrong = |change: &dyn Fn(&mut Survey)| {
            let mut survey = small();
            change(&mut survey);
            survey.check().unwrap_err().to_string()
        };
        let pattern = |change: &dyn Fn(&mut Pattern)| {
            wrong(&|survey| change(&mut survey.vault.as_mut().unwrap().patterns[1]))
        };
        assert!(wrong(&|s| s.version = 2).contains("version 2"));
        assert!(wrong(&|s| s.nodes.push(s.nodes[0].clone())).contains("twice"));
        assert!(wrong(&|s| s.vault.as_mut().unwrap().stripes += 1).contains("13 stripes"));
        assert!(wrong(&|s| s.vault.as_mut().unwrap().unrecorded = u64::MAX).contains("beyond"));
        assert!(
            wrong(&|s| s.vault.as_mut().unwrap().policy.survive.any.clear()).contains("policy")
        );
        assert!(pattern(&|p| p.k = 4).contains("k ≤ n"));
        assert!(pattern(&|p| p.holders.push(9)).contains("more holders"));
        assert!(pattern(&|p| p.holders = vec![9]).contains("not listed"));
        assert!(pattern(&|p| p.holders = vec![1, 1]).contains("twice"));
        assert!(pattern(&|p| p.holders = vec![3]).contains("state"));
        assert!(pattern(&|p| p.stripes = 0).contains("no stripe"));
        assert!(pattern(&|p| p.shard_bytes = u64::MAX).contains("beyond"));
    }

    proptest! {
        #[test]
        fn what_is_left_out_is_counted_and_the_weakest_stay(
            lies in prop::collection::vec((1u16..4, prop::collection::btree_set(0u32..12, 0..6)), 1..60),
            patterns_max in 0usize..40,
            holders_max in 0usize..120,
        ) {
            let mut patterns = Patterns::default();
            for (k, holders) in &lies {
                let holders = holders.iter().copied().collect();
                patterns.add(Lie { k: *k, n: 8, holders, silent: Vec::new() }, 100);
            }
            let all = patterns.iter().count() as u64;
            let weakest = patterns.iter().map(|(lie, _)| lie.holders.len() as i64 - i64::from(lie.k)).min();
            let (listed, patterns_left_out, stripes_left_out) = patterns.bounded(12, patterns_max, holders_max);
            prop_assert!(listed.len() <= patterns_max);
            prop_assert!(listed.iter().map(|p| p.holders.len()).sum::<usize>() <= holders_max);
            prop_assert_eq!(listed.len() as u64 + patterns_left_out, all);
            let stripes: u64 = listed.iter().map(|p| p.stripes).sum();
            prop_assert_eq!(stripes + stripes_left_out, lies.len() as u64);
            prop_assert_eq!(listed.iter().map(|p| p.shard_bytes).sum::<u64>(), stripes * 100);
            if patterns_left_out > 0 && !listed.is_empty() {
                prop_assert_eq!(listed.iter().map(Pattern::spare).min(), weakest);
            }
        }
    }
}
