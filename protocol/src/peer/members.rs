//! The members that a peer knows, and what is asked of all of them so often that it is counted as they come and go: of which operators
//! they are, what their records are called, and who was not heard for a while. Who becomes one is [`super::membership`]'s to say.

use super::membership::{Member, RecordName};
use crate::id::{NodeId, OperatorId};
use crate::time::Mono;
use std::collections::{BTreeMap, btree_map};
use std::ops::Deref;

/// All members. They are read like a map. What is looked at of all of them lies side by side.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<NodeId, Member>,
    /// How many there are of each operator.
    operators: BTreeMap<OperatorId, usize>,
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
        *self.operators.entry(member.site.operator).or_default() += 1;
        match self.nodes.binary_search(&node) {
            Ok(place) => self.names[place] = member.name,
            Err(place) => {
                self.nodes.insert(place, node);
                self.names.insert(place, member.name);
                self.heard.insert(place, None);
            }
        }
        if let Some(before) = self.all.insert(node, member) {
            self.uncount(before.site.operator);
        }
    }

    /// One is none any more.
    pub(super) fn remove(&mut self, node: &NodeId) {
        if let Ok(place) = self.nodes.binary_search(node) {
            self.nodes.remove(place);
            self.names.remove(place);
            self.heard.remove(place);
        }
        if let Some(member) = self.all.remove(node) {
            self.uncount(member.site.operator);
        }
    }

    fn uncount(&mut self, operator: OperatorId) {
        if let btree_map::Entry::Occupied(mut count) = self.operators.entry(operator) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// What lies side by side is what the map has.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.nodes.iter().eq(self.all.keys()) && self.nodes.len() == self.heard.len());
        assert!(self.names.iter().copied().eq(self.all.values().map(|member| member.name)));
        let mut operators = BTreeMap::<OperatorId, usize>::new();
        for member in self.all.values() {
            *operators.entry(member.site.operator).or_default() += 1;
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

    /// Those whose records are called otherwise.
    pub(super) fn not_named(&self, is_named: impl Fn(&RecordName) -> bool) -> Vec<NodeId> {
        let others = self.nodes.iter().zip(&self.names).filter(|(_, name)| !is_named(name));
        others.map(|(node, _)| *node).collect()
    }

    /// Those who were heard then at the latest, or never, in order.
    pub(super) fn not_heard_since(&self, at: Option<Mono>) -> Vec<NodeId> {
        let silent = self.nodes.iter().zip(&self.heard).filter(|(_, heard)| **heard <= at);
        silent.map(|(node, _)| *node).collect()
    }
}
