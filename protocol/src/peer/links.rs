//! Connections: whose they are, who is at the other end of them, and by when that must be said.

use super::{LinkId, Role};
use crate::id::{NodeId, PublicKey};
use crate::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) key: PublicKey,
    pub(super) outbound: bool,
    /// Who is there, once that was vouched for.
    pub(super) role: Option<Role>,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Links {
    all: BTreeMap<LinkId, Link>,
    /// Those to each node.
    nodes: BTreeMap<NodeId, BTreeSet<LinkId>>,
    /// By when who connected has greeted. Who has greeted stays listed till then.
    greet_by: BTreeSet<(Mono, LinkId)>,
}

impl Links {
    /// There is a new one, whose other end is to greet in time.
    pub(super) fn insert(&mut self, id: LinkId, key: PublicKey, outbound: bool, greet_by: Mono) {
        self.all.insert(id, Link { key, outbound, role: None });
        self.greet_by.insert((greet_by, id));
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// One of them.
    pub(super) fn get(&self, id: LinkId) -> Option<&Link> {
        self.all.get(&id)
    }

    /// It is known who is at the other end.
    pub(super) fn set_role(&mut self, id: LinkId, role: Role) {
        let Some(link) = self.all.get_mut(&id) else { return };
        if let Role::Node(node) = role {
            self.nodes.entry(node).or_default().insert(id);
        }
        link.role = Some(role);
    }

    /// One is gone.
    pub(super) fn remove(&mut self, id: LinkId) -> Option<Link> {
        let link = self.all.remove(&id)?;
        if let Some(Role::Node(node)) = link.role
            && let Some(links) = self.nodes.get_mut(&node)
        {
            links.remove(&id);
            if links.is_empty() {
                self.nodes.remove(&node);
            }
        }
        Some(link)
    }

    /// The newest link to a node: an older one may lead to a process that was killed, and over QUIC it takes a while until that shows.
    pub(super) fn newest(&self, node: NodeId) -> Option<LinkId> {
        self.nodes.get(&node)?.last().copied()
    }

    /// The newest link to each node of which `is_so` holds.
    pub(super) fn newest_of(&self, is_so: impl Fn(NodeId) -> bool) -> Vec<LinkId> {
        let nodes = self.nodes.iter().filter(|(node, _)| is_so(**node));
        nodes.filter_map(|(_, links)| links.last()).copied().collect()
    }

    /// All links to nodes of which `is_so` holds.
    pub(super) fn of_nodes(&self, is_so: impl Fn(&NodeId) -> bool) -> Vec<LinkId> {
        let nodes = self.nodes.iter().filter(|(node, _)| is_so(node));
        nodes.flat_map(|(_, links)| links).copied().collect()
    }

    /// When the next one must have greeted.
    pub(super) fn next_greeting(&self) -> Option<Mono> {
        self.greet_by.first().map(|&(at, _)| at)
    }

    /// Takes away one whose other end has not greeted in time.
    pub(super) fn take_silent(&mut self, now: Mono) -> Option<(LinkId, Link)> {
        while let Some(&(at, id)) = self.greet_by.first().filter(|(at, _)| *at <= now) {
            self.greet_by.remove(&(at, id));
            if self.all.get(&id).is_some_and(|link| link.role.is_none()) {
                return Some((id, self.remove(id)?));
            }
        }
        None
    }
}
