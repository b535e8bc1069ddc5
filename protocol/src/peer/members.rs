//! The members that a peer knows, and what is asked of all of them so often that it is counted as they come and go: of which operators
//! they are, what their records are called, and who was not heard for a while. Who becomes one is [`super::membership`]'s to say.

use super::membership::{Member, RecordName};
use crate::id::{NodeId, OperatorId};
use crate::time::Mono;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::ops::Deref;

/// All members. They are read like a map. What is looked at of all of them lies side by side.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<NodeId, Member>,
    /// Those of each operator.
    operators: BTreeMap<OperatorId, BTreeSet<NodeId>>,
    /// How often somebody became one, was none any more, or became another operator's.
    changes: u64,
    /// All of them, in order,
    nodes: Vec<NodeId>,
    /// what their records are called,
    names: Vec<RecordName>,
    /// and when each was heard last.
    heard: Vec<Option<Mono>>,
}

impl Deref for Members {
    type Target = BTreeMap<NodeId, Member>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = (&'a NodeId, &'a Member);
    type IntoIter = btree_map::Iter<'a, NodeId, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

impl FromIterator<(NodeId, Member)> for Members {
    fn from_iter<I: IntoIterator<Item = (NodeId, Member)>>(all: I) -> Self {
        let mut members = Self::default();
        all.into_iter().for_each(|(node, member)| members.insert(node, member));
        members
    }
}

impl Members {
    /// One is new, and was not heard, or is known by another record.
    pub(super) fn insert(&mut self, node: NodeId, member: Member) {
        let operator = member.site.operator;
        match self.nodes.binary_search(&node) {
            Ok(place) => self.names[place] = member.name,
            Err(place) => {
                self.nodes.insert(place, node);
                self.names.insert(place, member.name);
                self.heard.insert(place, None);
            }
        }
        let before = self.all.insert(node, member).map(|member| member.site.operator);
        if before == Some(operator) {
            return;
        }
        self.changes += 1;
        if let Some(before) = before {
            self.take_from(before, node);
        }
        self.operators.entry(operator).or_default().insert(node);
    }

    /// One is none any more.
    pub(super) fn remove(&mut self, node: &NodeId) {
        if let Ok(place) = self.nodes.binary_search(node) {
            self.nodes.remove(place);
            self.names.remove(place);
            self.heard.remove(place);
        }
        if let Some(member) = self.all.remove(node) {
            self.changes += 1;
            self.take_from(member.site.operator, *node);
        }
    }

    fn take_from(&mut self, operator: OperatorId, node: NodeId) {
        if let btree_map::Entry::Occupied(mut nodes) = self.operators.entry(operator) {
            nodes.get_mut().remove(&node);
            if nodes.get().is_empty() {
                nodes.remove();
            }
        }
    }

    /// What lies side by side is what the map has.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.nodes.iter().eq(self.all.keys()) && self.nodes.len() == self.heard.len());
        assert!(self.names.iter().copied().eq(self.all.values().map(|member| member.name)));
        let mut operators = BTreeMap::<OperatorId, BTreeSet<NodeId>>::new();
        for (node, member) in &self.all {
            operators.entry(member.site.operator).or_default().insert(*node);
        }
        assert_eq!(self.operators, operators);
    }

    /// When a member was heard last.
    pub(super) fn heard(&self, node: NodeId) -> Option<Mono> {
        self.heard[self.nodes.binary_search(&node).ok()?]
    }

    /// It was heard, if it is a member.
    pub(super) fn hear(&mut self, node: NodeId, at: Mono) -> bool {
        let place = self.nodes.binary_search(&node);
        place.map(|place| self.heard[place] = Some(at)).is_ok()
    }

    /// It was not: as if it never had been.
    pub(super) fn miss(&mut self, node: NodeId) {
        if let Ok(place) = self.nodes.binary_search(&node) {
            self.heard[place] = None;
        }
    }

    /// Whose nodes they are.
    pub(super) fn operators(&self) -> impl Iterator<Item = OperatorId> {
        self.operators.keys().copied()
    }

    /// What the members' records are called, in the order of the members.
    pub(super) fn names(&self) -> &[RecordName] {
        &self.names
    }

    /// Those of the operators that are meant, of one after the other.
    pub(super) fn of<'a>(
        &'a self,
        is_meant: impl Fn(OperatorId) -> bool + 'a,
    ) -> impl Iterator<Item = &'a NodeId> {
        self.operators
            .iter()
            .filter(move |(operator, _)| is_meant(**operator))
            .flat_map(|(_, nodes)| nodes)
    }

    /// Grows whenever somebody becomes one, is none any more, or becomes another operator's.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Those who were heard then at the latest, or never, in order.
    pub(super) fn not_heard_since(&self, at: Option<Mono>) -> Vec<NodeId> {
        let silent = self.nodes.iter().zip(&self.heard).filter(|(_, heard)| **heard <= at);
        silent.map(|(node, _)| *node).collect()
    }
}
