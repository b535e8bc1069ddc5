//! How well labels of nodes are shown to be true, as those see it who hold for a vault, and which nodes contradict what they state.
//!
//! - What other operators say of a node counts for a vault as far as its roster lists nodes of theirs ([`crate::evidence`]): all of its holders see the same.
//! - A partner's node whose labels are not those that were agreed counts as unknown for the own vaults, with all that it states. Agreements are
//!   nobody else's business, so others see nothing of that; and it is said, since nobody would look for it.

use super::facts::{Facts, View};
use super::{Note, Output, Peer};
use crate::agreement::Agreement;
use crate::evidence::Evidences;
use crate::id::{NodeId, OperatorId, VaultId};
use crate::label::Site;
use crate::message::Refusal;
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that are seen otherwise than their certificates show by themselves.
pub(super) type Seen = BTreeMap<NodeId, Site>;

impl Peer {
    /// The members, by what their certificates show by themselves.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.members.values().map(|member| &member.site)
    }

    /// By whose certificate a vault is here.
    pub(super) fn owner_or_own(&self, vault: VaultId) -> OperatorId {
        self.partnership.owner(vault).unwrap_or(self.site.operator)
    }

    /// The nodes that holders of a vault see otherwise than their certificates show by themselves.
    pub(super) fn seen_for(
        &self,
        now: Now,
        facts: &dyn Facts,
        vault: VaultId,
    ) -> Result<Seen, Refusal> {
        let all = || self.members.values().map(|member| &member.site).chain([&self.site]);
        let mut seen = Seen::new();
        if all().any(|site| !site.evidence.backings().is_empty()) {
            let view = View { facts, overlay: &self.overlay };
            let owner = self.owner_or_own(vault);
            let believed = self.roster_of(&view, vault)?.believed(now.wall, owner);
            let backed = all().filter(|site| !site.evidence.backings().is_empty());
            seen.extend(backed.map(|site| (site.node, site.seen_by(&believed, now.wall))));
        }
        if self.partner_of(vault).is_none() {
            for site in all().filter(|site| self.contradicts(site).is_some()) {
                seen.insert(site.node, denied(site));
            }
        }
        Ok(seen)
    }

    /// The sites that a vault's roster lists, as its holders see them.
    pub(super) fn sites_for(
        &self,
        now: Now,
        facts: &dyn Facts,
        vault: VaultId,
    ) -> Result<Seen, Refusal> {
        let view = View { facts, overlay: &self.overlay };
        let sites = self.roster_of(&view, vault)?.sites(now.wall, self.owner_or_own(vault));
        let is_own = self.partner_of(vault).is_none();
        let seen = sites.into_iter().map(|site| {
            let is_denied = is_own && self.contradicts(&site).is_some();
            (site.node, if is_denied { denied(&site) } else { site })
        });
        Ok(seen.collect())
    }

    /// How a partner's node differs from what was agreed.
    fn contradicts(&self, site: &Site) -> Option<String> {
        let agreement: &Agreement = self.partnership.agreed(site.operator)?;
        agreement.contradicted_by(site)
    }

    /// Says which of these nodes have come to contradict what was agreed.
    pub(super) fn notice_contradictions(&mut self, nodes: &[NodeId]) {
        for &node in nodes {
            let found = self.members.get(&node).and_then(|member| self.contradicts(&member.site));
            let was = self.partnership.flagged.get(&node);
            if was == found.as_ref() {
                continue;
            }
            self.repair.is_relabelled = true;
            match found {
                None => drop(self.partnership.flagged.remove(&node)),
                Some(what) => {
                    self.partnership.flagged.insert(node, what.clone());
                    self.outputs.push_back(Output::Note(Note::Mislabelled { node, what }));
                }
            }
        }
        let members: &BTreeMap<_, _> = &self.members;
        self.partnership.flagged.retain(|node, _| members.contains_key(node));
    }

    /// As [`Self::notice_contradictions`], of all nodes of partners.
    pub(super) fn notice_all_contradictions(&mut self) {
        let partners: BTreeSet<OperatorId> = self.partnership.partners().collect();
        let members = self.members.iter();
        let theirs = members.filter(|(_, member)| partners.contains(&member.site.operator));
        let flagged = self.partnership.flagged.keys();
        let nodes: Vec<NodeId> = theirs.map(|(node, _)| node).chain(flagged).copied().collect();
        self.notice_contradictions(&nodes);
    }
}

/// A node with all that it states unknown.
fn denied(site: &Site) -> Site {
    Site { evidence: Evidences::contradicted(), ..site.clone() }
}
