//! The part of a status that the simulator plays: nodes as they are certified, and where a vault's stripes lie. Its form is
//! `protocol::survey`'s; here it is filled from what nodes answered.

use super::inventory::Held;
use super::mesh::Mesh;
use super::status::NodeLine;
use super::vault::Vault;
use protocol::certificate::{CertificateError, VaultCertificate};
use protocol::evidence::Evidence;
use protocol::id::NodeId;
use protocol::survey::{Lie, NodeState, Patterns, Survey, SurveyedNode, SurveyedVault};
use std::collections::{BTreeMap, BTreeSet};

/// Where stripes lie, on nodes by their place among all of them.
#[derive(Debug)]
pub(super) struct Surveyor {
    nodes: Vec<SurveyedNode>,
    index: BTreeMap<NodeId, u32>,
    patterns: Patterns,
}

impl Surveyor {
    /// Of these nodes of a mesh.
    pub(super) fn new(mesh: &Mesh, lines: &[NodeLine]) -> Self {
        let lost: BTreeSet<NodeId> = lines
            .iter()
            .filter_map(|line| line.repair.as_ref())
            .flat_map(|r| r.lost.clone())
            .collect();
        let site = |line: &NodeLine| {
            let silent = || mesh.silent.get(&line.node).map(|silent| &silent.site);
            mesh.nodes.get(&line.node).map(|node| &node.site).or_else(silent).cloned()
        };
        let surveyed = |line: &NodeLine| {
            let site = site(line)?;
            // Who lists what it holds is no silent node, also if it has not said how it is.
            let state = match mesh.nodes.get(&line.node) {
                // Who is no partner any more is read from, and takes nothing: what is there is moved off.
                Some(node) if line.leaving.is_none() && node.is_relied_on() => NodeState::Up,
                Some(_) => NodeState::Leaving,
                None if lost.contains(&line.node) => NodeState::Lost,
                None => NodeState::Silent,
            };
            let said = |bytes: u64| line.up.then_some(bytes);
            Some(SurveyedNode {
                node: site.node,
                operator: site.operator,
                evidence: site
                    .shown()
                    .filter(|(_, _, evidence)| *evidence != Evidence::Declared)
                    .map(|(level, _, evidence)| (level.clone(), evidence))
                    .collect(),
                labels: site.labels,
                state,
                quota: said(line.quota),
                used: said(line.used),
                room: said(line.room),
            })
        };
        let nodes: Vec<SurveyedNode> = lines.iter().filter_map(surveyed).collect();
        let index = nodes.iter().map(|node| node.node).zip(0..).collect();
        Self { nodes, index, patterns: Patterns::default() }
    }

    /// One stripe more, and where it lies.
    pub(super) fn add(&mut self, mesh: &Mesh, held: &Held) {
        let (mut holders, mut silent) = (Vec::new(), Vec::new());
        for (counted, named) in held.holders(mesh).into_iter().zip(&held.record.holders) {
            match counted.filter(|node| mesh.nodes.contains_key(node)) {
                Some(node) => holders.extend(self.index.get(&node)),
                None if mesh.silent.contains_key(named) => silent.extend(self.index.get(named)),
                None => {}
            }
        }
        holders.sort_unstable();
        silent.sort_unstable();
        let stripe = &held.record.stripe;
        self.patterns.add(Lie { k: stripe.k, n: stripe.n, holders, silent }, stripe.shard_len);
    }

    /// What was counted so far.
    pub(super) fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// The node at a place.
    pub(super) fn node(&self, index: u32) -> Option<NodeId> {
        self.nodes.get(index as usize).map(|node| node.node)
    }

    /// The survey of the nodes alone.
    pub(super) fn without_vault(self) -> Survey {
        Survey::of(self.nodes)
    }

    /// The survey, with so many stripes of which nobody has a record.
    pub(super) fn survey(self, vault: &Vault, unrecorded: u64) -> Result<Survey, CertificateError> {
        let VaultCertificate { operator, .. } = vault.papers.certificate.verify()?;
        let mut survey = Survey::of(self.nodes);
        let stripes = self.patterns.stripes() + unrecorded;
        let (patterns, patterns_left_out, stripes_left_out) =
            self.patterns.listed(survey.nodes.len());
        survey.vault = Some(SurveyedVault {
            name: vault.name.clone(),
            operator,
            policy: vault.policy.clone(),
            stripes,
            patterns,
            patterns_left_out,
            stripes_left_out,
            unrecorded,
        });
        Ok(survey)
    }
}
