//! The members that a peer knows, and what is asked of all of them so often that it is counted as they come and go: of which operators
//! they are, what their records are called, and who was not heard for a while. Who becomes one is [`super::membership`]'s to say.

use super::membership::{Member, RecordName};
use crate::id::{NodeId, OperatorId, find};
use crate::time::Mono;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::ops::Deref;

/// Members of one operator.
#[derive(Debug, Default, PartialEq, Eq)]
struct OfOperator {
    nodes: BTreeSet<NodeId>,
    /// What their records are called, added up.
    sum: u64,
}

/// A name as a number: any order will do in which one is found quickly.
pub(super) fn order(name: RecordName) -> u64 {
    u64::from_ne_bytes(name)
}

/// All members. They are read like a map. What is looked at of all of them lies side by side.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<NodeId, Member>,
    /// Those of each operator.
    operators: BTreeMap<OperatorId, OfOperator>,
    /// How often somebody became one, was none any more, or became another operator's.
    changes: u64,
    /// All of them, in order,
    nodes: Vec<NodeId>,
    /// what their records are called,
    names: Vec<RecordName>,
    /// whose they are,
    owners: Vec<OperatorId>,
    /// when each was heard last,
    heard: Vec<Option<Mono>>,
    /// and how many bytes each may still take, by its own word.
    rooms: Vec<u64>,
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
        match find(&self.nodes, &node) {
            Ok(place) => (self.names[place], self.owners[place]) = (member.name, operator),
            Err(place) => {
                self.nodes.insert(place, node);
                self.names.insert(place, member.name);
                self.owners.insert(place, operator);
                self.heard.insert(place, None);
                self.rooms.insert(place, 0);
            }
        }
        let name = member.name;
        let before = self.all.insert(node, member);
        if let Some(before) = &before {
            self.take_from(before.site.operator, node, before.name);
        }
        if before.is_none_or(|before| before.site.operator != operator) {
            self.changes += 1;
        }
        let its = self.operators.entry(operator).or_default();
        its.nodes.insert(node);
        its.sum = its.sum.wrapping_add(order(name));
    }

    /// One is none any more.
    pub(super) fn remove(&mut self, node: &NodeId) {
        if let Ok(place) = find(&self.nodes, node) {
            self.nodes.remove(place);
            self.names.remove(place);
            self.owners.remove(place);
            self.heard.remove(place);
            self.rooms.remove(place);
        }
        if let Some(member) = self.all.remove(node) {
            self.changes += 1;
            self.take_from(member.site.operator, *node, member.name);
        }
    }

    fn take_from(&mut self, operator: OperatorId, node: NodeId, name: RecordName) {
        if let btree_map::Entry::Occupied(mut its) = self.operators.entry(operator) {
            let OfOperator { nodes, sum } = its.get_mut();
            nodes.remove(&node);
            *sum = sum.wrapping_sub(order(name));
            if nodes.is_empty() {
                its.remove();
            }
        }
    }

    /// What lies side by side is what the map has.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert!(self.nodes.iter().eq(self.all.keys()) && self.nodes.len() == self.heard.len());
        assert_eq!(self.nodes.len(), self.rooms.len());
        let owners = self.all.values().map(|member| member.site.operator);
        assert!(self.owners.iter().copied().eq(owners));
        assert!(self.names.iter().copied().eq(self.all.values().map(|member| member.name)));
        let mut operators = BTreeMap::<OperatorId, OfOperator>::new();
        for (node, member) in &self.all {
            let its = operators.entry(member.site.operator).or_default();
            its.nodes.insert(*node);
            its.sum = its.sum.wrapping_add(order(member.name));
        }
        assert_eq!(self.operators, operators);
    }

    /// Whose a member is.
    pub(super) fn operator(&self, node: NodeId) -> Option<OperatorId> {
        find(&self.nodes, &node).ok().map(|place| self.owners[place])
    }

    /// When a member was heard last.
    pub(super) fn heard(&self, node: NodeId) -> Option<Mono> {
        self.heard[find(&self.nodes, &node).ok()?]
    }

    /// It was heard, if it is a member.
    pub(super) fn hear(&mut self, node: NodeId, at: Mono) -> bool {
        let place = find(&self.nodes, &node);
        place.map(|place| self.heard[place] = Some(at)).is_ok()
    }

    /// It was not: as if it never had been.
    pub(super) fn miss(&mut self, node: NodeId) {
        if let Ok(place) = find(&self.nodes, &node) {
            self.heard[place] = None;
        }
    }

    /// How many bytes a member may still take, as far as it said.
    pub(super) fn room(&self, node: NodeId) -> u64 {
        find(&self.nodes, &node).map_or(0, |place| self.rooms[place])
    }

    /// It says how many.
    pub(super) fn set_room(&mut self, node: NodeId, room: u64) {
        if let Ok(place) = find(&self.nodes, &node) {
            self.rooms[place] = room;
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

    /// What the records are called of the nodes of those operators.
    pub(super) fn names_of<'a>(
        &'a self,
        is_meant: impl Fn(OperatorId) -> bool + 'a,
    ) -> impl Iterator<Item = &'a RecordName> {
        let places = self.of(is_meant).filter_map(|node| find(&self.nodes, node).ok());
        places.map(|place| &self.names[place])
    }

    /// Those of the operators that are meant, of one after the other.
    pub(super) fn of<'a>(
        &'a self,
        is_meant: impl Fn(OperatorId) -> bool + 'a,
    ) -> impl Iterator<Item = &'a NodeId> {
        self.operators
            .iter()
            .filter(move |(operator, _)| is_meant(**operator))
            .flat_map(|(_, its)| &its.nodes)
    }

    /// How many those are, and what their records' names come to.
    pub(super) fn sum_of(&self, is_meant: impl Fn(OperatorId) -> bool) -> (usize, u64) {
        let meant = self.operators.iter().filter(|(operator, _)| is_meant(**operator));
        meant.fold((0, 0), |(count, sum), (_, its)| {
            (count + its.nodes.len(), sum.wrapping_add(its.sum))
        })
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
